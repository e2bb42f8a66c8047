//! The statements for what is owed to the sides: its schedule, deletes that are to follow, cells that were not taken.

use uuid::Uuid;

use super::write::{Calls, EntityWrites, WHOLE_RECORD, column};
use crate::{
    mapping::DeletePolicy,
    model::{EntityNo, RecordId, Side, Value},
};

/// A record of which something is owed to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DueRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    /// Seconds without another change after which it goes; `None`: at once.
    pub(crate) settle_s: Option<u32>,
    /// Whether something is owed as far as `apply` knows; otherwise the push only has to look, and drops the row.
    pub(crate) is_owed: bool,
    pub(crate) counted: Option<CountedDue>,
}

/// A row of the outbox that the guard for mass changes counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CountedDue {
    /// By the last of the transactions that changed it.
    pub(crate) transaction: i64,
    /// Seconds for which it waits.
    pub(crate) wait_s: u32,
    /// It waits for the end of a full read.
    pub(crate) is_being_read: bool,
}

/// A record that was deleted on one side and still lives on this one.
#[derive(Debug)]
pub(crate) struct DoomRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) transaction: i64,
}

/// A cell that is not sent again, with the value that the side did not keep.
#[derive(Debug)]
pub(crate) struct ParkRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) field: String,
    pub(crate) code: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) value: Value,
}

/// In `mirror.parked`: the record is held because nothing but our own writes changes it.
pub(crate) const ANSWERS_ITSELF: &str = "answers_itself";
/// Tells of such records, or that there are none any more.
pub(super) const ANSWERS_ITSELF_TOLD: &str = include_str!("answers_itself.sql");

impl Calls<'_> {
    pub(super) fn owed(&mut self, writes: &EntityWrites) {
        let number = self.writer.entity_number(writes.entity);
        self.doomed(writes, number);
        self.parked(writes, number);
        if !writes.not_due.is_empty() {
            self.add(
                "delete from mirror.outbox o using unnest($2::uuid[], $3::text[]) as u (record_id, side)
                 where o.entity_no = $1 and o.record_id = u.record_id and o.side = u.side",
                vec![
                    Box::new(number),
                    column(&writes.not_due, |(record, _)| record.0),
                    column(&writes.not_due, |(_, side)| side.name()),
                ],
            );
        }
        if !writes.due.is_empty() {
            self.add(
                include_str!("outbox_put.sql"),
                vec![
                    Box::new(number),
                    column(&writes.due, |row| row.record.0),
                    column(&writes.due, |row| row.side.name()),
                    column(&writes.due, |row| row.settle_s.map(i64::from)),
                    column(&writes.due, |row| row.counted.map(|it| i64::from(it.wait_s))),
                    column(&writes.due, |row| row.counted.map(|it| it.transaction)),
                    column(&writes.due, |row| row.counted.is_some_and(|it| it.is_being_read)),
                ],
            );
            self.free_what_is_not_owed(&writes.due, number);
        }
    }

    fn doomed(&mut self, writes: &EntityWrites, number: i16) {
        let (spared, rows) = (&writes.spared, &writes.doomed);
        if !spared.is_empty() {
            self.add(
                "delete from mirror.pending_delete p using unnest($2::uuid[], $3::text[]) as u (record_id, side)
                 where p.entity_no = $1 and p.record_id = u.record_id and p.side = u.side",
                vec![
                    Box::new(number),
                    column(spared, |(record, _)| record.0),
                    column(spared, |(_, side)| side.name()),
                ],
            );
        }
        if rows.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.pending_delete (entity_no, record_id, side, source_transaction_id)
             select $1, record_id, side, id from unnest($2::uuid[], $3::text[], $4::bigint[]) as u (record_id, side, id)
             on conflict (record_id, entity_no, side) do nothing",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.transaction),
            ],
        );
        if self.writer.mapping.entity(writes.entity).deletes == DeletePolicy::Propagate {
            let table = &self.writer.shape(writes.entity).table;
            let sql = include_str!("deletes_approve.sql").replace("{table}", table);
            self.add(sql, vec![Box::new(number), column(rows, |row| row.record.0)]);
            self.add(include_str!("deletes_stopped.sql"), Vec::new());
        }
    }

    fn parked(&mut self, writes: &EntityWrites, number: i16) {
        let (gone, rows) = (&writes.unparked, &writes.parked);
        if !gone.is_empty() {
            self.add(
                "delete from mirror.parked p using unnest($2::uuid[], $3::text[]) as u (record_id, field)
                 where p.entity_no = $1 and p.record_id = u.record_id and p.field in (u.field, '*')",
                vec![
                    Box::new(number),
                    column(gone, |(record, _)| record.0),
                    column(gone, |(_, field)| field.clone()),
                ],
            );
            if gone.iter().any(|(_, field)| field == WHOLE_RECORD) {
                self.add(ANSWERS_ITSELF_TOLD, Vec::new());
            }
        }
        if rows.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.parked (entity_no, record_id, side, field, code, reason, value)
             select $1, record_id, side, field, code, reason, value::jsonb
             from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) as u (record_id, side, field, code, reason, value)
             on conflict (side, entity_no, record_id, field) do update
                 set code = excluded.code, reason = excluded.reason, value = excluded.value, parked_at = now(), try_count = parked.try_count + 1",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.field.clone()),
                column(rows, |row| row.code),
                column(rows, |row| row.reason),
                column(rows, |row| row.value.to_json().to_string()),
            ],
        );
        if rows.iter().any(|row| row.code == ANSWERS_ITSELF) {
            self.add(ANSWERS_ITSELF_TOLD, Vec::new());
        }
    }

    /// Which of our own writes were answered by a change that nobody made, or are not counted any more.
    pub(super) fn answered(&mut self, rows: &[(Uuid, EntityNo, RecordId, u16)]) {
        if rows.is_empty() {
            return;
        }
        let numbers = self.writer.entity_numbers.clone();
        self.add(
            "update mirror.operation o set answer_count = u.answer_count
             from unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::smallint[])
                 as u (operation_id, entity_no, record_id, answer_count)
             where o.operation_id = u.operation_id and o.entity_no = u.entity_no and o.record_id = u.record_id",
            vec![
                column(rows, |(id, ..)| *id),
                column(rows, |(_, entity, ..)| numbers[usize::from(entity.0)]),
                column(rows, |(_, _, record, _)| record.0),
                column(rows, |(.., count)| i16::try_from(*count).unwrap_or(i16::MAX)),
            ],
        );
    }

    pub(super) fn settled(&mut self, rows: &[(Uuid, EntityNo, RecordId)]) {
        if rows.is_empty() {
            return;
        }
        let numbers = self.writer.entity_numbers.clone();
        self.add(
            "update mirror.operation o set settled_at = now()
             from unnest($1::uuid[], $2::smallint[], $3::uuid[]) as u (operation_id, entity_no, record_id)
             where o.operation_id = u.operation_id and o.entity_no = u.entity_no and o.record_id = u.record_id
               and o.settled_at is null",
            vec![
                column(rows, |(id, ..)| *id),
                column(rows, |(_, entity, _)| numbers[usize::from(entity.0)]),
                column(rows, |(.., record)| record.0),
            ],
        );
    }
}
