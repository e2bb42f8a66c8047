//! An entry of `[entity.NAME.field]`.

use toml::de::DeValue;

use super::{Names, check_name};
use crate::{
    document::{At, Section, nearest},
    mapping::{
        AirtableField, Codes, Direction, DirectusField, Entity, Field, FieldKind, Normalise, Part, Policy,
        Store, cell, phone,
    },
    model::{EntityNo, Side},
};

pub(super) const KEYS: [&str; 13] = [
    "type", "column", "junction", "airtable", "directus", "policy", "direction", "transform", "scale",
    "region", "precision", "target", "transitions",
];

const POLICIES: [(&str, Policy); 8] = [
    ("ask", Policy::Ask),
    ("prefer airtable", Policy::Prefer(Side::Airtable)),
    ("prefer directus", Policy::Prefer(Side::Directus)),
    ("owner airtable", Policy::Owner(Side::Airtable)),
    ("owner directus", Policy::Owner(Side::Directus)),
    ("set merge", Policy::SetMerge),
    ("max", Policy::Max),
    ("min", Policy::Min),
];
const DIRECTIONS: [(&str, Direction); 3] = [
    ("both", Direction::Both),
    ("from airtable", Direction::From(Side::Airtable)),
    ("from directus", Direction::From(Side::Directus)),
];
const TRANSFORMS: [(&str, Normalise); 4] = [
    ("trim", Normalise::Trim),
    ("upper", Normalise::Upper),
    ("lower", Normalise::Lower),
    ("siren", Normalise::Siren),
];
const PARTS: [(&str, Part); 5] = [
    ("first_of_full_name", Part::FirstOfFullName),
    ("last_of_full_name", Part::LastOfFullName),
    ("date_dmy", Part::DateDmy),
    ("one_element", Part::OneElement),
    ("csv", Part::Csv),
];
/// All types, with what stands in for their options until these are read.
const KINDS: [(&str, FieldKind); 25] = [
    ("text", FieldKind::Text),
    ("long_text", FieldKind::LongText),
    ("integer", FieldKind::Integer),
    ("bigint", FieldKind::BigInt),
    ("decimal", FieldKind::Decimal { scale: None }),
    ("currency", FieldKind::Currency { scale: None }),
    ("percent", FieldKind::Percent { scale: None }),
    ("rating", FieldKind::Rating),
    ("duration", FieldKind::Duration),
    ("boolean", FieldKind::Boolean),
    ("date", FieldKind::Date),
    ("time", FieldKind::Time),
    ("datetime", FieldKind::DateTime { millis: true }),
    ("select", FieldKind::Select),
    ("multi_select", FieldKind::MultiSelect),
    ("link", FieldKind::Link { target: EntityNo(0) }),
    ("links", FieldKind::Links { target: EntityNo(0) }),
    ("email", FieldKind::Email),
    ("phone", FieldKind::Phone { region: String::new() }),
    ("url", FieldKind::Url),
    ("collaborator", FieldKind::Collaborator),
    ("computed", FieldKind::Computed),
    ("json", FieldKind::Json),
    ("csv", FieldKind::Csv),
    ("uuid", FieldKind::Uuid),
];

/// Columns of `directus_users` that must not leave its database.
const SECRET_COLUMNS: [&str; 4] = ["password", "token", "tfa_secret", "auth_data"];
/// What people call a password, in small letters without spaces and punctuation.
const PASSWORD_WORDS: [&str; 4] = ["password", "motdepasse", "motsdepasse", "passwort"];

/// Canonical columns that the mirror itself keeps.
const OWN_COLUMNS: [&str; 2] = ["id", "deleted_at"];

/// The field; `None` if its type is not known, which is noted like everything else.
pub(super) fn read(
    name: &At<&str>,
    section: &Section<'_, '_>,
    entity: &Entity,
    names: &Names<'_>,
) -> Option<Field> {
    let kind = section.needed_text("type").and_then(|kind| section.choice("type", &kind, &KINDS));
    let store = store(name, section, kind.as_ref());
    let airtable = airtable(section, names);
    let directus = directus(section, entity, names);
    let policy = section.text("policy").and_then(|policy| section.choice("policy", &policy, &POLICIES));
    let direction = section
        .text("direction")
        .and_then(|direction| section.choice("direction", &direction, &DIRECTIONS))
        .unwrap_or(Direction::Both);
    let transforms = transforms(section);
    let transitions = section.text("transitions");
    if let Some(table) = &transitions {
        check_name(section, "canonical table", table);
    }
    let kind = options(section, kind?, airtable.is_some(), names)?;
    let default = if kind == FieldKind::Computed { Policy::Computed } else { Policy::Ask };
    Some(Field {
        name: name.value.to_owned(),
        store,
        kind,
        transforms,
        airtable,
        directus,
        policy: policy.unwrap_or(default),
        direction,
        transitions: transitions.map(|table| table.value.to_owned()),
    })
}

fn owned(text: Option<At<&str>>) -> String {
    text.map_or_else(String::new, |text| text.value.to_owned())
}

fn store(name: &At<&str>, section: &Section<'_, '_>, kind: Option<&FieldKind>) -> Store {
    let is_set = matches!(kind, Some(FieldKind::Links { .. } | FieldKind::MultiSelect));
    let what = format!("{}, junction", section.what);
    if let Some(junction) = section.table("junction", what, &["table", "parent", "element"]) {
        if !is_set && kind.is_some() {
            let what = "`junction` is for the types `links` and `multi_select` only";
            section.problem(junction.span.clone(), what, None);
        }
        if let Some(column) = section.text("column") {
            section.problem(column.span, "`column` and `junction` exclude each other", None);
        }
        let part = |key, what| {
            let name = junction.needed_text(key);
            if let Some(name) = &name {
                check_name(&junction, what, name);
            }
            owned(name)
        };
        return Store::Junction {
            table: part("table", "canonical table"),
            parent: part("parent", "canonical column"),
            element: part("element", "canonical column"),
        };
    }
    if matches!(kind, Some(FieldKind::Links { .. })) && section.get("junction").is_none() {
        let what = "the type `links` needs `junction = { table, parent, element }`, its canonical table";
        section.problem(name.span.clone(), what, None);
    }
    let column = section.text("column").unwrap_or_else(|| name.clone());
    check_name(section, "canonical column", &column);
    if OWN_COLUMNS.contains(&column.value) {
        let what = format!("the canonical column `{}` is kept by the mirror itself", column.value);
        section.problem(column.span, what, None);
    }
    Store::Column(column.value.to_owned())
}

fn airtable(section: &Section<'_, '_>, names: &Names<'_>) -> Option<AirtableField> {
    let value = section.get("airtable")?;
    let (field, part, codes) = if let DeValue::String(_) = value.get_ref() {
        (section.text("airtable")?, Part::Whole, None)
    } else {
        let what = format!("{}, airtable", section.what);
        let table = section.table("airtable", what, &["field", "transform", "codes"])?;
        (table.needed_text("field")?, part(&table), codes(&table, names))
    };
    let letters: String = field.value.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect();
    if PASSWORD_WORDS.iter().any(|word| letters.contains(word)) {
        let what = format!(
            "`{}` looks like a password: passwords are never mirrored, take this field out",
            field.value
        );
        section.problem(field.span, what, None);
    }
    Some(AirtableField { field: field.value.to_owned(), part, codes })
}

fn directus(section: &Section<'_, '_>, entity: &Entity, names: &Names<'_>) -> Option<DirectusField> {
    let value = section.get("directus")?;
    let of = entity.directus.as_ref().map_or("", |table| table.table.as_str());
    if let DeValue::String(_) = value.get_ref() {
        let column = section.text("directus")?;
        check_secret_column(section, of, &column);
        return Some(DirectusField::Column { column: column.value.to_owned(), part: Part::Whole, codes: None });
    }
    let what = format!("{}, directus", section.what);
    let is_junction = value.get_ref().as_table().is_some_and(|table| table.contains_key("junction"));
    if is_junction {
        let keys = ["junction", "key", "parent", "element", "codes"];
        let table = section.table("directus", what, &keys)?;
        return Some(DirectusField::Junction {
            table: owned(table.text("junction")),
            key: table.text("key").map_or("id", |key| key.value).to_owned(),
            parent: owned(table.needed_text("parent")),
            element: owned(table.needed_text("element")),
            codes: codes(&table, names),
        });
    }
    let table = section.table("directus", what, &["column", "transform", "codes"])?;
    let column = table.needed_text("column")?;
    check_secret_column(&table, of, &column);
    let part = part(&table);
    if matches!(part, Part::FirstOfFullName | Part::LastOfFullName) {
        let what = "full names are taken apart in Airtable's cells only";
        table.problem(table.text("transform").map_or(0..0, |transform| transform.span), what, None);
    }
    Some(DirectusField::Column { column: column.value.to_owned(), part, codes: codes(&table, names) })
}

/// Notes a column that must never be read.
pub(super) fn check_secret_column(section: &Section<'_, '_>, table: &str, column: &At<&str>) {
    let is_secret = table == "directus_users" && SECRET_COLUMNS.contains(&column.value);
    if is_secret || column.value == "password" {
        let what = format!("the column `{}` is a secret and is never mirrored", column.value);
        section.problem(column.span.clone(), what, None);
    }
}

fn part(section: &Section<'_, '_>) -> Part {
    section
        .text("transform")
        .and_then(|transform| section.choice("transform", &transform, &PARTS))
        .unwrap_or(Part::Whole)
}

fn codes(section: &Section<'_, '_>, names: &Names<'_>) -> Option<Codes> {
    let name = section.text("codes")?;
    let found = names.codes.get(name.value).cloned();
    if found.is_none() {
        let near = nearest(name.value, names.codes.keys().copied());
        section.problem(name.span, format!("unknown code table `{}`", name.value), near);
    }
    found
}

fn transforms(section: &Section<'_, '_>) -> Vec<Normalise> {
    let Some(value) = section.get("transform") else { return Vec::new() };
    let steps: Vec<_> = match value.get_ref() {
        DeValue::Array(steps) => steps.iter().collect(),
        _ => vec![value],
    };
    let mut found = Vec::new();
    for step in steps {
        let Some(name) = step.get_ref().as_str() else {
            section.problem(step.span(), "`transform` has to be a list of texts in quotes", None);
            continue;
        };
        let name = At { value: name, span: step.span() };
        if let Some((_, part)) = PARTS.iter().find(|(known, _)| *known == name.value)
            && *part != Part::Csv
        {
            let what = format!(
                "`{}` belongs to a side: write `airtable = {{ field = \"…\", transform = \"{0}\" }}`",
                name.value
            );
            section.problem(name.span, what, None);
            continue;
        }
        found.extend(section.choice("transform", &name, &TRANSFORMS));
    }
    found
}

/// The type with its options; options of other types are noted.
fn options(
    section: &Section<'_, '_>,
    kind: FieldKind,
    is_on_airtable: bool,
    names: &Names<'_>,
) -> Option<FieldKind> {
    let own: &[&str] = match kind {
        FieldKind::Decimal { .. } | FieldKind::Currency { .. } | FieldKind::Percent { .. } => &["scale"],
        FieldKind::Phone { .. } => &["region"],
        FieldKind::DateTime { .. } => &["precision"],
        FieldKind::Link { .. } | FieldKind::Links { .. } => &["target"],
        FieldKind::Select => &["transitions"],
        ref kind if cell::is_text(kind) && !matches!(kind, FieldKind::Email | FieldKind::Collaborator) => {
            &["transform"]
        }
        FieldKind::Csv => &["transform"],
        _ => &[],
    };
    for key in ["scale", "region", "precision", "target", "transitions", "transform"] {
        if let Some(value) = section.get(key)
            && !own.contains(&key)
        {
            section.problem(value.span(), format!("`{key}` means nothing for the type {kind}"), None);
        }
    }
    let scale = || section.int("scale", 0, 20).and_then(|scale| u32::try_from(scale.value).ok());
    Some(match kind {
        FieldKind::Decimal { .. } => FieldKind::Decimal { scale: scale() },
        FieldKind::Currency { .. } => FieldKind::Currency { scale: scale() },
        FieldKind::Percent { .. } => FieldKind::Percent { scale: scale() },
        FieldKind::Phone { .. } => {
            let region = section.needed_text("region")?;
            if !phone::is_region(region.value) {
                let what = format!(
                    "unknown region `{}`: it is a country code of two capital letters, such as `FR`",
                    region.value
                );
                section.problem(region.span, what, None);
            }
            FieldKind::Phone { region: region.value.to_owned() }
        }
        FieldKind::DateTime { .. } => FieldKind::DateTime { millis: millis(section, is_on_airtable) },
        FieldKind::Link { .. } => FieldKind::Link { target: target(section, names)? },
        FieldKind::Links { .. } => FieldKind::Links { target: target(section, names)? },
        other => other,
    })
}

fn millis(section: &Section<'_, '_>, is_on_airtable: bool) -> bool {
    let Some(precision) = section.text("precision") else { return is_on_airtable };
    let millis = section.choice("precision", &precision, &[("ms", true), ("us", false)]);
    if millis == Some(false) && is_on_airtable {
        let what = "Airtable keeps milliseconds: `precision = \"us\"` would never settle";
        section.problem(precision.span, what, None);
    }
    millis.unwrap_or(is_on_airtable)
}

fn target(section: &Section<'_, '_>, names: &Names<'_>) -> Option<EntityNo> {
    let name = section.needed_text("target")?;
    let found = names.entities.get(name.value).copied();
    if found.is_none() {
        let near = nearest(name.value, names.entities.keys().copied());
        section.problem(name.span, format!("unknown target `{}`", name.value), near);
    }
    found
}
