//! Pings: signed, sent, tried again, given up; and what a test may do to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::clock::iso_ms;
use super::model::State;
use super::server::Shared;
use super::transaction::Actor;

/// What happens to the next pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PingFault {
    /// It gets lost on the way, and counts as delivered.
    Lose,
    /// It is delivered twice.
    Double,
    /// It waits until the next ping has been delivered.
    Hold,
}

/// A ping ready to go out.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    base_id: String,
    hook_id: String,
    url: String,
    body: String,
    signature: String,
    retry_number: u32,
    timeout_ms: u64,
    copies: u32,
}

/// `hmac-sha256=` and the lower-case hex of the MAC over the raw body.
pub(super) fn sign(secret_base64: &str, body: &[u8]) -> Option<String> {
    let secret = STANDARD.decode(secret_base64).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).ok()?;
    mac.update(body);
    let mut signature = String::from("hmac-sha256=");
    for byte in mac.finalize().into_bytes() {
        signature.push_str(&format!("{byte:02x}"));
    }
    Some(signature)
}

fn body_of(base_id: &str, hook_id: &str, now_ms: i64) -> String {
    format!(
        r#"{{"base":{{"id":"{base_id}"}},"webhook":{{"id":"{hook_id}"}},"timestamp":"{}"}}"#,
        iso_ms(now_ms)
    )
}

impl State {
    /// Takes the pings that are due, and the time of the next one (ms).
    pub(super) fn due_pings(&mut self, now_ms: i64) -> (Vec<Letter>, Option<i64>) {
        let mut letters = Vec::new();
        let mut next_ms: Option<i64> = None;
        let timeout_ms = u64::try_from(self.config.ping_timeout_ms).unwrap_or(25_000);
        let State { world, ping_faults, held_letters, config, .. } = self;
        for base in world.bases.values_mut() {
            super::webhook::age(base, now_ms, config);
            for hook in &mut base.webhooks {
                let Some(url) = hook.notification_url.clone() else { continue };
                let is_expired = now_ms >= hook.expires_ms;
                let Some(ping) = hook.ping.as_mut().filter(|ping| !ping.is_in_flight) else {
                    continue;
                };
                if is_expired {
                    hook.ping = None;
                    continue;
                }
                if ping.due_ms > now_ms {
                    next_ms = Some(next_ms.map_or(ping.due_ms, |next| next.min(ping.due_ms)));
                    continue;
                }
                let body = body_of(&base.id, &hook.id, now_ms);
                let Some(signature) = sign(&hook.secret_base64, body.as_bytes()) else { continue };
                let mut letter = Letter {
                    base_id: base.id.clone(),
                    hook_id: hook.id.clone(),
                    url,
                    body,
                    signature,
                    retry_number: ping.retry_number,
                    timeout_ms,
                    copies: 1,
                };
                match ping_faults.pop_front() {
                    Some(PingFault::Lose) => hook.ping = None,
                    Some(PingFault::Hold) => {
                        hook.ping = None;
                        held_letters.push(letter);
                    }
                    fault => {
                        ping.is_in_flight = true;
                        letter.copies = if fault == Some(PingFault::Double) { 2 } else { 1 };
                        letters.push(letter);
                        letters.append(held_letters);
                    }
                }
            }
        }
        (letters, next_ms)
    }

    /// Notes how a ping went, and when it is tried again.
    pub(super) fn ping_went(
        &mut self,
        letter: &Letter,
        failure: Option<&str>,
        duration_ms: f64,
        now_ms: i64,
    ) {
        self.stats.ping_count += 1;
        let State { world, config, noise, stats, .. } = self;
        let Some(base) = world.bases.get_mut(&letter.base_id) else { return };
        let Some(hook) = base.webhooks.iter_mut().find(|hook| hook.id == letter.hook_id) else {
            return;
        };
        let pending = hook.ping.take();
        let is_again = pending.as_ref().is_some_and(|ping| ping.is_again);
        let Some(failure) = failure else {
            hook.last_success_ms = Some(now_ms);
            hook.last_result = Some(json!({
                "success": true, "completionTimestamp": iso_ms(now_ms), "durationMs": duration_ms,
                "retryNumber": letter.retry_number,
            }));
            if is_again {
                hook.ask_for_ping(now_ms);
            }
            return;
        };
        stats.ping_failed_count += 1;
        let will_retry = letter.retry_number < config.ping_retry_max;
        hook.last_result = Some(json!({
            "success": false, "completionTimestamp": iso_ms(now_ms), "durationMs": duration_ms,
            "retryNumber": letter.retry_number, "error": { "message": failure }, "willBeRetried": will_retry,
        }));
        if will_retry {
            // 10 s, 20 s, 40 s, … each shortened by up to a half.
            let whole_ms =
                config.ping_retry_ms.saturating_mul(1_i64 << letter.retry_number.min(20));
            let percent = i64::try_from(50 + noise.below(51)).unwrap_or(100);
            hook.ask_for_ping(now_ms + whole_ms / 100 * percent + whole_ms % 100 * percent / 100);
            if let Some(ping) = &mut hook.ping {
                ping.retry_number = letter.retry_number + 1;
            }
        } else {
            hook.is_notifying = false;
        }
    }

    /// A ping out of turn.
    pub(super) fn spurious_ping(&mut self, base_id: &str, hook_id: &str, now_ms: i64) -> bool {
        let base = self.world.bases.get_mut(base_id);
        let hook = base.and_then(|base| base.webhooks.iter_mut().find(|hook| hook.id == hook_id));
        hook.is_some_and(|hook| {
            hook.ask_for_ping(now_ms);
            hook.ping.is_some()
        })
    }

    /// Ends the processing of attachments whose time has come; returns when the next one is due (ms).
    pub(super) fn finish_attachments(&mut self, now_ms: i64) -> Option<i64> {
        let mut next_ms: Option<i64> = None;
        let mut due = Vec::new();
        for (base_id, table, record, field, cell) in self.pending_attachments() {
            let ready: Vec<i64> = cell
                .as_array()
                .into_iter()
                .flatten()
                .filter(|item| item["pending"] == true)
                .filter_map(|item| item["ready_ms"].as_i64())
                .collect();
            if ready.iter().any(|at| *at <= now_ms) {
                due.push((base_id, table, record, field, cell));
            }
            next_ms = ready.into_iter().filter(|at| *at > now_ms).chain(next_ms).min();
        }
        for (base_id, table, record, field, mut cell) in due {
            for item in cell.as_array_mut().into_iter().flatten() {
                if item["ready_ms"].as_i64().is_some_and(|at| at <= now_ms) {
                    item["pending"] = json!(false);
                }
            }
            if self.config.attachment_makes_payload {
                let outcome = self.transact(&base_id, Actor::source("system"), now_ms, |tx| {
                    tx.set(table, &record, field, cell);
                    Ok(())
                });
                if outcome.is_err() {
                    debug!("could not finish an attachment");
                }
            } else if let Some(base) = self.world.bases.get_mut(&base_id) {
                let field_id = base.tables[table].fields[field].id.clone();
                if let Some(record) = base.tables[table].records.get_mut(&record) {
                    record.cells.insert(field_id, cell);
                }
            }
        }
        next_ms
    }

    fn pending_attachments(&self) -> Vec<(String, usize, String, usize, serde_json::Value)> {
        let mut found = Vec::new();
        for base in self.world.bases.values() {
            for (index, table) in base.tables.iter().enumerate() {
                for (at, field) in
                    table.fields.iter().enumerate().filter(|(_, f)| f.kind == "multipleAttachments")
                {
                    for record in table.records.values() {
                        let Some(cell) = record.cells.get(&field.id) else { continue };
                        if cell.as_array().into_iter().flatten().any(|item| item["pending"] == true)
                        {
                            found.push((
                                base.id.clone(),
                                index,
                                record.id.clone(),
                                at,
                                cell.clone(),
                            ));
                        }
                    }
                }
            }
        }
        found
    }
}

/// Sends what is due until `stop`; woken by changes and by the clock.
pub(super) async fn keep_pinging(shared: Arc<Shared>, stop: CancellationToken) {
    let client =
        match reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "could not set up the sender of pings");
                return;
            }
        };
    while !stop.is_cancelled() {
        let now_ms = shared.clock.now_ms();
        let (letters, next_ms) = {
            let mut state = shared.lock();
            let attachment_ms = state.finish_attachments(now_ms);
            let (letters, next_ms) = state.due_pings(now_ms);
            (letters, [attachment_ms, next_ms].into_iter().flatten().min())
        };
        for letter in letters {
            let (client, shared, stop) = (client.clone(), Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = send(&client, &shared, &letter) => {}
                }
            });
        }
        let wait_ms = next_ms.map_or(60_000, |next| (next - now_ms).clamp(1, 60_000));
        // A manual clock moves by command, which wakes this task; nothing is due sooner.
        let wait_ms = if shared.clock.is_manual() { 60_000 } else { wait_ms };
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.nudge.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(1))) => {}
        }
    }
}

async fn send(client: &reqwest::Client, shared: &Shared, letter: &Letter) {
    for _ in 0..letter.copies {
        let started = Instant::now();
        let answer = client
            .post(&letter.url)
            .header("content-type", "application/json")
            .header("x-airtable-content-mac", &letter.signature)
            .timeout(Duration::from_millis(letter.timeout_ms))
            .body(letter.body.clone())
            .send()
            .await;
        let failure = match answer {
            Ok(answer) if [200, 204].contains(&answer.status().as_u16()) => None,
            Ok(answer) => Some(format!(
                "The HTTP request returned a {} status code instead of 200 or 204.",
                answer.status().as_u16()
            )),
            Err(error) if error.is_timeout() => Some("The HTTP request timed out.".to_owned()),
            Err(_) => Some("The HTTP request failed.".to_owned()),
        };
        let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
        shared.lock().ping_went(letter, failure.as_deref(), duration_ms, shared.clock.now_ms());
    }
    shared.nudge.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"base":{"id":"app00000000000000"},"webhook":{"id":"ach00000000000000"},"timestamp":"2022-02-01T21:25:05.663Z"}"#;
    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8=";

    #[test]
    fn ping_h22_vectors_of_appendix_c_and_body_byte_for_byte() {
        assert_eq!(body_of("app00000000000000", "ach00000000000000", 1_643_750_705_663), BODY);
        assert_eq!(BODY.len(), 111);
        assert_eq!(
            sign(SECRET, BODY.as_bytes()).unwrap(),
            "hmac-sha256=999f48377df7fa70d6e96cc077de57ba63231114aafd61a0e45e5fa0a40d1291"
        );
        assert_eq!(
            sign("c2VjcmV0", BODY.as_bytes()).unwrap(),
            "hmac-sha256=8bd89dd8304a4f7b1a661dfa59ba91218f210ff1dd30339081946782504616b1"
        );
        assert_ne!(sign(SECRET, format!("{BODY} ").as_bytes()), sign(SECRET, BODY.as_bytes()));
    }
}
