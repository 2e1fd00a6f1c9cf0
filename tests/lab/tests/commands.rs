//! What is said before anything is done: plans, lists, old flags.

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Job, dbrecover, fingerprint};

fn dbrecover_with(job: &Job, args: &[&str]) -> Result<std::process::Output> {
    let mut command = std::process::Command::new(dbrecover()?);
    command.args(args).arg("--config-file").arg(job.write_config()?).current_dir(job.dir());
    Ok(command.env_remove("DBRECOVER_PASSWORD").output()?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_plan_touches_nothing_and_says_what_will_be_done() -> Result<()> {
    let store = Store::masters()?;
    let truth = &store.truth;
    let before = fingerprint(&store.dir)?;
    let mut job = Job::new(&store)?;
    let moment = *truth.between(1, 2, true).first().context("no busy moment")?;
    job.to_time(&moment.time.to_string());
    for args in [&["plan"][..], &["--dry-run"], &["plan", "--json"]] {
        let output = dbrecover_with(&job, args)?;
        let stdout = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        for backup in [0, 1] {
            assert!(stdout.contains(&truth.points[backup].backup), "{args:?}: {stdout}");
        }
        assert!(!stdout.contains(lab::workload::PASSWORD));
        if args.contains(&"--json") {
            let plan: serde_json::Value = serde_json::from_str(&stdout)?;
            assert_eq!(plan["schema_version"], 1);
            assert_eq!(plan["servers"].as_array().map(Vec::len), Some(2), "{plan}");
        }
    }
    assert!(!job.dir().join("work").exists(), "a plan made a directory");
    assert_eq!(fingerprint(&store.dir)?, before, "a plan changed the store");
    job.nothing_left()
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_list_names_backups_points_and_windows() -> Result<()> {
    let store = Store::two_chains()?;
    let mut job = Job::new(&store)?;
    job.to_backup(&store.truth.points[0].backup);
    for args in [&["list"][..], &["list", "--json"]] {
        let output = dbrecover_with(&job, args)?;
        let stdout = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        for point in &store.truth.points {
            assert!(stdout.contains(&point.backup), "{args:?}: {stdout}");
        }
        if args.contains(&"--json") {
            let list: serde_json::Value = serde_json::from_str(&stdout)?;
            assert_eq!(list["schema_version"], 1);
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn a_password_on_the_command_line_works_as_it_did_and_is_warned_about() -> Result<()> {
    let store = Store::encrypted()?;
    let password = store.truth.password.clone().context("an encrypted store has a password")?;
    let point = &store.truth.points[0];
    let mut job = Job::new(&store)?;
    job.to_backup(&point.backup).args(&["-p", &password]).password(None);
    let outcome = job.succeed()?;
    assert!(outcome.stderr.contains("on the command line can be read"), "no warning: {}", outcome.stderr);
    assert!(!outcome.stderr.contains(&password));
    job.verify(&store.truth, &point.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn trace_and_debug_lines_go_to_stderr_only() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    job.to_backup(&store.truth.points[0].backup).set("misc", "debug", "1");
    let outcome = job.succeed()?;
    assert!(!outcome.stdout.contains("[DEBUG]") && !outcome.stdout.contains("[TRACE]"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("[TRACE]"), "{}", outcome.stderr);
    Ok(())
}

/// The keys of a document; what other pages describe is left out.
fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                if !["details", "planned"].contains(&key.as_str()) {
                    keys(value, found);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn every_field_of_every_document_is_in_the_book() -> Result<()> {
    let store = Store::masters()?;
    let truth = &store.truth;
    let mut job = Job::new(&store)?;
    let moment = *truth.between(0, 1, true).first().context("no busy moment")?;
    job.to_time(&moment.time.to_string());
    let mut found = std::collections::BTreeSet::new();
    for args in [&["list", "--json"][..], &["plan", "--json"], &["--json", "--log-format", "json"]] {
        let output = dbrecover_with(&job, args)?;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(document["schema_version"], 1, "{args:?}");
        keys(&document, &mut found);
        for line in output.stderr.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
            keys(&serde_json::from_slice(line)?, &mut found);
        }
    }
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = std::fs::read_to_string(page)?;
    let missing: Vec<_> = found.iter().filter(|key| !page.contains(&format!("`{key}"))).collect();
    assert!(found.len() > 60, "{found:?}");
    assert_eq!(missing, Vec::<&String>::new(), "not in docs/json.md");
    Ok(())
}
