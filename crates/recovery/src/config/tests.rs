use secrecy::ExposeSecret;

use super::*;

const MINIMAL: &str = "[recover-to]\ndir = UTC20210205092650.735-inc\n[backup-store]\ndir = /b\n\
                       [recovery-job-server]\nwork-dir = /w\n[misc]\nconnect-method = local\n";

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, "r.conf")
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The sample file of the original, as its users have it.
const ORIGINAL: &str = "\
[recover-to]
    dir = UTC20210205092650.735-inc
    #stop-datetime= 2021-01-28 12:16:00

[backup-store]
ip = 172.16.70.234
port = 22
user = backup
password = 1%2#3;4
dir = /tmp/backup

[recovery-job-server]
ip: 172.16.70.235
port = 22
user = backup
password = 123
work-dir = /tmp/recover_dir

[misc]
debug=1
socat-port=9999
socat-port2=9998
# The socat port is occupied or socat network exception, backup tool retry times
socat-retry-count = 10
connect-method = SSH
conn-timeout = 3600
server-tmp-port = 27000
client-name = mysql
xtrabackup-bin-dir = /usr/bin/xtrabackup
xbstream-bin-dir = /usr/bin/xbstream

[rabbit-agent]
rabbitmq-uri = rabbit://admin:admin@172.16.70.234/

[adm-agent]
port = 19999
";

#[test]
fn every_key_of_the_original_is_understood() {
    let config = parse(ORIGINAL).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.recover_to, Some(RecoverTo::Backup("UTC20210205092650.735-inc".to_owned())));
    assert_eq!(config.store.password.unwrap().expose_secret(), "1%2#3;4");
    assert_eq!(config.job.ip, "172.16.70.235");
    assert_eq!(config.misc.connect, Connect::Ssh);
    assert_eq!(config.misc.socat_port2, Some(9998));
    assert_eq!(config.misc.xtrabackup.as_deref(), Some("/usr/bin/xtrabackup"));
    assert!(config.misc.debug && !config.misc.for_testing);
}

#[test]
fn defaults_are_those_of_the_table() {
    let misc = parse(MINIMAL).unwrap().misc;
    assert_eq!(misc.conn_timeout, Duration::from_secs(3600));
    assert_eq!((misc.server_tmp_port, misc.socat_retry_count), (27000, 10));
    assert_eq!(misc.client_name, "mysql");
    assert_eq!(
        (misc.replay, misc.toolchain, misc.transfer),
        (ReplayMethod::Auto, Toolchain::Auto, Transfer::Auto)
    );
    assert_eq!(misc.ds_info_dir, Path::new("/tmp"));
    assert_eq!(misc.parallel, None);
}

#[test]
fn dir_and_stop_datetime_exclude_each_other() {
    let both = MINIMAL.replace("[backup-store]", "stop-datetime = 2021-01-28 12:16:00\n[backup-store]");
    assert!(refused(&both).contains("exclude each other"), "{}", refused(&both));
    let neither = MINIMAL.replace("dir = UTC20210205092650.735-inc\n", "");
    assert_eq!(parse(&neither).unwrap().recover_to, None);
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    let text = format!("{MINIMAL}conn-timeout = soon\n");
    assert_eq!(refused(&text), "r.conf:9: [misc] conn-timeout: \"soon\" is not a number of seconds");
    assert!(refused(&MINIMAL.replace("local", "telnet")).contains("is none of local, ssh"));
    assert!(refused(&MINIMAL.replace("/w", "w")).contains("must be an absolute path"));
    assert!(refused(&MINIMAL.replace("/w", "/")).contains("other than /"));
    assert!(refused(&format!("{MINIMAL}client-name = ../sh\n")).contains("not the name of a program"));
    assert!(refused(&format!("{MINIMAL}parallel = 0\n")).contains("at least 1"));
}

#[test]
fn a_missing_key_is_named_with_what_it_is() {
    assert!(
        refused(&MINIMAL.replace("work-dir = /w\n", ""))
            .contains("[recovery-job-server] work-dir: is missing")
    );
    assert!(refused(&MINIMAL.replace("local", "ssh")).contains("[backup-store] ip: is missing"));
    assert!(
        refused(
            &MINIMAL
                .replace("= local", "= rabbit-agent\n")
                .replace("[backup-store]\n", "[backup-store]\nip = a\n")
                .replace("[recovery-job-server]\n", "[recovery-job-server]\nip = b\n")
        )
        .contains("rabbitmq-uri")
    );
}

#[test]
fn doubled_percents_are_taken_literally_with_a_warning_that_tells_no_value() {
    let config = parse(&MINIMAL.replace("dir = /b\n", "dir = /b\npassword = top%%secret\n")).unwrap();
    assert_eq!(config.store.password.as_ref().map(ExposeSecret::expose_secret), Some("top%%secret"));
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("[backup-store] password") && !warning.contains("secret"), "{warning}");
}

#[test]
fn unknown_keys_and_sections_are_warnings_that_name_the_nearest() {
    let config = parse(&format!("{MINIMAL}conect-metod = ssh\nzzz = 1\n[miscc]\na = 1\n")).unwrap();
    assert_eq!(
        config.warnings,
        [
            "r.conf:9: unknown key [misc] conect-metod; is connect-method meant?",
            "r.conf:10: unknown key [misc] zzz",
            "r.conf: unknown section [miscc]; is misc meant?",
        ]
    );
}

#[test]
fn transfers_are_compressed_only_when_asked_to() {
    let of = |line: &str| parse(&format!("{MINIMAL}{line}\n"));
    assert_eq!(of("").unwrap().misc.transfer_compress, Compression::None);
    assert_eq!(of("transfer-compress = ZSTD").unwrap().misc.transfer_compress, Compression::Zstd);
    assert!(of("transfer-compress = gzip").unwrap_err().to_string().contains("none, zstd"));
}

#[test]
fn sizes_count_as_mysql_does() {
    assert_eq!(parse_size("200M"), Some(200 << 20));
    assert_eq!(parse_size("3g"), Some(3 << 30));
    assert_eq!(parse_size("17"), Some(17));
    for bad in ["", "M", "-1", "0", "1.5G", "99999999999999T"] {
        assert_eq!(parse_size(bad), None, "{bad}");
    }
}

#[test]
fn nothing_that_is_printed_for_debugging_holds_a_password() {
    let printed = format!("{:?}", parse(ORIGINAL).unwrap());
    assert!(!printed.contains("1%2#3;4") && !printed.contains("admin:admin"));
}

#[test]
fn line_ends_and_a_byte_order_mark_of_another_system_change_nothing() {
    let config = parse(&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))).unwrap();
    assert_eq!(config.store_dir, Path::new("/b"));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn partial_backups_are_used_only_when_that_is_said() {
    assert!(!parse(MINIMAL).unwrap().allow_partial);
    assert!(parse(&MINIMAL.replace("-inc\n", "-inc\nallow-partial = 1\n")).unwrap().allow_partial);
}

#[test]
fn the_letter_case_of_names_is_one_that_servers_know() {
    let with = |value: &str| parse(&format!("{MINIMAL}lower-case-table-names = {value}\n"));
    assert_eq!(with("1").unwrap().misc.lower_case_table_names, Some(1));
    assert_eq!(parse(MINIMAL).unwrap().misc.lower_case_table_names, None);
    for bad in ["3", "-1", "yes"] {
        with(bad).unwrap_err();
    }
}

#[test]
fn groups_to_leave_out_are_separated_by_commas() {
    let config = parse(&MINIMAL.replace("-inc\n", "-inc\nwithout-group = normal_0 , normal_1,\n")).unwrap();
    assert_eq!(config.without_groups, ["normal_0", "normal_1"]);
    assert!(parse(MINIMAL).unwrap().without_groups.is_empty());
}
