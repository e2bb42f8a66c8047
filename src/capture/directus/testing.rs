//! A throw-away Postgres for the tests of this room, and what stands in for the rest of the line: it takes the
//! deliveries, keeps what they say, and tells what is durable.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{CaptureStatus, Links, SourceSettings, StoredPosition, run};
use crate::{
    capture::{KnownKeys, lineage_testing::InMemory},
    demo::{
        cache::{postgres_bin, postgres18_bin},
        cluster::{self, SUPERUSER, Stop},
    },
    mapping::{
        DeletePolicy, Direction, DirectusField, DirectusTable, Entity, Field, FieldKind, Mapping,
        Part, Policy, Store,
    },
    model::{
        Cell, Change, Delivery, EntityNo, FieldNo, Incident, Lsn, Notice, Observation, Position,
        Side, SideKey, Stamp,
    },
    postgres::TlsMode,
    queue::queue,
};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A cluster of its own, gone when dropped.
pub(super) struct Cluster(cluster::Cluster);

impl Cluster {
    /// Of the system's Postgres.
    pub(super) async fn start(settings: &[&str]) -> Self {
        Self(cluster::Cluster::throw_away(&postgres_bin().unwrap(), settings).await.unwrap())
    }

    /// Of the newest Postgres there is to test against.
    pub(super) async fn start_newest(settings: &[&str]) -> Self {
        let programs = postgres18_bin().or_else(|_| postgres_bin()).unwrap();
        Self(cluster::Cluster::throw_away(&programs, settings).await.unwrap())
    }

    pub(super) async fn client(&self) -> Client {
        self.0.connect("postgres").await.unwrap()
    }

    pub(super) fn data_folder(&self) -> PathBuf {
        self.0.data_folder()
    }

    /// The server ends, in this manner, and comes up again.
    pub(super) async fn restart(&mut self, how: Stop) {
        self.0.stop(how).await.unwrap();
        self.0.start().await.unwrap();
    }

    /// A copy that follows this one, until it is promoted.
    pub(super) async fn standby(&self) -> Self {
        Self(self.0.standby(&[]).await.unwrap())
    }

    pub(super) async fn stop(&mut self, how: Stop) {
        self.0.stop(how).await.unwrap();
    }

    /// A role that logs in with the password of [`Cluster::source`]: its name, and what else it may.
    pub(super) async fn make_role(&self, role: &str) {
        let sql = format!("create role {role} login password '{}'", self.0.password());
        self.0.sql("postgres", &sql).await.unwrap();
    }

    pub(super) fn source(&self) -> SourceSettings {
        SourceSettings {
            host: "127.0.0.1".into(),
            port: self.0.port(),
            user: SUPERUSER.into(),
            password: self.0.password().into(),
            database: "postgres".into(),
            tls: TlsMode::Disable,
            lock_timeout: Duration::from_secs(2),
            status_interval: Duration::from_millis(200),
            heartbeat_interval: Duration::from_millis(500),
            look_interval: Duration::from_secs(1),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            ..SourceSettings::default()
        }
    }
}

/// An entity of table `table`, whose fields have the names of their columns.
pub(super) fn entity(table: &str, columns: &[(&str, FieldKind)]) -> Entity {
    Entity {
        name: table.into(),
        table: table.into(),
        airtable: None,
        directus: Some(DirectusTable {
            schema: "public".into(),
            table: table.into(),
            key: "id".into(),
        }),
        deletes: DeletePolicy::Hold,
        matches: Vec::new(),
        password: None,
        caution: crate::mapping::Caution::default(),
        guard: crate::mapping::MassGuard::default(),
        rows: crate::mapping::Rows::default(),
        fields: columns
            .iter()
            .map(|(column, kind)| {
                field(
                    column,
                    kind.clone(),
                    DirectusField::Column {
                        column: (*column).into(),
                        part: Part::Whole,
                        codes: None,
                    },
                )
            })
            .collect(),
    }
}

pub(super) fn field(name: &str, kind: FieldKind, directus: DirectusField) -> Field {
    Field {
        name: name.into(),
        store: Store::Column(name.into()),
        kind,
        transforms: Vec::new(),
        airtable: None,
        directus: Some(directus),
        policy: Policy::Ask,
        direction: Direction::Both,
        transitions: None,
        personal: crate::mapping::Personal::No,
        erased: None,
        is_required: false,
        filled_by: Vec::new(),
    }
}

pub(super) fn mapping(entities: Vec<Entity>) -> Arc<Mapping> {
    Arc::new(Mapping { entities })
}

/// What the deliveries have said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    /// (entity, key) → field → cell
    pub(super) records: BTreeMap<(u16, String), BTreeMap<u16, Cell>>,
    /// (field, row) → (parent, element)
    pub(super) elements: BTreeMap<(u16, String), (String, Option<Cell>)>,
    /// How often each record was observed as present.
    pub(super) seen_count: BTreeMap<(u16, String), usize>,
    pub(super) stamps: Vec<(Stamp, usize)>,
    pub(super) observations: Vec<Observation>,
    pub(super) part_count: usize,
    pub(super) part_row_count_max: usize,
    pub(super) progress_count: usize,
    pub(super) stored: Option<(Lsn, serde_json::Value)>,
    parts: Vec<Observation>,
    /// Whose mirror it is.
    pub(super) lineage: InMemory,
}

impl Mirror {
    fn take(&mut self, delivery: Delivery, identity: Option<&serde_json::Value>) -> Option<Lsn> {
        let position = match delivery {
            Delivery::Part { observations, .. } => {
                self.part_count += 1;
                self.part_row_count_max = self.part_row_count_max.max(observations.len());
                self.parts.extend(observations);
                return None;
            }
            Delivery::WholeRead { .. } => return None,
            Delivery::Abandoned { .. } | Delivery::Decided { .. } => {
                self.parts.clear();
                return None;
            }
            Delivery::Progress { position, .. } => {
                self.progress_count += 1;
                position
            }
            Delivery::Transaction { stamp, observations } => {
                let mut all = std::mem::take(&mut self.parts);
                all.extend(observations);
                let position = stamp.position.clone().expect("a position");
                self.stamps.push((stamp, all.len()));
                for observation in all {
                    self.observe(&observation);
                    self.observations.push(observation);
                }
                position
            }
        };
        let Position::Lsn(lsn) = position else { panic!("{position}") };
        self.stored = Some((lsn, identity.expect("an identity before the first position").clone()));
        Some(lsn)
    }

    fn observe(&mut self, observation: &Observation) {
        let at = (observation.entity.0, observation.key.to_string());
        match &observation.change {
            Change::Present { cells, .. } => {
                *self.seen_count.entry(at.clone()).or_default() += 1;
                let record = self.records.entry(at).or_default();
                for (field, cell) in cells {
                    record.insert(field.0, cell.clone());
                }
            }
            Change::Renamed { to } => {
                let record = self.records.remove(&at).unwrap_or_default();
                self.records.insert((at.0, to.to_string()), record);
            }
            Change::Absent | Change::Outside { .. } => {
                self.records.remove(&at);
            }
            Change::Truncated => self.records.retain(|(entity, _), _| *entity != at.0),
            Change::Element(element) => {
                let row = (element.field.0, element.row.to_string());
                if element.row.0.is_empty() {
                    self.elements.retain(|(field, _), _| *field != element.field.0);
                } else if element.element.is_none() {
                    self.elements.remove(&row);
                } else {
                    self.elements.insert(row, (at.1, element.element.clone()));
                }
            }
        }
    }

    pub(super) fn keys(&self) -> Vec<&str> {
        self.records.keys().map(|(_, key)| key.as_str()).collect()
    }

    pub(super) fn cell(&self, key: &str, field: u16) -> Option<&Cell> {
        self.records.get(&(0, key.into()))?.get(&field)
    }

    pub(super) fn position(&self) -> Option<StoredPosition> {
        let (lsn, identity) = self.stored.as_ref()?;
        Some(StoredPosition::new(*lsn, identity).expect("an identity that can be read"))
    }
}

/// Answers with what a mirror holds.
struct MirrorKeys(Arc<Mutex<Mirror>>);

impl KnownKeys for MirrorKeys {
    fn keys<'a>(
        &'a self,
        _side: Side,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        let mirror = self.0.lock().unwrap();
        let keys = mirror.records.keys().filter(|(no, _)| *no == entity.0);
        let keys = keys.map(|(_, key)| SideKey::from(key.as_str())).collect();
        Box::pin(async { Ok(keys) })
    }

    fn elements<'a>(
        &'a self,
        _side: Side,
        _entity: EntityNo,
        field: FieldNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        let mirror = self.0.lock().unwrap();
        let rows = mirror.elements.keys().filter(|(no, _)| *no == field.0);
        let rows = rows.map(|(_, row)| SideKey::from(row.as_str())).collect();
        Box::pin(async { Ok(rows) })
    }
}

/// The codes of incidents that are open, with their subjects: as the program keeps them in `mirror.incident`.
#[derive(Default)]
struct OpenIncidents(BTreeMap<String, Option<String>>);

impl OpenIncidents {
    fn take(&mut self, Notice { subject, is_whole, found }: Notice) {
        if is_whole {
            self.0.retain(|_, of| *of != subject);
        }
        self.0.extend(found.into_iter().map(|incident| (incident.code, subject.clone())));
    }
}

/// A capture that runs, and what comes out of it.
pub(super) struct Tap {
    pub(super) mirror: Arc<Mutex<Mirror>>,
    /// All that were told, in order.
    pub(super) incidents: Arc<Mutex<Vec<Incident>>>,
    open_incidents: Arc<Mutex<OpenIncidents>>,
    pub(super) status: watch::Receiver<CaptureStatus>,
    /// Whether what is taken counts as durable at once.
    pub(super) commits: Arc<AtomicBool>,
    pub(super) committed: watch::Sender<Option<Lsn>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Tap {
    pub(super) fn open(
        source: SourceSettings,
        mapping: Arc<Mapping>,
        before: Option<Mirror>,
    ) -> Self {
        let before = before.unwrap_or_default();
        let stored = before.position();
        let lineage = before.lineage.clone();
        let mirror = Arc::new(Mutex::new(before));
        let (deliveries, mut taken) = queue(10_000);
        let (committed, committed_seen) = watch::channel(stored.as_ref().map(|stored| stored.lsn));
        let (status, status_seen) = watch::channel(CaptureStatus::default());
        let (identity, identity_seen) = watch::channel(None);
        let (incident, mut told) = mpsc::channel(64);
        let incidents = Arc::new(Mutex::new(Vec::new()));
        let open_incidents = Arc::<Mutex<OpenIncidents>>::default();
        let stop = CancellationToken::new();
        let commits = Arc::new(AtomicBool::new(true));
        let links = Links {
            mapping,
            stored,
            deliveries,
            committed: committed_seen,
            known: Arc::new(MirrorKeys(Arc::clone(&mirror))),
            lineage: Arc::new(lineage),
            own: Arc::default(),
            accounts: crate::mapping::AccountGuard::default(),
            status,
            identity,
            incidents: incident,
            key_givers: watch::Sender::default(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(run(source, links));
        let (list, commit) = (Arc::clone(&incidents), Arc::clone(&commits));
        let open = Arc::clone(&open_incidents);
        tokio::spawn(async move {
            while let Some(notice) = told.recv().await {
                list.lock().unwrap().extend(notice.found.clone());
                open.lock().unwrap().take(notice);
            }
        });
        let (kept, told) = (Arc::clone(&mirror), committed.clone());
        tokio::spawn(async move {
            while let Some((delivery, _)) = taken.recv().await {
                let lsn = kept.lock().unwrap().take(delivery, identity_seen.borrow().as_ref());
                if lsn.is_some() && commit.load(Ordering::Relaxed) {
                    told.send_replace(lsn);
                }
            }
        });
        Self {
            mirror,
            incidents,
            open_incidents,
            status: status_seen,
            commits,
            committed,
            stop,
            task,
        }
    }

    /// Waits until the mirror is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Mirror) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.mirror.lock().unwrap()) {
            if Instant::now() > deadline || self.task.is_finished() {
                // One lock: a second in the same statement would wait for the first.
                let (record_count, stored) = {
                    let mirror = self.mirror.lock().unwrap();
                    (mirror.records.len(), mirror.stored.clone())
                };
                panic!(
                    "never came true: {what}; {:?}; {:?}; {record_count} records, stored {stored:?}",
                    self.status.borrow(),
                    self.incidents.lock().unwrap(),
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn until_incident(&self, code: &str) {
        self.until(code, |_| self.has_incident(code)).await;
    }

    pub(super) fn has_incident(&self, code: &str) -> bool {
        self.incidents.lock().unwrap().iter().any(|incident| incident.code == code)
    }

    /// The text of the last incident of this code.
    pub(super) fn incident(&self, code: &str) -> String {
        let incidents = self.incidents.lock().unwrap();
        let of_code = incidents.iter().rfind(|incident| incident.code == code);
        of_code.map(|incident| incident.text.clone()).unwrap_or_default()
    }

    pub(super) async fn until_open(&self, code: &str) {
        self.until(code, |_| self.is_open(code)).await;
    }

    pub(super) async fn until_over(&self, code: &str) {
        self.until(code, |_| !self.is_open(code)).await;
    }

    /// Whether an incident of this code was told and is not over.
    pub(super) fn is_open(&self, code: &str) -> bool {
        self.open_incidents.lock().unwrap().0.contains_key(code)
    }

    pub(super) async fn until_streaming(&self) {
        let streaming = || self.status.borrow().phase == super::Phase::Streaming;
        self.until("streaming", |_| streaming()).await;
    }

    /// Stops the capture in good order and gives what it has said.
    pub(super) async fn close(self) -> Mirror {
        self.stop.cancel();
        self.task.await.unwrap();
        let mirror = self.mirror.lock().unwrap();
        mirror.clone()
    }

    /// Waits until the capture is suspended for this reason.
    pub(super) async fn until_suspended(&self, part: &str) -> String {
        let failure = || {
            let status = self.status.borrow();
            let is_suspended = status.phase == super::Phase::Suspended;
            status.failure.clone().filter(|failure| is_suspended && failure.contains(part))
        };
        self.until(part, |_| failure().is_some()).await;
        failure().unwrap_or_default()
    }
}

/// Waits until the answer of a query (one text) is as wanted.
pub(super) async fn until_query(client: &Client, sql: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = client.query_opt(sql, &[]).await.unwrap();
        let answer = row.and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default();
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {answer} instead of {wanted}");
        sleep(Duration::from_millis(20)).await;
    }
}
