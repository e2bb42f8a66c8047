//! Reports that are kept (`mirror.kept_report`), counted again after changes.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    pulse::Pulse,
    store::{self, kept},
};

/// How often it is looked whether something has changed; one query of two small tables.
const PERIOD: Duration = Duration::from_secs(2);
/// After counting, so many times as long as it took is left to others.
const REST: u32 = 20;

/// Keeps them until `stop`.
pub(super) async fn keep_current(pool: PgPool, pulse: Pulse, stop: CancellationToken) {
    let mut is_told = false;
    loop {
        let kept = tokio::select! {
            () = stop.cancelled() => return,
            kept = keep(&pool) => kept,
        };
        let rest = match kept {
            Ok(took) => {
                is_told = false;
                pulse.well();
                PERIOD.max(took * REST)
            }
            Err(error) => {
                pulse.failed(format!("the yearly statistics cannot be kept: {error}"));
                if !std::mem::replace(&mut is_told, true) {
                    warn!(%error, "could not keep the yearly statistics; they are counted by whoever reads them");
                }
                PERIOD * REST
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(rest) => {}
        }
    }
}

/// How long counting took, if anything had changed.
async fn keep(pool: &PgPool) -> Result<Duration, store::Error> {
    if kept::is_current(pool).await? {
        return Ok(Duration::ZERO);
    }
    let began = Instant::now();
    kept::keep(pool).await?;
    debug!(ms = began.elapsed().as_millis(), "counted the yearly statistics");
    Ok(began.elapsed())
}
