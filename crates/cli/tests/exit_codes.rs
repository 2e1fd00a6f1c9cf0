//! The table of exit codes in the book, and the sentence in `--help`, are those of the program.

use std::collections::BTreeSet;

use assert_cmd::Command;
use dbrecover_cli::Exit;
use predicates::str::contains;

#[test]
fn table_in_the_book_is_that_of_the_program() {
    let page = include_str!("../../../docs/exit-codes.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (code, class, name) = (cells.next()?.parse::<u8>().ok()?, cells.next()?, cells.next()?);
        Some((code, class.to_owned(), name.to_owned()))
    });
    let ours = Exit::ALL
        .map(|exit| (exit as u8, exit.meaning().to_owned(), format!("`{}`", exit.name())))
        .into_iter()
        .chain([(0, "done".to_owned(), "–".to_owned())]);
    let (told, ours): (BTreeSet<_>, BTreeSet<_>) = (rows.collect(), ours.collect());
    assert_eq!(told, ours);
    let codes: BTreeSet<_> = ours.iter().map(|(code, ..)| code).collect();
    assert_eq!(codes.len(), Exit::ALL.len() + 1, "no code stands for two classes");
}

#[test]
fn help_names_the_codes_of_a_recovery() {
    let mut dbrecover = Command::cargo_bin("dbrecover").unwrap();
    let help = dbrecover.env("COLUMNS", "1000").arg("--help").assert().success();
    let words = [Exit::Usage, Exit::Nothing, Exit::Unusable, Exit::Damaged, Exit::Unproven, Exit::Terminated]
        .map(|exit| format!("{} {}", exit as u8, exit.meaning()));
    words.into_iter().fold(help, |help, words| help.stdout(contains(words)));
}
