//! `dbrecover`: brings a sharded MySQL or MariaDB cluster back from its backup store.

mod aescrypt;
mod agent;
mod binlog;
mod cli;
mod hints;
mod interrupt;
mod key_file;
mod list;
mod progress;
mod recover;
mod replay;
mod transfer;
mod unpack;
mod xbstream;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let outcome = cli::Cli::try_parse().unwrap_or_else(|error| cli::refuse(&error)).run();
    dbrecover_cli::finish("dbrecover", outcome)
}
