//! Streams whose key block and HMAC are right, around any body: what a hostile writer who knows the password could make.

use aes::Aes256;
use cipher::{Block, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

const PASSWORD_IV: [u8; 16] = [3; 16];
const KEY_BLOCK: [u8; 48] = [5; 48];

/// A stream of `version` 0 to 3 for the password `abc` with this ciphertext. `size` is the size byte of versions 0 to 2.
pub(crate) fn stream(version: u8, size: u8, body: &[u8]) -> Vec<u8> {
    let password_key = match version {
        3 => {
            let mut key = [0; 32];
            pbkdf2::pbkdf2_hmac::<Sha512>(b"abc", &PASSWORD_IV, 1, &mut key);
            key
        }
        _ => stretched(b"a\0b\0c\0"),
    };
    let mut bytes = vec![b'A', b'E', b'S', version, if version == 0 { size } else { 0 }];
    if version >= 2 {
        bytes.extend([0, 0]);
    }
    if version == 3 {
        bytes.extend(1_u32.to_be_bytes());
    }
    bytes.extend(PASSWORD_IV);
    let mut key = password_key;
    if version > 0 {
        key.copy_from_slice(&KEY_BLOCK[16..]);
        let mut block = KEY_BLOCK;
        cbc::Encryptor::<Aes256>::new((&password_key).into(), (&PASSWORD_IV).into())
            .encrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(&mut block).0);
        let suffix = if version == 3 { &[3][..] } else { &[] };
        bytes.extend(block);
        bytes.extend(hmac(&password_key, &[&block, suffix]));
    }
    bytes.extend(body);
    if matches!(version, 1 | 2) {
        bytes.push(size);
    }
    bytes.extend(hmac(&key, &[body]));
    bytes
}

fn stretched(password: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&PASSWORD_IV);
    for _ in 0..8192 {
        key = Sha256::new().chain_update(key).chain_update(password).finalize().into();
    }
    key
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
