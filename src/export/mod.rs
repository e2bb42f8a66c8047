//! Reports and tables → files. In: what is asked for, and a database of which one moment is read. Out: CSV, JSON,
//! Excel and Parquet, streamed: no file is held in memory, and none is there under its name before it is whole.

mod catalogue;
mod column;
mod condition;
mod copy;
mod cover;
mod csv;
mod file;
mod json;
mod member;
mod order;
mod pack;
mod parquet;
mod query;
mod rows;
mod schedule;
mod task;
#[cfg(test)]
mod tests;
mod xlsx;

use std::{io, path::PathBuf};

use chrono::{DateTime, NaiveDate, Utc};

pub(crate) use catalogue::{Catalogue, Report, Session, Source, tables};
pub(crate) use column::Column;
pub(crate) use copy::Watch;
pub(crate) use file::{Place, bytes};
pub(crate) use order::{Maker, Order, Written};
pub(crate) use pack::Pack;
pub(crate) use query::Question;
pub(crate) use task::{carry_out, keep_exporting};

use crate::{
    config::{Format, Locale},
    document::did_you_mean,
    store,
};

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no report or table `{name}`{hint}")]
    UnknownSource { name: String, hint: String },
    #[error("the canonical database has no reports yet: run `plait migrate`")]
    NoReports,
    #[error(
        "the catalogue names the report `{name}`, and report.{name} is not there: run `plait migrate`"
    )]
    NoView { name: String },
    #[error("{source_name} has no column `{name}`{hint}")]
    UnknownColumn { source_name: String, name: String, hint: String },
    #[error("--columns names no column")]
    NoColumn,
    #[error("the column `{name}` is asked for twice")]
    ColumnTwice { name: String },
    #[error("{name} is not dated: it has only the figures of now. {}", dated_words(dated))]
    NotDated { name: String, dated: Vec<String> },
    #[error("{given} is in the future: today is {today}")]
    FutureDate { given: NaiveDate, today: NaiveDate },
    #[error("{} is in the future: nothing can be known from then", given.format("%Y-%m-%d %H:%M:%S UTC"))]
    FutureInstant { given: DateTime<Utc> },
    #[error(
        "{name} is not about single investors: it has no column `member_id`. {}",
        by_member_words(by_member)
    )]
    NotByMember { name: String, by_member: Vec<String> },
    #[error(
        "no investor is called `{name}`, by UUID, e-mail address, or first and last name{hint}"
    )]
    UnknownMember { name: String, hint: String },
    #[error("`{name}` may be any of these; give the UUID:\n{}", candidates.join("\n"))]
    AmbiguousMember { name: String, candidates: Vec<String> },
    #[error("the condition of --where cannot be used: {message}{hint}")]
    Condition { message: String, hint: String },
    #[error(
        "the database ended the query with the condition of --where, since it took too long (30 s): take --investor or a simpler condition, or export all and filter the file"
    )]
    ConditionTooLong,
    #[error("{} is there already: choose another name, or say --overwrite", path.display())]
    Exists { path: PathBuf },
    #[error(
        "the disk of {} is full: {} were written and that was not all of it. Nothing was left there; free some space, or write elsewhere",
        folder.display(),
        bytes(*written)
    )]
    DiskFull { folder: PathBuf, written: u64 },
    #[error("could not write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Nobody reads what goes to standard output any more.
    #[error("whoever read the output has stopped")]
    BrokenPipe,
    #[error("could not write to standard output after {}", bytes(*written))]
    Stdout { written: u64, source: io::Error },
    #[error(
        "{report} has more than 1,048,575 rows, and a sheet of Excel holds no more: take --format csv or parquet, or fewer rows by --where"
    )]
    TooManyRows { report: String },
    #[error(
        "{report}, row {row}, column `{column}`: a text of {length} characters, and a cell of Excel holds 32,767: take --format csv or parquet, or leave the column out by --columns"
    )]
    TextTooLong { report: String, row: u64, column: String, length: usize },
    #[error("{report} has more than 16,384 columns, and a sheet of Excel holds no more")]
    TooManyColumns { report: String },
    #[error(
        "{report}, row {row}, column `{column}` ({type_name}): {reason}: take --format csv or json, or leave the column out by --columns"
    )]
    Unfit { report: String, row: u64, column: String, type_name: String, reason: String },
    #[error("the database could not answer: {0}")]
    Database(String),
    #[error("{0}")]
    Connection(#[from] store::Error),
    #[error("could not write the workbook")]
    Workbook(#[source] rust_xlsxwriter::XlsxError),
    #[error("could not write the Parquet file")]
    Parquet(#[source] ::parquet::errors::ParquetError),
    #[error("stopped; nothing was left behind")]
    Stopped,
    #[error("the writer broke off: {0}")]
    BrokenOff(String),
}

fn dated_words(dated: &[String]) -> String {
    if dated.is_empty() {
        return "No report is dated".into();
    }
    format!("Dated are {}", dated.join(", "))
}

fn by_member_words(by_member: &[String]) -> String {
    if by_member.is_empty() {
        return "No report is".into();
    }
    format!("These are: {}", by_member.join(", "))
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(said(&error))
    }
}

/// What Postgres says, without the names of its parts.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return crate::postgres::reason(error) };
    let mut text = db.message().to_owned();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text = format!("{text}. {}", more.trim_end_matches('.'));
    }
    text
}

/// The nearest of `known`, else all of them.
fn instead<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let nearest = did_you_mean(name, known.clone());
    let all: Vec<&str> = known.collect();
    match (nearest.is_empty(), all.is_empty()) {
        (false, _) => nearest,
        (true, true) => String::new(),
        (true, false) => format!("; there are {}", all.join(", ")),
    }
}
