//! Laws of GTID sets, in both flavours, against a set of single transactions.

use std::collections::BTreeSet;

use binlog_replay::{Flavor, Gtid, GtidSet};
use proptest::prelude::*;

const UUIDS: [&str; 2] = ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"];
const TAGS: [&str; 3] = ["", "billing:", "nightly:"];

fn gtid(flavor: Flavor, source: usize, number: u64) -> Gtid {
    let text = match flavor {
        Flavor::MySql => format!("{}:{}{number}", UUIDS[source % 2], TAGS[source % 3]),
        Flavor::MariaDb => format!("{}-1-{number}", source % 6),
    };
    text.parse().unwrap()
}

fn set(flavor: Flavor, members: &BTreeSet<(usize, u64)>) -> GtidSet {
    let mut set = GtidSet::new(flavor);
    for (source, number) in members {
        assert!(set.insert(&gtid(flavor, *source, *number)));
    }
    set
}

fn members() -> impl Strategy<Value = BTreeSet<(usize, u64)>> {
    prop::collection::btree_set((0..6usize, 1..30u64), 0..40)
}

fn flavor() -> impl Strategy<Value = Flavor> {
    prop_oneof![Just(Flavor::MySql), Just(Flavor::MariaDb)]
}

proptest! {
    #[test]
    fn operations_agree_with_sets_of_single_transactions(f in flavor(), a in members(), b in members()) {
        let (x, y) = (set(f, &a), set(f, &b));
        prop_assert_eq!(x.union(&y), set(f, &(&a | &b)));
        prop_assert_eq!(x.minus(&y), set(f, &(&a - &b)));
        prop_assert_eq!(x.intersection(&y), set(f, &(&a & &b)));
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        prop_assert_eq!(x.is_disjoint(&y), a.is_disjoint(&b));
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.count(), a.len() as u64);
        for source in 0..6 {
            for number in 1..31 {
                prop_assert_eq!(x.contains(&gtid(f, source, number)), a.contains(&(source, number)));
            }
        }
    }

    #[test]
    fn printed_sets_parse_to_themselves(f in flavor(), a in members()) {
        let x = set(f, &a);
        let text = x.to_string();
        prop_assert_eq!(&GtidSet::parse(f, &text).unwrap(), &x, "{}", text);
        prop_assert_eq!(GtidSet::parse(f, &text).unwrap().to_string(), text);
    }

    #[test]
    fn order_of_insertion_means_nothing(f in flavor(), a in members()) {
        let forward = set(f, &a);
        let mut backward = GtidSet::new(f);
        for (source, number) in a.iter().rev() {
            backward.insert(&gtid(f, *source, *number));
        }
        prop_assert_eq!(forward.to_string(), backward.to_string());
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[0-9a-f:,. -]{0,60}") {
        let _ = GtidSet::parse(Flavor::MySql, &text);
        let _ = GtidSet::parse(Flavor::MariaDb, &text);
        let _ = text.parse::<Gtid>();
    }
}

#[test]
fn mysql_sets_print_as_the_server_prints_them() {
    let cases = [
        ("", ""),
        ("3E11FA47-71CA-11E1-9E33-C80AA9429562:5:1-3", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:5"),
        ("3e11fa4771ca11e19e33c80aa9429562:1-3:4-5,\n", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"),
        (
            "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:1:Tag_b:9:tag_a:1-3, 3e11fa47-71ca-11e1-9e33-c80aa9429562:1",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1,aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:1:tag_a:1-3:tag_b:9",
        ),
        ("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:x:1", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:x:1"),
    ];
    for (text, printed) in cases {
        assert_eq!(GtidSet::parse(Flavor::MySql, text).unwrap().to_string(), printed);
    }
}

#[test]
fn bad_mysql_sets_are_refused() {
    let u = UUIDS[0];
    for rest in
        ["", ":", ":0", ":5-3", ":1-", ":-1", ":1:tag", ":tag", ":9223372036854775807", ":1 2", ":1:2x:3"]
    {
        assert!(GtidSet::parse(Flavor::MySql, &format!("{u}{rest}")).is_err(), "{rest}");
    }
    assert!(GtidSet::parse(Flavor::MySql, "3e11fa47:1").is_err());
}

#[test]
fn mariadb_positions_mean_everything_up_to_them() {
    let position = GtidSet::parse(Flavor::MariaDb, "0-1-100,7-2-3").unwrap();
    assert!(position.contains(&"0-9-1".parse().unwrap()) && position.contains(&"0-1-100".parse().unwrap()));
    assert!(!position.contains(&"0-1-101".parse().unwrap()) && !position.contains(&"1-1-1".parse().unwrap()));
    let exact = GtidSet::parse_exact(Flavor::MariaDb, "0-1-100").unwrap();
    assert!(exact.contains(&"0-1-100".parse().unwrap()) && !exact.contains(&"0-1-99".parse().unwrap()));
    assert_eq!(exact.to_string(), "0-1-100..100");
    assert_eq!(position.minus(&exact).to_string(), "0-1-99,7-2-3");
    let both = GtidSet::parse(Flavor::MariaDb, "0-1-5")
        .unwrap()
        .union(&GtidSet::parse(Flavor::MariaDb, "0-2-9").unwrap());
    assert_eq!(both.to_string(), "0-2-9");
    assert!(GtidSet::parse(Flavor::MariaDb, "0-1-0").unwrap().is_empty());
    for text in ["0-1", "0-1-", "a-1-1", "0-1-1-1", "0-1-9..3", "0-1-0..3", "4294967296-1-1"] {
        assert!(GtidSet::parse(Flavor::MariaDb, text).is_err(), "{text}");
    }
}
