//! Pulling chunks out of a stream.

use std::io::{self, Read};

use crate::chunk::{
    self, ChunkHeader, ChunkKind, EXTENT_LEN, Extent, FLAG_IGNORABLE, MAGIC, MAX_PATH_LEN, MAX_SPARSE_RUNS,
    PREFIX_LEN, Prefix, SparseRun,
};
use crate::dialect::Dialect;
use crate::error::{Error, Part};
use crate::input::Input;
use crate::path::display;
use crate::source::{ReadAt, Walk};

/// Reads an archive chunk by chunk and checks every checksum.
///
/// It knows nothing of files: whether a file's chunks follow each other, and whether its end came, is checked by
/// [`list`](crate::list) and [`extract`](crate::extract).
///
/// Memory: one read-ahead buffer of 128 KiB, one path, one sparse map of at most 8 MiB.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    dialect: Dialect,
    /// The current chunk.
    header: ChunkHeader,
    payload: Payload,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two chunks, or inside a payload.
    Running,
    /// The stream ended between two chunks.
    Ended,
    Failed,
}

/// A payload that lies where it was, for another thread to read and check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    /// Where it begins in the source.
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// The CRC-32 that it must have.
    pub(crate) crc: u32,
}

/// What is left of the current payload.
#[derive(Debug, Default)]
struct Payload {
    left: u64,
    crc: crc32fast::Hasher,
    expected: u32,
    /// The checksum is still to be compared.
    open: bool,
}

impl<R: Read> Reader<R> {
    /// A reader that finds the dialect out by itself.
    pub fn new(inner: R) -> Self {
        Self::with_dialect(inner, Dialect::Auto)
    }

    /// A reader of one dialect.
    pub fn with_dialect(inner: R, dialect: Dialect) -> Self {
        Self {
            input: Input::new(inner),
            dialect,
            header: ChunkHeader { at: 0, flags: 0, path: Vec::new(), kind: ChunkKind::End },
            payload: Payload::default(),
            state: State::Running,
        }
    }

    /// The dialect, as far as it is known: [`Dialect::Auto`] until a chunk has told.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Bytes of the stream taken so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// The source. Bytes that were read ahead are lost, at most 128 KiB.
    pub fn into_inner(self) -> R {
        self.input.into_inner()
    }

    /// Returns the next chunk, or `None` when the stream ends exactly between two chunks.
    ///
    /// Whatever was left unread of the previous chunk is read and checked first, so passing over a file does not
    /// pass over its checksum.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if the stream stops inside a chunk, [`Error::Checksum`] if the previous payload did
    /// not match, and the other errors of a malformed header. A reader that failed stays failed: every later
    /// call is [`Error::Failed`], so a broken stream never ends in `None`.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_, R>>, Error> {
        match self.state {
            State::Failed => return Err(Error::Failed),
            State::Ended => return Ok(None),
            State::Running => {}
        }
        match self.pass_over().and_then(|()| self.read_header()) {
            Ok(true) => Ok(Some(Chunk { reader: self })),
            Ok(false) => {
                self.state = State::Ended;
                Ok(None)
            }
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// Reads and checks what is left of the current payload.
    fn pass_over(&mut self) -> Result<(), Error> {
        while self.payload.left > 0 {
            let position = self.input.position();
            let ready = self.input.fill().map_err(|source| Error::Read { offset: position, source })?;
            if ready.is_empty() {
                return Err(Error::Truncated { offset: position, part: Part::Payload });
            }
            let n = ready.len().min(usize::try_from(self.payload.left).unwrap_or(usize::MAX));
            self.payload.crc.update(&ready[..n]);
            self.payload.left -= n as u64;
            self.input.consume(n);
        }
        self.check_payload()
    }

    /// Compares the checksum once everything it covers was read.
    fn check_payload(&mut self) -> Result<(), Error> {
        if !self.payload.open || self.payload.left > 0 {
            return Ok(());
        }
        self.payload.open = false;
        let actual = std::mem::take(&mut self.payload.crc).finalize();
        let expected = self.payload.expected;
        if actual == expected {
            return Ok(());
        }
        let at = match self.header.kind {
            ChunkKind::Payload { offset, .. } | ChunkKind::Sparse { offset, .. } => offset,
            _ => 0,
        };
        Err(Error::Checksum { path: display(&self.header.path), at, expected, actual })
    }

    /// Reads payload bytes; 0 only at its end or for an empty `out`.
    fn read_payload(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if self.state == State::Failed {
            return Err(Error::Failed);
        }
        let result = self.read_payload_unguarded(out);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn read_payload_unguarded(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let max = out.len().min(usize::try_from(self.payload.left).unwrap_or(usize::MAX));
        let mut n = 0;
        if max > 0 {
            let offset = self.input.position();
            n = self.input.read(&mut out[..max]).map_err(|source| Error::Read { offset, source })?;
            if n == 0 {
                return Err(Error::Truncated { offset, part: Part::Payload });
            }
            self.payload.crc.update(&out[..n]);
            self.payload.left -= n as u64;
        }
        self.check_payload()?;
        Ok(n)
    }

    /// Fills `out`.
    fn need(&mut self, out: &mut [u8], part: Part) -> Result<(), Error> {
        let offset = self.input.position();
        let n = self.input.read_full(out).map_err(|source| Error::Read { offset, source })?;
        if n < out.len() {
            return Err(Error::Truncated { offset: self.input.position(), part });
        }
        Ok(())
    }

    /// Reads the header of the next chunk into `self.header`; false at the end of the stream.
    fn read_header(&mut self) -> Result<bool, Error> {
        let at = self.input.position();
        let mut bytes = [0; PREFIX_LEN];
        let n = self.input.read_full(&mut bytes).map_err(|source| Error::Read { offset: at, source })?;
        if n == 0 {
            return Ok(false);
        }
        let shared = n.min(MAGIC.len());
        if bytes[..shared] != MAGIC[..shared] {
            return Err(Error::Magic { offset: at });
        }
        if n < PREFIX_LEN {
            return Err(Error::Truncated { offset: self.input.position(), part: Part::Header });
        }
        let Some(prefix) = Prefix::parse(&bytes) else { return Err(Error::Magic { offset: at }) };
        let mut path = std::mem::take(&mut self.header.path);
        self.read_path(&mut path, prefix.path_len, at)?;
        self.header = ChunkHeader { at, flags: prefix.flags, path, kind: ChunkKind::End };
        self.payload = Payload::default();
        if self.header.is_rewrite() {
            self.settle(Dialect::MariaDb, "a rewrite flag of MariaDB after a sparse chunk of Percona")?;
        }
        self.header.kind = self.read_kind(prefix)?;
        Ok(true)
    }

    fn read_path(&mut self, path: &mut Vec<u8>, len: u32, at: u64) -> Result<(), Error> {
        if len as usize > MAX_PATH_LEN {
            return Err(Error::PathTooLong { offset: at, len: u64::from(len) });
        }
        path.resize(len as usize, 0);
        self.need(path, Part::Path)
    }

    fn read_kind(&mut self, prefix: Prefix) -> Result<ChunkKind, Error> {
        let ignorable = prefix.flags & FLAG_IGNORABLE != 0;
        match (prefix.kind, self.dialect) {
            (b'P', _) => {
                let Extent { offset, len, .. } = self.read_extent()?;
                Ok(ChunkKind::Payload { offset, len })
            }
            (b'E', _) => Ok(ChunkKind::End),
            (b'S', _) => match self.dialect_of_s()? {
                Dialect::MariaDb => {
                    let mut offset = [0; 8];
                    self.need(&mut offset, Part::Extent)?;
                    let offset = u64::from_le_bytes(offset);
                    if offset > i64::MAX as u64 {
                        return Err(self.impossible(0, offset));
                    }
                    Ok(ChunkKind::Seek { offset })
                }
                _ => self.read_sparse(),
            },
            (b'R' | b'D', Dialect::Auto) if ignorable => {
                Err(self.unclear("a rename or removal of MariaDB, or a chunk to be ignored"))
            }
            (b'R', Dialect::Auto | Dialect::MariaDb) => {
                self.dialect = Dialect::MariaDb;
                let mut len = [0; 4];
                self.need(&mut len, Part::Path)?;
                let mut to = Vec::new();
                self.read_path(&mut to, u32::from_le_bytes(len), self.header.at)?;
                Ok(ChunkKind::Rename { to })
            }
            (b'D', Dialect::Auto | Dialect::MariaDb) => {
                self.dialect = Dialect::MariaDb;
                Ok(ChunkKind::Remove)
            }
            (kind, _) if ignorable => {
                let Extent { len, .. } = self.read_extent()?;
                Ok(ChunkKind::Ignorable { kind, len })
            }
            (kind, _) => {
                Err(Error::UnknownType { offset: self.header.at, kind, path: display(&self.header.path) })
            }
        }
    }

    fn read_extent(&mut self) -> Result<Extent, Error> {
        let mut bytes = [0; EXTENT_LEN];
        self.need(&mut bytes, Part::Extent)?;
        let extent = Extent::parse(&bytes);
        if !extent.fits() {
            return Err(self.impossible(extent.len, extent.offset));
        }
        self.payload =
            Payload { left: extent.len, crc: crc32fast::Hasher::new(), expected: extent.crc, open: true };
        Ok(extent)
    }

    fn read_sparse(&mut self) -> Result<ChunkKind, Error> {
        let mut count = [0; 4];
        self.need(&mut count, Part::Extent)?;
        let count = u32::from_le_bytes(count);
        let Extent { offset, len, .. } = self.read_extent()?;
        let wrong = |reader: &Self, covered| Error::SparseMap {
            offset: reader.header.at,
            path: display(&reader.header.path),
            covered,
            len,
        };
        if count > MAX_SPARSE_RUNS {
            return Err(wrong(self, u64::MAX));
        }
        // Grows with what was read, not with what the header promises.
        let mut runs = Vec::new();
        let (mut covered, mut end) = (0_u64, offset);
        for _ in 0..count {
            let mut entry = [0; 8];
            self.need(&mut entry, Part::SparseMap)?;
            self.payload.crc.update(&entry);
            let run = SparseRun { skip: chunk::le_u32(&entry), len: chunk::le_u32(&entry[4..]) };
            covered += u64::from(run.len);
            end = end.saturating_add(u64::from(run.skip) + u64::from(run.len));
            runs.push(run);
        }
        if covered != len {
            return Err(wrong(self, covered));
        }
        if end > i64::MAX as u64 {
            return Err(self.impossible(len, offset));
        }
        Ok(ChunkKind::Sparse { offset, len, runs })
    }

    /// Whether the `S` chunk whose path was just read is a seek or a sparse payload.
    fn dialect_of_s(&mut self) -> Result<Dialect, Error> {
        if self.dialect != Dialect::Auto {
            return Ok(self.dialect);
        }
        let offset = self.input.position();
        let ahead = self.input.peek(16).map_err(|source| Error::Read { offset, source })?;
        let dialect = match ahead.get(8..) {
            Some(next) if next == MAGIC => Dialect::MariaDb,
            Some(next) if next.len() == MAGIC.len() => Dialect::Percona,
            Some([]) => return Err(self.unclear("the stream ends where a seek and a sparse payload differ")),
            // Cut in either dialect.
            _ => {
                let offset = offset + ahead.len() as u64;
                return Err(Error::Truncated { offset, part: Part::Extent });
            }
        };
        self.dialect = dialect;
        Ok(dialect)
    }

    /// Notes that the stream is of `dialect`, unless it is known to be of the other one.
    fn settle(&mut self, dialect: Dialect, contradiction: &'static str) -> Result<(), Error> {
        if self.dialect == Dialect::Auto {
            self.dialect = dialect;
        }
        if self.dialect == dialect { Ok(()) } else { Err(self.unclear(contradiction)) }
    }

    fn unclear(&self, reason: &'static str) -> Error {
        Error::Dialect { offset: self.header.at, path: display(&self.header.path), reason }
    }

    fn impossible(&self, len: u64, start: u64) -> Error {
        Error::Extent { offset: self.header.at, path: display(&self.header.path), len, start }
    }
}

/// One chunk: its header, and its payload as a [`Read`].
///
/// The read that takes the last byte compares the CRC-32 and fails instead of returning that byte when it does
/// not match. Bytes given out before are provisional.
#[derive(Debug)]
pub struct Chunk<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<S: ReadAt + ?Sized> Chunk<'_, Walk<'_, S>> {
    /// Passes over a payload that nothing was read of and that has no sparse map; its checksum is for the caller to
    /// compare.
    pub(crate) fn leave(self) -> Left {
        let Payload { left: len, expected: crc, .. } = std::mem::take(&mut self.reader.payload);
        let at = self.reader.input.position();
        self.reader.input.pass(len);
        Left { at, len, crc }
    }
}

impl<R: Read> Chunk<'_, R> {
    /// The header.
    pub fn header(&self) -> &ChunkHeader {
        &self.reader.header
    }

    /// Reads payload bytes with this crate's error type; 0 only at the end of the payload.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`], [`Error::Checksum`], [`Error::Read`].
    pub fn read_payload(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        self.reader.read_payload(out)
    }
}

impl<R: Read> Read for Chunk<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.reader.read_payload(out)?)
    }
}
