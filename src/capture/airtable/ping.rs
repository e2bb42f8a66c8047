//! Receives Airtable's pings. In: `POST /airtable/{base}`, signed. Out: the poller of that base wakes. The
//! ping carries no data, and nothing in it is believed beyond its signature.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::{Notify, watch};
use tracing::debug;

const MAC_HEADER: &str = "x-airtable-content-mac";
const MAC_PREFIX: &str = "hmac-sha256=";
/// A ping has about 110 bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Where the pings of one base go.
pub(crate) struct PingTarget {
    /// What [`super::run`] publishes.
    pub(crate) secret: watch::Receiver<Option<String>>,
    pub(crate) wake: Arc<Notify>,
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
    let Some(secret) = target.secret.borrow().clone() else { return StatusCode::UNAUTHORIZED };
    let header = headers.get(MAC_HEADER).and_then(|header| header.to_str().ok());
    if !header.is_some_and(|header| is_signed(&secret, header, &body)) {
        debug!(base, "refused a ping without a valid signature");
        return StatusCode::UNAUTHORIZED;
    }
    // Stored if nobody waits: a ping while a poll runs leads to one more poll.
    target.wake.notify_one();
    StatusCode::NO_CONTENT
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

    #[tokio::test]
    async fn ping_wakes_the_poller_of_its_base_and_nobody_else() {
        let wake = Arc::new(Notify::new());
        let (keep, secret) = watch::channel(Some(SHORT_SECRET.to_owned()));
        let target = PingTarget { secret, wake: Arc::clone(&wake) };
        let targets = Arc::new(HashMap::from([(String::from("reseau"), target)]));
        let ping = async |base: &str, mac: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(mac) = mac {
                headers.insert(MAC_HEADER, mac.parse().unwrap());
            }
            let body = Bytes::from_static(BODY);
            receive(State(Arc::clone(&targets)), Path(base.into()), headers, body).await
        };
        assert_eq!(ping("other", Some(SHORT_MAC)).await, StatusCode::NOT_FOUND);
        assert_eq!(ping("reseau", None).await, StatusCode::UNAUTHORIZED);
        assert_eq!(ping("reseau", Some(LONG_MAC)).await, StatusCode::UNAUTHORIZED);
        let woken = wake.notified();
        tokio::pin!(woken);
        assert!(!woken.as_mut().enable());
        assert_eq!(ping("reseau", Some(SHORT_MAC)).await, StatusCode::NO_CONTENT);
        woken.await;
        // Without a secret nothing can be believed.
        keep.send_replace(None);
        assert_eq!(ping("reseau", Some(SHORT_MAC)).await, StatusCode::UNAUTHORIZED);
    }
}
