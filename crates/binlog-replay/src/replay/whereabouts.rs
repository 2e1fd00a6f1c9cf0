//! Which server of a cluster a target belongs to, as the worker is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::outcome::Mark;
use super::request::{SCHEMA_VERSION, TargetAt};
use crate::gtid::GtidSet;
use crate::locate::{locate, may_lie_before, named};
use crate::scan::{Index, scan_with_earlier};
use crate::target::{Position, Target};
use crate::version::Flavor;

/// Asks which binlogs hold a target and the transactions to leave out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhereRequest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Folders of binlogs, oldest first, by whatever name the caller has for their server.
    pub binlogs: BTreeMap<String, Vec<PathBuf>>,
    /// The target; a time or the end is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetAt>,
    /// GTIDs to leave out, as in [`Request::skip`](super::Request::skip).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

/// What the binlogs of one server hold of a target; the fields are those of [`Located`](crate::Located).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Whether these binlogs have anything of the target.
    pub here: bool,
    /// The GTIDs of the target that are of these binlogs, as [`TargetAt`] takes them.
    pub part: Option<String>,
    /// The transaction at the target.
    pub transaction: Option<Mark>,
    /// When the target was committed.
    #[serde(default)]
    pub time: Option<DateTime<Utc>>,
    /// The GTIDs to leave out that are in these binlogs, as [`Request::skip`](super::Request::skip) takes them.
    pub skip: Option<String>,
    /// Whether binlogs before these may have more of the GTIDs, and what they have matters: of a MySQL set up to and
    /// including which a replay goes, what comes before its last transaction does not.
    #[serde(default)]
    pub earlier: bool,
}

/// Looks for a target and for transactions to leave out; reads the binlogs and touches nothing.
///
/// # Errors
///
/// As [`locate`](crate::locate()), and for a text that is no GTID set or position.
pub fn whereabouts(request: &WhereRequest) -> Result<BTreeMap<String, Whereabouts>, Error> {
    if request.schema_version != SCHEMA_VERSION {
        return Err(Error::Schema { found: request.schema_version });
    }
    let mut indexes = Vec::new();
    for (server, folders) in &request.binlogs {
        indexes.push((server, scan_with_earlier(folders)?));
    }
    let file = match &request.target {
        Some(TargetAt::Position(position)) => Some(position.parse::<Position>()?.file),
        _ => None,
    };
    let has_file = |index: &Index| index.files.iter().any(|known| Some(&known.name) == file.as_ref());
    let ambiguous = indexes.iter().filter(|(_, index)| has_file(index)).count() > 1;
    let mut answer = BTreeMap::new();
    for (server, index) in &indexes {
        let mut found = Whereabouts::default();
        if ambiguous {
            // The position means another place in each of them; what is there does not matter.
            found.here = has_file(index);
        } else {
            found.look(index, request)?;
        }
        answer.insert((*server).clone(), found);
    }
    Ok(answer)
}

impl Whereabouts {
    fn look(&mut self, index: &Index, request: &WhereRequest) -> Result<(), Error> {
        let mut versions = index.files.iter().filter_map(|file| file.version.as_ref());
        let Some(flavor) = versions.next().map(|version| version.flavor) else {
            self.earlier = true;
            return Ok(());
        };
        let target = request.target.as_ref().map(|target| target.target(flavor)).transpose()?;
        if let Some(target) = &target {
            if let Some(located) = locate(index, target)? {
                self.here = true;
                self.part = located.part.map(|part| part.exact_text());
                self.transaction = located.transaction.as_ref().map(Mark::from);
                self.time = located.time;
            }
            if let Target::UntilGtid { set, inclusive } = target {
                let last_is_here = *inclusive && flavor == Flavor::MySql && self.transaction.is_some();
                self.earlier = !last_is_here && may_lie_before(index, set);
            }
        }
        if let Some(skip) = &request.skip {
            let set = GtidSet::parse_exact(flavor, skip)?;
            self.earlier |= may_lie_before(index, &set);
            let skip = named(index, &set)?;
            self.skip = Some(skip).filter(|skip| !skip.is_empty()).map(|skip| skip.exact_text());
        }
        Ok(())
    }
}
