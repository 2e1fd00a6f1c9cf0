//! `myrocks-hotbackup`: online backups of MyRocks servers, and their way back.

mod abbreviations;
mod account;
mod cli;
mod failures;
mod output;
mod print;
mod run;
mod signals;
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::from_line(std::env::args_os()).unwrap_or_else(|e| e.exit());
    dbrecover_cli::log::warnings_to_stderr();
    dbrecover_cli::finish("myrocks-hotbackup", run::run(args))
}
