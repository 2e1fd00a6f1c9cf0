//! A compressed or encrypted member on its way to disk: one thread at a time takes its bytes in order and cuts off what
//! can be decoded by others, and what all of them decode is written in the order of the member.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{Context, Done, Job, OutFile};
use super::pool::Pool;
use crate::Error;
use crate::member::{DecodeError, Decoder, Format, Output, Piece};
use crate::path::display;

/// A member that is not finished.
#[derive(Debug)]
pub(super) struct Member {
    formats: Box<[Format]>,
    shared: Arc<Shared>,
    state: State,
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
    number: u64,
    /// The job that brought its end.
    job: u64,
    member: Arc<Shared>,
}

/// What decoding is done for: a job, by its number.
struct For<'a> {
    job: u64,
    pool: &'a Pool<'a>,
}

impl Member {
    pub(super) fn new(name: &[u8], out: Arc<OutFile>, formats: Vec<Format>) -> Self {
        let shared = Shared { name: name.into(), out, order: Mutex::default(), written: AtomicU64::new(0) };
        Self { formats: formats.into(), shared: Arc::new(shared), state: State::New }
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
        match &mut self.state {
            State::Decoding(decoder) => self.shared.decode(|outlet| decoder.push(bytes, outlet), on),
            State::Stored(stored) => stored.write(offset, bytes, on.pool.context()),
            State::New => Err(Error::Failed),
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
        match &mut self.state {
            State::Decoding(decoder) => self.shared.decode(|outlet| decoder.finish(outlet), on)?,
            State::Stored(stored) => {
                let mut input = stored.read(context)?;
                let mut decoder =
                    context.decoding.decoder(&self.formats).map_err(|e| self.shared.damaged(e))?;
                let mut buffer = vec![0; 128 * 1024];
                loop {
                    match input.read(&mut buffer) {
                        Ok(0) => break self.shared.decode(|outlet| decoder.finish(outlet), on)?,
                        Ok(n) => self.shared.decode(|outlet| decoder.push(&buffer[..n], outlet), on)?,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(self.shared.damaged(DecodeError::Input(e))),
                    }
                }
            }
            State::New => return Err(Error::Failed),
        }
        on.pool.wait_for(&self.shared, on.job)?;
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

impl Shared {
    /// Runs `step` and sees to what it gives out.
    fn decode(
        self: &Arc<Self>,
        step: impl FnOnce(&mut crate::member::Outlet<'_>) -> Result<(), DecodeError>,
        on: &For<'_>,
    ) -> Result<(), Error> {
        let &For { job, pool } = on;
        let mut failed = None;
        let result = step(&mut |output| {
            let done = match output {
                Output::Piece(piece) => {
                    let number = self.lock().number();
                    pool.give(Task { piece, number, job, member: Arc::clone(self) })
                }
                // In its order: everything before is written first.
                Output::Plain(bytes) => {
                    pool.wait_for(self, job).and_then(|()| self.append(bytes, pool.context()))
                }
            };
            done.map_err(|error| {
                failed = Some(error);
                DecodeError::Output(io::Error::other("see the error beside"))
            })
        });
        match failed {
            Some(error) => Err(error),
            None => result.map_err(|e| self.damaged(e)),
        }
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
        let Self { piece, number, member, .. } = self;
        let granted = piece.memory();
        let mut bytes = pool.plain_buffer();
        piece.decode(&mut bytes).map_err(|e| member.damaged(e))?;
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
