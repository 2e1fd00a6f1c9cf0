//! `dbrecover aescrypt`: encrypts and decrypts `.aes` files, in pyAesCrypt's place.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::aescrypt::{DEFAULT_ITERATIONS, Error, Format};
use clap::ValueEnum;
use dbrecover_cli::password::Sources;
use dbrecover_cli::{Exit, Failure, Outcome, standard};
use secrecy::{ExposeSecret, SecretString};

use crate::interrupt::Interrupt;

/// Encrypt or decrypt AES Crypt files, in pyAesCrypt's place.
///
/// Files of stream version 0 to 3 are decrypted. An output appears under its name only when it is whole and its
/// HMAC agreed; a failure leaves an existing output as it was. What goes to a pipe cannot be called back: take
/// it for nothing until the exit status is 0.
///
/// The password comes from -p, --password-file, $DBRECOVER_PASSWORD, or is asked for on the terminal.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("direction").required(true)))]
pub(crate) struct Args {
    /// Decrypt
    #[arg(short, long, group = "direction")]
    decrypt: bool,
    /// Encrypt
    #[arg(short, long, group = "direction")]
    encrypt: bool,
    /// Write to OUT, `-` for standard output; the default is FILE with `.aes` added (-e) or taken off (-d)
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// The password, for every `ps` to see; prefer one of the other ways
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<SecretString>,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// The stream version to write: pyAesCrypt reads 2 only
    #[arg(long, value_enum, default_value = "2", conflicts_with = "decrypt")]
    format: Version,
    /// PBKDF2 iterations of a version 3 stream
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ITERATIONS, conflicts_with = "decrypt")]
    iterations: u32,
    /// The files; `-` is standard input, and standard output where no -o says otherwise
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "2")]
    V2,
    #[value(name = "3")]
    V3,
}

/// One file's way.
struct Job {
    input: Place,
    output: Place,
}

enum Place {
    Standard,
    File(PathBuf),
}

pub(crate) fn run(args: Args) -> Outcome {
    let jobs = jobs(&args)?;
    let format = match args.format {
        Version::V2 => Format::V2,
        Version::V3 => Format::V3 { iterations: args.iterations },
    };
    let password = password(args.password, args.password_file, args.encrypt)?;
    let interrupt = Interrupt::listen()?;
    for job in jobs {
        let (doing, result) = if args.decrypt {
            ("decrypting", decrypt(&job, &password, &interrupt))
        } else {
            ("encrypting", encrypt(&job, &password, format, &interrupt))
        };
        result.map_err(|error| interrupt.or(failure(error, doing, &job.input)))?;
    }
    Ok(())
}

fn jobs(args: &Args) -> Result<Vec<Job>, Failure> {
    if args.out.is_some() && args.files.len() > 1 {
        return Err(Failure::usage("-o takes one FILE"));
    }
    args.files
        .iter()
        .map(|file| {
            let input = Place::named(file);
            let output = match (&args.out, &input) {
                (Some(out), _) => Place::named(out),
                (None, Place::Standard) => Place::Standard,
                (None, Place::File(file)) if args.encrypt => {
                    let mut name = file.clone().into_os_string();
                    name.push(".aes");
                    Place::File(name.into())
                }
                (None, Place::File(file)) => Place::File(without_suffix(file)?),
            };
            Ok(Job { input, output })
        })
        .collect()
}

/// The name of the decrypted file.
fn without_suffix(file: &Path) -> Result<PathBuf, Failure> {
    let stem = file.as_os_str().as_bytes().strip_suffix(b".aes").filter(|stem| {
        // A file called just `.aes` has no name to fall back on.
        !stem.is_empty() && !stem.ends_with(b"/")
    });
    match stem {
        Some(stem) => Ok(OsString::from_vec(stem.to_vec()).into()),
        None => Err(Failure::usage(format!("{} does not end in .aes", file.display()))
            .hint("name the output with -o OUT")),
    }
}

fn password(
    argument: Option<SecretString>,
    file: Option<PathBuf>,
    confirm: bool,
) -> Result<SecretString, Failure> {
    let sources = Sources { argument, file, environment: "DBRECOVER_PASSWORD", prompt: Some("Password: ") };
    let asked = sources.argument.is_none()
        && sources.file.is_none()
        && std::env::var_os(sources.environment).is_none_or(|value| value.is_empty());
    let password = sources.get().map_err(|error| Failure::new(Exit::Usage, error))?;
    let Some(password) = password.filter(|password| !password.expose_secret().is_empty()) else {
        return Err(
            Failure::usage("no password").hint("use --password-file, DBRECOVER_PASSWORD, or a terminal")
        );
    };
    if asked && confirm {
        let again = SecretString::from(rpassword::prompt_password("The same again: ")?);
        if again.expose_secret() != password.expose_secret() {
            return Err(Failure::usage("the two passwords differ"));
        }
    }
    Ok(password)
}

fn decrypt(job: &Job, password: &SecretString, interrupt: &Interrupt) -> Result<u64, Error> {
    let input = interrupt.guard(job.open()?);
    match &job.output {
        Place::File(output) => ::aescrypt::decrypt_to_file(input, output, password),
        Place::Standard => ::aescrypt::decrypt(input, standard_output()?, password).map_err(unread),
    }
}

fn encrypt(job: &Job, password: &SecretString, format: Format, interrupt: &Interrupt) -> Result<u64, Error> {
    let input = interrupt.guard(job.open()?);
    match &job.output {
        Place::File(output) => ::aescrypt::encrypt_to_file(input, output, password, format),
        Place::Standard => ::aescrypt::encrypt(input, standard_output()?, password, format).map_err(unread),
    }
}

impl Place {
    fn named(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Standard } else { Self::File(path.to_owned()) }
    }

    fn name(&self) -> String {
        match self {
            Self::Standard => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl Job {
    /// Opens the input. Refused where the output is the same file, also through a redirection: what is appended to it
    /// would be read again.
    fn open(&self) -> Result<File, Error> {
        let (file, path) = match &self.input {
            Place::Standard => (standard::input().map_err(Error::Read)?, Path::new("standard input")),
            Place::File(path) => {
                let fail = |source| Error::File { action: "opening", path: path.clone(), source };
                (File::open(path).map_err(fail)?, path.as_path())
            }
        };
        let fail = |source| Error::File { action: "opening", path: path.to_owned(), source };
        let input = file.metadata().map_err(fail)?;
        let (output, name) = match &self.output {
            Place::Standard => (standard_output()?.metadata(), Path::new("standard output")),
            Place::File(path) => (std::fs::metadata(path), path.as_path()),
        };
        if input.is_file()
            && output.is_ok_and(|output| (output.dev(), output.ino()) == (input.dev(), input.ino()))
        {
            return Err(Error::SameFile { path: name.to_owned() });
        }
        Ok(file)
    }
}

/// A closed pipe is a failure here, where the rest of a file is lost with it; of text it would be none.
fn unread(error: Error) -> Error {
    match error {
        Error::Write(source) if source.kind() == io::ErrorKind::BrokenPipe => {
            Error::Write(io::Error::other("the reader of standard output is gone"))
        }
        other => other,
    }
}

fn standard_output() -> Result<File, Error> {
    standard::output().map_err(Error::Write)
}

fn failure(error: Error, doing: &str, input: &Place) -> Failure {
    let hint = match &error {
        Error::WrongPassword => Some("only the first line of a password file is used; blanks in it count"),
        Error::Truncated { .. } => Some("the transfer or copy of this file was cut off"),
        Error::NotRegular { .. } => Some("`-o -` writes to standard output"),
        _ => None,
    };
    Failure::new(error.class(), anyhow::Error::new(error).context(format!("{doing} {}", input.name())))
        .hint_if(hint)
}
