//! The file functions: an output is whole or not there, and an older one survives a failure.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use aescrypt::{Error, Format, decrypt_file, decrypt_to_file, encrypt_file};
use common::{plain, vector, vectors};
use secrecy::SecretString;
use tempfile::tempdir;

fn password() -> SecretString {
    SecretString::from("abc")
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn file_comes_back_in_both_formats() {
    let dir = tempdir().unwrap();
    let [clear, secret, back] = ["clear", "secret.aes", "back"].map(|name| dir.path().join(name));
    for size in [0, 1, 4096, 262_143, 262_144, 262_145, 1_000_003] {
        for format in [Format::V2, Format::V3 { iterations: 10 }] {
            fs::write(&clear, plain(size)).unwrap();
            assert_eq!(encrypt_file(&clear, &secret, &password(), format).unwrap(), size as u64);
            assert_eq!(decrypt_file(&secret, &back, &password()).unwrap(), size as u64);
            assert!(fs::read(&back).unwrap() == plain(size), "{size} {format:?}");
        }
    }
    assert_eq!(names(dir.path()), ["back", "clear", "secret.aes"]);
}

#[test]
fn every_bad_vector_leaves_no_output_and_an_existing_one_as_it_was() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("output");
    let mut seen = 0;
    for name in names(&vectors()).into_iter().filter(|name| name.starts_with("bad-")) {
        let password = if name.contains("password") { "abd" } else { "abc" };
        let password = SecretString::from(password);
        decrypt_file(&vectors().join(&name), &output, &password).unwrap_err();
        assert!(names(dir.path()).is_empty(), "{name} left {:?}", names(dir.path()));
        fs::write(&output, "older").unwrap();
        decrypt_file(&vectors().join(&name), &output, &password).unwrap_err();
        assert_eq!(fs::read(&output).unwrap(), b"older", "{name}");
        assert_eq!(names(dir.path()), ["output"], "{name}");
        fs::remove_file(&output).unwrap();
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn damage_after_many_buffers_leaves_no_output() {
    let dir = tempdir().unwrap();
    let [clear, secret, back] = ["clear", "secret.aes", "back"].map(|name| dir.path().join(name));
    fs::write(&clear, vec![7; 3 << 20]).unwrap();
    encrypt_file(&clear, &secret, &password(), Format::V2).unwrap();
    let mut stream = fs::read(&secret).unwrap();
    let middle = stream.len() / 2;
    stream[middle] ^= 4;
    fs::write(&secret, stream).unwrap();
    assert!(matches!(decrypt_file(&secret, &back, &password()), Err(Error::Tampered)));
    assert_eq!(names(dir.path()), ["clear", "secret.aes"]);
}

#[test]
fn existing_output_is_replaced_with_its_mode() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("output");
    fs::write(&output, "older").unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).unwrap();
    decrypt_file(&vectors().join("v2-pyaescrypt-17.aes"), &output, &password()).unwrap();
    assert_eq!(fs::read(&output).unwrap(), plain(17));
    assert_eq!(fs::metadata(&output).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn link_is_followed_and_stays_a_link() {
    let dir = tempdir().unwrap();
    let [real, link] = ["real", "link"].map(|name| dir.path().join(name));
    fs::write(&real, "older").unwrap();
    symlink("real", &link).unwrap();
    decrypt_file(&vectors().join("v2-pyaescrypt-17.aes"), &link, &password()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), plain(17));
}

#[test]
fn one_file_as_input_and_output_is_refused_and_unharmed() {
    let dir = tempdir().unwrap();
    let [file, link] = ["file", "link"].map(|name| dir.path().join(name));
    fs::write(&file, vector("v2-pyaescrypt-17.aes")).unwrap();
    symlink("file", &link).unwrap();
    assert!(matches!(decrypt_file(&file, &link, &password()), Err(Error::SameFile { .. })));
    assert!(matches!(encrypt_file(&file, &file, &password(), Format::V2), Err(Error::SameFile { .. })));
    assert_eq!(fs::read(&file).unwrap(), vector("v2-pyaescrypt-17.aes"));
}

#[test]
fn device_is_never_replaced() {
    let stream = vector("v2-pyaescrypt-17.aes");
    let result = decrypt_to_file(&stream[..], Path::new("/dev/null"), &password());
    assert!(matches!(result, Err(Error::NotRegular { .. })), "{result:?}");
}

#[test]
fn missing_input_and_missing_directory_are_named() {
    let dir = tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = decrypt_file(&missing, &dir.path().join("output"), &password()).unwrap_err();
    assert!(matches!(&error, Error::File { action: "opening", path, .. } if *path == missing), "{error:?}");
    let input = vectors().join("v2-pyaescrypt-17.aes");
    let error = decrypt_file(&input, &missing.join("output"), &password()).unwrap_err();
    assert!(matches!(&error, Error::File { action: "creating", .. }), "{error:?}");
    assert!(names(dir.path()).is_empty());
}
