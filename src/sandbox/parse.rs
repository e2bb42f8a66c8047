//! What a client writes into a cell, checked and turned into the sandbox's own form.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone, Utc};
use serde_json::{Map, Value, json};

use super::cell::mime_of;
use super::clock::iso_ms;
use super::model::{Field, is_empty};
use super::reply::{Answer, computed_field, error, row_does_not_exist, value_refused};
use super::transaction::Transaction;

/// Turns `value` into the stored form of a cell of table `table`, field `field` (both indices); `Null`
/// clears the cell. With `typecast`, strings are converted and missing choices and records made.
///
/// # Errors
/// The reply that Airtable gives for a value that does not fit.
pub(super) fn parse(
    tx: &mut Transaction<'_>,
    table: usize,
    field: usize,
    value: &Value,
    typecast: bool,
) -> Answer<Value> {
    let field_now = tx.base.tables[table].fields[field].clone();
    if !field_now.is_writable() {
        return Err(computed_field(&field_now.name));
    }
    let is_select = field_now.kind == "singleSelect";
    if value.is_null() || (is_empty(value) && !(is_select && value.is_string())) {
        let fits = value.is_null()
            || match field_now.kind.as_str() {
                "checkbox" => value.is_boolean(),
                kind if kind.starts_with("multiple") => value.is_array() || typecast,
                _ => value.is_string(),
            };
        return if fits { Ok(Value::Null) } else { Err(value_refused(&field_now.name)) };
    }
    let refused = || value_refused(&field_now.name);
    match field_now.kind.as_str() {
        "singleLineText" | "multilineText" | "richText" | "email" | "url" | "phoneNumber" => {
            match value {
                Value::String(_) => Ok(value.clone()),
                Value::Number(_) | Value::Bool(_) if typecast => Ok(Value::from(value.to_string())),
                _ => Err(refused()),
            }
        }
        "number" | "currency" | "percent" | "duration" => {
            number(value, typecast).ok_or_else(refused)
        }
        "rating" => {
            let rating = number(value, typecast).ok_or_else(refused)?;
            let max = field_now.options["max"].as_f64().unwrap_or(10.0);
            match rating.as_f64() {
                Some(0.0) => Ok(Value::Null),
                Some(n) if n.fract() == 0.0 && (0.0..=max).contains(&n) => Ok(rating),
                _ => Err(refused()),
            }
        }
        "checkbox" => match value {
            Value::Bool(true) => Ok(json!(true)),
            Value::String(text) if typecast => {
                let is_set =
                    ["true", "checked", "1", "yes", "oui"].contains(&text.to_lowercase().as_str());
                Ok(if is_set { json!(true) } else { Value::Null })
            }
            Value::Number(n) if typecast => {
                Ok(if n.as_f64() == Some(0.0) { Value::Null } else { json!(true) })
            }
            _ => Err(refused()),
        },
        "date" => value.as_str().and_then(date).map(Value::from).ok_or_else(refused),
        "dateTime" => {
            let zone = field_now.option("timeZone");
            value
                .as_str()
                .and_then(|text| date_time(text, zone))
                .map(|ms| Value::from(iso_ms(ms)))
                .ok_or_else(refused)
        }
        "barcode" => match value["text"].as_str() {
            Some(_) => Ok(value.clone()),
            None => Err(refused()),
        },
        "singleSelect" => match value {
            Value::String(name) => choice(tx, table, field, name, typecast),
            Value::Number(_) if typecast => choice(tx, table, field, &value.to_string(), typecast),
            _ => Err(refused()),
        },
        "multipleSelects" => {
            let names = list(value, typecast).ok_or_else(refused)?;
            let mut ids = Vec::new();
            for name in names {
                let name = name.as_str().ok_or_else(refused)?.to_owned();
                let id = choice(tx, table, field, &name, typecast)?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok(Value::Array(ids))
        }
        "multipleRecordLinks" => links(tx, &field_now, value, typecast),
        "singleCollaborator" => collaborator(tx, &field_now, value),
        "multipleCollaborators" => {
            let people = list(value, typecast).ok_or_else(refused)?;
            people
                .iter()
                .map(|person| collaborator(tx, &field_now, person))
                .collect::<Answer<Vec<_>>>()
                .map(Value::Array)
        }
        "multipleAttachments" => attachments(tx, table, &field_now, value),
        _ => Err(computed_field(&field_now.name)),
    }
}

fn number(value: &Value, typecast: bool) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) if typecast => {
            let parsed: f64 = text.trim().parse().ok()?;
            serde_json::Number::from_f64(parsed).map(Value::Number)
        }
        _ => None,
    }
}

/// The items of an array; with `typecast`, of a text with commas too.
fn list(value: &Value, typecast: bool) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::String(text) if typecast => Some(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(Value::from)
                .collect(),
        ),
        _ => None,
    }
}

/// An ISO date, or the date of an ISO date-time.
fn date(text: &str) -> Option<String> {
    let day: String = text.chars().take(10).collect();
    let rest: String = text.chars().skip(10).collect();
    if !(rest.is_empty() || rest.starts_with('T') || rest.starts_with(' ')) || day.len() != 10 {
        return None;
    }
    NaiveDate::parse_from_str(&day, "%Y-%m-%d").ok().map(|day| day.format("%Y-%m-%d").to_string())
}

/// An ISO date-time in ms; without an offset it is in `zone` (when that is an IANA zone), else UTC.
fn date_time(text: &str, zone: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    let naive =
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
            .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    match chrono_tz::Tz::from_str(zone) {
        Ok(zone) => zone.from_local_datetime(&naive).earliest().map(|at| at.timestamp_millis()),
        Err(_) => Some(Utc.from_utc_datetime(&naive).timestamp_millis()),
    }
}

fn choice(
    tx: &mut Transaction<'_>,
    table: usize,
    field: usize,
    name: &str,
    typecast: bool,
) -> Answer<Value> {
    if let Some(known) = tx.base.tables[table].fields[field].choice_by_name(name) {
        return Ok(known["id"].clone());
    }
    if !typecast || name.is_empty() {
        let text = format!("Insufficient permissions to create new select option \"{name}\"");
        return Err(error(422, "INVALID_MULTIPLE_CHOICE_OPTIONS", &text));
    }
    let id = tx.ids.make("sel");
    let new = json!({ "id": id, "name": name, "color": "grayLight2" });
    let field = &mut tx.base.tables[table].fields[field];
    if let Some(choices) = field.options.get_mut("choices").and_then(Value::as_array_mut) {
        choices.push(new);
    } else {
        field.options = json!({ "choices": [new] });
    }
    Ok(Value::from(id))
}

fn links(tx: &mut Transaction<'_>, field: &Field, value: &Value, typecast: bool) -> Answer<Value> {
    let items = list(value, typecast).ok_or_else(|| value_refused(&field.name))?;
    let target_id = field.option("linkedTableId").to_owned();
    let target = tx.base.table_index(&target_id).ok_or_else(|| value_refused(&field.name))?;
    let mut ids: Vec<Value> = Vec::new();
    for item in items {
        let text = item
            .as_str()
            .or_else(|| item["id"].as_str())
            .ok_or_else(|| value_refused(&field.name))?
            .to_owned();
        let id = if tx.base.tables[target].records.contains_key(&text) {
            text
        } else if let Some(other) = tx.base.table_of(&text) {
            let message = format!(
                "Record ID {text} belongs to table {}, but the field links to table {target_id}",
                tx.base.tables[other].id
            );
            return Err(error(422, "ROW_TABLE_DOES_NOT_MATCH_LINKED_TABLE", &message));
        } else if typecast && !super::ids::is_id(&text, "rec") {
            linked_by_name(tx, target, &text)?
        } else if super::ids::is_id(&text, "rec") {
            return Err(row_does_not_exist(&text));
        } else {
            return Err(value_refused(&field.name));
        };
        let id = Value::from(id);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(Value::Array(ids))
}

/// The record whose primary text is `name`, made when there is none.
fn linked_by_name(tx: &mut Transaction<'_>, target: usize, name: &str) -> Answer<String> {
    let look = tx.look();
    let table = &tx.base.tables[target];
    if let Some(found) = table.records.values().find(|record| look.title(table, record) == name) {
        return Ok(found.id.clone());
    }
    if !tx.config.typecast_creates_links {
        return Err(row_does_not_exist(name));
    }
    let primary = table.primary().map(|field| field.id.clone()).unwrap_or_default();
    let index = table.field_index(&primary).unwrap_or_default();
    let cell = parse(tx, target, index, &Value::from(name), true)?;
    Ok(tx.create(target, vec![(index, cell)]))
}

fn collaborator(tx: &Transaction<'_>, field: &Field, value: &Value) -> Answer<Value> {
    let found = tx.users.values().find(|user| {
        value.as_str() == Some(&user.id)
            || value["id"].as_str() == Some(&user.id)
            || (value["id"].is_null() && value["email"].as_str() == Some(&user.email))
    });
    found.map(|user| Value::from(user.id.as_str())).ok_or_else(|| value_refused(&field.name))
}

fn attachments(
    tx: &mut Transaction<'_>,
    table: usize,
    field: &Field,
    value: &Value,
) -> Answer<Value> {
    let refused = || value_refused(&field.name);
    let items = value.as_array().ok_or_else(refused)?;
    let mut kept = Vec::new();
    for item in items {
        if let Some(id) = item["id"].as_str() {
            let known = tx.base.tables[table].records.values().find_map(|record| {
                let cell = record.cells.get(&field.id)?.as_array()?;
                cell.iter().find(|known| known["id"] == id).cloned()
            });
            kept.push(known.ok_or_else(refused)?);
        } else {
            let url =
                item["url"].as_str().filter(|url| url.starts_with("http")).ok_or_else(refused)?;
            let from_url = url
                .split(['?', '#'])
                .next()
                .and_then(|path| path.rsplit('/').next())
                .unwrap_or("file");
            let filename = item["filename"].as_str().unwrap_or(from_url).to_owned();
            let ready_ms = tx.now_ms + tx.config.attachment_delay_ms;
            let url = url.to_owned();
            kept.push(stored_attachment(tx, &filename, mime_of(&filename), 12_345, ready_ms, &url));
        }
    }
    Ok(Value::Array(kept))
}

/// An attachment as it is kept.
pub(super) fn stored_attachment(
    tx: &mut Transaction<'_>,
    filename: &str,
    kind: &str,
    size: usize,
    ready_ms: i64,
    url: &str,
) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(tx.ids.make("att")));
    map.insert("filename".into(), json!(filename));
    map.insert("type".into(), json!(kind));
    map.insert("size".into(), json!(size));
    map.insert("ready_ms".into(), json!(ready_ms));
    map.insert("original_url".into(), json!(url));
    map.insert("pending".into(), json!(ready_ms > tx.now_ms));
    Value::Object(map)
}
