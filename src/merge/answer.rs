//! A record that answers itself: a side changes something of its own with each write of ours, that change is owed to the
//! other side, which does the same. Counted by our own writes, one after the other; a person's edit ends the row.

use super::{Action, Merged, Origin, RecordState};
use crate::{mapping::Entity, model::Side};

/// So many writes of ours to a record in a row, each answered by a change of the record that nobody made, are a loop: a
/// formula over what another formula gave is answered two or three times.
pub(crate) const ANSWER_COUNT_MAX: u16 = 6;

impl RecordState {
    /// Whether nothing but our own writes has changed the record for so long that it would go on for ever.
    pub(crate) fn answers_itself(&self) -> bool {
        self.operations.iter().any(|operation| operation.answer_count >= ANSWER_COUNT_MAX)
    }

    /// A person has had a hand in it.
    pub(super) fn forget_answers(&mut self) {
        for operation in &mut self.operations {
            operation.answer_count = 0;
        }
    }
}

/// Notes what an observation, which came to `merged`, says of such a row. One write is answered once, however many
/// observations show it; a write without an answer ends the row with the next one.
pub(super) fn note(
    entity: &Entity,
    state: &mut RecordState,
    side: Side,
    origin: Origin,
    merged: &Merged,
) {
    let id = match origin {
        Origin::Somebody => {
            let is_edit =
                |changed: &super::Changed| !entity.field(changed.field).is_computed_by(side);
            let is_persons = matches!(merged.action, Some(Action::Delete | Action::Restore))
                || !merged.clashes.is_empty()
                || merged.changed.iter().any(is_edit);
            if is_persons {
                state.forget_answers();
            }
            return;
        }
        Origin::Ours(id) => id,
        Origin::Scan | Origin::Restored | Origin::Reread { .. } => return,
    };
    if merged.changed.is_empty() {
        return;
    }
    let operations = &mut state.operations;
    let answered = operations
        .iter()
        .rposition(|operation| operation.side == side && id.is_none_or(|id| operation.id == id));
    let Some(at) = answered.filter(|at| operations[*at].answer_count == 0) else { return };
    let before = at.checked_sub(1).map_or(0, |before| operations[before].answer_count);
    operations[at].answer_count = before.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        mapping::{DeletePolicy, Direction, Entity, FieldKind, Policy},
        merge::{
            Operation, OperationKind, Seen, SentCell, merge,
            tests::{agreed, entity, field, text},
        },
        model::{FieldNo, Value},
    };

    const A: Side = Side::Airtable;
    const D: Side = Side::Directus;
    const NAME: FieldNo = FieldNo(0);
    /// Filled by Directus, and the other one by Airtable.
    const UPDATED: FieldNo = FieldNo(1);
    const MODIFIED: FieldNo = FieldNo(2);

    fn card() -> Entity {
        let filled = |name: &str, by| crate::mapping::Field {
            direction: Direction::From(by),
            filled_by: vec![by],
            ..field(name, FieldKind::Integer, Policy::Ask)
        };
        let mut card = entity(Policy::Ask, DeletePolicy::Hold);
        card.fields[1] = filled("updated", D);
        card.fields.push(filled("modified", A));
        card
    }

    /// Our next write to `side`, its effect, and what the side changes with it.
    fn write(entity: &Entity, state: &mut RecordState, no: u128, side: Side, is_answered: bool) {
        let (mine, others) = if side == A { (MODIFIED, UPDATED) } else { (UPDATED, MODIFIED) };
        let value = state.canon[usize::from(others.0)].clone();
        let sent = SentCell { field: others, expected: Value::Null, value: value.clone() };
        let id = Uuid::from_u128(no);
        state.operations.push(Operation::new(id, side, OperationKind::Update, vec![sent]));
        let mut cells = vec![(others, value)];
        if is_answered {
            cells.push((mine, Value::Int(i64::try_from(no).unwrap())));
        }
        let origin = Origin::Ours((side == D).then_some(id));
        let merged = merge(entity, state, side, origin, Seen::Present(cells));
        assert_eq!(merged.changed.len(), usize::from(is_answered));
    }

    fn side(no: u128) -> Side {
        if no.is_multiple_of(2) { D } else { A }
    }

    #[test]
    fn answer_after_answer_is_a_loop_and_a_persons_edit_ends_it() {
        let entity = card();
        let mut state = agreed(&entity, &text("x"));
        for no in 1..=u128::from(ANSWER_COUNT_MAX) {
            assert!(!state.answers_itself(), "{no}");
            write(&entity, &mut state, no, side(no), true);
        }
        assert!(state.answers_itself());
        // What moves by itself, moved by somebody else's clock, is no person's.
        let clock = Seen::Present(vec![(MODIFIED, Value::Int(900))]);
        merge(&entity, &mut state, A, Origin::Somebody, clock);
        assert!(state.answers_itself());
        merge(&entity, &mut state, A, Origin::Somebody, Seen::Present(vec![(NAME, text("y"))]));
        assert!(!state.answers_itself());
    }

    #[test]
    fn answer_is_counted_once_a_write_and_a_write_without_one_ends_the_row() {
        let entity = card();
        let mut state = agreed(&entity, &text("x"));
        for no in 1..40 {
            write(&entity, &mut state, no, side(no), no % 3 != 0);
            // The same write, told of again: other records' formulas move this one.
            if side(no) == A {
                let more =
                    Seen::Present(vec![(MODIFIED, Value::Int(1_000 + i64::try_from(no).unwrap()))]);
                if no % 3 != 0 {
                    merge(&entity, &mut state, A, Origin::Ours(None), more);
                }
            }
            assert!(!state.answers_itself(), "{no}");
        }
    }

    #[test]
    fn computed_value_that_our_own_write_moves_brings_no_record_back() {
        for side in [A, D] {
            let entity = card();
            let (mine, other) = if side == A { (MODIFIED, D) } else { (UPDATED, A) };
            // Before the delete is read, and after it.
            for is_before in [true, false] {
                let mut state = agreed(&entity, &text("x"));
                let sent = SentCell { field: NAME, expected: text("x"), value: text("y") };
                merge(
                    &entity,
                    &mut state,
                    other,
                    Origin::Somebody,
                    Seen::Present(vec![(NAME, text("y"))]),
                );
                let id = Uuid::from_u128(1);
                state.operations.push(Operation::new(id, side, OperationKind::Update, vec![sent]));
                let echo = Seen::Present(vec![(NAME, text("y")), (mine, Value::Int(7))]);
                let origin = Origin::Ours((side == D).then_some(id));
                if is_before {
                    merge(&entity, &mut state, side, origin, echo.clone());
                }
                let merged = merge(&entity, &mut state, other, Origin::Somebody, Seen::Absent);
                assert_eq!((merged.action, merged.clashes.len()), (Some(Action::Delete), 0));
                let merged = merge(&entity, &mut state, side, origin, echo);
                assert_eq!(merged.action, None, "{side} {is_before}");
                assert!(!state.is_alive());
            }
        }
    }
}
