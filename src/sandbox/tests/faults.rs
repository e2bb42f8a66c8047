//! A11 and T5 of the checklist: bad days over real connections, before and after a write was carried out.

use std::error::Error as _;

use super::super::{Fault, FaultKind};
use super::*;

/// What a client sees of a call that goes wrong.
#[derive(Debug, PartialEq)]
enum Sight {
    Status(u16),
    /// No answer; whether the connection was reset (else it ended).
    NoAnswer {
        is_reset: bool,
    },
    /// A status, then a body that ends too early.
    HalfABody,
}

async fn sight(bench: &Bench, body: &Value) -> Sight {
    let request = bench.request("POST", &format!("/v0/{AUTRES}"), Some(body));
    match request.timeout(Duration::from_secs(20)).send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            match answer.text().await {
                Ok(_) => Sight::Status(status),
                Err(_) => Sight::HalfABody,
            }
        }
        Err(error) => {
            assert!(!error.is_timeout(), "the sandbox has to end it: {error:?}");
            let mut cause = error.source();
            let mut is_reset = false;
            while let Some(error) = cause {
                let io = error.downcast_ref::<std::io::Error>();
                is_reset |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset);
                cause = error.source();
            }
            Sight::NoAnswer { is_reset }
        }
    }
}

#[tokio::test]
async fn fault_a11_each_kind_before_and_after_the_write() {
    let bench = Bench::new().await;
    let ended = || Sight::NoAnswer { is_reset: false };
    for (kind, wanted) in [
        (FaultKind::RateLimit, Sight::Status(429)),
        (FaultKind::Billing, Sight::Status(429)),
        (FaultKind::Error500, Sight::Status(500)),
        (FaultKind::Error502, Sight::Status(502)),
        (FaultKind::Error503, Sight::Status(503)),
        (FaultKind::Timeout, ended()),
        (FaultKind::Drop, ended()),
        (FaultKind::Reset, Sight::NoAnswer { is_reset: true }),
    ] {
        for is_applied in [false, true] {
            let fault = Fault {
                applied: is_applied,
                delay_ms: Some(50),
                ..Fault::of_requests(kind, "create", 1)
            };
            bench.sandbox.inject(fault);
            let before = bench.sandbox.records(PLAYGROUND_BASE, "Autres").len();
            let body = json!({ "fields": { "Nom": "essai" } });
            assert_eq!(sight(&bench, &body).await, wanted, "{kind:?}");
            let after = bench.sandbox.records(PLAYGROUND_BASE, "Autres").len();
            assert_eq!(after - before, usize::from(is_applied), "{kind:?} applied: {is_applied}");
            // The next call is as on any day.
            assert_eq!(sight(&bench, &body).await, Sight::Status(200), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn fault_a11_half_an_answer_and_a_slow_one_are_carried_out() {
    let bench = Bench::new().await;
    let body = json!({ "fields": { "Nom": "x".repeat(2000) } });
    let before = bench.sandbox.records(PLAYGROUND_BASE, "Autres").len();
    bench.sandbox.inject(Fault::of_requests(FaultKind::Truncate, "create", 1));
    assert_eq!(sight(&bench, &body).await, Sight::HalfABody);
    bench
        .sandbox
        .inject(Fault { delay_ms: Some(300), ..Fault::of_requests(FaultKind::Slow, "create", 1) });
    let began = std::time::Instant::now();
    assert_eq!(sight(&bench, &body).await, Sight::Status(200));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(bench.sandbox.records(PLAYGROUND_BASE, "Autres").len(), before + 2);
}

#[tokio::test]
async fn fault_a11_bodies_and_retry_after() {
    let bench = Bench::new().await;
    let next =
        |kind: FaultKind, retry_after: Option<u64>| Fault { retry_after, ..Fault::next(kind) };
    bench.sandbox.inject(next(FaultKind::Error503, None));
    let plain = bench.get(AUTRES).await;
    assert_eq!(plain.retry_after, None);
    let message = "Server encountered an error while processing your request, and it is safe to retry the request";
    plain.refused_saying(503, "RETRIABLE_ERROR", message);
    bench.sandbox.inject(next(FaultKind::Error503, Some(7)));
    assert_eq!(bench.get(AUTRES).await.retry_after.as_deref(), Some("7"));
    bench.sandbox.inject(next(FaultKind::RateLimit, Some(30)));
    assert_eq!(bench.get(AUTRES).await.retry_after.as_deref(), Some("30"));
    bench.sandbox.inject(next(FaultKind::Error502, None));
    let gateway = bench.get(AUTRES).await;
    assert_eq!(gateway.kind, "text/html");
    assert!(gateway.text.starts_with("<html>"));
    // A fault of one kind of call passes the others over.
    bench.sandbox.inject(Fault::of_requests(FaultKind::Error500, "payloads", 1));
    bench.get(AUTRES).await.ok();
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    assert_eq!(bench.get(&format!("{HOOKS}/{hook}/payloads")).await.status, 500);
    bench.get(&format!("{HOOKS}/{hook}/payloads")).await.ok();
}

#[tokio::test]
async fn fault_t5_scripts_name_requests_by_number_kind_method_and_path() {
    let bench = Bench::new().await;
    for fault in [
        json!({ "kind": "error500", "number": 3 }),
        json!({ "kind": "error502", "method": "post" }),
        json!({ "kind": "error503", "path": "Membres", "skip": 1, "count": 2 }),
    ] {
        bench.control("POST", "faults", fault).await;
    }
    let statuses = async |paths: &[&str]| {
        let mut seen = Vec::new();
        for path in paths {
            seen.push(bench.get(path).await.status);
        }
        seen
    };
    assert_eq!(statuses(&[AUTRES, AUTRES, AUTRES, AUTRES]).await, [200, 200, 500, 200]);
    assert_eq!(statuses(&[MEMBRES, MEMBRES, MEMBRES, MEMBRES]).await, [200, 503, 503, 200]);
    assert_eq!(bench.post(AUTRES, json!({ "fields": {} })).await.status, 502);
    assert_eq!(bench.control("GET", "faults", Value::Null).await, json!([]));
    bench.control("POST", "faults", json!({ "kind": "drop", "count": 9 })).await;
    bench.control("DELETE", "faults", Value::Null).await;
    bench.get(AUTRES).await.ok();
}

#[tokio::test]
async fn fault_l5_a_restart_forgets_every_listing() {
    let bench = Bench::new().await;
    let offset = text(&bench.get(MEMBRES).await.ok()["offset"]);
    bench.sandbox.inject(Fault::next(FaultKind::ForgetListings));
    let seen = bench.get(&format!("{MEMBRES}?offset={offset}")).await;
    seen.refused(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE");
}

#[tokio::test]
async fn fault_h27_hooks_expire_die_and_vanish_on_demand() {
    let bench = Bench::new().await;
    for (what, listed, payloads) in [("expire", true, 1), ("dead", true, 1), ("delete", false, 0)] {
        let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
        bench.record(AUTRES, json!({})).await;
        bench.sandbox.disturb_webhooks(PLAYGROUND_BASE, Some(&hook), what, "INVALID_HOOK").unwrap();
        bench.record(AUTRES, json!({})).await;
        assert_eq!(!bench.listed_hook(&hook).await.is_null(), listed, "{what}");
        if listed {
            assert_eq!(bench.payloads(&hook).await.len(), payloads, "{what}");
        }
    }
}
