//! Canonical records as others read them: whole, by id or page by page, and found by any of their names.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Error,
    catalog::{TableShape, quoted},
    reading::entity_number,
};
use crate::{
    mapping::{Entity, Store},
    model::{Side, Value},
};

/// A row of canonical.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CanonRecord {
    pub(crate) id: Uuid,
    /// Marked as deleted.
    pub(crate) is_deleted: bool,
    /// A field each.
    pub(crate) values: Vec<Value>,
}

/// These records, by id; one that canonical does not have is not in the answer.
pub(crate) async fn records(
    pool: &PgPool,
    entity: &Entity,
    shape: &TableShape,
    ids: &[Uuid],
) -> Result<BTreeMap<Uuid, CanonRecord>, Error> {
    let sql = format!("{} where t.id = any($1)", select(entity, shape));
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?;
    let records = rows.iter().map(|row| read(entity, row));
    records
        .map(|record| Ok((record.as_ref().map(|it| it.id).unwrap_or_default(), record?)))
        .collect()
}

/// Up to `row_count_max` records after `after`, in the order of their ids.
pub(crate) async fn page(
    connection: &mut PgConnection,
    entity: &Entity,
    shape: &TableShape,
    after: Option<Uuid>,
    row_count_max: i64,
) -> Result<Vec<CanonRecord>, Error> {
    let sql =
        format!("{} where $1 is null or t.id > $1 order by t.id limit $2", select(entity, shape));
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(after)
        .bind(row_count_max)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| read(entity, row)).collect()
}

/// `id`, whether deleted, then each field as text, sets as an array's.
fn select(entity: &Entity, shape: &TableShape) -> String {
    let deleted = if shape.has_deleted_at { "t.deleted_at is not null" } else { "false" };
    let mut sql = format!("select t.id, {deleted}");
    for field in &entity.fields {
        match &field.store {
            Store::Column(column) => sql.push_str(&format!(", t.{}::text", quoted(column))),
            Store::Junction { table, parent, element } => sql.push_str(&format!(
                ", (select array_agg(j.{}::text)::text from canon.{} j where j.{} = t.id)",
                quoted(element),
                quoted(table),
                quoted(parent)
            )),
        }
    }
    sql.push_str(&format!(" from {} t", shape.table));
    sql
}

fn read(entity: &Entity, row: &PgRow) -> Result<CanonRecord, Error> {
    let mut values = Vec::with_capacity(entity.fields.len());
    for (at, field) in entity.fields.iter().enumerate() {
        let text: Option<String> = row.try_get(at + 2)?;
        values.push(field.read_canonical(text.as_deref()));
    }
    Ok(CanonRecord { id: row.try_get(0)?, is_deleted: row.try_get(1)?, values })
}

/// The records that `name` may mean: a canonical id, or what a side calls it.
pub(crate) async fn find(pool: &PgPool, entity: &str, name: &str) -> Result<Vec<Uuid>, Error> {
    let id = Uuid::try_parse(name).ok();
    Ok(sqlx::query_scalar(include_str!("record_find.sql"))
        .bind(entity)
        .bind(name)
        .bind(id)
        .fetch_all(pool)
        .await?)
}

/// Whether canonical has a row with this id, or had one.
pub(crate) async fn is_known(
    pool: &PgPool,
    entity: &Entity,
    shape: &TableShape,
    id: Uuid,
) -> Result<bool, Error> {
    let sql = format!(
        "select exists (select from {} where id = $1)
             or exists (select from mirror.journal j join mirror.entity e using (entity_no)
                 where j.record_id = $1 and e.name = $2)",
        shape.table
    );
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(&entity.name)
        .fetch_one(pool)
        .await?)
}

/// How a side calls a record, where that is not the canonical id.
pub(crate) async fn side_key(
    pool: &PgPool,
    side: Side,
    entity: &str,
    record: Uuid,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar(
        "select side_key from mirror.link join mirror.entity e using (entity_no)
         where side = $1 and e.name = $2 and record_id = $3",
    )
    .bind(side.name())
    .bind(entity)
    .bind(record)
    .fetch_optional(pool)
    .await?)
}

/// How a side calls these records, where that is not the canonical id.
pub(crate) async fn side_keys(
    pool: &PgPool,
    side: Side,
    entity: &str,
) -> Result<BTreeMap<String, Uuid>, Error> {
    let number = entity_number(pool, entity).await?;
    let rows: Vec<(String, Uuid)> = sqlx::query_as(
        "select side_key, record_id from mirror.link where side = $1 and entity_no = $2",
    )
    .bind(side.name())
    .bind(number)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().collect())
}
