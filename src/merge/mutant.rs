//! Rules that are known to be wrong (ARCHITECTURE.md, "What the histories hold"), each selectable by a test, so that the histories can be
//! shown to find them. Not in a release build.

use std::cell::Cell;

use super::{Origin, RecordState, operation::Echo};
use crate::model::{FieldNo, Side, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The shadow moves when the side answers.
    ShadowMovesOnAnswer,
    /// The last event that is read wins.
    NoBase,
    /// Whatever equals something that we have sent is our echo, and is dropped.
    EchoByValueDropped,
    /// Whatever equals something that we have sent is our echo.
    EchoByValue,
    /// A write that changes nothing waits for its echo.
    NoConfirm,
    /// A write is checked before it is sent, and sent as it was bound once.
    StaleCheck,
    /// A delete of ours is taken for somebody's.
    OwnDeleteForeign,
    /// A deleted record stays deleted, whoever edits it elsewhere.
    DeletesWin,
    /// Our own create is taken for somebody's.
    OwnCreateForeign,
    /// What an operation names was sent, whichever of its requests the log shows.
    PartIsWhole,
    /// A cell that our write does not name, and that comes back empty, was emptied by somebody.
    UnnamedIsEdit,
    /// What a side shows that went back in time is read like any listing.
    RestoredIsEdit,
}

thread_local!(static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) });

/// Makes the rules of this thread wrong in one way, or right again.
pub(super) fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

pub(super) fn is(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// What a wrong rule reads an entry as.
pub(super) fn origin(origin: Origin) -> Origin {
    match origin {
        Origin::Restored if is(Mutant::RestoredIsEdit) => Origin::Scan,
        origin => origin,
    }
}

/// Whether something that we have sent to `side`, ever, had this value.
pub(super) fn was_sent(state: &RecordState, side: Side, field: FieldNo, value: &Value) -> bool {
    state
        .operations
        .iter()
        .filter(|operation| operation.side == side)
        .any(|operation| operation.sent(field) == Some(value))
}

/// What a wrong rule takes a cell for.
pub(super) fn echo(
    state: &RecordState,
    side: Side,
    field: FieldNo,
    observed: &Value,
) -> Option<Echo> {
    if !is(Mutant::EchoByValue) && !is(Mutant::EchoByValueDropped) {
        return None;
    }
    Some(if was_sent(state, side, field, observed) { Echo::Ours } else { Echo::Foreign })
}

/// Whether an event is not looked at any further.
pub(super) fn is_dropped(
    state: &RecordState,
    side: Side,
    field: FieldNo,
    observed: &Value,
) -> bool {
    let in_flight = || state.in_flight(side).and_then(|operation| operation.sent(field));
    is(Mutant::EchoByValueDropped)
        && was_sent(state, side, field, observed)
        && in_flight() != Some(observed)
}
