//! Renders commands as a one-line shell script that is *sent*, never put into an argument list.
//!
//! The far side runs the constant [`LOADER`]; its first line of stdin is the script, the rest is the stdin of the
//! command. So no quoting of a login shell is involved, scripts may be longer than one argument may be (128 KiB on
//! Linux), and what is in the script, secrets included, is in no process list.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::Error;
use crate::command::{Arg, Input, Sink, Spec, Value};
use crate::quote;

/// Reads a script from the first line of stdin and runs it. `read` in a POSIX shell takes one byte at a time, so the
/// bytes after the line stay for the command.
pub(crate) const LOADER: &str = r#"IFS= read -r __l && eval "$__l""#;

/// A shell function that tells what makes a process another one than a later one of its number: when the machine was
/// started, and when the process was, in ticks since then; nothing of a process that is not there.
pub(crate) const WHO: &str = "who() { cat /proc/sys/kernel/random/boot_id; l=$(cat \"/proc/$1/stat\") && l=${l##*) } && \
                              set -- $l && echo \"${20}.\"; } 2>/dev/null; ";

/// Where the script reports what the exit status of its shell cannot say.
#[derive(Debug, Clone)]
pub(crate) enum Report<'a> {
    /// Lines `ID event…` into the FIFO `DIR/ev`; the process group is registered as `DIR/ID.pid`.
    Supervisor {
        /// The supervisor's directory on the host.
        dir: &'a str,
        /// The id of this command, letters and digits.
        id: &'a str,
    },
    /// Lines `event…` appended to `DIR/r`; the process group is registered as `DIR/pid`, and its leader is told
    /// from others by `DIR/who`.
    #[cfg_attr(not(any(feature = "rabbit", feature = "grpc")), expect(dead_code))]
    Mailbox {
        /// The directory of this command on the host, as the shell there writes it between double quotes.
        dir: &'a str,
    },
    /// Lines `event…` appended to a file.
    File(&'a OsStr),
}

/// The script for a pipeline of one or more stages. It ends without a line end.
///
/// # Errors
///
/// [`Error::Argument`] for a NUL byte or an unusable variable name.
pub(crate) fn render(stages: &[Spec], report: &Report<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut s = Zeroizing::new(Vec::with_capacity(1024));
    let n = quote::NEWLINE;
    text(&mut s, &format!("{n}=$(printf '\\nx'); {n}=${{{n}%x}}; unset CDPATH; "));
    if let Report::Supervisor { dir, id } = report {
        text(&mut s, "__d=");
        quote::push(&mut s, OsStr::new(dir), "directory")?;
        text(
            &mut s,
            &format!(
                "; __i={id}; \
                 echo $$ >\"$__d/$__i.pid\" || {{ echo \"$__i full\" 1<>\"$__d/ev\"; exit 125; }}; "
            ),
        );
        text(&mut s, "[ ! -e \"$__d/$__i.dead\" ] || { rm -f \"$__d/$__i.pid\"; exit 143; }; ");
    }
    if let Report::Mailbox { dir } = report {
        // The parent is `timeout`, whose group this is.
        text(&mut s, &format!("__d=\"{dir}\"; ( {WHO}who $PPID ) >\"$__d/who\"; "));
        text(&mut s, "echo $PPID >\"$__d/pid\" || exit 125; ");
        text(&mut s, "[ ! -e \"$__d/dead\" ] || exit 143; ");
    }
    text(&mut s, "__r() { ");
    match report {
        // Opened for reading and writing: opening a FIFO only for writing would wait for a reader.
        Report::Supervisor { .. } => text(&mut s, "echo \"$__i $*\" 1<>\"$__d/ev\"; } 2>/dev/null; "),
        Report::Mailbox { .. } => text(&mut s, "echo \"$*\" >>\"$__d/r\"; }; "),
        Report::File(path) => {
            text(&mut s, "echo \"$*\" >>");
            quote::push(&mut s, path, "path")?;
            text(&mut s, "; }; ");
        }
    }
    if let [stage] = stages {
        one(&mut s, stage, 0)?;
        text(&mut s, "; __c=$?; __s=0:$__c; ");
    } else {
        // The statuses go through fd 3 into the substitution, the output of the last stage through fd 4 around it.
        text(&mut s, "exec 4>&1; __s=$(exec 3>&1 >&4; ");
        for (i, stage) in stages.iter().enumerate() {
            text(&mut s, if i == 0 { "" } else { " | " });
            text(&mut s, "{ ");
            one(&mut s, stage, i)?;
            text(&mut s, &format!(" 3>&- 4>&-; echo {i}:$? >&3; }}"));
        }
        text(&mut s, "); exec 4>&-; __s=$(echo $__s); __c=0; ");
        for i in 0..stages.len() {
            text(
                &mut s,
                &format!(
                    "__t=\" $__s\"; case \"$__t \" in *\" {i}:0 \"*);; *\" {i}:\"*) __t=${{__t##*\" {i}:\"}}; __c=${{__t%% *}};; *) __c=125;; esac; "
                ),
            );
        }
    }
    if matches!(report, Report::Supervisor { .. }) {
        // What it leaves behind may hold its output, and is ended at the deadline then.
        let timed = stages.first().is_some_and(|stage| stage.timeout.is_some());
        text(
            &mut s,
            if timed { "mv -f \"$__d/$__i.pid\" \"$__d/$__i.old\"; " } else { "rm -f \"$__d/$__i.pid\"; " },
        );
    }
    text(&mut s, "__r exit $__s; exit $__c");
    Ok(s)
}

/// One stage: a subshell that becomes the program.
fn one(s: &mut Vec<u8>, spec: &Spec, index: usize) -> Result<(), Error> {
    text(s, "( ");
    if let Some(dir) = &spec.current_dir {
        text(s, "cd -- ");
        quote::push(s, dir.as_os_str(), "directory")?;
        text(s, &format!(" 2>/dev/null || {{ __r nodir {index}; exit 126; }}; "));
    }
    for (name, value) in &spec.env {
        check_name(name)?;
        text(s, "export ");
        text(s, name);
        text(s, "=");
        match value {
            Value::Plain(value) => quote::push(s, value, name)?,
            Value::Secret(value) | Value::Passing(value) => {
                quote::push(s, OsStr::new(value.expose_secret()), name)?;
            }
        }
        text(s, "; ");
    }
    text(s, "command -v ");
    quote::push(s, &spec.program, "program")?;
    text(s, &format!(" >/dev/null 2>&1 || {{ __r noprog {index}; exit 127; }}; exec "));
    // `exec` looks for programs only, so `echo` and `kill` are not the shell's own.
    quote::push(s, &spec.program, "program")?;
    for arg in &spec.args {
        s.push(b' ');
        match arg {
            Arg::Quoted(arg) => quote::push(s, arg, "argument")?,
            Arg::Raw(arg) if arg.as_bytes().iter().any(|b| matches!(b, 0 | b'\n')) => {
                return Err(Error::Argument {
                    what: "raw argument".to_owned(),
                    reason: "it holds a NUL byte or a line end",
                });
            }
            Arg::Raw(arg) => s.extend_from_slice(arg.as_bytes()),
        }
    }
    if matches!(spec.stdin, Input::Null) {
        text(s, " </dev/null");
    }
    for (fd, sink) in [("", &spec.stdout), ("2", &spec.stderr)] {
        match sink {
            Sink::Piped => {}
            Sink::Null => text(s, &format!(" {fd}>/dev/null")),
            Sink::File(path) => {
                text(s, &format!(" {fd}>"));
                quote::push(s, path.as_os_str(), "path")?;
            }
        }
    }
    text(s, " )");
    Ok(())
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let good = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    if name.is_empty() || !name.chars().enumerate().all(good) {
        return Err(Error::Argument {
            what: format!("the environment variable {name:?}"),
            reason: "its name may hold letters, digits and _ only",
        });
    }
    Ok(())
}

fn text(s: &mut Vec<u8>, text: &str) {
    s.extend_from_slice(text.as_bytes());
}

/// One line of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Every stage has ended; the codes in order.
    Exit(Vec<u8>),
    /// The program of this stage is not there.
    NoProgram(usize),
    /// The directory of this stage cannot be entered.
    NoDirectory(usize),
    /// The process group was ended on request.
    Killed,
    /// The process group was ended because nothing was heard of its caller.
    Unheard,
    /// Nothing was started: the directory of the supervisor cannot be written.
    Full,
}

impl Event {
    /// Parses `event…`; anything else is `None`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "exit" => {
                let mut codes = Vec::new();
                for word in words {
                    let (stage, code) = word.split_once(':')?;
                    codes.push((stage.parse::<usize>().ok()?, code.parse::<u8>().ok()?));
                }
                codes.sort_unstable();
                codes.iter().enumerate().all(|(i, (stage, _))| i == *stage).then_some(())?;
                Some(Self::Exit(codes.into_iter().map(|(_, code)| code).collect()))
            }
            "noprog" => Some(Self::NoProgram(words.next()?.parse().ok()?)),
            "nodir" => Some(Self::NoDirectory(words.next()?.parse().ok()?)),
            "killed" => Some(Self::Killed),
            "lease" => Some(Self::Unheard),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_events_are_sorted_by_stage_and_must_be_whole() {
        assert_eq!(Event::parse("exit 1:3 0:0"), Some(Event::Exit(vec![0, 3])));
        assert_eq!(Event::parse("exit 1:3"), None);
        assert_eq!(Event::parse("exit 0:999"), None);
        assert_eq!(Event::parse("noprog 1"), Some(Event::NoProgram(1)));
        assert_eq!(Event::parse(""), None);
    }

    #[test]
    fn variable_names_cannot_carry_syntax() {
        for bad in ["", "1A", "A B", "A;id", "A=B", "Ä"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("_MYSQL_PWD1").is_ok());
    }
}
