//! What a recovery tells whoever watches it.

use std::fmt;
use std::sync::Arc;

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A step began.
    Started {
        /// The server's folder; empty for a step of the whole recovery.
        server: String,
        /// The step, such as `unpack UTC…-full`.
        step: String,
    },
    /// A step goes on.
    Progress {
        /// The server's folder; empty for a step of the whole recovery.
        server: String,
        /// The step.
        step: String,
        /// How far it is.
        done: u64,
        /// Where it ends, if that is known.
        total: Option<u64>,
        /// What is counted: `bytes`, `transactions`.
        unit: &'static str,
        /// More words: the source time that a replay has reached.
        note: Option<String>,
    },
    /// A step ended well.
    Finished {
        /// The server's folder; empty for a step of the whole recovery.
        server: String,
        /// The step.
        step: String,
        /// How long it took.
        seconds: f64,
    },
    /// Something that a user should know.
    Warning(String),
    /// Something that helps to find a fault.
    Debug(String),
}

/// Takes events; called from many tasks, so it must be quick.
pub trait Observer: Send + Sync {
    /// Called for every event.
    fn event(&self, event: &Event);
}

/// An observer shared by all tasks of a recovery.
#[derive(Clone)]
pub(crate) struct Watch(Arc<dyn Observer>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self(observer)
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.0.event(&Event::Warning(text.into()));
    }

    pub(crate) fn debug(&self, text: impl Into<String>) {
        self.0.event(&Event::Debug(text.into()));
    }

    pub(crate) fn event(&self, event: &Event) {
        self.0.event(event);
    }

    /// Runs a step between its two events and says how long it took.
    pub(crate) async fn step<T, E>(
        &self,
        server: &str,
        step: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, f64), E> {
        let (server, step) = (server.to_owned(), step.to_owned());
        self.0.event(&Event::Started { server: server.clone(), step: step.clone() });
        let begun = std::time::Instant::now();
        let value = work.await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.0.event(&Event::Finished { server, step, seconds });
        Ok((value, seconds))
    }
}

/// An observer for those who watch nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event) {}
}
