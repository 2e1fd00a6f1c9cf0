//! Replays into MySQL: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
mod replay_lab;

use binlog_replay::replay::{self, Error, Method, OnError, Request, TargetAt};
use mysql_async::prelude::Queryable;
use replay_lab::source::Source;
use replay_lab::{Base, Server, contents, differences, request};
use tokio::sync::OnceCell;

static SOURCE: OnceCell<Source> = OnceCell::const_new();

async fn source() -> &'static Source {
    SOURCE.get_or_init(|| Source::make(Base::mysql(), true)).await
}

/// One data directory goes through all the moments, each by another kind of target, each time resumed.
async fn every_target(method: Method) {
    let source = source().await;
    let datadir = source.datadir(method.name());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    request.method = method;
    let server = replay_lab::start_for(&source.base, &request);
    for (i, moment) in source.moments.iter().enumerate() {
        request.target = match i {
            0 => TargetAt::Position(moment.position.clone()),
            1 => TargetAt::Time(moment.time),
            2 => TargetAt::BeforeGtid(moment.next.clone()),
            3 => TargetAt::UntilGtid(moment.gtids.clone()),
            _ => TargetAt::End,
        };
        request.resume = i > 0;
        let outcome = replay::run(&request, &mut |_| {}).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method} to {}: {e}", moment.name));
        assert_eq!(outcome.proof.found, outcome.proof.expected);
        assert_eq!(outcome.proof.found, moment.gtids, "{method} to {}", moment.name);
        let found = contents(&mut server.root().await).await;
        assert_eq!(
            differences(&moment.contents, &found),
            Vec::<String>::new(),
            "{method} to {}",
            moment.name
        );
    }
    server.stop().await;
    replay::clean(&datadir).unwrap();
    let left: Vec<_> = std::fs::read_dir(&datadir).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().contains("dbrecover")), "{left:?}");
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn relay_gives_the_source_at_every_kind_of_target() {
    every_target(Method::Relay).await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn sql_gives_the_source_at_every_kind_of_target() {
    every_target(Method::Sql).await;
}

#[tokio::test]
#[ignore = "needs mysqld; run: ./test"]
async fn pipe_gives_the_source_at_every_kind_of_target() {
    every_target(Method::Pipe).await;
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
