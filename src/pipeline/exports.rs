//! Scheduled exports beside the mirror: they read, and nothing waits for them. One that fails or breaks off is told, and
//! stops no mirror.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, info_span};

use super::{
    Plan, STOP_PATIENCE,
    supervise::{Supervisor, Ward},
};
use crate::{
    export,
    store::{self, Canonical},
};

/// How often it is looked whether the first copies are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps all exports of `plan` until `stop`.
pub(super) async fn keep(plan: Plan, ward: Ward, stop: CancellationToken) {
    if plan.exports.is_empty() || !until_copied(&plan, &stop).await {
        return;
    }
    let mut tasks = Supervisor::new(ward, stop.clone());
    for export in plan.exports {
        let span = info_span!("export", task = "export", export = %export.name);
        let (canonical, stop) = (plan.canonical.clone(), stop.clone());
        tasks.keep(&format!("export {}", export.name), span, move |pulse| {
            let task =
                export::keep_exporting(canonical.clone(), export.clone(), pulse, stop.clone());
            async move {
                task.await;
                Ok(())
            }
        });
    }
    stop.cancelled().await;
    tasks.end(STOP_PATIENCE).await;
}

/// Waits until each side has been copied once: before, there is nothing to export. `false`: stopped before it was.
async fn until_copied(plan: &Plan, stop: &CancellationToken) -> bool {
    let is_mapped = |name: &str| {
        let mut tables = plan.mapping.entities.iter().filter_map(|entity| entity.airtable.as_ref());
        tables.any(|table| table.base == name)
    };
    let bases = plan.airtable.iter().flat_map(|airtable| &airtable.bases);
    let base_count = bases.filter(|base| is_mapped(&base.name)).count();
    let log_count = base_count + usize::from(plan.directus.is_some());
    let mut is_told = false;
    loop {
        match timeout(STOP_PATIENCE, copied_count(&plan.canonical)).await {
            Ok(Ok(count)) if usize::try_from(count).is_ok_and(|count| count >= log_count) => {
                return true;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "could not look whether there is something to export"),
            Err(_) => debug!("no answer whether there is something to export"),
        }
        if !std::mem::replace(&mut is_told, true) {
            info!("scheduled exports wait for the first copy of each side");
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn copied_count(canonical: &Canonical) -> Result<i64, store::Error> {
    let client = store::connect(canonical).await?;
    let copied = "select count(*) from mirror.position where position <> ''";
    Ok(client.query_one(copied, &[]).await?.get(0))
}
