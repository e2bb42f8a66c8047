//! What captures have handed over and `apply` has not taken yet: bounded by the rows in it, whatever the size of a
//! delivery. A transaction of one row and a part of two thousand are not the same to memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::model::Delivery;

/// `apply` is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A queue with room for `row_count_max` rows. A larger delivery goes in when the queue is empty.
pub(crate) fn queue(row_count_max: u32) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(row_count_max as usize));
    (Outlet { sender, room, row_count_max }, Inlet { receiver })
}

/// The captures' end.
#[derive(Clone)]
pub(crate) struct Outlet {
    sender: mpsc::UnboundedSender<(Delivery, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    row_count_max: u32,
}

impl Outlet {
    /// Waits for room, and puts `delivery` into it.
    pub(crate) async fn send(&self, delivery: Delivery) -> Result<(), Closed> {
        self.reserve(&delivery).await?.send(delivery)
    }

    /// Waits for room for `delivery`. To stop waiting loses nothing.
    pub(crate) async fn reserve(&self, delivery: &Delivery) -> Result<Room, Closed> {
        let row_count = match delivery {
            Delivery::Transaction { observations, .. } | Delivery::Part { observations, .. } => {
                u32::try_from(observations.len()).unwrap_or(u32::MAX)
            }
            Delivery::Abandoned { .. } | Delivery::Progress { .. } | Delivery::Decided { .. } => 1,
        };
        let row_count = row_count.clamp(1, self.row_count_max);
        let permit = Arc::clone(&self.room).acquire_many_owned(row_count);
        let permit = permit.await.map_err(|_| Closed)?;
        Ok(Room { sender: self.sender.clone(), permit })
    }
}

/// Room for one delivery.
pub(crate) struct Room {
    sender: mpsc::UnboundedSender<(Delivery, OwnedSemaphorePermit)>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn send(self, delivery: Delivery) -> Result<(), Closed> {
        self.sender.send((delivery, self.permit)).map_err(|_| Closed)
    }
}

/// The end of `apply`. What it takes out leaves its room to the next.
pub(crate) struct Inlet {
    receiver: mpsc::UnboundedReceiver<(Delivery, OwnedSemaphorePermit)>,
}

impl Inlet {
    /// The next delivery; `None` when all captures are gone. To stop waiting loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<Delivery> {
        self.receiver.recv().await.map(|(delivery, _)| delivery)
    }

    /// The next delivery, if there is one now.
    pub(crate) fn try_recv(&mut self) -> Option<Delivery> {
        self.receiver.try_recv().ok().map(|(delivery, _)| delivery)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::model::{Change, EntityNo, Observation, Side};

    fn part(row_count: usize) -> Delivery {
        let row = Observation { entity: EntityNo(0), key: "".into(), change: Change::Truncated };
        Delivery::Part { side: Side::Directus, observations: vec![row; row_count] }
    }

    #[tokio::test]
    async fn rows_bound_it_and_what_is_larger_than_it_still_passes() {
        let (outlet, mut inlet) = queue(10);
        outlet.send(part(6)).await.unwrap();
        let large = part(50);
        let mut waiting = Box::pin(outlet.reserve(&large));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(inlet.recv().await, Some(part(6)));
        waiting.await.unwrap().send(large.clone()).unwrap();
        let next = part(1);
        assert!(poll!(Box::pin(outlet.send(next))).is_pending());
        assert_eq!(inlet.try_recv(), Some(large));
        assert_eq!(inlet.try_recv(), None);
        drop(inlet);
        assert_eq!(outlet.send(part(1)).await, Err(Closed));
    }
}
