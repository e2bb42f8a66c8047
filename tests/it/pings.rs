//! Pings through the program: they make changes arrive at once, and the secret that tells true ones from forged ones
//! is in a file of its owner's alone, never in a table.

use std::{fs, os::unix::fs::PermissionsExt as _};

use plait::sandbox::NETWORK_BASE;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    plain::{PATIENCE, Plain},
    world::eventually,
};

/// Longer than a test waits: whatever arrives was pinged for.
const POLL_INTERVAL_MS: u64 = 600_000;

/// Parts whose changes arrive by pings alone.
pub(crate) async fn pinged() -> Plain<'static> {
    let mut plain = Plain::start().await;
    // Free a moment ago; nobody else on this machine asks for it in between but by a rare chance.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    plain.documents = plain
        .documents
        .settings(
            "poll_interval_min_ms = 200\npoll_interval_max_ms = 400\n",
            &format!(
                "poll_interval_min_ms = {POLL_INTERVAL_MS}\npoll_interval_max_ms = {POLL_INTERVAL_MS}\nping_listen = \"{address}\"\n"
            ),
        )
        .settings(
            &format!("id = \"{NETWORK_BASE}\""),
            &format!("id = \"{NETWORK_BASE}\"\nnotification_url = \"http://{address}/airtable/reseau\""),
        );
    plain
}

/// Sets a city once the poller has read everything and waits, and waits for it.
pub(crate) async fn arrives(plain: &Plain<'_>, record: &str, city: &str) {
    let state = "select state from mirror.capture_status where side = 'airtable'";
    plain.until(state, Some("streaming")).await;
    plain.set(record, &json!({ "Ville": city }));
    let sql = format!("select count(*)::text from canon.startup where city = '{city}'");
    plain.until(&sql, Some("1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_known_by_a_secret_in_a_file_and_its_loss_costs_the_webhook_alone() {
    let mut plain = pinged().await;
    let record = plain.startups().remove(0);
    let file = plain.place().join(format!("ping-secret-{NETWORK_BASE}"));
    plain.run();
    plain.until_copied(2).await;
    arrives(&plain, &record, "Une").await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&file).unwrap();
    let (webhook, secret) =
        kept.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    plain.keep_secret(&secret);
    let in_table = "select (identity ? 'webhook')::text || ' ' || (identity ? 'mac_secret' or identity::text like '%' || $1 || '%')::text
         from mirror.position where side = 'airtable'";
    let session = plain.canonical().await;
    let row = session.query_one(in_table, &[&secret]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "true false");
    plain.terminate().await;

    // The next process knows it again.
    plain.run();
    arrives(&plain, &record, "Deux").await;
    assert!(!plain.log().contains("had to be replaced"));
    plain.terminate().await;

    // Lost: what the old webhook told is read, then there is a new one, and pings are believed again.
    fs::remove_file(&file).unwrap();
    plain.set(&record, &json!({ "Ville": "Trois" }));
    plain.set(&record, &json!({ "Ville": "Quatre" }));
    plain.run();
    plain
        .until_logged(&format!("the webhook `{webhook}` of the base `reseau` had to be replaced"))
        .await;
    plain.until_logged("the secret that signs its pings is lost").await;
    plain.until("select count(*)::text from canon.startup where city = 'Quatre'", Some("1")).await;
    // Overwritten before it was read, and yet in the journal: the old webhook was read to its end first.
    plain
        .until("select count(*)::text from mirror.history where after = '\"Trois\"'", Some("1"))
        .await;
    eventually(PATIENCE, async || {
        let kept = fs::read_to_string(&file).unwrap_or_default();
        if kept.starts_with("ach") && !kept.starts_with(&webhook) { Ok(()) } else { Err(kept) }
    })
    .await;
    arrives(&plain, &record, "Cinq").await;
    arrives(&plain, &record, "Six").await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_a_place_for_their_secret_are_told_and_nothing_is_kept_where_none_are_received()
 {
    let mut plain = pinged().await;
    let record = plain.startups().remove(0);
    let good = plain.documents.clone();
    // Nobody listens: nothing is kept.
    let listening =
        good.settings.lines().find(|line| line.starts_with("ping_listen")).unwrap().to_owned();
    plain.documents = good.settings(&listening, "");
    plain.run();
    plain.until_copied(2).await;
    let names = |folder| {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("ping-secret")).count()
    };
    assert_eq!(names(plain.place()), 0);
    plain.terminate().await;
    plain.documents =
        good.settings(&listening, &format!("{listening}\nping_secret_folder = \"no/such\""));
    plain.run();
    plain
        .until_logged("the secret of the pings of the base `reseau` could not be written to")
        .await;
    plain.until_logged("`ping_secret_folder` in [airtable]").await;
    arrives(&plain, &record, "Une").await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_secret_of_an_older_plait_is_taken_out_of_the_table() {
    let plain = Plain::start().await;
    assert_eq!(plain.say("migrate", &plain.documents).await.code, Some(0));
    let session = plain.canonical().await;
    session
        .batch_execute(
            "insert into mirror.position (log, side, position, identity)
             values ('airtable:app1', 'airtable', 'ach1#7', '{\"webhook\": \"ach1\", \"mac_secret\": \"c2VjcmV0\", \"resolved\": {\"tables\": {}}}')",
        )
        .await
        .unwrap();
    // What `plait migrate` runs on the database of a plait from before it.
    session.batch_execute(include_str!("../../migrations/V003__webhook_secret.sql")).await.unwrap();
    plain
        .until(
            "select position || identity::text from mirror.position",
            Some("ach1#7{\"webhook\": \"ach1\", \"resolved\": {\"tables\": {}}}"),
        )
        .await;
    plain.end().await;
}
