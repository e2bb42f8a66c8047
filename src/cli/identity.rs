//! `plait identity`: a missed match joined, a wrong one split.

use std::{path::PathBuf, process::ExitCode};

use super::{
    desk::{Desk, Who},
    terminal::say,
};
use crate::model::Decision;

/// Says which record of a side is which. Both are kept for ever in the record's history, and either undoes the other.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  plait identity join member airtable recA1B2… 0192… --yes   that row is this record, which Airtable lacked
  plait identity split member airtable recA1B2… --yes        that row is somebody else: a record of its own";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// A side's record is one that the other side has
    Join(Join),
    /// A side's record was taken for another wrongly: it becomes one of its own
    Split(Split),
}

#[derive(Debug, clap::Args)]
struct Join {
    entity: String,
    #[arg(value_parser = ["airtable", "directus"])]
    side: String,
    /// The record there: Airtable's rec…, or its key in Directus
    key: String,
    /// The record that it is: its UUID, or what the other side calls it
    record: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Split {
    entity: String,
    #[arg(value_parser = ["airtable", "directus"])]
    side: String,
    /// The record there: Airtable's rec…, or its key in Directus
    key: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::Join(Join { entity, side, key, record, common }) => {
            let (desk, _) = Desk::open(&common.config).await?;
            let record = desk.record(desk.entity_no(&entity)?, &record).await?;
            let target = desk.labels([(entity.clone(), record)]).await?.of(&entity, record);
            let what = format!(
                "{side} {key} would be {target}: what hangs on it goes along, and where the two hold something else, a conflict is kept"
            );
            decide(&desk, &common, &what, Decision::Join { entity, side, key, record }).await
        }
        Action::Split(Split { entity, side, key, common }) => {
            let (desk, _) = Desk::open(&common.config).await?;
            desk.entity_no(&entity)?;
            let what = format!(
                "{side} {key} would be a {entity} of its own, with what {side} holds of it; the other side would get it, and {side} the one that it was taken for"
            );
            decide(&desk, &common, &what, Decision::Split { entity, side, key }).await
        }
    }
}

async fn decide(
    desk: &Desk,
    common: &Common,
    what: &str,
    decision: Decision,
) -> anyhow::Result<ExitCode> {
    if !common.yes {
        say(&format!("{what}; --yes does it"))?;
        return Ok(ExitCode::SUCCESS);
    }
    match desk.decide(&common.who.name()?, &[decision]).await?.outcome {
        None => {
            say("done")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(outcome) => {
            say(&format!("it could not be done: {outcome}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}
