//! The loop that reads the log. In: events of the replication connection, the committed position. Out:
//! deliveries in log order, acknowledgements. What a transaction is made of, [`super::assembly`] says; tables
//! that have to be read again are read in between, at an exact place of the log.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::Utc;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_postgres::Client;

use crate::model::{Author, Delivery, Incident, Lsn, Notice, Observation, Position, Side, Stamp};

use super::{
    ACCESS, CONNECTION, REREAD, TABLES,
    access::{self, Named},
    assembly::{Assembly, Finished, Note, signature},
    catalog::{self, TableFacts},
    connect::connect,
    error::Error,
    gates::{Gates, ROWS},
    heartbeat::{Heartbeats, PREFIX},
    keys,
    layout::{Layout, TableName},
    publication,
    settings::{Covered, Links, Phase, SourceSettings, StoredPosition},
    slot,
    snapshot::{Known, ReadTable, Sink, Snapshot, read_row},
    transport::{Event, PgWire, Transport},
    width::Width,
};

/// Idle log after which a position is handed over without waiting for the interval, bytes.
const PROGRESS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between two tries to make the side slot of a table that has to be read again.
const REREAD_RETRY: Duration = Duration::from_secs(10);
/// Between two advances of the epoch.
const MARK_INTERVAL: Duration = Duration::from_hours(1);
/// How long a stop, or the stream, waits for that.
const MARK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks for mapped tables that do not exist yet.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at the roles and policies of Directus, should nothing tell that they have changed.
const ACCESS_INTERVAL: Duration = Duration::from_secs(10);

/// A connection for large rows is kept for this long after the last of them.
const WIDE_LASTS: Duration = Duration::from_mins(10);

/// One slot's life, as far as this process knows it.
#[derive(Clone, Debug)]
pub(super) struct Incarnation {
    /// What is durable in the canonical database, or will be with the first delivery.
    pub(super) stored: StoredPosition,
    /// The furthest place handed over.
    pub(super) sent: Lsn,
}

/// One session of the stream.
pub(super) struct Stream<'a> {
    source: &'a SourceSettings,
    links: &'a mut Links,
    layout: &'a Layout,
    incarnation: &'a mut Incarnation,
    transport: PgWire,
    admin: Client,
    assembly: Assembly,
    heartbeats: Heartbeats,
    /// Mapped tables that exist.
    tables: BTreeMap<TableName, TableFacts>,
    /// Nothing is left to read up to here, and nobody was told yet.
    pending: Lsn,
    /// Parts of an unfinished delivery were handed over.
    parts_sent: bool,
    reported_at: Instant,
    event_count: u64,
    /// With the count of data events: when it was seen to change.
    heard: (u64, Instant),
    data_heard: (u64, Instant),
    data_count: u64,
    transaction_count: u64,
    looked_at: Instant,
    marked_at: Instant,
    look_wanted: bool,
    /// When a row came for which the connection has to be wide, or it was made.
    large_at: Instant,
    gates: &'a Gates,
    access_read_at: Instant,
    access_wanted: bool,
    silence_max: Option<Duration>,
    rereads: Rereads,
}

/// Tables that have to be read again.
#[derive(Default)]
struct Rereads {
    /// Not begun yet.
    wanted: Vec<usize>,
    retry_at: Option<Instant>,
    /// The snapshot is taken; it is read when the stream has come to its place.
    waiting: Option<Waiting>,
    /// Read and handed over: covered once a place behind this one is committed.
    unsettled: Vec<(Lsn, String)>,
}

struct Waiting {
    at: Lsn,
    snapshot: Snapshot,
    tables: Vec<usize>,
    known: Known,
}

enum Step {
    Event(Option<Event>),
    Committed,
    Tick,
    Stop,
}

impl<'a> Stream<'a> {
    #[expect(clippy::too_many_arguments, reason = "what a session is made of, given once")]
    pub(super) fn new(
        source: &'a SourceSettings,
        links: &'a mut Links,
        layout: &'a Layout,
        gates: &'a Gates,
        incarnation: &'a mut Incarnation,
        transport: PgWire,
        admin: Client,
        tables: BTreeMap<TableName, TableFacts>,
        sender_timeout: Duration,
    ) -> Self {
        let now = Instant::now();
        let mut assembly = Assembly::new(
            std::sync::Arc::clone(&links.mapping),
            layout.clone(),
            gates.clone(),
            source.schema.clone(),
            incarnation.stored.covered.clone(),
        );
        assembly.row_bytes_max = source.message_bytes_max;
        let heartbeat = source.heartbeat_interval;
        let silence_max = match (sender_timeout.is_zero(), heartbeat.is_zero()) {
            (true, true) => None,
            (true, false) => Some((heartbeat * 6).max(Duration::from_mins(1))),
            (false, _) => Some((sender_timeout * 2).max(heartbeat * 3)),
        };
        Self {
            pending: incarnation.sent,
            source,
            links,
            layout,
            incarnation,
            transport,
            admin,
            assembly,
            heartbeats: Heartbeats::default(),
            tables,
            parts_sent: false,
            reported_at: now,
            event_count: 0,
            heard: (0, now),
            data_heard: (0, now),
            data_count: 0,
            transaction_count: 0,
            looked_at: now,
            marked_at: now,
            look_wanted: false,
            large_at: now,
            gates,
            access_read_at: now,
            access_wanted: false,
            silence_max,
            rereads: Rereads::default(),
        }
    }

    /// Reads until told to stop, or until something breaks. What was handed over in part is taken back then.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let outcome = self.serve().await;
        if self.parts_sent && !matches!(outcome, Err(Error::Stopped)) {
            self.deliver(Delivery::Abandoned { side: Side::Directus }).await?;
        }
        outcome
    }

    async fn serve(&mut self) -> Result<(), Error> {
        self.links.status.send_modify(|status| status.heartbeat_out_since = None);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.heartbeats.clone().keep(self.source.clone(), self.links.status.clone()));
        self.compare_with_catalogue().await?;
        let mut tick = interval(self.source.status_interval.min(Duration::from_secs(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.links.status.send_modify(|status| {
            status.phase = Phase::Streaming;
            status.failure = None;
        });
        self.links.notify(Notice::well(CONNECTION));
        loop {
            // In this order: as long as events are there, nothing else is looked at but at each commit.
            let step = tokio::select! {
                biased;
                event = self.transport.receive() => Step::Event(event?),
                () = self.links.stop.cancelled() => Step::Stop,
                changed = self.links.committed.changed() => {
                    if changed.is_err() {
                        return Err(Error::Stopped);
                    }
                    Step::Committed
                }
                _ = tick.tick() => Step::Tick,
            };
            match step {
                Step::Event(Some(event)) => {
                    self.event_count += 1;
                    self.event(event).await?;
                }
                Step::Event(None) => {
                    return Err(Error::Connection { text: "the server ended the stream".into() });
                }
                Step::Committed => self.heed_committed(),
                Step::Tick => self.tick().await?,
                Step::Stop => {
                    self.follow_committed();
                    self.advance_mark(true).await;
                    return Ok(());
                }
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Data { lsn, message } => {
                self.data_count += 1;
                if message.len() > Width::default().message_bytes_max() {
                    self.large_at = Instant::now();
                }
                self.assembly.message(lsn, &message)?;
                if !self.assembly.notes.is_empty() {
                    self.heed_notes();
                }
                if self.assembly.held_bytes > self.source.transaction_bytes_max {
                    let mut observations = self.assembly.take_part();
                    self.complete(&mut observations).await?;
                    self.parts_sent = true;
                    self.deliver(Delivery::Part { side: Side::Directus, observations }).await?;
                }
            }
            Event::Begin { final_lsn, at } => {
                self.data_count += 1;
                self.reach(final_lsn).await?;
                self.assembly.begin(at);
            }
            Event::Commit { end_lsn, at, .. } => {
                let mut finished = self.assembly.commit(end_lsn, at);
                self.complete(&mut finished.observations).await?;
                self.finish(finished, end_lsn).await?;
                if self.links.stop.is_cancelled() {
                    return Ok(());
                }
                self.follow_committed();
                self.between_transactions().await?;
            }
            Event::Logical { prefix, content } => {
                self.data_count += 1;
                if prefix == PREFIX
                    && let Some(took) = self.heartbeats.returned(&content)
                {
                    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    self.links.status.send_modify(|status| {
                        status.heartbeat_ms = Some(took);
                        status.heartbeat_out_since = None;
                    });
                }
            }
            Event::Keepalive { end } => {
                if !self.assembly.is_open() {
                    self.reach(end).await?;
                    self.pending = self.pending.max(end);
                    self.between_transactions().await?;
                }
            }
        }
        Ok(())
    }

    async fn finish(&mut self, finished: Finished, end: Lsn) -> Result<(), Error> {
        self.transaction_count += 1;
        self.pending = self.pending.max(end);
        if finished.observations.is_empty() && !self.parts_sent {
            return Ok(());
        }
        let Finished { stamp, observations } = finished;
        let changed_at = stamp.at;
        self.links.status.send_modify(|status| status.last_change_at = Some(changed_at));
        self.deliver(Delivery::Transaction { stamp, observations }).await?;
        self.parts_sent = false;
        self.incarnation.sent = self.incarnation.sent.max(end);
        self.reported_at = Instant::now();
        Ok(())
    }

    /// What may be done while no transaction is open.
    async fn between_transactions(&mut self) -> Result<(), Error> {
        let idle = self.pending.0.saturating_sub(self.incarnation.sent.0);
        if idle >= PROGRESS_BYTES_MAX
            || (idle > 0 && self.reported_at.elapsed() >= self.source.status_interval)
        {
            let position = Position::Lsn(self.pending);
            self.deliver(Delivery::Progress { side: Side::Directus, position }).await?;
            self.incarnation.sent = self.pending;
            self.reported_at = Instant::now();
        }
        if self.look_wanted {
            self.look_at_catalogue().await?;
        }
        if self.access_wanted {
            self.look_at_access().await?;
        }
        if !self.rereads.wanted.is_empty() && self.rereads.waiting.is_none() {
            self.begin_reread().await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.heard.0 != self.event_count {
            self.heard = (self.event_count, now);
        }
        if self.data_heard.0 != self.data_count {
            self.data_heard = (self.data_count, now);
        }
        if let Some(silence_max) = self.silence_max
            && self.heard.1.elapsed() > silence_max
        {
            return Err(Error::Silent { silence: self.heard.1.elapsed() });
        }
        // A stream that is behind may take its time; one that carries nothing at all has lost it.
        let heartbeat_max = (self.source.heartbeat_interval * 6).max(Duration::from_secs(30));
        if let Some(age) = self.heartbeats.age()
            && age > heartbeat_max
            && self.data_heard.1.elapsed() > heartbeat_max
        {
            return Err(Error::HeartbeatLost { age });
        }
        self.follow_committed();
        self.take_witness()?;
        if self.marked_at.elapsed() > MARK_INTERVAL {
            self.marked_at = now;
            self.advance_mark(false).await;
        }
        if !self.assembly.is_open() {
            let some_missing = self.layout.tables.len() > self.tables.len();
            let since_look = self.looked_at.elapsed();
            let is_due = since_look > self.source.look_interval;
            if is_due || some_missing && since_look > LOOK_INTERVAL {
                self.look_wanted = true;
            }
            if self.transport.width().is_wide() && self.large_at.elapsed() > WIDE_LASTS {
                return Err(Error::RowsSmall);
            }
            let is_old = self.access_read_at.elapsed() > ACCESS_INTERVAL;
            self.access_wanted |= is_old && access::accounts_table(self.layout).is_some();
            self.between_transactions().await?;
        }
        let (received, acknowledged) = (self.incarnation.sent, self.incarnation.stored.lsn);
        let (transaction_count, pending) =
            (std::mem::take(&mut self.transaction_count), self.pending);
        let row_count = std::mem::take(&mut self.assembly.row_count);
        let heard = self.heard.1 == now;
        self.links.status.send_modify(|status| {
            status.received = received;
            status.acknowledged = acknowledged;
            status.server = status.server.max(pending);
            status.transaction_count += transaction_count;
            status.row_count += row_count;
            if heard {
                status.heard_at = Some(Utc::now().timestamp_micros());
            }
        });
        Ok(())
    }

    /// Has the latest entry of `directus_activity` stored with the next position: a database that lacks it went back.
    ///
    /// # Errors
    /// `Rewound`: it has gone back just now, under our eyes; connecting again finds out what that means.
    fn take_witness(&mut self) -> Result<(), Error> {
        let Some(witness) = self.heartbeats.take_witness() else { return Ok(()) };
        let stored = &mut self.incarnation.stored;
        if stored.witness.as_ref().is_some_and(|stored| stored.id > witness.id) {
            return Err(Error::Rewound);
        }
        if stored.witness.as_ref() != Some(&witness) {
            stored.witness = Some(witness);
            publish(self.links, &self.incarnation.stored);
        }
        Ok(())
    }

    /// Advances the epoch on both ends; where it fails, the next time does.
    async fn advance_mark(&mut self, is_at_rest: bool) {
        let stored = &self.incarnation.stored;
        let oid = stored.database_oid.unwrap_or_default();
        let place = format!("{}/{oid}", stored.system_identifier);
        let advancing =
            super::advance_mark(&self.admin, self.source, self.links, &place, is_at_rest);
        match timeout(MARK_PATIENCE, advancing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = error.chain(), "could not advance the publication's mark");
            }
            Err(_) => tracing::debug!("no answer while the publication's mark was advanced"),
        }
    }

    /// Acknowledges what has become durable, if it is of this slot: the channel may still tell a place of the
    /// one before.
    fn follow_committed(&mut self) {
        // Only what was told since the slot began.
        if !self.links.committed.has_changed().unwrap_or(false) {
            return;
        }
        self.heed_committed();
    }

    fn heed_committed(&mut self) {
        let Some(committed) = *self.links.committed.borrow_and_update() else { return };
        let stored = &mut self.incarnation.stored;
        if committed < stored.consistent_point || committed > self.incarnation.sent {
            return;
        }
        if committed > stored.lsn {
            stored.lsn = committed;
        }
        self.transport.acknowledge(committed);
        let before = self.rereads.unsettled.len();
        self.rereads.unsettled.retain(|(at, _)| *at >= committed);
        if self.rereads.unsettled.len() != before {
            self.publish_identity();
        }
    }

    /// Hands over; follows the commits while it has to wait.
    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Error> {
        let deliveries = self.links.deliveries.clone();
        loop {
            tokio::select! {
                biased;
                room = deliveries.reserve(&delivery) => {
                    return room.and_then(|room| room.send(delivery)).map_err(|_| Error::Stopped);
                }
                changed = self.links.committed.changed() => {
                    if changed.is_err() {
                        return Err(Error::Stopped);
                    }
                    self.heed_committed();
                }
                () = self.links.stop.cancelled() => return Err(Error::Stopped),
            }
        }
    }

    fn heed_notes(&mut self) {
        for note in std::mem::take(&mut self.assembly.notes) {
            match note {
                Note::Happened { code, text } => {
                    self.links.notify(Notice::happened(code, text));
                }
                Note::Found { code, text } => {
                    self.links.notify(Notice::found(TABLES, code, text));
                    self.look_wanted = true;
                }
                Note::Reread { table } => {
                    self.rereads.wanted.push(table);
                    self.look_wanted = true;
                }
                Note::CoverChanged => self.publish_identity(),
                Note::SchemaHint => self.look_wanted = true,
                Note::AccessHint => self.access_wanted = true,
            }
        }
    }

    /// Tells what is to be stored with the next position. A table read again is left out until a place behind
    /// its rows is committed: a crash before that makes it be read once more, not never.
    fn publish_identity(&mut self) {
        let mut covered: Covered = self.assembly.covered.clone();
        for (_, name) in &self.rereads.unsettled {
            covered.remove(name);
        }
        self.incarnation.stored.covered = covered;
        publish(self.links, &self.incarnation.stored);
    }

    /// Compares what was read in full with what the database has now: columns may have come, gone or changed
    /// while nobody listened, and the mapping may name more than before.
    async fn compare_with_catalogue(&mut self) -> Result<(), Error> {
        for (table, layout) in self.layout.tables.iter().enumerate() {
            match self.tables.get(&layout.name) {
                Some(facts) => self.assembly.compare(table, &types_of(facts)),
                None => self.assembly.forget(&layout.name),
            }
        }
        self.heed_notes();
        self.between_transactions().await
    }

    /// Directus changed its schema, or a mapped table was missing: publishes tables that have appeared.
    async fn look_at_catalogue(&mut self) -> Result<(), Error> {
        self.look_wanted = false;
        self.looked_at = Instant::now();
        if self.admin.is_closed() {
            // The stream itself needs no other connection: what is wrong with this one does not end it.
            match connect(self.source).await {
                Ok(admin) => self.admin = admin,
                Err(error) => {
                    let (failure, remedy) = (error.chain(), error.remedy().unwrap_or_default());
                    let text = format!("The catalogue can't be looked at: {failure}. {remedy}");
                    self.links.notify(Notice::found(TABLES, "capture_no_look", text));
                    return Ok(());
                }
            }
        }
        match publication::ensure(&self.admin, self.source, self.layout).await {
            Ok(published) => {
                let givers = keys::givers(&self.links.mapping, &published);
                self.links.key_givers.send_replace(Some(givers));
                let mut troubles = published.troubles();
                troubles.extend(self.lost_replication().await);
                self.links.notify(Notice::looked(TABLES, troubles));
                for (table, layout) in self.layout.tables.iter().enumerate() {
                    match published.tables.get(&layout.name) {
                        // A new table of an old name is another table: its rows never came by.
                        Some(facts) => {
                            let before = self.tables.get(&layout.name).map(|facts| facts.oid);
                            if before != Some(facts.oid) {
                                self.assembly.hold(table);
                            }
                        }
                        None => self.assembly.forget(&layout.name),
                    }
                }
                self.tables = published.tables;
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(error = error.chain(), "could not look at the catalogue");
                self.look_wanted = self.admin.is_closed();
            }
            Err(error) => {
                let text = format!("{}. {}", error.chain(), error.remedy().unwrap_or_default());
                self.links.notify(Notice::found(TABLES, "capture_publication", text));
            }
        }
        self.heed_notes();
        Ok(())
    }

    /// Whether the role may no longer do what this very connection still does.
    async fn lost_replication(&self) -> Option<Incident> {
        if catalog::server(&self.admin).await.ok()?.may_replicate {
            return None;
        }
        let error = Error::NotReplication { user: self.source.user.clone() };
        let text = format!(
            "{error} any more: what is open goes on, and nothing can be read after it breaks. {}",
            error.remedy().unwrap_or_default()
        );
        Some(Incident::new("capture_no_replication", text))
    }

    /// Reads the roles and policies of Directus again; where they leave out other accounts than before, so the accounts.
    async fn look_at_access(&mut self) -> Result<(), Error> {
        self.access_wanted = false;
        self.access_read_at = Instant::now();
        if self.admin.is_closed() {
            self.admin = connect(self.source).await?;
        }
        let named = Named::new(&self.links.mapping, self.links.own.get().cloned());
        let accounts = match access::read(&self.admin, self.source, self.layout, &named).await {
            Ok(accounts) => accounts,
            Err(error) => {
                let text = format!("{}. {}", error.chain(), error.remedy().unwrap_or_default());
                self.links.notify(Notice::found(ACCESS, "capture_access", text));
                return Ok(());
            }
        };
        self.links.notify(Notice::well(ACCESS));
        let is_same =
            self.gates.accounts.get().is_some_and(|before| before.is_same_rule(&accounts));
        if is_same {
            return Ok(());
        }
        let text = format!(
            "Roles or policies of Directus have changed, and other accounts are members now ({} are left out: {}). Run `plait setup directus`, so that Directus's own rule for plait's user follows.",
            accounts.count(),
            accounts.words()
        );
        self.links.notify(Notice::happened("capture_access_changed", text));
        self.gates.accounts.set(accounts);
        let table = access::accounts_table(self.layout).map(|(name, _)| name.clone());
        if let Some(table) = table.and_then(|name| self.layout.table(&name.schema, &name.table)) {
            self.assembly.hold(table);
        }
        self.heed_notes();
        Ok(())
    }

    /// Reads the rows that have come among those that are mirrored, where the log has left out large values that did
    /// not change. They may be younger than the transaction: the log says so later.
    async fn complete(&mut self, observations: &mut [Observation]) -> Result<(), Error> {
        for (entity, key) in self.gates.take_partial() {
            let is_it = |it: &Observation| it.entity == entity && it.key == key;
            let Some(at) = observations.iter().rposition(is_it) else { continue };
            if self.admin.is_closed() {
                self.admin = connect(self.source).await?;
            }
            let layout = self.layout.tables.iter().find(|table| table.is_of(entity));
            let Some((layout, facts)) =
                layout.and_then(|layout| Some((layout, self.tables.get(&layout.name)?)))
            else {
                continue;
            };
            let read = ReadTable { table: layout.clone(), facts: facts.clone() };
            let limit = self.source.message_bytes_max;
            let row =
                read_row(&self.admin, &self.links.mapping, &read, entity, &key, limit).await?;
            // Gone by now: the log says so later.
            if let Some(row) = row {
                observations[at] = row;
            }
        }
        Ok(())
    }

    /// Takes a snapshot of the tables that have to be read again, with a slot of its own: its creation waits
    /// for every transaction that may have written to them unseen. The stream stands still meanwhile.
    async fn begin_reread(&mut self) -> Result<(), Error> {
        if self.rereads.retry_at.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        let mut tables = self.rereads.wanted.clone();
        tables.sort_unstable();
        tables.dedup();
        let layouts = tables.iter().filter_map(|table| self.layout.tables.get(*table));
        let known = Known::ask(&*self.links.known, layouts).await?;
        let name: String = self.source.slot.chars().take(58).chain("_side".chars()).collect();
        if self.admin.is_closed() {
            self.admin = connect(self.source).await?;
        }
        let created = tokio::select! {
            created = slot::create::<PgWire>(self.source, &self.admin, &name, true) => created,
            () = self.links.stop.cancelled() => return Err(Error::Stopped),
        };
        let created = match created {
            Ok(created) => created,
            Err(error) => {
                let text = format!(
                    "Tables wait for being read again: {}. {}",
                    error.chain(),
                    error.remedy().unwrap_or_default()
                );
                if self.rereads.retry_at.is_none() {
                    self.links.notify(Notice::found(REREAD, "capture_reread_waits", text));
                }
                self.rereads.retry_at = Some(Instant::now() + REREAD_RETRY);
                return Ok(());
            }
        };
        let snapshot =
            Snapshot::import(self.source, &created.snapshot, self.source.reader_count).await?;
        self.rereads.waiting =
            Some(Waiting { at: created.consistent_point, snapshot, tables, known });
        self.rereads.wanted.clear();
        if self.rereads.retry_at.take().is_some() {
            self.links.notify(Notice::well(REREAD));
        }
        // An idle log would never come to the place by itself.
        self.admin
            .execute("select pg_logical_emit_message(true, $1::text, '')", &[&PREFIX])
            .await
            .map_err(Error::sql("write a message into the log"))?;
        Ok(())
    }

    /// All that committed before `lsn` was read: if that is the place of a snapshot that waits, it is read.
    async fn reach(&mut self, lsn: Lsn) -> Result<(), Error> {
        if self.rereads.waiting.as_ref().is_none_or(|waiting| waiting.at > lsn) {
            return Ok(());
        }
        let Some(waiting) = self.rereads.waiting.take() else { return Ok(()) };
        let layouts: Vec<_> = waiting
            .tables
            .iter()
            .filter_map(|table| Some((*table, self.layout.tables.get(*table)?)))
            .collect();
        let names: Vec<TableName> = layouts.iter().map(|(_, table)| table.name.clone()).collect();
        let facts = waiting.snapshot.facts(&names).await?;
        let tables: Vec<ReadTable> = layouts
            .iter()
            .filter_map(|(_, table)| {
                let facts = facts.get(&table.name)?.clone();
                Some(ReadTable { table: (*table).clone(), facts })
            })
            .collect();
        let sink = Sink::of(self.links, self.gates);
        self.parts_sent = true;
        tokio::select! {
            read = waiting.snapshot.read(&tables, waiting.known, &sink, false) => read?,
            () = self.links.stop.cancelled() => return Err(Error::Stopped),
        }
        let at = self.pending.max(self.incarnation.sent);
        self.deliver(snapshot_end(at)).await?;
        self.parts_sent = false;
        self.incarnation.sent = at;
        for table in &tables {
            let name = table.table.name.to_string();
            self.assembly.covered.insert(name.clone(), cover_of(table, self.gates));
            self.rereads.unsettled.push((at, name));
        }
        for (table, _) in layouts {
            self.assembly.held.remove(&table);
        }
        tracing::info!(table_count = tables.len(), lsn = %at, "read tables again");
        self.publish_identity();
        Ok(())
    }
}

/// The last delivery of a full read, which makes all of it visible.
pub(super) fn snapshot_end(position: Lsn) -> Delivery {
    let author = Author { via: "snapshot".into(), ..Author::default() };
    let stamp = Stamp {
        side: Side::Directus,
        at: Utc::now().timestamp_micros(),
        position: Some(Position::Lsn(position)),
        author,
        operation: None,
    };
    Delivery::Transaction { stamp, observations: Vec::<Observation>::new() }
}

/// Sets what is to be stored beside the position.
pub(super) fn publish(links: &Links, stored: &StoredPosition) {
    match serde_json::to_value(stored.identity()) {
        Ok(identity) => {
            links.identity.send_replace(Some(identity));
        }
        Err(error) => tracing::error!(%error, "could not write the slot's identity"),
    }
}

/// The columns that a full read of the table has covered.
pub(super) fn cover_of(table: &ReadTable, gates: &Gates) -> BTreeMap<String, String> {
    let types = types_of(&table.facts);
    let kept =
        table.facts.columns.iter().filter(|column| {
            !column.is_generated && table.table.keeps(&column.name, column.type_oid)
        });
    let kept = kept.map(|column| column.name.as_str());
    let carried = table.facts.carried(&table.table);
    let columns = carried
        .into_iter()
        .chain(kept)
        .filter_map(|column| Some((column.to_owned(), types.get(column)?.clone())));
    let rows = gates.signature(&table.table).map(|rows| (ROWS.to_owned(), rows));
    columns.chain(rows).collect()
}

fn types_of(facts: &TableFacts) -> HashMap<String, String> {
    let carried = facts.columns.iter().filter(|column| !column.is_generated);
    carried
        .map(|column| (column.name.clone(), signature(column.type_oid, column.type_modifier)))
        .collect()
}
