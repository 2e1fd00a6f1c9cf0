//! Replays into MySQL: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
mod replay_lab;

use binlog_replay::replay::{self, Error, Method, OnError, Request, TargetAt};
use mysql_async::prelude::Queryable;
use replay_lab::source::Source;
use replay_lab::{Base, Server, contents, crash_and_resume, differences, every_target, request, workload};
use tokio::sync::OnceCell;

static SOURCE: OnceCell<Source> = OnceCell::const_new();
static ANONYMOUS: OnceCell<Source> = OnceCell::const_new();
static MANY: OnceCell<Source> = OnceCell::const_new();

async fn source() -> &'static Source {
    SOURCE.get_or_init(|| Source::make(Base::mysql(), true, workload::everything)).await
}

async fn anonymous() -> &'static Source {
    ANONYMOUS.get_or_init(|| Source::make(Base::mysql(), false, workload::everything)).await
}

async fn many() -> &'static Source {
    MANY.get_or_init(|| Source::make(Base::mysql(), true, workload::many)).await
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn relay_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Relay).await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn sql_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Sql).await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn pipe_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Pipe).await;
}

async fn refused(request: &Request, server: &Server) -> Error {
    let _ = server;
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
    let error = refused(&request, &server).await;
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
    for (name, by_time) in [("statements", true), ("packed", false)] {
        let moment = source.moment(name);
        request.target = match by_time {
            true => TargetAt::Time(moment.time),
            false => TargetAt::Position(moment.position.clone()),
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
    }
}
