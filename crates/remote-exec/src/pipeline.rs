//! Several programs of one host, each reading what the one before it writes.

use std::time::Duration;

use crate::child::{self, Child};
use crate::command::{Command, Input, Spec};
use crate::{Error, Host, Output};

/// `a | b | c` on one host, with the exit status of every stage.
///
/// stdin is the first stage's, stdout the last stage's, stderr everybody's that was not sent elsewhere by
/// [`Command::stderr_to`]. All stages are one process group and end together.
#[derive(Debug, Clone)]
#[must_use = "a pipeline does nothing until it is run"]
pub struct Pipeline {
    host: Host,
    stages: Vec<Spec>,
    timeout: Option<Duration>,
}

impl Pipeline {
    pub(crate) fn new(host: Host, stages: Vec<Command>) -> Self {
        Self { host, stages: stages.into_iter().map(|c| c.spec).collect(), timeout: None }
    }

    /// Ends every stage when the pipeline runs longer than this. Timeouts of single stages are not looked at.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The pipeline for messages, secrets masked.
    pub fn shown(&self) -> String {
        child::shown(&self.stages)
    }

    /// Runs the pipeline to its end and collects what the last stage wrote. Any exit status is a result.
    ///
    /// # Errors
    ///
    /// As [`Command::output`]; [`Error::Argument`] without any stage.
    pub async fn output(self) -> Result<Output, Error> {
        let (host, mut stages) = self.ready()?;
        if matches!(stages[0].stdin, Input::Unset) {
            stages[0].stdin = Input::Null;
        }
        let limit = stages[stages.len() - 1].output_limit;
        child::start(&host, stages).await?.wait_with_output(limit).await
    }

    /// Like [`output`](Self::output), and it is an error unless every stage ended with 0.
    ///
    /// # Errors
    ///
    /// As `output`, and [`Error::Failed`].
    pub async fn run(self) -> Result<Output, Error> {
        let (host, command) = (self.host.clone(), self.shown());
        self.output().await?.checked(host.name(), &command)
    }

    /// Starts the pipeline with its streams in the caller's hands.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub async fn spawn(self) -> Result<Child, Error> {
        let (host, stages) = self.ready()?;
        child::start(&host, stages).await
    }

    fn ready(self) -> Result<(Host, Vec<Spec>), Error> {
        let mut stages = self.stages;
        let Some(first) = stages.first_mut() else {
            return Err(Error::Argument { what: "a pipeline".to_owned(), reason: "it has no stage" });
        };
        first.timeout = self.timeout;
        Ok((self.host, stages))
    }
}
