//! What administrators and applications do to a source while it is read: each ends in an incident with its remedy, or
//! without one where nothing is wrong, and what is not concerned goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{
    SourceSettings,
    testing::{Cluster, Mirror, Tap, entity, mapping, until_query},
};
use crate::{
    demo::cluster::Stop,
    mapping::{FieldKind, Mapping},
    model::{Cell, RefusalKind, Value},
};

const TABLES: &str = "create table article (id text primary key, title varchar(255), body text);
    create table note (id text primary key, title text)";

fn articles_and_notes() -> Arc<Mapping> {
    let columns = [("title", FieldKind::Text), ("body", FieldKind::LongText)];
    mapping(vec![entity("article", &columns), entity("note", &[("title", FieldKind::Text)])])
}

fn text(value: &str) -> Cell {
    Cell::Value(Value::Text(value.into()))
}

async fn run_sql(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// Whether the mirror holds what the source does: keys and titles of both tables.
async fn is_same(client: &Client, mirror: &Mirror) -> bool {
    let sql = "select 0::int4, id, title from article union all select 1, id, title from note";
    let rows = client.query(sql, &[]).await.unwrap();
    let source = rows.iter().map(|row| {
        let entity = u16::try_from(row.get::<_, i32>(0)).unwrap();
        ((entity, row.get::<_, String>(1)), row.get::<_, Option<&str>>(2).map(text))
    });
    let source: std::collections::BTreeMap<_, _> = source.collect();
    let is_value = |cell: &&Cell| **cell != Cell::Value(Value::Null);
    let ours = mirror
        .records
        .iter()
        .map(|(key, cells)| (key.clone(), cells.get(&0).filter(is_value).cloned()));
    source == ours.collect()
}

async fn until_same(client: &Client, tap: &Tap) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let mirror = tap.mirror.lock().unwrap().clone();
        if is_same(client, &mirror).await {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never the same: {:?}", mirror.records);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes to both tables without a pause, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Self {
        let (client, stop) = (cluster.client().await, Arc::new(AtomicBool::new(false)));
        let is_stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !is_stopped.load(Ordering::Relaxed) {
                let sql = format!(
                    "begin; insert into article (id, title) values ('a{count}', 'x'); insert into note values ('n{count}', 'x'); commit;
                     update article set title = 'y{count}' where id = 'a{before}'",
                    before = count / 2
                );
                client.batch_execute(&sql).await.unwrap();
                count += 1;
            }
            count
        });
        Self { stop, task }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_truncate_and_alter_table_under_load_are_told_and_the_rest_goes_on() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, TABLES).await;
    run_sql(&client, "insert into article select 'old' || n, 'old' from generate_series(1, 500) n")
        .await;
    let tap = Tap::open(cluster.source(), articles_and_notes(), None);
    tap.until_streaming().await;
    let load = Load::start(&cluster).await;
    tap.until("load", |mirror| mirror.records.len() > 600).await;
    run_sql(&client, "truncate article").await;
    tap.until_incident("capture_truncated").await;
    assert!(tap.incident("capture_truncated").contains("`plait undo`"));
    for harm in [
        "alter table article add extra int not null default 7",
        "alter table article drop body",
        "alter table article alter title type text",
        "alter table article add body text default 'again'",
        "alter table article alter title type varchar(300) using left(title, 1)",
        "alter table article drop extra",
    ] {
        let seen = tap.mirror.lock().unwrap().records.len();
        run_sql(&client, harm).await;
        // Both tables go on.
        tap.until(harm, |mirror| mirror.records.len() > seen + 50).await;
        if harm.contains("'again'") {
            // Until it is read again, the table is not looked at for more of the kind.
            let is_again = |cells: &std::collections::BTreeMap<u16, Cell>| {
                cells.get(&1) == Some(&text("again"))
            };
            tap.until("read again", |mirror| mirror.records.values().any(is_again)).await;
        }
    }
    load.stop().await;
    until_same(&client, &tap).await;
    assert!(tap.has_incident("capture_column_missing"));
    assert!(tap.has_incident("capture_column_retyped"));
    tap.until_over("capture_column_missing").await;
    assert!(!tap.has_incident("capture_rebuilt"));
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_table_dropped_without_a_trace_in_the_log_is_told_and_read_when_it_is_back() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, TABLES).await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    let tap = Tap::open(cluster.source(), articles_and_notes(), None);
    tap.until_streaming().await;
    run_sql(&client, "drop table article").await;
    tap.until_open("capture_table_missing").await;
    run_sql(&client, "insert into note values ('n', 'goes on')").await;
    tap.until("note", |mirror| mirror.keys().contains(&"n")).await;
    run_sql(&client, "create table article (id text primary key, title varchar(255), body text)")
        .await;
    run_sql(&client, "insert into article values ('2', 'back')").await;
    tap.until_over("capture_table_missing").await;
    until_same(&client, &tap).await;
    // Without its key it would break the application's own writes: told, and over when it is mended.
    run_sql(&client, "alter table article drop constraint article_pkey").await;
    tap.until_open("capture_publication").await;
    assert!(tap.incident("capture_publication").contains("add primary key"));
    run_sql(&client, "insert into note values ('m', 'goes on')").await;
    tap.until("note", |mirror| mirror.keys().contains(&"m")).await;
    run_sql(&client, "alter table article add primary key (id)").await;
    tap.until_over("capture_publication").await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_slot_given_up_while_it_is_read_is_made_anew_and_told_with_its_remedy() {
    let cluster =
        Cluster::start(&["max_slot_wal_keep_size=32MB", "max_wal_size=64MB", "min_wal_size=32MB"])
            .await;
    let client = cluster.client().await;
    run_sql(&client, TABLES).await;
    run_sql(&client, "create table unmapped (t text)").await;
    let tap = Tap::open(cluster.source(), articles_and_notes(), None);
    tap.until_streaming().await;
    // As if canonical were away: nothing is acknowledged.
    tap.commits.store(false, Ordering::Relaxed);
    run_sql(&client, "insert into article values ('1', 'x')").await;
    tap.until("row", |mirror| !mirror.records.is_empty()).await;
    let status = "select wal_status from pg_replication_slots where slot_name = 'plait'";
    for _ in 0..40 {
        let sql = "insert into unmapped select repeat('x', 1000) from generate_series(1, 10000)";
        run_sql(&client, sql).await;
        run_sql(&client, "select pg_switch_wal()").await;
        run_sql(&client, "checkpoint").await;
        let row = client.query_one(status, &[]).await.unwrap();
        if row.get::<_, &str>(0) == "lost" {
            break;
        }
    }
    until_query(&client, status, "lost").await;
    run_sql(&client, "delete from article; insert into article values ('2', 'x')").await;
    tap.commits.store(true, Ordering::Relaxed);
    let sent = tap.mirror.lock().unwrap().stored.as_ref().unwrap().0;
    tap.committed.send_replace(Some(sent));
    tap.until_incident("capture_rebuilt").await;
    let said = tap.incident("capture_rebuilt");
    assert!(said.contains("max_slot_wal_keep_size") && said.contains("raise it"), "{said}");
    until_same(&client, &tap).await;
    tap.until_streaming().await;
    run_sql(&client, "insert into note values ('n', 'goes on')").await;
    until_same(&client, &tap).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_promoted_standby_without_the_slot_is_told_and_read_whole() {
    let mut primary = Cluster::start(&[]).await;
    let client = primary.client().await;
    run_sql(&client, TABLES).await;
    run_sql(&client, "insert into article values ('1', 'x'), ('2', 'x')").await;
    let tap = Tap::open(primary.source(), articles_and_notes(), None);
    tap.until_streaming().await;
    let standby = primary.standby().await;
    run_sql(&client, "insert into article values ('3', 'x')").await;
    tap.until("three", |mirror| mirror.records.len() == 3).await;
    let there = standby.client().await;
    until_query(&there, "select count(*)::text from article", "3").await;
    let mirror = tap.close().await;
    drop(client);
    primary.stop(Stop::Fast).await;
    run_sql(&there, "select pg_promote()").await;
    run_sql(&there, "delete from article where id = '1'; insert into article values ('4', 'x')")
        .await;
    let tap = Tap::open(standby.source(), articles_and_notes(), Some(mirror));
    tap.until_incident("capture_rebuilt").await;
    until_same(&there, &tap).await;
    tap.until_streaming().await;
    run_sql(&there, "update article set title = 'streamed'").await;
    until_same(&there, &tap).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_role_that_lost_a_right_is_told_while_the_log_goes_on_and_over_when_it_is_back() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, TABLES).await;
    cluster.make_role("reader replication").await;
    run_sql(
        &client,
        "grant select on article, note to reader; create publication plait for table article, note",
    )
    .await;
    let source = SourceSettings { user: "reader".into(), ..cluster.source() };
    let tap = Tap::open(source, articles_and_notes(), None);
    tap.until_streaming().await;
    for (harm, code, remedy, mend) in [
        (
            "revoke select on article from reader",
            "capture_no_select",
            "grant select on TABLE to \"reader\"",
            "grant select on article to reader",
        ),
        (
            "alter role reader noreplication",
            "capture_no_replication",
            "alter role \"reader\" replication",
            "alter role reader replication",
        ),
    ] {
        run_sql(&client, harm).await;
        tap.until_open(code).await;
        assert!(tap.incident(code).contains(remedy), "{}", tap.incident(code));
        run_sql(&client, &format!("insert into note values ('{code}', 'goes on')")).await;
        until_same(&client, &tap).await;
        run_sql(&client, mend).await;
        tap.until_over(code).await;
    }
    assert!(!tap.has_incident("capture_rebuilt"));
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_rows_larger_than_the_limit_are_told_and_stop_nothing() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, TABLES).await;
    run_sql(
        &client,
        "alter table article add scan text; alter table article alter scan set storage external",
    )
    .await;
    let mib = 1024 * 1024;
    let source = SourceSettings { message_bytes_max: 64 * mib, ..cluster.source() };
    let tap = Tap::open(source, articles_and_notes(), None);
    tap.until_streaming().await;
    // In a column that nobody maps: the row is read all the same.
    run_sql(
        &client,
        &format!(
            "insert into article (id, title, scan) values ('1', 'large', repeat('x', {}))",
            70 * mib
        ),
    )
    .await;
    run_sql(&client, "insert into article values ('2', 'after')").await;
    tap.until("after", |mirror| mirror.keys() == ["1", "2"]).await;
    assert_eq!(tap.mirror.lock().unwrap().cell("1", 0), Some(&text("large")));
    let said = tap.incident("capture_row_large");
    assert!(said.contains("row `1` of public.article") && said.contains("column `scan`"), "{said}");
    assert!(said.contains("70 MiB") && said.contains("`message_mib_max`"), "{said}");
    // In one that is mapped: the value is refused, the others of the row are read.
    run_sql(
        &client,
        &format!(
            "update article set title = 'larger', body = repeat('y', {}) where id = '2'",
            70 * mib
        ),
    )
    .await;
    run_sql(&client, "insert into note values ('n', 'after')").await;
    tap.until("note", |mirror| mirror.keys().contains(&"n")).await;
    {
        let mirror = tap.mirror.lock().unwrap();
        assert_eq!(mirror.cell("2", 0), Some(&text("larger")));
        let Some(Cell::Refused(refusal)) = mirror.cell("2", 1) else { panic!("it was taken") };
        assert_eq!(refusal.kind, RefusalKind::OutOfRange);
        assert!(refusal.reason.contains("64 MiB"), "{}", refusal.reason);
    }
    // Many of a middling size: no other connection is needed for them.
    let reconnect_count = tap.status.borrow().reconnect_count;
    run_sql(
        &client,
        &format!("insert into article (id, title, scan) select 'm' || n, 'm', repeat('z', {}) from generate_series(1, 20) n", 2 * mib),
    )
    .await;
    tap.until("middling", |mirror| mirror.records.len() == 23).await;
    assert_eq!(tap.status.borrow().reconnect_count, reconnect_count);
    assert!(!tap.has_incident("capture_rebuilt"));
    let mirror = tap.close().await;
    assert!(mirror.seen_count.values().all(|count| *count <= 2), "{:?}", mirror.seen_count);
    // By a copy: the same.
    let is_active = "select active::text from pg_replication_slots where slot_name = 'plait'";
    until_query(&client, is_active, "false").await;
    run_sql(&client, "select pg_drop_replication_slot('plait')").await;
    let source = SourceSettings { message_bytes_max: 64 * mib, ..cluster.source() };
    let tap = Tap::open(source, articles_and_notes(), None);
    tap.until("copied", |mirror| mirror.records.len() == 23).await;
    {
        let mirror = tap.mirror.lock().unwrap();
        assert_eq!(mirror.cell("2", 0), Some(&text("larger")));
        assert!(matches!(mirror.cell("2", 1), Some(Cell::Refused(_))));
    }
    tap.close().await;
}
