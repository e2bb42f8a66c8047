//! `plait setup roles` and `plait setup reader`: who may read what of the canonical database.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use super::{
    settings,
    setup::write_private,
    terminal::{Paint, say},
};
use crate::{
    config::Secret,
    demo::secret,
    export::Session,
    store::{self, readers, readers::Group},
};

/// Makes the roles `plait_analyst` (all reports), `plait_delegate` (and the contact data of members) and `plait_investor`
/// (own lines only, by row-level security). Shows what it would do; `--yes` does it.
///
/// The user of [canonical] has to own the schemas `canon` and `report`, and needs the right to make roles; else somebody
/// who has it runs what `--sql` prints.
#[derive(Debug, clap::Args)]
pub(super) struct RolesArguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Print the statements, for an administrator to run with psql, and do nothing
    #[arg(long)]
    sql: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Makes a login role in one of the three groups, with a new password in a file of mode 600. Run again, it gives the
/// login a new password.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReaderArguments {
    /// The login role
    name: String,
    /// What it may read
    #[arg(long = "as", value_name = "GROUP")]
    group: GroupName,
    /// For an investor: which member, by UUID, e-mail address or full name
    #[arg(long, value_name = "MEMBER", required_if_eq("group", "investor"))]
    member: Option<String>,
    /// Where the new password goes; a file that is there has to be empty, or this login's
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// Do it
    #[arg(long)]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  plait setup reader marie --as analyst --password-file marie.password --yes
  plait setup reader jd --as investor --member jean.dupont@lemonde.fr --password-file jd.password --yes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GroupName {
    /// All reports, without contact data
    Analyst,
    /// All reports, and the contact data of members
    Delegate,
    /// Own lines only
    Investor,
}

impl GroupName {
    fn group(self) -> Group {
        match self {
            Self::Analyst => Group::Analyst,
            Self::Delegate => Group::Delegate,
            Self::Investor => Group::Investor,
        }
    }
}

pub(super) async fn roles(arguments: RolesArguments) -> anyhow::Result<ExitCode> {
    if arguments.sql {
        say(&readers::script())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = settings::read(&arguments.config)?;
    let canonical = settings::canonical(&settings.canonical);
    // What is granted has to be there.
    store::install_reports(&canonical).await.context("`plait migrate` has to come first")?;
    let mut client = store::connect(&canonical).await?;
    let state = readers::look(&client).await?;
    let paint = Paint::for_stdout();
    if state.missing.is_empty() && state.has_policies {
        say(&paint.green("all is as it has to be"))?;
        return Ok(ExitCode::SUCCESS);
    }
    for role in &state.missing {
        say(&format!("  make the role {role}"))?;
    }
    say("  let an investor see the rows of canon that are about his own lines, and no others")?;
    for role in &state.shut_out {
        say(&paint.yellow(&format!(
            "  {role} reads tables of canon now and would see no rows of them: `grant plait_analyst to {role}`"
        )))?;
    }
    if !state.missing.is_empty() && !state.may_make {
        bail!(
            "user {} may not make roles: run `alter role {} createrole` as a superuser, or have one run what `plait setup roles --sql` prints",
            state.user,
            state.user
        );
    }
    if !arguments.yes {
        say("nothing is done yet: add --yes to do it")?;
        return Ok(ExitCode::SUCCESS);
    }
    readers::make_roles(&mut client).await.context("nothing was changed")?;
    say(&paint.green("done; `plait setup reader` makes logins"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reader(arguments: ReaderArguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let canonical = settings::canonical(&settings.canonical);
    let mut client = store::connect(&canonical).await?;
    let group = arguments.group.group();
    let state = readers::look(&client).await?;
    if state.missing.contains(&group.role()) {
        bail!("there is no role {} yet: run `plait setup roles` first", group.role());
    }
    let member = match (&arguments.member, group) {
        (Some(given), Group::Investor) => {
            Some(Session::open(&canonical).await?.meant(given).await?)
        }
        (Some(_), _) => bail!("--member is for --as investor: others see all lines"),
        (None, _) => None,
    };
    check_file(&arguments.password_file)?;
    let who = member.as_ref().map_or_else(String::new, |it| format!(", who is {}", it.name()));
    say(&format!("  let the login {} read as {}{who}", arguments.name, group.role()))?;
    say(&format!("  write its new password to {}", arguments.password_file.display()))?;
    if !arguments.yes {
        say("nothing is done yet: add --yes to do it")?;
        return Ok(ExitCode::SUCCESS);
    }
    let password = Secret::new(secret());
    // First the file: a password that nobody knows is of no use.
    write_private(&arguments.password_file, &password)
        .with_context(|| format!("could not write {}", arguments.password_file.display()))?;
    let member = member.map(|member| member.id);
    readers::make_reader(&mut client, &arguments.name, group, password.reveal(), member)
        .await
        .with_context(|| format!("the login {} was not made", arguments.name))?;
    say(&Paint::for_stdout().green("done"))?;
    Ok(ExitCode::SUCCESS)
}

/// A file of something else is not to be lost.
fn check_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.is_empty() && (text.len() != 49 || text.lines().count() != 1) => {
            bail!("{} holds something else: name another file", path.display())
        }
        _ => Ok(()),
    }
}
