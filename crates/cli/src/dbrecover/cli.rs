//! The command line of `dbrecover`.

use clap::{Parser, Subcommand};
use dbrecover_cli::Outcome;

use crate::{aescrypt, list, replay, unpack, xbstream};

/// Bring a sharded MySQL or MariaDB cluster back from its backup store.
#[derive(Debug, Parser)]
#[command(name = "dbrecover", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// One file per command; each has an `Args` and a `run(Args) -> Outcome`.
#[derive(Debug, Subcommand)]
enum Command {
    Aescrypt(aescrypt::Args),
    List(list::Args),
    Replay(replay::Args),
    Unpack(unpack::Args),
    Xbstream(xbstream::Args),
}

impl Cli {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Some(Command::Aescrypt(args)) => aescrypt::run(args),
            Some(Command::List(args)) => list::run(args),
            Some(Command::Replay(args)) => replay::run(args),
            Some(Command::Unpack(args)) => unpack::run(args),
            Some(Command::Xbstream(args)) => xbstream::run(args),
            None => Ok(()),
        }
    }
}
