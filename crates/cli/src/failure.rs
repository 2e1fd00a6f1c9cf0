//! Failures as a user sees them: what went wrong, a hint, and the exit code.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::exit::Exit;
use crate::standard::tell;

/// What a command ends with.
pub type Outcome = Result<(), Failure>;

/// An error on its way to the terminal.
#[derive(Debug)]
pub struct Failure {
    /// The class, and so the exit code.
    pub exit: Exit,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// What would make it work.
    pub hint: Option<String>,
    /// The user was told already, in another form; only the exit code is left.
    pub told: bool,
}

impl Failure {
    /// A failure of class `exit`: one of ours, or a library's.
    pub fn new(exit: impl Into<Exit>, error: impl Into<anyhow::Error>) -> Self {
        Self { exit: exit.into(), error: error.into(), hint: None, told: false }
    }

    /// The same failure with a hint for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with a hint, if there is one.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// The failure for programs: `class` (see [`Exit::name`]), `exit_code`, `message`, `hint`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "class": self.exit.name(),
            "exit_code": self.exit as u8,
            "message": format!("{:#}", self.error),
            "hint": self.hint,
        })
    }

    /// Prints it as the document of `--json`. Where it cannot be printed, the exit code says what it says.
    pub fn print_json(&self, schema_version: u32) {
        let document = serde_json::json!({"schema_version": schema_version, "error": self.json()});
        let _ = writeln!(io::stdout().lock(), "{document:#}");
    }

    /// Wrong usage, said in one line.
    pub fn usage(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::new(Exit::Usage, anyhow::Error::msg(message))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// Prints a failure and gives the process its exit code.
///
/// A closed stdout (`dbrecover list | head`) is no failure of ours.
pub fn finish(program: &str, outcome: Outcome) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    if failure.exit == Exit::Failed && is_unread(&failure.error) {
        return ExitCode::SUCCESS;
    }
    if failure.told {
        return ExitCode::from(failure.exit as u8);
    }
    tell(format_args!("{program}: {:#}", failure.error));
    if let Some(hint) = &failure.hint {
        tell(format_args!("hint: {hint}"));
    }
    ExitCode::from(failure.exit as u8)
}

/// Whether nobody reads what a command prints. Commands hand on an error of printing as it is; where it is the cause of
/// a library's error, the pipe or connection is another one.
fn is_unread(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let json = || error.downcast_ref::<serde_json::Error>()?.io_error_kind();
    io.or_else(json) == Some(io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use recovery::with_causes;

    use super::*;

    /// Where nobody reads.
    struct Gone;

    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn causes_are_told_in_one_line_and_once() {
        let error = anyhow::Error::msg("d").context("c").context("b: c").context("a");
        assert_eq!(with_causes(&*error), "a: b: c: d");
    }

    #[test]
    fn only_what_is_printed_may_be_left_unread() {
        let gone = || Gone.write(b"").unwrap_err();
        assert!(is_unread(&gone().into()));
        assert!(is_unread(&Err::<(), _>(gone()).context("cannot print").unwrap_err()));
        assert!(is_unread(&serde_json::to_writer(Gone, "").unwrap_err().into()));
        let library = recovery::Error::ConfigFile { path: "recovery.conf".into(), source: gone() };
        assert!(!is_unread(&library.into()));
        assert!(!is_unread(&io::Error::from(io::ErrorKind::StorageFull).into()));
    }
}
