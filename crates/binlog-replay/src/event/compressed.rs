//! What MariaDB's `log_bin_compress` puts into query and row events.
//!
//! One byte `0x80 | algorithm << 4 | n` (algorithm 0 is zlib, the only one), the original length in `n`
//! bytes, 1 to 4, **big-endian**, then the compressed stream. Source: MariaDB `sql/log_event.cc`
//! (`binlog_buf_compress`).

use std::io::Read;

use super::cursor::{Cursor, Malformed};

/// Undoes the compression; the length in front must be what comes out, and memory grows only with what
/// comes out.
pub(crate) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let fail = |why: String| Malformed::new("compressed part", why);
    let mut c = Cursor::new(bytes);
    let head = c.u8("compressed part")?;
    let width = usize::from(head & 0x07);
    if head & 0x80 == 0 || !(1..=4).contains(&width) {
        return Err(fail(format!("cannot start with byte {head:#04x}")));
    }
    let algorithm = head >> 4 & 0x07;
    if algorithm != 0 {
        return Err(fail(format!("algorithm {algorithm} is unknown, only 0 (zlib) is read")));
    }
    let length = c.bytes(width, "original length")?.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let mut plain = Vec::new();
    // One byte more than stated, to notice a stream that does not end where it should.
    flate2::read::ZlibDecoder::new(c.rest())
        .take(length + 1)
        .read_to_end(&mut plain)
        .map_err(|e| fail(format!("zlib: {e}")))?;
    if plain.len() as u64 != length {
        return Err(fail(format!("{length} bytes are stated, {} came out", plain.len())));
    }
    Ok(plain)
}
