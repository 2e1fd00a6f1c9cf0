//! Where callers and an agent meet on a broker.

use std::path::PathBuf;
use std::time::Duration;

use super::link::HEARTBEAT;
use super::{DEFAULT_EXCHANGE, DEFAULT_TOPIC, Uri};

/// Where callers and an agent meet on a broker.
#[derive(Debug, Clone)]
pub struct Address {
    /// The broker.
    pub uri: Uri,
    /// The agent's name on the broker: its host's address as the callers know it.
    pub host: String,
    /// The agent's topic. Default: `rds-dbinit`; `rds-taskmanager` on storage nodes.
    pub topic: String,
    /// The exchange. Default: `greatrds`.
    pub exchange: String,
    /// With TLS, the certificates to trust; the system's unless given.
    pub ca_file: Option<PathBuf>,
    /// How often the connection is checked. Default: 30 s.
    pub heartbeat: Duration,
}

impl Address {
    /// The defaults for a broker and a name.
    pub fn new(uri: Uri, host: impl Into<String>) -> Self {
        Self {
            uri,
            host: host.into(),
            topic: DEFAULT_TOPIC.to_owned(),
            exchange: DEFAULT_EXCHANGE.to_owned(),
            ca_file: None,
            heartbeat: HEARTBEAT,
        }
    }

    /// The agent's own queue.
    pub fn queue(&self) -> String {
        format!("{}.{}", self.topic, self.host)
    }
}
