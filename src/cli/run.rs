//! `plait run`: mirrors until stopped.

use std::{path::PathBuf, process::ExitCode};

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::settings;
use crate::pipeline;

/// Brings the canonical database up to date, copies what both sides hold if that was not done yet, and then
/// follows each change. Ctrl-C or SIGTERM stop it in good order; a second one at once. Nothing is lost either way.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Take over the replication slot of another installation, or one that is being read. The other one cannot go on
    /// then: only where it is stopped for good
    #[arg(long)]
    take_slot: bool,
}

pub(super) async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    settings::start_logging(&settings);
    let mut plan = settings::plan(&settings)?;
    if let Some(source) = &mut plan.directus {
        source.take_slot = arguments.take_slot;
    }
    info!(entity_count = plan.mapping.entities.len(), "plait begins to mirror");
    pipeline::run(plan, stop).await?;
    info!("plait has stopped");
    Ok(ExitCode::SUCCESS)
}
