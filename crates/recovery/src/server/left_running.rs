//! Servers that outlive a recovery: those that `for-testing` left running.
//!
//! Their sockets are named after their folders, so two recoveries of one server would share one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remote_exec::Host;

use crate::Error;

/// How long a server may take to end well, in seconds; then it is killed.
const END_SECONDS: u64 = 60;
/// Prints the processes that have one of the lines of its input as an argument.
const WITH_ARGUMENT: &str = "exec grep -lzxsF -f - /proc/[0-9]*/cmdline";
/// Prints `/proc/PID/cmdline:--datadir=DIR` and a zero byte for the processes that have such an argument.
const DATADIRS: &str = "exec grep -Hazos -e '^--datadir=.*' /proc/[0-9]*/cmdline";
/// Prints `PID:DIR` and a zero byte for the database servers that work in a directory in `$1`: a server goes into its data
/// directory when it starts, wherever it reads the name of it.
const WORKING_IN: &str = r#"for p in /proc/[0-9]*; do
[ "$p/cwd/.." -ef "$1" ] || continue
case $(readlink "$p/exe") in
*/mysqld*|*/mariadbd*) printf '%s:%s\0' "${p#/proc/}" "$(readlink "$p/cwd")" ;;
esac
done"#;

/// The socket of a server that is left running.
pub(crate) fn socket(folder: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{folder}.sock"))
}

/// Whether no server runs on a data directory of the recovery in `dir`, which is about to be what `fate` says.
///
/// # Errors
///
/// [`Error::Running`] if one runs.
pub(crate) async fn none_in(host: &Host, dir: &Path, fate: &str) -> Result<(), Error> {
    let datadirs = dir.join("datadir");
    let named = host.command("sh").args(["-c", DATADIRS]).output().await?;
    let at_work = host.command("sh").args(["-c", WORKING_IN, "sh"]).arg(&datadirs).output().await?;
    let named = named.stdout.split(|byte| *byte == 0).filter_map(|line| {
        let (pid, datadir) = pid_and_dir(line.strip_prefix(b"/proc/")?)?;
        let datadir = Path::new(OsStr::from_bytes(datadir.as_bytes().strip_prefix(b"--datadir=")?));
        (datadir.parent() == Some(&datadirs)).then_some((pid, datadir))
    });
    let at_work = at_work.stdout.split(|byte| *byte == 0).filter_map(pid_and_dir);
    let Some((pid, datadir)) = named.chain(at_work.map(|(pid, dir)| (pid, Path::new(dir)))).next() else {
        return Ok(());
    };
    Err(Error::Running {
        host: host.name().to_owned(),
        server: datadir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        what: format!("process {pid} on {}, which is to be {fate}", datadir.display()),
    })
}

/// `PID[/…]:DIR`.
fn pid_and_dir(line: &[u8]) -> Option<(&str, &OsStr)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let pid = std::str::from_utf8(&line[..colon]).ok()?.split('/').next()?;
    Some((pid, OsStr::from_bytes(&line[colon + 1..])))
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

/// A process of a program of this name that works in a directory until its input ends.
#[cfg(test)]
pub(crate) fn work_in(dir: &Path, program: &Path) -> std::process::Child {
    use std::io::Read as _;
    // By a child: what this process has open for writing, another test's child may hold open when it is to run.
    let copied = std::process::Command::new("cp").args(["--", "/bin/sh"]).arg(program).status().unwrap();
    assert!(copied.success());
    let mut process = std::process::Command::new(program)
        .args(["-c", "echo; read x"])
        .current_dir(dir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    process
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
        let error = none_in(&host, dir.path(), "replaced").await.unwrap_err();
        assert!(
            matches!(&error, Error::Running { server, what, .. } if server == "a" && what.contains(&pid)),
            "{error}"
        );
        let reaped = tokio::task::spawn_blocking(move || server.wait());
        end(&host, &datadir).await.unwrap();
        assert!(!reaped.await.unwrap().unwrap().success());
        none_in(&host, dir.path(), "replaced").await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_reads_its_data_directory_from_a_file_is_found_too() {
        let (host, dir) = (Host::local(), tempfile::tempdir().unwrap());
        let datadir = dir.path().join("name/datadir/a b");
        std::fs::create_dir_all(&datadir).unwrap();
        for (program, found) in [("mariadbd", true), ("mysqld-debug", true), ("other", false)] {
            let mut server = work_in(&datadir, &dir.path().join(program));
            let said = none_in(&host, &dir.path().join("name"), "replaced").await;
            none_in(&host, dir.path(), "replaced").await.unwrap();
            drop(server.stdin.take());
            let pid = server.id().to_string();
            server.wait().unwrap();
            let named = |what: &str| what.contains(&pid) && what.contains("/name/datadir/a b, which");
            match said {
                Err(Error::Running { server, what, .. }) => assert!(found && server == "a b" && named(&what)),
                said => assert!(!found, "{program}: {said:?}"),
            }
        }
    }
}
