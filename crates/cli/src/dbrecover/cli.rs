//! The command line of `dbrecover`.

use std::io::Write as _;

use clap::{Args, CommandFactory, Parser, Subcommand};
use dbrecover_cli::{Exit, Failure, Outcome};

use crate::recover::RecoverArgs;
use crate::{aescrypt, agent, binlog, list, replay, transfer, unpack, xbstream};

/// Bring a sharded MySQL or MariaDB cluster back from its backup store
///
/// Without a command it recovers, as `dbrecover recover` does: `dbrecover --config-file recovery.conf`.
#[derive(Debug, Parser)]
#[command(
    name = "dbrecover",
    version,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    after_long_help = format!("A first recovery, step by step:\n  \
                       dbrecover list --config-file recovery.conf   the backups, and the moments that can be reached\n  \
                       dbrecover plan --config-file recovery.conf --stop-datetime '2026-02-03 04:05:06'\n  \
                       dbrecover recover --config-file recovery.conf --stop-datetime '2026-02-03 04:05:06'\n\n\
                       The configuration says where the backups are and where to recover:\n  \
                       [backup-store] dir, [recovery-job-server] work-dir, [misc] connect-method = local or ssh\n\n\
                       {}", Exit::help())
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    recover: RecoverArgs,

    /// Print the version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// One file per command; each has its arguments and a `run`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Recover the cluster (what happens without a command)
    Recover(RecoverArgs),
    /// Decide everything about a recovery and print it; nothing is touched
    Plan(RecoverArgs),
    Aescrypt(aescrypt::Args),
    Agent(agent::Args),
    Binlog(binlog::Args),
    List(list::Args),
    Receive(transfer::ReceiveArgs),
    Replay(replay::Args),
    Send(transfer::SendArgs),
    Unpack(unpack::Args),
    Xbstream(xbstream::Args),
    /// Print completions for a shell
    Completions(CompletionArgs),
    /// Print the manual page, or one of a command
    Man(ManArgs),
}

#[derive(Debug, Args)]
struct CompletionArgs {
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
struct ManArgs {
    /// The command; none for the page of the program
    command: Option<String>,
}

impl Cli {
    pub(crate) fn run(self) -> Outcome {
        // A recovery shows warnings beside its progress.
        if !matches!(self.command, None | Some(Command::Recover(_) | Command::Plan(_))) {
            dbrecover_cli::log::warnings_to_stderr();
        }
        match self.command {
            None => self.recover.run(false),
            Some(Command::Recover(args)) => args.run(false),
            Some(Command::Plan(args)) => args.run(true),
            Some(Command::Aescrypt(args)) => aescrypt::run(args),
            Some(Command::Agent(args)) => agent::run(args),
            Some(Command::Binlog(args)) => binlog::run(args),
            Some(Command::List(args)) => list::run(args),
            Some(Command::Receive(args)) => transfer::receive(args),
            Some(Command::Replay(args)) => replay::run(args),
            Some(Command::Send(args)) => transfer::send(args),
            Some(Command::Unpack(args)) => unpack::run(args),
            Some(Command::Xbstream(args)) => xbstream::run(args),
            Some(Command::Completions(args)) => {
                // It panics where it cannot write.
                let mut script = Vec::new();
                clap_complete::generate(args.shell, &mut Self::command(), "dbrecover", &mut script);
                std::io::stdout().lock().write_all(&script)?;
                Ok(())
            }
            Some(Command::Man(args)) => manual_page(args.command.as_deref()),
        }
    }
}

/// Ends the program for arguments that are not understood, or that ask for help. `--json` gets its document whatever
/// else is wrong.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    let mut options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if error.use_stderr() && options.any(|option| option == "--json") {
        let text = error.render().to_string();
        let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Failure::usage(message).print_json(recovery::SCHEMA_VERSION);
    }
    error.exit()
}

fn manual_page(command: Option<&str>) -> Outcome {
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(found) => found.clone(),
            None => return Err(Failure::usage(format!("there is no command {name}"))),
        },
    };
    clap_mangen::Man::new(page).render(&mut std::io::stdout().lock())?;
    Ok(())
}
