//! Mass changes that wait for a person: the statements that stop them, let them go, and tell of them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{
    Error,
    owed::DueRow,
    write::{Calls, Writes, column},
    writer::Writer,
};
use crate::{
    mapping::MassGuard,
    model::{EntityNo, RecordId, Side},
};

/// What `mirror.mass_change.author` holds of a full read.
pub(crate) const READ: &str = "read";
/// Tells of open stops, or that there are none any more.
pub(super) const MASS_TOLD: &str = include_str!("mass_told.sql");
/// Ends stops for which nothing waits any more. Only for the writer, who alone adds to one.
pub(super) const MASS_OVER: &str = "update mirror.mass_change m set ended_at = now()
    where ended_at is null and not exists (select from mirror.outbox o where o.stopped_by = m.mass_change_id)";

/// Who changed many records, as far as the side tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MassAuthor {
    /// What tells the author from others.
    pub(crate) key: String,
    pub(crate) via: String,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

/// Records that are held because their author has changed too many, or more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StopRow {
    pub(crate) entity: EntityNo,
    /// Where they were changed; what they owe to the other one is held.
    pub(crate) side: Side,
    pub(crate) author: MassAuthor,
    /// µs since 1970 UTC, by the side's clock.
    pub(crate) since: i64,
    pub(crate) first_transaction: i64,
    pub(crate) last_transaction: i64,
    pub(crate) records: Vec<RecordId>,
}

/// A full read, or a transaction that came in parts, is over: what it changed of an entity is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadEnd {
    pub(crate) entity: EntityNo,
    pub(crate) side: Side,
    /// `None`: a person, or somebody who is trusted. Nothing is held.
    pub(crate) author: Option<MassAuthor>,
    /// The last transaction of it that is counted.
    pub(crate) through: i64,
}

/// A person's yes to what was shown of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LetRow {
    pub(crate) stop: i64,
    /// The last transaction that was shown.
    pub(crate) through: i64,
    pub(crate) author: String,
}

/// Fields of an entity that a person has accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted {
    /// New records are, too.
    pub(crate) is_whole: bool,
    /// A flag a field.
    pub(crate) fields: Vec<bool>,
}

/// A stop that nobody has answered yet, or an earlier one.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct MassChange {
    pub(crate) mass_change_id: i64,
    pub(crate) entity: String,
    pub(crate) side: String,
    pub(crate) author: String,
    pub(crate) via: String,
    pub(crate) author_id: Option<String>,
    pub(crate) author_name: Option<String>,
    pub(crate) since: DateTime<Utc>,
    pub(crate) record_count: i64,
    /// Those that wait.
    pub(crate) held_count: i64,
    pub(crate) first_transaction_id: i64,
    pub(crate) last_transaction_id: i64,
}

impl MassChange {
    /// Who it was, for people.
    pub(crate) fn by(&self) -> String {
        if self.author == READ {
            return String::from("a full read");
        }
        match (self.author_name.as_ref().or(self.author_id.as_ref()), self.via.as_str()) {
            (None, "sql") => String::from("somebody with plain SQL"),
            (None, via) => via.to_owned(),
            (Some(name), via) => format!("{name} ({via})"),
        }
    }
}

const MASS_CHANGE: &str = "select m.mass_change_id, e.name as entity, m.side, m.author, m.via, m.author_id, m.author_name, m.since, m.record_count,
        (select count(distinct record_id) from mirror.outbox o where o.stopped_by = m.mass_change_id) as held_count,
        m.first_transaction_id, m.last_transaction_id
    from mirror.mass_change m join mirror.entity e using (entity_no)";

/// Those that wait for a person, the oldest first.
pub(crate) async fn open(pool: &PgPool) -> Result<Vec<MassChange>, Error> {
    let sql = format!(
        "{MASS_CHANGE} where ended_at is null
             and exists (select from mirror.outbox o where o.stopped_by = m.mass_change_id) order by 1"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await?)
}

/// One of them, open or not.
pub(crate) async fn one(pool: &PgPool, id: i64) -> Result<Option<MassChange>, Error> {
    let sql = format!("{MASS_CHANGE} where mass_change_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?)
}

/// The records that wait for a yes to it, for each side that they are owed to.
pub(crate) async fn held(pool: &PgPool, id: i64) -> Result<Vec<(String, Uuid)>, Error> {
    Ok(sqlx::query_as(
        "select side, record_id from mirror.outbox where stopped_by = $1 order by side, record_id",
    )
    .bind(id)
    .fetch_all(pool)
    .await?)
}

/// The transactions that are counted in it.
pub(crate) async fn transactions(pool: &PgPool, it: &MassChange) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar(
        "select source_transaction_id from mirror.source_transaction
         where source_transaction_id between $1 and $2 and side = $3
           and operation_id is null
           and case when $4 then via in ('listing', 'snapshot')
                    when side = 'directus' and $5 is not null then author_id = $5 and via not like 'Mozilla/%'
                    else author_id is not distinct from $5 and via = $6 end
         order by 1",
    )
    .bind(it.first_transaction_id)
    .bind(it.last_transaction_id)
    .bind(&it.side)
    .bind(it.author == READ)
    .bind(&it.author_id)
    .bind(&it.via)
    .fetch_all(pool)
    .await?)
}

/// Looks which of them are over, beside an `apply` that may just add to one.
pub(super) async fn look(pool: &PgPool) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    // In a statement behind the one that locks them: nothing is added to one of these meanwhile.
    let free: Vec<i64> = sqlx::query_scalar(
        "select mass_change_id from mirror.mass_change where ended_at is null for update skip locked",
    )
    .fetch_all(&mut *transaction)
    .await?;
    let over = format!("{MASS_OVER} and m.mass_change_id = any ($1)");
    sqlx::query(sqlx::AssertSqlSafe(over)).bind(free).execute(&mut *transaction).await?;
    sqlx::query(MASS_TOLD).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

impl Writer {
    /// The authors of which a stop is open.
    pub(crate) async fn stopped(&self) -> Result<HashSet<(EntityNo, Side, String)>, Error> {
        if !self.marks.has_stops() {
            return Ok(HashSet::new());
        }
        let rows = self
            .query(
                "select entity_no, side, author from mirror.mass_change where ended_at is null",
                &[],
            )
            .await?;
        let of = |row: &tokio_postgres::Row| {
            Some((self.entity_of(row.get(0))?, Side::from_name(row.get(1))?, row.get(2)))
        };
        Ok(rows.iter().filter_map(of).collect())
    }

    /// Whether a stop is open.
    pub(crate) async fn is_stop_open(&self, stop: i64) -> Result<bool, Error> {
        let sql = "select from mirror.mass_change where mass_change_id = $1 and ended_at is null";
        Ok(!self.query(sql, &[&stop]).await?.is_empty())
    }

    /// How many records an entity has.
    pub(crate) async fn record_count(&self, entity: EntityNo) -> Result<u64, Error> {
        let sql = format!("select count(*) from {}", self.shape(entity).table);
        let rows = self.query(&sql, &[]).await?;
        let count: i64 = rows.first().map_or(0, |row| row.get(0));
        Ok(count.unsigned_abs())
    }

    /// Entities of which rows wait for the end of a full read of a side.
    pub(crate) async fn unended_reads(&self) -> Result<Vec<(EntityNo, Side)>, Error> {
        let sql = "select distinct entity_no, side from mirror.outbox where is_being_read";
        let rows = self.query(sql, &[]).await?;
        let of = |row: &tokio_postgres::Row| {
            let to = Side::from_name(row.get(1))?;
            let read = Side::ALL.into_iter().find(|side| *side != to)?;
            Some((self.entity_of(row.get(0))?, read))
        };
        Ok(rows.iter().filter_map(of).collect())
    }

    fn entity_of(&self, number: i16) -> Option<EntityNo> {
        let at = self.entity_numbers.iter().position(|known| *known == number)?;
        Some(EntityNo(u16::try_from(at).ok()?))
    }
}

impl Calls<'_> {
    /// What is not owed any more waits for nobody.
    pub(super) fn free_what_is_not_owed(&mut self, due: &[DueRow], number: i16) {
        if !self.writer.marks.has_stops() || due.iter().all(|row| row.is_owed) {
            return;
        }
        let free: Vec<&DueRow> = due.iter().filter(|row| !row.is_owed).collect();
        self.add(
            "update mirror.outbox o set stopped_by = null, counts_until = null
             from unnest($2::uuid[], $3::text[]) as u (record_id, side)
             where o.entity_no = $1 and o.record_id = u.record_id and o.side = u.side and o.stopped_by is not null",
            vec![
                Box::new(number),
                column(&free, |row| row.record.0),
                column(&free, |row| row.side.name()),
            ],
        );
    }

    pub(super) fn mass_changes(&mut self, writes: &Writes) {
        for row in &writes.stops {
            self.writer.marks.note_stop();
            self.add(
                include_str!("mass_stop.sql"),
                vec![
                    Box::new(self.writer.entity_number(row.entity)),
                    Box::new(row.side.name()),
                    Box::new(row.author.key.clone()),
                    Box::new(row.author.via.clone()),
                    Box::new(row.author.id.clone()),
                    Box::new(row.author.name.clone()),
                    Box::new(row.since),
                    Box::new(row.first_transaction),
                    Box::new(row.last_transaction),
                    column(&row.records, |record| record.0),
                ],
            );
        }
        for row in &writes.read_ends {
            self.read_end(row);
        }
        for row in &writes.let_through {
            self.add(
                "with free as (
                     update mirror.outbox set stopped_by = null, counts_until = null, due_at = now(), attempt_count = 0
                     where stopped_by = $1 and counted_transaction_id <= $2)
                 update mirror.mass_change set approved_at = now(), approved_by = $3 where mass_change_id = $1",
                vec![Box::new(row.stop), Box::new(row.through), Box::new(row.author.clone())],
            );
        }
        let may_be_over = !writes.let_through.is_empty() || !writes.commands.is_empty();
        let has_ended = may_be_over && self.writer.marks.has_stops();
        if has_ended {
            self.add(MASS_OVER, Vec::new());
        }
        if has_ended || !writes.stops.is_empty() || !writes.read_ends.is_empty() {
            self.add(MASS_TOLD, Vec::new());
        }
    }

    fn read_end(&mut self, row: &ReadEnd) {
        // It may make a stop: only the statement knows.
        self.writer.marks.note_stop();
        let MassGuard { count, percent, .. } = self.writer.mapping.entity(row.entity).guard;
        let author = row.author.as_ref();
        let table = &self.writer.shape(row.entity).table;
        self.add(
            include_str!("mass_read_end.sql").replace("{table}", table),
            vec![
                Box::new(self.writer.entity_number(row.entity)),
                Box::new(row.side.name()),
                Box::new(author.is_some()),
                Box::new(author.map_or_else(String::new, |it| it.key.clone())),
                Box::new(author.map_or_else(String::new, |it| it.via.clone())),
                Box::new(author.and_then(|it| it.id.clone())),
                Box::new(author.and_then(|it| it.name.clone())),
                Box::new(i64::from(count)),
                Box::new(i64::from(percent)),
            ],
        );
    }
}
