//! `plait alerts`: what people asked to be told of.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::{
    desk::{Desk, Who, instead, local, time},
    terminal::{Paint, say},
};
use crate::{
    alert::{self, Alert, author_words, rule_words, side_words},
    config::Settings,
    model::{Language, Side},
    store::alert::{self as stored, Raised, Wanted},
};

/// Lists the alerts, the newest last: changes that a rule of the settings asks to be told of, with who made them, where,
/// and before → after. A point marks those that nobody has ticked off. `plait run` raises them, whether or not anybody
/// looks, and writes each into its log too.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

const EXAMPLES: &str = "\
Examples:
  plait alerts --unseen                    what nobody has ticked off
  plait alerts --lang fr --since 2026-03-01
  plait alerts --rule insolvency           of one rule alone
  plait alerts seen 12 13 --as Jeanne      these two are done with
  plait alerts seen all
  plait alerts rules                       what alerts, in words
  plait alerts try --since 2026-01-01      what the rules would have raised since; writes nothing";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tick alerts off; they stay in the list
    Seen(Seen),
    /// What alerts, in words
    Rules(Rules),
    /// What the rules, as they are now, would have raised since a time; writes nothing
    Try(Try),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    common: Common,
    /// Only of changes since then, such as 2026-03-01 or "2026-03-01 14:30"
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only of this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Only those that nobody has ticked off
    #[arg(long)]
    unseen: bool,
    /// At most so many, the newest
    #[arg(long = "last", short = 'n', default_value_t = 200, value_name = "COUNT")]
    last: u32,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// French or English; by default what LANG says
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

// It asks for no --yes: it changes no record of anybody, hides nothing from the list, and an alert that was ticked off by
// mistake is still there.
#[derive(Debug, clap::Args)]
struct Seen {
    /// As the list has them, or `all`
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Rules {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Try {
    /// Changes that reached plait since then
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: DateTime<Utc>,
    #[command(flatten)]
    common: Common,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

impl Common {
    fn lang(&self) -> Language {
        self.lang.unwrap_or_else(Language::from_environment)
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => list(arguments.list).await?,
        Some(Action::Seen(seen)) => tick_off(seen).await?,
        Some(Action::Rules(rules)) => tell_rules(&rules.common).await?,
        Some(Action::Try(past)) => try_rules(&past).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(list: List) -> anyhow::Result<()> {
    let (desk, settings) = Desk::open(&list.common.config).await?;
    if let Some(rule) = &list.rule {
        let mut known = stored::rules(&desk.pool).await?;
        known.extend(settings.alerts.iter().map(|rule| rule.name.clone()));
        known.sort_unstable();
        known.dedup();
        if !known.contains(rule) {
            bail!("there is no rule `{rule}`{}", instead(rule, known.iter().map(String::as_str)));
        }
    }
    let wanted = Wanted {
        since: list.since,
        rule: list.rule.clone(),
        is_unseen: list.unseen,
        count_max: i64::from(list.last),
    };
    let (lang, paint) = (list.common.lang(), Paint::for_stdout());
    let alerts = stored::list(&desk.pool, &wanted).await?;
    for alert in &alerts {
        let line = if list.json { as_json(alert).to_string() } else { as_text(alert, lang, paint) };
        if !say(&line)? {
            return Ok(());
        }
    }
    if alerts.is_empty() && !list.json {
        say(match lang {
            Language::Fr => "aucune alerte ; `plait alerts rules` dit ce qui en déclenche une",
            Language::En => "no alerts; `plait alerts rules` says what raises one",
        })?;
    }
    Ok(())
}

fn as_text(alert: &Raised, lang: Language, paint: Paint) -> String {
    let (mark, text) = match alert.seen_at {
        None => (paint.yellow("●"), paint.bold(of(lang, &alert.text_fr, &alert.text_en))),
        Some(_) => (" ".into(), of(lang, &alert.text_fr, &alert.text_en).to_owned()),
    };
    let seen = alert.seen_by.as_ref().map_or_else(String::new, |who| match lang {
        Language::Fr => format!(", vu par {who}"),
        Language::En => format!(", seen by {who}"),
    });
    let tail = format!("[{}{seen}]", alert.rule);
    format!(
        "{mark} {:>4}  {}  {text}  {} ({})  {}",
        alert.alert_id,
        paint.dim(&local(alert.at)),
        author_words(&alert.author, lang),
        side_words(&alert.side),
        paint.dim(&tail),
    )
}

fn of<'t>(lang: Language, fr: &'t str, en: &'t str) -> &'t str {
    if lang == Language::Fr { fr } else { en }
}

fn as_json(alert: &Raised) -> Json {
    json!({
        "id": alert.alert_id, "rule": alert.rule, "kind": alert.kind, "at": alert.at, "side": alert.side,
        "author": alert.author, "entity": alert.entity, "record_id": alert.record_id, "record_name": alert.record_name,
        "before": alert.before, "after": alert.after, "text_fr": alert.text_fr, "text_en": alert.text_en,
        "journal_id": alert.journal_id, "raised_at": alert.raised_at, "seen_at": alert.seen_at, "seen_by": alert.seen_by,
    })
}

async fn tick_off(seen: Seen) -> anyhow::Result<()> {
    let ids = ids(&seen.ids)?;
    let author = seen.who.name()?;
    let (desk, _) = Desk::open(&seen.common.config).await?;
    if let Some(ids) = &ids {
        let known = stored::known(&desk.pool, ids).await?;
        if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
            bail!("there is no alert {unknown}; `plait alerts` lists them with their numbers");
        }
    }
    let ticked = stored::see(&desk.pool, ids.as_deref(), &author).await?;
    let left = stored::unseen_count(&desk.pool).await?;
    let count = ticked.len();
    say(&match seen.common.lang() {
        Language::Fr => format!("vues par {author} : {count} ; restent à voir : {left}"),
        Language::En => format!("{count} ticked off by {author}; {left} left to be seen"),
    })?;
    Ok(())
}

/// `None`: all.
fn ids(given: &[String]) -> anyhow::Result<Option<Vec<i64>>> {
    if given.iter().any(|id| id == "all") {
        if given.len() > 1 {
            bail!("`all` stands alone: name it, or the alerts");
        }
        return Ok(None);
    }
    let mut ids = Vec::new();
    for id in given {
        match id.parse() {
            Ok(id) => ids.push(id),
            Err(_) => bail!("`{id}` is no alert: name it by its number, or say `all`"),
        }
    }
    Ok(Some(ids))
}

async fn tell_rules(common: &Common) -> anyhow::Result<()> {
    let (desk, settings) = Desk::open(&common.config).await?;
    let (lang, paint) = (common.lang(), Paint::for_stdout());
    let codes = alert::codes(&desk.pool).await?;
    let (watches, findings) = alert::resolve(&settings.alerts, &desk.mapping, Some(&codes));
    for watch in &watches {
        let is_built_in = watch.rule.place.is_none();
        let place = watch.rule.place.as_deref().unwrap_or(of(lang, "règle fournie", "built in"));
        let place = if is_built_in { place.to_owned() } else { short_place(place) };
        let words = rule_words(watch, &codes, lang);
        let line = format!(
            "{}  {words}  {}",
            paint.bold(&format!("{:20}", watch.rule.name)),
            paint.dim(&format!("[{place}]"))
        );
        if !say(&line)? {
            return Ok(());
        }
    }
    if watches.is_empty() {
        say(of(lang, "aucune règle : rien n'alerte", "no rule: nothing alerts"))?;
    }
    for finding in findings {
        say(&format!("{} {}", paint.yellow("warning"), finding.what))?;
    }
    Ok(())
}

/// The file's name and the line.
fn short_place(place: &str) -> String {
    place.rsplit('/').next().unwrap_or(place).to_owned()
}

async fn try_rules(past: &Try) -> anyhow::Result<()> {
    let (desk, settings) = Desk::open(&past.common.config).await?;
    let (lang, paint) = (past.common.lang(), Paint::for_stdout());
    let follower = follower(desk, &settings);
    let mut count = 0_u64;
    let mut outcome = Ok(true);
    alert::past(&follower, past.since, |alert| {
        count += 1;
        let line =
            if past.json { tried_json(&alert).to_string() } else { tried(&alert, lang, paint) };
        outcome = say(&line);
        matches!(outcome, Ok(true))
    })
    .await?;
    if outcome? && !past.json {
        say(&match lang {
            Language::Fr => format!("{count} ; rien n'est écrit"),
            Language::En => format!("{count}; nothing is written"),
        })?;
    }
    Ok(())
}

fn follower(desk: Desk, settings: &Settings) -> alert::Follower {
    let logs = Side::ALL.map(|side| side.name().to_owned()).to_vec();
    alert::Follower {
        pool: desk.pool,
        mapping: Arc::new(desk.mapping),
        shapes: desk.shapes,
        rules: settings.alerts.clone(),
        logs,
    }
}

fn tried(alert: &Alert, lang: Language, paint: Paint) -> String {
    format!(
        "{}  {}  {} ({})  {}",
        paint.dim(&local(alert.at)),
        paint.bold(of(lang, &alert.text_fr, &alert.text_en)),
        author_words(&alert.author, lang),
        side_words(&alert.side),
        paint.dim(&format!("[{}]", alert.rule)),
    )
}

fn tried_json(alert: &Alert) -> Json {
    json!({
        "rule": alert.rule, "kind": alert.kind, "at": alert.at, "side": alert.side, "author": alert.author,
        "entity": alert.entity, "record_id": alert.record_id, "record_name": alert.record_name,
        "before": alert.before, "after": alert.after, "text_fr": alert.text_fr, "text_en": alert.text_en,
        "journal_id": alert.journal_id,
    })
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn alerts_are_named_by_number_or_all_at_once() {
        let given = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&given(&["all"])).unwrap(), None);
        assert_eq!(ids(&given(&["3", "4"])).unwrap(), Some(vec![3, 4]));
        assert!(ids(&given(&["all", "4"])).is_err());
        assert!(ids(&given(&["x"])).unwrap_err().to_string().contains("no alert"));
    }
}
