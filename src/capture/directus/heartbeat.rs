//! Heartbeats: a message written into the source's log every now and then that has to come back through the
//! stream. They prove the whole way alive, measure it, and let an idle database release its log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    connect::connect,
    error::Error,
    lineage::{self, Witness},
    settings::{CaptureStatus, SourceSettings},
};

/// What our messages in the log are called.
pub(super) const PREFIX: &str = "plait.heartbeat";

/// The heartbeat that is on its way, if one is.
#[derive(Clone, Debug, Default)]
pub(super) struct Heartbeats {
    waiting: Arc<Mutex<Option<(Uuid, Instant)>>>,
    /// The latest entry of `directus_activity`, as last looked at.
    witness: Arc<Mutex<Option<Witness>>>,
}

impl Heartbeats {
    /// One came back: how long it took, if it is the one we wait for.
    pub(super) fn returned(&self, content: &[u8]) -> Option<Duration> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, sent) = (*waiting)?;
        (content == id.to_string().as_bytes()).then(|| {
            *waiting = None;
            sent.elapsed()
        })
    }

    /// The latest entry of `directus_activity`, if it was looked at since the last call.
    pub(super) fn take_witness(&self) -> Option<Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How long ago the one on its way was written.
    pub(super) fn age(&self) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.map(|(_, sent)| sent.elapsed())
    }

    /// Writes heartbeats, and looks how much log the server keeps for the slot, until dropped. A failure is
    /// not the end: the next one may go through.
    pub(super) async fn keep(self, source: SourceSettings, status: watch::Sender<CaptureStatus>) {
        if source.heartbeat_interval.is_zero() {
            return;
        }
        let mut client: Option<Client> = None;
        let mut tick = interval(source.heartbeat_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let connected = match client.take().filter(|client| !client.is_closed()) {
                Some(connected) => Ok(connected),
                None => connect(&source).await,
            };
            let beaten = match connected {
                Ok(connected) => {
                    let beaten = self.beat(&connected, &source, &status).await;
                    client = Some(connected);
                    beaten
                }
                Err(error) => Err(error),
            };
            if let Err(error) = beaten {
                tracing::debug!(error = error.chain(), "could not write a heartbeat");
            }
        }
    }

    async fn beat(
        &self,
        client: &Client,
        source: &SourceSettings,
        status: &watch::Sender<CaptureStatus>,
    ) -> Result<(), Error> {
        if self.age().is_none() {
            let id = Uuid::new_v4();
            let now = (id, Instant::now());
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            status.send_modify(|status| status.heartbeat_out_since = Some(now.1));
            // Transactional: others do not make the server recompute what it may forget.
            let emitted = client
                .execute(
                    "select pg_logical_emit_message(true, $1::text, $2::text)",
                    &[&PREFIX, &id.to_string()],
                )
                .await;
            if let Err(error) = emitted {
                *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
                status.send_modify(|status| status.heartbeat_out_since = None);
                return Err(Error::sql("write a heartbeat")(error));
            }
        }
        let witness = lineage::latest(client, &source.schema).await;
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = witness;
        look_at_slot(client, source, status).await
    }
}

/// Notes how much log the server keeps for the slot, and how much it would.
pub(super) async fn look_at_slot(
    client: &Client,
    source: &SourceSettings,
    status: &watch::Sender<CaptureStatus>,
) -> Result<(), Error> {
    let row = client
        .query_opt(
            "select pg_current_wal_lsn()::text, wal_status,
                    pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
                    (select nullif(setting::bigint, -1) * 1024 * 1024 from pg_settings where name = 'max_slot_wal_keep_size')
             from pg_replication_slots where slot_name = $1",
            &[&source.slot],
        )
        .await
        .map_err(Error::sql("look at the slot"))?;
    let Some(row) = row else { return Ok(()) };
    let bytes =
        |at: usize| row.get::<_, Option<i64>>(at).and_then(|bytes| u64::try_from(bytes).ok());
    status.send_modify(|status| {
        if let Some(lsn) = row.get::<_, Option<&str>>(0).and_then(|text| text.parse().ok()) {
            status.server = lsn;
        }
        status.wal_status = row.get(1);
        status.retained_bytes = bytes(2);
        status.retained_bytes_max = bytes(3);
    });
    Ok(())
}
