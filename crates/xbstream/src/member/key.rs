//! Keys of encrypted members.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretSlice};

/// The cipher of `--encrypt`. It is not recorded in the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `AES128`
    Aes128,
    /// `AES192`
    Aes192,
    /// `AES256`
    Aes256,
}

impl Algorithm {
    /// Length of its keys, in bytes.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    /// The names of XtraBackup's `--encrypt` and `--decrypt`, in either case.
    fn from_str(name: &str) -> Result<Self, KeyError> {
        match name.to_ascii_uppercase().as_str() {
            "AES128" => Ok(Self::Aes128),
            "AES192" => Ok(Self::Aes192),
            "AES256" => Ok(Self::Aes256),
            _ => Err(KeyError::Algorithm { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128 => "AES128",
            Self::Aes192 => "AES192",
            Self::Aes256 => "AES256",
        })
    }
}

/// An algorithm and a key of the right length. The key is wiped when dropped and never printed.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    bytes: SecretSlice<u8>,
}

impl Key {
    /// A key of raw bytes: those of `--encrypt-key`, or of the whole file of `--encrypt-key-file`, where a final
    /// newline counts as well.
    ///
    /// # Errors
    ///
    /// [`KeyError::Length`] if it does not fit the algorithm.
    pub fn new(algorithm: Algorithm, bytes: SecretSlice<u8>) -> Result<Self, KeyError> {
        let (expected, actual) = (algorithm.key_len(), bytes.expose_secret().len());
        if actual == expected {
            Ok(Self { algorithm, bytes })
        } else {
            Err(KeyError::Length { algorithm, expected, actual })
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm)
    }
}

/// A key or algorithm that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No such algorithm.
    #[error("unknown algorithm {name:?}, not one of AES128, AES192, AES256")]
    Algorithm {
        /// What was asked for.
        name: String,
    },
    /// The key has another length.
    #[error("a key for {algorithm} has {expected} bytes, this one has {actual}; a final newline counts")]
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// Its key length in bytes.
        expected: usize,
        /// The length found.
        actual: usize,
    },
}
