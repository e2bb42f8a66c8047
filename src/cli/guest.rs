//! Commands that call Airtable beside a plait that runs: both share what Airtable allows a base in a second.

use std::time::Duration;

use anyhow::bail;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use crate::{
    remote::airtable::ROOM_LASTS,
    store::{command, vitals},
};

/// How long the requests that the running plait sent before it heard stay in Airtable's window, and a little more.
const HEARD_AFTER: Duration = Duration::from_secs(2);
/// How long a command waits for another one that reads Airtable, and how often it looks.
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The place of the one command that calls Airtable, until it is dropped.
pub(super) struct Guest {
    is_beside: bool,
    /// Has the running plait leave room, again and again.
    _renewing: Option<AbortOnDropHandle<()>>,
    /// Its session holds the place: closed with it.
    _place: PgConnection,
}

impl Guest {
    /// Waits for other commands that call Airtable, and has the plait that runs, if one does, leave room: all together
    /// never ask for more than Airtable allows.
    ///
    /// # Errors
    /// When the canonical database fails, or another command does not come to its end.
    pub(super) async fn enter(pool: &PgPool) -> anyhow::Result<Self> {
        let place = place(pool).await?;
        let is_beside = vitals::is_running(pool).await?;
        let renewing = if is_beside { Some(ask(pool).await?) } else { None };
        Ok(Self { is_beside, _renewing: renewing, _place: place })
    }

    /// Whether a plait runs that leaves only a part of what Airtable allows.
    pub(super) fn is_beside_a_run(&self) -> bool {
        self.is_beside
    }
}

/// Two commands at once would ask for more than the running plait leaves.
async fn place(pool: &PgPool) -> anyhow::Result<PgConnection> {
    let mut connection = pool.acquire().await?.detach();
    let until = Instant::now() + PATIENCE;
    let mut is_told = false;
    while !command::take_guest_place(&mut connection).await? {
        if Instant::now() >= until {
            bail!(
                "another command has been reading Airtable for {} minutes: try again when it is done",
                PATIENCE.as_secs() / 60
            );
        }
        if !is_told {
            info!("another command is reading Airtable: waits for its end");
            is_told = true;
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(connection)
}

async fn ask(pool: &PgPool) -> anyhow::Result<AbortOnDropHandle<()>> {
    command::ask_for_room(pool).await?;
    sleep(HEARD_AFTER).await;
    let pool = pool.clone();
    let renew = async move {
        loop {
            sleep(ROOM_LASTS / 3).await;
            if let Err(error) = command::ask_for_room(&pool).await {
                debug!(%error, "could not ask for room again");
            }
        }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(renew)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        capture::{
            airtable::{BaseSettings, preflight},
            console,
        },
        demo::{cache::postgres_bin, cluster::Cluster},
        mapping,
        postgres::TlsMode,
        pulse::Pulse,
        queue::queue,
        remote::airtable::Client,
        sandbox::{MIRROR_TOKEN, NETWORK_BASE, Options, Sandbox},
        store::{self, Candidate, Canonical, lease, reading},
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn guest_commands_beside_a_busy_plait_cost_it_no_refusal() {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database guest").await.unwrap();
        let config = cluster.config("guest", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&canonical).await.unwrap();
        let pool = reading::pool(&canonical, Some(cluster.password())).await.unwrap();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let client = |is_guest| {
            let client = Client::new(sandbox.url(), MIRROR_TOKEN).unwrap();
            Arc::new(if is_guest { client.for_guest() } else { client })
        };

        // Alone: nobody is asked.
        assert!(!Guest::enter(&pool).await.unwrap().is_beside_a_run());

        // A plait that runs, and asks for all that it may.
        let candidate = Candidate::new(None);
        let _writer = lease::take(&canonical, &candidate).await.unwrap();
        let (stop, running) = (CancellationToken::new(), client(false));
        let (deliveries, _received) = queue(10);
        let console = tokio::spawn(console::run(
            pool.clone(),
            deliveries,
            Vec::new(),
            Some(Arc::clone(&running)),
            Pulse::new(),
            stop.clone(),
        ));
        let busy: Vec<_> = (0..6)
            .map(|_| {
                let (client, stop) = (Arc::clone(&running), stop.clone());
                tokio::spawn(async move {
                    while !stop.is_cancelled() {
                        client.tables(NETWORK_BASE).await.unwrap();
                    }
                })
            })
            .collect();

        // Two commands at once: the second one waits for the first one's end.
        let first = Guest::enter(&pool).await.unwrap();
        assert!(first.is_beside_a_run());
        let mapping = mapping::read(include_str!("../../mapping.toml"), "mapping.toml").unwrap();
        let base = BaseSettings::new("reseau", NETWORK_BASE);
        let second = tokio::spawn({
            let (pool, mapping, base, client) =
                (pool.clone(), mapping.clone(), base.clone(), client(true));
            async move {
                let _guest = Guest::enter(&pool).await.unwrap();
                preflight(&client, &base, &mapping, None).await
            }
        });
        let findings = preflight(&client(true), &base, &mapping, None).await;
        assert!(findings.len() > 4, "{findings:?}");
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap().len(), findings.len());
        assert_eq!(sandbox.stats()["refused_by_rate_count"], 0, "{}", sandbox.stats());

        stop.cancel();
        for busy in busy {
            busy.await.unwrap();
        }
        console.await.unwrap();
        pool.close().await;
        sandbox.stop().await.unwrap();
        cluster.remove().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn guest_notification_of_somebody_else_takes_nothing_from_the_allowance() {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database guest").await.unwrap();
        let config = cluster.config("guest", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&canonical).await.unwrap();
        let pool = reading::pool(&canonical, Some(cluster.password())).await.unwrap();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let client = Arc::new(Client::new(sandbox.url(), MIRROR_TOKEN).unwrap());
        // From then on it has an allowance for the base.
        client.tables(NETWORK_BASE).await.unwrap();
        let (stop, nudge) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (deliveries, _received) = queue(10);
        let console = tokio::spawn(console::run(
            pool.clone(),
            deliveries,
            vec![Arc::clone(&nudge)],
            Some(Arc::clone(&client)),
            Pulse::new(),
            stop.clone(),
        ));
        let heard = async || {
            let heard = tokio::time::timeout(Duration::from_mins(1), async {
                // Whoever listens since a moment ago has not heard what came before.
                loop {
                    let wake = "select pg_notify('plait_command', '')";
                    cluster.sql("guest", wake).await.unwrap();
                    if tokio::time::timeout(LOOK_EVERY, nudge.notified()).await.is_ok() {
                        break;
                    }
                }
            });
            heard.await.expect("a notification wakes the pushes");
        };
        heard().await;

        // A reader may wake a plait that runs, and have it do nothing else.
        cluster.sql("guest", "create role eve login").await.unwrap();
        let eve = "set role eve; select pg_notify('plait_command', 'guest')";
        for _ in 0..20 {
            cluster.sql("guest", eve).await.unwrap();
        }
        heard().await;
        assert!(!client.leaves_room());
        for sql in
            ["select from mirror.guest", "insert into mirror.guest (asked_at) values (now())"]
        {
            assert!(cluster.sql("guest", &format!("set role eve; {sql}")).await.is_err(), "{sql}");
        }
        // One of our own commands is heard, and what it asked for long ago is over.
        command::ask_for_room(&pool).await.unwrap();
        heard().await;
        assert!(client.leaves_room());
        cluster
            .sql("guest", "update mirror.guest set asked_at = now() - interval '1 hour'")
            .await
            .unwrap();
        cluster.sql("guest", eve).await.unwrap();
        heard().await;
        assert!(!client.leaves_room());

        stop.cancel();
        console.await.unwrap();
        pool.close().await;
        sandbox.stop().await.unwrap();
        cluster.remove().await.unwrap();
    }
}
