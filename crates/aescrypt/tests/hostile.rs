//! Every vector cut at each length and with each byte flipped: the named error, or where the format cannot
//! notice, the outcome that the documentation states. Never a panic.

mod common;

use std::io::Read;

use aescrypt::{Decryptor, Error};
use common::{decrypt, outcome, plain, vector};
use secrecy::SecretString;

/// Where the parts of a stream begin.
struct Layout {
    name: &'static str,
    version: u8,
    size: usize,
    /// The first byte after the extension list.
    extensions_end: usize,
    iv: usize,
    body: usize,
    /// Bytes after the body.
    trailer: usize,
}

/// Extensions of pyAesCrypt: 2 + 27, 2 + 128, 2.
const PY_EXTENSIONS_END: usize = 5 + 29 + 130 + 2;

const LAYOUTS: &[Layout] = &[
    Layout { name: "v0-17.aes", version: 0, size: 17, extensions_end: 5, iv: 5, body: 21, trailer: 32 },
    Layout { name: "v1-17.aes", version: 1, size: 17, extensions_end: 5, iv: 5, body: 101, trailer: 33 },
    Layout {
        name: "v2-no-extensions.aes",
        version: 2,
        size: 17,
        extensions_end: 7,
        iv: 7,
        body: 103,
        trailer: 33,
    },
    Layout {
        name: "v2-pyaescrypt-17.aes",
        version: 2,
        size: 17,
        extensions_end: PY_EXTENSIONS_END,
        iv: PY_EXTENSIONS_END,
        body: 262,
        trailer: 33,
    },
    Layout { name: "v3-17.aes", version: 3, size: 17, extensions_end: 7, iv: 11, body: 107, trailer: 32 },
    Layout {
        name: "v2-pyaescrypt-0.aes",
        version: 2,
        size: 0,
        extensions_end: PY_EXTENSIONS_END,
        iv: PY_EXTENSIONS_END,
        body: 262,
        trailer: 33,
    },
];

#[test]
fn stream_cut_anywhere_is_truncated_or_between_two_blocks_tampered() {
    for layout in LAYOUTS {
        let stream = vector(layout.name);
        for length in 0..stream.len() {
            let result = decrypt(&stream[..length], "abc");
            let least = layout.body + layout.trailer + if layout.version == 3 { 16 } else { 0 };
            let whole_blocks = length >= least && (length - layout.body - layout.trailer).is_multiple_of(16);
            let expected = if whole_blocks { "Tampered" } else { "Truncated" };
            assert_eq!(outcome(&result), expected, "{} cut at {length}", layout.name);
            if let Err(Error::Truncated { offset, .. }) = result {
                assert_eq!(offset, length as u64, "{} cut at {length}", layout.name);
            }
        }
    }
}

#[test]
fn flipped_byte_is_named_or_without_effect_where_the_format_does_not_look() {
    for layout in LAYOUTS {
        let whole = vector(layout.name);
        for at in 0..whole.len() {
            for bit in [0x01, 0x10, 0x80] {
                let mut stream = whole.clone();
                stream[at] ^= bit;
                check_flip(layout, &whole, at, bit, decrypt(&stream, "abc"));
            }
        }
    }
}

fn check_flip(layout: &Layout, whole: &[u8], at: usize, bit: u8, result: Result<Vec<u8>, Error>) {
    let place = format!("{} byte {at} ^ {bit:#x}: {result:?}", layout.name);
    let named = outcome(&result);
    let hmac = whole.len() - 32;
    let size_byte = at == 4 && layout.version == 0 || at + 1 == hmac && layout.trailer == 33;
    if at < 3 {
        assert_eq!(named, "NotAesCrypt", "{place}");
    } else if at == 3 {
        // A neighbouring version has other parts in other places; whatever is seen there, it is damage.
        assert_ne!(named, "Ok", "{place}");
        assert!(whole[3] ^ bit <= 3 || named == "UnsupportedVersion", "{place}");
    } else if size_byte {
        // Outside the HMAC: up to 15 bytes more or less, unseen; unless there is no block to be part of.
        match result {
            Ok(bytes) => {
                let same = layout.size.min(bytes.len());
                assert_eq!(bytes[..same], plain(layout.size)[..same], "{at} {bit:#x}");
                assert!(bytes.len().abs_diff(layout.size) < 16);
            }
            Err(_) => assert!(layout.size == 0 && named == "Tampered", "{place}"),
        }
    } else if at == 4 {
        assert_eq!(result.unwrap(), plain(layout.size), "the reserved byte has no meaning; {}", layout.name);
    } else if at < layout.extensions_end {
        // A changed length moves all that follows; a changed text has no effect.
        assert!(["Ok", "WrongPassword", "Truncated"].contains(&named), "{place}");
        if let Ok(bytes) = result {
            assert_eq!(bytes, plain(layout.size));
        }
    } else if at < layout.iv {
        assert!(["WrongPassword", "Iterations"].contains(&named), "{place}");
    } else if at < layout.body && layout.version > 0 {
        assert_eq!(named, "WrongPassword", "{place}");
    } else {
        assert_eq!(named, "Tampered", "{place}");
    }
}

#[test]
fn size_byte_of_version_2_moves_the_end_by_less_than_a_block() {
    let mut stream = vector("v2-pyaescrypt-17.aes");
    let at = stream.len() - 33;
    for size in 0..=255_u8 {
        stream[at] = size;
        let length = decrypt(&stream, "abc").unwrap().len();
        let last = if size & 15 == 0 { 16 } else { usize::from(size & 15) };
        assert_eq!(length, 16 + last, "size byte {size}");
    }
}

#[test]
fn bytes_after_the_end_are_tampering() {
    let whole = vector("v2-pyaescrypt-17.aes");
    for more in 1..=40 {
        let mut stream = whole.clone();
        stream.extend(std::iter::repeat_n(0xa5, more));
        let result = decrypt(&stream, "abc");
        // Within a block the stream is seen to be whole without them; beyond, a cut looks the same.
        let named = outcome(&result);
        assert!(named == "Tampered" || more > 16 && named == "Truncated", "{more} more: {named}");
    }
}

#[test]
fn endless_extensions_take_no_memory_and_end_with_the_input() {
    let head = b"AES\x02\x00".chain(std::io::repeat(0x41).take(8 << 20));
    let result = Decryptor::new(head, &SecretString::from("abc"));
    assert_eq!(outcome(&result), "Truncated");
}

#[test]
fn reader_that_failed_stays_failed() {
    let stream = vector("bad-body.aes");
    let mut reader = Decryptor::new(&stream[..], &SecretString::from("abc")).unwrap();
    let mut bytes = Vec::new();
    let first = Error::from(reader.read_to_end(&mut bytes).unwrap_err());
    assert!(matches!(first, Error::Tampered));
    for _ in 0..3 {
        let again = Error::from(reader.read(&mut [0; 8]).unwrap_err());
        assert!(matches!(again, Error::Failed), "{again:?}");
        assert!(!reader.is_verified());
    }
}

#[test]
fn failing_input_is_a_read_error_with_its_own_kind() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let stream = vector("v2-pyaescrypt-17.aes");
    let mut reader = Decryptor::new(stream[..280].chain(Broken), &SecretString::from("abc")).unwrap();
    let error = reader.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(matches!(Error::from(error), Error::Read(_)));
}

#[test]
fn debug_shows_no_key() {
    let stream = vector("v2-pyaescrypt-17.aes");
    let reader = Decryptor::new(&stream[..], &SecretString::from("abc")).unwrap();
    assert_eq!(format!("{reader:?}"), "Decryptor { version: 2, offset: 262, verified: false, .. }");
    assert_eq!(reader.created_by(), Some("pyAesCrypt 6.1.1"));
}
