//! Our own writes to the sides, as the merge needs to know them; and which entities have any, so that nobody asks
//! where there are none.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value as Json;
use sqlx::PgPool;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Error, mass::MASS_TOLD, owed::ANSWERS_ITSELF_TOLD, state::fields, writer::Writer};
use crate::{
    mapping::Entity,
    merge::{Operation, OperationKind, RecordState, SentCell},
    model::{EntityNo, RecordId, RefusalKind, Side, SideKey, is_erased},
};

/// The writes to these records, the newest last: `$1`, the entity's number; `$2`, the records.
pub(crate) const OPERATIONS: &str =
    "select record_id, operation_id, side, kind, cells::text, settled_at is not null, is_partial, answer_count
     from mirror.operation where entity_no = $1 and record_id = any($2) order by bound_at, operation_id";

/// Puts all that is owed into the outbox, or may be: `$1`, the entities' numbers. What is in it already stays as it
/// is, and what turns out not to be owed is dropped by the next push.
pub(crate) const QUEUE_ALL: &str =
    "insert into mirror.outbox (side, entity_no, record_id)
     select side, entity_no, record_id from mirror.absence where entity_no = any($1) and not is_outside
     union select side, entity_no, record_id from mirror.shadow where entity_no = any($1)
     union select side, entity_no, record_id from mirror.pending_delete where entity_no = any($1) and approved_at is not null
     union select side, entity_no, record_id from mirror.operation where entity_no = any($1) and settled_at is null
     on conflict do nothing";

/// Which entities have rows in tables that push writes, and `apply` reads only then. Shared between the two; never
/// cleared, since a row too many to look for costs little.
#[derive(Debug)]
pub(crate) struct Marks {
    operations: Vec<AtomicBool>,
    parked: Vec<AtomicBool>,
    /// Junction rows whose columns are kept after them.
    left: Vec<AtomicBool>,
    /// Rows of the outbox that the guard for mass changes holds, of any entity.
    stops: AtomicBool,
}

impl Marks {
    pub(super) fn new(entity_count: usize) -> Self {
        let none = || (0..entity_count).map(|_| AtomicBool::new(false)).collect();
        Self { operations: none(), parked: none(), left: none(), stops: AtomicBool::new(false) }
    }

    /// To be called before an operation is sent: its echo may come at once.
    pub(crate) fn note_operation(&self, entity: EntityNo) {
        self.operations[usize::from(entity.0)].store(true, Ordering::SeqCst);
    }

    pub(super) fn note_stop(&self) {
        self.stops.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    pub(crate) fn note_parked(&self, entity: EntityNo) {
        self.parked[usize::from(entity.0)].store(true, Ordering::SeqCst);
    }

    pub(super) fn note_left(&self, entity: EntityNo) {
        self.left[usize::from(entity.0)].store(true, Ordering::SeqCst);
    }

    pub(super) fn has_left(&self, entity: EntityNo) -> bool {
        self.left[usize::from(entity.0)].load(Ordering::SeqCst)
    }

    fn has_operations(&self, entity: EntityNo) -> bool {
        self.operations[usize::from(entity.0)].load(Ordering::SeqCst)
    }

    fn has_parked(&self, entity: EntityNo) -> bool {
        self.parked[usize::from(entity.0)].load(Ordering::SeqCst)
    }
}

/// A row of [`OPERATIONS`]. `None`: of a side or a kind that this plait does not know.
pub(crate) fn read_operation(entity: &Entity, row: &Row) -> Option<Operation> {
    let cells: Json = serde_json::from_str(row.get(4)).unwrap_or_default();
    Some(Operation {
        id: row.get(1),
        side: Side::from_name(row.get(2))?,
        kind: OperationKind::from_name(row.get(3))?,
        cells: cells_from_json(entity, &cells),
        is_settled: row.get(5),
        is_partial: row.get(6),
        answer_count: row.get::<_, i16>(7).unsigned_abs(),
    })
}

/// `mirror.operation.cells`. A field that the mapping no longer has is left out.
pub(crate) fn cells_from_json(entity: &Entity, cells: &Json) -> Vec<SentCell> {
    let cell = |(no, field): (_, &crate::mapping::Field)| {
        let cell = cells.get(&field.name)?;
        let read = |key: &str| field.from_json(cell.get(key).unwrap_or(&Json::Null));
        Some(SentCell { field: no, expected: read("expected"), value: read("value") })
    };
    fields(entity).filter_map(cell).collect()
}

/// The inverse of [`cells_from_json`].
pub(crate) fn cells_to_json(entity: &Entity, cells: &[SentCell]) -> Json {
    let cell = |cell: &SentCell| {
        let content = serde_json::json!({ "expected": cell.expected.to_json(), "value": cell.value.to_json() });
        (entity.field(cell.field).name.clone(), content)
    };
    Json::Object(cells.iter().map(cell).collect())
}

/// A create of ours, and what is known of the row that it made.
#[derive(Clone, Debug)]
pub(crate) struct Creation {
    pub(crate) operation: Uuid,
    pub(crate) record: RecordId,
    pub(crate) cells: Vec<SentCell>,
    /// The key that the side's answer named.
    pub(crate) answered: Option<SideKey>,
    /// The key by which the side has the record, by its log; `None`: it does not have it, or not yet.
    pub(crate) key: Option<SideKey>,
}

/// Creates at side `$1` for entity `$2`, with what the link table says of the record.
const CREATIONS: &str =
    "select o.operation_id, o.record_id, o.cells::text, o.side_key, case when a.record_id is null then l.side_key end
     from mirror.operation o
     left join mirror.link l on l.record_id = o.record_id and l.entity_no = o.entity_no and l.side = o.side
     left join mirror.absence a on a.record_id = o.record_id and a.entity_no = o.entity_no and a.side = o.side
     where o.side = $1 and o.entity_no = $2 and o.kind = 'create'";

impl Writer {
    /// The creates among these operations.
    pub(crate) async fn creations(
        &self,
        side: Side,
        entity: EntityNo,
        operations: &[Uuid],
    ) -> Result<Vec<Creation>, Error> {
        let sql = format!("{CREATIONS} and o.operation_id = any($3)");
        let number = self.entity_number(entity);
        let rows = self.query(&sql, &[&side.name(), &number, &operations]).await?;
        Ok(self.read_creations(entity, &rows))
    }

    /// The creates whose row was not seen in the side's log yet, the oldest first.
    pub(crate) async fn open_creations(
        &self,
        side: Side,
        entity: EntityNo,
    ) -> Result<Vec<Creation>, Error> {
        if !self.has_operations(entity) {
            return Ok(Vec::new());
        }
        let sql =
            format!("{CREATIONS} and o.settled_at is null order by o.bound_at, o.operation_id");
        let rows = self.query(&sql, &[&side.name(), &self.entity_number(entity)]).await?;
        let mut open = self.read_creations(entity, &rows);
        open.retain(|creation| creation.key.is_none());
        Ok(open)
    }

    fn read_creations(&self, entity: EntityNo, rows: &[Row]) -> Vec<Creation> {
        let described = self.mapping.entity(entity);
        let key = |text: Option<&str>| text.map(SideKey::from);
        let read = |row: &Row| Creation {
            operation: row.get(0),
            record: RecordId(row.get(1)),
            cells: cells_from_json(
                described,
                &serde_json::from_str(row.get(2)).unwrap_or_default(),
            ),
            answered: key(row.get(3)),
            key: key(row.get(4)),
        };
        rows.iter().map(read).collect()
    }

    /// Of these rows of a side, those that are listed as second copies.
    pub(crate) async fn second_copies(
        &self,
        side: Side,
        entity: EntityNo,
        keys: &[&str],
    ) -> Result<Vec<SideKey>, Error> {
        let kind = RefusalKind::SecondCopy.name();
        let rows = self
            .query(
                "select side_key from mirror.refusal
                 where side = $1 and entity_no = $2 and side_key = any($3) and kind = $4",
                &[&side.name(), &self.entity_number(entity), &keys, &kind],
            )
            .await?;
        Ok(rows.iter().map(|row| SideKey::from(row.get::<_, &str>(0))).collect())
    }

    pub(super) fn has_operations(&self, entity: EntityNo) -> bool {
        self.marks.has_operations(entity)
    }

    pub(crate) fn has_parked(&self, entity: EntityNo) -> bool {
        self.marks.has_parked(entity)
    }

    /// Our writes to these records as they are now: push binds new ones while a batch is on its way.
    pub(crate) async fn operations(
        &self,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashMap<RecordId, Vec<Operation>>, Error> {
        let mut operations: HashMap<RecordId, Vec<Operation>> = HashMap::new();
        if records.is_empty() || !self.has_operations(entity) {
            return Ok(operations);
        }
        let described = self.mapping.entity(entity);
        for row in self.query(OPERATIONS, &[&self.entity_number(entity), &records]).await? {
            operations
                .entry(RecordId(row.get(0)))
                .or_default()
                .extend(read_operation(described, &row));
        }
        Ok(operations)
    }

    /// Reads what records without a row held last, where a side still has them or may get them.
    pub(super) async fn remember(
        &self,
        entity: EntityNo,
        states: &mut HashMap<RecordId, RecordState>,
    ) -> Result<(), Error> {
        let remembered: Vec<Uuid> = states
            .iter()
            .filter(|(_, state)| state.is_remembered())
            .map(|(record, _)| record.0)
            .collect();
        if remembered.is_empty() {
            return Ok(());
        }
        let rows = self
            .query(
                "select distinct on (record_id) record_id, before::text from mirror.journal
                 where record_id = any($2) and entity_no = $1 and action = 'delete'
                 order by record_id, journal_id desc",
                &[&self.entity_number(entity), &remembered],
            )
            .await?;
        let described = self.mapping.entity(entity);
        for row in rows {
            let Some(state) = states.get_mut(&RecordId(row.get(0))) else { continue };
            let last: Json = serde_json::from_str(row.get(1)).unwrap_or_default();
            for (no, field) in fields(described) {
                if let Some(value) = last.get(&field.name).filter(|value| !is_erased(value)) {
                    state.canon[usize::from(no.0)] = field.from_json(value);
                }
            }
        }
        Ok(())
    }

    /// Queues all that is owed to any side of an entity that both have; and says again that deletes were stopped, while
    /// they are.
    pub(crate) async fn queue_all(&self) -> Result<(), Error> {
        let numbers: Vec<i16> = self
            .mapping
            .entities
            .iter()
            .zip(&self.entity_numbers)
            .filter(|(entity, _)| entity.is_two_sided())
            .map(|(_, number)| *number)
            .collect();
        self.client()
            .batch_execute(&format!("begin; {}; commit", super::lease::hold(self.epoch())))
            .await?;
        self.client().execute(QUEUE_ALL, &[&numbers]).await?;
        self.client().execute(include_str!("deletes_stopped.sql"), &[]).await?;
        self.client().execute(ANSWERS_ITSELF_TOLD, &[]).await?;
        self.client().execute(MASS_TOLD, &[]).await?;
        Ok(())
    }
}

/// Drops up to `operation_count_max` of our writes that were settled nine days ago: the payloads that could tell of them
/// once more are gone by then. How many there were.
pub(crate) async fn drop_settled(pool: &PgPool, operation_count_max: i64) -> Result<u64, Error> {
    let dropped = sqlx::query(
        "delete from mirror.operation where ctid = any (array(
             select ctid from mirror.operation where settled_at < now() - interval '9 days'
             order by settled_at limit $1 for update skip locked))",
    )
    .bind(operation_count_max)
    .execute(pool)
    .await?;
    Ok(dropped.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::read,
        model::{FieldNo, Value},
    };

    const MAPPING: &str = r#"
version = 1
[entity.card]
table = "card"
directus = { table = "card" }
deletes = "propagate"
[entity.card.field]
name = { type = "text", directus = "name" }
size = { type = "decimal", scale = 2, directus = "size" }
tags = { type = "multi_select", directus = "tags" }
"#;

    #[test]
    fn operation_cells_are_read_as_they_were_written() {
        let mapping = read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"));
        let entity = mapping.entity(EntityNo(0));
        let size = Value::Decimal(bigdecimal::BigDecimal::new(1250.into(), 2));
        let cell = |no, expected, value| SentCell { field: FieldNo(no), expected, value };
        let cells = vec![
            cell(0, Value::Null, Value::Text("Harbour".into())),
            cell(1, size, Value::Null),
            cell(2, Value::set(vec!["a".into()]), Value::set(vec!["b".into(), "a".into()])),
        ];
        assert_eq!(cells_from_json(entity, &cells_to_json(entity, &cells)), cells);
        // A field that is gone from the mapping is passed over.
        let stranger = serde_json::json!({ "gone": { "expected": 1, "value": 2 } });
        assert!(cells_from_json(entity, &stranger).is_empty());
    }
}
