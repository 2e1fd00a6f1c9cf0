//! The server's own files, put aside at one moment under a lock and sent after it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Run, ServerPart, entry};
use crate::names::Kind;
use crate::server_files::{self, Aside, At, Kept};
use crate::sink::Member;
use crate::{Error, Event};

impl Run<'_, '_> {
    /// Sends the server's files.
    pub(super) fn server_part(&mut self, kept: Option<Aside>) -> Result<ServerPart, Error> {
        let listing = match &kept {
            Some(kept) => &kept.listing,
            None => &self.source.scope().list()?,
        };
        for path in &listing.skipped {
            (self.source.tell)(&Event::Skipped { path: path.clone() });
        }
        for directory in &listing.directories {
            self.sink.directory(directory)?;
        }
        let directories = listing.directories.iter().map(|directory| directory.path.clone()).collect();
        let mut part = ServerPart { directories, files: Vec::new() };
        let mut index = listing.index();
        match &kept {
            Some(aside) => {
                aside.kept.iter().for_each(|kept| index.keep(&kept.member));
                self.send_aside(aside, &mut part)?;
            }
            None => {
                let mut directory = None;
                for found in &listing.files {
                    let Some((member, file)) = server_files::open(found)? else { continue };
                    self.tell_directory(&member, &mut directory);
                    let mut content = self.reading.file(&found.source, file, member.size);
                    self.sink.file(&member, &mut content)?;
                    part.files.push(entry(&member, content.sum()?, Kind::Server));
                    index.keep(&member);
                }
            }
        }
        if let Some((member, bytes)) = index.finish() {
            let mut content = self.reading.bytes(&member.path, &bytes);
            self.sink.file(&member, &mut content)?;
            part.files.push(entry(&member, content.sum()?, Kind::Server));
        }
        Ok(part)
    }

    fn send_aside(&mut self, aside: &Aside, part: &mut ServerPart) -> Result<(), Error> {
        let (mut window, mut directory) = (aside.window(), None);
        for Kept { member, at } in &aside.kept {
            self.tell_directory(member, &mut directory);
            let sum = match at {
                At::Spool(at) => {
                    let bytes = window.bytes(*at, member.size).map_err(Error::io("read", &member.path))?;
                    let mut content = self.reading.bytes(&member.path, bytes);
                    self.sink.file(member, &mut content)?;
                    content.sum()?
                }
                At::File(path) => {
                    let file = File::open(path).map_err(Error::io("open", path))?;
                    let mut content = self.reading.unchanging(path, file, member.size);
                    self.sink.file(member, &mut content)?;
                    let sum = content.sum()?;
                    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
                    sum
                }
                At::Link { path, at, head } => {
                    let file = File::open(path).map_err(Error::io("open", path))?;
                    let head = window.bytes(*at, *head).map_err(Error::io("read", &member.path))?;
                    let mut content = self.reading.headed(path, head, file, member.size)?;
                    self.sink.file(member, &mut content)?;
                    let sum = content.sum()?;
                    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
                    sum
                }
                At::Open { file, at, head } => {
                    let path = &member.path;
                    let file = file.try_clone().map_err(Error::io("read", path))?;
                    let head = window.bytes(*at, *head).map_err(Error::io("read", path))?;
                    let mut content = self.reading.headed(path, head, file, member.size)?;
                    self.sink.file(member, &mut content)?;
                    content.sum()?
                }
            };
            part.files.push(entry(member, sum, Kind::Server));
        }
        Ok(())
    }

    /// Tells that the files of another directory follow.
    fn tell_directory(&mut self, member: &Member, last: &mut Option<PathBuf>) {
        let parent = member.path.parent().unwrap_or(Path::new(""));
        if last.as_deref() != Some(parent) {
            (self.source.tell)(&Event::Directory { path: parent.to_owned() });
            *last = Some(parent.to_owned());
        }
    }
}
