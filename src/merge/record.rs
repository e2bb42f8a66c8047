//! One record: its cells on both sides, its coming and going.

use super::cell::{Base, Decision, Verdict, judge};
use crate::{
    mapping::{DeletePolicy, Entity},
    model::{FieldNo, Side, Value},
};

/// What is known of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordState {
    /// Whether canonical has a row.
    pub(crate) exists: bool,
    /// Whether that row is marked as deleted.
    pub(crate) is_deleted: bool,
    /// Canonical values, a field each.
    pub(crate) canon: Vec<Value>,
    /// Where a side that has the record holds something else than canonical.
    pub(crate) shadow: Vec<(Side, FieldNo, Value)>,
    /// Sides that lack the record, and whether it was deleted there.
    pub(crate) absent: Vec<(Side, bool)>,
}

/// What a side's log says of a record, with links resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Present(Vec<SeenCell>),
    Absent,
}

pub(crate) type SeenCell = (FieldNo, Value);

/// What an observation did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merged {
    pub(crate) action: Option<Action>,
    /// Canonical cells that changed, with their value before; the one after is in the state.
    pub(crate) changed: Vec<Changed>,
    pub(crate) clashes: Vec<ClashRecord>,
    /// Held conflicts of these cells are over: the side came to agree with canonical.
    pub(crate) agreed: Vec<FieldNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
    Restore,
}

impl Action {
    /// The name in `mirror.journal`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) field: FieldNo,
    pub(crate) before: Value,
}

/// A conflict, with all that is needed to undo its decision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClashRecord {
    /// `None`: a delete met an edit of the record.
    pub(crate) field: Option<FieldNo>,
    pub(crate) base: Option<Value>,
    pub(crate) canonical: Value,
    pub(crate) observed: Value,
    pub(crate) decision: Decision,
}

impl RecordState {
    /// A record that nobody has heard of.
    pub(crate) fn unknown(entity: &Entity) -> Self {
        Self {
            exists: false,
            is_deleted: false,
            canon: vec![Value::Null; entity.fields.len()],
            shadow: Vec::new(),
            absent: Vec::new(),
        }
    }

    pub(crate) fn is_absent_on(&self, side: Side) -> bool {
        self.absent.iter().any(|(absent, _)| *absent == side)
    }

    fn set_absent(&mut self, side: Side, was_deleted: bool) {
        self.absent.retain(|(absent, _)| *absent != side);
        self.absent.push((side, was_deleted));
        self.shadow.retain(|(holder, ..)| *holder != side);
    }

    fn shadow_at(&self, side: Side, field: FieldNo) -> Option<usize> {
        self.shadow.iter().position(|(holder, no, _)| *holder == side && *no == field)
    }

    /// Notes that `side` holds `value`, which is only worth a row where canonical differs.
    fn set_shadow(&mut self, side: Side, field: FieldNo, value: Value) {
        let agrees = self.canon[usize::from(field.0)] == value;
        match (self.shadow_at(side, field), agrees) {
            (Some(at), true) => {
                self.shadow.swap_remove(at);
            }
            (Some(at), false) => self.shadow[at].2 = value,
            (None, true) => {}
            (None, false) => self.shadow.push((side, field, value)),
        }
    }

    /// Changes canonical; the other sides' shadows stay what they are, and are written down where that
    /// now differs.
    fn set_canon(&mut self, entity: &Entity, by: Side, field: FieldNo, value: Value) -> Changed {
        let before = std::mem::replace(&mut self.canon[usize::from(field.0)], value);
        for side in Side::ALL {
            if side == by || !entity.field(field).is_on(side) || self.is_absent_on(side) {
                continue;
            }
            match self.shadow_at(side, field) {
                Some(at) if self.shadow[at].2 == self.canon[usize::from(field.0)] => {
                    self.shadow.swap_remove(at);
                }
                Some(_) => {}
                None => self.shadow.push((side, field, before.clone())),
            }
        }
        Changed { field, before }
    }
}

/// Folds what `side`'s log says of a record into its state.
///
/// Seeing an unchanged value does nothing, so that a log may be read again, and a scan may heal what a log
/// missed. A delete that meets an edit which the deleting side had not seen loses; both are kept on record.
pub(crate) fn merge(entity: &Entity, state: &mut RecordState, side: Side, seen: Seen) -> Merged {
    match seen {
        Seen::Present(cells) if !state.exists => create(entity, state, side, cells),
        Seen::Present(cells) => update(entity, state, side, cells),
        Seen::Absent => delete(entity, state, side),
    }
}

fn create(entity: &Entity, state: &mut RecordState, side: Side, cells: Vec<SeenCell>) -> Merged {
    *state = RecordState { exists: true, ..RecordState::unknown(entity) };
    for other in Side::ALL {
        if other != side && entity.is_on(other) {
            state.absent.push((other, false));
        }
    }
    let mut merged = Merged { action: Some(Action::Create), ..Merged::default() };
    for (field, value) in cells {
        if value.is_null() {
            continue;
        }
        // The last of several values for one field counts, as in the log.
        let before = std::mem::replace(&mut state.canon[usize::from(field.0)], value);
        if before.is_null() {
            merged.changed.push(Changed { field, before });
        }
    }
    merged
}

fn update(entity: &Entity, state: &mut RecordState, side: Side, cells: Vec<SeenCell>) -> Merged {
    let mut merged = Merged::default();
    let is_new_here = state.is_absent_on(side);
    if is_new_here {
        state.absent.retain(|(absent, _)| *absent != side);
    }
    for (field, observed) in cells {
        let canon = &state.canon[usize::from(field.0)];
        let was_owed = state.shadow_at(side, field);
        let base = match was_owed {
            _ if is_new_here => Base::Unknown,
            Some(at) => Base::Known(&state.shadow[at].2),
            None => Base::Known(canon),
        };
        match judge(entity.field(field), side, canon, base, &observed) {
            Verdict::Keep => {
                if was_owed.is_some() && *canon == observed {
                    merged.agreed.push(field);
                }
                state.set_shadow(side, field, observed);
            }
            Verdict::Take => {
                merged.changed.push(state.set_canon(entity, side, field, observed));
                // What was owed to this side is what it has now.
                if let Some(at) = state.shadow_at(side, field) {
                    state.shadow.swap_remove(at);
                }
            }
            Verdict::Conflict(decision) => {
                merged.clashes.push(ClashRecord {
                    field: Some(field),
                    base: match base {
                        Base::Known(value) => Some(value.clone()),
                        Base::Unknown => None,
                    },
                    canonical: canon.clone(),
                    observed: observed.clone(),
                    decision: decision.clone(),
                });
                let winner = match decision {
                    Decision::Held | Decision::CanonicalKept => None,
                    Decision::ObservedTaken => Some(observed.clone()),
                    Decision::Merged(value) => Some(value),
                };
                if let Some(value) = winner.filter(|value| value != canon) {
                    merged.changed.push(state.set_canon(entity, side, field, value));
                }
                state.set_shadow(side, field, observed);
            }
        }
    }
    if state.is_deleted && is_new_here && !state.absent.iter().any(|(_, was_deleted)| *was_deleted)
    {
        state.is_deleted = false;
        merged.action = Some(Action::Restore);
    } else if !merged.changed.is_empty() {
        merged.action = Some(Action::Update);
    }
    merged
}

fn delete(entity: &Entity, state: &mut RecordState, side: Side) -> Merged {
    let mut merged = Merged::default();
    if !state.exists || state.is_absent_on(side) {
        return merged;
    }
    // Edits that this side had not seen when it deleted the record.
    let unseen: Vec<_> = state
        .shadow
        .iter()
        .filter(|(holder, ..)| *holder == side)
        .map(|(_, field, _)| *field)
        .collect();
    if !unseen.is_empty() {
        let cells = unseen.iter().map(|field| {
            (entity.field(*field).name.clone(), state.canon[usize::from(field.0)].to_json())
        });
        merged.clashes.push(ClashRecord {
            field: None,
            base: None,
            canonical: Value::Json(cells.collect()),
            observed: Value::Null,
            decision: Decision::CanonicalKept,
        });
        state.set_absent(side, true);
        return merged;
    }
    state.set_absent(side, true);
    match entity.deletes {
        DeletePolicy::Propagate => {
            merged.action = Some(Action::Delete);
            for (at, value) in state.canon.iter_mut().enumerate() {
                if !value.is_null() {
                    let field = FieldNo(u16::try_from(at).unwrap_or(u16::MAX));
                    merged
                        .changed
                        .push(Changed { field, before: std::mem::replace(value, Value::Null) });
                }
            }
            state.exists = false;
            state.is_deleted = false;
            state.shadow.clear();
        }
        DeletePolicy::Hold | DeletePolicy::Archive if state.is_deleted => {}
        DeletePolicy::Hold | DeletePolicy::Archive => {
            merged.action = Some(Action::Delete);
            state.is_deleted = true;
        }
    }
    merged
}
