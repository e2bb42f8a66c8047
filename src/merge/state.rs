//! What is known of a record, and the elementary steps that keep it true.

use std::sync::Arc;

use uuid::Uuid;

use super::{Operation, Past};
use crate::{
    mapping::Entity,
    model::{FieldNo, RecordId, Side, Value},
};

/// What is known of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordState {
    /// Whether canonical has a row.
    pub(crate) exists: bool,
    /// Whether that row is marked as deleted.
    pub(crate) is_deleted: bool,
    /// Canonical values, a field each. Of a record whose row was deleted, while a side still has it or writes of
    /// ours may still reach one: the last ones.
    pub(crate) canon: Vec<Value>,
    /// Where a side that has the record holds something else than canonical.
    pub(crate) shadow: Vec<(Side, FieldNo, Value)>,
    /// Sides that lack the record, and whether it was deleted there.
    pub(crate) absent: Vec<(Side, bool)>,
    /// Those of them that have it outside the rows that the mapping mirrors: nothing is written to it there.
    pub(crate) outside: Vec<Side>,
    /// Our writes to it: those in flight, and those settled not long ago. The newest comes last.
    pub(crate) operations: Vec<Operation>,
    /// Sides that still have it, though it was deleted.
    pub(crate) doomed: Vec<Side>,
    /// What its Airtable record carries in its field for the canonical id, where that is not the id: it is owed.
    pub(crate) other_id: Option<Option<Uuid>>,
    /// What the journal knows of it; read in a recovery alone.
    pub(crate) past: Option<Arc<Past>>,
}

/// In the place of a shadow: what the side holds was not read yet, since the mapping has pointed the field elsewhere. There
/// is no common past with what is found there, and nothing is written over it before.
pub(crate) fn unread() -> Value {
    Value::Json(serde_json::json!({ "#unread": true }))
}

pub(crate) fn is_unread(shadow: &Value) -> bool {
    matches!(shadow, Value::Json(json) if is_unread_json(json))
}

/// The same of a shadow as it is stored.
pub(crate) fn is_unread_json(json: &serde_json::Value) -> bool {
    json.as_object().is_some_and(|object| object.len() == 1 && object.contains_key("#unread"))
}

/// A canonical cell that changed, with its value before; the one after is in the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) field: FieldNo,
    pub(crate) before: Value,
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
            outside: Vec::new(),
            operations: Vec::new(),
            doomed: Vec::new(),
            other_id: None,
            past: None,
        }
    }

    /// Whether the journal knows that the cell held `value` before.
    pub(super) fn has_held(&self, field: FieldNo, value: &Value) -> bool {
        self.past.as_ref().is_some_and(|past| past.knows(field, value))
    }

    /// Recalls a record that was deleted for good and that `side`, which went back in time, shows again: it is to be
    /// deleted there too. `false`: it was not.
    pub(super) fn recall(&mut self, side: Side) -> bool {
        let Some(past) = self.past.clone().filter(|past| past.was_deleted) else { return false };
        for (field, value) in &past.last {
            self.canon[usize::from(field.0)] = value.clone();
        }
        self.set_present(side);
        self.doomed.push(side);
        true
    }

    /// Whether it is a record that the sides are to have.
    pub(crate) fn is_alive(&self) -> bool {
        self.exists && !self.is_deleted
    }

    /// Whether what it held is known, though canonical has no row any more.
    pub(crate) fn is_remembered(&self) -> bool {
        !self.exists && (!self.doomed.is_empty() || !self.operations.is_empty())
    }

    pub(crate) fn is_absent_on(&self, side: Side) -> bool {
        self.absent.iter().any(|(absent, _)| *absent == side)
    }

    /// Whether `side` has not shown the record yet, so that its first cells from there make it present.
    pub(crate) fn comes_to(&self, side: Side) -> bool {
        !self.exists || self.is_absent_on(side)
    }

    /// Whether `side` has the record outside the rows that the mapping mirrors.
    pub(crate) fn is_outside(&self, side: Side) -> bool {
        self.outside.contains(&side)
    }

    /// What `side`, which has the record, holds by its own log.
    pub(crate) fn held_by(&self, side: Side, field: FieldNo) -> &Value {
        match self.shadow_at(side, field) {
            Some(at) => &self.shadow[at].2,
            None => &self.canon[usize::from(field.0)],
        }
    }

    /// Our write to `side` that is in flight.
    pub(crate) fn in_flight(&self, side: Side) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.side == side && !operation.is_settled)
    }

    /// Notes what the record's Airtable row carries in its field for the canonical id. Whatever a person makes of
    /// it there, it is never obeyed.
    pub(crate) fn see_id(&mut self, id: RecordId, carried: Option<Uuid>) {
        self.other_id = (carried != Some(id.0)).then_some(carried);
    }

    /// Whether the record's row on `side` has to be told its canonical id.
    pub(crate) fn owes_id(&self, side: Side) -> bool {
        side == Side::Airtable
            && self.other_id.is_some()
            && self.is_alive()
            && !self.is_absent_on(side)
    }

    /// Whether it was read what `side`, which has the record, holds.
    pub(crate) fn is_read(&self, side: Side, field: FieldNo) -> bool {
        self.shadow_at(side, field).is_none_or(|at| !is_unread(&self.shadow[at].2))
    }

    pub(super) fn shadow_at(&self, side: Side, field: FieldNo) -> Option<usize> {
        self.shadow.iter().position(|(holder, no, _)| *holder == side && *no == field)
    }

    pub(super) fn set_present(&mut self, side: Side) {
        self.absent.retain(|(absent, _)| *absent != side);
        self.outside.retain(|outside| *outside != side);
    }

    /// Notes that `side`, which lacks the record among the rows that are mirrored, has it outside them.
    pub(super) fn set_outside(&mut self, side: Side) {
        if self.is_absent_on(side) && !self.is_outside(side) {
            self.outside.push(side);
        }
    }

    pub(super) fn set_absent(&mut self, side: Side, was_deleted: bool) {
        self.set_present(side);
        self.absent.push((side, was_deleted));
        self.shadow.retain(|(holder, ..)| *holder != side);
        if side == Side::Airtable {
            self.other_id = None;
        }
        self.doomed.retain(|doomed| *doomed != side);
    }

    /// Notes that `side` holds `value`, which is only worth a row where canonical differs.
    pub(super) fn set_shadow(&mut self, side: Side, field: FieldNo, value: Value) {
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

    /// Changes canonical; the sides' shadows stay what they are, and are written down where that now differs.
    /// `by` is the side whose log shows the new value: its shadow is the caller's.
    pub(super) fn set_canon(
        &mut self,
        entity: &Entity,
        by: Option<Side>,
        field: FieldNo,
        value: Value,
    ) -> Changed {
        let before = std::mem::replace(&mut self.canon[usize::from(field.0)], value);
        for side in Side::ALL {
            if Some(side) == by || !entity.field(field).is_on(side) || self.is_absent_on(side) {
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

    /// All that canonical holds, as changes to nothing.
    pub(crate) fn filled(&self) -> Vec<Changed> {
        self.every_cell(Value::clone)
    }

    /// `side` has never had the record: what was taken for it there is another one.
    pub(crate) fn leave(&mut self, side: Side) {
        self.set_absent(side, false);
    }

    /// All that it holds, as changes from nothing or to nothing.
    pub(super) fn every_cell(&self, before: impl Fn(&Value) -> Value) -> Vec<Changed> {
        let filled = self.canon.iter().enumerate().filter(|(_, value)| !value.is_null());
        filled.map(|(at, value)| Changed { field: field_no(at), before: before(value) }).collect()
    }

    /// Forgets what a record without a row held, once nobody has it any more.
    pub(super) fn forget_if_gone(&mut self) {
        if !self.exists && !self.is_remembered() {
            self.canon.fill(Value::Null);
            self.shadow.clear();
            self.other_id = None;
        }
    }

    /// Settles our write to `side` whose effect that side shows now, whoever brought it about: of a write that
    /// changes nothing, not every log speaks.
    pub(super) fn confirm(&mut self, side: Side) {
        #[cfg(test)]
        if super::mutant::is(super::mutant::Mutant::NoConfirm) {
            return;
        }
        if self.shows_flight(side) {
            self.settle_in_flight(side);
        }
    }

    /// Whether `side` shows the effect of our write to it that is in flight.
    pub(crate) fn shows_flight(&self, side: Side) -> bool {
        let Some(operation) = self.in_flight(side) else { return false };
        let is_here = !self.is_absent_on(side);
        match operation.kind {
            super::OperationKind::Delete => !is_here,
            // A record that is there is not created any more: the side says so, but its log is silent of it.
            super::OperationKind::Create => is_here,
            super::OperationKind::Update => {
                let is_held =
                    |cell: &super::SentCell| *self.held_by(side, cell.field) == cell.value;
                // One without cells writes the id alone.
                let is_told = !operation.cells.is_empty() || !self.owes_id(side);
                is_here && is_told && operation.cells.iter().all(is_held)
            }
        }
    }

    pub(super) fn settle_in_flight(&mut self, side: Side) {
        for operation in &mut self.operations {
            operation.is_settled |= operation.side == side;
        }
    }
}

pub(super) fn field_no(at: usize) -> FieldNo {
    FieldNo(u16::try_from(at).unwrap_or(u16::MAX))
}
