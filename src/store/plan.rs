//! What is owed to the sides and nobody has approved yet: told from the canonical database alone, and accepted with
//! a digest, so that what runs is what was shown.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{
    Error, ID_FIELD, WHOLE_RECORD, catalog::TableShape, command::CHANNEL, record, state::fields,
};
use crate::{
    mapping::{Entity, Mapping},
    merge::{Owed, RecordState, Restraints, owed},
    model::{FieldNo, RecordId, Side, Value},
};

/// Records read at a time.
const CHUNK_RECORD_COUNT: usize = 2_000;
/// Tries to hold `apply` off, and the pause between two of them.
const LOCK_TRY_COUNT_MAX: usize = 2_000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// `lock_not_available`
const LOCKED: &str = "55P03";

/// All that waits for a yes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Over every cell; empty if nothing is to be approved.
    pub(crate) digest: String,
    pub(crate) tallies: Tallies,
    /// What would be written, as much of it as was asked for.
    pub(crate) writes: Vec<PlannedWrite>,
    /// Fields (`*`: new and deleted records) that have no approval, by entity.
    pub(crate) unapproved: BTreeMap<String, Vec<String>>,
}

/// How much there is to do, by entity and side.
pub(crate) type Tallies = BTreeMap<String, BTreeMap<String, Tally>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Records that the side lacks.
    pub(crate) create: u64,
    /// Records in which cells differ, and those cells.
    pub(crate) update: u64,
    pub(crate) cell: u64,
    /// Airtable records that are to be told their id.
    pub(crate) id: u64,
    /// Cells that both sides changed, and records that may be others: they wait for a decision of their own.
    pub(crate) held: u64,
    pub(crate) questioned: u64,
}

#[derive(Debug)]
pub(crate) struct PlannedWrite {
    pub(crate) entity: String,
    pub(crate) side: Side,
    pub(crate) record: Uuid,
    /// A readable name.
    pub(crate) label: String,
    pub(crate) kind: PlannedKind,
    pub(crate) cells: Vec<PlannedCell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlannedKind {
    Create,
    Update,
    /// Only the id is written.
    Id,
}

#[derive(Debug, PartialEq)]
pub(crate) struct PlannedCell {
    /// `#id`: the field for the canonical id.
    pub(crate) field: String,
    /// What the side holds.
    pub(crate) there: Json,
    pub(crate) canonical: Json,
}

/// How a plan is read.
pub(crate) struct Reading<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) shapes: &'a [TableShape],
    /// Writes of a kind kept of each entity and side; all are counted and digested.
    pub(crate) keep_count: usize,
    pub(crate) label: fn(&Entity, &[Value]) -> String,
}

impl PlannedKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Id => "id",
        }
    }
}

impl Tally {
    /// Whether anything is to be approved.
    pub(crate) fn is_empty(&self) -> bool {
        self.create + self.update + self.id == 0
    }
}

impl Reading<'_> {
    /// The plan at one moment.
    pub(crate) async fn read(&self, pool: &PgPool) -> Result<Plan, Error> {
        let mut transaction = pool.begin().await?;
        sqlx::query("set transaction isolation level repeatable read read only")
            .execute(&mut *transaction)
            .await?;
        let plan = self.plan(&mut transaction).await?;
        transaction.commit().await?;
        Ok(plan)
    }

    /// Accepts the plan if it still has this digest: all fields of all entities that both sides have, and their
    /// records as a whole. `apply` is held off meanwhile, so that nothing comes in between.
    ///
    /// The answer is the plan as it is now, and whether it was accepted.
    pub(crate) async fn approve(
        &self,
        pool: &PgPool,
        digest: &str,
        author: &str,
    ) -> Result<(Plan, bool), Error> {
        let mut transaction = hold_apply_off(pool).await?;
        let plan = self.plan(&mut transaction).await?;
        if plan.digest != digest {
            transaction.rollback().await?;
            return Ok((plan, false));
        }
        let names: Vec<&String> = plan.unapproved.keys().collect();
        for (entity, fields) in &plan.unapproved {
            sqlx::query(
                "insert into mirror.approval (entity_no, field, approved_by, plan_digest)
                 select entity_no, unnest($2::text[]), $3, $4 from mirror.entity where name = $1
                 on conflict (entity_no, field) do nothing",
            )
            .bind(entity)
            .bind(fields)
            .bind(author)
            .bind(digest)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "update mirror.outbox o set due_at = now(), attempt_count = 0
             from mirror.entity e where e.entity_no = o.entity_no and e.name = any($1)",
        )
        .bind(names)
        .execute(&mut *transaction)
        .await?;
        // The pushes are woken with whoever reads commands.
        sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok((plan, true))
    }

    async fn plan(&self, connection: &mut PgConnection) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let mut digest = Sha256::new();
        for (entity, shape) in self.mapping.entities.iter().zip(self.shapes) {
            if !entity.is_two_sided() {
                continue;
            }
            let Some(facts) = Facts::read(connection, entity).await? else { continue };
            let mut unapproved = facts.unapproved(entity);
            if unapproved.is_empty() {
                continue;
            }
            for ids in facts.ids().chunks(CHUNK_RECORD_COUNT) {
                for (id, row) in record::those(connection, entity, shape, ids).await? {
                    let state = facts.state(entity, id, row.is_deleted, row.values);
                    for side in Side::ALL {
                        let tally = plan.tallies.entry(entity.name.clone()).or_default();
                        let tally = tally.entry(side.name().to_owned()).or_default();
                        let Some((kind, cells)) = facts.write(entity, id, &state, side, tally)
                        else {
                            continue;
                        };
                        note(&mut digest, entity, side, id, kind, &cells);
                        let count = match kind {
                            PlannedKind::Create => &mut tally.create,
                            PlannedKind::Update => &mut tally.update,
                            PlannedKind::Id => &mut tally.id,
                        };
                        *count += 1;
                        if *count <= self.keep_count.try_into().unwrap_or(u64::MAX) {
                            plan.writes.push(PlannedWrite {
                                entity: entity.name.clone(),
                                side,
                                record: id,
                                label: (self.label)(entity, &state.canon),
                                kind,
                                cells,
                            });
                        }
                    }
                }
            }
            // Which fields it is about is part of what is accepted.
            unapproved.sort_unstable();
            digest.update(format!("{}: {}\n", entity.name, unapproved.join(" ")));
            plan.unapproved.insert(entity.name.clone(), unapproved);
        }
        if !plan.unapproved.is_empty() {
            plan.digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(plan)
    }
}

fn note(
    digest: &mut Sha256,
    entity: &Entity,
    side: Side,
    record: Uuid,
    kind: PlannedKind,
    cells: &[PlannedCell],
) {
    digest.update(format!("{} {side} {record} {}\n", entity.name, kind.name()));
    for cell in cells {
        // JSON has no line ends of its own: each line says one thing only.
        digest.update(format!("{} {} {}\n", cell.field, cell.there, cell.canonical));
    }
}

/// A transaction during which `apply` commits nothing. It asks for all locks at once and waits with none in hand:
/// one that did could stop a batch half-way, and each the other.
async fn hold_apply_off(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    let mut try_count = 0;
    loop {
        let mut transaction = pool.begin().await?;
        sqlx::query("set transaction isolation level repeatable read")
            .execute(&mut *transaction)
            .await?;
        let locked = sqlx::query(
            "lock table mirror.source_transaction, mirror.journal, mirror.shadow, mirror.absence, mirror.match_question,
                 mirror.approval in share row exclusive mode nowait",
        )
        .execute(&mut *transaction)
        .await;
        try_count += 1;
        match locked {
            Ok(_) => return Ok(transaction),
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(LOCKED) && try_count < LOCK_TRY_COUNT_MAX =>
            {
                transaction.rollback().await?;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the mirror's tables say of one entity.
#[derive(Default)]
struct Facts {
    approved: HashSet<String>,
    shadows: HashMap<Uuid, Vec<(Side, String, Json)>>,
    absent: HashMap<Uuid, Vec<(Side, bool)>>,
    held: HashSet<(Uuid, String)>,
    parked: HashMap<(Uuid, Side), Vec<(String, Json)>>,
    questioned: HashSet<Uuid>,
}

impl Facts {
    /// `None`: nothing was ever read of it.
    async fn read(connection: &mut PgConnection, entity: &Entity) -> Result<Option<Self>, Error> {
        let number: Option<i16> =
            sqlx::query_scalar("select entity_no from mirror.entity where name = $1")
                .bind(&entity.name)
                .fetch_optional(&mut *connection)
                .await?;
        let Some(number) = number else { return Ok(None) };
        let mut facts = Self::default();
        let approved: Vec<String> =
            sqlx::query_scalar("select field from mirror.approval where entity_no = $1")
                .bind(number)
                .fetch_all(&mut *connection)
                .await?;
        facts.approved.extend(approved);
        let rows: Vec<(Uuid, String, String, Json)> = sqlx::query_as(
            "select record_id, side, field, value from mirror.shadow where entity_no = $1",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        for (record, side, field, value) in rows {
            if let Some(side) = Side::from_name(&side) {
                facts.shadows.entry(record).or_default().push((side, field, value));
            }
        }
        let rows: Vec<(Uuid, String, bool)> = sqlx::query_as(
            "select record_id, side, was_deleted from mirror.absence where entity_no = $1",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        for (record, side, was_deleted) in rows {
            if let Some(side) = Side::from_name(&side) {
                facts.absent.entry(record).or_default().push((side, was_deleted));
            }
        }
        let rows: Vec<(Uuid, String)> = sqlx::query_as(
            "select record_id, field from mirror.conflict
             where entity_no = $1 and decision = 'held' and decided_at is null and field is not null",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        facts.held.extend(rows);
        let rows: Vec<(Uuid, String, String, Option<Json>)> = sqlx::query_as(
            "select record_id, side, field, value from mirror.parked where entity_no = $1",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        for (record, side, field, value) in rows {
            if let Some(side) = Side::from_name(&side) {
                let cells = facts.parked.entry((record, side)).or_default();
                cells.push((field, value.unwrap_or_default()));
            }
        }
        // A record that another may be waits like that one: to create it would be to make a twin of the other.
        let rows: Vec<Uuid> = sqlx::query_scalar(
            "select unnest(record_id || candidates) from mirror.match_question
             where entity_no = $1 and answered_at is null",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        facts.questioned.extend(rows);
        Ok(Some(facts))
    }

    fn unapproved(&self, entity: &Entity) -> Vec<String> {
        let names = entity.fields.iter().map(|field| field.name.as_str());
        let all = std::iter::once(WHOLE_RECORD).chain(names);
        all.filter(|name| !self.approved.contains(*name)).map(str::to_owned).collect()
    }

    /// The records to which anything may be owed.
    fn ids(&self) -> Vec<Uuid> {
        let ids: BTreeSet<Uuid> = self.shadows.keys().chain(self.absent.keys()).copied().collect();
        ids.into_iter().collect()
    }

    fn state(
        &self,
        entity: &Entity,
        id: Uuid,
        is_deleted: bool,
        values: Vec<Value>,
    ) -> RecordState {
        let mut state = RecordState::unknown(entity);
        state.exists = true;
        state.is_deleted = is_deleted;
        state.canon = values;
        state.absent = self.absent.get(&id).cloned().unwrap_or_default();
        for (side, name, value) in self.shadows.get(&id).into_iter().flatten() {
            if name == ID_FIELD {
                let carried = value.as_str().and_then(|text| Uuid::try_parse(text).ok());
                state.see_id(RecordId(id), carried);
            } else if let Some((no, field)) = fields(entity).find(|(_, field)| field.name == *name)
            {
                state.shadow.push((*side, no, field.from_json(value)));
            }
        }
        state
    }

    /// What would be written of a record once all was approved, less what is approved already.
    fn write(
        &self,
        entity: &Entity,
        id: Uuid,
        state: &RecordState,
        side: Side,
        tally: &mut Tally,
    ) -> Option<(PlannedKind, Vec<PlannedCell>)> {
        let no_of = |name: &str| fields(entity).find(|(_, field)| field.name == name);
        let is_held = |name: &str| self.held.contains(&(id, name.to_owned()));
        let parked = self.parked.get(&(id, side)).map_or(&[][..], Vec::as_slice);
        let is_questioned = self.questioned.contains(&id);
        let restraints = Restraints {
            held: fields(entity).filter(|(_, it)| is_held(&it.name)).map(|(no, _)| no).collect(),
            parked: parked
                .iter()
                .filter_map(|(name, value)| {
                    no_of(name).map(|(no, field)| (no, field.from_json(value)))
                })
                .collect(),
            is_parked: parked.iter().any(|(name, _)| name == WHOLE_RECORD),
            is_approved: true,
            unapproved: Vec::new(),
            is_questioned,
            delete: None,
        };
        let is_unapproved = |no: FieldNo| !self.approved.contains(&entity.field(no).name);
        if !state.is_alive() {
            return None;
        }
        let is_absent = state.is_absent_on(side);
        tally.questioned += u64::from(is_absent && is_questioned);
        let held = restraints.held.iter().filter(|no| {
            let differs =
                |(holder, shadow, _): &(Side, FieldNo, Value)| *holder == side && shadow == *no;
            !is_absent && is_unapproved(**no) && state.shadow.iter().any(differs)
        });
        tally.held += u64::try_from(held.count()).unwrap_or_default();
        let is_whole_approved = self.approved.contains(WHOLE_RECORD);
        let (kind, sent) = match owed(entity, state, side, &restraints) {
            Owed::Create(sent) => (PlannedKind::Create, sent),
            Owed::Update(sent) => (PlannedKind::Update, sent),
            Owed::Nothing | Owed::Delete => (PlannedKind::Id, Vec::new()),
        };
        let is_all = kind == PlannedKind::Create && !is_whole_approved;
        let mut cells: Vec<PlannedCell> = sent
            .into_iter()
            .filter(|cell| is_all || is_unapproved(cell.field))
            .map(|cell| PlannedCell {
                field: entity.field(cell.field).name.clone(),
                there: cell.expected.to_json(),
                canonical: cell.value.to_json(),
            })
            .collect();
        if kind == PlannedKind::Update {
            tally.cell += u64::try_from(cells.len()).unwrap_or_default();
        }
        let is_update = kind == PlannedKind::Update && !cells.is_empty();
        if state.owes_id(side) && !restraints.is_parked && !is_whole_approved {
            let carried = state.other_id.flatten().map_or(Value::Null, Value::Uuid);
            cells.push(PlannedCell {
                field: ID_FIELD.to_owned(),
                there: carried.to_json(),
                canonical: Value::Uuid(id).to_json(),
            });
            if !is_update {
                return Some((PlannedKind::Id, cells));
            }
        }
        let is_something = is_all || !cells.is_empty();
        is_something.then_some((kind, cells))
    }
}

/// A plan that was shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) digest: String,
    pub(crate) tallies: Tallies,
}

/// Remembers what a person was shown.
pub(crate) async fn note_shown(pool: &PgPool, plan: &Plan) -> Result<(), Error> {
    sqlx::query("insert into mirror.plan (digest, tallies) values ($1, $2)")
        .bind(&plan.digest)
        .bind(sqlx::types::Json(&plan.tallies))
        .execute(pool)
        .await?;
    Ok(())
}

/// The plan that was shown last.
pub(crate) async fn last_shown(pool: &PgPool) -> Result<Option<Shown>, Error> {
    let row: Option<(String, sqlx::types::Json<Tallies>)> =
        sqlx::query_as("select digest, tallies from mirror.plan order by plan_id desc limit 1")
            .fetch_optional(pool)
            .await?;
    Ok(row.map(|(digest, tallies)| Shown { digest, tallies: tallies.0 }))
}
