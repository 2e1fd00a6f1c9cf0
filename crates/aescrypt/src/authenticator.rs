//! The HMAC of the body, computed in a second thread while the first one does AES.
//!
//! SHA-256 is the slowest step of decryption (about a third of AES-CBC's rate where the processor has
//! instructions for both), so the two are put side by side: a buffer of ciphertext is shared between the
//! threads, read by both, and comes back to be filled again when the HMAC has it. A fixed number of buffers
//! goes round; nobody waits but for the slower of the two.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::header::BodyHmac;

/// Buffers that go round.
const BUFFERS: usize = 4;

/// Ciphertext, shared for reading; exactly one owner when [`Authenticator::buffer`] gives it out.
pub(crate) type Buffer = Arc<Vec<u8>>;

pub(crate) struct Authenticator {
    size: usize,
    made: usize,
    side: Side,
}

enum Side {
    /// In the caller's thread: a body that fits one buffer is not worth a thread.
    Here {
        mac: Box<BodyHmac>,
        free: Vec<Buffer>,
    },
    There(Worker),
}

struct Worker {
    /// `None` when the worker was told to end.
    pieces: Option<Sender<(Buffer, usize)>>,
    back: Receiver<Buffer>,
    thread: Option<JoinHandle<BodyHmac>>,
}

impl Authenticator {
    /// `size`: bytes of one buffer.
    pub(crate) fn new(mac: BodyHmac, size: usize) -> Self {
        Self { size, made: 0, side: Side::Here { mac: Box::new(mac), free: Vec::new() } }
    }

    /// A buffer to fill; waits for one to come back when all are under way.
    pub(crate) fn buffer(&mut self) -> Buffer {
        let returned = match &mut self.side {
            Side::Here { free, .. } => free.pop(),
            Side::There(worker) if self.made < BUFFERS => worker.back.try_recv().ok(),
            Side::There(worker) => worker.back.recv().ok(),
        };
        returned.unwrap_or_else(|| {
            self.made += 1;
            Arc::new(vec![0; self.size])
        })
    }

    /// Adds the first `length` bytes of `buffer`, which is not the last one of the body.
    pub(crate) fn update(&mut self, buffer: &Buffer, length: usize) {
        if let Side::Here { mac, .. } = &self.side
            && let Some(worker) = Worker::start(mac)
        {
            self.side = Side::There(worker);
        }
        match &mut self.side {
            Side::There(worker) => worker.send(Arc::clone(buffer), length),
            Side::Here { mac, .. } => mac.update(&buffer[..length]),
        }
    }

    /// Takes back a buffer that was given to [`update`](Self::update); the worker returns its own handle.
    pub(crate) fn done_with(&mut self, buffer: Buffer) {
        if let Side::Here { free, .. } = &mut self.side {
            free.push(buffer);
        }
    }

    /// The HMAC of everything so far, ready for the rest of the body.
    pub(crate) fn finish(&mut self) -> BodyHmac {
        match &mut self.side {
            Side::Here { mac, .. } => (**mac).clone(),
            Side::There(worker) => worker.finish(),
        }
    }
}

impl Worker {
    /// `None` when the system gives no thread; then the caller's thread does the work.
    fn start(mac: &BodyHmac) -> Option<Self> {
        let (pieces, work) = bounded::<(Buffer, usize)>(BUFFERS);
        let (returned, back) = bounded(BUFFERS);
        let mut mac = mac.clone();
        let run = move || {
            for (buffer, length) in work {
                mac.update(&buffer[..length]);
                // The owner may be gone; there is room for every buffer.
                let _ = returned.try_send(buffer);
            }
            mac
        };
        let thread = thread::Builder::new().name("aescrypt-hmac".into()).spawn(run).ok()?;
        Some(Self { pieces: Some(pieces), back, thread: Some(thread) })
    }

    fn send(&self, buffer: Buffer, length: usize) {
        if let Some(pieces) = &self.pieces {
            // Fails only if the worker is gone, and then `finish` says so.
            let _ = pieces.send((buffer, length));
        }
    }

    fn finish(&mut self) -> BodyHmac {
        self.pieces = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(mac)) => mac,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("the HMAC is taken once, by the one who ends the stream"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
