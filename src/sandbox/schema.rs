//! Making and changing tables and fields, within a transaction.

use serde_json::{Value, json};

use super::computed::touch_all;
use super::model::{Field, Table, View, is_empty, strings};
use super::reply::{Answer, error, error_without_message, invalid_request};
use super::transaction::Transaction;

/// Types whose cells a client may write, and whose fields it may create.
pub(super) const CREATABLE_KINDS: [&str; 21] = [
    "singleLineText",
    "multilineText",
    "richText",
    "email",
    "url",
    "phoneNumber",
    "number",
    "currency",
    "percent",
    "duration",
    "rating",
    "checkbox",
    "date",
    "dateTime",
    "singleSelect",
    "multipleSelects",
    "singleCollaborator",
    "multipleCollaborators",
    "multipleRecordLinks",
    "multipleAttachments",
    "barcode",
];

/// Types that the documentation names but nobody can create through the API.
const COMPUTED_KINDS: [&str; 12] = [
    "formula",
    "rollup",
    "multipleLookupValues",
    "lookup",
    "count",
    "autoNumber",
    "createdTime",
    "lastModifiedTime",
    "createdBy",
    "lastModifiedBy",
    "button",
    "aiText",
];

/// Types that may not be a table's first field.
const NOT_PRIMARY: [&str; 8] = [
    "multipleRecordLinks",
    "multipleAttachments",
    "checkbox",
    "singleSelect",
    "multipleSelects",
    "singleCollaborator",
    "multipleCollaborators",
    "rating",
];

pub(super) const DESCRIPTION_CHAR_MAX: usize = 20_000;

fn duplicate_or_empty() -> Box<super::reply::Reply> {
    error_without_message(422, "DUPLICATE_OR_EMPTY_FIELD_NAME")
}

/// A name without the spaces around it, refused when empty or taken (whatever the case).
pub(super) fn checked_field_name(table: &Table, name: &str, own_id: &str) -> Answer<String> {
    let name = name.trim();
    let folded = name.to_lowercase();
    let is_taken =
        table.fields.iter().any(|field| field.id != own_id && field.name.to_lowercase() == folded);
    if name.is_empty() || is_taken { Err(duplicate_or_empty()) } else { Ok(name.to_owned()) }
}

fn checked_table_name(tx: &Transaction<'_>, name: &str) -> Answer<String> {
    let name = name.trim();
    let folded = name.to_lowercase();
    if name.is_empty() || tx.base.tables.iter().any(|table| table.name.to_lowercase() == folded) {
        return Err(error_without_message(422, "DUPLICATE_TABLE_NAME"));
    }
    Ok(name.to_owned())
}

/// Options as the metadata endpoint will show them, from those in write format.
fn read_options(
    tx: &mut Transaction<'_>,
    kind: &str,
    options: &Value,
    name: &str,
) -> Answer<Value> {
    let bad = |why: &str| {
        error(
            422,
            "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE",
            &format!("Invalid options for {name}: {why}"),
        )
    };
    let precision_max = match kind {
        "number" | "percent" => Some(8),
        "currency" => Some(7),
        _ => None,
    };
    if let Some(max) = precision_max {
        let precision = options["precision"].as_u64().ok_or_else(|| bad("precision is missing"))?;
        if precision > max || (kind == "currency" && !options["symbol"].is_string()) {
            return Err(bad("precision or symbol is not valid"));
        }
        return Ok(options.clone());
    }
    match kind {
        "duration" if options["durationFormat"].is_string() => Ok(options.clone()),
        "rating" if options["max"].as_u64().is_some_and(|max| (1..=10).contains(&max)) => {
            Ok(options.clone())
        }
        "checkbox" if options["icon"].is_string() && options["color"].is_string() => {
            Ok(options.clone())
        }
        "duration" | "rating" | "checkbox" => Err(bad("an option is missing or not valid")),
        "date" | "dateTime" => {
            let mut options = options.clone();
            let format_name = options["dateFormat"]["name"].as_str().unwrap_or_default();
            let format = match format_name {
                "local" => "l",
                "friendly" => "LL",
                "us" => "M/D/YYYY",
                "european" => "D/M/YYYY",
                "iso" => "YYYY-MM-DD",
                _ => return Err(bad("unknown date format")),
            };
            if options["dateFormat"]["format"].as_str().is_some_and(|given| given != format) {
                return Err(bad("the date format does not match its name"));
            }
            options["dateFormat"]["format"] = json!(format);
            if kind == "dateTime" {
                let zone = options["timeZone"].as_str().unwrap_or_default();
                let is_zone = zone == "utc"
                    || zone == "client"
                    || (zone != "UTC" && zone.parse::<chrono_tz::Tz>().is_ok());
                if !is_zone {
                    return Err(bad(&format!("Invalid timezone \"{zone}\"")));
                }
                let format = match options["timeFormat"]["name"].as_str() {
                    Some("12hour") => "h:mma",
                    Some("24hour") => "HH:mm",
                    _ => return Err(bad("unknown time format")),
                };
                options["timeFormat"]["format"] = json!(format);
            }
            Ok(options)
        }
        "singleSelect" | "multipleSelects" => {
            let mut choices = Vec::new();
            for choice in options["choices"].as_array().ok_or_else(|| bad("choices are missing"))? {
                let choice_name =
                    choice["name"].as_str().ok_or_else(|| bad("a choice has no name"))?;
                if choices.iter().any(|known: &Value| known["name"] == choice_name) {
                    return Err(bad("choices must have unique names"));
                }
                let color = choice["color"].as_str().unwrap_or("blueLight2");
                choices
                    .push(json!({ "id": tx.ids.make("sel"), "name": choice_name, "color": color }));
            }
            Ok(json!({ "choices": choices }))
        }
        "multipleAttachments" => Ok(json!({ "isReversed": false })),
        _ if options.as_object().is_some_and(|map| !map.is_empty())
            && !kind.starts_with("multiple") =>
        {
            Err(bad("this type has no options"))
        }
        _ => Ok(Value::Null),
    }
}

/// Makes a field from `{name, type, description?, options?}`; `is_admin` may make computed and unknown
/// types too, whose options are kept as given. Returns its id.
pub(super) fn make_field(
    tx: &mut Transaction<'_>,
    table: usize,
    spec: &Value,
    is_admin: bool,
) -> Answer<String> {
    let name = spec["name"].as_str().unwrap_or_default();
    let name = checked_field_name(&tx.base.tables[table], name, "")?;
    let kind = spec["type"].as_str().ok_or_else(invalid_request)?.to_owned();
    let is_computed = COMPUTED_KINDS.contains(&kind.as_str());
    if !is_admin && is_computed {
        let text = format!(
            "Invalid options for {}.{name}: Creating {kind} fields is not supported at this time",
            tx.base.tables[table].name
        );
        return Err(error(422, "UNSUPPORTED_FIELD_TYPE_FOR_CREATE", &text));
    }
    let is_known = CREATABLE_KINDS.contains(&kind.as_str());
    if !is_admin && !is_known {
        return Err(invalid_request());
    }
    let description = checked_description(&spec["description"])?;
    let given = spec.get("options").cloned().unwrap_or_default();
    let options = if kind == "multipleRecordLinks" {
        link_options(tx, &given)?
    } else if is_known {
        read_options(tx, &kind, &given, &name)?
    } else {
        given.clone()
    };
    let id = tx.ids.make("fld");
    let table_id = tx.base.tables[table].id.clone();
    let mut field = Field { id: id.clone(), name, kind, options, description, ..Field::default() };
    field.aggregate = spec["aggregate"].as_str().map(str::to_owned);
    if !spec["default"].is_null() {
        field.default = Some(spec["default"].clone());
    }
    let target_id = field.option("linkedTableId").to_owned();
    if field.is_link() && target_id != table_id {
        let target = tx.base.table_index(&target_id).ok_or_else(invalid_request)?;
        let wanted = spec["inverseName"].as_str().unwrap_or(&tx.base.tables[table].name).to_owned();
        let inverse = Field {
            id: tx.ids.make("fld"),
            name: free_name(&tx.base.tables[target], &wanted),
            kind: "multipleRecordLinks".into(),
            options: json!({
                "linkedTableId": table_id, "isReversed": false, "prefersSingleRecordLink": false,
                "inverseLinkFieldId": id,
            }),
            ..Field::default()
        };
        field.options["inverseLinkFieldId"] = json!(inverse.id);
        note_created_field(tx, &target_id, &inverse);
        tx.base.tables[target].fields.push(inverse);
    }
    note_created_field(tx, &table_id, &field);
    tx.base.tables[table].fields.push(field);
    if !is_known {
        touch_all(tx, table);
    }
    Ok(id)
}

fn note_created_field(tx: &mut Transaction<'_>, table_id: &str, field: &Field) {
    let shown = json!({ "name": field.name, "type": field.kind });
    tx.table_change(table_id).created_fields.insert(field.id.clone(), shown);
}

fn link_options(tx: &Transaction<'_>, given: &Value) -> Answer<Value> {
    let target = given["linkedTableId"].as_str().ok_or_else(invalid_request)?;
    if !tx.base.tables.iter().any(|table| table.id == target) {
        return Err(invalid_request());
    }
    let allowed = ["linkedTableId", "viewIdForRecordSelection", "prefersSingleRecordLink"];
    if given.as_object().is_some_and(|map| map.keys().any(|key| !allowed.contains(&key.as_str()))) {
        return Err(invalid_request());
    }
    let prefers_single = given["prefersSingleRecordLink"] == true;
    Ok(
        json!({ "linkedTableId": target, "isReversed": false, "prefersSingleRecordLink": prefers_single }),
    )
}

/// `name`, or `name 2`, `name 3`, … when it is taken.
fn free_name(table: &Table, name: &str) -> String {
    let is_free = |name: &str| checked_field_name(table, name, "").is_ok();
    if is_free(name) {
        return name.to_owned();
    }
    (2..10_000).map(|n| format!("{name} {n}")).find(|name| is_free(name)).unwrap_or_default()
}

pub(super) fn checked_description(value: &Value) -> Answer<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= DESCRIPTION_CHAR_MAX => {
            Ok((!text.is_empty()).then(|| text.clone()))
        }
        _ => Err(invalid_request()),
    }
}

/// Makes a table from `{name, description?, fields}`; returns its index.
pub(super) fn make_table(tx: &mut Transaction<'_>, spec: &Value, is_admin: bool) -> Answer<usize> {
    let name = checked_table_name(tx, spec["name"].as_str().ok_or_else(invalid_request)?)?;
    let fields = spec["fields"]
        .as_array()
        .filter(|fields| !fields.is_empty())
        .ok_or_else(invalid_request)?;
    if fields[0]["type"].as_str().is_some_and(|kind| NOT_PRIMARY.contains(&kind)) {
        return Err(error(
            422,
            "INVALID_REQUEST_UNKNOWN",
            "The first field cannot be of this type",
        ));
    }
    let table = Table {
        id: tx.ids.make("tbl"),
        name,
        description: checked_description(&spec["description"])?,
        views: vec![View {
            id: tx.ids.make("viw"),
            name: "Grid view".into(),
            kind: "grid".into(),
            ..View::default()
        }],
        ..Table::default()
    };
    let id = table.id.clone();
    tx.base.tables.push(table);
    let index = tx.base.tables.len() - 1;
    for field in fields {
        if let Err(refusal) = make_field(tx, index, field, is_admin) {
            tx.base.tables.remove(index);
            return Err(refusal);
        }
    }
    let table = &mut tx.base.tables[index];
    table.primary_field_id = table.fields[0].id.clone();
    let fields: serde_json::Map<String, Value> = table
        .fields
        .iter()
        .map(|field| (field.id.clone(), json!({ "name": field.name, "type": field.kind })))
        .collect();
    let shown = json!({
        "metadata": { "name": table.name, "description": table.description },
        "fieldsById": fields, "recordsById": {},
    });
    tx.change.tables.remove(&id);
    tx.change.created_tables.insert(id, shown);
    Ok(index)
}

pub(super) fn edit_table(
    tx: &mut Transaction<'_>,
    table: usize,
    name: Option<&str>,
    description: Option<Option<String>>,
) -> Answer<()> {
    let before = json!({ "name": tx.base.tables[table].name, "description": tx.base.tables[table].description });
    if let Some(name) = name.map(str::trim).filter(|name| *name != tx.base.tables[table].name) {
        let name = checked_table_name(tx, name)?;
        tx.base.tables[table].name = name;
    }
    if let Some(description) = description {
        tx.base.tables[table].description = description;
    }
    let after = json!({ "name": tx.base.tables[table].name, "description": tx.base.tables[table].description });
    if before != after {
        let id = tx.base.tables[table].id.clone();
        tx.table_change(&id).metadata = Some((before, after));
    }
    Ok(())
}

pub(super) fn rename_field(
    tx: &mut Transaction<'_>,
    table: usize,
    field: usize,
    name: &str,
) -> Answer<()> {
    let definition = &tx.base.tables[table].fields[field];
    let (id, old) = (definition.id.clone(), definition.name.clone());
    let name = checked_field_name(&tx.base.tables[table], name, &id)?;
    if name != old {
        tx.base.tables[table].fields[field].name.clone_from(&name);
        let table_id = tx.base.tables[table].id.clone();
        tx.table_change(&table_id)
            .changed_fields
            .insert(id, (json!({ "name": old }), json!({ "name": name })));
    }
    Ok(())
}

/// Deletes a field and its cells, and the inverse of a link.
pub(super) fn delete_field(tx: &mut Transaction<'_>, table: usize, field: usize) -> Answer<()> {
    let definition = tx.base.tables[table].fields[field].clone();
    if definition.id == tx.base.tables[table].primary_field_id {
        return Err(invalid_request());
    }
    remove_field(tx, table, &definition.id);
    let inverse = definition.option("inverseLinkFieldId");
    if let Some(other) =
        tx.base.table_index(definition.option("linkedTableId")).filter(|_| !inverse.is_empty())
    {
        remove_field(tx, other, inverse);
    }
    for index in 0..tx.base.tables.len() {
        touch_all(tx, index);
    }
    Ok(())
}

fn remove_field(tx: &mut Transaction<'_>, table: usize, field_id: &str) {
    touch_all(tx, table);
    let table = &mut tx.base.tables[table];
    table.fields.retain(|field| field.id != field_id);
    for record in table.records.values_mut() {
        record.cells.remove(field_id);
        record.injected.remove(field_id);
    }
    let table_id = table.id.clone();
    tx.table_change(&table_id).destroyed_fields.push(field_id.to_owned());
}

/// Changes a field's type, as a person in the app can; cells are converted through their text or dropped.
pub(super) fn retype_field(
    tx: &mut Transaction<'_>,
    table: usize,
    field: usize,
    kind: &str,
    options: &Value,
) -> Answer<()> {
    let old = tx.base.tables[table].fields[field].clone();
    let texts: Vec<(String, Value)> = {
        let look = tx.look();
        let records = tx.base.tables[table].records.values();
        records
            .filter_map(|record| {
                Some((record.id.clone(), look.rest(&old, record.cells.get(&old.id)?)))
            })
            .map(|(id, shown)| {
                (
                    id,
                    if shown.is_number() || shown.is_boolean() {
                        shown
                    } else {
                        json!(super::cell::plain_text(&shown))
                    },
                )
            })
            .collect()
    };
    touch_all(tx, table);
    let table_id = tx.base.tables[table].id.clone();
    let options = if CREATABLE_KINDS.contains(&kind) && kind != "multipleRecordLinks" {
        read_options(tx, kind, options, &old.name)?
    } else {
        options.clone()
    };
    if old.is_link()
        && let Some(other) = tx
            .base
            .table_index(old.option("linkedTableId"))
            .filter(|_| !old.option("inverseLinkFieldId").is_empty())
    {
        remove_field(tx, other, old.option("inverseLinkFieldId"));
    }
    let definition = &mut tx.base.tables[table].fields[field];
    kind.clone_into(&mut definition.kind);
    definition.options = options;
    let is_writable = definition.is_writable();
    tx.table_change(&table_id)
        .changed_fields
        .insert(old.id.clone(), (json!({ "type": old.kind }), json!({ "type": kind })));
    tx.retyped.insert(old.id.clone(), old.clone());
    for record in tx.base.tables[table].records.values_mut() {
        record.cells.remove(&old.id);
    }
    for (id, text) in texts {
        if !is_writable || is_empty(&text) {
            continue;
        }
        if let Ok(cell) = super::parse::parse(tx, table, field, &text, true) {
            tx.set(table, &id, field, cell);
        }
    }
    Ok(())
}

/// Deletes a table, with the link fields of other tables that point to it.
pub(super) fn delete_table(tx: &mut Transaction<'_>, table: usize) {
    let id = tx.base.tables[table].id.clone();
    for other in 0..tx.base.tables.len() {
        let pointing: Vec<String> = tx.base.tables[other]
            .fields
            .iter()
            .filter(|field| other != table && field.option("linkedTableId") == id)
            .map(|field| field.id.clone())
            .collect();
        for field in pointing {
            remove_field(tx, other, &field);
        }
    }
    let gone = tx.base.tables.remove(table);
    tx.before.retain(|(touched, _), _| *touched != id);
    tx.change.tables.remove(&id);
    tx.change.destroyed_views = gone.views.iter().map(|view| view.id.clone()).collect();
    tx.change.destroyed_tables.push(id);
    tx.base.table_trash.push(gone);
}

/// Gives a choice another name; no record's cell changes as far as any payload tells.
pub(super) fn rename_choice(
    tx: &mut Transaction<'_>,
    table: usize,
    field: usize,
    old: &str,
    new: &str,
) -> Answer<()> {
    let choices = tx.base.tables[table].fields[field].options["choices"]
        .as_array_mut()
        .ok_or_else(invalid_request)?;
    let is_taken = choices.iter().any(|choice| choice["name"] == new);
    let choice = choices.iter_mut().find(|choice| choice["name"] == old || choice["id"] == old);
    match choice.filter(|_| !is_taken) {
        Some(choice) => {
            choice["name"] = json!(new);
            Ok(())
        }
        None => Err(invalid_request()),
    }
}

/// Adds a filtered view; returns its id.
pub(super) fn make_view(tx: &mut Transaction<'_>, table: usize, spec: &Value) -> String {
    let id = tx.ids.make("viw");
    let mut view = View {
        id: id.clone(),
        name: spec["name"].as_str().unwrap_or("View").to_owned(),
        kind: spec["type"].as_str().unwrap_or("grid").to_owned(),
        filter: spec["filter"].as_str().unwrap_or_default().to_owned(),
        hidden_field_ids: strings(&spec["hidden"]),
        ..View::default()
    };
    let look = tx.look();
    let definition = &tx.base.tables[table];
    if let Some(filter) = super::formula::read(&view.filter) {
        let passing = definition
            .records
            .values()
            .filter(|record| super::formula::passes(&look, definition, record, &filter));
        view.members = passing.map(|record| record.id.clone()).collect();
    }
    tx.base.tables[table].views.push(view);
    id
}
