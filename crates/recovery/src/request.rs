//! What somebody asks for: a configuration, a target, and how to get there.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::{Config, RecoverTo};
use crate::events::Observer;
use crate::plan::Wanted;
use crate::workdir::Earlier;

/// A recovery that somebody asks for.
#[derive(Clone)]
pub struct Request {
    /// The configuration.
    pub config: Config,
    /// Where to recover to, in place of what the configuration says.
    pub recover_to: Option<RecoverTo>,
    /// GTIDs to leave out, in place of what the configuration says.
    pub skip_gtid: Option<String>,
    /// The password of encrypted backups.
    pub password: Option<SecretString>,
    /// The running `dbrecover` program, which can be its own worker; `None` in another program.
    pub program: Option<PathBuf>,
    /// What to do with what an earlier, cut-off recovery left.
    pub earlier: Earlier,
    /// Leave even an incomplete newest backup where it is.
    pub read_only_store: bool,
    /// Cancels the recovery; it then ends what it started.
    pub cancel: CancellationToken,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Request {
    /// A recovery as the configuration says it.
    pub fn new(config: Config, observer: Arc<dyn Observer>) -> Self {
        Self {
            config,
            recover_to: None,
            skip_gtid: None,
            password: None,
            program: None,
            earlier: Earlier::Replace,
            read_only_store: false,
            cancel: CancellationToken::new(),
            observer,
        }
    }

    pub(crate) fn wanted(&self) -> Result<Wanted, Error> {
        Wanted::read(&self.config, self.recover_to.as_ref(), self.skip_gtid.as_deref())
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("recover_to", &self.recover_to).finish_non_exhaustive()
    }
}
