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
fn decryptor() {
    replay("decryptor", common::fuzz::decryptor);
}

#[test]
fn sealed() {
    replay("sealed", common::fuzz::sealed);
}

#[test]
fn altered() {
    replay("altered", common::fuzz::altered);
}
