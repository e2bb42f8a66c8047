//! The statements for what people have decided.

use super::{
    Error,
    write::{Calls, Writes, column},
    writer::Writer,
};
use crate::model::{EntityNo, RecordId, Side, Value};

/// A person's last word on cells of a record.
#[derive(Debug)]
pub(crate) struct VerdictRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) author: String,
    pub(crate) cells: Vec<(String, Value)>,
    /// Conflicts that the person named; held ones of these cells are settled in any case.
    pub(crate) conflicts: Vec<i64>,
}

/// A yes to a delete on a side.
#[derive(Debug)]
pub(crate) struct YesRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) author: String,
}

/// A command that was carried out.
#[derive(Debug)]
pub(crate) struct CommandRow {
    pub(crate) id: i64,
    pub(crate) outcome: Option<String>,
}

impl Calls<'_> {
    pub(super) fn decided(&mut self, writes: &Writes) {
        for row in &writes.verdicts {
            self.add(
                "update mirror.conflict c
                 set decided_at = coalesce(c.decided_at, now()), decided_by = $3, settled_value = u.value::jsonb
                 from unnest($4::text[], $5::text[]) as u (field, value)
                 where c.entity_no = $1 and c.record_id = $2 and c.field = u.field
                   and (c.decision = 'held' and c.decided_at is null or c.conflict_id = any($6))",
                vec![
                    Box::new(self.writer.entity_number(row.entity)),
                    Box::new(row.record.0),
                    Box::new(row.author.clone()),
                    column(&row.cells, |(field, _)| field.clone()),
                    column(&row.cells, |(_, value)| value.to_json().to_string()),
                    Box::new(row.conflicts.clone()),
                ],
            );
        }
        for row in &writes.yeses {
            self.add(
                "update mirror.pending_delete set approved_at = now(), approved_by = $4
                 where entity_no = $1 and record_id = $2 and side = $3",
                vec![
                    Box::new(self.writer.entity_number(row.entity)),
                    Box::new(row.record.0),
                    Box::new(row.side.name()),
                    Box::new(row.author.clone()),
                ],
            );
        }
        for row in &writes.commands {
            self.add(
                "update mirror.command set done_at = now(), outcome = $2 where command_id = $1",
                vec![Box::new(row.id), Box::new(row.outcome.clone())],
            );
        }
    }
}

impl Writer {
    /// Whether a command was carried out already, or is none any more.
    pub(crate) async fn is_done(&self, command: i64) -> Result<bool, Error> {
        let rows = self
            .query(
                "select from mirror.command where command_id = $1 and done_at is null",
                &[&command],
            )
            .await?;
        Ok(rows.is_empty())
    }
}
