//! Whole small transactions, many at a time. While one batch is being written, the next one is read and folded:
//! records that both name are taken from the first one's result. Where the next one hangs on more than that
//! (links, sets, what was refused), it waits.

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Instant,
};

use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{Apply, Error, Item, fold::Folded, mass::Hand};
use crate::{
    merge::{Origin, RecordState},
    model::{Change, Delivery, EntityNo, Position, RecordId, Side},
    store::{self, Call, TransactionRow, Writes},
};

/// Transactions that become visible together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) transactions: Vec<TransactionRow>,
    pub(super) positions: Vec<(Side, Position)>,
    /// Logs of Airtable of which a listing, if there was one, has ended.
    pub(super) ended: BTreeSet<String>,
}

/// Records as they are once a batch is written.
pub(super) type Outcomes = HashMap<(EntityNo, RecordId), Arc<RecordState>>;

/// The batch that is being written.
pub(super) struct InFlight {
    batch: Batch,
    writes: Writes,
    pub(super) outcomes: Outcomes,
    task: AbortOnDropHandle<Result<(), store::Error>>,
    written: Option<Result<(), store::Error>>,
}

impl InFlight {
    /// Whether what comes next has to know nothing of it but its records.
    fn is_plain(&self) -> bool {
        let has_keys = |entity: &store::EntityWrites| {
            !(entity.links.is_empty() && entity.links_gone.is_empty() && entity.elements.is_empty())
        };
        self.writes.refusals.is_empty() && !self.writes.entities.iter().any(has_keys)
    }

    /// Waits until it is written or refused.
    async fn end(&mut self) -> &mut Option<Result<(), store::Error>> {
        if self.written.is_none() {
            let outcome = (&mut self.task).await;
            // A task that panicked has written nothing that was committed, or is told so by the stored position.
            self.written =
                Some(outcome.unwrap_or_else(|error| Err(store::Error::BrokenOff(error))));
        }
        &mut self.written
    }

    /// The end of the batch under way; never, if there is none.
    pub(super) async fn end_of(in_flight: &mut Option<Self>) {
        match in_flight {
            Some(in_flight) => drop(in_flight.end().await),
            None => pending().await,
        }
    }
}

impl Apply {
    /// Gives each transaction its id, in the order of application.
    pub(super) fn gather(&mut self, deliveries: Vec<Delivery>) -> Batch {
        let mut batch = Batch::default();
        for delivery in deliveries {
            match delivery {
                Delivery::Transaction { stamp, observations } => {
                    let transaction = self.writer.new_transaction_id();
                    let position = stamp.position.as_ref();
                    self.note_listing(&mut batch.ended, position, &observations);
                    if let Some(position) = position {
                        batch.positions.push((stamp.side, position.clone()));
                    }
                    let (side, at) = (stamp.side, stamp.at);
                    let origin = self.way_out.origin(&stamp);
                    let hand = Hand::of(&stamp, origin);
                    batch.items.extend(observations.into_iter().map(|observation| {
                        let origin = match origin {
                            Origin::Scan => self.rereads.origin(side, observation.entity),
                            told => told,
                        };
                        // What a recovery reads has a yes of its own.
                        let is_counted = origin == Origin::Scan || !origin.is_scan();
                        let hand = if is_counted { hand.clone() } else { Hand::Free };
                        Item { transaction, side, origin, hand, at, observation }
                    }));
                    batch.transactions.push(TransactionRow::of_side(transaction, stamp));
                }
                Delivery::Progress { side, position } => {
                    self.note_listing(&mut batch.ended, Some(&position), &[]);
                    batch.positions.push((side, position));
                }
                // These go to `apply_large`.
                Delivery::Part { .. }
                | Delivery::Abandoned { .. }
                | Delivery::Decided { .. }
                | Delivery::WholeRead { .. } => {}
            }
        }
        batch
    }

    /// Folds a batch and has it written; it is over with the next [`Apply::settle`]. Where the database finds
    /// fault with the data, it is written once more, carefully.
    pub(super) async fn start_batch(&mut self, mut batch: Batch) -> Result<(), Error> {
        if !self.can_look_ahead(&batch.items) {
            self.settle().await?;
            batch.items = self.with_truncates_spelled_out(batch.items).await?;
        }
        let began = Instant::now();
        let mut ready = self.make_ready(&batch).await?;
        let fold_ms = began.elapsed().as_millis();
        let settled = self.settle().await?;
        if settled.is_other_than_folded {
            self.candidates.forget();
            ready = self.make_ready(&batch).await?;
        }
        debug!(
            row_count = batch.items.len(),
            fold_ms,
            wait_ms = began.elapsed().as_millis() - fold_ms,
            "folded a batch"
        );
        let Some(Ready { writes, outcomes, calls }) = ready else {
            self.write_batch_carefully(&batch).await?;
            return self.publish(&batch.positions).await;
        };
        let task = self.writer.write(calls);
        self.in_flight = Some(InFlight { batch, writes, outcomes, task, written: None });
        // To let go of a batch takes a while; only now, when the server has work again.
        drop(settled);
        Ok(())
    }

    /// Folds a batch; `None` where it has to be written carefully, since refused cells wait for its records.
    async fn make_ready(&mut self, batch: &Batch) -> Result<Option<Ready>, Error> {
        let Folded { mut writes, awaited, outcomes } = self.fold(&batch.items).await?;
        // A batch that refuses something is never in flight here: all refusals are there to be read.
        if !awaited.is_empty() && !self.items_waiting_for(&awaited).await?.is_empty() {
            return Ok(None);
        }
        writes.transactions = used(&writes, &batch.transactions);
        writes.positions = self.positions_of(&batch.positions);
        writes.read_ends = self.ended_listings(&batch.ended);
        let calls = self.writer.calls(&writes);
        Ok(Some(Ready { writes, outcomes, calls }))
    }

    /// Whether there is a batch under way, and `items` can be folded before it is written.
    fn can_look_ahead(&self, items: &[Item]) -> bool {
        let Some(in_flight) = &self.in_flight else { return false };
        let is_plain = |item: &Item| {
            matches!(item.observation.change, Change::Present { .. } | Change::Absent)
        };
        in_flight.is_plain() && items.iter().all(is_plain) && !self.has_keys_to_look_up(items)
    }

    /// Waits for the batch under way, if there is one, and tells its positions.
    pub(super) async fn settle(&mut self) -> Result<Settled, Error> {
        let Some(mut in_flight) = self.in_flight.take() else { return Ok(Settled::default()) };
        let is_other_than_folded = match in_flight.end().await.take() {
            Some(Err(error)) if error.is_about_data() => {
                debug!(row_count = in_flight.batch.items.len(), %error, "a batch holds a record that does not fit");
                self.write_batch_carefully(&in_flight.batch).await?;
                true
            }
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(())) | None => {
                self.writer.note(&in_flight.writes);
                self.way_out.nudge(&in_flight.writes);
                self.note_settling(&in_flight.writes);
                self.note_stored(&in_flight.writes.positions);
                self.guard.note_ends(&in_flight.writes.read_ends);
                false
            }
        };
        self.workload.moved();
        self.publish(&in_flight.batch.positions).await?;
        Ok(Settled { is_other_than_folded, _batch: Some(in_flight) })
    }

    async fn write_batch_carefully(&mut self, batch: &Batch) -> Result<(), Error> {
        self.candidates.forget();
        self.writer.begin().await?;
        let outcome = async {
            self.write_carefully(batch.items.clone(), batch.transactions.clone()).await?;
            self.write_positions(&batch.positions, &batch.ended).await?;
            Ok::<_, Error>(self.writer.commit().await?)
        }
        .await;
        if outcome.is_ok() {
            self.settling_at = Some(tokio::time::Instant::now());
            self.way_out.nudge_all();
        } else {
            self.candidates.forget();
            drop(self.writer.rollback().await);
        }
        outcome
    }
}

/// A folded batch, and what has to be sent for it.
struct Ready {
    writes: Writes,
    outcomes: Outcomes,
    calls: Vec<Call>,
}

/// How the batch under way ended.
#[derive(Default)]
pub(super) struct Settled {
    /// Some of it did not fit: what was folded on top of it does not hold.
    is_other_than_folded: bool,
    /// Let go of with this.
    _batch: Option<InFlight>,
}

/// The transactions that something in `writes` refers to: those that changed nothing leave no row.
fn used(writes: &Writes, transactions: &[TransactionRow]) -> Vec<TransactionRow> {
    let mut ids: Vec<i64> = writes.journal.iter().map(|row| row.transaction).collect();
    ids.extend(writes.conflicts.iter().filter_map(|step| match step {
        store::ConflictStep::Met(row) => Some(row.transaction),
        store::ConflictStep::Over(..) => None,
    }));
    ids.extend(writes.refusals.iter().map(|row| row.transaction));
    ids.extend(writes.unfit.iter().map(|row| row.transaction));
    ids.extend(writes.passages.iter().map(|row| row.transaction));
    for entity in &writes.entities {
        ids.extend(entity.absences.iter().map(|row| row.transaction));
        ids.extend(entity.doomed.iter().map(|row| row.transaction));
    }
    ids.sort_unstable();
    ids.dedup();
    transactions.iter().filter(|row| ids.binary_search(&row.id).is_ok()).cloned().collect()
}
