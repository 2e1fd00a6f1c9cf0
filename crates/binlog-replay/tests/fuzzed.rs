//! The fuzz targets' functions over every event of the fixtures, as their seeds.

mod common;
#[path = "common/fuzz.rs"]
mod fuzz;

use binlog_replay::Reader;

#[test]
fn the_functions_of_the_fuzz_targets_take_real_files_and_events() {
    let mut events = 0;
    for path in common::files() {
        fuzz::reader(&std::fs::read(&path).unwrap());
        let Ok(mut reader) = Reader::open(&path) else { continue };
        let flavor = u8::from(path.to_string_lossy().contains("/mariadb"));
        while let Ok(Some(raw)) = reader.next_event() {
            // A body cut short must be an error or an event, not a panic.
            for end in [raw.body().len(), raw.body().len() / 2, 0] {
                let kind = raw.bytes()[4];
                fuzz::event(&[&[flavor, kind], &raw.body()[..end]].concat());
            }
            events += 1;
        }
    }
    assert!(events > 300, "{events}");
}
