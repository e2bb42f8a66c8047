//! A full read of mapped tables. In: the plan. Out: each page as a transaction of its own without a
//! position, parents first; then the records that are known but gone, each confirmed by a read by id.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{info, warn};

use crate::{
    capture::KnownKeys,
    mapping::{CellFormat, Mapping},
    model::{Author, Change, Delivery, EntityNo, Observation, Side, SideKey, Stamp},
    queue::Outlet,
    remote::airtable::{Client, Error as RemoteError, Page, Record, micros},
};

use super::{
    Error,
    payload::whole,
    schema::{Plan, PlanTable},
};

/// Tables read at once: the pages of one table come one after the other, and at a round trip of a second it
/// takes this many to use the allowance up.
const TABLES_IN_FLIGHT_MAX: usize = 6;
/// Pages of a later table that may wait for the earlier ones.
const PAGES_AHEAD_MAX: usize = 32;
/// How often the server may lose the place in one table.
const RESTART_COUNT_MAX: u32 = 5;
const SECOND_LOOKS_IN_FLIGHT_MAX: usize = 5;

/// What a listing reads from, and to whom it tells.
pub(super) struct Listing<'a> {
    pub(super) client: &'a Arc<Client>,
    /// `app…`
    pub(super) base: &'a str,
    pub(super) mapping: &'a Arc<Mapping>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) deliveries: &'a Outlet,
    pub(super) known: &'a dyn KnownKeys,
}

impl Listing<'_> {
    /// Lists these of the plan's tables (places in [`Plan::tables`], ascending). `progress` is told the
    /// number of records so far.
    pub(super) async fn run(
        &self,
        tables: &[usize],
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let mut listed: HashMap<EntityNo, HashSet<SideKey>> = HashMap::new();
        let mut record_count = 0;
        let mut waiting: VecDeque<usize> = tables.iter().copied().collect();
        let mut in_flight = VecDeque::new();
        // Dropped with this future: nothing goes on reading for nobody.
        let mut readers = JoinSet::new();
        loop {
            // Only the next few tables: so the one that is waited for is always among those that read.
            while in_flight.len() < TABLES_IN_FLIGHT_MAX
                && let Some(at) = waiting.pop_front()
            {
                let (sender, pages) = mpsc::channel(PAGES_AHEAD_MAX);
                readers.spawn(self.reader(at, sender));
                in_flight.push_back((at, pages));
            }
            let Some((at, mut pages)) = in_flight.pop_front() else { break };
            let table = &self.plan.tables[at];
            let listed = listed.entry(table.entity).or_default();
            while let Some(page) = pages.recv().await {
                let records: Vec<Observation> = page?;
                listed.extend(records.iter().map(|record| record.key.clone()));
                record_count += u64::try_from(records.len()).unwrap_or_default();
                self.deliver(records).await?;
                progress(record_count);
            }
        }
        let mut absent_count = 0;
        for at in tables {
            let table = &self.plan.tables[*at];
            let listed = listed.get(&table.entity).map_or_else(HashSet::new, Clone::clone);
            absent_count += self.confirm_absent(table, &listed).await?;
        }
        info!(base = self.base, record_count, absent_count, "listed");
        Ok(())
    }

    /// Reads one table page by page into `pages`.
    fn reader(
        &self,
        at: usize,
        pages: mpsc::Sender<Result<Vec<Observation>, RemoteError>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let client = Arc::clone(self.client);
        let (mapping, plan) = (Arc::clone(self.mapping), Arc::clone(self.plan));
        let base = self.base.to_owned();
        async move {
            let table = &plan.tables[at];
            let fields = table.field_ids();
            let mut offset: Option<String> = None;
            let mut restart_count = 0;
            loop {
                let page =
                    client.list_records(&base, &table.table, &fields, offset.as_deref()).await;
                let (page, is_last) = match page {
                    Ok(Page { records, offset: next }) => {
                        offset = next;
                        let records = records.iter().map(|it| observed(&mapping, table, it));
                        (Ok(records.collect()), offset.is_none())
                    }
                    Err(RemoteError::IteratorLost { .. }) if restart_count < RESTART_COUNT_MAX => {
                        // Pages that were handed over are seen again, which changes nothing.
                        restart_count += 1;
                        warn!(table = table.table, restart_count, "listing begins again");
                        offset = None;
                        continue;
                    }
                    Err(error) => (Err(error), true),
                };
                if pages.send(page).await.is_err() || is_last {
                    return;
                }
            }
        }
    }

    /// Looks each known record that was not listed up by its id: reported absent if there is none.
    async fn confirm_absent(
        &self,
        table: &PlanTable,
        listed: &HashSet<SideKey>,
    ) -> Result<usize, Error> {
        let known =
            self.known.keys(Side::Airtable, table.entity).await.map_err(Error::KnownKeys)?;
        let missing = known.into_iter().filter(|key| !listed.contains(key));
        let looks = missing.map(|key| async move {
            let found = self.client.get_record(self.base, &table.table, &key.0).await?;
            Ok::<_, Error>(match found {
                Some(record) => observed(self.mapping, table, &record),
                None => Observation { entity: table.entity, key, change: Change::Absent },
            })
        });
        let seen: Vec<_> =
            stream::iter(looks).buffer_unordered(SECOND_LOOKS_IN_FLIGHT_MAX).try_collect().await?;
        let absent_count = seen.iter().filter(|it| it.change == Change::Absent).count();
        if !seen.is_empty() {
            self.deliver(seen).await?;
        }
        Ok(absent_count)
    }

    async fn deliver(&self, observations: Vec<Observation>) -> Result<(), Error> {
        let stamp = Stamp {
            side: Side::Airtable,
            at: Utc::now().timestamp_micros(),
            position: None,
            author: Author { via: String::from("listing"), ..Author::default() },
            operation: None,
        };
        let delivery = Delivery::Transaction { stamp, observations };
        self.deliveries.send(delivery).await.map_err(|_| Error::Closed)
    }
}

pub(super) fn observed(mapping: &Mapping, table: &PlanTable, record: &Record) -> Observation {
    let made_at = record.created_time.as_deref().and_then(micros);
    Observation {
        entity: table.entity,
        key: SideKey::from(record.id.as_str()),
        change: whole(mapping, table, &record.fields, made_at, CellFormat::Rest),
    }
}
