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
    let is_shut = !entity.is_on(side) || state.is_outside(side);
    if is_shut || restraints.is_parked || state.in_flight(side).is_some() {
        return Owed::Nothing;
    }
    let is_absent = state.is_absent_on(side);
    if !state.is_alive() {
        let is_wanted = !is_absent && restraints.is_approved && restraints.delete == Some(true);
        return if is_wanted { Owed::Delete } else { Owed::Nothing };
    }
    if is_absent
        && (!restraints.is_approved || restraints.is_questioned || lack(entity, state).is_some())
    {
        return Owed::Nothing;
    }
    let fields = || entity.fields.iter().enumerate().map(|(at, field)| (field_no(at), field));
    let is_free = |no: FieldNo, field: &Field| {
        let value = &state.canon[usize::from(no.0)];
        is_written(field, side)
            && (is_absent || state.is_read(side, no))
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
    if is_absent {
        Owed::Create(cells)
    } else if cells.is_empty() {
        Owed::Nothing
    } else {
        Owed::Update(cells)
    }
}

/// What keeps a record from being created on a side that does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It has no value at all: somebody has made a row, and not filled it in yet.
    AnyValue,
    /// These fields, which the mapping requires, are empty.
    Required(Vec<FieldNo>),
}

/// What a living record lacks before it may be created on another side; `None`: nothing.
pub(crate) fn lack(entity: &Entity, state: &RecordState) -> Option<Lack> {
    if state.canon.iter().all(Value::is_null) {
        return Some(Lack::AnyValue);
    }
    let fields = entity.fields.iter().enumerate().map(|(at, field)| (field_no(at), field));
    let missing: Vec<FieldNo> = fields
        .filter(|(no, field)| field.is_required && state.canon[usize::from(no.0)].is_null())
        .map(|(no, _)| no)
        .collect();
    (!missing.is_empty()).then_some(Lack::Required(missing))
}

/// Whether `side` differs from canonical, or a write of ours to it is not settled: whether a push has to look at
/// the record. What restrains it is not considered.
pub(crate) fn is_due(entity: &Entity, state: &RecordState, side: Side) -> bool {
    if !entity.is_on(side) {
        return false;
    }
    let is_absent = state.is_absent_on(side);
    let differs = || {
        state.shadow.iter().any(|(holder, no, _)| {
            *holder == side && is_written(entity.field(*no), side) && state.is_read(side, *no)
        })
    };
    state.in_flight(side).is_some()
        || state.owes_id(side)
        || !state.is_outside(side)
            && if state.is_alive() { is_absent || differs() } else { state.doomed.contains(&side) }
}

/// Whether the field is ever written to `side`.
pub(crate) fn is_written(field: &Field, side: Side) -> bool {
    field.is_on(side)
        && field.direction != Direction::From(side)
        && field.policy != Policy::Computed
        && field.kind != FieldKind::Computed
        && !field.filled_by.contains(&side)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::{AirtableField, DeletePolicy},
        merge::{
            Origin, Seen, merge,
            tests::{agreed, entity, text},
        },
    };

    const A: Side = Side::Airtable;
    const D: Side = Side::Directus;
    const NAME: FieldNo = FieldNo(0);

    fn free() -> Restraints {
        Restraints { is_approved: true, ..Restraints::default() }
    }

    /// Directus has changed the name; Airtable is owed it.
    fn changed(entity: &Entity) -> RecordState {
        let mut state = agreed(entity, &text("old"));
        merge(entity, &mut state, D, Origin::Somebody, Seen::Present(vec![(NAME, text("new"))]));
        state
    }

    #[test]
    fn owed_cells_are_those_that_differ_and_nothing_restrains() {
        let mut entity = entity(Policy::Ask, DeletePolicy::Hold);
        let mut state = changed(&entity);
        let cell = SentCell { field: NAME, expected: text("old"), value: text("new") };
        assert_eq!(owed(&entity, &state, A, &free()), Owed::Update(vec![cell]));
        assert_eq!(owed(&entity, &state, D, &free()), Owed::Nothing);
        for restraints in [
            Restraints { held: vec![NAME], ..free() },
            Restraints { parked: vec![(NAME, text("new"))], ..free() },
            Restraints { unapproved: vec![NAME], ..free() },
            Restraints { is_parked: true, ..free() },
        ] {
            assert_eq!(owed(&entity, &state, A, &restraints), Owed::Nothing, "{restraints:?}");
        }
        let another = Restraints { parked: vec![(NAME, text("refused"))], ..free() };
        assert!(matches!(owed(&entity, &state, A, &another), Owed::Update(_)));
        entity.fields[0].direction = Direction::From(A);
        assert_eq!(owed(&entity, &state, A, &free()), Owed::Nothing);
        assert!(!is_due(&entity, &state, A));
        entity.fields[0].direction = Direction::Both;
        state.is_deleted = true;
        assert_eq!(owed(&entity, &state, A, &free()), Owed::Nothing);
        let yes = Restraints { delete: Some(true), ..free() };
        assert_eq!(owed(&entity, &state, A, &yes), Owed::Delete);
        let not_yet = Restraints { delete: Some(false), ..free() };
        assert_eq!(owed(&entity, &state, A, &not_yet), Owed::Nothing);
    }

    #[test]
    fn owed_record_is_created_once_it_is_approved_and_no_question_is_open() {
        let entity = entity(Policy::Ask, DeletePolicy::Hold);
        let mut state = RecordState::unknown(&entity);
        let seen = Seen::Present(vec![(NAME, text("new"))]);
        merge(&entity, &mut state, D, Origin::Somebody, seen);
        let cell = SentCell { field: NAME, expected: Value::Null, value: text("new") };
        assert_eq!(owed(&entity, &state, A, &free()), Owed::Create(vec![cell]));
        let asked = Restraints { is_questioned: true, ..free() };
        assert_eq!(owed(&entity, &state, A, &asked), Owed::Nothing);
        assert_eq!(owed(&entity, &state, A, &Restraints::default()), Owed::Nothing);
    }

    #[test]
    fn owed_record_without_its_values_is_not_created_and_one_that_exists_is_written() {
        let mut entity = entity(Policy::Ask, DeletePolicy::Hold);
        let mut state = RecordState::unknown(&entity);
        merge(&entity, &mut state, A, Origin::Somebody, Seen::Present(Vec::new()));
        assert_eq!(lack(&entity, &state), Some(Lack::AnyValue));
        assert_eq!(owed(&entity, &state, D, &free()), Owed::Nothing);
        entity.fields[0].is_required = true;
        let tags = (FieldNo(1), Value::set(vec!["a".into()]));
        merge(&entity, &mut state, A, Origin::Somebody, Seen::Present(vec![tags]));
        assert_eq!(lack(&entity, &state), Some(Lack::Required(vec![NAME])));
        assert_eq!(owed(&entity, &state, D, &free()), Owed::Nothing);
        let name = (NAME, text("Ada"));
        merge(&entity, &mut state, A, Origin::Somebody, Seen::Present(vec![name]));
        assert_eq!(lack(&entity, &state), None);
        assert!(
            matches!(owed(&entity, &state, D, &free()), Owed::Create(cells) if cells.len() == 2)
        );
        // A record that the side has may lose its required value.
        let mut known = agreed(&entity, &text("old"));
        merge(&entity, &mut known, A, Origin::Somebody, Seen::Present(vec![(NAME, Value::Null)]));
        assert!(matches!(owed(&entity, &known, D, &free()), Owed::Update(_)));
    }

    #[test]
    fn owed_half_of_a_name_brings_the_other_one_or_waits_for_it() {
        let mut entity = entity(Policy::Ask, DeletePolicy::Hold);
        let half = |part| {
            Some(AirtableField { field: "Name".into(), part, codes: None, new_options: false })
        };
        entity.fields[0].airtable = half(Part::FirstOfFullName);
        entity.fields[1].airtable = half(Part::LastOfFullName);
        let state = changed(&entity);
        let Owed::Update(cells) = owed(&entity, &state, A, &free()) else { panic!("an update") };
        let fields: Vec<FieldNo> = cells.iter().map(|cell| cell.field).collect();
        assert_eq!(fields, [NAME, FieldNo(1)]);
        assert_eq!(cells[1].expected, cells[1].value);
        let held = Restraints { held: vec![FieldNo(1)], ..free() };
        assert_eq!(owed(&entity, &state, A, &held), Owed::Nothing);
    }
}
