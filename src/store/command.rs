//! What people have decided, on its way to `apply`: put by the command line, read by the console's log, marked as done
//! in the transaction that carries it out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool, types::Json};
use tokio::time::{Instant, sleep};

use super::Error;
use crate::model::Decision;

/// Where a new command is announced, and where pushes are woken by those who have cleared something for them.
pub(crate) const CHANNEL: &str = "plait_command";
/// What a command says there that is about to read Airtable beside a plait that runs; [`asked_for_room`] says whether
/// it was one.
pub(crate) const GUEST: &str = "guest";
/// How often an answer is looked for.
const PAUSE: Duration = Duration::from_millis(50);

/// A command that was put.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Put {
    pub(crate) command_id: i64,
    pub(crate) made_at: DateTime<Utc>,
    pub(crate) author: String,
    /// The newest transaction and journal entry before it: its own come later.
    pub(crate) transaction_before: i64,
    pub(crate) journal_before: i64,
}

/// A command that was not carried out yet. Its body is read by whoever hands it on: it may be a younger plait's.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct OpenCommand {
    pub(crate) command_id: i64,
    pub(crate) author: String,
    pub(crate) made_at: DateTime<Utc>,
    pub(crate) body: serde_json::Value,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Answer {
    /// In words, what could not be done; `None`: all of it was.
    pub(crate) outcome: Option<String>,
}

/// Puts `decisions` as one command, and wakes the plait that carries it out.
pub(crate) async fn put(pool: &PgPool, author: &str, decisions: &[Decision]) -> Result<Put, Error> {
    let mut transaction = pool.begin().await?;
    let put: Put = sqlx::query_as(
        "insert into mirror.command (author, body, made_at) values ($1, $2, clock_timestamp())
         returning command_id, made_at, author,
             (select coalesce(max(source_transaction_id), 0) from mirror.source_transaction) as transaction_before,
             (select coalesce(max(journal_id), 0) from mirror.journal) as journal_before",
    )
    .bind(author)
    .bind(Json(decisions))
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(put.command_id.to_string())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(put)
}

/// Asks the plait that runs, if one does, for room in Airtable's allowance.
pub(crate) async fn ask_for_room(pool: &PgPool) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "insert into mirror.guest (asked_at) values (clock_timestamp())
         on conflict (is_single) do update set asked_at = excluded.asked_at",
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(GUEST)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// How long ago room was last asked for; `None`: never. Anybody may send a notification, so it is the row that counts.
pub(crate) async fn asked_for_room(pool: &PgPool) -> Result<Option<Duration>, Error> {
    let ago: Option<f64> = sqlx::query_scalar(
        "select greatest(extract(epoch from clock_timestamp() - asked_at), 0)::float8 from mirror.guest",
    )
    .fetch_optional(pool)
    .await?;
    Ok(ago.and_then(|ago| Duration::try_from_secs_f64(ago).ok()))
}

/// Takes the place of the one command that calls Airtable, for as long as this session lives; whether it was free.
pub(crate) async fn take_guest_place(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("select pg_try_advisory_lock(hashtext('plait guest'))")
        .fetch_one(connection)
        .await?)
}

/// Waits until the command is carried out, for `patience` at most; `None`: it is not yet.
pub(crate) async fn wait(
    pool: &PgPool,
    put: &Put,
    patience: Duration,
) -> Result<Option<Answer>, Error> {
    let until = Instant::now() + patience;
    loop {
        let answer: Option<Answer> = sqlx::query_as(
            "select outcome from mirror.command where command_id = $1 and done_at is not null",
        )
        .bind(put.command_id)
        .fetch_optional(pool)
        .await?;
        if answer.is_some() || Instant::now() >= until {
            return Ok(answer);
        }
        sleep(PAUSE).await;
    }
}

/// The number of the transaction that carried a command out; `None`: it changed no record, or is not done yet.
pub(crate) async fn transaction_of(pool: &PgPool, put: &Put) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "select source_transaction_id from mirror.source_transaction t
         where source_transaction_id > $1 and side = 'plait' and at = $2 and author_name = $3
           and exists (select from mirror.journal j where j.source_transaction_id = t.source_transaction_id
               and j.journal_id > $4)",
    )
    .bind(put.transaction_before)
    .bind(put.made_at)
    .bind(&put.author)
    .bind(put.journal_before)
    .fetch_optional(pool)
    .await?)
}

/// All commands that are not carried out yet, the oldest first.
pub(crate) async fn open_commands(pool: &PgPool) -> Result<Vec<OpenCommand>, Error> {
    Ok(sqlx::query_as(
        "select command_id, author, made_at, body from mirror.command
         where done_at is null order by command_id",
    )
    .fetch_all(pool)
    .await?)
}

/// Marks a command that nobody here can read as done, with the reason.
pub(crate) async fn refuse(pool: &PgPool, command_id: i64, reason: &str) -> Result<(), Error> {
    sqlx::query(
        "update mirror.command set done_at = now(), outcome = $2 where command_id = $1 and done_at is null",
    )
    .bind(command_id)
    .bind(reason)
    .execute(pool)
    .await?;
    Ok(())
}
