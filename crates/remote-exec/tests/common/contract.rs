//! What every kind of host does. One function per rule; `contract!` makes a test of each for one kind of host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use remote_exec::{Error, FileKind, Host, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Makes the tests. `$connect` is an async function that gives a host and what must live as long as it.
#[macro_export]
macro_rules! contract {
    ($connect:path; $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $rule() {
            let (host, _peer) = $connect().await;
            contract::$rule(&host).await;
            host.close().await;
        }
    )*};
    ($connect:path, $needs:literal; $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = $needs]
        async fn $rule() {
            let (host, _peer) = $connect().await;
            contract::$rule(&host).await;
            host.close().await;
        }
    )*};
}

pub(crate) async fn exit_status_is_the_programs(host: &Host) {
    for code in [0, 1, 3, 127, 200, 255] {
        let output = host.command("sh").args(["-c", &format!("exit {code}")]).output().await.unwrap();
        assert_eq!(output.status.code(), code);
    }
    let killed = host.command("sh").args(["-c", "kill -9 $$"]).output().await.unwrap();
    assert_eq!((killed.status.code(), killed.status.signal()), (137, Some(9)));
    let error = host.command("sh").args(["-c", "echo one; echo two >&2; exit 4"]).run().await.unwrap_err();
    let Error::Failed { status, stderr_tail, .. } = error else { panic!("{error:?}") };
    assert_eq!((status.code(), stderr_tail.as_str()), (4, "two"));
}

pub(crate) async fn stdout_and_stderr_stay_apart(host: &Host) {
    let output = host.command("sh").args(["-c", "echo out; echo err >&2; echo out2"]).output().await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\nout2\n"[..], &b"err\n"[..]));
    let silent = host.command("true").output().await.unwrap();
    assert_eq!((silent.stdout.len(), silent.stderr.len()), (0, 0));
}

pub(crate) async fn binary_output_arrives_unchanged(host: &Host) {
    let all: Vec<u8> = (0..=255).collect();
    let octal: String = all.iter().map(|b| format!("\\{b:03o}")).collect();
    let output = host.command("printf").arg(&octal).output().await.unwrap();
    assert_eq!(output.stdout, all);
    let no_line_end = host.command("printf").arg("a\\n\\n").output().await.unwrap();
    assert_eq!(no_line_end.stdout, b"a\n\n");
}

pub(crate) async fn hundred_megabytes_of_output(host: &Host) {
    let size = 100_000_000;
    let output = host.command("head").args(["-c", "100000000", "/dev/zero"]).output().await.unwrap();
    assert_eq!(output.stdout.len(), size);
    assert!(output.stdout.iter().all(|b| *b == 0));
}

pub(crate) async fn arguments_arrive_unchanged(host: &Host) {
    let mut words: Vec<Vec<u8>> = [
        "",
        " ",
        "a b",
        "it's",
        "\"",
        "$HOME",
        "`id`",
        "$(id)",
        "a\nb",
        "\n",
        "\\",
        "*",
        "~",
        "-n",
        "--",
        "!x",
        "{a,b}",
        "ä\u{1F600}",
        ";",
        "&",
        "|",
        "<",
        "#x",
        "a=b",
        "\t",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect();
    words.push((1..=255).collect());
    words.push(vec![0xff, 0xfe, b'\'', 0x80]);
    let args: Vec<OsString> = words.iter().map(|w| OsString::from_vec(w.clone())).collect();
    let output = host.command("printf").arg("%s\\0").args(&args).output().await.unwrap();
    let mut expected = words.join(&0);
    expected.push(0);
    assert_eq!(output.stdout, expected);
    let error = host.command("printf").arg(OsStr::from_bytes(b"a\0b")).output().await;
    assert!(error.is_err());
}

pub(crate) async fn raw_arguments_are_shell_text(host: &Host) {
    let output =
        host.command("printf").arg("%s-%s").arg("$X").raw_arg("\"$X\" 2>&1").env("X", "a b").run().await;
    assert_eq!(output.unwrap().text(), "$X-a b");
}

pub(crate) async fn environment_and_directory_are_set(host: &Host) {
    let dir = tempfile::Builder::new().prefix("it's a $dir ").tempdir().unwrap();
    let output = host
        .command("sh")
        .args(["-c", "printf %s \"$WITH_NEWLINE\"; pwd -P"])
        .env("WITH_NEWLINE", "a\n'b'$c\n")
        .current_dir(dir.path())
        .run()
        .await
        .unwrap();
    let expected = format!("a\n'b'$c\n{}", dir.path().canonicalize().unwrap().display());
    assert_eq!(output.text(), expected);
    let error = host.command("true").current_dir("/does/not exist").run().await.unwrap_err();
    assert!(
        matches!(&error, Error::NoDirectory { path, .. } if path == OsStr::new("/does/not exist")),
        "{error:?}"
    );
    assert!(host.command("true").env("A B", "x").run().await.is_err());
}

pub(crate) async fn missing_program_is_its_own_error(host: &Host) {
    let error = host.command("no such program").arg("x").output().await.unwrap_err();
    assert!(matches!(&error, Error::NoProgram { program, .. } if program == "no such program"), "{error:?}");
    let echo = host.command("echo").arg("\\n").run().await.unwrap();
    assert_eq!(echo.stdout, b"\\n\n", "the program, not the shell's own echo");
}

pub(crate) async fn secrets_are_in_no_process_list(host: &Host) {
    let secret = format!("s3cret '$x {}", std::process::id());
    let script = "IFS= read -r line; printf '%s|%s|' \"$PW\" \"$line\"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
    let output = host
        .command("sh")
        .args(["-c", script])
        .secret_env("PW", secret.clone().into())
        .secret_stdin(format!("{secret}in").into())
        .run()
        .await
        .unwrap();
    let text = output.text();
    let rest = text.strip_prefix(&format!("{secret}|{secret}in|")).expect("the program has both secrets");
    assert!(rest.contains("IFS= read"), "the list of processes was read");
    assert!(!rest.contains("s3cret '$x"), "{rest}");
    let error = host.command("false").secret_env("PW", secret.clone().into()).run().await.unwrap_err();
    assert!(error.to_string().contains("PW=***") && !format!("{error} {error:?}").contains("s3cret"));
}

/// A duration no other program sleeps for.
fn unique_seconds() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("7{:07}.{}", std::process::id(), 1000 + COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How many processes have this among their arguments.
fn running(argument: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let has = |p: std::path::PathBuf| {
        let cmdline = std::fs::read(p.join("cmdline")).unwrap_or_default();
        cmdline.split(|b| *b == 0).any(|a| a == argument.as_bytes())
    };
    entries.flatten().filter(|e| has(e.path())).count()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn timeout_ends_the_whole_process_group(host: &Host) {
    let seconds = unique_seconds();
    let script = format!("trap '' TERM; sleep {seconds} & (sleep {seconds}; :); wait");
    let begun = Instant::now();
    let command = host.command("sh").args(["-c", &script]).timeout(Duration::from_millis(700));
    let error = command.grace(Duration::from_millis(200)).output().await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { after, .. } if after == Duration::from_millis(700)),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    until("nothing of the group is left", || running(&seconds) == 0).await;
}

/// Not of agents: there a program's output goes to files, and what is in them when it ends is all.
pub(crate) async fn output_is_read_no_longer_than_the_timeout(host: &Host) {
    let seconds = unique_seconds();
    let script = format!("sleep {seconds} & echo x");
    let command = host.command("sh").args(["-c", &script]).timeout(Duration::from_secs(3));
    let result = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let error = result.expect("a child that holds the output is not waited for").unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == Duration::from_secs(3)), "{error:?}");
    until("what was left behind has ended", || running(&seconds) == 0).await;
    let script = format!("sleep {seconds} >/dev/null 2>&1 & echo $!");
    let output = host.command("sh").args(["-c", &script]).timeout(Duration::from_secs(60)).output().await;
    let left = output.unwrap().text();
    assert_eq!(running(&seconds), 1, "what holds nothing stays");
    host.command("kill").arg(left).run().await.unwrap();
}

/// A program that sleeps on, and has begun.
pub(crate) async fn sleeping(
    host: &Host,
    timeout: Option<Duration>,
) -> tokio::task::JoinHandle<Result<Output, Error>> {
    let seconds = unique_seconds();
    let mut command = host.command("sleep").arg(&seconds);
    if let Some(timeout) = timeout {
        command = command.timeout(timeout);
    }
    let call = tokio::spawn(command.output());
    until("the program runs", || running(&seconds) > 0).await;
    call
}

pub(crate) async fn dropped_call_ends_the_program(host: &Host) {
    let seconds = unique_seconds();
    let call = host.command("sleep").arg(&seconds).output();
    let started = until("the program runs", || running(&seconds) == 1);
    tokio::select! {
        output = call => panic!("{output:?}"),
        () = started => {}
    }
    until("the program is gone", || running(&seconds) == 0).await;
}

pub(crate) async fn kill_ends_the_process_group(host: &Host) {
    let seconds = unique_seconds();
    let script = format!("sleep {seconds} & sleep {seconds}");
    let child = host.command("sh").args(["-c", &script]).spawn().await.unwrap();
    until("both run", || running(&seconds) == 2).await;
    child.kill().await;
    until("both are gone", || running(&seconds) == 0).await;
}

pub(crate) async fn given_stdin_reaches_the_program(host: &Host) {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = host.command("cat").stdin_bytes(bytes.clone()).output().await.unwrap();
    assert!(output.stdout == bytes);
    let unread = host.command("true").stdin_bytes(bytes).output().await.unwrap();
    assert!(unread.status.success());
    let empty = host.command("cat").output().await.unwrap();
    assert!(empty.stdout.is_empty());
}

pub(crate) async fn streams_flow_both_ways(host: &Host) {
    let mut child = host.command("cat").spawn().await.unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // First a word to and fro, so nothing waits for the end of the input.
    stdin.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stdout.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    let size = 20_000_000_usize;
    let writer = tokio::spawn(async move {
        stdin.write_all(&vec![7; size]).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).await.unwrap();
    writer.await.unwrap();
    assert_eq!(all.len(), size);
    assert!(child.wait().await.unwrap().success());
}

/// A program may end long before its output was read; nothing of it may be lost.
pub(crate) async fn slow_reader_gets_everything(host: &Host) {
    let mut child = host.command("head").args(["-c", "3000000", "/dev/zero"]).spawn().await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let wait = tokio::spawn(child.wait());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 3_000_000);
    assert!(wait.await.unwrap().unwrap().success());
}

pub(crate) async fn loud_stderr_blocks_nothing(host: &Host) {
    let script = "head -c 3000000 /dev/zero >&2; echo done; exit 5";
    let mut child = host.command("sh").args(["-c", script]).spawn().await.unwrap();
    child.stdin.take();
    assert_eq!(child.wait().await.unwrap().code(), 5);
}

pub(crate) async fn pipelines_tell_every_status(host: &Host) {
    let sh = |script: &str| host.command("sh").args(["-c", script]);
    let stages = vec![sh("echo b; echo a; exit 3"), sh("cat; exit 4"), host.command("sort")];
    let output = host.pipeline(stages).output().await.unwrap();
    assert_eq!(output.statuses.iter().map(|s| s.code()).collect::<Vec<_>>(), [3, 4, 0]);
    assert_eq!((output.status.code(), output.text().as_str()), (4, "a\nb"));
    let eleven = (0..11).map(|i| sh(&format!("cat; exit {i}"))).collect();
    let output = host.pipeline(eleven).output().await.unwrap();
    assert_eq!(output.statuses.iter().map(|s| s.code()).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    let secret = host.command("sh").args(["-c", "printf %s \"$A\""]).secret_env("A", "x y".into());
    let output = host.pipeline(vec![secret, sh("cat; printf %s \"$A\"")]).run().await.unwrap();
    assert_eq!(output.text(), "x y", "the environment is the first stage's only");
    let given =
        host.pipeline(vec![host.command("cat").stdin_bytes("z"), host.command("cat")]).run().await.unwrap();
    assert_eq!(given.text(), "z");
    let error =
        host.pipeline(vec![sh("echo x"), host.command("no-such-program")]).output().await.unwrap_err();
    assert!(matches!(&error, Error::NoProgram { program, .. } if program == "no-such-program"), "{error:?}");
    assert!(host.pipeline(Vec::new()).output().await.is_err());
}

pub(crate) async fn output_goes_to_files_there(host: &Host) {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("o 'ut"), dir.path().join("err"));
    let command = host.command("sh").args(["-c", "echo out; echo err >&2"]).stdout_to(&out).stderr_to(&err);
    let output = command.run().await.unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(std::fs::read(&out).unwrap(), b"out\n");
    assert_eq!(std::fs::read(&err).unwrap(), b"err\n");
}

pub(crate) async fn output_beyond_the_limit_is_an_error(host: &Host) {
    let command = host.command("head").args(["-c", "10000000", "/dev/zero"]);
    let error = command.output_limit(1_000_000).output().await.unwrap_err();
    assert!(matches!(error, Error::TooMuchOutput { limit: 1_000_000, .. }), "{error:?}");
    let exact = host.command("printf").arg("12345").output_limit(5).output().await.unwrap();
    assert_eq!(exact.stdout, b"12345");
}

pub(crate) async fn many_commands_at_once(host: &Host) {
    commands_at_once(host, 40).await;
}

pub(crate) async fn commands_at_once(host: &Host, count: u8) {
    let calls = (0..count).map(|i| {
        let command = host.command("sh").args(["-c", &format!("sleep 0.1; echo {i}; exit {i}")]);
        async move { (i, command.output().await) }
    });
    for (i, output) in futures_util::future::join_all(calls).await {
        let output = output.unwrap();
        assert_eq!((output.text(), output.status.code()), (i.to_string(), i));
    }
}

pub(crate) async fn files_can_be_worked_with(host: &Host) {
    let dir = tempfile::tempdir().unwrap();
    let files = host.files();
    let odd = dir.path().join(OsStr::from_bytes(b"a 'b'\n$c \xff"));
    let deep = odd.join("x/y");
    files.create_dir_all(&deep).await.unwrap();
    files.create_dir_all(&deep).await.unwrap();
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let file = deep.join("-f");
    files.write(&file, content.clone(), 0o640).await.unwrap();
    assert_eq!(files.read(&file, 1 << 20).await.unwrap(), content);
    assert!(matches!(files.read(&file, 99_999).await, Err(Error::File { missing: false, .. })));
    assert_eq!(files.read_if_there(&file, 1 << 20).await.unwrap(), Some(content));
    assert_eq!(files.read_if_there(deep.join("none"), 10).await.unwrap(), None);
    assert!(files.read_if_there(&file, 99_999).await.is_err());
    assert!(files.read_if_there(&deep, 10).await.is_err(), "a directory is no missing file");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let metadata = files.metadata(&file).await.unwrap();
    assert_eq!((metadata.kind, metadata.size), (FileKind::File, 100_000));
    assert!(metadata.modified.elapsed().unwrap() < Duration::from_secs(60));
    std::os::unix::fs::symlink("/nowhere", deep.join("link")).unwrap();
    let list = files.list(&deep).await.unwrap();
    let kinds: Vec<_> = list.iter().map(|e| (e.name.to_str().unwrap(), e.metadata.kind)).collect();
    assert_eq!(kinds, [("-f", FileKind::File), ("link", FileKind::Symlink)]);
    assert_eq!(files.list(dir.path()).await.unwrap()[0].name.as_bytes(), b"a 'b'\n$c \xff");
    assert!(files.exists(&deep.join("link")).await.unwrap());
    files.rename(&file, deep.join("g")).await.unwrap();
    assert!(!files.exists(&file).await.unwrap());
    assert!(files.free_bytes(dir.path()).await.unwrap() > 0);
    let none = dir.path().join("none");
    for error in [
        files.read(&none, 10).await.unwrap_err(),
        files.metadata(&none).await.unwrap_err(),
        files.list(&none).await.unwrap_err(),
        files.rename(&none, &file).await.unwrap_err(),
        files.remove_file(&none).await.unwrap_err(),
        files.remove_dir_all(&none).await.unwrap_err(),
        files.free_bytes(&none).await.unwrap_err(),
        files.write(none.join("x"), "y", 0o600).await.unwrap_err(),
    ] {
        assert!(error.is_missing_file(), "{error:?}");
    }
    files.write_secret(deep.join("pw"), "s3cret".to_owned().into()).await.unwrap();
    let kept = std::fs::metadata(deep.join("pw")).unwrap();
    assert_eq!((kept.len(), kept.permissions().mode() & 0o777), (6, 0o600));
    files.remove_file(deep.join("g")).await.unwrap();
    assert!(!files.remove_file(&deep).await.unwrap_err().is_missing_file());
    files.remove_dir_all(&odd).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(host.find_program("sh").await.unwrap().unwrap().file_name().unwrap(), "sh");
    assert_eq!(host.find_program("no-such-program").await.unwrap(), None);
}

/// What a command makes has the permissions that it would have without us.
pub(crate) async fn umask_is_the_logins(host: &Host) {
    let here = std::process::Command::new("sh").args(["-c", "umask"]).output().unwrap();
    let there = host.command("sh").args(["-c", "umask"]).run().await.unwrap();
    assert_eq!(there.stdout, here.stdout);
}

/// What an agent of somebody else keeps, once it is trusted: everything but hiding secrets.
pub(crate) async fn kept_by_a_trusted_agent(host: &Host) {
    exit_status_is_the_programs(host).await;
    stdout_and_stderr_stay_apart(host).await;
    binary_output_arrives_unchanged(host).await;
    arguments_arrive_unchanged(host).await;
    environment_and_directory_are_set(host).await;
    missing_program_is_its_own_error(host).await;
    timeout_ends_the_whole_process_group(host).await;
    dropped_call_ends_the_program(host).await;
    kill_ends_the_process_group(host).await;
    given_stdin_reaches_the_program(host).await;
    slow_reader_gets_everything(host).await;
    pipelines_tell_every_status(host).await;
    files_can_be_worked_with(host).await;
    umask_is_the_logins(host).await;
}
