//! `plait approve`: a yes to the plan that was shown, to deletes or mass changes that wait, or an answer to who is whom.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::bail;
use uuid::Uuid;

use super::{
    desk::{Desk, Who, local},
    plan::{books, short_digest, show, stop_labels, stop_text},
    terminal::{Paint, say},
};
use crate::{
    model::{Decision, Side},
    store::plan::{self, Doomed, Proposal, Question, Shown, Verdict},
};

/// How many records of each kind are shown when a plan does not hold any more.
const FIRST: usize = 5;

/// Accepts the plan that `plait plan` showed last, if it is still what is owed: what runs is the plan that was seen,
/// or nothing. From then on plait writes what changes by itself. Deletes, many changes at once, and records that may be one
/// and the same, have an answer of their own.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    plan: Plan,
}

const EXAMPLES: &str = "\
Examples:
  plait approve                            says what accepting the plan would let happen
  plait approve --yes                      accepts it
  plait approve deletes                    lists the deletes that wait
  plait approve deletes investment --yes   lets those of one entity happen
  plait approve changes                    lists the mass changes that were stopped
  plait approve changes 7 --yes            lets one of them through
  plait approve match 3 --different --yes  says that a record is none of those that it looks like";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let records that were deleted on one side be deleted on the other too
    Deletes(Deletes),
    /// Let through what was stopped because too many records were changed at once
    Changes(Changes),
    /// Say whether a record is the same as another one
    Match(Match),
}

#[derive(Debug, clap::Args)]
struct Plan {
    /// Only the plan with this digest (or its beginning), as `plait plan` said it; otherwise the last one shown
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Deletes {
    /// Only this entity's, as the mapping calls it
    entity: Option<String>,
    /// Only this record's: its UUID, rec… or Directus key
    #[arg(value_name = "ID")]
    record: Option<String>,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Changes {
    /// Only this one, by the number that `plait plan` and `plait status` have for it
    number: Option<i64>,
    /// How many records of each kind are shown
    #[arg(long, short = 'n', default_value_t = FIRST, value_name = "COUNT")]
    first: usize,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("answer").required(true).args(["same", "different"]))]
struct Match {
    /// As `plait plan` has it
    question: i64,
    /// It is this record
    #[arg(long, value_name = "ID")]
    same: Option<String>,
    /// It is none of them
    #[arg(long)]
    different: bool,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => accept(arguments.plan).await,
        Some(Action::Deletes(deletes)) => approve_deletes(deletes).await,
        Some(Action::Changes(changes)) => approve_changes(changes).await,
        Some(Action::Match(it)) => answer(it).await,
    }
}

// ---- the plan ----------------------------------------------------------------------------------------

async fn accept(arguments: Plan) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let author = arguments.who.name()?;
    let books = books(&desk).await?;
    let Some(seen) = books.last_shown().await? else {
        bail!("no plan was shown yet: run `plait plan`, read it, and accept it then");
    };
    if let Some(wanted) = &arguments.plan
        && (wanted.is_empty() || !seen.plan_digest.starts_with(wanted.as_str()))
    {
        bail!(
            "the plan shown last, at {}, is {}, not {wanted}: run `plait plan` and read it",
            local(seen.shown_at),
            short_digest(&seen.plan_digest)
        );
    }
    if !arguments.yes {
        let now = books.proposal().await?;
        if now.is_settled() {
            say("everything of the mapping was accepted already: there is nothing to approve")?;
            return Ok(ExitCode::SUCCESS);
        }
        if now.digest != seen.plan_digest || !now.unread.is_empty() {
            return changed(&desk, &books, &seen, &now, &author).await;
        }
        show(&desk, &now, FIRST, false).await?;
        say("nothing was accepted yet: --yes does it")?;
        return Ok(ExitCode::SUCCESS);
    }
    match books.accept(&seen.plan_digest, &author).await? {
        Verdict::Accepted { field_count, recovery_count: 1.. } => {
            let also = if field_count > 0 {
                format!(", with {field_count} fields and kinds of record")
            } else {
                String::new()
            };
            say(&format!(
                "plan {} is accepted{also}: the way out is open again, and plait writes it now",
                short_digest(&seen.plan_digest)
            ))?;
        }
        Verdict::Accepted { field_count: 0, .. } => {
            say("everything of the mapping was accepted already: there is nothing to approve")?;
        }
        Verdict::Accepted { field_count: count, .. } => {
            say(&format!(
                "plan {} is accepted, with {count} fields and kinds of record: plait writes it now, and what changes by itself from now on",
                short_digest(&seen.plan_digest)
            ))?;
        }
        Verdict::Changed(now) if now.is_settled() => {
            say("everything of the mapping was accepted already: there is nothing to approve")?;
        }
        Verdict::Changed(now) => return changed(&desk, &books, &seen, &now, &author).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is different from the plan that was seen, and shows the new one, which can be accepted next.
async fn changed(
    desk: &Desk,
    books: &crate::store::Books,
    seen: &Shown,
    now: &Proposal,
    author: &str,
) -> anyhow::Result<ExitCode> {
    show(desk, now, FIRST, false).await?;
    if !now.unread.is_empty() {
        bail!(
            "nothing was accepted: {}. Wait for it (`plait status`), then `plait plan` and `plait approve`",
            now.unread.join("; ")
        );
    }
    books.note_shown(now, author).await?;
    bail!(
        "nothing was accepted: this is not the plan shown at {} any more ({}). It is shown above as it is now; `plait approve --yes` accepts that",
        local(seen.shown_at),
        difference(&seen.summary, &now.summary(&desk.mapping))
    )
}

/// `directus member create: 3 → 4`.
fn difference(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> String {
    let mut whats: Vec<&String> = before.keys().chain(after.keys()).collect();
    whats.sort();
    whats.dedup();
    let count = |of: &BTreeMap<String, i64>, what: &str| of.get(what).copied().unwrap_or(0);
    let changed: Vec<String> = whats
        .into_iter()
        .filter(|what| count(before, what) != count(after, what))
        .map(|what| {
            let (before, after) = (count(before, what), count(after, what));
            format!("{}: {before} → {after}", what.trim_start_matches("- "))
        })
        .collect();
    if changed.is_empty() {
        String::from("the same counts, other values or records")
    } else {
        changed.join(", ")
    }
}

// ---- deletes -----------------------------------------------------------------------------------------

async fn approve_deletes(arguments: Deletes) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let chosen = chosen_deletes(&desk, &arguments).await?;
    if chosen.is_empty() {
        say("no delete waits for a yes")?;
        return Ok(ExitCode::SUCCESS);
    }
    let labels = desk.labels(chosen.iter().map(|it| (it.entity.clone(), it.record_id))).await?;
    for it in &chosen {
        let why = if it.stopped_by_count { "; stopped, being one of many at once" } else { "" };
        let how = if it.has_left { "left the mirrored rows" } else { "deleted" };
        say(&format!(
            "{} ({}): {how} on {} at {}{why}; still on {}",
            labels.of(&it.entity, it.record_id),
            it.record_id,
            other_side(&it.side),
            local(it.found_at),
            it.side
        ))?;
    }
    if !arguments.yes {
        say(&format!("{} would be deleted there too; --yes does it", chosen.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let decisions: Vec<Decision> = chosen
        .iter()
        .map(|it| Decision::ApproveDelete {
            entity: it.entity.clone(),
            record: it.record_id,
            side: it.side.clone(),
        })
        .collect();
    let done = desk.decide(&arguments.who.name()?, &decisions).await?;
    if let Some(outcome) = done.outcome {
        bail!("not all of it could be done: {outcome}");
    }
    say(&format!(
        "{} may be deleted there now; `plait undo` and a restore bring one back",
        decisions.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn other_side(name: &str) -> &'static str {
    Side::ALL.into_iter().find(|side| side.name() != name).map_or("the other side", Side::name)
}

async fn chosen_deletes(desk: &Desk, arguments: &Deletes) -> anyhow::Result<Vec<Doomed>> {
    let entity = match &arguments.entity {
        Some(name) => Some(desk.entity_no(name)?),
        None => None,
    };
    let record = match (entity, &arguments.record) {
        (Some(entity), Some(name)) => Some(desk.record(entity, name).await?),
        _ => None,
    };
    let is_wanted = |it: &Doomed| {
        arguments.entity.as_ref().is_none_or(|name| it.entity == *name)
            && record.is_none_or(|record| it.record_id == record)
    };
    Ok(plan::doomed(&desk.pool).await?.into_iter().filter(is_wanted).collect())
}

// ---- mass changes ------------------------------------------------------------------------------------

async fn approve_changes(arguments: Changes) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let mut stops = books(&desk).await?.stops().await?;
    if let Some(number) = arguments.number {
        let known: Vec<String> =
            stops.iter().map(|stop| stop.change.mass_change_id.to_string()).collect();
        stops.retain(|stop| stop.change.mass_change_id == number);
        if stops.is_empty() {
            bail!(
                "no mass change {number} waits for a yes; those that do: {}",
                if known.is_empty() { "none".into() } else { known.join(", ") }
            );
        }
    }
    if stops.is_empty() {
        say("no mass change waits for a yes")?;
        return Ok(ExitCode::SUCCESS);
    }
    let labels = stop_labels(&desk, &stops).await?;
    for stop in &stops {
        let paint = Paint::for_stdout();
        for line in stop_text(&desk.mapping, stop, &labels, arguments.first, paint) {
            say(&line)?;
        }
    }
    let record_count: i64 = stops.iter().map(|stop| stop.change.held_count).sum();
    if !arguments.yes {
        say(&format!(
            "what {record_count} records owe would go on to the other side; --yes does it"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let decisions: Vec<Decision> = stops
        .iter()
        .map(|stop| Decision::ApproveChanges {
            stop: stop.change.mass_change_id,
            through: stop.change.last_transaction_id,
        })
        .collect();
    let done = desk.decide(&arguments.who.name()?, &decisions).await?;
    if let Some(outcome) = done.outcome {
        bail!("not all of it could be done: {outcome}");
    }
    say(&format!(
        "what {record_count} records owe goes on to the other side now; `plait undo changes` with the number takes it back"
    ))?;
    Ok(ExitCode::SUCCESS)
}

// ---- who is whom -------------------------------------------------------------------------------------

async fn answer(arguments: Match) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let questions = plan::questions(&desk.pool).await?;
    let Some(question) = questions.iter().find(|it| it.match_question_id == arguments.question)
    else {
        bail!(
            "there is no open question {}: `plait plan` lists those that there are",
            arguments.question
        );
    };
    let author = arguments.who.name()?;
    let ids = std::iter::once(question.record_id).chain(question.candidates.iter().copied());
    let labels = desk.labels(ids.map(|id| (question.entity.clone(), id))).await?;
    let name = labels.of(&question.entity, question.record_id);
    let Some(same) = &arguments.same else {
        if !arguments.yes {
            say(&format!("{name} would stay a record of its own; --yes does it"))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !plan::answer_different(&desk.pool, question.match_question_id, &author).await? {
            bail!("somebody has answered question {} meanwhile", question.match_question_id);
        }
        say(&format!("{name} is a record of its own, and is created on the other side too"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let record = desk.record(desk.entity_no(&question.entity)?, same).await?;
    let other = labels.of(&question.entity, record);
    if record == question.record_id {
        bail!(
            "{record} is the record that the question is about: name the one that it is the same as"
        );
    }
    if !arguments.yes {
        say(&format!("{name} would be {other} ({record}); --yes does it"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = desk.decide(&author, &[join(question, record)]).await?;
    if let Some(outcome) = done.outcome {
        bail!("it could not be done: {outcome}");
    }
    say(&format!("{name} is {other} from now on; `plait identity split` undoes it"))?;
    Ok(ExitCode::SUCCESS)
}

fn join(question: &Question, record: Uuid) -> Decision {
    Decision::Join {
        entity: question.entity.clone(),
        side: question.side.clone(),
        key: question.side_key.clone(),
        record,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::difference;

    #[test]
    fn approve_says_what_has_changed_since_a_plan_was_shown() {
        let counts = |pairs: &[(&str, i64)]| -> BTreeMap<String, i64> {
            pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
        };
        let before = counts(&[("directus member create", 3), ("airtable round update", 1)]);
        let after = counts(&[("directus member create", 4), ("- member fields", 2)]);
        assert_eq!(
            difference(&before, &after),
            "member fields: 0 → 2, airtable round update: 1 → 0, directus member create: 3 → 4"
        );
        assert!(difference(&before, &before).contains("same counts"));
    }
}
