//! The server's own files: put aside at one moment under a lock, and sent after it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Run, scope};
use crate::checkpoint::Place;
use crate::event::milliseconds;
use crate::manifest::{Entry, LockHeld};
use crate::server_files::{self, Definitions, Kept, Listing, Spool};
use crate::sink::Member;
use crate::{Error, Event};

pub(super) struct Aside {
    pub(super) listing: Listing,
    pub(super) spool: Spool,
    _place: Place,
}

pub(super) struct ServerPart {
    pub(super) directories: Vec<PathBuf>,
    pub(super) files: Vec<Entry>,
}

impl Run<'_> {
    pub(super) fn lock(&mut self) -> Result<Duration, Error> {
        let lock = self.server.lock()?;
        let since = self.clock.elapsed();
        self.lock = Some(LockHeld { kind: lock, milliseconds: 0 });
        (self.tell)(&Event::Locked { lock });
        Ok(since)
    }

    pub(super) fn unlock(&mut self, since: Duration) -> Result<(), Error> {
        let result = self.server.unlock();
        let held = milliseconds(self.clock.elapsed() - since);
        if let Some(lock) = &mut self.lock {
            lock.milliseconds = held;
        }
        (self.tell)(&Event::Unlocked { milliseconds: held });
        result
    }

    /// Puts the server's files aside.
    pub(super) fn keep(&mut self) -> Result<Aside, Error> {
        let listing = scope(&self.facts, &self.datadir, self.options).list()?;
        let place = self.workspace.place("server-files");
        let spool = server_files::keep(&listing, &place, self.stop)?;
        Ok(Aside { listing, spool, _place: place })
    }

    /// Puts the server's files aside after the data were sent, under a lock of their own if the account may lock.
    pub(super) fn keep_later(&mut self, definitions: Option<Definitions>) -> Result<Option<Aside>, Error> {
        let since = match self.options.no_lock {
            true => None,
            false => match self.lock() {
                Ok(since) => Some(since),
                Err(e @ (Error::Privilege { .. } | Error::Statement { .. } | Error::Usage(_))) => {
                    let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
                    let text = format!("{e}{cause}; the server's files are read as they are");
                    (self.tell)(&Event::Warning { text });
                    None
                }
                Err(e) => return Err(e),
            },
        };
        let kept = match &definitions {
            Some(definitions) => definitions.check(&scope(&self.facts, &self.datadir, self.options)),
            None => Ok(()),
        };
        match since {
            Some(since) => {
                let kept = kept.and_then(|()| self.keep());
                self.unlock(since)?;
                kept.map(Some)
            }
            None => kept.map(|()| None),
        }
    }

    /// Sends the server's files.
    pub(super) fn server_part(&mut self, kept: Option<Aside>) -> Result<ServerPart, Error> {
        let listing = match &kept {
            Some(kept) => &kept.listing,
            None => &scope(&self.facts, &self.datadir, self.options).list()?,
        };
        for path in &listing.skipped {
            (self.tell)(&Event::Skipped { path: path.clone() });
        }
        for path in &listing.directories {
            let source = self.datadir.join(path);
            let meta = source.metadata().map_err(Error::io("read", &source))?;
            self.sink.directory(&Member::of(path, &meta))?;
        }
        let mut part = ServerPart { directories: listing.directories.clone(), files: Vec::new() };
        let mut directory = None;
        let mut send = |run: &mut Self, member: &Member, source: &Path, file: File| -> Result<(), Error> {
            let parent = member.path.parent().unwrap_or(Path::new("")).to_owned();
            if directory.as_ref() != Some(&parent) {
                (run.tell)(&Event::Directory { path: parent.clone() });
                directory = Some(parent);
            }
            part.files.push(run.send_member(member, source, file)?);
            Ok(())
        };
        match &kept {
            Some(kept) => {
                let Spool { kept, copies } = &kept.spool;
                for Kept { member, link } in kept {
                    let Some(link) = link else {
                        // The same place in the file: each member begins where the one before it ends.
                        let copies = copies.try_clone().map_err(Error::io("read", &member.path))?;
                        send(self, member, &member.path, copies)?;
                        continue;
                    };
                    let file = File::open(link).map_err(Error::io("open", link))?;
                    send(self, member, link, file)?;
                    std::fs::remove_file(link).map_err(Error::io("remove", link))?;
                }
            }
            None => {
                for found in &listing.files {
                    let Some((member, file)) = server_files::open(found)? else { continue };
                    send(self, &member, &found.source, file)?;
                }
            }
        }
        Ok(part)
    }

    /// Waits for the file that a test makes.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        let Some(path) = &self.options.wait_for else { return Ok(()) };
        let mut told = false;
        while !path.exists() {
            if !told {
                (self.tell)(&Event::WaitingFor { path: path.clone() });
                told = true;
            }
            self.stop.check()?;
            self.clock.sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
