//! One person's data through the whole program, a real Directus and the sandbox: exported, and erased everywhere.

use std::{fs, time::Duration};

use plait::sandbox::NETWORK_BASE;
use serde_json::{Value, json};

use crate::{
    line::{Line, fields, update},
    world::{eventually, write_secret},
};
use plait::sandbox::Edit;

const PATIENCE: Duration = Duration::from_mins(1);
/// What may be nowhere afterwards. Nothing that a UUID or a time could have in it by chance: a French postal code could.
const PERSONAL: [&str; 7] = [
    "Zénaïde",
    "Kerbratovic",
    "zenaide.k@orange.fr",
    "612345677",
    "698765432",
    "Plouzané",
    "IV27 4QD",
];

/// Where any text of the whole canonical database has one of these in it.
async fn places(line: &Line) -> Vec<String> {
    let columns = "select c.relnamespace::regnamespace::text, c.relname::text, a.attname::text
         from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relnamespace in ('canon'::regnamespace, 'mirror'::regnamespace) and c.relkind = 'r' and a.attnum > 0
           and not a.attisdropped
           and format_type(a.atttypid, null) in ('text', 'json', 'jsonb', 'text[]', 'character', 'character varying')";
    let mut places = Vec::new();
    for row in line.canonical.query(columns, &[]).await.unwrap() {
        let [schema, table, column] = [0, 1, 2].map(|at| row.get::<_, String>(at));
        for text in PERSONAL {
            let sql = format!(
                "select count(*) from \"{schema}\".\"{table}\" where \"{column}\"::text ilike '%{text}%'"
            );
            let count = line.number(&sql).await;
            if count > 0 {
                places.push(format!("{schema}.{table}.{column}: {text} {count}"));
            }
        }
    }
    places
}

fn in_airtable(line: &Line) -> Vec<(String, Value)> {
    let tables = ["Membres", "Projets", "Investissements", "Startups", "Flux"];
    let records = tables.into_iter().flat_map(|table| line.sandbox.records(NETWORK_BASE, table));
    records.filter(|(_, cells)| PERSONAL.iter().any(|it| cells.to_string().contains(it))).collect()
}

async fn in_directus(line: &Line) -> i64 {
    let sql = "select count(*) from (
        select u::text as row from directus_users u union all select p::text from project p
        union all select i::text from investment i union all select f::text from cash_flow f) x
        where row ilike any($1)";
    let texts: Vec<String> = PERSONAL.iter().map(|text| format!("%{text}%")).collect();
    line.source.query_one(sql, &[&texts]).await.unwrap().get(0)
}

const AMOUNTS: &str = "select coalesce(string_agg(concat_ws(' ', i.id, i.amount, i.committed, i.quantity, i.member_id), ',' order by i.id), '')
    || coalesce((select string_agg(concat_ws(' ', f.id, f.amount), ',' order by f.id) from canon.cash_flow f), '') from canon.investment i";

async fn text(line: &Line, sql: &str) -> String {
    line.canonical.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn person_is_exported_and_then_erased_on_both_sides_and_in_the_past() {
    let mut line = Line::start_two_way().await;
    let rest = line.rest();
    let create = |table: &str, pairs: &[(&str, Value)]| {
        line.edit(&[Edit::Create { table: table.into(), fields: fields(pairs) }]).remove(0)
    };

    // A member with a line, a movement, a project, and some history on both sides.
    let member = create(
        "Membres",
        &[
            ("Nom complet", json!("Zénaïde KERBRATOVIC")),
            ("E-mail", json!("zenaide.k@orange.fr")),
            ("Téléphone", json!("06 12 34 56 77")),
            ("Rôles", json!(["Investisseur"])),
            ("Ville", json!("Plouzané")),
            ("Code postal", json!("IV27 4QD")),
            ("Statut", json!("Actif")),
            ("Newsletter", json!(true)),
            ("Notes", json!("Préfère le matin.")),
        ],
    );
    let ticket = create(
        "Investissements",
        &[
            ("Référence", json!("INV-9100")),
            ("Membre", json!([member])),
            ("Montant", json!(12500.55)),
            ("Commentaire", json!("Avancé par Zénaïde Kerbratovic.")),
        ],
    );
    create(
        "Flux",
        &[
            ("Libellé", json!("F-9100")),
            ("Investissement", json!([ticket])),
            ("Montant", json!(-12500.55)),
        ],
    );
    create(
        "Projets",
        &[
            ("Nom du projet", json!("Phare")),
            ("Référent", json!([member])),
            ("Étape", json!("Pitch")),
        ],
    );
    let linked = "select count(*) from mirror.link where side = 'airtable' and side_key in ";
    line.until(&format!("{linked} ('{member}', '{ticket}')"), 2).await;
    let record = text(
        &line,
        &format!("select record_id::text from mirror.link where side_key = '{member}'"),
    )
    .await;
    let path = format!("/users/{record}");
    eventually(PATIENCE, async || {
        rest.get(&path).await.map_err(|error| (error.to_string(), line.log()))
    })
    .await;
    line.until_settled().await;
    rest.patch(&path, &json!({ "phone": "+33698765432" })).await.unwrap();
    line.until("select count(*) from canon.member where phone = '+33698765432'", 1).await;
    line.until_settled().await;
    // A conflict: both sides while nobody looks.
    assert!(line.terminate());
    rest.patch(&path, &json!({ "city": "Plouzané-Nord" })).await.unwrap();
    line.edit(&[update("Membres", &member, &[("Ville", json!("Plouzané-Sud"))])]);
    line.run();
    line.until("select count(*) from mirror.conflict where decision = 'held' and decided_at is null", 1 + {
        // Those of the data that the sandbox brings along.
        line.number("select count(*) from mirror.conflict where decision = 'held' and decided_at is null and field <> 'city'").await
    })
    .await;
    line.until_settled().await;
    let amounts = text(&line, AMOUNTS).await;

    // Exported: nothing is missing, and nothing is written over.
    let folder = line.folder.path().join("zenaide");
    let output = folder.to_str().unwrap();
    let said = line.said(&["person", "export", "Zénaïde Kerbratovic", "-o", output]);
    assert!(said.contains(&record), "{said}");
    let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(file("member.json").contains("zenaide.k@orange.fr"));
    assert!(file("investment.json").contains("12500.55"));
    assert!(file("cash_flow.json").contains("-12500.55"));
    assert!(file("project.json").contains("Phare"));
    assert!(file("history.json").contains("+33612345677"));
    assert!(file("conflicts.json").contains("Plouzané-Sud"));
    assert!(file("keys.json").contains(&member));
    assert!(file("LISEZMOI.txt").contains("history.json"));
    let again = line.command(&["person", "export", &record, "-o", output]).output().unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("not written over"));

    // Erased: first the plan, which does nothing.
    let plan = line.said(&["person", "erase", "zenaide.k@orange.fr"]);
    assert!(plan.contains("Personne-effacée-") && plan.contains("nothing is done yet"), "{plan}");
    assert!(!places(&line).await.is_empty());
    let admin = line.folder.path().join("admin");
    write_secret(&admin, &line.directus.admin.token);
    // Somebody else works on.
    let other = text(&line, &format!("select id::text from canon.member where email is not null and city is not null and id <> '{record}' order by id limit 1")).await;
    rest.patch(&format!("/users/{other}"), &json!({ "city": "Saint-Malo" })).await.unwrap();
    let said = line.said(&[
        "person",
        "erase",
        "zenaide.k@orange.fr",
        "--as",
        "paul",
        "--yes",
        "--admin-token-file",
        admin.to_str().unwrap(),
    ]);
    assert!(said.contains("archived: nobody logs in"), "{said}");
    line.until("select count(*) from mirror.erasure where completed_at is not null", 1).await;
    line.until_settled().await;

    let check = async |line: &Line| {
        assert_eq!(places(line).await, Vec::<String>::new());
        assert_eq!(in_airtable(line), []);
        assert_eq!(in_directus(line).await, 0);
        assert_eq!(text(line, AMOUNTS).await, amounts);
    };
    check(&line).await;
    let user = rest.get(&path).await.unwrap();
    assert_eq!(user["email"], Value::Null, "{user}");
    assert_eq!(user["status"], "archived");
    assert_eq!(user["member_status"], "left");
    assert_eq!(user["newsletter"], false);
    let pseudonym = user["last_name"].as_str().unwrap();
    assert!(pseudonym.starts_with("Personne-effacée-"), "{pseudonym}");
    let (_, cells) = line
        .sandbox
        .records(NETWORK_BASE, "Membres")
        .into_iter()
        .find(|(key, _)| *key == member)
        .unwrap();
    assert_eq!(cells["Nom complet"], pseudonym);
    assert_eq!(cells["Statut"], "Parti");
    let comment =
        text(&line, "select note from canon.investment where reference = 'INV-9100'").await;
    assert_eq!(comment, format!("Avancé par {pseudonym}."));
    let list = line.said(&["person", "list"]);
    assert!(
        list.contains(&record)
            && list.contains("by paul")
            && list.contains("complete on both sides"),
        "{list}"
    );
    line.until(
        &format!("select count(*) from canon.member where id = '{other}' and city = 'Saint-Malo'"),
        1,
    )
    .await;

    // The past tells that it happened, and gives nothing back.
    let history = line.said(&["history", "member", &record]);
    assert!(history.contains("[erased]") && history.contains("paul"), "{history}");
    let undone = line.said(&["undo", "cell", "member", &record, "phone", "--force", "--yes"]);
    assert!(undone.contains("erased with a person's data"), "{undone}");
    let verified = line.said(&["verify", "--entity", "member", "--allow-owed"]);
    assert!(verified.contains("member on airtable") && !verified.contains(&record), "{verified}");
    let verified = line.said(&["verify", "--allow-owed"]);
    assert!(!verified.contains("UNEXPLAINED"), "{verified}");

    // What Directus keeps itself: an administrator runs what the plan says.
    let sql: Vec<&str> =
        plan.lines().filter(|it| it.starts_with("  ") && it.ends_with(';')).collect();
    assert_eq!(sql.len(), 4, "{plan}");
    line.source.batch_execute(&sql.join("\n")).await.unwrap();
    let kept = "select count(*) from directus_revisions where concat(data, delta) ilike any($1)";
    let texts: Vec<String> = PERSONAL.iter().map(|text| format!("%{text}%")).collect();
    let kept: i64 = line.source.query_one(kept, &[&texts]).await.unwrap().get(0);
    assert_eq!(kept, 0);

    // A restart brings nothing back, and neither does reading it all again.
    assert!(line.terminate());
    line.run();
    rest.patch(&format!("/users/{other}"), &json!({ "city": "Dinard" })).await.unwrap();
    line.until(
        &format!("select count(*) from canon.member where id = '{other}' and city = 'Dinard'"),
        1,
    )
    .await;
    line.until_settled().await;
    check(&line).await;
    assert!(line.is_running());
}
