//! One run of WDT: a receiver on the other host, a sender here, both with a limit of time.

use std::path::Path;
use std::time::Duration;

use remote_exec::Host;
use secrecy::SecretString;
use tokio::io::AsyncReadExt;

use super::Request;
use crate::sink::remote::failed;
use crate::{Error, Stop};

/// Longest connection URL, in bytes; real ones have about 200.
const MAX_URL: usize = 64 * 1024;

/// How long a receiver may take to print its URL.
const URL_WAIT: Duration = Duration::from_secs(60);

/// What an exit status of `wdt` means for the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Done,
    /// The time was over: the next round goes on.
    Aborted,
    /// The connection was lost: a few more rounds are worth it.
    Lost,
    Failed,
}

fn meaning(status: i32) -> (Meaning, &'static str) {
    match status {
        0 => (Meaning::Done, "OK"),
        2 => (Meaning::Aborted, "ABORT"),
        3 | 4 => (Meaning::Lost, "CONN_ERROR"),
        5 => (Meaning::Lost, "SOCKET_READ_ERROR"),
        6 => (Meaning::Lost, "SOCKET_WRITE_ERROR"),
        1 => (Meaning::Failed, "ERROR"),
        _ => (Meaning::Failed, "an error"),
    }
}

/// How the two ends of a round ended.
pub(super) struct Sent {
    sender: (i32, String),
    receiver: (i32, String),
}

impl Sent {
    pub(super) fn judge(&self) -> Result<Meaning, Error> {
        let (sender, receiver) = (meaning(self.sender.0).0, meaning(self.receiver.0).0);
        match (sender, receiver) {
            (Meaning::Done, Meaning::Done) => Ok(Meaning::Done),
            (Meaning::Failed, _) | (_, Meaning::Failed) => Err(self.error()),
            (Meaning::Aborted, _) | (_, Meaning::Aborted) => Ok(Meaning::Aborted),
            _ => Ok(Meaning::Lost),
        }
    }

    pub(super) fn error(&self) -> Error {
        let of = |side, end: &(i32, String)| Error::Wdt {
            side,
            status: end.0,
            meaning: meaning(end.0).1,
            log: end.1.clone(),
        };
        match meaning(self.receiver.0).0 {
            Meaning::Failed => of("receiver", &self.receiver),
            _ => of("sender", &self.sender),
        }
    }
}

/// Sends the files below `from` that the receiver does not have yet. What it has of an earlier run it knows by its own
/// log, as long as `recovery_id` is the same.
pub(super) async fn send(
    far: &Host,
    request: &Request,
    recovery_id: &str,
    from: &Path,
    stop: &Stop,
) -> Result<Sent, Error> {
    let fail = |action| failed(far.name(), action);
    let seconds = request.options.interval.as_secs().to_string();
    let mut receiver = far
        .command(&request.program)
        .arg("-directory")
        .arg(&request.directory)
        .args(["-start_port", "0", "-enable_download_resumption", "-recovery_id"])
        .arg(recovery_id)
        .args(["-abort_after_seconds", seconds.as_str()])
        .args(&request.receiver_options)
        .stdin_null()
        .spawn()
        .await
        .map_err(fail("start the receiver of WDT"))?;
    let url = match receiver.stdout.take() {
        Some(mut stdout) => {
            let line = tokio::time::timeout(URL_WAIT, first_line(&mut stdout)).await.unwrap_or_default();
            // Nothing more is expected there, but a full pipe would stop the receiver.
            receiver.stdout = Some(stdout);
            line
        }
        None => None,
    };
    let Some(url) = url else {
        let receiver = ended(receiver, far.name()).await?;
        let status = if receiver.0 == 0 { -1 } else { receiver.0 };
        let meaning = "no connection URL came";
        return Err(Error::Wdt { side: "receiver", status, meaning, log: receiver.1 });
    };
    let here = Host::local();
    // The URL holds the key of the session: `wdt -` reads it from its standard input.
    let sender = here
        .command(&request.program)
        .arg("-directory")
        .arg(from)
        .args(["-app_name=myrocks", "-avg_mbytes_per_sec"])
        .arg(request.megabytes_per_second.map_or("-1".into(), |rate| rate.to_string()))
        .args(["-enable_download_resumption", "-abort_after_seconds", seconds.as_str()])
        .args(&request.sender_options)
        .arg("-")
        .secret_stdin(url)
        .spawn()
        .await
        .map_err(failed("this machine", "start the sender of WDT"))?;
    let stopped = async {
        while stop.check().is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let both = async { tokio::try_join!(ended(sender, "this machine"), ended(receiver, far.name())) };
    tokio::select! {
        // Both programs end with their handles.
        () = stopped => Err(stop.check().err().unwrap_or(Error::Stopped { signal: 0 })),
        both = both => both.map(|(sender, receiver)| Sent { sender, receiver }),
    }
}

/// The end of a program: its status and the last of its log.
async fn ended(child: remote_exec::Child, host: &str) -> Result<(i32, String), Error> {
    let output = child.wait_with_output(64 << 20).await.map_err(failed(host, "run WDT"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let from = log.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
    let log = hide_urls(log[from..].trim());
    Ok((output.status.code().into(), log))
}

/// A log with every session key cut out.
fn hide_urls(log: &str) -> String {
    let word = |word: &str| if word.contains("wdt://") { "wdt://…".to_owned() } else { word.to_owned() };
    log.lines().map(|l| l.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

async fn first_line(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<SecretString> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_URL {
        if reader.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        if byte[0] == b'\n' {
            let text = String::from_utf8(line).ok()?;
            let text = text.trim();
            return text.starts_with("wdt://").then(|| format!("{text}\n").into());
        }
        line.push(byte[0]);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sender: i32, receiver: i32) -> Result<Meaning, Error> {
        Sent { sender: (sender, String::new()), receiver: (receiver, String::new()) }.judge()
    }

    #[test]
    fn only_two_zeros_are_the_end() {
        assert_eq!(sent(0, 0).unwrap(), Meaning::Done);
        // What is seen when the receiver's time is over.
        assert_eq!(sent(6, 2).unwrap(), Meaning::Aborted);
        assert_eq!(sent(2, 0).unwrap(), Meaning::Aborted);
        assert_eq!(sent(0, 5).unwrap(), Meaning::Lost);
        for (sender, receiver) in [(1, 0), (0, 1), (1, 2), (8, 6), (-1, 0)] {
            assert!(matches!(sent(sender, receiver), Err(Error::Wdt { .. })), "{sender} {receiver}");
        }
    }

    #[test]
    fn session_keys_are_cut_out_of_logs() {
        let log = "I0101 url wdt://host?Enc=2:041e26&id=1 received\nsecond line";
        assert_eq!(hide_urls(log), "I0101 url wdt://… received\nsecond line");
    }
}
