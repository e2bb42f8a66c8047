//! A faithful pretend Airtable, for people and tests without one: the Web API under `/v0`, a control API
//! under `/sandbox` (its index is `GET /sandbox`), and a page at `/` where a person edits a grid.
//!
//! It shares no type with the rest of the crate: a wrong belief about Airtable has to be written down twice
//! to pass a test. All state is in memory behind one lock, and answers are computed while it is held, so
//! that a payload is there before the answer to the write that made it. What nobody has verified about
//! Airtable is a switch in [`Config`].

mod api;
mod auth;
mod cell;
mod clock;
mod computed;
mod config;
mod control;
mod edit;
mod fault;
mod formula;
mod formula_eval;
mod ids;
mod limit;
mod list;
mod meta;
mod model;
mod page;
mod parse;
mod payload;
mod ping;
mod reply;
mod schema;
mod seed;
mod server;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod webhook;
mod write;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::auth::{MIRROR_TOKEN, OWNER_TOKEN, READER_TOKEN};
pub use self::clock::Clock;
pub use self::config::Config;
pub use self::edit::Edit;
pub use self::fault::{Fault, FaultKind};
pub use self::ping::PingFault;
pub use self::seed::{
    MIRROR_USER, NETWORK_BASE, OWNER_USER, PLAYGROUND_BASE, SeedLink, SeedRow, seed_rows, seed_uuid,
};
use self::server::Shared;
pub use self::transaction::Actor;

/// How long a change may wait before it is in the state file.
const SAVE_DELAY: Duration = Duration::from_millis(500);

/// How a sandbox is to be.
#[derive(Debug)]
pub struct Options {
    /// Where it listens; port 0: any free one.
    pub listen: SocketAddr,
    /// Ids, names and numbers come from it; the same seed gives the same bases.
    pub seed: u64,
    pub clock: Arc<Clock>,
    pub config: Config,
    /// Read at the start when it exists, written after changes and at the stop; none: nothing is kept.
    pub state_file: Option<PathBuf>,
    /// Without: no bases, only users and tokens.
    pub is_seeded: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: seed::SEED,
            clock: Arc::new(Clock::system()),
            config: Config::default(),
            state_file: None,
            is_seeded: true,
        }
    }
}

/// Why a sandbox could not start or save.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not listen on {address}; choose another address or port")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("could not read the state file {}; delete it to start afresh", path.display())]
    ReadState { path: PathBuf, source: std::io::Error },
    #[error("the state file {} was not written by this sandbox; delete it to start afresh", path.display())]
    ParseState { path: PathBuf, source: serde_json::Error },
    #[error("could not write the state file {}", path.display())]
    WriteState { path: PathBuf, source: std::io::Error },
    #[error("the sandbox refused an edit: {status} {body}")]
    Refused { status: u16, body: String },
}

/// A sandbox that runs.
pub struct Sandbox {
    shared: Arc<Shared>,
    url: String,
    tasks: JoinSet<()>,
    state_file: Option<PathBuf>,
}

impl Sandbox {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot listen or the state file cannot be read.
    pub async fn start(options: Options) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none()
            && rustls::crypto::ring::default_provider().install_default().is_err()
        {
            tracing::debug!("another part of the process chose the cryptography first");
        }
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|source| Error::Listen { address: options.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Listen { address: options.listen, source })?;
        let url = format!("http://{address}");
        let mut state =
            seed::state(options.seed, options.config, options.is_seeded, options.clock.now_ms());
        state.url.clone_from(&url);
        if let Some(path) = options.state_file.as_deref().filter(|path| path.exists()) {
            let text = tokio::fs::read(path)
                .await
                .map_err(|source| Error::ReadState { path: path.to_owned(), source })?;
            state.world = serde_json::from_slice(&text)
                .map_err(|source| Error::ParseState { path: path.to_owned(), source })?;
            // The ids that the seed gives next were given in the life that was saved.
            state.ids = ids::Ids::new(options.seed ^ options.clock.now_ms().unsigned_abs());
        }
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared::new(state, options.clock, stop.clone()));
        let mut tasks = JoinSet::new();
        let served = Arc::clone(&shared);
        tasks.spawn(async move {
            if let Err(error) = server::serve(listener, served).await {
                tracing::error!(%error, "the sandbox's server ended");
            }
        });
        tasks.spawn(ping::keep_pinging(Arc::clone(&shared), stop.clone()));
        if let Some(path) = options.state_file.clone() {
            tasks.spawn(keep_saving(Arc::clone(&shared), path));
        }
        Ok(Self { shared, url, tasks, state_file: options.state_file })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end; the API is under `/v0`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it; open connections are cut after 2 s.
    ///
    /// # Errors
    /// When the state file cannot be written.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.shared.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            self.tasks.abort_all();
        }
        match &self.state_file {
            Some(path) => save(&self.shared, path).await,
            None => Ok(()),
        }
    }

    /// Carries edits out as one transaction of `actor`; returns the id that each made or touched.
    ///
    /// # Errors
    /// When the sandbox refuses them; then nothing was changed.
    pub fn edit_as(&self, base: &str, actor: Actor, edits: &[Edit]) -> Result<Vec<String>, Error> {
        let outcome =
            self.shared.lock().edit(base, actor, edits, false, self.shared.clock.now_ms());
        self.shared.nudge.notify_one();
        self.shared.changed.notify_one();
        outcome.map_err(|reply| Error::Refused { status: reply.status, body: reply.text() })
    }

    /// Lets a request go wrong.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().faults.0.push(fault);
    }

    /// Lets all requests go well again.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.0.clear();
    }

    /// Lets the next ping go wrong.
    pub fn inject_ping(&self, fault: PingFault) {
        self.shared.lock().ping_faults.push_back(fault);
    }

    /// Lets webhooks (none named: all of the base) go wrong: `expire`, `delete`, `error`, `dead`.
    ///
    /// # Errors
    /// When the base or the word is unknown.
    pub fn disturb_webhooks(
        &self,
        base: &str,
        hook: Option<&str>,
        what: &str,
        code: &str,
    ) -> Result<(), Error> {
        let now_ms = self.shared.clock.now_ms();
        let outcome = self.shared.lock().disturb_hooks(base, hook, what, code, None, now_ms);
        outcome.map_err(|reply| Error::Refused { status: reply.status, body: reply.text() })
    }

    /// Moves the time ahead.
    pub fn advance(&self, time: Duration) {
        self.shared.clock.advance(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        self.shared.nudge.notify_one();
    }

    /// Changes switches of [`Config`].
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.shared.lock().config);
    }

    /// The records of a table as `(id, fields by name)`, as over REST.
    pub fn records(&self, base: &str, table: &str) -> Vec<(String, Value)> {
        let state = self.shared.lock();
        let Ok(look) = state.look(base, self.shared.clock.now_ms()) else { return Vec::new() };
        let Some(table) = look.base.table(table) else { return Vec::new() };
        let records = table.records.values();
        records
            .map(|record| {
                (record.id.clone(), Value::Object(look.rest_fields(table, record, None, false)))
            })
            .collect()
    }

    /// The transaction log of a base: every action, with all values before and after.
    pub fn log(&self, base: &str) -> Vec<Value> {
        let state = self.shared.lock();
        state
            .world
            .bases
            .get(base)
            .map(|base| base.log.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Counters, as `GET /sandbox/stats` has them.
    pub fn stats(&self) -> Value {
        serde_json::to_value(&self.shared.lock().stats).unwrap_or_default()
    }
}

/// Runs a sandbox until `stop`.
///
/// # Errors
/// As [`Sandbox::start`] and [`Sandbox::stop`].
pub async fn serve(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let sandbox = Sandbox::start(options).await?;
    tracing::info!(url = sandbox.url(), "sandbox is ready");
    stop.cancelled().await;
    sandbox.stop().await
}

async fn keep_saving(shared: Arc<Shared>, path: PathBuf) {
    while !shared.stop.is_cancelled() {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.changed.notified() => {}
        }
        tokio::time::sleep(SAVE_DELAY).await;
        if let Err(error) = save(&shared, &path).await {
            tracing::warn!(%error, "could not save");
        }
    }
}

/// Writes the state beside the file, then puts it in its place.
async fn save(shared: &Shared, path: &Path) -> Result<(), Error> {
    let text = serde_json::to_vec(&shared.lock().world)
        .map_err(|source| Error::ParseState { path: path.to_owned(), source })?;
    let beside = path.with_extension("new");
    let failed = |source| Error::WriteState { path: path.to_owned(), source };
    tokio::fs::write(&beside, text).await.map_err(failed)?;
    tokio::fs::rename(&beside, path).await.map_err(failed)
}
