//! What a side lacks: the difference between canonical and what the side holds, less what has to wait.

use super::{RecordState, SentCell, state::field_no};
use crate::{
    mapping::{Direction, Entity, Field, FieldKind, Part, Policy},
    model::{FieldNo, Side, Value},
};

/// What keeps a record's cells from being written to a side.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Restraints {
    /// Cells in a conflict that a person has to decide.
    pub(crate) held: Vec<FieldNo>,
    /// Cells that the side refused, with the value that it refused: another value is tried.
    pub(crate) parked: Vec<(FieldNo, Value)>,
    /// The side refused the record as a whole.
    pub(crate) is_parked: bool,
    /// Whether the plan for new and deleted records of this entity was accepted.
    pub(crate) is_approved: bool,
    /// Fields whose plan was not accepted yet.
    pub(crate) unapproved: Vec<FieldNo>,
    /// It may be the same as another record: a person has to say.
    pub(crate) is_questioned: bool,
    /// It was deleted on the other side, and a yes to deleting it here too is there (`true`) or not yet (`false`).
    pub(crate) delete: Option<bool>,
}

/// What is to be written to a side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owed {
    Nothing,
    /// The record, with these cells; empty ones are left out.
    Create(Vec<SentCell>),
    Update(Vec<SentCell>),
    Delete,
}

/// What `side` is to be sent now, given what restrains it. Nothing while a write of ours to it is in flight: what
/// it expects has to be known.
///
/// A field that shares a cell with another, as the two halves of a full name do, brings that one with it; where
/// one of them has to wait, both do.
pub(crate) fn owed(
    entity: &Entity,
    state: &RecordState,
    side: Side,
    restraints: &Restraints,
) -> Owed {
    if !entity.is_on(side) || restraints.is_parked || state.in_flight(side).is_some() {
        return Owed::Nothing;
    }
    let is_absent = state.is_absent_on(side);
    if !state.is_alive() {
        let is_wanted = !is_absent && restraints.is_approved && restraints.delete == Some(true);
        return if is_wanted { Owed::Delete } else { Owed::Nothing };
    }
    if is_absent && (!restraints.is_approved || restraints.is_questioned) {
        return Owed::Nothing;
    }
    let fields = || entity.fields.iter().enumerate().map(|(at, field)| (field_no(at), field));
    let is_free = |no: FieldNo, field: &Field| {
        let value = &state.canon[usize::from(no.0)];
        is_written(field, side)
            && !restraints.held.contains(&no)
            && !restraints.unapproved.contains(&no)
            && !restraints.parked.iter().any(|(parked, refused)| *parked == no && refused == value)
    };
    let differs = |no: FieldNo| {
        if is_absent {
            !state.canon[usize::from(no.0)].is_null()
        } else {
            state.shadow_at(side, no).is_some()
        }
    };
    let mut cells = Vec::new();
    for (no, field) in fields() {
        let of_one_cell: Vec<_> =
            fields().filter(|(_, other)| share_a_cell(field, other, side)).collect();
        let is_wanted = differs(no) || of_one_cell.iter().any(|(no, _)| differs(*no));
        if is_wanted
            && is_free(no, field)
            && of_one_cell.iter().all(|(no, field)| is_free(*no, field))
        {
            let value = state.canon[usize::from(no.0)].clone();
            let expected = if is_absent { Value::Null } else { state.held_by(side, no).clone() };
            cells.push(SentCell { field: no, expected, value });
        }
    }
    match is_absent {
        true => Owed::Create(cells),
        false if cells.is_empty() => Owed::Nothing,
        false => Owed::Update(cells),
    }
}

/// Whether `side` differs from canonical, or a write of ours to it is not settled: whether a push has to look at
/// the record. What restrains it is not considered.
pub(crate) fn is_due(entity: &Entity, state: &RecordState, side: Side) -> bool {
    if !entity.is_on(side) {
        return false;
    }
    let is_absent = state.is_absent_on(side);
    let differs = || {
        state
            .shadow
            .iter()
            .any(|(holder, no, _)| *holder == side && is_written(entity.field(*no), side))
    };
    state.in_flight(side).is_some()
        || state.owes_id(side)
        || if state.is_alive() { is_absent || differs() } else { state.doomed.contains(&side) }
}

/// Whether the field is ever written to `side`.
pub(crate) fn is_written(field: &Field, side: Side) -> bool {
    field.is_on(side)
        && field.direction != Direction::From(side)
        && field.policy != Policy::Computed
        && field.kind != FieldKind::Computed
}

/// Whether two fields are halves of one cell of `side`.
fn share_a_cell(field: &Field, other: &Field, side: Side) -> bool {
    let (Side::Airtable, Some(mine), Some(others)) = (side, &field.airtable, &other.airtable)
    else {
        return false;
    };
    mine.field == others.field
        && mine.part != others.part
        && matches!(mine.part, Part::FirstOfFullName | Part::LastOfFullName)
}
