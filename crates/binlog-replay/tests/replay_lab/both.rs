//! The tests that are the same for both families of servers.

/// Makes the sources of a family and the tests that need no more than them.
macro_rules! tests_of_both {
    ($base:expr, $needs:literal) => {
        static SOURCE: tokio::sync::OnceCell<Source> = tokio::sync::OnceCell::const_new();
        static MANY: tokio::sync::OnceCell<Source> = tokio::sync::OnceCell::const_new();

        async fn source() -> &'static Source {
            SOURCE.get_or_init(|| Source::make($base, true, replay_lab::workload::everything)).await
        }

        async fn many() -> &'static Source {
            MANY.get_or_init(|| Source::make($base, true, replay_lab::workload::many)).await
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn relay_gives_the_source_at_every_kind_of_target() {
            replay_lab::every_target(source().await, Method::Relay).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn sql_gives_the_source_at_every_kind_of_target() {
            replay_lab::every_target(source().await, Method::Sql).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn pipe_gives_the_source_at_every_kind_of_target() {
            replay_lab::every_target(source().await, Method::Pipe).await;
        }

        /// An applier may do it too; a client may not, unless its server is told.
        #[tokio::test]
        #[ignore = $needs]
        async fn what_the_source_let_its_sessions_do_is_replayed_by_every_method() {
            let source = Source::make($base, true, replay_lab::workload::permitted).await;
            for method in [Method::Pipe, Method::Sql, Method::Relay] {
                let target = |_: usize, moment: &replay_lab::source::Moment| {
                    TargetAt::Position(moment.position.clone())
                };
                replay_lab::every_moment(&source, method, target).await;
            }
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn transactions_of_100_mb_are_replayed_by_every_method() {
            let source = Source::make($base, true, replay_lab::workload::large).await;
            replay_lab::everything_by(&source, &[Method::Relay, Method::Sql, Method::Pipe]).await;
        }

        /// The new master's first file begins with what the old one had, so its range starts in the middle.
        #[tokio::test]
        #[ignore = $needs]
        async fn after_a_failover_every_method_takes_each_transaction_once() {
            replay_lab::failover(many().await, &[Method::Relay, Method::Sql, Method::Pipe]).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn server_follows_nobody_afterwards() {
            replay_lab::follows_nobody(many().await).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn stops_are_those_of_the_stock_tool() {
            replay_lab::stops_where_the_stock_tool_stops(source().await);
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn after_a_crash_tables_without_transactions_are_in_doubt() {
            replay_lab::tables_without_transactions_are_in_doubt(source().await).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn events_of_the_scheduler_stay_enabled() {
            replay_lab::events_stay_enabled($base).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn events_are_known_in_every_form() {
            replay_lab::events_are_known_in_every_form($base).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn a_distributed_transaction_is_left_out_and_what_completes_it() {
            replay_lab::distributed_transaction_is_left_out($base).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn prepared_transactions_are_named() {
            replay_lab::prepared_transactions_are_named($base).await;
        }

        #[tokio::test]
        #[ignore = $needs]
        async fn statements_mean_their_sessions() {
            replay_lab::statements_mean_their_sessions($base).await;
        }
    };
}
