//! What a batch changes, and the statements that write it: one a kind and table, whatever the number of rows.

use uuid::Uuid;

use super::{
    Error,
    catalog::quoted,
    writer::{Call, Param, Writer},
};
use crate::{
    mapping::Store,
    merge::Action,
    model::{EntityNo, FieldNo, RecordId, RefusalKind, Side, SideKey, Stamp, Value},
};

/// All that one batch, or one part of a large transaction, writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) entities: Vec<EntityWrites>,
    pub(crate) transactions: Vec<TransactionRow>,
    pub(crate) journal: Vec<JournalRow>,
    pub(crate) conflicts: Vec<ConflictRow>,
    /// Held conflicts that are over: (entity, record, field, side).
    pub(crate) agreed: Vec<(EntityNo, RecordId, String, Side)>,
    pub(crate) transitions: Vec<TransitionRow>,
    pub(crate) refusals: Vec<RefusalRow>,
    /// Refusals that a fitting value has made void: (side, entity, key, field).
    pub(crate) accepted: Vec<(Side, EntityNo, SideKey, String)>,
    /// Log, side, position (empty: as it was), identity.
    pub(crate) positions: Vec<(String, Side, String, Option<serde_json::Value>)>,
}

/// Changes to one entity's tables.
#[derive(Debug)]
pub(crate) struct EntityWrites {
    pub(crate) entity: EntityNo,
    pub(crate) inserts: Vec<(RecordId, Vec<Value>)>,
    /// Whole rows; only the columns of `changed` are written.
    pub(crate) updates: Vec<(RecordId, Vec<Value>)>,
    /// A flag a field: some row of `updates` changes it.
    pub(crate) changed: Vec<bool>,
    pub(crate) deletes: Vec<RecordId>,
    /// `deleted_at`, µs; `None` clears it.
    pub(crate) marks: Vec<(RecordId, Option<i64>)>,
    pub(crate) sets: Vec<SetChange>,
    pub(crate) shadows: Vec<ShadowRow>,
    pub(crate) shadows_gone: Vec<(RecordId, Side, String)>,
    pub(crate) absences: Vec<AbsenceRow>,
    pub(crate) absences_gone: Vec<(RecordId, Side)>,
    pub(crate) links: Vec<LinkRow>,
    pub(crate) links_gone: Vec<(Side, SideKey)>,
    pub(crate) tombstones: Vec<(RecordId, i64)>,
    /// Side, field, row; `None`: gone.
    pub(crate) elements: Vec<(Side, String, SideKey, Option<(RecordId, String)>)>,
}

#[derive(Debug)]
pub(crate) struct SetChange {
    pub(crate) field: FieldNo,
    pub(crate) record: RecordId,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct ShadowRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) field: String,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) struct AbsenceRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) transaction: i64,
    pub(crate) was_deleted: bool,
}

#[derive(Debug)]
pub(crate) struct LinkRow {
    pub(crate) side: Side,
    pub(crate) key: SideKey,
    pub(crate) record: RecordId,
}

#[derive(Debug)]
pub(crate) struct TransactionRow {
    pub(crate) id: i64,
    pub(crate) stamp: Stamp,
}

#[derive(Debug)]
pub(crate) struct JournalRow {
    pub(crate) id: i64,
    pub(crate) transaction: i64,
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) action: Action,
    /// JSON objects.
    pub(crate) before: String,
    pub(crate) after: String,
}

#[derive(Debug)]
pub(crate) struct ConflictRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) field: Option<String>,
    pub(crate) side: Side,
    pub(crate) base: Option<serde_json::Value>,
    pub(crate) canonical: serde_json::Value,
    pub(crate) observed: serde_json::Value,
    pub(crate) transaction: i64,
    pub(crate) decision: &'static str,
}

/// A row for a table that keeps a field's changes, such as `stage_transition`.
#[derive(Debug)]
pub(crate) struct TransitionRow {
    pub(crate) entity: EntityNo,
    pub(crate) field: FieldNo,
    pub(crate) record: RecordId,
    pub(crate) before: Value,
    pub(crate) after: Value,
    pub(crate) transaction: i64,
}

#[derive(Debug)]
pub(crate) struct RefusalRow {
    pub(crate) side: Side,
    pub(crate) entity: EntityNo,
    pub(crate) key: SideKey,
    pub(crate) field: String,
    pub(crate) kind: RefusalKind,
    pub(crate) reason: String,
    pub(crate) waits_for: Option<Vec<String>>,
    pub(crate) transaction: i64,
}

impl EntityWrites {
    pub(crate) fn new(entity: EntityNo, field_count: usize) -> Self {
        Self {
            entity,
            inserts: Vec::new(),
            updates: Vec::new(),
            changed: vec![false; field_count],
            deletes: Vec::new(),
            marks: Vec::new(),
            sets: Vec::new(),
            shadows: Vec::new(),
            shadows_gone: Vec::new(),
            absences: Vec::new(),
            absences_gone: Vec::new(),
            links: Vec::new(),
            links_gone: Vec::new(),
            tombstones: Vec::new(),
            elements: Vec::new(),
        }
    }
}

type Pairs = Vec<(Side, EntityNo)>;

impl Writes {
    /// Pairs of side and entity that get links, and that get refusals.
    pub(super) fn pairs(&self) -> (Pairs, Pairs) {
        let linked = self
            .entities
            .iter()
            .flat_map(|writes| writes.links.iter().map(|link| (link.side, writes.entity)))
            .collect();
        (linked, self.refusals.iter().map(|row| (row.side, row.entity)).collect())
    }
}

/// Builds the calls of a batch.
struct Calls<'a> {
    writer: &'a mut Writer,
    calls: &'a mut Vec<Call>,
}

impl Calls<'_> {
    async fn add(&mut self, sql: &str, params: Vec<Param>) -> Result<(), Error> {
        let statement = self.writer.prepare(sql).await?;
        self.calls.push(Call::Prepared(statement, params));
        Ok(())
    }
}

/// A parameter that is an array: one element of each row.
fn column<T, R>(rows: &[R], get: impl Fn(&R) -> T) -> Param
where
    Vec<T>: tokio_postgres::types::ToSql + Sync + Send + 'static,
{
    Box::new(rows.iter().map(get).collect::<Vec<T>>())
}

fn text(value: &Value) -> Option<String> {
    value.to_sql().map(std::borrow::Cow::into_owned)
}

impl Writer {
    pub(super) async fn add_calls(
        &mut self,
        calls: &mut Vec<Call>,
        writes: Writes,
    ) -> Result<(), Error> {
        let mapping = std::sync::Arc::clone(&self.mapping);
        let mut to = Calls { writer: self, calls };
        to.transactions(&writes.transactions).await?;
        for entity in &writes.entities {
            to.links(entity).await?;
            to.inserts(entity).await?;
        }
        for entity in &writes.entities {
            to.updates(entity).await?;
            to.marks(entity).await?;
            to.sets(entity).await?;
            to.shadows(entity).await?;
            to.absences(entity).await?;
            to.elements(entity).await?;
        }
        for entity in writes.entities.iter().rev() {
            to.deletes(entity).await?;
        }
        to.journal(&writes.journal).await?;
        to.conflicts(&writes).await?;
        to.transitions(&mapping, &writes.transitions).await?;
        to.refusals(&writes).await?;
        for (log, side, position, identity) in &writes.positions {
            to.add(
                "insert into mirror.position (log, side, position, identity) values ($1, $2, $3, coalesce($4::jsonb, '{}'))
                 on conflict (log) do update set position = coalesce(nullif(excluded.position, ''), position.position),
                     identity = coalesce($4::jsonb, position.identity), stored_at = now()",
                vec![
                    Box::new(log.clone()),
                    Box::new(side.name()),
                    Box::new(position.clone()),
                    Box::new(identity.clone()),
                ],
            )
            .await?;
        }
        Ok(())
    }
}

impl Calls<'_> {
    async fn transactions(&mut self, rows: &[TransactionRow]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.add(
            "insert into mirror.source_transaction
                 (source_transaction_id, side, at, position, author_id, author_name, via, operation_id)
             select id, side, timestamptz 'epoch' + at * interval '1 microsecond', position, author_id, author_name, via, operation_id
             from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[])
                  as u (id, side, at, position, author_id, author_name, via, operation_id)",
            vec![
                column(rows, |row| row.id),
                column(rows, |row| row.stamp.side.name()),
                column(rows, |row| row.stamp.at),
                column(rows, |row| row.stamp.position.as_ref().map(ToString::to_string)),
                column(rows, |row| row.stamp.author.id.clone()),
                column(rows, |row| row.stamp.author.name.clone()),
                column(rows, |row| row.stamp.author.via.clone()),
                column(rows, |row| row.stamp.operation),
            ],
        )
        .await
    }

    async fn links(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let number = self.writer.entity_number(writes.entity);
        if !writes.links_gone.is_empty() {
            self.add(
                "delete from mirror.link l using unnest($2::text[], $3::text[]) as u (side, side_key)
                 where l.entity_no = $1 and l.side = u.side and l.side_key = u.side_key",
                vec![
                    Box::new(number),
                    column(&writes.links_gone, |(side, _)| side.name()),
                    column(&writes.links_gone, |(_, key)| key.to_string()),
                ],
            )
            .await?;
        }
        if writes.links.is_empty() {
            return Ok(());
        }
        self.add(
            "insert into mirror.link (side, entity_no, side_key, record_id)
             select side, $1, side_key, record_id from unnest($2::text[], $3::text[], $4::uuid[]) as u (side, side_key, record_id)
             on conflict (record_id, entity_no, side) do update set side_key = excluded.side_key",
            vec![
                Box::new(number),
                column(&writes.links, |row| row.side.name()),
                column(&writes.links, |row| row.key.to_string()),
                column(&writes.links, |row| row.record.0),
            ],
        )
        .await
    }

    async fn inserts(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        if writes.inserts.is_empty() {
            return Ok(());
        }
        let mapping = std::sync::Arc::clone(&self.writer.mapping);
        let shape = self.writer.shape(writes.entity);
        let (mut names, mut values, mut unnest, mut short) = (
            String::from("id"),
            String::from("u.id"),
            String::from("$1::uuid[]"),
            String::from("id"),
        );
        let mut params = vec![column(&writes.inserts, |(record, _)| record.0)];
        for (at, field) in mapping.entity(writes.entity).fields.iter().enumerate() {
            if let (Store::Column(name), Some(cast)) = (&field.store, &shape.casts[at]) {
                params.push(column(&writes.inserts, |(_, values)| text(&values[at])));
                let no = params.len();
                names.push_str(&format!(", {}", quoted(name)));
                values.push_str(&format!(", u.c{no}::{cast}"));
                unnest.push_str(&format!(", ${no}::text[]"));
                short.push_str(&format!(", c{no}"));
            }
        }
        let table = &shape.table;
        let sql = format!(
            "insert into {table} ({names}) select {values} from unnest({unnest}) as u ({short})"
        );
        self.add(&sql, params).await
    }

    async fn updates(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let mapping = std::sync::Arc::clone(&self.writer.mapping);
        let shape = self.writer.shape(writes.entity);
        let (mut sets, mut unnest, mut short) =
            (String::new(), String::from("$1::uuid[]"), String::from("id"));
        let mut params = vec![column(&writes.updates, |(record, _)| record.0)];
        for (at, field) in mapping.entity(writes.entity).fields.iter().enumerate() {
            if let (Store::Column(name), Some(cast), true) =
                (&field.store, &shape.casts[at], writes.changed[at])
            {
                params.push(column(&writes.updates, |(_, values)| text(&values[at])));
                let no = params.len();
                let comma = if sets.is_empty() { "" } else { ", " };
                sets.push_str(&format!("{comma}{} = u.c{no}::{cast}", quoted(name)));
                unnest.push_str(&format!(", ${no}::text[]"));
                short.push_str(&format!(", c{no}"));
            }
        }
        if writes.updates.is_empty() || sets.is_empty() {
            return Ok(());
        }
        let table = &shape.table;
        let sql = format!(
            "update {table} t set {sets} from unnest({unnest}) as u ({short}) where t.id = u.id"
        );
        self.add(&sql, params).await
    }

    async fn marks(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        if writes.marks.is_empty() {
            return Ok(());
        }
        let table = &self.writer.shape(writes.entity).table;
        let sql = format!(
            "update {table} t set deleted_at = timestamptz 'epoch' + u.at * interval '1 microsecond'
             from unnest($1::uuid[], $2::bigint[]) as u (id, at) where t.id = u.id"
        );
        let params = vec![
            column(&writes.marks, |(record, _)| record.0),
            column(&writes.marks, |(_, at)| *at),
        ];
        self.add(&sql, params).await
    }

    async fn deletes(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let number = self.writer.entity_number(writes.entity);
        if !writes.deletes.is_empty() {
            let sql = format!(
                "delete from {} where id = any($1)",
                self.writer.shape(writes.entity).table
            );
            self.add(&sql, vec![column(&writes.deletes, |record| record.0)]).await?;
        }
        if writes.tombstones.is_empty() {
            return Ok(());
        }
        self.add(
            "insert into mirror.tombstone (record_id, entity_no, source_transaction_id)
             select record_id, $1, id from unnest($2::uuid[], $3::bigint[]) as u (record_id, id)
             on conflict (record_id, entity_no) do update set source_transaction_id = excluded.source_transaction_id",
            vec![
                Box::new(number),
                column(&writes.tombstones, |(record, _)| record.0),
                column(&writes.tombstones, |(_, id)| *id),
            ],
        )
        .await
    }

    async fn sets(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let mapping = std::sync::Arc::clone(&self.writer.mapping);
        for (at, field) in mapping.entity(writes.entity).fields.iter().enumerate() {
            let Store::Junction { table, parent, element } = &field.store else { continue };
            let cast =
                self.writer.shape(writes.entity).element_casts[at].clone().unwrap_or_default();
            let (table, parent, element) = (quoted(table), quoted(parent), quoted(element));
            let mine = || writes.sets.iter().filter(|change| usize::from(change.field.0) == at);
            let pairs = |get: fn(&SetChange) -> &Vec<String>| -> Vec<(Uuid, String)> {
                mine()
                    .flat_map(|change| {
                        get(change).iter().map(|text| (change.record.0, text.clone()))
                    })
                    .collect()
            };
            let (removed, added) = (pairs(|change| &change.removed), pairs(|change| &change.added));
            for (pairs, sql) in [
                (removed, format!(
                    "delete from canon.{table} t using unnest($1::uuid[], $2::text[]) as u (parent, element)
                     where t.{parent} = u.parent and t.{element} = u.element::{cast}")),
                (added, format!(
                    "insert into canon.{table} ({parent}, {element})
                     select parent, element::{cast} from unnest($1::uuid[], $2::text[]) as u (parent, element)
                     on conflict do nothing")),
            ] {
                if !pairs.is_empty() {
                    let params = vec![column(&pairs, |pair| pair.0), column(&pairs, |pair| pair.1.clone())];
                    self.add(&sql, params).await?;
                }
            }
        }
        Ok(())
    }

    async fn shadows(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let number = self.writer.entity_number(writes.entity);
        let gone = &writes.shadows_gone;
        if !gone.is_empty() {
            self.add(
                "delete from mirror.shadow s using unnest($2::uuid[], $3::text[], $4::text[]) as u (record_id, side, field)
                 where s.entity_no = $1 and s.record_id = u.record_id and s.side = u.side and s.field = u.field",
                vec![
                    Box::new(number),
                    column(gone, |(record, ..)| record.0),
                    column(gone, |(_, side, _)| side.name()),
                    column(gone, |(.., field)| field.clone()),
                ],
            )
            .await?;
        }
        let rows = &writes.shadows;
        if rows.is_empty() {
            return Ok(());
        }
        self.add(
            "insert into mirror.shadow (record_id, entity_no, side, field, value)
             select record_id, $1, side, field, value::jsonb
             from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (record_id, side, field, value)
             on conflict (record_id, entity_no, side, field) do update set value = excluded.value",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.field.clone()),
                column(rows, |row| row.value.to_json().to_string()),
            ],
        )
        .await
    }

    async fn absences(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        let number = self.writer.entity_number(writes.entity);
        let gone = &writes.absences_gone;
        if !gone.is_empty() {
            self.add(
                "delete from mirror.absence a using unnest($2::uuid[], $3::text[]) as u (record_id, side)
                 where a.entity_no = $1 and a.record_id = u.record_id and a.side = u.side",
                vec![
                    Box::new(number),
                    column(gone, |(record, _)| record.0),
                    column(gone, |(_, side)| side.name()),
                ],
            )
            .await?;
        }
        let rows = &writes.absences;
        if rows.is_empty() {
            return Ok(());
        }
        self.add(
            "insert into mirror.absence (record_id, entity_no, side, source_transaction_id, was_deleted)
             select record_id, $1, side, id, was_deleted
             from unnest($2::uuid[], $3::text[], $4::bigint[], $5::boolean[]) as u (record_id, side, id, was_deleted)
             on conflict (record_id, entity_no, side) do update
                 set source_transaction_id = excluded.source_transaction_id, was_deleted = excluded.was_deleted",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.transaction),
                column(rows, |row| row.was_deleted),
            ],
        )
        .await
    }

    async fn elements(&mut self, writes: &EntityWrites) -> Result<(), Error> {
        if writes.elements.is_empty() {
            return Ok(());
        }
        let number = self.writer.entity_number(writes.entity);
        let rows = &writes.elements;
        self.add(
            "delete from mirror.element e using unnest($2::text[], $3::text[], $4::text[]) as u (side, field, row_key)
             where e.entity_no = $1 and e.side = u.side and e.field = u.field and e.row_key = u.row_key",
            vec![
                Box::new(number),
                column(rows, |(side, ..)| side.name()),
                column(rows, |(_, field, ..)| field.clone()),
                column(rows, |(_, _, row, _)| row.to_string()),
            ],
        )
        .await?;
        let kept: Vec<_> = rows
            .iter()
            .filter_map(|(side, field, row, content)| Some((*side, field, row, content.as_ref()?)))
            .collect();
        self.add(
            "insert into mirror.element (side, entity_no, field, row_key, record_id, element)
             select side, $1, field, row_key, record_id, element
             from unnest($2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[]) as u (side, field, row_key, record_id, element)",
            vec![
                Box::new(number),
                column(&kept, |(side, ..)| side.name()),
                column(&kept, |(_, field, ..)| (*field).clone()),
                column(&kept, |(_, _, row, _)| row.to_string()),
                column(&kept, |(.., (record, _))| record.0),
                column(&kept, |(.., (_, element))| element.clone()),
            ],
        )
        .await
    }

    async fn journal(&mut self, rows: &[JournalRow]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let numbers = self.writer.entity_numbers.clone();
        self.add(
            "insert into mirror.journal (journal_id, source_transaction_id, entity_no, record_id, action, before, after)
             select a, b, c, d, e, f::jsonb, g::jsonb
             from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::text[]) as u (a, b, c, d, e, f, g)",
            vec![
                column(rows, |row| row.id),
                column(rows, |row| row.transaction),
                column(rows, |row| numbers[usize::from(row.entity.0)]),
                column(rows, |row| row.record.0),
                column(rows, |row| row.action.name()),
                column(rows, |row| row.before.clone()),
                column(rows, |row| row.after.clone()),
            ],
        )
        .await
    }

    async fn conflicts(&mut self, writes: &Writes) -> Result<(), Error> {
        let numbers = self.writer.entity_numbers.clone();
        let agreed = &writes.agreed;
        if !agreed.is_empty() {
            self.add(
                "update mirror.conflict c set decided_at = now()
                 from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[]) as u (entity_no, record_id, field, side)
                 where c.entity_no = u.entity_no and c.record_id = u.record_id and c.field = u.field and c.side = u.side
                   and c.decision = 'held' and c.decided_at is null",
                vec![
                    column(agreed, |(entity, ..)| numbers[usize::from(entity.0)]),
                    column(agreed, |(_, record, ..)| record.0),
                    column(agreed, |(_, _, field, _)| field.clone()),
                    column(agreed, |(.., side)| side.name()),
                ],
            )
            .await?;
        }
        for row in &writes.conflicts {
            // Rare; who made the canonical value is looked up in the journal, which this batch has written.
            self.add(
                include_str!("conflict_put.sql"),
                vec![
                    Box::new(numbers[usize::from(row.entity.0)]),
                    Box::new(row.record.0),
                    Box::new(row.field.clone()),
                    Box::new(row.side.name()),
                    Box::new(row.base.as_ref().map(ToString::to_string)),
                    Box::new(row.canonical.to_string()),
                    Box::new(row.observed.to_string()),
                    Box::new(row.transaction),
                    Box::new(row.decision),
                ],
            )
            .await?;
        }
        Ok(())
    }

    async fn transitions(
        &mut self,
        mapping: &crate::mapping::Mapping,
        rows: &[TransitionRow],
    ) -> Result<(), Error> {
        let mut rest: Vec<&TransitionRow> = rows.iter().collect();
        while let Some(first) = rest.first() {
            let (entity, field) = (first.entity, first.field);
            let (mine, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|row| row.entity == entity && row.field == field);
            rest = others;
            let described = mapping.entity(entity);
            let Some(table) = &described.field(field).transitions else { continue };
            // Ids are in order of application, and so are the rows of the table.
            let sql = format!(
                "insert into canon.{} ({}, from_code, to_code, occurred_at, side, author)
                 select record_id, before, after, t.at, t.side, coalesce(t.author_name, t.author_id, t.via)
                 from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) with ordinality as u (record_id, before, after, id, nth)
                 join mirror.source_transaction t on t.source_transaction_id = u.id order by nth",
                quoted(table),
                quoted(&format!("{}_id", described.table)),
            );
            let params = vec![
                column(&mine, |row| row.record.0),
                column(&mine, |row| text(&row.before)),
                column(&mine, |row| text(&row.after)),
                column(&mine, |row| row.transaction),
            ];
            self.add(&sql, params).await?;
        }
        Ok(())
    }

    async fn refusals(&mut self, writes: &Writes) -> Result<(), Error> {
        let numbers = self.writer.entity_numbers.clone();
        let accepted = &writes.accepted;
        if !accepted.is_empty() {
            self.add(
                "delete from mirror.refusal r using unnest($1::text[], $2::smallint[], $3::text[], $4::text[]) as u (side, entity_no, side_key, field)
                 where r.side = u.side and r.entity_no = u.entity_no and r.side_key = u.side_key and r.field = u.field",
                vec![
                    column(accepted, |(side, ..)| side.name()),
                    column(accepted, |(_, entity, ..)| numbers[usize::from(entity.0)]),
                    column(accepted, |(_, _, key, _)| key.to_string()),
                    column(accepted, |(.., field)| field.clone()),
                ],
            )
            .await?;
        }
        for row in &writes.refusals {
            self.add(
                "insert into mirror.refusal (side, entity_no, side_key, field, kind, reason, waits_for, source_transaction_id)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)
                 on conflict (side, entity_no, side_key, field) do update
                     set kind = excluded.kind, reason = excluded.reason, waits_for = excluded.waits_for,
                         source_transaction_id = excluded.source_transaction_id, refused_at = now()",
                vec![
                    Box::new(row.side.name()),
                    Box::new(numbers[usize::from(row.entity.0)]),
                    Box::new(row.key.to_string()),
                    Box::new(row.field.clone()),
                    Box::new(row.kind.name()),
                    Box::new(row.reason.clone()),
                    Box::new(row.waits_for.clone()),
                    Box::new(row.transaction),
                ],
            )
            .await?;
        }
        Ok(())
    }
}
