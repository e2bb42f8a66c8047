//! Observations → records. In: deliveries from all captures through one bounded channel. Out, in one
//! transaction: canonical rows, record states, journal, conflicts, refusals, positions. What to write,
//! [`crate::merge`] says. Only after the commit does a position go out, for slot and cursor to follow.
//!
//! A transaction of a side is never cut in two by a reader of canonical: a batch is one or more whole ones,
//! and the parts of a large one share one transaction here.

mod batch;
mod careful;
mod created;
#[cfg(test)]
mod created_tests;
mod decided;
mod first_copy;
mod fold;
mod identity;
#[cfg(test)]
mod identity_tests;
mod joined;
mod mass;
mod places;
#[cfg(test)]
mod places_tests;
mod reread;
mod resolve;
mod settling;
#[cfg(test)]
mod settling_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_way_tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{debug, info};

use crate::{
    mapping::{Entity, Mapping, Upkeep},
    merge::Origin,
    model::{
        Change, Cursor, Delivery, Element, EntityNo, FieldNo, Lsn, Observation, Position, Side,
        SideKey, Stamp,
    },
    pulse::Workload,
    queue::Inlet,
    store::{self, FirstCopy, PositionRow, TransactionRow, Writer, Writes},
};

use batch::InFlight;
use identity::Candidates;
use mass::{Guard, Hand};
use reread::SetName;

pub(crate) use reread::Rereads;

/// What the observations of a batch take, as [`Delivery::held_bytes`] estimates it; a single transaction may exceed it.
const BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why applying stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not apply a batch")]
    Store(#[from] store::Error),
    #[error("a part of a large transaction of {0} came between the parts of another side's")]
    Interleaved(Side),
    #[error(
        "a large transaction of {0} broke off, and what another side sent meanwhile has to be read again"
    )]
    BrokenOff(Side),
}

/// How much is taken at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Observations in a batch; a single transaction may exceed it.
    pub(crate) batch_row_count_max: usize,
}

/// One log's threads to its capture.
pub(crate) struct Log {
    /// `directus`, or `airtable:app…`.
    pub(crate) name: String,
    pub(crate) side: Side,
    /// What the position belongs to, as the capture last said.
    pub(crate) identity: watch::Receiver<Option<serde_json::Value>>,
    /// What of it was stored last by this process.
    pub(crate) stored_identity: Option<serde_json::Value>,
    pub(crate) committed: Committed,
    /// Whether this log has no stored position yet: what comes first is a first copy.
    pub(crate) is_new: bool,
}

/// Where a capture learns how far its log is applied for good.
pub(crate) enum Committed {
    Lsn(watch::Sender<Option<Lsn>>),
    Cursor(watch::Sender<Option<Cursor>>),
}

/// What goes back out, as far as `apply` has to know: who we are on a side, and whom to wake when something is owed.
#[derive(Clone, Debug, Default)]
pub(crate) struct WayOut {
    /// The id of our own account on Airtable, once it is known. Directus tells our operations themselves.
    pub(crate) own: HashMap<Side, Arc<OnceLock<String>>>,
    pub(crate) nudges: HashMap<Side, Arc<Notify>>,
}

impl WayOut {
    fn origin(&self, stamp: &Stamp) -> Origin {
        match (&stamp.operation, stamp.author.via.as_str()) {
            (Some(id), _) => Origin::Ours(Some(*id)),
            (None, "snapshot" | "listing") => Origin::Scan,
            (None, "publicApi")
                if stamp.author.id.is_some()
                    && self.own.get(&stamp.side).and_then(|own| own.get())
                        == stamp.author.id.as_ref() =>
            {
                Origin::Ours(None)
            }
            _ => Origin::Somebody,
        }
    }

    /// Wakes the pushes of the sides to which `writes`, which are committed, made something due.
    fn nudge(&self, writes: &Writes) {
        for (side, nudge) in &self.nudges {
            let is_due = |entity: &store::EntityWrites| {
                entity.due.iter().any(|row| row.side == *side && row.settle_s.is_none())
            };
            if writes.entities.iter().any(is_due) {
                nudge.notify_one();
            }
        }
    }

    fn nudge_all(&self) {
        self.nudges.values().for_each(|nudge| nudge.notify_one());
    }
}

/// An observation with the transaction that it is part of.
#[derive(Clone, Debug)]
struct Item {
    transaction: i64,
    side: Side,
    origin: Origin,
    hand: Hand,
    at: i64,
    observation: Observation,
}

/// What the sides fill by themselves, where that is something else than at the last call.
pub(crate) type UpkeepNews = Box<dyn FnMut() -> Option<Upkeep> + Send + Sync>;

/// The loop, and what it holds between batches.
pub(crate) struct Apply {
    writer: Writer,
    mapping: Arc<Mapping>,
    logs: Vec<Log>,
    limits: Limits,
    way_out: WayOut,
    workload: Workload,
    in_flight: Option<InFlight>,
    /// The large transaction under way, if any.
    large: Option<Large>,
    candidates: Candidates,
    rereads: Arc<Rereads>,
    /// The log of each Airtable base, by the name that the mapping gives it.
    rereads_by_log: HashMap<String, String>,
    /// When to look which records of the outbox have become quiet; `None`: no record waits for that.
    settling_at: Option<Instant>,
    upkeep: Option<UpkeepNews>,
    guard: Guard,
}

/// A transaction whose parts are being written before its stamp is known.
struct Large {
    side: Side,
    transaction: i64,
    first_copy: Option<FirstCopy>,
    /// Positions of other sides' transactions that were written in between: out with this one's commit.
    positions: Vec<(Side, Position)>,
    /// Sets that a recovery judges at its end.
    sets: BTreeSet<SetName>,
}

impl Apply {
    pub(crate) fn new(writer: Writer, logs: Vec<Log>, limits: Limits) -> Self {
        let mapping = Arc::clone(writer.mapping());
        let way_out = WayOut::default();
        // What waits since before is looked for at once.
        let settling_at = mapping.entities.iter().any(Entity::is_two_sided).then(Instant::now);
        Self {
            writer,
            mapping,
            logs,
            limits,
            way_out,
            workload: Workload::new(),
            in_flight: None,
            large: None,
            candidates: Candidates::default(),
            settling_at,
            rereads: Arc::default(),
            rereads_by_log: HashMap::new(),
            upkeep: None,
            guard: Guard::default(),
        }
    }

    /// With the full reads that recoveries want, and the log of each Airtable base by its name.
    pub(crate) fn with_rereads(
        mut self,
        rereads: Arc<Rereads>,
        logs_by_base: HashMap<String, String>,
    ) -> Self {
        self.rereads = rereads;
        self.rereads_by_log = logs_by_base;
        self
    }

    /// With somebody who watches how far it is.
    pub(crate) fn with_workload(self, workload: Workload) -> Self {
        Self { workload, ..self }
    }

    /// With what the sides' schemas say beside the mapping. Asked before each batch.
    pub(crate) fn with_upkeep(mut self, upkeep: UpkeepNews) -> Self {
        self.upkeep = Some(upkeep);
        self
    }

    /// With somebody at the other end of what is owed.
    pub(crate) fn with_way_out(mut self, way_out: WayOut) -> Self {
        self.way_out = way_out;
        self
    }

    /// Applies until the captures are gone and all that they sent is applied.
    ///
    /// # Errors
    /// When the canonical database fails; nothing of the batch under way is in it then, and reading the logs
    /// again from the stored positions brings it back.
    pub(crate) async fn run(mut self, mut deliveries: Inlet) -> Result<(), Error> {
        self.queue_all_if_complete().await?;
        self.writer.wait_again().await?;
        self.end_old_reads().await?;
        loop {
            if self.is_time_to_settle() {
                self.let_quiet_go().await?;
            }
            // While a large transaction is under way nothing is let go: its own end comes first.
            let settling_at = self.settling_at.filter(|_| self.large.is_none());
            tokio::select! {
                first = deliveries.recv() => {
                    let Some(first) = first else { break };
                    self.workload.begin();
                    self.learn_upkeep();
                    self.apply_available(first, &mut deliveries).await?;
                    if self.in_flight.is_none() {
                        self.workload.rest();
                    }
                }
                () = InFlight::end_of(&mut self.in_flight) => {
                    drop(self.settle().await?);
                    self.workload.rest();
                }
                () = until(settling_at) => {}
            }
        }
        self.settle().await?;
        Ok(())
    }

    fn learn_upkeep(&mut self) {
        if let Some(upkeep) = self.upkeep.as_mut().and_then(|news| news()) {
            self.mapping = Arc::new(self.writer.mapping().with_upkeep(&upkeep));
        }
    }

    /// Queues all that is owed, once no log is still at its first copy: before that nobody knows who lacks what.
    async fn queue_all_if_complete(&mut self) -> Result<(), Error> {
        if self.mapping.entities.iter().any(Entity::is_two_sided)
            && self.logs.iter().all(|log| !log.is_new)
        {
            self.writer.queue_all().await?;
            self.way_out.nudge_all();
        }
        Ok(())
    }

    /// Applies `first` and what has come with it, as one batch if the limits allow.
    async fn apply_available(
        &mut self,
        first: (Delivery, usize),
        deliveries: &mut Inlet,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        let (mut row_count, mut byte_count) = (0, 0);
        let mut met = HashMap::new();
        let mut next = Some(first);
        while let Some((delivery, held_bytes)) = next {
            if self.is_large(&delivery) {
                self.apply_batch(batch).await?;
                return self.apply_large(delivery).await;
            }
            if self.meets_other_side(&mut met, &delivery) {
                self.apply_batch(std::mem::take(&mut batch)).await?;
                (row_count, byte_count, met) = (0, 0, HashMap::new());
                self.meets_other_side(&mut met, &delivery);
            }
            if let Delivery::Transaction { observations, .. } = &delivery {
                row_count += observations.len();
            }
            byte_count += held_bytes;
            batch.push(delivery);
            if row_count >= self.limits.batch_row_count_max || byte_count >= BATCH_BYTES_MAX {
                break;
            }
            next = deliveries.try_recv();
        }
        self.apply_batch(batch).await
    }

    /// Whether a delivery shows records of an entity of which the batch so far shows records of the other side: what
    /// is new there has to be written before what is new here can be found among it. `met` are those so far.
    fn meets_other_side(&self, met: &mut HashMap<EntityNo, Side>, delivery: &Delivery) -> bool {
        let Delivery::Transaction { stamp, observations } = delivery else { return false };
        let mut meets = false;
        for observation in observations {
            let is_present = matches!(observation.change, Change::Present { .. });
            if is_present && self.mapping.entity(observation.entity).is_matched() {
                meets |= *met.entry(observation.entity).or_insert(stamp.side) != stamp.side;
            }
        }
        meets
    }

    /// Whether a delivery belongs to a large transaction, or is a person's: neither is put into a batch.
    fn is_large(&self, delivery: &Delivery) -> bool {
        match (delivery, &self.large) {
            (
                Delivery::Part { .. }
                | Delivery::Abandoned { .. }
                | Delivery::Decided { .. }
                | Delivery::WholeRead { .. },
                _,
            ) => true,
            (_, None) => false,
            (Delivery::Transaction { stamp, .. }, Some(large)) => stamp.side == large.side,
            (Delivery::Progress { side, .. }, Some(large)) => *side == large.side,
        }
    }

    /// Whole transactions, as one.
    async fn apply_batch(&mut self, batch: Vec<Delivery>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.look_at_places().await?;
        let batch = self.gather(batch);
        if self.large.is_none() {
            return self.start_batch(batch).await;
        }
        // Another side's large transaction is under way: this becomes visible together with it.
        let items = self.with_truncates_spelled_out(batch.items).await?;
        self.write_carefully(items, batch.transactions).await?;
        self.write_positions(&batch.positions, &batch.ended).await?;
        if let Some(large) = &mut self.large {
            large.positions.extend(batch.positions);
        }
        Ok(())
    }

    /// A part of a large transaction, or its end.
    async fn apply_large(&mut self, delivery: Delivery) -> Result<(), Error> {
        self.look_at_places().await?;
        self.settle().await?;
        match delivery {
            Delivery::Part { side, observations } => {
                if self.large.as_ref().is_some_and(|large| large.side != side) {
                    return Err(Error::Interleaved(side));
                }
                if self.large.is_none() {
                    self.begin_large(side).await?;
                }
                self.write_large(side, 0, observations).await
            }
            Delivery::Transaction { stamp, observations } => {
                self.write_large(stamp.side, stamp.at, observations).await?;
                self.end_large(stamp).await
            }
            Delivery::Decided { command, at, author, decisions } => {
                self.apply_decided(command, at, &author, &decisions).await
            }
            Delivery::Abandoned { side } => self.abandon_large(side).await,
            Delivery::WholeRead { side, log, pass } => self.end_reread(side, &log, pass).await,
            // Cannot come before the end of the transaction; harmless, since a later one follows.
            Delivery::Progress { .. } => Ok(()),
        }
    }

    async fn begin_large(&mut self, side: Side) -> Result<(), Error> {
        self.writer.begin().await?;
        let transaction = self.writer.new_transaction_id();
        let is_first = self.logs.iter().any(|log| log.side == side && log.is_new);
        let first_copy =
            if is_first { FirstCopy::begin(&mut self.writer, side).await? } else { None };
        let (positions, sets) = (Vec::new(), BTreeSet::new());
        self.large = Some(Large { side, transaction, first_copy, positions, sets });
        Ok(())
    }

    async fn write_large(
        &mut self,
        side: Side,
        at: i64,
        observations: Vec<Observation>,
    ) -> Result<(), Error> {
        let Some(large) = &self.large else { return Ok(()) };
        let transaction = large.transaction;
        // Who wrote it is told at its end. Ours are not that large, so it is a scan, or as good as one.
        let origin = |entity| self.rereads.origin(side, entity);
        let items: Vec<Item> = observations
            .into_iter()
            .map(|observation| {
                let origin = origin(observation.entity);
                let hand = if origin == Origin::Scan { Hand::Read } else { Hand::Free };
                Item { transaction, side, origin, hand, at, observation }
            })
            .collect();
        let items = self.copy_first(items).await?;
        let items = self.with_truncates_spelled_out(items).await?;
        if !items.is_empty() {
            // Its row comes with the stamp; ids refer to it before, inside the same transaction.
            self.write_carefully(items, Vec::new()).await?;
        }
        self.workload.moved();
        Ok(())
    }

    async fn abandon_large(&mut self, side: Side) -> Result<(), Error> {
        let Some(large) = self.large.take_if(|large| large.side == side) else { return Ok(()) };
        self.candidates.forget();
        self.writer.rollback().await?;
        debug!(%side, "a large transaction broke off; its parts come again");
        if large.positions.is_empty() { Ok(()) } else { Err(Error::BrokenOff(side)) }
    }

    async fn end_large(&mut self, stamp: Stamp) -> Result<(), Error> {
        if let Some(large) = &mut self.large
            && !large.sets.is_empty()
        {
            let (sets, source) = (std::mem::take(&mut large.sets), (large.transaction, stamp.at));
            self.write_sets(stamp.side, source, sets).await?;
        }
        let Some(large) = self.large.take() else { return Ok(()) };
        let mut positions: Vec<_> =
            stamp.position.iter().map(|position| (stamp.side, position.clone())).collect();
        let read_ends = self.ended_parts(&stamp);
        let writes = Writes {
            positions: self.positions_of(&positions),
            transactions: vec![TransactionRow::of_side(large.transaction, stamp)],
            read_ends,
            ..Writes::default()
        };
        self.writer.write_part(&writes).await?;
        self.note_stored(&writes.positions);
        self.guard.note_ends(&writes.read_ends);
        if let Some(first_copy) = large.first_copy {
            self.candidates.forget();
            let refused = first_copy.end(&mut self.writer, large.transaction).await?;
            if !refused.is_empty() {
                self.writer.write_part(&Writes { refusals: refused, ..Writes::default() }).await?;
            }
        }
        self.writer.commit().await?;
        info!(side = %large.side, "applied a large transaction");
        positions.extend(large.positions);
        self.settling_at = Some(Instant::now());
        self.way_out.nudge_all();
        self.publish(&positions).await
    }

    /// Folds and writes `items` inside the open transaction, taking apart what does not fit, and then what
    /// waited for the records that came with them.
    async fn write_carefully(
        &mut self,
        items: Vec<Item>,
        transactions: Vec<TransactionRow>,
    ) -> Result<(), Error> {
        if !transactions.is_empty() {
            // All of them: which ones will be used is not known before the last item is written.
            self.writer.write_part(&Writes { transactions, ..Writes::default() }).await?;
        }
        self.write_items(&items).await
    }

    async fn write_positions(
        &mut self,
        positions: &[(Side, Position)],
        ended: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let positions_now = self.positions_of(positions);
        let read_ends = self.ended_listings(ended);
        let writes = Writes { positions: positions_now, read_ends, ..Writes::default() };
        self.writer.write_part(&writes).await?;
        self.workload.moved();
        self.note_stored(&writes.positions);
        self.guard.note_ends(&writes.read_ends);
        Ok(())
    }

    /// The positions to store, each with what it belongs to. What an Airtable position belongs to is stored even
    /// before there is one: a webhook that nobody remembers would take one of ten places for a week.
    fn positions_of(&self, positions: &[(Side, Position)]) -> Vec<PositionRow> {
        let mut latest: BTreeMap<&str, PositionRow> = BTreeMap::new();
        for log in &self.logs {
            let identity = log.identity.borrow().clone();
            if log.side == Side::Airtable && identity.is_some() && identity != log.stored_identity {
                let (name, position) = (log.name.clone(), String::new());
                latest.insert(
                    &log.name,
                    PositionRow { log: name, side: log.side, position, identity },
                );
            }
        }
        for (side, position) in positions {
            let name = log_name(position);
            let Some(log) = self.logs.iter().find(|log| log.name == name) else { continue };
            // What it belongs to is long, and seldom changes.
            let identity = log.identity.borrow().clone();
            let identity = identity.filter(|it| Some(it) != log.stored_identity.as_ref());
            let position = position.to_string();
            latest.insert(&log.name, PositionRow { log: name, side: *side, position, identity });
        }
        latest.into_values().collect()
    }

    fn note_stored(&mut self, rows: &[PositionRow]) {
        for row in rows {
            if let Some(identity) = &row.identity
                && let Some(log) = self.logs.iter_mut().find(|log| log.name == row.log)
            {
                log.stored_identity = Some(identity.clone());
            }
        }
    }

    /// Tells the captures how far they may let go.
    async fn publish(&mut self, positions: &[(Side, Position)]) -> Result<(), Error> {
        let was_complete = self.logs.iter().all(|log| !log.is_new);
        for (_, position) in positions {
            let name = log_name(position);
            let Some(log) = self.logs.iter_mut().find(|log| log.name == name) else { continue };
            log.is_new = false;
            match (&log.committed, position) {
                (Committed::Lsn(sender), Position::Lsn(lsn)) => {
                    sender.send_replace(Some(*lsn));
                }
                (Committed::Cursor(sender), Position::Cursor(cursor)) => {
                    sender.send_replace(Some(cursor.clone()));
                }
                _ => {}
            }
        }
        if was_complete { Ok(()) } else { self.queue_all_if_complete().await }
    }

    /// A truncate deletes every record that the side has; one of a junction table, every row of it.
    async fn with_truncates_spelled_out(&mut self, items: Vec<Item>) -> Result<Vec<Item>, Error> {
        if !items.iter().any(is_truncate) {
            return Ok(items);
        }
        let mut spelled: Vec<Item> = Vec::new();
        for item in items {
            if !is_truncate(&item) {
                spelled.push(item);
                continue;
            }
            let entity = item.observation.entity;
            let gone: Vec<(SideKey, Change)> =
                if let Change::Element(all) = &item.observation.change {
                    let rows = self.rows_before(item.side, entity, all.field, &spelled).await?;
                    let gone = |row| Change::Element(Element { row, ..all.clone() });
                    rows.into_iter().map(|row| (SideKey::from(""), gone(row))).collect()
                } else {
                    let keys = self.keys_before(item.side, entity, &spelled).await?;
                    keys.into_iter().map(|key| (key, Change::Absent)).collect()
                };
            spelled.extend(gone.into_iter().map(|(key, change)| Item {
                observation: Observation { entity, key, change },
                ..item.clone()
            }));
        }
        Ok(spelled)
    }

    /// The rows of a junction table that are known, and those that come in `items` before.
    async fn rows_before(
        &self,
        side: Side,
        entity: EntityNo,
        field: FieldNo,
        items: &[Item],
    ) -> Result<Vec<SideKey>, Error> {
        let mut rows = self.writer.element_rows(side, entity, field).await?;
        rows.extend(items.iter().filter_map(|item| match &item.observation.change {
            Change::Element(element)
                if item.side == side
                    && item.observation.entity == entity
                    && element.field == field
                    && element.element.is_some() =>
            {
                Some(element.row.clone())
            }
            _ => None,
        }));
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// The records of `side` that canonical knows, and those that come in `items` before.
    async fn keys_before(
        &mut self,
        side: Side,
        entity: EntityNo,
        items: &[Item],
    ) -> Result<Vec<SideKey>, Error> {
        let mut keys = self.writer.keys(side, entity).await?;
        keys.extend(items.iter().filter_map(|item| {
            let observation = &item.observation;
            let is_here = item.side == side
                && observation.entity == entity
                && matches!(observation.change, Change::Present { .. });
            is_here.then(|| observation.key.clone())
        }));
        // Those that come are known already, as a rule; and the journal has them in the same order every time.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// Waits until then; for ever, if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether an item stands for all records, or all rows of a junction table.
fn is_truncate(item: &Item) -> bool {
    match &item.observation.change {
        Change::Truncated => true,
        Change::Element(element) => element.row.0.is_empty(),
        _ => false,
    }
}

/// The name of the log that a position belongs to, in `mirror.position`.
pub(crate) fn log_name(position: &Position) -> String {
    match position {
        Position::Lsn(_) => Side::Directus.name().to_owned(),
        Position::Cursor(cursor) => format!("{}:{}", Side::Airtable, cursor.base),
    }
}
