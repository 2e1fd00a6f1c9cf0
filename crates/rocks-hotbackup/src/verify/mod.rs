//! Is a backup what it says it is?

mod findings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

pub use self::findings::{Problem, Verified};
use crate::archive::{self, Item, Visit};
use crate::checksum::{Hasher, Sum};
use crate::encoded::{decoded, plain};
use crate::manifest::{self, Entry, Manifest};
use crate::names::{self, Kind};
use crate::rocksdb::{Blocks, LiveFiles, check_sst};
use crate::sink::UNFINISHED;
use crate::{Checksum, Error, Stop};

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// Bytes of CURRENT that are read; it holds one name.
const CURRENT: usize = 4096;

/// Most MANIFESTs of RocksDB that are read.
const MANIFESTS: usize = 16;

/// How closely a backup is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Leave the checksums of the manifest aside: names and sizes only.
    pub quick: bool,
    /// Check the checksums that RocksDB keeps in every block of its data files; in directories only.
    pub blocks: bool,
}

/// Verifies the backup in a directory or an archive: all files against the manifest, the data files against RocksDB's
/// MANIFEST.
///
/// A backup without a manifest (another program made it, or it was cut off) is compared with RocksDB's MANIFEST only. The files that an
/// incremental backup has in its base are not looked at.
///
/// # Errors
///
/// The errors of reading; findings are no errors here.
pub fn verify(
    backup: &Path,
    password: Option<&SecretString>,
    depth: Depth,
    stop: &Stop,
) -> Result<Verified, Error> {
    let seen = match backup.is_dir() {
        true => {
            let manifest = backup.join(manifest::NAME);
            let manifest = if manifest.is_file() { Some(Manifest::read(&manifest)?) } else { None };
            let mut look = Look::new(depth).knowing(manifest.as_ref());
            look.directory(backup, Path::new(""), password, stop)?;
            look.manifest = manifest;
            look
        }
        false => {
            // The manifest comes last, and says then which checksums count.
            let mut look = Look::new(depth);
            // What can be read only once is summed in all ways: `sha256` costs time.
            let is_regular = backup != Path::new("-") && backup.is_file();
            look.blind = if is_regular { &[Checksum::Crc32] } else { &[Checksum::Crc32, Checksum::Sha256] };
            look.ended = archive::read(backup, password, stop, &mut look)?;
            let is_sha256 = |entry: &Entry| entry.from.is_none() && entry.sum.kind() == Checksum::Sha256;
            match &look.manifest {
                Some(manifest) if is_regular && manifest.files.iter().any(is_sha256) && !depth.quick => {
                    let mut again = Look::new(depth).knowing(Some(manifest));
                    again.ended = archive::read(backup, password, stop, &mut again)?;
                    again
                }
                _ => look,
            }
        }
    };
    let mut verified = seen.compare();
    if depth.blocks {
        match backup.is_dir() {
            true => blocks(backup, &mut verified, stop)?,
            false => verified.unchecked.push("the blocks of data files in an archive".into()),
        }
    }
    Ok(verified)
}

/// Verifies the files of a directory against a given manifest, those of the base included: a restored backup.
pub(crate) fn verify_whole(dir: &Path, manifest: Option<&Manifest>, stop: &Stop) -> Result<Verified, Error> {
    let mut look = Look::new(Depth::default()).knowing(manifest);
    look.whole = true;
    look.directory(dir, Path::new(""), None, stop)?;
    look.manifest = manifest.cloned();
    Ok(look.compare())
}

/// Checks the blocks of all data files.
fn blocks(dir: &Path, verified: &mut Verified, stop: &Stop) -> Result<(), Error> {
    let mut unknown: BTreeMap<&'static str, u64> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if [&b".sst.zst"[..], b".sst.aes", b".sst.zst.aes"].iter().any(|ending| name.ends_with(ending)) {
            *unknown.entry("they are compressed or encrypted").or_default() += 1;
            continue;
        }
        if !name.ends_with(b".sst") {
            continue;
        }
        match check_sst(&path, stop) {
            Ok(Blocks::Sound { blocks }) => verified.blocks += blocks,
            Ok(Blocks::Unknown { what }) => *unknown.entry(what).or_default() += 1,
            Err(e @ Error::Rocks { .. }) => {
                let name = path.file_name().unwrap_or_default();
                verified.add(Problem::Rocks { path: name.into(), text: e.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    verified
        .unchecked
        .extend(unknown.iter().map(|(what, n)| format!("the blocks of {n} data files: {what}")));
    Ok(())
}

/// A file that is being looked at.
struct Open {
    path: PathBuf,
    size: u64,
    hashers: Vec<Hasher>,
    /// Its bytes, of files that are needed later.
    kept: Option<Vec<u8>>,
}

/// What is in a backup.
struct Look {
    depth: Depth,
    /// The kind of the checksum that the manifest has of each file, if the manifest is known before the files.
    known: Option<HashMap<PathBuf, Checksum>>,
    /// What is computed of every file if it is not.
    blind: &'static [Checksum],
    files: BTreeMap<PathBuf, (u64, Vec<Sum>)>,
    manifest: Option<Manifest>,
    /// What CURRENT says.
    current: Option<Vec<u8>>,
    /// What the MANIFESTs of RocksDB say, or how they are damaged.
    live: BTreeMap<PathBuf, Result<LiveFiles, String>>,
    open: HashMap<u64, Open>,
    /// Bytes that the open files keep.
    kept: u64,
    /// The archive ends as one must.
    ended: bool,
    /// It is a restored backup: the files of the base must be there too, and nothing is encoded any more.
    whole: bool,
}

impl Look {
    fn new(depth: Depth) -> Self {
        Self {
            depth,
            known: None,
            blind: &[],
            files: BTreeMap::new(),
            manifest: None,
            current: None,
            live: BTreeMap::new(),
            open: HashMap::new(),
            kept: 0,
            ended: true,
            whole: false,
        }
    }

    /// The manifest is known before the files are. In a chain each file has the kind of checksum that its own backup
    /// computed.
    fn knowing(mut self, manifest: Option<&Manifest>) -> Self {
        let kinds = |m: &Manifest| m.files.iter().map(|f| (f.path.clone(), f.sum.kind())).collect();
        self.known = manifest.map(kinds);
        self
    }

    /// The checksums to compute of a file.
    fn hashers(&self, path: &Path) -> Vec<Hasher> {
        match &self.known {
            _ if self.depth.quick => Vec::new(),
            Some(known) => known.get(path).map(|kind| kind.hasher()).into_iter().collect(),
            None => self.blind.iter().map(|kind| kind.hasher()).collect(),
        }
    }

    /// If the file of a directory may be compressed or encrypted: a server's file may be named like that.
    fn may_be_encoded(&self, name: &Path) -> bool {
        !self.whole && self.known.as_ref().is_none_or(|known| !known.contains_key(name))
    }

    /// Reads the files of a directory as if they came from an archive.
    fn directory(
        &mut self,
        root: &Path,
        below: &Path,
        password: Option<&SecretString>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let dir = root.join(below);
        for entry in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            stop.check()?;
            let entry = entry.map_err(Error::io("list", &dir))?;
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            if kind.is_dir() {
                self.directory(root, &name, password, stop)?;
            } else if kind.is_file() {
                let (mut reader, name) = match self.may_be_encoded(&name) {
                    true => decoded(&path, &name, password)?,
                    false => (plain(&path)?, name),
                };
                let key = 0;
                self.begin(key, &Item { path: name, ..Item::default() })?;
                let mut buffer = vec![0; BUFFER];
                loop {
                    stop.check()?;
                    let n = reader.read(&mut buffer).map_err(Error::io("read", &path))?;
                    if n == 0 {
                        break;
                    }
                    self.bytes(key, &buffer[..n])?;
                }
                self.end(key)?;
            } else {
                self.files.insert(name, (0, Vec::new()));
            }
        }
        Ok(())
    }

    fn compare(self) -> Verified {
        let mut verified = Verified {
            files: self.files.len() as u64,
            bytes: self.files.values().map(|(size, _)| size).sum(),
            ..Verified::default()
        };
        let mut in_base = BTreeSet::new();
        match &self.manifest {
            None => {
                let text = "the content of the files, and if all are there: the backup has no manifest; another program \
                            made it, or it was cut off";
                verified.unchecked.push(text.into());
                if !self.ended {
                    verified.add(Problem::CutOff { reason: archive::NO_END });
                }
                if self.files.contains_key(Path::new(UNFINISHED)) {
                    verified.add(Problem::CutOff { reason: "it is marked as unfinished" });
                }
            }
            Some(manifest) => {
                verified.id = Some(manifest.id.clone());
                verified.base = manifest.base.clone();
                if self.depth.quick {
                    verified.unchecked.push("the content of the files: a quick look was asked for".into());
                }
                self.against_manifest(manifest, &mut verified, &mut in_base);
            }
        }
        self.against_rocksdb(&mut verified, &in_base);
        verified
    }

    fn against_manifest(
        &self,
        manifest: &Manifest,
        verified: &mut Verified,
        in_base: &mut BTreeSet<PathBuf>,
    ) {
        let known = manifest.by_path();
        let mut unsummed = 0;
        for entry in &manifest.files {
            if entry.from.is_some() && !self.whole {
                in_base.insert(entry.path.clone());
                continue;
            }
            let path = entry.path.clone();
            match self.files.get(&entry.path) {
                // A restored backup has no use for the files that early rounds sent in vain.
                None if entry.obsolete && self.whole => {}
                None => verified.add(Problem::Missing { path }),
                Some((size, _)) if *size != entry.size => {
                    verified.add(Problem::Size { path, expected: entry.size, actual: *size });
                }
                Some((_, sums)) => {
                    let text = |sum: &Sum| sum.as_str().unwrap_or_default().to_owned();
                    let kind = entry.sum.kind();
                    unsummed += u64::from(kind == Checksum::None);
                    if let Some(sum) = sums.iter().find(|sum| sum.kind() == kind && **sum != entry.sum) {
                        verified.add(Problem::Sum { path, expected: text(&entry.sum), actual: text(sum) });
                    }
                }
            }
        }
        if unsummed > 0 && !self.depth.quick {
            verified
                .unchecked
                .push(format!("the content of {unsummed} files that have no checksum in the manifest"));
        }
        verified.in_base = in_base.len() as u64;
        for path in self.files.keys() {
            if !known.contains_key(path.as_path()) && path != Path::new(manifest::NAME) {
                verified.add(Problem::Unknown { path: path.clone() });
            }
        }
    }

    /// All live data files must be there, with the sizes that RocksDB knows.
    fn against_rocksdb(&self, verified: &mut Verified, in_base: &BTreeSet<PathBuf>) {
        let current = Path::new("CURRENT");
        let Some(text) = &self.current else {
            verified.add(Problem::Missing { path: current.into() });
            return;
        };
        let name = PathBuf::from(String::from_utf8_lossy(text).trim());
        let live = match self.live.get(&name) {
            Some(Ok(live)) => live,
            Some(Err(text)) => {
                verified.add(Problem::Rocks { path: name, text: text.clone() });
                return;
            }
            None => {
                verified.add(Problem::Missing { path: name });
                return;
            }
        };
        for (name, size) in live.names() {
            verified.live_files += 1;
            let path = PathBuf::from(name);
            match self.files.get(&path) {
                None if in_base.contains(&path) => {}
                None => verified.add(Problem::Missing { path }),
                Some((actual, _)) => {
                    if let Some(expected) = size.filter(|expected| expected != actual) {
                        verified.add(Problem::Size { path, expected, actual: *actual });
                    }
                }
            }
        }
    }
}

impl Visit for Look {
    fn begin(&mut self, open: u64, item: &Item) -> Result<(), Error> {
        if item.directory {
            return Ok(());
        }
        let name = item.path.as_os_str().as_encoded_bytes();
        let is_live = names::kind(&item.path) == Kind::Meta && name.starts_with(b"MANIFEST-");
        let small = is_live || name == b"CURRENT" || item.path == Path::new(manifest::NAME);
        let kept = small.then(Vec::new);
        let hashers = self.hashers(&item.path);
        self.open.insert(open, Open { path: item.path.clone(), size: 0, hashers, kept });
        Ok(())
    }

    fn bytes(&mut self, open: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(Open { path, size, hashers, kept }) = self.open.get_mut(&open) else { return Ok(()) };
        *size += bytes.len() as u64;
        hashers.iter_mut().for_each(|hasher| hasher.update(bytes, None));
        if let Some(kept) = kept {
            let bytes = match path == Path::new("CURRENT") {
                true => &bytes[..bytes.len().min(CURRENT.saturating_sub(kept.len()))],
                false => bytes,
            };
            self.kept += bytes.len() as u64;
            manifest::check_length(self.kept, path)?;
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self, open: u64) -> Result<(), Error> {
        let Some(Open { path, size, hashers, kept }) = self.open.remove(&open) else { return Ok(()) };
        if let Some(kept) = kept {
            self.kept -= kept.len() as u64;
            if path == Path::new(manifest::NAME) {
                self.manifest = Some(Manifest::parse(&kept, &path)?);
            } else if path == Path::new("CURRENT") {
                self.current = Some(kept);
            } else {
                if self.live.len() >= MANIFESTS {
                    let reason = format!("there are {MANIFESTS} others, and a checkpoint has one");
                    return Err(Error::Rocks { path, offset: 0, reason });
                }
                let live = match LiveFiles::read(&kept[..], &path) {
                    Err(e @ Error::Rocks { .. }) => Err(e.to_string()),
                    read => Ok(read?),
                };
                self.live.insert(path.clone(), live);
            }
        }
        self.files.insert(path, (size, hashers.into_iter().map(Hasher::finish).collect()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_compressed_or_encrypted_are_said_to_be_unchecked() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000001.sst.zst", "000002.sst.aes", "000003.sst.zst.aes", "CURRENT.zst"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut verified = Verified::default();
        blocks(dir.path(), &mut verified, &Stop::new()).unwrap();
        assert_eq!(verified.unchecked, ["the blocks of 3 data files: they are compressed or encrypted"]);
    }

    #[test]
    fn a_directory_without_a_manifest_that_is_marked_as_unfinished_is_not_sound() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(UNFINISHED), "").unwrap();
        let verified = verify(dir.path(), None, Depth::default(), &Stop::new()).unwrap();
        assert!(matches!(verified.problems[0], Problem::CutOff { .. }), "{verified:?}");
        assert!(verified.unchecked[0].contains("no manifest"));
    }

    #[test]
    fn a_restored_file_is_never_decoded_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["notes.zst", "notes.aes"] {
            std::fs::write(dir.path().join(name), "neither").unwrap();
        }
        let verified = verify_whole(dir.path(), None, &Stop::new()).unwrap();
        assert_eq!((verified.files, verified.bytes), (2, 14));
    }

    #[test]
    fn what_is_kept_of_a_backup_is_bounded() {
        let mut look = Look::new(Depth::default());
        let item = |path: &str| Item { path: path.into(), ..Item::default() };
        look.begin(0, &item("CURRENT")).unwrap();
        for _ in 0..100 {
            look.bytes(0, &[b'M'; 1000]).unwrap();
        }
        look.end(0).unwrap();
        assert_eq!(look.current.as_ref().unwrap().len(), CURRENT);
        assert_eq!(look.files[Path::new("CURRENT")].0, 100_000);
        let mut manifest = |number: usize| {
            look.begin(0, &item(&format!("MANIFEST-{number:06}")))?;
            look.end(0)
        };
        for number in 0..MANIFESTS {
            manifest(number).unwrap();
        }
        assert!(matches!(manifest(MANIFESTS), Err(Error::Rocks { .. })));
        assert_eq!(look.kept, 0);
    }
}
