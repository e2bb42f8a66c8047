//! Rate limits: 5 requests a second to a base, 50 of a user, the month's quota, and the penalty.

use std::collections::{BTreeMap, VecDeque};

use super::config::Config;
use super::reply::{Answer, JSON, Reply, error};

const SECOND_MS: i64 = 1000;
const MESSAGE: &str = "Rate limit exceeded. Please try again later";

/// What was called when, by base and by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    windows: BTreeMap<String, Window>,
    /// Calls that counted against the month's quota.
    pub(super) month_count: u64,
}

#[derive(Clone, Debug, Default)]
struct Window {
    /// Accepted requests of the last second.
    accepted_ms: VecDeque<i64>,
    penalty_until_ms: i64,
}

impl Window {
    fn admit(&mut self, now_ms: i64, count_max: usize, config: &Config) -> bool {
        if now_ms < self.penalty_until_ms {
            if config.refused_extends_penalty {
                self.penalty_until_ms = now_ms + config.penalty_ms;
            }
            return false;
        }
        while self.accepted_ms.front().is_some_and(|at| at + SECOND_MS <= now_ms) {
            self.accepted_ms.pop_front();
        }
        if self.accepted_ms.len() >= count_max {
            self.penalty_until_ms = now_ms + config.penalty_ms;
            return false;
        }
        self.accepted_ms.push_back(now_ms);
        true
    }
}

impl Limits {
    /// Counts a call of `user` to `base` (none: a call to no base).
    ///
    /// # Errors
    /// The 429 that Airtable answers.
    pub(super) fn admit(
        &mut self,
        base: Option<&str>,
        user: &str,
        is_meta: bool,
        now_ms: i64,
        config: &Config,
    ) -> Answer<()> {
        if config.limits {
            let user_window = self.windows.entry(format!("user {user}")).or_default();
            if !user_window.admit(now_ms, config.user_requests_per_second, config) {
                return Err(refusal(config));
            }
            if let Some(base) = base {
                let base_window = self.windows.entry(format!("base {base}")).or_default();
                if !base_window.admit(now_ms, config.base_requests_per_second, config) {
                    return Err(refusal(config));
                }
            }
        }
        if let Some(quota) = config.monthly_quota
            && !(is_meta && config.quota_spares_meta)
        {
            if self.month_count >= quota {
                return Err(billing_refusal());
            }
            self.month_count += 1;
        }
        Ok(())
    }

    pub(super) fn forgive(&mut self) {
        self.windows.clear();
    }
}

/// The 429 of the rate limit, in the form that the configuration asks for.
pub(super) fn refusal(config: &Config) -> Box<Reply> {
    let mut reply = if config.rate_limit_body == "singular" {
        error(429, "RATE_LIMIT_REACHED", MESSAGE)
    } else {
        let body =
            format!(r#"{{"errors":[{{"error":"RATE_LIMIT_REACHED","message":"{MESSAGE}"}}]}}"#);
        Box::new(Reply::new(429, JSON, body))
    };
    if let Some(seconds) = config.retry_after_seconds {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

/// The 429 of the monthly quota.
pub(super) fn billing_refusal() -> Box<Reply> {
    error(
        429,
        "PUBLIC_API_BILLING_LIMIT_EXCEEDED",
        "API billing plan limit exceeded. You've reached the maximum number of requests allowed for this month.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(limits: &mut Limits, base: &str, user: &str, now_ms: i64, config: &Config) -> bool {
        limits.admit(Some(base), user, false, now_ms, config).is_ok()
    }

    #[test]
    fn rate_limit_r1_sixth_request_in_a_second_is_refused() {
        let (mut limits, config) = (Limits::default(), Config::default());
        assert!((0..5).all(|i| admits(&mut limits, "a", "u", i, &config)));
        assert!(!admits(&mut limits, "a", "u", 999, &config));
        assert!(admits(&mut limits, "b", "u", 999, &config), "another base has its own allowance");
    }

    #[test]
    fn rate_limit_r1_five_a_second_for_ever_is_allowed() {
        let (mut limits, config) = (Limits::default(), Config::default());
        assert!((0..500).all(|i| admits(&mut limits, "a", "u", i * 200, &config)));
    }

    #[test]
    fn rate_limit_r2_penalty_lasts_30_seconds() {
        let (mut limits, config) = (Limits::default(), Config::default());
        for _ in 0..6 {
            admits(&mut limits, "a", "u", 0, &config);
        }
        assert!(!admits(&mut limits, "a", "u", 29_999, &config));
        assert!(
            admits(&mut limits, "a", "u", 30_000, &config),
            "a refused call does not extend the penalty"
        );
        let config = Config { refused_extends_penalty: true, ..Config::default() };
        let mut limits = Limits::default();
        for _ in 0..6 {
            admits(&mut limits, "a", "u", 0, &config);
        }
        assert!(!admits(&mut limits, "a", "u", 29_999, &config));
        assert!(!admits(&mut limits, "a", "u", 30_000, &config));
    }

    #[test]
    fn rate_limit_r3_user_is_limited_over_all_bases() {
        let (mut limits, config) = (Limits::default(), Config::default());
        assert!((0..50).all(|i| admits(&mut limits, &format!("b{i}"), "u", 0, &config)));
        assert!(!admits(&mut limits, "another", "u", 0, &config));
        assert!(admits(&mut limits, "another", "v", 0, &config));
    }

    #[test]
    fn rate_limit_r4_r5_bodies_and_header() {
        let mut config = Config::default();
        let reply = refusal(&config);
        assert_eq!(
            reply.text(),
            r#"{"errors":[{"error":"RATE_LIMIT_REACHED","message":"Rate limit exceeded. Please try again later"}]}"#
        );
        assert!(reply.headers.is_empty());
        config.rate_limit_body = "singular".into();
        config.retry_after_seconds = Some(30);
        let reply = refusal(&config);
        assert_eq!(
            reply.text(),
            r#"{"error":{"type":"RATE_LIMIT_REACHED","message":"Rate limit exceeded. Please try again later"}}"#
        );
        assert_eq!(reply.headers, [("retry-after", "30".to_string())]);
    }

    #[test]
    fn rate_limit_r6_monthly_quota_spares_metadata() {
        let config = Config { limits: false, monthly_quota: Some(2), ..Config::default() };
        let mut limits = Limits::default();
        assert!(admits(&mut limits, "a", "u", 0, &config));
        assert!(admits(&mut limits, "a", "u", 0, &config));
        let refused = limits.admit(Some("a"), "u", false, 0, &config).unwrap_err();
        assert!(refused.text().contains("PUBLIC_API_BILLING_LIMIT_EXCEEDED"));
        assert!(limits.admit(Some("a"), "u", true, 0, &config).is_ok());
    }

    #[test]
    fn rate_limit_r7_tokens_share_the_allowance_of_a_base() {
        let (mut limits, config) = (Limits::default(), Config::default());
        assert!((0..5).all(|i| admits(&mut limits, "a", &format!("u{i}"), 0, &config)));
        assert!(!admits(&mut limits, "a", "u9", 0, &config));
    }
}
