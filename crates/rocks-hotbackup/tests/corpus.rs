//! Every kept input of the fuzz targets, those that once failed included.

mod common;
#[path = "../../../tests/common/corpus.rs"]
mod corpus;

use corpus::replay;

#[test]
fn live() {
    replay("live", common::fuzz::live);
}

#[test]
fn sst() {
    replay("sst", common::fuzz::sst);
}

#[test]
fn archive() {
    replay("archive", common::fuzz::archive);
}

#[test]
fn manifest() {
    replay("manifest", common::fuzz::manifest);
}
