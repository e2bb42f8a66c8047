//! What a side lacks → requests to it. In: due rows of the outbox. Out: operations bound before they are sent, and
//! what the side said of them; what it holds is learnt from its own log alone, by `apply`.

#[cfg_attr(not(test), expect(dead_code, reason = "the drain is to call it"))]
pub(crate) mod airtable;

use std::{future::Future, pin::Pin, time::Duration};

use serde_json::Value as Json;
use uuid::Uuid;

use crate::model::{EntityNo, FieldNo, RecordId, SideKey};

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

    /// Sends them and says what became of each. A record is named once only.
    fn send<'a>(
        &'a self,
        bounds: Vec<Bound>,
    ) -> Pin<Box<dyn Future<Output = Vec<(RecordId, Outcome)>> + Send + 'a>>;
}

/// The cell of a set that lives in a junction table of Directus: `{"add": [element, …], "remove": [row key, …]}`.
pub(crate) const ADD: &str = "add";
pub(crate) const REMOVE: &str = "remove";
