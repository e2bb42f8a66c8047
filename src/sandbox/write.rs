//! Writing records: create, update, upsert, delete, upload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::cell::Look;
use super::list::{Shape, flag, show};
use super::model::{State, is_empty};
use super::parse::{parse, stored_attachment};
use super::reply::{
    Answer, error, invalid_request, record_not_found, row_does_not_exist, unknown_field,
};
use super::transaction::{Actor, Transaction};

const BODY_KEYS: [&str; 7] = [
    "records",
    "fields",
    "typecast",
    "returnFieldsByFieldId",
    "performUpsert",
    "includeDateDependencyMetadata",
    "id",
];
const UPLOAD_BYTE_MAX: usize = 5 * 1024 * 1024;

/// A write, as it came.
pub(super) struct Write<'a> {
    pub(super) base: &'a str,
    pub(super) table: &'a str,
    pub(super) caller: &'a Caller,
    pub(super) query: &'a [(String, String)],
    pub(super) body: &'a Value,
    pub(super) now_ms: i64,
}

impl Write<'_> {
    fn actor(&self) -> Actor {
        Actor {
            source: "publicApi".into(),
            user: Some(self.caller.user.clone()),
            metadata: Value::Null,
        }
    }

    fn is_set(&self, key: &str) -> bool {
        self.body[key] == true
            || self.body[key] == 1
            || flag(
                self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()),
            )
    }

    fn shape(&self) -> Answer<Shape> {
        Ok(Shape {
            is_keyed_by_id: self.is_set("returnFieldsByFieldId"),
            ..Shape::from_query(self.query)?
        })
    }

    fn check_body(&self) -> Answer<()> {
        let map = self.body.as_object().ok_or_else(invalid_request)?;
        if map.keys().any(|key| !BODY_KEYS.contains(&key.as_str())) {
            return Err(invalid_request());
        }
        for key in ["typecast", "returnFieldsByFieldId"] {
            if map.get(key).is_some_and(|value| !value.is_boolean()) {
                return Err(invalid_request());
            }
        }
        Ok(())
    }
}

/// Parses the cells of one record; nothing is written yet.
pub(super) fn parse_fields(
    tx: &mut Transaction<'_>,
    table: usize,
    fields: &Map<String, Value>,
    typecast: bool,
    is_create: bool,
) -> Answer<Vec<(usize, Value)>> {
    let mut cells = Vec::new();
    for (name, value) in fields {
        let field = tx.base.tables[table].field_index(name).ok_or_else(|| unknown_field(name))?;
        let definition = &tx.base.tables[table].fields[field];
        if definition.is_locked && tx.actor.source == "publicApi" {
            let text = format!(
                "You are not permitted to write cell values in field {} ({})",
                definition.name, definition.id
            );
            return Err(error(403, "INVALID_PERMISSIONS", &text));
        }
        let cell = parse(tx, table, field, value, typecast)?;
        // In a create, null says nothing: a default applies.
        if !(is_create && value.is_null()) {
            cells.push((field, cell));
        }
    }
    Ok(cells)
}

fn check_synced(tx: &Transaction<'_>, table: usize) -> Answer<()> {
    if tx.base.tables[table].is_synced && tx.actor.source == "publicApi" {
        let text =
            "Your record could not be created because the underlying table is externally synced.";
        let kind = if tx.config.synced_status == 403 {
            "INVALID_PERMISSIONS"
        } else {
            "INVALID_REQUEST_UNKNOWN"
        };
        return Err(error(tx.config.synced_status, kind, text));
    }
    Ok(())
}

fn fields_of(item: &Value) -> Answer<&Map<String, Value>> {
    item["fields"].as_object().ok_or_else(missing_fields)
}

fn missing_fields() -> Box<super::reply::Reply> {
    error(
        422,
        "INVALID_REQUEST_MISSING_FIELDS",
        "Could not find field \"fields\" in the request body",
    )
}

fn shown(state: &mut State, write: &Write<'_>, ids: &[String]) -> Answer<Vec<Value>> {
    let index = state.table_index(write.base, write.table)?;
    let shape = write.shape()?;
    let look: Look<'_> = state.look(write.base, write.now_ms)?;
    let table = &look.base.tables[index];
    let records: Vec<Value> = ids
        .iter()
        .filter_map(|id| table.records.get(id))
        .map(|record| show(&look, table, record, &shape))
        .collect();
    state.stats.record_written_count += records.len() as u64;
    Ok(records)
}

impl State {
    pub(super) fn create(&mut self, write: &Write<'_>) -> Answer<Value> {
        write.check_body()?;
        let table = self.table_index(write.base, write.table)?;
        let is_single = write.body.get("records").is_none();
        let items: Vec<&Map<String, Value>> = if is_single {
            vec![fields_of(write.body)?]
        } else {
            let items = write.body["records"].as_array().ok_or_else(invalid_request)?;
            items.iter().map(fields_of).collect::<Answer<_>>()?
        };
        let count_max = self.config.record_count_max;
        if items.len() > count_max {
            let text = format!(
                "A maximum of {count_max} records can be created per request but you have provided {}.",
                items.len()
            );
            return Err(error(422, "INVALID_RECORDS", &text));
        }
        let typecast = write.is_set("typecast");
        let ids = self.transact(write.base, write.actor(), write.now_ms, |tx| {
            check_synced(tx, table)?;
            check_room(tx, items.len())?;
            let cells = items.iter().map(|fields| parse_fields(tx, table, fields, typecast, true));
            let cells = cells.collect::<Answer<Vec<_>>>()?;
            Ok(cells.into_iter().map(|cells| tx.create(table, cells)).collect::<Vec<_>>())
        })?;
        let mut records = shown(self, write, &ids)?;
        if is_single && records.len() == 1 {
            Ok(records.remove(0))
        } else {
            Ok(json!({ "records": records }))
        }
    }

    /// PATCH (or, with `replaces`, PUT) of one record.
    pub(super) fn update_one(
        &mut self,
        write: &Write<'_>,
        record_id: &str,
        replaces: bool,
    ) -> Answer<Value> {
        write.check_body()?;
        let table = self.table_index(write.base, write.table)?;
        let fields = fields_of(write.body)?;
        let typecast = write.is_set("typecast");
        self.transact(write.base, write.actor(), write.now_ms, |tx| {
            if !tx.base.tables[table].records.contains_key(record_id) {
                return Err(record_not_found());
            }
            check_synced(tx, table)?;
            let cells = parse_fields(tx, table, fields, typecast, false)?;
            apply(tx, table, record_id, cells, replaces);
            Ok(())
        })?;
        let mut records = shown(self, write, &[record_id.to_owned()])?;
        if records.is_empty() { Err(record_not_found()) } else { Ok(records.remove(0)) }
    }

    /// PATCH (or PUT) of several records, upserts included.
    pub(super) fn update_many(&mut self, write: &Write<'_>, replaces: bool) -> Answer<Value> {
        write.check_body()?;
        let table = self.table_index(write.base, write.table)?;
        let items = match write.body.get("records") {
            None => return Err(missing_fields()),
            Some(items) => items.as_array().ok_or_else(invalid_request)?,
        };
        let is_upsert = !write.body["performUpsert"].is_null();
        let has_shape = items
            .iter()
            .all(|item| item["fields"].is_object() && (is_upsert || item["id"].is_string()));
        if items.len() > self.config.record_count_max || !has_shape {
            let text = format!(
                "You must provide an array of up to {} record objects, each with an \"id\" ID field and a \"fields\" \
                 object for cell values.",
                self.config.record_count_max
            );
            return Err(error(422, "INVALID_RECORDS", &text));
        }
        let typecast = write.is_set("typecast");
        let (mut created, mut updated) = (Vec::new(), Vec::new());
        let ids = self.transact(write.base, write.actor(), write.now_ms, |tx| {
            check_synced(tx, table)?;
            let merge_on = if is_upsert {
                merge_fields(tx, table, &write.body["performUpsert"])?
            } else {
                Vec::new()
            };
            let mut seen = std::collections::BTreeSet::new();
            // Everything is parsed before anything is written: one bad cell refuses the whole request.
            let mut parsed = Vec::new();
            for item in items {
                let fields = fields_of(item)?;
                let id = item["id"].as_str();
                if let Some(id) = id {
                    if !tx.base.tables[table].records.contains_key(id) {
                        return Err(row_does_not_exist(id));
                    }
                    if !seen.insert(id.to_owned()) {
                        return Err(invalid_request());
                    }
                }
                parsed.push((
                    id.map(str::to_owned),
                    parse_fields(tx, table, fields, typecast, false)?,
                ));
            }
            let mut ids = Vec::new();
            for (id, cells) in parsed {
                let target = match id {
                    Some(id) => Some(id),
                    None => matching(tx, table, &merge_on, &cells)?,
                };
                if let Some(id) = target {
                    apply(tx, table, &id, cells, replaces);
                    updated.push(id.clone());
                    ids.push(id);
                } else {
                    check_room(tx, 1)?;
                    let id = tx.create(table, cells);
                    created.push(id.clone());
                    ids.push(id);
                }
            }
            Ok(ids)
        })?;
        let mut answer = json!({ "records": shown(self, write, &ids)? });
        if is_upsert {
            updated.retain(|id| !created.contains(id));
            answer["createdRecords"] = json!(created);
            answer["updatedRecords"] = json!(updated);
        }
        Ok(answer)
    }

    pub(super) fn delete(
        &mut self,
        write: &Write<'_>,
        ids: &[String],
        is_single: bool,
    ) -> Answer<Value> {
        let table = self.table_index(write.base, write.table)?;
        if ids.len() > self.config.record_count_max || ids.is_empty() {
            let text = format!(
                "You must provide an array of up to {} record IDs.",
                self.config.record_count_max
            );
            return Err(error(422, "INVALID_RECORDS", &text));
        }
        let deleted = self.transact(write.base, write.actor(), write.now_ms, |tx| {
            let is_refused = tx.config.unknown_delete_is_refused;
            let known: Vec<&String> =
                ids.iter().filter(|id| tx.base.tables[table].records.contains_key(*id)).collect();
            if is_single && known.is_empty() {
                return Err(record_not_found());
            }
            check_synced(tx, table)?;
            if let Some(unknown) = ids.iter().find(|id| !known.contains(id)).filter(|_| is_refused)
            {
                return Err(row_does_not_exist(unknown));
            }
            if ids.iter().collect::<std::collections::BTreeSet<_>>().len() < ids.len() {
                return Err(invalid_request());
            }
            let known: Vec<String> = known.into_iter().cloned().collect();
            for id in &known {
                tx.delete(table, id);
            }
            Ok(known)
        })?;
        self.stats.record_written_count += deleted.len() as u64;
        let mut records: Vec<Value> =
            deleted.iter().map(|id| json!({ "deleted": true, "id": id })).collect();
        if is_single { Ok(records.remove(0)) } else { Ok(json!({ "records": records })) }
    }

    /// Appends a file to an attachment cell; the answer holds that cell only, by field id.
    pub(super) fn upload(
        &mut self,
        write: &Write<'_>,
        record_id: &str,
        field: &str,
    ) -> Answer<Value> {
        let text = |key: &str| write.body[key].as_str().ok_or_else(invalid_request);
        let (kind, filename) = (text("contentType")?, text("filename")?);
        // Clients break base64 into lines, as Python's `encodebytes` does.
        let file: String = text("file")?.split_whitespace().collect();
        let bytes = STANDARD.decode(file).map_err(|_| invalid_request())?;
        if bytes.len() > UPLOAD_BYTE_MAX {
            let text = "The file is larger than 5 MB";
            return Err(error(self.config.upload_too_large_status, "REQUEST_TOO_LARGE", text));
        }
        let table = self
            .look(write.base, write.now_ms)?
            .base
            .table_of(record_id)
            .ok_or_else(record_not_found)?;
        let (field_id, attachment) =
            self.transact(write.base, write.actor(), write.now_ms, |tx| {
                let index =
                    tx.base.tables[table].field_index(field).ok_or_else(|| unknown_field(field))?;
                let definition = tx.base.tables[table].fields[index].clone();
                if definition.kind != "multipleAttachments" {
                    return Err(super::reply::value_refused(&definition.name));
                }
                let now_ms = tx.now_ms;
                let new = stored_attachment(tx, filename, kind, bytes.len(), now_ms, "");
                let id = new["id"].as_str().unwrap_or_default().to_owned();
                let mut cell = tx.base.tables[table].records[record_id]
                    .cells
                    .get(&definition.id)
                    .cloned()
                    .unwrap_or(json!([]));
                if let Some(items) = cell.as_array_mut() {
                    items.push(new);
                }
                tx.set(table, record_id, index, cell);
                Ok((definition.id, id))
            })?;
        self.world.files.insert(attachment, STANDARD.encode(bytes));
        let look = self.look(write.base, write.now_ms)?;
        let table = &look.base.tables[table];
        let shape =
            Shape { is_keyed_by_id: true, field_ids: Some(vec![field_id]), ..Shape::default() };
        Ok(show(&look, table, &table.records[record_id], &shape))
    }
}

fn check_room(tx: &Transaction<'_>, count: usize) -> Answer<()> {
    let held: usize = tx.base.tables.iter().map(|table| table.records.len()).sum();
    if held + count > tx.config.base_record_count_max { Err(invalid_request()) } else { Ok(()) }
}

/// Sets the cells; with `replaces`, clears every other cell that can be written.
pub(super) fn apply(
    tx: &mut Transaction<'_>,
    table: usize,
    id: &str,
    cells: Vec<(usize, Value)>,
    replaces: bool,
) {
    if replaces {
        let named: Vec<usize> = cells.iter().map(|(field, _)| *field).collect();
        for field in 0..tx.base.tables[table].fields.len() {
            let definition = &tx.base.tables[table].fields[field];
            let is_cleared =
                definition.is_writable() && !definition.is_locked && !named.contains(&field);
            if is_cleared {
                tx.set(table, id, field, Value::Null);
            }
        }
    }
    for (field, value) in cells {
        tx.set(table, id, field, value);
    }
}

const MERGE_KINDS: [&str; 9] = [
    "number",
    "currency",
    "percent",
    "singleLineText",
    "multilineText",
    "singleSelect",
    "multipleSelects",
    "date",
    "dateTime",
];

fn merge_fields(tx: &Transaction<'_>, table: usize, upsert: &Value) -> Answer<Vec<usize>> {
    let names = upsert["fieldsToMergeOn"].as_array().ok_or_else(invalid_request)?;
    if names.is_empty() || names.len() > 3 || upsert.as_object().is_some_and(|map| map.len() > 1) {
        return Err(invalid_request());
    }
    let mut fields = Vec::new();
    for name in names {
        let name = name.as_str().ok_or_else(invalid_request)?;
        let index = tx.base.tables[table].field_index(name).ok_or_else(|| unknown_field(name))?;
        if !MERGE_KINDS.contains(&tx.base.tables[table].fields[index].kind.as_str()) {
            return Err(invalid_request());
        }
        fields.push(index);
    }
    Ok(fields)
}

/// The one record that agrees in all merge fields; none: it has to be made.
fn matching(
    tx: &Transaction<'_>,
    table: usize,
    merge_on: &[usize],
    cells: &[(usize, Value)],
) -> Answer<Option<String>> {
    let table = &tx.base.tables[table];
    let mut wanted = Vec::new();
    for field in merge_on {
        let cell = cells.iter().find(|(named, _)| named == field).ok_or_else(invalid_request)?;
        if is_empty(&cell.1) {
            return Ok(None);
        }
        wanted.push((&table.fields[*field].id, &cell.1));
    }
    let same = |left: &Value, right: &Value| match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() == 0.0,
        _ => left == right,
    };
    let mut found = table.records.values().filter(|record| {
        wanted.iter().all(|(id, value)| record.cells.get(*id).is_some_and(|cell| same(cell, value)))
    });
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Ok(Some(one.id.clone())),
        (Some(_), Some(_)) => Err(invalid_request()),
    }
}
