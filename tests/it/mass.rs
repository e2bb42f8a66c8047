//! Many changes at once, through the whole program: a script's stop before anything reaches the other side, are told, let
//! through by a yes and taken back by an undo; a person's go at once.

use std::{fs, time::Duration};

use plait::{
    demo::model,
    sandbox::{Actor, Edit},
};
use serde_json::{Value, json};

use crate::{
    line::{Line, update},
    world::eventually,
};

const PATIENCE: Duration = Duration::from_mins(2);
const TABLE: &str = "Projets";
/// Airtable's field, and Directus's column.
const FIELD: (&str, &str) = ("Résumé", "summary");

/// A project, as either side calls it.
struct Project {
    key: String,
    id: String,
}

impl Line {
    /// The projects that both sides have, in the order of Airtable's keys.
    fn projects(&self) -> Vec<Project> {
        let records = self.sandbox.records(&self.base, TABLE);
        let mut projects: Vec<Project> = records
            .into_iter()
            .filter_map(|(key, cells)| {
                Some(Project { key, id: cells["UUID"].as_str()?.to_owned() })
            })
            .collect();
        projects.sort_by(|a, b| a.key.cmp(&b.key));
        projects
    }

    fn change(&self, actor: Actor, projects: &[Project], summary: &str) {
        let edits: Vec<Edit> = projects
            .iter()
            .map(|it| update(TABLE, &it.key, &[(FIELD.0, json!(summary))]))
            .collect();
        self.sandbox.edit_as(&self.base, actor, &edits).unwrap();
    }

    /// How many projects have this summary in Directus.
    async fn summaries_in_rows(&self, summary: &str) -> i64 {
        let sql = format!("select count(*) from project where {} = $1", FIELD.1);
        self.source.query_one(&sql, &[&summary]).await.unwrap().get(0)
    }

    /// And in Airtable.
    fn summaries_in_grid(&self, summary: &str) -> i64 {
        let records = self.sandbox.records(&self.base, TABLE);
        let mine = records.iter().filter(|(_, cells)| cells[FIELD.0] == *summary);
        i64::try_from(mine.count()).unwrap()
    }

    async fn until_summaries_in_rows(&self, summary: &str, count: i64) {
        eventually(PATIENCE, async || {
            let found = self.summaries_in_rows(summary).await;
            if found == count { Ok(()) } else { Err((summary.to_owned(), found, self.log())) }
        })
        .await;
    }

    async fn until_summaries_in_grid(&self, summary: &str, count: i64) {
        eventually(PATIENCE, async || {
            let found = self.summaries_in_grid(summary);
            if found == count { Ok(()) } else { Err((summary.to_owned(), found, self.log())) }
        })
        .await;
    }

    /// Waits until this many records wait for a yes.
    async fn until_stopped(&self, count: i64) {
        self.until("select count(*) from mirror.outbox where stopped_by is not null", count).await;
    }

    async fn stop_no(&self) -> i64 {
        self.number("select mass_change_id from mirror.mass_change where ended_at is null").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mass_change_of_a_script_stops_and_asks_and_a_persons_goes_at_once() {
    let mut line = Line::start().await;
    // As it comes, but for the wait of new records: with the guard.
    let mapping = model::MAPPING.replacen("\nsettle_s = 20\n", "\nsettle_s = 0\n", 1);
    fs::write(line.folder.path().join("mapping.toml"), mapping).unwrap();
    line.run();
    line.until_copied().await;
    line.said(&["plan"]);
    // The first copy has changed hundreds of records: it asks once, by the plan.
    line.said(&["approve", "--yes"]);
    line.until_settled().await;
    assert_eq!(line.number("select count(*) from mirror.mass_change").await, 0);
    let projects = line.projects();
    assert!(projects.len() >= 300, "{}", projects.len());

    // A person pastes a column of forty rows; a script changes a hundred others, in requests of ten.
    let (pasted, scripted) = (&projects[..40], &projects[100..200]);
    let automation = || Actor::source("automation");
    for some in scripted.chunks(10) {
        line.change(automation(), some, "Lost");
    }
    line.change(Actor::person(plait::sandbox::OWNER_USER), pasted, "Brest");
    line.until_summaries_in_rows("Brest", 40).await;
    line.until_stopped(100).await;
    assert_eq!(
        line.summaries_in_rows("Lost").await,
        0,
        "nothing of it is there before somebody said yes"
    );
    let sent = "select count(*) from mirror.operation where kind = 'update' and cells -> 'summary' ->> 'value' = 'Lost'";
    assert_eq!(line.number(sent).await, 0);

    // It is told, and outlives a restart; what it holds is shown.
    let no = line.stop_no().await;
    line.kill();
    line.run();
    let status = line.command(&["status"]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    for part in ["100 records of project", "automation", &format!("plait approve changes {no}")] {
        assert!(status.contains(part), "`{part}` is not in {status}");
    }
    let plan = line.said(&["plan", "-n", "2"]);
    for part in [
        format!("mass change {no}: automation changed 100 records of project on airtable"),
        String::from("100 overwritten (100 cells)"),
        String::from("→ Lost"),
        String::from("… and 98 more"),
    ] {
        assert!(plan.contains(&part), "`{part}` is not in {plan}");
    }
    let json: Value = serde_json::from_str(&line.said(&["plan", "--json"])).unwrap();
    assert_eq!(json["mass_changes"][0]["writes"].as_array().map(Vec::len), Some(100));
    let history = line.said(&["history", "project", &scripted[0].key]);
    assert!(history.contains(&format!("plait approve changes {no}")), "{history}");
    let asked = line.said(&["approve", "changes"]);
    assert!(asked.contains("--yes does it"), "{asked}");
    // A person's edit of another record goes on, after the restart too, and by way of either side.
    let browser = line.rest().in_a_browser().unwrap();
    browser
        .patch(&format!("/items/project/{}", projects[0].id), &json!({ FIELD.1: "Sein" }))
        .await
        .unwrap();
    line.until_summaries_in_grid("Sein", 1).await;
    assert_eq!(line.summaries_in_rows("Lost").await, 0);

    line.said(&["approve", "changes", &no.to_string(), "--yes"]);
    line.until_summaries_in_rows("Lost", 100).await;
    line.until_stopped(0).await;
    line.until_settled().await;
    assert!(!line.said(&["plan"]).contains("mass change"));

    // The other way: a program changes rows of Directus in one request, and a person takes it back.
    let keys: Vec<&str> = projects[210..230].iter().map(|it| it.id.as_str()).collect();
    let wrong = json!({ "keys": keys, "data": { FIELD.1: "Wrong" } });
    line.rest().patch("/items/project", &wrong).await.unwrap();
    line.until_stopped(20).await;
    assert_eq!(line.summaries_in_grid("Wrong"), 0);
    let no = line.stop_no().await.to_string();
    let undo = line.said(&["undo", "changes", &no]);
    assert!(undo.contains("Wrong") && undo.contains("--yes does it"), "{undo}");
    line.said(&["undo", "changes", &no, "--yes"]);
    line.until_summaries_in_rows("Wrong", 0).await;
    line.until_stopped(0).await;
    line.until("select count(*) from mirror.mass_change where ended_at is null", 0).await;
    line.until("select count(*) from mirror.incident where code like 'many_changes%' and closed_at is null", 0).await;
    line.until_settled().await;
    assert_eq!(
        (
            line.summaries_in_grid("Wrong"),
            line.summaries_in_grid("Lost"),
            line.summaries_in_grid("Brest")
        ),
        (0, 100, 39)
    );
    line.said(&["verify", "--entity", "project", "--allow-owed"]);
}
