//! `rows` of an entity, and `member_roles` of its table of accounts.

use toml::de::DeValue;

use super::At;
use super::field;
use crate::{
    document::{Node, Section},
    mapping::{ACCOUNTS, Entity, RowFilter, RowTest, RowValue, Rows},
    model::Side,
};

/// Which rows of the entity's tables, which are read, are mirrored.
pub(super) fn read(section: &Section<'_, '_>, entity: &Entity) -> Rows {
    let mut rows = Rows { member_roles: member_roles(section), ..Rows::default() };
    let Some(sides) = section.section("rows") else { return rows };
    sides.only(&[Side::Airtable.name(), Side::Directus.name()]);
    for side in Side::ALL {
        let Some(tests) = sides.section(side.name()) else { continue };
        if !entity.is_on(side) {
            let what = format!("`rows` filters the table on {side}, where the entity has none");
            sides.problem(&sides.span_of(side.name()), what);
            continue;
        }
        let filter = filter(&tests, entity, side);
        match side {
            Side::Airtable => rows.airtable = filter,
            Side::Directus => rows.directus = filter,
        }
    }
    rows
}

fn member_roles(section: &Section<'_, '_>) -> Vec<String> {
    let Some(table) = section.get("directus").and_then(|_| section.section("directus")) else {
        return Vec::new();
    };
    let roles = table.texts("member_roles");
    let is_of_accounts =
        table.get("table").and_then(|node| node.get_ref().as_str()) == Some(ACCOUNTS);
    if table.get("member_roles").is_some() && !is_of_accounts {
        let what = format!("`member_roles` is for the table `{ACCOUNTS}`: take it out");
        table.problem(&table.span_of("member_roles"), what);
    }
    roles.into_iter().map(|(role, _)| role).collect()
}

fn filter(tests: &Section<'_, '_>, entity: &Entity, side: Side) -> Option<RowFilter> {
    let mut filter = RowFilter::default();
    for (name, span, node) in tests.entries() {
        if side == Side::Directus {
            let table = entity.directus.as_ref().map_or("", |table| table.table.as_str());
            let column = At { value: name.clone(), span: span.clone() };
            field::check_secret_column(tests, table, &column);
        }
        filter.tests.extend(test(tests, name, node));
    }
    if filter.tests.is_empty() {
        tests
            .problem(&tests.span, "names no field: write `field = [\"value\", …]`, or take it out");
        return None;
    }
    Some(filter)
}

/// `["a", "b"]` or `{ not = ["a"] }`.
fn test(tests: &Section<'_, '_>, field: String, node: Node<'_, '_>) -> Option<RowTest> {
    let (list, is_not) = match node.get_ref() {
        DeValue::Array(_) => (node, false),
        DeValue::Table(_) => {
            let table = tests.table_at(node, &field, format!("{} {field}", tests.name))?;
            table.only(&["not"]);
            let Some(list) = table.get("not") else {
                table.problem(&node.span(), "says nothing: write `{ not = [\"value\", …] }`");
                return None;
            };
            (list, true)
        }
        _ => (node, false),
    };
    let Some(items) = list.get_ref().as_array().filter(|items| !items.is_empty()) else {
        let what = format!("`{field}` has to be a list of values, or `{{ not = [\"value\", …] }}`");
        tests.problem(&list.span(), what);
        return None;
    };
    let mut values = Vec::new();
    for item in items {
        let value = match item.get_ref() {
            DeValue::String(text) => Some(RowValue::Text(text.to_string())),
            DeValue::Boolean(flag) => Some(RowValue::Flag(*flag)),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).ok().map(RowValue::Number)
            }
            _ => None,
        };
        if value.is_none() {
            let what =
                "a row is told by texts, whole numbers, true and false; \"\" stands for empty";
            tests.problem(&item.span(), what);
        }
        values.extend(value);
    }
    Some(RowTest { field, values, is_not })
}
