//! `match` of an entity: its natural keys.

use std::ops::Range;

use crate::{
    document::{Node, Section, did_you_mean},
    mapping::{Direction, Entity, Field, FieldKind, NaturalKey, Part, Store},
    model::FieldNo,
};

/// The natural keys of an entity whose fields are read.
pub(super) fn read(section: &Section<'_, '_>, entity: &Entity) -> Vec<NaturalKey> {
    let Some(node) = section.get("match") else { return Vec::new() };
    let Some(list) = node.get_ref().as_array() else {
        section.problem(
            &node.span(),
            "`match` has to be a list: of fields, and of lists of fields that count together",
        );
        return Vec::new();
    };
    if list.is_empty() {
        section.problem(&node.span(), "`match` is empty: name a field, or take it out");
    }
    if !entity.is_two_sided() {
        section.problem(
            &node.span(),
            "`match` is for records that both sides have: name both `airtable` and `directus`, or take it out",
        );
    }
    let mut keys: Vec<NaturalKey> = Vec::new();
    for item in list {
        let Some(key) = key(section, entity, item) else { continue };
        let is_same = |known: &NaturalKey| {
            known.fields.len() == key.fields.len()
                && known.fields.iter().all(|no| key.fields.contains(no))
        };
        if keys.iter().any(is_same) {
            let what = format!("`match` has `{}` twice", entity.name_of(&key));
            section.problem(&item.span(), what);
        } else {
            keys.push(key);
        }
    }
    keys
}

/// Adds the field that is the key of the Directus collection, where both sides write it: its value tells a record from
/// all others, whether `match` names it or not. Without it, each side's new record would be created on the other.
pub(super) fn add_key(entity: &Entity, keys: &mut Vec<NaturalKey>) {
    let Some(no) = entity.key_field().filter(|_| entity.is_two_sided()) else { return };
    let field = entity.field(no);
    let is_written_on_both = field.airtable.is_some() && field.direction == Direction::Both;
    let is_named = keys.iter().any(|key| key.fields == [no]);
    if is_written_on_both && is_scalar(field) && !is_named {
        keys.insert(0, NaturalKey { fields: vec![no], is_strong: true });
    }
}

/// A field, or a list of fields.
fn key(section: &Section<'_, '_>, entity: &Entity, item: Node<'_, '_>) -> Option<NaturalKey> {
    let named: Vec<Option<FieldNo>> = match (item.get_ref().as_str(), item.get_ref().as_array()) {
        (Some(name), _) => vec![field(section, entity, name, &item.span())],
        (None, Some(list)) if !list.is_empty() => list
            .iter()
            .map(|part| {
                let name = part.get_ref().as_str();
                if name.is_none() {
                    section.problem(&part.span(), "a list in `match` holds names of fields");
                }
                field(section, entity, name?, &part.span())
            })
            .collect(),
        _ => {
            section.problem(&item.span(), "`match` holds names of fields, and lists of them");
            return None;
        }
    };
    let fields: Vec<FieldNo> = named.into_iter().collect::<Option<_>>()?;
    if fields.iter().enumerate().any(|(at, no)| fields.iter().take(at).any(|known| known == no)) {
        section.problem(&item.span(), "a list in `match` names a field twice");
        return None;
    }
    let is_strong = matches!(fields.as_slice(), [no] if !is_name(entity.field(*no)));
    Some(NaturalKey { fields, is_strong })
}

fn field(
    section: &Section<'_, '_>,
    entity: &Entity,
    name: &str,
    span: &Range<usize>,
) -> Option<FieldNo> {
    let Some(at) = entity.fields.iter().position(|field| field.name == name) else {
        let nearest = did_you_mean(name, entity.fields.iter().map(|field| field.name.as_str()));
        section.problem(span, format!("`match` names `{name}`, which is no field{nearest}"));
        return None;
    };
    let field = &entity.fields[at];
    if !is_scalar(field) {
        let what = format!(
            "`match` names `{name}`, which is of the type {}: records are told apart by short texts, numbers, dates and links",
            field.kind
        );
        section.problem(span, what);
        return None;
    }
    if field.airtable.is_none() || field.directus.is_none() {
        let what = format!("`match` names `{name}`, which is not on both sides");
        section.problem(span, what);
        return None;
    }
    Some(FieldNo(u16::try_from(at).unwrap_or(u16::MAX)))
}

/// Whether a field holds one short value, by which records can be compared.
fn is_scalar(field: &Field) -> bool {
    matches!(field.store, Store::Column(_))
        && !matches!(
            field.kind,
            FieldKind::LongText
                | FieldKind::Boolean
                | FieldKind::MultiSelect
                | FieldKind::Links { .. }
                | FieldKind::Computed
                | FieldKind::Json
                | FieldKind::Csv
        )
}

/// Whether a field holds what several records may be called.
pub(crate) fn is_name(field: &Field) -> bool {
    let is_half = |part| matches!(part, Part::FirstOfFullName | Part::LastOfFullName);
    matches!(field.name.as_str(), "name" | "label" | "title")
        || field.name.ends_with("_name")
        || field.airtable.as_ref().is_some_and(|airtable| is_half(airtable.part))
}
