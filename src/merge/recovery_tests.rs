//! A side, or canonical, went back in time: what is judged by the journal, and what is a question.

use std::sync::Arc;

use super::{
    Action, Merged, Origin, Owed, Past, RecordState, Restraints, Seen,
    cell::Decision,
    merge, owed,
    tests::{agreed, entity, text},
};
use crate::{
    mapping::{DeletePolicy, Direction, Entity, Policy},
    model::{FieldNo, Side, Value},
};

const A: Side = Side::Airtable;
const D: Side = Side::Directus;
const NAME: FieldNo = FieldNo(0);
const FIRST: Origin = Origin::Reread { is_first_pass: true };
const LAST: Origin = Origin::Reread { is_first_pass: false };

fn show(
    entity: &Entity,
    state: &mut RecordState,
    side: Side,
    origin: Origin,
    value: &str,
) -> Merged {
    merge(entity, state, side, origin, Seen::Present(vec![(NAME, text(value))]))
}

/// A record that both sides hold with `now`, and whose name was `earlier` before.
fn with_past(entity: &Entity, now: &str, earlier: &[&str]) -> RecordState {
    let mut state = agreed(entity, &text(now));
    let mut past = Past::default();
    past.earlier.insert(NAME, earlier.iter().map(|value| text(value)).collect());
    state.past = Some(Arc::new(past));
    state
}

fn free() -> Restraints {
    Restraints { is_approved: true, ..Restraints::default() }
}

#[test]
fn restored_value_that_was_replaced_is_owed_forward_again_and_nobody_is_asked() {
    for policy in [Policy::Ask, Policy::Prefer(D), Policy::Owner(D), Policy::SetMerge] {
        let entity = entity(policy, DeletePolicy::Hold);
        let mut state = with_past(&entity, "new", &["old", "new"]);
        let merged = show(&entity, &mut state, D, Origin::Restored, "old");
        assert_eq!((merged.action, merged.clashes.len()), (None, 0), "{policy:?}");
        assert_eq!(state.canon[0], text("new"));
        assert!(
            matches!(owed(&entity, &state, D, &free()), Owed::Update(cells) if cells[0].value == text("new"))
        );
        assert_eq!(owed(&entity, &state, A, &free()), Owed::Nothing);
        // Read once more, nothing is different.
        let again = state.clone();
        show(&entity, &mut state, D, Origin::Restored, "old");
        assert_eq!(state, again);
    }
}

#[test]
fn restored_value_that_the_journal_does_not_know_is_a_question_whatever_the_policy() {
    for policy in [Policy::Ask, Policy::Prefer(D), Policy::Owner(D), Policy::Max] {
        let entity = entity(policy, DeletePolicy::Hold);
        let mut state = with_past(&entity, "new", &["old", "new"]);
        let merged = show(&entity, &mut state, D, Origin::Restored, "by somebody");
        assert_eq!(merged.clashes[0].decision, Decision::Held, "{policy:?}");
        assert_eq!(state.canon[0], text("new"));
    }
    // The word of a side that may not write the field never counts: kept on record, and written over.
    let entity = entity(Policy::Owner(A), DeletePolicy::Hold);
    let mut state = with_past(&entity, "new", &[]);
    let merged = show(&entity, &mut state, D, Origin::Restored, "by somebody");
    assert_eq!(merged.clashes[0].decision, Decision::CanonicalKept);
}

#[test]
fn restored_value_that_can_not_be_written_back_is_a_question_and_an_erased_one_is_none() {
    let mut one_way = entity(Policy::Ask, DeletePolicy::Hold);
    one_way.fields[0].direction = Direction::From(D);
    let mut state = with_past(&one_way, "new", &["old"]);
    let merged = show(&one_way, &mut state, D, Origin::Restored, "old");
    assert_eq!(merged.clashes[0].decision, Decision::Held);
    // What was erased with a person's data comes back with the backup, and is written over without a row of it.
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("pseudonym"));
    let past = Past { erased: [NAME].into(), ..Past::default() };
    state.past = Some(Arc::new(past));
    let merged = show(&entity, &mut state, D, Origin::Restored, "Jeanne Martin");
    assert!(merged.clashes.is_empty());
    assert_eq!(state.canon[0], text("pseudonym"));
}

#[test]
fn restored_side_that_lacks_a_record_is_owed_it_and_nothing_is_deleted() {
    for deletes in [DeletePolicy::Hold, DeletePolicy::Propagate] {
        let entity = entity(Policy::Ask, deletes);
        let mut state = agreed(&entity, &text("new"));
        let merged = merge(&entity, &mut state, D, Origin::Restored, Seen::Absent);
        assert_eq!(merged, Merged::default());
        assert!(state.is_alive() && state.doomed.is_empty());
        assert_eq!(state.absent, [(D, false)]);
        assert!(matches!(owed(&entity, &state, D, &free()), Owed::Create(_)));
    }
}

#[test]
fn restored_side_that_shows_what_was_deleted_does_not_revive_it() {
    // Marked as deleted here.
    let hold = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&hold, &text("x"));
    for side in [A, D] {
        merge(&hold, &mut state, side, Origin::Somebody, Seen::Absent);
    }
    let merged = show(&hold, &mut state, D, Origin::Restored, "x");
    assert_eq!((merged.action, state.is_alive()), (None, false));
    assert_eq!((&state.doomed[..], &state.absent[..]), (&[D][..], &[(A, true)][..]));
    // Without a row here: the journal knows.
    let propagate = entity(Policy::Ask, DeletePolicy::Propagate);
    let mut state = RecordState::unknown(&propagate);
    state.absent = vec![(A, true), (D, true)];
    let last = vec![(NAME, text("x"))];
    state.past = Some(Arc::new(Past { was_deleted: true, last, ..Past::default() }));
    let merged = show(&propagate, &mut state, D, Origin::Restored, "x");
    assert_eq!((merged.action, state.exists), (None, false));
    assert_eq!((&state.doomed[..], &state.absent[..]), (&[D][..], &[(A, true)][..]));
    let yes = Restraints { delete: Some(true), ..free() };
    assert_eq!(owed(&propagate, &state, D, &yes), Owed::Delete);
}

#[test]
fn restored_side_where_somebody_has_edited_what_was_deleted_brings_it_back_and_asks() {
    // Deleted from a side that has let go of it, and from one that had not.
    for still_has_it in [false, true] {
        let hold = entity(Policy::Ask, DeletePolicy::Hold);
        let mut state = with_past(&hold, "x", &["x"]);
        merge(&hold, &mut state, A, Origin::Somebody, Seen::Absent);
        if !still_has_it {
            merge(&hold, &mut state, D, Origin::Somebody, Seen::Absent);
        }
        let merged = show(&hold, &mut state, D, Origin::Restored, "typed since");
        assert_eq!(merged.action, Some(Action::Restore));
        assert!(state.is_alive() && state.doomed.is_empty());
        assert_eq!(state.canon[0], text("x"));
        let decisions: Vec<Decision> = merged.clashes.into_iter().map(|it| it.decision).collect();
        assert_eq!(decisions, [Decision::ObservedTaken, Decision::Held]);
    }
    // An empty cell is no edit: the backup may be of a time when nothing had been entered.
    let hold = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = with_past(&hold, "x", &["x"]);
    for side in [A, D] {
        merge(&hold, &mut state, side, Origin::Somebody, Seen::Absent);
    }
    let cells = Seen::Present(vec![(NAME, Value::Null)]);
    merge(&hold, &mut state, D, Origin::Restored, cells);
    assert!(!state.is_alive());
}

#[test]
fn reread_takes_what_both_hold_or_one_side_moved() {
    let entity = entity(Policy::Prefer(A), DeletePolicy::Hold);
    // Both hold the same newer value.
    let mut state = agreed(&entity, &text("old"));
    show(&entity, &mut state, A, FIRST, "new");
    let merged = show(&entity, &mut state, D, LAST, "new");
    assert_eq!((&state.canon[0], merged.clashes.len()), (&text("new"), 0));
    assert!(state.shadow.is_empty());
    // One side moved, whichever is read first.
    for (moved, still) in [(A, D), (D, A)] {
        let mut state = agreed(&entity, &text("old"));
        show(&entity, &mut state, moved, LAST, "new");
        let merged = show(&entity, &mut state, still, LAST, "old");
        assert_eq!((&state.canon[0], merged.clashes.len()), (&text("new"), 0));
        assert!(matches!(owed(&entity, &state, still, &free()), Owed::Update(_)));
    }
    // A conflict that was held then, and settled since on both.
    let ask = super::tests::entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&ask, &text("old"));
    show(&ask, &mut state, A, Origin::Somebody, "one");
    show(&ask, &mut state, D, Origin::Somebody, "other");
    show(&ask, &mut state, D, LAST, "third");
    let merged = show(&ask, &mut state, A, LAST, "third");
    assert_eq!(state.canon[0], text("third"));
    assert!(merged.agreed.contains(&(D, NAME)) && state.shadow.is_empty());
}

#[test]
fn reread_where_both_moved_asks_whatever_the_policy() {
    for policy in [Policy::Prefer(A), Policy::Prefer(D), Policy::Max, Policy::Ask] {
        let entity = entity(policy, DeletePolicy::Hold);
        let mut state = agreed(&entity, &text("old"));
        show(&entity, &mut state, A, FIRST, "in Airtable");
        let merged = show(&entity, &mut state, D, LAST, "in Directus");
        assert_eq!(merged.clashes[0].decision, Decision::Held, "{policy:?}");
        assert_eq!(state.canon[0], text("in Airtable"));
        // One that canonical lacks altogether, and that both have with different values.
        let mut state = RecordState::unknown(&entity);
        let merged = show(&entity, &mut state, A, FIRST, "in Airtable");
        assert_eq!(merged.action, Some(Action::Create));
        let merged = show(&entity, &mut state, D, LAST, "in Directus");
        assert_eq!(merged.clashes[0].decision, Decision::Held, "{policy:?}");
        assert!(state.absent.is_empty());
    }
}

#[test]
fn past_knows_by_value() {
    let mut past = Past::default();
    past.earlier.insert(NAME, [Value::Null, text("old")].into());
    assert!(past.knows(NAME, &Value::Null) && past.knows(NAME, &text("old")));
    assert!(!past.knows(NAME, &text("new")) && !past.knows(FieldNo(1), &text("old")));
}
