//! The writer's place on a real Postgres: who gets it, who does not, and what one who lost it can still do.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Canonical, Error, Writer, install_reports,
    lease::{Candidate, Lease, stand_by, take},
    migrate, reading, vitals,
};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    gate::Gate,
    mapping::{self, Mapping},
    merge::{Operation, OperationKind},
    model::{EntityNo, RecordId, Side},
    postgres::TlsMode,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    cluster: Cluster,
    client: Client,
    canonical: Canonical,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database place").await.unwrap();
        let config = cluster.config("place", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        let client = cluster.connect("place").await.unwrap();
        Self { cluster, client, canonical }
    }

    async fn migrated() -> Self {
        let world = Self::start().await;
        migrate(&world.canonical).await.unwrap();
        world
    }

    /// As a run of its own would connect.
    fn of(&self, candidate: &Candidate) -> Canonical {
        let mut canonical = self.canonical.clone();
        canonical.config.application_name(candidate.application());
        canonical
    }

    async fn text(&self, sql: &str) -> String {
        let row = self.client.query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn until(&self, sql: &str, text: &str) {
        let waited = timeout(PATIENCE, async {
            while self.text(sql).await != text {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{sql} never gave {text}: {}", self.text(sql).await);
    }

    /// The place from which somebody has gone without a word: where they were, as far as they said.
    async fn abandoned(&self, process_pid: i32, process_start: Option<&str>) {
        let sql =
            "update mirror.writer set owner = gen_random_uuid(), backend_pid = 0, process_pid = $1,
                       process_start = $2, request_ms_max = 30000";
        self.client.execute(sql, &[&process_pid, &process_start]).await.unwrap();
    }
}

const STANDBYS: &str =
    "select count(*)::text from mirror.standby where seen_at > now() - interval '10 s'";

fn mapping() -> Mapping {
    let text = "version = 1\n[entity.startup]\ntable = \"startup\"\ndirectus = { table = \"startup\" }\n\
        [entity.startup.field]\nname = { type = \"text\", directus = \"name\" }\n";
    mapping::read(text, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn epoch_of(lease: &Lease) -> i64 {
    lease.epoch
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_standby_waits_says_so_and_takes_over_when_the_holders_session_is_gone() {
    let world = World::migrated().await;
    let pool = reading::pool(&world.canonical, Some(world.cluster.password())).await.unwrap();
    assert!(!vitals::is_running(&pool).await.unwrap());
    let (first, second) = (Candidate::new(None), Candidate::new(None));
    let held = take(&world.of(&first), &first).await.unwrap();
    assert!(vitals::is_running(&pool).await.unwrap());
    // A command gives up after a while; a run waits.
    let refused = take(&world.canonical, &Candidate::new(None)).await;
    assert!(matches!(refused, Err(Error::Locked)));
    let stop = CancellationToken::new();
    let waiting = {
        let (canonical, second, stop) = (world.of(&second), second.clone(), stop.clone());
        tokio::spawn(async move { stand_by(&canonical, &second, &stop).await })
    };
    world.until(STANDBYS, "1").await;
    assert_eq!(vitals::standbys(&pool).await.unwrap().len(), 1);
    let epoch = epoch_of(&held);
    world.run("select pg_terminate_backend(backend_pid) from mirror.writer").await;
    let taken = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(epoch_of(&taken), epoch + 1);
    world.until(STANDBYS, "0").await;
    // A stop ends the waiting, without the place.
    let third = Candidate::new(None);
    let until = stop.clone();
    let canonical = world.of(&third);
    let waiting = tokio::spawn(async move { stand_by(&canonical, &third, &until).await });
    world.until(STANDBYS, "1").await;
    stop.cancel();
    assert!(waiting.await.unwrap().unwrap().is_none());
    pool.close().await;
    world.cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_holder_that_is_frozen_is_ended_and_replaced() {
    let world = World::migrated().await;
    let (first, second) = (Candidate::new(None), Candidate::new(None));
    let held = take(&world.of(&first), &first).await.unwrap();
    let another = super::connect(&world.of(&first)).await.unwrap();
    // It showed that it lived, and then no more; its sessions are still there.
    world
        .run("update mirror.writer_beat set epoch = (select epoch from mirror.writer), beat_at = now() - interval '1 min'")
        .await;
    let stop = CancellationToken::new();
    let canonical = world.of(&second);
    let taken =
        timeout(PATIENCE, stand_by(&canonical, &second, &stop)).await.unwrap().unwrap().unwrap();
    assert_eq!(epoch_of(&taken), epoch_of(&held) + 1);
    // All of its sessions are ended: none may hold a lock of a row any more.
    let closed = timeout(PATIENCE, async {
        while !(held.client.is_closed() && another.is_closed()) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(closed.await.is_ok());
    world.cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_writer_that_was_replaced_writes_nothing_more() {
    let world = World::migrated().await;
    let pool = reading::pool(&world.canonical, Some(world.cluster.password())).await.unwrap();
    let mut writer = Writer::open(&world.canonical, mapping()).await.unwrap();
    let record = RecordId(Uuid::new_v4());
    let operation = |id| Operation::new(id, Side::Directus, OperationKind::Update, Vec::new());
    let queue = format!(
        "insert into mirror.outbox (side, entity_no, record_id, attempt_count) select 'directus', entity_no, '{}', 1 from mirror.entity",
        record.0
    );
    world.run(&queue).await;
    let gate = Gate::shut();
    let books = writer.books(pool.clone()).with_gate(gate.clone());
    writer.begin().await.unwrap();
    writer.rollback().await.unwrap();
    writer.write(Vec::new()).await.unwrap().unwrap();
    assert!(books.hold().await.is_ok(), "the gate says nothing, the database knows");
    // Whoever keeps the place proves it, and finds out when it is lost.
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(writer.keeper().with_gate(gate.clone()).keep(stop.clone()));
    let proven = timeout(PATIENCE, async {
        while !gate.is_open() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(proven.await.is_ok());
    world.run("update mirror.writer set epoch = epoch + 1").await;
    let lost = timeout(PATIENCE, keeping).await.unwrap().unwrap();
    assert!(matches!(lost, Err(Error::Superseded)), "{lost:?}");
    assert!(!gate.is_open());
    // Neither a batch nor a transaction, and no push is bound.
    let refused = writer.write(Vec::new()).await.unwrap().unwrap_err();
    assert!(refused.is_transient() && !refused.is_about_data(), "{refused:?}");
    assert!(writer.begin().await.is_err());
    assert!(writer.queue_all().await.is_err());
    let bound = books.bind(EntityNo(0), &[(record, operation(Uuid::new_v4()))]).await.unwrap();
    assert!(bound.is_empty());
    assert!(matches!(books.hold().await, Err(Error::Superseded)));
    // The one in its place can.
    drop(writer);
    let writer = Writer::open(&world.canonical, mapping()).await.unwrap();
    let books = writer.books(pool.clone());
    let bound = books.bind(EntityNo(0), &[(record, operation(Uuid::new_v4()))]).await.unwrap();
    assert_eq!(bound, [record]);
    pool.close().await;
    world.cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_push_under_way_is_held_back_unless_its_sender_has_surely_ended() {
    let world = World::migrated().await;
    world.run("insert into mirror.entity values (1, 'startup')").await;
    let held_back = "select coalesce(string_agg((under_way_until > now() + interval '25 s'
            and under_way_until < now() + interval '45 s')::text, ','), 'none')
        from mirror.operation";
    world
        .run(
            "insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells)
              values (gen_random_uuid(), 'airtable', 1, gen_random_uuid(), 'update', '{}')",
        )
        .await;
    let candidate = Candidate::new(None);
    // Another machine, as far as anybody can tell: it may be frozen.
    world.abandoned(1, Some("another-boot pid:[1] 100")).await;
    drop(take(&world.canonical, &candidate).await.unwrap());
    assert_eq!(world.text(held_back).await, "true");
    // This machine, and a process that is not there any more.
    let own = world.text("select process_start from mirror.writer").await;
    let (place, _) = own.rsplit_once(' ').unwrap();
    world.abandoned(i32::MAX, Some(&format!("{place} 1"))).await;
    drop(take(&world.canonical, &candidate).await.unwrap());
    assert_eq!(world.text(held_back).await, "none");
    // This machine, and a process that lives: this one stands for it.
    let pid = i32::try_from(std::process::id()).unwrap();
    world.abandoned(pid, Some(&own)).await;
    drop(take(&world.canonical, &Candidate::new(None)).await.unwrap());
    assert_eq!(world.text(held_back).await, "true");
    // The same run in a new session knows what it has sent.
    drop(take(&world.canonical, &candidate).await.unwrap());
    drop(take(&world.canonical, &candidate).await.unwrap());
    assert_eq!(world.text(held_back).await, "none");
    world.cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_locks_that_a_reader_takes_neither_hang_migrate_nor_look_like_a_writer() {
    let world = World::start().await;
    world
        .run(
            "create role reader login password 'reader'; grant connect on database place to reader",
        )
        .await;
    let config = world.cluster.config("place", "reader", "reader");
    let reader = super::connect(&Canonical { config, ..world.canonical.clone() }).await.unwrap();
    reader
        .batch_execute(
            "set application_name = 'plait'; select pg_advisory_lock(hashtext('plait migrations'));
             select pg_advisory_lock(hashtext('plait apply'))",
        )
        .await
        .unwrap();
    timeout(PATIENCE, migrate(&world.canonical)).await.unwrap().unwrap();
    timeout(PATIENCE, install_reports(&world.canonical)).await.unwrap().unwrap();
    let pool = reading::pool(&world.canonical, Some(world.cluster.password())).await.unwrap();
    assert!(!vitals::is_running(&pool).await.unwrap());
    let writer =
        timeout(PATIENCE, Writer::open(&world.canonical, mapping())).await.unwrap().unwrap();
    assert!(vitals::is_running(&pool).await.unwrap());
    drop(writer);
    for table in ["mirror.turn", "mirror.writer", "mirror.standby"] {
        let lock = format!("lock table {table} in access share mode");
        assert!(reader.batch_execute(&lock).await.is_err(), "{table}");
    }
    // A version before this one holds the place by such a lock, as our own role.
    let older = super::connect(&world.canonical).await.unwrap();
    drop(reader);
    older
        .batch_execute(
            "set application_name = 'plait'; select pg_advisory_lock(hashtext('plait apply'))",
        )
        .await
        .unwrap();
    assert!(matches!(take(&world.canonical, &Candidate::new(None)).await, Err(Error::Locked)));
    drop(older);
    take(&world.canonical, &Candidate::new(None)).await.unwrap();
    // Two programs that start on an empty database take turns.
    world.run("create database twice").await;
    let config = world.cluster.config("twice", "postgres", world.cluster.password());
    let twice = Canonical { config, ..world.canonical.clone() };
    let (one, other) = tokio::join!(migrate(&twice), migrate(&twice));
    one.unwrap();
    other.unwrap();
    pool.close().await;
    world.cluster.remove().await.unwrap();
}
