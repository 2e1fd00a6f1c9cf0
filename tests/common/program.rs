//! Programs that tests write and run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that can be run at once.
///
/// A child writes it: a file that this process has open for writing is open in every process that another test starts
/// at that moment, until its `exec`, and Linux starts no file that is open for writing (`ETXTBSY`).
pub(crate) fn write_program(path: &Path, text: &str) {
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 -- \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh starts");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("sh reads");
    assert!(child.wait().expect("sh ends").success(), "{} cannot be written", path.display());
}
