//! The account of the server: command line, option file, environment, prompt.

use std::net::{ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use backup_catalog::MyConf;
use dbrecover_cli::{Exit, Failure, password};
use rocks_hotbackup as rocks;
use secrecy::SecretString;

use crate::cli;

/// Sections of an option file that count, the later one of the file going before.
const SECTIONS: [&str; 5] =
    ["client", "client-server", "client-mariadb", "myrocks_hotbackup", "myrocks-hotbackup"];

/// Longest option file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

#[derive(Default)]
struct OptionFile {
    user: Option<String>,
    password: Option<SecretString>,
    socket: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
}

/// The account that the arguments and their files describe.
pub(crate) fn account(args: &cli::Account) -> Result<rocks::Account, Failure> {
    let file = match &args.defaults_file {
        Some(path) => read(path).map_err(|e| Failure::new(Exit::Usage, e))?,
        None => OptionFile::default(),
    };
    let asked = args.password.as_deref() == Some(cli::ASK);
    // An empty password is one: scripts give it for an account that has none.
    let given = args.password.clone().filter(|p| p != cli::ASK);
    let no_password = given.as_deref() == Some("");
    if no_password && args.password_file.is_some() {
        return Err(Failure::usage("--password is empty, and --password-file is to give one: it is either"));
    }
    let host = file.host.unwrap_or_else(|| "127.0.0.1".into());
    // An empty one is none, as in older scripts.
    let socket = args
        .socket
        .clone()
        .or_else(|| file.socket.filter(|_| args.port.is_none()))
        .filter(|socket| !socket.as_os_str().is_empty());
    if socket.is_none() && !is_here(&host) {
        let text = format!("the option file names the host {host:?}, which is not this machine");
        return Err(Failure::usage(text).hint("run it on the server's machine: checkpoints are made there"));
    }
    let user = args.user.clone().or(file.user).unwrap_or_else(|| "root".into());
    let prompt = format!("Password of {user}: ");
    let explicit = given.is_some() || args.password_file.is_some();
    let password = if asked && !explicit {
        Some(rpassword::prompt_password(&prompt).map_err(|e| Failure::new(Exit::Usage, e))?.into())
    } else if no_password {
        None
    } else if !explicit && file.password.is_some() {
        file.password
    } else {
        let sources = password::Sources {
            argument: given.map(Into::into),
            file: args.password_file.clone(),
            environment: "MYSQL_PWD",
            prompt: None,
        };
        sources.get().map_err(|e| Failure::new(Exit::Usage, e))?
    };
    Ok(rocks::Account {
        user,
        password: password.unwrap_or_else(|| String::new().into()),
        socket,
        host,
        port: args.port.or(file.port).unwrap_or(3306),
    })
}

/// If a host is this machine: it has an address that can be listened at here. One that is not known is not looked for here.
fn is_here(host: &str) -> bool {
    let addresses = (host, 0).to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    addresses.into_iter().any(|address| UdpSocket::bind(address).is_ok())
}

fn read(path: &Path) -> anyhow::Result<OptionFile> {
    let shown = path.display();
    let size = path.metadata().with_context(|| format!("cannot read the option file {shown}"))?.len();
    if size > MAX_FILE {
        bail!("the option file {shown} is longer than {MAX_FILE} bytes");
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the option file {shown}"))?;
    parse(&text).with_context(|| format!("in the option file {shown}"))
}

fn parse(text: &str) -> anyhow::Result<OptionFile> {
    let mut file = OptionFile::default();
    let mut counts = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '!']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            counts = SECTIONS.contains(&section.trim_end_matches(']'));
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| counts) else { continue };
        let value = MyConf::value(value);
        match key.trim() {
            "user" => file.user = Some(value),
            "password" => file.password = Some(value.into()),
            "socket" => file.socket = Some(value.into()),
            // `localhost` means the server's socket in these files.
            "host" => file.host = Some(value).filter(|h| h != "localhost"),
            "port" => {
                let port =
                    value.parse().with_context(|| format!("line {}: {value:?} is no port", number + 1))?;
                file.port = Some(port);
            }
            _ => {}
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn values_are_read_as_the_programs_of_the_server_read_them() {
        for (line, password) in [
            (r"password=pa\\ss\sx#y", r"pa\ss x"),
            ("password='x#y' # z", "x#y"),
            (r#"password = "a\tb" # c"#, "a\tb"),
            ("password='it''s'", "it''s"),
            (r"password=x\q", r"x\q"),
        ] {
            let file = parse(&format!("[client]\n{line}\n")).unwrap();
            assert_eq!(file.password.unwrap().expose_secret(), password, "{line}");
        }
    }

    #[test]
    fn another_host_is_not_this_machine() {
        for here in ["127.0.0.1", "::1", "localhost", "127.1.2.3"] {
            assert!(is_here(here), "{here}");
        }
        // Of the documentation's network, which nobody has.
        assert!(!is_here("192.0.2.1"));
    }

    #[test]
    fn only_the_sections_of_clients_count() {
        let file = parse(
            "[mysqld]\nuser=mysql\nport=1\n[client]\nuser = backup # who\npassword=\"a #b\"\n!include x\n\
             [myrocks-hotbackup]\nsocket=/run/s\nport=3307\n",
        )
        .unwrap();
        assert_eq!(file.user.as_deref(), Some("backup"));
        assert_eq!(file.password.unwrap().expose_secret(), "a #b");
        assert_eq!((file.socket, file.port), (Some("/run/s".into()), Some(3307)));
        assert!(parse("[client]\nport=x").is_err());
    }
}
