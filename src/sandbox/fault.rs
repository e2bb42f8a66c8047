//! Faults on demand: a request, found by its number or by what it is, is answered as a bad day would.

use serde::{Deserialize, Serialize};

use super::limit::{billing_refusal, refusal};
use super::model::State;
use super::reply::{Reply, error, forbidden_or_unknown, unauthenticated};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 429 of the rate limit, without a penalty.
    RateLimit,
    /// 429 of the monthly quota.
    Billing,
    /// 401: the token is not known.
    Unauthorized,
    /// 403: the token lacks a scope, or the base.
    Forbidden,
    /// 500 with an empty object.
    Error500,
    /// 502 with an HTML body.
    Error502,
    /// 503 `RETRIABLE_ERROR`.
    Error503,
    /// No answer for `delay_ms` (default 60 s), then the connection ends.
    Timeout,
    /// The connection is reset (RST).
    Reset,
    /// The connection ends without an answer (FIN).
    Drop,
    /// Half of the body arrives, then the connection ends.
    Truncate,
    /// The right answer, `delay_ms` late.
    Slow,
    /// Every listing under way is forgotten.
    ForgetListings,
}

/// A fault that waits for its request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// Only the request with this number (the first to /v0 is 1).
    #[serde(default)]
    pub number: Option<u64>,
    /// Only this method.
    #[serde(default)]
    pub method: Option<String>,
    /// Only paths that contain this text (decoded).
    #[serde(default)]
    pub path: Option<String>,
    /// Only this kind of request: `list`, `get`, `create`, `update`, `delete`, `payloads`, `schema`, …
    #[serde(default)]
    pub request: Option<String>,
    /// Matching requests that go well first.
    #[serde(default)]
    pub skip: u64,
    /// How many requests it hits.
    #[serde(default = "once")]
    pub count: u64,
    /// The request is carried out before its answer goes wrong.
    #[serde(default)]
    pub applied: bool,
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// Seconds in a `Retry-After` header.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

fn once() -> u64 {
    1
}

impl Fault {
    /// Hits the next request.
    pub fn next(kind: FaultKind) -> Self {
        Self {
            kind,
            number: None,
            method: None,
            path: None,
            request: None,
            skip: 0,
            count: 1,
            applied: false,
            delay_ms: None,
            retry_after: None,
        }
    }

    /// Hits the next `count` requests of a kind (`create`, `list`, `payloads`, …).
    pub fn of_requests(kind: FaultKind, request: &str, count: u64) -> Self {
        Self { request: Some(request.into()), count, ..Self::next(kind) }
    }

    /// Carries the request out before its answer goes wrong.
    #[must_use]
    pub fn after_the_write(self) -> Self {
        Self { applied: true, ..self }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// The fault that this request meets, used up by one.
    pub(super) fn take(
        &mut self,
        number: u64,
        method: &str,
        path: &str,
        request: &str,
    ) -> Option<Fault> {
        for index in 0..self.0.len() {
            let fault = &mut self.0[index];
            let is_hit = fault.number.is_none_or(|wanted| wanted == number)
                && fault.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && fault.path.as_deref().is_none_or(|wanted| path.contains(wanted))
                && fault.request.as_deref().is_none_or(|wanted| wanted == request);
            if !is_hit {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.count = fault.count.saturating_sub(1);
            let hit = fault.clone();
            if hit.count == 0 {
                self.0.remove(index);
            }
            return Some(hit);
        }
        None
    }
}

/// The answer of a fault that has one of its own.
pub(super) fn reply(fault: &Fault, state: &State) -> Option<Reply> {
    let mut reply = match fault.kind {
        FaultKind::RateLimit => *refusal(&state.config),
        FaultKind::Billing => *billing_refusal(),
        FaultKind::Unauthorized => *unauthenticated(),
        FaultKind::Forbidden => *forbidden_or_unknown(),
        FaultKind::Error500 => Reply::new(500, super::reply::JSON, "{}"),
        FaultKind::Error502 => Reply::new(
            502,
            "text/html",
            "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n",
        ),
        FaultKind::Error503 => *error(
            503,
            "RETRIABLE_ERROR",
            "Server encountered an error while processing your request, and it is safe to retry the request",
        ),
        _ => return None,
    };
    if let Some(seconds) = fault.retry_after {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_t5_is_addressed_by_request_number() {
        let mut faults =
            Faults(vec![Fault { number: Some(3), ..Fault::next(FaultKind::Error500) }]);
        assert!(faults.take(1, "GET", "/v0/x", "list").is_none());
        assert!(faults.take(3, "GET", "/v0/x", "list").is_some());
        assert!(faults.take(3, "GET", "/v0/x", "list").is_none());
    }

    #[test]
    fn fault_t5_skips_then_hits_as_often_as_asked() {
        let fault = Fault { skip: 1, ..Fault::of_requests(FaultKind::Error503, "create", 2) };
        let mut faults = Faults(vec![fault]);
        let hits: Vec<bool> =
            (0..5).map(|n| faults.take(n, "POST", "/v0/x", "create").is_some()).collect();
        assert_eq!(hits, [false, true, true, false, false]);
    }
}
