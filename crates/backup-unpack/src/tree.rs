//! Writing below a directory: every component is opened without following links, so nothing is written through one,
//! not even through one that stays inside.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::archive::Modified;
use crate::error::{Error, Refusal};
use crate::member::{Member, display};
use crate::report::Tally;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
/// The bits of a mode that are kept.
pub(crate) const PERMISSIONS: u32 = 0o777;

/// A directory that is being filled.
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The directory that was used last; members come sorted by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    piece: Vec<u8>,
    pub(crate) tally: Tally,
}

impl Tree {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let root = fs::open(path, DIRECTORY, Mode::empty()).map_err(|errno| Error::File {
            action: "opening",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self { path: path.to_owned(), root, last: None, piece: Vec::new(), tally: Tally::default() })
    }

    /// Makes a directory, with those above it. It stays writable for its owner whatever `mode` says.
    pub(crate) fn directory(&mut self, member: &Member, mode: u32) -> Result<(), Error> {
        if member.is_root() {
            return Ok(());
        }
        let directory = self.descend(member.as_bytes(), member)?;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS | 0o700);
        fs::fchmod(&directory, mode).map_err(|errno| self.failed("setting the mode of", member, errno))?;
        self.last = Some((member.as_bytes().to_vec(), directory));
        Ok(())
    }

    /// A new file, which `write` fills; the number of bytes it says.
    pub(crate) fn file(
        &mut self,
        member: &Member,
        (mode, modified): (u32, Option<Modified>),
        write: impl FnOnce(&mut File, &mut Vec<u8>) -> Result<u64, CopyError>,
    ) -> Result<u64, Error> {
        if member.is_root() {
            return Err(Error::refused(b".", Refusal::BadName));
        }
        let (_, name) = member.split();
        let parent = self.parent(member)?;
        let mut file = match fs::openat(&parent, name, NEW_FILE, Mode::from_raw_mode(0o600)) {
            Ok(file) => File::from(file),
            Err(Errno::EXIST) => return Err(Error::refused(member.as_bytes(), Refusal::Twice)),
            Err(errno) => return Err(self.failed("creating", member, errno)),
        };
        let bytes = write(&mut file, &mut self.piece).map_err(|error| match error {
            CopyError::Read(source) => Error::Read(source),
            CopyError::Write(source) => {
                Error::File { action: "writing", path: self.path.join(display(member.as_bytes())), source }
            }
        })?;
        fs::fchmod(&file, Mode::from_raw_mode(mode & PERMISSIONS))
            .map_err(|errno| self.failed("setting the mode of", member, errno))?;
        if let Some((tv_sec, nanos)) = modified {
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let last_modification = Timespec { tv_sec, tv_nsec: nanos.into() };
            // A time that the file system cannot have is no reason to refuse a backup.
            let _ = fs::futimens(&file, &Timestamps { last_access: omit, last_modification });
        }
        self.tally.files += 1;
        self.tally.bytes += bytes;
        Ok(bytes)
    }

    /// A symbolic link that stays inside, see [`Member::may_link_to`].
    pub(crate) fn symlink(&mut self, member: &Member, target: &[u8]) -> Result<(), Error> {
        if member.is_root() || !member.may_link_to(target) {
            return Err(Error::refused(member.as_bytes(), Refusal::LinkLeaves));
        }
        let parent = self.parent(member)?;
        match fs::symlinkat(OsStr::from_bytes(target), &parent, member.split().1) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::refused(member.as_bytes(), Refusal::Twice)),
            Err(errno) => Err(self.failed("linking", member, errno)),
        }
    }

    /// A second name for a file that is here already.
    pub(crate) fn hard_link(&mut self, member: &Member, target: &Member) -> Result<(), Error> {
        if member.is_root() || target.is_root() {
            return Err(Error::refused(member.as_bytes(), Refusal::LinkTarget));
        }
        let refuse = || Error::refused(member.as_bytes(), Refusal::LinkTarget);
        let from = self.existing(target.split().0).map_err(|_| refuse())?;
        let kind = fs::statat(&from, target.split().1, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind != Ok(FileType::RegularFile) {
            return Err(refuse());
        }
        let parent = self.parent(member)?;
        match fs::linkat(&from, target.split().1, &parent, member.split().1, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::refused(member.as_bytes(), Refusal::Twice)),
            Err(errno) => Err(self.failed("linking", member, errno)),
        }
    }

    /// The directory of `member`, made if it is not there.
    fn parent(&mut self, member: &Member) -> Result<OwnedFd, Error> {
        let (parent, _) = member.split();
        let duplicate = |fd: &OwnedFd| fd.try_clone();
        if let Some((name, directory)) = &self.last
            && name == parent
        {
            return duplicate(directory).map_err(|e| self.io_failed("opening", member, e));
        }
        let directory = self.descend(parent, member)?;
        let copy = duplicate(&directory).map_err(|e| self.io_failed("opening", member, e))?;
        self.last = Some((parent.to_vec(), directory));
        Ok(copy)
    }

    /// Opens the directory `name`, making what is missing.
    fn descend(&self, name: &[u8], member: &Member) -> Result<OwnedFd, Error> {
        let mut here: Option<OwnedFd> = None;
        for component in name.split(|&b| b == b'/').filter(|component| !component.is_empty()) {
            let component = OsStr::from_bytes(component);
            let above = here.as_ref().unwrap_or(&self.root).as_fd();
            let mut next = fs::openat(above, component, DIRECTORY, Mode::empty());
            if matches!(next, Err(Errno::NOENT)) {
                match fs::mkdirat(above, component, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(self.failed("creating the directory of", member, errno)),
                }
                next = fs::openat(above, component, DIRECTORY, Mode::empty());
            }
            here = Some(match next {
                Ok(directory) => directory,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Error::refused(member.as_bytes(), Refusal::NotADirectory));
                }
                Err(errno) => return Err(self.failed("opening the directory of", member, errno)),
            });
        }
        match here {
            Some(directory) => Ok(directory),
            None => self.root.try_clone().map_err(|e| self.io_failed("opening the directory of", member, e)),
        }
    }

    /// Opens the directory `name`, which must be there.
    fn existing(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let mut here = self.root.try_clone()?;
        for component in name.split(|&b| b == b'/').filter(|component| !component.is_empty()) {
            here = fs::openat(&here, OsStr::from_bytes(component), DIRECTORY, Mode::empty())?;
        }
        Ok(here)
    }

    fn failed(&self, action: &'static str, member: &Member, errno: Errno) -> Error {
        self.io_failed(action, member, errno.into())
    }

    fn io_failed(&self, action: &'static str, member: &Member, source: io::Error) -> Error {
        Error::File { action, path: self.path.join(display(member.as_bytes())), source }
    }
}

/// Which side of a copy failed.
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of `input`; `piece` is kept from file to file.
pub(crate) fn copy(input: &mut impl Read, output: &mut File, piece: &mut Vec<u8>) -> Result<u64, CopyError> {
    piece.resize(PIECE, 0);
    let mut copied = 0;
    loop {
        match input.read(piece) {
            Ok(0) => return Ok(copied),
            Ok(n) => {
                output.write_all(&piece[..n]).map_err(CopyError::Write)?;
                copied += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}
