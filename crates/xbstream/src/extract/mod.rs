//! From a stream to files: one thread reads and checks, others decode and write. From an archive that can be read at
//! several places: one thread reads what is between the payloads, others do all else.

mod feeder;
mod file;
mod member;
mod pool;
mod target;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use self::feeder::Feeder;
use self::file::{Context, Done, Limits};
use self::pool::Pool;
use self::target::Target;
use crate::Error;
use crate::dialect::Dialect;
use crate::member::Decoding;
use crate::path::display;
use crate::reader::{Chunk, Left, Reader};
use crate::source::{ReadAt, Walk};

/// Most threads that are of use; more of them would only take memory.
const MAX_THREADS: usize = 64;

type OnFile = Arc<dyn Fn(&Path, u64) + Send + Sync>;

/// How to extract.
#[derive(Clone)]
pub struct ExtractOptions {
    decoding: Decoding,
    threads: usize,
    sync: bool,
    on_file: Option<OnFile>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ExtractOptions {
    /// Members stay as they are; one thread for each processor beside the caller's.
    pub fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        Self { decoding: Decoding::none(), threads, sync: false, on_file: None }
    }

    /// Which compressed and encrypted members are undone on the way to disk.
    #[must_use]
    pub fn decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = decoding;
        self
    }

    /// Threads that decode and write, 1 to 64. The calling thread reads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, MAX_THREADS);
        self
    }

    /// Whether everything is on the disk, not only in the system's memory, when [`extract`] returns.
    #[must_use]
    pub fn sync(mut self, yes: bool) -> Self {
        self.sync = yes;
        self
    }

    /// Called for each file that is finished, with its path below the target and its size in bytes. The calls come
    /// from several threads.
    #[must_use]
    pub fn on_file(mut self, call: impl Fn(&Path, u64) + Send + Sync + 'static) -> Self {
        self.on_file = Some(Arc::new(call));
        self
    }
}

impl fmt::Debug for ExtractOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractOptions")
            .field("decoding", &self.decoding)
            .field("threads", &self.threads)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}

/// What was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Files written, those that were replaced, renamed or removed later included.
    pub files: u64,
    /// Sum of their sizes in bytes, holes included.
    pub bytes: u64,
    /// Files that were decompressed or decrypted.
    pub decoded: u64,
    /// Length of the archive in bytes.
    pub archive: u64,
    /// The dialect, [`Dialect::Auto`] if nothing in the archive told.
    pub dialect: Dialect,
}

/// Extracts an archive below `target`, which is made if it is not there.
///
/// Directories in members' names are made. A file has a name ending in `.partial` until its end has come, every
/// checksum agreed and its decoder was content; only then it gets its own. After an error the finished files stay and
/// the unfinished ones are removed.
///
/// Members are cut at their frames or blocks, where these are small, and decoded by all threads.
///
/// Memory stays below 64 MiB plus what the decoders of at most 32 members at once need, whatever the archive says;
/// of a finished file 8 bytes are kept, of an unfinished one about 500.
///
/// # Errors
///
/// Everything that [`Reader`] refuses, and: a missing end ([`Error::MissingEnd`]), gaps and overlaps
/// ([`Error::OutOfOrder`]), names that are unsafe, taken or behind a link ([`Error::UnsafePath`],
/// [`Error::Exists`], [`Error::Duplicate`], [`Error::Symlink`]), members that cannot be undone ([`Error::Member`]),
/// and failures to write ([`Error::File`]).
pub fn extract<R: Read>(
    reader: Reader<R>,
    target: impl AsRef<Path>,
    options: &ExtractOptions,
) -> Result<Extracted, Error> {
    run(reader, None, target.as_ref(), options)
}

/// Extracts an archive of which several places can be read at once, such as a regular file, from its first byte to its
/// end: as [`extract`] does, and faster, because payloads are read and checked by all threads.
///
/// # Errors
///
/// As [`extract`]; the failure that is told is the first of the archive.
pub fn extract_at<S: ReadAt + ?Sized>(
    source: &S,
    dialect: Dialect,
    target: impl AsRef<Path>,
    options: &ExtractOptions,
) -> Result<Extracted, Error> {
    let reader = Reader::with_dialect(Walk::new(source), dialect);
    run(reader, Some((&source, |chunk| chunk.leave())), target.as_ref(), options)
}

/// A source and how to pass over a payload in it.
type Leaving<'a, R> = Option<(&'a dyn ReadAt, fn(Chunk<'_, R>) -> Left)>;

fn run<R: Read>(
    mut reader: Reader<R>,
    leaving: Leaving<'_, R>,
    target: &Path,
    options: &ExtractOptions,
) -> Result<Extracted, Error> {
    let context = Context {
        target: Target::open(target)?,
        decoding: options.decoding.clone(),
        limits: Limits::new(options.threads),
        source: leaving.map(|(source, _)| source),
    };
    let on_done = |done: &Done| {
        if let Some(call) = &options.on_file {
            call(&display(&done.path), done.size);
        }
    };
    let pool = Pool::new(&context, options.threads, &on_done);
    let read = thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| pool.work());
        }
        let _close = CloseOnDrop(&pool);
        let read = Feeder::new(&pool, &context, leaving.map(|(_, leave)| leave)).run(&mut reader);
        read.and_then(|()| pool.drain())
    });
    let (sums, failed, unfinished) = pool.into_parts();
    for file in unfinished {
        file.discard(&context);
    }
    // A worker's failure comes before that of the reading side in the archive, or the latter is its echo.
    match (failed, read) {
        (Some(error), _) | (None, Err(error)) => return Err(error),
        (None, Ok(())) => {}
    }
    if options.sync {
        context.target.sync(target)?;
    }
    Ok(Extracted {
        files: sums.files,
        bytes: sums.bytes,
        decoded: sums.decoded,
        archive: reader.position(),
        dialect: reader.dialect(),
    })
}

/// Lets the workers end also when the reading side panics.
struct CloseOnDrop<'a>(&'a Pool<'a>);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
