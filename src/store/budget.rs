//! Calls to Airtable by base and month, for the plan of the workspace: `mirror.api_call`.

use chrono::NaiveDate;
use sqlx::PgPool;

use super::Error;

/// Adds calls, and gives how many that makes in the month, all processes together.
pub(crate) async fn add_calls(
    pool: &PgPool,
    base: &str,
    month: NaiveDate,
    count: u64,
) -> Result<u64, Error> {
    let total: i64 = sqlx::query_scalar(
        "insert into mirror.api_call (base, month, call_count) values ($1, $2, $3)
         on conflict (base, month) do update
             set call_count = api_call.call_count + excluded.call_count, counted_at = now()
         returning call_count",
    )
    .bind(base)
    .bind(month)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(total).unwrap_or_default())
}

/// The calls of a month, by base.
pub(crate) async fn calls(pool: &PgPool, month: NaiveDate) -> Result<Vec<(String, u64)>, Error> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select base, call_count from mirror.api_call where month = $1 order by base",
    )
    .bind(month)
    .fetch_all(pool)
    .await?;
    let counts = counts.into_iter();
    Ok(counts.map(|(base, count)| (base, u64::try_from(count).unwrap_or_default())).collect())
}
