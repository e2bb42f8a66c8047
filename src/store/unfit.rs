//! What somebody entered on a side and canonical could not take, kept for good when something else is in its place:
//! rows of `mirror.conflict` with the reason in `unfit`. Before a write of ours goes over such a cell, the transaction
//! that binds the write keeps what it held (`operation_bind.sql`); here is what `apply` keeps, when a side's log shows
//! that the cell holds something else.

use serde_json::Value as Json;

use super::write::{Calls, RefusalRow, Writes, column};
use crate::model::{EntityNo, RecordId, Side, SideKey};

/// Who made a side's log say what a cell holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenBy {
    Somebody,
    Us,
    /// Nobody: it was read.
    Scan,
}

impl SeenBy {
    fn name(self) -> &'static str {
        match self {
            Self::Somebody => "somebody",
            Self::Us => "us",
            Self::Scan => "scan",
        }
    }
}

/// A cell, or without a field a whole record, of which nothing is refused any more.
#[derive(Debug)]
pub(crate) struct AcceptedRow {
    pub(crate) side: Side,
    pub(crate) entity: EntityNo,
    pub(crate) key: SideKey,
    pub(crate) record: Option<RecordId>,
    pub(crate) field: Option<String>,
    /// What it holds now, as JSON.
    pub(crate) value: Option<String>,
    pub(crate) seen_by: SeenBy,
}

/// What was refused and replaced within one batch.
#[derive(Debug)]
pub(crate) struct UnfitRow {
    pub(crate) side: Side,
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) field: String,
    raw: Json,
    reason: String,
    now: Json,
    pub(crate) transaction: i64,
}

impl UnfitRow {
    /// `None`: nothing was lost with it.
    pub(crate) fn of(gone: RefusalRow, now: Option<&Json>, by: SeenBy) -> Option<Self> {
        let raw = gone.raw?.to_json();
        let is_taken = gone.waits_for.is_some() && by != SeenBy::Us;
        if is_taken || now.is_some_and(|now| is_same(&raw, now)) {
            return None;
        }
        Some(Self {
            side: gone.side,
            entity: gone.entity,
            record: gone.record?,
            field: gone.field,
            raw,
            reason: gone.reason,
            now: now.cloned().unwrap_or_default(),
            transaction: gone.transaction,
        })
    }
}

/// Whether a value is what the text says.
fn is_same(raw: &Json, now: &Json) -> bool {
    match now {
        Json::String(_) => raw == now,
        other => raw.as_str() == Some(&other.to_string()),
    }
}

impl Calls<'_> {
    /// To be called before refusals are deleted or replaced.
    pub(super) fn unfit(&mut self, writes: &Writes) {
        let numbers = self.writer.entity_numbers.clone();
        let accepted = writes.accepted.iter().filter_map(|row| {
            let field = row.field.as_deref();
            Some((
                row.side,
                row.entity,
                &row.key,
                row.record?,
                field,
                row.value.clone(),
                row.seen_by,
            ))
        });
        let again = writes.refusals.iter().filter_map(|row| {
            let raw = row.raw.as_ref().map(|raw| raw.to_json().to_string());
            let is_known = self.writer.has_refusals(row.side, row.entity);
            let (key, field) = (&row.key, Some(row.field.as_str()));
            let record = row.record.filter(|_| is_known)?;
            Some((row.side, row.entity, key, record, field, raw, SeenBy::Somebody))
        });
        let rows: Vec<_> = accepted.chain(again).collect();
        if !rows.is_empty() {
            self.add(
                include_str!("unfit_replaced.sql"),
                vec![
                    column(&rows, |(side, ..)| side.name()),
                    column(&rows, |(_, entity, ..)| numbers[usize::from(entity.0)]),
                    column(&rows, |(_, _, key, ..)| key.to_string()),
                    column(&rows, |(_, _, _, record, ..)| record.0),
                    column(&rows, |(_, _, _, _, field, ..)| field.map(str::to_owned)),
                    column(&rows, |(.., value, _)| value.clone()),
                    column(&rows, |(.., by)| by.name()),
                ],
            );
        }
        let rows = &writes.unfit;
        if rows.is_empty() {
            return;
        }
        self.add(
            include_str!("unfit_put.sql"),
            vec![
                column(rows, |row| row.side.name()),
                column(rows, |row| numbers[usize::from(row.entity.0)]),
                column(rows, |row| row.record.0),
                column(rows, |row| row.field.clone()),
                column(rows, |row| row.raw.to_string()),
                column(rows, |row| row.now.to_string()),
                column(rows, |row| row.transaction),
                column(rows, |row| row.reason.clone()),
            ],
        );
    }
}
