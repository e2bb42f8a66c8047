//! Whether a create without an answer can still come to anything. A key that the database gives makes a repeated
//! create a second row, so it is sent again only when the first try has come to its end for certain.
//!
//! What proves it, in this order: Directus has answered another request after the failure (the caller sees to that),
//! and [`GRACE`] has passed, so that the try has reached the table or never will; every transaction that held or
//! awaited a lock for writing to that table then is over; the log was applied as far as it reached after that. If the
//! record is still not there, the try has made none.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{SourceSettings, connect::connect, error::Error, layout::TableName};
use crate::{
    mapping::Mapping,
    model::{EntityNo, Lsn},
};

/// From a request that Directus answered to the look at the table's locks. A request that came before is carried out
/// by then, or waits for a lock.
const GRACE: Duration = Duration::from_secs(5);
/// Operations that are remembered; those that were settled meanwhile are not asked about again.
const TRY_COUNT_MAX: usize = 10_000;

/// The tries that got no answer.
pub(crate) struct Tries {
    source: SourceSettings,
    mapping: Arc<Mapping>,
    /// How far the log is applied for good.
    applied: watch::Receiver<Option<Lsn>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    tries: HashMap<Uuid, Try>,
}

enum Try {
    /// Since when it is known that Directus answers again.
    Asked(Instant),
    /// Transactions that may still write to the table.
    Open(HashSet<String>),
    /// They are over; the log has to be applied up to here.
    Past(Lsn),
    /// It has come to nothing, or its record is known by now.
    Over,
}

impl Tries {
    pub(crate) fn new(
        source: SourceSettings,
        mapping: Arc<Mapping>,
        applied: watch::Receiver<Option<Lsn>>,
    ) -> Self {
        Self { source, mapping, applied, state: Mutex::default() }
    }

    /// Whether this is the first question about `operation`.
    pub(crate) async fn is_new(&self, operation: Uuid) -> bool {
        !self.state.lock().await.tries.contains_key(&operation)
    }

    /// Whether `operation`, a create of `entity` without an answer, is over. A yes is given once, and only where an
    /// earlier question has found it: what the asker has read of the record meanwhile is younger than the proof.
    pub(crate) async fn is_over(&self, operation: Uuid, entity: EntityNo) -> Result<bool, Error> {
        let mut state = self.state.lock().await;
        let State { client, tries } = &mut *state;
        if tries.len() >= TRY_COUNT_MAX && !tries.contains_key(&operation) {
            tries.clear();
        }
        let step = match tries.remove(&operation) {
            Some(Try::Over) => return Ok(true),
            Some(step) => step,
            None => Try::Asked(Instant::now()),
        };
        let next = self.next(client, step, entity).await;
        match next {
            Ok(next) => tries.insert(operation, next),
            Err(error) => {
                tries.insert(operation, Try::Asked(Instant::now()));
                *client = None;
                return Err(error);
            }
        };
        Ok(false)
    }

    async fn next(
        &self,
        client: &mut Option<Client>,
        step: Try,
        entity: EntityNo,
    ) -> Result<Try, Error> {
        Ok(match step {
            Try::Asked(at) if at.elapsed() < GRACE => Try::Asked(at),
            Try::Asked(_) => {
                let client = self.connected(client).await?;
                Try::Open(self.writers(client, entity).await?)
            }
            Try::Open(before) => {
                let client = self.connected(client).await?;
                let now = self.writers(client, entity).await?;
                if before.is_disjoint(&now) {
                    Try::Past(end(client).await?)
                } else {
                    Try::Open(before)
                }
            }
            Try::Past(lsn) if self.applied.borrow().is_some_and(|applied| applied >= lsn) => {
                Try::Over
            }
            step => step,
        })
    }

    async fn connected<'a>(&self, client: &'a mut Option<Client>) -> Result<&'a Client, Error> {
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = None;
        }
        match client {
            Some(client) => Ok(client),
            None => Ok(client.insert(connect(&self.source).await?)),
        }
    }

    /// The transactions that hold a lock for writing to the entity's table, or wait for one.
    async fn writers(&self, client: &Client, entity: EntityNo) -> Result<HashSet<String>, Error> {
        let Some(table) = &self.mapping.entity(entity).directus else { return Ok(HashSet::new()) };
        let name = TableName { schema: table.schema.clone(), table: table.table.clone() };
        let rows = client
            .query(
                "select virtualtransaction from pg_locks
                 where relation = to_regclass($1)
                   and database = (select oid from pg_database where datname = current_database())
                   and mode not in ('AccessShareLock', 'RowShareLock')",
                &[&name.quoted()],
            )
            .await
            .map_err(Error::sql("look at the locks of the source"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// The end of the log now.
async fn end(client: &Client) -> Result<Lsn, Error> {
    let row = client
        .query_one("select pg_current_wal_insert_lsn()::text", &[])
        .await
        .map_err(Error::sql("look at the end of the log"))?;
    Ok(row.get::<_, &str>(0).parse().unwrap_or(Lsn(u64::MAX)))
}
