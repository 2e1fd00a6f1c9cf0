//! AES-256-CBC over whole buffers, the one way in which it is fast: several blocks are under way at once.
//!
//! Not generic, so that it is compiled in this crate and optimised as this crate is.

use aes::Aes256;
use cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};

pub(crate) const BLOCK: usize = 16;

pub(crate) struct Opener(cbc::Decryptor<Aes256>);

impl Opener {
    pub(crate) fn new(key: &[u8; 32], iv: &[u8; BLOCK]) -> Self {
        Self(cbc::Decryptor::new(key.into(), iv.into()))
    }

    /// Decrypts whole blocks from `input` to the beginning of `output`, which grows to hold them.
    pub(crate) fn open_into(&mut self, input: &[u8], output: &mut Vec<u8>) {
        // No need to clear what the next lines write over.
        output.resize(input.len().max(output.len()), 0);
        let (from, _) = Block::<Aes256>::slice_as_chunks(input);
        let (to, _) = Block::<Aes256>::slice_as_chunks_mut(&mut output[..input.len()]);
        // Fails only on two lengths, and there is one.
        let _ = self.0.decrypt_blocks_b2b(from, to);
    }

    /// Decrypts whole blocks in their place.
    pub(crate) fn open(&mut self, bytes: &mut [u8]) {
        self.0.decrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(bytes).0);
    }
}

pub(crate) struct Sealer(cbc::Encryptor<Aes256>);

impl Sealer {
    pub(crate) fn new(key: &[u8; 32], iv: &[u8; BLOCK]) -> Self {
        Self(cbc::Encryptor::new(key.into(), iv.into()))
    }

    /// Encrypts whole blocks in their place.
    pub(crate) fn seal(&mut self, bytes: &mut [u8]) {
        self.0.encrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(bytes).0);
    }
}
