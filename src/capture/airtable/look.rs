//! What a base holds now, read for comparing: through the same reading of cells as the capture's, handed to nobody else.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::{
    Error, Identity,
    listing::observed,
    schema::{Plan, PlanTable, resolve},
};
use crate::{
    mapping::Mapping,
    model::{EntityNo, FieldNo, Observation},
    remote::airtable::{Client, Error as RemoteError},
};

/// How often the server may lose the place in one table.
const RESTART_COUNT_MAX: u32 = 5;
/// How often a call is made that waiting may cure, and how long each wait may be: somebody waits for the outcome.
const TRY_COUNT_MAX: u32 = 5;
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// A base, ready to be read.
pub(crate) struct Look {
    client: Arc<Client>,
    base: String,
    mapping: Arc<Mapping>,
    plan: Plan,
}

impl Look {
    /// Looks up what the mapping names in the base `name`. `stored`: what the capture has found out, so that the same
    /// fields are meant.
    ///
    /// # Errors
    /// When the base cannot be reached, or the mapping does not fit it.
    pub(crate) async fn open(
        client: Arc<Client>,
        (name, base): (&str, &str),
        mapping: Arc<Mapping>,
        stored: Option<&Identity>,
    ) -> Result<Self, Error> {
        let tables = patiently(async || client.tables(base).await).await?;
        let resolution = resolve(&mapping, name, &tables, stored.map(|stored| &stored.resolved));
        if resolution.problems.iter().any(|problem| problem.is_fatal) {
            let problems = resolution.problems.into_iter().filter(|it| it.is_fatal).collect();
            return Err(Error::Mapping { base: name.to_owned(), problems });
        }
        let plan = Plan::new(&mapping, name, &resolution.resolved);
        Ok(Self { client, base: base.to_owned(), mapping, plan })
    }

    /// The fields of an entity that are read here; `None`: its table is not.
    pub(crate) fn fields(&self, entity: EntityNo) -> Option<Vec<FieldNo>> {
        Some(self.table(entity)?.fields.iter().map(|(no, _)| *no).collect())
    }

    fn table(&self, entity: EntityNo) -> Option<&PlanTable> {
        self.plan.tables.iter().find(|table| table.entity == entity)
    }

    /// Reads the entity's table page by page.
    ///
    /// # Errors
    /// When Airtable does not answer, or refuses.
    pub(crate) async fn read(
        &self,
        entity: EntityNo,
        mut take: impl FnMut(Observation),
    ) -> Result<(), Error> {
        let Some(table) = self.table(entity) else { return Ok(()) };
        let fields = table.field_ids();
        let (mut offset, mut restart_count) = (None, 0);
        loop {
            let (base, offset_there) = (&self.base, offset.as_deref());
            let page =
                async || self.client.list_records(base, &table.table, &fields, offset_there).await;
            match patiently(page).await {
                Ok(page) => {
                    for record in &page.records {
                        take(observed(&self.mapping, table, record));
                    }
                    offset = page.offset;
                    if offset.is_none() {
                        return Ok(());
                    }
                }
                // What was read is seen again, which changes nothing.
                Err(RemoteError::IteratorLost { .. }) if restart_count < RESTART_COUNT_MAX => {
                    restart_count += 1;
                    offset = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Repeats a call that waiting may cure. A lost place is none of those: its pages are read again from the first one.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut try_count = 1;
    loop {
        let error = match call().await {
            Err(error) if !matches!(error, RemoteError::IteratorLost { .. }) => error,
            outcome => return outcome,
        };
        let pause = error.retry_after().map(|pause| pause.saturating_mul(try_count));
        match pause.filter(|pause| *pause <= PAUSE_MAX && try_count < TRY_COUNT_MAX) {
            Some(pause) => {
                warn!(%error, try_count, "trying again");
                sleep(pause).await;
                try_count += 1;
            }
            None => return Err(error),
        }
    }
}
