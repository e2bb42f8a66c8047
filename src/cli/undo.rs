//! `plait undo`: what was changed is taken back, on all sides.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    conflicts::report,
    desk::{Desk, Who, field_no, instead, local, time},
    names::{Labels, label},
    terminal::{Paint, say},
};
use crate::{
    mapping::{Direction, Field, FieldKind},
    merge::is_written,
    model::{Decision, Side},
    store::{
        history::{self, Entry},
        mass, record,
    },
    undo::{self, Kept, Life, Now, Place, Plan, Question, Reason, Rule, Selection},
};

/// Takes changes back, on all sides, from what the journal says of them. Shows its plan first; does it with --yes. A
/// change on which somebody else's newer one stands is listed and left alone, unless --force. What it does is a
/// transaction like any other: `plait undo batch` with its number takes it back again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  plait undo cell member recW3kP0fL9sT2xYz city             the last change of one cell
  plait undo cell member recW3kP0fL9sT2xYz city --to 41     back to what journal entry 41 made it
  plait undo record member recW3kP0fL9sT2xYz --since 2026-03-01
  plait undo author jeanne@example.org --from '2026-03-01 14:00' --to '2026-03-01 15:00'
  plait undo batch 17                                       one transaction, whole
  plait undo changes 7                                      a mass change, stopped or let through
`plait history ENTITY ID` has the numbers of entries and transactions.";

#[derive(Debug, clap::Subcommand)]
enum What {
    /// One cell: its last change, or all since a journal entry
    Cell(CellArguments),
    /// One record: all that happened to it since a time; a deleted one comes back with its links
    Record(RecordArguments),
    /// All that one person changed in a time span
    Author(AuthorArguments),
    /// One transaction, as a side or a person made it
    Batch(BatchArguments),
    /// A mass change that was stopped, whether it was let through since or not
    Changes(ChangesArguments),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Take back what others have changed since, too
    #[arg(long)]
    force: bool,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// The plan as a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CellArguments {
    /// As the mapping calls it
    entity: String,
    /// The record's name, its UUID, Airtable's rec…, or its key in Directus
    id: String,
    /// As the mapping calls it
    field: String,
    /// Back to what this entry of the journal made it; 0: to what was before all of them
    #[arg(long, value_name = "JOURNAL_ID")]
    to: Option<i64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct RecordArguments {
    /// As the mapping calls it
    entity: String,
    /// The record's name, its UUID, Airtable's rec…, or its key in Directus
    id: String,
    /// 2026-03-01, "2026-03-01 14:30" or 2026-03-01T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: DateTime<Utc>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct AuthorArguments {
    /// As `plait history` and `plait watch` show it
    name: String,
    /// The first moment
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: DateTime<Utc>,
    /// The last moment
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: DateTime<Utc>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct BatchArguments {
    /// The transaction's number
    transaction: i64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct ChangesArguments {
    /// As `plait plan` and `plait status` have it
    number: i64,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let common = match &arguments.what {
        What::Cell(CellArguments { common, .. })
        | What::Record(RecordArguments { common, .. })
        | What::Author(AuthorArguments { common, .. })
        | What::Batch(BatchArguments { common, .. })
        | What::Changes(ChangesArguments { common, .. }) => common,
    };
    let (desk, _) = Desk::open(&common.config).await?;
    let chosen = match &arguments.what {
        What::Cell(it) => of_cell(&desk, &it.entity, &it.id, &it.field, it.to).await?,
        What::Record(it) => of_record(&desk, &it.entity, &it.id, it.since).await?,
        What::Author(it) => of_author(&desk, &it.name, it.from, it.to).await?,
        What::Batch(it) => of_batch(&desk, it.transaction).await?,
        What::Changes(it) => of_changes(&desk, it.number).await?,
    };
    let planned = planned(&desk, &chosen, common.force).await?;
    if common.json {
        say(&as_json(&planned.plan))?;
    } else {
        let paint = Paint::for_stdout();
        for line in planned.words(paint) {
            if !say(&line)? {
                break;
            }
        }
    }
    if planned.plan.decisions.is_empty() {
        if !common.json {
            say("there is nothing to take back")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !common.yes {
        if !common.json {
            say("nothing is done yet; --yes does it")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    report(&desk.decide(&common.who.name()?, &planned.plan.decisions).await?, None)
}

// ---- what is to be taken back -----------------------------------------------------------------------------

/// What was chosen, and the records that it is about.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) selection: Selection,
    pub(super) places: BTreeSet<Place>,
}

impl Chosen {
    fn whole(entries: &[Entry]) -> Self {
        let mut chosen = Self::default();
        for entry in entries {
            chosen.selection.whole.insert(entry.journal_id);
            chosen.places.insert((entry.entity.clone(), entry.record_id));
        }
        chosen
    }
}

pub(super) async fn of_cell(
    desk: &Desk,
    entity: &str,
    id: &str,
    field: &str,
    to: Option<i64>,
) -> anyhow::Result<Chosen> {
    let entity_no = desk.entity_no(entity)?;
    field_no(desk.mapping.entity(entity_no), field)?;
    let record = desk.record(entity_no, id).await?;
    let entries = history::of_records(&desk.pool, &[record]).await?;
    let touches = |entry: &&Entry| {
        entry.entity == entity
            && entry.action != "delete"
            && (entry.before.contains_key(field) || entry.after.contains_key(field))
    };
    let touching: Vec<&Entry> = entries.iter().filter(touches).collect();
    if let Some(to) = to
        && to != 0
        && !touching.iter().any(|entry| entry.journal_id == to)
    {
        let known: Vec<String> =
            touching.iter().map(|entry| entry.journal_id.to_string()).collect();
        bail!(
            "journal entry {to} is none of this cell; those are {}, and 0 stands for before all of them",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        );
    }
    let from = match to {
        Some(to) => to,
        None => touching.iter().rev().nth(1).map_or(0, |entry| entry.journal_id),
    };
    let mut chosen = Chosen::default();
    chosen.places.insert((entity.to_owned(), record));
    for entry in touching.iter().filter(|entry| entry.journal_id > from) {
        chosen.selection.cells.insert((entry.journal_id, field.to_owned()));
    }
    Ok(chosen)
}

pub(super) async fn of_record(
    desk: &Desk,
    entity: &str,
    id: &str,
    since: DateTime<Utc>,
) -> anyhow::Result<Chosen> {
    let entity_no = desk.entity_no(entity)?;
    let record = desk.record(entity_no, id).await?;
    let entries = history::of_records(&desk.pool, &[record]).await?;
    let is_of_it = |entry: &Entry| entry.entity == entity && entry.at >= since;
    let entries: Vec<Entry> = entries.into_iter().filter(is_of_it).collect();
    let mut chosen = Chosen::whole(&entries);
    chosen.places.insert((entity.to_owned(), record));
    // What linked to it and lost that link when it went gets it back with it.
    let deletes: Vec<i64> = entries
        .iter()
        .filter(|entry| entry.action == "delete")
        .map(|entry| entry.transaction)
        .collect();
    for entry in history::of_transactions(&desk.pool, &deletes).await? {
        for field in lost_links(desk, &entry, record) {
            chosen.places.insert((entry.entity.clone(), entry.record_id));
            chosen.selection.cells.insert((entry.journal_id, field));
        }
    }
    Ok(chosen)
}

/// The fields in which an entry of another record let go of `record`.
fn lost_links(desk: &Desk, entry: &Entry, record: Uuid) -> Vec<String> {
    let Ok(no) = desk.entity_no(&entry.entity) else { return Vec::new() };
    if entry.action != "update" || entry.record_id == record {
        return Vec::new();
    }
    let id = record.to_string();
    let names = |json: Option<&Json>| match json {
        Some(Json::String(text)) => *text == id,
        Some(Json::Array(ids)) => ids.iter().any(|it| it.as_str() == Some(&id)),
        _ => false,
    };
    let fields = desk.mapping.entity(no).fields.iter().filter(|field| target(field).is_some());
    fields
        .filter(|it| names(entry.before.get(&it.name)) && !names(entry.after.get(&it.name)))
        .map(|it| it.name.clone())
        .collect()
}

pub(super) async fn of_author(
    desk: &Desk,
    name: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> anyhow::Result<Chosen> {
    if from > to {
        bail!("--from is later than --to");
    }
    let entries = history::of_author(&desk.pool, name, from, to).await?;
    if entries.is_empty() {
        let authors = history::authors(&desk.pool, from, to).await?;
        bail!(
            "{name} changed nothing in that time{}",
            instead(name, authors.iter().map(String::as_str))
        );
    }
    Ok(Chosen::whole(&entries))
}

pub(super) async fn of_batch(desk: &Desk, transaction: i64) -> anyhow::Result<Chosen> {
    let entries = history::of_transactions(&desk.pool, &[transaction]).await?;
    if entries.is_empty() {
        let near = history::transactions_near(&desk.pool, transaction).await?;
        let near: Vec<String> = near.iter().map(ToString::to_string).collect();
        bail!(
            "transaction {transaction} changed no record, or does not exist{}: `plait history ENTITY ID` has the numbers behind each line",
            if near.is_empty() {
                String::new()
            } else {
                format!("; the nearest that did are {}", near.join(", "))
            }
        );
    }
    Ok(Chosen::whole(&entries))
}

/// What the author of a mass change has made of its entity, from its first transaction to its last.
pub(super) async fn of_changes(desk: &Desk, number: i64) -> anyhow::Result<Chosen> {
    let Some(change) = mass::one(&desk.pool, number).await? else {
        bail!("there is no mass change {number}: `plait plan` has the numbers of those that wait");
    };
    let transactions = mass::transactions(&desk.pool, &change).await?;
    let mut entries = history::of_transactions(&desk.pool, &transactions).await?;
    // Deletes are stopped, and brought back, by themselves.
    entries.retain(|entry| entry.entity == change.entity && entry.action != "delete");
    Ok(Chosen::whole(&entries))
}

// ---- the plan ---------------------------------------------------------------------------------------------

/// A plan, with what is needed to tell of it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    names: BTreeMap<Place, String>,
    labels: Labels,
}

/// Plans with all that canonical and the journal say now.
pub(super) async fn planned(
    desk: &Desk,
    chosen: &Chosen,
    is_forced: bool,
) -> anyhow::Result<Planned> {
    let ids: Vec<Uuid> = chosen.places.iter().map(|(_, id)| *id).collect();
    let mut entries = history::of_records(&desk.pool, &ids).await?;
    entries.retain(|it| chosen.places.contains(&(it.entity.clone(), it.record_id)));
    let now = now(desk, &chosen.places).await?;
    let missing = missing(desk, &entries).await?;
    let rule = |entity: &str, field: &str| rule(desk, entity, field);
    let plan = undo::plan(&Question {
        entries: &entries,
        selection: &chosen.selection,
        now: &now,
        rule: &rule,
        missing: &missing,
        is_forced,
    });
    let names =
        chosen.places.iter().map(|place| (place.clone(), name(desk, place, &now, &entries)));
    let names = names.collect();
    let labels = desk.labels_with_links([], plan.decisions.iter().flat_map(cells)).await?;
    Ok(Planned { plan, names, labels })
}

/// The values that a decision would change, and those that it would set.
fn cells(decision: &Decision) -> Vec<(&str, &str, &Json)> {
    match decision {
        Decision::Set { entity, cells, .. } => {
            let both = cells.iter().flat_map(|(field, wish)| {
                [&wish.expected, &wish.value].map(|value| (entity.as_str(), field.as_str(), value))
            });
            both.collect()
        }
        Decision::Restore { entity, cells, .. } => {
            cells.iter().map(|(field, value)| (entity.as_str(), field.as_str(), value)).collect()
        }
        _ => Vec::new(),
    }
}

async fn now(desk: &Desk, places: &BTreeSet<Place>) -> anyhow::Result<BTreeMap<Place, Now>> {
    let mut by_entity: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for (entity, id) in places {
        by_entity.entry(entity).or_default().push(*id);
    }
    let mut now = BTreeMap::new();
    for (name, ids) in by_entity {
        // An entity that the mapping has no more: its records cannot be changed.
        let no = desk.entity_no(name)?;
        let entity = desk.mapping.entity(no);
        for (id, row) in record::records(&desk.pool, entity, desk.shape(no), &ids).await? {
            let cells = entity.fields.iter().zip(&row.values);
            let cells = cells.map(|(field, value)| (field.name.clone(), value.to_json())).collect();
            let life = if row.is_deleted { Life::Deleted } else { Life::Alive };
            now.insert((name.to_owned(), id), Now { life, cells });
        }
    }
    Ok(now)
}

/// Records that these entries linked to, and that canonical does not have.
async fn missing(desk: &Desk, entries: &[Entry]) -> anyhow::Result<BTreeSet<Uuid>> {
    let mut linked: BTreeMap<u16, BTreeSet<Uuid>> = BTreeMap::new();
    for entry in entries {
        let Ok(no) = desk.entity_no(&entry.entity) else { continue };
        for field in &desk.mapping.entity(no).fields {
            let (Some(target), Some(value)) = (target(field), entry.before.get(&field.name)) else {
                continue;
            };
            let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let ids = ids.iter().filter_map(|it| Uuid::try_parse(it.as_str()?).ok());
            linked.entry(target).or_default().extend(ids);
        }
    }
    let mut missing = BTreeSet::new();
    for (target, ids) in linked {
        let no = crate::model::EntityNo(target);
        let wanted: Vec<Uuid> = ids.iter().copied().collect();
        let entity = desk.mapping.entity(no);
        let found = record::records(&desk.pool, entity, desk.shape(no), &wanted).await?;
        missing.extend(ids.into_iter().filter(|id| !found.contains_key(id)));
    }
    Ok(missing)
}

fn target(field: &Field) -> Option<u16> {
    match field.kind {
        FieldKind::Link { target } | FieldKind::Links { target } => Some(target.0),
        _ => None,
    }
}

fn rule(desk: &Desk, entity: &str, field: &str) -> Rule {
    let Ok(no) = desk.entity_no(entity) else { return Rule::default() };
    let found = desk.mapping.entity(no).fields.iter().find(|it| it.name == field);
    let Some(found) = found else {
        let closed = Some("the mapping does not have it any more".into());
        return Rule { closed, ..Rule::default() };
    };
    let is_closed =
        Side::ALL.into_iter().find(|side| found.is_on(*side) && !is_written(found, *side));
    let closed = is_closed.map(|side| {
        let side = if let Direction::From(writer) = found.direction { writer } else { side };
        format!("it is written on {side} alone: change it there")
    });
    Rule {
        is_set: matches!(found.kind, FieldKind::Links { .. } | FieldKind::MultiSelect),
        is_link: target(found).is_some(),
        closed,
    }
}

/// What a person calls a record, that has been deleted maybe.
fn name(desk: &Desk, place: &Place, now: &BTreeMap<Place, Now>, entries: &[Entry]) -> String {
    let (entity, id) = place;
    let Ok(no) = desk.entity_no(entity) else { return format!("{entity} {id}") };
    let described = desk.mapping.entity(no);
    let last = || {
        let of_it = entries.iter().rev().filter(|it| it.entity == *entity && it.record_id == *id);
        let deleted = of_it.into_iter().find(|it| it.action == "delete")?;
        Some(deleted.before.clone().into_iter().collect::<BTreeMap<String, Json>>())
    };
    let cells = now.get(place).map(|it| it.cells.clone()).or_else(last).unwrap_or_default();
    let value = |field: &Field| field.from_json(cells.get(&field.name).unwrap_or(&Json::Null));
    let values: Vec<_> = described.fields.iter().map(value).collect();
    let label = label(described, &values);
    if label.is_empty() { format!("{entity} {id}") } else { format!("{entity} {label}") }
}

impl Planned {
    fn name(&self, entity: &str, id: Uuid) -> String {
        let place = (entity.to_owned(), id);
        self.names.get(&place).cloned().unwrap_or_else(|| format!("{entity} {id}"))
    }

    pub(super) fn words(&self, paint: Paint) -> Vec<String> {
        let mut lines = Vec::new();
        for decision in &self.plan.decisions {
            match decision {
                Decision::Set { entity, record, cells, .. } => {
                    let name = self.name(entity, *record);
                    for (field, wish) in cells {
                        let shown = |value| self.labels.value(entity, field, Some(value));
                        lines.push(format!(
                            "{name} · {field}: {} → {}",
                            paint.dim(&shown(&wish.expected)),
                            paint.bold(&shown(&wish.value))
                        ));
                    }
                }
                Decision::Restore { entity, record, cells } => {
                    let name = self.name(entity, *record);
                    lines.push(format!("{name}: {}", paint.green("comes back, on all sides")));
                    for (field, value) in cells.iter().filter(|(_, value)| !value.is_null()) {
                        let value = self.labels.value(entity, field, Some(value));
                        lines.push(format!("    {field} = {value}"));
                    }
                }
                Decision::Delete { entity, record } => {
                    let name = self.name(entity, *record);
                    lines.push(format!("{name}: {}", paint.red("is deleted, on all sides")));
                }
                _ => {}
            }
        }
        for kept in &self.plan.kept {
            lines.push(format!(
                "{} {}{}: {}",
                paint.yellow("left alone:"),
                self.name(&kept.place.0, kept.place.1),
                kept.field.as_ref().map_or_else(String::new, |field| format!(" · {field}")),
                why(kept)
            ));
        }
        lines
    }
}

fn why(kept: &Kept) -> String {
    match &kept.reason {
        Reason::ChangedSince { author, at, journal_id } => format!(
            "{author} changed it since, {} (journal entry {journal_id}); --force takes that back too",
            local(*at)
        ),
        Reason::Strayed => {
            "it does not hold what the journal says: somebody wrote to the canonical table".into()
        }
        Reason::IsDeleted => {
            "the record is deleted: bring it back first, by `plait undo record`".into()
        }
        Reason::Closed(why) => why.clone(),
        Reason::Erased => {
            "what it held was erased with a person's data (`plait person list`), and does not come back"
                .into()
        }
        Reason::TargetGone => {
            "a record that it linked to is gone: bring that one back first".into()
        }
    }
}

fn as_json(plan: &Plan) -> String {
    let kept: Vec<Json> = plan
        .kept
        .iter()
        .map(|kept| {
            json!({
                "entity": kept.place.0, "record_id": kept.place.1, "field": kept.field, "reason": why(kept),
            })
        })
        .collect();
    json!({ "decisions": plan.decisions, "left_alone": kept }).to_string()
}
