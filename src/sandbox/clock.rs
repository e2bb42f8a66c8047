//! The sandbox's time: the machine's, moved ahead on demand, or one that moves on demand only.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat};

/// Where "now" comes from. Times are milliseconds since 1970, UTC.
#[derive(Debug)]
pub struct Clock {
    is_manual: bool,
    /// What is added to the machine's time; of a manual clock, the time itself.
    offset_ms: AtomicI64,
}

impl Clock {
    /// The machine's time; [`Clock::advance`] moves it ahead for good.
    pub fn system() -> Self {
        Self { is_manual: false, offset_ms: AtomicI64::new(0) }
    }

    /// Stands at `start_ms` until it is advanced.
    pub fn manual(start_ms: i64) -> Self {
        Self { is_manual: true, offset_ms: AtomicI64::new(start_ms) }
    }

    pub fn now_ms(&self) -> i64 {
        let offset_ms = self.offset_ms.load(Ordering::SeqCst);
        if self.is_manual { offset_ms } else { chrono::Utc::now().timestamp_millis() + offset_ms }
    }

    pub fn advance(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// How far ahead of the machine's time a system clock is, or what a manual clock shows.
    pub(super) fn is_manual(&self) -> bool {
        self.is_manual
    }
}

/// `2026-04-24T15:07:42.507Z`.
pub(super) fn iso_ms(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// As [`iso_ms`], rounded (half up) to whole seconds, as `createdTime` is.
pub(super) fn iso_seconds(ms: i64) -> String {
    iso_ms((ms + 500).div_euclid(1000) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_w14_created_time_is_rounded_to_seconds_half_up() {
        assert_eq!(iso_seconds(1_699_303_708_797), "2023-11-06T20:48:29.000Z");
        assert_eq!(iso_seconds(1_699_303_708_407), "2023-11-06T20:48:28.000Z");
        assert_eq!(iso_seconds(1_699_303_708_500), "2023-11-06T20:48:29.000Z");
    }

    #[test]
    fn clock_t1_manual_moves_on_demand_only() {
        let clock = Clock::manual(5);
        assert_eq!(clock.now_ms(), 5);
        clock.advance(30_000);
        assert_eq!(clock.now_ms(), 30_005);
    }
}
