//! `plait setup`: what Plait needs on a side, and what readers need of the canonical database, made there.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use super::{
    readers, settings,
    terminal::{Paint, say},
};
use crate::{
    config::{DirectusApi, Secret, read_secret_file},
    demo::secret,
    remote::directus::{
        Client, Error,
        setup::{Account, EMAIL},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make Plait's user in Directus, with just the rights that the mapping needs, and its token
    Directus(DirectusArguments),
    /// Make the database roles that read reports: analyst, delegate, investor
    Roles(readers::RolesArguments),
    /// Make a login that reads reports: of an analyst, of the delegate, or of one investor
    Reader(readers::ReaderArguments),
}

/// Makes role, policy, user and token, or brings them up to date. Shows what it would do; `--yes` does it.
///
/// It needs the static token of an administrator of Directus, in an environment variable or in a file; it is used
/// now and not kept. The new token goes to the file that `token_file` in [directus] names, with mode 600.
#[derive(Debug, clap::Args)]
struct DirectusArguments {
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
    /// The environment variable that holds an administrator's token
    #[arg(long, value_name = "VARIABLE", required_unless_present = "admin_token_file")]
    admin_token_env: Option<String>,
    /// The file that holds it
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token_env")]
    admin_token_file: Option<PathBuf>,
    /// The e-mail address of Plait's user; Directus takes one in a public domain only
    #[arg(long, default_value = EMAIL)]
    email: String,
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.what {
        What::Directus(arguments) => directus(arguments).await,
        What::Roles(arguments) => readers::roles(arguments).await,
        What::Reader(arguments) => readers::reader(arguments).await,
    }
}

async fn directus(arguments: DirectusArguments) -> anyhow::Result<ExitCode> {
    let settings = settings::read(&arguments.config)?;
    let mapping = settings::read_mapping(&settings)
        .map_err(|problems| anyhow::anyhow!("the mapping cannot be used\n{problems}"))?;
    let Some(api) = settings.directus.as_ref().and_then(|directus| directus.api.as_ref()) else {
        bail!(
            "{} does not say where Directus is: add `api_url` and `token_file` to [directus]",
            arguments.config.display()
        );
    };
    let client = Client::new(&api.url, admin_token(&arguments)?.reveal())
        .context("could not set up the client for Directus")?;
    let account = Account::look(&client, &mapping, &arguments.email).await.map_err(admin)?;
    let is_token_good = token_works(api, &account).await?;
    let paint = Paint::for_stdout();
    let mut lines = account.lines();
    if !is_token_good {
        let Some(file) = &api.token_file else {
            bail!(
                "the token in the variable of `token_env` is not one of `{}`: say `token_file = \"…\"` instead, \
                 so that a new one can be written there",
                arguments.email
            );
        };
        lines.push(format!("give that user a new token, and write it to {}", file.display()));
    }
    if lines.is_empty() {
        say(&paint.green("all is as it has to be"))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&paint.bold(&format!("at {}:", api.url)))?;
    for line in &lines {
        if !say(&format!("  {line}"))? {
            break;
        }
    }
    if !arguments.yes {
        say("nothing is done yet: add --yes to do it")?;
        return Ok(ExitCode::SUCCESS);
    }
    match &api.token_file {
        Some(file) if !is_token_good => {
            let token = Secret::new(secret());
            // First the file: a token that nobody knows is of no use.
            write_private(file, &token)
                .with_context(|| format!("could not write {}", file.display()))?;
            account.make(&client, Some(&token)).await.map_err(admin)?;
        }
        _ => account.make(&client, None).await.map_err(admin)?,
    }
    say(&paint.green("done; `plait check` says whether it works"))?;
    Ok(ExitCode::SUCCESS)
}

fn admin_token(arguments: &DirectusArguments) -> anyhow::Result<Secret> {
    given_token(arguments.admin_token_env.as_deref(), arguments.admin_token_file.as_deref())?
        .context("an administrator's token is needed: --admin-token-env VARIABLE")
}

/// An administrator's token, from a variable or a file; `None`: neither was named.
pub(super) fn given_token(
    variable: Option<&str>,
    file: Option<&Path>,
) -> anyhow::Result<Option<Secret>> {
    let token = match (variable, file) {
        (Some(variable), _) => std::env::var(variable)
            .with_context(|| format!("the environment variable {variable} is not set"))?,
        (None, Some(file)) => {
            let read = read_secret_file(file);
            read.with_context(|| format!("could not use {}", file.display()))?.reveal().to_owned()
        }
        (None, None) => return Ok(None),
    };
    let token = token.trim();
    if token.is_empty() {
        bail!("the administrator's token is empty");
    }
    Ok(Some(Secret::new(token.to_owned())))
}

/// Whether the token that there is belongs to the account's user.
async fn token_works(api: &DirectusApi, account: &Account) -> anyhow::Result<bool> {
    let Some(token) = &api.token else { return Ok(false) };
    let client = Client::new(&api.url, token.reveal()).context("could not use the token")?;
    match client.me().await {
        Ok(me) => Ok(account.is_user(&me)),
        Err(Error::Unauthorized { .. }) => Ok(false),
        Err(error) => Err(anyhow::anyhow!(error.chain())),
    }
}

fn admin(error: Error) -> anyhow::Error {
    match &error {
        Error::Unauthorized { .. } => {
            anyhow::anyhow!("directus does not accept the administrator's token")
        }
        error if error.is("FORBIDDEN") => anyhow::anyhow!(
            "the token is not one of an administrator of directus: {}",
            error.chain()
        ),
        error => anyhow::anyhow!(error.chain()),
    }
}

/// Nobody else is to read it.
pub(super) fn write_private(path: &Path, token: &Secret) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{}", token.reveal())?;
    file.sync_all()
}
