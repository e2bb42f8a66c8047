//! What is too large or too much, through the program: it is told, and the line goes on.

use tokio::net::TcpStream;

use crate::pings::{arrives, pinged};

#[tokio::test(flavor = "multi_thread")]
async fn bounds_a_value_of_70_mb_and_2000_silent_connections_stop_nothing() {
    let mut plain = pinged().await;
    let record = plain.startups().remove(0);
    plain.in_source("alter table startup add scan text").await;
    plain.run();
    plain.until_copied(2).await;
    let settings = plain.documents.settings.clone();
    let listen = settings.lines().find_map(|line| line.strip_prefix("ping_listen = "));
    let address = listen.unwrap().trim_matches('"').to_owned();
    let mut silent = Vec::new();
    for _ in 0..2_000 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    // A column that the mapping does not name.
    plain
        .in_source(
            "insert into startup (id, name, scan) values (gen_random_uuid(), 'Large', repeat('x', 70 * 1024 * 1024))",
        )
        .await;
    plain.in_source("insert into startup (id, name) values (gen_random_uuid(), 'After')").await;
    let both = "select count(*)::text from canon.startup where name in ('Large', 'After')";
    plain.until(both, Some("2")).await;
    arrives(&plain, &record, "Une").await;
    let open = "select string_agg(code, ' ') from mirror.incident where closed_at is null and code like 'capture%'";
    plain.until(open, Some("capture_row_large")).await;
    let said = plain.say_beside("status").await;
    assert!(said.text.contains("70 MiB in its column `scan`"), "{}", said.text);
    assert!(plain.is_running());
    drop(silent);
    plain.end().await;
}
