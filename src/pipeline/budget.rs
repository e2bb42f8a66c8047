//! The client's count of calls ↔ `mirror.api_call`: what one process has used, the next one knows.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    remote::airtable::{Calls, Client, this_month},
    store::{self, budget},
};

/// How often it is written down: a crash loses the calls of this time, a hundred at most.
const PERIOD: Duration = Duration::from_secs(20);

/// Writes down what was called until `stop`, and once more then.
pub(super) async fn keep_counting(
    pool: PgPool,
    client: Arc<Client>,
    bases: Vec<String>,
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
        for base in &bases {
            write_down(&pool, &client, base).await;
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

/// Writes down the calls to one base that are not yet.
pub(super) async fn write_down(pool: &PgPool, client: &Client, base: &str) {
    for calls in client.take_uncounted(base) {
        match budget::add_calls(pool, base, calls.month, calls.count).await {
            Ok(count) => client.know_calls(base, Calls { count, ..calls }),
            Err(error) => {
                warn!(base, %error, "could not write down how many calls were made");
                client.recount_calls(base, calls);
            }
        }
    }
}
