//! The reading side of an extraction: names, order and ends are checked here, and what can be refused is refused before
//! it touches the disk.

use std::io::Read;
use std::sync::Arc;

use super::file::{Context, Job, OutFile};
use super::member::Member;
use super::pool::{BUFFER, FileId, Pool, SMALL, Slot};
use crate::Error;
use crate::chunk::{ChunkKind, SparseRun};
use crate::path::{self, display};
use crate::reader::{Chunk, Left, Reader};
use crate::track::Tracker;

/// Most runs of a sparse map that one job writes.
const MAX_PIECES: usize = 8192;

/// The reading side.
pub(super) struct Feeder<'a, R> {
    pool: &'a Pool<'a>,
    context: &'a Context<'a>,
    /// How to leave a payload where it is, for a worker to read.
    leave: Option<fn(Chunk<'_, R>) -> Left>,
    files: Tracker<Begun>,
    next_id: FileId,
    held: Option<Held>,
}

/// A file that is begun and not ended.
struct Begun {
    id: FileId,
    /// Until the first job.
    file: Option<New>,
    decoded: bool,
    /// Its length so far, and how far it was written.
    size: u64,
    written: u64,
}

/// A file that the pool does not know yet.
struct New {
    out: Arc<OutFile>,
    /// If it is decoded.
    member: Option<Box<Member>>,
}

/// A job not handed over yet, and its file if that is its first one: the only payload of a small file goes together
/// with the file's end.
struct Held {
    id: FileId,
    file: Option<New>,
    job: Job,
}

impl<'a, R: Read> Feeder<'a, R> {
    pub(super) fn new(
        pool: &'a Pool<'a>,
        context: &'a Context<'a>,
        leave: Option<fn(Chunk<'_, R>) -> Left>,
    ) -> Self {
        Self { pool, context, leave, files: Tracker::new(), next_id: 0, held: None }
    }

    /// Reads the whole stream.
    pub(super) fn run(mut self, reader: &mut Reader<R>) -> Result<(), Error> {
        while let Some(chunk) = reader.next_chunk()? {
            self.chunk(chunk)?;
        }
        self.hand_over()?;
        self.files.check_complete()
    }

    fn chunk(&mut self, chunk: Chunk<'_, R>) -> Result<(), Error> {
        let header = chunk.header();
        match &header.kind {
            ChunkKind::Ignorable { .. } => return Ok(()),
            ChunkKind::Rename { to } => return self.rename(&header.path, to),
            ChunkKind::Remove => return self.remove(&header.path),
            _ => {}
        }
        if !self.files.is_open(&header.path) {
            self.begin(&header.path, header.is_rewrite())?;
        }
        if header.kind == ChunkKind::End {
            return self.end(&header.path);
        }
        let Some(file) = self.files.open(&header.path) else { return Err(Error::Failed) };
        let plain = matches!(header.kind, ChunkKind::Payload { .. });
        if file.with.decoded && !plain {
            return Err(Error::ScatteredMember { path: display(&header.path) });
        }
        let before = file.next;
        file.advance(header)?;
        if let ChunkKind::Seek { offset } = header.kind
            && offset < before
        {
            // What comes now replaces what may still be on its way.
            self.hand_over()?;
            return self.pool.drain();
        }
        let id = file.with.id;
        let new = if header.payload_len() > 0 { file.with.file.take() } else { None };
        match &header.kind {
            ChunkKind::Payload { offset, len } => {
                file.with.size = file.with.size.max(file.next);
                file.with.written = file.with.written.max(file.next);
                let (decoded, offset, len) = (file.with.decoded, *offset, *len);
                self.payload((id, new, decoded), chunk, offset, len)
            }
            ChunkKind::Sparse { offset, runs, len } => {
                file.with.size = file.with.size.max(file.next);
                let hole = runs
                    .iter()
                    .rev()
                    .take_while(|run| run.len == 0)
                    .map(|run| u64::from(run.skip))
                    .sum::<u64>();
                let (data_end, runs) = (file.next - hole, runs.clone());
                if *len > 0 {
                    file.with.written = file.with.written.max(data_end);
                }
                let (offset, len) = (*offset, *len);
                self.sparse((id, new), chunk, offset, len, &runs)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, path: &[u8], rewrite: bool) -> Result<(), Error> {
        path::check(path)?;
        let (name, formats) = self.context.decoding.of(path);
        path::check(name)?;
        // Rewriting replaces only what this stream has written.
        let replace = rewrite && self.files.names().has(name);
        if !self.files.names().take(name) && !replace {
            return Err(Error::Duplicate { path: display(path) });
        }
        if replace {
            // The earlier contents may still be on their way.
            self.hand_over()?;
            self.pool.drain()?;
        }
        let out = Arc::new(OutFile::new(name, replace));
        let decoded = !formats.is_empty();
        let member = decoded.then(|| Box::new(Member::new(path, Arc::clone(&out), formats)));
        let (id, file) = (self.next_id, New { out, member });
        self.next_id += 1;
        self.files.begin(path, Begun { id, decoded, file: Some(file), size: 0, written: 0 });
        Ok(())
    }

    fn end(&mut self, path: &[u8]) -> Result<(), Error> {
        let Some(file) = self.files.end(path) else { return Err(Error::Failed) };
        let Begun { id, file, size, written, .. } = file.with;
        let end = Job::End { size, hole: size > written };
        let (file, first) = match self.held.take() {
            Some(held) if held.id == id => (held.file, Some(held.job)),
            held => {
                self.held = held;
                self.hand_over()?;
                (file, None)
            }
        };
        let jobs = first.into_iter().chain([end]);
        match file {
            Some(New { out, member: None }) if size <= SMALL as u64 => self.write_here(&out, jobs),
            file => self.push(id, file, jobs),
        }
    }

    /// Writes a small file at once: handing it to a worker takes longer, and several workers in one directory wait for
    /// each other. 100,000 files of 512 bytes took 1.8 s by two workers.
    fn write_here(&mut self, file: &OutFile, jobs: impl Iterator<Item = Job>) -> Result<(), Error> {
        for job in jobs {
            let result = file.run(&job, self.context, &mut Vec::new());
            self.pool.release(job, false);
            match result {
                Ok(None) => {}
                Ok(Some(done)) => self.pool.count(&done),
                Err(error) => {
                    file.discard(self.context);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn push(&self, id: FileId, file: Option<New>, jobs: impl IntoIterator<Item = Job>) -> Result<(), Error> {
        if let Some(New { out, member }) = file {
            self.pool.add(id, Slot::new(out, member));
        }
        self.pool.push(id, jobs)
    }

    fn payload(
        &mut self,
        (id, mut file, decoded): (FileId, Option<New>, bool),
        mut chunk: Chunk<'_, R>,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        if let Some(leave) = self.leave
            && len > SMALL as u64
        {
            self.hand_over()?;
            return self.push(id, file.take(), [Job::Copy { offset, left: leave(chunk) }]);
        }
        let mut done = 0;
        while done < len {
            let bytes = self.fill(&mut chunk, len - done, decoded)?;
            let job = Job::Data { offset: offset + done, bytes };
            done += job.len() as u64;
            self.hold(id, file.take(), job)?;
        }
        Ok(())
    }

    fn sparse(
        &mut self,
        (id, mut file): (FileId, Option<New>),
        mut chunk: Chunk<'_, R>,
        offset: u64,
        len: u64,
        runs: &[SparseRun],
    ) -> Result<(), Error> {
        let (mut at, mut left_in_run, mut next, mut done) = (offset, 0, 0, 0);
        while done < len {
            // No more runs at a time than memory for their positions is fair.
            let ahead = runs[next..].iter().take(MAX_PIECES).map(|run| u64::from(run.len)).sum::<u64>();
            let bytes = self.fill(&mut chunk, (ahead + left_in_run as u64).min(len - done), false)?;
            let mut pieces = Vec::new();
            let mut left = bytes.len();
            while left > 0 {
                if left_in_run == 0 {
                    // The map covers the payload, so there is a run.
                    let Some(run) = runs.get(next) else { return Err(Error::Failed) };
                    next += 1;
                    at += u64::from(run.skip);
                    left_in_run = run.len as usize;
                    continue;
                }
                let n = left.min(left_in_run);
                pieces.push((at, n));
                at += n as u64;
                left -= n;
                left_in_run -= n;
            }
            done += bytes.len() as u64;
            if !bytes.is_empty() {
                self.hold(id, file.take(), Job::Scatter { pieces, bytes })?;
            } else {
                // Nothing but holes in this part of the map.
                at += runs[next..].iter().take(MAX_PIECES).map(|run| u64::from(run.skip)).sum::<u64>();
                next = runs.len().min(next + MAX_PIECES);
            }
        }
        Ok(())
    }

    /// The next bytes of a payload that has `left` more, in a buffer whose length is their number.
    fn fill(&mut self, chunk: &mut Chunk<'_, R>, left: u64, decoded: bool) -> Result<Vec<u8>, Error> {
        // What is held owns a buffer that may be the last one.
        self.hand_over()?;
        let mut buffer = self.pool.buffer(left, decoded)?;
        buffer.resize(buffer.capacity().min(BUFFER).max(buffer.len()), 0);
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut done = 0;
        while done < max {
            match chunk.read_payload(&mut buffer[done..max])? {
                0 => break,
                n => done += n,
            }
        }
        buffer.truncate(done);
        Ok(buffer)
    }

    fn hold(&mut self, id: FileId, file: Option<New>, job: Job) -> Result<(), Error> {
        self.hand_over()?;
        self.held = Some(Held { id, file, job });
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        match self.held.take() {
            Some(Held { id, file, job }) => self.push(id, file, [job]),
            None => Ok(()),
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        for path in [from, to] {
            path::check(path)?;
            if self.files.is_open(path) {
                return Err(Error::StillOpen { path: display(path) });
            }
        }
        let (from, to) = (self.context.decoding.of(from).0, self.context.decoding.of(to).0);
        // The writer also sends renames of files that it never sent.
        if !self.files.names().has(from) || from == to {
            return Ok(());
        }
        self.hand_over()?;
        self.pool.drain()?;
        let replace = self.files.names().has(to);
        self.context.target.rename(from, to, replace)?;
        self.files.names().free(from);
        self.files.names().take(to);
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), Error> {
        path::check(path)?;
        if self.files.is_open(path) {
            return Err(Error::StillOpen { path: display(path) });
        }
        let name = self.context.decoding.of(path).0;
        if !self.files.names().has(name) {
            return Ok(());
        }
        self.hand_over()?;
        self.pool.drain()?;
        self.context.target.remove(name)?;
        self.files.names().free(name);
        Ok(())
    }
}
