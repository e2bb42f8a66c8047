//! What a side lacks → requests to it. In: due rows of the outbox. Out: operations bound before they are sent, and
//! what the side said of them; what it holds is learnt from its own log alone, by `apply`.

pub(crate) mod airtable;
pub(crate) mod directus;
mod drain;
mod form;
pub(crate) mod password;
mod trouble;

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value as Json;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::{
    model::{EntityNo, FieldNo, RecordId, SideKey},
    store::Books,
};

pub(crate) use drain::Drain;

/// One record's write, bound in `mirror.operation` and ready to be sent. Several may share one operation id: they go
/// in one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) operation: Uuid,
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    /// How the side calls the record; `None`: it does not have it yet.
    pub(crate) key: Option<SideKey>,
    pub(crate) write: Write,
    /// The record there does not carry the canonical id in its field for it: that is written too. Airtable alone
    /// has such a field; a create always fills it.
    pub(crate) writes_id: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// Cells in the side's own form.
    Create(Vec<(FieldNo, Json)>),
    Update(Vec<(FieldNo, Json)>),
    Delete,
}

/// What became of one record's write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The side took it; with its key, if it made the record.
    Taken { key: Option<SideKey> },
    /// No answer: it may have been taken. The same operation is sent again.
    Unanswered,
    /// Not taken, and waiting cures it.
    Later { after: Option<Duration> },
    /// Not taken, and a person has to do something. `field`: the cell at fault, if the side tells; the others are
    /// tried without it.
    Refused { field: Option<FieldNo>, code: &'static str, reason: String },
    /// The side does not have the record any more; its log will say so.
    Gone,
}

/// A side that can be written to.
pub(crate) trait Pusher: Send + Sync {
    /// Records of one entity that share an operation, which is one request where the side takes it whole.
    fn batch_record_count_max(&self) -> usize;

    /// Records that are taken from the outbox at a time.
    fn drain_record_count_max(&self) -> usize;

    /// Whether the side, or a person, gives the key of a new record of `entity`, and only the side's log tells it. Each
    /// create has an operation and a request of its own then, and no set comes with it. `None`: not known yet, so that
    /// no record can be made.
    fn has_other_keys(&self, _: EntityNo) -> Option<bool> {
        Some(false)
    }

    /// Whether a create of `entity` that got no answer may be sent again. With keys of ours it may always.
    fn may_repeat<'a>(
        &'a self,
        _operation: Uuid,
        _entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async { true })
    }

    /// Sends them and says what became of each. A record is named once only. Before a request that leaves out cells of
    /// a record's write, `parts` is told.
    fn send<'a>(
        &'a self,
        bounds: Vec<Bound>,
        parts: &'a dyn Parts,
    ) -> Pin<Box<dyn Future<Output = Vec<(RecordId, Outcome)>> + Send + 'a>>;

    /// Why the side takes nothing at all, as the last request said; `None`: it answers.
    fn trouble(&self) -> Option<String>;
}

/// What [`Pusher::trouble`] answers.
#[derive(Debug, Default)]
pub(crate) struct SideTrouble(Mutex<Option<String>>);

impl SideTrouble {
    pub(crate) fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes writes that go in several requests. The side's log shows each request by itself; without the note, a cell that
/// the first one leaves out would look as if the side had emptied it.
pub(crate) trait Parts: Send + Sync {
    /// Notes it of these writes, by operation and record. `false`: it could not be noted, and nothing may be sent.
    fn note(
        &self,
        entity: EntityNo,
        writes: Vec<(Uuid, RecordId)>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

impl Parts for Books {
    fn note(
        &self,
        entity: EntityNo,
        writes: Vec<(Uuid, RecordId)>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let noted = self.note_parts(entity, &writes).await;
            if let Err(error) = &noted {
                warn!(error = %error, "could not note that a write goes in parts; it is not sent");
            }
            noted.is_ok()
        })
    }
}

/// The cell of a set that lives in a junction table of Directus: `{"add": [element, …], "remove": [row key, …]}`.
pub(crate) const ADD: &str = "add";
pub(crate) const REMOVE: &str = "remove";
/// In it, for elements that were in the set before: `[[element, {column: value, …}], …]`, what their rows held beside.
pub(crate) const COLUMNS: &str = "columns";

/// The longest pause between two looks at the outbox, and the longest after failures.
const TICK: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// Keeps a side's way out shut while it is not known that canonical, and the side's log, are what they were.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Receiver<bool>);

impl Gate {
    pub(crate) fn new(is_open: watch::Receiver<bool>) -> Self {
        Self(is_open)
    }

    fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is open; for ever, if whoever opens it is gone.
    async fn opened(&mut self) {
        if self.0.wait_for(|is_open| *is_open).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Drains until `stop`: sooner when nudged, slower and deaf to nudges while it fails. Only the waiting is cancelled:
/// a drain that has begun runs to its end.
pub(crate) async fn keep_draining(
    drain: Drain,
    mut gate: Gate,
    nudge: &Notify,
    stop: &CancellationToken,
) {
    let mut failure_count = 0_u32;
    while !stop.is_cancelled() {
        if !gate.is_open() {
            drain.pulse().failed(
                "nothing is written before it is known that no database was restored from a backup",
            );
            tokio::select! {
                () = stop.cancelled() => return,
                () = gate.opened() => drain.pulse().well(),
            }
        }
        let pause = match drain.drain().await {
            // There may be more.
            Ok(1..) => {
                drain.pulse().idle();
                Duration::ZERO
            }
            Ok(0) => match drain.due_in().await {
                Ok(Some(due_in)) => {
                    drain.pulse().idle();
                    due_in.clamp(Duration::from_millis(50), TICK)
                }
                Ok(None) => {
                    drain.pulse().well();
                    TICK
                }
                Err(_) => BACKOFF_MIN,
            },
            Err(error) => {
                failure_count += 1;
                drain.pulse().failed(format!("the canonical database does not answer: {error}"));
                let pause = (BACKOFF_MIN * 2_u32.saturating_pow(failure_count.min(8))).min(TICK);
                warn!(side = %drain.side(), failure_count, error = %error, "could not push");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(pause) => {}
                }
                continue;
            }
        };
        failure_count = 0;
        tokio::select! {
            () = stop.cancelled() => {}
            () = nudge.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// For tests that look at requests alone: which writes were said to go in parts.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct NotedParts(pub(crate) std::sync::Mutex<Vec<(Uuid, RecordId)>>);

#[cfg(test)]
impl Parts for NotedParts {
    fn note(
        &self,
        _: EntityNo,
        writes: Vec<(Uuid, RecordId)>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        self.0.lock().unwrap().extend(writes);
        Box::pin(async { true })
    }
}
