//! The tasks and their channels: spawn, watch over, stop. Captures feed one apply loop through a bounded
//! channel; positions go back to them on watch channels. When any task fails, all are stopped in good order,
//! and if waiting cures it, all are started again from the stored positions: there is no second way to begin.

mod budget;
mod choices;
mod erasures;
mod exports;
mod kept;
mod keys;
mod known;
mod lineage;
mod places;
mod pushes;
mod report;
mod tidy;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    alert,
    apply::{self, Apply, Committed, Limits, Log},
    capture::{self, airtable, directus},
    config::Export,
    config::alert::Rule,
    mapping::{Entity, KeyGivers, Mapping},
    model::{Cursor, Lsn, Notice, Side},
    push::{directus::DirectusPush, password::AirtablePasswords},
    queue::{Outlet, queue},
    remote,
    store::{self, Writer, incident, reading},
};

use choices::Choices;
use keys::AskTries;
use known::Known;
use lineage::Lineage;
use places::places;
use pushes::Pushes;
use report::Reporter;

/// Everything a run needs, secrets included.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) canonical: store::Canonical,
    pub(crate) canonical_password: Option<String>,
    pub(crate) mapping: Mapping,
    pub(crate) directus: Option<directus::SourceSettings>,
    /// Where Directus is written to; `None`: it is only read.
    pub(crate) directus_api: Option<Arc<remote::directus::Client>>,
    pub(crate) airtable: Option<AirtablePlan>,
    pub(crate) limits: Limits,
    /// Rows on their way to `apply`.
    pub(crate) queue_row_count_max: u32,
    /// What is exported by itself.
    pub(crate) exports: Vec<Export>,
    /// What people want to be told of.
    pub(crate) alerts: Vec<Rule>,
}

#[derive(Clone)]
pub(crate) struct AirtablePlan {
    pub(crate) client: Arc<remote::airtable::Client>,
    pub(crate) bases: Vec<airtable::BaseSettings>,
    /// Where pings are received; `None`: polling alone.
    pub(crate) ping_listen: Option<std::net::SocketAddr>,
}

/// First and longest pause before starting anew.
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// How long the tasks have to come to an end by themselves.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Mirrors until `stop`.
///
/// # Errors
/// What waiting does not cure.
pub(crate) async fn run(plan: Plan, stop: CancellationToken) -> anyhow::Result<()> {
    let export_stop = stop.child_token();
    let exporting = tokio::spawn(exports::keep(plan.clone(), export_stop.clone()));
    let outcome = mirror(plan, stop).await;
    export_stop.cancel();
    if let Err(error) = exporting.await {
        warn!(%error, "the task `export` broke off");
    }
    outcome
}

/// Lives, one after the other, until `stop` or what waiting does not cure.
async fn mirror(plan: Plan, stop: CancellationToken) -> anyhow::Result<()> {
    let mut failure_count = 0_u32;
    let mut is_first = true;
    loop {
        let began = Instant::now();
        let failure = match session(&plan, std::mem::take(&mut is_first), &stop).await {
            Ok(()) => return Ok(()),
            Err(error) if stop.is_cancelled() => return Err(error),
            Err(error) if !is_curable(&error) => return Err(error),
            Err(error) => error,
        };
        if began.elapsed() > RESTART_MAX {
            failure_count = 0;
        }
        let pause = (RESTART_MIN * 2_u32.saturating_pow(failure_count.min(8))).min(RESTART_MAX);
        failure_count += 1;
        warn!(failure_count, pause_ms = pause.as_millis(), error = %format!("{failure:#}"), "starting anew");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// Whether starting again from the stored positions may help.
fn is_curable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<apply::Error>() {
            return match error {
                apply::Error::BrokenOff(_) => true,
                apply::Error::Store(error) => error.is_transient(),
                apply::Error::Interleaved(_) => false,
            };
        }
        cause.downcast_ref::<store::Error>().is_some_and(store::Error::is_transient)
    })
}

/// One life of all tasks, from the stored positions on; `is_first` of this process.
async fn session(plan: &Plan, is_first: bool, stop: &CancellationToken) -> anyhow::Result<()> {
    if let Some(source) = &plan.directus {
        keys::refuse_unfit(source, &plan.mapping).await?;
    }
    store::migrate(&plan.canonical).await?;
    if let Err(error) = store::install_reports(&plan.canonical).await {
        // Nothing of the mirror needs them.
        let error = anyhow::Error::from(error);
        warn!(error = format!("{error:#}"), "the reports could not be brought up to date");
    }
    let writer = Writer::open(&plan.canonical, plan.mapping.clone()).await?;
    let mapping = Arc::clone(writer.mapping());
    let pool = reading::pool(&plan.canonical, plan.canonical_password.as_deref()).await?;
    let stored: HashMap<String, reading::StoredPosition> = reading::positions(&pool)
        .await?
        .into_iter()
        .map(|position| (position.log.clone(), position))
        .collect();

    if is_first {
        incident::close_all(&pool).await?;
    }

    let is_mapped = |base: &&airtable::BaseSettings| {
        let tables = mapping.entities.iter().filter_map(|entity| entity.airtable.as_ref());
        tables.into_iter().any(|table| table.base == base.name)
    };
    let bases = plan.airtable.iter().flat_map(|airtable| &airtable.bases).filter(is_mapped);
    let logs = bases.map(|base| (base.name.clone(), airtable_log(&base.id))).collect();
    let place = store::place(&plan.canonical.config);
    let (ties, has_directus) = (Arc::clone(&mapping), plan.directus.is_some());
    let lineage = Lineage::open(pool.clone(), ties, place, logs, has_directus).await?;
    let lineage = Arc::new(lineage);

    // Captures stop before apply does: what they have sent is still applied.
    let capture_stop = stop.child_token();
    let (deliveries, received) = queue(plan.queue_row_count_max);
    let mut life = Life {
        known: Arc::new(Known::new(pool.clone(), Arc::clone(&mapping))),
        choices: Arc::new(Choices {
            pool: pool.clone(),
            mapping: Arc::clone(&mapping),
            directus: plan.directus_api.clone(),
        }),
        lineage: Arc::clone(&lineage),
        reporter: Reporter::new(pool.clone()),
        mapping,
        pool,
        stored,
        deliveries,
        stop: capture_stop.clone(),
        logs: Vec::new(),
        tasks: JoinSet::new(),
        bases: Vec::new(),
        first_copy: None,
        key_givers: watch::Sender::default(),
        tries: None,
    };
    let mut pushes = Pushes::new(Arc::clone(&lineage), capture_stop.child_token());
    let client = plan.airtable.as_ref().map(|airtable| Arc::clone(&airtable.client));
    life.start_console(pushes.nudges(), client);
    if let Some(source) = &plan.directus {
        // A yes to taking a slot over is for the start that it was given to.
        let take_slot = source.take_slot && is_first;
        life.start_directus(directus::SourceSettings { take_slot, ..source.clone() });
    }
    if let Some(airtable) = &plan.airtable {
        life.start_airtable(airtable).await?;
    }
    let Life { reporter, deliveries, logs, mut tasks, pool, bases, key_givers, tries, .. } = life;
    let places = places(Arc::clone(writer.mapping()), bases);
    if let Some(airtable) = &plan.airtable {
        let books = writer.books(pool.clone());
        let places = Arc::clone(&places);
        pushes.start_airtable(airtable, places, books, reporter.notices()).await;
    }
    if let Some(client) = &plan.directus_api {
        let mapping = Arc::clone(writer.mapping());
        let notices = reporter.notices();
        let mut directus = DirectusPush::new(Arc::clone(client), Arc::clone(&mapping), notices);
        if let Some(tries) = tries {
            directus = directus.with_keys(key_givers.subscribe(), Arc::new(AskTries(tries)));
        }
        if let Some(airtable) = &plan.airtable {
            let (from, books) = (Arc::clone(&airtable.client), writer.books(pool.clone()));
            let passwords = AirtablePasswords::new(from, mapping, places, books);
            directus = directus.with_passwords(Arc::new(passwords));
        }
        pushes.start(Side::Directus, writer.books(pool.clone()), Arc::new(directus));
    }
    // Apply ends when the last capture has let go of its sender.
    drop(deliveries);
    let follower = alert::Follower {
        pool: pool.clone(),
        mapping: Arc::clone(writer.mapping()),
        shapes: writer.shapes().to_vec(),
        rules: plan.alerts.clone(),
        logs: logs.iter().map(|log| log.name.clone()).collect(),
    };
    let apply = Apply::new(writer, logs, plan.limits)
        .with_way_out(pushes.way_out())
        .with_rereads(lineage.rereads(), lineage.logs_by_base());
    let reporter_stop = CancellationToken::new();
    let reporting = tokio::spawn(reporter.keep_reporting(reporter_stop.clone()));
    let alerting = alert::keep_following(follower, reporter_stop.clone());
    let alerting = tokio::spawn(alerting.instrument(info_span!("alerts", task = "alerts")));
    let counting = plan.airtable.as_ref().map(|airtable| {
        let bases = airtable.bases.iter().map(|base| base.id.clone()).collect();
        let client = Arc::clone(&airtable.client);
        tokio::spawn(budget::keep_counting(pool.clone(), client, bases, reporter_stop.clone()))
    });
    let finishing = tokio::spawn(erasures::keep_finishing(pool.clone(), reporter_stop.clone()));
    let keeping = tokio::spawn(kept::keep_current(pool.clone(), reporter_stop.clone()));
    let tidying = tokio::spawn(tidy::keep_tidy(pool.clone(), reporter_stop.clone()));
    let mut applying =
        tokio::spawn(apply.run(received).instrument(info_span!("apply", task = "apply")));

    let outcome = watch_over(&mut tasks, &mut applying, stop).await;
    capture_stop.cancel();
    pushes.end().await;
    let ended = tokio::time::timeout(STOP_PATIENCE, async {
        while tasks.join_next().await.is_some() {}
        if !applying.is_finished() {
            return (&mut applying)
                .await
                .context("the task `apply` broke off")?
                .map_err(Into::into);
        }
        Ok::<(), anyhow::Error>(())
    })
    .await;
    reporter_stop.cancel();
    drop(reporting.await);
    drop(tokio::time::timeout(STOP_PATIENCE, alerting).await);
    drop(keeping.await);
    drop(tidying.await);
    if let Some(counting) = counting {
        drop(counting.await);
    }
    drop(finishing.await);
    pool.close().await;
    outcome?;
    ended.context("the tasks did not end in time; nothing that was applied is lost")?
}

/// Waits for `stop`, or for the first task that ends.
async fn watch_over(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    applying: &mut tokio::task::JoinHandle<Result<(), apply::Error>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {
            info!("stopping");
            Ok(())
        }
        applied = applying => match applied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error).context("the task `apply` broke off"),
        },
        Some(ended) = tasks.join_next() => ended.context("a capture broke off")?,
    }
}

/// What the captures of one session are started with.
struct Life {
    mapping: Arc<Mapping>,
    pool: PgPool,
    stored: HashMap<String, reading::StoredPosition>,
    known: Arc<Known>,
    choices: Arc<Choices>,
    lineage: Arc<Lineage>,
    reporter: Reporter,
    deliveries: Outlet,
    stop: CancellationToken,
    logs: Vec<Log>,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Where Airtable's records are.
    bases: Vec<places::Base>,
    /// Where the end of Directus's first copy is told, if it has one before it.
    first_copy: Option<watch::Receiver<Option<Lsn>>>,
    /// Who gives the keys of new records in Directus, once its capture has looked.
    key_givers: watch::Sender<Option<KeyGivers>>,
    /// How creates without an answer come to their end in Directus.
    tries: Option<Arc<directus::Tries>>,
}

impl Life {
    /// What people decide is one more log.
    fn start_console(
        &mut self,
        wake: Vec<Arc<Notify>>,
        airtable: Option<Arc<remote::airtable::Client>>,
    ) {
        let (pool, deliveries) = (self.pool.clone(), self.deliveries.clone());
        let stop = self.stop.clone();
        let task =
            async move { Ok(capture::console::run(pool, deliveries, wake, airtable, stop).await?) };
        self.tasks.spawn(task.instrument(info_span!("capture", side = "plait")));
    }

    fn start_directus(&mut self, source: directus::SourceSettings) {
        let name = Side::Directus.name().to_owned();
        let position = self.stored.get(&name).and_then(|stored| {
            directus::StoredPosition::new(stored.position.parse().ok()?, &stored.identity)
        });
        let (committed, committed_here) =
            watch::channel::<Option<Lsn>>(position.as_ref().map(|stored| stored.lsn));
        let is_shared = self.mapping.entities.iter().any(Entity::is_two_sided);
        self.first_copy = (is_shared && position.is_none()).then(|| committed_here.clone());
        let tries =
            directus::Tries::new(source.clone(), Arc::clone(&self.mapping), committed_here.clone());
        self.tries = Some(Arc::new(tries));
        let (identity_here, identity) = watch::channel(None);
        let (status_here, status) = watch::channel(directus::CaptureStatus::default());
        let (incidents_here, incidents) = mpsc::channel::<Notice>(64);
        self.logs.push(Log {
            name: name.clone(),
            side: Side::Directus,
            identity,
            stored_identity: None,
            committed: Committed::Lsn(committed),
            is_new: position.is_none(),
        });
        self.relay(&name, incidents);
        self.reporter.follow_directus(name, status);
        let links = directus::Links {
            mapping: Arc::clone(&self.mapping),
            stored: position,
            deliveries: self.deliveries.clone(),
            committed: committed_here,
            known: Arc::<Known>::clone(&self.known) as Arc<dyn capture::KnownKeys>,
            lineage: Arc::<Lineage>::clone(&self.lineage) as Arc<dyn capture::Lineage>,
            status: status_here,
            identity: identity_here,
            incidents: incidents_here,
            key_givers: self.key_givers.clone(),
            stop: self.stop.clone(),
        };
        let task = async move {
            directus::run(source, links).await.map_err(|error| {
                let remedy = error.remedy().unwrap_or_default();
                anyhow::anyhow!("{}. {remedy}", error.chain())
            })
        };
        self.tasks.spawn(task.instrument(info_span!("capture", side = %Side::Directus)));
    }

    async fn start_airtable(&mut self, plan: &AirtablePlan) -> anyhow::Result<()> {
        let mut targets = HashMap::new();
        let is_mapped = |base: &&airtable::BaseSettings| {
            let tables = self.mapping.entities.iter().filter_map(|entity| entity.airtable.as_ref());
            tables.into_iter().any(|table| table.base == base.name)
        };
        let bases: Vec<_> = plan.bases.iter().filter(is_mapped).cloned().collect();
        for base in bases {
            let name = airtable_log(&base.id);
            if !self.stored.contains_key(&name) {
                self.lineage.look_at_new_base(&base.name, &name).await?;
            }
            let stored = self.stored.get(&name).and_then(|stored| stored_cursor(&base.id, stored));
            let is_new = stored.as_ref().is_none_or(|stored| stored.cursor.is_none());
            let cursor = stored.as_ref().and_then(|stored| stored.cursor.clone());
            let (committed, _) = watch::channel::<Option<Cursor>>(cursor);
            let (identity_here, identity) = watch::channel(None);
            let (status_here, status) = watch::channel(capture::CaptureStatus::starting());
            let (incidents_here, incidents) = mpsc::channel::<Notice>(64);
            let wake = Arc::new(Notify::new());
            let (ping_key, key) = watch::channel(None);
            let target = airtable::PingTarget::new(&base.id, key, Arc::clone(&wake));
            targets.insert(base.name.clone(), target);
            self.bases.push(places::Base {
                name: base.name.clone(),
                id: base.id.clone(),
                identity: identity.clone(),
            });
            self.logs.push(Log {
                name: name.clone(),
                side: Side::Airtable,
                identity,
                stored_identity: None,
                committed: Committed::Cursor(committed),
                is_new,
            });
            self.relay(&name, incidents);
            self.reporter.follow_airtable(name, status);
            let links = airtable::Links {
                client: Arc::clone(&plan.client),
                mapping: Arc::clone(&self.mapping),
                stored,
                deliveries: self.deliveries.clone(),
                known: Arc::<Known>::clone(&self.known) as Arc<dyn capture::KnownKeys>,
                choices: Arc::<Choices>::clone(&self.choices) as Arc<dyn capture::OtherChoices>,
                lineage: Arc::<Lineage>::clone(&self.lineage) as Arc<dyn capture::Lineage>,
                wake,
                status: status_here,
                identity: identity_here,
                ping_key,
                incidents: incidents_here,
                stop: self.stop.clone(),
            };
            let span = info_span!("capture", side = %Side::Airtable, base = %base.name);
            let first_copy = self.first_copy.clone().filter(|_| is_new);
            let stop = self.stop.clone();
            let task = async move {
                if !is_committed(first_copy, &stop).await {
                    return Ok(());
                }
                Ok(airtable::run(base, links).await?)
            };
            self.tasks.spawn(task.instrument(span));
        }
        if let Some(address) = plan.ping_listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("could not listen for Airtable's pings on {address}; another program has that port, or `ping_listen` is wrong"))?;
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                let listener = airtable::GuardedListener::new(listener, stop.clone());
                axum::serve(listener, airtable::router(targets))
                    .with_graceful_shutdown(stop.cancelled_owned())
                    .await
                    .context("the receiver of Airtable's pings broke off")
            });
        }
        Ok(())
    }

    /// Hands a capture's incidents on to who records them, until the capture is gone.
    fn relay(&mut self, log: &str, mut notices: mpsc::Receiver<Notice>) {
        let (told, log) = (self.reporter.notices(), log.to_owned());
        tokio::spawn(async move {
            while let Some(notice) = notices.recv().await {
                if told.send((log.clone(), notice)).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Waits until Directus's first copy is committed, if there is one. At a first run of both sides, Airtable's records
/// are looked for among Directus's, whose ids are the canonical ones: so these have to be there before. `false`:
/// stopped before it was.
async fn is_committed(
    first_copy: Option<watch::Receiver<Option<Lsn>>>,
    stop: &CancellationToken,
) -> bool {
    let Some(mut first_copy) = first_copy else { return true };
    if first_copy.borrow().is_none() {
        info!(
            "waits for the first copy of Directus, among whose records Airtable's are looked for"
        );
    }
    tokio::select! {
        () = stop.cancelled() => false,
        told = first_copy.wait_for(Option::is_some) => told.is_ok(),
    }
}

/// The name of a base's log in `mirror.position`.
fn airtable_log(id: &str) -> String {
    format!("{}:{id}", Side::Airtable)
}

/// Where the last process stopped; without a cursor if it did not come to the end of its first listing.
fn stored_cursor(base: &str, stored: &reading::StoredPosition) -> Option<airtable::StoredCursor> {
    let identity = airtable::Identity::read(&stored.identity)?;
    let cursor = stored.position.split_once('#').and_then(|(webhook, next)| {
        Some(Cursor { base: base.into(), webhook: webhook.into(), next: next.parse().ok()? })
    });
    Some(airtable::StoredCursor { cursor, identity })
}
