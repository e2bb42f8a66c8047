//! The first sheet of a workbook, in French and English: what is in it, as of when, made when and by whom.

use chrono::{DateTime, NaiveDate, Utc};
use rust_xlsxwriter::{Format, FormatAlign, Url, Worksheet, XlsxError};

use super::Report;

/// In both languages.
pub(super) const SHEET_NAME: &str = "Couverture - Cover";

/// What the cover says of the whole.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    pub(super) as_of: Option<NaiveDate>,
    pub(super) known_at: Option<DateTime<Utc>>,
    pub(super) made_at: DateTime<Utc>,
    pub(super) made_by: String,
    /// In words.
    pub(super) filters: Vec<String>,
}

/// A sheet.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) sheet: String,
    pub(super) report: Report,
    pub(super) row_count: u64,
}

impl Cover {
    pub(super) fn write(&self, entries: &[Entry], sheet: &mut Worksheet) -> Result<(), XlsxError> {
        let title = Format::new().set_bold().set_font_size(16);
        let bold = Format::new().set_bold();
        let wrapped = Format::new().set_text_wrap().set_align(FormatAlign::Top);
        let top = Format::new().set_align(FormatAlign::Top);
        let count = Format::new().set_num_format("#,##0").set_align(FormatAlign::Top);
        for (at, width) in [(0, 34.0), (1, 34.0), (2, 60.0), (3, 60.0), (4, 16.0)] {
            sheet.set_column_width(at, width)?;
        }
        sheet.set_screen_gridlines(false);
        sheet.write_string_with_format(0, 0, "Plait · export", &title)?;
        let mut row = 2;
        for (label, value) in self.lines() {
            sheet.write_string_with_format(row, 0, label, &bold)?;
            sheet.write_string(row, 1, value)?;
            row += 1;
        }
        row += 1;
        let heads = ["Rapport", "Report", "Contenu", "What it holds", "Lignes / Rows"];
        for (head, at) in heads.iter().zip(0_u16..) {
            sheet.write_string_with_format(row, at, *head, &bold)?;
        }
        for entry in entries {
            row += 1;
            let report = &entry.report;
            let link = format!("internal:'{}'!A1", entry.sheet.replace('\'', "''"));
            sheet.write_url_with_text(row, 0, Url::new(link), or_name(&report.label_fr, report))?;
            sheet.write_string_with_format(row, 1, or_name(&report.label_en, report), &top)?;
            sheet.write_string_with_format(row, 2, &report.words_fr, &wrapped)?;
            sheet.write_string_with_format(row, 3, &report.words_en, &wrapped)?;
            // A sheet holds few enough for that.
            let rows = u32::try_from(entry.row_count).unwrap_or(u32::MAX);
            sheet.write_number_with_format(row, 4, rows, &count)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let paris = |at: DateTime<Utc>| {
            at.with_timezone(&chrono_tz::Europe::Paris)
                .format("%d/%m/%Y %H:%M:%S (Paris)")
                .to_string()
        };
        let as_of = self.as_of.map_or_else(
            || String::from("maintenant / now"),
            |day| day.format("%d/%m/%Y (%Y-%m-%d)").to_string(),
        );
        let filters =
            if self.filters.is_empty() { "aucun / none".into() } else { self.filters.join(" ; ") };
        vec![
            ("Chiffres au / As of", as_of),
            (
                "D'après ce qui était connu le / Known at",
                paris(self.known_at.unwrap_or(self.made_at)),
            ),
            ("Établi le / Made at", paris(self.made_at)),
            ("Établi par / Made by", self.made_by.clone()),
            ("Filtres / Filters", filters),
        ]
    }
}

fn or_name<'r>(label: &'r str, report: &'r Report) -> &'r str {
    if label.trim().is_empty() { &report.name } else { label }
}
