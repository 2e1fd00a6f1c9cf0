//! Damaged files are errors or values, never a panic.

mod common;

use backup_catalog::dbscale::Accounts;
use backup_catalog::{
    BackupName, BinlogName, Catalog, FolderName, MyConf, OptionsOf, Snapshot, parse_backuped_binlogs,
    parse_consistence,
};
use common::{Fake, snapshot};
use proptest::prelude::*;

const CONSISTENCE: &str = "10.0.0.1:3306\ts1\tb.000002\t631\tbelong-to-datasource=g1\txb-to-lsn=7\t\
                           xb-to-binlog-name=b.000001\txb-to-binlog-pos=4\n";

#[test]
fn every_cut_and_every_changed_byte_of_a_consistence_line_is_a_line_or_a_named_error() {
    let whole = parse_consistence("f", CONSISTENCE.as_bytes()).unwrap();
    for cut in 1..CONSISTENCE.len() - 1 {
        match parse_consistence("f", &CONSISTENCE.as_bytes()[..cut]) {
            Ok(lines) => assert_eq!(cut, CONSISTENCE.len() - 1, "{lines:?}"),
            Err(error) => assert!(error.to_string().starts_with("f:1: "), "{error}"),
        }
    }
    for at in 0..CONSISTENCE.len() {
        let mut bytes = CONSISTENCE.as_bytes().to_vec();
        bytes[at] ^= 0x80;
        assert!(parse_consistence("f", &bytes).is_err(), "byte {at} is no ASCII");
        bytes[at] = b'\t';
        if let Ok(lines) = parse_consistence("f", &bytes) {
            assert_eq!(lines, whole, "byte {at}");
        }
    }
}

const OF: OptionsOf = OptionsOf::new(true);

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_consistence("f", &bytes);
        let _ = parse_backuped_binlogs("f", &bytes);
        let _ = Accounts::parse("f", &bytes);
        let _ = Snapshot::from_find(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = MyConf::parse(&text, &OF);
        let _ = (BinlogName::parse(&text), FolderName::parse(&text), text.parse::<BackupName>());
    }

    #[test]
    fn any_text_near_the_real_ones_is_read_or_refused(text in "[UTC0-9.\\-a-z:=/ \\t\\[\\]\u{e4}]{0,60}") {
        let _ = parse_consistence("f", text.as_bytes());
        let _ = MyConf::parse(&format!("[mysqld]\n{text}"), &OF);
        if let Ok(name) = text.parse::<BackupName>() {
            let _ = (name.kind(), name.start());
        }
    }

    #[test]
    fn any_file_of_a_backup_may_hold_anything(which in 0_usize..30, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let fake = Fake::full("01:00", 1..=2);
        let mut store = snapshot(std::slice::from_ref(&fake));
        let path = &fake.files[which % fake.files.len()].0;
        store.content(&format!("{}/{path}", fake.name), &bytes);
        let catalog = Catalog::read(&store).unwrap();
        let _ = (catalog.windows(), catalog.chains());
    }
}
