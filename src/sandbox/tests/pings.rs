//! H22 to H26 of the checklist: pings, to a receiver that may fail.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

use super::super::PingFault;
use super::*;

const AFTER_THE_DELAY: Duration = Duration::from_millis(20);
/// As a status: the receiver answers after a second only.
const LATE: u16 = 0;

#[derive(Default)]
struct Mailbox {
    status: AtomicU16,
    letters: Mutex<Vec<(Vec<u8>, HeaderMap)>>,
}

/// A receiver of pings that answers as it is told.
struct Receiver {
    url: String,
    mailbox: Arc<Mailbox>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(status: u16) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.status.store(status, Ordering::SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let kept = Arc::clone(&mailbox);
        let router = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let kept = Arc::clone(&kept);
            async move {
                kept.letters.lock().unwrap().push((body.to_vec(), headers));
                let status = kept.status.load(Ordering::SeqCst);
                if status == LATE {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, mailbox, server }
    }

    fn answer(&self, status: u16) {
        self.mailbox.status.store(status, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.mailbox.letters.lock().unwrap().len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn notifying(bench: &Bench, receiver: &Receiver) -> Value {
    let options = json!({ "filters": { "dataTypes": ["tableData"] } });
    let wish = json!({ "notificationUrl": receiver.url, "specification": { "options": options } });
    bench.post(HOOKS, wish).await.ok()
}

/// Writes a record and lets the ping for it go.
async fn write(bench: &Bench) {
    bench.record(AUTRES, json!({})).await;
    bench.sandbox.advance(AFTER_THE_DELAY);
}

async fn result(bench: &Bench, hook: &str, retry_number: u32) -> Value {
    bench
        .until(async || {
            let listed = bench.listed_hook(hook).await;
            (listed["lastNotificationResult"]["retryNumber"] == retry_number).then_some(listed)
        })
        .await
}

async fn received(bench: &Bench, receiver: &Receiver, count: usize) {
    bench.until(async || (receiver.count() >= count).then_some(())).await;
    assert_eq!(receiver.count(), count);
}

#[tokio::test]
async fn ping_h22_body_header_and_signature_on_the_wire() {
    let (bench, receiver) = (Bench::new().await, Receiver::start(200).await);
    let hook = notifying(&bench, &receiver).await;
    write(&bench).await;
    received(&bench, &receiver, 1).await;
    let (body, headers) = receiver.mailbox.letters.lock().unwrap().remove(0);
    let id = text(&hook["id"]);
    let wanted = format!(
        r#"{{"base":{{"id":"{PLAYGROUND_BASE}"}},"webhook":{{"id":"{id}"}},"timestamp":"2026-04-24T15:07:42.527Z"}}"#
    );
    assert_eq!(String::from_utf8(body.clone()).unwrap(), wanted);
    assert_eq!(headers["content-type"], "application/json");
    let signature =
        super::super::ping::sign(hook["macSecretBase64"].as_str().unwrap(), &body).unwrap();
    assert_eq!(headers["x-airtable-content-mac"], signature.as_str());
}

#[tokio::test]
async fn ping_h23_h24_tried_thirteen_times_more_then_given_up_while_payloads_go_on() {
    let (bench, receiver) = (Bench::new().await, Receiver::start(405).await);
    let hook = text(&notifying(&bench, &receiver).await["id"]);
    write(&bench).await;
    let mut wait = Duration::from_secs(10);
    for retry_number in 0..=13 {
        let listed = result(&bench, &hook, retry_number).await;
        let mut seen = listed["lastNotificationResult"].clone();
        assert!(seen["durationMs"].as_f64().unwrap() > 0.0);
        seen.as_object_mut().unwrap().remove("durationMs");
        let completed = seen.as_object_mut().unwrap().remove("completionTimestamp").unwrap();
        assert_eq!(text(&completed).len(), "2026-04-24T15:09:25.082Z".len());
        let wanted = json!({
            "success": false, "retryNumber": retry_number, "willBeRetried": retry_number < 13,
            "error": { "message": "The HTTP request returned a 405 status code instead of 200 or 204." },
        });
        assert_eq!(seen, wanted);
        assert_eq!(listed["isHookEnabled"], true);
        assert_eq!(listed["areNotificationsEnabled"], retry_number < 13);
        assert_eq!(listed["lastSuccessfulNotificationTime"], Value::Null);
        if retry_number == 2 {
            // What comes while a try is pending is covered by it.
            bench.record(AUTRES, json!({})).await;
        }
        bench.sandbox.advance(wait);
        wait *= 2;
    }
    assert_eq!(receiver.count(), 14);
    bench.record(AUTRES, json!({})).await;
    assert_eq!(bench.payloads(&hook).await.len(), 3);
}

#[tokio::test]
async fn ping_h23_h24_success_is_200_or_204_and_a_late_answer_is_none() {
    let bench = Bench::with(|config| config.ping_timeout_ms = 100).await;
    let receiver = Receiver::start(204).await;
    let hook = text(&notifying(&bench, &receiver).await["id"]);
    for status in [204, 200] {
        receiver.answer(status);
        write(&bench).await;
        let listed = bench
            .until(async || {
                let listed = bench.listed_hook(&hook).await;
                (listed["lastNotificationResult"]["success"] == true).then_some(listed)
            })
            .await;
        let keys: Vec<&String> =
            listed["lastNotificationResult"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["completionTimestamp", "durationMs", "retryNumber", "success"]);
        // Rounded to the second.
        assert!(listed["lastSuccessfulNotificationTime"].as_str().unwrap().contains(".000Z"));
        bench.sandbox.advance(Duration::from_secs(1));
    }
    for (status, message) in [
        (201, "The HTTP request returned a 201 status code instead of 200 or 204."),
        (302, "The HTTP request returned a 302 status code instead of 200 or 204."),
        (LATE, "The HTTP request timed out."),
    ] {
        receiver.answer(status);
        bench
            .control(
                "POST",
                "pings",
                json!({ "do": "send", "base": PLAYGROUND_BASE, "webhook": hook }),
            )
            .await;
        bench
            .until(async || {
                let listed = bench.listed_hook(&hook).await;
                (listed["lastNotificationResult"]["error"]["message"] == message).then_some(())
            })
            .await;
        receiver.answer(200);
        bench.sandbox.advance(Duration::from_secs(10));
        bench
            .until(async || {
                let listed = bench.listed_hook(&hook).await;
                (listed["lastNotificationResult"]["success"] == true).then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn ping_h25_lost_doubled_held_out_of_turn_and_gathered() {
    let (bench, receiver) = (Bench::new().await, Receiver::start(200).await);
    let hook = text(&notifying(&bench, &receiver).await["id"]);
    let time = |at: usize| {
        let letters = receiver.mailbox.letters.lock().unwrap();
        text(&serde_json::from_slice::<Value>(&letters[at].0).unwrap()["timestamp"])
    };
    // Several changes within the delay make one.
    for _ in 0..3 {
        bench.record(AUTRES, json!({})).await;
    }
    bench.sandbox.advance(AFTER_THE_DELAY);
    received(&bench, &receiver, 1).await;
    result(&bench, &hook, 0).await;

    bench.sandbox.inject_ping(PingFault::Double);
    write(&bench).await;
    received(&bench, &receiver, 3).await;
    assert_eq!(time(1), time(2));

    bench.sandbox.inject_ping(PingFault::Lose);
    write(&bench).await;
    bench.until(async || (bench.sandbox.shared.lock().ping_faults.is_empty()).then_some(())).await;
    assert_eq!(receiver.count(), 3);
    assert_eq!(bench.payloads(&hook).await.len(), 5, "its payload is there all the same");

    bench.sandbox.inject_ping(PingFault::Hold);
    write(&bench).await;
    bench.until(async || (bench.sandbox.shared.lock().ping_faults.is_empty()).then_some(())).await;
    write(&bench).await;
    received(&bench, &receiver, 5).await;
    assert_ne!(time(3), time(4));

    bench
        .until(async || (bench.sandbox.stats()["ping_count"].as_u64() >= Some(5)).then_some(()))
        .await;
    bench
        .control("POST", "pings", json!({ "do": "send", "base": PLAYGROUND_BASE, "webhook": hook }))
        .await;
    received(&bench, &receiver, 6).await;
    assert_eq!(bench.payloads(&hook).await.len(), 7, "a ping without a payload");
}

#[tokio::test]
async fn ping_h26_enabling_pings_for_the_backlog_on_demand_only() {
    for pings in [false, true] {
        let bench = Bench::with(|config| config.enabling_pings_backlog = pings).await;
        let receiver = Receiver::start(200).await;
        let hook = text(&notifying(&bench, &receiver).await["id"]);
        let path = format!("{HOOKS}/{hook}/enableNotifications");
        bench.post(&path, json!({ "enable": false })).await.ok();
        write(&bench).await;
        bench.post(&path, json!({ "enable": true })).await.ok();
        if pings {
            received(&bench, &receiver, 1).await;
            result(&bench, &hook, 0).await;
        }
        write(&bench).await;
        bench.until(async || (receiver.count() > usize::from(pings)).then_some(())).await;
        assert_eq!(receiver.count(), usize::from(pings) + 1);
    }
}
