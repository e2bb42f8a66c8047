//! What `plait check` says of the source: everything that a run needs, looked at without changing anything.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{
    access::{self, Named},
    catalog::{self, Server, TableFacts},
    connect::connect,
    error::Error,
    keys,
    layout::{Layout, LayoutTable, Role, TableName, is_plain_name},
    publication,
    settings::SourceSettings,
    slot,
};
use crate::{
    document::did_you_mean,
    mapping::{FieldKind, Mapping},
    model::Finding,
};

/// Looks at the source; every finding that is not well has its remedy.
pub(crate) async fn preflight(source: &SourceSettings, mapping: &Mapping) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (what, name) in [("slot", &source.slot), ("publication", &source.publication)] {
        if !is_plain_name(name) {
            findings.push(of_error(&Error::BadName { what, name: name.clone() }));
        }
    }
    match connect(source).await {
        Ok(client) => {
            findings
                .push(Finding::ok(format!("Directus's Postgres at {} answers", source.place())));
            if let Err(error) = look(&client, source, mapping, &mut findings).await {
                findings.push(of_error(&error));
            }
        }
        Err(error) => findings.push(of_error(&error)),
    }
    findings
}

fn of_error(error: &Error) -> Finding {
    Finding::error(error.chain(), error.remedy().unwrap_or_else(|| "Wait, and check again.".into()))
}

async fn look(
    client: &Client,
    source: &SourceSettings,
    mapping: &Mapping,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let server = catalog::server(client).await?;
    let slot = slot::facts(client, &source.slot).await?;
    of_server(&server, source, slot.is_some(), findings);
    let layout = Layout::new(mapping);
    let names: Vec<TableName> = layout.tables.iter().map(|table| table.name.clone()).collect();
    let facts = catalog::tables(client, &names).await?;
    for table in &layout.tables {
        match facts.get(&table.name) {
            Some(facts) => of_table(table, facts, mapping, &source.user, findings),
            None => findings.push(missing_table(client, &table.name).await),
        }
    }
    of_rows(client, source, mapping, &layout, findings).await;
    of_publication(client, source, &layout, &facts, findings).await
}

fn of_server(
    server: &Server,
    source: &SourceSettings,
    has_slot: bool,
    findings: &mut Vec<Finding>,
) {
    let major = server.version_number / 10_000;
    if (15..=18).contains(&major) {
        findings.push(Finding::ok(format!("it is Postgres {}", server.version)));
    } else {
        findings.push(of_error(&Error::Version { version: server.version.clone() }));
    }
    if server.wal_level == "logical" {
        findings.push(Finding::ok("wal_level is logical"));
    } else {
        findings.push(of_error(&Error::WalLevel { level: server.wal_level.clone() }));
    }
    if has_slot {
        findings.push(Finding::ok(format!("slot `{}` is there", source.slot)));
    } else if server.slot_count < server.slot_count_max {
        let free = server.slot_count_max - server.slot_count;
        findings.push(Finding::ok(format!("{free} replication slots are free")));
    } else {
        findings.push(of_error(&Error::NoFreeSlot { max: server.slot_count_max }));
    }
    if server.sender_count >= server.sender_count_max {
        findings.push(Finding::error(
            format!("all {} WAL senders are in use", server.sender_count_max),
            "Raise max_wal_senders and restart Postgres.",
        ));
    }
    if server.may_replicate {
        findings.push(Finding::ok(format!("role {} may use replication", source.user)));
    } else {
        findings.push(of_error(&Error::NotReplication { user: source.user.clone() }));
    }
    if server.slot_keep_mb < 0 {
        findings.push(Finding::warning(
            "max_slot_wal_keep_size has no limit: if plait is stopped for long, the log fills the disk of Directus's Postgres",
            "Run `alter system set max_slot_wal_keep_size = '10GB'` and `select pg_reload_conf()` as superuser.",
        ));
    }
}

/// Which rows are mirrored, in words.
async fn of_rows(
    client: &Client,
    source: &SourceSettings,
    mapping: &Mapping,
    layout: &Layout,
    findings: &mut Vec<Finding>,
) {
    for entity in &mapping.entities {
        if let (Some(table), Some(filter)) = (&entity.directus, &entity.rows.directus) {
            findings.push(Finding::ok(format!(
                "of {}.{}, only rows are mirrored in which {}",
                table.schema,
                table.table,
                filter.words()
            )));
        }
    }
    let Some((table, _)) = access::accounts_table(layout) else { return };
    let named = Named::new(mapping, None);
    match access::read(client, source, layout, &named).await {
        Ok(accounts) => {
            let words = accounts.words();
            let left_out = if words.is_empty() {
                String::from("no role or policy there goes beyond that")
            } else {
                format!("left out are {} ({words}), and plait's own account", accounts.count())
            };
            findings.push(Finding::ok(format!(
                "of {table}, members' accounts alone are mirrored, those without admin access and without access to \
                 the Studio: {left_out}"
            )));
        }
        Err(error) => findings.push(of_error(&error)),
    }
}

async fn missing_table(client: &Client, name: &TableName) -> Finding {
    let known: Vec<String> = client
        .query("select tablename::text from pg_tables where schemaname = $1", &[&name.schema])
        .await
        .map(|rows| rows.iter().map(|row| row.get(0)).collect())
        .unwrap_or_default();
    let hint = did_you_mean(&name.table, known.iter().map(String::as_str));
    Finding::error(
        format!("table {name} does not exist{hint}"),
        "Mend its name in the mapping, or create the collection in Directus.",
    )
}

fn of_table(
    table: &LayoutTable,
    facts: &TableFacts,
    mapping: &Mapping,
    user: &str,
    findings: &mut Vec<Finding>,
) {
    let before = findings.len();
    if let Err(error) = publication::check(table, facts) {
        findings.push(of_error(&error));
    }
    if facts.is_filtered {
        findings.push(Finding::error(
            format!("row-level security hides rows of {} from this role", table.name),
            "Give the role `bypassrls`, or a policy that shows it all rows.",
        ));
    }
    for name in table.columns() {
        let Some(column) = facts.column(name) else {
            if table.is_optional(name) {
                continue;
            }
            let hint = did_you_mean(name, facts.columns.iter().map(|column| column.name.as_str()));
            findings.push(Finding::error(
                format!("{} has no column `{name}`{hint}", table.name),
                "Mend its name in the mapping, or create the field in Directus.",
            ));
            continue;
        };
        if !facts.may_select && !column.may_select {
            findings.push(Finding::error(
                format!("role {user} may not read {}.{name}", table.name),
                format!(
                    "Run `grant select on {} to \"{user}\"` as the table's owner.",
                    table.name.quoted()
                ),
            ));
        }
        if column.is_generated {
            findings.push(Finding::warning(
                format!(
                    "{}.{name} is a generated column, which the log does not carry",
                    table.name
                ),
                "Take it out of the mapping: its changes would never arrive.",
            ));
        }
    }
    for role in &table.roles {
        let Role::Record { entity, columns, .. } = role else { continue };
        findings.extend(keys::findings(&table.name, mapping.entity(*entity), facts));
        for (no, column) in columns {
            let kind = &mapping.entity(*entity).field(*no).kind;
            if let Some(column) = facts.column(column)
                && !fits(kind, &column.type_name)
            {
                findings.push(Finding::warning(
                    format!("{}.{} is {}, the mapping reads it as {kind}", table.name, column.name, column.type_name),
                    "Values that do not fit are refused one by one; correct the type in the mapping if it is wrong.",
                ));
            }
        }
    }
    if findings.len() == before {
        let count = table.columns().len();
        findings.push(Finding::ok(format!("{}: {count} columns fit the mapping", table.name)));
    }
}

/// Whether a column of this type usually holds such values.
fn fits(kind: &FieldKind, type_name: &str) -> bool {
    let base = type_name.split(['(', '[']).next().unwrap_or_default().trim();
    let is_text = matches!(base, "text" | "character varying" | "character" | "citext");
    let is_whole = matches!(base, "smallint" | "integer" | "bigint");
    match kind {
        FieldKind::Integer | FieldKind::BigInt | FieldKind::Rating | FieldKind::Duration => {
            is_whole || base == "numeric"
        }
        FieldKind::Decimal { .. } | FieldKind::Currency { .. } | FieldKind::Percent { .. } => {
            is_whole || matches!(base, "numeric" | "real" | "double precision")
        }
        FieldKind::Boolean => base == "boolean",
        FieldKind::Date => base == "date" || base.starts_with("timestamp") || is_text,
        FieldKind::Time => base.starts_with("time") || is_text,
        FieldKind::DateTime { .. } => base.starts_with("timestamp") || is_text,
        FieldKind::Json => matches!(base, "json" | "jsonb") || is_text,
        FieldKind::Uuid => base == "uuid" || is_text,
        FieldKind::Link { .. } => base == "uuid" || is_whole || is_text,
        _ => {
            is_text
                || matches!(base, "uuid" | "json" | "jsonb" | "USER-DEFINED")
                || !base.contains(' ')
        }
    }
}

async fn of_publication(
    client: &Client,
    source: &SourceSettings,
    layout: &Layout,
    facts: &BTreeMap<TableName, TableFacts>,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let name = &source.publication;
    let existing = catalog::publication(client, name).await?;
    if let Some(existing) = &existing {
        if existing.all_tables {
            findings.push(Finding::warning(
                format!("publication `{name}` is for all tables: it sends passwords and sessions too, and a table without a key would refuse updates"),
                format!("Drop it; plait makes its own: drop publication {name};"),
            ));
        }
        let missing: Vec<String> = layout
            .tables
            .iter()
            .filter(|table| !existing.all_tables && !existing.tables.contains_key(&table.name))
            .map(|table| table.name.to_string())
            .collect();
        if missing.is_empty() {
            findings.push(Finding::ok(format!("publication `{name}` has all mapped tables")));
        } else if existing.is_owner {
            findings.push(Finding::ok(format!(
                "`run` adds {} to publication `{name}`",
                missing.join(", ")
            )));
        } else {
            findings.push(Finding::error(
                format!(
                    "publication `{name}` lacks {}, and is not this role's to change",
                    missing.join(", ")
                ),
                format!(
                    "Run as its owner: alter publication {name} add table {};",
                    missing.join(", ")
                ),
            ));
        }
        return Ok(());
    }
    let foreign: Vec<String> = facts
        .iter()
        .filter(|(_, facts)| !facts.is_owner)
        .map(|(name, _)| name.to_string())
        .collect();
    if foreign.is_empty() {
        findings.push(Finding::ok(format!("`run` can make publication `{name}`")));
    } else {
        findings.push(Finding::error(
            format!("publication `{name}` is not there, and this role owns none of {}", foreign.join(", ")),
            "Grant it the role that owns these tables (`grant OWNER to ROLE`), or make the publication as their owner: docs/install.md has the statements.",
        ));
    }
    Ok(())
}
