//! A compressed or encrypted member on its way to disk: one thread at a time takes its bytes in order and cuts off what
//! can be decoded by others, and what all of them decode is written in the order of the member.
//!
//! Where one layer is around another, pieces of the outer one are decoded ahead by others, too; the one thread takes
//! what they hold in their order and cuts it again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{Context, Done, Job, OutFile};
use super::pool::Pool;
use crate::Error;
use crate::member::{DecodeError, Decoder, Format, Layer, Outlet, Output, Piece, push_last};
use crate::path::display;

/// A member that is not finished.
#[derive(Debug)]
pub(super) struct Member {
    formats: Box<[Format]>,
    shared: Arc<Shared>,
    state: State,
    ahead: VecDeque<Arc<Ahead>>,
    /// The job of a piece of the outer layer that failed, perhaps while a later one was done.
    blamed: Option<u64>,
}

/// What those who decode pieces of a member share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The member's name in the stream.
    name: Box<[u8]>,
    out: Arc<OutFile>,
    order: Mutex<Order>,
    /// Bytes written.
    written: AtomicU64,
    /// The thread that has the member has memory for pieces of its outer layer, and so must not wait for more.
    layered: bool,
}

/// A piece of the outer layer, for the last one.
#[derive(Debug)]
struct Ahead {
    job: u64,
    granted: usize,
    /// `None` until it is decoded.
    plain: Mutex<Option<Result<Vec<u8>, DecodeError>>>,
}

/// Decoded pieces that wait for those before them.
#[derive(Debug, Default)]
struct Order {
    /// Number of the next piece, and of the one that is written next.
    given: u64,
    next: u64,
    waiting: BTreeMap<u64, Plain>,
    /// A thread is writing.
    writing: bool,
}

/// A decoded piece, and the memory that was granted for it.
#[derive(Debug)]
struct Plain {
    bytes: Vec<u8>,
    granted: usize,
}

#[derive(Debug)]
enum State {
    New,
    Decoding(Box<Decoder>),
    /// As it comes, under the member's name, to be decoded at the end: too many members are open.
    Stored(OutFile),
}

/// A piece of a member, in the queue.
pub(super) struct Task {
    piece: Piece,
    /// The job that brought its end.
    job: u64,
    to: To,
}

/// What becomes of the plain bytes.
enum To {
    /// They are written, as the piece of this number.
    File { number: u64, member: Arc<Shared> },
    /// They are for the last layer.
    Ahead(Arc<Ahead>),
}

/// What decoding is done for: a job, by its number.
#[derive(Clone, Copy)]
struct For<'a> {
    job: u64,
    pool: &'a Pool<'a>,
}

impl Member {
    pub(super) fn new(name: &[u8], out: Arc<OutFile>, formats: Vec<Format>) -> Self {
        let (order, written, layered) = (Mutex::default(), AtomicU64::new(0), formats.len() > 1);
        let shared = Arc::new(Shared { name: name.into(), out, order, written, layered });
        Self { formats: formats.into(), shared, state: State::New, ahead: VecDeque::new(), blamed: None }
    }

    /// Does one job; the last one gives the finished file.
    pub(super) fn run(
        &mut self,
        number: u64,
        job: &Job,
        pool: &Pool<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Done>, Error> {
        let for_job = &For { job: number, pool };
        if let State::New = self.state {
            self.begin(pool.context())?;
        }
        match job {
            Job::Data { offset, bytes } => self.take(*offset, bytes, for_job)?,
            Job::Copy { offset, left } => {
                let (name, mut offset) = (Arc::clone(&self.shared), *offset);
                left.read(pool.context().source, (&name.name, offset), buffer, |bytes| {
                    self.take(offset, bytes, for_job)?;
                    offset += bytes.len() as u64;
                    Ok(())
                })?;
            }
            // The reading side refuses such members.
            Job::Scatter { .. } => return Err(Error::ScatteredMember { path: display(&self.shared.name) }),
            Job::End { .. } => return self.end(for_job).map(Some),
        }
        Ok(None)
    }

    fn begin(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let before = context.limits.decoders.fetch_add(1, Ordering::Relaxed);
        self.state = if before < context.limits.max_decoders {
            State::Decoding(self.decoder(context)?)
        } else {
            context.limits.decoders.fetch_sub(1, Ordering::Relaxed);
            State::Stored(self.shared.out.beside(&self.shared.name))
        };
        // A name that is taken is refused here, not only when there is something to write.
        match &self.state {
            State::Stored(stored) => stored.open(context).map(drop),
            _ => self.shared.out.open(context).map(drop),
        }
    }

    fn decoder(&self, context: &Context<'_>) -> Result<Box<Decoder>, Error> {
        context.decoding.decoder(&self.formats).map(Box::new).map_err(|e| self.shared.damaged(e))
    }

    fn take(&mut self, offset: u64, bytes: &[u8], on: &For<'_>) -> Result<(), Error> {
        let Self { shared, state, ahead, blamed, .. } = self;
        match state {
            State::Decoding(decoder) => Layers::new(shared, decoder, ahead, blamed).push(bytes, *on),
            State::Stored(stored) => stored.write(offset, bytes, on.pool.context()),
            State::New => Err(Error::Failed),
        }
    }

    /// Sees to what was decoded ahead.
    pub(super) fn settle(&mut self, pool: &Pool<'_>) -> Result<(), Error> {
        let Self { shared, state, ahead, blamed, .. } = self;
        match state {
            State::Decoding(decoder) => Layers::new(shared, decoder, ahead, blamed).settle(pool),
            _ => Ok(()),
        }
    }

    /// The job that an error is of, which came to light while job `now` was done.
    pub(super) fn blame(&self, now: u64, error: &Error) -> u64 {
        match error {
            Error::Checksum { .. } | Error::Truncated { .. } | Error::Read { .. } => now,
            _ => self.blamed.unwrap_or(now),
        }
    }

    /// Called when nothing is to be done for now.
    pub(super) fn rest(&self, context: &Context<'_>) {
        match &self.state {
            State::Stored(stored) => stored.rest(context),
            _ => self.shared.out.rest(context),
        }
    }

    fn end(&mut self, on: &For<'_>) -> Result<Done, Error> {
        let context = on.pool.context();
        let Self { shared, state, ahead, blamed, formats } = self;
        match state {
            State::Decoding(decoder) => Layers::new(shared, decoder, ahead, blamed).finish(*on)?,
            State::Stored(stored) => {
                let mut input = stored.read(context)?;
                let mut decoder = context.decoding.decoder(formats).map_err(|e| shared.damaged(e))?;
                let mut layers = Layers::new(shared, &mut decoder, ahead, blamed);
                let mut buffer = vec![0; 128 * 1024];
                loop {
                    match input.read(&mut buffer) {
                        Ok(0) => break layers.finish(*on)?,
                        Ok(n) => layers.push(&buffer[..n], *on)?,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(shared.damaged(DecodeError::Input(e))),
                    }
                }
            }
            State::New => return Err(Error::Failed),
        }
        on.pool.wait_until(|| self.shared.is_idle(), on.job)?;
        self.shared.out.end(None, context)?;
        self.discard(context);
        let size = self.shared.written.load(Ordering::Relaxed);
        Ok(Done { path: self.shared.out.path().into(), size, decoded: true })
    }

    /// Removes what is unfinished and gives back what is limited.
    pub(super) fn discard(&mut self, context: &Context<'_>) {
        match std::mem::replace(&mut self.state, State::New) {
            State::Decoding(_) => {
                context.limits.decoders.fetch_sub(1, Ordering::Relaxed);
            }
            State::Stored(stored) => stored.discard(context),
            State::New => {}
        }
        self.shared.out.discard(context);
    }
}

/// The layers of a member in the hands of a thread.
struct Layers<'m> {
    shared: &'m Arc<Shared>,
    outer: &'m mut Option<Layer>,
    last: &'m mut Option<Layer>,
    ahead: &'m mut VecDeque<Arc<Ahead>>,
    blamed: &'m mut Option<u64>,
}

impl<'m> Layers<'m> {
    fn new(
        shared: &'m Arc<Shared>,
        decoder: &'m mut Decoder,
        ahead: &'m mut VecDeque<Arc<Ahead>>,
        blamed: &'m mut Option<u64>,
    ) -> Self {
        let Decoder { outer, last } = decoder;
        Self { shared, outer, last, ahead, blamed }
    }

    fn push(&mut self, bytes: &[u8], on: For<'_>) -> Result<(), Error> {
        self.outer(bytes, |outer, outlet| outer.push(bytes, outlet), on)
    }

    fn finish(&mut self, on: For<'_>) -> Result<(), Error> {
        self.outer(&[], |outer, outlet| outer.finish(outlet), on)?;
        self.settle(on.pool)?;
        match self.last {
            Some(last) => self.shared.decode(|outlet| last.finish(outlet), on),
            None => Ok(()),
        }
    }

    /// Does a step of the outer layer; `bytes` are for the last one if there is no other.
    fn outer(
        &mut self,
        bytes: &[u8],
        step: impl FnOnce(&mut Layer, &mut Outlet<'_>) -> Result<(), DecodeError>,
        on: For<'_>,
    ) -> Result<(), Error> {
        let Some(mut outer) = self.outer.take() else { return self.last(bytes, on) };
        let shared = self.shared;
        let see = |output: Output<'_>| match output {
            Output::Piece(piece) => self.add(piece, on),
            Output::Plain(bytes) => self.settle(on.pool).and_then(|()| self.last(bytes, on)),
        };
        let done = shared.run(|outlet| step(&mut outer, outlet), see);
        *self.outer = Some(outer);
        // What is wrong with an earlier piece comes first.
        done.or_else(|error| self.settle(on.pool).and(Err(error)))
    }

    fn last(&mut self, bytes: &[u8], on: For<'_>) -> Result<(), Error> {
        self.shared.decode(|outlet| push_last(self.last, bytes, outlet), on)
    }

    /// Has a piece of the outer layer decoded.
    fn add(&mut self, piece: Piece, on: For<'_>) -> Result<(), Error> {
        let For { job, pool } = on;
        while self.ahead.len() >= pool.ahead() {
            self.next(pool)?;
        }
        let ahead = Arc::new(Ahead { job, granted: piece.memory(), plain: Mutex::default() });
        self.ahead.push_back(Arc::clone(&ahead));
        let mut task = Task { piece, job, to: To::Ahead(ahead) };
        while let Err(back) = pool.offer(task) {
            if self.ahead.len() == 1 {
                return pool.do_now(back);
            }
            self.next(pool)?;
            task = back;
        }
        Ok(())
    }

    /// Gives the last layer everything that was decoded ahead.
    fn settle(&mut self, pool: &Pool<'_>) -> Result<(), Error> {
        while !self.ahead.is_empty() {
            self.next(pool)?;
        }
        Ok(())
    }

    /// Gives the last layer the next piece.
    fn next(&mut self, pool: &Pool<'_>) -> Result<(), Error> {
        let Some(ahead) = self.ahead.pop_front() else { return Ok(()) };
        let done = self.take(&ahead, pool);
        if done.is_err() {
            // Nothing of the member is done any more.
            self.ahead.clear();
            *self.blamed = Some(ahead.job);
        }
        done
    }

    fn take(&mut self, ahead: &Ahead, pool: &Pool<'_>) -> Result<(), Error> {
        pool.wait_until(|| ahead.lock().is_some(), ahead.job)?;
        let Some(plain) = ahead.lock().take() else { return Err(Error::Failed) };
        let plain = plain.map_err(|e| self.shared.damaged(e))?;
        let done = self.last(&plain, For { job: ahead.job, pool });
        pool.take_back(plain, ahead.granted);
        done
    }
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Vec<u8>, DecodeError>>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Runs `step`; `see` takes what it gives out, and its error is the one that counts.
    fn run(
        &self,
        step: impl FnOnce(&mut Outlet<'_>) -> Result<(), DecodeError>,
        mut see: impl FnMut(Output<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut failed = None;
        let result = step(&mut |output| {
            see(output).map_err(|error| {
                failed = Some(error);
                DecodeError::Output(io::Error::other("see the error beside"))
            })
        });
        match failed {
            Some(error) => Err(error),
            None => result.map_err(|e| self.damaged(e)),
        }
    }

    /// Runs a `step` of the last layer and sees to what it gives out.
    fn decode(
        self: &Arc<Self>,
        step: impl FnOnce(&mut Outlet<'_>) -> Result<(), DecodeError>,
        on: For<'_>,
    ) -> Result<(), Error> {
        let For { job, pool } = on;
        self.run(step, |output| match output {
            Output::Piece(piece) => {
                let number = self.lock().number();
                let task = Task { piece, job, to: To::File { number, member: Arc::clone(self) } };
                if !self.layered {
                    return pool.give(task);
                }
                match pool.offer(task) {
                    Ok(()) => Ok(()),
                    // As it is the next one, it is written and gives its memory back.
                    Err(task) => {
                        pool.wait_until(|| self.lock().next == number, job).and_then(|()| pool.do_now(task))
                    }
                }
            }
            // In its order: everything before is written first.
            Output::Plain(bytes) => {
                pool.wait_until(|| self.is_idle(), job).and_then(|()| self.append(bytes, pool.context()))
            }
        })
    }

    /// Nothing of the member is being decoded or waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        let order = self.lock();
        order.next == order.given && !order.writing
    }

    /// Writes behind what is written. One thread at a time does so.
    fn append(&self, bytes: &[u8], context: &Context<'_>) -> Result<(), Error> {
        let offset = self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.out.write(offset, bytes, context)
    }

    fn damaged(&self, source: DecodeError) -> Error {
        Error::Member { path: display(&self.name), source }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn number(&mut self) -> u64 {
        self.given += 1;
        self.given - 1
    }
}

impl Task {
    /// Memory that it needs until it is written, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.piece.memory()
    }

    pub(super) fn job(&self) -> u64 {
        self.job
    }

    /// Decodes the piece, and writes it and those that waited for it, unless it has to wait itself.
    pub(super) fn run(self, pool: &Pool<'_>) -> Result<(), Error> {
        let granted = self.piece.memory();
        let mut bytes = pool.plain_buffer();
        let decoded = self.piece.decode(&mut bytes);
        let (number, member) = match self.to {
            To::File { number, member } => (number, member),
            To::Ahead(ahead) => {
                *ahead.lock() = Some(decoded.map(|()| bytes));
                pool.wrote();
                return Ok(());
            }
        };
        decoded.map_err(|e| member.damaged(e))?;
        let mut order = member.lock();
        order.waiting.insert(number, Plain { bytes, granted });
        if order.writing {
            return Ok(());
        }
        order.writing = true;
        loop {
            let next = order.next;
            let Some(Plain { bytes, granted }) = order.waiting.remove(&next) else { break };
            drop(order);
            let written = member.append(&bytes, pool.context());
            pool.take_back(bytes, granted);
            // After a failure the member stays as if it was written: nothing more is.
            written?;
            order = member.lock();
            order.next += 1;
        }
        order.writing = false;
        drop(order);
        pool.wrote();
        Ok(())
    }
}
