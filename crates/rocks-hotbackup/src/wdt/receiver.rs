//! The directory that receives, on the other host.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use remote_exec::{Command, Host};

use crate::Error;
use crate::manifest::{self, Manifest};
use crate::names::{self, Kind};
use crate::sink::UNFINISHED;
use crate::sink::remote::failed;

/// The log of a receiver, by which it resumes.
const LOG: &str = ".wdt.log";

/// Names in one command line.
const BATCH: usize = 500;

pub(super) struct Receiver<'a> {
    pub(super) host: &'a Host,
    pub(super) directory: &'a Path,
    /// The identity of the database.
    pub(super) id: &'a str,
}

impl Receiver<'_> {
    /// Makes the directory, or takes it over from an earlier run that was cut off: its mark holds the identity of the database.
    pub(super) async fn begin(&self) -> Result<(), Error> {
        let (files, mark) = (self.host.files(), self.directory.join(UNFINISHED));
        let fail = |action| failed(self.host.name(), action);
        files.create_dir_all(self.directory).await.map_err(fail("create the directory"))?;
        let entries = files.list(self.directory).await.map_err(fail("list the directory"))?;
        if let Some(entry) = entries.first() {
            if !entries.iter().any(|entry| entry.name == UNFINISHED) {
                let entry = entry.name.to_string_lossy().into_owned();
                return Err(Error::NotEmpty { dir: self.directory.to_owned(), entry });
            }
            let id = files.read(&mark, 4096).await.map_err(fail("read the mark of an unfinished backup"))?;
            if id != self.id.as_bytes() {
                let (host, directory) = (self.host.name(), self.directory);
                return Err(Error::Usage(format!(
                    "{directory:?} on {host} holds an unfinished backup of another database: remove it, or choose \
                     another directory"
                )));
            }
        }
        files.write(&mark, self.id, 0o600).await.map_err(fail("mark the directory"))?;
        // CURRENT first: without it nothing there is a database. Then all that is not a data file: it can change
        // without changing its size, and a receiver that resumes would keep the old one.
        let current = self.host.command("rm").args(["-f", "--"]).arg(self.directory.join("CURRENT"));
        current.run().await.map_err(fail("remove CURRENT"))?;
        let old = self.find();
        let old =
            ["*.sst", "*.blob", LOG, UNFINISHED].iter().fold(old, |old, name| old.args(["!", "-name", name]));
        old.arg("-delete").run().await.map_err(fail("remove the files of an earlier run"))?;
        Ok(())
    }

    /// Compares what is there with the manifest, removes the data files of early rounds, and puts the manifest there:
    /// from then on it is a backup.
    pub(super) async fn finish(&self, manifest: &Manifest) -> Result<(), Error> {
        let fail = |action| failed(self.host.name(), action);
        let list = self.find().args(["-printf", "%s %P\\0"]);
        let list = list.output_limit(1 << 30).run().await.map_err(fail("list the backup"))?;
        let mut found =
            sizes(&list.stdout).ok_or_else(|| self.damaged("its list of files is not readable"))?;
        for entry in manifest.files.iter().filter(|entry| entry.from.is_none()) {
            match found.remove(&entry.path) {
                Some(size) if size == entry.size => {}
                Some(size) => {
                    let (path, expected) = (&entry.path, entry.size);
                    return Err(self.damaged(&format!("{path:?} has {size} bytes, not {expected}")));
                }
                None => return Err(self.damaged(&format!("{:?} is missing", entry.path))),
            }
        }
        let early: Vec<_> = found.keys().filter(|path| names::kind(path) == Kind::Data).collect();
        for names in early.chunks(BATCH) {
            let old = names.iter().fold(self.host.command("rm").args(["-f", "--"]), |command, name| {
                command.arg(self.directory.join(name))
            });
            old.run().await.map_err(fail("remove the data files of early rounds"))?;
        }
        let sync = || self.host.command("sync").arg("-f").arg(self.directory).run();
        sync().await.map_err(fail("bring the backup to the disk"))?;
        let target = self.directory.join(manifest::NAME);
        let files = self.host.files();
        files.write(&target, manifest.to_bytes(), 0o640).await.map_err(fail("write the manifest"))?;
        let marks = self.host.command("rm").args(["-f", "--"]).arg(self.directory.join(LOG));
        marks.arg(self.directory.join(UNFINISHED)).run().await.map_err(fail("finish the backup"))?;
        sync().await.map_err(fail("bring the backup to the disk"))?;
        Ok(())
    }

    /// Finds the files of the directory, which may be a link to another disk.
    fn find(&self) -> Command {
        self.host.command("find").arg("-H").arg(self.directory).args(["-type", "f"])
    }

    fn damaged(&self, first: &str) -> Error {
        Error::Damaged { path: self.directory.to_owned(), count: 1, first: first.to_owned() }
    }
}

/// Files and their sizes from `SIZE NAME` with a NUL behind each.
fn sizes(list: &[u8]) -> Option<HashMap<PathBuf, u64>> {
    let lines = list.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let space = line.iter().position(|byte| *byte == b' ')?;
            let size = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
            Some((OsStr::from_bytes(&line[space + 1..]).into(), size))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_line_ends_are_read() {
        let found = sizes(b"12 000013.sst\x000 a b/t\n.frm\0").unwrap();
        assert_eq!(found[Path::new("000013.sst")], 12);
        assert_eq!(found[Path::new("a b/t\n.frm")], 0);
        assert!(sizes(b"x 000013.sst\0").is_none());
    }
}
