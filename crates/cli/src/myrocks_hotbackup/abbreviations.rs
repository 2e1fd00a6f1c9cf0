//! Command lines that scripts may have used.
//!
//! The program before this one took any beginning of an option that was unambiguous among its own options. This program
//! has more of them (`--checksum` beside `--checkpoint-dir`), so those beginnings are written out before clap sees them. And it
//! took the word behind an option as its value, whatever that begins with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The options of the program before this one: the long name, the short one, and if a value follows.
const ORIGINAL: [(&str, Option<u8>, bool); 19] = [
    ("help", Some(b'h'), false),
    ("interval", Some(b'i'), true),
    ("checkpoint-dir", Some(b'c'), true),
    ("datadir", Some(b'd'), true),
    ("stream", Some(b's'), true),
    ("destination", None, true),
    ("avg-mbytes-per-sec", None, true),
    ("extra-wdt-sender-options", None, true),
    ("extra-wdt-receiver-options", None, true),
    ("user", Some(b'u'), true),
    ("password", Some(b'p'), true),
    ("port", Some(b'P'), true),
    ("socket", Some(b'S'), true),
    ("move-back", Some(b'm'), false),
    ("rocksdb-datadir", Some(b'r'), true),
    ("rocksdb-waldir", Some(b'w'), true),
    ("backup-dir", Some(b'b'), true),
    ("skip-check-frm-timestamp", Some(b'f'), false),
    ("debug-signal-file", Some(b'D'), true),
];

/// The command line with the beginnings written out, and each value in one word with its option. `known` tells the long
/// options that are spelled as they are.
pub(super) fn written_out(
    line: impl IntoIterator<Item = OsString>,
    known: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let mut words = line.into_iter().peekable();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words);
            return out;
        }
        let Some((before, option, value)) = parts(&word, &known) else {
            out.push(word);
            continue;
        };
        out.extend(before);
        let takes = ORIGINAL.iter().any(|(name, _, takes)| *name == option && *takes);
        // A password can be asked for: then another option may follow.
        let is_asked = |next: &OsStr| option == "password" && is_option(next, &known);
        let value = match value {
            None if takes => words.next_if(|next| !is_asked(next)),
            value => value,
        };
        let mut word = OsString::from(format!("--{option}"));
        if let Some(value) = value {
            word.push("=");
            word.push(value);
        }
        out.push(word);
    }
    out
}

/// A word as the flags before an option, the option and its value; `None` for what is no option of the original.
fn parts(
    word: &OsStr,
    known: impl Fn(&str) -> bool,
) -> Option<(Option<OsString>, &'static str, Option<OsString>)> {
    let bytes = word.as_bytes();
    let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    if let Some(long) = bytes.strip_prefix(b"--") {
        let (name, value) = match long.iter().position(|byte| *byte == b'=') {
            Some(at) => (&long[..at], Some(owned(&long[at + 1..]))),
            None => (long, None),
        };
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
        let full = full_name(name).filter(|full| !known(name) || name.replace('_', "-") == **full);
        return Some((None, full?, value));
    }
    let letters = bytes.strip_prefix(b"-")?;
    let original = |letter: &u8| ORIGINAL.iter().find(|(_, short, _)| short.as_ref() == Some(letter));
    let at = letters.iter().position(|letter| original(letter).is_some_and(|(_, _, takes)| *takes))?;
    let (flags, rest) = letters.split_at(at);
    let is_flag = |letter: &u8| original(letter).is_some() || matches!(letter, b'q' | b'V');
    if !flags.iter().all(is_flag) {
        return None;
    }
    let (name, _, _) = original(rest.first()?)?;
    let before = (!flags.is_empty()).then(|| owned(&bytes[..=at]));
    Some((before, name, Some(owned(&rest[1..])).filter(|value| !value.is_empty())))
}

/// If a word is an option beyond doubt: a long one that is spelled out, or one letter.
fn is_option(word: &OsStr, known: impl Fn(&str) -> bool) -> bool {
    let Some(text) = word.to_str() else { return false };
    match text.strip_prefix("--") {
        Some(long) => long.is_empty() || known(long.split('=').next().unwrap_or(long)),
        None => text.len() == 2 && text.starts_with('-') && text.as_bytes()[1].is_ascii_alphabetic(),
    }
}

fn full_name(beginning: &str) -> Option<&'static str> {
    let beginning = beginning.replace('_', "-");
    if let Some((name, ..)) = ORIGINAL.iter().find(|(name, ..)| *name == beginning) {
        return Some(name);
    }
    let mut names = ORIGINAL.into_iter().filter(|(name, ..)| name.starts_with(&beginning));
    names.next().map(|(name, ..)| name).filter(|_| names.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(words: &[&str]) -> Vec<String> {
        let known = |name: &str| {
            matches!(
                name,
                "checksum" | "password-file" | "parallel" | "consistent" | "password" | "user" | "to"
            )
        };
        let words = written_out(words.iter().map(OsString::from), known);
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn line(text: &str) -> String {
        out(&text.split(' ').collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn what_was_unambiguous_stays_so() {
        assert_eq!(line("--c=/x --pa x --i 5"), "--checkpoint-dir=/x --password=x --interval=5");
        assert_eq!(line("--rocksdb_d /r --skip_c"), "--rocksdb-datadir=/r --skip-check-frm-timestamp");
        assert_eq!(line("--pass=x --u y"), "--password=x --user=y");
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "--checksum=sha256 --password-file f --parallel",
            "--incr x --to -x",
            "-c/x --",
            "-- --c -c -x",
            "--x=--c",
            "-mf",
            "-xp y",
            "- x",
        ] {
            assert_eq!(line(text), text.replace("-c/x", "--checkpoint-dir=/x"));
        }
    }

    #[test]
    fn the_word_behind_an_option_is_its_value_whatever_it_begins_with() {
        assert_eq!(line("--extra_wdt_s --c --c x"), "--extra-wdt-sender-options=--c --checkpoint-dir=x");
        assert_eq!(line("-i -1 -d -x -mfb --"), "--interval=-1 --datadir=-x -mf --backup-dir=--");
        assert_eq!(out(&["--destination", "-p 2222 host"]), ["--destination=-p 2222 host"]);
        assert_eq!(out(&["-p", "", "--socket", ""]), ["--password=", "--socket="]);
    }

    #[test]
    fn a_password_that_looks_like_options_is_one_and_no_part_of_it_is_any() {
        for words in [&["-p", "-Secret"][..], &["-p-Secret"], &["--password", "-Secret"], &["--pa=-Secret"]] {
            assert_eq!(out(words), ["--password=-Secret"], "{words:?}");
        }
        assert_eq!(line("-p --Secret -p=x"), "--password=--Secret --password==x");
        // What nobody has as a password asks for one.
        assert_eq!(line("-p --consistent"), "--password --consistent");
        assert_eq!(line("-p -u x"), "--password --user=x");
        assert_eq!(line("-mp"), "-m --password");
    }
}
