//! Our own tables: the only SQL on the canonical database. In: states to read, changes to write. Out: what
//! the database holds. The apply transaction runs over tokio-postgres ([`Writer`]); everything that only reads,
//! over sqlx ([`reading`]).

pub(crate) mod alert;
mod approval;
mod books;
pub(crate) mod budget;
#[cfg(test)]
mod bulk_tests;
mod catalog;
mod column;
pub(crate) mod command;
pub(crate) mod condition;
pub(crate) mod conflict;
mod connect;
mod copy_binary;
mod copy_text;
mod decided;
mod element;
mod first_copy;
pub(crate) mod history;
mod identity;
pub(crate) mod incident;
pub(crate) mod kept;
pub(crate) mod lease;
#[cfg(test)]
mod lease_tests;
mod limit;
pub(crate) mod logins;
pub(crate) mod mass;
pub(crate) mod operation;
pub(crate) mod option_yes;
mod outbox;
mod owed;
pub(crate) mod parked;
pub(crate) mod passage;
pub(crate) mod person;
pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;
pub(crate) mod readers;
pub(crate) mod reading;
pub(crate) mod record;
pub(crate) mod recovery;
#[cfg(test)]
mod report_tests;
pub(crate) mod reports;
mod rights;
mod session;
mod settling;
pub(crate) mod standing;
mod state;
mod statements;
mod unfit;
pub(crate) mod vitals;
pub(crate) mod waiting;
mod write;
mod writer;

use std::time::Duration;

pub(crate) use approval::SideIds;
pub(crate) use books::{Books, Standing, Target};
pub(crate) use catalog::{TableShape, shapes};
pub(crate) use connect::{
    Canonical, connect, follow_mapping, has_place, install_reports, migrate, missing_grants, place,
};
pub(crate) use decided::{CommandRow, VerdictRow, YesRow};
pub(crate) use element::Left;
pub(crate) use first_copy::FirstCopy;
pub(crate) use identity::{ID_FIELD, MatchRow, MoveRow, QuestionRow, carried_id};
pub(crate) use lease::{Candidate, Keeper, stand_by};
pub(crate) use mass::{Accepted, LetRow, MassAuthor, ReadEnd, StopRow};
pub(crate) use operation::Creation;
pub(crate) use outbox::{Again, Parked};
pub(crate) use owed::{ANSWERS_ITSELF, CountedDue, DoomRow, DueRow, ParkRow};
pub(crate) use passage::PassageRow;
pub(crate) use session::Call;
pub(crate) use settling::QuietRow;
pub(crate) use state::ElementRow;
pub(crate) use unfit::{AcceptedRow, SeenBy, UnfitRow};
pub(crate) use write::{
    AbsenceRow, ConflictRow, ConflictStep, ElementContent, EntityWrites, JournalRow, LinkRow,
    PositionRow, RefusalRow, SetChange, ShadowRow, TransactionRow, TransitionRow, WHOLE_RECORD,
    Writes,
};
pub(crate) use writer::Writer;

/// Why the canonical database could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not reach the canonical database at {place}")]
    Unreachable { place: String, source: tokio_postgres::Error },
    #[error("could not set up TLS for the canonical database: {reason}")]
    Tls { reason: String },
    /// Without a source, whose text quotes values.
    #[error("the canonical database refused a statement: {}", crate::postgres::without_values(.0))]
    Sql(tokio_postgres::Error),
    #[error("could not read from the canonical database")]
    Read(#[from] sqlx::Error),
    #[error("could not migrate the canonical database")]
    Migration(#[from] refinery::Error),
    #[error("could not install the reports: sql/{name}.sql does not go with this database")]
    Report { name: &'static str, source: tokio_postgres::Error },
    #[error(
        "another plait works on this canonical database: stop it first, or use another database"
    )]
    Locked,
    #[error("another plait has taken the writer's place on this canonical database")]
    Superseded,
    #[error("a connection to the canonical database ended")]
    ConnectionEnded,
    #[error("the canonical database has not answered within {} s", after.as_secs())]
    Silent { after: Duration },
    #[error(
        "the role {name} was not made by plait, which changes no other: give the login another name, or have its administrator run `comment on role \"{name}\" is 'plait reader'`"
    )]
    ForeignRole { name: String },
    #[error(
        "the role plait_condition, which looks at conditions, is not ready, and user {user} may not make it: let an administrator run what `plait setup roles --sql` prints"
    )]
    NoConditionRole { user: String },
    #[error("the task that wrote a batch broke off")]
    BrokenOff(#[source] tokio::task::JoinError),
    #[error("{0}")]
    Shape(String),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Error {
    /// Whether the data is at fault: the batch has to be taken apart, waiting does not help.
    pub(crate) fn is_about_data(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        // 22: data exception, 23: integrity constraint, 54: a limit of the database.
        error.code().is_some_and(|code| {
            ["22", "23", "54"].iter().any(|class| code.code().starts_with(class))
        })
    }

    /// Whether a statement has waited for a lock for as long as it may.
    pub(crate) fn is_lock_wait(&self) -> bool {
        matches!(self, Self::Sql(error) if error.code().is_some_and(|code| code.code() == LOCK_NOT_AVAILABLE))
    }

    /// Whether waiting and connecting anew may cure it.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::BrokenOff(_)
            | Self::Superseded
            | Self::ConnectionEnded
            | Self::Silent { .. } => true,
            Self::Sql(error) => is_passing(error),
            // Both libraries see the same end of a connection, each in words of its own.
            Self::Read(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(said) => {
                    said.code().is_some_and(|code| is_passing_state(&code))
                }
                _ => false,
            },
            Self::Migration(error) => {
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
                        return is_passing(error);
                    }
                    cause = error.source();
                }
                false
            }
            _ => false,
        }
    }
}

fn is_passing(error: &tokio_postgres::Error) -> bool {
    // Without a code: closed in mid-flight, the server went away.
    error.code().is_none_or(|code| is_passing_state(code.code()))
}

/// A connection that failed, a rollback that somebody else is the reason of, a lack of resources, an intervention, a
/// failure of the system; a lock that somebody holds, and the writer's place that somebody has taken.
fn is_passing_state(code: &str) -> bool {
    [LOCK_NOT_AVAILABLE, REPLACED].contains(&code)
        || ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

/// SQLSTATE of a statement that has waited for a lock for as long as it may.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of `mirror.hold_writer`: somebody else writes now.
const REPLACED: &str = "PL001";
