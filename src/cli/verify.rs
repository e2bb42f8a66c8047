//! `plait verify`: whether both sides hold what is canonical.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::{Value as Json, json};

use super::{
    desk::{Desk, short},
    guest::Guest,
    names::Labels,
    settings,
    terminal::{Paint, say},
};
use crate::{
    config::Settings,
    model::EntityNo,
    verify::{
        Found, Verify, by_cause,
        compare::{Cause, Difference},
    },
};

/// Reads both live systems and compares every mapped cell with what is canonical. For each table and side: counts, a
/// digest of all rows, and each difference with its cause, as far as there is one. Writes nothing. What changes while
/// it reads is read again. Exit code 0: all is equal, or with --allow-owed all that differs is explained.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Only this entity, as the mapping calls it; may be given several times
    #[arg(long, value_name = "NAME")]
    entity: Vec<String>,
    /// Be content with differences that have a cause: owed, held, parked, …
    #[arg(long)]
    allow_owed: bool,
    /// Say which records have to be read again, for the merge to see what is unexplained; nothing is written to a side
    #[arg(long)]
    repair: bool,
    /// With --repair: read them again, and verify once more
    #[arg(long, requires = "repair")]
    yes: bool,
    /// Differences shown for each table and side
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
    last: usize,
    /// As a JSON object, with all differences
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  plait verify                      all entities, both sides
  plait verify --entity member      one entity
  plait verify --allow-owed         for a check that runs now and then: only the unexplained is a failure
Airtable is read by listing, a call for every 100 records; a plait at work leaves two calls a second to it, since both
share what Airtable allows.";

/// The id of Plait's own account in Directus, which is no member; `None`: Directus does not say.
async fn own_account(settings: &Settings) -> Option<String> {
    let client = settings::directus_api(settings.directus.as_ref()?).ok().flatten()?;
    Some(client.me().await.ok()?.id)
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, settings) = Desk::open(&arguments.config).await?;
    let wanted: Vec<_> = if arguments.entity.is_empty() {
        desk.mapping.entities.iter().map(|entity| entity.name.clone()).collect()
    } else {
        arguments.entity.clone()
    };
    let wanted: Vec<_> =
        wanted.iter().map(|name| desk.entity_no(name)).collect::<anyhow::Result<_>>()?;
    let guest = match &settings.airtable {
        Some(_) => Some(Guest::enter(&desk.pool).await?),
        None => None,
    };
    let is_beside = guest.as_ref().is_some_and(Guest::is_beside_a_run);
    let airtable = settings.airtable.as_ref();
    let airtable = airtable.map(|section| settings::airtable(section, is_beside)).transpose()?;
    let verify = Verify {
        pool: desk.pool.clone(),
        mapping: Arc::new(desk.mapping.clone()),
        shapes: desk.shapes.clone(),
        airtable: airtable.flatten().map(|plan| (plan.client, plan.bases)),
        directus: settings.directus.as_ref().map(settings::source),
        own_account: own_account(&settings).await,
    };
    let paint = Paint::for_stdout();
    let mut all = compare_all(&desk, &verify, &wanted, &arguments).await?;
    let mut verdict = Verdict::of(&all);
    if arguments.json {
        say(&as_json(&desk, &all, verdict))?;
    } else {
        say(&verdict.words(&all, paint))?;
        if arguments.repair && verdict == Verdict::Unexplained {
            if repair(&desk, &verify, &all, arguments.yes).await? {
                say("they were read again, through the merge; once more:")?;
                all = compare_all(&desk, &verify, &wanted, &arguments).await?;
                verdict = Verdict::of(&all);
                say(&verdict.words(&all, paint))?;
            } else {
                say("nothing is read again yet; --yes does it, while no plait runs")?;
            }
        }
    }
    let is_well =
        verdict == Verdict::Equal || verdict == Verdict::Explained && arguments.allow_owed;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares, and tells of each table as soon as it is read.
async fn compare_all(
    desk: &Desk,
    verify: &Verify,
    wanted: &[EntityNo],
    arguments: &Arguments,
) -> anyhow::Result<Vec<Found>> {
    let paint = Paint::for_stdout();
    let mut all = Vec::new();
    for no in wanted {
        let found = verify.entity(*no).await?;
        if !arguments.json {
            for found in &found {
                for line in as_text(desk, found, arguments.last, paint).await? {
                    say(&line)?;
                }
            }
        }
        all.extend(found);
    }
    Ok(all)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Explained,
    Unexplained,
}

impl Verdict {
    fn of(found: &[Found]) -> Self {
        // What the mapping leaves out is as it has to be.
        let differences = found.iter().flat_map(|found| &found.comparison.differences);
        let mut differences = differences.filter(|it| it.cause != Cause::Outside).peekable();
        if differences.peek().is_none() {
            Self::Equal
        } else if differences.all(|it| it.cause != Cause::Unexplained) {
            Self::Explained
        } else {
            Self::Unexplained
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Explained => "explained",
            Self::Unexplained => "unexplained",
        }
    }

    fn words(self, found: &[Found], paint: Paint) -> String {
        let counts: Vec<String> =
            by_cause(found).iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        let counts = counts.join(", ");
        match self {
            Self::Equal => {
                let cells: usize = found.iter().map(|found| found.comparison.cell_count).sum();
                paint.green(&format!("all equal: {cells} cells compared"))
            }
            Self::Explained => paint.yellow(&format!("differences, all explained: {counts}")),
            Self::Unexplained => {
                paint.red(&format!("differences: {counts}; --repair says what to do"))
            }
        }
    }
}

async fn as_text(
    desk: &Desk,
    found: &Found,
    count_max: usize,
    paint: Paint,
) -> anyhow::Result<Vec<String>> {
    let entity = &desk.mapping.entity(found.entity).name;
    let comparison = &found.comparison;
    let is_equal = comparison.differences.is_empty();
    let head = |digest: &str| digest.chars().take(12).collect::<String>();
    let digests = if comparison.canonical_sha256 == comparison.side_sha256 {
        format!("sha256 {}", head(&comparison.side_sha256))
    } else {
        format!(
            "sha256 {} ≠ canonical {}",
            head(&comparison.side_sha256),
            head(&comparison.canonical_sha256)
        )
    };
    let counts = if comparison.side_count == comparison.canonical_count {
        format!("{} records", comparison.side_count)
    } else {
        format!("{} records, canonical {}", comparison.side_count, comparison.canonical_count)
    };
    let state = if is_equal {
        paint.green("equal")
    } else {
        paint.yellow(&format!("{} differences", comparison.differences.len()))
    };
    let mut lines = vec![format!(
        "{} on {}: {counts}, {} cells, {digests}: {state}",
        paint.bold(entity),
        found.side,
        comparison.cell_count
    )];
    let named = comparison.differences.iter().take(count_max);
    let records = named.clone().filter_map(|it| Some((entity.clone(), it.record?)));
    let cells = named.clone().flat_map(|it| {
        let field = it.field.as_deref().unwrap_or_default();
        [&it.side, &it.canonical].map(|value| (entity.as_str(), field, value))
    });
    let labels = desk.labels_with_links(records, cells).await?;
    lines.extend(named.map(|it| difference(entity, found, it, &labels, paint)));
    if comparison.differences.len() > count_max {
        lines.push(format!(
            "  … and {} more; -n shows more, --json all",
            comparison.differences.len() - count_max
        ));
    }
    Ok(lines)
}

fn difference(
    entity: &str,
    found: &Found,
    it: &Difference,
    labels: &Labels,
    paint: Paint,
) -> String {
    let record = match (it.record, &it.key) {
        (Some(record), _) => labels.of(entity, record),
        (None, Some(key)) => format!("{entity} {key}"),
        (None, None) => entity.to_owned(),
    };
    let what = match &it.field {
        Some(field) => format!(
            "{field}: {} {}, canonical {}",
            found.side,
            labels.value(entity, field, Some(&it.side)),
            labels.value(entity, field, Some(&it.canonical))
        ),
        None if it.side == Json::Bool(true) => format!("on {} only", found.side),
        None => format!("not on {}", found.side),
    };
    let words = it.cause.words();
    let cause = if it.cause == Cause::Unexplained { paint.red(&words) } else { paint.dim(&words) };
    format!("  {record} · {what}: {cause}")
}

fn as_json(desk: &Desk, all: &[Found], verdict: Verdict) -> String {
    let tables: Vec<Json> = all
        .iter()
        .map(|found| {
            let comparison = &found.comparison;
            let differences: Vec<Json> = comparison
                .differences
                .iter()
                .map(|it| {
                    json!({
                        "record_id": it.record, "side_key": it.key, "field": it.field, "canonical": it.canonical,
                        "side": it.side, "cause": it.cause.code(), "words": it.cause.words(),
                    })
                })
                .collect();
            json!({
                "entity": desk.mapping.entity(found.entity).name, "side": found.side.name(),
                "canonical_count": comparison.canonical_count, "side_count": comparison.side_count,
                "cell_count": comparison.cell_count, "canonical_sha256": comparison.canonical_sha256,
                "side_sha256": comparison.side_sha256, "differences": differences,
            })
        })
        .collect();
    json!({ "verdict": verdict.name(), "tables": tables, "causes": by_cause(all) }).to_string()
}

/// Says what the merge has to see again for what is unexplained, and lets it see that, if `is_wanted`; whether it has.
async fn repair(
    desk: &Desk,
    verify: &Verify,
    all: &[Found],
    is_wanted: bool,
) -> anyhow::Result<bool> {
    let mut has_seen = false;
    for found in all {
        let seen = verify.seen_again(found).await?;
        if seen.is_empty() {
            continue;
        }
        let mut keys: Vec<&str> =
            seen.iter().map(|it| &*it.key.0).filter(|key| !key.is_empty()).collect();
        keys.dedup();
        let entity = &desk.mapping.entity(found.entity).name;
        say(&format!(
            "to be read again on {}: {} of {entity} ({})",
            found.side,
            keys.len(),
            short(&keys.join(", "), 200)
        ))?;
        if is_wanted {
            desk.observe(found.side, seen).await?;
            has_seen = true;
        }
    }
    Ok(has_seen)
}
