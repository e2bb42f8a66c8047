//! Observations of a full read → the rows that a side holds, by canonical id, links translated.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use sqlx::PgPool;
use uuid::Uuid;

use super::compare::{Held, SideRow, SideTable};
use crate::{
    mapping::{Entity, FieldKind, Mapping},
    model::{Cell, Change, EntityNo, FieldNo, Observation, Side, SideKey, Value},
    store::{Error, record},
};

/// Which record a side means by a key, of an entity and of those that it links to.
pub(super) struct Keys {
    entity: EntityNo,
    side: Side,
    known: HashMap<EntityNo, BTreeMap<String, Uuid>>,
}

impl Keys {
    pub(super) async fn read(
        pool: &PgPool,
        mapping: &Mapping,
        entity: EntityNo,
        side: Side,
    ) -> Result<Self, Error> {
        let mut known = HashMap::new();
        let targets = mapping.entity(entity).fields.iter().filter_map(|field| match field.kind {
            FieldKind::Link { target } | FieldKind::Links { target } => Some(target),
            _ => None,
        });
        for no in targets.chain([entity]) {
            let name = &mapping.entity(no).name;
            if let Entry::Vacant(vacant) = known.entry(no) {
                vacant.insert(record::side_keys(pool, side, name).await?);
            }
        }
        Ok(Self { entity, side, known })
    }

    /// How the side calls a record.
    pub(super) fn key_of(&self, record: Uuid) -> Option<SideKey> {
        let linked = self.known.get(&self.entity)?.iter().find(|(_, id)| **id == record);
        match (linked, self.side) {
            (Some((key, _)), _) => Some(SideKey::from(key.as_str())),
            (None, Side::Airtable) => None,
            (None, Side::Directus) => Some(SideKey::from(record.to_string().as_str())),
        }
    }

    fn record(&self, entity: EntityNo, key: &SideKey) -> Option<Uuid> {
        let linked = self.known.get(&entity).and_then(|keys| keys.get(&*key.0)).copied();
        match self.side {
            Side::Airtable => linked,
            // A UUID that is not linked is the canonical id itself.
            Side::Directus => linked.or_else(|| key.as_id()),
        }
    }
}

/// What was read so far.
pub(super) struct Reading<'a> {
    described: &'a Entity,
    keys: &'a Keys,
    rows: BTreeMap<SideKey, SideRow>,
    /// Of sets in junction tables.
    elements: HashMap<(SideKey, FieldNo), Vec<Held>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(described: &'a Entity, keys: &'a Keys) -> Self {
        Self { described, keys, rows: BTreeMap::new(), elements: HashMap::new() }
    }

    pub(super) fn take(&mut self, observation: Observation) {
        let Observation { key, change, .. } = observation;
        match change {
            Change::Present { cells, claimed_id, .. } => {
                let cells = cells.into_iter().map(|(no, cell)| (no, self.held(no, cell)));
                let row = SideRow { key: key.to_string(), cells: cells.collect(), claimed_id };
                self.rows.insert(key, row);
            }
            Change::Element(element) => {
                if let (Some(cell), false) = (element.element, key.0.is_empty()) {
                    let held = self.held(element.field, cell);
                    self.elements.entry((key, element.field)).or_default().push(held);
                }
            }
            Change::Renamed { .. }
            | Change::Absent
            | Change::Outside { .. }
            | Change::Truncated => {}
        }
    }

    fn held(&self, no: FieldNo, cell: Cell) -> Held {
        let target = match self.described.field(no).kind {
            FieldKind::Link { target } | FieldKind::Links { target } => target,
            _ => self.keys.entity,
        };
        let strange =
            |key: &SideKey| Held::Strange(format!("links to {key}, which is not known here"));
        match cell {
            Cell::Value(value) => Held::Value(value),
            Cell::Refused(refusal) => Held::Strange(refusal.reason),
            Cell::Link(None) => Held::Value(Value::Null),
            Cell::Link(Some(key)) => match self.keys.record(target, &key) {
                Some(id) => Held::Value(Value::Uuid(id)),
                None => strange(&key),
            },
            Cell::Links(keys) => {
                let mut ids = Vec::with_capacity(keys.len());
                for key in &keys {
                    match self.keys.record(target, key) {
                        Some(id) => ids.push(id.to_string()),
                        None => return strange(key),
                    }
                }
                Held::Value(Value::set(ids))
            }
        }
    }

    /// The rows by canonical id. A set without elements is empty, where it is one of `fields`.
    pub(super) fn end(mut self, fields: &[FieldNo]) -> SideTable {
        let mut table = SideTable::default();
        for (key, mut row) in std::mem::take(&mut self.rows) {
            for no in fields {
                if !row.cells.contains_key(no) {
                    let elements = self.elements.remove(&(key.clone(), *no)).unwrap_or_default();
                    row.cells.insert(*no, set(elements));
                }
            }
            match self.keys.record(self.keys.entity, &key) {
                Some(id) => {
                    table.rows.insert(id, row);
                }
                None => table.strangers.push(row.key),
            }
        }
        table
    }
}

fn set(elements: Vec<Held>) -> Held {
    let mut texts = Vec::with_capacity(elements.len());
    for element in elements {
        match element {
            Held::Value(Value::Text(text)) => texts.push(text),
            Held::Value(Value::Uuid(id)) => texts.push(id.to_string()),
            Held::Value(_) => {}
            Held::Strange(what) => return Held::Strange(what),
        }
    }
    Held::Value(Value::set(texts))
}
