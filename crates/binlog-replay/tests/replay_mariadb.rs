//! Replays into MariaDB: three methods, every kind of target, compared with the source row by row.

#[path = "replay_lab/mod.rs"]
mod replay_lab;

use binlog_replay::replay::{Method, TargetAt};
use replay_lab::source::Source;
use replay_lab::{
    Base, contents, crash_and_resume, differences, events_round_trip, every_target, everything_by, failover,
    request, stops_where_the_stock_tool_stops, workload,
};
use tokio::sync::OnceCell;

static SOURCE: OnceCell<Source> = OnceCell::const_new();
static MANY: OnceCell<Source> = OnceCell::const_new();

async fn source() -> &'static Source {
    SOURCE.get_or_init(|| Source::make(Base::mariadb(), true, workload::everything)).await
}

async fn many() -> &'static Source {
    MANY.get_or_init(|| Source::make(Base::mariadb(), true, workload::many)).await
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn relay_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Relay).await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn sql_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Sql).await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn pipe_gives_the_source_at_every_kind_of_target() {
    every_target(source().await, Method::Pipe).await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn a_replay_that_was_cut_off_goes_on_without_applying_anything_twice() {
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        crash_and_resume(many().await, method).await;
    }
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

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn transactions_of_100_mb_are_replayed_by_every_method() {
    let source = Source::make(Base::mariadb(), true, workload::large).await;
    everything_by(&source, &[Method::Relay, Method::Sql, Method::Pipe]).await;
}

/// The new master's first file begins with what the old one had, so its range starts in the middle.
#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn after_a_failover_every_method_takes_each_transaction_once() {
    failover(many().await, &[Method::Relay, Method::Sql, Method::Pipe]).await;
}

#[tokio::test]
#[ignore = "needs mariadbd; run: ./test"]
async fn stops_are_those_of_the_stock_tool() {
    stops_where_the_stock_tool_stops(source().await);
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
