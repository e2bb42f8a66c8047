//! Payloads → observations. In: payloads of a webhook, oldest first. Out: for each, what it says of mapped
//! records, and news of the schema. Only mapped tables and fields count; what is unknown is passed over.
//! Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    mapping::{CellFormat, Mapping},
    model::{Author, Cell, Change, EntityNo, FieldNo, Observation, SideKey},
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
    pub(crate) news: News,
}

/// What became of tables and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// For people: renames and changes of type of what is mapped.
    pub(crate) notes: Vec<(&'static str, String)>,
    /// What is mapped was destroyed or got another type: the schema has to be looked up again.
    pub(crate) is_about_plan: bool,
    /// Something came: it may be what was missing.
    pub(crate) has_created: bool,
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
    let none = BTreeSet::new();
    (first..)
        .zip(raws)
        .map(|(number, raw)| {
            let raw = raw.map_err(|problem| (number, problem))?;
            let doomed = doomed.get(&raw.base_transaction_number).unwrap_or(&none);
            Ok(Reader { mapping, plan, doomed }.payload(number, raw))
        })
        .collect()
}

impl Raw {
    fn doomed_fields(&self) -> BTreeSet<String> {
        let mut doomed = BTreeSet::new();
        for table in self.changed_tables_by_id.iter().flat_map(BTreeMap::values) {
            doomed.extend(table.destroyed_field_ids.iter().flatten().cloned());
            let retyped = table.changed_fields_by_id.iter().flatten();
            doomed.extend(retyped.filter(|(_, field)| field.is_retyped()).map(|(id, _)| id.clone()));
        }
        doomed
    }
}

impl Renamed {
    fn is_retyped(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.kind.is_some())
    }

    /// From which name to which, if it is a rename.
    fn names(&self) -> Option<(&str, &str)> {
        let name = |definition: &'_ Option<Definition>| {
            definition.as_ref().and_then(|definition| definition.name.clone())
        };
        let new = self.current.as_ref()?.name.as_deref()?;
        let old = self.previous.as_ref().and_then(|old| old.name.as_deref()).unwrap_or("?");
        (name(&self.previous).as_deref() != Some(new)).then_some((old, new))
    }
}

struct Reader<'a> {
    mapping: &'a Mapping,
    plan: &'a Plan,
    doomed: &'a BTreeSet<String>,
}

impl Reader<'_> {
    fn payload(&self, number: u64, raw: Raw) -> Payload {
        let mut news = News::default();
        let mut observations = Vec::new();
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
                self.created(&id, &key, &record, &mut observations);
            }
        }
        for id in raw.destroyed_table_ids.unwrap_or_default() {
            news.is_about_plan |= self.plan.reads(&id);
        }
        for (id, table) in raw.changed_tables_by_id.unwrap_or_default() {
            self.schema(&id, &table, &mut news);
            for (key, record) in table.created_records_by_id.unwrap_or_default() {
                self.created(&id, &key, &record, &mut observations);
            }
            for (key, record) in table.changed_records_by_id.unwrap_or_default() {
                self.changed(&id, &key, record, &mut observations);
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
        Payload { number, at, author, observations, news }
    }

    fn schema(&self, id: &str, table: &TableChanged, news: &mut News) {
        let is_mapped = self.plan.reads(id);
        if is_mapped && let Some((old, new)) = table.changed_metadata.as_ref().and_then(Renamed::names)
        {
            let text = format!(
                "the table `{old}` is now called `{new}`; the mapping goes on by its id, and can be \
                 brought up to date when convenient"
            );
            news.notes.push(("table_renamed", text));
        }
        news.has_created |= table.created_fields_by_id.is_some();
        for (id, field) in table.changed_fields_by_id.iter().flatten() {
            // A field that is suspended may have got back the type that fits.
            news.has_created |= is_mapped && field.is_retyped();
            if !self.plan.reads(id) {
                continue;
            }
            if let Some((old, new)) = field.names() {
                let text = format!(
                    "the field `{old}` is now called `{new}`; the mapping goes on by its id, and can be \
                     brought up to date when convenient"
                );
                news.notes.push(("field_renamed", text));
            }
            if field.is_retyped() {
                let kind = |definition: &Option<Definition>| {
                    let kind = definition.as_ref().and_then(|definition| definition.kind.clone());
                    kind.unwrap_or_else(|| String::from("?"))
                };
                let text = format!(
                    "the field `{id}` changed its type from `{}` to `{}`; its table is read again",
                    kind(&field.previous),
                    kind(&field.current)
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

    fn created(
        &self,
        table: &str,
        key: &str,
        record: &RecordCreated,
        observations: &mut Vec<Observation>,
    ) {
        let empty = Map::new();
        let cells = record.cell_values_by_field_id.as_ref().unwrap_or(&empty);
        let made_at = record.created_time.as_deref().and_then(micros);
        for table in self.tables(table) {
            let change = whole(self.mapping, table, cells, made_at, CellFormat::V2);
            observations.push(Observation { entity: table.entity, key: SideKey::from(key), change });
        }
    }

    fn changed(
        &self,
        table: &str,
        key: &str,
        record: RecordChanged,
        observations: &mut Vec<Observation>,
    ) {
        let current = record.current.unwrap_or_default().cell_values_by_field_id;
        let Some(current) = current else { return };
        for table in self.tables(table) {
            let entity = self.mapping.entity(table.entity);
            let read = |(no, id): &(FieldNo, String)| {
                if self.doomed.contains(id) {
                    return None;
                }
                let cell = current.get(id)?;
                Some((*no, entity.field(*no).read_airtable(Some(cell), CellFormat::V2)))
            };
            let cells: Vec<_> = table.fields.iter().filter_map(read).collect();
            let claimed_id = claimed(table, &current);
            if cells.is_empty() && claimed_id.is_none() {
                continue;
            }
            let change = Change::Present { cells, claimed_id, made_at: None };
            observations.push(Observation { entity: table.entity, key: SideKey::from(key), change });
        }
    }
}

/// A record of which all cells are known: those that are not in `cells` are empty.
pub(super) fn whole(
    mapping: &Mapping,
    table: &PlanTable,
    cells: &Map<String, Value>,
    made_at: Option<i64>,
    format: CellFormat,
) -> Change {
    let entity = mapping.entity(table.entity);
    let read = |(no, id): &(FieldNo, String)| -> (FieldNo, Cell) {
        (*no, entity.field(*no).read_airtable(cells.get(id), format))
    };
    Change::Present {
        cells: table.fields.iter().map(read).collect(),
        claimed_id: claimed(table, cells),
        made_at,
    }
}

/// The canonical id in the record's own field, if it is one.
fn claimed(table: &PlanTable, cells: &Map<String, Value>) -> Option<Uuid> {
    Uuid::parse_str(cells.get(table.uuid.as_ref()?)?.as_str()?.trim()).ok()
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
