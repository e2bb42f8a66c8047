//! The program is killed right after its first commit, after its second, and so on, until a life has come to the end of what
//! there was to do. A proxy before the canonical database counts the commits: the one that ends a life has been carried
//! out, and neither its answer nor anything after it gets through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use plait::sandbox::{Edit, NETWORK_BASE};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

use crate::line::{Line, fields, update};

/// More commits than one life needs for the history below.
const COMMIT_COUNT_MAX: i64 = 60;
const PATIENCE: Duration = Duration::from_mins(1);

/// A proxy before a Postgres that is spoken to without TLS.
struct Gate {
    port: u16,
    state: Arc<State>,
}

struct State {
    /// Commits that still get through.
    commits_left: AtomicI64,
    life: watch::Sender<Life>,
}

#[derive(Clone, Copy)]
struct Life {
    number: i64,
    is_open: bool,
}

impl Gate {
    async fn before(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let life = watch::channel(Life { number: 0, is_open: true }).0;
        let state = Arc::new(State { commits_left: AtomicI64::new(i64::MAX), life });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let life = shared.life.borrow().number;
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::spawn(requests(client_reads, server_writes, Arc::clone(&shared), life));
                tokio::spawn(answers(server_reads, client_writes, Arc::clone(&shared), life));
            }
        });
        Self { port, state }
    }

    /// Opens for another life, and closes after so many commits.
    fn close_after(&self, commit_count: i64) {
        self.state.commits_left.store(commit_count, Ordering::SeqCst);
        self.state.life.send_modify(|life| *life = Life { number: life.number + 1, is_open: true });
    }

    fn is_closed(&self) -> bool {
        !self.state.life.borrow().is_open
    }
}

impl State {
    /// Waits until something of this life may pass; `false`: the life is over, and what waited goes with it.
    async fn may_pass(&self, number: i64) -> bool {
        let mut lives = self.life.subscribe();
        let life = lives.wait_for(|life| life.is_open || life.number != number).await;
        life.is_ok_and(|life| life.number == number)
    }

    fn note_commit(&self) {
        if self.commits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.life.send_modify(|life| life.is_open = false);
        }
    }
}

async fn requests(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<State>,
    life: i64,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !state.may_pass(life).await || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

/// Messages of the server: a letter, four bytes of length, and the rest. `C` tells a command that was carried out.
async fn answers(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<State>,
    life: i64,
) {
    let mut head = [0; 5];
    while from.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        if from.read_exact(&mut body).await.is_err() {
            break;
        }
        if head[0] == b'C' && body.starts_with(b"COMMIT") {
            state.note_commit();
        }
        if !state.may_pass(life).await || to.write_all(&[&head[..], &body].concat()).await.is_err()
        {
            break;
        }
    }
}

/// What happens before each life: an edit on either side, and a record that is new on either.
async fn history(line: &Line, startup: &(String, String), number: i64) {
    let edit = update("Startups", &startup.0, &[("Ville", json!(format!("v{number}")))]);
    let cells = fields(&[("Nom", json!(format!("Balai A{number}")))]);
    line.edit(&[edit, Edit::Create { table: "Startups".into(), fields: cells }]);
    let rest = line.rest();
    let body = json!({ "legal_form": format!("f{number}") });
    rest.patch(&format!("/items/startup/{}", startup.1), &body).await.unwrap();
    let body = json!({ "id": uuid::Uuid::now_v7(), "name": format!("Balai D{number}") });
    rest.post("/items/startup", &body).await.unwrap();
}

/// The names of what the histories have created, on both sides.
async fn created(line: &Line) -> [Vec<String>; 2] {
    let sql = "select name from startup where name like 'Balai %'";
    let rows = line.source.query(sql, &[]).await.unwrap();
    let in_directus = rows.iter().map(|row| row.get(0)).collect();
    let records = line.sandbox.records(NETWORK_BASE, "Startups");
    let names = records.iter().filter_map(|(_, cells)| cells["Nom"].as_str());
    let in_airtable = names.filter(|name| name.starts_with("Balai ")).map(String::from).collect();
    [in_directus, in_airtable].map(|mut names: Vec<String>| {
        names.sort();
        names
    })
}

/// Whether both sides have all of the histories up to this one.
async fn has_arrived(line: &Line, startup: &(String, String), number: i64) -> bool {
    let sql = "select city, legal_form from startup where id::text = $1";
    let row = line.source.query_one(sql, &[&startup.1]).await.unwrap();
    let in_directus = [row.get::<_, Option<String>>(0), row.get(1)];
    let records = line.sandbox.records(NETWORK_BASE, "Startups");
    let cells = records.into_iter().find(|(key, _)| *key == startup.0).unwrap().1;
    let wanted = [format!("v{number}"), format!("f{number}")];
    let is_edited =
        in_directus.iter().zip(&wanted).all(|(found, wanted)| found.as_ref() == Some(wanted))
            && cells["Ville"] == *wanted[0]
            && cells["Forme juridique"] == *wanted[1];
    let [in_directus, in_airtable] = created(line).await;
    let count = usize::try_from(number).unwrap() * 2;
    is_edited && in_directus.len() >= count && in_airtable.len() >= count
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_of_kills_between_commits_loses_and_doubles_nothing() {
    let mut line = Line::start_two_way().await;
    let startup = line.a_startup().await;
    assert!(line.terminate());
    let gate = Gate::before(line.canonical_port()).await;
    line.reach_canonical_at(gate.port);

    let mut number = 0;
    loop {
        number += 1;
        assert!(number < COMMIT_COUNT_MAX, "no life comes to its end");
        history(&line, &startup, number).await;
        gate.close_after(number);
        line.run();
        let since = Instant::now();
        while !gate.is_closed() && !has_arrived(&line, &startup, number).await {
            assert!(since.elapsed() < PATIENCE, "life {number}: {}", line.log());
            assert!(line.is_running(), "life {number}: {}", line.log());
            sleep(Duration::from_millis(20)).await;
        }
        eprintln!("life {number} of the sweep: {:.1} s", since.elapsed().as_secs_f64());
        let is_over = !gate.is_closed();
        if is_over {
            break;
        }
        line.kill();
    }
    gate.close_after(i64::MAX);
    line.until_settled().await;
    let mut wanted: Vec<String> =
        (1..=number).flat_map(|at| [format!("Balai A{at}"), format!("Balai D{at}")]).collect();
    wanted.sort();
    assert_eq!(created(&line).await, [wanted.clone(), wanted]);
    let verified = line.said(&["verify", "--allow-owed"]);
    assert!(!verified.contains("UNEXPLAINED"), "{verified}");
    assert!(number > 10, "only {number} commits were swept");
}
