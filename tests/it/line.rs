//! The whole line for one test: a Directus, the sandbox, a canonical database, and the program itself.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use plait::{
    demo::{
        cache,
        cluster::Cluster,
        directus::Rest,
        model, seed,
        source::{Secrets, Source},
    },
    sandbox::{self, Actor, Edit, MIRROR_TOKEN, NETWORK_BASE, OWNER_USER, Options, Sandbox},
};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::world::{eventually, write_secret};

/// Of a form that no message has by chance.
pub(crate) const CANONICAL_PASSWORD: &str = "geheim-canonical-7d1c";

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(100);

/// Everything that mirrors, on parts of its own.
pub(crate) struct Line {
    pub(crate) folder: TempDir,
    pub(crate) cluster: Cluster,
    pub(crate) directus: Source,
    pub(crate) sandbox: Sandbox,
    pub(crate) canonical: Client,
    pub(crate) source: Client,
    /// The Airtable base that is mirrored.
    pub(crate) base: String,
    program: Option<Child>,
}

impl Line {
    pub(crate) async fn start() -> Self {
        Self::start_on(cache::postgres_bin().unwrap()).await
    }

    pub(crate) async fn start_on(bin: PathBuf) -> Self {
        let cluster = Cluster::throw_away(&bin, &["wal_level=logical"]).await.unwrap();
        let directus = Source::start(&cluster, "directus", &Secrets::new()).await.unwrap();
        let model = model::from_mapping(model::MAPPING).unwrap();
        seed::fill(&model, &directus.admin_rest()).await.unwrap();
        let mut options = Options::default();
        options.config.limits = false;
        let sandbox = Sandbox::start(options).await.unwrap();
        cluster.create_database("plait", "plait", CANONICAL_PASSWORD).await.unwrap();

        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for (name, secret) in [
            ("canonical", CANONICAL_PASSWORD),
            ("directus", &directus.capture.password),
            ("airtable", MIRROR_TOKEN),
            ("push", &directus.push_token),
        ] {
            write_secret(&folder.path().join(name), secret);
        }
        file("mapping.toml", &model::prompt_mapping());
        let settings = format!(
            "[canonical]\nurl = \"postgres://plait@127.0.0.1:{port}/plait\"\npassword_file = \"canonical\"\ntls = \"disable\"\n\
             [directus]\ndatabase_url = \"postgres://{user}@127.0.0.1:{port}/directus\"\npassword_file = \"directus\"\ntls = \"disable\"\n\
             api_url = \"{api}\"\ntoken_file = \"push\"\n\
             [airtable]\napi_url = \"{url}\"\ntoken_file = \"airtable\"\npoll_interval_min_ms = 200\npoll_interval_max_ms = 500\n\
             [airtable.base.reseau]\nid = \"{NETWORK_BASE}\"\n\
             [log]\nlevel = \"trace\"\n",
            port = cluster.port(),
            user = directus.capture.user,
            api = directus.server.url(),
            url = sandbox.url(),
        );
        file("plait.toml", &settings);
        let canonical = cluster.connect("plait").await.unwrap();
        let source = cluster.connect("directus").await.unwrap();
        Self {
            folder,
            cluster,
            directus,
            sandbox,
            canonical,
            source,
            base: NETWORK_BASE.into(),
            program: None,
        }
    }

    /// Copies both sides, accepts the plan, and waits until what either lacked is there.
    pub(crate) async fn start_two_way() -> Self {
        Self::start_two_way_with(&[]).await
    }

    /// With other texts in the mapping, each from and to.
    pub(crate) async fn start_two_way_with(replaced: &[(&str, &str)]) -> Self {
        let mut line = Self::start().await;
        let path = line.folder.path().join("mapping.toml");
        let mut mapping = fs::read_to_string(&path).unwrap();
        for (from, to) in replaced {
            assert!(mapping.contains(from), "nothing to replace: {from}");
            mapping = mapping.replacen(from, to, 1);
        }
        fs::write(path, mapping).unwrap();
        line.run();
        line.until_copied().await;
        let plan = line.said(&["plan"]);
        assert!(plan.contains("directus") && plan.contains("airtable"), "{plan}");
        assert_eq!(
            line.number("select count(*) from mirror.operation").await,
            0,
            "nothing is written before somebody has accepted the plan"
        );
        line.said(&["approve", "--yes"]);
        line.until_settled().await;
        line
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plait"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("plait.toml"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn canonical_port(&self) -> u16 {
        self.cluster.port()
    }

    /// From its next start on the program finds the canonical database at this port.
    pub(crate) fn reach_canonical_at(&self, port: u16) {
        let path = self.folder.path().join("plait.toml");
        let settings = fs::read_to_string(&path).unwrap();
        let here = format!("postgres://plait@127.0.0.1:{}/", self.cluster.port());
        assert!(settings.contains(&here), "{settings}");
        fs::write(path, settings.replace(&here, &format!("postgres://plait@127.0.0.1:{port}/")))
            .unwrap();
    }

    pub(crate) fn run(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.program = Some(child);
    }

    /// SIGKILL, whatever it is at.
    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill().unwrap();
            program.wait().unwrap();
        }
    }

    /// SIGTERM; whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        self.program.take().unwrap().wait().unwrap().success()
    }

    /// The process number of the program.
    pub(crate) fn pid(&self) -> u32 {
        self.program.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.program.as_mut().is_some_and(|program| matches!(program.try_wait(), Ok(None)))
    }

    pub(crate) fn rest(&self) -> Rest {
        self.directus.admin_rest()
    }

    pub(crate) fn edit(&self, edits: &[Edit]) -> Vec<String> {
        self.try_edit(edits).unwrap()
    }

    /// Does edits, some of which may be of what is not there any more.
    pub(crate) fn try_edit(&self, edits: &[Edit]) -> Result<Vec<String>, sandbox::Error> {
        self.sandbox.edit_as(&self.base, Actor::person(OWNER_USER), edits)
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.canonical.query_one(sql, &[]).await.map_or(-1, |row| row.get(0))
    }

    /// Waits until a query on the canonical database counts this many.
    pub(crate) async fn until(&self, sql: &str, count: i64) {
        eventually(PATIENCE, async || {
            let found = self.number(sql).await;
            if found == count { Ok(()) } else { Err((sql.to_owned(), found, self.log())) }
        })
        .await;
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().rev().take(3).collect::<Vec<_>>().join("\n")
    }

    /// Asserts that the log, which is written at the level `trace`, has lines of several levels and neither the secrets nor any of
    /// `values`. Alerts are left out: somebody asked to be told just these.
    pub(crate) fn assert_discreet(&self, values: &[&str]) {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        assert!(log.contains("\"DEBUG\"") && log.contains("\"INFO\""), "{log}");
        let passwords = [CANONICAL_PASSWORD, &self.directus.capture.password];
        let tokens = [MIRROR_TOKEN, &self.directus.push_token];
        for value in passwords.iter().chain(&tokens).chain(values) {
            let mut lines = log.lines().filter(|line| !line.contains("plait::alert::follow"));
            let line = lines.find(|line| line.contains(value));
            assert!(line.is_none(), "`{value}` is in the log: {line:?}");
        }
    }

    /// What a command says; it has to end well.
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let (said, complaint) =
            (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{arguments:?}: {said}{complaint}");
        said.into_owned()
    }

    /// What is owed to a side, but for what waits for a person, and the writes that are on their way: side, record, how it
    /// stands.
    async fn unsettled(&self) -> Vec<[String; 3]> {
        let open = "select side, record_id::text, concat_ws(' ', kind, cells, bound_at, sent_at) from mirror.operation where settled_at is null
             union all
             select side, record_id::text, concat_ws(' ', due_at, attempt_count, waits_for) from mirror.outbox
             where due_at < now() + interval '5 minutes'";
        let rows = self.canonical.query(open, &[]).await.unwrap();
        rows.iter().map(|row| [0, 1, 2].map(|at| row.get(at))).collect()
    }

    /// Waits until nothing is unsettled. A busy machine may take its time for thousands of records: the patience is for
    /// what becomes no less.
    pub(crate) async fn until_settled(&self) {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            let open = self.unsettled().await;
            if open.is_empty() {
                return;
            }
            if open.len() < least {
                (least, since) = (open.len(), Instant::now());
            }
            let some = &open[..open.len().min(5)];
            let count = open.len();
            assert!(since.elapsed() < PATIENCE, "{count} unsettled: {some:?}, {}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A startup that no story edits: its keys on both sides.
    pub(crate) async fn a_startup(&self) -> (String, String) {
        let sql = "select l.side_key, l.record_id::text from mirror.link l join mirror.entity e using (entity_no)
             where e.name = 'startup' and l.side = 'airtable' order by l.record_id offset 10 limit 1";
        let row = self.canonical.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }

    pub(crate) async fn until_copied(&self) {
        self.until("select count(*) from mirror.position where position <> ''", 2).await;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn fields(pairs: &[(&str, Value)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub(crate) fn update(table: &str, record: &str, pairs: &[(&str, Value)]) -> Edit {
    Edit::Update { table: table.into(), record: record.into(), fields: fields(pairs) }
}
