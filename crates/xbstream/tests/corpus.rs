//! Every kept input of the fuzz targets, those that once failed included.

mod common;
#[path = "../../../tests/common/corpus.rs"]
mod corpus;

use corpus::replay;

#[test]
fn reader() {
    replay("reader", common::fuzz::reader);
}

#[test]
fn extract() {
    replay("extract", common::fuzz::extract);
}

#[test]
fn member() {
    replay("member", common::fuzz::member);
}

#[test]
fn quicklz() {
    replay("quicklz", common::fuzz::quicklz);
}

#[test]
fn round_trip() {
    replay("round_trip", common::fuzz::round_trip);
}
