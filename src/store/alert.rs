//! `mirror.alert` and what alerts are made from: written by the task `alerts` alone, ticked off by people.

use std::collections::HashMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value as Json;
use sqlx::{FromRow, PgPool, types};
use uuid::Uuid;

use super::{Error, history::Entry};

/// An alert to be written; the columns are explained in the migration.
#[derive(Clone, Debug)]
pub(crate) struct AlertRow<'a> {
    pub(crate) rule: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) entity: &'a str,
    pub(crate) record_id: Uuid,
    pub(crate) journal_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) side: &'a str,
    pub(crate) author: &'a str,
    pub(crate) record_name: &'a str,
    pub(crate) before: &'a serde_json::Map<String, Json>,
    pub(crate) after: &'a serde_json::Map<String, Json>,
    pub(crate) text_fr: &'a str,
    pub(crate) text_en: &'a str,
}

/// An alert as it was raised.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Raised {
    pub(crate) alert_id: i64,
    pub(crate) rule: String,
    pub(crate) kind: String,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) journal_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) side: String,
    pub(crate) author: String,
    pub(crate) record_name: String,
    pub(crate) before: Json,
    pub(crate) after: Json,
    pub(crate) text_fr: String,
    pub(crate) text_en: String,
    pub(crate) raised_at: DateTime<Utc>,
    pub(crate) seen_at: Option<DateTime<Utc>>,
    pub(crate) seen_by: Option<String>,
}

/// Which alerts are asked for; `None`: all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) rule: Option<String>,
    pub(crate) is_unseen: bool,
    /// The newest of them, at most so many.
    pub(crate) count_max: i64,
}

/// A row of `canon.valuation`.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct ValuationRow {
    pub(crate) id: Uuid,
    pub(crate) startup_id: Option<Uuid>,
    pub(crate) as_of: Option<NaiveDate>,
    price: Option<String>,
    equity_value: Option<String>,
    pub(crate) approved_on: Option<NaiveDate>,
    pub(crate) method_code: Option<String>,
    pub(crate) instrument_code: Option<String>,
    pub(crate) currency: String,
}

impl ValuationRow {
    pub(crate) fn price(&self) -> Option<BigDecimal> {
        self.price.as_ref()?.parse().ok()
    }

    pub(crate) fn equity_value(&self) -> Option<BigDecimal> {
        self.equity_value.as_ref()?.parse().ok()
    }
}

/// How far the journal was looked at. At first it is where the first copies of `logs` ended, once all have; `None` until
/// then.
pub(crate) async fn position(pool: &PgPool, logs: &[String]) -> Result<Option<i64>, Error> {
    let stored = sqlx::query_scalar("select journal_id from mirror.alert_position");
    if let Some(position) = stored.fetch_optional(pool).await? {
        return Ok(Some(position));
    }
    Ok(sqlx::query_scalar(include_str!("alert_position_begin.sql"))
        .bind(logs)
        .fetch_optional(pool)
        .await?)
}

/// Since when what a whole reading finds counts, of these pairs of side and entity. Where nothing is known yet it is from
/// now on (`is_first`: the first copies have just ended), or a day from now: what is mapped later is yet to be copied.
pub(crate) async fn counts_from(
    pool: &PgPool,
    scopes: &[(String, String)],
    is_first: bool,
) -> Result<HashMap<(String, String), DateTime<Utc>>, Error> {
    let (sides, entities): (Vec<String>, Vec<String>) = scopes.iter().cloned().unzip();
    sqlx::query(
        "insert into mirror.alert_scope (side, entity_no, counts_from)
         select u.side, e.entity_no, now() + case when $3 then interval '0' else interval '1 day' end
         from unnest($1::text[], $2::text[]) as u (side, entity) join mirror.entity e on e.name = u.entity
         on conflict do nothing",
    )
    .bind(&sides)
    .bind(&entities)
    .bind(is_first)
    .execute(pool)
    .await?;
    stored_counts_from(pool).await
}

/// Since when what a whole reading finds counts.
pub(crate) async fn stored_counts_from(
    pool: &PgPool,
) -> Result<HashMap<(String, String), DateTime<Utc>>, Error> {
    let rows: Vec<(String, String, DateTime<Utc>)> = sqlx::query_as(
        "select side, name, counts_from from mirror.alert_scope join mirror.entity using (entity_no)",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(side, entity, from)| ((side, entity), from)).collect())
}

/// The entries after `journal_id`, the oldest first, at most `count_max` of them.
pub(crate) async fn entries_after(
    pool: &PgPool,
    journal_id: i64,
    count_max: i64,
) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as(include_str!("alert_entries.sql"))
        .bind(journal_id)
        .bind(count_max)
        .fetch_all(pool)
        .await?)
}

/// The newest entry of the journal.
pub(crate) async fn newest(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("select coalesce(max(journal_id), 0) from mirror.journal")
        .fetch_one(pool)
        .await?)
}

/// The newest entry that was applied before `since`.
pub(crate) async fn newest_before(pool: &PgPool, since: DateTime<Utc>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "select coalesce(max(journal_id), 0) from mirror.journal where source_transaction_id <
             coalesce((select min(source_transaction_id) from mirror.source_transaction where recorded_at >= $1),
                      9223372036854775807)",
    )
    .bind(since)
    .fetch_one(pool)
    .await?)
}

/// Writes alerts, what is known by now of earlier ones, and the place up to which the journal was looked at, together;
/// says of each alert whether it is new.
pub(crate) async fn raise(
    pool: &PgPool,
    alerts: &[AlertRow<'_>],
    completed: &[AlertRow<'_>],
    position: i64,
) -> Result<Vec<bool>, Error> {
    let mut transaction = pool.begin().await?;
    let mut are_new = Vec::with_capacity(alerts.len());
    for alert in alerts {
        let written = sqlx::query(include_str!("alert_raise.sql"))
            .bind(alert.rule)
            .bind(alert.kind)
            .bind(alert.entity)
            .bind(alert.record_id)
            .bind(alert.journal_id)
            .bind(alert.at)
            .bind(alert.side)
            .bind(alert.author)
            .bind(alert.record_name)
            .bind(types::Json(alert.before))
            .bind(types::Json(alert.after))
            .bind(alert.text_fr)
            .bind(alert.text_en)
            .execute(&mut *transaction)
            .await?;
        are_new.push(written.rows_affected() > 0);
    }
    for alert in completed {
        sqlx::query(include_str!("alert_complete.sql"))
            .bind(alert.rule)
            .bind(alert.record_id)
            .bind(alert.record_name)
            .bind(types::Json(alert.before))
            .bind(types::Json(alert.after))
            .bind(alert.text_fr)
            .bind(alert.text_en)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query(
        "update mirror.alert_position set journal_id = greatest(journal_id, $1), stored_at = now()",
    )
    .bind(position)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(are_new)
}

/// The newest alerts that are asked for, the newest last.
pub(crate) async fn list(pool: &PgPool, wanted: &Wanted) -> Result<Vec<Raised>, Error> {
    let mut alerts: Vec<Raised> = sqlx::query_as(
        "select a.*, e.name as entity from mirror.alert a join mirror.entity e using (entity_no)
         where ($1::timestamptz is null or a.at >= $1) and ($2::text is null or a.rule = $2)
           and (not $3 or a.seen_at is null) order by a.alert_id desc limit $4",
    )
    .bind(wanted.since)
    .bind(&wanted.rule)
    .bind(wanted.is_unseen)
    .bind(wanted.count_max)
    .fetch_all(pool)
    .await?;
    alerts.reverse();
    Ok(alerts)
}

/// How many alerts nobody has ticked off.
pub(crate) async fn unseen_count(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("select count(*) from mirror.alert where seen_at is null")
        .fetch_one(pool)
        .await?)
}

/// The names of all rules that have ever raised anything.
pub(crate) async fn rules(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("select distinct rule from mirror.alert order by 1")
        .fetch_all(pool)
        .await?)
}

/// Ticks alerts off (`None`: all), and gives the ids of those that were not yet.
pub(crate) async fn see(
    pool: &PgPool,
    ids: Option<&[i64]>,
    author: &str,
) -> Result<Vec<i64>, Error> {
    let mut seen: Vec<i64> = sqlx::query_scalar(
        "update mirror.alert set seen_at = now(), seen_by = $2
         where seen_at is null and ($1::bigint[] is null or alert_id = any($1)) returning alert_id",
    )
    .bind(ids)
    .bind(author)
    .fetch_all(pool)
    .await?;
    seen.sort_unstable();
    Ok(seen)
}

/// Those of `ids` that are alerts.
pub(crate) async fn known(pool: &PgPool, ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar("select alert_id from mirror.alert where alert_id = any($1)")
        .bind(ids)
        .fetch_all(pool)
        .await?)
}

/// (table, column, reference table) of each canonical column whose values are codes of a reference table.
pub(crate) async fn code_columns(pool: &PgPool) -> Result<Vec<(String, String, String)>, Error> {
    Ok(sqlx::query_as(include_str!("alert_code_columns.sql")).fetch_all(pool).await?)
}

/// Codes of a reference table, with French and English labels.
pub(crate) async fn labels(
    pool: &PgPool,
    table: &str,
) -> Result<Vec<(String, String, String)>, Error> {
    let sql =
        format!("select code, label_fr, label_en from canon.{}", super::catalog::quoted(table));
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await?)
}

/// The living valuations of these companies.
pub(crate) async fn valuations(
    pool: &PgPool,
    startups: &[Uuid],
) -> Result<Vec<ValuationRow>, Error> {
    Ok(sqlx::query_as(
        "select id, startup_id, as_of, price::text, equity_value::text, approved_on, method_code, instrument_code,
             currency::text
         from canon.valuation where startup_id = any($1) and deleted_at is null",
    )
    .bind(startups)
    .fetch_all(pool)
    .await?)
}

/// What Directus's users are called, by the id that its log gives: they are the network's members.
pub(crate) async fn directus_names(
    pool: &PgPool,
    ids: &[String],
) -> Result<Vec<(String, String)>, Error> {
    Ok(sqlx::query_as(include_str!("alert_authors.sql")).bind(ids).fetch_all(pool).await?)
}
