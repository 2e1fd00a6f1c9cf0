//! `dbrecover unpack` against the stock tools, on real backups.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::recovery::dbrecover;
use lab::tools::{aescrypt_python, run};
use serde_json::Value;

/// Every regular file below `root`, by name.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                files.insert(path.strip_prefix(root)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn same(ours: &Path, stock: &Path) -> Result<()> {
    let (ours, stock) = (files(ours)?, files(stock)?);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    ensure!(names(&ours) == names(&stock), "names differ: {:?} and {:?}", names(&ours), names(&stock));
    for (name, bytes) in &ours {
        ensure!(*bytes == stock[name], "{} differs", name.display());
    }
    Ok(())
}

/// Unpacks all servers of a backup below `dir`; the report.
fn unpack(store: &Store, backup: &str, from: &Path, stdin: bool, dir: &Path) -> Result<Value> {
    let mut command = Command::new(dbrecover()?);
    command.args(["unpack", "--json", "--backup", backup, "--work-dir"]).arg(dir.join("work"));
    for folder in store.truth.folders.values() {
        command.arg("--server").arg(format!("{folder}={}", dir.join(folder).display()));
    }
    if backup.ends_with("-full") {
        command.arg("--base-dir").arg(dir.join("base"));
    }
    match stdin {
        true => command.stdin(File::open(from)?),
        false => command.arg("--from").arg(from).stdin(Stdio::null()),
    };
    if let Some(password) = &store.truth.password {
        command.env("DBRECOVER_PASSWORD", password);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The stock tools' way with a stream.
fn mbstream(stream: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let output =
        Command::new("mbstream").arg("-x").arg("-C").arg(target).stdin(File::open(stream)?).output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd, mbstream and pyAesCrypt; run: ./test"]
fn encrypted_backups_become_what_pyaescrypt_tar_and_mbstream_make_of_them() -> Result<()> {
    let store = Store::encrypted()?;
    let password = store.truth.password.as_deref().context("an encrypted store has a password")?;
    for point in &store.truth.points {
        let backup = &point.backup;
        let encrypted = store.dir.join("encrypted").join(format!("{backup}.tar.encrypted"));
        let dir = tempfile::tempdir()?;
        let ours = dir.path().join("ours");
        let report = unpack(&store, backup, &encrypted, true, &ours)?;

        let (plain, stock) = (dir.path().join("plain.tar"), dir.path().join("stock"));
        let decrypt = "import pyAesCrypt, sys; pyAesCrypt.decryptFile(*sys.argv[1:4], 64 * 1024)";
        run(Command::new(aescrypt_python()?).args(["-c", decrypt]).args([&encrypted, &plain]).arg(password))?;
        fs::create_dir(&stock)?;
        run(Command::new("tar").arg("-xf").arg(&plain).arg("-C").arg(&stock))?;
        let mut restored = 0;
        for folder in store.truth.folders.values() {
            let stream = stock.join(folder).join("backup.xbsteam");
            let extracted = dir.path().join("extracted").join(folder);
            mbstream(&stream, &extracted)?;
            same(&ours.join(folder), &extracted)?;
            fs::remove_file(stream)?;
            restored += files(&extracted)?.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        }
        let base = stock.join("datanode_base");
        if backup.ends_with("-full") {
            let tarball = fs::read_dir(&base)?.next().context("a full backup has a base directory")??.path();
            run(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&base))?;
            fs::remove_file(tarball)?;
            same(&ours.join("base"), &base)?;
            restored += files(&base)?.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        }
        let _ = fs::remove_dir_all(base);
        let rest = ours.join("work").join(backup);
        same(&rest, &stock)?;
        restored += files(&rest)?.values().map(|bytes| bytes.len() as u64).sum::<u64>();

        // What the system counted for the whole process, every file included.
        let written = report["process_io"]["written_chars"].as_u64().context("no count of written bytes")?;
        ensure!(written as f64 <= 1.1 * restored as f64, "{written} bytes written for {restored}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd and mariabackup; run: ./test"]
fn compressed_backup_can_be_prepared_without_qpress() -> Result<()> {
    let store = Store::compressed()?;
    let backup = &store.truth.points[0].backup;
    let dir = tempfile::tempdir()?;
    let report = unpack(&store, backup, &store.dir.join(backup), false, dir.path())?;
    for folder in store.truth.folders.values() {
        let decoded = report["servers"][folder]["decoded"].as_u64().context("no count")?;
        ensure!(decoded > 100, "{report}");
        let datadir = dir.path().join(folder);
        ensure!(!files(&datadir)?.keys().any(|name| name.extension().is_some_and(|end| end == "qp")));
        run(Command::new("mariabackup").arg("--prepare").arg("--target-dir").arg(&datadir))?;
    }
    Ok(())
}
