//! Our own writes to a side: what was sent, and how the side's log is told from somebody's.

use uuid::Uuid;

use crate::model::{FieldNo, Side, Value};

/// Who wrote what an observation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody on that side.
    Somebody,
    /// Our own account there; with the operation, where the log tells it (Directus does, Airtable does not).
    Ours(Option<Uuid>),
    /// A snapshot or a listing: what is there now, whoever wrote it.
    Scan,
}

/// A write of ours to one record of one side, bound; its effect may or may not have been seen in that side's log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    pub(crate) side: Side,
    pub(crate) kind: OperationKind,
    pub(crate) cells: Vec<SentCell>,
    /// Its effect was read in the side's log. At most one a record and side is not settled.
    pub(crate) is_settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Create,
    Update,
    Delete,
}

/// A cell that an operation names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SentCell {
    pub(crate) field: FieldNo,
    /// What the side held by its log when the operation was bound.
    pub(crate) expected: Value,
    pub(crate) value: Value,
}

impl OperationKind {
    /// The name in `mirror.operation`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}
