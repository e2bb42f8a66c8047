//! What is asked of a report → the one query that answers it. Pure; what a condition may do, [`super::condition`] says.

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::{
    Catalogue, Error, Session, Source,
    column::{Column, Form, quoted},
    instead, said,
};

/// SQLSTATE of a statement that took longer than it may.
const QUERY_CANCELED: &str = "57014";

/// What is asked of each report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Figures as of this business date; `None`: now.
    pub(crate) as_of: Option<NaiveDate>,
    /// From what was known then; `None`: now.
    pub(crate) known_at: Option<DateTime<Utc>>,
    pub(crate) member: Option<Uuid>,
    /// An SQL condition on the columns.
    pub(crate) condition: Option<String>,
    /// Which columns, in which order; `None`: all.
    pub(crate) columns: Option<Vec<String>>,
}

/// A question to one report, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) source: Source,
    /// Those that are wanted, in order.
    pub(crate) columns: Vec<Column>,
    /// All behind `from`.
    from: String,
    condition: Option<String>,
}

impl Question {
    /// What holds whichever report is asked.
    ///
    /// # Errors
    /// A date that is to come.
    pub(crate) fn check(&self, session: &Session) -> Result<(), Error> {
        if let Some(given) = self.as_of.filter(|day| *day > session.today) {
            return Err(Error::FutureDate { given, today: session.today });
        }
        match self.known_at.filter(|at| *at > session.began_at) {
            Some(given) => Err(Error::FutureInstant { given }),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The report does not have what is asked for, or Postgres does not understand the condition.
    pub(crate) async fn of(
        &self,
        session: &Session,
        catalogue: &Catalogue,
        source: Source,
    ) -> Result<Query, Error> {
        let name = || source.name().to_owned();
        if self.as_of.is_some() && !source.report.is_dated {
            return Err(Error::NotDated { name: name(), dated: catalogue.dated() });
        }
        if self.member.is_some() && !source.has_member() {
            let by_member = catalogue.by_member(session).await?;
            return Err(Error::NotByMember { name: name(), by_member });
        }
        let mut query = self.plan(source)?;
        query.restrict(session).await?;
        Ok(query)
    }

    /// `source` can answer it. Without the condition, which [`Query::restrict`] adds.
    pub(super) fn plan(&self, source: Source) -> Result<Query, Error> {
        let columns = match &self.columns {
            None => source.columns.clone(),
            Some(names) => chosen(&source, names)?,
        };
        let mut from = match self.as_of {
            None => source.relation(""),
            Some(day) => {
                let known = self.known_at.map_or_else(
                    || String::from("null"),
                    |at| format!("timestamptz '{}'", at.to_rfc3339()),
                );
                // What a function returns has no scales: those are the view's.
                let cells: Vec<String> = source
                    .columns
                    .iter()
                    .map(|column| {
                        let name = quoted(&column.name);
                        format!("d.{name}::{} as {name}", column.type_name)
                    })
                    .collect();
                let cells = cells.join(", ");
                format!("(select {cells} from {}(date '{day}', {known}) d)", source.relation("_at"))
            }
        };
        from.push_str(" r");
        if let Some(member) = self.member {
            from.push_str(&format!(" where r.member_id = uuid '{member}'"));
        }
        Ok(Query { source, columns, from, condition: self.condition.clone() })
    }
}

fn chosen(source: &Source, names: &[String]) -> Result<Vec<Column>, Error> {
    let mut chosen: Vec<Column> = Vec::new();
    if names.is_empty() {
        return Err(Error::NoColumn);
    }
    for name in names {
        let Some(column) = source.columns.iter().find(|column| column.name == *name) else {
            return Err(Error::UnknownColumn {
                source_name: source.name().to_owned(),
                name: name.clone(),
                hint: instead(name, source.columns.iter().map(|column| column.name.as_str())),
            });
        };
        if chosen.contains(column) {
            return Err(Error::ColumnTwice { name: name.clone() });
        }
        chosen.push(column.clone());
    }
    Ok(chosen)
}

impl Query {
    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    /// `select …`, each column as `form` wants it.
    pub(super) fn sql(&self, form: Form) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let name = quoted(&column.name);
                format!("{} as {name}", column.kind.expression(&format!("r.{name}"), form))
            })
            .collect();
        let rows = format!("select {} from {}", columns.join(", "), self.from);
        if form == Form::Json {
            format!("select row_to_json(j)::text from ({rows}) j")
        } else {
            rows
        }
    }

    /// The ids of all members in it.
    pub(super) fn members_sql(&self) -> String {
        format!("select r.member_id from {}", self.from)
    }

    pub(super) fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    /// Its rows, as what comes behind `from`; they are called `r`.
    pub(super) fn as_rows(&self) -> String {
        format!("(select * from {}) r", self.from)
    }

    /// Only the rows for which `test` is true, an expression over `r`.
    pub(super) fn filter(&mut self, test: &str) {
        self.from = format!("{} where {test}", self.as_rows());
    }

    /// What an error of this query means to who asked it.
    pub(super) fn blame(&self, error: &tokio_postgres::Error) -> Error {
        let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        if self.condition.is_some() && code == QUERY_CANCELED {
            return Error::ConditionTooLong;
        }
        // What cannot be done there, several rows for one, a value that does not fit, what reads only, and what cannot be
        // understood, or is not allowed.
        let is_about_it =
            ["0A", "21", "22", "25", "42"].iter().any(|class| code.starts_with(class));
        if self.condition.is_none() || !is_about_it {
            return Error::Database(said(error));
        }
        let unknown = error.as_db_error().and_then(|db| unknown_column(db.message()));
        let message = match (&unknown, error.as_db_error()) {
            // Postgres's own hint would name it by our alias.
            (Some(_), Some(db)) => db.message().to_owned(),
            _ => said(error),
        };
        let names = self.source.columns.iter().map(|column| column.name.as_str());
        let all = || {
            format!(
                "; {} has the columns {}",
                self.name(),
                names.clone().collect::<Vec<_>>().join(", ")
            )
        };
        let hint = match unknown {
            Some(unknown) => {
                let nearest = crate::document::did_you_mean(&unknown, names.clone());
                format!("{nearest}{}", all())
            }
            None if code.starts_with("42") => all(),
            None => String::new(),
        };
        Error::Condition { message, hint }
    }
}

/// `column "amuont" does not exist` → `amuont`.
fn unknown_column(message: &str) -> Option<String> {
    let name = message.strip_prefix("column ")?.strip_suffix(" does not exist")?;
    let name = name.trim_matches('"');
    Some(name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Question, unknown_column};
    use crate::export::{
        Report, Source,
        column::{Column, Form, Kind},
    };

    fn source() -> Source {
        let column = |name: &str, kind, type_name: &str| Column {
            name: name.into(),
            kind,
            type_name: type_name.into(),
            comment: None,
        };
        let report = Report {
            name: "holding".into(),
            label_fr: String::new(),
            label_en: String::new(),
            words_fr: String::new(),
            words_en: String::new(),
            is_dated: true,
        };
        let columns = vec![
            column("member_id", Kind::Uuid, "uuid"),
            column("amount", Kind::Numeric(None), "numeric(18,2)"),
        ];
        Source { schema: "report", report, columns }
    }

    #[test]
    fn export_query_has_what_was_asked() {
        let question = Question {
            as_of: "2026-03-01".parse().ok(),
            known_at: "2026-04-01T00:00:00Z".parse().ok(),
            member: Some(uuid::Uuid::nil()),
            condition: Some("amount > 5 -- much".into()),
            columns: Some(vec!["amount".into()]),
        };
        let mut query = question.plan(source()).unwrap();
        query.filter("holds(r)");
        assert_eq!(
            query.sql(Form::Typed),
            "select r.\"amount\"::text as \"amount\" from (select * from (select d.\"member_id\"::uuid as \"member_id\", \
             d.\"amount\"::numeric(18,2) as \"amount\" from report.\"holding_at\"(date '2026-03-01', \
             timestamptz '2026-04-01T00:00:00+00:00') d) r where r.member_id = uuid '00000000-0000-0000-0000-000000000000') r \
             where holds(r)"
        );
        let plain = Question::default().plan(source()).unwrap().sql(Form::Json);
        assert_eq!(
            plain,
            "select row_to_json(j)::text from (select r.\"member_id\" as \"member_id\", r.\"amount\" as \"amount\" \
             from report.\"holding\" r) j"
        );
    }

    #[test]
    fn export_unknown_and_repeated_columns_are_refused() {
        let ask = |names: &[&str]| {
            let columns = Some(names.iter().map(ToString::to_string).collect());
            Question { columns, ..Question::default() }.plan(source()).unwrap_err().to_string()
        };
        assert_eq!(ask(&["amuont"]), "holding has no column `amuont`; did you mean `amount`?");
        assert_eq!(ask(&["zzz"]), "holding has no column `zzz`; there are member_id, amount");
        assert_eq!(ask(&["amount", "amount"]), "the column `amount` is asked for twice");
        assert_eq!(unknown_column("column r.amuont does not exist").as_deref(), Some("amuont"));
        assert_eq!(unknown_column("column \"x\" does not exist").as_deref(), Some("x"));
        assert_eq!(unknown_column("syntax error"), None);
    }
}
