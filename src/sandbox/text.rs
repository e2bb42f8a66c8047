//! Cells as text, for `cellFormat=string`: in a reader's time zone and language. Airtable promises nothing of
//! this format but that it may change.

use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::cell::Look;
use super::model::Field;

/// Whose eyes a cell is shown to: the parameters `timeZone` and `userLocale`.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    zone: Tz,
    locale: String,
}

impl Reader {
    /// None for a zone that does not exist. `client` is the reader's own zone, which a server's caller lacks: UTC.
    pub(super) fn new(zone: &str, locale: &str) -> Option<Self> {
        let zone = match zone {
            "utc" | "client" => Tz::UTC,
            name => Tz::from_str(name).ok()?,
        };
        Some(Self { zone, locale: locale.to_lowercase() })
    }

    fn is(&self, language: &str) -> bool {
        self.locale.split(['-', '_']).next() == Some(language)
    }

    fn day(&self, day: NaiveDate, format: &str) -> String {
        let (year, month, date) = (day.year(), day.month(), day.day());
        let month_at = usize::try_from(month).unwrap_or(1) - 1;
        match format {
            "us" => format!("{month}/{date}/{year}"),
            "european" => format!("{date}/{month}/{year}"),
            "iso" => day.format("%Y-%m-%d").to_string(),
            "friendly" if self.is("fr") => {
                format!(
                    "{date}{} {} {year}",
                    if date == 1 { "er" } else { "" },
                    FRENCH_MONTHS[month_at]
                )
            }
            "friendly" if self.locale.ends_with("gb") => day.format("%-d %B %Y").to_string(),
            "friendly" => day.format("%B %-d, %Y").to_string(),
            // `local`: the order of the reader's country.
            _ if self.is("en") && !self.locale.ends_with("gb") => format!("{month}/{date}/{year}"),
            _ => format!("{date}/{month}/{year}"),
        }
    }

    fn moment(&self, at: DateTime<Utc>, field: &Value) -> String {
        let local: NaiveDateTime = at.with_timezone(&self.zone).naive_local();
        let day = self.day(local.date(), field["dateFormat"]["name"].as_str().unwrap_or("iso"));
        let is_24 = field["timeFormat"]["name"] != "12hour";
        let time = if is_24 { local.format("%H:%M") } else { local.format("%-I:%M%P") };
        format!("{day} {time}")
    }
}

const FRENCH_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

/// One cell for a reader.
pub(super) fn text_for(look: &Look<'_>, field: &Field, value: &Value, reader: &Reader) -> String {
    // A computed time or amount is shown as its result's type is.
    let result = &field.options["result"];
    let (kind, options) = match result["type"].as_str() {
        Some(kind) => (kind, &result["options"]),
        None => match field.kind.as_str() {
            "createdTime" | "lastModifiedTime" => ("dateTime", &field.options),
            kind => (kind, &field.options),
        },
    };
    let number = |decimals: usize| value.as_f64().map(|n| format!("{n:.decimals$}"));
    let precision = usize::try_from(options["precision"].as_u64().unwrap_or(0)).unwrap_or(0);
    let shown = match kind {
        "date" => value
            .as_str()
            .and_then(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
            .map(|day| reader.day(day, options["dateFormat"]["name"].as_str().unwrap_or("iso"))),
        "dateTime" => value
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
            .map(|at| reader.moment(at, options)),
        "number" => number(precision),
        "currency" => number(precision)
            .map(|digits| format!("{}{digits}", options["symbol"].as_str().unwrap_or_default())),
        "percent" => value.as_f64().map(|n| format!("{:.precision$}%", n * 100.0)),
        "duration" => value.as_f64().map(|n| duration(n, options["durationFormat"].as_str())),
        _ => None,
    };
    shown.unwrap_or_else(|| look.text(field, value))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a duration of more seconds than an i64 is none"
)]
fn duration(seconds: f64, format: Option<&str>) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as i64;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    match format {
        Some("h:mm") => format!("{sign}{hours}:{minutes:02}"),
        Some(format) if format.contains('S') => {
            let digits = format.chars().filter(|letter| *letter == 'S').count();
            let rest = seconds.abs() % 60.0;
            let width = digits + 3;
            format!("{sign}{hours}:{minutes:02}:{rest:0width$.digits$}")
        }
        _ => format!("{sign}{hours}:{minutes:02}:{:02}", whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_dates_follow_format_and_locale() {
        let day = NaiveDate::from_ymd_opt(2024, 2, 1).unwrap();
        for (locale, format, shown) in [
            ("en-us", "local", "2/1/2024"),
            ("en-GB", "local", "1/2/2024"),
            ("fr", "local", "1/2/2024"),
            ("fr", "friendly", "1er février 2024"),
            ("en", "friendly", "February 1, 2024"),
            ("en-gb", "friendly", "1 February 2024"),
            ("fr", "us", "2/1/2024"),
            ("en", "european", "1/2/2024"),
            ("de", "iso", "2024-02-01"),
        ] {
            assert_eq!(
                Reader::new("utc", locale).unwrap().day(day, format),
                shown,
                "{locale} {format}"
            );
        }
        assert!(Reader::new("Mars/Olympus", "fr").is_none());
    }

    #[test]
    fn text_durations_follow_their_format() {
        for (format, shown) in [
            ("h:mm", "1:02"),
            ("h:mm:ss", "1:02:03"),
            ("h:mm:ss.S", "1:02:03.5"),
            ("h:mm:ss.SSS", "1:02:03.500"),
        ] {
            assert_eq!(duration(3723.5, Some(format)), shown);
        }
        assert_eq!(duration(-90.0, Some("h:mm:ss")), "-0:01:30");
    }
}
