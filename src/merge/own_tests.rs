//! Our own writes coming back, by example: what no request of ours has brought is nobody's edit (I14).

use uuid::Uuid;

use super::{
    Action, Merged, Operation, OperationKind, Origin, RecordState, Seen, SentCell, merge,
    tests::{agreed, entity, text},
};
use crate::{
    mapping::{DeletePolicy, Entity, Policy},
    model::{FieldNo, Side, Value},
};

const A: Side = Side::Airtable;
const D: Side = Side::Directus;
const NAME: FieldNo = FieldNo(0);
const TAGS: FieldNo = FieldNo(1);
const ID: Uuid = Uuid::from_u128(1);

fn card() -> Entity {
    entity(Policy::Ask, DeletePolicy::Hold)
}

fn set(elements: &[&str]) -> Value {
    Value::set(elements.iter().map(ToString::to_string).collect())
}

fn sent(field: FieldNo, expected: Value, value: Value) -> SentCell {
    SentCell { field, expected, value }
}

/// A record that `born_on` has, with a name and tags, and that a create of ours is on its way to the other side with
/// `cells`.
fn on_its_way(entity: &Entity, to: Side, cells: Vec<SentCell>, is_partial: bool) -> RecordState {
    let born_on = if to == A { D } else { A };
    let mut state = RecordState::unknown(entity);
    let seen = Seen::Present(vec![(NAME, text("Harbour")), (TAGS, set(&["a", "b"]))]);
    merge(entity, &mut state, born_on, Origin::Somebody, seen);
    let operation = Operation::new(ID, to, OperationKind::Create, cells);
    state.operations.push(Operation { is_partial, ..operation });
    state
}

fn see(
    entity: &Entity,
    state: &mut RecordState,
    (side, origin): (Side, Origin),
    cells: &[(FieldNo, Value)],
) -> Merged {
    merge(entity, state, side, origin, Seen::Present(cells.to_vec()))
}

fn ours(side: Side) -> (Side, Origin) {
    (side, Origin::Ours((side == D).then_some(ID)))
}

#[test]
fn own_create_in_parts_leaves_what_did_not_go_yet_as_it_is_and_owed() {
    let entity = card();
    for (side, is_read_by_scan) in [(A, false), (D, false), (A, true), (D, true)] {
        let cells = vec![
            sent(NAME, Value::Null, text("Harbour")),
            sent(TAGS, Value::Null, set(&["a", "b"])),
        ];
        let mut state = on_its_way(&entity, side, cells, true);
        let from = if is_read_by_scan { (side, Origin::Scan) } else { ours(side) };
        let row = [(NAME, Value::Null), (TAGS, set(&["a", "b"]))];
        let merged = see(&entity, &mut state, from, &row);
        assert_eq!(merged, Merged::default(), "{side}");
        assert_eq!(state.canon, [text("Harbour"), set(&["a", "b"])]);
        assert_eq!(state.shadow, [(side, NAME, Value::Null)]);
        // Read again, and with the rest that comes later.
        assert_eq!(see(&entity, &mut state, ours(side), &row), Merged::default());
        let rest = [(NAME, text("Harbour")), (TAGS, set(&["a", "b"]))];
        assert_eq!(see(&entity, &mut state, ours(side), &rest), Merged::default());
        assert!(state.shadow.is_empty());
    }
}

#[test]
fn own_create_that_names_fewer_cells_leaves_the_others_owed() {
    // Too long a text, a link that waits, a field without rights: the operation does not name the cell.
    let entity = card();
    for side in Side::ALL {
        let mut state =
            on_its_way(&entity, side, vec![sent(TAGS, Value::Null, set(&["a", "b"]))], false);
        let row = [(NAME, Value::Null), (TAGS, set(&["a", "b"]))];
        assert_eq!(see(&entity, &mut state, ours(side), &row), Merged::default());
        assert_eq!(state.canon[0], text("Harbour"));
        assert_eq!(state.shadow, [(side, NAME, Value::Null)]);
    }
}

#[test]
fn own_create_that_was_given_up_after_a_part_is_still_ours() {
    let entity = card();
    for from in [(D, Origin::Ours(Some(ID))), (D, Origin::Scan), (A, Origin::Ours(None))] {
        let cells = vec![
            sent(NAME, Value::Null, text("Harbour")),
            sent(TAGS, Value::Null, set(&["a", "b"])),
        ];
        let mut state = on_its_way(&entity, from.0, cells, true);
        state.operations[0].is_settled = true;
        // Canonical has moved on meanwhile, and the side has a default for what did not go.
        state.canon[0] = text("Harbour II");
        let merged = see(&entity, &mut state, from, &[(NAME, text("draft")), (TAGS, set(&["a"]))]);
        assert_eq!(merged, Merged::default(), "{from:?}");
        assert_eq!(state.canon, [text("Harbour II"), set(&["a", "b"])]);
    }
}

#[test]
fn own_create_next_to_an_earlier_part_of_it_in_airtable_is_told_by_neither() {
    // The first write was given up after a part of it; what it made is read when the second one is on its way.
    let entity = card();
    let both = || {
        vec![sent(NAME, Value::Null, text("Harbour")), sent(TAGS, Value::Null, set(&["a", "b"]))]
    };
    let mut state = on_its_way(&entity, A, both(), true);
    state.operations[0].is_settled = true;
    state.operations.push(Operation::new(Uuid::from_u128(2), A, OperationKind::Create, both()));
    let merged = see(&entity, &mut state, ours(A), &[(NAME, Value::Null), (TAGS, set(&["a"]))]);
    assert_eq!(merged, Merged::default());
    assert_eq!(state.canon, [text("Harbour"), set(&["a", "b"])]);
}

#[test]
fn own_create_takes_a_default_only_where_canonical_has_nothing() {
    let entity = card();
    for (canon, is_taken) in [(Value::Null, true), (text("Harbour"), false)] {
        let tags = vec![sent(TAGS, Value::Null, set(&["a", "b"]))];
        let mut state = on_its_way(&entity, D, tags, false);
        state.canon[0] = canon.clone();
        let row = [(NAME, text("draft")), (TAGS, set(&["a", "b"]))];
        let merged = see(&entity, &mut state, ours(D), &row);
        assert!(merged.clashes.is_empty());
        assert_eq!(merged.action, is_taken.then_some(Action::Update));
        assert_eq!(state.canon[0], if is_taken { text("draft") } else { canon });
    }
}

/// A record on both sides, and an update of ours on its way to Directus.
fn updated(entity: &Entity, cells: Vec<SentCell>, is_partial: bool) -> RecordState {
    let mut state = agreed(entity, &text("old"));
    for side in Side::ALL {
        let seen = Seen::Present(vec![(TAGS, set(&["a", "b"]))]);
        merge(entity, &mut state, side, Origin::Somebody, seen);
    }
    for cell in &cells {
        let seen = Seen::Present(vec![(cell.field, cell.value.clone())]);
        merge(entity, &mut state, A, Origin::Somebody, seen);
    }
    let operation = Operation::new(ID, D, OperationKind::Update, cells);
    state.operations.push(Operation { is_partial, ..operation });
    state
}

#[test]
fn own_update_in_parts_leaves_what_the_side_still_holds_owed() {
    let entity = card();
    let cells = || {
        vec![sent(NAME, text("old"), text("new")), sent(TAGS, set(&["a", "b"]), set(&["b", "c"]))]
    };
    // The name was too long; of the set, what comes is there before what goes is gone.
    let row = [(NAME, text("old")), (TAGS, set(&["a", "b", "c"]))];
    for is_settled in [false, true] {
        let mut state = updated(&entity, cells(), true);
        state.operations[0].is_settled = is_settled;
        assert_eq!(see(&entity, &mut state, ours(D), &row), Merged::default());
        assert_eq!(state.canon, [text("new"), set(&["b", "c"])]);
        let after = [(NAME, text("old")), (TAGS, set(&["b", "c"]))];
        assert_eq!(see(&entity, &mut state, ours(D), &after), Merged::default());
        assert_eq!(state.shadow, [(D, NAME, text("old"))]);
    }
    // In one request, a hook has put the old name back.
    let mut state = updated(&entity, cells(), false);
    let merged = see(&entity, &mut state, ours(D), &[(NAME, text("old"))]);
    assert_eq!((merged.action, &state.canon[0]), (Some(Action::Update), &text("old")));
}

#[test]
fn own_update_with_an_unnamed_cell_that_is_empty_changes_nothing_and_one_with_a_value_does() {
    let entity = card();
    let cells = || vec![sent(TAGS, set(&["a", "b"]), set(&["b"]))];
    for (observed, is_heard) in [(Value::Null, false), (text("of a hook"), true)] {
        let mut state = updated(&entity, cells(), false);
        let row = [(NAME, observed.clone()), (TAGS, set(&["b"]))];
        let merged = see(&entity, &mut state, ours(D), &row);
        assert!(merged.clashes.is_empty());
        assert_eq!(merged.action, is_heard.then_some(Action::Update));
        let name = if is_heard { observed.clone() } else { text("old") };
        assert_eq!(state.canon[0], name);
        assert_eq!(state.held_by(D, NAME), &observed);
    }
    // Emptied by a person, in a transaction of their own: heard.
    let mut state = updated(&entity, cells(), false);
    let merged = see(&entity, &mut state, (D, Origin::Somebody), &[(NAME, Value::Null)]);
    assert_eq!((merged.action, &state.canon[0]), (Some(Action::Update), &Value::Null));
}

#[test]
fn own_write_to_a_record_that_is_deleted_does_not_bring_it_back_by_what_it_left_out() {
    let entity = card();
    let cells = vec![sent(TAGS, set(&["a", "b"]), set(&["b"]))];
    let mut state = updated(&entity, cells, false);
    merge(&entity, &mut state, D, Origin::Ours(Some(ID)), Seen::Present(vec![(TAGS, set(&["b"]))]));
    state.operations[0].is_settled = false;
    merge(&entity, &mut state, A, Origin::Somebody, Seen::Absent);
    assert!(state.is_deleted);
    let row = [(NAME, Value::Null), (TAGS, set(&["b"]))];
    assert_eq!(see(&entity, &mut state, ours(D), &row).action, None);
    assert!(state.is_deleted);
}
