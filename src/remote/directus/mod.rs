//! Directus's REST interface. In: calls by collection and key. Out: keys and rows, or a classified [`Error`]. It
//! sends each request once: what may be sent again, the caller knows.

mod error;
mod rights;
mod row;
pub(crate) mod setup;

use std::{sync::OnceLock, time::Duration};

use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) use error::{Error, Fault};
pub(crate) use rights::{Action, Me, Rights};
pub(crate) use row::Row;

use super::segment;
use crate::gate::Gate;

/// Members and other people; REST has a door of its own for them.
pub(crate) const USERS: &str = "directus_users";
const SYSTEM_PREFIX: &str = "directus_";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Node ends a connection that nobody uses for 5 s; a request that leaves at that very moment is lost with it, and nobody
/// knows whether it was carried out.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(3);
/// An array of 100 users with passwords takes 20 s.
const TIMEOUT: Duration = Duration::from_mins(1);
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const RETRY_AFTER_MAX: Duration = Duration::from_mins(2);

/// A caller of one Directus with one token.
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
    token: HeaderValue,
    timeout: Duration,
    /// Asked before each write of a push.
    gate: OnceLock<Gate>,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("the directus token has characters that no token has; is it cut off or quoted?")]
    Token,
    #[error("could not set up the connection to directus")]
    Http(#[source] reqwest::Error),
}

/// One request.
struct Call<'a, B: ?Sized> {
    method: Method,
    /// With the leading slash.
    path: &'a str,
    query: &'a [(&'a str, String)],
    body: Option<&'a B>,
    /// In `User-Agent`, which Directus notes beside each write, in the same transaction.
    operation: Option<Uuid>,
}

impl<B: ?Sized> Call<'_, B> {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Client {
    /// `base_url`: like `https://directus.example.com`, with the path under which it is served, if any. The TLS
    /// provider of the process has to be installed before.
    ///
    /// # Errors
    /// The token cannot be a header, or TLS cannot be set up.
    pub(crate) fn new(base_url: &str, token: &str) -> Result<Self, SetupError> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| SetupError::Token)?;
        token.set_sensitive(true);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            // A redirect could carry the token elsewhere; the API never sends one.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SetupError::Http)?;
        let base_url = base_url.trim_end_matches('/').to_owned();
        Ok(Self { http, base_url, token, timeout: TIMEOUT, gate: OnceLock::new() })
    }

    /// Pushes go through `gate` from now on; the first one stays.
    pub(crate) fn guard(&self, gate: &Gate) {
        self.gate.get_or_init(|| gate.clone());
    }

    /// How long a request may take, its connection included.
    pub(crate) fn request_max(&self) -> Duration {
        self.timeout
    }

    /// With another limit for a whole answer than a minute.
    #[cfg(test)]
    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates rows, all or none. Their keys in no order, as far as the token may read them.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn create(
        &self,
        operation: Uuid,
        collection: &str,
        key: &str,
        rows: &[Row],
    ) -> Result<Option<Vec<String>>, Error> {
        self.write(Method::POST, operation, collection, key, rows).await
    }

    /// Sets cells of rows, each with its key among them; all or none. `Some`: the keys of those that are there.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn update(
        &self,
        operation: Uuid,
        collection: &str,
        key: &str,
        rows: &[Row],
    ) -> Result<Option<Vec<String>>, Error> {
        self.write(Method::PATCH, operation, collection, key, rows).await
    }

    /// Deletes rows by their keys, all or none.
    ///
    /// # Errors
    /// As [`Error`] says; `FORBIDDEN` also where one is not there.
    pub(crate) async fn delete(
        &self,
        operation: Uuid,
        collection: &str,
        keys: &[&str],
    ) -> Result<(), Error> {
        let (method, path) = (Method::DELETE, path(collection));
        let call =
            Call { method, path: &path, query: &[], body: Some(keys), operation: Some(operation) };
        self.call(&call).await.map(drop)
    }

    /// All rows that `filter` lets through, these fields of them, in the order of their keys.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn rows(
        &self,
        collection: &str,
        key: &str,
        fields: &[&str],
        filter: &Json,
    ) -> Result<Vec<Json>, Error> {
        let path = path(collection);
        let mut rows: Vec<Json> = Vec::new();
        loop {
            let query = [
                ("filter", filter.to_string()),
                ("fields", fields.join(",")),
                ("sort", key.to_owned()),
                // A server may give fewer at a time.
                ("limit", String::from("-1")),
                ("offset", rows.len().to_string()),
                ("meta", String::from("filter_count")),
            ];
            let call = Call::<Json> {
                method: Method::GET,
                path: &path,
                query: &query,
                body: None,
                operation: None,
            };
            let mut answer = self.call(&call).await?.unwrap_or_default();
            let Json::Array(page) = answer["data"].take() else {
                let problem = String::from("it has no list");
                return Err(Error::Malformed { call: call.name(), problem });
            };
            let whole = answer["meta"]["filter_count"].as_u64().unwrap_or(0);
            let is_last = page.is_empty();
            rows.extend(page);
            if is_last || u64::try_from(rows.len()).is_ok_and(|count| count >= whole) {
                return Ok(rows);
            }
        }
    }

    /// The values that people may choose in a field; `None`: any, since it has no choices, or they are not meant to be
    /// all.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn choices(
        &self,
        collection: &str,
        field: &str,
    ) -> Result<Option<Vec<String>>, Error> {
        let path = format!("/fields/{}/{}", segment(collection), segment(field));
        let query = &[];
        let call =
            Call::<Json> { method: Method::GET, path: &path, query, body: None, operation: None };
        let answer = self.call(&call).await?.unwrap_or_default();
        let options = &answer["data"]["meta"]["options"];
        let Some(choices) = options["choices"].as_array() else { return Ok(None) };
        if options["allowOther"] == true {
            return Ok(None);
        }
        let value = |choice: &Json| text(choice.get("value").unwrap_or(choice));
        Ok(Some(choices.iter().filter_map(value).collect()))
    }

    /// Which of these keys there are.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn existing(
        &self,
        collection: &str,
        key: &str,
        keys: &[&str],
    ) -> Result<Vec<String>, Error> {
        let filter = json!({ key: { "_in": keys } });
        let rows = self.rows(collection, key, &[key], &filter).await?;
        Ok(rows.iter().filter_map(|row| text(&row[key])).collect())
    }

    /// Any other call, for setting up and for the doctor: the answer's `data`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Json>,
    ) -> Result<Json, Error> {
        let call = Call { method, path, query, body, operation: None };
        Ok(self.call(&call).await?.map(|mut answer| answer["data"].take()).unwrap_or_default())
    }

    async fn write(
        &self,
        method: Method,
        operation: Uuid,
        collection: &str,
        key: &str,
        rows: &[Row],
    ) -> Result<Option<Vec<String>>, Error> {
        let path = path(collection);
        let query = [("fields", key.to_owned())];
        let call = Call {
            method,
            path: &path,
            query: &query,
            body: Some(rows),
            operation: Some(operation),
        };
        // Without the right to read, there is no body.
        let Some(answer) = self.call(&call).await? else { return Ok(None) };
        let written = answer["data"].as_array();
        Ok(written.map(|rows| rows.iter().filter_map(|row| text(&row[key])).collect()))
    }

    /// Sends a request; the decoded body, if there is one.
    async fn call<B: Serialize + ?Sized>(&self, call: &Call<'_, B>) -> Result<Option<Json>, Error> {
        if call.operation.is_some() && !self.gate.get().is_none_or(Gate::is_open) {
            return Err(Error::Shut { call: call.name() });
        }
        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base_url, call.path))
            .header(AUTHORIZATION, self.token.clone())
            .header(USER_AGENT, agent(call.operation))
            .query(call.query)
            .timeout(self.timeout);
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let mut answer = request.send().await.map_err(|error| self.unanswered(call, error))?;
        let status = answer.status();
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => {
                    let problem = format!("longer than {BODY_BYTES_MAX} bytes");
                    return Err(Error::Malformed { call: call.name(), problem });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) if status.is_success() => return Err(self.unanswered(call, error)),
                // Of an error, the status alone says enough.
                Ok(None) | Err(_) => break,
            }
        }
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|_| {
                let problem = format!("it is no JSON{}", error::looks(&body));
                Error::NotDirectus { call: call.name(), problem }
            }),
            _ => {
                let pause = retry_after(answer.headers());
                Err(Error::from_answer(call.name(), status, pause, &body))
            }
        }
    }

    fn unanswered<B: ?Sized>(&self, call: &Call<'_, B>, error: reqwest::Error) -> Error {
        // The address would bring the query with it.
        let (call, source) = (call.name(), error.without_url());
        if source.is_connect() || source.is_builder() {
            return Error::Unreachable { call, source };
        }
        if source.is_timeout() {
            return Error::TimedOut { call, after: self.timeout };
        }
        Error::Cut { call, source }
    }
}

/// As the capture reads it back (`capture::directus`).
fn agent(operation: Option<Uuid>) -> String {
    let program = concat!("plait/", env!("CARGO_PKG_VERSION"));
    operation.map_or_else(|| program.to_owned(), |id| format!("{program} op={id}"))
}

/// Where a collection's rows are.
fn path(collection: &str) -> String {
    match collection.strip_prefix(SYSTEM_PREFIX) {
        Some(name) => format!("/{}", segment(name)),
        None => format!("/items/{}", segment(collection)),
    }
}

/// A key or an element as a text, however it is written.
pub(crate) fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
