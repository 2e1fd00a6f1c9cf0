//! From catalog, configuration, target and facts to a plan, or to the reason why there is none.

use std::collections::BTreeSet;

use backup_catalog::{Backup, BackupName, Catalog, Kind, Selection, ServerChoice, Target};
use binlog_replay::replay::TargetAt;

use super::{Facts, Goal, Plan, PlannedBackup, PlannedServer, UsedFor, Wanted};
use super::{covered, room};
use crate::config::{Config, Connect, ReplayMethod};
use crate::facts::LEFT_ALONE;
use crate::hosts::Hosts;
use crate::locate::no_worker;
use crate::points::Points;
use crate::time::StopTime;
use crate::{Error, SCHEMA_VERSION};

/// Decides everything about a recovery.
///
/// # Errors
///
/// Whatever can be known beforehand: no such backup, a time outside every window, a missing link, a missing
/// entry, a gap in the binlogs, a tool that does not fit, too little room.
pub fn make(
    catalog: &Catalog,
    config: &Config,
    wanted: &Wanted,
    hosts: &Hosts,
    facts: &Facts,
) -> Result<Plan, Error> {
    let Wanted { goal, name, .. } = wanted.clone();
    let zone = config.misc.zone;
    let located = facts.located.as_ref();
    let stop = match located.and_then(|located| located.time) {
        Some(time) => Some(StopTime::at(time, zone)),
        None => wanted.stop.clone(),
    };
    let selection = select(catalog, &goal, stop.as_ref(), config, facts)?;
    let without = known_groups(catalog, &selection, &config.without_groups)?;
    let choices = catalog.recoverable(&selection, without)?;
    let mut backups = Vec::new();
    for backup_name in selection.backups() {
        let backup = catalog.get(backup_name)?;
        let used_for = if Some(backup_name) == selection.next.as_ref() {
            UsedFor::Binlogs
        } else if backup.kind() == Kind::Full {
            UsedFor::Full
        } else {
            UsedFor::Incremental
        };
        backups.push(planned_backup(backup, used_for));
    }
    let stock = facts.tools.worker.is_none();
    if stock && located.is_some() {
        return Err(no_worker(hosts, &facts.tools));
    }
    if let (true, Some(stop), Some(_)) = (stock, &stop, &selection.next) {
        whole_second(stop)?;
    }
    let parallel = config.misc.parallel.unwrap_or(facts.cores).clamp(1, choices.len().max(1));
    let buffer_pool = room::buffer_pool(facts.memory, parallel);
    let used = backups.iter().map(|backup: &PlannedBackup| (&backup.name, backup.used_for));
    let needed = room::needed(catalog, used, &choices, stock, buffer_pool)?;
    check_work_dir(config, facts)?;
    let work_dir = config.work_dir.join(&name);
    // What a finished recovery needs is there already.
    if facts.free < needed && facts.extends.is_none() {
        return Err(Error::NoSpace {
            host: hosts.job.name().to_owned(),
            path: config.work_dir.clone(),
            needed,
            free: facts.free,
        });
    }
    let mut warnings = config.warnings.clone();
    // A finished recovery holds what came before.
    if facts.extends.is_none() {
        warnings.extend(covered::check(catalog, &selection, &choices)?);
    }
    for doubt in &selection.doubts {
        warnings.push(format!(
            "the binlogs of {} and {} do not meet on {}; the recovery goes by the physical backups there",
            doubt.earlier,
            doubt.later,
            doubt.servers.join(", ")
        ));
    }
    let time_zone = zone.variable();
    let elsewhere = hosts.job.kind() != remote_exec::Kind::Local;
    warnings.extend(doubt_of_zone(time_zone.as_deref(), facts.knows_zone, hosts.job.name(), elsewhere));
    let mut to_trash = catalog.newest_incomplete().cloned();
    if let Some(name) = to_trash.take_if(|_| facts.newest_is_written) {
        warnings.push(format!(
            "backup {name} is not complete, and was written to within the last {} minutes: it may be being taken right \
             now. It is not used, and left where it is",
            LEFT_ALONE.as_secs() / 60
        ));
    }
    let mut servers = Vec::new();
    for choice in choices {
        let further = further_binlogs(catalog, &choice, selection.next.iter())?;
        if let (Some(first), true) = (further.first(), stock) {
            return Err(Error::Incomplete {
                what: format!(
                    "the master of {} changed before the stop time (see {first}), and the stock tools cannot go on with \
                     another server's binlogs; recover with a worker, or to a consistent point",
                    choice.group
                ),
            });
        }
        servers.push(PlannedServer {
            further_binlogs: further,
            ..planned_server(choice, &selection, stop.as_ref(), facts, config)
        });
    }
    let transfer = if hosts.shared_store {
        "none: the job server reads the store itself".to_owned()
    } else {
        format!("{:?} over {}", config.misc.transfer, connect_name(config.misc.connect)).to_lowercase()
    };
    let mut plan = Plan {
        schema_version: SCHEMA_VERSION,
        goal,
        backups,
        store: hosts.store.name().to_owned(),
        store_dir: config.store_dir.clone(),
        job_server: hosts.job.name().to_owned(),
        work_dir,
        transfer,
        tools: facts.tools.clone(),
        prepare: format!(
            "{} ({} {})",
            facts.prepare.program(),
            facts.prepare.kind(),
            facts.prepare.version()
        ),
        replay_method: if stock { ReplayMethod::Pipe } else { config.misc.replay },
        parallel,
        buffer_pool,
        bytes_needed: needed,
        bytes_free: facts.free,
        compressed: false,
        mysqld_user: facts.mysqld_user.clone(),
        time_zone,
        for_testing: config.misc.for_testing,
        servers,
        without_groups: without.to_vec(),
        looked_into: located.map(|located| located.decrypted.clone()).unwrap_or_default(),
        to_trash,
        warnings,
        extends: None,
        name,
        selection,
        stop,
    };
    if let Some(finished) = &facts.extends {
        finished.extend(&mut plan, catalog)?;
    }
    Ok(plan)
}

/// What is wrong with the zone that the temporary servers are told, if something is.
fn doubt_of_zone(variable: Option<&str>, known: bool, job: &str, elsewhere: bool) -> Option<String> {
    let meant = "what statements in the binlogs say in local time would be read";
    match variable {
        Some(zone) => {
            (!known).then(|| format!("{job} has no time zone {zone}: {meant} as UTC; install tzdata there"))
        }
        None => elsewhere.then(|| {
            format!(
                "this machine's time zone has no name: {meant} in the zone of {job}; set time-zone in [misc]"
            )
        }),
    }
}

/// Refuses a work directory in the store.
pub(crate) fn check_work_dir(config: &Config, facts: &Facts) -> Result<(), Error> {
    if !facts.work_dir_in_store {
        return Ok(());
    }
    Err(Error::Config {
        place: "configuration".to_owned(),
        section: "recovery-job-server",
        key: "work-dir",
        reason: format!("lies in the backup store {}", config.store_dir.display()),
    })
}

/// The backups for a goal.
fn select(
    catalog: &Catalog,
    goal: &Goal,
    stop: Option<&StopTime>,
    config: &Config,
    facts: &Facts,
) -> Result<Selection, Error> {
    // What the groups that are left out lack is in nobody's way.
    let wanted = &catalog.without_groups(&config.without_groups);
    let stop = match (goal, stop) {
        (Goal::Backup { backup }, _) => return Ok(wanted.select(&Target::Backup(backup.clone()))?),
        (_, Some(stop)) => stop,
        (_, None) => return Err(Error::Incomplete { what: "nothing says when the target was".to_owned() }),
    };
    let outside = || backup_catalog::Error::Outside { time: stop.local, windows: wanted.windows() };
    let points = Points::of(catalog, config.misc.zone, &facts.written);
    // Local times of the backup machine are there twice when its clocks are set back; instants are not.
    let (in_utc, time) = (points.in_utc(wanted), stop.instant.naive_utc());
    let mut selection = match (goal, &facts.located) {
        (Goal::Gtid { .. } | Goal::Position { .. }, Some(located)) => {
            let mut around = in_utc.around(time).into_iter();
            around.find(|selection| located.is_in(catalog, selection)).ok_or_else(outside)?
        }
        _ => in_utc.select(&Target::Time(time)).map_err(|error| match error {
            backup_catalog::Error::Outside { .. } => outside(),
            error => error,
        })?,
    };
    points.check(catalog, &selection, stop)?;
    selection.stop = selection.stop.and(Some(stop.local));
    Ok(selection)
}

/// The stock tools' stop times are whole seconds; up to one of commits would be missing.
fn whole_second(stop: &StopTime) -> Result<(), Error> {
    if stop.instant.timestamp_subsec_nanos() == 0 {
        return Ok(());
    }
    let whole = stop.local.format("%Y-%m-%d %H:%M:%S");
    let reason = format!(
        "the stock tools know whole seconds only: recover to {whole}, or with the worker (toolchain)"
    );
    Err(Error::BadTime { text: stop.text.clone(), reason })
}

/// The groups that are to be left out, each of which some backup of the selection must hold.
fn known_groups<'a>(
    catalog: &Catalog,
    selection: &Selection,
    without: &'a [String],
) -> Result<&'a [String], Error> {
    let mut known = BTreeSet::new();
    for name in selection.backups() {
        known.extend(catalog.get(name)?.groups());
    }
    match without.iter().find(|group| !known.contains(group.as_str())) {
        None => Ok(without),
        Some(group) => Err(Error::BadTarget {
            what: "without-group",
            text: group.clone(),
            reason: format!("the groups are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        }),
    }
}

/// `BACKUP/FOLDER` of further masters whose binlogs go on where those of the server's own master end.
pub(crate) fn further_binlogs<'a>(
    catalog: &Catalog,
    choice: &ServerChoice,
    later: impl Iterator<Item = &'a BackupName>,
) -> Result<Vec<String>, Error> {
    let mut further = Vec::new();
    for name in later {
        let folders = choice.later_masters(catalog.get(name)?);
        further.extend(folders.into_iter().map(|folder| format!("{name}/{folder}")));
    }
    Ok(further)
}

fn connect_name(connect: Connect) -> &'static str {
    match connect {
        Connect::Local => "local",
        Connect::Ssh => "ssh",
        Connect::RabbitAgent => "rabbit-agent",
        Connect::AdmAgent => "adm-agent",
    }
}

/// One backup, as it takes part.
pub(crate) fn planned_backup(backup: &Backup, used_for: UsedFor) -> PlannedBackup {
    PlannedBackup {
        name: backup.name.clone(),
        used_for,
        encrypted: backup.encrypted,
        bytes: backup.bytes,
        consistent_point: backup.consistent_point.to_string(),
    }
}

fn planned_server(
    choice: ServerChoice,
    selection: &Selection,
    stop: Option<&StopTime>,
    facts: &Facts,
    config: &Config,
) -> PlannedServer {
    let line = &choice.line;
    let located = facts.located.as_ref();
    let at_target = located.and_then(|located| located.groups.get(&choice.group));
    let skip = located.and_then(|located| located.skip.get(&choice.group)).cloned();
    let (target, mut stop_text) = match (at_target, stop, &selection.next) {
        (Some(at), ..) => (at.target.clone(), at.to_string()),
        (None, Some(stop), Some(_)) => {
            let text = format!("before the first transaction committed at or after {}", stop.text);
            (TargetAt::Time(stop.instant), text)
        }
        _ => {
            let position = format!("{}:{}", line.consistent.file, line.consistent.offset);
            (TargetAt::Position(position.clone()), position)
        }
    };
    if let Some(skip) = &skip {
        stop_text.push_str(&format!(", without {skip}"));
    }
    let mut steps = Vec::new();
    for backup in &selection.chain {
        steps.push(format!("unpack {backup}"));
    }
    for backup in &selection.chain {
        steps.push(format!("prepare {backup}"));
    }
    steps.push("start the temporary server".to_owned());
    let method = if facts.tools.worker.is_none() { ReplayMethod::Pipe } else { config.misc.replay };
    steps.push(format!("replay ({}) to {stop_text}", format!("{method:?}").to_lowercase()));
    steps.push("prove the GTID state".to_owned());
    steps.push(if config.misc.for_testing { "leave it running" } else { "shut it down" }.to_owned());
    PlannedServer {
        group: choice.group.clone(),
        server: choice.server.clone(),
        folder: choice.folder.clone(),
        role: choice.role,
        start: format!("{}:{}", line.start.file, line.start.offset),
        further_binlogs: Vec::new(),
        stop: stop_text,
        skip,
        steps,
        target,
        choice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Zone;

    #[test]
    fn servers_that_would_run_in_another_zone_are_told() {
        let doubt = |variable, known, elsewhere| doubt_of_zone(variable, known, "job", elsewhere);
        assert_eq!(doubt(Some("Asia/Shanghai"), true, true), None);
        assert!(
            doubt(Some("Asia/Shanghai"), false, true).unwrap().contains("has no time zone Asia/Shanghai")
        );
        assert!(doubt(Some("Asia/Shanghai"), false, false).unwrap().contains("install tzdata there"));
        assert_eq!(doubt(None, true, false), None, "it is this machine's");
        assert!(doubt(None, true, true).unwrap().contains("in the zone of job; set time-zone"));
    }

    #[test]
    fn a_fraction_of_a_second_is_not_cut_off_unsaid() {
        let stop = |text: &str| StopTime::parse(text, Zone::parse("+08:00").unwrap()).unwrap();
        whole_second(&stop("2026-02-03 04:05:06.000")).unwrap();
        for text in ["2026-02-03 04:05:06.5", "2026-02-02T20:05:06.000001Z"] {
            let error = whole_second(&stop(text)).unwrap_err().to_string();
            assert!(error.contains("recover to 2026-02-03 04:05:06, or"), "{error}");
        }
    }
}
