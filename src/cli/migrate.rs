//! `plait migrate`: the canonical database's schemas alone.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::settings;
use crate::store;

/// Creates or upgrades the schemas `canon`, `mirror` and `report`, as `run` does when it starts. For those who add tables of
/// their own to `canon` before the first run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    settings::start_logging(&settings);
    let canonical = settings::canonical(&settings.canonical);
    store::migrate(&canonical)
        .await
        .context("the canonical database was not migrated; check [canonical] in plait.toml, and that Postgres runs there")?;
    store::install_reports(&canonical).await?;
    Ok(ExitCode::SUCCESS)
}
