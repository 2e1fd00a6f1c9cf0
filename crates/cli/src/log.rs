//! What the library crates log, as lines of the program.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::standard::tell;

/// Hands every record of this workspace's crates, as one line, to `sink`. The first call of a process counts.
pub fn to(most: Level, sink: impl Fn(Level, &str) + Send + Sync + 'static) {
    let layer = Lines { most, sink };
    // Only a second call fails.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

/// Shows warnings and errors as other warnings of the programs.
pub fn warnings_to_stderr() {
    to(Level::WARN, |_, line| tell(format_args!("warning: {line}")));
}

struct Lines<S> {
    most: Level,
    sink: S,
}

/// The crates whose records are told; those of others are about their own insides.
const OURS: [&str; 8] = [
    "aescrypt",
    "backup_unpack",
    "binlog_replay",
    "dbrecover_cli",
    "remote_exec",
    "rocks_hotbackup",
    "recovery",
    "xtra_driver",
];

impl<S: Subscriber, F: Fn(Level, &str) + Send + Sync + 'static> Layer<S> for Lines<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let from = metadata.target().split("::").next().unwrap_or_default();
        if *metadata.level() <= self.most && OURS.contains(&from) {
            let mut line = Line::default();
            event.record(&mut line);
            (self.sink)(*metadata.level(), &format!("{}{}", line.message, line.fields));
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_record_of_ours_is_one_line_with_its_fields() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = lines.clone();
        let sink = move |level: Level, line: &str| told.lock().unwrap().push(format!("{level} {line}"));
        let layer = Lines { most: Level::WARN, sink };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(target: "remote_exec::transfer", from = "store", attempt = 2, "a transfer failed");
            tracing::debug!(target: "remote_exec::child", "not asked for");
            tracing::warn!(target: "hyper::client", "of no interest");
        });
        assert_eq!(*lines.lock().unwrap(), ["WARN a transfer failed from=store attempt=2"]);
    }
}
