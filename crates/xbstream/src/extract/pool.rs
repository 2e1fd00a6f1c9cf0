//! The workers: files in parallel, each file's jobs in order, memory bounded by the buffers that exist.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::file::{Context, Done, Job, OutFile};
use crate::Error;

/// Capacity of a large buffer, in bytes.
pub(super) const BUFFER: usize = 256 * 1024;

/// Large buffers that exist at most: 16 MiB. As many may wait for decoders, so that several members of one file
/// after the other are decoded at once.
const MAX_BUFFERS: usize = 64;

/// Large buffers that may wait to be written as they are, beside one for each worker. More of them only leave the
/// processor's cache before they are written: with 48 buffers of 512 KiB extracting took twice as long.
const PLAIN_AHEAD: usize = 2;

/// A payload of up to this many bytes gets memory of its own size instead of a large buffer.
pub(super) const SMALL: usize = 32 * 1024;

/// Bytes of small payloads that wait at most, and files that have something to be done.
const MAX_SMALL_BYTES: usize = 2 * 1024 * 1024;
const MAX_READY: usize = 4096;

/// Number of a file in the pool.
pub(super) type FileId = u64;

pub(super) struct Pool<'a> {
    context: &'a Context,
    on_done: &'a (dyn Fn(&Done) + Sync),
    max_plain: usize,
    state: Mutex<State>,
    /// Something is ready, or nothing will come any more.
    work: Condvar,
    /// Memory is free, or a file is at rest, or a worker failed.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<FileId, Slot>,
    ready: VecDeque<FileId>,
    /// Files that are ready or in a worker's hands.
    busy: usize,
    spare: Vec<Vec<u8>>,
    buffers: usize,
    /// Large buffers on their way to a file that is not decoded.
    plain: usize,
    small_bytes: usize,
    waiting_workers: usize,
    /// The reading side waits. Waking nobody would still be a system call, twice for each file.
    reader_waits: bool,
    closed: bool,
    failed: Option<Error>,
    done: Sums,
}

/// What the finished files add up to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) decoded: u64,
}

#[derive(Debug)]
struct Slot {
    jobs: VecDeque<Job>,
    /// `None` while a worker has it.
    file: Option<Box<OutFile>>,
    /// In `ready`, or in a worker's hands.
    busy: bool,
}

impl<'a> Pool<'a> {
    pub(super) fn new(context: &'a Context, threads: usize, on_done: &'a (dyn Fn(&Done) + Sync)) -> Self {
        Self {
            context,
            on_done,
            max_plain: threads + PLAIN_AHEAD,
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Adds a file under a number that no other has.
    pub(super) fn add(&self, id: FileId, file: Box<OutFile>) {
        self.lock().files.insert(id, Slot { jobs: VecDeque::new(), file: Some(file), busy: false });
    }

    /// A buffer for `len` bytes or, if that is less, of [`BUFFER`] bytes; waits until there is one.
    pub(super) fn buffer(&self, len: u64, decoded: bool) -> Result<Vec<u8>, Error> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return Err(Error::Failed);
            }
            if len <= SMALL as u64 {
                let len = len as usize;
                if state.small_bytes + len <= MAX_SMALL_BYTES && state.ready.len() < MAX_READY {
                    state.small_bytes += len;
                    return Ok(vec![0; len]);
                }
            } else if !decoded && state.plain >= self.max_plain {
                // Wait.
            } else if let Some(buffer) = state.spare.pop() {
                state.plain += usize::from(!decoded);
                return Ok(buffer);
            } else if state.buffers < MAX_BUFFERS {
                state.plain += usize::from(!decoded);
                state.buffers += 1;
                drop(state);
                return Ok(vec![0; BUFFER]);
            }
            state = self.wait(state);
        }
    }

    /// Gives a file something to be done.
    pub(super) fn push(&self, id: FileId, jobs: impl IntoIterator<Item = Job>) -> Result<(), Error> {
        let mut guard = self.lock();
        while guard.ready.len() >= MAX_READY && guard.failed.is_none() {
            guard = self.wait(guard);
        }
        let state = &mut *guard;
        if state.failed.is_some() {
            return Err(Error::Failed);
        }
        let Some(slot) = state.files.get_mut(&id) else { return Err(Error::Failed) };
        slot.jobs.extend(jobs);
        if !slot.busy {
            slot.busy = true;
            state.busy += 1;
            state.ready.push_back(id);
            if state.waiting_workers > 0 {
                self.work.notify_one();
            }
        }
        Ok(())
    }

    /// Waits until everything that was given is done.
    pub(super) fn drain(&self) -> Result<(), Error> {
        let mut state = self.lock();
        while state.busy > 0 && state.failed.is_none() {
            state = self.wait(state);
        }
        if state.failed.is_some() { Err(Error::Failed) } else { Ok(()) }
    }

    /// Lets the workers end when everything is done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// What was done, the first failure, and the files that are not finished. Called when no worker runs.
    pub(super) fn into_parts(self) -> (Sums, Option<Error>, Vec<OutFile>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let files = state.files.into_values().filter_map(|slot| slot.file).map(|file| *file).collect();
        (state.done, state.failed, files)
    }

    /// Does jobs until the pool is closed or something failed.
    pub(super) fn work(&self) {
        let mut guard = self.lock();
        loop {
            let state = &mut *guard;
            if state.failed.is_some() {
                return;
            }
            let Some(id) = state.ready.pop_front() else {
                if state.closed {
                    return;
                }
                state.waiting_workers += 1;
                guard = self.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
                guard.waiting_workers -= 1;
                continue;
            };
            let Some(slot) = state.files.get_mut(&id) else { continue };
            let (mut jobs, file) = (std::mem::take(&mut slot.jobs), slot.file.take());
            drop(guard);
            let Some(mut file) = file else { return };
            let result = self.run(&mut file, &mut jobs);
            guard = self.lock();
            self.put_back(&mut guard, id, file, result);
        }
    }

    /// Does `jobs` and gives each one's memory back at once.
    fn run(&self, file: &mut OutFile, jobs: &mut VecDeque<Job>) -> Result<Option<Done>, Error> {
        while let Some(job) = jobs.pop_front() {
            let result = file.run(&job, self.context);
            self.release(job, file.is_decoded());
            if let Some(done) = result? {
                self.count(&done);
                return Ok(Some(done));
            }
        }
        file.rest(self.context);
        Ok(None)
    }

    /// Tells of a finished file.
    pub(super) fn count(&self, done: &Done) {
        (self.on_done)(done);
        let mut state = self.lock();
        state.done.files += 1;
        state.done.bytes += done.size;
        state.done.decoded += u64::from(done.decoded);
    }

    /// Takes back the memory of a job that is done.
    pub(super) fn release(&self, job: Job, decoded: bool) {
        let Some(buffer) = job.into_buffer() else { return };
        let mut state = self.lock();
        if buffer.capacity() >= BUFFER {
            state.plain -= usize::from(!decoded);
            state.spare.push(buffer);
        } else {
            state.small_bytes = state.small_bytes.saturating_sub(buffer.len());
        }
        self.wake_reader(&mut state);
    }

    fn put_back(
        &self,
        state: &mut State,
        id: FileId,
        file: Box<OutFile>,
        result: Result<Option<Done>, Error>,
    ) {
        match result {
            Ok(Some(_)) => {
                state.files.remove(&id);
                state.busy -= 1;
            }
            other => {
                let Some(slot) = state.files.get_mut(&id) else { return };
                slot.file = Some(file);
                if let Err(error) = other {
                    state.failed.get_or_insert(error);
                    self.work.notify_all();
                } else if slot.jobs.is_empty() {
                    slot.busy = false;
                    state.busy -= 1;
                } else {
                    state.ready.push_back(id);
                }
            }
        }
        self.wake_reader(state);
    }

    fn wake_reader(&self, state: &mut State) {
        if std::mem::take(&mut state.reader_waits) {
            self.progress.notify_one();
        }
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.reader_waits = true;
        self.progress.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that panicked ends the whole extraction when it is joined, so the poison says nothing more.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
