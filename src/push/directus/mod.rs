//! Bound writes → requests to Directus. In: writes of any number of records, bound in `mirror.operation`. Out: what
//! became of each. One request for each operation, collection and kind, a hundred records at most. A batch that is
//! refused is taken apart until the record and the field at fault are known; all others are written.

mod blame;
mod item;
mod keyed;
#[cfg(test)]
mod keyed_tests;
mod newcomer;
#[cfg(test)]
mod parts_tests;
mod preflight;
mod search;
mod sets;
#[cfg(test)]
mod tests;
mod upkeep;
mod words;

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use self::{
    blame::{later, refused},
    item::{Item, Stage},
};
pub(crate) use preflight::preflight;
pub(crate) use upkeep::filled;

use super::{
    Bound, Outcome, Parts, Pusher, SideTrouble,
    password::Passwords,
    trouble::{Trouble, Troubles},
};
use crate::{
    mapping::{AccountGuard, DirectusTable, Entity, KeyGiver, KeyGivers, Mapping},
    model::{EntityNo, Notice, RecordId, Side},
    remote::directus::{self as remote, Client, Error, Row},
};

/// Records in one request: more are not faster, and take longer to be taken apart.
const RECORD_COUNT_MAX: usize = 100;
/// Of new users with passwords: each costs Directus a fifth of a second, in which it does nothing else.
const NEWCOMER_COUNT_MAX: usize = 10;
/// Directus works on one thread: the second request is there when the first is done.
const REQUEST_COUNT_MAX: usize = 2;
/// Records that are bound at a time.
const DRAIN_RECORD_COUNT_MAX: usize = RECORD_COUNT_MAX * REQUEST_COUNT_MAX;

/// Writes to one Directus.
pub(crate) struct DirectusPush {
    client: Arc<Client>,
    mapping: Arc<Mapping>,
    troubles: Troubles,
    passwords: Option<Arc<dyn Passwords>>,
    /// The accounts that are no members'.
    accounts: Option<AccountGuard>,
    keys: Option<Keys>,
    trouble: SideTrouble,
}

/// Who gives keys, and what is known of creates without an answer. Without it, all keys are ours.
struct Keys {
    givers: watch::Receiver<Option<KeyGivers>>,
    tries: Arc<dyn Tries>,
    /// Creates that Directus has failed at without a reason, by operation.
    failed: Mutex<HashSet<Uuid>>,
    /// Collections that do not note their changes, and when that was asked.
    silent: tokio::sync::Mutex<Option<(Instant, HashSet<String>)>>,
}

/// Whether a create that got no answer can still make a record.
pub(crate) trait Tries: Send + Sync {
    /// Whether `operation` is asked about for the first time.
    fn is_new(&self, operation: Uuid) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;

    /// Whether it is over. A yes is given once, and only where an earlier question has found it.
    fn is_over(
        &self,
        operation: Uuid,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// What became of items, by their place.
type Done = Vec<(usize, Outcome)>;

impl DirectusPush {
    pub(crate) fn new(
        client: Arc<Client>,
        mapping: Arc<Mapping>,
        notices: mpsc::Sender<(String, Notice)>,
    ) -> Self {
        let (troubles, trouble) = (Troubles::new(notices), SideTrouble::default());
        Self { client, mapping, troubles, passwords: None, keys: None, accounts: None, trouble }
    }

    /// With keys that others give.
    pub(crate) fn with_keys(
        mut self,
        givers: watch::Receiver<Option<KeyGivers>>,
        tries: Arc<dyn Tries>,
    ) -> Self {
        let (failed, silent) = (Mutex::default(), tokio::sync::Mutex::default());
        self.keys = Some(Keys { givers, tries, failed, silent });
        self
    }

    /// Who gives the keys of the entity's new records; `None`: nobody has looked yet. Of a collection that is not there
    /// Directus says so itself.
    fn giver(&self, entity: EntityNo) -> Option<KeyGiver> {
        let Some(keys) = &self.keys else { return Some(KeyGiver::Plait) };
        let givers = keys.givers.borrow();
        Some(givers.as_ref()?.of(entity).unwrap_or(KeyGiver::Plait))
    }

    fn are_authors_told(&self) -> bool {
        let Some(keys) = &self.keys else { return true };
        keys.givers.borrow().as_ref().is_some_and(|givers| givers.are_authors_told)
    }

    /// Writes to none of the accounts that the capture of the same Directus leaves out, and to none at all before it has
    /// said which these are.
    pub(crate) fn with_accounts(mut self, accounts: AccountGuard) -> Self {
        self.accounts = Some(accounts);
        self
    }

    /// With passwords for those new users whom the mapping gives one.
    pub(crate) fn with_passwords(mut self, passwords: Arc<dyn Passwords>) -> Self {
        self.passwords = Some(passwords);
        self
    }

    /// As [`Pusher::send`], in the order given.
    ///
    /// What is refused for one of its cells may have been written without it: every cell that leaves is one that the
    /// record's operation names, with the value that it names.
    async fn send_all(&self, bounds: Vec<Bound>, parts: &dyn Parts) -> Vec<(RecordId, Outcome)> {
        let records: Vec<RecordId> = bounds.iter().map(|bound| bound.record).collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; bounds.len()];
        let mut groups: Vec<((EntityNo, Uuid, Stage), Vec<Item>)> = Vec::new();
        for (at, bound) in bounds.into_iter().enumerate() {
            let entity = bound.entity;
            let described = self.mapping.entity(entity);
            let item = Item::new(at, bound, described, self.giver(entity));
            if let Some(outcome) = self.not_sent(&item, described) {
                outcomes[at] = Some(outcome);
                continue;
            }
            let is_slow = described.password.is_some() && item.stage == Stage::Create;
            let count_max = if is_slow { NEWCOMER_COUNT_MAX } else { RECORD_COUNT_MAX };
            let group = (entity, item.operation, item.stage);
            match groups.iter_mut().find(|(of, _)| *of == group) {
                Some((_, items)) if items.len() < count_max => items.push(item),
                _ => groups.insert(0, (group, vec![item])),
            }
        }
        let sent = futures_util::stream::iter(groups.into_iter().rev())
            .map(|((entity, ..), items)| self.settle(entity, items, parts))
            .buffer_unordered(REQUEST_COUNT_MAX)
            .collect::<Vec<_>>();
        for (at, outcome) in sent.await.into_iter().flatten() {
            outcomes[at] = Some(outcome);
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Unanswered));
        records.into_iter().zip(outcomes).collect()
    }

    /// Sends a batch of one entity and operation, taken apart as far as it has to be, and then its sets.
    async fn settle(&self, no: EntityNo, items: Vec<Item>, parts: &dyn Parts) -> Done {
        let entity = self.mapping.entity(no);
        let Some(table) = &entity.directus else {
            let (code, reason) = words::no_place(entity);
            let refused = Outcome::Refused { field: None, code, reason };
            return items.into_iter().map(|item| (item.at, refused.clone())).collect();
        };
        let is_troubled = AtomicBool::new(false);
        let work = Work { push: self, parts, no, entity, table, is_troubled };
        let (mut done, mut taken) = (Vec::new(), Vec::new());
        let items = work.keep_members(items, &mut done);
        let items = work.only_seen(items, &mut done).await;
        let mut queue = vec![work.give_passwords(items, &mut done).await];
        while let Some(items) = queue.pop() {
            if items.is_empty() {
                continue;
            }
            match work.request(&items).await {
                Ok(keys) => {
                    self.trouble.set(None);
                    taken.extend(item::with_keys(items, keys));
                }
                Err(error) => {
                    if let Some(outcome) = work.sort_out(&error, items, &mut queue, &mut done).await
                    {
                        // The others would fare the same.
                        let rest = queue.drain(..).flatten();
                        done.extend(rest.map(|item| (item.at, outcome.clone())));
                    }
                }
            }
        }
        done.extend(work.change_sets(&taken).await);
        work.clear_passwords(&taken).await;
        if !taken.is_empty() && !work.is_troubled.load(Ordering::Relaxed) {
            self.troubles.well(Side::Directus.name(), &entity.name);
        }
        done
    }
}

impl Pusher for DirectusPush {
    fn batch_record_count_max(&self) -> usize {
        RECORD_COUNT_MAX
    }

    fn drain_record_count_max(&self) -> usize {
        DRAIN_RECORD_COUNT_MAX
    }

    fn has_other_keys(&self, entity: EntityNo) -> Option<bool> {
        self.giver(entity).map(KeyGiver::is_other)
    }

    fn may_repeat<'a>(
        &'a self,
        operation: Uuid,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            let Some(keys) = &self.keys else { return true };
            // A Directus that does not answer may still carry out what it was sent.
            let is_new = keys.tries.is_new(operation).await;
            (!is_new || self.client.me().await.is_ok())
                && keys.tries.is_over(operation, entity).await
        })
    }

    fn send<'a>(
        &'a self,
        bounds: Vec<Bound>,
        parts: &'a dyn Parts,
    ) -> Pin<Box<dyn Future<Output = Vec<(RecordId, Outcome)>> + Send + 'a>> {
        Box::pin(self.send_all(bounds, parts))
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }
}

/// One entity's batch.
struct Work<'a> {
    push: &'a DirectusPush,
    parts: &'a dyn Parts,
    no: EntityNo,
    entity: &'a Entity,
    table: &'a DirectusTable,
    /// Something was told that keeps records, or a part of them, from being written.
    is_troubled: AtomicBool,
}

impl Work<'_> {
    fn tell(&self, trouble: Trouble) {
        self.is_troubled.store(true, Ordering::Relaxed);
        self.push.troubles.tell(Side::Directus.name(), &self.entity.name, trouble);
    }

    /// Sends items of one kind, all or none.
    /// The keys of what was made, where Directus tells them.
    async fn request(&self, items: &[Item]) -> Result<Option<Vec<String>>, Error> {
        let Some(Item { stage, operation, .. }) = items.first() else { return Ok(None) };
        let (client, table) = (&self.push.client, self.table);
        match stage {
            Stage::Create => {
                let rows: Vec<Row> = items.iter().map(|item| item.row(table)).collect();
                return client.create(*operation, &table.table, &table.key, &rows).await;
            }
            Stage::Update => {
                // Of some only a set changes.
                let changed = items.iter().filter(|item| !item.cells.is_empty());
                let rows: Vec<Row> = changed.map(|item| item.row(table)).collect();
                if !rows.is_empty() {
                    client.update(*operation, &table.table, &table.key, &rows).await?;
                }
            }
            Stage::Delete => {
                let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
                client.delete(*operation, &table.table, &keys).await?;
            }
        }
        Ok(None)
    }

    /// The items that are about members: nothing is written to other accounts.
    fn keep_members(&self, items: Vec<Item>, done: &mut Done) -> Vec<Item> {
        let Some(accounts) = self.push.accounts.as_ref().filter(|_| self.entity.is_of_accounts())
        else {
            return items;
        };
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            match accounts.may_write(&item.key) {
                Some(true) => kept.push(item),
                Some(false) => done.push((item.at, refused(words::no_member(self.entity)))),
                None => done.push((item.at, later())),
            }
        }
        kept
    }

    /// Which of the items Directus has, among the rows that are mirrored.
    async fn there(&self, items: &[Item]) -> Result<HashSet<String>, Error> {
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        let (client, table) = (&self.push.client, self.table);
        let Some(filter) = &self.entity.rows.directus else {
            let there = client.existing(&table.table, &table.key, &keys).await?;
            return Ok(there.into_iter().collect());
        };
        let mut fields = vec![table.key.as_str()];
        fields.extend(filter.tests.iter().map(|test| test.field.as_str()));
        let wanted = json!({ &table.key: { "_in": keys } });
        let rows = client.rows(&table.table, &table.key, &fields, &wanted).await?;
        let is_mirrored =
            |row: &&Json| filter.tests.iter().all(|test| test.admits_json(row.get(&test.field)));
        let mirrored = rows.iter().filter(is_mirrored);
        Ok(mirrored.filter_map(|row| remote::text(&row[&table.key])).collect())
    }
}
