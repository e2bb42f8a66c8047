//! Pushes against the sandbox, with everything that goes wrong.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{AirtablePush, Place};
use crate::{
    mapping::{Mapping, read},
    model::{EntityNo, FieldNo, Incident, Notice, RecordId, SideKey},
    push::{Bound, NotedParts, Outcome, Pusher as _, Write},
    remote::airtable::{Client, Table},
    sandbox::{
        Actor, Edit, Fault, FaultKind, MIRROR_TOKEN, MIRROR_USER, NETWORK_BASE, OWNER_USER,
        Options, READER_TOKEN, Sandbox,
    },
};

const STARTUP: EntityNo = EntityNo(0);
const PROJECT: EntityNo = EntityNo(1);
const MEMBER: EntityNo = EntityNo(2);
pub(super) const NAME: FieldNo = FieldNo(0);
pub(super) const SECTOR: FieldNo = FieldNo(1);
const HEADCOUNT: FieldNo = FieldNo(2);
const RATING: FieldNo = FieldNo(3);
const NUMBER: FieldNo = FieldNo(4);
const LEGAL_FORM: FieldNo = FieldNo(5);
const PROJECT_STARTUP: FieldNo = FieldNo(1);
const STATUS: FieldNo = FieldNo(1);
const ROLES: FieldNo = FieldNo(2);

const MAPPING: &str = r#"
version = 1
[entity.startup]
table = "startup"
airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
[entity.startup.field]
name = { type = "text", airtable = "Nom" }
sector = { type = "select", airtable = { field = "Secteur", new_options = false } }
headcount = { type = "integer", airtable = "Effectif" }
rating = { type = "rating", airtable = "Note" }
number = { type = "integer", airtable = "N°" }
legal_form = { type = "text", airtable = "Forme juridique" }
[entity.project]
table = "project"
airtable = { base = "reseau", table = "Projets", uuid = "UUID" }
[entity.project.field]
name = { type = "text", airtable = "Nom du projet" }
startup = { type = "link", target = "startup", airtable = "Startup" }
[entity.member]
table = "member"
airtable = { base = "reseau", table = "Membres", uuid = "UUID" }
[entity.member.field]
name = { type = "text", airtable = "Nom complet" }
status = { type = "select", airtable = "Statut" }
roles = { type = "csv", airtable = "Rôles" }
"#;

/// A push to a sandbox.
pub(super) struct World {
    sandbox: Sandbox,
    push: AirtablePush,
    pub(super) parts: NotedParts,
    pub(super) client: Arc<Client>,
    notices: mpsc::Receiver<(String, Notice)>,
}

pub(super) struct Setup {
    pub(super) token: &'static str,
    pub(super) monthly_calls: Option<u64>,
    pub(super) new_options: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { token: MIRROR_TOKEN, monthly_calls: None, new_options: false }
    }
}

impl World {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(super) async fn with(setup: Setup) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let text = if setup.new_options {
            MAPPING.replace("new_options = false", "new_options = true")
        } else {
            MAPPING.to_owned()
        };
        let mapping = Arc::new(read(&text, "mapping.toml").unwrap());
        let looker = Client::new(sandbox.url(), MIRROR_TOKEN).unwrap();
        let places = places(&mapping, &looker.tables(NETWORK_BASE).await.unwrap());
        let client = Client::new(sandbox.url(), setup.token).unwrap();
        let client = Arc::new(client.with_timeout(Duration::from_millis(700)));
        let (told, notices) = mpsc::channel(64);
        let push = AirtablePush::new(
            Arc::clone(&client),
            mapping,
            Arc::new(move |entity| places.get(&entity).cloned()),
            setup.monthly_calls,
            told,
        );
        // What the one who looked has used does not count: two clients share this sandbox.
        sandbox.configure(|config| config.base_requests_per_second = 10);
        Self { sandbox, push, parts: NotedParts::default(), client, notices }
    }

    async fn send(&self, bounds: Vec<Bound>) -> Vec<(RecordId, Outcome)> {
        self.push.send(bounds, &self.parts).await
    }

    pub(super) async fn send_one(&self, bound: Bound) -> Outcome {
        let mut outcomes = self.send(vec![bound]).await;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0).1
    }

    fn edit(&self, edits: &[Edit]) -> Vec<String> {
        self.sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), edits).unwrap()
    }

    fn startup(&self, key: &str) -> Json {
        let records = self.sandbox.records(NETWORK_BASE, "Startups");
        records.into_iter().find(|(id, _)| id == key).map(|(_, cells)| cells).unwrap()
    }

    pub(super) fn startup_keys(&self, count: usize) -> Vec<String> {
        let records = self.sandbox.records(NETWORK_BASE, "Startups").into_iter();
        records.map(|(id, _)| id).take(count).collect()
    }

    pub(super) fn carrying(&self, record: RecordId) -> Vec<(String, Json)> {
        let records = self.sandbox.records(NETWORK_BASE, "Startups").into_iter();
        records.filter(|(_, cells)| cells["UUID"] == record.to_string()).collect()
    }

    /// The key of the record that a create has made.
    pub(super) fn key_of(&self, bound: &Bound) -> String {
        self.carrying(bound.record).remove(0).0
    }

    fn incident(&mut self) -> (String, String, String) {
        let (log, mut notice) = self.notices.try_recv().unwrap();
        let Incident { code, text } = notice.found.remove(0);
        (log, code, text)
    }

    fn stat(&self, name: &str) -> u64 {
        self.sandbox.stats()[name].as_u64().unwrap()
    }

    pub(super) async fn stop(self) {
        self.sandbox.stop().await.unwrap();
    }
}

fn places(mapping: &Mapping, tables: &[Table]) -> BTreeMap<EntityNo, Place> {
    let place = |entity: &crate::mapping::Entity| {
        let mapped = entity.airtable.as_ref().unwrap();
        let table = tables.iter().find(|table| table.name == mapped.table).unwrap();
        let id =
            |name: &str| table.fields.iter().find(|field| field.name == name).unwrap().id.clone();
        Place {
            base: NETWORK_BASE.into(),
            table: table.id.clone(),
            uuid: Some(id("UUID")),
            fields: (0..)
                .map(FieldNo)
                .zip(&entity.fields)
                .map(|(no, field)| (no, id(&field.airtable.as_ref().unwrap().field)))
                .collect(),
            labels: std::collections::BTreeMap::new(),
            presets: Vec::new(),
        }
    };
    (0..).map(EntityNo).zip(mapping.entities.iter().map(place)).collect()
}

fn new_id() -> RecordId {
    RecordId(Uuid::new_v4())
}

fn bound(entity: EntityNo, key: Option<&str>, write: Write) -> Bound {
    let key = key.map(SideKey::from);
    Bound { operation: Uuid::new_v4(), entity, record: new_id(), key, write, writes_id: false }
}

pub(super) fn create(cells: &[(FieldNo, Json)]) -> Bound {
    bound(STARTUP, None, Write::Create(cells.to_vec()))
}

pub(super) fn update(key: &str, cells: &[(FieldNo, Json)]) -> Bound {
    bound(STARTUP, Some(key), Write::Update(cells.to_vec()))
}

fn delete(key: &str) -> Bound {
    bound(STARTUP, Some(key), Write::Delete)
}

/// Field and code of a refusal, whose reason names `words`.
fn refused(outcome: &Outcome, words: &[&str]) -> (Option<FieldNo>, &'static str) {
    let Outcome::Refused { field, code, reason } = outcome else { panic!("{outcome:?}") };
    for word in words {
        assert!(reason.contains(word), "{word} is not in: {reason}");
    }
    (*field, code)
}

pub(super) fn is_taken(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Taken { .. })
}

fn set(table: &str, record: &str, fields: Json) -> Edit {
    let Json::Object(fields) = fields else { panic!("not an object") };
    Edit::Update { table: table.into(), record: record.into(), fields }
}

fn gone(table: &str, record: &str) -> Edit {
    Edit::Delete { table: table.into(), record: record.into() }
}

#[tokio::test]
async fn push_airtable_writes_ten_records_a_request_and_gives_the_keys_in_order() {
    let world = World::start().await;
    let before = world.stat("request_count");
    let creates: Vec<Bound> =
        (0..25).map(|no| create(&[(NAME, json!(format!("Voilier {no}")))])).collect();
    let outcomes = world.send(creates.clone()).await;
    assert_eq!(world.stat("request_count") - before, 3);
    let mut keys = Vec::new();
    for (no, (bound, (record, outcome))) in creates.iter().zip(&outcomes).enumerate() {
        assert_eq!(bound.record, *record);
        let Outcome::Taken { key: Some(key) } = outcome else { panic!("{outcome:?}") };
        let cells = world.startup(&key.0);
        assert_eq!(cells["Nom"], format!("Voilier {no}"));
        assert_eq!(cells["UUID"], record.to_string());
        keys.push(key.to_string());
    }
    // The answer was lost, and they are sent again: nothing is made twice.
    let again = world.send(creates).await;
    assert_eq!(again, outcomes);
    let changes = vec![
        update(&keys[0], &[(NAME, json!("Autre")), (HEADCOUNT, json!(12))]),
        update(&keys[1], &[(NAME, json!(null))]),
        delete(&keys[2]),
    ];
    let before = world.stat("request_count");
    assert!(world.send(changes).await.iter().all(|(_, outcome)| is_taken(outcome)));
    assert_eq!(world.stat("request_count") - before, 2);
    assert_eq!(world.startup(&keys[0])["Nom"], "Autre");
    assert_eq!(world.startup(&keys[0])["Effectif"], 12);
    assert!(world.startup(&keys[1]).get("Nom").is_none());
    assert!(!world.sandbox.records(NETWORK_BASE, "Startups").iter().any(|(id, _)| *id == keys[2]));
    assert_eq!(world.client.own_user().await.unwrap(), MIRROR_USER);
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_id_of_a_record_that_lacks_it_is_an_update() {
    let world = World::start().await;
    let made = world.edit(&[Edit::Create {
        table: "Startups".into(),
        fields: serde_json::from_value(json!({ "Nom": "Sans numéro" })).unwrap(),
    }]);
    let bound = Bound { writes_id: true, ..update(&made[0], &[]) };
    let record = bound.record;
    assert!(is_taken(&world.send_one(bound).await));
    let cells = world.startup(&made[0]);
    assert_eq!(
        (&cells["Nom"], &cells["UUID"]),
        (&json!("Sans numéro"), &json!(record.to_string()))
    );
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_one_bad_value_in_ten_is_found_and_the_nine_are_written() {
    let world = World::start().await;
    let mut bounds: Vec<Bound> = (0..10)
        .map(|no| create(&[(NAME, json!(format!("Cellule {no}"))), (RATING, json!(no % 5 + 1))]))
        .collect();
    bounds[6].write = Write::Create(vec![(NAME, json!("Cellule 6")), (RATING, json!(99))]);
    let outcomes = world.send(bounds).await;
    for (no, (record, outcome)) in outcomes.iter().enumerate() {
        if no == 6 {
            let told = refused(outcome, &["`Note`", "`Startups`", "correct it"]);
            assert_eq!(told, (Some(RATING), "value_refused"));
        } else {
            assert!(is_taken(outcome), "{no}: {outcome:?}");
            assert_eq!(world.carrying(*record).len(), 1);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_missing_option_waits_for_a_person() {
    let world = World::start().await;
    let keys = world.startup_keys(3);
    let outcomes = world
        .send(vec![
            update(&keys[0], &[(SECTOR, json!("Spatial")), (NAME, json!("A"))]),
            update(&keys[1], &[(SECTOR, json!("Santé"))]),
            update(&keys[2], &[(SECTOR, json!("Spatial"))]),
        ])
        .await;
    for at in [0, 2] {
        let told = refused(&outcomes[at].1, &["`Secteur`", "new_options = true"]);
        assert_eq!(told, (Some(SECTOR), "option_missing"));
    }
    assert!(is_taken(&outcomes[1].1));
    assert_eq!(world.startup(&keys[1])["Secteur"], "Santé");
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_new_option_is_added_where_allowed_and_bends_no_other_cell() {
    let world = World::with(Setup { new_options: true, ..Setup::default() }).await;
    let keys = world.startup_keys(2);
    let outcomes = world
        .send(vec![
            create(&[(NAME, json!("Fusée")), (SECTOR, json!("Spatial"))]),
            update(&keys[0], &[(SECTOR, json!("Spatial"))]),
            // What typecast would have read as a number.
            update(&keys[1], &[(SECTOR, json!("Abysses")), (HEADCOUNT, json!("12"))]),
        ])
        .await;
    let Outcome::Taken { key: Some(key) } = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert_eq!(world.startup(&key.0)["Secteur"], "Spatial");
    assert_eq!(world.startup(&keys[0])["Secteur"], "Spatial");
    assert!(is_taken(&outcomes[1].1));
    assert_eq!(refused(&outcomes[2].1, &["`Effectif`"]), (Some(HEADCOUNT), "value_refused"));
    // The next time it is there.
    let before = world.stat("request_count");
    assert!(is_taken(&world.send_one(update(&keys[1], &[(SECTOR, json!("Spatial"))])).await));
    assert_eq!(world.stat("request_count") - before, 1);
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_option_that_two_fields_could_lack_is_found_by_halves() {
    let world = World::start().await;
    let (member, _) = world.sandbox.records(NETWORK_BASE, "Membres").remove(0);
    let cells =
        vec![(NAME, json!("Jeanne Martin")), (STATUS, json!("Expert")), (ROLES, json!(["Expert"]))];
    let outcome = world.send_one(bound(MEMBER, Some(&member), Write::Update(cells))).await;
    assert_eq!(refused(&outcome, &["`Statut`", "`Membres`"]), (Some(STATUS), "option_missing"));
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_record_that_was_deleted_is_gone_and_the_others_go_on() {
    let world = World::start().await;
    let keys = world.startup_keys(4);
    world.edit(&[gone("Startups", &keys[0]), gone("Startups", &keys[1])]);
    let outcomes = world
        .send(vec![
            update(&keys[0], &[(NAME, json!("A"))]),
            update(&keys[2], &[(NAME, json!("B"))]),
            delete(&keys[1]),
            delete(&keys[3]),
        ])
        .await;
    let outcomes: Vec<&Outcome> = outcomes.iter().map(|(_, outcome)| outcome).collect();
    assert!(
        matches!(
            outcomes[..],
            [
                Outcome::Gone,
                Outcome::Taken { key: None },
                Outcome::Gone,
                Outcome::Taken { key: None }
            ]
        ),
        "{outcomes:?}"
    );
    assert_eq!(world.startup(&keys[2])["Nom"], "B");
    // Where the server passes over what it does not know.
    world.sandbox.configure(|config| config.unknown_delete_is_refused = false);
    assert_eq!(world.send_one(delete(&keys[0])).await, Outcome::Gone);
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_link_to_what_is_not_there_is_named() {
    let world = World::start().await;
    let keys = world.startup_keys(2);
    world.edit(&[gone("Startups", &keys[0])]);
    let (project, _) = world.sandbox.records(NETWORK_BASE, "Projets").remove(0);
    let link = |name: &str, to: &str| {
        let cells = vec![(NAME, json!(name)), (PROJECT_STARTUP, json!([to]))];
        bound(PROJECT, None, Write::Create(cells))
    };
    let outcomes =
        world.send(vec![link("A", &keys[0]), link("B", &keys[1]), link("C", &project)]).await;
    let told = refused(&outcomes[0].1, &["`Startup`", "`Projets`", "deleted"]);
    assert_eq!(told, (Some(PROJECT_STARTUP), "link_gone"));
    assert!(is_taken(&outcomes[1].1));
    let told = refused(&outcomes[2].1, &["`Startup`", "another table"]);
    assert_eq!(told, (Some(PROJECT_STARTUP), "link_elsewhere"));
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_field_that_cannot_be_written_is_everybodys_and_named() {
    let world = World::start().await;
    let keys = world.startup_keys(3);
    let outcomes = world
        .send(vec![
            update(&keys[0], &[(NAME, json!("A")), (NUMBER, json!(1))]),
            update(&keys[1], &[(NUMBER, json!(2))]),
            update(&keys[2], &[(NAME, json!("C"))]),
        ])
        .await;
    for at in [0, 1] {
        let told = refused(&outcomes[at].1, &["`N°`", "from airtable"]);
        assert_eq!(told, (Some(NUMBER), "field_computed"));
    }
    assert!(is_taken(&outcomes[2].1));

    let (table, field) = (String::from("Startups"), String::from("Effectif"));
    let flag = Edit::Flag { table, field: Some(field), flag: "locked".into(), on: true };
    world.edit(&[flag]);
    let outcomes = world
        .send(vec![
            update(&keys[0], &[(NAME, json!("D")), (HEADCOUNT, json!(1))]),
            update(&keys[1], &[(NAME, json!("E"))]),
        ])
        .await;
    let told = refused(&outcomes[0].1, &["`Effectif`", "permissions"]);
    assert_eq!(told, (Some(HEADCOUNT), "field_locked"));
    assert!(is_taken(&outcomes[1].1));

    // Renamed: found all the same. Deleted: named.
    let rename = |field: &str, name: &str| Edit::RenameField {
        table: "Startups".into(),
        field: field.into(),
        name: name.into(),
    };
    world.edit(&[rename("Note", "Étoiles"), rename("Ville", "Note")]);
    let outcome =
        world.send_one(update(&keys[0], &[(NAME, json!("F")), (RATING, json!(99))])).await;
    assert_eq!(refused(&outcome, &["`Note`"]), (Some(RATING), "value_refused"));
    world.edit(&[Edit::DeleteField { table: "Startups".into(), field: "Forme juridique".into() }]);
    let cells = [(NAME, json!("G")), (LEGAL_FORM, json!("SAS"))];
    let outcome = world.send_one(create(&cells)).await;
    assert_eq!(
        refused(&outcome, &["`Forme juridique`", "restore"]),
        (Some(LEGAL_FORM), "field_gone")
    );
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_id_that_several_records_carry_is_told_with_their_keys() {
    let world = World::start().await;
    let bound = create(&[(NAME, json!("Double"))]);
    assert!(is_taken(&world.send_one(bound.clone()).await));
    let (first, _) = world.carrying(bound.record).remove(0);
    let copy = Edit::Duplicate { table: "Startups".into(), record: first.clone() };
    let second = world.edit(&[copy]).remove(0);
    let other = create(&[(NAME, json!("Autre"))]);
    let outcomes = world.send(vec![bound.clone(), other]).await;
    let told = refused(&outcomes[0].1, &[&first, &second, "`UUID`"]);
    assert_eq!(told, (None, "id_twice"));
    assert!(is_taken(&outcomes[1].1));
    // A person mends it, and it goes through by itself.
    world.edit(&[set("Startups", &second, json!({ "UUID": null }))]);
    assert_eq!(
        world.send_one(bound).await,
        Outcome::Taken { key: Some(SideKey::from(first.as_str())) }
    );
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_side_that_is_shut_waits_and_is_told_once_mended_goes_on() {
    let mut world = World::start().await;
    let synced =
        |on| Edit::Flag { table: "Startups".into(), field: None, flag: "synced".into(), on };
    world.edit(&[synced(true)]);
    let bound = create(&[(NAME, json!("A"))]);
    assert!(matches!(world.send_one(bound.clone()).await, Outcome::Later { after: Some(_) }));
    let (log, code, text) = world.incident();
    assert_eq!((log, code.as_str()), (format!("airtable:{NETWORK_BASE}"), "table_synced"));
    assert!(text.contains("`Startups`"), "{text}");
    world.edit(&[synced(false)]);
    assert!(is_taken(&world.send_one(bound).await));
    let (_, notice) = world.notices.try_recv().unwrap();
    assert_eq!(notice, Notice::well("writing startup"), "the incident is over");
    world.stop().await;

    for (token, code) in [(READER_TOKEN, "table_forbidden"), ("patRevoked.0", "token_refused")] {
        let mut world = World::with(Setup { token, ..Setup::default() }).await;
        let outcome = world.send_one(create(&[(NAME, json!("A"))])).await;
        assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
        assert_eq!(world.incident().1, code);
        world.stop().await;
    }
}

#[tokio::test]
async fn push_airtable_without_an_answer_is_sent_again_and_made_once() {
    let world = World::start().await;
    for kind in [
        FaultKind::Error500,
        FaultKind::Error502,
        FaultKind::Error503,
        FaultKind::Reset,
        FaultKind::Drop,
        FaultKind::Truncate,
        FaultKind::Timeout,
    ] {
        for is_applied in [false, true] {
            let fault = Fault::of_requests(kind, "update", 1);
            world.sandbox.inject(if is_applied { fault.after_the_write() } else { fault });
            let bound = create(&[(NAME, json!(format!("{kind:?}")))]);
            let mut outcome = world.send_one(bound.clone()).await;
            // Said to be safe to send again, and done so at once.
            let is_retried = matches!(kind, FaultKind::Error502 | FaultKind::Error503);
            if !is_retried {
                assert_eq!(outcome, Outcome::Unanswered, "{kind:?}");
                outcome = world.send_one(bound.clone()).await;
            }
            let found = world.carrying(bound.record);
            assert_eq!(found.len(), 1, "{kind:?}");
            let key = Some(SideKey::from(found[0].0.as_str()));
            assert_eq!(outcome, Outcome::Taken { key }, "{kind:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_refused_for_the_rate_waits_for_the_whole_base() {
    let world = World::start().await;
    world.sandbox.inject(Fault::of_requests(FaultKind::RateLimit, "update", 1));
    let bounds = |count: usize| -> Vec<Bound> {
        (0..count).map(|no| create(&[(NAME, json!(no.to_string()))])).collect()
    };
    let before = world.stat("request_count");
    let outcomes = world.send(bounds(10)).await;
    let later = |(_, outcome): &(RecordId, Outcome)| match outcome {
        Outcome::Later { after: Some(after) } => *after > Duration::from_secs(25),
        _ => false,
    };
    assert!(outcomes.iter().all(later), "{outcomes:?}");
    let outcomes = world.send(bounds(10)).await;
    assert!(outcomes.iter().all(later), "{outcomes:?}");
    assert_eq!(world.stat("request_count") - before, 1);
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_waits_at_the_months_limit_and_reading_goes_on() {
    let mut world = World::with(Setup { monthly_calls: Some(100), ..Setup::default() }).await;
    let calls = |count| crate::remote::airtable::Calls {
        month: crate::remote::airtable::this_month(),
        count,
    };
    world.client.know_calls(NETWORK_BASE, calls(94));
    assert!(is_taken(&world.send_one(create(&[(NAME, json!("A"))])).await));
    let before = world.stat("request_count");
    let outcome = world.send_one(create(&[(NAME, json!("B"))])).await;
    assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
    assert_eq!(world.stat("request_count"), before);
    let (_, code, text) = world.incident();
    assert_eq!(code, "budget_spent");
    assert!(text.starts_with("95 of 100 API calls"), "{text}");
    world.client.tables(NETWORK_BASE).await.unwrap();
    assert_eq!(world.client.calls_this_month(NETWORK_BASE), 96);
    world.sandbox.inject(Fault::of_requests(FaultKind::Billing, "update", 1));
    world.client.know_calls(NETWORK_BASE, calls(0));
    let outcome = world.send_one(create(&[(NAME, json!("B"))])).await;
    assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
    assert_eq!(world.incident().1, "quota_spent");
    world.stop().await;
}

#[tokio::test]
async fn push_airtable_bulk_never_meets_a_429() {
    let world = World::start().await;
    world.sandbox.configure(|config| config.base_requests_per_second = 5);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bounds: Vec<Bound> =
        (0..300).map(|no| create(&[(NAME, json!(format!("Masse {no}")))])).collect();
    let outcomes = world.send(bounds).await;
    assert!(outcomes.iter().all(|(_, outcome)| is_taken(outcome)));
    assert_eq!(world.stat("refused_by_rate_count"), 0);
    world.stop().await;
}
