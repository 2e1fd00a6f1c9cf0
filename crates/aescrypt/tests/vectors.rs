//! Streams with a stated outcome, those that fail by the name of their error.

mod common;

use std::path::PathBuf;

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

#[test]
#[ignore = "needs DBRECOVER_VECTORS; run: ./test"]
fn outside_vectors_have_the_outcome_of_their_manifest() {
    let folder = std::env::var_os("DBRECOVER_VECTORS")
        .expect("DBRECOVER_VECTORS names no folder of vectors; ./test sets it");
    let folder = PathBuf::from(folder).join("aescrypt");
    let manifest = manifest(folder.join("manifest.json"));
    assert!(!manifest.is_empty());
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

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
