//! Binlogs of a newer server than the one that will apply them.

#[path = "common/build.rs"]
mod build;

use binlog_replay::Flavor;
use binlog_replay::replay::{Method, Plan, Request, plan};
use build::Log;

const A: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

/// What is planned for binlogs of MySQL 8.0.36.
fn planned(server: &str, method: Method) -> Result<Plan, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&format!("{A}:1")), 1_700_000_100, None);
    log.close(dir.path(), "log.000001");
    let mut request: Request = serde_json::from_value(serde_json::json!({
        "schema_version": 1, "server_version": server, "binlogs": [dir.path()],
        "start": { "position": "log.000001:4", "executed": "" }, "target": "end", "datadir": "/nowhere"
    }))
    .unwrap();
    request.method = method;
    plan(&request).map_err(|error| error.to_string())
}

#[test]
fn only_statements_that_know_what_they_leave_out_are_exact_on_an_older_server() {
    for server in ["8.0.30", "8.0.36", "8.4.0"] {
        let plan = planned(server, Method::Auto).unwrap();
        assert_eq!((plan.choice.method, plan.range.warnings), (Method::Relay, vec![]), "{server}");
    }
    let plan = planned("5.7.44", Method::Auto).unwrap();
    assert_eq!(plan.choice.method, Method::Sql);
    assert!(plan.choice.reason.contains("MySQL 8.0.36"), "{}", plan.choice.reason);
    assert!(plan.range.warnings[0].contains("MySQL 8.0.36 wrote the binlogs"), "{:?}", plan.range.warnings);
    assert!(planned("5.7.44", Method::Relay).unwrap_err().contains("is newer"));
}
