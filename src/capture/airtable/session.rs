//! The loop of one base: look the schema up, keep the webhook, list what has to be listed, then poll.

mod schema_change;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    capture::{CaptureStatus, FIRST_PASS, LAST_PASS, Reread, State},
    model::{Cursor, Delivery, EntityNo, Incident, Notice, Position, Rewound, Side, Stamp},
    remote::airtable::{Error as RemoteError, NewWebhook, PayloadPage, month_spans},
};

use super::{
    BaseSettings, Error, Identity, Links,
    interval::{Pace, Quota, interval},
    listing::{Inside, Listing, note, observed},
    pause,
    payload::{self, Payload},
    ping::PingKey,
    schema::{Plan, Renamed, Resolved, resolve},
    secret,
    webhook::{self, Found},
};

/// Payloads that are held in memory behind a listing before they are handed over.
const HELD_PAYLOAD_COUNT_MAX: usize = 10_000;
const HELD_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often the schema, or the webhook, may be found in order while a call says that it is not.
const DOUBT_COUNT_MAX: u32 = 3;
/// While pushes use the whole allowance, their echoes are read in pages that are full rather than soon: five writes a
/// second fill one page of payloads in ten seconds. A little more than that after a page that was not full, a little
/// less after one that was, and reading takes a fiftieth of the requests without falling behind.
const BULK_PAUSE: Duration = Duration::from_secs(12);
const BULK_PAUSE_BEHIND: Duration = Duration::from_secs(8);
/// A bulk is over when pushes had to wait for nothing for so long: between two lots of it they do not either.
const BULK_CALM: Duration = Duration::from_secs(1);
const BULK_LOOK_EVERY: Duration = Duration::from_millis(100);
const FAILURE_BACKOFF_MIN: Duration = Duration::from_millis(500);
pub(super) const FAILURE_BACKOFF_MAX: Duration = Duration::from_mins(1);
/// While a person has to see to something: they find it tried again within this time.
pub(super) const SUSPENSION_BACKOFF_MAX: Duration = Duration::from_mins(5);
/// From the beginning of a poll to the next one that a ping asks for.
const PINGED_POLL_MIN: Duration = Duration::from_secs(1);
/// A schema that was looked up so long ago is looked up again before a listing, and when the webhook is looked at.
const SCHEMA_AGE_MAX: Duration = Duration::from_secs(10);
const MICROS_PER_MS: i64 = 1000;
/// Subjects of incidents.
const SCHEMA: &str = "schema";
const PING_SECRET: &str = "ping secret";

pub(super) struct Session {
    base: BaseSettings,
    links: Links,
    resolved: Option<Resolved>,
    /// `None`: the schema has to be looked up.
    plan: Option<Arc<Plan>>,
    hook: Option<Hook>,
    /// `None`: due.
    hook_checked_at: Option<Instant>,
    /// Number of the next payload to read.
    next: u64,
    /// Payloads below this number were made, as the webhook said when it was looked at.
    promised: u64,
    /// Entities that have to be listed before the payloads go on.
    to_list: BTreeSet<EntityNo>,
    /// When everything was listed, or this process began.
    listed_at: Instant,
    changed_at: Instant,
    doubt_count: u32,
    /// When the schema was looked up.
    looked_up_at: Option<Instant>,
    /// The payload before which the schema was looked up for an option that it did not know.
    looked_up_for: Option<u64>,
    /// When it was last asked whether the values of renamed options may follow.
    asked_at: Option<Instant>,
    /// The renamed options of which it was said that they wait; `None`: nothing was said yet.
    options_waiting: Option<Vec<Renamed>>,
    /// Texts of incidents that were raised: each is raised once.
    told: HashSet<String>,
    /// The records of filtered tables that are mirrored.
    inside: Inside,
    /// Keys in payloads that this version does not know, seen in this process.
    unknown: HashSet<String>,
    /// What a recovery wants to be read; `None`: nothing.
    reread: Option<Reread>,
    /// Canonical may have gone back, and nobody can say so now: the tables are listed before any payload is read.
    is_in_doubt: bool,
}

struct Hook {
    id: String,
    /// Whether this very canonical database had it made: what others have made is left alone.
    is_ours: bool,
    /// Whether its pings can be believed: the secret is at hand.
    has_secret: bool,
    /// Why it has to be replaced.
    death: Option<String>,
}

/// What was read in one call.
struct Read {
    payloads: Vec<Payload>,
    /// Number behind the last of `payloads`.
    next: u64,
    might_have_more: bool,
    event: Option<Event>,
}

/// What has to be seen to before reading on.
enum Event {
    /// Something is lost or unreadable: everything is listed.
    Hole(Incident),
    Schema,
    Death(String),
}

impl Session {
    pub(super) fn new(base: BaseSettings, links: Links) -> Self {
        let mut session = Self {
            base,
            resolved: None,
            plan: None,
            hook: None,
            hook_checked_at: None,
            next: 0,
            promised: 0,
            to_list: BTreeSet::new(),
            listed_at: Instant::now(),
            changed_at: Instant::now(),
            doubt_count: 0,
            looked_up_at: None,
            looked_up_for: None,
            asked_at: None,
            options_waiting: None,
            told: HashSet::new(),
            inside: Inside::new(),
            unknown: HashSet::new(),
            reread: None,
            is_in_doubt: false,
            links,
        };
        if let Some(stored) = session.links.stored.take() {
            session.links.identity.send_replace(Some(stored.identity.to_json()));
            let Identity { webhook, resolved, seat } = stored.identity;
            let is_ours = seat.is_none_or(|seat| seat == session.links.lineage.installation().seat);
            let kept =
                session.base.ping_secret_file.as_deref().map(|it| secret::read(it, &webhook));
            let has_secret = matches!(kept, Some(Ok(_)));
            let key = kept.and_then(Result::ok);
            let key = key.map(|secret| PingKey { webhook: webhook.clone(), secret });
            session.links.ping_key.send_replace(key);
            let cursor = stored.cursor.filter(|it| it.webhook == webhook);
            session.next = cursor.map_or(0, |cursor| cursor.next);
            let death = (!is_ours).then(|| {
                String::from("it was made for another copy of this canonical database, which may still read it")
            });
            session.hook = Some(Hook { id: webhook, is_ours, has_secret, death });
            session.resolved = Some(resolved);
        }
        session
    }

    pub(super) async fn run(mut self) {
        let lineage = Arc::clone(&self.links.lineage);
        // Payloads that a canonical database which went back has not applied would be replayed onto records that have
        // their ids already.
        let is_known = tokio::select! {
            () = self.links.stop.cancelled() => return,
            is_known = lineage.until_canonical_is_known() => is_known.unwrap_or_else(|error| {
                warn!(base = self.base.name, %error, "nobody knows whether canonical went back");
                false
            }),
        };
        self.is_in_doubt = !is_known;
        let mut has_looked = false;
        let mut failure_count = 0;
        loop {
            let began = Instant::now();
            let advanced = if has_looked {
                self.advance().await
            } else {
                let looked = self.look_for_reread().await;
                has_looked = looked.is_ok();
                looked.map(|()| true)
            };
            let pause = match advanced {
                Ok(true) => {
                    failure_count = 0;
                    if self.links.stop.is_cancelled() {
                        break;
                    }
                    if self.plan.is_some() && self.to_list.is_empty() {
                        self.let_bulk_pass(BULK_PAUSE_BEHIND).await;
                    }
                    continue;
                }
                Ok(false) => {
                    failure_count = 0;
                    self.set_state(State::Streaming);
                    self.let_bulk_pass(BULK_PAUSE).await;
                    interval(&self.pace(), self.changed_at.elapsed())
                }
                Err(Error::Stopped | Error::Closed) => break,
                Err(error) => {
                    failure_count += 1;
                    let reason = Causes(&error).to_string();
                    warn!(base = self.base.name, failure_count, error = %reason, "could not go on");
                    let retry_after = self.cure(&error);
                    self.set_state(match retry_after {
                        Some(_) => State::Waiting { reason },
                        None => State::Suspended { reason },
                    });
                    pause(retry_after, failure_count)
                }
            };
            tokio::select! {
                () = self.links.stop.cancelled() => break,
                () = self.links.wake.notified(), if failure_count == 0 => {
                    // Whatever arrives there: what is pinged meanwhile is read by the poll that follows.
                    tokio::select! {
                        () = self.links.stop.cancelled() => break,
                        () = sleep_until(began + PINGED_POLL_MIN) => {}
                    }
                }
                () = sleep(pause) => {}
            }
        }
        self.set_state(State::Stopped);
    }

    /// Waits while pushes need every request, but not for long. Pings are put off with it: most are for these pushes.
    async fn let_bulk_pass(&self, pause: Duration) {
        let began = Instant::now();
        let mut full_at = None;
        while began.elapsed() < pause {
            if self.links.client.is_full_of_pushes(&self.base.id) {
                full_at = Some(Instant::now());
            }
            if full_at.is_none_or(|at| at.elapsed() >= BULK_CALM) {
                return;
            }
            tokio::select! {
                () = self.links.stop.cancelled() => return,
                () = sleep(BULK_LOOK_EVERY) => {}
            }
        }
    }

    /// One step; whether there is more to do at once.
    async fn advance(&mut self) -> Result<bool, Error> {
        let is_check_due = |at: Instant| at.elapsed() >= self.base.hook_check;
        let is_hook_due = self.hook_checked_at.is_none_or(is_check_due);
        let is_list_due = self.listed_at.elapsed() >= self.base.relist_every;
        // A listing shows options by their names alone, and a new name for one may make no payload.
        if (is_hook_due || is_list_due || !self.to_list.is_empty())
            && self.looked_up_at.is_some_and(|at| at.elapsed() >= SCHEMA_AGE_MAX)
        {
            self.plan = None;
        }
        let mut plan = match &self.plan {
            Some(plan) => Arc::clone(plan),
            None => self.look_up().await?,
        };
        if self.let_options_follow().await
            && let Some(after) = &self.plan
        {
            plan = Arc::clone(after);
        }
        if is_hook_due {
            self.keep_hook(&plan).await?;
        }
        if self.is_in_doubt {
            self.skip_payloads();
            self.list_all();
            self.is_in_doubt = false;
        }
        if let Some(reread) = self.reread {
            return self.read_again(&plan, reread).await;
        }
        if is_list_due {
            self.list_all();
        }
        let more = if self.to_list.is_empty() {
            self.poll(&plan).await?
        } else {
            self.list(&plan).await?
        };
        self.doubt_count = 0;
        Ok(more)
    }

    /// Lets `work` go on unless a stop comes; only for work that may be dropped at any point.
    async fn unless_stopped<T, E: Into<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.links.stop.cancelled() => Err(Error::Stopped),
            result = work => result.map_err(Into::into),
        }
    }

    // ---- schema --------------------------------------------------------------------------------------

    async fn look_up(&mut self) -> Result<Arc<Plan>, Error> {
        let tables = match self.unless_stopped(self.links.client.tables(&self.base.id)).await {
            Err(Error::Airtable(
                source @ (RemoteError::NotFound { .. } | RemoteError::Forbidden { .. }),
            )) => {
                let (base, id) = (self.base.name.clone(), self.base.id.clone());
                return Err(Error::Base { base, id, source: Box::new(source) });
            }
            tables => tables?,
        };
        let mapping = Arc::clone(&self.links.mapping);
        let resolution = resolve(&mapping, &self.base.name, &tables, self.resolved.as_ref());
        if resolution.problems.iter().any(|problem| problem.is_fatal) {
            let problems = resolution.problems.into_iter().filter(|it| it.is_fatal).collect();
            return Err(Error::Mapping { base: self.base.name.clone(), problems });
        }
        // The last problem of a code is the one that is shown.
        let troubles: Vec<Incident> = resolution
            .problems
            .iter()
            .map(|it| Incident::new(it.code, format!("{}; {}", it.what, it.remedy)))
            .collect();
        self.raise(Notice::looked(SCHEMA, troubles)).await;
        for note in resolution.notes {
            self.tell("renamed", note).await;
        }
        let plan = Arc::new(Plan::new(&mapping, &self.base.name, &resolution.resolved));
        let before = self
            .resolved
            .as_ref()
            .map_or_else(Plan::default, |resolved| Plan::new(&mapping, &self.base.name, resolved));
        let gained = plan.gained_since(&before);
        self.to_list.extend(gained.into_iter().map(|at| plan.tables[at].entity));
        self.to_list.extend(resolution.relabelled);
        // A process before this one may have stopped before it had read them.
        let follow = resolution.resolved.renamed().into_iter().filter(|it| it.follows);
        self.to_list.extend(follow.filter_map(|it| mapping.entity_no(&it.entity)));
        self.looked_up_at = Some(Instant::now());
        self.asked_at = None;
        self.to_list.retain(|entity| plan.tables.iter().any(|table| table.entity == *entity));
        self.resolved = Some(resolution.resolved);
        self.plan = Some(Arc::clone(&plan));
        self.publish();
        Ok(plan)
    }

    fn list_all(&mut self) {
        if let Some(plan) = &self.plan {
            self.to_list.extend(plan.tables.iter().map(|table| table.entity));
        }
    }

    /// Publishes the identity as it now is; before anything is delivered that rests on it.
    fn publish(&self) {
        if let (Some(hook), Some(resolved)) = (&self.hook, &self.resolved) {
            let seat =
                Some(self.links.lineage.installation().seat.clone()).filter(|_| hook.is_ours);
            let (webhook, resolved) = (hook.id.clone(), resolved.clone());
            let identity = Identity { webhook, resolved, seat };
            self.links.identity.send_replace(Some(identity.to_json()));
        }
    }

    // ---- webhook -------------------------------------------------------------------------------------

    async fn keep_hook(&mut self, plan: &Plan) -> Result<(), Error> {
        let client = Arc::clone(&self.links.client);
        if let Some(hook) = &self.hook {
            let found = match &hook.death {
                Some(reason) => Found::Dead { reason: reason.clone(), is_listed: true },
                None => {
                    self.unless_stopped(webhook::check(&client, &self.base, plan, &hook.id)).await?
                }
            };
            match found {
                Found::Alive { next } => {
                    self.compare_place(next).await;
                    self.hook_checked_at = Some(Instant::now());
                    return Ok(());
                }
                Found::Dead { reason, is_listed } => {
                    let (id, is_ours) = (hook.id.clone(), hook.is_ours);
                    let text = format!(
                        "the webhook `{id}` of the base `{}` had to be replaced: {reason}; the tables are \
                         read again, edits that were overwritten in between may be missing in the journal",
                        self.base.name
                    );
                    self.tell("webhook_replaced", text).await;
                    if is_listed && is_ours {
                        webhook::delete(&client, &self.base, &id).await;
                    }
                    self.hook = None;
                    self.links.ping_key.send_replace(None);
                }
            }
        }
        if self.links.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        // Not given up half-way by a stop: the call has a limit of its own.
        let made = webhook::create(&client, &self.base, plan).await?;
        self.keep_secret(&made).await;
        let has_secret = self.base.ping_secret_file.is_some();
        self.hook = Some(Hook { id: made.id, is_ours: true, has_secret, death: None });
        self.next = 1;
        self.promised = 0;
        self.hook_checked_at = Some(Instant::now());
        self.list_all();
        self.publish();
        Ok(())
    }

    /// Keeps the secret of a new webhook where pings are received; elsewhere nobody has a use for it.
    async fn keep_secret(&mut self, made: &NewWebhook) {
        let Some(file) = self.base.ping_secret_file.clone() else { return };
        let key = PingKey { webhook: made.id.clone(), secret: made.mac_secret_base64.clone() };
        self.links.ping_key.send_replace(Some(key));
        if let Err(error) = secret::write(&file, &made.id, &made.mac_secret_base64) {
            let text = format!(
                "the secret of the pings of the base `{}` could not be written to {}: {error}; pings are \
                 received until plait stops, and at its next start the webhook is made anew and the tables are \
                 read again: name a folder that plait may write in by `ping_secret_folder` in [airtable]",
                self.base.name,
                file.display()
            );
            self.raise(Notice::found(PING_SECRET, "ping_secret_unwritable", text)).await;
        } else {
            self.raise(Notice::well(PING_SECRET)).await;
        }
    }

    /// Once all is read that the webhook has told: one whose secret is lost gives way to a new one, since Airtable
    /// tells a secret only once. Before that it is needed: what it told may be nowhere else.
    fn replace_if_mute(&mut self) -> bool {
        let Some(file) = &self.base.ping_secret_file else { return false };
        let Some(hook) = self.hook.as_mut().filter(|it| !it.has_secret && it.death.is_none())
        else {
            return false;
        };
        let why = secret::read(file, &hook.id).err().unwrap_or_default();
        hook.death = Some(format!("the secret that signs its pings is lost ({why})"));
        self.hook_checked_at = None;
        true
    }

    /// Holds our place against the webhook's own count.
    async fn compare_place(&mut self, next: Option<u64>) {
        self.promised = next.unwrap_or_default();
        if self.next == 0 {
            // The first listing was cut off: it begins at what is recorded from now on.
            self.next = next.unwrap_or(1);
            self.list_all();
            return;
        }
        if let Some(next) = next.filter(|next| self.next > *next) {
            let text = format!(
                "the stored place in the base `{}` is ahead of Airtable's; the tables are read again",
                self.base.name
            );
            self.tell("cursor_ahead", text).await;
            self.next = next;
            self.list_all();
        }
    }

    // ---- listing -------------------------------------------------------------------------------------

    async fn list(&mut self, plan: &Arc<Plan>) -> Result<bool, Error> {
        // Noted before the listing: what happens meanwhile is read from the payloads behind it.
        let from = self.next;
        let tables: Vec<_> = (0..plan.tables.len())
            .filter(|at| self.to_list.contains(&plan.tables[*at].entity))
            .collect();
        self.set_state(State::Copying { done: 0, total: None });
        self.expect_what_follows();
        info!(base = self.base.name, table_count = tables.len(), cursor = from, "listing");
        let links = &self.links;
        let listing = Listing {
            client: &links.client,
            base: &self.base.id,
            mapping: &links.mapping,
            plan,
            deliveries: &links.deliveries,
            known: links.known.as_ref(),
            inside: std::sync::Mutex::default(),
        };
        let progress = |done| self.set_state(State::Copying { done, total: None });
        self.unless_stopped(listing.run(&tables, progress)).await?;
        let inside = listing.into_inside();
        self.inside.extend(inside);
        self.send(Delivery::Progress { side: Side::Airtable, position: self.position(from) })
            .await?;
        let listed = std::mem::take(&mut self.to_list);
        self.end_following(&listed);
        let plan = &self.plan.clone().unwrap_or_else(|| Arc::clone(plan));
        if tables.len() == plan.tables.len() {
            self.listed_at = Instant::now();
        }

        self.read_behind_listing(plan).await
    }

    /// Reads the payloads that came while the tables were listed: of several about one cell the last, since the
    /// listing has shown what came of them.
    async fn read_behind_listing(&mut self, plan: &Plan) -> Result<bool, Error> {
        let (mut held, mut held_bytes) = (Vec::new(), 0);
        loop {
            let read = self.read(plan).await?;
            held_bytes += read.payloads.iter().map(Payload::held_bytes).sum::<usize>();
            held.extend(read.payloads);
            self.next = read.next;
            let is_full =
                held.len() >= HELD_PAYLOAD_COUNT_MAX || held_bytes >= HELD_PAYLOAD_BYTES_MAX;
            let is_done = !read.might_have_more || is_full;
            if is_done || read.event.is_some() {
                payload::keep_last(&mut held);
                self.deliver(held).await?;
                if let Some(event) = read.event {
                    self.handle(event).await;
                }
                return Ok(true);
            }
        }
    }

    // ---- recovery ------------------------------------------------------------------------------------

    fn log(&self) -> String {
        format!("{}:{}", Side::Airtable, self.base.id)
    }

    async fn look_for_reread(&mut self) -> Result<(), Error> {
        let log = self.log();
        self.reread = self.links.lineage.wanted(&log).await.map_err(Error::KnownKeys)?;
        Ok(())
    }

    /// Goes on behind all payloads that there are: a listing tells what they would.
    fn skip_payloads(&mut self) {
        self.next = self.next.max(self.promised);
    }

    /// Reads the whole base for a recovery, in the pass that is due.
    async fn read_again(&mut self, plan: &Arc<Plan>, reread: Reread) -> Result<bool, Error> {
        let (log, lineage) = (self.log(), Arc::clone(&self.links.lineage));
        let pass = if reread.has_first_pass { FIRST_PASS } else { LAST_PASS };
        if reread.has_first_pass {
            self.skip_payloads();
        } else if reread.rewound == Rewound::Canonical {
            self.set_state(State::Waiting { reason: "for Directus to be read whole".into() });
            let read = async {
                lineage.until_others_read(&log, LAST_PASS).await.map_err(Error::KnownKeys)
            };
            self.unless_stopped(read).await?;
        }
        let from = self.next;
        let tables: Vec<_> = (0..plan.tables.len()).collect();
        self.set_state(State::Copying { done: 0, total: None });
        lineage.begin(&log, reread.rewound, pass);
        let links = &self.links;
        let listing = Listing {
            client: &links.client,
            base: &self.base.id,
            mapping: &links.mapping,
            plan,
            deliveries: &links.deliveries,
            known: links.known.as_ref(),
            inside: std::sync::Mutex::default(),
        };
        let progress = |done| self.set_state(State::Copying { done, total: None });
        let read = async {
            listing.report_absent(&tables).await?;
            listing.read(&tables, progress).await.map(drop)
        };
        self.unless_stopped(read).await?;
        let inside = listing.into_inside();
        self.inside.extend(inside);
        let position = self.position(from);
        self.send(Delivery::Progress { side: Side::Airtable, position }).await?;
        self.send(Delivery::WholeRead { side: Side::Airtable, log, pass }).await?;
        let next = Reread { has_first_pass: false, ..reread };
        self.reread = reread.has_first_pass.then_some(next);
        self.to_list.clear();
        self.listed_at = Instant::now();
        if self.reread.is_some() {
            return Ok(true);
        }
        self.read_behind_listing(plan).await
    }

    // ---- payloads ------------------------------------------------------------------------------------

    async fn poll(&mut self, plan: &Plan) -> Result<bool, Error> {
        let read = self.read(plan).await?;
        let is_empty = read.payloads.is_empty();
        if !is_empty {
            self.changed_at = Instant::now();
        }
        self.deliver(read.payloads).await?;
        self.next = read.next;
        let has_event = read.event.is_some();
        if let Some(event) = read.event {
            self.handle(event).await;
        }
        if !read.might_have_more {
            self.links.status.send_modify(|status| status.lag_ms = Some(0));
        }
        let is_read = !read.might_have_more && !has_event;
        Ok(!is_read || self.replace_if_mute())
    }

    /// Reads a page from `self.next` on, up to the first payload that asks for something else first.
    async fn read(&mut self, plan: &Plan) -> Result<Read, Error> {
        let Some(hook) = self.hook.as_ref().map(|hook| hook.id.clone()) else {
            return Err(Error::HookGone { webhook: None });
        };
        let call = self.links.client.payloads(&self.base.id, &hook, self.next);
        let page = self.unless_stopped(call).await;
        let PayloadPage { payloads, cursor, might_have_more } = match page {
            Err(Error::Airtable(RemoteError::NotFound { .. } | RemoteError::Forbidden { .. }))
                if self.doubt_count < DOUBT_COUNT_MAX =>
            {
                return Err(Error::HookGone { webhook: Some(hook.clone()) });
            }
            Err(Error::Airtable(error @ RemoteError::TooLarge { .. })) => {
                let text = format!(
                    "the payload {}#{} cannot be held ({error}); the tables are read again",
                    hook, self.next
                );
                return Ok(Read {
                    payloads: Vec::new(),
                    next: self.next + 1,
                    might_have_more: true,
                    event: Some(Event::Hole(Incident::new("payload_unreadable", text))),
                });
            }
            page => page?,
        };
        let count = u64::try_from(payloads.len()).unwrap_or_default();
        let first = cursor - count.min(cursor);
        if first != self.next {
            return Ok(self.hole(first));
        }
        if count == 0 && self.promised > first {
            // All of them are gone, and an empty page gives our own number back.
            return Ok(self.hole(self.promised));
        }
        let mut read = Read { payloads: Vec::new(), next: cursor, might_have_more, event: None };
        let payloads = payload::read(payloads, first, &self.links.mapping, plan);
        let gone = self.fields_that_went(plan, &payloads, might_have_more).await?;
        for payload in payloads {
            let mut payload = match payload {
                Ok(payload) => payload,
                Err((number, problem)) => {
                    read.next = number + 1;
                    let text = format!(
                        "the payload {hook}#{number} cannot be read ({problem}); the tables are read again",
                    );
                    read.event = Some(Event::Hole(Incident::new("payload_unreadable", text)));
                    break;
                }
            };
            self.judge_rows(plan, &mut payload).await?;
            let number = payload.number;
            let news = std::mem::take(&mut payload.news);
            if news.has_new_option && self.looked_up_for != Some(number) {
                // Read once more, with the options as they are now.
                self.looked_up_for = Some(number);
                (read.next, read.might_have_more) = (number, true);
                read.event = Some(Event::Schema);
                break;
            }
            if !gone.is_empty() {
                payload::without_emptied(&mut payload, plan, &gone);
            }
            read.payloads.push(payload);
            let mut is_news = false;
            for key in &news.unknown {
                info!(cursor = number, key, "passed over something unknown in a payload");
                is_news |= self.unknown.insert(key.clone());
            }
            for (code, text) in news.notes {
                // Raised each time: the name may change back and again.
                self.raise(Notice::happened(code, text)).await;
            }
            let is_missed = news.has_created && self.is_missing_something();
            read.event = match news.death {
                Some(code) => Some(Event::Death(code)),
                None if news.is_about_plan || is_missed || !gone.is_empty() => Some(Event::Schema),
                // Once for each key: what comes in every payload from now on is no reason to list for ever.
                None if is_news => Some(Event::Hole(Incident::new(
                    "payload_unknown",
                    format!(
                        "a payload of the base `{}` has something that this version of plait does not know \
                         ({}); the tables are read again in case it told of a change, see whether there is \
                         a newer plait",
                        self.base.name,
                        news.unknown.join(", ")
                    ),
                ))),
                None => continue,
            };
            read.next = number + 1;
            read.might_have_more = true;
            break;
        }
        Ok(read)
    }

    /// Settles which of a payload's records of filtered tables are mirrored. One that may have come or gone is read
    /// whole: its payload tells what was changed, not all that it holds.
    async fn judge_rows(&mut self, plan: &Plan, payload: &mut Payload) -> Result<(), Error> {
        let mut kept = Vec::with_capacity(payload.observations.len());
        for mut observation in std::mem::take(&mut payload.observations) {
            let entity = observation.entity;
            let table = plan.tables.iter().find(|table| table.entity == entity);
            let Some(table) = table.filter(|table| table.is_filtered()) else {
                kept.push(observation);
                continue;
            };
            if !self.inside.contains_key(&entity) {
                // Whatever was handed over before this process began is applied.
                let known = self.links.known.keys(Side::Airtable, entity).await;
                let known = known.map_err(Error::KnownKeys)?;
                self.inside.insert(entity, known.into_iter().collect());
            }
            match payload.partial.get(&(entity, observation.key.clone())) {
                Some(true) => {
                    let client = Arc::clone(&self.links.client);
                    let (base, key) = (&self.base.id, &observation.key.0);
                    let read = client.get_record(base, &table.table, key);
                    // Gone by now: a later payload says so.
                    let Some(record) = self.unless_stopped(read).await? else { continue };
                    observation = observed(&self.links.mapping, table, &record);
                }
                Some(false) if !self.inside[&entity].contains(&observation.key) => continue,
                _ => {}
            }
            if let Some(inside) = self.inside.get_mut(&entity) {
                note(inside, &observation);
            }
            kept.push(observation);
        }
        payload.observations = kept;
        Ok(())
    }

    /// The page does not begin where we stopped: payloads are lost, or it is not the webhook it was.
    fn hole(&self, first: u64) -> Read {
        let text = if first > self.next {
            format!(
                "{} payloads of the base `{}` were deleted before they were read (Airtable keeps them for \
                 7 days); the tables are read again, edits that were overwritten in between are lost",
                first - self.next,
                self.base.name
            )
        } else {
            format!(
                "the payloads of the base `{}` are counted anew; the tables are read again",
                self.base.name
            )
        };
        Read {
            payloads: Vec::new(),
            next: first,
            might_have_more: true,
            event: Some(Event::Hole(Incident::new("payload_gap", text))),
        }
    }

    /// Whether something mapped is suspended, so that something new may be its return.
    fn is_missing_something(&self) -> bool {
        self.resolved.as_ref().is_some_and(|resolved| {
            resolved
                .tables
                .values()
                .any(|table| table.suspended || table.fields.values().any(|field| field.suspended))
        })
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Hole(incident) => {
                self.raise(Notice::happened(&incident.code, incident.text)).await;
                self.list_all();
            }
            Event::Schema => self.plan = None,
            Event::Death(code) => {
                // What killed it may be a field of ours.
                self.plan = None;
                self.hook_checked_at = None;
                if let Some(hook) = &mut self.hook {
                    hook.death = Some(format!("Airtable ended it with the code {code}"));
                }
            }
        }
    }

    /// Hands payloads over, each as a transaction; the cursor moves over those that say nothing.
    async fn deliver(&mut self, payloads: Vec<Payload>) -> Result<(), Error> {
        let mut is_behind = None;
        for payload in payloads {
            let position = self.position(payload.number + 1);
            let now = Utc::now().timestamp_micros();
            let at = payload.at.unwrap_or(now);
            self.links.status.send_modify(|status| {
                status.last_change_at = Some(at);
                status.lag_ms = u64::try_from((now - at) / MICROS_PER_MS).ok();
            });
            if payload.observations.is_empty() {
                is_behind = Some(position);
                continue;
            }
            is_behind = None;
            debug!(cursor = payload.number, record_count = payload.observations.len(), "read");
            let stamp = Stamp {
                side: Side::Airtable,
                at,
                position: Some(position),
                author: payload.author,
                operation: None,
            };
            let observations = payload.observations;
            self.send(Delivery::Transaction { stamp, observations }).await?;
        }
        if let Some(position) = is_behind {
            self.send(Delivery::Progress { side: Side::Airtable, position }).await?;
        }
        Ok(())
    }

    async fn send(&self, delivery: Delivery) -> Result<(), Error> {
        let position = match &delivery {
            Delivery::Transaction { stamp, .. } => stamp.position.clone(),
            Delivery::Part { .. }
            | Delivery::Abandoned { .. }
            | Delivery::Decided { .. }
            | Delivery::WholeRead { .. } => None,
            Delivery::Progress { position, .. } => Some(position.clone()),
        };
        let sent = async { self.links.deliveries.send(delivery).await.map_err(|_| Error::Closed) };
        self.unless_stopped(sent).await?;
        if position.is_some() {
            self.links.status.send_modify(|status| status.position = position);
        }
        Ok(())
    }

    fn position(&self, next: u64) -> Position {
        Position::Cursor(Cursor {
            base: self.base.id.clone(),
            webhook: self.hook.as_ref().map(|hook| hook.id.clone()).unwrap_or_default(),
            next,
        })
    }

    // ---- failures and telling ------------------------------------------------------------------------

    /// What to do about a failure: how long to wait, or `None` if a person has to see to it.
    fn cure(&mut self, error: &Error) -> Option<Duration> {
        match error {
            Error::HookGone { .. } => {
                self.doubt_count += 1;
                self.hook_checked_at = None;
            }
            // A field or table went away: the schema tells which.
            Error::Airtable(
                RemoteError::Refused { .. }
                | RemoteError::NotFound { .. }
                | RemoteError::Forbidden { .. },
            ) if self.plan.is_some() && self.doubt_count < DOUBT_COUNT_MAX => {
                self.doubt_count += 1;
                self.plan = None;
                return Some(Duration::ZERO);
            }
            _ => {}
        }
        let retry_after = error.retry_after();
        if retry_after.is_none() {
            // What a person does about it may change anything: the next try begins with the schema.
            self.plan = None;
            self.hook_checked_at = None;
        }
        retry_after
    }

    fn pace(&self) -> Pace {
        let (_, left) = month_spans(Utc::now());
        let (used, forecast) =
            (self.links.client.calls_of_all_bases(), self.links.client.forecast());
        let quota = self.base.monthly_calls.map(|calls| Quota { calls, used, forecast, left });
        Pace {
            min: self.base.poll_min,
            max: self.base.poll_max,
            is_pinged: self.base.notification_url.is_some(),
            quota,
        }
    }

    fn set_state(&self, state: State) {
        self.links.status.send_if_modified(|status: &mut CaptureStatus| {
            let is_new = status.state != state;
            status.state = state;
            is_new
        });
    }

    /// Raises an incident of something that happened, unless the same was raised before.
    async fn tell(&mut self, code: &'static str, text: String) {
        if self.told.insert(text.clone()) {
            self.raise(Notice::happened(code, text)).await;
        }
    }

    async fn raise(&self, notice: Notice) {
        for Incident { code, text } in &notice.found {
            warn!(base = self.base.name, code, "{text}");
        }
        // Without a receiver the log has it.
        drop(self.links.incidents.send(notice).await);
    }
}

/// Doubles up to `longest`; a random half less, so that several do not come back at once.
pub(super) fn backoff(failure_count: u32, longest: Duration) -> Duration {
    let whole = FAILURE_BACKOFF_MIN.saturating_mul(1 << failure_count.saturating_sub(1).min(16));
    whole.min(longest).mul_f64(rand::random_range(0.5..1.0))
}

/// An error and what caused it, on one line.
struct Causes<'a>(&'a Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
