//! What goes by itself while the mirror runs: incidents that are over, and our own writes that were settled long ago.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    pulse::Pulse,
    store::{self, incident, operation},
};

/// Between two looks at what is open.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two looks for settled writes.
const SETTLED_PERIOD: Duration = Duration::from_mins(10);
/// Settled writes that go in one statement: few enough that nobody waits for it.
const OPERATION_COUNT_MAX: i64 = 10_000;

/// Tidies until `stop`.
pub(super) async fn keep_tidy(pool: PgPool, pulse: Pulse, stop: CancellationToken) {
    let mut dropped_at = None;
    loop {
        let is_due = dropped_at.is_none_or(|at: Instant| at.elapsed() >= SETTLED_PERIOD);
        let tidied = tokio::select! {
            () = stop.cancelled() => return,
            tidied = tidy(&pool, is_due) => tidied,
        };
        match tidied {
            Ok(()) => {
                pulse.well();
                if is_due {
                    dropped_at = Some(Instant::now());
                }
            }
            Err(error) => {
                warn!(%error, "could not tidy the mirror's own tables");
                pulse.failed(error.to_string());
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(PERIOD) => {}
        }
    }
}

async fn tidy(pool: &PgPool, drops_settled: bool) -> Result<(), store::Error> {
    incident::look(pool).await?;
    if !drops_settled {
        return Ok(());
    }
    loop {
        let operation_count = operation::drop_settled(pool, OPERATION_COUNT_MAX).await?;
        if operation_count == 0 {
            return Ok(());
        }
        debug!(operation_count, "dropped settled writes");
    }
}
