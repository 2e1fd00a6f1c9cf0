//! Put one backup where it belongs, in one pass: decrypt, untar, extract and decompress as a single stream.
//!
//! A backup is a folder, a tar of that folder, or an AES Crypt stream of such a tar. [`unpack`] reads it once,
//! from a path or from any [`Read`](std::io::Read), and writes every byte once, to its place:
//!
//! | member | goes to |
//! | --- | --- |
//! | `SERVER/backup.xbsteam` | the files in it, decompressed, below the directory that [`Layout::server`] names |
//! | the same of a server that has none | nowhere |
//! | `datanode_base/*.tar.gz` | the files in it, below [`Layout::base`]; nowhere without one |
//! | everything else | `WORK-DIR/BACKUP/`, under its own name |
//!
//! With [`Layout::only`] some members go to `WORK-DIR/BACKUP/`, and the others nowhere.
//!
//! # Example
//!
//! ```
//! use backup_unpack::{Layout, Options, Progress, Source, unpack};
//!
//! # let dir = tempfile::tempdir()?;
//! # let store = dir.path().join("store/UTC20261120010203.004-full");
//! # let work = dir.path().join("work");
//! # std::fs::create_dir_all(store.join("ds-db1-10.0.0.5-3306"))?;
//! # let mut archive = xbstream::Writer::new(std::fs::File::create(store.join("ds-db1-10.0.0.5-3306/backup.xbsteam"))?);
//! # archive.append("xtrabackup_checkpoints", &b"backup_type = full-backuped\n"[..])?;
//! # archive.finish()?;
//! # std::fs::write(store.join("consistent_point_datetime"), "2026-11-20 02:03:04\n")?;
//! let layout = Layout::new(&work, "UTC20261120010203.004-full")
//!     .server("ds-db1-10.0.0.5-3306", work.join("db1"));
//! let report = unpack(Source::Folder(store), &layout, &Options::default(), &Progress::default())?;
//!
//! assert_eq!(report.servers["ds-db1-10.0.0.5-3306"].files, 1);
//! assert!(work.join("db1/xtrabackup_checkpoints").exists());
//! assert!(work.join("UTC20261120010203.004-full/consistent_point_datetime").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a failure leaves
//!
//! Nothing. Every destination is filled under a name that ends in `.unpack-partial`. Only when the whole input
//! was read (an encrypted one: its HMAC agreed), each stream was complete and held the file of checkpoints that a whole
//! backup has, and all of it is on the disk, are the destinations renamed, `WORK-DIR/BACKUP` last. A process
//! that was killed leaves such names; the next run removes its own. One that still runs is waited for, four minutes at most.
//!
//! # What is refused
//!
//! By name, before anything is written for it: absolute paths, `..`, devices, pipes, sparse members, members that
//! come twice, links that leave the destination, and everything that would be written through a symbolic link.
//! Setuid, setgid and sticky bits are dropped and reported. A tar that stops before its end mark is truncated,
//! also where it stops between two members.
//!
//! # Limits
//!
//! * Of tar members and a folder's files the permissions and the time of the last change are restored; owners, extended
//!   attributes and the times of directories and links are not.
//! * Destinations must be absent or empty, no mount points, and none inside another or inside the folder that is read.
//! * Memory: 64 MiB beside what the decoders of `xbstream` need, whatever the size of the backup.
//! * Linux only: paths are opened component by component without following links.

#![forbid(unsafe_code)]

mod archive; // tar members, one after the other
mod base; // the database server's own files
mod error;
mod folder; // a backup that is a folder on this machine
mod layout;
mod member; // names that stay below a directory
mod partial; // directories that are complete or not there
mod progress;
mod report;
mod source;
mod stream; // one server's, by itself
mod tree; // writing below a directory, never through a link
mod unpack;

pub use error::{Class, Error, Refusal};
pub use layout::{Layout, Options};
pub use progress::Progress;
pub use report::{BaseFiles, ProcessIo, Report, ServerFiles, Tally};
pub use source::{Format, Source};
pub use stream::{CHECKPOINTS, unpack_stream};
pub use unpack::{BASE, STREAM, unpack};
pub use xbstream::member::{Algorithm, Decoding, Key};
