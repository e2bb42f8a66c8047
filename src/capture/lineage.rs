//! What ties a log to the canonical database that remembers how far it was read: who this installation is, the epoch
//! that is kept on both ends, and what is read whole where one of them went back in time.

use std::{future::Future, pin::Pin};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::model::{EntityNo, FieldNo, Rewound};

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, anyhow::Error>> + Send + 'a>>;

/// Who this installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    pub(crate) id: Uuid,
    /// The cluster and the database that canonical is in now: a copy of it has the same id and another seat.
    pub(crate) seat: String,
    /// `host:port/database` of canonical, for people.
    pub(crate) place: String,
}

impl Installation {
    /// What servers show of our sessions: a dead one of this very database is told from all others by it.
    pub(crate) fn application(&self) -> String {
        let digest = Sha256::digest(format!("{} {}", self.id, self.seat));
        let [a, b, c, d, ..]: [u8; 32] = digest.into();
        format!("plait {a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// How canonical and the mark outside it stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// The latest that was given out; the mark outside has it, or is about to.
    pub(crate) given: i64,
    /// The latest that the mark is known to have had.
    pub(crate) marked: i64,
    /// The stored position when the slot was last about to be made anew; empty: there was none.
    pub(crate) copying_from: Option<String>,
}

/// A full read that a recovery wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reread {
    pub(crate) rewound: Rewound,
    /// Whether the first pass, which takes only records that carry their canonical id, is still to be made.
    pub(crate) has_first_pass: bool,
}

/// The first pass over a log in a recovery takes the records that carry their id, the last one all of them.
pub(crate) const FIRST_PASS: i16 = 1;
pub(crate) const LAST_PASS: i16 = 2;

/// The canonical end of the tie, handed in by `pipeline`.
pub(crate) trait Lineage: Send + Sync {
    fn installation(&self) -> &Installation;

    fn epoch(&self) -> Answer<'_, Epoch>;

    /// Gives out an epoch later than all before and than `beyond`; stored before it is told.
    fn next_epoch(&self, beyond: i64) -> Answer<'_, i64>;

    /// The mark outside has this epoch now.
    fn note_marked(&self, epoch: i64) -> Answer<'_, ()>;

    /// The slot is about to be made anew; `from`: the stored position, empty if there is none.
    fn note_copying<'a>(&'a self, from: &'a str) -> Answer<'a, ()>;

    /// Enters recovery: from now on nothing is written to any side. Nothing is done where it was entered before.
    fn enter<'a>(&'a self, log: &'a str, rewound: Rewound, reason: &'a str) -> Answer<'a, ()>;

    /// What an open recovery wants to be read of this log.
    fn wanted<'a>(&'a self, log: &'a str) -> Answer<'a, Option<Reread>>;

    /// What is read whole of this log from now on, until [`crate::model::Delivery::WholeRead`], belongs to a recovery.
    fn begin(&self, log: &str, rewound: Rewound, pass: i16);

    /// What the next full read of these Airtable tables shows of these fields follows from a change of the schema: nobody
    /// is asked about it.
    fn expect(&self, _entities: &[EntityNo], _fields: &[(EntityNo, FieldNo)]) {}

    /// Waits until this pass over the logs that come before this one is applied.
    fn until_others_read<'a>(&'a self, log: &'a str, pass: i16) -> Answer<'a, ()>;

    /// Whether this log is known to be the one that was read before, and canonical the one that read it. Only then
    /// anything is written.
    fn vouch(&self, log: &str, is_known: bool);

    /// Waits until the log that can tell has vouched for canonical; `false`: it has not within a while.
    fn until_canonical_is_known(&self) -> Answer<'_, bool>;
}
