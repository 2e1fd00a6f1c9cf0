//! Recoveries to transactions and binlog positions: found with `dbrecover binlog find`, judged by the truth.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Local, NaiveDateTime, TimeDelta, Utc};
use lab::recovery::{Job, dbrecover};
use lab::truth::{Moment, State, differences};
use lab::{Store, Truth};
use serde_json::Value;

const GROUP: &str = "normal_0";
const OTHER: &str = "auth";

/// One transaction as `binlog find --json` prints it.
#[derive(Debug, Clone)]
struct Found {
    gtid: String,
    time: DateTime<Utc>,
    start: String,
    end: String,
    statements: Vec<String>,
}

/// What `dbrecover binlog find` finds in a group's binlogs of the whole store.
fn find(store: &Store, group: &str, args: &[&str]) -> Result<Vec<Found>> {
    let folder = &store.truth.folders[group];
    let folders = store.truth.points.iter().map(|point| store.dir.join(&point.backup).join(folder));
    let mut command = Command::new(dbrecover()?);
    command.args(["binlog", "find", "--json", "--limit", "100000"]).args(args).args(folders);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let transactions = document["transactions"].as_array().context("no transactions")?;
    transactions
        .iter()
        .map(|t| {
            let statements = t["statements"].as_array().context("no statements")?;
            Ok(Found {
                gtid: text(&t["gtid"])?,
                time: text(&t["time"])?.parse()?,
                start: text(&t["start"])?,
                end: text(&t["end"])?,
                statements: statements.iter().map(text).collect::<Result<_>>()?,
            })
        })
        .collect()
}

fn local(time: DateTime<Utc>) -> NaiveDateTime {
    time.with_timezone(&Local).naive_local()
}

fn moment_at(truth: &Truth, time: NaiveDateTime) -> Option<&Moment> {
    truth.moments.iter().find(|moment| moment.time == time)
}

/// What the recovered server of a group holds.
fn state(job: &Job, truth: &Truth, group: &str) -> Result<State> {
    truth.state_of(&job.work_dir().join("datadir").join(&truth.folders[group]))
}

fn recovered(store: &Store, keys: &[(&str, &str)]) -> Result<Job> {
    let mut job = Job::new(store)?;
    for (key, value) in keys {
        job.set("recover-to", key, value);
    }
    job.succeed().with_context(|| format!("{keys:?}"))?;
    Ok(job)
}

/// A `DROP TABLE` between the first two backups, and a later moment that is known. On a server whose commit times
/// are whole seconds the moment of its own second is known, too.
fn a_drop(store: &Store) -> Result<(Found, &Moment)> {
    let truth = &store.truth;
    let (from, to) = (truth.points[0].time, truth.points[1].time);
    let second = TimeDelta::seconds(1);
    let drops = find(store, GROUP, &["--kind", "ddl", "--where-text", "drop table"])?;
    let usable = drops.into_iter().filter(|drop| local(drop.time) > from + second);
    usable
        .filter_map(|drop| {
            let later = truth.moments.iter().find(|m| m.time > local(drop.time) + second && m.time < to)?;
            moment_at(truth, local(drop.time))?;
            Some((drop, later))
        })
        .next()
        .context("the lab dropped no table at a second that is known")
}

/// The worked example of docs/binlogs.md: find the `DROP TABLE`, recover the cluster to just before it, to just
/// behind it, and to a later moment without it.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_drop_table_is_found_and_the_cluster_recovered_before_it_and_without_it() -> Result<()> {
    let store = Store::masters()?;
    let truth = &store.truth;
    let (drop, later) = a_drop(&store)?;
    let number = drop.statements[0].split("`moved ").nth(1).and_then(|rest| rest.split('`').next());
    let table = format!("`moved {}`", number.with_context(|| format!("{drop:?}"))?);
    let of_table = |state: &State| state.tables.keys().filter(|name| name.ends_with(&table)).count();

    let job = recovered(&store, &[("before-gtid", &drop.gtid)])?;
    let before = state(&job, truth, GROUP)?;
    assert_eq!(of_table(&before), 1, "{table} is there just before it was dropped");
    // The other group ends at the commit time of the DROP TABLE.
    let at_drop = moment_at(truth, local(drop.time)).context("chosen so")?;
    assert_eq!(differences(&at_drop.groups[OTHER], &state(&job, truth, OTHER)?), Vec::<String>::new());

    let job = recovered(&store, &[("until-gtid", &drop.gtid)])?;
    let behind = state(&job, truth, GROUP)?;
    let changed = differences(&before, &behind);
    assert!(
        changed.len() == 2
            && changed[0].starts_with("GTID: ")
            && changed[0].ends_with(&format!("found {}", drop.gtid))
            && changed[1].contains(&table)
            && changed[1].ends_with("is missing"),
        "{changed:?}"
    );

    let time = later.time.to_string();
    let job = recovered(&store, &[("stop-datetime", &time), ("skip-gtid", &drop.gtid)])?;
    let kept = differences(&later.groups[GROUP], &state(&job, truth, GROUP)?);
    assert!(
        kept.len() == 1 && kept[0].contains(&table) && kept[0].ends_with("should not be there"),
        "{kept:?}"
    );
    assert_eq!(differences(&later.groups[OTHER], &state(&job, truth, OTHER)?), Vec::<String>::new());
    Ok(())
}

/// The first transaction that is not in the state of a moment, and the last one that is.
fn around(store: &Store, moment: &Moment) -> Result<(Found, Found)> {
    let all = find(store, GROUP, &[])?;
    let at = all.iter().position(|t| local(t.time) >= moment.time).context("no commit behind the moment")?;
    let last = at.checked_sub(1).and_then(|before| all.get(before)).context("no commit before the moment")?;
    Ok((last.clone(), all[at].clone()))
}

fn a_moment(truth: &Truth, from: usize) -> Result<&Moment> {
    let busy = truth.between(from, from + 1, true);
    busy.get(busy.len() / 2).copied().context("the lab saw no such moment")
}

fn three_ways_to_one_transaction(store: &Store) -> Result<()> {
    let truth = &store.truth;
    let moment = a_moment(truth, 1)?;
    let (last, next) = around(store, moment)?;
    let position = format!("{}/{}", truth.folders[GROUP], last.end);
    for (key, value) in
        [("before-gtid", &next.gtid), ("until-gtid", &last.gtid), ("until-position", &position)]
    {
        let job = recovered(store, &[(key, value)])?;
        let found = differences(&moment.groups[GROUP], &state(&job, truth, GROUP)?);
        assert_eq!(found, Vec::<String>::new(), "{key} = {value}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn gtids_and_positions_reach_the_same_state() -> Result<()> {
    three_ways_to_one_transaction(&Store::masters()?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn gtids_and_positions_reach_the_same_state_of_replicas() -> Result<()> {
    let store = Store::replicas()?;
    // Replicas' backups come with the binlogs of their masters, which lie in folders of their own.
    let masters: BTreeMap<_, _> = store
        .truth
        .folders
        .iter()
        .map(|(group, folder)| {
            let server = store.dir.join(&store.truth.points[0].backup).join(folder);
            let master = std::fs::read_to_string(server.join("master_dir"))?.trim().to_owned();
            Ok((group.clone(), master))
        })
        .collect::<Result<_>>()?;
    let by_master = Store { truth: Truth { folders: masters, ..store.truth.clone() }, ..store.clone() };
    let moment = a_moment(&store.truth, 0)?;
    let (last, _) = around(&by_master, moment)?;
    let job = recovered(&store, &[("until-gtid", &last.gtid)])?;
    let found = differences(&moment.groups[GROUP], &state(&job, &store.truth, GROUP)?);
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn gtids_and_positions_reach_the_same_state_of_mysql() -> Result<()> {
    three_ways_to_one_transaction(&Store::mysql()?)
}

/// MySQL's state names what was left out; that is no reason to apply it behind all that came since.
#[test]
#[ignore = "needs MySQL; run: ./test"]
fn what_was_left_out_stays_so_when_a_recovery_is_made_longer() -> Result<()> {
    let store = Store::mysql()?;
    let truth = &store.truth;
    let (from, end) = (truth.points[0].time, &truth.points[1]);
    let second = TimeDelta::seconds(1);
    let drops = find(&store, GROUP, &["--kind", "ddl", "--where-text", "drop table"])?;
    let behind = |drop: &Found| {
        let time = local(drop.time);
        truth.moments.iter().find(|m| time > from + second && m.time > time + second && m.time < end.time)
    };
    let (drop, later) = drops.iter().find_map(|drop| Some((drop, behind(drop)?))).context("no DROP TABLE")?;
    let number = drop.statements[0].split("`moved ").nth(1).and_then(|rest| rest.split('`').next());
    let table = format!("`moved {}`", number.with_context(|| format!("{drop:?}"))?);
    let mut job =
        recovered(&store, &[("stop-datetime", &later.time.to_string()), ("skip-gtid", &drop.gtid)])?;
    let finished = job.work_dir().file_name().context("no name")?.to_string_lossy().into_owned();
    job.unset("recover-to", "skip-gtid")
        .to_backup(&end.backup)
        .set_args(&["--extend", &finished])
        .succeed()?;
    let mut kept = differences(&end.groups[GROUP], &state(&job, truth, GROUP)?);
    kept.retain(|difference| !difference.starts_with("GTID: "));
    assert!(
        kept.len() == 1 && kept[0].contains(&table) && kept[0].ends_with("should not be there"),
        "{kept:?}"
    );
    assert_eq!(differences(&end.groups[OTHER], &state(&job, truth, OTHER)?), Vec::<String>::new());
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn targets_that_cannot_be_reached_are_refused_before_anything_is_touched() -> Result<()> {
    let store = Store::masters()?;
    let (last, next) = around(&store, a_moment(&store.truth, 0)?)?;
    let first = find(&store, GROUP, &[])?.into_iter().next().context("no transaction")?;
    let (file, start) = next.start.split_once(':').context("a position")?;
    let inside = format!("{GROUP}/{file}:{}", start.parse::<u64>()? + 1);
    let behind = format!("{GROUP}/{file}:999999999");
    let nowhere = format!("{GROUP}/nothing-bin.000001:4");
    let cases: [(&str, &str, i32, &[&str]); 8] = [
        ("before-gtid", "7-77-777", 3, &["7-77-777", "no binlogs of the store"]),
        ("until-gtid", &first.gtid, 3, &["no backups cover"]),
        ("until-gtid", "not a gtid", 2, &["until-gtid", "binlog find"]),
        ("until-position", &next.start, 2, &["both have a binlog of that name", "auth/", "normal_0/"]),
        ("until-position", &inside, 2, &["inside a transaction", &last.end]),
        ("until-position", &behind, 3, &["behind the end"]),
        ("until-position", &nowhere, 3, &["no binlogs of the store"]),
        ("until-position", "nobody/bin.000001:4", 3, &["the server nobody"]),
    ];
    for (key, value, code, words) in cases {
        let mut job = Job::new(&store)?;
        job.set("recover-to", key, value);
        job.refuse(code, words).with_context(|| format!("{key} = {value}"))?;
    }
    let mut job = Job::new(&store)?;
    job.set("recover-to", "until-gtid", &last.gtid).set("misc", "toolchain", "stock");
    job.refuse(4, &["toolchain = stock"])?;
    // The stock tools would end at the second before.
    let mut job = Job::new(&store)?;
    let busy = store.truth.between(0, 1, true);
    let time = busy.first().context("no moment")?.time.format("%Y-%m-%d %H:%M:%S").to_string();
    job.to_time(&format!("{time}.5")).set("misc", "toolchain", "stock");
    job.refuse(2, &["whole seconds only", &format!("recover to {time}, or with the worker")])?;
    // What the backup holds cannot be taken out of it.
    let mut job = Job::new(&store)?;
    job.set("recover-to", "until-gtid", &last.gtid).set("recover-to", "skip-gtid", &first.gtid);
    job.refuse(3, &["cannot be left out", &first.gtid])?;
    let encrypted = Store::encrypted()?;
    let mut job = Job::new(&encrypted)?;
    job.set("recover-to", "until-gtid", "0-1-5");
    job.refuse(3, &["encrypted", "dbrecover unpack"])?;
    Ok(())
}
