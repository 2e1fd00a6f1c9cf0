//! The rate limit.

use std::cell::Cell;
use std::time::Duration;

use crate::{Clock, Error, Stop};

/// Longest wait at once; a stop is noticed in between.
const STEP: Duration = Duration::from_millis(100);

/// Keeps the bytes of a whole backup below a rate.
///
/// A second's worth may pass at once, so that small files do not wait one by one.
pub(crate) struct Limiter<'a> {
    clock: &'a dyn Clock,
    /// Bytes per second.
    rate: Option<u64>,
    /// When the bytes taken so far are paid for.
    paid: Cell<Duration>,
}

impl<'a> Limiter<'a> {
    pub(crate) fn new(clock: &'a dyn Clock, rate: Option<u64>) -> Self {
        Self { clock, rate: rate.filter(|r| *r > 0), paid: Cell::new(Duration::ZERO) }
    }

    /// Takes `bytes`, and waits until they may have passed.
    pub(crate) fn take(&self, bytes: u64, stop: &Stop) -> Result<(), Error> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = self.clock.elapsed();
        let paid = self.paid.get().max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.paid.set(paid);
        while let Some(wait) = paid.checked_sub(self.clock.elapsed() + Duration::from_millis(50)) {
            if wait.is_zero() {
                break;
            }
            stop.check()?;
            self.clock.sleep(wait.min(STEP));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::SystemTime;

    #[derive(Default)]
    struct Stated(Mutex<Duration>);

    impl Clock for Stated {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + self.elapsed()
        }
        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    #[test]
    fn bytes_pass_at_the_rate_and_no_faster() {
        let clock = Stated::default();
        let limiter = Limiter::new(&clock, Some(1_000_000));
        for _ in 0..100 {
            limiter.take(100_000, &Stop::new()).unwrap();
        }
        let took = clock.elapsed().as_secs_f64();
        assert!((9.8..10.2).contains(&took), "10 MB at 1 MB/s took {took} s");
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let clock = Stated::default();
        let stop = Stop::new();
        stop.request(15);
        let result = Limiter::new(&clock, Some(1)).take(1_000_000, &stop);
        assert!(matches!(result, Err(Error::Stopped { signal: 15 })));
    }

    #[test]
    fn no_limit_means_no_wait() {
        let clock = Stated::default();
        Limiter::new(&clock, None).take(u64::MAX, &Stop::new()).unwrap();
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }
}
