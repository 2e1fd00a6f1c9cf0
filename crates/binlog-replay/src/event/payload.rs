//! Transaction payload, kind 40 (MySQL 8.0.20 and later): the events of a transaction, compressed.
//!
//! Body: fields of type, length and value, all length-encoded: 1 payload size, 2 compression (0 zstd, 255
//! none), 3 size uncompressed, until type 0; then the payload. The events inside have headers and no
//! checksums. Source: MySQL `control_events.h` (`Transaction_payload_event`).

use std::io::{self, Read};

use super::cursor::{Cursor, Malformed};
use super::{FormatDescription, Header, RawEvent};

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// zstd (0).
    Zstd,
    /// Not at all (255).
    None,
}

/// A compressed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionPayload<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// Bytes of the events in it.
    pub uncompressed: u64,
    /// The compressed bytes.
    pub payload: &'a [u8],
    head: &'a [u8],
}

impl<'a> TransactionPayload<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (payload, size) = Self::parse_beginning(body)?;
        if size != Some(payload.payload.len() as u64) {
            let why = format!("{size:?} bytes are stated, {} are there", payload.payload.len());
            return Err(Malformed::new("payload", why));
        }
        Ok(payload)
    }

    /// As `parse`, of a body that may be cut; also gives the stated size of the payload.
    pub(crate) fn parse_beginning(body: &'a [u8]) -> Result<(Self, Option<u64>), Malformed> {
        let mut c = Cursor::new(body);
        let (mut size, mut compression, mut uncompressed) = (None, None, None);
        loop {
            let field = c.lenenc("field")?;
            if field == 0 {
                break;
            }
            let value = c.lenenc_bytes("field")?;
            let mut v = Cursor::new(value);
            match field {
                1 => size = Some(v.lenenc("payload size")?),
                2 => compression = Some(v.lenenc("compression")?),
                3 => uncompressed = Some(v.lenenc("uncompressed size")?),
                // Newer fields say their length and may be passed over.
                _ => continue,
            }
            v.end("field")?;
        }
        let head = &body[..body.len() - c.len()];
        let payload = c.rest();
        let compression = match compression {
            Some(0) => Compression::Zstd,
            Some(255) => Compression::None,
            other => return Err(Malformed::new("compression", format!("{other:?} is unknown"))),
        };
        let uncompressed = match (compression, uncompressed) {
            (_, Some(n)) => n,
            (Compression::None, None) => payload.len() as u64,
            (Compression::Zstd, None) => {
                return Err(Malformed::new("payload", "the uncompressed size is missing"));
            }
        };
        Ok((Self { compression, uncompressed, payload, head }, size))
    }

    /// The events in it. The payload is decompressed as they are read.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the decompressor cannot be started.
    pub fn events(&self, format: &'a FormatDescription) -> Result<PayloadEvents<'a>, Malformed> {
        let plain: Box<dyn Read + Send + 'a> = match self.compression {
            Compression::None => Box::new(self.payload),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(self.payload);
                Box::new(decoder.map_err(|e| Malformed::new("payload", format!("zstd: {e}")))?)
            }
        };
        // One byte more than stated, to notice a payload that does not end where it should.
        let plain = plain.take(self.uncompressed.saturating_add(1));
        Ok(PayloadEvents { plain, left: self.uncompressed, buffer: Vec::new(), format, failed: false })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.head);
        out.extend(self.payload);
    }
}

/// Reads the events of a [`TransactionPayload`] one by one.
pub struct PayloadEvents<'a> {
    plain: io::Take<Box<dyn Read + Send + 'a>>,
    /// Bytes that are stated and not read yet.
    left: u64,
    buffer: Vec<u8>,
    format: &'a FormatDescription,
    failed: bool,
}

impl std::fmt::Debug for PayloadEvents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadEvents").field("left", &self.left).finish_non_exhaustive()
    }
}

impl PayloadEvents<'_> {
    /// The next event, or `None` when all that was stated came out, whole.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the payload cannot be decompressed, ends inside an event, or is longer or shorter
    /// than stated; every later call fails, too.
    pub fn next_event(&mut self) -> Result<Option<RawEvent<'_>>, Malformed> {
        if self.failed {
            return Err(Malformed::new("payload", "an earlier event of it could not be read"));
        }
        self.failed = true;
        if self.left == 0 {
            self.read(1)?;
            if !self.buffer.is_empty() {
                return Err(Malformed::new("payload", "is longer than stated"));
            }
            self.failed = false;
            return Ok(None);
        }
        self.read(Header::LEN as u64)?;
        let Some(header) = Header::parse(&self.buffer) else {
            return Err(Malformed::new("payload", "ends inside the header of an event"));
        };
        let size = u64::from(header.size);
        if size < Header::LEN as u64 || size > self.left {
            return Err(Malformed::new(
                "payload",
                format!("an event of {size} bytes, {} are left", self.left),
            ));
        }
        let head: [u8; Header::LEN] = header.to_bytes();
        self.read(size - Header::LEN as u64)?;
        if self.buffer.len() as u64 != size - Header::LEN as u64 {
            return Err(Malformed::new("payload", "ends inside an event"));
        }
        self.buffer.splice(0..0, head);
        self.left -= size;
        self.failed = false;
        Ok(Some(RawEvent { header, offset: 0, bytes: &self.buffer, checksum: 0, format: self.format }))
    }

    /// Fills the buffer with `n` bytes, or fewer at the end.
    fn read(&mut self, n: u64) -> Result<(), Malformed> {
        self.buffer.clear();
        let read = (&mut self.plain).take(n).read_to_end(&mut self.buffer);
        read.map_err(|e| Malformed::new("payload", format!("zstd: {e}")))?;
        Ok(())
    }
}
