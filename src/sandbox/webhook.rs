//! Webhooks: created, listed, refreshed, read, and what becomes of them with time.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::clock::{iso_ms, iso_seconds};
use super::config::Config;
use super::ids::is_id;
use super::model::{Base, State};
use super::reply::{
    Answer, error, error_without_message, forbidden_or_unknown, invalid_request, not_permitted,
    unknown_field,
};

const HOOK_COUNT_MAX: usize = 10;
const OAUTH_HOOK_COUNT_MAX: usize = 2;
const PAGE_MAX: u64 = 50;

/// A webhook and its list of payloads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) secret_base64: String,
    pub(super) specification: Value,
    pub(super) notification_url: Option<String>,
    pub(super) owner: String,
    pub(super) oauth: Option<String>,
    pub(super) expires_ms: i64,
    /// The number that the next payload gets.
    pub(super) next_number: u64,
    pub(super) payloads: VecDeque<Payload>,
    pub(super) is_notifying: bool,
    /// The code of the error payload that ended it.
    pub(super) dead: Option<String>,
    pub(super) last_result: Option<Value>,
    pub(super) last_success_ms: Option<i64>,
    pub(super) ping: Option<Ping>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) number: u64,
    pub(super) timestamp_ms: i64,
    pub(super) body: Value,
}

/// A ping that is owed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ping {
    pub(super) due_ms: i64,
    pub(super) retry_number: u32,
    pub(super) is_in_flight: bool,
    /// Something came while it was under way: another one follows.
    pub(super) is_again: bool,
}

impl Webhook {
    /// Records changes: neither expired nor ended by an error.
    pub(super) fn is_active(&self, now_ms: i64) -> bool {
        self.dead.is_none() && now_ms < self.expires_ms
    }

    /// Owes a ping from now on; a try that is pending already covers it.
    pub(super) fn ask_for_ping(&mut self, due_ms: i64) {
        if self.notification_url.is_none() || !self.is_notifying {
            return;
        }
        match &mut self.ping {
            Some(ping) if ping.is_in_flight => ping.is_again = true,
            Some(_) => {}
            None => {
                self.ping =
                    Some(Ping { due_ms, retry_number: 0, is_in_flight: false, is_again: false });
            }
        }
    }

    fn to_json(&self, now_ms: i64, config: &Config) -> Value {
        let is_enabled =
            now_ms < self.expires_ms && (self.dead.is_none() || config.dead_hook_looks_alive);
        json!({
            "id": self.id,
            "specification": self.specification,
            "notificationUrl": self.notification_url,
            "cursorForNextPayload": self.next_number,
            "lastNotificationResult": self.last_result,
            "areNotificationsEnabled": self.is_notifying,
            "lastSuccessfulNotificationTime": self.last_success_ms.map(iso_seconds),
            "isHookEnabled": is_enabled,
            "expirationTime": iso_ms(self.expires_ms),
        })
    }
}

/// Drops what time has ended: webhooks a week after their expiry, payloads after their retention.
pub(super) fn age(base: &mut Base, now_ms: i64, config: &Config) {
    base.webhooks.retain(|hook| now_ms < hook.expires_ms + config.hook_life_ms);
    for hook in &mut base.webhooks {
        while hook
            .payloads
            .front()
            .is_some_and(|payload| payload.timestamp_ms + config.payload_kept_ms <= now_ms)
        {
            hook.payloads.pop_front();
        }
    }
}

fn gone(config: &Config) -> Box<super::reply::Reply> {
    if config.gone_hook_status == 403 {
        forbidden_or_unknown()
    } else {
        error_without_message(404, "MODEL_ID_NOT_FOUND")
    }
}

impl State {
    pub(super) fn create_hook(
        &mut self,
        base_id: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        let specification = &body["specification"];
        let map = body.as_object().ok_or_else(invalid_request)?;
        if map.keys().any(|key| key != "notificationUrl" && key != "specification") {
            return Err(invalid_request());
        }
        let url = match &body["notificationUrl"] {
            Value::Null => None,
            Value::String(url) if url.starts_with("http://") || url.starts_with("https://") => {
                Some(url.clone())
            }
            _ => return Err(invalid_request()),
        };
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        check_specification(base, specification)?;
        for data_type in super::model::strings(&specification["options"]["filters"]["dataTypes"]) {
            caller.need_scope(if data_type == "tableData" {
                "data.records:read"
            } else {
                "schema.bases:read"
            })?;
        }
        if base.webhooks.len() >= HOOK_COUNT_MAX {
            let text = "You have reached the maximum number of webhooks in this base";
            return Err(error(422, "TOO_MANY_WEBHOOKS_IN_BASE", text));
        }
        let of_integration = |hook: &&Webhook| caller.oauth.is_some() && hook.oauth == caller.oauth;
        if base.webhooks.iter().filter(of_integration).count() >= OAUTH_HOOK_COUNT_MAX {
            let text =
                "You have reached the maximum number of webhooks of this integration in this base";
            return Err(error(422, "TOO_MANY_WEBHOOKS_BY_OAUTH_INTEGRATION_IN_BASE", text));
        }
        let secret: Vec<u8> = (0..16).flat_map(|_| self.ids.rng().next().to_le_bytes()).collect();
        let hook = Webhook {
            id: self.ids.make("ach"),
            secret_base64: STANDARD.encode(secret),
            specification: specification.clone(),
            notification_url: url,
            owner: caller.user.clone(),
            oauth: caller.oauth.clone(),
            expires_ms: now_ms + self.config.hook_life_ms,
            next_number: 1,
            payloads: VecDeque::new(),
            is_notifying: true,
            dead: None,
            last_result: None,
            last_success_ms: None,
            ping: None,
        };
        let shown = json!({
            "id": hook.id, "macSecretBase64": hook.secret_base64, "expirationTime": iso_ms(hook.expires_ms),
        });
        if let Some(base) = self.world.bases.get_mut(base_id) {
            base.webhooks.push(hook);
        }
        self.version += 1;
        Ok(shown)
    }

    pub(super) fn list_hooks(
        &mut self,
        base_id: &str,
        caller: &Caller,
        now_ms: i64,
    ) -> Answer<Value> {
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        let hooks: Vec<Value> = base
            .webhooks
            .iter()
            .filter(|hook| caller.oauth.is_none() || hook.oauth == caller.oauth)
            .map(|hook| hook.to_json(now_ms, &self.config))
            .collect();
        Ok(json!({ "webhooks": hooks }))
    }

    /// A webhook that the caller may see.
    fn hook(&mut self, base_id: &str, hook_id: &str, caller: &Caller) -> Answer<&mut Webhook> {
        let config = &self.config;
        let base = self.world.bases.get_mut(base_id).ok_or_else(forbidden_or_unknown)?;
        base.webhooks
            .iter_mut()
            .find(|hook| {
                hook.id == hook_id && (caller.oauth.is_none() || hook.oauth == caller.oauth)
            })
            .ok_or_else(|| gone(config))
    }

    pub(super) fn delete_hook(
        &mut self,
        base_id: &str,
        hook_id: &str,
        caller: &Caller,
    ) -> Answer<Value> {
        self.hook(base_id, hook_id, caller)?;
        if let Some(base) = self.world.bases.get_mut(base_id) {
            base.webhooks.retain(|hook| hook.id != hook_id);
        }
        self.version += 1;
        Ok(json!({}))
    }

    pub(super) fn refresh_hook(
        &mut self,
        base_id: &str,
        hook_id: &str,
        caller: &Caller,
        now_ms: i64,
    ) -> Answer<Value> {
        let life_ms = self.config.hook_life_ms;
        let hook = self.hook(base_id, hook_id, caller)?;
        if now_ms >= hook.expires_ms {
            return Err(invalid_request());
        }
        hook.expires_ms = now_ms + life_ms;
        let shown = json!({ "expirationTime": iso_ms(hook.expires_ms) });
        self.version += 1;
        Ok(shown)
    }

    pub(super) fn enable_hook(
        &mut self,
        base_id: &str,
        hook_id: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        let pings_backlog = self.config.enabling_pings_backlog;
        let hook = self.hook(base_id, hook_id, caller)?;
        let is_enabled = body["enable"].as_bool().ok_or_else(invalid_request)?;
        hook.is_notifying = is_enabled;
        hook.ping = None;
        if is_enabled && pings_backlog && hook.next_number > 1 {
            hook.ask_for_ping(now_ms);
        }
        self.version += 1;
        Ok(json!({}))
    }

    pub(super) fn hook_payloads(
        &mut self,
        base_id: &str,
        hook_id: &str,
        caller: &Caller,
        query: &[(String, String)],
        now_ms: i64,
    ) -> Answer<Value> {
        let (life_ms, refuses_purged) =
            (self.config.hook_life_ms, self.config.purged_cursor_is_refused);
        let hook = self.hook(base_id, hook_id, caller)?;
        for data_type in
            super::model::strings(&hook.specification["options"]["filters"]["dataTypes"])
        {
            caller.need_scope(if data_type == "tableData" {
                "data.records:read"
            } else {
                "schema.bases:read"
            })?;
        }
        let number = |name: &str, default: u64| match query.iter().find(|(key, _)| key == name) {
            None => Ok(default),
            Some((_, text)) => text.parse::<u64>().map_err(|_| invalid_request()),
        };
        let (cursor, limit) = (number("cursor", 1)?, number("limit", PAGE_MAX)?);
        if cursor == 0 || limit == 0 || limit > PAGE_MAX {
            return Err(invalid_request());
        }
        let oldest = hook.payloads.front().map_or(hook.next_number, |payload| payload.number);
        if refuses_purged && cursor < oldest {
            return Err(invalid_request());
        }
        let page: Vec<&Payload> = hook
            .payloads
            .iter()
            .filter(|payload| payload.number >= cursor)
            .take(usize::try_from(limit).unwrap_or(50))
            .collect();
        let next = page.last().map_or(cursor, |last| last.number + 1);
        let might_have_more = !page.is_empty() && next < hook.next_number;
        let payloads: Vec<Value> = page.iter().map(|payload| payload.body.clone()).collect();
        if now_ms < hook.expires_ms {
            hook.expires_ms = now_ms + life_ms;
        }
        Ok(json!({
            "payloads": payloads, "cursor": next, "mightHaveMore": might_have_more, "payloadFormat": "v0",
        }))
    }
}

const DATA_TYPES: [&str; 3] = ["tableData", "tableFields", "tableMetadata"];
const SOURCES: [&str; 9] = [
    "client",
    "publicApi",
    "formSubmission",
    "formPageSubmission",
    "automation",
    "system",
    "sync",
    "anonymousUser",
    "unknown",
];

/// Refuses a specification with unknown words, names instead of ids, or ids that the base does not have.
fn check_specification(base: &Base, specification: &Value) -> Answer<()> {
    let options = specification["options"].as_object().ok_or_else(invalid_request)?;
    let filters = options.get("filters").and_then(Value::as_object).ok_or_else(invalid_request)?;
    let known_filters = [
        "dataTypes",
        "recordChangeScope",
        "changeTypes",
        "fromSources",
        "sourceOptions",
        "watchDataInFieldIds",
        "watchSchemasOfFieldIds",
    ];
    if options.keys().any(|key| key != "filters" && key != "includes")
        || filters.keys().any(|key| !known_filters.contains(&key.as_str()))
    {
        return Err(invalid_request());
    }
    let data_types = filters.get("dataTypes").ok_or_else(invalid_request)?;
    check_words(Some(data_types), &DATA_TYPES)?;
    if data_types.as_array().is_none_or(Vec::is_empty) {
        return Err(invalid_request());
    }
    check_words(filters.get("changeTypes"), &["add", "remove", "update"])?;
    check_words(filters.get("fromSources"), &SOURCES)?;
    if let Some(scope) = filters.get("recordChangeScope") {
        let scope = scope.as_str().ok_or_else(invalid_request)?;
        let is_table = is_id(scope, "tbl") && base.tables.iter().any(|table| table.id == scope);
        let is_view = base
            .tables
            .iter()
            .flat_map(|table| &table.views)
            .any(|view| view.id == scope && view.kind != "form" && view.kind != "list");
        if !is_table && !is_view {
            return Err(invalid_request());
        }
    }
    for key in ["watchDataInFieldIds", "watchSchemasOfFieldIds"] {
        check_fields(base, filters.get(key))?;
    }
    let empty = Map::new();
    let includes = options.get("includes").and_then(Value::as_object).unwrap_or(&empty);
    match includes.get("includeCellValuesInFieldIds") {
        Some(all) if all == "all" => Ok(()),
        other => check_fields(base, other),
    }
}

fn check_words(list: Option<&Value>, known: &[&str]) -> Answer<()> {
    let Some(list) = list else { return Ok(()) };
    let items = list.as_array().ok_or_else(invalid_request)?;
    let is_known = |item: &Value| item.as_str().is_some_and(|word| known.contains(&word));
    if items.iter().all(is_known) { Ok(()) } else { Err(invalid_request()) }
}

fn check_fields(base: &Base, list: Option<&Value>) -> Answer<()> {
    let Some(list) = list else { return Ok(()) };
    for item in list.as_array().ok_or_else(invalid_request)? {
        let id = item.as_str().ok_or_else(invalid_request)?;
        if !base.tables.iter().flat_map(|table| &table.fields).any(|field| field.id == id) {
            return Err(unknown_field(id));
        }
    }
    Ok(())
}

/// The role that a call to a webhook endpoint needs.
pub(super) fn need_creator(caller: &Caller) -> Answer<()> {
    if caller.role == "create" { Ok(()) } else { Err(not_permitted()) }
}
