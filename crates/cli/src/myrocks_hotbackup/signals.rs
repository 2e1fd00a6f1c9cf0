//! ^C and SIGTERM: an orderly end, and an end in any case.

use std::time::{Duration, Instant};

use dbrecover_cli::Exit;
use dbrecover_cli::standard::tell;
use rocks_hotbackup::Stop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the work may take to notice: a write waits as long as the reader of the pipe does not read, a statement as long
/// as the server takes.
const GRACE: Duration = Duration::from_secs(3);

/// How often it is looked whether something is being removed.
const STEP: Duration = Duration::from_millis(50);

/// Turns signals into a stop. If the work does not end in time, the checkpoints are removed here and the process ends.
pub(crate) fn watch(stop: &Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        stop.request(signal);
        // The end of the work ends the process, and this thread with it. What is being removed has all the time it takes,
        // unless a second signal comes. One stop often arrives as two signals, so a second one counts after the grace only.
        let begun = Instant::now();
        let (mut waited, mut second) = (Duration::ZERO, false);
        while waited < GRACE && !second {
            std::thread::sleep(STEP);
            second = signals.pending().count() > 0 && begun.elapsed() >= GRACE;
            if !rocks_hotbackup::is_removing() {
                waited += STEP;
            }
        }
        rocks_hotbackup::remove_checkpoints();
        let why = if second { "and by a second one" } else { "while it waited for another program" };
        tell(format_args!("myrocks-hotbackup: stopped by signal {signal} {why}"));
        for path in rocks_hotbackup::unfinished() {
            tell(format_args!(
                "myrocks-hotbackup: {} stays; the next run to the same place removes it, or goes on with it",
                path.display()
            ));
        }
        let exit = if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated };
        std::process::exit(exit as i32);
    })?;
    Ok(())
}
