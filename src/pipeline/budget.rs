//! The client's count of calls ↔ `mirror.api_call`: what one process has used, the next one knows.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    pulse::Pulse,
    remote::airtable::{Calls, Client, Pace, this_month},
    store::{self, budget},
};

/// How often it is written down: a crash loses the calls of this time, a hundred at most.
const PERIOD: Duration = Duration::from_secs(20);

/// Writes down what was called until `stop`, and once more then.
pub(super) async fn keep_counting(
    pool: PgPool,
    client: Arc<Client>,
    bases: Vec<String>,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut is_known = false;
    let mut is_last = false;
    loop {
        if !is_known {
            match know(&pool, &client).await {
                Ok(()) => is_known = true,
                Err(error) => warn!(%error, "could not read how many calls were made"),
            }
        }
        let mut is_well = is_known;
        for base in &bases {
            is_well &= write_down(&pool, &client, base).await;
        }
        match budget::calls_by_day(&pool).await {
            Ok(by_day) => client.know_pace(Pace::of(&by_day, Utc::now())),
            Err(error) => {
                warn!(%error, "could not read how many calls the last days took");
                is_well = false;
            }
        }
        if is_well {
            pulse.well();
        } else {
            pulse.failed("the count of API calls cannot be written down: the log says why");
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => is_last = true,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// What was used of this month before this process, of bases that are not mapped any more too.
async fn know(pool: &PgPool, client: &Client) -> Result<(), store::Error> {
    let month = this_month();
    for (base, count) in budget::calls(pool, month).await? {
        client.know_calls(&base, Calls { month, count });
    }
    Ok(())
}

/// Writes down the calls to one base that are not yet. Whether all could be.
async fn write_down(pool: &PgPool, client: &Client, base: &str) -> bool {
    let mut is_well = true;
    for calls in client.take_uncounted(base) {
        match budget::add_calls(pool, base, calls.month, calls.count).await {
            Ok(count) => client.know_calls(base, Calls { count, ..calls }),
            Err(error) => {
                warn!(base, %error, "could not write down how many calls were made");
                client.recount_calls(base, calls);
                is_well = false;
            }
        }
    }
    is_well
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::{cache::postgres_bin, cluster::Cluster},
        postgres::TlsMode,
        sandbox::{MIRROR_TOKEN, NETWORK_BASE, Options, Sandbox},
        store::{Canonical, reading},
    };

    #[tokio::test]
    async fn budget_is_known_to_the_next_process_and_added_up_between_two() {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database budget").await.unwrap();
        let config = cluster.config("budget", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&canonical).await.unwrap();
        let pool = reading::pool(&canonical, Some(cluster.password())).await.unwrap();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        sandbox.configure(|config| config.limits = false);
        let client = || Arc::new(Client::new(sandbox.url(), MIRROR_TOKEN).unwrap());

        // Two processes at once: each comes to know of the other's calls.
        let (one, other) = (client(), client());
        for _ in 0..3 {
            one.tables(NETWORK_BASE).await.unwrap();
        }
        other.tables(NETWORK_BASE).await.unwrap();
        write_down(&pool, &one, NETWORK_BASE).await;
        write_down(&pool, &other, NETWORK_BASE).await;
        assert_eq!(one.calls_this_month(NETWORK_BASE), 3);
        assert_eq!(other.calls_this_month(NETWORK_BASE), 4);
        write_down(&pool, &one, NETWORK_BASE).await;
        one.webhooks(NETWORK_BASE).await.unwrap();

        // At the stop the rest is written down, webhook upkeep included; the next process begins with it.
        let stop = CancellationToken::new();
        stop.cancel();
        keep_counting(pool.clone(), one, vec![NETWORK_BASE.into()], Pulse::new(), stop.clone())
            .await;
        let next = client();
        keep_counting(
            pool.clone(),
            Arc::clone(&next),
            vec![NETWORK_BASE.into()],
            Pulse::new(),
            stop,
        )
        .await;
        assert_eq!(next.calls_this_month(NETWORK_BASE), 5);
        assert_eq!(next.calls_of_all_bases(), 5);
        let stored = budget::calls(&pool, this_month()).await.unwrap();
        assert_eq!(stored, [(NETWORK_BASE.to_owned(), 5)]);
        // The days' count goes with it; a night may have begun meanwhile.
        let by_day = budget::calls_by_day(&pool).await.unwrap();
        assert_eq!(by_day.iter().map(|(_, count)| count).sum::<u64>(), 5);

        // The database is away: nothing is forgotten meanwhile.
        cluster.sql("budget", "alter table mirror.api_call rename to away").await.unwrap();
        next.tables(NETWORK_BASE).await.unwrap();
        write_down(&pool, &next, NETWORK_BASE).await;
        assert_eq!(next.calls_this_month(NETWORK_BASE), 6);
        cluster.sql("budget", "alter table mirror.away rename to api_call").await.unwrap();
        write_down(&pool, &next, NETWORK_BASE).await;
        assert_eq!(
            budget::calls(&pool, this_month()).await.unwrap(),
            [(NETWORK_BASE.to_owned(), 6)]
        );
        pool.close().await;
        sandbox.stop().await.unwrap();
        cluster.remove().await.unwrap();
    }
}
