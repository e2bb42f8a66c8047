//! What people call records: which one a name means, and the names that are shown instead of ids.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use serde_json::Value as Json;
use uuid::Uuid;

use super::desk::{Desk, short, shown};
use crate::{
    mapping::{Entity, Field, FieldKind, Mapping},
    model::{EntityNo, Side, Value, folded, nearest},
    store::record,
};

/// Fields by which a record is called, the first one that holds something; a person by given and family name.
const TITLES: [&str; 4] = ["name", "title", "label", "legal_name"];
const PERSON: [&str; 2] = ["first_name", "last_name"];
/// Characters of a name that are shown.
const NAME_LENGTH_MAX: usize = 60;
/// Candidates that are told.
const TOLD_COUNT_MAX: usize = 20;
/// Records that are read at a time to be looked through by name.
const PAGE_ROW_COUNT: i64 = 5_000;

/// A record of an entity, by what people call it.
struct Called {
    id: Uuid,
    is_deleted: bool,
    label: String,
    /// Folded: the label, a person's names the other way round, e-mail addresses.
    names: Vec<String>,
}

impl Desk {
    /// The record that a person means by its UUID, `rec…`, Directus key, or name; of deleted ones by name only where no
    /// living one is called so.
    pub(super) async fn record(&self, entity: EntityNo, name: &str) -> anyhow::Result<Uuid> {
        let described = self.mapping.entity(entity);
        let name = name.trim();
        let found = record::find(&self.pool, &described.name, name).await?;
        match found.as_slice() {
            [one] if record::is_known(&self.pool, described, self.shape(entity), *one).await? => {
                return Ok(*one);
            }
            [] | [_] => {}
            several => bail!(
                "`{name}` may be any of these records of {}; name it by its UUID: {}",
                described.name,
                several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        }
        let all = self.all_called(entity).await?;
        let wanted = folded(name);
        let is_it = |it: &&Called| !wanted.is_empty() && it.names.contains(&wanted);
        let living: Vec<&Called> = all.iter().filter(|it| !it.is_deleted).filter(is_it).collect();
        let found = if living.is_empty() { all.iter().filter(is_it).collect() } else { living };
        match found.as_slice() {
            [one] => Ok(one.id),
            [] => bail!(
                "there is no record `{name}` of {}, and never was, by name, UUID, Airtable's rec… or key in Directus{}",
                described.name,
                self.near(entity, name, &all).await?
            ),
            several => {
                let told = several.iter().take(TOLD_COUNT_MAX);
                let mut lines: Vec<String> =
                    told.map(|it| format!("  {}  {}", it.id, it.label)).collect();
                if several.len() > TOLD_COUNT_MAX {
                    lines.push(format!("  … and {} more", several.len() - TOLD_COUNT_MAX));
                }
                bail!(
                    "`{name}` may be any of these records of {}; name it by its UUID:\n{}",
                    described.name,
                    lines.join("\n")
                )
            }
        }
    }

    /// What could be meant instead of `name`: names, or ids and keys where it looks like one.
    pub(super) async fn near_record(&self, entity: EntityNo, name: &str) -> anyhow::Result<String> {
        let all = self.all_called(entity).await?;
        self.near(entity, name, &all).await
    }

    async fn near(&self, no: EntityNo, name: &str, all: &[Called]) -> anyhow::Result<String> {
        let looks_like_id = Uuid::try_parse(name).is_ok() || is_like_uuid(name);
        let looks_like_key = name.starts_with("rec") && !name.contains(' ');
        if looks_like_id {
            let ids: Vec<String> = all.iter().map(|it| it.id.to_string()).collect();
            return Ok(nearest(name, ids.iter().map(String::as_str)));
        }
        if looks_like_key {
            let entity = &self.mapping.entity(no).name;
            let keys = record::side_keys(&self.pool, Side::Airtable, entity).await?;
            return Ok(nearest(name, keys.keys().map(String::as_str)));
        }
        let living = all.iter().filter(|it| !it.is_deleted);
        if name.contains('@') {
            let emails = living.flat_map(|it| &it.names).filter(|name| name.contains('@'));
            return Ok(nearest(name, emails.map(String::as_str)));
        }
        Ok(nearest(name, living.map(|it| it.label.as_str())))
    }

    /// All records of an entity, as far as their names go.
    async fn all_called(&self, no: EntityNo) -> anyhow::Result<Vec<Called>> {
        let mut entity = self.mapping.entity(no).clone();
        entity.fields.retain(is_naming);
        let mut connection = self.pool.acquire().await?;
        let mut all: Vec<Called> = Vec::new();
        loop {
            let after = all.last().map(|it| it.id);
            let shape = self.shape(no);
            let page = record::page(&mut connection, &entity, shape, after, PAGE_ROW_COUNT).await?;
            let is_last = i64::try_from(page.len())? < PAGE_ROW_COUNT;
            all.extend(page.into_iter().map(|it| Called {
                id: it.id,
                is_deleted: it.is_deleted,
                label: label(&entity, &it.values),
                names: names(&entity, &it.values),
            }));
            if is_last {
                return Ok(all);
            }
        }
    }

    /// A readable name of each of these records.
    pub(super) async fn labels(
        &self,
        records: impl IntoIterator<Item = (String, Uuid)>,
    ) -> anyhow::Result<Labels> {
        let mut by_entity: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
        for (entity, record) in records {
            by_entity.entry(entity).or_default().push(record);
        }
        let mut labels = BTreeMap::new();
        for (name, ids) in by_entity {
            let Ok(no) = self.entity_no(&name) else { continue };
            let entity = self.mapping.entity(no);
            let found = record::records(&self.pool, entity, self.shape(no), &ids).await?;
            for (id, row) in found {
                labels.insert((name.clone(), id), label(entity, &row.values));
            }
        }
        Ok(Labels::new(labels, &self.mapping))
    }

    /// The same, and of each record to which one of `cells` (entity, field, value) links.
    pub(super) async fn labels_with_links<'c>(
        &self,
        records: impl IntoIterator<Item = (String, Uuid)>,
        cells: impl IntoIterator<Item = (&'c str, &'c str, &'c Json)>,
    ) -> anyhow::Result<Labels> {
        let targets = targets(&self.mapping);
        let mut all: BTreeSet<(String, Uuid)> = records.into_iter().collect();
        for (entity, field, value) in cells {
            if let Some(target) = targets.get(&(entity.to_owned(), field.to_owned())) {
                all.extend(ids(value).map(|id| (target.clone(), id)));
            }
        }
        self.labels(all).await
    }
}

/// Readable names of records.
#[derive(Debug)]
pub(super) struct Labels {
    labels: BTreeMap<(String, Uuid), String>,
    /// Entity and field of each link → the entity that it leads to.
    targets: BTreeMap<(String, String), String>,
    /// Names that several of them have.
    shared: BTreeSet<(String, String)>,
}

impl Labels {
    fn new(labels: BTreeMap<(String, Uuid), String>, mapping: &Mapping) -> Self {
        let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
        for ((entity, _), label) in &labels {
            let name = (entity.clone(), label.clone());
            if !seen.insert(name.clone()) {
                shared.insert(name);
            }
        }
        Self { labels, targets: targets(mapping), shared }
    }

    /// `member Jeanne Martin`, or the record's id where canonical does not have it.
    pub(super) fn of(&self, entity: &str, record: Uuid) -> String {
        match self.labels.get(&(entity.to_owned(), record)) {
            Some(label) if !label.is_empty() => format!("{entity} {label}"),
            _ => format!("{entity} {record}"),
        }
    }

    /// A cell's value on one line, links by the names of the records that they lead to.
    pub(super) fn value(&self, entity: &str, field: &str, value: Option<&Json>) -> String {
        let target = self.targets.get(&(entity.to_owned(), field.to_owned()));
        let (Some(target), Some(value)) = (target, value) else { return shown(value) };
        match value {
            Json::Array(elements) => {
                let names: Vec<String> =
                    elements.iter().map(|element| self.linked(target, element)).collect();
                shown(Some(&Json::String(names.join(", "))))
            }
            one => self.linked(target, one),
        }
    }

    fn linked(&self, target: &str, value: &Json) -> String {
        let Some(id) = id(value) else { return shown(Some(value)) };
        let Some(label) = self.labels.get(&(target.to_owned(), id)).filter(|it| !it.is_empty())
        else {
            return id.to_string();
        };
        // Which of several is meant, only its id tells.
        if self.shared.contains(&(target.to_owned(), label.clone())) {
            format!("{label} ({id})")
        } else {
            label.clone()
        }
    }
}

/// Entity and field of each link of the mapping → the entity that it leads to.
fn targets(mapping: &Mapping) -> BTreeMap<(String, String), String> {
    let of = |entity: &Entity| {
        let name = entity.name.clone();
        let links = entity.fields.iter().filter_map(|field| match field.kind {
            FieldKind::Link { target } | FieldKind::Links { target } => {
                Some((field.name.clone(), mapping.entity(target).name.clone()))
            }
            _ => None,
        });
        links.map(|(field, target)| ((name.clone(), field), target)).collect::<Vec<_>>()
    };
    mapping.entities.iter().flat_map(of).collect()
}

/// The records that a link's value names.
fn ids(value: &Json) -> impl Iterator<Item = Uuid> {
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    values.iter().filter_map(id)
}

fn id(value: &Json) -> Option<Uuid> {
    Uuid::try_parse(value.as_str()?).ok()
}

/// A UUID with a typing error.
fn is_like_uuid(name: &str) -> bool {
    name.len() > 20 && name.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

/// Whether a record may be called by what this field holds.
fn is_naming(field: &Field) -> bool {
    TITLES.contains(&field.name.as_str())
        || PERSON.contains(&field.name.as_str())
        || matches!(field.kind, FieldKind::Text | FieldKind::LongText | FieldKind::Email)
}

fn text<'v>(entity: &Entity, values: &'v [Value], name: &str) -> Option<&'v str> {
    let at = entity.fields.iter().position(|field| field.name == name)?;
    as_text(values.get(at)?)
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// What a person calls a record: its name, title or label, first and last name, or the first text in it.
pub(super) fn label(entity: &Entity, values: &[Value]) -> String {
    let one = TITLES.into_iter().find_map(|name| text(entity, values, name));
    let person = || {
        let parts: Vec<&str> =
            PERSON.into_iter().filter_map(|name| text(entity, values, name)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    let first = || {
        let is_text = |field: &Field| {
            matches!(field.kind, FieldKind::Text | FieldKind::LongText | FieldKind::Email)
        };
        let mut texts = entity.fields.iter().zip(values).filter(|(field, _)| is_text(field));
        texts.find_map(|(_, value)| as_text(value)).map(str::to_owned)
    };
    one.map(str::to_owned)
        .or_else(person)
        .or_else(first)
        .map_or_else(String::new, |label| short(&label, NAME_LENGTH_MAX))
}

/// All that a record may be called, folded.
fn names(entity: &Entity, values: &[Value]) -> Vec<String> {
    let mut names = vec![label(entity, values)];
    // A long one is called by all of it, and by what is shown of it.
    names.extend(TITLES.into_iter().filter_map(|it| text(entity, values, it)).map(str::to_owned));
    let [given, family] = PERSON.map(|name| text(entity, values, name).unwrap_or_default());
    names.extend([format!("{given} {family}"), format!("{family} {given}")]);
    let emails = entity.fields.iter().zip(values).filter(|(it, _)| it.kind == FieldKind::Email);
    names.extend(emails.filter_map(|(_, value)| as_text(value)).map(str::to_owned));
    let mut folded: Vec<String> = names.iter().map(|name| folded(name)).collect();
    folded.retain(|name| !name.is_empty());
    folded
}
