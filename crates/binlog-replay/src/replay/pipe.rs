//! The stock tools: `mysqlbinlog | mysql`, or `mariadb-binlog | mariadb`.
//!
//! No shell is between them, both exit statuses count, and the account is in an option file that has no
//! name. Start and stop are exact positions; what is left out is named to `mysqlbinlog`, or cut
//! out of copies of the binlogs where the tool cannot leave out single transactions.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::aside::aside;
use super::comments;
use super::error::Error;
use super::lay::{Folder, Piece};
use super::method::Method;
use super::options::keeps_gtids_in_binlog;
use super::outcome::Progress;
use super::request::{Account, tools};
use super::runs;
use super::session::Session;
use super::sql::journal;
use super::state::{self, Setup};
use crate::range::{Range, RangeFile};
use crate::statement::words_without_passwords;
use crate::target::Position;
use crate::version::{Flavor, ServerVersion};

/// A variable of the environment and its value, with which a client of MySQL reads no login file (`~/.mylogin.cnf`). It reads
/// one whatever options it gets, and what stands there wins over the option file that it was given: account and socket,
/// so that the binlogs would be applied to another server. The file need not exist; MariaDB's clients know neither.
pub const NO_LOGIN_FILE: (&str, &str) = ("MYSQL_TEST_LOGIN_FILE", "/nonexistent");

/// Bytes of a tool's standard error that are kept.
const STDERR_TAIL: usize = 8 * 1024;
/// A set longer than this is not given as an argument: the system's limit for one is 128 KiB.
const LONGEST_SET: usize = 64 * 1024;
/// The largest `--start-position` that every binlog tool takes.
pub const LONGEST_START: u64 = u32::MAX as u64;
/// Time between two looks at the server's GTID state.
const POLL: Duration = Duration::from_millis(200);

/// Replays `range`; the server's GTID state is set already.
pub(super) async fn replay(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    account: &Account,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64, Error> {
    let flavor = setup.server.flavor;
    let no_tools =
        || Error::Method { method: Method::Pipe, reason: "the base directory has no tools".into() };
    let (reader, client) = tools(setup.request, flavor).ok_or_else(no_tools)?;
    if keeps_gtids_in_binlog(setup.server, setup.method, setup.gtids) {
        // No method that asks the tables may go on where this one is cut off.
        journal::create(session, &range.start(), journal::State::Piped).await?;
        session.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS").await?;
    }
    session.run("SET GLOBAL local_infile=1").await?;
    let options = option_file(account)?;
    let whole = range.clone();
    let with_comments = aside(move || Ok(comments::are_needed(&whole)?)).await?;
    let mut copies = None;
    // Files of LOAD DATA statements; the tool leaves them where it is told to put them.
    let loads = TempDir::with_prefix("dbrecover-loads-");
    let loads = loads.map_err(Error::file("creating a folder in", std::env::temp_dir()))?;
    let mut read = Command::new(&reader);
    let (variable, none) = NO_LOGIN_FILE;
    read.env(variable, none);
    read.arg("--no-defaults").arg("--verify-binlog-checksum");
    read.arg(format!("--local-load={}", loads.path().display()));
    match exclusion(range, setup.server) {
        Exclusion::Nothing => positions(&mut read, range),
        Exclusion::Argument(set) => {
            positions(&mut read, range);
            read.arg(format!("--exclude-gtids={set}"));
        }
        Exclusion::Copies => {
            let folder = cut_copies(setup, range)?;
            read.args(range.files.iter().enumerate().map(|(i, f)| folder.path().join(copy_name(i, f))));
            copies = Some(folder);
        }
    }
    let mut apply = Command::new(&client);
    apply
        .env(variable, none)
        .arg(format!("--defaults-file=/proc/self/fd/{}", options.as_raw_fd()))
        .arg(os_arg("--socket=", &account.socket))
        .arg(format!("--user={}", account.user))
        .arg("--protocol=socket")
        .args(["--binary-mode", "--batch", "--local-infile=1"])
        .arg(if with_comments { "--comments" } else { "--skip-comments" })
        .arg("--max-allowed-packet=1073741824");

    let (feed, text) = std::io::pipe().map_err(Error::file("making a pipe for", &reader))?;
    let mut reading = spawn(read, &reader, Stdio::null(), text.into())?;
    let mut applying = spawn(apply, &client, feed.into(), Stdio::piped())?;
    let stderr = (tail(reading.stderr.take()), tail(applying.stderr.take()));
    // The client prints nothing in batch mode but the results of statements that are none of ours.
    let output = tail(applying.stdout.take());
    let ends = async { tokio::join!(reading.wait(), applying.wait(), stderr.0, stderr.1, output) };
    tokio::pin!(ends);
    let began = Instant::now();
    let (reading, applying, reader_words, client_words, _) = loop {
        tokio::select! {
            ends = &mut ends => break ends,
            () = tokio::time::sleep(POLL) => {}
        }
        // To its end, whatever happens meanwhile: the answer to a question that was given up would be taken for that of the
        // next one, and the proof would see a state of some time ago.
        progress(reached(session, setup, range).await?.timed(began.elapsed()));
    };
    drop((copies, loads, options));
    let status = |result: std::io::Result<ExitStatus>, path| result.map_err(Error::file("waiting for", path));
    let (reading, applying) = (status(reading, &reader)?, status(applying, &client)?);
    // A client that failed ends the reader too, so its words come first.
    for (status, tool, words) in [(applying, &client, client_words), (reading, &reader, reader_words)] {
        if !status.success() {
            let stderr = masked(&words);
            return Err(Error::Tool { tool: tool.display().to_string(), status, stderr });
        }
    }
    Ok(range.transactions)
}

/// Whether the binlog tool of this version takes a larger `--start-position` for 2³² − 1: those of MySQL 5 and 8. MariaDB 10.11's
/// and MySQL 9.7's take any.
pub fn cuts_long_starts(tool: &ServerVersion) -> bool {
    tool.flavor == Flavor::MySql && !tool.at_least(Flavor::MySql, 9, 7, 0)
}

enum Exclusion {
    Nothing,
    Argument(String),
    Copies,
}

fn exclusion(range: &Range, tool: &ServerVersion) -> Exclusion {
    // The tool's start is of the first file and its stop of the last one; between them it reads whole files.
    // After a failover a file may begin with what an earlier one had, an open one may end before its end.
    let last = range.files.len().saturating_sub(1);
    let mut pieces = range.files.iter().enumerate();
    if pieces.any(|(i, f)| (i > 0 && f.start > Position::FIRST) || (i < last && f.stop < f.size)) {
        return Exclusion::Copies;
    }
    if range.start().pos > LONGEST_START && cuts_long_starts(tool) {
        return Exclusion::Copies;
    }
    match (&range.skip, range.flavor) {
        (None, _) => Exclusion::Nothing,
        (Some(set), _) if set.is_empty() => Exclusion::Nothing,
        (Some(set), Flavor::MySql) if set.to_string().len() < LONGEST_SET => {
            Exclusion::Argument(set.to_string())
        }
        _ => Exclusion::Copies,
    }
}

fn positions(read: &mut Command, range: &Range) {
    read.arg(format!("--start-position={}", range.start().pos));
    read.arg(format!("--stop-position={}", range.stop().pos));
    read.args(range.files.iter().map(|f| &f.path));
}

/// Copies of the files with nothing but the wanted transactions, beside the data directory.
fn cut_copies(setup: &Setup<'_>, range: &Range) -> Result<TempDir, Error> {
    let datadir = &setup.request.datadir;
    let beside = datadir.parent().unwrap_or(datadir);
    let dir = tempfile::Builder::new().prefix(".dbrecover-binlogs-").tempdir_in(beside);
    let dir = dir.map_err(Error::file("creating a folder in", beside))?;
    let folder = Folder::open(dir.path())?;
    for (i, file) in range.files.iter().enumerate() {
        let keep = runs::kept(range, file)?;
        folder.lay(&Piece { file, keep, named: false }, &copy_name(i, file))?;
    }
    Ok(dir)
}

/// Two servers' files may have one name.
fn copy_name(number: usize, file: &RangeFile) -> String {
    format!("{number:06}-{}", file.name)
}

/// Starts a program; our copies of its pipe ends go with `command`, so that each side sees the other's end.
fn spawn(mut command: Command, name: &Path, stdin: Stdio, stdout: Stdio) -> Result<Child, Error> {
    command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(Error::file("starting", name))
}

/// Stands in front of an output whose beginning was not kept.
const CUT: &str = "…";

/// The last lines that a tool wrote.
async fn tail(output: Option<impl AsyncRead + Unpin>) -> String {
    let (mut kept, mut cut) = (Vec::new(), "");
    if let Some(mut output) = output {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            let over = kept.len().saturating_sub(STDERR_TAIL);
            if over > 0 {
                cut = CUT;
            }
            kept.drain(..over);
        }
    }
    format!("{cut}{}", String::from_utf8_lossy(&kept).trim())
}

/// What a tool wrote, without passwords: MariaDB's client writes the whole statement, and behind it the server's words.
/// MySQL's writes the words alone, and nobody knows of which statement.
fn masked(words: &str) -> String {
    if !words.contains("--------------\n") {
        return words_without_passwords(words, b"PASSWORD");
    }
    if words.starts_with(CUT) {
        // What says that there is a password may be in what is missing.
        let error = words.rfind("\nERROR ").map_or("", |at| &words[at + 1..]);
        return words_without_passwords(error, b"PASSWORD");
    }
    let shown = words_without_passwords(words, b"");
    match words.rfind("\nERROR ") {
        Some(at) if shown != words && at + "***".len() >= shown.len() => {
            shown + "\n" + &words_without_passwords(&words[at + 1..], words.as_bytes())
        }
        _ => shown,
    }
}

/// How far the server is.
async fn reached(session: &mut Session, setup: &Setup<'_>, range: &Range) -> Result<Progress, Error> {
    let mut now =
        Progress { transactions_total: range.transactions, bytes_total: range.bytes, ..Progress::default() };
    if let Some(applied) = &range.applied {
        let state = state::read(session, setup).await?;
        // MariaDB counts numbers, of which some may be nobody's.
        let (done, all) = (applied.intersection(&state).count(), applied.count().max(1));
        let share = |total: u64| {
            let part = u128::from(total) * u128::from(done) / u128::from(all);
            u64::try_from(part).unwrap_or(total)
        };
        now.transactions = share(range.transactions);
        now.bytes = share(range.bytes);
    }
    Ok(now)
}

fn os_arg(name: &str, value: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push(value);
    argument
}

/// The password as a client option file, in memory: no name that could be left behind. The children inherit it.
fn option_file(account: &Account) -> Result<File, Error> {
    let failed = || Error::file("making an option file in", "memory");
    let file = rustix::fs::memfd_create("dbrecover-account", MemfdFlags::empty());
    let mut file = File::from(file.map_err(|e| failed()(e.into()))?);
    // The clients ignore option files that everybody may write.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed())?;
    let password = quoted(account.password.expose_secret());
    let text: SecretString = format!("[client]\npassword={password}\n").into();
    file.write_all(text.expose_secret().as_bytes()).map_err(failed())?;
    Ok(file)
}

/// A value of an option file: in double quotes, with the escapes that both families of clients read.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn a_start_that_the_tool_would_cut_is_that_of_a_copy() {
        let version = |text: &str| text.parse::<ServerVersion>().unwrap();
        let copies = |tool: &str, start: u64| {
            let tool = version(tool);
            let file = RangeFile {
                path: "/b/binlog.000007".into(),
                name: "binlog.000007".into(),
                start,
                stop: start + 1000,
                size: start + 1000,
                transactions: 1,
            };
            let range = Range {
                flavor: tool.flavor,
                version: tool.clone(),
                files: vec![file],
                target: Target::End,
                skip: None,
                applied: None,
                expected: None,
                base: None,
                before_held: None,
                transactions: 1,
                skipped: 0,
                first: None,
                last: None,
                next: None,
                bytes: 1000,
                notes: Vec::new(),
                warnings: Vec::new(),
            };
            matches!(exclusion(&range, &tool), Exclusion::Copies)
        };
        assert!(copies("8.0.32", 5_000_000_000) && copies("5.7.44", 5_000_000_000));
        assert!(!copies("8.0.32", 3_000_000_000));
        assert!(!copies("9.7.4", 5_000_000_000) && !copies("10.11.6-MariaDB", 5_000_000_000));
    }

    #[test]
    fn values_of_option_files_are_escaped() {
        assert_eq!(quoted(r#"a"b\c#d 'e"#), r#""a\"b\\c#d 'e""#);
    }

    #[test]
    fn a_client_s_words_about_a_statement_are_kept_without_its_password() {
        let statement = "--------------\ncreate user u\nidentified by 'x7'\n--------------\n";
        let words = |error: &str| masked(&format!("{statement}\n{error}"));
        let shown = "--------------\ncreate user u\nidentified by ***\n";
        let exists = "ERROR 1396 (HY000) at line 30: Operation CREATE USER failed for 'u'@'%'";
        assert_eq!(words(exists), format!("{shown}{exists}"));
        let syntax = "ERROR 1064 (42000) at line 30: You have an error near ''x7'' at line 2";
        assert_eq!(
            words(syntax),
            format!("{shown}ERROR 1064 (42000) at line 30: You have an error near ***")
        );
        assert_eq!(
            masked("ERROR 1050 at line 3: Table 't' already exists"),
            "ERROR 1050 at line 3: Table 't' already exists"
        );
        let failed = "ERROR 1396 (HY000) at line 3: Operation CREATE USER failed for 'u'@'%'";
        let cut = format!("{CUT}IED BY 'x7', u2 identified by 'y'\n--------------\n\n{failed}");
        assert!(!masked(&cut).contains("x7") && masked(&cut).starts_with("ERROR 1396"), "{}", masked(&cut));
        let near = "ERROR 1064 (42000) at line 30: You have an error near 'using 'x7'' at line 1";
        assert!(!masked(near).contains("x7"), "{}", masked(near));
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_output_is_kept() {
        let long = [vec![b'x'; 3 * STDERR_TAIL], b"last".to_vec()].concat();
        let kept = tail(Some(&long[..])).await;
        assert!(kept.len() <= STDERR_TAIL + CUT.len() && kept.ends_with("last"));
    }
}
