//! `dbrecover send` and `dbrecover receive`: the two ends of a transfer whose stream carries its own proof.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use dbrecover_cli::{Exit, Failure, Outcome, standard};
use remote_exec::transfer::seal::{Compression, KEY_VARIABLE, Key, Unsealed, Unsent, seal, seal_file, widen};
use rustix::fs::{Advice, fadvise};

/// Send a file, or what a program writes, as a sealed stream on standard output
///
/// The stream ends with its length and checksum, and only when all was read and the program ended with 0, so whoever
/// receives it (`dbrecover receive`, `dbrecover unpack --sealed`) knows by itself whether all of it arrived. Length and
/// checksum also go to standard error. With $DBRECOVER_TRANSFER_KEY the stream is taken by those only who were given
/// the same.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["file", "program"])))]
pub(crate) struct SendArgs {
    /// Send this file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Compress on the way
    #[arg(long, value_name = "HOW", value_enum, default_value = "none")]
    compress: Compress,
    /// Send no more bytes per second, on average
    #[arg(long, value_name = "BYTES")]
    rate_limit: Option<u64>,
    /// Send what this program writes, behind `--`
    #[arg(value_name = "PROGRAM", last = true)]
    program: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compress {
    None,
    Zstd,
}

/// Write the contents of a sealed stream on standard input to standard output
///
/// Ends with 0 only if all of it arrived as it was sent, and with 75 if it was cut or altered on the way, or was not
/// sealed with the same $DBRECOVER_TRANSFER_KEY. Length and checksum also go to standard error.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiveArgs {}

pub(crate) fn send(args: SendArgs) -> Outcome {
    let output = standard::output()?;
    widen(&output);
    let compression = match args.compress {
        Compress::None => Compression::None,
        Compress::Zstd => Compression::Zstd,
    };
    let (key, rate) = (Key::given(), args.rate_limit);
    let sent = match &args.file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            // Only the read-ahead depends on it.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
            if compression == Compression::None && file.metadata().is_ok_and(|meta| meta.is_file()) {
                seal_file(&file, output, &key, rate)
            } else {
                seal(file, output, &key, compression, rate)
            }
        }
        None => seal(Program::start(&args.program)?, output, &key, compression, rate),
    };
    match sent {
        Ok(digest) => {
            standard::tell(digest.line());
            Ok(())
        }
        Err(error) if error.receiver_left() => {
            Err(Failure::new(Exit::NoReceiver, anyhow::Error::msg("the receiver went away")))
        }
        // As text: an EPIPE of the source is not the end of a pipe that nobody reads any more.
        Err(Unsent::Reading(error)) => Err(anyhow!("cannot read what is to be sent: {error}").into()),
        Err(error) => Err(error.into()),
    }
}

/// What a program writes. Its end is one only if the program ended with 0.
struct Program {
    name: String,
    child: Child,
    output: ChildStdout,
}

impl Program {
    fn start(words: &[OsString]) -> anyhow::Result<Self> {
        let (program, arguments) = words.split_first().context("no program")?;
        let name = program.to_string_lossy().into_owned();
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove(KEY_VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().context("a program without output")?;
        widen(&output);
        Ok(Self { name, child, output })
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.output.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("{} ended with {status}", self.name)));
            }
        }
        Ok(n)
    }
}

pub(crate) fn receive(ReceiveArgs {}: ReceiveArgs) -> Outcome {
    let sealed = Sealed::new(standard::input()?)?;
    let mut output = standard::output()?;
    let mut input = sealed.clone();
    // Not `io::copy`, which would copy in pieces of 8 KiB.
    let mut buffer = vec![0; 256 * 1024];
    let mut copy = || -> Result<(), Failure> {
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(()),
                n => output.write_all(&buffer[..n]).map_err(unwritten)?,
            }
        }
    };
    copy().map_err(|failure| sealed.blame(failure))?;
    sealed.tell()
}

/// As text: a closed pipe is a failure here, where the rest of a stream is lost with it; of text it would be none.
fn unwritten(error: io::Error) -> anyhow::Error {
    anyhow!("cannot write to standard output: {error}")
}

/// A sealed stream that is read in one place and judged in another.
pub(crate) struct Sealed<R: Read>(Arc<Mutex<Unsealed<R>>>);

impl<R: Read> Clone for Sealed<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Read + AsFd> Sealed<R> {
    /// Reads the header. Of a stream of another transfer nothing else is read.
    pub(crate) fn new(input: R) -> Result<Self, Failure> {
        widen(&input);
        let stream = Unsealed::new(input, &Key::given())?;
        match stream.broken() {
            Some(broken) => Err(Failure::new(Exit::Broken, anyhow::Error::msg(broken.to_string()))),
            None => Ok(Self(Arc::new(Mutex::new(stream)))),
        }
    }
}

impl<R: Read> Sealed<R> {
    /// Tells length and checksum, as the sender did.
    pub(crate) fn tell(&self) -> Outcome {
        match self.lock().finish() {
            Ok(digest) => {
                standard::tell(digest.line());
                Ok(())
            }
            Err(error) => Err(Failure::new(Exit::Broken, anyhow::Error::msg(error.to_string()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unsealed<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure of what read the stream, or that of the stream itself, if it is to blame. Damage that was found in a
    /// stream that arrived as it was sent was sent.
    pub(crate) fn blame(&self, failure: Failure) -> Failure {
        let mut stream = self.lock();
        let broken = match stream.broken() {
            Some(broken) => Some(broken.to_string()),
            None if failure.exit == Exit::Damaged => stream.finish().err().map(|error| error.to_string()),
            None => None,
        };
        match broken {
            Some(why) => Failure::new(Exit::Broken, anyhow::Error::msg(why)),
            None => failure,
        }
    }
}

impl<R: Read> Read for Sealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer)
    }
}
