//! The sections `[[export]]`: what is exported by itself, when, and where to.

use std::path::{Path, PathBuf};

use chrono::NaiveTime;
use chrono_tz::{Europe::Paris, Tz};

use crate::document::{Section, beside};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Csv,
    Xlsx,
    Json,
    Parquet,
}

impl Format {
    pub(crate) const ALL: [Self; 4] = [Self::Csv, Self::Xlsx, Self::Json, Self::Parquet];

    /// Its name, and what the names of its files end in.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }
}

/// How numbers, dates and yes or no are written, where the format leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Locale {
    /// Decimal points, dates as 2026-03-01; in CSV `,` between values and times of UTC
    Standard,
    /// As a French Excel reads it: decimal commas, dates as 01/03/2026; in CSV `;` between values and the time of Paris
    #[value(name = "fr")]
    French,
}

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A report or table.
    One(String),
    Several(Vec<String>),
    /// All reports.
    All,
    /// A folder an investor.
    InvestorPack,
}

impl What {
    /// As a person names it on the command line or in the settings.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "all" => Self::All,
            "investor-pack" => Self::InvestorPack,
            one => Self::One(one.to_owned()),
        }
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Every {
    Day,
    /// On Mondays.
    Week,
    /// On the first.
    Month,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    pub(crate) every: Every,
    /// On the clocks of `zone`.
    pub(crate) at: NaiveTime,
    pub(crate) zone: Tz,
}

/// A scheduled export.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) what: What,
    pub(crate) format: Format,
    pub(crate) locale: Locale,
    pub(crate) folder: PathBuf,
    pub(crate) table: Timetable,
    /// How many are kept; `None`: all.
    pub(crate) keep: Option<usize>,
}

/// All sections `[[export]]`.
pub(super) fn exports(path: &Path, root: &Section<'_, '_>) -> Vec<Export> {
    let mut exports: Vec<Export> = Vec::new();
    for section in root.each("export") {
        let Some(export) = export(path, &section) else { continue };
        if exports.iter().any(|other| other.name == export.name) {
            let what = format!("two exports are called `{}`", export.name);
            section.problem(&section.span_of("name"), what);
        }
        exports.push(export);
    }
    exports
}

fn export(path: &Path, section: &Section<'_, '_>) -> Option<Export> {
    section.only(&[
        "name", "reports", "format", "locale", "folder", "every", "at", "timezone", "keep",
    ]);
    let name = section.needed_text("name");
    let is_plain = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.as_ref().is_some_and(|name| !is_plain(name)) {
        let what = "`name` has to be of letters, digits, `-` and `_`: the names of its files begin with it";
        section.problem(&section.span_of("name"), what);
    }
    let what = reports(section);
    let formats = Format::ALL.map(|format| (format.name(), format));
    let format = section.choice("format", &formats).unwrap_or(Format::Csv);
    let locales = [("standard", Locale::Standard), ("fr", Locale::French)];
    let folder = section.needed_text("folder");
    let every = [("day", Every::Day), ("week", Every::Week), ("month", Every::Month)];
    if section.get("every").is_none() {
        section.problem(&section.span, "`every` is missing: it is `day`, `week` or `month`");
    }
    let table = Timetable {
        every: section.choice("every", &every).unwrap_or(Every::Day),
        at: time(section),
        zone: zone(section),
    };
    let keep = section.whole("keep", 1..=100_000).and_then(|count| usize::try_from(count).ok());
    Some(Export {
        name: name?,
        what: what?,
        format,
        locale: section.choice("locale", &locales).unwrap_or(Locale::Standard),
        folder: beside(path, &folder?),
        table,
        keep,
    })
}

fn reports(section: &Section<'_, '_>) -> Option<What> {
    let Some(node) = section.get("reports") else {
        section.problem(
            &section.span,
            "`reports` is missing: a list of reports, \"all\" or \"investor-pack\"",
        );
        return None;
    };
    if let Some(text) = node.get_ref().as_str() {
        return Some(What::named(text));
    }
    let mut names: Vec<String> =
        section.texts("reports").into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        let what = "`reports` has to be a list of reports, \"all\" or \"investor-pack\"";
        section.problem(&node.span(), what);
    }
    if names.len() == 1 { names.pop().map(What::One) } else { Some(What::Several(names)) }
}

fn time(section: &Section<'_, '_>) -> NaiveTime {
    let Some(text) = section.text("at") else {
        return NaiveTime::from_hms_opt(6, 0, 0).unwrap_or_default();
    };
    NaiveTime::parse_from_str(&text, "%H:%M").unwrap_or_else(|_| {
        section.problem(&section.span_of("at"), "`at` has to be a time like `06:00`");
        NaiveTime::default()
    })
}

fn zone(section: &Section<'_, '_>) -> Tz {
    let Some(text) = section.text("timezone") else { return Paris };
    text.parse().unwrap_or_else(|_| {
        let what = format!("`timezone` cannot be `{text}`: it is like `Europe/Paris`");
        section.problem(&section.span_of("timezone"), what);
        Paris
    })
}

#[cfg(test)]
mod tests {
    use super::{Every, Format, Locale, What};
    use crate::config::Settings;

    fn read(sections: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plait.toml");
        let head = "[canonical]\nurl = \"postgres://plait@localhost/plait\"\n";
        std::fs::write(&path, format!("{head}{sections}")).unwrap();
        Settings::read(&path)
            .map_err(|problems| problems.to_string().replace(&path.display().to_string(), ""))
    }

    #[test]
    fn config_exports_are_read_with_their_defaults() {
        let exports = read(
            "[[export]]\nname = \"monday\"\nreports = [\"a\", \"b\"]\nfolder = \"out\"\nevery = \"week\"\n\
             [[export]]\nname = \"packs\"\nreports = \"investor-pack\"\nformat = \"xlsx\"\nlocale = \"fr\"\n\
             folder = \"/srv/packs\"\nevery = \"month\"\nat = \"23:30\"\ntimezone = \"UTC\"\nkeep = 12\n",
        )
        .unwrap()
        .exports;
        let [monday, packs] = exports.as_slice() else { panic!("{exports:?}") };
        assert_eq!(monday.what, What::Several(vec!["a".into(), "b".into()]));
        assert_eq!((monday.format, monday.locale), (Format::Csv, Locale::Standard));
        assert!(monday.folder.is_absolute() && monday.folder.ends_with("out"));
        assert_eq!((monday.table.every, monday.keep), (Every::Week, None));
        assert_eq!(
            (monday.table.at.to_string(), monday.table.zone.name()),
            ("06:00:00".into(), "Europe/Paris")
        );
        assert_eq!((packs.what.clone(), packs.keep), (What::InvestorPack, Some(12)));
        assert_eq!(
            (packs.table.at.to_string(), packs.table.zone.name()),
            ("23:30:00".into(), "UTC")
        );
    }

    #[test]
    fn config_exports_with_mistakes_are_told_with_their_lines() {
        let said = read(
            "[[export]]\nname = \"a b\"\nreports = []\nfolder = \"o\"\nevery = \"dya\"\nat = \"6h\"\ntimezone = \"Paris\"\nkeep = 0\n\
             [[export]]\nnmae = \"x\"\n",
        )
        .unwrap_err();
        for part in [
            ":4: [[export]]: `name` has to be of letters",
            ":5: [[export]]: `reports` has to be a list",
            ":7: [[export]]: `every` cannot be `dya`; it is one of",
            ":8: [[export]]: `at` has to be a time like `06:00`",
            ":9: [[export]]: `timezone` cannot be `Paris`",
            ":10: [[export]]: `keep` has to be a whole number",
            ":12: [[export]]: unknown key `nmae`; did you mean `name`?",
            "`reports` is missing",
            "`folder` is missing",
            "`every` is missing",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(read("[export]\nname = \"x\"\n").unwrap_err().contains("[[export]]"));
        let twice =
            "[[export]]\nname = \"x\"\nreports = \"all\"\nfolder = \"o\"\nevery = \"day\"\n";
        assert!(read(&twice.repeat(2)).unwrap_err().contains("two exports are called `x`"));
    }
}
