//! Yesterday's backup of each of the three is restored, through the whole program: with edits on all sides before and
//! after the backup, nothing newer is undone, nothing is doubled, and nothing is written before somebody said yes.

use std::time::Duration;

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{
    line::{CANONICAL_PASSWORD, Line, fields, update},
    world::eventually,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// The startups and the investment that the drills are about, by their names and ids.
struct Stage {
    /// Airtable's keys and canonical ids of two startups that both sides have before the backup.
    first: (String, String),
    second: (String, String),
    /// Made after the backup, in Airtable and in Directus.
    third: String,
    fourth: String,
    /// Deleted everywhere after the backup.
    gone: String,
}

impl Line {
    async fn database_of(&self, name: &str) -> Client {
        self.cluster.connect(name).await.unwrap()
    }

    /// What Airtable has in a cell of a startup.
    fn in_grid(&self, id: &str, field: &str) -> Vec<Value> {
        let records = self.sandbox.records(&self.base, "Startups");
        let mine = records.into_iter().filter(|(_, cells)| cells["UUID"] == *id);
        mine.map(|(_, cells)| cells[field].clone()).collect()
    }

    /// What Directus's database has in a column of a startup.
    async fn in_rows(&self, id: &str, column: &str) -> Vec<String> {
        let source = self.database_of("directus").await;
        let sql = format!("select coalesce({column}::text, '') from startup where id::text = $1");
        let rows = source.query(&sql, &[&id]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn until_both(&self, id: &str, (field, column): (&str, &str), wanted: &str) {
        eventually(PATIENCE, async || {
            let (grid, rows) = (self.in_grid(id, field), self.in_rows(id, column).await);
            if grid == [json!(wanted)] && rows == [wanted] {
                Ok(())
            } else {
                Err((id.to_owned(), grid, rows, wanted.to_owned(), self.log()))
            }
        })
        .await;
    }

    /// The canonical id that the Airtable record carries.
    async fn carried(&self, table: &str, key: &str) -> String {
        eventually(PATIENCE, async || {
            let records = self.sandbox.records(&self.base, table);
            let found = records.into_iter().find(|(of, _)| of == key);
            let id =
                found.as_ref().and_then(|(_, cells)| cells["UUID"].as_str().map(str::to_owned));
            id.ok_or_else(|| (found, self.log()))
        })
        .await
    }

    async fn birth(&self, name: &str) -> (String, String) {
        let cells = fields(&[("Nom", json!(name)), ("Ville", json!("Lyon"))]);
        let key = self.edit(&[Edit::Create { table: "Startups".into(), fields: cells }]).remove(0);
        let id = self.carried("Startups", &key).await;
        (key, id)
    }

    /// What is there before the backup.
    async fn before_backup(&self) -> (Stage, String) {
        let first = self.birth("Avant Une").await;
        let second = self.birth("Avant Deux").await;
        let cells = fields(&[("Référence", json!("INV-7001")), ("Montant", json!(100))]);
        let table = "Investissements";
        let investment =
            self.edit(&[Edit::Create { table: table.into(), fields: cells }]).remove(0);
        let gone = self.carried(table, &investment).await;
        self.edit(&[update("Startups", &first.0, &[("Effectif", json!(3))])]);
        self.rest()
            .patch(&format!("/items/startup/{}", second.1), &json!({ "city": "Nantes" }))
            .await
            .unwrap();
        self.until_both(&second.1, ("Ville", "city"), "Nantes").await;
        self.until_settled().await;
        let (third, fourth) = (String::new(), String::new());
        (Stage { first, second, third, fourth, gone }, investment)
    }

    /// What happens after it, on both sides.
    async fn after_backup(&self, stage: &mut Stage, investment: &str) {
        self.edit(&[update("Startups", &stage.first.0, &[("Ville", json!("Brest"))])]);
        self.rest()
            .patch(&format!("/items/startup/{}", stage.second.1), &json!({ "city": "Dinan" }))
            .await
            .unwrap();
        stage.third = self.birth("Après Trois").await.1;
        stage.fourth = uuid::Uuid::now_v7().to_string();
        let fourth = json!({ "id": stage.fourth, "name": "Après Quatre", "city": "Metz" });
        self.rest().post("/items/startup", &fourth).await.unwrap();
        self.edit(&[Edit::Delete { table: "Investissements".into(), record: investment.into() }]);
        self.until("select count(*) from mirror.pending_delete where approved_at is null", 1).await;
        self.said(&["approve", "deletes", "--yes"]);
        self.until_both(&stage.first.1, ("Ville", "city"), "Brest").await;
        self.until_both(&stage.second.1, ("Ville", "city"), "Dinan").await;
        self.until_both(&stage.fourth, ("Nom", "name"), "Après Quatre").await;
        self.until_both(&stage.third, ("Nom", "name"), "Après Trois").await;
        self.until_settled().await;
    }

    /// Waits until recovery is entered and all is read; then nothing was written, and the yes opens the way out.
    async fn until_recovered(&self, subject: &str, operation_count: i64) -> String {
        self.until(
            &format!("select count(*) from mirror.recovery where subject like '{subject}'"),
            1,
        )
        .await;
        let status = self.command(&["status"]).output().unwrap();
        assert!(!status.status.success(), "a recovery is not well");
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("gone back in time"), "{status}");
        let plan = eventually(PATIENCE, async || {
            let plan = self.said(&["plan"]);
            if plan.contains("accept it with") { Ok(plan) } else { Err((plan, self.log())) }
        })
        .await;
        assert_eq!(
            self.number("select count(*) from mirror.operation where settled_at is null or bound_at > (select min(begun_at) from mirror.recovery)").await,
            0,
            "nothing is written before somebody has said yes"
        );
        assert!(
            self.number("select count(*) from mirror.operation").await >= operation_count.min(0)
        );
        self.said(&["approve", "--yes"]);
        self.until_settled().await;
        plan
    }

    /// Everything is as it was before the restore, on all three, once.
    async fn is_whole(&self, stage: &Stage) {
        self.until_both(&stage.first.1, ("Ville", "city"), "Brest").await;
        self.until_both(&stage.second.1, ("Ville", "city"), "Dinan").await;
        self.until_both(&stage.third, ("Nom", "name"), "Après Trois").await;
        self.until_both(&stage.fourth, ("Nom", "name"), "Après Quatre").await;
        eventually(PATIENCE, async || {
            let source = self.database_of("directus").await;
            let sql = "select count(*) from investment where id::text = $1";
            let count: i64 = source.query_one(sql, &[&stage.gone]).await.unwrap().get(0);
            let records = self.sandbox.records(&self.base, "Investissements");
            let is_there = records.iter().any(|(_, cells)| cells["UUID"] == *stage.gone);
            if count == 0 && !is_there { Ok(()) } else { Err((count, is_there, self.log())) }
        })
        .await;
        self.until_settled().await;
        for name in ["Avant Une", "Avant Deux", "Après Trois", "Après Quatre"] {
            let records = self.sandbox.records(&self.base, "Startups");
            let count = records.iter().filter(|(_, cells)| cells["Nom"] == name).count();
            assert_eq!(count, 1, "{name} in Airtable");
            let source = self.database_of("directus").await;
            let sql = "select count(*) from startup where name = $1";
            let count: i64 = source.query_one(sql, &[&name]).await.unwrap().get(0);
            assert_eq!(count, 1, "{name} in Directus");
            let sql = format!("select count(*) from canon.startup where name = '{name}'");
            assert_eq!(self.number(&sql).await, 1, "{name} in canonical");
        }
        let verified = self.said(&["verify", "--allow-owed"]);
        assert!(!verified.contains("UNEXPLAINED"), "{verified}");
        // From here on the mirror is an ordinary one.
        self.edit(&[update("Startups", &stage.first.0, &[("Ville", json!("Vannes"))])]);
        self.until_both(&stage.first.1, ("Ville", "city"), "Vannes").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_directus_restored_from_yesterday_gets_what_is_newer() {
    let mut line = Line::start_two_way().await;
    let (mut stage, investment) = line.before_backup().await;
    let backup = line.folder.path().join("directus.sql");
    line.cluster.dump("directus", &backup).await.unwrap();
    line.after_backup(&mut stage, &investment).await;

    line.terminate();
    line.directus.server.stop().await.unwrap();
    let owner = line.directus.server.database().clone();
    let drop_slot = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = 'directus'";
    line.cluster.sql("postgres", drop_slot).await.unwrap();
    line.cluster.sql("postgres", "drop database directus with (force)").await.unwrap();
    let create = format!("create database directus owner {}", owner.user);
    line.cluster.sql("postgres", &create).await.unwrap();
    line.cluster.restore("directus", &owner.user, &owner.password, &backup).await.unwrap();
    line.directus.server.start().await.unwrap();
    assert_eq!(line.in_rows(&stage.first.1, "city").await, ["Lyon"]);

    // Somebody enters something into it before plait is back: of that nobody can tell how old it is.
    let path = format!("/items/startup/{}", stage.second.1);
    line.rest().patch(&path, &json!({ "headcount": 77 })).await.unwrap();
    line.run();
    let plan = line.until_recovered("directus", 0).await;
    assert!(plan.contains("Brest") && plan.contains("Dinan"), "{plan}");
    line.until("select count(*) from mirror.conflict where decision = 'held' and decided_at is null and field = 'headcount'", 1).await;
    line.is_whole(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_canonical_restored_from_yesterday_takes_what_is_newer() {
    let mut line = Line::start_two_way().await;
    // Some of the network's startups have the same name.
    let twins =
        "select count(*) from (select name from canon.startup group by name having count(*) > 1) t";
    let twin_count = line.number(twins).await;
    let (mut stage, investment) = line.before_backup().await;
    let backup = line.folder.path().join("plait.sql");
    line.cluster.dump("plait", &backup).await.unwrap();
    line.after_backup(&mut stage, &investment).await;

    line.terminate();
    line.cluster.sql("postgres", "drop database plait with (force)").await.unwrap();
    line.cluster.sql("postgres", "create database plait owner plait").await.unwrap();
    line.cluster.restore("plait", "plait", CANONICAL_PASSWORD, &backup).await.unwrap();
    line.canonical = line.database_of("plait").await;
    line.run();
    line.until_recovered("canonical", 0).await;
    line.is_whole(&stage).await;
    assert_eq!(line.number(twins).await, twin_count);
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_base_restored_as_a_new_one_gets_what_is_newer() {
    let mut line = Line::start_two_way().await;
    let (mut stage, investment) = line.before_backup().await;
    let url = format!("{}/sandbox/snapshot", line.sandbox.url());
    let client = reqwest::Client::new();
    let snapshot = client.get(&url).send().await.unwrap().text().await.unwrap();
    line.after_backup(&mut stage, &investment).await;

    line.terminate();
    // A snapshot becomes a base of its own, whose records have the ids that they had.
    let new = "appRestored000001";
    let restored = snapshot.replace(NETWORK_BASE, new);
    let put = client.put(&url).body(restored).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    let settings = line.folder.path().join("plait.toml");
    let text = std::fs::read_to_string(&settings).unwrap().replace(NETWORK_BASE, new);
    std::fs::write(&settings, text).unwrap();
    line.base = new.into();
    assert_eq!(line.in_grid(&stage.first.1, "Ville"), [json!("Lyon")]);
    line.run();
    let plan = line.until_recovered("airtable:%", 0).await;
    assert!(plan.contains("Brest") && plan.contains("Dinan"), "{plan}");
    line.is_whole(&stage).await;
}
