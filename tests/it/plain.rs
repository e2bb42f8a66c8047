//! A small line for tests of what goes wrong: a plain Postgres as source, the sandbox, a canonical database, and
//! the program itself. Databases and roles are the test's own, on the shared cluster or on one of its own.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use plait::{
    demo::cluster::Cluster,
    sandbox::{Actor, Edit, MIRROR_TOKEN, NETWORK_BASE, OWNER_USER, Options, Sandbox},
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::world::{self, eventually, write_secret};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

static COUNT: AtomicU32 = AtomicU32::new(0);

const MAPPING: &str = r#"version = 1
settle_s = 0
[entity.startup]
table = "startup"
airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
directus = { table = "startup" }

[entity.startup.field]
name = { type = "text", airtable = "Nom", directus = "name" }
city = { type = "text", airtable = "Ville", directus = "city" }
headcount = { type = "integer", airtable = "Effectif", directus = "headcount" }
total_invested = { type = "computed", airtable = "Total investi", direction = "from airtable" }
"#;

/// The parts, and the documents that fit them.
pub(crate) struct Plain<'c> {
    folder: TempDir,
    pub(crate) cluster: &'c Cluster,
    pub(crate) sandbox: Sandbox,
    /// Of the databases, roles and the slot.
    pub(crate) name: String,
    /// Of the roles, and the token: never in any output.
    secrets: Vec<String>,
    pub(crate) documents: Documents,
    program: Option<Child>,
}

/// `plait.toml` and `mapping.toml`.
#[derive(Clone)]
pub(crate) struct Documents {
    pub(crate) settings: String,
    pub(crate) mapping: String,
}

impl Documents {
    /// With another text in the settings.
    pub(crate) fn settings(&self, from: &str, to: &str) -> Self {
        Self { settings: replaced(&self.settings, from, to), ..self.clone() }
    }

    /// With another text in the mapping.
    pub(crate) fn mapping(&self, from: &str, to: &str) -> Self {
        Self { mapping: replaced(&self.mapping, from, to), ..self.clone() }
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to replace: {from}");
    text.replace(from, to)
}

/// What a run of the program said until its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Said {
    /// It failed, and the message has all of these.
    pub(crate) fn fails_with(&self, what: &str, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{what}:\n{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "{what}: `{part}` is not in:\n{}", self.text);
        }
    }
}

impl Plain<'static> {
    /// On the shared cluster.
    pub(crate) async fn start() -> Self {
        Plain::start_on(world::cluster().await, "").await
    }
}

impl<'c> Plain<'c> {
    /// `encoding`: of the source database, as options of `create database`.
    pub(crate) async fn start_on(cluster: &'c Cluster, encoding: &str) -> Self {
        let name = format!("plain_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // Of a form that no message has by chance.
        let secrets: Vec<String> = ["canonical", "capture"]
            .iter()
            .map(|of| format!("geheim-{of}-{}", uuid::Uuid::new_v4().simple()))
            .collect();
        cluster.create_database(&name, &name, &secrets[0]).await.unwrap();
        let role =
            format!("create role {name}_capture login replication password '{}'", secrets[1]);
        cluster.sql("postgres", &role).await.unwrap();
        let source = format!("create database {name}_source owner {name}_capture {encoding}");
        cluster.sql("postgres", &source).await.unwrap();
        let table = format!(
            "set role {name}_capture;
             create table startup (id uuid primary key, name text, city text, headcount bigint)"
        );
        cluster.sql(&format!("{name}_source"), &table).await.unwrap();
        let mut options = Options::default();
        options.config.limits = false;
        let sandbox = Sandbox::start(options).await.unwrap();

        let folder = tempfile::tempdir().unwrap();
        for (file, secret) in ["canonical", "capture"].iter().zip(&secrets) {
            write_secret(&folder.path().join(file), secret);
        }
        write_secret(&folder.path().join("airtable"), MIRROR_TOKEN);
        let settings = format!(
            r#"[canonical]
url = "postgres://{name}@127.0.0.1:{port}/{name}"
password_file = "canonical"
tls = "disable"

[directus]
database_url = "postgres://{name}_capture@127.0.0.1:{port}/{name}_source"
password_file = "capture"
tls = "disable"
slot = "{name}"
heartbeat_interval_s = 1

[airtable]
api_url = "{url}"
token_file = "airtable"
poll_interval_min_ms = 200
poll_interval_max_ms = 400
request_timeout_s = 2

[airtable.base.reseau]
id = "{NETWORK_BASE}"
"#,
            port = cluster.port(),
            url = sandbox.url(),
        );
        let documents = Documents { settings, mapping: MAPPING.into() };
        let secrets = [secrets, vec![MIRROR_TOKEN.into()]].concat();
        Self { folder, cluster, sandbox, name, secrets, documents, program: None }
    }

    // ---- the program ---------------------------------------------------------------------------------

    /// Puts documents into a folder of their own, beside the secrets' files.
    fn write(&self, documents: &Documents) -> PathBuf {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        for secret in ["canonical", "capture", "airtable"] {
            fs::copy(self.folder.path().join(secret), folder.join(secret)).unwrap();
        }
        fs::write(folder.join("plait.toml"), &documents.settings).unwrap();
        fs::write(folder.join("mapping.toml"), &documents.mapping).unwrap();
        folder
    }

    /// Runs a command to its end with these documents.
    pub(crate) async fn say(&self, command: &str, documents: &Documents) -> Said {
        self.say_in(command, &self.write(documents)).await
    }

    pub(crate) async fn check(&self, documents: &Documents) -> Said {
        self.say("check", documents).await
    }

    async fn say_in(&self, command: &str, folder: &Path) -> Said {
        let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_plait"));
        process.args(command.split(' ')).current_dir(folder).stdin(Stdio::null());
        process.kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, process.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("`plait {command}` did not end")).unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        write!(text, "{}", String::from_utf8(output.stderr).unwrap()).unwrap();
        self.assert_discreet(&text);
        Said { code: output.status.code(), text }
    }

    /// No secret is ever printed.
    fn assert_discreet(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "a secret was printed:\n{text}");
        }
    }

    /// What is printed must not contain this either.
    pub(crate) fn keep_secret(&mut self, secret: &str) {
        self.secrets.push(secret.into());
    }

    /// The folder that [`Self::run`] and [`Self::say_beside`] use.
    pub(crate) fn place(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Starts `plait run` with the documents as they are now.
    pub(crate) fn run(&mut self) {
        let folder = self.place();
        fs::create_dir_all(&folder).unwrap();
        for secret in ["canonical", "capture", "airtable"] {
            fs::copy(self.folder.path().join(secret), folder.join(secret)).unwrap();
        }
        fs::write(folder.join("plait.toml"), &self.documents.settings).unwrap();
        fs::write(folder.join("mapping.toml"), &self.documents.mapping).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_plait"));
        command.arg("run").current_dir(&folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log.unwrap());
        self.program = Some(command.spawn().unwrap());
    }

    /// Starts one more `plait run` in the same folder, which is the program from now on; the answer is the one before.
    pub(crate) fn run_another(&mut self) -> Child {
        let before = self.program.take().unwrap();
        self.run();
        before
    }

    pub(crate) fn signal(&self, program: &Child, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(program.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Whether a program that was told to stop ends well.
    pub(crate) async fn ended_well(&self, mut program: Child) -> bool {
        let ended = tokio::task::spawn_blocking(move || program.wait().unwrap());
        tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap().success()
    }

    /// Runs it with these documents: what is wrong with one side is told, and ends nothing.
    pub(crate) async fn run_tells(&mut self, what: &str, documents: &Documents, parts: &[&str]) {
        let good = std::mem::replace(&mut self.documents, documents.clone());
        self.run();
        for part in parts {
            self.until_logged(part).await;
        }
        assert!(self.is_running(), "{what}: it has ended:\n{}", tail(&self.log()));
        self.terminate().await;
        self.documents = good;
    }

    /// A command in the folder in which `plait run` is at work.
    pub(crate) async fn say_beside(&self, command: &str) -> Said {
        self.say_in(command, &self.place()).await
    }

    /// What `plait run` has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place().join("log")).unwrap_or_default()
    }

    pub(crate) async fn until_logged(&self, part: &str) {
        eventually(PATIENCE, async || {
            if self.told().contains(part) {
                Ok(())
            } else {
                Err((part.to_owned(), tail(&self.log())))
            }
        })
        .await;
    }

    /// The texts of the log, each on lines of its own, without the quoting of JSON.
    pub(crate) fn told(&self) -> String {
        let mut told = String::new();
        for line in self.log().lines() {
            let read: Value = serde_json::from_str(line).unwrap_or_default();
            let texts = read["fields"].as_object().into_iter().flatten();
            for text in texts.filter_map(|(_, value)| value.as_str()) {
                told.push_str(text);
                told.push('\n');
            }
            if read.is_null() {
                told.push_str(line);
                told.push('\n');
            }
        }
        told
    }

    /// SIGTERM, and its end in good order.
    pub(crate) async fn terminate(&mut self) {
        let mut program = self.program.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(program.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || program.wait().unwrap());
        let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
        let log = self.log();
        assert!(ended.success(), "it did not end well:\n{}", tail(&log));
        self.assert_discreet(&log);
    }

    /// Whether `plait run` is still at work.
    pub(crate) fn is_running(&mut self) -> bool {
        self.program.as_mut().is_some_and(|program| program.try_wait().unwrap().is_none())
    }

    /// Ends everything; gives the slot back, of which the shared cluster has only so many.
    pub(crate) async fn end(mut self) {
        if self.program.is_some() {
            self.terminate().await;
        }
        let drop_slot = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{}'",
            self.name
        );
        eventually(PATIENCE, async || {
            self.cluster.sql("postgres", &drop_slot).await.map_err(|error| error.to_string())
        })
        .await;
    }

    // ---- both sides, and what became of them ---------------------------------------------------------

    /// A session of the superuser on the canonical database.
    pub(crate) async fn canonical(&self) -> Client {
        self.cluster.connect(&self.name).await.unwrap()
    }

    /// Runs statements on the source database.
    pub(crate) async fn in_source(&self, sql: &str) {
        self.cluster.sql(&format!("{}_source", self.name), sql).await.unwrap();
    }

    /// Waits until a query on the canonical database answers this one text; `None`: any.
    pub(crate) async fn until(&self, sql: &str, wanted: Option<&str>) {
        let session = self.canonical().await;
        eventually(PATIENCE, async || {
            let found = answer(&session, sql).await;
            let is_well = found.as_ref().is_ok_and(|found| match wanted {
                Some(wanted) => found == wanted,
                None => !found.is_empty(),
            });
            if is_well { Ok(()) } else { Err((sql.to_owned(), found, tail(&self.log()))) }
        })
        .await;
    }

    /// Waits until the first copy of this many logs is in.
    pub(crate) async fn until_copied(&self, log_count: usize) {
        let sql = "select count(*)::text from mirror.position where position <> ''";
        self.until(sql, Some(&log_count.to_string())).await;
    }

    pub(crate) fn edit(&self, edits: &[Edit]) -> Vec<String> {
        self.sandbox.edit_as(NETWORK_BASE, Actor::person(OWNER_USER), edits).unwrap()
    }

    /// Sets cells of a startup in Airtable.
    pub(crate) fn set(&self, record: &str, cells: &Value) {
        let fields: Map<String, Value> = cells.as_object().unwrap().clone();
        self.edit(&[Edit::Update { table: "Startups".into(), record: record.into(), fields }]);
    }

    /// The ids of all startups in Airtable.
    pub(crate) fn startups(&self) -> Vec<String> {
        let records = self.sandbox.records(NETWORK_BASE, "Startups");
        records.into_iter().map(|(id, _)| id).collect()
    }

    /// A call of the sandbox's control API.
    pub(crate) async fn control(&self, path: &str, body: &Value) {
        let url = format!("{}/sandbox/{path}", self.sandbox.url());
        let answer = reqwest::Client::new().post(url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Puts a payload of our own making into the webhooks of the base.
    pub(crate) async fn payload(&self, payload: &Value) {
        let body = json!({ "do": "payload", "base": NETWORK_BASE, "payload": payload });
        self.control("webhooks", &body).await;
    }
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        if let Some(mut program) = self.program.take() {
            drop(program.kill());
            drop(program.wait());
        }
    }
}

/// The one text that a query answers; empty: none.
async fn answer(session: &Client, sql: &str) -> Result<String, String> {
    let rows = session.query(sql, &[]).await.map_err(|error| error.to_string())?;
    Ok(rows.first().and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
