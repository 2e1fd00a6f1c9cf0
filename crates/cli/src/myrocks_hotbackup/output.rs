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

/// A host as [`host`] takes it, or with ssh's options `-p` and `-l` before it.
pub(crate) fn destination(text: &str, args: &Backup) -> Result<remote_exec::ssh::Options, Failure> {
    let bad = || {
        Failure::usage(format!("--destination {text:?} is not [-p PORT] [-l USER] [USER@]HOST[:PORT]"))
            .hint("write more about the host into a file for --ssh-config")
    };
    let (mut user, mut port, mut name) = (None, None, None);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let mut value = |rest: &str| match rest {
            "" => words.next().map(str::to_owned),
            rest => Some(rest.to_owned()),
        };
        if let Some(rest) = word.strip_prefix("-p") {
            port = Some(value(rest).and_then(|port| port.parse().ok()).ok_or_else(bad)?);
        } else if let Some(rest) = word.strip_prefix("-l") {
            user = Some(value(rest).ok_or_else(bad)?);
        } else if word.starts_with('-') || name.replace(word).is_some() {
            return Err(bad());
        }
    }
    let mut options = host(name.ok_or_else(bad)?, args)?;
    (options.user, options.port) = (user.or(options.user), port.or(options.port));
    Ok(options)
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn a_destination_may_have_a_port_and_a_user_as_ssh_takes_them() {
        let args = Args::from_line(["myrocks-hotbackup"].map(OsString::from)).unwrap().backup;
        for (text, user, port) in [
            ("host", None, None),
            ("me@host:22", Some("me"), Some(22)),
            ("-p 2222 host", None, Some(2222)),
            ("-p2222 -l me host", Some("me"), Some(2222)),
            ("host -p 2222", None, Some(2222)),
        ] {
            let options = destination(text, &args).unwrap();
            assert_eq!(
                (options.host.as_str(), options.user.as_deref(), options.port),
                ("host", user, port),
                "{text}"
            );
        }
        for text in ["", "-p host", "-p x host", "-i key host", "one two", "-p 1"] {
            assert!(destination(text, &args).is_err(), "{text}");
        }
    }
}
