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
