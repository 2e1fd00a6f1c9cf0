//! The command line: every flag of the program before this one, in every spelling, and what came since.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

use crate::abbreviations;
use crate::values::{any_path, compression, rate, seconds, size};

const ABOUT: &str = "Online backups of MyRocks servers, and their way back";

const EXAMPLES: &str = "\
Examples:
  Backup to another machine, on the server's machine:
    set -o pipefail
    myrocks-hotbackup -u root --checkpoint-dir /data/snap | ssh store 'tar -x -C /backups/today'
  Backup to a directory, and what has changed since then to a second one:
    myrocks-hotbackup --stream dir --to /backups/full
    myrocks-hotbackup --stream dir --to /backups/inc1 --incremental-base /backups/full
  Restore both:
    myrocks-hotbackup restore --from /backups/full --from /backups/inc1 \\
        --datadir /var/lib/mysql --owner mysql
  Move unpacked files to where the server wants them:
    myrocks-hotbackup --move-back --backup-dir /backups/today --datadir /var/lib/mysql \\
        --rocksdb-datadir '/var/lib/mysql/#rocksdb' --rocksdb-waldir '/var/lib/mysql/#rocksdb'";

/// The whole command line. Without a subcommand it is a backup, or with `--move-back` a move-back.
#[derive(Debug, Parser)]
#[command(name = "myrocks-hotbackup", version, about = ABOUT, after_help = EXAMPLES)]
#[command(infer_long_args = true, args_conflicts_with_subcommands = true, args_override_self = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) backup: Backup,
}

impl Args {
    /// Reads a command line, the program's name first.
    pub(crate) fn from_line(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let line: Vec<OsString> = line.into_iter().collect();
        let command = command();
        let subcommand = line.get(1).and_then(|w| command.find_subcommand(w));
        if subcommand.is_some() {
            return Self::try_parse_from(line);
        }
        let known = |name: &str| {
            command.get_arguments().any(|a| {
                a.get_long() == Some(name) || a.get_all_aliases().is_some_and(|all| all.contains(&name))
            })
        };
        Self::try_parse_from(abbreviations::written_out(line, known))
    }
}

/// What there is beside a backup.
#[derive(Debug, Subcommand)]
#[command(infer_long_args = true)]
pub(crate) enum Command {
    /// Unpack, verify and move a backup, or a chain of them, to where a server starts from it
    Restore(Restore),
    /// Check backups: every file against the manifest, the data files against RocksDB's own list
    Verify(Verify),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// The format of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    /// One tar archive
    Tar,
    /// One xbstream archive
    Xbstream,
    /// Sent to another machine by WDT
    Wdt,
    /// A directory of files
    Dir,
}

/// Which checksums a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sums {
    /// Notices damage
    Crc32,
    /// Notices forgery too; slower
    Sha256,
    /// None: the kernel moves the bytes
    None,
}

/// How data files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direct {
    /// As the server does
    Auto,
    /// Around the page cache
    On,
    /// Through the page cache
    Off,
}

/// What came since the program before this one and says how a backup is made: a move-back does not heed it.
const OF_BACKUPS: [&str; 15] = [
    "to",
    "incremental_base",
    "consistent",
    "no_lock",
    "no_binlogs",
    "compress",
    "encrypt",
    "rate_limit",
    "parallel",
    "checksum",
    "direct_io",
    "allow_copied_checkpoint",
    "allow_no_dictionary",
    "allow_other_server",
    "ssh_config",
];

#[derive(Debug, ClapArgs)]
pub(crate) struct Backup {
    /// Seconds until a checkpoint is renewed
    #[arg(short, long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub(crate) interval: u64,
    /// Directory on this machine where checkpoints are made, on the file system of the data
    #[arg(
        short,
        long,
        alias = "checkpoint_dir",
        value_name = "DIR",
        default_value = "/data/mysql/backup/snapshot"
    )]
    pub(crate) checkpoint_dir: PathBuf,
    /// Backup: the server's data directory, if not the one it tells. Move-back: where it is to be
    #[arg(short, long, value_name = "DIR", value_parser = any_path(), value_hint = ValueHint::AnyPath)]
    pub(crate) datadir: Option<PathBuf>,
    /// Format of the backup
    #[arg(short, long, value_enum, default_value_t = Stream::Tar, ignore_case = true)]
    pub(crate) stream: Stream,
    /// WDT: the host to send to, as ssh knows it
    #[arg(long, value_name = "HOST")]
    pub(crate) destination: Option<String>,
    /// WDT: average rate in MB/s; a negative one is no limit
    #[arg(long, alias = "avg_mbytes_per_sec", value_name = "MB", default_value = "500", value_parser = rate)]
    pub(crate) avg_mbytes_per_sec: Rate,
    /// WDT: more options for the sender
    #[arg(
        long,
        alias = "extra_wdt_sender_options",
        value_name = "OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) extra_wdt_sender_options: String,
    /// WDT: more options for the receiver
    #[arg(
        long,
        alias = "extra_wdt_receiver_options",
        value_name = "OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) extra_wdt_receiver_options: String,
    #[command(flatten)]
    pub(crate) account: Account,
    /// Move the files of a backup to --datadir, --rocksdb-datadir and --rocksdb-waldir
    #[arg(short, long, alias = "move_back", conflicts_with_all = OF_BACKUPS)]
    pub(crate) move_back: bool,
    /// Move-back: where RocksDB's data are to be; must be empty
    #[arg(short, long, alias = "rocksdb_datadir", value_name = "DIR")]
    pub(crate) rocksdb_datadir: Option<PathBuf>,
    /// Move-back: where RocksDB's write-ahead logs are to be; must be empty
    #[arg(short = 'w', long, alias = "rocksdb_waldir", value_name = "DIR")]
    pub(crate) rocksdb_waldir: Option<PathBuf>,
    /// Move-back: where the backup is. WDT: the directory on the other host
    #[arg(short, long, alias = "backup_dir", value_name = "DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// Accept tables whose definition changed during the backup
    #[arg(short = 'f', long, alias = "skip_check_frm_timestamp")]
    pub(crate) skip_check_frm_timestamp: bool,
    /// For tests: wait for this file between the data and the server's files
    #[arg(short = 'D', long, alias = "debug_signal_file", value_name = "FILE")]
    pub(crate) debug_signal_file: Option<PathBuf>,

    /// Write there and not to the standard output: a file, a directory (with --stream dir), or ssh://[USER@]HOST[:PORT]/DIR
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: Option<String>,
    /// Send only data files that this backup does not have: its directory, or its manifest
    #[arg(long, alias = "incremental_base", value_name = "BACKUP")]
    pub(crate) incremental_base: Option<PathBuf>,
    /// Take data, server files and binlog position of one moment, under a short lock
    #[arg(long)]
    pub(crate) consistent: bool,
    /// Never lock; read the server's files as they are
    #[arg(long, alias = "no_lock", conflicts_with = "consistent")]
    pub(crate) no_lock: bool,
    /// Leave the server's binlogs out; the last checkpoint is then made under a short lock, as with --consistent
    #[arg(long, alias = "no_binlogs")]
    pub(crate) no_binlogs: bool,
    /// Compress: zstd or zstd:LEVEL, level 1 to 19
    #[arg(long, value_name = "METHOD", num_args = 0..=1, default_missing_value = "zstd", value_parser = compression)]
    pub(crate) compress: Option<i32>,
    /// Encrypt as AES Crypt with the first line of this file as password; or set MYROCKS_BACKUP_KEY
    #[arg(long, value_name = "PASSWORD_FILE", num_args = 0..=1)]
    pub(crate) encrypt: Option<Option<PathBuf>>,
    /// Bytes per second, with K, M or G for powers of 1024
    #[arg(long, alias = "rate_limit", value_name = "BYTES", value_parser = size)]
    pub(crate) rate_limit: Option<u64>,
    /// Threads that read: the server's small files, and one data file ahead in direct I/O
    #[arg(long, value_name = "THREADS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) parallel: u16,
    /// Checksums in the manifest
    #[arg(long, value_enum, default_value_t = Sums::Crc32)]
    pub(crate) checksum: Sums,
    /// Read data files around the page cache
    #[arg(long, alias = "direct_io", value_enum, default_value_t = Direct::Auto)]
    pub(crate) direct_io: Direct,
    /// Accept checkpoints on another file system: the server copies all its data there
    #[arg(long, alias = "allow_copied_checkpoint")]
    pub(crate) allow_copied_checkpoint: bool,
    /// Accept a server whose data dictionary is in InnoDB (MySQL 8): no server starts from such a backup alone
    #[arg(long, alias = "allow_no_dictionary")]
    pub(crate) allow_no_dictionary: bool,
    /// Accept a base of another server, if it is the same data directory whose machine or port changed
    #[arg(long, alias = "allow_other_server")]
    pub(crate) allow_other_server: bool,
    /// Show what a backup would send, or a move-back move, and touch nothing
    #[arg(long, alias = "dry_run")]
    pub(crate) dry_run: bool,
    /// Move-back: USER or USER:GROUP who owns the files afterwards
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// ssh: another configuration file
    #[arg(long, alias = "ssh_config", value_name = "FILE")]
    pub(crate) ssh_config: Option<PathBuf>,
    /// Progress and result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The value of a password that is to be asked for: none that can be given, as no argument holds a NUL.
pub(crate) const ASK: &str = "\0";

/// Megabytes per second; `None` is no limit. Not an `Option` by itself, which would be an option without a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<u64>);

/// The server and the account.
#[derive(Debug, ClapArgs)]
pub(crate) struct Account {
    /// Account
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Password; every user of this machine can read it here. Without a value it is asked for
    #[arg(short, long, num_args = 0..=1, default_missing_value = ASK, hide_default_value = true)]
    pub(crate) password: Option<String>,
    /// A file whose first line is the password; MYSQL_PWD in the environment is another way
    #[arg(long, alias = "password_file", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// An option file whose [client] and [myrocks-hotbackup] sections give user, password, socket, port
    #[arg(long, alias = "defaults_file", value_name = "FILE")]
    pub(crate) defaults_file: Option<PathBuf>,
    /// Port
    #[arg(short = 'P', long)]
    pub(crate) port: Option<u16>,
    /// Socket; it goes before the port
    #[arg(short = 'S', long, value_name = "PATH", value_parser = any_path(), value_hint = ValueHint::AnyPath)]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Restore {
    /// The backup, an archive or a directory; `-` is the standard input. Incremental ones follow their base
    #[arg(short, long, value_name = "BACKUP", required = true)]
    pub(crate) from: Vec<PathBuf>,
    /// Where the server's data directory is to be; must be empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// Where RocksDB's data are to be; must be empty [default: where the server had it, in --datadir]
    #[arg(short, long, alias = "rocksdb_datadir", value_name = "DIR")]
    pub(crate) rocksdb_datadir: Option<PathBuf>,
    /// Where RocksDB's write-ahead logs are to be; must be empty [default: where the server had them, in --datadir]
    #[arg(short = 'w', long, alias = "rocksdb_waldir", value_name = "DIR")]
    pub(crate) rocksdb_waldir: Option<PathBuf>,
    /// USER or USER:GROUP who owns the files afterwards
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Where the backup is unpacked [default: beside --datadir]
    #[arg(long, value_name = "DIR")]
    pub(crate) staging: Option<PathBuf>,
    /// Restore a backup without a manifest, as the program before this one made them; nobody knows if it is whole
    #[arg(long, alias = "without_manifest")]
    pub(crate) without_manifest: bool,
    /// Do not compare the files with the manifest before they are moved
    #[arg(long, alias = "skip_verify")]
    pub(crate) skip_verify: bool,
    /// The password of encrypted backups: a file; or set MYROCKS_BACKUP_KEY
    #[arg(long, alias = "key_file", value_name = "PASSWORD_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// Archives or directories; `-` is the standard input
    #[arg(required = true, value_name = "BACKUP")]
    pub(crate) backups: Vec<PathBuf>,
    /// Names and sizes only
    #[arg(long)]
    pub(crate) quick: bool,
    /// The checksums in every block of the data files too; of directories
    #[arg(long)]
    pub(crate) blocks: bool,
    /// The password of encrypted backups: a file; or set MYROCKS_BACKUP_KEY
    #[arg(long, alias = "key_file", value_name = "PASSWORD_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The whole command line as clap sees it, for completions and the manual page.
pub(crate) fn command() -> clap::Command {
    Args::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(line: &str) -> Backup {
        let words = std::iter::once("myrocks-hotbackup").chain(line.split_whitespace());
        Args::from_line(words.map(OsString::from)).unwrap_or_else(|e| panic!("{line}: {e}")).backup
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_option_of_the_original_is_known_in_all_its_spellings() {
        for line in [
            "-i 5 -c /c -d /d -s tar -u root -p pw -P 3307 -S /s -m -r /r -w /w -b /b -f -D /f",
            "--interval 5 --checkpoint_dir /c --datadir /d --stream tar --user root --password pw --port 3307 \
             --socket /s --move_back --rocksdb_datadir /r --rocksdb_waldir /w --backup_dir /b \
             --skip_check_frm_timestamp --debug_signal_file /f",
            "--interval=5 --checkpoint-dir=/c --datadir=/d --stream=tar --user=root --password=pw --port=3307 \
             --socket=/s --move-back --rocksdb-datadir=/r --rocksdb-waldir=/w --backup-dir=/b \
             --skip-check-frm-timestamp --debug-signal-file=/f",
            "-i5 -c/c -d/d -star -uroot -ppw -P3307 -S/s -mf -r/r -w/w -b/b -D/f",
            // Any unambiguous beginning did, too.
            "--int=5 --check=/c --datad=/d --str=tar --us=root --password=pw --por=3307 --soc=/s --mov --rocksdb_d=/r \
             --rocksdb_w=/w --backup=/b --skip=1 --deb=/f",
        ] {
            let line = line.replace("--skip=1", "--skip");
            let args = backup(&line);
            assert_eq!((args.interval, args.checkpoint_dir), (5, "/c".into()), "{line}");
            assert_eq!((args.datadir, args.stream), (Some("/d".into()), Stream::Tar));
            assert_eq!(args.account.user.as_deref(), Some("root"));
            assert_eq!(args.account.password.as_deref(), Some("pw"));
            assert_eq!((args.account.port, args.account.socket), (Some(3307), Some("/s".into())));
            assert!(args.move_back && args.skip_check_frm_timestamp);
            assert_eq!((args.rocksdb_datadir, args.rocksdb_waldir), (Some("/r".into()), Some("/w".into())));
            assert_eq!((args.backup_dir, args.debug_signal_file), (Some("/b".into()), Some("/f".into())));
        }
        let args = backup(
            "--stream=wdt --destination=host --avg_mbytes_per_sec=7 --extra_wdt_sender_options=-num_ports=2 \
             --extra_wdt_receiver_options -num_ports=2",
        );
        assert_eq!((args.stream, args.destination.as_deref()), (Stream::Wdt, Some("host")));
        assert_eq!(args.avg_mbytes_per_sec, Rate(Some(7)));
        assert_eq!(args.extra_wdt_sender_options, "-num_ports=2");
        assert_eq!(args.extra_wdt_receiver_options, "-num_ports=2");
    }

    #[test]
    fn numbers_mean_what_they_meant() {
        assert_eq!(backup("--avg_mbytes_per_sec=-1").avg_mbytes_per_sec, Rate(None));
        assert_eq!(backup("--avg_mbytes_per_sec -1").avg_mbytes_per_sec, Rate(None));
        assert_eq!(backup("-i 0").interval, 0);
        assert_eq!(backup("-i -1").interval, 0);
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let args = backup("");
        assert_eq!((args.interval, args.stream), (300, Stream::Tar));
        assert_eq!(args.avg_mbytes_per_sec, Rate(Some(500)));
        assert_eq!(args.checkpoint_dir, PathBuf::from("/data/mysql/backup/snapshot"));
        assert!(args.datadir.is_none() && args.account.user.is_none() && !args.move_back);
    }
}
