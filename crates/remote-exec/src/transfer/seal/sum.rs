//! The checksum of what passes.

use crc_fast::{CrcAlgorithm, Digest as Crc};

use crate::transfer::Digest;

/// The checksum of POSIX `cksum`, while it is computed.
pub(super) struct Sum {
    crc: Crc,
    pub(super) bytes: u64,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { crc: Crc::new(CrcAlgorithm::Crc32Cksum), bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The length belongs to what is summed: its bytes, the lowest first, without zeros at the end.
    pub(super) fn digest(&self) -> Digest {
        let length = self.bytes.to_le_bytes();
        let significant = 8 - self.bytes.leading_zeros() as usize / 8;
        let mut crc = self.crc;
        crc.update(&length[..significant]);
        // The register has 32 bits.
        Digest { bytes: self.bytes, crc: crc.finalize() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_the_one_of_cksum() {
        // `printf 123456789 | cksum`, and `cksum </dev/null`.
        let digest = |bytes: &[u8]| {
            let mut sum = Sum::new();
            sum.add(bytes);
            sum.digest()
        };
        assert_eq!(digest(b"123456789"), Digest { crc: 930_766_865, bytes: 9 });
        assert_eq!(digest(b""), Digest { crc: 4_294_967_295, bytes: 0 });
    }
}
