//! How a cell looks: over REST (V1), in a webhook's payload (V2), and as text.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::clock::iso_ms;
use super::model::{Base, Field, Record, Table, User, is_empty, strings};

const HOUR_MS: i64 = 3_600_000;

/// What is needed to show a cell: the base (choices, linked records), the people, own address and time.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) base: &'a Base,
    pub(super) users: &'a BTreeMap<String, User>,
    pub(super) url: &'a str,
    pub(super) now_ms: i64,
}

impl<'a> Look<'a> {
    /// All non-empty cells of a record over REST, keyed by name or by id; `wanted` are field ids.
    pub(super) fn rest_fields(
        &self,
        table: &Table,
        record: &Record,
        wanted: Option<&[String]>,
        is_keyed_by_id: bool,
    ) -> Map<String, Value> {
        let mut fields = Map::new();
        for field in &table.fields {
            if wanted.is_some_and(|wanted| !wanted.contains(&field.id)) {
                continue;
            }
            let value = self.rest_of(field, record);
            if !is_empty(&value) {
                let key = if is_keyed_by_id { &field.id } else { &field.name };
                fields.insert(key.clone(), value);
            }
        }
        fields
    }

    /// One cell over REST; `Null` when it is empty.
    pub(super) fn rest_of(&self, field: &Field, record: &Record) -> Value {
        match record.injected.get(&field.id).or_else(|| record.cells.get(&field.id)) {
            Some(value) => self.rest(field, value),
            None if field.kind == "aiText" => {
                json!({ "state": "empty", "value": null, "isStale": false })
            }
            None => Value::Null,
        }
    }

    pub(super) fn rest(&self, field: &Field, value: &Value) -> Value {
        match field.kind.as_str() {
            "singleSelect" | "externalSyncSource" => self.choice_name(field, value),
            "multipleSelects" => each(value, |item| self.choice_name(field, item)),
            "singleCollaborator" | "createdBy" | "lastModifiedBy" => {
                self.user(value, User::to_rest)
            }
            "multipleCollaborators" => each(value, |item| self.user(item, User::to_rest)),
            "multipleAttachments" => each(value, |item| self.attachment(item)),
            "multipleLookupValues" => {
                let Some(pairs) = value.as_array() else { return value.clone() };
                let target = self.lookup_target(field);
                let flat =
                    pairs.iter().filter_map(|pair| pair[1].as_array()).flatten().flat_map(|item| {
                        match target.map_or_else(|| item.clone(), |target| self.rest(target, item))
                        {
                            Value::Array(inner) => inner,
                            plain => vec![plain],
                        }
                    });
                Value::Array(flat.collect())
            }
            _ => value.clone(),
        }
    }

    /// One cell as a payload shows it.
    pub(super) fn v2(&self, field: &Field, value: &Value) -> Value {
        if is_empty(value) {
            return Value::Null;
        }
        match field.kind.as_str() {
            "singleSelect" | "externalSyncSource" => choice(field, value),
            "multipleSelects" => each(value, |item| choice(field, item)),
            "singleCollaborator" | "createdBy" | "lastModifiedBy" => self.user(value, User::to_v2),
            "multipleCollaborators" => each(value, |item| self.user(item, User::to_v2)),
            "multipleRecordLinks" => each(value, |item| {
                let id = item.as_str().unwrap_or_default();
                json!({ "id": id, "name": self.name_of(field, id) })
            }),
            "multipleLookupValues" => {
                let Some(pairs) = value.as_array() else { return value.clone() };
                let target = self.lookup_target(field);
                let mut by_record = Map::new();
                for pair in pairs {
                    let values = each(&pair[1], |item| {
                        target.map_or_else(|| item.clone(), |target| self.v2(target, item))
                    });
                    by_record.insert(pair[0].as_str().unwrap_or_default().to_owned(), values);
                }
                let ids: Vec<Value> = pairs.iter().map(|pair| pair[0].clone()).collect();
                json!({ "linkedRecordIds": ids, "valuesByLinkedRecordId": by_record })
            }
            _ => self.rest(field, value),
        }
    }

    /// All non-empty cells of a record as a payload shows them, by field id.
    pub(super) fn v2_fields(&self, table: &Table, record: &Record) -> Map<String, Value> {
        let mut fields = Map::new();
        for field in &table.fields {
            let value = record.injected.get(&field.id).or_else(|| record.cells.get(&field.id));
            let shown = value.map_or(Value::Null, |value| self.v2(field, value));
            if !is_empty(&shown) {
                fields.insert(field.id.clone(), shown);
            }
        }
        fields
    }

    /// One cell as text, as `cellFormat=string` and the names of linked records have it.
    pub(super) fn text(&self, field: &Field, value: &Value) -> String {
        match (field.kind.as_str(), value) {
            ("checkbox", Value::Bool(true)) => "checked".into(),
            ("multipleRecordLinks", _) => {
                let names: Vec<String> =
                    strings(value).iter().map(|id| self.name_of(field, id)).collect();
                names.join(", ")
            }
            ("multipleAttachments", _) => {
                let shown = each(value, |item| self.attachment(item));
                let texts = shown.as_array().into_iter().flatten().map(|item| {
                    format!(
                        "{} ({})",
                        item["filename"].as_str().unwrap_or_default(),
                        item["url"].as_str().unwrap_or_default()
                    )
                });
                texts.collect::<Vec<_>>().join(", ")
            }
            ("currency", Value::Number(number)) => format!("{}{number}", field.option("symbol")),
            _ => plain_text(&self.rest(field, value)),
        }
    }

    /// The primary text of the record `id` that a cell of `field` links to.
    pub(super) fn name_of(&self, field: &Field, id: &str) -> String {
        let table = self.base.table(field.option("linkedTableId"));
        match table.and_then(|table| table.records.get(id).map(|record| self.title(table, record)))
        {
            Some(title) => title,
            None => "Unnamed record".into(),
        }
    }

    /// The primary text of a record.
    pub(super) fn title(&self, table: &Table, record: &Record) -> String {
        let text = table
            .primary()
            .and_then(|field| record.cells.get(&field.id).map(|value| self.text(field, value)))
            .unwrap_or_default();
        if text.is_empty() { "Unnamed record".into() } else { text }
    }

    /// The field that a lookup shows, when it still exists.
    pub(super) fn lookup_target(&self, field: &Field) -> Option<&'a Field> {
        let id = field.option("fieldIdInLinkedTable");
        self.base.tables.iter().find_map(|table| table.fields.iter().find(|field| field.id == id))
    }

    fn choice_name(&self, field: &Field, value: &Value) -> Value {
        choice(field, value)["name"].clone()
    }

    fn user(&self, value: &Value, show: fn(&User) -> Value) -> Value {
        let id = value.as_str().unwrap_or_default();
        self.users.get(id).map_or_else(|| json!({ "id": id }), show)
    }

    fn attachment(&self, item: &Value) -> Value {
        let id = item["id"].as_str().unwrap_or_default();
        if item["ready_ms"].as_i64().unwrap_or_default() > self.now_ms {
            return json!({ "id": id, "url": item["original_url"], "filename": item["filename"] });
        }
        let expires_ms = (self.now_ms + 2 * HOUR_MS + HOUR_MS - 1).div_euclid(HOUR_MS) * HOUR_MS;
        let url = |part: &str| {
            format!("{}/v5.airtableusercontent.com/v3/u/53/53/{expires_ms}/{id}/{part}", self.url)
        };
        let mut shown = json!({
            "id": id, "url": url("file"), "filename": item["filename"], "size": item["size"], "type": item["type"],
        });
        if item["type"].as_str().is_some_and(|kind| kind.starts_with("image/")) {
            shown["width"] = json!(800);
            shown["height"] = json!(600);
            shown["thumbnails"] = json!({
                "small": { "url": url("small"), "width": 36, "height": 27 },
                "large": { "url": url("large"), "width": 512, "height": 384 },
                "full": { "url": url("full"), "width": 800, "height": 600 },
            });
        }
        shown
    }
}

fn choice(field: &Field, value: &Value) -> Value {
    field.choice_by_id(value.as_str().unwrap_or_default()).cloned().unwrap_or_default()
}

fn each(value: &Value, show: impl FnMut(&Value) -> Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(show).collect()),
        other => other.clone(),
    }
}

/// A REST value as text: lists joined by commas, people by name.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain_text).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let key = ["name", "text", "label", "value", "error"]
                .into_iter()
                .find(|key| map.contains_key(*key));
            key.map(|key| plain_text(&map[key])).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

/// The mime type that a file name suggests.
pub(super) fn mime_of(filename: &str) -> &'static str {
    match filename.rsplit('.').next().map(str::to_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("pdf") => "application/pdf",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

/// A time in a cell: `2024-01-31T07:00:00.000Z`.
pub(super) fn instant(ms: i64) -> Value {
    Value::from(iso_ms(ms))
}
