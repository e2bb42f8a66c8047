//! Payloads → observations. In: payloads of a webhook, oldest first. Out: for each, what it says of mapped
//! records, and news of the schema. Only mapped tables and fields count; what is unknown is passed over.
//! Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    mapping::{CellFormat, Field, Mapping},
    model::{Author, Cell, Change, EntityNo, FieldNo, Observation, SideKey, Value as CellValue},
    remote::airtable::micros,
};

use super::schema::{Plan, PlanTable};

/// One payload, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Payload {
    /// Its number in the webhook.
    pub(crate) number: u64,
    /// When it happened, µs since 1970 UTC; `None`: it does not tell.
    pub(crate) at: Option<i64>,
    pub(crate) author: Author,
    pub(crate) observations: Vec<Observation>,
    /// Records of filtered tables of which it tells some cells: whether a cell is among them by which rows are told.
    pub(crate) partial: HashMap<(EntityNo, SideKey), bool>,
    pub(crate) news: News,
}

impl Payload {
    /// An estimate of the memory that its observations take, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.observations.iter().map(Observation::held_bytes).sum()
    }
}

/// What became of tables and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// For people: renames and changes of type of what is mapped.
    pub(crate) notes: Vec<(&'static str, String)>,
    /// What is mapped was destroyed or got another type: the schema has to be looked up again.
    pub(crate) is_about_plan: bool,
    /// Something came, or got another name: it may be what was missing.
    pub(crate) has_created: bool,
    /// A cell has an option of a select that is not known, or by another name than is known.
    pub(crate) has_new_option: bool,
    /// Mapped fields of which cells were emptied, once for each cell. A field that is deleted has its cells emptied first.
    pub(crate) emptied: Vec<String>,
    /// Keys that nobody knew when this was written.
    pub(crate) unknown: Vec<String>,
    /// The webhook is dead: its last payload, with this code.
    pub(crate) death: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    timestamp: Option<String>,
    base_transaction_number: Option<u64>,
    action_metadata: Option<Action>,
    payload_format: Option<Value>,
    changed_tables_by_id: Option<BTreeMap<String, TableChanged>>,
    created_tables_by_id: Option<BTreeMap<String, TableCreated>>,
    destroyed_table_ids: Option<Vec<String>>,
    error: Option<bool>,
    code: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Action {
    source: Option<String>,
    source_metadata: Option<SourceMetadata>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SourceMetadata {
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    id: Option<String>,
    email: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TableChanged {
    changed_metadata: Option<Renamed>,
    created_fields_by_id: Option<BTreeMap<String, Value>>,
    changed_fields_by_id: Option<BTreeMap<String, Renamed>>,
    destroyed_field_ids: Option<Vec<String>>,
    created_records_by_id: Option<BTreeMap<String, RecordCreated>>,
    changed_records_by_id: Option<BTreeMap<String, RecordChanged>>,
    destroyed_record_ids: Option<Vec<String>>,
    /// Only of webhooks on a view, which ours are not.
    changed_views_by_id: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TableCreated {
    records_by_id: Option<BTreeMap<String, RecordCreated>>,
}

/// A table or field before and after.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Renamed {
    current: Option<Definition>,
    previous: Option<Definition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Definition {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RecordCreated {
    created_time: Option<String>,
    cell_values_by_field_id: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RecordChanged {
    current: Option<Cells>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cells {
    cell_values_by_field_id: Option<Map<String, Value>>,
}

/// Reads consecutive payloads, the first of which has the number `first`. What cannot be read at all is an
/// `Err` with its number and the reason.
pub(crate) fn read(
    payloads: Vec<Value>,
    first: u64,
    mapping: &Mapping,
    plan: &Plan,
) -> Vec<Result<Payload, (u64, String)>> {
    let raws: Vec<_> = payloads
        .into_iter()
        .map(|payload| serde_json::from_value::<Raw>(payload).map_err(|error| error.to_string()))
        .collect();
    // The cells of a field that is destroyed or converted come emptied or half converted, perhaps in
    // another payload of the same transaction: they say nothing that anybody did to the records.
    let mut doomed: HashMap<Option<u64>, BTreeSet<String>> = HashMap::new();
    for raw in raws.iter().flatten() {
        let fields = raw.doomed_fields();
        if !fields.is_empty() {
            doomed.entry(raw.base_transaction_number).or_default().extend(fields);
        }
    }
    // The same fields in whatever payload before, as far as cells are empty.
    let mut later = vec![BTreeSet::new(); raws.len()];
    let mut destroyed = BTreeSet::new();
    for (at, raw) in raws.iter().enumerate().rev() {
        later[at].clone_from(&destroyed);
        destroyed.extend(raw.iter().flat_map(Raw::destroyed_fields).cloned());
    }
    let none = BTreeSet::new();
    (first..)
        .zip(raws.into_iter().zip(later))
        .map(|(number, (raw, later))| {
            let raw = raw.map_err(|problem| (number, problem))?;
            let doomed = doomed.get(&raw.base_transaction_number).unwrap_or(&none);
            Ok(Reader { mapping, plan, doomed, later: &later }.payload(number, raw))
        })
        .collect()
}

impl Raw {
    fn destroyed_fields(&self) -> impl Iterator<Item = &String> {
        let tables = self.changed_tables_by_id.iter().flat_map(BTreeMap::values);
        tables.flat_map(|table| table.destroyed_field_ids.iter().flatten())
    }

    fn doomed_fields(&self) -> BTreeSet<String> {
        let mut doomed = BTreeSet::new();
        for table in self.changed_tables_by_id.iter().flat_map(BTreeMap::values) {
            doomed.extend(table.destroyed_field_ids.iter().flatten().cloned());
            let retyped = table.changed_fields_by_id.iter().flatten();
            doomed
                .extend(retyped.filter(|(_, field)| field.is_retyped()).map(|(id, _)| id.clone()));
        }
        doomed
    }
}

impl Renamed {
    fn is_retyped(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.kind.is_some())
    }

    /// From which name to which, if it is a rename. Of a field the webhook does not tell what it was called.
    fn names(&self) -> Option<(Option<&str>, &str)> {
        let new = self.current.as_ref()?.name.as_deref()?;
        let old = self.previous.as_ref().and_then(|old| old.name.as_deref());
        (old != Some(new)).then_some((old, new))
    }
}

struct Reader<'a> {
    mapping: &'a Mapping,
    plan: &'a Plan,
    /// Destroyed or converted by this transaction.
    doomed: &'a BTreeSet<String>,
    /// Destroyed by a payload behind this one.
    later: &'a BTreeSet<String>,
}

impl Reader<'_> {
    /// How the mapping calls a table.
    fn given_table(&self, id: &str) -> Option<&str> {
        let table = self.plan.tables.iter().find(|table| table.table == id)?;
        Some(self.mapping.entity(table.entity).airtable.as_ref()?.table.as_str())
    }

    /// How the mapping calls a field.
    fn given_field(&self, id: &str) -> Option<&str> {
        self.plan.tables.iter().find_map(|table| {
            let entity = self.mapping.entity(table.entity);
            let given = |no: FieldNo| Some(entity.field(no).airtable.as_ref()?.field.as_str());
            let mapped =
                table.fields.iter().find(|(_, it)| it == id).and_then(|(no, _)| given(*no));
            let carrier = || {
                let is_it = table.uuid.as_deref() == Some(id);
                entity.airtable.as_ref().filter(|_| is_it)?.uuid.as_deref()
            };
            let tested = || {
                let test = table.rows.iter().find(|(it, _)| it == id);
                test.map(|(_, test)| test.field.as_str())
            };
            mapped.or_else(carrier).or_else(tested)
        })
    }

    fn payload(&self, number: u64, raw: Raw) -> Payload {
        let mut news = News::default();
        let mut observations = Vec::new();
        let mut partial = HashMap::new();
        news.unknown.extend(raw.rest.into_iter().map(|(key, _)| key));
        if raw.payload_format.as_ref().is_some_and(|format| format.as_str() != Some("v0")) {
            news.unknown.push(String::from("payloadFormat"));
        }
        if raw.error == Some(true) {
            news.death = Some(raw.code.unwrap_or_else(|| String::from("(no code)")));
        }
        for (id, table) in raw.created_tables_by_id.unwrap_or_default() {
            news.has_created = true;
            // A table that is undeleted: its records are there again.
            for (key, record) in table.records_by_id.unwrap_or_default() {
                self.created(&id, &key, &record, &mut observations, &mut news);
            }
        }
        for id in raw.destroyed_table_ids.unwrap_or_default() {
            news.is_about_plan |= self.plan.reads(&id);
        }
        for (id, table) in raw.changed_tables_by_id.unwrap_or_default() {
            self.schema(&id, &table, &mut news);
            for (key, record) in table.created_records_by_id.unwrap_or_default() {
                self.created(&id, &key, &record, &mut observations, &mut news);
            }
            for (key, record) in table.changed_records_by_id.unwrap_or_default() {
                self.changed(&id, &key, record, &mut observations, &mut news, &mut partial);
            }
            for key in table.destroyed_record_ids.unwrap_or_default() {
                observations.extend(self.tables(&id).map(|table| Observation {
                    entity: table.entity,
                    key: SideKey::from(key.as_str()),
                    change: Change::Absent,
                }));
            }
            // Views hold no records of their own.
            drop(table.changed_views_by_id);
            news.unknown.extend(table.rest.into_iter().map(|(key, _)| key));
        }
        let action = raw.action_metadata.unwrap_or_default();
        let user = action.source_metadata.unwrap_or_default().user.unwrap_or_default();
        let author = Author {
            id: user.id,
            name: user.name.or(user.email),
            via: action.source.unwrap_or_else(|| String::from("unknown")),
        };
        let at = raw.timestamp.as_deref().and_then(micros);
        Payload { number, at, author, observations, partial, news }
    }

    fn schema(&self, id: &str, table: &TableChanged, news: &mut News) {
        let is_mapped = self.plan.reads(id);
        if is_mapped
            && let Some((old, new)) = table.changed_metadata.as_ref().and_then(Renamed::names)
        {
            let old = old.or_else(|| self.given_table(id)).unwrap_or(id);
            let text = format!(
                "the table `{old}` is now called `{new}`; the mapping goes on by its id, and can be \
                 brought up to date when convenient"
            );
            news.notes.push(("table_renamed", text));
        }
        news.has_created |= table.created_fields_by_id.is_some();
        let is_renamed = |renamed: &Renamed| renamed.names().is_some();
        news.has_created |= table.changed_metadata.as_ref().is_some_and(is_renamed);
        let select = |id: &str| self.tables_of(id).any(|table| table.labels(id).is_some());
        for (id, field) in table.changed_fields_by_id.iter().flatten() {
            // A field that is suspended may have got back the type that fits, or another one its name.
            news.has_created |= field.is_retyped() || is_renamed(field);
            if !self.plan.reads(id) {
                continue;
            }
            // What changed of its options is not told.
            news.is_about_plan |= select(id) && field.names().is_none();
            let given = self.given_field(id).unwrap_or(id);
            if let Some((old, new)) = field.names() {
                let old = old.unwrap_or(given);
                let text = format!(
                    "the field `{old}` is now called `{new}`; the mapping goes on by its id, and can be \
                     brought up to date when convenient"
                );
                news.notes.push(("field_renamed", text));
            }
            if field.is_retyped() {
                let kind = |definition: &'_ Option<Definition>| definition.as_ref()?.kind.clone();
                let known =
                    || self.plan.tables.iter().find_map(|it| it.kind(id)).map(str::to_owned);
                let from = kind(&field.previous).or_else(known).filter(|kind| !kind.is_empty());
                let from = from.map_or_else(String::new, |kind| format!(" from `{kind}`"));
                let to =
                    kind(&field.current).map_or_else(String::new, |kind| format!(" to `{kind}`"));
                let text = format!(
                    "the field `{given}` changed its type{from}{to}; its table is read again"
                );
                news.notes.push(("field_retyped", text));
                news.is_about_plan = true;
            }
        }
        for id in table.destroyed_field_ids.iter().flatten() {
            news.is_about_plan |= self.plan.reads(id);
        }
    }

    fn tables<'b>(&'b self, id: &'b str) -> impl Iterator<Item = &'b PlanTable> {
        self.plan.tables.iter().filter(move |table| table.table == id)
    }

    /// The tables in which the field is read.
    fn tables_of<'b>(&'b self, field: &'b str) -> impl Iterator<Item = &'b PlanTable> {
        self.plan.tables.iter().filter(move |table| table.kind(field).is_some())
    }

    fn created(
        &self,
        table: &str,
        key: &str,
        record: &RecordCreated,
        observations: &mut Vec<Observation>,
        news: &mut News,
    ) {
        let empty = Map::new();
        let cells = record.cell_values_by_field_id.as_ref().unwrap_or(&empty);
        let made_at = record.created_time.as_deref().and_then(micros);
        for table in self.tables(table) {
            news.has_new_option |= has_new_option(table, cells);
            let change = whole(self.mapping, table, cells, made_at, CellFormat::V2);
            observations.push(Observation {
                entity: table.entity,
                key: SideKey::from(key),
                change,
            });
        }
    }

    fn changed(
        &self,
        table: &str,
        key: &str,
        record: RecordChanged,
        observations: &mut Vec<Observation>,
        news: &mut News,
        partial: &mut HashMap<(EntityNo, SideKey), bool>,
    ) {
        let current = record.current.unwrap_or_default().cell_values_by_field_id;
        let Some(current) = current else { return };
        for table in self.tables(table) {
            let entity = self.mapping.entity(table.entity);
            news.has_new_option |= has_new_option(table, &current);
            let read = |(no, id): &(FieldNo, String)| {
                let cell = current.get(id).filter(|_| !self.doomed.contains(id))?;
                if is_empty(cell) {
                    if self.later.contains(id) {
                        return None;
                    }
                    news.emptied.push(id.clone());
                }
                Some((*no, read_cell(entity.field(*no), table, id, Some(cell), CellFormat::V2)))
            };
            let cells: Vec<_> = table.fields.iter().filter_map(read).collect();
            // A field that did not change is not read here; one that was cleared is there, and null.
            let is_read = table.uuid.as_ref().is_some_and(|field| current.contains_key(field));
            let claimed_id = if is_read { claimed(table, &current) } else { None };
            let is_moved = table.rows.iter().any(|(id, _)| current.contains_key(id));
            if cells.is_empty() && claimed_id.is_none() && !is_moved {
                continue;
            }
            if table.is_filtered() {
                partial.insert((table.entity, SideKey::from(key)), is_moved);
            }
            let change = Change::Present { cells, claimed_id, made_at: None };
            observations.push(Observation {
                entity: table.entity,
                key: SideKey::from(key),
                change,
            });
        }
    }
}

/// A record of which all cells are known: those that are not in `cells` are empty. One that is not among the rows that
/// are mirrored says so.
pub(super) fn whole(
    mapping: &Mapping,
    table: &PlanTable,
    cells: &Map<String, Value>,
    made_at: Option<i64>,
    format: CellFormat,
) -> Change {
    if !table.admits(cells) {
        return Change::Outside { claimed_id: claimed(table, cells) };
    }
    let entity = mapping.entity(table.entity);
    let read = |(no, id): &(FieldNo, String)| -> (FieldNo, Cell) {
        (*no, read_cell(entity.field(*no), table, id, cells.get(id), format))
    };
    Change::Present {
        cells: table.fields.iter().map(read).collect(),
        claimed_id: claimed(table, cells),
        made_at,
    }
}

/// Reads a cell, options by the names that canonical knows.
fn read_cell(
    field: &Field,
    table: &PlanTable,
    id: &str,
    cell: Option<&Value>,
    format: CellFormat,
) -> Cell {
    match (table.labels(id), cell) {
        (Some(labels), Some(cell)) => field.read_airtable(Some(&labels.canonical(cell)), format),
        _ => field.read_airtable(cell, format),
    }
}

/// Whether a payload's cells have options that the schema has to be looked up for.
fn has_new_option(table: &PlanTable, cells: &Map<String, Value>) -> bool {
    cells.iter().any(|(id, cell)| table.labels(id).is_some_and(|labels| labels.is_stale(cell)))
}

/// Whether a cell was emptied: a list without elements is as good as none.
fn is_empty(cell: &Value) -> bool {
    cell.is_null() || cell.as_array().is_some_and(Vec::is_empty)
}

/// Takes the cells of these fields out that are empty: nobody has emptied them.
pub(super) fn without_emptied(payload: &mut Payload, plan: &Plan, fields: &BTreeSet<String>) {
    let is_gone = |entity: EntityNo, no: FieldNo| {
        let mut tables = plan.tables.iter().filter(|table| table.entity == entity);
        tables.any(|table| table.fields.iter().any(|(of, id)| *of == no && fields.contains(id)))
    };
    for observation in &mut payload.observations {
        let entity = observation.entity;
        if let Change::Present { cells, made_at: None, .. } = &mut observation.change {
            cells.retain(|(no, cell)| !(is_gone(entity, *no) && is_nothing(cell)));
        }
    }
    payload.observations.retain(|observation| match &observation.change {
        Change::Present { cells, claimed_id, made_at } => {
            !cells.is_empty() || claimed_id.is_some() || made_at.is_some()
        }
        _ => true,
    });
}

fn is_nothing(cell: &Cell) -> bool {
    match cell {
        Cell::Value(value) => value.is_null() || *value == CellValue::Bool(false),
        Cell::Link(key) => key.is_none(),
        Cell::Links(keys) => keys.is_empty(),
        Cell::Refused(_) => false,
    }
}

/// What is in the record's own field for the canonical id; `None` if there is no such field.
fn claimed(table: &PlanTable, cells: &Map<String, Value>) -> Option<Option<Uuid>> {
    let cell = cells.get(table.uuid.as_ref()?);
    Some(cell.and_then(|cell| Uuid::parse_str(cell.as_str()?.trim()).ok()))
}

/// Of payloads that were recorded while a listing ran, keeps what each cell was last set to: the listing
/// has seen a later state than the earlier ones tell, and would be undone by them for a moment.
pub(crate) fn keep_last(payloads: &mut [Payload]) {
    #[derive(Default)]
    struct Later {
        fields: HashSet<FieldNo>,
        claims: bool,
        /// Created or deleted later: nothing earlier counts.
        is_closed: bool,
    }
    let mut later: HashMap<(EntityNo, SideKey), Later> = HashMap::new();
    for payload in payloads.iter_mut().rev() {
        let mut kept = Vec::with_capacity(payload.observations.len());
        for mut observation in payload.observations.drain(..).rev() {
            let known = later.entry((observation.entity, observation.key.clone())).or_default();
            if known.is_closed {
                continue;
            }
            if let Change::Present { cells, claimed_id, made_at } = &mut observation.change {
                cells.retain(|(field, _)| known.fields.insert(*field));
                if claimed_id.is_some() && std::mem::replace(&mut known.claims, true) {
                    *claimed_id = None;
                }
                known.is_closed = made_at.is_some();
                if cells.is_empty() && claimed_id.is_none() && made_at.is_none() {
                    continue;
                }
            } else {
                known.is_closed = true;
            }
            kept.push(observation);
        }
        kept.reverse();
        payload.observations = kept;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        capture::airtable::{
            schema::resolve,
            tests::{field, link, mapping},
        },
        mapping::FieldKind,
        remote::airtable::Table,
    };

    const UUID: &str = "6f1f64f4-8f0e-4d0c-9d1a-000000000001";

    fn world() -> (Mapping, Plan) {
        let mapping = mapping(&[
            (
                "startup",
                "Startups",
                vec![
                    field("name", "Nom", FieldKind::Text),
                    field("headcount", "Effectif", FieldKind::Integer),
                    field("sector", "Secteur", FieldKind::Select),
                ],
            ),
            (
                "project",
                "Projets",
                vec![field("name", "Nom", FieldKind::Text), link("startup", "Startup", 0)],
            ),
        ]);
        let tables: Vec<Table> = serde_json::from_value(json!([
            { "id": "tblS", "name": "Startups", "fields": [
                { "id": "fldUuid", "name": "UUID", "type": "singleLineText" },
                { "id": "fldName", "name": "Nom", "type": "singleLineText" },
                { "id": "fldHeads", "name": "Effectif", "type": "number" },
                { "id": "fldSector", "name": "Secteur", "type": "singleSelect" } ] },
            { "id": "tblP", "name": "Projets", "fields": [
                { "id": "fldPUuid", "name": "UUID", "type": "singleLineText" },
                { "id": "fldPName", "name": "Nom", "type": "singleLineText" },
                { "id": "fldLink", "name": "Startup", "type": "multipleRecordLinks",
                  "options": { "linkedTableId": "tblS" } } ] }
        ]))
        .unwrap();
        let resolution = resolve(&mapping, "reseau", &tables, None);
        assert_eq!(resolution.problems, []);
        let plan = Plan::new(&mapping, "reseau", &resolution.resolved);
        (mapping, plan)
    }

    fn read_all(payloads: Value) -> Vec<Result<Payload, (u64, String)>> {
        let (mapping, plan) = world();
        let Value::Array(payloads) = payloads else { panic!("not a list") };
        read(payloads, 7, &mapping, &plan)
    }

    fn read_one(payload: &Value) -> Payload {
        read_all(json!([payload])).remove(0).unwrap()
    }

    fn text(text: &str) -> Cell {
        Cell::Value(CellValue::Text(text.into()))
    }

    fn cells(observation: &Observation) -> &[(FieldNo, Cell)] {
        match &observation.change {
            Change::Present { cells, .. } => cells,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn payload_created_record_has_all_cells_and_its_claim() {
        let payload = read_one(&json!({
            "timestamp": "2026-04-24T15:07:42.507Z", "baseTransactionNumber": 31,
            "actionMetadata": { "source": "publicApi", "sourceMetadata": { "user": {
                "id": "usrAAAAAAAAAAAAAA", "email": "bot@example.com", "permissionLevel": "create",
                "name": "Bot" } } },
            "payloadFormat": "v0",
            "changedTablesById": { "tblS": { "createdRecordsById": { "recA": {
                "createdTime": "2026-04-24T15:07:42.000Z",
                "cellValuesByFieldId": { "fldName": "Voilier", "fldUuid": UUID, "fldOther": 1,
                    "fldSector": { "id": "selS60paIzWBerSk8", "name": "Work", "color": "pinkLight2" } }
            } } }, "tblUnmapped": { "destroyedRecordIds": ["recZ"] } }
        }));
        assert_eq!(payload.number, 7);
        assert_eq!(payload.at, Some(1_777_043_262_507_000));
        assert_eq!(payload.author.name.as_deref(), Some("Bot"));
        assert_eq!(payload.author.via, "publicApi");
        assert_eq!(payload.news, News::default());
        assert_eq!(payload.observations.len(), 1);
        assert_eq!(
            cells(&payload.observations[0]),
            [
                (FieldNo(0), text("Voilier")),
                (FieldNo(1), Cell::Value(CellValue::Null)),
                (FieldNo(2), text("Work")),
            ]
        );
        let Change::Present { claimed_id, made_at, .. } = &payload.observations[0].change else {
            panic!()
        };
        assert_eq!(claimed_id.unwrap().unwrap().to_string(), UUID);
        assert_eq!(*made_at, Some(1_777_043_262_000_000));
    }

    #[test]
    fn payload_changed_record_has_only_what_changed_and_null_is_empty() {
        let payload = read_one(&json!({
            "changedTablesById": {
                "tblS": { "changedRecordsById": { "recA": {
                    "current": { "cellValuesByFieldId": { "fldHeads": null, "fldOther": 2 } },
                    "previous": { "cellValuesByFieldId": { "fldHeads": 3 } },
                    "unchanged": { "cellValuesByFieldId": { "fldName": "x" } } },
                    "recB": { "current": { "cellValuesByFieldId": { "fldOther": 2 } } } },
                    "destroyedRecordIds": ["recC"] },
                "tblP": { "changedRecordsById": { "recP": { "current": { "cellValuesByFieldId": {
                    "fldLink": [{ "id": "recA", "name": "Voilier" }] } } } } } }
        }));
        let keys: Vec<_> = payload.observations.iter().map(|it| it.key.to_string()).collect();
        assert_eq!(keys, ["recP", "recA", "recC"]);
        assert_eq!(
            cells(&payload.observations[0]),
            [(FieldNo(1), Cell::Link(Some(SideKey::from("recA"))))]
        );
        assert_eq!(cells(&payload.observations[1]), [(FieldNo(1), Cell::Value(CellValue::Null))]);
        assert_eq!(payload.observations[2].change, Change::Absent);
        assert_eq!(payload.author.via, "unknown");
    }

    #[test]
    fn payload_of_the_reference_with_every_kind_of_schema_change_is_read() {
        let payload = read_one(&json!({
            "timestamp": "2022-02-01T21:25:05.663Z", "baseTransactionNumber": 4, "payloadFormat": "v0",
            "actionMetadata": { "source": "somethingNew" },
            "changedTablesById": { "tblS": {
                "changedMetadata": { "current": { "name": "Jeunes pousses", "description": null },
                    "previous": { "name": "Startups", "description": null } },
                "createdFieldsById": { "fldNew": { "name": "Qty", "type": "number" } },
                "changedFieldsById": {
                    "fldName": { "current": { "name": "Nom court" }, "previous": { "name": "Nom" } },
                    "fldHeads": { "current": { "type": "number" }, "previous": { "type": "rating" } } },
                "destroyedFieldIds": ["fldOther"],
                "changedRecordsById": { "recA": { "current": { "cellValuesByFieldId": {
                    "fldHeads": null, "fldName": "kept" } } } },
                "changedViewsById": { "viwA": { "destroyedRecordIds": ["recA"] } },
                "somethingElse": {} } },
            "createdTablesById": { "tblN": { "metadata": { "name": "N" }, "fieldsById": {} } },
            "destroyedTableIds": ["tblGone"], "newKey": true
        }));
        // The cells of a field that was converted in the same breath say nothing.
        assert_eq!(cells(&payload.observations[0]), [(FieldNo(0), text("kept"))]);
        let codes: Vec<_> = payload.news.notes.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, ["table_renamed", "field_retyped", "field_renamed"]);
        assert!(payload.news.is_about_plan);
        assert!(payload.news.has_created);
        assert_eq!(payload.news.unknown, ["newKey", "somethingElse"]);
        assert_eq!(payload.news.death, None);
    }

    #[test]
    fn payload_cells_emptied_by_the_deletion_of_their_field_are_no_edits() {
        let read = read_all(json!([
            { "baseTransactionNumber": 9, "changedTablesById": { "tblS": { "changedRecordsById": {
                "recA": { "current": { "cellValuesByFieldId": { "fldName": null } } } } } } },
            { "baseTransactionNumber": 9, "changedTablesById": { "tblS": {
                "destroyedFieldIds": ["fldName"] } } },
        ]));
        assert_eq!(read[0].as_ref().unwrap().observations, []);
        assert!(read[1].as_ref().unwrap().news.is_about_plan);
    }

    #[test]
    fn payload_cells_emptied_before_the_payload_that_deletes_their_field_are_no_edits() {
        let read = read_all(json!([
            { "baseTransactionNumber": 8, "changedTablesById": { "tblS": { "changedRecordsById": {
                "recA": { "current": { "cellValuesByFieldId": { "fldName": "last", "fldHeads": 7 } } } } } } },
            { "baseTransactionNumber": 9, "changedTablesById": { "tblS": { "changedRecordsById": {
                "recA": { "current": { "cellValuesByFieldId": { "fldName": null, "fldHeads": null } } } } } } },
            { "baseTransactionNumber": 10, "changedTablesById": { "tblS": {
                "destroyedFieldIds": ["fldName"] } } },
        ]));
        let of = |at: usize| cells(&read[at].as_ref().unwrap().observations[0]).to_vec();
        let heads = |value| (FieldNo(1), Cell::Value(value));
        assert_eq!(of(0), [(FieldNo(0), text("last")), heads(CellValue::Int(7))]);
        assert_eq!(of(1), [heads(CellValue::Null)]);
        assert_eq!(read[1].as_ref().unwrap().news.emptied, ["fldHeads"]);
    }

    #[test]
    fn payload_errors_and_what_cannot_be_read_are_told_apart() {
        let read = read_all(json!([
            { "error": true, "code": "INVALID_HOOK", "timestamp": "…", "baseTransactionNumber": 77,
              "actionMetadata": { "source": "client", "sourceMetadata": {} }, "payloadFormat": "v0" },
            { "changedTablesById": [1, 2] },
            "nonsense",
            {},
        ]));
        assert_eq!(read[0].as_ref().unwrap().news.death.as_deref(), Some("INVALID_HOOK"));
        assert_eq!(read[1].as_ref().unwrap_err().0, 8);
        assert_eq!(read[2].as_ref().unwrap_err().0, 9);
        assert_eq!(read[3].as_ref().unwrap().observations, []);
    }

    #[test]
    fn payload_superseded_cells_behind_a_listing_are_dropped() {
        let set = |name: Value| {
            json!({ "changedTablesById": { "tblS": { "changedRecordsById": { "recA": {
                "current": { "cellValuesByFieldId": { "fldName": name } } } } } } })
        };
        let mut both = set(json!("first"));
        both["changedTablesById"]["tblS"]["changedRecordsById"]["recA"]["current"]["cellValuesByFieldId"]
            ["fldHeads"] = json!(5);
        let gone = json!({ "changedTablesById": { "tblS": { "destroyedRecordIds": ["recB"] } } });
        let made = json!({ "changedTablesById": { "tblS": { "createdRecordsById": {
            "recB": { "createdTime": "2026-04-24T15:07:42.000Z", "cellValuesByFieldId": {} } } } } });
        let read = read_all(json!([both, made, set(json!("last")), gone]));
        let mut payloads: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        keep_last(&mut payloads);
        assert_eq!(
            cells(&payloads[0].observations[0]),
            [(FieldNo(1), Cell::Value(CellValue::Int(5)))]
        );
        assert_eq!(payloads[1].observations, [], "made, but gone again");
        assert_eq!(cells(&payloads[2].observations[0]), [(FieldNo(0), text("last"))]);
        assert_eq!(payloads[3].observations[0].change, Change::Absent);
    }
}
