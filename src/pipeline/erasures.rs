//! Erasures that the sides have not taken yet: as soon as they have, what was under way meanwhile is redacted too.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    person::redact,
    store::{self, person},
};

/// How often it is looked whether one is over; one query by an index while there is none.
const PERIOD: Duration = Duration::from_secs(2);

/// Finishes erasures until `stop`.
pub(super) async fn keep_finishing(pool: PgPool, stop: CancellationToken) {
    loop {
        if let Err(error) = finish(&pool).await {
            warn!(%error, "could not finish an erasure");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn finish(pool: &PgPool) -> Result<(), store::Error> {
    for erasure in person::unfinished(pool).await? {
        if redact::finish(pool, &erasure).await? {
            info!(record_id = %erasure.record_id, "an erasure is complete on both sides");
        }
    }
    Ok(())
}
