//! A side's log → observations. In: the WAL of the Postgres under Directus, the payloads of Airtable's
//! webhooks. Out: [`crate::model::Delivery`]s in log order through a bounded channel. What becomes of them,
//! [`crate::apply`] decides; how far it has got, a watch channel tells.

pub(crate) mod airtable;
pub(crate) mod console;
pub(crate) mod directus;
mod lineage;
#[cfg(test)]
pub(crate) mod lineage_testing;

use std::{future::Future, pin::Pin};

use crate::model::{EntityNo, FieldNo, Position, Side, SideKey};

pub(crate) use lineage::{Answer, Epoch, FIRST_PASS, Installation, LAST_PASS, Lineage, Reread};

/// What the canonical database knows to exist on a side: asked by a full read (snapshot, listing), so that
/// it can report the records that are gone as absent.
pub(crate) trait KnownKeys: Send + Sync {
    /// The keys of all living records of `entity` on `side`.
    fn keys<'a>(
        &'a self,
        side: Side,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>>;

    /// The keys of all known rows of the junction table that holds `field` of `entity` on `side`. None, unless
    /// the implementor says otherwise: then elements that went while nobody listened stay.
    fn elements<'a>(
        &'a self,
        _side: Side,
        _entity: EntityNo,
        _field: FieldNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Whether values may be called by the new name that an option of Airtable was given.
pub(crate) trait OtherChoices: Send + Sync {
    /// Whether the other side's field takes it as one of its choices, or a person said yes to it.
    fn take<'a>(
        &'a self,
        entity: EntityNo,
        field: FieldNo,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, anyhow::Error>> + Send + 'a>>;
}

/// How a capture is doing, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaptureStatus {
    pub(crate) state: State,
    /// How far the log was read; what is applied of it, `apply` knows.
    pub(crate) position: Option<Position>,
    /// Time of the latest change seen in the log, µs since 1970 UTC, by the side's clock.
    pub(crate) last_change_at: Option<i64>,
    /// Bytes of log not read yet, where the side can tell.
    pub(crate) lag_bytes: Option<u64>,
    /// Age of the oldest change not read yet; 0 when there is none.
    pub(crate) lag_ms: Option<u64>,
}

impl CaptureStatus {
    pub(crate) fn starting() -> Self {
        Self {
            state: State::Starting,
            position: None,
            last_change_at: None,
            lag_bytes: None,
            lag_ms: None,
        }
    }
}

/// What a capture is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    /// A full read: records so far, and how many there will be if that is known.
    Copying {
        done: u64,
        total: Option<u64>,
    },
    Streaming,
    /// Another part of Plait has to come to its end first.
    WaitingFor {
        what: String,
    },
    /// Waiting cures it; the reason is for people.
    Waiting {
        reason: String,
    },
    /// A person has to do something on this side; the reason says what. It is tried again all the same.
    Suspended {
        reason: String,
    },
    Stopped,
}
