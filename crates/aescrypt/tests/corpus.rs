//! Every kept input of the fuzz targets, those that once failed included.

mod common;
#[path = "../../../tests/common/corpus.rs"]
mod corpus;

corpus::replay_each!(decryptor, sealed, altered);
