//! What waits for a person's word on records as a whole: who is whom, and deletes; and who was found.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{Error, command::CHANNEL};

/// Records of a side that were found by what they hold, counted.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Matched {
    pub(crate) entity: String,
    pub(crate) side: String,
    pub(crate) matched_by: String,
    pub(crate) count: i64,
}

/// One of them.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Match {
    pub(crate) entity: String,
    pub(crate) side: String,
    pub(crate) side_key: String,
    pub(crate) record_id: Uuid,
    pub(crate) matched_by: String,
}

/// A record that may be one of others.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Question {
    pub(crate) match_question_id: i64,
    pub(crate) entity: String,
    pub(crate) side: String,
    pub(crate) side_key: String,
    pub(crate) record_id: Uuid,
    pub(crate) candidates: Vec<Uuid>,
    pub(crate) reason: String,
}

/// A delete that waits for a yes.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct PendingDelete {
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    /// Where the record still is.
    pub(crate) side: String,
    pub(crate) found_at: DateTime<Utc>,
    pub(crate) stopped_by_count: bool,
    /// Who deleted it on the other side, as far as that tells.
    pub(crate) author: Option<String>,
}

pub(crate) async fn matched(pool: &PgPool) -> Result<Vec<Matched>, Error> {
    Ok(sqlx::query_as(
        "select e.name as entity, m.side, m.matched_by, count(*) as count
         from mirror.match m join mirror.entity e using (entity_no) where m.split_at is null
         group by m.entity_no, e.name, m.side, m.matched_by order by m.entity_no, m.side, count(*) desc",
    )
    .fetch_all(pool)
    .await?)
}

/// The latest first.
pub(crate) async fn matches(pool: &PgPool, count_max: i64) -> Result<Vec<Match>, Error> {
    Ok(sqlx::query_as(
        "select e.name as entity, m.side, m.side_key, m.record_id, m.matched_by
         from mirror.match m join mirror.entity e using (entity_no) where m.split_at is null
         order by m.match_id desc limit $1",
    )
    .bind(count_max)
    .fetch_all(pool)
    .await?)
}

pub(crate) async fn questions(pool: &PgPool) -> Result<Vec<Question>, Error> {
    Ok(sqlx::query_as(
        "select q.match_question_id, e.name as entity, q.side, q.side_key, q.record_id, q.candidates, q.reason
         from mirror.match_question q join mirror.entity e using (entity_no) where q.answered_at is null
         order by q.match_question_id",
    )
    .fetch_all(pool)
    .await?)
}

/// Notes that the record of a question is none of its candidates: it, and they, are pushed from now on.
pub(crate) async fn answer_different(
    pool: &PgPool,
    question: i64,
    author: &str,
) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let answered = sqlx::query(
        "with answered as (
             update mirror.match_question set answered_at = now(), answered_by = $2
             where match_question_id = $1 and answered_at is null returning entity_no, record_id, candidates),
         due as (
             update mirror.outbox o set due_at = now(), attempt_count = 0 from answered a
             where o.entity_no = a.entity_no and o.record_id = any(a.record_id || a.candidates))
         select from answered",
    )
    .bind(question)
    .bind(author)
    .fetch_optional(&mut *transaction)
    .await?;
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(answered.is_some())
}

pub(crate) async fn pending_deletes(pool: &PgPool) -> Result<Vec<PendingDelete>, Error> {
    Ok(sqlx::query_as(
        "select e.name as entity, p.record_id, p.side, p.found_at, p.stopped_by_count,
             coalesce(t.author_name, t.author_id, t.via) as author
         from mirror.pending_delete p join mirror.entity e using (entity_no)
         left join mirror.source_transaction t using (source_transaction_id)
         where p.approved_at is null order by p.entity_no, p.found_at, p.record_id",
    )
    .fetch_all(pool)
    .await?)
}

/// The logs of which something is stored: what is not among them was never read to the end.
pub(crate) async fn logs_read(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("select log from mirror.position where position <> ''")
        .fetch_all(pool)
        .await?)
}
