//! Rules of the settings → what to watch, by the mapping's names. What does not fit the mapping or the reference tables
//! is found here: the rest of the rules hold.

use super::Codes;
use crate::{
    config::alert::{On, Rule},
    document::did_you_mean,
    mapping::{Entity, Field, FieldKind, Mapping, Store},
    model::Finding,
};

/// A rule that can be looked after.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) rule: Rule,
    /// The entity's name in the mapping.
    pub(crate) entity: String,
    /// The field that links a record of it to its company.
    pub(super) company: Option<String>,
    pub(super) lens: Lens,
}

/// What of the entity is looked at, by the mapping's names.
#[derive(Clone, Debug)]
pub(super) enum Lens {
    LegalEvent {
        kinds: Vec<String>,
        columns: Columns,
    },
    ValuationDown {
        by_percent: u32,
        columns: Columns,
    },
    Field {
        field: String,
        from: Vec<String>,
        to: Vec<String>,
        /// Table and column of schema `canon` that hold its values: by them its codes are known.
        reference: (String, String),
        /// The entity that it links to.
        target: Option<String>,
    },
}

/// Canonical columns of an entity with the names of their fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// (column, field)
    names: Vec<(String, String)>,
}

impl Columns {
    fn of(entity: &Entity) -> Self {
        let names = entity.fields.iter().filter_map(|field| match &field.store {
            Store::Column(column) => Some((column.clone(), field.name.clone())),
            Store::Junction { .. } => None,
        });
        Self { names: names.collect() }
    }

    /// The field that is kept in `column`.
    pub(super) fn field(&self, column: &str) -> Option<&str> {
        self.names.iter().find(|(it, _)| it == column).map(|(_, field)| field.as_str())
    }
}

/// What is to be watched, and what is wrong with the rules. A built-in rule that the mapping has no place for is left
/// out without a word.
pub(crate) fn resolve(
    rules: &[Rule],
    mapping: &Mapping,
    codes: Option<&Codes>,
) -> (Vec<Watch>, Vec<Finding>) {
    let (mut watches, mut findings) = (Vec::new(), Vec::new());
    for rule in rules {
        match watch(rule, mapping) {
            Ok(watch) => {
                if let Some(codes) = codes {
                    findings.extend(unknown_codes(rule, &watch, codes));
                }
                watches.push(watch);
            }
            Err(what) => {
                if let Some(place) = &rule.place {
                    findings.push(Finding::warning(
                        format!("{place}: the alert `{}` watches nothing: {what}", rule.name),
                        "mend the rule, or the mapping; the other rules hold",
                    ));
                }
            }
        }
    }
    (watches, findings)
}

fn watch(rule: &Rule, mapping: &Mapping) -> Result<Watch, String> {
    let (entity, lens) = match &rule.on {
        On::LegalEvent { kinds } => {
            let entity = by_table(mapping, "legal_event")?;
            by_column(entity, "kind_code")?;
            let (kinds, columns) = (kinds.clone(), Columns::of(entity));
            (entity, Lens::LegalEvent { kinds, columns })
        }
        On::ValuationDown { by_percent } => {
            let entity = by_table(mapping, "valuation")?;
            by_column(entity, "startup_id")?;
            (entity, Lens::ValuationDown { by_percent: *by_percent, columns: Columns::of(entity) })
        }
        On::StageChange { from, to } => {
            let entity = by_table(mapping, "project")?;
            (entity, field_lens(mapping, entity, by_column(entity, "stage_code")?, from, to))
        }
        On::MemberStatus { from, to } => {
            let entity = by_table(mapping, "member")?;
            (entity, field_lens(mapping, entity, by_column(entity, "status_code")?, from, to))
        }
        On::FieldChange { entity, field, from, to } => {
            let names = mapping.entities.iter().map(|it| it.name.as_str());
            let found = mapping.entities.iter().find(|it| it.name == *entity).ok_or_else(|| {
                format!("the mapping has no entity `{entity}`{}", did_you_mean(entity, names))
            })?;
            let names = found.fields.iter().map(|it| it.name.as_str());
            let field = found.fields.iter().find(|it| it.name == *field).ok_or_else(|| {
                format!("{entity} has no field `{field}`{}", did_you_mean(field, names))
            })?;
            (found, field_lens(mapping, found, field, from, to))
        }
    };
    let company = by_column(entity, "startup_id").ok().map(|field| field.name.clone());
    Ok(Watch { rule: rule.clone(), entity: entity.name.clone(), company, lens })
}

fn field_lens(
    mapping: &Mapping,
    entity: &Entity,
    field: &Field,
    from: &[String],
    to: &[String],
) -> Lens {
    let reference = match &field.store {
        Store::Column(column) => (entity.table.clone(), column.clone()),
        Store::Junction { table, element, .. } => (table.clone(), element.clone()),
    };
    let target = match field.kind {
        FieldKind::Link { target } | FieldKind::Links { target } => {
            Some(mapping.entity(target).name.clone())
        }
        _ => None,
    };
    let (from, to) = (from.to_vec(), to.to_vec());
    Lens::Field { field: field.name.clone(), from, to, reference, target }
}

fn by_column<'m>(entity: &'m Entity, column: &str) -> Result<&'m Field, String> {
    let is_it = |field: &&Field| matches!(&field.store, Store::Column(it) if it == column);
    entity.fields.iter().find(is_it).ok_or_else(|| {
        format!("the mapping has no field in the column canon.{}.{column}", entity.table)
    })
}

fn by_table<'m>(mapping: &'m Mapping, table: &str) -> Result<&'m Entity, String> {
    mapping
        .entities
        .iter()
        .find(|entity| entity.table == table)
        .ok_or_else(|| format!("the mapping has no entity with the table canon.{table}"))
}

/// Codes that the reference table of the watched column does not have.
fn unknown_codes(rule: &Rule, watch: &Watch, codes: &Codes) -> Vec<Finding> {
    let Some(place) = &rule.place else { return Vec::new() };
    let (reference, given): ((&str, &str), Vec<&String>) = match &watch.lens {
        Lens::LegalEvent { kinds, .. } => (("legal_event", "kind_code"), kinds.iter().collect()),
        Lens::ValuationDown { .. } => return Vec::new(),
        Lens::Field { reference: (table, column), from, to, .. } => {
            ((table, column), from.iter().chain(to).collect())
        }
    };
    let (Some(known), Some(table)) =
        (codes.of(reference.0, reference.1), codes.table_of(reference.0, reference.1))
    else {
        return Vec::new();
    };
    let unknown = given.into_iter().filter(|code| !known.contains_key(*code));
    let finding = |code: &String| {
        let names = known.keys().map(String::as_str);
        let hint = did_you_mean(code, names);
        Finding::warning(
            format!(
                "{place}: the alert `{}` waits for `{code}`, which canon.{table} does not have{hint}",
                rule.name
            ),
            "name the code as that table has it, not its label; the other codes of the rule hold",
        )
    };
    unknown.map(finding).collect()
}
