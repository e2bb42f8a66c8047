//! `plait setup roles` and `plait setup reader`: who may read what of the canonical database.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use tokio_postgres::Client;

use super::{
    settings,
    setup::write_private,
    terminal::{Paint, say},
};
use crate::{
    config::Secret,
    demo::secret,
    export::Session,
    store::{
        self,
        logins::{self, Login, Removed},
        readers::{self, Group},
    },
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
/// login a new password, and the group that is said then instead of the one before. Lists the logins, and takes one away.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReaderArguments {
    /// The login role
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// What it may read
    #[arg(long = "as", value_name = "GROUP", required_unless_present_any = ["list", "remove"])]
    group: Option<GroupName>,
    /// Say which logins there are, and what each reads
    #[arg(long, conflicts_with_all = ["name", "group", "member", "password_file", "remove"])]
    list: bool,
    /// Take the login away
    #[arg(long, conflicts_with_all = ["group", "member", "password_file"])]
    remove: bool,
    /// For an investor: which member, by UUID, e-mail address or full name
    #[arg(long, value_name = "MEMBER", required_if_eq("group", "investor"))]
    member: Option<String>,
    /// Where the new password goes; a file that is there has to be empty, or this login's
    #[arg(long, value_name = "FILE", required_unless_present_any = ["list", "remove"])]
    password_file: Option<PathBuf>,
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
  plait setup reader jd --as investor --member jean.dupont@lemonde.fr --password-file jd.password --yes
  plait setup reader --list
  plait setup reader jd --remove --yes";

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
    let mapping = settings::read_mapping(&settings)
        .map_err(|problems| anyhow::anyhow!("the mapping cannot be used\n{problems}"))?;
    store::follow_mapping(&canonical, &mapping).await?;
    let mut client = store::connect(&canonical).await?;
    let state = readers::look(&client).await?;
    let paint = Paint::for_stdout();
    if state.missing.is_empty() && state.has_policies && state.temp.is_none() {
        say(&paint.green("all is as it has to be"))?;
        return Ok(ExitCode::SUCCESS);
    }
    for role in &state.missing {
        say(&format!("  make the role {role}"))?;
    }
    say("  let an investor see the rows of canon that are about their own lines, and no others")?;
    for role in &state.shut_out {
        say(&paint.yellow(&format!(
            "  {role} reads tables of canon now and would see no rows of them: `grant plait_analyst to {role}`"
        )))?;
    }
    if let Some(statement) = &state.temp {
        say(&format!("  keep readers from making temporary tables: {statement}"))?;
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
    if let Some(statement) = readers::look(&client).await?.temp {
        say(&paint.yellow(&format!(
            "readers can still make temporary tables: run `{statement}` as the owner of the database"
        )))?;
    }
    say(&paint.green("done; `plait setup reader` makes logins"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reader(arguments: ReaderArguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let canonical = settings::canonical(&settings.canonical);
    let mut client = store::connect(&canonical).await?;
    if arguments.list {
        return list(&client).await;
    }
    let name = arguments.name.unwrap_or_default();
    if arguments.remove {
        return remove(&mut client, &name, arguments.yes).await;
    }
    let (Some(group), Some(password_file)) = (arguments.group, arguments.password_file) else {
        bail!(
            "say what the login may read by --as, and where its password goes by --password-file"
        );
    };
    let group = group.group();
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
    if logins::is_own(&client, &name).await? == Some(false) {
        return Err(store::Error::ForeignRole { name }.into());
    }
    check_file(&password_file)?;
    let who = member.as_ref().map_or_else(String::new, |it| format!(", who is {}", it.name()));
    say(&format!("  let the login {name} read as {}{who}, and as nothing else", group.role()))?;
    say(&format!("  write its new password to {}", password_file.display()))?;
    if !arguments.yes {
        say("nothing is done yet: add --yes to do it")?;
        return Ok(ExitCode::SUCCESS);
    }
    let password = Secret::new(secret());
    // First the file: a password that nobody knows is of no use.
    write_private(&password_file, &password)
        .with_context(|| format!("could not write {}", password_file.display()))?;
    let member = member.map(|member| member.id);
    logins::make(&mut client, &name, group, password.reveal(), member)
        .await
        .with_context(|| format!("the login {name} was not made"))?;
    say(&Paint::for_stdout().green("done"))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client) -> anyhow::Result<ExitCode> {
    let logins = logins::list(client).await?;
    if logins.is_empty() {
        say("there is no login of a reader")?;
    }
    let paint = Paint::for_stdout();
    for Login { name, groups, member, member_name, has_departed } in logins {
        let who = match (member, member_name) {
            (Some(_), Some(member)) => format!(", who is {member}"),
            (Some(member), None) => format!(", who is {member}"),
            (None, _) => String::new(),
        };
        let groups = if groups.is_empty() { String::from("nothing") } else { groups.join(" and ") };
        let note = if has_departed {
            paint.yellow(&format!(
                "; this member has departed: `plait setup reader {name} --remove --yes` takes the login away"
            ))
        } else {
            String::new()
        };
        if !say(&format!("{} reads as {groups}{who}{note}", paint.bold(&name)))? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(client: &mut Client, name: &str, is_meant: bool) -> anyhow::Result<ExitCode> {
    match logins::is_own(client, name).await? {
        Some(true) => {}
        Some(false) => return Err(store::Error::ForeignRole { name: name.to_owned() }.into()),
        None => bail!("there is no login {name}: `plait setup reader --list` says which there are"),
    }
    say(&format!("  take the login {name} away, and end its sessions"))?;
    if !is_meant {
        say("nothing is done yet: add --yes to do it")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&removed(name, &logins::remove(client, name).await?))?;
    Ok(ExitCode::SUCCESS)
}

/// What became of a login, in words.
pub(super) fn removed(name: &str, outcome: &Removed) -> String {
    match outcome {
        Removed::Gone => format!("the login {name} is gone"),
        Removed::Shut(why) => format!(
            "the login {name} may not log in any more and reads nothing; the role stays, since it is used elsewhere ({why})"
        ),
    }
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
