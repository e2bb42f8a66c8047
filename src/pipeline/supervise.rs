//! Keeps tasks alive. A task ends when it is told to stop, and never before: one that ends, fails or panics earlier is
//! told, noted for `status`, and started again after a pause that grows while it does not last.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument as _, Span, error};

use crate::pulse::Pulse;

/// First and longest pause before a task that ended by itself is started again.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A task that has run for this long since, or twice the last pause, is well again.
const TRIAL: Duration = Duration::from_secs(10);

/// The pulses of all tasks of this process, by name; they outlive the sessions.
#[derive(Clone, Default)]
pub(super) struct Ward(Arc<Mutex<BTreeMap<String, Pulse>>>);

impl Ward {
    /// The pulse of the task `name`, made where there is none.
    pub(super) fn pulse(&self, name: &str) -> Pulse {
        let mut pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.entry(name.to_owned()).or_insert_with(Pulse::new).clone()
    }

    pub(super) fn all(&self) -> Vec<(String, Pulse)> {
        let pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().map(|(name, pulse)| (name.clone(), pulse.clone())).collect()
    }
}

/// The tasks of a session that are kept alive until `stop`.
pub(super) struct Supervisor {
    ward: Ward,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Supervisor {
    pub(super) fn new(ward: Ward, stop: CancellationToken) -> Self {
        Self { ward, stop, tasks: JoinSet::new() }
    }

    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Keeps a task alive: `make` starts it, and starts it again.
    pub(super) fn keep<F, W>(&mut self, name: &str, span: Span, mut make: F)
    where
        F: FnMut(Pulse) -> W + Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, pulse, stop) = (name.to_owned(), self.ward.pulse(name), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let task = make(pulse.clone()).instrument(span.clone());
                let pause = run_once(&name, &pulse, &stop, task).await;
                let Some(pause) = pause else { return };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        });
    }

    /// Runs a task that cannot be started again by itself: what it knew is lost with it. When it ends though nobody
    /// asked for it, the rest goes on for a pause; then `renewal` is asked for a new session.
    pub(super) fn keep_by_renewal<W>(
        &mut self,
        name: &str,
        span: Span,
        renewal: mpsc::Sender<String>,
        task: W,
    ) where
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, pulse, stop) = (name.to_owned(), self.ward.pulse(name), self.stop.clone());
        self.tasks.spawn(async move {
            let Some(pause) = run_once(&name, &pulse, &stop, task.instrument(span)).await else {
                return;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            // Full or closed: a new session was asked for already.
            drop(renewal.try_send(format!("the task `{name}` ended by itself")));
        });
    }

    /// Tells all to stop, waits for them, and ends those that have not after `patience`. Whether all ended by themselves.
    pub(super) async fn end(mut self, patience: Duration) -> bool {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let is_timely = timeout(patience, ended).await.is_ok();
        self.tasks.shutdown().await;
        is_timely
    }
}

/// Runs a task to its end. The answer: how long to wait before it is started again; `None`: it was told to stop.
async fn run_once(
    name: &str,
    pulse: &Pulse,
    stop: &CancellationToken,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> Option<Duration> {
    pulse.started();
    let trial = TRIAL.max(pause(pulse.vitals().broken_count) * 2);
    let mut task = AbortOnDropHandle::new(tokio::spawn(task));
    let ended = tokio::select! {
        ended = &mut task => ended,
        () = sleep(trial) => {
            pulse.recovered();
            task.await
        }
    };
    if stop.is_cancelled() {
        return None;
    }
    let reason = reason(ended);
    let broken_count = pulse.broke(reason.as_str());
    let pause = pause(broken_count);
    error!(name, broken_count, pause_ms = pause.as_millis(), reason, "a task ended by itself");
    Some(pause)
}

fn reason(ended: Result<anyhow::Result<()>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => String::from("it came to an end though nobody asked for it"),
        Ok(Err(error)) => format!("{error:#}"),
        // The words of a panic may hold values.
        Err(_) => String::from(
            "it broke off, which is a fault in plait: please report what the log says of it",
        ),
    }
}

/// None before the first failure; then 1 s, 2 s, 4 s, … [`PAUSE_MAX`].
fn pause(broken_count: u32) -> Duration {
    match broken_count {
        0 => Duration::ZERO,
        count => PAUSE_MIN.saturating_mul(2_u32.saturating_pow((count - 1).min(16))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tracing::info_span;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn supervise_task_that_panics_fails_or_ends_is_told_and_started_again() {
        let (ward, stop) = (Ward::default(), CancellationToken::new());
        let mut supervisor = Supervisor::new(ward.clone(), stop.clone());
        let run_count = Arc::new(AtomicU32::new(0));
        let (count, until) = (Arc::clone(&run_count), stop.clone());
        supervisor.keep("reports", info_span!("test"), move |pulse| {
            let (run, until) = (count.fetch_add(1, Ordering::SeqCst), until.clone());
            async move {
                match run {
                    0 => panic!("planted"),
                    1 => anyhow::bail!("refused"),
                    2 => Ok(()),
                    _ => {
                        pulse.well();
                        until.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        let trouble = || {
            let vitals = ward.pulse("reports").vitals();
            vitals.trouble(Duration::from_hours(1)).map(|(_, reason)| reason)
        };
        for part in ["a fault in plait", "refused", "came to an end"] {
            while !trouble().is_some_and(|reason| reason.contains(part)) {
                sleep(Duration::from_millis(10)).await;
            }
        }
        // It runs again, is not trusted at once, and is after a while.
        while run_count.load(Ordering::SeqCst) < 4 {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(trouble().is_some());
        sleep(TRIAL * 2).await;
        assert_eq!(trouble(), None);
        assert!(supervisor.end(Duration::from_secs(1)).await);
        assert_eq!(run_count.load(Ordering::SeqCst), 4, "after the stop nothing is started again");
    }

    #[tokio::test(start_paused = true)]
    async fn supervise_task_that_holds_a_state_asks_for_a_new_session_after_its_pause() {
        let (ward, stop) = (Ward::default(), CancellationToken::new());
        let (renewal, mut renewals) = mpsc::channel(1);
        for expected in [1, 2, 4] {
            let mut supervisor = Supervisor::new(ward.clone(), stop.child_token());
            let began = tokio::time::Instant::now();
            let task = async { panic!("planted") };
            supervisor.keep_by_renewal("directus", info_span!("test"), renewal.clone(), task);
            assert!(renewals.recv().await.unwrap().contains("directus"));
            assert_eq!(began.elapsed().as_secs(), expected, "the pause grows over the sessions");
            supervisor.end(Duration::from_secs(1)).await;
        }
        // Told to stop, it ends without a word.
        let mut supervisor = Supervisor::new(ward, stop.child_token());
        let until = supervisor.stop();
        let task = async move {
            until.cancelled().await;
            Ok(())
        };
        supervisor.keep_by_renewal("airtable", info_span!("test"), renewal, task);
        assert!(supervisor.end(Duration::from_secs(1)).await);
        assert!(renewals.try_recv().is_err());
    }
}
