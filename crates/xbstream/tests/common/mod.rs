//! What several test programs need: chunks put together by hand, encoders, and looking at directories.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod encode;
pub(crate) mod fuzz;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use xbstream::{Error, ExtractOptions, Extracted, Reader};

/// A chunk's magic, flags, type and path.
pub(crate) fn head(kind: u8, flags: u8, path: &[u8]) -> Vec<u8> {
    let mut bytes = b"XBSTCK01".to_vec();
    bytes.extend([flags, kind]);
    bytes.extend((path.len() as u32).to_le_bytes());
    bytes.extend(path);
    bytes
}

/// A payload chunk with the right checksum.
pub(crate) fn payload(path: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    flagged(0, path, offset, data)
}

/// The same with flags.
pub(crate) fn flagged(flags: u8, path: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = head(b'P', flags, path);
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(crc32fast::hash(data).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A sparse chunk of Percona.
pub(crate) fn sparse(path: &[u8], offset: u64, runs: &[(u32, u32)], data: &[u8]) -> Vec<u8> {
    let map: Vec<u8> =
        runs.iter().flat_map(|(skip, len)| [skip.to_le_bytes(), len.to_le_bytes()].concat()).collect();
    let mut bytes = head(b'S', 0, path);
    bytes.extend((runs.len() as u32).to_le_bytes());
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(crc32fast::hash(&[&map, data].concat()).to_le_bytes());
    bytes.extend(map);
    bytes.extend(data);
    bytes
}

/// A seek of MariaDB.
pub(crate) fn seek(path: &[u8], offset: u64) -> Vec<u8> {
    [head(b'S', 0, path), offset.to_le_bytes().to_vec()].concat()
}

pub(crate) fn end(path: &[u8]) -> Vec<u8> {
    head(b'E', 0, path)
}

/// A whole file in one chunk.
pub(crate) fn file(path: &[u8], data: &[u8]) -> Vec<u8> {
    [payload(path, 0, data), end(path)].concat()
}

pub(crate) fn rename(from: &[u8], to: &[u8]) -> Vec<u8> {
    [head(b'R', 0, from), (to.len() as u32).to_le_bytes().to_vec(), to.to_vec()].concat()
}

pub(crate) fn remove(path: &[u8]) -> Vec<u8> {
    head(b'D', 0, path)
}

/// Extracts below `target` with one worker.
pub(crate) fn extract_to(
    archive: &[u8],
    target: &Path,
    options: &ExtractOptions,
) -> Result<Extracted, Error> {
    xbstream::extract(Reader::new(archive), target, &options.clone().threads(1))
}

/// Extracts into a fresh directory and gives what is in it afterwards.
pub(crate) fn extract(
    archive: &[u8],
    options: &ExtractOptions,
) -> (Result<Extracted, Error>, BTreeMap<String, Vec<u8>>) {
    let target = tempfile::tempdir().unwrap();
    let result = extract_to(archive, target.path(), options);
    (result, tree(target.path()))
}

/// The files below `dir` and their contents.
pub(crate) fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Gives its bytes in pieces of the sizes named, over and over.
pub(crate) struct Pieces<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) sizes: Vec<usize>,
    pub(crate) turn: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], sizes: Vec<usize>) -> Self {
        Self { bytes, sizes, turn: 0 }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        let n = size.min(out.len()).min(self.bytes.len());
        out[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        Ok(n)
    }
}
