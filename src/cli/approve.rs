//! `plait approve`: a person's yes to the plan, to deletes, and a word on who is whom.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use uuid::Uuid;

use super::{
    desk::{Desk, Who},
    plan::{Around, as_text, delete_text, logs, reading, short_digest, words},
    terminal::{Paint, say},
};
use crate::{
    model::Decision,
    store::{
        plan::{self, Plan, Shown, Tally},
        questions::{self, PendingDelete, Question},
    },
};

/// Accepts the plan that `plait plan` has shown: what is written from then on is that plan, or nothing. Says what
/// it would do unless `--yes` is given; if things have changed since the plan was shown, it shows them again instead.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    plan: PlanArguments,
}

const EXAMPLES: &str = "\
Examples:
  plait plan                                what would be written to either side
  plait approve --yes                       accepts what was shown
  plait approve deletes member --yes        deletes on the other side, too, what was deleted on one
  plait approve match 12 --same 0192… --yes the record of question 12 is that one
  plait approve match 12 --different --yes  it is none of them";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let deletes follow on the other side: all, an entity's, or one record's
    Deletes(Deletes),
    /// Say which record the one in a question is
    Match(Match),
}

#[derive(Debug, clap::Args)]
struct PlanArguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
struct Deletes {
    entity: Option<String>,
    /// Its UUID, Airtable's rec… or its key in Directus
    record: Option<String>,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("answer").required(true).args(["same", "different"])))]
struct Match {
    /// The question's number, as `plait plan` has it
    question: i64,
    /// It is this record: its UUID, Airtable's rec… or its key in Directus
    #[arg(long, value_name = "ID")]
    same: Option<String>,
    /// It is none of them
    #[arg(long)]
    different: bool,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        None => approve_plan(arguments.plan).await,
        Some(Action::Deletes(deletes)) => approve_deletes(deletes).await,
        Some(Action::Match(answer)) => approve_match(answer).await,
    }
}

async fn approve_plan(arguments: PlanArguments) -> anyhow::Result<ExitCode> {
    let (desk, settings) = Desk::open(&arguments.config).await?;
    let around = Around::read(&desk, logs(&desk, &settings), false).await?;
    let reading = reading(&desk, false);
    let paint = Paint::for_stdout();
    let last = plan::last_shown(&desk.pool).await?;
    let show = async |plan: &Plan| -> anyhow::Result<()> {
        for line in as_text(plan, &around, false, paint) {
            say(&line)?;
        }
        Ok(plan::note_shown(&desk.pool, plan).await?)
    };
    if !arguments.yes {
        show(&reading.read(&desk.pool).await?).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if !around.unread.is_empty() {
        bail!(
            "the first copy of {} has not ended: nobody knows yet what would be written. Let `plait run` finish it; `plait status` says how far it is",
            around.unread.join(", ")
        );
    }
    let Some(last) = last else {
        show(&reading.read(&desk.pool).await?).await?;
        say("no plan was shown before this one: look at it, then say `plait approve --yes` again")?;
        return Ok(ExitCode::FAILURE);
    };
    let author = arguments.who.name()?;
    let (plan, is_accepted) = reading.approve(&desk.pool, &last.digest, &author).await?;
    if plan.digest.is_empty() {
        say("nothing waits for an approval: every field of every entity has one")?;
        return Ok(ExitCode::SUCCESS);
    }
    if is_accepted {
        say(&format!(
            "plan {} is accepted by {author}: what it has is written from now on; `plait status` says how far it is",
            short_digest(&plan.digest)
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in differences(&last, &plan) {
        say(&line)?;
    }
    show(&plan).await?;
    say("this is what there is now: look at it, then say `plait approve --yes` again")?;
    Ok(ExitCode::FAILURE)
}

/// What has changed since a plan was shown, an entity and side a line.
fn differences(last: &Shown, now: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "plan {} does not hold any more, and was not accepted:",
        short_digest(&last.digest)
    )];
    let entities: BTreeSet<&String> = last.tallies.keys().chain(now.tallies.keys()).collect();
    for entity in entities {
        let of = |tallies: &plan::Tallies, side: &str| -> Tally {
            tallies.get(entity).and_then(|sides| sides.get(side)).copied().unwrap_or_default()
        };
        for side in crate::model::Side::ALL {
            let (before, after) = (of(&last.tallies, side.name()), of(&now.tallies, side.name()));
            if before != after {
                lines.push(format!(
                    "  {entity} on {side}: {}, now {}",
                    words(&before),
                    words(&after)
                ));
            }
        }
    }
    if lines.len() == 1 {
        lines.push("  as much as before, with other values".into());
    }
    lines
}

async fn approve_deletes(arguments: Deletes) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let mut chosen = questions::pending_deletes(&desk.pool).await?;
    if let Some(name) = &arguments.entity {
        let no = desk.entity_no(name)?;
        chosen.retain(|it| it.entity == *name);
        if let Some(record) = &arguments.record {
            let record = desk.record(no, record).await?;
            chosen.retain(|it| it.record_id == record);
        }
    }
    let named = chosen.iter().map(|it| (it.entity.clone(), it.record_id));
    let labels = desk.labels(named).await?;
    let paint = Paint::for_stdout();
    for it in &chosen {
        say(&delete_text(it, &labels, paint))?;
    }
    if chosen.is_empty() {
        say("no delete waits for a yes")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes {
        say(&format!("{} would be deleted where they still live; --yes does it", chosen.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let decision = |it: &PendingDelete| Decision::ApproveDelete {
        entity: it.entity.clone(),
        record: it.record_id,
        side: it.side.clone(),
    };
    let decisions: Vec<Decision> = chosen.iter().map(decision).collect();
    let done = desk.decide(&arguments.who.name()?, &decisions).await?;
    match done.outcome {
        None => {
            say(&format!("{} are deleted where they still live, from now on", chosen.len()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(outcome) => {
            say(&format!("not all of it could be done: {outcome}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn approve_match(arguments: Match) -> anyhow::Result<ExitCode> {
    let (desk, _) = Desk::open(&arguments.config).await?;
    let all = questions::questions(&desk.pool).await?;
    let question = all
        .iter()
        .find(|it| it.match_question_id == arguments.question)
        .with_context(|| no_question(arguments.question, &all))?;
    let Some(same) = &arguments.same else {
        if !arguments.yes {
            say(&format!(
                "{} {} would be a record of its own, and be created on the other side; --yes does it",
                question.side, question.side_key
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        let author = arguments.who.name()?;
        if !questions::answer_different(&desk.pool, question.match_question_id, &author).await? {
            bail!("question {} was answered just now by somebody else", arguments.question);
        }
        say("it is a record of its own from now on")?;
        return Ok(ExitCode::SUCCESS);
    };
    let record = candidate(&desk, question, same).await?;
    let labels = desk.labels([(question.entity.clone(), record)]).await?;
    let target = labels.of(&question.entity, record);
    if !arguments.yes {
        say(&format!(
            "{} {} would be {target}: where the two hold something else, a conflict is kept; --yes does it",
            question.side, question.side_key
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let decision = Decision::Join {
        entity: question.entity.clone(),
        side: question.side.clone(),
        key: question.side_key.clone(),
        record,
    };
    let done = desk.decide(&arguments.who.name()?, &[decision]).await?;
    match done.outcome {
        None => {
            say(&format!("{} {} is {target} from now on", question.side, question.side_key))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(outcome) => {
            say(&format!("it could not be done: {outcome}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The candidate that a person names.
async fn candidate(desk: &Desk, question: &Question, name: &str) -> anyhow::Result<Uuid> {
    let record = desk.record(desk.entity_no(&question.entity)?, name).await?;
    if !question.candidates.contains(&record) {
        let all: Vec<String> = question.candidates.iter().map(Uuid::to_string).collect();
        bail!(
            "`{name}` is none of the records that question {} is about: {}. `plait identity join` joins any two",
            question.match_question_id,
            all.join(", ")
        );
    }
    Ok(record)
}

fn no_question(number: i64, all: &[Question]) -> String {
    let open: Vec<String> = all.iter().map(|it| it.match_question_id.to_string()).collect();
    if open.is_empty() {
        format!("there is no open question {number}: none is open")
    } else {
        format!("there is no open question {number}; open are {}", open.join(", "))
    }
}
