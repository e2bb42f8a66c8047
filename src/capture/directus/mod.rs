//! The WAL of the Postgres under Directus, or of any other, → deliveries. First a copy at the exported
//! snapshot of the slot's creation, then the stream from there, without a gap or an overlap. Whatever went
//! wrong with the slot is healed by a fresh slot and a fresh copy through the same merge.

mod assembly;
mod catalog;
mod connect;
mod convert;
mod copy_text;
mod error;
mod heartbeat;
mod layout;
mod look;
mod pgoutput;
mod preflight;
mod publication;
mod settings;
mod slot;
mod snapshot;
mod stream;
mod transport;
mod width;

#[cfg(test)]
#[path = "../../../tests/it/certificates.rs"]
mod certificates;
#[cfg(test)]
mod harm_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use look::Look;
pub(crate) use preflight::preflight;
pub(crate) use settings::{
    ActivityMode, CaptureStatus, Links, Phase, SourceSettings, StoredPosition, TableProgress,
};

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::model::{Delivery, Lsn, Notice, Side};

use self::{
    catalog::Server,
    layout::{Layout, TableName, is_plain_name},
    publication::Published,
    settings::Covered,
    slot::Decision,
    snapshot::{Known, ReadTable, Sink, Snapshot},
    stream::{Incarnation, Stream, cover_of, publish, snapshot_end},
    transport::{PgWire, Transport, identify},
    width::Width,
};

/// Fresh copies made by itself within [`REBUILD_PERIOD`].
const REBUILD_COUNT_MAX: usize = 3;
const REBUILD_PERIOD: Duration = Duration::from_hours(1);
/// Subjects of incidents: the way to the log; what is published of the mapped tables; tables that wait for being read again.
const CONNECTION: &str = "connection";
const TABLES: &str = "tables";
const REREAD: &str = "reread";

/// Reads `source` until told to stop. Connects again by itself where that helps.
///
/// # Errors
/// What only a person can mend; [`Error::remedy`] says how.
pub(crate) async fn run(source: SourceSettings, links: Links) -> Result<(), Error> {
    for (what, name) in [("slot", &source.slot), ("publication", &source.publication)] {
        if !is_plain_name(name) {
            return Err(Error::BadName { what, name: name.clone() });
        }
    }
    let stored = links.stored.clone();
    let mut capture = Capture {
        layout: Layout::new(&links.mapping),
        incarnation: stored.map(|stored| Incarnation { sent: stored.lsn, stored }),
        source,
        links,
        rebuilds: VecDeque::new(),
        lost: None,
        blocked: false,
        width: Width::default(),
    };
    let outcome = capture.keep_reading().await;
    capture.links.status.send_modify(|status| {
        status.phase = Phase::Stopped;
        if let Err(error) = &outcome {
            status.failure = Some(error.chain());
        }
    });
    outcome
}

struct Capture {
    source: SourceSettings,
    links: Links,
    layout: Layout,
    incarnation: Option<Incarnation>,
    /// When fresh copies were begun.
    rebuilds: VecDeque<Instant>,
    /// The server said that the slot can't be read any more.
    lost: Option<String>,
    /// That open transactions are in the way was told.
    blocked: bool,
    /// Of the rows that the next connection can take.
    width: Width,
}

/// Connected, checked, and ready to stream.
struct Ready {
    admin: Client,
    transport: PgWire,
    published: Published,
    sender_timeout: Duration,
}

impl Capture {
    async fn keep_reading(&mut self) -> Result<(), Error> {
        let mut failure_count = 0_u32;
        loop {
            let began = Instant::now();
            let error = match self.session().await {
                Ok(()) | Err(Error::Stopped) => return Ok(()),
                Err(error) => error,
            };
            // Nothing is wrong: the connection has to be another one.
            let width = match &error {
                Error::RowTooLarge { size, .. } => Width::of(*size),
                Error::RowsSmall => Some(Width::default()),
                _ => None,
            };
            if let Some(width) = width {
                let held_count = width.message_count_max();
                tracing::info!(held_count, reason = %error, "connects anew for rows of another size");
                self.width = width;
                self.links.status.send_modify(|status| status.reconnect_count += 1);
                continue;
            }
            if error.is_slot_lost() && self.incarnation.is_some() {
                self.lost = Some(error.to_string());
            } else if !error.is_transient() {
                return Err(error);
            }
            if let Error::CreationBlocked { .. } = &error
                && !std::mem::replace(&mut self.blocked, true)
            {
                let remedy = error.remedy().unwrap_or_default();
                let text = format!("{error}. {remedy}");
                self.links.notify(Notice::found(CONNECTION, "capture_slot_blocked", text));
            }
            if began.elapsed() > self.source.retry_max {
                failure_count = 0;
            }
            let pause = pause(&self.source, failure_count);
            failure_count = failure_count.saturating_add(1);
            let (failure, state) = (error.chain(), error.sqlstate().unwrap_or_default());
            tracing::warn!(failure, state, failure_count, "reading the source was interrupted");
            self.links.status.send_modify(|status| {
                status.phase = Phase::Waiting;
                status.reconnect_count += 1;
                status.failure = Some(failure);
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.links.stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn session(&mut self) -> Result<(), Error> {
        let stop = self.links.stop.clone();
        self.links.status.send_modify(|status| status.phase = Phase::Connecting);
        // Whatever is cut off in here is found and cleared away by the next start.
        let ready = tokio::select! {
            ready = self.prepare() => ready?,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(incarnation) = &mut self.incarnation else { return Ok(()) };
        let stream = Stream::new(
            &self.source,
            &mut self.links,
            &self.layout,
            incarnation,
            ready.transport,
            ready.admin,
            ready.published.tables,
            ready.sender_timeout,
        );
        stream.run().await
    }

    /// Connects, checks that everything still fits together, and makes what is missing.
    async fn prepare(&mut self) -> Result<Ready, Error> {
        let admin = connect::connect(&self.source).await?;
        let server = catalog::server(&admin).await?;
        check_server(&self.source, &server)?;
        let published = publication::ensure(&admin, &self.source, &self.layout).await?;
        self.links.notify(Notice::looked(TABLES, published.troubles()));
        let sender_timeout =
            Duration::from_millis(u64::try_from(server.sender_timeout_ms).unwrap_or_default());
        let mut transport = self.connect(&published).await?;
        match self.decide(&admin, &mut transport, &published).await? {
            Decision::Resume => {
                if let Some(incarnation) = &self.incarnation {
                    publish(&self.links, &incarnation.stored);
                }
            }
            decision => {
                drop(transport);
                if let Decision::Rebuild(reason) = decision {
                    self.allow_rebuild(&reason)?;
                }
                self.copy(&admin, &server).await?;
                transport = self.connect(&published).await?;
            }
        }
        slot::free(&admin, &self.source.slot).await?;
        transport.start().await?;
        Ok(Ready { admin, transport, published, sender_timeout })
    }

    async fn connect(&self, published: &Published) -> Result<PgWire, Error> {
        let (start, acknowledged) = match &self.incarnation {
            Some(incarnation) => (incarnation.sent, incarnation.stored.lsn),
            None => (Lsn(0), Lsn(0)),
        };
        let publications = &published.publications;
        PgWire::connect_for(&self.source, publications, start, acknowledged, self.width).await
    }

    async fn decide(
        &mut self,
        admin: &Client,
        transport: &mut PgWire,
        published: &Published,
    ) -> Result<Decision, Error> {
        let stored = self.incarnation.as_ref().map(|incarnation| &incarnation.stored);
        let server = identify(transport).await?;
        let slot = slot::facts(admin, &self.source.slot).await?;
        let switched_at = match stored {
            Some(stored) => slot::switch_point(transport, &server, stored.timeline).await?,
            None => None,
        };
        let decision = slot::judge(&self.source, stored, &server, switched_at, slot.as_ref())?;
        let lost = self.lost.take();
        Ok(match decision {
            Decision::Resume if published.is_new => {
                Decision::Rebuild("a publication had to be made, and the slot is older".into())
            }
            Decision::Resume => lost.map_or(Decision::Resume, Decision::Rebuild),
            decided => decided,
        })
    }

    /// # Errors
    /// `TooManyRebuilds`: something keeps destroying the slot.
    fn allow_rebuild(&mut self, reason: &str) -> Result<(), Error> {
        self.rebuilds.retain(|at| at.elapsed() < REBUILD_PERIOD);
        if self.rebuilds.len() >= REBUILD_COUNT_MAX {
            let count = self.rebuilds.len();
            return Err(Error::TooManyRebuilds { count, reason: reason.into() });
        }
        self.rebuilds.push_back(Instant::now());
        self.links.status.send_modify(|status| status.rebuild_count += 1);
        let text = format!(
            "Everything is read again because {reason}. Values that did not change stay as they are."
        );
        self.links.notify(Notice::happened("capture_rebuilt", text));
        Ok(())
    }

    /// Makes the slot and hands over a copy of all tables as of its beginning.
    async fn copy(&mut self, admin: &Client, server: &Server) -> Result<(), Error> {
        self.wait_until_committed().await?;
        let known = Known::ask(&*self.links.known, self.layout.tables.iter()).await?;
        slot::drop_slot(admin, &self.source.slot).await?;
        if server.slot_count >= server.slot_count_max
            && catalog::server(admin).await?.slot_count >= server.slot_count_max
        {
            return Err(Error::NoFreeSlot { max: server.slot_count_max });
        }
        let created = slot::create::<PgWire>(&self.source, admin, &self.source.slot, false).await?;
        let snapshot =
            Snapshot::import(&self.source, &created.snapshot, self.source.reader_count).await?;
        drop(created.exporter);

        let names: Vec<TableName> =
            self.layout.tables.iter().map(|table| table.name.clone()).collect();
        let facts = snapshot.facts(&names).await?;
        let tables: Vec<ReadTable> = self
            .layout
            .tables
            .iter()
            .filter_map(|table| {
                let facts = facts.get(&table.name)?.clone();
                Some(ReadTable { table: table.clone(), facts })
            })
            .collect();
        let covered: Covered =
            tables.iter().map(|table| (table.table.name.to_string(), cover_of(table))).collect();
        let stored = StoredPosition {
            lsn: created.consistent_point,
            slot: self.source.slot.clone(),
            system_identifier: created.server.system_identifier,
            timeline: created.server.timeline,
            consistent_point: created.consistent_point,
            covered,
        };
        publish(&self.links, &stored);
        // Whatever is committed from now on belongs to the new slot.
        self.links.committed.mark_unchanged();
        // Not resumed from before its last delivery was taken: until then it is as if it were not there.
        self.incarnation = None;
        self.links.status.send_modify(|status| status.phase = Phase::Snapshot);

        let sink = Sink::of(&self.links);
        if let Err(error) = snapshot.read(&tables, known, &sink).await {
            let abandoned = Delivery::Abandoned { side: Side::Directus };
            self.links.deliveries.send(abandoned).await.map_err(|_| Error::Stopped)?;
            return Err(error);
        }
        let end = snapshot_end(stored.lsn);
        self.links.deliveries.send(end).await.map_err(|_| Error::Stopped)?;
        self.incarnation = Some(Incarnation { sent: stored.lsn, stored });
        self.blocked = false;
        Ok(())
    }

    /// Waits until everything handed over before is durable, so that no later commit can be mistaken for one
    /// of the slot that is made next.
    async fn wait_until_committed(&mut self) -> Result<(), Error> {
        let Some(incarnation) = &self.incarnation else { return Ok(()) };
        if incarnation.sent <= incarnation.stored.lsn {
            return Ok(());
        }
        let sent = incarnation.sent;
        self.links
            .committed
            .wait_for(|committed| committed.is_some_and(|committed| committed >= sent))
            .await
            .map_err(|_| Error::Stopped)?;
        Ok(())
    }
}

fn check_server(source: &SourceSettings, server: &Server) -> Result<(), Error> {
    if server.version_number < 150_000 {
        return Err(Error::Version { version: server.version.clone() });
    }
    if server.wal_level != "logical" {
        return Err(Error::WalLevel { level: server.wal_level.clone() });
    }
    if !server.may_replicate {
        return Err(Error::NotReplication { user: source.user.clone() });
    }
    Ok(())
}

/// Doubles from `retry_min` to `retry_max`; a random quarter less, so that several do not come back at once.
fn pause(source: &SourceSettings, failure_count: u32) -> Duration {
    let doubled = source.retry_min.saturating_mul(1 << failure_count.min(16));
    doubled.min(source.retry_max).mul_f64(rand::random_range(0.75..=1.0))
}
