//! What others ask of the canonical database: status, the journal's tail, which keys a side has. Reads, but for
//! the notes that captures leave of themselves, which concern no record.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool, postgres::PgPoolOptions};

use super::{Canonical, Error, connect::place};
use crate::{
    model::{Side, SideKey},
    postgres::TlsMode,
};

/// A small pool over the same database as `canonical`.
///
/// # Errors
/// When it cannot be reached.
pub(crate) async fn pool(canonical: &Canonical, password: Option<&str>) -> Result<PgPool, Error> {
    use sqlx::postgres::{PgConnectOptions, PgSslMode};
    use tokio_postgres::config::Host;

    let config = &canonical.config;
    let mut options = PgConnectOptions::new_without_pgpass()
        .application_name(config.get_application_name().unwrap_or("plait"))
        .ssl_mode(match canonical.tls {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    if let Some(ca) = &canonical.ca {
        options = options.ssl_root_cert(ca);
    }
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => options = options.host(name),
        Some(Host::Unix(path)) => options = options.socket(path),
        None => {}
    }
    if let Some(port) = config.get_ports().first() {
        options = options.port(*port);
    }
    if let Some(user) = config.get_user() {
        options = options.username(user);
    }
    if let Some(name) = config.get_dbname() {
        options = options.database(name);
    }
    if let Some(password) = password {
        options = options.password(password);
    }
    PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(|error| match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Error::Read(sqlx::Error::Io(
                std::io::Error::other(format!("no answer from {}: {error}", place(config))),
            )),
            other => Error::Read(other),
        })
}

/// How far a log was applied, and what the position belongs to.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct StoredPosition {
    pub(crate) log: String,
    pub(crate) position: String,
    pub(crate) identity: serde_json::Value,
}

pub(crate) async fn positions(pool: &PgPool) -> Result<Vec<StoredPosition>, Error> {
    Ok(sqlx::query_as("select log, position, identity from mirror.position order by log")
        .fetch_all(pool)
        .await?)
}

/// An incident that is not over.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct OpenIncident {
    pub(crate) log: String,
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) opened_at: DateTime<Utc>,
    pub(crate) seen_count: i32,
}

pub(crate) async fn open_incidents(pool: &PgPool) -> Result<Vec<OpenIncident>, Error> {
    Ok(sqlx::query_as(
        "select log, code, text, opened_at, seen_count from mirror.incident
         where closed_at is null order by incident_id",
    )
    .fetch_all(pool)
    .await?)
}

/// Numbers for people who ask how things stand.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct Counts {
    pub(crate) held_count: i64,
    pub(crate) refusal_count: i64,
}

pub(crate) async fn counts(pool: &PgPool) -> Result<Counts, Error> {
    Ok(sqlx::query_as(
        "select (select count(*) from mirror.conflict where decision = 'held' and decided_at is null) as held_count,
                (select count(*) from mirror.refusal) as refusal_count",
    )
    .fetch_one(pool)
    .await?)
}

/// A line of `plait watch`: a field of a record, or a record that came or went.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct HistoryLine {
    pub(crate) journal_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) side: String,
    pub(crate) author: String,
    pub(crate) entity: String,
    pub(crate) record_id: uuid::Uuid,
    pub(crate) action: String,
    pub(crate) field: Option<String>,
    pub(crate) before: Option<serde_json::Value>,
    pub(crate) after: Option<serde_json::Value>,
}

/// The journal after `journal_id`, at most `entry_count_max` entries, a line a field.
pub(crate) async fn history_after(
    pool: &PgPool,
    journal_id: i64,
    entry_count_max: i64,
) -> Result<Vec<HistoryLine>, Error> {
    Ok(sqlx::query_as(include_str!("history_after.sql"))
        .bind(journal_id)
        .bind(entry_count_max)
        .fetch_all(pool)
        .await?)
}

/// The id of the journal entry that `entry_count` others follow; 0 before the first.
pub(crate) async fn journal_id_before_last(pool: &PgPool, entry_count: i64) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "select coalesce((select journal_id from mirror.journal order by journal_id desc offset $1 limit 1), 0)",
    )
    .bind(entry_count)
    .fetch_one(pool)
    .await?)
}

/// The keys by which `side` has the living records of an entity.
pub(crate) async fn keys(
    pool: &PgPool,
    side: Side,
    entity: &str,
    table: &str,
) -> Result<Vec<SideKey>, Error> {
    let number = entity_number(pool, entity).await?;
    let sql =
        super::writer::living_keys(&format!("canon.{}", super::catalog::quoted(table)), true, side);
    let keys: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(side.name())
        .bind(number)
        .fetch_all(pool)
        .await?;
    Ok(keys.iter().map(|key| SideKey::from(key.as_str())).collect())
}

/// `mirror.entity`'s number; none before the first run with this entity.
pub(crate) async fn entity_number(pool: &PgPool, entity: &str) -> Result<Option<i16>, Error> {
    Ok(sqlx::query_scalar("select entity_no from mirror.entity where name = $1")
        .bind(entity)
        .fetch_optional(pool)
        .await?)
}

/// The keys of all known rows of the junction table that holds `field` on `side`.
pub(crate) async fn element_rows(
    pool: &PgPool,
    side: Side,
    entity: &str,
    field: &str,
) -> Result<Vec<SideKey>, Error> {
    let keys: Vec<String> = sqlx::query_scalar(super::writer::ELEMENT_ROWS)
        .bind(side.name())
        .bind(entity_number(pool, entity).await?)
        .bind(field)
        .fetch_all(pool)
        .await?;
    Ok(keys.iter().map(|key| SideKey::from(key.as_str())).collect())
}
