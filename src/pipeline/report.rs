//! What captures and tasks say of themselves → `mirror.capture_status`, `mirror.task`, incidents, and progress bars on a
//! terminal. What `status` says comes from here: nothing may look well that does not work.

use std::{collections::HashMap, io::IsTerminal, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{conditions::Conditions, supervise::Ward};
use crate::{
    capture::{self, directus},
    model::{Notice, Position, Side},
    pulse::{Pulse, Workload},
    store::{
        self, incident,
        vitals::{self, LogStatus, TaskStatus},
    },
};

/// How often it is written down; `status` takes three missed reports for a plait that is gone.
const PERIOD: Duration = Duration::from_secs(2);
const NOTICE_COUNT_MAX: usize = 256;
/// `apply` that waits for somebody's lock for so long is held up; where nobody is in its way, it may take longer.
const HELD_UP_AFTER: Duration = Duration::from_secs(5);
const SLOW_AFTER: Duration = Duration::from_mins(1);
const LOOK_FOR_LOCKS_AFTER: Duration = Duration::from_secs(2);
/// A heartbeat that has not come back for so long: the stream is behind.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(10);
/// A write that has been due for so long, to a side that took nothing for as long.
const OVERDUE_MAX: Duration = Duration::from_mins(1);
/// How long a round of a task may take: a push sends hundreds of requests in one, and waits for the answers.
const PUSH_PATIENCE: Duration = Duration::from_mins(10);
const PATIENCE: Duration = Duration::from_hours(2);
/// Log that a server without a limit keeps for us, before somebody is told.
const RETAINED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What is looked at beside the captures.
pub(super) struct Watched {
    pub(super) ward: Ward,
    pub(super) workload: Workload,
    pub(super) conditions: Arc<Conditions>,
    /// The server processes of the writer.
    pub(super) backend_pids: Vec<i32>,
    /// `mirror.entity`'s number of each mapped entity.
    pub(super) entity_numbers: Vec<i16>,
}

/// Collects what the captures and the tasks say.
pub(super) struct Reporter {
    pool: PgPool,
    watched: Watched,
    sources: Vec<(String, Source)>,
    notices: mpsc::Receiver<(String, Notice)>,
    notice_sender: mpsc::Sender<(String, Notice)>,
    bars: Bars,
    /// What holds `apply` up, as far as the server told.
    blockers: Vec<String>,
}

enum Source {
    Directus(watch::Receiver<directus::CaptureStatus>),
    Airtable(watch::Receiver<capture::CaptureStatus>),
}

impl Reporter {
    pub(super) fn new(pool: PgPool, watched: Watched) -> Self {
        let (notice_sender, notices) = mpsc::channel(NOTICE_COUNT_MAX);
        let (sources, bars, blockers) = (Vec::new(), Bars::default(), Vec::new());
        Self { pool, watched, sources, notices, notice_sender, bars, blockers }
    }

    pub(super) fn follow_directus(
        &mut self,
        log: String,
        status: watch::Receiver<directus::CaptureStatus>,
    ) {
        self.sources.push((log, Source::Directus(status)));
    }

    pub(super) fn follow_airtable(
        &mut self,
        log: String,
        status: watch::Receiver<capture::CaptureStatus>,
    ) {
        self.sources.push((log, Source::Airtable(status)));
    }

    /// Where notices go, with the log's name.
    pub(super) fn notices(&self) -> mpsc::Sender<(String, Notice)> {
        self.notice_sender.clone()
    }

    /// Reports until `stop`, and once more then.
    pub(super) async fn keep_reporting(&mut self, pulse: &Pulse, stop: CancellationToken) {
        let mut is_last = false;
        loop {
            while let Ok((log, notice)) = self.notices.try_recv() {
                if let Err(error) = incident::note(&self.pool, &log, &notice).await {
                    warn!(%error, "could not record an incident");
                }
            }
            let held_up = self.look_at_apply().await;
            self.report(held_up.as_deref()).await;
            match self.report_tasks(held_up).await {
                Ok(()) => pulse.well(),
                Err(error) => {
                    warn!(%error, "could not record how the tasks are");
                    pulse.failed(error.to_string());
                }
            }
            if is_last {
                self.bars.clear();
                return;
            }
            tokio::select! {
                () = stop.cancelled() => is_last = true,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// What holds `apply` up, in words; `None`: nothing does.
    async fn look_at_apply(&mut self) -> Option<String> {
        let stuck_for = self.watched.workload.stuck_for().unwrap_or_default();
        if stuck_for > LOOK_FOR_LOCKS_AFTER {
            match vitals::blockers(&self.pool, &self.watched.backend_pids).await {
                // A wait is cut off now and then: between two, nobody is named.
                Ok(blockers) if blockers.is_empty() => {}
                Ok(blockers) => self.blockers = blockers,
                Err(error) => warn!(%error, "could not look who holds a lock"),
            }
        } else {
            self.blockers.clear();
        }
        let patience = if self.blockers.is_empty() { SLOW_AFTER } else { HELD_UP_AFTER };
        let held_up = (stuck_for > patience).then(|| {
            let what = if self.blockers.is_empty() {
                String::from("the canonical database, which has not answered yet")
            } else {
                self.blockers.join("; and for ")
            };
            format!(
                "what was read has not been written for {} s: it waits for {what}",
                stuck_for.as_secs()
            )
        });
        let conditions = &self.watched.conditions;
        conditions.set(&self.pool, "plait", "apply_held_up", held_up.clone()).await;
        held_up
    }

    async fn report(&mut self, held_up: Option<&str>) {
        for (log, source) in &self.sources {
            let mut status = match source {
                Source::Directus(status) => {
                    let status = status.borrow().clone();
                    self.bars.show_tables(&status.snapshot);
                    of_directus(&status)
                }
                Source::Airtable(status) => {
                    let status = status.borrow().clone();
                    self.bars.show_base(log, &status.state);
                    of_airtable(&status)
                }
            };
            status.log.clone_from(log);
            let conditions = &self.watched.conditions;
            let suspended = (status.state == "suspended").then(|| status.words.clone());
            conditions.set(&self.pool, log, "side_suspended", suspended).await;
            conditions.set(&self.pool, log, "log_kept", log_kept(&status)).await;
            if let Some(held_up) = held_up
                && matches!(status.state.as_str(), "streaming" | "copying")
            {
                // What was read is not what is there.
                (status.state, status.words) = (String::from("held up"), held_up.to_owned());
            }
            if let Err(error) = vitals::report(&self.pool, &status).await {
                warn!(%error, "could not record the state of a log");
            }
        }
    }

    async fn report_tasks(&mut self, held_up: Option<String>) -> Result<(), store::Error> {
        let overdue = vitals::overdue(&self.pool, &self.watched.entity_numbers).await?;
        let stuck_for = self.watched.workload.stuck_for().unwrap_or_default();
        let mut rows = vec![row("apply", held_up.map(|words| (stuck_for, words)), Duration::ZERO)];
        for (task, pulse) in self.watched.ward.all() {
            let vitals = pulse.vitals();
            let is_push = task.starts_with(PUSH);
            let patience = if is_push { PUSH_PATIENCE } else { PATIENCE };
            let mut trouble = vitals.trouble(patience);
            if let Some((_, due_s, count)) =
                overdue.iter().find(|(side, ..)| task.strip_prefix(PUSH) == Some(side.as_str()))
                && trouble.is_none()
                && vitals.well_at.elapsed() > OVERDUE_MAX
                && *due_s > OVERDUE_MAX.as_secs_f64()
            {
                let words = format!(
                    "{count} records are due to be written, the oldest for {due_s:.0} s, and none was taken meanwhile"
                );
                trouble = Some((vitals.well_at, words));
            }
            let broken = vitals.broken.as_ref().map(|(_, reason)| {
                format!("the task `{task}` ended by itself and is started again: {reason}")
            });
            self.watched.conditions.set(&self.pool, &task, "task_broke_off", broken).await;
            let trouble = trouble.map(|(since, words)| (since.elapsed(), words));
            rows.push(row(&task, trouble, vitals.beat_at.elapsed()));
        }
        vitals::report_tasks(&self.pool, &rows).await
    }
}

/// What the names of the tasks that push begin with.
const PUSH: &str = "push ";

/// How a task is. `trouble`: for how long it has not been well, and why; `beat_age`: how long ago it finished a round.
fn row(task: &str, trouble: Option<(Duration, String)>, beat_age: Duration) -> TaskStatus {
    let now = Utc::now();
    let (since, words) = trouble.unzip();
    TaskStatus {
        task: task.to_owned(),
        is_well: words.is_none(),
        words: words.unwrap_or_else(|| String::from("at work")),
        since: since.map(|age| now - age),
        beat_at: now - beat_age,
        reported_at: now,
    }
}

/// In words, that the side's server keeps more log for us than it should; `None`: it does not.
pub(crate) fn log_kept(status: &LogStatus) -> Option<String> {
    let bytes = u64::try_from(status.retained_bytes?).ok()?;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let max = status.retained_bytes_max.and_then(|max| u64::try_from(max).ok());
    let is_near = matches!(status.wal_status.as_deref(), Some("unreserved" | "lost"));
    match max {
        Some(max) if is_near || bytes > max / 2 => Some(format!(
            "the server keeps {} MiB of its log for plait, and gives the rest up beyond {} MiB (max_slot_wal_keep_size): \
             see why it is not read on, or raise that setting; if it is given up, everything is read again",
            mib(bytes),
            mib(max)
        )),
        None if bytes > RETAINED_BYTES_MAX => Some(format!(
            "the server keeps {} MiB of its log for plait, and would keep any amount until its disk is full: see why it is \
             not read on, or set max_slot_wal_keep_size there",
            mib(bytes)
        )),
        _ => None,
    }
}

/// A side that waits for a person.
fn suspended(reason: &str) -> String {
    format!("suspended until somebody has seen to it, and tried again every few minutes: {reason}")
}

fn at(micros: Option<i64>) -> Option<DateTime<Utc>> {
    micros.and_then(DateTime::from_timestamp_micros)
}

fn of_directus(status: &directus::CaptureStatus) -> LogStatus {
    let lag_bytes = status.server.0.saturating_sub(status.acknowledged.0);
    let failure = status.failure.as_deref().unwrap_or("no reason given");
    let heartbeat_age = status.heartbeat_out_since.map(|since| since.elapsed());
    let heartbeat_age_ms = heartbeat_age.and_then(|age| i64::try_from(age.as_millis()).ok());
    let heartbeat_ms = status.heartbeat_ms.and_then(|ms| i64::try_from(ms).ok());
    let (state, words) = match status.phase {
        directus::Phase::Connecting => ("starting", "connecting".to_owned()),
        directus::Phase::Snapshot => {
            let done: u64 = status.snapshot.iter().map(|table| table.row_count).sum();
            ("copying", format!("copying everything: {done} rows so far"))
        }
        directus::Phase::Streaming => match heartbeat_age.filter(|age| *age > HEARTBEAT_AGE_MAX) {
            Some(age) => (
                "behind",
                format!("behind: what was written {} s ago has not come yet", age.as_secs()),
            ),
            None => ("streaming", "following each change".to_owned()),
        },
        directus::Phase::Waiting => ("waiting", format!("waiting to try again: {failure}")),
        directus::Phase::Suspended => ("suspended", suspended(failure)),
        directus::Phase::Stopped => ("stopped", "stopped".to_owned()),
    };
    LogStatus {
        log: String::new(),
        side: Side::Directus.name().to_owned(),
        state: state.to_owned(),
        words,
        position: (status.received.0 > 0).then(|| status.received.to_string()),
        lag_bytes: (status.server.0 > 0).then(|| i64::try_from(lag_bytes).unwrap_or(i64::MAX)),
        lag_ms: heartbeat_ms.max(heartbeat_age_ms),
        last_change_at: at(status.last_change_at),
        retained_bytes: status.retained_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        retained_bytes_max: status.retained_bytes_max.and_then(|bytes| i64::try_from(bytes).ok()),
        wal_status: status.wal_status.clone(),
        reported_at: Utc::now(),
    }
}

fn of_airtable(status: &capture::CaptureStatus) -> LogStatus {
    let (state, words) = match &status.state {
        capture::State::Starting => ("starting", "connecting".to_owned()),
        capture::State::Copying { done, total: Some(total) } => {
            ("copying", format!("reading everything: {done} of about {total} records"))
        }
        capture::State::Copying { done, total: None } => {
            ("copying", format!("reading everything: {done} records so far"))
        }
        capture::State::Streaming => ("streaming", "following each change".to_owned()),
        capture::State::WaitingFor { what } => ("waiting", format!("waits for {what}")),
        capture::State::Waiting { reason } => {
            ("waiting", format!("waiting to try again: {reason}"))
        }
        capture::State::Suspended { reason } => ("suspended", suspended(reason)),
        capture::State::Stopped => ("stopped", "stopped".to_owned()),
    };
    LogStatus {
        log: String::new(),
        side: Side::Airtable.name().to_owned(),
        state: state.to_owned(),
        words,
        position: status.position.as_ref().map(Position::to_string),
        lag_bytes: None,
        lag_ms: status.lag_ms.and_then(|ms| i64::try_from(ms).ok()),
        last_change_at: at(status.last_change_at),
        retained_bytes: None,
        retained_bytes_max: None,
        wal_status: None,
        reported_at: Utc::now(),
    }
}

/// A bar for each table or base that is being read whole; nothing where no person looks.
#[derive(Default)]
struct Bars {
    all: Option<MultiProgress>,
    bars: HashMap<String, ProgressBar>,
}

impl Bars {
    fn bar(&mut self, name: &str, total: u64) -> Option<&ProgressBar> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let all = self.all.get_or_insert_with(MultiProgress::new);
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(total));
            let style = "{prefix:24} {bar:32} {human_pos} of {human_len}, {eta} left";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(name.to_owned());
            bar
        });
        Some(bar)
    }

    fn show_tables(&mut self, tables: &[directus::TableProgress]) {
        for table in tables {
            let total = table.row_count_estimated.max(table.row_count);
            if let Some(bar) = self.bar(&table.table, total) {
                bar.set_length(total);
                bar.set_position(table.row_count);
                if table.done {
                    bar.finish();
                }
            }
        }
    }

    fn show_base(&mut self, log: &str, state: &capture::State) {
        match state {
            capture::State::Copying { done, total } => {
                let total = total.unwrap_or(*done);
                if let Some(bar) = self.bar(log, total) {
                    bar.set_length(total);
                    bar.set_position(*done);
                }
            }
            _ => {
                if let Some(bar) = self.bars.get(log) {
                    bar.finish();
                }
            }
        }
    }

    fn clear(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}
