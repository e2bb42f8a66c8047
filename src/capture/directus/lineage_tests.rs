//! Two installations at one source, and sources that are not what they were, against a real Postgres.

use std::sync::Arc;

use tokio_postgres::Client;

use super::{
    SourceSettings,
    testing::{Cluster, Mirror, Tap, entity, mapping, until_query},
};
use crate::{
    capture::lineage_testing::InMemory,
    mapping::{FieldKind, Mapping},
    model::Rewound,
};

const ARTICLE: &str = "create table article (id text primary key, title text);
     insert into article values ('1', 'x'), ('2', 'y')";

fn articles() -> Arc<Mapping> {
    mapping(vec![entity("article", &[("title", FieldKind::Text)])])
}

async fn run_sql(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

fn of_installation(id: u128) -> Mirror {
    let mut mirror = Mirror::default();
    mirror.lineage = InMemory::new(id);
    mirror
}

/// What was found to have gone back.
fn entered(mirror: &Mirror) -> Vec<(Rewound, String)> {
    mirror.lineage.memory.lock().unwrap().entered.clone()
}

async fn refused(source: &SourceSettings, mirror: Mirror) -> String {
    let tap = Tap::open(source.clone(), articles(), Some(mirror));
    let failure = tap.until_suspended("").await;
    tap.close().await;
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_slot_of_another_installation_is_taken_by_a_persons_word_alone() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let source = cluster.source();
    let first = Tap::open(source.clone(), articles(), Some(of_installation(1)));
    first.until_streaming().await;

    // While it is being read, and afterwards.
    let said = refused(&source, of_installation(2)).await;
    assert!(said.contains("db-1:5432/plait") && said.contains("--take-slot"), "{said}");
    run_sql(&client, "insert into article values ('3', 'z')").await;
    first.until("the first goes on", |mirror| mirror.keys().contains(&"3")).await;
    let first = first.close().await;
    let said = refused(&source, of_installation(2)).await;
    assert!(said.contains("db-1:5432/plait") && said.contains("--take-slot"), "{said}");

    // The one whose it is goes on as if nothing had been.
    let first = Tap::open(source.clone(), articles(), Some(first));
    first.until_streaming().await;
    assert!(!first.has_incident("capture_rebuilt"));
    let first = first.close().await;

    let taking = SourceSettings { take_slot: true, ..source.clone() };
    let second = Tap::open(taking, articles(), Some(of_installation(2)));
    second.until("all", |mirror| mirror.keys().len() == 3).await;
    second.until_streaming().await;
    second.close().await;
    let said = refused(&source, first).await;
    assert!(said.contains("db-2:5432/plait"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_active_slot_of_a_copy_of_this_database_is_left_alone() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let tap = Tap::open(cluster.source(), articles(), Some(of_installation(1)));
    tap.until_streaming().await;
    let mut copy = tap.mirror.lock().unwrap().clone();
    // The same installation by its id, in another database: what was dumped and restored elsewhere.
    copy.lineage = InMemory::new(1).moved("8/8");
    let other = Tap::open(cluster.source(), articles(), Some(copy));
    other.until_suspended("is in use by process").await;
    other.close().await;
    run_sql(&client, "insert into article values ('3', 'z')").await;
    tap.until("goes on", |mirror| mirror.keys().contains(&"3")).await;
    assert_eq!(tap.status.borrow().reconnect_count, 0);
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_slot_of_an_earlier_version_is_marked_and_a_strange_one_refused() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    // One that nobody here has made.
    let strange = "select pg_create_logical_replication_slot('plait', 'pgoutput')";
    client.query(strange, &[]).await.unwrap();
    let said = refused(&cluster.source(), of_installation(1)).await;
    assert!(said.contains("nobody that this installation knows of"), "{said}");
    run_sql(&client, "select pg_drop_replication_slot('plait')").await;

    let tap = Tap::open(cluster.source(), articles(), Some(of_installation(1)));
    tap.until_streaming().await;
    let mut mirror = tap.close().await;
    // As an earlier version leaves it: no mark, and no epoch.
    run_sql(&client, "comment on publication plait is null").await;
    mirror.lineage = InMemory::new(1);
    let tap = Tap::open(cluster.source(), articles(), Some(mirror));
    tap.until_streaming().await;
    assert!(!tap.has_incident("capture_rebuilt"));
    let mirror = tap.close().await;
    assert_eq!(entered(&mirror), []);
    let sql = "select obj_description(oid, 'pg_publication') from pg_publication";
    let comment: Option<String> = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(comment.is_some_and(|comment| comment.contains("db-1:5432/plait")));
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_another_cluster_and_an_empty_schema_take_no_record_away() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let tap = Tap::open(cluster.source(), articles(), Some(of_installation(1)));
    tap.until_streaming().await;
    let stored = tap.close().await;

    until_query(
        &client,
        "select active::text from pg_replication_slots where slot_name = 'plait'",
        "false",
    )
    .await;
    // A schema without rows, in the database that was read: the slot is gone with the old tables.
    run_sql(&client, "select pg_drop_replication_slot('plait'); truncate article").await;
    let tap = Tap::open(cluster.source(), articles(), Some(stored.clone()));
    tap.until_incident("capture_rebuilt").await;
    tap.until_streaming().await;
    let emptied = tap.close().await;
    let found = entered(&emptied);
    assert!(
        matches!(&found[..], [(Rewound::Side, reason)] if reason.contains("no rows")),
        "{found:?}"
    );

    // The same tables in another cluster.
    let other = Cluster::start(&[]).await;
    run_sql(&other.client().await, ARTICLE).await;
    let mut stored = stored;
    stored.lineage = InMemory::new(1);
    let tap = Tap::open(other.source(), articles(), Some(stored));
    tap.until_incident("capture_rebuilt").await;
    tap.until_streaming().await;
    let found = entered(&tap.close().await);
    assert!(
        matches!(&found[..], [(Rewound::Side, reason)] if reason.contains("another cluster")),
        "{found:?}"
    );
}
