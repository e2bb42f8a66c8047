//! A whole run in this process, on a real Postgres for each of its databases and the sandbox: what is killed, restarted,
//! locked or refused meanwhile ends nothing, and nothing looks well that does not work.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::*;
use crate::{
    demo::{
        cache::postgres_bin,
        cluster::{Cluster, Stop},
    },
    mapping,
    postgres::TlsMode,
    sandbox::{
        Actor, Edit, Fault, FaultKind, MIRROR_TOKEN, NETWORK_BASE, OWNER_USER, Options, Sandbox,
    },
    store::{Canonical, vitals},
};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

const MAPPING: &str = r#"version = 1
[entity.startup]
table = "startup"
airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
directus = { table = "startup" }
[entity.startup.field]
name = { type = "text", airtable = "Nom", directus = "name" }
city = { type = "text", airtable = "Ville", directus = "city" }
"#;

struct World {
    canonical: Cluster,
    source: Cluster,
    sandbox: Sandbox,
    plan: Plan,
    /// On the canonical database; made again after a restart.
    pool: PgPool,
    edit_count: u32,
}

impl World {
    async fn start() -> Self {
        let bin = postgres_bin().unwrap();
        let canonical = Cluster::throw_away(&bin, &[]).await.unwrap();
        let source = Cluster::throw_away(&bin, &[]).await.unwrap();
        canonical.create_database("canon", "plait", "secret").await.unwrap();
        source.sql("postgres", "create database source").await.unwrap();
        let table = "create table startup (id uuid primary key, name text, city text);
            insert into startup values (gen_random_uuid(), 'Voilier', 'Brest')";
        source.sql("source", table).await.unwrap();
        let mut options = Options::default();
        options.config.limits = false;
        let sandbox = Sandbox::start(options).await.unwrap();
        let config = canonical.config("canon", "plait", "secret");
        let at = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&at).await.unwrap();
        let pool = reading::pool(&at, Some("secret")).await.unwrap();
        let client = remote::airtable::Client::new(sandbox.url(), MIRROR_TOKEN).unwrap();
        let base = airtable::BaseSettings {
            poll_min: Duration::from_millis(100),
            poll_max: Duration::from_millis(200),
            ..airtable::BaseSettings::new("reseau", NETWORK_BASE)
        };
        let plan = Plan {
            canonical: at,
            canonical_password: Some("secret".into()),
            mapping: mapping::read(MAPPING, "mapping.toml").unwrap(),
            directus: Some(directus::SourceSettings {
                host: "127.0.0.1".into(),
                port: source.port(),
                user: "postgres".into(),
                password: source.password().into(),
                database: "source".into(),
                tls: TlsMode::Disable,
                heartbeat_interval: Duration::from_secs(1),
                ..directus::SourceSettings::default()
            }),
            directus_api: None,
            airtable: Some(AirtablePlan {
                client: Arc::new(client),
                bases: vec![base],
                ping_listen: None,
            }),
            limits: Limits { batch_row_count_max: 1_000 },
            queue_row_count_max: 10_000,
            exports: Vec::new(),
            alerts: Vec::new(),
        };
        Self { canonical, source, sandbox, plan, pool, edit_count: 0 }
    }

    async fn end(self) {
        self.pool.close().await;
        self.sandbox.stop().await.unwrap();
        self.canonical.remove().await.unwrap();
        self.source.remove().await.unwrap();
    }

    async fn client(&self) -> Client {
        self.canonical.connect("canon").await.unwrap()
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = timeout(PATIENCE, async {
            while !holds().await {
                sleep(Duration::from_millis(50)).await;
            }
        });
        let in_time = waited.await.is_ok();
        assert!(in_time, "never came true: {what}; {:?}", vitals::log_statuses(&self.pool).await);
    }

    async fn count(&self, sql: &'static str, text: &str) -> i64 {
        sqlx::query_scalar(sql).bind(text).fetch_one(&self.pool).await.unwrap_or(-1)
    }

    /// Edits a record on either side, and waits until canonical has both.
    async fn mirrors(&mut self) {
        self.edit_count += 1;
        let (source, airtable) = (format!("s{}", self.edit_count), format!("a{}", self.edit_count));
        let edit = format!("update startup set city = '{source}' where name = 'Voilier'");
        self.source.sql("source", &edit).await.unwrap();
        let (record, _) = self.sandbox.records(NETWORK_BASE, "Startups").remove(0);
        let fields = json!({ "Ville": airtable }).as_object().unwrap().clone();
        let edit = Edit::Update { table: "Startups".into(), record, fields };
        self.sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), &[edit]).unwrap();
        for text in [&source, &airtable] {
            let sql = "select count(*) from canon.startup where city = $1";
            self.until(text, async || self.count(sql, text).await == 1).await;
        }
    }

    /// Waits until a log says this of itself.
    async fn until_told(&self, log: &str, part: &str) {
        self.until(part, async || {
            let logs = vitals::log_statuses(&self.pool).await.unwrap_or_default();
            logs.iter().any(|it| it.log == log && it.words.contains(part))
        })
        .await;
    }

    async fn until_streaming(&self) {
        self.until("streaming", async || {
            let logs = vitals::log_statuses(&self.pool).await.unwrap_or_default();
            let tasks = vitals::tasks(&self.pool).await.unwrap_or_default();
            logs.len() == 2
                && logs.iter().all(|log| log.state == "streaming")
                && tasks.iter().all(|task| task.is_well)
        })
        .await;
    }

    async fn until_open(&self, code: &str, incident_count: i64) {
        let sql = "select count(*) from mirror.incident where code = $1 and closed_at is null";
        self.until(code, async || self.count(sql, code).await == incident_count).await;
    }
}

const ROUND_COUNT: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn run_whose_backends_and_servers_are_killed_mirrors_again_each_time() {
    let mut world = World::start().await;
    let stop = CancellationToken::new();
    let mut running = tokio::spawn(run(world.plan.clone(), stop.clone()));
    world.until_streaming().await;
    world.mirrors().await;
    let backends = "select pid, application_name from pg_stat_activity
        where pid <> pg_backend_pid() and (application_name like 'plait%') and backend_type in ('client backend', 'walsender')
          and usename <> $1 order by backend_start, pid";
    for round in 0..ROUND_COUNT {
        // One after the other: with those of the first, the second, … of both servers.
        let (cluster, database, not) = if round % 5 == 4 {
            (&world.source, "source", "")
        } else {
            (&world.canonical, "canon", "postgres")
        };
        let client = cluster.connect(database).await.unwrap();
        let pids: Vec<i32> =
            client.query(backends, &[&not]).await.unwrap().iter().map(|row| row.get(0)).collect();
        if let Some(pid) = pids.get(round % pids.len().max(1)) {
            client.execute("select pg_terminate_backend($1)", &[pid]).await.unwrap();
        }
        assert!(!running.is_finished(), "round {round}: {:?}", running.await);
        world.mirrors().await;
    }
    for how in [Stop::Fast, Stop::Immediate] {
        world.canonical.stop(how).await.unwrap();
        world.canonical.start().await.unwrap();
        world.mirrors().await;
        world.source.stop(how).await.unwrap();
        world.source.start().await.unwrap();
        world.mirrors().await;
    }
    world.until_streaming().await;
    // Only a stop that was asked for ends it, and then well.
    assert!(!running.is_finished());
    stop.cancel();
    timeout(PATIENCE, &mut running).await.unwrap().unwrap().unwrap();
    let doubled = "select count(*) from (select from mirror.history where field = $1
        group by record_id, after::text having count(*) > 1) x";
    assert_eq!(world.count(doubled, "city").await, 0, "each edit is in the journal once");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_never_looks_well_while_something_does_not_work_and_goes_on_when_it_does() {
    let mut world = World::start().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(world.plan.clone(), stop.clone()));
    world.until_streaming().await;
    world.mirrors().await;

    // Somebody locks a table, for longer than a statement waits.
    let blocker = world.client().await;
    blocker
        .batch_execute("set application_name = 'somebody'; begin; lock table canon.startup in access exclusive mode")
        .await
        .unwrap();
    let edit = "update startup set city = 'locked out' where name = 'Voilier'";
    world.source.sql("source", edit).await.unwrap();
    world.until_told("directus", "a lock on canon.startup that process").await;
    world.until_told("directus", "of `somebody` (user postgres) holds").await;
    // The tasks are told after the logs.
    world
        .until("apply is not well", async || {
            let tasks = vitals::tasks(&world.pool).await.unwrap();
            tasks.iter().any(|task| task.task == "apply" && !task.is_well)
        })
        .await;
    world.until_open("apply_held_up", 1).await;
    blocker.batch_execute("commit").await.unwrap();
    let sql = "select count(*) from canon.startup where city = $1";
    world.until("the edit", async || world.count(sql, "locked out").await == 1).await;
    world.until_streaming().await;
    // It closes by itself.
    world.until_open("apply_held_up", 0).await;

    // Airtable refuses the token for a while: Directus is mirrored, and Airtable is taken up again.
    let log = format!("airtable:{NETWORK_BASE}");
    for request in ["payloads", "schema", "webhooks"] {
        world.sandbox.inject(Fault::of_requests(FaultKind::Unauthorized, request, 10_000));
    }
    world.until_told(&log, "suspended").await;
    world.until_open("side_suspended", 1).await;
    let edit = "update startup set city = 'meanwhile' where name = 'Voilier'";
    world.source.sql("source", edit).await.unwrap();
    world.until("the other side", async || world.count(sql, "meanwhile").await == 1).await;
    world.sandbox.clear_faults();
    world.mirrors().await;

    // The source's password is another one for a while: Airtable is mirrored.
    let password = world.source.password().to_owned();
    let admin = world.source.connect("source").await.unwrap();
    // In two transactions: who is ended has to meet the new password.
    admin.batch_execute("alter role postgres password 'another'").await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'plait%'";
    admin.batch_execute(end).await.unwrap();
    world.until_told("directus", "suspended").await;
    let (record, _) = world.sandbox.records(NETWORK_BASE, "Startups").remove(1);
    let fields = json!({ "Ville": "beside" }).as_object().unwrap().clone();
    let edit = Edit::Update { table: "Startups".into(), record, fields };
    world.sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), &[edit]).unwrap();
    world.until("the other side", async || world.count(sql, "beside").await == 1).await;
    let mut config = world.source.config("source", "postgres", "another");
    config.application_name("test");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("alter role postgres password '{password}'")).await.unwrap();
    world.mirrors().await;
    world.until_streaming().await;
    // They close by themselves.
    world.until_open("side_suspended", 0).await;
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    world.end().await;
}
