//! The capture of a base against the sandbox, with everything that goes wrong.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    capture::{CaptureStatus, KnownKeys, OtherChoices, State, lineage_testing::InMemory},
    mapping::{DirectusTable, FieldKind, Mapping, RowFilter, RowTest, RowValue},
    model::{
        Author, Cell, Change, Delivery, EntityNo, FieldNo, Finding, Incident, Level, Notice,
        Position, Side, SideKey, Value,
    },
    queue::queue,
    remote::airtable::{Client, Error as RemoteError, NewRecord, RecordUpdate},
    sandbox::{
        Actor, Edit, Fault, FaultKind, NETWORK_BASE, OWNER_TOKEN, OWNER_USER, Options,
        PLAYGROUND_BASE, PingFault, READER_TOKEN, Sandbox,
    },
};

use super::{
    BaseSettings, GuardedListener, Identity, Links, PingKey, PingTarget, StoredCursor, preflight,
    router, run,
    tests::{field, link, mapping},
};

const PATIENCE: Duration = Duration::from_secs(30);
const STARTUP: EntityNo = EntityNo(0);
const NAME: FieldNo = FieldNo(0);
const CITY: FieldNo = FieldNo(1);
const SECTOR: FieldNo = FieldNo(3);

fn network() -> Mapping {
    mapping(&[
        (
            "startup",
            "Startups",
            vec![
                field("name", "Nom", FieldKind::Text),
                field("city", "Ville", FieldKind::Text),
                field("headcount", "Effectif", FieldKind::Integer),
                field("sector", "Secteur", FieldKind::Select),
            ],
        ),
        (
            "project",
            "Projets",
            vec![field("name", "Nom du projet", FieldKind::Text), link("startup", "Startup", 0)],
        ),
    ])
}

type Rows = HashMap<(EntityNo, SideKey), BTreeMap<FieldNo, Cell>>;

/// What an `apply` without a database makes of the deliveries.
#[derive(Default)]
struct Applied {
    rows: Rows,
    next: Option<Position>,
    /// Author of the last change of each record.
    authors: HashMap<SideKey, Author>,
    listed_page_count: usize,
    absent_count: usize,
    transaction_count: usize,
}

impl Applied {
    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Transaction { stamp, observations } => {
                self.transaction_count += 1;
                self.listed_page_count += usize::from(stamp.position.is_none());
                self.next = stamp.position.or(self.next.take());
                for observation in observations {
                    let key = (observation.entity, observation.key);
                    self.authors.insert(key.1.clone(), stamp.author.clone());
                    match observation.change {
                        Change::Present { cells, .. } => {
                            self.rows.entry(key).or_default().extend(cells);
                        }
                        Change::Absent => {
                            self.absent_count += 1;
                            self.rows.remove(&key);
                        }
                        Change::Outside { .. } => drop(self.rows.remove(&key)),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Delivery::Progress { position, .. } => self.next = Some(position),
            Delivery::WholeRead { .. } => {}
            Delivery::Part { .. } | Delivery::Abandoned { .. } | Delivery::Decided { .. } => {
                panic!("airtable has no parts")
            }
        }
    }
}

struct Known(Arc<Mutex<Applied>>);

impl KnownKeys for Known {
    fn keys<'a>(
        &'a self,
        _: Side,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        let applied = self.0.lock().unwrap();
        let keys = applied.rows.keys().filter(|(of, _)| *of == entity).map(|(_, key)| key.clone());
        let keys = keys.collect();
        Box::pin(async { Ok(keys) })
    }
}

/// A capture that runs against a sandbox.
struct Line {
    applied: Arc<Mutex<Applied>>,
    changed: Arc<Notify>,
    identity: watch::Receiver<Option<Json>>,
    ping_key: watch::Receiver<Option<PingKey>>,
    status: watch::Receiver<CaptureStatus>,
    incidents: Arc<Mutex<Vec<Incident>>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Setup {
    base: BaseSettings,
    mapping: Mapping,
    stored: Option<StoredCursor>,
    applied: Arc<Mutex<Applied>>,
    token: &'static str,
    /// One that others use too.
    client: Option<Arc<Client>>,
    lineage: InMemory,
    choices: Arc<Choices>,
}

/// Names of options that the other side knows; `None`: all.
#[derive(Default)]
struct Choices(Mutex<Option<Vec<&'static str>>>);

impl OtherChoices for Choices {
    fn take<'a>(
        &'a self,
        _: EntityNo,
        _: FieldNo,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, anyhow::Error>> + Send + 'a>> {
        let is_known = self.0.lock().unwrap().as_ref().is_none_or(|known| known.contains(&name));
        Box::pin(async move { Ok(is_known) })
    }
}

impl Setup {
    fn new() -> Self {
        let mut base = BaseSettings::new("reseau", NETWORK_BASE);
        base.poll_min = Duration::from_millis(300);
        base.poll_max = Duration::from_millis(300);
        Self {
            base,
            mapping: network(),
            stored: None,
            applied: Arc::default(),
            token: OWNER_TOKEN,
            client: None,
            choices: Arc::default(),
            lineage: InMemory::default(),
        }
    }

    fn start(self, sandbox: &Sandbox) -> Line {
        let (deliveries, mut received) = queue(1_000);
        let (incidents, mut raised) = mpsc::channel::<Notice>(16);
        let (status_sender, status) = watch::channel(CaptureStatus::starting());
        let (identity_sender, identity) = watch::channel(None);
        let (ping_key_sender, ping_key) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let seen: Arc<Mutex<Vec<Incident>>> = Arc::default();
        let client = self.client.unwrap_or_else(|| {
            let client = Client::new(sandbox.url(), self.token).unwrap();
            Arc::new(client.with_timeout(Duration::from_millis(700)))
        });
        let links = Links {
            client,
            mapping: Arc::new(self.mapping),
            stored: self.stored,
            deliveries,
            known: Arc::new(Known(Arc::clone(&self.applied))),
            choices: self.choices,
            lineage: Arc::new(self.lineage),
            wake: Arc::clone(&wake),
            status: status_sender,
            identity: identity_sender,
            ping_key: ping_key_sender,
            incidents,
            stop: stop.clone(),
        };
        let (applied, nudge) = (Arc::clone(&self.applied), Arc::clone(&changed));
        let identity_seen = identity.clone();
        tokio::spawn(async move {
            while let Some((delivery, _)) = received.recv().await {
                assert!(identity_seen.borrow().is_some(), "the identity comes first");
                applied.lock().unwrap().take(delivery);
                nudge.notify_waiters();
            }
        });
        let (told, nudge) = (Arc::clone(&seen), Arc::clone(&changed));
        tokio::spawn(async move {
            while let Some(notice) = raised.recv().await {
                told.lock().unwrap().extend(notice.found);
                nudge.notify_waiters();
            }
        });
        let task = tokio::spawn(run(self.base, links));
        let applied = self.applied;
        Line { applied, changed, identity, ping_key, status, incidents: seen, wake, stop, task }
    }
}

impl Line {
    /// Waits until `holds`, with a limit.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Applied) -> bool) {
        let waited = timeout(PATIENCE, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(&self.applied.lock().unwrap()) {
                    return;
                }
                // The state of the sandbox may be part of the condition: look again now and then.
                drop(timeout(Duration::from_millis(100), changed).await);
            }
        });
        if waited.await.is_err() {
            let status = self.status.borrow().clone();
            panic!(
                "not within {PATIENCE:?}: {what}; {status:?}; {:?}",
                self.incidents.lock().unwrap()
            );
        }
    }

    async fn until_equal(&self, sandbox: &Sandbox) {
        self.until("the copy equals the sandbox", |applied| same(applied, sandbox)).await;
    }

    async fn until_incident(&self, code: &str) {
        let incidents = Arc::clone(&self.incidents);
        let is_raised = || incidents.lock().unwrap().iter().any(|incident| incident.code == code);
        self.until(code, |_| is_raised()).await;
    }

    /// Waits until it is suspended for this reason.
    async fn until_suspended(&self, part: &str) -> String {
        let reason = || match &self.status.borrow().state {
            State::Suspended { reason } if reason.contains(part) => Some(reason.clone()),
            _ => None,
        };
        self.until(part, |_| reason().is_some()).await;
        reason().unwrap_or_default()
    }

    /// Stops one that never came to read anything.
    async fn abandon(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// Stops it, and gives what the next process would find.
    async fn stop(self) -> (Arc<Mutex<Applied>>, StoredCursor) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        let identity = Identity::read(self.identity.borrow().as_ref().unwrap()).unwrap();
        let cursor = match self.applied.lock().unwrap().next.clone() {
            Some(Position::Cursor(cursor)) => Some(cursor),
            _ => None,
        };
        (self.applied, StoredCursor { cursor, identity })
    }
}

/// Whether name and city of every startup, and the name of every project, are as in the sandbox.
fn same(applied: &Applied, sandbox: &Sandbox) -> bool {
    let of = |entity: EntityNo, field: FieldNo| -> BTreeMap<String, Cell> {
        let rows = applied.rows.iter().filter(|((of, _), _)| *of == entity);
        rows.map(|((_, key), cells)| (key.to_string(), cells[&field].clone())).collect()
    };
    let there = |table: &str, field: &str| -> BTreeMap<String, Cell> {
        let cell = |fields: &Json| match fields[field].as_str() {
            Some(text) => Cell::Value(Value::Text(text.into())),
            None => Cell::Value(Value::Null),
        };
        let records = sandbox.records(NETWORK_BASE, table).into_iter();
        records.map(|(id, fields)| (id, cell(&fields))).collect()
    };
    of(STARTUP, NAME) == there("Startups", "Nom")
        && of(STARTUP, CITY) == there("Startups", "Ville")
        && of(EntityNo(1), NAME) == there("Projets", "Nom du projet")
}

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::default()).await.unwrap()
}

fn edit(sandbox: &Sandbox, edits: &[Edit]) -> Vec<String> {
    sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), edits).unwrap()
}

fn fields(fields: Json) -> serde_json::Map<String, Json> {
    match fields {
        Json::Object(fields) => fields,
        _ => panic!("not an object"),
    }
}

fn make(sandbox: &Sandbox, name: &str) -> String {
    let create = Edit::Create { table: "Startups".into(), fields: fields(json!({ "Nom": name })) };
    edit(sandbox, &[create]).remove(0)
}

fn set(sandbox: &Sandbox, record: &str, values: Json) {
    let (table, record) = ("Startups".into(), record.into());
    edit(sandbox, &[Edit::Update { table, record, fields: fields(values) }]);
}

fn first_startup(sandbox: &Sandbox) -> String {
    sandbox.records(NETWORK_BASE, "Startups").remove(0).0
}

/// Startups of the sector of health alone.
fn healthy(values: &[&str]) -> Mapping {
    let mut mapping = network();
    let values = values.iter().map(|value| RowValue::Text((*value).into())).collect();
    let test = RowTest { field: "Secteur".into(), values, is_not: false };
    mapping.entities[0].rows.airtable = Some(RowFilter { tests: vec![test] });
    // By a field that is not mapped itself.
    mapping.entities[0].fields.retain(|field| field.name != "sector");
    mapping
}

#[tokio::test]
async fn airtable_rows_outside_the_filter_are_left_out_and_come_back_whole() {
    let sandbox = sandbox().await;
    let line = Setup { mapping: healthy(&["Santé"]), ..Setup::new() }.start(&sandbox);
    let of_sector = |sectors: &[&str]| -> Vec<String> {
        let records = sandbox.records(NETWORK_BASE, "Startups").into_iter();
        let is_of = |fields: &Json| {
            fields["Secteur"].as_str().is_some_and(|sector| sectors.contains(&sector))
        };
        records.filter(|(_, fields)| is_of(fields)).map(|(id, _)| id).collect()
    };
    let here = |applied: &Applied| -> Vec<String> {
        let rows = applied.rows.keys().filter(|(entity, _)| *entity == STARTUP);
        let mut keys: Vec<String> = rows.map(|(_, key)| key.to_string()).collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |mut keys: Vec<String>| {
        keys.sort_unstable();
        keys
    };
    line.until("those of health", |applied| {
        applied.next.is_some() && here(applied) == sorted(of_sector(&["Santé"]))
    })
    .await;
    // One comes, with what it held before; an edit of one that is outside says nothing.
    let other = of_sector(&["Énergie"]).remove(0);
    set(&sandbox, &other, json!({ "Ville": "Brest" }));
    set(&sandbox, &other, json!({ "Secteur": "Santé" }));
    let brest = Cell::Value(Value::Text("Brest".into()));
    let key = (STARTUP, SideKey::from(other.as_str()));
    line.until("it came", |applied| {
        applied.rows.get(&key).is_some_and(|cells| cells[&CITY] == brest && cells.len() == 3)
    })
    .await;
    set(&sandbox, &other, json!({ "Ville": "Nantes" }));
    let nantes = Cell::Value(Value::Text("Nantes".into()));
    line.until("it is followed", |applied| {
        applied.rows.get(&key).is_some_and(|cells| cells[&CITY] == nantes)
    })
    .await;
    set(&sandbox, &other, json!({ "Secteur": "Énergie", "Ville": "Lyon" }));
    line.until("it left", |applied| !applied.rows.contains_key(&key)).await;
    let (applied, stored) = line.stop().await;
    assert_eq!(applied.lock().unwrap().absent_count, 0, "it is still there");
    // Another filter: the table is listed again.
    let mapping = healthy(&["Santé", "Énergie"]);
    let line = Setup { mapping, stored: Some(stored), applied, ..Setup::new() }.start(&sandbox);
    line.until("both sectors", |applied| here(applied) == sorted(of_sector(&["Santé", "Énergie"])))
        .await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_first_copy_then_every_edit_arrives_with_its_author() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let made = make(&sandbox, "Voilier");
    let other = first_startup(&sandbox);
    set(&sandbox, &other, json!({ "Ville": "Brest", "Effectif": 12 }));
    line.until_equal(&sandbox).await;
    set(&sandbox, &made, json!({ "Ville": "Nantes" }));
    set(&sandbox, &made, json!({ "Ville": null, "Nom": "Voilier II" }));
    edit(&sandbox, &[Edit::Delete { table: "Startups".into(), record: other.clone() }]);
    line.until_equal(&sandbox).await;
    edit(&sandbox, &[Edit::Restore { record: other }]);
    edit(&sandbox, &[Edit::Duplicate { table: "Startups".into(), record: made.clone() }]);
    line.until_equal(&sandbox).await;
    {
        let applied = line.applied.lock().unwrap();
        let author = &applied.authors[&SideKey::from(made.as_str())];
        assert_eq!(author.id.as_deref(), Some(OWNER_USER));
        assert_eq!(author.via, "client");
    }
    assert_eq!(line.status.borrow().state, State::Streaming);
    assert_eq!(line.incidents.lock().unwrap().len(), 0);
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_restart_goes_on_at_the_cursor_without_a_listing() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let (applied, stored) = line.stop().await;
    let made = make(&sandbox, "Pendant la pause");
    set(&sandbox, &made, json!({ "Ville": "Lyon" }));
    let listed = applied.lock().unwrap().listed_page_count;
    let line = Setup { stored: Some(stored), applied, ..Setup::new() }.start(&sandbox);
    line.until_equal(&sandbox).await;
    let (applied, stored) = line.stop().await;
    assert_eq!(applied.lock().unwrap().listed_page_count, listed);
    // A process that died in the first listing begins it again, with the same webhook.
    let hook = stored.identity.webhook.clone();
    let stored = StoredCursor { cursor: None, ..stored };
    let line = Setup { stored: Some(stored), ..Setup::new() }.start(&sandbox);
    line.until_equal(&sandbox).await;
    let (_, stored) = line.stop().await;
    assert_eq!(stored.identity.webhook, hook);
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_bad_days_of_the_server_delay_and_lose_nothing() {
    let sandbox = sandbox().await;
    for kind in [FaultKind::Error503, FaultKind::Truncate, FaultKind::Error502, FaultKind::Reset] {
        sandbox.inject(Fault::of_requests(kind, "list", 1));
    }
    sandbox.inject(Fault::of_requests(FaultKind::ForgetListings, "list", 1));
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    for kind in [
        FaultKind::Error500,
        FaultKind::Truncate,
        FaultKind::Drop,
        FaultKind::Timeout,
        FaultKind::Reset,
        FaultKind::Error502,
    ] {
        // More than one call retries: the loop has to go on as well.
        sandbox.inject(Fault::of_requests(
            kind,
            "payloads",
            if kind == FaultKind::Error500 { 6 } else { 1 },
        ));
        make(&sandbox, "Malgré tout");
    }
    line.until_equal(&sandbox).await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_webhook_that_went_is_replaced_and_nothing_is_missed() {
    for what in ["delete", "expire", "error"] {
        let sandbox = sandbox().await;
        let mut setup = Setup::new();
        setup.base.hook_check = Duration::from_secs(2);
        let line = setup.start(&sandbox);
        line.until_equal(&sandbox).await;
        let old = Identity::read(line.identity.borrow().as_ref().unwrap()).unwrap().webhook;
        sandbox.disturb_webhooks(NETWORK_BASE, None, what, "INVALID_HOOK").unwrap();
        make(&sandbox, "Née sans témoin");
        let gone = first_startup(&sandbox);
        edit(&sandbox, &[Edit::Delete { table: "Startups".into(), record: gone }]);
        line.until_incident("webhook_replaced").await;
        line.until_equal(&sandbox).await;
        make(&sandbox, "Après");
        line.until_equal(&sandbox).await;
        let (_, stored) = line.stop().await;
        assert_ne!(stored.identity.webhook, old, "{what}");
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test]
async fn airtable_renamed_retyped_and_deleted_fields_leave_the_rest_alone() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let (table, field) = (String::from("Startups"), String::from("Nom"));
    edit(
        &sandbox,
        &[Edit::RenameField { table: table.clone(), field, name: "Raison sociale".into() }],
    );
    line.until_incident("field_renamed").await;
    let record = first_startup(&sandbox);
    set(&sandbox, &record, json!({ "Raison sociale": "Nouvelle" }));
    let key = (STARTUP, SideKey::from(record.as_str()));
    line.until("the renamed field is read", |applied| {
        applied.rows[&key][&NAME] == Cell::Value(Value::Text("Nouvelle".into()))
    })
    .await;

    let (field, kind) = (String::from("Effectif"), String::from("singleLineText"));
    edit(&sandbox, &[Edit::RetypeField { table: table.clone(), field, kind, options: Json::Null }]);
    line.until_incident("field_retyped").await;

    let before = line.applied.lock().unwrap().rows[&key][&CITY].clone();
    edit(&sandbox, &[Edit::DeleteField { table: table.clone(), field: "Ville".into() }]);
    line.until_incident("field_missing").await;
    set(&sandbox, &record, json!({ "Raison sociale": "Encore" }));
    line.until("the other fields go on", |applied| {
        applied.rows[&key][&NAME] == Cell::Value(Value::Text("Encore".into()))
    })
    .await;
    assert_eq!(line.applied.lock().unwrap().rows[&key][&CITY], before, "its values are kept");
    let (applied, stored) = line.stop().await;

    // The next process knows what went, and goes on too.
    let line = Setup { stored: Some(stored), applied, ..Setup::new() }.start(&sandbox);
    set(&sandbox, &record, json!({ "Raison sociale": "Toujours" }));
    line.until("a restart goes on", |applied| {
        applied.rows[&key][&NAME] == Cell::Value(Value::Text("Toujours".into()))
    })
    .await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_cells_emptied_pages_before_their_field_is_deleted_are_no_edits() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let cities = |applied: &Applied| -> HashMap<SideKey, Cell> {
        let rows = applied.rows.iter().filter(|((entity, _), _)| *entity == STARTUP);
        rows.map(|((_, key), row)| (key.clone(), row[&CITY].clone())).collect()
    };
    let before = cities(&line.applied.lock().unwrap());
    assert!(before.len() >= 50, "a page of payloads, the next has the schema: {}", before.len());
    // A record a payload, and the one that says what it was about last.
    sandbox.configure(|config| {
        config.payload_record_max = 1;
        config.schema_payload = "last".into();
    });
    edit(&sandbox, &[Edit::DeleteField { table: "Startups".into(), field: "Ville".into() }]);
    line.until_incident("field_missing").await;
    let record = first_startup(&sandbox);
    set(&sandbox, &record, json!({ "Nom": "Encore" }));
    line.until("the other fields go on", |applied| {
        applied.rows[&(STARTUP, SideKey::from(record.as_str()))][&NAME]
            == Cell::Value(Value::Text("Encore".into()))
    })
    .await;
    assert_eq!(cities(&line.applied.lock().unwrap()), before, "its values are kept");
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_renamed_option_goes_on_by_its_old_name_until_its_values_may_follow() {
    for payload in ["empty", "none"] {
        let sandbox = sandbox().await;
        sandbox.configure(|config| config.option_payload = payload.into());
        let setup = || {
            let mut setup = Setup::new();
            setup.base.ask_every = Duration::from_millis(300);
            setup
        };
        let choices = Arc::new(Choices(Mutex::new(Some(Vec::new()))));
        let line = Setup { choices: Arc::clone(&choices), ..setup() }.start(&sandbox);
        line.until_equal(&sandbox).await;
        let sector = |applied: &Applied, record: &str| {
            applied.rows[&(STARTUP, SideKey::from(record))][&SECTOR].clone()
        };
        let all = sandbox.records(NETWORK_BASE, "Startups");
        let name = all.iter().find_map(|(_, row)| row["Secteur"].as_str()).unwrap().to_owned();
        let (holder, _) = all.iter().find(|(_, row)| row["Secteur"] == *name).unwrap();
        let (other, _) = all
            .iter()
            .find(|(_, row)| row["Secteur"].is_string() && row["Secteur"] != *name)
            .unwrap();
        let old = Cell::Value(Value::Text(name.clone()));
        let (table, field) = (String::from("Startups"), String::from("Secteur"));
        let renamed = Edit::RenameChoice { table, field, choice: name, name: "Renommé".into() };
        edit(&sandbox, &[renamed]);
        // Where Airtable says nothing of it, a cell that has the option does.
        set(&sandbox, other, json!({ "Secteur": "Renommé" }));
        line.until("it goes on by its old name", |applied| sector(applied, other) == old).await;
        line.until_incident("option_renamed").await;
        assert_eq!(sector(&line.applied.lock().unwrap(), holder), old);
        let waiting = Identity::read(line.identity.borrow().as_ref().unwrap()).unwrap().renamed();
        assert_eq!((&*waiting[0].now, waiting[0].follows), ("Renommé", false));
        let (applied, stored) = line.stop().await;

        // The next process knows of it; once the other side has the choice, the values follow.
        let line =
            Setup { stored: Some(stored), applied, choices: Arc::clone(&choices), ..setup() }
                .start(&sandbox);
        set(&sandbox, other, json!({ "Nom": "Autre" }));
        line.until("a restart goes on", |applied| {
            applied.rows[&(STARTUP, SideKey::from(other.as_str()))][&NAME]
                == Cell::Value(Value::Text("Autre".into()))
        })
        .await;
        assert_eq!(sector(&line.applied.lock().unwrap(), holder), old);
        *choices.0.lock().unwrap() = Some(vec!["Renommé"]);
        let new = Cell::Value(Value::Text("Renommé".into()));
        line.until("the values follow", |applied| {
            sector(applied, holder) == new && sector(applied, other) == new
        })
        .await;
        let identity = || Identity::read(line.identity.borrow().as_ref().unwrap()).unwrap();
        line.until("that is all", |_| identity().renamed().is_empty()).await;
        line.stop().await;
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test]
async fn airtable_deleted_table_leaves_the_others_alone_and_comes_back() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let table = String::from("Startups");
    let (record, _) = sandbox.records(NETWORK_BASE, &table).remove(0);
    let key = (STARTUP, SideKey::from(record.as_str()));
    edit(&sandbox, &[Edit::DeleteTable { table: table.clone() }]);
    line.until_incident("table_missing").await;
    let project = || {
        let fields = fields(json!({ "Nom du projet": "Phare" }));
        let create = Edit::Create { table: "Projets".into(), fields };
        (EntityNo(1), SideKey::from(edit(&sandbox, &[create]).remove(0).as_str()))
    };
    let made = project();
    line.until("the other table goes on", |applied| applied.rows.contains_key(&made)).await;
    assert!(line.applied.lock().unwrap().rows.contains_key(&key), "no row is taken for deleted");
    let (applied, stored) = line.stop().await;

    // The next process goes on too, and sees the table come back.
    let line = Setup { stored: Some(stored), applied, ..Setup::new() }.start(&sandbox);
    let made = project();
    line.until("a restart goes on", |applied| applied.rows.contains_key(&made)).await;
    assert!(line.applied.lock().unwrap().rows.contains_key(&key), "no row is taken for deleted");
    edit(&sandbox, &[Edit::RestoreTable { table }]);
    set(&sandbox, &record, json!({ "Nom": "Revenue" }));
    line.until("the table is read again", |applied| {
        applied.rows[&key][&NAME] == Cell::Value(Value::Text("Revenue".into()))
    })
    .await;
    line.until_equal(&sandbox).await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_payloads_that_were_deleted_unread_are_told_and_healed() {
    // Some of them, and all of them.
    for kept in [Duration::from_mins(1), Duration::from_millis(1)] {
        let sandbox = sandbox().await;
        let line = Setup::new().start(&sandbox);
        line.until_equal(&sandbox).await;
        let (applied, stored) = line.stop().await;
        let gone = first_startup(&sandbox);
        edit(&sandbox, &[Edit::Delete { table: "Startups".into(), record: gone }]);
        make(&sandbox, "Oubliée");
        sandbox.configure(|config| {
            config.payload_kept_ms = i64::try_from(kept.as_millis()).unwrap();
        });
        sandbox.advance(Duration::from_mins(2));
        make(&sandbox, "Récente");
        let line = Setup { stored: Some(stored), applied, ..Setup::new() }.start(&sandbox);
        line.until_incident("payload_gap").await;
        line.until_equal(&sandbox).await;
        let (applied, _) = line.stop().await;
        assert_eq!(applied.lock().unwrap().absent_count, 1);
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test]
async fn airtable_edits_while_the_listing_runs_end_as_they_are() {
    let sandbox = sandbox().await;
    let line = Setup::new().start(&sandbox);
    let records: Vec<_> =
        sandbox.records(NETWORK_BASE, "Startups").into_iter().map(|it| it.0).collect();
    for (at, record) in records.iter().enumerate().take(30) {
        set(&sandbox, record, json!({ "Ville": format!("Ville {at}") }));
        if at % 5 == 0 {
            edit(&sandbox, &[Edit::Delete { table: "Startups".into(), record: record.clone() }]);
            make(&sandbox, "Nouvelle");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    line.until_equal(&sandbox).await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_ping_wakes_the_poller_and_a_lost_one_is_only_late() {
    let sandbox = sandbox().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut setup = Setup::new();
    let folder = tempfile::tempdir().unwrap();
    setup.base.notification_url = Some(format!("http://{address}/airtable/reseau"));
    setup.base.ping_secret_file = Some(folder.path().join("secret"));
    setup.base.poll_min = Duration::from_secs(8);
    setup.base.poll_max = Duration::from_secs(8);
    let line = setup.start(&sandbox);
    let target = PingTarget::new(NETWORK_BASE, line.ping_key.clone(), Arc::clone(&line.wake));
    let app = router(HashMap::from([(String::from("reseau"), target)]));
    let listener = GuardedListener::new(listener, CancellationToken::new());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    line.until_equal(&sandbox).await;
    let mut status = line.status.clone();
    let is_streaming = status.wait_for(|status| status.state == State::Streaming);
    timeout(PATIENCE, is_streaming).await.unwrap().unwrap();

    // Whoever opens connections and says nothing is in nobody's way.
    let mut half_open = Vec::new();
    for _ in 0..2_000 {
        half_open.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let began = std::time::Instant::now();
    make(&sandbox, "Réveil");
    line.until_equal(&sandbox).await;
    // Nobody polled so soon.
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    for fault in [PingFault::Lose, PingFault::Double] {
        sandbox.inject_ping(fault);
        make(&sandbox, "Sans réveil");
        line.until_equal(&sandbox).await;
    }
    drop(half_open);
    let request_count = || sandbox.stats()["request_count"].as_u64().unwrap();
    let (began, before) = (std::time::Instant::now(), request_count());
    for _ in 0..300 {
        line.wake.notify_one();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let poll_count = request_count() - before;
    assert!(poll_count <= began.elapsed().as_secs() + 2, "{poll_count} polls");
    line.stop().await;
    server.abort();
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_many_readers_share_the_allowance_and_are_never_refused() {
    let sandbox = sandbox().await;
    let client = Arc::new(Client::new(sandbox.url(), OWNER_TOKEN).unwrap());
    let tables = client.tables(NETWORK_BASE).await.unwrap();
    let table = tables.iter().find(|table| table.name == "Projets").unwrap().id.clone();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (client, table) = (Arc::clone(&client), table.clone());
        readers.spawn(async move {
            for _ in 0..10 {
                client.list_records(NETWORK_BASE, &table, &[], None).await.unwrap();
            }
        });
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    assert_eq!(sandbox.stats()["refused_by_rate_count"], 0);
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_webhook_of_the_original_is_left_alone_by_a_copy_of_its_database() {
    let sandbox = sandbox().await;
    let client = Client::new(sandbox.url(), OWNER_TOKEN).unwrap();
    let hooks = async || -> Vec<String> {
        let hooks = client.webhooks(NETWORK_BASE).await.unwrap();
        hooks.into_iter().map(|hook| hook.id).collect()
    };
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    let (_, stored) = line.stop().await;
    let original = stored.identity.webhook.clone();

    // A copy of the canonical database that was restored elsewhere, with other settings.
    let mut copy = Setup::new();
    copy.stored = Some(stored.clone());
    copy.lineage = InMemory::default().moved("8/8");
    copy.base.notification_url = Some("https://copy.example/airtable/reseau".into());
    let line = copy.start(&sandbox);
    line.until_equal(&sandbox).await;
    let (_, of_copy) = line.stop().await;
    assert_ne!(of_copy.identity.webhook, original);
    assert!(hooks().await.contains(&original) && hooks().await.contains(&of_copy.identity.webhook));

    // The original goes on with its own.
    let mut again = Setup::new();
    again.stored = Some(stored);
    let line = again.start(&sandbox);
    let made = make(&sandbox, "Voilier");
    line.until("goes on", |applied| {
        applied.rows.contains_key(&(STARTUP, SideKey::from(made.as_str())))
    })
    .await;
    let (_, stored) = line.stop().await;
    assert_eq!(stored.identity.webhook, original);
    // One that it has made itself, it replaces.
    let mut other = Setup::new();
    other.stored = Some(stored);
    other.base.notification_url = Some("https://original.example/airtable/reseau".into());
    let line = other.start(&sandbox);
    line.until_equal(&sandbox).await;
    line.stop().await;
    assert!(!hooks().await.contains(&original));
}

#[tokio::test]
async fn airtable_base_without_a_place_for_a_webhook_names_those_in_the_way_and_takes_a_free_one() {
    let sandbox = sandbox().await;
    // Two clients share its allowance.
    sandbox.configure(|config| config.limits = false);
    let client = Client::new(sandbox.url(), OWNER_TOKEN).unwrap();
    let specification = json!({ "options": { "filters": { "dataTypes": ["tableData"] } } });
    for _ in 0..10 {
        client.create_webhook(NETWORK_BASE, &specification, None).await.unwrap();
    }
    let line = Setup::new().start(&sandbox);
    let told = line.until_suspended("has no place for another webhook").await;
    let hooks = client.webhooks(NETWORK_BASE).await.unwrap();
    assert!(hooks.len() == 10 && hooks.iter().all(|hook| told.contains(&hook.id)), "{told}");
    // One is deleted: it goes on by itself.
    client.delete_webhook(NETWORK_BASE, &hooks[0].id).await.unwrap();
    line.until_equal(&sandbox).await;
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_side_that_refuses_is_suspended_with_what_to_do_and_taken_up_again() {
    let sandbox = sandbox().await;
    // A wrong token, and a mapping that does not fit: from the first call on.
    let line = Setup { token: "patNobody", ..Setup::new() }.start(&sandbox);
    line.until_suspended("does not accept the token").await;
    line.abandon().await;
    let mut setup = Setup::new();
    setup.mapping.entities[0].fields[1].airtable.as_mut().unwrap().field = "Vile".into();
    let line = setup.start(&sandbox);
    line.until_suspended("the nearest field is `Ville`").await;
    line.abandon().await;

    // In the midst of its work: the token is refused, the schema is, the payloads are.
    let line = Setup::new().start(&sandbox);
    line.until_equal(&sandbox).await;
    for (kind, at, told) in [
        (FaultKind::Unauthorized, vec!["payloads"], "does not accept the token"),
        (FaultKind::Forbidden, vec!["payloads", "schema"], "schema.bases:read"),
        (FaultKind::Forbidden, vec!["payloads", "webhooks"], "refuses the token this call"),
    ] {
        for request in at {
            sandbox.inject(Fault::of_requests(kind, request, 10_000));
        }
        line.until_suspended(told).await;
        let record = first_startup(&sandbox);
        set(&sandbox, &record, json!({ "Ville": format!("{kind:?}") }));
        sandbox.clear_faults();
        line.until_equal(&sandbox).await;
    }
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_preflight_finds_what_run_would_trip_over() {
    let sandbox = sandbox().await;
    let base = BaseSettings::new("reseau", NETWORK_BASE);
    let look = async |token: &str, base: &BaseSettings, mapping: &Mapping| -> Vec<Finding> {
        let client = Client::new(sandbox.url(), token).unwrap();
        preflight(&client, base, mapping, None).await
    };
    let fine = look(OWNER_TOKEN, &base, &network()).await;
    assert!(fine.iter().all(|finding| finding.level == Level::Ok), "{fine:?}");
    let bad = |findings: &[Finding]| {
        let bad = findings.iter().filter(|finding| finding.level == Level::Error);
        bad.map(|finding| format!("{}: {}", finding.what, finding.remedy.as_deref().unwrap()))
            .collect()
    };
    let wrong: Vec<String> = bad(&look("patNobody", &base, &network()).await);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let reader: Vec<String> = bad(&look(READER_TOKEN, &base, &network()).await);
    assert!(!reader.is_empty(), "a reader cannot make webhooks");
    let mut two_sided = network();
    two_sided.entities[0].directus =
        Some(DirectusTable { schema: "public".into(), table: "startup".into(), key: "id".into() });
    let fine = look(OWNER_TOKEN, &base, &two_sided).await;
    assert!(fine.iter().all(|finding| finding.level == Level::Ok), "{fine:?}");
    assert!(fine.iter().any(|finding| finding.what.contains("may write records")), "{fine:?}");
    let reader: Vec<String> = bad(&look(READER_TOKEN, &base, &two_sided).await);
    assert!(reader.iter().any(|text| text.contains("data.records:write")), "{reader:?}");
    two_sided.entities[0].airtable.as_mut().unwrap().uuid = None;
    let warned = look(OWNER_TOKEN, &base, &two_sided).await;
    let warned = warned.iter().find(|finding| finding.level == Level::Warning).unwrap();
    assert!(warned.what.contains("`startup`"), "{warned:?}");
    let mut mapping = network();
    mapping.entities[0].airtable.as_mut().unwrap().table = "Startup".into();
    mapping.entities[1].fields[0].airtable.as_mut().unwrap().field = "Nom du projt".into();
    let names: Vec<String> = bad(&look(OWNER_TOKEN, &base, &mapping).await);
    assert!(names.iter().any(|text| text.contains("`Startups`")), "{names:?}");
    assert!(names.iter().any(|text| text.contains("`Nom du projet`")), "{names:?}");
    let elsewhere = BaseSettings::new("reseau", "appNoSuchBase0001");
    let missing: Vec<String> = bad(&look(OWNER_TOKEN, &elsewhere, &network()).await);
    assert!(missing.iter().any(|text| text.contains(NETWORK_BASE)), "{missing:?}");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_several_bases_are_captured_side_by_side() {
    let sandbox = sandbox().await;
    let mut two = network();
    let mut other = mapping(&[("other", "Autres", vec![field("name", "Nom", FieldKind::Text)])]);
    let airtable = other.entities[0].airtable.as_mut().unwrap();
    (airtable.base, airtable.uuid) = ("bac".into(), None);
    two.entities.append(&mut other.entities);
    let first = Setup { mapping: two.clone(), ..Setup::new() }.start(&sandbox);
    let mut setup = Setup { mapping: two, ..Setup::new() };
    setup.base =
        BaseSettings { poll_max: setup.base.poll_max, ..BaseSettings::new("bac", PLAYGROUND_BASE) };
    let second = setup.start(&sandbox);
    first.until_equal(&sandbox).await;
    let create =
        Edit::Create { table: "Autres".into(), fields: fields(json!({ "Nom": "Là-bas" })) };
    let made =
        sandbox.edit_as(PLAYGROUND_BASE, Actor::source("automation"), &[create]).unwrap().remove(0);
    make(&sandbox, "Ici");
    first.until_equal(&sandbox).await;
    let key = (EntityNo(2), SideKey::from(made.as_str()));
    second.until("the other base", |applied| applied.rows.contains_key(&key)).await;
    assert!(first.applied.lock().unwrap().rows.keys().all(|(entity, _)| *entity != EntityNo(2)));
    assert!(second.applied.lock().unwrap().rows.keys().all(|(entity, _)| *entity == EntityNo(2)));
    first.stop().await;
    second.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_bulk_of_writes_has_its_echoes_read_in_full_pages() {
    let sandbox = sandbox().await;
    let client = Client::new(sandbox.url(), OWNER_TOKEN).unwrap();
    let client = Arc::new(client);
    let line = Setup { client: Some(Arc::clone(&client)), ..Setup::new() }.start(&sandbox);
    line.until_equal(&sandbox).await;
    let record = first_startup(&sandbox);
    let tables = client.tables(NETWORK_BASE).await.unwrap();
    let table = tables.into_iter().find(|table| table.name == "Startups").unwrap();
    let name = table.fields.iter().find(|it| it.name == "Nom").unwrap().id.clone();
    let payload_request_count =
        || sandbox.stats()["by_kind"]["payloads"].as_u64().unwrap_or_default();
    let before = payload_request_count();
    let began = tokio::time::Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for no in 0..40 {
        let (client, table) = (Arc::clone(&client), table.id.clone());
        let fields = fields(json!({ (name.clone()): format!("Masse {no}") }));
        let update = RecordUpdate { id: Some(record.clone()), fields };
        pushes.spawn(async move {
            client.update_records(NETWORK_BASE, &table, &[update]).await.unwrap();
        });
    }
    while let Some(pushed) = pushes.join_next().await {
        pushed.unwrap();
    }
    let took = began.elapsed();
    let read = payload_request_count() - before;
    // Every 300 ms it would have been polled in calm.
    assert!(read <= 3 + took.as_secs() / 4, "{read} requests for payloads in {took:?}");
    line.until_equal(&sandbox).await;
    assert_eq!(sandbox.stats()["refused_by_rate_count"], 0);
    line.stop().await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn airtable_writes_create_update_upsert_and_delete() {
    let sandbox = sandbox().await;
    let client = Client::new(sandbox.url(), OWNER_TOKEN).unwrap();
    let tables = client.tables(NETWORK_BASE).await.unwrap();
    let table = tables.iter().find(|table| table.name == "Startups").unwrap();
    let id = |name: &str| table.fields.iter().find(|it| it.name == name).unwrap().id.clone();
    let (name, uuid) = (id("Nom"), id("UUID"));
    let cells = |pairs: &[(&String, &str)]| {
        pairs.iter().map(|(field, text)| ((*field).clone(), json!(text))).collect()
    };
    let create = NewRecord { fields: cells(&[(&name, "A"), (&uuid, "u-1")]) };
    // Not applied, says the server: sent again.
    sandbox.inject(Fault::of_requests(FaultKind::Error503, "create", 1));
    let made = client.create_records(NETWORK_BASE, &table.id, &[create]).await.unwrap();
    let update = RecordUpdate { id: Some(made[0].id.clone()), fields: cells(&[(&name, "B")]) };
    client.update_records(NETWORK_BASE, &table.id, &[update]).await.unwrap();
    let rows = ["u-1", "u-2"]
        .map(|it| RecordUpdate { id: None, fields: cells(&[(&name, "C"), (&uuid, it)]) });
    let merge_on = [uuid.clone()];
    let upserted = client.upsert_records(NETWORK_BASE, &table.id, &merge_on, &rows).await.unwrap();
    assert_eq!(
        (upserted.created.len(), upserted.updated.as_slice()),
        (1, [made[0].id.clone()].as_slice())
    );
    let ids: Vec<_> = upserted.records.iter().map(|record| record.id.clone()).collect();
    assert_eq!(client.delete_records(NETWORK_BASE, &table.id, &ids).await.unwrap(), ids);
    assert!(client.get_record(NETWORK_BASE, &table.id, &ids[0]).await.unwrap().is_none());
    let computed = NewRecord { fields: cells(&[(&id("Total investi"), "1")]) };
    let refused = client.create_records(NETWORK_BASE, &table.id, &[computed]).await.unwrap_err();
    assert!(matches!(refused, RemoteError::Refused { .. }), "{refused}");
    assert_eq!(refused.kind(), Some("INVALID_VALUE_FOR_COLUMN"));
    assert_eq!(sandbox.stats()["refused_by_rate_count"], 0);
    sandbox.stop().await.unwrap();
}
