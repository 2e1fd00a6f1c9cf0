//! Where a password may come from, in the order in which the sources are asked.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;

/// Longest password file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The sources of one password.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// Given on the command line; accepted with a warning, because every `ps` shows it.
    pub argument: Option<SecretString>,
    /// A file whose first line is the password.
    pub file: Option<PathBuf>,
    /// The name of an environment variable.
    pub environment: &'a str,
    /// What to ask on a terminal; `None` never asks.
    pub prompt: Option<&'a str>,
}

impl Sources<'_> {
    /// The password of the first source that has one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is empty, or the prompt fails.
    pub fn get(self) -> anyhow::Result<Option<SecretString>> {
        if let Some(password) = self.argument {
            tracing::warn!("a password on the command line can be read by every user of this machine");
            return Ok(Some(password));
        }
        if let Some(path) = &self.file {
            return from_file(path).map(Some);
        }
        if let Some(value) = std::env::var_os(self.environment).filter(|v| !v.is_empty()) {
            let value = value.into_string().ok().context("the password in the environment is not UTF-8")?;
            return Ok(Some(value.into()));
        }
        match self.prompt {
            Some(prompt) if std::io::stdin().is_terminal() => {
                Ok(Some(rpassword::prompt_password(prompt)?.into()))
            }
            _ => Ok(None),
        }
    }
}

/// The first line of `path`, without its line end.
///
/// # Errors
///
/// If the file cannot be read, is longer than 64 KiB, is not UTF-8 or has an empty first line.
pub fn from_file(path: &Path) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    let file =
        File::open(path).with_context(|| format!("cannot open the password file {}", path.display()))?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the password file {}", path.display()))?;
    if text.len() as u64 > MAX_FILE {
        bail!("the password file {} is longer than {MAX_FILE} bytes", path.display());
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned().into()),
        _ => bail!("the first line of the password file {} is empty", path.display()),
    }
}
