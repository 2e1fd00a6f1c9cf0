//! Every kept input of the fuzz targets, those that once failed included.

mod common;

use std::fs;
use std::path::Path;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs in {}", folder.display());
}

#[test]
fn tar() {
    replay("tar", common::fuzz::tar);
}

#[test]
fn encrypted() {
    replay("encrypted", common::fuzz::encrypted);
}

#[test]
fn base() {
    replay("base", common::fuzz::base);
}

#[test]
fn folder() {
    replay("folder", common::fuzz::folder);
}
