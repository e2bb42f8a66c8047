//! What captures have handed over and `apply` has not taken yet: bounded by its rows and by its bytes, whatever the
//! size of a delivery. A transaction of one row and a part of two thousand are not the same to memory, and neither are
//! a row of numbers and one with a megabyte of text.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::model::Delivery;

/// What all deliveries in a queue take, as [`Delivery::held_bytes`] estimates it. Ordinary rows reach the bound of rows
/// first.
const KIB_MAX: u32 = 64 * 1024;

/// `apply` is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A queue with room for `row_count_max` rows, and for [`KIB_MAX`]. A larger delivery goes in when the queue is empty.
pub(crate) fn queue(row_count_max: u32) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let rows = Arc::new(Semaphore::new(row_count_max as usize));
    let bytes = Arc::new(Semaphore::new(KIB_MAX as usize));
    (Outlet { sender, rows, row_count_max, bytes }, Inlet { receiver })
}

/// The captures' end.
#[derive(Clone)]
pub(crate) struct Outlet {
    sender: mpsc::UnboundedSender<Queued>,
    rows: Arc<Semaphore>,
    row_count_max: u32,
    /// A permit is a KiB.
    bytes: Arc<Semaphore>,
}

struct Queued {
    delivery: Delivery,
    held_bytes: usize,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Outlet {
    /// Waits for room, and puts `delivery` into it.
    pub(crate) async fn send(&self, delivery: Delivery) -> Result<(), Closed> {
        self.reserve(&delivery).await?.send(delivery)
    }

    /// Whether `apply` is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits for room for `delivery`. To stop waiting loses nothing.
    pub(crate) async fn reserve(&self, delivery: &Delivery) -> Result<Room, Closed> {
        let row_count = match delivery {
            Delivery::Transaction { observations, .. } | Delivery::Part { observations, .. } => {
                u32::try_from(observations.len()).unwrap_or(u32::MAX)
            }
            Delivery::Abandoned { .. }
            | Delivery::Progress { .. }
            | Delivery::Decided { .. }
            | Delivery::WholeRead { .. } => 1,
        };
        let held_bytes = delivery.held_bytes();
        let kib = u32::try_from(held_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let take = async |room: &Arc<Semaphore>, count| {
            Arc::clone(room).acquire_many_owned(count).await.map_err(|_| Closed)
        };
        // Everybody takes both in this order: nobody waits for rows with bytes in hand.
        let rows = take(&self.rows, row_count.clamp(1, self.row_count_max)).await?;
        let bytes = take(&self.bytes, kib.clamp(1, KIB_MAX)).await?;
        Ok(Room { sender: self.sender.clone(), held_bytes, room: (rows, bytes) })
    }
}

/// Room for one delivery.
pub(crate) struct Room {
    sender: mpsc::UnboundedSender<Queued>,
    held_bytes: usize,
    room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Room {
    pub(crate) fn send(self, delivery: Delivery) -> Result<(), Closed> {
        let Self { sender, held_bytes, room } = self;
        sender.send(Queued { delivery, held_bytes, _room: room }).map_err(|_| Closed)
    }
}

/// The end of `apply`. What it takes out leaves its room to the next.
pub(crate) struct Inlet {
    receiver: mpsc::UnboundedReceiver<Queued>,
}

impl Inlet {
    /// The next delivery and its [`Delivery::held_bytes`]; `None` when all captures are gone. To stop waiting loses
    /// nothing.
    pub(crate) async fn recv(&mut self) -> Option<(Delivery, usize)> {
        self.receiver.recv().await.map(|queued| (queued.delivery, queued.held_bytes))
    }

    /// The next delivery and its [`Delivery::held_bytes`], if there is one now.
    pub(crate) fn try_recv(&mut self) -> Option<(Delivery, usize)> {
        self.receiver.try_recv().ok().map(|queued| (queued.delivery, queued.held_bytes))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::model::{Cell, Change, EntityNo, FieldNo, Observation, Side, Value};

    fn part(row_count: usize) -> Delivery {
        let row = Observation { entity: EntityNo(0), key: "".into(), change: Change::Truncated };
        Delivery::Part { side: Side::Directus, observations: vec![row; row_count] }
    }

    fn taken(next: Option<(Delivery, usize)>) -> Option<Delivery> {
        next.map(|(delivery, _)| delivery)
    }

    /// One row with a text of so many bytes.
    fn wide(byte_count: usize) -> Delivery {
        let cells = vec![(FieldNo(0), Cell::Value(Value::Text("x".repeat(byte_count))))];
        let change = Change::Present { cells, claimed_id: None, made_at: None };
        let row = Observation { entity: EntityNo(0), key: "".into(), change };
        Delivery::Part { side: Side::Directus, observations: vec![row] }
    }

    #[tokio::test]
    async fn bytes_bound_it_and_what_is_larger_than_it_still_passes() {
        let (outlet, mut inlet) = queue(1_000_000);
        let half = KIB_MAX as usize * 1024 / 2;
        outlet.send(wide(half)).await.unwrap();
        let beyond = wide(3 * half);
        let mut waiting = Box::pin(outlet.reserve(&beyond));
        assert!(poll!(&mut waiting).is_pending());
        let (_, held_bytes) = inlet.recv().await.unwrap();
        assert!((half..half + 1_000).contains(&held_bytes), "{held_bytes}");
        waiting.await.unwrap().send(beyond.clone()).unwrap();
        assert!(poll!(Box::pin(outlet.send(part(1)))).is_pending());
        assert!(taken(inlet.recv().await) == Some(beyond));
    }

    #[tokio::test]
    async fn rows_bound_it_and_what_is_larger_than_it_still_passes() {
        let (outlet, mut inlet) = queue(10);
        outlet.send(part(6)).await.unwrap();
        let large = part(50);
        let mut waiting = Box::pin(outlet.reserve(&large));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(taken(inlet.recv().await), Some(part(6)));
        waiting.await.unwrap().send(large.clone()).unwrap();
        let next = part(1);
        assert!(poll!(Box::pin(outlet.send(next))).is_pending());
        assert_eq!(taken(inlet.try_recv()), Some(large));
        assert_eq!(inlet.try_recv(), None);
        drop(inlet);
        assert_eq!(outlet.send(part(1)).await, Err(Closed));
    }
}
