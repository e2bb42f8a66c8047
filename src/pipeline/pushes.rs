//! The tasks that write to the sides: started beside `apply`, nudged by it, stopped before it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info_span};

use super::{
    AirtablePlan,
    lineage::Lineage,
    supervise::{Supervisor, Ward},
};
use crate::{
    apply::WayOut,
    model::{Notice, Side},
    push::{
        Drain, Pusher,
        airtable::{AirtablePush, Places},
        keep_draining,
    },
    remote::{
        self,
        airtable::{Client, Error},
    },
    store::Books,
};

/// Between two questions who we are on Airtable, while it does not answer.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long a drain under way may go on after the stop. What it does not come to is done at the next start.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Pushes to all sides that can be written to.
pub(super) struct Pushes {
    way_out: WayOut,
    lineage: Arc<Lineage>,
    tasks: Supervisor,
}

impl Pushes {
    pub(super) fn new(lineage: Arc<Lineage>, ward: Ward, stop: CancellationToken) -> Self {
        let mut way_out = WayOut::default();
        for side in Side::ALL {
            way_out.nudges.insert(side, Arc::default());
        }
        Self { way_out, lineage, tasks: Supervisor::new(ward, stop) }
    }

    /// Who is to be woken when a person has cleared something.
    pub(super) fn nudges(&self) -> Vec<Arc<Notify>> {
        self.way_out.nudges.values().cloned().collect()
    }

    /// What `apply` has to know.
    pub(super) fn way_out(&self) -> WayOut {
        self.way_out.clone()
    }

    /// Where the id of our own account on `side` is put once it is known.
    pub(super) fn own(&mut self, side: Side) -> Arc<OnceLock<String>> {
        Arc::clone(self.way_out.own.entry(side).or_default())
    }

    /// Begins to push to `side`.
    pub(super) fn start(&mut self, side: Side, books: Books, pusher: Arc<dyn Pusher>) {
        let (nudge, stop) = (self.nudge(side), self.tasks.stop());
        let lineage = Arc::clone(&self.lineage);
        let span = info_span!("push", task = "push", %side);
        self.tasks.keep(&format!("push {side}"), span, move |pulse| {
            let drain = Drain::new(side, books.clone(), Arc::clone(&pusher), pulse);
            let (nudge, stop) = (Arc::clone(&nudge), stop.clone());
            let gate = lineage.gate(side);
            async move {
                keep_draining(drain, gate, &nudge, &stop).await;
                Ok(())
            }
        });
    }

    /// Begins to push to Airtable, once it has said who we are there: `apply` has to know our own writes before there
    /// are any.
    pub(super) fn start_airtable(
        &mut self,
        plan: &AirtablePlan,
        places: Places,
        books: Books,
        notices: mpsc::Sender<(String, Notice)>,
    ) {
        let side = Side::Airtable;
        let client = Arc::clone(&plan.client);
        let own = self.own(side);
        let mapping = Arc::clone(books.mapping());
        let limit = plan.bases.iter().find_map(|base| base.monthly_calls);
        let pusher = AirtablePush::new(Arc::clone(&client), mapping, places, limit, notices);
        let pusher: Arc<dyn Pusher> = Arc::new(pusher);
        let (nudge, stop) = (self.nudge(side), self.tasks.stop());
        let lineage = Arc::clone(&self.lineage);
        let span = info_span!("push", task = "push", %side);
        self.tasks.keep(&format!("push {side}"), span, move |pulse| {
            let drain = Drain::new(side, books.clone(), Arc::clone(&pusher), pulse.clone());
            let (nudge, stop) = (Arc::clone(&nudge), stop.clone());
            let (client, own) = (Arc::clone(&client), Arc::clone(&own));
            let gate = lineage.gate(side);
            async move {
                while let Err(error) = ask(&client, &own).await {
                    // Its capture asks as well, and tells.
                    pulse.failed(error.chain());
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = sleep(ASK_EVERY) => {}
                    }
                }
                keep_draining(drain, gate, &nudge, &stop).await;
                Ok(())
            }
        });
    }

    fn nudge(&mut self, side: Side) -> Arc<Notify> {
        Arc::clone(self.way_out.nudges.entry(side).or_default())
    }

    /// Waits for the drains under way to end.
    pub(super) async fn end(self) {
        self.tasks.end(STOP_PATIENCE).await;
    }
}

/// Asks Directus until it says which account is Plait's own: that one is no member.
pub(super) async fn learn_own_account(
    client: Arc<remote::directus::Client>,
    own: Arc<OnceLock<String>>,
    stop: CancellationToken,
) {
    while own.get().is_none() {
        match client.me().await {
            Ok(me) => drop(own.set(me.id)),
            Err(error) => {
                debug!(error = %error.chain(), "directus does not say yet whose token ours is");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(ASK_EVERY) => {}
                }
            }
        }
    }
}

/// Asks who we are, unless it is known.
pub(super) async fn ask(client: &Client, own: &OnceLock<String>) -> Result<(), Error> {
    if own.get().is_none() {
        let user = client.own_user().await?;
        // Known already, if somebody else has asked meanwhile.
        drop(own.set(user.to_owned()));
    }
    Ok(())
}
