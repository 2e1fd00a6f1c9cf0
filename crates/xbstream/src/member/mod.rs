//! Compressed and encrypted members: what their names promise, and undoing it piece by piece.

mod error;
mod key;
mod lz4;
mod parts;
mod pieces;
mod qpress;
mod quicklz;
mod xbcrypt;
mod zst;

use std::io::{self, Read, Write};

use parts::Cutter;
use pieces::{Scan, Splitter};

pub use error::{DecodeError, Format};
pub use key::{Algorithm, Key, KeyError};
pub(crate) use pieces::{Outlet, Output, Piece};

/// Largest block of a `.qp` and largest chunk of an `.xbcrypt` member that is accepted, in bytes. The writers'
/// default is 64 KiB.
pub const MAX_BLOCK: usize = 16 * 1024 * 1024;

/// Largest window of a `.zst` member that is accepted, as a power of two: 8 MiB, what level 19 uses.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// Which endings are undone. The default undoes none.
#[derive(Debug, Clone, Default)]
pub struct Decoding {
    decompress: bool,
    key: Option<Key>,
}

impl Decoding {
    /// Leaves every member as it is.
    pub fn none() -> Self {
        Self::default()
    }

    /// Undoes `.qp`, `.lz4` and `.zst`.
    #[must_use]
    pub fn decompress(mut self, yes: bool) -> Self {
        self.decompress = yes;
        self
    }

    /// Undoes `.xbcrypt` with this key.
    #[must_use]
    pub fn decrypt(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// What is undone of a member called `path`, outermost first, and the name that is left. Endings are undone
    /// from the right as long as they are known and wanted: `t.ibd.qp.xbcrypt` becomes `t.ibd`.
    pub fn of<'a>(&self, path: &'a [u8]) -> (&'a [u8], Vec<Format>) {
        let mut name = path;
        let mut formats = Vec::new();
        // One layer of encryption and one of compression is all that any writer makes.
        while let Some((rest, format)) = Format::of(name) {
            let wanted = match format {
                Format::Xbcrypt => self.key.is_some() && formats.is_empty(),
                _ => self.decompress && formats.iter().all(|f| *f == Format::Xbcrypt),
            };
            if !wanted {
                break;
            }
            name = rest;
            formats.push(format);
        }
        (name, formats)
    }

    /// A decoder for the layers that [`Decoding::of`] gave.
    pub(crate) fn decoder(&self, formats: &[Format]) -> Result<Decoder, DecodeError> {
        let steps = formats.iter().map(|format| {
            Ok(match format {
                Format::Qpress => Box::new(Cutter::new(qpress::Qpress::new())) as Box<dyn Step>,
                Format::Lz4 => Box::new(Cutter::new(lz4::Lz4::new())),
                Format::Zstd => Box::new(zst::Zst::new()?),
                Format::Xbcrypt => {
                    Box::new(Cutter::new(xbcrypt::Xbcrypt::new(self.key.clone().ok_or(DecodeError::NoKey)?)))
                }
            })
        });
        let mut layers = steps.map(|step| step.map(|step| Layer { step, splitter: Splitter::default() }));
        let first = layers.next().transpose()?;
        Ok(match layers.next().transpose()? {
            Some(last) => Decoder { outer: first, last: Some(last) },
            None => Decoder { outer: None, last: first },
        })
    }
}

/// Undoes what `name` promises of `input` and writes the plain bytes to `output`; returns their number.
///
/// The output is provisional until this returns: the formats notice some damage only at the end.
///
/// # Errors
///
/// [`DecodeError`], which includes failures to read `input` and to write `output`.
pub fn decode(
    name: &std::path::Path,
    decoding: &Decoding,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<u64, DecodeError> {
    use std::os::unix::ffi::OsStrExt;
    let (_, formats) = decoding.of(name.as_os_str().as_bytes());
    let mut decoder = decoding.decoder(&formats)?;
    let mut written = 0;
    let mut plain = Vec::new();
    let mut sink = |made: Output<'_>| {
        let bytes = made.decode(&mut plain)?;
        written += bytes.len() as u64;
        output.write_all(bytes).map_err(DecodeError::Output)
    };
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => decoder.push(&buffer[..n], &mut sink)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(DecodeError::Input(e)),
        }
    }
    decoder.finish(&mut sink)?;
    Ok(written)
}

/// Where decoded bytes go.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), DecodeError> + 'a;

/// One layer, fed in pieces of any size.
trait Step: Send {
    /// Takes the front of `input` and gives out what can be given out: all of it, or up to a place where the layer
    /// can be cut.
    fn push(&mut self, input: &mut &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError>;

    /// The member has ended: checks that the layer has, too.
    fn finish(&mut self) -> Result<(), DecodeError>;

    /// What can be cut off the front of `input`.
    fn scan(&self, input: &[u8]) -> Scan {
        let _ = input;
        Scan::InOrder
    }

    /// Passes over `len` bytes that [`scan`](Self::scan) called whole, and gives a step for them.
    fn split(&mut self, len: usize) -> Result<Box<dyn Step>, DecodeError>;

    /// Decodes such bytes, at once.
    fn whole(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        pieces::decode_all(self, bytes, &mut |plain| {
            out.extend_from_slice(plain);
            Ok(())
        })
    }
}

/// The layers of one member.
pub(crate) struct Decoder {
    /// The one around the last one.
    pub(crate) outer: Option<Layer>,
    /// `None`: there is nothing to undo.
    pub(crate) last: Option<Layer>,
}

/// A layer, and what cuts it.
pub(crate) struct Layer {
    step: Box<dyn Step>,
    splitter: Splitter,
}

impl Layer {
    pub(crate) fn push(&mut self, input: &[u8], out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        self.splitter.push(&mut *self.step, input, out)
    }

    pub(crate) fn finish(&mut self, out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        self.splitter.finish(&mut *self.step, out)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("outer", &self.outer.is_some()).finish_non_exhaustive()
    }
}

impl Decoder {
    /// Everything in order, but for the pieces of the last layer.
    fn push(&mut self, input: &[u8], out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        match &mut self.outer {
            Some(outer) => outer.push(input, &mut through(&mut self.last, out)),
            None => push_last(&mut self.last, input, out),
        }
    }

    fn finish(&mut self, out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        if let Some(outer) = &mut self.outer {
            outer.finish(&mut through(&mut self.last, out))?;
        }
        match &mut self.last {
            Some(last) => last.finish(out),
            None => Ok(()),
        }
    }
}

/// What the last layer makes of the bytes around which the others were.
pub(crate) fn push_last(
    last: &mut Option<Layer>,
    bytes: &[u8],
    out: &mut Outlet<'_>,
) -> Result<(), DecodeError> {
    match last {
        Some(last) => last.push(bytes, out),
        None => out(Output::Plain(bytes)),
    }
}

fn through<'a>(
    last: &'a mut Option<Layer>,
    out: &'a mut Outlet<'_>,
) -> impl FnMut(Output<'_>) -> Result<(), DecodeError> + 'a {
    let mut buffer = Vec::new();
    move |made| {
        let bytes = made.decode(&mut buffer)?;
        push_last(last, bytes, out)
    }
}
