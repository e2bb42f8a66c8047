//! Many exceptions at once, and many shapes of statements, against a real Postgres.

use uuid::Uuid;

use super::{
    Canonical, ConflictRow, ConflictStep, Parked, RefusalRow, Writer, Writes, connect, incident,
    migrate, operation, reading, session::Session, statements::STATEMENT_COUNT_MAX,
};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    model::{EntityNo, FieldNo, Notice, RecordId, RefusalKind, Side, SideKey, Value},
    postgres::TlsMode,
};

const CARD: EntityNo = EntityNo(0);
const ROW_COUNT: u64 = 10_000;

const MAPPING: &str = r#"
version = 1
[entity.card]
table = "card"
airtable = { base = "main", table = "Cards", uuid = "UUID" }
directus = { table = "card" }
deletes = "propagate"
[entity.card.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "ask" }
"#;

struct Lab {
    _cluster: Cluster,
    config: Canonical,
    client: tokio_postgres::Client,
}

impl Lab {
    async fn open() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database bulk").await.unwrap();
        let config = cluster.config("bulk", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        migrate(&config).await.unwrap();
        let client = cluster.connect("bulk").await.unwrap();
        client
            .batch_execute("create table canon.card (id uuid primary key, name text)")
            .await
            .unwrap();
        Self { _cluster: cluster, config, client }
    }

    async fn writer(&self) -> Writer {
        let mapping =
            mapping::read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"));
        Writer::open(&self.config, mapping).await.unwrap()
    }

    async fn pool(&self) -> sqlx::PgPool {
        let password = self.config.config.get_password().map(String::from_utf8_lossy);
        reading::pool(&self.config, password.as_deref()).await.unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn text(&self, sql: &str) -> Option<String> {
        self.client.query_opt(sql, &[]).await.unwrap().and_then(|row| row.get(0))
    }
}

fn record(no: u64) -> RecordId {
    RecordId(Uuid::from_u64_pair(0x4000, 1 << 63 | no))
}

fn met(no: u64, observed: &str, decision: &'static str) -> ConflictStep {
    ConflictStep::Met(ConflictRow {
        entity: CARD,
        record: record(no),
        field: Some(String::from("name")),
        side: Side::Airtable,
        base: None,
        canonical: "canonical".into(),
        observed: observed.into(),
        transaction: 1,
        decision,
    })
}

fn refusal(no: u64, reason: &str, waits_for: Option<Vec<String>>) -> RefusalRow {
    RefusalRow {
        record: None,
        raw: None,
        side: Side::Airtable,
        entity: CARD,
        key: SideKey::from(format!("rec{no}").as_str()),
        field: String::from("name"),
        kind: RefusalKind::WrongType,
        reason: reason.into(),
        waits_for,
        transaction: 1,
    }
}

#[tokio::test]
async fn bulk_ten_thousand_conflicts_and_refusals_are_a_few_statements() {
    let lab = Lab::open().await;
    let mut writer = lab.writer().await;
    let mut all = Writes::default();
    for no in 0..ROW_COUNT {
        all.conflicts.push(met(no, "first", "held"));
        all.refusals.push(refusal(no, "before", None));
    }
    // The first cell meets another value, agrees, and is in conflict again; the second one agrees at last.
    all.conflicts.push(met(0, "second", "held"));
    let over = |no| ConflictStep::Over(CARD, record(no), String::from("name"), Side::Airtable);
    all.conflicts.extend([over(0), met(0, "third", "held"), over(1)]);
    all.refusals.push(refusal(0, "after", Some(vec!["recA".into(), "rec,\"B\"".into()])));
    assert!(writer.calls(&all).len() < 12);
    writer.begin().await.unwrap();
    writer.write_part(&all).await.unwrap();
    writer.commit().await.unwrap();

    let held = "decision = 'held' and decided_at is null";
    let count = lab.number(&format!("select count(*) from mirror.conflict where {held}")).await;
    assert_eq!(count.unsigned_abs(), ROW_COUNT - 1);
    let of_first = format!(
        "select string_agg(observed::text || ' ' || decision || ' ' || (decided_at is null), ', ' order by conflict_id)
         from mirror.conflict where record_id = '{}'",
        record(0).0
    );
    assert_eq!(
        lab.text(&of_first).await.unwrap(),
        "\"second\" held false, \"first\" overwritten false, \"third\" held true"
    );
    let count = lab.number("select count(*) from mirror.refusal").await;
    assert_eq!(count.unsigned_abs(), ROW_COUNT);
    let first = "select reason || ' ' || waits_for[1] || ' ' || waits_for[2] from mirror.refusal where side_key = 'rec0'";
    assert_eq!(lab.text(first).await.unwrap(), "after recA rec,\"B\"");
    let none = lab.text("select waits_for::text from mirror.refusal where side_key = 'rec1'").await;
    assert_eq!(none, None);
}

#[tokio::test]
async fn bulk_parked_cells_are_one_statement_and_the_last_of_a_cell_stands() {
    let lab = Lab::open().await;
    let writer = lab.writer().await;
    let books = writer.books(lab.pool().await);
    let parked = |no, code: &str, field| Parked {
        record: record(no),
        field,
        code: code.into(),
        reason: String::from("see to it"),
    };
    let name = |text: &str| Some((FieldNo(0), Value::Text(text.into())));
    let mut rows: Vec<Parked> =
        (0..ROW_COUNT).map(|no| parked(no, "too long", name("x"))).collect();
    rows.push(parked(0, "other", name("y")));
    rows.push(parked(1, "whole", None));
    books.park(Side::Airtable, CARD, &rows).await.unwrap();
    books.park(Side::Airtable, CARD, &rows[1..2]).await.unwrap();
    let count = lab.number("select count(*) from mirror.parked").await;
    assert_eq!(count.unsigned_abs(), ROW_COUNT + 1);
    let of = |no: u64| {
        format!(
            "select string_agg(concat_ws(' ', field, code, value, try_count), ', ' order by field)
             from mirror.parked where record_id = '{}'",
            record(no).0
        )
    };
    assert_eq!(lab.text(&of(0)).await.unwrap(), "name other \"y\" 1");
    assert_eq!(lab.text(&of(1)).await.unwrap(), "* whole 1, name too long \"x\" 2");
}

#[tokio::test]
async fn bulk_statements_of_endless_variety_leave_the_server_again() {
    let lab = Lab::open().await;
    let session = Session::new(connect(&lab.config).await.unwrap());
    // A wide table, and each time another set of its columns, as updates of single fields make them.
    let columns: Vec<String> = (0..200).map(|no| format!("c{no} text")).collect();
    let sql = format!("create table canon.wide (id uuid primary key, {})", columns.join(", "));
    lab.client.batch_execute(&sql).await.unwrap();
    let shape = |no: usize| {
        let sets: Vec<String> =
            (0..11).filter(|bit| no >> bit & 1 == 1).map(|at| format!("c{at} = $1")).collect();
        format!("update canon.wide set {} where id is null", sets.join(", "))
    };
    let counted = async || {
        let sql = "select count(*), (select sum(total_bytes)::bigint from pg_backend_memory_contexts) from pg_prepared_statements";
        let row = session.client().query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1))
    };
    for no in 1..=STATEMENT_COUNT_MAX {
        session.query(&shape(no), &[&"x"]).await.unwrap();
    }
    let (_, bytes_full) = counted().await;
    for no in STATEMENT_COUNT_MAX + 1..=1_643 {
        session.query(&shape(no), &[&"x"]).await.unwrap();
    }
    let (count, bytes) = counted().await;
    // And the one that counts.
    assert!(count <= STATEMENT_COUNT_MAX as u64 + 1, "{count} statements");
    assert!(bytes < bytes_full * 2, "{bytes} bytes instead of {bytes_full}");
}

#[tokio::test]
async fn bulk_settled_writes_go_after_nine_days_in_lots() {
    let lab = Lab::open().await;
    drop(lab.writer().await);
    lab.client
        .batch_execute(
            "insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells, settled_at)
             select gen_random_uuid(), 'airtable', 1, gen_random_uuid(), 'update', '{}', now() - n * interval '1 day'
             from generate_series(1, 20) n;
             insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells)
             values (gen_random_uuid(), 'airtable', 1, gen_random_uuid(), 'update', '{}')",
        )
        .await
        .unwrap();
    let pool = lab.pool().await;
    let mut dropped = Vec::new();
    loop {
        match operation::drop_settled(&pool, 5).await.unwrap() {
            0 => break,
            count => dropped.push(count),
        }
    }
    assert_eq!(dropped, [5, 5, 2]);
    assert_eq!(lab.number("select count(*) from mirror.operation").await, 9);
}

#[tokio::test]
async fn incident_is_over_when_a_look_no_longer_finds_it_or_after_a_day() {
    let lab = Lab::open().await;
    let pool = lab.pool().await;
    let open = "select string_agg(code || ' ' || seen_count, ', ' order by code) from mirror.incident where closed_at is null";
    let text = || String::from("see to it");
    let tell = async |notice: Notice| incident::note(&pool, "directus", &notice).await.unwrap();
    tell(Notice::found("tables", "missing", text())).await;
    tell(Notice::found("tables", "missing", text())).await;
    tell(Notice::found("tables", "filtered", text())).await;
    tell(Notice::found("connection", "away", text())).await;
    tell(Notice::happened("rebuilt", text())).await;
    incident::note(&pool, "airtable:a", &Notice::found("tables", "other", text())).await.unwrap();
    let all = lab.text(open).await.unwrap();
    assert_eq!(all, "away 1, filtered 1, missing 2, other 1, rebuilt 1");
    let found = Notice::found("tables", "missing", text()).found;
    tell(Notice::looked("tables", found)).await;
    assert_eq!(lab.text(open).await.unwrap(), "away 1, missing 3, other 1, rebuilt 1");
    tell(Notice::well("connection")).await;
    tell(Notice::well("tables")).await;
    assert_eq!(lab.text(open).await.unwrap(), "other 1, rebuilt 1");
    incident::look(&pool).await.unwrap();
    assert_eq!(lab.text(open).await.unwrap(), "other 1, rebuilt 1");
    lab.client
        .batch_execute("update mirror.incident set seen_at = now() - interval '25 hours' where code = 'rebuilt'")
        .await
        .unwrap();
    incident::look(&pool).await.unwrap();
    assert_eq!(lab.text(open).await.unwrap(), "other 1");
}

#[tokio::test]
async fn incident_of_deletes_that_were_stopped_is_over_once_a_person_has_answered() {
    let lab = Lab::open().await;
    drop(lab.writer().await);
    let pool = lab.pool().await;
    lab.client
        .batch_execute(
            "insert into mirror.pending_delete (entity_no, record_id, side, source_transaction_id, stopped_by_count)
             select 1, gen_random_uuid(), 'airtable', 1, true from generate_series(1, 9)",
        )
        .await
        .unwrap();
    let open = "select code || ' ' || seen_count from mirror.incident where closed_at is null";
    for _ in 0..3 {
        incident::look(&pool).await.unwrap();
    }
    assert_eq!(lab.text(open).await.unwrap(), "many_deletes_card 1");
    lab.client
        .batch_execute("update mirror.pending_delete set approved_at = now(), approved_by = 'me'")
        .await
        .unwrap();
    incident::look(&pool).await.unwrap();
    assert_eq!(lab.text(open).await, None);
}
