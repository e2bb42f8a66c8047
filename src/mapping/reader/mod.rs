//! `mapping.toml` → [`Mapping`]. All that is wrong with the document is told at once, each thing with its
//! line. docs/mapping.md explains every key.

mod entity;
pub(super) mod field;
mod matches;
mod rows;
mod rules;

use std::{collections::BTreeMap, ops::Range};

use super::{Caution, Codes, Mapping, MassGuard, text};
use crate::{
    document::{Document, Problems, Section},
    model::EntityNo,
};

/// The version of the format that this program reads.
const VERSION: u64 = 1;
/// The longest name that Postgres keeps.
const NAME_LENGTH_MAX: usize = 63;

/// A text and where it stands in the document.
#[derive(Clone)]
struct At {
    value: String,
    span: Range<usize>,
}

/// What fields refer to by name.
struct Names {
    entities: BTreeMap<String, EntityNo>,
    codes: BTreeMap<String, Codes>,
    /// The waits of entities that name none of their own.
    caution: Caution,
    /// The guard for mass changes of entities that name none of their own.
    guard: MassGuard,
}

/// Reads and checks the document; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(text: &str, file: &str) -> Result<Mapping, Problems> {
    let document = Document::new(text, file);
    let parsed = document.parse()?;
    let read = {
        let root = Section::root(&document, &parsed);
        let mut keys = vec!["version", "codes", "entity"];
        keys.extend(entity::SHARED_KEYS);
        root.only(&keys);
        check_version(&root);
        let sections = entity::sections(&root);
        let caution = entity::caution(&root, Caution::default());
        let guard = entity::guard(&root, &MassGuard::default());
        let codes = code_tables(&root);
        let mut names = Names { entities: BTreeMap::new(), codes, caution, guard };
        for (no, (name, _)) in (0..).map(EntityNo).zip(&sections) {
            names.entities.insert(name.value.clone(), no);
        }
        let read: Vec<_> =
            sections.iter().map(|(name, section)| entity::read(name, section, &names)).collect();
        if read.is_empty() {
            root.problem(&(0..0), "no entity is mapped: add a section `[entity.NAME]`");
        }
        rules::check(&document, &read);
        read
    };
    document.finish(Mapping { entities: read.into_iter().map(|read| read.entity).collect() })
}

fn check_version(root: &Section<'_, '_>) {
    if root.get("version").is_none() {
        root.problem(&(0..0), format!("`version` is missing: write `version = {VERSION}`"));
    } else if let Some(version) = root.whole("version", 0..=u64::MAX)
        && version != VERSION
    {
        let what = format!("version {version} is unknown: this program reads version {VERSION}");
        root.problem(&root.span_of("version"), what);
    }
}

/// The sections `[codes.NAME]`: label → code, each of both once.
fn code_tables(root: &Section<'_, '_>) -> BTreeMap<String, Codes> {
    let mut tables = BTreeMap::new();
    let Some(section) = root.section("codes") else { return tables };
    for (name, _, node) in section.entries() {
        let Some(table) = section.table_at(node, &name, format!("codes `{name}`")) else {
            continue;
        };
        let mut codes = Codes::new();
        for (label, span, _) in table.entries() {
            let Some(code) = text_at(&table, &label) else { continue };
            let [Ok(label), Ok(code)] = [&label, &code.value].map(|text| text::clean(text)) else {
                table.problem(&span, "labels and codes cannot contain a NUL");
                continue;
            };
            if let Some((other, _)) = codes.iter().find(|(_, known)| **known == code) {
                let what = format!(
                    "`{label}` and `{other}` have the same code `{code}`: it could not be turned back into a label"
                );
                table.problem(&span, what);
            } else if codes.insert(label.clone(), code).is_some() {
                table.problem(&span, format!("the label `{label}` is there twice"));
            }
        }
        tables.insert(name, codes);
    }
    tables
}

/// The text under `key`, which cannot be empty.
fn text_at(section: &Section<'_, '_>, key: &str) -> Option<At> {
    let value = section.text(key)?;
    let span = section.span_of(key);
    if value.is_empty() {
        section.problem(&span, format!("`{key}` is empty"));
        return None;
    }
    Some(At { value, span })
}

/// The same; a missing one is noted.
fn needed_text_at(section: &Section<'_, '_>, key: &str) -> Option<At> {
    if section.get(key).is_none() {
        section.problem(&section.span, format!("`{key}` is missing"));
    }
    text_at(section, key)
}

fn owned(text: Option<At>) -> String {
    text.map_or_else(String::new, |text| text.value)
}

/// Notes a name that Postgres would have to quote or would cut.
fn check_name(section: &Section<'_, '_>, what: &str, name: &At) {
    let letters = name.value.bytes().enumerate().all(|(at, byte)| {
        byte.is_ascii_lowercase() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
    });
    if !letters {
        let text = format!(
            "`{}` cannot be the name of a {what}: take small letters without accents, digits and `_`",
            name.value
        );
        section.problem(&name.span, text);
    } else if name.value.len() > NAME_LENGTH_MAX {
        let text = format!(
            "the name of the {what} is longer than {NAME_LENGTH_MAX} letters, which is all Postgres keeps"
        );
        section.problem(&name.span, text);
    }
}

#[cfg(test)]
mod tests;
