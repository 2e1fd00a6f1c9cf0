//! Every vector of a folder with `xbstream/`, `qpress/` and `compress/`, each with a manifest that says what must come
//! out of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use xbstream::member::{Algorithm, Decoding, Key, decode};
use xbstream::{Class, Dialect, ExtractOptions, Reader, extract};

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

/// The vectors of a folder. One that is in no manifest would be tested by nobody.
fn manifest(folder: &Path) -> Vec<Vector> {
    let vectors: Vec<Vector> =
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let vector = name.strip_suffix(".plain").unwrap_or(&name);
        assert!(
            name == "manifest.json" || vectors.iter().any(|v| v.file == vector),
            "{name} is in no manifest"
        );
    }
    vectors
}

/// The key of an encrypted vector, which stands in its manifest's notes.
fn decoding(vector: &Vector) -> Decoding {
    let key: &[u8] = match vector.file.contains("aes128") {
        true => b"0123456789abcdef",
        false => b"0123456789abcdef0123456789abcdef",
    };
    let algorithm = if key.len() == 16 { Algorithm::Aes128 } else { Algorithm::Aes256 };
    Decoding::none().decompress(true).decrypt(Key::new(algorithm, key.to_vec().into()).unwrap())
}

fn dialect(vector: &Vector) -> Dialect {
    match vector.dialect.as_deref() {
        Some("percona") => Dialect::Percona,
        Some("mariadb") => Dialect::MariaDb,
        _ => Dialect::Auto,
    }
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
        for dialect in [dialect(&vector), Dialect::Auto] {
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
            let decoding = decoding(&vector);
            let bytes = fs::read(folder.join(&vector.file)).unwrap();
            let mut plain = Vec::new();
            let result = decode(Path::new(&vector.file), &decoding, &bytes[..], &mut plain);
            if vector.expect.as_deref() == Some("error") {
                let error = result.expect_err(&vector.file);
                assert_eq!(error.class(), Class::Damaged, "{}: {error}", vector.file);
            } else {
                result.unwrap_or_else(|e| panic!("{}: {e}", vector.file));
                assert_eq!(Some(hex(&plain)), vector.plain_sha256, "{}", vector.file);
            }
        }
    }
}

/// Every place in a vector of up to 16 KiB; of a longer one its first and last KiB and 4,096 places between.
fn places(len: usize) -> impl Iterator<Item = usize> {
    const ALL: usize = 16 * 1024;
    let step = if len > ALL { len / 4096 } else { 1 };
    (0..len).filter(move |at| at % step == 0 || *at < 1024 || at + 1024 > len)
}

#[test]
#[ignore = "needs a folder of vectors in DBRECOVER_VECTORS; run: ./test"]
fn members_cut_or_changed_anywhere_never_give_other_bytes() {
    for folder in [folder("qpress"), folder("compress")] {
        for vector in manifest(&folder).iter().filter(|vector| vector.expect.as_deref() != Some("error")) {
            let whole = fs::read(folder.join(&vector.file)).unwrap();
            let run = |bytes: &[u8]| {
                let mut plain = Vec::new();
                let result = decode(Path::new(&vector.file), &decoding(vector), bytes, &mut plain);
                (result, plain)
            };
            let plain = run(&whole).1;
            for at in places(whole.len()) {
                let (result, out) = run(&whole[..at]);
                assert!(plain.starts_with(&out), "{} cut at {at}", vector.file);
                // Frames and chunks stand alone; what is missing behind one is noticed by the archive around it.
                let whole_frames = !vector.file.ends_with(".qp");
                assert!(
                    result.is_err() || whole_frames || at + 8 >= whole.len(),
                    "{} cut at {at}",
                    vector.file
                );

                let mut changed = whole.clone();
                changed[at] ^= 0x01;
                let (result, out) = run(&changed);
                // The version digit of a chunk of xbcrypt takes its hash away; frames before it are right.
                let version = whole[..=at].ends_with(b"XBCRYP03");
                assert!(result.is_err() || version || out == plain, "{} byte {at}", vector.file);
            }
        }
    }
}

#[test]
#[ignore = "needs a folder of vectors in DBRECOVER_VECTORS; run: ./test"]
fn archives_cut_or_changed_anywhere_leave_nothing_unfinished_and_no_other_bytes() {
    let folder = folder("xbstream");
    for vector in manifest(&folder).iter().filter(|vector| vector.expect.as_deref() == Some("ok")) {
        let whole = fs::read(folder.join(&vector.file)).unwrap();
        let run = |bytes: &[u8]| {
            let target = tempfile::tempdir().unwrap();
            let reader = Reader::with_dialect(bytes, dialect(vector));
            let result = extract(reader, target.path(), &ExtractOptions::new().threads(1));
            let mut found = Vec::new();
            files(target.path(), target.path(), &mut found);
            assert!(found.iter().all(|path| path.extension().is_none_or(|e| e != "partial")), "{found:?}");
            // Holes may be elsewhere, and a name or place of theirs is not under any checksum.
            let plain = |path: &PathBuf| -> Vec<u8> {
                fs::read(target.path().join(path)).unwrap().into_iter().filter(|byte| *byte != 0).collect()
            };
            (result.is_ok(), found.iter().map(plain).collect::<Vec<_>>())
        };
        let begins_chunk = |at: usize| whole[at..].starts_with(b"XBSTCK01");
        // What files may hold: their contents after every chunk of the archive.
        let chunks = (0..whole.len()).filter(|at| begins_chunk(*at)).chain([whole.len()]);
        let known: BTreeSet<Vec<u8>> = chunks.flat_map(|at| run(&whole[..at]).1).collect();
        for at in places(whole.len()) {
            let (sound, left) = run(&whole[..at]);
            // Behind the end of a file the cut is not to be seen.
            assert!(!sound || begins_chunk(at), "{} cut at {at}", vector.file);
            assert!(left.iter().all(|plain| known.contains(plain)), "{} cut at {at}", vector.file);
            let mut changed = whole.clone();
            changed[at] ^= 0x01;
            let (sound, left) = run(&changed);
            let same = left.iter().all(|plain| plain.is_empty() || known.contains(plain));
            assert!(!sound || same, "{} byte {at}", vector.file);
        }
    }
}
