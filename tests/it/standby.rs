//! Two runs on one canonical database: the second one stands by, and takes over from one that was killed and from one
//! that was frozen, which writes nothing when it wakes up.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::plain::Plain;

#[tokio::test(flavor = "multi_thread")]
async fn standby_takes_over_from_a_run_that_was_killed_and_from_one_that_was_frozen() {
    let mut plain = Plain::start().await;
    plain.in_source("insert into startup values (gen_random_uuid(), 'Voilier', 'Brest', 3)").await;
    plain.run();
    plain.until_copied(2).await;
    let record = plain.startups().remove(0);

    // Killed, with nobody to say goodbye.
    let mut first = plain.run_another();
    plain.until_logged("stands by").await;
    let status = plain.say_beside("status").await;
    assert!(status.text.contains("stands by: it takes over when"), "{}", status.text);
    plain.signal(&first, Signal::SIGKILL);
    first.wait().unwrap();
    plain.set(&record, &json!({ "Ville": "Roscoff" }));
    plain.until("select count(*)::text from canon.startup where city = 'Roscoff'", Some("1")).await;
    plain.until_logged("takes over").await;

    // Frozen in the midst of its work.
    let second = plain.run_another();
    let standbys = "select count(*)::text from mirror.standby";
    plain.until(standbys, Some("1")).await;
    plain.signal(&second, Signal::SIGSTOP);
    plain.in_source("update startup set city = 'Ouessant' where name = 'Voilier'").await;
    plain.until("select city from canon.startup where name = 'Voilier'", Some("Ouessant")).await;
    let epoch = plain.canonical().await.query_one("select epoch from mirror.writer", &[]).await;
    let epoch: i64 = epoch.unwrap().get(0);
    // It wakes up, finds its place taken, and stands by itself; nothing of it is written.
    plain.signal(&second, Signal::SIGCONT);
    plain.until(standbys, Some("1")).await;
    plain.in_source("update startup set city = 'Molène' where name = 'Voilier'").await;
    plain.until("select city from canon.startup where name = 'Voilier'", Some("Molène")).await;
    let place = "select epoch::text from mirror.writer";
    plain.until(place, Some(&epoch.to_string())).await;
    let doubled = "select count(*)::text from (select from mirror.history where field = 'city'
        group by record_id, after::text having count(*) > 1) x";
    plain.until(doubled, Some("0")).await;
    // Stopped in good order, both.
    plain.signal(&second, Signal::SIGTERM);
    assert!(plain.ended_well(second).await);
    plain.end().await;
}
