//! Undoing the compression of an index block.
//!
//! The byte behind a block names the method. Snappy's form carries its own length; the others have it in front as a
//! varint, since format version 2. Data blocks need not be undone: their checksum is that of the compressed bytes.

use super::varint::Fields;

/// Largest block after decompression, in bytes; as the largest that is read at all.
const MAX: usize = 256 * 1024 * 1024;

/// Most bytes that one byte of LZ4 can stand for.
const LZ4_RATIO: usize = 255;

/// The plain bytes of a block, or `None` if it is damaged or its method is not known.
pub(super) fn plain(method: u8, block: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(block);
    if method == 1 {
        return snappy(&mut fields);
    }
    let len = fields.varint32()? as usize;
    if len > MAX {
        return None;
    }
    let plain = match method {
        // A length that the input cannot reach is no reason to take memory.
        4 | 5 if len > fields.0.len().saturating_mul(LZ4_RATIO) => return None,
        4 | 5 => lz4_flex::block::decompress(fields.0, len).ok()?,
        7 => zstd::bulk::decompress(fields.0, len).ok()?,
        _ => return None,
    };
    (plain.len() == len).then_some(plain)
}

/// Snappy's raw form: the length, then literals and copies of what was written before. The two low bits of a tag tell
/// which; copies have one, two or four bytes of offset.
fn snappy(fields: &mut Fields<'_>) -> Option<Vec<u8>> {
    let len = fields.varint32()? as usize;
    // A copy of 64 bytes takes at least two.
    if len > MAX || len > fields.0.len().saturating_mul(64) {
        return None;
    }
    let mut out: Vec<u8> = Vec::with_capacity(len);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    while !fields.is_empty() {
        let tag = fields.take(1)?[0];
        let (count, offset) = match tag & 3 {
            0 => {
                let count = match tag >> 2 {
                    short @ 0..=59 => usize::from(short) + 1,
                    long => number(fields.take(usize::from(long) - 59)?) + 1,
                };
                let literal = fields.take(count)?;
                if out.len() + count > len {
                    return None;
                }
                out.extend_from_slice(literal);
                continue;
            }
            1 => (usize::from(tag >> 2 & 7) + 4, usize::from(tag >> 5) << 8 | number(fields.take(1)?)),
            2 => (usize::from(tag >> 2) + 1, number(fields.take(2)?)),
            _ => (usize::from(tag >> 2) + 1, number(fields.take(4)?)),
        };
        if offset == 0 || offset > out.len() || out.len() + count > len {
            return None;
        }
        // The copy may overlap its own result.
        for _ in 0..count {
            out.push(out[out.len() - offset]);
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snappy_literals_and_overlapping_copies_come_back() {
        // Literal "ab", then a copy of 6 bytes from 2 back: "abababab".
        assert_eq!(plain(1, &[8, 0x04, b'a', b'b', 2 | 5 << 2, 2, 0]).as_deref(), Some(&b"abababab"[..]));
        // A literal of 61 bytes has its length in a byte of its own.
        let mut long = vec![61, 60 << 2, 60];
        long.extend([7; 61]);
        assert_eq!(plain(1, &long), Some(vec![7; 61]));
    }

    #[test]
    fn damaged_blocks_are_none() {
        for bad in [
            &[][..],
            &[8],
            &[8, 0x04, b'a'],
            &[8, 0x04, b'a', b'b', 2 | 5 << 2, 3, 0],
            &[8, 0x04, b'a', b'b', 2 | 5 << 2, 0, 0],
            &[7, 0x04, b'a', b'b', 2 | 5 << 2, 2, 0],
            &[9, 0x04, b'a', b'b', 2 | 5 << 2, 2, 0],
            &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x04, b'a', b'b'],
        ] {
            assert_eq!(plain(1, bad), None, "{bad:?}");
        }
        assert_eq!(plain(4, &[0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        // 128 MiB out of one byte.
        assert_eq!(plain(4, &[0x80, 0x80, 0x80, 0x40, 0]), None);
        assert_eq!(plain(9, &[1, 0]), None);
    }

    #[test]
    fn lz4_and_zstd_blocks_come_back() {
        let plain_bytes = b"a key a key a key a key".repeat(20);
        let with_len = |compressed: Vec<u8>| {
            let mut block = vec![plain_bytes.len() as u8 & 0x7f | 0x80, (plain_bytes.len() >> 7) as u8];
            block.extend(compressed);
            block
        };
        let lz4 = with_len(lz4_flex::block::compress(&plain_bytes));
        assert_eq!(plain(4, &lz4).as_deref(), Some(&plain_bytes[..]));
        let zstd = with_len(zstd::bulk::compress(&plain_bytes, 3).unwrap());
        assert_eq!(plain(7, &zstd).as_deref(), Some(&plain_bytes[..]));
    }
}
