//! What there is to export: the reports of the catalogue and the tables of `canon`, with their columns. All of a
//! command is read in one transaction that only reads, so that its sheets and files are of one moment.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::Client;

use super::{
    Error,
    column::{Column, Kind, quoted},
    instead,
};
use crate::store::{self, Canonical, condition};

const CONDITION_TIME_MAX: Duration = Duration::from_secs(30);

const COLUMNS: &str = "
    select a.attname::text, format_type(a.atttypid, a.atttypmod), coalesce(base.typname, own.typname)::text,
        coalesce(base.typcategory, own.typcategory)::text,
        case when base.oid is null then a.atttypmod else own.typtypmod end,
        col_description(a.attrelid, a.attnum)
    from pg_attribute a
    join pg_type own on own.oid = a.atttypid
    left join pg_type base on base.oid = nullif(own.typbasetype, 0)
    where a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) and a.attnum > 0 and not a.attisdropped
    order by a.attnum";

/// A connection with its one transaction.
pub(crate) struct Session {
    pub(super) client: Client,
    /// The moment that is read.
    pub(crate) began_at: DateTime<Utc>,
    /// The date then, in Paris.
    pub(crate) today: NaiveDate,
    /// How long a query with a condition may take.
    pub(super) condition_time_max: Duration,
}

impl Session {
    /// # Errors
    /// As [`store::connect`].
    pub(crate) async fn open(canonical: &Canonical) -> Result<Self, Error> {
        let client = store::connect(canonical).await?;
        Self::begin(client, "repeatable read read only").await
    }

    /// For a question with a condition: the transaction only reads from when on that is in its place.
    ///
    /// # Errors
    /// As [`store::connect`], and where the role that looks at conditions is missing.
    pub(crate) async fn open_for_condition(canonical: &Canonical) -> Result<Self, Error> {
        let client = store::connect(canonical).await?;
        condition::ensure(&client).await?;
        Self::begin(client, "repeatable read").await
    }

    async fn begin(client: Client, mode: &str) -> Result<Self, Error> {
        client.batch_execute(&format!("begin transaction isolation level {mode}")).await?;
        let row = client
            .query_one("select now(), (now() at time zone 'Europe/Paris')::date", &[])
            .await?;
        let (began_at, today) = (row.get(0), row.get(1));
        let condition_time_max = CONDITION_TIME_MAX;
        Ok(Self { client, began_at, today, condition_time_max })
    }

    pub(super) async fn columns(&self, schema: &str, name: &str) -> Result<Vec<Column>, Error> {
        let rows = self.client.query(COLUMNS, &[&schema, &name]).await?;
        let read = |row: &tokio_postgres::Row| Column {
            name: row.get(0),
            kind: Kind::of(row.get(2), row.get(3), row.get(4)),
            type_name: row.get(1),
            comment: row.get(5),
        };
        Ok(rows.iter().map(read).collect())
    }
}

/// A report as the catalogue has it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) label_fr: String,
    pub(crate) label_en: String,
    pub(crate) words_fr: String,
    pub(crate) words_en: String,
    pub(crate) is_dated: bool,
}

/// What can be exported.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// `report` or `canon`.
    pub(super) schema: &'static str,
    /// A table is told as a report is, by its name and comment.
    pub(crate) report: Report,
    pub(crate) columns: Vec<Column>,
}

impl Source {
    /// As a person names it.
    pub(crate) fn name(&self) -> &str {
        &self.report.name
    }

    pub(crate) fn is_report(&self) -> bool {
        self.schema == "report"
    }

    /// The view or table, as SQL names it; with `suffix`, the function beside it.
    pub(super) fn relation(&self, suffix: &str) -> String {
        let name = self.name();
        let name = name.strip_prefix("canon.").unwrap_or(name);
        format!("{}.{}", self.schema, quoted(&format!("{name}{suffix}")))
    }

    pub(super) fn has_member(&self) -> bool {
        self.columns.iter().any(|column| column.name == "member_id")
    }
}

/// All reports, in their order.
pub(crate) struct Catalogue(pub(crate) Vec<Report>);

impl Catalogue {
    /// Empty where there is no catalogue yet.
    pub(crate) async fn read(session: &Session) -> Result<Self, Error> {
        let is_there: bool = session
            .client
            .query_one("select to_regclass('report.catalogue') is not null", &[])
            .await?
            .get(0);
        if !is_there {
            return Ok(Self(Vec::new()));
        }
        let rows = session
            .client
            .query(
                "select name::text, label_fr::text, label_en::text, words_fr::text, words_en::text, is_dated
                 from report.catalogue order by ordinal, name",
                &[],
            )
            .await?;
        let text =
            |row: &tokio_postgres::Row, at| row.get::<_, Option<String>>(at).unwrap_or_default();
        let read = |row: &tokio_postgres::Row| Report {
            name: row.get(0),
            label_fr: text(row, 1),
            label_en: text(row, 2),
            words_fr: text(row, 3),
            words_en: text(row, 4),
            is_dated: row.get::<_, Option<bool>>(5).unwrap_or(false),
        };
        Ok(Self(rows.iter().map(read).collect()))
    }

    /// The report or table of that name; `canon.NAME` is always the table.
    pub(crate) async fn source(&self, session: &Session, name: &str) -> Result<Source, Error> {
        if let Some(report) = self.report(name.strip_prefix("report.").unwrap_or(name)) {
            return Self::of(session, report).await;
        }
        let tables = tables(session).await?;
        let bare = name.strip_prefix("canon.").unwrap_or(name);
        let Some((_, comment)) = tables.iter().find(|(table, _)| table == bare) else {
            let names = self.0.iter().map(|report| report.name.as_str());
            let hint =
                instead(name, names.clone().chain(tables.iter().map(|(name, _)| name.as_str())));
            let hint = if hint.starts_with("; there are") {
                let hint = instead("", names);
                format!(
                    "{hint}{}tables of canon: `plait reports` lists them all",
                    if hint.is_empty() { "; " } else { "; and " }
                )
            } else {
                hint
            };
            return Err(Error::UnknownSource { name: name.to_owned(), hint });
        };
        let words = comment.clone().unwrap_or_default();
        Ok(Source {
            schema: "canon",
            report: Report {
                name: name.to_owned(),
                label_fr: bare.to_owned(),
                label_en: bare.to_owned(),
                words_fr: words.clone(),
                words_en: words,
                is_dated: false,
            },
            columns: session.columns("canon", bare).await?,
        })
    }

    /// All reports with their columns.
    pub(crate) async fn sources(&self, session: &Session) -> Result<Vec<Source>, Error> {
        if self.0.is_empty() {
            return Err(Error::NoReports);
        }
        let mut sources = Vec::new();
        for report in &self.0 {
            sources.push(Self::of(session, report).await?);
        }
        Ok(sources)
    }

    pub(super) fn dated(&self) -> Vec<String> {
        let dated = self.0.iter().filter(|report| report.is_dated);
        dated.map(|report| report.name.clone()).collect()
    }

    /// The names of the reports about single investors.
    pub(super) async fn by_member(&self, session: &Session) -> Result<Vec<String>, Error> {
        let rows = session
            .client
            .query(
                "select c.relname::text from pg_attribute a join pg_class c on c.oid = a.attrelid
                 where c.relnamespace = to_regnamespace('report') and a.attname = 'member_id' and not a.attisdropped",
                &[],
            )
            .await?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let known = self.0.iter().filter(|report| names.contains(&report.name));
        Ok(known.map(|report| report.name.clone()).collect())
    }

    fn report(&self, name: &str) -> Option<&Report> {
        self.0.iter().find(|report| report.name == name)
    }

    async fn of(session: &Session, report: &Report) -> Result<Source, Error> {
        let columns = session.columns("report", &report.name).await?;
        if columns.is_empty() {
            return Err(Error::NoView { name: report.name.clone() });
        }
        Ok(Source { schema: "report", report: report.clone(), columns })
    }
}

/// The tables of `canon` with their comments.
pub(crate) async fn tables(session: &Session) -> Result<Vec<(String, Option<String>)>, Error> {
    let rows = session
        .client
        .query(
            "select relname::text, obj_description(oid, 'pg_class') from pg_class
             where relnamespace = to_regnamespace('canon') and relkind in ('r', 'p', 'v', 'm') order by relname",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
