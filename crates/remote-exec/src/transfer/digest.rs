//! The stage that counts and checks a stream on its own host.

use std::collections::VecDeque;
use std::fmt;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::child::Reader;
use crate::{Command, Host};

/// Length and CRC of a stream, as POSIX `cksum` computes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The length in bytes.
    pub bytes: u64,
    /// The CRC-32 of the bytes and their number, as POSIX `cksum` has it.
    pub crc: u32,
}

impl Digest {
    /// The line by which a sender that seals its stream itself tells its digest on stderr.
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

/// Both copies are read: one by `cksum`, one as the stage's own stdout. No temporary file is needed.
const SCRIPT: &str = r#"{ both | cksum | sed "s/^/$1 /" >&2; } 3>&1"#;

/// The longest stderr line and the most lines that are kept.
const LINE: u64 = 1024;
const LINES: usize = 10;

/// Runs the program in its arguments and seals what it writes, unless it failed. Both copies are read here too: one by
/// `cksum`, one as the stage's own stdout (fd 5). Statuses and checksum come through fd 4, in whatever order.
const SEAL: &str = r#"m=$1; shift; exec 5>&1; printf '%s\n' 'DBRsealed1 none'
r=$({ { "$@" 4>&- 5>&-; echo "p $?" >&4; } | { (both 4>&- 5>&-); echo "b $?" >&4; } 3>&5 | cksum 5>&-; } 4>&1)
p= b= c= n=; while read -r k v; do case $k in p) p=$v ;; b) b=$v ;; *) c=$k n=$v ;; esac; done <<END
$r
END
[ "${p:-125}" = 0 ] || exit "${p:-125}"; [ "$b" = 0 ] || exit 141
printf '@sealed %010d %020d\n' "$c" "$n" && echo "$m $c $n" >&2"#;

/// A stage that passes its stdin on and tells its digest on stderr. It needs `tee` or `perl`, `cksum` and `sed`.
pub(super) fn stage(host: &Host) -> Command {
    host.command("sh").arg("-c").arg(format!("{BOTH}{SCRIPT}")).args(["sh", MARK])
}

/// `sender` within a stage that seals what it writes and tells its digest on stderr. It needs what [`stage`] needs.
pub(super) fn sealing(host: &Host, sender: &Command) -> Command {
    let stage = host.command("sh").arg("-c").arg(format!("{BOTH}{SEAL}")).args(["sh", MARK]);
    stage.wrapping(sender)
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
