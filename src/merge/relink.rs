//! Two records turn out to be one, or one to be two: what becomes of the cells that link to them.

use uuid::Uuid;

use super::{
    Changed, ClashRecord, Merged, RecordState, cell::Decision, record::Action, state::field_no,
};
use crate::{
    mapping::{Entity, FieldKind},
    model::{EntityNo, Side, Value},
};

/// Whatever links to `from` links to `to`, on every side: nobody made a change, so nothing becomes owed by it.
pub(crate) fn relink(
    entity: &Entity,
    state: &mut RecordState,
    target: EntityNo,
    (from, to): (Uuid, Uuid),
) -> Merged {
    let mut merged = Merged::default();
    for at in linking(entity, target) {
        let field = field_no(at);
        if let Some(value) = replaced(&state.canon[at], from, to) {
            let before = std::mem::replace(&mut state.canon[at], value);
            merged.changed.push(Changed { field, before });
            merged.action = Some(Action::Update);
        }
        for (_, no, value) in &mut state.shadow {
            if *no == field
                && let Some(new) = replaced(value, from, to)
            {
                *value = new;
            }
        }
        let canon = &state.canon[at];
        state.shadow.retain(|(_, no, value)| *no != field || value != canon);
    }
    merged
}

/// What `side` has as a link to `from` is one to `to`. Where the other side has none of its own, that is canonical;
/// where it has, the two differ now, and a person has to say.
pub(crate) fn relink_on(
    entity: &Entity,
    state: &mut RecordState,
    target: EntityNo,
    side: Side,
    (from, to): (Uuid, Uuid),
) -> Merged {
    let mut merged = Merged::default();
    if state.is_absent_on(side) {
        return merged;
    }
    for at in linking(entity, target) {
        let (no, field) = (field_no(at), &entity.fields[at]);
        if !field.is_on(side) {
            continue;
        }
        let Some(observed) = replaced(state.held_by(side, no), from, to) else { continue };
        let canonical = state.canon[at].clone();
        let has_own = |other: &Side| {
            *other != side
                && field.is_on(*other)
                && !state.is_absent_on(*other)
                && replaced(state.held_by(*other, no), from, to).is_some()
        };
        if Side::ALL.iter().any(has_own) {
            merged.clashes.push(ClashRecord {
                field: Some(no),
                base: Some(canonical.clone()),
                canonical,
                observed: observed.clone(),
                decision: Decision::Held,
            });
        } else if let Some(value) = replaced(&canonical, from, to) {
            merged.changed.push(state.set_canon(entity, Some(side), no, value));
            merged.action = Some(Action::Update);
        }
        state.set_shadow(side, no, observed);
    }
    merged
}

/// The places of the fields that link to records of `target`.
fn linking(entity: &Entity, target: EntityNo) -> Vec<usize> {
    let links = |kind: &FieldKind| match kind {
        FieldKind::Link { target: to } | FieldKind::Links { target: to } => *to == target,
        _ => false,
    };
    let fields = entity.fields.iter().enumerate();
    fields.filter(|(_, field)| links(&field.kind)).map(|(at, _)| at).collect()
}

/// The value with `to` in the place of `from`; `None`: it is not in it.
fn replaced(value: &Value, from: Uuid, to: Uuid) -> Option<Value> {
    let (from_text, to_text) = (from.to_string(), to.to_string());
    match value {
        Value::Uuid(id) if *id == from => Some(Value::Uuid(to)),
        Value::Set(elements) if elements.contains(&from_text) => {
            let others = elements.iter().filter(|element| **element != from_text).cloned();
            Some(Value::set(others.chain([to_text]).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::{DeletePolicy, Policy},
        merge::tests::{entity as plain, field},
    };

    const TARGET: EntityNo = EntityNo(0);

    fn entity() -> Entity {
        let link = FieldKind::Link { target: TARGET };
        let links = FieldKind::Links { target: TARGET };
        Entity {
            fields: vec![
                field("firm", link, Policy::Ask),
                field("firms", links, Policy::SetMerge),
                field("other", FieldKind::Link { target: EntityNo(1) }, Policy::Ask),
            ],
            ..plain(Policy::Ask, DeletePolicy::Hold)
        }
    }

    fn id(no: u128) -> Uuid {
        Uuid::from_u128(no)
    }

    fn set(ids: &[u128]) -> Value {
        Value::set(ids.iter().map(|no| id(*no).to_string()).collect())
    }

    fn state(entity: &Entity) -> RecordState {
        let mut state = RecordState::unknown(entity);
        state.exists = true;
        state.canon = vec![Value::Uuid(id(1)), set(&[1, 3]), Value::Uuid(id(1))];
        state
    }

    #[test]
    fn relink_of_a_join_makes_nothing_owed() {
        let entity = entity();
        let mut state = state(&entity);
        // Directus lacks what it is to link to; Airtable's set has one element less.
        state.shadow = vec![
            (Side::Directus, field_no(0), Value::Null),
            (Side::Airtable, field_no(1), set(&[1])),
        ];
        let merged = relink(&entity, &mut state, TARGET, (id(1), id(2)));
        assert_eq!(state.canon, [Value::Uuid(id(2)), set(&[2, 3]), Value::Uuid(id(1))]);
        let shadow =
            [(Side::Directus, field_no(0), Value::Null), (Side::Airtable, field_no(1), set(&[2]))];
        assert_eq!(state.shadow, shadow);
        assert_eq!(merged.changed.len(), 2);
        // Who links to both has one of them after.
        state.canon[1] = set(&[2, 4]);
        relink(&entity, &mut state, TARGET, (id(4), id(2)));
        assert_eq!(state.canon[1], set(&[2]));
    }

    #[test]
    fn relink_of_a_split_asks_only_where_both_sides_link() {
        let entity = entity();
        let ids = (id(1), id(2));
        // On Airtable alone: what it says is canonical.
        let mut alone = state(&entity);
        alone.absent = vec![(Side::Directus, false)];
        let merged = relink_on(&entity, &mut alone, TARGET, Side::Airtable, ids);
        assert_eq!(alone.canon[..2], [Value::Uuid(id(2)), set(&[2, 3])]);
        assert!(alone.shadow.is_empty() && merged.clashes.is_empty());
        // On Directus alone: nothing is said of it.
        let mut other = state(&entity);
        other.absent = vec![(Side::Airtable, false)];
        let before = other.clone();
        relink_on(&entity, &mut other, TARGET, Side::Airtable, ids);
        assert_eq!(other, before);
        // On both: canonical stays, and a person has to say.
        let mut both = state(&entity);
        let merged = relink_on(&entity, &mut both, TARGET, Side::Airtable, ids);
        assert_eq!(both.canon, before.canon);
        assert_eq!(*both.held_by(Side::Airtable, field_no(0)), Value::Uuid(id(2)));
        assert_eq!(*both.held_by(Side::Directus, field_no(0)), Value::Uuid(id(1)));
        assert_eq!(merged.clashes.len(), 2);
        assert!(merged.clashes.iter().all(|clash| clash.decision == Decision::Held));
    }
}
