//! Collections whose keys are not ours to give, through the whole program: integers that the database counts, texts that
//! people give, a self-reference, a junction with columns of its own. A real Directus and the sandbox.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    line::{Line, fields, update},
    world::eventually,
};

const PATIENCE: Duration = Duration::from_mins(1);

const MAPPING: &str = r#"version = 1
settle_s = 0
# A program makes and changes here what people would.
mass_changes = { count = 0 }
[entity.task]
table = "task"
airtable = { base = "reseau", table = "Tâches", uuid = "UUID" }
directus = { table = "task" }
[entity.task.field]
name = { type = "text", airtable = "Nom", directus = "name" }
parent_id = { type = "link", target = "task", airtable = "Parent", directus = "parent" }
label_id = { type = "link", target = "label", airtable = "Label", directus = "label" }
needs = { type = "links", target = "task", junction = { table = "task_need", parent = "task_id", element = "need_id" }, airtable = "Besoins", directus = { junction = "task_task", parent = "task_id", element = "related_task_id" }, policy = "set merge" }
[entity.label]
table = "label"
airtable = { base = "reseau", table = "Labels", uuid = "UUID" }
directus = { table = "label", key = "slug" }
[entity.label.field]
slug = { type = "text", airtable = "Slug", directus = "slug" }
title = { type = "text", airtable = "Titre", directus = "title" }
"#;

const TABLES: &str = "
    create table canon.label (id uuid primary key, slug text, title text, deleted_at timestamptz);
    create table canon.task (id uuid primary key, name text, deleted_at timestamptz,
        parent_id uuid references canon.task deferrable initially deferred,
        label_id uuid references canon.label deferrable initially deferred);
    create table canon.task_need (task_id uuid references canon.task on delete cascade deferrable initially deferred,
        need_id uuid references canon.task on delete cascade deferrable initially deferred, primary key (task_id, need_id))";

impl Line {
    /// A line for tasks and labels instead of the network's entities; two tasks and a label are in Directus.
    async fn with_tasks() -> Self {
        let line = Self::start().await;
        let rest = line.rest();
        let id = json!({ "field": "id", "type": "integer", "schema": { "is_primary_key": true, "has_auto_increment": true } });
        let slug = json!({ "field": "slug", "type": "string", "schema": { "is_primary_key": true, "is_nullable": false } });
        let field = |name: &str, kind: &str| json!({ "field": name, "type": kind, "schema": {} });
        let integer = |name: &str| field(name, "integer");
        for (collection, fields) in [
            ("label", json!([slug, field("title", "string")])),
            (
                "task",
                json!([id, field("name", "string"), integer("parent"), field("label", "string")]),
            ),
            (
                "task_task",
                json!([
                    id,
                    integer("task_id"),
                    integer("related_task_id"),
                    integer("sort"),
                    field("role", "string")
                ]),
            ),
        ] {
            let body =
                json!({ "collection": collection, "schema": {}, "meta": {}, "fields": fields });
            rest.post("/collections", &body).await.unwrap();
        }
        for (collection, field, related) in [
            ("task", "parent", "task"),
            ("task", "label", "label"),
            ("task_task", "task_id", "task"),
            ("task_task", "related_task_id", "task"),
        ] {
            let on_delete = if collection == "task_task" { "CASCADE" } else { "SET NULL" };
            let body = json!({ "collection": collection, "field": field, "related_collection": related,
                "schema": { "on_delete": on_delete }, "meta": {} });
            rest.post("/relations", &body).await.unwrap();
        }
        rest.post("/items/label", &json!({ "slug": "urgent", "title": "Urgent" })).await.unwrap();
        let root = json!({ "name": "Mât", "label": "urgent" });
        rest.post("/items/task", &root).await.unwrap();
        rest.post("/items/task", &json!({ "name": "Haubans", "parent": 1 })).await.unwrap();
        let need = json!({ "task_id": 2, "related_task_id": 1, "sort": 4, "role": "blocking" });
        rest.post("/items/task_task", &need).await.unwrap();

        let text = |name: &str| json!({ "name": name, "type": "singleLineText" });
        let labels =
            json!({ "name": "Labels", "fields": [text("Slug"), text("Titre"), text("UUID")] });
        let labels = line.edit(&[Edit::CreateTable { spec: labels }]).remove(0);
        let tasks = json!({ "name": "Tâches", "fields": [text("Nom"), text("UUID")] });
        let tasks = line.edit(&[Edit::CreateTable { spec: tasks }]).remove(0);
        for (name, target) in [("Parent", &tasks), ("Label", &labels), ("Besoins", &tasks)] {
            let spec = json!({ "name": name, "type": "multipleRecordLinks", "options": { "linkedTableId": target } });
            line.edit(&[Edit::CreateField { table: "Tâches".into(), spec }]);
        }
        fs::write(line.folder.path().join("mapping.toml"), MAPPING).unwrap();
        fs::write(line.folder.path().join("push"), &line.directus.admin.token).unwrap();
        line.said(&["migrate"]);
        let tables = format!("set role plait; {TABLES}; reset role");
        line.canonical.batch_execute(&tables).await.unwrap();
        line
    }

    /// Copies both sides, accepts the plan, and waits until Airtable has what it lacked.
    async fn until_mirrored(&mut self) {
        self.run();
        self.until_copied().await;
        self.said(&["plan"]);
        self.said(&["approve", "--yes"]);
        self.until_settled().await;
    }

    fn airtable(&self, table: &str, field: &str, value: &str) -> Option<(String, Value)> {
        let records = self.sandbox.records(NETWORK_BASE, table).into_iter();
        records.into_iter().find(|(_, cells)| cells[field] == value)
    }

    /// The key of an Airtable record.
    fn record(&self, table: &str, field: &str, value: &str) -> String {
        self.airtable(table, field, value)
            .unwrap_or_else(|| panic!("no {value}: {}", self.said(&["errors"])))
            .0
    }

    fn make(&self, table: &str, pairs: &[(&str, Value)]) -> String {
        self.edit(&[Edit::Create { table: table.into(), fields: fields(pairs) }]).remove(0)
    }

    /// Waits until this query on Directus's database gives these lines.
    async fn until_source(&self, sql: &str, lines: &[&str]) {
        eventually(PATIENCE, async || {
            let rows = self.source.query(sql, &[]).await.unwrap();
            let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            if found == lines { Ok(()) } else { Err((sql.to_owned(), found, self.log())) }
        })
        .await;
    }
}

const TASKS: &str = "select concat_ws(' ', t.id, t.name, '<', p.name, t.label) from task t left join task p on p.id = t.parent order by t.id";
const NEEDS: &str =
    "select concat_ws(' ', task_id, related_task_id, sort, role) from task_task order by 1";

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_mirrored_both_ways_with_the_columns_of_junctions() {
    let mut line = Line::with_tasks().await;
    line.until_mirrored().await;
    let (mast, stays) =
        (line.record("Tâches", "Nom", "Mât"), line.record("Tâches", "Nom", "Haubans"));
    let urgent = line.record("Labels", "Slug", "urgent");
    let cells = line.airtable("Tâches", "Nom", "Haubans").unwrap().1;
    assert_eq!((&cells["Parent"], &cells["Besoins"]), (&json!([mast]), &json!([mast])));
    assert_eq!(line.airtable("Tâches", "Nom", "Mât").unwrap().1["Label"], json!([urgent]));

    // Born in Airtable: an integer from the database, a slug from a person; links to both, and to one another.
    let later = line.make("Labels", &[("Slug", json!("later")), ("Titre", json!("Plus tard"))]);
    let sails = line.make(
        "Tâches",
        &[("Nom", json!("Voiles")), ("Parent", json!([stays])), ("Label", json!([later]))],
    );
    line.make(
        "Tâches",
        &[("Nom", json!("Lattes")), ("Parent", json!([sails])), ("Besoins", json!([mast, sails]))],
    );
    let four =
        ["1 Mât < urgent", "2 Haubans < Mât", "3 Voiles < Haubans later", "4 Lattes < Voiles"];
    let swapped =
        ["1 Mât < urgent", "2 Haubans < Mât", "3 Lattes < Voiles", "4 Voiles < Haubans later"];
    eventually(PATIENCE, async || {
        let rows = line.source.query(TASKS, &[]).await.unwrap();
        let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if found == four || found == swapped { Ok(()) } else { Err((found, line.log())) }
    })
    .await;
    let needs = "select count(*)::text from task_task n join task t on t.id = n.task_id where t.name = 'Lattes'";
    line.until_source(needs, &["2"]).await;
    line.until_source(
        "select concat_ws(' ', slug, title) from label order by 1",
        &["later Plus tard", "urgent Urgent"],
    )
    .await;
    line.until_settled().await;
    assert_eq!(line.number("select count(*) from canon.task").await, 4);
    assert_eq!(line.number("select count(*) from canon.label").await, 2);
    assert_eq!(line.sandbox.records(NETWORK_BASE, "Tâches").len(), 4);
    assert_eq!(line.number("select count(*) from mirror.refusal").await, 0);

    // A change of either side finds its record.
    line.edit(&[update("Tâches", &sails, &[("Nom", json!("Grand-voile"))])]);
    line.until_source("select count(*)::text from task where name = 'Grand-voile'", &["1"]).await;
    line.rest().patch("/items/task/2", &json!({ "name": "Étais" })).await.unwrap();
    line.until("select count(*) from canon.task where name = 'Étais'", 1).await;
    // The key of a label that is there cannot be changed through Directus, and says so; the rest of it goes on.
    line.edit(&[update(
        "Labels",
        &later,
        &[("Slug", json!("someday")), ("Titre", json!("Un jour"))],
    )]);
    line.until_source(
        "select concat_ws(' ', slug, title) from label where slug <> 'urgent'",
        &["later Un jour"],
    )
    .await;
    line.until("select count(*) from mirror.parked where code = 'key_fixed'", 1).await;
    line.edit(&[update("Labels", &later, &[("Slug", json!("later"))])]);
    line.until("select count(*) from mirror.parked", 0).await;

    // An element leaves and returns in Airtable: its row has again what it held beside.
    let of_stays = format!("{NEEDS} limit 1").replace("order by", "where task_id = 2 order by");
    line.edit(&[update("Tâches", &stays, &[("Besoins", json!([]))])]);
    line.until_source(&of_stays, &[]).await;
    line.until_settled().await;
    line.edit(&[update("Tâches", &stays, &[("Besoins", json!([mast]))])]);
    line.until_source(&of_stays, &["2 1 4 blocking"]).await;
    line.until_settled().await;
    // It is deleted in Directus, with another role, and `undo` brings it back.
    let row: i32 = line
        .source
        .query_one("select id from task_task where task_id = 2", &[])
        .await
        .unwrap()
        .get(0);
    line.rest()
        .patch(&format!("/items/task_task/{row}"), &json!({ "role": "optional" }))
        .await
        .unwrap();
    line.until("select count(*) from mirror.element where columns->>'role' = 'optional'", 1).await;
    line.rest().delete(&format!("/items/task_task/{row}")).await.unwrap();
    line.until("select count(*) from mirror.element_left where columns->>'role' = 'optional'", 1)
        .await;
    line.until_settled().await;
    line.said(&["undo", "cell", "task", &stays, "needs", "--yes"]);
    line.until_source(&of_stays, &["2 1 4 optional"]).await;
    line.until_settled().await;
    line.said(&["verify"]);
}

/// What the proxy does with the next create of a task.
const PASS: u8 = 0;
/// It reaches Directus, and its answer is lost.
const LOSE_ANSWER: u8 = 1;
/// It is lost on its way.
const LOSE_REQUEST: u8 = 2;

/// Hands everything on to `to`, but for what `mode` says.
async fn proxy(to: String, mode: Arc<AtomicU8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(hand_on(client, upstream, Arc::clone(&mode)));
        }
    });
    url
}

async fn hand_on(client: TcpStream, upstream: TcpStream, mode: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut loses_answer = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                if asked.starts_with(b"POST /items/task?") {
                    match mode.swap(PASS, Ordering::SeqCst) {
                        LOSE_REQUEST => return,
                        LOSE_ANSWER => loses_answer = true,
                        _ => {}
                    }
                }
                if to_server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if loses_answer || to_client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_create_whose_answer_is_lost_is_made_once_whether_it_arrived_or_not() {
    let mut line = Line::with_tasks().await;
    let mode = Arc::new(AtomicU8::new(PASS));
    let url = line.directus.server.url();
    let other = proxy(url.replace("http://", ""), Arc::clone(&mode)).await;
    let settings = line.folder.path().join("plait.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace(&url, &other)).unwrap();
    line.until_mirrored().await;

    for (mode_next, name) in [(LOSE_ANSWER, "arrived"), (LOSE_REQUEST, "lost")] {
        mode.store(mode_next, Ordering::SeqCst);
        line.make("Tâches", &[("Nom", json!(name))]);
        eventually(PATIENCE, async || match mode.load(Ordering::SeqCst) {
            PASS => Ok(()),
            _ => Err(line.log()),
        })
        .await;
        let count = format!("select count(*)::text from task where name = '{name}'");
        line.until_source(&count, &["1"]).await;
    }
    // Killed between the request and its answer, and started anew.
    mode.store(LOSE_ANSWER, Ordering::SeqCst);
    line.make("Tâches", &[("Nom", json!("killed"))]);
    line.until_source("select count(*)::text from task where name = 'killed'", &["1"]).await;
    line.kill();
    line.run();
    line.until_settled().await;
    let names = "select name from task order by id";
    line.until_source(names, &["Mât", "Haubans", "arrived", "lost", "killed"]).await;
    assert_eq!(line.number("select count(*) from canon.task").await, 5);
    assert_eq!(line.sandbox.records(NETWORK_BASE, "Tâches").len(), 5);
}
