//! The upkeep of our webhook: made, found again by its stored id, refreshed, pinging, remade when it is gone
//! or dead. Other people's webhooks are left alone.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::remote::airtable::{Client, NewWebhook, Webhook, micros};

use super::{BaseSettings, Error, schema::Plan};

/// Webhooks live 7 days from the last refresh or poll.
const REFRESH_BELOW: Duration = Duration::from_hours(6 * 24);
const DATA_TYPES: [&str; 3] = ["tableData", "tableFields", "tableMetadata"];

/// How the stored webhook was found.
pub(super) enum Found {
    /// It works; the number of the next payload, if it tells.
    Alive { next: Option<u64> },
    /// It has to be replaced; the reason for people. `is_listed`: it still takes one of the ten places.
    Dead { reason: String, is_listed: bool },
}

/// What we ask to be told of. No lists of watched fields: the deletion of one would kill the webhook.
pub(super) fn specification(plan: &Plan) -> Value {
    let mut filters = json!({ "dataTypes": DATA_TYPES });
    if let Some(table) = only_table(plan) {
        filters["recordChangeScope"] = table.into();
    }
    json!({ "options": { "filters": filters, "includes": { "includePreviousCellValues": true } } })
}

fn only_table(plan: &Plan) -> Option<&str> {
    let tables = plan.table_ids();
    if tables.len() == 1 { tables.into_iter().next() } else { None }
}

/// Looks the webhook `id` up, and has it live on and ping as it should.
pub(super) async fn check(
    client: &Client,
    base: &BaseSettings,
    plan: &Plan,
    id: &str,
) -> Result<Found, Error> {
    let hooks = client.webhooks(&base.id).await?;
    let Some(hook) = hooks.iter().find(|hook| hook.id == id) else {
        return Ok(Found::Dead {
            reason: String::from("it expired or was deleted"),
            is_listed: false,
        });
    };
    let dead = |reason: &str| Ok(Found::Dead { reason: reason.into(), is_listed: true });
    if hook.is_hook_enabled == Some(false) {
        return dead("it expired or its filters died");
    }
    if !covers(hook, plan) {
        return dead("the mapping needs another one");
    }
    if hook.notification_url.as_deref() != base.notification_url.as_deref() {
        return dead("its notification URL is not the one of the settings");
    }
    if hook.notification_url.is_some() && hook.are_notifications_enabled == Some(false) {
        client.enable_notifications(&base.id, id).await?;
        info!(webhook = id, "airtable had given up pinging; asked it to go on");
    }
    let expires_at = hook.expiration_time.as_deref().and_then(micros);
    let left = expires_at.map(|at| at - Utc::now().timestamp_micros());
    if left.is_some_and(|left| u128::try_from(left).unwrap_or(0) < REFRESH_BELOW.as_micros()) {
        client.refresh_webhook(&base.id, id).await?;
    }
    Ok(Found::Alive { next: hook.cursor_for_next_payload })
}

/// Whether everything in the plan is told to this webhook.
fn covers(hook: &Webhook, plan: &Plan) -> bool {
    let filters = &hook.specification["options"]["filters"];
    if filters.is_null() {
        // The list does not show it.
        return true;
    }
    let types = filters["dataTypes"].as_array();
    let has = |wanted: &&str| types.is_some_and(|types| types.iter().any(|it| it == wanted));
    let scope = filters["recordChangeScope"].as_str();
    DATA_TYPES.iter().all(has) && (scope.is_none() || scope == only_table(plan))
}

/// Makes a webhook. Not to be dropped half-way: a webhook nobody knows of takes one of ten places for a week.
pub(super) async fn create(
    client: &Client,
    base: &BaseSettings,
    plan: &Plan,
) -> Result<NewWebhook, Error> {
    let specification = specification(plan);
    let url = base.notification_url.as_deref();
    match client.create_webhook(&base.id, &specification, url).await {
        Ok(hook) => {
            info!(webhook = hook.id, base = base.name, "made a webhook");
            Ok(hook)
        }
        Err(error) if error.kind().is_some_and(|kind| kind.starts_with("TOO_MANY_WEBHOOKS")) => {
            let hooks = client.webhooks(&base.id).await?;
            let named = |hook: &Webhook| match &hook.notification_url {
                Some(url) => format!("{} (pings {url})", hook.id),
                None => format!("{} (pings nobody)", hook.id),
            };
            Err(Error::TooManyWebhooks {
                base: base.name.clone(),
                hooks: hooks.iter().map(named).collect(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives the place of our own dead webhook back. A failure costs a place for some days, no more.
pub(super) async fn delete(client: &Client, base: &BaseSettings, id: &str) {
    if let Err(error) = client.delete_webhook(&base.id, id).await {
        warn!(webhook = id, %error, "could not delete the old webhook");
    }
}
