//! What an action becomes in each webhook's list: filters, scopes, previous and unchanged cells, splitting.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cell::Look;
use super::model::{Table, strings};
use super::transaction::{CellChange, Change, TableChange, Transaction};
use super::webhook::{Payload, Webhook};

/// One entry of the transaction log: everything, with previous values.
pub(super) fn log_entry(change: &Change) -> Value {
    let mut entry = change.head();
    let everything = Wish { has_previous: true, has_previous_fields: true, ..Wish::default() };
    for (key, value) in body(change, &everything, None) {
        entry.insert(key, value);
    }
    Value::Object(entry)
}

/// Puts the action into the list of every webhook that wants it, and asks for the pings.
pub(super) fn deliver(tx: &mut Transaction<'_>, change: &Change) {
    let mut hooks = std::mem::take(&mut tx.base.webhooks);
    for hook in &mut hooks {
        if !hook.is_active(tx.now_ms) {
            continue;
        }
        if is_broken_by(hook, change) {
            hook.dead = Some(tx.config.dead_hook_code.clone());
            let bodies = vec![error_body(change, &tx.config.dead_hook_code)];
            hook.push(bodies, change.timestamp_ms, tx.config);
            continue;
        }
        let wish = Wish::of(&hook.specification);
        let parts = split(change, tx);
        let bodies: Vec<Map<String, Value>> = parts
            .iter()
            .filter_map(|part| {
                let content = body(part, &wish, Some(&tx.look()));
                if content.is_empty() || !wish.wants_source(part) {
                    return None;
                }
                let mut payload = change.head();
                payload.extend(content);
                Some(payload)
            })
            .collect();
        hook.push(bodies, change.timestamp_ms, tx.config);
    }
    tx.base.webhooks = hooks;
}

/// The error payload with which a webhook dies.
pub(super) fn error_body(change: &Change, code: &str) -> Map<String, Value> {
    let mut payload = change.head();
    payload.insert("error".into(), json!(true));
    payload.insert("code".into(), json!(code));
    let destroyed: Map<String, Value> = change
        .tables
        .iter()
        .filter(|(_, table)| !table.destroyed_fields.is_empty())
        .map(|(id, table)| (id.clone(), json!({ "destroyedFieldIds": table.destroyed_fields })))
        .collect();
    if !destroyed.is_empty() {
        payload.insert("changedTablesById".into(), Value::Object(destroyed));
    }
    payload
}

/// Whether something that the webhook's filters name was deleted.
fn is_broken_by(hook: &Webhook, change: &Change) -> bool {
    let filters = &hook.specification["options"]["filters"];
    let watched =
        [strings(&filters["watchDataInFieldIds"]), strings(&filters["watchSchemasOfFieldIds"])]
            .concat();
    let scope = filters["recordChangeScope"].as_str().unwrap_or_default();
    change.destroyed_tables.iter().any(|id| id == scope)
        || change.destroyed_views.iter().any(|id| id == scope)
        || change
            .tables
            .values()
            .flat_map(|table| &table.destroyed_fields)
            .any(|id| watched.contains(id))
}

/// What a specification asks for.
#[derive(Debug, Default)]
struct Wish {
    /// None of these: everything.
    data_types: Option<Vec<String>>,
    scope: Option<String>,
    change_types: Option<Vec<String>>,
    sources: Option<Vec<String>>,
    form_view: Option<String>,
    watched_data: Option<Vec<String>>,
    watched_schemas: Option<Vec<String>>,
    included: Vec<String>,
    includes_all: bool,
    has_previous: bool,
    has_previous_fields: bool,
}

impl Wish {
    fn of(specification: &Value) -> Self {
        let filters = &specification["options"]["filters"];
        let includes = &specification["options"]["includes"];
        let list = |value: &Value| value.is_array().then(|| strings(value));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            data_types: list(&filters["dataTypes"]),
            scope: text(&filters["recordChangeScope"]),
            change_types: list(&filters["changeTypes"]),
            sources: list(&filters["fromSources"]),
            form_view: text(&filters["sourceOptions"]["formSubmission"]["viewId"]),
            watched_data: list(&filters["watchDataInFieldIds"]),
            watched_schemas: list(&filters["watchSchemasOfFieldIds"]),
            included: strings(&includes["includeCellValuesInFieldIds"]),
            includes_all: includes["includeCellValuesInFieldIds"] == "all",
            has_previous: includes["includePreviousCellValues"] == true,
            has_previous_fields: includes["includePreviousFieldDefinitions"] == true,
        }
    }

    fn wants(&self, data_type: &str) -> bool {
        self.data_types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == data_type))
    }

    fn wants_kind(&self, kind: &str) -> bool {
        self.change_types.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
    }

    fn wants_source(&self, change: &Change) -> bool {
        let is_named = self.sources.as_ref().is_none_or(|sources| sources.contains(&change.source));
        let is_its_form = change.source != "formSubmission"
            || self
                .form_view
                .as_deref()
                .is_none_or(|view| change.action_metadata["sourceMetadata"]["viewId"] == view);
        is_named && is_its_form
    }
}

/// Content of a payload, without its head. `look` is for unchanged cells; without it there are none.
fn body(change: &Change, wish: &Wish, look: Option<&Look<'_>>) -> Map<String, Value> {
    let mut content = Map::new();
    let mut changed_tables = Map::new();
    for (id, table) in &change.tables {
        let shown = table_body(id, table, wish, look);
        if !shown.is_empty() {
            changed_tables.insert(id.clone(), Value::Object(shown));
        }
    }
    if !changed_tables.is_empty() {
        content.insert("changedTablesById".into(), Value::Object(changed_tables));
    }
    let is_base_wide = wish.scope.is_none();
    let wants_tables = is_base_wide && (wish.wants("tableMetadata") || wish.wants("tableFields"));
    if !change.created_tables.is_empty() && wants_tables && wish.wants_kind("add") {
        content.insert("createdTablesById".into(), json!(change.created_tables));
    }
    if !change.destroyed_tables.is_empty() && wants_tables && wish.wants_kind("remove") {
        content.insert("destroyedTableIds".into(), json!(change.destroyed_tables));
    }
    content
}

fn table_body(
    id: &str,
    change: &TableChange,
    wish: &Wish,
    look: Option<&Look<'_>>,
) -> Map<String, Value> {
    let mut shown = Map::new();
    let view = wish.scope.as_deref().filter(|scope| scope.starts_with("viw"));
    let is_in_scope = match (view, look) {
        (Some(view), Some(look)) => look
            .base
            .table(id)
            .is_some_and(|table| table.views.iter().any(|known| known.id == view)),
        _ => wish.scope.as_deref().is_none_or(|scope| scope == id),
    };
    if !is_in_scope {
        return shown;
    }
    if wish.wants("tableMetadata")
        && wish.wants_kind("update")
        && let Some((previous, current)) = &change.metadata
    {
        shown.insert("changedMetadata".into(), json!({ "current": current, "previous": previous }));
    }
    if wish.wants("tableFields") {
        fields_body(change, wish, &mut shown);
    }
    if wish.wants("tableData") {
        match view {
            Some(view) => {
                let mut inner = Map::new();
                records_body(id, &seen_from(view, id, change, look), wish, look, &mut inner);
                if !inner.is_empty() {
                    shown.insert("changedViewsById".into(), json!({ view: inner }));
                }
            }
            None => records_body(id, change, wish, look, &mut shown),
        }
    }
    shown
}

fn fields_body(change: &TableChange, wish: &Wish, shown: &mut Map<String, Value>) {
    let is_watched =
        |id: &String| wish.watched_schemas.as_ref().is_none_or(|watched| watched.contains(id));
    if wish.wants_kind("add") && !change.created_fields.is_empty() && wish.watched_schemas.is_none()
    {
        shown.insert("createdFieldsById".into(), json!(change.created_fields));
    }
    if wish.wants_kind("update") {
        let changed: Map<String, Value> = change
            .changed_fields
            .iter()
            .filter(|(id, _)| is_watched(id))
            .map(|(id, (previous, current))| {
                let mut entry = json!({ "current": current });
                if wish.has_previous_fields {
                    entry["previous"] = previous.clone();
                }
                (id.clone(), entry)
            })
            .collect();
        if !changed.is_empty() {
            shown.insert("changedFieldsById".into(), Value::Object(changed));
        }
    }
    let destroyed: Vec<&String> =
        change.destroyed_fields.iter().filter(|id| is_watched(id)).collect();
    if wish.wants_kind("remove") && !destroyed.is_empty() {
        shown.insert("destroyedFieldIds".into(), json!(destroyed));
    }
}

/// The same change as a view sees it: what enters is created, what leaves is destroyed.
fn seen_from(
    view_id: &str,
    table_id: &str,
    change: &TableChange,
    look: Option<&Look<'_>>,
) -> TableChange {
    let table = look.and_then(|look| look.base.table(table_id));
    let view = table.and_then(|table| table.views.iter().find(|view| view.id == view_id));
    let (Some(look), Some(table), Some(view)) = (look, table, view) else {
        return TableChange::default();
    };
    if view.filter.is_empty() {
        let TableChange { created, changed, destroyed, .. } = change.clone();
        return TableChange { created, changed, destroyed, ..TableChange::default() };
    }
    let mut seen = TableChange::default();
    let nobody =
        <(std::collections::BTreeSet<String>, std::collections::BTreeSet<String>)>::default();
    let (entered, left) = change.views.get(view_id).unwrap_or(&nobody);
    for id in entered {
        if let Some(record) = table.records.get(id) {
            let shown = json!({
                "createdTime": super::clock::iso_seconds(record.created_ms),
                "cellValuesByFieldId": look.v2_fields(table, record),
            });
            seen.created.insert(id.clone(), shown);
        }
    }
    seen.destroyed = left.iter().cloned().collect();
    for (id, cells) in &change.changed {
        if view.members.contains(id) && !entered.contains(id) {
            seen.changed.insert(id.clone(), cells.clone());
        }
    }
    seen
}

fn records_body(
    table_id: &str,
    change: &TableChange,
    wish: &Wish,
    look: Option<&Look<'_>>,
    shown: &mut Map<String, Value>,
) {
    let is_watched =
        |id: &String| wish.watched_data.as_ref().is_none_or(|watched| watched.contains(id));
    let created: Map<String, Value> = change
        .created
        .iter()
        .filter(|(_, record)| {
            wish.watched_data.is_none()
                || record["cellValuesByFieldId"]
                    .as_object()
                    .is_some_and(|cells| cells.keys().any(is_watched))
        })
        .map(|(id, record)| (id.clone(), record.clone()))
        .collect();
    if wish.wants_kind("add") && !created.is_empty() {
        shown.insert("createdRecordsById".into(), Value::Object(created));
    }
    if wish.wants_kind("update") {
        let changed: Map<String, Value> = change
            .changed
            .iter()
            .filter_map(|(id, cells)| {
                let cells: BTreeMap<&String, &CellChange> =
                    cells.iter().filter(|(id, _)| is_watched(id)).collect();
                (!cells.is_empty())
                    .then(|| (id.clone(), changed_record(table_id, id, &cells, wish, look)))
            })
            .collect();
        if !changed.is_empty() {
            shown.insert("changedRecordsById".into(), Value::Object(changed));
        }
    }
    if wish.wants_kind("remove") && !change.destroyed.is_empty() {
        shown.insert("destroyedRecordIds".into(), json!(change.destroyed));
    }
}

fn changed_record(
    table_id: &str,
    record_id: &str,
    cells: &BTreeMap<&String, &CellChange>,
    wish: &Wish,
    look: Option<&Look<'_>>,
) -> Value {
    let current: Map<String, Value> =
        cells.iter().map(|(id, cell)| ((*id).clone(), cell.current.clone())).collect();
    let mut entry = json!({ "current": { "cellValuesByFieldId": current } });
    if wish.has_previous {
        let previous: Map<String, Value> =
            cells.iter().map(|(id, cell)| ((*id).clone(), cell.previous.clone())).collect();
        entry["previous"] = json!({ "cellValuesByFieldId": previous });
    }
    if let Some(look) = look.filter(|_| wish.includes_all || !wish.included.is_empty()) {
        let unchanged = unchanged_cells(look.base.table(table_id), record_id, cells, wish, look);
        entry["unchanged"] = json!({ "cellValuesByFieldId": unchanged });
    }
    entry
}

fn unchanged_cells(
    table: Option<&Table>,
    record_id: &str,
    changed: &BTreeMap<&String, &CellChange>,
    wish: &Wish,
    look: &Look<'_>,
) -> Map<String, Value> {
    let Some((table, record)) =
        table.and_then(|table| Some((table, table.records.get(record_id)?)))
    else {
        return Map::new();
    };
    let mut cells = look.v2_fields(table, record);
    cells.retain(|id, _| {
        !changed.contains_key(id) && (wish.includes_all || wish.included.contains(id))
    });
    cells
}

/// One action as the parts in which it is delivered: inverse links and computed cells apart when the
/// configuration says so, and never more records in one part than allowed.
fn split(change: &Change, tx: &Transaction<'_>) -> Vec<Change> {
    let is_apart = |cell: &CellChange, part: usize| {
        let belongs_to = if cell.is_computed && tx.config.computed_payload == "following" {
            2
        } else {
            usize::from(cell.is_inverse && tx.config.inverse_payload == "following")
        };
        belongs_to == part
    };
    let mut parts = Vec::new();
    for part in 0..3 {
        let mut piece = if part == 0 {
            change.clone()
        } else {
            let tables = change.tables.iter().map(|(id, table)| {
                (
                    id.clone(),
                    TableChange { changed: table.changed.clone(), ..TableChange::default() },
                )
            });
            Change {
                tables: tables.collect(),
                created_tables: BTreeMap::new(),
                destroyed_tables: Vec::new(),
                ..change.clone()
            }
        };
        for table in piece.tables.values_mut() {
            for cells in table.changed.values_mut() {
                cells.retain(|_, cell| is_apart(cell, part));
            }
            table.changed.retain(|_, cells| !cells.is_empty());
        }
        let is_empty = piece.tables.values().all(TableChange::is_empty);
        if part == 0 || !is_empty {
            let is_schema_last = tx.config.schema_payload == "last";
            parts.extend(chunks(piece, tx.config.payload_record_max.max(1), is_schema_last));
        }
    }
    parts
}

fn chunks(change: Change, record_max: usize, is_schema_last: bool) -> Vec<Change> {
    let count = |change: &Change| {
        change
            .tables
            .values()
            .map(|table| table.created.len() + table.changed.len() + table.destroyed.len())
            .sum::<usize>()
    };
    if count(&change) <= record_max {
        return vec![change];
    }
    let mut first = change.clone();
    let mut parts = Vec::new();
    let mut current: BTreeMap<String, TableChange> = BTreeMap::new();
    let mut room = record_max;
    let mut flush = |current: &mut BTreeMap<String, TableChange>, room: &mut usize| {
        let tables = std::mem::take(current);
        parts.push(Change {
            tables,
            created_tables: BTreeMap::new(),
            destroyed_tables: Vec::new(),
            ..change.clone()
        });
        *room = record_max;
    };
    for (id, table) in &mut first.tables {
        let views = table.views.clone();
        for (record, shown) in std::mem::take(&mut table.created) {
            let entry = current
                .entry(id.clone())
                .or_insert_with(|| TableChange { views: views.clone(), ..TableChange::default() });
            entry.created.insert(record, shown);
            room -= 1;
            if room == 0 {
                flush(&mut current, &mut room);
            }
        }
        for (record, cells) in std::mem::take(&mut table.changed) {
            let entry = current
                .entry(id.clone())
                .or_insert_with(|| TableChange { views: views.clone(), ..TableChange::default() });
            entry.changed.insert(record, cells);
            room -= 1;
            if room == 0 {
                flush(&mut current, &mut room);
            }
        }
        for record in std::mem::take(&mut table.destroyed) {
            current.entry(id.clone()).or_default().destroyed.push(record);
            room -= 1;
            if room == 0 {
                flush(&mut current, &mut room);
            }
        }
        table.views.clear();
    }
    if !current.is_empty() {
        flush(&mut current, &mut room);
    }
    first.tables.retain(|_, table| !table.is_empty());
    let has_schema = !first.tables.is_empty()
        || !first.created_tables.is_empty()
        || !first.destroyed_tables.is_empty();
    if has_schema {
        parts.insert(if is_schema_last { parts.len() } else { 0 }, first);
    }
    parts
}

impl Webhook {
    /// Appends payloads under the next numbers and asks for a ping.
    pub(super) fn push(
        &mut self,
        bodies: Vec<Map<String, Value>>,
        timestamp_ms: i64,
        config: &super::config::Config,
    ) {
        if bodies.is_empty() {
            return;
        }
        for body in bodies {
            self.payloads.push_back(Payload {
                number: self.next_number,
                timestamp_ms,
                body: Value::Object(body),
            });
            self.next_number += 1;
        }
        self.ask_for_ping(timestamp_ms + config.ping_delay_ms);
    }
}
