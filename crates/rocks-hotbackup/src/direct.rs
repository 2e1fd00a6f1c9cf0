//! Reading around the page cache, as fast as with it.
//!
//! A direct read has no read-ahead: one thread that reads and writes in turn leaves the disk idle half of the time. So
//! several threads read chunks of one file ahead, and the chunks are handed out in order.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Bytes of one read; a multiple of every device's block.
const CHUNK: usize = 1024 * 1024;

/// Alignment of memory and offsets that every device accepts.
const ALIGN: usize = 4096;

/// A buffer whose used part begins at a multiple of [`ALIGN`].
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN);
        Self { memory, start, len: 0 }
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + CHUNK]
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

type Chunk = (u64, io::Result<Aligned>);

/// A file that several threads read ahead with `O_DIRECT`.
pub(crate) struct DirectReader {
    chunks: Receiver<Chunk>,
    free: Vec<SyncSender<Aligned>>,
    threads: Vec<JoinHandle<()>>,
    end: Arc<AtomicBool>,
    /// Chunks that came before their turn.
    early: BTreeMap<u64, Aligned>,
    /// The chunk that is lent out, and whose thread gets its buffer back.
    current: Option<(u64, Aligned)>,
    next: u64,
    len: u64,
}

impl DirectReader {
    /// Opens a file of `len` bytes, or `None` where direct reads are not possible or not worth it.
    pub(crate) fn open(path: &Path, len: u64, readers: usize) -> io::Result<Option<Self>> {
        let flag = rustix::fs::OFlags::DIRECT.bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flag).open(path) {
            Ok(file) => file,
            // The file system has no direct I/O.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => return Ok(None),
            Err(e) => return Err(e),
        };
        let count = len.div_ceil(CHUNK as u64);
        let readers = (readers.clamp(1, 16) as u64).min(count.max(1));
        let (file, end, order) =
            (Arc::new(file), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (chunks_in, chunks) = channel();
        let mut this = Self {
            chunks,
            free: Vec::new(),
            threads: Vec::new(),
            end: Arc::clone(&end),
            early: BTreeMap::new(),
            current: None,
            next: 0,
            len,
        };
        for _ in 0..readers {
            // Two buffers for each thread bound the memory, and with it how far a thread can run ahead.
            let (give, take) = sync_channel(2);
            for _ in 0..2 {
                let _ = give.send(Aligned::new());
            }
            let work = Worker {
                file: Arc::clone(&file),
                order: Arc::clone(&order),
                end: Arc::clone(&end),
                free: take,
                chunks: chunks_in.clone(),
                count,
                stride: readers,
            };
            this.free.push(give);
            this.threads
                .push(std::thread::Builder::new().name("direct-read".into()).spawn(move || work.run())?);
        }
        Ok(Some(this))
    }

    /// The next bytes; empty at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        if let Some((index, buffer)) = self.current.take() {
            let owner = (index % self.free.len() as u64) as usize;
            let _ = self.free[owner].try_send(buffer);
        }
        if self.next * CHUNK as u64 >= self.len {
            return Ok(&[]);
        }
        let buffer = loop {
            if let Some(buffer) = self.early.remove(&self.next) {
                break buffer;
            }
            let (index, buffer) =
                self.chunks.recv().map_err(|_| io::Error::other("the reading threads ended early"))?;
            self.early.insert(index, buffer?);
        };
        let index = self.next;
        self.next += 1;
        let (_, buffer) = self.current.insert((index, buffer));
        let rest = self.len - index * CHUNK as u64;
        let filled = buffer.filled();
        Ok(&filled[..filled.len().min(usize::try_from(rest).unwrap_or(usize::MAX))])
    }
}

impl Drop for DirectReader {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Threads that wait for a buffer see that there will be none.
        self.free.clear();
        self.current = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    file: Arc<File>,
    /// Hands out the place of each thread in the row.
    order: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    free: Receiver<Aligned>,
    chunks: Sender<Chunk>,
    count: u64,
    stride: u64,
}

impl Worker {
    /// Reads every `stride`-th chunk.
    fn run(self) {
        let mut index = self.order.fetch_add(1, Ordering::Relaxed);
        while index < self.count && !self.end.load(Ordering::Relaxed) {
            let Ok(mut buffer) = self.free.recv() else { return };
            let chunk = self.fill(index, &mut buffer).map(|()| buffer);
            let failed = chunk.is_err();
            if self.chunks.send((index, chunk)).is_err() || failed {
                return;
            }
            index += self.stride;
        }
    }

    fn fill(&self, index: u64, buffer: &mut Aligned) -> io::Result<()> {
        let start = index * CHUNK as u64;
        let mut len = 0;
        // A short direct read is the end of the file, unless it ends at a block: then the rest follows.
        while len < CHUNK {
            match rustix::io::pread(&self.file, &mut buffer.space()[len..], start + len as u64) {
                Ok(0) => break,
                Ok(n) => {
                    len += n;
                    if !n.is_multiple_of(ALIGN) {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        buffer.len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7 + i / CHUNK * 31) as u8).collect()
    }

    #[test]
    fn every_length_around_a_chunk_is_read_in_order_by_any_number_of_threads() {
        // The directory of the build and not /tmp: that one may be a tmpfs, which older kernels read not directly.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        for len in [0, 1, 4095, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 12345] {
            let expected = pattern(len);
            std::fs::write(&path, &expected).unwrap();
            for readers in [1, 2, 3, 8] {
                let mut reader = DirectReader::open(&path, len as u64, readers).unwrap().expect("direct I/O");
                let mut got = Vec::new();
                loop {
                    let bytes = reader.next().unwrap();
                    if bytes.is_empty() {
                        break;
                    }
                    got.extend_from_slice(bytes);
                }
                assert!(got == expected, "{len} bytes with {readers} readers");
            }
        }
    }

    #[test]
    fn a_reader_that_is_dropped_early_ends_its_threads() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, pattern(20 * CHUNK)).unwrap();
        let mut reader = DirectReader::open(&path, 20 * CHUNK as u64, 4).unwrap().expect("direct I/O");
        assert_eq!(reader.next().unwrap().len(), CHUNK);
        drop(reader);
    }
}
