//! Logs: lines for people on a terminal, JSON elsewhere. Names of fields: `side`, `entity`, `record_id`, `lsn`,
//! `cursor`, `row_count`, `lag_ms`. Values of fields, tokens and bodies stay out.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

/// Starts logging to standard error. `level` is a filter as in `RUST_LOG`, which has the last word.
pub(crate) fn start(format: Format, level: &str) {
    let filter = EnvFilter::try_from_default_env()
        // Its lines would come twice: `store` says what was migrated.
        .or_else(|_| EnvFilter::try_new(format!("refinery_core=warn,{level}")))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let is_json = match format {
        Format::Auto => !io::stderr().is_terminal(),
        Format::Human => false,
        Format::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if is_json {
        registry.with(fmt::layer().json().with_writer(io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_target(false).with_writer(io::stderr)).try_init()
    };
    // A second start in one process (tests) keeps the first one's settings.
    drop(started);
}
