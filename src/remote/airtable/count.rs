//! Calls to one base, counted by calendar month (UTC), as Airtable bills them. What is not written down yet is
//! kept apart, so that several processes can add up theirs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};

/// So many calls in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Its first day.
    pub(crate) month: NaiveDate,
    pub(crate) count: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The last month that was asked for from outside, with what was written down of it.
    known: Option<Calls>,
    uncounted: BTreeMap<NaiveDate, u64>,
    /// Taken to be written down, until it is known to be.
    under_way: BTreeMap<NaiveDate, u64>,
}

impl Counter {
    pub(super) fn add(&self, month: NaiveDate) {
        *self.lock().uncounted.entry(month).or_default() += 1;
    }

    pub(super) fn of_month(&self, month: NaiveDate) -> u64 {
        let counts = self.lock();
        let known = counts.known.filter(|known| known.month == month).map_or(0, |it| it.count);
        let of =
            |counts: &BTreeMap<NaiveDate, u64>| counts.get(&month).copied().unwrap_or_default();
        known + of(&counts.uncounted) + of(&counts.under_way)
    }

    pub(super) fn take(&self) -> Vec<Calls> {
        let mut counts = self.lock();
        let taken = std::mem::take(&mut counts.uncounted);
        for (month, count) in &taken {
            *counts.under_way.entry(*month).or_default() += count;
        }
        taken.into_iter().map(|(month, count)| Calls { month, count }).collect()
    }

    pub(super) fn put_back(&self, calls: Calls) {
        let mut counts = self.lock();
        counts.under_way.remove(&calls.month);
        *counts.uncounted.entry(calls.month).or_default() += calls.count;
    }

    pub(super) fn know(&self, calls: Calls) {
        let mut counts = self.lock();
        counts.under_way.remove(&calls.month);
        if counts.known.is_none_or(|known| known.month <= calls.month) {
            counts.known = Some(calls);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // The counts are whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first day of the present month, UTC.
pub(crate) fn this_month() -> NaiveDate {
    let today = Utc::now().date_naive();
    today.with_day(1).unwrap_or(today)
}

/// How much of the month is over at `now`, and how much is left until the calls are counted anew.
pub(crate) fn month_spans(now: DateTime<Utc>) -> (Duration, Duration) {
    let today = now.date_naive();
    let first = today.with_day(1).unwrap_or(today);
    let next = first.checked_add_months(Months::new(1)).unwrap_or(first);
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let over = (now - midnight(first)).to_std().unwrap_or_default();
    let left = (midnight(next) - now).to_std().unwrap_or_default();
    (over, left)
}

/// What a month will have cost if it goes on as it began. The first day counts as a whole one: a first listing
/// says nothing of the month.
pub(crate) fn forecast(used: u64, over: Duration, left: Duration) -> u64 {
    const DAY: Duration = Duration::from_hours(24);
    let whole = (over + left).as_secs().max(1);
    let over = over.max(DAY).as_secs().min(whole);
    let forecast = u128::from(used) * u128::from(whole) / u128::from(over);
    u64::try_from(forecast).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn month(number: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, number, 1).unwrap()
    }

    #[test]
    fn count_is_whole_at_every_moment_of_writing_it_down() {
        let counter = Counter::default();
        let (october, november) = (month(10), month(11));
        counter.know(Calls { month: november, count: 100 });
        counter.add(november);
        counter.add(november);
        assert_eq!(counter.of_month(november), 102);
        let [taken] = counter.take()[..] else { panic!("one month") };
        counter.add(november);
        assert_eq!((taken.count, counter.of_month(november)), (2, 103));
        counter.put_back(taken);
        assert_eq!(counter.of_month(november), 103);
        let [taken] = counter.take()[..] else { panic!("one month") };
        // Somebody else has counted ten meanwhile.
        counter.know(Calls { month: november, count: 110 + taken.count });
        assert_eq!(counter.of_month(november), 113);
        assert_eq!(counter.take(), []);
        assert_eq!(counter.of_month(october), 0);
    }

    #[test]
    fn count_forecast_is_the_month_so_far_stretched_over_the_whole() {
        let at = |day, hour| Utc.with_ymd_and_hms(2026, 11, day, hour, 0, 0).unwrap();
        let after = |day, hour, used| {
            let (over, left) = month_spans(at(day, hour));
            assert_eq!(over + left, Duration::from_hours(30 * 24));
            forecast(used, over, left)
        };
        assert_eq!(after(4, 0, 300), 3_000);
        assert_eq!(after(16, 0, 50_000), 100_000);
        // An hour into the month, 400 calls of a first listing.
        assert_eq!(after(1, 1, 400), 12_000);
        assert_eq!(after(30, 23, 0), 0);
        let december = Utc.with_ymd_and_hms(2026, 12, 31, 23, 59, 59).unwrap();
        assert_eq!(month_spans(december).1, Duration::from_secs(1));
    }

    #[test]
    fn count_of_the_last_month_is_still_written_down_and_does_not_go_on() {
        let counter = Counter::default();
        counter.add(month(10));
        counter.add(month(11));
        assert_eq!(counter.of_month(month(11)), 1);
        let taken = counter.take();
        assert_eq!(taken.len(), 2);
        counter.know(Calls { month: month(11), count: 1 });
        counter.know(Calls { month: month(10), count: 500 });
        assert_eq!(counter.of_month(month(11)), 1);
    }
}
