//! The control API under `/sandbox`: everything that Airtable does not offer and tests need. Not part of
//! Airtable; `GET /sandbox` lists it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::Call;
use super::edit::Edit;
use super::fault::Fault;
use super::model::{State, Token};
use super::ping::PingFault;
use super::reply::{Answer, JSON, Reply, error};
use super::server::Shared;
use super::transaction::{Actor, Change};

/// Method, path and meaning of each call.
const INDEX: [(&str, &str, &str); 22] = [
    ("GET", "/sandbox", "this index"),
    ("GET", "/sandbox/state", "bases, tables with record counts, users, version"),
    ("GET", "/sandbox/stats", "request count by kind and status, number of 429s, pings"),
    ("POST", "/sandbox/stats/reset", "sets the counters to zero"),
    ("GET", "/sandbox/config", "every switch; the meanings are in the documentation of `Config`"),
    ("PATCH", "/sandbox/config", "{switch: value, …}"),
    ("GET", "/sandbox/grid?base=&table=", "fields, choices and records of a table, for the page"),
    (
        "POST",
        "/sandbox/edit",
        "{base, as: {source, user?, metadata?}, typecast?, edits: [{do: create|update|delete|restore|duplicate|create_table|rename_table|delete_table|restore_table|create_field|rename_field|retype_field|delete_field|rename_choice|create_view|flag|inject, …}]}: one transaction",
    ),
    ("GET", "/sandbox/faults", "faults that wait"),
    (
        "POST",
        "/sandbox/faults",
        "{kind: rate_limit|billing|unauthorized|forbidden|error500|error502|error503|timeout|reset|drop|truncate|slow|forget_listings, number?, method?, path?, request?, skip?, count?, applied?, delay_ms?, retry_after?}",
    ),
    ("DELETE", "/sandbox/faults", "takes all faults back"),
    (
        "POST",
        "/sandbox/pings",
        "{do: lose|double|hold, count?} for the next pings, or {do: send, base, webhook}",
    ),
    (
        "POST",
        "/sandbox/webhooks",
        "{do: expire|delete|error|dead|payload, base, webhook?, code?, payload?}; without webhook: all of the base",
    ),
    ("POST", "/sandbox/clock", "{advance_ms}"),
    ("POST", "/sandbox/limits/forgive", "ends every penalty"),
    ("GET", "/sandbox/log?base=&after=", "the transaction log after a number"),
    ("GET", "/sandbox/snapshot", "the whole state as JSON"),
    ("PUT", "/sandbox/snapshot", "puts such a state in place"),
    ("POST", "/sandbox/snapshots", "{do: take|restore, name}: kept in memory"),
    ("POST", "/sandbox/users", "{id, name, email}"),
    ("POST", "/sandbox/tokens", "{token, user, scopes?, bases?, role?, oauth?}"),
    ("POST", "/sandbox/bases", "{id, name, tables: [{name, fields: […]}]}"),
];

fn bad(message: &str) -> Box<Reply> {
    error(400, "SANDBOX_REQUEST_NOT_UNDERSTOOD", message)
}

fn read<T: DeserializeOwned>(call: &Call) -> Answer<T> {
    serde_json::from_slice(&call.body).map_err(|error| bad(&error.to_string()))
}

fn parameter<'a>(call: &'a Call, name: &str) -> &'a str {
    call.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
}

/// Answers a call to `/sandbox/…`.
pub(super) fn answer(shared: &Shared, call: &Call) -> Reply {
    let mut state = shared.lock();
    let version = state.version;
    let outcome = control(&mut state, shared, call);
    if state.version != version {
        shared.changed.notify_one();
    }
    drop(state);
    shared.nudge.notify_one();
    match outcome {
        Ok(value) => Reply::new(200, JSON, value.to_string()),
        Err(refusal) => *refusal,
    }
}

#[derive(Deserialize)]
struct Edits {
    base: String,
    #[serde(rename = "as")]
    actor: Actor,
    #[serde(default)]
    typecast: bool,
    edits: Vec<Edit>,
}

fn control(state: &mut State, shared: &Shared, call: &Call) -> Answer<Value> {
    let now_ms = shared.clock.now_ms();
    let parts: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", []) => Ok(INDEX
            .iter()
            .map(|(method, path, meaning)| json!({ "method": method, "path": path, "meaning": meaning }))
            .collect()),
        ("GET", ["state"]) => Ok(overview(state, now_ms)),
        ("GET", ["stats"]) => serde_json::to_value(&state.stats).map_err(|error| bad(&error.to_string())),
        ("POST", ["stats", "reset"]) => {
            state.stats = super::model::Stats::default();
            Ok(json!({}))
        }
        ("GET", ["config"]) => serde_json::to_value(&state.config).map_err(|error| bad(&error.to_string())),
        ("PATCH", ["config"]) => {
            state.configure(&read::<Value>(call)?).map_err(|error| bad(&error))?;
            Ok(json!({}))
        }
        ("GET", ["grid"]) => super::page::grid(state, parameter(call, "base"), parameter(call, "table"), now_ms),
        ("POST", ["edit"]) => {
            let wish: Edits = read(call)?;
            let ids = state.edit(&wish.base, wish.actor, &wish.edits, wish.typecast, now_ms)?;
            Ok(json!({ "ids": ids, "version": state.version }))
        }
        ("GET", ["faults"]) => serde_json::to_value(&state.faults.0).map_err(|error| bad(&error.to_string())),
        ("POST", ["faults"]) => {
            state.faults.0.push(read::<Fault>(call)?);
            Ok(json!({}))
        }
        ("DELETE", ["faults"]) => {
            state.faults.0.clear();
            Ok(json!({}))
        }
        ("POST", ["pings"]) => pings(state, &read(call)?, now_ms),
        ("POST", ["webhooks"]) => webhooks(state, &read(call)?, now_ms),
        ("POST", ["clock"]) => {
            let wish: Value = read(call)?;
            shared.clock.advance(wish["advance_ms"].as_i64().ok_or_else(|| bad("advance_ms is missing"))?);
            Ok(json!({ "now_ms": shared.clock.now_ms() }))
        }
        ("POST", ["limits", "forgive"]) => {
            state.limits.forgive();
            Ok(json!({}))
        }
        ("GET", ["log"]) => {
            let base = state.world.bases.get(parameter(call, "base")).ok_or_else(|| bad("unknown base"))?;
            let after = parameter(call, "after").parse().unwrap_or(0);
            Ok(base.log.iter().filter(|entry| entry["baseTransactionNumber"].as_u64() > Some(after)).cloned().collect())
        }
        ("GET", ["snapshot"]) => serde_json::to_value(&state.world).map_err(|error| bad(&error.to_string())),
        ("PUT", ["snapshot"]) => {
            state.world = read(call)?;
            state.version += 1;
            Ok(json!({}))
        }
        ("POST", ["snapshots"]) => {
            let wish: Value = read(call)?;
            let name = wish["name"].as_str().ok_or_else(|| bad("name is missing"))?.to_owned();
            if wish["do"] == "take" {
                state.snapshots.insert(name, state.world.clone());
            } else {
                state.world = state.snapshots.get(&name).cloned().ok_or_else(|| bad("no such snapshot"))?;
                state.version += 1;
            }
            Ok(json!({}))
        }
        ("POST", ["users"]) => {
            let wish: super::model::User = read(call)?;
            state.world.users.insert(wish.id.clone(), wish);
            state.version += 1;
            Ok(json!({}))
        }
        ("POST", ["tokens"]) => {
            let mut wish: Value = read(call)?;
            for (key, default) in [("scopes", json!(super::auth::SCOPES)), ("role", json!("create"))] {
                if wish[key].is_null() {
                    wish[key] = default;
                }
            }
            let token: Token = serde_json::from_value(wish).map_err(|error| bad(&error.to_string()))?;
            state.add_token(token);
            state.version += 1;
            Ok(json!({}))
        }
        ("POST", ["bases"]) => {
            let wish: Value = read(call)?;
            super::seed::plain_base(state, &wish, now_ms)?;
            Ok(json!({}))
        }
        _ => Err(error(404, "SANDBOX_NOT_FOUND", "no such call; GET /sandbox lists them")),
    }
}

fn overview(state: &State, now_ms: i64) -> Value {
    let bases: Vec<Value> = state
        .world
        .bases
        .values()
        .map(|base| {
            let tables: Vec<Value> = base
                .tables
                .iter()
                .map(|table| json!({ "id": table.id, "name": table.name, "records": table.records.len() }))
                .collect();
            let hooks: Vec<Value> =
                base.webhooks.iter().map(|hook| json!({ "id": hook.id, "next": hook.next_number })).collect();
            json!({
                "id": base.id, "name": base.name, "tables": tables, "webhooks": hooks,
                "transaction": base.transaction_number, "trash": base.trash.len(),
            })
        })
        .collect();
    let users: Vec<Value> = state.world.users.values().map(super::model::User::to_rest).collect();
    json!({ "bases": bases, "users": users, "version": state.version, "now_ms": now_ms })
}

fn pings(state: &mut State, wish: &Value, now_ms: i64) -> Answer<Value> {
    if wish["do"] == "send" {
        let text = |key: &str| wish[key].as_str().unwrap_or_default();
        let is_sent = state.spurious_ping(text("base"), text("webhook"), now_ms);
        return if is_sent {
            Ok(json!({}))
        } else {
            Err(bad("no such webhook, or it does not notify"))
        };
    }
    let fault: PingFault =
        serde_json::from_value(wish["do"].clone()).map_err(|error| bad(&error.to_string()))?;
    for _ in 0..wish["count"].as_u64().unwrap_or(1) {
        state.ping_faults.push_back(fault);
    }
    Ok(json!({}))
}

fn webhooks(state: &mut State, wish: &Value, now_ms: i64) -> Answer<Value> {
    let code = wish["code"].as_str().unwrap_or("INTERNAL_ERROR").to_owned();
    state.disturb_hooks(
        wish["base"].as_str().unwrap_or_default(),
        wish["webhook"].as_str(),
        wish["do"].as_str().unwrap_or_default(),
        &code,
        wish.get("payload").cloned(),
        now_ms,
    )?;
    Ok(json!({}))
}

impl State {
    /// Changes switches; on an error, says which is wrong and changes none.
    pub(super) fn configure(&mut self, changes: &Value) -> Result<(), String> {
        let mut all = serde_json::to_value(&self.config).map_err(|error| error.to_string())?;
        for (key, value) in changes.as_object().into_iter().flatten() {
            all[key.as_str()] = value.clone();
        }
        self.config = serde_json::from_value(all).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Lets webhooks expire, vanish, end with an error payload, or receive a payload made by hand.
    pub(super) fn disturb_hooks(
        &mut self,
        base_id: &str,
        hook_id: Option<&str>,
        what: &str,
        code: &str,
        payload: Option<Value>,
        now_ms: i64,
    ) -> Answer<()> {
        let State { world, config, .. } = self;
        let base = world.bases.get_mut(base_id).ok_or_else(|| bad("unknown base"))?;
        let is_meant = |id: &str| hook_id.is_none_or(|wanted| wanted == id);
        if what == "delete" {
            base.webhooks.retain(|hook| !is_meant(&hook.id));
            return Ok(());
        }
        base.transaction_number += 1;
        let change = Change {
            timestamp_ms: now_ms,
            number: base.transaction_number,
            action_metadata: json!({ "source": "system" }),
            ..Change::default()
        };
        for hook in base.webhooks.iter_mut().filter(|hook| is_meant(&hook.id)) {
            match what {
                "expire" => hook.expires_ms = now_ms,
                // Ends it without a word: looks alive and records nothing more.
                "dead" => hook.dead = Some(code.to_owned()),
                "error" => {
                    hook.push(vec![super::payload::error_body(&change, code)], now_ms, config);
                    hook.dead = Some(code.to_owned());
                }
                "payload" => {
                    let mut body = change.head();
                    body.extend(
                        payload.as_ref().and_then(Value::as_object).cloned().unwrap_or_default(),
                    );
                    hook.push(vec![body], now_ms, config);
                }
                _ => return Err(bad("do: expire, delete, error, dead or payload")),
            }
        }
        Ok(())
    }
}
