//! The checksum of what passes.

use crc_fast::{CrcAlgorithm, Digest as Crc};

use super::header::Checksum;
use crate::transfer::Digest;

/// Length and checksum, while they are computed.
pub(super) struct Sum {
    checksum: Checksum,
    crc: Crc,
    pub(super) bytes: u64,
}

impl Sum {
    pub(super) fn new(checksum: Checksum) -> Self {
        let algorithm = match checksum {
            Checksum::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Checksum::Cksum => CrcAlgorithm::Crc32Cksum,
        };
        Self { checksum, crc: Crc::new(algorithm), bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn digest(&self) -> Digest {
        let mut crc = self.crc;
        if self.checksum == Checksum::Cksum {
            // It sums the length too: its bytes, the lowest first, without zeros at the end.
            let length = self.bytes.to_le_bytes();
            crc.update(&length[..8 - self.bytes.leading_zeros() as usize / 8]);
        }
        // The register has 32 bits.
        Digest { bytes: self.bytes, crc: crc.finalize() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_the_one_of_its_checksum() {
        let digest = |checksum, bytes: &[u8]| {
            let mut sum = Sum::new(checksum);
            sum.add(bytes);
            sum.digest()
        };
        // `printf 123456789 | cksum`, and `cksum </dev/null`.
        assert_eq!(digest(Checksum::Cksum, b"123456789"), Digest { crc: 930_766_865, bytes: 9 });
        assert_eq!(digest(Checksum::Cksum, b""), Digest { crc: 4_294_967_295, bytes: 0 });
        // RFC 3720, B.4: 32 zeros; and the catalogue's check value.
        assert_eq!(digest(Checksum::Crc32c, &[0; 32]), Digest { crc: 0x8a91_36aa, bytes: 32 });
        assert_eq!(digest(Checksum::Crc32c, b"123456789"), Digest { crc: 0xe306_9283, bytes: 9 });
    }
}
