//! Servers that are not there, say nothing, are slow, or lie: `check` says so, and `run` goes on with whoever is
//! well and takes up the others when they come back.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use plait::sandbox::{Fault, FaultKind};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::plain::{Documents, Plain};

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Takes it and never says a word.
    Silent,
    /// HTTP 200 with these bytes as the body, whatever was asked.
    Body(&'static str, &'static str),
    /// Announces a long body and sends a byte of it now and then.
    Trickle,
    /// Announces a longer body than it sends.
    CutOff,
    /// Answers what is no HTTP and no Postgres.
    Noise,
}

/// A server on a free port; it ends with the handle's runtime.
async fn server(manner: Manner) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, manner));
        }
    });
    (address, task)
}

async fn answer(mut connection: TcpStream, manner: Manner) {
    let mut asked = [0; 4096];
    // A client that hangs up early has nothing to be told.
    if connection.read(&mut asked).await.is_err() {
        return;
    }
    let head = |kind: &str, length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    match manner {
        Manner::Silent => sleep(Duration::from_mins(10)).await,
        Manner::Body(kind, body) => {
            let answer = head(kind, body.len()) + body;
            drop(connection.write_all(answer.as_bytes()).await);
        }
        Manner::Trickle => {
            drop(connection.write_all(head("application/json", 100_000).as_bytes()).await);
            while connection.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        Manner::CutOff => {
            let answer = head("application/json", 100) + "{\"id\": \"usr";
            drop(connection.write_all(answer.as_bytes()).await);
        }
        Manner::Noise => drop(connection.write_all(b"220 mail.example.org ESMTP\r\n").await),
    }
}

/// `documents` with another Airtable.
fn with_airtable(plain: &Plain<'_>, address: SocketAddr) -> Documents {
    plain
        .documents
        .settings(plain.sandbox.url(), &format!("http://{address}"))
        .settings("request_timeout_s = 2", "request_timeout_s = 1")
}

/// `documents` with another Postgres under this database.
fn with_postgres(plain: &Plain<'_>, database: &str, address: SocketAddr) -> Documents {
    let there = format!("@127.0.0.1:{}/{database}\"", plain.cluster.port());
    plain.documents.settings(&there, &format!("@{address}/{database}\""))
}

/// A port on which nobody listens, as long as the socket is held: nobody else can take it then.
fn nobody() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_are_told_by_check_with_what_where_and_what_to_do() {
    let plain = Plain::start().await;
    let network = "check the network, the proxy and the address in the settings";
    let airtable = [
        (Manner::Silent, "did not answer within 1 s"),
        (Manner::Trickle, "did not answer within 1 s"),
        (Manner::CutOff, "the body is cut off or damaged"),
        (Manner::Noise, "could not reach airtable"),
        (Manner::Body("text/html", "<html><body>Welcome</body></html>"), "it is HTML"),
        (Manner::Body("application/json", "{\"id\": \"usr"), "EOF while parsing"),
        (Manner::Body("application/json", "[1, 2]"), "invalid type"),
        (Manner::Body("application/json", ""), "it is empty"),
    ];
    let mut cases: Vec<(Documents, Vec<String>)> = Vec::new();
    for (manner, told) in airtable {
        let (address, _) = server(manner).await;
        let parts = [told, "GET /v0/meta/whoami", network];
        cases.push((with_airtable(&plain, address), parts.map(String::from).into()));
    }
    let (gone, _held) = nobody();
    let parts = ["could not reach airtable", "Connection refused", network];
    cases.push((with_airtable(&plain, gone), parts.map(String::from).into()));
    let (canonical, source) = (plain.name.clone(), format!("{}_source", plain.name));
    for (manner, told) in [
        (None, "Connection refused"),
        (Some(Manner::Silent), "within 10 s"),
        (Some(Manner::Noise), "is that a Postgres?"),
        (Some(Manner::Body("text/html", "<html></html>")), "is that a Postgres?"),
    ] {
        for (database, section) in [(&canonical, "[canonical]"), (&source, "[directus]")] {
            let address = match manner {
                Some(manner) => server(manner).await.0,
                None => gone,
            };
            let parts = [told.into(), section.into(), format!("{address}/{database}")];
            cases.push((with_postgres(&plain, database, address), parts.into()));
        }
    }
    for some in cases.chunks(6) {
        join_all(some.iter().map(|(documents, parts)| async {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            plain.check(documents).await.fails_with(parts[0], &parts);
        }))
        .await;
    }
    // The one that only writes to the canonical database cannot go on without it.
    let documents = with_postgres(&plain, &canonical, gone);
    let said = plain.say("migrate", &documents).await;
    said.fails_with("migrate", &["could not reach the canonical database", "[canonical]"]);
    let said = plain.say("status", &documents).await;
    said.fails_with("status", &["no answer from", "[canonical]"]);
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_run_goes_on_with_who_is_well_and_takes_the_others_up_again() {
    let mut plain = Plain::start().await;
    plain.in_source("insert into startup values (gen_random_uuid(), 'Voilier', 'Brest', 3)").await;
    let good = plain.documents.clone();
    plain.run();
    plain.until_copied(2).await;
    plain.terminate().await;
    // The source is not there: Airtable is mirrored, and the reason is told.
    let record = plain.startups().remove(0);
    plain.set(&record, &json!({ "Ville": "Roscoff" }));
    let source = format!("{}_source", plain.name);
    let (gone, _held) = nobody();
    plain.documents = with_postgres(&plain, &source, gone);
    plain.run();
    plain.until("select count(*)::text from canon.startup where city = 'Roscoff'", Some("1")).await;
    let told = format!("could not reach Directus's Postgres at {gone}/{source}");
    plain.until_logged(&told).await;
    plain
        .until(
            &format!("select words from mirror.capture_status where log = 'directus' and words like '%{gone}%'"),
            None,
        )
        .await;
    let status = plain.say_beside("status").await;
    assert!(status.text.contains(&told), "{}", status.text);
    assert_eq!(status.code, Some(1));
    plain.terminate().await;
    // Airtable lies: the source is mirrored.
    let (address, _) = server(Manner::Body("text/html", "<html>Please log in</html>")).await;
    plain.in_source("update startup set city = 'Ouessant' where name = 'Voilier'").await;
    plain.documents = good.settings(plain.sandbox.url(), &format!("http://{address}"));
    plain.run();
    plain.until("select city from canon.startup where name = 'Voilier'", Some("Ouessant")).await;
    plain.until_logged("it is HTML").await;
    assert!(plain.is_running());
    plain.terminate().await;
    // Everything is well again.
    plain.documents = good;
    plain.set(&record, &json!({ "Ville": "Cancale" }));
    plain.run();
    plain.until("select count(*)::text from canon.startup where city = 'Cancale'", Some("1")).await;
    // And again after answers of every bad kind, while people work.
    for kind in [FaultKind::Error502, FaultKind::Truncate, FaultKind::Timeout, FaultKind::Reset] {
        plain
            .sandbox
            .inject(Fault { delay_ms: Some(10_000), ..Fault::of_requests(kind, "payloads", 1) });
        plain.set(&record, &json!({ "Ville": format!("{kind:?}") }));
        let sql = format!("select count(*)::text from canon.startup where city = '{kind:?}'");
        plain.until(&sql, Some("1")).await;
    }
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_canonical_that_is_not_there_yet_is_waited_for() {
    let mut plain = Plain::start().await;
    let good = plain.documents.clone();
    let canonical = plain.name.clone();
    // A door that leads to nobody first, and to the database then.
    let (address, socket) = nobody();
    plain.documents = with_postgres(&plain, &canonical, address);
    plain.run();
    plain.until_logged("could not reach the canonical database").await;
    assert!(plain.is_running());
    let listener = socket.listen(64).unwrap();
    let port = plain.cluster.port();
    let door = tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut inside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // Either end may hang up.
                drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    plain.until_copied(2).await;
    door.abort();
    plain.documents = good;
    plain.end().await;
}
