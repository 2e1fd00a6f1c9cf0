//! Words for a POSIX shell, written on one line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::Error;

/// The shell variable that holds a newline in every script of this crate.
///
/// A script travels as one line; a newline inside a word is written as this variable.
pub(crate) const NEWLINE: &str = "__n";

/// Appends `word` so that a shell reads back exactly these bytes, whatever they are, and never as syntax.
///
/// # Errors
///
/// If the word holds a NUL byte, which no argument can.
pub(crate) fn push(script: &mut Vec<u8>, word: &OsStr, what: &str) -> Result<(), Error> {
    let bytes = word.as_bytes();
    if bytes.contains(&0) {
        return Err(Error::Argument { what: what.to_owned(), reason: "it holds a NUL byte" });
    }
    script.push(b'\'');
    for &b in bytes {
        match b {
            b'\'' => script.extend_from_slice(b"'\\''"),
            b'\n' => {
                script.extend_from_slice(b"'\"$");
                script.extend_from_slice(NEWLINE.as_bytes());
                script.extend_from_slice(b"\"'");
            }
            _ => script.push(b),
        }
    }
    script.push(b'\'');
    Ok(())
}

/// A word for messages: bare when it is plain, quoted otherwise, readable in any case.
pub(crate) fn shown(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    match shlex::try_quote(&text) {
        Ok(quoted) => quoted.into_owned(),
        Err(_) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What `sh` makes of the word when it reads it as this crate sends it.
    fn through_sh(shell: &str, word: &[u8]) -> Vec<u8> {
        let mut line =
            format!("{NEWLINE}=$(printf '\\nx');{NEWLINE}=${{{NEWLINE}%x}}; printf %s ").into_bytes();
        push(&mut line, OsStr::from_bytes(word), "word").unwrap();
        assert!(!line.contains(&b'\n'));
        line.push(b'\n');
        let mut child = Command::new(shell)
            .args(["-c", crate::script::LOADER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&line).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn every_byte_survives_the_shells() {
        let all: Vec<u8> = (1..=255).collect();
        for shell in ["sh", "bash"] {
            assert_eq!(through_sh(shell, &all), all, "{shell}");
            for word in
                ["", "'", "''", "\n", "\n\n", "a'\n'b", "$HOME `id` $(id)", "-n", "\\", "\"", "ä\u{1F600}"]
            {
                assert_eq!(through_sh(shell, word.as_bytes()), word.as_bytes(), "{shell} {word:?}");
            }
        }
    }

    #[test]
    fn nul_is_refused() {
        assert!(push(&mut Vec::new(), OsStr::from_bytes(b"a\0b"), "argument").is_err());
    }
}
