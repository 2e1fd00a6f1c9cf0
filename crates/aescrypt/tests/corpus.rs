//! Every kept input of the fuzz targets, those that once failed included.

mod common;
#[path = "../../../tests/common/corpus.rs"]
mod corpus;

use corpus::replay;

#[test]
fn decryptor() {
    replay("decryptor", common::fuzz::decryptor);
}

#[test]
fn sealed() {
    replay("sealed", common::fuzz::sealed);
}

#[test]
fn altered() {
    replay("altered", common::fuzz::altered);
}
