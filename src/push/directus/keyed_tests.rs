//! Keys that are not ours to give, and junctions with columns of their own, on a real Directus.

use std::{pin::Pin, sync::Arc};

use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{DirectusPush, Tries};
use crate::{
    demo::{
        cache::postgres_bin,
        cluster::Cluster,
        source::{Secrets, Source},
    },
    mapping::{KeyGiver, KeyGivers, Mapping, read},
    model::{EntityNo, FieldNo, Notice, RecordId, SideKey},
    push::{Bound, Outcome, Parts, Pusher as _, Write},
    remote::directus::{
        Client,
        setup::{Account, EMAIL},
    },
};

const TASK: EntityNo = EntityNo(0);
const LABEL: EntityNo = EntityNo(1);
const NAME: FieldNo = FieldNo(0);
const NEEDS: FieldNo = FieldNo(1);
const SLUG: FieldNo = FieldNo(0);
const TITLE: FieldNo = FieldNo(1);

const MAPPING: &str = r#"
version = 1
[entity.task]
table = "task"
directus = { table = "task" }
[entity.task.field]
name = { type = "text", directus = "name" }
needs = { type = "links", target = "task", junction = { table = "task_need", parent = "task_id", element = "need_id" }, directus = { junction = "task_task", parent = "task_id", element = "need_id" } }
[entity.label]
table = "label"
directus = { table = "label", key = "slug" }
[entity.label.field]
slug = { type = "text", directus = "slug" }
title = { type = "text", directus = "title" }
"#;

/// Nothing is ever repeated here.
struct Never;

impl Tries for Never {
    fn is_new(&self, _: Uuid) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { true })
    }

    fn is_over(&self, _: Uuid, _: EntityNo) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { false })
    }
}

/// Takes every note.
struct Noted;

impl Parts for Noted {
    fn note(
        &self,
        _: EntityNo,
        _: Vec<(Uuid, RecordId)>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { true })
    }
}

struct World {
    cluster: Cluster,
    source: Source,
    mapping: Arc<Mapping>,
    push: DirectusPush,
    givers: watch::Sender<Option<KeyGivers>>,
    incidents: mpsc::Receiver<(String, Notice)>,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        let source = Source::start(&cluster, "directus", &Secrets::new()).await.unwrap();
        let rest = source.admin_rest();
        let id = json!({ "field": "id", "type": "integer", "schema": { "is_primary_key": true, "has_auto_increment": true } });
        let slug = json!({ "field": "slug", "type": "string", "schema": { "is_primary_key": true, "is_nullable": false } });
        let field = |name: &str, kind: &str| json!({ "field": name, "type": kind, "schema": {} });
        let integer = |name: &str| field(name, "integer");
        for (collection, fields) in [
            ("label", json!([slug, field("title", "string")])),
            ("task", json!([id, field("name", "string")])),
            (
                "task_task",
                json!([
                    id,
                    integer("task_id"),
                    integer("need_id"),
                    integer("sort"),
                    field("since", "timestamp")
                ]),
            ),
        ] {
            let body =
                json!({ "collection": collection, "schema": {}, "meta": {}, "fields": fields });
            rest.post("/collections", &body).await.unwrap();
        }
        let mapping = Arc::new(read(MAPPING, "mapping.toml").unwrap());
        let admin = Client::new(&source.server.url(), &source.admin.token).unwrap();
        Account::look(&admin, &mapping, EMAIL).await.unwrap().make(&admin, None).await.unwrap();
        let (sender, incidents) = mpsc::channel(10);
        let client = Client::new(&source.server.url(), &source.push_token).unwrap();
        let givers = watch::Sender::new(Some(KeyGivers {
            by_entity: vec![Some(KeyGiver::Database), Some(KeyGiver::Person(SLUG))],
            are_authors_told: true,
        }));
        let push = DirectusPush::new(Arc::new(client), Arc::clone(&mapping), sender)
            .with_keys(givers.subscribe(), Arc::new(Never));
        Self { cluster, source, mapping, push, givers, incidents }
    }

    async fn send(&self, bound: &Bound) -> Outcome {
        self.push.send(vec![bound.clone()], &Noted).await.remove(0).1
    }

    async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.cluster.sql("directus", sql).await.unwrap();
        rows.into_iter().map(|mut row| row.remove(0).unwrap_or_default()).collect()
    }
}

fn create(entity: EntityNo, cells: Vec<(FieldNo, Json)>) -> Bound {
    bound(entity, None, Write::Create(cells))
}

fn bound(entity: EntityNo, key: Option<&str>, write: Write) -> Bound {
    let (operation, record) = (Uuid::new_v4(), RecordId(Uuid::new_v4()));
    let key = key.map(SideKey::from);
    Bound { operation, entity, record, key, write, writes_id: false }
}

fn taken(key: &str) -> Outcome {
    Outcome::Taken { key: Some(SideKey::from(key)) }
}

fn refused(outcome: &Outcome) -> (Option<FieldNo>, &'static str) {
    let Outcome::Refused { field, code, .. } = outcome else { panic!("{outcome:?}") };
    (*field, *code)
}

#[tokio::test]
async fn push_directus_keys_are_given_by_the_database_or_a_person_and_never_written_over() {
    let mut world = World::start().await;
    assert_eq!(world.push.has_other_keys(TASK), Some(true));
    let made = create(TASK, vec![(NAME, json!("Mast"))]);
    assert_eq!(world.send(&made).await, taken("1"));
    assert_eq!(world.send(&create(TASK, vec![(NAME, json!("Boom"))])).await, taken("2"));
    let traced = format!(
        "select item from directus_activity where collection = 'task' and user_agent like '%op={}'",
        made.operation
    );
    assert_eq!(world.lines(&traced).await, ["1"]);
    let renamed = bound(TASK, Some("2"), Write::Update(vec![(NAME, json!("Jib boom"))]));
    assert_eq!(world.send(&renamed).await, Outcome::Taken { key: None });

    // A key that a person gives is a value like any other, once.
    let label = |slug: Json| create(LABEL, vec![(SLUG, slug), (TITLE, json!("ours"))]);
    assert_eq!(world.send(&label(json!("urgent"))).await, taken("urgent"));
    world.cluster.sql("directus", "insert into label values ('theirs', 'theirs')").await.unwrap();
    assert_eq!(refused(&world.send(&label(json!("theirs"))).await), (Some(SLUG), "not_unique"));
    assert_eq!(refused(&world.send(&label(Json::Null)).await), (None, "key_empty"));
    let moved = bound(LABEL, Some("urgent"), Write::Update(vec![(SLUG, json!("calm"))]));
    assert_eq!(refused(&world.send(&moved).await), (Some(SLUG), "key_fixed"));
    let titled = bound(LABEL, Some("urgent"), Write::Update(vec![(TITLE, json!("Urgent"))]));
    assert_eq!(world.send(&titled).await, Outcome::Taken { key: None });
    let labels = "select slug || ' ' || title from label order by 1";
    assert_eq!(world.lines(labels).await, ["theirs theirs", "urgent Urgent"]);
    assert_eq!(world.lines("select name from task order by id").await, ["Mast", "Jib boom"]);

    // Where the log would not tell whose row it is, none is made.
    world.givers.send_modify(|givers| givers.as_mut().unwrap().are_authors_told = false);
    let unseen = create(TASK, vec![(NAME, json!("Unseen"))]);
    assert_eq!(refused(&world.send(&unseen).await), (None, "key_unseen"));
    world.givers.send_modify(|givers| givers.as_mut().unwrap().are_authors_told = true);
    let silent = json!({ "meta": { "accountability": null } });
    world.source.admin_rest().patch("/collections/label", &silent).await.unwrap();
    *world.push.keys.as_ref().unwrap().silent.lock().await = None;
    assert_eq!(refused(&world.send(&label(json!("new"))).await), (None, "key_unseen"));
    world.givers.send_replace(None);
    assert_eq!(world.push.has_other_keys(TASK), None);
    assert_eq!(world.send(&unseen).await, Outcome::Unanswered);
    assert_eq!(world.lines("select name from task order by id").await.len(), 2);
    assert!(world.incidents.try_recv().is_err());
    assert_eq!(world.mapping.entities.len(), 2);
}

#[tokio::test]
async fn push_directus_row_of_a_set_has_again_what_it_held_beside_its_element() {
    let mut world = World::start().await;
    for name in ["a", "b", "c"] {
        world.send(&create(TASK, vec![(NAME, json!(name))])).await;
    }
    let set = |add: Json, columns: Json| {
        let cell = json!({ "add": add, "remove": [], "columns": columns });
        bound(TASK, Some("1"), Write::Update(vec![(NEEDS, cell)]))
    };
    let held = json!({ "sort": 3, "since": "2024-05-01T10:00:00+00:00" });
    let two = set(json!(["2", "3"]), json!([["3", held]]));
    assert_eq!(world.send(&two).await, Outcome::Taken { key: None });
    let rows = "select concat_ws(' ', task_id, need_id, sort, since at time zone 'utc') from task_task order by 1";
    assert_eq!(world.lines(rows).await, ["1 2", "1 3 3 2024-05-01 10:00:00"]);

    // A column that is gone, and a right that is missing, cost the columns and not the element.
    world.cluster.sql("directus", "delete from task_task").await.unwrap();
    let odd = set(json!(["2"]), json!([["2", { "sort": "many" }]]));
    assert_eq!(world.send(&odd).await, Outcome::Taken { key: None });
    let rest = world.source.admin_rest();
    let found =
        "/permissions?filter[collection][_eq]=task_task&filter[action][_eq]=create&fields=id";
    let right = rest.get(found).await.unwrap()[0]["id"].clone();
    let fields = json!({ "fields": ["task_id", "need_id"] });
    rest.patch(&format!("/permissions/{right}"), &fields).await.unwrap();
    let bare = set(json!(["3"]), json!([["3", { "sort": 1 }]]));
    assert_eq!(world.send(&bare).await, Outcome::Taken { key: None });
    assert_eq!(world.lines(rows).await, ["1 2", "1 3"]);
    let (_, notice) = world.incidents.try_recv().unwrap();
    let told = &notice.found[0];
    assert!(told.code == "columns_forbidden" && told.text.contains("`task_task`"), "{told:?}");
}
