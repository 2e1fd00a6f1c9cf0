//! The members of a tar, one after the other, with bounds on everything that the archive states.
//!
//! The fields of a header are read by the `tar` crate. The order of the blocks, the long names of GNU tar and the
//! records of POSIX tar are read here, because a truncated archive must not look like a short one, and a long name
//! must not take as much memory as it claims to need.
//!
//! Format: POSIX.1-1988 ustar and POSIX.1-2001 pax interchange formats; GNU tar manual, "Basic Tar Format".

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::error::{Error, Refusal};
use crate::member::MAX_NAME;

const BLOCK: usize = 512;
/// Longest set of pax records of one member, in bytes; they also carry extended attributes.
const MAX_RECORDS: u64 = 1 << 20;

/// Reads a tar; never more than one member ahead of what was asked for.
pub(crate) struct Archive<R> {
    input: R,
    offset: u64,
    /// Bytes of the current member that were not read, and the fill after it.
    left: u64,
    fill: u64,
    ended: bool,
    /// Why reading the current member failed; whoever read it saw only an `io::Error`.
    failure: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits and, above them, setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) modified: Option<Modified>,
}

/// When a file was modified: seconds of Unix time and nanoseconds.
pub(crate) type Modified = (i64, u32);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
}

/// What the blocks before a member's header say about it.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Modified>,
    sparse: bool,
    any: bool,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, left: 0, fill: 0, ended: false, failure: None }
    }

    /// The next member, or `None` behind the end mark, when the input had nothing more but fill.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut ahead = Ahead::default();
        loop {
            self.skip_rest()?;
            if self.ended {
                return Ok(None);
            }
            let at = self.offset;
            let mut header = Header::new_old();
            self.block(header.as_mut_bytes())?;
            if header.as_bytes().iter().all(|&b| b == 0) {
                if ahead.any {
                    return Err(Error::Archive { offset: at, what: "an end mark in place of a member" });
                }
                self.end()?;
                return Ok(None);
            }
            let bad = |what| Error::Archive { offset: at, what };
            if header.cksum().ok() != Some(checksum(header.as_bytes())) {
                return Err(bad("header with a wrong checksum"));
            }
            let size = header.entry_size().map_err(|_| bad("header with a bad size"))?;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => ahead.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => ahead.link = Some(self.long_name(size)?),
                EntryType::XHeader => {
                    let records = self.records(size)?;
                    ahead.take(&records).ok_or(bad("malformed pax records"))?;
                }
                // Defaults for all members: comments, as git writes them.
                EntryType::XGlobalHeader => drop(self.records(size)?),
                _ => return self.entry(&header, ahead, at).map(Some),
            }
            ahead.any = true;
        }
    }

    fn entry(&mut self, header: &Header, ahead: Ahead, at: u64) -> Result<Entry, Error> {
        let bad = |what| Error::Archive { offset: at, what };
        let path = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = ahead.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let size = match ahead.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| bad("header with a bad size"))?,
        };
        let refuse = |why| Err(Error::refused(&path, why));
        if ahead.sparse {
            return refuse(Refusal::Sparse);
        }
        let kind = match header.entry_type() {
            // Before POSIX, a directory was a file whose name ends in a slash.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link.unwrap_or_default()),
            EntryType::Link => Kind::HardLink(link.unwrap_or_default()),
            EntryType::Char | EntryType::Block => return refuse(Refusal::Device),
            EntryType::Fifo => return refuse(Refusal::Pipe),
            EntryType::GNUSparse => return refuse(Refusal::Sparse),
            _ => return refuse(Refusal::UnknownKind),
        };
        if kind != Kind::File && size != 0 {
            return Err(bad("a member with contents that is no file"));
        }
        let mode = header.mode().map_err(|_| bad("header with a bad mode"))?;
        let seconds = || header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
        let modified = ahead.modified.or_else(|| Some((seconds()?, 0)));
        self.begin(size, at)?;
        Ok(Entry { path, kind, mode, modified })
    }

    /// The contents of the member that was given out last.
    pub(crate) fn body(&mut self) -> Body<'_, R> {
        Body { archive: self }
    }

    /// Why reading the last member's contents failed, if it was the archive that failed.
    pub(crate) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Gives the input back, wherever it stands.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn begin(&mut self, size: u64, at: u64) -> Result<(), Error> {
        // Also keeps every sum of offsets in range.
        if size > i64::MAX as u64 {
            return Err(Error::Archive { offset: at, what: "an impossible size" });
        }
        self.left = size;
        self.fill = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn block(&mut self, block: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < block.len() {
            match self.input.read(&mut block[done..]) {
                Ok(0) => return Err(Error::Truncated { offset: self.offset }),
                Ok(n) => {
                    done += n;
                    self.offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        if self.left + self.fill == 0 {
            return Ok(());
        }
        let mut piece = vec![0; if self.left > 64 << 10 { 64 << 10 } else { 4096 }];
        while self.left + self.fill > 0 {
            let length = piece.len().min(usize::try_from(self.left + self.fill).unwrap_or(usize::MAX));
            self.block(&mut piece[..length])?;
            let of_body = self.left.min(length as u64);
            self.left -= of_body;
            self.fill -= length as u64 - of_body;
        }
        Ok(())
    }

    /// Behind the first zero block: another one, then zeros to the end of the input. The writer fills its last
    /// record, and an encrypted archive is authenticated only at its very end.
    fn end(&mut self) -> Result<(), Error> {
        let mut block = [0; BLOCK];
        let at = self.offset;
        self.block(&mut block)?;
        if block.iter().any(|&b| b != 0) {
            return Err(Error::Archive { offset: at, what: "a single zero block" });
        }
        let mut piece = vec![0; 16 << 10];
        loop {
            match self.input.read(&mut piece) {
                Ok(0) => break,
                Ok(n) if piece[..n].iter().all(|&b| b == 0) => self.offset += n as u64,
                Ok(_) => {
                    return Err(Error::Archive { offset: self.offset, what: "data behind the end mark" });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        self.ended = true;
        Ok(())
    }

    /// GNU tar's way to write a name of more than 100 bytes: a member that holds it, ended by a zero byte.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_NAME as u64 + 1 {
            return Err(Error::Refused { member: "(a long name)".into(), why: Refusal::TooLong });
        }
        let mut name = self.contents(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn records(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_RECORDS {
            return Err(Error::Archive { offset: self.offset, what: "more pax records than are read" });
        }
        self.contents(size)
    }

    /// A short member's contents; `size` was bounded.
    fn contents(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        self.begin(size, self.offset)?;
        let mut bytes = vec![0; size as usize];
        self.block(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }
}

/// The sum of the header's bytes, the checksum field itself counted as blanks.
fn checksum(header: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>();
    sum(&header[..148]) + 8 * u32::from(b' ') + sum(&header[156..])
}

impl Ahead {
    /// Takes pax records, `LENGTH KEY=VALUE\n` each, where LENGTH counts the whole record; `None`: malformed.
    fn take(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let blank = records.iter().take(20).position(|&b| b == b' ')?;
            let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
            if length <= blank || length > records.len() {
                return None;
            }
            let (record, rest) = records.split_at(length);
            records = rest;
            let record = record[blank + 1..].strip_suffix(b"\n")?;
            let equals = record.iter().position(|&b| b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                b"mtime" => self.modified = time(value),
                sparse if sparse.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Some(())
    }
}

/// The time of a pax record: seconds, which may be negative and have a fraction. `None` for what is no time.
fn time(value: &[u8]) -> Option<Modified> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}").get(..9)?.parse::<u32>().ok()?;
    let whole: i64 = seconds.parse().ok()?;
    // -1.25 is a quarter of a second before -1.
    match seconds.starts_with('-') && nanos > 0 {
        true => Some((whole.checked_sub(1)?, 1_000_000_000 - nanos)),
        false => Some((whole, nanos)),
    }
}

/// A member's contents. What was not read is passed over by the next [`Archive::next_entry`].
pub(crate) struct Body<'a, R> {
    archive: &'a mut Archive<R>,
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let archive = &mut *self.archive;
        let most = buffer.len().min(usize::try_from(archive.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        match archive.input.read(&mut buffer[..most]) {
            Ok(0) => {
                archive.failure = Some(Error::Truncated { offset: archive.offset });
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                archive.left -= n as u64;
                archive.offset += n as u64;
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                archive.failure = Some(Error::Read(error));
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_pax_records_are_read_to_the_nanosecond() {
        assert_eq!(time(b"1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time(b"1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        for wrong in [&b""[..], b"x", b"1.x", b"1.-5", b"\xff", b"99999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong:?}");
        }
    }
}
