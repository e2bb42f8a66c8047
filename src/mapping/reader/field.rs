//! An entry of `[entity.NAME.field]`.

use toml::{Spanned, de::DeValue};

use super::{At, Names, check_name, needed_text_at, owned, text_at};
use crate::{
    document::{Section, did_you_mean},
    mapping::{
        AirtableField, Codes, Direction, DirectusField, Entity, Field, FieldKind, Normalise, Part,
        Personal, Policy, ROLE, Store, phone,
    },
    model::{Cell, EntityNo, Side},
};

pub(super) const KEYS: [&str; 16] = [
    "type",
    "column",
    "junction",
    "airtable",
    "directus",
    "policy",
    "direction",
    "transform",
    "scale",
    "region",
    "precision",
    "target",
    "transitions",
    "personal",
    "erased",
    "required",
];

pub(in crate::mapping) const POLICIES: [(&str, Policy); 8] = [
    ("ask", Policy::Ask),
    ("prefer airtable", Policy::Prefer(Side::Airtable)),
    ("prefer directus", Policy::Prefer(Side::Directus)),
    ("owner airtable", Policy::Owner(Side::Airtable)),
    ("owner directus", Policy::Owner(Side::Directus)),
    ("set merge", Policy::SetMerge),
    ("max", Policy::Max),
    ("min", Policy::Min),
];
pub(in crate::mapping) const DIRECTIONS: [(&str, Direction); 3] = [
    ("both", Direction::Both),
    ("from airtable", Direction::From(Side::Airtable)),
    ("from directus", Direction::From(Side::Directus)),
];
pub(in crate::mapping) const TRANSFORMS: [(&str, Normalise); 4] = [
    ("trim", Normalise::Trim),
    ("upper", Normalise::Upper),
    ("lower", Normalise::Lower),
    ("siren", Normalise::Siren),
];
pub(in crate::mapping) const PARTS: [(&str, Part); 5] = [
    ("first_of_full_name", Part::FirstOfFullName),
    ("last_of_full_name", Part::LastOfFullName),
    ("date_dmy", Part::DateDmy),
    ("one_element", Part::OneElement),
    ("csv", Part::Csv),
];
/// All types, with what stands in for their options until these are read.
const KINDS: [FieldKind; 25] = [
    FieldKind::Text,
    FieldKind::LongText,
    FieldKind::Integer,
    FieldKind::BigInt,
    FieldKind::Decimal { scale: None },
    FieldKind::Currency { scale: None },
    FieldKind::Percent { scale: None },
    FieldKind::Rating,
    FieldKind::Duration,
    FieldKind::Boolean,
    FieldKind::Date,
    FieldKind::Time,
    FieldKind::DateTime { millis: true },
    FieldKind::Select,
    FieldKind::MultiSelect,
    FieldKind::Link { target: EntityNo(0) },
    FieldKind::Links { target: EntityNo(0) },
    FieldKind::Email,
    FieldKind::Phone { region: String::new() },
    FieldKind::Url,
    FieldKind::Collaborator,
    FieldKind::Computed,
    FieldKind::Json,
    FieldKind::Csv,
    FieldKind::Uuid,
];

/// Columns of `directus_users` that must not leave its database.
const SECRET_COLUMNS: [&str; 4] = ["password", "token", "tfa_secret", "auth_data"];
/// What people call a password, in small letters without spaces and punctuation.
const PASSWORD_WORDS: [&str; 4] = ["password", "motdepasse", "motsdepasse", "passwort"];

/// Canonical columns that the mirror itself keeps.
const OWN_COLUMNS: [&str; 2] = ["id", "deleted_at"];

/// The field; `None` if its type is not known, which is noted like everything else.
pub(super) fn read(
    name: &At,
    section: &Section<'_, '_>,
    entity: &Entity,
    names: &Names,
) -> Option<Field> {
    let kind = kind(section);
    let store = store(name, section, kind.as_ref());
    let airtable = airtable(section, names, kind.as_ref());
    let directus = directus(section, entity, names);
    let policy = section.choice("policy", &POLICIES);
    let direction = section.choice("direction", &DIRECTIONS).unwrap_or(Direction::Both);
    let transforms = transforms(section);
    let transitions = text_at(section, "transitions");
    if let Some(table) = &transitions {
        check_name(section, "canonical table", table);
    }
    let kind = options(section, kind?, airtable.is_some(), names)?;
    let personal = personal(section);
    let erased = text_at(section, "erased");
    let mut field = Field {
        name: name.value.clone(),
        store,
        kind,
        transforms,
        airtable,
        directus,
        policy: policy.unwrap_or(Policy::Ask),
        direction,
        transitions: transitions.map(|table| table.value),
        personal,
        erased: erased.map(|erased| erased.value),
        is_required: section.flag("required").unwrap_or(false),
        filled_by: Vec::new(),
    };
    if policy.is_none() {
        field.policy = default_policy(entity, &field);
    }
    check_role(section, entity, &field);
    check_erasure(section, &field);
    Some(field)
}

/// The address of an account is Directus's: whoever can change it can ask for a new password there.
fn default_policy(entity: &Entity, field: &Field) -> Policy {
    let is_two_sided = field.airtable.is_some() && field.direction == Direction::Both;
    match field.kind {
        FieldKind::Computed => Policy::Computed,
        _ if entity.is_login(field) && is_two_sided => Policy::Owner(Side::Directus),
        _ => Policy::Ask,
    }
}

/// Notes a role that could be given by the other side.
fn check_role(section: &Section<'_, '_>, entity: &Entity, field: &Field) {
    let column = field.directus.as_ref().and_then(DirectusField::column);
    if entity.is_of_accounts()
        && column == Some(ROLE)
        && field.direction != Direction::From(Side::Directus)
    {
        let what = "the role of an account says what it may do in Directus, and is never written there: set \
                    `direction = \"from directus\"`";
        section.problem(&section.span_of("directus"), what);
    }
}

/// `true`, `false` or `"pseudonym"`.
fn personal(section: &Section<'_, '_>) -> Personal {
    match section.get("personal").map(Spanned::get_ref) {
        None => Personal::Unsaid,
        Some(DeValue::Boolean(true)) => Personal::Yes,
        Some(DeValue::Boolean(false)) => Personal::No,
        Some(DeValue::String(text)) if text == "pseudonym" => Personal::Pseudonym,
        Some(_) => {
            let what = "`personal` has to be true, false or \"pseudonym\"";
            section.problem(&section.span_of("personal"), what);
            Personal::No
        }
    }
}

/// Notes what an erasure could not do.
fn check_erasure(section: &Section<'_, '_>, field: &Field) {
    let is_text = matches!(field.kind, FieldKind::Text | FieldKind::LongText);
    if field.personal == Personal::Pseudonym && !is_text {
        let what = format!(
            "the pseudonym is a text, and the type {} takes none: say `personal = true`",
            field.kind
        );
        section.problem(&section.span_of("personal"), what);
    }
    if field.personal.is_personal() && field.kind == FieldKind::Computed {
        let what =
            "a computed field cannot be emptied: say that what it is computed from is personal";
        section.problem(&section.span_of("personal"), what);
    }
    let Some(erased) = &field.erased else { return };
    if field.personal == Personal::Pseudonym {
        let what = "`erased` and the pseudonym exclude each other: the pseudonym is what it holds";
        section.problem(&section.span_of("erased"), what);
    } else if !matches!(field.read_typed(erased), Cell::Value(_)) {
        let what =
            format!("`erased` cannot be `{erased}`: the type {} does not take it", field.kind);
        section.problem(&section.span_of("erased"), what);
    }
}

/// The type, its options still to be read.
fn kind(section: &Section<'_, '_>) -> Option<FieldKind> {
    let name = needed_text_at(section, "type")?;
    let found = KINDS.iter().find(|kind| kind.name() == name.value).cloned();
    if found.is_none() {
        let hint = did_you_mean(&name.value, KINDS.iter().map(FieldKind::name));
        section.problem(&name.span, format!("unknown type `{}`{hint}", name.value));
    }
    found
}

fn store(name: &At, section: &Section<'_, '_>, kind: Option<&FieldKind>) -> Store {
    let is_set = matches!(kind, Some(FieldKind::Links { .. } | FieldKind::MultiSelect));
    if let Some(junction) = section.section("junction") {
        junction.only(&["table", "parent", "element"]);
        if !is_set && kind.is_some() {
            section.problem(&junction.span, "`junction` is for `links` and `multi_select` only");
        }
        if section.get("column").is_some() {
            section
                .problem(&section.span_of("column"), "`column` and `junction` exclude each other");
        }
        let part = |key, what| {
            let name = needed_text_at(&junction, key);
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
        let what =
            "the type `links` needs `junction = { table, parent, element }`, its canonical table";
        section.problem(&name.span, what);
    }
    let column = text_at(section, "column").unwrap_or_else(|| name.clone());
    check_name(section, "canonical column", &column);
    if OWN_COLUMNS.contains(&column.value.as_str()) {
        let what = format!("the canonical column `{}` is kept by the mirror itself", column.value);
        section.problem(&column.span, what);
    }
    Store::Column(column.value)
}

fn airtable(
    section: &Section<'_, '_>,
    names: &Names,
    kind: Option<&FieldKind>,
) -> Option<AirtableField> {
    let node = section.get("airtable")?;
    let (field, part, codes, new_options) = if let DeValue::String(_) = node.get_ref() {
        (text_at(section, "airtable")?, Part::Whole, None, false)
    } else {
        let table = section.section("airtable")?;
        table.only(&["field", "transform", "codes", "new_options"]);
        let new_options = new_options(&table, kind);
        (needed_text_at(&table, "field")?, part(&table), codes(&table, names), new_options)
    };
    let letters: String =
        field.value.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect();
    if PASSWORD_WORDS.iter().any(|word| letters.contains(word)) {
        let what = format!(
            "`{}` looks like a password: passwords are never mirrored, take this field out",
            field.value
        );
        section.problem(&field.span, what);
    }
    Some(AirtableField { field: field.value, part, codes, new_options })
}

/// Whether pushes may add options to the field: only selects have any.
fn new_options(section: &Section<'_, '_>, kind: Option<&FieldKind>) -> bool {
    let allowed = section.flag("new_options").unwrap_or(false);
    let has_options = matches!(
        kind,
        None | Some(FieldKind::Select | FieldKind::MultiSelect | FieldKind::Text | FieldKind::Csv)
    );
    if allowed && !has_options {
        let what = "`new_options` is for fields that can be a select in Airtable: the types `select`, \
                    `multi_select`, `text` and `csv`";
        section.problem(&section.span_of("new_options"), what);
    }
    allowed
}

fn directus(section: &Section<'_, '_>, entity: &Entity, names: &Names) -> Option<DirectusField> {
    let node = section.get("directus")?;
    let of = entity.directus.as_ref().map_or("", |table| table.table.as_str());
    if let DeValue::String(_) = node.get_ref() {
        let column = text_at(section, "directus")?;
        check_secret_column(section, of, &column);
        return Some(DirectusField::Column {
            column: column.value,
            part: Part::Whole,
            codes: None,
        });
    }
    let table = section.section("directus")?;
    if table.get("junction").is_some() {
        table.only(&["junction", "key", "parent", "element", "codes"]);
        return Some(DirectusField::Junction {
            table: owned(text_at(&table, "junction")),
            key: text_at(&table, "key").map_or_else(|| String::from("id"), |key| key.value),
            parent: owned(needed_text_at(&table, "parent")),
            element: owned(needed_text_at(&table, "element")),
            codes: codes(&table, names),
        });
    }
    table.only(&["column", "transform", "codes", "junction"]);
    let column = needed_text_at(&table, "column")?;
    check_secret_column(&table, of, &column);
    let part = part(&table);
    if matches!(part, Part::FirstOfFullName | Part::LastOfFullName) {
        table.problem(
            &table.span_of("transform"),
            "full names are taken apart in Airtable's cells only",
        );
    }
    Some(DirectusField::Column { column: column.value, part, codes: codes(&table, names) })
}

/// Notes a column that must never be read.
pub(super) fn check_secret_column(section: &Section<'_, '_>, table: &str, column: &At) {
    let is_secret = table == "directus_users" && SECRET_COLUMNS.contains(&column.value.as_str());
    if is_secret || column.value == "password" {
        let what =
            format!("the column `{}` is a secret and is never mirrored: take it out", column.value);
        section.problem(&column.span, what);
    }
}

fn part(section: &Section<'_, '_>) -> Part {
    section.choice("transform", &PARTS).unwrap_or(Part::Whole)
}

fn codes(section: &Section<'_, '_>, names: &Names) -> Option<Codes> {
    let name = text_at(section, "codes")?;
    let found = names.codes.get(&name.value).cloned();
    if found.is_none() {
        let hint = did_you_mean(&name.value, names.codes.keys().map(String::as_str));
        section.problem(&name.span, format!("unknown code table `{}`{hint}", name.value));
    }
    found
}

fn transforms(section: &Section<'_, '_>) -> Vec<Normalise> {
    let mut found = Vec::new();
    for (name, span) in section.texts("transform") {
        if let Some((_, step)) = TRANSFORMS.iter().find(|(known, _)| *known == name) {
            found.push(*step);
        } else if PARTS.iter().any(|(known, _)| *known == name) {
            let what = format!(
                "`{name}` belongs to a side: write `airtable = {{ field = \"…\", transform = \"{name}\" }}`"
            );
            section.problem(&span, what);
        } else {
            let hint = did_you_mean(&name, TRANSFORMS.iter().map(|(known, _)| *known));
            section.problem(&span, format!("unknown transform `{name}`{hint}"));
        }
    }
    found
}

/// The type with its options; options of other types are noted.
fn options(
    section: &Section<'_, '_>,
    kind: FieldKind,
    is_on_airtable: bool,
    names: &Names,
) -> Option<FieldKind> {
    let own: &[&str] = match kind {
        FieldKind::Decimal { .. } | FieldKind::Currency { .. } | FieldKind::Percent { .. } => {
            &["scale"]
        }
        FieldKind::Phone { .. } => &["region"],
        FieldKind::DateTime { .. } => &["precision"],
        FieldKind::Link { .. } | FieldKind::Links { .. } => &["target"],
        FieldKind::Select => &["transitions"],
        ref kind
            if kind.is_text()
                && !matches!(
                    kind,
                    FieldKind::Email | FieldKind::Phone { .. } | FieldKind::Collaborator
                ) =>
        {
            &["transform"]
        }
        FieldKind::Csv => &["transform"],
        _ => &[],
    };
    for key in ["scale", "region", "precision", "target", "transitions", "transform"] {
        if let Some(value) = section.get(key)
            && !own.contains(&key)
        {
            section.problem(&value.span(), format!("`{key}` means nothing for the type {kind}"));
        }
    }
    let scale = || section.whole("scale", 0..=100).and_then(|scale| u32::try_from(scale).ok());
    Some(match kind {
        FieldKind::Decimal { .. } => FieldKind::Decimal { scale: scale() },
        FieldKind::Currency { .. } => FieldKind::Currency { scale: scale() },
        FieldKind::Percent { .. } => FieldKind::Percent { scale: scale() },
        FieldKind::Phone { .. } => {
            let region = needed_text_at(section, "region")?;
            if !phone::is_region(&region.value) {
                let what = format!(
                    "unknown region `{}`: it is a country code of two capital letters, such as `FR`",
                    region.value
                );
                section.problem(&region.span, what);
            }
            FieldKind::Phone { region: region.value }
        }
        FieldKind::DateTime { .. } => {
            FieldKind::DateTime { millis: millis(section, is_on_airtable) }
        }
        FieldKind::Link { .. } => FieldKind::Link { target: target(section, names)? },
        FieldKind::Links { .. } => FieldKind::Links { target: target(section, names)? },
        other => other,
    })
}

fn millis(section: &Section<'_, '_>, is_on_airtable: bool) -> bool {
    let millis = section.choice("precision", &[("ms", true), ("us", false)]);
    if millis == Some(false) && is_on_airtable {
        let what = "Airtable keeps milliseconds: `precision = \"us\"` would never settle";
        section.problem(&section.span_of("precision"), what);
    }
    millis.unwrap_or(is_on_airtable)
}

fn target(section: &Section<'_, '_>, names: &Names) -> Option<EntityNo> {
    let name = needed_text_at(section, "target")?;
    let found = names.entities.get(&name.value).copied();
    if found.is_none() {
        let hint = did_you_mean(&name.value, names.entities.keys().map(String::as_str));
        section.problem(&name.span, format!("unknown target `{}`{hint}", name.value));
    }
    found
}
