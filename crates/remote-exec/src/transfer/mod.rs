//! Moves what a program on one host writes into the stdin of a program on another, checked end to end.
//!
//! The stream is counted and a CRC of 32 bits computed *on both hosts*. A transfer has succeeded when both programs ended with
//! 0 and both hosts saw the same bytes; a stream that was cut or altered on the way is an error and is sent again, as
//! often as the options say. Who computes is [`Check`]: a stage of stock tools beside each program, or the programs
//! themselves, which is several times as fast.
//!
//! | method | the way of the bytes | needs |
//! | --- | --- | --- |
//! | `Local` | a pipe on one host | both programs on one host |
//! | `Relay` | sender → here → receiver over the two connections | hosts that stream (local, ssh) |
//! | `Socat` | sender → receiver, one TCP connection, not encrypted | `socat` on both, a port open between them |
//! | `Scp` | sender → receiver, encrypted; by `ssh` run on the sender | the sender can log in to the receiver |
//!
//! The CRC finds accidents; it is no protection against somebody who alters the stream on purpose. `Relay` and `Scp`
//! are protected by ssh; `Socat` by the network it runs in, and by accepting connections from the sender's address only.
//! A sealed stream ([`seal`]) also proves that it belongs to this attempt, by a key that both programs are given as a
//! secret.

mod digest;
mod ends;
mod gate;
mod key;
mod relay;
mod scp;
pub mod seal;
mod socat;
mod splice;

use std::time::{Duration, Instant};

pub use digest::Digest;
use ends::Ends;
pub use scp::Scp;
pub use socat::Socat;

use crate::{Command, Error, Host};

/// The pause before a stream is sent again whose host was lost, growing up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// The way the bytes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Method {
    /// `Local` where both programs run on one host; else `Socat` where [`Options::socat`] is given, both hosts have socat,
    /// and no rate is to be held or the sender holds it; else `Relay`.
    #[default]
    Auto,
    /// A pipe on the one host that both programs run on.
    Local,
    /// Through this process.
    Relay,
    /// Over one TCP connection between two `socat`; [`Options::socat`] says how.
    Socat,
    /// Over one connection that `ssh` on the sender makes to the receiver; [`Options::scp`] says how.
    Scp,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Relay => "relay",
            Self::Socat => "socat",
            Self::Scp => "scp",
        })
    }
}

/// Who computes the digests of a stream, and who compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Check {
    /// A stage of stock tools on each host (`cksum`, and `tee` or `perl`); they are compared here.
    #[default]
    Stages,
    /// A stage of stock tools on the sender's host seals the stream ([`seal`]); the receiver compares. It ends with
    /// [`seal::BROKEN`] where the stream did not arrive as it was sent, and says [`Digest::line`] on stderr otherwise.
    ///
    /// Both get the key of the attempt in [`seal::KEY_VARIABLE`]. It is in no process list, but for that of a host
    /// whose agent shows commands there: against somebody who reads that list it is of no use, against mistakes it is.
    SealingStage,
    /// The sender seals the stream itself and says [`Digest::line`] on stderr; the receiver as above.
    Sealed,
}

/// How to move a stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The way the bytes take.
    pub method: Method,
    /// How often a stream that did not arrive is sent again. Default: 0.
    pub retries: u32,
    /// A program to run on the receiving host before a stream is sent again: to remove what the last attempt left.
    pub before_retry: Option<Command>,
    /// The most bytes per second, on average. The relay holds it; with [`Check::Sealed`] the sender has to.
    pub rate_limit: Option<u64>,
    /// Who computes and compares the digests.
    pub check: Check,
    /// How the two `socat` find each other; needed for [`Method::Socat`].
    pub socat: Option<Socat>,
    /// How the sender logs in to the receiver; needed for [`Method::Scp`].
    pub scp: Option<Scp>,
    /// How long one attempt may take. Without it, as long as bytes may come.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: Method::Auto,
            retries: 0,
            before_retry: None,
            rate_limit: None,
            check: Check::Stages,
            socat: None,
            scp: None,
            timeout: None,
        }
    }
}

/// What a transfer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The way the bytes took; never [`Method::Auto`].
    pub method: Method,
    /// What both sides saw: length and CRC.
    pub digest: Digest,
    /// How often the stream had to be sent again.
    pub retries: u32,
    /// How long the last attempt took.
    pub elapsed: Duration,
}

/// An attempt that failed: whose fault it was decides whether another one makes sense.
enum Failure {
    /// The stream did not arrive as it was sent.
    Stream { detail: String, source: Option<Box<Error>> },
    /// A program failed by itself; it would again.
    Program(Box<Error>),
}

/// Whether an error of a start is worth another attempt.
fn failure(error: Error) -> Failure {
    match error {
        Error::NoProgram { .. } | Error::NoDirectory { .. } | Error::Argument { .. } => {
            Failure::Program(Box::new(error))
        }
        error => Failure::Stream { detail: error.to_string(), source: Some(Box::new(error)) },
    }
}

impl Failure {
    fn stream(detail: impl Into<String>) -> Self {
        Self::Stream { detail: detail.into(), source: None }
    }
}

/// Runs `sender` on `from` and `receiver` on `to`, which reads what the sender writes.
///
/// `progress` gets the number of bytes moved so far in this attempt, at most a few times per second.
///
/// # Errors
///
/// [`Error::Transfer`] when the stream did not arrive within the allowed attempts; the program's own error when the
/// sender or the receiver failed by itself; [`Error::Unsupported`] for a method these hosts have not.
pub async fn stream(
    from: &Host,
    sender: &Command,
    to: &Host,
    receiver: &Command,
    options: &Options,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Moved, Error> {
    let method = choose(from, to, options).await?;
    let mut retries = 0;
    let mut pause = PAUSE.0;
    loop {
        let begun = Instant::now();
        // An attempt before this one may still be on its way.
        let (sender, receiver) = keyed(sender, receiver, options.check)?;
        let ends = Ends { from, sender: &sender, to, receiver: &receiver };
        let attempt = async {
            match (method, &options.socat, &options.scp) {
                (Method::Socat, Some(socat), _) => socat::run(ends, socat, options.check, progress).await,
                (Method::Scp, _, Some(scp)) => scp::run(ends, scp, options.check, progress).await,
                _ if options.check != Check::Stages => {
                    let limit = options.rate_limit.filter(|_| options.check != Check::Sealed);
                    relay::run_sealed(ends, limit, progress).await
                }
                _ => relay::run(ends, options, progress).await,
            }
        };
        let result = match options.timeout {
            Some(limit) => tokio::time::timeout(limit, attempt)
                .await
                .unwrap_or_else(|_| Err(Failure::stream(format!("it was not done within {limit:?}")))),
            None => attempt.await,
        };
        let (detail, source) = match result {
            Ok(digest) => return Ok(Moved { method, digest, retries, elapsed: begun.elapsed() }),
            Err(Failure::Program(error)) => return Err(*error),
            Err(Failure::Stream { detail, source }) => (detail, source),
        };
        tracing::warn!(from = from.name(), to = to.name(), attempt = retries + 1, %detail, "a transfer failed");
        if retries == options.retries {
            return Err(Error::Transfer {
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                attempts: retries + 1,
                detail,
                source,
            });
        }
        retries += 1;
        if source.is_some_and(|error| error.is_connection()) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        if let Some(command) = &options.before_retry {
            command.clone().run().await?;
        }
    }
}

/// Both programs as they run in one attempt: that they belong together is known to them by its key.
fn keyed(sender: &Command, receiver: &Command, check: Check) -> Result<(Command, Command), Error> {
    let (sender, receiver) = (sender.clone(), receiver.clone());
    if check == Check::Stages {
        return Ok((sender, receiver));
    }
    let key = key::random()?;
    let sender = match check {
        Check::SealingStage => digest::sealing(&sender, &key),
        _ => sender.passing_env(seal::KEY_VARIABLE, key.clone()),
    };
    Ok((sender, receiver.passing_env(seal::KEY_VARIABLE, key)))
}

/// Whether both names mean one machine as far as this crate can know.
fn one_machine(a: &Host, b: &Host) -> bool {
    std::sync::Arc::ptr_eq(&a.backend, &b.backend) || (a.kind() == b.kind() && a.kind() == crate::Kind::Local)
}

async fn choose(from: &Host, to: &Host, options: &Options) -> Result<Method, Error> {
    let cannot = |host: &Host, what| Err(Error::Unsupported { host: host.name().to_owned(), what });
    let can_limit = options.rate_limit.is_none() || options.check == Check::Sealed;
    let method = match options.method {
        Method::Auto if one_machine(from, to) && from.streams() => Method::Local,
        Method::Auto => {
            let may = options.socat.is_some() && can_limit;
            if may && from.find_program("socat").await?.is_some() && to.find_program("socat").await?.is_some()
            {
                Method::Socat
            } else {
                Method::Relay
            }
        }
        method => method,
    };
    match method {
        Method::Local if !one_machine(from, to) => cannot(to, "take a local transfer: it is another machine"),
        Method::Local | Method::Relay if !from.streams() => cannot(from, "stream what a program writes"),
        Method::Local | Method::Relay if !to.streams() => cannot(to, "stream into a program"),
        Method::Socat if options.socat.is_none() => cannot(to, "take a transfer by socat without a port"),
        Method::Scp if options.scp.is_none() => cannot(to, "take a transfer by scp without a login"),
        Method::Socat | Method::Scp if !can_limit => cannot(
            from,
            "hold a rate with socat or scp by stock tools; use the relay, or install dbrecover there",
        ),
        method => Ok(method),
    }
}
