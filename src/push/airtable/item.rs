//! A record's write on its way: how it is put into a request, and how the answer is read.

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{Place, words};
use crate::{
    mapping::Entity,
    model::{FieldNo, RecordId, SideKey},
    push::{Bound, Outcome, Write},
    remote::airtable::{Client, Error, Record, RecordUpdate},
};

/// What kind of request an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An upsert by the id field: sent twice, it makes one record.
    Create,
    Update,
    /// An update with cells of selects only, which may add options to them.
    Options,
    Delete,
}

/// One record's write.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its place among what was handed in.
    pub(super) at: usize,
    pub(super) record: RecordId,
    pub(super) operation: Uuid,
    /// How Airtable calls it, if it has it.
    pub(super) key: Option<String>,
    /// The key of the record that this write made.
    pub(super) made: Option<SideKey>,
    pub(super) writes_id: bool,
    pub(super) cells: Vec<Sent>,
    /// Cells that are sent alone, afterwards, with leave to add options.
    pub(super) new_options: Vec<Sent>,
}

/// A cell to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    /// Of two fields that share the cell, the first one named.
    pub(super) field: FieldNo,
    /// `fld…`
    pub(super) id: String,
    pub(super) value: Json,
}

impl Sent {
    /// Whether the cell is this text, or has it among its elements.
    pub(super) fn holds(&self, text: &str) -> bool {
        match &self.value {
            Json::String(own) => own == text,
            Json::Array(elements) => elements.iter().any(|element| element.as_str() == Some(text)),
            _ => false,
        }
    }

    /// The texts in it.
    pub(super) fn texts(&self) -> Vec<&str> {
        match &self.value {
            Json::String(own) => vec![own],
            Json::Array(elements) => elements.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn has_comma_in_list(&self) -> bool {
        self.value.is_array() && self.texts().iter().any(|text| text.contains(','))
    }
}

impl Item {
    /// What a request of this stage carries of it.
    pub(super) fn sent(&self, stage: Stage) -> &[Sent] {
        match stage {
            Stage::Create | Stage::Update => &self.cells,
            Stage::Options => &self.new_options,
            Stage::Delete => &[],
        }
    }

    pub(super) fn cell(&self, stage: Stage, id: &str) -> Option<&Sent> {
        self.sent(stage).iter().find(|cell| cell.id == id)
    }

    /// Keeps the cell for the stage in which options may be added.
    pub(super) fn hold_back(&mut self, id: &str) {
        let (held, kept) = std::mem::take(&mut self.cells).into_iter().partition(|it| it.id == id);
        self.cells = kept;
        self.new_options.extend::<Vec<Sent>>(held);
    }

    /// Whether there is anything to send beside options.
    pub(super) fn has_plain_part(&self, stage: Stage) -> bool {
        stage == Stage::Create || self.writes_id || !self.cells.is_empty()
    }

    /// The same with these cells only, for a trial.
    pub(super) fn with(&self, stage: Stage, cells: Vec<Sent>) -> Self {
        let (cells, new_options) =
            if stage == Stage::Options { (Vec::new(), cells) } else { (cells, Vec::new()) };
        Self { cells, new_options, ..self.clone() }
    }

    fn fields(&self, stage: Stage, place: &Place) -> Map<String, Json> {
        let mut fields: Map<String, Json> =
            self.sent(stage).iter().map(|cell| (cell.id.clone(), cell.value.clone())).collect();
        if stage == Stage::Create {
            for (id, value) in &place.presets {
                fields.entry(id.clone()).or_insert_with(|| value.clone());
            }
        }
        let writes_id = stage == Stage::Create || (stage == Stage::Update && self.writes_id);
        if let Some(uuid) = place.uuid.as_ref().filter(|_| writes_id) {
            fields.insert(uuid.clone(), self.record.to_string().into());
        }
        fields
    }

    fn update(&self, stage: Stage, place: &Place) -> RecordUpdate {
        let made = || self.made.as_ref().map(ToString::to_string);
        let id = if stage == Stage::Create { None } else { self.key.clone().or_else(made) };
        RecordUpdate { id, fields: self.fields(stage, place) }
    }
}

/// Makes an item of a bound write.
///
/// # Errors
/// The outcome, where nothing can be sent.
pub(super) fn prepare(
    at: usize,
    bound: Bound,
    entity: &Entity,
    place: &Place,
) -> Result<(Stage, Item), Outcome> {
    let (stage, cells) = match bound.write {
        Write::Create(cells) => (Stage::Create, cells),
        Write::Update(cells) => (Stage::Update, cells),
        Write::Delete => (Stage::Delete, Vec::new()),
    };
    let needs_id = stage == Stage::Create || (stage == Stage::Update && bound.writes_id);
    if needs_id && place.uuid.is_none() {
        let (code, reason) = words::no_id_field(entity);
        return Err(Outcome::Refused { field: None, code, reason });
    }
    let mut item = Item {
        at,
        record: bound.record,
        operation: bound.operation,
        key: bound.key.as_ref().map(ToString::to_string),
        made: None,
        writes_id: bound.writes_id,
        cells: Vec::with_capacity(cells.len()),
        new_options: Vec::new(),
    };
    for (field, value) in cells {
        let Some((_, id)) = place.fields.iter().find(|(no, _)| *no == field) else {
            let (code, reason) = words::field_gone(entity, field);
            return Err(Outcome::Refused { field: Some(field), code, reason });
        };
        let labels = place.labels.get(id);
        if labels.is_some_and(|labels| labels.is_taken(&value)) {
            let (code, reason) = words::option_waits(entity, field);
            return Err(Outcome::Refused { field: Some(field), code, reason });
        }
        let value = labels.map_or(value.clone(), |labels| labels.present(&value).into_owned());
        // The halves of a full name share a cell, and both were given the whole of it.
        if item.cells.iter().all(|cell| cell.id != *id) {
            item.cells.push(Sent { field, id: id.clone(), value });
        }
    }
    match (stage, &item.key) {
        (Stage::Update, _) if !item.has_plain_part(stage) => Err(Outcome::Taken { key: None }),
        // The side does not have it: there is nothing to change or to delete.
        (Stage::Update | Stage::Delete, None) => Err(Outcome::Gone),
        _ => Ok((stage, item)),
    }
}

/// What the answer says of one item.
pub(super) enum Reply {
    Taken {
        made: Option<SideKey>,
    },
    Gone,
    /// It does not say what became of this one.
    Unclear,
}

/// One request with all these items, all or none of which are written.
pub(super) async fn request(
    client: &Client,
    place: &Place,
    stage: Stage,
    items: &[Item],
) -> Result<Vec<Reply>, Error> {
    let Place { base, table, .. } = place;
    let updates = || items.iter().map(|item| item.update(stage, place)).collect::<Vec<_>>();
    match stage {
        Stage::Create => {
            let uuid = place.uuid.clone().unwrap_or_default();
            let merge_on = [uuid.clone()];
            let answer = client.upsert_records(base, table, &merge_on, &updates()).await?;
            Ok(items.iter().map(|item| made(item, &uuid, &answer.records)).collect())
        }
        Stage::Update => {
            let records = client.update_records(base, table, &updates()).await?;
            Ok(items.iter().map(|item| updated(item, &records)).collect())
        }
        Stage::Options => {
            let records = client.update_with_new_options(base, table, &updates()).await?;
            Ok(items.iter().map(|item| updated(item, &records)).collect())
        }
        Stage::Delete => {
            let keys: Vec<String> = items.iter().filter_map(|item| item.key.clone()).collect();
            let deleted = client.delete_records(base, table, &keys).await?;
            let reply = |item: &Item| match &item.key {
                Some(key) if deleted.contains(key) => Reply::Taken { made: None },
                _ => Reply::Gone,
            };
            Ok(items.iter().map(reply).collect())
        }
    }
}

/// The record that an upsert made or found, by the id that it carries.
fn made(item: &Item, uuid: &str, records: &[Record]) -> Reply {
    let wanted = item.record.to_string();
    let carries =
        |record: &&Record| record.fields.get(uuid).and_then(Json::as_str) == Some(wanted.as_str());
    match records.iter().find(carries) {
        Some(record) => Reply::Taken { made: Some(SideKey::from(record.id.as_str())) },
        None => Reply::Unclear,
    }
}

fn updated(item: &Item, records: &[Record]) -> Reply {
    let key = item.key.clone().or_else(|| item.made.as_ref().map(ToString::to_string));
    if records.iter().any(|record| Some(&record.id) == key.as_ref()) {
        Reply::Taken { made: None }
    } else {
        Reply::Unclear
    }
}
