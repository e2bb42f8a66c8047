//! Two sides against a real Postgres: our own writes coming back, deletes that are to follow, and what people decide.
//! Batches come to the same as one delivery at a time, operations and the outbox included.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config as RunnerConfig, TestRunner},
};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    Apply, Committed, Limits, Log, UpkeepNews, WayOut,
    tests::{CASE_COUNT, Lab, PATIENCE, histories},
};
use crate::{
    mapping::{self, Upkeep},
    merge::{Operation, OperationKind},
    model::{
        Author, Cell, Change, Cursor, Decision, Delivery, Element, EntityNo, FieldNo, Lsn,
        Observation, Position, RecordId, Side, SideKey, Stamp, Value, Wish,
    },
    queue::queue,
    store::{Again, Canonical, Writer, parked, reading},
};

const CARD: EntityNo = EntityNo(0);
const NOTE: EntityNo = EntityNo(1);
const NAME: FieldNo = FieldNo(0);
const TAGS: FieldNo = FieldNo(1);
const US: &str = "usrUs";

const MAPPING: &str = r#"
version = 1
[entity.card]
table = "card"
airtable = { base = "main", table = "Cards", uuid = "UUID" }
directus = { table = "card" }
deletes = "propagate"
[entity.card.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "ask" }
tags = { type = "multi_select", junction = { table = "card_tag", parent = "card_id", element = "tag" }, airtable = "Tags", directus = { junction = "card_tag", parent = "card_id", element = "tag" }, policy = "set merge" }
[entity.note]
table = "note"
airtable = { base = "main", table = "Notes", uuid = "UUID" }
directus = { table = "note" }
deletes = "hold"
[entity.note.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "prefer directus" }
"#;

const TABLES: &str = "
    create table canon.card (id uuid primary key, name varchar(8));
    create table canon.note (id uuid primary key, name varchar(8), deleted_at timestamptz);
    create table canon.card_tag (card_id uuid references canon.card on delete cascade deferrable initially deferred,
        tag text, primary key (card_id, tag))";

/// By rows: `truncate` gives each table, each index a new file, which takes longer than all else here.
const EMPTY: &str = "
    delete from canon.card_tag; delete from canon.note; delete from canon.card; delete from mirror.source_transaction;
    delete from mirror.journal; delete from mirror.link; delete from mirror.shadow; delete from mirror.absence; delete
    from mirror.tombstone; delete from mirror.element; delete from mirror.conflict; delete from mirror.refusal; delete
    from mirror.position; delete from mirror.operation; delete from mirror.outbox; delete from mirror.parked; delete from
    mirror.pending_delete; delete from mirror.command; delete from mirror.incident;";

#[derive(Clone, Copy, Debug)]
enum Who {
    Somebody,
    Us,
    Scan,
}

#[derive(Clone, Debug)]
enum What {
    Name(u8),
    Gone,
    Tags(Vec<u8>),
}

/// Where, by whom, which record of which entity, what.
type Event = (Side, Who, EntityNo, u8, What);

fn id(entity: EntityNo, no: u8) -> Uuid {
    Uuid::from_u64_pair(u64::from(entity.0 + 1) << 48 | 0x4000, 1 << 63 | u64::from(no))
}

fn operation(side: Side, entity: EntityNo, no: u8) -> Uuid {
    let side = u64::from(side == Side::Directus);
    Uuid::from_u64_pair(u64::from(entity.0 + 9) << 48 | 0x4000, 1 << 63 | side << 8 | u64::from(no))
}

fn key(side: Side, entity: EntityNo, no: u8) -> SideKey {
    match side {
        Side::Airtable => SideKey::from(format!("rec{}x{no}", entity.0).as_str()),
        Side::Directus => SideKey::from(id(entity, no).to_string().as_str()),
    }
}

fn name(no: u8) -> Value {
    if no == 0 { Value::Null } else { Value::Text(format!("n{no}")) }
}

fn observations((side, _, entity, no, what): &Event) -> Vec<Observation> {
    let observation =
        |change| Observation { entity: *entity, key: key(*side, *entity, *no), change };
    let present = |cells| Change::Present { cells, claimed_id: None, made_at: None };
    let tag = |tag: &u8| format!("t{tag}");
    match (what, side) {
        (What::Name(value), _) => {
            vec![observation(present(vec![(NAME, Cell::Value(name(*value)))]))]
        }
        (What::Gone, _) => vec![observation(Change::Absent)],
        (What::Tags(tags), Side::Airtable) => {
            let tags = Value::set(tags.iter().map(tag).collect());
            vec![observation(present(vec![(TAGS, Cell::Value(tags))]))]
        }
        // Each row by itself: those that are not named go.
        (What::Tags(tags), Side::Directus) => (0..3_u8)
            .map(|row| {
                let element = tags.contains(&row).then(|| Cell::Value(Value::Text(tag(&row))));
                let element = Element {
                    field: TAGS,
                    row: format!("{no}-{row}").as_str().into(),
                    element,
                    columns: None,
                };
                observation(Change::Element(element))
            })
            .collect(),
    }
}

fn delivery(at: usize, event: &Event) -> Delivery {
    let (side, who, entity, no, _) = event;
    let next = at as u64 + 1;
    let (via, author, operation) = match (who, side) {
        (Who::Somebody, _) => ("client", None, None),
        (Who::Scan, _) => ("listing", None, None),
        (Who::Us, Side::Airtable) => ("publicApi", Some(US.to_owned()), None),
        (Who::Us, Side::Directus) => ("plait/1 op=", None, Some(operation(*side, *entity, *no))),
    };
    let position = match side {
        Side::Airtable => {
            Position::Cursor(Cursor { base: "appM".into(), webhook: "achM".into(), next })
        }
        Side::Directus => Position::Lsn(Lsn(next)),
    };
    Delivery::Transaction {
        stamp: Stamp {
            side: *side,
            at: i64::try_from(at).unwrap() * 1_000_000,
            position: Some(position),
            author: Author { id: author, name: None, via: via.into() },
            operation,
        },
        observations: observations(event),
    }
}

fn log(name: &str, side: Side, committed: Committed) -> Log {
    let (_, identity) = watch::channel(None);
    Log { name: name.into(), side, identity, stored_identity: None, committed, is_new: false }
}

/// Applies `deliveries`; with `is_one_at_a_time`, each only when the one before is committed.
async fn apply(
    config: &Canonical,
    deliveries: Vec<Delivery>,
    is_one_at_a_time: bool,
    way_out: WayOut,
) {
    apply_knowing(config, deliveries, is_one_at_a_time, way_out, Box::new(|| None)).await;
}

/// The same, with what the sides fill by themselves.
async fn apply_knowing(
    config: &Canonical,
    deliveries: Vec<Delivery>,
    is_one_at_a_time: bool,
    way_out: WayOut,
    upkeep: UpkeepNews,
) {
    let mapping =
        mapping::read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let writer = Writer::open(config, mapping).await.unwrap();
    let (lsn, mut lsn_told) = watch::channel(None);
    let (cursor, mut cursor_told) = watch::channel(None);
    let logs = vec![
        log("directus", Side::Directus, Committed::Lsn(lsn)),
        log("airtable:appM", Side::Airtable, Committed::Cursor(cursor)),
    ];
    let limits = Limits { batch_row_count_max: if is_one_at_a_time { 100 } else { 5 } };
    let (sender, received) = queue(1_000);
    let apply = Apply::new(writer, logs, limits).with_way_out(way_out).with_upkeep(upkeep);
    let sending = async move {
        for delivery in deliveries {
            let position = match &delivery {
                Delivery::Transaction { stamp, .. } => stamp.position.clone(),
                _ => None,
            };
            sender.send(delivery).await.unwrap();
            match position.filter(|_| is_one_at_a_time) {
                Some(Position::Lsn(next)) => {
                    lsn_told.wait_for(|told| *told == Some(next)).await.unwrap();
                }
                Some(Position::Cursor(next)) => {
                    cursor_told.wait_for(|told| told.as_ref() == Some(&next)).await.unwrap();
                }
                None => {}
            }
        }
    };
    let (applied, ()) = if is_one_at_a_time {
        tokio::join!(apply.run(received), sending)
    } else {
        sending.await;
        (apply.run(received).await, ())
    };
    applied.unwrap();
}

fn way_out() -> WayOut {
    let us = std::sync::Arc::new(US.to_owned().into());
    WayOut { own: [(Side::Airtable, us)].into(), nudges: [].into() }
}

/// Records on both sides, and a write of ours in flight to each.
async fn prepare(client: &Client) {
    client.batch_execute(EMPTY).await.unwrap();
    client
        .batch_execute(
            "insert into mirror.entity (entity_no, name) values (1, 'card'), (2, 'note') on conflict do nothing",
        )
        .await
        .unwrap();
    for (entity, number, table) in [(CARD, 1_i16, "card"), (NOTE, 2, "note")] {
        for no in 0..4_u8 {
            let record = id(entity, no);
            let sql = format!("insert into canon.{table} (id, name) values ($1, 'n1')");
            client.execute(&sql, &[&record]).await.unwrap();
            client
                .execute(
                    "insert into mirror.link (side, entity_no, side_key, record_id) values ('airtable', $1, $2, $3)",
                    &[&number, &key(Side::Airtable, entity, no).to_string(), &record],
                )
                .await
                .unwrap();
            for side in Side::ALL {
                client
                    .execute(
                        "insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells)
                         values ($1, $2, $3, $4, 'update', $5)",
                        &[
                            &operation(side, entity, no),
                            &side.name(),
                            &number,
                            &record,
                            &json!({ "name": { "expected": "n1", "value": "n2" }, "tags": { "expected": null, "value": ["t0", "t1"] } }),
                        ],
                    )
                    .await
                    .unwrap();
            }
        }
    }
}

async fn texts(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
}

async fn outcome(client: &Client) -> String {
    let mut outcome = String::new();
    for query in [
        "select c::text from canon.card c order by id",
        "select concat_ws(' ', id, name, deleted_at is null) from canon.note order by id",
        "select t::text from canon.card_tag t order by 1",
        "select concat_ws(' ', record_id, side, field, value) from mirror.shadow order by 1",
        "select concat_ws(' ', record_id, side, was_deleted) from mirror.absence order by 1",
        "select concat_ws(' ', record_id, side, field, base, canonical, observed, decision, decided_at is null) from mirror.conflict order by record_id, field, side, conflict_id",
        "select concat_ws(' ', record_id, side, settled_at is null) from mirror.operation order by 1",
        // A row of which nothing is owed (`merge::is_due`) is dropped by the next push.
        "select concat_ws(' ', record_id, side) from mirror.outbox o
         where exists (select from mirror.operation x where (x.record_id, x.side) = (o.record_id, o.side) and settled_at is null)
            or exists (select from mirror.pending_delete x where (x.record_id, x.side) = (o.record_id, o.side))
            or (exists (select from canon.card c where c.id = o.record_id)
                or exists (select from canon.note n where n.id = o.record_id and n.deleted_at is null))
           and (exists (select from mirror.shadow x where (x.record_id, x.side) = (o.record_id, o.side))
                or exists (select from mirror.absence x where (x.record_id, x.side) = (o.record_id, o.side)))
         order by 1",
        "select concat_ws(' ', record_id, side, approved_by, stopped_by_count) from mirror.pending_delete order by 1",
        "select concat_ws(' ', log, position) from mirror.position order by 1",
        "select concat_ws(' ', t.position, j.record_id, j.action, j.before, j.after)
         from mirror.journal j join mirror.source_transaction t using (source_transaction_id) order by journal_id",
    ] {
        outcome.push_str(&texts(client, query).await.join("\n"));
        outcome.push_str("\n\n");
    }
    outcome
}

fn any_event() -> impl Strategy<Value = Event> + Clone {
    let side = prop_oneof![Just(Side::Airtable), Just(Side::Directus)];
    let who = prop_oneof![4 => Just(Who::Somebody), 4 => Just(Who::Us), 1 => Just(Who::Scan)];
    let entity = prop_oneof![2 => Just(CARD), 1 => Just(NOTE)];
    let what = prop_oneof![
        6 => (0..4_u8).prop_map(What::Name),
        1 => Just(What::Gone),
        3 => prop::collection::vec(0..3_u8, 0..3).prop_map(What::Tags),
    ];
    (side, who, entity, 0..4_u8, what).prop_map(|(side, who, entity, no, what)| {
        let is_set = matches!(what, What::Tags(_)) && entity == NOTE;
        (side, who, entity, no, if is_set { What::Name(2) } else { what })
    })
}

#[test]
fn apply_two_sides_in_batches_come_to_the_same_as_one_delivery_at_a_time() {
    let lab = Lab::open(TABLES);
    let config = RunnerConfig {
        cases: CASE_COUNT,
        source_file: Some(file!()),
        test_name: Some("apply_two_sides"),
        ..RunnerConfig::default()
    };
    TestRunner::new(config)
        .run(&histories(any_event()), |events| {
            let outcomes = lab.in_both(async |config, client, is_single| {
                prepare(client).await;
                let deliveries =
                    events.iter().enumerate().map(|(at, event)| delivery(at, event)).collect();
                apply(config, deliveries, is_single, way_out()).await;
                outcome(client).await
            });
            prop_assert_eq!(&outcomes[0], &outcomes[1]);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn see(side: Side, who: Who, entity: EntityNo, no: u8, what: What) -> Event {
    (side, who, entity, no, what)
}

fn decided(command: i64, decision: Decision) -> Delivery {
    Delivery::Decided { command, at: 7_000_000, author: "jeanne".into(), decisions: vec![decision] }
}

fn set(no: u8, expected: &str, value: &str) -> Decision {
    let wish = Wish { expected: json!(expected), value: json!(value) };
    Decision::Set {
        entity: "card".into(),
        record: id(CARD, no),
        cells: BTreeMap::from([("name".into(), wish)]),
        settles: Vec::new(),
    }
}

#[test]
fn apply_set_whose_rows_are_read_before_their_owner_comes_with_it() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    let events = [
        see(Side::Directus, Who::Us, CARD, 0, What::Tags(vec![0])),
        see(Side::Directus, Who::Somebody, CARD, 1, What::Tags(vec![0, 1])),
        see(Side::Directus, Who::Scan, CARD, 0, What::Name(1)),
        see(Side::Directus, Who::Somebody, CARD, 1, What::Name(1)),
    ];
    // Two cards that Directus lacks; a set is in its log before its card, as while a table is read again.
    let lack = "delete from mirror.operation;
        insert into canon.card_tag select id, 't0' from canon.card;
        insert into mirror.absence (record_id, entity_no, side, source_transaction_id, was_deleted)
            select id, 1, 'directus', 0, false from canon.card";
    lab.runtime.block_on(async {
        for is_one_at_a_time in [true, false] {
            prepare(client).await;
            client.batch_execute(lack).await.unwrap();
            let deliveries = events.iter().enumerate().map(|(at, event)| delivery(at, event));
            apply(config, deliveries.collect(), is_one_at_a_time, way_out()).await;
            let of_two = format!("record_id in ('{}', '{}')", id(CARD, 0), id(CARD, 1));
            let held = format!("select concat_ws(' ', field, value) from mirror.shadow where side = 'directus' and {of_two}");
            assert_eq!(texts(client, &held).await, Vec::<String>::new());
            let tags = format!("select tag from canon.card_tag where {} order by card_id, tag", of_two.replace("record_id", "card_id"));
            assert_eq!(texts(client, &tags).await, ["t0", "t0", "t1"]);
        }
    });
}

/// What people, sides and we do one after the other, and what there is then.
#[test]
fn apply_carries_out_what_people_decide_and_lets_deletes_follow() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    lab.runtime.block_on(async {
        prepare(client).await;
        client.execute("delete from mirror.operation", &[]).await.unwrap();
        for body in 1..=6 {
            client
                .execute("insert into mirror.command (author, body) values ('jeanne', to_jsonb($1::int))", &[&body])
                .await
                .unwrap();
        }
        let first: i64 =
            client.query_one("select min(command_id) from mirror.command", &[]).await.unwrap().get(0);
        let nudge = Arc::new(Notify::new());
        let run = |deliveries: Vec<Delivery>| {
            let nudges = [(Side::Airtable, Arc::clone(&nudge))].into();
            apply(config, deliveries, false, WayOut { nudges, ..way_out() })
        };
        let at = |no: usize, event: Event| delivery(no, &event);

        // A conflict is held; a person settles it with a third value, which both sides are owed.
        run(vec![
            at(0, see(Side::Directus, Who::Somebody, CARD, 0, What::Name(2))),
            at(1, see(Side::Airtable, Who::Somebody, CARD, 0, What::Name(3))),
            decided(first, set(0, "n2", "n9")),
            decided(first + 1, set(0, "n2", "n8")),
        ])
        .await;
        let conflict = "select concat_ws(' ', decision, decided_by, settled_value, decided_at is not null) from mirror.conflict";
        assert_eq!(texts(client, conflict).await, ["held jeanne \"n9\" t"]);
        let commands = "select concat_ws(' ', done_at is not null, outcome) from mirror.command order by command_id limit 2";
        let told = texts(client, commands).await;
        assert_eq!(told[0], "t");
        assert!(told[1].contains("holds another value by now"), "{}", told[1]);
        let owed = "select concat_ws(' ', side, value) from mirror.shadow order by side";
        assert_eq!(texts(client, owed).await, ["airtable \"n3\"", "directus \"n2\""]);
        let outbox = "select side from mirror.outbox order by side";
        assert_eq!(texts(client, outbox).await, ["airtable", "directus"]);
        tokio::time::timeout(Duration::from_secs(1), nudge.notified()).await.expect("a nudge");
        let journal = "select concat_ws(' ', t.side, t.author_name, j.after ->> 'name')
            from mirror.journal j join mirror.source_transaction t using (source_transaction_id) order by journal_id";
        assert_eq!(texts(client, journal).await, ["directus n2", "plait jeanne n9"]);

        // Once both show it, nothing is owed. The push has the last look: it may be binding a write just now.
        run(vec![
            at(2, see(Side::Airtable, Who::Somebody, CARD, 0, What::Name(9))),
            at(3, see(Side::Directus, Who::Somebody, CARD, 0, What::Name(9))),
        ])
        .await;
        assert!(texts(client, owed).await.is_empty());
        assert_eq!(texts(client, outbox).await, ["airtable", "directus"]);
        client.execute("delete from mirror.outbox", &[]).await.unwrap();

        // A delete goes on by the mapping's own yes; an edit there before it arrives brings the record back whole.
        run(vec![
            at(4, see(Side::Airtable, Who::Somebody, CARD, 1, What::Tags(vec![0, 2]))),
            at(5, see(Side::Directus, Who::Somebody, CARD, 1, What::Tags(vec![0, 2]))),
            at(6, see(Side::Airtable, Who::Somebody, CARD, 1, What::Gone)),
        ])
        .await;
        let doomed = "select concat_ws(' ', side, approved_by) from mirror.pending_delete";
        assert_eq!(texts(client, doomed).await, ["directus policy"]);
        assert_eq!(texts(client, outbox).await, ["directus"]);
        run(vec![at(7, see(Side::Directus, Who::Somebody, CARD, 1, What::Name(7)))]).await;
        assert!(texts(client, doomed).await.is_empty());
        let record = "select c.name || string_agg(t.tag, ',' order by t.tag) from canon.card c
            join canon.card_tag t on t.card_id = c.id group by c.name";
        assert_eq!(texts(client, record).await, ["n7t0,t2"]);
        let clash = "select decision || (observed ->> 'name') from mirror.conflict where field is null";
        assert_eq!(texts(client, clash).await, ["observed takenn7"]);
        // Directus's row is for the push to drop.
        assert_eq!(texts(client, outbox).await, ["airtable", "directus"]);

        // Where deletes are held, a person says yes; then one brings the record back.
        let (entity, record) = (String::from("note"), id(NOTE, 0));
        let yes = Decision::ApproveDelete { entity: entity.clone(), record, side: "airtable".into() };
        run(vec![
            at(8, see(Side::Directus, Who::Somebody, NOTE, 0, What::Gone)),
            decided(first + 2, yes),
        ])
        .await;
        assert_eq!(texts(client, doomed).await, ["airtable jeanne"]);
        let back = Decision::Restore { entity: entity.clone(), record, cells: BTreeMap::new() };
        run(vec![decided(first + 3, back)]).await;
        assert!(texts(client, doomed).await.is_empty());
        let lacking = "select side from mirror.outbox where entity_no = 2";
        assert_eq!(texts(client, lacking).await, ["airtable", "directus"]);
        run(vec![decided(first + 4, Decision::Delete { entity, record: id(NOTE, 1) })]).await;
        let doomed = "select concat_ws(' ', side, approved_by) from mirror.pending_delete order by side";
        assert_eq!(texts(client, doomed).await, ["airtable jeanne", "directus jeanne"]);
    });
}

/// More than five deletes of a small table in ten minutes: none of them goes on before a person has looked.
#[test]
fn apply_stops_a_mass_delete_before_it_is_pushed() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    lab.runtime.block_on(async {
        prepare(client).await;
        client.execute("delete from mirror.operation", &[]).await.unwrap();
        for no in 4..9_u8 {
            let created = see(Side::Directus, Who::Somebody, CARD, no, What::Name(1));
            let key = key(Side::Airtable, CARD, no).to_string();
            client
                .execute(
                    "insert into mirror.link (side, entity_no, side_key, record_id) values ('airtable', 1, $1, $2)",
                    &[&key, &id(CARD, no)],
                )
                .await
                .unwrap();
            let there = see(Side::Airtable, Who::Somebody, CARD, no, What::Name(1));
            apply(config, vec![delivery(0, &created), delivery(1, &there)], false, way_out()).await;
        }
        let gone = |no| see(Side::Airtable, Who::Somebody, CARD, no, What::Gone);
        let pending = "select concat_ws(' ', approved_by, stopped_by_count) from mirror.pending_delete";
        apply(config, (0..5).map(|no| delivery(10, &gone(no))).collect(), false, way_out()).await;
        assert_eq!(texts(client, pending).await, vec!["policy f"; 5]);
        apply(config, vec![delivery(20, &gone(5))], false, way_out()).await;
        assert_eq!(texts(client, pending).await, vec!["t"; 6]);
        let incident = "select code from mirror.incident where closed_at is null";
        assert_eq!(texts(client, incident).await, ["many_deletes_card"]);
    });
}

/// What one statement of a push sees of `apply`'s commit, the one before it may not have seen.
#[test]
fn apply_queueing_while_a_push_looks_is_not_lost_to_it() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    lab.runtime.block_on(async {
        prepare(client).await;
        client.execute("delete from mirror.operation", &[]).await.unwrap();
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let writer = Writer::open(config, mapping).await.unwrap();
        let password = config.config.get_password().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let books = writer.books(reading::pool(config, password.as_deref()).await.unwrap());
        let record = id(CARD, 0);
        // As `apply` does when something is owed after a batch.
        let queue = "insert into mirror.outbox (entity_no, record_id, side) values (1, $1, 'directus')
            on conflict (side, entity_no, record_id) do update set due_at = now(), attempt_count = 0";
        let due = "select concat_ws(' ', side, due_at <= now()) from mirror.outbox";
        let write = |no: u8| {
            let (id, side, kind) = (operation(Side::Directus, CARD, no), Side::Directus, OperationKind::Update);
            vec![(RecordId(record), Operation::new(id, side, kind, Vec::new()))]
        };
        let later = || [Again::after(RecordId(record), PATIENCE)];

        client.execute(queue, &[&record]).await.unwrap();
        assert_eq!(books.take_due(Side::Directus, 10).await.unwrap()[&CARD], [record]);
        client.execute(queue, &[&record]).await.unwrap();
        books.drop_due(Side::Directus, CARD, &[record]).await.unwrap();
        books.set_due(Side::Directus, CARD, &later()).await.unwrap();
        assert!(books.bind(CARD, &write(1)).await.unwrap().is_empty());
        assert_eq!(texts(client, due).await, ["directus t"]);

        books.take_due(Side::Directus, 10).await.unwrap();
        assert_eq!(books.bind(CARD, &write(2)).await.unwrap(), [RecordId(record)]);
        books.set_due(Side::Directus, CARD, &later()).await.unwrap();
        assert_eq!(texts(client, due).await, ["directus f"]);
        books.drop_due(Side::Directus, CARD, &[record]).await.unwrap();
        assert!(texts(client, due).await.is_empty());
    });
}

/// A record that is changed by nothing but our own writes is held with an incident; a person's edit lets it go.
#[test]
fn apply_holds_a_record_that_answers_itself_and_no_other() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    lab.runtime.block_on(async {
        prepare(client).await;
        let record = id(NOTE, 0);
        // Five writes were answered, by either side in turn; the sixth is on its way to Directus.
        for no in 1..=5_i16 {
            let (operation, side) = (Uuid::new_v4(), if no % 2 == 0 { "airtable" } else { "directus" });
            client
                .execute(
                    "insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells, bound_at, settled_at, answer_count)
                     values ($1, $2, 2, $3, 'update', '{}', now() - interval '1 h' + $4::int2 * interval '1 s', now(), $4)",
                    &[&operation, &side, &record, &no],
                )
                .await
                .unwrap();
        }
        client
            .execute("delete from mirror.operation where side = 'airtable' and settled_at is null", &[])
            .await
            .unwrap();
        // The side answers with another name; so it does to a first write to another record.
        let answered = |no| see(Side::Directus, Who::Us, NOTE, no, What::Name(3));
        let run = |at, event: Event| {
            let deliveries = vec![delivery(at, &event)];
            apply(config, deliveries, false, way_out())
        };
        run(0, answered(0)).await;
        run(1, answered(1)).await;
        let held = "select concat_ws(' ', record_id, side, field, code) from mirror.parked";
        assert_eq!(texts(client, held).await, [format!("{record} airtable * answers_itself")]);
        let open = "select code from mirror.incident where closed_at is null";
        assert_eq!(texts(client, open).await, ["answers_itself_note"]);
        let counts = "select concat_ws(' ', record_id, max(answer_count)) from mirror.operation
            where answer_count > 0 group by record_id order by 1";
        let expected = [format!("{record} 6"), format!("{} 1", id(NOTE, 1))];
        assert_eq!(texts(client, counts).await, expected);

        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let writer = Writer::open(config, mapping).await.unwrap();
        let password = config.config.get_password().map(|it| String::from_utf8(it.to_vec()).unwrap());
        let pool = reading::pool(config, password.as_deref()).await.unwrap();
        let books = writer.books(pool.clone());
        drop(writer);
        client.execute("update mirror.parked set parked_at = now() - interval '9 days'", &[]).await.unwrap();
        let standings = books.standings(Side::Airtable, NOTE, &[record, id(NOTE, 1)]).await.unwrap();
        let is_held: Vec<bool> = standings.iter().map(|it| it.restraints.is_parked).collect();
        assert_eq!(is_held, [true, false], "time alone does not let it go");
        assert_eq!(standings[0].parked_for, None);

        // By a person's edit, and by a person's word.
        run(2, see(Side::Airtable, Who::Somebody, NOTE, 0, What::Name(2))).await;
        assert!(texts(client, held).await.is_empty());
        assert!(texts(client, open).await.is_empty());
        assert_eq!(texts(client, counts).await, [format!("{} 1", id(NOTE, 1))]);
        client.execute("update mirror.operation set answer_count = 6 where record_id = $1", &[&id(NOTE, 1)]).await.unwrap();
        run(3, see(Side::Airtable, Who::Scan, NOTE, 1, What::Name(2))).await;
        let ids: Vec<String> = parked::parked(&pool, true).await.unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), 1);
        parked::retry(&pool, &ids).await.unwrap();
        assert!(texts(client, open).await.is_empty());
        assert!(texts(client, counts).await.is_empty());
    });
}

/// A value that Airtable fills in moves with our own write: it brings no record back that was deleted meanwhile.
#[test]
fn apply_takes_no_formula_for_an_edit_of_a_record_that_was_deleted() {
    let lab = Lab::open(TABLES);
    let (config, client) = &lab.databases[0];
    lab.runtime.block_on(async {
        for is_known in [true, false] {
            prepare(client).await;
            let upkeep = Upkeep::from([(NOTE, NAME, Side::Airtable)]);
            let mut news = is_known.then_some(upkeep);
            let gone = see(Side::Directus, Who::Somebody, NOTE, 0, What::Gone);
            let moved = see(Side::Airtable, Who::Us, NOTE, 0, What::Name(3));
            client
                .execute("update mirror.operation set cells = '{}' where side = 'airtable'", &[])
                .await
                .unwrap();
            let deliveries = vec![delivery(0, &gone), delivery(1, &moved)];
            apply_knowing(config, deliveries, false, way_out(), Box::new(move || news.take()))
                .await;
            let living = "select name from canon.note where deleted_at is null and id = ";
            let living = format!("{living} '{}'", id(NOTE, 0));
            assert_eq!(texts(client, &living).await.is_empty(), is_known);
        }
    });
}
