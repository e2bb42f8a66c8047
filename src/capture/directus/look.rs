//! What the Postgres under Directus holds now, read for comparing: in one snapshot, through the same conversion as the
//! capture's copy, handed to nobody else.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;

use super::{
    SourceSettings,
    access::{self, Named},
    catalog::{self, TableFacts},
    connect::connect,
    convert::Plan,
    copy_text::CopyRow,
    error::Error,
    gates::Gates,
    layout::{Layout, LayoutTable, Role, TableName, quote},
    snapshot::line_end,
};
use crate::{
    mapping::Mapping,
    model::{EntityNo, FieldNo, Observation},
};

/// The database as it was at one moment.
pub(crate) struct Look {
    client: Client,
    mapping: Arc<Mapping>,
    layout: Layout,
    facts: BTreeMap<TableName, TableFacts>,
    gates: Gates,
}

impl Look {
    /// Connects, and lets all that is read from now on be of this moment.
    ///
    /// # Errors
    /// When the source cannot be reached.
    pub(crate) async fn open(
        source: &SourceSettings,
        mapping: Arc<Mapping>,
        own: Option<String>,
    ) -> Result<Self, Error> {
        let client = connect(source).await?;
        client
            .batch_execute("begin isolation level repeatable read read only")
            .await
            .map_err(Error::sql("begin to read the source"))?;
        let layout = Layout::new(&mapping);
        let names: Vec<TableName> = layout.tables.iter().map(|table| table.name.clone()).collect();
        let facts = catalog::tables(&client, &names).await?;
        let judged_by = Named::new(&mapping, own);
        let gates = Gates::default();
        gates.accounts.set(access::read(&client, source, &layout, &judged_by).await?);
        Ok(Self { client, mapping, layout, facts, gates })
    }

    /// The fields of an entity that are read here; `None`: its table is not there.
    pub(crate) fn fields(&self, entity: EntityNo) -> Option<Vec<FieldNo>> {
        let mut fields = None;
        for table in self.tables(entity) {
            let Some(facts) = self.facts.get(&table.name) else { continue };
            for role in &table.roles {
                match role {
                    Role::Record { columns, .. } => {
                        let columns =
                            columns.iter().filter(|(_, name)| facts.column(name).is_some());
                        fields.get_or_insert_with(Vec::new).extend(columns.map(|(no, _)| *no));
                    }
                    Role::Element { field, .. } => {
                        fields.get_or_insert_with(Vec::new).push(*field);
                    }
                }
            }
        }
        fields
    }

    /// The tables of an entity, with what they mean for it alone.
    fn tables(&self, entity: EntityNo) -> Vec<LayoutTable> {
        let is_of_it = |role: &&Role| match role {
            Role::Record { entity: no, .. } | Role::Element { entity: no, .. } => *no == entity,
        };
        let tables = self.layout.tables.iter().map(|table| LayoutTable {
            name: table.name.clone(),
            roles: table.roles.iter().filter(is_of_it).cloned().collect(),
        });
        tables.filter(|table| !table.roles.is_empty()).collect()
    }

    /// Reads the entity's table, then those that hold its sets.
    ///
    /// # Errors
    /// When the source fails.
    pub(crate) async fn read(
        &self,
        entity: EntityNo,
        mut take: impl FnMut(Observation),
    ) -> Result<(), Error> {
        for table in self.tables(entity) {
            let Some(facts) = self.facts.get(&table.name) else { continue };
            let columns: Vec<&str> =
                table.columns().into_iter().filter(|name| facts.column(name).is_some()).collect();
            let (plan, _) =
                Plan::new(&table, &self.gates, |name| columns.iter().position(|c| *c == name));
            let list: Vec<String> = columns.iter().map(|column| quote(column)).collect();
            let sql =
                format!("copy (select {} from {}) to stdout", list.join(", "), table.name.quoted());
            let reading = || Error::sql(format!("read table {}", table.name));
            let stream = self.client.copy_out(&sql).await.map_err(reading())?;
            tokio::pin!(stream);
            let (mut row, mut out, mut rest) = (CopyRow::default(), Vec::new(), Vec::new());
            while let Some(bytes) = stream.try_next().await.map_err(reading())? {
                rest.extend_from_slice(&bytes);
                let mut from = 0;
                while let Some(end) = line_end(&rest[from..]) {
                    row.split(&rest[from..from + end]);
                    if plan.present(&self.mapping, &row, &mut out).is_err() {
                        tracing::warn!(table = %table.name, "skipped a row whose key can't be read");
                    }
                    out.drain(..).for_each(&mut take);
                    from += end + 1;
                }
                rest.drain(..from);
            }
        }
        Ok(())
    }
}
