//! Airtable's payloads → observations. In: a base, the mapping, where we stopped. Out: deliveries in the
//! order of the payloads, each with the cursor behind it; full listings at the first start and whenever the
//! payloads have a hole, through the same channel. What becomes of them, [`crate::apply`] decides.

mod error;
mod guard;
mod interval;
mod listing;
mod look;
mod payload;
mod ping;
mod preflight;
#[cfg(test)]
mod sandbox_tests;
mod schema;
mod secret;
mod session;
#[cfg(test)]
mod tests;
mod webhook;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    capture::{CaptureStatus, KnownKeys, Lineage, OtherChoices},
    mapping::Mapping,
    model::{Cursor, Notice},
    queue::Outlet,
    remote::airtable::Client,
};

pub(crate) use error::Error;
pub(crate) use guard::GuardedListener;
pub(crate) use look::Look;
pub(crate) use ping::{PingKey, PingTarget, router};
pub(crate) use preflight::{moving, preflight};
pub(crate) use schema::Renamed;

use schema::{Plan, Resolved};
use session::Session;

/// What the settings say of one base.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BaseSettings {
    /// As the mapping calls it.
    pub(crate) name: String,
    /// `app…`
    pub(crate) id: String,
    /// Where Airtable reaches our ping receiver from outside: `https://…/airtable/NAME`. `None`: polling only.
    pub(crate) notification_url: Option<String>,
    /// Where the secret of the pings is kept; `None`: no pings are received here.
    pub(crate) ping_secret_file: Option<PathBuf>,
    /// Shortest and longest time between two polls.
    pub(crate) poll_min: Duration,
    pub(crate) poll_max: Duration,
    /// How often the webhook's health is looked at, apart from what the payloads tell.
    pub(crate) hook_check: Duration,
    /// How often everything is listed again, in case something was lost without a trace.
    pub(crate) relist_every: Duration,
    /// How often it is asked whether the values of renamed options may follow.
    pub(crate) ask_every: Duration,
    /// API calls that the plan allows in a month; `None`: any number.
    pub(crate) monthly_calls: Option<u64>,
}

impl BaseSettings {
    /// A base with the usual intervals, polled only.
    pub(crate) fn new(name: &str, id: &str) -> Self {
        Self {
            name: name.into(),
            id: id.into(),
            notification_url: None,
            ping_secret_file: None,
            poll_min: Duration::from_secs(1),
            poll_max: Duration::from_secs(30),
            hook_check: Duration::from_hours(1),
            relist_every: Duration::from_hours(24),
            ask_every: Duration::from_secs(10),
            monthly_calls: None,
        }
    }
}

/// What has to be known again at the next start, beside the position: published before the first delivery
/// that rests on it, stored with the next commit, and handed back in [`StoredCursor`]. No secret is in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `ach…`
    pub(crate) webhook: String,
    pub(crate) resolved: Resolved,
    /// The seat of the canonical database that had the webhook made: a copy of that database leaves it alone. None in
    /// what earlier versions stored.
    #[serde(default)]
    pub(crate) seat: Option<String>,
}

impl Identity {
    /// `None`: not ours, or of another version. The capture then begins anew.
    pub(crate) fn read(json: &serde_json::Value) -> Option<Self> {
        Self::deserialize(json).ok()
    }

    /// What of the base called `base` is read, and can be written.
    pub(crate) fn plan(&self, mapping: &Mapping, base: &str) -> Plan {
        Plan::new(mapping, base, &self.resolved)
    }

    /// The options that were renamed and whose values have not followed.
    pub(crate) fn renamed(&self) -> Vec<Renamed> {
        self.resolved.renamed()
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "webhook": self.webhook,
            "resolved": self.resolved,
            "seat": self.seat,
        })
    }
}

/// Where an earlier process stopped.
#[derive(Clone)]
pub(crate) struct StoredCursor {
    /// `None`: the first listing was not finished; it begins again, with the same webhook.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) identity: Identity,
}

/// What connects a capture to the others.
pub(crate) struct Links {
    pub(crate) client: Arc<Client>,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) stored: Option<StoredCursor>,
    pub(crate) deliveries: Outlet,
    pub(crate) known: Arc<dyn KnownKeys>,
    pub(crate) choices: Arc<dyn OtherChoices>,
    pub(crate) lineage: Arc<dyn Lineage>,
    /// A verified ping came, or somebody is impatient.
    pub(crate) wake: Arc<Notify>,
    pub(crate) status: watch::Sender<CaptureStatus>,
    /// [`Identity`] as JSON.
    pub(crate) identity: watch::Sender<Option<serde_json::Value>>,
    /// What pings are known by, as long as there is a secret: for the [`PingTarget`] of this base.
    pub(crate) ping_key: watch::Sender<Option<PingKey>>,
    pub(crate) incidents: mpsc::Sender<Notice>,
    pub(crate) stop: CancellationToken,
}

/// Captures one base until `links.stop`, whatever happens to it: what waiting cures is waited for, and what a person has
/// to see to (the token, a permission, a mapping that does not fit, no place for a webhook) suspends it until they have.
pub(crate) async fn run(base: BaseSettings, links: Links) {
    Session::new(base, links).run().await;
}

/// The pause after so many failures in a row. `retry_after`: what the failure asks for at least; `None`: a person has
/// to do something, and may take long.
pub(crate) fn pause(retry_after: Option<Duration>, failure_count: u32) -> Duration {
    match retry_after {
        Some(least) => least.max(session::backoff(failure_count, session::FAILURE_BACKOFF_MAX)),
        None => session::backoff(failure_count, session::SUSPENSION_BACKOFF_MAX),
    }
}
