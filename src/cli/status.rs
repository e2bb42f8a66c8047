//! `plait status`: how far each side has been read, in words.

use std::{path::PathBuf, process::ExitCode};

use chrono::{DateTime, Local, Utc};
use serde_json::json;

use super::{
    settings,
    terminal::{Paint, say},
};
use crate::store::reading::{self, Counts, LogStatus, OpenIncident};

/// Says, for each side: position, lag, last change, state. The exit code is 0 only when a `plait run` is at
/// work and follows every side, so that it serves as a health check.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// A report older than this is history.
const REPORT_AGE_S_MAX: i64 = 15;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let pool = settings::pool(&settings).await?;
    let is_running = reading::is_running(&pool).await?;
    let logs = reading::log_statuses(&pool).await?;
    let incidents = reading::open_incidents(&pool).await?;
    let counts = reading::counts(&pool).await?;
    let now = Utc::now();
    let is_well = is_running
        && !logs.is_empty()
        && logs.iter().all(|log| {
            (now - log.reported_at).num_seconds() <= REPORT_AGE_S_MAX
                && matches!(log.state.as_str(), "streaming" | "copying")
        });
    if arguments.json {
        say(&as_json(is_running, is_well, &logs, &incidents, counts))?;
    } else {
        for line in as_text(is_running, &logs, &incidents, counts, now) {
            if !say(&line)? {
                break;
            }
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(
    is_running: bool,
    is_well: bool,
    logs: &[LogStatus],
    incidents: &[OpenIncident],
    counts: Counts,
) -> String {
    let logs: Vec<_> = logs
        .iter()
        .map(|log| {
            json!({
                "log": log.log, "side": log.side, "state": log.state, "words": log.words,
                "position": log.position, "lag_bytes": log.lag_bytes, "lag_ms": log.lag_ms,
                "last_change_at": log.last_change_at, "reported_at": log.reported_at,
            })
        })
        .collect();
    let incidents: Vec<_> = incidents
        .iter()
        .map(|incident| {
            json!({
                "log": incident.log, "code": incident.code, "text": incident.text,
                "opened_at": incident.opened_at, "seen_count": incident.seen_count,
            })
        })
        .collect();
    json!({
        "is_running": is_running, "is_well": is_well, "logs": logs, "incidents": incidents,
        "held_count": counts.held_count, "refusal_count": counts.refusal_count,
    })
    .to_string()
}

fn as_text(
    is_running: bool,
    logs: &[LogStatus],
    incidents: &[OpenIncident],
    counts: Counts,
    now: DateTime<Utc>,
) -> Vec<String> {
    let paint = Paint::for_stdout();
    let mut lines = vec![if is_running {
        format!("plait {}", paint.green("is running"))
    } else {
        format!(
            "plait {}; what follows is as of its last run. `plait run` starts it",
            paint.red("is not running")
        )
    }];
    if logs.is_empty() {
        lines.push("nothing has been read yet".into());
    }
    for log in logs {
        let state = match log.state.as_str() {
            "streaming" | "copying" => paint.green(&log.words),
            _ => paint.yellow(&log.words),
        };
        lines.push(format!("{}: {state}", paint.bold(&log.log)));
        let mut facts = Vec::new();
        if let Some(position) = &log.position {
            facts.push(format!("position {position}"));
        }
        if let Some(bytes) = log.lag_bytes {
            facts.push(format!("{bytes} bytes behind"));
        }
        if let Some(ms) = log.lag_ms {
            facts.push(format!("{}.{:03} s behind", ms / 1000, ms % 1000));
        }
        facts.push(match log.last_change_at {
            Some(at) => format!("last change {} ({} ago)", local(at), age(now - at)),
            None => "no change seen yet".into(),
        });
        if (now - log.reported_at).num_seconds() > REPORT_AGE_S_MAX {
            facts.push(format!("reported {} ago", age(now - log.reported_at)));
        }
        lines.push(format!("  {}", facts.join(" · ")));
    }
    for incident in incidents {
        let since = local(incident.opened_at);
        lines.push(format!(
            "{} {}: {} (since {since})",
            paint.yellow("!"),
            incident.log,
            incident.text
        ));
    }
    if counts.held_count > 0 {
        lines.push(format!(
            "{} {} cells changed on both sides wait for a decision: `plait conflicts` shows them",
            paint.yellow("!"),
            counts.held_count
        ));
    }
    if counts.refusal_count > 0 {
        lines.push(format!(
            "{} {} cells could not be taken: `plait errors` says why",
            paint.yellow("!"),
            counts.refusal_count
        ));
    }
    lines
}

fn local(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time span for people.
fn age(span: chrono::TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::age;

    #[test]
    fn status_age_is_in_the_fitting_unit() {
        for (seconds, text) in
            [(-3, "0 s"), (90, "90 s"), (600, "10 min"), (9_000, "2 h"), (200_000, "2 days")]
        {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }
}
