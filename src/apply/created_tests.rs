//! Keys that are no canonical ids, against a real Postgres: links by them at a first copy and later, and rows that
//! creates of ours have made.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Apply, Committed, Limits, Log};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    model::{
        Author, Cell, Change, Cursor, Delivery, Element, EntityNo, FieldNo, Lsn, Observation,
        Position, Side, SideKey, Stamp, Value,
    },
    postgres::TlsMode,
    queue::queue,
    store::{self, Canonical, Writer},
};

const PATIENCE: Duration = Duration::from_mins(2);
const NOTE: EntityNo = EntityNo(0);
const TASK: EntityNo = EntityNo(1);
const AIR: Side = Side::Airtable;
const DIR: Side = Side::Directus;

/// Notes have UUIDs, tasks have integers; a note comes before the task that it is about.
const MAPPING: &str = r#"
version = 1
[entity.note]
table = "note"
airtable = { base = "main", table = "Notes", uuid = "UUID" }
directus = { table = "note" }
[entity.note.field]
text = { type = "text", airtable = "Text", directus = "text" }
task_id = { type = "link", target = "task", airtable = "Task", directus = "task" }
[entity.task]
table = "task"
airtable = { base = "main", table = "Tasks", uuid = "UUID" }
directus = { table = "task" }
[entity.task.field]
name = { type = "text", airtable = "Name", directus = "name" }
parent_id = { type = "link", target = "task", airtable = "Parent", directus = "parent" }
needs = { type = "links", target = "task", junction = { table = "task_need", parent = "task_id", element = "need_id" }, airtable = "Needs", directus = { junction = "task_task", parent = "task_id", element = "related_task_id" } }
"#;

const TABLES: &str = "
    create table canon.task (id uuid primary key, name text, deleted_at timestamptz,
        parent_id uuid references canon.task deferrable initially deferred);
    create table canon.note (id uuid primary key, text text, deleted_at timestamptz,
        task_id uuid references canon.task deferrable initially deferred);
    create table canon.task_need (task_id uuid references canon.task on delete cascade deferrable initially deferred,
        need_id uuid references canon.task on delete cascade deferrable initially deferred, primary key (task_id, need_id))";

fn id(no: u32) -> Uuid {
    Uuid::from_u64_pair(u64::from(no) << 16 | 0x4000, 1 << 63)
}

fn text(text: &str) -> Cell {
    Cell::Value(Value::Text(text.into()))
}

fn link(key: Option<&str>) -> Cell {
    Cell::Link(key.map(SideKey::from))
}

fn seen(entity: EntityNo, key: &str, cells: [Cell; 2]) -> Observation {
    let cells = cells.into_iter().zip(0..).map(|(cell, no)| (FieldNo(no), cell)).collect();
    let change = Change::Present { cells, claimed_id: None, made_at: None };
    Observation { entity, key: SideKey::from(key), change }
}

fn task(key: &str, name: &str, parent: Option<&str>) -> Observation {
    seen(TASK, key, [text(name), link(parent)])
}

fn note(no: u32, words: &str, task: Option<&str>) -> Observation {
    seen(NOTE, &id(no).to_string(), [text(words), link(task)])
}

fn need(row: &str, task: &str, needed: &str) -> Observation {
    let element = Element {
        field: FieldNo(2),
        row: SideKey::from(row),
        element: Some(link(Some(needed))),
        columns: None,
    };
    Observation { entity: TASK, key: SideKey::from(task), change: Change::Element(element) }
}

struct Lab {
    _cluster: Cluster,
    config: Canonical,
    client: Client,
    password: String,
    at: u64,
}

impl Lab {
    async fn open() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database plait").await.unwrap();
        let config = cluster.config("plait", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&config).await.unwrap();
        let client = cluster.connect("plait").await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let password = cluster.password().to_owned();
        Self { _cluster: cluster, config, client, password, at: 0 }
    }

    fn stamp(&mut self, side: Side, via: &str, operation: Option<Uuid>) -> Stamp {
        self.at += 1;
        let position = match side {
            DIR => Position::Lsn(Lsn(self.at)),
            AIR => Position::Cursor(Cursor {
                base: "app".into(),
                webhook: "ach".into(),
                next: self.at,
            }),
        };
        let author = Author { via: via.into(), ..Author::default() };
        let at = i64::try_from(self.at).unwrap() * 1_000_000;
        Stamp { side, at, position: Some(position), author, operation }
    }

    /// Somebody's transaction.
    fn by(&mut self, side: Side, observations: Vec<Observation>) -> Delivery {
        let stamp = self.stamp(side, "client", None);
        Delivery::Transaction { stamp, observations }
    }

    /// A transaction of ours in Directus.
    fn ours(&mut self, operation: Uuid, observations: Vec<Observation>) -> Delivery {
        let stamp = self.stamp(DIR, "plait/1", Some(operation));
        Delivery::Transaction { stamp, observations }
    }

    /// Applies these in a process of its own; `is_first`: nothing of Directus was read before.
    async fn apply(&mut self, deliveries: Vec<Delivery>, is_first: bool) {
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let log = |name: &str, side, committed, is_new| Log {
            name: name.into(),
            side,
            identity: watch::channel(None).1,
            stored_identity: None,
            committed,
            is_new,
        };
        let logs = vec![
            log("directus", DIR, Committed::Lsn(watch::channel(None).0), is_first),
            log("airtable:app", AIR, Committed::Cursor(watch::channel(None).0), false),
        ];
        let (sender, received) = queue(1_000_000);
        for delivery in deliveries {
            sender.send(delivery).await.unwrap();
        }
        drop(sender);
        let apply = Apply::new(writer, logs, Limits { batch_row_count_max: 1_000 });
        tokio::time::timeout(PATIENCE, apply.run(received)).await.expect("in time").unwrap();
    }

    /// Applies a full read of Directus, part by part.
    async fn copy(&mut self, parts: Vec<Vec<Observation>>, is_first: bool) {
        let part = |observations| Delivery::Part { side: DIR, observations };
        let mut deliveries: Vec<Delivery> = parts.into_iter().map(part).collect();
        let stamp = self.stamp(DIR, "snapshot", None);
        deliveries.push(Delivery::Transaction { stamp, observations: Vec::new() });
        self.apply(deliveries, is_first).await;
    }

    async fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    async fn tasks(&self) -> Vec<String> {
        self.lines(
            "select concat_ws(' ', t.name, '<', p.name) from canon.task t left join canon.task p on p.id = t.parent_id order by 1",
        )
        .await
    }

    async fn refusals(&self) -> Vec<String> {
        self.lines("select concat_ws(' ', side_key, field, kind) from mirror.refusal order by 1")
            .await
    }

    /// A task that was born in Airtable, and the create of it that is on its way to Directus.
    async fn born_in_airtable(&mut self, key: &str, name: &str) -> (Uuid, Uuid) {
        let born = self.by(AIR, vec![task(key, name, None)]);
        self.apply(vec![born], false).await;
        let sql = "select record_id from mirror.link where side = 'airtable' and side_key = $1";
        let record = self.client.query_one(sql, &[&key]).await.unwrap().get(0);
        (record, self.create(record, name).await)
    }

    /// Binds a create of a task: its operation.
    async fn create(&self, record: Uuid, name: &str) -> Uuid {
        let operation = Uuid::new_v4();
        let cells = json!({ "name": { "expected": null, "value": name } });
        self.client
            .execute(
                "insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells)
                 select $1, 'directus', entity_no, $2, 'create', $3 from mirror.entity where name = 'task'",
                &[&operation, &record, &cells],
            )
            .await
            .unwrap();
        operation
    }

    /// The key of Directus for a record.
    async fn directus_key(&self, record: Uuid) -> Option<String> {
        let sql = "select side_key from mirror.link where side = 'directus' and record_id = $1";
        self.client.query_opt(sql, &[&record]).await.unwrap().map(|row| row.get(0))
    }
}

#[tokio::test]
async fn keys_links_by_integer_are_taken_at_the_first_copy_and_in_the_stream() {
    let mut lab = Lab::open().await;
    // Notes come before the tasks that they are about; a task comes before its parent, in this part and in the next.
    let parts = vec![
        vec![note(1, "early", Some("2")), note(2, "none", None)],
        vec![task("1", "leaf", Some("2")), task("2", "middle", Some("3"))],
        vec![task("3", "root", None)],
        vec![need("10", "1", "3"), need("11", "3", "1")],
    ];
    lab.copy(parts, true).await;
    assert_eq!(lab.refusals().await, Vec::<String>::new());
    assert_eq!(lab.tasks().await, ["leaf < middle", "middle < root", "root <"]);
    let notes = "select concat_ws(' ', n.text, t.name) from canon.note n left join canon.task t on t.id = n.task_id order by 1";
    assert_eq!(lab.lines(notes).await, ["early middle", "none"]);
    let needs = "select concat(a.name, ' ', b.name) from canon.task_need n join canon.task a on a.id = n.task_id join canon.task b on b.id = n.need_id order by 1";
    assert_eq!(lab.lines(needs).await, ["leaf root", "root leaf"]);

    // A link that comes before its target waits for that one, not for another entity's record of the same key.
    let early = lab.by(DIR, vec![note(3, "late", Some("4")), task("5", "orphan", Some("4"))]);
    lab.apply(vec![early], false).await;
    let waiting =
        [format!("{} task_id unknown target", id(3)), "5 parent_id unknown target".into()];
    assert_eq!(lab.refusals().await, waiting);
    let target = lab.by(DIR, vec![task("4", "target", None)]);
    lab.apply(vec![target], false).await;
    assert_eq!(lab.refusals().await, Vec::<String>::new());
    assert!(lab.lines(notes).await.contains(&"late target".to_owned()));
    assert!(lab.tasks().await.contains(&"orphan < target".to_owned()));
}

#[tokio::test]
async fn keys_row_of_a_create_of_ours_is_its_record_and_a_second_one_is_none() {
    let mut lab = Lab::open().await;
    let (record, operation) = lab.born_in_airtable("recOne", "Rigging").await;
    // A hook makes a row of its own, before ours, in the same transaction.
    let made =
        lab.ours(operation, vec![task("16", "by a hook", None), task("17", "Rigging", None)]);
    lab.apply(vec![made], false).await;
    assert_eq!(lab.directus_key(record).await.as_deref(), Some("17"));
    assert_eq!(lab.tasks().await, ["Rigging <", "by a hook <"]);

    // The first try was slower than anything that proves it over: both rows came from one operation.
    let copy = lab.ours(operation, vec![task("18", "Rigging", None)]);
    lab.apply(vec![copy], false).await;
    assert_eq!(lab.refusals().await, ["18 * second copy"]);
    assert_eq!(lab.tasks().await, ["Rigging <", "by a hook <"]);
    let edited = lab.by(DIR, vec![task("18", "Rigging, edited", None)]);
    let flow = lab.ours(operation, vec![task("19", "follow up", None)]);
    lab.apply(vec![edited, flow], false).await;
    assert_eq!(lab.tasks().await, ["Rigging <", "by a hook <", "follow up <"]);
    assert_eq!(lab.directus_key(record).await.as_deref(), Some("17"));
    let gone = Observation { entity: TASK, key: SideKey::from("18"), change: Change::Absent };
    let gone = lab.by(DIR, vec![gone]);
    lab.apply(vec![gone], false).await;
    assert_eq!(lab.refusals().await, Vec::<String>::new());

    // Both rows in one batch.
    let (record, operation) = lab.born_in_airtable("recTwo", "Sails").await;
    let both = [task("20", "Sails", None), task("21", "Sails", None)];
    let both = both.map(|row| lab.ours(operation, vec![row]));
    lab.apply(both.into(), false).await;
    assert_eq!(lab.directus_key(record).await.as_deref(), Some("20"));
    assert_eq!(lab.refusals().await, ["21 * second copy"]);
    assert_eq!(lab.tasks().await.len(), 4);
}

#[tokio::test]
async fn keys_row_that_a_scan_shows_is_the_record_whose_create_is_in_flight() {
    let mut lab = Lab::open().await;
    let (told, operation) = lab.born_in_airtable("recOne", "told").await;
    let (same, _) = lab.born_in_airtable("recTwo", "same").await;
    let answered =
        "update mirror.operation set side_key = '30', sent_at = now() where operation_id = $1";
    lab.client.execute(answered, &[&operation]).await.unwrap();
    // The slot was lost, and with it the transactions that name the operations.
    let rows = vec![
        task("30", "told, and altered", None),
        task("31", "same", None),
        task("32", "other", None),
    ];
    lab.copy(vec![rows], false).await;
    assert_eq!(lab.directus_key(told).await.as_deref(), Some("30"));
    assert_eq!(lab.directus_key(same).await.as_deref(), Some("31"));
    assert_eq!(lab.tasks().await.len(), 3);
}

#[tokio::test]
async fn keys_record_that_comes_back_has_the_key_of_its_new_row() {
    let mut lab = Lab::open().await;
    let (record, operation) = lab.born_in_airtable("recOne", "Mast").await;
    let made = lab.ours(operation, vec![task("1", "Mast", None)]);
    let gone = Observation { entity: TASK, key: SideKey::from("1"), change: Change::Absent };
    let gone = lab.by(DIR, vec![gone]);
    lab.apply(vec![made, gone], false).await;
    let again = lab.create(record, "Mast").await;
    let made = lab.ours(again, vec![task("2", "Mast", None)]);
    lab.apply(vec![made], false).await;
    assert_eq!(lab.directus_key(record).await.as_deref(), Some("2"));
    assert_eq!(lab.tasks().await, ["Mast <"]);
    let absent = "select side from mirror.absence";
    assert_eq!(lab.lines(absent).await, Vec::<String>::new());
}

#[tokio::test]
async fn keys_that_only_look_like_ids_are_texts() {
    let mut lab = Lab::open().await;
    // An MD5 has 32 hexadecimal digits, as a UUID without its hyphens.
    let key = "d41d8cd98f00b204e9800998ecf8427e";
    let row = lab.by(DIR, vec![task(key, "hash", None), task("9", "child", Some(key))]);
    lab.apply(vec![row], false).await;
    assert_eq!(lab.tasks().await, ["child < hash", "hash <"]);
    let record = lab.lines("select id::text from canon.task where name = 'hash'").await;
    let linked = lab.directus_key(record[0].parse().unwrap()).await;
    assert_eq!(linked.as_deref(), Some(key));
}

#[tokio::test]
async fn keys_junction_rows_leave_their_other_columns_behind() {
    let mut lab = Lab::open().await;
    let with = |row: &str, task: &str, needed: &str, columns: serde_json::Value| {
        let mut observation = need(row, task, needed);
        if let Change::Element(element) = &mut observation.change {
            element.columns = Some(Box::new(columns));
        }
        observation
    };
    let gone = |row: &str| {
        let element =
            Element { field: FieldNo(2), row: SideKey::from(row), element: None, columns: None };
        Observation { entity: TASK, key: SideKey::from(""), change: Change::Element(element) }
    };
    let parts = vec![
        vec![task("1", "a", None), task("2", "b", None), task("3", "c", None)],
        vec![
            with("10", "1", "2", json!({ "sort": 1 })),
            need("11", "1", "3"),
            need("12", "2", "3"),
        ],
    ];
    lab.copy(parts, true).await;
    let left = "select concat_ws(' ', a.name, b.name, l.columns::text) from mirror.element_left l
                join canon.task a on a.id = l.record_id join canon.task b on b.id = l.element::uuid order by 1";
    assert_eq!(lab.lines(left).await, Vec::<String>::new());
    // Another rank, and then the row goes; one that has no columns leaves none.
    let ranked = lab.by(DIR, vec![with("10", "1", "2", json!({ "sort": 7 }))]);
    let leaves = lab.by(DIR, vec![gone("10"), gone("11")]);
    lab.apply(vec![ranked], false).await;
    lab.apply(vec![leaves], false).await;
    assert_eq!(lab.lines(left).await, [r#"a b {"sort": 7}"#]);
    let held = "select count(*)::text from mirror.element where columns is not null";
    assert_eq!(lab.lines(held).await, ["0"]);

    let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
    let writer = Writer::open(&lab.config, mapping).await.unwrap();
    let pool = store::reading::pool(&lab.config, Some(&lab.password)).await.unwrap();
    let ids = lab.lines("select id::text from canon.task order by name").await;
    let [a, b, _] = [&ids[0], &ids[1], &ids[2]];
    let records: Vec<Uuid> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let books = writer.books(pool);
    let left = books.left(DIR, TASK, &records).await.unwrap();
    let kept = &left[&a.parse::<Uuid>().unwrap()];
    assert_eq!(left.len(), 1);
    assert_eq!(kept[&(FieldNo(2), b.clone())], json!({ "sort": 7 }));
    assert!(books.left(DIR, NOTE, &records).await.unwrap().is_empty());
}
