//! What an archive contains.

use std::io::Read;
use std::path::PathBuf;

use crate::Error;
use crate::chunk::ChunkKind;
use crate::path::display;
use crate::reader::Reader;
use crate::track::Tracker;

/// One thing that an archive does, in the order in which it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A file, when its end has come.
    File {
        /// The member's path; it may be unsafe.
        path: PathBuf,
        /// Size of the file in bytes, holes included; of a compressed member the compressed size.
        size: u64,
        /// Payload bytes in the archive.
        stored: u64,
        /// Chunks, the end not counted.
        chunks: u64,
        /// The contents of an earlier file of the same name are replaced (MariaDB).
        rewrite: bool,
    },
    /// An earlier file gets another name (MariaDB).
    Rename {
        /// The old path.
        from: PathBuf,
        /// The new path.
        to: PathBuf,
    },
    /// An earlier file is removed (MariaDB).
    Remove {
        /// The path.
        path: PathBuf,
    },
}

/// The sums over an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files, rewritten ones counted each time.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Length of the archive in bytes.
    pub archive: u64,
}

#[derive(Debug, Default)]
struct Counts {
    size: u64,
    stored: u64,
    chunks: u64,
    rewrite: bool,
}

/// Reads a whole archive, checks every checksum and the order and end of every file, and gives out each entry.
///
/// Names are given as they are; only [`extract`](crate::extract) refuses the unsafe ones.
///
/// # Errors
///
/// The same as for extracting, as far as they concern the archive alone.
pub fn list<R: Read>(reader: &mut Reader<R>, mut on_entry: impl FnMut(Entry)) -> Result<Totals, Error> {
    let mut files: Tracker<Counts> = Tracker::new();
    let mut totals = Totals::default();
    while let Some(chunk) = reader.next_chunk()? {
        let header = chunk.header();
        let path = &header.path[..];
        match &header.kind {
            ChunkKind::Ignorable { .. } => continue,
            ChunkKind::Rename { .. } | ChunkKind::Remove if files.is_open(path) => {
                return Err(Error::StillOpen { path: display(path) });
            }
            ChunkKind::Rename { to } => {
                if files.is_open(to) {
                    return Err(Error::StillOpen { path: display(to) });
                }
                if files.names().has(path) {
                    files.names().free(path);
                    files.names().take(to);
                }
                on_entry(Entry::Rename { from: display(path), to: display(to) });
                continue;
            }
            ChunkKind::Remove => {
                files.names().free(path);
                on_entry(Entry::Remove { path: display(path) });
                continue;
            }
            _ => {}
        }
        if !files.is_open(path) {
            let rewrite = header.is_rewrite() && files.names().has(path);
            if !files.names().take(path) && !rewrite {
                return Err(Error::Duplicate { path: display(path) });
            }
            files.begin(path, Counts { rewrite, ..Counts::default() });
        }
        if header.kind == ChunkKind::End {
            let Some(counts) = files.end(path) else { continue };
            let Counts { size, stored, chunks, rewrite } = counts.with;
            totals.files += 1;
            totals.bytes += size;
            on_entry(Entry::File { path: display(path), size, stored, chunks, rewrite });
        } else if let Some(file) = files.open(path) {
            file.advance(header)?;
            file.with.chunks += 1;
            file.with.stored += header.payload_len();
            // A seek alone does not make a file longer.
            if !matches!(header.kind, ChunkKind::Seek { .. }) {
                file.with.size = file.with.size.max(file.next);
            }
        }
    }
    files.check_complete()?;
    totals.archive = reader.position();
    Ok(totals)
}
