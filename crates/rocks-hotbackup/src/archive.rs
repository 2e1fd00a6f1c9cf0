//! Reading a backup again: archives of all kinds, member by member.

use std::cell::Cell;
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

/// Most bytes between the contents of two members of a tar archive: long names and extended headers are shorter.
const BETWEEN: u64 = 4 * 1024 * 1024;

/// Bytes of zeros at the end of a tar archive: two blocks.
const END: u64 = 1024;

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

/// What is said of a tar archive without its end mark.
pub(crate) const NO_END: &str = "the archive has no end mark";

/// Reads the archive in a file, or in the standard input for `-`, to its very end. `false` if that is no end of an archive:
/// tar has a mark there, xbstream has none that could be missing.
pub(crate) fn read(
    path: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
    visit: &mut dyn Visit,
) -> Result<bool, Error> {
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
) -> Result<bool, Error> {
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
            return read_xbstream(whole, path, stop, visit).map(|()| true);
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

/// A tar archive's input. Between the contents of two members there are headers, long names and blocks of zeros, which the
/// tar reader takes into memory whatever their length; here it has an end.
struct Bounded<'a, R> {
    input: R,
    state: &'a State,
}

/// What the reader of members and its input share.
#[derive(Default)]
struct State {
    /// Bytes between members that may still come; `None` inside a member's content.
    left: Cell<Option<u64>>,
    /// Bytes of zeros that came last between members.
    zeros: Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        let Some(left) = self.state.left.get() else { return Ok(n) };
        let Some(left) = left.checked_sub(n as u64) else {
            let text = format!("there are more than {BETWEEN} bytes between two members");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
        };
        self.state.left.set(Some(left));
        let zeros = buffer[..n].iter().rev().take_while(|byte| **byte == 0).count();
        self.state.zeros.set(if zeros == n { self.state.zeros.get() + n as u64 } else { zeros as u64 });
        Ok(n)
    }
}

/// Gives `false` if the two blocks of zeros are missing at the end.
fn read_tar(input: impl Read, path: &Path, stop: &Stop, visit: &mut dyn Visit) -> Result<bool, Error> {
    let bad = |e| failed(path, e);
    let state = State::default();
    let input = Bounded { input: BufReader::with_capacity(BUFFER, input), state: &state };
    let mut archive = tar::Archive::new(input);
    // The original writes one archive after another, one for each file.
    archive.set_ignore_zeros(true);
    let mut buffer = vec![0; BUFFER];
    let mut entries = archive.entries().map_err(bad)?;
    for open in 0.. {
        stop.check()?;
        state.left.set(Some(BETWEEN));
        state.zeros.set(0);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(bad)?;
        let item = tar_item(&mut entry, path)?;
        visit.begin(open, &item)?;
        if !item.directory {
            state.left.set(None);
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
    let mut input = archive.into_inner().input;
    std::io::copy(&mut input, &mut std::io::sink()).map_err(bad)?;
    Ok(state.zeros.get() >= END)
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Visit for Nothing {
        fn begin(&mut self, _: u64, _: &Item) -> Result<(), Error> {
            Ok(())
        }
        fn bytes(&mut self, _: u64, _: &[u8]) -> Result<(), Error> {
            Ok(())
        }
        fn end(&mut self, _: u64) -> Result<(), Error> {
            Ok(())
        }
    }

    fn header(kind: EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn read_all(bytes: impl Read + 'static) -> Result<bool, Error> {
        read_from(Box::new(bytes), Path::new("a.tar"), None, &Stop::new(), &mut Nothing)
    }

    #[test]
    fn names_and_extensions_without_end_are_refused_before_they_fill_the_memory() {
        const SIZE: u64 = 64 * 1024 * 1024;
        for kind in
            [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
        {
            for byte in [b'a', 0] {
                let archive =
                    std::io::Cursor::new(header(kind, SIZE)).chain(std::io::repeat(byte).take(SIZE));
                let error = read_all(archive).unwrap_err();
                assert!(error.to_string().contains("between two members"), "{kind:?}: {error}");
            }
        }
        // A member of that size is none of these.
        let archive =
            std::io::Cursor::new(header(EntryType::Regular, SIZE)).chain(std::io::repeat(0).take(SIZE));
        assert!(!read_all(archive).unwrap(), "its zeros are no end mark");
    }

    #[test]
    fn the_end_mark_is_two_blocks_of_zeros_behind_the_last_member() {
        let mut archive = header(EntryType::Regular, 600);
        archive.extend([0; 1024]);
        for (zeros, ended) in [(0, false), (512, false), (1024, true), (10240, true)] {
            let mut archive = archive.clone();
            archive.resize(archive.len() + zeros, 0);
            assert_eq!(read_all(std::io::Cursor::new(archive.clone())).unwrap(), ended, "{zeros}");
            // Another one in a row without its mark.
            archive.extend(header(EntryType::Regular, 0));
            assert!(!read_all(std::io::Cursor::new(archive)).unwrap());
        }
    }
}
