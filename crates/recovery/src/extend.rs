//! Makes a finished recovery longer: its servers are taken over, and only what lies behind them is replayed.

use std::collections::BTreeMap;
use std::path::Path;

use backup_catalog::{BackupName, Catalog};
use binlog_replay::replay::GtidUse;
use remote_exec::Host;
use serde::Deserialize;

use crate::Error;
use crate::plan::{Plan, UsedFor, further_binlogs, planned_backup};
use crate::report::{EARLIER_REPORT, MAX_REPORT, REPORT};
use crate::workdir::{Earlier, WorkDir};

/// A finished recovery that is taken over, as its report tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Finished {
    /// Its name below the work directory.
    #[serde(skip)]
    pub name: String,
    plan: FinishedPlan,
    servers: Vec<FinishedServer>,
}

#[derive(Debug, Clone, Deserialize)]
struct FinishedPlan {
    for_testing: bool,
    #[serde(default)]
    servers: Vec<FinishedPlannedServer>,
}

#[derive(Debug, Clone, Deserialize)]
struct FinishedPlannedServer {
    folder: String,
    /// What it left out.
    #[serde(default)]
    skip: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct FinishedServer {
    folder: String,
    chain: Vec<String>,
    gtid_state: String,
    proved: bool,
    #[serde(default)]
    replay: FinishedReplay,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct FinishedReplay {
    planned: Option<FinishedRange>,
}

#[derive(Debug, Clone, Deserialize)]
struct FinishedRange {
    gtids: GtidUse,
}

impl Finished {
    /// What a recovery called `name` takes over: the one that the user names, or the one that a cut-off run took
    /// over already. `None` if it takes over none.
    ///
    /// # Errors
    ///
    /// [`Error::NotExtendable`] if there is no such finished recovery, or it cannot be made longer.
    pub(crate) async fn find(
        host: &Host,
        parent: &Path,
        name: &str,
        earlier: &Earlier,
    ) -> Result<Option<Self>, Error> {
        let (report, from) = match earlier {
            Earlier::Replace => return Ok(None),
            Earlier::Extend(from) => (parent.join(from).join(REPORT), from.clone()),
            Earlier::Resume => {
                let dir = WorkDir::begun(host, parent, name).await?;
                match crate::journal::Journal::read(host, &dir).await?.extends() {
                    None => return Ok(None),
                    // An extension of it was given up.
                    Some(from) if from == name => return Ok(None),
                    Some(from) => (dir.join(EARLIER_REPORT), from.to_owned()),
                }
            }
        };
        let refuse = |reason: &str| Error::NotExtendable { name: from.clone(), reason: reason.to_owned() };
        if from == name {
            return Err(refuse("it is at this target already"));
        }
        if from.is_empty() || from.starts_with('.') || from.contains('/') {
            return Err(refuse("that is not the name of a finished recovery below work-dir"));
        }
        let report = host.files().read_if_there(report, MAX_REPORT).await?;
        let report =
            report.ok_or_else(|| refuse("there is no finished recovery of that name below work-dir"))?;
        let mut finished: Self = serde_json::from_slice(&report)
            .map_err(|e| refuse(&format!("its report is not understood ({e}); recover anew")))?;
        finished.name = from.clone();
        finished.check().map_err(|reason| refuse(&reason))?;
        Ok(Some(finished))
    }

    fn check(&self) -> Result<(), String> {
        if self.plan.for_testing {
            return Err(
                "its servers were left running (for-testing) and may hold other data by now".to_owned()
            );
        }
        for server in &self.servers {
            // A state that is not empty may be of a time before the source gave GTIDs up.
            let planned = server.replay.planned.as_ref();
            if server.gtid_state.is_empty() || planned.is_some_and(|range| range.gtids != GtidUse::All) {
                let folder = &server.folder;
                return Err(format!("without GTIDs nothing in {folder} says where it stands; recover anew"));
            }
            if !server.proved {
                return Err(format!("where {} stands was never proved; recover anew", server.folder));
            }
        }
        Ok(())
    }

    /// The GTID state in which a server was left.
    pub(crate) fn state(&self, folder: &str) -> Option<&str> {
        self.servers.iter().find(|s| s.folder == folder).map(|s| s.gtid_state.as_str())
    }

    /// What the recovery of a server left out. It stays so: behind all that has come since it would be too late.
    fn left_out(&self, folder: &str) -> Option<&str> {
        self.plan.servers.iter().find(|server| server.folder == folder)?.skip.as_deref()
    }

    /// Makes of the plan of a recovery one that starts where this one ended: its chain is prepared already, of all
    /// later backups only the binlogs are used.
    ///
    /// # Errors
    ///
    /// [`Error::NotExtendable`] if its servers or backups are others.
    pub(crate) fn extend(&self, plan: &mut Plan, catalog: &Catalog) -> Result<(), Error> {
        let refuse = |reason: String| Error::NotExtendable { name: self.name.clone(), reason };
        if plan.tools.worker.is_none() {
            return Err(refuse(
                "the stock tools cannot go on in a server that holds what came before".to_owned(),
            ));
        }
        let theirs: BTreeMap<_, _> = self.servers.iter().map(|s| (s.folder.as_str(), s)).collect();
        if !plan.servers.iter().map(|s| s.folder.as_str()).eq(theirs.keys().copied()) {
            let other = theirs.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(refuse(format!("it has other servers: {other}")));
        }
        let Some(first) = self.servers.first() else { return Err(refuse("it has no servers".to_owned())) };
        let chain: Vec<BackupName> = first.chain.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let (Some(last), Some(end)) = (chain.last(), plan.selection.backups().last().cloned()) else {
            return Err(refuse("its report names no backup".to_owned()));
        };
        if end < *last {
            return Err(refuse(format!("it starts from {last}, which is behind the target")));
        }
        let later: Vec<_> = catalog.backups().filter(|b| b.name > *last && b.name <= end).collect();
        let mut backups = Vec::new();
        for name in &chain {
            let backup = catalog.get(name)?;
            let used_for = if name == &chain[0] { UsedFor::Full } else { UsedFor::Incremental };
            backups.push(planned_backup(backup, used_for));
        }
        backups.extend(later.iter().map(|backup| planned_backup(backup, UsedFor::Binlogs)));
        plan.selection.chain.clone_from(&chain);
        plan.selection.next = later.last().map(|backup| backup.name.clone());
        plan.backups = backups;
        plan.extends = Some(self.name.clone());
        let choices = catalog.recoverable(&plan.selection, &plan.without_groups)?;
        for server in &mut plan.servers {
            let choice = choices.iter().find(|choice| choice.folder == server.folder);
            let Some(choice) = choice else {
                return Err(refuse(format!("its backups have no {}", server.folder)));
            };
            let later = || later.iter().map(|backup| &backup.name);
            server.further_binlogs = further_binlogs(catalog, choice, later())?;
            server.take_over(choice.clone(), &self.name, later());
            if let Some(earlier) = self.left_out(&server.folder) {
                server.stop.push_str(&format!(", as before without {earlier}"));
                server.skip = Some(match server.skip.take() {
                    Some(skip) => format!("{earlier},{skip}"),
                    None => earlier.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finished(planned: serde_json::Value) -> Finished {
        let server = json!({"folder": "a", "chain": ["x"], "gtid_state": "u:1-3", "proved": true,
                            "replay": {"method": "relay", "planned": planned}});
        serde_json::from_value(json!({"plan": {"for_testing": false}, "servers": [server]})).unwrap()
    }

    #[test]
    fn a_state_that_names_only_some_of_what_was_replayed_is_not_gone_on_from() {
        for gtids in ["none", "some"] {
            let refused = finished(json!({"gtids": gtids, "range": {}})).check().unwrap_err();
            assert!(refused.contains("without GTIDs nothing in a says"), "{refused}");
        }
        finished(json!({"gtids": "all", "range": {}})).check().unwrap();
        // The stock tools plan nothing.
        finished(json!(null)).check().unwrap();
    }
}
