//! From a backup to directories that a server starts from, in one step.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Serialize;

use crate::manifest::{self, BinlogAt, Manifest};
use crate::move_back::{self, Moved};
use crate::owner::Owner;
use crate::sink::partial::suffixed;
use crate::targets::Targets;
use crate::verify::{self, Verified};
use crate::{Error, LeftOut, Stop, encoded, unpack};

/// What to restore, and where to.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The backups: the full one first, then the incremental ones that build on it, each an archive or a directory.
    pub from: Vec<PathBuf>,
    /// The password of those that are encrypted.
    pub password: Option<SecretString>,
    /// The server's directories; empty or absent.
    pub targets: Targets,
    /// Who owns the files afterwards.
    pub owner: Option<Owner>,
    /// Do not compare the files with the manifest before they are moved.
    pub skip_verify: bool,
    /// Where the backup is unpacked; on the file system of the data directory, and the default is beside it.
    pub staging: Option<PathBuf>,
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
/// unpacked is removed.
///
/// # Errors
///
/// [`Error::NotEmpty`] for the targets, [`Error::BaseMissing`] if the backups are no chain, [`Error::Damaged`], and the
/// errors of unpacking and moving.
pub fn restore(request: &Restore, stop: &Stop) -> Result<Restored, Error> {
    if let Some(moved) = resume(request, stop)? {
        return Ok(moved);
    }
    request.targets.check_empty()?;
    let staging = Staging::make(request)?;
    let mut parts = Vec::new();
    for (number, from) in request.from.iter().enumerate() {
        parts.push(Part::open(from, &staging.0.join(number.to_string()), request.password.as_ref(), stop)?);
    }
    check_chain(&parts)?;
    let Some(last) = parts.last() else { return Err(Error::Usage("there is no backup to restore".into())) };
    let manifest = last.manifest.clone();
    let whole = match &manifest {
        Some(manifest) => {
            let whole = staging.0.join("whole");
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
    let moved = move_back::move_back(&whole, &request.targets, request.owner, stop);
    if moved.is_err() && whole.join(move_back::NOTE).exists() {
        // Half of the files are moved: the other half must stay for the next run.
        staging.keep();
    }
    Ok(restored(manifest.as_ref(), parts.len(), verified, moved?))
}

fn restored(
    manifest: Option<&Manifest>,
    backups: usize,
    verified: Option<Verified>,
    moved: Moved,
) -> Restored {
    Restored {
        id: manifest.map(|m| m.id.clone()),
        backups,
        verified,
        moved,
        binlog: manifest.and_then(|m| m.binlog.clone()),
        left_out: manifest.map(|m| m.left_out.clone()).unwrap_or_default(),
    }
}

/// Goes on with a restore that was cut off while it moved.
fn resume(request: &Restore, stop: &Stop) -> Result<Option<Restored>, Error> {
    let path = Staging::path(request)?;
    for whole in [path.join("whole"), path.join("0")] {
        if path.join(MARK).exists() && whole.join(move_back::NOTE).exists() {
            let manifest = [&whole, &request.targets.datadir].map(|dir| Manifest::read(dir).ok());
            let moved = move_back::move_back(&whole, &request.targets, request.owner, stop)?;
            std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            let manifest = manifest.into_iter().flatten().next();
            return Ok(Some(restored(manifest.as_ref(), request.from.len(), None, moved)));
        }
    }
    Ok(None)
}

/// A directory for work that goes when its owner goes.
struct Staging(PathBuf);

impl Staging {
    fn path(request: &Restore) -> Result<PathBuf, Error> {
        match &request.staging {
            Some(path) => Ok(path.clone()),
            None => {
                let datadir = std::path::absolute(&request.targets.datadir)
                    .map_err(Error::io("find", &request.targets.datadir))?;
                Ok(suffixed(&datadir, ".restore-unfinished"))
            }
        }
    }

    fn keep(self) {
        std::mem::forget(self);
    }

    fn make(request: &Restore) -> Result<Self, Error> {
        let path = Self::path(request)?;
        if path.join(MARK).exists() {
            std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
        let this = Self(path);
        std::fs::set_permissions(&this.0, Permissions::from_mode(0o700))
            .map_err(Error::io("create", &this.0))?;
        File::create(this.0.join(MARK)).map_err(Error::io("create", &this.0))?;
        Ok(this)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
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
    fn open(
        from: &Path,
        unpacked: &Path,
        password: Option<&SecretString>,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let borrowed = from.is_dir();
        let dir = if borrowed { from.to_owned() } else { unpacked.to_owned() };
        if !borrowed {
            unpack::unpack(from, &dir, password, stop)?;
        }
        let manifest = dir.join(manifest::NAME);
        let manifest = if manifest.is_file() { Some(Manifest::read(&manifest)?) } else { None };
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
            true => copy_encoded(&source, &target, password)?,
        }
    }
    // The restored server carries the note of what it was restored from.
    if let Some(part) = own {
        let (source, target) = (part.dir.join(manifest::NAME), whole.join(manifest::NAME));
        copy_file(&source, &target, &mut File::open(&source).map_err(Error::io("open", &source))?)?;
    }
    Ok(())
}

/// Copies a file of a directory backup, whatever it is encoded by.
fn copy_encoded(source: &Path, target: &Path, password: Option<&SecretString>) -> Result<(), Error> {
    for suffix in ["", ".zst", ".aes", ".zst.aes"] {
        let path = suffixed(source, suffix);
        if suffix.is_empty() {
            match File::open(&path) {
                Ok(mut file) => return copy_file(&path, target, &mut file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::Io { action: "open", path, source: e }),
            }
        }
        if path.is_file() {
            let (mut reader, _) = encoded::decoded(&path, &path, password)?;
            return copy_file(&path, target, &mut reader);
        }
    }
    Err(Error::Io { action: "open", path: source.to_owned(), source: std::io::ErrorKind::NotFound.into() })
}

/// Copies bytes with the metadata of `source`. From file to file the kernel copies, or shares the blocks.
fn copy_file(source: &Path, target: &Path, reader: &mut (impl std::io::Read + ?Sized)) -> Result<(), Error> {
    let meta = source.metadata().map_err(Error::io("read", source))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(Error::io("create", target))?;
    std::io::copy(reader, &mut file).map_err(Error::io("copy", source))?;
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
            copy_file(&source, &target, &mut File::open(&source).map_err(Error::io("open", &source))?)?;
        } else {
            let reason = "it is neither a file nor a directory";
            return Err(Error::UnsafeMember { name: source.display().to_string(), reason });
        }
    }
    let dir = File::open(to).map_err(Error::io("open", to))?;
    like(&dir, &from.metadata().map_err(Error::io("read", from))?).map_err(Error::io("finish", to))
}
