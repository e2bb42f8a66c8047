//! Follows the journal: what is new in it is looked at once, alerts are written together with the place, and said in the
//! log. What fails is tried again; the mirror does not wait for it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Alert, Facts, Watch, evaluate,
    evaluate::{complete, is_news, may_complete, may_meet},
    gather::{Source, codes},
    resolve,
};
use crate::{
    config::alert::Rule,
    mapping::Mapping,
    pulse::Pulse,
    store::{
        self, TableShape,
        alert::{self, AlertRow},
        history::Entry,
    },
};

/// How often an idle journal is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Entries looked at in one go.
const ENTRY_COUNT_MAX: i64 = 1_000;

/// What follows the journal, and for whom.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) pool: PgPool,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) shapes: Vec<TableShape>,
    pub(crate) rules: Vec<Rule>,
    /// The logs of this mirror: nothing alerts before each was copied.
    pub(crate) logs: Vec<String>,
}

/// Follows the journal until `stop`, and looks once more then.
pub(crate) async fn keep_following(follower: Follower, pulse: Pulse, stop: CancellationToken) {
    let mut failure_count = 0_u32;
    let mut begun: Option<Begun> = None;
    loop {
        let is_last = stop.is_cancelled();
        match follower.drain(&mut begun, &stop).await {
            Ok(()) => {
                failure_count = 0;
                pulse.well();
            }
            Err(error) => {
                failure_count += 1;
                let error = format!("{:#}", anyhow::Error::from(error));
                warn!(failure_count, error, "could not look for alerts; tried again");
                pulse.failed(format!("could not look for alerts: {error}"));
            }
        }
        if is_last {
            return;
        }
        let pause = (PAUSE * 2_u32.saturating_pow(failure_count.min(8))).min(PAUSE_MAX);
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Where a follower is.
pub(crate) struct Begun {
    position: i64,
    watches: Vec<Watch>,
    facts: Facts,
}

/// What some entries give.
#[derive(Default)]
struct Looked {
    alerts: Vec<Alert>,
    /// More about what has alerted before.
    completed: Vec<Alert>,
}

impl Follower {
    /// Looks at all that is new; after `stop`, at one batch more. The rest is looked at after the next start.
    pub(crate) async fn drain(
        &self,
        begun: &mut Option<Begun>,
        stop: &CancellationToken,
    ) -> Result<(), store::Error> {
        if begun.is_none() {
            *begun = self.begin().await?;
        }
        let Some(begun) = begun else { return Ok(()) };
        if begun.watches.is_empty() {
            let newest = alert::newest(&self.pool).await?;
            if newest > begun.position {
                alert::raise(&self.pool, &[], &[], newest).await?;
                begun.position = newest;
            }
            return Ok(());
        }
        loop {
            let entries = alert::entries_after(&self.pool, begun.position, ENTRY_COUNT_MAX).await?;
            let Some(last) = entries.last().map(|entry| entry.journal_id) else { return Ok(()) };
            let Looked { alerts, completed } =
                self.look(&begun.watches, &begun.facts, &entries).await?;
            let rows: Vec<AlertRow<'_>> = alerts.iter().map(as_row).collect();
            let completed: Vec<AlertRow<'_>> = completed.iter().map(as_row).collect();
            let are_new = alert::raise(&self.pool, &rows, &completed, last).await?;
            begun.position = last;
            alerts.iter().zip(are_new).filter(|(_, is_new)| *is_new).for_each(|(it, _)| tell(it));
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Where to go on; `None`: the sides are not copied yet.
    async fn begin(&self) -> Result<Option<Begun>, store::Error> {
        let stored = alert::stored_counts_from(&self.pool).await?;
        let Some(position) = alert::position(&self.pool, &self.logs).await? else {
            return Ok(None);
        };
        let mut scopes = Vec::new();
        for entity in &self.mapping.entities {
            for side in crate::model::Side::ALL.into_iter().filter(|side| entity.is_on(*side)) {
                scopes.push((side.name().to_owned(), entity.name.clone()));
            }
        }
        let counts_from = alert::counts_from(&self.pool, &scopes, stored.is_empty()).await?;
        let codes = codes(&self.pool).await?;
        let (watches, findings) = resolve(&self.rules, &self.mapping, Some(&codes));
        for finding in findings {
            warn!("{}", finding.what);
        }
        info!(rule_count = watches.len(), journal_id = position, "follows the journal for alerts");
        let facts = Facts { codes, counts_from, ..Facts::default() };
        Ok(Some(Begun { position, watches, facts }))
    }

    /// The alerts of some entries.
    async fn look(
        &self,
        watches: &[Watch],
        known: &Facts,
        entries: &[Entry],
    ) -> Result<Looked, store::Error> {
        let may_alert = |entry: &&Entry| {
            let may = |watch| may_meet(watch, entry) || may_complete(watch, entry);
            is_news(entry, known) && watches.iter().any(may)
        };
        let candidates: Vec<&Entry> = entries.iter().filter(may_alert).collect();
        if candidates.is_empty() {
            return Ok(Looked::default());
        }
        let mut facts = known.clone();
        let source = Source { pool: &self.pool, mapping: &self.mapping, shapes: &self.shapes };
        source.gather(&mut facts, watches, &candidates).await?;
        let of = |look: fn(&[Watch], &Entry, &Facts) -> Vec<Alert>| {
            candidates.iter().flat_map(|entry| look(watches, entry, &facts)).collect()
        };
        Ok(Looked { alerts: of(evaluate), completed: of(complete) })
    }
}

/// What the rules would have raised since a time, had they held; nothing is written. `tell` gets them, the oldest first,
/// and says whether to go on.
pub(crate) async fn past(
    follower: &Follower,
    since: DateTime<Utc>,
    mut tell: impl FnMut(Alert) -> bool,
) -> Result<(), store::Error> {
    let codes = codes(&follower.pool).await?;
    let (watches, _) = resolve(&follower.rules, &follower.mapping, Some(&codes));
    let counts_from = alert::stored_counts_from(&follower.pool).await?;
    let facts = Facts { codes, counts_from, ..Facts::default() };
    let mut position = alert::newest_before(&follower.pool, since).await?;
    loop {
        let entries = alert::entries_after(&follower.pool, position, ENTRY_COUNT_MAX).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        position = last.journal_id;
        for alert in follower.look(&watches, &facts, &entries).await?.alerts {
            if !tell(alert) {
                return Ok(());
            }
        }
    }
}

fn as_row(alert: &Alert) -> AlertRow<'_> {
    AlertRow {
        rule: &alert.rule,
        kind: alert.kind,
        entity: &alert.entity,
        record_id: alert.record_id,
        journal_id: alert.journal_id,
        at: alert.at,
        side: &alert.side,
        author: &alert.author,
        record_name: &alert.record_name,
        before: &alert.before,
        after: &alert.after,
        text_fr: &alert.text_fr,
        text_en: &alert.text_en,
    }
}

/// The one place where values are in the log: people asked for just these. A warning, so that whatever watches the log
/// passes it on.
fn tell(alert: &Alert) {
    warn!(
        rule = alert.rule,
        side = alert.side,
        author = alert.author,
        entity = alert.entity,
        record_id = %alert.record_id,
        journal_id = alert.journal_id,
        fr = alert.text_fr,
        "alert: {}",
        alert.text_en
    );
}
