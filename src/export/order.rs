//! An order carried out: which reports, how, and where to.

use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use super::{
    Catalogue, Error, Format, Locale, Place, Question, Session,
    column::Form,
    copy::{Watch, copy},
    cover::Cover,
    csv::Csv,
    file::{Out, Whole, make_folder},
    json::Json,
    parquet::Parquet,
    query::Query,
    xlsx::Book,
};
use crate::config::What;

#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) format: Format,
    pub(crate) locale: Locale,
    pub(crate) question: Question,
    pub(crate) overwrite: bool,
    pub(crate) made_by: String,
    /// What the cover says of the investor, if the question has one.
    pub(crate) member_name: Option<String>,
}

/// A file that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The report, or several.
    pub(crate) name: String,
    pub(crate) row_count: u64,
    pub(crate) bytes: u64,
    /// `None`: standard output.
    pub(crate) path: Option<PathBuf>,
}

/// All that carrying out takes.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'m> {
    pub(crate) session: &'m Session,
    pub(crate) catalogue: &'m Catalogue,
    pub(crate) order: &'m Order,
    pub(crate) watch: Watch<'m>,
}

/// What several reports came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) written: Vec<Written>,
    /// Reports that cannot answer what was asked of all.
    pub(crate) left_out: Vec<String>,
}

impl Maker<'_> {
    /// One or several reports, to `place`: one file, or a folder where the format holds one report a file.
    ///
    /// # Errors
    /// All or nothing: where one report fails, no file is put in its place.
    pub(crate) async fn export(&self, what: &What, place: &Place) -> Result<Outcome, Error> {
        self.order.question.check(self.session)?;
        match what {
            What::One(name) => {
                let source = self.catalogue.source(self.session, name).await?;
                let query = self.order.question.of(self.session, self.catalogue, source).await?;
                let out = self.out(place, &file_stem(query.name()))?;
                let written = match self.order.format {
                    Format::Xlsx => self.workbook(std::slice::from_ref(&query), out).await?,
                    _ => self.file(&query, out).await?,
                };
                Ok(Outcome { written: vec![told(query.name(), written)?], left_out: Vec::new() })
            }
            What::Several(_) | What::All | What::InvestorPack => {
                let (queries, left_out) = self.queries(what).await?;
                let written = self.all(&queries, place).await?;
                Ok(Outcome { written, left_out })
            }
        }
    }

    /// The queries of several reports. Of all, those that cannot answer are left out, by name.
    pub(super) async fn queries(&self, what: &What) -> Result<(Vec<Query>, Vec<String>), Error> {
        let mut queries = Vec::new();
        let mut left_out = Vec::new();
        if let What::Several(names) = what {
            for name in names {
                let source = self.catalogue.source(self.session, name).await?;
                queries.push(self.order.question.of(self.session, self.catalogue, source).await?);
            }
            return Ok((queries, left_out));
        }
        let is_by_member = *what == What::InvestorPack || self.order.question.member.is_some();
        for source in self.catalogue.sources(self.session).await? {
            // Nobody shall take figures of now for those of another day.
            let is_apart = self.order.question.as_of.is_some() && !source.report.is_dated;
            if is_by_member && !source.has_member() {
                if *what != What::InvestorPack {
                    left_out.push(source.name().to_owned());
                }
            } else if is_apart {
                left_out.push(source.name().to_owned());
            } else {
                queries.push(self.order.question.of(self.session, self.catalogue, source).await?);
            }
        }
        match queries.is_empty() {
            false => Ok((queries, left_out)),
            true if is_by_member => {
                let by_member = self.catalogue.by_member(self.session).await?;
                Err(Error::NotByMember { name: String::from("what is asked for"), by_member })
            }
            true => {
                let dated = self.catalogue.dated();
                Err(Error::NotDated { name: String::from("what is asked for"), dated })
            }
        }
    }

    /// Several reports: one workbook, or a folder of files.
    pub(super) async fn all(
        &self,
        queries: &[Query],
        place: &Place,
    ) -> Result<Vec<Written>, Error> {
        if self.order.format == Format::Xlsx {
            let out = self.out(place, "reports")?;
            let written = self.workbook(queries, out).await?;
            let name = format!("{} reports", queries.len());
            return Ok(vec![told(&name, written)?]);
        }
        let Place::Path(folder) = place else {
            let several = "several files do not go to standard output: name a folder by -o";
            let source = std::io::Error::other(several);
            return Err(Error::Stdout { written: 0, source });
        };
        let is_new = make_folder(folder)?;
        let written = self.files(queries, folder).await;
        if is_new && written.is_err() {
            // Only if it is empty; what is in it, somebody else has put there.
            drop(std::fs::remove_dir(folder));
        }
        written
    }

    async fn files(&self, queries: &[Query], folder: &Path) -> Result<Vec<Written>, Error> {
        let path = |query: &Query| {
            folder.join(format!("{}.{}", file_stem(query.name()), self.order.format.name()))
        };
        for query in queries {
            // Before any work is done.
            drop(Out::file(&path(query), self.order.overwrite)?);
        }
        let mut whole = Vec::new();
        for query in queries {
            let out = Out::file(&path(query), self.order.overwrite)?;
            whole.push((query.name(), self.file(query, out).await?));
        }
        whole.into_iter().map(|(name, whole)| told(name, whole)).collect()
    }

    fn out(&self, place: &Place, stem: &str) -> Result<Out, Error> {
        match place {
            Place::Stdout => Ok(Out::stdout()),
            Place::Path(path) if path.is_dir() => {
                let name = format!("{stem}.{}", self.order.format.name());
                Out::file(&path.join(name), self.order.overwrite)
            }
            Place::Path(path) => Out::file(path, self.order.overwrite),
        }
    }

    /// A file of one report.
    async fn file(&self, query: &Query, out: Out) -> Result<(Whole, u64), Error> {
        let Self { session, watch, .. } = *self;
        self.watch.bar.set_message(query.name().to_owned());
        let locale = self.order.locale;
        let (out, row_count) = match self.order.format {
            Format::Csv => {
                let csv = Csv::new(query, out, locale)?;
                let (csv, count) = copy(session, query, Form::Csv(locale), csv, watch).await?;
                (csv.end()?, count)
            }
            Format::Json => {
                let json = Json::new(out);
                let (json, count) = copy(session, query, Form::Json, json, watch).await?;
                (json.end()?, count)
            }
            Format::Parquet => {
                let parquet = Parquet::new(query, out)?;
                let (parquet, count) = copy(session, query, Form::Typed, parquet, watch).await?;
                (blocking(move || parquet.end()).await?, count)
            }
            Format::Xlsx => {
                return self.workbook(std::slice::from_ref(query), out).await;
            }
        };
        Ok((blocking(move || out.end()).await?, row_count))
    }

    /// A workbook of several reports.
    pub(super) async fn workbook(
        &self,
        queries: &[Query],
        out: Out,
    ) -> Result<(Whole, u64), Error> {
        let mut book = Book::new(out.folder(), self.order.locale)?;
        let mut row_count = 0;
        for query in queries {
            self.watch.bar.set_message(query.name().to_owned());
            let sheet = book.sheet(query)?;
            let (sheet, count) = copy(self.session, query, Form::Cell, sheet, self.watch).await?;
            row_count += count;
            book = sheet.end()?;
        }
        self.watch.bar.set_message("workbook");
        let cover = self.cover();
        let whole = blocking(move || book.end(&cover, out)?.end()).await?;
        if self.watch.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        Ok((whole, row_count))
    }

    fn cover(&self) -> Cover {
        let Order { question, made_by, member_name, .. } = self.order;
        let mut filters = Vec::new();
        if let Some(member) = question.member {
            let name = member_name.as_deref().unwrap_or_default();
            filters.push(format!("investisseur / investor: {name} {member}"));
        }
        if let Some(condition) = &question.condition {
            filters.push(format!("condition: {condition}"));
        }
        if let Some(columns) = &question.columns {
            filters.push(format!("colonnes / columns: {}", columns.join(", ")));
        }
        Cover {
            as_of: question.as_of,
            known_at: question.known_at,
            made_at: self.session.began_at,
            made_by: made_by.clone(),
            filters,
        }
    }
}

/// Puts a whole file in its place, and tells of it.
fn told(name: &str, (whole, row_count): (Whole, u64)) -> Result<Written, Error> {
    let bytes = whole.written;
    Ok(Written { name: name.to_owned(), row_count, bytes, path: whole.put()? })
}

/// `canon.member` is the file `member`.
fn file_stem(name: &str) -> String {
    name.strip_prefix("canon.").unwrap_or(name).replace('/', "-")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|error| Error::BrokenOff(error.to_string()))?
}
