//! Where the fixtures are.

// Not every test crate uses all of it.
#![allow(dead_code)]

pub(crate) mod round_trip;

use std::path::{Path, PathBuf};

/// The folder of the committed fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// All committed binlogs, by name.
pub(crate) fn files() -> Vec<PathBuf> {
    files_in(&fixtures())
}

/// All binlogs in the folders of `root`, by name.
pub(crate) fn files_in(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("sql"))
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("binlog."))
        .collect();
    files.sort();
    files
}
