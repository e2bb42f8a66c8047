//! `plait export`: reports and tables, as files.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use chrono::{DateTime, NaiveDate, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    desk::{Who, instead, time},
    settings,
    terminal::{Paint, say, warn},
};
use crate::{
    config::{Export, Format, Locale, Settings, What},
    export::{
        Catalogue, Error, Maker, Order, Pack, Place, Question, Session, Watch, Written, bytes,
        carry_out,
    },
};

/// How long a stopped export has to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Writes a report (`plait reports` lists them), a table of the canonical database, or all reports, as they are at one
/// moment. Rows are streamed: a million of them take no more memory than ten. A file is there when it is whole, and
/// not before. Exit code 0: all was written; 1: not all of it was.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("author", |it| it.help("By whom, for the cover; the login name unless this says otherwise")))]
pub(super) struct Arguments {
    /// A report, a table (`canon.member` is always the table), `all`, or `investor-pack`
    #[arg(required_unless_present = "scheduled")]
    what: Option<String>,
    /// Where to: a file, a folder for several files, or - for standard output
    #[arg(long, short, value_name = "FILE", required_unless_present = "scheduled")]
    output: Option<PathBuf>,
    /// What is written; without it the ending of FILE says so, else it is csv
    #[arg(long, short)]
    format: Option<Format>,
    /// How numbers and dates are written
    #[arg(long, default_value = "standard")]
    locale: Locale,
    /// Figures as of this business date, like 2026-03-31; for dated reports
    #[arg(long, value_name = "DATE", value_parser = day)]
    as_of: Option<NaiveDate>,
    /// With --as-of: from what was known then, like 2026-04-15 or "2026-04-15 09:00"
    #[arg(long, value_name = "TIME", value_parser = time, requires = "as_of")]
    known_at: Option<DateTime<Utc>>,
    /// Only this investor: UUID, e-mail address, or first and last name
    #[arg(long, value_name = "WHO")]
    investor: Option<String>,
    /// Only rows for which this SQL condition on the columns holds
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Only these columns, in this order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Replace a file that is there already
    #[arg(long)]
    overwrite: bool,
    /// Carry out this scheduled export of the settings now
    #[arg(long, value_name = "NAME", conflicts_with_all = ["what", "output", "format", "as_of", "investor", "condition", "columns", "overwrite"])]
    scheduled: Option<String>,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  plait reports                                              what there is
  plait export portfolio_line -o portfolio.xlsx              for Excel: a cover, and a sheet
  plait export all -o reports.xlsx --as-of 2026-03-31        every dated report, a sheet each
  plait export portfolio_line -o portfolio.csv --locale fr   as a French Excel opens it by a double click
  plait export movement --investor \"Jeanne Martin\" -o -      CSV on the terminal
  plait export canon.member -o members.parquet --columns id,city,joined_on
  plait export movement --where \"amount > 1000\" -f json -o - | jq length
  plait export investor-pack -f xlsx -o packs                a folder for each investor
  plait export --scheduled monday                            what [[export]] of plait.toml says, now
Dated reports answer --as-of; the others have the figures of now. docs/exports.md has each option by example.";

pub(super) async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let bar = bar();
    let watch = Watch { bar: &bar, stop: &stop };
    let work = async {
        match (&arguments.scheduled, &arguments.what, &arguments.output) {
            (Some(name), ..) => scheduled(&settings, name, watch).await,
            (None, Some(what), Some(output)) => {
                export(&arguments, &settings, what, output, watch).await
            }
            (None, ..) => bail!("say what is to be exported, and where to by -o"),
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        // Rows on their way stop by themselves; a query that has not answered yet does not.
        () = async { stop.cancelled().await; sleep(STOP_PATIENCE).await } => {
            Err(Error::Stopped.into())
        }
    };
    bar.finish_and_clear();
    match outcome {
        // `| head` has seen enough.
        Err(error) if matches!(error.downcast_ref(), Some(Error::BrokenPipe)) => {
            Ok(ExitCode::SUCCESS)
        }
        outcome => outcome,
    }
}

async fn export(
    arguments: &Arguments,
    settings: &Settings,
    what: &str,
    output: &Path,
    watch: Watch<'_>,
) -> anyhow::Result<ExitCode> {
    let what = What::named(what);
    let place =
        if output == Path::new("-") { Place::Stdout } else { Place::Path(output.to_owned()) };
    let format = arguments.format.or_else(|| by_ending(output)).unwrap_or(Format::Csv);
    check(arguments, &what, &place, format)?;
    let canonical = settings::canonical(&settings.canonical);
    let session = match arguments.condition {
        None => Session::open(&canonical).await?,
        Some(_) => Session::open_for_condition(&canonical).await?,
    };
    let catalogue = Catalogue::read(&session).await?;
    let member = match &arguments.investor {
        Some(name) => Some(session.meant(name).await?),
        None => None,
    };
    let question = Question {
        as_of: arguments.as_of,
        known_at: arguments.known_at,
        member: member.as_ref().map(|member| member.id),
        condition: arguments.condition.clone(),
        columns: arguments.columns.as_ref().map(|names| {
            names
                .iter()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        }),
    };
    let order = Order {
        format,
        locale: arguments.locale,
        question,
        overwrite: arguments.overwrite,
        made_by: arguments.who.name()?,
        member_name: member.map(|member| member.name()),
    };
    let maker = Maker { session: &session, catalogue: &catalogue, order: &order, watch };
    if let (What::InvestorPack, Place::Path(folder)) = (&what, &place) {
        let pack = maker.pack(folder).await?;
        watch.bar.finish_and_clear();
        return tell_pack(&pack, folder);
    }
    let outcome = maker.export(&what, &place).await?;
    watch.bar.finish_and_clear();
    left_out(&outcome.left_out);
    for written in &outcome.written {
        tell(written)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn scheduled(settings: &Settings, name: &str, watch: Watch<'_>) -> anyhow::Result<ExitCode> {
    let is_meant = |export: &&Export| export.name == name;
    let Some(export) = settings.exports.iter().find(is_meant) else {
        if settings.exports.is_empty() {
            bail!("the settings have no section [[export]]: docs/exports.md shows one");
        }
        let names = settings.exports.iter().map(|export| export.name.as_str());
        bail!("the settings have no export `{name}`{}", instead(name, names));
    };
    let canonical = settings::canonical(&settings.canonical);
    let made = carry_out(&canonical, export, Utc::now(), watch).await?;
    watch.bar.finish_and_clear();
    left_out(&made.left_out);
    say(&format!("{}: {} rows → {}", export.name, made.row_count, made.path.display()))?;
    Ok(failures(&made.failed))
}

/// What can be told before anything is read.
fn check(arguments: &Arguments, what: &What, place: &Place, format: Format) -> anyhow::Result<()> {
    let is_one = matches!(what, What::One(_));
    if !is_one && arguments.columns.is_some() {
        bail!("--columns is about one report: name it");
    }
    if !is_one && arguments.condition.is_some() {
        bail!("--where is about the columns of one report: name it");
    }
    if *place == Place::Stdout {
        let is_folder = *what == What::InvestorPack || !is_one && format != Format::Xlsx;
        if is_folder {
            bail!("these are several files: name a folder by -o");
        }
        if matches!(format, Format::Xlsx | Format::Parquet) && io::stdout().is_terminal() {
            bail!(
                "{} is not for a terminal: name a file by -o, or send it on by | or >",
                format.name()
            );
        }
    }
    Ok(())
}

fn by_ending(path: &Path) -> Option<Format> {
    let ending = path.extension()?.to_str()?.to_lowercase();
    Format::ALL.into_iter().find(|format| format.name() == ending)
}

fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map_err(|_| String::from("a date is written 2026-03-31"))
}

fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg}  {human_pos} rows  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn tell(written: &Written) -> anyhow::Result<()> {
    if let Some(path) = &written.path {
        let Written { name, row_count, .. } = written;
        say(&format!("{name}: {row_count} rows → {} ({})", path.display(), bytes(written.bytes)))?;
    }
    Ok(())
}

fn tell_pack(pack: &Pack, folder: &Path) -> anyhow::Result<ExitCode> {
    left_out(&pack.left_out);
    for (name, row_count) in &pack.made {
        say(&format!("{name}: {row_count} rows"))?;
    }
    let count = pack.made.len();
    let s = if count == 1 { "" } else { "s" };
    say(&format!("{count} investor{s} → {}", folder.display()))?;
    if count == 0 && pack.failed.is_empty() {
        warn("plait: no investor has a row in any of these reports");
    }
    Ok(failures(&pack.failed))
}

/// Reports that are missing in what was written, which nobody shall overlook.
fn left_out(names: &[String]) {
    if !names.is_empty() {
        warn(&format!(
            "plait: left out, since they cannot answer what was asked (`plait reports` says which can): {}",
            names.join(", ")
        ));
    }
}

fn failures(failed: &[(String, Error)]) -> ExitCode {
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    let paint = Paint::for_stderr();
    warn(&format!("plait: {}", paint.red(&format!("{} could not be written:", failed.len()))));
    for (name, error) in failed {
        warn(&format!("  {name}: {error}"));
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Format, by_ending, day};

    #[test]
    fn export_format_is_told_by_the_ending() {
        assert_eq!(by_ending(Path::new("a/b.XLSX")), Some(Format::Xlsx));
        assert_eq!(by_ending(Path::new("a.parquet")), Some(Format::Parquet));
        assert_eq!(by_ending(Path::new("-")), None);
        assert_eq!(by_ending(Path::new("a.txt")), None);
    }

    #[test]
    fn export_date_is_one_of_the_calendar() {
        assert!(day("2026-03-31").is_ok());
        assert!(day("2026-02-30").unwrap_err().contains("2026-03-31"));
        assert!(day("31/03/2026").is_err());
    }
}
