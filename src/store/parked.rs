//! What did not go through: cells that a side refused, and cells of a side that canonical did not take.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{Error, command::CHANNEL, owed::ANSWERS_ITSELF_TOLD};

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
    /// What the cell holds; `None`: that was not kept, or it is a record as a whole.
    pub(crate) raw: Option<Json>,
    /// When that was entered, by the side's clock, and by whom, as far as it tells.
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) author: Option<String>,
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
    let sql = format!("{} order by r.refused_at desc, id", include_str!("refusal_read.sql"));
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await?)
}

/// Those of one record, the oldest first.
pub(crate) async fn refused_of_record(
    pool: &PgPool,
    entity: &str,
    record: Uuid,
) -> Result<Vec<Refused>, Error> {
    let sql = format!(
        "{} where e.name = $1 and coalesce(l.record_id::text, r.side_key) = $2::text order by r.refused_at, id",
        include_str!("refusal_read.sql")
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(entity).bind(record).fetch_all(pool).await?)
}

/// A side to which writes are owed that have not gone through.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Stuck {
    pub(crate) side: String,
    pub(crate) record_count: i64,
    /// Since when the first of them is owed.
    pub(crate) oldest_at: DateTime<Utc>,
    /// Why, as far as it is known: the side's open incidents.
    pub(crate) incidents: Vec<String>,
}

/// The sides to which records are owed that they have not taken yet. Records with a parked cell, which are listed for
/// themselves, and those that wait for a person are left out.
pub(crate) async fn stuck(pool: &PgPool) -> Result<Vec<Stuck>, Error> {
    Ok(sqlx::query_as(include_str!("parked_stuck.sql")).fetch_all(pool).await?)
}

/// Clears these for another try, and makes them due: how many there were.
pub(crate) async fn retry(pool: &PgPool, ids: &[String]) -> Result<u64, Error> {
    let sql = format!(
        "with gone as (
             delete from mirror.parked p where {PARKED_ID} = any($1) returning side, entity_no, record_id),
         -- A record that answered itself may do so as often again.
         uncounted as (
             update mirror.operation o set answer_count = 0 from gone
             where o.record_id = gone.record_id and o.entity_no = gone.entity_no and o.answer_count > 0),
         due as (
             insert into mirror.outbox (side, entity_no, record_id)
             select distinct side, entity_no, record_id from gone
             on conflict (side, entity_no, record_id) do update set due_at = now(), attempt_count = 0)
         select count(*) from gone"
    );
    let mut transaction = pool.begin().await?;
    let count: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_one(&mut *transaction).await?;
    sqlx::query(ANSWERS_ITSELF_TOLD).execute(&mut *transaction).await?;
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
