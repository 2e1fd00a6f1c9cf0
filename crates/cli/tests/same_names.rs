//! Crates that do not know each other look for the same files: each names them itself, and here the names are compared.

use backup_catalog::layout;
use xbstream::member::Format;

#[test]
fn what_unpacks_a_backup_looks_for_what_stores_hold() {
    assert_eq!(backup_unpack::STREAM, layout::STREAM);
    assert_eq!(backup_unpack::BASE, layout::BASE);
}

#[test]
fn whole_backups_have_the_file_that_the_driver_reads() {
    assert_eq!(backup_unpack::CHECKPOINTS, xtra_driver::Checkpoints::NAMES);
}

#[test]
fn what_the_driver_calls_compressed_or_encrypted_is_undone() {
    let endings = Format::ALL.map(Format::suffix);
    let known: Vec<_> = xtra_driver::COMPRESSED.into_iter().chain([xtra_driver::ENCRYPTED]).collect();
    assert_eq!(endings[..], known[..]);
}
