//! `myrocks-hotbackup`: online backups of MyRocks servers, and their way back.

use std::process::ExitCode;

fn main() -> ExitCode {
    dbrecover_cli::finish("myrocks-hotbackup", Ok(()))
}
