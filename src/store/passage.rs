//! When records left the rows of a side that the mapping mirrors, or came among them.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{
    Error,
    write::{Calls, Writes, column},
};
use crate::model::{EntityNo, RecordId, Side};

#[derive(Debug)]
pub(crate) struct PassageRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    /// It left; else it came.
    pub(crate) has_left: bool,
    pub(crate) transaction: i64,
}

impl Calls<'_> {
    pub(super) fn passages(&mut self, writes: &Writes) {
        let rows = &writes.passages;
        if rows.is_empty() {
            return;
        }
        let numbers: Vec<i16> =
            rows.iter().map(|row| self.writer.entity_number(row.entity)).collect();
        self.add(
            "insert into mirror.row_passage (entity_no, record_id, side, has_left, source_transaction_id)
             select * from unnest($1::smallint[], $2::uuid[], $3::text[], $4::boolean[], $5::bigint[])",
            vec![
                Box::new(numbers),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.has_left),
                column(rows, |row| row.transaction),
            ],
        );
    }
}

/// How many records each side has outside the rows that are mirrored, by entity.
pub(crate) async fn outside_counts(pool: &PgPool) -> Result<Vec<(String, String, i64)>, Error> {
    Ok(sqlx::query_as(
        "select a.side, e.name, count(*) from mirror.absence a join mirror.entity e using (entity_no)
         where a.is_outside group by a.side, e.name order by a.side, e.name",
    )
    .fetch_all(pool)
    .await?)
}

/// A record left the rows that are mirrored, or came among them.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Passage {
    pub(crate) side: String,
    pub(crate) has_left: bool,
    pub(crate) transaction: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) author: String,
    pub(crate) recorded_at: DateTime<Utc>,
}

/// The passages of a record, the oldest first.
pub(crate) async fn of_record(
    pool: &PgPool,
    entity: &str,
    record: Uuid,
) -> Result<Vec<Passage>, Error> {
    Ok(sqlx::query_as(
        "select p.side, p.has_left, p.source_transaction_id as transaction, t.at,
             coalesce(t.author_name, t.author_id, t.via) as author, t.recorded_at
         from mirror.row_passage p join mirror.entity e using (entity_no)
         join mirror.source_transaction t using (source_transaction_id)
         where e.name = $1 and p.record_id = $2 order by p.row_passage_id",
    )
    .bind(entity)
    .bind(record)
    .fetch_all(pool)
    .await?)
}
