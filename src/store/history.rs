//! The journal as people ask for it: one record's, one author's, one transaction's.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::Error;

/// An entry of the journal, with who made it.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Entry {
    pub(crate) journal_id: i64,
    pub(crate) transaction: i64,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) action: String,
    #[sqlx(json)]
    pub(crate) before: Map<String, Json>,
    #[sqlx(json)]
    pub(crate) after: Map<String, Json>,
    /// By the side's clock.
    pub(crate) at: DateTime<Utc>,
    pub(crate) side: String,
    pub(crate) author: String,
    pub(crate) via: String,
    /// When it was applied here.
    pub(crate) recorded_at: DateTime<Utc>,
}

const ENTRY: &str =
    "select j.journal_id, j.source_transaction_id as transaction, e.name as entity, j.record_id, j.action,
         j.before, j.after, t.at, t.side, coalesce(t.author_name, t.author_id, t.via) as author, t.via,
         t.recorded_at
     from mirror.journal j
     join mirror.source_transaction t using (source_transaction_id)
     join mirror.entity e using (entity_no)";

/// All of these records, the oldest first.
pub(crate) async fn of_records(pool: &PgPool, records: &[Uuid]) -> Result<Vec<Entry>, Error> {
    let sql = format!("{ENTRY} where j.record_id = any($1) order by j.journal_id");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(records).fetch_all(pool).await?)
}

/// All of these transactions, the oldest first.
pub(crate) async fn of_transactions(
    pool: &PgPool,
    transactions: &[i64],
) -> Result<Vec<Entry>, Error> {
    let sql = format!("{ENTRY} where j.source_transaction_id = any($1) order by j.journal_id");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(transactions).fetch_all(pool).await?)
}

/// All that `author` (a name or an id) changed in a time span, by the side's clock; the oldest first.
pub(crate) async fn of_author(
    pool: &PgPool,
    author: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Entry>, Error> {
    let sql = format!(
        "{ENTRY} where t.at >= $2 and t.at <= $3 and $1 in (t.author_name, t.author_id) order by j.journal_id"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(author)
        .bind(from)
        .bind(to)
        .fetch_all(pool)
        .await?)
}

/// Who changed anything in a time span.
pub(crate) async fn authors(
    pool: &PgPool,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "select distinct coalesce(author_name, author_id) from mirror.source_transaction
         where at >= $1 and at <= $2 and coalesce(author_name, author_id) is not null order by 1",
    )
    .bind(from)
    .bind(to)
    .fetch_all(pool)
    .await?)
}

/// The transactions nearest to `number` that changed a record, for who mistypes one.
pub(crate) async fn transactions_near(pool: &PgPool, number: i64) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar(
        "select source_transaction_id from (
             (select source_transaction_id from mirror.source_transaction where source_transaction_id > $1
              order by source_transaction_id limit 3)
             union all
             (select source_transaction_id from mirror.source_transaction where source_transaction_id < $1
              order by source_transaction_id desc limit 3)
         ) near order by abs(source_transaction_id - $1), source_transaction_id limit 3",
    )
    .bind(number)
    .fetch_all(pool)
    .await?)
}
