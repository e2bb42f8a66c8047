//! `plait renames`: options of selects that have another name in Airtable, and values that do not.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use serde_json::json;

use super::{
    desk::{Desk, Who},
    terminal::say,
};
use crate::{
    capture::airtable::{Identity, Renamed},
    store::{option_yes, reading},
};

/// Lists the options that were renamed in Airtable and whose values go on by the old name everywhere else, since the
/// field in Directus has no such choice. They follow by themselves once it has, or once somebody says yes here.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

const EXAMPLES: &str = "\
Examples:
  plait renames                                           what waits
  plait renames accept project stage 'Due diligence' --yes  the values are called so on all sides";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let the values follow, whatever choices the field has in Directus
    Accept(Accept),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Accept {
    /// As the mapping calls it
    entity: String,
    /// As the mapping calls it
    field: String,
    /// What the option is called in Airtable now
    name: String,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => list(arguments.list).await,
        Some(Action::Accept(accept)) => {
            let (desk, _) = Desk::open(&accept.config).await?;
            let Accept { entity, field, name, .. } = &accept;
            let renamed = find(&desk, entity, field, name).await?;
            say(&format!(
                "the values `{}` of {entity} · {field} become `{name}` on all sides",
                renamed.was
            ))?;
            if !accept.yes {
                say("nothing is done yet; --yes does it")?;
                return Ok(ExitCode::SUCCESS);
            }
            option_yes::accept(&desk.pool, entity, field, name, &accept.who.name()?).await?;
            say("done; the plait that runs reads the records again within moments")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let waiting = waiting(&desk).await?;
    if waiting.is_empty() && !arguments.json {
        say("no renamed option waits")?;
    }
    for (field, renamed) in waiting {
        let Renamed { entity, was, now, .. } = renamed;
        let text = if arguments.json {
            json!({ "entity": entity, "field": field, "was": was, "now": now }).to_string()
        } else {
            format!("{entity} · {field}: `{was}` is called `{now}` in Airtable")
        };
        if !say(&text)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What waits, each with the field as the mapping calls it.
pub(super) async fn waiting(desk: &Desk) -> anyhow::Result<Vec<(String, Renamed)>> {
    let mut waiting = Vec::new();
    for position in reading::positions(&desk.pool).await? {
        let Some(identity) = Identity::read(&position.identity) else { continue };
        for renamed in identity.renamed().into_iter().filter(|it| !it.follows) {
            let entity = desk.mapping.entities.iter().find(|it| it.name == renamed.entity);
            for field in entity.into_iter().flat_map(|entity| &entity.fields) {
                if field.airtable.as_ref().is_some_and(|it| it.field == renamed.given) {
                    waiting.push((field.name.clone(), renamed.clone()));
                }
            }
        }
    }
    Ok(waiting)
}

async fn find(desk: &Desk, entity: &str, field: &str, name: &str) -> anyhow::Result<Renamed> {
    let waiting = waiting(desk).await?;
    let is_meant =
        |(of, it): &&(String, Renamed)| of == field && it.entity == entity && it.now == name;
    if let Some((_, renamed)) = waiting.iter().find(is_meant) {
        return Ok(renamed.clone());
    }
    let there: Vec<String> =
        waiting.iter().map(|(field, it)| format!("{} {field} '{}'", it.entity, it.now)).collect();
    if there.is_empty() {
        bail!("no renamed option waits");
    }
    bail!("no such option waits; there are: {}", there.join(", "))
}
