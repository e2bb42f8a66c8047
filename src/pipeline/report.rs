//! What captures say of themselves → `mirror.capture_status`, incidents, and progress bars on a terminal.

use std::{collections::HashMap, io::IsTerminal, time::Duration};

use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    capture::{self, directus},
    model::{Notice, Position, Side},
    store::{
        incident,
        reading::{self, LogStatus},
    },
};

/// How often it is written down; `status` takes three missed reports for a plait that is gone.
const PERIOD: Duration = Duration::from_secs(2);
const NOTICE_COUNT_MAX: usize = 256;

/// Collects what the captures say.
pub(super) struct Reporter {
    pool: PgPool,
    sources: Vec<(String, Source)>,
    notices: mpsc::Receiver<(String, Notice)>,
    notice_sender: mpsc::Sender<(String, Notice)>,
    bars: Bars,
}

enum Source {
    Directus(watch::Receiver<directus::CaptureStatus>),
    Airtable(watch::Receiver<capture::CaptureStatus>),
}

impl Reporter {
    pub(super) fn new(pool: PgPool) -> Self {
        let (notice_sender, notices) = mpsc::channel(NOTICE_COUNT_MAX);
        Self { pool, sources: Vec::new(), notices, notice_sender, bars: Bars::default() }
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
    pub(super) async fn keep_reporting(mut self, stop: CancellationToken) {
        let mut is_last = false;
        loop {
            while let Ok((log, notice)) = self.notices.try_recv() {
                if let Err(error) = incident::note(&self.pool, &log, &notice).await {
                    warn!(%error, "could not record an incident");
                }
            }
            self.report().await;
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

    async fn report(&mut self) {
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
            if let Err(error) = reading::report(&self.pool, &status).await {
                warn!(%error, "could not record the state of a log");
            }
        }
    }
}

fn at(micros: Option<i64>) -> Option<DateTime<Utc>> {
    micros.and_then(DateTime::from_timestamp_micros)
}

fn of_directus(status: &directus::CaptureStatus) -> LogStatus {
    let lag_bytes = status.server.0.saturating_sub(status.acknowledged.0);
    let failure = status.failure.as_deref().unwrap_or("no reason given");
    let (state, words) = match status.phase {
        directus::Phase::Connecting => ("starting", "connecting".to_owned()),
        directus::Phase::Snapshot => {
            let done: u64 = status.snapshot.iter().map(|table| table.row_count).sum();
            ("copying", format!("copying everything: {done} rows so far"))
        }
        directus::Phase::Streaming => ("streaming", "following each change".to_owned()),
        directus::Phase::Waiting => ("waiting", format!("waiting to try again: {failure}")),
        directus::Phase::Stopped => ("stopped", "stopped".to_owned()),
    };
    LogStatus {
        log: String::new(),
        side: Side::Directus.name().to_owned(),
        state: state.to_owned(),
        words,
        position: (status.received.0 > 0).then(|| status.received.to_string()),
        lag_bytes: (status.server.0 > 0).then(|| i64::try_from(lag_bytes).unwrap_or(i64::MAX)),
        lag_ms: status.heartbeat_ms.and_then(|ms| i64::try_from(ms).ok()),
        last_change_at: at(status.last_change_at),
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
        capture::State::Waiting { reason } => {
            ("waiting", format!("waiting to try again: {reason}"))
        }
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
