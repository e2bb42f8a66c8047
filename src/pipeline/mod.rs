//! The tasks and their channels: spawn, watch over, stop. Captures feed one apply loop through a bounded
//! channel; positions go back to them on watch channels. A task that can be started again by itself is
//! ([`supervise`]); when `apply` fails, or a capture lost what it knew, all are stopped in good order and started again
//! from the stored positions: there is no second way to begin. A run ends well only when it was told to stop.

mod budget;
mod choices;
mod conditions;
mod erasures;
mod exports;
mod kept;
mod keys;
mod known;
mod life;
mod lineage;
mod places;
mod pushes;
mod report;
mod supervise;
#[cfg(test)]
mod tests;
mod tidy;
mod upkeep;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    alert,
    apply::{self, Apply, Limits},
    capture::{airtable, directus},
    config::Export,
    config::alert::Rule,
    gate::Gate,
    mapping::{AccountGuard, Mapping},
    model::Side,
    pulse::Workload,
    push::{directus::DirectusPush, password::AirtablePasswords},
    queue::queue,
    remote,
    store::{self, Candidate, Writer, incident, reading},
};

use choices::Choices;
use keys::AskTries;
use known::Known;
use lineage::Lineage;
pub(crate) use report::log_kept;

use conditions::Conditions;
use life::{Life, airtable_log};
use places::places;
use pushes::Pushes;
use report::{Reporter, Watched};
use supervise::{Supervisor, Ward};

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

impl Plan {
    /// Has all writes to the sides go through `gate`. The answer: the longest that one of them may take.
    fn guard(&self, gate: &Gate) -> Option<Duration> {
        let airtable = self.airtable.as_ref().map(|airtable| &airtable.client);
        let directus = self.directus_api.as_ref();
        if let Some(client) = airtable {
            client.guard(gate);
        }
        if let Some(client) = directus {
            client.guard(gate);
        }
        let longest = [
            airtable.map(|client| client.request_max()),
            directus.map(|client| client.request_max()),
        ];
        longest.into_iter().flatten().max()
    }
}

/// First and longest pause before starting anew.
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// How long the tasks have to come to an end by themselves.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long `apply` has at least, to end what it is at.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);

/// Mirrors until `stop`. Once it has mirrored, nothing but `stop` ends it: what fails is tried again.
///
/// # Errors
/// What waiting does not cure, at the start: the canonical database refuses us, or does not fit the mapping.
pub(crate) async fn run(plan: Plan, stop: CancellationToken) -> anyhow::Result<()> {
    let ward = Ward::default();
    let gate = Gate::shut();
    let mut plan = plan;
    let candidate = Candidate::new(plan.guard(&gate));
    plan.canonical.config.application_name(candidate.application());
    let export_stop = stop.child_token();
    let exporting = tokio::spawn(exports::keep(plan.clone(), ward.clone(), export_stop.clone()));
    let process = Process {
        ward,
        gate,
        candidate,
        conditions: Arc::default(),
        has_mirrored: false,
        workload: Workload::new(),
    };
    let outcome = mirror(plan, process, stop).await;
    export_stop.cancel();
    if let Err(error) = exporting.await {
        warn!(%error, "the task `export` broke off");
    }
    outcome
}

/// Runs sessions, one after the other, until `stop`, or until an error that waiting does not cure.
async fn mirror(plan: Plan, mut process: Process, stop: CancellationToken) -> anyhow::Result<()> {
    let mut failure_count = 0_u32;
    let mut pause = Duration::ZERO;
    loop {
        let began = Instant::now();
        process.workload = Workload::new();
        let failure = match session(&plan, &mut process, &stop).await {
            Ok(()) => return Ok(()),
            Err(error) if stop.is_cancelled() => return Err(error),
            Err(error) if !process.has_mirrored && !is_curable(&error) => return Err(error),
            Err(error) => error,
        };
        // A session that lasted, or got something done, is no part of a series of failures.
        if process.workload.has_moved() || began.elapsed() > pause * 2 + RESTART_MIN {
            failure_count = 0;
        }
        pause = (RESTART_MIN * 2_u32.saturating_pow(failure_count.min(8))).min(RESTART_MAX);
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
                apply::Error::BrokenOff(_) | apply::Error::Interleaved(_) => true,
                apply::Error::Store(error) => error.is_transient(),
            };
        }
        if cause.is::<Ended>() {
            return true;
        }
        cause.downcast_ref::<store::Error>().is_some_and(store::Error::is_transient)
    })
}

/// A task ended before it was told to: what it was to do may still be there to be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(String);

/// What outlives the sessions of a process.
struct Process {
    ward: Ward,
    /// What all that is written to the sides goes through.
    gate: Gate,
    candidate: Candidate,
    conditions: Arc<Conditions>,
    /// A session of this process has come as far as mirroring.
    has_mirrored: bool,
    /// What `apply` has done in the session of now.
    workload: Workload,
}

/// One session of all tasks, from the stored positions on. It ends well only when it was told to stop.
async fn session(
    plan: &Plan,
    process: &mut Process,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if let Some(source) = &plan.directus {
        keys::refuse_unfit(source, &plan.mapping).await?;
    }
    // Whoever mirrors may be of an older version: the schemas are changed in its place, not under its feet.
    if !store::has_place(&plan.canonical).await? {
        store::migrate(&plan.canonical).await?;
    }
    let Some(lease) = store::stand_by(&plan.canonical, &process.candidate, stop).await? else {
        return Ok(());
    };
    store::migrate(&plan.canonical).await?;
    if let Err(error) = store::install_reports(&plan.canonical).await {
        // Nothing of the mirror needs them.
        let error = anyhow::Error::from(error);
        warn!(error = format!("{error:#}"), "the reports could not be brought up to date");
    }
    if let Err(error) = store::follow_mapping(&plan.canonical, &plan.mapping).await {
        let error = anyhow::Error::from(error);
        warn!(
            error = format!("{error:#}"),
            "the rights of who reads reports could not be brought up to date"
        );
    }
    let writer = Writer::with(lease, &plan.canonical, plan.mapping.clone()).await?;
    let pool = reading::pool(&plan.canonical, plan.canonical_password.as_deref()).await?;
    let outcome = mirror_with(plan, process, stop, writer, pool.clone()).await;
    // A connection whose server does not answer is not waited for.
    drop(tokio::time::timeout(STOP_PATIENCE, pool.close()).await);
    outcome
}

async fn mirror_with(
    plan: &Plan,
    process: &mut Process,
    stop: &CancellationToken,
    writer: Writer,
    pool: PgPool,
) -> anyhow::Result<()> {
    let mapping = Arc::clone(writer.mapping());
    let keeper_stop = CancellationToken::new();
    let keeper = writer.keeper().with_gate(process.gate.clone());
    let mut keeper = AbortOnDropHandle::new(tokio::spawn(keeper.keep(keeper_stop.clone())));
    let workload = process.workload.clone();
    let watched = Watched {
        ward: process.ward.clone(),
        workload: workload.clone(),
        conditions: Arc::clone(&process.conditions),
        backend_pids: writer.backend_pids().await?,
        entity_numbers: writer.entity_numbers().to_vec(),
    };
    let books = writer.books(pool.clone()).with_gate(process.gate.clone());
    let stored = reading::positions(&pool).await?;
    let is_first = !std::mem::replace(&mut process.has_mirrored, true);
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
    let beside_stop = CancellationToken::new();
    let ward = &process.ward;
    let (renewal, mut renewals) = mpsc::channel(1);
    let (deliveries, received) = queue(plan.queue_row_count_max);
    let mut pushes = Pushes::new(Arc::clone(&lineage), ward.clone(), capture_stop.child_token());
    let mut life = Life {
        known: Arc::new(Known::new(pool.clone(), Arc::clone(&mapping))),
        choices: Arc::new(Choices {
            pool: pool.clone(),
            mapping: Arc::clone(&mapping),
            directus: plan.directus_api.clone(),
        }),
        lineage: Arc::clone(&lineage),
        reporter: Reporter::new(pool.clone(), watched),
        mapping: Arc::clone(&mapping),
        pool: pool.clone(),
        stored: stored.into_iter().map(|position| (position.log.clone(), position)).collect(),
        deliveries,
        renewal,
        logs: Vec::new(),
        captures: Supervisor::new(ward.clone(), capture_stop.clone()),
        bases: Vec::new(),
        own_account: Arc::default(),
        accounts: AccountGuard::default(),
        first_copy: None,
        key_givers: watch::Sender::default(),
        tries: None,
    };
    let client = plan.airtable.as_ref().map(|airtable| Arc::clone(&airtable.client));
    life.start_console(pushes.nudges(), client);
    if let Some(client) = &plan.directus_api {
        let (client, own) = (Arc::clone(client), Arc::clone(&life.own_account));
        let stop = capture_stop.clone();
        tokio::spawn(pushes::learn_own_account(client, own, stop));
    }
    if let Some(source) = &plan.directus {
        // A yes to taking a slot over is for the start that it was given to.
        let take_slot = source.take_slot && is_first;
        life.start_directus(directus::SourceSettings { take_slot, ..source.clone() });
    }
    if let Some(airtable) = &plan.airtable {
        life.start_airtable(airtable, &pushes.own(Side::Airtable)).await?;
    }
    let Life { reporter, deliveries, logs, captures, bases, key_givers, tries, accounts, .. } =
        life;
    // Apply ends when the last capture has let go of its sender.
    drop(deliveries);
    let places = places(Arc::clone(&mapping), bases.clone());
    let (of_directus_here, of_directus) = watch::channel(upkeep::OfDirectus::new());
    let upkeep = upkeep::news(Arc::clone(&mapping), bases, of_directus);
    let looking = plan.directus_api.as_ref().map(|client| {
        let (client, mapping) = (Arc::clone(client), Arc::clone(&mapping));
        let task =
            upkeep::keep_looking(client, mapping, of_directus_here, capture_stop.child_token());
        AbortOnDropHandle::new(tokio::spawn(task))
    });
    if let Some(airtable) = &plan.airtable {
        let places = Arc::clone(&places);
        pushes.start_airtable(airtable, places, books.clone(), reporter.notices());
    }
    if let Some(client) = &plan.directus_api {
        let notices = reporter.notices();
        let mut directus = DirectusPush::new(Arc::clone(client), Arc::clone(&mapping), notices);
        if let Some(tries) = tries {
            directus = directus.with_keys(key_givers.subscribe(), Arc::new(AskTries(tries)));
        }
        if plan.directus.is_some() {
            directus = directus.with_accounts(accounts);
        }
        if let Some(airtable) = &plan.airtable {
            let (from, books) = (Arc::clone(&airtable.client), books.clone());
            let passwords = AirtablePasswords::new(from, Arc::clone(&mapping), places, books);
            directus = directus.with_passwords(Arc::new(passwords));
        }
        pushes.start(Side::Directus, books, Arc::new(directus));
    }
    let follower = alert::Follower {
        pool: pool.clone(),
        mapping,
        shapes: writer.shapes().to_vec(),
        rules: plan.alerts.clone(),
        logs: logs.iter().map(|log| log.name.clone()).collect(),
    };
    let apply = Apply::new(writer, logs, plan.limits)
        .with_way_out(pushes.way_out())
        .with_rereads(lineage.rereads(), lineage.logs_by_base())
        .with_workload(workload)
        .with_upkeep(upkeep);
    let mut beside = Supervisor::new(ward.clone(), beside_stop);
    start_beside(&mut beside, plan, &pool, follower, reporter);
    let applying =
        tokio::spawn(apply.run(received).instrument(info_span!("apply", task = "apply")));
    let mut applying = AbortOnDropHandle::new(applying);

    let mut applied = None;
    let reason = tokio::select! {
        // First: what ends because of a stop was asked for.
        biased;
        () = stop.cancelled() => {
            info!("stopping");
            None
        }
        ended = &mut applying => {
            applied = Some(ended);
            let ended = Ended("`apply` came to an end though nobody asked for it".into());
            Some(anyhow::Error::from(ended))
        }
        kept = &mut keeper => Some(match kept {
            Ok(Err(error)) => error.into(),
            _ => Ended("the task that keeps the writer's place broke off".into()).into(),
        }),
        Some(reason) = renewals.recv() => Some(Ended(reason).into()),
    };
    let deadline = Instant::now() + STOP_PATIENCE;
    capture_stop.cancel();
    drop(looking);
    pushes.end().await;
    let are_timely = captures.end(deadline - Instant::now()).await;
    let applied = match applied {
        Some(ended) => Ok(ended),
        None => timeout_at(deadline.max(Instant::now() + APPLY_PATIENCE), applying).await,
    };
    beside.end(STOP_PATIENCE).await;
    // Last of all: nothing of ours is under way any more.
    keeper_stop.cancel();
    if !keeper.is_finished() {
        drop(tokio::time::timeout(STOP_PATIENCE, keeper).await);
    }
    process.gate.lose();
    match applied {
        Err(_) => {
            return Err(Ended("`apply` did not end in time".into()).into());
        }
        Ok(Err(_)) => return Err(Ended("the task `apply` broke off".into()).into()),
        Ok(Ok(applied)) => applied?,
    }
    match reason {
        Some(reason) => Err(reason),
        None if are_timely => Ok(()),
        None => Err(Ended("a capture did not end in time".into()))
            .context("nothing that was applied is lost"),
    }
}

/// Starts what works beside the mirror: it reads what is mirrored, and the mirror does not wait for it.
fn start_beside(
    beside: &mut Supervisor,
    plan: &Plan,
    pool: &PgPool,
    follower: alert::Follower,
    reporter: Reporter,
) {
    let stop = beside.stop();
    let reporter = Arc::new(tokio::sync::Mutex::new(reporter));
    let until = stop.clone();
    beside.keep("status", info_span!("status", task = "status"), move |pulse| {
        let (reporter, stop) = (Arc::clone(&reporter), until.clone());
        async move {
            reporter.lock().await.keep_reporting(&pulse, stop).await;
            Ok(())
        }
    });
    let until = stop.clone();
    beside.keep("alerts", info_span!("alerts", task = "alerts"), move |pulse| {
        let (follower, stop) = (follower.clone(), until.clone());
        async move {
            alert::keep_following(follower, pulse, stop).await;
            Ok(())
        }
    });
    if let Some(airtable) = &plan.airtable {
        let bases: Vec<String> = airtable.bases.iter().map(|base| base.id.clone()).collect();
        let (client, pool, until) = (Arc::clone(&airtable.client), pool.clone(), stop.clone());
        beside.keep("budget", info_span!("budget", task = "budget"), move |pulse| {
            let (pool, client, bases) = (pool.clone(), Arc::clone(&client), bases.clone());
            let stop = until.clone();
            async move {
                budget::keep_counting(pool, client, bases, pulse, stop).await;
                Ok(())
            }
        });
    }
    let (from, until) = (pool.clone(), stop.clone());
    beside.keep("erasures", info_span!("erasures", task = "erasures"), move |pulse| {
        let (pool, stop) = (from.clone(), until.clone());
        async move {
            erasures::keep_finishing(pool, pulse, stop).await;
            Ok(())
        }
    });
    let (from, until) = (pool.clone(), stop.clone());
    beside.keep("tidying", info_span!("tidying", task = "tidying"), move |pulse| {
        let (pool, stop) = (from.clone(), until.clone());
        async move {
            tidy::keep_tidy(pool, pulse, stop).await;
            Ok(())
        }
    });
    let (from, until) = (pool.clone(), stop);
    beside.keep("reports", info_span!("reports", task = "reports"), move |pulse| {
        let (pool, stop) = (from.clone(), until.clone());
        async move {
            kept::keep_current(pool, pulse, stop).await;
            Ok(())
        }
    });
}
