//! A section `[entity.NAME]`.

use std::ops::Range;

use toml::de::DeValue;

use super::{Names, check_name, field};
use crate::{
    document::{At, Section},
    mapping::{AirtableTable, DeletePolicy, DirectusTable, Entity, Field},
};

const KEYS: [&str; 5] = ["table", "airtable", "directus", "deletes", "field"];
const DELETES: [(&str, DeletePolicy); 3] = [
    ("hold", DeletePolicy::Hold),
    ("archive", DeletePolicy::Archive),
    ("propagate", DeletePolicy::Propagate),
];

/// An entity, and where it and its fields stand in the text.
pub(super) struct Read {
    pub(super) entity: Entity,
    pub(super) span: Range<usize>,
    pub(super) field_spans: Vec<Range<usize>>,
}

impl Read {
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Field, Range<usize>)> {
        self.entity.fields.iter().zip(self.field_spans.iter().cloned())
    }
}

/// The sections of all entities, in the order of the text.
pub(super) fn sections<'d, 't>(all: &Section<'d, 't>) -> Vec<(At<&'d str>, Section<'d, 't>)> {
    let mut sections = Vec::new();
    for (name, _) in all.entries() {
        if let Some(mut section) = all.table(name.value, format!("entity `{}`", name.value), &KEYS) {
            section.span = name.span.clone();
            sections.push((name, section));
        }
    }
    sections
}

pub(super) fn read(name: &At<&str>, section: &Section<'_, '_>, names: &Names<'_>) -> Read {
    let table = section.needed_text("table");
    if let Some(table) = &table {
        check_name(section, "canonical table", table);
    }
    let mut entity = Entity {
        name: name.value.to_owned(),
        table: table.map_or_else(String::new, |table| table.value.to_owned()),
        airtable: airtable(section),
        directus: directus(section),
        deletes: section
            .text("deletes")
            .and_then(|deletes| section.choice("value of `deletes`", &deletes, &DELETES))
            .unwrap_or(DeletePolicy::Hold),
        fields: Vec::new(),
    };
    if section.get("airtable").is_none() && section.get("directus").is_none() {
        let what = "neither `airtable` nor `directus` says where its records are";
        section.problem(name.span.clone(), what, None);
    }
    let mut field_spans = Vec::new();
    if let Some(fields) = section.open_table("field", section.what.clone()) {
        for (field_name, _) in fields.entries() {
            let what = format!("field `{}` of `{}`", field_name.value, name.value);
            if let Some(mut one) = fields.table(field_name.value, what, &field::KEYS) {
                one.span = field_name.span.clone();
                if let Some(field) = field::read(&field_name, &one, &entity, names) {
                    entity.fields.push(field);
                    field_spans.push(field_name.span);
                }
            }
        }
    } else {
        section.problem(name.span.clone(), format!("has no section `[entity.{}.field]`", name.value), None);
    }
    Read { entity, span: name.span.clone(), field_spans }
}

fn airtable(section: &Section<'_, '_>) -> Option<AirtableTable> {
    let what = format!("{}, airtable", section.what);
    let table = section.table("airtable", what, &["base", "table", "uuid"])?;
    let text = |text: Option<At<&str>>| text.map(|text| text.value.to_owned());
    Some(AirtableTable {
        base: text(table.needed_text("base")).unwrap_or_default(),
        table: text(table.needed_text("table")).unwrap_or_default(),
        uuid: text(table.text("uuid")),
    })
}

fn directus(section: &Section<'_, '_>) -> Option<DirectusTable> {
    let value = section.get("directus")?;
    let (schema, table, key) = if let DeValue::String(_) = value.get_ref() {
        (None, section.text("directus"), None)
    } else {
        let what = format!("{}, directus", section.what);
        let table = section.table("directus", what, &["table", "schema", "key"])?;
        let key = table.text("key");
        if let Some(key) = &key {
            let of = table.text("table").map_or("", |table| table.value);
            field::check_secret_column(&table, of, key);
        }
        (table.text("schema"), table.needed_text("table"), key)
    };
    let text = |text: Option<At<&str>>, default: &str| {
        text.map_or(default, |text| text.value).to_owned()
    };
    Some(DirectusTable { schema: text(schema, "public"), table: text(table, ""), key: text(key, "id") })
}
