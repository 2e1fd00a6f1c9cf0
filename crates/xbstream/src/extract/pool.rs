//! The workers: several files at once, several payloads of one file at once, several pieces of one member at once;
//! memory bounded by the buffers that exist.
//!
//! Every job has a number in the order of the stream. When one fails, those before it are still done, so that the
//! failure that is told is the first of the stream.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::file::{Context, Done, Job, OutFile};
use super::member::{Member, Task};
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

/// Bytes of small payloads that wait at most, files that have something to be done, and payloads that wait where they
/// are.
const MAX_SMALL_BYTES: usize = 2 * 1024 * 1024;
const MAX_READY: usize = 4096;
const MAX_LEFT: usize = 4096;

/// Bytes of pieces, and of what they are decoded to, until they are written. One piece is always granted.
const MAX_TASK_BYTES: usize = 16 * 1024 * 1024;

/// Pieces of a member's outer layer that wait for the last layer at most.
const MAX_AHEAD: usize = 9;

/// Buffers of decoded pieces that are kept for the next ones.
const MAX_SPARE_PLAIN: usize = 4;

/// Files that are looked at to find one that no other worker writes to: two in one file wait for each other.
const LOOK_AHEAD: usize = 16;

/// Number of a file in the pool.
pub(super) type FileId = u64;

pub(super) struct Pool<'a> {
    context: &'a Context<'a>,
    on_done: &'a (dyn Fn(&Done) + Sync),
    max_plain: usize,
    state: Mutex<State>,
    /// Rank of the failure so far; whatever ranks higher need not be done.
    failed_at: AtomicU64,
    /// Something is ready, or nothing will come any more.
    work: Condvar,
    /// Memory is free, or nothing is left to do, or a worker failed: for the reading side.
    progress: Condvar,
    /// A piece was decoded and written: for the worker that has more of them.
    decoded: Condvar,
}

#[derive(Default)]
struct State {
    files: HashMap<FileId, Slot>,
    ready: VecDeque<FileId>,
    /// Pieces of members to be decoded, and memory of those that are not written yet.
    tasks: VecDeque<Task>,
    task_bytes: usize,
    /// Workers that have something in their hands.
    active: usize,
    /// Jobs numbered so far.
    jobs: u64,
    spare: Vec<Vec<u8>>,
    spare_plain: Vec<Vec<u8>>,
    buffers: usize,
    /// Large buffers on their way to a file that is not decoded.
    plain: usize,
    /// Payloads that wait where they are.
    left: usize,
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

/// A file that the pool works on.
pub(super) struct Slot {
    out: Arc<OutFile>,
    /// Of a member that is decoded; `None` while a worker has it.
    member: Option<Box<Member>>,
    is_member: bool,
    jobs: VecDeque<(u64, Job)>,
    /// Workers that do one of its jobs.
    active: usize,
    /// In `ready`.
    queued: bool,
}

impl Slot {
    pub(super) fn new(out: Arc<OutFile>, member: Option<Box<Member>>) -> Self {
        let is_member = member.is_some();
        Self { out, member, is_member, jobs: VecDeque::new(), active: 0, queued: false }
    }

    /// Whether a worker can do something: a member's jobs one after the other, those of other files side by side, but
    /// the end after all others.
    fn can_go_on(&self) -> bool {
        match self.jobs.front() {
            None => false,
            Some((_, Job::End { .. })) => self.active == 0,
            Some(_) => self.active == 0 || !self.is_member,
        }
    }
}

/// What a worker does next.
enum Next {
    Task(Task),
    Job(FileId, Arc<OutFile>, u64, Job),
    Member(FileId, Box<Member>, VecDeque<(u64, Job)>),
}

impl State {
    fn next(&mut self) -> Option<Next> {
        if let Some(task) = self.tasks.pop_front() {
            return Some(Next::Task(task));
        }
        let alone = |id: &FileId| self.files.get(id).is_some_and(|slot| slot.active == 0);
        let at = self.ready.iter().take(LOOK_AHEAD).position(alone).unwrap_or(0);
        let id = *self.ready.get(at)?;
        let slot = self.files.get_mut(&id)?;
        slot.active += 1;
        let next = if slot.is_member {
            Next::Member(id, slot.member.take()?, std::mem::take(&mut slot.jobs))
        } else {
            let (number, job) = slot.jobs.pop_front()?;
            Next::Job(id, Arc::clone(&slot.out), number, job)
        };
        if !slot.can_go_on() {
            slot.queued = false;
            self.ready.remove(at);
        }
        Some(next)
    }

    /// Puts a file in line if there is something to do for it.
    fn queue(&mut self, id: FileId) {
        if let Some(slot) = self.files.get_mut(&id)
            && !slot.queued
            && slot.can_go_on()
        {
            slot.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Whether there is no memory for so much of a piece. After a failure, what comes before it in the stream is done
    /// without a limit: what comes behind gives nothing back.
    fn is_short_of(&self, bytes: usize) -> bool {
        self.failed.is_none() && self.task_bytes > 0 && self.task_bytes + bytes > MAX_TASK_BYTES
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.tasks.is_empty() && self.active == 0
    }
}

impl<'a> Pool<'a> {
    pub(super) fn new(context: &'a Context<'a>, threads: usize, on_done: &'a (dyn Fn(&Done) + Sync)) -> Self {
        Self {
            context,
            on_done,
            max_plain: threads + PLAIN_AHEAD,
            state: Mutex::default(),
            failed_at: AtomicU64::new(u64::MAX),
            work: Condvar::new(),
            progress: Condvar::new(),
            decoded: Condvar::new(),
        }
    }

    pub(super) fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Adds a file under a number that no other has.
    pub(super) fn add(&self, id: FileId, slot: Slot) {
        self.lock().files.insert(id, slot);
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

    /// Gives a file's next jobs to the workers.
    pub(super) fn push(&self, id: FileId, jobs: impl IntoIterator<Item = Job>) -> Result<(), Error> {
        let mut guard = self.lock();
        while (guard.ready.len() >= MAX_READY || guard.left >= MAX_LEFT) && guard.failed.is_none() {
            guard = self.wait(guard);
        }
        let state = &mut *guard;
        if state.failed.is_some() {
            return Err(Error::Failed);
        }
        let Some(slot) = state.files.get_mut(&id) else { return Err(Error::Failed) };
        for job in jobs {
            state.left += usize::from(matches!(job, Job::Copy { .. }));
            slot.jobs.push_back((state.jobs, job));
            state.jobs += 1;
        }
        state.queue(id);
        if state.waiting_workers > 0 {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until everything that was given is done.
    pub(super) fn drain(&self) -> Result<(), Error> {
        let mut state = self.lock();
        while !state.is_idle() && state.failed.is_none() {
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
    pub(super) fn into_parts(self) -> (Sums, Option<Error>, Vec<Slot>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.done, state.failed, state.files.into_values().collect())
    }

    /// Does jobs until the pool is closed and nothing is left to do.
    pub(super) fn work(&self) {
        let mut buffer = Vec::new();
        let mut guard = self.lock();
        loop {
            let Some(next) = guard.next() else {
                if guard.closed && guard.is_idle() {
                    self.work.notify_all();
                    return;
                }
                guard.waiting_workers += 1;
                guard = self.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
                guard.waiting_workers -= 1;
                continue;
            };
            guard.active += 1;
            // Another one may find more.
            if guard.waiting_workers > 0 && !(guard.ready.is_empty() && guard.tasks.is_empty()) {
                self.work.notify_one();
            }
            drop(guard);
            match next {
                Next::Task(task) => self.task(task),
                Next::Job(id, out, number, job) => self.job(id, &out, number, job, &mut buffer),
                Next::Member(id, member, jobs) => self.member(id, member, jobs, &mut buffer),
            }
            guard = self.lock();
            guard.active -= 1;
            if guard.is_idle() {
                self.wake_reader(&mut guard);
                if guard.closed {
                    self.work.notify_all();
                }
            }
        }
    }

    fn job(&self, id: FileId, out: &OutFile, number: u64, job: Job, buffer: &mut Vec<u8>) {
        let result = match self.is_moot(2 * number) {
            true => Ok(None),
            false => out.run(&job, self.context, buffer),
        };
        self.release(job, false);
        if let Ok(Some(done)) = &result {
            self.count(done);
        }
        out.rest(self.context);
        let mut state = self.lock();
        match result {
            Ok(Some(_)) => drop(state.files.remove(&id)),
            Ok(None) => self.put_back(&mut state, id, None),
            Err(error) => {
                self.fail(&mut state, 2 * number, error);
                self.put_back(&mut state, id, None);
            }
        }
    }

    fn member(&self, id: FileId, mut member: Box<Member>, jobs: VecDeque<(u64, Job)>, buffer: &mut Vec<u8>) {
        let mut failed = None;
        let last = jobs.back().map_or(0, |(number, _)| *number);
        for (number, job) in jobs {
            let result = match failed.is_some() || self.is_moot(2 * number) {
                true => Ok(None),
                false => member.run(number, &job, self, buffer),
            };
            self.release(job, true);
            match result {
                Ok(None) => {}
                Ok(Some(done)) => {
                    self.count(&done);
                    drop(self.lock().files.remove(&id));
                    return;
                }
                Err(error) => failed = Some((Self::rank(member.blame(number, &error), &error), error)),
            }
        }
        if failed.is_none()
            && let Err(error) = member.settle(self)
        {
            failed = Some((Self::rank(member.blame(last, &error), &error), error));
        }
        member.rest(self.context);
        let mut state = self.lock();
        if let Some((rank, error)) = failed {
            self.fail(&mut state, rank, error);
        }
        self.put_back(&mut state, id, Some(member));
    }

    fn put_back(&self, state: &mut State, id: FileId, member: Option<Box<Member>>) {
        if let Some(slot) = state.files.get_mut(&id) {
            slot.active -= 1;
            slot.member = member;
        }
        state.queue(id);
    }

    fn task(&self, task: Task) {
        let number = task.job();
        if self.is_moot(2 * number) {
            return;
        }
        if let Err(error) = task.run(self) {
            self.fail(&mut self.lock(), Self::rank(number, &error), error);
        }
    }

    /// Two ranks for each job: what a decoder says of a payload counts for less than the payload's own checksum.
    fn rank(number: u64, error: &Error) -> u64 {
        2 * number + u64::from(matches!(error, Error::Member { .. }))
    }

    /// Whether something need not be done any more.
    fn is_moot(&self, rank: u64) -> bool {
        self.failed_at.load(Ordering::Relaxed) < rank
    }

    fn fail(&self, state: &mut State, rank: u64, error: Error) {
        let first = rank < self.failed_at.load(Ordering::Relaxed);
        // What only says that something failed before is no news.
        if state.failed.is_none() || first && !matches!(error, Error::Failed) {
            self.failed_at.store(rank, Ordering::Relaxed);
            state.failed = Some(error);
        }
        self.wake_reader(state);
        self.decoded.notify_all();
        self.work.notify_all();
    }

    /// Gives a piece to whoever is free, or lends a hand until there is memory for it.
    pub(super) fn give(&self, task: Task) -> Result<(), Error> {
        let mut state = self.lock();
        while state.is_short_of(task.memory()) {
            state = self.help(state, task.job())?;
        }
        self.hand(state, task);
        Ok(())
    }

    /// Gives a piece to whoever is free, or back if there is no memory for it.
    pub(super) fn offer(&self, task: Task) -> Result<(), Task> {
        let state = self.lock();
        if state.is_short_of(task.memory()) {
            return Err(task);
        }
        self.hand(state, task);
        Ok(())
    }

    fn hand(&self, mut state: MutexGuard<'_, State>, task: Task) {
        state.task_bytes += task.memory();
        state.tasks.push_back(task);
        if state.waiting_workers > 0 {
            self.work.notify_one();
        }
    }

    /// Does a piece at once, for which there is no memory.
    pub(super) fn do_now(&self, task: Task) -> Result<(), Error> {
        self.lock().task_bytes += task.memory();
        task.run(self)
    }

    /// Lends a hand until something of pieces is so. `job` is what it is waited for.
    pub(super) fn wait_until(&self, is_so: impl Fn() -> bool, job: u64) -> Result<(), Error> {
        let mut state = self.lock();
        while !is_so() {
            state = self.help(state, job)?;
        }
        Ok(())
    }

    /// Decodes one piece, or waits for those of others. An error when `job` need not be done any more.
    fn help<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        job: u64,
    ) -> Result<MutexGuard<'s, State>, Error> {
        if self.is_moot(2 * job) || state.failed.is_some() && self.is_moot(2 * job + 1) {
            return Err(Error::Failed);
        }
        let Some(task) = state.tasks.pop_front() else {
            return Ok(self.decoded.wait(state).unwrap_or_else(PoisonError::into_inner));
        };
        drop(state);
        self.task(task);
        Ok(self.lock())
    }

    /// Memory for a decoded piece.
    pub(super) fn plain_buffer(&self) -> Vec<u8> {
        self.lock().spare_plain.pop().unwrap_or_default()
    }

    /// Pieces of its outer layer that a member has decoded ahead.
    pub(super) fn ahead(&self) -> usize {
        (self.max_plain - PLAIN_AHEAD + 1).min(MAX_AHEAD)
    }

    /// Takes back the memory of a piece that is written, `granted` bytes by its own account.
    pub(super) fn take_back(&self, buffer: Vec<u8>, granted: usize) {
        let mut state = self.lock();
        state.task_bytes -= granted;
        if state.spare_plain.len() < MAX_SPARE_PLAIN {
            state.spare_plain.push(buffer);
        }
    }

    /// Tells those who wait for pieces to be written.
    pub(super) fn wrote(&self) {
        let _state = self.lock();
        self.decoded.notify_all();
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
        let mut state = self.lock();
        state.left -= usize::from(matches!(job, Job::Copy { .. }));
        if let Some(buffer) = job.into_buffer() {
            if buffer.capacity() >= BUFFER {
                state.plain -= usize::from(!decoded);
                state.spare.push(buffer);
            } else {
                state.small_bytes = state.small_bytes.saturating_sub(buffer.len());
            }
        }
        self.wake_reader(&mut state);
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

impl Slot {
    /// Removes what is unfinished.
    pub(super) fn discard(self, context: &Context<'_>) {
        match self.member {
            Some(mut member) => member.discard(context),
            None => self.out.discard(context),
        }
    }
}
