//! Canonical values → the cells of one side. In: what is to be written, and how the side has the records that links
//! point to. Out: cells in the side's form, those that cannot be written, and those that wait. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{ADD, COLUMNS, REMOVE, airtable};
use crate::{
    mapping::{Entity, Field, FieldKind, Mapping},
    merge::SentCell,
    model::{EntityNo, FieldNo, Refusal, Side, Value},
    store::{Left, Target},
};

/// How a side has records, an entity each.
pub(super) type Targets = HashMap<EntityNo, HashMap<Uuid, Target>>;

/// A record's cells, sorted by what can be done with them.
#[derive(Debug, Default)]
pub(super) struct Formed {
    pub(super) cells: Vec<(FieldNo, Json)>,
    pub(super) refused: Vec<(FieldNo, Refusal)>,
    /// Links to records that the side does not have yet.
    pub(super) waiting: Vec<FieldNo>,
}

/// The records that these cells link to, by entity.
pub(super) fn linked<'a>(
    entity: &Entity,
    cells: impl Iterator<Item = &'a SentCell>,
) -> HashMap<EntityNo, HashSet<Uuid>> {
    let mut linked: HashMap<EntityNo, HashSet<Uuid>> = HashMap::new();
    for cell in cells {
        if let Some(target) = target(entity.field(cell.field)) {
            linked.entry(target).or_default().extend(ids(&cell.value));
        }
    }
    linked
}

/// What is known of the rows of a record's sets that live in junction tables of the side.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Those to take out, by field.
    pub(super) removed: HashMap<FieldNo, Vec<String>>,
    /// What other columns the rows of elements held that were in the sets before.
    pub(super) left: Left,
}

pub(super) fn form(
    mapping: &Mapping,
    entity: EntityNo,
    side: Side,
    cells: &[SentCell],
    targets: &Targets,
    rows: &Rows,
    canonical: &[Value],
) -> Formed {
    let entity = mapping.entity(entity);
    let mut formed = Formed::default();
    let mut values: Vec<(FieldNo, Value)> = Vec::new();
    for cell in cells {
        let field = entity.field(cell.field);
        let has_rows = field.has_rows_on(side);
        let added = if has_rows { added(cell) } else { cell.value.clone() };
        let Some(value) = by_the_sides_keys(field, added.clone(), side, targets) else {
            formed.waiting.push(cell.field);
            continue;
        };
        if !has_rows {
            values.push((cell.field, value));
            continue;
        }
        match elements(field, &value) {
            Ok(add) => {
                let remove = rows.removed.get(&cell.field).cloned().unwrap_or_default();
                let mut content = json!({ ADD: add, REMOVE: remove });
                let columns = columns(cell.field, field, &added, side, targets, &rows.left);
                if !columns.is_empty() {
                    content[COLUMNS] = Json::Array(columns);
                }
                formed.cells.push((cell.field, content));
            }
            Err(refusal) => formed.refused.push((cell.field, refusal)),
        }
    }
    match side {
        Side::Airtable => {
            let canonical = |no: FieldNo| canonical[usize::from(no.0)].clone();
            let (cells, refused) = airtable::form::cells(entity, &values, canonical);
            formed.cells.extend(cells);
            formed.refused.extend(refused);
        }
        Side::Directus => {
            for (no, value) in values {
                match entity.field(no).write_directus(&value) {
                    Ok(json) => formed.cells.push((no, json)),
                    Err(refusal) => formed.refused.push((no, refusal)),
                }
            }
        }
    }
    formed
}

/// The elements that go out of a set that lives in a junction table of the side.
pub(super) fn taken_out(cell: &SentCell) -> Vec<String> {
    let kept = cell.value.elements();
    cell.expected.elements().iter().filter(|element| !kept.contains(element)).cloned().collect()
}

/// How many elements of a set come or go.
pub(super) fn changed_count(cell: &SentCell) -> usize {
    taken_out(cell).len() + added(cell).elements().len()
}

/// The elements that come into it.
fn added(cell: &SentCell) -> Value {
    let held = cell.expected.elements();
    let new = cell.value.elements().iter().filter(|element| !held.contains(element));
    Value::set(new.cloned().collect())
}

/// The elements of a set as Directus takes them, one by one.
fn elements(field: &Field, value: &Value) -> Result<Vec<Json>, Refusal> {
    match field.write_directus(value)? {
        Json::Array(elements) => Ok(elements),
        Json::Null => Ok(Vec::new()),
        one => Ok(vec![one]),
    }
}

/// Elements in the side's form, each with the other columns that its row held when it left the set.
fn columns(
    no: FieldNo,
    field: &Field,
    added: &Value,
    side: Side,
    targets: &Targets,
    left: &Left,
) -> Vec<Json> {
    if left.is_empty() {
        return Vec::new();
    }
    let held = |element: &String| {
        let columns = left.get(&(no, element.clone()))?;
        let one = Value::set(vec![element.clone()]);
        let one = elements(field, &by_the_sides_keys(field, one, side, targets)?).ok()?.pop()?;
        Some(json!([one, columns]))
    };
    added.elements().iter().filter_map(held).collect()
}

/// Links by the keys that the side has; `None`: it does not have all of them yet.
fn by_the_sides_keys(field: &Field, value: Value, side: Side, targets: &Targets) -> Option<Value> {
    let Some(target) = target(field) else { return Some(value) };
    let key = |id: Uuid| {
        let found = targets.get(&target)?.get(&id).filter(|found| found.is_there)?;
        Some(found.key.as_ref().map_or_else(|| id.to_string(), ToString::to_string))
    };
    Some(match &value {
        // Directus's own form of it.
        Value::Uuid(id) => match key(*id)? {
            text if side == Side::Directus && text == id.to_string() => value,
            text => Value::Text(text),
        },
        Value::Set(_) => {
            Value::set(ids(&value).into_iter().map(key).collect::<Option<Vec<String>>>()?)
        }
        _ => value,
    })
}

fn target(field: &Field) -> Option<EntityNo> {
    match field.kind {
        FieldKind::Link { target } | FieldKind::Links { target } => Some(target),
        _ => None,
    }
}

fn ids(value: &Value) -> Vec<Uuid> {
    match value {
        Value::Uuid(id) => vec![*id],
        value => value.elements().iter().filter_map(|id| Uuid::try_parse(id).ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mapping::read, model::SideKey};

    const STARTUP: EntityNo = EntityNo(1);
    const PROJECT: EntityNo = EntityNo(2);
    const ID: Uuid = Uuid::from_u128(7);

    fn mapping() -> Mapping {
        read(include_str!("../../mapping.toml"), "mapping.toml").unwrap()
    }

    fn no(entity: &Entity, name: &str) -> FieldNo {
        let at = entity.fields.iter().position(|field| field.name == name).unwrap();
        FieldNo(u16::try_from(at).unwrap())
    }

    fn cell(field: FieldNo, expected: Value, value: Value) -> SentCell {
        SentCell { field, expected, value }
    }

    fn formed(side: Side, cells: &[SentCell], target: Option<Target>) -> Formed {
        let mapping = mapping();
        let found = target.map(|target| (ID, target)).into_iter().collect();
        let member = target_of(&mapping, cells);
        let targets = HashMap::from([(member, found)]);
        let removed = HashMap::from([(cells[0].field, vec![String::from("12")])]);
        let left = HashMap::from([((cells[0].field, ID.to_string()), json!({ "role": "lead" }))]);
        let rows = Rows { removed, left };
        form(&mapping, PROJECT, side, cells, &targets, &rows, &[])
    }

    fn target_of(mapping: &Mapping, cells: &[SentCell]) -> EntityNo {
        target(mapping.entity(PROJECT).field(cells[0].field)).unwrap()
    }

    #[test]
    fn form_link_goes_by_the_sides_own_key() {
        let link = no(mapping().entity(PROJECT), "startup_id");
        let cells = [cell(link, Value::Null, Value::Uuid(ID))];
        assert_eq!(target_of(&mapping(), &cells), STARTUP);
        let there =
            |key: Option<&str>| Some(Target { key: key.map(SideKey::from), is_there: true });
        let airtable = formed(Side::Airtable, &cells, there(Some("recOne")));
        assert_eq!(airtable.cells, [(link, json!(["recOne"]))]);
        let directus = formed(Side::Directus, &cells, there(None));
        assert_eq!(directus.cells, [(link, json!(ID.to_string()))]);
        let renamed = formed(Side::Directus, &cells, there(Some("other")));
        assert_eq!(renamed.cells, [(link, json!("other"))]);
    }

    #[test]
    fn form_link_to_what_the_side_lacks_waits_alone() {
        let project = mapping();
        let (link, name) =
            (no(project.entity(PROJECT), "startup_id"), no(project.entity(PROJECT), "name"));
        let cells = [
            cell(link, Value::Null, Value::Uuid(ID)),
            cell(name, Value::Null, Value::Text("Harbour".into())),
        ];
        for target in [None, Some(Target { key: None, is_there: false })] {
            let formed = formed(Side::Directus, &cells, target);
            assert_eq!(formed.waiting, [link]);
            assert_eq!(formed.cells, [(name, json!("Harbour"))]);
        }
    }

    #[test]
    fn form_set_in_a_junction_table_is_told_by_what_comes_and_goes() {
        let set = no(mapping().entity(PROJECT), "interested");
        let (old, new) = (Uuid::from_u128(1).to_string(), ID.to_string());
        let cells = [cell(set, Value::set(vec![old.clone()]), Value::set(vec![new.clone()]))];
        assert_eq!(taken_out(&cells[0]), [old]);
        let target = Some(Target { key: None, is_there: true });
        let formed = formed(Side::Directus, &cells, target);
        let columns = json!([[new, { "role": "lead" }]]);
        let content = json!({ "add": [new], "remove": ["12"], "columns": columns });
        assert_eq!(formed.cells, [(set, content)]);
    }
}
