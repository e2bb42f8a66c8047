//! A row in the text format of `COPY` → its values. And the few texts that dates and times come as.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// A row that is read again and again into the same memory.
#[derive(Default)]
pub(super) struct Row {
    text: String,
    /// Where each value is in the text; `None`: null.
    places: Vec<Option<(usize, usize)>>,
}

impl Row {
    /// Reads a line as `COPY` sends it; `None`: it is not one.
    pub(super) fn read(&mut self, line: &[u8]) -> Option<()> {
        self.places.clear();
        let mut text = std::mem::take(&mut self.text).into_bytes();
        text.clear();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        for value in line.split(|byte| *byte == b'\t') {
            if value == b"\\N" {
                self.places.push(None);
                continue;
            }
            let start = text.len();
            unescape(value, &mut text)?;
            self.places.push(Some((start, text.len())));
        }
        self.text = String::from_utf8(text).ok()?;
        Some(())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = Option<&str>> {
        self.places.iter().map(|place| place.and_then(|(start, end)| self.text.get(start..end)))
    }
}

/// Puts a value without its escapes behind `text`; `None`: it ends within one.
fn unescape(value: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        text.push(match bytes.next()? {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        });
    }
    Some(())
}

/// A value without its escapes: itself where it has none, else in `place`.
pub(super) fn unescaped<'v>(value: &'v [u8], place: &'v mut Vec<u8>) -> Option<&'v [u8]> {
    if !value.contains(&b'\\') {
        return Some(value);
    }
    place.clear();
    unescape(value, place)?;
    Some(place)
}

/// `2026-03-01`; `None` for what has no place in a calendar of four digits.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    NaiveDate::from_ymd_opt(
        number(&bytes[..4])?.try_into().ok()?,
        number(&bytes[5..7])?,
        number(&bytes[8..])?,
    )
}

/// `2026-03-01 14:30:00.25`.
pub(super) fn moment(text: &str) -> Option<NaiveDateTime> {
    let (day, time) = text.split_once(' ')?;
    let bytes = time.as_bytes();
    if bytes.len() < 8 || bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let micros = match bytes.get(8..)? {
        [] => 0,
        [b'.', fraction @ ..] if !fraction.is_empty() && fraction.len() <= 6 => {
            number(fraction)? * 10_u32.pow(6 - u32::try_from(fraction.len()).ok()?)
        }
        _ => return None,
    };
    let time = NaiveTime::from_hms_micro_opt(
        number(&bytes[..2])?,
        number(&bytes[3..5])?,
        number(&bytes[6..8])?,
        micros,
    )?;
    Some(date(day)?.and_time(time))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use chrono::Timelike as _;

    use super::{Row, date, moment};

    #[test]
    fn export_copied_row_is_read_with_its_escapes() {
        let mut row = Row::default();
        row.read(b"a\\tb\\\\\t\\N\t\t\\n\\r\\v \xc3\xa9\n").unwrap();
        let values: Vec<_> = row.values().collect();
        assert_eq!(values, [Some("a\tb\\"), None, Some(""), Some("\n\r\u{b} é")]);
        row.read(b"1\n").unwrap();
        assert_eq!(row.values().collect::<Vec<_>>(), [Some("1")]);
        assert!(row.read(b"a\\").is_none());
    }

    #[test]
    fn export_dates_and_times_of_four_digit_years_are_read() {
        assert_eq!(date("2026-02-28").unwrap().to_string(), "2026-02-28");
        for not in ["2026-02-30", "infinity", "10000-01-01", "0044-03-15 BC"] {
            assert_eq!(date(not), None, "{not}");
        }
        let at = moment("2026-03-01 14:30:05.25").unwrap();
        assert_eq!((at.hour(), at.second(), at.nanosecond()), (14, 5, 250_000_000));
        for not in ["infinity", "2026-03-01", "2026-03-01 25:00:00", "2026-03-01 14:30:05 BC"] {
            assert_eq!(moment(not), None, "{not}");
        }
    }
}
