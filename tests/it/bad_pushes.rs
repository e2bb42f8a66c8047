//! What a side does not take, through the whole program: it waits alone, in words, and goes through by itself once the
//! cause is mended. A real Directus and the sandbox.

use std::time::Duration;

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::{Value, json};

use crate::{
    line::{Line, update},
    world::eventually,
};

/// The first try again is after a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// A startup, as both sides name it.
struct Startup {
    id: String,
    key: String,
    name: String,
}

impl Line {
    async fn startups(&self, count: i64) -> Vec<Startup> {
        let sql = "select s.id::text, l.side_key, s.name from canon.startup s
             join mirror.link l on l.record_id = s.id and l.side = 'airtable' order by s.name limit $1";
        let rows = self.canonical.query(sql, &[&count]).await.unwrap();
        rows.iter()
            .map(|row| Startup { id: row.get(0), key: row.get(1), name: row.get(2) })
            .collect()
    }

    fn cell(&self, startup: &Startup, field: &str) -> Value {
        let records = self.sandbox.records(NETWORK_BASE, "Startups");
        let (_, cells) = records.into_iter().find(|(key, _)| *key == startup.key).unwrap();
        cells[field].clone()
    }

    async fn until_in_airtable(&self, startup: &Startup, field: &str, value: Value) {
        eventually(PATIENCE, async || {
            let found = self.cell(startup, field);
            if found == value { Ok(()) } else { Err((field.to_owned(), found, self.log())) }
        })
        .await;
    }

    async fn until_in_directus(&self, startup: &Startup, column: &str, value: &str) {
        let sql = format!("select {column}::text from startup where id::text = $1");
        eventually(PATIENCE, async || {
            let row = self.source.query_one(&sql, &[&startup.id]).await.unwrap();
            let found: Option<String> = row.get(0);
            if found.as_deref() == Some(value) {
                Ok(())
            } else {
                Err((column.to_owned(), found, self.log()))
            }
        })
        .await;
    }

    /// Waits until this is listed, and checks that the words name what a person has to know.
    async fn until_told(&self, what: &str, words: &[&str]) {
        eventually(PATIENCE, async || {
            let said = self.said(&["errors"]);
            let line = said.lines().find(|line| line.contains(what));
            match line {
                Some(line) if words.iter().all(|word| line.contains(word)) => Ok(()),
                _ => Err((what.to_owned(), said, self.log())),
            }
        })
        .await;
    }

    async fn set(&self, startup: &Startup, cells: Value) {
        self.rest().patch(&format!("/items/startup/{}", startup.id), &cells).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pushes_to_airtable_wait_alone_and_go_through_once_mended() {
    let line = Line::start_two_way().await;
    let startups = line.startups(14).await;
    let table = || String::from("Startups");

    // An option is renamed, a field renamed, one retyped, which empties it.
    let headcounts: Vec<(String, Value)> = line
        .sandbox
        .records(NETWORK_BASE, "Startups")
        .into_iter()
        .filter_map(|(key, mut cells)| Some((key, cells.get_mut("Effectif")?.take())))
        .collect();
    assert!(!headcounts.is_empty());
    let rename = |from: &str, to: &str| Edit::RenameChoice {
        table: table(),
        field: "Secteur".into(),
        choice: from.into(),
        name: to.into(),
    };
    line.edit(&[
        rename("Énergie", "Énergies"),
        Edit::RenameField { table: table(), field: "Ville".into(), name: "Commune".into() },
        Edit::RetypeField {
            table: table(),
            field: "Effectif".into(),
            kind: "checkbox".into(),
            options: json!({ "icon": "check", "color": "greenBright" }),
        },
    ]);
    line.set(&startups[0], json!({ "sector": "energy", "city": "Dinan" })).await;
    line.set(&startups[1], json!({ "headcount": 77, "city": "Dinard" })).await;
    // Ten in one request, one of which has a rating that Airtable has no star for.
    let batch: Vec<Value> = startups[2..12]
        .iter()
        .enumerate()
        .map(
            |(no, it)| json!({ "id": it.id, "rating": if no == 6 { 9 } else { 4 }, "city": "Dol" }),
        )
        .collect();
    line.rest().patch("/items/startup", &Value::Array(batch)).await.unwrap();

    for startup in &startups[2..12] {
        line.until_in_airtable(startup, "Commune", json!("Dol")).await;
    }
    line.until_in_airtable(&startups[0], "Commune", json!("Dinan")).await;
    line.until_in_airtable(&startups[1], "Commune", json!("Dinard")).await;
    let told =
        |no: usize, field: &str| format!("startup {} · {field} on airtable", startups[no].name);
    line.until_told(&told(0, "sector_code"), &["`Secteur`"]).await;
    line.until_told(&told(1, "headcount"), &["`Effectif`"]).await;
    line.until_told(&told(8, "rating"), &["`Note`"]).await;

    // Mended, each in its way: taken back, values and all; the last by whoever entered it.
    let retype = Edit::RetypeField {
        table: table(),
        field: "Effectif".into(),
        kind: "number".into(),
        options: json!({ "precision": 0 }),
    };
    let mut mend = vec![rename("Énergies", "Énergie"), retype];
    for (key, headcount) in &headcounts {
        mend.push(update("Startups", key, &[("Effectif", headcount.clone())]));
    }
    line.edit(&mend);
    line.set(&startups[8], json!({ "rating": 5 })).await;
    line.until_in_airtable(&startups[8], "Note", json!(5)).await;
    line.until_in_airtable(&startups[0], "Secteur", json!("Énergie")).await;
    line.until_in_airtable(&startups[1], "Effectif", json!(77)).await;
    line.until("select count(*) from mirror.parked", 0).await;
}

/// What Plait's account may write of startups, by the id of its permission.
async fn startup_permission(line: &Line) -> (String, Vec<Value>) {
    let found = line
        .rest()
        .get("/permissions?filter[collection][_eq]=startup&filter[action][_eq]=update&limit=-1")
        .await
        .unwrap();
    let permission = &found[0];
    (permission["id"].to_string(), permission["fields"].as_array().unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pushes_to_directus_wait_alone_and_go_through_once_mended() {
    // By itself, the address of an account is Directus's alone.
    let email = "email = { type = \"email\",";
    let line = Line::start_two_way_with(&[(email, &format!("{email} policy = \"ask\","))]).await;
    let rest = line.rest();
    let startups = line.startups(12).await;
    let told =
        |no: usize, field: &str| format!("startup {} · {field} on directus", startups[no].name);
    let set = |no: usize, pairs: &[(&str, Value)]| update("Startups", &startups[no].key, pairs);

    // One field may not be written any more, one number is taken, and so is an e-mail address.
    let (permission, fields) = startup_permission(&line).await;
    let without: Vec<_> = fields.iter().filter(|field| **field != json!("city")).collect();
    let path = format!("/permissions/{permission}");
    rest.patch(&path, &json!({ "fields": without })).await.unwrap();
    line.source.batch_execute("create unique index siren_once on startup (siren)").await.unwrap();
    let members = line
        .canonical
        .query(
            "select m.id::text, l.side_key, m.email from canon.member m
             join mirror.link l on l.record_id = m.id and l.side = 'airtable'
             where m.email is not null and m.phone is not null order by m.last_name limit 2",
            &[],
        )
        .await
        .unwrap();
    let [member, other] = [0, 1].map(|at| members[at].get::<_, String>(1));
    let [member_id, other_id] = [0, 1].map(|at| members[at].get::<_, String>(0));
    let [old_email, taken]: [String; 2] = [0, 1].map(|at| members[at].get(2));
    let siren = line.cell(&startups[3], "SIREN");
    assert!(siren.is_string());
    line.edit(&[
        set(0, &[("Ville", json!("Dinan")), ("Effectif", json!(70))]),
        set(2, &[("SIREN", siren), ("Effectif", json!(72))]),
        update("Membres", &member, &[("E-mail", json!(taken)), ("Ville", json!("Dinard"))]),
    ]);
    let many: Vec<Edit> = (3..12).map(|no| set(no, &[("Effectif", json!(100 + no))])).collect();
    line.edit(&many);

    line.until_in_directus(&startups[0], "headcount", "70").await;
    line.until_in_directus(&startups[2], "headcount", "72").await;
    for (no, startup) in startups.iter().enumerate().skip(3) {
        line.until_in_directus(startup, "headcount", &(100 + no).to_string()).await;
    }
    let city =
        format!("select count(*) from canon.member where id = '{member_id}' and city = 'Dinard'");
    line.until(&city, 1).await;
    line.until_told(&told(0, "city"), &["`city`", "may not update", "plait setup directus"]).await;
    line.until_told(&told(2, "siren"), &["siren", "another"]).await;
    line.until_told("· email on directus", &["email", "another"]).await;

    // Mended: the right is given, the numbers are put right by those who keep them, the address is free again.
    rest.patch(&path, &json!({ "fields": fields })).await.unwrap();
    line.source.batch_execute("drop index siren_once").await.unwrap();
    line.edit(&[update("Membres", &other, &[("E-mail", json!("autre.adresse@lemonde.fr"))])]);
    line.until_in_directus(&startups[0], "city", "Dinan").await;
    let siren = line.cell(&startups[3], "SIREN");
    line.until_in_directus(&startups[2], "siren", siren.as_str().unwrap()).await;
    eventually(PATIENCE, async || {
        let emails = line
            .source
            .query_one(
                "select string_agg(email, ' ' order by id::text = $1 desc) from directus_users
                 where id::text = any(array[$1, $2])",
                &[&member_id, &other_id],
            )
            .await
            .unwrap();
        let found: String = emails.get(0);
        if found == format!("{taken} autre.adresse@lemonde.fr") {
            Ok(())
        } else {
            Err((found, old_email.clone(), line.log()))
        }
    })
    .await;
    line.until("select count(*) from mirror.parked", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pushes_a_revoked_token_a_deleted_field_and_a_deleted_target_end_as_they_should() {
    let mut line = Line::start_two_way().await;
    let rest = line.rest();
    let startups = line.startups(4).await;

    // A project that points to a startup which Airtable has no more: that cell alone waits.
    let project = line
        .canonical
        .query_one(
            "select p.id::text, l.side_key from canon.project p
             join mirror.link l on l.record_id = p.id and l.side = 'airtable'
             where p.startup_id is distinct from $1::text::uuid order by p.name limit 1",
            &[&startups[0].id],
        )
        .await
        .unwrap();
    let (project, key): (String, String) = (project.get(0), project.get(1));
    line.edit(&[Edit::Delete { table: "Startups".into(), record: startups[0].key.clone() }]);
    line.until("select count(*) from mirror.pending_delete", 1).await;
    let cells = json!({ "startup": startups[0].id, "summary": "Une voile qui capte le soleil." });
    rest.patch(&format!("/items/project/{project}"), &cells).await.unwrap();
    let in_airtable = |field: &'static str| {
        let records = line.sandbox.records(NETWORK_BASE, "Projets");
        records.into_iter().find(|(known, _)| *known == key).unwrap().1[field].clone()
    };
    eventually(PATIENCE, async || match in_airtable("Résumé") {
        found if found.to_string().contains("capte le soleil") => Ok(()),
        found => Err((found, line.log())),
    })
    .await;
    assert_ne!(in_airtable("Startup"), json!([startups[0].key]));
    line.edit(&[Edit::Restore { record: startups[0].key.clone() }]);
    eventually(PATIENCE, async || match in_airtable("Startup") {
        found if found == json!([startups[0].key]) => Ok(()),
        found => Err((found, line.said(&["errors"]), line.log())),
    })
    .await;

    // A field goes in Airtable: what is written into it in Directus waits, and everything else goes on.
    line.edit(&[Edit::DeleteField { table: "Startups".into(), field: "Site".into() }]);
    line.until(
        "select count(*) from mirror.incident where code like 'field%' and closed_at is null",
        1,
    )
    .await;
    line.set(&startups[1], json!({ "website": "https://exemple.fr", "city": "Cancale" })).await;
    line.until_in_airtable(&startups[1], "Ville", json!("Cancale")).await;
    let kept = format!(
        "select count(*) from canon.startup where id = '{}' and website = 'https://exemple.fr'",
        startups[1].id
    );
    line.until(&kept, 1).await;
    let emptied = "select count(*) from mirror.history where field = 'website' and after = 'null'";
    assert_eq!(line.number(emptied).await, 0);

    // The token is revoked: one incident says so, nothing is lost, and what waited goes once it is back.
    let user = line
        .source
        .query_one(
            "select id::text, token from directus_users where token = $1",
            &[&line.directus.push_token],
        )
        .await
        .unwrap();
    let (user, token): (String, String) = (user.get(0), user.get(1));
    rest.patch(&format!("/users/{user}"), &json!({ "token": null })).await.unwrap();
    line.edit(&[update("Startups", &startups[2].key, &[("Ville", json!("Roscoff"))])]);
    let word =
        "select count(*) from mirror.incident where text ilike '%token%' and closed_at is null";
    line.until(word, 1).await;
    // Airtable's way is open meanwhile.
    line.source
        .execute("update startup set city = 'Morlaix' where id::text = $1", &[&startups[3].id])
        .await
        .unwrap();
    line.until_in_airtable(&startups[3], "Ville", json!("Morlaix")).await;
    rest.patch(&format!("/users/{user}"), &json!({ "token": token })).await.unwrap();
    line.until_in_directus(&startups[2], "city", "Roscoff").await;
    line.until("select count(*) from mirror.parked where side = 'directus'", 0).await;
    assert!(line.is_running());
}
