//! From host to host through `ssh` run on the sender, where the sender can log in to the receiver.
//!
//! The name is the original's, which copied folders with `scp`; what runs is `ssh … 'cat > FIFO'`, because a stream is
//! not a file. The way is the same: one encrypted connection from store to job server.

use std::ffi::OsStr;
use std::path::PathBuf;

use secrecy::SecretString;

use super::ends::Ends;
use super::gate::{Listener, unique};
use super::{Check, Digest, Failure, failure};
use crate::ssh::login_name_in;
use crate::{Command, Error, Host, quote};

/// How the sender logs in to the receiver.
#[derive(Debug, Clone)]
pub struct Scp {
    /// The receiver's name or address, as the sender can reach it.
    pub to: String,
    /// The port of its ssh server.
    pub port: Option<u16>,
    /// The user there; it must be able to write into `dir`.
    pub user: Option<String>,
    /// The password. While the connection lasts it is in the environment of the sender's `ssh`, which the sending user
    /// and root can read. Without one, the sending user's keys on the sending host are used.
    pub password: Option<SecretString>,
    /// A private key on the sending host.
    pub identity: Option<PathBuf>,
    /// A `known_hosts` on the sending host.
    pub known_hosts: Option<PathBuf>,
    /// Accept and record the key of a receiver that the sender never saw.
    pub accept_new_host_keys: bool,
    /// A directory on the receiver for what is needed on the way.
    pub dir: PathBuf,
}

/// Waits at a FIFO; the log says so when it is there.
const LISTEN: &str =
    "umask 077; mkfifo \"$1.in\" && echo listening on \"$1.in\" >\"$1\" && exec cat \"$1.in\"";

/// The same, and becomes the program in its arguments, with the umask that this had.
const BECOME: &str = "u=$(umask); umask 077; mkfifo \"$1.in\" && echo listening on \"$1.in\" >\"$1\" && f=$1.in && shift && \
                      exec <\"$f\" && echo \"execvp'ing\" >>\"${f%.in}\" && umask \"$u\" && exec \"$@\"";

/// Answers the question for the receiver's password on the sender, and no other: that of a jump host is not for it.
/// `DBRECOVER_ASK_FOR` is `user@host` as ssh names the receiver in its question.
const ASKPASS: &str = r#"#!/bin/sh
case $1 in
    "$DBRECOVER_ASK_FOR's password"* | "($DBRECOVER_ASK_FOR) "*assword*) printf '%s\n' "$DBRECOVER_PASSWORD" ;;
    *) exit 1 ;;
esac
"#;

/// One attempt.
pub(super) async fn run(
    ends: Ends<'_>,
    scp: &Scp,
    check: Check,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Digest, Failure> {
    let Ends { from, to, .. } = ends;
    to.files().create_dir_all(&scp.dir).await.map_err(failure)?;
    let log = scp.dir.join(format!("transfer_{}", unique()));
    let mut fifo = log.clone().into_os_string();
    fifo.push(".in");
    let Some(fifo) = fifo.to_str().filter(|f| !f.contains('\n')) else {
        let what = format!("the directory {}", scp.dir.display());
        return Err(failure(Error::Argument { what, reason: "its name is not one line of UTF-8" }));
    };
    let askpass = PathBuf::from(format!("/tmp/dbrecover-ask-{}{}", unique(), unique()));
    let mut ssh = connect(from, scp);
    match &scp.password {
        Some(password) => {
            let asked = login_name(from, scp).await?;
            from.files().write(&askpass, ASKPASS, 0o700).await.map_err(failure)?;
            ssh = ssh.env("SSH_ASKPASS", &askpass).env("DBRECOVER_ASK_FOR", asked);
            ssh = ssh.env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
            ssh = ssh.secret_env("DBRECOVER_PASSWORD", password.clone());
        }
        None => ssh = ssh.arg("-o").arg("BatchMode=yes"),
    }
    let ssh = ssh.arg("--").arg(&scp.to).arg(format!("exec cat >{}", quote::shown(OsStr::new(fifo))));
    let sealed = check != Check::Stages;
    let listener = if sealed {
        let listen = to.command("sh").args(["-c", BECOME, "sh"]).arg(&log).wrapping(ends.receiver);
        Listener::sealed(ends, listen, &log).await
    } else {
        Listener::gated(ends, to.command("sh").args(["-c", LISTEN, "sh"]).arg(&log), &log).await
    };
    let result = match listener {
        Ok(mut listener) => {
            let result = match listener.listening().await {
                Ok(true) if sealed => listener.receive_sealed(vec![ends.sender.clone(), ssh]).await,
                Ok(true) => listener.receive(ssh, progress).await,
                Ok(false) => Err(Failure::stream("the FIFO could not be made")),
                Err(e) => Err(e),
            };
            listener.tidy().await;
            let _ = to.files().remove_file(&log).await;
            result
        }
        Err(e) => Err(e),
    };
    if scp.password.is_some() {
        let _ = from.files().remove_file(&askpass).await;
    }
    result
}

/// `user@host` as the sender's ssh will call the receiver in its questions.
async fn login_name(from: &Host, scp: &Scp) -> Result<String, Failure> {
    let output = connect(from, scp).arg("-G").arg("--").arg(&scp.to).run().await.map_err(failure)?;
    Ok(login_name_in(&output.text()))
}

/// The connection without its login by password, its target and its command.
fn connect(from: &Host, scp: &Scp) -> Command {
    let mut ssh = from.command("ssh").args(["-T", "-e", "none"]);
    let strict = if scp.accept_new_host_keys { "accept-new" } else { "yes" };
    for option in [
        format!("StrictHostKeyChecking={strict}"),
        "NumberOfPasswordPrompts=1".to_owned(),
        "ServerAliveInterval=15".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        // A master in the background would keep the password in its environment.
        "ControlMaster=no".to_owned(),
        "ControlPath=none".to_owned(),
        "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com".to_owned(),
    ] {
        ssh = ssh.arg("-o").arg(option);
    }
    if let Some(known) = &scp.known_hosts {
        ssh = ssh.arg("-o").arg(format!("UserKnownHostsFile=\"{}\"", known.display()));
    }
    if let Some(port) = scp.port {
        ssh = ssh.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &scp.user {
        ssh = ssh.arg("-l").arg(user);
    }
    if let Some(identity) = &scp.identity {
        ssh = ssh.arg("-i").arg(identity);
    }
    ssh
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// What the sender's ssh gets for an answer.
    fn answer(question: &str) -> Option<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", super::ASKPASS, "sh", question]);
        command.env("DBRECOVER_ASK_FOR", "me@10.0.0.12").env("DBRECOVER_PASSWORD", "pa ss'w$rd\\n");
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn only_the_receivers_password_is_told() {
        for question in ["me@10.0.0.12's password: ", "(me@10.0.0.12) Password: "] {
            assert_eq!(answer(question).as_deref(), Some("pa ss'w$rd\\n\n"), "{question}");
        }
        for question in [
            "me@gate's password: ",
            "(me@gate) Password: ",
            "root@10.0.0.12's password: ",
            "Enter passphrase for key 'password': ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
        ] {
            assert_eq!(answer(question), None, "{question}");
        }
    }
}
