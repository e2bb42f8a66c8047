//! Excel: a sheet a report, with real numbers and dates; text is always text. Rows go to a file without a name as they
//! come, and into the workbook at the end.

use std::{
    cell::Cell,
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::Once,
};

use chrono::{NaiveDate, NaiveDateTime};
use rust_xlsxwriter::{Format, FormatAlign, Workbook, Worksheet, XlsxError};

use super::{
    Error, Locale,
    column::{Column, Kind},
    copy::Sink,
    cover::{Cover, Entry},
    file::Out,
    query::Query,
    rows::{self, Row},
};
use crate::model::looks_like_formula;

/// Beside the header.
const ROW_COUNT_MAX: u64 = 1_048_575;
const COLUMN_COUNT_MAX: usize = 16_384;
const TEXT_LENGTH_MAX: usize = 32_767;
/// What Excel keeps of a number.
const SIGNIFICANT_DIGITS_MAX: usize = 15;
const SHEET_NAME_LENGTH_MAX: usize = 31;
/// Rows by whose texts the width of a column is set, and its bounds, in characters.
const LOOK_ROW_COUNT: u64 = 500;
const WIDTH_MIN: usize = 8;
const WIDTH_MAX: usize = 60;

thread_local! {
    /// Whether a panic of this thread is caught and told by [`guarded`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// A workbook that is being made; the first sheet is the cover.
pub(super) struct Book {
    workbook: Workbook,
    /// Where sheets are put down on the way.
    folder: PathBuf,
    locale: Locale,
    entries: Vec<Entry>,
    written: u64,
}

/// The sheet that is being filled.
pub(super) struct Sheet {
    book: Book,
    at: usize,
    name: String,
    query: Query,
    styles: Styles,
    row: Row,
    row_no: u64,
    widths: Vec<usize>,
}

struct Styles {
    head: Format,
    /// A text that begins as a formula does: Excel shows it with the mark for text.
    quoted: Format,
    /// A number of which Excel would lose digits, as text.
    digits: Format,
}

impl Styles {
    fn new() -> Self {
        Self {
            head: Format::new().set_bold().set_align(FormatAlign::VerticalCenter),
            quoted: Format::new().set_quote_prefix(),
            digits: Format::new().set_num_format("@").set_align(FormatAlign::Right),
        }
    }
}

impl Book {
    pub(super) fn new(folder: PathBuf, locale: Locale) -> Result<Self, Error> {
        let mut workbook = Workbook::new();
        let folder_there = &folder;
        guarded(folder_there, 0, || {
            workbook.set_tempdir(folder_there)?;
            workbook.add_worksheet().set_name(super::cover::SHEET_NAME)?;
            Ok(())
        })?;
        Ok(Self { workbook, folder, locale, entries: Vec::new(), written: 0 })
    }

    /// Begins the next sheet.
    pub(super) fn sheet(mut self, query: &Query) -> Result<Sheet, Error> {
        if query.columns.len() > COLUMN_COUNT_MAX {
            return Err(Error::TooManyColumns { report: query.name().to_owned() });
        }
        let label = match self.locale {
            Locale::French => &query.source.report.label_fr,
            Locale::Standard => &query.source.report.label_en,
        };
        let label = if label.trim().is_empty() { query.name() } else { label };
        let taken = self.entries.iter().map(|entry| entry.sheet.as_str());
        let name = sheet_name(label, std::iter::once(super::cover::SHEET_NAME).chain(taken));
        let styles = Styles::new();
        let locale = self.locale;
        let at = self.entries.len() + 1;
        let workbook = &mut self.workbook;
        guarded(&self.folder, self.written, || {
            let sheet = workbook.add_worksheet_with_constant_memory()?;
            sheet.set_name(&name)?.set_freeze_panes(1, 0)?;
            for (column, at) in query.columns.iter().zip(0_u16..) {
                if let Some(format) = number_format(column.kind, locale) {
                    sheet.set_column_format(at, &Format::new().set_num_format(format))?;
                }
            }
            for (column, at) in query.columns.iter().zip(0_u16..) {
                sheet.write_string_with_format(0, at, &column.name, &styles.head)?;
            }
            Ok(())
        })?;
        let widths = query.columns.iter().map(first_width).collect();
        let query = query.clone();
        Ok(Sheet { book: self, at, name, query, styles, row: Row::default(), row_no: 0, widths })
    }

    /// Writes the cover and the whole workbook.
    pub(super) fn end(self, cover: &Cover, mut out: Out) -> Result<Out, Error> {
        let Self { mut workbook, folder, entries, written, .. } = self;
        let ended = guarded(&folder, written, || {
            cover.write(&entries, workbook.worksheet_from_index(0)?)?;
            workbook.save_to_writer(Muffled { out: &mut out, has_failed: false })?;
            Ok(())
        });
        ended.map_err(|error| out.fault_behind(error))?;
        Ok(out)
    }
}

/// After its first fault it takes everything and keeps nothing: the archive, which is dropped then, tries once more to
/// write its end, and would say on standard error that it cannot.
struct Muffled<'a> {
    out: &'a mut Out,
    has_failed: bool,
}

impl io::Write for Muffled<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Ok(bytes.len());
        }
        self.out.write(bytes).inspect_err(|_| self.has_failed = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Ok(());
        }
        self.out.flush().inspect_err(|_| self.has_failed = true)
    }
}

impl Sheet {
    /// Ends the sheet.
    pub(super) fn end(self) -> Result<Book, Error> {
        let Self { mut book, at, name, query, row_no, widths, .. } = self;
        let workbook = &mut book.workbook;
        guarded(&book.folder, book.written, || {
            let sheet = workbook.worksheet_from_index(at)?;
            for (width, at) in widths.iter().zip(0_u16..) {
                let width = u32::try_from((*width).clamp(WIDTH_MIN, WIDTH_MAX)).unwrap_or(60);
                sheet.set_column_width(at, f64::from(width) + 1.5)?;
            }
            let last = u16::try_from(widths.len().saturating_sub(1)).unwrap_or(u16::MAX);
            if let Ok(row_no) = u32::try_from(row_no) {
                sheet.autofilter(0, 0, row_no, last)?;
            }
            Ok(())
        })?;
        let report = query.source.report;
        book.entries.push(Entry { sheet: name, report, row_count: row_no });
        Ok(book)
    }
}

impl Sink for Sheet {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        if self.row_no == ROW_COUNT_MAX {
            return Err(Error::TooManyRows { report: self.query.name().to_owned() });
        }
        self.row_no += 1;
        self.book.written += line.len() as u64;
        let read = self.row.read(line);
        read.ok_or_else(|| Error::BrokenOff(String::from("a row that is none")))?;
        let (row_no, styles, row) = (self.row_no, &self.styles, &self.row);
        let (columns, widths) = (&self.query.columns, &mut self.widths);
        let report = self.query.name();
        let Book { workbook, folder, written, .. } = &mut self.book;
        let at = self.at;
        let mut too_long = None;
        guarded(folder, *written, || {
            let sheet = workbook.worksheet_from_index(at)?;
            let row_at = u32::try_from(row_no).unwrap_or(u32::MAX);
            for ((value, column), col_at) in row.values().zip(columns).zip(0_u16..) {
                let Some(text) = value else { continue };
                let length = text.len();
                if length > TEXT_LENGTH_MAX {
                    // As Excel counts.
                    let length = text.encode_utf16().count();
                    if length > TEXT_LENGTH_MAX {
                        too_long = Some((column.name.clone(), length));
                        return Ok(());
                    }
                }
                if row_no <= LOOK_ROW_COUNT {
                    let seen = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                    let width = &mut widths[usize::from(col_at)];
                    *width = (*width).max(shown_width(column.kind, seen));
                }
                put(sheet, row_at, col_at, column, text, styles)?;
            }
            Ok(())
        })?;
        match too_long {
            None => Ok(()),
            Some((column, length)) => {
                Err(Error::TextTooLong { report: report.to_owned(), row: row_no, column, length })
            }
        }
    }
}

fn put(
    sheet: &mut Worksheet,
    row: u32,
    col: u16,
    column: &Column,
    text: &str,
    styles: &Styles,
) -> Result<(), XlsxError> {
    let is_exact = |text: &str| significant_digits(text) <= SIGNIFICANT_DIGITS_MAX;
    let number = match column.kind {
        Kind::Boolean => {
            sheet.write_boolean(row, col, text == "true")?;
            return Ok(());
        }
        Kind::Integer(_) | Kind::Numeric(_) => {
            match text.parse::<f64>().ok().filter(|it| it.is_finite()) {
                Some(number) if is_exact(text) => Some(number),
                _ => {
                    sheet.write_string_with_format(row, col, text, &styles.digits)?;
                    return Ok(());
                }
            }
        }
        Kind::Float(_) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        Kind::Date => rows::date(text).and_then(|day| day.and_hms_opt(0, 0, 0)).and_then(serial),
        Kind::Instant | Kind::Moment => rows::moment(text).and_then(serial),
        _ => None,
    };
    if let Some(number) = number {
        sheet.write_number(row, col, number)?;
        return Ok(());
    }
    // A line of a cell ends as one does on a Unix.
    let lines = text.contains('\r').then(|| text.replace("\r\n", "\n").replace('\r', "\n"));
    let text = lines.as_deref().unwrap_or(text);
    if looks_like_formula(text) {
        sheet.write_string_with_format(row, col, text, &styles.quoted)?;
    } else {
        sheet.write_string(row, col, text)?;
    }
    Ok(())
}

/// A time as Excel counts: days since the last of 1899. `None`: before March 1900 it counts a day that never was.
fn serial(at: NaiveDateTime) -> Option<f64> {
    let first = NaiveDate::from_ymd_opt(1900, 3, 1)?;
    let zero = NaiveDate::from_ymd_opt(1899, 12, 30)?;
    if at.date() < first {
        return None;
    }
    let days = i32::try_from((at.date() - zero).num_days()).ok()?;
    let within = at - at.date().and_hms_opt(0, 0, 0)?;
    let millis = i32::try_from(within.num_milliseconds()).ok()?;
    Some(f64::from(days) + f64::from(millis) / 86_400_000.0)
}

/// Digits of a decimal that are not zeros at its ends.
fn significant_digits(text: &str) -> usize {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    let Some(first) = digits.iter().position(|digit| *digit != b'0') else { return 0 };
    let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
    last - first + 1
}

/// As Excel writes formats, whatever language it speaks: it shows the separators of its own.
fn number_format(kind: Kind, locale: Locale) -> Option<String> {
    let is_french = locale == Locale::French;
    Some(match kind {
        Kind::Integer(_) => String::from("0"),
        Kind::Numeric(Some((_, 0))) => String::from("#,##0"),
        Kind::Numeric(Some((_, scale))) => {
            format!("#,##0.{}", "0".repeat(usize::try_from(scale).unwrap_or(0).min(30)))
        }
        Kind::Numeric(None) => String::from("#,##0.00########"),
        Kind::Date if is_french => String::from("dd/mm/yyyy"),
        Kind::Date => String::from("yyyy-mm-dd"),
        Kind::Instant | Kind::Moment if is_french => String::from("dd/mm/yyyy hh:mm:ss"),
        Kind::Instant | Kind::Moment => String::from("yyyy-mm-dd hh:mm:ss"),
        _ => return None,
    })
}

fn first_width(column: &Column) -> usize {
    // The button of the filter is beside the name.
    let head = column.name.chars().count() + 3;
    head.max(match column.kind {
        Kind::Date => 10,
        Kind::Instant | Kind::Moment => 19,
        _ => 0,
    })
}

fn shown_width(kind: Kind, seen: usize) -> usize {
    match kind {
        // With a space for every three digits.
        Kind::Numeric(_) => seen + seen / 3,
        Kind::Date | Kind::Instant | Kind::Moment => 0,
        _ => seen,
    }
}

/// A name that Excel takes for a sheet, and that no other has.
fn sheet_name<'n>(label: &str, taken: impl Iterator<Item = &'n str>) -> String {
    let taken: Vec<String> = taken.map(str::to_lowercase).collect();
    let clean: String = label
        .chars()
        .map(|letter| if "[]:*?/\\".contains(letter) || letter.is_control() { '-' } else { letter })
        .collect();
    let clean = clean.trim().trim_matches('\'');
    let clean =
        if clean.is_empty() || clean.eq_ignore_ascii_case("history") { "data" } else { clean };
    // Excel counts as UTF-16 does.
    let cut = |length_max: usize| {
        let mut length = 0;
        let fits = clean.chars().take_while(|letter| {
            length += letter.len_utf16();
            length <= length_max
        });
        fits.collect::<String>().trim_end_matches([' ', '\'']).to_owned()
    };
    let mut name = cut(SHEET_NAME_LENGTH_MAX);
    let mut no = 2;
    while taken.contains(&name.to_lowercase()) {
        let ending = format!(" {no}");
        name = format!("{}{ending}", cut(SHEET_NAME_LENGTH_MAX - ending.len()));
        no += 1;
    }
    name
}

/// The library panics where what it puts down on the way does not fit the disk: here that becomes an error.
fn guarded<T>(
    folder: &std::path::Path,
    written: u64,
    work: impl FnOnce() -> Result<T, XlsxError>,
) -> Result<T, Error> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                told(info);
            }
        }));
    });
    IS_GUARDED.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(false);
    let full = || Error::DiskFull { folder: folder.to_owned(), written };
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(XlsxError::IoError(error) | XlsxError::TempFileError(_, error)))
            if error.kind() == io::ErrorKind::StorageFull =>
        {
            Err(full())
        }
        Ok(Err(error)) => Err(Error::Workbook(error)),
        Err(panicked) => {
            let text = panicked.downcast_ref::<String>().cloned().unwrap_or_default();
            if text.contains("StorageFull") || text.contains("QuotaExceeded") {
                return Err(full());
            }
            Err(Error::BrokenOff(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{guarded, rows, serial, sheet_name, significant_digits};
    use crate::export::Error;

    #[test]
    fn export_sheets_have_names_that_excel_takes() {
        let name = |label: &str, taken: &[&str]| sheet_name(label, taken.iter().copied());
        assert_eq!(name("Suivi [2026]: a/b?", &[]), "Suivi -2026-- a-b-");
        let long = "Engagements par investisseur et par projet";
        assert_eq!(name(long, &[]), "Engagements par investisseur et");
        let other = name(long, &["engagements par investisseur et"]);
        assert_eq!(other, "Engagements par investisseur 2");
        assert_eq!(name("'", &[]), "data");
        assert_eq!(name(&"𝄞".repeat(20), &[]).encode_utf16().count(), 30);
    }

    #[test]
    fn export_numbers_keep_their_digits_or_are_text() {
        for (text, digits) in [
            ("0.00", 0),
            ("-12.50", 3),
            ("1000000000000000000", 1),
            ("9007199254740993", 16),
            ("0.0100000000", 1),
        ] {
            assert_eq!(significant_digits(text), digits, "{text}");
        }
    }

    #[test]
    fn export_times_are_counted_as_excel_does() {
        let of = |text: &str| rows::moment(text).and_then(serial);
        assert_eq!(of("1900-03-01 00:00:00"), Some(61.0));
        assert_eq!(of("2026-03-01 12:00:00"), Some(46_082.5));
        assert_eq!(of("1900-02-28 00:00:00"), None);
    }

    #[test]
    fn export_disk_that_is_full_is_told_and_not_a_panic() {
        let folder = std::path::Path::new("/folder");
        let full = || -> Result<(), _> {
            let full = fs::write("/dev/full", "x");
            full.expect("Couldn't write to xml file");
            Ok(())
        };
        assert!(matches!(guarded(folder, 5, full), Err(Error::DiskFull { written: 5, .. })));
    }
}
