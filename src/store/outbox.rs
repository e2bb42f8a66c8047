//! The schedule of what is owed, and what became of our writes. Rows that `apply` has locked are left to it: it says
//! itself what is due when it commits, and neither ever waits for the other. Taking a row counts a try, and `apply`
//! sets the count to 0: by that a push knows what was queued while it looked.

use std::{collections::BTreeMap, time::Duration};

use sqlx::PgPool;
use uuid::Uuid;

use super::{Error, books::Books, operation::cells_to_json, write::WHOLE_RECORD, writer::Writer};
use crate::{
    gate::Gate,
    merge::{Operation, RecordState},
    model::{EntityNo, FieldNo, RecordId, Side, SideKey, Value},
};

/// A cell, or without a field a whole record, that a side did not take.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) record: RecordId,
    pub(crate) field: Option<(FieldNo, Value)>,
    pub(crate) code: String,
    pub(crate) reason: String,
}

/// When a record is tried next.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) record: RecordId,
    pub(crate) after: Duration,
    /// What a part of it waits for, in words.
    pub(crate) waits_for: Option<String>,
    /// It waits for values of its own, and for no other record.
    pub(crate) is_incomplete: bool,
}

impl Again {
    pub(crate) fn after(record: RecordId, after: Duration) -> Self {
        Self { record, after, waits_for: None, is_incomplete: false }
    }
}

impl Writer {
    /// The same database for those who push.
    pub(crate) fn books(&self, pool: PgPool) -> Books {
        Books {
            pool,
            mapping: std::sync::Arc::clone(&self.mapping),
            shapes: self.shapes.clone().into(),
            numbers: self.entity_numbers.clone().into(),
            marks: self.marks(),
            epoch: Some(self.epoch()),
            gate: Gate::open(),
        }
    }
}

impl Books {
    /// Takes due records of `side`, by entity, parents first.
    pub(crate) async fn take_due(
        &self,
        side: Side,
        record_count_max: usize,
    ) -> Result<BTreeMap<EntityNo, Vec<Uuid>>, Error> {
        let rows: Vec<(i16, Uuid)> = sqlx::query_as(include_str!("outbox_take.sql"))
            .bind(side.name())
            .bind(&self.numbers[..])
            .bind(i64::try_from(record_count_max).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        let mut due: BTreeMap<EntityNo, Vec<Uuid>> = BTreeMap::new();
        for (number, record) in rows {
            if let Some(at) = self.numbers.iter().position(|known| *known == number) {
                due.entry(EntityNo(u16::try_from(at).unwrap_or(u16::MAX)))
                    .or_default()
                    .push(record);
            }
        }
        Ok(due)
    }

    /// How long until something of `side` is due; `None`: nothing is in the outbox.
    pub(crate) async fn due_in(&self, side: Side) -> Result<Option<Duration>, Error> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from min(greatest(due_at, counts_until)) - now())::float8 from mirror.outbox
             where side = $1 and entity_no = any($2) and settles_at is null and stopped_by is null
               and not exists (select from mirror.recovery where approved_at is null)",
        )
        .bind(side.name())
        .bind(&self.numbers[..])
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }

    /// Nothing was owed to `side` of these records when they were looked at. Those that `apply` has queued since stay.
    pub(crate) async fn drop_due(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<(), Error> {
        sqlx::query(
            "delete from mirror.outbox where ctid in (
                 select ctid from mirror.outbox where side = $1 and entity_no = $2 and record_id = any($3)
                     and attempt_count > 0 for update skip locked)",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(records)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Sets the next try of records, which have not failed. Those that `apply` has queued since they were taken stay
    /// due.
    pub(crate) async fn set_due(
        &self,
        side: Side,
        entity: EntityNo,
        rows: &[Again],
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let records: Vec<Uuid> = rows.iter().map(|row| row.record.0).collect();
        let seconds: Vec<f64> = rows.iter().map(|row| row.after.as_secs_f64()).collect();
        let words: Vec<Option<String>> = rows.iter().map(|row| row.waits_for.clone()).collect();
        let incomplete: Vec<bool> = rows.iter().map(|row| row.is_incomplete).collect();
        sqlx::query(
            "with free as (
                 select record_id from mirror.outbox where side = $1 and entity_no = $2 and record_id = any($3)
                     and attempt_count > 0 for update skip locked)
             update mirror.outbox o set due_at = now() + u.seconds * interval '1 s', waits_for = u.words,
                 is_incomplete = u.incomplete
             from unnest($3::uuid[], $4::float8[], $5::text[], $6::boolean[]) as u (record_id, seconds, words, incomplete) join free using (record_id)
             where o.side = $1 and o.entity_no = $2 and o.record_id = u.record_id",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(&records)
        .bind(&seconds)
        .bind(&words)
        .bind(&incomplete)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What waited for records that `side` did not have is due now: some of them have come.
    pub(crate) async fn wake_waiting(&self, side: Side) -> Result<(), Error> {
        sqlx::query(
            "update mirror.outbox set due_at = now() where ctid in (
                 select ctid from mirror.outbox where side = $1 and waits_for is not null and not is_incomplete
                     for update skip locked)",
        )
        .bind(side.name())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Binds operations. The answer is those that are bound now: a record has at most one in flight to a side, and
    /// what `apply` has queued or settled since it was taken is looked at afresh, so that no older value is sent.
    pub(crate) async fn bind(
        &self,
        entity: EntityNo,
        operations: &[(RecordId, Operation)],
    ) -> Result<Vec<RecordId>, Error> {
        let Some((_, first)) = operations.first() else { return Ok(Vec::new()) };
        let described = self.mapping.entity(entity);
        // Before it is bound: `apply` looks for operations only where it knows that there are some.
        self.marks.note_operation(entity);
        let ids: Vec<Uuid> = operations.iter().map(|(_, operation)| operation.id).collect();
        let records: Vec<Uuid> = operations.iter().map(|(record, _)| record.0).collect();
        let kinds: Vec<&str> = operations.iter().map(|(_, it)| it.kind.name()).collect();
        let cells: Vec<serde_json::Value> =
            operations.iter().map(|(_, it)| cells_to_json(described, &it.cells)).collect();
        let partial: Vec<bool> = operations.iter().map(|(_, it)| it.is_partial).collect();
        let bound: Vec<Uuid> = sqlx::query_scalar(include_str!("operation_bind.sql"))
            .bind(first.side.name())
            .bind(self.number(entity))
            .bind(&ids)
            .bind(&records)
            .bind(&kinds)
            .bind(&cells)
            .bind(&partial)
            .bind(self.epoch)
            .fetch_all(&self.pool)
            .await?;
        Ok(bound.into_iter().map(RecordId).collect())
    }

    /// Whether what this process knows of its writes may still be noted: not once another one has taken its place.
    ///
    /// # Errors
    /// [`Error::Superseded`] when it has.
    pub(crate) async fn hold(&self) -> Result<(), Error> {
        let Some(epoch) = self.epoch.filter(|_| !self.gate.is_open()) else { return Ok(()) };
        let held = sqlx::query_scalar::<_, bool>(
            "select exists (select from mirror.writer where epoch = $1)",
        );
        if held.bind(epoch).fetch_one(&self.pool).await? { Ok(()) } else { Err(Error::Superseded) }
    }

    /// The side has said that it took these writes.
    pub(crate) async fn note_taken(
        &self,
        entity: EntityNo,
        taken: &[(Uuid, RecordId, Option<SideKey>)],
    ) -> Result<(), Error> {
        if taken.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = taken.iter().map(|(id, ..)| *id).collect();
        let records: Vec<Uuid> = taken.iter().map(|(_, record, _)| record.0).collect();
        let keys: Vec<Option<String>> =
            taken.iter().map(|(.., key)| key.as_ref().map(ToString::to_string)).collect();
        sqlx::query(
            "with free as (
                 select operation_id, record_id from mirror.operation
                 where entity_no = $1 and operation_id = any($2) and record_id = any($3) for update skip locked)
             update mirror.operation o set sent_at = now(), side_key = u.side_key
             from unnest($2::uuid[], $3::uuid[], $4::text[]) as u (operation_id, record_id, side_key)
             join free using (operation_id, record_id)
             where o.entity_no = $1 and o.operation_id = u.operation_id and o.record_id = u.record_id",
        )
        .bind(self.number(entity))
        .bind(&ids)
        .bind(&records)
        .bind(&keys)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that these writes go in several requests, before the first one that leaves a cell out is sent. The side's
    /// log is read with it (`merge::operation`).
    pub(crate) async fn note_parts(
        &self,
        entity: EntityNo,
        operations: &[(Uuid, RecordId)],
    ) -> Result<(), Error> {
        let ids: Vec<Uuid> = operations.iter().map(|(id, _)| *id).collect();
        let records: Vec<Uuid> = operations.iter().map(|(_, record)| record.0).collect();
        // May wait for `apply`, which holds such a row for the end of one batch; `apply` never waits for this.
        sqlx::query(
            "update mirror.operation o set is_partial = true
             from unnest($2::uuid[], $3::uuid[]) as u (operation_id, record_id)
             where o.entity_no = $1 and o.operation_id = u.operation_id and o.record_id = u.record_id
               and not o.is_partial",
        )
        .bind(self.number(entity))
        .bind(&ids)
        .bind(&records)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// These writes were not taken, and are not sent again as they are. One of which some requests may have been taken
    /// is settled and kept: the side's log shows these as ours.
    pub(crate) async fn give_up(
        &self,
        entity: EntityNo,
        refused: &[(Uuid, RecordId)],
    ) -> Result<(), Error> {
        if refused.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = refused.iter().map(|(id, _)| *id).collect();
        let records: Vec<Uuid> = refused.iter().map(|(_, record)| record.0).collect();
        sqlx::query(
            "with kept as (
                 update mirror.operation o set settled_at = now()
                 from unnest($2::uuid[], $3::uuid[]) as u (operation_id, record_id)
                 where o.entity_no = $1 and o.operation_id = u.operation_id and o.record_id = u.record_id
                   and o.settled_at is null and o.is_partial)
             delete from mirror.operation o using unnest($2::uuid[], $3::uuid[]) as u (operation_id, record_id)
             where o.entity_no = $1 and o.operation_id = u.operation_id and o.record_id = u.record_id
               and o.settled_at is null and not o.is_partial",
        )
        .bind(self.number(entity))
        .bind(&ids)
        .bind(&records)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Parks cells and records, each with its reason.
    pub(crate) async fn park(
        &self,
        side: Side,
        entity: EntityNo,
        rows: &[Parked],
    ) -> Result<(), Error> {
        self.marks.note_parked(entity);
        let described = self.mapping.entity(entity);
        let mut parked = BTreeMap::new();
        for row in rows {
            let field = row.field.as_ref();
            let name = field.map_or(WHOLE_RECORD, |(no, _)| described.field(*no).name.as_str());
            // A cell occurs once in a statement: of several refusals of one, the last stands.
            parked.insert((row.record.0, name), row);
        }
        let records: Vec<Uuid> = parked.keys().map(|(record, _)| *record).collect();
        let names: Vec<&str> = parked.keys().map(|(_, name)| *name).collect();
        let codes: Vec<&str> = parked.values().map(|row| row.code.as_str()).collect();
        let reasons: Vec<&str> = parked.values().map(|row| row.reason.as_str()).collect();
        let value = |row: &&Parked| row.field.as_ref().map(|(_, value)| value.to_json());
        let values: Vec<Option<serde_json::Value>> = parked.values().map(value).collect();
        sqlx::query(
            "insert into mirror.parked (side, entity_no, record_id, field, code, reason, value)
             select $1, $2, record_id, field, code, reason, value
             from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[]) as u (record_id, field, code, reason, value)
             on conflict (side, entity_no, record_id, field) do update
                 set code = excluded.code, reason = excluded.reason, value = excluded.value, parked_at = now(),
                     try_count = parked.try_count + 1, skipped_at = null",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(&records)
        .bind(&names)
        .bind(&codes)
        .bind(&reasons)
        .bind(&values)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// These cells, and the records as a whole, were taken: they are not listed as parked any more.
    pub(crate) async fn unpark(
        &self,
        side: Side,
        entity: EntityNo,
        cells: &[(RecordId, FieldNo)],
        records: &[Uuid],
    ) -> Result<(), Error> {
        let described = self.mapping.entity(entity);
        let owners: Vec<Uuid> = cells.iter().map(|(record, _)| record.0).collect();
        let names: Vec<&str> =
            cells.iter().map(|(_, no)| described.field(*no).name.as_str()).collect();
        sqlx::query(
            "delete from mirror.parked p
             where side = $1 and entity_no = $2
               and (field = $6 and record_id = any($3)
                    or exists (select from unnest($4::uuid[], $5::text[]) as u (record_id, field)
                               where u.record_id = p.record_id and u.field = p.field))",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(records)
        .bind(&owners)
        .bind(&names)
        .bind(WHOLE_RECORD)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Settles writes whose effect the side shows, though its log said nothing of them: of a write that changes
    /// nothing, Airtable's is silent.
    pub(crate) async fn settle_shown(
        &self,
        side: Side,
        entity: EntityNo,
        states: &[(RecordId, &RecordState)],
    ) -> Result<Vec<Uuid>, Error> {
        let shown: Vec<(Uuid, Uuid)> = states
            .iter()
            .filter(|(_, state)| state.shows_flight(side))
            .filter_map(|(record, state)| Some((state.in_flight(side)?.id, record.0)))
            .collect();
        if shown.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, records): (Vec<Uuid>, Vec<Uuid>) = shown.into_iter().unzip();
        Ok(sqlx::query_scalar(
            "update mirror.operation o set settled_at = now()
             where (operation_id, entity_no, record_id) in (
                 select o.operation_id, o.entity_no, o.record_id
                 from mirror.operation o join unnest($2::uuid[], $3::uuid[]) as u (operation_id, record_id)
                     on o.operation_id = u.operation_id and o.record_id = u.record_id
                 where o.entity_no = $1 and o.settled_at is null for update of o skip locked)
             returning record_id",
        )
        .bind(self.number(entity))
        .bind(&ids)
        .bind(&records)
        .fetch_all(&self.pool)
        .await?)
    }
}
