//! The backup as one tar archive.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use tar::{EntryType, Header};

use super::{Member, Output, Sink};
use crate::Error;
use crate::accounts::Accounts;
use crate::content::Content;

/// Bytes of a block.
const BLOCK: u64 = 512;

/// Longest name that fits a header, in bytes.
const NAME: usize = 100;

/// Writes one GNU tar archive: it opens with `tar -x` and with `tar -xi`.
#[derive(Debug)]
pub struct TarSink {
    out: Output,
    accounts: Accounts,
}

impl TarSink {
    /// An archive into `out`.
    pub fn new(out: Output) -> Self {
        Self { out, accounts: Accounts::default() }
    }

    fn header(&mut self, member: &Member, kind: EntryType) -> Result<(), Error> {
        let mut name = member.path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        if name.len() > NAME {
            let mut long = Header::new_gnu();
            long.set_entry_type(EntryType::GNULongName);
            long.as_gnu_mut().expect("made as GNU").name[..13].copy_from_slice(b"././@LongLink");
            long.set_size(name.len() as u64 + 1);
            long.set_mode(0o644);
            long.set_uid(0);
            long.set_gid(0);
            long.set_mtime(0);
            long.set_cksum();
            self.write(long.as_bytes())?;
            self.write(&name)?;
            self.write(&[0])?;
            self.pad(name.len() as u64 + 1)?;
            name.truncate(NAME);
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(member.size);
        header.set_mode(member.mode);
        header.set_uid(member.uid.into());
        header.set_gid(member.gid.into());
        let modified = member.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        header.set_mtime(modified.as_secs());
        let gnu = header.as_gnu_mut().expect("made as GNU");
        gnu.name[..name.len()].copy_from_slice(&name);
        let (user, group) = (self.accounts.user(member.uid), self.accounts.group(member.gid));
        // Names of 32 bytes and more do not fit; the numbers are there.
        if let Some(user) = user.filter(|n| n.len() < gnu.uname.len()) {
            gnu.uname[..user.len()].copy_from_slice(user.as_bytes());
        }
        if let Some(group) = group.filter(|n| n.len() < gnu.gname.len()) {
            gnu.gname[..group.len()].copy_from_slice(group.as_bytes());
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Fills the last block of `len` bytes.
    fn pad(&mut self, len: u64) -> Result<(), Error> {
        let rest = (BLOCK - len % BLOCK) % BLOCK;
        self.write(&[0; BLOCK as usize][..rest as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.out.written();
        self.out.write_all(bytes).map_err(|e| Error::output(written, e))
    }
}

impl Sink for TarSink {
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
        self.header(member, EntryType::Regular)?;
        self.out.take(content)?;
        self.pad(member.size)
    }

    fn directory(&mut self, member: &Member) -> Result<(), Error> {
        self.header(member, EntryType::Directory)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.write(&[0; 2 * BLOCK as usize])?;
        // The size of a record, as tapes had it: some readers want whole ones.
        let rest = (10240 - self.out.written() % 10240) % 10240;
        for _ in 0..rest / BLOCK {
            self.write(&[0; BLOCK as usize])?;
        }
        self.out.finish()
    }
}
