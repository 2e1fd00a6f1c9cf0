//! One backup, from its source to its destinations.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use aescrypt::Decryptor;
use xbstream::{Dialect, ReadAt, Reader};

use crate::archive::{Archive, Entry, Kind, Modified};
use crate::base::{self, note_special};
use crate::error::{Error, Refusal};
use crate::folder;
use crate::layout::{Layout, Options};
use crate::member::Member;
use crate::partial::Partial;
use crate::progress::Progress;
use crate::report::{BaseFiles, ProcessIo, Report, ServerFiles};
use crate::source::Source;
use crate::stream;
use crate::tree::{Tree, copy};

/// Name of a server's stream file. The spelling is what the backup tool writes; do not correct it.
pub const STREAM: &str = "backup.xbsteam";
/// The folder of the database server's own files.
pub const BASE: &str = "datanode_base";
const BASE_SUFFIX: &[u8] = b".tar.gz";

/// Unpacks one backup. On success everything is complete, on the disk and under its name; after an error nothing
/// is left.
///
/// # Errors
///
/// See [`Error`]. [`Error::class`] tells a damaged backup from a failing machine.
pub fn unpack(
    source: Source<'_>,
    layout: &Layout,
    options: &Options,
    progress: &Progress,
) -> Result<Report, Error> {
    let kind = source.name();
    measured(kind, progress, || run(source, layout, options, progress))
}

/// Adds to the report of `work` what only shows around it.
pub(crate) fn measured(
    source: &'static str,
    progress: &Progress,
    work: impl FnOnce() -> Result<Report, Error>,
) -> Result<Report, Error> {
    let begun = Instant::now();
    let io = ProcessIo::now();
    let mut report = work().map_err(|error| if progress.is_stopped() { Error::Stopped } else { error })?;
    report.source = source;
    report.bytes_read = progress.bytes_read();
    report.seconds = begun.elapsed().as_secs_f64();
    report.process_io = ProcessIo::now().zip(io).map(|(now, before)| now.since(before));
    Ok(report)
}

fn run(source: Source<'_>, layout: &Layout, options: &Options, progress: &Progress) -> Result<Report, Error> {
    layout.check()?;
    if let Source::Folder(folder) = &source {
        layout.check_outside(folder)?;
    }
    // On the stack in this order: whatever fails below, they are removed.
    let mut servers = BTreeMap::new();
    for (folder, directory) in &layout.servers {
        servers.insert(folder.clone(), Partial::create(directory, progress)?);
    }
    let base = layout.base.as_deref().map(|base| Partial::create(base, progress)).transpose()?;
    let rest = Partial::create(&layout.rest(), progress)?;

    let job = Job { options, progress, only: layout.only, servers, base, rest };
    let mut done = Done { tree: Tree::open(job.rest.path())?, result: Results::default() };
    match source {
        Source::Folder(path) => job.folder(&path, &mut done)?,
        Source::Tar(input) => {
            job.archive(&mut Archive::new(progress.watch(input)), &layout.backup, &mut done)?;
        }
        Source::EncryptedTar(input, password) => {
            let input = Decryptor::new(progress.watch(input), &password).map_err(Error::Decrypt)?;
            let mut archive = Archive::new(input);
            job.archive(&mut archive, &layout.backup, &mut done).map_err(decryption)?;
            // An archive ends at the end of its input, so the HMAC has been compared. All rests on it.
            if !archive.into_inner().is_verified() {
                return Err(Error::Decrypt(aescrypt::Error::Tampered));
            }
        }
    }
    job.finish(&layout.backup, done)
}

/// An encrypted archive's own failures: what its reader gave up with is a failure of decryption.
fn decryption(error: Error) -> Error {
    match error {
        Error::Read(source) => match aescrypt::Error::from(source) {
            aescrypt::Error::Read(source) => Error::Read(source),
            own => Error::Decrypt(own),
        },
        other => other,
    }
}

struct Job<'a> {
    options: &'a Options,
    progress: &'a Progress,
    only: Option<fn(&Path) -> bool>,
    servers: BTreeMap<String, Partial>,
    base: Option<Partial>,
    rest: Partial,
}

struct Done {
    tree: Tree,
    result: Results,
}

#[derive(Default)]
struct Results {
    servers: BTreeMap<String, ServerFiles>,
    skipped: Vec<String>,
    base: Option<BaseFiles>,
    special: Vec<String>,
}

/// What a member is, by its name.
enum Route {
    /// The stream of the server with this folder.
    Stream(String),
    Base,
    Plain,
}

impl Route {
    fn of(member: &Member) -> Self {
        let mut components = member.components();
        match (components.next(), components.next(), components.next()) {
            (Some(server), Some(name), None) if name == STREAM.as_bytes() => {
                match std::str::from_utf8(server) {
                    Ok(server) => Self::Stream(server.to_owned()),
                    // No layout can name it.
                    Err(_) => Self::Stream(String::from_utf8_lossy(server).into_owned()),
                }
            }
            (Some(folder), Some(name), None) if folder == BASE.as_bytes() && name.ends_with(BASE_SUFFIX) => {
                Self::Base
            }
            _ => Self::Plain,
        }
    }
}

impl Job<'_> {
    /// Whether a member is none of those that are wanted.
    fn passes_over(&self, member: &Member) -> bool {
        self.only.is_some_and(|wanted| !wanted(Path::new(OsStr::from_bytes(member.as_bytes()))))
    }

    fn archive<R: Read>(&self, archive: &mut Archive<R>, backup: &str, done: &mut Done) -> Result<(), Error> {
        while let Some(Entry { path, kind, mode, modified }) = archive.next_entry()? {
            let parse = |raw: &[u8]| Member::parse(raw).map(|member| member.without(backup.as_bytes()));
            let member = parse(&path).map_err(|why| Error::refused(&path, why))?;
            self.progress.begin(member.as_bytes());
            if self.passes_over(&member) {
                continue;
            }
            let route = Route::of(&member);
            if kind != Kind::Directory && kind != Kind::File && !matches!(route, Route::Plain) {
                return Err(Error::refused(&path, Refusal::Link));
            }
            let result = match kind {
                Kind::Directory => done.tree.directory(&member, mode),
                Kind::Symlink(target) => done.tree.symlink(&member, &target),
                Kind::HardLink(target) => {
                    let target = parse(&target).map_err(|_| Error::refused(&path, Refusal::LinkLeaves))?;
                    done.tree.hard_link(&member, &target)
                }
                Kind::File => self.file(&member, (mode, modified), route, archive.body(), done),
            };
            // What stopped the contents is told by the archive, not by those who read them.
            archive.failure().map_or(result, Err)?;
        }
        Ok(())
    }

    fn file(
        &self,
        member: &Member,
        (mode, modified): (u32, Option<Modified>),
        route: Route,
        mut input: impl Read,
        done: &mut Done,
    ) -> Result<(), Error> {
        match route {
            Route::Stream(server) => match self.servers.get(&server) {
                Some(_) if done.result.servers.contains_key(&server) => {
                    Err(Error::refused(member.as_bytes(), Refusal::Twice))
                }
                Some(partial) => {
                    let files = stream::extract(self.options, &server, partial, |options| {
                        xbstream::extract(Reader::new(input), partial.path(), options)
                    })?;
                    done.result.servers.insert(server, files);
                    Ok(())
                }
                None => {
                    done.result.skipped.push(server);
                    Ok(())
                }
            },
            Route::Base => match &self.base {
                Some(_) if done.result.base.is_some() => {
                    Err(Error::refused(member.as_bytes(), Refusal::Twice))
                }
                Some(partial) => {
                    let base = base::unpack(input, partial.path()).map_err(|source| Error::Base {
                        member: crate::member::display(member.as_bytes()),
                        source: Box::new(source),
                    })?;
                    done.result.base = Some(BaseFiles {
                        directory: partial.destination().join(base.folder),
                        files: base.tally.files,
                        bytes: base.tally.bytes,
                    });
                    done.result.special.extend(base.special);
                    Ok(())
                }
                None => Ok(()),
            },
            Route::Plain => {
                note_special(member, mode, &mut done.result.special);
                done.tree
                    .file(member, (mode, modified), |file, piece| copy(&mut input, file, piece))
                    .map(drop)
            }
        }
    }

    fn folder(&self, folder: &Path, done: &mut Done) -> Result<(), Error> {
        let mut streams = Vec::new();
        folder::walk(folder, &mut |found| {
            self.progress.begin(found.member.as_bytes());
            if self.passes_over(&found.member) {
                return Ok(());
            }
            let Some(path) = found.file else { return done.tree.directory(&found.member, found.mode) };
            match Route::of(&found.member) {
                Route::Stream(server) if self.servers.contains_key(&server) => {
                    streams.push((server, found.member, path));
                    Ok(())
                }
                route => {
                    let input = self.progress.watch(folder::open(&path)?);
                    self.file(&found.member, (found.mode, found.modified), route, input, done)
                }
            }
        })?;
        done.result.servers = self.streams(&streams)?;
        Ok(())
    }

    /// Streams that can be read side by side.
    fn streams(&self, streams: &[(String, Member, PathBuf)]) -> Result<BTreeMap<String, ServerFiles>, Error> {
        let next = AtomicUsize::new(0);
        let failed = std::sync::atomic::AtomicBool::new(false);
        let work = || {
            let mut files = Vec::new();
            while !failed.load(Ordering::SeqCst)
                && let Some((server, member, path)) = streams.get(next.fetch_add(1, Ordering::SeqCst))
            {
                self.progress.begin(member.as_bytes());
                let result = folder::open(path).and_then(|file| {
                    let input = Until { input: self.progress.watch_at(file), failed: &failed };
                    let partial = &self.servers[server];
                    let files = stream::extract(self.options, server, partial, |options| {
                        xbstream::extract_at(&input, Dialect::Auto, partial.path(), options)
                    })?;
                    input.input.settle(files.stream_bytes);
                    Ok(files)
                });
                match result {
                    Ok(done) => files.push((server.clone(), done)),
                    Err(error) => {
                        // The first failure is the one to tell; those it caused are not.
                        return if failed.swap(true, Ordering::SeqCst) { Ok(files) } else { Err(error) };
                    }
                }
            }
            Ok(files)
        };
        let threads = self.options.parallel.clamp(1, streams.len().max(1));
        let results: Vec<_> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut results = vec![work()];
            results.extend(others.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            results
        });
        let mut servers = BTreeMap::new();
        for result in results {
            servers.extend(result?);
        }
        Ok(servers)
    }

    /// Everything was read: checks that all is there, and gives it its names.
    fn finish(self, backup: &str, done: Done) -> Result<Report, Error> {
        let Done { tree, result } = done;
        let missing: Vec<String> =
            self.servers.keys().filter(|server| !result.servers.contains_key(*server)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::NoStream { servers: missing });
        }
        if self.base.is_some() && result.base.is_none() {
            return Err(Error::NoBase);
        }
        // The rest comes last: where it is, everything is.
        let mut all: Vec<Partial> = self.servers.into_values().chain(self.base).collect();
        all.push(self.rest);
        if self.options.sync {
            for partial in &all {
                partial.sync()?;
            }
        }
        for partial in &mut all {
            partial.publish()?;
        }
        all.into_iter().for_each(Partial::keep);
        let streams: u64 = result.servers.values().map(|server| server.bytes).sum();
        Ok(Report {
            backup: backup.to_owned(),
            source: "",
            bytes_read: 0,
            bytes_written: streams + result.base.as_ref().map_or(0, |base| base.bytes) + tree.tally.bytes,
            servers: result.servers,
            servers_skipped: result.skipped,
            base: result.base,
            small_files: tree.tally,
            mode_bits_dropped: result.special,
            seconds: 0.0,
            process_io: None,
        })
    }
}

/// An input that ends in an error once another one failed.
struct Until<'a, S> {
    input: S,
    failed: &'a std::sync::atomic::AtomicBool,
}

impl<S: ReadAt> ReadAt for Until<'_, S> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("another server failed"));
        }
        self.input.read_at(buffer, position)
    }
}
