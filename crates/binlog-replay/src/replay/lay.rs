//! Puts the chosen piece of a chain of binlogs under new names, for a program that reads whole files.
//!
//! A file that is wanted from end to end is hard-linked (copied where that is not possible). Any other is
//! written anew: its format description, then the wanted runs of events, byte for byte. So a start, a stop
//! or a left-out transaction needs nothing from the reader of the files, and every checksum still holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range as Span;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::event::{Checksum, EventKind, FormatDescription, Header};
use crate::range::RangeFile;

/// First bytes of a binlog.
const MAGIC: &[u8; 4] = b"\xfebin";
/// Largest format description that is believed, in bytes; real ones are below 300.
const MAX_DESCRIPTION: u32 = 64 * 1024;

/// What to lay down for one file.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    /// The file.
    pub(super) file: &'a RangeFile,
    /// Runs of whole transactions to keep, in order, between `file.start` and `file.stop`.
    pub(super) keep: Vec<Span<u64>>,
    /// Whether to put the name of the file behind the format description, as a replica does in its relay
    /// logs.
    pub(super) named: bool,
}

impl Piece<'_> {
    fn is_whole(&self) -> bool {
        let whole = self.file.start == 4 && self.file.stop == self.file.size;
        whole && !self.named && matches!(&self.keep[..], [span] if *span == (4..self.file.size))
    }
}

/// A folder whose owner is the user that will read the files.
pub(super) struct Folder {
    path: PathBuf,
    owner: (u32, u32),
    device: u64,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let data = fs::metadata(path).map_err(Error::file("reading", path))?;
        Ok(Self { path: path.to_owned(), owner: (data.uid(), data.gid()), device: data.dev() })
    }

    /// Lays `piece` down as `name`; returns its size in bytes.
    pub(super) fn lay(&self, piece: &Piece<'_>, name: &str) -> Result<u64, Error> {
        let to = self.path.join(name);
        let from = &piece.file.path;
        if piece.is_whole() && self.may_link(from) && fs::hard_link(from, &to).is_ok() {
            return Ok(piece.file.size);
        }
        let mut source = File::open(from).map_err(Error::file("reading", from))?;
        let mut target = self.create(&to)?;
        let copied = if piece.is_whole() {
            io::copy(&mut source, &mut target)
        } else {
            copy_runs(&mut source, &mut target, piece)
        };
        copied.map_err(Error::file("copying", &to))
    }

    /// Writes a small file as `name`.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        self.create(&path)?.write_all(text.as_bytes()).map_err(Error::file("writing", path))
    }

    fn create(&self, path: &Path) -> Result<File, Error> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
        let file = file.map_err(Error::file("creating", path))?;
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = self.owner;
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))
                .map_err(Error::file("giving away", path))?;
        }
        Ok(file)
    }

    /// A link has the rights of the file it links to, so the reader must have them already.
    fn may_link(&self, from: &Path) -> bool {
        fs::symlink_metadata(from).is_ok_and(|data| {
            data.is_file()
                && data.dev() == self.device
                && (data.uid() == self.owner.0 || data.mode() & 0o004 != 0)
        })
    }
}

fn copy_runs(source: &mut File, target: &mut File, piece: &Piece<'_>) -> io::Result<u64> {
    let description = read_description(source)?;
    target.write_all(MAGIC)?;
    target.write_all(&description)?;
    let mut behind = 4 + description.len() as u64;
    let mut written = behind;
    // A file without it, among others, is logically corrupted to MySQL (error 1866).
    if let Some(previous) = read_previous_gtids(source)? {
        target.write_all(&previous)?;
        behind += previous.len() as u64;
        written = behind;
    }
    if piece.named {
        let server_id = Header::parse(&description).map_or(0, |h| h.server_id);
        let checksum =
            FormatDescription::parse(&description[Header::LEN..]).map_or(Checksum::None, |d| d.checksum);
        let rotate = rotate(&piece.file.name, server_id, checksum);
        target.write_all(&rotate)?;
        written += rotate.len() as u64;
    }
    for span in &piece.keep {
        // The first events are there already.
        let start = span.start.max(behind);
        let length = span.end.saturating_sub(start);
        source.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut (&*source).take(length), target)?;
        if copied != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        written += copied;
    }
    Ok(written)
}

/// The first event of a binlog with header and checksum.
pub(super) fn description(path: &Path) -> Result<Vec<u8>, Error> {
    let read = File::open(path).and_then(|mut file| read_description(&mut file));
    read.map_err(Error::file("reading", path))
}

fn read_description(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = [0; 4 + Header::LEN];
    file.read_exact(&mut head)?;
    let header = Header::parse(&head[4..]);
    let header = header.filter(|h| &head[..4] == MAGIC && h.kind == EventKind::FORMAT_DESCRIPTION);
    let header = header.ok_or_else(|| invalid("the file does not begin with a format description"))?;
    if header.size > MAX_DESCRIPTION || (header.size as usize) < Header::LEN {
        return Err(invalid("the format description has an impossible size"));
    }
    let mut description = vec![0; header.size as usize];
    file.seek(SeekFrom::Start(4))?;
    file.read_exact(&mut description)?;
    Ok(description)
}

/// The previous GTIDs, if they come next: they do in every file of MySQL 5.6 and later.
fn read_previous_gtids(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; Header::LEN];
    let start = file.stream_position()?;
    let len = file.metadata()?.len();
    if start + Header::LEN as u64 > len {
        return Ok(None);
    }
    file.read_exact(&mut head)?;
    let header = Header::parse(&head).filter(|h| h.kind == EventKind::PREVIOUS_GTIDS);
    let Some(size) = header.map(|h| u64::from(h.size)).filter(|size| start + size <= len) else {
        return Ok(None);
    };
    let mut event = head.to_vec();
    file.take(size.saturating_sub(Header::LEN as u64)).read_to_end(&mut event)?;
    Ok(Some(event))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A rotate event as a replica writes it at the start of a relay log: what follows is from `name`.
///
/// MariaDB's parallel applier must be told so before the first transaction: it compares the names of the
/// source's files, and 10.11.19 crashes on an empty one.
fn rotate(name: &str, server_id: u32, checksum: Checksum) -> Vec<u8> {
    let size = Header::LEN + 8 + name.len() + checksum.len();
    let header = Header {
        timestamp: 0,
        kind: EventKind::ROTATE,
        server_id,
        size: size as u32,
        next: 0,
        flags: Header::ARTIFICIAL,
    };
    let mut event = Vec::with_capacity(size);
    event.extend(header.to_bytes());
    event.extend(4u64.to_le_bytes());
    event.extend(name.as_bytes());
    if !checksum.is_empty() {
        event.extend(crc32fast::hash(&event).to_le_bytes());
    }
    event
}

/// The commit time in whole seconds of the event at `pos` of `path`, for progress.
pub(super) fn time_at(path: &Path, pos: u64) -> Option<u32> {
    let mut file = BufReader::new(File::open(path).ok()?);
    file.seek(SeekFrom::Start(pos)).ok()?;
    let mut head = [0; Header::LEN];
    file.read_exact(&mut head).ok()?;
    Some(Header::parse(&head)?.timestamp)
}
