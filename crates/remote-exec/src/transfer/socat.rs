//! From host to host over one TCP connection between two `socat`.
//!
//! The receiving socat listens for one connection, from the sender's address only where that is known. Programs that
//! seal and check a stream themselves take the place of their socat when the connection is made, so that the bytes go
//! from one program to the other without a third.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::ends::Ends;
use super::gate::{Listener, unique};
use super::{Check, Digest, Failure, failure};
use crate::{Command, Error};

/// How the two socat find each other.
#[derive(Debug, Clone)]
pub struct Socat {
    /// The port to listen on; where it is taken, the next tries are 10 higher each.
    pub port: u16,
    /// How many ports are tried, and how often the sender tries to connect, once a second. Default: 10.
    pub retries: u32,
    /// The receiver's address, as the sender can reach it.
    pub to: String,
    /// The sender's address, as the receiver sees it: connections from elsewhere are not taken.
    pub from: Option<String>,
    /// Where the receiving socat's logs go, in a directory per day, on the receiving host.
    pub log_dir: PathBuf,
}

/// Makes the directory of today's logs below `$1` and tells its name.
const LOG_DIR: &str = r#"d=$(date +%Y%m%d) && mkdir -p -- "$1/$d" && echo "$d""#;

/// How long the receiving socat waits for a connection.
const ACCEPT: Duration = Duration::from_secs(60);

/// A partner that was lost without a word is known after two minutes: a receiver waits for nothing but its stream.
const ALIVE: &str = "keepalive,keepidle=60,keepintvl=15,keepcnt=4";

/// How much each socat reads at once, in bytes.
const BUFFER: &str = "262144";

/// `tcp4` or `tcp6`, and the address as socat wants it.
fn address(text: &str) -> (&'static str, String) {
    match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V6(six)) => ("tcp6", format!("[{six}]")),
        Ok(IpAddr::V4(four)) => ("tcp4", four.to_string()),
        Err(_) => ("tcp", text.to_owned()),
    }
}

/// Whether a name can be put into a socat address: it has its own syntax with `,`, `:` and quotes.
fn plain(text: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if !text.is_empty() && text.chars().all(good) {
        return Ok(());
    }
    let what = format!("the address {text:?}");
    Err(Failure::Program(Box::new(Error::Argument { what, reason: "socat would misread it" })))
}

/// The second address of a socat that gives its place, its connection as stdin and stdout, to the program in
/// `DBRECOVER_RUN`. socat takes a command apart at its blanks and unquotes it, so there is neither a blank nor a quote in
/// it; a tab is one only to the shell.
const BECOME: &str = "EXEC:sh -c set\t-f;IFS=;eval\t$DBRECOVER_RUN,nofork";

/// fd 3 keeps the stdout that the program has: it writes there, not into the connection.
const KEEP_STDOUT: &str = "exec 3>&1; exec \"$@\"";

/// One attempt.
pub(super) async fn run(
    ends: Ends<'_>,
    socat: &Socat,
    check: Check,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Digest, Failure> {
    let to = ends.to;
    plain(&socat.to)?;
    if let Some(from) = &socat.from {
        plain(from)?;
    }
    let made =
        to.command("sh").args(["-c", LOG_DIR, "sh"]).arg(&socat.log_dir).run().await.map_err(failure)?;
    let dir = socat.log_dir.join(made.text());
    let mut port = socat.port;
    for attempt in 0..socat.retries.max(1) {
        let log = dir.join(format!("{port}_{attempt}_{}", unique()));
        let listen = to.command("socat").args(["-d", "-d", "-lf"]).arg(&log);
        let mut listener = if check == Check::Stages {
            let first = listen.args(["-b", BUFFER, "-u"]).arg(listening(socat, port)).arg("STDOUT");
            Listener::gated(ends, first, &log).await?
        } else {
            let listen = becoming(listen.arg(listening(socat, port)), ends.receiver, " >&3 3>&-")?;
            Listener::sealed(ends, listen, &log).await?
        };
        match listener.listening().await? {
            true => {
                let last = ends.from.command("socat").args(["-b", BUFFER, "-u", "STDIN"]);
                let last = last.arg(connection(socat, port));
                let result = match check {
                    Check::Stages => listener.receive(last, progress).await,
                    Check::SealingStage => listener.receive_sealed(vec![ends.sender.clone(), last]).await,
                    Check::Sealed => {
                        let socat =
                            ends.from.command("socat").args(["-d", "-d"]).arg(connection(socat, port));
                        let sender = becoming(socat, ends.sender, " </dev/null 3>&-")?;
                        listener.receive_sealed(vec![sender]).await
                    }
                };
                if check == Check::Stages {
                    listener.tidy().await;
                }
                return result;
            }
            false => match port.checked_add(10) {
                Some(next) => {
                    listener.tidy().await;
                    port = next;
                }
                None => break,
            },
        }
    }
    Err(Failure::stream(format!("no free port from {} on, in steps of 10", socat.port)))
}

/// The address that takes one connection.
fn listening(socat: &Socat, port: u16) -> String {
    let (family, _) = address(&socat.to);
    let mut listen = format!("{family}-listen:{port},reuseaddr,accept-timeout={},{ALIVE}", ACCEPT.as_secs());
    if let Some(from) = &socat.from {
        let (_, from) = address(from);
        let bits = if from.starts_with('[') { 128 } else { 32 };
        listen.push_str(&format!(",range={from}/{bits}"));
    }
    listen
}

/// The address that makes it.
fn connection(socat: &Socat, port: u16) -> String {
    let (family, address) = address(&socat.to);
    format!("{family}:{address}:{port},retry={},interval=1,connect-timeout=10,{ALIVE}", socat.retries)
}

/// A socat that gives its place to `program` when it has its connection; `redirected` are the program's redirections.
fn becoming(socat: Command, program: &Command, redirected: &str) -> Result<Command, Failure> {
    let mut line = b"exec ".to_vec();
    line.extend(program.words().map_err(failure)?);
    line.extend_from_slice(redirected.as_bytes());
    let shell = program.host.command("sh").args(["-c", KEEP_STDOUT, "sh"]);
    let becoming = shell.wrapping(&socat.arg(BECOME)).surrounded_as(program);
    Ok(becoming.env("DBRECOVER_RUN", OsStr::from_bytes(&line)))
}
