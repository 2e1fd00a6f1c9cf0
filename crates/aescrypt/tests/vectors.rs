//! Streams with a stated outcome, those that fail by the name of their error.

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{decrypt, outcome, plain, vector, vectors};
use serde_json::Value;

fn manifest(path: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_vector_has_the_outcome_of_the_manifest() {
    let manifest = manifest(vectors().join("manifest.json"));
    assert!(manifest.len() > 40);
    for entry in manifest {
        let name = entry["file"].as_str().unwrap();
        let result = decrypt(&vector(name), entry["password"].as_str().unwrap());
        assert_eq!(outcome(&result), entry["expect"], "{name}");
        if let Ok(bytes) = result {
            assert_eq!(bytes, plain(entry["size"].as_u64().unwrap() as usize), "{name}");
        }
    }
}

fn outside() -> PathBuf {
    let folder = std::env::var_os("DBRECOVER_VECTORS")
        .expect("DBRECOVER_VECTORS names no folder of vectors; ./test sets it");
    PathBuf::from(folder).join("aescrypt")
}

/// A vector that is in no manifest would be tested by nobody.
fn assert_manifest_names_all(folder: &Path, manifest: &[Value]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = manifest.iter().any(|entry| entry["file"] == *name);
        assert!(known || ["manifest.json", "make.py"].contains(&&*name), "{name} is in no manifest");
    }
}

#[test]
fn every_vector_is_in_the_manifest() {
    assert_manifest_names_all(&vectors(), &manifest(vectors().join("manifest.json")));
}

#[test]
#[ignore = "needs DBRECOVER_VECTORS; run: ./test"]
fn outside_vectors_have_the_outcome_of_their_manifest() {
    let folder = outside();
    let manifest = manifest(folder.join("manifest.json"));
    assert_manifest_names_all(&folder, &manifest);
    for entry in manifest {
        let name = entry["file"].as_str().unwrap();
        let stream = unhex(&std::fs::read_to_string(folder.join(name)).unwrap());
        let result = decrypt(&stream, entry["password"].as_str().unwrap());
        let named = outcome(&result);
        match entry["expect"].as_str().unwrap() {
            "ok" => {
                use sha2::{Digest, Sha256};
                let bytes = result.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(bytes.len() as u64, entry["plain_len"].as_u64().unwrap(), "{name}");
                let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(digest, entry["plain_sha256"], "{name}");
            }
            "wrong password" => assert_eq!(named, "WrongPassword", "{name}"),
            "bad body HMAC" => assert_eq!(named, "Tampered", "{name}"),
            "truncated / bad HMAC" => assert!(["Truncated", "Tampered"].contains(&named), "{name}: {named}"),
            other => panic!("{name}: unknown outcome {other:?}"),
        }
    }
}

#[test]
#[ignore = "needs DBRECOVER_VECTORS; run: ./test"]
fn outside_vectors_cut_anywhere_or_with_any_byte_changed_never_give_other_bytes() {
    let folder = outside();
    let sound: Vec<Value> =
        manifest(folder.join("manifest.json")).into_iter().filter(|entry| entry["expect"] == "ok").collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(entry) = sound.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = entry["file"].as_str().unwrap();
            let stream = unhex(&std::fs::read_to_string(folder.join(name)).unwrap());
            cut_and_change(name, &stream, entry["password"].as_str().unwrap());
        }
    };
    // Nearly all of the time is spent on keys.
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
}

fn cut_and_change(name: &str, whole: &[u8], password: &str) {
    let plain = decrypt(whole, password).unwrap();
    for length in 0..whole.len() {
        let named = outcome(&decrypt(&whole[..length], password));
        assert!(["Truncated", "Tampered"].contains(&named), "{name} cut at {length}: {named}");
    }
    for at in 0..whole.len() {
        let mut stream = whole.to_vec();
        stream[at] ^= 0x01;
        if let Ok(bytes) = decrypt(&stream, password) {
            // Extensions, the reserved byte, and the size byte, which moves the end within the last block.
            let same = plain.len().min(bytes.len());
            assert_eq!(bytes[..same], plain[..same], "{name} byte {at}");
            assert!(bytes.len().abs_diff(plain.len()) < 16, "{name} byte {at}: {} bytes", bytes.len());
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
