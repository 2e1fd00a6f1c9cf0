//! `myrocks-hotbackup`: online backups of MyRocks servers, and their way back.

mod account;
mod cli;
mod failures;
mod output;
mod print;
mod run;
mod signals;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    dbrecover_cli::finish("myrocks-hotbackup", run::run(args))
}
