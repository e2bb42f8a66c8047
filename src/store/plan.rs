//! What would be written to the sides and was not accepted yet: read from what canonical and the sides hold, as a push
//! would read it. And the yes to it, which holds for just the plan that a person has seen.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{
    Error, approval,
    books::{Books, Standing},
    catalog::TableShape,
    command::CHANNEL,
    mass::{self, MassChange},
    operation::Marks,
    recovery::{self, Recovery},
    write::WHOLE_RECORD,
};
use crate::{
    gate::Gate,
    mapping::{Entity, Mapping},
    merge::{Owed, SentCell, owed, unread},
    model::{EntityNo, Side, SideKey},
};

/// Records whose standing is read at a time.
const RECORD_COUNT_MAX: usize = 2_000;
/// A record on a side: `mirror.entity`'s number, the id, the side's name.
type Returned = (i16, Uuid, String);

/// Bytes of a digest.
const DIGEST_LENGTH: usize = 16;

/// What a plan does to a record on a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlannedKind {
    Create,
    Update,
    Delete,
}

impl PlannedKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A record that would be written to a side.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) side: Side,
    pub(crate) entity: EntityNo,
    pub(crate) record: Uuid,
    /// How the side calls it, where that is not the canonical id.
    pub(crate) key: Option<SideKey>,
    pub(crate) kind: PlannedKind,
    /// What the side holds, and what it would hold.
    pub(crate) cells: Vec<SentCell>,
    /// The canonical id would be written to the record there.
    pub(crate) writes_id: bool,
}

/// A record of a side that was taken for a canonical one by what it holds.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Linked {
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) side: String,
    pub(crate) side_key: String,
    pub(crate) matched_by: String,
}

/// A record that may be the same as others.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Question {
    pub(crate) match_question_id: i64,
    pub(crate) entity: String,
    pub(crate) side: String,
    pub(crate) side_key: String,
    pub(crate) record_id: Uuid,
    pub(crate) candidates: Vec<Uuid>,
    pub(crate) reason: String,
    pub(crate) asked_at: DateTime<Utc>,
}

/// A record that was deleted on one side and waits for a yes on `side`.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Doomed {
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) side: String,
    pub(crate) found_at: DateTime<Utc>,
    pub(crate) stopped_by_count: bool,
    /// It was not deleted on the other side: it left the rows there that the mapping mirrors.
    pub(crate) has_left: bool,
}

/// All that a yes would let happen, and what waits for an answer of its own.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// By side, entity and record.
    pub(crate) planned: Vec<Planned>,
    /// Fields (`*`: records as a whole) that nobody has accepted yet, by entity.
    pub(crate) unapproved: Vec<Unapproved>,
    /// Of entities that nobody has accepted yet.
    pub(crate) linked: Vec<Linked>,
    pub(crate) questions: Vec<Question>,
    pub(crate) doomed: Vec<Doomed>,
    pub(crate) held_count: i64,
    /// Mass changes that wait for a yes of their own.
    pub(crate) stops: Vec<Stopped>,
    /// What went back in time, and shuts the way out until a yes: then all that is owed is planned.
    pub(crate) recoveries: Vec<Recovery>,
    /// Why this is not all yet, in words.
    pub(crate) unread: Vec<String>,
    pub(crate) digest: String,
}

/// A mass change that waits for a yes, and what would be written then.
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    pub(crate) change: MassChange,
    pub(crate) planned: Vec<Planned>,
}

/// A field (`*`: records as a whole) that a yes would cover.
#[derive(Clone, Debug)]
pub(crate) struct Unapproved {
    pub(crate) entity: EntityNo,
    pub(crate) field: String,
    /// In words, what the mapping says otherwise than when it was accepted; `None`: it never was.
    pub(crate) difference: Option<String>,
    covers: Json,
}

/// A plan that a person has seen.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Shown {
    pub(crate) plan_digest: String,
    pub(crate) shown_at: DateTime<Utc>,
    #[sqlx(json)]
    pub(crate) summary: BTreeMap<String, i64>,
}

/// What came of a yes.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// How many fields were accepted that were not before, and how many recoveries are over.
    Accepted { field_count: u64, recovery_count: usize },
    /// Another plan is owed by now: nothing was accepted.
    Changed(Box<Proposal>),
}

impl Proposal {
    /// How many records of each side and entity are created, changed and deleted.
    pub(crate) fn summary(&self, mapping: &Mapping) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for planned in &self.planned {
            let entity = &mapping.entity(planned.entity).name;
            let what = format!("{} {entity} {}", planned.side.name(), planned.kind.name());
            *counts.entry(what).or_insert(0) += 1;
        }
        for it in &self.unapproved {
            let what = format!("- {} fields", mapping.entity(it.entity).name);
            *counts.entry(what).or_insert(0) += 1;
        }
        for recovery in &self.recoveries {
            counts.insert(format!("- recovery of {}", recovery.subject), 1);
        }
        counts
    }

    /// Whether there is nothing to say yes to.
    pub(crate) fn is_settled(&self) -> bool {
        self.unapproved.is_empty() && self.recoveries.is_empty()
    }
}

impl Books {
    /// The canonical database for one who only looks, beside the plait that may be running.
    pub(crate) async fn of_reader(
        pool: PgPool,
        mapping: Mapping,
        shapes: Vec<TableShape>,
    ) -> Result<Self, Error> {
        let rows: Vec<(String, i16)> =
            sqlx::query_as("select name, entity_no from mirror.entity").fetch_all(&pool).await?;
        let known: HashMap<String, i16> = rows.into_iter().collect();
        // An entity that no run has seen yet has no rows in any table: no entity has this number.
        let number = |entity: &Entity| known.get(&entity.name).copied().unwrap_or(-1);
        Ok(Self {
            numbers: mapping.entities.iter().map(number).collect(),
            marks: Arc::new(Marks::new(mapping.entities.len())),
            mapping: Arc::new(mapping),
            shapes: shapes.into(),
            pool,
            epoch: None,
            gate: Gate::open(),
        })
    }

    /// What would be written once it is accepted.
    pub(crate) async fn proposal(&self) -> Result<Proposal, Error> {
        let unapproved = self.unapproved().await?;
        let recoveries = recovery::open(&self.pool).await?;
        // First: a read that ends while the rest is gathered is not in it.
        let unread = self.unread(&recoveries).await?;
        let returned = if recoveries.is_empty() { HashSet::new() } else { self.returned().await? };
        let mut planned = Vec::new();
        for side in Side::ALL {
            for no in 0..self.mapping.entities.len() {
                let entity = EntityNo(u16::try_from(no).unwrap_or(u16::MAX));
                let described = self.mapping.entity(entity);
                let fields: HashSet<&str> = if recoveries.is_empty() {
                    let mine = unapproved.iter().filter(|it| it.entity == entity);
                    mine.map(|it| it.field.as_str()).collect()
                } else {
                    let names = described.fields.iter().map(|field| field.name.as_str());
                    names.chain([WHOLE_RECORD]).collect()
                };
                if !fields.is_empty() && described.is_on(side) && described.is_two_sided() {
                    self.plan_entity((side, entity), &fields, &returned, &mut planned).await?;
                }
            }
        }
        let news: Vec<i16> = unapproved
            .iter()
            .filter(|it| it.field == WHOLE_RECORD)
            .map(|it| self.number(it.entity))
            .collect();
        let linked: Vec<Linked> = sqlx::query_as(
            "select e.name as entity, m.record_id, m.side, m.side_key, m.matched_by
             from mirror.match m join mirror.entity e using (entity_no)
             where m.split_at is null and m.entity_no = any($1)
             order by e.name, m.side, m.record_id, m.side_key",
        )
        .bind(&news)
        .fetch_all(&self.pool)
        .await?;
        let held_count = sqlx::query_scalar(
            "select count(*) from mirror.conflict where decision = 'held' and decided_at is null",
        )
        .fetch_one(&self.pool)
        .await?;
        let digest = digest(&self.mapping, &planned, &unapproved, &linked, &recoveries);
        Ok(Proposal {
            planned,
            unapproved,
            linked,
            questions: questions(&self.pool).await?,
            doomed: doomed(&self.pool).await?,
            held_count,
            stops: self.stops().await?,
            unread,
            recoveries,
            digest,
        })
    }

    /// Mass changes that wait for a yes, each with what would be written then.
    pub(crate) async fn stops(&self) -> Result<Vec<Stopped>, Error> {
        let mut stops = Vec::new();
        for change in mass::open(&self.pool).await? {
            let mut by_side: BTreeMap<Side, Vec<Uuid>> = BTreeMap::new();
            for (side, record) in mass::held(&self.pool, change.mass_change_id).await? {
                if let Some(side) = Side::from_name(&side) {
                    by_side.entry(side).or_default().push(record);
                }
            }
            let mut planned = Vec::new();
            if let Some(entity) = self.mapping.entity_no(&change.entity) {
                let described = self.mapping.entity(entity);
                let names = described.fields.iter().map(|field| field.name.as_str());
                let fields: HashSet<&str> = names.chain([WHOLE_RECORD]).collect();
                for (side, records) in by_side {
                    for some in records.chunks(RECORD_COUNT_MAX) {
                        let standings = self.standings(side, entity, some).await?.into_iter();
                        planned.extend(
                            standings.filter_map(|it| plan((side, entity), described, it, &fields)),
                        );
                    }
                }
            }
            stops.push(Stopped { change, planned });
        }
        Ok(stops)
    }

    /// Fields of the mapping that nobody has accepted yet, as it has them now.
    async fn unapproved(&self) -> Result<Vec<Unapproved>, Error> {
        let mut connection = self.pool.acquire().await?;
        let mut unapproved = Vec::new();
        for (no, entity) in self.mapping.entities.iter().enumerate() {
            let of = EntityNo(u16::try_from(no).unwrap_or(u16::MAX));
            let number = self.number(of);
            let mut standings =
                approval::standings(&mut connection, &self.mapping, entity, number).await?;
            let names = entity.fields.iter().map(|field| field.name.as_str());
            for name in std::iter::once(WHOLE_RECORD).chain(names) {
                let Some(it) = standings.remove(name).filter(|it| !it.is_approved) else {
                    continue;
                };
                unapproved.push(Unapproved {
                    entity: of,
                    field: name.to_owned(),
                    difference: it.difference,
                    covers: serde_json::to_value(it.covers).unwrap_or_default(),
                });
            }
        }
        Ok(unapproved)
    }

    async fn plan_entity(
        &self,
        (side, entity): (Side, EntityNo),
        unapproved: &HashSet<&str>,
        returned: &HashSet<Returned>,
        to: &mut Vec<Planned>,
    ) -> Result<(), Error> {
        let records: Vec<Uuid> = sqlx::query_scalar(include_str!("plan_records.sql"))
            .bind(self.number(entity))
            .bind(side.name())
            .fetch_all(&self.pool)
            .await?;
        let described = self.mapping.entity(entity);
        for some in records.chunks(RECORD_COUNT_MAX) {
            for mut standing in self.standings(side, entity, some).await? {
                if returned.contains(&(self.number(entity), standing.record.0, side.name().into()))
                {
                    standing.restraints.delete = Some(true);
                }
                to.extend(plan((side, entity), described, standing, unapproved));
            }
        }
        Ok(())
    }

    /// Records that were deleted, and that a side which went back in time shows again: a yes to its recovery deletes
    /// them there. By the transaction that doomed them: elsewhere it is the other side's.
    async fn returned(&self) -> Result<HashSet<Returned>, Error> {
        let rows: Vec<Returned> = sqlx::query_as(
            "select p.entity_no, p.record_id, p.side from mirror.pending_delete p
             join mirror.source_transaction t using (source_transaction_id)
             where t.side = p.side and p.approved_at is null",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// What was not read whole yet: what would be written cannot be told before.
    async fn unread(&self, recoveries: &[Recovery]) -> Result<Vec<String>, Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select side, count(*) from mirror.position where position <> '' group by side",
        )
        .fetch_all(&self.pool)
        .await?;
        let read_count = |side: Side| {
            let found = rows.iter().find(|(name, _)| name == side.name());
            found.map_or(0, |(_, count)| usize::try_from(*count).unwrap_or(0))
        };
        let entities = &self.mapping.entities;
        let bases: HashSet<&str> = entities
            .iter()
            .filter_map(|entity| entity.airtable.as_ref())
            .map(|table| table.base.as_str())
            .collect();
        let mut unread_words = Vec::new();
        if entities.iter().any(|entity| entity.directus.is_some())
            && read_count(Side::Directus) == 0
        {
            unread_words.push("Directus was not copied whole yet".into());
        }
        if read_count(Side::Airtable) < bases.len() {
            unread_words.push("Airtable was not read whole yet".into());
        }
        if !recoveries.is_empty() {
            let logs = recovery::unread_logs(&self.pool).await?;
            unread_words.extend(logs.into_iter().map(|(subject, log)| {
                let name = if log == "directus" { "Directus" } else { log.as_str() };
                format!("{name} was not read whole yet since {subject} was found to have gone back")
            }));
        }
        let news = entities.iter().zip(self.numbers.iter()).filter(|(_, number)| **number < 0);
        unread_words.extend(news.map(|(entity, _)| {
            format!("no `plait run` has begun with {} in the mapping yet", entity.name)
        }));
        // Only of what is still mapped: the others' rows stay until they are mapped again.
        let cells: Vec<(i16, String, String, i64)> = sqlx::query_as(
            "select entity_no, field, side, count(*) from mirror.shadow
             where value = $1 group by 1, 2, 3 order by 1, 2, 3",
        )
        .bind(unread().to_json())
        .fetch_all(&self.pool)
        .await?;
        for (number, field, side, count) in cells {
            let at = self.numbers.iter().position(|known| *known == number);
            let entity = at.map(|at| &self.mapping.entities[at]);
            let of = |entity: &&Entity| {
                let side = Side::from_name(&side);
                entity
                    .fields
                    .iter()
                    .any(|it| it.name == field && side.is_some_and(|side| it.is_on(side)))
            };
            unread_words.extend(entity.filter(of).map(|entity| {
                format!(
                    "{} of {} was not read yet at its new place in {side} ({count} records)",
                    field, entity.name
                )
            }));
        }
        Ok(unread_words)
    }

    /// Remembers that a plan was shown.
    pub(crate) async fn note_shown(&self, proposal: &Proposal, to: &str) -> Result<(), Error> {
        sqlx::query(
            "with old as (
                 delete from mirror.plan p where p.shown_at < now() - interval '7 days' and p.plan_digest <> $1
                   and not exists (select from mirror.approval a where a.plan_digest = p.plan_digest))
             insert into mirror.plan (plan_digest, shown_to, summary) values ($1, $2, $3)
             on conflict (plan_digest) do update
                 set shown_at = clock_timestamp(), shown_to = excluded.shown_to, summary = excluded.summary",
        )
        .bind(&proposal.digest)
        .bind(to)
        .bind(sqlx::types::Json(proposal.summary(&self.mapping)))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The plan that was shown last.
    pub(crate) async fn last_shown(&self) -> Result<Option<Shown>, Error> {
        Ok(sqlx::query_as(
            "select plan_digest, shown_at, summary from mirror.plan order by shown_at desc limit 1",
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Accepts the plan with this digest, if it is still what is owed.
    ///
    /// Apply notes each of its transactions in one table before it commits: while that one is locked, nothing that a
    /// plan is made of can change. No other lock is held meanwhile, so that the two never wait for one another.
    pub(crate) async fn accept(&self, digest: &str, author: &str) -> Result<Verdict, Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("set local lock_timeout = '30s'").execute(&mut *transaction).await?;
        sqlx::query("lock table mirror.source_transaction in share mode")
            .execute(&mut *transaction)
            .await?;
        let proposal = self.proposal().await?;
        if proposal.digest != digest || !proposal.unread.is_empty() {
            transaction.rollback().await?;
            return Ok(Verdict::Changed(Box::new(proposal)));
        }
        let covered = &proposal.unapproved;
        let numbers: Vec<i16> = covered.iter().map(|it| self.number(it.entity)).collect();
        let names: Vec<&str> = covered.iter().map(|it| it.field.as_str()).collect();
        let covers: Vec<Json> = covered.iter().map(|it| it.covers.clone()).collect();
        let done = sqlx::query(
            "insert into mirror.approval (entity_no, field, approved_by, plan_digest, covers)
             select entity_no, field, $3, $4, covers
             from unnest($1::smallint[], $2::text[], $5::jsonb[]) as u (entity_no, field, covers)
             on conflict (entity_no, field) do update
                 set approved_at = now(), approved_by = excluded.approved_by, plan_digest = excluded.plan_digest,
                     covers = excluded.covers",
        )
        .bind(&numbers)
        .bind(&names)
        .bind(author)
        .bind(digest)
        .bind(&covers)
        .execute(&mut *transaction)
        .await?;
        let ids: Vec<i64> = proposal.recoveries.iter().map(|it| it.recovery_id).collect();
        if !ids.is_empty() {
            recovery::approve(&mut transaction, &ids, author, digest).await?;
        }
        transaction.commit().await?;
        self.wake_pushes().await?;
        let (field_count, recovery_count) = (done.rows_affected(), ids.len());
        Ok(Verdict::Accepted { field_count, recovery_count })
    }

    /// All that is owed is due now. In a transaction of its own: apply may hold rows of the schedule, and wait for
    /// what an approval has locked. Should it not come to this, the schedule's own time comes.
    async fn wake_pushes(&self) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "update mirror.outbox set due_at = now(), attempt_count = 0 where ctid in (
                 select ctid from mirror.outbox where due_at > now() for update skip locked)",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

/// What a record would be sent that nobody has accepted yet.
fn plan(
    (side, entity): (Side, EntityNo),
    described: &Entity,
    standing: Standing,
    unapproved: &HashSet<&str>,
) -> Option<Planned> {
    let Standing { record, mut state, mut restraints, key, owes_id, .. } = standing;
    let is_new = unapproved.contains(WHOLE_RECORD);
    // What is under way was accepted before; as if all was.
    state.operations.clear();
    restraints.is_approved = true;
    restraints.unapproved.clear();
    let is_wanted =
        |cell: &SentCell| unapproved.contains(described.field(cell.field).name.as_str());
    let (kind, cells) = match owed(described, &state, side, &restraints) {
        Owed::Create(cells) if is_new => (PlannedKind::Create, cells),
        Owed::Create(cells) | Owed::Update(cells) => {
            (PlannedKind::Update, cells.into_iter().filter(is_wanted).collect())
        }
        Owed::Delete if is_new => (PlannedKind::Delete, Vec::new()),
        Owed::Delete | Owed::Nothing => (PlannedKind::Update, Vec::new()),
    };
    let writes_id =
        is_new && owes_id && state.is_alive() && !restraints.is_parked && !state.is_absent_on(side);
    let is_nothing = kind == PlannedKind::Update && cells.is_empty() && !writes_id;
    (!is_nothing).then_some(Planned { side, entity, record: record.0, key, kind, cells, writes_id })
}

/// The digest of all that a yes lets happen: cell by cell, and field by field of what it covers.
fn digest(
    mapping: &Mapping,
    planned: &[Planned],
    unapproved: &[Unapproved],
    linked: &[Linked],
    recoveries: &[Recovery],
) -> String {
    let mut hash = Sha256::new();
    // As JSON, where no value can be taken for two.
    let mut add = |line: Json| hash.update(format!("{line}\n"));
    for it in unapproved {
        add(serde_json::json!([mapping.entity(it.entity).name, it.field, it.covers]));
    }
    for Planned { side, entity, record, key: _, kind, cells, writes_id } in planned {
        let described = mapping.entity(*entity);
        let cells: Vec<Json> = cells
            .iter()
            .map(|cell| {
                let name = &described.field(cell.field).name;
                serde_json::json!([name, cell.expected.to_json(), cell.value.to_json()])
            })
            .collect();
        add(serde_json::json!([
            side.name(),
            described.name,
            record,
            kind.name(),
            writes_id,
            cells
        ]));
    }
    for it in recoveries {
        add(serde_json::json!(["recovery", it.recovery_id]));
    }
    for it in linked {
        add(serde_json::json!([it.side, it.entity, it.record_id, it.side_key, it.matched_by]));
    }
    let digest = hash.finalize();
    digest.iter().take(DIGEST_LENGTH).fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// Records that may be the same as others, and nobody has said yet.
pub(crate) async fn questions(pool: &PgPool) -> Result<Vec<Question>, Error> {
    Ok(sqlx::query_as(
        "select q.match_question_id, e.name as entity, q.side, q.side_key, q.record_id, q.candidates, q.reason, q.asked_at
         from mirror.match_question q join mirror.entity e using (entity_no)
         where q.answered_at is null order by q.match_question_id",
    )
    .fetch_all(pool)
    .await?)
}

/// Deletes that wait for a yes.
pub(crate) async fn doomed(pool: &PgPool) -> Result<Vec<Doomed>, Error> {
    Ok(sqlx::query_as(
        "select e.name as entity, p.record_id, p.side, p.found_at, p.stopped_by_count,
             exists (select from mirror.absence a where a.record_id = p.record_id and a.entity_no = p.entity_no
                 and a.side <> p.side and a.is_outside) as has_left
         from mirror.pending_delete p join mirror.entity e using (entity_no)
         where p.approved_at is null order by e.name, p.side, p.found_at, p.record_id",
    )
    .fetch_all(pool)
    .await?)
}

/// Notes a person's answer that a record is none of the others: it may be created on the other side now. `false`:
/// the question is not open.
pub(crate) async fn answer_different(
    pool: &PgPool,
    question: i64,
    author: &str,
) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let count: i64 = sqlx::query_scalar(
        "with answered as (
             update mirror.match_question set answered_at = now(), answered_by = $2
             where match_question_id = $1 and answered_at is null returning entity_no, record_id, candidates),
         due as (
             update mirror.outbox o set due_at = now(), attempt_count = 0 from answered a
             where o.entity_no = a.entity_no and o.record_id = any(a.record_id || a.candidates))
         select count(*) from answered",
    )
    .bind(question)
    .bind(author)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(count > 0)
}
