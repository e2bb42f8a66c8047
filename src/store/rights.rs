//! What the reporting roles may read follows from the mapping: its personal columns are noted in the database, and
//! sql/grants.sql grants by them.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tracing::info;

use super::{Error, reports::GRANTS};
use crate::mapping::{Mapping, Personal, Store};

/// Table and column → whether the mapping calls it personal; `None`: it does not say.
type Columns = BTreeMap<(String, String), Option<bool>>;

/// Notes which canonical columns the mapping calls personal; where that has changed, the reporting roles' rights follow.
///
/// # Errors
/// When the database does not take it: the rights are as they were then.
pub(super) async fn follow(client: &mut Client, mapping: &Mapping) -> Result<(), Error> {
    let rows = client
        .query("select table_name, column_name, is_personal from mirror.mapped_column", &[])
        .await?;
    let known: Columns = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let wanted = columns(mapping);
    if known == wanted {
        return Ok(());
    }
    let tables: Vec<&str> = wanted.keys().map(|(table, _)| table.as_str()).collect();
    let names: Vec<&str> = wanted.keys().map(|(_, column)| column.as_str()).collect();
    let personal: Vec<Option<bool>> = wanted.values().copied().collect();
    let transaction = client.transaction().await?;
    transaction.batch_execute("set local client_min_messages = warning").await?;
    transaction.execute("delete from mirror.mapped_column", &[]).await?;
    transaction
        .execute(
            "insert into mirror.mapped_column (table_name, column_name, is_personal)
             select * from unnest($1::text[], $2::text[], $3::boolean[])",
            &[&tables, &names, &personal],
        )
        .await?;
    // Without the reports, nobody reads anything yet.
    let row = transaction.query_one("select to_regclass('report.reader') is not null", &[]).await?;
    if row.get(0) {
        transaction.batch_execute(GRANTS).await?;
    }
    transaction.commit().await?;
    info!("the rights of those who read reports follow the mapping");
    Ok(())
}

fn columns(mapping: &Mapping) -> Columns {
    let mut columns = Columns::new();
    for entity in &mapping.entities {
        for field in &entity.fields {
            let is_personal = match field.personal {
                Personal::Unsaid => None,
                Personal::No => Some(false),
                Personal::Yes | Personal::Pseudonym => Some(true),
            };
            match &field.store {
                Store::Column(column) => {
                    columns.insert((entity.table.clone(), column.clone()), is_personal);
                }
                Store::Junction { table, parent, element } => {
                    for column in [parent, element] {
                        columns.insert((table.clone(), column.clone()), is_personal);
                    }
                }
            }
        }
    }
    columns
}
