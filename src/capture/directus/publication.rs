//! The publications: which tables the log carries for us. Made, and kept as the mapping wants them, by us.
//!
//! What is never done, because it breaks Directus's own writes: a column list without the key, a row filter
//! on updates, a table without a key, a column list on a table of replica identity full. And a column list
//! on a user collection, because its columns could no longer be dropped or retyped in the Studio.

use std::collections::BTreeMap;

use tokio_postgres::{Client, error::SqlState};

use super::{
    catalog::{self, PublicationFacts, TableFacts},
    error::Error,
    keys,
    layout::{Layout, LayoutTable, TableName, quote},
    settings::{ActivityMode, SourceSettings},
};
use crate::{document::did_you_mean, model::Incident};

/// Directus's table of users: the only one published with a column list, because of its secrets.
pub(super) const USERS: &str = "directus_users";
pub(super) const ACTIVITY: &str = "directus_activity";
/// Where Directus notes collections, fields and relations: rows there are hints of schema changes.
pub(super) const HINTS: [&str; 3] =
    ["directus_collections", "directus_fields", "directus_relations"];
const SECRETS: [&str; 4] = ["password", "token", "tfa_secret", "auth_data"];
const ACTIVITY_COLUMNS: [&str; 7] =
    ["id", "action", "user", "collection", "item", "user_agent", "origin"];

/// What the stream is to carry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Published {
    /// In the order in which they are named to the server.
    pub(super) publications: Vec<String>,
    /// The mapped tables that exist.
    pub(super) tables: BTreeMap<TableName, TableFacts>,
    /// Whether the authors of changes are among what is published.
    pub(super) are_authors_told: bool,
    /// Whether a publication was made just now: a slot that is older can't be read with it.
    pub(super) is_new: bool,
    /// What a person should know, as (code, text).
    pub(super) remarks: Vec<(&'static str, String)>,
}

impl Published {
    /// The remarks, for people.
    pub(super) fn troubles(&self) -> Vec<Incident> {
        self.remarks.iter().map(|(code, text)| Incident::new(code, text.clone())).collect()
    }
}

/// Makes the publications, or adds what the mapping wants and they lack. A publication that has everything is
/// used as it is, whoever made it.
///
/// # Errors
/// Tables that can't be published, keys that don't exist, missing rights; each with what to do.
pub(super) async fn ensure(
    client: &Client,
    source: &SourceSettings,
    layout: &Layout,
) -> Result<Published, Error> {
    let system = |table: &str| TableName { schema: source.schema.clone(), table: table.into() };
    let mut names: Vec<TableName> = layout.tables.iter().map(|table| table.name.clone()).collect();
    let mapped = names.len();
    names.extend(HINTS.iter().map(|table| system(table)));
    names.push(system(ACTIVITY));
    let mut tables = catalog::tables(client, &names).await?;
    let activity = tables
        .get(&system(ACTIVITY))
        .filter(|facts| ACTIVITY_COLUMNS.iter().all(|column| facts.column(column).is_some()));
    let has_activity = activity.is_some() && source.activity != ActivityMode::Off;
    let hints: Vec<TableName> =
        HINTS.iter().map(|table| system(table)).filter(|name| tables.contains_key(name)).collect();
    tables.retain(|name, _| names.iter().take(mapped).any(|wanted| wanted == name));

    let existing = catalog::publication(client, &source.publication).await?;
    let mut published = Published {
        publications: vec![source.publication.clone()],
        are_authors_told: false,
        is_new: existing.is_none(),
        remarks: Vec::new(),
        tables,
    };
    let statements = data_statements(source, layout, &mut published, existing.as_ref(), &hints)?;
    apply(client, source, &source.publication, &statements).await?;

    if has_activity {
        let name = source.author_publication();
        if catalog::publication(client, &name).await?.is_some() {
            published.publications.push(name);
        } else {
            let statement = author_statement(&name, &system(ACTIVITY));
            match apply(client, source, &name, &[statement]).await {
                Ok(()) => {
                    published.is_new = true;
                    published.publications.push(name);
                }
                Err(error) if source.activity == ActivityMode::Auto => {
                    let remedy = error.remedy().unwrap_or_default();
                    let text = format!(
                        "Changes in Directus are read without their authors: {}. {remedy}",
                        error.chain()
                    );
                    published.remarks.push(("capture_no_authors", text));
                }
                Err(error) => return Err(error),
            }
        }
    } else if source.activity == ActivityMode::On {
        return Err(Error::Unpublishable {
            table: system(ACTIVITY).to_string(),
            text: "it does not exist or is not Directus's".into(),
            remedy: "Set activity to `auto` or `off` for a Postgres without Directus, or name the schema that Directus uses.".into(),
        });
    }
    published.are_authors_told = published.publications.len() > 1;
    Ok(published)
}

/// Runs the statements together, or none of them.
async fn apply(
    client: &Client,
    source: &SourceSettings,
    publication: &str,
    statements: &[String],
) -> Result<(), Error> {
    if statements.is_empty() {
        return Ok(());
    }
    // Waits for writers of the tables no longer than a person would notice.
    let sql = format!("begin; set local lock_timeout = '2s'; {}; commit", statements.join("; "));
    let Err(error) = client.batch_execute(&sql).await else {
        tracing::info!(publication, statement_count = statements.len(), "changed publication");
        return Ok(());
    };
    client.batch_execute("rollback").await.map_err(Error::sql("roll back"))?;
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Err(Error::PublicationRights {
            publication: publication.into(),
            user: source.user.clone(),
            sql: format!("{};", statements.join("; ")),
        });
    }
    Err(Error::Sql { doing: format!("change publication `{publication}`"), source: error })
}

/// The statements that bring the data publication to what the mapping wants.
fn data_statements(
    source: &SourceSettings,
    layout: &Layout,
    published: &mut Published,
    existing: Option<&PublicationFacts>,
    hints: &[TableName],
) -> Result<Vec<String>, Error> {
    let name = quote(&source.publication);
    let mut add = Vec::new();
    let mut renew = Vec::new();
    let mut any_partitioned = false;
    let mut unknown_columns = Vec::new();
    let mut no_select = Vec::new();
    for table in &layout.tables {
        let Some(facts) = published.tables.get(&table.name) else {
            let text = format!(
                "Table {} is in the mapping but not in the database: nothing is read from it. Mend its name in the mapping, or create the collection in Directus.",
                table.name
            );
            published.remarks.push(("capture_table_missing", text));
            continue;
        };
        check(table, facts)?;
        for column in table.columns() {
            if facts.column(column).is_none() && !table.is_optional(column) {
                let known = facts.columns.iter().map(|column| column.name.as_str());
                unknown_columns.push(format!(
                    "{}.{column}{}",
                    table.name,
                    did_you_mean(column, known)
                ));
            }
        }
        any_partitioned |= facts.kind == 'p';
        let present = existing.and_then(|existing| existing.tables.get(&table.name));
        let columns = wanted_columns(table, facts);
        match (present, &columns) {
            (None, _) => add.push(table_clause(&table.name, columns.as_deref())),
            (Some((has, _)), Some(wanted)) if wanted.iter().any(|column| !has.contains(column)) => {
                renew.push((table.name.clone(), table_clause(&table.name, columns.as_deref())));
            }
            (Some((has, _)), Some(_))
                if SECRETS.iter().any(|secret| has.iter().any(|c| c == secret)) =>
            {
                let text = format!(
                    "Publication `{}` carries the password and token columns of {}: give it a column list.",
                    source.publication, table.name
                );
                published.remarks.push(("capture_secrets_published", text));
            }
            (Some((has, _)), None) => {
                let lost: Vec<&str> = facts
                    .carried(table)
                    .into_iter()
                    .filter(|c| !has.iter().any(|h| h == c))
                    .collect();
                if !lost.is_empty() {
                    renew.push((table.name.clone(), table_clause(&table.name, None)));
                }
            }
            _ => {}
        }
        let shut: Vec<&str> = facts
            .carried(table)
            .into_iter()
            .filter(|name| {
                !facts.may_select && !facts.column(name).is_some_and(|column| column.may_select)
            })
            .collect();
        if !shut.is_empty() {
            no_select.push(format!("{} ({})", table.name, shut.join(", ")));
        }
        if let Some((_, Some(filter))) = present {
            let text = format!(
                "Publication `{}` hides rows of {} ({filter}): they will look absent.",
                source.publication, table.name
            );
            published.remarks.push(("capture_row_filter", text));
        }
    }
    if !no_select.is_empty() {
        let text = format!(
            "Role `{user}` may not read {}: changes still come through the log, and what has to be read as a whole can't be. Run as the owner of the tables: grant select on TABLE to \"{user}\".",
            no_select.join(", "),
            user = source.user,
        );
        published.remarks.push(("capture_no_select", text));
    }
    if !unknown_columns.is_empty() {
        // One remark: there is one open incident of a kind.
        let text = format!(
            "Columns of the mapping that their tables do not have are not read: {}. Mend the name in the mapping, or create the field in Directus.",
            unknown_columns.join(" ")
        );
        published.remarks.push(("capture_column_missing", text));
    }
    let Some(existing) = existing else {
        add.extend(hints.iter().map(|hint| table_clause(hint, None)));
        // Without a single table yet the publication is made empty: tables are added when they appear.
        let tables =
            if add.is_empty() { String::new() } else { format!(" for table {}", add.join(", ")) };
        let via_root =
            if any_partitioned { " with (publish_via_partition_root = true)" } else { "" };
        return Ok(vec![format!("create publication {name}{tables}{via_root}")]);
    };
    if any_partitioned && !existing.via_root {
        return Err(Error::Unpublishable {
            table: format!("publication {}", source.publication),
            text: "a mapped table is partitioned and the publication names its partitions instead"
                .into(),
            remedy: format!(
                "Run: alter publication {name} set (publish_via_partition_root = true);"
            ),
        });
    }
    if !existing.publishes_all {
        let text = format!(
            "Publication `{}` leaves out some of insert, update, delete, truncate: these changes are not seen.",
            source.publication
        );
        published.remarks.push(("capture_publication_partial", text));
    }
    let mut statements = Vec::new();
    for (table, clause) in renew {
        statements.push(format!("alter publication {name} drop table {}", table.quoted()));
        statements.push(format!("alter publication {name} add table {clause}"));
    }
    if !add.is_empty() {
        statements.push(format!("alter publication {name} add table {}", add.join(", ")));
    }
    Ok(statements)
}

/// The columns of a list, if the table is published with one.
fn wanted_columns(table: &LayoutTable, facts: &TableFacts) -> Option<Vec<String>> {
    if table.name.table != USERS {
        return None;
    }
    let keys = facts.columns.iter().filter(|column| column.is_primary_key);
    let mut columns: Vec<String> = keys.map(|column| column.name.clone()).collect();
    for column in facts.carried(table) {
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
    }
    Some(columns)
}

fn table_clause(table: &TableName, columns: Option<&[String]>) -> String {
    match columns {
        None => table.quoted(),
        Some(columns) => {
            let list: Vec<String> = columns.iter().map(|column| quote(column)).collect();
            format!("{} ({})", table.quoted(), list.join(", "))
        }
    }
}

/// Inserts only, so that the row filter, on columns that are no key, does not hinder Directus's own updates
/// and deletes. The ORs are spelled out because the server refuses `in` there.
fn author_statement(publication: &str, activity: &TableName) -> String {
    let columns = ACTIVITY_COLUMNS.map(String::from);
    format!(
        "create publication {} for table {} where (action = 'create' or action = 'update' or action = 'delete') with (publish = 'insert')",
        quote(publication),
        table_clause(activity, Some(&columns)),
    )
}

/// Whether the table may be published without breaking the writes of the application it belongs to.
pub(super) fn check(table: &LayoutTable, facts: &TableFacts) -> Result<(), Error> {
    let unpublishable = |text: &str, remedy: String| Error::Unpublishable {
        table: table.name.to_string(),
        text: text.into(),
        remedy,
    };
    if !matches!(facts.kind, 'r' | 'p') {
        let remedy = "Map the table that is behind it instead.".into();
        return Err(unpublishable("it is no table (a view, or foreign)", remedy));
    }
    for role in &table.roles {
        keys::check(&table.name, role, facts)?;
    }
    for column in table.filter_columns() {
        if facts.column(column).is_none() {
            let (table, column) = (table.name.to_string(), column.to_owned());
            return Err(Error::FilterMissing { table, column });
        }
    }
    let has_key = facts.columns.iter().any(|column| column.is_primary_key);
    let usable = match facts.identity {
        'd' => has_key,
        'f' | 'i' => true,
        _ => false,
    };
    if !usable {
        return Err(unpublishable(
            "it has no primary key, so publishing it would make its updates and deletes fail",
            format!("Run: alter table {} add primary key (…);", table.name.quoted()),
        ));
    }
    if facts.identity == 'f' && table.name.table == USERS {
        return Err(unpublishable(
            "its replica identity is full, which together with a column list makes its updates fail, log-in included",
            format!("Run: alter table {} replica identity default;", table.name.quoted()),
        ));
    }
    Ok(())
}
