//! Where a backup is written: standard output, file, directory, another host.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use dbrecover_cli::{Exit, Failure, password, standard};
use rocks_hotbackup::sink::{DirSink, Encoding, Output, TarSink, XbstreamSink, remote};
use rocks_hotbackup::{Error, Sink};
use secrecy::SecretString;

use crate::cli::{Backup, Stream};
use crate::failures::failure;

/// The environment variable for the password of encrypted backups.
const KEY: &str = "MYROCKS_BACKUP_KEY";

/// Opens what the arguments ask for.
pub(crate) fn sink(args: &Backup) -> Result<Box<dyn Sink>, Failure> {
    let encoding = encoding(args)?;
    let ssh = args.to.as_deref().and_then(|to| to.strip_prefix("ssh://"));
    match (args.stream, ssh, &args.to) {
        (Stream::Dir, Some(_), _) if encoding.zstd.is_some() || encoding.password.is_some() => Err(
            Failure::usage("a directory on another host cannot be compressed or encrypted: use --stream tar"),
        ),
        (Stream::Dir, Some(url), _) => {
            let (options, dir) = place(url, args)?;
            let target = remote::directory(options, &dir).map_err(failure)?;
            Ok(Box::new(TarSink::new(output(Output::new(target, &Encoding::default()), &dir)?)))
        }
        (Stream::Dir, None, Some(path)) => {
            Ok(Box::new(DirSink::create(Path::new(path), encoding).map_err(failure)?))
        }
        (Stream::Dir, None, None) => Err(Failure::usage("--stream dir needs --to DIRECTORY")),
        (format, Some(url), _) => {
            let (options, dir) = place(url, args)?;
            let name = format!(
                "backup.{}{}",
                if format == Stream::Tar { "tar" } else { "xbstream" },
                encoding.suffix()
            );
            let target = remote::file(options, &dir.join(name)).map_err(failure)?;
            archive(format, output(Output::new(target, &encoding), &dir)?)
        }
        (format, None, Some(path)) => {
            let path = Path::new(path);
            archive(format, Output::file(path, &encoding).map_err(failure)?)
        }
        (format, None, None) => {
            let stdout = standard::output()?;
            if stdout.is_terminal() {
                return Err(Failure::usage("a backup is no text for a terminal")
                    .hint("pipe it to a program, redirect it to a file, or give --to"));
            }
            archive(format, output(Output::descriptor(stdout, &encoding), Path::new("standard output"))?)
        }
    }
}

fn archive(format: Stream, output: Output) -> Result<Box<dyn Sink>, Failure> {
    Ok(match format {
        Stream::Xbstream => Box::new(XbstreamSink::new(output)),
        _ => Box::new(TarSink::new(output)),
    })
}

fn output(output: std::io::Result<Output>, path: &Path) -> Result<Output, Failure> {
    output.map_err(|source| failure(Error::Io { action: "create", path: path.to_owned(), source }))
}

fn encoding(args: &Backup) -> Result<Encoding, Failure> {
    let password = match &args.encrypt {
        None => None,
        Some(file) => match key(file.clone())? {
            Some(password) => Some(password),
            None => {
                return Err(Failure::usage(format!(
                    "--encrypt needs a password file, or {KEY} in the environment"
                )));
            }
        },
    };
    Ok(Encoding { zstd: args.compress, password })
}

/// The password of encrypted backups, from a file or the environment.
pub(crate) fn key(file: Option<PathBuf>) -> Result<Option<SecretString>, Failure> {
    let sources = password::Sources { file, environment: KEY, ..password::Sources::default() };
    sources.get().map_err(|e| Failure::new(Exit::Usage, e))
}

/// Host and directory of `[USER@]HOST[:PORT]/DIR`.
fn place(url: &str, args: &Backup) -> Result<(remote_exec::ssh::Options, PathBuf), Failure> {
    let Some((authority, dir)) = url.split_once('/') else {
        return Err(Failure::usage(format!("ssh://{url} names no directory")));
    };
    Ok((host(authority, args)?, Path::new("/").join(dir)))
}

/// A host as `[USER@]HOST[:PORT]`.
pub(crate) fn host(text: &str, args: &Backup) -> Result<remote_exec::ssh::Options, Failure> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (name, port) = match rest.rsplit_once(':') {
        // An IPv6 address holds colons of its own.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            let port = port.parse().map_err(|_| Failure::usage(format!("{text:?} has no valid port")))?;
            (name, Some(port))
        }
        _ => (rest, None),
    };
    let mut options = remote_exec::ssh::Options::new(name.trim_start_matches('[').trim_end_matches(']'));
    (options.user, options.port, options.config_file) = (user, port, args.ssh_config.clone());
    Ok(options)
}
