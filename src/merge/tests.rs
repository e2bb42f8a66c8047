//! The rules of one record, by example and by property.

use proptest::prelude::*;

use super::{
    Action, Merged, Origin, Owed, RecordState, Restraints, Seen,
    cell::{Base, Decision, Verdict, judge},
    is_due, merge, owed,
};
use crate::{
    mapping::{
        AirtableField, AirtableTable, DeletePolicy, Direction, DirectusField, DirectusTable,
        Entity, Field, FieldKind, Part, Policy, Store,
    },
    model::{FieldNo, Side, Value},
};

const A: Side = Side::Airtable;
const D: Side = Side::Directus;

pub(crate) fn field(name: &str, kind: FieldKind, policy: Policy) -> Field {
    Field {
        name: name.into(),
        store: Store::Column(name.into()),
        kind,
        transforms: Vec::new(),
        airtable: Some(AirtableField {
            field: name.into(),
            part: Part::Whole,
            codes: None,
            new_options: false,
        }),
        directus: Some(DirectusField::Column {
            column: name.into(),
            part: Part::Whole,
            codes: None,
        }),
        policy,
        direction: Direction::Both,
        transitions: None,
        personal: crate::mapping::Personal::No,
        erased: None,
        is_required: false,
        filled_by: Vec::new(),
    }
}

pub(crate) fn entity(policy: Policy, deletes: DeletePolicy) -> Entity {
    Entity {
        name: "startup".into(),
        table: "startup".into(),
        airtable: Some(AirtableTable { base: "b".into(), table: "t".into(), uuid: None }),
        directus: Some(DirectusTable {
            schema: "public".into(),
            table: "t".into(),
            key: "id".into(),
        }),
        deletes,
        matches: Vec::new(),
        password: None,
        caution: crate::mapping::Caution::default(),
        guard: crate::mapping::MassGuard::default(),
        rows: crate::mapping::Rows::default(),
        fields: vec![
            field("name", FieldKind::Text, policy),
            field("tags", FieldKind::MultiSelect, Policy::SetMerge),
        ],
    }
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn set(elements: &[&str]) -> Value {
    Value::set(elements.iter().map(ToString::to_string).collect())
}

fn see(entity: &Entity, state: &mut RecordState, side: Side, value: &Value) -> Merged {
    merge(entity, state, side, Origin::Somebody, Seen::Present(vec![(FieldNo(0), value.clone())]))
}

/// A record on both sides, with `value` everywhere.
pub(super) fn agreed(entity: &Entity, value: &Value) -> RecordState {
    let mut state = RecordState::unknown(entity);
    see(entity, &mut state, A, value);
    see(entity, &mut state, D, value);
    state
}

fn shadow(state: &RecordState, side: Side) -> Value {
    let stored = state.shadow.iter().find(|(holder, no, _)| *holder == side && no.0 == 0);
    stored.map_or_else(|| state.canon[0].clone(), |(.., value)| value.clone())
}

#[test]
fn merge_new_record_is_created_and_owed_to_the_other_side() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = RecordState::unknown(&entity);
    let merged = see(&entity, &mut state, A, &text("Harbour"));
    assert_eq!(merged.action, Some(Action::Create));
    assert_eq!((state.exists, &state.canon[0]), (true, &text("Harbour")));
    assert_eq!(state.absent, [(D, false)]);
}

#[test]
fn merge_edit_of_one_side_is_taken_and_owed_to_the_other() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("old"));
    let merged = see(&entity, &mut state, D, &text("new"));
    assert_eq!(merged.action, Some(Action::Update));
    assert_eq!(state.canon[0], text("new"));
    assert_eq!(state.shadow, [(A, FieldNo(0), text("old"))]);
    assert!(merged.clashes.is_empty());
}

#[test]
fn merge_both_moved_alike_is_no_conflict_and_nothing_is_owed() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("old"));
    see(&entity, &mut state, D, &text("new"));
    let merged = see(&entity, &mut state, A, &text("new"));
    assert_eq!((merged.action, merged.clashes.len()), (None, 0));
    assert!(state.shadow.is_empty());
}

#[test]
fn merge_conflict_under_ask_is_held_with_all_three_values() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("old"));
    see(&entity, &mut state, D, &text("theirs"));
    let merged = see(&entity, &mut state, A, &text("ours"));
    let [clash] = &merged.clashes[..] else { panic!("one conflict") };
    assert_eq!(clash.decision, Decision::Held);
    assert_eq!(
        (&clash.base, &clash.canonical, &clash.observed),
        (&Some(text("old")), &text("theirs"), &text("ours"))
    );
    assert_eq!((&state.canon[0], shadow(&state, A)), (&text("theirs"), text("ours")));
    // Airtable comes round: the hold is over.
    let merged = see(&entity, &mut state, A, &text("theirs"));
    assert_eq!(merged.agreed, [(A, FieldNo(0))]);
    assert!(state.shadow.is_empty());
}

#[test]
fn merge_conflict_under_prefer_gives_way_to_that_side_only() {
    for (winner, loser) in [(A, D), (D, A)] {
        let entity = entity(Policy::Prefer(winner), DeletePolicy::Hold);
        let mut first_loses = agreed(&entity, &text("old"));
        see(&entity, &mut first_loses, loser, &text("loses"));
        let merged = see(&entity, &mut first_loses, winner, &text("wins"));
        assert_eq!(merged.clashes[0].decision, Decision::ObservedTaken);
        let mut second_loses = agreed(&entity, &text("old"));
        see(&entity, &mut second_loses, winner, &text("wins"));
        let merged = see(&entity, &mut second_loses, loser, &text("loses"));
        assert_eq!(merged.clashes[0].decision, Decision::CanonicalKept);
        for state in [first_loses, second_loses] {
            assert_eq!(state.canon[0], text("wins"));
            assert_eq!(shadow(&state, loser), text("loses"));
        }
    }
}

#[test]
fn merge_edit_where_the_other_side_is_owner_is_kept_on_record_and_owed_back() {
    let entity = entity(Policy::Owner(A), DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("old"));
    let merged = see(&entity, &mut state, D, &text("not yours"));
    assert_eq!(merged.clashes[0].decision, Decision::CanonicalKept);
    assert_eq!((&state.canon[0], shadow(&state, D)), (&text("old"), text("not yours")));
}

#[test]
fn merge_sets_element_by_element() {
    let mut entity = entity(Policy::Ask, DeletePolicy::Hold);
    entity.fields.swap(0, 1);
    let mut state = agreed(&entity, &set(&["a", "b"]));
    see(&entity, &mut state, D, &set(&["a", "b", "c"]));
    let merged = see(&entity, &mut state, A, &set(&["b", "d"]));
    assert_eq!(state.canon[0], set(&["b", "c", "d"]));
    assert_eq!(merged.clashes[0].decision, Decision::Merged(set(&["b", "c", "d"])));
    assert_eq!(shadow(&state, A), set(&["b", "d"]));
    assert_eq!(shadow(&state, D), set(&["a", "b", "c"]));
}

#[test]
fn merge_somebody_who_returns_to_an_earlier_value_is_heard() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("one"));
    see(&entity, &mut state, D, &text("two"));
    // Our push is not in this log yet; Directus goes back to what Airtable still holds.
    let merged = see(&entity, &mut state, D, &text("one"));
    assert_eq!(merged.action, Some(Action::Update));
    assert_eq!(state.canon[0], text("one"));
    assert!(state.shadow.is_empty());
}

#[test]
fn merge_first_meeting_fills_what_is_empty_and_asks_for_the_rest() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    for (canon, seen, after, clash_count) in [
        (Value::Null, text("x"), text("x"), 0),
        (text("x"), Value::Null, text("x"), 0),
        (text("x"), text("x"), text("x"), 0),
        (text("x"), text("y"), text("x"), 1),
    ] {
        let mut state = RecordState::unknown(&entity);
        see(&entity, &mut state, D, &canon);
        let merged = see(&entity, &mut state, A, &seen);
        assert_eq!(state.canon[0], after);
        assert_eq!(merged.clashes.len(), clash_count);
        assert!(merged.clashes.iter().all(|clash| clash.base.is_none()));
        assert_eq!(shadow(&state, A), seen);
    }
}

#[test]
fn merge_delete_is_held_and_undone_by_a_restore() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("x"));
    let merged = merge(&entity, &mut state, A, Origin::Somebody, Seen::Absent);
    assert_eq!((merged.action, state.is_deleted, state.exists), (Some(Action::Delete), true, true));
    let merged = see(&entity, &mut state, A, &text("x"));
    assert_eq!((merged.action, state.is_deleted), (Some(Action::Restore), false));
}

#[test]
fn merge_delete_that_propagates_keeps_the_last_values() {
    let entity = entity(Policy::Ask, DeletePolicy::Propagate);
    let mut state = agreed(&entity, &text("x"));
    let merged = merge(&entity, &mut state, A, Origin::Somebody, Seen::Absent);
    assert_eq!((merged.action, state.exists), (Some(Action::Delete), false));
    assert_eq!(merged.changed[0].before, text("x"));
}

#[test]
fn merge_delete_that_meets_an_edit_loses_and_is_on_record() {
    for deletes in [DeletePolicy::Hold, DeletePolicy::Propagate] {
        let entity = entity(Policy::Ask, deletes);
        let mut state = agreed(&entity, &text("old"));
        see(&entity, &mut state, D, &text("new"));
        let merged = merge(&entity, &mut state, A, Origin::Somebody, Seen::Absent);
        assert_eq!(merged.action, None);
        assert_eq!((state.exists, state.is_deleted, &state.canon[0]), (true, false, &text("new")));
        assert_eq!(merged.clashes[0].field, None);
        assert_eq!(state.absent, [(A, true)]);
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Ask),
        Just(Policy::Prefer(A)),
        Just(Policy::Prefer(D)),
        Just(Policy::Owner(A)),
        Just(Policy::Owner(D)),
        Just(Policy::Max),
        Just(Policy::Min),
        Just(Policy::Computed),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), (0..4u8).prop_map(|n| text(&n.to_string()))]
}

fn any_event() -> impl Strategy<Value = (Side, Option<Value>)> {
    (prop_oneof![Just(A), Just(D)], prop_oneof![9 => any_value().prop_map(Some), 1 => Just(None)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever is observed: the shadow is what the side holds, nothing is noted twice, seeing it again does
    /// nothing, and a value that went without a conflict went to somebody who had seen it.
    #[test]
    fn merge_any_history_keeps_its_promises(
        policy in any_policy(),
        deletes in prop_oneof![Just(DeletePolicy::Hold), Just(DeletePolicy::Propagate)],
        events in prop::collection::vec(any_event(), 1..24),
    ) {
        let entity = entity(policy, deletes);
        let mut state = RecordState::unknown(&entity);
        for (side, value) in events {
            let before = state.clone();
            let seen = value.clone().map_or(Seen::Absent, |value| Seen::Present(vec![(FieldNo(0), value)]));
            let merged = merge(&entity, &mut state, side, Origin::Somebody, seen.clone());
            if let Some(value) = &value {
                prop_assert_eq!(&shadow(&state, side), value);
                prop_assert!(!state.absent.iter().any(|(absent, _)| *absent == side));
            }
            for (holder, no, value) in &state.shadow {
                prop_assert_ne!(value, &state.canon[usize::from(no.0)]);
                prop_assert!(!state.absent.iter().any(|(absent, _)| absent == holder));
            }
            // Another side's shadow is moved by its own log only.
            let other = if side == A { D } else { A };
            if before.exists && state.exists && !before.absent.iter().any(|(absent, _)| *absent == other) {
                prop_assert_eq!(shadow(&before, other), shadow(&state, other));
            }
            // Canonical left a value: this side had it, or it was empty, or there is a conflict.
            if value.is_some() && before.exists && before.canon[0] != state.canon[0] {
                let had_seen = !before.absent.iter().any(|(absent, _)| *absent == side)
                    && shadow(&before, side) == before.canon[0];
                let is_computed = policy == Policy::Computed;
                prop_assert!(had_seen || before.canon[0].is_null() || is_computed || !merged.clashes.is_empty());
            }
            let once = state.clone();
            let again = merge(&entity, &mut state, side, Origin::Somebody, seen);
            prop_assert_eq!(&once, &state);
            prop_assert_eq!((again.action, again.changed.len(), again.clashes.len()), (None, 0, 0));
        }
    }

    /// The order in which two racing edits are read does not matter where a rule decides.
    #[test]
    fn merge_racing_edits_commute(
        policy in prop_oneof![Just(Policy::Prefer(A)), Just(Policy::Prefer(D)), Just(Policy::Max), Just(Policy::Min)],
        base in any_value(), a in any_value(), d in any_value(),
    ) {
        let entity = entity(policy, DeletePolicy::Hold);
        let mut first = agreed(&entity, &base);
        see(&entity, &mut first, A, &a);
        see(&entity, &mut first, D, &d);
        let mut second = agreed(&entity, &base);
        see(&entity, &mut second, D, &d);
        see(&entity, &mut second, A, &a);
        prop_assert_eq!(first.canon, second.canon);
    }

    #[test]
    fn judge_unchanged_value_is_no_news(policy in any_policy(), canon in any_value(), held in any_value()) {
        let field = field("f", FieldKind::Text, policy);
        prop_assert_eq!(judge(&field, A, &canon, Base::Known(&held), &held), Verdict::Keep);
    }
}

#[test]
fn merge_cell_that_was_not_read_has_no_common_past() {
    use super::unread;

    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let not_read = || {
        let mut state = agreed(&entity, &text("old"));
        state.shadow.push((A, FieldNo(0), unread()));
        state
    };
    let free = Restraints { is_approved: true, ..Restraints::default() };
    // Nothing is written over what nobody has read.
    let mut state = not_read();
    see(&entity, &mut state, D, &text("new"));
    assert!(!is_due(&entity, &state, A));
    assert_eq!(owed(&entity, &state, A, &free), Owed::Nothing);
    // The same value agrees, another one is a question, an empty one is owed what is canonical.
    let mut state = not_read();
    let merged = see(&entity, &mut state, A, &text("old"));
    assert_eq!((merged.action, merged.clashes.len(), state.shadow.len()), (None, 0, 0));
    let mut state = not_read();
    let merged = see(&entity, &mut state, A, &text("other"));
    assert_eq!(state.canon[0], text("old"));
    assert_eq!((merged.clashes[0].base.clone(), merged.clashes[0].decision.name()), (None, "held"));
    let mut state = not_read();
    let merged = see(&entity, &mut state, A, &Value::Null);
    assert_eq!((state.canon[0].clone(), merged.clashes.len()), (text("old"), 0));
    assert!(matches!(owed(&entity, &state, A, &free), Owed::Update(_)));
    // It is no edit that a delete had not seen, and none that brings a record back.
    let mut state = not_read();
    let merged = merge(&entity, &mut state, A, Origin::Somebody, Seen::Absent);
    assert_eq!((merged.action, merged.clashes.len()), (Some(Action::Delete), 0));
    let mut state = not_read();
    merge(&entity, &mut state, D, Origin::Somebody, Seen::Absent);
    let merged = see(&entity, &mut state, A, &text("other"));
    assert_eq!((merged.action, state.is_alive()), (None, false));
}

#[test]
fn merge_record_that_leaves_the_rows_of_a_side_is_withdrawn_and_never_written_to() {
    for deletes in [DeletePolicy::Hold, DeletePolicy::Propagate] {
        let entity = entity(Policy::Ask, deletes);
        let mut state = agreed(&entity, &text("Harbour"));
        let merged = merge(&entity, &mut state, D, Origin::Somebody, Seen::Outside);
        assert_eq!(merged.action, Some(Action::Delete));
        assert!(state.is_outside(D) && !state.is_alive());
        assert_eq!(state.doomed, [A], "{deletes:?}");
        // Seen again, and however often: no news.
        let before = state.clone();
        assert_eq!(merge(&entity, &mut state, D, Origin::Scan, Seen::Outside), Merged::default());
        assert_eq!(state, before);
        // Somebody still works on it on the other side: it lives, and is not made a second time where it is.
        see(&entity, &mut state, A, &text("Harbour 2"));
        assert!(state.is_alive() && state.is_outside(D));
        assert!(!is_due(&entity, &state, D));
        let free = Restraints { is_approved: true, ..Restraints::default() };
        assert_eq!(owed(&entity, &state, D, &free), Owed::Nothing);
        // It comes back among the rows: both are one again.
        see(&entity, &mut state, D, &text("Harbour 2"));
        assert!(!state.is_outside(D) && !state.is_absent_on(D) && state.shadow.is_empty());
    }
}

#[test]
fn merge_row_that_was_never_mirrored_is_nobody() {
    let entity = entity(Policy::Ask, DeletePolicy::Hold);
    let mut state = RecordState::unknown(&entity);
    assert_eq!(merge(&entity, &mut state, D, Origin::Scan, Seen::Outside), Merged::default());
    assert_eq!(state, RecordState::unknown(&entity));
    // A record of the other side that carries its id is not written to it either.
    see(&entity, &mut state, A, &text("somebody"));
    merge(&entity, &mut state, D, Origin::Somebody, Seen::Outside);
    assert!(state.is_alive() && state.is_outside(D) && !is_due(&entity, &state, D));
    merge(&entity, &mut state, D, Origin::Somebody, Seen::Absent);
    assert!(!state.is_outside(D) && is_due(&entity, &state, D));
}

/// Members, whose first field is the address of their account.
fn accounts(deletes: DeletePolicy) -> Entity {
    let mut entity = entity(Policy::Owner(D), deletes);
    entity.directus.as_mut().unwrap().table = crate::mapping::ACCOUNTS.into();
    entity.fields[0] = field(crate::mapping::LOGIN, FieldKind::Email, Policy::Owner(D));
    entity
}

#[test]
fn merge_member_who_becomes_an_administrator_is_no_deleted_member() {
    let entity = accounts(DeletePolicy::Propagate);
    let mut state = agreed(&entity, &text("a@example.org"));
    let merged = merge(&entity, &mut state, D, Origin::Somebody, Seen::Outside);
    assert_eq!(merged.action, None);
    assert!(state.is_alive() && state.is_outside(D) && state.doomed.is_empty());
    let entity = accounts(DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("a@example.org"));
    merge(&entity, &mut state, D, Origin::Somebody, Seen::Outside);
    assert_eq!((state.is_alive(), state.doomed.as_slice()), (false, &[A][..]));
    let held = Restraints { is_approved: true, delete: Some(false), ..Restraints::default() };
    assert_eq!(owed(&entity, &state, A, &held), Owed::Nothing);
}

#[test]
fn merge_address_of_an_account_is_changed_by_nobody_else() {
    let entity = accounts(DeletePolicy::Hold);
    let mut state = agreed(&entity, &text("a@example.org"));
    let merged = see(&entity, &mut state, A, &text("thief@example.org"));
    assert_eq!(merged.clashes[0].decision, Decision::CanonicalKept);
    assert_eq!(state.canon[0], text("a@example.org"));
    assert!(!is_due(&entity, &state, D) && is_due(&entity, &state, A));
    // Of a member without an account, the address is anybody's to correct.
    let mut state = RecordState::unknown(&entity);
    see(&entity, &mut state, A, &text("b@example.org"));
    let merged = see(&entity, &mut state, A, &text("c@example.org"));
    assert!(merged.clashes.is_empty());
    assert_eq!(state.canon[0], text("c@example.org"));
}
