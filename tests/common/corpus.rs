//! The kept inputs of a crate's fuzz targets, those that once failed included.

use std::fs;
use std::path::Path;

/// Gives every file in `tests/corpus/TARGET` of the crate that includes this to `run`.
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
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

/// A test for each target, called like it and like its function in `common::fuzz`.
macro_rules! replay_each {
    ($($target:ident),+) => {
        $(
            #[test]
            fn $target() {
                $crate::corpus::replay(stringify!($target), $crate::common::fuzz::$target);
            }
        )+
    };
}
pub(crate) use replay_each;
