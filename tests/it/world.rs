//! What the tests stand on: one Postgres cluster and one Directus for all of them, made when the first test asks,
//! ended with the process, however it ends (see `plait::demo::cluster`). Each test has databases of its own.

use std::{
    fmt::Debug,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use plait::demo::{
    cache,
    cluster::Cluster,
    source::{Secrets, Source},
};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DIRECTUS: OnceCell<Source> = OnceCell::const_new();
static DATABASE_COUNT: AtomicU32 = AtomicU32::new(0);

/// The shared cluster, of the system's Postgres. Its sessions and slots belong to the test that made them.
pub(crate) async fn cluster() -> &'static Cluster {
    let make = async || Cluster::throw_away(&cache::postgres_bin().unwrap(), &[]).await.unwrap();
    CLUSTER.get_or_init(make).await
}

/// An empty database of the shared cluster, for one test: its name.
pub(crate) async fn database() -> String {
    let name = format!("test_{}", DATABASE_COUNT.fetch_add(1, Ordering::Relaxed));
    cluster().await.sql("postgres", &format!("create database {name}")).await.unwrap();
    name
}

/// The shared Directus, on database `directus` of the shared cluster. Tests tell their records by random ids.
/// Its clients belong to the runtime of a test: ask for them with `admin_rest` in each.
pub(crate) async fn directus() -> &'static Source {
    let make = async || Source::start(cluster().await, "directus", &Secrets::new()).await.unwrap();
    DIRECTUS.get_or_init(make).await
}

/// Writes a file that only its owner can read: Plait takes a secret from no other.
pub(crate) fn write_secret(path: &Path, secret: &str) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(secret.as_bytes()).unwrap();
}

/// Asks `look` until it answers `Ok`, every 20 ms; after `limit` panics with what was seen last.
pub(crate) async fn eventually<T, S: Debug>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let since = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if since.elapsed() > limit => {
                panic!("not within {limit:?}; seen last: {seen:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn world_database_is_empty_and_of_one_test() {
    let (one, other) = (database().await, database().await);
    assert_ne!(one, other);
    let tables =
        "select from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
    assert!(cluster().await.sql(&one, tables).await.unwrap().is_empty());
}

#[tokio::test]
async fn world_eventually_waits_for_the_condition() {
    let mut count = 0;
    let found = eventually(Duration::from_secs(5), async || {
        count += 1;
        if count == 3 { Ok(count) } else { Err(count) }
    });
    assert_eq!(found.await, 3);
}

#[tokio::test]
#[should_panic(expected = "seen last: \"nothing\"")]
async fn world_eventually_out_of_time_tells_what_was_seen() {
    eventually(Duration::ZERO, async || Err::<(), _>("nothing")).await;
}
