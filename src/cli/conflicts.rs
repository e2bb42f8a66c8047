//! `plait conflicts`: cells that both sides changed, and what to do about them.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use super::{
    desk::{Desk, Done, Who, field_no, local, short},
    names::Labels,
    terminal::{Paint, say},
};
use crate::{
    model::{Decision, Side, Wish, is_erased},
    store::{
        conflict::{self, Conflict},
        record,
    },
};

/// Lists the cells that both sides changed since they last agreed. Where the mapping says `ask`, such a cell keeps
/// its canonical value, and nothing of it is written to either side, until somebody settles it. Where a rule
/// decided, the value that lost is here too (--all), and comes back by the same command.
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
  plait conflicts                                what waits for a decision
  plait conflicts --all                          and what rules and people decided before
  plait conflicts show 12                        one, with everything that is known of it
  plait conflicts settle 12 --airtable           says what taking Airtable's value would do
  plait conflicts settle 12 --airtable --yes     does it, on all sides
  plait conflicts settle 12 --value 'Lyon' --yes takes a third value";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Everything that is known of one conflict
    Show(Show),
    /// Take one of the values, or a third one, on all sides
    Settle(Settle),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Those that were decided too
    #[arg(long)]
    all: bool,
    /// Only this entity, as the mapping calls it
    #[arg(long, value_name = "NAME")]
    entity: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 200, value_name = "COUNT")]
    last: u32,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// As the list has it
    id: i64,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Settle {
    /// As the list has it
    id: i64,
    #[command(flatten)]
    choice: Choice,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Choice {
    /// Airtable's value
    #[arg(long)]
    pub(super) airtable: bool,
    /// Directus's value
    #[arg(long)]
    pub(super) directus: bool,
    /// What is canonical now
    #[arg(long)]
    pub(super) canonical: bool,
    /// Another value: read as the field's type; a choice by its code or label, a linked record by its name or id,
    /// '' for nothing
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(super) value: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => list(arguments.list).await,
        Some(Action::Show(show)) => {
            let (desk, _) = Desk::open(&show.config).await?;
            let conflict = find(&desk, show.id).await?;
            let labels = labels(&desk, std::slice::from_ref(&conflict)).await?;
            if show.json {
                say(&as_json(&conflict, &labels))?;
                return Ok(ExitCode::SUCCESS);
            }
            for line in in_full(&desk, &conflict, &labels).await? {
                say(&line)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Settle(settle)) => {
            let (desk, _) = Desk::open(&settle.config).await?;
            let plan = plan(&desk, settle.id, &settle.choice).await?;
            say(&plan.words)?;
            if !settle.yes {
                say("nothing is done yet; --yes does it")?;
                return Ok(ExitCode::SUCCESS);
            }
            let done = desk.decide(&settle.who.name()?, &[plan.decision]).await?;
            report(&done, plan.back.as_deref())
        }
    }
}

async fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    if let Some(entity) = &arguments.entity {
        desk.entity_no(entity)?;
    }
    let entity = arguments.entity.as_deref();
    let conflicts =
        conflict::conflicts(&desk.pool, arguments.all, entity, i64::from(arguments.last)).await?;
    let labels = labels(&desk, &conflicts).await?;
    let paint = Paint::for_stdout();
    if conflicts.is_empty() && !arguments.json {
        let more = if arguments.all { "" } else { "; --all shows those that were decided" };
        say(&format!("no conflicts{more}"))?;
    }
    for conflict in &conflicts {
        let text = if arguments.json {
            as_json(conflict, &labels)
        } else {
            as_text(conflict, &labels, paint)
        };
        if !say(&text)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if !arguments.all && !arguments.json {
        let count = conflict::unfit_count(&desk.pool, entity).await?;
        if count > 0 {
            say(&format!("{count} that did not fit their field were replaced: --all lists them"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn labels(desk: &Desk, conflicts: &[Conflict]) -> anyhow::Result<Labels> {
    let records = conflicts.iter().map(|it| (it.entity.clone(), it.record_id));
    desk.labels_with_links(records, conflicts.iter().flat_map(cells)).await
}

/// The lines of the list of open conflicts, and of the first one in full, without colours.
#[cfg(test)]
pub(super) async fn told(desk: &Desk) -> anyhow::Result<Vec<String>> {
    let conflicts = conflict::conflicts(&desk.pool, false, None, 10).await?;
    let labels = labels(desk, &conflicts).await?;
    let mut lines: Vec<String> =
        conflicts.iter().map(|it| as_text(it, &labels, Paint::none())).collect();
    if let Some(first) = conflicts.first() {
        lines.extend(in_full(desk, first, &labels).await?);
    }
    Ok(lines)
}

/// The values of a conflict's cell.
pub(super) fn cells(it: &Conflict) -> impl Iterator<Item = (&str, &str, &Json)> {
    let values =
        [Some(&it.canonical), Some(&it.observed), it.base.as_ref(), it.settled_value.as_ref()];
    let field = it.field.as_deref().unwrap_or_default();
    values.into_iter().flatten().map(move |value| (it.entity.as_str(), field, value))
}

async fn find(desk: &Desk, id: i64) -> anyhow::Result<Conflict> {
    if let Some(conflict) = conflict::by_id(&desk.pool, id).await? {
        return Ok(conflict);
    }
    let near = conflict::ids_near(&desk.pool, id).await?;
    let near: Vec<String> = near.iter().map(ToString::to_string).collect();
    let hint =
        if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) };
    bail!("there is no conflict {id}{hint}")
}

/// What settling would do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) decision: Decision,
    pub(super) words: String,
    /// Where no canonical value changes, and so no transaction is there to be undone: the command that gives the
    /// value that lost.
    pub(super) back: Option<String>,
}

/// What a choice comes to, as things are now.
pub(super) async fn plan(desk: &Desk, id: i64, choice: &Choice) -> anyhow::Result<Plan> {
    let conflict = find(desk, id).await?;
    let entity_no = desk.entity_no(&conflict.entity)?;
    let entity = desk.mapping.entity(entity_no);
    let record = conflict.record_id;
    let labels = labels(desk, std::slice::from_ref(&conflict)).await?;
    let what = labels.of(&conflict.entity, record);
    let Some(name) = &conflict.field else { return plan_of_delete(&conflict, choice, &what) };
    let no = field_no(entity, name)?;
    let field = entity.field(no);
    let mut rows = record::records(&desk.pool, entity, desk.shape(entity_no), &[record]).await?;
    let row = rows.remove(&record).filter(|row| !row.is_deleted).with_context(|| {
        format!(
            "{what} is deleted: bring it back first, by `plait undo record {} {record} --since …`",
            conflict.entity
        )
    })?;
    let now = row.values[usize::from(no.0)].to_json();
    let held_by = |side: Side| {
        if conflict.side == side.name() { &conflict.observed } else { &conflict.canonical }
    };
    let (value, whose) = match choice {
        Choice { airtable: true, .. } => (held_by(Side::Airtable).clone(), "Airtable's value"),
        Choice { directus: true, .. } => (held_by(Side::Directus).clone(), "Directus's value"),
        Choice { value: Some(text), .. } => (desk.typed(field, text).await?.to_json(), "the value"),
        Choice { .. } => (now.clone(), "the canonical value"),
    };
    if is_erased(&value) {
        bail!(
            "{what} · {name}: what it held was erased with a person's data (`plait person list`), and does not come back"
        );
    }
    let labels = {
        let known = cells(&conflict)
            .chain([&now, &value].map(|it| (conflict.entity.as_str(), name.as_str(), it)));
        desk.labels_with_links([], known).await?
    };
    let shown = |value: &Json| labels.value(&conflict.entity, name, Some(value));
    let is_of_unfit = choice.airtable && conflict.side == Side::Airtable.name()
        || choice.directus && conflict.side == Side::Directus.name();
    if let Some(why) = conflict.unfit.as_ref().filter(|_| is_of_unfit) {
        bail!(
            "{what} · {name}: what {} held cannot be taken: {why}; --value takes one that fits",
            conflict.side
        );
    }
    let loser = Side::ALL.into_iter().find(|side| *held_by(*side) != value);
    let words = if value == now {
        let gives_way = match loser {
            Some(side) if conflict.is_open() => {
                format!("; {side}'s {} gives way", shown(held_by(side)))
            }
            _ => String::new(),
        };
        format!("{what} · {name}: stays {}, on all sides{gives_way}", shown(&now))
    } else {
        format!("{what} · {name}: {} → {} ({whose}), on all sides", shown(&now), shown(&value))
    };
    let back = loser
        .filter(|_| value == now && conflict.unfit.is_none())
        .map(|side| format!("plait conflicts settle {} --{side}", conflict.conflict_id));
    let cells = BTreeMap::from([(name.clone(), Wish { expected: now, value })]);
    let decision = Decision::Set {
        entity: conflict.entity.clone(),
        record,
        cells,
        settles: vec![conflict.conflict_id],
    };
    Ok(Plan { decision, words, back })
}

/// A delete met an edit: either the record lives, as it does, or it goes after all.
fn plan_of_delete(conflict: &Conflict, choice: &Choice, what: &str) -> anyhow::Result<Plan> {
    let deleted_on = if conflict.decision == "canonical kept" {
        conflict.side.as_str()
    } else {
        conflict.other_side()
    };
    let is_for_delete =
        choice.airtable && deleted_on == "airtable" || choice.directus && deleted_on == "directus";
    if !is_for_delete {
        bail!(
            "{what} was deleted on {deleted_on} while it was edited on the other side, and lives on: there is nothing to do. --{deleted_on} deletes it after all"
        );
    }
    Ok(Plan {
        decision: Decision::Delete { entity: conflict.entity.clone(), record: conflict.record_id },
        words: format!("{what}: is deleted on all sides, as it was on {deleted_on}"),
        back: None,
    })
}

/// Says what became of a decision, and how to take it back: `back`, where it is no transaction.
pub(super) fn report(done: &Done, back: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Some(outcome) = &done.outcome {
        say(&format!("not done: {outcome}"))?;
    }
    match done.transaction {
        Some(number) => {
            say(&format!(
                "done as transaction {number}; `plait undo batch {number}` takes it back"
            ))?;
        }
        None if done.outcome.is_none() => {
            say(&match back {
                Some(command) => {
                    format!(
                        "done; the canonical value is as it was, `{command}` takes the other one"
                    )
                }
                None => "done; no value changed, so there is nothing to take back".into(),
            })?;
        }
        None => {}
    }
    Ok(if done.outcome.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(conflict: &Conflict, labels: &Labels) -> String {
    json!({
        "id": conflict.conflict_id, "entity": conflict.entity, "record_id": conflict.record_id,
        "record": labels.of(&conflict.entity, conflict.record_id), "field": conflict.field,
        "is_open": conflict.is_open(), "decision": conflict.decision,
        "base": conflict.base, "base_is_known": conflict.base_is_known,
        conflict.side.clone(): value_json(&conflict.observed, conflict.observed_author.as_ref(), conflict.observed_at),
        conflict.other_side(): value_json(&conflict.canonical, conflict.canonical_author.as_ref(), conflict.canonical_at),
        "found_at": conflict.found_at, "decided_at": conflict.decided_at, "decided_by": conflict.decided_by,
        "settled_value": conflict.settled_value, "unfit": conflict.unfit,
    })
    .to_string()
}

fn value_json(
    value: &Json,
    author: Option<&String>,
    at: Option<chrono::DateTime<chrono::Utc>>,
) -> Json {
    json!({ "value": value, "author": author, "at": at })
}

fn as_text(conflict: &Conflict, labels: &Labels, paint: Paint) -> String {
    let shown = |value: &Json| value_text(conflict, labels, value);
    let field = conflict.field.as_deref().unwrap_or("(deleted or edited)");
    if let Some(why) = &conflict.unfit {
        return format!(
            "{}  {} · {}  {} held {} ({}): {why}  {}",
            paint.bold(&conflict.conflict_id.to_string()),
            labels.of(&conflict.entity, conflict.record_id),
            paint.bold(field),
            conflict.side,
            shown(&conflict.observed),
            by(conflict.observed_author.as_deref(), conflict.observed_at),
            paint.dim(&decided(conflict, labels)),
        );
    }
    let state = if conflict.is_open() {
        paint.yellow("waits")
    } else {
        paint.dim(&decided(conflict, labels))
    };
    format!(
        "{}  {} · {}  {} {} ({}) ≠ {} {} ({})  {state}",
        paint.bold(&conflict.conflict_id.to_string()),
        labels.of(&conflict.entity, conflict.record_id),
        paint.bold(field),
        conflict.other_side(),
        shown(&conflict.canonical),
        by(conflict.canonical_author.as_deref(), conflict.canonical_at),
        conflict.side,
        shown(&conflict.observed),
        by(conflict.observed_author.as_deref(), conflict.observed_at),
    )
}

/// A value of a conflict's cell.
pub(super) fn value_text(conflict: &Conflict, labels: &Labels, value: &Json) -> String {
    labels.value(&conflict.entity, conflict.field.as_deref().unwrap_or_default(), Some(value))
}

fn by(author: Option<&str>, at: Option<chrono::DateTime<chrono::Utc>>) -> String {
    match (author, at) {
        (Some(author), Some(at)) => format!("{author}, {}", local(at)),
        _ => "before the first copy".into(),
    }
}

/// How a conflict ended.
pub(super) fn decided(conflict: &Conflict, labels: &Labels) -> String {
    let shown = |value: &Json| value_text(conflict, labels, value);
    let value = conflict.settled_value.as_ref().map(|value| format!(" with {}", shown(value)));
    match (&conflict.decided_by, conflict.decision.as_str()) {
        (Some(person), _) => format!("settled{} by {person}", value.unwrap_or_default()),
        (None, "held") => "the sides came to agree".into(),
        (None, "overwritten") if conflict.unfit.is_some() => {
            format!("replaced by {}", shown(&conflict.canonical))
        }
        (None, "overwritten") => {
            format!("{}'s value was overwritten", conflict.side)
        }
        (None, "canonical kept") => format!("by rule: {}'s value lost", conflict.side),
        (None, "observed taken") => format!("by rule: {}'s value was taken", conflict.side),
        (None, other) => format!("by rule: {other}"),
    }
}

/// One conflict, with all that is known of it and what can be done.
async fn in_full(desk: &Desk, conflict: &Conflict, labels: &Labels) -> anyhow::Result<Vec<String>> {
    let paint = Paint::for_stdout();
    let shown = |value: &Json| value_text(conflict, labels, value);
    let id = conflict.conflict_id;
    let mut lines = vec![format!(
        "{} {} · {}",
        paint.bold(&format!("conflict {id}:")),
        labels.of(&conflict.entity, conflict.record_id),
        conflict.field.as_deref().unwrap_or("deleted on one side, edited on the other"),
    )];
    lines.push(format!("  record    {}", conflict.record_id));
    if let Some(why) = &conflict.unfit {
        lines.extend(unfit_in_full(conflict, labels, why));
        return Ok(lines);
    }
    let base = match (&conflict.base, conflict.base_is_known) {
        (_, false) => "not known: the records were matched when they differed already".into(),
        (base, true) => shown(base.as_ref().unwrap_or(&Json::Null)),
    };
    lines.push(format!("  before    {base}"));
    for (side, value, author, at) in [
        (
            conflict.other_side(),
            &conflict.canonical,
            conflict.canonical_author.as_deref(),
            conflict.canonical_at,
        ),
        (
            conflict.side.as_str(),
            &conflict.observed,
            conflict.observed_author.as_deref(),
            conflict.observed_at,
        ),
    ] {
        lines.push(format!("  {side:9} {}  ({})", shown(value), by(author, at)));
    }
    let entity_no = desk.entity_no(&conflict.entity)?;
    let entity = desk.mapping.entity(entity_no);
    let ids = [conflict.record_id];
    let rows = record::records(&desk.pool, entity, desk.shape(entity_no), &ids).await?;
    let now = match (rows.get(&conflict.record_id), &conflict.field) {
        (None, _) => "the record is gone".into(),
        (Some(row), _) if row.is_deleted => "the record is deleted".into(),
        (Some(row), Some(name)) => {
            let now = row.values[usize::from(field_no(entity, name)?.0)].to_json();
            let cell = [(conflict.entity.as_str(), name.as_str(), &now)];
            desk.labels_with_links([], cell).await?.value(&conflict.entity, name, Some(&now))
        }
        (Some(_), None) => "the record is there".into(),
    };
    lines.push(format!("  canonical {now}  (now)"));
    if conflict.is_open() {
        lines.push(format!(
            "  {}: `plait conflicts settle {id} --airtable`, --directus, --canonical or --value V",
            paint.yellow("waits for a decision")
        ));
    } else {
        let at = conflict.decided_at.map_or_else(String::new, |at| format!(", {}", local(at)));
        lines.push(format!("  {}{at}", decided(conflict, labels)));
        lines.push(format!(
            "  the other value comes back by `plait conflicts settle {id} --{}`",
            if conflict.decision == "observed taken" {
                conflict.other_side()
            } else {
                conflict.side.as_str()
            }
        ));
    }
    Ok(lines)
}

/// What a side's cell held that was no value of the field, whole.
fn unfit_in_full(conflict: &Conflict, labels: &Labels, why: &str) -> Vec<String> {
    let id = conflict.conflict_id;
    let held = conflict.observed.as_str().unwrap_or_default();
    let at = conflict.decided_at.map_or_else(String::new, |at| format!(", {}", local(at)));
    vec![
        format!(
            "  {:9} {}  ({})",
            conflict.side,
            short(held, usize::MAX),
            by(conflict.observed_author.as_deref(), conflict.observed_at)
        ),
        format!("  could not be taken: {why}"),
        format!("  {}{at}", decided(conflict, labels)),
        format!("  a value that fits is taken by `plait conflicts settle {id} --value V`"),
    ]
}
