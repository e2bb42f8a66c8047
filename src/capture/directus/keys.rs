//! The key by which the mapping knows a table's rows: whether it tells one row from all others, and who gives the
//! keys of new rows.

use super::{
    catalog::{self, TableFacts},
    connect::connect,
    error::Error,
    layout::{Layout, Role, TableName},
    publication::Published,
    settings::SourceSettings,
};
use crate::{
    mapping::{Direction, Entity, KeyColumn, KeyGiver, KeyGivers, Mapping},
    model::{Finding, Side},
};

/// Checks that the mapping's key is the whole primary key. A part of it, or any other column, could stand for several
/// rows, which would become one record.
pub(super) fn check(table: &TableName, role: &Role, facts: &TableFacts) -> Result<(), Error> {
    let key = role.key();
    let Some(column) = facts.column(key) else {
        return Err(Error::KeyMissing { table: table.to_string(), column: key.into() });
    };
    let primary = facts.primary_key();
    let (found, remedy) = match primary.as_slice() {
        [only] if *only == key => return Ok(()),
        // Without a primary key, which Directus could not use: a Postgres of its own, known by its replica identity.
        [] if column.is_unique || facts.identity == 'd' => return Ok(()),
        [] => (
            String::from("is no primary key, and several rows may have the same one"),
            format!(
                "Run: alter table {} add primary key (\"{key}\"); or name another column as `key`.",
                table.quoted()
            ),
        ),
        [only] => (
            format!("is not its primary key, which is `{only}`"),
            format!("Write `key = \"{only}\"` for {table} in the mapping."),
        ),
        several => (
            format!("is not its whole primary key, which is `{}`", several.join("`, `")),
            format!(
                "Plait knows a row by one column, as Directus does: give {table} a primary key of one column and \
                 name it as `key`, or take it out of the mapping."
            ),
        ),
    };
    let is_junction = matches!(role, Role::Element { .. });
    let (table, column) = (table.to_string(), key.to_owned());
    Err(Error::KeyUnfit { table, column, is_junction, found, remedy })
}

/// The keys of the mapping by which the source's rows cannot be told apart, each with what to do. Tables that are not
/// there are passed over.
///
/// # Errors
/// When the source cannot be asked.
pub(crate) async fn unfit(
    source: &SourceSettings,
    mapping: &Mapping,
) -> Result<Vec<String>, Error> {
    let client = connect(source).await?;
    let layout = Layout::new(mapping);
    let names: Vec<TableName> = layout.tables.iter().map(|table| table.name.clone()).collect();
    let facts = catalog::tables(&client, &names).await?;
    let mut unfit = Vec::new();
    for table in &layout.tables {
        let Some(facts) = facts.get(&table.name) else { continue };
        for role in &table.roles {
            if let Err(error @ Error::KeyUnfit { .. }) = check(&table.name, role, facts) {
                unfit.push(format!("{error}. {}", error.remedy().unwrap_or_default()));
            }
        }
    }
    Ok(unfit)
}

/// The key column of an entity's table.
fn key_column(entity: &Entity, facts: &TableFacts) -> Option<KeyColumn> {
    let column = facts.column(&entity.directus.as_ref()?.key)?;
    Some(KeyColumn { type_name: column.type_name.clone(), default: column.default.clone() })
}

/// What `plait check` says of a key that is as it has to be: what cannot be done with it.
pub(super) fn findings(table: &TableName, entity: &Entity, facts: &TableFacts) -> Vec<Finding> {
    let Some(column) = key_column(entity, facts).filter(|_| entity.is_two_sided()) else {
        return Vec::new();
    };
    let giver = entity.key_giver(&column);
    let key = entity.directus.as_ref().map_or("", |directus| directus.key.as_str());
    let mut findings = Vec::new();
    if giver == KeyGiver::Nobody {
        findings.push(Finding::warning(
            format!("people give the key `{key}` of {table}, and no field of the mapping writes it: records that are new in Airtable cannot be made there"),
            format!("Map a field of `{}` to `{key}`, so that people give it in Airtable too.", entity.name),
        ));
    } else if giver == KeyGiver::Plait && column.type_name != "uuid" {
        findings.push(Finding::warning(
            format!("the key `{key}` of {table} is a text to which no field is mapped: records that are new in Airtable get a UUID there"),
            format!("Map a field of `{}` to `{key}` if people give it.", entity.name),
        ));
    }
    let is_written =
        |no: &crate::model::FieldNo| entity.field(*no).direction != Direction::From(Side::Directus);
    if let Some(no) = entity.key_field().filter(is_written)
        && !matches!(giver, KeyGiver::Person(_))
    {
        findings.push(Finding::warning(
            format!("the key `{key}` of {table} is given there: what people write into field `{}` in Airtable is not written to it", entity.field(no).name),
            "Set `direction = \"from directus\"` for that field.",
        ));
    }
    findings
}

/// Who gives the keys of new records of each entity.
pub(super) fn givers(mapping: &Mapping, published: &Published) -> KeyGivers {
    let giver = |entity: &Entity| {
        let table = entity.directus.as_ref()?;
        let name = TableName { schema: table.schema.clone(), table: table.table.clone() };
        Some(entity.key_giver(&key_column(entity, published.tables.get(&name)?)?))
    };
    KeyGivers {
        by_entity: mapping.entities.iter().map(giver).collect(),
        are_authors_told: published.are_authors_told,
    }
}
