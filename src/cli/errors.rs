//! `plait errors`: what did not go through, in plain words.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use serde_json::json;

use super::{
    desk::{Desk, instead, local, shown},
    names::Labels,
    terminal::{Paint, say},
};
use crate::store::parked::{self, Parked, Refused, Stuck};

/// Lists what a side did not take of what it was sent, and what of a side could not be taken here. Neither holds
/// anything else up. A side that takes no writes at all comes first, with the number of records that it is owed and why. What was mended goes through by itself: a value that changes is tried at once, one that comes
/// in is read again when its side changes it.
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
  plait errors                       each one's id, place, reason and remedy
  plait errors retry p3f2a1c9e --yes tries one again now, for instance after giving a right in Directus
  plait errors retry --all --yes     tries all again
  plait errors skip p3f2a1c9e --yes  leaves that cell as it is on that side until its value changes";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Try what a side did not take again, now
    Retry(Retry),
    /// Leave a cell as it is on that side, until its value changes
    Skip(Skip),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Those that were skipped too
    #[arg(long)]
    all: bool,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Retry {
    /// As the list has them
    #[arg(required_unless_present = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All of them, those that were skipped too
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Skip {
    /// As the list has them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => list(arguments.list).await,
        Some(Action::Retry(retry)) => {
            let (desk, _) = Desk::open(&retry.config).await?;
            let chosen = choose(&desk, if retry.all { None } else { Some(&retry.ids) }).await?;
            show(&desk, &chosen).await?;
            if chosen.is_empty() || !retry.yes {
                say(&preview(chosen.len(), "would be tried again at once"))?;
                return Ok(ExitCode::SUCCESS);
            }
            let ids: Vec<String> = chosen.into_iter().map(|it| it.id).collect();
            let count = parked::retry(&desk.pool, &ids).await?;
            say(&format!(
                "{count} will be tried again at once; `plait errors` says what came of it"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Skip(skip)) => {
            let (desk, _) = Desk::open(&skip.config).await?;
            let chosen = choose(&desk, Some(&skip.ids)).await?;
            show(&desk, &chosen).await?;
            if !skip.yes {
                say(&preview(
                    chosen.len(),
                    "would be left as they are there until their value changes",
                ))?;
                return Ok(ExitCode::SUCCESS);
            }
            let ids: Vec<String> = chosen.into_iter().map(|it| it.id).collect();
            let count = parked::skip(&desk.pool, &ids).await?;
            say(&format!(
                "{count} will be left as they are until their value changes; `plait errors retry` tries them again"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn preview(count: usize, what: &str) -> String {
    match count {
        0 => "nothing is parked: all that was sent was taken".into(),
        count => format!("{count} {what}; --yes does it"),
    }
}

async fn show(desk: &Desk, chosen: &[Parked]) -> anyhow::Result<()> {
    let labels = labels(desk, chosen, &[]).await?;
    let paint = Paint::for_stdout();
    for it in chosen {
        say(&parked_text(it, &labels, paint))?;
    }
    Ok(())
}

/// The parked rows that `ids` name; all without.
pub(super) async fn choose(desk: &Desk, ids: Option<&[String]>) -> anyhow::Result<Vec<Parked>> {
    let all = parked::parked(&desk.pool, true).await?;
    let Some(ids) = ids else { return Ok(all) };
    let mut chosen = Vec::new();
    for id in ids {
        if let Some(found) = all.iter().find(|it| it.id == *id) {
            chosen.push(found.clone());
            continue;
        }
        if parked::refused(&desk.pool).await?.iter().any(|it| it.id == *id) {
            bail!(
                "`{id}` is a value that came from a side and does not fit: correct it there, and it is read again by itself"
            );
        }
        bail!(
            "there is no parked write `{id}`{}",
            instead(id, all.iter().map(|it| it.id.as_str()))
        );
    }
    Ok(chosen)
}

async fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    for line in lines(&desk, arguments.all, arguments.json, Paint::for_stdout()).await? {
        if !say(&line)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to be said.
pub(super) async fn lines(
    desk: &Desk,
    is_all: bool,
    is_json: bool,
    paint: Paint,
) -> anyhow::Result<Vec<String>> {
    let parked = parked::parked(&desk.pool, is_all).await?;
    let refused = parked::refused(&desk.pool).await?;
    let stuck = parked::stuck(&desk.pool).await?;
    let labels = labels(desk, &parked, &refused).await?;
    let mut lines = Vec::new();
    if is_json {
        lines.extend(stuck.iter().map(stuck_json));
        lines.extend(parked.iter().map(|it| parked_json(it, &labels)));
        lines.extend(refused.iter().map(|it| refused_json(it, &labels)));
        return Ok(lines);
    }
    if parked.is_empty() && refused.is_empty() && stuck.is_empty() {
        lines.push(
            "no errors: all that was sent was taken, and all that was read was understood".into(),
        );
    }
    lines.extend(stuck.iter().map(|it| stuck_text(it, paint)));
    if !parked.is_empty() {
        lines.push(paint.bold("Not taken by a side (`plait errors retry ID`, `skip ID`):"));
    }
    lines.extend(parked.iter().map(|it| parked_text(it, &labels, paint)));
    if !refused.is_empty() {
        lines.push(
            paint.bold(
                "Of a side, and not taken here (correct it there; it is read again by itself):",
            ),
        );
    }
    lines.extend(refused.iter().map(|it| refused_text(it, &labels, paint)));
    Ok(lines)
}

async fn labels(desk: &Desk, parked: &[Parked], refused: &[Refused]) -> anyhow::Result<Labels> {
    let known = refused.iter().filter_map(|it| Some((it.entity.clone(), it.record_id?)));
    desk.labels(parked.iter().map(|it| (it.entity.clone(), it.record_id)).chain(known)).await
}

/// A side that takes nothing, or has not yet: what it is owed, and why nothing goes on where that is known.
fn stuck_text(it: &Stuck, paint: Paint) -> String {
    let records = match it.record_count {
        1 => "1 record is".to_owned(),
        count => format!("{count} records are"),
    };
    let mut text = format!(
        "{}: {records} still to be written there, the oldest since {}",
        paint.bold(&it.side),
        local(it.oldest_at)
    );
    for incident in &it.incidents {
        text.push_str(&format!("\n      {}", paint.red(incident)));
    }
    text
}

fn stuck_json(it: &Stuck) -> String {
    json!({
        "kind": "owed", "side": it.side, "record_count": it.record_count, "oldest_at": it.oldest_at,
        "incidents": it.incidents,
    })
    .to_string()
}

fn parked_text(it: &Parked, labels: &Labels, paint: Paint) -> String {
    let cell = if it.field == "*" { "the whole record" } else { it.field.as_str() };
    let skipped = it.skipped_at.map_or_else(String::new, |at| {
        format!("\n      {}", paint.dim(&format!("skipped {}", local(at))))
    });
    format!(
        "  {}  {} · {} on {}: {}\n      {}{skipped}",
        paint.bold(&it.id),
        labels.of(&it.entity, it.record_id),
        paint.bold(cell),
        it.side,
        it.reason,
        paint.dim(&format!("since {}, {}", local(it.parked_at), tries(it.try_count))),
    )
}

fn tries(count: i32) -> String {
    if count == 1 { "tried once".into() } else { format!("tried {count} times") }
}

fn refused_text(it: &Refused, labels: &Labels, paint: Paint) -> String {
    let record = it.record_id.map_or_else(
        || format!("{} {}", it.entity, it.side_key),
        |record| labels.of(&it.entity, record),
    );
    let cell = if it.field == "*" || it.field.is_empty() { "the whole record" } else { &it.field };
    let held = it.raw.as_ref().map_or_else(String::new, |raw| {
        let by = it.author.as_deref().map_or_else(String::new, |author| format!(" by {author}"));
        format!(", {} entered{by}", shown(Some(raw)))
    });
    format!(
        "  {}  {record} ({}) · {} on {}: {}\n      {}",
        paint.bold(&it.id),
        it.side_key,
        paint.bold(cell),
        it.side,
        it.reason,
        paint.dim(&format!("since {}{held}", local(it.refused_at))),
    )
}

fn parked_json(it: &Parked, labels: &Labels) -> String {
    json!({
        "id": it.id, "kind": "parked", "side": it.side, "entity": it.entity, "record_id": it.record_id,
        "record": labels.of(&it.entity, it.record_id), "field": it.field, "code": it.code, "reason": it.reason,
        "value": it.value, "parked_at": it.parked_at, "try_count": it.try_count, "skipped_at": it.skipped_at,
    })
    .to_string()
}

fn refused_json(it: &Refused, labels: &Labels) -> String {
    let record = it.record_id.map(|record| labels.of(&it.entity, record));
    json!({
        "id": it.id, "kind": "refused", "side": it.side, "entity": it.entity, "side_key": it.side_key,
        "record_id": it.record_id, "record": record, "field": it.field, "code": it.kind, "reason": it.reason,
        "refused_at": it.refused_at, "raw": it.raw, "at": it.at, "author": it.author,
    })
    .to_string()
}
