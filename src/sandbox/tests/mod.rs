//! The checklist of what an emulator of Airtable must do, item by item, over HTTP as a client sees it. The names
//! of the tests carry the items; `docs/sandbox.md` has the table.

mod documentation;
mod faults;
mod hooks;
mod metadata;
mod payloads;
mod pings;
mod reading;
mod transport;
mod worlds;
mod writing;
mod writing_more;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Actor, Clock, Config, Edit, NETWORK_BASE, OWNER_TOKEN, OWNER_USER, Options, PLAYGROUND_BASE,
    READER_TOKEN, Sandbox,
};

/// 2026-04-24T15:07:42.507Z, where the clock of every test stands at first.
const START_MS: i64 = 1_777_043_262_507;
const DAY: Duration = Duration::from_hours(24);
const AUTRES: &str = "appPlaitBac000002/Autres";
const TYPES: &str = "appPlaitBac000002/Types";
const MEMBRES: &str = "appPlaitReseau001/Membres";

/// An answer as it came.
#[derive(Debug)]
struct Seen {
    status: u16,
    kind: String,
    retry_after: Option<String>,
    text: String,
    body: Value,
}

impl Seen {
    /// The body of a success.
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.kind, "application/json; charset=utf-8");
        self.body
    }

    #[track_caller]
    fn refused(self, status: u16, kind: &str) {
        assert_eq!(
            (self.status, self.body["error"]["type"].as_str()),
            (status, Some(kind)),
            "{}",
            self.text
        );
    }

    #[track_caller]
    fn refused_saying(self, status: u16, kind: &str, message: &str) {
        assert_eq!(self.body["error"]["message"], message);
        self.refused(status, kind);
    }
}

/// A sandbox with a clock that stands still and without limits, and a client.
struct Bench {
    sandbox: Sandbox,
    client: reqwest::Client,
    token: String,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut options =
            Options { clock: Arc::new(Clock::manual(START_MS)), ..Options::default() };
        options.config.limits = false;
        change(&mut options.config);
        let sandbox = Sandbox::start(options).await.unwrap();
        Self { sandbox, client: reqwest::Client::new(), token: OWNER_TOKEN.into() }
    }

    /// The request to a path after the address; with a body, as JSON.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.sandbox.url());
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request
    }

    async fn seen(&self, request: reqwest::RequestBuilder) -> Seen {
        let answer = request.send().await.unwrap();
        let header =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind) = (answer.status().as_u16(), header("content-type").unwrap_or_default());
        let retry_after = header("retry-after");
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Seen { status, kind, retry_after, text, body }
    }

    async fn get(&self, path: &str) -> Seen {
        self.seen(self.request("GET", &format!("/v0/{path}"), None)).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Seen {
        self.seen(self.request(method, &format!("/v0/{path}"), Some(&body))).await
    }

    async fn post(&self, path: &str, body: Value) -> Seen {
        self.send("POST", path, body).await
    }

    async fn patch(&self, path: &str, body: Value) -> Seen {
        self.send("PATCH", path, body).await
    }

    async fn delete(&self, path: &str) -> Seen {
        self.seen(self.request("DELETE", &format!("/v0/{path}"), None)).await
    }

    /// A call to the control API.
    async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let seen =
            self.seen(self.request(method, &format!("/sandbox/{path}"), body.as_ref())).await;
        seen.ok()
    }

    /// Makes a record and returns its id.
    async fn record(&self, table: &str, fields: Value) -> String {
        let made = self.post(table, json!({ "fields": fields })).await.ok();
        text(&made["id"])
    }

    /// The cells of a record.
    async fn fields(&self, table: &str, id: &str) -> Value {
        self.get(&format!("{table}/{id}")).await.ok()["fields"].clone()
    }

    /// A table of a base from the schema.
    async fn table(&self, base: &str, name: &str) -> Value {
        let schema = self.get(&format!("meta/bases/{base}/tables")).await.ok();
        let tables = schema["tables"].as_array().unwrap();
        tables.iter().find(|table| table["name"] == name).unwrap().clone()
    }

    /// The id of a field of the playground.
    async fn field(&self, table: &str, name: &str) -> String {
        field_id(&self.table(PLAYGROUND_BASE, table).await, name)
    }

    fn edit(&self, edits: &[Edit]) -> Vec<String> {
        self.sandbox.edit_as(PLAYGROUND_BASE, Actor::person(OWNER_USER), edits).unwrap()
    }

    /// Makes a webhook on the playground and returns its id. `options` beside the data types.
    async fn hook(&self, data_types: &[&str], filters: Value, includes: Value) -> String {
        text(&self.make_hook(data_types, filters, includes).await["id"])
    }

    async fn make_hook(&self, data_types: &[&str], filters: Value, includes: Value) -> Value {
        let mut filters = filters;
        filters["dataTypes"] = json!(data_types);
        let mut options = json!({ "filters": filters });
        if !includes.is_null() {
            options["includes"] = includes;
        }
        self.post(HOOKS, json!({ "specification": { "options": options } })).await.ok()
    }

    async fn payloads(&self, hook: &str) -> Vec<Value> {
        let page = self.get(&format!("{HOOKS}/{hook}/payloads")).await.ok();
        page["payloads"].as_array().unwrap().clone()
    }

    async fn listed_hook(&self, hook: &str) -> Value {
        let all = self.get(HOOKS).await.ok();
        let all = all["webhooks"].as_array().unwrap();
        all.iter().find(|known| known["id"] == hook).cloned().unwrap_or_default()
    }

    /// Asks until there is something, up to 20 s of real time: for what the sandbox does in a task of its own.
    async fn until<T>(&self, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..2000 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("did not come");
    }

    /// Gives the bench another token with these scopes and this role.
    async fn become_token(&mut self, name: &str, scopes: &[&str], role: &str, more: Value) {
        let mut wish = json!({ "token": name, "user": OWNER_USER, "scopes": scopes, "role": role });
        for (key, value) in more.as_object().into_iter().flatten() {
            wish[key] = value.clone();
        }
        self.control("POST", "tokens", wish).await;
        self.token = name.into();
    }
}

const HOOKS: &str = "bases/appPlaitBac000002/webhooks";

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[track_caller]
fn field_id(table: &Value, name: &str) -> String {
    let fields = table["fields"].as_array().unwrap();
    text(&fields.iter().find(|field| field["name"] == name).unwrap()["id"])
}

fn ids(page: &Value) -> Vec<String> {
    page["records"].as_array().unwrap().iter().map(|record| text(&record["id"])).collect()
}

fn create(table: &str, fields: Value) -> Edit {
    Edit::Create { table: table.into(), fields: fields.as_object().unwrap().clone() }
}
