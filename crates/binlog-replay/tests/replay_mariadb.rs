//! Replays into MariaDB: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
#[macro_use]
mod replay_lab;
#[path = "../../../tests/common/program.rs"]
mod program;

use std::os::unix::fs::symlink;

use binlog_replay::replay::{self, Error, Method, OnError, StartAt, TargetAt};
use binlog_replay::scan;
use mysql_async::prelude::Queryable;
use program::write_program;
use replay_lab::source::Source;
use replay_lab::{
    Base, Server, contents, crash_and_refuse, crash_and_resume, ddl_is_in_doubt, differences,
    events_round_trip, every_moment, everything_by, killed_before_the_proof, lose_a_second_and_resume,
    request, workload,
};

tests_of_both!(Base::mariadb(), "needs mariadbd; run: ./test");

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_replay_that_was_cut_off_goes_on_without_applying_anything_twice() {
    for method in [Method::Relay, Method::Sql] {
        crash_and_resume(many().await, method).await;
        lose_a_second_and_resume(many().await, method).await;
    }
    crash_and_refuse(many().await, Method::Pipe).await;
    killed_before_the_proof(many().await).await;
}

/// Two writers in one domain give two transactions one number, and a higher one before a lower one.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn two_writers_in_one_domain_are_replayed_to_the_last_transaction() {
    let source = Source::make(Base::mariadb(), true, workload::two_writers).await;
    for (moment, gtid) in [("one number", "0-8-5"), ("a lower one", "0-8-4")] {
        let moment = source.moment(moment);
        for method in [Method::Relay, Method::Sql] {
            let datadir = source.datadir(&format!("{method}-{gtid}"));
            let stop = TargetAt::Position(moment.position.clone());
            let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
            request.method = method;
            let (server, outcome) = replay_lab::replay(&source.base, &request).await;
            let outcome = outcome.unwrap_or_else(|e| panic!("{method} to {gtid}: {e}"));
            assert_eq!(outcome.proof.found, gtid, "{method}");
            let found = contents(&mut server.root().await).await;
            assert_eq!(differences(&moment.contents, &found), Vec::<String>::new(), "{method} to {gtid}");
            server.stop().await;
        }
    }
}

/// A transaction that rolled back is in the binlog when it changed a table that does not.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_rollback_at_the_end_is_replayed_like_any_other() {
    let source = Source::make(Base::mariadb(), true, workload::rolled_back).await;
    everything_by(&source, &[Method::Relay, Method::Sql, Method::Pipe]).await;
}

/// The place is the table's, what the backup holds is still told from where the backup is.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn sql_goes_on_behind_a_backup_that_holds_gtids() {
    let source = many().await;
    let datadir = source.datadir("goes-on");
    let until = TargetAt::UntilGtid("0-7-103".into());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, until);
    request.method = Method::Sql;
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    let outcome = outcome.unwrap();
    request.start = StartAt { position: outcome.range.stop, executed: Some(outcome.proof.found) };
    request.target = TargetAt::End;
    let mut root = server.root().await;
    root.query_drop("SET sql_log_bin=0").await.unwrap();
    root.query_drop("INSERT INTO shop.t (id) VALUES (1000)").await.unwrap();
    let error = replay::run(&request, &mut |_| {}).await.expect_err("the row is there already");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    root.query_drop("DELETE FROM shop.t WHERE id = 1000").await.unwrap();
    request.resume = true;
    let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
    let moment = source.moments.last().unwrap();
    assert_eq!(outcome.proof.found, moment.gtids);
    assert!((100..4800).contains(&outcome.transactions), "{}", outcome.transactions);
    assert_eq!(differences(&moment.contents, &contents(&mut root).await), Vec::<String>::new());
    drop(root);
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn sql_goes_on_in_the_new_masters_file_where_two_have_one_name() {
    let source = Source::make(Base::mariadb(), true, workload::two_files).await;
    replay_lab::goes_on_in_the_new_masters_file(&source, Method::Sql).await;
}

/// The last transaction of the source drops what the one before it made, so leaving it out shows.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_skipped_transaction_is_left_out_by_every_method() {
    let source = source().await;
    let moment = source.moment("last");
    let dropped = &source.moment("packed").next;
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let datadir = source.datadir(&format!("skip-{method}"));
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
        (request.method, request.skip) = (method, Some(dropped.clone()));
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
        assert_eq!(outcome.range.skipped, 1, "{method}");
        let found = contents(&mut server.root().await).await;
        let differences = differences(&moment.contents, &found);
        assert!(
            !differences.is_empty() && differences.iter().all(|d| d.contains("`copied`")),
            "{differences:?}"
        );
        server.stop().await;
    }
}

/// Plugins that check passwords come with the backup; how strict they were told to be does not.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn plugins_that_check_passwords_refuse_none_that_the_source_took() {
    let source = Source::make(Base::mariadb(), true, workload::passwords).await;
    let wanted = &source.moment("passwords").contents;
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let datadir = source.datadir(&format!("plugins-{method}"));
        let server = Server::start(&source.base, &datadir, &["--skip-log-bin"]);
        let mut root = server.root().await;
        for plugin in ["simple_password_check", "password_reuse_check"] {
            root.query_drop(format!("INSTALL SONAME '{plugin}'")).await.unwrap();
        }
        drop(root);
        server.stop().await;
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
        request.method = method;
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
        let mut root = server.root().await;
        let found = contents(&mut root).await;
        assert_eq!(differences(wanted, &found), Vec::<String>::new(), "{method}");
        let plugins: u64 = root.query_first("SELECT COUNT(*) FROM mysql.plugin").await.unwrap().unwrap();
        assert_eq!(plugins, 2, "{method}: they are the backup's, and stay in it");
        drop(root);
        server.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_password_is_in_no_error() {
    let source = Source::make(Base::mariadb(), true, workload::account).await;
    let stop = OnError::Stop;
    for (method, on_error) in
        [(Method::Relay, stop), (Method::Sql, stop), (Method::Sql, OnError::SkipLogged), (Method::Pipe, stop)]
    {
        let datadir = source.datadir(&format!("account-{method}-{on_error:?}"));
        let server = Server::start(&source.base, &datadir, &["--skip-log-bin"]);
        server.root().await.query_drop("CREATE USER u@localhost").await.unwrap();
        server.stop().await;
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
        (request.method, request.on_error) = (method, on_error);
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        let error = match outcome {
            Ok(outcome) => outcome.left_out[0].error.clone(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("u'@'localhost") && !error.contains("Geheim"), "{method}: {error}");
        server.stop().await;
    }
}

/// With `relay` the next statement may have been applied without its GTID; with `sql` its own table says that it had
/// begun.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_crash_while_a_table_is_altered_leaves_it_in_doubt() {
    let source = Source::make(Base::mariadb(), true, workload::altered).await;
    let begins = format!("the statement at {}", source.moments[0].position);
    ddl_is_in_doubt(&source, Method::Relay, &begins).await;
    ddl_is_in_doubt(&source, Method::Sql, "the statement that ends at binlog.000001:").await;
}

/// An `ALTER` in two phases, of which the second one may take it back.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn sql_may_end_with_either_half_of_an_alter() {
    let source = Source::make(Base::mariadb(), true, workload::altered_in_two_phases).await;
    let index = scan(&[&source.binlogs]).unwrap();
    let mut halves = 0;
    for ddl in index.files.iter().flat_map(|file| &file.ddl).filter(|ddl| ddl.text.starts_with("ALTER")) {
        halves += 1;
        let gtid = ddl.gtid.as_ref().unwrap().to_string();
        let datadir = source.datadir(&gtid);
        let until = TargetAt::UntilGtid(gtid.clone());
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, until);
        request.method = Method::Sql;
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("to {gtid}: {e}"));
        assert_eq!(outcome.transactions, outcome.range.transactions, "to {gtid}");
        request.target = TargetAt::End;
        (request.resume, request.held) = (true, Some(outcome.proof.found));
        replay::run(&request, &mut |_| {}).await.unwrap_or_else(|e| panic!("from {gtid}: {e}"));
        let found = contents(&mut server.root().await).await;
        let wanted = &source.moments.last().unwrap().contents;
        assert_eq!(differences(wanted, &found), Vec::<String>::new(), "from {gtid}");
        server.stop().await;
    }
    assert_eq!(halves, 4);
}

/// The stock tools make two transactions of each.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_replay_may_end_with_a_table_made_from_another_one() {
    let source = Source::make(Base::mariadb(), true, workload::copied_tables).await;
    for method in [Method::Pipe, Method::Sql, Method::Relay] {
        every_moment(&source, method, |_, moment| TargetAt::Position(moment.position.clone())).await;
    }
    rows_of_the_last_table_are_missed(&source).await;
}

/// A binlog tool that gives out the tables and not their rows.
async fn rows_of_the_last_table_are_missed(source: &Source) {
    let datadir = source.datadir("without-rows");
    let tools = datadir.with_extension("base");
    std::fs::create_dir_all(tools.join("bin")).unwrap();
    symlink("/usr/bin/mariadb", tools.join("bin/mariadb")).unwrap();
    let reader = tools.join("bin/mariadb-binlog");
    // The rows that come last are those of the last table.
    let script = r#"#!/bin/sh
mariadb-binlog "$@" | awk '
    { line[NR] = $0 }
    /^BINLOG / { from = NR }
    /^.\/\*!\*\/;/ && to < from { to = NR }
    END { for (i = 1; i <= NR; i++) if (i < from || i > to) print line[i] }'
"#;
    write_program(&reader, script);
    let stop = TargetAt::Position(source.moment("small").position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
    (request.method, request.base_dir) = (Method::Pipe, Some(tools));
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    let error = outcome.expect_err("rows are missing");
    assert!(matches!(error, Error::Unproven { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn every_event_of_the_sources_encodes_to_its_own_bytes() {
    use binlog_replay::event::EventKind as Kind;
    let wanted = [
        Kind::XA_PREPARE,
        Kind::USER_VAR,
        Kind::RAND,
        Kind::INTVAR,
        Kind::QUERY_COMPRESSED,
        Kind::TABLE_MAP,
        Kind::EXECUTE_LOAD_QUERY,
    ];
    events_round_trip(source().await, &wanted);
}
