//! `plait sandbox`: a pretend Airtable.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use tokio_util::sync::CancellationToken;

use super::terminal::say;
use crate::{
    sandbox::{MIRROR_TOKEN, NETWORK_BASE, OWNER_TOKEN, Options, Sandbox},
    telemetry,
};

/// Serves the endpoints of Airtable's Web API, with its limits, errors, webhooks and quirks, a network's data in
/// it, a page where a person edits a grid, and a control API with faults (GET /sandbox lists it).
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8056", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The same seed gives the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answer as fast as asked: no 5 requests a second, no monthly quota
    #[arg(long)]
    no_limits: bool,
    /// Keep the data in this file from one start to the next
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Begin without the network's data
    #[arg(long)]
    empty: bool,
}

pub(super) async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    telemetry::start(telemetry::Format::Auto, "info");
    let mut options = Options {
        listen: arguments.listen,
        seed: arguments.seed,
        state_file: arguments.state,
        is_seeded: !arguments.empty,
        ..Options::default()
    };
    options.config.limits = !arguments.no_limits;
    let sandbox = Sandbox::start(options).await?;
    say(&format!(
        "the sandbox answers at {}: open it in a browser to edit the grid",
        sandbox.url()
    ))?;
    say(&format!(
        "  base {NETWORK_BASE}, tokens {OWNER_TOKEN} (a person) and {MIRROR_TOKEN} (the mirror)"
    ))?;
    say("  its control API, with faults, is listed at /sandbox; Ctrl-C ends it")?;
    stop.cancelled().await;
    sandbox.stop().await?;
    Ok(ExitCode::SUCCESS)
}
