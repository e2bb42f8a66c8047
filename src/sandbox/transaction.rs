//! One action on a base: its edits, what follows from them, and the entry in the log.
//!
//! Edits go in through [`Transaction`]; at the end, [`State::transact`] recomputes what depends on them,
//! compares every touched record with how it was, and hands the [`Change`] to log and webhooks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cell::Look;
use super::clock::{iso_ms, iso_seconds};
use super::config::Config;
use super::ids::Ids;
use super::model::{Base, Field, Record, State, User, is_empty, link_ids, strings};
use super::reply::{Answer, forbidden_or_unknown};
use super::{computed, payload};

/// Entries of the log that are kept.
const LOG_COUNT_MAX: usize = 20_000;

/// Who does something, as a webhook's payload will tell.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Actor {
    /// `client`, `publicApi`, `formSubmission`, `automation`, `sync`, `system`, `anonymousUser`, or any text.
    pub source: String,
    /// Id of the person, for `client` and `publicApi`.
    #[serde(default)]
    pub user: Option<String>,
    /// Further keys of `sourceMetadata`, such as `viewId`.
    #[serde(default)]
    pub metadata: Value,
}

impl Actor {
    /// A person in the app.
    pub fn person(user_id: &str) -> Self {
        Self { source: "client".into(), user: Some(user_id.into()), metadata: Value::Null }
    }

    /// A source without a person: `automation`, `sync`, `system`, `anonymousUser`.
    pub fn source(source: &str) -> Self {
        Self { source: source.into(), user: None, metadata: Value::Null }
    }

    fn to_metadata(&self, users: &BTreeMap<String, User>) -> Value {
        let mut source_metadata = self.metadata.as_object().cloned().unwrap_or_default();
        if let Some(user) = self.user.as_ref().and_then(|id| users.get(id)) {
            source_metadata.insert("user".into(), user.to_v2());
        }
        let mut map = Map::new();
        map.insert("source".into(), json!(self.source));
        if !source_metadata.is_empty() {
            map.insert("sourceMetadata".into(), Value::Object(source_metadata));
        }
        Value::Object(map)
    }
}

/// A cell before and after, as payloads show it.
#[derive(Clone, Debug)]
pub(super) struct CellChange {
    pub(super) previous: Value,
    pub(super) current: Value,
    pub(super) is_computed: bool,
    /// The other end of a link that was edited elsewhere.
    pub(super) is_inverse: bool,
}

/// What happened in one table.
#[derive(Clone, Debug, Default)]
pub(super) struct TableChange {
    /// Name and description before and after.
    pub(super) metadata: Option<(Value, Value)>,
    pub(super) created_fields: BTreeMap<String, Value>,
    pub(super) changed_fields: BTreeMap<String, (Value, Value)>,
    pub(super) destroyed_fields: Vec<String>,
    pub(super) created: BTreeMap<String, Value>,
    pub(super) changed: BTreeMap<String, BTreeMap<String, CellChange>>,
    pub(super) destroyed: Vec<String>,
    /// By filtered view: the records that came in and those that went out.
    pub(super) views: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

/// What one action did.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) timestamp_ms: i64,
    pub(super) number: u64,
    pub(super) source: String,
    pub(super) action_metadata: Value,
    pub(super) tables: BTreeMap<String, TableChange>,
    pub(super) created_tables: BTreeMap<String, Value>,
    pub(super) destroyed_tables: Vec<String>,
    pub(super) destroyed_views: Vec<String>,
}

/// An action in the making.
pub(super) struct Transaction<'a> {
    pub(super) base: &'a mut Base,
    pub(super) users: &'a BTreeMap<String, User>,
    pub(super) ids: &'a mut Ids,
    pub(super) config: &'a Config,
    pub(super) url: &'a str,
    pub(super) now_ms: i64,
    pub(super) actor: Actor,
    /// Every touched record as it was, by table and record id; none: it was not there.
    pub(super) before: BTreeMap<(String, String), Option<Record>>,
    pub(super) inverse: BTreeSet<(String, String)>,
    /// Changes to tables and fields so far; records are compared at the end.
    pub(super) change: Change,
    /// Fields as they were before their type changed.
    pub(super) retyped: BTreeMap<String, Field>,
}

impl State {
    /// Runs `edit` on the base and, when it succeeds, everything that follows; nothing when it fails.
    ///
    /// # Errors
    /// What `edit` returned, or that the base is unknown.
    pub(super) fn transact<T>(
        &mut self,
        base_id: &str,
        actor: Actor,
        now_ms: i64,
        edit: impl FnOnce(&mut Transaction<'_>) -> Answer<T>,
    ) -> Answer<T> {
        let base = self.world.bases.get_mut(base_id).ok_or_else(forbidden_or_unknown)?;
        let mut tx = Transaction {
            base,
            users: &self.world.users,
            ids: &mut self.ids,
            config: &self.config,
            url: &self.url,
            now_ms,
            actor,
            before: BTreeMap::new(),
            inverse: BTreeSet::new(),
            change: Change::default(),
            retyped: BTreeMap::new(),
        };
        let backup = SchemaBackup::of(tx.base);
        match edit(&mut tx) {
            Ok(value) => {
                tx.note_option_changes(&backup);
                tx.commit();
                self.version += 1;
                Ok(value)
            }
            Err(refusal) => {
                tx.roll_back(backup);
                Err(refusal)
            }
        }
    }
}

/// Choices and counters as they were, cheap to keep: a refused request must leave none behind.
struct SchemaBackup(Vec<(String, Vec<Field>, u64)>, usize);

impl SchemaBackup {
    fn of(base: &Base) -> Self {
        let tables = base
            .tables
            .iter()
            .map(|table| (table.id.clone(), table.fields.clone(), table.auto_number));
        Self(tables.collect(), base.trash.len())
    }
}

impl Transaction<'_> {
    pub(super) fn look(&self) -> Look<'_> {
        Look { base: self.base, users: self.users, url: self.url, now_ms: self.now_ms }
    }

    /// Remembers a record as it is, once.
    pub(super) fn touch(&mut self, table: usize, id: &str) {
        let table = &self.base.tables[table];
        let key = (table.id.clone(), id.to_owned());
        self.before.entry(key).or_insert_with(|| table.records.get(id).cloned());
    }

    /// Makes a record with these cells (field index and stored value); defaults fill what is not named.
    pub(super) fn create(&mut self, table: usize, cells: Vec<(usize, Value)>) -> String {
        let mut id = self.ids.make("rec");
        while self.base.table_of(&id).is_some() {
            id = self.ids.make("rec");
        }
        self.touch(table, &id);
        let by = self.actor.user.clone().unwrap_or_default();
        let target = &mut self.base.tables[table];
        target.auto_number += 1;
        let record = Record {
            id: id.clone(),
            created_ms: self.now_ms,
            created_by: by.clone(),
            modified_ms: self.now_ms,
            modified_by: by,
            number: target.auto_number,
            ..Record::default()
        };
        let defaults: Vec<(usize, Value)> = target
            .fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !cells.iter().any(|(named, _)| named == index))
            .filter_map(|(index, field)| field.default.clone().map(|value| (index, value)))
            .collect();
        target.records.insert(id.clone(), record);
        for (field, value) in defaults.into_iter().chain(cells) {
            self.set(table, &id, field, value);
        }
        id
    }

    /// Sets one cell to a stored value (`Null` clears it) and the other end of a link with it.
    pub(super) fn set(&mut self, table: usize, id: &str, field: usize, value: Value) {
        self.touch(table, id);
        let field = self.base.tables[table].fields[field].clone();
        let old = self.put(table, id, &field.id, value.clone());
        if field.is_link() && old != value {
            let (old, new) = (strings(&old), strings(&value));
            for gone in old.iter().filter(|gone| !new.contains(gone)) {
                self.edit_inverse(&field, gone, |ids| ids.retain(|other| other != id));
            }
            for come in new.iter().filter(|come| !old.contains(come)) {
                self.edit_inverse(&field, come, |ids| {
                    if !ids.iter().any(|other| other == id) {
                        ids.push(id.to_owned());
                    }
                });
            }
        }
    }

    /// Writes a cell and the marks of who and when; returns what it held.
    fn put(&mut self, table: usize, id: &str, field_id: &str, value: Value) -> Value {
        let by = self.actor.user.clone().unwrap_or_default();
        let Some(record) = self.base.tables[table].records.get_mut(id) else { return Value::Null };
        let old = if is_empty(&value) {
            record.cells.remove(field_id)
        } else {
            record.cells.insert(field_id.to_owned(), value.clone())
        };
        let old = old.unwrap_or_default();
        if old != value {
            record.modified_ms = self.now_ms;
            record.modified_by = by;
            record.field_modified_ms.insert(field_id.to_owned(), self.now_ms);
        }
        old
    }

    fn edit_inverse(&mut self, field: &Field, other_id: &str, edit: impl FnOnce(&mut Vec<String>)) {
        let inverse_id = field.option("inverseLinkFieldId").to_owned();
        let Some(table) = self.base.table_index(field.option("linkedTableId")) else { return };
        if inverse_id.is_empty() || !self.base.tables[table].records.contains_key(other_id) {
            return;
        }
        self.touch(table, other_id);
        let mut ids = link_ids(&self.base.tables[table].records[other_id], &inverse_id);
        edit(&mut ids);
        self.inverse.insert((other_id.to_owned(), inverse_id.clone()));
        self.put(table, other_id, &inverse_id, json!(ids));
    }

    /// Deletes a record: out of every link to it, and into the trash.
    pub(super) fn delete(&mut self, table: usize, id: &str) {
        self.touch(table, id);
        let Some(whole) = self.base.tables[table].records.get(id).cloned() else { return };
        let links: Vec<usize> = (0..self.base.tables[table].fields.len())
            .filter(|index| self.base.tables[table].fields[*index].is_link())
            .collect();
        for field in links {
            self.set(table, id, field, Value::Null);
        }
        // Links that have no other end in this record: of a table to itself.
        let table_id = self.base.tables[table].id.clone();
        for other in 0..self.base.tables.len() {
            for field in 0..self.base.tables[other].fields.len() {
                let definition = &self.base.tables[other].fields[field];
                let is_one_way = definition.is_link()
                    && definition.option("linkedTableId") == table_id
                    && definition.option("inverseLinkFieldId").is_empty();
                if is_one_way {
                    let field_id = definition.id.clone();
                    let holders: Vec<String> = self.base.tables[other]
                        .records
                        .values()
                        .filter(|record| {
                            link_ids(record, &field_id).iter().any(|linked| linked == id)
                        })
                        .map(|record| record.id.clone())
                        .collect();
                    for holder in holders {
                        let mut ids =
                            link_ids(&self.base.tables[other].records[&holder], &field_id);
                        ids.retain(|linked| linked != id);
                        self.inverse.insert((holder.clone(), field_id.clone()));
                        self.set(other, &holder, field, json!(ids));
                    }
                }
            }
        }
        self.base.tables[table].records.remove(id);
        self.base.trash.push((table_id, whole));
    }

    /// Brings a deleted record back under its id, with the links whose other ends still exist.
    pub(super) fn restore(&mut self, id: &str) -> bool {
        let Some(index) = self.base.trash.iter().rposition(|(_, record)| record.id == id) else {
            return false;
        };
        let Some(table) = self.base.table_index(&self.base.trash[index].0) else { return false };
        self.touch(table, id);
        let (_, mut record) = self.base.trash.remove(index);
        let fields = self.base.tables[table].fields.clone();
        let cells = std::mem::take(&mut record.cells);
        record.cells = cells.clone();
        record.cells.retain(|field_id, _| {
            fields.iter().any(|field| field.id == *field_id && !field.is_link())
        });
        self.base.tables[table].records.insert(id.to_owned(), record);
        for (position, field) in fields.iter().enumerate().filter(|(_, field)| field.is_link()) {
            let Some(target) = self.base.table_index(field.option("linkedTableId")) else {
                continue;
            };
            let alive: Vec<String> = cells
                .get(&field.id)
                .map(strings)
                .unwrap_or_default()
                .into_iter()
                .filter(|linked| self.base.tables[target].records.contains_key(linked))
                .collect();
            if !alive.is_empty() {
                self.set(table, id, position, json!(alive));
            }
        }
        true
    }

    pub(super) fn table_change(&mut self, table_id: &str) -> &mut TableChange {
        self.change.tables.entry(table_id.to_owned()).or_default()
    }

    fn roll_back(self, backup: SchemaBackup) {
        for ((table_id, record_id), record) in self.before {
            let Some(table) = self.base.tables.iter_mut().find(|table| table.id == table_id) else {
                continue;
            };
            match record {
                Some(record) => table.records.insert(record_id, record),
                None => table.records.remove(&record_id),
            };
        }
        for (table_id, fields, auto_number) in backup.0 {
            if let Some(table) = self.base.tables.iter_mut().find(|table| table.id == table_id) {
                table.fields = fields;
                table.auto_number = auto_number;
            }
        }
        self.base.trash.truncate(backup.1);
    }

    /// A change of a field's options leaves an entry that does not say what changed.
    fn note_option_changes(&mut self, backup: &SchemaBackup) {
        if self.config.option_payload != "empty" {
            return;
        }
        for (table_id, fields, _) in &backup.0 {
            let Some(table) = self.base.tables.iter().find(|table| table.id == *table_id) else {
                continue;
            };
            let changed: Vec<String> = fields
                .iter()
                .filter(|old| {
                    table.fields.iter().any(|new| new.id == old.id && new.options != old.options)
                })
                .map(|old| old.id.clone())
                .collect();
            for id in changed {
                let entries = &mut self.table_change(table_id).changed_fields;
                entries.entry(id).or_insert_with(|| (json!({}), json!({})));
            }
        }
    }

    fn commit(mut self) {
        computed::settle(&mut self);
        self.compare();
        self.change.tables.retain(|_, table| !table.is_empty());
        let change = &mut self.change;
        if change.tables.is_empty()
            && change.created_tables.is_empty()
            && change.destroyed_tables.is_empty()
        {
            return;
        }
        self.base.transaction_number += 1;
        change.number = self.base.transaction_number;
        change.timestamp_ms = self.now_ms;
        change.source.clone_from(&self.actor.source);
        change.action_metadata = self.actor.to_metadata(self.users);
        let change = std::mem::take(change);
        let entry = payload::log_entry(&change);
        self.base.log.push_back(entry);
        if self.base.log.len() > LOG_COUNT_MAX {
            self.base.log.pop_front();
        }
        payload::deliver(&mut self, &change);
    }

    /// Finds what became of every touched record.
    fn compare(&mut self) {
        let before = std::mem::take(&mut self.before);
        let mut found: BTreeMap<String, TableChange> = BTreeMap::new();
        for ((table_id, record_id), old) in &before {
            let Some(table) = self.base.tables.iter().find(|table| table.id == *table_id) else {
                continue;
            };
            if self.change.created_tables.contains_key(table_id) {
                continue;
            }
            let look = self.look();
            let entry = found.entry(table_id.clone()).or_default();
            match (old, table.records.get(record_id)) {
                (None, Some(record)) => {
                    let shown = json!({
                        "createdTime": iso_seconds(record.created_ms),
                        "cellValuesByFieldId": look.v2_fields(table, record),
                    });
                    entry.created.insert(record_id.clone(), shown);
                }
                (Some(_), None) => entry.destroyed.push(record_id.clone()),
                (Some(old), Some(new)) => {
                    let cells = self.changed_cells(&before, table_id, old, new);
                    if !cells.is_empty() {
                        entry.changed.insert(record_id.clone(), cells);
                    }
                }
                (None, None) => {}
            }
        }
        for (table_id, mut records) in found {
            records.views = super::list::update_views(self, &table_id, &before);
            let entry = self.table_change(&table_id);
            entry.created = records.created;
            entry.changed = records.changed;
            entry.destroyed = records.destroyed;
            entry.views = records.views;
        }
    }

    fn changed_cells(
        &self,
        before: &BTreeMap<(String, String), Option<Record>>,
        table_id: &str,
        old: &Record,
        new: &Record,
    ) -> BTreeMap<String, CellChange> {
        let look = self.look();
        let mut cells = BTreeMap::new();
        let Some(table) = self.base.table(table_id) else { return cells };
        let value_in = |record: &Record, id: &str| {
            record.injected.get(id).or_else(|| record.cells.get(id)).cloned().unwrap_or_default()
        };
        for field in &table.fields {
            let (was, is) = (value_in(old, &field.id), value_in(new, &field.id));
            let was_field = self.retyped.get(&field.id).unwrap_or(field);
            if was == is && !self.retyped.contains_key(&field.id) {
                continue;
            }
            let mut previous = look.v2(was_field, &was);
            if was_field.is_link() {
                name_the_gone(&look, before, was_field, &mut previous);
            }
            let current = look.v2(field, &is);
            if previous != current {
                let is_inverse = self.inverse.contains(&(new.id.clone(), field.id.clone()));
                let is_computed = !field.is_writable();
                cells.insert(
                    field.id.clone(),
                    CellChange { previous, current, is_computed, is_inverse },
                );
            }
        }
        cells
    }
}

/// Gives linked records that are gone the name they had before.
fn name_the_gone(
    look: &Look<'_>,
    before: &BTreeMap<(String, String), Option<Record>>,
    field: &Field,
    shown: &mut Value,
) {
    let Some(table) = look.base.table(field.option("linkedTableId")) else { return };
    for item in shown.as_array_mut().into_iter().flatten() {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        if !table.records.contains_key(&id)
            && let Some(Some(record)) = before.get(&(table.id.clone(), id))
        {
            item["name"] = json!(look.title(table, record));
        }
    }
}

impl TableChange {
    pub(super) fn is_empty(&self) -> bool {
        self.metadata.is_none()
            && self.created_fields.is_empty()
            && self.changed_fields.is_empty()
            && self.destroyed_fields.is_empty()
            && self.created.is_empty()
            && self.changed.is_empty()
            && self.destroyed.is_empty()
            && self.views.values().all(|(entered, left)| entered.is_empty() && left.is_empty())
    }
}

impl Change {
    /// The keys that every payload of this action shares.
    pub(super) fn head(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("timestamp".into(), json!(iso_ms(self.timestamp_ms)));
        map.insert("baseTransactionNumber".into(), json!(self.number));
        map.insert("actionMetadata".into(), self.action_metadata.clone());
        map.insert("payloadFormat".into(), json!("v0"));
        map
    }
}
