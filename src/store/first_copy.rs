//! Filling empty tables: foreign keys and secondary indexes are taken off before and made again after, all in
//! the one transaction of the copy, so that a crash leaves the tables as they were.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;

use super::{Error, catalog::quoted, copy_text::CopyText, write::RefusalRow, writer::Writer};
use crate::{
    mapping::Store,
    model::{EntityNo, RawText, RecordId, RefusalKind, Side, SideKey, Value},
};

/// Tries to take the locks, and the pause between two of them.
const LOCK_TRY_COUNT_MAX: usize = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A first copy under way.
pub(crate) struct FirstCopy {
    side: Side,
    /// `COPY` statement of each entity whose table was empty.
    open: HashMap<EntityNo, String>,
    /// What makes the indexes again.
    indexes: Vec<String>,
    foreign_keys: Vec<ForeignKey>,
    refusals: Vec<RefusalRow>,
}

struct ForeignKey {
    table: String,
    column: String,
    parent: String,
    parent_column: String,
    constraint: String,
    make: String,
}

impl FirstCopy {
    /// Takes the indexes and foreign keys off the tables of `side` that are empty; `None` if none is. The
    /// writer is inside a transaction.
    pub(crate) async fn begin(writer: &mut Writer, side: Side) -> Result<Option<Self>, Error> {
        let mapping = std::sync::Arc::clone(&writer.mapping);
        let mut copy = Self {
            side,
            open: HashMap::new(),
            indexes: Vec::new(),
            foreign_keys: Vec::new(),
            refusals: Vec::new(),
        };
        let mut tables = Vec::new();
        for (at, entity) in mapping.entities.iter().enumerate() {
            let no = EntityNo(u16::try_from(at).unwrap_or(u16::MAX));
            let table = writer.shape(no).table.clone();
            let sql = format!("select exists (select from {table})");
            let has_rows: bool = writer.client().query_one(&sql, &[]).await?.get(0);
            if entity.is_on(side) && !has_rows {
                tables.push((no, table));
            }
        }
        if tables.is_empty() || !lock(writer, &tables).await? {
            return Ok(None);
        }
        for (no, table) in tables {
            let entity = mapping.entity(no);
            let mut columns = String::from("id");
            for field in &entity.fields {
                if let Store::Column(column) = &field.store {
                    columns.push_str(&format!(", {}", quoted(column)));
                }
            }
            copy.open.insert(no, format!("copy {table} ({columns}) from stdin"));
            copy.take_off(writer, &table).await?;
        }
        Ok(Some(copy))
    }

    async fn take_off(&mut self, writer: &Writer, table: &str) -> Result<(), Error> {
        let client = writer.client();
        let rows = client
            .query(
                "select conname, pg_get_constraintdef(c.oid), confrelid::regclass::text, a.attname, b.attname
                 from pg_constraint c
                 join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
                 join pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1]
                 where c.conrelid = $1::text::regclass and c.contype = 'f' and cardinality(c.conkey) = 1",
                &[&table],
            )
            .await?;
        for row in rows {
            let constraint = quoted(row.get(0));
            let definition: &str = row.get(1);
            client
                .batch_execute(&format!("alter table {table} drop constraint {constraint}"))
                .await?;
            self.foreign_keys.push(ForeignKey {
                table: table.to_owned(),
                column: row.get(3),
                parent: row.get(2),
                parent_column: row.get(4),
                make: format!("alter table {table} add constraint {constraint} {definition}"),
                constraint,
            });
        }
        let rows = client
            .query(
                "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index i
                 where indrelid = $1::text::regclass
                   and not exists (select from pg_constraint c where c.conindid = i.indexrelid)",
                &[&table],
            )
            .await?;
        for row in rows {
            client.batch_execute(&format!("drop index {}", row.get::<_, &str>(0))).await?;
            self.indexes.push(row.get(1));
        }
        Ok(())
    }

    pub(crate) fn is_open_for(&self, entity: EntityNo) -> bool {
        self.open.contains_key(&entity)
    }

    /// Notes cells that were left out; they are written at the end.
    pub(crate) fn refuse_later(&mut self, refusals: Vec<RefusalRow>) {
        self.refusals.extend(refusals);
    }

    /// Copies rows that canonical does not have.
    ///
    /// # Errors
    /// None of them was written then.
    pub(crate) async fn copy(
        &mut self,
        writer: &mut Writer,
        entity: EntityNo,
        rows: &[(RecordId, Vec<Value>)],
    ) -> Result<(), Error> {
        let Some(statement) = self.open.get(&entity) else { return Ok(()) };
        let mapping = std::sync::Arc::clone(&writer.mapping);
        let fields = &mapping.entity(entity).fields;
        let client = writer.client();
        client.batch_execute("savepoint part").await?;
        let mut text = CopyText::with_capacity(rows.len() * 256);
        for (record, values) in rows {
            text.put(record);
            for (field, value) in fields.iter().zip(values) {
                if matches!(field.store, Store::Column(_)) {
                    match value.to_sql() {
                        Some(value) => text.put(&value),
                        None => text.put_null(),
                    }
                }
            }
            text.end_row();
        }
        let copied = async {
            let sink = client.copy_in::<_, Bytes>(statement.as_str()).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(text.into_bytes()).await?;
            sink.finish().await
        }
        .await;
        match copied {
            Ok(_) => Ok(client.batch_execute("release savepoint part").await?),
            Err(error) => {
                client.batch_execute("rollback to savepoint part").await?;
                Err(error.into())
            }
        }
    }

    /// Makes the indexes and foreign keys again. A link to a record that did not come is emptied first and
    /// listed. Records that the other sides lack are noted as such.
    pub(crate) async fn end(
        self,
        writer: &mut Writer,
        transaction: i64,
    ) -> Result<Vec<RefusalRow>, Error> {
        let mapping = std::sync::Arc::clone(&writer.mapping);
        let mut refusals = self.refusals;
        for index in &self.indexes {
            writer.client().batch_execute(index).await?;
        }
        for key in &self.foreign_keys {
            let (column, parent_column) = (quoted(&key.column), quoted(&key.parent_column));
            let sql = format!(
                "update {} t set {column} = null
                 from (select c.id, c.{column} as lost, coalesce(l.side_key, c.id::text) as side_key from {} c
                       left join mirror.link l on l.record_id = c.id and l.entity_no = $1 and l.side = $2
                       where c.{column} is not null
                         and not exists (select from {} p where p.{parent_column} = c.{column})) x
                 where t.id = x.id returning x.side_key, x.lost::text",
                key.table, key.table, key.parent
            );
            let of_it = mapping.entities.iter().enumerate();
            let at = of_it.map(|(at, _)| at).find(|at| writer.shapes[*at].table == key.table);
            let number = at.map(|at| writer.entity_numbers[at]);
            for row in writer.client().query(&sql, &[&number, &self.side.name()]).await? {
                let Some((at, entity)) = mapping
                    .entities
                    .iter()
                    .enumerate()
                    .find(|(at, _)| writer.shapes[*at].table == key.table)
                else {
                    continue;
                };
                let field = entity.fields.iter().find(
                    |field| matches!(&field.store, Store::Column(column) if *column == key.column),
                );
                refusals.push(RefusalRow {
                    side: self.side,
                    entity: EntityNo(u16::try_from(at).unwrap_or(u16::MAX)),
                    key: SideKey::from(row.get::<_, &str>(0)),
                    record: None,
                    raw: Some(RawText::of_text(row.get(1))),
                    field: field.map_or_else(|| key.column.clone(), |field| field.name.clone()),
                    kind: RefusalKind::UnknownTarget,
                    reason: format!(
                        "names something that the canonical database does not have ({}); it is taken as soon as that is there",
                        key.constraint
                    ),
                    waits_for: Some(vec![row.get(1)]),
                    transaction,
                });
            }
            writer.client().batch_execute(&key.make).await?;
        }
        for no in self.open.keys() {
            let entity = mapping.entity(*no);
            for side in
                Side::ALL.into_iter().filter(|side| *side != self.side && entity.is_on(*side))
            {
                let sql = format!(
                    "insert into mirror.absence (record_id, entity_no, side, source_transaction_id, was_deleted)
                     select id, $1, $2, $3, false from {} on conflict do nothing",
                    writer.shape(*no).table
                );
                let number = writer.entity_number(*no);
                writer.client().execute(&sql, &[&number, &side.name(), &transaction]).await?;
                writer.lacking.insert((side, *no));
            }
        }
        Ok(refusals)
    }
}

/// Takes all locks that a first copy will need at once, or none: one that waited with some of them in hand could
/// deadlock with a reader of several tables. Begins the transaction anew for each try; `false` when readers never
/// leave a gap, and the copy has to go the usual way.
async fn lock(writer: &mut Writer, tables: &[(EntityNo, String)]) -> Result<bool, Error> {
    let names: Vec<&str> = tables.iter().map(|(_, table)| table.as_str()).collect();
    let parents = writer
        .client()
        .query(
            "select distinct confrelid::regclass::text from pg_constraint
             where contype = 'f' and conrelid = any (select t::regclass from unnest($1::text[]) t)
               and confrelid <> all (select t::regclass from unnest($1::text[]) t)",
            &[&names],
        )
        .await?;
    let mut sql = format!("lock table {} in access exclusive mode nowait", names.join(", "));
    let parents: Vec<String> = parents.iter().map(|row| row.get(0)).collect();
    if !parents.is_empty() {
        sql.push_str(&format!(
            "; lock table {} in share row exclusive mode nowait",
            parents.join(", ")
        ));
    }
    for _ in 0..LOCK_TRY_COUNT_MAX {
        match writer.client().batch_execute(&sql).await {
            Ok(()) => return Ok(true),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                writer.rollback().await?;
                tokio::time::sleep(LOCK_PAUSE).await;
                writer.begin().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
