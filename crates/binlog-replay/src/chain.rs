//! The order of files: within a server by number and rotate event, from server to server by GTID.

use crate::error::Error;
use crate::file_name::next_name;
use crate::gtid::GtidSet;
use crate::reader::FileEnd;
use crate::scan::{FileInfo, Index};
use crate::seen::Seen;

/// The next file of a chain.
pub(crate) struct Link<'i> {
    pub(crate) file: &'i FileInfo,
    /// It was written by another server than the file before it, and may begin with what that one had.
    pub(crate) new_server: bool,
}

/// Follows files from one on.
pub(crate) struct Chain<'i> {
    index: &'i Index,
    first: Option<&'i FileInfo>,
    last: Option<&'i FileInfo>,
    /// Servers (id and base name) that were left: a chain does not come back to them.
    left: Vec<(u32, &'i str)>,
}

impl Index {
    /// What is missing between consecutive files of each server, as errors that [`choose`](crate::choose)
    /// would give on the way over them.
    pub fn gaps(&self) -> Vec<Error> {
        let chain = Chain { index: self, first: None, last: None, left: Vec::new() };
        let readable = self.files.iter().filter(|f| f.damage.is_none());
        readable.filter_map(|file| chain.successor(file).err()).collect()
    }
}

fn server(file: &FileInfo) -> (u32, &str) {
    (file.server_id, file.number().map_or("", |(base, _)| base))
}

impl<'i> Chain<'i> {
    pub(crate) fn new(index: &'i Index, first: &'i FileInfo) -> Self {
        Self { index, first: Some(first), last: None, left: Vec::new() }
    }

    /// The file behind the last one. `seen`: all transactions so far.
    pub(crate) fn next(&mut self, seen: &Seen) -> Result<Option<Link<'i>>, Error> {
        if let Some(file) = self.first.take() {
            self.last = Some(file);
            return Ok(Some(Link { file, new_server: false }));
        }
        let Some(last) = self.last else { return Ok(None) };
        if let Some(file) = self.successor(last)? {
            self.last = Some(file);
            return Ok(Some(Link { file, new_server: false }));
        }
        let Some(set) = seen.set().filter(|s| !s.is_empty()) else { return Ok(None) };
        self.left.push(server(last));
        let Some(file) = self.failover(set)? else {
            self.check_nothing_else(seen)?;
            return Ok(None);
        };
        self.check_goes_on(file, set)?;
        self.last = Some(file);
        Ok(Some(Link { file, new_server: true }))
    }

    /// The next file of the same server.
    fn successor(&self, last: &'i FileInfo) -> Result<Option<&'i FileInfo>, Error> {
        let next = match &last.ends {
            Some(FileEnd::Rotate { next }) => Some(next.rsplit('/').next().unwrap_or(next).to_owned()),
            _ => next_name(&last.name),
        };
        let Some(next) = next else { return Ok(None) };
        let own = |f: &&FileInfo| server(f) == server(last);
        let gap = |file: &FileInfo, missing: String| {
            Err(Error::Gap { server: last.server(), file: file.name.clone(), missing })
        };
        // A server whose server_id was changed goes on in the same folder.
        let renumbered = |f: &&FileInfo| {
            let rotated = matches!(last.ends, Some(FileEnd::Rotate { .. }));
            f.name == next && f.folder == last.folder && rotated && !f.at_start
        };
        let mut files = self.index.files.iter();
        let Some(file) =
            files.clone().filter(own).find(|f| f.name == next).or_else(|| files.find(renumbered))
        else {
            let number = last.number().map(|(_, n)| n);
            let later = self.index.files.iter().filter(own).find(|f| f.number().map(|(_, n)| n) > number);
            return match later {
                None => Ok(None),
                Some(later) => {
                    let mut missing = format!("the files from {next} on");
                    if let (Some(before), Some(after)) = (&later.gtids_before, last.gtids_after()) {
                        let lost = before.minus(&after);
                        if !lost.is_empty() {
                            missing = format!("{missing}, with {lost}");
                        }
                    }
                    gap(later, missing)
                }
            };
        };
        let mut named = false;
        if let (Some(before), Some(after)) = (&file.gtids_before, last.gtids_after()) {
            let lost = before.minus(&after);
            if !lost.is_empty() {
                return gap(file, lost.to_string());
            }
            named = !(before.is_empty() && after.is_empty());
        }
        if !named || last.anonymous > 0 || file.anonymous > 0 {
            // Nothing but the copy itself can say that it is whole.
            let end = format!("the end of {}", last.name);
            match last.ends {
                Some(FileEnd::Open { .. }) => {
                    return gap(file, format!("{end}: it was open when it was copied"));
                }
                // A crash ends a file like this, but the server is started then.
                Some(FileEnd::Silent) if !file.at_start => {
                    return gap(
                        file,
                        format!("{end}: the server went on to the next file, and it does not say so"),
                    );
                }
                _ => {}
            }
        }
        Ok(Some(file))
    }

    /// A new master has everything that the old one had; one that lacks some of it makes a state that never was.
    fn check_goes_on(&self, file: &FileInfo, seen: &GtidSet) -> Result<(), Error> {
        let own = self.index.files.iter().filter(|f| server(f) == server(file));
        let lacks = own.filter_map(FileInfo::gtids_after).fold(seen.clone(), |rest, has| rest.minus(&has));
        if lacks.is_empty() {
            return Ok(());
        }
        Err(file.diverged(format!("it lacks {lacks}")))
    }

    /// Numbers say that no other server has more; with MariaDB its last transactions may be others of the same numbers.
    fn check_nothing_else(&self, seen: &Seen) -> Result<(), Error> {
        for file in self.index.files.iter().filter(|f| !self.left.contains(&server(f))) {
            let Some(GtidSet::MariaDb(after)) = file.gtids_after() else { continue };
            if let Some(gtid) = after.position().find(|gtid| !seen.is_same(gtid)) {
                return Err(file.other_of_one_number(&gtid));
            }
        }
        Ok(())
    }

    /// The file of another server that goes on where `seen` ends: the last one that starts with nothing new.
    fn failover(&self, seen: &GtidSet) -> Result<Option<&'i FileInfo>, Error> {
        let adds = |f: &&FileInfo| f.gtids_after().is_some_and(|after| !after.minus(seen).is_empty());
        let others = || self.index.files.iter().filter(|f| !self.left.contains(&server(f))).filter(adds);
        let starts_known = |f: &&FileInfo| f.gtids_before.as_ref().is_none_or(|b| b.minus(seen).is_empty());
        if let Some(file) = others()
            .filter(starts_known)
            .max_by_key(|f| (f.gtids_before.as_ref().map_or(0, GtidSet::count), f.number().map(|(_, n)| n)))
        {
            return Ok(Some(file));
        }
        // Only files behind a gap go on.
        match others().next() {
            None => Ok(None),
            Some(file) => {
                let before = file.gtids_before.as_ref();
                let missing = before.map(|b| b.minus(seen).to_string()).unwrap_or_default();
                Err(Error::Gap { server: file.server(), file: file.name.clone(), missing })
            }
        }
    }
}
