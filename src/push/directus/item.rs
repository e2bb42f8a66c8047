//! Bound writes → rows of Directus. Pure.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::{
    config::Secret,
    mapping::{DirectusField, DirectusTable, Entity, KeyGiver},
    model::{FieldNo, RecordId},
    push::{ADD, Bound, COLUMNS, REMOVE, Write},
    remote::directus::{Action, Row},
};

/// One record's part of a request.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its place among the writes that were handed over.
    pub(super) at: usize,
    pub(super) record: RecordId,
    pub(super) operation: Uuid,
    /// How Directus calls the record. Of one that is made under a key which is not ours to say: the canonical id,
    /// for messages alone.
    pub(super) key: String,
    /// Who gives its key, if it is made; `None`: that is not known.
    pub(super) giver: Option<KeyGiver>,
    /// The key under which Directus says that it has made it.
    pub(super) made: Option<String>,
    pub(super) stage: Stage,
    pub(super) cells: Vec<Sent>,
    /// What changes in its sets, which are tables of their own; after the record itself.
    pub(super) sets: Vec<SetChange>,
    /// Of a user that is made.
    pub(super) password: Option<Secret>,
    /// Of a record that is made: what the filter on the rows asks for and no cell says.
    pub(super) presets: Vec<(String, Json)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) field: FieldNo,
    pub(super) column: String,
    pub(super) value: Json,
}

#[derive(Clone, Debug)]
pub(super) struct SetChange {
    pub(super) field: FieldNo,
    /// Elements, with the other columns of their rows where they are known.
    pub(super) add: Vec<(Json, Option<Map<String, Json>>)>,
    /// Keys of rows.
    pub(super) remove: Vec<String>,
}

impl Stage {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Update => Action::Update,
            Self::Delete => Action::Delete,
        }
    }
}

impl Item {
    pub(super) fn new(at: usize, bound: Bound, entity: &Entity, giver: Option<KeyGiver>) -> Self {
        let (stage, values) = match bound.write {
            Write::Create(cells) => (Stage::Create, cells),
            Write::Update(cells) => (Stage::Update, cells),
            Write::Delete => (Stage::Delete, Vec::new()),
        };
        let (mut cells, mut sets) = (Vec::new(), Vec::new());
        for (field, value) in values {
            match &entity.field(field).directus {
                Some(DirectusField::Column { column, .. }) => {
                    cells.push(Sent { field, column: column.clone(), value });
                }
                Some(DirectusField::Junction { .. }) => sets.push(change(field, &value)),
                None => {}
            }
        }
        let key = bound.key.map_or_else(|| bound.record.to_string(), |key| key.to_string());
        let Bound { record, operation, .. } = bound;
        let filter = entity.rows.directus.iter().filter(|_| stage == Stage::Create);
        let presets = filter.flat_map(|filter| &filter.tests).filter_map(|test| {
            let is_sent = cells.iter().any(|cell| cell.column == test.field);
            Some((test.field.clone(), test.preset().filter(|_| !is_sent)?))
        });
        let presets = presets.collect();
        let (made, password) = (None, None);
        Self { at, record, operation, key, giver, made, stage, cells, sets, password, presets }
    }

    /// Whether it is made under a key that only the log tells.
    pub(super) fn has_other_key(&self) -> bool {
        self.stage == Stage::Create && self.giver.is_some_and(KeyGiver::is_other)
    }

    /// The row for its cells, its key among them.
    pub(super) fn row(&self, table: &DirectusTable) -> Row {
        self.row_of(table, self.stage, &self.cells)
    }

    /// The row for some of its cells. A password comes along where the user is made.
    pub(super) fn row_of(&self, table: &DirectusTable, stage: Stage, cells: &[Sent]) -> Row {
        let mut row = Row::default();
        if !self.has_other_key() {
            row.set(&table.key, json!(self.key));
        }
        for cell in cells {
            row.set(&cell.column, cell.value.clone());
        }
        if stage == Stage::Create {
            for (column, value) in &self.presets {
                row.set(column, value.clone());
            }
        }
        if let (Stage::Create, Some(password)) = (stage, &self.password) {
            row.set_password(password.clone());
        }
        row
    }

    /// The cell of a field that Directus names.
    pub(super) fn cell(&self, column: &str) -> Option<&Sent> {
        self.cells.iter().find(|cell| cell.column == column)
    }

    /// Whether a value that is needed is not among its cells.
    pub(super) fn lacks(&self, column: &str) -> bool {
        match self.cell(column) {
            Some(cell) => cell.value.is_null(),
            None => self.stage == Stage::Create,
        }
    }
}

/// The items with the key under which each was made, where they are made one by one.
pub(super) fn with_keys(mut items: Vec<Item>, keys: Option<Vec<String>>) -> Vec<Item> {
    if let ([item], Some([key])) = (items.as_mut_slice(), keys.as_deref())
        && item.has_other_key()
    {
        item.made = Some(key.clone());
    }
    items
}

fn change(field: FieldNo, value: &Json) -> SetChange {
    let list = |name: &str| value.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let remove = list(REMOVE);
    let remove = remove.iter().filter_map(crate::remote::directus::text).collect();
    let mut columns: Vec<(Json, Map<String, Json>)> = list(COLUMNS)
        .into_iter()
        .filter_map(|pair| match pair {
            Json::Array(pair) => match <[Json; 2]>::try_from(pair).ok()? {
                [element, Json::Object(columns)] => Some((element, columns)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let with_columns = |element: Json| {
        let at = columns.iter().position(|(of, _)| *of == element);
        (element, at.map(|at| columns.swap_remove(at).1))
    };
    let add = list(ADD).into_iter().map(with_columns).collect();
    SetChange { field, add, remove }
}

/// The field of the mapping that a column is; a set's is its alias and never named.
pub(super) fn field_of(entity: &Entity, column: &str) -> Option<FieldNo> {
    let at = entity.fields.iter().position(|field| {
        matches!(&field.directus, Some(DirectusField::Column { column: own, .. }) if own == column)
    })?;
    u16::try_from(at).ok().map(FieldNo)
}
