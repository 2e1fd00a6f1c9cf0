//! Several jobs at a time.

use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt};

/// Runs `jobs`, so many at a time; the results are in the order of the jobs.
///
/// After a failure no more are begun, and `told` is called at once with the job's number, its error and how many are under way.
/// Those come to their end: what is interrupted cannot always be gone on with.
///
/// # Errors
///
/// The first failure.
pub(crate) async fn side_by_side<T, E>(
    jobs: impl Iterator<Item: Future<Output = Result<T, E>>>,
    at_a_time: usize,
    told: impl Fn(usize, &E, usize),
) -> Result<Vec<T>, E> {
    let (failed, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    let jobs = stream::iter(jobs.enumerate()).take_while(|_| ready(!failed.load(Ordering::SeqCst))).map(
        |(number, job)| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move { (number, job.await) }
        },
    );
    let mut ended = std::pin::pin!(jobs.buffer_unordered(at_a_time.max(1)));
    let (mut done, mut failure, mut over) = (Vec::new(), None, 0);
    while let Some((number, result)) = ended.next().await {
        over += 1;
        match result {
            Ok(value) => done.push((number, value)),
            Err(error) => {
                failed.store(true, Ordering::SeqCst);
                told(number, &error, begun.load(Ordering::SeqCst) - over);
                failure.get_or_insert(error);
            }
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::{BoxFuture, FutureExt as _};
    use tokio::sync::Notify;

    use super::*;

    type Job<'a> = BoxFuture<'a, Result<usize, &'static str>>;

    #[tokio::test]
    async fn a_slow_job_keeps_no_other_from_being_begun() {
        let third = Notify::new();
        let jobs: [Job<'_>; 3] = [
            third.notified().map(|()| Ok(0)).boxed(),
            async { Ok(1) }.boxed(),
            async {
                third.notify_one();
                Ok(2)
            }
            .boxed(),
        ];
        let done = side_by_side(jobs.into_iter(), 2, |_, _, _| ());
        let done = tokio::time::timeout(std::time::Duration::from_secs(10), done).await;
        assert_eq!(done.expect("the first waits for the third"), Ok(vec![0, 1, 2]));
    }

    #[tokio::test]
    async fn a_failure_is_told_at_once_and_those_under_way_come_to_their_end() {
        let (known, said) = (Notify::new(), RefCell::new(Vec::new()));
        let ended = AtomicBool::new(false);
        let jobs: [Job<'_>; 4] = [
            async {
                known.notified().await;
                ended.store(true, Ordering::SeqCst);
                Ok(0)
            }
            .boxed(),
            async { Err("the second") }.boxed(),
            async { unreachable!("it is begun after a failure") }.boxed(),
            async { unreachable!("it is begun after a failure") }.boxed(),
        ];
        let done = side_by_side(jobs.into_iter(), 2, |number, error, others| {
            said.borrow_mut().push((number, *error, others));
            known.notify_one();
        });
        let done = tokio::time::timeout(std::time::Duration::from_secs(10), done).await;
        assert_eq!(done.expect("the first waits until the failure is told"), Err("the second"));
        assert_eq!(*said.borrow(), [(1, "the second", 1)]);
        assert!(ended.load(Ordering::SeqCst));
    }
}
