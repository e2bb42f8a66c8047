//! Pushes to a real Directus, with everything that goes wrong.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OnceCell, mpsc},
};
use uuid::Uuid;

use super::DirectusPush;
use crate::{
    config::Secret,
    demo::{
        cache::postgres_bin,
        cluster::Cluster,
        source::{Secrets, Source},
    },
    mapping::{AccountGuard, Accounts, Mapping, read},
    model::{EntityNo, FieldNo, Incident, Notice, RecordId, SideKey},
    push::{
        Bound, NotedParts, Outcome, Pusher as _, Write,
        password::{Missing, Passwords},
    },
    remote::directus::{
        Client,
        setup::{Account, EMAIL},
    },
};

static SOURCE: OnceCell<(Cluster, Source)> = OnceCell::const_new();

/// One Directus for all tests of this file. On `startup`, a SIREN is unique and a head count has a limit.
async fn source() -> &'static (Cluster, Source) {
    let make = async || {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        let source = Source::start(&cluster, "directus", &Secrets::new()).await.unwrap();
        let rules = "create unique index on startup (siren);
             alter table startup add constraint few check (headcount < 1000000)";
        cluster.sql("directus", rules).await.unwrap();
        (cluster, source)
    };
    SOURCE.get_or_init(make).await
}

pub(super) struct World {
    cluster: &'static Cluster,
    source: &'static Source,
    pub(super) mapping: Arc<Mapping>,
    push: DirectusPush,
    pub(super) parts: NotedParts,
    notices: mpsc::Receiver<(String, Notice)>,
}

impl World {
    /// The next that was told: log, code, text.
    fn incident(&mut self) -> (String, String, String) {
        let (log, mut notice) = self.notices.try_recv().unwrap();
        let Incident { code, text } = notice.found.remove(0);
        (log, code, text)
    }

    pub(super) async fn start() -> Self {
        let (_, source) = source().await;
        Self::at(&source.server.url(), &source.push_token).await
    }

    /// With another address or token than the right ones.
    async fn at(url: &str, token: &str) -> Self {
        let (cluster, source) = source().await;
        let mapping =
            Arc::new(read(include_str!("../../../mapping.toml"), "mapping.toml").unwrap());
        let (sender, notices) = mpsc::channel(10);
        let client = Client::new(url, token).unwrap().with_timeout(Duration::from_secs(20));
        let push = DirectusPush::new(Arc::new(client), Arc::clone(&mapping), sender);
        Self { cluster, source, mapping, push, parts: NotedParts::default(), notices }
    }

    pub(super) fn entity(&self, name: &str) -> EntityNo {
        let at = self.mapping.entities.iter().position(|entity| entity.name == name).unwrap();
        EntityNo(u16::try_from(at).unwrap())
    }

    pub(super) fn field(&self, entity: &str, name: &str) -> FieldNo {
        let entity = self.mapping.entity(self.entity(entity));
        let at = entity.fields.iter().position(|field| field.name == name).unwrap();
        FieldNo(u16::try_from(at).unwrap())
    }

    pub(super) fn cells(&self, entity: &str, cells: &[(&str, Json)]) -> Vec<(FieldNo, Json)> {
        cells.iter().map(|(name, value)| (self.field(entity, name), value.clone())).collect()
    }

    pub(super) fn create(&self, entity: &str, cells: &[(&str, Json)]) -> Bound {
        let cells = self.cells(entity, cells);
        bound(self.entity(entity), Uuid::new_v4(), None, Write::Create(cells))
    }

    fn update(&self, entity: &str, record: RecordId, cells: &[(&str, Json)]) -> Bound {
        let cells = self.cells(entity, cells);
        let key = Some(SideKey::from(record.to_string().as_str()));
        bound(self.entity(entity), record.0, key, Write::Update(cells))
    }

    async fn send(&self, bounds: &[Bound]) -> Vec<Outcome> {
        let outcomes = self.push.send(bounds.to_vec(), &self.parts).await;
        let sent: Vec<RecordId> = bounds.iter().map(|bound| bound.record).collect();
        let answered: Vec<RecordId> = outcomes.iter().map(|(record, _)| *record).collect();
        assert_eq!(sent, answered);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub(super) async fn send_one(&self, bound: &Bound) -> Outcome {
        self.send(std::slice::from_ref(bound)).await.remove(0)
    }

    pub(super) async fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.cluster.sql("directus", sql).await.unwrap()
    }

    /// The one value that the query gives.
    async fn value(&self, sql: &str) -> Option<String> {
        self.sql(sql).await.remove(0).remove(0)
    }

    pub(super) fn refused(
        &self,
        outcome: &Outcome,
        entity: &str,
        field: Option<&str>,
        code: &str,
    ) -> String {
        let Outcome::Refused { field: at, code: said, reason } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((*at, *said), (field.map(|name| self.field(entity, name)), code), "{reason}");
        reason.clone()
    }
}

fn bound(entity: EntityNo, record: Uuid, key: Option<SideKey>, write: Write) -> Bound {
    let (operation, record) = (Uuid::new_v4(), RecordId(record));
    Bound { operation, entity, record, key, write, writes_id: false }
}

/// The writes as one batch.
fn together(mut bounds: Vec<Bound>) -> Vec<Bound> {
    let operation = Uuid::new_v4();
    for bound in &mut bounds {
        bound.operation = operation;
    }
    bounds
}

pub(super) const TAKEN: Outcome = Outcome::Taken { key: None };

#[tokio::test]
async fn push_directus_batch_is_one_transaction_with_the_operation_of_ours() {
    let world = World::start().await;
    let name = |no: usize| json!(format!("Harbour {no}"));
    let creates = (0..60).map(|no| world.create("startup", &[("name", name(no))]));
    let creates = together(creates.collect());
    assert_eq!(world.send(&creates).await, vec![TAKEN; 60]);
    let agent = format!("plait/{} op={}", env!("CARGO_PKG_VERSION"), creates[0].operation);
    let traced = format!(
        "select count(distinct s.xmin::text), count(*) from startup s
         join directus_activity a on a.item = s.id::text and a.xmin = s.xmin and a.action = 'create'
         where a.user_agent = '{agent}'"
    );
    assert_eq!(world.sql(&traced).await, [[Some("1".to_owned()), Some("60".to_owned())]]);

    let record = creates[7].record;
    let update =
        world.update("startup", record, &[("city", json!("Lyon")), ("headcount", json!(9))]);
    assert_eq!(world.send_one(&update).await, TAKEN);
    let row =
        format!("select concat_ws(',', name, city, headcount) from startup where id = '{record}'");
    assert_eq!(world.value(&row).await.as_deref(), Some("Harbour 7,Lyon,9"));

    let delete = bound(update.entity, record.0, update.key.clone(), Write::Delete);
    assert_eq!(world.send_one(&delete).await, TAKEN);
    assert_eq!(world.send_one(&delete).await, Outcome::Gone);
    assert_eq!(world.send_one(&update).await, Outcome::Gone);
}

#[tokio::test]
async fn push_directus_bad_records_in_a_batch_are_told_and_all_others_written() {
    let world = World::start().await;
    let siren = format!("{:09}", rand::random_range(0..1_000_000_000_u32));
    let first = world.create("startup", &[("siren", json!(siren))]);
    assert_eq!(world.send_one(&first).await, TAKEN);
    let creates = (0..50).map(|no| match no {
        7 => world.create("startup", &[("name", json!("x")), ("city", json!("é".repeat(300)))]),
        21 => world.create("startup", &[("name", json!("x")), ("siren", json!(siren))]),
        33 => world.create(
            "startup",
            &[("name", json!("x")), ("headcount", json!(2_000_000)), ("city", json!("Lyon"))],
        ),
        48 => world.create("startup", &[("founded_on", json!("yesterday")), ("name", json!("x"))]),
        _ => world.create("startup", &[("name", json!("x")), ("city", json!("Lyon"))]),
    });
    let creates = together(creates.collect());
    let outcomes = world.send(&creates).await;
    for (no, outcome) in outcomes.iter().enumerate() {
        match no {
            7 => drop(world.refused(outcome, "startup", Some("city"), "too_long")),
            21 => {
                let said = world.refused(outcome, "startup", Some("siren"), "not_unique");
                assert!(said.contains("another record") && !said.contains(&siren), "{said}");
            }
            33 => drop(world.refused(outcome, "startup", Some("headcount"), "value_refused")),
            48 => drop(world.refused(outcome, "startup", Some("founded_on"), "value_refused")),
            _ => assert_eq!(*outcome, TAKEN, "{no}"),
        }
    }
    let ids: Vec<String> = creates.iter().map(|bound| format!("'{}'", bound.record)).collect();
    let count =
        format!("select count(*) from startup where city = 'Lyon' and id in ({})", ids.join(","));
    assert_eq!(world.value(&count).await.as_deref(), Some("46"));
    // The one with too many people was made before the search found them; the rest of it follows by itself.
    let head_count = format!("select headcount from startup where id = '{}'", creates[33].record);
    assert_eq!(world.sql(&head_count).await, [[None]]);
}

#[tokio::test]
async fn push_directus_choices_of_a_field_are_those_that_it_is_limited_to() {
    let (_, source) = source().await;
    let client = Client::new(&source.server.url(), &source.push_token).unwrap();
    let stages = client.choices("project", "stage").await.unwrap().unwrap();
    assert!(stages.contains(&"pitch".to_owned()), "{stages:?}");
    assert_eq!(client.choices("startup", "name").await.unwrap(), None);
}

#[tokio::test]
async fn push_directus_column_that_is_named_first_is_not_blamed_for_another() {
    let world = World::start().await;
    let long = json!("é".repeat(300));
    let row = |record: RecordId| {
        format!("select concat_ws(',', city, headcount, name) from startup where id = '{record}'")
    };
    // Directus says `city` or `headcount` of both: they come first in the statement.
    let create = world.create(
        "startup",
        &[("city", json!("Lyon")), ("headcount", json!(7)), ("name", long.clone())],
    );
    let said = world.refused(&world.send_one(&create).await, "startup", Some("name"), "too_long");
    assert!(said.contains("`name`"), "{said}");
    assert_eq!(world.value(&row(create.record)).await.as_deref(), Some("Lyon,7"));
    let update = world.update(
        "startup",
        create.record,
        &[("headcount", json!(9)), ("city", json!("Nantes")), ("name", long.clone())],
    );
    world.refused(&world.send_one(&update).await, "startup", Some("name"), "too_long");
    assert_eq!(world.value(&row(create.record)).await.as_deref(), Some("Nantes,9"));

    // Two are at fault, in whichever half: one after the other is found, and the number goes at once.
    let cells = [("city", long.clone()), ("headcount", json!(3)), ("name", long)];
    let twice = world.create("startup", &cells);
    let Outcome::Refused { field: Some(first), code: "too_long", .. } =
        world.send_one(&twice).await
    else {
        panic!("not refused for a cell")
    };
    let (first, second) =
        if first == world.field("startup", "city") { ("city", "name") } else { ("name", "city") };
    let rest: Vec<_> = cells.iter().filter(|(name, _)| *name != first).cloned().collect();
    let rest = world.update("startup", twice.record, &rest);
    world.refused(&world.send_one(&rest).await, "startup", Some(second), "too_long");
    assert_eq!(world.value(&row(twice.record)).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn push_directus_member_with_the_e_mail_of_another_is_told_so() {
    let world = World::start().await;
    let email = format!("{}@exemple.fr", Uuid::new_v4());
    let member = |email: String| {
        world.create("member", &[("email", json!(email)), ("last_name", json!("MARTIN"))])
    };
    assert_eq!(world.send_one(&member(email.clone())).await, TAKEN);
    let batch = together(vec![
        member(format!("{}@exemple.fr", Uuid::new_v4())),
        member(email.to_uppercase()),
        member("x@localhost".into()),
    ]);
    let outcomes = world.send(&batch).await;
    assert_eq!(outcomes[0], TAKEN);
    let said = world.refused(&outcomes[1], "member", Some("email"), "email_in_use");
    assert!(!said.contains("exemple"), "{said}");
    world.refused(&outcomes[2], "member", Some("email"), "email_refused");
}

#[tokio::test]
async fn push_directus_link_to_what_is_not_there_yet_waits() {
    let world = World::start().await;
    let link = json!(Uuid::new_v4());
    let batch = together(vec![
        world.create("project", &[("name", json!("a"))]),
        world.create("project", &[("name", json!("b")), ("startup_id", link)]),
    ]);
    let outcomes = world.send(&batch).await;
    assert_eq!(outcomes[0], TAKEN);
    assert!(matches!(outcomes[1], Outcome::Later { after: Some(_) }), "{:?}", outcomes[1]);
}

#[tokio::test]
async fn push_directus_set_sent_again_has_each_element_once() {
    let world = World::start().await;
    let email = || json!(format!("{}@exemple.fr", Uuid::new_v4()));
    let members: Vec<Bound> =
        (0..3).map(|_| world.create("member", &[("email", email())])).collect();
    assert_eq!(world.send(&members).await, vec![TAKEN; 3]);
    let element = |no: usize| json!(members[no].record.to_string());
    let set = |add: &[Json], remove: &[&str]| json!({ "add": add, "remove": remove });
    let project = world.create(
        "project",
        &[("name", json!("Harbour")), ("interested", set(&[element(0), element(1)], &[]))],
    );
    assert_eq!(world.send_one(&project).await, TAKEN);
    assert_eq!(world.send_one(&project).await, TAKEN);
    let record = project.record;
    let rows = format!(
        "select id::text, member::text from project_interest where project = '{record}' order by id"
    );
    let held = world.sql(&rows).await;
    assert_eq!(held.len(), 2);
    let first = held[0][0].clone().unwrap();
    let change = world.update(
        "project",
        record,
        &[("interested", set(&[element(1), element(2)], &[&first]))],
    );
    assert_eq!(world.send_one(&change).await, TAKEN);
    assert_eq!(world.send_one(&change).await, TAKEN);
    let members_of: Vec<Option<String>> =
        world.sql(&rows).await.into_iter().map(|mut row| row.remove(1)).collect();
    let expected = [1, 2].map(|no| Some(members[no].record.to_string()));
    assert_eq!(members_of, expected);
    let traced = format!(
        "select count(*) from directus_activity where collection = 'project_interest'
         and user_agent like '%op={}'",
        change.operation
    );
    assert_eq!(world.value(&traced).await.as_deref(), Some("2"));

    // Codes are elements as well; one that is too long is the set's fault.
    let member = members[0].record;
    let roles = world.update("member", member, &[("roles", set(&[json!("investor")], &[]))]);
    assert_eq!(world.send_one(&roles).await, TAKEN);
    let long = world.update("member", member, &[("roles", set(&[json!("x".repeat(300))], &[]))]);
    world.refused(&world.send_one(&long).await, "member", Some("roles"), "set_refused");
}

/// Hands everything on to `to`; while `loses`, the next answer is lost.
async fn proxy(to: String, loses: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&to).await.unwrap();
            let loses = Arc::clone(&loses);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = upstream.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                );
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                    if loses.swap(false, Ordering::SeqCst) {
                        return;
                    }
                    if to_client.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn push_directus_lost_answer_is_sent_again_and_makes_nothing_twice() {
    let (_, source) = source().await;
    let loses = Arc::new(AtomicBool::new(true));
    let address = source.server.url().replace("http://", "");
    let url = proxy(address, Arc::clone(&loses)).await;
    let world = World::at(&url, &source.push_token).await;
    let creates = (0..5).map(|_| world.create("startup", &[("name", json!("lost"))]));
    let creates = together(creates.collect());
    assert_eq!(world.send(&creates).await, vec![Outcome::Unanswered; 5]);
    // One more, as when the batch is bound anew.
    let mut again = creates.clone();
    let mut more = world.create("startup", &[("name", json!("new"))]);
    more.operation = creates[0].operation;
    again.push(more);
    assert_eq!(world.send(&again).await, vec![TAKEN; 6]);
    let traced = format!(
        "select count(*) from directus_activity where action = 'create' and user_agent like '%op={}'",
        creates[0].operation
    );
    assert_eq!(world.value(&traced).await.as_deref(), Some("6"));
    loses.store(true, Ordering::SeqCst);
    let update = world.update("startup", creates[0].record, &[("city", json!("Lyon"))]);
    assert_eq!(world.send_one(&update).await, Outcome::Unanswered);
    assert_eq!(world.send_one(&update).await, TAKEN);
}

#[tokio::test]
async fn push_directus_that_is_shut_waits_and_a_person_is_told() {
    let (_, source) = source().await;
    let mut world = World::at(&source.server.url(), "not-the-token").await;
    let create = world.create("startup", &[("name", json!("x"))]);
    let outcome = world.send_one(&create).await;
    assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
    let (log, code, text) = world.incident();
    assert_eq!((log.as_str(), code.as_str()), ("directus", "token_refused"));
    assert!(text.contains("plait setup directus") && !text.contains("not-the-token"), "{text}");

    let nobody = World::at("http://127.0.0.1:1", &source.push_token).await;
    let outcome = nobody.send_one(&create).await;
    assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
}

#[tokio::test]
async fn push_directus_field_without_the_right_is_refused_alone() {
    let (cluster, _) = source().await;
    let other = Source::start(cluster, "rights", &Secrets::new()).await.unwrap();
    let mut world = World::at(&other.server.url(), &other.push_token).await;
    let batch = together(vec![
        world.create("startup", &[("name", json!("x")), ("city", json!("Lyon"))]),
        world.create("startup", &[("name", json!("y"))]),
    ]);
    let rest = other.admin_rest();
    let found =
        "/permissions?filter[collection][_eq]=startup&filter[action][_eq]=create&fields=id,fields";
    let permission = rest.get(found).await.unwrap()[0].clone();
    let path = format!("/permissions/{}", permission["id"]);
    let mut fields: Vec<Json> = permission["fields"].as_array().unwrap().clone();
    fields.retain(|field| field != "city");
    rest.patch(&path, &json!({ "fields": fields })).await.unwrap();
    let outcomes = world.send(&batch).await;
    let said = world.refused(&outcomes[0], "startup", Some("city"), "field_forbidden");
    assert!(said.contains("plait setup directus"), "{said}");
    assert_eq!(outcomes[1], TAKEN);

    rest.delete(&path).await.unwrap();
    let outcome = world.send_one(&batch[0]).await;
    assert!(matches!(outcome, Outcome::Later { after: Some(_) }), "{outcome:?}");
    let (_, code, text) = world.incident();
    assert_eq!(code, "collection_forbidden");
    assert!(text.contains("may not create records of the collection `startup`"), "{text}");
    assert!(world.source.server.pid().is_some());
    other.server.remove().await.unwrap();
}

#[tokio::test]
async fn push_directus_administrator_is_written_to_by_nobody() {
    let world = World::start().await;
    let rest = world.source.admin_rest();
    let member = world.create("member", &[("email", json!("membre.simple@exemple.fr"))]);
    assert_eq!(world.send_one(&member).await, TAKEN);
    let user = async |email: &str, more: Json| -> RecordId {
        let mut body = json!({ "email": email });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = rest.post("/users", &body).await.unwrap();
        RecordId(Uuid::parse_str(made["id"].as_str().unwrap()).unwrap())
    };
    let policy = async |name: &str, admin: bool| -> Json {
        let body = json!({ "name": name, "admin_access": admin, "app_access": !admin });
        rest.post("/policies", &body).await.unwrap()["id"].clone()
    };
    let role = async |name: &str, policies: &[&Json], parent: Option<&Json>| -> Json {
        let policies: Vec<Json> = policies.iter().map(|id| json!({ "policy": id })).collect();
        let body = json!({ "name": name, "parent": parent, "policies": policies });
        rest.post("/roles", &body).await.unwrap()["id"].clone()
    };
    let (all, studio) = (policy("Tout", true).await, policy("Studio", false).await);
    let chief = role("Direction", &[&all], None).await;
    let deputy = role("Adjoints", &[], Some(&chief)).await;
    let staff = role("Permanents", &[&studio], None).await;
    let plain = role("Site", &[], None).await;
    let admin = world.value("select id::text from directus_users where email like 'admin@%'").await;
    let admin = RecordId(Uuid::parse_str(&admin.unwrap()).unwrap());
    let others = [
        admin,
        user("directrice@exemple.fr", json!({ "role": chief })).await,
        user("adjoint@exemple.fr", json!({ "role": deputy })).await,
        user("permanente@exemple.fr", json!({ "role": staff })).await,
        user("par.politique@exemple.fr", json!({ "policies": [{ "policy": all }] })).await,
    ];
    // Just theirs: other tests make members of their own meanwhile.
    let ids = others.map(|other| format!("'{other}'")).join(", ");
    let emails = &format!(
        "select string_agg(email, ' ' order by id) from directus_users where id in ({ids})"
    );
    let before = world.value(emails).await;
    let ordinary = user("membre.du.site@exemple.fr", json!({ "role": plain })).await;
    // Run again, setup tells Directus which of the new roles are members'.
    let admins = Client::new(&world.source.server.url(), &world.source.admin.token).unwrap();
    let account = Account::look(&admins, &world.mapping, EMAIL).await.unwrap();
    let lines = account.lines().join("\n");
    assert!(
        lines.contains("allow just to update directus_users (members' accounts alone)"),
        "{lines}"
    );
    account.make(&admins, None).await.unwrap();
    // Directus itself refuses, whatever is asked of it by plait's user.
    for other in others {
        let thief = [("email", json!("change.moi@exemple.fr"))];
        let outcome = world.send_one(&world.update("member", other, &thief)).await;
        assert!(!matches!(outcome, Outcome::Taken { .. }), "{outcome:?}");
        // An Airtable row that carries the id of the account claims to be it.
        let mut claim = world.create("member", &thief);
        claim.record = other;
        let outcome = world.send_one(&claim).await;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
        let gone = bound(world.entity("member"), other.0, None, Write::Delete);
        let outcome = world.send_one(&gone).await;
        assert!(!matches!(outcome, Outcome::Taken { .. }), "{outcome:?}");
    }
    assert_eq!(world.value(emails).await, before);
    for member in [ordinary, member.record] {
        let city = world.update("member", member, &[("city", json!("Brest"))]);
        assert_eq!(world.send_one(&city).await, TAKEN);
    }
    // So does plait, where Directus lets everything through.
    let client = Client::new(&world.source.server.url(), &world.source.admin.token).unwrap();
    let (sender, _incidents) = mpsc::channel(10);
    let accounts = AccountGuard::default();
    let push = DirectusPush::new(Arc::new(client), Arc::clone(&world.mapping), sender)
        .with_accounts(accounts.clone());
    let send = async |bound: &Bound| push.send(vec![bound.clone()], &world.parts).await.remove(0).1;
    let theft = world.update("member", admin, &[("email", json!("change.moi@exemple.fr"))]);
    assert!(matches!(send(&theft).await, Outcome::Later { .. }), "not known yet who is a member");
    accounts.set(Accounts::default().with_members([admin.to_string()]));
    let outcome = send(&theft).await;
    world.refused(&outcome, "member", None, "no_member");
    let city = world.update("member", ordinary, &[("city", json!("Nantes"))]);
    assert_eq!(send(&city).await, TAKEN);
    assert_eq!(world.value(emails).await, before);
}

/// Passwords as they would come from Airtable.
#[derive(Default)]
struct Cells {
    texts: Mutex<HashMap<RecordId, String>>,
    is_away: AtomicBool,
}

impl Passwords for Cells {
    fn read(
        &self,
        _: EntityNo,
        record: RecordId,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Secret>, Missing>> + Send + '_>> {
        let text = self.texts.lock().unwrap().get(&record).cloned();
        let is_away = self.is_away.load(Ordering::SeqCst);
        Box::pin(async move {
            if is_away { Err(Missing::Unreachable) } else { Ok(text.map(Secret::new)) }
        })
    }

    fn clear(
        &self,
        _: EntityNo,
        record: RecordId,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        let was_there = self.texts.lock().unwrap().remove(&record).is_some();
        Box::pin(async move { was_there })
    }
}

/// A member with this e-mail, and the password cell of it.
fn newcomer(world: &World, cells: &Cells, email: &str, password: &str) -> Bound {
    let member = world.create("member", &[("email", json!(email)), ("first_name", json!("Nour"))]);
    cells.texts.lock().unwrap().insert(member.record, password.to_owned());
    member
}

#[tokio::test]
async fn push_directus_password_goes_along_once_and_is_kept_nowhere() {
    let (cluster, _) = source().await;
    let other = Source::start(cluster, "newcomers", &Secrets::new()).await.unwrap();
    let text = include_str!("../../../mapping.toml").replace(
        "directus = { table = \"directus_users\" }\n",
        "directus = { table = \"directus_users\" }\npassword = { airtable = \"Mot de passe\", clear = true }\n",
    );
    let mapping = Arc::new(read(&text, "mapping.toml").unwrap());
    // The right for it comes with the mapping.
    let admin = Client::new(&other.server.url(), &other.admin.token).unwrap();
    let account = Account::look(&admin, &mapping, EMAIL).await.unwrap();
    let lines = account.lines();
    assert!(lines.len() == 1 && lines[0].contains("create directus_users"), "{lines:?}");
    account.make(&admin, None).await.unwrap();
    let again = Account::look(&admin, &mapping, EMAIL).await.unwrap().lines();
    assert!(again.is_empty(), "{again:?}");

    let loses = Arc::new(AtomicBool::new(false));
    let url = proxy(other.server.url().replace("http://", ""), Arc::clone(&loses)).await;
    let mut world = World::at(&url, &other.push_token).await;
    let cells = Arc::new(Cells::default());
    let (sender, _incidents) = mpsc::channel(10);
    let client = Arc::new(Client::new(&url, &other.push_token).unwrap());
    world.mapping = Arc::clone(&mapping);
    world.push = DirectusPush::new(client, mapping, sender).with_passwords(Arc::clone(&cells) as _);

    let passphrase = format!("Voile-{}", Uuid::new_v4());
    let members: Vec<Bound> = (0..12)
        .map(|no| newcomer(&world, &cells, &format!("n{no}.{passphrase}@exemple.fr"), &passphrase))
        .collect();
    cells.is_away.store(true, Ordering::SeqCst);
    let waiting = world.send_one(&members[0]).await;
    assert!(matches!(waiting, Outcome::Later { after: Some(_) }), "{waiting:?}");
    cells.is_away.store(false, Ordering::SeqCst);
    loses.store(true, Ordering::SeqCst);
    assert_eq!(world.send_one(&members[0]).await, Outcome::Unanswered);
    assert_eq!(cells.texts.lock().unwrap().len(), 12, "not cleared before the answer");
    assert_eq!(world.send(&together(members.clone())).await, vec![TAKEN; 12]);
    assert!(cells.texts.lock().unwrap().is_empty());

    let rest = other.server.rest("");
    for no in [0, 11] {
        let email = format!("n{no}.{passphrase}@exemple.fr");
        let login = json!({ "email": email, "password": passphrase, "mode": "json" });
        assert!(rest.post("/auth/login", &login).await.unwrap()["access_token"].is_string());
    }
    // In clear, no column of any table holds it; the addresses do, to show that the search would find it.
    let dump = cluster
        .sql(
            "newcomers",
            "select string_agg(query_to_xml(format('select * from %I.%I', schemaname, tablename), true, false, '')::text, '')
             from pg_tables where schemaname = 'public'",
        )
        .await
        .unwrap();
    let dump = dump[0][0].clone().unwrap();
    assert!(dump.contains(&format!("n0.{passphrase}@")));
    assert!(!dump.replace(&format!(".{passphrase}@"), "").contains(&passphrase));
    let log = std::fs::read_to_string(other.server.log()).unwrap();
    assert!(!log.contains(&passphrase));
    other.server.remove().await.unwrap();
}

#[tokio::test]
async fn push_directus_password_that_is_refused_is_told_without_it() {
    let (cluster, _) = source().await;
    let mut world = World::start().await;
    let policy = "update directus_settings set auth_password_policy = '/^.{8,}$/'";
    let other = Source::start(cluster, "policy", &Secrets::new()).await.unwrap();
    cluster.sql("policy", policy).await.unwrap();
    let text = include_str!("../../../mapping.toml").replace(
        "directus = { table = \"directus_users\" }\n",
        "directus = { table = \"directus_users\" }\npassword = { airtable = \"Mot de passe\" }\n",
    );
    let mapping = Arc::new(read(&text, "mapping.toml").unwrap());
    let admin = Client::new(&other.server.url(), &other.admin.token).unwrap();
    let account = Account::look(&admin, &mapping, EMAIL).await.unwrap();
    account.make(&admin, None).await.unwrap();
    let cells = Arc::new(Cells::default());
    let (sender, _incidents) = mpsc::channel(10);
    let client = Arc::new(Client::new(&other.server.url(), &other.push_token).unwrap());
    world.mapping = Arc::clone(&mapping);
    world.push = DirectusPush::new(client, mapping, sender).with_passwords(Arc::clone(&cells) as _);
    let member = newcomer(&world, &cells, "court@exemple.fr", "zq7");
    let outcome = world.send_one(&member).await;
    let said = world.refused(&outcome, "member", None, "password_refused");
    assert!(said.contains("`Mot de passe`") && !said.contains("zq7"), "{said}");
    assert_eq!(cells.texts.lock().unwrap().len(), 1, "not cleared: no `clear`");
    other.server.remove().await.unwrap();
}
