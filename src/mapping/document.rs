//! `mapping.toml` → [`Mapping`]: read and checked whole.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    AirtableField, AirtableTable, Codes, DeletePolicy, Direction, DirectusField, DirectusTable,
    Entity, Field, FieldKind, Mapping, Normalise, Part, Policy, Store,
};
use crate::{
    document::{Document, Problems, Section, did_you_mean},
    model::{EntityNo, Side},
};

const ENTITY_KEYS: [&str; 5] = ["table", "airtable", "directus", "deletes", "field"];
const FIELD_KEYS: [&str; 14] = [
    "type", "column", "junction", "target", "scale", "precision", "region", "transform", "airtable",
    "directus", "policy", "direction", "transitions", "codes",
];
const TYPES: [&str; 24] = [
    "text", "long_text", "integer", "bigint", "decimal", "currency", "percent", "rating", "duration",
    "boolean", "date", "time", "datetime", "select", "multi_select", "link", "links", "email", "phone",
    "url", "collaborator", "computed", "json", "csv",
];
const UUID_TYPE: &str = "uuid";
/// Columns of `directus_users` that never leave the database.
const SECRET_COLUMNS: [&str; 4] = ["password", "token", "tfa_secret", "auth_data"];

/// Reads the document.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(text: &str, file: &str) -> Result<Mapping, Problems> {
    let document = Document::new(text, file);
    let parsed = document.parse()?;
    let mapping = {
        let root = Section::root(&document, &parsed);
        root.only(&["version", "codes", "entity"]);
        if root.get("version").is_some() {
            root.whole("version", 1..=1);
        } else {
            root.problem(&(0..0), "`version = 1` is missing");
        }
        let reader = Reader { codes: codes(&root), names: entity_names(&root) };
        reader.mapping(&root)
    };
    document.finish(mapping)
}

fn entity_names(root: &Section<'_, '_>) -> Vec<String> {
    let entities = root.section("entity");
    entities.map_or_else(Vec::new, |entities| entities.entries().map(|(name, ..)| name).collect())
}

fn codes(root: &Section<'_, '_>) -> BTreeMap<String, Codes> {
    let mut all = BTreeMap::new();
    let Some(section) = root.section("codes") else { return all };
    for (name, _, node) in section.entries() {
        let Some(table) = section.table_at(node, &name, format!("[codes.{name}]")) else { continue };
        let mut codes = Codes::new();
        let mut seen: HashMap<String, String> = HashMap::new();
        for (label, span, _) in table.entries() {
            let Some(code) = table.text(&label) else { continue };
            if let Some(other) = seen.insert(code.clone(), label.clone()) {
                table.problem(&span, format!("`{label}` and `{other}` have the same code `{code}`: the way back would not be known"));
            }
            codes.insert(label, code);
        }
        all.insert(name, codes);
    }
    all
}

struct Reader {
    codes: BTreeMap<String, Codes>,
    names: Vec<String>,
}

impl Reader {
    fn mapping(&self, root: &Section<'_, '_>) -> Mapping {
        let mut entities = Vec::new();
        let mut places: HashMap<String, String> = HashMap::new();
        if let Some(section) = root.section("entity") {
            for (name, span, node) in section.entries() {
                let title = format!("entity `{name}`");
                let Some(table) = section.table_at(node, &name, title) else { continue };
                let entity = self.entity(&table, &name);
                for place in claimed_places(&entity) {
                    if let Some(other) = places.insert(place.clone(), name.clone()) {
                        table.problem(&span, format!("{place} is mapped by entity `{other}` already"));
                    }
                }
                entities.push(entity);
            }
        }
        if entities.is_empty() {
            root.problem(&(0..0), "no entity is mapped; add `[entity.NAME]`");
        }
        Mapping { entities }
    }

    fn entity(&self, section: &Section<'_, '_>, name: &str) -> Entity {
        section.only(&ENTITY_KEYS);
        if !is_sql_name(name) {
            section.problem(&section.span, NAME_RULE);
        }
        let table = section.needed_text("table").unwrap_or_default();
        if !table.is_empty() && !is_sql_name(&table) {
            section.problem(&section.span_of("table"), format!("`table`: {NAME_RULE}"));
        }
        let airtable = section.section("airtable").map(|side| {
            side.only(&["base", "table", "uuid"]);
            AirtableTable {
                base: side.needed_text("base").unwrap_or_default(),
                table: side.needed_text("table").unwrap_or_default(),
                uuid: side.text("uuid"),
            }
        });
        let directus = section.section("directus").map(|side| {
            side.only(&["table", "schema", "key"]);
            DirectusTable {
                schema: side.text("schema").unwrap_or_else(|| "public".into()),
                table: side.needed_text("table").unwrap_or_default(),
                key: side.text("key").unwrap_or_else(|| "id".into()),
            }
        });
        if section.get("airtable").is_none() && section.get("directus").is_none() {
            section.problem(&section.span, "is on neither side; add `airtable` or `directus`");
        }
        let deletes = section.choice("deletes", &[
            ("hold", DeletePolicy::Hold),
            ("archive", DeletePolicy::Archive),
            ("propagate", DeletePolicy::Propagate),
        ]);
        let mut entity = Entity {
            name: name.to_owned(),
            table,
            airtable,
            directus,
            deletes: deletes.unwrap_or(DeletePolicy::Hold),
            fields: Vec::new(),
        };
        if let Some(fields) = section.section("field") {
            for (field, span, node) in fields.entries() {
                let title = format!("entity `{name}`, field `{field}`");
                let Some(table) = fields.table_at(node, &field, title) else { continue };
                if !is_sql_name(&field) {
                    table.problem(&span, NAME_RULE);
                }
                if let Some(read) = self.field(&table, &field, &entity) {
                    check_twins(&table, &read, &entity);
                    entity.fields.push(read);
                }
            }
        }
        if entity.fields.is_empty() {
            section.problem(&section.span, format!("has no fields; add `[entity.{name}.field]`"));
        }
        entity
    }

    fn field(&self, section: &Section<'_, '_>, name: &str, entity: &Entity) -> Option<Field> {
        section.only(&FIELD_KEYS);
        let airtable = self.airtable_field(section, entity);
        let directus = self.directus_field(section, entity);
        if section.get("airtable").is_none() && section.get("directus").is_none() {
            section.problem(&section.span, "is on neither side; add `airtable` or `directus`");
        }
        let kind = self.kind(section, airtable.is_some())?;
        let store = store(section, name, &kind);
        let is_set = matches!(kind, FieldKind::MultiSelect | FieldKind::Links { .. });
        if matches!(kind, FieldKind::Links { .. }) && section.get("junction").is_none() {
            section.problem(&section.span, "`links` needs `junction = { table, parent, element }`: a link is a foreign key");
        }
        if let Some(DirectusField::Junction { .. }) = directus
            && !is_set
        {
            section.problem(&section.span_of("directus"), "only `multi_select` and `links` can be in a junction table");
        }
        let policy = policy(section, &kind);
        let direction = section.choice("direction", &[
            ("both", Direction::Both),
            ("from airtable", Direction::From(Side::Airtable)),
            ("from directus", Direction::From(Side::Directus)),
        ]);
        let direction = direction.unwrap_or(Direction::Both);
        if kind == FieldKind::Computed && direction == Direction::Both {
            section.problem(&section.span, "a computed field cannot be written; say `direction = \"from airtable\"`");
        }
        let transitions = section.text("transitions");
        if let Some(table) = &transitions
            && !is_sql_name(table)
        {
            section.problem(&section.span_of("transitions"), format!("`transitions`: {NAME_RULE}"));
        }
        Some(Field {
            name: name.to_owned(),
            store,
            kind,
            transforms: transforms(section),
            airtable,
            directus,
            policy,
            direction,
            transitions,
        })
    }

    fn airtable_field(&self, section: &Section<'_, '_>, entity: &Entity) -> Option<AirtableField> {
        let node = section.get("airtable")?;
        if entity.airtable.is_none() {
            section.problem(&node.span(), "the entity has no `airtable` table");
        }
        let (field, part, codes) = if let Some(field) = node.get_ref().as_str() {
            (field.to_owned(), Part::Whole, None)
        } else {
            let side = section.section("airtable")?;
            side.only(&["field", "transform", "codes"]);
            (side.needed_text("field")?, part(&side), self.codes_named(&side))
        };
        let is_password = ["mot de passe", "password", "passwd", "motdepasse"];
        if is_password.iter().any(|word| field.to_lowercase().contains(word)) {
            section.problem(&node.span(), "a password is never mirrored: take this field out");
        }
        Some(AirtableField { field, part, codes })
    }

    fn directus_field(&self, section: &Section<'_, '_>, entity: &Entity) -> Option<DirectusField> {
        let node = section.get("directus")?;
        if entity.directus.is_none() {
            section.problem(&node.span(), "the entity has no `directus` table");
        }
        let is_users = entity.directus.as_ref().is_some_and(|table| table.table == "directus_users");
        let secret = |column: &str| {
            if is_users && SECRET_COLUMNS.contains(&column) {
                section.problem(&node.span(), format!("directus_users.{column} never leaves the database: take this field out"));
            }
        };
        if let Some(column) = node.get_ref().as_str() {
            secret(column);
            return Some(DirectusField::Column { column: column.to_owned(), part: Part::Whole, codes: None });
        }
        let side = section.section("directus")?;
        if side.get("junction").is_some() {
            side.only(&["junction", "key", "parent", "element", "codes"]);
            return Some(DirectusField::Junction {
                table: side.needed_text("junction")?,
                key: side.text("key").unwrap_or_else(|| "id".into()),
                parent: side.needed_text("parent")?,
                element: side.needed_text("element")?,
                codes: self.codes_named(&side),
            });
        }
        side.only(&["column", "transform", "codes"]);
        let column = side.needed_text("column")?;
        secret(&column);
        Some(DirectusField::Column { column, part: part(&side), codes: self.codes_named(&side) })
    }

    fn codes_named(&self, section: &Section<'_, '_>) -> Option<Codes> {
        let name = section.text("codes")?;
        let codes = self.codes.get(&name).cloned();
        if codes.is_none() {
            let hint = did_you_mean(&name, self.codes.keys().map(String::as_str));
            section.problem(&section.span_of("codes"), format!("there is no code table `{name}`{hint}; add `[codes.{name}]`"));
        }
        codes
    }

    fn kind(&self, section: &Section<'_, '_>, is_on_airtable: bool) -> Option<FieldKind> {
        let name = section.needed_text("type")?;
        let scale = section.whole("scale", 0..=100).and_then(|scale| u32::try_from(scale).ok());
        let target = || -> Option<EntityNo> {
            let target = section.needed_text("target")?;
            let Some(at) = self.names.iter().position(|name| *name == target) else {
                let hint = did_you_mean(&target, self.names.iter().map(String::as_str));
                section.problem(&section.span_of("target"), format!("there is no entity `{target}`{hint}"));
                return None;
            };
            u16::try_from(at).ok().map(EntityNo)
        };
        let millis = section
            .choice("precision", &[("ms", true), ("us", false)])
            // The APIs of both sides carry milliseconds; only a log has more.
            .unwrap_or(is_on_airtable);
        Some(match name.as_str() {
            "text" => FieldKind::Text,
            "long_text" => FieldKind::LongText,
            "integer" => FieldKind::Integer,
            "bigint" => FieldKind::BigInt,
            "decimal" => FieldKind::Decimal { scale },
            "currency" => FieldKind::Currency { scale },
            "percent" => FieldKind::Percent { scale },
            "rating" => FieldKind::Rating,
            "duration" => FieldKind::Duration,
            "boolean" => FieldKind::Boolean,
            "date" => FieldKind::Date,
            "time" => FieldKind::Time,
            "datetime" => FieldKind::DateTime { millis },
            "select" => FieldKind::Select,
            "multi_select" => FieldKind::MultiSelect,
            "link" => FieldKind::Link { target: target()? },
            "links" => FieldKind::Links { target: target()? },
            "email" => FieldKind::Email,
            "phone" => FieldKind::Phone { region: section.text("region").unwrap_or_else(|| "FR".into()) },
            "url" => FieldKind::Url,
            "collaborator" => FieldKind::Collaborator,
            "computed" => FieldKind::Computed,
            "json" => FieldKind::Json,
            "csv" => FieldKind::Csv,
            UUID_TYPE => FieldKind::Uuid,
            _ => {
                let hint = did_you_mean(&name, TYPES.into_iter().chain([UUID_TYPE]));
                section.problem(&section.span_of("type"), format!("there is no type `{name}`{hint}"));
                return None;
            }
        })
    }
}

const NAME_RULE: &str =
    "a name in the canonical database has small letters, digits and `_`, begins with a letter, and is at most 63 long";

fn is_sql_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

fn part(section: &Section<'_, '_>) -> Part {
    let known = [
        ("first_of_full_name", Part::FirstOfFullName),
        ("last_of_full_name", Part::LastOfFullName),
        ("date_dmy", Part::DateDmy),
        ("one_element", Part::OneElement),
        ("csv", Part::Csv),
    ];
    section.choice("transform", &known).unwrap_or(Part::Whole)
}

fn transforms(section: &Section<'_, '_>) -> Vec<Normalise> {
    let known = [
        ("trim", Normalise::Trim),
        ("upper", Normalise::Upper),
        ("lower", Normalise::Lower),
        ("siren", Normalise::Siren),
    ];
    let mut transforms = Vec::new();
    for (name, span) in section.texts("transform") {
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, transform)) => transforms.push(*transform),
            None => {
                let hint = did_you_mean(&name, known.iter().map(|(name, _)| *name));
                section.problem(&span, format!("there is no transformation `{name}`{hint}"));
            }
        }
    }
    transforms
}

fn store(section: &Section<'_, '_>, name: &str, kind: &FieldKind) -> Store {
    let column = section.text("column");
    let Some(junction) = section.section("junction") else {
        let column = column.unwrap_or_else(|| name.to_owned());
        if !is_sql_name(&column) || column == "id" {
            section.problem(&section.span_of("column"), format!("`column`: {NAME_RULE}; `id` is the canonical id"));
        }
        return Store::Column(column);
    };
    junction.only(&["table", "parent", "element"]);
    if !matches!(kind, FieldKind::MultiSelect | FieldKind::Links { .. }) {
        section.problem(&junction.span, "only `multi_select` and `links` can be in a junction table");
    }
    if column.is_some() {
        section.problem(&section.span_of("column"), "`column` and `junction` exclude each other");
    }
    let [table, parent, element] = ["table", "parent", "element"].map(|key| {
        let name = junction.needed_text(key).unwrap_or_default();
        if !name.is_empty() && !is_sql_name(&name) {
            junction.problem(&junction.span_of(key), format!("`{key}`: {NAME_RULE}"));
        }
        name
    });
    Store::Junction { table, parent, element }
}

fn policy(section: &Section<'_, '_>, kind: &FieldKind) -> Policy {
    let known = [
        ("ask", Policy::Ask),
        ("prefer airtable", Policy::Prefer(Side::Airtable)),
        ("prefer directus", Policy::Prefer(Side::Directus)),
        ("owner airtable", Policy::Owner(Side::Airtable)),
        ("owner directus", Policy::Owner(Side::Directus)),
        ("set merge", Policy::SetMerge),
        ("max", Policy::Max),
        ("min", Policy::Min),
        ("computed", Policy::Computed),
    ];
    let default = if *kind == FieldKind::Computed { Policy::Computed } else { Policy::Ask };
    let policy = section.choice("policy", &known).unwrap_or(default);
    let fits = match policy {
        Policy::SetMerge => matches!(kind, FieldKind::MultiSelect | FieldKind::Links { .. }),
        Policy::Max | Policy::Min => matches!(
            kind,
            FieldKind::Integer | FieldKind::BigInt | FieldKind::Decimal { .. } | FieldKind::Currency { .. }
                | FieldKind::Percent { .. } | FieldKind::Rating | FieldKind::Duration | FieldKind::Date
                | FieldKind::Time | FieldKind::DateTime { .. }
        ),
        Policy::Computed => *kind == FieldKind::Computed,
        _ => true,
    };
    if !fits {
        section.problem(&section.span_of("policy"), match policy {
            Policy::SetMerge => "`set merge` is for `multi_select` and `links`",
            Policy::Computed => "`computed` is for fields of type `computed`",
            _ => "`max` and `min` are for numbers, dates and times",
        });
    }
    policy
}

/// A column, an Airtable field, or a Directus column that is mapped twice.
fn check_twins(section: &Section<'_, '_>, field: &Field, entity: &Entity) {
    for other in &entity.fields {
        let twin = |what: &str| {
            section.problem(&section.span, format!("{what} is mapped by field `{}` already", other.name));
        };
        if field.store == other.store {
            twin(&match &field.store {
                Store::Column(column) => format!("the column `{column}`"),
                Store::Junction { table, .. } => format!("the junction table `{table}`"),
            });
        }
        if let (Some(mine), Some(theirs)) = (&field.airtable, &other.airtable)
            && mine.field == theirs.field
        {
            let parts: HashSet<_> = [mine.part, theirs.part].map(part_no).into();
            let are_parts = parts == HashSet::from([Part::FirstOfFullName, Part::LastOfFullName].map(part_no));
            if !are_parts {
                twin(&format!("the Airtable field `{}`", mine.field));
            }
        }
        if let (
            Some(DirectusField::Column { column: mine, part: my_part, .. }),
            Some(DirectusField::Column { column: theirs, part: their_part, .. }),
        ) = (&field.directus, &other.directus)
            && mine == theirs
            && (my_part == their_part || *my_part == Part::Whole || *their_part == Part::Whole)
        {
            twin(&format!("the Directus column `{mine}`"));
        }
    }
}

fn part_no(part: Part) -> u8 {
    match part {
        Part::Whole => 0,
        Part::FirstOfFullName => 1,
        Part::LastOfFullName => 2,
        Part::DateDmy => 3,
        Part::OneElement => 4,
        Part::Csv => 5,
    }
}

/// What no second entity may map.
fn claimed_places(entity: &Entity) -> Vec<String> {
    let mut places = vec![format!("the table canon.{}", entity.table)];
    if let Some(table) = &entity.airtable {
        places.push(format!("the Airtable table `{}` of base `{}`", table.table, table.base));
    }
    if let Some(table) = &entity.directus {
        places.push(format!("the Directus table {}.{}", table.schema, table.table));
    }
    places
}
