//! The stage that counts and checks a stream on its own host.

use std::collections::VecDeque;
use std::fmt;

use tokio::io::{AsyncBufReadExt, BufReader};

use secrecy::SecretString;

use super::key;
use super::seal::Header;
use crate::child::Reader;
use crate::{Command, Host};

/// Length and CRC of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The length in bytes.
    pub bytes: u64,
    /// With [`Check::Sealed`](super::Check::Sealed) the CRC-32C of the bytes, else what POSIX `cksum` tells.
    pub crc: u32,
}

impl Digest {
    /// The line by which both ends of a sealed stream tell their digest on stderr.
    pub fn line(&self) -> String {
        format!("{MARK} {} {}", self.crc, self.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with checksum {}", self.bytes, self.crc)
    }
}

/// What a sender or a stage says in front of its digest on stderr.
pub(super) const MARK: &str = "@dbrecover-digest";

/// A shell function that copies its stdin to its stdout and to fd 3. `tee` moves 8 KiB at a time; perl, where it is, moves
/// what a pipe holds for half the processor time.
pub(super) const BOTH: &str = r#"both() { command -v perl >/dev/null 2>&1 || exec tee /dev/fd/3; exec perl -e '
open(my $t, ">&=", 3) or exit 1; while (my $n = sysread(STDIN, my $b, 262144)) { for my $f (*STDOUT, $t) {
my $o = 0; while ($o < $n) { my $w = syswrite($f, $b, $n - $o, $o); defined $w or exit 1; $o += $w } } }'; }; "#;

/// Both copies of stdin are read: one by `cksum`, one as the stage's own stdout (fd 5). Checksum (`$c $n`) and the status of
/// what copies (`$b`) come through fd 4, in whatever order. No temporary file is needed.
const SUM: &str = r#"exec 5>&1
sum() { { (both 4>&- 5>&-); echo "b $?" >&4; } 3>&5 | cksum 5>&-; }
told() { p=0 b= c= n=; while read -r k v; do case $k in p) p=$v ;; b) b=$v ;; *) c=$k n=$v ;; esac; done <<END
$1
END
[ "$p" = 0 ] || exit "$p"; [ "$b" = 0 ] || exit "${b:-125}"; [ "$n" ] || exit 125; }; "#;

/// A digest is told only of what was copied to its end.
const STAGE: &str = r#"r=$(sum 4>&1); told "$r"; echo "$1 $c $n" >&2"#;

/// The two keys of HMAC, as [`key::padded`] has them.
const KEYS: [&str; 2] = ["DBRECOVER_TRANSFER_INNER", "DBRECOVER_TRANSFER_OUTER"];

/// Runs the program in its arguments and seals what it writes with `$2` in front, unless it failed. `code` is
/// HMAC-SHA256, which takes the inner hash as bytes; what writes a key out is the shell itself.
const SEAL: &str = r#"m=$1 h=$2; shift 2; i=$DBRECOVER_TRANSFER_INNER o=$DBRECOVER_TRANSFER_OUTER
unset DBRECOVER_TRANSFER_INNER DBRECOVER_TRANSFER_OUTER
code() { s=$({ printf "$i"; printf %s "$1"; } | sha256sum) && s=${s%% *} && x= || return
while [ "$s" ]; do t=${s#??}; x="$x\\$(printf %03o "0x${s%"$t"}")"; s=$t; done
s=$({ printf "$o"; printf "$x"; } | sha256sum) && [ "${s%% *}" ] && printf '%s\n' "${s%% *}"; }
s=$(code "$h") || exit 125; printf '%s\n' "$h" "$s"
r=$({ { "$@" 4>&- 5>&-; echo "p $?" >&4; } | sum; } 4>&1); told "$r"
e=$(printf '@sealed %010d %020d' "$c" "$n") && s=$(code "$e") || exit 125
echo "$e $s" && echo "$m $c $n" >&2"#;

/// The longest stderr line and the most lines that are kept.
const LINE: u64 = 1024;
const LINES: usize = 10;

/// A stage that passes its stdin on and tells its digest on stderr. It needs `tee` or `perl`, and `cksum`.
pub(super) fn stage(host: &Host) -> Command {
    host.command("sh").arg("-c").arg(format!("{BOTH}{SUM}{STAGE}")).args(["sh", MARK])
}

/// `sender` within a stage that seals what it writes and tells its digest on stderr. It needs what [`stage`] needs, and
/// `sha256sum`.
pub(super) fn sealing(sender: &Command, key: &SecretString) -> Command {
    let stage = sender.host.command("sh").arg("-c").arg(format!("{BOTH}{SUM}{SEAL}"));
    let stage = stage.args(["sh", MARK, Header::STAGE.line()]).wrapping(sender);
    KEYS.into_iter().zip(key::padded(key)).fold(stage, |stage, (name, key)| stage.passing_env(name, key))
}

/// What came out of a stderr that a stage wrote to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) digest: Option<Digest>,
    pub(super) last_lines: String,
}

/// Reads a stderr to its end; keeps the digest and the last lines, whatever the length.
pub(super) async fn listen(stderr: Option<Reader>) -> Heard {
    let Some(stderr) = stderr else { return Heard::default() };
    let mut stream = BufReader::new(stderr);
    let (mut digest, mut lines) = (None, VecDeque::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        match tokio::io::AsyncReadExt::take(&mut stream, LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(found) = text.strip_prefix(MARK).and_then(parse) {
            digest = Some(found);
            continue;
        }
        lines.push_back(text.trim_end().to_owned());
        if lines.len() > LINES {
            lines.pop_front();
        }
    }
    Heard { digest, last_lines: Vec::from(lines).join("\n") }
}

/// The same of a stderr that is in memory.
pub(super) fn hear(stderr: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(stderr);
    let (sums, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with(MARK));
    let digest = sums.last().and_then(|line| parse(line.strip_prefix(MARK)?));
    Heard { digest, last_lines: lines[lines.len().saturating_sub(LINES)..].join("\n") }
}

/// `CRC LENGTH`.
pub(super) fn parse(text: &str) -> Option<Digest> {
    let mut words = text.split_ascii_whitespace();
    let crc = words.next()?.parse().ok()?;
    Some(Digest { crc, bytes: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Output};

    use secrecy::{ExposeSecret as _, SecretString};

    use super::super::seal::{Header, Key, Unsealed};

    /// Runs a stage's script in a PATH with these tools only.
    fn with_tools(tools: &[&str], script: &str, arguments: &[&str]) -> Output {
        let dir = tempfile::tempdir().unwrap();
        for tool in tools {
            std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), dir.path().join(tool)).unwrap();
        }
        let script = format!("{}{}{script}", super::BOTH, super::SUM);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).args(["sh", super::MARK]).args(arguments).env("PATH", dir.path());
        for (name, key) in super::KEYS.into_iter().zip(super::key::padded(&key())) {
            command.env(name, key.expose_secret());
        }
        command.stdin(std::fs::File::open("/etc/passwd").unwrap()).output().unwrap()
    }

    fn key() -> SecretString {
        "0123456789abcdef".repeat(4).into()
    }

    const HEADER: &str = Header::STAGE.line();

    #[test]
    fn stage_seals_as_the_programs_do_and_keeps_its_key_to_itself() {
        let tools = ["cksum", "tee", "cat", "env", "sha256sum"];
        let sent = with_tools(&tools, super::SEAL, &[HEADER, "cat", "/etc/passwd"]);
        let mut stream =
            Unsealed::new(&sent.stdout[..], &Key::new(key().expose_secret().as_bytes())).unwrap();
        let mut contents = Vec::new();
        stream.read_to_end(&mut contents).unwrap();
        assert_eq!(contents, std::fs::read("/etc/passwd").unwrap());
        assert_eq!(super::hear(&sent.stderr).digest, stream.finish().ok());
        let told = with_tools(&tools, super::SEAL, &[HEADER, "env"]);
        assert!(!String::from_utf8_lossy(&told.stdout).contains("TRANSFER"), "{told:?}");
    }

    #[test]
    fn stage_without_its_tools_tells_no_digest_and_seals_nothing() {
        let file = std::fs::read("/etc/passwd").unwrap();
        for tools in [&["cksum", "tee"][..], &["cksum", "perl"]] {
            let output = with_tools(tools, super::STAGE, &[]);
            assert_eq!(output.stdout, file, "{tools:?}");
            let digest = super::hear(&output.stderr).digest.unwrap();
            assert_eq!(digest.bytes, file.len() as u64, "{tools:?}");
        }
        for tools in [&["cksum"][..], &["tee"]] {
            let output = with_tools(tools, super::STAGE, &[]);
            assert_eq!(super::hear(&output.stderr).digest, None, "{tools:?}");
        }
        for tools in [&["cksum", "sha256sum"][..], &["tee", "sha256sum"], &["cksum", "tee"]] {
            let sealing = [HEADER, "cat", "/etc/passwd"];
            let output = with_tools(&[tools, &["cat"]].concat(), super::SEAL, &sealing);
            assert!(!output.stdout.windows(7).any(|bytes| bytes == b"@sealed"), "{tools:?}");
            assert!(!output.status.success(), "{tools:?}");
        }
    }
}
