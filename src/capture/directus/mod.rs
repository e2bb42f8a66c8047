//! The WAL of the Postgres under Directus, or of any other, → deliveries. First a copy at the exported
//! snapshot of the slot's creation, then the stream from there, without a gap or an overlap. Whatever went
//! wrong with the slot is healed by a fresh slot and a fresh copy through the same merge.

mod access;
mod assembly;
mod catalog;
mod connect;
mod convert;
mod copy_text;
mod error;
mod extra;
mod gates;
mod heartbeat;
mod keys;
mod layout;
mod lineage;
mod look;
mod mark;
mod pgoutput;
mod preflight;
mod publication;
mod settings;
mod slot;
mod snapshot;
mod stream;
mod transport;
mod tries;
mod width;

#[cfg(test)]
#[path = "../../../tests/it/certificates.rs"]
mod certificates;
#[cfg(test)]
mod harm_tests;
#[cfg(test)]
mod lineage_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use keys::unfit as unfit_keys;
pub(crate) use look::Look;
pub(crate) use preflight::preflight;
pub(crate) use settings::{
    ActivityMode, CaptureStatus, Links, Phase, SourceSettings, StoredPosition, TableProgress,
};
pub(crate) use tries::Tries;

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::{
    capture::{FIRST_PASS, LAST_PASS, Reread},
    model::{CANONICAL, Delivery, Lsn, Notice, Rewound, Side},
};

use self::{
    access::Named,
    catalog::Server,
    gates::Gates,
    layout::{Layout, TableName, is_plain_name},
    lineage::SourceFacts,
    mark::Mark,
    publication::Published,
    settings::Covered,
    slot::{Decision, Ownership, SlotFacts},
    snapshot::{Known, ReadTable, Sink, Snapshot},
    stream::{Incarnation, Stream, cover_of, publish, snapshot_end},
    transport::{PgWire, Transport, identify},
    width::Width,
};

/// The name of this log in `mirror.position`.
const LOG: &str = "directus";
/// Fresh copies made by itself within [`REBUILD_PERIOD`].
const REBUILD_COUNT_MAX: usize = 3;
const REBUILD_PERIOD: Duration = Duration::from_hours(1);
/// Subjects of incidents: the way to the log; what is published of the mapped tables; tables that wait for being read
/// again; who is a member.
const CONNECTION: &str = "connection";
const TABLES: &str = "tables";
const REREAD: &str = "reread";
const ACCESS: &str = "access";
/// The owner's mark on the publication.
const MARK: &str = "mark";

/// The longest pause while a person has to do something on this side.
const SUSPENSION_MAX: Duration = Duration::from_mins(5);

/// Reads `source` until told to stop, whatever happens to it: where waiting helps, it connects again soon; where a person
/// has to do something ([`Error::remedy`] says what), it is suspended, and tried again with longer pauses.
pub(crate) async fn run(mut source: SourceSettings, links: Links) {
    // By this a session of ours that is dead here is told from another installation's.
    source.application = links.lineage.installation().application();
    let stored = links.stored.clone();
    let mut capture = Capture {
        layout: Layout::new(&links.mapping),
        gates: Gates::new(links.accounts.clone()),
        is_filled: false,
        incarnation: stored.map(|stored| Incarnation { sent: stored.lsn, stored }),
        source,
        links,
        rebuilds: VecDeque::new(),
        lost: None,
        blocked: false,
        width: Width::default(),
    };
    capture.keep_reading().await;
    capture.links.status.send_modify(|status| status.phase = Phase::Stopped);
}

struct Capture {
    source: SourceSettings,
    links: Links,
    layout: Layout,
    gates: Gates,
    /// Whether `gates` knows the rows that are mirrored.
    is_filled: bool,
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

/// What was found out about the source before anything is done with it.
struct Found {
    facts: SourceFacts,
    mark: Option<Mark>,
    slot: Option<SlotFacts>,
}

/// Connected, checked, and ready to stream.
struct Ready {
    admin: Client,
    transport: PgWire,
    published: Published,
    sender_timeout: Duration,
}

impl Capture {
    async fn keep_reading(&mut self) {
        let mut failure_count = 0_u32;
        loop {
            let began = Instant::now();
            self.links.lineage.vouch(LOG, false);
            let error = match self.session().await {
                Ok(()) | Err(Error::Stopped) => return,
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
            let is_lost = error.is_slot_lost() && self.incarnation.is_some();
            if is_lost {
                self.lost = Some(error.to_string());
            }
            let is_suspended = !is_lost && !error.is_transient();
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
            let longest = if is_suspended { SUSPENSION_MAX } else { self.source.retry_max };
            let pause = pause(self.source.retry_min, longest, failure_count);
            failure_count = failure_count.saturating_add(1);
            let (mut failure, state) = (error.chain(), error.sqlstate().unwrap_or_default());
            if let Some(remedy) = error.remedy().filter(|_| is_suspended) {
                failure = format!("{failure}. {remedy}");
            }
            tracing::warn!(state, failure_count, %failure, "reading the source was interrupted");
            self.links.status.send_modify(|status| {
                status.phase = if is_suspended { Phase::Suspended } else { Phase::Waiting };
                status.reconnect_count += 1;
                status.failure = Some(failure);
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.links.stop.cancelled() => return,
            }
        }
    }

    async fn session(&mut self) -> Result<(), Error> {
        for (what, name) in [("slot", &self.source.slot), ("publication", &self.source.publication)]
        {
            if !is_plain_name(name) {
                return Err(Error::BadName { what, name: name.clone() });
            }
        }
        let stop = self.links.stop.clone();
        self.links.status.send_modify(|status| {
            // Until it streams again, what went wrong is what is to be known.
            if status.failure.is_none() {
                status.phase = Phase::Connecting;
            }
        });
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
            &self.gates,
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
        // While the rest fails, what the server keeps for us grows all the same.
        if let Err(error) = heartbeat::look_at_slot(&admin, &self.source, &self.links.status).await
        {
            tracing::debug!(error = error.chain(), "could not look how much log is kept");
        }
        let found = self.look(&admin).await?;
        self.read_access(&admin).await?;
        let published = publication::ensure(&admin, &self.source, &self.layout).await?;
        self.links.notify(Notice::looked(TABLES, published.troubles()));
        let givers = keys::givers(&self.links.mapping, &published);
        self.links.key_givers.send_replace(Some(givers));
        let sender_timeout =
            Duration::from_millis(u64::try_from(server.sender_timeout_ms).unwrap_or_default());
        let mut transport = self.connect(&published).await?;
        let decision = self.decide(&admin, &mut transport, &published, &found).await?;
        let reread = self.links.lineage.wanted(LOG).await.map_err(lineage_failed)?;
        let decision = match (decision, reread) {
            (Decision::Resume, Some(_)) => {
                Decision::Rebuild("a database was restored from a backup".into())
            }
            (decision, _) => decision,
        };
        self.set_mark(&admin, &found).await?;
        // From here on nothing is written to any side unless the two belong together.
        self.links.lineage.vouch(LOG, true);
        match decision {
            Decision::Resume => {
                self.fill_gates().await?;
                if let Some(incarnation) = &mut self.incarnation {
                    incarnation.stored.database_oid = Some(found.facts.database_oid);
                    incarnation.stored.witness.clone_from(&found.facts.witness);
                    publish(&self.links, &incarnation.stored);
                }
            }
            decision => {
                drop(transport);
                if let Decision::Rebuild(reason) = decision {
                    self.allow_rebuild(&reason)?;
                }
                self.copy(&admin, &server, &found, reread).await?;
                transport = self.connect(&published).await?;
            }
        }
        slot::free(&admin, &self.source, &self.source.slot, found.mark.as_ref()).await?;
        transport.start().await?;
        self.source.take_slot = false;
        Ok(Ready { admin, transport, published, sender_timeout })
    }

    /// Looks whose slot it is, before anything on the source is touched.
    ///
    /// # Errors
    /// `SlotOwned`: another installation reads it.
    async fn look(&self, admin: &Client) -> Result<Found, Error> {
        let stored = self.incarnation.as_ref().map(|incarnation| &incarnation.stored);
        let witness = stored.and_then(|stored| stored.witness.as_ref());
        let facts = lineage::facts(admin, &self.source.schema, &self.layout, witness).await?;
        let mark = mark::read(admin, &self.source.publication, &self.source.slot).await?;
        let slot = slot::facts(admin, &self.source.slot).await?;
        let epoch = self.links.lineage.epoch().await.map_err(lineage_failed)?;
        let has_read = stored.is_some_and(|stored| {
            stored.slot == self.source.slot
                && facts.place.split('/').next() == Some(stored.system_identifier.as_str())
        });
        let ownership = slot::ownership(
            mark.as_ref(),
            self.links.lineage.installation(),
            &facts.place,
            slot.as_ref(),
            has_read || lineage::is_cut_off(stored, &epoch),
        );
        match ownership {
            Ownership::Theirs(owner) if !self.source.take_slot => {
                Err(Error::SlotOwned { slot: self.source.slot.clone(), owner })
            }
            Ownership::Theirs(owner) => {
                tracing::warn!(slot = self.source.slot, owner, "taking over the slot");
                Ok(Found { facts, mark, slot })
            }
            Ownership::Ours => Ok(Found { facts, mark, slot }),
        }
    }

    /// Says on the source that the slot is this installation's, with an epoch that both remember.
    async fn set_mark(&self, admin: &Client, found: &Found) -> Result<(), Error> {
        let is_set =
            advance_mark(admin, &self.source, &self.links, &found.facts.place, false).await?;
        if is_set {
            self.links.notify(Notice::well(MARK));
        } else {
            let text = format!(
                "Publication `{publication}` cannot be marked as this installation's, because it is not owned by `{user}`: another installation could take the slot `{slot}`. Run as its owner: alter publication \"{publication}\" owner to \"{user}\";",
                publication = self.source.publication,
                user = self.source.user,
                slot = self.source.slot,
            );
            self.links.notify(Notice::found(MARK, "capture_no_mark", text));
        }
        Ok(())
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
        found: &Found,
    ) -> Result<Decision, Error> {
        let stored = self.incarnation.as_ref().map(|incarnation| incarnation.stored.clone());
        let server = identify(transport).await?;
        let slot = slot::facts(admin, &self.source.slot).await?;
        let switched_at = match &stored {
            Some(stored) => slot::switch_point(transport, &server, stored.timeline).await?,
            None => None,
        };
        let decision =
            slot::judge(&self.source, stored.as_ref(), &server, switched_at, slot.as_ref())?;
        let lost = self.lost.take();
        let decision = match decision {
            Decision::Resume if published.is_new => {
                Decision::Rebuild("a publication had to be made, and the slot is older".into())
            }
            Decision::Resume => lost.map_or(Decision::Resume, Decision::Rebuild),
            decided => decided,
        };
        let Some(stored) = stored else { return Ok(decision) };
        let epoch = self.links.lineage.epoch().await.map_err(lineage_failed)?;
        let mut verdict = lineage::judge(
            &stored,
            &server,
            switched_at,
            &found.facts,
            found.slot.as_ref().filter(|_| stored.slot == self.source.slot),
            found.mark.as_ref(),
            (self.links.lineage.installation(), &epoch),
        );
        // A table without a row takes no record away where the log cannot say that each was deleted.
        if verdict.source.is_none()
            && matches!(decision, Decision::Rebuild(_))
            && found.facts.is_bare
            && !Known::ask(&*self.links.known, self.layout.tables.iter()).await?.is_empty()
        {
            verdict.source = Some("the tables are there, but have no rows any more".into());
        }
        for (log, rewound, reason) in [
            (LOG, Rewound::Side, &verdict.source),
            (CANONICAL, Rewound::Canonical, &verdict.canonical),
        ] {
            if let Some(reason) = reason {
                self.links.lineage.enter(log, rewound, reason).await.map_err(lineage_failed)?;
            }
        }
        Ok(decision)
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

    /// Learns which accounts are left out.
    async fn read_access(&mut self, admin: &Client) -> Result<(), Error> {
        let named = Named::new(&self.links.mapping, self.links.own.get().cloned());
        let accounts = access::read(admin, &self.source, &self.layout, &named).await?;
        self.gates.accounts.set(accounts);
        Ok(())
    }

    /// Takes what canonical knows for the rows that are mirrored, once: from then on the log tells.
    async fn fill_gates(&mut self) -> Result<(), Error> {
        if self.is_filled {
            return Ok(());
        }
        for entity in Gates::entities(&self.layout) {
            let failed = |source| Error::KnownKeys { source };
            let keys = self.links.known.keys(Side::Directus, entity).await.map_err(failed)?;
            self.gates.fill(entity, &keys);
        }
        self.is_filled = true;
        Ok(())
    }

    /// Makes the slot and hands over a copy of all tables as of its beginning.
    async fn copy(
        &mut self,
        admin: &Client,
        server: &Server,
        found: &Found,
        reread: Option<Reread>,
    ) -> Result<(), Error> {
        self.wait_until_committed().await?;
        let lineage = std::sync::Arc::clone(&self.links.lineage);
        if reread.is_some_and(|reread| reread.rewound == Rewound::Canonical) {
            lineage.until_others_read(LOG, FIRST_PASS).await.map_err(lineage_failed)?;
        }
        let stored = self.incarnation.as_ref().map(|incarnation| incarnation.stored.lsn);
        let from = stored.map_or_else(String::new, |lsn| lsn.to_string());
        lineage.note_copying(&from).await.map_err(lineage_failed)?;
        let known = Known::ask(&*self.links.known, self.layout.tables.iter()).await?;
        slot::drop_slot(admin, &self.source, &self.source.slot, found.mark.as_ref()).await?;
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
        let covered: Covered = tables
            .iter()
            .map(|it| (it.table.name.to_string(), cover_of(it, &self.gates)))
            .collect();
        let stored = StoredPosition {
            lsn: created.consistent_point,
            slot: self.source.slot.clone(),
            system_identifier: created.server.system_identifier,
            timeline: created.server.timeline,
            consistent_point: created.consistent_point,
            covered,
            database_oid: Some(found.facts.database_oid),
            witness: found.facts.witness.clone(),
        };
        publish(&self.links, &stored);
        // Whatever is committed from now on belongs to the new slot.
        self.links.committed.mark_unchanged();
        // Not resumed from before its last delivery was taken: until then it is as if it were not there.
        self.incarnation = None;
        self.links.status.send_modify(|status| status.phase = Phase::Snapshot);

        if let Some(reread) = reread {
            lineage.begin(LOG, reread.rewound, LAST_PASS);
        }
        for entity in Gates::entities(&self.layout) {
            self.gates.fill(entity, &[]);
        }
        self.is_filled = true;
        let sink = Sink::of(&self.links, &self.gates);
        if let Err(error) = snapshot.read(&tables, known, &sink, reread.is_some()).await {
            let abandoned = Delivery::Abandoned { side: Side::Directus };
            self.links.deliveries.send(abandoned).await.map_err(|_| Error::Stopped)?;
            return Err(error);
        }
        let end = snapshot_end(stored.lsn);
        self.links.deliveries.send(end).await.map_err(|_| Error::Stopped)?;
        if reread.is_some() {
            let (side, log) = (Side::Directus, LOG.to_owned());
            let read = Delivery::WholeRead { side, log, pass: LAST_PASS };
            self.links.deliveries.send(read).await.map_err(|_| Error::Stopped)?;
        }
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

/// Advances the epoch on both ends: in canonical before it is on the source, so that a cut between the two is told from
/// a backup of either. `false`: the mark could not be written.
async fn advance_mark(
    admin: &Client,
    source: &SourceSettings,
    links: &Links,
    place: &str,
    is_at_rest: bool,
) -> Result<bool, Error> {
    let installation = links.lineage.installation();
    let last = mark::read(admin, &source.publication, &source.slot).await?;
    let beyond = last.filter(|last| last.owner == installation.id).map_or(0, |last| last.epoch);
    let epoch = links.lineage.next_epoch(beyond).await.map_err(lineage_failed)?;
    let mark = Mark::of(installation, place, epoch, is_at_rest);
    let is_set = mark::write(admin, &source.publication, &source.slot, &mark).await?;
    if is_set {
        links.lineage.note_marked(epoch).await.map_err(lineage_failed)?;
    }
    Ok(is_set)
}

fn lineage_failed(source: anyhow::Error) -> Error {
    Error::Lineage { source }
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

/// Doubles from `first` to `longest`; a random quarter less, so that several do not come back at once.
fn pause(first: Duration, longest: Duration, failure_count: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failure_count.min(16));
    doubled.min(longest).mul_f64(rand::random_range(0.75..=1.0))
}
