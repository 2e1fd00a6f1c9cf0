//! Incremental backups: what they leave out, and that a chain gives the state of its last link.

use std::path::Path;

use crate::server::{Server, fail, program, restored, run};

/// The JSON document that a run printed.
fn document(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn take(server: &Server, form: &str, to: &Path, base: Option<&Path>) -> serde_json::Value {
    let mut command = server.backup();
    command.args(["--consistent", "--json", "-s", form, "--to"]).arg(to);
    if let Some(base) = base {
        command.arg("--incremental-base").arg(base);
    }
    document(&run(&mut command))
}

/// The manifest of an archive, as a file beside it.
fn manifest_of(backup: &Path) -> std::path::PathBuf {
    let file = backup.with_extension("json");
    let tar = std::process::Command::new("tar")
        .args(["-x", "-O", "-f"])
        .arg(backup)
        .arg("myrocks-hotbackup.json")
        .output();
    std::fs::write(&file, tar.unwrap().stdout).unwrap();
    file
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_chain_under_load_restores_to_the_transaction_of_its_last_link() {
    let server = Server::new();
    server.bank();
    // A table in a column family of its own: its data file stays, whatever the writers make RocksDB compact.
    server.sql(
        "CREATE TABLE bank.still (id INT, v VARCHAR(100), PRIMARY KEY (id) COMMENT 'still') ENGINE=ROCKSDB;
         INSERT INTO bank.still SELECT seq, UUID() FROM bank.seq_1_to_5000;
         SET GLOBAL rocksdb_force_flush_memtable_now = 1",
    );
    // From here on every transaction is one row of one of two tables, of two engines, and one GTID.
    let begin = server.number("SELECT SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1)");
    let writers = server.writers(&["trade", "trade", "note"]);
    let mut chain = Vec::new();
    let mut base: Option<std::path::PathBuf> = None;
    for (number, form) in ["dir", "tar", "dir", "tar"].into_iter().enumerate() {
        let rows = server.number("SELECT COUNT(*) FROM bank.log") + 400;
        server.wait_for_rows(rows);
        server.sql("SET GLOBAL rocksdb_force_flush_memtable_now = 1");
        let to = server.dir.path().join(format!("link-{number}"));
        let report = take(&server, form, &to, base.as_deref());
        if number > 0 {
            assert!(report["base_files"].as_u64().unwrap() > 0, "the base has files: {report}");
        }
        assert!(report["lock"]["milliseconds"].as_u64().unwrap() < 30_000);
        assert_eq!(report["binlog"]["exact"], true);
        let gtid = report["binlog"]["before"]["gtid"].as_str().unwrap();
        let sequence: i64 = gtid.rsplit('-').next().unwrap().parse().unwrap();
        base = Some(if form == "dir" { to.clone() } else { manifest_of(&to) });
        chain.push((to, sequence));
    }
    drop(writers);
    for links in 1..=chain.len() {
        let from: Vec<_> = chain[..links].iter().map(|(path, _)| path.as_path()).collect();
        let copy = restored(&from);
        copy.assert_bank();
        assert_eq!(copy.number("SELECT COUNT(*) FROM bank.still"), 5000);
        let rows = copy.number("SELECT (SELECT COUNT(*) FROM bank.log) + (SELECT COUNT(*) FROM bank.old)");
        assert_eq!(rows, chain[links - 1].1 - begin, "rows and GTIDs of the chain of {links}");
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_base_that_is_missing_altered_or_of_another_server_is_refused() {
    let server = Server::new();
    server.bank();
    let at = |name: &str| server.dir.path().join(name);
    take(&server, "dir", &at("full"), None);
    take(&server, "dir", &at("inc1"), Some(&at("full")));
    take(&server, "dir", &at("inc2"), Some(&at("inc1")));
    let restore = |from: &[&str]| {
        let mut command = program();
        command.arg("restore").arg("--datadir").arg(at("target"));
        for from in from {
            command.arg("--from").arg(at(from));
        }
        command
    };
    assert!(fail(&mut restore(&["inc1"]), 3).contains("no base was given"));
    assert!(fail(&mut restore(&["full", "inc2"]), 3).contains("builds on"));
    fail(&mut restore(&["full", "full"]), 2);
    fail(&mut restore(&["inc1", "full"]), 3);

    let data = std::fs::read_dir(at("full")).unwrap().map(|e| e.unwrap().path());
    let sst = data.filter(|p| p.extension().is_some_and(|e| e == "sst")).min().unwrap();
    let whole = std::fs::read(&sst).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    std::fs::write(&sst, &altered).unwrap();
    assert!(fail(&mut restore(&["full", "inc1"]), 5).contains("checksum"));
    std::fs::write(&sst, &whole[1..]).unwrap();
    assert!(fail(&mut restore(&["full", "inc1"]), 5).contains("bytes"));
    std::fs::remove_file(&sst).unwrap();
    fail(&mut restore(&["full", "inc1"]), 1);
    std::fs::write(&sst, &whole).unwrap();
    assert!(
        !at("target").exists() && !at("target.restore-unfinished").exists(),
        "a refused restore leaves nothing"
    );
    run(&mut restore(&["full", "inc1", "inc2"]));

    let other = Server::new();
    other.bank();
    let stderr = fail(
        other.backup().args(["-s", "dir", "--to"]).arg(at("x")).arg("--incremental-base").arg(at("full")),
        3,
    );
    assert!(stderr.contains("RocksDB database"), "{stderr}");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn verify_finds_every_kind_of_damage() {
    let server = Server::new();
    server.bank();
    server.sql("SET GLOBAL rocksdb_force_flush_memtable_now = 1");
    let good = server.dir.path().join("good");
    take(&server, "dir", &good, None);
    let verify = |dir: &Path, more: &[&str]| {
        program().arg("verify").args(more).arg("--json").arg(dir).output().unwrap()
    };
    let problems = |output: &std::process::Output| {
        let document = document(output);
        let problems = document["backups"][0]["problems"].as_array().unwrap();
        problems.iter().map(|p| p["problem"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(problems(&verify(&good, &["--blocks"])), Vec::<String>::new());
    let names = std::fs::read_dir(&good).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.collect();
    let named = |begin: &str, end: &str| {
        names.iter().find(|n| n.starts_with(begin) && n.ends_with(end)).unwrap().clone()
    };
    let (sst, manifest) = (named("0", ".sst"), named("MANIFEST-", ""));
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, &'a [&'a str], &'a str);
    let cases: Vec<Damage<'_>> = vec![
        ("a flipped bit in a data file", Box::new(|d| flip(&d.join(&sst))), &[], "sum"),
        (
            "the same, seen by RocksDB's own checksums",
            Box::new(|d| flip(&d.join(&sst))),
            &["--quick", "--blocks"],
            "rocks",
        ),
        ("a missing data file", Box::new(|d| std::fs::remove_file(d.join(&sst)).unwrap()), &[], "missing"),
        (
            "a data file cut short",
            Box::new(|d| {
                std::fs::File::options().write(true).open(d.join(&sst)).unwrap().set_len(100).unwrap()
            }),
            &[],
            "size",
        ),
        ("a flipped bit in the MANIFEST", Box::new(|d| flip(&d.join(&manifest))), &["--quick"], "rocks"),
        ("no CURRENT", Box::new(|d| std::fs::remove_file(d.join("CURRENT")).unwrap()), &[], "missing"),
        ("a file too many", Box::new(|d| std::fs::write(d.join("bank/x.frm"), "").unwrap()), &[], "unknown"),
        (
            "a lost table definition",
            Box::new(|d| std::fs::remove_file(d.join("bank/log.frm")).unwrap()),
            &[],
            "missing",
        ),
        (
            "no manifest and a missing data file",
            Box::new(|d| {
                std::fs::remove_file(d.join("myrocks-hotbackup.json")).unwrap();
                std::fs::remove_file(d.join(&sst)).unwrap();
            }),
            &[],
            "missing",
        ),
    ];
    for (what, damage, more, expected) in cases {
        let bad = server.dir.path().join("bad");
        run(std::process::Command::new("cp").arg("-a").arg(&good).arg(&bad));
        damage(&bad);
        let output = verify(&bad, more);
        assert_eq!(output.status.code(), Some(5), "{what}");
        assert!(problems(&output).iter().any(|p| p == expected), "{what}: {:?}", problems(&output));
        std::fs::remove_dir_all(&bad).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_chain_of_backups_with_other_checksums_each_is_restored_and_what_has_none_is_said() {
    let server = Server::new();
    server.bank();
    let mut chain: Vec<std::path::PathBuf> = Vec::new();
    for (number, checksum) in ["crc32", "sha256", "none", "crc32"].into_iter().enumerate() {
        server.sql(&format!(
            "CREATE TABLE bank.t{number} (id INT, PRIMARY KEY (id) COMMENT 'f{number}') ENGINE=ROCKSDB;
             INSERT INTO bank.t{number} SELECT seq FROM bank.seq_1_to_100;
             SET GLOBAL rocksdb_force_flush_memtable_now = 1"
        ));
        let to = server.dir.path().join(format!("link-{number}"));
        let mut command = server.backup();
        command.args(["--consistent", "--checksum", checksum, "-s", "dir", "--to"]).arg(&to);
        if let Some(base) = chain.last() {
            command.arg("--incremental-base").arg(base);
        }
        run(&mut command);
        run(program().arg("verify").arg(&to));
        chain.push(to);
    }
    let from: Vec<_> = chain.iter().map(std::path::PathBuf::as_path).collect();
    let datadir = server.dir.path().join("restored");
    let output = run(&mut crate::server::restore(&from, &datadir));
    let said = String::from_utf8(output.stdout).unwrap();
    // A data file of the table and what else was flushed, of the link without checksums.
    assert!(said.contains("files that have no checksum"), "{said}");
    std::fs::remove_dir_all(&datadir).unwrap();
    // The file of the second link is checked by the checksum that it has.
    let manifest = |link: usize| -> serde_json::Value {
        let path = chain[link].join("myrocks-hotbackup.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (second, last) = (manifest(1), manifest(3));
    let mut files = last["files"].as_array().unwrap().iter();
    let name = files.find(|file| file["from"] == second["id"]).unwrap()["path"].as_str().unwrap();
    let mut bytes = std::fs::read(chain[1].join(name)).unwrap();
    bytes[10] ^= 1;
    std::fs::write(chain[1].join(name), bytes).unwrap();
    let stderr = fail(&mut crate::server::restore(&from, &datadir), 5);
    assert!(stderr.contains("sha256:"), "{stderr}");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn files_of_a_data_directory_that_was_set_back_are_not_taken_for_those_of_the_base() {
    let mut server = Server::new();
    server.bank();
    server.kill();
    let snapshot = server.dir.path().join("snapshot");
    run(std::process::Command::new("cp").arg("-a").arg(&server.datadir).arg(&snapshot));
    server.restart();
    server.big(500);
    let (full, inc) = (server.dir.path().join("full"), server.dir.path().join("inc"));
    run(server.backup().args(["-s", "dir", "--to"]).arg(&full));
    server.kill();
    std::fs::remove_dir_all(&server.datadir).unwrap();
    std::fs::rename(&snapshot, &server.datadir).unwrap();
    server.restart();
    // As many bytes as before, in files of the same numbers, and others.
    server.big(500);
    let sum = |server: &Server| server.sql("SELECT MD5(GROUP_CONCAT(MD5(v) ORDER BY id)) FROM bank.big");
    run(server.backup().args(["-s", "dir", "--to"]).arg(&inc).arg("--incremental-base").arg(&full));
    let copy = restored(&[&full, &inc]);
    copy.assert_bank();
    assert_eq!(sum(&copy), sum(&server));
}
