//! What a user asks for: where a recovery ends, and what it leaves out.

use backup_catalog::BackupName;
use binlog_replay::replay::TargetAt;
use binlog_replay::{Flavor, GtidSet, Position};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::Error;
use crate::config::{Config, RecoverTo};
use crate::naming::{mark, plain};
use crate::time::StopTime;

/// Longest name of a work directory that is made of a target; what is longer ends in a checksum.
const LONGEST_NAME: usize = 120;

/// Where a recovery ends.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Goal {
    /// The consistent point of a backup.
    Backup {
        /// The backup.
        backup: BackupName,
    },
    /// A moment.
    Time {
        /// As the user wrote it.
        text: String,
        /// The instant.
        instant: DateTime<Utc>,
    },
    /// A transaction, or a set of them.
    Gtid {
        /// The set, as the user wrote it.
        set: String,
        /// `true`: after its last transaction. `false`: before its first.
        inclusive: bool,
    },
    /// A place in the binlogs of one server.
    Position {
        /// The server, where the user named one.
        server: Option<String>,
        /// `FILE:POS`.
        position: String,
    },
}

impl Goal {
    /// The target that only the binlogs can say more about: which server it is of, and when it was.
    pub(crate) fn in_binlogs(&self) -> Option<TargetAt> {
        match self {
            Self::Backup { .. } | Self::Time { .. } => None,
            Self::Gtid { set, inclusive: true } => Some(TargetAt::UntilGtid(set.clone())),
            Self::Gtid { set, inclusive: false } => Some(TargetAt::BeforeGtid(set.clone())),
            Self::Position { position, .. } => Some(TargetAt::Position(position.clone())),
        }
    }
}

/// A target and what is left out on the way there, understood.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it ends.
    pub goal: Goal,
    /// The name of the work directory below its parent.
    pub name: String,
    /// The stop time, if the goal is one.
    pub stop: Option<StopTime>,
    /// GTIDs to leave out, as the user wrote them.
    pub skip: Option<String>,
}

impl Wanted {
    /// Understands the target of the configuration, or the one that is given in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if neither says one; [`Error::BadTime`], [`Error::BadTarget`] or a catalog error if it
    /// cannot be understood.
    pub fn read(
        config: &Config,
        recover_to: Option<&RecoverTo>,
        skip_gtid: Option<&str>,
    ) -> Result<Self, Error> {
        let skip = skip_gtid.or(config.skip_gtid.as_deref()).map(str::to_owned);
        let (goal, mut name, stop) = match recover_to.or(config.recover_to.as_ref()) {
            None => {
                return Err(Error::Config {
                    place: "configuration".to_owned(),
                    section: "recover-to",
                    key: "dir",
                    reason:
                        "is missing, and so are stop-datetime, until-gtid, before-gtid and until-position: \
                             say where to recover to"
                            .to_owned(),
                });
            }
            Some(RecoverTo::Backup(name)) => {
                let backup: BackupName = name.parse()?;
                (Goal::Backup { backup }, name.clone(), None)
            }
            Some(RecoverTo::Time(text)) => {
                let stop = StopTime::parse(text, config.misc.zone)?;
                let goal = Goal::Time { text: stop.text.clone(), instant: stop.instant };
                (goal, stop.directory_name(), Some(stop))
            }
            Some(RecoverTo::UntilGtid(set)) => {
                gtids("until-gtid", set)?;
                (Goal::Gtid { set: set.clone(), inclusive: true }, directory_name("until_gtid", set), None)
            }
            Some(RecoverTo::BeforeGtid(set)) => {
                gtids("before-gtid", set)?;
                (Goal::Gtid { set: set.clone(), inclusive: false }, directory_name("before_gtid", set), None)
            }
            Some(RecoverTo::UntilPosition(text)) => {
                let (server, position) = match text.split_once('/') {
                    Some((server, position)) => (Some(server.to_owned()), position),
                    None => (None, text.as_str()),
                };
                position.parse::<Position>().map_err(|e| bad("until-position", text, &e))?;
                let goal = Goal::Position { server, position: position.to_owned() };
                (goal, directory_name("until_position", text), None)
            }
        };
        if let Some(skip) = &skip {
            gtids("skip-gtid", skip)?;
            name = directory_name(&format!("{name}_skip_gtid"), skip);
        }
        Ok(Self { goal, name, stop, skip })
    }

    /// Whether the binlogs of the store must be looked at before anything can be planned.
    pub(crate) fn needs_binlogs(&self) -> bool {
        self.skip.is_some() || self.goal.in_binlogs().is_some()
    }
}

/// A set of single transactions as a user names them, of the family that its form tells.
pub(crate) fn gtids(what: &'static str, text: &str) -> Result<GtidSet, Error> {
    let flavor = if text.contains(':') { Flavor::MySql } else { Flavor::MariaDb };
    match GtidSet::parse_exact(flavor, text) {
        Ok(set) if set.is_empty() => Err(bad(what, text, &"it names no transaction")),
        Ok(set) => Ok(set),
        Err(error) => Err(bad(what, text, &error)),
    }
}

fn bad(what: &'static str, text: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::BadTarget { what, text: text.to_owned(), reason: reason.to_string() }
}

/// `PREFIX_TEXT`, the text as [`plain`] has it; what is too long ends in a [`mark`].
fn directory_name(prefix: &str, text: &str) -> String {
    let name = format!("{prefix}_{}", plain(text));
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let mark = mark(prefix.bytes().chain(text.bytes()));
    let kept: String = name.chars().take(LONGEST_NAME - 1 - mark.len()).collect();
    format!("{kept}_{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[backup-store]\ndir = /b\n[recovery-job-server]\nwork-dir = /w\n\
                          [misc]\nconnect-method = local\n[recover-to]\n";

    fn read(keys: &str) -> Result<Wanted, Error> {
        let config = Config::parse(&format!("{CONFIG}{keys}"), "r.conf")?;
        Wanted::read(&config, None, None)
    }

    #[test]
    fn each_kind_of_target_has_a_directory_of_its_own() {
        let name = |keys: &str| read(keys).unwrap().name;
        assert_eq!(name("until-gtid = 0-1-5"), "until_gtid_0_1_5");
        assert_eq!(name("before-gtid = 0-1-5"), "before_gtid_0_1_5");
        assert_eq!(name("until-position = s/bin.000001:4"), "until_position_s_bin.000001_4");
        assert_eq!(
            name("stop-datetime = 2026-02-03T04:05:06Z\nskip-gtid = 0-1-5"),
            "2026_02_03T04_05_06Z_skip_gtid_0_1_5"
        );
    }

    #[test]
    fn long_sets_give_names_that_a_file_system_takes_and_that_differ() {
        let sets: Vec<String> = (1..100).map(|n| format!("0-1-{n}")).collect();
        let (a, b) = (sets.join(","), sets[..98].join(","));
        let [a, b] = [a, b].map(|set| read(&format!("until-gtid = {set}")).unwrap().name);
        assert!(a.len() <= LONGEST_NAME && a != b, "{a} {b}");
        assert!(a.ends_with("_a8baf02b1882fdd1"), "{a}");
    }

    #[test]
    fn a_position_may_name_its_server() {
        let Goal::Position { server, position } =
            read("until-position = normal_0/bin.000003:120").unwrap().goal
        else {
            panic!("another goal");
        };
        assert_eq!((server.as_deref(), position.as_str()), (Some("normal_0"), "bin.000003:120"));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for keys in [
            "until-gtid = x",
            "before-gtid = 0-1",
            "until-position = bin.000001",
            "until-position = bin.000001:3",
            "stop-datetime = 2026-02-03T04:05:06Z\nskip-gtid = nothing",
            "until-gtid = 0-1-5\nbefore-gtid = 0-1-5",
        ] {
            let class = read(keys).unwrap_err().class();
            assert_eq!(class, crate::error::Class::Usage, "{keys}");
        }
    }
}
