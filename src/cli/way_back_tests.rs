//! The commands of the way back on a real Postgres that `apply` has filled: what they list, what they plan, and what
//! becomes of it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    conflicts::{self, Choice},
    desk::{Desk, Done},
    errors, history,
    terminal::Paint,
    undo,
};
use crate::{
    apply::{Apply, Committed, Limits, Log},
    capture::{airtable, console, directus},
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    model::{
        Author, Cell, Change, Cursor, Delivery, EntityNo, FieldNo, Lsn, Observation, Position,
        Side, SideKey, Stamp, Value,
    },
    postgres::TlsMode,
    pulse::Pulse,
    queue::queue,
    remote,
    sandbox::{
        Actor, Edit, Fault, FaultKind, NETWORK_BASE, OWNER_TOKEN, OWNER_USER, Options, Sandbox,
    },
    store::{self, Canonical, Writer, command, conflict, parked, reading, vitals},
    verify::{Verify, by_cause},
};

const TEAM: EntityNo = EntityNo(0);
const PERSON: EntityNo = EntityNo(1);
const NAME: FieldNo = FieldNo(0);
const CITY: FieldNo = FieldNo(1);
const LINK: FieldNo = FieldNo(2);
const LIMITS: Limits = Limits { batch_row_count_max: 100 };

const MAPPING: &str = r#"
version = 1
[entity.team]
table = "team"
airtable = { base = "main", table = "Teams", uuid = "UUID" }
directus = { table = "team" }
deletes = "propagate"
[entity.team.field]
name = { type = "text", airtable = "Name", directus = "name" }
[entity.person]
table = "person"
airtable = { base = "main", table = "People", uuid = "UUID" }
directus = { table = "person" }
deletes = "hold"
[entity.person.field]
name = { type = "text", airtable = "Name", directus = "name" }
city = { type = "text", airtable = "City", directus = "city", policy = "ask" }
team_id = { type = "link", target = "team", airtable = "Team", directus = "team_id" }
"#;

const TABLES: &str = "
    create table canon.team (id uuid primary key, name text);
    create table canon.person (id uuid primary key, name text, city text, deleted_at timestamptz,
        team_id uuid references canon.team deferrable initially deferred)";

pub(super) struct Lab {
    cluster: Cluster,
    canonical: Canonical,
    pub(super) client: Client,
    text: &'static str,
    at: i64,
}

impl Lab {
    pub(super) async fn open(text: &'static str, tables: &str) -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database plait").await.unwrap();
        let config = cluster.config("plait", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&canonical).await.unwrap();
        let client = cluster.connect("plait").await.unwrap();
        client.batch_execute(tables).await.unwrap();
        Self { cluster, canonical, client, text, at: 0 }
    }

    pub(super) fn mapping(&self) -> mapping::Mapping {
        mapping::read(self.text, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(super) async fn desk(&self) -> Desk {
        let pool = reading::pool(&self.canonical, Some(self.cluster.password())).await.unwrap();
        Desk::new(self.canonical.clone(), self.mapping(), pool, LIMITS).await.unwrap()
    }

    pub(super) async fn writer(&self) -> Writer {
        Writer::open(&self.canonical, self.mapping()).await.unwrap()
    }

    /// Applies one transaction of a side, made by `author`.
    pub(super) async fn see(&mut self, side: Side, author: &str, observations: Vec<Observation>) {
        self.at += 1;
        let next = u64::try_from(self.at).unwrap();
        let position = match side {
            Side::Airtable => {
                Position::Cursor(Cursor { base: "appM".into(), webhook: "achM".into(), next })
            }
            Side::Directus => Position::Lsn(Lsn(next)),
        };
        let author = Author { id: None, name: Some(author.into()), via: "client".into() };
        let stamp = Stamp {
            side,
            at: self.at * 1_000_000,
            position: Some(position),
            author,
            operation: None,
        };
        self.apply(Delivery::Transaction { stamp, observations }).await;
    }

    async fn apply(&self, delivery: Delivery) {
        let log = |name: &str, side, committed| Log {
            name: name.into(),
            side,
            identity: watch::channel(None).1,
            stored_identity: None,
            committed,
            is_new: false,
        };
        let logs = vec![
            log("directus", Side::Directus, Committed::Lsn(watch::channel(None).0)),
            log("airtable:appM", Side::Airtable, Committed::Cursor(watch::channel(None).0)),
        ];
        let (sender, received) = queue(10_000);
        sender.send(delivery).await.unwrap();
        drop(sender);
        Apply::new(self.writer().await, logs, LIMITS).run(received).await.unwrap();
    }

    pub(super) async fn text(&self, sql: &str) -> String {
        let row = self.client.query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }
}

pub(super) fn id(entity: EntityNo, no: u8) -> Uuid {
    Uuid::from_u64_pair(u64::from(entity.0 + 1) << 48 | 0x4000, 1 << 63 | u64::from(no))
}

pub(super) fn cell(text: &str) -> Cell {
    Cell::Value(if text.is_empty() { Value::Null } else { Value::Text(text.into()) })
}

pub(super) fn present(
    side: Side,
    entity: EntityNo,
    no: u8,
    cells: Vec<(FieldNo, Cell)>,
) -> Observation {
    let claimed_id = (side == Side::Airtable).then(|| id(entity, no));
    let change = Change::Present { cells, claimed_id: Some(claimed_id), made_at: None };
    Observation { entity, key: key(side, entity, no), change }
}

pub(super) fn key(side: Side, entity: EntityNo, no: u8) -> SideKey {
    match side {
        Side::Airtable => SideKey::from(format!("rec{}x{no}", entity.0).as_str()),
        Side::Directus => SideKey::from(id(entity, no).to_string().as_str()),
    }
}

fn gone(side: Side, entity: EntityNo, no: u8) -> Observation {
    Observation { entity, key: key(side, entity, no), change: Change::Absent }
}

fn city(side: Side, no: u8, city: &str) -> Vec<Observation> {
    vec![present(side, PERSON, no, vec![(CITY, cell(city))])]
}

/// A team and a person in it, on both sides.
async fn people() -> Lab {
    let mut lab = Lab::open(MAPPING, TABLES).await;
    for side in Side::ALL.into_iter().rev() {
        let person = vec![
            (NAME, cell("Ann")),
            (CITY, cell("Paris")),
            (LINK, Cell::Link(Some(key(side, TEAM, 1)))),
        ];
        let team = present(side, TEAM, 1, vec![(NAME, cell("Blue"))]);
        lab.see(side, "first", vec![team, present(side, PERSON, 1, person)]).await;
    }
    lab
}

fn choice() -> Choice {
    Choice { airtable: false, directus: false, canonical: false, value: None }
}

async fn taken_back(desk: &Desk, chosen: &undo::Chosen, is_forced: bool) -> (Done, Vec<String>) {
    let planned = undo::planned(desk, chosen, is_forced).await.unwrap();
    let done = desk.decide("jeanne", &planned.plan.decisions).await.unwrap();
    assert_eq!(done.outcome, None);
    (done, planned.words(super::terminal::Paint::none()))
}

const CITY_NOW: &str = "select city from canon.person";

#[tokio::test]
async fn way_back_conflict_is_settled_by_either_value_or_a_third_and_taken_back() {
    let mut lab = people().await;
    lab.see(Side::Directus, "dora", city(Side::Directus, 1, "Lyon")).await;
    lab.see(Side::Airtable, "axel", city(Side::Airtable, 1, "Nice")).await;
    let desk = lab.desk().await;
    let open = conflict::conflicts(&desk.pool, false, None, 10).await.unwrap();
    let [conflict] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!(conflict.observed_author.as_deref(), Some("axel"));
    assert_eq!(conflict.canonical_author.as_deref(), Some("dora"));
    assert_eq!((&conflict.canonical, &conflict.observed), (&json!("Lyon"), &json!("Nice")));
    let number = conflict.conflict_id;

    let unknown = conflicts::plan(&desk, number + 7, &choice()).await.unwrap_err().to_string();
    assert!(unknown.contains(&format!("there are {number}")), "{unknown}");

    let airtable = Choice { airtable: true, ..choice() };
    let plan = conflicts::plan(&desk, number, &airtable).await.unwrap();
    assert!(plan.words.contains("person Ann · city: Lyon → Nice"), "{}", plan.words);
    assert_eq!(lab.text(CITY_NOW).await, "Lyon", "a plan does nothing");
    let done = desk.decide("jeanne", &[plan.decision]).await.unwrap();
    assert_eq!(done.outcome, None);
    assert_eq!(lab.text(CITY_NOW).await, "Nice");
    let open = conflict::conflicts(&desk.pool, false, None, 10).await.unwrap();
    assert_eq!(open.len(), 0);
    let settled = conflict::by_id(&desk.pool, number).await.unwrap().unwrap();
    assert_eq!(settled.decided_by.as_deref(), Some("jeanne"));
    assert_eq!(settled.settled_value, Some(json!("Nice")));

    // The value that lost comes back with one action, decided or not; and so does a third one.
    let directus = Choice { directus: true, ..choice() };
    let plan = conflicts::plan(&desk, number, &directus).await.unwrap();
    desk.decide("jeanne", &[plan.decision]).await.unwrap();
    assert_eq!(lab.text(CITY_NOW).await, "Lyon");
    let third = Choice { value: Some("Brest".into()), ..choice() };
    let plan = conflicts::plan(&desk, number, &third).await.unwrap();
    let stale = plan.decision.clone();
    let third = desk.decide("jeanne", &[plan.decision]).await.unwrap();
    assert_eq!(lab.text(CITY_NOW).await, "Brest");
    let refused = desk.decide("jeanne", &[stale]).await.unwrap();
    assert!(refused.outcome.unwrap().contains("another value by now"));

    // Settling is a transaction like any other.
    let chosen = undo::of_batch(&desk, third.transaction.unwrap()).await.unwrap();
    let (undone, words) = taken_back(&desk, &chosen, false).await;
    assert!(words[0].contains("person Ann · city: Brest → Lyon"), "{words:?}");
    assert_eq!(lab.text(CITY_NOW).await, "Lyon");
    let chosen = undo::of_batch(&desk, undone.transaction.unwrap()).await.unwrap();
    taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(CITY_NOW).await, "Brest");

    let lines = history::told(&desk, "person", "rec1x1", Some("city")).await.unwrap();
    let at = |what: &str| {
        lines
            .iter()
            .position(|line| line.contains(what))
            .unwrap_or_else(|| panic!("{what}: {lines:?}"))
    };
    assert!(at("Paris → Lyon") < at("conflict 1 city: Nice on airtable met Lyon on directus"));
    assert!(at("met Lyon") < at("Lyon → Nice"));
    assert!(at("Lyon → Nice") < at("Lyon → Brest"));
    assert!(lines.iter().any(|line| line.contains("settled with Brest by jeanne")), "{lines:?}");
}

#[tokio::test]
async fn way_back_conflict_whose_sides_move_on_has_their_new_values_and_keeps_the_old() {
    let mut lab = people().await;
    lab.see(Side::Directus, "dora", city(Side::Directus, 1, "Lyon")).await;
    lab.see(Side::Airtable, "axel", city(Side::Airtable, 1, "Nantes")).await;
    lab.see(Side::Directus, "dave", city(Side::Directus, 1, "Brest")).await;
    lab.see(Side::Airtable, "anna", city(Side::Airtable, 1, "Nice")).await;
    let desk = lab.desk().await;
    let open = conflict::conflicts(&desk.pool, false, None, 10).await.unwrap();
    let [conflict] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((&conflict.canonical, &conflict.observed), (&json!("Brest"), &json!("Nice")));
    assert_eq!(conflict.canonical_author.as_deref(), Some("dave"));
    assert_eq!(conflict.observed_author.as_deref(), Some("anna"));
    assert_eq!(conflict.base, Some(json!("Paris")));
    let all = conflict::conflicts(&desk.pool, true, None, 10).await.unwrap();
    let [_, overwritten] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&*overwritten.decision, &overwritten.observed), ("overwritten", &json!("Nantes")));
    assert_eq!(overwritten.observed_author.as_deref(), Some("axel"));
    let directus = Choice { directus: true, ..choice() };
    let plan = conflicts::plan(&desk, conflict.conflict_id, &directus).await.unwrap();
    let words = "stays Brest, on all sides; airtable's Nice gives way";
    assert!(plan.words.ends_with(words), "{}", plan.words);
    // No transaction comes of it: the way back is the other value.
    let back = format!("plait conflicts settle {} --airtable", conflict.conflict_id);
    assert_eq!(plan.back.as_ref(), Some(&back));
    let done = desk.decide("jeanne", &[plan.decision]).await.unwrap();
    assert_eq!((done.outcome, done.transaction), (None, None));
    assert_eq!(lab.text(CITY_NOW).await, "Brest");
    let airtable = Choice { airtable: true, ..choice() };
    let plan = conflicts::plan(&desk, conflict.conflict_id, &airtable).await.unwrap();
    assert_eq!(plan.back, None);
    let done = desk.decide("jeanne", &[plan.decision]).await.unwrap();
    assert_eq!(done.outcome, None);
    assert!(done.transaction.is_some());
    assert_eq!(lab.text(CITY_NOW).await, "Nice");
    assert_eq!(conflict::conflicts(&desk.pool, false, None, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn way_back_undo_takes_one_persons_changes_back_and_leaves_those_of_others() {
    let mut lab = people().await;
    let both = vec![(NAME, cell("Anna")), (CITY, cell("Lyon"))];
    lab.see(Side::Directus, "dora", vec![present(Side::Directus, PERSON, 1, both.clone())]).await;
    lab.see(Side::Airtable, "axel", vec![present(Side::Airtable, PERSON, 1, both)]).await;
    let renamed = vec![(NAME, cell("Annabel"))];
    lab.see(Side::Airtable, "axel", vec![present(Side::Airtable, PERSON, 1, renamed)]).await;
    let desk = lab.desk().await;
    let now = "select name || ' of ' || city from canon.person";
    assert_eq!(lab.text(now).await, "Annabel of Lyon");

    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap();
    let misspelt = undo::of_author(&desk, "dorra", at(0), at(100)).await.unwrap_err().to_string();
    assert!(misspelt.contains("did you mean `dora`"), "{misspelt}");
    let chosen = undo::of_author(&desk, "dora", at(0), at(100)).await.unwrap();
    let (done, words) = taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(now).await, "Annabel of Paris");
    assert!(words.iter().any(|line| line.contains("city: Lyon → Paris")), "{words:?}");
    let left = words.iter().find(|line| line.contains("left alone")).unwrap();
    assert!(left.contains("name: axel changed it since"), "{left}");
    assert_eq!(
        lab.text(
            "select string_agg(side || ' ' || field, ', ' order by side, field) from mirror.shadow"
        )
        .await,
        "airtable city, directus city, directus name",
        "both sides are owed the old city"
    );

    let chosen = undo::of_batch(&desk, done.transaction.unwrap()).await.unwrap();
    taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(now).await, "Annabel of Lyon");
    let chosen = undo::of_author(&desk, "dora", at(0), at(100)).await.unwrap();
    taken_back(&desk, &chosen, true).await;
    assert_eq!(lab.text(now).await, "Ann of Paris");

    // A cell, back to what an entry made it.
    let entry: i64 = lab
        .client
        .query_one("select journal_id from mirror.journal where after ->> 'name' = 'Annabel'", &[])
        .await
        .unwrap()
        .get(0);
    let chosen = undo::of_cell(&desk, "person", "rec1x1", "name", Some(entry)).await.unwrap();
    taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(now).await, "Annabel of Paris");
    let none = undo::of_cell(&desk, "person", "rec1x1", "name", Some(999)).await.unwrap_err();
    assert!(none.to_string().contains(&entry.to_string()), "{none}");
    for (entity, record, field, said) in [
        ("persan", "rec1x1", "name", "did you mean `person`"),
        ("person", "rec1x1", "nane", "did you mean `name`"),
        ("person", "rec9", "name", "there is no record `rec9`"),
    ] {
        let error =
            undo::of_cell(&desk, entity, record, field, None).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn way_back_deleted_record_comes_back_with_its_links_and_those_to_it() {
    let mut lab = people().await;
    let unlinked = vec![(LINK, Cell::Link(None))];
    let gone_with_links =
        vec![present(Side::Directus, PERSON, 1, unlinked), gone(Side::Directus, TEAM, 1)];
    lab.see(Side::Directus, "dora", gone_with_links).await;
    let desk = lab.desk().await;
    let now = "select concat_ws(' in ', p.name, t.name) from canon.person p left join canon.team t on t.id = p.team_id";
    assert_eq!(lab.text(now).await, "Ann");
    assert_eq!(lab.text("select count(*)::text from canon.team").await, "0");

    let start = DateTime::<Utc>::from_timestamp(0, 0).unwrap();
    let since = start + Duration::from_secs(3);
    let team = id(TEAM, 1).to_string();
    let chosen = undo::of_record(&desk, "team", &team, since).await.unwrap();
    let (done, words) = taken_back(&desk, &chosen, false).await;
    assert!(words[0].contains("team Blue: comes back"), "{words:?}");
    assert_eq!(lab.text(now).await, "Ann in Blue");

    let chosen = undo::of_batch(&desk, done.transaction.unwrap()).await.unwrap();
    let (again, _) = taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(now).await, "Ann");
    assert_eq!(lab.text("select count(*)::text from canon.team").await, "0");
    let chosen = undo::of_batch(&desk, again.transaction.unwrap()).await.unwrap();
    taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(now).await, "Ann in Blue");

    // One whose delete was held.
    lab.at = Utc::now().timestamp();
    lab.see(Side::Airtable, "axel", vec![gone(Side::Airtable, PERSON, 1)]).await;
    let living = "select count(*)::text from canon.person where deleted_at is null";
    assert_eq!(lab.text(living).await, "0");
    let since = start + Duration::from_secs(u64::try_from(lab.at).unwrap());
    let person = id(PERSON, 1).to_string();
    let chosen = undo::of_record(&desk, "person", &person, since).await.unwrap();
    taken_back(&desk, &chosen, false).await;
    assert_eq!(lab.text(living).await, "1");
    assert_eq!(lab.text(now).await, "Ann in Blue");

    // A team that somebody is in cannot go: said in words, and nothing is done.
    let decision = crate::model::Decision::Delete { entity: "team".into(), record: id(TEAM, 1) };
    let done = desk.decide("jeanne", &[decision]).await.unwrap();
    assert!(done.outcome.is_some());
    assert_eq!(lab.text(now).await, "Ann in Blue");
}

#[tokio::test]
async fn way_back_running_plait_carries_decisions_out_and_an_unreadable_one_is_answered() {
    let mut lab = people().await;
    lab.see(Side::Directus, "dora", city(Side::Directus, 1, "Lyon")).await;
    let desk = lab.desk().await;
    let unreadable =
        "insert into mirror.command (author, body) values ('x', '[{\"kind\": \"dance\"}]')";
    lab.client.batch_execute(unreadable).await.unwrap();
    let (sender, received) = queue(100);
    let stop = CancellationToken::new();
    let nudge = Arc::new(Notify::new());
    let applying = tokio::spawn(Apply::new(lab.writer().await, Vec::new(), LIMITS).run(received));
    let console = tokio::spawn(console::run(
        desk.pool.clone(),
        sender,
        vec![Arc::clone(&nudge)],
        None,
        Pulse::new(),
        stop.clone(),
    ));
    assert!(vitals::is_running(&desk.pool).await.unwrap());
    let chosen = undo::of_cell(&desk, "person", "rec1x1", "city", None).await.unwrap();
    let began = std::time::Instant::now();
    let (done, _) = taken_back(&desk, &chosen, false).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(done.transaction.is_some());
    assert_eq!(lab.text(CITY_NOW).await, "Paris");
    tokio::time::timeout(Duration::from_secs(5), nudge.notified()).await.expect("pushes are woken");
    let answer = lab.text("select outcome from mirror.command where author = 'x'").await;
    assert!(answer.contains("cannot be read"), "{answer}");
    assert_eq!(command::open_commands(&desk.pool).await.unwrap().len(), 0);
    stop.cancel();
    console.await.unwrap();
    applying.await.unwrap().unwrap();
}

#[tokio::test]
async fn way_back_parked_writes_are_tried_again_or_left() {
    let lab = people().await;
    let desk = lab.desk().await;
    let park = "insert into mirror.parked (side, entity_no, record_id, field, code, reason)
         select 'directus', entity_no, $1, field, 'refused', 'the value is too long: shorten it'
         from mirror.entity, unnest(array['name', 'city']) field where name = 'person'";
    lab.client.execute(park, &[&id(PERSON, 1)]).await.unwrap();
    lab.client.batch_execute("delete from mirror.outbox").await.unwrap();
    let parked = parked::parked(&desk.pool, false).await.unwrap();
    assert_eq!(parked.len(), 2);
    let near = format!("{}x", parked[0].id);
    let error = errors::choose(&desk, Some(&[near])).await.unwrap_err().to_string();
    assert!(error.contains(&format!("did you mean `{}`", parked[0].id)), "{error}");
    let chosen = errors::choose(&desk, Some(&[parked[0].id.clone()])).await.unwrap();
    assert_eq!(chosen[0].field, parked[0].field);
    assert_eq!(parked::skip(&desk.pool, &[parked[0].id.clone()]).await.unwrap(), 1);
    assert_eq!(parked::parked(&desk.pool, false).await.unwrap().len(), 1);
    assert_eq!(parked::parked(&desk.pool, true).await.unwrap().len(), 2);
    let ids: Vec<String> = parked.into_iter().map(|it| it.id).collect();
    assert_eq!(parked::retry(&desk.pool, &ids).await.unwrap(), 2);
    assert_eq!(parked::parked(&desk.pool, true).await.unwrap().len(), 0);
    let due = "select string_agg(side || (due_at <= now())::text, ',') from mirror.outbox";
    assert_eq!(lab.text(due).await, "directustrue");
}

const NETWORK: &str = r#"
version = 1
[entity.startup]
table = "startup"
airtable = { base = "reseau", table = "Startups" }
directus = { table = "startup" }
[entity.startup.field]
name = { type = "text", airtable = "Nom", directus = "name" }
city = { type = "text", airtable = "Ville", directus = "city" }
headcount = { type = "integer", airtable = "Effectif", directus = "headcount" }
"#;

const NETWORK_TABLES: &str = "
    drop table canon.startup cascade;
    create table canon.startup (id uuid primary key, name text, city text, headcount integer, deleted_at timestamptz)";

/// Reads a side as `verify` does, and applies that as a listing.
async fn observe(lab: &Lab, side: Side, observations: Vec<Observation>) {
    let author = Author { via: "listing".into(), ..Author::default() };
    let at = Utc::now().timestamp_micros();
    let stamp = Stamp { side, at, position: None, author, operation: None };
    lab.apply(Delivery::Transaction { stamp, observations }).await;
}

#[tokio::test]
async fn verify_finds_both_sides_equal_and_every_difference_with_its_cause() {
    let lab = Lab::open(NETWORK, NETWORK_TABLES).await;
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    lab.cluster.sql("postgres", "create database source").await.unwrap();
    let source = lab.cluster.connect("source").await.unwrap();
    source
        .batch_execute(
            "create table startup (id uuid primary key, name text, city text, headcount integer)",
        )
        .await
        .unwrap();
    let desk = lab.desk().await;
    let mapping = Arc::new(desk.mapping.clone());
    let client = Arc::new(remote::airtable::Client::new(sandbox.url(), OWNER_TOKEN).unwrap());
    let settings = directus::SourceSettings {
        host: "127.0.0.1".into(),
        port: lab.cluster.port(),
        user: "postgres".into(),
        password: lab.cluster.password().into(),
        database: "source".into(),
        tls: TlsMode::Disable,
        ..directus::SourceSettings::default()
    };
    let verify = Verify {
        pool: desk.pool.clone(),
        mapping: Arc::clone(&mapping),
        shapes: desk.shapes.clone(),
        airtable: Some((
            Arc::clone(&client),
            vec![airtable::BaseSettings::new("reseau", NETWORK_BASE)],
        )),
        directus: Some(settings.clone()),
        own_account: None,
    };
    let startup = EntityNo(0);
    let list = async || {
        let place = ("reseau", NETWORK_BASE);
        let look = airtable::Look::open(Arc::clone(&client), place, Arc::clone(&mapping), None);
        let mut seen = Vec::new();
        look.await.unwrap().read(startup, |it| seen.push(it)).await.unwrap();
        seen
    };

    // What Airtable has, canonical has, and the other side is given a copy of.
    observe(&lab, Side::Airtable, list().await).await;
    let rows = "select id::text, name, city, headcount from canon.startup";
    for row in lab.client.query(rows, &[]).await.unwrap() {
        let (id, name, city, headcount): (String, Option<String>, Option<String>, Option<i32>) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        source
            .execute(
                "insert into startup values ($1::text::uuid, $2, $3, $4)",
                &[&id, &name, &city, &headcount],
            )
            .await
            .unwrap();
    }
    let causes = async || by_cause(&verify.entity(startup).await.unwrap());
    let look = directus::Look::open(&settings, Arc::clone(&mapping), None).await.unwrap();
    let mut seen = Vec::new();
    look.read(startup, |it| seen.push(it)).await.unwrap();
    observe(&lab, Side::Directus, seen).await;
    // A bad moment of Airtable's is waited for.
    for request in ["schema", "list"] {
        sandbox.inject(Fault::of_requests(FaultKind::Error502, request, 1));
    }
    let found = verify.entity(startup).await.unwrap();
    assert_eq!(found.len(), 2);
    for found in &found {
        assert_eq!(found.comparison.differences, []);
        assert_eq!(found.comparison.canonical_sha256, found.comparison.side_sha256);
        assert_eq!(found.comparison.side_count, sandbox.records(NETWORK_BASE, "Startups").len());
        assert!(found.comparison.cell_count > 30);
    }

    // An edit whose log nobody has read; once it is read, the other side is owed it.
    let (record, _) = sandbox.records(NETWORK_BASE, "Startups").remove(0);
    let fields = json!({ "Ville": "Brest-sur-Mer" }).as_object().unwrap().clone();
    let update = Edit::Update { table: "Startups".into(), record, fields };
    sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), &[update]).unwrap();
    assert_eq!(causes().await, [("unexplained", 1)].into());
    observe(&lab, Side::Airtable, list().await).await;
    assert_eq!(causes().await, [("unapproved", 1)].into());
    let approve = "insert into mirror.approval (entity_no, field, approved_by, plan_digest)
         select entity_no, field, 'x', '' from mirror.entity, unnest(array['*', 'city']) field where name = 'startup'";
    lab.client.batch_execute(approve).await.unwrap();
    assert_eq!(causes().await, [("owed", 1)].into());
    let cells: Json =
        verify.entity(startup).await.unwrap()[1].comparison.differences[0].canonical.clone();
    assert_eq!(cells, json!("Brest-sur-Mer"));

    // Records that one side lost behind our back, and that came there alone.
    source
        .batch_execute(
            "update startup set city = 'Brest-sur-Mer' where id = (select id from startup limit 1)",
        )
        .await
        .unwrap();
    source
        .batch_execute(
            "delete from startup where id in (select id from startup order by id desc limit 2)",
        )
        .await
        .unwrap();
    source
        .batch_execute("insert into startup values (gen_random_uuid(), 'Nouvelle', 'Lille', 3)")
        .await
        .unwrap();
    let found = verify.entity(startup).await.unwrap();
    assert!(by_cause(&found)["unexplained"] >= 3);
    // Read again, through the merge, all of it is known.
    for found in &found {
        let seen = verify.seen_again(found).await.unwrap();
        assert_eq!(seen.is_empty(), found.side == Side::Airtable);
        if !seen.is_empty() {
            desk.observe(found.side, seen).await.unwrap();
        }
    }
    let known = causes().await;
    assert_eq!(known.get("unexplained"), None, "{known:?}");
    assert!(known.contains_key("pending_delete"), "{known:?}");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn errors_say_that_writes_are_owed_while_a_side_takes_none() {
    let mut lab = people().await;
    let desk = lab.desk().await;
    let said = async || errors::lines(&desk, false, false, Paint::none()).await.unwrap().join("\n");
    assert!(said().await.starts_with("no errors"), "{}", said().await);
    lab.client
        .execute(
            "insert into mirror.approval (entity_no, field, approved_by, plan_digest)
             select entity_no, field, 'jeanne', '' from mirror.entity, unnest('{*,name,city}'::text[]) field",
            &[],
        )
        .await
        .unwrap();
    lab.see(Side::Directus, "dora", city(Side::Directus, 1, "Lyon")).await;
    let incident = "insert into mirror.incident (log, code, text)
        values ('airtable:appM', 'token_refused', 'airtable says no')";
    lab.client.execute(incident, &[]).await.unwrap();
    let text = said().await;
    assert!(text.starts_with("airtable: 1 record is still to be written there"), "{text}");
    assert!(text.contains("airtable says no"), "{text}");
    let json = errors::lines(&desk, false, true, Paint::none()).await.unwrap();
    let json: Json = serde_json::from_str(&json[0]).unwrap();
    assert_eq!((&json["kind"], &json["record_count"]), (&json!("owed"), &json!(1)));

    // What waits for a person is listed elsewhere.
    lab.see(Side::Airtable, "axel", city(Side::Airtable, 1, "Nice")).await;
    assert!(said().await.starts_with("no errors"), "{}", said().await);
}
