//! Edits that no API offers: as a person in the app, an automation, a form; to data and to the schema.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::State;
use super::reply::{Answer, invalid_request, record_not_found, unknown_field};
use super::schema::{
    delete_field, delete_table, edit_table, make_field, make_table, make_view, rename_choice,
    rename_field, retype_field,
};
use super::transaction::{Actor, Transaction};
use super::write::{apply, parse_fields};

/// One edit. Tables and fields by name or id; values as over REST.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    Create {
        table: String,
        #[serde(default)]
        fields: Map<String, Value>,
    },
    Update {
        table: String,
        record: String,
        fields: Map<String, Value>,
    },
    Delete {
        table: String,
        record: String,
    },
    /// Brings a deleted record back under its id.
    Restore {
        record: String,
    },
    /// A copy of a record, whatever identifies it included.
    Duplicate {
        table: String,
        record: String,
    },
    CreateTable {
        spec: Value,
    },
    RenameTable {
        table: String,
        name: String,
    },
    DeleteTable {
        table: String,
    },
    /// Brings a deleted table back under its id, with its records.
    RestoreTable {
        table: String,
    },
    /// `spec` as for Airtable; computed and unknown types too.
    CreateField {
        table: String,
        spec: Value,
    },
    RenameField {
        table: String,
        field: String,
        name: String,
    },
    RetypeField {
        table: String,
        field: String,
        kind: String,
        #[serde(default)]
        options: Value,
    },
    DeleteField {
        table: String,
        field: String,
    },
    RenameChoice {
        table: String,
        field: String,
        choice: String,
        name: String,
    },
    /// `{name, type, filter}`; the filter is a formula.
    CreateView {
        table: String,
        spec: Value,
    },
    /// `locked` for a field, `synced` for a table.
    Flag {
        table: String,
        #[serde(default)]
        field: Option<String>,
        flag: String,
        on: bool,
    },
    /// Puts a raw value over a cell (`null` takes it away), as an error value over a computed one.
    Inject {
        table: String,
        record: String,
        field: String,
        value: Value,
    },
}

fn table_of(tx: &Transaction<'_>, table: &str) -> Answer<usize> {
    tx.base.table_index(table).ok_or_else(super::reply::forbidden_or_unknown)
}

fn field_of(tx: &Transaction<'_>, table: &str, field: &str) -> Answer<(usize, usize)> {
    let table = table_of(tx, table)?;
    let index = tx.base.tables[table].field_index(field).ok_or_else(|| unknown_field(field))?;
    Ok((table, index))
}

fn record_in(tx: &Transaction<'_>, table: &str, record: &str) -> Answer<usize> {
    let table = table_of(tx, table)?;
    if tx.base.tables[table].records.contains_key(record) {
        Ok(table)
    } else {
        Err(record_not_found())
    }
}

impl State {
    /// Carries edits out as one transaction; returns the id of what each made or touched.
    pub(super) fn edit(
        &mut self,
        base: &str,
        actor: Actor,
        edits: &[Edit],
        typecast: bool,
        now_ms: i64,
    ) -> Answer<Vec<String>> {
        let base =
            match self.world.bases.values().find(|known| known.id == base || known.name == base) {
                Some(known) => known.id.clone(),
                None => return Err(super::reply::forbidden_or_unknown()),
            };
        self.transact(&base, actor, now_ms, |tx| {
            edits.iter().map(|edit| edit_one(tx, edit, typecast)).collect()
        })
    }
}

fn edit_one(tx: &mut Transaction<'_>, edit: &Edit, typecast: bool) -> Answer<String> {
    match edit {
        Edit::Create { table, fields } => {
            let index = table_of(tx, table)?;
            let cells = parse_fields(tx, index, fields, typecast, true)?;
            Ok(tx.create(index, cells))
        }
        Edit::Update { table, record, fields } => {
            let index = record_in(tx, table, record)?;
            let cells = parse_fields(tx, index, fields, typecast, false)?;
            apply(tx, index, record, cells, false);
            Ok(record.clone())
        }
        Edit::Delete { table, record } => {
            let index = record_in(tx, table, record)?;
            tx.delete(index, record);
            Ok(record.clone())
        }
        Edit::Restore { record } => {
            if tx.restore(record) {
                Ok(record.clone())
            } else {
                Err(record_not_found())
            }
        }
        Edit::Duplicate { table, record } => {
            let index = record_in(tx, table, record)?;
            let source = tx.base.tables[index].records[record].clone();
            let cells = tx.base.tables[index]
                .fields
                .iter()
                .enumerate()
                .filter(|(_, field)| field.is_writable());
            let cells = cells
                .filter_map(|(at, field)| Some((at, source.cells.get(&field.id)?.clone())))
                .collect();
            Ok(tx.create(index, cells))
        }
        Edit::Flag { .. } | Edit::Inject { .. } => set_aside(tx, edit),
        _ => edit_schema(tx, edit),
    }
}

fn set_aside(tx: &mut Transaction<'_>, edit: &Edit) -> Answer<String> {
    match edit {
        Edit::Flag { table, field: None, on, .. } => {
            let index = table_of(tx, table)?;
            tx.base.tables[index].is_synced = *on;
            Ok(tx.base.tables[index].id.clone())
        }
        Edit::Flag { table, field: Some(field), on, .. } => {
            let (table, field) = field_of(tx, table, field)?;
            tx.base.tables[table].fields[field].is_locked = *on;
            Ok(tx.base.tables[table].fields[field].id.clone())
        }
        Edit::Inject { table, record, field, value } => {
            let (index, position) = field_of(tx, table, field)?;
            tx.touch(index, record);
            let id = tx.base.tables[index].fields[position].id.clone();
            let target =
                tx.base.tables[index].records.get_mut(record).ok_or_else(record_not_found)?;
            if value.is_null() {
                target.injected.remove(&id);
            } else {
                target.injected.insert(id, value.clone());
            }
            Ok(record.clone())
        }
        _ => Err(invalid_request()),
    }
}

fn edit_schema(tx: &mut Transaction<'_>, edit: &Edit) -> Answer<String> {
    match edit {
        Edit::CreateTable { spec } => {
            let index = make_table(tx, spec, true)?;
            Ok(tx.base.tables[index].id.clone())
        }
        Edit::RenameTable { table, name } => {
            let index = table_of(tx, table)?;
            edit_table(tx, index, Some(name), None)?;
            Ok(tx.base.tables[index].id.clone())
        }
        Edit::DeleteTable { table } => {
            let index = table_of(tx, table)?;
            let id = tx.base.tables[index].id.clone();
            delete_table(tx, index);
            Ok(id)
        }
        Edit::RestoreTable { table } => {
            let known = tx
                .base
                .table_trash
                .iter()
                .rposition(|gone| gone.id == *table || gone.name == *table);
            let gone = tx.base.table_trash.remove(known.ok_or_else(record_not_found)?);
            let id = gone.id.clone();
            let fields: Map<String, Value> = gone
                .fields
                .iter()
                .map(|field| (field.id.clone(), json!({ "name": field.name, "type": field.kind })))
                .collect();
            let records: Map<String, Value> = gone
                .records
                .values()
                .map(|record| {
                    let shown = json!({
                        "createdTime": super::clock::iso_seconds(record.created_ms),
                        "cellValuesByFieldId": tx.look().v2_fields(&gone, record),
                    });
                    (record.id.clone(), shown)
                })
                .collect();
            let shown = json!({
                "metadata": { "name": gone.name, "description": gone.description }, "fieldsById": fields, "recordsById": records,
            });
            tx.change.created_tables.insert(id.clone(), shown);
            tx.base.tables.push(gone);
            Ok(id)
        }
        Edit::CreateField { table, spec } => {
            let index = table_of(tx, table)?;
            make_field(tx, index, spec, true)
        }
        Edit::RenameField { table, field, name } => {
            let (table, field) = field_of(tx, table, field)?;
            rename_field(tx, table, field, name)?;
            Ok(tx.base.tables[table].fields[field].id.clone())
        }
        Edit::RetypeField { table, field, kind, options } => {
            let (table, field) = field_of(tx, table, field)?;
            retype_field(tx, table, field, kind, options)?;
            Ok(tx.base.tables[table].fields[field].id.clone())
        }
        Edit::DeleteField { table, field } => {
            let (table, field) = field_of(tx, table, field)?;
            let id = tx.base.tables[table].fields[field].id.clone();
            delete_field(tx, table, field)?;
            Ok(id)
        }
        Edit::RenameChoice { table, field, choice, name } => {
            let (table, field) = field_of(tx, table, field)?;
            rename_choice(tx, table, field, choice, name)?;
            Ok(tx.base.tables[table].fields[field].id.clone())
        }
        Edit::CreateView { table, spec } => {
            let index = table_of(tx, table)?;
            Ok(make_view(tx, index, spec))
        }
        _ => Err(invalid_request()),
    }
}
