//! How a task is doing, as the task itself says: shared between the task, whoever keeps it alive, and `status`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A task whose work has failed for this long is not well; a single failure that the next try mends is no news.
const FAILING_MAX: Duration = Duration::from_secs(10);

/// Cheap to clone: the clones share what is known.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Vitals>>);

/// What is known of a task.
#[derive(Clone, Debug)]
pub(crate) struct Vitals {
    /// When it last finished a round of its work.
    pub(crate) beat_at: Instant,
    /// When a round last succeeded.
    pub(crate) well_at: Instant,
    /// It waits for others, and has no rounds.
    is_resident: bool,
    /// Since when each round has failed, and why the last one did.
    pub(crate) failing: Option<(Instant, String)>,
    /// Since when it is not running, or has not run long enough since to be trusted; and why it ended.
    pub(crate) broken: Option<(Instant, String)>,
    /// How often it ended by itself since a round last succeeded, or since it last ran for long.
    pub(crate) broken_count: u32,
    /// A round has succeeded since it was started.
    has_succeeded: bool,
}

impl Vitals {
    /// Why it is not well, and since when; `None`: it is. `patience`: how long a round may take.
    pub(crate) fn trouble(&self, patience: Duration) -> Option<(Instant, String)> {
        if let Some((since, reason)) = &self.broken {
            return Some((*since, format!("it ended by itself and is started again: {reason}")));
        }
        if let Some((since, reason)) = &self.failing
            && since.elapsed() > FAILING_MAX
        {
            return Some((*since, reason.clone()));
        }
        (!self.is_resident && self.beat_at.elapsed() > patience).then(|| {
            (self.beat_at, String::from("it has not come to the end of a round of its work"))
        })
    }
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Vitals {
            beat_at: Instant::now(),
            well_at: Instant::now(),
            is_resident: false,
            failing: None,
            broken: None,
            broken_count: 0,
            has_succeeded: false,
        })))
    }

    pub(crate) fn vitals(&self) -> Vitals {
        self.lock().clone()
    }

    /// A round of the work is done.
    pub(crate) fn well(&self) {
        let mut vitals = self.lock();
        vitals.beat_at = Instant::now();
        vitals.well_at = vitals.beat_at;
        vitals.failing = None;
        vitals.has_succeeded = true;
    }

    /// A round of the work failed; it is tried again. The task lives: this is a beat, too.
    pub(crate) fn failed(&self, reason: impl Into<String>) {
        let mut vitals = self.lock();
        let now = Instant::now();
        vitals.beat_at = now;
        let since = vitals.failing.take().map_or(now, |(since, _)| since);
        vitals.failing = Some((since, reason.into()));
    }

    /// A round was done in which nothing could succeed or fail: what was said of the last one stands.
    pub(crate) fn idle(&self) {
        self.lock().beat_at = Instant::now();
    }

    /// From now on it waits for others: silence says nothing.
    pub(crate) fn resident(&self) {
        self.lock().is_resident = true;
    }

    /// The task ended though nobody had asked it to. The answer: how often it has without a round that succeeded between.
    pub(crate) fn broke(&self, reason: impl Into<String>) -> u32 {
        let mut vitals = self.lock();
        let since = vitals.broken.take().map_or_else(Instant::now, |(since, _)| since);
        vitals.broken = Some((since, reason.into()));
        let before = if vitals.has_succeeded { 0 } else { vitals.broken_count };
        vitals.broken_count = before.saturating_add(1);
        vitals.broken_count
    }

    /// It was started again.
    pub(crate) fn started(&self) {
        let mut vitals = self.lock();
        vitals.beat_at = Instant::now();
        vitals.failing = None;
        vitals.has_succeeded = false;
    }

    /// It has run long enough since it was started again.
    pub(crate) fn recovered(&self) {
        let mut vitals = self.lock();
        vitals.broken = None;
        vitals.broken_count = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Vitals> {
        // Every change above is a few assignments: a panic cannot leave them half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far `apply` is with what was handed to it: shared with `status`.
#[derive(Clone, Debug)]
pub(crate) struct Workload(Arc<Mutex<Load>>);

#[derive(Debug)]
struct Load {
    /// Since when `apply` has had something to do without a pause.
    busy_since: Option<Instant>,
    /// When it last wrote something for good, or a part of something large.
    moved_at: Instant,
    /// It has written something for good.
    has_moved: bool,
}

impl Workload {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Load {
            busy_since: None,
            moved_at: Instant::now(),
            has_moved: false,
        })))
    }

    /// Work has come.
    pub(crate) fn begin(&self) {
        self.lock().busy_since.get_or_insert_with(Instant::now);
    }

    /// Some of it is written.
    pub(crate) fn moved(&self) {
        let mut load = self.lock();
        load.moved_at = Instant::now();
        load.has_moved = true;
    }

    /// Whether anything has been written.
    pub(crate) fn has_moved(&self) -> bool {
        self.lock().has_moved
    }

    /// Nothing is left to do.
    pub(crate) fn rest(&self) {
        let mut load = self.lock();
        load.busy_since = None;
        load.moved_at = Instant::now();
    }

    /// How long nothing has been written though there is something to write.
    pub(crate) fn stuck_for(&self) -> Option<Duration> {
        let load = self.lock();
        load.busy_since.map(|since| since.max(load.moved_at).elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn pulse_says_what_is_wrong_and_since_when_until_it_is_mended() {
        let pulse = Pulse::new();
        let trouble = || pulse.vitals().trouble(PATIENCE).map(|(_, reason)| reason);
        assert_eq!(trouble(), None);
        // One failure is no news; failures without an end are.
        pulse.failed("no answer");
        assert_eq!(trouble(), None);
        advance(Duration::from_secs(11)).await;
        pulse.failed("no answer");
        assert_eq!(trouble().as_deref(), Some("no answer"));
        pulse.idle();
        assert!(trouble().is_some(), "an idle round proves nothing");
        pulse.well();
        assert_eq!(trouble(), None);
        // Neither well nor failing: it hangs.
        advance(PATIENCE + Duration::from_secs(1)).await;
        assert!(trouble().unwrap().contains("not come to the end"));
        // Broken at once, and until it has run for a while.
        assert_eq!(pulse.broke("a panic"), 1);
        pulse.started();
        pulse.well();
        assert!(trouble().unwrap().contains("a panic"));
        // One round that succeeded ends the series, not the doubt.
        assert_eq!(pulse.broke("a panic"), 1);
        pulse.started();
        assert_eq!(pulse.broke("a panic"), 2);
        pulse.recovered();
        assert_eq!(trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn workload_is_stuck_only_with_work_and_without_progress() {
        let load = Workload::new();
        advance(PATIENCE).await;
        assert_eq!(load.stuck_for(), None);
        load.begin();
        advance(Duration::from_secs(7)).await;
        assert_eq!(load.stuck_for(), Some(Duration::from_secs(7)));
        load.moved();
        advance(Duration::from_secs(2)).await;
        load.begin();
        assert_eq!(load.stuck_for(), Some(Duration::from_secs(2)));
        load.rest();
        assert_eq!(load.stuck_for(), None);
    }
}
