//! The plan, against a real Postgres.

use tokio_postgres::Client;
use uuid::Uuid;

use super::{Around, as_json, as_text, reading};
use crate::{
    apply::Limits,
    cli::{desk::Desk, terminal::Paint},
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping,
    postgres::TlsMode,
    store::{self, Canonical, plan, questions, reading as tables},
};

const MAPPING: &str = r#"
version = 1
[entity.firm]
table = "firm"
airtable = { base = "main", table = "Firms", uuid = "UUID" }
directus = { table = "firm" }
match = ["siren"]
[entity.firm.field]
name = { type = "text", airtable = "Name", directus = "name" }
siren = { type = "text", airtable = "SIREN", directus = "siren" }
"#;

const ROWS: &str = r#"
    create table canon.firm (id uuid primary key, name text, siren text, city text, deleted_at timestamptz);
    insert into mirror.entity values (1, 'firm');
    insert into canon.firm (id, name, siren) values
        ('00000000-0000-4000-8000-000000000001', 'Houle', '1'), ('00000000-0000-4000-8000-000000000002', 'Sel', '2'),
        ('00000000-0000-4000-8000-000000000003', 'Iode', null), ('00000000-0000-4000-8000-000000000004', 'Dune', '4'),
        ('00000000-0000-4000-8000-000000000005', 'Algue', '5');
    -- Directus lacks the first; Airtable holds another name of the second; the third may be the fourth; Airtable's
    -- fifth carries no id; its name of the fourth waits for a decision.
    insert into mirror.absence values ('00000000-0000-4000-8000-000000000001', 1, 'directus', 1, false);
    insert into mirror.shadow values
        ('00000000-0000-4000-8000-000000000002', 1, 'airtable', 'name', '"Salt"'),
        ('00000000-0000-4000-8000-000000000004', 1, 'airtable', 'name', '"Dunes"'),
        ('00000000-0000-4000-8000-000000000005', 1, 'airtable', '#id', 'null');
    insert into mirror.absence values ('00000000-0000-4000-8000-000000000003', 1, 'directus', 1, false);
    insert into mirror.conflict (entity_no, record_id, field, side, base_is_known, canonical, observed, observed_transaction_id, decision)
        values (1, '00000000-0000-4000-8000-000000000004', 'name', 'airtable', false, '"Dune"', '"Dunes"', 1, 'held');
    insert into mirror.match_question (entity_no, side, side_key, record_id, candidates, reason)
        values (1, 'airtable', 'rec3', '00000000-0000-4000-8000-000000000003', '{00000000-0000-4000-8000-000000000004}', 'why');
    insert into mirror.match (entity_no, record_id, side, side_key, matched_by)
        values (1, '00000000-0000-4000-8000-000000000002', 'airtable', 'rec2', 'siren');
    insert into mirror.pending_delete (entity_no, record_id, side, source_transaction_id)
        values (1, '00000000-0000-4000-8000-000000000005', 'directus', 1);
    insert into mirror.outbox (entity_no, record_id, side, due_at)
        values (1, '00000000-0000-4000-8000-000000000001', 'directus', now() + interval '1 hour');
    insert into mirror.position (log, side, position) values ('directus', 'directus', '0/1');
"#;

struct Lab {
    _cluster: Cluster,
    desk: Desk,
    client: Client,
}

impl Lab {
    async fn open() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database plait").await.unwrap();
        let config = cluster.config("plait", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&config).await.unwrap();
        let client = cluster.connect("plait").await.unwrap();
        client.batch_execute(ROWS).await.unwrap();
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let pool = tables::pool(&config, Some(cluster.password())).await.unwrap();
        let limits = Limits { batch_row_count_max: 10 };
        let desk = Desk::new(config, mapping, pool, limits).await.unwrap();
        Self { _cluster: cluster, desk, client }
    }

    async fn plan(&self) -> plan::Plan {
        reading(&self.desk, true).read(&self.desk.pool).await.unwrap()
    }

    async fn around(&self) -> Around {
        let logs = vec![String::from("directus"), String::from("airtable:app")];
        Around::read(&self.desk, logs, true).await.unwrap()
    }

    async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn plan_says_what_is_owed_and_not_approved_cell_by_cell() {
    let lab = Lab::open().await;
    let plan = lab.plan().await;
    let around = lab.around().await;
    let text = as_text(&plan, &around, true, Paint::for_stdout()).join("\n");
    for line in [
        "! not complete: the first copy of airtable:app has not ended, and nobody knows yet who lacks what. `plait run` makes it",
        "  airtable: 1 to change (1 cells), 1 to be told their id, 1 cells wait for `plait conflicts`",
        "  directus: 1 to create, 1 wait for a word on who they are",
        "1 of firm on airtable found in the other side's by siren",
        "    airtable rec2 = firm Sel (siren)",
        "? question 1: firm Iode (airtable rec3): why",
        "    may be firm Dune 00000000-0000-4000-8000-000000000004",
        "firm on airtable: 1 to change\n  Sel 00000000-0000-4000-8000-000000000002\n      name: Salt → Sel",
        "firm on directus: 1 to create\n  Houle 00000000-0000-4000-8000-000000000001\n      name: Houle\n      siren: 1",
        "firm on airtable: 1 to be told their id\n  Algue 00000000-0000-4000-8000-000000000005",
    ] {
        assert!(text.contains(line), "{line}\n---\n{text}");
    }
    let json = as_json(&plan, &around);
    assert_eq!(json["tallies"]["firm"]["directus"]["create"], 1);
    assert_eq!(json["unread"], serde_json::json!(["airtable:app"]));
    assert_eq!(json["writes"].as_array().unwrap().len(), 3);
    assert_eq!(json["deletes"][0]["side"], "directus");
}

#[tokio::test]
async fn plan_that_was_shown_is_accepted_only_while_it_holds() {
    let lab = Lab::open().await;
    let pool = &lab.desk.pool;
    let reading = reading(&lab.desk, false);
    let shown = lab.plan().await;
    plan::note_shown(pool, &shown).await.unwrap();
    assert_eq!(lab.plan().await.digest, shown.digest);
    let last = plan::last_shown(pool).await.unwrap().unwrap();
    assert_eq!((&last.digest, &last.tallies), (&shown.digest, &shown.tallies));
    // Somebody edits what is to be created: the plan is another one.
    lab.client
        .batch_execute("update canon.firm set name = 'HOULE' where name = 'Houle'")
        .await
        .unwrap();
    let (now, is_accepted) = reading.approve(pool, &last.digest, "ada").await.unwrap();
    assert!(!is_accepted && now.digest != last.digest);
    assert_eq!(lab.count("select count(*) from mirror.approval").await, 0);
    // Shown again, it is accepted, for all fields and the records as a whole; and what is owed is due.
    let (_, is_accepted) = reading.approve(pool, &now.digest, "ada").await.unwrap();
    assert!(is_accepted);
    assert_eq!(lab.count("select count(*) from mirror.approval where approved_by = 'ada' and field in ('*', 'name', 'siren')").await, 3);
    assert_eq!(lab.count("select count(*) from mirror.outbox where due_at <= now()").await, 1);
    let rest = lab.plan().await;
    assert!(rest.digest.is_empty() && rest.writes.is_empty());
}

#[tokio::test]
async fn plan_of_a_new_field_has_just_that_field() {
    let mut lab = Lab::open().await;
    let reading_all = reading(&lab.desk, true);
    let plan = lab.plan().await;
    reading_all.approve(&lab.desk.pool, &plan.digest, "ada").await.unwrap();
    let with_city = format!(
        "{MAPPING}city = {{ type = \"text\", airtable = \"City\", directus = \"city\" }}\n"
    );
    lab.desk.mapping = mapping::read(&with_city, "mapping.toml").unwrap();
    lab.desk.shapes = store::shapes(&lab.client, &mut lab.desk.mapping).await.unwrap();
    lab.client
        .batch_execute(
            "update canon.firm set city = 'Brest';
             insert into mirror.shadow values ('00000000-0000-4000-8000-000000000002', 1, 'airtable', 'city', 'null')",
        )
        .await
        .unwrap();
    let plan = lab.plan().await;
    assert_eq!(plan.unapproved["firm"], ["city"]);
    let cells: Vec<String> = plan
        .writes
        .iter()
        .flat_map(|write| {
            write.cells.iter().map(|cell| format!("{} {} {}", write.label, write.side, cell.field))
        })
        .collect();
    assert_eq!(cells, ["Houle directus city", "Sel airtable city"]);
}

#[tokio::test]
async fn plan_holds_apply_off_while_it_is_accepted() {
    let lab = Lab::open().await;
    let plan = lab.plan().await;
    // A batch that is being written: the yes waits for its end, and sees what it has done.
    lab.client
        .batch_execute("begin; insert into mirror.shadow values ('00000000-0000-4000-8000-000000000001', 1, 'airtable', 'name', '\"x\"')")
        .await
        .unwrap();
    let pool = lab.desk.pool.clone();
    let reading = reading(&lab.desk, false);
    let approving = reading.approve(&pool, &plan.digest, "ada");
    let ending = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        lab.client.batch_execute("commit").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(approving, ending);
    assert!(!outcome.unwrap().1);
}

#[tokio::test]
async fn plan_question_answered_by_different_is_over_once() {
    let lab = Lab::open().await;
    let pool = &lab.desk.pool;
    assert!(questions::answer_different(pool, 1, "ada").await.unwrap());
    assert!(!questions::answer_different(pool, 1, "bob").await.unwrap());
    assert!(questions::questions(pool).await.unwrap().is_empty());
    let firm = Uuid::from_u128(3 | 0x4000 << 64 | 0x8000 << 48);
    let plan = lab.plan().await;
    assert!(plan.writes.iter().any(|write| write.record == firm), "{:?}", plan.writes);
}
