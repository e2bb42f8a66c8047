//! Scheduled exports: each is a task that waits until it is due, writes, and keeps the last ones. What was made is told
//! by the names of the files, so a restart neither skips one nor makes it twice; several that were missed are made up
//! for by one.

use std::{fs, io, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use indicatif::ProgressBar;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Catalogue, Error, Format, Maker, Order, Place, Question, Session,
    copy::Watch,
    file::{FolderDraft, make_folder},
    schedule::{made_at, stem},
};
use crate::{
    config::{Export, What},
    pulse::Pulse,
    store::Canonical,
};

/// First and longest pause before a failed one is tried again.
const AGAIN_MIN: Duration = Duration::from_mins(1);
const AGAIN_MAX: Duration = Duration::from_hours(1);
/// The clock may be set, and a machine may sleep: it is looked at at least this often.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// What a scheduled export came to.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) row_count: u64,
    pub(crate) left_out: Vec<String>,
    /// Investors without a folder, and why.
    pub(crate) failed: Vec<(String, Error)>,
}

/// Carries `export` out whenever it is due, until `stop`.
pub(crate) async fn keep_exporting(
    canonical: Canonical,
    export: Export,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let bar = ProgressBar::hidden();
    let mut failure_count = 0_u32;
    let mut done_at = None;
    while !stop.is_cancelled() {
        let now = Utc::now();
        let is_due = is_due(&export, done_at, now).unwrap_or_else(|error| {
            debug!(export = %export.name, %error, "could not list the folder");
            true
        });
        let pause = if is_due {
            let watch = Watch { bar: &bar, stop: &stop };
            match carry_out(&canonical, &export, now, watch).await {
                Ok(made) => {
                    // Even if somebody takes the file away.
                    done_at = Some(now);
                    tell(&export, &made);
                    pulse.well();
                    continue;
                }
                Err(Error::Stopped) => return,
                Err(error) => {
                    failure_count += 1;
                    let pause = AGAIN_MIN * 2_u32.saturating_pow((failure_count - 1).min(8));
                    let pause = pause.min(AGAIN_MAX);
                    pulse.failed(chain(&error));
                    warn!(export = %export.name, failure_count, pause_s = pause.as_secs(), error = %chain(&error), "could not export");
                    pause
                }
            }
        } else {
            failure_count = 0;
            pulse.well();
            let rest = (export.table.next_due(now) - now).to_std().unwrap_or_default();
            rest.min(LOOK_EVERY)
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

fn tell(export: &Export, made: &Made) {
    let Made { path, row_count, left_out, failed } = made;
    info!(export = %export.name, path = %path.display(), row_count, left_out_count = left_out.len(), "exported");
    for (folder, error) in failed {
        warn!(export = %export.name, %folder, error = %chain(error), "could not export for an investor");
    }
}

/// Whether `export` was not made since it was last due. `done_at`: when this process did.
pub(super) fn is_due(
    export: &Export,
    done_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> io::Result<bool> {
    let last = newest(export)?.max(done_at);
    // The names of files tell it to the minute, as the settings do.
    Ok(last < Some(export.table.last_due(now)))
}

/// Carries `export` out once, and removes what is more than is kept.
pub(crate) async fn carry_out(
    canonical: &Canonical,
    export: &Export,
    now: DateTime<Utc>,
    watch: Watch<'_>,
) -> Result<Made, Error> {
    let session = Session::open(canonical).await?;
    let catalogue = Catalogue::read(&session).await?;
    let order = Order {
        format: export.format,
        locale: export.locale,
        question: Question::default(),
        overwrite: false,
        made_by: format!("plait, {}", export.name),
        member_name: None,
    };
    let maker = Maker { session: &session, catalogue: &catalogue, order: &order, watch };
    make_folder(&export.folder)?;
    let name = format!("{}{}", stem(&export.name, now, export.table.zone), ending(export));
    let path = export.folder.join(name);
    let mut made =
        Made { path: path.clone(), row_count: 0, left_out: Vec::new(), failed: Vec::new() };
    if is_folder(export) {
        let draft = FolderDraft::begin(&path, false)?;
        if export.what == What::InvestorPack {
            let pack = maker.pack(draft.folder()).await?;
            made.row_count = pack.made.iter().map(|(_, count)| count).sum();
            (made.left_out, made.failed) = (pack.left_out, pack.failed);
        } else {
            let outcome =
                maker.export(&export.what, &Place::Path(draft.folder().to_owned())).await?;
            made.row_count = outcome.written.iter().map(|file| file.row_count).sum();
            made.left_out = outcome.left_out;
        }
        draft.put()?;
    } else {
        let outcome = maker.export(&export.what, &Place::Path(path)).await?;
        made.row_count = outcome.written.iter().map(|file| file.row_count).sum();
    }
    if let Err(error) = prune(export) {
        warn!(export = %export.name, %error, "could not remove old exports");
    }
    Ok(made)
}

/// Whether it is a folder of several files.
fn is_folder(export: &Export) -> bool {
    match &export.what {
        What::InvestorPack => true,
        What::One(_) => false,
        What::Several(_) | What::All => export.format != Format::Xlsx,
    }
}

fn ending(export: &Export) -> String {
    if is_folder(export) { String::new() } else { format!(".{}", export.format.name()) }
}

/// What there is of `export`, the oldest first.
fn made(export: &Export) -> io::Result<Vec<(DateTime<Utc>, PathBuf)>> {
    let ending = ending(export);
    let entries = match fs::read_dir(&export.folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut made = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let at = name.to_str().and_then(|it| made_at(it, &export.name, &ending, export.table.zone));
        made.extend(at.map(|at| (at, entry.path())));
    }
    made.sort();
    Ok(made)
}

fn newest(export: &Export) -> io::Result<Option<DateTime<Utc>>> {
    Ok(made(export)?.pop().map(|(at, _)| at))
}

/// Removes the oldest, so that as many are left as are kept.
fn prune(export: &Export) -> io::Result<()> {
    let Some(keep) = export.keep else { return Ok(()) };
    let made = made(export)?;
    for (_, path) in made.iter().take(made.len().saturating_sub(keep)) {
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

/// An error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use chrono::NaiveTime;
    use chrono_tz::Europe::Paris;

    use super::{newest, prune};
    use crate::config::{Every, Export, Format, Locale, Timetable, What};

    #[test]
    fn export_old_ones_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let export = Export {
            name: "weekly".into(),
            what: What::One("holding".into()),
            format: Format::Csv,
            locale: Locale::Standard,
            folder: folder.path().to_owned(),
            table: Timetable { every: Every::Day, at: NaiveTime::MIN, zone: Paris },
            keep: Some(2),
        };
        assert_eq!(newest(&export).unwrap(), None);
        let names = [
            "weekly_2026-03-01_0600.csv",
            "weekly_2026-03-02_0600.csv",
            "weekly_2026-03-03_0600.csv",
            "weekly_2026-03-01_0600.xlsx",
            "other_2026-03-01_0600.csv",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let at = newest(&export).unwrap().unwrap();
        assert_eq!(at.to_rfc3339(), "2026-03-03T05:00:00+00:00");
        prune(&export).unwrap();
        let left = names.iter().filter(|name| folder.path().join(name).exists());
        assert_eq!(left.copied().collect::<Vec<_>>(), &names[1..]);
        let missing = Export { folder: folder.path().join("none"), ..export };
        assert_eq!(newest(&missing).unwrap(), None);
    }
}
