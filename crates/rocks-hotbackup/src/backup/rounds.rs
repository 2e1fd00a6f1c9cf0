//! Rounds: checkpoint after checkpoint, until one is sent whole before its time is over.

use std::path::Path;

use super::source::Checkpoint;
use super::{Rounds, Run};
use crate::server_files::Aside;
use crate::{Error, Event};

const GIGABYTE: u64 = 1 << 30;

/// Whether rounds get anywhere: a server that writes faster than the backup leaves more after each of them.
#[derive(Debug, Default)]
struct Pace {
    least: Option<usize>,
    stalled: u32,
}

impl Pace {
    /// Rounds without progress after which one is sent whole, however long its checkpoint lives.
    const PATIENCE: u32 = 5;

    fn round(&mut self, remaining: usize) {
        match self.least {
            Some(least) if remaining >= least => self.stalled += 1,
            _ => (self.least, self.stalled) = (Some(remaining), 0),
        }
    }

    fn is_stuck(&self) -> bool {
        self.stalled >= Self::PATIENCE
    }
}

impl Run<'_, '_> {
    /// Makes checkpoints and sends their data files until one is sent whole.
    ///
    /// A consistent backup makes one more, under the lock: its data files are few by then, and they can be sent after
    /// the lock is gone.
    pub(super) fn rounds(&mut self) -> Result<(Rounds, Option<Aside>), Error> {
        let mut last = false;
        let mut count = 0;
        let mut pace = Pace::default();
        loop {
            count += 1;
            let checkpoint = self.source.checkpoint(count, last, &self.sent)?;
            let remaining = self.send_data(&checkpoint, last || pace.is_stuck())?;
            pace.round(remaining);
            if remaining > 0 || (self.source.one_moment && !last) {
                last = remaining == 0;
                checkpoint.place.remove()?;
                continue;
            }
            (self.source.tell)(&Event::LastFiles);
            let mut files = Vec::new();
            let mut sequence = None;
            for name in &checkpoint.rest {
                let path = checkpoint.place.path().join(name);
                if name.starts_with("MANIFEST-") {
                    sequence = Some(self.source.check_live(&path, &checkpoint)?);
                }
                files.push(self.send(Path::new(name), &path)?);
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            let Checkpoint { place, data, binlog, definitions, kept, .. } = checkpoint;
            place.remove()?;
            self.source.wait()?;
            let kept = match kept {
                Some(kept) => Some(kept),
                None => self.source.keep_later(definitions)?,
            };
            let sent = std::mem::take(&mut self.sent);
            return Ok((Rounds { count, sent, files, data, binlog, sequence }, kept));
        }
    }

    /// Sends the data files that nobody has yet; gives how many are left because the interval is over. With `all` it
    /// does not matter how long it takes.
    fn send_data(&mut self, checkpoint: &Checkpoint, all: bool) -> Result<usize, Error> {
        let begun = self.source.clock.elapsed();
        let todo: Vec<_> =
            checkpoint.data.iter().filter(|(name, _)| !self.source.is_known(name, &self.sent)).collect();
        let total = self.sent_bytes + todo.iter().map(|(_, size)| **size).sum::<u64>();
        // Links to what is there already keep nothing alive that the final round would need.
        for name in checkpoint.data.keys().filter(|name| self.source.is_known(name, &self.sent)) {
            let path = checkpoint.place.path().join(name);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        for (done, (name, size)) in todo.iter().enumerate() {
            let path = checkpoint.place.path().join(name);
            let entry = self.send(Path::new(name), &path)?;
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            self.sent.insert((*name).clone(), entry);
            self.sent_bytes += **size;
            self.tell_progress(**size, total);
            let took = self.source.clock.elapsed() - begun;
            let remaining = todo.len() - done - 1;
            if took > self.source.options.interval && remaining > 0 && !all {
                (self.source.tell)(&Event::RoundOver { seconds: took.as_secs_f64(), remaining });
                return Ok(remaining);
            }
        }
        Ok(0)
    }

    fn tell_progress(&mut self, size: u64, total: u64) {
        let bytes = self.sent_bytes;
        (self.source.tell)(&Event::Sent { bytes, total });
        if bytes / GIGABYTE > (bytes - size) / GIGABYTE {
            let now = self.source.clock.elapsed();
            let seconds = (now - self.progress.1).as_secs_f64().max(0.001);
            let rate = ((bytes - self.progress.0) as f64 / seconds) as u64;
            self.progress = (bytes, now);
            (self.source.tell)(&Event::Progress { bytes, total, rate });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_leave_no_fewer_files_end_in_one_that_is_sent_whole() {
        let mut pace = Pace::default();
        for remaining in [10, 8, 8, 9, 8, 8] {
            pace.round(remaining);
            assert!(!pace.is_stuck(), "{remaining}");
        }
        pace.round(12);
        assert!(pace.is_stuck());
        pace.round(3);
        assert!(!pace.is_stuck(), "progress again");
    }
}
