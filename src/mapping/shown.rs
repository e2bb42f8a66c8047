//! What of the mapping a person accepts with a field: where it is on both sides, how its values are read there, and whose
//! word counts. In: an entity and a field. Out: texts that are the same for as long as the mapping means the same, whatever
//! version of this program reads it.

use sha2::{Digest as _, Sha256};

use super::{
    Codes, DirectusField, Entity, Field, FieldKind, Mapping, Part, Policy,
    reader::field::{DIRECTIONS, PARTS, POLICIES, TRANSFORMS},
};

/// Bytes of a code table's digest.
const DIGEST_LENGTH: usize = 8;

/// A field, or the records of an entity as a whole, as the mapping has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `base/table/field`, by the names or ids that the mapping gives.
    pub(crate) airtable: Option<String>,
    /// `schema.table.column`, or the junction table with its columns.
    pub(crate) directus: Option<String>,
    /// Type, transformations, policy and direction.
    pub(crate) rule: String,
}

impl Mapping {
    /// What a yes to `field` covers; without a field, to records of the entity as a whole.
    pub(crate) fn shown(&self, entity: &Entity, field: Option<&Field>) -> Shown {
        let Some(field) = field else { return of_records(entity) };
        let airtable = entity.airtable.as_ref().zip(field.airtable.as_ref());
        let directus = entity.directus.as_ref().zip(field.directus.as_ref());
        Shown {
            airtable: airtable.map(|(of, it)| format!("{}/{}/{}", of.base, of.table, it.field)),
            directus: directus.map(|(of, it)| match it {
                DirectusField::Column { column, .. } => {
                    format!("{}.{}.{column}", of.schema, of.table)
                }
                DirectusField::Junction { table, parent, element, .. } => {
                    format!("{}.{table}({parent}, {element})", of.schema)
                }
            }),
            rule: self.rule(field),
        }
    }

    fn rule(&self, field: &Field) -> String {
        let mut words = vec![field.kind.name().to_owned()];
        match &field.kind {
            FieldKind::Link { target } | FieldKind::Links { target } => {
                words.push(format!("to {}", self.entity(*target).name));
            }
            FieldKind::Phone { region } => words.push(format!("of {region}")),
            FieldKind::DateTime { millis: false } => words.push("to the microsecond".into()),
            _ => {}
        }
        words.extend(field.transforms.iter().map(|it| word(&TRANSFORMS, *it).to_owned()));
        if let Some(it) = &field.airtable {
            words.push(format!("airtable {}", reading(it.part, it.codes.as_ref())));
        }
        if let Some(it) = &field.directus {
            let reading = match it {
                DirectusField::Column { part, codes, .. } => reading(*part, codes.as_ref()),
                DirectusField::Junction { codes, .. } => reading(Part::Whole, codes.as_ref()),
            };
            words.push(format!("directus {reading}"));
        }
        let policy = match field.policy {
            Policy::Computed => "computed",
            other => word(&POLICIES, other),
        };
        words.push(format!("policy {policy}"));
        words.push(format!("direction {}", word(&DIRECTIONS, field.direction)));
        words.join(", ")
    }
}

fn of_records(entity: &Entity) -> Shown {
    Shown {
        airtable: entity.airtable.as_ref().map(|of| format!("{}/{}", of.base, of.table)),
        directus: entity
            .directus
            .as_ref()
            .map(|of| format!("{}.{}.{}", of.schema, of.table, of.key)),
        rule: String::new(),
    }
}

/// How a side's cell becomes the value: the transformation, and the code table by what it says.
fn reading(part: Part, codes: Option<&Codes>) -> String {
    let part = if part == Part::Whole { "whole" } else { word(&PARTS, part) };
    let Some(codes) = codes else { return part.to_owned() };
    let mut hash = Sha256::new();
    for (label, code) in codes {
        // No text contains it.
        hash.update(format!("{label}\0{code}\0"));
    }
    let digest = hash.finalize();
    let mut text = format!("{part} by codes ");
    for byte in digest.iter().take(DIGEST_LENGTH) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The document's word for a value.
fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}
