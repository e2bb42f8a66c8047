//! A record that is born empty and typed in cell by cell, through the whole program: it is created in Directus once, and
//! whole.

use std::{fs, time::Duration};

use plait::{demo::model, sandbox::Edit};
use serde_json::{Value, json};

use crate::{
    line::{Line, fields, update},
    world::eventually,
};

const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn born_empty_member_becomes_an_account_once_it_is_filled_in_and_quiet() {
    let mut line = Line::start().await;
    let email = "email = { type = \"email\",";
    let mapping = model::prompt_mapping()
        .replacen("\nsettle_s = 0\n", "\nsettle_s = 15\n", 1)
        .replacen(email, &format!("{email} required = true,"), 1);
    assert!(mapping.contains("required = true") && mapping.contains("settle_s = 15"));
    fs::write(line.folder.path().join("mapping.toml"), mapping).unwrap();
    line.run();
    line.until_copied().await;
    line.said(&["plan"]);
    line.said(&["approve", "--yes"]);
    line.until_settled().await;

    let key = line.edit(&[Edit::Create { table: "Membres".into(), fields: fields(&[]) }]).remove(0);
    let empty = format!(
        "select count(*) from mirror.outbox join mirror.link using (record_id) where side_key = '{key}' and is_incomplete"
    );
    line.until(&empty, 1).await;
    let history = line.said(&["history", "member", &key]);
    assert!(history.contains("waits, before it goes to directus, for email"), "{history}");
    let type_in = async |field: &str, text: &str, count: i64| {
        line.edit(&[update("Membres", &key, &[(field, json!(text))])]);
        let read = format!(
            "select count(*) from mirror.journal join mirror.link using (record_id) where side_key = '{key}'"
        );
        line.until(&read, count).await;
    };
    // The journal has the create and each value after it; a name without an e-mail is no account.
    type_in("Nom complet", "Claire FONTAINE", 2).await;
    line.until(&empty, 1).await;
    let status = line.said(&["status"]);
    assert!(status.contains("member: 1 record is not created on directus yet"), "{status}");
    type_in("E-mail", "claire@fontaine.f", 3).await;
    let waits = format!(
        "select count(*) from mirror.outbox join mirror.link using (record_id) where side_key = '{key}' and settles_at is not null"
    );
    line.until(&waits, 1).await;
    let status = line.said(&["status"]);
    assert!(status.contains("once nobody changes them any more"), "{status}");
    // The wait outlives the program, and begins anew with the next value.
    line.kill();
    line.edit(&[update("Membres", &key, &[("E-mail", json!("claire@fontaine.fr"))])]);
    line.run();

    let id: String = line
        .canonical
        .query_one("select record_id::text from mirror.link where side_key = $1", &[&key])
        .await
        .unwrap()
        .get(0);
    let user: Value = eventually(PATIENCE, async || {
        line.rest()
            .get(&format!("/users/{id}"))
            .await
            .map_err(|error| (error.to_string(), line.log()))
    })
    .await;
    assert_eq!(user["email"], "claire@fontaine.fr");
    assert_eq!(user["last_name"], "FONTAINE");
    // It never was anything else there.
    let half =
        "select count(*) from directus_revisions where data::text like '%claire@fontaine.f\"%'";
    let half: i64 = line.source.query_one(half, &[]).await.unwrap().get(0);
    assert_eq!(half, 0);
    let writes = format!(
        "select count(*) from mirror.operation where record_id = '{id}' and side = 'directus'"
    );
    assert_eq!(line.number(&writes).await, 1);
}
