//! Read and write xbstream, the chunked archive that Percona XtraBackup and MariaDB stream backups in.
//!
//! [`Reader`] pulls chunks from any [`Read`](std::io::Read), [`Writer`] pushes files to any
//! [`Write`](std::io::Write), [`extract`] unpacks a stream below a directory, [`extract_at`] a file (faster, with all
//! processors), [`list`] says what is in it.
//! Compression and encryption are only file-name endings in the archive itself; [`member`] undoes `.qp`,
//! `.lz4`, `.zst` and `.xbcrypt`, and [`extract`] does so on the way to disk.
//!
//! # Example
//!
//! ```
//! use xbstream::{ExtractOptions, Reader, Writer, extract};
//!
//! let writer = Writer::new(Vec::new());
//! writer.append("db/t.ibd", &b"a page"[..])?;
//! let archive = writer.finish()?;
//!
//! let target = tempfile::tempdir()?;
//! let done = extract(Reader::new(&archive[..]), target.path(), &ExtractOptions::new())?;
//! assert_eq!((done.files, done.bytes), (1, 6));
//! assert_eq!(std::fs::read(target.path().join("db/t.ibd"))?, b"a page");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Wire format
//!
//! A sequence of chunks, no header before and no mark after them; numbers are little-endian.
//!
//! | offset | size | field | in |
//! |---|---|---|---|
//! | 0 | 8 | `XBSTCK01` | all |
//! | 8 | 1 | flags: 0x01 ignorable, 0x02 rewrite (MariaDB) | all |
//! | 9 | 1 | type: `P` payload, `E` end of file, `S` sparse payload (Percona) or seek (MariaDB), `R` rename and `D` remove (MariaDB) | all |
//! | 10 | 4 | length L of the path, below 512 | all |
//! | 14 | L | path, bytes as on disk | all |
//! | 14+L | 8 | position of the next payload | seek |
//! | 14+L | 4 + n | length and bytes of the new path | rename |
//! | 14+L | 4 | entries M of the sparse map | sparse |
//! | … | 8 | payload length N | payload, sparse |
//! | … | 8 | position of the payload in the file | payload, sparse |
//! | … | 4 | CRC-32 (zlib's) of map and payload | payload, sparse |
//! | … | 8·M | sparse map: u32 bytes of hole, u32 bytes of data | sparse |
//! | … | N | payload | payload, sparse |
//!
//! Chunks of several files interleave; those of one file follow each other without gap, and its `E` ends it.
//!
//! # Limits
//!
//! What the format cannot notice, no reader can: the CRC covers neither path nor flags nor type, so a flipped bit
//! there gives another name. There is no end mark: an archive cut exactly behind a file's end looks complete, so
//! check for the files a whole backup must contain. Modes, owners, times, links and empty directories are not
//! recorded. Payloads may be of any length; paths have at most 511 bytes, sparse maps 1,048,576 entries.
//! Unix only: names are bytes.
//!
//! Sources of the format: Percona's documentation of XtraBackup 8.0 for sparse payloads, MariaDB 10.11.19's
//! `mbstream` and `mariabackup` for all else; checked against these two programs in both directions.

mod chunk;
mod dialect;
mod error;
mod extract;
mod input;
mod list;
pub mod member;
mod path;
mod reader;
mod source;
mod track;
mod writer;

pub use chunk::{
    ChunkHeader, ChunkKind, FLAG_IGNORABLE, FLAG_REWRITE, MAGIC, MAX_PATH_LEN, MAX_SPARSE_RUNS, SparseRun,
};
pub use dialect::{Dialect, UnknownDialect};
pub use error::{Class, Error, Part};
pub use extract::{ExtractOptions, Extracted, extract, extract_at};
pub use list::{Entry, Totals, list};
pub use path::Unsafe;
pub use reader::{Chunk, Reader};
pub use source::ReadAt;
pub use writer::{CHUNK_SIZE, FileWriter, Writer};
