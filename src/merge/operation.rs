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
    /// The same, of a side that was found to have gone back in time: what differs is judged by the journal.
    Restored,
    /// The same, where canonical has gone back: both sides are newer. The first pass takes only records that are
    /// known or carry their canonical id.
    Reread { is_first_pass: bool },
}

impl Origin {
    /// Whether it says what is there now, and nothing of who wrote it.
    pub(crate) fn is_scan(self) -> bool {
        matches!(self, Self::Scan | Self::Restored | Self::Reread { .. })
    }
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
    /// It goes in several requests, some of which may never be taken: a cell that one of them leaves out comes back
    /// as the side held it before, and that is nobody's edit.
    pub(crate) is_partial: bool,
    /// Its echo came with a change of the record that nobody made: which in a row of such writes; 0: it did not.
    pub(crate) answer_count: u16,
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
    /// A write that was not sent yet.
    pub(crate) fn new(id: Uuid, side: Side, kind: OperationKind, cells: Vec<SentCell>) -> Self {
        Self { id, side, kind, cells, is_settled: false, is_partial: false, answer_count: 0 }
    }

    pub(super) fn sent(&self, field: FieldNo) -> Option<&Value> {
        self.cell(field).map(|cell| &cell.value)
    }

    fn cell(&self, field: FieldNo) -> Option<&SentCell> {
        self.cells.iter().find(|cell| cell.field == field)
    }
}

/// What a cell that a side's log shows is to us.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Echo {
    /// Our own write, as sent.
    Ours,
    /// Our own write, but the side keeps something else than this value, which was sent.
    Altered(Value),
    /// A cell of the row that our own write made or changed, as it is because no request of ours has brought it: the
    /// side says nothing by it, and what canonical holds stays owed.
    Unsent,
    Foreign,
}

/// Recognises our own write of one cell. `was_here`: the side had the record before.
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
    was_here: bool,
) -> Echo {
    #[cfg(test)]
    if let Some(wrong) = super::mutant::echo(state, side, field, observed) {
        return wrong;
    }
    let in_flight = || state.in_flight(side);
    match origin {
        Origin::Somebody => Echo::Foreign,
        Origin::Scan => match in_flight().and_then(|operation| operation.cell(field)) {
            Some(cell) if cell.value == *observed => Echo::Ours,
            Some(cell) if in_flight().is_some_and(is_in_parts) && is_between(cell, observed) => {
                Echo::Unsent
            }
            _ => Echo::Foreign,
        },
        // What was under way when one of the two was restored is no more.
        Origin::Restored | Origin::Reread { .. } => Echo::Foreign,
        Origin::Ours(Some(id)) => {
            let named = |operation: &&Operation| operation.id == id && operation.side == side;
            let Some(operation) = state.operations.iter().find(named) else { return Echo::Foreign };
            match operation.cell(field) {
                Some(cell) if cell.value == *observed => Echo::Ours,
                Some(cell)
                    if is_in_parts(operation)
                        && is_left_out(state, side, cell, observed, was_here) =>
                {
                    Echo::Unsent
                }
                // Its echo was read before: this is a flow that goes on with our name.
                Some(_) if operation.is_settled => Echo::Foreign,
                // The side's default, in place of a cell that a later request brings.
                Some(_) if is_in_parts(operation) && !was_here => Echo::Foreign,
                Some(cell) => Echo::Altered(cell.value.clone()),
                None if is_unnamed(operation, observed) => Echo::Unsent,
                None => Echo::Foreign,
            }
        }
        Origin::Ours(None) => {
            let mut ours = state.operations.iter().filter(|operation| operation.side == side);
            if ours.clone().any(|operation| operation.sent(field) == Some(observed)) {
                return Echo::Ours;
            }
            // Nothing but our own request acts in the transaction that makes a record there.
            if !was_here && observed.is_null() {
                return Echo::Unsent;
            }
            if !was_here && ours.any(is_in_parts) {
                return Echo::Foreign;
            }
            let Some((operation, cell)) =
                in_flight().and_then(|operation| Some((operation, operation.cell(field)?)))
            else {
                return Echo::Foreign;
            };
            if is_in_parts(operation) && is_left_out(state, side, cell, observed, was_here) {
                Echo::Unsent
            } else {
                Echo::Altered(cell.value.clone())
            }
        }
    }
}

/// Whether some request of the operation may leave cells out.
fn is_in_parts(operation: &Operation) -> bool {
    #[cfg(test)]
    if super::mutant::is(super::mutant::Mutant::PartIsWhole) {
        return false;
    }
    operation.is_partial
}

/// Whether a cell that the operation does not name is empty: in the transaction of our own write, that is no edit of
/// the side's. Where canonical has a value, it is owed, or parked.
fn is_unnamed(operation: &Operation, observed: &Value) -> bool {
    #[cfg(test)]
    if super::mutant::is(super::mutant::Mutant::UnnamedIsEdit) {
        return false;
    }
    !operation.is_settled && observed.is_null()
}

/// Whether a cell of an operation in parts shows that the request at hand did not bring it: it is empty, as the side
/// held it before, or a set of which some elements have come.
fn is_left_out(
    state: &RecordState,
    side: Side,
    cell: &SentCell,
    observed: &Value,
    was_here: bool,
) -> bool {
    observed.is_null()
        || was_here && state.held_by(side, cell.field) == observed
        || is_between(cell, observed)
}

/// Whether a set is on its way from what the side held to what it is sent: rows of a junction table come and go in
/// requests of their own.
fn is_between(cell: &SentCell, observed: &Value) -> bool {
    let (Value::Set(_) | Value::Null, Value::Set(_) | Value::Null) = (&cell.value, observed) else {
        return false;
    };
    let (from, to, now) = (cell.expected.elements(), cell.value.elements(), observed.elements());
    now.iter().all(|element| from.contains(element) || to.contains(element))
        && from.iter().filter(|element| to.contains(element)).all(|element| now.contains(element))
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
        Origin::Somebody | Origin::Restored | Origin::Reread { .. } => false,
        Origin::Scan => {
            let is_create = |operation: &Operation| operation.kind == OperationKind::Create;
            // One that was given up after a part of it was taken: the record came of that part.
            let was_deleted = state.absent.contains(&(side, true));
            state.in_flight(side).is_some_and(is_create)
                || !was_deleted && operations.any(|it| is_create(it) && is_in_parts(it))
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
        Origin::Somebody | Origin::Restored | Origin::Reread { .. } => false,
        Origin::Scan => deletes.any(|operation| !operation.is_settled),
        Origin::Ours(None) => deletes.next().is_some(),
        Origin::Ours(Some(id)) => deletes.any(|operation| operation.id == id),
    }
}
