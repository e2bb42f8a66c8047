//! The guard for mass changes against a real Postgres: what stops, what does not, and how a stop ends.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use super::super::{Apply, Committed, Limits, Log, Rereads};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    merge::{Operation, OperationKind},
    model::{
        Author, Cell, Change, Cursor, Decision, Delivery, EntityNo, FieldNo, Lsn, Observation,
        Position, RecordId, Side, SideKey, Stamp, Value, Wish,
    },
    postgres::TlsMode,
    queue::queue,
    store::{self, Books, Canonical, Writer, connect, incident, reading, shapes, waiting},
};

const AIR: Side = Side::Airtable;
const DIR: Side = Side::Directus;
const CARD: EntityNo = EntityNo(0);
const NOTE: EntityNo = EntityNo(1);
const NAME: FieldNo = FieldNo(0);
const CITY: FieldNo = FieldNo(1);
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0";

const MAPPING: &str = r#"
version = 1
settle_s = 0
[entity.card]
table = "card"
airtable = { base = "main", table = "Cards", uuid = "UUID" }
directus = { table = "card" }
[entity.card.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "prefer airtable" }
city = { type = "text", airtable = "City", directus = "city", policy = "prefer airtable" }
[entity.note]
table = "note"
airtable = { base = "main", table = "Notes", uuid = "UUID" }
directus = { table = "note" }
[entity.note.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "prefer airtable" }
"#;

const TABLES: &str = "
    create table canon.card (id uuid primary key, name text, city text, deleted_at timestamptz);
    create table canon.note (id uuid primary key, name text, deleted_at timestamptz)";

fn id(no: u32) -> Uuid {
    Uuid::from_u64_pair(u64::from(no) << 16 | 0x4000, 1 << 63)
}

fn key(side: Side, no: u32) -> SideKey {
    match side {
        Side::Airtable => SideKey::from(format!("rec{no}").as_str()),
        Side::Directus => SideKey::from(id(no).to_string().as_str()),
    }
}

/// One cell of a record, with another value.
fn edit(side: Side, entity: EntityNo, no: u32, field: FieldNo, text: &str) -> Observation {
    let cells = vec![(field, Cell::Value(Value::Text(text.into())))];
    let change = Change::Present { cells, claimed_id: None, made_at: None };
    Observation { entity, key: key(side, no), change }
}

/// Another name for each of these cards.
fn names(side: Side, numbers: impl IntoIterator<Item = u32>, text: &str) -> Vec<Observation> {
    numbers.into_iter().map(|no| edit(side, CARD, no, NAME, text)).collect()
}

fn by(via: &str, id: Option<&str>) -> Author {
    Author { via: via.into(), id: id.map(Into::into), name: None }
}

fn script() -> Author {
    by("publicApi", Some("usrScript"))
}

struct Lab {
    _cluster: Cluster,
    config: Canonical,
    client: Client,
    mapping: String,
    /// The latest place in any log.
    place: u64,
    /// Minutes since the beginning, by the sides' clocks.
    minute: i64,
    rereads: std::sync::Arc<Rereads>,
    batch_row_count_max: usize,
}

impl Lab {
    /// So many cards and three notes, which both sides have; all is accepted.
    async fn open(card_count: u32) -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database plait").await.unwrap();
        let config = cluster.config("plait", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&config).await.unwrap();
        let client = cluster.connect("plait").await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        // Gives the entities their numbers.
        drop(Writer::open(&config, mapping).await.unwrap());
        let records = |table: &str, count: u32, text: &str| {
            let made = (1..=count).map(|no| format!("('{}', 'rec{no}')", id(no)));
            let made: Vec<String> = made.collect();
            format!(
                "insert into canon.{table} (id, name) select id::uuid, '{text}' from (values {0}) as v (id, key);
                 insert into mirror.link (side, entity_no, side_key, record_id)
                 select 'airtable', (select entity_no from mirror.entity where name = '{table}'), key, id::uuid
                 from (values {0}) as v (id, key);",
                made.join(", ")
            )
        };
        let accepted = "insert into mirror.approval (entity_no, field, approved_by, plan_digest)
            select entity_no, field, 'ada', '' from mirror.entity, unnest(array['*', 'name', 'city']) as u (field)";
        let sql = format!(
            "{} {} {accepted}",
            records("card", card_count, "old"),
            records("note", 3, "old")
        );
        client.batch_execute(&sql).await.unwrap();
        Self {
            _cluster: cluster,
            config,
            client,
            mapping: MAPPING.into(),
            place: 0,
            minute: 0,
            rereads: std::sync::Arc::default(),
            batch_row_count_max: 1_000,
        }
    }

    fn stamp(&mut self, side: Side, author: Author) -> Stamp {
        self.place += 1;
        let position = Some(match side {
            Side::Directus => Position::Lsn(Lsn(self.place)),
            Side::Airtable => Position::Cursor(Cursor {
                base: "app".into(),
                webhook: "ach".into(),
                next: self.place,
            }),
        });
        Stamp { side, at: self.minute * 60_000_000, position, author, operation: None }
    }

    fn transaction(
        &mut self,
        side: Side,
        author: &Author,
        observations: Vec<Observation>,
    ) -> Delivery {
        Delivery::Transaction { stamp: self.stamp(side, author.clone()), observations }
    }

    /// A page of a listing: it has no position.
    fn page(&mut self, observations: Vec<Observation>) -> Delivery {
        let stamp = self.stamp(AIR, by("listing", None));
        Delivery::Transaction { stamp: Stamp { position: None, ..stamp }, observations }
    }

    /// What is delivered when a listing has ended.
    fn end_of_listing(&mut self) -> Delivery {
        let position = self.stamp(AIR, script()).position.unwrap();
        Delivery::Progress { side: AIR, position }
    }

    /// Applies these, in one process.
    async fn apply(&mut self, deliveries: Vec<Delivery>) {
        let mapping = mapping::read(&self.mapping, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let log = |name: &str, side, committed| Log {
            name: name.into(),
            side,
            identity: watch::channel(None).1,
            stored_identity: None,
            committed,
            is_new: false,
        };
        let logs = vec![
            log("directus", DIR, Committed::Lsn(watch::channel(None).0)),
            log("airtable:app", AIR, Committed::Cursor(watch::channel(None).0)),
        ];
        let (sender, received) = queue(1_000_000);
        for delivery in deliveries {
            sender.send(delivery).await.unwrap();
        }
        drop(sender);
        let bases = HashMap::from([("main".to_owned(), "airtable:app".to_owned())]);
        let limits = Limits { batch_row_count_max: self.batch_row_count_max };
        let apply = Apply::new(writer, logs, limits)
            .with_rereads(std::sync::Arc::clone(&self.rereads), bases);
        apply.run(received).await.unwrap();
    }

    /// One transaction of `author`, in a process of its own.
    async fn see(&mut self, side: Side, author: &Author, observations: Vec<Observation>) {
        let delivery = self.transaction(side, author, observations);
        self.apply(vec![delivery]).await;
    }

    async fn decided(&mut self, decisions: Vec<Decision>) -> Delivery {
        let body = serde_json::to_value(&decisions).unwrap();
        let put =
            "insert into mirror.command (author, body) values ('ada', $1) returning command_id";
        let command: i64 = self.client.query_one(put, &[&body]).await.unwrap().get(0);
        Delivery::Decided { command, at: 0, author: "ada".into(), decisions }
    }

    /// Says yes to what is shown of the only open stop.
    async fn let_through(&mut self) -> Option<String> {
        let open = "select mass_change_id, last_transaction_id from mirror.mass_change where ended_at is null";
        let row = self.client.query_one(open, &[]).await.unwrap();
        let yes = Decision::ApproveChanges { stop: row.get(0), through: row.get(1) };
        let decided = self.decided(vec![yes]).await;
        self.apply(vec![decided]).await;
        let outcome = "select outcome from mirror.command order by command_id desc limit 1";
        self.client.query_one(outcome, &[]).await.unwrap().get(0)
    }

    async fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    /// The open stops: entity, side, author, records that wait.
    async fn stops(&self) -> Vec<String> {
        self.lines(
            "select concat_ws(' ', e.name, m.side, m.author,
                 (select count(*) from mirror.outbox o where o.stopped_by = m.mass_change_id))
             from mirror.mass_change m join mirror.entity e using (entity_no) where ended_at is null order by 1",
        )
        .await
    }

    /// Records that wait because their author is counted, and those that wait for the end of a full read.
    async fn waits(&self) -> [i64; 2] {
        let sql = "select count(*) filter (where counts_until > now() and not is_being_read),
            count(*) filter (where is_being_read) from mirror.outbox where stopped_by is null";
        let row = self.client.query_one(sql, &[]).await.unwrap();
        [row.get(0), row.get(1)]
    }

    /// As if what waits had waited.
    async fn pass(&self) {
        let sql = "update mirror.outbox set counts_until = counts_until - interval '1 min'";
        self.client.batch_execute(sql).await.unwrap();
    }

    /// How many records a push of each side would take now, by entity.
    async fn due(&self, side: Side) -> BTreeMap<EntityNo, usize> {
        let due = self.books().await.take_due(side, 1_000).await.unwrap();
        // Not tried again before something else is owed.
        let tried =
            "update mirror.outbox set due_at = now() + interval '1 day' where attempt_count > 0";
        self.client.batch_execute(tried).await.unwrap();
        due.into_iter().map(|(entity, records)| (entity, records.len())).collect()
    }

    /// The database as a push has it.
    async fn books(&self) -> Books {
        let mut mapping = mapping::read(&self.mapping, "mapping.toml").unwrap();
        let client = connect(&self.config).await.unwrap();
        let shapes = shapes(&client, &mut mapping).await.unwrap();
        Books::of_reader(self.pool().await, mapping, shapes).await.unwrap()
    }

    async fn incidents(&self) -> Vec<String> {
        self.lines("select text from mirror.incident where closed_at is null order by 1").await
    }

    async fn pool(&self) -> sqlx::PgPool {
        let password = self.config.config.get_password().map(String::from_utf8_lossy);
        reading::pool(&self.config, password.as_deref()).await.unwrap()
    }
}

#[tokio::test]
async fn mass_change_of_a_script_stops_with_all_of_its_ten_minutes_and_nothing_else_does() {
    let mut lab = Lab::open(10).await;
    // Record by record, a minute apart, and other people beside it.
    let mut deliveries = Vec::new();
    for no in 1..=6 {
        lab.minute += 1;
        deliveries.push(lab.transaction(AIR, &script(), names(AIR, [no], "new")));
    }
    let note = vec![edit(AIR, NOTE, 1, NAME, "new")];
    deliveries.push(lab.transaction(AIR, &script(), note));
    let person = by(BROWSER, Some("2f6c1d0a"));
    deliveries.push(lab.transaction(DIR, &person, names(DIR, [9], "by a person")));
    lab.batch_row_count_max = 2;
    lab.apply(deliveries).await;
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 6"]);
    lab.pass().await;
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(NOTE, 1)]));
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 1)]));
    // Canonical has it all.
    let new = "select count(*)::text from canon.card where name = 'new'";
    assert_eq!(lab.lines(new).await, ["6"]);
    let incidents = lab.incidents().await;
    assert_eq!(incidents.len(), 1);
    for part in ["6 records of card", "airtable", "usrScript", "plait approve changes 1", "undo"] {
        assert!(incidents[0].contains(part), "{part}: {incidents:?}");
    }
    // A start forgets no stop, and what the script does then joins it; a look that finds it leaves the incident.
    lab.see(AIR, &script(), names(AIR, [8], "new")).await;
    incident::look(&lab.pool().await).await.unwrap();
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 7"]);
    assert_eq!(lab.incidents().await.len(), 1);
}

#[tokio::test]
async fn mass_change_that_is_none_waits_a_moment_and_goes() {
    let mut lab = Lab::open(10).await;
    let first = lab.transaction(DIR, &by("sql", None), names(DIR, 1..=5, "new"));
    // As many again, but another author; and the same records once more.
    let second = lab.transaction(DIR, &by("curl/8", Some("2f6c1d0a")), names(DIR, 6..=8, "new"));
    let third = lab.transaction(DIR, &by("sql", None), names(DIR, 1..=5, "newer"));
    lab.apply(vec![first, second, third]).await;
    assert!(lab.stops().await.is_empty());
    assert_eq!(lab.waits().await, [8, 0]);
    assert!(lab.due(AIR).await.is_empty());
    let pool = lab.pool().await;
    let wait = waiting::of_record(&pool, "card", id(1)).await.unwrap();
    assert!(wait[0].waits_for.as_ref().unwrap().contains("moment"), "{wait:?}");
    // A person's edit of one of them does not shorten it.
    let person = by(BROWSER, Some("2f6c1d0a"));
    lab.see(DIR, &person, vec![edit(DIR, CARD, 1, CITY, "Brest")]).await;
    assert!(lab.due(AIR).await.is_empty());
    lab.pass().await;
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 8)]));
}

#[tokio::test]
async fn mass_change_is_counted_over_ten_minutes_and_anew_after_a_start() {
    let mut lab = Lab::open(100).await;
    // Two records every six minutes: four in ten.
    let mut deliveries = Vec::new();
    for no in 0..20 {
        lab.minute += 6;
        deliveries.push(lab.transaction(
            AIR,
            &script(),
            names(AIR, [no * 2 + 1, no * 2 + 2], "new"),
        ));
    }
    lab.apply(deliveries).await;
    assert!(lab.stops().await.is_empty());
    lab.minute += 6;
    lab.see(AIR, &script(), names(AIR, 41..=45, "new")).await;
    lab.see(AIR, &script(), names(AIR, 46..=50, "new")).await;
    assert!(lab.stops().await.is_empty());
    lab.see(AIR, &script(), names(AIR, 51..=56, "new")).await;
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 6"]);
}

#[tokio::test]
async fn mass_change_by_hand_is_never_stopped_and_waits_for_nothing() {
    let mut lab = Lab::open(300).await;
    let pasted = names(AIR, 1..=40, "pasted");
    let client = by("client", Some("usrAda"));
    lab.see(AIR, &client, pasted).await;
    let studio = by(BROWSER, Some("2f6c1d0a"));
    lab.see(DIR, &studio, names(DIR, 101..=140, "by hand")).await;
    assert!(lab.stops().await.is_empty());
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 40)]));
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 40)]));
    // A browser's name without a user is nobody's hand; nor is a program of the same user.
    lab.see(DIR, &by(BROWSER, None), names(DIR, 201..=207, "x")).await;
    lab.see(DIR, &by("python-requests/2", Some("2f6c1d0a")), names(DIR, 211..=217, "x")).await;
    let stops = lab.stops().await;
    assert_eq!(stops.len(), 2, "{stops:?}");
    // A script that calls itself something else each time is one author.
    let calls = (0..7).map(|no| format!("agent/{no}"));
    let mut deliveries = Vec::new();
    for (no, agent) in (221..).zip(calls) {
        deliveries.push(lab.transaction(DIR, &by(&agent, Some("77aa")), names(DIR, [no], "x")));
    }
    lab.apply(deliveries).await;
    assert!(lab.stops().await.contains(&"card directus 77aa 7".to_owned()));
}

#[tokio::test]
async fn mass_change_limit_is_the_larger_of_a_count_and_a_share_and_a_setting() {
    let mut lab = Lab::open(400).await;
    lab.see(DIR, &by("sql", None), names(DIR, 1..=8, "new")).await;
    assert!(lab.stops().await.is_empty());
    lab.see(DIR, &by("sql", None), names(DIR, 11..=19, "new")).await;
    assert_eq!(lab.stops().await, ["card directus sql 9"]);
    // New records count, too.
    let new = |numbers: std::ops::Range<u32>| names(DIR, numbers, "imported");
    let importer = by("node", Some("77aa"));
    lab.see(DIR, &importer, new(1_000..1_100)).await;
    assert!(lab.stops().await.contains(&"card directus 77aa 100".to_owned()));
    let off =
        |text: &str| MAPPING.replacen("settle_s = 0\n", &format!("settle_s = 0\n{text}\n"), 1);
    for text in [
        "mass_changes = { count = 0 }",
        "mass_changes = { count = 100 }",
        "mass_changes = { percent = 50 }",
        "mass_changes = { trusted = [\"88bb\"] }",
    ] {
        lab.mapping = off(text);
        let before = lab.stops().await;
        lab.see(DIR, &by("node", Some("88bb")), names(DIR, 21..=120, text)).await;
        assert_eq!(lab.stops().await, before, "{text}");
    }
}

#[tokio::test]
async fn mass_change_goes_on_with_a_yes_to_what_was_shown_and_is_counted_anew() {
    let mut lab = Lab::open(20).await;
    lab.see(AIR, &script(), names(AIR, 1..=7, "new")).await;
    let shown = "select mass_change_id, last_transaction_id from mirror.mass_change";
    let row = lab.client.query_one(shown, &[]).await.unwrap();
    let yes = Decision::ApproveChanges { stop: row.get(0), through: row.get(1) };
    // Meanwhile another record joins it: that one was not shown.
    lab.see(AIR, &script(), names(AIR, [8], "new")).await;
    let decided = lab.decided(vec![yes.clone()]).await;
    lab.apply(vec![decided]).await;
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 1"]);
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 7)]));
    assert_eq!(lab.let_through().await, None);
    assert!(lab.stops().await.is_empty() && lab.incidents().await.is_empty());
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 1)]));
    let said = "select approved_by from mirror.mass_change where ended_at is not null";
    assert_eq!(lab.lines(said).await, ["ada"]);
    // A yes that comes too late says so.
    let late = lab.decided(vec![yes]).await;
    lab.apply(vec![late]).await;
    let outcome = "select outcome from mirror.command order by command_id desc limit 1";
    assert!(lab.lines(outcome).await[0].contains("no mass change"));
    // In one process: what was let through does not count any more, what comes then does.
    let stopped = lab.transaction(AIR, &script(), names(AIR, 9..=14, "new"));
    lab.apply(vec![stopped]).await;
    assert_eq!(lab.stops().await.len(), 1);
    let open = lab.client.query_one("select mass_change_id, last_transaction_id from mirror.mass_change where ended_at is null", &[]).await.unwrap();
    let yes = Decision::ApproveChanges { stop: open.get(0), through: open.get(1) };
    let deliveries = vec![
        lab.decided(vec![yes]).await,
        lab.transaction(AIR, &script(), names(AIR, 1..=5, "newer")),
    ];
    lab.apply(deliveries).await;
    assert!(lab.stops().await.is_empty());
    lab.see(AIR, &script(), names(AIR, 1..=6, "newest")).await;
    assert_eq!(lab.stops().await.len(), 1);
}

#[tokio::test]
async fn mass_change_that_is_taken_back_owes_nothing_and_is_over() {
    let mut lab = Lab::open(20).await;
    let changed = lab.transaction(AIR, &script(), names(AIR, 1..=7, "wrong"));
    // A person, who sees the wrong name, corrects another cell of one of them: it waits with it, and is told so.
    let person = by("client", Some("usrAda"));
    let corrected = lab.transaction(AIR, &person, vec![edit(AIR, CARD, 7, CITY, "Brest")]);
    let back = |no: u32| Decision::Set {
        entity: "card".into(),
        record: id(no),
        cells: BTreeMap::from([(
            "name".to_owned(),
            Wish { expected: json!("wrong"), value: json!("old") },
        )]),
        settles: Vec::new(),
    };
    lab.apply(vec![changed, corrected]).await;
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 7"]);
    let wait = waiting::of_record(&lab.pool().await, "card", id(7)).await.unwrap();
    assert!(wait[0].waits_for.as_ref().unwrap().contains("plait approve changes 1"), "{wait:?}");
    let undone = lab.decided((1..=6).map(back).collect()).await;
    lab.apply(vec![undone]).await;
    // The old names go back to the side that had the new ones; the other one has them, and its rows are only looked at.
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 1"]);
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 6)]));
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 6)]));
    let undone = lab.decided(vec![back(7)]).await;
    lab.apply(vec![undone]).await;
    // The person's city is still owed, and was not shown to be let through: it waits for the yes.
    assert_eq!(lab.stops().await, ["card airtable publicApi:usrScript 1"]);
    assert_eq!(lab.let_through().await, None);
    assert!(lab.stops().await.is_empty() && lab.incidents().await.is_empty());
}

#[tokio::test]
async fn mass_change_that_its_author_takes_back_is_over() {
    let mut lab = Lab::open(20).await;
    lab.see(DIR, &by("sql", None), names(DIR, 1..=7, "wrong")).await;
    assert_eq!(lab.stops().await, ["card directus sql 7"]);
    lab.see(DIR, &by("sql", None), names(DIR, 1..=7, "old")).await;
    incident::look(&lab.pool().await).await.unwrap();
    assert!(lab.stops().await.is_empty() && lab.incidents().await.is_empty());
}

#[tokio::test]
async fn mass_change_that_a_listing_finds_is_judged_at_its_end() {
    let mut lab = Lab::open(20).await;
    let pages = vec![lab.page(names(AIR, 1..=3, "new")), lab.page(names(AIR, 4..=8, "new"))];
    lab.batch_row_count_max = 1;
    lab.apply(pages).await;
    assert_eq!((lab.waits().await, lab.stops().await.len()), ([0, 8], 0));
    assert!(lab.due(DIR).await.is_empty());
    // The process was stopped before the end: the next one judges what it left.
    lab.apply(Vec::new()).await;
    assert_eq!(lab.stops().await, ["card airtable read 8"]);
    assert_eq!(lab.let_through().await, None);
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 8)]));
    // Payloads before a listing are not its end, in whatever batch; a page that is read again is none either.
    lab.batch_row_count_max = 1_000;
    let person = by("client", Some("usrAda"));
    let behind = vec![
        lab.transaction(AIR, &person, names(AIR, [20], "by hand")),
        lab.end_of_listing(),
        lab.page(names(AIR, 9..=10, "listed")),
        lab.page(names(AIR, 9..=10, "listed")),
    ];
    lab.apply(behind).await;
    assert_eq!((lab.waits().await, lab.stops().await.len()), ([0, 2], 0));
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 1)]));
    lab.apply(Vec::new()).await;
    assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 2)]));
    // A whole one: pages and end in as many batches as there can be, and all in one.
    for (from, batch_row_count_max) in [(9, 1), (14, 1_000)] {
        lab.batch_row_count_max = batch_row_count_max;
        let few = vec![lab.page(names(AIR, from..from + 5, "new")), lab.end_of_listing()];
        lab.apply(few).await;
        assert!(lab.stops().await.is_empty());
        assert_eq!(lab.waits().await, [0, 0]);
        assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 5)]));
        let many = vec![
            lab.page(names(AIR, 1..=3, &format!("{from}"))),
            lab.page(names(AIR, 4..=6, &format!("{from}"))),
            lab.end_of_listing(),
        ];
        lab.apply(many).await;
        assert_eq!(lab.stops().await, ["card airtable read 6"]);
        assert_eq!(lab.let_through().await, None);
        assert_eq!(lab.due(DIR).await, BTreeMap::from([(CARD, 6)]));
    }
}

#[tokio::test]
async fn mass_change_of_what_nobody_accepted_or_what_a_renamed_option_brings_asks_for_nothing() {
    let mut lab = Lab::open(20).await;
    lab.client.batch_execute("delete from mirror.approval where field = 'city'").await.unwrap();
    let cities = |numbers: std::ops::RangeInclusive<u32>, text: &str| -> Vec<Observation> {
        numbers.map(|no| edit(AIR, CARD, no, CITY, text)).collect()
    };
    let first = vec![lab.page(cities(1..=20, "Brest")), lab.end_of_listing()];
    lab.apply(first).await;
    lab.see(AIR, &script(), cities(1..=20, "Nantes")).await;
    assert!(lab.stops().await.is_empty());
    assert_eq!(lab.waits().await, [0, 0]);
    let accepted =
        "insert into mirror.approval (entity_no, field, approved_by, plan_digest, covers)
        select entity_no, 'city', 'ada', '', null from mirror.entity where name = 'card'";
    lab.client.batch_execute(accepted).await.unwrap();
    // Airtable has another name for an option, which the capture has told.
    lab.rereads.expect(AIR, &[CARD], &[(CARD, CITY)]);
    let renamed = vec![lab.page(cities(1..=20, "Naoned")), lab.end_of_listing()];
    lab.apply(renamed).await;
    assert!(lab.stops().await.is_empty());
    // What else the listing shows changed is counted.
    let found = vec![lab.page(names(AIR, 1..=6, "new")), lab.end_of_listing()];
    lab.apply(found).await;
    assert_eq!(lab.stops().await, ["card airtable read 6"]);
    lab.rereads.expect(AIR, &[CARD], &[]);
    lab.see(AIR, &script(), cities(11..=16, "Brest")).await;
    assert_eq!(lab.stops().await.len(), 2);
}

#[tokio::test]
async fn mass_change_in_a_transaction_that_comes_in_parts_is_judged_by_its_author() {
    let mut lab = Lab::open(300).await;
    let parts = |text: &str| -> Vec<Delivery> {
        let part = |from: u32| Delivery::Part {
            side: DIR,
            observations: names(DIR, from..from + 50, text),
        };
        vec![part(1), part(51)]
    };
    let mut end = |author: Author, text: &str| {
        let mut deliveries = parts(text);
        deliveries.push(lab.transaction(DIR, &author, Vec::new()));
        deliveries
    };
    let by_hand = end(by(BROWSER, Some("2f6c1d0a")), "by hand");
    let by_sql = end(by("sql", None), "by a script");
    let snapshot = end(by("snapshot", None), "by nobody knows whom");
    lab.apply(by_hand).await;
    assert_eq!((lab.stops().await.len(), lab.waits().await), (0, [0, 0]));
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 100)]));
    lab.apply(by_sql).await;
    assert_eq!(lab.stops().await, ["card directus sql 100"]);
    assert_eq!(lab.let_through().await, None);
    lab.apply(snapshot).await;
    assert_eq!(lab.stops().await, ["card directus read 100"]);
    assert!(lab.due(AIR).await.is_empty());
}

#[tokio::test]
async fn mass_change_stop_holds_even_a_write_that_was_taken_before_it() {
    let mut lab = Lab::open(20).await;
    lab.see(DIR, &by("sql", None), names(DIR, 1..=3, "new")).await;
    lab.pass().await;
    assert_eq!(lab.due(AIR).await, BTreeMap::from([(CARD, 3)]));
    lab.see(DIR, &by("sql", None), names(DIR, 1..=6, "newer")).await;
    assert_eq!(lab.stops().await, ["card directus sql 6"]);
    let taken = "update mirror.outbox set attempt_count = 1";
    lab.client.batch_execute(taken).await.unwrap();
    let (books, record) = (lab.books().await, RecordId(id(1)));
    let write = Operation::new(Uuid::now_v7(), AIR, OperationKind::Update, Vec::new());
    assert!(books.bind(CARD, &[(record, write.clone())]).await.unwrap().is_empty());
    let free = "update mirror.outbox set stopped_by = null";
    lab.client.batch_execute(free).await.unwrap();
    assert_eq!(books.bind(CARD, &[(record, write)]).await.unwrap(), [record]);
}
