//! The contract, kept by a host behind ssh, and what only ssh has. Every test has its own sshd on loopback.

#[path = "common/contract.rs"]
#[allow(dead_code, reason = "every kind of host picks its rules")]
mod contract;
#[path = "common/sshd.rs"]
#[allow(dead_code, unreachable_pub, reason = "the lab uses the same file")]
mod sshd;

use std::time::{Duration, Instant};

use remote_exec::ssh::Options;
use remote_exec::{Error, Host, Method};
use sshd::{Sshd, TemporaryUser};

fn options(server: &Sshd) -> Options {
    let mut options = Options::new("127.0.0.1");
    options.port = Some(server.port());
    options.identity = Some(server.identity());
    options.known_hosts = Some(server.known_hosts());
    options.config_file = Some("/dev/null".into());
    options
}

async fn connect(options: Options) -> Result<Host, Error> {
    Host::connect(Method::Ssh(options)).await
}

async fn by_ssh() -> (Host, Sshd) {
    let server = Sshd::start().unwrap();
    (connect(options(&server)).await.unwrap(), server)
}

contract! { by_ssh, "needs sshd; run: ./test";
    exit_status_is_the_programs stdout_and_stderr_stay_apart binary_output_arrives_unchanged hundred_megabytes_of_output
    arguments_arrive_unchanged raw_arguments_are_shell_text environment_and_directory_are_set missing_program_is_its_own_error
    secrets_are_in_no_process_list timeout_ends_the_whole_process_group dropped_call_ends_the_program
    kill_ends_the_process_group given_stdin_reaches_the_program streams_flow_both_ways slow_reader_gets_everything
    loud_stderr_blocks_nothing pipelines_tell_every_status output_goes_to_files_there output_beyond_the_limit_is_an_error
    many_commands_at_once files_can_be_worked_with umask_is_the_logins output_is_read_no_longer_than_the_timeout
}

#[tokio::test]
#[ignore = "needs sshd and root; run: ./test"]
async fn password_logs_in_and_is_left_nowhere() {
    let server = Sshd::start().unwrap();
    let user = TemporaryUser::new("pa ss'w$rd\\ é").unwrap();
    let mut options = options(&server);
    options.identity = None;
    options.user = Some(user.name.clone());
    options.password = Some(user.password.clone().into());
    let host = connect(options.clone()).await.unwrap();
    assert_eq!(host.command("id").arg("-un").run().await.unwrap().text(), user.name);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let content = std::fs::read(entry.path().join(file)).unwrap_or_default();
            let found = content.windows(user.password.len()).any(|w| w == user.password.as_bytes());
            assert!(!found, "{:?} {file}", entry.path());
        }
    }
    host.close().await;
    options.password = Some("wrong".to_owned().into());
    let error = connect(options.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
    options.password = None;
    let error = connect(options).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs sshd; run: ./test"]
async fn passphrase_opens_the_key() {
    let server = Sshd::start().unwrap();
    let key = server.identity();
    let changed = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "pass phrase", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(changed.success());
    let mut options = options(&server);
    options.passphrase = Some("pass phrase".to_owned().into());
    let host = connect(options.clone()).await.unwrap();
    host.command("true").run().await.unwrap();
    options.passphrase = Some("wrong".to_owned().into());
    assert!(matches!(connect(options).await.unwrap_err(), Error::Login { .. }));
}

#[tokio::test]
#[ignore = "needs sshd; run: ./test"]
async fn host_keys_are_checked() {
    let server = Sshd::start().unwrap();
    let known = server.dir().join("known_here");
    let mut options = options(&server);
    options.known_hosts = Some(known.clone());
    let error = connect(options.clone()).await.unwrap_err();
    assert!(matches!(error, Error::HostKey { changed: false, .. }), "{error:?}");
    options.accept_new_host_keys = true;
    connect(options.clone()).await.unwrap().close().await;
    options.accept_new_host_keys = false;
    connect(options.clone()).await.unwrap().close().await;

    let other = Sshd::start().unwrap();
    let other_key = std::fs::read_to_string(other.known_hosts()).unwrap();
    let key = other_key.split_whitespace().nth(2).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} ssh-ed25519 {key}\n", server.port())).unwrap();
    options.accept_new_host_keys = true;
    let error = connect(options).await.unwrap_err();
    assert!(matches!(error, Error::HostKey { changed: true, .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs ssh; run: ./test"]
async fn nothing_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = Options::new("127.0.0.1");
    options.port = Some(free.local_addr().unwrap().port());
    options.config_file = Some("/dev/null".into());
    options.connect_timeout = Duration::from_secs(1);
    // A listener that never answers.
    let begun = Instant::now();
    assert!(matches!(connect(options.clone()).await.unwrap_err(), Error::Unreachable { .. }));
    assert!(begun.elapsed() < Duration::from_secs(60));
    drop(free);
    let error = connect(options.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { detail, .. } if detail.contains("refused")), "{error:?}");
    options.host = "no-such-host.invalid".to_owned();
    assert!(matches!(connect(options).await.unwrap_err(), Error::Unreachable { .. }));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn lost_connection_is_told_and_the_next_command_reconnects() {
    let (host, server) = by_ssh().await;
    let running = contract::sleeping(&host, None).await;
    server.cut();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert_eq!(host.command("echo").arg("back").run().await.unwrap().text(), "back");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn closing_ends_what_still_runs() {
    let (host, _server) = by_ssh().await;
    let seconds = format!("8{}.5", std::process::id());
    let running = tokio::spawn(host.command("sleep").arg(&seconds).output());
    let alive = || {
        let list = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&list.stdout).contains(&format!("sleep {seconds}"))
    };
    while !alive() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    host.close().await;
    assert!(!alive());
    assert!(running.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn fewer_sessions_than_expected_make_more_connections() {
    let server = Sshd::start_with("MaxSessions 3").unwrap();
    let host = connect(options(&server)).await.unwrap();
    contract::many_commands_at_once(&host).await;
}

/// Waits until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn hundred_commands_at_once_wait_for_each_other_where_ten_sessions_are_allowed() {
    let server = Sshd::start_with("MaxSessions 10").unwrap();
    let host = connect(options(&server)).await.unwrap();
    for _ in 0..3 {
        contract::commands_at_once(&host, 100).await;
    }
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn hundred_programs_run_side_by_side_where_ten_sessions_are_allowed() {
    let server = Sshd::start_with("MaxSessions 10").unwrap();
    let host = connect(options(&server)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut gate = std::fs::File::options().read(true).write(true).open(gate).unwrap();
    // None of them ends before all have begun.
    let script = r#": >"$1/$2"; read -r word <"$1/gate"; exit "$2""#;
    let calls = (0..100_u8).map(|i| {
        let command = host.command("sh").args(["-c", script, "sh"]).arg(dir.path()).arg(i.to_string());
        tokio::spawn(async move { (i, command.output().await) })
    });
    let calls: Vec<_> = calls.collect();
    until("all have begun", || std::fs::read_dir(dir.path()).unwrap().count() == 101).await;
    // A server's own commands have to get through beside it.
    assert_eq!(host.command("echo").arg("beside").run().await.unwrap().text(), "beside");
    std::io::Write::write_all(&mut gate, &[b'\n'; 100]).unwrap();
    for call in calls {
        let (i, output) = call.await.unwrap();
        assert_eq!(output.unwrap().status.code(), i);
    }
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn closing_leaves_nothing_of_a_connection_that_somebody_still_holds() {
    let far = tempfile::tempdir().unwrap();
    let server = Sshd::start_with(&format!("SetEnv HOME={0} TMPDIR={0}", far.path().display())).unwrap();
    let host = connect(options(&server)).await.unwrap();
    let arguments = |pid: &std::fs::DirEntry| {
        let all = std::fs::read(pid.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&all).split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let port = server.port().to_string();
    let masters = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| arguments(&entry));
        all.filter(|words| words.contains(&port) && words.iter().any(|word| word == "-M")).collect::<Vec<_>>()
    };
    let master = masters().pop().unwrap();
    let socket = &master[master.iter().position(|word| word == "-S").unwrap() + 1];
    assert!(std::path::Path::new(socket).exists());
    // Output that nobody reads, in a task that never goes on.
    let mut child = host.command("sh").args(["-c", "echo 1; sleep 1000"]).spawn().await.unwrap();
    let held = (child.stdout.take(), child.stderr.take(), child.stdin.take());
    let stuck = tokio::spawn(async move {
        let _held = (held, child);
        std::future::pending::<()>().await;
    });
    let other = host.clone();
    host.close().await;
    until("its processes have ended", || masters().is_empty() && server.connections() == 0).await;
    assert!(!std::path::Path::new(socket).parent().unwrap().exists());
    assert_eq!(std::fs::read_dir(far.path()).unwrap().count(), 0, "nothing is left there");
    assert!(matches!(other.command("true").run().await, Err(Error::Unreachable { .. })));
    stuck.abort();
}

#[tokio::test]
#[ignore = "needs sshd; run: ./test"]
async fn ipv6_and_the_users_own_configuration_work() {
    let server = Sshd::start().unwrap();
    let mut six = options(&server);
    six.host = "::1".to_owned();
    connect(six).await.unwrap().command("true").run().await.unwrap();
    let jump = Sshd::start().unwrap();
    let both = server.dir().join("both_known");
    let lines =
        [server.known_hosts(), jump.known_hosts()].map(|p| std::fs::read_to_string(p).unwrap()).concat();
    std::fs::write(&both, lines).unwrap();
    let config = format!(
        "Host store\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n ProxyJump gate\n\
         Host gate\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n\
         Host *\n IdentitiesOnly yes\n UserKnownHostsFile {}\n",
        server.port(),
        server.identity().display(),
        jump.port(),
        jump.identity().display(),
        both.display()
    );
    let file = server.dir().join("ssh_config");
    std::fs::write(&file, config).unwrap();
    let mut options = Options::new("store");
    options.config_file = Some(file);
    let host = connect(options).await.unwrap();
    let output = host.command("sh").args(["-c", "echo \"$SSH_CONNECTION\""]).run().await.unwrap();
    assert!(output.text().ends_with(&server.port().to_string()), "{output:?}");
    assert_eq!(host.name(), "store");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd, tcsh, fish and root; run: ./test"]
async fn every_login_shell_will_do_unless_it_talks() {
    let server = Sshd::start().unwrap();
    let user = TemporaryUser::new("secret").unwrap();
    let login = || {
        let mut options = Options::new("127.0.0.1");
        options.port = Some(server.port());
        options.user = Some(user.name.clone());
        options.password = Some(user.password.clone().into());
        options.known_hosts = Some(server.known_hosts());
        options.config_file = Some("/dev/null".into());
        options
    };
    let arguments = ["a b", "it's $HOME `id` !!", "two\nlines", "*", "\\"];
    for shell in ["/bin/sh", "/bin/bash", "/usr/bin/tcsh", "/usr/bin/fish"] {
        user.set_shell(shell).unwrap();
        let host = connect(login()).await.unwrap_or_else(|e| panic!("{shell}: {e}"));
        let output = host.command("printf").arg("%s;").args(arguments).run().await.unwrap();
        assert_eq!(output.text(), arguments.join(";") + ";", "{shell}");
        host.close().await;
    }
    user.set_shell("/bin/bash").unwrap();
    std::fs::write(user.home().join(".bashrc"), "printf 'Welcome to db1 '\n").unwrap();
    let error = connect(login()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { detail, .. } if detail.contains("Welcome to db1") && detail.contains(".bashrc")),
        "{error:?}"
    );
    std::fs::write(user.home().join(".bashrc"), "[ -t 1 ] && echo Welcome\n").unwrap();
    connect(login()).await.unwrap().close().await;
    user.set_shell("/usr/sbin/nologin").unwrap();
    let error = connect(login()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { detail, .. } if detail.contains("not available")),
        "{error:?}"
    );
}
