//! The classes of failure and their exit codes; `docs/exit-codes.md` is the table for users.

use recovery::Class;
use remote_exec::transfer::seal;

/// What a program ends with when it did not do what it was asked for. The numbers are the exit codes; those that a
/// library gives are taken from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something failed that has no class of its own.
    Failed = Class::Failed as u8,
    /// Wrong usage or configuration; nothing was touched.
    Usage = Class::Usage as u8,
    /// There is nothing to recover there: no backup, a time outside every window, a gap.
    Nothing = Class::Nothing as u8,
    /// A host or a tool cannot be used.
    Unusable = Class::Unusable as u8,
    /// Data is damaged: checksum, HMAC, wrong password, truncated.
    Damaged = Class::Damaged as u8,
    /// The work was done, and the proof of it failed.
    Unproven = Class::Unproven as u8,
    /// A stream did not arrive as it was sent; `EX_TEMPFAIL` of sysexits.
    Broken = seal::BROKEN,
    /// Ended by SIGINT.
    Interrupted = Class::Cancelled as u8,
    /// The receiver of a stream went away, as a shell shows a death by SIGPIPE.
    NoReceiver = seal::NO_RECEIVER,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::Nothing,
        Self::Unusable,
        Self::Damaged,
        Self::Unproven,
        Self::Broken,
        Self::Interrupted,
        Self::NoReceiver,
        Self::Terminated,
    ];

    /// The class in JSON documents.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// The class in the table for users.
    pub fn meaning(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Failed => ("failed", "failed"),
            Self::Usage => ("usage", "wrong usage or configuration"),
            Self::Nothing => ("nothing", "nothing to recover there"),
            Self::Unusable => ("unusable", "a host or tool cannot be used"),
            Self::Damaged => ("damaged", "data is damaged"),
            Self::Unproven => ("unproven", "proof failed"),
            Self::Broken => ("broken", "a stream did not arrive as it was sent"),
            Self::Interrupted => ("interrupted", "ended by SIGINT"),
            Self::NoReceiver => ("no_receiver", "the receiver of a stream went away"),
            Self::Terminated => ("terminated", "ended by SIGTERM or SIGHUP"),
        }
    }

    /// The codes of a recovery in one sentence, for `--help`.
    pub fn help() -> String {
        let codes = Self::ALL.into_iter().filter(|exit| !matches!(exit, Self::Broken | Self::NoReceiver));
        let codes = codes.map(|exit| format!("{} {}", exit as u8, exit.meaning()));
        format!("Exit codes: 0 done, {}.", codes.collect::<Vec<_>>().join(", "))
    }
}

/// What a library's classes are here; the compiler asks for one that is missing.
macro_rules! classes {
    ($($library:ident: $($class:ident => $exit:ident),*;)*) => {$(
        impl From<$library::Class> for Exit {
            fn from(class: $library::Class) -> Self {
                match class {
                    $($library::Class::$class => Self::$exit,)*
                }
            }
        }
    )*};
}

classes! {
    aescrypt: Failed => Failed, Usage => Usage, Damaged => Damaged;
    xbstream: Failed => Failed, Usage => Usage, Damaged => Damaged;
    backup_unpack: Failed => Failed, Usage => Usage, Nothing => Nothing, Unusable => Unusable, Damaged => Damaged,
        Cancelled => Interrupted;
    binlog_replay: Failed => Failed, Usage => Usage, Nothing => Nothing, Unusable => Unusable, Damaged => Damaged,
        Unproven => Unproven;
    rocks_hotbackup: Failed => Failed, Usage => Usage, Nothing => Nothing, Unusable => Unusable, Damaged => Damaged,
        Cancelled => Interrupted;
    recovery: Failed => Failed, Usage => Usage, Nothing => Nothing, Unusable => Unusable, Damaged => Damaged,
        Unproven => Unproven, Cancelled => Interrupted;
}
