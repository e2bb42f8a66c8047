//! The captures of one session: started with what connects them to the others. A capture lives through whatever happens
//! to its side ([`crate::capture`]); one that breaks off all the same is started again with a new session.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::{
    AirtablePlan, choices::Choices, known::Known, lineage::Lineage, places, pushes,
    report::Reporter, supervise::Supervisor,
};
use crate::{
    apply::{Committed, Log},
    capture::{self, airtable, directus},
    mapping::{AccountGuard, Entity, KeyGivers, Mapping},
    model::{Cursor, Lsn, Notice, Side},
    queue::Outlet,
    remote,
    store::reading,
};

/// What the captures of one session are started with.
pub(super) struct Life {
    pub(super) mapping: Arc<Mapping>,
    pub(super) pool: PgPool,
    pub(super) stored: HashMap<String, reading::StoredPosition>,
    pub(super) known: Arc<Known>,
    pub(super) choices: Arc<Choices>,
    pub(super) lineage: Arc<Lineage>,
    pub(super) reporter: Reporter,
    pub(super) deliveries: Outlet,
    /// Who is asked for a new session.
    pub(super) renewal: mpsc::Sender<String>,
    pub(super) logs: Vec<Log>,
    pub(super) captures: Supervisor,
    /// Where Airtable's records are.
    pub(super) bases: Vec<places::Base>,
    /// Plait's own account in Directus, and those that are no members'.
    pub(super) own_account: Arc<OnceLock<String>>,
    pub(super) accounts: AccountGuard,
    /// Where the end of Directus's first copy is told, if it has one before it.
    pub(super) first_copy: Option<watch::Receiver<Option<Lsn>>>,
    /// Who gives the keys of new records in Directus, once its capture has looked.
    pub(super) key_givers: watch::Sender<Option<KeyGivers>>,
    /// How creates without an answer come to their end in Directus.
    pub(super) tries: Option<Arc<directus::Tries>>,
}

impl Life {
    /// What people decide is one more log.
    pub(super) fn start_console(
        &mut self,
        wake: Vec<Arc<Notify>>,
        airtable: Option<Arc<remote::airtable::Client>>,
    ) {
        let (pool, deliveries) = (self.pool.clone(), self.deliveries.clone());
        let stop = self.captures.stop();
        let span = info_span!("capture", side = "plait");
        self.captures.keep("console", span, move |pulse| {
            let (pool, deliveries, stop) = (pool.clone(), deliveries.clone(), stop.clone());
            let (wake, airtable) = (wake.clone(), airtable.clone());
            async move {
                let end = end_of(&deliveries, &stop);
                capture::console::run(pool, deliveries, wake, airtable, pulse, stop).await;
                end.await;
                Ok(())
            }
        });
    }

    pub(super) fn start_directus(&mut self, source: directus::SourceSettings) {
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
            own: Arc::clone(&self.own_account),
            accounts: self.accounts.clone(),
            status: status_here,
            identity: identity_here,
            incidents: incidents_here,
            key_givers: self.key_givers.clone(),
            stop: self.captures.stop(),
        };
        let end = end_of(&self.deliveries, &links.stop);
        let task = async move {
            directus::run(source, links).await;
            end.await;
            Ok(())
        };
        let span = info_span!("capture", side = %Side::Directus);
        self.captures.keep_by_renewal("capture directus", span, self.renewal.clone(), task);
    }

    /// `own`: where the id of our own account is put once it is known.
    pub(super) async fn start_airtable(
        &mut self,
        plan: &AirtablePlan,
        own: &Arc<OnceLock<String>>,
    ) -> anyhow::Result<()> {
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
            // Known before the capture begins: what the other side's log tells may be read first.
            let published = stored.as_ref().map(|stored| stored.identity.to_json());
            let (identity_here, identity) = watch::channel(published);
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
            self.reporter.follow_airtable(name.clone(), status);
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
                stop: self.captures.stop(),
            };
            let first_copy = self.first_copy.clone().filter(|_| is_new);
            let (own, end) = (Arc::clone(own), end_of(&self.deliveries, &links.stop));
            let span = info_span!("capture", side = %Side::Airtable, base = %base.name);
            let task = async move {
                if is_committed(first_copy, &links).await && is_known(&own, &links).await {
                    airtable::run(base, links).await;
                }
                end.await;
                Ok(())
            };
            let name = format!("capture {name}");
            self.captures.keep_by_renewal(&name, span, self.renewal.clone(), task);
        }
        let Some(address) = plan.ping_listen else { return Ok(()) };
        let (stop, router) = (self.captures.stop(), airtable::router(targets));
        self.captures.keep("pings", info_span!("pings", task = "pings"), move |pulse| {
            let (stop, router) = (stop.clone(), router.clone());
            async move {
                let listener = TcpListener::bind(address).await.with_context(|| format!("could not listen for Airtable's pings on {address}; another program has that port, or `ping_listen` is wrong; until it is mended changes are found by polling alone"))?;
                // It works for others, and at no pace of its own.
                pulse.resident();
                let listener = airtable::GuardedListener::new(listener, stop.clone());
                axum::serve(listener, router)
                    .with_graceful_shutdown(stop.cancelled_owned())
                    .await
                    .context("the receiver of Airtable's pings broke off")
            }
        });
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

/// Ends with `stop`; if `apply` is still there to take deliveries, at once: then a capture has ended by itself, and
/// whoever watches over it has to know.
fn end_of(deliveries: &Outlet, stop: &CancellationToken) -> impl Future<Output = ()> + use<> {
    let (deliveries, stop) = (deliveries.clone(), stop.clone());
    async move {
        if deliveries.is_closed() {
            drop(deliveries);
            stop.cancelled().await;
        }
    }
}

/// Waits until Directus's first copy is committed, if there is one. At a first run of both sides, Airtable's records
/// are looked for among Directus's, whose ids are the canonical ones: so these have to be there before. `false`:
/// stopped before it was.
async fn is_committed(
    first_copy: Option<watch::Receiver<Option<Lsn>>>,
    links: &airtable::Links,
) -> bool {
    let Some(mut first_copy) = first_copy else { return true };
    if first_copy.borrow().is_none() {
        let what = "the first copy of Directus, among whose records Airtable's are looked for";
        info!("waits for {what}");
        links.status.send_modify(|status| {
            status.state = capture::State::WaitingFor { what: what.into() };
        });
    }
    tokio::select! {
        () = links.stop.cancelled() => false,
        told = first_copy.wait_for(Option::is_some) => told.is_ok(),
    }
}

/// Waits until it is known who we are on Airtable: without that, our own writes would look like somebody's in its
/// payloads. `false`: stopped before it was.
async fn is_known(own: &OnceLock<String>, links: &airtable::Links) -> bool {
    let mut failure_count = 0;
    while own.get().is_none() {
        let Err(error) = pushes::ask(&links.client, own).await else { break };
        failure_count += 1;
        let reason = error.chain();
        warn!(failure_count, error = %reason, "airtable does not say whose token ours is");
        links.status.send_modify(|status| {
            status.state = match error.retry_after() {
                Some(_) => capture::State::Waiting { reason },
                None => capture::State::Suspended { reason },
            };
        });
        tokio::select! {
            () = links.stop.cancelled() => return false,
            () = sleep(airtable::pause(error.retry_after(), failure_count)) => {}
        }
    }
    true
}

/// The name of a base's log in `mirror.position`.
pub(super) fn airtable_log(id: &str) -> String {
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
