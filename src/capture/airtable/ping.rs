//! Receives Airtable's pings. In: `POST /airtable/{base}`, signed. Out: the poller of that base wakes. The
//! ping carries no data, and nothing in it is believed beyond its signature, what it is about, and when it was made: one
//! that somebody has overheard can't be sent again for ever.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::{model::MICROS_PER_SECOND, remote::airtable::micros};

const MAC_HEADER: &str = "x-airtable-content-mac";
const MAC_PREFIX: &str = "hmac-sha256=";
/// A ping has about 110 bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Between a ping's stamp and our clock, s; either may be ahead of the other.
const AGE_S_MAX: i64 = 5 * 60;

/// What tells the pings of a webhook from others.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PingKey {
    /// `ach…`
    pub(crate) webhook: String,
    /// base64
    pub(crate) secret: String,
}

/// Where the pings of one base go.
pub(crate) struct PingTarget {
    /// `app…`
    pub(crate) base: String,
    /// What [`super::run`] publishes.
    pub(crate) key: watch::Receiver<Option<PingKey>>,
    pub(crate) wake: Arc<Notify>,
    /// A true ping with a wrong stamp was told in the log.
    is_told: AtomicBool,
}

impl PingTarget {
    pub(crate) fn new(
        base: &str,
        key: watch::Receiver<Option<PingKey>>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { base: base.to_owned(), key, wake, is_told: AtomicBool::new(false) }
    }
}

/// What a ping says.
#[derive(Deserialize)]
struct Ping {
    base: Named,
    webhook: Named,
    timestamp: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// The receiver, for these bases by the names that the settings give them.
pub(crate) fn router(targets: HashMap<String, PingTarget>) -> Router {
    Router::new()
        .route("/airtable/{base}", post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(targets))
}

async fn receive(
    State(targets): State<Arc<HashMap<String, PingTarget>>>,
    Path(base): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let Some(target) = targets.get(&base) else { return StatusCode::NOT_FOUND };
    let Some(key) = target.key.borrow().clone() else { return StatusCode::UNAUTHORIZED };
    let header = headers.get(MAC_HEADER).and_then(|header| header.to_str().ok());
    if !header.is_some_and(|header| is_signed(&key.secret, header, &body)) {
        debug!(base, "refused a ping without a valid signature");
        return StatusCode::UNAUTHORIZED;
    }
    let now = Utc::now().timestamp_micros();
    if let Err(problem) = examine(&body, &target.base, &key.webhook, now) {
        // Once: whoever has overheard a ping could fill the log with it.
        if target.is_told.swap(true, Ordering::Relaxed) {
            debug!(base, problem, "refused a ping that is signed");
        } else {
            warn!(base, problem, "refused a ping that is signed");
        }
        return StatusCode::UNAUTHORIZED;
    }
    // Stored if nobody waits: a ping while a poll runs leads to one more poll.
    target.wake.notify_one();
    StatusCode::NO_CONTENT
}

/// Whether a signed ping is of this base and webhook, and of now (µs since 1970 UTC); else why not.
fn examine(body: &[u8], base: &str, webhook: &str, now: i64) -> Result<(), &'static str> {
    let ping: Ping = serde_json::from_slice(body).map_err(|_| "it can't be read")?;
    if ping.base.id != base || ping.webhook.id != webhook {
        return Err("it is of another base or webhook");
    }
    let at = micros(&ping.timestamp).ok_or("its time can't be read")?;
    if now.abs_diff(at) > (AGE_S_MAX * MICROS_PER_SECOND).unsigned_abs() {
        return Err(
            "it was made more than five minutes before or after now by this machine's clock: is that right?",
        );
    }
    Ok(())
}

/// Whether `header` is the signature of `body` with this secret (base64), compared in constant time.
fn is_signed(secret_base64: &str, header: &str, body: &[u8]) -> bool {
    let Ok(secret) = STANDARD.decode(secret_base64) else { return false };
    let Some(mac) = header.strip_prefix(MAC_PREFIX).and_then(lower_hex) else { return false };
    let Ok(mut expected) = Hmac::<Sha256>::new_from_slice(&secret) else { return false };
    expected.update(body);
    expected.verify_slice(&mac).is_ok()
}

/// The bytes of lower-case hex digits.
fn lower_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"base":{"id":"app00000000000000"},"webhook":{"id":"ach00000000000000"},"timestamp":"2022-02-01T21:25:05.663Z"}"#;
    const LONG_SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8=";
    const LONG_MAC: &str =
        "hmac-sha256=999f48377df7fa70d6e96cc077de57ba63231114aafd61a0e45e5fa0a40d1291";
    const SHORT_SECRET: &str = "c2VjcmV0";
    const SHORT_MAC: &str =
        "hmac-sha256=8bd89dd8304a4f7b1a661dfa59ba91218f210ff1dd30339081946782504616b1";

    #[test]
    fn ping_vectors_of_the_reference_are_accepted() {
        assert_eq!(BODY.len(), 111);
        assert!(is_signed(LONG_SECRET, LONG_MAC, BODY));
        assert!(is_signed(SHORT_SECRET, SHORT_MAC, BODY));
    }

    #[test]
    fn ping_wrong_signatures_are_refused() {
        let mut spaced = BODY.to_vec();
        spaced.push(b' ');
        assert!(!is_signed(SHORT_SECRET, SHORT_MAC, &spaced));
        let (prefix, hex) = SHORT_MAC.split_at(MAC_PREFIX.len());
        assert!(!is_signed(SHORT_SECRET, &format!("{prefix}{}", hex.to_uppercase()), BODY));
        assert!(!is_signed(SHORT_SECRET, hex, BODY));
        let base64 = STANDARD.encode(lower_hex(hex).unwrap());
        assert!(!is_signed(SHORT_SECRET, &format!("{prefix}{base64}"), BODY));
        assert!(!is_signed(&STANDARD.encode(SHORT_SECRET), SHORT_MAC, BODY));
        assert!(!is_signed("not base64!", SHORT_MAC, BODY));
        assert!(!is_signed(SHORT_SECRET, MAC_PREFIX, BODY));
        assert!(!is_signed(SHORT_SECRET, &format!("{SHORT_MAC}0"), BODY));
        assert!(!is_signed(LONG_SECRET, SHORT_MAC, BODY));
    }

    #[test]
    fn ping_of_another_time_base_or_webhook_is_refused() {
        let at = micros("2022-02-01T21:25:05.663Z").unwrap();
        let (base, webhook) = ("app00000000000000", "ach00000000000000");
        let limit = AGE_S_MAX * MICROS_PER_SECOND;
        for now in [at - limit, at, at + limit] {
            assert_eq!(examine(BODY, base, webhook, now), Ok(()));
        }
        for now in [at - limit - 1, at + limit + 1, i64::MIN, i64::MAX] {
            assert!(examine(BODY, base, webhook, now).unwrap_err().contains("five minutes"));
        }
        assert!(examine(BODY, "app1", webhook, at).unwrap_err().contains("another base"));
        assert!(examine(BODY, base, "ach1", at).unwrap_err().contains("another base"));
        for body in [&b"{}"[..], b"", b"[]", br#"{"base":{"id":"app00000000000000"}}"#] {
            assert!(examine(body, base, webhook, at).unwrap_err().contains("read"));
        }
        let later = String::from_utf8(BODY.to_vec()).unwrap().replace("2022", "soon");
        assert!(examine(later.as_bytes(), base, webhook, at).unwrap_err().contains("time"));
    }

    fn signed(secret: &str, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret).unwrap()).unwrap();
        mac.update(body.as_bytes());
        let mac = mac.finalize().into_bytes();
        let hex = mac.iter().map(|byte| format!("{byte:02x}"));
        format!("{MAC_PREFIX}{}", hex.collect::<String>())
    }

    #[tokio::test]
    async fn ping_wakes_the_poller_of_its_base_and_nobody_else() {
        let wake = Arc::new(Notify::new());
        let key = PingKey { webhook: "ach1".into(), secret: SHORT_SECRET.into() };
        let (keep, seen) = watch::channel(Some(key.clone()));
        let target = PingTarget::new("app1", seen, Arc::clone(&wake));
        let targets = Arc::new(HashMap::from([(String::from("reseau"), target)]));
        let body = |webhook: &str, at: chrono::DateTime<Utc>| {
            let at = at.to_rfc3339();
            format!(
                r#"{{"base":{{"id":"app1"}},"webhook":{{"id":"{webhook}"}},"timestamp":"{at}"}}"#
            )
        };
        let ping = async |base: &str, body: &str, mac: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(mac) = mac {
                headers.insert(MAC_HEADER, mac.parse().unwrap());
            }
            let body = Bytes::from(body.to_owned());
            receive(State(Arc::clone(&targets)), Path(base.into()), headers, body).await
        };
        let now = body("ach1", Utc::now());
        let mac = signed(SHORT_SECRET, &now);
        let before = body("ach1", Utc::now() - chrono::TimeDelta::minutes(6));
        let other = body("ach2", Utc::now());
        let woken = wake.notified();
        tokio::pin!(woken);
        assert!(!woken.as_mut().enable());
        assert_eq!(ping("other", &now, Some(&mac)).await, StatusCode::NOT_FOUND);
        for (body, mac) in [
            (&now, None),
            (&now, Some(LONG_MAC.to_owned())),
            (&before, Some(signed(SHORT_SECRET, &before))),
            (&other, Some(signed(SHORT_SECRET, &other))),
        ] {
            let refused = ping("reseau", body, mac.as_deref()).await;
            assert_eq!(refused, StatusCode::UNAUTHORIZED);
        }
        assert!(!woken.as_mut().enable());
        assert_eq!(ping("reseau", &now, Some(&mac)).await, StatusCode::NO_CONTENT);
        woken.await;
        // Without a secret nothing can be believed.
        keep.send_replace(None);
        assert_eq!(ping("reseau", &now, Some(&mac)).await, StatusCode::UNAUTHORIZED);
    }
}
