//! The file that lists a server's binlogs.
//!
//! The server's own may hold absolute names: a restored server would work with the original's binlogs, and remove them.
//! It may also name what a backup does not have, and a server does not start then. So a backup's index is made of the
//! binlogs that are in it, and one that another version made is written anew when the backup is put back.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::sink::partial::{suffixed, sync_parent};
use crate::{Error, private};

/// Longest index that is read, in bytes.
const MAX: u64 = 16 * 1024 * 1024;

/// The ending of the list of logs that a server is about to remove. It does so at its next start.
const REMOVALS: &[u8] = b".~rec~";

/// The index of the logs with these names, or `None` if there is no log. Of logs that were removed in between, only
/// the oldest ones can be: what comes before a gap is left out.
pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a OsStr>) -> Option<Vec<u8>> {
    let numbered = names.into_iter().filter_map(|name| Some((number(name.as_bytes())?, name.as_bytes())));
    let mut logs: Vec<_> = numbered.collect();
    logs.sort_unstable();
    let gap = logs.windows(2).rposition(|pair| pair[0].0 + 1 != pair[1].0);
    let from = gap.map_or(0, |gap| gap + 1);
    text(logs[from..].iter().map(|(_, name)| *name))
}

/// Lines with the logs beside the index.
fn text<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let lines: Vec<_> = names.into_iter().map(|name| [b"./", name, b"\n"].concat()).collect();
    Some(lines.concat()).filter(|text| !text.is_empty())
}

/// The number of a log, which is the ending of its name.
fn number(name: &[u8]) -> Option<u64> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    number_in(&name[dot + 1..])
}

/// A log's number as servers write it, filled up with zeros to six digits. It grows past them, so names do not sort as text.
pub(crate) fn number_in(ending: &[u8]) -> Option<u64> {
    let filled = ending.len() == 6 || ending.len() > 6 && ending[0] != b'0';
    let is_number = filled && ending.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(ending).ok().filter(|_| is_number)?.parse().ok()
}

/// If a file of a backup is one that [`rewrite`] may change or remove.
pub(crate) fn is_rewritten(path: &Path) -> bool {
    let name = path.as_os_str().as_bytes();
    !name.contains(&b'/') && (name.ends_with(b".index") || name.ends_with(REMOVALS))
}

/// Writes the indexes of binlogs and relay logs in a data directory anew, so that they name the logs that are there, and
/// nothing elsewhere. An index of logs that are all elsewhere goes, and so does a list of logs to remove.
pub(crate) fn rewrite(dir: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let (name, path) = (entry.file_name(), entry.path());
        if !is_rewritten(Path::new(&name)) || !entry.file_type().map_err(Error::io("read", &path))?.is_file()
        {
            continue;
        }
        if name.as_bytes().ends_with(REMOVALS) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            continue;
        }
        let meta = entry.metadata().map_err(Error::io("read", &path))?;
        if meta.len() > MAX {
            continue;
        }
        let old = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let Some(logs) = logs(&old) else { continue };
        let is_there = |name: &&[u8]| dir.join(OsStr::from_bytes(name)).is_file();
        let kept = logs.into_iter().rev().skip_while(|name| !is_there(name));
        let mut kept: Vec<_> = kept.take_while(|name| is_there(name)).collect();
        kept.reverse();
        match text(kept) {
            Some(new) if new == old => {}
            Some(new) => replace(&path, &meta, &new).map_err(Error::io("write", &path))?,
            None => std::fs::remove_file(&path).map_err(Error::io("remove", &path))?,
        }
    }
    Ok(())
}

/// The names of the logs in an index, or `None` if the file is no such index.
fn logs(index: &[u8]) -> Option<Vec<&[u8]>> {
    let lines = index.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let names = lines.map(|line| line.rsplit(|byte| *byte == b'/').next().unwrap_or(line));
    let logs = names.map(|name| number(name).map(|_| name)).collect::<Option<Vec<_>>>()?;
    Some(logs).filter(|logs| !logs.is_empty())
}

/// Puts other bytes into the place of a file, with its owner and its mode.
fn replace(path: &Path, meta: &std::fs::Metadata, bytes: &[u8]) -> std::io::Result<()> {
    let partial = suffixed(path, ".partial");
    let mut file = private::options().create(true).truncate(true).open(&partial)?;
    file.write_all(bytes)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, taken apart. What reads stores and what replays binlogs are tested with the same table.
    const NAMES: [(&str, Option<(&str, u64)>); 14] = include!("../../../tests/common/binlog_names.in");

    #[test]
    fn names_end_in_a_number_of_at_least_six_digits() {
        for (name, parts) in NAMES {
            assert_eq!(number(name.as_bytes()), parts.map(|(_, number)| number), "{name:?}");
        }
    }

    #[test]
    fn an_index_names_the_newest_logs_without_a_gap() {
        let of =
            |names: &[&str]| of(names.iter().map(OsStr::new)).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["bl.index", "bl.x"]), None);
        assert_eq!(of(&["b.l.000010", "b.l.000009"]).unwrap(), "./b.l.000009\n./b.l.000010\n");
        assert_eq!(of(&["b.999999", "b.1000000"]).unwrap(), "./b.999999\n./b.1000000\n");
        assert_eq!(
            of(&["b.000001", "b.000002", "b.000004", "b.000005"]).unwrap(),
            "./b.000004\n./b.000005\n"
        );
    }

    #[test]
    fn an_index_is_written_anew_for_the_logs_that_are_there_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        for log in ["bl.000001", "bl.000003", "bl.000004"] {
            write(log, "");
        }
        write(
            "bl.index",
            "/data/bl.000001\n/data/bl.000002\n/data/bl.000003\n/data/bl.000004\n/data/bl.000005\n",
        );
        write("relay.index", "/data/relay.000001\n");
        write("words.index", "a\nb\n");
        write("empty.index", "");
        write("bl.~rec~", "/data/bl.000001\n");
        std::fs::set_permissions(dir.path().join("bl.index"), Permissions::from_mode(0o640)).unwrap();
        for _ in 0..2 {
            rewrite(dir.path()).unwrap();
            assert_eq!(read("bl.index").unwrap(), "./bl.000003\n./bl.000004\n");
        }
        assert_eq!(dir.path().join("bl.index").metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!((read("relay.index"), read("bl.~rec~"), read("bl.index.partial")), (None, None, None));
        assert_eq!(
            (read("words.index").unwrap(), read("empty.index").unwrap()),
            ("a\nb\n".into(), "".into())
        );
    }

    #[test]
    fn only_files_at_the_top_are_written_anew() {
        assert!(is_rewritten(Path::new("bl.index")) && is_rewritten(Path::new("bl.~rec~")));
        assert!(!is_rewritten(Path::new("db/bl.index")) && !is_rewritten(Path::new("bl.000001")));
    }
}
