//! `plait plan`: what would be written to either side once somebody accepts it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::bail;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    desk::{Desk, Who, local},
    names::Labels,
    settings,
    terminal::{Paint, say},
};
use crate::{
    capture::directus,
    config::Settings,
    mapping::Mapping,
    merge::SentCell,
    model::{EntityNo, Side, Value},
    store::{
        Books, WHOLE_RECORD,
        plan::{Planned, PlannedKind, Proposal, Stopped, Unapproved},
        recovery::Recovery,
    },
};

/// Characters of a digest that people are shown.
const DIGEST_SHOWN: usize = 12;

/// Shows what nobody has accepted yet: records that would be linked, created and overwritten on either side, cell by
/// cell. It reads the canonical database, and of Directus's no more than what its keys are;
/// it writes to no side. Until `plait approve`, plait writes nothing to
/// either; afterwards it writes what changes by itself. A field or an entity that is new in the mapping asks again,
/// for just that.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Every record and every cell; otherwise the first of each kind
    #[arg(long)]
    all: bool,
    /// How many records of each kind are shown
    #[arg(long, short = 'n', default_value_t = 5, value_name = "COUNT", conflicts_with = "all")]
    first: usize,
    /// One JSON object with every record and cell; docs/plan.md describes it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
}

const EXAMPLES: &str = "\
Examples:
  plait plan                 counts by side and entity, and the first records of each
  plait plan --all | less    all of it
  plait plan --json          for programs
  plait approve --yes        accepts the plan that was shown last, if it still holds";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, settings) = Desk::open(&arguments.config).await?;
    refuse_unfit_keys(&desk, &settings).await?;
    let books = books(&desk).await?;
    let proposal = books.proposal().await?;
    let count_max = if arguments.all { usize::MAX } else { arguments.first };
    show(&desk, &proposal, count_max, arguments.json).await?;
    if proposal.unread.is_empty() {
        books.note_shown(&proposal, &arguments.who.name()?).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a plan that rests on keys which do not tell rows apart. A Directus that cannot be asked now is passed over:
/// no run begins with such keys.
async fn refuse_unfit_keys(desk: &Desk, settings: &Settings) -> anyhow::Result<()> {
    let Some(section) = &settings.directus else { return Ok(()) };
    let unfit = directus::unfit_keys(&settings::source(section), &desk.mapping).await;
    let unfit = unfit.unwrap_or_default();
    if unfit.is_empty() { Ok(()) } else { bail!("{}", unfit.join("\n")) }
}

pub(super) async fn books(desk: &Desk) -> anyhow::Result<Books> {
    Ok(Books::of_reader(desk.pool.clone(), desk.mapping.clone(), desk.shapes.clone()).await?)
}

/// Says the plan, with up to `count_max` records of each kind.
pub(super) async fn show(
    desk: &Desk,
    proposal: &Proposal,
    count_max: usize,
    is_json: bool,
) -> anyhow::Result<()> {
    let labels = labels(desk, proposal).await?;
    if is_json {
        say(&as_json(&desk.mapping, proposal, &labels).to_string())?;
        return Ok(());
    }
    for line in as_text(&desk.mapping, proposal, &labels, count_max, Paint::for_stdout()) {
        if !say(&line)? {
            break;
        }
    }
    Ok(())
}

/// The lines of the whole plan, without colours.
#[cfg(test)]
pub(super) async fn told(desk: &Desk) -> anyhow::Result<Vec<String>> {
    let proposal = books(desk).await?.proposal().await?;
    let labels = labels(desk, &proposal).await?;
    Ok(as_text(&desk.mapping, &proposal, &labels, usize::MAX, Paint::none()))
}

pub(super) fn short_digest(digest: &str) -> String {
    digest.chars().take(DIGEST_SHOWN).collect()
}

pub(super) async fn stop_labels(desk: &Desk, stops: &[Stopped]) -> anyhow::Result<Labels> {
    let planned = stops.iter().flat_map(|stop| &stop.planned);
    desk.labels(planned.map(|it| (desk.mapping.entity(it.entity).name.clone(), it.record))).await
}

async fn labels(desk: &Desk, proposal: &Proposal) -> anyhow::Result<Labels> {
    let stopped = proposal.stops.iter().flat_map(|stop| &stop.planned);
    let planned = proposal
        .planned
        .iter()
        .chain(stopped)
        .map(|it| (desk.mapping.entity(it.entity).name.clone(), it.record));
    let linked = proposal.linked.iter().map(|it| (it.entity.clone(), it.record_id));
    let asked = proposal.questions.iter().flat_map(|it| {
        std::iter::once(it.record_id)
            .chain(it.candidates.iter().copied())
            .map(|record| (it.entity.clone(), record))
    });
    let doomed = proposal.doomed.iter().map(|it| (it.entity.clone(), it.record_id));
    let cells: Vec<(&str, &str, Json)> = proposal
        .planned
        .iter()
        .flat_map(|it| {
            let entity = desk.mapping.entity(it.entity);
            it.cells.iter().flat_map(|cell| {
                let field = entity.field(cell.field).name.as_str();
                [&cell.expected, &cell.value]
                    .map(|value| (entity.name.as_str(), field, value.to_json()))
            })
        })
        .collect();
    let cells = cells.iter().map(|(entity, field, value)| (*entity, *field, value));
    desk.labels_with_links(planned.chain(linked).chain(asked).chain(doomed), cells).await
}

fn as_text(
    mapping: &Mapping,
    proposal: &Proposal,
    labels: &Labels,
    count_max: usize,
    paint: Paint,
) -> Vec<String> {
    let mut lines = Vec::new();
    for why in &proposal.unread {
        lines.push(format!("{} this is not all yet: {why}", paint.yellow("!")));
    }
    for it in &proposal.recoveries {
        lines.extend(recovery_text(it, paint));
    }
    if proposal.is_settled() {
        lines.push("airtable, directus: everything of the mapping was accepted; plait writes what changes by itself".into());
    } else {
        for side in Side::ALL {
            lines.extend(side_text(mapping, proposal, side, labels, count_max, paint));
        }
        for it in &proposal.unapproved {
            if let Some(difference) = &it.difference {
                let entity = &mapping.entity(it.entity).name;
                let what = if it.field == WHOLE_RECORD { "records" } else { it.field.as_str() };
                lines.push(format!(
                    "{} {entity}: {what} ask again, since the mapping has changed: {difference}",
                    paint.yellow("!")
                ));
            }
        }
        if !proposal.unapproved.is_empty() {
            lines.push(covered_text(mapping, &proposal.unapproved));
        }
    }
    lines.extend(linked_text(proposal, labels, count_max, paint));
    for it in &proposal.questions {
        lines.push(format!(
            "{} question {}: {} may be the same: {}",
            paint.yellow("?"),
            it.match_question_id,
            labels.of(&it.entity, it.record_id),
            it.reason
        ));
        let candidates = it.candidates.iter();
        lines.extend(candidates.map(|id| format!("    as {} ({id})", labels.of(&it.entity, *id))));
        lines.push(format!(
            "    plait approve match {} --same ID, or --different",
            it.match_question_id
        ));
    }
    if !proposal.doomed.is_empty() {
        lines.push(format!(
            "{} {} deletes wait for a yes of their own: plait approve deletes",
            paint.yellow("?"),
            proposal.doomed.len()
        ));
    }
    let left_count = proposal.doomed.iter().filter(|it| it.has_left).count();
    if left_count > 0 {
        lines.push(format!(
            "  {left_count} of them left the rows of the other side that the mapping mirrors, and are still there"
        ));
    }
    for it in &proposal.stops {
        lines.extend(stop_text(mapping, it, labels, count_max, paint));
    }
    if proposal.held_count > 0 {
        lines.push(format!(
            "{} {} cells changed on both sides, and are not written: plait conflicts",
            paint.yellow("?"),
            proposal.held_count
        ));
    }
    if !proposal.is_settled() && proposal.unread.is_empty() {
        lines.push(format!(
            "plan {}: accept it with `plait approve --yes`",
            paint.bold(&short_digest(&proposal.digest))
        ));
    }
    lines
}

/// What went back in time, and what a yes does.
pub(super) fn recovery_text(it: &Recovery, paint: Paint) -> Vec<String> {
    let what = match it.subject.as_str() {
        "canonical" => String::from("the canonical database has"),
        "directus" => String::from("Directus's database has"),
        log => format!("{log} has"),
    };
    let mut lines = vec![
        format!("{} {what} gone back in time: {}", paint.yellow("!"), it.reason),
        format!(
            "    since {} nothing is written to any side. What is shown here is written once you say yes to it (docs/recovery.md)",
            local(it.begun_at)
        ),
    ];
    if it.question_count > 0 {
        lines.push(format!(
            "    {} cells hold values of which nobody can tell whether they are newer: plait conflicts",
            it.question_count
        ));
    }
    lines
}

fn side_text(
    mapping: &Mapping,
    proposal: &Proposal,
    side: Side,
    labels: &Labels,
    count_max: usize,
    paint: Paint,
) -> Vec<String> {
    let mut groups: BTreeMap<EntityNo, Vec<&Planned>> = BTreeMap::new();
    for planned in proposal.planned.iter().filter(|planned| planned.side == side) {
        groups.entry(planned.entity).or_default().push(planned);
    }
    if groups.is_empty() {
        return vec![format!("to {}: nothing", paint.bold(side.name()))];
    }
    let mut lines = vec![format!("to {}:", paint.bold(side.name()))];
    for (entity, records) in groups {
        let name = &mapping.entity(entity).name;
        lines.push(format!("  {name}: {}", counts_text(&records)));
        lines.extend(records_text(mapping, &records, labels, count_max, paint));
    }
    lines
}

/// A mass change that waits for a yes, and the first of what it would write.
pub(super) fn stop_text(
    mapping: &Mapping,
    stop: &Stopped,
    labels: &Labels,
    count_max: usize,
    paint: Paint,
) -> Vec<String> {
    let Stopped { change, planned } = stop;
    let id = change.mass_change_id;
    let mut lines = vec![format!(
        "{} mass change {id}: {} changed {} records of {} on {} at once, since {}; {} of them wait",
        paint.yellow("?"),
        change.by(),
        change.record_count,
        change.entity,
        change.side,
        local(change.since),
        change.held_count
    )];
    for side in Side::ALL {
        let records: Vec<&Planned> = planned.iter().filter(|it| it.side == side).collect();
        if !records.is_empty() {
            lines.push(format!("  to {}: {}", paint.bold(side.name()), counts_text(&records)));
            lines.extend(records_text(mapping, &records, labels, count_max, paint));
        }
    }
    lines.push(format!(
        "    plait approve changes {id} lets them through, plait undo changes {id} takes them back"
    ));
    lines
}

/// Up to `count_max` records of each kind.
fn records_text(
    mapping: &Mapping,
    records: &[&Planned],
    labels: &Labels,
    count_max: usize,
    paint: Paint,
) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in [PlannedKind::Create, PlannedKind::Update, PlannedKind::Delete] {
        // An id that is written back is no news to anybody, one by one.
        let is_told = |it: &&&Planned| {
            it.kind == kind && (kind != PlannedKind::Update || !it.cells.is_empty())
        };
        let told: Vec<&&Planned> = records.iter().filter(is_told).collect();
        for it in told.iter().take(count_max) {
            lines.extend(record_text(mapping, it, labels, paint));
        }
        if told.len() > count_max {
            let rest = format!("    … and {} more (--all)", told.len() - count_max);
            lines.push(paint.dim(&rest));
        }
    }
    lines
}

fn counts_text(records: &[&Planned]) -> String {
    let count = |kind| records.iter().filter(|it| it.kind == kind).count();
    let changed: Vec<&&Planned> = records
        .iter()
        .filter(|it| it.kind == PlannedKind::Update && !it.cells.is_empty())
        .collect();
    let cell_count: usize = changed.iter().map(|it| it.cells.len()).sum();
    let id_count = records.iter().filter(|it| it.writes_id).count();
    let mut parts = Vec::new();
    for (count, text) in [
        (count(PlannedKind::Create), "created".to_owned()),
        (changed.len(), format!("overwritten ({cell_count} cells)")),
        (count(PlannedKind::Delete), "deleted".to_owned()),
        (id_count, "told their id".to_owned()),
    ] {
        if count > 0 {
            parts.push(format!("{count} {text}"));
        }
    }
    parts.join(", ")
}

fn record_text(mapping: &Mapping, it: &Planned, labels: &Labels, paint: Paint) -> Vec<String> {
    let entity = mapping.entity(it.entity);
    let name = labels.of(&entity.name, it.record);
    let sign = match it.kind {
        PlannedKind::Create => paint.green("+"),
        PlannedKind::Update => paint.yellow("~"),
        PlannedKind::Delete => paint.red("-"),
    };
    let cell = |cell: &SentCell| {
        let field = &entity.field(cell.field).name;
        let shown = |value: &Value| labels.value(&entity.name, field, Some(&value.to_json()));
        let after = shown(&cell.value);
        match it.kind {
            PlannedKind::Create => format!("{field} {after}"),
            _ => format!("{field}: {} → {after}", shown(&cell.expected)),
        }
    };
    let cells: Vec<String> = it.cells.iter().map(cell).collect();
    match it.kind {
        PlannedKind::Create => vec![format!("    {sign} {name}: {}", cells.join(", "))],
        _ => std::iter::once(format!("    {sign} {name}"))
            .chain(cells.into_iter().map(|cell| format!("        {cell}")))
            .collect(),
    }
}

fn linked_text(
    proposal: &Proposal,
    labels: &Labels,
    count_max: usize,
    paint: Paint,
) -> Vec<String> {
    let mut groups: BTreeMap<(&str, &str), Vec<(Uuid, &str, &str)>> = BTreeMap::new();
    for it in &proposal.linked {
        let group = groups.entry((&it.entity, &it.matched_by)).or_default();
        group.push((it.record_id, &it.side, &it.side_key));
    }
    let mut lines = Vec::new();
    for ((entity, by), records) in groups {
        lines.push(format!("linked: {} {entity} by {by}", records.len()));
        for (record, side, key) in records.iter().take(count_max) {
            lines.push(format!("    = {} is {side} {key}", labels.of(entity, *record)));
        }
        if records.len() > count_max {
            let rest = format!("    … and {} more (--all)", records.len() - count_max);
            lines.push(paint.dim(&rest));
        }
    }
    lines
}

/// Which fields a yes covers: all, or just the new ones.
fn covered_text(mapping: &Mapping, unapproved: &[Unapproved]) -> String {
    let mut by_entity: BTreeMap<EntityNo, Vec<&str>> = BTreeMap::new();
    for it in unapproved {
        by_entity.entry(it.entity).or_default().push(&it.field);
    }
    let texts: Vec<String> = by_entity
        .into_iter()
        .map(|(entity, fields)| {
            let described = mapping.entity(entity);
            if fields.len() > described.fields.len() {
                described.name.clone()
            } else {
                format!("{} ({})", described.name, fields.join(", "))
            }
        })
        .collect();
    format!("a yes covers {}", texts.join(", "))
}

fn as_json(mapping: &Mapping, proposal: &Proposal, labels: &Labels) -> Json {
    let name = |entity: EntityNo| mapping.entity(entity).name.as_str();
    let write = |it: &Planned| {
        let entity = mapping.entity(it.entity);
        let cells: Vec<Json> = it
            .cells
            .iter()
            .map(|cell| {
                json!({
                    "field": entity.field(cell.field).name,
                    "before": cell.expected.to_json(),
                    "after": cell.value.to_json(),
                })
            })
            .collect();
        json!({
            "side": it.side.name(),
            "entity": entity.name,
            "record": it.record,
            "key": it.key.as_ref().map(|key| &*key.0),
            "label": labels.of(&entity.name, it.record),
            "kind": it.kind.name(),
            "writes_id": it.writes_id,
            "cells": cells,
        })
    };
    let stops = proposal.stops.iter().map(|it| {
        let change = &it.change;
        json!({
            "id": change.mass_change_id, "entity": change.entity, "side": change.side, "by": change.by(),
            "via": change.via, "since": change.since, "record_count": change.record_count,
            "held_count": change.held_count, "writes": it.planned.iter().map(write).collect::<Vec<_>>(),
        })
    });
    let linked = proposal.linked.iter().map(|it| {
        json!({ "entity": it.entity, "record": it.record_id, "side": it.side, "key": it.side_key, "by": it.matched_by })
    });
    let questions = proposal.questions.iter().map(|it| {
        json!({
            "id": it.match_question_id, "entity": it.entity, "side": it.side, "key": it.side_key,
            "record": it.record_id, "candidates": it.candidates, "reason": it.reason, "asked_at": it.asked_at,
        })
    });
    let deletes = proposal.doomed.iter().map(|it| {
        json!({
            "entity": it.entity, "record": it.record_id, "side": it.side, "found_at": it.found_at,
            "stopped_by_count": it.stopped_by_count, "has_left_rows": it.has_left,
        })
    });
    let covers = proposal.unapproved.iter().map(
        |it| json!({ "entity": name(it.entity), "field": it.field, "changed": it.difference }),
    );
    let recoveries = proposal.recoveries.iter().map(|it| {
        json!({ "subject": it.subject, "reason": it.reason, "begun_at": it.begun_at, "question_count": it.question_count })
    });
    json!({
        "digest": proposal.digest,
        "is_whole": proposal.unread.is_empty(),
        "unread": proposal.unread,
        "recoveries": recoveries.collect::<Vec<_>>(),
        "covers": covers.collect::<Vec<_>>(),
        "writes": proposal.planned.iter().map(write).collect::<Vec<_>>(),
        "links": linked.collect::<Vec<_>>(),
        "questions": questions.collect::<Vec<_>>(),
        "deletes": deletes.collect::<Vec<_>>(),
        "mass_changes": stops.collect::<Vec<_>>(),
        "held_cells": proposal.held_count,
    })
}
