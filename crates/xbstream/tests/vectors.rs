//! The vectors in `tests/vectors`, made by `mbstream`, `mariabackup`, `lz4` and `zstd` (see `make.sh` there).

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use xbstream::ExtractOptions;
use xbstream::member::{Decoding, decode};

#[derive(Deserialize)]
struct Manifest {
    archives: BTreeMap<String, BTreeMap<String, Contents>>,
    members: BTreeMap<String, Contents>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Contents {
    len: u64,
    sha256: String,
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        Self { len: bytes.len() as u64, sha256 }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn manifest() -> Manifest {
    serde_json::from_slice(&fs::read(folder().join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn archives_of_the_real_tools_give_the_files_they_were_made_of() {
    let options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    for (name, files) in manifest().archives {
        let (result, found) = common::extract(&fs::read(folder().join(&name)).unwrap(), &options);
        result.unwrap();
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(path, data)| (path, Contents::of(&data))).collect();
        assert_eq!(found, files, "{name}");
    }
}

#[test]
fn members_of_the_real_tools_give_the_bytes_they_were_made_of() {
    let decoding = Decoding::none().decompress(true);
    for (name, contents) in manifest().members {
        let data = fs::read(folder().join(&name)).unwrap();
        let mut plain = Vec::new();
        decode(Path::new(&name), &decoding, &data[..], &mut plain).unwrap();
        assert_eq!(Contents::of(&plain), contents, "{name}");
    }
}

#[test]
fn cut_member_of_a_real_tool_never_gives_more_than_its_beginning() {
    let decoding = Decoding::none().decompress(true);
    for name in manifest().members.keys() {
        let data = fs::read(folder().join(name)).unwrap();
        let mut whole = Vec::new();
        decode(Path::new(name), &decoding, &data[..], &mut whole).unwrap();
        for cut in (0..data.len()).step_by(1 + data.len() / 400) {
            let mut plain = Vec::new();
            let result = decode(Path::new(name), &decoding, &data[..cut], &mut plain);
            assert!(whole.starts_with(&plain), "{name} cut at {cut}");
            // Only whole frames may pass for a member.
            assert!(result.is_err() || cut == 0 || name.starts_with("frames"), "{name} cut at {cut}");
        }
    }
}
