//! Calls to one base, counted by calendar month (UTC), as Airtable bills them. What is not written down yet is
//! kept apart, so that several processes can add up theirs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, TimeDelta, Utc};

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
    let over = (now - midnight(first)).to_std().unwrap_or_default();
    let left = (midnight(next) - now).to_std().unwrap_or_default();
    (over, left)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

const DAY: Duration = Duration::from_hours(24);
/// Whole days before today that the pace is taken from.
const PACE_DAY_COUNT: i64 = 3;

/// How fast calls were made lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) calls: u64,
    pub(crate) over: Duration,
}

impl Pace {
    /// The pace of the last days, today included: an hour of haste, or of rest, says nothing of a month. `by_day`: the
    /// oldest first, as far back as was counted, a day without calls left out. `None`: not a whole day was counted.
    pub(crate) fn of(by_day: &[(NaiveDate, u64)], now: DateTime<Utc>) -> Option<Self> {
        let today = now.date_naive();
        let (first, _) = *by_day.first()?;
        let since = first.max(today.checked_sub_signed(TimeDelta::days(PACE_DAY_COUNT))?);
        if since >= today {
            return None;
        }
        let calls = by_day.iter().filter(|(day, _)| *day >= since).map(|(_, count)| count).sum();
        Some(Self { calls, over: (now - midnight(since)).to_std().ok()? })
    }

    pub(crate) fn calls_per_day(self) -> u64 {
        stretched(self.calls, DAY, self.over)
    }

    /// For people.
    pub(crate) fn day_count(self) -> u64 {
        (self.over.as_secs() + DAY.as_secs() / 2) / DAY.as_secs()
    }
}

/// What a month will have cost by its end, at the pace of the last days; while that is not known, at the month's own,
/// whose first day counts as a whole one: a first listing says nothing of the month.
pub(crate) fn forecast(used: u64, pace: Option<Pace>, now: DateTime<Utc>) -> u64 {
    let (over, left) = month_spans(now);
    match pace {
        Some(pace) => used.saturating_add(stretched(pace.calls, left, pace.over)),
        None => stretched(used, over + left, over.max(DAY).min(over + left)),
    }
}

/// `calls` in `over` → in `whole`.
fn stretched(calls: u64, whole: Duration, over: Duration) -> u64 {
    let stretched =
        u128::from(calls) * u128::from(whole.as_secs()) / u128::from(over.as_secs().max(1));
    u64::try_from(stretched).unwrap_or(u64::MAX)
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
    fn count_forecast_goes_by_the_last_days() {
        let at = |day, hour| Utc.with_ymd_and_hms(2026, 11, day, hour, 0, 0).unwrap();
        let day = |number| NaiveDate::from_ymd_opt(2026, 11, number).unwrap();
        // A first listing of 40,000 on the 2nd, and 1,000 a day since, of which 900 within the last minutes.
        let by_day = [
            (day(2), 40_000),
            (day(17), 1_000),
            (day(18), 1_000),
            (day(19), 1_000),
            (day(20), 900),
        ];
        let pace = Pace::of(&by_day, at(20, 0)).unwrap();
        assert_eq!((pace.calls, pace.over), (3_900, Duration::from_hours(72)));
        assert_eq!((pace.calls_per_day(), pace.day_count()), (1_300, 3));
        assert_eq!(forecast(58_000, Some(pace), at(20, 0)), 58_000 + 11 * 1_300);
        // At rest for a week, and over the end of a month.
        let rest = Pace::of(&by_day[..1], at(12, 12)).unwrap();
        assert_eq!((rest.calls, forecast(40_000, Some(rest), at(12, 12))), (0, 40_000));
        let last = [(NaiveDate::from_ymd_opt(2026, 10, 31).unwrap(), 2_400), (day(1), 0)];
        assert_eq!(Pace::of(&last, at(1, 0)).unwrap().calls_per_day(), 2_400);
        // Counted since today alone: that is no day.
        assert_eq!(Pace::of(&by_day[4..], at(20, 23)), None);
        assert_eq!(Pace::of(&[], at(20, 0)), None);
    }

    #[test]
    fn count_forecast_of_a_new_count_is_the_month_so_far_stretched_over_the_whole() {
        let at = |day, hour| Utc.with_ymd_and_hms(2026, 11, day, hour, 0, 0).unwrap();
        let after = |day, hour, used| {
            let (over, left) = month_spans(at(day, hour));
            assert_eq!(over + left, Duration::from_hours(30 * 24));
            forecast(used, None, at(day, hour))
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
