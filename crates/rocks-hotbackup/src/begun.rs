//! The note of what a restore restores, so that the one that takes it up is the same.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::{self, Item, Visit};
use crate::manifest::{self, Manifest};
use crate::marked::Marked;
use crate::names::text;
use crate::owner::Owner;
use crate::restore::Restore;
use crate::targets::Targets;
use crate::{Error, Stop};

/// The version of the note's form.
const SCHEMA: u32 = 1;

/// Longest note that is read, in bytes.
const MAX: u64 = 1024 * 1024;

/// What a restore that has begun to move its files restores.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    schema_version: u32,
    from: Vec<Source>,
    targets: Targets,
    owner: Option<Owner>,
}

/// One backup of the chain.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// Where it is, without links, or `-`.
    #[serde(with = "text")]
    path: PathBuf,
    /// The id in its manifest; of an archive it is known when it was read.
    id: Option<String>,
    /// Bytes and modification of an archive's file, in nanoseconds.
    file: Option<(u64, i128)>,
}

impl Source {
    fn of(path: &Path, id: Option<String>) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Self { path: path.to_owned(), id, file: None });
        }
        // A backup that has gone is still the one of that name.
        let real = path.canonicalize().or_else(|_| std::path::absolute(path));
        let real = real.map_err(Error::io("find", path))?;
        let meta = real.metadata().ok().filter(|meta| meta.is_file());
        let nanoseconds = |meta: &std::fs::Metadata| {
            i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
        };
        let file = meta.map(|meta| (meta.len(), nanoseconds(&meta)));
        Ok(Self { path: real, id, file })
    }
}

impl Begun {
    /// What `request` restores to `targets`; `ids` are those of its backups.
    pub(crate) fn of(request: &Restore, targets: &Targets, ids: Vec<Option<String>>) -> Result<Self, Error> {
        let from = request.from.iter().zip(ids).map(|(path, id)| Source::of(path, id));
        Ok(Self {
            schema_version: SCHEMA,
            from: from.collect::<Result<_, _>>()?,
            targets: targets.absolute()?,
            owner: request.owner,
        })
    }

    /// Writes the note into the mark of the directory, on the disk.
    pub(crate) fn write(&self, staging: &Marked) -> Result<(), Error> {
        let mut mark = &staging.mark;
        let mut write = || -> std::io::Result<()> {
            mark.set_len(0)?;
            mark.seek(SeekFrom::Start(0))?;
            mark.write_all(&serde_json::to_vec(self)?)?;
            mark.sync_all()
        };
        write().map_err(Error::io("write the mark of", staging.path()))
    }

    /// Compares the note in the mark with what is asked for now.
    ///
    /// # Errors
    ///
    /// [`Error::OtherRestore`] tells the first difference.
    pub(crate) fn check(
        staging: &Marked,
        request: &Restore,
        targets: &Targets,
        stop: &Stop,
    ) -> Result<(), Error> {
        let other = |what: &str, was: String, is: String| Error::OtherRestore {
            staging: staging.path().to_owned(),
            what: what.to_owned(),
            was,
            is,
        };
        let mut bytes = Vec::new();
        let read = (&staging.mark).take(MAX).read_to_end(&mut bytes);
        read.map_err(Error::io("read the mark of", staging.path()))?;
        let was: Self = serde_json::from_slice(&bytes)
            .ok()
            .filter(|was: &Self| was.schema_version == SCHEMA)
            .ok_or_else(|| {
                other("the program's version", "another".into(), env!("CARGO_PKG_VERSION").to_owned())
            })?;
        let is = Self::of(request, targets, vec![None; request.from.len()])?;
        let paths = |begun: &Self| {
            let paths = begun.from.iter().map(|source| source.path.display().to_string());
            paths.collect::<Vec<_>>().join(", ")
        };
        if paths(&was) != paths(&is) {
            return Err(other("--from", paths(&was), paths(&is)));
        }
        if was.targets != is.targets {
            return Err(other("the target", words(&was.targets), words(&is.targets)));
        }
        if was.owner != is.owner {
            return Err(other("the owner", owner(was.owner), owner(is.owner)));
        }
        for (was, (is, from)) in was.from.iter().zip(is.from.iter().zip(&request.from)) {
            let what = || format!("the content of {}", was.path.display());
            if let (Some(before), Some(now)) = (was.file, is.file)
                && before != now
            {
                let words = |(bytes, time): (u64, i128)| {
                    format!("of {bytes} bytes and changed at {} s", time / 1_000_000_000)
                };
                return Err(other(&what(), words(before), words(now)));
            }
            // The file of an archive is known by its size and time; a directory and a stream must be looked into.
            if was.file.is_none() {
                let now = match from == Path::new("-") {
                    true => id_in_stream(request, stop)?,
                    false if from.is_dir() => id_in(from)?,
                    false => was.id.clone(),
                };
                if now != was.id {
                    let words = |id: Option<String>| id.unwrap_or_else(|| "without a manifest".into());
                    return Err(other(&what(), words(was.id.clone()), words(now)));
                }
            }
        }
        Ok(())
    }
}

fn id_in(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join(manifest::NAME);
    match path.is_file() {
        true => Ok(Some(Manifest::read(&path)?.id)),
        false => Ok(None),
    }
}

/// Reads the standard input to its end, for the id in its manifest.
fn id_in_stream(request: &Restore, stop: &Stop) -> Result<Option<String>, Error> {
    let mut look = Look::default();
    archive::read(Path::new("-"), request.password.as_ref(), stop, &mut look)?;
    match look.bytes.is_empty() {
        true => Ok(None),
        false => Ok(Some(Manifest::parse(&look.bytes, Path::new(manifest::NAME))?.id)),
    }
}

/// Keeps the manifest of an archive and nothing else.
#[derive(Default)]
struct Look {
    member: Option<u64>,
    bytes: Vec<u8>,
}

impl Visit for Look {
    fn begin(&mut self, open: u64, item: &Item) -> Result<(), Error> {
        if item.path == Path::new(manifest::NAME) {
            (self.member, self.bytes) = (Some(open), Vec::new());
        }
        Ok(())
    }

    fn bytes(&mut self, open: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.member == Some(open) {
            manifest::check_length(self.bytes.len() as u64 + bytes.len() as u64, Path::new(manifest::NAME))?;
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }
}

fn words(targets: &Targets) -> String {
    targets.all().iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn owner(owner: Option<Owner>) -> String {
    owner.map_or_else(|| "none".into(), |Owner { uid, gid }| format!("{uid}:{gid}"))
}
