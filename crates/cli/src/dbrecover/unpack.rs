//! `dbrecover unpack`: the worker, one backup to its places in one pass.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backup_catalog::BinlogName;
use backup_catalog::layout::MASTER_DIR;
use backup_unpack::{Algorithm, Decoding, Error, Format, Layout, Options, Progress, Report, Source};
use clap::ValueEnum;
use dbrecover_cli::password::Sources;
use dbrecover_cli::{Exit, Failure, Outcome, standard};
use serde::Serialize;

use crate::interrupt::Interrupt;
use crate::key_file;
use crate::transfer::Sealed;

/// Version of the JSON that this command prints.
const SCHEMA_VERSION: u32 = 1;
/// How often a signal is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Unpack one backup in one pass: decrypt, untar, extract and decompress as a single stream.
///
/// Reads a backup (its folder, a tar of it, or an AES Crypt stream of such a tar) and writes every byte once, to
/// its place: each --server's files to its directory, decompressed; the database server's own files below --base-dir;
/// everything else into WORK-DIR/NAME. The streams of other servers are passed over.
///
/// Destinations must be absent or empty. They get their names when all was read and verified, WORK-DIR/NAME last; a
/// failure leaves nothing. The password of an encrypted backup comes from --password-file, $DBRECOVER_PASSWORD, or is
/// asked for on the terminal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where everything goes that has no other place, in a folder with the backup's name
    #[arg(long, value_name = "DIR")]
    work_dir: PathBuf,
    /// Name of the backup, such as UTC20261120010203.004-full
    #[arg(long, value_name = "NAME")]
    backup: String,
    /// The backup's folder or file; `-` is standard input
    #[arg(long, value_name = "PATH", default_value = "-")]
    from: PathBuf,
    /// What it is; auto looks at its first bytes
    #[arg(long, value_enum, default_value = "auto")]
    format: Form,
    /// Standard input is a stream of `dbrecover send` with the same $DBRECOVER_TRANSFER_KEY; one of another, or that
    /// was cut or altered, ends this with 75
    #[arg(long)]
    sealed: bool,
    /// A server's folder in the backup, and the directory for its files; once for each server
    #[arg(long = "server", value_name = "FOLDER=DIR")]
    servers: Vec<Server>,
    /// Where the base directory of the database server goes
    #[arg(long, value_name = "DIR")]
    base_dir: Option<PathBuf>,
    /// Write only the binlogs, and the files that say whose binlogs a replica replays
    #[arg(long, conflicts_with_all = ["servers", "base_dir"])]
    only_binlogs: bool,
    /// Read the password of an encrypted backup from the first line of a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Leave .qp, .lz4 and .zst files as they are
    #[arg(long)]
    keep_compressed: bool,
    /// Undo .xbcrypt on the way to disk: AES128, AES192 or AES256
    #[arg(long, value_name = "ALGORITHM", requires = "encrypt_key_file")]
    decrypt: Option<Algorithm>,
    /// The key for --decrypt: the whole file, a final newline included
    #[arg(long, value_name = "FILE", requires = "decrypt")]
    encrypt_key_file: Option<PathBuf>,
    /// Threads that decompress and write one server's files [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Servers that are extracted side by side, where the backup is a folder
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Do not wait until everything is on the disk
    #[arg(long)]
    no_sync: bool,
    /// The report as one JSON document
    #[arg(long)]
    json: bool,
    /// How to tell progress on standard error: a line every 10 s, a JSON line every second, or not at all
    #[arg(long, value_enum, default_value = "text")]
    progress: Tell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Auto,
    Folder,
    Tar,
    Aes,
    /// One server's stream, as its file in the backup holds it; only that --server is unpacked
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tell {
    Text,
    Json,
    None,
}

/// `FOLDER=DIR`.
#[derive(Debug, Clone)]
struct Server {
    folder: String,
    directory: PathBuf,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((folder, directory)) if !folder.is_empty() && !directory.is_empty() => {
                Ok(Self { folder: folder.to_owned(), directory: directory.into() })
            }
            _ => Err("expected FOLDER=DIR".to_owned()),
        }
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    let mut layout = Layout::new(&args.work_dir, &args.backup);
    for (i, Server { folder, directory }) in args.servers.iter().enumerate() {
        if args.servers[..i].iter().any(|earlier| earlier.folder == *folder) {
            return Err(Failure::usage(format!("--server names {folder} twice")));
        }
        layout = layout.server(folder, directory);
    }
    if let Some(directory) = &args.base_dir {
        layout = layout.base(directory);
    }
    if args.only_binlogs {
        layout = layout.only(tells_of_binlogs);
    }
    let options = options(&args)?;
    let interrupt = Interrupt::listen()?;
    let progress = Progress::default();
    let unpack = |input| {
        watched(&progress, &interrupt, args.progress, || match input {
            Input::Whole(source) => backup_unpack::unpack(source, &layout, &options, &progress),
            Input::Stream(input) => backup_unpack::unpack_stream(input, &layout, &options, &progress),
        })
    };
    let report = if args.sealed {
        if args.from.as_os_str() != "-" {
            return Err(Failure::usage("--sealed is for standard input"));
        }
        let sealed =
            Sealed::new(interrupt.guard(standard::input()?)).map_err(|failure| interrupt.or(failure))?;
        let report = input(&args, Some(Box::new(sealed.clone())), &interrupt).and_then(unpack);
        let report = report.map_err(|error| match error {
            // The receiver of an attempt before this one, whose end is near: the stream is worth sending again.
            Error::Busy { .. } => Failure::new(Exit::Broken, error),
            error => sealed.blame(failure(error)),
        });
        report.and_then(|report| sealed.tell().map(|()| report))
    } else {
        input(&args, None, &interrupt).and_then(unpack).map_err(failure)
    };
    print(&report.map_err(|failure| interrupt.or(failure))?, args.json)
}

/// Whether a member of a backup is a binlog, or says whose binlogs are replayed: `SERVER/NAME`.
fn tells_of_binlogs(member: &Path) -> bool {
    let mut components = member.components().map(|component| component.as_os_str());
    match (components.next(), components.next().and_then(OsStr::to_str), components.next()) {
        (Some(_), Some(name), None) => name == MASTER_DIR || BinlogName::parse(name).is_some(),
        _ => false,
    }
}

/// What is unpacked.
enum Input<'a> {
    Whole(Source<'a>),
    Stream(Box<dyn Read + 'a>),
}

fn options(args: &Args) -> Result<Options, Failure> {
    let mut options = Options::default();
    if let Some(threads) = args.threads {
        options.threads = threads.into();
    }
    options.parallel = args.parallel.into();
    options.sync = !args.no_sync;
    options.decoding = Decoding::none().decompress(!args.keep_compressed);
    if let (Some(algorithm), Some(file)) = (args.decrypt, &args.encrypt_key_file) {
        options.decoding = options.decoding.decrypt(key_file::read(algorithm, file)?);
    }
    Ok(options)
}

/// Opens what `args` name; `sealed` is standard input where it comes as a sealed stream.
fn input<'a>(
    args: &Args,
    sealed: Option<Box<dyn Read + 'a>>,
    interrupt: &Interrupt,
) -> Result<Input<'a>, Error> {
    let format = match args.format {
        Form::Auto | Form::Stream => Format::Auto,
        Form::Folder => Format::Folder,
        Form::Tar => Format::Tar,
        Form::Aes => Format::EncryptedTar,
    };
    let standard = args.from.as_os_str() == "-";
    if !standard && (format == Format::Folder || args.format == Form::Auto && args.from.is_dir()) {
        return Source::from_path(&args.from, Format::Folder, None).map(Input::Whole);
    }
    let mut encrypted = format == Format::EncryptedTar;
    let input = match sealed {
        Some(sealed) => sealed,
        None if standard => Box::new(interrupt.guard(standard::input().map_err(Error::Read)?)),
        None => {
            let fail = |source| Error::File { action: "opening", path: args.from.clone(), source };
            let mut file = File::open(&args.from).map_err(fail)?;
            encrypted |= is_encrypted(&mut file).map_err(Error::Read)?;
            Box::new(interrupt.guard(file))
        }
    };
    let password = match args.format {
        Form::Stream => return Ok(Input::Stream(input)),
        Form::Folder | Form::Tar => None,
        Form::Auto | Form::Aes => Sources {
            file: args.password_file.clone(),
            environment: "DBRECOVER_PASSWORD",
            // A question is in place only where it is known that there is something to decrypt.
            prompt: encrypted.then_some("Password: "),
            ..Sources::default()
        }
        .get()
        .map_err(|error| Error::Layout { reason: format!("{error:#}") })?,
    };
    Source::from_reader(input, format, password).map(Input::Whole)
}

/// Looks at the first bytes of a file that can be read again.
fn is_encrypted(file: &mut File) -> io::Result<bool> {
    let mut magic = [0; 3];
    let encrypted = file.metadata()?.is_file() && file.read(&mut magic)? == 3 && magic == *b"AES";
    if file.metadata()?.is_file() {
        file.rewind()?;
    }
    Ok(encrypted)
}

/// Runs `work`, telling its progress and passing a signal on to it.
fn watched<T>(progress: &Progress, interrupt: &Interrupt, tell: Tell, work: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let every = Duration::from_secs(if tell == Tell::Json { 1 } else { 10 });
            let begun = Instant::now();
            let mut next = begun + every;
            while !ended.load(Ordering::SeqCst) {
                if interrupt.came() {
                    progress.stop();
                }
                if Instant::now() >= next {
                    next += every;
                    tell_progress(progress, begun.elapsed(), tell);
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        let result = work();
        ended.store(true, Ordering::SeqCst);
        watcher.thread().unpark();
        result
    })
}

#[derive(Serialize)]
struct ProgressLine {
    schema_version: u32,
    event: &'static str,
    bytes_read: u64,
    members: u64,
    member: String,
    seconds: f64,
}

fn tell_progress(progress: &Progress, elapsed: Duration, tell: Tell) {
    match tell {
        Tell::None => {}
        Tell::Text => {
            let (read, member) = (progress.bytes_read() >> 20, progress.member());
            standard::tell(format_args!("unpack: {read} MiB read, at {member:?}"));
        }
        Tell::Json => {
            let line = ProgressLine {
                schema_version: SCHEMA_VERSION,
                event: "progress",
                bytes_read: progress.bytes_read(),
                members: progress.members(),
                member: progress.member(),
                seconds: elapsed.as_secs_f64(),
            };
            if let Ok(line) = serde_json::to_string(&line) {
                standard::tell(line);
            }
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    report: &'a Report,
}

fn print(report: &Report, json: bool) -> Outcome {
    use std::io::Write;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &Document { schema_version: SCHEMA_VERSION, report })?;
        writeln!(out)?;
        return Ok(());
    }
    for (folder, server) in &report.servers {
        let (files, bytes) = (server.files, server.bytes);
        writeln!(out, "{folder}: {files} files, {bytes} bytes in {}", server.directory.display())?;
    }
    if let Some(base) = &report.base {
        let (files, bytes) = (base.files, base.bytes);
        writeln!(out, "base directory: {files} files, {bytes} bytes in {}", base.directory.display())?;
    }
    for folder in &report.servers_skipped {
        writeln!(out, "{folder}: passed over")?;
    }
    let small = &report.small_files;
    writeln!(out, "everything else: {} files, {} bytes", small.files, small.bytes)?;
    let (read, written, seconds) = (report.bytes_read, report.bytes_written, report.seconds);
    writeln!(out, "{read} bytes read, {written} bytes written, {seconds:.1} s")?;
    Ok(())
}

fn failure(error: Error) -> Failure {
    let hint = match &error {
        Error::NoPassword => Some("use --password-file or DBRECOVER_PASSWORD"),
        Error::ToolEncrypted { .. } => Some("--decrypt and --encrypt-key-file undo it; a recovery cannot"),
        Error::Exists { .. } => Some("nothing is overwritten; choose another place, or empty this one"),
        Error::NoStream { .. } => Some("--server takes the name of the server's folder in the backup"),
        Error::Busy { .. } => Some("wait until it has ended, or end it"),
        Error::NoBase => Some("only full backups hold the base directory"),
        Error::Truncated { .. } => Some("the transfer was cut off, or the file is not whole"),
        _ => None,
    };
    Failure::new(error.class(), error).hint_if(hint)
}
