//! Laying an archive's members below a directory.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, OpenOptions, OpenOptionsExt};
use secrecy::SecretString;

use crate::archive::{self, Item, Visit};
use crate::{Error, Stop, manifest};

/// Unpacks an archive below `target`, which is made if it is missing. Nothing is written outside of it or through a
/// link; links, devices and setuid files are refused.
///
/// The archive may be tar (one, or many in a row as the original writes them) or xbstream, each of them compressed by
/// zstd, encrypted by AES Crypt, or both. `-` is the standard input. Files in `target` that have the name of a member are
/// overwritten, others stay.
///
/// An archive that was cut between two members is unpacked as far as it goes, and that is no error: see
/// [`Unpacked::is_whole`]. That the files are those of the manifest says [`verify`](crate::verify()).
///
/// # Errors
///
/// [`Error::Archive`], [`Error::UnsafeMember`], [`Error::PasswordNeeded`], [`Error::Decrypt`], [`Error::Io`],
/// [`Error::Stopped`]. What was unpacked before stays.
pub fn unpack(
    archive: &Path,
    target: &Path,
    password: Option<&SecretString>,
    stop: &Stop,
) -> Result<Unpacked, Error> {
    std::fs::create_dir_all(target).map_err(Error::io("create", target))?;
    let root = Dir::open_ambient_dir(target, ambient_authority()).map_err(Error::io("open", target))?;
    let mut writer =
        Unpacker { root, target, open: HashMap::new(), done: Unpacked::default(), directories: Vec::new() };
    writer.done.ended = archive::read(archive, password, stop, &mut writer)?;
    // Directories last: one may forbid to write into it.
    for item in std::mem::take(&mut writer.directories).iter().rev() {
        let dir = writer.root.open(&item.path).map_err(Error::io("open", target.join(&item.path)))?;
        finish(&dir.into_std(), item).map_err(Error::io("finish", target.join(&item.path)))?;
    }
    Ok(writer.done)
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// If the archive ends as one must: tar has a mark there, xbstream has none that could be missing.
    pub ended: bool,
    /// If the manifest was in it, which is the last member. Backups of the program before this one have none.
    pub manifest: bool,
}

impl Unpacked {
    /// If nothing was cut off, as far as the archive tells.
    pub fn is_whole(&self) -> bool {
        self.ended && self.manifest
    }
}

struct Unpacker<'a> {
    root: Dir,
    target: &'a Path,
    open: HashMap<u64, (Item, File)>,
    done: Unpacked,
    directories: Vec<Item>,
}

impl Unpacker<'_> {
    fn path(&self, item: &Item) -> PathBuf {
        self.target.join(&item.path)
    }
}

impl Visit for Unpacker<'_> {
    fn begin(&mut self, open: u64, item: &Item) -> Result<(), Error> {
        if item.directory {
            self.root.create_dir_all(&item.path).map_err(Error::io("create", self.path(item)))?;
            self.directories.push(item.clone());
            return Ok(());
        }
        let mut options = OpenOptions::new();
        // A file may come twice in an archive of the original: the later one is the right one.
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = match self.root.open_with(&item.path, &options) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let parent = item.path.parent().unwrap_or(Path::new(""));
                let mut builder = DirBuilder::new();
                builder.recursive(true);
                self.root
                    .create_dir_with(parent, &builder)
                    .map_err(Error::io("create", self.target.join(parent)))?;
                self.root.open_with(&item.path, &options)
            }
            other => other,
        };
        let file = file.map_err(Error::io("create", self.path(item)))?.into_std();
        self.open.insert(open, (item.clone(), file));
        Ok(())
    }

    fn bytes(&mut self, open: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some((item, file)) = self.open.get_mut(&open) else { return Ok(()) };
        self.done.bytes += bytes.len() as u64;
        file.write_all(bytes).map_err(Error::io("write", self.target.join(&item.path)))
    }

    fn end(&mut self, open: u64) -> Result<(), Error> {
        let Some((item, file)) = self.open.remove(&open) else { return Ok(()) };
        self.done.files += 1;
        self.done.manifest |= item.path == Path::new(manifest::NAME);
        finish(&file, &item).map_err(Error::io("finish", self.path(&item)))
    }
}

/// Gives a file the mode, the owner and the time that its archive tells.
fn finish(file: &File, item: &Item) -> std::io::Result<()> {
    if let (Some((uid, gid)), true) = (item.owner, rustix::process::geteuid().is_root()) {
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    let default = if item.directory { 0o700 } else { 0o640 };
    file.set_permissions(Permissions::from_mode(item.mode.unwrap_or(default)))?;
    if let Some(seconds) = item.modified.filter(|s| *s < 1 << 40) {
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar archive with one member of each given kind, built field by field so that hostile names get in.
    fn tar_of(members: &[(&str, tar::EntryType, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, mode) in members {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            let content = if *kind == tar::EntryType::Regular { &b"evil"[..] } else { b"" };
            header.set_size(content.len() as u64);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend([0; 1024]);
        bytes
    }

    fn try_unpack(archive: &[u8]) -> (Result<Unpacked, Error>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), archive).unwrap();
        let result = unpack(&dir.path().join("a"), &dir.path().join("in/target"), None, &Stop::new());
        (result, dir)
    }

    #[test]
    fn hostile_members_are_refused_by_name() {
        use tar::EntryType as T;
        let evil = [
            ("/tmp/absolute", T::Regular, 0o644),
            ("../escape", T::Regular, 0o644),
            ("db/../../escape", T::Regular, 0o644),
            ("link", T::Symlink, 0o777),
            ("hard", T::Link, 0o644),
            ("device", T::Char, 0o644),
            ("disk", T::Block, 0o644),
            ("pipe", T::Fifo, 0o644),
            ("suid", T::Regular, 0o4755),
        ];
        for member in evil {
            let (result, dir) = try_unpack(&tar_of(&[member]));
            let Err(Error::UnsafeMember { name, .. }) = result else { panic!("{member:?}: {result:?}") };
            assert_eq!(name, member.0);
            assert!(!dir.path().join("in/escape").exists() && !dir.path().join("escape").exists());
        }
    }

    #[test]
    fn xbstream_names_that_leave_the_target_are_refused() {
        for name in ["/tmp/absolute", "../escape", "db/../../escape"] {
            let mut archive = b"XBSTCK01\0P".to_vec();
            archive.extend((name.len() as u32).to_le_bytes());
            archive.extend(name.as_bytes());
            archive.extend([0; 20]);
            let (result, dir) = try_unpack(&archive);
            assert!(result.is_err(), "{name}");
            assert!(!dir.path().join("in/escape").exists());
        }
    }

    #[test]
    fn every_cut_of_an_archive_with_one_file_is_an_error_or_has_no_file() {
        let archive = tar_of(&[("db/t.frm", tar::EntryType::Regular, 0o640)]);
        // From the end of the file's bytes on, a cut tar archive is a tar archive; the manifest tells it from a whole.
        for cut in 0..516 {
            let (result, dir) = try_unpack(&archive[..cut]);
            assert!(result.is_err(), "cut at {cut}: {result:?}");
            assert!(!dir.path().join("in/target/db/t.frm").exists() || cut >= 512);
        }
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        for bytes in [&b""[..], b"x", &[0; 4096], &[0xff; 4096]] {
            let (result, _dir) = try_unpack(bytes);
            assert!(matches!(result, Err(Error::Archive { .. })), "{result:?}");
        }
    }

    #[test]
    fn an_archive_that_was_cut_between_two_members_is_said_to_be_no_whole_one() {
        let members = ["db/t.frm", manifest::NAME].map(|name| (name, tar::EntryType::Regular, 0o640));
        let archive = tar_of(&members);
        // Each member has a header and a block; two blocks of zeros are the end.
        for (len, ended, has_manifest) in [(1024, false, false), (2048, false, true), (3072, true, true)] {
            let unpacked = try_unpack(&archive[..len]).0.unwrap();
            assert_eq!((unpacked.ended, unpacked.manifest), (ended, has_manifest), "{len}");
            assert_eq!(unpacked.is_whole(), len == archive.len());
        }
        assert!(!try_unpack(&tar_of(&members[..1])).0.unwrap().is_whole());
    }

    #[test]
    fn archives_in_a_row_are_read_to_the_end() {
        let mut archive = tar_of(&[("one", tar::EntryType::Regular, 0o640)]);
        archive.extend(tar_of(&[("two", tar::EntryType::Regular, 0o600)]));
        let (result, dir) = try_unpack(&archive);
        assert_eq!(result.unwrap(), Unpacked { files: 2, bytes: 8, ended: true, manifest: false });
        let mode = std::fs::metadata(dir.path().join("in/target/two")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
