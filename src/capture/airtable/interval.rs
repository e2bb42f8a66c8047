//! How long to wait before the next poll. Pure.

use std::time::Duration;

/// A poll waits this part of the time since the last change: what is found is late by a tenth of the calm
/// before it at most, and a calm base costs few calls.
const CALM_DIVISOR: u32 = 10;
/// Polling at rest may use this part of what is left of the month's calls: the others belong to pushes,
/// listings and other integrations.
const REST_SHARE: f64 = 0.25;
/// Below this part of the quota, haste has to stay within the pace too.
const SCARCE_SHARE: f64 = 0.1;
/// The same where the month as it goes would cost more than it may, once so much of it is used that this says
/// something.
const FORECAST_SHARE: f64 = 0.2;
/// With pings arriving, polling is only for those that get lost.
const PINGED_FACTOR: u32 = 4;

/// What the next interval depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Shortest and longest interval wanted.
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// Pings are switched on.
    pub(crate) is_pinged: bool,
    pub(crate) quota: Option<Quota>,
}

/// The calls of the month.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) calls: u64,
    pub(crate) used: u64,
    /// What the month will have cost by its end.
    pub(crate) forecast: u64,
    /// Until the count begins again.
    pub(crate) left: Duration,
}

/// The time until the next poll, `since_change` after the last change was seen.
pub(crate) fn interval(pace: &Pace, since_change: Duration) -> Duration {
    let mut rest = pace.max;
    if pace.is_pinged {
        rest *= PINGED_FACTOR;
    }
    let mut haste = pace.min;
    if let Some(quota) = pace.quota {
        let left = quota.calls.saturating_sub(quota.used);
        let spread = |share: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a count of calls fits an f64")]
            let calls = (left as f64 * share).max(1.0);
            Duration::from_secs_f64(quota.left.as_secs_f64() / calls)
        };
        rest = rest.max(spread(REST_SHARE));
        let is_beyond = quota.forecast > quota.calls;
        #[expect(clippy::cast_precision_loss, reason = "a count of calls fits an f64")]
        let (is_scarce, is_telling) = (
            (left as f64) < quota.calls as f64 * SCARCE_SHARE,
            quota.used as f64 >= quota.calls as f64 * FORECAST_SHARE,
        );
        if is_scarce || (is_beyond && is_telling) {
            haste = haste.max(spread(REST_SHARE));
        }
    }
    (since_change / CALM_DIVISOR).max(haste).min(rest.max(haste))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_hours(30 * 24);
    const PACE: Pace = Pace {
        min: Duration::from_secs(1),
        max: Duration::from_secs(30),
        is_pinged: false,
        quota: None,
    };

    fn with_quota(calls: u64, used: u64) -> Pace {
        Pace { quota: Some(Quota { calls, used, forecast: 0, left: MONTH }), ..PACE }
    }

    fn after_days(days: u64, calls: u64, used: u64, forecast: u64) -> Pace {
        let left = MONTH.saturating_sub(Duration::from_hours(days * 24));
        Pace { quota: Some(Quota { calls, used, forecast, left }), ..PACE }
    }

    /// Calls that polling costs in a month without any change.
    fn calls_at_rest(pace: &Pace) -> f64 {
        MONTH.as_secs_f64() / interval(pace, MONTH).as_secs_f64()
    }

    #[test]
    fn interval_grows_with_the_calm_between_its_bounds() {
        assert_eq!(interval(&PACE, Duration::ZERO), PACE.min);
        assert_eq!(interval(&PACE, Duration::from_secs(100)), Duration::from_secs(10));
        assert_eq!(interval(&PACE, MONTH), PACE.max);
        let pinged = Pace { is_pinged: true, ..PACE };
        assert_eq!(interval(&pinged, MONTH), Duration::from_mins(2));
        assert_eq!(interval(&pinged, Duration::ZERO), PACE.min);
    }

    #[test]
    fn interval_at_rest_stays_well_inside_the_monthly_quota() {
        for calls in [1_000, 100_000] {
            let at_rest = calls_at_rest(&with_quota(calls, 0));
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let bound = calls as f64 * 0.26;
            assert!(at_rest <= bound, "{at_rest} of {calls}");
        }
        assert!(interval(&with_quota(100_000, 100_000), MONTH) >= MONTH);
    }

    #[test]
    fn interval_is_slow_where_the_month_would_cost_too_much() {
        // 40 % are used, and 120 % forecast.
        let slow = interval(&after_days(10, 100_000, 40_000, 120_000), Duration::ZERO);
        assert!(slow > Duration::from_mins(1), "{slow:?}");
        assert_eq!(interval(&after_days(10, 100_000, 30_000, 90_000), Duration::ZERO), PACE.min);
        // A forecast from a first listing on the first day says nothing yet.
        assert_eq!(interval(&after_days(0, 100_000, 15_000, 450_000), Duration::ZERO), PACE.min);
    }

    #[test]
    fn interval_with_few_calls_left_is_slow_even_in_haste() {
        assert_eq!(interval(&after_days(1, 100_000, 1_000, 30_000), Duration::ZERO), PACE.min);
        let slow = interval(&with_quota(100_000, 95_000), Duration::ZERO);
        assert!(slow > Duration::from_mins(10), "{slow:?}");
    }
}
