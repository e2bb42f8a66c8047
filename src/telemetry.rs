//! Logs: lines for people on a terminal, JSON elsewhere. Names of fields: `side`, `entity`, `record_id`, `lsn`,
//! `cursor`, `row_count`, `lag_ms`. Values of fields, tokens and bodies stay out: our own lines have none, and what a
//! dependency says is limited to [`is_allowed`], whatever filter a person sets.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, prelude::*};

use crate::model::VisibleWriter;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

/// Dependencies whose lines are never shown, at any level: each of them puts statements, their parameters or a server's
/// own words into its lines, and these hold values of fields. What they report as an error reaches us as an `Err`.
const SILENT_TARGETS: [&str; 4] =
    ["sqlx", "tokio_postgres", "postgres_protocol", "pgwire_replication"];

/// Whether an event may be shown at all. Plait's own events may, at any level. Those of a dependency may from `WARN` on:
/// below that they print requests, headers and parameters. Those of [`SILENT_TARGETS`] may not.
fn is_allowed(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let room = target.split("::").next().unwrap_or_default();
    // The crate `log` hands its records on under the target `log`, after it has asked with their own.
    room == env!("CARGO_CRATE_NAME")
        || *metadata.level() <= Level::WARN && !SILENT_TARGETS.contains(&room)
}

/// Alerts put names that people have typed into lines: they are to look as they are. A line is one write.
fn visible_stderr() -> VisibleWriter<io::Stderr> {
    VisibleWriter(io::stderr())
}

/// Starts logging to standard error. `level` is a filter as in `RUST_LOG`, which replaces it. Both choose among Plait's
/// own lines; neither lifts the limit of [`is_allowed`].
pub(crate) fn start(format: Format, level: &str) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let is_json = match format {
        Format::Auto => !io::stderr().is_terminal(),
        Format::Human => false,
        Format::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_allowed));
    let started = if is_json {
        registry.with(fmt::layer().json().with_writer(visible_stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_target(false).with_writer(visible_stderr)).try_init()
    };
    // A second start in one process (tests) keeps the first one's settings.
    drop(started);
}
