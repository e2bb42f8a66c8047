//! A throw-away Postgres for the tests of this room, and what stands in for the rest of the line: it takes the
//! deliveries, keeps what they say, and tells what is durable.

use std::{
    collections::BTreeMap,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use super::{CaptureStatus, Error, Incident, Links, SourceSettings, StoredPosition, run};
use crate::{
    capture::KnownKeys,
    mapping::{
        DeletePolicy, Direction, DirectusField, DirectusTable, Entity, Field, FieldKind, Mapping,
        Part, Policy, Store,
    },
    model::{
        Cell, Change, Delivery, EntityNo, FieldNo, Lsn, Observation, Position, Side, SideKey, Stamp,
    },
    postgres::TlsMode,
    queue::queue,
};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// The folders with server programs to test against.
fn program_folders() -> Vec<PathBuf> {
    let asked = Command::new("pg_config").arg("--bindir").output().expect("pg_config is installed");
    let mut folders = vec![PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim())];
    folders.extend(std::env::var_os("PLAIT_PG18_BIN").map(PathBuf::from));
    folders
}

/// The newest server there is to test against.
pub(super) fn newest() -> PathBuf {
    program_folders().pop().unwrap()
}

/// A cluster of its own, gone when dropped.
pub(super) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    pub(super) port: u16,
    server: Child,
    options: Vec<String>,
}

impl Cluster {
    pub(super) async fn start(options: &[&str]) -> Self {
        Self::start_with(program_folders().remove(0), options, |_| {}).await
    }

    /// `prepare` may put files (certificates) into the data folder before the server starts.
    pub(super) async fn start_with(
        programs: PathBuf,
        options: &[&str],
        prepare: impl FnOnce(&std::path::Path),
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("plait-pg-").tempdir().unwrap();
        if let Some((uid, gid)) = server_user() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        if let Some((uid, gid)) = server_user() {
            for file in std::fs::read_dir(&data).unwrap() {
                chown(file.unwrap().path(), Some(uid), Some(gid)).unwrap();
            }
        }
        let port = free_port();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let server = spawn(&programs, &data, port, &options);
        let cluster = Self { folder, programs, port, server, options };
        cluster.wait_until_up().await;
        cluster
    }

    async fn wait_until_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        while tokio_postgres::connect(&self.url(), NoTls).await.is_err() {
            assert!(Instant::now() < deadline, "the server did not come up");
            sleep(Duration::from_millis(30)).await;
        }
    }

    fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    pub(super) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client
    }

    /// The server falls dead and comes up again.
    pub(super) async fn crash_and_recover(&mut self) {
        self.signal(Signal::SIGQUIT);
        self.server.wait().unwrap();
        let data = self.folder.path().join("data");
        self.server = spawn(&self.programs, &data, self.port, &self.options);
        self.wait_until_up().await;
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    pub(super) fn source(&self) -> SourceSettings {
        SourceSettings {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "postgres".into(),
            database: "postgres".into(),
            tls: TlsMode::Disable,
            lock_timeout: Duration::from_secs(2),
            status_interval: Duration::from_millis(200),
            heartbeat_interval: Duration::from_millis(500),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            ..SourceSettings::default()
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing in it is worth an orderly end.
        self.signal(Signal::SIGQUIT);
        self.server.wait().unwrap();
    }
}

fn spawn(
    programs: &std::path::Path,
    data: &std::path::Path,
    port: u16,
    options: &[String],
) -> Child {
    let mut command = command(&programs.join("postgres"));
    command.arg("-D").arg(data).args(["-p", &port.to_string(), "-k", ""]);
    let all = [
        "wal_level=logical",
        "fsync=off",
        "max_wal_senders=10",
        "max_replication_slots=6",
        "listen_addresses=127.0.0.1",
        "log_min_messages=fatal",
    ];
    for option in all.into_iter().chain(options.iter().map(String::as_str)) {
        command.args(["-c", option]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The server refuses to run as root.
fn server_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").unwrap().expect("a user `postgres`");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn command(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
            Delivery::Abandoned { .. } => {
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
            Change::Absent => {
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

/// A capture that runs, and what comes out of it.
pub(super) struct Tap {
    pub(super) mirror: Arc<Mutex<Mirror>>,
    pub(super) incidents: Arc<Mutex<Vec<Incident>>>,
    pub(super) status: watch::Receiver<CaptureStatus>,
    /// Whether what is taken counts as durable at once.
    pub(super) commits: Arc<AtomicBool>,
    pub(super) committed: watch::Sender<Option<Lsn>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Tap {
    pub(super) fn open(
        source: SourceSettings,
        mapping: Arc<Mapping>,
        before: Option<Mirror>,
    ) -> Self {
        let before = before.unwrap_or_default();
        let stored = before.position();
        let mirror = Arc::new(Mutex::new(before));
        let (deliveries, mut taken) = queue(10_000);
        let (committed, committed_seen) = watch::channel(stored.as_ref().map(|stored| stored.lsn));
        let (status, status_seen) = watch::channel(CaptureStatus::default());
        let (identity, identity_seen) = watch::channel(None);
        let (incident, mut told) = mpsc::channel(64);
        let incidents = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let commits = Arc::new(AtomicBool::new(true));
        let links = Links {
            mapping,
            stored,
            deliveries,
            committed: committed_seen,
            known: Arc::new(MirrorKeys(Arc::clone(&mirror))),
            status,
            identity,
            incidents: incident,
            stop: stop.clone(),
        };
        let task = tokio::spawn(run(source, links));
        let (list, commit) = (Arc::clone(&incidents), Arc::clone(&commits));
        tokio::spawn(async move {
            while let Some(incident) = told.recv().await {
                list.lock().unwrap().push(incident);
            }
        });
        let (kept, told) = (Arc::clone(&mirror), committed.clone());
        tokio::spawn(async move {
            while let Some(delivery) = taken.recv().await {
                let lsn = kept.lock().unwrap().take(delivery, identity_seen.borrow().as_ref());
                if lsn.is_some() && commit.load(Ordering::Relaxed) {
                    told.send_replace(lsn);
                }
            }
        });
        Self { mirror, incidents, status: status_seen, commits, committed, stop, task }
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

    pub(super) async fn until_streaming(&self) {
        let streaming = || self.status.borrow().phase == super::Phase::Streaming;
        self.until("streaming", |_| streaming()).await;
    }

    /// Stops the capture in good order and gives what it has said.
    pub(super) async fn close(self) -> Mirror {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let mirror = self.mirror.lock().unwrap();
        mirror.clone()
    }

    /// Waits for the capture to give up.
    pub(super) async fn failure(self) -> Error {
        tokio::time::timeout(PATIENCE, self.task).await.expect("in time").unwrap().unwrap_err()
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
