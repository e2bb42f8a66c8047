//! The invariants.

use std::collections::HashSet;

use super::{
    Broken, FIELD_COUNT, RECORD_COUNT,
    hub::{Conflict, History},
};
use crate::{
    merge::Action,
    model::{Side, Value},
};

impl History<'_> {
    /// What holds after each step: exceptions are stored, agreement is not; the journal tells canonical.
    pub(super) fn check_state(&self, record: usize) -> Result<(), Broken> {
        let state = &self.states[record];
        for (holder, field, value) in &state.shadow {
            let agrees = state.canon[usize::from(field.0)] == *value;
            if agrees || state.is_absent_on(*holder) {
                return Err(format!("state: record {record} has an idle shadow of {holder}"));
            }
        }
        for side in Side::ALL {
            let in_flight = |operation: &&crate::merge::Operation| {
                operation.side == side && !operation.is_settled
            };
            if state.operations.iter().filter(in_flight).count() > 1 {
                return Err(format!(
                    "state: two writes to record {record} of {side} are in flight"
                ));
            }
        }
        let mut told: [Value; FIELD_COUNT] = std::array::from_fn(|_| Value::Null);
        for (_, action, cells) in self.journal.iter().filter(|(at, ..)| *at == record) {
            for (field, before, after) in cells {
                if told[*field] != *before && *action != Action::Create {
                    return Err(format!("I9 the journal of record {record}.{field} has a hole"));
                }
                told[*field] = after.clone();
            }
        }
        if state.exists && told[..] != state.canon[..] {
            return Err(format!("I9 the journal of record {record} does not tell canonical"));
        }
        Ok(())
    }

    fn differs(&self, record: usize, field: usize) -> bool {
        let state = &self.states[record];
        self.worlds.iter().any(|world| {
            let is_parked = self.parked.iter().any(|(at, side, no, value)| {
                (*at, *side, *no) == (record, world.side, field) && *value == state.canon[field]
            });
            let shown = world.rows[record].as_ref().map(|row| &row[field].value);
            !is_parked
                && !self.is_left_out(record, world.side)
                && shown != Some(&state.canon[field])
        })
    }

    /// A record without any value is not created where it is not.
    fn is_left_out(&self, record: usize, side: Side) -> bool {
        let state = &self.states[record];
        state.is_alive() && state.is_absent_on(side) && state.canon.iter().all(Value::is_null)
    }

    /// I8: a held cell holds up no other.
    pub(super) fn check_others_went_ahead(&self) -> Result<(), Broken> {
        for record in (0..RECORD_COUNT).filter(|record| self.states[*record].is_alive()) {
            for field in (0..FIELD_COUNT).filter(|field| !self.is_held(record, *field)) {
                if self.differs(record, field) {
                    return Err(format!(
                        "I1 or I8 record {record}.{field} is not the same everywhere while others are held"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_rest(&self) -> Result<(), Broken> {
        for record in 0..RECORD_COUNT {
            let state = &self.states[record];
            if state.operations.iter().any(|operation| !operation.is_settled) {
                return Err(format!("I5 a write to record {record} is never confirmed"));
            }
            for world in &self.worlds {
                let is_wanted = state.is_alive() && !self.is_left_out(record, world.side);
                if world.rows[record].is_some() != is_wanted {
                    return Err(format!(
                        "I1 record {record} is not where it should be on {}",
                        world.side
                    ));
                }
            }
            if !state.doomed.is_empty() {
                return Err(format!("I5 record {record} is to be deleted for ever"));
            }
            for field in 0..FIELD_COUNT {
                if state.is_alive() && self.differs(record, field) {
                    return Err(format!("I1 record {record}.{field} is not the same everywhere"));
                }
                self.check_nothing_lost(record, field)?;
                self.check_last_word(record, field)?;
            }
        }
        let write_count_max = 8 * self.cause_count + 8;
        if self.write_count > write_count_max {
            return Err(format!("I3 {} writes for {} causes", self.write_count, self.cause_count));
        }
        Ok(())
    }

    /// I2: each value that a person typed is current, or was seen by the author of one that is accounted for, or is
    /// in a conflict, or in the journal's entry of a delete, from which it can be restored.
    fn check_nothing_lost(&self, record: usize, field: usize) -> Result<(), Broken> {
        let mut kept: HashSet<Value> = HashSet::from([self.states[record].canon[field].clone()]);
        // An emptied cell gives way to what a record holds that somebody puts back: the journal has both.
        kept.insert(Value::Null);
        for world in &self.worlds {
            kept.extend(world.rows[record].iter().map(|row| row[field].value.clone()));
        }
        for conflict in self.conflicts.iter().filter(|conflict| conflict.record == record) {
            kept.extend(self.values_of(conflict, field));
        }
        for (_, _, cells) in
            self.journal.iter().filter(|(at, action, _)| *at == record && *action == Action::Delete)
        {
            let mine = cells.iter().filter(|(no, ..)| *no == field);
            kept.extend(mine.map(|(_, before, _)| before.clone()));
        }
        let mine =
            || self.ghosts.iter().filter(|ghost| (ghost.record, ghost.field) == (record, field));
        loop {
            let count = kept.len();
            for ghost in mine() {
                if kept.contains(&ghost.value) {
                    kept.extend(ghost.parents.iter().map(|at| self.ghosts[*at].value.clone()));
                }
            }
            if kept.len() == count {
                break;
            }
        }
        let is_lost = |ghost: &&super::hub::Ghost| {
            ghost.is_human
                && !ghost.is_in_gap
                && !ghost.value.is_null()
                && !kept.contains(&ghost.value)
        };
        match mine().find(is_lost) {
            Some(ghost) => {
                Err(format!("I2 the value {:?} of record {record}.{field} is lost", ghost.value))
            }
            None => Ok(()),
        }
    }

    /// The values of one cell that a conflict keeps.
    fn values_of(&self, conflict: &Conflict, field: usize) -> Vec<Value> {
        if conflict.field == Some(field) {
            return conflict.values.clone();
        }
        let name = &self.entity.fields[field].name;
        let of_record = conflict.values.iter().filter(|_| conflict.field.is_none());
        of_record
            .filter_map(|value| match value {
                Value::Json(cells) => Some(self.entity.fields[field].from_json(cells.get(name)?)),
                _ => None,
            })
            .collect()
    }

    /// I13: one edit was made in knowledge of all others and met no conflict: its value is the last.
    fn check_last_word(&self, record: usize, field: usize) -> Result<(), Broken> {
        let state = &self.states[record];
        let is_plain = state.is_alive()
            && !self.conflicts.iter().any(|conflict| {
                conflict.record == record && conflict.field.is_none_or(|at| at == field)
            })
            && !self.journal.iter().any(|(at, action, _)| {
                *at == record && matches!(action, Action::Delete | Action::Restore)
            });
        let mine: Vec<usize> = (0..self.ghosts.len())
            .filter(|at| (self.ghosts[*at].record, self.ghosts[*at].field) == (record, field))
            .collect();
        let is_meddled = self.meddled.contains(&(record, field));
        if !is_plain || is_meddled || mine.iter().any(|at| self.ghosts[*at].is_in_gap) {
            return Ok(());
        }
        let seen: HashSet<usize> =
            mine.iter().flat_map(|at| self.ghosts[*at].parents.clone()).collect();
        let last: Vec<usize> = mine
            .iter()
            .copied()
            .filter(|at| self.ghosts[*at].is_human && !seen.contains(at))
            .collect();
        if let [last] = last[..]
            && self.ghosts[last].value != state.canon[field]
        {
            return Err(format!(
                "I13 {:?} was the last word on record {record}.{field}",
                self.ghosts[last].value
            ));
        }
        Ok(())
    }
}
