//! What one side lacks is pushed to it, through the whole program: a real Directus and the sandbox.

use std::time::Duration;

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::{Value, json};

use crate::{
    line::{Line, fields, update},
    world::eventually,
};

const PATIENCE: Duration = Duration::from_mins(1);

impl Line {
    /// The cells of the Airtable record that carries this id, once `is_so` holds for them.
    async fn in_airtable(
        &self,
        table: &str,
        id: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> (String, Value) {
        eventually(PATIENCE, async || {
            let records = self.sandbox.records(NETWORK_BASE, table);
            let found = records.into_iter().find(|(_, fields)| fields["UUID"] == *id);
            match found {
                Some((key, fields)) if is_so(&fields) => Ok((key, fields)),
                other => Err((other, self.log())),
            }
        })
        .await
    }

    /// The Directus record, once `is_so` holds for it.
    async fn in_directus(&self, path: &str, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(PATIENCE, async || match self.rest().get(&format!("{path}/{id}")).await {
            Ok(record) if is_so(&record) => Ok(record),
            Ok(record) => Err((record.to_string(), self.log())),
            Err(error) => Err((error.to_string(), self.log())),
        })
        .await
    }

    /// The canonical id of an Airtable record.
    async fn id_of(&self, key: &str) -> String {
        let sql = format!(
            "select count(*) from mirror.link where side = 'airtable' and side_key = '{key}'"
        );
        self.until(&sql, 1).await;
        let sql =
            "select record_id::text from mirror.link where side = 'airtable' and side_key = $1";
        self.canonical.query_one(sql, &[&key]).await.unwrap().get(0)
    }

    fn create(&self, table: &str, pairs: &[(&str, Value)]) -> String {
        self.edit(&[Edit::Create { table: table.into(), fields: fields(pairs) }]).remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_way_each_event_reaches_the_other_side() {
    let line = Line::start_two_way().await;
    let rest = line.rest();

    // From Airtable: a member, a startup with its project and an investment, linked to one another.
    let member = line.create(
        "Membres",
        &[
            ("Nom complet", json!("Jeanne MARTIN DUPONT")),
            ("E-mail", json!("Jeanne.Dupont@lemonde.fr")),
            ("Téléphone", json!("06 12 34 56 78")),
            ("Rôles", json!(["Investisseur", "Expert"])),
            ("Date d'adhésion", json!("29-02-2024")),
        ],
    );
    let startup = line.create(
        "Startups",
        &[
            ("Nom", json!("Voile Solaire")),
            ("Secteur", json!("Énergie")),
            ("Part détenue", json!(0.0525)),
        ],
    );
    let project = line.create(
        "Projets",
        &[
            ("Nom du projet", json!("Voile")),
            ("Startup", json!([startup])),
            ("Référent", json!([member])),
            ("Étape", json!("Pitch")),
            ("Intéressés", json!([member])),
        ],
    );
    let investment = line.create(
        "Investissements",
        &[
            ("Référence", json!("INV-9001")),
            ("Membre", json!([member])),
            ("Startup", json!([startup])),
            ("Montant", json!(12500.5)),
        ],
    );
    let (member_id, startup_id, project_id, investment_id) = (
        line.id_of(&member).await,
        line.id_of(&startup).await,
        line.id_of(&project).await,
        line.id_of(&investment).await,
    );
    line.in_directus("/users", &member_id, |user| {
        user["first_name"] == "Jeanne"
            && user["last_name"] == "MARTIN DUPONT"
            && user["email"] == "jeanne.dupont@lemonde.fr"
            && user["phone"] == "+33612345678"
            && user["joined_on"] == "2024-02-29"
    })
    .await;
    line.in_directus("/items/startup", &startup_id, |startup| {
        startup["name"] == "Voile Solaire" && startup["sector"] == "energy"
    })
    .await;
    line.in_directus("/items/project", &project_id, |project| {
        project["startup"] == *startup_id
            && project["referent"] == *member_id
            && project["stage"] == "pitch"
    })
    .await;
    line.in_directus("/items/investment", &investment_id, |investment| {
        investment["amount"] == "12500.50" && investment["member"] == *member_id
    })
    .await;
    let sets = "select (select count(*) from member_role where member::text = $1) + (select count(*) from project_interest where project::text = $2)";
    eventually(PATIENCE, async || {
        let row = line.source.query_one(sets, &[&member_id, &project_id]).await.unwrap();
        let count: i64 = row.get(0);
        if count == 3 { Ok(()) } else { Err((count, line.log())) }
    })
    .await;
    // The ids are written back.
    for (table, id) in [
        ("Membres", &member_id),
        ("Startups", &startup_id),
        ("Projets", &project_id),
        ("Investissements", &investment_id),
    ] {
        line.in_airtable(table, id, |_| true).await;
    }

    // Changes from Airtable.
    line.edit(&[update(
        "Membres",
        &member,
        &[("Ville", json!("Brest")), ("Rôles", json!(["Expert"]))],
    )]);
    line.edit(&[update("Startups", &startup, &[("Effectif", json!(12))])]);
    line.edit(&[update("Projets", &project, &[("Étape", json!("Comité"))])]);
    line.in_directus("/users", &member_id, |user| user["city"] == "Brest").await;
    line.in_directus("/items/startup", &startup_id, |startup| startup["headcount"] == 12).await;
    line.in_directus("/items/project", &project_id, |project| project["stage"] == "comite").await;

    // From Directus: all of them again.
    let id = || uuid::Uuid::now_v7().to_string();
    let (luc, tide, deal, ticket) = (id(), id(), id(), id());
    rest.post("/users", &json!({ "id": luc, "first_name": "Luc", "last_name": "Moreau", "email": "luc.moreau@orange.fr" }))
        .await
        .unwrap();
    rest.post("/items/startup", &json!({ "id": tide, "name": "Marée Haute", "rating": 4 }))
        .await
        .unwrap();
    rest.post(
        "/items/project",
        &json!({ "id": deal, "name": "Marée", "startup": tide, "stage": "depot" }),
    )
    .await
    .unwrap();
    rest.post(
        "/items/investment",
        &json!({ "id": ticket, "reference": "INV-9002", "member": luc, "startup": tide, "amount": "1000.00" }),
    )
    .await
    .unwrap();
    let (member_key, _) =
        line.in_airtable("Membres", &luc, |cells| cells["Nom complet"] == "Luc Moreau").await;
    let (startup_key, _) = line.in_airtable("Startups", &tide, |cells| cells["Note"] == 4).await;
    line.in_airtable("Projets", &deal, |cells| {
        cells["Startup"] == json!([startup_key]) && cells["Étape"] == "Dépôt"
    })
    .await;
    line.in_airtable("Investissements", &ticket, |cells| {
        cells["Membre"] == json!([member_key]) && cells["Startup"] == json!([startup_key])
    })
    .await;
    rest.patch(&format!("/users/{luc}"), &json!({ "city": "Vannes" })).await.unwrap();
    rest.patch(&format!("/items/project/{deal}"), &json!({ "stage": "instruction" }))
        .await
        .unwrap();
    line.in_airtable("Membres", &luc, |cells| cells["Ville"] == "Vannes").await;
    line.in_airtable("Projets", &deal, |cells| cells["Étape"] == "Instruction").await;

    // Deletes wait for a yes, and then go on; both ways.
    line.until_settled().await;
    line.edit(&[Edit::Delete { table: "Investissements".into(), record: investment }]);
    rest.delete(&format!("/items/investment/{ticket}")).await.unwrap();
    line.until("select count(*) from mirror.pending_delete where approved_at is null", 2).await;
    line.until_settled().await;
    line.in_directus("/items/investment", &investment_id, |_| true).await;
    line.said(&["approve", "deletes", "--yes"]);
    eventually(PATIENCE, async || {
        let count: i64 = line
            .source
            .query_one("select count(*) from investment where id::text = $1", &[&investment_id])
            .await
            .unwrap()
            .get(0);
        let is_there = line
            .sandbox
            .records(NETWORK_BASE, "Investissements")
            .iter()
            .any(|(_, cells)| cells["UUID"] == *ticket);
        if count == 0 && !is_there { Ok(()) } else { Err((count, is_there, line.log())) }
    })
    .await;

    // At rest nothing is written, and all three are equal.
    line.until_settled().await;
    let operations = line.number("select count(*) from mirror.operation").await;
    let verified = line.said(&["verify", "--allow-owed"]);
    assert!(!verified.contains("UNEXPLAINED"), "{verified}");
    assert_eq!(line.number("select count(*) from mirror.operation").await, operations);
    // At whatever level it is written, a log has no values of fields.
    line.assert_discreet(&[
        "Jeanne",
        "MARTIN",
        "emonde.fr",
        "6 12 34 56",
        "612345678",
        "29-02-2024",
        "Voile",
        "INV-900",
        "12500",
        "Brest",
        "Moreau",
        "Marée",
        "Vannes",
    ]);
}
