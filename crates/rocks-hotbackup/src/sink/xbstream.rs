//! The backup as one xbstream archive.

use std::io::Write;

use super::{Member, Output, Sink};
use crate::Error;
use crate::content::Content;

/// Bytes of a chunk. The stock tools write 10 MiB, and accept any size; this one keeps memory small.
const CHUNK: usize = 1024 * 1024;

/// Writes an xbstream archive for `mbstream -x` and `xbstream -x`.
///
/// The format knows files only: directories, permissions, owners and times do not travel. Names are at most 511
/// bytes long.
#[derive(Debug)]
pub struct XbstreamSink {
    writer: Option<xbstream::Writer<Output>>,
}

impl XbstreamSink {
    /// An archive into `out`.
    pub fn new(out: Output) -> Self {
        Self { writer: Some(xbstream::Writer::with_chunk_size(out, CHUNK)) }
    }
}

/// A failed write of the output, with the error of the system on top, so that a gone reader is seen.
fn failed(written: u64, error: xbstream::Error) -> Error {
    let kind = std::error::Error::source(&error)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind);
    let source = match kind {
        Some(kind) => std::io::Error::new(kind, error),
        None => std::io::Error::other(error),
    };
    Error::output(written, source)
}

impl Sink for XbstreamSink {
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
        let Some(writer) = &self.writer else {
            return Err(Error::output(0, std::io::Error::other("the archive was ended before")));
        };
        let mut file = writer.file(&member.path).map_err(|e| failed(writer.position(), e))?;
        while let Some(bytes) = content.next_bytes()? {
            file.write_all(bytes).map_err(|e| Error::output(writer.position(), e))?;
        }
        file.finish().map_err(|e| failed(writer.position(), e))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else {
            return Err(Error::output(0, std::io::Error::other("the archive was ended before")));
        };
        let written = writer.position();
        writer.finish().map_err(|e| failed(written, e))?.finish()
    }
}
