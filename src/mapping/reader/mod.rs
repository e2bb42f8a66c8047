//! `mapping.toml` → [`Mapping`]. All that is wrong with the document is told at once, each thing with its
//! line. docs/mapping.md explains every key.

mod entity;
mod field;
mod rules;

use std::collections::BTreeMap;

use super::{Codes, Mapping, text};
use crate::{
    document::{At, Document, Problems, Section},
    model::EntityNo,
};

/// The version of the format that this program reads.
const VERSION: i64 = 1;
/// The longest name that Postgres keeps.
const NAME_LENGTH_MAX: usize = 63;

/// What fields refer to by name.
struct Names<'t> {
    entities: BTreeMap<&'t str, EntityNo>,
    codes: BTreeMap<&'t str, Codes>,
}

/// Reads and checks the document; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(text: &str, file: &str) -> Result<Mapping, Problems> {
    let document = Document::new(text, file);
    let Some(table) = document.parse() else { return document.finish(None) };
    let top = Section::of_keys(&document, "", 0..0, table.get_ref(), &["version", "codes", "entity"]);
    if top.get("version").is_none() {
        top.problem(0..0, format!("`version` is missing: write `version = {VERSION}`"), None);
    } else if let Some(version) = top.int("version", 0, i64::MAX)
        && version.value != VERSION
    {
        let what = format!("version {} is unknown: this program reads version {VERSION}", version.value);
        top.problem(version.span, what, None);
    }
    let sections = top.open_table("entity", "").map(|table| entity::sections(&table)).unwrap_or_default();
    let mut names = Names { entities: BTreeMap::new(), codes: code_tables(&top) };
    for (no, (name, _)) in (0..).map(EntityNo).zip(&sections) {
        names.entities.insert(name.value, no);
    }
    let read: Vec<_> =
        sections.iter().map(|(name, section)| entity::read(name, section, &names)).collect();
    if read.is_empty() {
        top.problem(0..0, "no entity is mapped: add a section `[entity.NAME]`", None);
    }
    rules::check(&document, &read);
    let mapping = Mapping { entities: read.into_iter().map(|read| read.entity).collect() };
    document.finish(Some(mapping))
}

/// The sections `[codes.NAME]`: label → code, each of both once.
fn code_tables<'t>(top: &Section<'t, '_>) -> BTreeMap<&'t str, Codes> {
    let mut tables = BTreeMap::new();
    let Some(section) = top.open_table("codes", "") else { return tables };
    for (name, _) in section.entries() {
        let Some(table) = section.open_table(name.value, format!("codes `{}`", name.value)) else {
            continue;
        };
        let mut codes = Codes::new();
        for (label, value) in table.entries() {
            let Some(code) = table.text_of(label.value, value) else { continue };
            let cleaned = [label.value, code.value].map(text::clean);
            let [Ok(label_text), Ok(code_text)] = cleaned else {
                table.problem(code.span, "labels and codes cannot contain a NUL", None);
                continue;
            };
            if let Some((other, _)) = codes.iter().find(|(_, known)| **known == code_text) {
                let what = format!(
                    "`{label_text}` and `{other}` have the same code `{code_text}`: it could not be turned back \
                     into a label"
                );
                table.problem(code.span, what, None);
            } else if codes.insert(label_text.clone(), code_text).is_some() {
                table.problem(label.span, format!("the label `{label_text}` is there twice"), None);
            }
        }
        tables.insert(name.value, codes);
    }
    tables
}

/// Notes a name that Postgres would have to quote or would cut.
fn check_name(section: &Section<'_, '_>, what: &str, name: &At<&str>) {
    let letters = name.value.bytes().enumerate().all(|(at, byte)| {
        byte.is_ascii_lowercase() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
    });
    if !letters {
        let text = format!(
            "`{}` cannot be the name of a {what}: take small letters without accents, digits and `_`",
            name.value
        );
        section.problem(name.span.clone(), text, None);
    } else if name.value.len() > NAME_LENGTH_MAX {
        let text =
            format!("the name of the {what} is longer than {NAME_LENGTH_MAX} letters, which is all Postgres keeps");
        section.problem(name.span.clone(), text, None);
    }
}

#[cfg(test)]
mod tests;
