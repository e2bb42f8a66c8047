//! A section `[entity.NAME]`.

use std::ops::Range;

use super::{At, Names, check_name, field, matches, needed_text_at, owned, rows, text_at};
use crate::{
    document::Section,
    mapping::{
        AirtableTable, Caution, DeletePolicy, DirectusTable, Entity, Field, MassGuard, Password,
        Rows,
    },
};

const KEYS: [&str; 11] = [
    "table",
    "airtable",
    "directus",
    "deletes",
    "match",
    "password",
    "rows",
    "settle_s",
    "edit_settle_s",
    "mass_changes",
    "field",
];
/// Keys of the whole document that stand for those of each entity.
pub(super) const SHARED_KEYS: [&str; 3] = ["settle_s", "edit_settle_s", "mass_changes"];
/// How long a record may be made to wait for its next change, in seconds.
const SETTLE_S_MAX: u64 = 300;
const DELETES: [(&str, DeletePolicy); 2] =
    [("hold", DeletePolicy::Hold), ("propagate", DeletePolicy::Propagate)];

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
pub(super) fn sections<'a, 't>(root: &Section<'a, 't>) -> Vec<(At, Section<'a, 't>)> {
    let Some(all) = root.section("entity") else { return Vec::new() };
    let mut sections = Vec::new();
    for (name, span, node) in all.entries() {
        if let Some(mut section) = all.table_at(node, &name, format!("entity `{name}`")) {
            section.only(&KEYS);
            section.span = span.clone();
            sections.push((At { value: name, span }, section));
        }
    }
    sections
}

pub(super) fn read(name: &At, section: &Section<'_, '_>, names: &Names) -> Read {
    let table = needed_text_at(section, "table");
    if let Some(table) = &table {
        check_name(section, "canonical table", table);
    }
    let mut entity = Entity {
        name: name.value.clone(),
        table: owned(table),
        airtable: airtable(section),
        directus: directus(section),
        deletes: section.choice("deletes", &DELETES).unwrap_or(DeletePolicy::Hold),
        matches: Vec::new(),
        password: password(section),
        caution: caution(section, names.caution),
        guard: guard(section, &names.guard),
        rows: Rows::default(),
        fields: Vec::new(),
    };
    entity.rows = rows::read(section, &entity);
    check_password(section, &entity);
    if section.get("airtable").is_none() && section.get("directus").is_none() {
        section.problem(&name.span, "neither `airtable` nor `directus` says where its records are");
    }
    let mut field_spans = Vec::new();
    let fields = section.section("field");
    for (field_name, span, node) in fields.iter().flat_map(Section::entries) {
        let what = format!("field `{field_name}` of `{}`", name.value);
        let Some(mut one) = section.table_at(node, &field_name, what) else { continue };
        one.only(&field::KEYS);
        one.span = span.clone();
        let field_name = At { value: field_name, span };
        if let Some(field) = field::read(&field_name, &one, &entity, names) {
            entity.fields.push(field);
            field_spans.push(field_name.span);
        }
    }
    if fields.is_none_or(|fields| fields.entries().next().is_none()) {
        section.problem(&name.span, format!("has no fields: add `[entity.{}.field]`", name.value));
    }
    let mut keys = matches::read(section, &entity);
    matches::add_key(&entity, &mut keys);
    entity.matches = keys;
    Read { entity, span: name.span.clone(), field_spans }
}

/// The waits that a section names; those that it does not are `otherwise`.
pub(super) fn caution(section: &Section<'_, '_>, otherwise: Caution) -> Caution {
    let seconds = |key| section.whole(key, 0..=SETTLE_S_MAX).and_then(|s| u32::try_from(s).ok());
    Caution {
        settle_s: seconds("settle_s").unwrap_or(otherwise.settle_s),
        edit_settle_s: seconds("edit_settle_s").unwrap_or(otherwise.edit_settle_s),
    }
}

/// The guard for mass changes that a section names; what it leaves out is as in `otherwise`.
pub(super) fn guard(section: &Section<'_, '_>, otherwise: &MassGuard) -> MassGuard {
    let Some(table) = section.section("mass_changes") else { return otherwise.clone() };
    table.only(&["count", "percent", "wait_s", "trusted"]);
    let whole = |key, max| table.whole(key, 0..=max).and_then(|it| u32::try_from(it).ok());
    let trusted = table.get("trusted").map(|_| {
        let names = table.texts("trusted").into_iter();
        names.map(|(name, _)| name).collect()
    });
    MassGuard {
        count: whole("count", u64::from(u32::MAX)).unwrap_or(otherwise.count),
        percent: whole("percent", 100).unwrap_or(otherwise.percent),
        wait_s: whole("wait_s", SETTLE_S_MAX).unwrap_or(otherwise.wait_s),
        trusted: trusted.unwrap_or_else(|| otherwise.trusted.clone()),
    }
}

fn airtable(section: &Section<'_, '_>) -> Option<AirtableTable> {
    let table = section.section("airtable")?;
    table.only(&["base", "table", "uuid"]);
    Some(AirtableTable {
        base: owned(needed_text_at(&table, "base")),
        table: owned(needed_text_at(&table, "table")),
        uuid: text_at(&table, "uuid").map(|uuid| uuid.value),
    })
}

fn password(section: &Section<'_, '_>) -> Option<Password> {
    let table = section.section("password")?;
    table.only(&["airtable", "clear"]);
    let airtable = needed_text_at(&table, "airtable")?.value;
    Some(Password { airtable, clear: table.flag("clear").unwrap_or(false) })
}

fn check_password(section: &Section<'_, '_>, entity: &Entity) {
    if section.get("password").is_none() {
        return;
    }
    let is_users = entity.directus.as_ref().is_some_and(|table| table.table == "directus_users");
    if !is_users || entity.airtable.is_none() {
        let what = "`password` is for records that are in Airtable and become users of Directus: \
                    both `airtable` and `directus = { table = \"directus_users\" }` are needed";
        section.problem(&section.span_of("password"), what);
    }
}

fn directus(section: &Section<'_, '_>) -> Option<DirectusTable> {
    let table = section.section("directus")?;
    table.only(&["table", "schema", "key", "member_roles"]);
    let name = owned(needed_text_at(&table, "table"));
    let key = text_at(&table, "key");
    if let Some(key) = &key {
        field::check_secret_column(&table, &name, key);
    }
    Some(DirectusTable {
        schema: text_at(&table, "schema")
            .map_or_else(|| String::from("public"), |schema| schema.value),
        table: name,
        key: key.map_or_else(|| String::from("id"), |key| key.value),
    })
}
