//! Airtable's Web API. In: calls by id. Out: decoded answers or a classified [`Error`]. One allowance of 5
//! requests a second for each base, shared by all who hold the [`Client`]; one of 50 for the token.

mod bucket;
mod count;
mod error;
mod meta;
mod record;
mod webhook;

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use tokio::{sync::OnceCell, time::Instant};
use tracing::{debug, warn};

use super::segment;
use crate::gate::Gate;
use bucket::{Allowance, Kind};
use count::Counter;

pub(crate) use bucket::Class;
pub(crate) use count::{Calls, Pace, forecast, month_spans, this_month};
pub(crate) use error::Error;
pub(crate) use meta::{Field, Table};
#[cfg(test)]
pub(crate) use record::NewRecord;
pub(crate) use record::{PAGE_RECORD_COUNT_MAX, Page, Record, RecordUpdate};
pub(crate) use webhook::{NewWebhook, PayloadPage, Webhook};

const REQUESTS_PER_SECOND_AND_BASE: usize = 5;
/// Of these, what a command takes while a plait runs, which leaves it to the command for as long as it is asked to.
const REQUESTS_PER_SECOND_OF_GUEST: usize = 2;
pub(crate) const ROOM_LASTS: Duration = Duration::from_secs(15);
const REQUESTS_PER_SECOND_AND_TOKEN: usize = 50;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of 100 records with long texts is a few MB. One that is larger than this is asked for in smaller pages.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const TRY_COUNT_MAX: u32 = 5;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(20);
const RETRY_AFTER_MAX: Duration = Duration::from_mins(2);
/// Spreads those who were refused together.
const PENALTY_JITTER_MS_MAX: u64 = 1000;

/// A caller of the API with one token. Cheap to share: `Arc<Client>`.
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
    token: HeaderValue,
    timeout: Duration,
    body_bytes_max: usize,
    /// Requests a second to one base.
    limit: usize,
    made_at: Instant,
    token_allowance: Allowance,
    bases: Mutex<HashMap<String, Arc<BaseAccount>>>,
    own_user: OnceCell<String>,
    /// Of the last days.
    pace: Mutex<Option<Pace>>,
    /// Asked before each write of a push.
    gate: OnceLock<Gate>,
}

/// What is kept of one base.
struct BaseAccount {
    allowance: Allowance,
    counter: Counter,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("the airtable token has characters that no token has; is it cut off or quoted?")]
    Token,
    #[error("could not set up the connection to airtable")]
    Http(#[source] reqwest::Error),
}

/// One request.
struct Call<'a> {
    method: Method,
    /// With the leading slash.
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<serde_json::Value>,
    base: Option<&'a str>,
    class: Class,
    kind: Kind,
}

impl<'a> Call<'a> {
    fn get(path: String, base: Option<&'a str>, kind: Kind) -> Self {
        let (query, body, class) = (Vec::new(), None, Class::Capture);
        Self { method: Method::GET, path, query, body, base, class, kind }
    }

    fn with_body(method: Method, path: String, base: &'a str, body: serde_json::Value) -> Self {
        let (query, body, class) = (Vec::new(), Some(body), Class::Capture);
        Self { method, path, query, body, base: Some(base), class, kind: Kind::Write }
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Reads may be sent again whatever became of them; so may the listing that is a POST.
    fn is_read(&self) -> bool {
        self.method == Method::GET || self.kind == Kind::List
    }
}

impl Client {
    /// `base_url`: `https://api.airtable.com` or a stand-in, without a slash at the end. The TLS provider of the process
    /// has to be installed before.
    ///
    /// # Errors
    /// The token cannot be a header, or TLS cannot be set up.
    pub(crate) fn new(base_url: &str, token: &str) -> Result<Self, SetupError> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| SetupError::Token)?;
        token.set_sensitive(true);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("plait/", env!("CARGO_PKG_VERSION")))
            // A redirect could carry the token elsewhere; the API never sends one.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SetupError::Http)?;
        Ok(Self {
            http,
            base_url: base_url.trim_end_matches('/').to_owned(),
            token,
            timeout: READ_TIMEOUT,
            body_bytes_max: BODY_BYTES_MAX,
            limit: REQUESTS_PER_SECOND_AND_BASE,
            made_at: Instant::now(),
            token_allowance: Allowance::new(REQUESTS_PER_SECOND_AND_TOKEN),
            bases: Mutex::default(),
            own_user: OnceCell::new(),
            pace: Mutex::default(),
            gate: OnceLock::new(),
        })
    }

    /// Pushes go through `gate` from now on; the first one stays.
    pub(crate) fn guard(&self, gate: &Gate) {
        self.gate.get_or_init(|| gate.clone());
    }

    /// How long a request may take, its connection included.
    pub(crate) fn request_max(&self) -> Duration {
        self.timeout
    }

    /// Beside a plait that runs, and leaves room.
    pub(crate) fn for_guest(mut self) -> Self {
        self.limit = REQUESTS_PER_SECOND_OF_GUEST;
        self
    }

    /// Leaves room for a guest, for so long.
    pub(crate) fn make_room(&self, lasting: Duration) {
        let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        for account in bases.values() {
            account.allowance.make_room(REQUESTS_PER_SECOND_OF_GUEST, lasting);
        }
    }

    /// Whether any base leaves room for a guest now.
    #[cfg(test)]
    pub(crate) fn leaves_room(&self) -> bool {
        let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        bases.values().any(|account| account.allowance.leaves_room())
    }

    /// With another limit for a whole answer than 30 s.
    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With another limit for an answer than 64 MiB.
    #[cfg(test)]
    pub(crate) fn with_body_bytes_max(mut self, body_bytes_max: usize) -> Self {
        self.body_bytes_max = body_bytes_max;
        self
    }

    /// The id (`usr…`) of the user whose token this is, asked once: what he does over the API is our own work.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn own_user(&self) -> Result<&str, Error> {
        let asked = async { Ok(self.whoami().await?.id) };
        Ok(self.own_user.get_or_try_init(|| asked).await?)
    }

    /// How long nothing is sent to `base` yet, because it refused a request for the rate.
    pub(crate) fn pause(&self, base: &str) -> Option<Duration> {
        self.account(base).allowance.pause()
    }

    /// Whether so much is being written to `base` that each read takes a write's place.
    pub(crate) fn is_full_of_pushes(&self, base: &str) -> bool {
        self.account(base).allowance.is_full_of_pushes()
    }

    /// Calls made to `base` in this calendar month (UTC), as far as this process and [`Self::know_calls`] know.
    #[cfg(test)]
    pub(crate) fn calls_this_month(&self, base: &str) -> u64 {
        self.account(base).counter.of_month(this_month())
    }

    /// Calls made to all bases in this calendar month (UTC), as far as this process and [`Self::know_calls`] know: the
    /// plan of their workspace counts them together.
    pub(crate) fn calls_of_all_bases(&self) -> u64 {
        let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        bases.values().map(|account| account.counter.of_month(this_month())).sum()
    }

    /// What this month will have cost by its end, all bases together.
    pub(crate) fn forecast(&self) -> u64 {
        let pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        forecast(self.calls_of_all_bases(), pace, Utc::now())
    }

    /// The pace of the last days, all processes together; `None`: not known yet.
    pub(crate) fn know_pace(&self, pace: Option<Pace>) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// The calls counted since the last time this was asked, by month; [`Self::know_calls`] or
    /// [`Self::recount_calls`] is to follow for each.
    pub(crate) fn take_uncounted(&self, base: &str) -> Vec<Calls> {
        self.account(base).counter.take()
    }

    /// They could not be written down: they are still to be counted.
    pub(crate) fn recount_calls(&self, base: &str, calls: Calls) {
        self.account(base).counter.put_back(calls);
    }

    /// What was written down of a month so far, other processes' calls included.
    pub(crate) fn know_calls(&self, base: &str, calls: Calls) {
        self.account(base).counter.know(calls);
    }

    fn account(&self, base: &str) -> Arc<BaseAccount> {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = bases.get(base) {
            return Arc::clone(account);
        }
        let account = Arc::new(BaseAccount {
            allowance: Allowance::used_up(self.limit, self.made_at),
            counter: Counter::default(),
        });
        bases.insert(base.to_owned(), Arc::clone(&account));
        account
    }

    /// Sends a call, again if that is safe and may help, and decodes the answer.
    async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Error> {
        let mut try_count = 1;
        loop {
            let error = match self.send_once(&call).await {
                Ok(body) => match serde_json::from_slice(&body) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        let problem = what_it_is(&body).unwrap_or_else(|| error.to_string());
                        Error::Malformed { call: call.name(), problem }
                    }
                },
                Err(error) => error,
            };
            let again = if call.is_read() {
                error.is_passing()
            } else {
                // A push that has to wait for half a minute is bound anew then, with what is owed by that time.
                let is_bound = call.class == Class::Push;
                error.is_unapplied() && !(is_bound && matches!(error, Error::RateLimited { .. }))
            };
            if !again || try_count == TRY_COUNT_MAX {
                return Err(error);
            }
            let pause = match &error {
                // The allowance makes everybody wait.
                Error::RateLimited { .. } => Duration::ZERO,
                Error::Server { pause: Some(pause), .. } => *pause,
                _ => backoff(try_count),
            };
            debug!(call = %call.name(), try_count, %error, "trying again");
            tokio::time::sleep(pause).await;
            try_count += 1;
        }
    }

    /// One request, paid for from the allowances.
    async fn send_once(&self, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        let account = call.base.map(|base| self.account(base));
        let base_permit = match &account {
            Some(account) => Some(account.allowance.acquire(call.class).await),
            None => None,
        };
        let token_permit = self.token_allowance.acquire(call.class).await;
        // The last moment before it leaves: waiting for a permit may have taken long.
        let is_push = call.class == Class::Push && !call.is_read();
        if is_push && !self.gate.get().is_none_or(Gate::is_open) {
            return Err(Error::Shut { call: call.name() });
        }
        if let Some(account) = &account {
            account.counter.add(this_month());
        }

        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base_url, call.path))
            .header(AUTHORIZATION, self.token.clone())
            .query(&call.query)
            .timeout(self.timeout);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let sent_at = Instant::now();
        let mut answer = request.send().await.map_err(|error| self.unanswered(call, error))?;
        if let Some(permit) = base_permit {
            permit.answered(call.kind, sent_at);
        }
        token_permit.answered(call.kind, sent_at);

        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // At once: nobody may send while this body is read.
            self.penalise(account.as_deref(), retry_after(answer.headers()));
        }
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.body_bytes_max => {
                    return Err(Error::TooLarge {
                        call: call.name(),
                        limit_bytes: self.body_bytes_max,
                    });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) if status == StatusCode::OK => return Err(self.unanswered(call, error)),
                // Of an error, the status alone says enough.
                Ok(None) | Err(_) => break,
            }
        }
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(Error::from_answer(call.name(), status, retry_after(answer.headers()), &body))
    }

    fn penalise(&self, account: Option<&BaseAccount>, retry_after: Option<Duration>) {
        let jitter = Duration::from_millis(rand::random_range(0..PENALTY_JITTER_MS_MAX));
        let pause = error::PENALTY.max(retry_after.unwrap_or_default()) + jitter;
        warn!(pause_s = pause.as_secs(), "airtable refused a request for the rate");
        match account {
            Some(account) => account.allowance.penalise(pause),
            None => self.token_allowance.penalise(pause),
        }
    }

    fn unanswered(&self, call: &Call<'_>, error: reqwest::Error) -> Error {
        // The address would bring the query with it.
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return Error::TimedOut { call: call.name(), after: self.timeout };
        }
        if error.is_decode() || error.is_body() {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            let problem = format!("the body is cut off or damaged: {cause}");
            return Error::Malformed { call: call.name(), problem };
        }
        Error::Unreachable { call: call.name(), source: error }
    }
}

/// Doubling, and half of it by chance.
fn backoff(try_count: u32) -> Duration {
    let whole = BACKOFF_MIN.saturating_mul(1 << (try_count - 1).min(16)).min(BACKOFF_MAX);
    whole.mul_f64(rand::random_range(0.5..1.0))
}

/// What a body is that is plainly no JSON: the parser's words say little to people.
fn what_it_is(body: &[u8]) -> Option<String> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Some(String::from("it is empty")),
        Some(b'<') => Some(String::from(
            "it is HTML: does api_url lead to Airtable, and does no proxy ask for a log-in?",
        )),
        Some(_) => None,
    }
}

/// The header in seconds; a date there is rare enough to be left out.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// µs since 1970 UTC of an ISO time as Airtable writes it.
pub(crate) fn micros(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros())
}
