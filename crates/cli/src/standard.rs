//! Standard input and output as streams of bytes, and whether the program was given them at all.
//!
//! Before `main`, Rust opens `/dev/null` in the place of a standard stream that is closed, so that no file gets its
//! number. A stream of bytes from there is empty and one to there is lost, and both look like success: an encrypted
//! file of nothing, a backup that is nowhere. Commands that read or write such streams take them from here.
//!
//! Text is another matter. A recovery that is started without standard output tells by its exit code what became of it.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// A standard stream, as the program was started with it.
struct Stream {
    name: &'static str,
    descriptor: fn() -> BorrowedFd<'static>,
    closed: AtomicBool,
}

static INPUT: Stream = Stream::new("standard input", rustix::stdio::stdin);
static OUTPUT: Stream = Stream::new("standard output", rustix::stdio::stdout);

impl Stream {
    const fn new(name: &'static str, descriptor: fn() -> BorrowedFd<'static>) -> Self {
        Self { name, descriptor, closed: AtomicBool::new(false) }
    }

    fn look(&self) {
        let closed = rustix::io::fcntl_getfd((self.descriptor)()) == Err(rustix::io::Errno::BADF);
        self.closed.store(closed, Ordering::Relaxed);
    }

    fn open(&self) -> io::Result<File> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::Error::other(format!("{} was closed when the program began", self.name)));
        }
        (self.descriptor)().try_clone_to_owned().map(File::from)
    }
}

/// Looks at the streams before Rust does.
extern "C" fn look() {
    INPUT.look();
    OUTPUT.look();
}

#[used]
#[allow(
    unsafe_code,
    reason = "only this section's functions run before Rust opens what is closed; `look` needs nothing of it"
)]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Writes a line to standard error. Where it cannot be written, it is lost and nothing else with it.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line of text to standard output. Where it cannot be written, the exit code still tells what became of the work.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Standard input, without a buffer in front of it.
///
/// # Errors
///
/// If it was closed when the program began.
pub fn input() -> io::Result<File> {
    INPUT.open()
}

/// Standard output, without a buffer in front of it.
///
/// # Errors
///
/// If it was closed when the program began.
pub fn output() -> io::Result<File> {
    OUTPUT.open()
}
