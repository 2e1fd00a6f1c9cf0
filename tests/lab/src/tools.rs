//! Programs and directories that the lab uses.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Where `./test` puts the tools: `$DBRECOVER_TEST_TOOLS`, or `dbrecover-test-tools` in the user's cache.
pub fn tools_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DBRECOVER_TEST_TOOLS") {
        return dir.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
    });
    cache.join("dbrecover-test-tools")
}

/// The unpacked MySQL base directory.
pub fn mysql_basedir() -> Result<PathBuf> {
    let dir = tools_dir().join("mysql");
    std::fs::read_dir(&dir)
        .with_context(|| format!("no MySQL below {}; run ./test", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("bin/mysqld").exists())
        .with_context(|| format!("no MySQL base directory in {}; run ./test", dir.display()))
}

/// The packed MySQL base directory.
pub fn mysql_tarball() -> Result<PathBuf> {
    let dir = mysql_basedir()?;
    let mut name = dir.file_name().context("a base directory has a name")?.to_owned();
    name.push(".tar.gz");
    Ok(dir.with_file_name(name))
}

/// The Python that has pyAesCrypt.
pub fn aescrypt_python() -> Result<PathBuf> {
    let python = tools_dir().join("venv-pyaescrypt-6.1.1/bin/python");
    if !python.exists() {
        bail!("no {}; run ./test", python.display());
    }
    Ok(python)
}

/// Runs a command to its end; anything but success is an error with the end of its stderr.
pub fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run; run ./test"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = stderr.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{command:?} ended with {}:\n{}", output.status, tail.join("\n"));
    }
    Ok(output)
}

/// A program of this workspace, beside the running one; built when it is not there.
pub fn own_program(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    // Tests run from `target/PROFILE/deps`, programs from `target/PROFILE`.
    let dir = me.parent().context("a program lies in a directory")?;
    let dir = if dir.ends_with("deps") { dir.parent().context("deps has a parent")? } else { dir };
    let program = dir.join(name);
    if !program.exists() {
        run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "-p", "lab", "--bins"]))?;
    }
    Ok(program)
}
