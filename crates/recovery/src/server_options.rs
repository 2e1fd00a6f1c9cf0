//! What a temporary server must be told so that it reads the datadir as the server that was backed up did.

use std::ffi::OsString;

use binlog_replay::{Flavor, ServerVersion};

use crate::my_conf::{LETTER_CASE, Reading};

/// Options of `backup-my.cnf` that say how the files of InnoDB are laid out. The rest of that file is advice to
/// the backup tool; options that a version no longer knows stop its server.
const LAYOUT: &[&str] = &[
    "innodb_data_file_path",
    "innodb_page_size",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "innodb_log_checksums",
    "innodb_file_per_table",
];

/// Options of the server's own `my.conf` that change what statements and names mean.
const MEANING: &[&str] = &[
    LETTER_CASE,
    "character_set_server",
    "collation_server",
    "default_time_zone",
    "sql_mode",
    "old_mode",
    "block_encryption_mode",
    "max_heap_table_size",
    "partial_revokes",
    "explicit_defaults_for_timestamp",
    "innodb_strict_mode",
    "innodb_default_row_format",
    "innodb_large_prefix",
    "innodb_autoinc_lock_mode",
    "default_storage_engine",
    "default_week_format",
    "div_precision_increment",
    "group_concat_max_len",
    "ft_min_word_len",
    "ft_max_word_len",
    "ft_stopword_file",
    "innodb_ft_min_token_size",
    "innodb_ft_max_token_size",
    "innodb_ft_enable_stopword",
    "innodb_ft_server_stopword_table",
    "innodb_ft_user_stopword_table",
    "ngram_token_size",
    "transaction_isolation",
    "auto_increment_increment",
    "auto_increment_offset",
    "gtid_domain_id",
    "default_authentication_plugin",
    "authentication_policy",
    "binlog_checksum",
];

/// The options for the datadir of the server with this folder; `letter_case` is for one whose `my.conf` says none.
pub(crate) fn of_backup(
    backup_my_cnf: &str,
    my_conf: &str,
    letter_case: Option<u8>,
    version: &ServerVersion,
    folder: &str,
) -> Vec<OsString> {
    let reading = Reading::of(version, folder);
    let (layout, meaning) = (reading.parse(backup_my_cnf), reading.parse(my_conf));
    let mut options = Vec::new();
    for (source, names) in [(&layout, LAYOUT), (&meaning, MEANING)] {
        for name in names.iter().filter(|name| knows(version, name)) {
            let Some((form, value)) = source.form(name) else { continue };
            let form = form.replace('_', "-");
            options
                .push(value.map_or_else(|| format!("--{form}"), |value| format!("--{form}={value}")).into());
        }
    }
    if let (Some(letter_case), None) = (letter_case, meaning.form(LETTER_CASE)) {
        options.push(format!("--lower-case-table-names={letter_case}").into());
    }
    options
}

/// What keeps a recovered server that is left running at what it was recovered to: it follows nobody, and takes no settings
/// that were stored with `SET PERSIST`, which would win over all options.
pub(crate) fn left_alone(version: &ServerVersion) -> Vec<OsString> {
    let mysql = |major, minor, patch| version.at_least(Flavor::MySql, major, minor, patch);
    let mut options =
        vec![if mysql(8, 0, 26) { "--skip-replica-start" } else { "--skip-slave-start" }.into()];
    if mysql(8, 0, 0) {
        options.push("--persisted-globals-load=OFF".into());
    }
    options
}

/// Whether a server of this version knows the option. Sources: the removal notes of MySQL 5.7 to 9.x and of
/// MariaDB 10.5 to 11.x.
fn knows(version: &ServerVersion, name: &str) -> bool {
    let mysql = |major, minor| version.at_least(Flavor::MySql, major, minor, 0);
    let maria = |major, minor| version.at_least(Flavor::MariaDb, major, minor, 0);
    let is_maria = version.flavor == Flavor::MariaDb;
    match name {
        // 8.0 keeps its undo tablespaces in the dictionary; MariaDB reads them from the files.
        "innodb_undo_tablespaces" => is_maria || !mysql(8, 0),
        "innodb_log_checksums" => !is_maria,
        "innodb_large_prefix" => !is_maria && !mysql(8, 0),
        "innodb_checksum_algorithm" => true,
        "innodb_file_per_table" => !maria(11, 3),
        "gtid_domain_id" | "old_mode" => is_maria,
        "ngram_token_size" => !is_maria,
        "block_encryption_mode" => maria(11, 2) || version.at_least(Flavor::MySql, 5, 6, 17),
        "partial_revokes" => version.at_least(Flavor::MySql, 8, 0, 16),
        "default_authentication_plugin" => !is_maria && !mysql(8, 4),
        "authentication_policy" => mysql(8, 0),
        "explicit_defaults_for_timestamp" => true,
        "transaction_isolation" => !is_maria || maria(11, 1),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKUP: &str = "[mysqld]\ninnodb_checksum_algorithm=full_crc32\ninnodb_data_file_path=ibdata1:12M:autoextend\n\
                          innodb_page_size=32768\ninnodb_undo_tablespaces=3\n";

    fn options(my_conf: &str, version: &str) -> Vec<String> {
        with_case(my_conf, None, version)
    }

    fn with_case(my_conf: &str, letter_case: Option<u8>, version: &str) -> Vec<String> {
        let options = of_backup(BACKUP, my_conf, letter_case, &version.parse().unwrap(), "g-s-h-3307");
        options.into_iter().map(|o| o.into_string().unwrap()).collect()
    }

    #[test]
    fn page_size_and_data_files_are_those_of_the_backup() {
        let options = options("", "10.11.6-MariaDB");
        assert!(options.contains(&"--innodb-page-size=32768".to_owned()), "{options:?}");
        assert!(options.contains(&"--innodb-data-file-path=ibdata1:12M:autoextend".to_owned()));
        assert!(options.contains(&"--innodb-undo-tablespaces=3".to_owned()));
    }

    #[test]
    fn table_names_keep_the_case_that_the_server_gave_them() {
        let with = |value: &str| options(&format!("[mysqld]\nlower-case-table-names = {value}\n"), "8.0.36");
        assert!(with("1").contains(&"--lower-case-table-names=1".to_owned()));
        assert!(with("0").contains(&"--lower-case-table-names=0".to_owned()));
        assert!(!options("[mysqld]\n", "8.0.36").iter().any(|o| o.contains("lower-case")));
        let case = |my_conf: &str, version: &str| {
            let mut options = with_case(my_conf, Some(0), version);
            options.retain(|option| option.contains("lower-case"));
            options
        };
        assert_eq!(case("", "10.11.6-MariaDB"), ["--lower-case-table-names=0"]);
        for group in ["[mariadbd]", "[mysqld1]\nport=3307", "[MYSQLD-10.11]", "[client-server]"] {
            let my_conf = format!("{group}\nlower_case_table_names=1# as the others\n");
            assert_eq!(case(&my_conf, "10.11.6-MariaDB"), ["--lower-case-table-names=1"], "{group}");
        }
    }

    #[test]
    fn an_option_without_a_value_is_said_as_it_was() {
        let options = options(
            "[mysqld]\nexplicit_defaults_for_timestamp\nskip-innodb-strict-mode\nloose-innodb_file_per_table\n",
            "5.7.44",
        );
        for option in ["--explicit-defaults-for-timestamp", "--skip-innodb-strict-mode"] {
            assert!(options.contains(&option.to_owned()), "{options:?}");
        }
    }

    #[test]
    fn words_are_cut_and_left_out_of_an_index_as_they_were() {
        let lines = [
            "ngram-token-size=1",
            "ft-max-word-len=20",
            "innodb-ft-max-token-size=30",
            "innodb-ft-enable-stopword=0",
            "innodb-ft-server-stopword-table=a/stop",
            "innodb-ft-user-stopword-table=a/stop",
            "ft-stopword-file=",
        ];
        let my_conf = format!("[mysqld]\n{}\n", lines.join("\n"));
        for (version, known) in [("9.7.4", &lines[..]), ("10.11.6-MariaDB", &lines[1..])] {
            let options = options(&my_conf, version);
            let words: Vec<_> = options.iter().filter_map(|o| o.strip_prefix("--")).collect();
            assert!(known.iter().all(|line| words.contains(line)), "{options:?}");
            assert_eq!(words.iter().filter(|word| lines.contains(word)).count(), known.len());
        }
    }

    #[test]
    fn what_changes_the_meaning_of_statements_is_the_sources() {
        let conf = "[mysqld]\nold-mode=\nblock_encryption_mode=aes-256-cbc\nmax_heap_table_size=64M\npartial_revokes=ON\n";
        let maria = options(conf, "10.11.6-MariaDB");
        assert!(maria.contains(&"--old-mode=".to_owned()), "{maria:?}");
        assert!(maria.contains(&"--max-heap-table-size=64M".to_owned()), "{maria:?}");
        assert!(!maria.iter().any(|o| o.contains("encryption") || o.contains("revokes")), "{maria:?}");
        assert!(options(conf, "11.4.2-MariaDB").contains(&"--block-encryption-mode=aes-256-cbc".to_owned()));
        let mysql = options(conf, "8.0.36");
        for wanted in
            ["--block-encryption-mode=aes-256-cbc", "--max-heap-table-size=64M", "--partial-revokes=ON"]
        {
            assert!(mysql.contains(&wanted.to_owned()), "{mysql:?}");
        }
        assert!(!mysql.iter().any(|o| o.contains("old-mode")), "{mysql:?}");
    }

    #[test]
    fn options_that_a_version_does_not_know_are_left_out() {
        assert!(!options("", "9.7.4").iter().any(|o| o.contains("undo-tablespaces")));
        assert!(
            !options("[mysqld]\ngtid_domain_id=3\n", "9.7.4").iter().any(|o| o.contains("gtid-domain-id"))
        );
        assert!(
            options("[mysqld]\ngtid_domain_id=3\n", "10.11.6-MariaDB")
                .contains(&"--gtid-domain-id=3".to_owned())
        );
    }
}
