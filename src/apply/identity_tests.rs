//! Who is whom, against a real Postgres: records that are new on a side are found among those that it lacks.

use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Apply, Committed, Limits, Log};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    model::{
        Author, Cell, Change, Cursor, Decision, Delivery, EntityNo, FieldNo, Lsn, Observation,
        Position, Side, SideKey, Stamp, Value,
    },
    postgres::TlsMode,
    queue::queue,
    store::{self, Canonical, Writer},
};

const PATIENCE: Duration = Duration::from_mins(2);
pub(super) const FIRM: EntityNo = EntityNo(0);
const DEAL: EntityNo = EntityNo(1);

pub(super) const MAPPING: &str = r#"
version = 1
[entity.firm]
table = "firm"
airtable = { base = "main", table = "Firms", uuid = "UUID" }
directus = { table = "firm" }
match = ["siren", ["name", "city"]]
[entity.firm.field]
name = { type = "text", airtable = "Name", directus = "name", policy = "prefer airtable" }
siren = { type = "text", airtable = "SIREN", directus = "siren" }
city = { type = "text", airtable = "City", directus = "city" }
[entity.deal]
table = "deal"
airtable = { base = "main", table = "Deals", uuid = "UUID" }
directus = { table = "deal" }
match = [["name", "firm_id"]]
[entity.deal.field]
name = { type = "text", airtable = "Name", directus = "name" }
firm_id = { type = "link", target = "firm", airtable = "Firm", directus = "firm_id" }
"#;

const TABLES: &str = "
    create table canon.firm (id uuid primary key, name text, siren text, city text, deleted_at timestamptz);
    create table canon.deal (id uuid primary key, name text, deleted_at timestamptz,
        firm_id uuid references canon.firm deferrable initially deferred)";

pub(super) fn id(no: u32) -> Uuid {
    Uuid::from_u64_pair(u64::from(no) << 16 | 0x4000, 1 << 63)
}

pub(super) fn text(text: &str) -> Cell {
    Cell::Value(if text.is_empty() { Value::Null } else { Value::Text(text.into()) })
}

fn seen(
    entity: EntityNo,
    key: &str,
    cells: Vec<Cell>,
    claimed_id: Option<Option<Uuid>>,
) -> Observation {
    let cells = cells
        .into_iter()
        .enumerate()
        .map(|(no, cell)| (FieldNo(u16::try_from(no).unwrap()), cell))
        .collect();
    let change = Change::Present { cells, claimed_id, made_at: None };
    Observation { entity, key: SideKey::from(key), change }
}

/// A firm in Directus: name, SIREN, city.
pub(super) fn row(no: u32, [name, siren, city]: [&str; 3]) -> Observation {
    seen(FIRM, &id(no).to_string(), vec![text(name), text(siren), text(city)], None)
}

/// A firm in Airtable, with what its UUID field holds.
pub(super) fn record(
    key: &str,
    [name, siren, city]: [&str; 3],
    carried: Option<Uuid>,
) -> Observation {
    seen(FIRM, key, vec![text(name), text(siren), text(city)], Some(carried))
}

pub(super) fn deal(
    key: &str,
    name: &str,
    firm: &str,
    claimed_id: Option<Option<Uuid>>,
) -> Observation {
    let firm = Cell::Link(Some(SideKey::from(firm)));
    seen(DEAL, key, vec![text(name), firm], claimed_id)
}

/// Only what the UUID field holds.
fn carries(key: &str, carried: Option<Uuid>) -> Observation {
    seen(FIRM, key, Vec::new(), Some(carried))
}

pub(super) struct Lab {
    _cluster: Cluster,
    pub(super) config: Canonical,
    pub(super) client: Client,
    pub(super) mapping: String,
    /// What Airtable's capture says that it has looked up.
    pub(super) identity: Option<serde_json::Value>,
    at: i64,
}

impl Lab {
    pub(super) async fn open() -> Self {
        Self::with_mapping(MAPPING).await
    }

    pub(super) async fn with_mapping(mapping: &str) -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database plait").await.unwrap();
        let config = cluster.config("plait", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&config).await.unwrap();
        let client = cluster.connect("plait").await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        Self { _cluster: cluster, config, client, mapping: mapping.into(), identity: None, at: 0 }
    }

    fn delivery(&mut self, side: Side, observations: Vec<Observation>) -> Delivery {
        self.at += 1;
        let no = u64::try_from(self.at).unwrap();
        let position = match side {
            Side::Directus => Position::Lsn(Lsn(no)),
            Side::Airtable => {
                Position::Cursor(Cursor { base: "app".into(), webhook: "ach".into(), next: no })
            }
        };
        let author = Author { via: "client".into(), ..Author::default() };
        let (at, position) = (self.at * 1_000_000, Some(position));
        Delivery::Transaction {
            stamp: Stamp { side, at, position, author, operation: None },
            observations,
        }
    }

    /// Applies these transactions, in a process of its own, in as few batches as there can be.
    pub(super) async fn apply(&mut self, transactions: Vec<(Side, Vec<Observation>)>) {
        let mapping = mapping::read(&self.mapping, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let (looked_up, identity) = watch::channel(None);
        if self.identity.is_some() {
            looked_up.send_replace(self.identity.clone());
        }
        let log = |name: &str, side, committed| Log {
            name: name.into(),
            side,
            identity: if side == Side::Airtable {
                identity.clone()
            } else {
                watch::channel(None).1
            },
            stored_identity: None,
            committed,
            is_new: false,
        };
        let logs = vec![
            log("directus", Side::Directus, Committed::Lsn(watch::channel(None).0)),
            log("airtable:app", Side::Airtable, Committed::Cursor(watch::channel(None).0)),
        ];
        let (sender, received) = queue(1_000_000);
        for (side, observations) in transactions {
            let delivery = self.delivery(side, observations);
            sender.send(delivery).await.unwrap();
        }
        drop(sender);
        let apply = Apply::new(writer, logs, Limits { batch_row_count_max: 1_000 });
        tokio::time::timeout(PATIENCE, apply.run(received)).await.expect("in time").unwrap();
    }

    /// Carries out what a person says; in words, what could not be done.
    pub(super) async fn decide(&mut self, decision: Decision) -> Option<String> {
        let body = serde_json::to_value([&decision]).unwrap();
        let put =
            "insert into mirror.command (author, body) values ('ada', $1) returning command_id";
        let command: i64 = self.client.query_one(put, &[&body]).await.unwrap().get(0);
        let mapping = mapping::read(&self.mapping, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let (sender, received) = queue(10);
        let (author, decisions) = ("ada".into(), vec![decision]);
        sender.send(Delivery::Decided { command, at: 0, author, decisions }).await.unwrap();
        drop(sender);
        let apply = Apply::new(writer, Vec::new(), Limits { batch_row_count_max: 10 });
        tokio::time::timeout(PATIENCE, apply.run(received)).await.expect("in time").unwrap();
        let read =
            "select outcome from mirror.command where command_id = $1 and done_at is not null";
        self.client.query_one(read, &[&command]).await.unwrap().get(0)
    }

    pub(super) async fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    pub(super) async fn matches(&self) -> Vec<String> {
        self.lines("select concat_ws(' ', side, side_key, matched_by) from mirror.match order by 1")
            .await
    }

    pub(super) async fn questions(&self) -> Vec<String> {
        self.lines(
            "select concat_ws(' ', side, side_key, cardinality(candidates), reason) from mirror.match_question order by 1",
        )
        .await
    }

    /// What is owed to Airtable's UUID fields: key and what it carries.
    async fn owed_ids(&self) -> Vec<String> {
        self.lines(
            "select l.side_key || ' ' || s.value from mirror.shadow s
             join mirror.link l using (record_id, entity_no, side) where s.field = '#id' order by 1",
        )
        .await
    }

    pub(super) async fn id_of(&self, key: &str) -> Uuid {
        let sql = "select record_id from mirror.link where side_key = $1";
        self.client.query_one(sql, &[&key]).await.unwrap().get(0)
    }
}

pub(super) const AIR: Side = Side::Airtable;
pub(super) const DIR: Side = Side::Directus;

#[tokio::test]
async fn identity_airtable_records_are_found_among_directus_rows() {
    let mut lab = Lab::open().await;
    let deals = vec![deal(&id(10).to_string(), "Round", &id(1).to_string(), None)];
    let rows = vec![
        row(1, ["Élan Vert SAS", "552100554", "Brest"]),
        row(2, ["Houle", "", "Nantes"]),
        row(3, ["Sel", "732829320", "Nantes"]),
        row(4, ["Twin", "", "Brest"]),
        row(5, ["Twin", "", "Brest"]),
    ];
    lab.apply(vec![(DIR, rows), (DIR, deals)]).await;
    let records = vec![
        record("recA", ["Elan Vert", "552100554", ""], None),
        record("recB", ["HOULE", "", "nantes"], None),
        // By the id that it carries, whatever it holds.
        record("recC", ["Salt", "", ""], Some(id(3))),
        record("recD", ["twin", "", "brest"], None),
        record("recE", ["New", "", "Brest"], None),
    ];
    lab.apply(vec![(AIR, records), (AIR, vec![deal("recX", "round", "recA", Some(None))])]).await;
    assert_eq!(
        lab.matches().await,
        ["airtable recA siren", "airtable recB name+city", "airtable recX name+firm_id"]
    );
    assert_eq!(lab.questions().await, ["airtable recD 2 `name+city` agrees with 2 records"]);
    assert_eq!(lab.id_of("recA").await, id(1));
    assert_eq!(lab.id_of("recB").await, id(2));
    assert_eq!(lab.id_of("recC").await, id(3));
    assert_eq!(lab.id_of("recX").await, id(10));
    // Five rows, and the two that nobody is sure to be.
    assert_eq!(lab.lines("select count(*)::text from canon.firm").await, ["7"]);
    assert_eq!(lab.lines("select count(*)::text from canon.deal").await, ["1"]);
    // Those that do not carry it yet are told their id.
    let ids: Vec<String> =
        ["recA", "recB", "recD", "recE", "recX"].map(|key| format!("{key} null")).into();
    assert_eq!(lab.owed_ids().await, ids);
    // Where both sides hold something else, without a common ancestor, both values are on record.
    let conflicts = lab
        .lines("select concat_ws(' ', field, canonical, observed, decision) from mirror.conflict order by 1")
        .await;
    assert_eq!(
        conflicts,
        [
            "city \"Nantes\" \"nantes\" held",
            "name \"Houle\" \"HOULE\" observed taken",
            "name \"Round\" \"round\" held",
            "name \"Sel\" \"Salt\" observed taken",
            "name \"Élan Vert SAS\" \"Elan Vert\" observed taken",
        ]
    );
}

#[tokio::test]
async fn identity_directus_rows_are_found_among_airtable_records_for_ever() {
    let mut lab = Lab::open().await;
    lab.apply(vec![(AIR, vec![record("recA", ["Houle", "552100554", ""], None)])]).await;
    // Later, in another process and in one batch with other changes: somebody makes it in Directus, too.
    let rows = vec![row(7, ["HOULE", "552100554", ""]), row(8, ["Other", "", ""])];
    let deals = vec![deal(&id(9).to_string(), "Round", &id(7).to_string(), None)];
    lab.apply(vec![
        (DIR, rows),
        (DIR, deals),
        (DIR, vec![row(7, ["Houle", "552100554", "Brest"])]),
    ])
    .await;
    let canonical = lab.id_of("recA").await;
    assert_eq!(lab.matches().await, [format!("directus {} siren", id(7))]);
    assert_eq!(lab.id_of(&id(7).to_string()).await, canonical);
    let firms = lab.lines("select concat_ws(' ', name, city) from canon.firm order by 1").await;
    assert_eq!(firms, ["Houle Brest", "Other"]);
    // A link in Directus names the row, canonical the record.
    let links = lab.lines("select firm_id::text from canon.deal").await;
    assert_eq!(links, [canonical.to_string()]);
    // Neither side lacks it now.
    let absent =
        lab.lines("select count(*)::text from mirror.absence where side = 'directus'").await;
    assert_eq!(absent, ["0"]);
}

#[tokio::test]
async fn identity_what_a_side_deleted_is_not_found_there_again() {
    let mut lab = Lab::open().await;
    let gone = Observation { change: Change::Absent, ..record("recA", ["", "", ""], None) };
    lab.apply(vec![
        // Both are new in what is one batch, as after a pause of ours.
        (DIR, vec![row(1, ["Houle", "552100554", ""])]),
        (AIR, vec![record("recA", ["Houle", "552100554", ""], None)]),
    ])
    .await;
    lab.apply(vec![(AIR, vec![gone])]).await;
    lab.apply(vec![(AIR, vec![record("recB", ["Houle", "552100554", ""], None)])]).await;
    assert_eq!(lab.matches().await, ["airtable recA siren"]);
    assert_ne!(lab.id_of("recB").await, id(1));
}

#[tokio::test]
async fn identity_airtable_ids_that_people_change_are_owed_and_never_obeyed() {
    let mut lab = Lab::open().await;
    lab.apply(vec![
        (DIR, vec![row(1, ["A", "", ""]), row(2, ["B", "", ""])]),
        (AIR, vec![record("recA", ["A", "", ""], Some(id(1)))]),
    ])
    .await;
    assert!(lab.owed_ids().await.is_empty());
    // Cleared; then another's; then a copy with the id of a living record; then it is right again.
    lab.apply(vec![(AIR, vec![carries("recA", None)])]).await;
    assert_eq!(lab.owed_ids().await, ["recA null"]);
    let due = "select side || ' ' || record_id from mirror.outbox where side = 'airtable' and record_id::text like '00000000-0001%'";
    assert_eq!(lab.lines(due).await, [format!("airtable {}", id(1))]);
    lab.apply(vec![(AIR, vec![carries("recA", Some(id(2)))])]).await;
    assert_eq!(lab.owed_ids().await, [format!("recA \"{}\"", id(2))]);
    assert_eq!(lab.id_of("recA").await, id(1));
    lab.apply(vec![
        (AIR, vec![carries("recA", Some(id(1)))]),
        (AIR, vec![record("recCopy", ["A", "", ""], Some(id(1)))]),
    ])
    .await;
    assert_eq!(lab.owed_ids().await, [format!("recCopy \"{}\"", id(1))]);
    assert_ne!(lab.id_of("recCopy").await, id(1));
    // It is owed no more; the push, which has the last look, drops it.
    assert_eq!(lab.lines(due).await, [format!("airtable {}", id(1))]);
    assert!(lab.questions().await.is_empty());
}

#[tokio::test]
async fn identity_is_right_for_thirty_thousand_records() {
    const COUNT: u32 = 30_000;
    let mut lab = Lab::open().await;
    let name = |no: u32| format!("Firm {no}");
    let rows: Vec<Observation> = (0..COUNT).map(|no| row(no, [&name(no), "", "Brest"])).collect();
    lab.apply(rows.chunks(1_000).map(|rows| (DIR, rows.to_vec())).collect()).await;
    let records: Vec<Observation> =
        (0..COUNT).map(|no| record(&format!("rec{no}"), [&name(no), "", "Brest"], None)).collect();
    // As a listing comes: a hundred a page.
    lab.apply(records.chunks(100).map(|records| (AIR, records.to_vec())).collect()).await;
    assert_eq!(lab.lines("select count(*)::text from canon.firm").await, ["30000"]);
    assert_eq!(lab.lines("select count(*)::text from mirror.match").await, ["30000"]);
    assert_eq!(lab.lines("select count(*)::text from mirror.match_question").await, ["0"]);
    let wrong = lab
        .lines("select l.side_key from mirror.link l join canon.firm f on f.id = l.record_id where f.name <> 'Firm ' || substr(l.side_key, 4)")
        .await;
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn join(key: &str, record: Uuid) -> Decision {
    Decision::Join { entity: "firm".into(), side: "airtable".into(), key: key.into(), record }
}

pub(super) fn split(side: Side, key: &str) -> Decision {
    Decision::Split { entity: "firm".into(), side: side.name().into(), key: key.into() }
}

#[tokio::test]
async fn identity_missed_match_is_joined_with_all_that_hangs_on_it() {
    let mut lab = Lab::open().await;
    lab.apply(vec![
        (DIR, vec![row(1, ["Twin", "", "Brest"]), row(2, ["Twin", "", "Brest"])]),
        (AIR, vec![record("recA", ["twin", "552100554", "brest"], None)]),
        (AIR, vec![deal("recX", "Round", "recA", Some(None))]),
    ])
    .await;
    assert_eq!(lab.questions().await.len(), 1);
    let made = lab.id_of("recA").await;
    assert_eq!(lab.decide(join("recA", id(2))).await, None);
    assert_eq!(lab.id_of("recA").await, id(2));
    // What only Airtable held is canonical; where both hold something, both are kept.
    let firms =
        lab.lines("select concat_ws(' ', id, name, siren, city) from canon.firm order by id").await;
    assert_eq!(firms, [format!("{} Twin Brest", id(1)), format!("{} twin 552100554 Brest", id(2))]);
    assert_eq!(lab.lines("select firm_id::text from canon.deal").await, [id(2).to_string()]);
    let gone = lab.lines("select record_id::text from mirror.tombstone").await;
    assert_eq!(gone, [made.to_string()]);
    let journal = format!(
        "select concat_ws(' ', t.author_name, j.action) from mirror.journal j
         join mirror.source_transaction t using (source_transaction_id)
         where record_id = '{made}' order by journal_id"
    );
    assert_eq!(lab.lines(&journal).await, ["create", "ada delete"]);
    let open = lab
        .lines("select record_id::text from mirror.match_question where answered_at is null")
        .await;
    assert!(open.is_empty());
    assert_eq!(lab.matches().await, ["airtable recA person"]);
    // The row is told its id; nothing is left of the record that was made for it.
    assert_eq!(lab.owed_ids().await, ["recA null", "recX null"]);
    for table in ["shadow", "absence", "outbox", "link"] {
        let left = format!("select record_id::text from mirror.{table} where record_id = '{made}'");
        assert!(lab.lines(&left).await.is_empty(), "{table}");
    }
    let again = lab.decide(join("recA", id(2))).await.unwrap();
    assert_eq!(again, "firm recA of airtable: is that record already");
    let unknown = lab.decide(join("recZ", id(2))).await.unwrap();
    assert_eq!(unknown, "airtable has no firm `recZ`, as far as it was read");
}

#[tokio::test]
async fn identity_wrong_match_is_split_and_each_side_keeps_what_it_holds() {
    let mut lab = Lab::open().await;
    lab.apply(vec![
        (DIR, vec![row(1, ["Houle", "552100554", "Brest"])]),
        (DIR, vec![deal(&id(10).to_string(), "Old", &id(1).to_string(), None)]),
        (AIR, vec![record("recA", ["Houle", "552100554", "Nantes"], None)]),
        (AIR, vec![deal("recX", "New", "recA", Some(None))]),
    ])
    .await;
    assert_eq!(lab.matches().await, ["airtable recA siren"]);
    let words = lab.decide(split(DIR, &id(1).to_string())).await.unwrap();
    assert!(words.contains("has the canonical id itself"), "{words}");
    assert_eq!(lab.decide(split(AIR, "recA")).await, None);
    let made = lab.id_of("recA").await;
    assert_ne!(made, id(1));
    let firms = lab.lines("select concat_ws(' ', name, city) from canon.firm order by city").await;
    assert_eq!(firms, ["Houle Brest", "Houle Nantes"]);
    // What linked to it on Airtable alone links to the new one; the row in Directus to the old one.
    let deals =
        lab.lines("select concat_ws(' ', name, firm_id) from canon.deal order by name").await;
    assert_eq!(deals, [format!("New {made}"), format!("Old {}", id(1))]);
    // Each is owed to the side that lacks it.
    let absent = lab.lines("select concat_ws(' ', side, was_deleted, record_id) from mirror.absence where entity_no = 1 order by side").await;
    assert_eq!(absent, [format!("airtable f {}", id(1)), format!("directus f {made}")]);
    assert!(
        lab.lines("select match_id::text from mirror.match where split_at is null")
            .await
            .is_empty()
    );
    let again = lab.decide(split(AIR, "recA")).await.unwrap();
    assert_eq!(again, "firm recA of airtable: is a record of its own already");
}
