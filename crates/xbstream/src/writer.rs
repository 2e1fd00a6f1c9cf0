//! Pushing files into a stream.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Error;
use crate::chunk::{self, EXTENT_LEN, Extent, MAX_PATH_LEN, PREFIX_LEN, SparseRun};
use crate::path::{self, display};
use crate::track::Names;

/// Payload of a full chunk, in bytes: what `mbstream` and `xbstream` write.
pub const CHUNK_SIZE: usize = 10 * 1024 * 1024;

/// Room kept in front of a payload for its header, so that both leave in one write.
const HEADROOM: usize = PREFIX_LEN + MAX_PATH_LEN + EXTENT_LEN;

/// Writes an archive. Several files may be open at once; their chunks interleave.
///
/// With the default chunk size, and files written one after another, the result is byte for byte that of
/// `mbstream -c`. Dropping a writer or a file that is not finished leaves an archive that every reader of this
/// crate refuses.
///
/// ```
/// use std::io::Write;
///
/// let writer = xbstream::Writer::new(Vec::new());
/// let mut file = writer.file("db/t.ibd")?;
/// file.write_all(b"page")?;
/// file.finish()?;
/// writer.append("db/db.opt", &b"default-character-set=utf8mb4\n"[..])?;
/// let archive = writer.finish()?;
/// assert_eq!(&archive[..8], xbstream::MAGIC);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    shared: Arc<Mutex<Shared<W>>>,
    chunk_size: usize,
}

#[derive(Debug)]
struct Shared<W> {
    /// `None` once a write failed: what the other side has is unknown then.
    out: Option<W>,
    position: u64,
    names: Names,
    open: BTreeSet<Vec<u8>>,
    /// A payload buffer that is not in use.
    spare: Option<Vec<u8>>,
}

impl<W: Write> Writer<W> {
    /// A writer of chunks of [`CHUNK_SIZE`].
    pub fn new(out: W) -> Self {
        Self::with_chunk_size(out, CHUNK_SIZE)
    }

    /// A writer of chunks of `chunk_size` bytes, at least 1.
    ///
    /// Each open file holds a buffer of this size once it was written to. Smaller chunks stay in the
    /// processor's cache and go out faster; `bytes` of header are 34 and the path, for each chunk.
    pub fn with_chunk_size(out: W, chunk_size: usize) -> Self {
        let shared = Shared {
            out: Some(out),
            position: 0,
            names: Names::default(),
            open: BTreeSet::new(),
            spare: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)), chunk_size: chunk_size.max(1) }
    }

    /// Begins a file. A leading `./` is left out, because no reader accepts it.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`] and [`Error::PathTooLong`] for a name that readers refuse, [`Error::Duplicate`] for
    /// one that the archive has already.
    pub fn file(&self, path: impl AsRef<std::path::Path>) -> Result<FileWriter<W>, Error> {
        use std::os::unix::ffi::OsStrExt;
        let mut path = path.as_ref().as_os_str().as_bytes();
        while let Some(rest) = path.strip_prefix(b"./") {
            path = rest;
        }
        path::check(path)?;
        if path.len() > MAX_PATH_LEN {
            return Err(Error::PathTooLong { offset: 0, len: path.len() as u64 });
        }
        let mut shared = lock(&self.shared);
        if !shared.names.take(path) {
            return Err(Error::Duplicate { path: display(path) });
        }
        shared.open.insert(path.to_vec());
        drop(shared);
        Ok(FileWriter {
            shared: Arc::clone(&self.shared),
            path: path.to_vec(),
            buffer: Vec::new(),
            chunk_size: self.chunk_size,
            offset: 0,
        })
    }

    /// Adds a whole file, read to its end, and returns its length in bytes.
    ///
    /// The fast way for files and pipes: the payload is read straight into the chunk that is written, in
    /// reads as large as the chunk.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::file`], [`Error::File`] if `source` fails, [`Error::Write`] if the archive fails.
    pub fn append(&self, path: impl AsRef<std::path::Path>, mut source: impl Read) -> Result<u64, Error> {
        let mut file = self.file(path)?;
        file.copy_from(&mut source)?;
        file.finish()
    }

    /// Bytes of the archive written so far.
    pub fn position(&self) -> u64 {
        lock(&self.shared).position
    }

    /// Ends the archive and gives the sink back, flushed.
    ///
    /// # Errors
    ///
    /// [`Error::MissingEnd`] when files are open, [`Error::Failed`] after a failed write, [`Error::Write`] if
    /// flushing fails.
    pub fn finish(self) -> Result<W, Error> {
        let mut shared = lock(&self.shared);
        if !shared.open.is_empty() {
            let paths = shared.open.iter().take(16).map(|path| display(path)).collect();
            return Err(Error::MissingEnd { paths, count: shared.open.len() });
        }
        let mut out = shared.out.take().ok_or(Error::Failed)?;
        out.flush().map_err(|source| Error::Write { offset: shared.position, source })?;
        Ok(out)
    }
}

/// One file of a [`Writer`]. It may be written to from another thread.
///
/// Data goes out in whole chunks. Dropped without [`FileWriter::finish`], the file stays incomplete and
/// [`Writer::finish`] fails.
#[derive(Debug)]
pub struct FileWriter<W> {
    shared: Arc<Mutex<Shared<W>>>,
    path: Vec<u8>,
    /// [`HEADROOM`], then the payload that is not written yet. Empty until the first byte.
    buffer: Vec<u8>,
    chunk_size: usize,
    /// Position in the file of the first byte of `buffer`'s payload.
    offset: u64,
}

impl<W: Write> FileWriter<W> {
    /// The name in the archive.
    pub fn path(&self) -> PathBuf {
        display(&self.path)
    }

    /// Bytes of the file so far.
    pub fn len(&self) -> u64 {
        self.offset + self.pending() as u64
    }

    /// True when nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds everything that `source` has, and returns how many bytes that were.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if `source` fails, [`Error::Write`] if the archive fails.
    pub fn copy_from(&mut self, source: &mut impl Read) -> Result<u64, Error> {
        let before = self.len();
        self.make_buffer();
        loop {
            let filled = self.buffer.len();
            let room = self.chunk_size - (filled - HEADROOM);
            self.buffer.reserve_exact(room);
            let read = source
                .by_ref()
                .take(room as u64)
                .read_to_end(&mut self.buffer)
                .map_err(|source| Error::File { action: "read", path: display(&self.path), source })?;
            if read < room {
                return Ok(self.len() - before);
            }
            self.flush_chunk()?;
        }
    }

    /// Writes one sparse chunk: holes and data as Percona XtraBackup sends them for page-compressed tables.
    /// Only readers of that dialect understand it.
    ///
    /// # Errors
    ///
    /// [`Error::SparseMap`] when the runs do not add up to `payload`, [`Error::Write`] if the archive fails.
    pub fn write_sparse(&mut self, runs: &[SparseRun], payload: &[u8]) -> Result<(), Error> {
        self.flush_chunk()?;
        let covered: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
        if covered != payload.len() as u64 || runs.len() > chunk::MAX_SPARSE_RUNS as usize {
            let len = payload.len() as u64;
            return Err(Error::SparseMap { offset: 0, path: display(&self.path), covered, len });
        }
        let mut map = Vec::with_capacity(8 * runs.len());
        for run in runs {
            map.extend_from_slice(&run.skip.to_le_bytes());
            map.extend_from_slice(&run.len.to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&map);
        crc.update(payload);
        let mut bytes = Vec::with_capacity(HEADROOM + map.len());
        chunk::put_prefix(&mut bytes, 0, b'S', &self.path);
        bytes.extend_from_slice(&(runs.len() as u32).to_le_bytes());
        let extent = Extent { len: covered, offset: self.offset, crc: crc.finalize() };
        chunk::put_extent(&mut bytes, extent);
        bytes.extend_from_slice(&map);
        let mut shared = lock(&self.shared);
        shared.write(&bytes)?;
        shared.write(payload)?;
        self.offset += covered + runs.iter().map(|run| u64::from(run.skip)).sum::<u64>();
        Ok(())
    }

    /// Writes one chunk whose payload `put` brings to the sink itself: exactly `len` bytes whose CRC-32 is `crc`. For
    /// sinks that the kernel can move bytes to (`sendfile`), and for payloads that are summed already.
    ///
    /// Nobody checks what `put` writes: with another length or another checksum, readers refuse the archive.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let writer = xbstream::Writer::new(Vec::new());
    /// let mut file = writer.file("000013.sst")?;
    /// file.chunk_by(4, crc32fast::hash(b"page"), |out| out.write_all(b"page"))?;
    /// file.finish()?;
    /// let archive = writer.finish()?;
    /// let mut reader = xbstream::Reader::new(&archive[..]);
    /// let mut payload = Vec::new();
    /// reader.next_chunk()?.unwrap().read_to_end(&mut payload)?;
    /// assert_eq!(payload, b"page");
    /// assert_eq!(reader.next_chunk()?.unwrap().header().kind, xbstream::ChunkKind::End);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the archive or `put` fails; the archive is of no use then.
    pub fn chunk_by(
        &mut self,
        len: u64,
        crc: u32,
        put: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.flush_chunk()?;
        let mut header = Vec::with_capacity(HEADROOM);
        chunk::put_prefix(&mut header, 0, b'P', &self.path);
        chunk::put_extent(&mut header, Extent { len, offset: self.offset, crc });
        let mut shared = lock(&self.shared);
        shared.write(&header)?;
        shared.put(len, put)?;
        self.offset += len;
        Ok(())
    }

    /// Writes what is buffered and the end of the file, and returns the file's length in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the archive fails, [`Error::Failed`] if it failed before.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.put_chunk(true)?;
        let mut shared = lock(&self.shared);
        shared.open.remove(&self.path);
        if self.buffer.capacity() > shared.spare.as_ref().map_or(0, Vec::capacity) {
            shared.spare = Some(std::mem::take(&mut self.buffer));
        }
        Ok(self.offset)
    }

    fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(HEADROOM)
    }

    fn make_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = lock(&self.shared).spare.take().unwrap_or_default();
            self.buffer.clear();
            self.buffer.resize(HEADROOM, 0);
        }
    }

    fn flush_chunk(&mut self) -> Result<(), Error> {
        self.put_chunk(false)
    }

    /// Writes the buffered payload as a chunk, if there is any, and the end of the file, if it is the last.
    /// Both leave in one write, so a small file costs one system call.
    fn put_chunk(&mut self, end: bool) -> Result<(), Error> {
        let len = self.pending();
        let mut tail = Vec::new();
        if end {
            chunk::put_prefix(&mut tail, 0, b'E', &self.path);
        }
        if len == 0 {
            return if end { lock(&self.shared).write(&tail) } else { Ok(()) };
        }
        let crc = crc32fast::hash(&self.buffer[HEADROOM..]);
        let mut header = Vec::with_capacity(HEADROOM);
        chunk::put_prefix(&mut header, 0, b'P', &self.path);
        chunk::put_extent(&mut header, Extent { len: len as u64, offset: self.offset, crc });
        let start = HEADROOM - header.len();
        self.buffer[start..HEADROOM].copy_from_slice(&header);
        self.buffer.extend_from_slice(&tail);
        lock(&self.shared).write(&self.buffer[start..])?;
        self.offset += len as u64;
        self.buffer.truncate(HEADROOM);
        Ok(())
    }
}

impl<W: Write> Write for FileWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_buffer();
        let n = bytes.len().min(self.chunk_size - self.pending());
        self.buffer.extend_from_slice(&bytes[..n]);
        if self.pending() == self.chunk_size {
            self.flush_chunk()?;
        }
        Ok(n)
    }

    /// Does nothing: a chunk goes out when it is full or the file is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.put(bytes.len() as u64, |out| out.write_all(bytes))
    }

    fn put(&mut self, len: u64, put: impl FnOnce(&mut W) -> io::Result<()>) -> Result<(), Error> {
        // Taken out while it is written to, so that a failure or a panic leaves none.
        let mut out = self.out.take().ok_or(Error::Failed)?;
        put(&mut out).map_err(|source| Error::Write { offset: self.position, source })?;
        self.out = Some(out);
        self.position += len;
        Ok(())
    }
}

/// A sink that panicked is gone ([`Shared::write`]), so the poison says nothing more.
fn lock<W>(shared: &Mutex<Shared<W>>) -> MutexGuard<'_, Shared<W>> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
