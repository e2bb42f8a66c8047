//! CSV, in either form. Postgres sends values as texts, which is what it does fastest; what makes them CSV is done here,
//! meanwhile, on another core.

use std::io::{BufWriter, Write as _};

use bigdecimal::BigDecimal;

use super::{Error, Locale, column::Kind, copy::Sink, file::Out, query::Query, rows::unescaped};
use crate::model::{looks_like_formula, without_formula};

const BUFFER_BYTES: usize = 256 * 1024;

pub(super) struct Csv {
    out: BufWriter<Out>,
    form: CsvForm,
    line: Vec<u8>,
    /// A value without its escapes.
    value: Vec<u8>,
}

/// How the values of a row become a line. Pure.
struct CsvForm {
    locale: Locale,
    kinds: Vec<Kind>,
}

impl Csv {
    pub(super) fn new(query: &Query, out: Out, locale: Locale) -> Result<Self, Error> {
        let kinds = query.columns.iter().map(|column| column.kind).collect();
        let form = CsvForm { locale, kinds };
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let mut csv = Self { out, form, line: Vec::new(), value: Vec::new() };
        if locale == Locale::French {
            // Excel takes a file without this mark for one of Windows' old letters.
            csv.line.extend_from_slice("\u{feff}".as_bytes());
        }
        for (at, column) in query.columns.iter().enumerate() {
            if at > 0 {
                csv.line.push(csv.form.delimiter());
            }
            csv.form.put_text(without_formula(&column.name).as_bytes(), &mut csv.line);
        }
        csv.form.end_line(&mut csv.line);
        csv.write()?;
        Ok(csv)
    }

    fn write(&mut self) -> Result<(), Error> {
        let written = self.out.write_all(&self.line);
        self.line.clear();
        written.map_err(|error| self.out.get_ref().fault(error))
    }

    pub(super) fn end(self) -> Result<Out, Error> {
        unbuffered(self.out)
    }
}

impl Sink for Csv {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let values = line.split(|byte| *byte == b'\t');
        for (at, (value, kind)) in values.zip(&self.form.kinds).enumerate() {
            if at > 0 {
                self.line.push(self.form.delimiter());
            }
            if value == b"\\N" {
                continue;
            }
            let value = unescaped(value, &mut self.value)
                .ok_or_else(|| Error::BrokenOff(String::from("a row that is none")))?;
            self.form.put(*kind, value, &mut self.line);
        }
        self.form.end_line(&mut self.line);
        self.write()
    }
}

impl CsvForm {
    fn delimiter(&self) -> u8 {
        match self.locale {
            Locale::Standard => b',',
            Locale::French => b';',
        }
    }

    fn end_line(&self, line: &mut Vec<u8>) {
        match self.locale {
            Locale::Standard => line.push(b'\n'),
            Locale::French => line.extend_from_slice(b"\r\n"),
        }
    }

    /// Puts a value, as [`super::column::Form::Csv`] has it sent, behind `line`.
    fn put(&self, kind: Kind, value: &[u8], line: &mut Vec<u8>) {
        let is_french = self.locale == Locale::French;
        match kind {
            Kind::Integer(_) | Kind::Uuid => line.extend_from_slice(value),
            Kind::Boolean => line.extend_from_slice(match (value, is_french) {
                (b"t", false) => b"true",
                (_, false) => b"false",
                (b"t", true) => b"oui",
                (_, true) => b"non",
            }),
            Kind::Numeric(_) | Kind::Float(_) if is_french => {
                let start = line.len();
                // A float has an exponent where it is very large or small.
                let plain = value.contains(&b'e').then(|| plain(value)).flatten();
                line.extend_from_slice(plain.as_deref().map_or(value, str::as_bytes));
                for byte in line.iter_mut().skip(start).filter(|byte| **byte == b'.') {
                    *byte = b',';
                }
            }
            Kind::Numeric(_) | Kind::Float(_) => line.extend_from_slice(value),
            Kind::Date | Kind::Instant | Kind::Moment => self.put_time(value, line),
            Kind::Json => self.put_text(value, line),
            // In the standard form a list is JSON, which begins with a bracket.
            Kind::Text | Kind::Texts | Kind::Array | Kind::Other => {
                // Most begin with a letter, and are no formula for sure.
                let is_formula = value.first().is_some_and(|first| !first.is_ascii_alphanumeric())
                    && std::str::from_utf8(value).is_ok_and(looks_like_formula);
                if is_formula {
                    self.put_text(&[b"'", value].concat(), line);
                } else {
                    self.put_text(value, line);
                }
            }
        }
    }

    /// A date or time of four digits' years; any other, such as `infinity`, stays as it is.
    fn put_time(&self, value: &[u8], line: &mut Vec<u8>) {
        let (date, time) = value.split_at_checked(10).unwrap_or((value, b""));
        let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else {
            return line.extend_from_slice(value);
        };
        if !(time.is_empty() || time.first() == Some(&b' ')) || value.ends_with(b"BC") {
            return line.extend_from_slice(value);
        }
        if self.locale == Locale::French {
            line.extend_from_slice(&[d0, d1, b'/', m0, m1, b'/', y0, y1, y2, y3]);
            // Without fractions of a second, which Excel does not read.
            return line.extend_from_slice(time.get(..9).unwrap_or(time));
        }
        line.extend_from_slice(date);
        if let Some(time) = time.strip_prefix(b" ") {
            line.push(b'T');
            match time.strip_suffix(b"+00") {
                Some(of_utc) => {
                    line.extend_from_slice(of_utc);
                    line.push(b'Z');
                }
                None => line.extend_from_slice(time),
            }
        }
    }

    /// A text, within quotes where it has to be: an empty one, too, since nothing at all is null.
    fn put_text(&self, text: &[u8], line: &mut Vec<u8>) {
        let delimiter = self.delimiter();
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\n' | b'\r') || *byte == delimiter;
        if !text.is_empty() && text != b"\\." && !text.iter().any(is_special) {
            return line.extend_from_slice(text);
        }
        line.push(b'"');
        for (at, part) in text.split(|byte| *byte == b'"').enumerate() {
            if at > 0 {
                line.extend_from_slice(b"\"\"");
            }
            line.extend_from_slice(part);
        }
        line.push(b'"');
    }
}

fn plain(value: &[u8]) -> Option<String> {
    let number: BigDecimal = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(number.to_plain_string())
}

/// What is in the buffer is written.
pub(super) fn unbuffered(mut buffered: BufWriter<Out>) -> Result<Out, Error> {
    if let Err(error) = buffered.flush() {
        return Err(buffered.get_ref().fault(error));
    }
    // It is empty: nothing can fail.
    buffered.into_inner().map_err(|error| Error::BrokenOff(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{CsvForm, Kind, Locale};

    fn put(kind: Kind, value: &str) -> [String; 2] {
        [Locale::Standard, Locale::French].map(|locale| {
            let mut line = Vec::new();
            CsvForm { locale, kinds: Vec::new() }.put(kind, value.as_bytes(), &mut line);
            String::from_utf8(line).unwrap()
        })
    }

    #[test]
    fn export_csv_times_are_those_of_either_form() {
        for (kind, value, standard, french) in [
            (Kind::Date, "2026-03-01", "2026-03-01", "01/03/2026"),
            (Kind::Date, "infinity", "infinity", "infinity"),
            (Kind::Date, "10000-01-01", "10000-01-01", "10000-01-01"),
            (Kind::Date, "0044-03-15 BC", "0044-03-15 BC", "0044-03-15 BC"),
            (Kind::Moment, "2026-03-01 08:00:00.5", "2026-03-01T08:00:00.5", "01/03/2026 08:00:00"),
        ] {
            assert_eq!(put(kind, value), [standard, french], "{value}");
        }
        assert_eq!(put(Kind::Instant, "2026-03-01 08:00:00+00")[0], "2026-03-01T08:00:00Z");
    }

    #[test]
    fn export_csv_numbers_have_no_exponent_in_french() {
        assert_eq!(put(Kind::Float(8), "-2.5e-07"), ["-2.5e-07", "-0,00000025"]);
        assert_eq!(put(Kind::Float(8), "1.5e+20"), ["1.5e+20", "150000000000000000000"]);
        assert_eq!(put(Kind::Numeric(None), "-1234.50"), ["-1234.50", "-1234,50"]);
        assert_eq!(put(Kind::Float(8), "NaN"), ["NaN", "NaN"]);
    }

    #[test]
    fn export_csv_texts_are_quoted_where_they_have_to_be() {
        assert_eq!(put(Kind::Text, "a,b;c"), ["\"a,b;c\"", "\"a,b;c\""]);
        assert_eq!(put(Kind::Text, "a,b"), ["\"a,b\"", "a,b"]);
        assert_eq!(put(Kind::Text, "\"")[0], "\"\"\"\"");
        assert_eq!(put(Kind::Text, "")[0], "\"\"");
        assert_eq!(put(Kind::Text, "=a\nb")[0], "\"'=a\nb\"");
        assert_eq!(put(Kind::Text, "+33 6 12")[1], "+33 6 12");
        assert_eq!(put(Kind::Other, "-5 days")[1], "'-5 days");
        assert_eq!(put(Kind::Json, "-5")[1], "-5");
    }
}
