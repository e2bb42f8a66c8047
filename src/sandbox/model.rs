//! What the sandbox holds: bases, tables, fields, views, records, people, webhooks, all of it in memory.
//!
//! Cells are kept in a form of their own: a select by the id of its choice, a link as ids, a person as an
//! id. How a cell looks over REST or in a webhook's payload, [`super::cell`] says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::fault::Faults;
use super::ids::{Ids, Rng};
use super::limit::Limits;
use super::ping::{Letter, PingFault};
use super::webhook::Webhook;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tables: Vec<Table>,
    pub(super) webhooks: Vec<Webhook>,
    /// Number of the last transaction, shared by all webhooks of the base.
    pub(super) transaction_number: u64,
    /// Deleted records with the table they were in; a restore brings them back under the same id.
    pub(super) trash: Vec<(String, Record)>,
    /// Deleted tables and fields (the field with its table's id and its cells).
    pub(super) table_trash: Vec<Table>,
    /// The transaction log: what is true, for tests of convergence.
    pub(super) log: VecDeque<Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) primary_field_id: String,
    pub(super) fields: Vec<Field>,
    pub(super) views: Vec<View>,
    pub(super) records: BTreeMap<String, Record>,
    /// The last number given out; never given out again.
    pub(super) auto_number: u64,
    /// An externally synced table: rows are read-only.
    pub(super) is_synced: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    /// As the metadata endpoint shows them; `Null` for types without options.
    pub(super) options: Value,
    pub(super) description: Option<String>,
    /// Nobody may edit this field's cells through the API.
    pub(super) is_locked: bool,
    /// What a new record gets when its creator says nothing.
    pub(super) default: Option<Value>,
    /// How a rollup gathers: `SUM`, `MAX`, `MIN`, `COUNTA`; not shown in the metadata, as on the wire.
    pub(super) aggregate: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    /// A formula; empty: all records.
    pub(super) filter: String,
    /// Field id and whether descending.
    pub(super) sort: Vec<(String, bool)>,
    pub(super) hidden_field_ids: Vec<String>,
    /// The records in a filtered view after the last transaction.
    pub(super) members: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) created_ms: i64,
    pub(super) created_by: String,
    pub(super) modified_ms: i64,
    pub(super) modified_by: String,
    /// When each writable field was last changed.
    pub(super) field_modified_ms: BTreeMap<String, i64>,
    pub(super) number: u64,
    /// By field id; an empty cell has no entry.
    pub(super) cells: BTreeMap<String, Value>,
    /// Values that a test put over computed cells.
    pub(super) injected: BTreeMap<String, Value>,
    pub(super) comments: Vec<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) token: String,
    pub(super) user: String,
    pub(super) scopes: BTreeSet<String>,
    /// The bases it was granted; none: all.
    pub(super) bases: Option<BTreeSet<String>>,
    /// `read`, `comment`, `edit` or `create`.
    pub(super) role: String,
    /// The `OAuth` integration it belongs to; none: a personal access token.
    pub(super) oauth: Option<String>,
}

/// Part of the state that a snapshot keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct World {
    pub(super) bases: BTreeMap<String, Base>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) tokens: BTreeMap<String, Token>,
    /// Bytes of uploaded attachments, base64, by attachment id.
    pub(super) files: BTreeMap<String, String>,
}

/// A listing that goes on: the place is in the offset, the rest here.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) used_ms: i64,
    /// The whole order, when it is not that of the ids: a sort or a view is fixed at the first page.
    pub(super) order: Option<Vec<String>>,
    /// How many records had been given when this record was the last of a page.
    pub(super) given: BTreeMap<String, usize>,
}

/// Everything, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) ids: Ids,
    /// For orders and delays that nobody may rely on; apart from `ids`, so that reads change no id.
    pub(super) noise: Rng,
    pub(super) config: Config,
    pub(super) limits: Limits,
    pub(super) faults: Faults,
    pub(super) ping_faults: VecDeque<PingFault>,
    /// Pings that wait until another one has gone.
    pub(super) held_letters: Vec<Letter>,
    pub(super) listings: BTreeMap<String, Listing>,
    pub(super) stats: Stats,
    pub(super) snapshots: BTreeMap<String, World>,
    /// Own address, for attachment URLs.
    pub(super) url: String,
    /// Grows with every change; for the page and the state file.
    pub(super) version: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stats {
    /// Requests to /v0 so far; the number faults are addressed by.
    pub(super) request_count: u64,
    pub(super) by_kind: BTreeMap<String, u64>,
    pub(super) by_status: BTreeMap<u16, u64>,
    pub(super) refused_by_rate_count: u64,
    pub(super) record_read_count: u64,
    pub(super) record_written_count: u64,
    pub(super) ping_count: u64,
    pub(super) ping_failed_count: u64,
}

impl Base {
    pub(super) fn table_index(&self, id_or_name: &str) -> Option<usize> {
        self.tables
            .iter()
            .position(|table| table.id == id_or_name)
            .or_else(|| self.tables.iter().position(|table| table.name == id_or_name))
    }

    pub(super) fn table(&self, id_or_name: &str) -> Option<&Table> {
        self.table_index(id_or_name).map(|index| &self.tables[index])
    }

    /// The index of the table that holds this record.
    pub(super) fn table_of(&self, record_id: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.records.contains_key(record_id))
    }
}

impl Table {
    /// By id, or by exact name.
    pub(super) fn field(&self, id_or_name: &str) -> Option<&Field> {
        self.field_index(id_or_name).map(|index| &self.fields[index])
    }

    pub(super) fn field_index(&self, id_or_name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| field.id == id_or_name)
            .or_else(|| self.fields.iter().position(|field| field.name == id_or_name))
    }

    pub(super) fn primary(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == self.primary_field_id)
    }
}

impl Field {
    pub(super) fn option(&self, key: &str) -> &str {
        self.options.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn choices(&self) -> &[Value] {
        self.options.get("choices").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn choice_by_id(&self, id: &str) -> Option<&Value> {
        self.choices().iter().find(|choice| choice["id"] == id)
    }

    pub(super) fn choice_by_name(&self, name: &str) -> Option<&Value> {
        self.choices().iter().find(|choice| choice["name"] == name)
    }

    pub(super) fn is_link(&self) -> bool {
        self.kind == "multipleRecordLinks"
    }

    /// Whether a client may write its cells. Every type not known here counts as computed.
    pub(super) fn is_writable(&self) -> bool {
        super::schema::CREATABLE_KINDS.contains(&self.kind.as_str())
    }

    /// As the metadata endpoint shows it.
    pub(super) fn to_meta(&self) -> Value {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        map.insert("name".into(), json!(self.name));
        map.insert("type".into(), json!(self.kind));
        if let Some(description) = &self.description {
            map.insert("description".into(), json!(description));
        }
        if !self.options.is_null() {
            map.insert("options".into(), self.options.clone());
        }
        Value::Object(map)
    }
}

impl User {
    /// As in a cell over REST.
    pub(super) fn to_rest(&self) -> Value {
        json!({ "id": self.id, "email": self.email, "name": self.name })
    }

    /// As in a webhook's payload.
    pub(super) fn to_v2(&self) -> Value {
        json!({
            "id": self.id, "email": self.email, "name": self.name, "permissionLevel": "create",
            "profilePicUrl": "https://static.airtable.com/images/userIcons/user_icon_7.png",
        })
    }
}

/// Whether a cell with this value counts as empty over REST.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The strings in an array.
pub(super) fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// The ids that a link cell holds.
pub(super) fn link_ids(record: &Record, field_id: &str) -> Vec<String> {
    record.cells.get(field_id).map(strings).unwrap_or_default()
}
