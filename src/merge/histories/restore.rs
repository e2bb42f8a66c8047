//! A side goes back in time: it holds again what a snapshot of it held, and the hub is in recovery until somebody opens
//! the way out.

use std::{mem, sync::Arc};

use super::{
    Broken, RECORD_COUNT,
    hub::{History, at, no},
    side::{Entry, Row, What},
};
use crate::{
    merge::{Action, Origin, Past, RecordState},
    model::{Side, Value},
};

/// What a backup of a side holds: no log.
#[derive(Clone, Debug)]
struct Snapshot {
    rows: [Option<Row>; RECORD_COUNT],
    bin: [Option<Row>; RECORD_COUNT],
    keys: [usize; RECORD_COUNT],
}

/// The backups that there are, and whether one was brought back.
#[derive(Debug, Default)]
pub(super) struct Restores {
    /// Whether a side may go back in time in this history.
    is_on: bool,
    snapshots: [Vec<Snapshot>; 2],
    pub(super) has_gone_back: bool,
    /// A recovery is open: nothing is bound and nothing is sent, to any side.
    pub(super) is_shut: bool,
}

impl Restores {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }
}

impl History<'_> {
    /// What has to do with backups happens; `false`: nothing did.
    pub(super) fn step_of_restores(&mut self, side: Side) -> Result<bool, Broken> {
        if !self.restores.is_on {
            return Ok(false);
        }
        if self.dice.chance(8) {
            let world = &self.worlds[at(side)];
            let (rows, bin, keys) = (world.rows.clone(), world.bin.clone(), world.keys);
            self.restores.snapshots[at(side)].push(Snapshot { rows, bin, keys });
        }
        if self.restores.is_shut && self.dice.chance(20) {
            self.open_the_way_out();
            return Ok(true);
        }
        if self.dice.chance(4) {
            self.restore(side)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// A person accepts what is owed, the deletes of the recovery included.
    pub(super) fn open_the_way_out(&mut self) {
        if mem::take(&mut self.restores.is_shut) {
            self.tell(|| String::from("  the way out is opened again"));
            self.approve();
        }
    }

    /// The side goes back, people go on there, and only then the hub looks. The other side's log is unbroken, and is
    /// read on as ever.
    fn restore(&mut self, side: Side) -> Result<(), Broken> {
        let snapshots = &self.restores.snapshots[at(side)];
        if snapshots.is_empty() {
            return Ok(());
        }
        let snapshot = snapshots[self.dice.below(snapshots.len())].clone();
        self.tell(|| format!("{side} goes back in time: {snapshot:?}"));
        let world = &mut self.worlds[at(side)];
        let mut lost: Vec<Entry> = mem::take(&mut world.log).into();
        (world.rows, world.bin, world.keys) = (snapshot.rows, snapshot.bin, snapshot.keys);
        (self.restores.is_shut, self.restores.has_gone_back) = (true, true);
        // Whatever was under way to it has found no server, or the one that is no more. What the hub has bound is
        // settled when the record is read, as after any listing.
        let requests = &self.requests;
        self.late.retain(|which| requests[*which].operation.side != side);
        self.approved.retain(|(_, doomed)| *doomed != side);
        if self.dice.chance(30) {
            self.forget_operations();
        }
        for _ in 0..self.dice.below(3) {
            let record = self.dice.below(RECORD_COUNT);
            if self.dice.chance(80) {
                self.edit(side, record);
            } else {
                self.delete_or_restore(side, record);
            }
        }
        lost.extend(mem::take(&mut self.worlds[at(side)].log));
        let pasts: Vec<Past> = (0..RECORD_COUNT).map(|record| self.past(record)).collect();
        self.mark_lost(side, lost, &pasts);
        // Each record may be owed all of its cells again.
        self.cause_count += 2 + 2 * RECORD_COUNT;
        self.read_whole(side, &pasts)
    }

    /// Operations are kept for some days after they are settled: of some, a late copy can't come any more.
    fn forget_operations(&mut self) {
        let late: Vec<_> = self.late.iter().map(|at| self.requests[*at].operation.id).collect();
        let logged = self.worlds.iter().flat_map(|world| &world.log);
        let logged: Vec<_> = logged.filter_map(|entry| entry.operation).collect();
        for state in &mut self.states {
            state.operations.retain(|operation| {
                let id = operation.id;
                !operation.is_settled || late.contains(&id) || logged.contains(&id)
            });
            state.forget_if_gone();
        }
    }

    /// What was typed and is read nowhere is gone with the side. So is what looks like the backup: a value that the
    /// record has had before.
    fn mark_lost(&mut self, side: Side, lost: Vec<Entry>, pasts: &[Past]) {
        for entry in lost {
            let What::Cells(cells) = entry.what else { continue };
            let row = self.worlds[at(side)].rows[entry.record].as_ref();
            for (field, shown) in cells {
                let is_shown = row.is_some_and(|row| row[field].ghost == shown.ghost);
                if !is_shown || pasts[entry.record].knows(no(field), &shown.value) {
                    self.ghosts[shown.ghost].is_in_gap = true;
                }
            }
        }
    }

    /// What the journal and the conflicts know of a record, as `Writer::pasts` reads it.
    fn past(&self, record: usize) -> Past {
        let mut past = Past::default();
        let mut know = |field: usize, value: &Value| {
            past.earlier.entry(no(field)).or_default().insert(value.clone());
        };
        let mut journal = self.journal.iter().filter(|(of, ..)| *of == record);
        for (_, action, cells) in journal.clone() {
            for (field, before, after) in cells {
                if *action != Action::Create {
                    know(*field, before);
                }
                if *action != Action::Delete {
                    know(*field, after);
                }
            }
        }
        for conflict in self.conflicts.iter().filter(|conflict| conflict.record == record) {
            let Some(field) = conflict.field else { continue };
            let (pair, base) = (conflict.values.iter().rev().take(2), conflict.values.first());
            pair.for_each(|value| know(field, value));
            if let (Some(settled), Some(base), 3) = (&conflict.settled, base, conflict.values.len())
            {
                know(field, base);
                know(field, settled);
            }
        }
        if let Some((_, Action::Delete, cells)) = journal.next_back() {
            past.was_deleted = true;
            past.last = cells.iter().map(|(field, was, _)| (no(*field), was.clone())).collect();
        }
        past
    }

    /// Reads the side whole. The records that it lacks come first, so that one that is there under another key finds its
    /// own id free.
    fn read_whole(&mut self, side: Side, pasts: &[Past]) -> Result<(), Broken> {
        for is_there in [false, true] {
            for (record, past) in pasts.iter().enumerate() {
                let world = &self.worlds[at(side)];
                let key = world.keys[record];
                let what = match &world.rows[record] {
                    Some(row) if is_there => What::Cells(row.iter().cloned().enumerate().collect()),
                    Some(_) if self.known_keys[at(side)][record] == key => continue,
                    None if is_there => continue,
                    Some(_) | None => What::Gone,
                };
                let entry = Entry { record, what, operation: None, key, by_itself: Vec::new() };
                let before = self.states[record].clone();
                self.states[record].past = Some(Arc::new(past.clone()));
                self.take_in(side, Origin::Restored, &entry)?;
                self.states[record].past = None;
                self.check_restored(&before, &entry, past)?;
            }
        }
        Ok(())
    }

    /// I15 and I7, at once: a side that went back changes nothing that is canonical, deletes nothing, brings nothing
    /// back unless somebody has changed it since, and answers no question.
    fn check_restored(
        &self,
        before: &RecordState,
        entry: &Entry,
        past: &Past,
    ) -> Result<(), Broken> {
        let (record, after) = (entry.record, &self.states[entry.record]);
        if before.is_alive() && !after.is_alive() {
            return Err(format!("I7 record {record} is deleted by a side that went back in time"));
        }
        if before.is_alive() && before.canon != after.canon {
            return Err(format!("I15 record {record} is what a side that went back shows"));
        }
        let is_of_old = match &entry.what {
            What::Cells(cells) => cells.iter().all(|(field, shown)| {
                let value = &shown.value;
                value.is_null() || *value == before.canon[*field] || past.knows(no(*field), value)
            }),
            What::Gone => true,
        };
        if past.was_deleted && !before.is_alive() && after.is_alive() && is_of_old {
            return Err(format!("I15 record {record} is back with a side that went back in time"));
        }
        Ok(())
    }
}
