//! The database server's own files: a gzipped tar of one folder.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::archive::{Archive, Entry, Kind};
use crate::error::{Error, Refusal};
use crate::member::Member;
use crate::report::Tally;
use crate::tree::{Tree, copy};

/// What came out of the tarball.
pub(crate) struct Base {
    /// Its one folder.
    pub(crate) folder: String,
    pub(crate) tally: Tally,
    /// Members with setuid, setgid or sticky bits.
    pub(crate) special: Vec<String>,
}

/// Unpacks the gzipped tar `input` below `directory`.
pub(crate) fn unpack(input: impl Read, directory: &Path) -> Result<Base, Error> {
    let mut archive = Archive::new(MultiGzDecoder::new(input));
    let mut tree = Tree::open(directory)?;
    let mut top = BTreeSet::new();
    let mut special = Vec::new();
    let result = members(&mut archive, &mut tree, &mut top, &mut special);
    // What stopped the contents is told by the archive, not by the copy of it.
    match archive.failure().map_or(result, Err) {
        Err(Error::Read(source)) => return Err(Error::Gzip(source)),
        other => other?,
    }
    let mut found: Vec<String> =
        top.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
    match found.pop() {
        Some(folder) if found.is_empty() && directory.join(&folder).is_dir() => {
            Ok(Base { folder, tally: tree.tally, special })
        }
        last => {
            found.extend(last);
            Err(Error::BaseFolders { found })
        }
    }
}

fn members<R: Read>(
    archive: &mut Archive<R>,
    tree: &mut Tree,
    top: &mut BTreeSet<Vec<u8>>,
    special: &mut Vec<String>,
) -> Result<(), Error> {
    while let Some(Entry { path, kind, mode, modified }) = archive.next_entry()? {
        let member = Member::parse(&path).map_err(|why| Error::refused(&path, why))?;
        let Some(first) = member.components().next() else { continue };
        top.insert(first.to_vec());
        if top.len() > 1 {
            return Ok(());
        }
        note_special(&member, mode, special);
        match kind {
            Kind::Directory => tree.directory(&member, mode)?,
            Kind::Symlink(target) => tree.symlink(&member, &target)?,
            Kind::HardLink(target) => {
                let target =
                    Member::parse(&target).map_err(|_| Error::refused(&path, Refusal::LinkLeaves))?;
                tree.hard_link(&member, &target)?;
            }
            Kind::File => {
                tree.file(&member, (mode, modified), |file, piece| copy(&mut archive.body(), file, piece))?;
            }
        }
    }
    Ok(())
}

/// Remembers members whose mode has bits that are not restored.
pub(crate) fn note_special(member: &Member, mode: u32, special: &mut Vec<String>) {
    const SPECIAL: u32 = 0o7000;
    const MOST: usize = 100;
    if mode & SPECIAL != 0 && special.len() < MOST {
        special.push(String::from_utf8_lossy(member.as_bytes()).into_owned());
    }
}
