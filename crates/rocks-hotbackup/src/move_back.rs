//! Putting a backup's files where a server wants them.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};
use serde::Serialize;

use crate::log_index;
use crate::manifest::{self, Entry, Manifest};
use crate::names::{self, Kind};
use crate::owner::Owner;
use crate::sink::UNFINISHED;
use crate::sink::partial::{suffixed, sync_filesystem, sync_parent};
use crate::targets::Targets;
use crate::{Error, Stop, marked, private};

/// The note in a backup whose move-back was begun. It goes when the move-back is done.
pub const NOTE: &str = ".myrocks-hotbackup-move-back";

/// What a move-back moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Moved {
    /// Entries of the backup's directory: files, and directories as a whole.
    pub entries: u64,
    /// Bytes that had to be copied, because a target is on another file system.
    pub copied_bytes: u64,
    /// If an earlier move-back of this backup was taken up.
    pub resumed: bool,
    /// If the backup has a manifest, and so all of its files were known and are there. Without one nobody knows.
    pub complete: bool,
}

/// Moves the backup in the directory `backup` to `targets`, which must be empty or absent.
///
/// Every file is in the backup or in its target at every moment, on disk; a move-back that was cut off goes on when it
/// is run again with the same targets. The backup is brought to the disk before the first file is moved, copies across
/// file systems before their original goes. If the backup has a manifest, its files must all be there with their sizes.
///
/// # Errors
///
/// [`Error::NoBackup`] if `backup` has no `CURRENT` file, [`Error::CutOff`], [`Error::Damaged`] and
/// [`Error::BaseMissing`] if files of the manifest are missing, [`Error::NotEmpty`], [`Error::OtherMoveBack`],
/// [`Error::Busy`], [`Error::Io`], [`Error::Stopped`].
pub fn move_back(
    backup: &Path,
    targets: &Targets,
    owner: Option<Owner>,
    stop: &Stop,
) -> Result<Moved, Error> {
    let Opened { backup, targets, manifest, resumed, _lock } = open(backup, targets)?;
    let mut moved = Moved { resumed, complete: manifest.is_some(), ..Moved::default() };
    let mut locked: Vec<File> = Vec::new();
    for dir in targets.all() {
        make(dir, owner)?;
        let file = File::open(dir).map_err(Error::io("open", dir))?;
        // One directory may have two names.
        if !locked.iter().any(|locked| marked::is_one(locked, &file)) {
            marked::lock(&file, dir)?;
            locked.push(file);
        }
    }
    if !resumed {
        // Another may have moved there before the lock.
        targets.check_empty()?;
        note(&backup, &targets)?;
    }
    let mut entries = list(&backup)?;
    // CURRENT last: without it RocksDB would make a new, empty database rather than refuse half of an old one, but
    // with `rocksdb_create_if_missing` off, and for every reader, a directory without it is no database.
    entries.sort_by_key(|name| (name == "CURRENT", name.clone()));
    for name in entries {
        stop.check()?;
        let source = backup.join(&name);
        let Some(dir) = target(&source, &name, &targets)? else { continue };
        moved.copied_bytes += move_entry(&source, &dir.join(&name), owner, stop)?;
        moved.entries += 1;
    }
    for dir in targets.all() {
        sync_filesystem(dir).map_err(Error::io("bring to the disk", dir))?;
    }
    if let Some(manifest) = &manifest {
        check(&backup, manifest, resumed, |entry| vec![place(entry, &targets)])?;
    }
    log_index::rewrite(&targets.datadir)?;
    let note = backup.join(NOTE);
    std::fs::remove_file(&note).map_err(Error::io("remove", &note))?;
    sync_parent(&note).map_err(Error::io("bring to the disk", &backup))?;
    Ok(moved)
}

/// What a move-back would move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MovePlan {
    /// Entries of the backup's directory: files, and directories as a whole.
    pub entries: u64,
    /// If it would go on with one that was begun.
    pub resumed: bool,
    /// If the backup has a manifest, and so all of its files are known and are there.
    pub complete: bool,
}

/// Looks at everything a move-back looks at first, and touches nothing.
///
/// # Errors
///
/// The refusals of [`move_back`].
pub fn plan_move_back(backup: &Path, targets: &Targets) -> Result<MovePlan, Error> {
    let Opened { backup, targets, manifest, resumed, _lock } = open(backup, targets)?;
    // One after the other: two names of one directory do not lock each other out.
    for dir in targets.all().into_iter().filter(|dir| dir.exists()) {
        marked::lock(&File::open(dir).map_err(Error::io("open", dir))?, dir)?;
    }
    let mut entries = 0;
    for name in list(&backup)? {
        entries += u64::from(target(&backup.join(&name), &name, &targets)?.is_some());
    }
    Ok(MovePlan { entries, resumed, complete: manifest.is_some() })
}

/// What every move-back looks at first, with the backup locked.
struct Opened {
    backup: PathBuf,
    targets: Targets,
    manifest: Option<Manifest>,
    resumed: bool,
    _lock: File,
}

fn open(backup: &Path, targets: &Targets) -> Result<Opened, Error> {
    let backup = backup.canonicalize().map_err(Error::io("find", backup))?;
    let targets = targets.absolute()?;
    let lock = File::open(&backup).map_err(Error::io("open", &backup))?;
    marked::lock(&lock, &backup)?;
    let manifest = manifest(&backup, &targets)?;
    let resumed = begin(&backup, &targets, manifest.as_ref())?;
    Ok(Opened { backup, targets, manifest, resumed, _lock: lock })
}

/// The manifest of the backup, which a move-back that was cut off may have moved.
fn manifest(backup: &Path, targets: &Targets) -> Result<Option<Manifest>, Error> {
    let places = [backup, &targets.datadir].map(|dir| dir.join(manifest::NAME));
    let places = if backup.join(NOTE).exists() { &places[..] } else { &places[..1] };
    places.iter().find(|path| path.is_file()).map(|path| Manifest::read(path)).transpose()
}

/// All files of the manifest must be in one of their places, whole. If it is resumed, indexes of binlogs may have been
/// written anew.
fn check(
    backup: &Path,
    manifest: &Manifest,
    resumed: bool,
    places: impl Fn(&Entry) -> Vec<PathBuf>,
) -> Result<(), Error> {
    let is_there = |entry: &Entry, path: &Path| path.metadata().is_ok_and(|meta| meta.len() == entry.size);
    let is_moved = |entry: &Entry| {
        !(entry.obsolete || stays(&entry.path) || resumed && log_index::is_rewritten(&entry.path))
    };
    let missing = |entry: &&Entry| is_moved(entry) && !places(entry).iter().any(|path| is_there(entry, path));
    let mut missing = manifest.files.iter().filter(missing);
    let Some(first) = missing.next() else { return Ok(()) };
    match &first.from {
        Some(needed) => Err(Error::BaseMissing {
            needed: needed.clone(),
            found: format!("{:?} is not in {backup:?}: a restore puts the two together", first.path),
        }),
        None => Err(Error::Damaged {
            path: backup.to_owned(),
            count: 1 + missing.count(),
            first: format!("{:?} is missing or has not {} bytes", first.path, first.size),
        }),
    }
}

/// If a file is left behind; see [`target`].
fn stays(path: &Path) -> bool {
    let mut parts = path.components().map(|part| part.as_os_str().as_encoded_bytes());
    let first = parts.next().unwrap_or_default();
    first.starts_with(NOTE.as_bytes()) || (first.ends_with(b".rocksdb") && parts.next().is_some())
}

/// Where a file of the backup belongs.
fn place(entry: &Entry, targets: &Targets) -> PathBuf {
    directory(&entry.path, targets).join(&entry.path)
}

/// Checks that the move can be made; `true` if it was begun before.
fn begin(backup: &Path, targets: &Targets, manifest: Option<&Manifest>) -> Result<bool, Error> {
    let note = backup.join(NOTE);
    if let Ok(bytes) = std::fs::read(&note) {
        let begun: Targets = serde_json::from_slice(&bytes).map_err(|_| Error::NoBackup {
            path: note.clone(),
            missing: "a readable note of where its move-back goes",
        })?;
        if begun != *targets {
            return Err(Error::OtherMoveBack { backup: backup.to_owned(), data: begun.datadir });
        }
        if let Some(manifest) = manifest {
            check(backup, manifest, true, |entry| vec![backup.join(&entry.path), place(entry, targets)])?;
        }
        return Ok(true);
    }
    if backup.join(UNFINISHED).exists() {
        return Err(Error::CutOff { path: backup.to_owned(), reason: "it is marked as unfinished" });
    }
    if !backup.join("CURRENT").is_file() {
        return Err(Error::NoBackup { path: backup.to_owned(), missing: "RocksDB's CURRENT file" });
    }
    if let Some(manifest) = manifest {
        check(backup, manifest, false, |entry| vec![backup.join(&entry.path)])?;
    }
    for dir in targets.all() {
        if dir.starts_with(backup) || backup.starts_with(dir) {
            return Err(Error::Usage(format!(
                "the target {dir:?} and the backup {backup:?} lie in each other"
            )));
        }
    }
    targets.check_empty()?;
    Ok(false)
}

/// Notes that the move has begun. Before that the backup is brought to the disk, as its files are the only ones.
fn note(backup: &Path, targets: &Targets) -> Result<(), Error> {
    sync_filesystem(backup).map_err(Error::io("bring to the disk", backup))?;
    let note = backup.join(NOTE);
    let partial = suffixed(&note, ".partial");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(&serde_json::to_vec(targets)?)?;
        file.sync_all()?;
        std::fs::rename(&partial, &note)?;
        sync_parent(&note)
    };
    write().map_err(Error::io("write", &note))
}

/// Makes a directory with its parents, as a server wants it: its own.
fn make(dir: &Path, owner: Option<Owner>) -> Result<(), Error> {
    if dir.is_dir() {
        return give(dir, owner);
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    std::fs::create_dir(dir).map_err(Error::io("create", dir))?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(Error::io("create", dir))?;
    sync_parent(dir).map_err(Error::io("create", dir))?;
    give(dir, owner)
}

fn give(path: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(Error::io("give away", path))
}

/// Where an entry of the backup goes; `None` for what is left behind.
fn target<'a>(source: &Path, name: &OsStr, targets: &'a Targets) -> Result<Option<&'a Path>, Error> {
    let meta = source.symlink_metadata().map_err(Error::io("read", source))?;
    // The note itself, or half of one.
    if name.as_encoded_bytes().starts_with(NOTE.as_bytes()) {
        return Ok(None);
    }
    if meta.is_dir() {
        // The directory of an older way of taking backups; it is not the server's.
        let left = name.as_encoded_bytes().ends_with(b".rocksdb");
        return Ok((!left).then_some(&*targets.datadir));
    }
    if !meta.is_file() {
        let reason = "it is neither a file nor a directory";
        return Err(Error::UnsafeMember { name: source.display().to_string(), reason });
    }
    Ok(Some(directory(Path::new(name), targets)))
}

/// The target of a file.
fn directory<'a>(name: &Path, targets: &'a Targets) -> &'a Path {
    match names::kind(name) {
        Kind::Wal => &targets.rocksdb_waldir,
        Kind::Data | Kind::Meta => &targets.rocksdb_datadir,
        Kind::Server => &targets.datadir,
    }
}

fn list(dir: &Path) -> Result<Vec<OsString>, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("list", dir))?;
    entries.map(|e| e.map(|e| e.file_name()).map_err(Error::io("list", dir))).collect()
}

/// Moves a file or a directory; gives the bytes that were copied.
fn move_entry(source: &Path, target: &Path, owner: Option<Owner>, stop: &Stop) -> Result<u64, Error> {
    let meta = source.symlink_metadata().map_err(Error::io("read", source))?;
    if owner.is_some() {
        give_all(source, &meta, owner)?;
    }
    // A rename must not replace what is there: a directory that an earlier try copied in part is joined, a file that
    // it copied whole is replaced by itself.
    let fresh = target.symlink_metadata().is_err();
    if fresh || meta.is_file() {
        match std::fs::rename(source, target) {
            Ok(()) => return Ok(0),
            Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {}
            Err(e) => return Err(Error::Io { action: "move", path: source.to_owned(), source: e }),
        }
    }
    if meta.is_dir() {
        if fresh {
            make(target, owner)?;
        }
        let mut bytes = 0;
        for name in list(source)? {
            stop.check()?;
            bytes += move_entry(&source.join(&name), &target.join(&name), owner, stop)?;
        }
        let failed = Error::io("move", source);
        std::fs::set_permissions(target, Permissions::from_mode(meta.mode() & 0o777))
            .and_then(|()| keep_owner(target, &meta, owner))
            .and_then(|()| File::open(target)?.sync_all())
            .and_then(|()| std::fs::remove_dir(source))
            .map_err(failed)?;
        return Ok(bytes);
    }
    if !meta.is_file() {
        let reason = "it is neither a file nor a directory";
        return Err(Error::UnsafeMember { name: source.display().to_string(), reason });
    }
    let partial = suffixed(target, ".partial");
    let mut original = File::open(source).map_err(Error::io("open", source))?;
    let file = private::options().create(true).truncate(true).open(&partial);
    let file = file.map_err(Error::io("create", &partial))?;
    let bytes = stop.copy(&mut original, &file, source)?;
    let end = || -> std::io::Result<()> {
        file.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
        keep_owner(&partial, &meta, owner)?;
        let times = rustix::fs::Timestamps {
            last_access: timespec(meta.atime(), meta.atime_nsec()),
            last_modification: timespec(meta.mtime(), meta.mtime_nsec()),
        };
        rustix::fs::utimensat(CWD, &partial, &times, AtFlags::empty())?;
        file.sync_all()?;
        std::fs::rename(&partial, target)?;
        sync_parent(target)?;
        std::fs::remove_file(source)
    };
    end().map_err(Error::io("copy", source))?;
    Ok(bytes)
}

fn timespec(seconds: i64, nanoseconds: i64) -> rustix::fs::Timespec {
    rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
}

/// A copy is its maker's; without an owner that was asked for, root keeps the one of the original.
fn keep_owner(copy: &Path, meta: &std::fs::Metadata, owner: Option<Owner>) -> std::io::Result<()> {
    let Owner { uid, gid } = match owner {
        Some(owner) => owner,
        None if rustix::process::geteuid().is_root() => Owner { uid: meta.uid(), gid: meta.gid() },
        None => return Ok(()),
    };
    std::os::unix::fs::lchown(copy, Some(uid), Some(gid))
}

fn give_all(path: &Path, meta: &std::fs::Metadata, owner: Option<Owner>) -> Result<(), Error> {
    give(path, owner)?;
    if meta.is_dir() {
        for name in list(path)? {
            let inner = path.join(name);
            let meta = inner.symlink_metadata().map_err(Error::io("read", &inner))?;
            give_all(&inner, &meta, owner)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn backup(dir: &Path) {
        std::fs::create_dir_all(dir.join("db")).unwrap();
        std::fs::create_dir_all(dir.join("old.rocksdb")).unwrap();
        for file in [
            "000013.sst",
            "000012.log",
            "MANIFEST-000004",
            "OPTIONS-000011",
            "CURRENT",
            "ddl_recovery.log",
            "db/t.frm",
        ] {
            std::fs::write(dir.join(file), file).unwrap();
        }
    }

    fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut todo = vec![dir.to_owned()];
        while let Some(next) = todo.pop() {
            for entry in std::fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => todo.push(path),
                    false => {
                        drop(files.insert(
                            path.strip_prefix(dir).unwrap().to_owned(),
                            std::fs::read(&path).unwrap(),
                        ))
                    }
                }
            }
        }
        files
    }

    fn targets(root: &Path) -> Targets {
        Targets {
            datadir: root.join("data"),
            rocksdb_datadir: root.join("data/#rocksdb"),
            rocksdb_waldir: root.join("wal"),
        }
    }

    const EXPECTED: [&str; 7] = [
        "data/#rocksdb/000013.sst",
        "data/#rocksdb/CURRENT",
        "data/#rocksdb/MANIFEST-000004",
        "data/#rocksdb/OPTIONS-000011",
        "data/db/t.frm",
        "data/ddl_recovery.log",
        "wal/000012.log",
    ];

    fn check(root: &Path) {
        let mut moved: Vec<_> =
            tree(&root.join("data")).into_keys().map(|p| Path::new("data").join(p)).collect();
        moved.extend(tree(&root.join("wal")).into_keys().map(|p| Path::new("wal").join(p)));
        assert_eq!(moved, EXPECTED.map(PathBuf::from));
    }

    #[test]
    fn every_file_goes_to_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        backup(&dir.path().join("b"));
        let before = tree(dir.path());
        let plan = plan_move_back(&dir.path().join("b"), &targets(dir.path())).unwrap();
        assert_eq!(plan, MovePlan { entries: 7, resumed: false, complete: false });
        assert_eq!(tree(dir.path()), before, "a plan touches nothing");
        let moved = move_back(&dir.path().join("b"), &targets(dir.path()), None, &Stop::new()).unwrap();
        assert_eq!((moved.entries, moved.copied_bytes, moved.resumed), (7, 0, false));
        check(dir.path());
        assert_eq!(std::fs::metadata(dir.path().join("data")).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_target_that_holds_anything_is_refused_and_nothing_moves() {
        let dir = tempfile::tempdir().unwrap();
        backup(&dir.path().join("b"));
        let before = tree(&dir.path().join("b"));
        for full in ["data", "data/#rocksdb", "wal"] {
            std::fs::create_dir_all(dir.path().join(full)).unwrap();
            std::fs::write(dir.path().join(full).join("x"), "").unwrap();
            let plan = plan_move_back(&dir.path().join("b"), &targets(dir.path()));
            assert!(matches!(plan, Err(Error::NotEmpty { .. })), "{full}: {plan:?}");
            let result = move_back(&dir.path().join("b"), &targets(dir.path()), None, &Stop::new());
            assert!(matches!(result, Err(Error::NotEmpty { .. })), "{full}: {result:?}");
            assert_eq!(tree(&dir.path().join("b")), before);
            std::fs::remove_file(dir.path().join(full).join("x")).unwrap();
        }
        move_back(&dir.path().join("b"), &targets(dir.path()), None, &Stop::new()).unwrap();
    }

    #[test]
    fn a_move_back_across_file_systems_is_complete_and_can_be_taken_up_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        // /dev/shm is a file system of its own on every Linux.
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let source = dir.path().join("b");
        backup(&source);
        let all: Vec<_> = tree(&source).into_values().collect();
        let wanted = targets(other.path());
        // What a cut leaves: the note, one file whole in both places, one half copied, a directory half moved.
        note(&source, &wanted).unwrap();
        std::fs::create_dir_all(wanted.rocksdb_datadir.as_path()).unwrap();
        std::fs::create_dir_all(wanted.datadir.join("db")).unwrap();
        std::fs::copy(source.join("000013.sst"), wanted.rocksdb_datadir.join("000013.sst")).unwrap();
        std::fs::write(wanted.rocksdb_datadir.join("CURRENT.partial"), "CUR").unwrap();
        let moved = move_back(&source, &wanted, None, &Stop::new()).unwrap();
        assert!(moved.resumed && moved.copied_bytes > 0);
        check(other.path());
        let mut now: Vec<_> = tree(other.path()).into_values().collect();
        let mut all = all;
        now.sort();
        all.sort();
        assert_eq!(now, all);
    }

    /// The manifest of the files that [`backup`] makes.
    fn with_manifest(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let files = tree(dir).into_iter().filter(|(path, _)| path != Path::new(manifest::NAME));
        let files: Vec<_> = files
            .map(|(path, bytes)| {
                let kind = names::kind(&path);
                serde_json::json!({ "path": path, "size": bytes.len(), "sum": "none", "kind": kind })
            })
            .collect();
        let mut json = serde_json::json!({
            "schema_version": manifest::SCHEMA, "program": "", "id": "a".repeat(32), "base": null, "started": "",
            "finished": "", "server": { "version": "", "uid": null, "rocksdb_identity": null }, "consistent": false,
            "lock": null, "binlog": null, "sequence": null, "left_out": [], "checksum": "none", "directories": ["db"],
            "files": files,
        });
        change(&mut json);
        std::fs::write(dir.join(manifest::NAME), json.to_string()).unwrap();
    }

    #[test]
    fn a_backup_that_is_not_what_its_manifest_says_is_refused_and_nothing_moves() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("b");
        backup(&source);
        let refused = || {
            let error = move_back(&source, &targets(dir.path()), None, &Stop::new()).unwrap_err();
            assert!(!dir.path().join("data").exists());
            error
        };
        let mut more = serde_json::json!({ "path": "000099.sst", "size": 1, "sum": "none", "kind": "data" });
        with_manifest(&source, |m| m["files"].as_array_mut().unwrap().push(more.clone()));
        assert!(matches!(refused(), Error::Damaged { count: 1, .. }));
        more["from"] = "b".repeat(32).into();
        with_manifest(&source, |m| m["files"].as_array_mut().unwrap().push(more.clone()));
        assert!(matches!(refused(), Error::BaseMissing { .. }), "the half of a chain");
        with_manifest(&source, |m| m["files"][0]["size"] = 1.into());
        assert!(matches!(refused(), Error::Damaged { count: 1, .. }));
        std::fs::write(source.join(UNFINISHED), "").unwrap();
        with_manifest(&source, |_| {});
        assert!(matches!(refused(), Error::CutOff { .. }));
        std::fs::remove_file(source.join(UNFINISHED)).unwrap();
        // What a move-back leaves behind is missed nowhere.
        std::fs::write(source.join("old.rocksdb/t.frm"), "").unwrap();
        with_manifest(&source, |_| {});
        assert!(move_back(&source, &targets(dir.path()), None, &Stop::new()).unwrap().complete);
    }

    #[test]
    fn one_directory_by_two_names_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("b");
        backup(&source);
        std::fs::create_dir(dir.path().join("rocks")).unwrap();
        std::os::unix::fs::symlink("rocks", dir.path().join("wal")).unwrap();
        let wanted = Targets { rocksdb_datadir: dir.path().join("rocks"), ..targets(dir.path()) };
        plan_move_back(&source, &wanted).unwrap();
        move_back(&source, &wanted, None, &Stop::new()).unwrap();
        assert!(dir.path().join("rocks/CURRENT").exists() && dir.path().join("rocks/000012.log").exists());
    }

    #[test]
    fn two_at_a_time_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("b");
        backup(&source);
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for busy in ["b", "data"] {
            let held = File::open(dir.path().join(busy)).unwrap();
            marked::lock(&held, &source).unwrap();
            let result = move_back(&source, &targets(dir.path()), None, &Stop::new());
            assert!(matches!(result, Err(Error::Busy { .. })), "{busy}: {result:?}");
            assert!(source.join("CURRENT").exists());
        }
        assert!(!move_back(&source, &targets(dir.path()), None, &Stop::new()).unwrap().complete);
    }

    #[test]
    fn other_targets_than_those_begun_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("b");
        backup(&source);
        note(&source, &targets(&dir.path().join("one"))).unwrap();
        let result = move_back(&source, &targets(&dir.path().join("two")), None, &Stop::new());
        assert!(matches!(result, Err(Error::OtherMoveBack { .. })));
    }

    #[test]
    fn a_directory_without_a_database_is_no_backup() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        let result = move_back(&dir.path().join("b"), &targets(dir.path()), None, &Stop::new());
        assert!(matches!(result, Err(Error::NoBackup { .. })));
        assert!(!dir.path().join("data").exists());
    }
}
