//! Cells and payloads that do not fit: the other cells of the record arrive, the bad one is listed with its reason,
//! the run goes on, and mending it makes it arrive.

use plait::sandbox::{Actor, Edit, NETWORK_BASE};
use serde_json::json;

use crate::plain::Plain;

/// The reasons that are listed for a key, by field.
fn reasons(key: &str) -> String {
    format!(
        "select string_agg(field || ': ' || kind || ': ' || reason, '; ' order by field) from mirror.refusal where side_key = '{key}'"
    )
}

fn refused_count(key: &str) -> String {
    format!("select count(*)::text from mirror.refusal where side_key = '{key}'")
}

fn startup(name: &str) -> String {
    format!(
        "select concat_ws('|', name, coalesce(city, '-'), coalesce(headcount::text, '-')) from canon.startup where name = '{name}'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_of_airtable_are_listed_and_the_other_cells_arrive() {
    let mut plain = Plain::start().await;
    let [first, second, third] = &plain.startups()[..3] else { panic!("three startups") };
    // One for the first copy to meet, one for the payloads.
    plain.set(first, &json!({ "Nom": "Un", "Ville": "Saint\u{0}Malo", "Effectif": 7 }));
    plain.run();
    plain.until_copied(2).await;
    plain.until(&startup("Un"), Some("Un|-|7")).await;
    plain.set(
        second,
        &json!({ "Nom": "Deux", "Ville": "Port\u{0}", "Effectif": 3_000_000_000_i64 }),
    );
    plain.set(third, &json!({ "Nom": "Trois", "Ville": "Brest", "Effectif": 2.5 }));
    plain.until(&refused_count(first), Some("1")).await;
    plain.until(&refused_count(second), Some("2")).await;
    plain.until(&refused_count(third), Some("1")).await;
    let session = plain.canonical().await;
    for (key, parts) in [
        (first, &["city: unstorable: ", "NUL character", "delete it"][..]),
        (second, &["city: unstorable: ", "headcount: out of range: "]),
        (third, &["headcount: "]),
    ] {
        let told: String = session.query_one(&reasons(key), &[]).await.unwrap().get(0);
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    }
    let status = plain.say_beside("status").await;
    assert!(status.text.contains("4 cells could not be taken: `plait errors`"), "{}", status.text);
    // The bad ones kept what was there before; the others of the same records are as they were set.
    plain
        .until(
            "select count(*)::text from canon.startup where name in ('Un', 'Deux', 'Trois')",
            Some("3"),
        )
        .await;
    plain.until("select city from canon.startup where name = 'Trois'", Some("Brest")).await;
    for (key, cells) in [
        (first, json!({ "Ville": "Saint-Malo" })),
        (second, json!({ "Ville": "Port", "Effectif": 3 })),
        (third, json!({ "Effectif": 2 })),
    ] {
        plain.set(key, &cells);
        plain.until(&refused_count(key), Some("0")).await;
    }
    plain.until(&startup("Un"), Some("Un|Saint-Malo|7")).await;
    plain.until(&startup("Deux"), Some("Deux|Port|3")).await;
    plain.until(&startup("Trois"), Some("Trois|Brest|2")).await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_of_a_database_without_encoding_are_listed_and_the_other_cells_arrive() {
    let cluster = crate::world::cluster().await;
    let encoding = "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0";
    let mut plain = Plain::start_on(cluster, encoding).await;
    let (copied, streamed) =
        ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222");
    // 0xE9 is é in Latin-1 and nothing in UTF-8.
    plain
        .in_source(&format!(
            "insert into startup values ('{copied}', 'Un', E'Saint-\\xe9tienne', 5)"
        ))
        .await;
    plain.run();
    plain.until_copied(2).await;
    plain.until(&startup("Un"), Some("Un|-|5")).await;
    plain
        .in_source(&format!(
            "insert into startup values ('{streamed}', 'Deux', E'\\xff', 3000000000)"
        ))
        .await;
    plain.until(&startup("Deux"), Some("Deux|-|-")).await;
    let session = plain.canonical().await;
    for (key, parts) in [
        (copied, &["city: unstorable: ", "UTF-8"][..]),
        (streamed, &["city: unstorable: ", "UTF-8", "headcount: out of range: "]),
    ] {
        let told: String = session.query_one(&reasons(key), &[]).await.unwrap().get(0);
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    }
    // What is UTF-8 passes, accents included.
    plain.in_source("insert into startup values (gen_random_uuid(), 'Trois', 'Écully', 1)").await;
    plain.until(&startup("Trois"), Some("Trois|Écully|1")).await;
    plain
        .in_source(&format!("update startup set city = 'Saint-Étienne' where id = '{copied}'"))
        .await;
    plain
        .in_source(&format!(
            "update startup set city = 'Lyon', headcount = 3 where id = '{streamed}'"
        ))
        .await;
    plain.until(&startup("Un"), Some("Un|Saint-Étienne|5")).await;
    plain.until(&startup("Deux"), Some("Deux|Lyon|3")).await;
    plain.until("select count(*)::text from mirror.refusal", Some("0")).await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_payloads_that_are_errors_or_unknown_lose_nothing() {
    let mut plain = Plain::start().await;
    plain.run();
    plain.until_copied(2).await;
    let record = plain.startups().remove(0);
    let city =
        |name: &str| format!("select count(*)::text from canon.startup where city = '{name}'");
    let incident = |code: &str| {
        format!("select text from mirror.incident where code = '{code}' and log like 'airtable:%'")
    };
    // A source that nobody knows yet.
    let fields = json!({ "Ville": "Mars" }).as_object().unwrap().clone();
    let edit = Edit::Update { table: "Startups".into(), record: record.clone(), fields };
    plain.sandbox.edit_as(NETWORK_BASE, Actor::source("martian"), &[edit]).unwrap();
    plain.until(&city("Mars"), Some("1")).await;
    plain
        .until(
            "select via from mirror.history where field = 'city' and after = '\"Mars\"'",
            Some("martian"),
        )
        .await;
    // A key that nobody knows yet may have told something: the tables are read again, once.
    for _ in 0..2 {
        plain
            .payload(
                &json!({ "actionMetadata": { "source": "martian", "sourceMetadata": [] , "odd": 1 },
                "movedTablesById": { "tblX": { "movedRecordsById": {} } } }),
            )
            .await;
    }
    plain.until(&incident("payload_unknown"), None).await;
    plain.until_logged("(movedTablesById); the tables are read again").await;
    plain.set(&record, &json!({ "Ville": "Phobos" }));
    plain.until(&city("Phobos"), Some("1")).await;
    // One that cannot be read at all.
    plain.payload(&json!({ "changedTablesById": [1, 2] })).await;
    plain.set(&record, &json!({ "Ville": "Deimos" }));
    plain.until(&city("Deimos"), Some("1")).await;
    plain.until(&incident("payload_unreadable"), None).await;
    assert_eq!(plain.log().matches("(movedTablesById); the tables").count(), 1);
    // The webhook's last word: known codes, and one that is not. It is replaced.
    for (at, code) in ["INVALID_HOOK", "INTERNAL_ERROR", "SOMETHING_NEW"].iter().enumerate() {
        plain.sandbox.disturb_webhooks(NETWORK_BASE, None, "error", code).unwrap();
        // Not recorded by the dead webhook: only a listing finds it.
        plain.set(&record, &json!({ "Ville": format!("Lune {at}") }));
        plain.until(&city(&format!("Lune {at}")), Some("1")).await;
        plain.until_logged(&format!("Airtable ended it with the code {code}")).await;
    }
    plain.until(&incident("webhook_replaced"), None).await;
    assert!(plain.is_running());
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_deleted_airtable_table_is_told_and_everything_else_goes_on() {
    let mut plain = Plain::start().await;
    plain.run();
    plain.until_copied(2).await;
    let record = plain.startups().remove(0);
    let living = "select count(*)::text from canon.startup where deleted_at is null";
    plain.until(living, Some("50")).await;
    // The only one that is mapped: the webhook was for it alone.
    let table = String::from("Startups");
    plain.edit(&[Edit::DeleteTable { table: table.clone() }]);
    plain.until("select text from mirror.incident where code = 'table_missing'", None).await;
    plain.in_source("insert into startup values (gen_random_uuid(), 'Voilier', 'Brest', 3)").await;
    plain.until(&startup("Voilier"), Some("Voilier|Brest|3")).await;
    plain.until(living, Some("51")).await;
    let status = plain.say_beside("status").await;
    for part in [
        "the table `Startups`, which the base does not have",
        "restore it from the trash in Airtable",
    ] {
        assert!(status.text.contains(part), "`{part}` is not in:\n{}", status.text);
    }
    plain.edit(&[Edit::RestoreTable { table }]);
    plain.set(&record, &json!({ "Ville": "Revenue" }));
    plain.until("select count(*)::text from canon.startup where city = 'Revenue'", Some("1")).await;
    plain.until(living, Some("51")).await;
    plain.end().await;
}
