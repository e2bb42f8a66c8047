//! `plait check`: the doctor. Reads both documents, reaches every service, and says what is missing and what to
//! do about it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    guest::Guest,
    settings,
    terminal::{Paint, chain, say},
};
use crate::{
    alert,
    capture::{airtable, directus},
    config::Settings,
    mapping::{Direction, Entity, Field, Mapping, Policy, Upkeep},
    model::{Finding, Level, Side},
    push,
    store::{self, reading},
};

/// Looks at everything that `run` needs and changes nothing. The exit code is 0 when `run` would work.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let mut findings = vec![Finding::ok(format!("{} can be used", arguments.config.display()))];
    findings.extend(settings.warnings.iter().map(|warning| {
        Finding::warning(
            warning.clone(),
            "docs/settings.md, \"Who is trusted\", says what else can be done",
        )
    }));
    let mapping = match settings::read_mapping(&settings) {
        Ok(mapping) => {
            let count = mapping.entities.len();
            findings
                .push(Finding::ok(format!("{} maps {count} entities", settings.mapping.display())));
            Some(mapping)
        }
        Err(problems) => {
            let remedy = "mend it; docs/mapping.md explains every key";
            findings.extend(
                problems.0.iter().map(|problem| Finding::error(problem.to_string(), remedy)),
            );
            None
        }
    };
    canonical(&settings, mapping.as_ref(), &mut findings).await;
    if let Some(mapping) = &mapping {
        findings.extend(logins(mapping));
        alerts(&settings, mapping, &mut findings).await;
        if let Some(source) = &settings.directus {
            findings.extend(directus::preflight(&settings::source(source), mapping).await);
        }
        directus_api(&settings, mapping, &mut findings).await;
        airtable(&settings, mapping, &mut findings).await;
        findings.extend(upkeep(&settings, mapping).await);
    }
    let would_work = findings.iter().all(|finding| finding.level != Level::Error);
    if arguments.json {
        say(&as_json(&findings, would_work))?;
    } else {
        for line in as_text(&findings, would_work) {
            if !say(&line)? {
                break;
            }
        }
    }
    Ok(if would_work { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reaches the canonical database, and compares the mapping with its tables where they are there already.
async fn canonical(settings: &Settings, mapping: Option<&Mapping>, findings: &mut Vec<Finding>) {
    let database = &settings.canonical;
    let place = format!("{}:{}/{}", database.host, database.port, database.database);
    let client = match store::connect(&settings::canonical(database)).await {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::error(
                format!(
                    "the canonical database at {place} cannot be used: {}",
                    chain(&error.into())
                ),
                "check that Postgres runs there, and url, user and password in [canonical]",
            ));
            return;
        }
    };
    findings.push(Finding::ok(format!("the canonical database at {place} answers")));
    let is_there = client
        .query_one("select exists (select from pg_namespace where nspname = 'canon')", &[])
        .await
        .is_ok_and(|row| row.get(0));
    let missing = store::missing_grants(&client).await;
    if let Ok(Some(grants)) = missing {
        findings.push(Finding::error(
            format!("user {} may not create what plait needs in it", database.user),
            format!("run `{grants}` as the owner of that database"),
        ));
    } else if !is_there {
        findings.push(Finding::ok("its schemas are not there yet; `run` creates them"));
    } else if let Some(mapping) = mapping {
        match store::shapes(&client, &mut mapping.clone()).await {
            Ok(_) => findings.push(Finding::ok("its tables and columns fit the mapping")),
            Err(error) => findings.push(Finding::error(
                chain(&error.into()),
                "mend the mapping, or add the table or column by a migration of your own",
            )),
        }
    }
}

/// Where the mapping lets Airtable change what an account of Directus logs in with.
fn logins(mapping: &Mapping) -> Vec<Finding> {
    let fields = mapping.entities.iter().flat_map(|entity| {
        let is_open = |field: &&Field| {
            entity.is_login(field)
                && field.airtable.is_some()
                && field.policy != Policy::Owner(Side::Directus)
                && field.direction != Direction::From(Side::Directus)
        };
        entity.fields.iter().filter(is_open).map(move |field| (entity, field))
    });
    let warn = |(entity, field): (&Entity, &Field)| {
        Finding::warning(
            format!(
                "whoever may edit `{}` of {} in Airtable changes the address to which Directus sends a new password",
                field.name, entity.name
            ),
            "take `policy` out of that field: then Directus has the last word",
        )
    };
    fields.map(warn).collect()
}

/// Compares the rules of the alerts with the mapping, and with the codes where the canonical tables are there already.
async fn alerts(settings: &Settings, mapping: &Mapping, findings: &mut Vec<Finding>) {
    let codes = match settings::pool(settings).await {
        // What is wrong with the database has been said.
        Err(_) => None,
        Ok(pool) => alert::codes(&pool).await.ok(),
    };
    let (watches, warnings) = alert::resolve(&settings.alerts, mapping, codes.as_ref());
    findings.push(Finding::ok(match watches.len() {
        0 => "nothing alerts: no rule holds".into(),
        1 => "1 alert rule holds; `plait alerts rules` says it in words".into(),
        count => format!("{count} alert rules hold; `plait alerts rules` says them in words"),
    }));
    findings.extend(warnings);
}

async fn directus_api(settings: &Settings, mapping: &Mapping, findings: &mut Vec<Finding>) {
    let Some(section) = &settings.directus else { return };
    match settings::directus_api(section) {
        Ok(Some(client)) => {
            let url = section.api.as_ref().map_or("", |api| api.url.as_str());
            findings.extend(push::directus::preflight(&client, url, mapping).await);
        }
        Ok(None) => findings.push(Finding::ok("Directus is read and not written to: no `api_url`")),
        Err(error) => {
            findings
                .push(Finding::error(chain(&error), "check `api_url` and the token in [directus]"));
        }
    }
}

async fn airtable(settings: &Settings, mapping: &Mapping, findings: &mut Vec<Finding>) {
    let Some(section) = &settings.airtable else { return };
    // What these few calls take is left by the plait that runs, and asked for sparingly where it cannot be heard.
    let _guest = match settings::pool(settings).await {
        // What is wrong with the database has been said.
        Err(_) => None,
        Ok(pool) => match Guest::enter(&pool).await {
            Ok(guest) => Some(guest),
            Err(error) => {
                findings.push(Finding::error(
                    format!("airtable was not looked at: {}", chain(&error)),
                    "run `plait check` again",
                ));
                return;
            }
        },
    };
    let plan = match settings::airtable(section, true) {
        Ok(Some(plan)) => plan,
        Ok(None) => return,
        Err(error) => {
            findings
                .push(Finding::error(chain(&error), "check api_url and the token in [airtable]"));
            return;
        }
    };
    let stored = identities(settings).await;
    for base in &plan.bases {
        let stored = stored.get(&base.id);
        findings.extend(airtable::preflight(&plan.client, base, mapping, stored).await);
    }
}

/// What a run has found out about each base before, by the base's id.
async fn identities(settings: &Settings) -> BTreeMap<String, airtable::Identity> {
    let Ok(pool) = settings::pool(settings).await else { return BTreeMap::new() };
    // Not there before the first run.
    let positions = reading::positions(&pool).await.unwrap_or_default();
    let known = positions.iter().filter_map(|it| {
        let base = it.log.strip_prefix("airtable:")?.to_owned();
        Some((base, airtable::Identity::read(&it.identity)?))
    });
    known.collect()
}

/// Looks for what the sides change by themselves with each write of ours. Who does not answer was named before.
async fn upkeep(settings: &Settings, mapping: &Mapping) -> Vec<Finding> {
    let (mut all, mut moving) = (Upkeep::new(), Upkeep::new());
    let mut findings = Vec::new();
    if let Some(section) = &settings.directus
        && let Ok(Some(client)) = settings::directus_api(section)
    {
        match push::directus::filled(&client, mapping).await {
            Ok(filled) => {
                for it in filled {
                    all.insert((it.entity, it.field, Side::Directus));
                    if it.is_moving {
                        moving.insert((it.entity, it.field, Side::Directus));
                    }
                }
            }
            Err(error) if error.is("FORBIDDEN") => findings.push(Finding::warning(
                "Directus does not tell which fields it fills by itself, such as a date of the last change",
                "run `plait setup directus`",
            )),
            Err(_) => {}
        }
    }
    if let Some(section) = &settings.airtable
        && let Ok(Some(plan)) = settings::airtable(section, false)
    {
        let stored = identities(settings).await;
        for base in &plan.bases {
            let stored = stored.get(&base.id);
            let of_base = airtable::moving(&plan.client, base, mapping, stored).await;
            moving.extend(of_base.into_iter().map(|(no, field)| (no, field, Side::Airtable)));
        }
    }
    findings.extend(mapping.closed(&all, Side::Directus));
    findings.extend(mapping.answers(&moving));
    findings
}

fn as_json(findings: &[Finding], would_work: bool) -> String {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            let level = word(finding.level);
            json!({ "level": level, "what": finding.what, "remedy": finding.remedy })
        })
        .collect();
    json!({ "would_work": would_work, "findings": findings }).to_string()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn as_text(findings: &[Finding], would_work: bool) -> Vec<String> {
    let paint = Paint::for_stdout();
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => paint.green("ok     "),
            Level::Warning => paint.yellow("warning"),
            Level::Error => paint.red("error  "),
        };
        lines.push(format!("{mark}  {}", finding.what));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("         → {remedy}"));
        }
    }
    lines.push(if would_work {
        paint.bold("`plait run` would work")
    } else {
        paint.bold("`plait run` would not work yet: see the errors above")
    });
    lines
}
