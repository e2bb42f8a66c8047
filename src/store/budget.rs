//! Calls to Airtable by base, for the plan of the workspace: of each month in `mirror.api_call`, of each of the last days
//! in `mirror.api_call_day`.

use chrono::NaiveDate;
use sqlx::PgPool;

use super::Error;

/// Days that are kept apart.
const KEPT_DAY_COUNT: i32 = 31;

/// Adds calls, and gives how many that makes in the month, all processes together.
pub(crate) async fn add_calls(
    pool: &PgPool,
    base: &str,
    month: NaiveDate,
    count: u64,
) -> Result<u64, Error> {
    let total: i64 = sqlx::query_scalar(
        "with day as (
             insert into mirror.api_call_day (base, day, call_count)
             values ($1, (now() at time zone 'UTC')::date, $3)
             on conflict (base, day) do update set call_count = api_call_day.call_count + excluded.call_count),
         old as (delete from mirror.api_call_day where day < (now() at time zone 'UTC')::date - $4::integer)
         insert into mirror.api_call (base, month, call_count) values ($1, $2, $3)
         on conflict (base, month) do update
             set call_count = api_call.call_count + excluded.call_count, counted_at = now()
         returning call_count",
    )
    .bind(base)
    .bind(month)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(KEPT_DAY_COUNT)
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

/// The calls of each of the last days, all bases together, the oldest first; days without any are not in it.
pub(crate) async fn calls_by_day(pool: &PgPool) -> Result<Vec<(NaiveDate, u64)>, Error> {
    let counts: Vec<(NaiveDate, i64)> = sqlx::query_as(
        "select day, sum(call_count)::bigint from mirror.api_call_day group by day order by day",
    )
    .fetch_all(pool)
    .await?;
    let counts = counts.into_iter();
    Ok(counts.map(|(day, count)| (day, u64::try_from(count).unwrap_or_default())).collect())
}
