//! What random people do on both sides of a whole line, what goes wrong meanwhile, and what has to hold at the end. People
//! edit the same records, create, link and delete; requests fail before and after they are carried out; connections
//! break, Directus restarts, the program is killed or frozen. Then everything comes to rest, and has to be equal, with every
//! value that a person entered still on record.

use std::{collections::HashSet, fmt, process::Output, time::Duration};

use nix::sys::signal::Signal;
use plait::sandbox::{Edit, Fault, FaultKind, NETWORK_BASE};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::line::{Line, fields, update};

/// Few, so that both sides meet on them.
const RECORD_COUNT: i64 = 3;
const PAUSE_MS_MAX: u64 = 120;
/// Rounds of settling what waits for a person, before it is too many.
const ROUND_COUNT_MAX: usize = 6;

/// An entity whose records people edit here, with some of its text fields.
struct Kind {
    entity: &'static str,
    table: &'static str,
    path: &'static str,
    /// Canonical, Airtable, Directus.
    texts: &'static [(&'static str, &'static str, &'static str)],
}

const KINDS: [Kind; 3] = [
    Kind {
        entity: "startup",
        table: "Startups",
        path: "/items/startup",
        texts: &[
            ("city", "Ville", "city"),
            ("legal_form", "Forme juridique", "legal_form"),
            ("description", "Description", "description"),
        ],
    },
    Kind {
        entity: "project",
        table: "Projets",
        path: "/items/project",
        texts: &[("name", "Nom du projet", "name"), ("summary", "Résumé", "summary")],
    },
    Kind {
        entity: "member",
        table: "Membres",
        path: "/users",
        // The last one by a rule: Airtable's value wins.
        texts: &[
            ("city", "Ville", "city"),
            ("postcode", "Code postal", "postcode"),
            ("note", "Notes", "note"),
        ],
    },
];

/// A record as the sides know it, as far as this test has seen.
#[derive(Clone)]
struct Record {
    kind: usize,
    airtable: Option<String>,
    directus: Option<String>,
}

/// Name and city of the startup that a step creates.
fn newcomer(step: usize) -> (String, String) {
    (format!("Neuve {step}"), format!("v{step}"))
}

pub(crate) struct Story {
    pub(crate) line: Line,
    dice: StdRng,
    records: Vec<Record>,
    /// What people have entered, and a side has taken: field and value.
    entered: Vec<(&'static str, String)>,
    /// Names of startups that people have created.
    created: Vec<String>,
    pub(crate) told: Vec<String>,
    pub(crate) counts: Counts,
}

/// What a story went through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Edits that a side has taken, creates and deletes included.
    pub(crate) edits: usize,
    /// Requests to Airtable that ended badly, connections that broke, Directus out of reach, the program frozen.
    pub(crate) faults: usize,
    /// Times that the program was killed or stopped, and started again.
    pub(crate) restarts: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edits, faults, restarts } = self;
        write!(f, "{edits} edits, {faults} faults, {restarts} restarts")
    }
}

/// Whether a step may end the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restarts {
    Allowed,
    /// One process lives all the time, so that its memory can be compared.
    None,
}

impl Story {
    pub(crate) async fn begin(seed: u64) -> Self {
        let line = Line::start_two_way().await;
        let mut records = Vec::new();
        for (kind, described) in KINDS.iter().enumerate() {
            let sql = "select l.side_key, l.record_id::text from mirror.link l join mirror.entity e using (entity_no)
                 where e.name = $1 and l.side = 'airtable'
                   and not exists (select from mirror.absence a where a.record_id = l.record_id)
                 order by l.record_id limit $2";
            let rows =
                line.canonical.query(sql, &[&described.entity, &RECORD_COUNT]).await.unwrap();
            assert_eq!(rows.len(), 3);
            records.extend(rows.iter().map(|row| Record {
                kind,
                airtable: Some(row.get(0)),
                directus: Some(row.get(1)),
            }));
        }
        let dice = StdRng::seed_from_u64(seed);
        let (entered, created, told) = (Vec::new(), Vec::new(), Vec::new());
        let counts = Counts::default();
        Self { line, dice, records, entered, created, told, counts }
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice.random_range(0..end)
    }

    fn some(&mut self, kind: Option<usize>) -> Record {
        let of_kind = |record: &&Record| kind.is_none_or(|kind| record.kind == kind);
        let records: Vec<Record> = self.records.iter().filter(of_kind).cloned().collect();
        records[self.below(records.len())].clone()
    }

    /// One of them does something, or something goes wrong that Airtable or a kill brings about.
    pub(crate) async fn step(&mut self, number: usize, restarts: Restarts) {
        match self.below(100) {
            0..32 => self.enter(number, true).await,
            32..64 => self.enter(number, false).await,
            64..68 => self.create_in_airtable(number),
            68..72 => self.create_in_directus(number).await,
            72..79 => self.link().await,
            79..85 => self.change_a_set().await,
            85..88 => self.delete().await,
            88..95 => self.disturb(),
            _ if restarts == Restarts::Allowed => {
                self.tell("killed");
                self.line.kill();
                self.line.run();
                self.counts.restarts += 1;
            }
            _ => {}
        }
        let pause = self.dice.random_range(0..PAUSE_MS_MAX);
        sleep(Duration::from_millis(pause)).await;
    }

    /// What a long run meets beside [`Self::step`]: broken connections, Directus away, a frozen program, a stop in good order.
    pub(crate) async fn mishap(&mut self, restarts: Restarts) {
        let end_sessions = |user: &str| {
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'"
            )
        };
        match self.below(10) {
            0..3 => {
                self.tell("the sessions on the canonical database ended");
                self.line.canonical.batch_execute(&end_sessions("plait")).await.unwrap();
            }
            3..6 => {
                self.tell("the sessions on Directus's Postgres ended");
                let end = end_sessions(&self.line.directus.capture.user);
                self.line.source.batch_execute(&end).await.unwrap();
            }
            6..8 => {
                self.tell("frozen");
                self.line.signal(Signal::SIGSTOP);
                sleep(Duration::from_secs(2)).await;
                self.line.signal(Signal::SIGCONT);
            }
            8 => {
                self.tell("Directus restarts");
                self.line.directus.server.stop().await.unwrap();
                self.line.directus.server.start().await.unwrap();
            }
            _ if restarts == Restarts::Allowed => {
                self.tell("stopped in good order");
                assert!(self.line.terminate(), "{}", self.line.log());
                self.line.run();
                self.counts.restarts += 1;
                return;
            }
            _ => return,
        }
        self.counts.faults += 1;
    }

    fn tell(&mut self, what: &str) {
        self.told.push(what.to_owned());
    }

    /// Edits a cell in the grid; whether the record was there.
    fn in_grid(&mut self, record: &Record, field: &str, value: &Value) -> bool {
        let Some(key) = &record.airtable else { return false };
        let edit = update(KINDS[record.kind].table, key, &[(field, value.clone())]);
        self.line.try_edit(&[edit]).is_ok()
    }

    async fn in_studio(&mut self, record: &Record, body: &Value) -> bool {
        let Some(id) = &record.directus else { return false };
        let path = format!("{}/{id}", KINDS[record.kind].path);
        // Of a record that is not there, the answer is empty.
        self.line.rest().patch(&path, body).await.is_ok_and(|row| !row.is_null())
    }

    /// A text that nobody has entered before, or, now and then, one that somebody has.
    async fn enter(&mut self, number: usize, is_in_airtable: bool) {
        let record = self.some(None);
        let texts = KINDS[record.kind].texts;
        let (canonical, airtable, directus) = texts[self.below(texts.len())];
        let of_field = self.entered.iter().filter(|(field, _)| *field == canonical);
        let again: Vec<String> = of_field.map(|(_, text)| text.clone()).collect();
        let is_again = !again.is_empty() && self.below(10) == 0;
        let text =
            if is_again { again[self.below(again.len())].clone() } else { format!("v{number}") };
        let is_taken = if is_in_airtable {
            self.in_grid(&record, airtable, &json!(text))
        } else {
            self.in_studio(&record, &json!({ directus: text })).await
        };
        if is_taken {
            let side = if is_in_airtable { "Airtable" } else { "Directus" };
            self.told.push(format!("{side}: {canonical} = {text} in {:?}", record.directus));
            self.entered.push((canonical, text));
            self.counts.edits += 1;
        }
    }

    fn create_in_airtable(&mut self, number: usize) {
        let (name, city) = newcomer(number);
        let cells = fields(&[("Nom", json!(name)), ("Ville", json!(city))]);
        let made = self.line.edit(&[Edit::Create { table: "Startups".into(), fields: cells }]);
        self.note_created(number, made.into_iter().next(), None);
    }

    async fn create_in_directus(&mut self, number: usize) {
        let ((name, city), id) = (newcomer(number), uuid::Uuid::now_v7().to_string());
        let body = json!({ "id": id, "name": name, "city": city });
        self.line.rest().post("/items/startup", &body).await.unwrap();
        self.note_created(number, None, Some(id));
    }

    fn note_created(&mut self, number: usize, airtable: Option<String>, directus: Option<String>) {
        let (name, city) = newcomer(number);
        self.told
            .push(format!("created {name}: {airtable:?} in Airtable, {directus:?} in Directus"));
        self.entered.extend([("name", name.clone()), ("city", city)]);
        self.created.push(name);
        self.counts.edits += 1;
        self.records.push(Record { kind: 0, airtable, directus });
    }

    /// Gives a project another startup.
    async fn link(&mut self) {
        let (project, startup) = (self.some(Some(1)), self.some(Some(0)));
        let is_taken = match (&startup.airtable, &startup.directus) {
            (Some(key), None) => self.in_grid(&project, "Startup", &json!([key])),
            (Some(key), _) if self.below(2) == 0 => {
                self.in_grid(&project, "Startup", &json!([key]))
            }
            (_, id) => self.in_studio(&project, &json!({ "startup": id })).await,
        };
        self.counts.edits += usize::from(is_taken);
        self.told.push(format!("{:?} to {:?}: {is_taken}", project.directus, startup.directus));
    }

    /// Says who is interested in a project: all of them in the grid, one more in the Studio.
    async fn change_a_set(&mut self) {
        let (project, one, other) = (self.some(Some(1)), self.some(Some(2)), self.some(Some(2)));
        let is_taken = if self.below(2) == 0 {
            let mut keys = vec![one.airtable, other.airtable];
            keys.dedup();
            self.in_grid(&project, "Intéressés", &json!(keys))
        } else {
            let body = json!({ "project": project.directus, "member": one.directus });
            self.line.rest().post("/items/project_interest", &body).await.is_ok()
        };
        self.counts.edits += usize::from(is_taken);
        self.told.push(format!("interest in {:?}: {is_taken}", project.directus));
    }

    async fn delete(&mut self) {
        let project = self.some(Some(1));
        // One has to be left.
        let is_last = self.told.iter().filter(|told| told.starts_with("deleted")).count() > 1;
        let (Some(key), Some(id), false) = (&project.airtable, &project.directus, is_last) else {
            return;
        };
        let is_in_airtable = self.below(2) == 0;
        if is_in_airtable {
            let edit = Edit::Delete { table: "Projets".into(), record: key.clone() };
            drop(self.line.try_edit(&[edit]));
        } else {
            // Those who are interested in it would be left without it.
            self.line
                .source
                .execute("delete from project where id::text = $1", &[id])
                .await
                .unwrap();
        }
        self.counts.edits += 1;
        self.told.push(format!("deleted {id}, in Airtable: {is_in_airtable}"));
    }

    /// One of the next requests to Airtable ends badly.
    fn disturb(&mut self) {
        use FaultKind::{Drop, Error500, Error502, Error503, RateLimit, Reset, Truncate};
        let kinds = [Drop, Error500, Error502, Error503, Reset, Truncate, RateLimit];
        let requests = ["update", "create", "update", "payloads", "list"];
        let (kind, request) =
            (kinds[self.below(kinds.len())], requests[self.below(requests.len())]);
        let fault = Fault::of_requests(kind, request, 1);
        let is_after = kind != RateLimit && self.below(2) == 0;
        self.counts.faults += 1;
        self.told.push(format!("{kind:?} of {request}, carried out: {is_after}"));
        self.line.sandbox.inject(if is_after { fault.after_the_write() } else { fault });
    }

    /// Both sides are read to their ends.
    async fn read_to_the_end(&mut self, round: usize) {
        let (last, startup) = (format!("end {round}"), self.line.a_startup().await);
        let edit = update(
            "Startups",
            &startup.0,
            &[("Site", json!(format!("https://{round}.airtable.fr")))],
        );
        self.line.edit(&[edit]);
        let body = json!({ "legal_form": last });
        self.line.rest().patch(&format!("/items/startup/{}", startup.1), &body).await.unwrap();
        let sql = format!(
            "select count(*) from canon.startup where website = 'https://{round}.airtable.fr' and legal_form = '{last}'"
        );
        self.line.until(&sql, 1).await;
        self.line.until_settled().await;
    }

    /// What waits for people is decided, until nothing does.
    pub(crate) async fn come_to_rest(&mut self) {
        // Those that nobody has met yet would wait for whoever looks at the end.
        self.line.sandbox.clear_faults();
        for round in 0..ROUND_COUNT_MAX {
            self.read_to_the_end(round).await;
            // Those of a record that is deleted stay with it: it is brought back first.
            let open = "select conflict_id from mirror.conflict c where decision = 'held' and decided_at is null
                 and not exists (select from mirror.tombstone t where t.record_id = c.record_id) order by 1";
            let open = self.line.canonical.query(open, &[]).await.unwrap();
            let deletes = "select count(*) from mirror.pending_delete where approved_at is null";
            if open.is_empty() && self.line.number(deletes).await == 0 {
                return;
            }
            for row in open {
                let (id, whose) =
                    (row.get::<_, i64>(0).to_string(), ["--airtable", "--directus", "--canonical"]);
                let whose = whose[self.below(3)];
                self.told.push(format!("conflict {id} settled {whose}"));
                let settle = ["conflicts", "settle", &id, whose, "--yes"];
                let Output { status, stderr, .. } = self.line.command(&settle).output().unwrap();
                // Its record may be deleted meanwhile.
                let complaint = String::from_utf8_lossy(&stderr);
                assert!(
                    status.success() || complaint.contains("is deleted"),
                    "{settle:?}: {complaint}"
                );
            }
            self.line.said(&["approve", "deletes", "--yes"]);
        }
        panic!("it does not come to rest");
    }

    /// All that has to hold at rest: every value is kept, nothing is there twice, both sides are equal, nothing is written.
    pub(crate) async fn holds(&mut self) {
        self.is_kept().await;
        self.is_single().await;
        let operations = self.line.number("select count(*) from mirror.operation").await;
        let output = self.line.command(&["verify", "--allow-owed"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{complaint}\n{}", self.told.join("\n"));
        let written = self.line.number("select count(*) from mirror.operation").await;
        assert_eq!(written, operations, "at rest nothing is written");
        assert!(self.line.is_running(), "{}", self.line.log());
    }

    /// Every value that somebody entered is in the journal or beside it.
    async fn is_kept(&self) {
        let sql = "select field, after::text from mirror.history where after is not null
             union select field, observed::text from mirror.conflict where field is not null
             union select field, canonical::text from mirror.conflict where field is not null";
        let kept: HashSet<(String, String)> = self
            .line
            .canonical
            .query(sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let lost: Vec<&(&str, String)> = self
            .entered
            .iter()
            .filter(|(field, text)| !kept.contains(&((*field).to_owned(), json!(text).to_string())))
            .collect();
        assert!(lost.is_empty(), "nowhere any more: {lost:?}\n{}", self.told.join("\n"));
    }

    /// Nothing is there twice.
    async fn is_single(&self) {
        let sql = "select name from startup where name like 'Neuve %' order by 1";
        let names = |rows: Vec<tokio_postgres::Row>| {
            rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        };
        let in_directus = names(self.line.source.query(sql, &[]).await.unwrap());
        let mut in_airtable: Vec<String> = self
            .line
            .sandbox
            .records(NETWORK_BASE, "Startups")
            .iter()
            .filter_map(|(_, cells)| cells["Nom"].as_str().map(str::to_owned))
            .filter(|name| name.starts_with("Neuve "))
            .collect();
        in_airtable.sort();
        let mut created = self.created.clone();
        created.sort();
        assert_eq!((&in_airtable, &in_directus), (&created, &created), "{}", self.told.join("\n"));
    }
}
