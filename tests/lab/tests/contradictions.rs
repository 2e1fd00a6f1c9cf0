//! Stores that contradict themselves: each looks whole, and what came out of it would be wrong in silence.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Damaged, Job, change};

fn last(store: &Store) -> Result<Job> {
    let mut job = Job::new(store)?;
    job.to_backup(&store.truth.points.last().context("no backup")?.backup);
    Ok(job)
}

/// Changes the line of a group's server in `cluster_consistence_info`.
fn change_line(backup: &Path, group: &str, edit: impl Fn(&str) -> String) -> Result<()> {
    let of_group = format!("belong-to-datasource={group}\t");
    change(&backup.join("cluster_consistence_info"), |text| {
        let lines = String::from_utf8_lossy(text).into_owned();
        let changed = lines
            .split_inclusive('\n')
            .map(|line| if line.contains(&of_group) { edit(line) } else { line.to_owned() });
        *text = changed.collect::<String>().into_bytes();
    })
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn gtids_of_another_backup_are_found_out() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let earlier = fs::read(copy.server(1, "normal_0").join("executed_gtids"))?;
    change(&copy.server(2, "normal_0").join("executed_gtids"), |text| *text = earlier)?;
    last(&copy.store)?.refuse(5, &["executed_gtids", &copy.store.truth.folders["normal_0"]]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_start_position_that_is_not_the_physical_backups_is_found_out() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    change_line(&copy.backup(2), "normal_0", |line| {
        let mut fields: Vec<_> = line.trim_end().split('\t').map(str::to_owned).collect();
        // The consistent point itself: nothing would be replayed at all.
        fields[6] = format!("xb-to-binlog-name={}", fields[2]);
        fields[7] = format!("xb-to-binlog-pos={}", fields[3]);
        fields.join("\t") + "\n"
    })?;
    last(&copy.store)?.refuse(5, &["start of the replay", &copy.store.truth.folders["normal_0"]]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_incremental_of_another_base_is_found_out() -> Result<()> {
    // The link in the middle was purged, and with it the base of the last one.
    let copy = Damaged::copy(&Store::masters()?)?;
    fs::remove_dir_all(copy.backup(1))?;
    last(&copy.store)?.refuse(5, &[&copy.store.truth.points[2].backup, "LSN"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_group_that_the_last_backup_lacks_is_not_left_out_in_silence() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let point = &copy.store.truth.points[2];
    change_line(&copy.backup(2), "normal_0", |_| String::new())?;
    // Its folder alone tells of it.
    let mut job = last(&copy.store)?;
    job.refuse(3, &["the group normal_0", &point.backup, "--without-group normal_0"])?;
    // And when it was never backed up, the backups before it.
    fs::remove_dir_all(copy.server(2, "normal_0"))?;
    for entry in fs::read_dir(copy.backup(2))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("normal_0-")) {
            fs::remove_dir_all(path)?;
        }
    }
    job.refuse(3, &["the group normal_0", &point.backup, "--without-group normal_0"])?;
    job.set_args(&["--without-group", "normal_9"]).refuse(2, &["normal_9", "auth, normal_0"])?;
    job.set_args(&["--without-group", "normal_0"]).succeed()?;
    let only_auth = [("auth".to_owned(), point.groups["auth"].clone())].into();
    job.verify(&copy.store.truth, &only_auth)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_a_new_master_took_after_a_failover_is_replayed() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let truth = &copy.store.truth;
    let (old, folder) = (copy.server(1, "normal_0"), &truth.folders["normal_0"]);
    let new = copy.backup(1).join("normal_0-normal_0_7-127.0.0.1-7");
    // Between the two backups another server became the master: the second half of the binlogs is its.
    fs::create_dir(&new)?;
    let mut binlogs: Vec<_> = fs::read_dir(&old)?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("greatdb-bin."))
        .collect();
    binlogs.sort();
    assert!(binlogs.len() > 3, "the lab rotates its binlogs");
    for name in binlogs.split_off(2) {
        fs::rename(old.join(&name), new.join(&name))?;
    }
    fs::write(old.join("master_dir"), format!("{}\n", new.file_name().context("a name")?.to_string_lossy()))?;
    let between = truth.between(0, 1, true);
    let moment = *between.last().context("no moment")?;
    let mut job = Job::new(&copy.store)?;
    job.recovers_moment(truth, moment)?;
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(job.work_dir().join("recovery-report.json"))?)?;
    let servers = report["plan"]["servers"].as_array().context("servers")?;
    let server = servers.iter().find(|server| server["folder"] == folder.as_str()).context("the server")?;
    let further = server["further_binlogs"][0].as_str().context("further binlogs")?;
    assert!(further.ends_with("/normal_0-normal_0_7-127.0.0.1-7"), "{further}");
    // The stock tools go by the names of files, which mean nothing from one server to another.
    let mut job = Job::new(&copy.store)?;
    job.to_time(&moment.time.to_string()).with_stock_tools()?;
    job.refuse(3, &["the master of normal_0 changed"]).map(drop)
}
