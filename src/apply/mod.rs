//! Observations → records. In: deliveries from all captures through one bounded channel. Out, in one
//! transaction: canonical rows, record states, journal, conflicts, refusals, positions. What to write,
//! [`crate::merge`] says. Only after the commit does a position go out, for slot and cursor to follow.
//!
//! A transaction of a side is never cut in two by a reader of canonical: a batch is one or more whole ones,
//! and the parts of a large one share one transaction here.

mod careful;
mod first_copy;
mod fold;
mod resolve;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::{
    mapping::Mapping,
    model::{Change, Cursor, Delivery, EntityNo, Lsn, Observation, Position, Side, SideKey, Stamp},
    store::{self, FirstCopy, TransactionRow, Writer, Writes},
};

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
    pub(crate) committed: Committed,
    /// Whether this log has no stored position yet: what comes first is a first copy.
    pub(crate) is_new: bool,
}

/// Where a capture learns how far its log is applied for good.
pub(crate) enum Committed {
    Lsn(watch::Sender<Option<Lsn>>),
    Cursor(watch::Sender<Option<Cursor>>),
}

/// An observation with the transaction that it is part of.
#[derive(Clone, Debug)]
struct Item {
    transaction: i64,
    side: Side,
    at: i64,
    observation: Observation,
}

/// The loop, and what it holds between batches.
pub(crate) struct Apply {
    writer: Writer,
    mapping: Arc<Mapping>,
    logs: Vec<Log>,
    limits: Limits,
    /// The large transaction under way, if any.
    large: Option<Large>,
}

/// A transaction whose parts are being written before its stamp is known.
struct Large {
    side: Side,
    transaction: i64,
    first_copy: Option<FirstCopy>,
    /// Positions of other sides' transactions that were written in between: out with this one's commit.
    positions: Vec<(Side, Position)>,
}

impl Apply {
    pub(crate) fn new(writer: Writer, logs: Vec<Log>, limits: Limits) -> Self {
        let mapping = Arc::clone(writer.mapping());
        Self { writer, mapping, logs, limits, large: None }
    }

    /// Applies until the captures are gone and all that they sent is applied.
    ///
    /// # Errors
    /// When the canonical database fails; nothing of the batch under way is in it then, and reading the logs
    /// again from the stored positions brings it back.
    pub(crate) async fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Delivery>,
    ) -> Result<(), Error> {
        let mut waiting = Vec::new();
        while deliveries.recv_many(&mut waiting, self.limits.batch_row_count_max).await > 0 {
            self.apply_all(&mut waiting).await?;
        }
        Ok(())
    }

    /// Applies `waiting` in order, in batches as large as allowed.
    async fn apply_all(&mut self, waiting: &mut Vec<Delivery>) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut row_count = 0;
        for delivery in waiting.drain(..) {
            let is_large = match (&delivery, &self.large) {
                (Delivery::Part { .. } | Delivery::Abandoned { .. }, _) => true,
                (_, None) => false,
                (Delivery::Transaction { stamp, .. }, Some(large)) => stamp.side == large.side,
                (Delivery::Progress { side, .. }, Some(large)) => *side == large.side,
            };
            if is_large {
                self.apply_batch(std::mem::take(&mut batch)).await?;
                row_count = 0;
                self.apply_large(delivery).await?;
                continue;
            }
            row_count += match &delivery {
                Delivery::Transaction { observations, .. } => observations.len(),
                _ => 0,
            };
            batch.push(delivery);
            if row_count >= self.limits.batch_row_count_max {
                self.apply_batch(std::mem::take(&mut batch)).await?;
                row_count = 0;
            }
        }
        self.apply_batch(batch).await
    }

    /// Whole transactions, as one.
    async fn apply_batch(&mut self, batch: Vec<Delivery>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut items = Vec::new();
        let mut transactions = Vec::new();
        let mut positions: Vec<(Side, Position)> = Vec::new();
        for delivery in batch {
            match delivery {
                Delivery::Transaction { stamp, observations } => {
                    let id = self.writer.new_transaction_id();
                    if let Some(position) = &stamp.position {
                        positions.push((stamp.side, position.clone()));
                    }
                    let (side, at) = (stamp.side, stamp.at);
                    items.extend(observations.into_iter().map(|observation| Item {
                        transaction: id,
                        side,
                        at,
                        observation,
                    }));
                    transactions.push(TransactionRow { id, stamp });
                }
                Delivery::Progress { side, position } => positions.push((side, position)),
                // These go to `apply_large`.
                Delivery::Part { .. } | Delivery::Abandoned { .. } => {}
            }
        }
        let items = self.with_truncates_spelled_out(items).await?;
        if self.large.is_some() {
            // Another side's large transaction is under way: this becomes visible together with it.
            self.write_carefully(items, transactions).await?;
            let writes = self.position_writes(&positions);
            self.writer.write_part(writes).await?;
            if let Some(large) = &mut self.large {
                large.positions.extend(positions);
            }
        } else {
            self.write_batch(items, transactions, &positions).await?;
            self.publish(&positions);
        }
        Ok(())
    }

    /// The usual way: fold, write, commit at once. Where the database finds fault with the data, once more,
    /// carefully.
    async fn write_batch(
        &mut self,
        items: Vec<Item>,
        transactions: Vec<TransactionRow>,
        positions: &[(Side, Position)],
    ) -> Result<(), Error> {
        let folded = self.fold(&items).await?;
        let awaited = folded.awaited;
        let mut writes = folded.writes;
        if awaited.is_empty() {
            writes.transactions = used(&writes, &transactions);
            writes.positions = self.position_writes(positions).positions;
            match self.writer.write(writes).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_about_data() => {
                    debug!(row_count = items.len(), %error, "a batch holds a record that does not fit");
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.writer.begin().await?;
        let outcome = async {
            self.write_carefully(items, transactions).await?;
            let writes = self.position_writes(positions);
            self.writer.write_part(writes).await?;
            Ok::<_, Error>(self.writer.commit().await?)
        }
        .await;
        if outcome.is_err() {
            drop(self.writer.rollback().await);
        }
        outcome
    }

    /// A part of a large transaction, or its end.
    async fn apply_large(&mut self, delivery: Delivery) -> Result<(), Error> {
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
            Delivery::Abandoned { side } => self.abandon_large(side).await,
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
        self.large = Some(Large { side, transaction, first_copy, positions: Vec::new() });
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
        let items: Vec<Item> = observations
            .into_iter()
            .map(|observation| Item { transaction, side, at, observation })
            .collect();
        let items = self.copy_first(items).await?;
        let items = self.with_truncates_spelled_out(items).await?;
        if !items.is_empty() {
            // Its row comes with the stamp; ids refer to it before, inside the same transaction.
            self.write_carefully(items, Vec::new()).await?;
        }
        Ok(())
    }

    async fn abandon_large(&mut self, side: Side) -> Result<(), Error> {
        let Some(large) = self.large.take_if(|large| large.side == side) else { return Ok(()) };
        self.writer.rollback().await?;
        debug!(%side, "a large transaction broke off; its parts come again");
        if large.positions.is_empty() { Ok(()) } else { Err(Error::BrokenOff(side)) }
    }

    async fn end_large(&mut self, stamp: Stamp) -> Result<(), Error> {
        let Some(large) = self.large.take() else { return Ok(()) };
        let mut positions: Vec<_> =
            stamp.position.iter().map(|position| (stamp.side, position.clone())).collect();
        let mut writes = self.position_writes(&positions);
        writes.transactions.push(TransactionRow { id: large.transaction, stamp });
        self.writer.write_part(writes).await?;
        if let Some(first_copy) = large.first_copy {
            let refused = first_copy.end(&mut self.writer, large.transaction).await?;
            if !refused.is_empty() {
                self.writer.write_part(Writes { refusals: refused, ..Writes::default() }).await?;
            }
        }
        self.writer.commit().await?;
        info!(side = %large.side, "applied a large transaction");
        positions.extend(large.positions);
        self.publish(&positions);
        Ok(())
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
            self.writer.write_part(Writes { transactions, ..Writes::default() }).await?;
        }
        let mut items = items;
        while !items.is_empty() {
            items = self.write_items(items).await?;
        }
        Ok(())
    }

    /// The positions to store, each with what it belongs to. What an Airtable position belongs to is stored even
    /// before there is one: a webhook that nobody remembers would take one of ten places for a week.
    fn position_writes(&mut self, positions: &[(Side, Position)]) -> Writes {
        let mut latest: BTreeMap<String, (Side, String, Option<serde_json::Value>)> =
            BTreeMap::new();
        for log in &mut self.logs {
            if log.side == Side::Airtable && log.identity.has_changed().unwrap_or(false) {
                let identity = log.identity.borrow_and_update().clone();
                latest.insert(log.name.clone(), (log.side, String::new(), identity));
            }
        }
        for (side, position) in positions {
            let name = log_name(position);
            let log = self.logs.iter().find(|log| log.name == name);
            let identity = log.and_then(|log| log.identity.borrow().clone());
            latest.insert(name, (*side, position.to_string(), identity));
        }
        let positions = latest.into_iter();
        let positions = positions
            .map(|(name, (side, position, identity))| (name, side, position, identity))
            .collect();
        Writes { positions, ..Writes::default() }
    }

    /// Tells the captures how far they may let go.
    fn publish(&mut self, positions: &[(Side, Position)]) {
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
    }

    /// A truncate deletes every record that the side has.
    async fn with_truncates_spelled_out(&mut self, items: Vec<Item>) -> Result<Vec<Item>, Error> {
        let is_truncate = |item: &Item| item.observation.change == Change::Truncated;
        if !items.iter().any(is_truncate) {
            return Ok(items);
        }
        let mut spelled = Vec::new();
        for item in items {
            if !is_truncate(&item) {
                spelled.push(item);
                continue;
            }
            let entity = item.observation.entity;
            for key in self.keys_before(item.side, entity, &spelled).await? {
                let observation = Observation { entity, key, change: Change::Absent };
                spelled.push(Item { observation, ..item.clone() });
            }
        }
        Ok(spelled)
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
        Ok(keys)
    }
}

/// The name of the log that a position belongs to, in `mirror.position`.
pub(crate) fn log_name(position: &Position) -> String {
    match position {
        Position::Lsn(_) => Side::Directus.name().to_owned(),
        Position::Cursor(cursor) => format!("{}:{}", Side::Airtable, cursor.base),
    }
}

/// The transactions that something in `writes` refers to: those that changed nothing leave no row.
fn used(writes: &Writes, transactions: &[TransactionRow]) -> Vec<TransactionRow> {
    let mut ids: Vec<i64> = writes.journal.iter().map(|row| row.transaction).collect();
    ids.extend(writes.conflicts.iter().map(|row| row.transaction));
    ids.extend(writes.refusals.iter().map(|row| row.transaction));
    for entity in &writes.entities {
        ids.extend(entity.absences.iter().map(|row| row.transaction));
    }
    ids.sort_unstable();
    ids.dedup();
    transactions
        .iter()
        .filter(|row| ids.binary_search(&row.id).is_ok())
        .map(|row| TransactionRow { id: row.id, stamp: row.stamp.clone() })
        .collect()
}
