//! Webhooks and the payloads they keep.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Client, Error, Kind, segment};

/// Payloads in one page.
pub(crate) const PAYLOAD_COUNT_MAX: usize = 50;

/// A webhook as the list shows it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Webhook {
    /// `ach…`
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) specification: Value,
    #[serde(default, rename = "notificationUrl")]
    pub(crate) notification_url: Option<String>,
    #[serde(default, rename = "cursorForNextPayload")]
    pub(crate) cursor_for_next_payload: Option<u64>,
    #[serde(default, rename = "areNotificationsEnabled")]
    pub(crate) are_notifications_enabled: Option<bool>,
    #[serde(default, rename = "isHookEnabled")]
    pub(crate) is_hook_enabled: Option<bool>,
    #[serde(default, rename = "expirationTime")]
    pub(crate) expiration_time: Option<String>,
}

/// What the creation of a webhook gives, once.
#[derive(Clone, Deserialize)]
pub(crate) struct NewWebhook {
    pub(crate) id: String,
    #[serde(rename = "macSecretBase64")]
    pub(crate) mac_secret_base64: String,
}

/// A page of payloads, oldest first. What is in a payload, capture reads.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PayloadPage {
    pub(crate) payloads: Vec<Value>,
    /// The number after the last payload of the page.
    pub(crate) cursor: u64,
    #[serde(default, rename = "mightHaveMore")]
    pub(crate) might_have_more: bool,
}

#[derive(Deserialize)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Refreshed {
    #[serde(default, rename = "expirationTime")]
    expiration_time: Option<String>,
}

impl Client {
    pub(crate) async fn webhooks(&self, base: &str) -> Result<Vec<Webhook>, Error> {
        let answer: Webhooks = self.call(Call::get(hooks(base), Some(base), Kind::Meta)).await?;
        Ok(answer.webhooks)
    }

    /// Creates a webhook. After an error that leaves open whether it exists, it may: it then dies by itself
    /// after seven days.
    pub(crate) async fn create_webhook(
        &self,
        base: &str,
        specification: &Value,
        notification_url: Option<&str>,
    ) -> Result<NewWebhook, Error> {
        let mut body = json!({ "specification": specification });
        if let Some(url) = notification_url {
            body["notificationUrl"] = url.into();
        }
        self.call(Call::with_body(Method::POST, hooks(base), base, body)).await
    }

    pub(crate) async fn delete_webhook(&self, base: &str, webhook: &str) -> Result<(), Error> {
        let mut call = Call::get(hook(base, webhook, ""), Some(base), Kind::Write);
        call.method = Method::DELETE;
        let Nothing {} = self.call(call).await?;
        Ok(())
    }

    /// Seven more days; gives the new end, if the server tells.
    pub(crate) async fn refresh_webhook(
        &self,
        base: &str,
        webhook: &str,
    ) -> Result<Option<String>, Error> {
        let mut call = Call::get(hook(base, webhook, "/refresh"), Some(base), Kind::Write);
        call.method = Method::POST;
        let answer: Refreshed = self.call(call).await?;
        Ok(answer.expiration_time)
    }

    /// Has the server ping again after it gave up.
    pub(crate) async fn enable_notifications(
        &self,
        base: &str,
        webhook: &str,
    ) -> Result<(), Error> {
        let path = hook(base, webhook, "/enableNotifications");
        let call = Call::with_body(Method::POST, path, base, json!({ "enable": true }));
        let Nothing {} = self.call(call).await?;
        Ok(())
    }

    /// Whether anything answers at an address of ours; without the token. Gives the status.
    pub(crate) async fn knock(&self, url: &str) -> Result<u16, Error> {
        let call = || format!("POST {url}");
        let answer = self.http.post(url).timeout(self.timeout).send().await;
        let answer = answer.map_err(|error| {
            if error.is_timeout() {
                Error::TimedOut { call: call(), after: self.timeout }
            } else {
                Error::Unreachable { call: call(), source: error.without_url() }
            }
        })?;
        Ok(answer.status().as_u16())
    }

    /// The payloads from number `cursor` on; fewer of them where a whole page is too large to be held.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: the first payload alone is.
    pub(crate) async fn payloads(
        &self,
        base: &str,
        webhook: &str,
        cursor: u64,
    ) -> Result<PayloadPage, Error> {
        let mut payload_count_max = PAYLOAD_COUNT_MAX;
        let (name, page): (_, PayloadPage) = loop {
            let mut call = Call::get(hook(base, webhook, "/payloads"), Some(base), Kind::Payloads);
            call.query.push(("cursor", cursor.to_string()));
            call.query.push(("limit", payload_count_max.to_string()));
            let name = call.name();
            match self.call(call).await {
                Err(Error::TooLarge { .. }) if payload_count_max > 1 => payload_count_max /= 2,
                page => break (name, page?),
            }
        };
        let count = u64::try_from(page.payloads.len()).unwrap_or(u64::MAX);
        if page.cursor < count || (page.might_have_more && count == 0) {
            let problem = format!("{count} payloads up to number {}", page.cursor);
            return Err(Error::Malformed { call: name, problem });
        }
        Ok(page)
    }
}

fn hooks(base: &str) -> String {
    format!("/v0/bases/{}/webhooks", segment(base))
}

fn hook(base: &str, webhook: &str, rest: &str) -> String {
    format!("{}/{}{rest}", hooks(base), segment(webhook))
}
