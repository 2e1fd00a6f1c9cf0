//! What a recovery has finished: one line per step in `journal.jsonl`, on disk before the next step begins.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use remote_exec::Host;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::Error;
use crate::worker::STOCK_TOOLS;

/// Name of the file.
const FILE: &str = "journal.jsonl";
/// Makes the file `$1` no longer than `$2` bytes, and appends its input.
const APPEND: &str =
    r#"truncate --size="<$2" -- "$1" && exec dd of="$1" oflag=append conv=notrunc,fsync status=none"#;
/// Largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 64 << 20;
/// The step with which a finished recovery was taken over; its name follows.
pub(crate) const EXTEND: &str = "extend ";
/// The datadir is about to be changed by what is laid over it: that cannot be done twice.
pub(crate) const PREPARE_BEGUN: &str = "prepare begun";
/// The datadir is prepared; the entry lists the backups that databases or tables were left out of.
pub(crate) const PREPARE: &str = "prepare";
/// The server is about to be started: its data directory may be another one from here on. The entry says who replays.
pub(crate) const REPLAY_BEGUN: &str = "replay begun";
/// The server was found where the finished recovery, that was taken over, had left it. Nothing is applied before that.
pub(crate) const HELD: &str = "held";
/// The server is recovered, proved and stopped; the entry holds its part of the report.
pub(crate) const DONE: &str = "done";

/// One finished step of one server, or of the whole recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The server's folder; empty for a step of the whole recovery.
    server: String,
    /// The step, such as `unpack UTC…-full`.
    step: String,
    /// What came of it, where a run that goes on needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<serde_json::Value>,
}

impl Entry {
    pub(crate) fn new(server: &str, step: &str, result: Option<serde_json::Value>) -> Self {
        Self { server: server.to_owned(), step: step.to_owned(), result }
    }
}

/// The journal of a work directory.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// What earlier runs finished.
    entries: Vec<Entry>,
    /// The finished recovery that was taken over.
    extends: Option<String>,
    /// This run or an earlier one was about to start a server.
    replay_begun: AtomicBool,
    /// Bytes of the file that are whole entries. Held while one is written.
    length: Mutex<u64>,
}

impl Journal {
    /// Reads the journal in `dir`; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read or understood.
    pub(crate) async fn read(host: &Host, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let Some(text) = host.files().read_if_there(&path, MAX_JOURNAL).await? else {
            return Ok(Self::default());
        };
        let whole = &text[..whole_lines(&text)];
        let unexpected = |line| Error::Unexpected { what: path.display().to_string(), text: line };
        Self::parse(whole).map_err(unexpected)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut journal = Self { length: Mutex::new(text.len() as u64), ..Self::default() };
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let entry: Entry =
                serde_json::from_slice(line).map_err(|_| String::from_utf8_lossy(line).into_owned())?;
            match entry.step.strip_prefix(EXTEND) {
                Some(from) => journal.take_over(from),
                None => {
                    *journal.replay_begun.get_mut() |= entry.step == REPLAY_BEGUN;
                    journal.entries.push(entry);
                }
            }
        }
        Ok(journal)
    }

    /// What was replayed belongs to the finished recovery `from`; what was unpacked and prepared counts.
    pub(crate) fn take_over(&mut self, from: &str) {
        self.entries.retain(|entry| ![REPLAY_BEGUN, HELD, DONE].contains(&entry.step.as_str()));
        *self.replay_begun.get_mut() = false;
        self.extends = Some(from.to_owned());
    }

    /// The finished recovery that was taken over.
    pub(crate) fn extends(&self) -> Option<&str> {
        self.extends.as_deref()
    }

    /// Whether an earlier run finished this step.
    pub(crate) fn is_finished(&self, server: &str, step: &str) -> bool {
        self.entry(server, step).is_some()
    }

    /// What came of a step that an earlier run finished.
    pub(crate) fn result(&self, server: &str, step: &str) -> Option<&serde_json::Value> {
        self.entry(server, step)?.result.as_ref()
    }

    /// Whether `tools` can go on with a replay into `server`, if one was begun; else why not.
    ///
    /// Only a worker can, and only with a worker's: it asks the server how far its replication came, which the stock
    /// client never moves. The stock tools go on with none: a server that passes over the GTIDs that it has still has
    /// changes of tables without transactions twice, as a crash keeps those and loses the GTIDs.
    pub(crate) fn can_go_on(&self, server: &str, tools: &str) -> Result<(), String> {
        let Some(begun) = self.entry(server, REPLAY_BEGUN) else { return Ok(()) };
        match begun.result.as_ref().and_then(serde_json::Value::as_str) {
            Some(theirs) if theirs == tools && tools != STOCK_TOOLS => Ok(()),
            theirs => Err(format!(
                "{} had begun to replay into {server}, and {tools} would apply transactions twice",
                theirs.unwrap_or("nobody knows who")
            )),
        }
    }

    /// The same for all servers that are not done.
    pub(crate) fn can_go_on_everywhere(&self, tools: &str) -> Result<(), String> {
        let open = self.entries.iter().filter(|entry| !self.is_finished(&entry.server, DONE));
        open.into_iter().try_for_each(|entry| self.can_go_on(&entry.server, tools))
    }

    fn entry(&self, server: &str, step: &str) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.server == server && entry.step == step)
    }

    /// Whether any server was about to be started.
    pub(crate) fn any_replay_begun(&self) -> bool {
        self.replay_begun.load(Ordering::SeqCst)
    }

    /// Appends an entry to the file in `dir`; on disk when this returns. What an earlier write that failed, or was cut off,
    /// left of its entry goes. The directory must be locked.
    ///
    /// # Errors
    ///
    /// If the host cannot write it.
    pub(crate) async fn write(&self, host: &Host, dir: &Path, entry: Entry) -> Result<(), Error> {
        self.replay_begun.fetch_or(entry.step == REPLAY_BEGUN, Ordering::SeqCst);
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        let mut length = self.length.lock().await;
        let written = line.len() as u64;
        host.command("sh")
            .args(["-c", APPEND, "sh"])
            .arg(dir.join(FILE))
            .arg(length.to_string())
            .stdin_bytes(line)
            .run()
            .await?;
        *length += written;
        Ok(())
    }

    /// Whether the file in `dir` has as many whole lines as were written or read here.
    ///
    /// # Errors
    ///
    /// If it cannot be looked at.
    pub(crate) async fn is_as_written(&self, host: &Host, dir: &Path) -> Result<bool, Error> {
        let length = self.length.lock().await;
        let text = host.files().read_if_there(dir.join(FILE), MAX_JOURNAL).await?.unwrap_or_default();
        Ok(whole_lines(&text) as u64 == *length)
    }
}

/// Bytes up to the end of the last whole line. A line without its end was being written when the recovery was cut off.
fn whole_lines(text: &[u8]) -> usize {
    text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1)
}

/// `PREFIX` and a path as one argument.
pub(crate) fn os_arg(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut arg = std::ffi::OsString::from(prefix);
    arg.push(path);
    arg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WORKER;

    const FINISHED: &str = concat!(
        r#"{"server":"","step":"unpack UTC20210205092650.735-full"}"#,
        "\n",
        r#"{"server":"a","step":"prepare"}"#,
        "\n",
        r#"{"server":"a","step":"replay begun"}"#,
        "\n",
        r#"{"server":"a","step":"held"}"#,
        "\n",
        r#"{"server":"a","step":"done","result":{"proved":true}}"#,
        "\n"
    );

    #[test]
    fn a_line_that_was_being_written_does_not_count() {
        let cut = format!("{FINISHED}{}", r#"{"server":"b","step":"done"#);
        let whole = whole_lines(cut.as_bytes());
        assert_eq!(whole, FINISHED.len());
        let journal = Journal::parse(&cut.as_bytes()[..whole]).unwrap();
        assert!(journal.is_finished("a", DONE) && !journal.is_finished("b", DONE));
        assert_eq!(journal.result("a", DONE).unwrap()["proved"], true);
        assert!(journal.any_replay_begun());
    }

    #[test]
    fn what_was_replayed_before_a_take_over_is_not_done_for_the_new_target() {
        let taken = format!("{FINISHED}{}\n", r#"{"server":"","step":"extend old"}"#);
        let journal = Journal::parse(taken.as_bytes()).unwrap();
        assert_eq!(journal.extends(), Some("old"));
        assert!(journal.is_finished("a", "prepare"));
        for step in [REPLAY_BEGUN, HELD, DONE] {
            assert!(!journal.is_finished("a", step), "{step}");
        }
        assert!(!journal.any_replay_begun());
        let again = format!("{taken}{}\n", r#"{"server":"a","step":"replay begun"}"#);
        assert!(Journal::parse(again.as_bytes()).unwrap().any_replay_begun());
    }

    #[test]
    fn a_replay_is_gone_on_with_by_a_worker_that_began_it() {
        let begun = |by: &str| format!(r#"{{"server":"a","step":"replay begun"{by}}}"#);
        let by_worker = Journal::parse(begun(r#","result":"the worker""#).as_bytes()).unwrap();
        assert_eq!(by_worker.can_go_on("a", WORKER), Ok(()));
        assert_eq!(by_worker.can_go_on("b", STOCK_TOOLS), Ok(()), "none was begun");
        let by_stock = begun(r#","result":"the stock tools""#);
        let stock = Journal::parse(by_stock.as_bytes()).unwrap();
        for (journal, tools) in [(&stock, WORKER), (&stock, STOCK_TOOLS), (&by_worker, STOCK_TOOLS)] {
            let refused = journal.can_go_on("a", tools).unwrap_err();
            assert!(refused.contains("had begun to replay into a"), "{refused}");
            assert!(refused.ends_with(&format!("{tools} would apply transactions twice")), "{refused}");
            assert_eq!(journal.can_go_on_everywhere(tools), Err(refused));
        }
        let done = format!("{by_stock}\n{}\n", r#"{"server":"a","step":"done"}"#);
        assert_eq!(Journal::parse(done.as_bytes()).unwrap().can_go_on_everywhere(STOCK_TOOLS), Ok(()));
        let unknown = Journal::parse(begun("").as_bytes()).unwrap();
        assert!(unknown.can_go_on("a", WORKER).is_err());
        let taken = format!("{by_stock}\n{}\n", r#"{"server":"","step":"extend old"}"#);
        assert_eq!(Journal::parse(taken.as_bytes()).unwrap().can_go_on("a", WORKER), Ok(()));
    }

    #[tokio::test]
    async fn what_is_written_behind_a_line_that_was_cut_off_is_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::local();
        std::fs::write(dir.path().join(FILE), format!("{FINISHED}{}", r#"{"server":"b","st"#)).unwrap();
        let journal = Journal::read(&host, dir.path()).await.unwrap();
        journal.write(&host, dir.path(), Entry::new("b", "prepare", None)).await.unwrap();
        let journal = Journal::read(&host, dir.path()).await.unwrap();
        assert!(journal.is_finished("a", DONE) && journal.is_finished("b", "prepare"));
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_entry_that_could_not_be_written() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let host = Host::local();
        let journal = Journal::read(&host, dir.path()).await.unwrap();
        journal.write(&host, dir.path(), Entry::new("a", "prepare", None)).await.unwrap();
        // The disk was full in the middle of it, and has room again.
        let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
        file.write_all(br#"{"server":"b","step":"prep"#).unwrap();
        for step in ["prepare", "done"] {
            journal.write(&host, dir.path(), Entry::new("b", step, None)).await.unwrap();
        }
        let journal = Journal::read(&host, dir.path()).await.unwrap();
        for (server, step) in [("a", "prepare"), ("b", "prepare"), ("b", "done")] {
            assert!(journal.is_finished(server, step), "{server} {step}");
        }
    }

    #[test]
    fn a_line_that_is_no_entry_is_an_error() {
        assert!(Journal::parse(b"not a line of ours\n").is_err());
    }
}
