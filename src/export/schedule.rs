//! When a scheduled export is due. Pure: clocks are arguments. Times are those of a wall clock, which is put forward
//! and back: what is due in an hour that is left out is due at its end, and in one that comes twice, the first time.

use chrono::{
    DateTime, Datelike as _, Days, LocalResult, Months, NaiveDate, NaiveDateTime, TimeDelta,
    TimeZone as _, Utc,
};
use chrono_tz::Tz;

use crate::config::{Every, Timetable};

/// How the names of files say when they were made, on the schedule's own clock.
const STAMP: &str = "%Y-%m-%d_%H%M";

impl Timetable {
    /// The last time at or before `now`.
    pub(super) fn last_due(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let mut day = self.first_day(now.with_timezone(&self.zone).date_naive());
        // More than once only where a clock skips a day.
        for _ in 0..3 {
            let due = self.due_on(day);
            if due <= now {
                return due;
            }
            day = self.before(day);
        }
        self.due_on(day)
    }

    /// The first time after `now`.
    pub(super) fn next_due(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let mut day = self.first_day(now.with_timezone(&self.zone).date_naive());
        for _ in 0..3 {
            let due = self.due_on(day);
            if due > now {
                return due;
            }
            day = self.after(day);
        }
        self.due_on(day)
    }

    fn due_on(&self, day: NaiveDate) -> DateTime<Utc> {
        let at = day.and_time(self.at);
        // The longest that a clock was ever put forward is a day.
        let times = (0..=24 * 60).map(|minutes| at + TimeDelta::minutes(minutes));
        let mut there = times.filter_map(|at| self.zone.from_local_datetime(&at).earliest());
        there.next().map_or_else(|| at.and_utc(), |at| at.with_timezone(&Utc))
    }

    /// The day on which it is due, of the day, week or month that `day` is in.
    fn first_day(&self, day: NaiveDate) -> NaiveDate {
        match self.every {
            Every::Day => day,
            Every::Week => day - Days::new(u64::from(day.weekday().num_days_from_monday())),
            Every::Month => day.with_day(1).unwrap_or(day),
        }
    }

    fn before(&self, first: NaiveDate) -> NaiveDate {
        match self.every {
            Every::Day => first - Days::new(1),
            Every::Week => first - Days::new(7),
            Every::Month => first - Months::new(1),
        }
    }

    fn after(&self, first: NaiveDate) -> NaiveDate {
        match self.every {
            Every::Day => first + Days::new(1),
            Every::Week => first + Days::new(7),
            Every::Month => first + Months::new(1),
        }
    }
}

/// `weekly_2026-03-02_0600`.
pub(super) fn stem(name: &str, at: DateTime<Utc>, zone: Tz) -> String {
    format!("{name}_{}", at.with_timezone(&zone).format(STAMP))
}

/// When the file or folder of that name was made, if it is one of `name`'s.
pub(super) fn made_at(file: &str, name: &str, ending: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let stamp = file.strip_prefix(name)?.strip_prefix('_')?.strip_suffix(ending)?;
    let at = NaiveDateTime::parse_from_str(stamp, STAMP).ok()?;
    // In an hour that comes twice, the later one: nothing is made again for a doubt.
    match zone.from_local_datetime(&at) {
        LocalResult::None => None,
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => Some(at.with_timezone(&Utc)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveTime, Utc};
    use chrono_tz::{Europe::Paris, Pacific::Apia};

    use super::{made_at, stem};
    use crate::config::{Every, Timetable};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn table(every: Every, hour: u32, minute: u32) -> Timetable {
        Timetable { every, at: NaiveTime::from_hms_opt(hour, minute, 0).unwrap(), zone: Paris }
    }

    /// `last_due` and `next_due` of a moment.
    fn around(table: &Timetable, now: &str) -> (DateTime<Utc>, DateTime<Utc>) {
        (table.last_due(at(now)), table.next_due(at(now)))
    }

    #[test]
    fn export_due_days_weeks_and_months_are_those_of_paris() {
        let day = table(Every::Day, 6, 0);
        assert_eq!(
            around(&day, "2026-01-15T04:59:59Z"),
            (at("2026-01-14T05:00:00Z"), at("2026-01-15T05:00:00Z"))
        );
        assert_eq!(
            around(&day, "2026-01-15T05:00:00Z"),
            (at("2026-01-15T05:00:00Z"), at("2026-01-16T05:00:00Z"))
        );
        // Past midnight in Paris, not yet in London.
        let night = table(Every::Day, 0, 30);
        assert_eq!(
            around(&night, "2026-07-01T22:45:00Z"),
            (at("2026-07-01T22:30:00Z"), at("2026-07-02T22:30:00Z"))
        );
        // Mondays.
        assert_eq!(
            around(&table(Every::Week, 6, 0), "2026-03-01T12:00:00Z"),
            (at("2026-02-23T05:00:00Z"), at("2026-03-02T05:00:00Z"))
        );
        assert_eq!(
            around(&table(Every::Month, 6, 0), "2026-12-31T12:00:00Z"),
            (at("2026-12-01T05:00:00Z"), at("2027-01-01T05:00:00Z"))
        );
    }

    #[test]
    fn export_due_in_an_hour_that_is_left_out_is_due_at_its_end() {
        // 29 March 2026: from 2:00 at once to 3:00.
        let table = table(Every::Day, 2, 30);
        assert_eq!(
            around(&table, "2026-03-29T00:59:59Z"),
            (at("2026-03-28T01:30:00Z"), at("2026-03-29T01:00:00Z"))
        );
        assert_eq!(
            around(&table, "2026-03-29T01:00:00Z"),
            (at("2026-03-29T01:00:00Z"), at("2026-03-30T00:30:00Z"))
        );
    }

    #[test]
    fn export_due_in_an_hour_that_comes_twice_is_due_once() {
        // 25 October 2026: from 3:00 back to 2:00.
        let table = table(Every::Day, 2, 30);
        let (first, next) = (at("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z"));
        for now in ["2026-10-25T00:30:00Z", "2026-10-25T01:29:00Z", "2026-10-25T01:31:00Z"] {
            assert_eq!(around(&table, now), (first, next), "{now}");
        }
        // What was made late, in the second of these hours, is not taken for something before the first.
        let made = stem("n", at("2026-10-25T01:10:00Z"), Paris);
        assert_eq!(made, "n_2026-10-25_0210");
        assert!(made_at(&made, "n", "", Paris).unwrap() >= first);
    }

    #[test]
    fn export_due_on_a_day_that_was_left_out_is_due_after_it() {
        // Samoa had no 30 December 2011.
        let table = Timetable { zone: Apia, ..table(Every::Day, 6, 0) };
        let (last, next) = around(&table, "2011-12-30T12:00:00Z");
        assert!(last <= at("2011-12-30T12:00:00Z") && next > at("2011-12-30T12:00:00Z"));
        assert_eq!(next, at("2011-12-30T16:00:00Z"));
    }

    #[test]
    fn export_every_moment_of_a_year_lies_between_two_due_times() {
        for every in [Every::Day, Every::Week, Every::Month] {
            for (hour, minute) in [(0, 0), (2, 30), (6, 0), (23, 59)] {
                let table = table(every, hour, minute);
                let mut now = at("2026-01-01T00:00:00Z");
                while now < at("2027-01-02T00:00:00Z") {
                    let (last, next) = (table.last_due(now), table.next_due(now));
                    assert!(last <= now && now < next, "{now} {last} {next}");
                    assert_eq!(table.next_due(last), next, "{now}");
                    now += chrono::TimeDelta::minutes(47);
                }
            }
        }
    }

    #[test]
    fn export_names_of_files_tell_when_they_were_made() {
        let now = at("2026-07-01T04:00:30Z");
        let stem = stem("weekly", now, Paris);
        assert_eq!(stem, "weekly_2026-07-01_0600");
        let made = made_at("weekly_2026-07-01_0600.csv", "weekly", ".csv", Paris);
        assert_eq!(made, Some(at("2026-07-01T04:00:00Z")));
        for other in ["weekly_x_2026-07-01_0600.csv", "weekly_2026-07-01_0600.xlsx", "notes.csv"] {
            assert_eq!(made_at(other, "weekly", ".csv", Paris), None, "{other}");
        }
    }
}
