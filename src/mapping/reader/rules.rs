//! What has to hold between the keys of a field, and between fields and entities.

use std::{collections::BTreeMap, ops::Range};

use super::entity::Read;
use crate::{
    document::Document,
    mapping::{
        Direction, DirectusField, Entity, Field, FieldKind, Part, Personal, Policy, Store, settle,
    },
    model::{EntityNo, Side},
};

pub(super) fn check(document: &Document<'_>, all: &[Read]) {
    tables(document, all);
    for read in all {
        columns(document, read);
        airtable_cells(document, read);
        password(document, read);
        pseudonym(document, read);
        for (field, span) in read.fields() {
            let problem = |what: String| {
                let what = format!("field `{}` of `{}`: {what}", field.name, read.entity.name);
                document.problem(&span, what);
            };
            sides(&read.entity, field, &problem);
            policy(field, &problem);
            parts(field, &problem);
            if let FieldKind::Link { target } | FieldKind::Links { target } = field.kind {
                link(&read.entity, field, target, all, &problem);
            }
        }
    }
}

/// A password is mirrored by no field.
fn password(document: &Document<'_>, read: &Read) {
    let Some(password) = &read.entity.password else { return };
    for (field, span) in read.fields() {
        if field.airtable.as_ref().is_some_and(|airtable| airtable.field == password.airtable) {
            let what = format!(
                "field `{}` of `{}`: `{}` holds the passwords of new users (`password`), which are never mirrored: \
                 take this field out",
                field.name, read.entity.name, password.airtable
            );
            document.problem(&span, what);
        }
    }
}

/// One field carries the pseudonym.
fn pseudonym(document: &Document<'_>, read: &Read) {
    let carriers = read.fields().filter(|(field, _)| field.personal == Personal::Pseudonym);
    for (field, span) in carriers.skip(1) {
        let what = format!(
            "field `{}` of `{}`: another field carries the pseudonym: say `personal = true` here",
            field.name, read.entity.name
        );
        document.problem(&span, what);
    }
}

/// Notes what is used a second time.
struct Once<'d, 't> {
    document: &'d Document<'t>,
    seen: BTreeMap<String, (String, Range<usize>)>,
}

impl<'d, 't> Once<'d, 't> {
    fn new(document: &'d Document<'t>) -> Self {
        Self { document, seen: BTreeMap::new() }
    }

    fn take(&mut self, thing: String, by: String, span: &Range<usize>) {
        if let Some((other, at)) = self.seen.get(&thing) {
            let line = self.document.line(at);
            let what = format!("{by}: {thing} is already used by {other} (line {line})");
            self.document.problem(span, what);
        } else {
            self.seen.insert(thing, (by, span.clone()));
        }
    }
}

fn tables(document: &Document<'_>, all: &[Read]) {
    let mut canonical = Once::new(document);
    let mut airtable = Once::new(document);
    let mut directus = Once::new(document);
    for read in all {
        let entity = &read.entity;
        let by = format!("entity `{}`", entity.name);
        canonical.take(format!("the canonical table `{}`", entity.table), by.clone(), &read.span);
        if let Some(table) = &entity.airtable {
            let thing = format!("the Airtable table `{}` of base `{}`", table.table, table.base);
            airtable.take(thing, by.clone(), &read.span);
        }
        if let Some(table) = &entity.directus {
            directus.take(format!("the table `{}.{}`", table.schema, table.table), by, &read.span);
        }
    }
    for read in all {
        let schema = read.entity.directus.as_ref().map_or("public", |table| table.schema.as_str());
        for (field, span) in read.fields() {
            let by = format!("field `{}` of `{}`", field.name, read.entity.name);
            if let Store::Junction { table, .. } = &field.store {
                canonical.take(format!("the canonical table `{table}`"), by.clone(), &span);
            }
            if let Some(DirectusField::Junction { table, .. }) = &field.directus {
                directus.take(format!("the table `{schema}.{table}`"), by, &span);
            }
        }
    }
}

fn columns(document: &Document<'_>, read: &Read) {
    let mut canonical = Once::new(document);
    let mut directus = Once::new(document);
    for (field, span) in read.fields() {
        let by = format!("field `{}` of `{}`", field.name, read.entity.name);
        if let Store::Column(column) = &field.store {
            canonical.take(format!("the canonical column `{column}`"), by.clone(), &span);
        }
        if let Some(column) = field.directus.as_ref().and_then(DirectusField::column) {
            directus.take(format!("the Directus column `{column}`"), by, &span);
        }
    }
}

/// A field of Airtable belongs to one field here, or to the two halves of a full name.
fn airtable_cells(document: &Document<'_>, read: &Read) {
    let mut whole = Once::new(document);
    let mut names: BTreeMap<&str, Vec<(&Field, Range<usize>)>> = BTreeMap::new();
    let thing = |field: &str| format!("the Airtable field `{field}`");
    if let Some(uuid) = read.entity.airtable.as_ref().and_then(|table| table.uuid.as_deref()) {
        whole.take(thing(uuid), String::from("`uuid`"), &read.span);
    }
    for (field, span) in read.fields() {
        let Some(airtable) = &field.airtable else { continue };
        let by = format!("field `{}` of `{}`", field.name, read.entity.name);
        let halves = names.entry(&airtable.field).or_default();
        let is_other_half = is_half(airtable.part)
            && matches!(halves.as_slice(), [(other, _)]
                if other.airtable.as_ref().is_some_and(|other| is_half(other.part) && other.part != airtable.part));
        if !is_other_half {
            whole.take(thing(&airtable.field), by, &span);
        }
        halves.push((field, span));
    }
    for (name, halves) in names {
        if let [(field, span)] = halves.as_slice()
            && field.airtable.as_ref().is_some_and(|airtable| is_half(airtable.part))
            && field.direction != Direction::From(Side::Airtable)
        {
            let what = format!(
                "field `{}` of `{}`: only one half of the full name in `{name}` is mapped, so it could not be \
                 written: map the other half too, or set `direction = \"from airtable\"`",
                field.name, read.entity.name
            );
            document.problem(span, what);
        }
    }
}

fn is_half(part: Part) -> bool {
    matches!(part, Part::FirstOfFullName | Part::LastOfFullName)
}

fn sides(entity: &Entity, field: &Field, problem: &dyn Fn(String)) {
    if field.airtable.is_none() && field.directus.is_none() {
        problem(String::from("is on neither side: add `airtable` or `directus`"));
    }
    for side in Side::ALL {
        if field.is_on(side) && !entity.is_on(side) {
            problem(format!("is on {side}, but the entity names no table there"));
        }
        let says = match (field.policy, field.direction) {
            (_, Direction::From(from)) if from == side => "direction",
            (Policy::Prefer(by) | Policy::Owner(by), _) if by == side => "policy",
            _ => continue,
        };
        if !field.is_on(side) {
            problem(format!("`{says}` names {side}, where the field is not"));
        }
    }
    if field.kind == FieldKind::Computed {
        if field.direction != Direction::From(Side::Airtable) {
            problem(String::from(
                "a computed field cannot be written: set `direction = \"from airtable\"`",
            ));
        }
        if field.directus.is_some() {
            problem(String::from(
                "a computed field is read from Airtable only: take `directus` out",
            ));
        }
    }
}

fn policy(field: &Field, problem: &dyn Fn(String)) {
    let is_set = matches!(field.kind, FieldKind::MultiSelect | FieldKind::Links { .. });
    let is_ordered = settle::is_numeric(&field.kind)
        || matches!(field.kind, FieldKind::Date | FieldKind::Time | FieldKind::DateTime { .. });
    match field.policy {
        Policy::SetMerge if !is_set => {
            problem(format!(
                "the policy `set merge` is for `multi_select` and `links`, not for {}",
                field.kind
            ));
        }
        Policy::Max | Policy::Min if !is_ordered => {
            problem(format!(
                "the policies `max` and `min` are for numbers and dates, not for {}",
                field.kind
            ));
        }
        Policy::Computed => {}
        _ if field.kind == FieldKind::Computed => {
            problem(String::from("a computed field has no policy: take `policy` out"));
        }
        _ => {}
    }
}

/// Whether each side's transformation and code table fit the type.
fn parts(field: &Field, problem: &dyn Fn(String)) {
    let airtable = field.airtable.as_ref().map(|field| (field.part, field.codes.is_some()));
    let directus = field.directus.as_ref().map(|field| match field {
        DirectusField::Column { part, codes, .. } => (*part, codes.is_some()),
        DirectusField::Junction { codes, .. } => (Part::Whole, codes.is_some()),
    });
    let kind = &field.kind;
    let is_set = matches!(kind, FieldKind::MultiSelect | FieldKind::Links { .. });
    for (part, has_codes) in [airtable, directus].into_iter().flatten() {
        let (name, fits) = match part {
            Part::Whole => ("", true),
            Part::FirstOfFullName => ("first_of_full_name", *kind == FieldKind::Text),
            Part::LastOfFullName => ("last_of_full_name", *kind == FieldKind::Text),
            Part::DateDmy => ("date_dmy", *kind == FieldKind::Date),
            Part::OneElement => (
                "one_element",
                !is_set
                    && !matches!(
                        kind,
                        FieldKind::Link { .. }
                            | FieldKind::Computed
                            | FieldKind::Json
                            | FieldKind::Csv
                    ),
            ),
            Part::Csv => ("csv", matches!(kind, FieldKind::Csv | FieldKind::MultiSelect)),
        };
        if !fits {
            problem(format!("the transform `{name}` is not for the type {kind}"));
        }
        if has_codes && !matches!(kind, FieldKind::Select | FieldKind::MultiSelect) {
            problem(format!("`codes` is for `select` and `multi_select`, not for {kind}"));
        }
    }
    match &field.directus {
        Some(DirectusField::Junction { .. }) if !is_set => {
            problem(format!(
                "a junction in Directus is for `links` and `multi_select`, not for {kind}"
            ));
        }
        Some(DirectusField::Column { .. }) if matches!(kind, FieldKind::Links { .. }) => {
            problem(String::from(
                "`links` need a junction in Directus: `directus = { junction, parent, element }`",
            ));
        }
        _ => {}
    }
}

/// A link has to find its target on each side where it is.
fn link(entity: &Entity, field: &Field, target: EntityNo, all: &[Read], problem: &dyn Fn(String)) {
    let Some(target) = all.get(usize::from(target.0)).map(|read| &read.entity) else { return };
    for side in Side::ALL {
        if field.is_on(side) && !target.is_on(side) {
            problem(format!("links to `{}`, which has no table on {side}", target.name));
        }
    }
    if let (Some(from), Some(to), Some(_)) = (&entity.airtable, &target.airtable, &field.airtable)
        && from.base != to.base
    {
        problem(format!(
            "links to `{}`, which is in another Airtable base, `{}`",
            target.name, to.base
        ));
    }
}
