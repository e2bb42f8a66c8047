//! Batches against a real Postgres: however deliveries are cut into batches, and whatever is folded while something
//! else is being written, the outcome is that of one delivery at a time.

use std::time::Duration;

use futures_util::future;
use proptest::{
    prelude::*,
    test_runner::{Config as RunnerConfig, TestCaseError, TestRunner},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    time::timeout,
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Apply, Committed, Limits, Log};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    model::{
        Author, Cell, Change, Delivery, Element, EntityNo, FieldNo, Lsn, Observation, Position,
        Side, SideKey, Stamp, Value,
    },
    postgres::TlsMode,
    queue::queue,
    store::{self, Canonical, Writer},
};

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

const BOX: EntityNo = EntityNo(0);
const THING: EntityNo = EntityNo(1);
const TAGS: FieldNo = FieldNo(3);

const MAPPING: &str = r#"
version = 1
[entity.box]
table = "box"
directus = { table = "box" }
deletes = "propagate"
[entity.box.field]
label = { type = "text", directus = "label" }
seen_at = { type = "datetime", directus = "seen_at" }
[entity.thing]
table = "thing"
directus = { table = "thing" }
deletes = "propagate"
[entity.thing.field]
name = { type = "text", directus = "name" }
size = { type = "decimal", scale = 2, directus = "size" }
box_id = { type = "link", target = "box", directus = "box_id" }
tags = { type = "multi_select", junction = { table = "thing_tag", parent = "thing_id", element = "tag" }, directus = { junction = "thing_tag", parent = "thing_id", element = "tag" } }
"#;

const TABLES: &str = "
    create table canon.box (id uuid primary key, label varchar(8), seen_at timestamptz);
    create table canon.thing (id uuid primary key, name text check (length(name) <= 8), size numeric(6, 2),
        box_id uuid references canon.box deferrable initially deferred);
    create table canon.thing_tag (thing_id uuid references canon.thing on delete cascade deferrable initially deferred,
        tag text, primary key (thing_id, tag))";

/// By rows: `truncate` gives each table, each index a new file, which takes longer than all else here.
const EMPTY: &str = "
    delete from canon.thing_tag; delete from canon.thing; delete from canon.box; delete from mirror.source_transaction;
    delete from mirror.journal; delete from mirror.link; delete from mirror.shadow; delete from mirror.absence; delete
    from mirror.tombstone; delete from mirror.element; delete from mirror.conflict; delete from mirror.refusal; delete
    from mirror.position;";

/// What a transaction does.
#[derive(Clone, Debug)]
enum Step {
    /// Which box, its label, when seen in s.
    Box(u8, String, i64),
    /// Which thing, its name, size in hundredths, box.
    Thing(u8, String, i64, Option<u8>),
    Gone(u8),
    /// Which thing, which tag, whether it is there.
    Tag(u8, u8, bool),
    NoThings,
    NoTags,
}

fn id(kind: u64, no: u8) -> Uuid {
    Uuid::from_u64_pair(kind << 48 | 0x4000, 1 << 63 | u64::from(no))
}

fn key(id: Uuid) -> SideKey {
    SideKey::from(id.to_string().as_str())
}

fn text(text: &str) -> Cell {
    Cell::Value(if text.is_empty() { Value::Null } else { Value::Text(text.into()) })
}

fn observation(step: &Step) -> Observation {
    let present = |cells: Vec<Cell>| Change::Present {
        cells: cells
            .into_iter()
            .enumerate()
            .map(|(no, cell)| (FieldNo(u16::try_from(no).unwrap()), cell))
            .collect(),
        claimed_id: None,
        made_at: None,
    };
    let element = |row: String, element| Element {
        field: TAGS,
        row: SideKey::from(&*row),
        element,
        columns: None,
    };
    let (entity, key, change) = match step {
        Step::Box(no, label, seen) => {
            let seen = Cell::Value(Value::Timestamp(seen * 1_000_000));
            (BOX, key(id(1, *no)), present(vec![text(label), seen]))
        }
        Step::Thing(no, name, size, boxed) => {
            let size = Cell::Value(Value::Decimal(bigdecimal::BigDecimal::new((*size).into(), 2)));
            let boxed = Cell::Link(boxed.map(|no| key(id(1, no))));
            (THING, key(id(2, *no)), present(vec![text(name), size, boxed]))
        }
        Step::Gone(no) => (THING, key(id(2, *no)), Change::Absent),
        Step::Tag(no, tag, true) => {
            let change = element(format!("{no}-{tag}"), Some(text(&format!("tag{tag}"))));
            (THING, key(id(2, *no)), Change::Element(change))
        }
        // As the log tells it: by the row's own key alone.
        Step::Tag(no, tag, false) => {
            (THING, "".into(), Change::Element(element(format!("{no}-{tag}"), None)))
        }
        Step::NoThings => (THING, "".into(), Change::Truncated),
        Step::NoTags => (THING, "".into(), Change::Element(element(String::new(), None))),
    };
    Observation { entity, key, change }
}

fn deliveries(transactions: &[Vec<Step>]) -> Vec<Delivery> {
    let delivery = |(no, steps): (usize, &Vec<Step>)| Delivery::Transaction {
        stamp: Stamp {
            side: Side::Directus,
            at: i64::try_from(no).unwrap() * 1_000_000,
            position: Some(Position::Lsn(Lsn(no as u64 + 1))),
            author: Author { via: "sql".into(), ..Author::default() },
            operation: None,
        },
        observations: steps.iter().map(observation).collect(),
    };
    transactions.iter().enumerate().map(delivery).collect()
}

/// Applies all; with `is_one_at_a_time`, each only when the one before is committed.
async fn apply(config: &Canonical, transactions: &[Vec<Step>], is_one_at_a_time: bool) {
    apply_all(config, deliveries(transactions), is_one_at_a_time).await;
}

async fn apply_all(config: &Canonical, deliveries: Vec<Delivery>, is_one_at_a_time: bool) {
    let mapping =
        mapping::read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let writer = Writer::open(config, mapping).await.unwrap();
    let (committed, mut told) = watch::channel(None);
    let (_identity, identity) = watch::channel(None);
    let log = Log {
        name: "directus".into(),
        side: Side::Directus,
        identity,
        stored_identity: None,
        committed: Committed::Lsn(committed),
        is_new: false,
    };
    let limits = Limits { batch_row_count_max: if is_one_at_a_time { 100 } else { 4 } };
    let (sender, received) = queue(1_000);
    let apply = Apply::new(writer, vec![log], limits);
    let sending = async move {
        for (no, delivery) in deliveries.into_iter().enumerate() {
            sender.send(delivery).await.unwrap();
            if is_one_at_a_time {
                told.wait_for(|lsn| *lsn == Some(Lsn(no as u64 + 1))).await.unwrap();
            }
        }
    };
    // In this order, all is in the channel before the first batch is cut.
    let (applied, ()) = if is_one_at_a_time {
        tokio::join!(apply.run(received), sending)
    } else {
        sending.await;
        (apply.run(received).await, ())
    };
    applied.unwrap();
}

/// What there is afterwards, as text.
async fn outcome(client: &Client, with_journal: bool) -> String {
    let mut outcome = String::new();
    let mut queries = vec![
        "select b::text from canon.box b order by id",
        "select t::text from canon.thing t order by id",
        "select t::text from canon.thing_tag t order by 1",
        "select concat_ws(' ', side_key, field, kind, reason, waits_for) from mirror.refusal order by 1",
        "select concat_ws(' ', row_key, record_id, element) from mirror.element order by 1",
        "select record_id::text from mirror.tombstone order by 1",
        "select position from mirror.position",
    ];
    if with_journal {
        queries.push(
            "select concat_ws(' ', t.position, j.record_id, j.action, j.before, j.after)
             from mirror.journal j join mirror.source_transaction t using (source_transaction_id) order by journal_id",
        );
    }
    for query in queries {
        for row in client.query(query, &[]).await.unwrap() {
            outcome.push_str(&row.get::<_, Option<String>>(0).unwrap_or_default());
            outcome.push('\n');
        }
        outcome.push('\n');
    }
    outcome
}

/// A cluster with two databases, for the histories of one test.
/// Histories of each property.
pub(super) const CASE_COUNT: u32 = 500;

pub(super) struct Lab {
    pub(super) runtime: Runtime,
    _cluster: Cluster,
    pub(super) databases: [(Canonical, Client); 2],
}

impl Lab {
    pub(super) fn open(tables: &str) -> Self {
        // On one thread: a hop from one to another takes longer than what it brings.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (cluster, databases) = runtime.block_on(async {
            let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
            let mut databases = Vec::new();
            for name in ["batched", "single"] {
                cluster.sql("postgres", &format!("create database {name}")).await.unwrap();
                let config = cluster.config(name, "postgres", cluster.password());
                let config = Canonical { config, tls: TlsMode::Disable, ca: None };
                store::migrate(&config).await.unwrap();
                let client = cluster.connect(name).await.unwrap();
                // The project's own tables are in the way of nothing but these names.
                client.batch_execute(tables).await.unwrap();
                databases.push((config, client));
            }
            (cluster, databases.try_into().ok().unwrap())
        });
        Self { runtime, _cluster: cluster, databases }
    }

    /// What comes of it in batches, and of one delivery at a time: both at once, as their databases are two.
    pub(super) fn in_both<O>(&self, run: impl AsyncFn(&Canonical, &Client, bool) -> O) -> [O; 2] {
        let [batched, single] = &self.databases;
        self.runtime.block_on(async {
            let both =
                future::join(run(&batched.0, &batched.1, false), run(&single.0, &single.1, true));
            timeout(PATIENCE, both).await.expect("applied in time").into()
        })
    }

    fn same_either_way(
        &self,
        transactions: &[Vec<Step>],
        with_journal: bool,
    ) -> Result<(), TestCaseError> {
        let outcomes = self.in_both(async |config, client, is_single| {
            client.batch_execute(EMPTY).await.unwrap();
            apply(config, transactions, is_single).await;
            outcome(client, with_journal).await
        });
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
        Ok(())
    }
}

/// Most of them short, which says the same sooner; some fill several batches.
pub(super) fn histories<S: Strategy + Clone>(step: S) -> impl Strategy<Value = Vec<S::Value>> {
    prop_oneof![
        9 => prop::collection::vec(step.clone(), 1..10),
        1 => prop::collection::vec(step, 10..40),
    ]
}

fn check(name: &'static str, steps: impl Strategy<Value = Step> + Clone, with_journal: bool) {
    let lab = Lab::open(TABLES);
    let history = histories(prop::collection::vec(steps, 1..4));
    let config = RunnerConfig {
        cases: CASE_COUNT,
        source_file: Some(file!()),
        test_name: Some(name),
        ..RunnerConfig::default()
    };
    TestRunner::new(config)
        .run(&history, |transactions| lab.same_either_way(&transactions, with_journal))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn apply_batches_come_to_the_same_as_one_delivery_at_a_time() {
    let steps = prop_oneof![
        4 => (0..3_u8, "[a-z]{0,3}", 0..99_i64).prop_map(|(no, label, seen)| Step::Box(no, label, seen)),
        8 => (0..6_u8, "[a-z]{0,3}", 0..999_i64).prop_map(|(no, name, size)| Step::Thing(no, name, size, None)),
        2 => (0..6_u8).prop_map(Step::Gone),
        5 => (0..6_u8, 0..3_u8, any::<bool>()).prop_map(|(no, tag, is_there)| Step::Tag(no, tag, is_there)),
        1 => Just(Step::NoThings),
        1 => Just(Step::NoTags),
    ];
    check("apply_batches", steps, true);
}

#[test]
fn apply_batches_with_what_does_not_fit_come_to_the_same() {
    let steps = prop_oneof![
        // A label of more than 8 letters and a size of more than 4 digits, which their types tell; a name of more than 8
        // letters, which only the database knows to be wrong; a box that comes later or never.
        2 => (0..3_u8, "[a-z]{0,10}", 0..99_i64).prop_map(|(no, label, seen)| Step::Box(no, label, seen)),
        8 => (0..6_u8, "[a-z]{0,10}", 0..2_000_000_i64, prop::option::of(0..4_u8))
            .prop_map(|(no, name, size, boxed)| Step::Thing(no, name, size, boxed)),
        1 => (0..6_u8).prop_map(Step::Gone),
    ];
    check("apply_misfits", steps, false);
}

#[test]
fn apply_ten_thousand_values_beyond_their_columns_types_are_listed_with_their_batch() {
    const COUNT: u64 = 10_000;
    let lab = Lab::open(TABLES);
    let row = |no: u64| {
        let seen = Cell::Value(Value::Timestamp(7_000_000));
        let cells = vec![(FieldNo(0), text("far too long")), (FieldNo(1), seen)];
        let change = Change::Present { cells, claimed_id: None, made_at: None };
        let id = Uuid::from_u64_pair(1 << 48 | 0x4000, 1 << 63 | no);
        Observation { entity: BOX, key: key(id), change }
    };
    let mut delivery = deliveries(&[vec![]]).remove(0);
    let Delivery::Transaction { observations, .. } = &mut delivery else { panic!("{delivery:?}") };
    observations.extend((0..COUNT).map(row));
    let (config, client) = &lab.databases[0];
    let listed = lab.runtime.block_on(async {
        timeout(PATIENCE, apply_all(config, vec![delivery], false)).await.unwrap();
        let sql = "select (select count(*) from canon.box where label is null and seen_at is not null),
                (select count(*) from mirror.refusal where field = 'label' and kind = 'out of range' and reason like '%shorten%')";
        client.query_one(sql, &[]).await.unwrap()
    });
    assert_eq!(listed.get::<_, i64>(0).unsigned_abs(), COUNT);
    assert_eq!(listed.get::<_, i64>(1).unsigned_abs(), COUNT);
}
