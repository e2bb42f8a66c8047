//! Reading the states of the records that a batch names.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    Error,
    catalog::{TableShape, quoted},
    column::{AsItIs, is_read_as_it_is},
    identity::ID_FIELD,
    operation::{OPERATIONS, read_operation},
    session::Param,
    writer::{ELEMENT_ROWS, Writer},
};
use crate::{
    mapping::{Entity, Field, Store},
    merge::{RecordState, is_unread_json, unread},
    model::{EntityNo, FieldNo, RecordId, Side, SideKey, Value},
};

/// A row of a side's junction table, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElementRow {
    pub(crate) row: SideKey,
    pub(crate) record: RecordId,
    pub(crate) element: String,
}

impl Writer {
    /// The states of `records`; one that canonical does not have is in the answer too, as unknown.
    pub(crate) async fn states(
        &self,
        entity: EntityNo,
        records: Vec<Uuid>,
    ) -> Result<HashMap<RecordId, RecordState>, Error> {
        let mapping = std::sync::Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let number = self.entity_number(entity);
        let mut calls: Vec<(String, Vec<Param>)> = Vec::new();
        let select = select_rows(described, self.shape(entity));
        calls.push((select, vec![Box::new(records.clone())]));
        for (is_needed, sql) in [
            (
                described.is_two_sided(),
                "select record_id, side, field, value::text from mirror.shadow where entity_no = $1 and record_id = any($2)",
            ),
            (
                described.has_absences(),
                "select record_id, side, was_deleted, is_outside from mirror.absence where entity_no = $1 and record_id = any($2)",
            ),
        ] {
            if is_needed {
                calls.push((sql.to_owned(), vec![Box::new(number), Box::new(records.clone())]));
            }
        }
        let mut sets = Vec::new();
        for (no, field) in fields(described) {
            if let Store::Junction { table, parent, element } = &field.store {
                let sql = format!(
                    "select {parent}, {element}::text from canon.{table} where {parent} = any($1)",
                    parent = quoted(parent),
                    element = quoted(element),
                    table = quoted(table)
                );
                calls.push((sql, vec![Box::new(records.clone())]));
                sets.push(no);
            }
        }
        let has_operations = self.has_operations(entity);
        let has_doomed = described.is_two_sided() && self.doomed.contains(&entity);
        if has_operations {
            calls.push((OPERATIONS.to_owned(), vec![Box::new(number), Box::new(records.clone())]));
        }
        if has_doomed {
            let sql = "select record_id, side from mirror.pending_delete where entity_no = $1 and record_id = any($2)";
            calls.push((sql.to_owned(), vec![Box::new(number), Box::new(records.clone())]));
        }
        let answers = self.query_all(&calls).await?;
        let mut answers = answers.into_iter();
        let mut states: HashMap<RecordId, RecordState> = records
            .iter()
            .map(|record| (RecordId(*record), RecordState::unknown(described)))
            .collect();
        for row in answers.next().unwrap_or_default() {
            if let Some(state) = states.get_mut(&RecordId(row.get(0))) {
                read_row(described, &row, state);
            }
        }
        if described.is_two_sided() {
            for row in answers.next().unwrap_or_default() {
                read_shadow(described, &row, &mut states);
            }
        }
        if described.has_absences() {
            for row in answers.next().unwrap_or_default() {
                if let (Some(state), Some(side)) =
                    (states.get_mut(&RecordId(row.get(0))), Side::from_name(row.get(1)))
                {
                    state.absent.push((side, row.get(2)));
                    state.outside.extend(row.get::<_, bool>(3).then_some(side));
                }
            }
        }
        for (no, rows) in sets.into_iter().zip(&mut answers) {
            let mut elements: HashMap<RecordId, Vec<String>> = HashMap::new();
            for row in rows {
                elements.entry(RecordId(row.get(0))).or_default().push(row.get(1));
            }
            for (record, elements) in elements {
                if let Some(state) = states.get_mut(&record) {
                    state.canon[usize::from(no.0)] = Value::set(elements);
                }
            }
        }
        if has_operations {
            for row in answers.next().unwrap_or_default() {
                if let (Some(state), Some(operation)) =
                    (states.get_mut(&RecordId(row.get(0))), read_operation(described, &row))
                {
                    state.operations.push(operation);
                }
            }
        }
        if has_doomed {
            for row in answers.next().unwrap_or_default() {
                if let (Some(state), Some(side)) =
                    (states.get_mut(&RecordId(row.get(0))), Side::from_name(row.get(1)))
                {
                    state.doomed.push(side);
                }
            }
        }
        self.remember(entity, &mut states).await?;
        Ok(states)
    }

    /// Rows of a side's junction table: those with these keys, and all those of these records.
    pub(crate) async fn elements(
        &self,
        side: Side,
        entity: EntityNo,
        field: &Field,
        rows: &[&str],
        records: &HashSet<Uuid>,
    ) -> Result<Vec<ElementRow>, Error> {
        let records: Vec<Uuid> = records.iter().copied().collect();
        let found = self
            .query(
                "with named as (
                     select record_id from mirror.element
                     where side = $1 and entity_no = $2 and field = $3 and row_key = any($4))
                 select row_key, record_id, element from mirror.element
                 where side = $1 and entity_no = $2 and field = $3
                   and record_id in (select record_id from named union all select unnest($5::uuid[]))",
                &[&side.name(), &self.entity_number(entity), &field.name, &rows, &records],
            )
            .await?;
        Ok(found
            .iter()
            .map(|row| ElementRow {
                row: SideKey::from(row.get::<_, &str>(0)),
                record: RecordId(row.get(1)),
                element: row.get(2),
            })
            .collect())
    }

    /// The keys of all known rows of a side's junction table.
    pub(crate) async fn element_rows(
        &self,
        side: Side,
        entity: EntityNo,
        field: FieldNo,
    ) -> Result<Vec<SideKey>, Error> {
        let name = &self.mapping.entity(entity).field(field).name;
        let rows =
            self.query(ELEMENT_ROWS, &[&side.name(), &self.entity_number(entity), name]).await?;
        Ok(rows.iter().map(|row| SideKey::from(row.get::<_, &str>(0))).collect())
    }
}

pub(super) fn fields(entity: &Entity) -> impl Iterator<Item = (FieldNo, &Field)> {
    entity
        .fields
        .iter()
        .enumerate()
        .map(|(at, field)| (FieldNo(u16::try_from(at).unwrap_or(u16::MAX)), field))
}

/// `id`, whether deleted, then each column field, as text where that is not its own type.
fn select_rows(entity: &Entity, shape: &TableShape) -> String {
    let deleted = if shape.has_deleted_at { "deleted_at is not null" } else { "false" };
    let mut sql = format!("select id, {deleted}");
    for (field, cast) in entity.fields.iter().zip(&shape.casts) {
        if let (Store::Column(column), Some(cast)) = (&field.store, cast) {
            sql.push_str(", ");
            sql.push_str(&quoted(column));
            if !is_read_as_it_is(&field.kind, cast) {
                sql.push_str("::text");
            }
        }
    }
    sql.push_str(" from ");
    sql.push_str(&shape.table);
    sql.push_str(" where id = any($1)");
    sql
}

fn read_row(entity: &Entity, row: &Row, state: &mut RecordState) {
    state.exists = true;
    state.is_deleted = row.get(1);
    let mut column = 2;
    for (at, field) in entity.fields.iter().enumerate() {
        if matches!(field.store, Store::Column(_)) {
            state.canon[at] = if *row.columns()[column].type_() == Type::TEXT {
                field.read_canonical(row.get(column))
            } else {
                let value: Option<AsItIs> = row.get(column);
                value.map_or_else(|| field.read_canonical(None), |value| value.0)
            };
            column += 1;
        }
    }
}

fn read_shadow(entity: &Entity, row: &Row, states: &mut HashMap<RecordId, RecordState>) {
    let (side, name, text): (&str, &str, &str) = (row.get(1), row.get(2), row.get(3));
    let (Some(state), Some(side)) = (states.get_mut(&RecordId(row.get(0))), Side::from_name(side))
    else {
        return;
    };
    if name == ID_FIELD {
        // Without a field for it, nothing can be put right.
        let has_field = entity.airtable.as_ref().is_some_and(|table| table.uuid.is_some());
        state.other_id = has_field.then(|| serde_json::from_str(text).ok());
        return;
    }
    // A field that the mapping no longer has keeps its shadow until it comes back.
    let Some((no, field)) = fields(entity).find(|(_, field)| field.name == name) else { return };
    // jsonb prints valid JSON.
    let value = serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
    let value = if is_unread_json(&value) { unread() } else { field.from_json(&value) };
    state.shadow.push((side, no, value));
}
