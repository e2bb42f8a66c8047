//! The commands: one file each. Arguments in, words and an exit code out.

mod alerts;
mod approve;
mod check;
mod conflicts;
mod demo;
mod desk;
mod errors;
mod export;
mod guest;
mod history;
mod identity;
mod migrate;
mod names;
#[cfg(test)]
mod names_tests;
mod person;
#[cfg(test)]
mod person_tests;
mod plan;
mod readers;
mod renames;
mod reports;
mod run;
mod sandbox;
mod settings;
mod setup;
mod status;
mod terminal;
mod undo;
#[cfg(test)]
mod unfit_tests;
mod verify;
mod waiting;
mod watch;
#[cfg(test)]
mod way_back_tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

/// Braids Airtable and Directus into one canonical Postgres.
///
/// Plait reads the Postgres under Directus by logical replication and Airtable by its webhook payloads, merges
/// both field by field, and keeps the result in the schema `canon` of its own database, with who changed what,
/// when and where in the schema `mirror`.
#[derive(Debug, Parser)]
#[command(name = "plait", version, max_term_width = 100, after_help = FIRST_STEPS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  plait demo             the whole thing on this machine, nothing to set up
  plait check            reads plait.toml and mapping.toml, reaches every service, says what is missing
  plait run              mirrors until Ctrl-C
  plait watch            in another terminal: each change as it happens
  plait status           how far each side has been read
  plait plan             what would be written to either side; nothing is before `plait approve`

Settings are in plait.toml, what is mirrored in mapping.toml; docs/settings.md and docs/mapping.md explain
every line. Exit codes: 0 all is well, 1 it could not be done, 2 the arguments were wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror: copy what both sides hold, then follow each change until stopped
    Run(run::Arguments),
    /// Create or upgrade the canonical database's schemas, as `run` does when it starts
    Migrate(migrate::Arguments),
    /// Say whether `run` would work, and what to do if not
    Check(check::Arguments),
    /// Make what Plait needs on a side: its user in Directus
    Setup(setup::Arguments),
    /// Say how far each side has been read and what waits for a person
    Status(status::Arguments),
    /// Follow the journal: time, who, side, record, field, before → after
    Watch(watch::Arguments),
    /// What would be written to either side once somebody accepts it, cell by cell
    Plan(plan::Arguments),
    /// Accept the plan that was shown, deletes that wait, or what may be one and the same record
    Approve(approve::Arguments),
    /// Cells that both sides changed: list, look, settle with either value or a third
    Conflicts(conflicts::Arguments),
    /// What did not go through, in plain words: list, try again, leave
    Errors(errors::Arguments),
    /// Options that were renamed in Airtable, and whose values have not followed: list, let them
    Renames(renames::Arguments),
    /// What happened to one record: who, when, where, before → after
    History(history::Arguments),
    /// What people asked to be told of: list, tick off, the rules in words
    Alerts(alerts::Arguments),
    /// Say which record of a side is which: join a missed match, split a wrong one
    Identity(identity::Arguments),
    /// Take changes back, on all sides: a cell, a record, a person's, a transaction
    Undo(undo::Arguments),
    /// One person's data: export it, erase it, list what was erased
    Person(person::Arguments),
    /// Read both sides, and compare every cell with what is canonical
    Verify(verify::Arguments),
    /// What there is to export, in words: the reports, the columns of one
    Reports(reports::Arguments),
    /// Write a report, a table, or all of it: CSV, Excel, JSON, Parquet
    Export(export::Arguments),
    /// Serve a pretend Airtable with a network's data, for trying things out
    Sandbox(sandbox::Arguments),
    /// Bring up a real Directus, the sandbox and a canonical database, and mirror them
    Demo(demo::Arguments),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One provider for everything in the process: two crates would otherwise ask for "the default".
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::warn(&format!("plait: could not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let stop = CancellationToken::new();
    let outcome = runtime.block_on(async {
        tokio::spawn(terminal::stop_on_signal(stop.clone()));
        match arguments.command {
            Command::Run(arguments) => run::run(arguments, stop).await,
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Check(arguments) => check::run(arguments).await,
            Command::Setup(arguments) => setup::run(arguments).await,
            Command::Status(arguments) => status::run(arguments).await,
            Command::Watch(arguments) => watch::run(arguments, stop).await,
            Command::Plan(arguments) => plan::run(arguments).await,
            Command::Approve(arguments) => approve::run(arguments).await,
            Command::Conflicts(arguments) => conflicts::run(arguments).await,
            Command::Errors(arguments) => errors::run(arguments).await,
            Command::Renames(arguments) => renames::run(arguments).await,
            Command::History(arguments) => history::run(arguments).await,
            Command::Alerts(arguments) => alerts::run(arguments).await,
            Command::Identity(arguments) => identity::run(arguments).await,
            Command::Undo(arguments) => undo::run(arguments).await,
            Command::Person(arguments) => person::run(arguments).await,
            Command::Verify(arguments) => verify::run(arguments).await,
            Command::Reports(arguments) => reports::run(arguments).await,
            Command::Export(arguments) => export::run(arguments, stop).await,
            Command::Sandbox(arguments) => sandbox::run(arguments, stop).await,
            Command::Demo(arguments) => demo::run(arguments, stop).await,
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            terminal::warn(&format!("plait: {}", terminal::chain(&error)));
            ExitCode::FAILURE
        }
    }
}
