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
    model::{EntityNo, FieldNo, RecordId, Side, SideKey, Value},
};

/// In `mirror.shadow`, in place of a field's name: what an Airtable record carries in its field for the canonical id.
pub(crate) const ID_FIELD: &str = "#id";

/// The id that a shadow of [`ID_FIELD`] says the record carries.
pub(crate) fn carried_id(shadow: &serde_json::Value) -> Option<Uuid> {
    shadow.as_str().and_then(|text| Uuid::try_parse(text).ok())
}

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

/// A side's record that is another canonical one from now on.
#[derive(Clone, Debug)]
pub(crate) struct MoveRow {
    pub(crate) entity: EntityNo,
    pub(crate) side: Side,
    pub(crate) key: SideKey,
    pub(crate) from: RecordId,
    pub(crate) to: RecordId,
    pub(crate) author: String,
    /// What says that the two are one: a natural key's name, or `person`. `from` is no more then. `None`: they are two,
    /// and `to` is new.
    pub(crate) joined_by: Option<String>,
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
                let is_it = |no: &FieldNo| usize::from(no.0) == *at;
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
             join mirror.absence a on a.record_id = t.id and a.entity_no = $2 and a.side = $1 and not a.was_deleted and not a.is_outside
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

    /// The records whose `field` links to this one, in canonical or by what a side holds.
    pub(crate) async fn linking(
        &self,
        entity: EntityNo,
        field: FieldNo,
        record: RecordId,
    ) -> Result<Vec<RecordId>, Error> {
        let described = self.mapping.entity(entity).field(field);
        let canonical = match &described.store {
            Store::Column(column) => {
                format!("select id from {} where {} = $3", self.shape(entity).table, quoted(column))
            }
            Store::Junction { table, parent, element } => format!(
                "select {} from canon.{} where {} = $3",
                quoted(parent),
                quoted(table),
                quoted(element)
            ),
        };
        let sql = format!(
            "{canonical} union select record_id from mirror.shadow
             where entity_no = $1 and field = $2 and (value = to_jsonb($3::uuid) or value ? $3::uuid::text)"
        );
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.entity_number(entity), &described.name, &record.0];
        let rows = self.query(&sql, &params).await?;
        Ok(rows.iter().map(|row| RecordId(row.get(0))).collect())
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
        for row in &writes.moves {
            self.moved(row, number(row.entity));
        }
    }

    /// All that hangs on a side's record goes with it.
    fn moved(&mut self, row: &MoveRow, number: i16) {
        let mut add = |sql: &'static str, params: Vec<super::session::Param>| self.add(sql, params);
        let (from, to, side) = (row.from.0, row.to.0, row.side.name());
        add(
            "update mirror.element set record_id = $4 where side = $1 and entity_no = $2 and record_id = $3",
            vec![Box::new(side), Box::new(number), Box::new(from), Box::new(to)],
        );
        // Columns that were kept for elements of either go with the set.
        add(
            "insert into mirror.element_left (side, entity_no, field, record_id, element, columns, left_at)
             select side, entity_no, field, $4, element, columns, left_at from mirror.element_left
             where side = $1 and entity_no = $2 and record_id = $3
             on conflict (record_id, entity_no, side, field, element) do nothing",
            vec![Box::new(side), Box::new(number), Box::new(from), Box::new(to)],
        );
        // Ids are of one record in all the world: no other field's element is the same text.
        add(
            "update mirror.element set element = $3::uuid::text where side = $1 and element = $2::uuid::text",
            vec![Box::new(side), Box::new(from), Box::new(to)],
        );
        add(
            "update mirror.match_question set answered_at = now(), answered_by = $3
             where entity_no = $1 and record_id = $2 and answered_at is null",
            vec![Box::new(number), Box::new(from), Box::new(row.author.clone())],
        );
        let Some(joined_by) = &row.joined_by else {
            add(
                "update mirror.match set split_at = now()
                 where entity_no = $1 and record_id = $2 and side = $3 and side_key = $4 and split_at is null",
                vec![Box::new(number), Box::new(from), Box::new(side), Box::new(row.key.to_string())],
            );
            return;
        };
        add(
            "insert into mirror.match (entity_no, record_id, side, side_key, matched_by) values ($1, $2, $3, $4, $5)",
            vec![
                Box::new(number),
                Box::new(to),
                Box::new(side),
                Box::new(row.key.to_string()),
                Box::new(joined_by.clone()),
            ],
        );
        add(
            "update mirror.match_question set candidates = array_replace(candidates, $2::uuid, $3::uuid)
             where entity_no = $1 and answered_at is null",
            vec![Box::new(number), Box::new(from), Box::new(to)],
        );
        add(
            "update mirror.conflict set decided_at = now(), decided_by = $3
             where entity_no = $1 and record_id = $2 and decision = 'held' and decided_at is null",
            vec![Box::new(number), Box::new(from), Box::new(row.author.clone())],
        );
        for sql in [
            "delete from mirror.parked where entity_no = $1 and record_id = $2",
            "delete from mirror.outbox where entity_no = $1 and record_id = $2",
        ] {
            add(sql, vec![Box::new(number), Box::new(from)]);
        }
    }
}
