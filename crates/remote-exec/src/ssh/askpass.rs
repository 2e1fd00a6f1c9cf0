//! Answers ssh's question for a password without putting the password anywhere that outlives the question.
//!
//! ssh runs the program in `SSH_ASKPASS` with the question as its argument. That program is a small script in a
//! directory of mode 0700; the password waits in a FIFO of mode 0600 beside it, in the kernel's memory and not on a
//! disk, in no argument list and in no environment. The script answers questions for *this* host's password and for a
//! key's passphrase and nothing else: no question about a host key, and no jump host gets the password of its target.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{Error, Host};

/// How many questions of each kind are answered before ssh gives up: password and keyboard-interactive each ask once.
const ANSWERS: usize = 4;

/// ssh reads its answer into a buffer of 1024 bytes. All answers together fit into a pipe.
const LONGEST: usize = 1023;

/// The script. `DBRECOVER_ASK_FOR` is `user@host` as ssh names the target in its question.
const SCRIPT: &str = r#"#!/bin/sh
d=${0%/*}
case $1 in
    "Enter passphrase for "*) f=$d/passphrase ;;
    "$DBRECOVER_ASK_FOR's password"*) f=$d/password ;;
    "($DBRECOVER_ASK_FOR) "*assword*) f=$d/password ;;
    *) exit 1 ;;
esac
[ -p "$f" ] || exit 1
IFS= read -r a <"$f" && printf '%s\n' "$a"
"#;

/// The script and the secrets that wait for it; both are gone when this is dropped.
pub(super) struct Askpass {
    dir: tempfile::TempDir,
    _waiting: Vec<File>,
}

impl Askpass {
    pub(super) async fn new(
        password: Option<&SecretString>,
        passphrase: Option<&SecretString>,
    ) -> Result<Self, Error> {
        for (secret, what) in [(password, "the password"), (passphrase, "the passphrase")] {
            let Some(secret) = secret.map(ExposeSecret::expose_secret) else { continue };
            let what = what.to_owned();
            if secret.contains(['\n', '\0']) {
                return Err(Error::Argument { what, reason: "it holds a line end or a NUL byte" });
            }
            if secret.len() > LONGEST {
                return Err(Error::Argument {
                    what,
                    reason: "it is longer than 1023 bytes, ssh's own limit",
                });
            }
        }
        let failed = |source| Error::Here { what: "set up the answer to ssh's password question", source };
        let this = Self::make(password, passphrase).map_err(failed)?;
        let files = Host::local().files();
        Box::pin(files.write(this.program(), SCRIPT, 0o700)).await?;
        Ok(this)
    }

    fn make(password: Option<&SecretString>, passphrase: Option<&SecretString>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("dbrecover-ask-").tempdir()?;
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700))?;
        let mut waiting = Vec::new();
        for (secret, name) in [(password, "password"), (passphrase, "passphrase")] {
            let Some(secret) = secret else { continue };
            let fifo = dir.path().join(name);
            rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            // Open for reading too, so that the answers wait in the pipe until they are asked for.
            let mut sender = OpenOptions::new().read(true).write(true).open(&fifo)?;
            let mut answers = Zeroizing::new(String::new());
            for _ in 0..ANSWERS {
                answers.push_str(secret.expose_secret());
                answers.push('\n');
            }
            sender.write_all(answers.as_bytes())?;
            waiting.push(sender);
        }
        Ok(Self { dir, _waiting: waiting })
    }

    /// The script's path.
    pub(super) fn program(&self) -> std::path::PathBuf {
        Path::join(self.dir.path(), "askpass")
    }
}
