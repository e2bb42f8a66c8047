//! Who may be whom: the records that a side lacks, with what they are told by; and what was found.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    Error,
    catalog::quoted,
    write::{Calls, Writes, column},
    writer::Writer,
};
use crate::{
    mapping::Store,
    model::{EntityNo, RecordId, Side, SideKey, Value},
};

/// In `mirror.shadow`, in place of a field's name: what an Airtable record carries in its field for the canonical id.
pub(crate) const ID_FIELD: &str = "#id";

/// A side's record that was taken for a canonical one by what it holds.
#[derive(Clone, Debug)]
pub(crate) struct MatchRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) key: SideKey,
    /// The natural key's name.
    pub(crate) by: String,
}

/// A side's record that may be one of several.
#[derive(Clone, Debug)]
pub(crate) struct QuestionRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) key: SideKey,
    pub(crate) candidates: Vec<RecordId>,
    pub(crate) reason: String,
}

/// A record that a side lacks and never had, or one that was found there by a natural key.
#[derive(Debug)]
pub(crate) struct CandidateRow {
    pub(crate) record: RecordId,
    /// A value a field; those that no natural key has are left empty.
    pub(crate) values: Vec<Value>,
    pub(crate) taken_by: Option<SideKey>,
}

impl Writer {
    /// Whether `side` lacks records of `entity` that it never had.
    pub(crate) fn lacks_some(&self, side: Side, entity: EntityNo) -> bool {
        self.lacking.contains(&(side, entity))
    }

    /// Says that it lacks none any more, as far as anybody could be found.
    pub(crate) fn note_complete(&mut self, side: Side, entity: EntityNo) {
        self.lacking.remove(&(side, entity));
    }

    /// All living records of `entity` among which one that is new on `side` may be found, and those that were.
    pub(crate) async fn candidates(
        &self,
        side: Side,
        entity: EntityNo,
    ) -> Result<Vec<CandidateRow>, Error> {
        let described = self.mapping.entity(entity);
        let shape = self.shape(entity);
        let columns: Vec<(usize, String)> = described
            .fields
            .iter()
            .enumerate()
            .filter(|(at, _)| {
                let is_it = |no: &crate::model::FieldNo| usize::from(no.0) == *at;
                described.matches.iter().any(|key| key.fields.iter().any(is_it))
            })
            .filter_map(|(at, field)| match &field.store {
                Store::Column(column) => Some((at, format!("t.{}::text", quoted(column)))),
                Store::Junction { .. } => None,
            })
            .collect();
        let texts: Vec<&str> = columns.iter().map(|(_, text)| text.as_str()).collect();
        let (texts, table) = (texts.join(", "), &shape.table);
        let is_living = if shape.has_deleted_at { "t.deleted_at is null" } else { "true" };
        let sql = format!(
            "select t.id, null::text, array[{texts}]::text[] from {table} t
             join mirror.absence a on a.record_id = t.id and a.entity_no = $2 and a.side = $1 and not a.was_deleted
             where {is_living}
             union all
             select t.id, m.side_key, array[{texts}]::text[] from {table} t
             join mirror.match m on m.record_id = t.id and m.entity_no = $2 and m.side = $1 and m.split_at is null
             where {is_living} and not exists (select from mirror.absence a
                 where a.record_id = t.id and a.entity_no = $2 and a.side = $1)"
        );
        let rows = self.query(&sql, &[&side.name(), &self.entity_number(entity)]).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let mut values = vec![Value::Null; described.fields.len()];
                let texts: Vec<Option<&str>> = row.get(2);
                for ((at, _), text) in columns.iter().zip(texts) {
                    values[*at] = described.fields[*at].read_canonical(text);
                }
                let taken_by: Option<&str> = row.get(1);
                CandidateRow {
                    record: RecordId(row.get(0)),
                    values,
                    taken_by: taken_by.map(SideKey::from),
                }
            })
            .collect())
    }

    /// Of `ids`, those that are or were canonical records.
    pub(crate) async fn known(
        &self,
        entity: EntityNo,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, Error> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = format!(
            "select id from {} where id = any($2)
             union select record_id from mirror.tombstone where entity_no = $1 and record_id = any($2)",
            self.shape(entity).table
        );
        let rows = self.query(&sql, &[&self.entity_number(entity), &ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Of `records`, those that we are just creating on `side`.
    pub(crate) async fn under_creation(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashSet<RecordId>, Error> {
        if records.is_empty() || !self.has_operations(entity) {
            return Ok(HashSet::new());
        }
        let rows = self
            .query(
                "select record_id from mirror.operation
                 where side = $1 and entity_no = $2 and record_id = any($3) and kind = 'create' and settled_at is null",
                &[&side.name(), &self.entity_number(entity), &records],
            )
            .await?;
        Ok(rows.iter().map(|row| RecordId(row.get(0))).collect())
    }
}

impl Calls<'_> {
    pub(super) fn identity(&mut self, writes: &Writes) {
        let numbers = self.writer.entity_numbers.clone();
        let number = |entity: EntityNo| numbers[usize::from(entity.0)];
        let rows = &writes.matches;
        if !rows.is_empty() {
            self.add(
                "insert into mirror.match (entity_no, record_id, side, side_key, matched_by)
                 select * from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[])",
                vec![
                    column(rows, |row| number(row.entity)),
                    column(rows, |row| row.record.0),
                    column(rows, |row| row.side.name()),
                    column(rows, |row| row.key.to_string()),
                    column(rows, |row| row.by.clone()),
                ],
            );
        }
        for row in &writes.questions {
            let candidates: Vec<Uuid> = row.candidates.iter().map(|record| record.0).collect();
            self.add(
                "insert into mirror.match_question (entity_no, record_id, side, side_key, candidates, reason)
                 values ($1, $2, $3, $4, $5, $6)
                 on conflict (record_id, entity_no) where answered_at is null do update
                     set candidates = excluded.candidates, reason = excluded.reason",
                vec![
                    Box::new(number(row.entity)),
                    Box::new(row.record.0),
                    Box::new(row.side.name()),
                    Box::new(row.key.to_string()),
                    Box::new(candidates),
                    Box::new(row.reason.clone()),
                ],
            );
        }
    }
}
