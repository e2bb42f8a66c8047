//! Civil dates, times of day and instants, from the texts that Postgres and the two APIs write.
//!
//! Years before 1 and values such as `infinity` are refused; so are years that no API writes in four digits
//! when a value is to be written there.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, SecondsFormat, Timelike as _};

use super::flaw::Flaw;
use crate::model::MICROS_PER_SECOND;

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// The last year that ISO 8601 writes in four digits.
const ISO_YEAR_MAX: i32 = 9999;

/// A date or a time in the right form that no calendar or clock has.
struct NoSuch;

/// Reads one byte after the other; every step says whether it found what it was told to.
struct Scanner<'t> {
    rest: &'t [u8],
}

impl Scanner<'_> {
    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }

    fn take_any(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        bytes.contains(first).then(|| {
            self.rest = rest;
            *first
        })
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    /// `2024-02-29`; `None`: another form.
    fn date(&mut self) -> Option<Result<NaiveDate, NoSuch>> {
        // Airtable writes years of more digits as ECMAScript does: `+045678`.
        let sign = self.take_any(b"+-");
        let year = self.digits(4, 7)?;
        self.take(b'-')?;
        let month = self.digits(2, 2)?;
        self.take(b'-')?;
        let day = self.digits(2, 2)?;
        if sign == Some(b'-') {
            return Some(Err(NoSuch));
        }
        let date =
            i32::try_from(year).ok().and_then(|year| NaiveDate::from_ymd_opt(year, month, day));
        Some(date.ok_or(NoSuch))
    }

    /// `08:45`, `08:45:10`, `08:45:10.123456`, in µs; digits behind the sixth are cut.
    fn time(&mut self) -> Option<Result<i64, NoSuch>> {
        let hour = self.digits(2, 2)?;
        self.take(b':')?;
        let minute = self.digits(2, 2)?;
        let mut second = 0;
        let mut micros = 0;
        if self.take(b':').is_some() {
            second = self.digits(2, 2)?;
            if self.take_any(b".,").is_some() {
                let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (digits, rest) = self.rest.split_at(count);
                self.rest = rest;
                if digits.is_empty() {
                    return None;
                }
                micros = digits
                    .iter()
                    .map(|digit| i64::from(digit - b'0'))
                    .chain(std::iter::repeat(0))
                    .take(6)
                    .fold(0, |number, digit| number * 10 + digit);
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Some(Err(NoSuch));
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Some(Ok(seconds * MICROS_PER_SECOND + micros))
    }

    /// `Z`, `+02`, `-03:30`, `+0200`, `+00:09:21`, or nothing, which is UTC. In seconds.
    fn offset(&mut self) -> Option<i64> {
        if self.rest.is_empty() || self.take_any(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.take_any(b"+-")? == b'-' { -1 } else { 1 };
        let mut seconds = i64::from(self.digits(2, 2)?) * 3600;
        let colon = self.take(b':').is_some();
        if let Some(minutes) = self.digits(2, 2) {
            seconds += i64::from(minutes) * 60;
            if self.take(b':').is_some() {
                seconds += i64::from(self.digits(2, 2)?);
            }
        } else if colon {
            return None;
        }
        Some(sign * seconds)
    }
}

/// An instant in µs since 1970 UTC. A text without offset is UTC; a date alone is its midnight.
pub(super) fn timestamp(text: &str) -> Result<i64, Flaw> {
    let text = text.trim_ascii();
    if is_endless(text) {
        return Err(endless());
    }
    let wrong = || Flaw::wrong_type("is not a date with a time: write it as 2024-02-29T08:45:10Z");
    let mut scanner = Scanner { rest: text.as_bytes() };
    let date = scanner.date().ok_or_else(wrong)?;
    let mut time = Ok(0);
    let mut offset = 0;
    if scanner.take_any(b" Tt").is_some() {
        time = scanner.time().ok_or_else(wrong)?;
        offset = scanner.offset().ok_or_else(wrong)?;
    }
    if !scanner.rest.is_empty() {
        return Err(wrong());
    }
    let (Ok(date), Ok(time)) = (date, time) else { return Err(no_such_day()) };
    let days = i64::from(date.num_days_from_ce()) - DAYS_FROM_CE_TO_1970;
    // Far inside an i64: chrono's dates end with the year 262142.
    in_range(days * MICROS_PER_DAY + time - offset * MICROS_PER_SECOND)
}

const DAYS_FROM_CE_TO_1970: i64 = 719_163;

/// The instant, if it lies after the beginning of the year 1 and where dates end.
pub(super) fn in_range(micros: i64) -> Result<i64, Flaw> {
    match DateTime::from_timestamp_micros(micros) {
        Some(at) if at.year() >= 1 => Ok(micros),
        _ => Err(endless()),
    }
}

/// The date, if it lies after the beginning of the year 1.
pub(super) fn in_calendar(date: NaiveDate) -> Result<NaiveDate, Flaw> {
    if date.year() >= 1 { Ok(date) } else { Err(endless()) }
}

/// Cut, towards the past, to whole milliseconds.
pub(super) fn to_millis(micros: i64) -> i64 {
    micros - micros.rem_euclid(1000)
}

/// `2024-02-29T08:45:10.123Z`: milliseconds, or microseconds where there are any.
pub(super) fn timestamp_text(micros: i64) -> Result<String, Flaw> {
    let format =
        if micros.rem_euclid(1000) == 0 { SecondsFormat::Millis } else { SecondsFormat::Micros };
    match DateTime::from_timestamp_micros(micros) {
        Some(at) if (1..=ISO_YEAR_MAX).contains(&at.year()) => Ok(at.to_rfc3339_opts(format, true)),
        _ => Err(beyond_iso()),
    }
}

/// A civil date: `2024-02-29`, or an instant at midnight UTC.
pub(super) fn date(text: &str) -> Result<NaiveDate, Flaw> {
    let text = text.trim_ascii();
    let mut scanner = Scanner { rest: text.as_bytes() };
    if let Some(date) = scanner.date()
        && scanner.rest.is_empty()
    {
        return date.ok().filter(|date| date.year() >= 1).ok_or_else(no_such_day);
    }
    let wrong = || Flaw::wrong_type("is not a date: write it as 2024-02-29");
    let micros = timestamp(text).map_err(|flaw| if is_endless(text) { flaw } else { wrong() })?;
    if micros.rem_euclid(MICROS_PER_DAY) != 0 {
        return Err(Flaw::wrong_type("has a time of day beside its date: map it as `datetime`"));
    }
    DateTime::from_timestamp_micros(micros).map(|at| at.date_naive()).ok_or_else(endless)
}

/// `29-02-2024`, with `-`, `/`, `.` or a space between, and days and months of one digit too; also
/// `2024-02-29`.
pub(super) fn date_dmy(text: &str) -> Result<NaiveDate, Flaw> {
    let text = text.trim();
    let read = || {
        let mut scanner = Scanner { rest: text.as_bytes() };
        let day = scanner.digits(1, 2)?;
        let separator = scanner.take_any(b"-/. ")?;
        let month = scanner.digits(1, 2)?;
        scanner.take(separator)?;
        let year = scanner.digits(4, 4)?;
        scanner.rest.is_empty().then_some((year, month, day))
    };
    match read() {
        Some((year, month, day)) => i32::try_from(year)
            .ok()
            .filter(|year| *year >= 1)
            .and_then(|year| NaiveDate::from_ymd_opt(year, month, day))
            .ok_or_else(no_such_day),
        None => date(text).map_err(|_| {
            Flaw::wrong_type("is not a date: write day, month and year, as 29-02-2024")
        }),
    }
}

pub(super) fn date_dmy_text(date: NaiveDate) -> Result<String, Flaw> {
    iso_year(date)?;
    Ok(date.format("%d-%m-%Y").to_string())
}

pub(super) fn date_text(date: NaiveDate) -> Result<String, Flaw> {
    iso_year(date)?;
    Ok(date.to_string())
}

fn iso_year(date: NaiveDate) -> Result<(), Flaw> {
    if (1..=ISO_YEAR_MAX).contains(&date.year()) { Ok(()) } else { Err(beyond_iso()) }
}

/// A time of day, to the µs.
pub(super) fn time(text: &str) -> Result<NaiveTime, Flaw> {
    let wrong = || Flaw::wrong_type("is not a time of day: write it as 08:45 or 08:45:10");
    let mut scanner = Scanner { rest: text.trim_ascii().as_bytes() };
    let micros = scanner.time().ok_or_else(wrong)?;
    if !scanner.rest.is_empty() {
        return Err(wrong());
    }
    let outside = || Flaw::out_of_range("is not between 00:00:00 and 23:59:59");
    let micros = u64::try_from(micros.map_err(|NoSuch| outside())?).map_err(|_| outside())?;
    let seconds = u32::try_from(micros / 1_000_000).map_err(|_| outside())?;
    let nanos = u32::try_from(micros % 1_000_000).map_err(|_| outside())? * 1000;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos).ok_or_else(outside)
}

/// To the µs; leap seconds end in the last one before them.
pub(super) fn cut_time(time: NaiveTime) -> NaiveTime {
    let nanos = time.nanosecond().min(999_999_999) / 1000 * 1000;
    time.with_nanosecond(nanos).unwrap_or(time)
}

fn is_endless(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity") || text.ends_with(" BC")
}

fn endless() -> Flaw {
    Flaw::out_of_range("lies outside the years 1 to 262142: correct the date at its source")
}

fn no_such_day() -> Flaw {
    Flaw::out_of_range("is a date or a time that does not exist: correct it at its source")
}

fn beyond_iso() -> Flaw {
    Flaw::out_of_range("lies outside the years 1 to 9999, which is all that the side can keep")
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::{date, date_dmy, time, timestamp, timestamp_text, to_millis};

    const AT: i64 = 1_709_196_310_123_456; // 2024-02-29T08:45:10.123456Z

    #[test]
    fn moment_instants_of_both_apis_and_of_postgres_are_one() {
        for text in [
            "2024-02-29 08:45:10.123456+00",
            "2024-02-29 08:45:10.123456",
            "2024-02-29T08:45:10.123456Z",
            "2024-02-29T08:45:10.123456789Z",
            "2024-02-29 10:45:10.123456+02",
            "2024-02-29T10:45:10.123456+0200",
            "2024-02-29 05:15:10.123456-03:30",
            "2024-02-29 08:54:31.123456+00:09:21",
        ] {
            assert_eq!(timestamp(text).unwrap(), AT, "{text}");
        }
        assert_eq!(timestamp("2024-02-29T08:45Z").unwrap(), 1_709_196_300_000_000);
        assert_eq!(timestamp("1969-12-31T23:59:59.999Z").unwrap(), -1000);
        assert_eq!(timestamp("2024-02-29").unwrap(), 1_709_164_800_000_000);
        assert_eq!(
            timestamp("+012345-01-01T00:00:00Z").unwrap(),
            timestamp("12345-01-01 00:00:00+00").unwrap()
        );
    }

    #[test]
    fn moment_changes_of_hour_in_paris_are_two_instants() {
        // 2024-10-27 02:30 came twice, once at each offset.
        let hour = 3_600_000_000;
        let (first, second) = ("2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00");
        assert_eq!(timestamp(second).unwrap() - timestamp(first).unwrap(), hour);
    }

    #[test]
    fn moment_outside_the_calendar_is_out_of_range_and_the_rest_is_no_date() {
        use crate::model::RefusalKind::{OutOfRange, WrongType};
        for (text, kind) in [
            ("infinity", OutOfRange),
            ("-infinity", OutOfRange),
            ("0044-03-15 00:00:00 BC", OutOfRange),
            ("0044-03-15 00:00:00+00 BC", OutOfRange),
            ("-000044-03-15T00:00:00Z", OutOfRange),
            ("0000-01-01T00:00:00Z", OutOfRange),
            ("294276-12-31 23:59:59.999999", OutOfRange),
            ("2023-02-29T00:00:00Z", OutOfRange),
            ("2024-02-29T24:00:00Z", OutOfRange),
            ("2024-2-29T00:00:00Z", WrongType),
            ("2024-02-29T00:00:00 Paris", WrongType),
            ("2024-02-29T00:00:00+", WrongType),
            ("demain", WrongType),
            ("", WrongType),
        ] {
            assert_eq!(timestamp(text).unwrap_err().of("at").kind, kind, "{text}");
        }
    }

    #[test]
    fn moment_is_written_in_milliseconds_or_in_micros_if_it_has_any() {
        assert_eq!(timestamp_text(AT).unwrap(), "2024-02-29T08:45:10.123456Z");
        assert_eq!(timestamp_text(to_millis(AT)).unwrap(), "2024-02-29T08:45:10.123Z");
        assert_eq!(to_millis(-1), -1000);
        assert!(timestamp_text(timestamp("12345-01-01 00:00:00").unwrap()).is_err());
    }

    #[test]
    fn moment_french_dates_are_dates() {
        let leap = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
        for text in ["29-02-2024", "29/02/2024", "29.2.2024", " 29 02 2024 ", "2024-02-29"] {
            assert_eq!(date_dmy(text).unwrap(), leap, "{text}");
        }
        for text in ["29-02-2023", "02-29-2024", "29-02-24", "29-02/2024", "févr. 2024", ""] {
            assert!(date_dmy(text).is_err(), "{text}");
        }
        assert_eq!(date("2024-02-29T00:00:00.000Z").unwrap(), leap);
        assert!(date("2024-02-29T08:00:00Z").is_err());
    }

    #[test]
    fn moment_time_of_day_is_cut_to_micros() {
        assert_eq!(time("13:45:10.123456789").unwrap().to_string(), "13:45:10.123456");
        assert_eq!(time("09:05").unwrap().to_string(), "09:05:00");
        for text in ["24:00:00", "9:05", "09:05+02", "midi", ""] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
