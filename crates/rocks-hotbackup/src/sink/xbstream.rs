//! The backup as one xbstream archive.

use std::io::{self, Write};

use xbstream::{FileWriter, Writer};

use super::output::MOVE_FROM;
use super::{Member, Output, Sink};
use crate::Error;
use crate::content::Content;

/// Bytes of a chunk that the kernel moves. The stock tools write 10 MiB, and accept any size; with this one a reader has
/// something to read while the next chunk is summed.
const CHUNK: usize = 1024 * 1024;

/// Writes an xbstream archive for `mbstream -x` and `xbstream -x`.
///
/// The format knows files only: directories, permissions, owners and times do not travel. Names are at most 511
/// bytes long.
#[derive(Debug)]
pub struct XbstreamSink {
    writer: Option<Writer<Output>>,
    /// The kernel can move payloads into the output.
    moves: bool,
}

impl XbstreamSink {
    /// An archive into `out`.
    pub fn new(out: Output) -> Self {
        let moves = out.is_descriptor();
        Self { writer: Some(Writer::with_chunk_size(out, CHUNK)), moves }
    }

    fn writer(&self) -> Result<&Writer<Output>, Error> {
        self.writer.as_ref().ok_or_else(ended)
    }

    /// Writes a file chunk by chunk: the kernel moves those of large files that never change, others are written from
    /// memory.
    fn chunks(&self, file: &mut FileWriter<Output>, content: &mut Content<'_>) -> Result<(), Error> {
        let writer = self.writer()?;
        if self.moves && content.len() >= MOVE_FROM {
            while let Some(ahead) = content.look_ahead(CHUNK, true)? {
                // The writer knows only that its sink failed; what the content knows goes past it.
                let mut cause = None;
                let put = |out: &mut Output| {
                    out.move_ahead(content, &ahead).map_err(|e| io::Error::other(cause.insert(e).to_string()))
                };
                let done = file.chunk_by(ahead.len as u64, ahead.crc32, put);
                done.map_err(|e| cause.unwrap_or_else(|| failed(writer.position(), e)))?;
                if content.is_read() {
                    return Ok(());
                }
            }
        }
        while let Some((bytes, crc)) = content.next_summed()? {
            let done = file.chunk_by(bytes.len() as u64, crc, |out| out.write_all(bytes));
            done.map_err(|e| failed(writer.position(), e))?;
        }
        Ok(())
    }
}

fn ended() -> Error {
    Error::output(0, io::Error::other("the archive was ended before"))
}

/// A failed write of the output, with the error of the system on top, so that a gone reader is seen.
fn failed(written: u64, error: xbstream::Error) -> Error {
    let kind = std::error::Error::source(&error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    let source = match kind {
        Some(kind) => io::Error::new(kind, error),
        None => io::Error::other(error),
    };
    Error::output(written, source)
}

impl Sink for XbstreamSink {
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
        let writer = self.writer()?;
        let mut file = writer.file(&member.path).map_err(|e| failed(writer.position(), e))?;
        self.chunks(&mut file, content)?;
        file.finish().map_err(|e| failed(writer.position(), e))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let writer = self.writer.take().ok_or_else(ended)?;
        let written = writer.position();
        writer.finish().map_err(|e| failed(written, e))?.finish()
    }
}
