//! Every kept input of the fuzz targets, those that once failed included.

mod common;
#[path = "../../../tests/common/corpus.rs"]
mod corpus;

use corpus::replay;

#[test]
fn tar() {
    replay("tar", common::fuzz::tar);
}

#[test]
fn encrypted() {
    replay("encrypted", common::fuzz::encrypted);
}

#[test]
fn base() {
    replay("base", common::fuzz::base);
}

#[test]
fn folder() {
    replay("folder", common::fuzz::folder);
}
