//! From host to host over one TCP connection between two `socat`.
//!
//! The receiving socat listens for one connection, from the sender's address only where that is known.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gate::{Listener, unique};
use super::{Digest, Failure, failure};
use crate::{Command, Error, Host};

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

/// How long the receiving socat waits for a connection.
const ACCEPT: Duration = Duration::from_secs(60);

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

/// One attempt.
pub(super) async fn run(
    from: &Host,
    sender: &Command,
    to: &Host,
    receiver: &Command,
    socat: &Socat,
) -> Result<Digest, Failure> {
    plain(&socat.to)?;
    if let Some(from) = &socat.from {
        plain(from)?;
    }
    let day = to.command("date").arg("+%Y%m%d").run().await.map_err(failure)?.text();
    let dir = socat.log_dir.join(day);
    to.files().create_dir_all(&dir).await.map_err(failure)?;
    let mut port = socat.port;
    for attempt in 0..socat.retries.max(1) {
        let log = dir.join(format!("{port}_{attempt}_{}", unique()));
        let mut listener = Listener::start(to, listen(to, socat, port, &log), receiver, &log).await?;
        match listener.listening().await? {
            true => {
                let result = listener.receive(from, sender, connect(from, socat, port)).await;
                listener.tidy().await;
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

/// The program that takes one connection.
fn listen(host: &Host, socat: &Socat, port: u16, log: &Path) -> Command {
    let (family, _) = address(&socat.to);
    let mut listen = format!("{family}-listen:{port},reuseaddr,accept-timeout={}", ACCEPT.as_secs());
    if let Some(from) = &socat.from {
        let (_, from) = address(from);
        let bits = if from.starts_with('[') { 128 } else { 32 };
        listen.push_str(&format!(",range={from}/{bits}"));
    }
    host.command("socat").args(["-d", "-d", "-lf"]).arg(log).args(["-b", BUFFER, "-u", &listen, "STDOUT"])
}

/// The program that makes it.
fn connect(host: &Host, socat: &Socat, port: u16) -> Command {
    let (family, address) = address(&socat.to);
    let connect = format!("{family}:{address}:{port},retry={},interval=1,connect-timeout=10", socat.retries);
    host.command("socat").args(["-b", BUFFER, "-u", "STDIN", &connect])
}
