//! `plait plan`: what would be written to either side, before anything is.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    desk::{Desk, Labels, label, local, shown},
    terminal::{Paint, say},
};
use crate::{
    config::Settings,
    model::Side,
    store::{
        plan::{self, Plan, PlannedKind, PlannedWrite, Reading, Tallies, Tally},
        questions::{self, Match, Matched, PendingDelete, Question},
    },
};

/// How many of a kind are shown unless all are asked for.
const SHOWN_COUNT: usize = 10;

/// Shows what nobody has approved yet: the records that were found on both sides and by what, those that would be
/// created, and the cells that would be overwritten, on which side. Nothing of it is written to any side before
/// `plait approve --yes`; all of it is told from the canonical database, which `plait run` fills meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Every record, not the first ten of each kind
    #[arg(long)]
    all: bool,
    /// One JSON document, with every record; docs/plan.md says what is in it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, settings) = Desk::open(&arguments.config).await?;
    let is_all = arguments.all || arguments.json;
    let plan = reading(&desk, is_all).read(&desk.pool).await?;
    let around = Around::read(&desk, logs(&desk, &settings), is_all).await?;
    if arguments.json {
        say(&as_json(&plan, &around).to_string())?;
    } else {
        for line in as_text(&plan, &around, is_all, Paint::for_stdout()) {
            if !say(&line)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    plan::note_shown(&desk.pool, &plan).await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reading(desk: &Desk, is_all: bool) -> Reading<'_> {
    let keep_count = if is_all { usize::MAX } else { SHOWN_COUNT };
    Reading { mapping: &desk.mapping, shapes: &desk.shapes, keep_count, label }
}

/// What is shown beside the writes.
pub(super) struct Around {
    matched: Vec<Matched>,
    matches: Vec<Match>,
    questions: Vec<Question>,
    deletes: Vec<PendingDelete>,
    /// Logs that were not read to the end of their first copy.
    pub(super) unread: Vec<String>,
    labels: Labels,
}

impl Around {
    pub(super) async fn read(desk: &Desk, logs: Vec<String>, is_all: bool) -> anyhow::Result<Self> {
        let count_max = if is_all { i64::MAX } else { i64::try_from(SHOWN_COUNT)? };
        let matches = questions::matches(&desk.pool, count_max).await?;
        let questions = questions::questions(&desk.pool).await?;
        let deletes = questions::pending_deletes(&desk.pool).await?;
        let named = matches.iter().map(|it| (it.entity.clone(), it.record_id));
        let asked = questions.iter().flat_map(|it| {
            let all = it.candidates.iter().copied().chain([it.record_id]);
            all.map(|record| (it.entity.clone(), record)).collect::<Vec<_>>()
        });
        let gone = deletes.iter().map(|it| (it.entity.clone(), it.record_id));
        let labels = desk.labels(named.chain(asked).chain(gone)).await?;
        let read = questions::logs_read(&desk.pool).await?;
        let unread = logs.into_iter().filter(|log| !read.contains(log)).collect();
        let matched = questions::matched(&desk.pool).await?;
        Ok(Self { matched, matches, questions, deletes, unread, labels })
    }
}

/// The logs that a plan hangs on.
pub(super) fn logs(desk: &Desk, settings: &Settings) -> Vec<String> {
    let two_sided = || desk.mapping.entities.iter().filter(|entity| entity.is_two_sided());
    let mut logs = Vec::new();
    if two_sided().next().is_some() {
        logs.push(Side::Directus.name().to_owned());
    }
    for base in settings.airtable.iter().flat_map(|airtable| &airtable.bases) {
        let is_its = |entity: &crate::mapping::Entity| {
            entity.airtable.as_ref().is_some_and(|table| table.base == base.name)
        };
        if two_sided().any(is_its) {
            logs.push(format!("{}:{}", Side::Airtable, base.id));
        }
    }
    logs
}

pub(super) fn as_text(plan: &Plan, around: &Around, is_all: bool, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if !around.unread.is_empty() {
        lines.push(format!(
            "{} not complete: the first copy of {} has not ended, and nobody knows yet who lacks what. `plait run` makes it",
            paint.yellow("!"),
            around.unread.join(", ")
        ));
    }
    counts(plan, paint, &mut lines);
    matched(around, is_all, paint, &mut lines);
    for question in &around.questions {
        lines.extend(question_text(question, around, paint));
    }
    for delete in &around.deletes {
        lines.push(delete_text(delete, &around.labels, paint));
    }
    writes(plan, paint, &mut lines);
    if plan.digest.is_empty() {
        lines.push("nothing waits for an approval: every field of every entity has one".into());
    } else {
        lines.push(format!(
            "Plan {}: nothing of it is written before `plait approve --yes`",
            paint.bold(short_digest(&plan.digest))
        ));
    }
    lines
}

/// Counts, an entity and side each.
fn counts(plan: &Plan, paint: Paint, lines: &mut Vec<String>) {
    for (entity, sides) in &plan.tallies {
        if !plan.unapproved.contains_key(entity) {
            continue;
        }
        lines.push(paint.bold(entity));
        let is_quiet = |tally: &&Tally| tally.is_empty() && tally.held + tally.questioned == 0;
        if sides.values().all(|tally| is_quiet(&tally)) {
            lines.push("  both sides hold what is canonical".into());
        }
        for (side, tally) in sides.iter().filter(|(_, tally)| !is_quiet(tally)) {
            lines.push(format!("  {side}: {}", words(tally)));
        }
    }
    for (entity, fields) in &plan.unapproved {
        if !plan.tallies.contains_key(entity) {
            lines.push(format!("{}: nothing is owed to either side", paint.bold(entity)));
        }
        if !fields.iter().any(|field| field == "*") {
            lines.push(format!("  {entity}: new fields only: {}", fields.join(", ")));
        }
    }
}

pub(super) fn words(tally: &Tally) -> String {
    let parts = [
        (tally.create, "to create".to_owned()),
        (tally.update, format!("to change ({} cells)", tally.cell)),
        (tally.id, "to be told their id".to_owned()),
        (tally.held, "cells wait for `plait conflicts`".to_owned()),
        (tally.questioned, "wait for a word on who they are".to_owned()),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if said.is_empty() { "nothing".into() } else { said.join(", ") }
}

fn matched(around: &Around, is_all: bool, paint: Paint, lines: &mut Vec<String>) {
    for it in &around.matched {
        lines.push(format!(
            "{} of {} found in the other side's by {}",
            it.count,
            paint.bold(&format!("{} on {}", it.entity, it.side)),
            it.matched_by
        ));
    }
    let total: i64 = around.matched.iter().map(|it| it.count).sum();
    for it in &around.matches {
        lines.push(paint.dim(&format!(
            "    {} {} = {} ({})",
            it.side,
            it.side_key,
            around.labels.of(&it.entity, it.record_id),
            it.matched_by
        )));
    }
    let left = total - i64::try_from(around.matches.len()).unwrap_or(total);
    if !is_all && left > 0 {
        lines.push(paint.dim(&format!("    … and {left} more: --all")));
    }
}

fn question_text(it: &Question, around: &Around, paint: Paint) -> Vec<String> {
    let label = around.labels.of(&it.entity, it.record_id);
    let mut lines = vec![format!(
        "{} question {}: {label} ({} {}): {}",
        paint.yellow("?"),
        paint.bold(&it.match_question_id.to_string()),
        it.side,
        it.side_key,
        it.reason
    )];
    for candidate in &it.candidates {
        let label = around.labels.of(&it.entity, *candidate);
        lines.push(format!("    may be {label} {}", paint.dim(&candidate.to_string())));
    }
    lines.push(format!(
        "    `plait approve match {} --same ID` or `--different`; until then none of them is created on the other side",
        it.match_question_id
    ));
    lines
}

pub(super) fn delete_text(it: &PendingDelete, labels: &Labels, paint: Paint) -> String {
    let author = it.author.as_deref().map_or_else(String::new, |author| format!(" by {author}"));
    let many = if it.stopped_by_count { ", among unusually many" } else { "" };
    format!(
        "{} {} {} still lives on {}: deleted on the other side{author} {}{many}",
        paint.yellow("-"),
        labels.of(&it.entity, it.record_id),
        paint.dim(&it.record_id.to_string()),
        it.side,
        local(it.found_at)
    )
}

/// The writes, by entity, side and kind.
fn writes(plan: &Plan, paint: Paint, lines: &mut Vec<String>) {
    let mut groups: BTreeMap<(&str, &str, PlannedKind), Vec<&PlannedWrite>> = BTreeMap::new();
    for write in &plan.writes {
        let group = (write.entity.as_str(), write.side.name(), write.kind);
        groups.entry(group).or_default().push(write);
    }
    for ((entity, side, kind), group) in groups {
        let (what, total) = match (kind, tally(&plan.tallies, entity, side)) {
            (PlannedKind::Create, tally) => ("to create", tally.create),
            (PlannedKind::Update, tally) => ("to change", tally.update),
            (PlannedKind::Id, tally) => ("to be told their id", tally.id),
        };
        lines.push(paint.bold(&format!("{entity} on {side}: {total} {what}")));
        let count = group.len();
        for write in group {
            lines.push(format!("  {} {}", write.label, paint.dim(&write.record.to_string())));
            for cell in write.cells.iter().filter(|_| kind != PlannedKind::Id) {
                let there = shown(Some(&cell.there));
                let canonical = shown(Some(&cell.canonical));
                let change = match kind {
                    PlannedKind::Create => canonical,
                    _ => format!("{there} → {canonical}"),
                };
                lines.push(format!("      {}: {change}", cell.field));
            }
        }
        let left = total.saturating_sub(count.try_into().unwrap_or(total));
        if left > 0 {
            lines.push(paint.dim(&format!("  … and {left} more: --all")));
        }
    }
}

fn tally(tallies: &Tallies, entity: &str, side: &str) -> Tally {
    tallies.get(entity).and_then(|sides| sides.get(side)).copied().unwrap_or_default()
}

pub(super) fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn as_json(plan: &Plan, around: &Around) -> serde_json::Value {
    let label = |entity: &str, record| around.labels.of(entity, record);
    let writes: Vec<_> = plan
        .writes
        .iter()
        .map(|it| {
            let cells: Vec<_> = it
                .cells
                .iter()
                .map(|cell| json!({ "field": cell.field, "there": cell.there, "canonical": cell.canonical }))
                .collect();
            json!({
                "kind": it.kind.name(), "entity": it.entity, "side": it.side.name(), "record_id": it.record,
                "record": it.label, "cells": cells,
            })
        })
        .collect();
    let matches: Vec<_> = around
        .matches
        .iter()
        .map(|it| {
            json!({
                "entity": it.entity, "side": it.side, "side_key": it.side_key, "record_id": it.record_id,
                "record": label(&it.entity, it.record_id), "matched_by": it.matched_by,
            })
        })
        .collect();
    let questions: Vec<_> = around
        .questions
        .iter()
        .map(|it| {
            json!({
                "id": it.match_question_id, "entity": it.entity, "side": it.side, "side_key": it.side_key,
                "record_id": it.record_id, "record": label(&it.entity, it.record_id), "reason": it.reason,
                "candidates": it.candidates.iter()
                    .map(|id| json!({ "record_id": id, "record": label(&it.entity, *id) })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let deletes: Vec<_> = around
        .deletes
        .iter()
        .map(|it| {
            json!({
                "entity": it.entity, "record_id": it.record_id, "record": label(&it.entity, it.record_id),
                "side": it.side, "found_at": it.found_at, "author": it.author, "stopped_by_count": it.stopped_by_count,
            })
        })
        .collect();
    json!({
        "digest": if plan.digest.is_empty() { None } else { Some(&plan.digest) },
        "is_complete": around.unread.is_empty(), "unread": around.unread,
        "unapproved": plan.unapproved, "tallies": plan.tallies, "writes": writes, "matches": matches,
        "questions": questions, "deletes": deletes,
    })
}

#[cfg(test)]
mod tests;
