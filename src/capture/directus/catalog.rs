//! What the source's catalogue says: server, tables, publications.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{
    error::Error,
    layout::{LayoutTable, TableName},
};

/// The server, as far as replication goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// As the server prints it: `15.18 (Debian …)`.
    pub(super) version: String,
    /// 150018 is 15.18.
    pub(super) version_number: i32,
    pub(super) wal_level: String,
    pub(super) slot_count: i64,
    pub(super) slot_count_max: i64,
    pub(super) sender_count: i64,
    pub(super) sender_count_max: i64,
    /// MB; −1: no limit.
    pub(super) slot_keep_mb: i64,
    /// ms; 0: none.
    pub(super) sender_timeout_ms: i64,
    pub(super) may_replicate: bool,
}

/// A table that exists.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableFacts {
    pub(super) oid: u32,
    /// `r` table, `p` partitioned, `v` view, …
    pub(super) kind: char,
    /// `d`, `n`, `f`, `i`.
    pub(super) identity: char,
    pub(super) row_count_estimated: u64,
    pub(super) may_select: bool,
    pub(super) is_owner: bool,
    /// Whether row-level security hides rows from us.
    pub(super) is_filtered: bool,
    /// In table order.
    pub(super) columns: Vec<ColumnFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnFacts {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
    /// `character varying(255)`
    pub(super) type_name: String,
    pub(super) is_generated: bool,
    pub(super) may_select: bool,
    /// Part of a primary key that is checked at once.
    pub(super) is_primary_key: bool,
    /// Whether a unique index of the whole table, checked at once, has this column alone.
    pub(super) is_unique: bool,
    /// What the database fills in where a new row leaves the column out: the expression, `identity`, or nothing.
    pub(super) default: Option<String>,
}

impl TableFacts {
    pub(super) fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns of the primary key, in table order.
    pub(super) fn primary_key(&self) -> Vec<&str> {
        let keys = self.columns.iter().filter(|column| column.is_primary_key);
        keys.map(|column| column.name.as_str()).collect()
    }

    /// Mapped columns that rows of this table carry in the log: those that exist and are not generated.
    pub(super) fn carried<'a>(&self, table: &'a LayoutTable) -> Vec<&'a str> {
        let carried = |name: &&str| self.column(name).is_some_and(|column| !column.is_generated);
        table.columns().into_iter().filter(carried).collect()
    }

    /// The columns that a full read asks for: those that are carried, and those that are kept beside a junction's
    /// elements, as far as the role may read them.
    pub(super) fn read<'a>(&'a self, table: &'a LayoutTable) -> Vec<&'a str> {
        let kept = self.columns.iter().filter(|column| {
            !column.is_generated
                && (self.may_select || column.may_select)
                && table.keeps(&column.name, column.type_oid)
        });
        let mut columns = self.carried(table);
        columns.extend(kept.map(|column| column.name.as_str()));
        columns
    }
}

/// A publication that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PublicationFacts {
    pub(super) all_tables: bool,
    pub(super) via_root: bool,
    pub(super) publishes_all: bool,
    pub(super) is_owner: bool,
    /// Table → the columns published, and the row filter.
    pub(super) tables: BTreeMap<TableName, (Vec<String>, Option<String>)>,
}

pub(super) async fn server(client: &Client) -> Result<Server, Error> {
    let row = client
        .query_one(
            "select current_setting('server_version'), current_setting('server_version_num')::int,
                    current_setting('wal_level'),
                    (select count(*) from pg_replication_slots),
                    current_setting('max_replication_slots')::bigint,
                    (select count(*) from pg_stat_replication),
                    current_setting('max_wal_senders')::bigint,
                    (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'),
                    (select setting::bigint from pg_settings where name = 'wal_sender_timeout'),
                    (select rolreplication or rolsuper from pg_roles where rolname = current_user)",
            &[],
        )
        .await
        .map_err(Error::sql("read the server's settings"))?;
    Ok(Server {
        version: row.get(0),
        version_number: row.get(1),
        wal_level: row.get(2),
        slot_count: row.get(3),
        slot_count_max: row.get(4),
        sender_count: row.get(5),
        sender_count_max: row.get(6),
        slot_keep_mb: row.get::<_, Option<i64>>(7).unwrap_or(-1),
        sender_timeout_ms: row.get::<_, Option<i64>>(8).unwrap_or(0),
        may_replicate: row.get::<_, Option<bool>>(9).unwrap_or(false),
    })
}

/// Those of the tables that exist.
pub(super) async fn tables(
    client: &Client,
    names: &[TableName],
) -> Result<BTreeMap<TableName, TableFacts>, Error> {
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|name| name.table.as_str()).collect();
    let rows = client
        .query(
            "select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text,
                    greatest(c.reltuples, 0)::float8,
                    coalesce(has_table_privilege(c.oid, 'select'), false), pg_has_role(c.relowner, 'usage'),
                    row_security_active(c.oid)
             from unnest($1::text[], $2::text[]) as wanted (schema, name)
             join pg_namespace n on n.nspname = wanted.schema
             join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
             where c.relkind in ('r', 'p', 'v', 'm', 'f')",
            &[&schemas, &tables],
        )
        .await
        .map_err(Error::sql("read the catalogue of tables"))?;
    let letter = |text: &str| text.chars().next().unwrap_or(' ');
    let mut facts = BTreeMap::new();
    let mut by_oid = BTreeMap::new();
    for row in rows {
        let name = TableName { schema: row.get(1), table: row.get(2) };
        by_oid.insert(row.get::<_, u32>(0), name.clone());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, not negative"
        )]
        let row_count_estimated = row.get::<_, f64>(5) as u64;
        facts.insert(
            name,
            TableFacts {
                oid: row.get(0),
                kind: letter(row.get(3)),
                identity: letter(row.get(4)),
                row_count_estimated,
                may_select: row.get(6),
                is_owner: row.get(7),
                is_filtered: row.get(8),
                columns: Vec::new(),
            },
        );
    }
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    // The functions of privileges answer null for what was dropped since the query began.
    let rows = client
        .query(
            "select a.attrelid, a.attname::text, a.atttypid, a.atttypmod,
                    format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
                    coalesce(has_column_privilege(a.attrelid, a.attnum, 'select'), false),
                    exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary
                            and i.indimmediate and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])),
                    a.attnotnull and exists (select from pg_index i where i.indrelid = a.attrelid and i.indisunique
                            and i.indimmediate and i.indisvalid and i.indpred is null and i.indnkeyatts = 1
                            and i.indkey[0] = a.attnum),
                    case when a.attidentity <> '' then 'identity'
                         when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end
             from pg_attribute a
             left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
             where a.attrelid = any ($1) and a.attnum > 0 and not a.attisdropped
             order by a.attrelid, a.attnum",
            &[&oids],
        )
        .await
        .map_err(Error::sql("read the catalogue of columns"))?;
    for row in rows {
        let Some(table) = by_oid.get(&row.get::<_, u32>(0)).and_then(|name| facts.get_mut(name))
        else {
            continue;
        };
        table.columns.push(ColumnFacts {
            name: row.get(1),
            type_oid: row.get(2),
            type_modifier: row.get(3),
            type_name: row.get(4),
            is_generated: row.get(5),
            may_select: row.get(6),
            is_primary_key: row.get(7),
            is_unique: row.get(8),
            default: row.get(9),
        });
    }
    Ok(facts)
}

/// The publication, if it exists.
pub(super) async fn publication(
    client: &Client,
    name: &str,
) -> Result<Option<PublicationFacts>, Error> {
    let doing = || Error::sql(format!("read publication `{name}`"));
    let row = client
        .query_opt(
            "select puballtables, pubviaroot, pubinsert and pubupdate and pubdelete and pubtruncate,
                    pg_has_role(pubowner, 'usage')
             from pg_publication where pubname = $1",
            &[&name],
        )
        .await
        .map_err(doing())?;
    let Some(row) = row else { return Ok(None) };
    let mut facts = PublicationFacts {
        all_tables: row.get(0),
        via_root: row.get(1),
        publishes_all: row.get(2),
        is_owner: row.get(3),
        tables: BTreeMap::new(),
    };
    let rows = client
        .query(
            "select schemaname::text, tablename::text, attnames::text[], rowfilter
             from pg_publication_tables where pubname = $1",
            &[&name],
        )
        .await
        .map_err(doing())?;
    for row in rows {
        let columns: Option<Vec<String>> = row.get(2);
        facts.tables.insert(
            TableName { schema: row.get(0), table: row.get(1) },
            (columns.unwrap_or_default(), row.get(3)),
        );
    }
    Ok(Some(facts))
}
