//! What people decide → deliveries, as one more log. In: rows of `mirror.command`, in order. Out:
//! [`Delivery::Decided`]s; whether one was carried out already, `apply` knows. A notification makes it sooner, the
//! tick makes it certain.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    model::{Decision, Delivery},
    pulse::Pulse,
    queue::Outlet,
    remote::airtable::{Client, ROOM_LASTS},
    store::{
        self,
        command::{self, OpenCommand},
    },
};

/// How often commands are looked for without a notification.
const PAUSE: Duration = Duration::from_secs(2);
/// A command that was handed over and is still not done then goes again: what it became a part of was abandoned.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// First and longest pause after failures.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Hands commands over until `stop`; what fails is tried again. `wake`: the pushes, which a notification wakes as well; what a person has
/// cleared for them needs no decision. `airtable`: who makes room for a command that reads there.
pub(crate) async fn run(
    pool: PgPool,
    deliveries: Outlet,
    wake: Vec<Arc<Notify>>,
    airtable: Option<Arc<Client>>,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut console = Console { pool, deliveries, wake, airtable, pulse, handed: HashMap::new() };
    let mut failure_count = 0_u32;
    while !stop.is_cancelled() {
        let failure = match console.listen(&stop, &mut failure_count).await {
            Ok(()) => return,
            Err(failure) => failure,
        };
        failure_count += 1;
        let pause = (AGAIN_MIN * 2_u32.saturating_pow(failure_count.min(8))).min(AGAIN_MAX);
        let failure = format!("{:#}", anyhow::Error::from(failure));
        warn!(failure_count, error = failure, "could not look for decisions");
        console.pulse.failed(failure);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

struct Console {
    pool: PgPool,
    deliveries: Outlet,
    wake: Vec<Arc<Notify>>,
    airtable: Option<Arc<Client>>,
    pulse: Pulse,
    /// When each open command was handed over.
    handed: HashMap<i64, Instant>,
}

impl Console {
    /// Ends well with `stop`, or when nobody takes deliveries any more.
    async fn listen(
        &mut self,
        stop: &CancellationToken,
        failure_count: &mut u32,
    ) -> Result<(), store::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(command::CHANNEL).await?;
        loop {
            let open = command::open_commands(&self.pool).await?;
            self.handed.retain(|id, _| open.iter().any(|command| command.command_id == *id));
            for command in open {
                let id = command.command_id;
                if self.handed.get(&id).is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
                    continue;
                }
                let Some(delivery) = read(&self.pool, command).await? else { continue };
                debug!(command = id, "handed a command over");
                if self.deliveries.send(delivery).await.is_err() {
                    return Ok(());
                }
                self.handed.insert(id, Instant::now());
            }
            self.pulse.well();
            *failure_count = 0;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                heard = listener.recv() => match (heard?.payload(), &self.airtable) {
                    (command::GUEST, Some(client)) => {
                        // Anybody may have sent it: it only makes us look.
                        if let Some(ago) = command::asked_for_room(&self.pool).await? {
                            client.make_room(ROOM_LASTS.saturating_sub(ago));
                        }
                    }
                    _ => self.wake.iter().for_each(|nudge| nudge.notify_one()),
                },
                () = sleep(PAUSE) => {}
            }
        }
    }
}

/// All that is to be carried out now, in order.
pub(crate) async fn open(pool: &PgPool) -> Result<Vec<Delivery>, store::Error> {
    let mut deliveries = Vec::new();
    for command in command::open_commands(pool).await? {
        deliveries.extend(read(pool, command).await?);
    }
    Ok(deliveries)
}

/// A command as a delivery; one that cannot be read is answered at once.
async fn read(pool: &PgPool, command: OpenCommand) -> Result<Option<Delivery>, store::Error> {
    let OpenCommand { command_id, author, made_at, body } = command;
    match serde_json::from_value::<Vec<Decision>>(body) {
        Ok(decisions) => {
            let at = made_at.timestamp_micros();
            Ok(Some(Delivery::Decided { command: command_id, at, author, decisions }))
        }
        Err(error) => {
            warn!(command = command_id, "refused a command that cannot be read");
            let reason = format!(
                "the command cannot be read ({error}): a newer plait may have put it; use that one"
            );
            command::refuse(pool, command_id, &reason).await?;
            Ok(None)
        }
    }
}
