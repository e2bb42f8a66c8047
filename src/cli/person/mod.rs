//! `plait person`: one person's data exported, and erased.

pub(super) mod erase;
pub(super) mod export;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use uuid::Uuid;

use super::{
    desk::{Desk, local},
    terminal::{Paint, say},
};
use crate::{
    config::Settings,
    mapping::{Entity, Field, FieldKind, Store},
    model::EntityNo,
    person,
    store::{person as books, record},
};

/// Exports all that is held about one person, or erases it: the record stays under a pseudonym, with its lines and
/// movements; what identifies or reaches the person goes, here, on both sides, and in the past. Which fields do, the
/// mapping says (`personal`).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  plait person export 'Jeanne Martin' -o jeanne      all that is held about her, in the new folder jeanne
  plait person erase jeanne@lemonde.fr               says what would be erased, where; does nothing
  plait person erase jeanne@lemonde.fr --as paul --yes
  plait person list                                  what was erased, and how far it is
A person is named by UUID, e-mail, first and last name, Airtable's rec…, or the key in Directus.";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All that is held about one person, in a folder of files for people and programs
    Export(export::Arguments),
    /// Empty what identifies or reaches a person, here, on both sides and in the past; shows it first
    Erase(erase::Arguments),
    /// The erasures, and whether both sides have taken them
    List(List),
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

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::Export(arguments) => export::run(arguments).await,
        Action::Erase(arguments) => erase::run(arguments).await,
        Action::List(List { config, json }) => {
            let (desk, _) = open(&config).await?;
            for line in listed(&desk, json, Paint::for_stdout()).await? {
                if !say(&line)? {
                    break;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The desk, of a database that has the tables for erasures.
async fn open(config: &Path) -> anyhow::Result<(Desk, Settings)> {
    let (desk, settings) = Desk::open(config).await?;
    if !books::is_ready(&desk.pool).await? {
        bail!("the canonical database has no table of erasures yet: run `plait migrate`");
    }
    Ok((desk, settings))
}

// ---- who ----------------------------------------------------------------------------------------------------

/// The entity that is asked for, or the one whose fields are personal.
pub(super) fn entity(desk: &Desk, name: Option<&str>) -> anyhow::Result<EntityNo> {
    if let Some(name) = name {
        return desk.entity_no(name);
    }
    let entities = desk.mapping.entities.iter();
    let personal: Vec<&str> = entities
        .filter(|entity| person::personal(entity).next().is_some())
        .map(|entity| entity.name.as_str())
        .collect();
    match personal.as_slice() {
        [one] => desk.entity_no(one),
        [] => bail!(
            "the mapping calls no field personal: add `personal = true` to those that identify or reach a person (docs/mapping.md)"
        ),
        several => {
            bail!("several entities have personal fields: say --entity {}", several.join(" or "))
        }
    }
}

fn column(field: &Field) -> Option<&str> {
    match &field.store {
        Store::Column(column) => Some(column),
        Store::Junction { .. } => None,
    }
}

/// The columns of given names and of family names.
fn name_columns(entity: &Entity) -> (Option<&str>, Option<&str>) {
    let (given, family) = person::name_fields(entity);
    let of = |at: Option<usize>| at.and_then(|at| column(&entity.fields[at]));
    (of(given), of(family))
}

/// The one record that a person means.
pub(super) async fn find(desk: &Desk, entity_no: EntityNo, who: &str) -> anyhow::Result<Uuid> {
    let who = who.split_whitespace().collect::<Vec<_>>().join(" ");
    let entity = desk.mapping.entity(entity_no);
    if !record::find(&desk.pool, &entity.name, &who).await?.is_empty() {
        return desk.record(entity_no, &who).await;
    }
    let is_email = |field: &&Field| field.kind == FieldKind::Email;
    let emails: Vec<&str> = entity.fields.iter().filter(is_email).filter_map(column).collect();
    let shape = desk.shape(entity_no);
    let found = books::called(&desk.pool, shape, &emails, name_columns(entity), &who).await?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let near = desk.near_record(entity_no, &who).await?;
            bail!(
                "no {} is called `{who}`, by UUID, e-mail, first and last name as they are written, Airtable's rec… or the key in Directus{near}",
                entity.name
            )
        }
        several => {
            let labels = desk.labels(several.iter().map(|id| (entity.name.clone(), *id))).await?;
            let lines: Vec<String> = several
                .iter()
                .map(|id| format!("  {id}  {}", labels.of(&entity.name, *id)))
                .collect();
            bail!(
                "`{who}` may be any of these: name the one that is meant by its UUID\n{}",
                lines.join("\n")
            )
        }
    }
}

// ---- the list -----------------------------------------------------------------------------------------------

/// The erasures, the latest first, a line each, and what is missing of one below it.
pub(super) async fn listed(
    desk: &Desk,
    is_json: bool,
    paint: Paint,
) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for erasure in books::erasures(&desk.pool).await? {
        let open = books::open(&desk.pool, erasure.erasure_id).await?;
        let returned = returned(desk, &erasure).await?;
        let is_complete = erasure.completed_at.is_some() && open.is_empty() && returned.is_empty();
        if is_json {
            let open: Vec<_> = open
                .iter()
                .map(|it| serde_json::json!({ "side": it.side, "what": it.what, "entity": it.entity, "record_id": it.record_id, "field": it.field, "reason": it.reason }))
                .collect();
            lines.push(
                serde_json::json!({
                    "erasure_id": erasure.erasure_id, "entity": erasure.entity, "record_id": erasure.record_id,
                    "pseudonym": erasure.pseudonym, "asked_by": erasure.asked_by, "asked_at": erasure.asked_at,
                    "emptied_at": erasure.emptied_at, "redacted_at": erasure.redacted_at,
                    "completed_at": erasure.completed_at, "is_complete": is_complete, "open": open, "returned": returned,
                })
                .to_string(),
            );
            continue;
        }
        let state = match (erasure.emptied_at, erasure.redacted_at, erasure.completed_at) {
            _ if is_complete => paint.green("complete on both sides"),
            (None, ..) => paint.yellow("broke off before anything was erased: run it again"),
            (_, None, _) => paint.yellow("broke off before the past was redacted: run it again"),
            (.., None) if open.is_empty() => {
                paint.yellow("taken by both sides; what was under way is redacted by a running plait, or by running it again")
            }
            _ => paint.yellow("not complete"),
        };
        lines.push(format!(
            "{}  {} {} {}  by {}  {state}",
            local(erasure.asked_at),
            erasure.entity,
            erasure.record_id,
            paint.bold(&erasure.pseudonym),
            erasure.asked_by
        ));
        lines.extend(open.iter().map(|it| format!("    {}", erase::missing(it))));
        if !returned.is_empty() {
            lines.push(format!(
                "    {} holds values again, written since: {}. If they are the person's, erase once more",
                erasure.entity,
                returned.join(", ")
            ));
        }
    }
    if lines.is_empty() && !is_json {
        lines.push("nobody was erased".into());
    }
    Ok(lines)
}

/// The personal fields of an erased record that hold something again.
async fn returned(desk: &Desk, erasure: &books::Erasure) -> anyhow::Result<Vec<String>> {
    let Ok(no) = desk.entity_no(&erasure.entity) else { return Ok(Vec::new()) };
    if erasure.emptied_at.is_none() {
        return Ok(Vec::new());
    }
    let entity = desk.mapping.entity(no);
    let ids = [erasure.record_id];
    let rows = record::records(&desk.pool, entity, desk.shape(no), &ids).await?;
    let Some(row) = rows.get(&erasure.record_id) else { return Ok(Vec::new()) };
    let mut fields = Vec::new();
    for (at, field) in person::personal(entity) {
        let after = erase::after(desk, field, &erasure.pseudonym).await?;
        if row.values[at] != after && !row.values[at].is_null() {
            fields.push(field.name.clone());
        }
    }
    Ok(fields)
}
