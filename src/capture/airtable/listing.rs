//! A full read of mapped tables. In: the plan. Out: each page as a transaction of its own without a
//! position, parents first; then the records that are known but gone, confirmed by a look for their ids.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tracing::{debug, info, warn};

use crate::{
    capture::KnownKeys,
    mapping::{CellFormat, Mapping},
    model::{Author, Change, Delivery, EntityNo, Observation, Side, SideKey, Stamp},
    queue::Outlet,
    remote::airtable::{Client, Error as RemoteError, PAGE_RECORD_COUNT_MAX, Page, Record, micros},
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
/// What the pages of one table that wait may take in memory; a larger one waits alone.
const PAGES_KIB_MAX: u32 = 8 * 1024;
/// More known records than this missing in a listing, and more than a tenth of all: then the listing is in doubt.
const MISSING_COUNT_MAX: usize = 100;
const MISSING_SHARE_DIVISOR: usize = 10;

/// A page of a table, with its share of the room for those that wait.
struct ReadPage {
    records: Vec<Observation>,
    _room: OwnedSemaphorePermit,
}

/// The records of filtered tables that are mirrored.
pub(super) type Inside = HashMap<EntityNo, HashSet<SideKey>>;

/// Notes whether this record is mirrored.
pub(super) fn note(inside: &mut HashSet<SideKey>, observation: &Observation) {
    if matches!(observation.change, Change::Present { .. }) {
        inside.insert(observation.key.clone());
    } else {
        inside.remove(&observation.key);
    }
}

/// What a listing reads from, and to whom it tells.
pub(super) struct Listing<'a> {
    pub(super) client: &'a Arc<Client>,
    /// `app…`
    pub(super) base: &'a str,
    pub(super) mapping: &'a Arc<Mapping>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) deliveries: &'a Outlet,
    pub(super) known: &'a dyn KnownKeys,
    /// Of tables with a filter, the records handed over that are mirrored.
    pub(super) inside: Mutex<Inside>,
}

impl Listing<'_> {
    /// Lists these of the plan's tables (places in [`Plan::tables`], ascending). `progress` is told the
    /// number of records so far.
    pub(super) async fn run(
        &self,
        tables: &[usize],
        progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let mut listed = self.read(tables, progress).await?;
        let mut absent_count = 0;
        for at in tables {
            let listed = listed.entry(self.plan.tables[*at].entity).or_default();
            absent_count += self.confirm_absent(*at, listed).await?;
        }
        info!(base = self.base, absent_count, "listed");
        Ok(())
    }

    /// Reports the known records of these tables that are not there, before those that are: a recovery finds a record
    /// that is there under another name among them.
    pub(super) async fn report_absent(&self, tables: &[usize]) -> Result<(), Error> {
        let mut listed: HashMap<EntityNo, HashSet<SideKey>> = HashMap::new();
        for at in tables {
            let (sender, mut pages) = mpsc::channel(PAGES_AHEAD_MAX);
            let entity = self.plan.tables[*at].entity;
            let reader = self.reader(*at, sender);
            let taking = async {
                while let Some(page) = pages.recv().await {
                    let keys = page?.records.into_iter().map(|record| record.key);
                    listed.entry(entity).or_default().extend(keys);
                }
                Ok::<_, Error>(())
            };
            let ((), taken) = futures_util::join!(reader, taking);
            taken?;
        }
        for (entity, listed) in listed_or_empty(tables, self.plan, listed) {
            let known = self.known.keys(Side::Airtable, entity).await.map_err(Error::KnownKeys)?;
            let absent = known.into_iter().filter(|key| !listed.contains(key));
            let absent: Vec<Observation> =
                absent.map(|key| Observation { entity, key, change: Change::Absent }).collect();
            if !absent.is_empty() {
                self.deliver(absent).await?;
            }
        }
        Ok(())
    }

    /// Hands over what these tables hold; the answer is the keys, by entity.
    pub(super) async fn read(
        &self,
        tables: &[usize],
        mut progress: impl FnMut(u64),
    ) -> Result<HashMap<EntityNo, HashSet<SideKey>>, Error> {
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
            while let Some(ReadPage { records, _room }) = pages.recv().await.transpose()? {
                listed.extend(records.iter().map(|record| record.key.clone()));
                record_count += u64::try_from(records.len()).unwrap_or_default();
                self.deliver(records).await?;
                progress(record_count);
            }
        }
        info!(base = self.base, record_count, "read all records");
        Ok(listed)
    }

    /// Of tables with a filter, the records that were handed over and are mirrored.
    pub(super) fn into_inside(self) -> Inside {
        self.inside.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one table page by page into `pages`.
    fn reader(
        &self,
        at: usize,
        pages: mpsc::Sender<Result<ReadPage, RemoteError>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let client = Arc::clone(self.client);
        let (mapping, plan) = (Arc::clone(self.mapping), Arc::clone(self.plan));
        let base = self.base.to_owned();
        let room = Arc::new(Semaphore::new(PAGES_KIB_MAX as usize));
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
                        let records: Vec<Observation> =
                            records.iter().map(|it| observed(&mapping, table, it)).collect();
                        let held_bytes: usize = records.iter().map(Observation::held_bytes).sum();
                        let kib = u32::try_from(held_bytes / 1024).unwrap_or(u32::MAX);
                        let room = Arc::clone(&room).acquire_many_owned(kib.min(PAGES_KIB_MAX));
                        // Never closed: as long as there is a reader, there is room for one page.
                        let Ok(room) = room.await else { return };
                        (Ok(ReadPage { records, _room: room }), offset.is_none())
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

    /// Which known records are gone: those that neither the listing has nor a look by their ids. Where so many are missing
    /// that the listing itself is in doubt (empty, or cut), the table is listed once more first.
    async fn confirm_absent(
        &self,
        at: usize,
        listed: &mut HashSet<SideKey>,
    ) -> Result<usize, Error> {
        let table = &self.plan.tables[at];
        let known =
            self.known.keys(Side::Airtable, table.entity).await.map_err(Error::KnownKeys)?;
        let known_count = known.len();
        let mut missing: Vec<SideKey> =
            known.into_iter().filter(|key| !listed.contains(key)).collect();
        let is_doubtful = missing.len() > MISSING_COUNT_MAX
            && missing.len() * MISSING_SHARE_DIVISOR > known_count;
        if is_doubtful {
            let (table, missing_count) = (&table.table, missing.len());
            warn!(table, known_count, missing_count, "many records are missing: listing again");
            self.list_again(at, listed).await?;
            missing.retain(|key| !listed.contains(key));
        }
        let mut lots = missing.chunks(PAGE_RECORD_COUNT_MAX);
        let mut absent_count = 0;
        while let Some(lot) = lots.next() {
            let seen = match self.look_up(table, lot).await {
                Ok(seen) => seen,
                // A server that knows no such formula: each by itself, as long as they are few.
                Err(Error::Airtable(
                    error @ (RemoteError::Refused { .. } | RemoteError::Malformed { .. }),
                )) => {
                    debug!(table = table.table, %error, "records can't be looked up together");
                    let rest: Vec<SideKey> =
                        lot.iter().chain(lots.by_ref().flatten()).cloned().collect();
                    if rest.len() <= MISSING_COUNT_MAX {
                        self.look_up_each(table, rest).await?
                    } else {
                        if !is_doubtful {
                            self.list_again(at, listed).await?;
                        }
                        let rest = rest.into_iter().filter(|key| !listed.contains(key));
                        rest.map(|key| absent(table, key)).collect()
                    }
                }
                Err(error) => return Err(error),
            };
            absent_count += seen.iter().filter(|it| it.change == Change::Absent).count();
            for part in seen.chunks(PAGE_RECORD_COUNT_MAX) {
                self.deliver(part.to_vec()).await?;
            }
        }
        Ok(absent_count)
    }

    /// Lists a table once more, into `listed`.
    async fn list_again(&self, at: usize, listed: &mut HashSet<SideKey>) -> Result<(), Error> {
        let (sender, mut pages) = mpsc::channel(PAGES_AHEAD_MAX);
        let mut readers = JoinSet::new();
        readers.spawn(self.reader(at, sender));
        while let Some(ReadPage { records, .. }) = pages.recv().await.transpose()? {
            listed.extend(records.iter().map(|record| record.key.clone()));
            self.deliver(records).await?;
        }
        Ok(())
    }

    /// What is said of a page of records by their ids, in one request.
    async fn look_up(
        &self,
        table: &PlanTable,
        keys: &[SideKey],
    ) -> Result<Vec<Observation>, Error> {
        let ids: Vec<&str> = keys.iter().map(|key| &*key.0).collect();
        let fields = table.field_ids();
        let found = self.client.records_by_id(self.base, &table.table, &fields, &ids).await?;
        let found: HashMap<&str, &Record> = found.iter().map(|it| (it.id.as_str(), it)).collect();
        let look = |key: &SideKey| match found.get(&*key.0) {
            Some(record) => observed(self.mapping, table, record),
            None => absent(table, key.clone()),
        };
        Ok(keys.iter().map(look).collect())
    }

    async fn look_up_each(
        &self,
        table: &PlanTable,
        keys: Vec<SideKey>,
    ) -> Result<Vec<Observation>, Error> {
        let looks = keys.into_iter().map(|key| async move {
            let found = self.client.get_record(self.base, &table.table, &key.0).await?;
            Ok(match found {
                Some(record) => observed(self.mapping, table, &record),
                None => absent(table, key),
            })
        });
        stream::iter(looks).buffer_unordered(SECOND_LOOKS_IN_FLIGHT_MAX).try_collect().await
    }

    async fn deliver(&self, observations: Vec<Observation>) -> Result<(), Error> {
        for table in self.plan.tables.iter().filter(|table| table.is_filtered()) {
            let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            let inside = inside.entry(table.entity).or_default();
            let of_it = observations.iter().filter(|it| it.entity == table.entity);
            of_it.for_each(|observation| note(inside, observation));
        }
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

fn absent(table: &PlanTable, key: SideKey) -> Observation {
    Observation { entity: table.entity, key, change: Change::Absent }
}

/// The keys of each entity of these tables, those without a record too.
fn listed_or_empty(
    tables: &[usize],
    plan: &Plan,
    mut listed: HashMap<EntityNo, HashSet<SideKey>>,
) -> HashMap<EntityNo, HashSet<SideKey>> {
    for at in tables {
        listed.entry(plan.tables[*at].entity).or_default();
    }
    listed
}

pub(super) fn observed(mapping: &Mapping, table: &PlanTable, record: &Record) -> Observation {
    let made_at = record.created_time.as_deref().and_then(micros);
    Observation {
        entity: table.entity,
        key: SideKey::from(record.id.as_str()),
        change: whole(mapping, table, &record.fields, made_at, CellFormat::Rest),
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
