//! From a backup to directories that a server starts from, in one step.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Serialize;

use crate::begun::Begun;
use crate::manifest::{self, BinlogAt, Manifest};
use crate::marked::Marked;
use crate::move_back::{self, Moved};
use crate::owner::Owner;
use crate::sink::UNFINISHED;
use crate::sink::partial::{Name, suffixed};
use crate::targets::{Targets, Wanted};
use crate::verify::{self, Verified};
use crate::{Error, LeftOut, Stop, archive, encoded, private, unpack};

/// What to restore, and where to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Restore {
    /// The backups: the full one first, then the incremental ones that build on it, each an archive or a directory.
    pub from: Vec<PathBuf>,
    /// The password of those that are encrypted.
    pub password: Option<SecretString>,
    /// The server's directories; empty or absent.
    pub to: Wanted,
    /// Who owns the files afterwards.
    pub owner: Option<Owner>,
    /// Restore a backup without a manifest, as the program before this one made them. Whether it is whole nobody knows.
    pub without_manifest: bool,
    /// Do not compare the files with the manifest before they are moved.
    pub skip_verify: bool,
    /// Where the backup is unpacked; on the file system of the data directory, and the default is beside it.
    pub staging: Option<PathBuf>,
}

impl Restore {
    /// These backups to these directories, verified on the way.
    pub fn new(from: Vec<PathBuf>, to: Wanted) -> Self {
        Self {
            from,
            password: None,
            to,
            owner: None,
            without_manifest: false,
            skip_verify: false,
            staging: None,
        }
    }
}

/// What was restored.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// The id of the last backup of the chain.
    pub id: Option<String>,
    /// How many backups the chain has.
    pub backups: usize,
    /// What the verification found; nothing wrong, or there would be no result.
    pub verified: Option<Verified>,
    /// What was moved.
    pub moved: Moved,
    /// Where to.
    pub targets: Targets,
    /// A directory of RocksDB was not given, and the backup does not say where the server had it: an older version made
    /// it, or another program. A server that looks elsewhere for write-ahead logs starts without their transactions.
    pub guessed: bool,
    /// Where the binlog was.
    pub binlog: Option<BinlogAt>,
    /// User tables that the backup does not hold.
    pub left_out: Vec<LeftOut>,
}

/// Marks a staging directory as this program's.
const MARK: &str = ".myrocks-hotbackup-staging";

/// Unpacks a chain of backups, verifies the result and moves it to where a server wants it.
///
/// Nothing is moved unless all of it was found sound; the backups themselves stay as they are. When it fails, what was
/// unpacked is removed. A restore that was cut off while it moved is taken up by the same request.
///
/// # Errors
///
/// [`Error::NotEmpty`] for the targets, [`Error::Elsewhere`] if one was not given that must be, [`Error::BaseMissing`] if the backups are no chain, [`Error::NoManifest`],
/// [`Error::CutOff`], [`Error::Damaged`], [`Error::OtherRestore`] if another one was cut off there, [`Error::Busy`], and
/// the errors of unpacking and moving.
pub fn restore(request: &Restore, stop: &Stop) -> Result<Restored, Error> {
    // Before anything is made beside a data directory that is in use.
    let path = Staging::path(request)?;
    Staging::check_outside(&path, request.to.given())?;
    if !path.join(MARK).exists() {
        request.to.check_unused()?;
    }
    let staging = Staging::take(&path)?;
    if let Some(whole) = staging.moving() {
        return resume(request, staging, &whole, stop);
    }
    if let Some(restored) = done(request, &staging, stop) {
        return Ok(restored);
    }
    staging.0.clear().map_err(Error::io("remove", &path))?;
    // What an earlier restore was about has no meaning for the files of this one.
    staging.0.mark.set_len(0).map_err(Error::io("write the mark of", &path))?;
    request.to.check_unused()?;
    let mut parts = Vec::new();
    for (number, from) in request.from.iter().enumerate() {
        parts.push(Part::open(from, &path.join(number.to_string()), request, stop)?);
    }
    check_chain(&parts)?;
    let Some(last) = parts.last() else { return Err(Error::Usage("there is no backup to restore".into())) };
    let manifest = last.manifest.clone();
    let targets = request.to.targets(manifest.as_ref())?;
    targets.check_empty()?;
    Staging::check_outside(&path, targets.all())?;
    let whole = match &manifest {
        Some(manifest) => {
            let whole = path.join("whole");
            lay(&parts, manifest, &whole, request.password.as_ref(), stop)?;
            whole
        }
        // Made by another program: all that is there is the backup.
        None => last.dir.clone(),
    };
    let verified = match request.skip_verify {
        true => None,
        false => {
            let result = verify::verify_whole(&whole, manifest.as_ref(), stop)?;
            Some(result.into_result(request.from.last().map_or(Path::new(""), PathBuf::as_path))?)
        }
    };
    let ids = parts.iter().map(|part| part.manifest.as_ref().map(|manifest| manifest.id.clone()));
    Begun::of(request, &targets, ids.collect())?.write(&staging.0)?;
    let moved = move_back::move_back(&whole, &targets, request.owner, stop);
    if moved.is_err() && whole.join(move_back::NOTE).exists() {
        // Half of the files are moved: the other half must stay for the next run.
        staging.keep();
    }
    Ok(restored(request, manifest.as_ref(), verified, targets, moved?))
}

fn restored(
    request: &Restore,
    manifest: Option<&Manifest>,
    verified: Option<Verified>,
    targets: Targets,
    moved: Moved,
) -> Restored {
    Restored {
        id: manifest.map(|m| m.id.clone()),
        backups: request.from.len(),
        verified,
        moved,
        targets,
        guessed: request.to.is_guess(manifest),
        binlog: manifest.and_then(|m| m.binlog.clone()),
        left_out: manifest.map(|m| m.left_out.clone()).unwrap_or_default(),
    }
}

/// A restore that was cut off when everything was moved: only what it unpacked into is still to go.
fn done(request: &Restore, staging: &Staging, stop: &Stop) -> Option<Restored> {
    let manifest = Manifest::read(&request.to.datadir).ok();
    let targets = request.to.targets(manifest.as_ref()).ok()?;
    let is_here = |dir: &Path| dir.join("CURRENT").is_file();
    if !is_here(&targets.rocksdb_datadir) || staging.wholes().iter().any(|dir| is_here(dir)) {
        return None;
    }
    Begun::check(&staging.0, request, &targets, stop).ok()?;
    let moved = Moved { resumed: true, complete: manifest.is_some(), ..Moved::default() };
    Some(restored(request, manifest.as_ref(), None, targets, moved))
}

/// Goes on with a restore that was cut off while it moved.
fn resume(request: &Restore, staging: Staging, whole: &Path, stop: &Stop) -> Result<Restored, Error> {
    let go_on = || {
        // It may have been moved already.
        let manifest = [whole, &request.to.datadir].map(|dir| Manifest::read(dir).ok());
        let manifest = manifest.into_iter().flatten().next();
        let targets = request.to.targets(manifest.as_ref())?;
        Begun::check(&staging.0, request, &targets, stop)?;
        let moved = move_back::move_back(whole, &targets, request.owner, stop)?;
        Ok(restored(request, manifest.as_ref(), None, targets, moved))
    };
    match go_on() {
        Ok(restored) => Ok(restored),
        Err(error) => {
            staging.keep();
            Err(error)
        }
    }
}

/// A directory for work that goes when its owner goes, unless it is to stay.
struct Staging(Marked, bool);

impl Staging {
    fn path(request: &Restore) -> Result<PathBuf, Error> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
        match &request.staging {
            Some(path) => Ok(absolute(path)?.components().collect()),
            None => Ok(Name::new(&absolute(&request.to.datadir)?)?.suffixed(".restore-unfinished")),
        }
    }

    /// What is unpacked in a directory that must be empty would be an obstacle to itself.
    fn check_outside<'a>(path: &Path, targets: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
        for target in targets {
            if path.starts_with(std::path::absolute(target).map_err(Error::io("find", target))?) {
                return Err(Error::Usage(format!(
                    "the backup would be unpacked in {path:?}, which is in the target {target:?}: the targets must be empty \
                     (--staging says where it is unpacked)"
                )));
            }
        }
        Ok(())
    }

    /// Leaves everything as it is, and unlocks it.
    fn keep(mut self) {
        self.1 = true;
    }

    /// Takes the directory, with what an earlier restore left.
    fn take(path: &Path) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        Marked::take(path, MARK).map(|work| Self(work, false))
    }

    /// The backup of a restore that was cut off while it moved.
    fn moving(&self) -> Option<PathBuf> {
        self.wholes().into_iter().find(|whole| whole.join(move_back::NOTE).exists())
    }

    /// Where a whole backup may be.
    fn wholes(&self) -> [PathBuf; 2] {
        ["whole", "0"].map(|name| self.0.path().join(name))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.1 {
            let _ = self.0.remove();
        }
    }
}

/// One backup of a chain.
struct Part {
    /// Where its files are.
    dir: PathBuf,
    /// The directory is the backup itself, which must stay.
    borrowed: bool,
    manifest: Option<Manifest>,
    name: PathBuf,
}

impl Part {
    fn open(from: &Path, unpacked: &Path, request: &Restore, stop: &Stop) -> Result<Self, Error> {
        let borrowed = from.is_dir();
        let dir = if borrowed { from.to_owned() } else { unpacked.to_owned() };
        let ended = match borrowed {
            true => true,
            false => unpack::unpack(from, &dir, request.password.as_ref(), stop)?.ended,
        };
        let manifest = dir.join(manifest::NAME);
        let manifest = if manifest.is_file() { Some(Manifest::read(&manifest)?) } else { None };
        let cut = |reason| Err(Error::CutOff { path: from.to_owned(), reason });
        match manifest {
            Some(_) => {}
            None if !request.without_manifest => return Err(Error::NoManifest { path: from.to_owned() }),
            None if !ended => return cut(archive::NO_END),
            None if dir.join(UNFINISHED).exists() => return cut("it is marked as unfinished"),
            None => {}
        }
        if manifest.is_none() && borrowed {
            // Without a manifest nobody knows which files are the backup's: take all.
            copy_all(&dir, unpacked, stop)?;
            return Ok(Self { dir: unpacked.to_owned(), borrowed: false, manifest, name: from.to_owned() });
        }
        Ok(Self { dir, borrowed, manifest, name: from.to_owned() })
    }
}

/// Every backup must build on the one before it.
fn check_chain(parts: &[Part]) -> Result<(), Error> {
    let mut previous: Option<&str> = None;
    for (number, part) in parts.iter().enumerate() {
        let Some(manifest) = &part.manifest else {
            match parts.len() {
                1 => return Ok(()),
                _ => return Err(Error::NoBackup { path: part.name.clone(), missing: manifest::NAME }),
            }
        };
        let found = match (number, previous) {
            (0, _) => "no base was given".to_owned(),
            (_, id) => format!("{:?} builds on {}", part.name, id.unwrap_or("nothing")),
        };
        match (manifest.base.as_deref(), previous) {
            (None, None) => {}
            (Some(base), Some(previous)) if base == previous => {}
            (Some(base), Some(id)) => {
                return Err(Error::BaseMissing {
                    needed: base.into(),
                    found: format!("the backup before it is {id}"),
                });
            }
            (Some(base), None) => return Err(Error::BaseMissing { needed: base.into(), found }),
            (None, Some(_)) => {
                return Err(Error::Usage(format!(
                    "{:?} is a full backup and begins a chain of its own",
                    part.name
                )));
            }
        }
        previous = Some(&manifest.id);
    }
    Ok(())
}

/// Puts the files of the last manifest together from the backups that hold them.
fn lay(
    parts: &[Part],
    manifest: &Manifest,
    whole: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
) -> Result<(), Error> {
    let by_id: HashMap<&str, &Part> =
        parts.iter().filter_map(|part| Some((part.manifest.as_ref()?.id.as_str(), part))).collect();
    std::fs::create_dir(whole).map_err(Error::io("create", whole))?;
    let own = by_id.get(manifest.id.as_str());
    for dir in &manifest.directories {
        let target = whole.join(dir);
        std::fs::create_dir_all(&target).map_err(Error::io("create", &target))?;
        if let Some(meta) = own.and_then(|part| part.dir.join(dir).metadata().ok()) {
            like(&File::open(&target).map_err(Error::io("open", &target))?, &meta)
                .map_err(Error::io("finish", &target))?;
        }
    }
    for entry in manifest.files.iter().filter(|f| !f.obsolete) {
        stop.check()?;
        let id = entry.from.as_deref().unwrap_or(&manifest.id);
        let Some(part) = by_id.get(id) else {
            let found = format!("{:?} is in none of the backups given", entry.path);
            return Err(Error::BaseMissing { needed: id.into(), found });
        };
        let (source, target) = (part.dir.join(&entry.path), whole.join(&entry.path));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        match part.borrowed {
            false => std::fs::rename(&source, &target).map_err(Error::io("find", &source))?,
            true => copy_encoded(&source, &target, password, stop)?,
        }
    }
    // The restored server carries the note of what it was restored from.
    if let Some(part) = own {
        let (source, target) = (part.dir.join(manifest::NAME), whole.join(manifest::NAME));
        let mut file = File::open(&source).map_err(Error::io("open", &source))?;
        copy_file(&source, &target, &mut file, stop)?;
    }
    Ok(())
}

/// Copies a file of a directory backup, whatever it is encoded by.
fn copy_encoded(
    source: &Path,
    target: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
) -> Result<(), Error> {
    for suffix in ["", ".zst", ".aes", ".zst.aes"] {
        let path = suffixed(source, suffix);
        if suffix.is_empty() {
            match File::open(&path) {
                Ok(mut file) => return copy_file(&path, target, &mut file, stop),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::Io { action: "open", path, source: e }),
            }
        }
        if path.is_file() {
            let (mut reader, _) = encoded::decoded(&path, &path, password)?;
            return copy_file(&path, target, &mut reader, stop);
        }
    }
    Err(Error::Io { action: "open", path: source.to_owned(), source: std::io::ErrorKind::NotFound.into() })
}

/// Copies bytes with the metadata of `source`. From file to file the kernel copies, or shares the blocks.
fn copy_file(
    source: &Path,
    target: &Path,
    reader: &mut (impl std::io::Read + ?Sized),
    stop: &Stop,
) -> Result<(), Error> {
    let meta = source.metadata().map_err(Error::io("read", source))?;
    let file = private::create_file(target).map_err(Error::io("create", target))?;
    stop.copy(reader, &file, source)?;
    like(&file, &meta).map_err(Error::io("finish", target))
}

fn like(file: &File, meta: &std::fs::Metadata) -> std::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(file, Some(meta.uid()), Some(meta.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
    if meta.is_file() {
        file.set_modified(meta.modified()?)?;
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path, stop: &Stop) -> Result<(), Error> {
    std::fs::create_dir(to).map_err(Error::io("create", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("list", from))? {
        stop.check()?;
        let entry = entry.map_err(Error::io("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::io("read", &source))?;
        if kind.is_dir() {
            copy_all(&source, &target, stop)?;
        } else if kind.is_file() {
            let mut file = File::open(&source).map_err(Error::io("open", &source))?;
            copy_file(&source, &target, &mut file, stop)?;
        } else {
            let reason = "it is neither a file nor a directory";
            return Err(Error::UnsafeMember { name: source.display().to_string(), reason });
        }
    }
    let dir = File::open(to).map_err(Error::io("open", to))?;
    like(&dir, &from.metadata().map_err(Error::io("read", from))?).map_err(Error::io("finish", to))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::manifest::{Entry, Origin};
    use crate::names;
    use crate::{Checksum, Sum};

    const FILES: [&str; 4] = ["000013.sst", "MANIFEST-000004", "CURRENT", "db/t.frm"];

    /// A directory with a backup; with `id` also with a manifest.
    fn backup(dir: &Path, id: Option<char>) {
        std::fs::create_dir_all(dir.join("db")).unwrap();
        let mut files = Vec::new();
        for name in FILES {
            std::fs::write(dir.join(name), name).unwrap();
            let (path, size) = (PathBuf::from(name), name.len() as u64);
            let kind = names::kind(&path);
            files.push(Entry {
                path,
                size,
                sum: Sum::none(),
                kind,
                modified: None,
                from: None,
                obsolete: false,
            });
        }
        let Some(id) = id else { return };
        let manifest = Manifest {
            schema_version: manifest::SCHEMA,
            program: "test".into(),
            id: id.to_string().repeat(32),
            base: None,
            started: String::new(),
            finished: String::new(),
            server: Origin { version: String::new(), uid: None, rocksdb_identity: None, places: None },
            consistent: false,
            lock: None,
            binlog: None,
            sequence: None,
            left_out: Vec::new(),
            checksum: Checksum::None,
            directories: vec!["db".into()],
            files,
        };
        std::fs::write(dir.join(manifest::NAME), manifest.to_bytes()).unwrap();
    }

    fn request(root: &Path, from: &str) -> Restore {
        Restore {
            from: vec![root.join(from)],
            password: None,
            to: Wanted { datadir: root.join("data"), rocksdb_datadir: None, rocksdb_waldir: None },
            owner: None,
            without_manifest: false,
            skip_verify: true,
            staging: Some(root.join("staging")),
        }
    }

    /// The staging of a restore of the backup with this id, which says what it is about and holds nothing else: what is
    /// left of it behind the last move.
    fn begun(request: &Restore, id: char) -> Staging {
        let staging = Staging::take(&Staging::path(request).unwrap()).unwrap();
        let targets = request.to.targets(None).unwrap();
        let ids = vec![Some(id.to_string().repeat(32))];
        Begun::of(request, &targets, ids).unwrap().write(&staging.0).unwrap();
        staging
    }

    /// What a restore leaves that is cut off when it has moved nothing yet but has noted that it will.
    fn cut(request: &Restore, id: char) {
        let staging = begun(request, id);
        let whole = staging.0.path().join("whole");
        copy_all(&request.from[0], &whole, &Stop::new()).unwrap();
        let targets = request.to.targets(None).unwrap();
        let note = serde_json::to_vec(&targets.absolute().unwrap()).unwrap();
        std::fs::write(whole.join(move_back::NOTE), note).unwrap();
        staging.keep();
    }

    #[test]
    fn a_restore_that_was_cut_off_is_taken_up_by_the_same_request_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        backup(&root.join("b"), Some('b'));
        let same = request(root, "a");
        cut(&same, 'a');
        let refused = |request: &Restore, name: &str| {
            let error = restore(request, &Stop::new()).unwrap_err();
            assert!(
                matches!(&error, Error::OtherRestore { what, .. } if what.starts_with(name)),
                "{name}: {error:?}"
            );
            assert!(root.join("staging/whole/CURRENT").exists(), "{name}: nothing has gone");
            assert!(!root.join("data").exists(), "{name}: nothing has come");
        };
        refused(&request(root, "b"), "--from");
        let to = Wanted { datadir: root.join("other"), ..same.to.clone() };
        refused(&Restore { to, ..same.clone() }, "the target");
        refused(&Restore { owner: Some(Owner { uid: 1, gid: 2 }), ..same.clone() }, "the owner");
        // Another backup under the name of the one that was begun.
        backup(&root.join("a"), Some('c'));
        refused(&same, "the content of");
        backup(&root.join("a"), Some('a'));
        let moved = restore(&same, &Stop::new()).unwrap();
        assert!(moved.moved.resumed && moved.moved.complete);
        assert_eq!(moved.id, Some("a".repeat(32)));
        assert!(root.join("data/db/t.frm").exists() && !root.join("staging").exists());
    }

    #[test]
    fn an_archive_that_was_replaced_is_not_the_one_whose_restore_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        let as_directory = request(root, "a");
        cut(&as_directory, 'a');
        std::fs::write(root.join("a.tar"), "an archive").unwrap();
        let same = request(root, "a.tar");
        begun(&same, 'a').keep();
        std::fs::write(root.join("a.tar"), "another archive").unwrap();
        let error = restore(&same, &Stop::new()).unwrap_err();
        assert!(matches!(&error, Error::OtherRestore { what, .. } if what.contains("a.tar")), "{error:?}");
        // One that has gone is the one of its name, and not needed any more.
        std::fs::remove_file(root.join("a.tar")).unwrap();
        assert!(restore(&same, &Stop::new()).unwrap().moved.resumed);
    }

    #[test]
    fn a_mark_that_does_not_say_what_was_begun_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        let same = request(root, "a");
        cut(&same, 'a');
        File::create(root.join("staging").join(MARK)).unwrap();
        assert!(matches!(restore(&same, &Stop::new()), Err(Error::OtherRestore { .. })));
        assert!(root.join("staging/whole/CURRENT").exists());
        // Nothing of it was moved: a restore begins anew.
        std::fs::remove_file(root.join("staging/whole").join(move_back::NOTE)).unwrap();
        assert!(!restore(&same, &Stop::new()).unwrap().moved.resumed);
    }

    #[test]
    fn a_backup_without_a_manifest_is_restored_only_if_that_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), None);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all("", root.join("a")).unwrap();
        let archive = archive.into_inner().unwrap();
        std::fs::write(root.join("a.tar"), &archive).unwrap();
        std::fs::write(root.join("cut.tar"), &archive[..archive.len() - 1024]).unwrap();
        for from in ["a", "a.tar", "cut.tar"] {
            let result = restore(&request(root, from), &Stop::new());
            assert!(matches!(result, Err(Error::NoManifest { .. })), "{from}: {result:?}");
        }
        let accepted = |from| Restore { without_manifest: true, ..request(root, from) };
        let result = restore(&accepted("cut.tar"), &Stop::new());
        assert!(matches!(result, Err(Error::CutOff { .. })), "{result:?}");
        std::fs::write(root.join("a").join(UNFINISHED), "").unwrap();
        let result = restore(&accepted("a"), &Stop::new());
        assert!(matches!(result, Err(Error::CutOff { .. })), "{result:?}");
        std::fs::remove_file(root.join("a").join(UNFINISHED)).unwrap();
        for from in ["a", "a.tar"] {
            assert!(!restore(&accepted(from), &Stop::new()).unwrap().moved.complete);
            std::fs::remove_dir_all(root.join("data")).unwrap();
        }
    }

    #[test]
    fn a_restore_that_was_cut_off_behind_its_last_move_is_done_and_only_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        let same = request(root, "a");
        cut(&same, 'a');
        let targets = same.to.targets(None).unwrap();
        move_back::move_back(&root.join("staging/whole"), &targets, None, &Stop::new()).unwrap();
        assert!(root.join("staging").join(MARK).exists() && root.join("data/#rocksdb/CURRENT").exists());
        // Another restore there is still refused.
        backup(&root.join("b"), Some('b'));
        let other = restore(&request(root, "b"), &Stop::new());
        assert!(matches!(other, Err(Error::NotEmpty { .. })), "{other:?}");
        begun(&same, 'a').keep();
        let restored = restore(&same, &Stop::new()).unwrap();
        assert!(restored.moved.resumed && restored.moved.complete);
        assert!(!root.join("staging").exists() && root.join("data/#rocksdb/CURRENT").exists());
        let again = restore(&same, &Stop::new());
        assert!(matches!(again, Err(Error::NotEmpty { .. })), "{again:?}");
    }

    #[test]
    fn a_slash_behind_a_target_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        let slash = |name: &str| root.join(name).join("");
        let to = Wanted {
            datadir: slash("data"),
            rocksdb_datadir: Some(slash("rocks")),
            rocksdb_waldir: Some(root.join("rocks")),
        };
        let restored = restore(&Restore { to, staging: None, ..request(root, "a") }, &Stop::new()).unwrap();
        assert!(root.join("rocks/CURRENT").exists() && root.join("data/db").exists());
        assert_eq!(restored.targets.rocksdb_datadir, restored.targets.rocksdb_waldir);
        let to = Wanted { datadir: "/".into(), ..request(root, "a").to };
        let result = restore(&Restore { to, staging: None, ..request(root, "a") }, &Stop::new());
        assert!(matches!(result, Err(Error::Usage(_))), "{result:?}");
    }

    #[test]
    fn a_place_to_unpack_in_a_target_is_refused_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        for staging in ["data/staging", "data"] {
            let request = Restore { staging: Some(root.join(staging)), ..request(root, "a") };
            let result = restore(&request, &Stop::new());
            assert!(matches!(&result, Err(Error::Usage(text)) if text.contains("--staging")), "{result:?}");
            assert!(!root.join("data").exists());
        }
    }

    #[test]
    fn a_restore_beside_another_one_is_refused_and_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        backup(&root.join("a"), Some('a'));
        let living = Staging::take(&root.join("staging")).unwrap();
        std::fs::write(root.join("staging/work"), "").unwrap();
        living.0.mark.write_all_at(b"x", 0).unwrap();
        let result = restore(&request(root, "a"), &Stop::new());
        assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
        assert!(root.join("staging/work").exists());
        drop(living);
        restore(&request(root, "a"), &Stop::new()).unwrap();
    }
}
