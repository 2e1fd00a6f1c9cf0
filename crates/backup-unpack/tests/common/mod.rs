//! A backup as the backup tool writes it, in the forms in which it may come.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod fuzz;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use aescrypt::Encryptor;
use backup_unpack::{Layout, Options};
use flate2::Compression;
use flate2::write::GzEncoder;
use secrecy::SecretString;
use tempfile::TempDir;

pub(crate) const NAME: &str = "UTC20261120010203.004-full";
pub(crate) const ONE: &str = "ds_a-auth_server-192.168.122.110-13004";
pub(crate) const TWO: &str = "ds_a-auth_slave-192.168.122.111-13004";
pub(crate) const PASSWORD: &str = "Pässwörd";

/// A store with one backup, and room to unpack it.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
}

pub(crate) fn checkpoints() -> &'static [u8] {
    b"backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 4869506\nlast_lsn = 4869522\n"
}

/// The members of a server's stream: as they are sent, and as they must end up.
pub(crate) fn stream_members(seed: u8) -> Vec<(&'static str, Vec<u8>, &'static str, Vec<u8>)> {
    let page: Vec<u8> = (0..50_000_u32).map(|i| (i / 7) as u8 ^ seed).collect();
    let packed = zstd::encode_all(&page[..], 1).unwrap();
    vec![
        ("ibdata1", page.clone(), "ibdata1", page.clone()),
        ("app/t.ibd.zst", packed, "app/t.ibd", page),
        ("app/empty.frm", Vec::new(), "app/empty.frm", Vec::new()),
        ("xtrabackup_checkpoints", checkpoints().to_vec(), "xtrabackup_checkpoints", checkpoints().to_vec()),
    ]
}

pub(crate) fn stream(seed: u8) -> Vec<u8> {
    let writer = xbstream::Writer::new(Vec::new());
    for (name, sent, _, _) in stream_members(seed) {
        writer.append(name, &sent[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs GNU tar and gives its output.
pub(crate) fn tar(directory: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(directory).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) fn encrypt(bytes: &[u8]) -> Vec<u8> {
    let mut writer = Encryptor::new(Vec::new(), &SecretString::from(PASSWORD)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        let backup = lab.backup();
        for directory in [ONE, TWO, "datanode_base", "calcnode_base"] {
            fs::create_dir_all(backup.join(directory)).unwrap();
        }
        let write = |name: &str, bytes: &[u8]| fs::write(backup.join(name), bytes).unwrap();
        write("ok", b"ok\n");
        write("consistent_point_datetime", b"2026-11-20 02:03:04\n");
        write("calcnode_base/dbscale.conf", b"[main]\n");
        write("calcnode_base/dbscale.tar.gz", b"not looked into");
        write(&format!("{ONE}/backup.xbsteam"), &stream(1));
        write(&format!("{ONE}/greatdb-bin.000041"), &[0xfe; 9000]);
        write(&format!("{ONE}/my.conf"), b"[mysqld]\n");
        write(&format!("{TWO}/backup.xbsteam"), &stream(2));
        write(&format!("{TWO}/master_dir"), ONE.as_bytes());
        let base = lab.dir.path().join("mysql-8.0.26");
        fs::create_dir_all(base.join("bin")).unwrap();
        fs::create_dir_all(base.join("share")).unwrap();
        fs::create_dir_all(base.join("lib")).unwrap();
        fs::write(base.join("bin/mysqld"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(base.join("bin/mysqld"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(base.join("bin/mysqld"), base.join("bin/mysqld-debug")).unwrap();
        fs::write(base.join("lib/libx.so.1.2"), "library").unwrap();
        std::os::unix::fs::symlink("libx.so.1.2", base.join("lib/libx.so")).unwrap();
        std::os::unix::fs::symlink(".", base.join("share/mysql")).unwrap();
        let archive = tar(lab.dir.path(), &["-cf", "-", "mysql-8.0.26"]);
        fs::remove_dir_all(base).unwrap();
        write("datanode_base/mysql-8.0.26.tar.gz", &gzip(&archive));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn backup(&self) -> PathBuf {
        self.path("store").join(NAME)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Both servers and the base directory.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.work(), NAME)
            .server(ONE, self.path("data/one"))
            .server(TWO, self.path("data/two"))
            .base(self.path("base"))
    }

    /// As the store's own pipe makes it: every member below the backup's name.
    pub(crate) fn tar_with_name(&self) -> Vec<u8> {
        tar(&self.path("store"), &["-cf", "-", NAME])
    }

    /// As the encrypted tar is made: members without a prefix.
    pub(crate) fn tar_without_name(&self) -> Vec<u8> {
        let names: Vec<String> = names(&self.backup());
        let mut args = vec!["-cf", "-"];
        args.extend(names.iter().map(String::as_str));
        tar(&self.backup(), &args)
    }

    /// Nothing but the store and the work directory's empty parents.
    pub(crate) fn assert_nothing_left(&self, case: &str) {
        let left: Vec<_> = tree(self.dir.path())
            .into_keys()
            .filter(|name| !name.starts_with("store") && name != "work" && name != "data")
            .collect();
        assert!(left.is_empty(), "{case} left {left:?}");
    }

    /// Every file is where it belongs, with its contents.
    pub(crate) fn assert_unpacked(&self, case: &str) {
        for (directory, seed) in [("data/one", 1), ("data/two", 2)] {
            let mut expected = BTreeMap::new();
            for (_, _, name, plain) in stream_members(seed) {
                expected.insert(name.to_owned(), plain);
            }
            let found = files(&self.path(directory));
            assert!(found == expected, "{case}: {directory} has {:?}", found.keys());
        }
        let rest = files(&self.work().join(NAME));
        let mut expected = files(&self.backup());
        expected.retain(|name, _| !name.ends_with("backup.xbsteam") && !name.starts_with("datanode_base/"));
        assert!(rest == expected, "{case}: the rest is {:?}", rest.keys());
        let base = self.path("base/mysql-8.0.26");
        assert_eq!(fs::metadata(base.join("bin/mysqld")).unwrap().mode() & 0o7777, 0o755, "{case}");
        assert_eq!(fs::metadata(base.join("bin/mysqld")).unwrap().nlink(), 2, "{case}");
        assert_eq!(fs::read_link(base.join("lib/libx.so")).unwrap(), Path::new("libx.so.1.2"), "{case}");
        assert_eq!(fs::read_link(base.join("share/mysql")).unwrap(), Path::new("."), "{case}");
    }

    /// Ready for the next run.
    pub(crate) fn clear(&self) {
        for name in ["data", "work", "base"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
    }
}

/// Without the wait for the disk.
pub(crate) fn quick() -> Options {
    let mut options = Options::default();
    options.sync = false;
    options
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything below `root` by name; contents of regular files.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    fn add(root: &Path, below: &str, tree: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for name in names(&root.join(below)) {
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            let path = root.join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = metadata.is_file().then(|| fs::read(&path).unwrap());
            tree.insert(name.clone(), contents);
            if metadata.is_dir() {
                add(root, &name, tree);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(root, "", &mut all);
    all
}

pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    tree(root).into_iter().filter_map(|(name, contents)| Some((name, contents?))).collect()
}

/// A tar of members as a hostile writer would make it: `build` sets the header, the checksum is right.
pub(crate) fn member(build: impl FnOnce(&mut tar::Header), contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    build(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Sets a name that the `tar` crate would not.
pub(crate) fn set_name(header: &mut tar::Header, name: &[u8]) {
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
}

pub(crate) fn set_link(header: &mut tar::Header, kind: tar::EntryType, target: &[u8]) {
    header.set_entry_type(kind);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
}

pub(crate) fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Opens a file of this machine, for a test that needs a source of type `File`.
pub(crate) fn open(path: &Path) -> File {
    File::open(path).unwrap()
}
