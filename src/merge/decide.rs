//! What a person has decided of a record, carried out: the same state, changed by nobody's log. The shadows stay what
//! the sides hold, so that both are owed what differs.

use super::{
    Changed, Merged, RecordState,
    life::{remove, revive},
    record::Action,
    state::field_no,
};
use crate::{
    mapping::{Direction, Entity},
    merge::is_written,
    model::{Decision, FieldNo, Side, Value, Wish, is_erased},
};

/// What a decision came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decided {
    pub(crate) merged: Merged,
    /// Cells of which the person has said the last word: held conflicts of them are over.
    pub(crate) settled: Vec<(FieldNo, Value)>,
    /// Sides on which the record may be deleted now.
    pub(crate) approved: Vec<Side>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    #[error("the record does not exist")]
    NoRecord,
    #[error("the record is there: there is nothing to restore")]
    NotDeleted,
    #[error("the mapping has no field `{0}`")]
    NoField(String),
    #[error("the field `{0}` holds another value by now: look at it again")]
    Moved(String),
    #[error("the field `{field}` is written on {side} alone: change it there")]
    NotOurs { field: String, side: Side },
    #[error("what the field `{0}` held was erased with a person's data, and does not come back")]
    Erased(String),
    #[error("the record is not to be deleted on {0} any more")]
    NotDoomed(String),
    #[error("this decision is not about what a record holds")]
    OfIdentity,
}

/// Carries out `decision`, or nothing of it.
///
/// # Errors
/// In words, for the person who decided.
pub(crate) fn decide(
    entity: &Entity,
    state: &mut RecordState,
    decision: &Decision,
) -> Result<Decided, Objection> {
    let decided = carry_out(entity, state, decision)?;
    state.forget_answers();
    Ok(decided)
}

fn carry_out(
    entity: &Entity,
    state: &mut RecordState,
    decision: &Decision,
) -> Result<Decided, Objection> {
    match decision {
        Decision::Set { cells, .. } => {
            let cells = cells.iter().map(|(name, wish)| wished(entity, state, name, wish));
            let cells = cells.collect::<Result<Vec<_>, _>>()?;
            Ok(set(entity, state, cells))
        }
        Decision::Restore { cells, .. } => {
            let cell = |(name, value): (&String, &serde_json::Value)| {
                let no = find(entity, name)?;
                Ok((no, entity.field(no).from_json(value)))
            };
            // What was erased stays erased; the rest of the record comes back.
            let cells = cells.iter().filter(|(_, value)| !is_erased(value));
            let cells = cells.map(cell).collect::<Result<Vec<_>, _>>()?;
            restore(entity, state, cells)
        }
        Decision::Delete { .. } => {
            if !state.is_alive() {
                return Err(Objection::NoRecord);
            }
            let mut decided = Decided::default();
            remove(entity, state, None, &mut decided.merged);
            decided.approved.clone_from(&state.doomed);
            state.forget_if_gone();
            Ok(decided)
        }
        Decision::ApproveDelete { side, .. } => {
            let doomed = state.doomed.iter().find(|doomed| doomed.name() == side);
            let doomed = doomed.ok_or_else(|| Objection::NotDoomed(side.clone()))?;
            Ok(Decided { approved: vec![*doomed], ..Decided::default() })
        }
        Decision::ApproveChanges { .. } | Decision::Join { .. } | Decision::Split { .. } => {
            Err(Objection::OfIdentity)
        }
    }
}

fn find(entity: &Entity, name: &str) -> Result<FieldNo, Objection> {
    let at = entity.fields.iter().position(|field| field.name == name);
    at.map(field_no).ok_or_else(|| Objection::NoField(name.to_owned()))
}

/// The cell that a wish is about, if it still is as the person saw it.
fn wished(
    entity: &Entity,
    state: &RecordState,
    name: &str,
    wish: &Wish,
) -> Result<(FieldNo, Value), Objection> {
    if !state.is_alive() {
        return Err(Objection::NoRecord);
    }
    let no = find(entity, name)?;
    let field = entity.field(no);
    let canon = &state.canon[usize::from(no.0)];
    if field.from_json(&wish.expected) != *canon {
        return Err(Objection::Moved(name.to_owned()));
    }
    if is_erased(&wish.value) {
        return Err(Objection::Erased(name.to_owned()));
    }
    let value = field.from_json(&wish.value);
    let closed = Side::ALL.into_iter().find(|side| field.is_on(*side) && !is_written(field, *side));
    match closed {
        Some(side) if value != *canon => {
            let side = if let Direction::From(writer) = field.direction { writer } else { side };
            Err(Objection::NotOurs { field: name.to_owned(), side })
        }
        _ => Ok((no, value)),
    }
}

fn set(entity: &Entity, state: &mut RecordState, cells: Vec<(FieldNo, Value)>) -> Decided {
    let mut decided = Decided::default();
    for (no, value) in &cells {
        if state.canon[usize::from(no.0)] != *value {
            let changed = state.set_canon(entity, None, *no, value.clone());
            decided.merged.changed.push(changed);
            decided.merged.action = Some(Action::Update);
        }
    }
    decided.settled = cells;
    decided
}

fn restore(
    entity: &Entity,
    state: &mut RecordState,
    cells: Vec<(FieldNo, Value)>,
) -> Result<Decided, Objection> {
    if state.is_alive() {
        return Err(Objection::NotDeleted);
    }
    let mut decided = Decided::default();
    if !state.exists && !state.is_remembered() {
        let is_unheard_of = cells.is_empty() && state.absent.is_empty();
        if is_unheard_of {
            return Err(Objection::NoRecord);
        }
        for side in Side::ALL {
            if entity.is_on(side) && !state.is_absent_on(side) {
                state.absent.push((side, false));
            }
        }
        for (no, value) in cells {
            state.canon[usize::from(no.0)] = value;
        }
        let changed = state.every_cell(|_| Value::Null);
        state.exists = true;
        decided.merged = Merged { action: Some(Action::Restore), changed, ..Merged::default() };
        return Ok(decided);
    }
    revive(entity, state, &mut decided.merged, None);
    for (no, value) in cells {
        if state.canon[usize::from(no.0)] != value {
            let changed: Changed = state.set_canon(entity, None, no, value);
            if !decided.merged.changed.iter().any(|known| known.field == no) {
                decided.merged.changed.push(changed);
            }
        }
    }
    Ok(decided)
}
