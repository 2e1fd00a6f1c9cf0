//! The beginnings of options that scripts may have used.
//!
//! The program before this one took any beginning of an option that was unambiguous among its own options. This program
//! has more of them (`--checksum` beside `--checkpoint-dir`), so those beginnings are written out before clap sees them.

use std::ffi::OsString;

/// The long options of the program before this one.
const ORIGINAL: [&str; 19] = [
    "help",
    "interval",
    "checkpoint-dir",
    "datadir",
    "stream",
    "destination",
    "avg-mbytes-per-sec",
    "extra-wdt-sender-options",
    "extra-wdt-receiver-options",
    "user",
    "password",
    "port",
    "socket",
    "move-back",
    "rocksdb-datadir",
    "rocksdb-waldir",
    "backup-dir",
    "skip-check-frm-timestamp",
    "debug-signal-file",
];

/// The command line with the beginnings written out. `known` tells the options that are spelled as they are.
pub(super) fn written_out(
    line: impl IntoIterator<Item = OsString>,
    known: impl Fn(&str) -> bool,
) -> impl Iterator<Item = OsString> {
    let (mut is_value, mut ended) = (false, false);
    line.into_iter().map(move |word| {
        let after_wdt_options = std::mem::take(&mut is_value);
        let Some(text) = word.to_str().filter(|_| !ended && !after_wdt_options) else { return word };
        ended = text == "--";
        let Some(option) = text.strip_prefix("--").filter(|o| !o.is_empty()) else { return word };
        let (name, value) = option.split_at(option.find('=').unwrap_or(option.len()));
        let full = if known(name) { name.to_owned() } else { full_name(name).unwrap_or(name).to_owned() };
        // The values of these two are options of another program.
        is_value = value.is_empty() && full.starts_with("extra");
        format!("--{full}{value}").into()
    })
}

fn full_name(beginning: &str) -> Option<&'static str> {
    let beginning = beginning.replace('_', "-");
    let mut names = ORIGINAL.into_iter().filter(|name| name.starts_with(&beginning));
    names.next().filter(|_| names.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let words = text.split(' ').map(OsString::from);
        let words = written_out(words, |name| matches!(name, "checksum" | "password-file" | "parallel"));
        words.map(|w| w.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_was_unambiguous_stays_so() {
        assert_eq!(line("--c=/x --pa --i 5"), "--checkpoint-dir=/x --password --interval 5");
        assert_eq!(line("--rocksdb_d /r --skip_c"), "--rocksdb-datadir /r --skip-check-frm-timestamp");
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "--checksum=sha256 --password-file f --parallel",
            "--s tar --incr x",
            "-c /x --",
            "-- --c",
            "--x=--c",
        ] {
            assert_eq!(line(text), text);
        }
        assert_eq!(line("--extra_wdt_s --c --c x"), "--extra-wdt-sender-options --c --checkpoint-dir x");
    }
}
