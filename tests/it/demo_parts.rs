//! The demo's real parts: they come up, do what they are for, and leave nothing behind.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use plait::demo::{
    cache,
    cluster::{Cluster, SUPERUSER, Stop},
    model::{self, Kind},
    seed,
    source::{SERVICE_EMAIL, Secrets, Source},
};
use serde_json::{Map, Value, json};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::world;

const SOON: Duration = Duration::from_secs(30);

fn is_alive(pid: i32) -> bool {
    // A zombie has ended, though nobody asked for its exit code yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

async fn gone(pid: i32, folder: &Path) {
    world::eventually(SOON, async || match (is_alive(pid), folder.exists()) {
        (false, false) => Ok(()),
        (alive, there) => Err(format!("server alive: {alive}, folder there: {there}")),
    })
    .await;
}

#[tokio::test]
async fn cluster_stopped_and_started_keeps_port_and_data() {
    let mut cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &[]).await.unwrap();
    let port = cluster.port();
    cluster.sql(SUPERUSER, "create table kept (n integer)").await.unwrap();
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        cluster.sql(SUPERUSER, "insert into kept values (1)").await.unwrap();
        cluster.stop(how).await.unwrap();
        assert!(cluster.sql(SUPERUSER, "select 1").await.is_err(), "{how:?}: still answers");
        cluster.start().await.unwrap();
        assert_eq!(cluster.port(), port);
    }
    let rows = cluster.sql(SUPERUSER, "select count(*), null from kept").await.unwrap();
    assert_eq!(rows, [[Some(String::from("3")), None]]);
    let wal_level = cluster.sql(SUPERUSER, "show wal_level").await.unwrap();
    assert_eq!(wal_level, [[Some(String::from("logical"))]]);

    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_path_buf());
    assert!(is_alive(pid) && folder.exists());
    cluster.remove().await.unwrap();
    assert!(!is_alive(pid) && !folder.exists());
}

#[tokio::test]
async fn cluster_dropped_leaves_nothing() {
    let cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &[]).await.unwrap();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_path_buf());
    drop(cluster);
    gone(pid, &folder).await;
}

#[tokio::test]
async fn cluster_of_postgres_18_runs() {
    let cluster = Cluster::throw_away(&cache::postgres18_bin().unwrap(), &[]).await.unwrap();
    let version = cluster.sql(SUPERUSER, "show server_version_num").await.unwrap();
    assert!(version[0][0].as_ref().unwrap().starts_with("18"), "{version:?}");
    cluster.remove().await.unwrap();
}

#[tokio::test]
async fn cluster_in_a_folder_opened_again_is_the_same() {
    let place = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let bin = cache::postgres_bin().unwrap();
    let first = Cluster::in_folder(&bin, place.path(), &[]).await.unwrap();
    first.sql(SUPERUSER, "create table kept (n integer)").await.unwrap();
    let (port, password) = (first.port(), first.password().to_string());
    first.remove().await.unwrap();
    let second = Cluster::in_folder(&bin, place.path(), &[]).await.unwrap();
    second.sql(SUPERUSER, "select from kept").await.unwrap();
    assert_eq!((second.port(), second.password()), (port, password.as_str()));
    second.remove().await.unwrap();
    assert!(place.path().join("data").exists());
}

#[tokio::test]
async fn cluster_without_the_password_is_closed() {
    let cluster = world::cluster().await;
    let refused = cluster.config(SUPERUSER, SUPERUSER, "wrong").connect(NoTls).await.err().unwrap();
    assert_eq!(refused.code().unwrap().code(), "28P01");
}

/// Not a test of its own: [`cluster_of_a_killed_process_leaves_nothing`] runs it in a process that it kills.
#[tokio::test]
#[ignore = "waits to be killed"]
async fn cluster_waiting_to_be_killed() {
    let cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &[]).await.unwrap();
    let told = format!("{} {}", cluster.pid().unwrap(), cluster.folder().display());
    std::fs::write(std::env::var("PLAIT_TEST_TELL").unwrap(), told).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn cluster_of_a_killed_process_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("told");
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "demo_parts::cluster_waiting_to_be_killed", "--ignored"])
        .env("PLAIT_TEST_TELL", &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = world::eventually(SOON, async || {
        std::fs::read_to_string(&file)
            .map_err(|error| error.to_string())
            .and_then(|told| if told.is_empty() { Err(told) } else { Ok(told) })
    })
    .await;
    let (pid, folder) = told.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    assert!(is_alive(pid));
    process.kill().unwrap();
    process.wait().unwrap();
    gone(pid, Path::new(folder)).await;
}

/// A record with a value in every field that is no link.
fn full_record(fields: &[model::Field]) -> Map<String, Value> {
    let mut record = Map::new();
    for field in fields {
        let value = match &field.kind {
            Kind::Text | Kind::LongText => json!("Écully, « là-bas »"),
            Kind::Email => json!(format!("{}@example.fr", Uuid::new_v4())),
            Kind::Phone => json!("+33612345678"),
            Kind::Url => json!("https://example.fr/"),
            Kind::Decimal(_, scale) => json!(format!("12.{}", "3".repeat(*scale as usize))),
            Kind::Integer | Kind::Duration => json!(42),
            Kind::Rating => json!(4),
            Kind::Boolean => json!(true),
            Kind::Date => json!("2024-02-29"),
            Kind::Timestamp => json!("2024-02-29T08:45:10.123Z"),
            Kind::Select(choices) => json!(choices.first().map_or("PEA-PME", |(_, code)| code)),
            Kind::Json => json!({ "a": [1, "deux"] }),
            Kind::Csv => json!(["a", "b"]),
            Kind::Link(_) => continue,
        };
        record.insert(field.name.clone(), value);
    }
    record
}

#[tokio::test]
async fn directus_takes_a_record_of_each_collection_from_the_service_account() {
    let source = world::directus().await;
    let rest = source.server.rest(&source.push_token);
    let model = model::from_mapping(model::MAPPING).unwrap();
    let mut members = Vec::new();
    for collection in &model.collections {
        let is_users = collection.name == model::USERS;
        let path = if is_users { "/users".into() } else { format!("/items/{}", collection.name) };
        let id = Uuid::new_v4().to_string();
        let mut record = full_record(&collection.fields);
        record.insert("id".into(), json!(id));
        // It comes from Directus alone: Plait has no right to it.
        record.remove("answers");
        rest.post(&path, &Value::Object(record.clone())).await.unwrap();
        let read = rest.get(&format!("{path}/{id}")).await.unwrap();
        for (field, sent) in &record {
            assert_eq!(&read[field], sent, "{}.{field}", collection.name);
        }
        // The links, each to a record that is there.
        for field in &collection.fields {
            if let Kind::Link(target) = &field.kind {
                let path_of_target = match target.as_str() {
                    model::USERS => String::from("/users"),
                    target => format!("/items/{target}"),
                };
                let target =
                    rest.get(&format!("{path_of_target}?limit=1&fields=id")).await.unwrap();
                let link = json!({ field.name.as_str(): target[0]["id"] });
                let linked = rest.patch(&format!("{path}/{id}"), &link).await.unwrap();
                assert_eq!(linked[&field.name], target[0]["id"], "{}", field.name);
            }
        }
        if is_users {
            members.push(id);
        }
    }
    let project = rest.get("/items/project?limit=1&fields=id").await.unwrap()[0]["id"].clone();
    let role = json!({ "member": members[0], "role": "investor" });
    assert!(rest.post("/items/member_role", &role).await.unwrap()["id"].is_i64());
    let interest = json!({ "project": project, "member": members[0] });
    assert!(rest.post("/items/project_interest", &interest).await.unwrap()["id"].is_i64());
    let path = format!("/items/project/{}?fields=interested.member", project.as_str().unwrap());
    let seen = source.admin_rest().get(&path).await.unwrap();
    assert_eq!(seen["interested"], json!([{ "member": members[0] }]));
}

#[tokio::test]
async fn directus_service_account_can_do_no_more_than_it_needs() {
    let source = world::directus().await;
    let rest = source.server.rest(&source.push_token);
    for path in ["/activity", "/users?fields=password", "/settings"] {
        assert!(rest.get(path).await.is_err(), "{path}");
    }
    let admin_rest = source.admin_rest();
    let found = format!("/users?filter[email][_eq]={SERVICE_EMAIL}&fields=id,role");
    let account = admin_rest.get(&found).await.unwrap()[0].clone();
    let role = json!({ "role": account["role"] });
    let path = format!("/users/{}", account["id"].as_str().unwrap());
    assert!(rest.patch(&path, &role).await.is_err(), "it may not give rights");
}

#[tokio::test]
async fn directus_row_and_activity_share_a_transaction() {
    let (cluster, source) = (world::cluster().await, world::directus().await);
    let id = Uuid::new_v4();
    let startup = json!({ "id": id, "name": "Harbour" });
    source.admin_rest().post("/items/startup", &startup).await.unwrap();
    let same = format!(
        "select startup.xmin = activity.xmin, activity.action
         from startup, directus_activity activity
         where startup.id = '{id}' and activity.item = '{id}' and activity.collection = 'startup'"
    );
    let rows = cluster.sql("directus", &same).await.unwrap();
    assert_eq!(rows, [[Some(String::from("t")), Some(String::from("create"))]]);
}

#[tokio::test]
async fn directus_capture_role_can_make_publication_and_slot() {
    let (cluster, source) = (world::cluster().await, world::directus().await);
    let capture = &source.capture;
    let config = cluster.config(&capture.database, &capture.user, &capture.password);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    // One by one: a transaction that wrote cannot make a slot.
    for statement in [
        "create publication of_a_test for table startup",
        "drop publication of_a_test",
        "select pg_create_logical_replication_slot('of_a_test', 'pgoutput', true)",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn directus_in_the_studio_shows_names_and_french_labels() {
    let rest = world::directus().await.admin_rest();
    let project = rest.get("/collections/project").await.unwrap();
    assert_eq!(project["meta"]["accountability"], "all");
    assert_eq!(project["meta"]["translations"][0]["translation"], "Projets");
    let stage = rest.get("/fields/project/stage").await.unwrap();
    assert_eq!(stage["meta"]["translations"][0]["translation"], "Étape");
    assert_eq!(stage["meta"]["options"]["choices"][1]["text"], "Recevabilité");
    let referent = rest.get("/fields/project/referent").await.unwrap();
    let template = &referent["meta"]["display_options"]["template"];
    assert_eq!(template, "{{first_name}} {{last_name}}");
}

#[tokio::test]
async fn directus_seeded_holds_what_both_sides_share_and_more() {
    let cluster = world::cluster().await;
    let source = Source::start(cluster, "seeded", &Secrets::new()).await.unwrap();
    let model = model::from_mapping(model::MAPPING).unwrap();
    seed::fill(&model, &source.admin_rest()).await.unwrap();

    let ids = |table| async move {
        let rows = cluster.sql("seeded", &format!("select id from {table}")).await.unwrap();
        rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>()
    };
    for (label, table) in
        [("Membres", "directus_users"), ("Startups", "startup"), ("Projets", "project")]
    {
        let there = ids(table).await;
        let shared: Vec<String> = plait::sandbox::seed_rows(label)
            .iter()
            .filter(|row| row.is_filled)
            .map(|row| row.uuid.to_string())
            .collect();
        assert!(shared.iter().all(|id| there.contains(id)), "{label}");
        assert!(there.len() >= shared.len() + 5, "{label}: {} of {}", there.len(), shared.len());
    }
    let id = plait::sandbox::seed_uuid("Membres", 20);
    let member = format!(
        "select first_name, last_name, email, phone, joined_on::text ~ '^20', member_status
         from directus_users where id = '{id}'"
    );
    let member = cluster.sql("seeded", &member).await.unwrap().remove(0);
    let member: Vec<&str> = member.iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(member[..3], ["Aurélien", "ISAAC", "aurelien.isaac.20@exemple.fr"]);
    assert!(member[3].starts_with("+33") && member[3].len() == 12, "{member:?}");
    assert_eq!(member[4..], ["t", "active"]);
    source.server.remove().await.unwrap();
}
