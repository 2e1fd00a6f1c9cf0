//! What the fuzz targets do with their input. An ordinary test replays the kept inputs through the same functions.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use backup_unpack::{Error, Format, Layout, Progress, Report, Source, unpack};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use secrecy::SecretString;
use tempfile::TempDir;

use super::{NAME, PASSWORD, archive, encrypt, gzip, member, quick, set_name};

/// The server whose stream is asked for.
const SERVER: &str = "one";

/// Destinations, and a file beside them.
struct Room {
    dir: TempDir,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("beside"), "untouched").expect("a file");
        Self { dir }
    }

    /// Nothing outside the destinations; an error leaves nothing at all.
    fn unpack(&self, source: Source<'_>, layout: Layout) -> Result<Report, Error> {
        let mut options = quick();
        options.threads = 1;
        let result = unpack(source, &layout, &options, &Progress::default());
        assert_eq!(fs::read(self.dir.path().join("beside")).expect("the file"), b"untouched");
        for path in files(self.dir.path()).into_keys() {
            let below = path.strip_prefix(self.dir.path()).expect("below the directory");
            let destination = ["work", "data", "base"].iter().any(|top| below.starts_with(top));
            let given = below == Path::new("beside") || below.starts_with("store");
            assert!(given || destination, "{below:?} is outside");
            let left = destination && below.components().count() > 1;
            assert!(result.is_ok() || !left, "{below:?} is left by {result:?}");
        }
        result
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("work"), NAME)
    }

    fn with_server(&self) -> Layout {
        self.layout().server(SERVER, self.dir.path().join("data/one"))
    }
}

/// Everything below `root`, whatever bytes its name has; contents of regular files.
fn files(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                todo.push(entry.path());
            }
            let contents = kind.is_file().then(|| fs::read(entry.path()).expect("a file"));
            found.insert(entry.path(), contents);
        }
    }
    found
}

/// The first byte says whether a server's stream is asked for, and whether the checksums of headers are put right.
fn plain_tar(data: &[u8]) -> Option<(bool, Vec<u8>)> {
    let (first, tar) = data.split_first()?;
    let mut tar = tar.to_vec();
    if first & 2 != 0 {
        put_checksums_right(&mut tar);
    }
    Some((first & 1 != 0, tar))
}

/// Where a reader of `tar` would look for a header, it finds one with a right checksum.
fn put_checksums_right(tar: &mut Vec<u8>) {
    tar.resize(tar.len().next_multiple_of(512), 0);
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = header.entry_size().unwrap_or(0).min(1 << 30);
        at += 512 + size.next_multiple_of(512) as usize;
    }
    tar.extend([0; 1024]);
}

fn unpack_tar(room: &Room, server: bool, input: &[u8], format: Format) -> Result<Report, Error> {
    let password = Some(SecretString::from(PASSWORD));
    let layout = if server { room.with_server() } else { room.layout() };
    room.unpack(Source::from_reader(input, format, password)?, layout)
}

pub(crate) fn tar(data: &[u8]) {
    if let Some((server, tar)) = plain_tar(data) {
        let _ = unpack_tar(&Room::new(), server, &tar, Format::Tar);
    }
}

/// The tar in an AES Crypt stream ends as the tar does; so does the input itself as such a stream, in any way.
pub(crate) fn encrypted(data: &[u8]) {
    let Some((server, tar)) = plain_tar(data) else { return };
    // Version 3 would take the time that its iterations are there to take.
    if !tar.starts_with(b"AES\x03") {
        let _ = unpack_tar(&Room::new(), server, &tar, Format::EncryptedTar);
    }
    let plain = unpack_tar(&Room::new(), server, &tar, Format::Tar);
    let sealed = unpack_tar(&Room::new(), server, &encrypt(&tar), Format::EncryptedTar);
    assert_eq!(plain.is_ok(), sealed.is_ok(), "{plain:?} {sealed:?}");
}

/// As the tarball of a base directory: gzipped here, or in the input already.
pub(crate) fn base(data: &[u8]) {
    let Some((gzipped, tar)) = plain_tar(data) else { return };
    let tarball = if gzipped { tar } else { gzip(&tar) };
    let outer = archive(&[member(|h| set_name(h, b"datanode_base/x.tar.gz"), &tarball)]);
    let room = Room::new();
    let layout = room.layout().base(room.dir.path().join("base"));
    let _ = room.unpack(Source::Tar(Box::new(&outer[..])), layout);
}

/// As a folder. Each entry is its kind, the length of its name, its name, the length of its contents, and these.
pub(crate) fn folder(data: &[u8]) {
    let room = Room::new();
    let store = room.dir.path().join("store").join(NAME);
    fs::create_dir_all(&store).expect("a directory");
    let mut rest = data;
    while let Some((kind, name, contents, after)) = entry(rest) {
        make(&store, kind, name, contents);
        rest = after;
    }
    let before = files(&store);
    let layout = if data.len().is_multiple_of(2) { room.with_server() } else { room.layout() };
    let result = room.unpack(Source::Folder(store.clone()), layout);
    assert!(files(&store) == before, "{result:?}");
}

fn entry(data: &[u8]) -> Option<(u8, &str, &[u8], &[u8])> {
    let ([kind, length], rest) = data.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk()?;
    let (contents, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((*kind, std::str::from_utf8(name).ok()?, contents, rest))
}

/// Makes an entry of the folder, if a folder can have it.
fn make(store: &Path, kind: u8, name: &str, contents: &[u8]) {
    let name = Path::new(name);
    if name.as_os_str().is_empty() || !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return;
    }
    let path = store.join(name);
    let parent = path.parent().unwrap_or(store);
    let _ = fs::create_dir_all(parent);
    // A link made before would lead the next entry out of the folder, which is not what is tried here.
    if !parent
        .canonicalize()
        .is_ok_and(|parent| parent.starts_with(store.canonicalize().expect("the folder")))
    {
        return;
    }
    let _ = match kind % 8 {
        0 => fs::create_dir(&path),
        1 => symlink(String::from_utf8_lossy(contents).as_ref(), &path),
        2 => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).map_err(Into::into),
        _ if path.symlink_metadata().is_ok_and(|found| !found.is_file()) => Ok(()),
        _ => fs::write(&path, contents),
    };
}
