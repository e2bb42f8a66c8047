//! `plait reports`: what there is to export, in words.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    settings,
    terminal::{Paint, say},
};
use crate::{
    export::{Catalogue, Session, Source, tables},
    model::Language,
};

/// Lists the reports in words, or tells what the columns of one report or table hold.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A report or table: its columns
    name: Option<String>,
    /// The language; without it that of the terminal, by the variable LANG
    #[arg(long)]
    lang: Option<Language>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  plait reports                 all reports
  plait reports --lang fr       in French
  plait reports portfolio_line  the columns of one
  plait reports canon.member    of a table
`plait export NAME -o FILE` writes one.";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let session = Session::open(&settings::canonical(&settings.canonical)).await?;
    let catalogue = Catalogue::read(&session).await?;
    let language = arguments.lang.unwrap_or_else(Language::from_environment);
    let paint = Paint::for_stdout();
    let lines = match &arguments.name {
        Some(name) => {
            let source = catalogue.source(&session, name).await?;
            if arguments.json {
                vec![one_as_json(&source)]
            } else {
                one_as_text(&source, language, paint)
            }
        }
        None if arguments.json => vec![all_as_json(&catalogue)],
        None => {
            let tables = tables(&session).await?;
            let names: Vec<String> = tables.into_iter().map(|(name, _)| name).collect();
            all_as_text(&catalogue, &names, language, paint)
        }
    };
    for line in lines {
        if !say(&line)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all_as_text(
    catalogue: &Catalogue,
    tables: &[String],
    language: Language,
    paint: Paint,
) -> Vec<String> {
    let is_french = language == Language::Fr;
    let mut lines = Vec::new();
    let reports = &catalogue.0;
    if reports.is_empty() {
        lines.push(String::from(if is_french {
            "il n'y a pas encore de rapports : lancez `plait migrate`"
        } else {
            "there are no reports yet: run `plait migrate`"
        }));
    }
    let width = reports.iter().map(|report| report.name.chars().count()).max().unwrap_or(0);
    for report in reports {
        let (label, words) = if is_french {
            (&report.label_fr, &report.words_fr)
        } else {
            (&report.label_en, &report.words_en)
        };
        let dated = match (report.is_dated, is_french) {
            (false, _) => "",
            (true, true) => " · daté : prend --as-of",
            (true, false) => " · dated: takes --as-of",
        };
        let name = format!("{:width$}", report.name);
        lines.push(format!("{}  {label}{}", paint.bold(&name), paint.dim(dated)));
        if !words.is_empty() {
            lines.push(format!("{:width$}  {words}", ""));
        }
    }
    let heading = if is_french { "Tables de canon : " } else { "Tables of canon: " };
    lines.push(String::new());
    lines.push(format!("{heading}{}", tables.join(", ")));
    lines
}

fn one_as_text(source: &Source, language: Language, paint: Paint) -> Vec<String> {
    let report = &source.report;
    let (label, words) = match language {
        Language::Fr => (&report.label_fr, &report.words_fr),
        Language::En => (&report.label_en, &report.words_en),
    };
    let mut lines = vec![format!("{}  {label}", paint.bold(&report.name))];
    if !words.is_empty() {
        lines.push(words.clone());
    }
    lines.push(String::new());
    let width = |of: fn(&crate::export::Column) -> &str| {
        source.columns.iter().map(|column| of(column).chars().count()).max().unwrap_or(0)
    };
    let (names, types) = (width(|column| &column.name), width(|column| &column.type_name));
    for column in &source.columns {
        let comment = column.comment.as_deref().unwrap_or_default();
        let line = format!("  {:names$}  {:types$}  {comment}", column.name, column.type_name);
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn all_as_json(catalogue: &Catalogue) -> String {
    let reports = catalogue.0.iter().map(|report| {
        json!({
            "name": report.name, "label_fr": report.label_fr, "label_en": report.label_en,
            "words_fr": report.words_fr, "words_en": report.words_en, "is_dated": report.is_dated,
        })
    });
    json!(reports.collect::<Vec<_>>()).to_string()
}

fn one_as_json(source: &Source) -> String {
    let report = &source.report;
    let columns = source.columns.iter().map(|column| {
        json!({ "name": column.name, "type": column.type_name, "comment": column.comment })
    });
    json!({
        "name": report.name, "is_report": source.is_report(), "is_dated": report.is_dated,
        "label_fr": report.label_fr, "label_en": report.label_en,
        "words_fr": report.words_fr, "words_en": report.words_en,
        "columns": columns.collect::<Vec<_>>(),
    })
    .to_string()
}
