//! The checksum of a file in a backup's manifest.

use ring::digest;
use serde::{Deserialize, Serialize};

/// Which checksum a backup computes of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Checksum {
    /// CRC-32 (the polynomial of zlib): notices damage, costs next to nothing.
    #[default]
    Crc32,
    /// SHA-256: notices forgery too. 0.3 GB/s where the processor has no instructions for it, else 1.9 GB/s.
    Sha256,
    /// None: the kernel can move the bytes without this program seeing them.
    None,
}

/// A file's checksum: `crc32:…` or `sha256:…` in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sum(Option<String>);

impl Sum {
    /// The checksum as text, or `None` if none was computed.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// No checksum.
    pub fn none() -> Self {
        Self(None)
    }

    /// Which kind it is.
    pub fn kind(&self) -> Checksum {
        match self.as_str() {
            Some(text) if text.starts_with("sha256:") => Checksum::Sha256,
            Some(_) => Checksum::Crc32,
            None => Checksum::None,
        }
    }
}

impl Checksum {
    pub(crate) fn hasher(self) -> Hasher {
        match self {
            Checksum::Crc32 => Hasher::Crc32(crc32fast::Hasher::new()),
            Checksum::Sha256 => Hasher::Sha256(Box::new(digest::Context::new(&digest::SHA256))),
            Checksum::None => Hasher::None,
        }
    }
}

/// A checksum in the making.
pub(crate) enum Hasher {
    Crc32(crc32fast::Hasher),
    /// `ring`'s: twice to three times as fast as others on processors without instructions for SHA.
    Sha256(Box<digest::Context>),
    None,
}

impl Hasher {
    /// Adds bytes. With a CRC-32 that somebody else wants of them too, that one is computed, and what is added to a
    /// checksum of the same kind has to be [`combined`](Hasher::combine) afterwards: no byte is summed twice.
    pub(crate) fn update(&mut self, bytes: &[u8], crc: Option<&mut crc32fast::Hasher>) {
        let summed = crc.map(|crc| crc.update(bytes)).is_some();
        match self {
            Hasher::Crc32(hasher) if !summed => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Crc32(_) | Hasher::None => {}
        }
    }

    /// Adds the bytes that `crc` has seen instead of this; nothing if there were none.
    pub(crate) fn combine(&mut self, crc: &crc32fast::Hasher) {
        if let Hasher::Crc32(hasher) = self {
            hasher.combine(crc);
        }
    }

    pub(crate) fn finish(self) -> Sum {
        Sum(match self {
            Hasher::Crc32(hasher) => Some(format!("crc32:{:08x}", hasher.finalize())),
            Hasher::Sha256(hasher) => Some(format!("sha256:{}", hex(hasher.finish().as_ref()))),
            Hasher::None => None,
        })
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_published_check_values() {
        for (kind, expected) in [
            (Checksum::Crc32, "crc32:cbf43926"),
            (Checksum::Sha256, "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let mut hasher = kind.hasher();
            hasher.update(b"1234", None);
            let mut crc = crc32fast::Hasher::new();
            hasher.update(b"56789", Some(&mut crc));
            hasher.combine(&crc);
            let sum = hasher.finish();
            assert_eq!(sum.as_str(), Some(expected));
            assert_eq!(sum.kind(), kind);
        }
    }
}
