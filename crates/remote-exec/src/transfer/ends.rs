//! Both ends of a sealed stream, and what their statuses mean together.

use std::time::Duration;

use super::{Digest, Failure, digest, failure, seal};
use crate::{Command, Error, Host, Output, Status};

/// How long a program whose partner ended badly has to end by itself and say why.
pub(super) const AFTERMATH: Duration = Duration::from_secs(10);

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
            received = &mut receiving => (tokio::time::timeout(AFTERMATH, sending).await.ok(), Some(received)),
        };
        self.judge(sent, received)
    }

    /// Whose fault it was. A program that failed by itself comes first: what its partner says then is a consequence.
    fn judge(
        self,
        sent: Option<Result<Output, Failure>>,
        received: Option<Result<Output, Failure>>,
    ) -> Result<Digest, Failure> {
        let said = match &sent {
            Some(Ok(output)) => digest::hear(&output.stderr),
            _ => digest::Heard::default(),
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
                let words = crate::command::tail(&output.stderr);
                Some(format!("the receiving side ended with {}: {words}", output.status))
            }
            Some(Ok(output)) => {
                let words = crate::command::tail(&output.stderr);
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
            (Some(Ok(_)), None) => said.digest.ok_or_else(|| {
                Failure::Program(Box::new(Error::Agent {
                    host: self.from.name().to_owned(),
                    detail: "the sender told no checksum".to_owned(),
                }))
            }),
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

/// A program that failed by itself.
pub(super) fn failed(host: &Host, command: &Command, status: Status, stderr_tail: String) -> Failure {
    let (host, command) = (host.name().to_owned(), command.shown());
    Failure::Program(Box::new(Error::Failed { host, command, status, stderr_tail }))
}

/// The statuses and words of a pipeline; what it writes to stdout is thrown away beyond what fits into memory.
pub(super) async fn ended(child: crate::Child) -> Result<Output, Failure> {
    child.wait_with_output(crate::DEFAULT_OUTPUT_LIMIT).await.map_err(failure)
}
