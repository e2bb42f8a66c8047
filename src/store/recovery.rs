//! Who this installation is, and the times when a side or this database was found to have gone back in time. Read and
//! written beside `apply`: no record is in these tables.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, state::fields, writer::Writer};
use crate::{
    merge::Past,
    model::{EntityNo, RecordId, is_erased},
};

/// The row of `mirror.installation`.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct InstallationRow {
    pub(crate) installation_id: Uuid,
    /// Where this database is now.
    pub(crate) seat: String,
}

/// How the mark outside stands, as far as this database knows.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct EpochRow {
    pub(crate) epoch: i64,
    pub(crate) marked_epoch: i64,
    pub(crate) copying_from: Option<String>,
}

/// A side, or this database, went back in time.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Recovery {
    pub(crate) recovery_id: i64,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) begun_at: DateTime<Utc>,
    /// Conflicts that were found since and wait for a person.
    pub(crate) question_count: i64,
}

/// Makes the installation's row if it is not there, and says where this database is now.
pub(crate) async fn installation(pool: &PgPool) -> Result<InstallationRow, Error> {
    Ok(sqlx::query_as(
        "insert into mirror.installation (seat)
         select case when has_function_privilege('pg_control_system()', 'execute')
                     then (select system_identifier::text from pg_control_system()) else '?' end
                || '/' || (select oid from pg_database where datname = current_database())
         on conflict (is_only) do update set seat = excluded.seat
         returning installation_id, seat",
    )
    .fetch_one(pool)
    .await?)
}

pub(crate) async fn epoch(pool: &PgPool) -> Result<EpochRow, Error> {
    Ok(sqlx::query_as("select epoch, marked_epoch, copying_from from mirror.installation")
        .fetch_one(pool)
        .await?)
}

/// Gives out an epoch later than all before and than `beyond`.
pub(crate) async fn next_epoch(pool: &PgPool, beyond: i64) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "update mirror.installation set epoch = greatest(epoch, $1) + 1 returning epoch",
    )
    .bind(beyond)
    .fetch_one(pool)
    .await?)
}

/// The mark outside has this epoch.
pub(crate) async fn note_marked(pool: &PgPool, epoch: i64) -> Result<(), Error> {
    sqlx::query("update mirror.installation set marked_epoch = greatest(marked_epoch, $1)")
        .bind(epoch)
        .execute(pool)
        .await?;
    Ok(())
}

/// The slot is about to be made anew, from this stored position.
pub(crate) async fn note_copying(pool: &PgPool, from: &str) -> Result<(), Error> {
    sqlx::query("update mirror.installation set copying_from = $1")
        .bind(from)
        .execute(pool)
        .await?;
    Ok(())
}

/// Enters recovery of `subject`, unless it is open. Where this database went back, the writes that it has under way
/// ended long ago, and are none any more.
pub(crate) async fn enter(pool: &PgPool, subject: &str, reason: &str) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let entered = sqlx::query(
        "insert into mirror.recovery (subject, reason) values ($1, $2)
         on conflict (subject) where approved_at is null do nothing",
    )
    .bind(subject)
    .bind(reason)
    .execute(&mut *transaction)
    .await?
    .rows_affected()
        > 0;
    if entered && subject == crate::model::CANONICAL {
        sqlx::query("update mirror.operation set settled_at = now() where settled_at is null")
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(entered)
}

/// Those that no person has approved yet, the oldest first.
pub(crate) async fn open(pool: &PgPool) -> Result<Vec<Recovery>, Error> {
    Ok(sqlx::query_as(
        "select recovery_id, subject, reason, begun_at,
                (select count(*) from mirror.conflict c
                 join mirror.source_transaction t on t.source_transaction_id = c.observed_transaction_id
                 where c.decision = 'held' and c.decided_at is null and t.recorded_at >= begun_at) as question_count
         from mirror.recovery where approved_at is null order by recovery_id",
    )
    .fetch_all(pool)
    .await?)
}

/// The open recoveries that are about this log, each with the passes over it that were made.
pub(crate) async fn of_log(pool: &PgPool, log: &str) -> Result<Vec<(String, Vec<i16>)>, Error> {
    Ok(sqlx::query_as(
        "select r.subject, array(select pass from mirror.recovery_read d where d.recovery_id = r.recovery_id and d.log = $1)
         from mirror.recovery r where approved_at is null and subject in ($1, 'canonical') order by recovery_id",
    )
    .bind(log)
    .fetch_all(pool)
    .await?)
}

/// The logs that this pass of an open recovery of canonical has been made over.
pub(crate) async fn read_in(pool: &PgPool, pass: i16) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "select log from mirror.recovery_read join mirror.recovery using (recovery_id)
         where approved_at is null and subject = 'canonical' and pass = $1",
    )
    .bind(pass)
    .fetch_all(pool)
    .await?)
}

/// What the open recoveries want to be read and was not yet: subject and log.
pub(crate) async fn unread_logs(pool: &PgPool) -> Result<Vec<(String, String)>, Error> {
    Ok(sqlx::query_as(
        "select r.subject, l.log from mirror.recovery r
         join lateral (select log from mirror.position union select r.subject where r.subject <> 'canonical') l
              on r.subject in (l.log, 'canonical')
         where r.approved_at is null
           and not exists (select from mirror.recovery_read d
                           where d.recovery_id = r.recovery_id and d.log = l.log and d.pass = 2)
         order by 1, 2",
    )
    .fetch_all(pool)
    .await?)
}

/// A person has opened the way out again, and said yes to the deletes that were shown with it.
pub(crate) async fn approve(
    connection: &mut PgConnection,
    recoveries: &[i64],
    author: &str,
    digest: &str,
) -> Result<(), Error> {
    sqlx::query(
        "update mirror.recovery set approved_at = now(), approved_by = $2, plan_digest = $3
         where recovery_id = any($1) and approved_at is null",
    )
    .bind(recoveries)
    .bind(author)
    .bind(digest)
    .execute(&mut *connection)
    .await?;
    // Rows that apply holds are not waited for, so that the two never wait for one another.
    sqlx::query(
        "with returned as (
             select p.ctid from mirror.pending_delete p join mirror.source_transaction t using (source_transaction_id)
             where t.side = p.side and p.approved_at is null for update of p skip locked),
         said as (
             update mirror.pending_delete p set approved_at = now(), approved_by = $1, stopped_by_count = false
             where p.ctid in (select ctid from returned) returning entity_no, record_id, side)
         insert into mirror.outbox (side, entity_no, record_id) select side, entity_no, record_id from said
         on conflict (side, entity_no, record_id) do update set due_at = now(), attempt_count = 0",
    )
    .bind(author)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Whether Airtable's records of one of these entities are known.
pub(crate) async fn has_airtable_links(pool: &PgPool, entities: &[&str]) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select exists (select from mirror.link join mirror.entity e using (entity_no)
             where side = 'airtable' and e.name = any($1))",
    )
    .bind(entities)
    .fetch_one(pool)
    .await?)
}

/// Forgets how far a log was read that is not read any more: should it come back, it is read whole.
pub(crate) async fn forget_position(pool: &PgPool, log: &str) -> Result<(), Error> {
    sqlx::query("delete from mirror.position where log = $1").bind(log).execute(pool).await?;
    Ok(())
}

impl Writer {
    /// What the journal and the conflicts know of these records: one query, whatever their number.
    pub(crate) async fn pasts(
        &self,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashMap<RecordId, Past>, Error> {
        let mapping = std::sync::Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let rows = self
            .query(
                "select record_id, action, before::text, after::text, journal_id from mirror.journal
                 where entity_no = $1 and record_id = any($2)
                 union all
                 select record_id, 'conflict', json_build_object(field, canonical)::text,
                        json_build_object(field, observed)::text, 0 from mirror.conflict
                 where entity_no = $1 and record_id = any($2) and field is not null
                 union all
                 select record_id, 'conflict', json_build_object(field, base)::text,
                        json_build_object(field, settled_value)::text, 0 from mirror.conflict
                 where entity_no = $1 and record_id = any($2) and field is not null
                   and base is not null and settled_value is not null
                 order by 5",
                &[&self.entity_number(entity), &records],
            )
            .await?;
        let mut pasts: HashMap<RecordId, Past> = HashMap::new();
        for row in rows {
            let past = pasts.entry(RecordId(row.get(0))).or_default();
            let action: &str = row.get(1);
            let parse = |at| serde_json::from_str::<Json>(row.get(at)).unwrap_or_default();
            let (before, after) = (parse(2), parse(3));
            if action != "conflict" {
                past.was_deleted = action == "delete";
                past.last.clear();
            }
            for (no, field) in fields(described) {
                for value in [&before, &after].into_iter().filter_map(|it| it.get(&field.name)) {
                    if is_erased(value) {
                        past.erased.insert(no);
                    } else {
                        past.earlier.entry(no).or_default().insert(field.from_json(value));
                    }
                }
                let last = before.get(&field.name).filter(|value| !is_erased(value));
                if let Some(value) = last.filter(|_| past.was_deleted && action == "delete") {
                    past.last.push((no, field.from_json(value)));
                }
            }
        }
        Ok(pasts)
    }

    /// A pass over a log was applied, for the recoveries that want it.
    pub(crate) async fn note_reread(&self, log: &str, pass: i16) -> Result<(), Error> {
        self.client()
            .execute(
                "insert into mirror.recovery_read (recovery_id, log, pass)
                 select recovery_id, $1, $2 from mirror.recovery
                 where approved_at is null and subject in ($1, 'canonical')
                 on conflict do nothing",
                &[&log, &pass],
            )
            .await?;
        Ok(())
    }
}
