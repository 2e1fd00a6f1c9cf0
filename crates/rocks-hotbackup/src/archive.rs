//! Reading a backup again: archives of all kinds, member by member.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aescrypt::Decryptor;
use secrecy::SecretString;
use tar::EntryType;
use xbstream::ChunkKind;

use crate::names;
use crate::{Error, Stop};

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// Bytes that tell the kind of a stream.
const HEAD: usize = 512;

/// Most encodings around an archive; more is no backup.
const LAYERS: usize = 4;

/// A member as its archive describes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Item {
    pub(crate) path: PathBuf,
    pub(crate) directory: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) modified: Option<u64>,
}

/// What is done with the members of an archive.
pub(crate) trait Visit {
    /// A member begins; `open` is its key in the calls that follow. Members of an xbstream archive interleave.
    fn begin(&mut self, open: u64, item: &Item) -> Result<(), Error>;
    /// The next bytes of a member.
    fn bytes(&mut self, open: u64, bytes: &[u8]) -> Result<(), Error>;
    /// A member is complete.
    fn end(&mut self, open: u64) -> Result<(), Error>;
}

/// Reads the archive in a file, or in the standard input for `-`, to its very end.
pub(crate) fn read(
    path: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
    visit: &mut dyn Visit,
) -> Result<(), Error> {
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).map_err(Error::io("open", path))?),
    };
    read_from(input, path, password, stop, visit)
}

/// Reads an archive from any input; `path` is for messages.
pub(crate) fn read_from<'a>(
    input: Box<dyn Read + 'a>,
    path: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
    visit: &mut dyn Visit,
) -> Result<(), Error> {
    let mut input = input;
    for _ in 0..LAYERS {
        let mut head = Vec::with_capacity(HEAD);
        input.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|e| failed(path, e))?;
        let start = head.clone();
        let whole = std::io::Cursor::new(head).chain(input);
        if start.starts_with(b"AES") && matches!(start.get(3), Some(0..=3)) {
            let Some(password) = password else {
                return Err(Error::PasswordNeeded { path: path.to_owned() });
            };
            let decryptor = Decryptor::new(whole, password)
                .map_err(|e| Error::Decrypt { path: path.to_owned(), source: e.into() })?;
            input = Box::new(decryptor);
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            input = Box::new(zstd::stream::read::Decoder::new(whole).map_err(|e| failed(path, e))?);
        } else if start.starts_with(xbstream::MAGIC) {
            return read_xbstream(whole, path, stop, visit);
        } else if start.get(257..262) == Some(b"ustar") {
            return read_tar(whole, path, stop, visit);
        } else {
            let reason = match start.is_empty() {
                true => "it is empty",
                false => {
                    "it is neither tar nor xbstream, nor one of them compressed by zstd or encrypted by AES Crypt"
                }
            };
            return Err(Error::Archive { path: path.to_owned(), reason: reason.into() });
        }
    }
    Err(Error::Archive { path: path.to_owned(), reason: "it is encoded too many times".into() })
}

/// The error of a read: decryption and the members' own errors are told apart from the disk's.
fn failed(path: &Path, error: std::io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<aescrypt::Error>()) {
        return Error::Decrypt { path: path.to_owned(), source: error.into() };
    }
    match error.raw_os_error() {
        Some(_) => Error::Io { action: "read", path: path.to_owned(), source: error },
        None => Error::Archive { path: path.to_owned(), reason: error.to_string() },
    }
}

fn read_tar(input: impl Read, path: &Path, stop: &Stop, visit: &mut dyn Visit) -> Result<(), Error> {
    let bad = |e| failed(path, e);
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, input));
    // The original writes one archive after another, one for each file.
    archive.set_ignore_zeros(true);
    let mut buffer = vec![0; BUFFER];
    for (open, entry) in archive.entries().map_err(bad)?.enumerate() {
        stop.check()?;
        let mut entry = entry.map_err(bad)?;
        let item = tar_item(&mut entry, path)?;
        let open = open as u64;
        visit.begin(open, &item)?;
        if !item.directory {
            let mut left = entry.size();
            while left > 0 {
                stop.check()?;
                let n = entry.read(&mut buffer).map_err(bad)?;
                if n == 0 {
                    let reason = format!("it ends inside {:?}", item.path);
                    return Err(Error::Archive { path: path.to_owned(), reason });
                }
                left = left.saturating_sub(n as u64);
                visit.bytes(open, &buffer[..n])?;
            }
        }
        visit.end(open)?;
    }
    // Only the end of an encrypted or compressed stream says that all of it was sound.
    let mut input = archive.into_inner();
    std::io::copy(&mut input, &mut std::io::sink()).map_err(bad)?;
    Ok(())
}

fn tar_item<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<Item, Error> {
    let bad = |e| failed(path, e);
    let name = entry.path().map_err(bad)?.into_owned();
    names::safe(&name)?;
    let refuse = |reason| Error::UnsafeMember { name: name.display().to_string(), reason };
    if let Some(extensions) = entry.pax_extensions().map_err(bad)? {
        for extension in extensions {
            let extension = extension.map_err(bad)?;
            if extension.key_bytes().starts_with(b"GNU.sparse") {
                return Err(refuse("it is a sparse file in a form that this program does not read"));
            }
        }
    }
    let header = entry.header();
    let directory = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => false,
        EntryType::Directory => true,
        EntryType::Symlink | EntryType::Link => return Err(refuse("it is a link")),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            return Err(refuse("it is a device or a pipe"));
        }
        _ => return Err(refuse("it is of a kind that no backup has")),
    };
    let mode = header.mode().map_err(bad)? & 0o7777;
    if mode & 0o6000 != 0 && !directory {
        return Err(refuse("it has a setuid or setgid bit"));
    }
    let number = |value: u64| u32::try_from(value).map_err(|_| refuse("its owner is no valid number"));
    let owner = (number(header.uid().map_err(bad)?)?, number(header.gid().map_err(bad)?)?);
    let modified = header.mtime().map_err(bad)?;
    Ok(Item { path: name, directory, mode: Some(mode & 0o777), owner: Some(owner), modified: Some(modified) })
}

fn read_xbstream(input: impl Read, path: &Path, stop: &Stop, visit: &mut dyn Visit) -> Result<(), Error> {
    let bad = |e: xbstream::Error| match e {
        xbstream::Error::Read { source, .. } => failed(path, source),
        other => Error::Archive { path: path.to_owned(), reason: other.to_string() },
    };
    let mut reader = xbstream::Reader::with_dialect(input, xbstream::Dialect::MariaDb);
    let mut buffer = vec![0; BUFFER];
    // Files that have begun: their keys and the bytes so far.
    let mut open: HashMap<PathBuf, (u64, u64)> = HashMap::new();
    let mut next = 0;
    while let Some(mut chunk) = reader.next_chunk().map_err(bad)? {
        stop.check()?;
        let name = chunk.header().path.clone();
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(&name));
        names::safe(&name)?;
        let kind = chunk.header().kind.clone();
        if !open.contains_key(&name) {
            visit.begin(next, &Item { path: name.clone(), ..Item::default() })?;
            open.insert(name.clone(), (next, 0));
            next += 1;
        }
        let Some((key, size)) = open.get_mut(&name) else { continue };
        match kind {
            ChunkKind::Payload { offset, .. } if offset == *size => loop {
                let n = chunk.read_payload(&mut buffer).map_err(bad)?;
                if n == 0 {
                    break;
                }
                *size += n as u64;
                visit.bytes(*key, &buffer[..n])?;
            },
            ChunkKind::Payload { offset, .. } => {
                let reason = format!("a chunk of {name:?} is for byte {offset}, not {size}");
                return Err(Error::Archive { path: path.to_owned(), reason });
            }
            ChunkKind::End => {
                visit.end(*key)?;
                open.remove(&name);
            }
            _ => {
                let reason = "it is sent in a way that no MyRocks backup uses";
                return Err(Error::UnsafeMember { name: name.display().to_string(), reason });
            }
        }
    }
    match open.keys().next() {
        Some(name) => {
            let reason = format!("it ends before the end of {name:?}");
            Err(Error::Archive { path: path.to_owned(), reason })
        }
        None => Ok(()),
    }
}
