//! Which table and field of a base is meant. In: the mapping, the base's metadata, what was resolved
//! before. Out: ids, kept from then on, so that a rename does no harm; and what does not fit, with the
//! nearest right name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{
    mapping::{
        Compared, Direction, Entity, Field, FieldKind, KnownOption, KnownOptions, Labels, Mapping,
        Part, RowFilter, RowTest, compare_options,
    },
    model::{EntityNo, FieldNo, Side},
    remote::airtable as remote,
};

/// Less alike than this is no hint.
const HINT_LIKENESS_MIN: f64 = 0.45;

/// Ids of everything that the mapping names in one base, by the mapping's own names. Stored with the
/// position and handed back at the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolved {
    /// By entity.
    pub(crate) tables: BTreeMap<String, ResolvedTable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolvedTable {
    /// As the mapping calls it.
    pub(crate) given: String,
    /// `tbl…`
    pub(crate) id: String,
    /// By the name that the mapping gives.
    pub(crate) fields: BTreeMap<String, ResolvedField>,
    /// Which rows are mirrored, in words: rows that were read under another rule are read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<String>,
    /// Deleted: not read until it is restored or a person decides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) suspended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolvedField {
    /// `fld…`
    pub(crate) id: String,
    /// Airtable's type when it was last looked at.
    pub(crate) kind: String,
    /// Deleted, or of a type that does not fit any more: not read until a person decides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) suspended: bool,
    /// Of a select.
    #[serde(default, skip_serializing_if = "KnownOptions::is_empty")]
    pub(crate) options: KnownOptions,
}

/// An option that was renamed in Airtable, and whose values canonical knows by its old name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// The entity's name.
    pub(crate) entity: String,
    /// The field, as the mapping calls it in Airtable.
    pub(crate) given: String,
    /// `sel…`
    pub(crate) id: String,
    pub(crate) was: String,
    pub(crate) now: String,
    /// Its records are about to be read by the new name.
    pub(crate) follows: bool,
}

impl Resolved {
    /// All of them, those that follow already too.
    pub(super) fn renamed(&self) -> Vec<Renamed> {
        let mut renamed = Vec::new();
        for (entity, table) in &self.tables {
            for (given, field) in &table.fields {
                for (id, option) in &field.options {
                    renamed.extend(option.was.as_ref().map(|was| Renamed {
                        entity: entity.clone(),
                        given: given.clone(),
                        id: id.clone(),
                        was: was.clone(),
                        now: option.name.clone(),
                        follows: option.follows,
                    }));
                }
            }
        }
        renamed
    }

    /// The option that a rename is of.
    pub(super) fn option(&mut self, of: &Renamed) -> Option<&mut KnownOption> {
        self.tables.get_mut(&of.entity)?.fields.get_mut(&of.given)?.options.get_mut(&of.id)
    }
}

/// One thing in which mapping and base do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    /// What is wrong, where.
    pub(crate) what: String,
    /// What to do.
    pub(crate) remedy: String,
    /// The capture cannot go on; otherwise it goes on without the field.
    pub(crate) is_fatal: bool,
}

/// What came of looking everything up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolution {
    pub(crate) resolved: Resolved,
    pub(crate) problems: Vec<Problem>,
    /// Renames and the like: nothing to do.
    pub(crate) notes: Vec<String>,
    /// Entities of which options with codes were renamed: what was refused may be known now.
    pub(crate) relabelled: BTreeSet<EntityNo>,
}

/// What is read of a base: the resolved mapping without what is suspended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// In the mapping's order: parents first.
    pub(crate) tables: Vec<PlanTable>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanTable {
    pub(crate) entity: EntityNo,
    /// `tbl…`
    pub(crate) table: String,
    /// The field with the canonical id.
    pub(crate) uuid: Option<String>,
    /// Each mapped field and its `fld…`; two may share one.
    pub(crate) fields: Vec<(FieldNo, String)>,
    /// What a row has to hold to be mirrored, with the `fld…` of each test.
    pub(crate) rows: Vec<(String, RowTest)>,
    /// The same in words.
    rule: Option<String>,
    /// Types by field id: a change of one asks for a listing.
    kinds: BTreeMap<String, String>,
    /// Of selects, by field id.
    labels: BTreeMap<String, Labels>,
}

/// Looks up everything that `mapping` names in the base called `base`.
///
/// A name is looked up once: what `stored` knows under the same name is taken by its id. What is missing and
/// was never there is fatal; a table or field that was there and is gone, or does not fit any more, is suspended.
pub(crate) fn resolve(
    mapping: &Mapping,
    base: &str,
    tables: &[remote::Table],
    stored: Option<&Resolved>,
) -> Resolution {
    let mut resolution = Resolution::default();
    // Tables first: links are checked against the tables of their targets.
    let mut found = BTreeMap::new();
    for (no, entity) in mapping.entities.iter().enumerate() {
        let Some(mapped) = entity.airtable.as_ref().filter(|mapped| mapped.base == base) else {
            continue;
        };
        let before = stored
            .and_then(|stored| stored.tables.get(&entity.name))
            .filter(|table| table.given == mapped.table);
        let Some(table) = find_table(tables, &mapped.table, before) else {
            resolution.problems.push(missing_table(entity, &mapped.table, tables, before));
            if let Some(before) = before {
                let gone = ResolvedTable { suspended: true, ..before.clone() };
                resolution.resolved.tables.insert(entity.name.clone(), gone);
            }
            continue;
        };
        if before.is_some() && is_renamed(&mapped.table, &table.id, &table.name) {
            resolution.notes.push(format!(
                "the table `{}` of the mapping is now called `{}` in Airtable",
                mapped.table, table.name
            ));
        }
        found.insert(no, (mapped, table, before));
    }
    for (no, (mapped, table, before)) in &found {
        let entity = &mapping.entities[*no];
        let mut fields = BTreeMap::new();
        for field in &entity.fields {
            let Some(given) = field.airtable.as_ref().map(|airtable| airtable.field.as_str())
            else {
                continue;
            };
            let before = before.and_then(|table| table.fields.get(given));
            let has_codes = field.airtable.as_ref().is_some_and(|it| it.codes.is_some());
            let place = Place { no: entity_no(*no), entity, table, given, has_codes };
            let targets = |target: EntityNo| {
                found.get(&usize::from(target.0)).map(|(_, table, _)| table.id.as_str())
            };
            let checked =
                place.find(before, &mut resolution, |column| misfit(field, column, targets));
            if let Some(resolved) = checked {
                fields
                    .entry(given.to_owned())
                    .and_modify(|other: &mut ResolvedField| {
                        other.suspended |= resolved.suspended;
                    })
                    .or_insert(resolved);
            }
        }
        if let Some(given) = &mapped.uuid {
            let before = before.and_then(|table| table.fields.get(given));
            let no = entity_no(*no);
            let place = Place { no, entity, table, given, has_codes: true };
            if let Some(resolved) = place.find(before, &mut resolution, uuid_misfit) {
                fields.insert(given.clone(), resolved);
            }
        }
        for test in entity.rows.airtable.iter().flat_map(|rows| &rows.tests) {
            let before = before.and_then(|table| table.fields.get(&test.field));
            let (no, given) = (entity_no(*no), test.field.as_str());
            let place = Place { no, entity, table, given, has_codes: true };
            if fields.contains_key(&test.field) {
                continue;
            }
            if let Some(resolved) = place.find(before, &mut resolution, |_| None) {
                fields.insert(test.field.clone(), resolved);
            }
        }
        let (given, id) = (mapped.table.clone(), table.id.clone());
        let rows = entity.rows.airtable.as_ref().map(RowFilter::words);
        let resolved = ResolvedTable { given, id, fields, rows, suspended: false };
        resolution.resolved.tables.insert(entity.name.clone(), resolved);
    }
    resolution
}

fn entity_no(at: usize) -> EntityNo {
    EntityNo(u16::try_from(at).unwrap_or(u16::MAX))
}

fn find_table<'a>(
    tables: &'a [remote::Table],
    given: &str,
    before: Option<&ResolvedTable>,
) -> Option<&'a remote::Table> {
    let by_id = |id: &str| tables.iter().find(|table| table.id == id);
    before
        .and_then(|before| by_id(&before.id))
        .or_else(|| by_id(given))
        .or_else(|| tables.iter().find(|table| table.name == given))
}

fn is_renamed(given: &str, id: &str, name: &str) -> bool {
    given != id && given != name
}

fn missing_table(
    entity: &Entity,
    given: &str,
    tables: &[remote::Table],
    before: Option<&ResolvedTable>,
) -> Problem {
    let remedy = match before {
        Some(_) => String::from(
            "its records are kept and not read any more, the other tables go on: restore it from the trash \
             in Airtable, or take the entity out of the mapping",
        ),
        None => hint(given, tables.iter().map(|table| table.name.as_str()), "table"),
    };
    Problem {
        code: "table_missing",
        what: format!(
            "the entity `{}` is mapped to the table `{given}`, which the base does not have",
            entity.name
        ),
        remedy,
        is_fatal: before.is_none(),
    }
}

/// The sentence that names the most similar of the right names.
fn hint<'a>(given: &str, names: impl Iterator<Item = &'a str>, what: &str) -> String {
    let wanted = given.to_lowercase();
    let nearest = names
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness >= HINT_LIKENESS_MIN => {
            format!("correct the mapping: the nearest {what} is `{name}`")
        }
        _ => format!("correct the mapping, or make the {what} in Airtable"),
    }
}

/// A field that the mapping names.
struct Place<'a> {
    no: EntityNo,
    entity: &'a Entity,
    table: &'a remote::Table,
    given: &'a str,
    has_codes: bool,
}

impl Place<'_> {
    /// Finds the field and has its type checked; what is wrong goes to `resolution`.
    fn find(
        &self,
        before: Option<&ResolvedField>,
        resolution: &mut Resolution,
        misfit: impl Fn(&remote::Field) -> Option<Misfit>,
    ) -> Option<ResolvedField> {
        let Self { no, entity, table, given, has_codes } = self;
        let by_id = |id: &str| table.fields.iter().find(|field| field.id == id);
        let field = before
            .and_then(|before| by_id(&before.id))
            .or_else(|| by_id(given))
            .or_else(|| table.fields.iter().find(|field| field.name == *given));
        let Some(field) = field else {
            let names = table.fields.iter().map(|field| field.name.as_str());
            resolution.problems.push(Problem {
                code: "field_missing",
                what: format!(
                    "the entity `{}` is mapped to the field `{given}` of the table `{}`, which is not there",
                    entity.name, table.name
                ),
                remedy: match before {
                    Some(_) => String::from(
                        "its values are kept and not read any more: restore it in Airtable, or take it \
                         out of the mapping",
                    ),
                    None => hint(given, names, "field"),
                },
                is_fatal: before.is_none(),
            });
            return before.map(|before| ResolvedField { suspended: true, ..before.clone() });
        };
        if before.is_some() && is_renamed(given, &field.id, &field.name) {
            resolution.notes.push(format!(
                "the field `{given}` of the mapping is now called `{}` in the table `{}`",
                field.name, table.name
            ));
        }
        let misfit = misfit(field);
        let suspended = misfit.is_some();
        if let Some(Misfit { code, what, remedy }) = misfit {
            // What never fitted is a mistake in the mapping; what fitted once was changed in Airtable.
            let is_fatal = before.is_none();
            resolution.problems.push(Problem {
                code,
                what: format!(
                    "the field `{given}` of the table `{}` (entity `{}`) {what}",
                    table.name, entity.name
                ),
                remedy,
                is_fatal,
            });
        }
        let nothing = KnownOptions::new();
        let known = before.filter(|it| it.id == field.id).map_or(&nothing, |it| &it.options);
        let Compared { options, renamed } = compare_options(known, &field.choices(), *has_codes);
        for (was, now) in renamed.iter().filter(|_| *has_codes) {
            resolution.relabelled.insert(*no);
            resolution.notes.push(format!(
                "the option `{was}` of the field `{given}` of the table `{}` is now called `{now}`; the code table \
                 of the mapping has to know that name",
                table.name
            ));
        }
        let (id, kind) = (field.id.clone(), field.kind.clone());
        Some(ResolvedField { id, kind, suspended, options })
    }
}

struct Misfit {
    code: &'static str,
    what: String,
    remedy: String,
}

fn uuid_misfit(field: &remote::Field) -> Option<Misfit> {
    if matches!(field.kind.as_str(), "singleLineText" | "multilineText") {
        return None;
    }
    Some(Misfit {
        code: "field_type",
        what: format!("is to carry the canonical id, but it is of the type `{}`", field.kind),
        remedy: String::from("make it a single line text field, or name another one as `uuid`"),
    })
}

/// Whether `column` can be what `field` says it is; `None`: it can.
fn misfit<'a>(
    field: &Field,
    column: &remote::Field,
    table_of: impl Fn(EntityNo) -> Option<&'a str>,
) -> Option<Misfit> {
    if field.kind == FieldKind::Computed {
        return None;
    }
    let kind = column.kind.as_str();
    if is_computed(kind) {
        // A formula may give anything; its cells are judged one by one.
        if field.direction == Direction::From(Side::Airtable) {
            return None;
        }
        return Some(Misfit {
            code: "field_computed",
            what: format!("is computed by Airtable (`{kind}`) and cannot be written"),
            remedy: String::from(
                "set `direction = \"from airtable\"` or `type = \"computed\"` for it",
            ),
        });
    }
    if let FieldKind::Link { target } | FieldKind::Links { target } = field.kind
        && kind == "multipleRecordLinks"
    {
        let (Some(linked), Some(wanted)) = (column.linked_table(), table_of(target)) else {
            return None;
        };
        return (linked != wanted).then(|| Misfit {
            code: "field_link",
            what: format!("links to the table `{linked}`, not to `{wanted}` as the mapping says"),
            remedy: String::from("correct `target` in the mapping, or the field in Airtable"),
        });
    }
    let part = field.airtable.as_ref().map_or(Part::Whole, |airtable| airtable.part);
    let fitting = fitting_kinds(&field.kind, part);
    (!fitting.contains(&kind)).then(|| Misfit {
        code: "field_type",
        what: format!("is of the type `{kind}`, which `{}` cannot be read from", field.name),
        remedy: format!(
            "change `type` in the mapping, or make the field one of: {}",
            fitting.join(", ")
        ),
    })
}

/// The mapped fields that Airtable changes with each write, ours included.
pub(super) fn moving(
    mapping: &Mapping,
    base: &str,
    tables: &[remote::Table],
    resolved: &Resolved,
) -> Vec<(EntityNo, FieldNo)> {
    let plan = Plan::new(mapping, base, resolved);
    let column = |id: &str| tables.iter().flat_map(|table| &table.fields).find(|it| it.id == id);
    let of_table = |table: &PlanTable| -> Vec<(EntityNo, FieldNo)> {
        let moves = |(_, id): &&(FieldNo, String)| column(id).is_some_and(moves_with_writes);
        table.fields.iter().filter(moves).map(|(no, _)| (table.entity, *no)).collect()
    };
    plan.tables.iter().flat_map(of_table).collect()
}

fn moves_with_writes(column: &remote::Field) -> bool {
    let formula = || column.options.as_ref()?.get("formula")?.as_str();
    match column.kind.as_str() {
        "lastModifiedTime" | "lastModifiedBy" => true,
        "formula" => formula().is_some_and(|it| it.to_uppercase().contains("LAST_MODIFIED_TIME(")),
        _ => false,
    }
}

/// Types that Airtable itself fills, and those that nobody knows yet.
fn is_computed(kind: &str) -> bool {
    const WRITABLE: [&str; 21] = [
        "singleLineText",
        "multilineText",
        "richText",
        "email",
        "url",
        "phoneNumber",
        "number",
        "currency",
        "percent",
        "duration",
        "rating",
        "checkbox",
        "date",
        "dateTime",
        "barcode",
        "singleSelect",
        "multipleSelects",
        "multipleRecordLinks",
        "singleCollaborator",
        "multipleCollaborators",
        "multipleAttachments",
    ];
    !WRITABLE.contains(&kind)
}

const TEXTS: [&str; 6] =
    ["singleLineText", "multilineText", "richText", "email", "url", "phoneNumber"];

/// The writable types of Airtable that a field of this kind can be.
fn fitting_kinds(kind: &FieldKind, part: Part) -> Vec<&'static str> {
    let own: &[&str] = match (kind, part) {
        (_, Part::FirstOfFullName | Part::LastOfFullName | Part::DateDmy) => &[],
        (FieldKind::Text | FieldKind::LongText | FieldKind::Select, _) => &["singleSelect"],
        (
            FieldKind::Integer
            | FieldKind::BigInt
            | FieldKind::Decimal { .. }
            | FieldKind::Currency { .. }
            | FieldKind::Percent { .. }
            | FieldKind::Duration
            | FieldKind::Rating,
            _,
        ) => &["number", "currency", "percent", "duration", "rating"],
        (FieldKind::Boolean, _) => &["checkbox"],
        (FieldKind::Date, _) => &["date"],
        (FieldKind::DateTime { .. }, _) => &["dateTime"],
        (FieldKind::MultiSelect | FieldKind::Csv, _) => &["multipleSelects"],
        (FieldKind::Link { .. } | FieldKind::Links { .. }, _) => {
            return vec!["multipleRecordLinks"];
        }
        (FieldKind::Collaborator, _) => &["singleCollaborator"],
        _ => &[],
    };
    let mut kinds = own.to_vec();
    if part == Part::OneElement {
        kinds.push("multipleSelects");
    }
    kinds.extend(TEXTS);
    kinds
}

impl Plan {
    /// `resolved` has to be of this mapping and base.
    pub(crate) fn new(mapping: &Mapping, base: &str, resolved: &Resolved) -> Self {
        let mut tables = Vec::new();
        for (no, entity) in (0..).zip(&mapping.entities) {
            let Some(mapped) = entity.airtable.as_ref().filter(|mapped| mapped.base == base) else {
                continue;
            };
            let table = resolved.tables.get(&entity.name).filter(|table| !table.suspended);
            let Some(table) = table else { continue };
            let usable = |given: &str| table.fields.get(given).filter(|field| !field.suspended);
            let mut kinds = BTreeMap::new();
            let mut fields = Vec::new();
            for (field_no, field) in (0..).zip(&entity.fields) {
                let given = field.airtable.as_ref().map(|airtable| airtable.field.as_str());
                if let Some(found) = given.and_then(usable) {
                    kinds.insert(found.id.clone(), found.kind.clone());
                    fields.push((FieldNo(field_no), found.id.clone()));
                }
            }
            // Without a field that tells which rows are mirrored, nothing is read: neither too much nor too little.
            let tests = entity.rows.airtable.iter().flat_map(|rows| &rows.tests);
            let rows: Option<Vec<_>> = tests
                .map(|test| {
                    let found = table.fields.get(&test.field).filter(|field| !field.suspended)?;
                    kinds.entry(found.id.clone()).or_insert_with(|| found.kind.clone());
                    Some((found.id.clone(), test.clone()))
                })
                .collect();
            let Some(rows) = rows else { continue };
            let uuid = mapped.uuid.as_deref().and_then(usable).map(|field| field.id.clone());
            if let Some(id) = &uuid {
                kinds.entry(id.clone()).or_default();
            }
            let labels = table
                .fields
                .values()
                .filter(|field| !field.options.is_empty())
                .map(|field| (field.id.clone(), Labels::new(&field.options)))
                .collect();
            let (table, rule) = (table.id.clone(), table.rows.clone());
            let entity = EntityNo(no);
            tables.push(PlanTable { entity, table, uuid, fields, rows, rule, kinds, labels });
        }
        Self { tables }
    }

    /// The places (in `tables`) of the tables of which more is read now than under `before`, or otherwise:
    /// they have to be listed.
    pub(crate) fn gained_since(&self, before: &Self) -> Vec<usize> {
        let is_new = |table: &PlanTable| {
            let old = before
                .tables
                .iter()
                .find(|old| old.entity == table.entity && old.table == table.table);
            old.is_none_or(|old| {
                table.fields.iter().any(|field| !old.fields.contains(field))
                    || table.rule != old.rule
                    || table.kinds.iter().any(|(id, kind)| old.kinds.get(id) != Some(kind))
            })
        };
        (0..self.tables.len()).filter(|at| is_new(&self.tables[*at])).collect()
    }

    /// The distinct tables.
    pub(crate) fn table_ids(&self) -> BTreeSet<&str> {
        self.tables.iter().map(|table| table.table.as_str()).collect()
    }

    /// Whether anything of the table or field `id` is read.
    pub(crate) fn reads(&self, id: &str) -> bool {
        self.tables.iter().any(|table| table.table == id || table.kinds.contains_key(id))
    }
}

impl PlanTable {
    /// Whether some of its rows may not be mirrored.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether a row with these cells is mirrored; those that are not in `cells` are empty.
    pub(crate) fn admits(&self, cells: &Map<String, Json>) -> bool {
        self.rows.iter().all(|(id, test)| test.admits_json(cells.get(id)))
    }

    /// What a new record gets so that it is among the rows that are mirrored.
    pub(crate) fn presets(&self) -> Vec<(String, Json)> {
        let preset = |(id, test): &(String, RowTest)| {
            let value = test.preset()?;
            let is_list = self.kinds.get(id).is_some_and(|kind| kind == "multipleSelects");
            Some((id.clone(), if is_list { Json::Array(vec![value]) } else { value }))
        };
        self.rows.iter().filter_map(preset).collect()
    }

    /// The mapped fields that Airtable fills by itself.
    pub(crate) fn computed(&self) -> impl Iterator<Item = FieldNo> {
        let is_filled = |id: &String| self.kinds.get(id).is_some_and(|kind| is_computed(kind));
        self.fields.iter().filter(move |(_, id)| is_filled(id)).map(|(no, _)| *no)
    }

    /// The distinct fields to ask for.
    pub(crate) fn field_ids(&self) -> Vec<String> {
        self.kinds.keys().cloned().collect()
    }

    /// The type that a field had when it was last looked at.
    pub(super) fn kind(&self, field: &str) -> Option<&str> {
        self.kinds.get(field).map(String::as_str)
    }

    /// Of a select, how its options are called.
    pub(super) fn labels(&self, field: &str) -> Option<&Labels> {
        self.labels.get(field)
    }

    /// Of all selects, by field id.
    pub(crate) fn into_labels(self) -> BTreeMap<String, Labels> {
        self.labels
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capture::airtable::tests::{field, link, mapping};

    fn tables(name: (&str, &str), heads: (&str, &str)) -> Vec<remote::Table> {
        serde_json::from_value(json!([
            { "id": "tblS", "name": "Startups", "fields": [
                { "id": "fldUuid", "name": "UUID", "type": "singleLineText" },
                { "id": "fldName", "name": name.0, "type": name.1 },
                { "id": "fldHeads", "name": heads.0, "type": heads.1 } ] }
        ]))
        .unwrap()
    }

    fn startup() -> Mapping {
        mapping(&[(
            "startup",
            "Startups",
            vec![
                field("name", "Nom", FieldKind::Text),
                field("headcount", "Effectif", FieldKind::Integer),
            ],
        )])
    }

    const NAME: (&str, &str) = ("Nom", "singleLineText");
    const HEADS: (&str, &str) = ("Effectif", "number");

    #[test]
    fn schema_misspelt_names_get_the_nearest_right_one() {
        let resolution =
            resolve(&startup(), "reseau", &tables(("Nomm", "singleLineText"), HEADS), None);
        let [problem] = resolution.problems.as_slice() else { panic!("{:?}", resolution.problems) };
        assert!(problem.is_fatal);
        assert_eq!(problem.remedy, "correct the mapping: the nearest field is `Nomm`");
        let mut mapping = startup();
        mapping.entities[0].airtable.as_mut().unwrap().table = "Starups".into();
        let resolution = resolve(&mapping, "reseau", &tables(NAME, HEADS), None);
        assert_eq!(
            resolution.problems[0].remedy,
            "correct the mapping: the nearest table is `Startups`"
        );
    }

    #[test]
    fn schema_renamed_field_is_found_by_its_id_though_another_took_its_name() {
        let first = resolve(&startup(), "reseau", &tables(NAME, HEADS), None);
        assert_eq!(first.problems, []);
        let mut renamed = tables(("Nom court", "singleLineText"), HEADS);
        renamed[0].fields.push(
            serde_json::from_value(
                json!({ "id": "fldOther", "name": "Nom", "type": "singleLineText" }),
            )
            .unwrap(),
        );
        let again = resolve(&startup(), "reseau", &renamed, Some(&first.resolved));
        assert_eq!(again.problems, []);
        assert_eq!(again.resolved, first.resolved);
        assert_eq!(again.notes.len(), 1);
    }

    #[test]
    fn schema_field_that_went_is_suspended_and_comes_back() {
        let mapping = startup();
        let first = resolve(&mapping, "reseau", &tables(NAME, HEADS), None);
        let whole = Plan::new(&mapping, "reseau", &first.resolved);
        let mut without = tables(NAME, HEADS);
        without[0].fields.pop();
        let gone = resolve(&mapping, "reseau", &without, Some(&first.resolved));
        assert!(gone.problems.iter().all(|problem| !problem.is_fatal), "{:?}", gone.problems);
        let rest = Plan::new(&mapping, "reseau", &gone.resolved);
        assert_eq!(rest.tables[0].fields, [(FieldNo(0), "fldName".into())]);
        assert_eq!(rest.gained_since(&whole), [0; 0]);
        let back = resolve(&mapping, "reseau", &tables(NAME, HEADS), Some(&gone.resolved));
        let plan = Plan::new(&mapping, "reseau", &back.resolved);
        assert_eq!(plan, whole);
        assert_eq!(plan.gained_since(&rest), [0]);
        // A type that fits too: read again. One that does not: suspended.
        let percent = resolve(
            &mapping,
            "reseau",
            &tables(NAME, ("Effectif", "percent")),
            Some(&back.resolved),
        );
        assert_eq!(Plan::new(&mapping, "reseau", &percent.resolved).gained_since(&plan), [0]);
        let boxes = resolve(
            &mapping,
            "reseau",
            &tables(NAME, ("Effectif", "checkbox")),
            Some(&back.resolved),
        );
        assert_eq!(boxes.problems[0].code, "field_type");
        assert!(boxes.resolved.tables["startup"].fields["Effectif"].suspended);
    }

    #[test]
    fn schema_table_that_went_is_suspended_and_comes_back() {
        let mapping = startup();
        let first = resolve(&mapping, "reseau", &tables(NAME, HEADS), None);
        let whole = Plan::new(&mapping, "reseau", &first.resolved);
        let gone = resolve(&mapping, "reseau", &[], Some(&first.resolved));
        let [problem] = gone.problems.as_slice() else { panic!("{:?}", gone.problems) };
        assert!(!problem.is_fatal && problem.remedy.contains("restore it from the trash"));
        let rest = Plan::new(&mapping, "reseau", &gone.resolved);
        assert_eq!(rest, Plan::default());
        // As the next process finds it.
        let stored = serde_json::to_value(&gone.resolved).unwrap();
        let stored: Resolved = serde_json::from_value(stored).unwrap();
        assert_eq!(stored, gone.resolved);
        let back = resolve(&mapping, "reseau", &tables(NAME, HEADS), Some(&stored));
        assert_eq!(back.problems, []);
        assert_eq!(back.resolved, first.resolved);
        assert_eq!(Plan::new(&mapping, "reseau", &back.resolved).gained_since(&rest), [0]);
        assert_eq!(whole.gained_since(&rest), [0]);
        // What never was there is a mistake.
        assert!(resolve(&mapping, "reseau", &[], None).problems[0].is_fatal);
    }

    #[test]
    fn schema_computed_field_mapped_for_writing_is_an_error() {
        let mut mapping = startup();
        let computed = tables(NAME, ("Effectif", "formula"));
        let resolution = resolve(&mapping, "reseau", &computed, None);
        assert_eq!(resolution.problems[0].code, "field_computed");
        assert!(resolution.problems[0].is_fatal);
        mapping.entities[0].fields[1].direction = Direction::From(Side::Airtable);
        assert_eq!(resolve(&mapping, "reseau", &computed, None).problems, []);
    }

    #[test]
    fn schema_fields_that_airtable_fills_are_known_whatever_the_mapping_calls_them() {
        let mut mapping = startup();
        mapping.entities[0].fields[1].direction = Direction::From(Side::Airtable);
        mapping.entities[0].fields[1].kind = FieldKind::Text;
        for (kind, is_filled, is_moving) in [
            ("singleLineText", false, false),
            ("formula", true, false),
            ("rollup", true, false),
            ("multipleLookupValues", true, false),
            ("count", true, false),
            ("autoNumber", true, false),
            ("createdTime", true, false),
            ("createdBy", true, false),
            ("lastModifiedTime", true, true),
            ("lastModifiedBy", true, true),
            ("button", true, false),
            ("externalSyncSource", true, false),
            ("aiText", true, false),
        ] {
            let tables = tables(NAME, ("Effectif", kind));
            let resolved = resolve(&mapping, "reseau", &tables, None).resolved;
            let plan = Plan::new(&mapping, "reseau", &resolved);
            let filled: Vec<FieldNo> = plan.tables[0].computed().collect();
            assert_eq!(filled, if is_filled { vec![FieldNo(1)] } else { vec![] }, "{kind}");
            let moving = moving(&mapping, "reseau", &tables, &resolved);
            assert_eq!(!moving.is_empty(), is_moving, "{kind}");
        }
        // A formula may name the time of the last change.
        let mut tables = tables(NAME, ("Effectif", "formula"));
        let options = serde_json::json!({ "formula": "DATETIME_FORMAT(Last_Modified_Time())" });
        tables[0].fields.last_mut().unwrap().options = options.as_object().cloned();
        let resolved = resolve(&mapping, "reseau", &tables, None).resolved;
        assert_eq!(moving(&mapping, "reseau", &tables, &resolved), [(EntityNo(0), FieldNo(1))]);
    }

    #[test]
    fn schema_link_to_the_wrong_table_is_an_error() {
        let mapping = mapping(&[
            ("startup", "Startups", vec![field("name", "Nom", FieldKind::Text)]),
            ("project", "Projets", vec![link("startup", "Startup", 0)]),
        ]);
        let tables = |linked: &str| -> Vec<remote::Table> {
            serde_json::from_value(json!([
                { "id": "tblS", "name": "Startups", "fields": [
                    { "id": "fld0", "name": "UUID", "type": "singleLineText" },
                    { "id": "fld1", "name": "Nom", "type": "singleLineText" } ] },
                { "id": "tblP", "name": "Projets", "fields": [
                    { "id": "fld2", "name": "UUID", "type": "singleLineText" },
                    { "id": "fld3", "name": "Startup", "type": "multipleRecordLinks",
                      "options": { "linkedTableId": linked } } ] }
            ]))
            .unwrap()
        };
        assert_eq!(resolve(&mapping, "reseau", &tables("tblS"), None).problems, []);
        let wrong = resolve(&mapping, "reseau", &tables("tblP"), None);
        assert_eq!(wrong.problems[0].code, "field_link");
    }
}
