//! Encoders of the member formats, for input that no tool at hand writes and for round trips.

use aes::cipher::{KeyIvInit, StreamCipher};
use sha2::{Digest, Sha256};

/// A `.qp` member with blocks of `chunk` plain bytes.
pub(crate) fn qpress(name: &str, data: &[u8], chunk: usize) -> Vec<u8> {
    qpress_of(name, chunk, data.chunks(chunk).map(quicklz))
}

/// The same of blocks that are there already.
pub(crate) fn qpress_of(name: &str, chunk: usize, blocks: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = b"qpress10".to_vec();
    out.extend((chunk as u64).to_le_bytes());
    out.push(b'F');
    out.extend((name.len() as u32).to_le_bytes());
    out.extend(name.as_bytes());
    out.push(0);
    for (i, block) in blocks.into_iter().enumerate() {
        out.extend(b"NEWBNEWB");
        out.extend(((i * chunk) as u64).to_le_bytes());
        out.extend(adler2::adler32_slice(&block).to_le_bytes());
        out.extend(block);
    }
    out.extend(b"ENDSENDS");
    out.extend([0; 8]);
    out
}

/// One QuickLZ block of level 1: compressed where that is smaller, else stored.
pub(crate) fn quicklz(plain: &[u8]) -> Vec<u8> {
    let body = quicklz_body(plain);
    let compressed = body.len() < plain.len();
    let body = if compressed { &body[..] } else { plain };
    if plain.len() < 216 && body.len() + 3 < 256 {
        let flags = 0x44 | u8::from(compressed);
        return [&[flags, (body.len() + 3) as u8, plain.len() as u8], body].concat();
    }
    let mut block = vec![0x46 | u8::from(compressed)];
    block.extend((body.len() as u32 + 9).to_le_bytes());
    block.extend((plain.len() as u32).to_le_bytes());
    block.extend(body);
    block
}

/// The compressed contents of a block. The table is kept exactly as the decoder keeps it.
fn quicklz_body(plain: &[u8]) -> Vec<u8> {
    let hash = |at: usize| {
        let x = u32::from_le_bytes([plain[at], plain[at + 1], plain[at + 2], 0]);
        ((x >> 12 ^ x) & 4095) as usize
    };
    let mut table = vec![None; 4096];
    let (mut out, mut control, mut flags, mut items) = (vec![0; 4], 0, 0_u32, 0);
    let (mut at, mut entered) = (0, 0);
    while at < plain.len() {
        if items == 31 {
            out[control..control + 4].copy_from_slice(&(flags | 1 << 31).to_le_bytes());
            control = out.len();
            out.extend([0; 4]);
            (flags, items) = (0, 0);
        }
        let mut matched = None;
        // QuickLZ reads what begins later as literals, whatever the flags say.
        if at + 11 <= plain.len()
            && let Some(from) = table[hash(at)]
        {
            let most = (plain.len() - 4 - at).min(255);
            let len = (0..most).take_while(|i| plain[from + i] == plain[at + i]).count();
            matched = (at - from >= 3 && len >= 3).then_some(len);
        }
        let last = match matched {
            Some(len) => {
                flags |= 1 << items;
                let word = (hash(at) << 4) as u16;
                match len {
                    3..=17 => out.extend((word | (len - 2) as u16).to_le_bytes()),
                    _ => {
                        out.extend(word.to_le_bytes());
                        out.push(len as u8);
                    }
                }
                Some(at)
            }
            None => {
                out.push(plain[at]);
                (at + 1).checked_sub(3)
            }
        };
        items += 1;
        while last.is_some_and(|last| entered <= last) {
            table[hash(entered)] = Some(entered);
            entered += 1;
        }
        at += matched.unwrap_or(1);
        if matched.is_some() {
            entered = at;
        }
    }
    out[control..control + 4].copy_from_slice(&(flags | 1 << 31).to_le_bytes());
    out
}

/// An `.xbcrypt` member of version 1, 2 or 3, AES-256, with chunks of `chunk` plain bytes.
pub(crate) fn xbcrypt(version: u8, key: &[u8; 32], data: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, plain) in data.chunks(chunk).enumerate() {
        let mut body = plain.to_vec();
        let mut iv = [0; 16];
        if version == 3 {
            body.extend(Sha256::digest(plain));
            iv = [i as u8 ^ 0xfe; 16];
        }
        ctr::Ctr128BE::<aes::Aes256>::new(key.into(), &iv.into()).apply_keystream(&mut body);
        out.extend(b"XBCRYP0");
        out.push(b'0' + version);
        out.extend(0_u64.to_le_bytes());
        out.extend((body.len() as u64).to_le_bytes());
        out.extend((body.len() as u64).to_le_bytes());
        out.extend(crc32fast::hash(&body).to_le_bytes());
        if version > 1 {
            out.extend(16_u64.to_le_bytes());
            out.extend(iv);
        }
        out.extend(body);
    }
    out
}

/// Zstandard frames of `piece` bytes each, with checksum, their sizes known or not.
pub(crate) fn zstd(data: &[u8], piece: usize, sized: bool) -> Vec<u8> {
    use std::io::Write;
    let mut out = Vec::new();
    for part in data.chunks(piece) {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.include_contentsize(sized).unwrap();
        if sized {
            encoder.set_pledged_src_size(Some(part.len() as u64)).unwrap();
        }
        encoder.write_all(part).unwrap();
        out.extend(encoder.finish().unwrap());
    }
    out
}

/// LZ4 frames of `piece` bytes each, with all checksums.
pub(crate) fn lz4(data: &[u8], piece: usize, linked: bool) -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let mut out = Vec::new();
    for part in data.chunks(piece) {
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(part.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(part).unwrap();
        out.extend(encoder.finish().unwrap());
    }
    out
}
