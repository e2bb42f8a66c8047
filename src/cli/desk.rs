//! What the commands of the way back share: the settings, the mapping as the canonical tables have it, what things are
//! called, and how a decision is carried out.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use serde_json::Value as Json;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::settings;
use crate::{
    apply::{Apply, Limits},
    capture::console,
    config::Settings,
    document::did_you_mean,
    mapping::{Entity, Field, FieldKind, Mapping},
    model::{Author, Cell, Decision, Delivery, EntityNo, FieldNo, Observation, Side, Stamp, Value},
    store::{self, Canonical, TableShape, Writer, command, vitals},
};

/// How long a running plait has to carry a decision out.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long before it is looked again whether any plait runs.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who decides.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Who {
    /// Who decides, as the journal will have it; the login name unless this says otherwise
    #[arg(long = "as", value_name = "NAME")]
    author: Option<String>,
}

impl Who {
    pub(super) fn name(&self) -> anyhow::Result<String> {
        let given = self.author.clone().filter(|name| !name.trim().is_empty());
        let login = || {
            let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
            user.map(|user| user.name).or_else(|| std::env::var("USER").ok())
        };
        given.or_else(login).context("this machine does not tell who you are: say it by --as NAME")
    }
}

/// A command's hold on the canonical database.
pub(super) struct Desk {
    pub(super) mapping: Mapping,
    pub(super) shapes: Vec<TableShape>,
    pub(super) pool: PgPool,
    canonical: Canonical,
    limits: Limits,
}

/// What became of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// In words, what could not be done.
    pub(super) outcome: Option<String>,
    /// The transaction that it became; `None`: no record changed.
    pub(super) transaction: Option<i64>,
}

impl Desk {
    pub(super) async fn open(config: &Path) -> anyhow::Result<(Self, Settings)> {
        let settings = settings::read(config)?;
        let mapping = settings::read_mapping(&settings)
            .map_err(|problems| anyhow::anyhow!("the mapping cannot be used\n{problems}"))?;
        let pool = settings::pool(&settings).await?;
        let limits = Limits { batch_row_count_max: settings.apply.batch_row_count_max };
        let canonical = settings::canonical(&settings.canonical);
        Ok((Self::new(canonical, mapping, pool, limits).await?, settings))
    }

    pub(super) async fn new(
        canonical: Canonical,
        mut mapping: Mapping,
        pool: PgPool,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let is_migrated: bool =
            sqlx::query_scalar("select to_regclass('mirror.command') is not null")
                .fetch_one(&pool)
                .await?;
        if !is_migrated {
            bail!(
                "the canonical database has none of plait's tables, or old ones: run `plait migrate`"
            );
        }
        let client = store::connect(&canonical).await?;
        let shapes = store::shapes(&client, &mut mapping).await?;
        Ok(Self { mapping, shapes, pool, canonical, limits })
    }

    /// The database itself, for what is not done over the pool.
    pub(super) fn canonical(&self) -> &Canonical {
        &self.canonical
    }

    // ---- names ---------------------------------------------------------------------------------------

    pub(super) fn entity_no(&self, name: &str) -> anyhow::Result<EntityNo> {
        let entities = &self.mapping.entities;
        let Some(at) = entities.iter().position(|entity| entity.name == name) else {
            let names = entities.iter().map(|entity| entity.name.as_str());
            bail!("the mapping has no entity `{name}`{}", instead(name, names));
        };
        Ok(EntityNo(u16::try_from(at)?))
    }

    pub(super) fn shape(&self, no: EntityNo) -> &TableShape {
        &self.shapes[usize::from(no.0)]
    }

    /// Reads what a person typed for a field: by its type, a choice by its code or either side's label, a link by
    /// any of the linked record's names.
    pub(super) async fn typed(&self, field: &Field, text: &str) -> anyhow::Result<Value> {
        match field.read_typed(text) {
            Cell::Value(value) => Ok(value),
            Cell::Refused(refusal) => bail!("{}", refusal.reason),
            Cell::Link(None) => Ok(Value::Null),
            Cell::Link(Some(key)) => Ok(Value::Uuid(self.linked(field, &key.0).await?)),
            Cell::Links(keys) => {
                // A name may have a comma in it.
                if keys.len() > 1
                    && let Ok(one) = self.linked(field, text).await
                {
                    return Ok(Value::set(vec![one.to_string()]));
                }
                let mut ids = Vec::new();
                for key in keys {
                    ids.push(self.linked(field, &key.0).await?.to_string());
                }
                Ok(Value::set(ids))
            }
        }
    }

    async fn linked(&self, field: &Field, name: &str) -> anyhow::Result<Uuid> {
        let (FieldKind::Link { target } | FieldKind::Links { target }) = field.kind else {
            bail!("`{}` is no link", field.name)
        };
        self.record(target, name).await
    }

    // ---- deciding ------------------------------------------------------------------------------------

    /// Puts a decision and waits for it: the plait that runs carries it out, or this one, where none does.
    pub(super) async fn decide(
        &self,
        author: &str,
        decisions: &[Decision],
    ) -> anyhow::Result<Done> {
        let put = command::put(&self.pool, author, decisions).await?;
        let until = Instant::now() + PATIENCE;
        let answer = loop {
            // Whoever runs may be another command, which looked before this one was put, and is about to end.
            if !vitals::is_running(&self.pool).await? {
                self.carry_out_alone().await?;
            }
            let answer = command::wait(&self.pool, &put, LOOK_AGAIN).await?;
            if answer.is_some() || Instant::now() >= until {
                break answer;
            }
        };
        let Some(answer) = answer else {
            bail!(
                "decision {} was not carried out within {} s; it is kept, and will be: `plait status` says what plait is at. Its answer will be in mirror.command",
                put.command_id,
                PATIENCE.as_secs()
            );
        };
        let transaction = command::transaction_of(&self.pool, &put).await?;
        Ok(Done { outcome: answer.outcome, transaction })
    }

    /// Carries out all that people have decided, and nothing else. If a plait has started meanwhile, it does it.
    async fn carry_out_alone(&self) -> anyhow::Result<()> {
        let writer = match Writer::open(&self.canonical, self.mapping.clone()).await {
            Err(store::Error::Locked) => return Ok(()),
            opened => opened?,
        };
        let commands = console::open(&self.pool).await?;
        Ok(Apply::new(writer, Vec::new(), self.limits).carry_out(commands).await?)
    }

    /// Lets the merge see what was read of a side once more, where no plait runs.
    pub(super) async fn observe(
        &self,
        side: Side,
        observations: Vec<Observation>,
    ) -> anyhow::Result<()> {
        let writer = match Writer::open(&self.canonical, self.mapping.clone()).await {
            Err(store::Error::Locked) => bail!(
                "plait runs, and is the only one who writes: stop it, repair, and start it again"
            ),
            opened => opened?,
        };
        let author = Author { via: "listing".into(), ..Author::default() };
        let at = Utc::now().timestamp_micros();
        let stamp = Stamp { side, at, position: None, author, operation: None };
        let seen = Delivery::Transaction { stamp, observations };
        Ok(Apply::new(writer, Vec::new(), self.limits).carry_out(vec![seen]).await?)
    }
}

pub(super) fn field_no(entity: &Entity, name: &str) -> anyhow::Result<FieldNo> {
    let Some(at) = entity.fields.iter().position(|field| field.name == name) else {
        let names = entity.fields.iter().map(|field| field.name.as_str());
        bail!("{} has no field `{name}`{}", entity.name, instead(name, names));
    };
    Ok(FieldNo(u16::try_from(at)?))
}

/// What could be said instead of `name`: the nearest, else all that there is.
pub(super) fn instead<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let nearest = did_you_mean(name, known.clone());
    if !nearest.is_empty() {
        return nearest;
    }
    let all: Vec<&str> = known.collect();
    if all.is_empty() { String::new() } else { format!("; there are {}", all.join(", ")) }
}

/// A value on one line, shortened.
pub(super) fn shown(json: Option<&Json>) -> String {
    match json {
        None | Some(Json::Null) => "∅".into(),
        Some(Json::String(text)) => short(text, 60),
        Some(Json::Array(elements)) => {
            let texts: Vec<String> = elements
                .iter()
                .map(|element| element.as_str().map_or_else(|| element.to_string(), str::to_owned))
                .collect();
            short(&texts.join(", "), 60)
        }
        Some(other) => short(&other.to_string(), 60),
    }
}

pub(super) fn short(text: &str, width: usize) -> String {
    let one_line = text.replace(|letter: char| letter.is_control(), " ");
    if one_line.chars().count() <= width {
        return one_line;
    }
    let mut short: String = one_line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

pub(super) fn local(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time as people write it: `2026-03-01`, `2026-03-01 14:30`, with seconds, or RFC 3339; without a zone, this
/// machine's.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    let day =
        NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let formats =
        ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];
    let at = day
        .or_else(|| {
            formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        })
        .ok_or_else(|| {
            String::from(
                "a time is written 2026-03-01, \"2026-03-01 14:30\" or 2026-03-01T14:30:00Z",
            )
        })?;
    Local
        .from_local_datetime(&at)
        .earliest()
        .map(|at| at.with_timezone(&Utc))
        .ok_or_else(|| String::from("the clocks were put forward then: there was no such time"))
}

#[cfg(test)]
mod tests {
    use super::{short, shown, time};

    #[test]
    fn desk_values_are_shown_on_one_short_line() {
        assert_eq!(shown(None), "∅");
        assert_eq!(shown(Some(&serde_json::json!(["a", "b"]))), "a, b");
        assert_eq!(short("line\nbreak", 40), "line break");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn desk_times_are_read_as_people_write_them() {
        assert_eq!(
            time("2026-03-01T14:30:00+01:00").unwrap().to_rfc3339(),
            "2026-03-01T13:30:00+00:00"
        );
        let minute = time("2026-03-01 14:30").unwrap();
        assert_eq!(time("2026-03-01T14:30:00").unwrap(), minute);
        assert!(time("2026-03-01").unwrap() < minute);
        assert!(time("yesterday").unwrap_err().contains("2026-03-01"));
    }
}
