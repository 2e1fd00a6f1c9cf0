//! Which files are begun, how far they are, and which names are taken.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::Error;
use crate::chunk::{ChunkHeader, ChunkKind};
use crate::path::display;

/// Most names that [`Error::MissingEnd`] lists.
const MAX_NAMED: usize = 16;

/// The files of a stream that are begun and not ended, each with its next offset and the caller's `T`.
///
/// Of the ended ones only a keyed 64-bit hash of the name is kept: 8 bytes a file instead of its path.
#[derive(Debug)]
pub(crate) struct Tracker<T> {
    open: HashMap<Box<[u8]>, Open<T>>,
    names: Names,
}

#[derive(Debug)]
pub(crate) struct Open<T> {
    /// Where the next chunk has to begin.
    pub(crate) next: u64,
    pub(crate) with: T,
}

impl<T> Open<T> {
    /// Checks that the chunk continues the file, and moves on to its end.
    pub(crate) fn advance(&mut self, header: &ChunkHeader) -> Result<(), Error> {
        let (offset, end) = match &header.kind {
            ChunkKind::Payload { offset, len } => (*offset, offset + len),
            ChunkKind::Sparse { offset, runs, .. } => {
                let covered: u64 = runs.iter().map(|run| u64::from(run.skip) + u64::from(run.len)).sum();
                (*offset, offset + covered)
            }
            ChunkKind::Seek { offset } => {
                self.next = *offset;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if offset != self.next {
            return Err(Error::OutOfOrder {
                path: display(&header.path),
                expected: self.next,
                found: offset,
            });
        }
        self.next = end;
        Ok(())
    }
}

impl<T> Tracker<T> {
    pub(crate) fn new() -> Self {
        Self { open: HashMap::new(), names: Names::default() }
    }

    pub(crate) fn open(&mut self, path: &[u8]) -> Option<&mut Open<T>> {
        self.open.get_mut(path)
    }

    pub(crate) fn is_open(&self, path: &[u8]) -> bool {
        self.open.contains_key(path)
    }

    pub(crate) fn begin(&mut self, path: &[u8], with: T) -> &mut Open<T> {
        self.open.entry(path.into()).or_insert(Open { next: 0, with })
    }

    pub(crate) fn end(&mut self, path: &[u8]) -> Option<Open<T>> {
        self.open.remove(path)
    }

    pub(crate) fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The stream has ended: refuses what is not complete.
    pub(crate) fn check_complete(&self) -> Result<(), Error> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&[u8]> = self.open.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        let paths = names.iter().take(MAX_NAMED).map(|path| display(path)).collect();
        Err(Error::MissingEnd { paths, count: names.len() })
    }
}

/// The names that the stream has given to files.
#[derive(Debug, Default)]
pub(crate) struct Names {
    key: RandomState,
    taken: HashSet<u64>,
}

impl Names {
    /// False when the name was taken.
    pub(crate) fn take(&mut self, name: &[u8]) -> bool {
        self.taken.insert(self.key.hash_one(name))
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.taken.contains(&self.key.hash_one(name))
    }

    pub(crate) fn free(&mut self, name: &[u8]) {
        self.taken.remove(&self.key.hash_one(name));
    }
}
