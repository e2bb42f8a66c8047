//! A canonical end of the tie for tests of captures alone: kept in memory, shared by the captures that a test opens one
//! after the other.

use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::{Answer, Epoch, Installation, Lineage, Reread};
use crate::model::Rewound;

/// What it remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) epoch: Epoch,
    /// What went back, and what proved it.
    pub(crate) entered: Vec<(Rewound, String)>,
    pub(crate) reread: Option<Reread>,
    /// The passes that were begun.
    pub(crate) begun: Vec<(Rewound, i16)>,
    pub(crate) is_known: bool,
}

/// One installation.
#[derive(Clone, Debug)]
pub(crate) struct InMemory {
    installation: Installation,
    pub(crate) memory: Arc<Mutex<Memory>>,
}

impl InMemory {
    pub(crate) fn new(id: u128) -> Self {
        let id = Uuid::from_u128(id);
        let (seat, place) = (format!("7/{id}"), format!("db-{}:5432/plait", id.as_u128()));
        Self { installation: Installation { id, seat, place }, memory: Arc::default() }
    }
}

impl InMemory {
    /// The same installation in another database.
    pub(crate) fn moved(mut self, seat: &str) -> Self {
        self.installation.seat = seat.to_owned();
        self
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Lineage for InMemory {
    fn installation(&self) -> &Installation {
        &self.installation
    }

    fn epoch(&self) -> Answer<'_, Epoch> {
        Box::pin(async { Ok(self.memory.lock().unwrap().epoch.clone()) })
    }

    fn next_epoch(&self, beyond: i64) -> Answer<'_, i64> {
        Box::pin(async move {
            let epoch = &mut self.memory.lock().unwrap().epoch;
            epoch.given = epoch.given.max(beyond) + 1;
            Ok(epoch.given)
        })
    }

    fn note_marked(&self, marked: i64) -> Answer<'_, ()> {
        Box::pin(async move {
            self.memory.lock().unwrap().epoch.marked = marked;
            Ok(())
        })
    }

    fn note_copying<'a>(&'a self, from: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.memory.lock().unwrap().epoch.copying_from = Some(from.to_owned());
            Ok(())
        })
    }

    fn enter<'a>(&'a self, _: &'a str, rewound: Rewound, reason: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut memory = self.memory.lock().unwrap();
            memory.entered.push((rewound, reason.to_owned()));
            memory.reread = Some(Reread { rewound, has_first_pass: false });
            Ok(())
        })
    }

    fn wanted<'a>(&'a self, _: &'a str) -> Answer<'a, Option<Reread>> {
        Box::pin(async { Ok(self.memory.lock().unwrap().reread) })
    }

    fn begin(&self, _: &str, rewound: Rewound, pass: i16) {
        let mut memory = self.memory.lock().unwrap();
        memory.begun.push((rewound, pass));
        memory.reread = None;
    }

    fn until_others_read<'a>(&'a self, _: &'a str, _: i16) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn vouch(&self, _: &str, is_known: bool) {
        self.memory.lock().unwrap().is_known = is_known;
    }

    fn until_canonical_is_known(&self) -> Answer<'_, bool> {
        Box::pin(async { Ok(true) })
    }
}
