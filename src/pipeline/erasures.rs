//! Erasures that the sides have not taken yet: as soon as they have, what was under way meanwhile is redacted too.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    person::redact,
    pulse::Pulse,
    store::{self, person},
};

/// How often it is looked whether one is over; one query by an index while there is none.
const PERIOD: Duration = Duration::from_secs(2);

/// Finishes erasures until `stop`.
pub(super) async fn keep_finishing(pool: PgPool, pulse: Pulse, stop: CancellationToken) {
    loop {
        match finish(&pool).await {
            Ok(()) => pulse.well(),
            Err(error) => {
                warn!(%error, "could not finish an erasure");
                pulse.failed(format!("an erasure cannot be finished: {error}"));
            }
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
