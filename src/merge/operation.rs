//! Our own writes to a side: what was sent, and how it is told from somebody's in that side's log.

use uuid::Uuid;

use super::RecordState;
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

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete].into_iter().find(|kind| kind.name() == name)
    }
}

impl Operation {
    pub(super) fn sent(&self, field: FieldNo) -> Option<&Value> {
        self.cells.iter().find(|cell| cell.field == field).map(|cell| &cell.value)
    }
}

/// What a cell that a side's log shows is to us.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Echo {
    /// Our own write, as sent.
    Ours,
    /// Our own write, but the side keeps something else than this value, which was sent.
    Altered(Value),
    Foreign,
}

/// Recognises our own write of one cell.
///
/// Never by its value alone: a person who returns to a value that we have sent is heard. On Directus the operation's
/// id says it; on Airtable the account says that it is ours, and the value which of our writes it is: the one in
/// flight, or a late second copy of an earlier one. A value from our account that no operation sent, of a cell that
/// none in flight names, is somebody using our token. A scan knows no author; there the value of the write in flight
/// has most likely come from it, and taking it for somebody's would make a conflict with ourselves.
pub(super) fn echo(
    state: &RecordState,
    side: Side,
    origin: Origin,
    field: FieldNo,
    observed: &Value,
) -> Echo {
    #[cfg(test)]
    if let Some(wrong) = super::mutant::echo(state, side, field, observed) {
        return wrong;
    }
    let in_flight = || state.in_flight(side).and_then(|operation| operation.sent(field));
    match origin {
        Origin::Somebody => Echo::Foreign,
        Origin::Scan if in_flight() == Some(observed) => Echo::Ours,
        Origin::Scan => Echo::Foreign,
        Origin::Ours(Some(id)) => {
            let named = |operation: &&Operation| operation.id == id && operation.side == side;
            let Some(operation) = state.operations.iter().find(named) else { return Echo::Foreign };
            match operation.sent(field) {
                Some(sent) if sent == observed => Echo::Ours,
                // Its echo was read before: this is a flow that goes on with our name.
                Some(_) if operation.is_settled => Echo::Foreign,
                Some(sent) => Echo::Altered(sent.clone()),
                None => Echo::Foreign,
            }
        }
        Origin::Ours(None) => {
            let ours = || state.operations.iter().filter(|operation| operation.side == side);
            if ours().any(|operation| operation.sent(field) == Some(observed)) {
                return Echo::Ours;
            }
            in_flight().map_or(Echo::Foreign, |sent| Echo::Altered(sent.clone()))
        }
    }
}

/// Whether all that our account shows on a side without operation ids is a late copy of a write that was settled
/// before: then it is not what became of the one in flight.
pub(super) fn is_late_copy(
    state: &RecordState,
    side: Side,
    origin: Origin,
    cells: &[(FieldNo, Value)],
) -> bool {
    let explains = |operation: &Operation| {
        let mut named = cells
            .iter()
            .filter_map(|(field, observed)| Some(operation.sent(*field)? == observed))
            .peekable();
        named.peek().is_some() && named.all(|is_same| is_same)
    };
    origin == Origin::Ours(None)
        && !state.in_flight(side).is_some_and(&explains)
        && state
            .operations
            .iter()
            .any(|operation| operation.side == side && operation.is_settled && explains(operation))
}

/// Whether an observation of the whole record is of one that a write of ours has made.
pub(super) fn is_our_record(state: &RecordState, side: Side, origin: Origin) -> bool {
    #[cfg(test)]
    if super::mutant::is(super::mutant::Mutant::OwnCreateForeign) {
        return false;
    }
    let ours = |operation: &&Operation| operation.side == side;
    let mut operations = state.operations.iter().filter(ours);
    match origin {
        Origin::Somebody => false,
        Origin::Scan => {
            state.in_flight(side).is_some_and(|operation| operation.kind == OperationKind::Create)
        }
        Origin::Ours(Some(id)) => operations.any(|operation| operation.id == id),
        // An update by the id in a field makes the record anew if it was deleted meanwhile.
        Origin::Ours(None) => operations.any(|operation| operation.kind != OperationKind::Delete),
    }
}

/// Whether an absence is the effect of a delete of ours.
pub(super) fn is_our_delete(state: &RecordState, side: Side, origin: Origin) -> bool {
    #[cfg(test)]
    if super::mutant::is(super::mutant::Mutant::OwnDeleteForeign) {
        return false;
    }
    let mut deletes = state
        .operations
        .iter()
        .filter(|operation| operation.side == side && operation.kind == OperationKind::Delete);
    match origin {
        Origin::Somebody => false,
        Origin::Scan => deletes.any(|operation| !operation.is_settled),
        Origin::Ours(None) => deletes.next().is_some(),
        Origin::Ours(Some(id)) => deletes.any(|operation| operation.id == id),
    }
}
