//! Recoveries to transactions and binlog positions: found with `dbrecover binlog find`, judged by the truth.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Local, NaiveDateTime, TimeDelta, Utc};
use lab::recovery::{Job, dbrecover, fingerprint};
use lab::truth::{Moment, State, differences};
use lab::{Flavor, Shape, Store, StoreOptions, Truth};
use rustix::process::Signal;
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
    a_drop_of(store, true)
}

/// As [`a_drop`]; its own second needs to be `known`, or not.
fn a_drop_of(store: &Store, known: bool) -> Result<(Found, &Moment)> {
    let truth = &store.truth;
    let (from, to) = (truth.points[0].time, truth.points[1].time);
    let second = TimeDelta::seconds(1);
    let drops = find(store, GROUP, &["--kind", "ddl", "--where-text", "drop table"])?;
    let usable = drops.into_iter().filter(|drop| local(drop.time) > from + second);
    usable
        .filter_map(|drop| {
            let later = truth.moments.iter().find(|m| m.time > local(drop.time) + second && m.time < to)?;
            (!known || moment_at(truth, local(drop.time)).is_some()).then_some((drop, later))
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

/// What a broken group leaves of a backup still says where the others' transactions are.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn target_of_one_group_is_found_beside_a_broken_one() -> Result<()> {
    let copy = lab::recovery::Damaged::copy(&Store::masters()?)?;
    let moment = a_moment(&copy.store.truth, 1)?;
    let (last, _) = around(&copy.store, moment)?;
    // The moment is before the last backup, which only gives its binlogs.
    std::fs::remove_file(copy.server(2, OTHER).join("backup.xbsteam"))?;
    let job = recovered(&copy.store, &[("until-gtid", &last.gtid)])?;
    let found = differences(&moment.groups[GROUP], &state(&job, &copy.store.truth, GROUP)?);
    assert_eq!(found, Vec::<String>::new());
    let mut job = Job::new(&copy.store)?;
    job.set("recover-to", "until-gtid", &last.gtid).set("recover-to", "without-group", GROUP);
    job.refuse(3, &[&last.gtid, "no binlogs of the store"]).map(drop)
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

/// Its new report lies there already, and says what both of them leave out.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn extension_that_was_cut_off_when_all_was_proved_goes_on() -> Result<()> {
    let store = Store::masters()?;
    let moments = store.truth.between(0, 1, true);
    let [first, .., second] = moments[..] else { bail!("the lab saw too few busy moments") };
    // Both are behind the targets: they are left out, and nothing is missing.
    let transactions = find(&store, GROUP, &[])?;
    let [.., one, other] = &transactions[..] else { bail!("too few transactions") };
    let mut job = recovered(&store, &[("stop-datetime", &first.time.to_string()), ("skip-gtid", &one.gtid)])?;
    let from = job.work_dir().file_name().context("no name")?.to_string_lossy().into_owned();
    job.set("recover-to", "skip-gtid", &other.gtid);
    job.to_time(&second.time.to_string()).set_args(&["--extend", &from]).succeed()?;
    let done = job.work_dir();
    let name = done.file_name().context("no name")?.to_string_lossy();
    std::fs::rename(&done, done.with_file_name(format!(".incomplete-{name}")))?;
    job.set_args(&["--resume"]).succeed()?;
    job.verify(&store.truth, &second.groups)
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
    Ok(())
}

/// The binlogs of an encrypted store, as if it were none.
struct Opened {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Opened {
    fn of(store: &Store) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let password = store.truth.password.as_deref().context("an encrypted store")?;
        for point in &store.truth.points {
            let tar = store.dir.join(format!("encrypted/{}.tar.encrypted", point.backup));
            let mut unpack = Command::new(dbrecover()?);
            unpack
                .args(["unpack", "--only-binlogs", "--backup", &point.backup, "--work-dir"])
                .arg(dir.path());
            unpack.arg("--from").arg(tar).env("DBRECOVER_PASSWORD", password);
            lab::tools::run(&mut unpack)?;
        }
        let mut truth = store.truth.clone();
        for folder in truth.folders.values_mut() {
            // Replicas' binlogs are those of their masters.
            let said = dir.path().join(&truth.points[0].backup).join(&*folder).join("master_dir");
            if let Ok(master) = std::fs::read_to_string(said) {
                *folder = master.trim().to_owned();
            }
        }
        Ok(Self { store: Store { dir: dir.path().to_owned(), truth }, _dir: dir })
    }
}

fn encrypted(flavor: Flavor, shape: Shape) -> Result<Store> {
    let password = Some("correct \"horse\" $1 'ä'".to_owned());
    Store::get(&StoreOptions { flavor, shape, password, ..StoreOptions::default() })
}

/// The numbers of the backups that were decrypted to find the target, newest first.
fn looked_into(store: &Store, report: &Value) -> Result<Vec<usize>> {
    let names = report["plan"]["looked_into"].as_array().context("nothing was looked into")?;
    let number = |name: &Value| store.truth.points.iter().position(|point| *name == *point.backup);
    names.iter().map(|name| number(name).context("no backup")).collect()
}

fn report(job: &Job) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(job.work_dir().join("recovery-report.json"))?)?)
}

/// No binlogs out of encrypted backups lie about.
fn no_binlogs_left(job: &Job) -> Result<()> {
    let entries = [job.dir().join("work"), job.dir().to_owned()].map(std::fs::read_dir);
    let names = entries.into_iter().flatten().flatten().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("binlogs-")).collect();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

/// A recovery of an encrypted store to `key`, and whether each group is at its moment.
fn comes_back(store: &Store, keys: &[(&str, &str)], moment: &Moment, groups: &[&str]) -> Result<Vec<usize>> {
    let job = recovered(store, keys)?;
    for group in groups {
        let found = differences(&moment.groups[*group], &state(&job, &store.truth, group)?);
        assert_eq!(found, Vec::<String>::new(), "{group}, {keys:?}");
    }
    no_binlogs_left(&job)?;
    looked_into(store, &report(&job)?)
}

/// All targets of an encrypted store, in the newest span and in the one before.
fn targets_of_an_encrypted_store(flavor: Flavor, shape: Shape) -> Result<()> {
    let store = encrypted(flavor, shape)?;
    let opened = Opened::of(&store)?;
    let newest = a_moment(&store.truth, 1)?;
    let (last, next) = around(&opened.store, newest)?;
    let position = format!("{}/{}", opened.store.truth.folders[GROUP], last.end);
    for (key, value) in
        [("before-gtid", &next.gtid), ("until-gtid", &last.gtid), ("until-position", &position)]
    {
        let looked = comes_back(&store, &[(key, value)], newest, &[GROUP])?;
        // Only the newest holds it; of the position's file others may have a copy.
        assert!(looked.starts_with(&[2]) && (key == "until-position" || looked == [2]), "{key}: {looked:?}");
    }
    let before = a_moment(&store.truth, 0)?;
    let (last, _) = around(&opened.store, before)?;
    let looked = comes_back(&store, &[("until-gtid", &last.gtid)], before, &[GROUP])?;
    assert_eq!(looked, [2, 1], "the newest one says that it lies before it, and the next one holds it");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn encrypted_masters_reach_the_same_state() -> Result<()> {
    targets_of_an_encrypted_store(Flavor::MariaDb, Shape::Masters)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn encrypted_replicas_reach_the_same_state() -> Result<()> {
    targets_of_an_encrypted_store(Flavor::MariaDb, Shape::Replicas)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn encrypted_mysql_reaches_the_same_state() -> Result<()> {
    targets_of_an_encrypted_store(Flavor::MySql, Shape::Masters)
}

/// A moment whose `DROP TABLE` is left out: the table is there, and nothing else differs, in no group.
fn left_out_of_an_encrypted_store(flavor: Flavor) -> Result<()> {
    let store = encrypted(flavor, Shape::Masters)?;
    let opened = Opened::of(&store)?;
    let (drop, later) = a_drop_of(&opened.store, flavor == Flavor::MariaDb)?;
    let time = later.time.to_string();
    let job = recovered(&store, &[("stop-datetime", &time), ("skip-gtid", &drop.gtid)])?;
    let kept = differences(&later.groups[GROUP], &state(&job, &store.truth, GROUP)?);
    let tables: Vec<_> = kept.iter().filter(|line| !line.starts_with("GTID")).collect();
    assert!(tables.len() == 1 && tables[0].ends_with("should not be there"), "{kept:?}");
    assert_eq!(differences(&later.groups[OTHER], &state(&job, &store.truth, OTHER)?), Vec::<String>::new());
    assert!(!looked_into(&store, &report(&job)?)?.contains(&0));
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn transaction_is_left_out_of_an_encrypted_store() -> Result<()> {
    left_out_of_an_encrypted_store(Flavor::MariaDb)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn transaction_is_left_out_of_an_encrypted_store_of_mysql() -> Result<()> {
    left_out_of_an_encrypted_store(Flavor::MySql)
}

/// A copy of an encrypted store in which the backups with these numbers are not encrypted.
fn partly_encrypted(store: &Store, plain: &[usize]) -> Result<lab::recovery::Damaged> {
    let copy = lab::recovery::Damaged::copy(store)?;
    let password = store.truth.password.as_deref().context("an encrypted store")?;
    for &number in plain {
        let name = &store.truth.points[number].backup;
        let (tar, temp) =
            (copy.store.dir.join(format!("encrypted/{name}.tar.encrypted")), tempfile::tempdir()?);
        let opened = temp.path().join("tar");
        let mut decrypt = Command::new(dbrecover()?);
        decrypt.args(["aescrypt", "-d", "-o"]).arg(&opened).arg(&tar).env("DBRECOVER_PASSWORD", password);
        lab::tools::run(&mut decrypt)?;
        lab::tools::run(Command::new("tar").arg("-C").arg(copy.backup(number)).arg("-xf").arg(&opened))?;
        std::fs::remove_file(&tar)?;
        std::fs::remove_file(copy.backup(number).join("encrypted_sample"))?;
    }
    Ok(copy)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn store_that_is_encrypted_in_part_is_looked_into_as_a_whole() -> Result<()> {
    let store = encrypted(Flavor::MariaDb, Shape::Masters)?;
    let opened = Opened::of(&store)?;
    let moment = a_moment(&store.truth, 0)?;
    let (last, next) = around(&opened.store, moment)?;
    for (plain, decrypted) in [(&[2][..], &[1][..]), (&[0, 1], &[2])] {
        let mixed = partly_encrypted(&store, plain)?;
        for (key, value) in [("before-gtid", &next.gtid), ("until-gtid", &last.gtid)] {
            let looked = comes_back(&mixed.store, &[(key, value)], moment, &[GROUP])?;
            assert_eq!(looked, decrypted, "{key}, without encryption: {plain:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn targets_in_encrypted_backups_are_refused_before_anything_is_touched() -> Result<()> {
    let store = encrypted(Flavor::MariaDb, Shape::Masters)?;
    let opened = Opened::of(&store)?;
    let (last, next) = around(&opened.store, a_moment(&store.truth, 1)?)?;
    let (file, start) = next.start.split_once(':').context("a position")?;
    let inside = format!("{GROUP}/{file}:{}", start.parse::<u64>()? + 1);
    let behind = format!("{GROUP}/{file}:999999999");
    let nowhere = format!("{GROUP}/nothing-bin.000001:4");
    let passed_over = "encrypted backups cannot hold it and were not decrypted";
    let cases: [(&str, &str, i32, &[&str]); 5] = [
        ("before-gtid", "7-77-777", 3, &["7-77-777", "no binlogs of the store (2 ", passed_over]),
        ("skip-gtid", "1-11-99999999", 3, &["skip-gtid 1-11-99999999", passed_over]),
        ("until-position", &inside, 2, &["inside a transaction", &last.end]),
        ("until-position", &behind, 3, &["behind the end"]),
        ("until-position", &nowhere, 3, &["no binlogs of the store (3 ", passed_over]),
    ];
    for args in [&[][..], &["--dry-run"]] {
        for (key, value, code, words) in cases {
            let mut job = Job::new(&store)?;
            job.set_args(args).set("recover-to", key, value);
            if key == "skip-gtid" {
                job.set("recover-to", "until-gtid", &last.gtid);
            }
            job.refuse(code, words).with_context(|| format!("{key} = {value}"))?;
            no_binlogs_left(&job)?;
        }
        let mut job = Job::new(&store)?;
        job.set_args(args).set("recover-to", "until-gtid", &last.gtid).password(None);
        job.refuse(2, &["is encrypted and no password was given"])?;
        job.password(Some("wrong"));
        let outcome = job.refuse(5, &["does not open the backup", &store.truth.points[2].backup])?;
        assert!(!outcome.stderr.contains("read the binlogs"), "{}", outcome.stderr);
        job.password(store.truth.password.as_deref()).set("misc", "toolchain", "stock");
        job.refuse(4, &["toolchain = stock"])?;
        no_binlogs_left(&job)?;
        let damaged = lab::recovery::Damaged::copy(&store)?;
        let tar = format!("encrypted/{}.tar.encrypted", store.truth.points[2].backup);
        lab::recovery::change(&damaged.store.dir.join(tar), |bytes| bytes.truncate(bytes.len() / 3))?;
        let mut job = Job::new(&damaged.store)?;
        job.set_args(args).set("recover-to", "until-gtid", &last.gtid);
        job.refuse(5, &["binlogs of", &store.truth.points[2].backup])?;
        no_binlogs_left(&job)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn plan_says_what_was_decrypted_and_leaves_nothing() -> Result<()> {
    let store = encrypted(Flavor::MariaDb, Shape::Masters)?;
    let opened = Opened::of(&store)?;
    let (last, _) = around(&opened.store, a_moment(&store.truth, 1)?)?;
    let watch = lab::recovery::watch_arguments(&[store.truth.password.as_deref().context("encrypted")?]);
    let mut job = Job::new(&store)?;
    job.set_args(&["--dry-run"]).set("recover-to", "until-gtid", &last.gtid);
    let before = fingerprint(&store.dir)?;
    let outcome = job.run()?;
    ensure!(outcome.code == 0, "exit code {}\n{}", outcome.code, outcome.stderr);
    let newest = &store.truth.points[2].backup;
    assert!(outcome.stderr.contains(&format!("read the binlogs of {newest}")), "{}", outcome.stderr);
    assert!(outcome.stdout.contains(&format!("looked into  {newest}: decrypted")), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("up to and including GTID"), "{}", outcome.stdout);
    ensure!(fingerprint(&store.dir)? == before, "the store was changed");
    assert_eq!(watch.finish(), Vec::<String>::new());
    assert!(!job.dir().join("work").exists());
    no_binlogs_left(&job)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn lookup_that_is_ended_leaves_no_binlogs() -> Result<()> {
    let store = encrypted(Flavor::MariaDb, Shape::Masters)?;
    let opened = Opened::of(&store)?;
    let (last, _) = around(&opened.store, a_moment(&store.truth, 0)?)?;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, -9)] {
        let mut job = Job::new(&store)?;
        job.set("recover-to", "until-gtid", &last.gtid);
        let mut running = job.start()?;
        let dir = job.dir().to_owned();
        running.wait_until("binlogs are written", || {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let scratch = entries.map(|e| e.path()).find(|p| p.to_string_lossy().contains("binlogs-"));
            let inside = scratch.and_then(|dir| std::fs::read_dir(dir).ok());
            inside.is_some_and(|mut inside| {
                inside.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().ends_with("unpack-partial")))
            })
        })?;
        assert_eq!(running.end(signal)?.code, code);
        job.nothing_left()?;
        no_binlogs_left(&job).with_context(|| format!("{signal:?}"))?;
    }
    Ok(())
}
