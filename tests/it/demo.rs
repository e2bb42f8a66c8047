//! `plait demo`, the built program, as a person who follows the README uses it: edits on both sides, watches them
//! arrive, kills the mirror, and ends it all.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use plait::sandbox::{NETWORK_BASE, OWNER_TOKEN, OWNER_USER};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use tokio_postgres::{Client, NoTls};

use crate::{sandbox_program::http, world::eventually};

/// A first start makes two clusters and starts Directus.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the demo says at its start.
struct Welcome {
    studio: String,
    email: String,
    password: String,
    sandbox: String,
    mirror: i32,
}

fn program(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plait"));
    command.args(arguments).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    line.unwrap().expect("it ended")
}

async fn welcome(lines: &mut Lines<BufReader<ChildStdout>>) -> Welcome {
    let mut told = Vec::new();
    loop {
        let line = next(lines).await;
        if line.starts_with("Ctrl-C ends it all") {
            break;
        }
        told.push(line);
    }
    let word_after = |line: &str, mark: &str| {
        let line = told.iter().find(|told| told.contains(line)).unwrap();
        line.split_once(mark).unwrap().1.split_whitespace().next().unwrap().to_owned()
    };
    Welcome {
        studio: word_after("Directus Studio", "Directus Studio"),
        email: word_after("Directus Studio", "log in as "),
        password: word_after("Directus Studio", "with password "),
        sandbox: word_after("Airtable sandbox", "Airtable sandbox"),
        mirror: word_after("kill -9", "kill -9 ").parse().unwrap(),
    }
}

/// The canonical database, reached as the demo's welcome says.
async fn canonical(folder: &Path) -> Client {
    let settings = fs::read_to_string(folder.join("plait.toml")).unwrap();
    let url = settings.split("url = \"").nth(1).unwrap().split('"').next().unwrap();
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.password(fs::read_to_string(folder.join("secrets/canonical")).unwrap());
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn until(client: &Client, sql: &str, count: i64) {
    eventually(PATIENCE, async || {
        let found = client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        if found == count { Ok(()) } else { Err((sql.to_owned(), found)) }
    })
    .await;
}

async fn until_here(client: &Client, table: &str, column: &str, value: &str) {
    until(client, &format!("select count(*) from canon.{table} where {column} = '{value}'"), 1)
        .await;
}

struct Hands {
    welcome: Welcome,
    token: String,
    project: String,
    startup: String,
}

impl Hands {
    async fn lay_on(welcome: Welcome) -> Self {
        let credentials = json!({ "email": welcome.email, "password": welcome.password });
        let login = http().post(format!("{}/auth/login", welcome.studio)).json(&credentials);
        let answer: Value = login.send().await.unwrap().json().await.unwrap();
        let token = answer["data"]["access_token"].as_str().unwrap().to_owned();
        let items = format!("{}/items/project?limit=1&fields=id", welcome.studio);
        let answer = http().get(items).bearer_auth(&token).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let project = answer["data"][0]["id"].as_str().unwrap().to_owned();
        let list = format!("{}/v0/{NETWORK_BASE}/Startups?pageSize=1", welcome.sandbox);
        let answer = http().get(list).bearer_auth(OWNER_TOKEN).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let startup = answer["records"][0]["id"].as_str().unwrap().to_owned();
        Self { welcome, token, project, startup }
    }

    async fn edit_in_directus(&self, summary: &str) {
        let item = format!("{}/items/project/{}", self.welcome.studio, self.project);
        let edit = http().patch(item).bearer_auth(&self.token).json(&json!({ "summary": summary }));
        assert_eq!(edit.send().await.unwrap().status(), 200);
    }

    /// As a person in the app: a call over REST beside the mirror's own may be one too many for the base's allowance.
    async fn edit_in_airtable(&self, city: &str) {
        let fields = json!({ "Ville": city });
        let edit = json!({ "do": "update", "table": "Startups", "record": self.startup, "fields": fields });
        let person = json!({ "source": "client", "user": OWNER_USER });
        let edits = json!({ "base": NETWORK_BASE, "as": person, "edits": [edit] });
        let edit = http().post(format!("{}/sandbox/edit", self.welcome.sandbox)).json(&edits);
        assert_eq!(edit.send().await.unwrap().status(), 200);
    }
}

fn ask_to_end(child: &Child) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_mirrors_edits_of_both_sides_survives_a_kill_and_leaves_nothing_running() {
    let place = tempfile::Builder::new().prefix("plait-demo-").tempdir().unwrap();
    // Servers do not run as root: their user has to come in.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = place.path().join("demo");
    let mut demo = program(&["demo", "--folder"], &folder).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let welcome = welcome(&mut lines).await;
    let canonical = canonical(&folder).await;
    let config = folder.join("plait.toml");
    eventually(PATIENCE, async || {
        let told = program(&["status", "--json", "--config"], &config).output().await.unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let logs = told["logs"].as_array().cloned().unwrap_or_default();
        let are_followed = logs.len() == 2 && logs.iter().all(|log| log["state"] == "streaming");
        if are_followed { Ok(()) } else { Err(told) }
    })
    .await;

    // The demo accepts the plan by itself, and what either side lacked is written to it.
    until(
        &canonical,
        "select count(*) from mirror.approval where approved_by = 'demo' and field = '*'",
        8,
    )
    .await;
    // The ids of more than a thousand records go to Airtable, fifty a second.
    let open = "select (select count(*) from mirror.absence)
         + (select count(*) from mirror.shadow where side = 'airtable' and field = '#id')
         + (select count(*) from mirror.operation where settled_at is null)";
    until(&canonical, open, 0).await;

    // Its user may make the roles of readers.
    let roles = ["setup", "roles", "--yes", "--config"];
    for (words, said) in [
        (&roles[..], "done; `plait setup reader` makes logins"),
        (&roles[..], "all is as it has to be"),
        (&["export", "startup", "-o", "-", "--where", "name is not null", "--config"][..], "name"),
    ] {
        let output = program(words, &config).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains(said), "{output:?}");
    }

    // Only now: a call of ours beside the listing or the pushes would be one too many for the base's allowance.
    let hands = Hands::lay_on(welcome).await;
    let mut watch = program(&["watch", "--config"], &config).spawn().unwrap();
    let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
    hands.edit_in_directus("Vu de Studio").await;
    until_here(&canonical, "project", "summary", "Vu de Studio").await;
    hands.edit_in_airtable("Port-Plait").await;
    until_here(&canonical, "startup", "city", "Port-Plait").await;
    for (side, field, value) in
        [("airtable", "summary", "Vu de Studio"), ("directus", "city", "Port-Plait")]
    {
        let there = format!(
            "select count(*) from mirror.operation where side = '{side}' and settled_at is not null
             and cells -> '{field}' ->> 'value' = '{value}'"
        );
        until(&canonical, &there, 1).await;
    }
    for (side, after) in [("directus", "→ Vu de Studio"), ("airtable", "→ Port-Plait")] {
        loop {
            let line = next(&mut seen).await;
            if line.contains(after) {
                assert!(line.contains(side), "{line}");
                break;
            }
        }
    }
    ask_to_end(&watch);
    assert!(watch.wait().await.unwrap().success());

    kill(Pid::from_raw(hands.welcome.mirror), Signal::SIGKILL).unwrap();
    hands.edit_in_directus("Écrit pendant la panne").await;
    hands.edit_in_airtable("Port-Neuf").await;
    until_here(&canonical, "project", "summary", "Écrit pendant la panne").await;
    until_here(&canonical, "startup", "city", "Port-Neuf").await;

    ask_to_end(&demo);
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap()
    {
        assert!(!line.contains("error"), "{line}");
    }
    assert!(demo.wait().await.unwrap().success());
    for url in [&hands.welcome.studio, &hands.welcome.sandbox] {
        assert!(http().get(url).send().await.is_err(), "{url} still answers");
    }
    assert!(canonical.query_one("select 1", &[]).await.is_err(), "Postgres still answers");
}
