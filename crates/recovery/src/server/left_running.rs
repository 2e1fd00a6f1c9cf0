//! Servers that outlive a recovery: those that `for-testing` left running.
//!
//! Their sockets are named after their folders, so two recoveries of one server would share one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remote_exec::Host;

use crate::Error;

/// How long a server may take to end well, in seconds; then it is killed.
const END_SECONDS: u64 = 60;
/// Prints the processes that have one of the lines of its input as an argument.
const WITH_ARGUMENT: &str = "exec grep -lzxsF -f - /proc/[0-9]*/cmdline";

/// The socket of a server that is left running.
pub(crate) fn socket(folder: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{folder}.sock"))
}

/// Whether no server of these folders runs on a data directory in `dir`, which is about to be what `fate` says.
///
/// # Errors
///
/// [`Error::Running`] if one runs.
pub(crate) async fn none_in(host: &Host, dir: &Path, folders: &[&str], fate: &str) -> Result<(), Error> {
    for folder in folders {
        let datadir = dir.join("datadir").join(folder);
        if let Some(pid) = on_datadir(host, &datadir).await?.first() {
            return Err(Error::Running {
                host: host.name().to_owned(),
                server: (*folder).to_owned(),
                what: format!("process {pid} on {}, which is to be {fate}", datadir.display()),
            });
        }
    }
    Ok(())
}

/// Whether servers of these folders can be left running.
///
/// # Errors
///
/// [`Error::Running`] if one runs.
pub(crate) async fn check_sockets(host: &Host, folders: &[&str]) -> Result<(), Error> {
    let sockets = host.command("cat").arg("/proc/net/unix").output().await?;
    let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
    for folder in folders {
        let socket = socket(folder);
        if is_bound(&sockets, &socket) {
            let argument = format!("--socket={}", socket.display());
            let pid = with_argument(host, argument.into_bytes()).await?;
            let who = pid.first().map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            return Err(Error::Running {
                host: host.name().to_owned(),
                server: (*folder).to_owned(),
                what: format!("{who} at its socket {}", socket.display()),
            });
        }
    }
    Ok(())
}

/// Ends the server on this data directory, if one runs, and waits until it is gone.
///
/// # Errors
///
/// If the host cannot say what runs.
pub(crate) async fn end(host: &Host, datadir: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let running = on_datadir(host, datadir).await?;
        if running.is_empty() {
            return Ok(());
        }
        let signal = match begun.elapsed().as_secs() {
            END_SECONDS.. => Some("-KILL"),
            _ => (!asked).then_some("-TERM"),
        };
        if let Some(signal) = signal {
            // What is gone by now needs no signal.
            host.command("kill").arg(signal).args(&running).output().await?;
            asked = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The processes that were started on a data directory.
async fn on_datadir(host: &Host, datadir: &Path) -> Result<Vec<String>, Error> {
    let argument = crate::journal::os_arg("--datadir=", datadir);
    with_argument(host, argument.into_encoded_bytes()).await
}

async fn with_argument(host: &Host, argument: Vec<u8>) -> Result<Vec<String>, Error> {
    let found = host.command("sh").args(["-c", WITH_ARGUMENT]).stdin_bytes(argument).output().await?;
    let pid = |path: &str| Some(path.strip_prefix("/proc/")?.split('/').next()?.to_owned());
    Ok(String::from_utf8_lossy(&found.stdout).lines().filter_map(pid).collect())
}

/// Whether `/proc/net/unix` has a socket of this path: its last field.
fn is_bound(table: &str, socket: &Path) -> bool {
    let socket = socket.to_string_lossy();
    table.lines().filter_map(|line| line.split_whitespace().nth(7)).any(|path| path == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_sockets_are_read_from_the_kernels_table() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 95436 /tmp/a-1.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 95437\n";
        assert!(is_bound(table, Path::new("/tmp/a-1.sock")));
        assert!(!is_bound(table, Path::new("/tmp/a.sock")));
    }

    #[tokio::test]
    async fn a_process_on_a_data_directory_is_found_and_ended() {
        let (host, dir) = (Host::local(), tempfile::tempdir().unwrap());
        let datadir = dir.path().join("datadir/a");
        let argument = format!("--datadir={}", datadir.display());
        let mut server = std::process::Command::new("sh")
            .args(["-c", "read x", "sh", &argument])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = server.id().to_string();
        let error = none_in(&host, dir.path(), &["b", "a"], "replaced").await.unwrap_err();
        assert!(
            matches!(&error, Error::Running { server, what, .. } if server == "a" && what.contains(&pid)),
            "{error}"
        );
        let reaped = tokio::task::spawn_blocking(move || server.wait());
        end(&host, &datadir).await.unwrap();
        assert!(!reaped.await.unwrap().unwrap().success());
        none_in(&host, dir.path(), &["a"], "replaced").await.unwrap();
    }
}
