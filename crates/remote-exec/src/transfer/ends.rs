//! Both ends of a sealed stream, and what their statuses mean together.

use std::time::Duration;

use super::digest::{self, Heard};
use super::{Digest, Failure, failure, seal};
use crate::command::Sink;
use crate::{Command, Error, Host, Output, Status};

/// How long a program whose partner ended badly has to end by itself and say why.
pub(super) const AFTERMATH: Duration = Duration::from_secs(10);

/// How long the sender of a stream that arrived whole has to say so.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a file may take in which a receiver said how it ended, and the most of it that is read, in bytes.
const WORDS: (Duration, &str) = (Duration::from_secs(30), "4096");

/// The two programs.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) from: &'a Host,
    pub(super) sender: &'a Command,
    pub(super) to: &'a Host,
    pub(super) receiver: &'a Command,
}

impl Ends<'_> {
    /// Waits for both ends. The sender is the first stage of what sends.
    pub(super) async fn meet(
        self,
        sending: impl Future<Output = Result<Output, Failure>>,
        receiving: impl Future<Output = Result<Output, Failure>>,
    ) -> Result<Digest, Failure> {
        tokio::pin!(sending, receiving);
        // One that is not done in time is dropped, and so ended.
        let (sent, received) = tokio::select! {
            sent = &mut sending => {
                let received = if sent.as_ref().is_ok_and(|output| output.status.success()) {
                    Some(receiving.await)
                } else {
                    tokio::time::timeout(AFTERMATH, receiving).await.ok()
                };
                (Some(sent), received)
            }
            received = &mut receiving => {
                // Of a stream that arrived whole, only what the sender says of it is missing: an agent tells it late.
                let whole = received.as_ref().is_ok_and(|output| output.status.success());
                let patience = if whole { ANSWER } else { AFTERMATH };
                (tokio::time::timeout(patience, sending).await.ok(), Some(received))
            }
        };
        let heard = match &received {
            Some(Ok(output)) => self.heard(output).await,
            _ => Ok(Heard::default()),
        };
        self.judge(sent, received, heard)
    }

    /// What the receiver said, wherever its stderr went.
    async fn heard(self, output: &Output) -> Result<Heard, Error> {
        let spec = &self.receiver.spec;
        let Sink::File(path) = &spec.stderr else { return Ok(digest::hear(&output.stderr)) };
        let mut end = self.to.command("tail").args(["-c", WORDS.1, "--"]).arg(path).timeout(WORDS.0);
        end.spec.current_dir.clone_from(&spec.current_dir);
        let mut heard = digest::hear(&end.run().await?.stdout);
        // Whose file it is knows what else is in there.
        heard.last_lines = heard.last_lines.lines().last().unwrap_or_default().to_owned();
        Ok(heard)
    }

    /// Whose fault it was. A program that failed by itself comes first: what its partner says then is a consequence.
    fn judge(
        self,
        sent: Option<Result<Output, Failure>>,
        received: Option<Result<Output, Failure>>,
        heard: Result<Heard, Error>,
    ) -> Result<Digest, Failure> {
        let said = match &sent {
            Some(Ok(output)) => digest::hear(&output.stderr),
            _ => Heard::default(),
        };
        if let Some(Ok(output)) = &sent {
            let status = output.statuses.first().copied().unwrap_or(output.status);
            if !status.success() && status.code() != seal::NO_RECEIVER && status.signal().is_none() {
                return Err(failed(self.from, self.sender, status, said.last_lines));
            }
        }
        let receiver = match received {
            Some(Ok(output)) if output.status.success() => None,
            Some(Ok(output)) if output.status.code() == seal::BROKEN || output.status.signal().is_some() => {
                let words = heard.as_ref().map_or("", |heard| &heard.last_lines);
                Some(format!("the receiving side ended with {}: {words}", output.status))
            }
            Some(Ok(output)) => {
                let words = heard.map(|heard| heard.last_lines).unwrap_or_default();
                return Err(failed(self.to, self.receiver, output.status, words));
            }
            Some(Err(Failure::Program(error))) => return Err(Failure::Program(error)),
            Some(Err(other)) => match &sent {
                // What went wrong on the sending side tells more.
                Some(Ok(output)) if !output.status.success() => Some(String::new()),
                _ => return Err(other),
            },
            None => Some("the receiving side does not end".to_owned()),
        };
        match (sent, receiver) {
            (Some(Ok(_)), None) => {
                let heard = heard.map_err(|error| Failure::Program(Box::new(error)))?;
                self.agree(said.digest, heard.digest)
            }
            // A receiver that refused somebody else's stream tells why its sender found nobody.
            (Some(Err(Failure::Stream { detail, source })), Some(receiver)) if !receiver.is_empty() => {
                Err(Failure::Stream { detail: format!("{detail}; {receiver}"), source })
            }
            (Some(Err(sending)), _) => Err(sending),
            (Some(Ok(output)), Some(receiver)) => Err(Failure::stream(if output.status.success() {
                receiver
            } else {
                format!("the sending side ended with {}: {}; {receiver}", output.status, said.last_lines)
            })),
            (None, receiver) => {
                Err(Failure::stream(receiver.unwrap_or_else(|| "the sending side does not end".to_owned())))
            }
        }
    }
}

impl Ends<'_> {
    /// The digest that both ends told. What only one of them knows of, or each in its own way, was not this transfer.
    fn agree(self, sent: Option<Digest>, received: Option<Digest>) -> Result<Digest, Failure> {
        let (from, to) = (self.from.name().to_owned(), self.to.name().to_owned());
        let silent = |host, end| Error::Agent { host, detail: format!("the {end} told no checksum") };
        Err(Failure::Program(Box::new(match (sent, received) {
            (Some(sent), Some(received)) if sent == received => return Ok(sent),
            (Some(sent), Some(received)) => {
                Error::Mistaken { from, to, command: self.receiver.shown(), sent, received }
            }
            (None, _) => silent(from, "sender"),
            (_, None) => silent(to, "receiver"),
        })))
    }
}

/// A program that failed by itself.
pub(super) fn failed(host: &Host, command: &Command, status: Status, stderr_tail: String) -> Failure {
    let (host, command) = (host.name().to_owned(), command.shown());
    Failure::Program(Box::new(Error::Failed { host, command, status, stderr_tail }))
}

/// The statuses and words of a pipeline; what it writes to stdout is thrown away beyond what fits into memory.
pub(super) async fn ended(child: crate::Child) -> Result<Output, Failure> {
    child.wait_with_output(crate::DEFAULT_OUTPUT_LIMIT).await.map_err(failure)
}
