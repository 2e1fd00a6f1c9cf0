//! What a verification found.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Error;
use crate::names::text;

/// Findings that are kept; the rest is counted.
const KEPT: usize = 1000;

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// The id of the backup, if it has a manifest.
    pub id: Option<String>,
    /// The backup that it builds on.
    pub base: Option<String>,
    /// Files looked at.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Data files that RocksDB's MANIFEST needs.
    pub live_files: u64,
    /// Blocks whose checksum was right.
    pub blocks: u64,
    /// Data files that the base holds, and that were not looked at here.
    pub in_base: u64,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
    /// How many findings there are.
    pub problem_count: usize,
    /// The findings, at most 1000 of them.
    pub problems: Vec<Problem>,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Problem {
    /// A file is not there.
    #[error("{path:?} is missing")]
    Missing {
        /// The file.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// A file has another size than it should.
    #[error("{path:?} has {actual} bytes, not {expected}")]
    Size {
        /// The file.
        #[serde(with = "text")]
        path: PathBuf,
        /// Bytes according to the manifest, or to RocksDB.
        expected: u64,
        /// Bytes it has.
        actual: u64,
    },
    /// A file's content is not the one of the manifest.
    #[error("{path:?} has the checksum {actual}, not {expected}")]
    Sum {
        /// The file.
        #[serde(with = "text")]
        path: PathBuf,
        /// Checksum according to the manifest.
        expected: String,
        /// Checksum it has.
        actual: String,
    },
    /// A file is in the backup that its manifest does not know.
    #[error("{path:?} is not in the manifest")]
    Unknown {
        /// The file.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// There is no manifest, and something else says that the backup is not whole.
    #[error("it was cut off: {reason}")]
    CutOff {
        /// How that is seen.
        reason: &'static str,
    },
    /// A file of RocksDB is damaged inside.
    #[error("{path:?}: {text}")]
    Rocks {
        /// The file.
        #[serde(with = "text")]
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
}

impl Verified {
    /// If nothing was found.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < KEPT {
            self.problems.push(problem);
        }
    }

    /// An error if something was found.
    pub(crate) fn into_result(self, path: &Path) -> Result<Self, Error> {
        match self.problems.first() {
            None => Ok(self),
            Some(first) => Err(Error::Damaged {
                path: path.to_owned(),
                count: self.problem_count,
                first: first.to_string(),
            }),
        }
    }
}
