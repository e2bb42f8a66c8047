//! A record's going, and its return.

use super::{
    Action, ClashRecord, Merged, Origin, RecordState, SeenCell, cell::Decision,
    operation::is_our_delete,
};
use crate::{
    mapping::{DeletePolicy, Entity},
    model::{Side, Value},
};

/// Folds in that `side` does not have the record any more.
pub(super) fn delete(
    entity: &Entity,
    state: &mut RecordState,
    side: Side,
    origin: Origin,
) -> Merged {
    let mut merged = Merged::default();
    if state.is_absent_on(side) || !state.exists && !state.is_remembered() {
        return merged;
    }
    let is_ours = is_our_delete(state, side, origin);
    // Edits that this side had not seen when it deleted the record. A value that was computed was entered by nobody.
    let unseen: Vec<SeenCell> = state
        .shadow
        .iter()
        .filter(|(holder, field, _)| {
            *holder == side && state.is_read(side, *field) && !entity.field(*field).is_computed()
        })
        .map(|(_, field, _)| (*field, state.canon[usize::from(field.0)].clone()))
        .collect();
    state.set_absent(side, true);
    // Whatever was on its way to this record finds none.
    state.settle_in_flight(side);
    if is_ours || !state.is_alive() {
        return merged;
    }
    if unseen.is_empty() {
        remove(entity, state, Some(side), &mut merged);
    } else {
        merged.clashes.push(ClashRecord {
            field: None,
            base: None,
            canonical: cells(entity, &unseen),
            observed: Value::Null,
            decision: Decision::CanonicalKept,
        });
    }
    merged
}

/// Folds in that `side`, which went back in time, lacks the record. Nobody has deleted it: it is made there again. One
/// that is deleted anyway is gone there now.
pub(super) fn lack(entity: &Entity, state: &mut RecordState, side: Side) -> Merged {
    let is_lost = state.is_alive();
    if entity.has_absences() && (state.exists || state.is_remembered()) && !state.is_absent_on(side)
    {
        state.set_absent(side, !is_lost);
    }
    Merged::default()
}

/// Folds in that the record is not among the rows of `side` that the mapping mirrors. One that was is withdrawn as if
/// `side` had deleted it, and stays known there, so that it is neither written to nor made a second time.
///
/// An account that becomes an administrator's is no deleted member: where deletes are propagated, it stays what it is
/// everywhere else. Where they are held, it waits for a yes like any other.
pub(super) fn leave(
    entity: &Entity,
    state: &mut RecordState,
    side: Side,
    origin: Origin,
) -> Merged {
    if !state.exists && !state.is_remembered() {
        return Merged::default();
    }
    if origin == Origin::Restored {
        // A side that went back in time decides nothing.
        let merged = lack(entity, state, side);
        state.set_outside(side);
        return merged;
    }
    let is_account = side == Side::Directus && entity.is_of_accounts();
    let merged = if is_account && entity.deletes == DeletePolicy::Propagate && state.is_alive() {
        if !state.is_absent_on(side) {
            state.set_absent(side, false);
        }
        Merged::default()
    } else {
        delete(entity, state, side, origin)
    };
    // Whatever was on its way to this record has arrived outside, or finds none.
    state.settle_in_flight(side);
    state.set_outside(side);
    merged
}

/// Deletes the record as its entity's policy says. Sides that still have it are doomed to follow.
pub(super) fn remove(
    entity: &Entity,
    state: &mut RecordState,
    by: Option<Side>,
    merged: &mut Merged,
) {
    for other in Side::ALL {
        if Some(other) != by && entity.is_on(other) && !state.is_absent_on(other) {
            state.doomed.push(other);
        }
    }
    merged.action = Some(Action::Delete);
    if entity.deletes == DeletePolicy::Propagate {
        merged.changed = state.every_cell(Value::clone);
        state.exists = false;
        state.is_deleted = false;
    } else {
        state.is_deleted = true;
    }
}

/// Brings a deleted record back, on all sides. `edits`: what somebody has changed in it where it still was; `None`
/// where somebody has put it back.
pub(super) fn revive(
    entity: &Entity,
    state: &mut RecordState,
    merged: &mut Merged,
    edits: Option<Vec<SeenCell>>,
) {
    if let Some(edits) = edits {
        merged.clashes.push(ClashRecord {
            field: None,
            base: None,
            canonical: Value::Null,
            observed: cells(entity, &edits),
            decision: Decision::ObservedTaken,
        });
    }
    if !state.exists {
        merged.changed = state.every_cell(|_| Value::Null);
    }
    merged.action = Some(Action::Restore);
    state.exists = true;
    state.is_deleted = false;
    state.doomed.clear();
}

/// `{"field": value, …}`
fn cells(entity: &Entity, cells: &[SeenCell]) -> Value {
    let named =
        cells.iter().map(|(field, value)| (entity.field(*field).name.clone(), value.to_json()));
    Value::Json(named.collect())
}
