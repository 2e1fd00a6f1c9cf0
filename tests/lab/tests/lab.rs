//! The judge itself: the truth agrees with the stock tools, and a wrong result is seen.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use lab::Store;

fn stock_recovery(store: &Store, work: &Path, arguments: &[&str]) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/stock-recovery.sh");
    lab::tools::run(Command::new(script).arg(&store.dir).arg(work).args(arguments)).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_reach_the_truth_at_a_point_and_at_a_busy_second() -> Result<()> {
    let store = Store::replicas()?;
    let truth = &store.truth;
    let temp = tempfile::tempdir()?;
    lab::tools::run(Command::new("chmod").arg("755").arg(temp.path()))?;

    let point = &truth.points[1];
    let work = temp.path().join("point");
    stock_recovery(&store, &work, &[&point.backup])?;
    for (group, state) in &point.groups {
        truth.verify(&work.join("datadir").join(&truth.folders[group]), state)?;
    }

    let moment = *truth.between(0, 1, true).last().context("no busy moment")?;
    let work = temp.path().join("moment");
    let time = moment.time.to_string();
    stock_recovery(&store, &work, &[&truth.points[0].backup, &time, &truth.points[1].backup])?;
    for (group, state) in &moment.groups {
        truth.verify(&work.join("datadir").join(&truth.folders[group]), state)?;
    }

    // And a judge that says yes to everything would not do: the point is not the moment.
    let datadir = work.join("datadir").join(&truth.folders["auth"]);
    let found = truth.state_of(&datadir)?;
    let lines = lab::truth::differences(&point.groups["auth"], &found);
    for word in ["transactions: ", "GTID: ", "checksum "] {
        assert!(lines.iter().any(|line| line.contains(word)), "{lines:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_store_has_busy_and_quiet_seconds_between_its_backups() -> Result<()> {
    let truth = Store::masters()?.truth;
    for from in 0..2 {
        for busy in [true, false] {
            assert!(!truth.between(from, from + 1, busy).is_empty(), "backups {from}, busy {busy}");
        }
    }
    for pair in truth.moments.windows(2) {
        for (group, state) in &pair[1].groups {
            assert!(state.transactions >= pair[0].groups[group].transactions, "the ledger never shrinks");
        }
    }
    Ok(())
}
