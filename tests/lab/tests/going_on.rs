//! Recoveries that go on: where they were cut off, and behind where they ended.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::recovery::{Job, fingerprint};
use lab::server::Server;
use lab::truth::Moment;
use rustix::process::Signal;

fn moment(store: &Store, from: usize, which: usize) -> Result<&Moment> {
    let busy = store.truth.between(from, from + 1, true);
    ensure!(busy.len() >= 2, "the lab saw too few busy moments");
    Ok(busy[which.min(busy.len() - 1)])
}

fn time(moment: &Moment) -> String {
    moment.time.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn says(job: &Job, line: &str) -> bool {
    fs::read_to_string(job.dir().join("stderr")).is_ok_and(|text| text.contains(line))
}

/// The directory of a recovery that is under way.
fn incomplete(job: &Job) -> PathBuf {
    let done = job.work_dir();
    done.with_file_name(format!(".incomplete-{}", done.file_name().unwrap_or_default().to_string_lossy()))
}

fn name(job: &Job) -> String {
    job.work_dir().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A recovery to `to` that was ended in the middle.
fn cut_off_at(store: &Store, to: &Moment, step: &str, method: &str) -> Result<Job> {
    let mut job = Job::new(store)?;
    job.to_time(&time(to)).set("misc", "replay-method", method).set("misc", "parallel", "1");
    let mut running = job.start()?;
    running.wait_until(step, || says(&job, step))?;
    running.end(Signal::INT)?;
    job.nothing_finished()?;
    Ok(job)
}

/// Ends a recovery in the middle and goes on with it.
fn resumed_at(store: &Store, step: &str, method: &str) -> Result<()> {
    let to = moment(store, 0, 1)?;
    let mut job = cut_off_at(store, to, step, method)?;
    job.args(&["--resume"]).succeed()?;
    tells_of_every_backup(&job)?;
    job.verify(&store.truth, &to.groups)
}

/// The report says of each backup how it was unpacked, whichever run did it.
fn tells_of_every_backup(job: &Job) -> Result<()> {
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(job.work_dir().join("recovery-report.json"))?)?;
    let names = |list: &serde_json::Value, key: &str| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|one| one[key].to_string()).collect()
    };
    let (planned, unpacked) =
        (names(&report["plan"]["backups"], "name"), names(&report["unpacked"], "backup"));
    ensure!(planned == unpacked, "planned {planned:?}, unpacked {unpacked:?}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_goes_on_from_any_step_without_applying_anything_twice() -> Result<()> {
    let store = Store::masters()?;
    for step in ["] unpack ", ": prepare start", ": stop start"] {
        resumed_at(&store, step, "auto").with_context(|| format!("cut off at {step}"))?;
    }
    for method in ["relay", "sql"] {
        resumed_at(&store, ": replay start", method).with_context(|| format!("{method} cut off"))?;
    }
    Ok(())
}

/// On MariaDB the stock tools leave their GTIDs in a binlog that a crash may cut off at another place than the tables.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_of_a_pipe_that_was_cut_off_is_refused_and_the_recovery_begins_anew() -> Result<()> {
    let store = Store::masters()?;
    let to = moment(&store, 0, 1)?;
    let mut job = cut_off_at(&store, to, ": replay start", "pipe")?;
    job.args(&["--resume"]).refuse(2, &["method pipe cannot be used here", "begin anew"])?;
    job.set_args(&[]).succeed()?;
    job.verify(&store.truth, &to.groups)
}

/// The driver had prepared everything, and the power went before the journal said so.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_prepares_again_what_the_journal_does_not_know_to_be_prepared() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup).set("misc", "parallel", "1");
    let mut running = job.start()?;
    running.wait_until("prepared", || says(&job, ": choose the binlogs start"))?;
    running.end(Signal::INT)?;
    let journal = incomplete(&job).join("journal.jsonl");
    let text = fs::read_to_string(&journal)?;
    let cut = text.find(r#""step":"prepare""#).context("no prepared server in the journal")?;
    let cut = text[..cut].rfind('\n').context("more than one line")?;
    // And the next line was being written.
    fs::write(&journal, &text[..cut + 9])?;
    job.args(&["--resume"]).succeed()?;
    job.verify(&store.truth, &last.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_reports_no_server_whose_data_are_gone() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup).set("misc", "parallel", "1");
    let mut running = job.start()?;
    let done = || {
        let text = fs::read_to_string(incomplete(&job).join("journal.jsonl")).unwrap_or_default();
        text.contains(r#""step":"done""#)
    };
    running.wait_until("one server is done", done)?;
    running.end(Signal::KILL)?;
    let text = fs::read_to_string(incomplete(&job).join("journal.jsonl"))?;
    for folder in
        store.truth.folders.values().filter(|f| text.contains(&format!(r#"{{"server":"{f}","step":"done""#)))
    {
        fs::remove_dir_all(incomplete(&job).join("datadir").join(folder))?;
    }
    job.args(&["--resume"]).refuse(2, &["are not there", "without --resume"])?;
    job.set_args(&[]).succeed()?;
    job.verify(&store.truth, &last.groups)
}

/// A program that does not know how the last run ended asks for the same again.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_of_what_is_finished_says_so_and_changes_nothing() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup).succeed()?;
    let before = fingerprint(&job.work_dir())?;
    let outcome = job.args(&["--resume"]).succeed()?;
    ensure!(outcome.stderr.contains("is finished: there is nothing to do"), "{}", outcome.stderr);
    ensure!(fingerprint(&job.work_dir())? == before, "it was changed");
    // The same words, and another recovery.
    let other = lab::recovery::Damaged::copy(&store)?;
    job.set("backup-store", "dir", other.store.dir.to_string_lossy());
    for args in [&["--resume"][..], &[]] {
        let outcome = job.set_args(args).run()?;
        ensure!(outcome.code == 2, "{args:?}: exit code {}: {}", outcome.code, outcome.stderr);
        ensure!(outcome.stderr.contains("is another one, store: it was"), "{args:?}: {}", outcome.stderr);
        ensure!(fingerprint(&job.work_dir())? == before, "{args:?}: it was changed");
    }
    job.nothing_left()?;
    job.verify(&store.truth, &last.groups)
}

/// The name of a work directory says only what the user wrote.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_goes_on_with_the_same_recovery_only() -> Result<()> {
    let store = Store::masters()?;
    let to = moment(&store, 0, 1)?;
    let mut job = Job::new(&store)?;
    job.to_time(&time(to)).set("misc", "parallel", "1");
    let mut running = job.start()?;
    running.wait_until("replay", || says(&job, ": replay start"))?;
    running.end(Signal::INT)?;
    job.args(&["--resume"]);
    // A minute to the east: the same words are another instant.
    let offset = chrono::Local::now().offset().local_minus_utc() / 60 + 1;
    let sign = if offset < 0 { '-' } else { '+' };
    job.set("misc", "time-zone", format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60));
    job.refuse(2, &["stop time: it was", "without --resume"])?;
    job.unset("misc", "time-zone");
    // Another store with the same backups.
    let other = lab::recovery::Damaged::copy(&store)?;
    job.set("backup-store", "dir", other.store.dir.to_string_lossy());
    job.refuse(2, &["store: it was", "without --resume"])?;
    job.set("backup-store", "dir", store.dir.to_string_lossy());
    // Another version of the program.
    let marker = incomplete(&job).join(".dbrecover");
    let text = fs::read_to_string(&marker)?;
    fs::write(&marker, text.replacen("dbrecover 0", "dbrecover 99", 1))?;
    job.refuse(2, &["dbrecover 99", "without --resume"])?;
    fs::write(&marker, text)?;
    job.succeed()?;
    job.verify(&store.truth, &to.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_do_not_go_on_with_a_replay() -> Result<()> {
    goes_on_by_no_stock_tools(&Store::masters()?)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn the_stock_tools_do_not_go_on_with_a_replay_on_mysql() -> Result<()> {
    goes_on_by_no_stock_tools(&Store::mysql()?)
}

fn goes_on_by_no_stock_tools(store: &Store) -> Result<()> {
    let to = moment(store, 0, 1)?;
    let mut job = Job::new(store)?;
    job.to_time(&time(to)).set("misc", "parallel", "1").with_stock_tools()?;
    let mut running = job.start()?;
    running.wait_until("replay", || says(&job, ": replay start"))?;
    running.end(Signal::INT)?;
    job.args(&["--resume"]).refuse(2, &["would apply transactions twice", "without --resume"])?;
    // Nor does a worker go on with theirs: it asks where the server's replication is, which they never move.
    job.set("misc", "toolchain", "worker").refuse(2, &["the stock tools had begun", "without --resume"])?;
    job.set("misc", "toolchain", "stock").set_args(&[]).succeed()?;
    job.verify(&store.truth, &to.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn resume_in_a_transfer_sends_no_server_a_second_time() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup);
    // Slow enough to be in the middle of the second server when the first is there.
    job.set("misc", "transfer-method", "relay").set("misc", "rate-limit", "2M");
    let journal = incomplete(&job).join("journal.jsonl");
    let unpacked = || -> Vec<String> {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let entries = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let of_servers = entries.filter(|e| e["server"] != "" && e["step"].to_string().contains("unpack "));
        of_servers.map(|e| format!("{} {}", e["server"], e["step"])).collect()
    };
    let mut running = job.start()?;
    running.wait_until("one server is there", || !unpacked().is_empty())?;
    running.end(Signal::INT)?;
    let before = unpacked();
    job.nothing_finished()?;
    job.unset("misc", "rate-limit").args(&["--resume"]).succeed()?;
    job.verify(&store.truth, &last.groups)?;
    let text = fs::read_to_string(job.work_dir().join("journal.jsonl"))?;
    for entry in before {
        let (server, step) = entry.split_once(' ').context("an entry")?;
        let same = format!("\"server\":{server},\"step\":{step}");
        ensure!(text.matches(&same).count() == 1, "{entry} was done twice:\n{text}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn stock_tools_ended_while_they_decrypt_leave_nothing_in_the_store() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::encrypted()?.copy_to(&dir.path().join("store"))?;
    let last = store.truth.points.last().context("no backup")?;
    let before = fingerprint(&store.dir)?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup).with_stock_tools()?;
    let decrypting =
        || fingerprint(&store.dir).is_ok_and(|now| now.iter().any(|line| line.contains("/tar ")));
    for (signal, left) in [(Signal::INT, false), (Signal::KILL, true)] {
        let mut running = job.start()?;
        running.wait_until("it decrypts", decrypting)?;
        running.end(signal)?;
        ensure!((fingerprint(&store.dir)? != before) == left, "{signal:?}");
    }
    // Whoever asks for the same again finds what a killed one left, and so does a worker.
    job.succeed()?;
    ensure!(fingerprint(&store.dir)? == before, "the store was changed");
    let mut running = job.start()?;
    running.wait_until("it decrypts", decrypting)?;
    running.end(Signal::KILL)?;
    job.set("misc", "toolchain", "worker").succeed()?;
    ensure!(fingerprint(&store.dir)? == before, "the store was changed");
    job.verify(&store.truth, &last.groups)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn resume_goes_on_with_mysql() -> Result<()> {
    let store = Store::mysql()?;
    resumed_at(&store, ": replay start", "auto")?;
    resumed_at(&store, ": stop start", "auto")
}

/// A finished recovery goes on to a later moment of the same span, then behind the next backup, then to a
/// consistent point.
fn extended(store: &Store, method: &str) -> Result<()> {
    let truth = &store.truth;
    let (first, second) = (moment(store, 0, 0)?, moment(store, 0, 1)?);
    let third = moment(store, 1, 0)?;
    let end = truth.points.last().context("no backup")?;
    let mut job = Job::new(store)?;
    job.set("misc", "replay-method", method);
    job.to_time(&time(first)).succeed()?;
    for to in [second, third] {
        let (from, finished) = (name(&job), job.work_dir());
        job.to_time(&time(to)).set_args(&["--extend", &from]);
        let outcome = job.succeed()?;
        ensure!(!outcome.stderr.contains(": prepare start"), "{}", outcome.stderr);
        ensure!(!finished.exists(), "the finished recovery was taken over");
    }
    let from = name(&job);
    job.to_backup(&end.backup).set_args(&["--extend", &from]).succeed()?;
    tells_of_every_backup(&job)?;
    job.verify(truth, &end.groups).with_context(|| format!("{method}, extended three times"))?;
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(job.work_dir().join("recovery-report.json"))?)?;
    assert_eq!(report["plan"]["extends"], from.as_str());
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_later_target_replays_only_the_difference_by_every_method() -> Result<()> {
    let store = Store::masters()?;
    for method in ["relay", "sql", "pipe"] {
        extended(&store, method)?;
    }
    Ok(())
}

/// Their definitions are in a backup, their rows are not.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn tables_in_memory_are_named_before_a_replay() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    let words = "are kept in memory and empty after a restore";
    let outcome = job.to_time(&time(moment(&store, 0, 0)?)).succeed()?;
    ensure!(!outcome.stderr.contains(words), "there are none: {}", outcome.stderr);
    let folder = store.truth.folders.values().next().context("no server")?;
    let datadir = job.work_dir().join("datadir").join(folder);
    let flavor = store.truth.flavor;
    let server = Server::start_on(flavor, &job.dir().join("s"), &datadir, &["--skip-log-bin"])?;
    let mut sql = server.sql()?;
    for table in ["cache", "`two words`"] {
        sql.run(format!("CREATE TABLE lab.{table} (id INT PRIMARY KEY) ENGINE=MEMORY"))?;
    }
    drop(sql);
    server.stop()?;
    let from = name(&job);
    let outcome = job.to_time(&time(moment(&store, 0, 1)?)).set_args(&["--extend", &from]).succeed()?;
    let line = outcome.stderr.lines().find(|line| line.contains(words));
    let named = |line: &str| line.contains(&format!("{folder}: lab.cache, lab.two words {words}"));
    ensure!(line.is_some_and(named), "{}", outcome.stderr);
    ensure!(outcome.stderr.matches(words).count() == 1, "{}", outcome.stderr);
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn replicas_backups_can_be_extended() -> Result<()> {
    extended(&Store::replicas()?, "auto")
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn mysql_can_be_extended() -> Result<()> {
    extended(&Store::mysql()?, "auto")
}

/// At every step of an extension: nothing looks finished that is not, and what was not begun is as it was.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_extension_that_was_cut_off_is_seen_and_goes_on() -> Result<()> {
    let store = Store::masters()?;
    let (first, later) = (moment(&store, 0, 0)?, moment(&store, 1, 0)?);
    for (step, signal) in [
        ("] unpack ", Signal::INT),
        (": start start", Signal::INT),
        (": replay start", Signal::KILL),
        (": stop start", Signal::INT),
    ] {
        let mut job = Job::new(&store)?;
        job.set("misc", "parallel", "1");
        job.to_time(&time(first)).succeed()?;
        let (from, finished) = (name(&job), job.work_dir());
        job.to_time(&time(later)).set_args(&["--extend", &from]);
        let mut running = job.start()?;
        running.wait_until(step, || says(&job, step))?;
        running.end(signal)?;
        ensure!(!job.work_dir().exists(), "{step}: it looks finished");
        let begun = step != "] unpack ";
        ensure!(finished.exists() != begun, "{step}: the finished recovery is {}", finished.exists());
        ensure!(incomplete(&job).exists() == begun, "{step}: what is under way cannot be seen");
        job.no_process_left()?;
        if begun {
            job.set_args(&["--resume"]);
        }
        job.succeed().with_context(|| format!("again after {step}"))?;
        job.verify(&store.truth, &later.groups).with_context(|| format!("after {step}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_cannot_be_reached_by_extending_is_refused_and_the_finished_recovery_stays() -> Result<()> {
    let store = Store::masters()?;
    let truth = &store.truth;
    let (earlier, finished_at) = (moment(&store, 0, 0)?, moment(&store, 0, 1)?);
    let mut job = Job::new(&store)?;
    job.to_time(&time(finished_at)).succeed()?;
    let (from, finished) = (name(&job), job.work_dir());
    job.to_time(&time(finished_at)).set_args(&["--extend", "no-such-recovery"]);
    ensure!(job.run()?.code == 3, "there is no such recovery");
    job.set_args(&["--extend", &from]);
    ensure!(job.run()?.code == 3, "it is there already");
    for (target, words) in [
        (time(earlier), "not between start and target"),
        (truth.points[0].time.to_string(), "not between start and target"),
    ] {
        job.to_time(&target);
        let outcome = job.run()?;
        ensure!(outcome.code != 0 && outcome.stderr.contains(words), "{target}: {}", outcome.stderr);
        ensure!(finished.join("recovery-report.json").exists() && !incomplete(&job).exists(), "{target}");
        job.nothing_left()?;
    }
    // A server that is not where its recovery left it: here the report is what says something else.
    let report = finished.join("recovery-report.json");
    let text = fs::read_to_string(&report)?;
    let document: serde_json::Value = serde_json::from_str(&text)?;
    let state = document["servers"][0]["gtid_state"].as_str().context("no state")?;
    let domain = state.split('-').next().context("a MariaDB position")?;
    fs::write(
        &report,
        text.replace(&format!("\"gtid_state\": \"{state}\""), &format!("\"gtid_state\": \"{domain}-1-1\"")),
    )?;
    job.to_time(&time(moment(&store, 1, 0)?));
    let outcome = job.run()?;
    ensure!(outcome.code == 6, "exit code {}: {}", outcome.code, outcome.stderr);
    ensure!(!job.work_dir().exists() && !finished.exists() && incomplete(&job).exists(), "it is under way");
    // Nor does it pass when asked again.
    job.set_args(&["--resume"]).refuse(6, &["gtid_slave_pos"])?;
    Ok(())
}

/// Its server would go on in a directory of another name.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_finished_recovery_in_which_a_server_runs_is_not_taken_over() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    job.to_time(&time(moment(&store, 0, 0)?)).succeed()?;
    let (from, finished) = (name(&job), job.work_dir());
    let folder = store.truth.folders.values().next().context("no server")?;
    let datadir = finished.join("datadir").join(folder);
    let mut server = std::process::Command::new("sh")
        .args(["-c", "read x", "sh", &format!("--datadir={}", datadir.display())])
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    job.to_time(&time(moment(&store, 1, 0)?)).set_args(&["--extend", &from]);
    let outcome = job.run();
    server.kill()?;
    server.wait()?;
    let outcome = outcome?;
    ensure!(outcome.code == 4 && outcome.stderr.contains("to be taken over"), "{}", outcome.stderr);
    ensure!(finished.exists() && !incomplete(&job).exists(), "it was taken over");
    Ok(())
}
