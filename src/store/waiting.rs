//! What waits before it goes to a side, and for what, for people who ask.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::Error;

/// Records of one entity that wait before they go to one side.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Waiting {
    pub(crate) entity: String,
    pub(crate) side: String,
    /// Those that somebody has changed just now.
    pub(crate) unsettled_count: i64,
    /// When the first of these goes, should nobody change it.
    pub(crate) settles_at: Option<DateTime<Utc>>,
    /// Those that lack a value without which they are not created.
    pub(crate) incomplete_count: i64,
}

pub(crate) async fn waiting(pool: &PgPool) -> Result<Vec<Waiting>, Error> {
    Ok(sqlx::query_as(
        "select e.name as entity, o.side, count(o.settles_at) as unsettled_count, min(o.settles_at) as settles_at,
                count(*) filter (where o.is_incomplete) as incomplete_count
         from mirror.outbox o join mirror.entity e using (entity_no)
         where o.settles_at is not null or o.is_incomplete
         group by e.name, o.side order by e.name, o.side",
    )
    .fetch_all(pool)
    .await?)
}

/// What one record waits for before it goes to a side.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct RecordWait {
    pub(crate) side: String,
    pub(crate) settles_at: Option<DateTime<Utc>>,
    /// Since when something is owed to the side.
    pub(crate) queued_at: DateTime<Utc>,
    /// In words.
    pub(crate) waits_for: Option<String>,
}

pub(crate) async fn of_record(
    pool: &PgPool,
    entity: &str,
    record: Uuid,
) -> Result<Vec<RecordWait>, Error> {
    Ok(sqlx::query_as(
        "select o.side, o.settles_at, o.queued_at,
                case when o.stopped_by is not null
                     then 'a yes to the changes of many records at once (`plait approve changes ' || o.stopped_by || '`)'
                     when o.is_being_read then 'the end of a full read'
                     when o.counts_until > now() then 'a moment in which the changes of its author are counted'
                     else o.waits_for end as waits_for
         from mirror.outbox o join mirror.entity e using (entity_no)
         where e.name = $1 and o.record_id = $2
           and (o.settles_at is not null or o.waits_for is not null or o.stopped_by is not null or o.counts_until > now())
         order by o.side",
    )
    .bind(entity)
    .bind(record)
    .fetch_all(pool)
    .await?)
}
