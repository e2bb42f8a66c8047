//! The capture against a real Postgres.

use std::{sync::atomic::Ordering, time::Duration};

use tokio_postgres::Client;

use super::{
    SourceSettings,
    certificates::{certificates, write_private},
    testing::{Cluster, Mirror, Tap, entity, field, mapping, until_query},
};
use crate::{
    demo::cluster::Stop,
    mapping::{DirectusField, FieldKind, Mapping, RowFilter, RowTest, RowValue},
    model::{Cell, Change, Lsn, Value},
    postgres::TlsMode,
};

fn articles() -> std::sync::Arc<Mapping> {
    let columns = [("title", FieldKind::Text), ("body", FieldKind::LongText)];
    mapping(vec![entity("article", &columns)])
}

const ARTICLE: &str = "create table article (id text primary key, title varchar(255), body text)";

fn text(value: &str) -> Cell {
    Cell::Value(Value::Text(value.into()))
}

async fn run_sql(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// The rows of `article` on the source equal the records of the mirror.
async fn same_articles(client: &Client, mirror: &Mirror) {
    let rows =
        client.query("select id, title from article order by id collate \"C\"", &[]).await.unwrap();
    let source: Vec<(String, Option<Cell>)> =
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<&str>>(1).map(text))).collect();
    let ours: Vec<(String, Option<Cell>)> = mirror
        .records
        .iter()
        .map(|((_, key), cells)| {
            (key.clone(), cells.get(&0).filter(|cell| **cell != Cell::Value(Value::Null)).cloned())
        })
        .collect();
    assert_eq!(ours, source);
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_hand_over_from_copy_to_stream_has_no_hole_and_no_overlap() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(
        &client,
        "insert into article select 'old' || n, repeat('x', 100) from generate_series(1, 60000) n",
    )
    .await;
    let writer = cluster.client().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut count = 0;
        while stopped.try_recv().is_err() {
            let sql =
                format!("insert into article values ('a{count}', 'pair'), ('b{count}', 'pair')");
            writer.batch_execute(&sql).await.unwrap();
            count += 1;
        }
        count
    });
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let at_hand_over = tap.mirror.lock().unwrap().records.len();
    tap.until("streamed rows", |mirror| mirror.records.len() > at_hand_over + 200).await;
    stop.send(()).unwrap();
    let pairs = writing.await.unwrap();
    tap.until("all rows", |mirror| mirror.records.len() == 60_000 + 2 * pairs).await;
    let mirror = tap.close().await;
    assert!(mirror.seen_count.values().all(|count| *count == 1), "a row came twice");
    same_articles(&client, &mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_activity_row_of_the_transaction_names_author_and_operation() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(
        &client,
        "create table directus_activity (id serial primary key, action varchar(45), \"user\" uuid,
             timestamp timestamptz default now(), ip varchar(50), user_agent text,
             collection varchar(64), item varchar(255), origin varchar(255))",
    )
    .await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let user = "11111111-2222-4333-8444-555555555555";
    let operation = "99999999-2222-4333-8444-555555555555";
    let agent = format!("plait/1.0 op={operation}");
    run_sql(
        &client,
        &format!(
            "begin; insert into article values ('1', 'x');
             insert into directus_activity (action, \"user\", user_agent, collection, item)
             values ('create', '{user}', '{agent}', 'article', '1'); commit"
        ),
    )
    .await;
    run_sql(&client, "insert into article values ('2', 'y')").await;
    run_sql(
        &client,
        &format!(
            "begin; insert into article values ('3', 'z');
             insert into directus_activity (action, \"user\", user_agent) values ('login', '{user}', 'x');
             insert into directus_activity (action, \"user\", user_agent) values ('update', '{user}', 'Firefox'); commit"
        ),
    )
    .await;
    run_sql(&client, "delete from directus_activity").await;
    tap.until("three rows", |mirror| mirror.records.len() == 3).await;
    let mirror = tap.close().await;
    let stamps: Vec<_> =
        mirror.stamps.iter().filter(|(_, count)| *count > 0).map(|(stamp, _)| stamp).collect();
    assert_eq!(stamps.len(), 3);
    assert_eq!(stamps[0].author.id.as_deref(), Some(user));
    assert_eq!(stamps[0].author.via, agent);
    assert_eq!(stamps[0].operation.map(|id| id.to_string()).as_deref(), Some(operation));
    assert_eq!((stamps[1].author.id.as_deref(), stamps[1].author.via.as_str()), (None, "sql"));
    assert_eq!(stamps[1].operation, None);
    assert_eq!(stamps[2].author.via, "Firefox");
    assert_eq!(stamps[2].operation, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_unchanged_large_value_is_not_read_or_taken_from_the_full_old_row() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "alter table article alter body set storage external").await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let change = "insert into article values ('1', 'a', repeat('large', 4000)); update article set title = 'b'";
    run_sql(&client, change).await;
    tap.until("update", |mirror| mirror.cell("1", 0) == Some(&text("b"))).await;
    let cells_of_last = |mirror: &Mirror| match &mirror.observations.last().unwrap().change {
        Change::Present { cells, .. } => cells.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cells_of_last(&tap.mirror.lock().unwrap()), 1, "only the title was sent");
    run_sql(&client, "update article set id = '2'").await;
    tap.until("key update", |mirror| mirror.keys() == ["2"]).await;
    assert_eq!(tap.mirror.lock().unwrap().cell("2", 1), Some(&text(&"large".repeat(4000))));
    run_sql(&client, "alter table article replica identity full; update article set title = 'c'")
        .await;
    tap.until("full", |mirror| mirror.cell("2", 0) == Some(&text("c"))).await;
    assert_eq!(cells_of_last(&tap.mirror.lock().unwrap()), 2, "the body came from the old row");
    run_sql(&client, "update article set id = '3'; delete from article").await;
    tap.until("deleted", |mirror| mirror.records.is_empty()).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_junction_rows_come_go_and_are_truncated() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(
        &client,
        "create table \"Article_Tag\" (\"Id\" serial primary key, article text, tag text)",
    )
    .await;
    run_sql(&client, "insert into article values ('1', 'a'); insert into \"Article_Tag\" (article, tag) values ('1', 'red')").await;
    let mut article = entity("article", &[("title", FieldKind::Text)]);
    article.fields.push(field(
        "tags",
        FieldKind::MultiSelect,
        DirectusField::Junction {
            table: "Article_Tag".into(),
            key: "Id".into(),
            parent: "article".into(),
            element: "tag".into(),
            codes: None,
        },
    ));
    let tap = Tap::open(cluster.source(), mapping(vec![article]), None);
    let row = |id: &str| (1, id.to_owned());
    tap.until("copied", |m| m.elements.get(&row("1")) == Some(&("1".into(), Some(text("red")))))
        .await;
    tap.until_streaming().await;
    run_sql(
        &client,
        "insert into \"Article_Tag\" (article, tag) values ('1', 'blue'), (null, 'none')",
    )
    .await;
    tap.until("streamed", |m| m.elements.contains_key(&row("2"))).await;
    run_sql(&client, "delete from \"Article_Tag\" where tag = 'red'; update \"Article_Tag\" set \"Id\" = 9 where tag = 'blue'").await;
    tap.until("moved", |m| m.elements.keys().eq([&row("9")])).await;
    run_sql(&client, "truncate \"Article_Tag\", article").await;
    tap.until("truncated", |m| m.elements.is_empty() && m.records.is_empty()).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_junction_rows_carry_their_other_columns_by_copy_and_by_stream() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(
        &client,
        "create table tagging (id serial primary key, article text, tag text, sort int, since timestamptz);
         insert into article values ('1', 'a');
         insert into tagging (article, tag, sort) values ('1', 'red', 3)",
    )
    .await;
    let mut article = entity("article", &[("title", FieldKind::Text)]);
    let junction = DirectusField::Junction {
        table: "tagging".into(),
        key: "id".into(),
        parent: "article".into(),
        element: "tag".into(),
        codes: None,
    };
    article.fields.push(field("tags", FieldKind::MultiSelect, junction));
    let tap = Tap::open(cluster.source(), mapping(vec![article.clone()]), None);
    tap.until_streaming().await;
    let columns_of = |mirror: &Mirror, row: &str| {
        mirror.observations.iter().rev().find_map(|observation| match &observation.change {
            Change::Element(element) if *element.row.0 == *row => Some(element.columns.clone()),
            _ => None,
        })
    };
    let sort = |no: i32| Some(Some(Box::new(serde_json::json!({ "sort": no }))));
    tap.until("copied", |mirror| columns_of(mirror, "1") == sort(3)).await;
    run_sql(
        &client,
        "update tagging set sort = 4; insert into tagging (article, tag) values ('1', 'blue')",
    )
    .await;
    tap.until("streamed", |mirror| columns_of(mirror, "1") == sort(4)).await;
    tap.until("without any", |mirror| columns_of(mirror, "2") == Some(None)).await;
    // A column that is new is read of the rows that are there, as after an update of Plait itself.
    run_sql(&client, "alter table tagging add column role text default 'lead'; update tagging set sort = 5 where id = 1").await;
    let both = Some(Some(Box::new(serde_json::json!({ "sort": 5, "role": "lead" }))));
    tap.until("of a new column", |mirror| columns_of(mirror, "1") == both).await;
    run_sql(&client, "update article set title = 'b'").await;
    let role = |mirror: &Mirror| {
        mirror
            .stored
            .as_ref()
            .map(|(_, identity)| identity["covered"]["public.tagging"]["role"].is_string())
    };
    tap.until("what was read is stored", |mirror| role(mirror) == Some(true)).await;
    let mut before = tap.close().await;
    let (_, identity) = before.stored.as_mut().unwrap();
    identity["covered"]["public.tagging"].as_object_mut().unwrap().remove("sort");
    before.observations.clear();
    let tap = Tap::open(cluster.source(), mapping(vec![article]), Some(before));
    tap.until("read again", |mirror| columns_of(mirror, "1") == both).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_key_that_is_not_the_whole_primary_key_is_refused_by_name() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(
        &client,
        "create table article (id serial primary key, code text not null unique, title text);
         create table seat (hall text, number int, title text, primary key (hall, number));
         create table log (title text); alter table log replica identity full;
         create table badge (code text not null unique, title text); alter table badge replica identity full",
    )
    .await;
    let keyed = |table: &str, key: &str| {
        let mut keyed = entity(table, &[("title", FieldKind::Text)]);
        keyed.directus.as_mut().unwrap().key = key.into();
        keyed
    };
    for (table, key, says) in [
        ("article", "code", &["public.article", "`code`", "which is `id`", "key = \"id\""][..]),
        (
            "seat",
            "hall",
            &["public.seat", "`hall`", "`hall`, `number`", "primary key of one column"],
        ),
        ("log", "title", &["public.log", "`title`", "is no primary key"]),
    ] {
        let mapping = mapping(vec![keyed(table, key)]);
        let unfit = super::unfit_keys(&cluster.source(), &mapping).await.unwrap();
        assert!(unfit.len() == 1 && says.iter().all(|part| unfit[0].contains(part)), "{unfit:?}");
        let findings = super::preflight(&cluster.source(), &mapping).await;
        let found = findings.iter().any(|finding| {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            finding.level == crate::model::Level::Error
                && says.iter().all(|part| finding.what.contains(part) || remedy.contains(part))
        });
        assert!(found, "{findings:?}");
        let tap = Tap::open(cluster.source(), mapping, None);
        tap.until_suspended(says[0]).await;
        tap.close().await;
    }
    let fit = mapping(vec![keyed("article", "id"), keyed("badge", "code")]);
    assert_eq!(super::unfit_keys(&cluster.source(), &fit).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_large_transaction_is_handed_over_in_parts() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let source = SourceSettings { transaction_bytes_max: 256 * 1024, ..cluster.source() };
    let tap = Tap::open(source, articles(), None);
    tap.until_streaming().await;
    run_sql(
        &client,
        "insert into article select n::text, 'row ' || n from generate_series(1, 20000) n",
    )
    .await;
    tap.until("all rows", |mirror| mirror.records.len() == 20_000).await;
    let mirror = tap.close().await;
    assert!(mirror.part_count > 5, "{} parts", mirror.part_count);
    assert!(mirror.part_row_count_max < 3_000, "{} rows in a part", mirror.part_row_count_max);
    assert!(mirror.seen_count.values().all(|count| *count == 1));
    same_articles(&client, &mirror).await;
}

const CONFIRMED: &str =
    "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = 'plait'";
const BEHIND: &str = "select (pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 1000000)::text from pg_replication_slots where slot_name = 'plait'";

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_idle_log_moves_on_with_keepalives_alone() {
    let cluster = Cluster::start(&["wal_sender_timeout=2s"]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "create table unmapped (n int)").await;
    let source = SourceSettings { heartbeat_interval: Duration::ZERO, ..cluster.source() };
    let tap = Tap::open(source, articles(), None);
    tap.until_streaming().await;
    for _ in 0..5 {
        run_sql(&client, "insert into unmapped select generate_series(1, 20000)").await;
    }
    until_query(&client, BEHIND, "true").await;
    let mirror = tap.close().await;
    assert!(mirror.progress_count > 0);
    assert!(mirror.records.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_acknowledges_what_is_committed_and_nothing_else() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    tap.until("heartbeat", |_| tap.status.borrow().heartbeat_ms.is_some()).await;
    tap.commits.store(false, Ordering::Relaxed);
    run_sql(&client, "insert into article values ('1', 'x')").await;
    tap.until("row", |mirror| !mirror.records.is_empty()).await;
    let end = tap.mirror.lock().unwrap().stored.as_ref().unwrap().0;
    // Long enough for several status updates, which would carry a wrong acknowledgement.
    let heard = tap.status.borrow().heard_at;
    tap.until("later", |_| tap.status.borrow().heard_at > heard.map(|at| at + 1_500_000)).await;
    let confirmed: String = client.query_one(CONFIRMED, &[]).await.unwrap().get(0);
    assert!(confirmed.parse::<Lsn>().unwrap() < end);
    tap.committed.send_replace(Some(end));
    until_query(&client, CONFIRMED, &end.to_string()).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_restart_from_the_stored_position_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    run_sql(&client, "insert into article values ('2', 'x')").await;
    tap.until("two", |mirror| mirror.records.len() == 2).await;
    let mirror = tap.close().await;
    run_sql(&client, "insert into article values ('3', 'x'); delete from article where id = '1'")
        .await;
    let tap = Tap::open(cluster.source(), articles(), Some(mirror));
    tap.until("gap filled", |mirror| mirror.keys() == ["2", "3"]).await;
    // The source falls dead while connected: the slot may go back, the position does not.
    run_sql(&client, "insert into article values ('4', 'x')").await;
    tap.until("four", |mirror| mirror.keys().contains(&"4")).await;
    cluster.restart(Stop::Immediate).await;
    let client = cluster.client().await;
    run_sql(&client, "insert into article values ('5', 'x')").await;
    tap.until("five", |mirror| mirror.keys().contains(&"5")).await;
    assert!(tap.status.borrow().reconnect_count > 0);
    // And one of ours is cut off.
    run_sql(&client, "select pg_terminate_backend(active_pid) from pg_replication_slots; insert into article values ('6', 'x')").await;
    tap.until("six", |mirror| mirror.keys().contains(&"6")).await;
    assert!(!tap.has_incident("capture_rebuilt"));
    let mirror = tap.close().await;
    assert!(mirror.seen_count.values().all(|count| *count == 1), "{:?}", mirror.seen_count);
    same_articles(&client, &mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_slot_dropped_advanced_or_recreated_is_healed_by_a_fresh_copy() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "insert into article values ('1', 'x'), ('2', 'x')").await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let mut mirror = tap.close().await;
    let recreate = "select pg_drop_replication_slot('plait'); select pg_create_logical_replication_slot('plait', 'pgoutput')";
    for (harm, at) in [
        ("select pg_drop_replication_slot('plait')", 10),
        ("select pg_replication_slot_advance('plait', pg_current_wal_lsn())", 20),
        (recreate, 30),
    ] {
        until_query(
            &client,
            "select active::text from pg_replication_slots where slot_name = 'plait'",
            "false",
        )
        .await;
        run_sql(&client, &format!("delete from article where id = '{}'", at - 10)).await;
        run_sql(&client, &format!("insert into article values ('{at}', 'new'); update article set title = 'e{at}' where id = '2'")).await;
        run_sql(&client, harm).await;
        let tap = Tap::open(cluster.source(), articles(), Some(mirror));
        tap.until_incident("capture_rebuilt").await;
        tap.until("healed", |mirror| mirror.keys().contains(&at.to_string().as_str())).await;
        tap.until_streaming().await;
        run_sql(&client, &format!("insert into article values ('s{at}', 'streamed')")).await;
        tap.until("streamed", |mirror| mirror.keys().contains(&format!("s{at}").as_str())).await;
        mirror = tap.close().await;
        same_articles(&client, &mirror).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_slot_whose_log_was_given_up_is_healed() {
    let cluster =
        Cluster::start(&["max_slot_wal_keep_size=32MB", "max_wal_size=64MB", "min_wal_size=32MB"])
            .await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "create table unmapped (t text)").await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let mirror = tap.close().await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    for _ in 0..10 {
        run_sql(
            &client,
            "insert into unmapped select repeat('x', 1000) from generate_series(1, 10000)",
        )
        .await;
        run_sql(&client, "select pg_switch_wal()").await;
        run_sql(&client, "checkpoint").await;
    }
    until_query(
        &client,
        "select wal_status from pg_replication_slots where slot_name = 'plait'",
        "lost",
    )
    .await;
    let tap = Tap::open(cluster.source(), articles(), Some(mirror));
    tap.until("healed", |mirror| mirror.keys() == ["1"]).await;
    assert!(tap.has_incident("capture_rebuilt"));
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_slot_creation_behind_an_open_transaction_is_told_and_tried_again() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let blocker = cluster.client().await;
    run_sql(
        &blocker,
        "set application_name = 'forgotten'; begin; insert into article values ('1', 'x')",
    )
    .await;
    let source = SourceSettings { lock_timeout: Duration::from_millis(300), ..cluster.source() };
    let tap = Tap::open(source, articles(), None);
    tap.until_incident("capture_slot_blocked").await;
    assert!(tap.incidents.lock().unwrap()[0].text.contains("`forgotten`"));
    run_sql(&blocker, "commit").await;
    tap.until("copied", |mirror| mirror.keys() == ["1"]).await;
    tap.until_over("capture_slot_blocked").await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_columns_added_dropped_renamed_and_retyped_while_running() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "insert into article values ('1', 'one', 'first'), ('2', 'two', 'second')")
        .await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    run_sql(&client, "alter table article add extra int default 7; update article set title = 'uno' where id = '1'").await;
    tap.until("after an added column", |m| m.cell("1", 0) == Some(&text("uno"))).await;
    // Renamed away: reported, not read; the old values stay.
    run_sql(&client, "alter table article rename body to corpus; update article set title = 'un', corpus = 'lost' where id = '1'").await;
    tap.until_incident("capture_column_missing").await;
    tap.until("after the rename", |m| m.cell("1", 0) == Some(&text("un"))).await;
    assert_eq!(tap.mirror.lock().unwrap().cell("1", 1), Some(&text("first")));
    // Back again: read as a whole, also rows that no event told of.
    run_sql(&client, "alter table article rename corpus to body; update article set title = 'deux' where id = '2'").await;
    tap.until("after it came back", |m| m.cell("1", 1) == Some(&text("lost"))).await;
    tap.until("the other row", |m| m.cell("2", 0) == Some(&text("deux"))).await;
    tap.until_over("capture_column_missing").await;
    // Retyped with other values: no event tells of the rewritten rows.
    run_sql(&client, "alter table article alter body type varchar(3) using left(body, 3); update article set title = 'dos' where id = '2'").await;
    tap.until_incident("capture_column_retyped").await;
    tap.until("read again", |m| {
        m.cell("1", 1) == Some(&text("los")) && m.cell("2", 0) == Some(&text("dos"))
    })
    .await;
    run_sql(&client, "insert into article values ('3', 'three')").await;
    tap.until("goes on", |m| m.records.len() == 3).await;
    assert!(!tap.has_incident("capture_rebuilt"));
    let mirror = tap.close().await;
    same_articles(&client, &mirror).await;
    // Changed while nobody listened.
    run_sql(&client, "alter table article alter body type varchar(2) using left(body, 2)").await;
    let tap = Tap::open(cluster.source(), articles(), Some(mirror));
    tap.until("read again at start", |m| m.cell("1", 1) == Some(&text("lo"))).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_table_that_appears_later_is_published_and_read() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, "create table directus_collections (collection varchar(64) primary key)")
        .await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_incident("capture_table_missing").await;
    tap.until_streaming().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "insert into article values ('1', 'before')").await;
    run_sql(&client, "insert into directus_collections values ('article')").await;
    tap.until("read", |m| m.keys() == ["1"]).await;
    run_sql(&client, "insert into article values ('2', 'after')").await;
    tap.until("streamed", |m| m.keys() == ["1", "2"]).await;
    tap.until_over("capture_table_missing").await;
    // Its cover is stored once a later place is: a restart does not read it again.
    tap.until("covered", |m| {
        m.position().is_some_and(|p| p.covered.contains_key("public.article"))
    })
    .await;
    let mirror = tap.close().await;
    let tap = Tap::open(cluster.source(), articles(), Some(mirror));
    run_sql(&client, "insert into article values ('3', 'x')").await;
    tap.until("streamed", |m| m.records.len() == 3).await;
    let mirror = tap.close().await;
    assert!(mirror.seen_count.values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_values_are_the_same_by_copy_and_by_stream() {
    let columns = [
        ("flag", "boolean", FieldKind::Boolean, "null, true, false"),
        ("small", "integer", FieldKind::Integer, "null, 2147483647, '-2147483648', 0"),
        ("big", "bigint", FieldKind::BigInt, "null, 9223372036854775807, '-9223372036854775808'"),
        (
            "exact",
            "numeric(20,6)",
            FieldKind::Decimal { scale: Some(6) },
            "null, 1.5, '-0.000001', 'NaN'",
        ),
        ("real", "real", FieldKind::Decimal { scale: None }, "null, 0.1, 1e10"),
        ("day", "date", FieldKind::Date, "null, '2024-02-29', 'infinity', '4713-01-01 BC'"),
        ("clock", "time", FieldKind::Time, "null, '13:45:10.123456'"),
        (
            "moment",
            "timestamptz",
            FieldKind::DateTime { millis: false },
            "null, '2024-02-29 08:45:10.123+02', '-infinity'",
        ),
        (
            "line",
            "varchar(255)",
            FieldKind::Text,
            "null, '', E'tab\\tback\\\\slash\\nline', E'\\\\N', 'é漢🎉'",
        ),
        ("id2", "uuid", FieldKind::Uuid, "null, '11111111-2222-4333-8444-555555555555'"),
        (
            "doc",
            "json",
            FieldKind::Json,
            "null, 'null', '{\"b\": 1, \"a\": [1.0, 12345678901234567890, \"\\u00e9\"]}'",
        ),
    ];
    let cluster = Cluster::start_newest(&["datestyle=SQL,DMY", "timezone=Asia/Tokyo"]).await;
    let client = cluster.client().await;
    let list: Vec<String> = columns.iter().map(|(name, sql, ..)| format!("{name} {sql}")).collect();
    run_sql(&client, &format!("create table every (id serial primary key, {})", list.join(", ")))
        .await;
    let mut count = 0;
    let mut fill = String::new();
    for (name, sql, _, values) in &columns {
        for value in values
            .split(", ")
            .collect::<Vec<_>>()
            .join("\u{1}")
            .replace(
                "\"a\": [1.0\u{1}12345678901234567890\u{1}",
                "\"a\": [1.0, 12345678901234567890, ",
            )
            .replace("{\"b\": 1\u{1}", "{\"b\": 1, ")
            .split('\u{1}')
        {
            fill += &format!("insert into every ({name}) values ({value}::{sql});");
            count += 1;
        }
    }
    run_sql(&client, &fill).await;
    let kinds: Vec<(&str, FieldKind)> =
        columns.iter().map(|(name, _, kind, _)| (*name, kind.clone())).collect();
    let tap = Tap::open(cluster.source(), mapping(vec![entity("every", &kinds)]), None);
    tap.until_streaming().await;
    run_sql(
        &client,
        &format!(
            "insert into every (id, {names}) select id + 1000, {names} from every",
            names = columns.iter().map(|c| c.0).collect::<Vec<_>>().join(", ")
        ),
    )
    .await;
    tap.until("streamed", |m| m.records.len() == 2 * count).await;
    let mirror = tap.close().await;
    for id in 1..=count {
        let copied = &mirror.records[&(0, id.to_string())];
        let streamed = &mirror.records[&(0, (id + 1000).to_string())];
        assert_eq!(copied, streamed);
        assert_eq!(copied.len(), columns.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_server_that_cannot_is_told_with_its_remedy_and_taken_up_when_it_can() {
    let cluster = Cluster::start(&["wal_level=replica"]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let tap = Tap::open(cluster.source(), articles(), None);
    let failure = tap.until_suspended("wal_level is `replica`").await;
    assert!(failure.contains("alter system set wal_level"), "{failure}");
    tap.close().await;

    let cluster = Cluster::start(&["max_replication_slots=1"]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "select pg_create_logical_replication_slot('other', 'pgoutput')").await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_suspended("all 1 replication slots are in use").await;
    // What a person does about it is found without a restart.
    run_sql(&client, "select pg_drop_replication_slot('other')").await;
    tap.until_streaming().await;
    tap.close().await;
    let active = "select active::text from pg_replication_slots where slot_name = 'plait'";
    until_query(&client, active, "false").await;
    run_sql(&client, "select pg_drop_replication_slot('plait'); drop publication plait").await;

    // One right after the other.
    cluster.make_role("reader").await;
    let source = SourceSettings { user: "reader".into(), ..cluster.source() };
    let tap = Tap::open(source.clone(), articles(), None);
    tap.until_suspended("may not use replication").await;
    run_sql(&client, "alter role reader replication").await;
    let failure = tap.until_suspended("may not create or change publication").await;
    let (_, statement) = failure.split_once("as the owner of the tables: ").unwrap();
    run_sql(&client, statement).await;
    let failure = tap.until_suspended("permission denied for table article").await;
    assert!(failure.contains("grant select on"), "{failure}");
    run_sql(&client, "grant select on article to reader").await;
    tap.until_streaming().await;
    // Taken away while it runs, and given back.
    run_sql(&client, "alter role reader password 'another'").await;
    run_sql(
        &client,
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'",
    )
    .await;
    tap.until_suspended("authentication").await;
    let again = format!("alter role reader password '{}'", source.password);
    run_sql(&client, &again).await;
    run_sql(&client, "insert into article values ('7', 'after')").await;
    tap.until("row", |m| m.keys() == ["7"]).await;
    tap.close().await;
    until_query(&client, active, "false").await;
    run_sql(&client, "select pg_drop_replication_slot('plait'); drop publication plait").await;

    run_sql(&client, "create table keyless (id text, title text)").await;
    let keyless = mapping(vec![entity("keyless", &[("title", FieldKind::Text)])]);
    let tap = Tap::open(cluster.source(), keyless, None);
    tap.until_suspended("public.keyless").await;
    tap.close().await;

    let source = SourceSettings { slot: "Bad-Name".into(), ..cluster.source() };
    let tap = Tap::open(source, articles(), None);
    tap.until_suspended("cannot be the name of a slot").await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_users_are_published_without_secrets_and_stay_writable() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(
        &client,
        "create table directus_users (id uuid primary key, email varchar(255), city text,
             password varchar(255), token varchar(255), last_access timestamptz)",
    )
    .await;
    let users = |columns: &[&str]| {
        let columns: Vec<_> = columns.iter().map(|column| (*column, FieldKind::Text)).collect();
        mapping(vec![entity("directus_users", &columns)])
    };
    let tap = Tap::open(cluster.source(), users(&["email"]), None);
    tap.until_streaming().await;
    let published = "select array_to_string(attnames, ',') from pg_publication_tables where tablename = 'directus_users'";
    until_query(&client, published, "id,email").await;
    let id = "11111111-2222-4333-8444-555555555555";
    run_sql(
        &client,
        &format!("insert into directus_users values ('{id}', 'a@b', 'Lyon', 'secret', 'secret')"),
    )
    .await;
    run_sql(&client, "update directus_users set last_access = now()").await;
    tap.until("both", |m| m.seen_count.values().sum::<usize>() == 2).await;
    let mirror = tap.close().await;
    // The mapping names one more column: the list is renewed, and the values of before are read.
    let tap = Tap::open(cluster.source(), users(&["email", "city"]), Some(mirror));
    tap.until("city", |m| m.cell(id, 1) == Some(&text("Lyon"))).await;
    until_query(&client, published, "id,email,city").await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_rows_outside_the_filter_are_left_out_and_come_back_whole() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(
        &client,
        "create table article (id text primary key, title text, body text, status text);
         alter table article alter body set storage external;
         insert into article values ('1', 'one', repeat('x', 9000), 'published'),
             ('2', 'two', repeat('y', 9000), 'draft'), ('3', 'three', null, 'published')",
    )
    .await;
    let columns = [("title", FieldKind::Text), ("body", FieldKind::Text)];
    let filtered = |status: &str| {
        let mut article = entity("article", &columns);
        let value = RowValue::Text(status.into());
        let test = RowTest { field: "status".into(), values: vec![value], is_not: false };
        article.rows.directus = Some(RowFilter { tests: vec![test] });
        mapping(vec![article])
    };
    let tap = Tap::open(cluster.source(), filtered("published"), None);
    tap.until("the published ones", |m| m.keys() == ["1", "3"]).await;
    tap.until_streaming().await;
    // The log says nothing of a large value that does not change, and the row is taken whole all the same.
    run_sql(&client, "update article set status = 'published' where id = '2'").await;
    let whole = text(&"y".repeat(9000));
    tap.until("it came", |m| m.cell("2", 1) == Some(&whole)).await;
    run_sql(&client, "update article set status = null where id = '1'").await;
    tap.until("it left", |m| m.keys() == ["2", "3"]).await;
    run_sql(&client, "insert into article values ('4', 'four', null, 'draft')").await;
    run_sql(&client, "update article set title = 'five', id = '5' where id = '4'").await;
    run_sql(&client, "update article set id = '6' where id = '3'").await;
    tap.until("the keys changed", |m| m.keys() == ["2", "6"]).await;
    let mirror = tap.close().await;
    // Another filter: the table is read again.
    let tap = Tap::open(cluster.source(), filtered("draft"), Some(mirror));
    tap.until("the drafts", |m| m.keys() == ["5"]).await;
    tap.close().await;
}

/// What of Directus's own tables says who is an administrator.
const ACCOUNTS: &str = "
    create table directus_roles (id uuid primary key, name text, parent uuid);
    create table directus_policies (id uuid primary key, name text, admin_access boolean not null, app_access boolean not null);
    create table directus_access (id uuid primary key default gen_random_uuid(), role uuid, \"user\" uuid, policy uuid);
    create table directus_users (id uuid primary key, email varchar(255), role uuid);
    insert into directus_roles values ('a0000000-0000-4000-8000-000000000001', 'Administrator', null),
        ('a0000000-0000-4000-8000-000000000002', 'Members', null),
        ('a0000000-0000-4000-8000-000000000003', 'Deputy', 'a0000000-0000-4000-8000-000000000001');
    insert into directus_policies values ('b0000000-0000-4000-8000-000000000001', 'Admin', true, true),
        ('b0000000-0000-4000-8000-000000000002', 'Studio', false, true);
    insert into directus_access (role, policy) values
        ('a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001'),
        ('a0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000002');
    insert into directus_users values
        ('c0000000-0000-4000-8000-000000000001', 'admin@x', 'a0000000-0000-4000-8000-000000000001'),
        ('c0000000-0000-4000-8000-000000000002', 'member@x', 'a0000000-0000-4000-8000-000000000002'),
        ('c0000000-0000-4000-8000-000000000003', 'deputy@x', 'a0000000-0000-4000-8000-000000000003'),
        ('c0000000-0000-4000-8000-000000000004', 'plain@x', null)";

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_accounts_beyond_members_are_left_out_as_roles_change() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ACCOUNTS).await;
    let mut users = entity("directus_users", &[("email", FieldKind::Text)]);
    users.rows.member_roles = vec!["Members".into()];
    let mapping = mapping(vec![users]);
    let id = |no: u32| format!("c0000000-0000-4000-8000-00000000000{no}");
    let tap = Tap::open(cluster.source(), std::sync::Arc::clone(&mapping), None);
    tap.until("members", |m| m.keys() == [id(2), id(4)]).await;
    tap.until_streaming().await;
    let role = |user: u32, role: u32| {
        format!(
            "update directus_users set role = 'a0000000-0000-4000-8000-00000000000{role}' where id = '{}'",
            id(user)
        )
    };
    run_sql(&client, &role(4, 3)).await;
    tap.until("a role below the administrators'", |m| m.keys() == [id(2)]).await;
    run_sql(&client, &role(4, 2)).await;
    tap.until("a member again", |m| m.keys() == [id(2), id(4)]).await;
    // A policy of one's own makes no row of accounts: it is found all the same.
    let policy = format!(
        "insert into directus_access (\"user\", policy) values ('{}', 'b0000000-0000-4000-8000-000000000001')",
        id(2)
    );
    run_sql(&client, &policy).await;
    tap.until("an administrator by a policy", |m| m.keys() == [id(4)]).await;
    let mirror = tap.close().await;
    // So is what happens while nobody looks.
    run_sql(&client, "update directus_policies set admin_access = true").await;
    let tap = Tap::open(cluster.source(), mapping, Some(mirror));
    tap.until("nobody is a member", |m| m.keys().is_empty()).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_without_a_look_at_the_roles_reads_no_account() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ACCOUNTS).await;
    cluster.make_role("blind replication").await;
    run_sql(
        &client,
        "create publication plait for table directus_users (id, email, role);
         grant select on directus_users to blind",
    )
    .await;
    let source = SourceSettings { user: "blind".into(), ..cluster.source() };
    let users = mapping(vec![entity("directus_users", &[("email", FieldKind::Text)])]);
    let tap = Tap::open(source, users, None);
    let said = tap.until_suspended("may not read the roles and policies of Directus").await;
    assert!(said.contains("grant select on \"public\".\"directus_roles\""), "{said}");
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_publication_made_by_others_is_used_as_it_is() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "create publication bench_pub for table article").await;
    cluster.make_role("bench replication").await;
    run_sql(&client, "grant select on article to bench").await;
    let source = SourceSettings {
        publication: "bench_pub".into(),
        slot: "bench_slot".into(),
        user: "bench".into(),
        ..cluster.source()
    };
    let tap = Tap::open(source, articles(), None);
    tap.until_streaming().await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    tap.until("row", |m| m.keys() == ["1"]).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_tls_proves_authority_and_name() {
    let (authority, certificate, key) = certificates("localhost");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ours = file("ours.pem", &authority);
    let others = file("others.pem", &certificates("localhost").0);
    // Postgres 18, as it is installed for the tests, is built without TLS.
    let mut cluster = Cluster::start(&[]).await;
    let data = cluster.data_folder();
    write_private(&data, "server.crt", &certificate);
    write_private(&data, "server.key", &key);
    // Nobody comes in without TLS but the test's own client, whose user is another.
    let rules = "hostnossl all postgres all scram-sha-256\nhostssl all all all scram-sha-256\n";
    write_private(&data, "pg_hba.conf", rules);
    run_sql(&cluster.client().await, "alter system set ssl = on").await;
    cluster.restart(Stop::Fast).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    cluster.make_role("secure superuser").await;
    let source = |host: &str, tls, ca: &std::path::Path| SourceSettings {
        host: host.into(),
        user: "secure".into(),
        tls,
        ca: Some(ca.to_owned()),
        ..cluster.source()
    };
    let full = TlsMode::VerifyFull;
    let tap = Tap::open(source("localhost", full, &ours), articles(), None);
    tap.until_streaming().await;
    run_sql(&client, "insert into article values ('2', 'x')").await;
    tap.until("both rows", |m| m.keys() == ["1", "2"]).await;
    until_query(
        &client,
        "select min(version) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'secure'",
        "TLSv1.3",
    )
    .await;
    let mirror = tap.close().await;
    let nowhere = folder.path().join("none.pem");
    for (source, told) in [
        (source("localhost", full, &others), "certificate"),
        (source("127.0.0.1", full, &ours), "certificate"),
        (source("localhost", full, &nowhere), "could not read the TLS certificates"),
        // The library of the replication connection asks for the name here as well: more than was wanted, and said.
        (source("127.0.0.1", TlsMode::VerifyCa, &ours), "name that is in the server's certificate"),
    ] {
        let tap = Tap::open(source, articles(), None);
        tap.until_suspended(told).await;
        tap.close().await;
    }
    let tap = Tap::open(source("localhost", TlsMode::VerifyCa, &ours), articles(), Some(mirror));
    tap.until_streaming().await;
    run_sql(&client, "insert into article values ('3', 'x')").await;
    tap.until("the third row", |m| m.keys() == ["1", "2", "3"]).await;
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_directus_frozen_server_process_is_noticed_and_left() {
    let cluster = Cluster::start(&["wal_sender_timeout=1s"]).await;
    let client = cluster.client().await;
    run_sql(&client, ARTICLE).await;
    let tap = Tap::open(cluster.source(), articles(), None);
    tap.until_streaming().await;
    let sender = "select pid from pg_stat_replication where application_name like 'plait %'";
    let pid: i32 = client.query_one(sender, &[]).await.unwrap().get(0);
    let process = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    tap.until("noticed", |_| tap.status.borrow().reconnect_count > 0).await;
    run_sql(&client, "insert into article values ('1', 'x')").await;
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGCONT).unwrap();
    tap.until("goes on", |m| m.keys() == ["1"]).await;
    tap.close().await;
}
