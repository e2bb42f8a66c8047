//! What the capture is told, and what it tells: settings, links to the other tasks, status.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::lineage::Witness;
use crate::{
    capture::{KnownKeys, Lineage},
    mapping::{AccountGuard, KeyGivers, Mapping},
    model::{Incident, Lsn, Notice},
    postgres::TlsMode,
    queue::Outlet,
};

/// Whether `directus_activity` is read for the authors of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ActivityMode {
    /// If the table is there and may be published.
    #[default]
    Auto,
    On,
    Off,
}

/// The Postgres to read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SourceSettings {
    /// Name, address, or the folder of a Unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) tls: TlsMode,
    /// PEM file of the authorities to trust; `None`: those that browsers trust.
    pub(crate) ca: Option<PathBuf>,
    /// `[a-z0-9_]`, as the server wants it.
    pub(crate) slot: String,
    /// `[a-z0-9_]`. The one for authors has `_author` behind it.
    pub(crate) publication: String,
    pub(crate) activity: ActivityMode,
    /// Where Directus's own tables are.
    pub(crate) schema: String,
    /// How long connecting may take.
    pub(crate) connect_timeout: Duration,
    /// How long the creation of a slot waits for open transactions.
    pub(crate) lock_timeout: Duration,
    /// Between two reports of an idle log, and between two acknowledgements.
    pub(crate) status_interval: Duration,
    /// Between two heartbeats; zero: none.
    pub(crate) heartbeat_interval: Duration,
    /// Between two looks at the catalogue: what was dropped, altered or taken away there is in no log.
    pub(crate) look_interval: Duration,
    /// First and longest pause before connecting again.
    pub(crate) retry_min: Duration,
    pub(crate) retry_max: Duration,
    /// Rows of one transaction held in memory before they are handed over as a part, bytes.
    pub(crate) transaction_bytes_max: usize,
    /// One row on the wire, bytes.
    pub(crate) message_bytes_max: usize,
    /// Connections that read the first copy.
    pub(crate) reader_count: usize,
    /// What the server shows of us; the capture adds which installation it is of.
    pub(crate) application: String,
    /// A slot that is active, or somebody else's, is taken over, because a person said so.
    pub(crate) take_slot: bool,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 5432,
            user: "directus".into(),
            password: String::new(),
            database: "directus".into(),
            tls: TlsMode::default(),
            ca: None,
            slot: "plait".into(),
            publication: "plait".into(),
            activity: ActivityMode::default(),
            schema: "public".into(),
            connect_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(30),
            status_interval: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(10),
            look_interval: Duration::from_mins(1),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            transaction_bytes_max: 8 * 1024 * 1024,
            message_bytes_max: 256 * 1024 * 1024,
            reader_count: 2,
            application: "plait".into(),
            take_slot: false,
        }
    }
}

impl std::fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceSettings")
            .field("place", &self.place())
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .finish_non_exhaustive()
    }
}

impl SourceSettings {
    /// `host:port/database`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }

    /// The publication that carries `directus_activity`.
    pub(super) fn author_publication(&self) -> String {
        format!("{}_author", self.publication)
    }
}

/// What is stored beside the position: which slot of which server it belongs to, and what was read in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotIdentity {
    pub(crate) slot: String,
    pub(crate) system_identifier: String,
    pub(crate) timeline: u32,
    /// Where the slot's first snapshot was taken, `0/16B3748`.
    pub(crate) consistent_point: String,
    /// `schema.table` → the columns whose values were all read once, with their types. A mapped column that is
    /// missing here makes the table be read again.
    #[serde(default)]
    pub(crate) covered: Covered,
    /// The database's, in its cluster; none in what earlier versions stored.
    #[serde(default)]
    pub(crate) database_oid: Option<u32>,
    /// The latest entry of `directus_activity`, where there is one that can be read.
    #[serde(default)]
    pub(crate) witness: Option<Witness>,
}

/// `schema.table` → column → `type oid/type modifier`.
pub(crate) type Covered = BTreeMap<String, BTreeMap<String, String>>;

/// What the canonical database has stored of this source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredPosition {
    pub(crate) lsn: Lsn,
    pub(crate) slot: String,
    pub(crate) system_identifier: String,
    pub(crate) timeline: u32,
    pub(crate) consistent_point: Lsn,
    pub(crate) covered: Covered,
    pub(crate) database_oid: Option<u32>,
    pub(crate) witness: Option<Witness>,
}

impl StoredPosition {
    /// From the stored position and the JSON stored beside it; `None` if that is not a [`SlotIdentity`].
    pub(crate) fn new(lsn: Lsn, identity: &serde_json::Value) -> Option<Self> {
        let identity = SlotIdentity::deserialize(identity).ok()?;
        Some(Self {
            lsn,
            consistent_point: identity.consistent_point.parse().ok()?,
            slot: identity.slot,
            system_identifier: identity.system_identifier,
            timeline: identity.timeline,
            covered: identity.covered,
            database_oid: identity.database_oid,
            witness: identity.witness,
        })
    }

    pub(super) fn identity(&self) -> SlotIdentity {
        SlotIdentity {
            slot: self.slot.clone(),
            system_identifier: self.system_identifier.clone(),
            timeline: self.timeline,
            consistent_point: self.consistent_point.to_string(),
            covered: self.covered.clone(),
            database_oid: self.database_oid,
            witness: self.witness.clone(),
        }
    }
}

/// What the capture is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Connecting,
    /// The first copy, or a fresh one.
    Snapshot,
    Streaming,
    /// Waiting to connect again.
    Waiting,
    /// A person has to do something first; tried again all the same.
    Suspended,
    Stopped,
}

/// Rows of one table in a full read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableProgress {
    pub(crate) table: String,
    pub(crate) row_count: u64,
    /// As the planner estimates it.
    pub(crate) row_count_estimated: u64,
    pub(crate) done: bool,
}

/// How it goes, for `status`, metrics and progress bars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CaptureStatus {
    pub(crate) phase: Phase,
    /// The furthest place handed over.
    pub(crate) received: Lsn,
    /// The place the server was told it may forget up to.
    pub(crate) acknowledged: Lsn,
    /// The end of the server's log, when last heard of.
    pub(crate) server: Lsn,
    /// From writing a heartbeat on the source to reading it in the stream, ms.
    pub(crate) heartbeat_ms: Option<u64>,
    /// When the heartbeat that has not come back yet was written.
    pub(crate) heartbeat_out_since: Option<Instant>,
    /// When the server was last heard of, µs since 1970 UTC.
    pub(crate) heard_at: Option<i64>,
    /// Log that the server keeps for this slot, bytes.
    pub(crate) retained_bytes: Option<u64>,
    /// What it keeps at most before it gives the slot up; `None`: its disk is the limit.
    pub(crate) retained_bytes_max: Option<u64>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub(crate) wal_status: Option<String>,
    pub(crate) transaction_count: u64,
    /// Commit time of the latest change handed over, µs since 1970 UTC, by the source's clock.
    pub(crate) last_change_at: Option<i64>,
    pub(crate) row_count: u64,
    pub(crate) reconnect_count: u64,
    pub(crate) rebuild_count: u64,
    /// The last failure, with its cause.
    pub(crate) failure: Option<String>,
    /// Empty unless a full read is under way or was the last thing done.
    pub(crate) snapshot: Vec<TableProgress>,
}

/// What joins the capture to the other tasks.
pub(crate) struct Links {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) stored: Option<StoredPosition>,
    /// In log order; a thousand places or more, so that many can be taken at once.
    pub(crate) deliveries: Outlet,
    /// The position that is durable in the canonical database.
    pub(crate) committed: watch::Receiver<Option<Lsn>>,
    pub(crate) known: Arc<dyn KnownKeys>,
    pub(crate) lineage: Arc<dyn Lineage>,
    /// The id of Plait's own account in Directus, once it is known.
    pub(crate) own: Arc<OnceLock<String>>,
    /// The accounts that are left out: told to who writes to them.
    pub(crate) accounts: AccountGuard,
    pub(crate) status: watch::Sender<CaptureStatus>,
    /// A [`SlotIdentity`], to be stored with each position.
    pub(crate) identity: watch::Sender<Option<serde_json::Value>>,
    pub(crate) incidents: mpsc::Sender<Notice>,
    /// Who gives the keys of new records, as each connection finds it.
    pub(crate) key_givers: watch::Sender<Option<KeyGivers>>,
    pub(crate) stop: CancellationToken,
}

impl Links {
    /// Tells a person; never waits for the telling.
    pub(super) fn notify(&self, notice: Notice) {
        for Incident { code, text } in &notice.found {
            tracing::warn!(code, text, "incident");
        }
        if let Err(error) = self.incidents.try_send(notice) {
            tracing::warn!(%error, "could not hand an incident on");
        }
    }
}
