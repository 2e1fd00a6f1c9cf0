//! pyAesCrypt, in four versions, reads what we write and we read what it writes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aescrypt::{Error, Format, decrypt_file, encrypt_file};
use common::plain;
use secrecy::SecretString;

const PASSWORD: &str = "Pässwörd 😀";

/// Around every block edge, pyAesCrypt's buffer (64 KiB) and ours (256 KiB).
fn sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..=33).collect();
    for edge in [512, 4096, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 3 << 18, 1 << 20] {
        sizes.extend([
            edge - 17,
            edge - 16,
            edge - 15,
            edge - 1,
            edge,
            edge + 1,
            edge + 15,
            edge + 16,
            edge + 17,
        ]);
    }
    sizes
}

/// Sizes at which 6.1.0 and 6.1.1 leave the fill of the last block in their output.
fn fill_is_left_by_6_1(size: usize) -> bool {
    !size.is_multiple_of(16) && size.next_multiple_of(16).is_multiple_of(1 << 16)
}

fn python(version: &str) -> PathBuf {
    let tools = std::env::var_os("DBRECOVER_TEST_TOOLS").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("HOME is not set")).join(".cache"),
                PathBuf::from,
            );
            cache.join("dbrecover-test-tools")
        },
        PathBuf::from,
    );
    let python = tools.join(format!("venv-pyaescrypt-{version}/bin/python"));
    assert!(python.exists(), "{} is missing; tests/setup.sh installs it", python.display());
    python
}

/// Runs pyAesCrypt over all of `sizes` in one process: NAME.plain to NAME.theirs, NAME.ours to NAME.back.
const SCRIPT: &str = "
import pathlib, sys, pyAesCrypt
folder, password = pathlib.Path(sys.argv[1]), sys.argv[2]
for plain in folder.glob('*.plain'):
    pyAesCrypt.encryptFile(str(plain), str(plain.with_suffix('.theirs')), password, 64 * 1024)
    pyAesCrypt.decryptFile(str(plain.with_suffix('.ours')), str(plain.with_suffix('.back')), password, 64 * 1024)
";

fn agree(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = |size: usize, kind: &str| dir.path().join(format!("{size}.{kind}"));
    let password = SecretString::from(PASSWORD);
    for size in sizes() {
        fs::write(file(size, "plain"), plain(size)).unwrap();
        encrypt_file(&file(size, "plain"), &file(size, "ours"), &password, Format::V2).unwrap();
    }
    run(version, dir.path());
    for size in sizes() {
        decrypt_file(&file(size, "theirs"), &file(size, "restored"), &password).unwrap();
        assert!(
            fs::read(file(size, "restored")).unwrap() == plain(size),
            "{size} bytes written by {version}"
        );
        let mut back = fs::read(file(size, "back")).unwrap();
        if version.starts_with("6.1.") && fill_is_left_by_6_1(size) {
            assert_eq!(back.len(), size.next_multiple_of(16), "the known fault of {version} at {size}");
            back.truncate(size);
        }
        assert!(back == plain(size), "{size} bytes read by {version}");
    }
}

fn run(version: &str, folder: &Path) {
    let output =
        Command::new(python(version)).args(["-c", SCRIPT]).arg(folder).arg(PASSWORD).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs pyAesCrypt 6.1.1; run: ./test"]
fn agrees_with_pyaescrypt_6_1_1_and_cuts_the_fill_that_it_leaves() {
    assert!(sizes().iter().any(|&size| fill_is_left_by_6_1(size)));
    agree("6.1.1");
}

#[test]
#[ignore = "needs pyAesCrypt 6.0.0; run: ./test"]
fn agrees_with_pyaescrypt_6_0_0() {
    agree("6.0.0");
}

#[test]
#[ignore = "needs pyAesCrypt 5.0.0; run: ./test"]
fn agrees_with_pyaescrypt_5_0_0() {
    agree("5.0.0");
}

#[test]
#[ignore = "needs pyAesCrypt 0.4.4; run: ./test"]
fn agrees_with_pyaescrypt_0_4_4() {
    agree("0.4.4");
}

#[test]
fn password_that_pyaescrypt_cannot_take_is_refused_when_writing() {
    let encrypt = |length| {
        let password = SecretString::from("ü".repeat(length));
        aescrypt::Encryptor::new(Vec::new(), &password).map(drop)
    };
    encrypt(1024).unwrap();
    assert!(matches!(encrypt(1025), Err(Error::PasswordTooLong { max: 1024 })));
}
