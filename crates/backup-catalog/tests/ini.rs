//! INI files are read as Python's `configparser` reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use backup_catalog::ini::Ini;
use backup_catalog::{Error, Problem};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn every_case_reads_as_pythons_configparser_reads_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ini");
    let golden: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(dir.join("golden.json")).unwrap()).unwrap();
    let files = fs::read_dir(dir.join("cases")).unwrap().count();
    assert_eq!(golden.len(), files, "run golden.py after adding a case");
    for (case, expected) in golden {
        let text = fs::read_to_string(dir.join("cases").join(&case)).unwrap();
        let found = Ini::parse(&*case, &text);
        if let Some(name) = expected.get("error").and_then(Value::as_str) {
            let Err(Error::Line { line, problem, .. }) = found else { panic!("{case}: {name} expected") };
            assert_eq!(python_name(&problem), name, "{case}");
            assert_eq!(Some(line as u64), expected["line"].as_u64(), "{case}");
            continue;
        }
        let ini = found.unwrap_or_else(|e| panic!("{case}: {e}"));
        let mut sections = serde_json::Map::new();
        for section in ini.sections() {
            let values = ini.keys(section).map(|key| (key.to_owned(), ini.get(section, key).unwrap().into()));
            sections.insert(section.to_owned(), Value::Object(values.collect()));
        }
        assert_eq!(Value::Object(sections), expected, "{case}");
    }
}

fn python_name(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoSection => "MissingSectionHeaderError",
        Problem::NotIni => "ParsingError",
        Problem::DuplicateSection(_) => "DuplicateSectionError",
        Problem::DuplicateKey(_) => "DuplicateOptionError",
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_that_interpolation_would_have_changed_are_found() {
    let ini = Ini::parse("f", "[DEFAULT]\nd = %%\n[a]\nx = a%b\ny = 50%%\nz = %(x)s\n").unwrap();
    let found: Vec<_> = ini.doubled_percents().collect();
    assert_eq!(found, [("a", "y", 5), ("a", "z", 6), ("DEFAULT", "d", 2)]);
}

#[test]
fn debugging_shows_keys_and_no_values() {
    let ini = Ini::parse("f", "[a]\npassword = S3cret\n").unwrap();
    let shown = format!("{ini:?}");
    assert!(shown.contains("password") && !shown.contains("S3cret"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[\\[\\]=:#; \\n\\r\tab%\u{e4}]{0,60}") {
        let _ = Ini::parse("f", &text);
    }

    #[test]
    fn what_is_written_is_read(values in prop::collection::btree_map("[a-z]{1,8}", "[!-~]([ -~]{0,20}[!-~])?", 0..8)) {
        let text: String = values.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
        let ini = Ini::parse("f", &format!("[s]\n{text}")).unwrap();
        for (key, value) in &values {
            prop_assert_eq!(ini.get("s", key), Some(value.as_str()));
        }
    }
}
