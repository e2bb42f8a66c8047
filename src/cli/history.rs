//! `plait history`: what happened to one record, for ever.

use std::{path::PathBuf, process::ExitCode};

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    conflicts::{self, decided, value_text},
    desk::{Desk, field_no, local, short, shown},
    names::Labels,
    terminal::{Paint, say},
    waiting::{history_json, history_line},
};
use crate::{
    model::Side,
    store::{
        conflict::{self, Conflict},
        history::{self, Entry},
        parked::{self, Refused},
        passage::{self, Passage},
        record, waiting,
    },
};

/// Tells what happened to a record: who, when, on which side, before → after; the conflicts of its cells and how they
/// were settled are in the same timeline. What a first copy brought in has no line: it is what the first lines say
/// was before.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// As the mapping calls it
    entity: String,
    /// The record's name, its UUID, Airtable's rec…, or its key in Directus
    id: String,
    /// Only this field
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  plait history member recW3kP0fL9sT2xYz
  plait history member 0192f0c4-7c1e-7a7b-9b53-3d6f1f0a2b11 --field city
Each line ends with the numbers of its journal entry and of its transaction:
  plait undo cell member recW3kP0fL9sT2xYz city --to 41     back to what entry 41 made it
  plait undo batch 17                                       takes transaction 17 back";

/// A line of the timeline.
#[derive(Debug)]
struct Line {
    recorded_at: DateTime<Utc>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// An entry, and the cell of it; `None`: one without cells.
    Change(Entry, Option<String>),
    Conflict(Conflict),
    Settled(Conflict),
    /// What a side's cell holds and cannot be taken.
    Refused(Refused),
    /// It left the rows of a side that are mirrored, or came among them.
    Passage(Passage),
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let entity_no = desk.entity_no(&arguments.entity)?;
    let entity = desk.mapping.entity(entity_no);
    if let Some(field) = &arguments.field {
        field_no(entity, field)?;
    }
    let record = desk.record(entity_no, &arguments.id).await?;
    let lines = timeline(&desk, &entity.name, record, arguments.field.as_deref()).await?;
    let paint = Paint::for_stdout();
    let labels = labels(&desk, &entity.name, record, &lines).await?;
    if !arguments.json {
        say(&heading(&desk, &entity.name, record, &labels, paint).await?)?;
        if lines.is_empty() {
            say("  nothing has changed since the first copy")?;
        }
    }
    for line in &lines {
        let text = if arguments.json { as_json(line) } else { as_text(line, &labels, paint) };
        if !say(&text)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    for wait in waiting::of_record(&desk.pool, &entity.name, record).await? {
        say(&if arguments.json { history_json(&wait) } else { history_line(&wait, paint) })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of a record's timeline, without colours.
#[cfg(test)]
pub(super) async fn told(
    desk: &Desk,
    entity: &str,
    id: &str,
    field: Option<&str>,
) -> anyhow::Result<Vec<String>> {
    let record = desk.record(desk.entity_no(entity)?, id).await?;
    let lines = timeline(desk, entity, record, field).await?;
    let labels = labels(desk, entity, record, &lines).await?;
    Ok(lines.iter().map(|line| as_text(line, &labels, Paint::none())).collect())
}

/// What the record is called, and those to which its cells have linked.
async fn labels(desk: &Desk, entity: &str, record: Uuid, lines: &[Line]) -> anyhow::Result<Labels> {
    let cells = lines.iter().flat_map(|line| -> Vec<(&str, &str, &Json)> {
        match &line.what {
            What::Change(entry, _) => {
                let cells = entry.before.iter().chain(&entry.after);
                cells.map(|(field, value)| (entity, field.as_str(), value)).collect()
            }
            What::Conflict(conflict) | What::Settled(conflict) => {
                conflicts::cells(conflict).collect()
            }
            What::Refused(_) | What::Passage(_) => Vec::new(),
        }
    });
    desk.labels_with_links([(entity.to_owned(), record)], cells).await
}

async fn heading(
    desk: &Desk,
    entity: &str,
    id: Uuid,
    labels: &Labels,
    paint: Paint,
) -> anyhow::Result<String> {
    let mut names = vec![id.to_string()];
    for side in Side::ALL {
        if let Some(key) = record::side_key(&desk.pool, side, entity, id).await? {
            names.push(format!("{side} {key}"));
        }
    }
    let entity_no = desk.entity_no(entity)?;
    let described = desk.mapping.entity(entity_no);
    let rows = record::records(&desk.pool, described, desk.shape(entity_no), &[id]).await?;
    let state = match rows.get(&id) {
        None => ", gone",
        Some(row) if row.is_deleted => ", deleted",
        Some(_) => "",
    };
    Ok(format!("{} ({}){state}", paint.bold(&labels.of(entity, id)), names.join(", ")))
}

/// All that happened, in the order in which it was applied.
async fn timeline(
    desk: &Desk,
    entity: &str,
    record: Uuid,
    field: Option<&str>,
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let is_wanted = |name: &str| field.is_none_or(|field| field == name);
    for entry in history::of_records(&desk.pool, &[record]).await? {
        if entry.entity != entity {
            continue;
        }
        let names: Vec<String> = entry.before.keys().chain(entry.after.keys()).cloned().collect();
        let mut cells: Vec<String> = names;
        cells.sort_unstable();
        cells.dedup();
        let recorded_at = entry.recorded_at;
        // A delete and a return are told even where another field is asked for: they concern it.
        if entry.action != "update" && (cells.is_empty() || field.is_some()) {
            lines.push(Line { recorded_at, what: What::Change(entry.clone(), None) });
        }
        for cell in cells.into_iter().filter(|cell| is_wanted(cell)) {
            lines.push(Line { recorded_at, what: What::Change(entry.clone(), Some(cell)) });
        }
    }
    for conflict in conflict::of_record(&desk.pool, entity, record).await? {
        if !conflict.field.as_deref().is_none_or(is_wanted) {
            continue;
        }
        let found_at = conflict.found_at.or(conflict.observed_at).unwrap_or_default();
        if let (Some(at), "held" | "overwritten") =
            (conflict.decided_at, conflict.decision.as_str())
        {
            let what = What::Settled(conflict.clone());
            lines.push(Line { recorded_at: at, what });
        }
        lines.push(Line { recorded_at: found_at, what: What::Conflict(conflict) });
    }
    for refused in parked::refused_of_record(&desk.pool, entity, record).await? {
        if is_wanted(&refused.field) {
            lines.push(Line { recorded_at: refused.refused_at, what: What::Refused(refused) });
        }
    }
    for passage in passage::of_record(&desk.pool, entity, record).await? {
        lines.push(Line { recorded_at: passage.recorded_at, what: What::Passage(passage) });
    }
    // Stable: entries of one moment stay in the journal's order.
    lines.sort_by_key(|line| line.recorded_at);
    Ok(lines)
}

fn as_text(line: &Line, labels: &Labels, paint: Paint) -> String {
    match &line.what {
        What::Change(entry, cell) => {
            let value = |cell: &str, values: &serde_json::Map<String, Json>| {
                labels.value(&entry.entity, cell, values.get(cell))
            };
            let what = match (cell, entry.action.as_str()) {
                (None, "delete") => paint.red("deleted"),
                (None, "restore") => paint.green("came back"),
                (None, "create") => paint.green("created"),
                (None, action) => action.to_owned(),
                (Some(cell), "create") => {
                    format!("{} {cell} = {}", paint.green("new"), value(cell, &entry.after))
                }
                (Some(cell), "delete") => {
                    format!("{} {cell} was {}", paint.red("deleted"), value(cell, &entry.before))
                }
                (Some(cell), action) => {
                    let back =
                        if action == "restore" { paint.green("came back ") } else { String::new() };
                    format!(
                        "{back}{cell}: {} → {}",
                        paint.dim(&value(cell, &entry.before)),
                        paint.bold(&value(cell, &entry.after))
                    )
                }
            };
            format!(
                "  {}  {:8}  {:24}  {what}  {}",
                paint.dim(&local(entry.at)),
                entry.side,
                short(&entry.author, 24),
                paint.dim(&format!("[{} / {}]", entry.journal_id, entry.transaction)),
            )
        }
        What::Refused(refused) => format!(
            "  {}  {:8}  {:24}  {} {}: {}: {}",
            paint.dim(&local(refused.at.unwrap_or(refused.refused_at))),
            refused.side,
            short(refused.author.as_deref().unwrap_or_default(), 24),
            paint.yellow("not taken"),
            refused.field,
            shown(refused.raw.as_ref()),
            refused.reason,
        ),
        What::Conflict(conflict @ Conflict { unfit: Some(why), .. }) => format!(
            "  {}  {:8}  {:24}  {} {}: {}: {why}",
            paint.dim(&local(conflict.observed_at.unwrap_or(line.recorded_at))),
            conflict.side,
            short(conflict.observed_author.as_deref().unwrap_or_default(), 24),
            paint.yellow(&format!("not taken {}", conflict.conflict_id)),
            conflict.field.as_deref().unwrap_or_default(),
            value_text(conflict, labels, &conflict.observed),
        ),
        What::Conflict(conflict) => format!(
            "  {}  {:8}  {:24}  {} {}: {} on {} met {} on {}{}",
            paint.dim(&local(line.recorded_at)),
            conflict.side,
            short(conflict.observed_author.as_deref().unwrap_or_default(), 24),
            paint.yellow(&format!("conflict {}", conflict.conflict_id)),
            conflict.field.as_deref().unwrap_or("deleted or edited"),
            value_text(conflict, labels, &conflict.observed),
            conflict.side,
            value_text(conflict, labels, &conflict.canonical),
            conflict.other_side(),
            match conflict.decision.as_str() {
                "held" if conflict.is_open() => ": waits for a decision".into(),
                "held" | "overwritten" => String::new(),
                _ => format!(": {}", decided(conflict, labels)),
            },
        ),
        What::Passage(passage) => format!(
            "  {}  {:8}  {:24}  {}  {}",
            paint.dim(&local(passage.at)),
            passage.side,
            short(&passage.author, 24),
            if passage.has_left {
                paint.yellow("left the rows that are mirrored; it is still there, and nothing is written to it")
            } else {
                paint.green("came among the rows that are mirrored")
            },
            paint.dim(&format!("[{}]", passage.transaction)),
        ),
        What::Settled(conflict) => format!(
            "  {}  {:8}  {:24}  {} {}",
            paint.dim(&local(line.recorded_at)),
            "plait",
            short(conflict.decided_by.as_deref().unwrap_or_default(), 24),
            paint.green(&format!(
                "{} {}",
                if conflict.unfit.is_some() { "not taken" } else { "conflict" },
                conflict.conflict_id
            )),
            decided(conflict, labels),
        ),
    }
}

fn as_json(line: &Line) -> String {
    let json: Json = match &line.what {
        What::Change(entry, cell) => json!({
            "kind": "change", "at": entry.at, "recorded_at": entry.recorded_at, "side": entry.side,
            "author": entry.author, "via": entry.via, "action": entry.action, "field": cell,
            "before": cell.as_ref().and_then(|cell| entry.before.get(cell)),
            "after": cell.as_ref().and_then(|cell| entry.after.get(cell)),
            "journal_id": entry.journal_id, "transaction": entry.transaction,
        }),
        What::Conflict(conflict) => json!({
            "kind": "conflict", "at": conflict.observed_at, "recorded_at": line.recorded_at,
            "side": conflict.side, "author": conflict.observed_author, "conflict_id": conflict.conflict_id,
            "field": conflict.field, "observed": conflict.observed, "canonical": conflict.canonical,
            "decision": conflict.decision, "is_open": conflict.is_open(), "unfit": conflict.unfit,
        }),
        What::Refused(refused) => json!({
            "kind": "refused", "at": refused.at, "recorded_at": line.recorded_at, "side": refused.side,
            "author": refused.author, "field": refused.field, "observed": refused.raw, "reason": refused.reason,
        }),
        What::Passage(passage) => json!({
            "kind": "rows", "at": passage.at, "recorded_at": line.recorded_at, "side": passage.side,
            "author": passage.author, "has_left": passage.has_left, "transaction": passage.transaction,
        }),
        What::Settled(conflict) => json!({
            "kind": "settled", "at": conflict.decided_at, "recorded_at": line.recorded_at, "side": "plait",
            "author": conflict.decided_by, "conflict_id": conflict.conflict_id, "field": conflict.field,
            "value": conflict.settled_value,
        }),
    };
    json.to_string()
}
