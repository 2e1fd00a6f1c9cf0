//! What was done, for people and programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// One server's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerFiles {
    /// Where they are.
    pub directory: PathBuf,
    /// Files that came out of the stream.
    pub files: u64,
    /// Their bytes, after decompression.
    pub bytes: u64,
    /// Files that were decompressed or decrypted on the way.
    pub decoded: u64,
    /// Bytes of the stream.
    pub stream_bytes: u64,
}

/// The database server's own files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BaseFiles {
    /// The one folder that the tarball held, where it is now.
    pub directory: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What [`unpack`](crate::unpack) did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Name of the backup.
    pub backup: String,
    /// `folder`, `tar`, `encrypted-tar` or `stream`.
    pub source: &'static str,
    /// Bytes of the input.
    pub bytes_read: u64,
    /// Bytes of all files that were written.
    pub bytes_written: u64,
    /// By the server's folder in the backup.
    pub servers: BTreeMap<String, ServerFiles>,
    /// Servers in the backup whose streams were passed over.
    pub servers_skipped: Vec<String>,
    /// `None` if none was asked for.
    pub base: Option<BaseFiles>,
    /// Everything else, in `WORK-DIR/BACKUP`.
    pub small_files: Tally,
    /// Members that lost their setuid, setgid or sticky bit; the first 100.
    pub mode_bits_dropped: Vec<String>,
    /// Wall-clock time, the wait for the disk at the end included.
    pub seconds: f64,
    /// What the system counted for this process meanwhile; `None` where it does not say.
    pub process_io: Option<ProcessIo>,
}

/// The difference of `/proc/self/io` over the work. It counts the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProcessIo {
    /// Bytes handed to `write`, to pipes and terminals too.
    pub written_chars: u64,
    /// Bytes that were to be written to the storage layer (`write_bytes`); a file system in memory has none.
    pub storage_written: u64,
    /// Bytes fetched from the storage layer (`read_bytes`).
    pub storage_read: u64,
}

impl ProcessIo {
    /// The counters as they are now.
    pub(crate) fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/io").ok()?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
        };
        Some(Self {
            written_chars: field("wchar")?,
            storage_written: field("write_bytes")?,
            storage_read: field("read_bytes")?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            written_chars: self.written_chars.saturating_sub(before.written_chars),
            storage_written: self.storage_written.saturating_sub(before.storage_written),
            storage_read: self.storage_read.saturating_sub(before.storage_read),
        }
    }
}
