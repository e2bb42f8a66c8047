//! Records that wait until nobody changes them: which have become quiet, and what people have said of them before.

use std::{collections::HashSet, time::Duration};

use uuid::Uuid;

use super::{
    Error,
    write::{Calls, column},
    writer::Writer,
};
use crate::model::{EntityNo, RecordId, Side, SideKey};

/// A row of the outbox whose wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuietRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    /// Where it goes.
    pub(crate) side: Side,
}

impl Writer {
    /// Up to `row_count_max` rows whose wait is over, the oldest first.
    pub(crate) async fn quiet_rows(&self, row_count_max: i64) -> Result<Vec<QuietRow>, Error> {
        let rows = self
            .query(
                "select entity_no, record_id, side from mirror.outbox
                 where settles_at <= now() and entity_no = any($1) order by settles_at limit $2",
                &[&self.entity_numbers, &row_count_max],
            )
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let number: i16 = row.get(0);
                let at = self.entity_numbers.iter().position(|known| *known == number)?;
                Some(QuietRow {
                    entity: EntityNo(u16::try_from(at).ok()?),
                    record: RecordId(row.get(1)),
                    side: Side::from_name(row.get(2))?,
                })
            })
            .collect())
    }

    /// Lets all that wait do so for the whole time from now on: what the sides' logs say of the time in which no plait
    /// ran is still to be read.
    pub(crate) async fn wait_again(&self) -> Result<(), Error> {
        let cautions = self.mapping.entities.iter().map(|entity| entity.caution);
        let seconds: Vec<i64> =
            cautions.map(|it| i64::from(it.settle_s.max(it.edit_settle_s))).collect();
        self.client()
            .execute(
                "update mirror.outbox o set settles_at = greatest(o.settles_at, now() + u.seconds * interval '1 s')
                 from unnest($1::smallint[], $2::bigint[]) as u (entity_no, seconds)
                 where o.settles_at is not null and o.entity_no = u.entity_no",
                &[&self.entity_numbers, &seconds],
            )
            .await?;
        Ok(())
    }

    /// How long until the next row is quiet; `None`: no row waits for that.
    pub(crate) async fn quiet_in(&self) -> Result<Option<Duration>, Error> {
        let rows = self
            .query(
                "select (extract(epoch from min(settles_at) - now()))::float8 from mirror.outbox
                 where settles_at is not null and entity_no = any($1)",
                &[&self.entity_numbers],
            )
            .await?;
        let seconds: Option<f64> = rows.first().and_then(|row| row.get(0));
        Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }

    /// Pairs of records of which a person has said that they are two, where one of each is among `records`.
    pub(crate) async fn told_apart(
        &self,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashSet<(RecordId, RecordId)>, Error> {
        let keys: Vec<String> = records.iter().map(ToString::to_string).collect();
        let rows = self
            .query(
                include_str!("told_apart.sql"),
                &[&self.entity_number(entity), &records, &keys, &Side::Directus.name()],
            )
            .await?;
        let pairs = rows.iter().map(|row| (RecordId(row.get(0)), RecordId(row.get(1))));
        Ok(pairs.flat_map(|(one, other)| [(one, other), (other, one)]).collect())
    }

    /// Of which records it is asked already whether they are one of `records`: (one of these, the record in question).
    pub(crate) async fn asked(
        &self,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashSet<(RecordId, RecordId)>, Error> {
        let rows = self
            .query(
                "select c.candidate, q.record_id from mirror.match_question q, unnest(q.candidates) as c (candidate)
                 where q.entity_no = $1 and q.answered_at is null and c.candidate = any($2)",
                &[&self.entity_number(entity), &records],
            )
            .await?;
        Ok(rows.iter().map(|row| (RecordId(row.get(0)), RecordId(row.get(1)))).collect())
    }

    /// How `side` calls a record that it has.
    pub(crate) async fn key_on(
        &self,
        side: Side,
        entity: EntityNo,
        record: RecordId,
    ) -> Result<SideKey, Error> {
        let mut linked = self.linked_keys(side, entity, &[record.0]).await?;
        // A key that is not linked is the canonical id.
        Ok(linked.remove(&record).unwrap_or_else(|| record.to_string().as_str().into()))
    }
}

impl Calls<'_> {
    /// Lets these go to their sides.
    pub(super) fn quiet(&mut self, rows: &[QuietRow]) {
        if rows.is_empty() {
            return;
        }
        let numbers = self.writer.entity_numbers.clone();
        self.add(
            "update mirror.outbox o set settles_at = null, settle_began_at = null, due_at = now()
             from unnest($1::smallint[], $2::uuid[], $3::text[]) as u (entity_no, record_id, side)
             where o.entity_no = u.entity_no and o.record_id = u.record_id and o.side = u.side",
            vec![
                column(rows, |row| numbers[usize::from(row.entity.0)]),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
            ],
        );
    }
}
