//! `dbrecover xbstream`: creates, extracts and lists xbstream archives, in place of `xbstream` and `mbstream`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::xbstream::member::{Algorithm, DecodeError, Decoding, Key};
use ::xbstream::{Dialect, Entry, Error, ExtractOptions, ReadAt, Reader, Writer, extract, extract_at, list};
use anyhow::Context;
use dbrecover_cli::{Exit, Failure, Outcome, Printable, standard};
use serde::Serialize;

use crate::interrupt::{Guarded, Interrupt};
use crate::key_file;

/// Bytes asked for as the size of a pipe; fewer and larger reads and writes.
const PIPE_SIZE: usize = 1024 * 1024;

/// Create, extract or list xbstream archives, in place of xbstream and mbstream.
///
/// -x and -t read the archive from standard input, -c writes it to standard output. Every checksum is compared, and a
/// missing end of a file is an error. -x refuses names that are absolute, contain `..` or are taken, and links in
/// the way; a file has its name only when it is complete.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("mode").required(true)))]
pub(crate) struct Args {
    /// Extract the archive on standard input
    #[arg(short = 'x', long, group = "mode")]
    extract: bool,
    /// Write an archive of the FILEs to standard output
    #[arg(short = 'c', long, group = "mode", requires = "files")]
    create: bool,
    /// List the archive on standard input, after checking all of it
    #[arg(short = 't', long, group = "mode")]
    list: bool,
    /// Change to this directory first; -x makes it
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Threads that decode and write with -x [default: one for each processor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: Option<u16>,
    /// Percona's names for it
    #[arg(long, hide = true, aliases = ["decompress-threads", "encrypt-threads"], value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    decode_threads: Option<u16>,
    /// Name each file on standard error; with -t, its sizes
    #[arg(short, long)]
    verbose: bool,
    /// Undo .qp, .lz4 and .zst on the way to disk
    #[arg(long, conflicts_with_all = ["create", "list"])]
    decompress: bool,
    /// Undo .xbcrypt on the way to disk: AES128, AES192 or AES256
    #[arg(long, value_name = "ALGORITHM", conflicts_with_all = ["create", "list"])]
    decrypt: Option<Algorithm>,
    /// The key for --decrypt: the whole file, a final newline included
    #[arg(long, value_name = "FILE", requires = "decrypt")]
    encrypt_key_file: Option<PathBuf>,
    /// The key for --decrypt, for every `ps` to see; prefer --encrypt-key-file
    #[arg(long, value_name = "KEY", requires = "decrypt", conflicts_with = "encrypt_key_file")]
    encrypt_key: Option<secrecy::SecretString>,
    /// Who wrote the archive: auto, percona or mariadb
    #[arg(long, value_name = "DIALECT", default_value = "auto")]
    dialect: Dialect,
    /// Results as one JSON document
    #[arg(long, conflicts_with = "create")]
    json: bool,
    /// What -c puts into the archive
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: Args) -> Outcome {
    if !args.create && !args.files.is_empty() {
        return Err(Failure::usage("only -c takes FILEs").hint("-x extracts the whole archive"));
    }
    let interrupt = Interrupt::listen()?;
    let result = if args.create {
        create(&args, &interrupt)
    } else if args.extract {
        extract_all(&args, &interrupt)
    } else {
        list_all(&args, &interrupt)
    };
    result.map_err(|failure| interrupt.or(failure))
}

fn create(args: &Args, interrupt: &Interrupt) -> Outcome {
    let output = large_pipe(standard::output()?);
    let archive = output.metadata()?;
    let writer = Writer::new(output);
    let base = args.directory.clone().unwrap_or_default();
    for path in &args.files {
        if args.verbose {
            standard::tell(Printable(path.display()));
        }
        let from = base.join(path);
        let file = File::open(&from).with_context(|| format!("cannot open {}", from.display()))?;
        let found = file.metadata()?;
        if found.is_file() && (found.dev(), found.ino()) == (archive.dev(), archive.ino()) {
            return Err(Failure::usage(format!("{} is the archive itself", Printable(from.display()))));
        }
        writer.append(path, interrupt.guard(file)).map_err(|error| output_failure("creating", error))?;
    }
    writer.finish().map_err(|error| output_failure("creating", error))?;
    Ok(())
}

/// A failure to write the archive. An unread rest of it is a failure here, also where a closed pipe would be
/// none for text, so the system's error goes no further than its words.
fn output_failure(doing: &str, error: Error) -> Failure {
    if let Error::Write { .. } = error {
        let error = anyhow::Error::new(error);
        return Failure::new(Exit::Failed, anyhow::Error::msg(format!("{doing} the archive: {error:#}")));
    }
    failure(doing, error)
}

fn extract_all(args: &Args, interrupt: &Interrupt) -> Outcome {
    let mut decoding = Decoding::none().decompress(args.decompress);
    if let Some(algorithm) = args.decrypt {
        decoding = decoding.decrypt(key(algorithm, args)?);
    }
    let mut options = ExtractOptions::new().decoding(decoding);
    if let Some(threads) = args.parallel.max(args.decode_threads) {
        options = options.threads(threads.into());
    }
    if args.verbose {
        options = options.on_file(|path, _| standard::tell(Printable(path.display())));
    }
    let target = args.directory.as_deref().unwrap_or(Path::new("."));
    let done = match Rest::of(standard::input()?, interrupt)? {
        Some(mut rest) => extract_at(&rest, args.dialect, target, &options)
            .and_then(|done| rest.pass(done.archive).map(|()| done)),
        None => extract(reader(args, interrupt)?, target, &options),
    }
    .map_err(|error| failure("extracting", error))?;
    refuse_nothing(done.archive)?;
    if args.json {
        let report = Report {
            schema_version: 1,
            files: done.files,
            bytes: done.bytes,
            decoded: done.decoded,
            archive_bytes: done.archive,
            dialect: done.dialect.name(),
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    }
    Ok(())
}

fn list_all(args: &Args, interrupt: &Interrupt) -> Outcome {
    let mut reader = reader(args, interrupt)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut print = Listing { out: &mut out, json: args.json, verbose: args.verbose, first: true };
    print.begin()?;
    let mut printed = Ok(());
    let result = list(&mut reader, |entry| {
        if printed.is_ok() {
            printed = print.entry(&entry);
        }
    });
    printed?;
    let result = result
        .map_err(|error| failure("listing", error))
        .and_then(|totals| refuse_nothing(totals.archive).map(|()| totals));
    print.end(reader.dialect(), &result)?;
    out.flush()?;
    result.map(drop)
}

/// The format has an archive of nothing; no writer makes one, but a transfer that failed at once looks like it.
fn refuse_nothing(archive: u64) -> Outcome {
    match archive {
        0 => Err(Failure::new(Exit::Damaged, anyhow::Error::msg("the archive is empty"))
            .hint("the transfer or copy of this archive was cut off")),
        _ => Ok(()),
    }
}

fn reader(args: &Args, interrupt: &Interrupt) -> Result<Reader<impl Read + use<>>, Failure> {
    let input = large_pipe(standard::input()?);
    Ok(Reader::with_dialect(interrupt.guard(input), args.dialect))
}

/// What a regular file holds behind the place that it stands at, as others would read it.
struct Rest {
    file: Guarded<File>,
    begin: u64,
}

impl Rest {
    /// `None` for what cannot be read at any place: pipes, terminals, sockets.
    fn of(mut file: File, interrupt: &Interrupt) -> io::Result<Option<Self>> {
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let begin = file.stream_position()?;
        Ok(Some(Self { file: interrupt.guard(file), begin }))
    }

    /// Leaves the file where reading it from the front would have.
    fn pass(&mut self, n: u64) -> Result<(), Error> {
        let end = self.begin + n;
        let moved = self.file.get_mut().seek(io::SeekFrom::Start(end));
        moved.map(drop).map_err(|source| Error::Read { offset: n, source })
    }
}

impl ReadAt for Rest {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(out, self.begin.saturating_add(position))
    }
}

fn key(algorithm: Algorithm, args: &Args) -> Result<Key, Failure> {
    use secrecy::ExposeSecret;
    match (&args.encrypt_key_file, &args.encrypt_key) {
        (Some(path), _) => key_file::read(algorithm, path),
        (None, Some(key)) => {
            standard::tell("warning: a key on the command line can be read by every user of this machine");
            Key::new(algorithm, key.expose_secret().as_bytes().to_vec().into())
                .map_err(|error| Failure::new(Exit::Usage, error))
        }
        (None, None) => Err(Failure::usage("--decrypt needs a key").hint("use --encrypt-key-file FILE")),
    }
}

/// The same file; if it is a pipe, one that holds more where the system allows it.
fn large_pipe(file: File) -> File {
    let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_SIZE);
    file
}

fn failure(doing: &str, error: Error) -> Failure {
    let hint = match &error {
        Error::Dialect { .. } => Some("say who wrote the archive: --dialect percona or --dialect mariadb"),
        Error::Truncated { .. } | Error::MissingEnd { .. } => {
            Some("the transfer or copy of this archive was cut off")
        }
        Error::Exists { .. } => Some("extract into an empty directory"),
        Error::Member { source: DecodeError::WrongKey { .. }, .. } => {
            Some("a final newline in the key file counts as part of the key")
        }
        _ => None,
    };
    Failure::new(error.class(), anyhow::Error::new(error).context(format!("{doing} the archive")))
        .hint_if(hint)
}

#[derive(Serialize)]
struct Report {
    schema_version: u32,
    files: u64,
    bytes: u64,
    decoded: u64,
    archive_bytes: u64,
    dialect: &'static str,
}

/// Prints entries as they come, so that memory does not grow with the archive.
struct Listing<'a, W> {
    out: &'a mut W,
    json: bool,
    verbose: bool,
    first: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    File { path: Name, size: u64, stored: u64, chunks: u64, rewrite: bool },
    Rename { path: Name, to: Name },
    Remove { path: Name },
}

/// A name for JSON: text where it is text, else the bytes in hexadecimal.
#[derive(Serialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes { hex: String },
}

impl Name {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => {
                Self::Bytes { hex: path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect() }
            }
        }
    }
}

impl<W: Write> Listing<'_, W> {
    fn begin(&mut self) -> io::Result<()> {
        if self.json { write!(self.out, "{{\"schema_version\":1,\"entries\":[") } else { Ok(()) }
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        if self.json { self.json_entry(entry) } else { self.text_entry(entry) }
    }

    fn text_entry(&mut self, entry: &Entry) -> io::Result<()> {
        match entry {
            Entry::File { path, size, stored, .. } if self.verbose => {
                writeln!(self.out, "{size:>14} {stored:>14} {}", Printable(path.display()))
            }
            Entry::File { path, .. } => writeln!(self.out, "{}", Printable(path.display())),
            Entry::Rename { from, to } => {
                writeln!(self.out, "{} -> {}", Printable(from.display()), Printable(to.display()))
            }
            Entry::Remove { path } => writeln!(self.out, "{} removed", Printable(path.display())),
            _ => Ok(()),
        }
    }

    fn json_entry(&mut self, entry: &Entry) -> io::Result<()> {
        let line = match entry {
            Entry::File { path, size, stored, chunks, rewrite } => Line::File {
                path: Name::of(path),
                size: *size,
                stored: *stored,
                chunks: *chunks,
                rewrite: *rewrite,
            },
            Entry::Rename { from, to } => Line::Rename { path: Name::of(from), to: Name::of(to) },
            Entry::Remove { path } => Line::Remove { path: Name::of(path) },
            _ => return Ok(()),
        };
        if !std::mem::replace(&mut self.first, false) {
            write!(self.out, ",")?;
        }
        writeln!(self.out)?;
        serde_json::to_writer(&mut *self.out, &line).map_err(io::Error::from)
    }

    fn end(&mut self, dialect: Dialect, result: &Result<::xbstream::Totals, Failure>) -> io::Result<()> {
        match (self.json, result) {
            (false, Ok(totals)) if self.verbose => {
                let (files, bytes, archive) = (totals.files, totals.bytes, totals.archive);
                standard::tell(format_args!("{files} files, {bytes} bytes in {archive} of archive"));
                Ok(())
            }
            (false, _) => Ok(()),
            (true, Ok(totals)) => writeln!(
                self.out,
                "],\n\"complete\":true,\"files\":{},\"bytes\":{},\"archive_bytes\":{},\"dialect\":\"{dialect}\"}}",
                totals.files, totals.bytes, totals.archive
            ),
            (true, Err(_)) => writeln!(self.out, "],\n\"complete\":false,\"dialect\":\"{dialect}\"}}"),
        }
    }
}
