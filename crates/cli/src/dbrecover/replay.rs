//! `dbrecover replay`: the worker that replays binlogs on the machine where they and the server are.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use binlog_replay::replay::{self, Error, Progress, Request, WhereRequest};
use clap::ValueEnum;
use dbrecover_cli::{Exit, Failure, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest request in bytes: GTID sets of long-lived clusters are large, but not that large.
const MAX_REQUEST: u64 = 64 << 20;

/// Replay binlogs into a temporary server (worker; a recovery starts it).
///
/// Reads a JSON request and writes a JSON answer to standard output.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The request: a file, or `-` for standard input. It holds a password, so prefer `-`.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    #[command(flatten)]
    step: Step,
    /// How to tell progress on standard error.
    #[arg(long, value_enum, default_value_t = Tell::None)]
    progress: Tell,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Step {
    /// Say what would be replayed and how; touch nothing.
    #[arg(long)]
    plan: bool,
    /// As --plan, with the options for the server.
    #[arg(long)]
    prepare: bool,
    /// Compare the running server with the state that it must be in; apply nothing.
    #[arg(long)]
    check: bool,
    /// Replay into the running server, and prove it.
    #[arg(long)]
    run: bool,
    /// Say which of several servers' binlogs hold a target; touch nothing. Takes a request of its own.
    #[arg(long)]
    locate: bool,
    /// Remove what a replay left in the data directory; the server is stopped.
    #[arg(long)]
    clean: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tell {
    /// Not at all.
    None,
    /// One JSON object a line.
    Json,
}

pub(crate) fn run(args: Args) -> Outcome {
    if args.step.locate {
        let request: WhereRequest = read(&args.request)?;
        return print(&replay::whereabouts(&request).map_err(failure)?);
    }
    let request: Request = read(&args.request)?;
    if args.step.plan {
        print(&replay::plan(&request).map_err(failure)?)
    } else if args.step.prepare {
        print(&replay::prepare(&request).map_err(failure)?)
    } else if args.step.clean {
        replay::clean(&request.datadir).map_err(failure)
    } else {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        if args.step.check {
            return runtime.block_on(replay::check_held(&request)).map_err(failure);
        }
        let mut tell = |progress: Progress| {
            if args.progress == Tell::Json
                && let Ok(line) = serde_json::to_string(&progress)
            {
                dbrecover_cli::standard::tell(line);
            }
        };
        print(&runtime.block_on(replay::run(&request, &mut tell)).map_err(failure)?)
    }
}

fn read<T: DeserializeOwned>(path: &PathBuf) -> Result<T, Failure> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_REQUEST)
            .read_to_end(&mut text)
            .context("cannot read the request")?;
    } else {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("cannot open the request {}", path.display()))?;
        file.take(MAX_REQUEST).read_to_end(&mut text).context("cannot read the request")?;
    }
    let parsed = serde_json::from_slice(&text).context("the request is not understood");
    parsed.map_err(|error| Failure::new(Exit::Usage, error))
}

fn print(answer: &impl Serialize) -> Outcome {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer).context("cannot write the answer")?;
    writeln!(out)?;
    Ok(())
}

fn failure(error: Error) -> Failure {
    Failure::new(error.class(), error)
}
