//! The Airtable API itself: which endpoint a call means, and the order of its checks: route, token, rate,
//! permission, body.

use serde_json::Value;

use super::auth::Caller;
use super::ids::is_id;
use super::model::State;
use super::reply::{Answer, Reply, error, forbidden_or_unknown, invalid_request, not_found};
use super::webhook::need_creator;
use super::write::Write;

/// Characters of a URL from which on it is refused.
const URL_CHAR_MAX: usize = 16_000;

/// A request to /v0, decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) method: String,
    /// Path after `/v0`, percent-decoded, without a trailing slash.
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) url_char_count: usize,
    pub(super) authorization: Option<String>,
    pub(super) is_json: bool,
    pub(super) body: Vec<u8>,
}

/// What a call is, for statistics and faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Whoami,
    Bases,
    CreateBase,
    Schema,
    CreateTable,
    UpdateTable,
    CreateField,
    UpdateField,
    Hooks,
    CreateHook,
    DeleteHook,
    RefreshHook,
    EnableHook,
    Payloads,
    List,
    ListPost,
    Get,
    Create,
    UpdateMany,
    UpdateOne,
    DeleteMany,
    DeleteOne,
    Upload,
    Comments,
    CreateComment,
    UpdateComment,
    DeleteComment,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whoami => "whoami",
            Self::Bases => "bases",
            Self::CreateBase => "create_base",
            Self::Schema => "schema",
            Self::CreateTable => "create_table",
            Self::UpdateTable => "update_table",
            Self::CreateField => "create_field",
            Self::UpdateField => "update_field",
            Self::Hooks => "webhooks",
            Self::CreateHook => "create_webhook",
            Self::DeleteHook => "delete_webhook",
            Self::RefreshHook => "refresh_webhook",
            Self::EnableHook => "enable_webhook",
            Self::Payloads => "payloads",
            Self::List | Self::ListPost => "list",
            Self::Get => "get",
            Self::Create => "create",
            Self::UpdateMany | Self::UpdateOne => "update",
            Self::DeleteMany | Self::DeleteOne => "delete",
            Self::Upload => "upload",
            Self::Comments => "comments",
            Self::CreateComment => "create_comment",
            Self::UpdateComment => "update_comment",
            Self::DeleteComment => "delete_comment",
        }
    }

    fn needs(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Whoami => (&[], "none"),
            Self::Bases => (&["schema.bases:read"], "none"),
            Self::Schema => (&["schema.bases:read"], "read"),
            Self::CreateBase => (&["schema.bases:write"], "create"),
            Self::CreateTable | Self::UpdateTable | Self::CreateField | Self::UpdateField => {
                (&["schema.bases:write"], "create")
            }
            Self::Hooks | Self::Payloads => (&["webhook:manage"], "read"),
            Self::CreateHook | Self::DeleteHook | Self::RefreshHook | Self::EnableHook => {
                (&["webhook:manage"], "create")
            }
            Self::List | Self::ListPost | Self::Get => (&["data.records:read"], "read"),
            Self::Create
            | Self::UpdateMany
            | Self::UpdateOne
            | Self::DeleteMany
            | Self::DeleteOne
            | Self::Upload => (&["data.records:write"], "edit"),
            Self::Comments => (&["data.recordComments:read"], "read"),
            Self::CreateComment | Self::UpdateComment | Self::DeleteComment => {
                (&["data.recordComments:write"], "comment")
            }
        }
    }

    fn is_meta(self) -> bool {
        matches!(
            self,
            Self::Whoami
                | Self::Bases
                | Self::CreateBase
                | Self::Schema
                | Self::CreateTable
                | Self::UpdateTable
                | Self::CreateField
                | Self::UpdateField
        )
    }
}

/// Which endpoint, and the base it is about; none: no such route, or an id without the shape of one.
pub(super) fn route(call: &Call) -> Option<(Kind, Option<&str>)> {
    let parts: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let method = call.method.as_str();
    let base = |kind: Kind, id: &'_ str| is_id(id, "app").then_some(kind);
    let found = match (method, parts.as_slice()) {
        ("GET", ["meta", "whoami"]) => return Some((Kind::Whoami, None)),
        ("GET", ["meta", "bases"]) => return Some((Kind::Bases, None)),
        ("POST", ["meta", "bases"]) => return Some((Kind::CreateBase, None)),
        ("GET", ["meta", "bases", id, "tables"]) => (base(Kind::Schema, id), *id),
        ("POST", ["meta", "bases", id, "tables"]) => (base(Kind::CreateTable, id), *id),
        ("PATCH", ["meta", "bases", id, "tables", _]) => (base(Kind::UpdateTable, id), *id),
        ("POST", ["meta", "bases", id, "tables", _, "fields"]) => {
            (base(Kind::CreateField, id), *id)
        }
        ("PATCH", ["meta", "bases", id, "tables", _, "fields", _]) => {
            (base(Kind::UpdateField, id), *id)
        }
        (_, ["meta", ..]) => return None,
        ("GET", ["bases", id, "webhooks"]) => (base(Kind::Hooks, id), *id),
        ("POST", ["bases", id, "webhooks"]) => (base(Kind::CreateHook, id), *id),
        ("DELETE", ["bases", id, "webhooks", _]) => (base(Kind::DeleteHook, id), *id),
        ("POST", ["bases", id, "webhooks", _, "refresh"]) => (base(Kind::RefreshHook, id), *id),
        ("POST", ["bases", id, "webhooks", _, "enableNotifications"]) => {
            (base(Kind::EnableHook, id), *id)
        }
        ("GET", ["bases", id, "webhooks", _, "payloads"]) => (base(Kind::Payloads, id), *id),
        (_, ["bases", ..]) => return None,
        ("POST", [id, _, "listRecords"]) => (base(Kind::ListPost, id), *id),
        ("POST", [id, record, _, "uploadAttachment"]) if is_id(record, "rec") => {
            (base(Kind::Upload, id), *id)
        }
        ("GET", [id, _]) => (base(Kind::List, id), *id),
        ("POST", [id, _]) => (base(Kind::Create, id), *id),
        ("PATCH" | "PUT", [id, _]) => (base(Kind::UpdateMany, id), *id),
        ("DELETE", [id, _]) => (base(Kind::DeleteMany, id), *id),
        (_, [id, _, record, rest @ ..]) if is_id(record, "rec") => {
            let kind = match (method, rest) {
                ("GET", []) => Kind::Get,
                ("PATCH" | "PUT", []) => Kind::UpdateOne,
                ("DELETE", []) => Kind::DeleteOne,
                ("GET", ["comments"]) => Kind::Comments,
                ("POST", ["comments"]) => Kind::CreateComment,
                ("PATCH", ["comments", _]) => Kind::UpdateComment,
                ("DELETE", ["comments", _]) => Kind::DeleteComment,
                _ => return None,
            };
            (base(kind, id), *id)
        }
        _ => return None,
    };
    found.0.map(|kind| (kind, Some(found.1)))
}

/// Answers a call, the checks of token and rate included.
pub(super) fn answer(state: &mut State, call: &Call, now_ms: i64) -> Reply {
    match try_answer(state, call, now_ms) {
        Ok(value) => {
            let is_shuffled = state.config.shuffle_keys;
            super::reply::ok(&value, &mut state.noise, is_shuffled)
        }
        Err(refusal) => *refusal,
    }
}

fn try_answer(state: &mut State, call: &Call, now_ms: i64) -> Answer<Value> {
    if call.url_char_count >= URL_CHAR_MAX {
        return Err(error(
            state.config.long_url_status,
            "REQUEST_TOO_LARGE",
            "The URL is too long",
        ));
    }
    let (kind, base_id) = route(call).ok_or_else(not_found)?;
    let caller = state.caller(call.authorization.as_deref())?;
    let State { limits, config, .. } = state;
    limits.admit(base_id, &caller.user, kind.is_meta(), now_ms, config)?;
    let (scopes, role) = kind.needs();
    for scope in scopes {
        caller.need_scope(scope)?;
    }
    if let Some(base_id) = base_id {
        if !caller.may_enter(base_id) || !state.world.bases.contains_key(base_id) {
            return Err(forbidden_or_unknown());
        }
        if matches!(kind, Kind::CreateHook) {
            need_creator(&caller)?;
        }
        let State { world, config, .. } = state;
        if let Some(base) = world.bases.get_mut(base_id) {
            super::webhook::age(base, now_ms, config);
        }
    }
    caller.need_role(role)?;
    if call.body.len() > state.config.body_byte_max {
        return Err(error(413, "REQUEST_TOO_LARGE", "The request body is too large"));
    }
    dispatch(state, call, kind, &caller, base_id.unwrap_or_default(), now_ms)
}

fn body_of(state: &State, call: &Call) -> Answer<Value> {
    let unparsable = || {
        error(state.config.bad_json_status, "INVALID_REQUEST_BODY", "Could not parse request body")
    };
    if !call.is_json {
        return Err(unparsable());
    }
    serde_json::from_slice(&call.body).map_err(|_| unparsable())
}

fn dispatch(
    state: &mut State,
    call: &Call,
    kind: Kind,
    caller: &Caller,
    base: &str,
    now_ms: i64,
) -> Answer<Value> {
    let part = |index: usize| call.segments.get(index).map(String::as_str).unwrap_or_default();
    let query = call.query.as_slice();
    let has_body = matches!(
        kind,
        Kind::CreateBase
            | Kind::CreateTable
            | Kind::UpdateTable
            | Kind::CreateField
            | Kind::UpdateField
            | Kind::CreateHook
            | Kind::EnableHook
            | Kind::ListPost
            | Kind::Create
            | Kind::UpdateMany
            | Kind::UpdateOne
            | Kind::Upload
            | Kind::CreateComment
            | Kind::UpdateComment
    );
    let body = if has_body { body_of(state, call)? } else { Value::Null };
    let write = Write { base, table: part(1), caller, query, body: &body, now_ms };
    match kind {
        Kind::Whoami => Ok(state.whoami(caller)),
        Kind::Bases => state.list_bases(caller, query),
        Kind::CreateBase => state.create_base(caller, &body, now_ms),
        Kind::Schema => state.base_schema(base, query),
        Kind::CreateTable => state.create_table(base, caller, &body, now_ms),
        Kind::UpdateTable => state.update_table(base, part(4), caller, &body, now_ms),
        Kind::CreateField => state.create_field(base, part(4), caller, &body, now_ms),
        Kind::UpdateField => state.update_field(base, part(4), part(6), caller, &body, now_ms),
        Kind::Hooks => state.list_hooks(base, caller, now_ms),
        Kind::CreateHook => state.create_hook(base, caller, &body, now_ms),
        Kind::DeleteHook => state.delete_hook(base, part(3), caller),
        Kind::RefreshHook => state.refresh_hook(base, part(3), caller, now_ms),
        Kind::EnableHook => state.enable_hook(base, part(3), caller, &body, now_ms),
        Kind::Payloads => state.hook_payloads(base, part(3), caller, query, now_ms),
        Kind::List => state.list(base, part(1), query, None, now_ms),
        Kind::ListPost => state.list(base, part(1), query, Some(&body), now_ms),
        Kind::Get => state.get(base, part(1), part(2), query, now_ms),
        Kind::Create => state.create(&write),
        Kind::UpdateMany => state.update_many(&write, call.method == "PUT"),
        Kind::UpdateOne => state.update_one(&write, part(2), call.method == "PUT"),
        Kind::DeleteMany => {
            let ids: Vec<String> = query
                .iter()
                .filter(|(key, _)| key == "records" || key.starts_with("records["))
                .map(|(_, value)| value.clone())
                .collect();
            if ids.len() < query.iter().filter(|(key, _)| !key.is_empty()).count() {
                return Err(invalid_request());
            }
            state.delete(&write, &ids, false)
        }
        Kind::DeleteOne => state.delete(&write, &[part(2).to_owned()], true),
        Kind::Upload => state.upload(&write, part(1), part(2)),
        Kind::Comments => state.list_comments(base, part(1), part(2), query),
        Kind::CreateComment => {
            state.write_comment(base, (part(1), part(2)), caller, None, Some(&body), now_ms)
        }
        Kind::UpdateComment => state.write_comment(
            base,
            (part(1), part(2)),
            caller,
            Some(part(4)),
            Some(&body),
            now_ms,
        ),
        Kind::DeleteComment => {
            state.write_comment(base, (part(1), part(2)), caller, Some(part(4)), None, now_ms)
        }
    }
}
