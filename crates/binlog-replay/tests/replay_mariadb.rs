//! Replays into MariaDB: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
#[macro_use]
mod replay_lab;
#[path = "../../../tests/common/program.rs"]
mod program;

use std::os::unix::fs::symlink;

use binlog_replay::replay::{Error, Method, TargetAt};
use program::write_program;
use replay_lab::source::Source;
use replay_lab::{
    Base, contents, crash_and_refuse, crash_and_resume, ddl_is_in_doubt, differences, events_round_trip,
    every_moment, lose_a_second_and_resume, request, workload,
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
