//! `plait watch`: each change as it happens.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use chrono::Local;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    settings,
    terminal::{Paint, say},
};
use crate::store::reading::{self, HistoryLine};

/// Follows the journal of the canonical database, whether or not a `plait run` is at work now.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Begin with this many past entries
    #[arg(long, short = 'n', default_value_t = 10, value_name = "COUNT")]
    last: u32,
    /// Only this entity, as the mapping calls it
    #[arg(long, value_name = "NAME")]
    entity: Option<String>,
    /// Only changes made on this side
    #[arg(long, value_parser = ["airtable", "directus"])]
    side: Option<String>,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
    /// Print what there is and end
    #[arg(long)]
    once: bool,
}

/// Entries fetched at a time.
const ENTRY_COUNT_MAX: i64 = 500;
/// How often an idle journal is looked at: a change is on screen within this time.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let pool = settings::pool(&settings).await?;
    let paint = Paint::for_stdout();
    let mut after = reading::journal_id_before_last(&pool, i64::from(arguments.last)).await?;
    if !arguments.json && !arguments.once {
        say(&paint.dim("following the journal; Ctrl-C ends it"))?;
    }
    loop {
        let seen = show(&pool, &arguments, paint, after).await?;
        match seen {
            None => return Ok(ExitCode::SUCCESS),
            Some(last) if last > after => after = last,
            Some(_) if arguments.once => return Ok(ExitCode::SUCCESS),
            Some(_) => tokio::select! {
                () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
                () = tokio::time::sleep(PAUSE) => {}
            },
        }
    }
}

/// Prints the entries after `after`; the last one's id, or `None` when nobody reads any more.
async fn show(
    pool: &PgPool,
    arguments: &Arguments,
    paint: Paint,
    after: i64,
) -> anyhow::Result<Option<i64>> {
    let lines = reading::history_after(pool, after, ENTRY_COUNT_MAX).await?;
    let last = lines.last().map_or(after, |line| line.journal_id);
    for line in lines {
        let is_wanted = arguments.entity.as_ref().is_none_or(|entity| *entity == line.entity)
            && arguments.side.as_ref().is_none_or(|side| *side == line.side);
        if is_wanted {
            let text = if arguments.json { as_json(&line) } else { as_text(&line, paint) };
            if !say(&text)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(last))
}

fn as_json(line: &HistoryLine) -> String {
    json!({
        "at": line.at, "side": line.side, "author": line.author, "entity": line.entity,
        "record_id": line.record_id, "action": line.action, "field": line.field,
        "before": line.before, "after": line.after,
    })
    .to_string()
}

fn as_text(line: &HistoryLine, paint: Paint) -> String {
    let at = line.at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string();
    // The end of it: ids made in one minute begin alike.
    let id: String = line.record_id.simple().to_string().chars().skip(24).collect();
    let what = match (&line.field, line.action.as_str()) {
        (None, action) => paint.bold(action),
        (Some(field), "create") => {
            format!("{} {field} = {}", paint.green("new"), value(line.after.as_ref()))
        }
        (Some(field), "delete") => {
            format!("{} {field} was {}", paint.red("deleted"), value(line.before.as_ref()))
        }
        (Some(field), _) => {
            format!(
                "{field}: {} → {}",
                paint.dim(&value(line.before.as_ref())),
                paint.bold(&value(line.after.as_ref()))
            )
        }
    };
    let (side, author) = (&line.side, short(&line.author, 24));
    format!("{}  {side:8}  {author:24}  {} {}  {what}", paint.dim(&at), line.entity, paint.dim(&id))
}

/// A value on one line, shortened.
fn value(json: Option<&Value>) -> String {
    match json {
        None | Some(Value::Null) => "∅".into(),
        Some(Value::String(text)) => short(text, 60),
        Some(Value::Array(elements)) => {
            let texts: Vec<String> = elements
                .iter()
                .map(|element| element.as_str().map_or_else(|| element.to_string(), str::to_owned))
                .collect();
            short(&texts.join(", "), 60)
        }
        Some(other) => short(&other.to_string(), 60),
    }
}

fn short(text: &str, width: usize) -> String {
    let one_line = text.replace(|letter: char| letter.is_control(), " ");
    if one_line.chars().count() <= width {
        return one_line;
    }
    let mut short: String = one_line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::{short, value};

    #[test]
    fn watch_value_is_one_short_line() {
        assert_eq!(value(None), "∅");
        assert_eq!(value(Some(&"a\nb".into())), "a b");
        assert_eq!(value(Some(&serde_json::json!(["x", "y"]))), "x, y");
        assert_eq!(short("élève", 4), "élè…");
    }
}
