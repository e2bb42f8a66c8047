//! The tasks that write to the sides: started beside `apply`, nudged by it, stopped before it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span, warn};

use super::{AirtablePlan, lineage::Lineage};
use crate::{
    apply::WayOut,
    model::{Notice, Side},
    push::{
        Drain, Pusher,
        airtable::{AirtablePush, Places},
        keep_draining,
    },
    remote::airtable::Client,
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
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Pushes {
    pub(super) fn new(lineage: Arc<Lineage>, stop: CancellationToken) -> Self {
        let mut way_out = WayOut::default();
        for side in Side::ALL {
            way_out.nudges.insert(side, Arc::default());
        }
        Self { way_out, lineage, stop, tasks: JoinSet::new() }
    }

    /// Who is to be woken when a person has cleared something.
    pub(super) fn nudges(&self) -> Vec<Arc<Notify>> {
        self.way_out.nudges.values().cloned().collect()
    }

    /// What `apply` has to know.
    pub(super) fn way_out(&self) -> WayOut {
        self.way_out.clone()
    }

    /// Begins to push to `side`.
    pub(super) fn start(&mut self, side: Side, books: Books, pusher: Arc<dyn Pusher>) {
        let nudge = self.nudge(side);
        let stop = self.stop.clone();
        let gate = self.lineage.gate(side);
        let drain = Drain::new(side, books, pusher);
        let task = async move { keep_draining(drain, gate, &nudge, &stop).await };
        self.tasks.spawn(task.instrument(info_span!("push", task = "push", %side)));
    }

    /// Begins to push to Airtable, once it has said who we are there: `apply` has to know our own writes before there
    /// are any.
    pub(super) async fn start_airtable(
        &mut self,
        plan: &AirtablePlan,
        places: Places,
        books: Books,
        notices: mpsc::Sender<(String, Notice)>,
    ) {
        let client = Arc::clone(&plan.client);
        let own = Arc::<OnceLock<String>>::default();
        self.way_out.own.insert(Side::Airtable, Arc::clone(&own));
        let is_known = ask(&client, &own).await;
        let mapping = Arc::clone(books.mapping());
        let limit = plan.bases.iter().find_map(|base| base.monthly_calls);
        let pusher = AirtablePush::new(Arc::clone(&client), mapping, places, limit, notices);
        if is_known {
            return self.start(Side::Airtable, books, Arc::new(pusher));
        }
        let (nudge, stop) = (self.nudge(Side::Airtable), self.stop.clone());
        let gate = self.lineage.gate(Side::Airtable);
        let drain = Drain::new(Side::Airtable, books, Arc::new(pusher));
        let task = async move {
            while !ask(&client, &own).await {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(ASK_EVERY) => {}
                }
            }
            keep_draining(drain, gate, &nudge, &stop).await;
        };
        self.tasks
            .spawn(task.instrument(info_span!("push", task = "push", side = %Side::Airtable)));
    }

    fn nudge(&mut self, side: Side) -> Arc<Notify> {
        Arc::clone(self.way_out.nudges.entry(side).or_default())
    }

    /// Waits for the drains under way to end.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            self.tasks.abort_all();
        }
    }
}

/// Asks who we are.
async fn ask(client: &Client, own: &OnceLock<String>) -> bool {
    match client.own_user().await {
        Ok(user) => {
            // Known already, if it was asked before.
            drop(own.set(user.to_owned()));
            true
        }
        Err(error) => {
            warn!(error = %error.chain(), "airtable does not say whose token ours is; nothing is pushed there before it does");
            false
        }
    }
}
