//! Where a side is known not to hold what is canonical, and why: all of one entity's, for comparing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Error, approval,
    catalog::TableShape,
    record::{CanonRecord, page},
};
use crate::{
    mapping::{Entity, Mapping},
    model::Side,
};

/// Rows fetched at a time.
const PAGE_ROW_COUNT: i64 = 5_000;

/// By what a side does not hold what is canonical.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) shadow: BTreeMap<(Side, Uuid, String), Json>,
    pub(crate) absent: BTreeSet<(Side, Uuid)>,
    /// Of those, records that the side has outside the rows that are mirrored.
    pub(crate) outside: BTreeSet<(Side, Uuid)>,
    /// Cells that wait for a person.
    pub(crate) held: BTreeSet<(Uuid, String)>,
    /// With the reason; the field `*`: the whole record.
    pub(crate) parked: BTreeMap<(Side, Uuid, String), String>,
    /// Cells of a side that do not fit, by its key.
    pub(crate) refused: BTreeMap<(Side, String, String), String>,
    pub(crate) pending_delete: BTreeSet<(Side, Uuid)>,
    pub(crate) in_flight: BTreeSet<(Side, Uuid)>,
    /// What the guard for mass changes holds.
    pub(crate) stopped: BTreeSet<(Side, Uuid)>,
    pub(crate) questioned: BTreeSet<Uuid>,
    /// Fields of which the plan was accepted; `*`: records as a whole.
    pub(crate) approved: HashSet<String>,
}

/// Canonical, and where the sides stand, at one moment.
pub(crate) async fn read(
    pool: &PgPool,
    mapping: &Mapping,
    entity: &Entity,
    shape: &TableShape,
) -> Result<(BTreeMap<Uuid, CanonRecord>, Standing), Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read read only")
        .execute(&mut *transaction)
        .await?;
    let number: Option<i16> =
        sqlx::query_scalar("select entity_no from mirror.entity where name = $1")
            .bind(&entity.name)
            .fetch_optional(&mut *transaction)
            .await?;
    let mut standing = standing(&mut transaction, number).await?;
    if let Some(number) = number {
        standing.approved = approval::approved(&mut transaction, mapping, entity, number).await?;
    }
    let mut records = BTreeMap::new();
    let mut after = None;
    loop {
        let rows = page(&mut transaction, entity, shape, after, PAGE_ROW_COUNT).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        records.extend(rows.into_iter().map(|row| (row.id, row)));
    }
    transaction.commit().await?;
    Ok((records, standing))
}

async fn standing(connection: &mut PgConnection, number: Option<i16>) -> Result<Standing, Error> {
    let mut standing = Standing::default();
    for row in rows(
        connection,
        number,
        "select side, record_id, field, value from mirror.shadow where entity_no = $1",
    )
    .await?
    {
        if let Some(side) = side(&row) {
            standing.shadow.insert((side, row.get(1), row.get(2)), row.get(3));
        }
    }
    for row in rows(
        connection,
        number,
        "select side, record_id, is_outside from mirror.absence where entity_no = $1",
    )
    .await?
    {
        let absent = side(&row).map(|side| (side, row.get(1)));
        standing.absent.extend(absent);
        standing.outside.extend(absent.filter(|_| row.get(2)));
    }
    for row in rows(
        connection,
        number,
        "select side, record_id, field from mirror.conflict
         where entity_no = $1 and decision = 'held' and decided_at is null and field is not null",
    )
    .await?
    {
        standing.held.insert((row.get(1), row.get(2)));
    }
    for row in rows(
        connection,
        number,
        "select side, record_id, field, reason from mirror.parked where entity_no = $1",
    )
    .await?
    {
        if let Some(side) = side(&row) {
            standing.parked.insert((side, row.get(1), row.get(2)), row.get(3));
        }
    }
    for row in rows(
        connection,
        number,
        "select side, side_key, field, reason from mirror.refusal where entity_no = $1",
    )
    .await?
    {
        if let Some(side) = side(&row) {
            standing.refused.insert((side, row.get(1), row.get(2)), row.get(3));
        }
    }
    for row in rows(
        connection,
        number,
        "select side, record_id from mirror.pending_delete where entity_no = $1",
    )
    .await?
    {
        standing.pending_delete.extend(side(&row).map(|side| (side, row.get(1))));
    }
    for row in rows(
        connection,
        number,
        "select side, record_id from mirror.operation where entity_no = $1 and settled_at is null",
    )
    .await?
    {
        standing.in_flight.extend(side(&row).map(|side| (side, row.get(1))));
    }
    for row in rows(
        connection,
        number,
        "select side, record_id from mirror.outbox where entity_no = $1 and stopped_by is not null",
    )
    .await?
    {
        standing.stopped.extend(side(&row).map(|side| (side, row.get(1))));
    }
    for row in rows(
        connection,
        number,
        "select side, record_id from mirror.match_question where entity_no = $1 and answered_at is null",
    )
    .await?
    {
        standing.questioned.insert(row.get(1));
    }
    Ok(standing)
}

async fn rows(
    connection: &mut PgConnection,
    number: Option<i16>,
    sql: &'static str,
) -> Result<Vec<PgRow>, Error> {
    Ok(sqlx::query(sql).bind(number).fetch_all(connection).await?)
}

fn side(row: &PgRow) -> Option<Side> {
    Side::from_name(row.get(0))
}

/// How far the journal and the logs are: two answers that are equal have nothing between them.
pub(crate) async fn mark(pool: &PgPool) -> Result<String, Error> {
    Ok(sqlx::query_scalar(
        "select concat_ws(' ', (select max(journal_id) from mirror.journal),
             (select string_agg(position, ' ' order by log) from mirror.position))",
    )
    .fetch_one(pool)
    .await?)
}
