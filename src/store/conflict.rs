//! The values that lost, or wait for a decision, as people read them.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::Error;

/// A row of `mirror.conflict`, with who made the two values.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Conflict {
    pub(crate) conflict_id: i64,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    /// `None`: a delete met an edit of the record.
    pub(crate) field: Option<String>,
    /// The side whose value came second.
    pub(crate) side: String,
    pub(crate) base: Option<Json>,
    pub(crate) base_is_known: bool,
    pub(crate) canonical: Json,
    pub(crate) observed: Json,
    pub(crate) decision: String,
    pub(crate) decided_at: Option<DateTime<Utc>>,
    pub(crate) decided_by: Option<String>,
    pub(crate) settled_value: Option<Json>,
    /// Why `observed` is no value of the field: it is what the side's cell held, and `canonical` what replaced it.
    pub(crate) unfit: Option<String>,
    pub(crate) canonical_at: Option<DateTime<Utc>>,
    pub(crate) canonical_author: Option<String>,
    pub(crate) observed_at: Option<DateTime<Utc>>,
    pub(crate) observed_author: Option<String>,
    /// When it was found here.
    pub(crate) found_at: Option<DateTime<Utc>>,
}

impl Conflict {
    pub(crate) fn is_open(&self) -> bool {
        self.decision == "held" && self.decided_at.is_none()
    }

    /// The side whose value was canonical when this one's came.
    pub(crate) fn other_side(&self) -> &'static str {
        if self.side == "airtable" { "directus" } else { "airtable" }
    }
}

/// Open ones first, then the latest; `is_all`: decided ones too. At most `row_count_max`.
pub(crate) async fn conflicts(
    pool: &PgPool,
    is_all: bool,
    entity: Option<&str>,
    row_count_max: i64,
) -> Result<Vec<Conflict>, Error> {
    let sql = format!(
        "{} where ($1 or c.decision = 'held' and c.decided_at is null) and ($2::text is null or e.name = $2)
         order by not (c.decision = 'held' and c.decided_at is null), c.conflict_id desc limit $3",
        include_str!("conflict_read.sql")
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(is_all)
        .bind(entity)
        .bind(row_count_max)
        .fetch_all(pool)
        .await?)
}

/// How many values that did not fit were replaced, and are in no other list.
pub(crate) async fn unfit_count(pool: &PgPool, entity: Option<&str>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "select count(*) from mirror.conflict c join mirror.entity e using (entity_no)
         where c.unfit is not null and c.decided_by is null and ($1::text is null or e.name = $1)",
    )
    .bind(entity)
    .fetch_one(pool)
    .await?)
}

/// All of a record, the oldest first.
pub(crate) async fn of_record(
    pool: &PgPool,
    entity: &str,
    record: Uuid,
) -> Result<Vec<Conflict>, Error> {
    let sql = format!(
        "{} where e.name = $1 and c.record_id = $2 order by c.conflict_id",
        include_str!("conflict_read.sql")
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(entity).bind(record).fetch_all(pool).await?)
}

pub(crate) async fn by_id(pool: &PgPool, id: i64) -> Result<Option<Conflict>, Error> {
    let sql = format!("{} where c.conflict_id = $1", include_str!("conflict_read.sql"));
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?)
}

/// The ids that there are near `id`, for who mistypes one.
pub(crate) async fn ids_near(pool: &PgPool, id: i64) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar(
        "select conflict_id from mirror.conflict order by abs(conflict_id - $1), conflict_id limit 3",
    )
    .bind(id)
    .fetch_all(pool)
    .await?)
}
