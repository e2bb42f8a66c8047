//! `plait status`: how far each side has been read, in words.

use std::{path::PathBuf, process::ExitCode};

use chrono::{DateTime, Local, Utc};
use serde_json::json;

use super::{
    plan, settings,
    terminal::{Paint, say},
    waiting::{status_json, status_lines},
};
use crate::{
    config,
    pipeline::log_kept,
    remote::airtable::{Pace, forecast, this_month},
    store::{
        budget,
        lease::Holder,
        passage,
        reading::{self, Counts, OpenIncident},
        recovery::{self, Recovery},
        vitals::{self, LogStatus, Place, TaskStatus},
        waiting::{Waiting, waiting},
    },
};

/// Says, for each side: position, lag, last change, state; and what does not work. The exit code is 0 only when a
/// `plait run` is at work, follows every side, writes what it reads, and each of its tasks lives, so that it serves as a
/// health check.
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
/// A plait shows every second that it lives.
const BEAT_AGE_S_MAX: f64 = 15.0;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let pool = settings::pool(&settings).await?;
    let place = vitals::place(&pool).await?;
    let standbys = vitals::standbys(&pool).await?;
    let logs = vitals::log_statuses(&pool).await?;
    let tasks = vitals::tasks(&pool).await?;
    let incidents = reading::open_incidents(&pool).await?;
    let counts = reading::counts(&pool).await?;
    let recoveries = recovery::open(&pool).await?;
    let unread = recovery::unread_logs(&pool).await?;
    let waiting = waiting(&pool).await?;
    let outside = passage::outside_counts(&pool).await?;
    let now = Utc::now();
    let budget = Budget {
        calls: budget::calls(&pool, this_month()).await?,
        pace: Pace::of(&budget::calls_by_day(&pool).await?, now),
        settings: settings.airtable.as_ref(),
    };
    let line = Line { place, standbys, logs, tasks, is_recovering: !recoveries.is_empty(), now };
    let is_well = line.is_well();
    if arguments.json {
        let budget = budget.as_json(now);
        let mut json = as_json(&line, &incidents, counts, &waiting, &budget);
        json["recoveries"] = recoveries.iter().map(|it| as_recovery(it, &unread)).collect();
        say(&json.to_string())?;
    } else {
        let mut lines = as_text(&line, &incidents, counts);
        for it in &recoveries {
            lines.splice(1..1, recovery_text(it, &unread));
        }
        lines.extend(status_lines(&waiting));
        lines.extend(outside.iter().map(|(side, entity, count)| {
            format!("{side}: {count} of {entity} are outside the rows that are mirrored: nothing is written to them")
        }));
        lines.extend(budget.as_text(now));
        for line in lines {
            if !say(&line)? {
                break;
            }
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How the plait that runs is doing.
struct Line {
    place: Option<Place>,
    standbys: Vec<Holder>,
    logs: Vec<LogStatus>,
    tasks: Vec<TaskStatus>,
    /// The way out is shut until somebody says yes.
    is_recovering: bool,
    now: DateTime<Utc>,
}

impl Line {
    /// Whether somebody mirrors, and shows that they live.
    fn is_running(&self) -> bool {
        self.place.is_some()
    }

    /// Everything that is wrong, in words; none: all is well.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(age_s) = self.place.as_ref().and_then(|place| place.beat_age_s)
            && age_s > BEAT_AGE_S_MAX
        {
            troubles.push(format!(
                "plait has given no sign of life for {age_s:.0} s: it is frozen, or cut off from the canonical database"
            ));
        }
        for task in
            self.tasks.iter().filter(|task| self.is_young(task.reported_at) && !task.is_well)
        {
            let since = task.since.map(|since| format!(" (for {})", age(self.now - since)));
            troubles.push(format!("{}: {}{}", task.task, task.words, since.unwrap_or_default()));
        }
        if self.is_running() && !self.tasks.iter().any(|task| self.is_young(task.reported_at)) {
            troubles.push(String::from("plait does not say how its tasks are doing"));
        }
        troubles.extend(
            self.logs.iter().filter_map(|log| Some(format!("{}: {}", log.log, log_kept(log)?))),
        );
        troubles
    }

    fn is_young(&self, at: DateTime<Utc>) -> bool {
        (self.now - at).num_seconds() <= REPORT_AGE_S_MAX
    }

    fn is_well(&self) -> bool {
        let follows = |log: &LogStatus| {
            self.is_young(log.reported_at) && matches!(log.state.as_str(), "streaming" | "copying")
        };
        self.is_running()
            && !self.is_recovering
            && !self.logs.is_empty()
            && self.logs.iter().all(follows)
            && self.troubles().is_empty()
    }
}

fn as_json(
    line: &Line,
    incidents: &[OpenIncident],
    counts: Counts,
    waiting: &[Waiting],
    budget: &serde_json::Value,
) -> serde_json::Value {
    let logs: Vec<_> = line
        .logs
        .iter()
        .map(|log| {
            json!({
                "log": log.log, "side": log.side, "state": log.state, "words": log.words,
                "position": log.position, "lag_bytes": log.lag_bytes, "lag_ms": log.lag_ms,
                "last_change_at": log.last_change_at, "reported_at": log.reported_at,
                "retained_bytes": log.retained_bytes, "retained_bytes_max": log.retained_bytes_max,
                "wal_status": log.wal_status,
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
    let tasks: Vec<_> = line
        .tasks
        .iter()
        .map(|task| {
            json!({
                "task": task.task, "is_well": task.is_well, "words": task.words, "since": task.since,
                "beat_at": task.beat_at, "reported_at": task.reported_at,
            })
        })
        .collect();
    let standbys: Vec<_> = line
        .standbys
        .iter()
        .map(|it| json!({ "host": it.host, "process": it.process_pid }))
        .collect();
    json!({
        "is_running": line.is_running(), "is_well": line.is_well(), "troubles": line.troubles(),
        "logs": logs, "tasks": tasks, "standbys": standbys, "incidents": incidents,
        "held_count": counts.held_count, "refusal_count": counts.refusal_count, "waiting": status_json(waiting),
        "api_calls": budget,
    })
}

fn as_recovery(it: &Recovery, unread: &[(String, String)]) -> serde_json::Value {
    let mine = unread.iter().filter(|(subject, _)| *subject == it.subject);
    json!({
        "subject": it.subject, "reason": it.reason, "begun_at": it.begun_at,
        "question_count": it.question_count, "unread": mine.map(|(_, log)| log).collect::<Vec<_>>(),
    })
}

/// What went back in time, and what to do about it.
fn recovery_text(it: &Recovery, unread: &[(String, String)]) -> Vec<String> {
    let mut lines = plan::recovery_text(it, Paint::for_stdout());
    let mine = unread.iter().filter(|(subject, _)| *subject == it.subject);
    let logs: Vec<&str> = mine.map(|(_, log)| log.as_str()).collect();
    lines.push(if logs.is_empty() {
        "    all is read: `plait plan` shows what would be written, `plait approve --yes` opens the way out".into()
    } else {
        format!("    is being read whole: {}; then `plait plan` shows what would be written", logs.join(", "))
    });
    lines
}

fn as_text(line: &Line, incidents: &[OpenIncident], counts: Counts) -> Vec<String> {
    let paint = Paint::for_stdout();
    let (logs, now) = (&line.logs, line.now);
    let mut lines = vec![if let Some(Place { holder, .. }) = &line.place {
        let pid = holder.process_pid.unwrap_or_default();
        format!("plait {}: process {pid} on {}", paint.green("is running"), holder.host)
    } else {
        format!(
            "plait {}; what follows is as of its last run. `plait run` starts it",
            paint.red("is not running")
        )
    }];
    for standby in &line.standbys {
        let pid = standby.process_pid.unwrap_or_default();
        lines.push(format!(
            "process {pid} on {} stands by: it takes over when the one that runs is gone",
            standby.host
        ));
    }
    for trouble in line.troubles() {
        lines.push(format!("{} {trouble}", paint.yellow("!")));
    }
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
        if let Some(bytes) = log.retained_bytes {
            let kept = grouped(u64::try_from(bytes / 1024).unwrap_or_default());
            let max = log.retained_bytes_max.and_then(|max| u64::try_from(max / 1024).ok());
            let max =
                max.map_or_else(|| "no limit".into(), |max| format!("at most {}", grouped(max)));
            facts.push(format!("{kept} KiB of its log kept for plait ({max})"));
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

/// The calls to Airtable of this month.
struct Budget<'a> {
    /// By base id.
    calls: Vec<(String, u64)>,
    pace: Option<Pace>,
    settings: Option<&'a config::Airtable>,
}

impl Budget<'_> {
    fn used(&self) -> u64 {
        self.calls.iter().map(|(_, count)| count).sum()
    }

    fn forecast(&self, now: DateTime<Utc>) -> u64 {
        forecast(self.used(), self.pace, now)
    }

    fn limit(&self) -> Option<u64> {
        self.settings.and_then(|settings| settings.monthly_call_count_max)
    }

    /// As the settings call the base; its id where they do not.
    fn name<'b>(&'b self, id: &'b str) -> &'b str {
        let bases = self.settings.map_or(&[][..], |settings| &settings.bases);
        bases.iter().find(|base| base.id == id).map_or(id, |base| base.name.as_str())
    }

    fn as_json(&self, now: DateTime<Utc>) -> serde_json::Value {
        let bases: serde_json::Map<_, _> =
            self.calls.iter().map(|(id, count)| (self.name(id).to_owned(), json!(count))).collect();
        json!({
            "month": this_month(), "used": self.used(), "forecast": self.forecast(now),
            "calls_per_day": self.pace.map(Pace::calls_per_day), "limit": self.limit(), "by_base": bases,
        })
    }

    fn as_text(&self, now: DateTime<Utc>) -> Vec<String> {
        if self.calls.is_empty() {
            return Vec::new();
        }
        let (used, forecast) = (grouped(self.used()), self.forecast(now));
        let paint = Paint::for_stdout();
        let bases: Vec<String> = self
            .calls
            .iter()
            .map(|(id, count)| format!("{} {}", self.name(id), grouped(*count)))
            .collect();
        let bases = bases.join(", ");
        let expected = grouped(forecast);
        let pace = self.pace.map_or_else(
            || String::from("the pace of this month so far"),
            |pace| match (pace.day_count(), grouped(pace.calls_per_day())) {
                (0 | 1, calls) => format!("the pace of the last day, {calls} a day"),
                (days, calls) => format!("the pace of the last {days} days, {calls} a day"),
            },
        );
        let mut lines = Vec::new();
        match self.limit() {
            None => lines.push(format!(
                "airtable: {used} API calls this month ({bases}), about {expected} by its end at {pace}"
            )),
            Some(limit) => {
                let of = grouped(limit);
                lines.push(format!(
                    "airtable: {used} of {of} API calls this month ({bases}), about {expected} by its end at {pace}"
                ));
                if forecast > limit {
                    lines.push(format!(
                        "{} at that pace the month's API calls will not do: polling is slowed down, and the last of \
                         them are kept for reading; a larger plan, or `notification_url` for pings, helps",
                        paint.yellow("!")
                    ));
                }
            }
        }
        lines
    }
}

/// `12,345`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
    use chrono::{TimeDelta, TimeZone as _, Utc};

    use super::{Budget, Pace, age, grouped};

    #[test]
    fn status_budget_is_told_with_its_forecast() {
        let calls = vec![("appOne".to_owned(), 20_000), ("appTwo".to_owned(), 1_000)];
        let mut budget = Budget { calls, pace: None, settings: None };
        let now = Utc.with_ymd_and_hms(2026, 11, 7, 0, 0, 0).unwrap();
        assert_eq!(
            budget.as_text(now),
            [
                "airtable: 21,000 API calls this month (appOne 20,000, appTwo 1,000), about 105,000 by its end at \
              the pace of this month so far"
            ]
        );
        assert_eq!(budget.as_json(now)["forecast"], 105_000);
        // The last days were calmer than the first one.
        budget.pace = Some(Pace { calls: 300, over: std::time::Duration::from_hours(72) });
        assert_eq!(
            budget.as_text(now),
            [
                "airtable: 21,000 API calls this month (appOne 20,000, appTwo 1,000), about 23,400 by its end at \
              the pace of the last 3 days, 100 a day"
            ]
        );
        assert_eq!(budget.as_json(now)["forecast"], 23_400);
        assert_eq!(budget.as_json(now)["calls_per_day"], 100);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn status_age_is_in_the_fitting_unit() {
        for (seconds, text) in
            [(-3, "0 s"), (90, "90 s"), (600, "10 min"), (9_000, "2 h"), (200_000, "2 days")]
        {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }
}
