//! Rows of the log and of a copy → observations. Pure. Which column is which, a [`Plan`] knows: it is made
//! once for each description of a table.

use crate::{
    mapping::Mapping,
    model::{
        Cell, Change, Element, EntityNo, FieldNo, Observation, Refusal, RefusalKind, SideKey, Value,
    },
};

use super::{
    extra::Extras,
    gates::{Gate, Gates},
    layout::{LayoutTable, Role},
    pgoutput::{Old, Raw, Tuple},
};

/// A row whose columns are found by number.
pub(super) trait Row {
    fn raw(&self, column: usize) -> Raw<'_>;
}

impl Row for Tuple {
    fn raw(&self, column: usize) -> Raw<'_> {
        Tuple::raw(self, column)
    }
}

/// A new row whose unchanged large values are taken from the whole old row, if that came along.
struct Filled<'a> {
    new: &'a Tuple,
    old: Option<&'a Tuple>,
}

impl Row for Filled<'_> {
    fn raw(&self, column: usize) -> Raw<'_> {
        match (self.new.raw(column), self.old) {
            (Raw::Unchanged, Some(old)) => old.raw(column),
            (raw, _) => raw,
        }
    }
}

/// Where the columns that a table's roles need are in its rows.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    roles: Vec<PlannedRole>,
    /// A larger value is refused.
    value_bytes_max: usize,
}

#[derive(Clone, Debug)]
enum PlannedRole {
    Record {
        entity: EntityNo,
        key: usize,
        cells: Vec<(usize, FieldNo)>,
        gate: Option<Gate>,
    },
    Element {
        entity: EntityNo,
        field: FieldNo,
        key: usize,
        parent: usize,
        element: usize,
        extras: Extras,
    },
}

/// A row whose key can't be read: it has no value, it is too large to be sent again, or it is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyUnreadable;

impl Plan {
    /// The plan for rows in which `place` finds a column, and the columns that are not there. A role without
    /// its key, or a column that its filter needs, gives no observations at all.
    pub(super) fn new<'a>(
        table: &'a LayoutTable,
        gates: &Gates,
        place: impl Fn(&str) -> Option<usize>,
    ) -> (Self, Vec<&'a str>) {
        let mut roles = Vec::new();
        let mut missing = Vec::new();
        let mut find = |column: &'a str| {
            let at = place(column);
            if at.is_none() && !table.is_optional(column) && !missing.contains(&column) {
                missing.push(column);
            }
            at
        };
        for role in &table.roles {
            match role {
                Role::Record { entity, key, columns, .. } => {
                    let key = find(key);
                    let Ok(gate) = Gate::new(role, gates, &mut find) else { continue };
                    let cells = columns
                        .iter()
                        .filter_map(|(field, column)| Some((find(column)?, *field)))
                        .collect();
                    if let Some(key) = key {
                        roles.push(PlannedRole::Record { entity: *entity, key, cells, gate });
                    }
                }
                Role::Element { entity, field, key, parent, element } => {
                    let found = (find(key), find(parent), find(element));
                    if let (Some(key), Some(parent), Some(element)) = found {
                        let (entity, field) = (*entity, *field);
                        let extras = Extras::default();
                        let role =
                            PlannedRole::Element { entity, field, key, parent, element, extras };
                        roles.push(role);
                    }
                }
            }
        }
        (Self { roles, value_bytes_max: usize::MAX }, missing)
    }

    /// With refusal of values of more bytes.
    pub(super) fn with_value_bytes_max(self, value_bytes_max: usize) -> Self {
        Self { value_bytes_max, ..self }
    }

    /// The same, with the columns that are kept beside the elements of sets.
    pub(super) fn with_extras(mut self, kept: &Extras) -> Self {
        for role in &mut self.roles {
            if let PlannedRole::Element { extras, .. } = role {
                extras.clone_from(kept);
            }
        }
        self
    }

    /// A row that is there: inserted, or read in full.
    pub(super) fn present(
        &self,
        mapping: &Mapping,
        row: &impl Row,
        out: &mut Vec<Observation>,
    ) -> Result<(), KeyUnreadable> {
        for role in &self.roles {
            out.push(role.present(mapping, row, row, self.value_bytes_max)?);
        }
        Ok(())
    }

    /// A row that was changed.
    pub(super) fn updated(
        &self,
        mapping: &Mapping,
        old: Option<&Old>,
        new: &Tuple,
        out: &mut Vec<Observation>,
    ) -> Result<(), KeyUnreadable> {
        let full = match old {
            Some(Old::Full(tuple)) => Some(tuple),
            _ => None,
        };
        let row = Filled { new, old: full };
        for role in &self.roles {
            // A key too large to be sent again is in the old row, under either replica identity.
            let key_row = Filled { new, old: old.map(Old::tuple) };
            let observation = role.present(mapping, &row, &key_row, self.value_bytes_max)?;
            if let Some(old) = old
                && let Some(before) = role.key_of(old.tuple())
                && let Some(gone) = role.renamed(before, &observation)
            {
                out.push(gone);
            }
            out.push(observation);
        }
        Ok(())
    }

    /// A row that was deleted.
    pub(super) fn deleted(
        &self,
        old: &Old,
        out: &mut Vec<Observation>,
    ) -> Result<(), KeyUnreadable> {
        for role in &self.roles {
            let key = role.key_of(old.tuple()).ok_or(KeyUnreadable)?;
            out.push(role.gone(key));
        }
        Ok(())
    }

    /// The whole table was emptied. For a junction table: an element without a row.
    pub(super) fn truncated(&self, out: &mut Vec<Observation>) {
        for role in &self.roles {
            out.push(match role {
                PlannedRole::Record { entity, .. } => {
                    Observation { entity: *entity, key: "".into(), change: Change::Truncated }
                }
                PlannedRole::Element { .. } => role.gone("".into()),
            });
        }
    }
}

impl PlannedRole {
    fn present(
        &self,
        mapping: &Mapping,
        row: &impl Row,
        key_row: &impl Row,
        value_bytes_max: usize,
    ) -> Result<Observation, KeyUnreadable> {
        match self {
            Self::Record { entity, key, cells, gate } => {
                let key = side_key(key_row.raw(*key)).ok_or(KeyUnreadable)?;
                let fields = mapping.entity(*entity);
                let mut read = Vec::with_capacity(cells.len());
                for (column, field) in cells {
                    let raw = match row.raw(*column) {
                        Raw::Unchanged => continue,
                        Raw::Null => None,
                        Raw::Text(text) if text.len() > value_bytes_max => {
                            read.push((*field, Cell::Refused(too_large(value_bytes_max))));
                            continue;
                        }
                        Raw::Text(text) => Some(text),
                    };
                    read.push((*field, fields.field(*field).read_postgres(raw)));
                }
                let is_whole = read.len() == cells.len();
                let is_mirrored = gate.as_ref().is_none_or(|gate| gate.admits(&key, row, is_whole));
                let change = if is_mirrored {
                    Change::Present { cells: read, claimed_id: None, made_at: None }
                } else {
                    Change::Outside { claimed_id: None }
                };
                Ok(Observation { entity: *entity, key, change })
            }
            Self::Element { entity, field, key, parent, element, extras } => {
                let row_key = side_key(key_row.raw(*key)).ok_or(KeyUnreadable)?;
                let parent = side_key(row.raw(*parent));
                let element = match row.raw(*element) {
                    Raw::Text(text) if parent.is_some() => {
                        let field = mapping.entity(*entity).field(*field);
                        Some(field.read_element_postgres(Some(text))).filter(|cell| !is_empty(cell))
                    }
                    _ => None,
                };
                let columns = element.as_ref().and_then(|_| extras.of(row));
                let element = Element { field: *field, row: row_key, element, columns };
                let change = Change::Element(element);
                let key = parent.unwrap_or_else(|| "".into());
                Ok(Observation { entity: *entity, key, change })
            }
        }
    }

    fn key_of(&self, old: &Tuple) -> Option<SideKey> {
        match self {
            Self::Record { key, .. } | Self::Element { key, .. } => side_key(old.raw(*key)),
        }
    }

    /// What is said of the old key if the row has another one now.
    fn renamed(&self, before: SideKey, now: &Observation) -> Option<Observation> {
        match (self, &now.change) {
            (Self::Element { .. }, Change::Element(element)) => {
                (element.row != before).then(|| self.gone(before))
            }
            (Self::Record { entity, gate, .. }, _) => {
                if now.key == before {
                    return None;
                }
                // Of a row that was not mirrored, nobody knows the old key.
                let was_mirrored = gate.as_ref().is_none_or(|gate| gate.forget(&before));
                let change = Change::Renamed { to: now.key.clone() };
                was_mirrored.then_some(Observation { entity: *entity, key: before, change })
            }
            (Self::Element { .. }, _) => None,
        }
    }

    fn gone(&self, key: SideKey) -> Observation {
        match self {
            Self::Record { entity, gate, .. } => {
                if let Some(gate) = gate {
                    gate.forget(&key);
                }
                Observation { entity: *entity, key, change: Change::Absent }
            }
            Self::Element { entity, field, .. } => Observation {
                entity: *entity,
                key: "".into(),
                change: Change::Element(Element {
                    field: *field,
                    row: key,
                    element: None,
                    columns: None,
                }),
            },
        }
    }
}

fn too_large(value_bytes_max: usize) -> Refusal {
    let mib = value_bytes_max / (1024 * 1024);
    let reason = format!(
        "is larger than {mib} MiB (`message_mib_max` in [directus]); make it smaller, or raise the limit"
    );
    Refusal { kind: RefusalKind::OutOfRange, reason, raw: None }
}

fn side_key(raw: Raw<'_>) -> Option<SideKey> {
    match raw {
        Raw::Text(text) => std::str::from_utf8(text).ok().map(SideKey::from),
        Raw::Null | Raw::Unchanged => None,
    }
}

/// An estimate of the memory that an observation takes, bytes, given the size of the row it was made of.
pub(super) fn held_bytes(observations: &[Observation], row_bytes: usize) -> usize {
    let cells: usize = observations
        .iter()
        .map(|observation| match &observation.change {
            Change::Present { cells, .. } => cells.len(),
            _ => 1,
        })
        .sum();
    row_bytes + std::mem::size_of_val(observations) + cells * std::mem::size_of::<(FieldNo, Cell)>()
}

fn is_empty(cell: &Cell) -> bool {
    matches!(cell, Cell::Value(Value::Null) | Cell::Link(None))
}
