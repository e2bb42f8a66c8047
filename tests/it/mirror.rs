//! The whole line on its real parts: a Directus, the sandbox, a canonical database, and the program itself.

use std::fs;

use plait::{
    demo::cache,
    sandbox::{Edit, MIRROR_TOKEN, NETWORK_BASE},
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::line::{Line, fields, update};

#[tokio::test(flavor = "multi_thread")]
async fn mirror_both_sides_are_copied_and_each_edit_arrives_with_who_when_and_where() {
    let mut line = Line::start().await;
    line.run();
    line.until_copied().await;
    // Half of the sandbox's records carry the id of the same record in Directus.
    let only_directus = line.sandbox.records(NETWORK_BASE, "Startups").len() + 10;
    line.until("select count(*) from canon.startup", i64::try_from(only_directus).unwrap()).await;
    line.until("select count(*) from canon.investment", 900).await;
    assert_eq!(
        line.number("select count(*) from canon.investment where startup_id is null").await,
        0
    );

    // Directus: a new record, a change, the stage, a set, a delete.
    let id = uuid::Uuid::now_v7().to_string();
    let rest = line.rest();
    rest.post(
        "/items/project",
        &json!({ "id": id, "name": "  Harbour ", "stage": "pitch", "amount_sought": "1250.50" }),
    )
    .await
    .unwrap();
    line.until(&format!("select count(*) from canon.project where id = '{id}' and name = 'Harbour' and amount_sought = 1250.50"), 1).await;
    rest.patch(&format!("/items/project/{id}"), &json!({ "stage": "instruction" })).await.unwrap();
    line.until(&format!("select count(*) from canon.stage_transition where project_id = '{id}' and from_code = 'pitch' and to_code = 'instruction'"), 1).await;
    let member: String = line
        .source
        .query_one(
            "select id::text from directus_users where email like '%@%' order by id limit 1",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    rest.post("/items/project_interest", &json!({ "project": id, "member": member }))
        .await
        .unwrap();
    line.until(&format!("select count(*) from canon.project_interest where project_id = '{id}' and member_id = '{member}'"), 1).await;
    let admin: String = line.source.query_one("select id::text from directus_users where token is not null and role is not null order by email limit 1", &[]).await.unwrap().get(0);
    assert!(!admin.is_empty());
    // The administrator is no member, whose name canonical would know: the journal has it, beside the account's id.
    let by_person = format!(
        "select count(*) from mirror.history h join mirror.source_transaction t using (source_transaction_id)
         where h.record_id = '{id}' and h.field = 'stage_code' and h.side = 'directus'
         and h.before = '\"pitch\"' and h.after = '\"instruction\"'
         and t.author_id ~ '^[0-9a-f-]{{36}}$' and h.author = 'Admin User'"
    );
    assert_eq!(line.number(&by_person).await, 1, "the author is the user of directus_activity");
    rest.delete(&format!("/items/project/{id}")).await.unwrap();
    line.until(
        &format!("select count(*) from canon.project where id = '{id}' and deleted_at is not null"),
        1,
    )
    .await;

    // Airtable: the same by a person in the grid.
    let (startup, _) = line.sandbox.records(NETWORK_BASE, "Startups").remove(0);
    line.edit(&[update(
        "Startups",
        &startup,
        &[("Ville", json!("Saint-Malo")), ("Site", json!(null))],
    )]);
    line.until(
        "select count(*) from canon.startup where city = 'Saint-Malo' and website is null",
        1,
    )
    .await;
    let by_person = "select count(*) from mirror.history where field = 'city' and side = 'airtable'
         and after = '\"Saint-Malo\"' and via = 'client' and author !~ '^usr' and at > now() - interval '5 minutes'";
    assert_eq!(line.number(by_person).await, 1, "the author is the person of the payload");
    let [made] = &line.edit(&[Edit::Create {
        table: "Projets".into(),
        fields: fields(&[
            ("Nom du projet", json!("Phare")),
            ("Startup", json!([startup])),
            ("Étape", json!("Comité")),
        ]),
    }])[..] else {
        panic!("one record")
    };
    let linked = "select count(*) from canon.project p join canon.startup s on s.id = p.startup_id
         where p.name = 'Phare' and p.stage_code = 'comite' and s.city = 'Saint-Malo'";
    line.until(linked, 1).await;

    // A value that does not fit leaves the rest of its record alone and is listed.
    line.edit(&[update(
        "Projets",
        made,
        &[("Nom du projet", json!("Phare 2")), ("Suivi par", json!(null))],
    )]);
    line.until("select count(*) from canon.project where name = 'Phare 2'", 1).await;
    let (member, _) = line.sandbox.records(NETWORK_BASE, "Membres").remove(0);
    line.edit(&[update(
        "Membres",
        &member,
        &[("Ville", json!("Cancale")), ("Date d'adhésion", json!("31-02-2020"))],
    )]);
    line.until("select count(*) from canon.member where city = 'Cancale'", 1).await;
    line.until(&format!("select count(*) from mirror.refusal where side_key = '{member}' and field = 'joined_on'"), 1).await;
    line.edit(&[update("Membres", &member, &[("Date d'adhésion", json!("29-02-2020"))])]);
    line.until(&format!("select count(*) from mirror.refusal where side_key = '{member}'"), 0)
        .await;
    line.until(
        "select count(*) from canon.member where city = 'Cancale' and joined_on = '2020-02-29'",
        1,
    )
    .await;

    // What a person sees of it.
    let status = line.command(&["status", "--json"]).output().unwrap();
    let said: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status.status.success(), "{said}");
    assert_eq!(said["logs"].as_array().unwrap().len(), 2, "{said}");
    let check = line.command(&["check"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let watch = line.command(&["watch", "--once", "-n", "400"]).output().unwrap();
    let seen = String::from_utf8_lossy(&watch.stdout).into_owned();
    assert!(
        seen.contains("stage_code: pitch → instruction") && seen.contains("Saint-Malo"),
        "{seen}"
    );
    // No secret anywhere that people look.
    let log = fs::read_to_string(line.folder.path().join("log")).unwrap();
    for secret in [MIRROR_TOKEN, &line.directus.capture.password] {
        assert!(!log.contains(secret) && !seen.contains(secret));
    }
    assert!(line.terminate(), "SIGTERM ends it in good order");
    let status = line.command(&["status"]).output().unwrap();
    assert!(
        !status.status.success()
            && String::from_utf8_lossy(&status.stdout).contains("is not running")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_killed_under_load_loses_and_doubles_nothing() {
    let bin = cache::postgres18_bin().unwrap();
    let mut line = Line::start_on(bin).await;
    line.run();
    line.until_copied().await;
    let projects: Vec<String> = line
        .source
        .query("select id::text from project order by id limit 100", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let flows = line.sandbox.records(NETWORK_BASE, "Flux");
    let rest = line.rest();
    for round in 0..4_usize {
        // In the midst of both streams.
        for (at, project) in projects.iter().enumerate().skip(round * 25).take(25) {
            rest.patch(
                &format!("/items/project/{project}"),
                &json!({ "summary": format!("round {round}, {at}") }),
            )
            .await
            .unwrap();
            let (flow, _) = &flows[round * 25 + at % 25];
            line.edit(&[update("Flux", flow, &[("Note", json!(format!("round {round}, {at}")))])]);
            if at % 25 == 12 {
                line.kill();
                line.run();
            }
        }
    }
    line.until("select count(*) from canon.project where summary like 'round %'", 100).await;
    line.until("select count(*) from canon.cash_flow where note like 'round %'", 100).await;
    for table in ["project", "cash_flow"] {
        let field = if table == "project" { "summary" } else { "note" };
        let doubled = format!(
            "select count(*) from (select record_id, after from mirror.history where entity = '{table}' and field = '{field}'
             and after::text like '\"round %' group by 1, 2 having count(*) > 1) x"
        );
        assert_eq!(line.number(&doubled).await, 0, "each change is in the journal once");
    }
    // Canonical equals both sources.
    let here: Vec<(String, String)> = pairs(&line.canonical, "select id::text, coalesce(summary, '') from canon.project where summary like 'round %' order by 1").await;
    let there = pairs(&line.source, "select id::text, coalesce(summary, '') from project where summary like 'round %' order by 1").await;
    assert_eq!(here, there);
    let mut there: Vec<(String, String)> = line
        .sandbox
        .records(NETWORK_BASE, "Flux")
        .into_iter()
        .map(|(id, fields)| (id, fields["Note"].as_str().unwrap_or_default().to_owned()))
        .collect();
    there.sort();
    let here = pairs(
        &line.canonical,
        "select l.side_key, coalesce(f.note, '') from canon.cash_flow f join mirror.link l on l.record_id = f.id
         where l.side = 'airtable' order by l.side_key collate \"C\"",
    )
    .await;
    assert_eq!(here, there);
    assert!(line.terminate());
}

async fn pairs(client: &Client, sql: &str) -> Vec<(String, String)> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}
