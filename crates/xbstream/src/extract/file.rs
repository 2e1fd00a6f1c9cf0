//! One file on its way to disk: under an unfinished name until its end has come and everything was checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::target::Target;
use crate::Error;
use crate::member::{DecodeError, Decoder, Decoding, Format};
use crate::path::display;

/// Files held open at once, and members decoded at once. More of them in one stream are possible: files are closed
/// and opened again, members are stored and decoded when they are complete.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) open: AtomicUsize,
    pub(super) decoders: AtomicUsize,
    pub(super) max_open: usize,
    pub(super) max_decoders: usize,
}

impl Limits {
    pub(super) fn new(threads: usize) -> Self {
        // A quarter of what the process may open, so that the caller's own files fit as well.
        let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
        Self {
            open: AtomicUsize::new(0),
            decoders: AtomicUsize::new(0),
            max_open: usize::try_from(soft / 4).unwrap_or(256).clamp(4, 256),
            max_decoders: (2 * threads).clamp(8, 32),
        }
    }
}

/// What the workers share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) target: Target,
    pub(super) decoding: Decoding,
    pub(super) limits: Limits,
}

/// Something to be done to a file, in the order of the stream.
#[derive(Debug)]
pub(super) enum Job {
    /// These bytes belong at this position.
    Data { offset: u64, bytes: Vec<u8> },
    /// These bytes belong at several positions, in order: position and length of each.
    Scatter { pieces: Vec<(u64, usize)>, bytes: Vec<u8> },
    /// The file is complete and this long. With `hole` its last part was never written.
    End { size: u64, hole: bool },
}

impl Job {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data { bytes, .. } | Self::Scatter { bytes, .. } => bytes.len(),
            Self::End { .. } => 0,
        }
    }

    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        match self {
            Self::Data { bytes, .. } | Self::Scatter { bytes, .. } => Some(bytes),
            Self::End { .. } => None,
        }
    }
}

/// A file that is finished.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) path: Box<[u8]>,
    pub(super) size: u64,
    pub(super) decoded: bool,
}

/// A file that is not finished.
#[derive(Debug)]
pub(super) struct OutFile {
    /// As in the stream.
    member: Box<[u8]>,
    /// The same without the endings that are undone.
    path: Box<[u8]>,
    formats: Box<[Format]>,
    replace: bool,
    created: bool,
    /// The decoded form of a stored member was begun as well.
    decoding_stored: bool,
    state: Writing,
    file: Option<File>,
    /// Plain bytes written by a decoder.
    written: u64,
}

#[derive(Debug)]
enum Writing {
    /// As it comes, under its final name's unfinished form.
    Plain,
    Decoding(Box<Decoder>),
    /// As it comes, under the member's name, to be decoded at the end: too many members are open.
    Stored,
}

impl OutFile {
    pub(super) fn new(member: &[u8], path: &[u8], formats: Vec<Format>, replace: bool) -> Self {
        Self {
            member: member.into(),
            path: path.into(),
            formats: formats.into(),
            replace,
            created: false,
            decoding_stored: false,
            state: Writing::Plain,
            file: None,
            written: 0,
        }
    }

    pub(super) fn is_decoded(&self) -> bool {
        !self.formats.is_empty()
    }

    /// Does one job; the last one gives the finished file.
    pub(super) fn run(&mut self, job: &Job, context: &Context) -> Result<Option<Done>, Error> {
        self.make(context)?;
        match job {
            Job::Data { offset, bytes } => self.write(*offset, bytes, context)?,
            Job::Scatter { pieces, bytes } => {
                let mut rest = &bytes[..];
                for &(offset, len) in pieces {
                    let (piece, after) = rest.split_at(len);
                    self.write(offset, piece, context)?;
                    rest = after;
                }
            }
            Job::End { size, hole } => return self.end(*size, *hole, context).map(Some),
        }
        Ok(None)
    }

    /// Called when nothing is to be done for now: gives the file descriptor back if they are scarce.
    pub(super) fn rest(&mut self, context: &Context) {
        if context.limits.open.load(Ordering::Relaxed) > context.limits.max_open {
            self.close(context);
        }
    }

    /// Removes what was written.
    pub(super) fn discard(&mut self, context: &Context) {
        self.close(context);
        if self.created {
            context.target.discard(self.on_disk());
        }
        if self.decoding_stored {
            context.target.discard(&self.path);
        }
        self.stop_decoding(context);
    }

    /// The name whose unfinished form is being written.
    fn on_disk(&self) -> &[u8] {
        match self.state {
            Writing::Stored => &self.member,
            _ => &self.path,
        }
    }

    fn make(&mut self, context: &Context) -> Result<(), Error> {
        if self.created {
            return Ok(());
        }
        if self.is_decoded() {
            let before = context.limits.decoders.fetch_add(1, Ordering::Relaxed);
            if before < context.limits.max_decoders {
                let decoder = context.decoding.decoder(&self.formats).map_err(|e| self.damaged(e))?;
                self.state = Writing::Decoding(Box::new(decoder));
            } else {
                context.limits.decoders.fetch_sub(1, Ordering::Relaxed);
                self.state = Writing::Stored;
            }
        }
        let file = context.target.create(self.on_disk(), self.replace)?;
        self.created = true;
        self.keep(file, context);
        Ok(())
    }

    fn keep(&mut self, file: File, context: &Context) {
        context.limits.open.fetch_add(1, Ordering::Relaxed);
        self.file = Some(file);
    }

    fn close(&mut self, context: &Context) {
        if self.file.take().is_some() {
            context.limits.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn stop_decoding(&mut self, context: &Context) {
        if let Writing::Decoding(_) = self.state {
            context.limits.decoders.fetch_sub(1, Ordering::Relaxed);
            self.state = Writing::Plain;
        }
    }

    /// The file, opened again if it was closed to save a descriptor.
    fn open(&mut self, context: &Context) -> Result<&File, Error> {
        if self.file.is_none() {
            let file = context.target.reopen(self.on_disk(), false)?;
            self.keep(file, context);
        }
        self.file.as_ref().ok_or(Error::Failed)
    }

    fn write(&mut self, offset: u64, bytes: &[u8], context: &Context) -> Result<(), Error> {
        self.open(context)?;
        let Some(file) = &self.file else { return Err(Error::Failed) };
        let result = match &mut self.state {
            Writing::Plain | Writing::Stored => file.write_all_at(bytes, offset).map_err(DecodeError::Output),
            Writing::Decoding(decoder) => decoder.push(bytes, &mut sink(file, &mut self.written)),
        };
        result.map_err(|e| self.damaged(e))
    }

    fn end(&mut self, size: u64, hole: bool, context: &Context) -> Result<Done, Error> {
        let mut size = size;
        match &mut self.state {
            Writing::Plain if hole => {
                self.open(context)?.set_len(size).map_err(|source| {
                    let path = display(&self.path);
                    Error::File { action: "extend", path, source }
                })?;
            }
            Writing::Plain => {}
            Writing::Decoding(decoder) => {
                decoder.finish().map_err(|e| self.damaged(e))?;
                size = self.written;
            }
            Writing::Stored => size = self.decode_stored(context)?,
        }
        self.close(context);
        context.target.commit(&self.path, self.replace)?;
        if let Writing::Stored = self.state {
            context.target.discard(&self.member);
        }
        self.stop_decoding(context);
        self.created = false;
        self.decoding_stored = false;
        Ok(Done { path: std::mem::take(&mut self.path), size, decoded: self.is_decoded() })
    }

    /// Decodes a member that was stored whole.
    fn decode_stored(&mut self, context: &Context) -> Result<u64, Error> {
        self.close(context);
        let mut input = context.target.reopen(&self.member, true)?;
        let output = context.target.create(&self.path, self.replace)?;
        self.decoding_stored = true;
        let mut decoder = context.decoding.decoder(&self.formats).map_err(|e| self.damaged(e))?;
        let mut written = 0;
        let mut buffer = vec![0; 128 * 1024];
        let result = loop {
            match input.read(&mut buffer) {
                Ok(0) => break decoder.finish(),
                Ok(n) => {
                    if let Err(e) = decoder.push(&buffer[..n], &mut sink(&output, &mut written)) {
                        break Err(e);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(DecodeError::Input(e)),
            }
        };
        result.map_err(|e| self.damaged(e))?;
        Ok(written)
    }

    fn damaged(&self, source: DecodeError) -> Error {
        match source {
            DecodeError::Output(source) => Error::File { action: "write", path: display(&self.path), source },
            source => Error::Member { path: display(&self.member), source },
        }
    }
}

/// Appends decoded bytes to `file`.
fn sink<'a>(file: &'a File, written: &'a mut u64) -> impl FnMut(&[u8]) -> Result<(), DecodeError> + 'a {
    move |bytes| {
        file.write_all_at(bytes, *written).map_err(DecodeError::Output)?;
        *written += bytes.len() as u64;
        Ok(())
    }
}
