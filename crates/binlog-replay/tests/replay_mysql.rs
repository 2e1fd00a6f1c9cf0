//! Replays into MySQL: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
#[macro_use]
mod replay_lab;
#[path = "../../../tests/common/program.rs"]
mod program;

use std::os::unix::fs::PermissionsExt;

use binlog_replay::replay::{self, Error, Method, OnError, Request, StartAt, TargetAt};
use mysql_async::prelude::Queryable;
use program::write_program;
use replay_lab::source::Source;
use replay_lab::{
    Base, Server, contents, crash_and_resume, crash_in_ddl, ddl_is_in_doubt, differences, events_round_trip,
    everything_by, killed_before_the_proof, lose_a_second_and_resume, request, workload,
};
use tokio::sync::OnceCell;

tests_of_both!(Base::mysql(), "needs mysqld; run: ./test");

static ANONYMOUS: OnceCell<Source> = OnceCell::const_new();

async fn anonymous() -> &'static Source {
    ANONYMOUS.get_or_init(|| Source::make(Base::mysql(), false, workload::everything)).await
}

async fn refused(request: &Request) -> Error {
    replay::run(request, &mut |_| {}).await.expect_err("a refusal")
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn a_refused_transaction_is_named_and_can_be_left_out() {
    let source = source().await;
    let datadir = source.datadir("refused");
    let moment = source.moment("rows");
    let mut request = request(
        &source.base,
        &source.binlogs,
        &datadir,
        &source.first,
        TargetAt::Position(moment.position.clone()),
    );
    request.method = Method::Sql;
    let server = replay_lab::start_for(&source.base, &request);
    // A table that the binlog creates is there already.
    let mut root = server.root().await;
    root.query_drop("SET sql_log_bin=0").await.unwrap();
    root.query_drop("CREATE DATABASE shop").await.unwrap();
    let error = refused(&request).await;
    let Error::Refused { file, pos, gtid, statement, reason, .. } = &error else { panic!("{error}") };
    assert_eq!((file.as_str(), gtid.is_some()), ("binlog.000001", true), "{error}");
    assert!(*pos > 4 && reason.contains("1007"), "{error}");
    assert!(statement.as_deref().is_some_and(|s| s.contains("CREATE DATABASE shop")), "{error}");

    request.on_error = OnError::SkipLogged;
    let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
    assert_eq!(outcome.left_out.len(), 1, "{:?}", outcome.left_out);
    assert_eq!(outcome.proof.found, moment.gtids);
    let found = contents(&mut root).await;
    let differences = differences(&moment.contents, &found);
    assert_eq!(differences, Vec::<String>::new());
    server.stop().await;
}

/// Without GTIDs nothing in the server names the place, so a later target starts where the last one ended.
async fn without_gtids(method: Method) {
    let source = anonymous().await;
    let datadir = source.datadir(&format!("anonymous-{method}"));
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    (request.method, request.start.executed) = (method, None);
    let server = replay_lab::start_for(&source.base, &request);
    for name in ["statements", "packed", "last"] {
        let moment = source.moment(name);
        request.target = match name {
            "statements" => TargetAt::Time(moment.time),
            "packed" => TargetAt::Position(moment.position.clone()),
            _ => TargetAt::End,
        };
        let outcome = replay::run(&request, &mut |_| {}).await.unwrap_or_else(|e| panic!("{method}: {e}"));
        let found = contents(&mut server.root().await).await;
        assert_eq!(differences(&moment.contents, &found), Vec::<String>::new(), "{method} to {name}");
        request.start.position = outcome.range.stop;
    }
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn all_methods_give_the_source_without_gtids() {
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        without_gtids(method).await;
    }
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn a_replay_that_was_cut_off_goes_on_without_applying_anything_twice() {
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        crash_and_resume(many().await, method).await;
        lose_a_second_and_resume(many().await, method).await;
    }
}

/// What a table without transactions took of a refused transaction cannot be taken back.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn a_transaction_that_cannot_be_rolled_back_is_not_left_out() {
    let source = source().await;
    let datadir = source.datadir("stays");
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    (request.method, request.on_error) = (Method::Sql, OnError::SkipLogged);
    let server = replay_lab::start_for(&source.base, &request);
    let mut root = server.root().await;
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.plain (id INT PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO shop.plain VALUES (2)",
    ] {
        root.query_drop(sql).await.unwrap();
    }
    let error = refused(&request).await;
    assert!(error.to_string().contains("cannot be left out"), "{error}");
    server.stop().await;
}

/// Statements that commit by themselves are atomic, and their GTIDs with them.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn a_crash_while_a_table_is_altered_is_gone_on_from() {
    let source = Source::make(Base::mysql(), true, workload::altered).await;
    let wanted = &source.moments.last().unwrap().contents;
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let (server, outcome) = crash_in_ddl(&source, method).await;
        outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
        let found = contents(&mut server.root().await).await;
        assert_eq!(differences(wanted, &found), Vec::<String>::new(), "{method}");
        server.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn without_gtids_a_crash_while_a_table_is_altered_leaves_it_in_doubt() {
    let source = Source::make(Base::mysql(), false, workload::altered).await;
    ddl_is_in_doubt(&source, Method::Sql, "the statement that ends at binlog.000001:").await;
}

/// What the backed-up server was told with `SET PERSIST` would win over every option.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn settings_that_are_stored_in_the_backup_do_not_win_over_ours() {
    let source = source().await;
    let moment = source.moment("rows");
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let datadir = source.datadir(&format!("persisted-{method}"));
        let server = Server::start(&source.base, &datadir, &["--skip-log-bin"]);
        let mut root = server.root().await;
        for sql in [
            "SET PERSIST_ONLY replica_skip_errors='1062'",
            "SET PERSIST innodb_flush_log_at_trx_commit=1",
            "SET PERSIST max_allowed_packet=1024",
            "SET PERSIST super_read_only=ON",
        ] {
            root.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        drop(root);
        server.stop().await;
        let file = datadir.join("mysqld-auto.cnf");
        let stored = std::fs::read(&file).unwrap();

        let target = TargetAt::Position(moment.position.clone());
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, target);
        request.method = method;
        let server = replay_lab::start_for(&source.base, &request);
        let mut root = server.root().await;
        let sql = "SELECT @@GLOBAL.super_read_only, @@GLOBAL.innodb_flush_log_at_trx_commit, \
                   @@GLOBAL.max_allowed_packet, @@GLOBAL.replica_skip_errors";
        let found: (u64, u64, u64, String) = root.query_first(sql).await.unwrap().unwrap();
        assert_eq!(found, (0, 0, 1 << 30, "OFF".to_owned()), "{method}");
        replay::run(&request, &mut |_| {}).await.unwrap_or_else(|e| panic!("{method}: {e}"));
        let found = contents(&mut root).await;
        assert_eq!(differences(&moment.contents, &found), Vec::<String>::new(), "{method}");
        drop(root);
        server.stop().await;
        assert!(std::fs::read(&file).unwrap() == stored, "{method}: they are the backup's, and stay in it");
    }
}

/// A file that a client of MySQL reads whatever it is told, and that wins over the option file that it is given.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn the_stock_tools_take_no_account_and_no_socket_from_the_users_login_file() {
    let source = source().await;
    let moment = source.moment("rows");
    let datadir = source.datadir("login-file");
    let tools = datadir.with_extension("base");
    std::fs::create_dir_all(tools.join("bin")).unwrap();
    // Another account, another socket; made as mysql_config_editor makes it.
    let file = tools.join(".mylogin.cnf");
    std::fs::write(&file, include_bytes!("fixtures/mylogin.cnf")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for tool in ["mysqlbinlog", "mysql"] {
        let (home, real) = (tools.display(), source.base.dir.join("bin").join(tool));
        let text = format!("#!/bin/sh\nHOME='{home}' exec '{}' \"$@\"\n", real.display());
        write_program(&tools.join("bin").join(tool), &text);
    }
    let target = TargetAt::Position(moment.position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, target);
    (request.method, request.base_dir) = (Method::Pipe, Some(tools));
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    outcome.unwrap();
    let found = contents(&mut server.root().await).await;
    assert_eq!(differences(&moment.contents, &found), Vec::<String>::new());
    server.stop().await;
}

/// One server of a cluster has nothing more to apply: from where it stands, and from where its backup ends.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn a_replay_with_nothing_more_to_apply_goes_on_by_every_method() {
    let source = source().await;
    let moment = source.moment("rows");
    let target = TargetAt::Position(moment.position.clone());
    let datadir = source.datadir("nothing-more");
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, target);
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    let outcome = outcome.unwrap();
    let ends = StartAt { position: outcome.range.stop, executed: Some(outcome.proof.found.clone()) };
    request.resume = true;
    for start in [request.start.clone(), ends] {
        for method in [Method::Relay, Method::Sql, Method::Pipe] {
            for held in [Some(outcome.proof.found.clone()), None] {
                (request.start, request.method, request.held) = (start.clone(), method, held);
                let context = format!("{method} from {start:?}, in the state {:?}", request.held);
                let prepared = replay::prepare(&request).unwrap_or_else(|e| panic!("{context}: {e}"));
                assert!(prepared.server_options.contains(&"--gtid-mode=ON".to_owned()), "{context}");
                let outcome = replay::run(&request, &mut |_| {}).await;
                let outcome = outcome.unwrap_or_else(|e| panic!("{context}: {e}"));
                assert_eq!((outcome.transactions, &outcome.proof.found), (0, &moment.gtids), "{context}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn every_event_of_the_sources_encodes_to_its_own_bytes() {
    use binlog_replay::event::EventKind as Kind;
    let wanted = [
        Kind::XA_PREPARE,
        Kind::USER_VAR,
        Kind::RAND,
        Kind::INTVAR,
        Kind::QUERY,
        Kind::TABLE_MAP,
        Kind::TRANSACTION_PAYLOAD,
        Kind::EXECUTE_LOAD_QUERY,
    ];
    events_round_trip(source().await, &wanted);
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn transactions_with_and_without_gtids_are_replayed_in_their_order() {
    let source = Source::make(Base::mysql(), false, workload::mixed_gtids).await;
    everything_by(&source, &[Method::Auto, Method::Sql, Method::Pipe]).await;
    let datadir = source.datadir("mixed");
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    request.method = Method::Relay;
    let error = replay::prepare(&request).unwrap_err();
    assert!(error.to_string().contains("with and without GTIDs"), "{error}");
    // What the state says of some says nothing of the others.
    request.method = Method::Sql;
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    outcome.unwrap();
    request.resume = true;
    let error = refused(&request).await;
    assert!(matches!(error, Error::NoTrace), "{error}");
    server.stop().await;
}

/// The state names the old GTIDs, before the first transaction as behind the last.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn behind_an_old_history_of_gtids_transactions_without_them_are_replayed_and_not_told() {
    let source = Source::make(Base::mysql(), false, workload::gtids_given_up).await;
    let (with, without) = (&source.moments[0], &source.moments[1]);
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let datadir = source.datadir(&format!("given-up-{method}"));
        let stop = TargetAt::Position(with.position.clone());
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        let held = outcome.unwrap().proof.found;
        assert_eq!(held, with.gtids);
        server.stop().await;
        request.start = StartAt { position: with.position.clone(), executed: Some(held) };
        (request.target, request.method) = (TargetAt::End, method);
        let (server, outcome) = replay_lab::replay(&source.base, &request).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
        let found = contents(&mut server.root().await).await;
        assert_eq!(differences(&without.contents, &found), Vec::<String>::new(), "{method}");
        assert!(outcome.transactions == 2000 && outcome.proof.found != with.gtids, "{outcome:?}");
        // Whatever replays, the state does not say that all of it is there.
        (request.resume, request.method) = (true, Method::Sql);
        let error = refused(&request).await;
        assert!(matches!(error, Error::NoTrace), "after {method}: {error}");
        server.stop().await;
    }
}

/// Behind it in the binlogs comes what the server holds.
#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn what_an_earlier_replay_left_out_is_not_applied_too_late() {
    let source = many().await;
    let moment = source.moments.last().unwrap();
    let (uuid, _) = moment.gtids.split_once(':').unwrap();
    let datadir = source.datadir("left-out");
    let until = TargetAt::UntilGtid(format!("{uuid}:1-2000"));
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, until);
    // An update.
    request.skip = Some(format!("{uuid}:1001"));
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    let found = outcome.unwrap().proof.found;
    assert_eq!(found, format!("{uuid}:1-1000:1002-2000"));
    (request.resume, request.held, request.target) = (true, Some(found), TargetAt::End);
    let skip = request.skip.take();
    let error = refused(&request).await.to_string();
    assert!(error.contains(&format!("{uuid}:1001 was left out")), "{error}");
    request.skip = skip;
    let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
    assert_eq!(outcome.proof.found, format!("{uuid}:1-1000:1002-5002"));
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn without_gtids_a_replay_that_was_cut_off_goes_on_or_says_that_it_cannot() {
    let source = Source::make(Base::mysql(), false, workload::many).await;
    crash_and_resume(&source, Method::Sql).await;
    killed_before_the_proof(&source).await;
    // Nothing in a server that is at its target says how it got there.
    let datadir = source.datadir("no-trace");
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    (request.method, request.start.executed) = (Method::Sql, None);
    let (server, outcome) = replay_lab::replay(&source.base, &request).await;
    outcome.unwrap();
    request.resume = true;
    let error = replay::run(&request, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::NoTrace), "{error}");
    for method in [Method::Relay, Method::Pipe] {
        request.method = method;
        let error = replay::run(&request, &mut |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("without GTIDs"), "{error}");
    }
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn the_index_names_schema_statements_in_compressed_transactions() {
    let index = binlog_replay::scan(&[&source().await.binlogs]).unwrap();
    let found = index.files.iter().flat_map(|file| &file.ddl).find(|ddl| ddl.text.contains("packed_copy"));
    let ddl = found.expect("CREATE TABLE … SELECT under binlog_transaction_compression");
    let file = index.files.iter().find(|file| file.ddl.iter().any(|other| other.start == ddl.start)).unwrap();
    let shown = binlog_replay::show(
        &index,
        &binlog_replay::Which::At(binlog_replay::Position::new(&*file.name, ddl.start)),
        binlog_replay::ShowLimits::default(),
    );
    assert!(format!("{:?}", shown.unwrap().unwrap().steps).contains("packed_copy"));
}
