//! How the plait that runs is doing, as it says itself: its place, its tasks, the logs that it reads, what holds it up.
//! It concerns no record.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};

use super::{Error, lease::Holder};

/// What a running plait last said of a log.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct LogStatus {
    pub(crate) log: String,
    pub(crate) side: String,
    pub(crate) state: String,
    pub(crate) words: String,
    pub(crate) position: Option<String>,
    pub(crate) lag_bytes: Option<i64>,
    pub(crate) lag_ms: Option<i64>,
    pub(crate) last_change_at: Option<DateTime<Utc>>,
    /// Log that the side's server keeps for us, and the most that it keeps.
    pub(crate) retained_bytes: Option<i64>,
    pub(crate) retained_bytes_max: Option<i64>,
    pub(crate) wal_status: Option<String>,
    pub(crate) reported_at: DateTime<Utc>,
}

pub(crate) async fn log_statuses(pool: &PgPool) -> Result<Vec<LogStatus>, Error> {
    Ok(sqlx::query_as(
        "select log, side, state, words, position, lag_bytes, lag_ms, last_change_at, retained_bytes,
                retained_bytes_max, wal_status, reported_at
         from mirror.capture_status order by log",
    )
    .fetch_all(pool)
    .await?)
}

pub(crate) async fn report(pool: &PgPool, status: &LogStatus) -> Result<(), Error> {
    sqlx::query(include_str!("capture_status_put.sql"))
        .bind(&status.log)
        .bind(&status.side)
        .bind(&status.state)
        .bind(&status.words)
        .bind(&status.position)
        .bind(status.lag_bytes)
        .bind(status.lag_ms)
        .bind(status.last_change_at)
        .bind(status.retained_bytes)
        .bind(status.retained_bytes_max)
        .bind(&status.wal_status)
        .execute(pool)
        .await?;
    Ok(())
}

/// What a running plait last said of one of its tasks.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub(crate) struct TaskStatus {
    pub(crate) task: String,
    pub(crate) is_well: bool,
    pub(crate) words: String,
    /// Since when it is not well.
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) beat_at: DateTime<Utc>,
    pub(crate) reported_at: DateTime<Utc>,
}

/// All of them, the apply loop first.
pub(crate) async fn tasks(pool: &PgPool) -> Result<Vec<TaskStatus>, Error> {
    Ok(sqlx::query_as(
        "select task, is_well, words, since, beat_at, reported_at from mirror.task order by task <> 'apply', task",
    )
    .fetch_all(pool)
    .await?)
}

/// Writes down how all tasks are; those that are not among them are gone.
pub(crate) async fn report_tasks(pool: &PgPool, tasks: &[TaskStatus]) -> Result<(), Error> {
    let names: Vec<&str> = tasks.iter().map(|task| task.task.as_str()).collect();
    let well: Vec<bool> = tasks.iter().map(|task| task.is_well).collect();
    let words: Vec<&str> = tasks.iter().map(|task| task.words.as_str()).collect();
    let since: Vec<Option<DateTime<Utc>>> = tasks.iter().map(|task| task.since).collect();
    let beats: Vec<DateTime<Utc>> = tasks.iter().map(|task| task.beat_at).collect();
    sqlx::query(
        "with gone as (delete from mirror.task where task <> all ($1))
         insert into mirror.task (task, is_well, words, since, beat_at)
         select * from unnest($1::text[], $2::boolean[], $3::text[], $4::timestamptz[], $5::timestamptz[])
         on conflict (task) do update
         set is_well = excluded.is_well, words = excluded.words, since = excluded.since, beat_at = excluded.beat_at,
             reported_at = now()",
    )
    .bind(&names)
    .bind(&well)
    .bind(&words)
    .bind(&since)
    .bind(&beats)
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether somebody holds the place of the only writer now. By the session that is named there: a lock of that number
/// anybody could take.
pub(crate) async fn is_running(pool: &PgPool) -> Result<bool, Error> {
    Ok(place(pool).await?.is_some())
}

/// Who has the writer's place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) holder: Holder,
    /// The age of its last sign of life, s; a command shows none.
    pub(crate) beat_age_s: Option<f64>,
}

/// `None`: nobody has it, or there is no such place before the first migration.
pub(crate) async fn place(pool: &PgPool) -> Result<Option<Place>, Error> {
    let is_there = "select to_regclass('mirror.writer_beat') is not null";
    if !sqlx::query_scalar::<_, bool>(is_there).fetch_one(pool).await? {
        return Ok(None);
    }
    let row: Option<(Option<String>, Option<i32>, Option<f64>)> = sqlx::query_as(
        "select w.host, w.process_pid, extract(epoch from now() - b.beat_at)::float8
         from mirror.writer w
         join pg_stat_activity a on a.pid = w.backend_pid and coalesce(a.backend_start = w.backend_start, true)
         left join mirror.writer_beat b on b.epoch = w.epoch
         where w.owner is not null",
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|(host, process_pid, beat_age_s)| Place {
        holder: Holder { host: host.unwrap_or_default(), process_pid },
        beat_age_s,
    }))
}

/// Who stands by for the place.
pub(crate) async fn standbys(pool: &PgPool) -> Result<Vec<Holder>, Error> {
    let rows: Vec<(String, i32)> = sqlx::query_as(
        "select host, process_pid from mirror.standby where seen_at > now() - interval '10 s' order by since",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(host, pid)| Holder { host, process_pid: Some(pid) }).collect())
}

/// In words, what the server processes `pids` of the writer wait for, and who has it; none: they wait for nobody.
pub(crate) async fn blockers(pool: &PgPool, pids: &[i32]) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "select format('a lock on %s that process %s of `%s` (user %s) holds; its transaction has been open for %s s. It goes on by itself when that has ended; `select pg_terminate_backend(%s)` ends it',
                coalesce((select l.relation::regclass::text from pg_locks l where l.pid = w.pid and not l.granted and l.relation is not null limit 1), 'a row'),
                b.pid, coalesce(nullif(a.application_name, ''), 'a program without a name'), coalesce(a.usename::text, '?'),
                coalesce(round(extract(epoch from now() - a.xact_start))::text, '?'), b.pid)
         from unnest($1::int[]) as w (pid), unnest(pg_blocking_pids(w.pid)) as b (pid)
         left join pg_stat_activity a on a.pid = b.pid
         where b.pid <> all ($1) order by a.xact_start limit 3",
    )
    .bind(pids)
    .fetch_all(pool)
    .await?)
}

/// How long the oldest write of these entities (`mirror.entity`'s numbers) has been due to each side, s, and how many
/// are; sides to which none is are left out.
pub(crate) async fn overdue(
    pool: &PgPool,
    numbers: &[i16],
) -> Result<Vec<(String, f64, i64)>, Error> {
    Ok(sqlx::query_as(
        "select side, extract(epoch from now() - min(greatest(due_at, counts_until)))::float8, count(*) from mirror.outbox
         where due_at <= now() and stopped_by is null and (counts_until is null or counts_until <= now())
           and entity_no = any ($1) group by side",
    )
    .bind(numbers)
    .fetch_all(pool)
    .await?)
}
