//! What did not go through: cells that a side refused, and cells of a side that canonical did not take.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{Error, command::CHANNEL};

/// The short name of a row of `mirror.parked`, for people to type.
const PARKED_ID: &str =
    "'p' || left(md5(concat_ws('/', p.side, p.entity_no, p.record_id, p.field)), 8)";

/// A cell, or with the field `*` a record, that a side did not take.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Parked {
    pub(crate) id: String,
    pub(crate) side: String,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) field: String,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) value: Option<Json>,
    pub(crate) parked_at: DateTime<Utc>,
    pub(crate) try_count: i32,
    pub(crate) skipped_at: Option<DateTime<Utc>>,
}

/// A cell of a side that does not fit canonical.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Refused {
    pub(crate) id: String,
    pub(crate) side: String,
    pub(crate) entity: String,
    pub(crate) side_key: String,
    pub(crate) record_id: Option<Uuid>,
    pub(crate) field: String,
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) refused_at: DateTime<Utc>,
}

/// All that is parked, the latest first; `is_all`: what is skipped too.
pub(crate) async fn parked(pool: &PgPool, is_all: bool) -> Result<Vec<Parked>, Error> {
    let sql = format!(
        "select {PARKED_ID} as id, p.side, e.name as entity, p.record_id, p.field, p.code, p.reason, p.value,
             p.parked_at, p.try_count, p.skipped_at
         from mirror.parked p join mirror.entity e using (entity_no)
         where $1 or p.skipped_at is null order by p.parked_at desc, id"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(is_all).fetch_all(pool).await?)
}

/// All cells that could not be taken, the latest first.
pub(crate) async fn refused(pool: &PgPool) -> Result<Vec<Refused>, Error> {
    Ok(sqlx::query_as(
        "select 'i' || left(md5(concat_ws('/', r.side, r.entity_no, r.side_key, r.field)), 8) as id, r.side,
             e.name as entity, r.side_key, l.record_id, r.field, r.kind, r.reason, r.refused_at
         from mirror.refusal r join mirror.entity e using (entity_no)
         left join mirror.link l on l.side = r.side and l.entity_no = r.entity_no and l.side_key = r.side_key
         order by r.refused_at desc, id",
    )
    .fetch_all(pool)
    .await?)
}

/// Clears these for another try, and makes them due: how many there were.
pub(crate) async fn retry(pool: &PgPool, ids: &[String]) -> Result<u64, Error> {
    let sql = format!(
        "with gone as (
             delete from mirror.parked p where {PARKED_ID} = any($1) returning side, entity_no, record_id),
         due as (
             insert into mirror.outbox (side, entity_no, record_id)
             select distinct side, entity_no, record_id from gone
             on conflict (side, entity_no, record_id) do update set due_at = now(), attempt_count = 0)
         select count(*) from gone"
    );
    let mut transaction = pool.begin().await?;
    let count: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_one(&mut *transaction).await?;
    // The pushes are woken with whoever reads commands.
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(count.unsigned_abs())
}

/// Notes that these are to stay as they are: how many there were.
pub(crate) async fn skip(pool: &PgPool, ids: &[String]) -> Result<u64, Error> {
    let sql = format!(
        "update mirror.parked p set skipped_at = now() where {PARKED_ID} = any($1) and skipped_at is null"
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).execute(pool).await?;
    Ok(done.rows_affected())
}
