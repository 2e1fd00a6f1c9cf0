//! The backup store of any host, as a snapshot that the catalog is read from.

use std::path::Path;

use backup_catalog::{Catalog, DirStore, Snapshot};
use remote_exec::{Host, Kind};

use crate::Error;

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
    let listing = host.command("find").args(Snapshot::FIND).current_dir(dir).run().await?;
    let mut snapshot = Snapshot::from_find(&listing.stdout).map_err(|e| unexpected(host, "find", &e))?;
    let wanted: Vec<String> = snapshot.wanted().collect();
    let contents = read_small_files(host, dir, &wanted).await?;
    for (path, content) in wanted.iter().zip(contents) {
        snapshot.content(path, &content);
    }
    Ok(Catalog::read(&snapshot)?)
}

/// Fetches files with one command: each as its size on a line of its own, then its bytes.
async fn read_small_files(host: &Host, dir: &Path, paths: &[String]) -> Result<Vec<Vec<u8>>, Error> {
    const EACH: &str =
        r#"for f; do s=$(stat -L -c %s -- "$f") || exit; echo "$s"; head -c "$s" -- "$f" || exit; done"#;
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
        let size: usize =
            std::str::from_utf8(&rest[..end]).ok().and_then(|n| n.parse().ok()).ok_or_else(cut)?;
        let (content, after) = rest[end + 1..].split_at_checked(size).ok_or_else(cut)?;
        contents.push(content.to_vec());
        rest = after;
    }
    if rest.is_empty() { Ok(contents) } else { Err(cut()) }
}

fn unexpected(host: &Host, what: &str, said: &dyn std::fmt::Display) -> Error {
    Error::Unexpected { what: format!("{what} on {}", host.name()), text: said.to_string() }
}
