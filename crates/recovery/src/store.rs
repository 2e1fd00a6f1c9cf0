//! The backup store of any host, as a snapshot that the catalog is read from.

use std::path::Path;

use backup_catalog::{Catalog, DirStore, Snapshot};
use remote_exec::{Host, Kind};

use crate::Error;
use crate::config::Config;
use crate::facts::written;
use crate::points::Points;

/// Largest text file of a backup that is read, in bytes: GTID sets of old clusters can be long.
pub(crate) const MAX_TEXT: u64 = 64 << 20;

/// Reads the catalog of the store below `dir` of `host`.
///
/// A remote store is looked at with two commands, whatever its size: one lists it, one prints the small files.
///
/// # Errors
///
/// If the directory cannot be listed, or what lies there is no backup store.
pub async fn read_catalog(host: &Host, dir: &Path) -> Result<Catalog, Error> {
    if host.kind() == Kind::Local {
        return Ok(Catalog::read(&DirStore::new(dir))?);
    }
    Ok(Catalog::read(&snapshot(host, dir).await?)?)
}

/// The catalog with its consistent points in UTC, as a recovery compares them: its windows go through hours that are there
/// twice when clocks are set back.
///
/// # Errors
///
/// If the store does not say when its files were written.
pub async fn in_utc(host: &Host, config: &Config, catalog: &Catalog) -> Result<Catalog, Error> {
    let written = written(host, &config.store_dir).await?;
    Ok(Points::of(catalog, config.misc.zone, &written).in_utc(catalog))
}

/// Lists the store and fetches its small files. What vanishes meanwhile is not there, and what cannot be read is an error
/// for whoever asks for it: other backups are none the worse.
async fn snapshot(host: &Host, dir: &Path) -> Result<Snapshot, Error> {
    let find = host.command("find").args(Snapshot::FIND).env("LC_ALL", "C").current_dir(dir);
    let listing = find.output().await?;
    let mut snapshot = Snapshot::from_find(&listing.stdout).map_err(|e| unexpected(host, "find", &e))?;
    if !listing.status.success() {
        let said = String::from_utf8_lossy(&listing.stderr);
        if listing.status.code() != 1 || said.trim().is_empty() {
            return Err(unexpected(host, "find", &format!("{}: {}", listing.status, said.trim())));
        }
        snapshot.complaints(&said).map_err(|e| unexpected(host, "find", &e))?;
    }
    let wanted: Vec<String> = snapshot.wanted().collect();
    let contents = read_small_files(host, dir, &wanted).await?;
    for (path, content) in wanted.iter().zip(contents) {
        match content {
            Fetched::Content(content) => snapshot.content(path, &content),
            Fetched::Unreadable => snapshot.unreadable(path),
            Fetched::Gone => snapshot.gone(path),
        }
    }
    Ok(snapshot)
}

/// What became of one file that was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Fetched {
    Content(Vec<u8>),
    Unreadable,
    Gone,
}

/// Fetches files with one command: each as its size on a line of its own, then its bytes; `-` is one that cannot be read,
/// `=` one that is gone. A file is opened once: what is open cannot vanish.
async fn read_small_files(host: &Host, dir: &Path, paths: &[String]) -> Result<Vec<Fetched>, Error> {
    const EACH: &str = r#"
        for f; do
            { [ -f "$f" ] && s=$(stat -c %s -) && echo "$s" && head -c "$s"; } 2>/dev/null <"$f" ||
            if [ -e "$f" ]; then echo -; else echo =; fi
        done"#;
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let names = paths.join("\0").into_bytes();
    let printed = host
        .command("xargs")
        .args(["-0", "sh", "-c", EACH, "sh"])
        .current_dir(dir)
        .stdin_bytes(names)
        .run()
        .await?
        .stdout;
    let cut = || unexpected(host, "a listing of small files", &"it ends early; was the store being changed?");
    let mut rest = printed.as_slice();
    let mut contents = Vec::new();
    for _ in paths {
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(cut)?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let (fetched, after) = match line {
            b"-" => (Fetched::Unreadable, after),
            b"=" => (Fetched::Gone, after),
            size => {
                let size = std::str::from_utf8(size).ok().and_then(|n| n.parse().ok()).ok_or_else(cut)?;
                let (content, after) = after.split_at_checked(size).ok_or_else(cut)?;
                (Fetched::Content(content.to_vec()), after)
            }
        };
        contents.push(fetched);
        rest = after;
    }
    if rest.is_empty() { Ok(contents) } else { Err(cut()) }
}

fn unexpected(host: &Host, what: &str, said: &dyn std::fmt::Display) -> Error {
    Error::Unexpected { what: format!("{what} on {}", host.name()), text: said.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use backup_catalog::State;

    use super::*;

    const NAMES: [&str; 3] =
        ["UTC20210205010000.000-full", "UTC20210205020000.000-full", "UTC20210205030000.000-full"];

    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            let backup = dir.path().join(name);
            fs::create_dir(&backup).unwrap();
            fs::write(backup.join("ok"), "ok\n").unwrap();
            fs::write(backup.join("consistent_point_datetime"), "2021-02-05 17:27:01\n").unwrap();
            fs::write(backup.join("cluster_consistence_info"), "").unwrap();
        }
        dir
    }

    #[tokio::test]
    async fn an_ok_that_is_no_file_is_one_backups_matter() {
        let dir = store();
        let [a, b, _] = NAMES.map(|name| dir.path().join(name).join("ok"));
        for path in [&a, &b] {
            fs::remove_file(path).unwrap();
        }
        fs::create_dir(&a).unwrap();
        std::os::unix::fs::symlink("nowhere", &b).unwrap();
        let far = Catalog::read(&snapshot(&Host::local(), dir.path()).await.unwrap()).unwrap();
        let near = Catalog::read(&DirStore::new(dir.path())).unwrap();
        for catalog in [far, near] {
            let states: Vec<_> = catalog.listed().iter().map(|listed| &listed.state).collect();
            assert!(
                matches!(states[..], [State::Incomplete, State::Incomplete, State::Complete(_)]),
                "{states:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_vanishes_or_is_none_does_not_hide_the_others() {
        let dir = store();
        let files = ["gone", NAMES[0], &format!("{}/ok", NAMES[1])].map(str::to_owned);
        let fetched = read_small_files(&Host::local(), dir.path(), &files).await.unwrap();
        assert_eq!(fetched, [Fetched::Gone, Fetched::Unreadable, Fetched::Content(b"ok\n".to_vec())]);
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_an_error() {
        let dir = store();
        snapshot(&Host::local(), &dir.path().join("nowhere")).await.unwrap_err();
    }
}
