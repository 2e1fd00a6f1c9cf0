//! Finding and showing transactions of the real files.

mod common;

use binlog_replay::{
    Filter, Found, Position, ShowLimits, Shown, StatementKind, Step, Which, find, scan, show,
};

fn found(folder: &str, filter: Filter) -> Vec<Found> {
    let index = scan(&[common::fixtures().join(folder)]).unwrap();
    let mut all = Vec::new();
    find(&index, &filter, |f| {
        all.push(f);
        true
    })
    .unwrap();
    all
}

fn table(name: &str, kinds: &[StatementKind]) -> Filter {
    Filter {
        schema: Some("shop".into()),
        table: Some(name.into()),
        kinds: kinds.to_vec(),
        ..Filter::default()
    }
}

fn shown(folder: &str, position: &Position) -> Shown {
    let index = scan(&[common::fixtures().join(folder)]).unwrap();
    show(&index, &Which::At(position.clone()), ShowLimits::default()).unwrap().unwrap()
}

/// All steps as lines of text.
fn lines(shown: &Shown) -> Vec<String> {
    let mut out = Vec::new();
    for step in &shown.steps {
        match step {
            Step::Statement { text, .. } => out.push(text.clone()),
            Step::Comment { text } => out.push(format!("# {text}")),
            Step::Setting { text } => out.push(text.clone()),
            Step::Rows { table, rows, kind, .. } => {
                for row in rows {
                    out.push(format!("{kind:?} {table} {:?} -> {:?}", row.before, row.after));
                }
            }
            step => out.push(format!("{step:?}")),
        }
    }
    out
}

/// The lines of the only transaction that fits.
fn only(folder: &str, filter: Filter) -> Vec<String> {
    let all = found(folder, filter);
    assert_eq!(all.len(), 1, "{all:?}");
    lines(&shown(folder, &all[0].mark.start))
}

fn with_text(text: &str) -> Filter {
    Filter { text: Some(text.into()), ..Filter::default() }
}

#[test]
fn every_transaction_is_found_and_can_be_shown() {
    for folder in ["mysql", "mysql-nogtid", "mysql-open", "mariadb", "mariadb-open", "mariadb-compressed"] {
        let index = scan(&[common::fixtures().join(folder)]).unwrap();
        let all = found(folder, Filter::default());
        assert_eq!(all.len() as u64, index.files.iter().map(|f| f.transactions).sum::<u64>());
        for transaction in all {
            let which = match &transaction.mark.gtid {
                Some(gtid) => Which::Gtid(gtid.clone()),
                None => Which::At(transaction.mark.start.clone()),
            };
            let shown = show(&index, &which, ShowLimits::default()).unwrap().unwrap();
            assert_eq!(shown.mark, transaction.mark);
        }
    }
}

#[test]
fn a_drop_table_is_found_with_the_place_to_stop_before_it() {
    for (folder, table_name) in
        [("mysql", "odd"), ("mysql-nogtid", "orders"), ("mariadb", "odd"), ("mariadb-compressed", "orders")]
    {
        let all: Vec<Found> = found(folder, table(table_name, &[StatementKind::Ddl]))
            .into_iter()
            .filter(|f| f.statements[0].starts_with("DROP TABLE"))
            .collect();
        assert_eq!(all.len(), 1, "{folder}: {all:?}");
        let index = scan(&[common::fixtures().join(folder)]).unwrap();
        let ddl = index.files.iter().find(|f| f.name == all[0].mark.start.file).unwrap();
        assert_eq!(ddl.ddl.last().unwrap().start, all[0].mark.start.pos);
    }
}

#[test]
fn rows_are_found_by_table_kind_and_text() {
    let deleted = found("mysql", table("kinds", &[StatementKind::Delete]));
    assert_eq!(deleted.len(), 1);
    assert_eq!(
        (deleted[0].changes[0].rows, deleted[0].statements[0].as_str()),
        (1, "DELETE FROM kinds WHERE id = 2")
    );
    // In the statement, whatever its case, and in a compressed payload.
    assert_eq!(found("mysql", with_text("PRESSED")).len(), 1);
    // Only in the rows of a file without statement texts.
    assert_eq!(found("mysql-nogtid", with_text("plum")).len(), 1);
    // In compressed rows of MariaDB.
    assert_eq!(found("mariadb-compressed", with_text("ripe ripe")).len(), 1);
    assert!(found("mysql", table("kind", &[])).is_empty());
    let all = found("mysql", Filter::default());
    let middle = all[10].mark.time;
    let late = found("mysql", Filter { since: Some(middle), ..Filter::default() });
    let early = found("mysql", Filter { until: Some(middle), ..Filter::default() });
    assert_eq!(early.len() + late.len(), all.len());
    assert_eq!(late[0].mark, all[10].mark);
}

#[test]
fn all_column_types_print_as_they_were_inserted() {
    let mysql = only("mysql", with_text("INSERT INTO kinds VALUES"));
    let mariadb = only("mariadb", with_text("INSERT INTO kinds VALUES"));
    let common = [
        r#"("t1", "-128")"#,
        r#"("t1u", "255")"#,
        r#"("t2", "-32768")"#,
        r#"("t2u", "65535")"#,
        r#"("t3", "-8388608")"#,
        r#"("t3u", "16777215")"#,
        r#"("t8", "-9223372036854775808")"#,
        r#"("t8u", "18446744073709551615")"#,
        r#"("f", "1.5")"#,
        r#"("d", "-2.25e100")"#,
        r#"("n", "-123456789012345.67891")"#,
        r#"("nn", "99999")"#,
        r#"("b1", "b'1'")"#,
        r#"("b20", "b'10101010101010101010'")"#,
        r#"("y", "2026")"#,
        r#"("dt", "'2026-02-03'")"#,
        r#"("tm", "'-838:59:59'")"#,
        r#"("tm3", "'12:34:56.789'")"#,
        r#"("tm6", "'-00:00:00.000001'")"#,
        r#"("dd", "'2026-02-03 04:05:06'")"#,
        r#"("dd2", "'2026-02-03 04:05:06.78'")"#,
        r#"("dd6", "'9999-12-31 23:59:59.999999'")"#,
        r#"("ts", "'2026-02-03 02:05:06'")"#,
        r#"("ts3", "'2026-02-03 02:05:06.789'")"#,
        r#"("ts6", "'2026-02-03 02:05:06.789012'")"#,
        r#"("c", "'char'")"#,
        r#"("v", "'it''s \"quoted\" \\\\ \\n'")"#,
        r#"("bi", "x'0001020304050607'")"#,
        r#"("vb", "x'ff00'")"#,
        r#"("mb", "'M'")"#,
        r#"("tx", "x'74736368fcdf'")"#,
        r#"("e", "3")"#,
        r#"("s", "5 /* members 1,3 */")"#,
        r#"("p", "x'000000000101000000000000000000f83f00000000000004c0'")"#,
    ];
    for (lines, is_mysql) in [(&mysql, true), (&mariadb, false)] {
        let rows = lines.iter().find(|l| l.starts_with("Insert kinds")).unwrap();
        for value in common {
            assert!(rows.contains(value), "MySQL {is_mysql}: {value} is not in {rows}");
        }
    }
    let json = r#"("j", "'{\"a\": [1, 2.5, true, null, \"x\"], \"b\": {\"c\": -70000, \"d\": 18446744073709551615}}'")"#;
    assert!(mysql.iter().any(|l| l.contains(json)));
}

#[test]
fn partial_json_prints_as_operations() {
    let lines = only("mysql", with_text("UPDATE doc SET j = JSON_SET"));
    assert!(
        lines[2]
            .ends_with(r#"("j", "JSON_REPLACE('$.list[1]', '\"new\"') JSON_INSERT('$.deep.more', '5')")])"#),
        "{}",
        lines[2]
    );
    let lines = only("mysql", with_text("UPDATE doc SET j = JSON_REMOVE"));
    assert!(lines[2].ends_with(r#"("j", "JSON_REMOVE('$.deep.k')")])"#), "{}", lines[2]);
    let lines = only("mysql", with_text("INSERT INTO doc VALUES (2"));
    for part in [
        r#"\"d\": 1.50"#,
        r#"\"f\": 1.5"#,
        r#"\"u\": 5000000000"#,
        r#"\"t\": \"12:13:14.000000\""#,
        r#"\"dt\": \"2026-02-03\""#,
    ] {
        assert!(lines[2].contains(part), "{part} is not in {}", lines[2]);
    }
}

#[test]
fn values_for_statements_print_as_settings() {
    for folder in ["mysql", "mariadb"] {
        let lines = only(folder, with_text("INSERT INTO parts VALUES (200"));
        for setting in [
            "SET @`name`:='user''s value'",
            "SET @`number`:=-5",
            "SET @`real`:=1.25",
            "SET @`dec`:=12.50",
            "SET @`nothing`:=NULL",
            "SET @`latin`:=x'fc'",
        ] {
            assert!(lines.iter().any(|l| l == setting), "{folder}: {setting} is not in {lines:?}");
        }
        let big = only(folder, with_text("@big"));
        assert!(big.iter().any(|l| l == "SET @`big`:=18446744073709551615"), "{big:?}");
        assert!(big.iter().any(|l| l == "SET LAST_INSERT_ID=1"), "{big:?}");
    }
}

#[test]
fn passwords_are_not_shown() {
    for folder in ["mysql", "mariadb"] {
        let lines = only(folder, with_text("CREATE USER"));
        assert!(
            lines[0].contains("***") && !lines[0].contains("secret") && !lines[0].contains("$A$"),
            "{lines:?}"
        );
        let index = scan(&[common::fixtures().join(folder)]).unwrap();
        let json = serde_json::to_string(&index).unwrap();
        assert!(!json.contains("secret") && !json.contains("$A$"));
    }
}

#[test]
fn compressed_columns_and_vectors_print() {
    let lines = only("mariadb", with_text("INSERT INTO squeezed"));
    assert!(lines.iter().any(|l| l.contains("/* compressed */")), "{lines:?}");
    let lines = only("mysql", with_text("INSERT INTO vectors"));
    assert!(lines.iter().any(|l| l.contains(r#"("v", "'[1, 2.5, -3]'")"#)), "{lines:?}");
}
