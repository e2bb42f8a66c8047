//! What alerts, through the whole program: a real Directus, the sandbox, and `plait alerts`.

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::{Value, json};

use crate::line::{Line, fields, update};

impl Line {
    async fn text(&self, sql: &str) -> String {
        self.canonical.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn alerts(&self) -> Vec<Value> {
        let said = self.said(&["alerts", "--json"]);
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const COUNT: &str = "select count(*) from mirror.alert";

#[tokio::test(flavor = "multi_thread")]
async fn alerts_tell_what_people_change_on_both_sides_once() {
    let mut line = Line::start_two_way().await;
    let rest = line.rest();
    assert_eq!(line.number(COUNT).await, 0, "the first copy is no news");
    assert!(line.said(&["alerts", "--lang", "fr"]).starts_with("aucune alerte"));

    // In Airtable, a capital increase; in Directus, a stage; in Airtable, a member who leaves.
    let (startup, cells) = line.sandbox.records(NETWORK_BASE, "Startups").remove(0);
    let company = cells["Nom"].as_str().unwrap().trim().to_owned();
    let event = fields(&[
        ("Libellé", json!("AK 2026")),
        ("Startup", json!([startup])),
        ("Type", json!("Augmentation de capital en numéraire")),
        ("Capital avant", json!(10000)),
        ("Capital après", json!(15000.5)),
    ]);
    line.edit(&[Edit::Create { table: "Événements juridiques".into(), fields: event }]);
    line.until(COUNT, 1).await;
    let project = line
        .text("select id::text from canon.project where stage_code = 'instruction' and name is not null order by id limit 1")
        .await;
    rest.patch(&format!("/items/project/{project}"), &json!({ "stage": "comite" })).await.unwrap();
    line.until(COUNT, 2).await;
    let member = line
        .text(
            "select side_key from mirror.link l join mirror.entity e using (entity_no) join canon.member m on m.id = l.record_id
             where e.name = 'member' and l.side = 'airtable' and m.status_code = 'active' and m.last_name is not null
             order by 1 limit 1",
        )
        .await;
    line.edit(&[update(
        "Membres",
        &member,
        &[("Statut", json!("Parti")), ("Ville", json!("Brest"))],
    )]);
    line.until(COUNT, 3).await;

    let alerts = line.alerts();
    let of = |at: usize, key: &str| alerts[at][key].clone();
    let name = |at: usize| of(at, "rule");
    assert_eq!([name(0), name(1), name(2)], ["capital_increase", "stage_change", "member_left"]);
    assert_eq!([of(0, "side"), of(1, "side"), of(2, "side")], ["airtable", "directus", "airtable"]);
    let text = of(0, "text_en");
    assert_eq!(
        text,
        format!(
            "{company}: Capital increase in cash, share capital €10,000.00 → €15,000.50 (“AK 2026”)"
        )
    );
    assert_eq!(of(1, "before"), json!({ "stage_code": "instruction" }));
    assert_eq!(of(1, "after"), json!({ "stage_code": "comite" }));
    assert_eq!(of(2, "after"), json!({ "status_code": "left" }));
    for alert in &alerts {
        let author = alert["author"].as_str().unwrap();
        let is_known = !author.is_empty() && !["sql", "listing", "unknown"].contains(&author);
        assert!(is_known && uuid::Uuid::try_parse(author).is_err(), "by a name: {alert}");
    }
    let french = line.said(&["alerts", "--lang", "fr"]).replace('\u{a0}', " ");
    for said in ["étape Instruction → Comité", "statut Actif → Parti", "10 000,00 € → 15 000,50 €"]
    {
        assert!(french.contains(said), "{french}");
    }
    let log = std::fs::read_to_string(line.folder.path().join("log")).unwrap();
    assert!(log.contains("alert: ") && log.contains("AK 2026"), "{log}");

    // What the pushes bring back, and a restart, tell nothing twice; what happens while no plait runs is told.
    line.until_settled().await;
    assert!(line.terminate());
    rest.patch(&format!("/items/project/{project}"), &json!({ "stage": "negociation" }))
        .await
        .unwrap();
    line.run();
    line.until(COUNT, 4).await;
    line.until_settled().await;
    line.said(&["alerts", "seen", "1", "--as", "Jeanne"]);
    let unseen = line.said(&["alerts", "--unseen", "--lang", "en"]);
    assert_eq!(unseen.lines().count(), 3, "{unseen}");
    assert!(unseen.contains("stage Committee → Negotiation"), "{unseen}");
    let stages = line.said(&["alerts", "--rule", "stage_change", "--lang", "en"]);
    assert_eq!(stages.lines().count(), 2, "{stages}");
    assert!(
        line.said(&["alerts", "seen", "all", "--as", "Jeanne", "--lang", "en"]).contains("0 left")
    );
    let all = line.said(&["alerts", "--lang", "en"]);
    assert_eq!(all.matches("seen by Jeanne").count(), 4, "{all}");
    // A person's undoing is a change by that person.
    let stage = alerts[1]["record_id"].as_str().unwrap();
    line.said(&["undo", "cell", "project", stage, "stage_code", "--as", "Luc", "--yes"]);
    line.until(COUNT, 5).await;
    assert_eq!(line.alerts()[4]["author"], "Luc");

    let tried = line.said(&["alerts", "try", "--since", "2020-01-01", "--lang", "en"]);
    assert!(tried.contains("5; nothing is written"), "{tried}");
    let rules = line.said(&["alerts", "rules", "--lang", "en"]);
    assert!(rules.contains("33\u{a0}% or more below") && rules.lines().count() == 6, "{rules}");

    // Rules of one's own: what does not fit is told, and holds nothing up.
    assert!(line.terminate());
    let path = line.folder.path().join("plait.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let rules = "[[alert]]\nname = \"ville\"\non = \"field_change\"\nentity = \"member\"\nfield = \"city\"\n\
                 [[alert]]\nname = \"bad\"\non = \"stage_change\"\nto = [\"comité\"]\n";
    std::fs::write(&path, format!("{settings}{rules}")).unwrap();
    let check = line.said(&["check"]);
    assert!(
        check.contains(
            "waits for `comité`, which canon.stage does not have; did you mean `comite`?"
        ),
        "{check}"
    );
    line.run();
    line.edit(&[update("Membres", &member, &[("Ville", json!("Vannes"))])]);
    line.until(COUNT, 6).await;
    assert_eq!(line.alerts()[5]["rule"], "ville");
    assert_eq!(line.alerts()[5]["before"], json!({ "city": "Brest" }));
}
