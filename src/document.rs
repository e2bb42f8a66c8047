//! A TOML document as a person wrote it: sections whose keys are known, and problems with the line they are
//! on. In: a text. Out: values, and all that is wrong with it at once. What the keys mean, its readers know:
//! [`crate::mapping`] and [`crate::config`].

use std::{cell::RefCell, fmt, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A name is near another one if it is at least this similar (Jaro-Winkler, 0 to 1).
const NEAR_MIN: f64 = 0.75;

/// Something in a document that has to be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// Where and what: `field `email` of `member`: unknown key `polcy``.
    pub what: String,
    /// The right name that is most like the wrong one.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a document, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// The document while it is read: it collects the problems.
pub(crate) struct Document<'t> {
    file: &'t str,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Document<'t> {
    pub(crate) fn new(text: &'t str, file: &'t str) -> Self {
        Self { file, text, problems: RefCell::default() }
    }

    /// The document's top table; `None` if it is not TOML at all, which is noted.
    pub(crate) fn parse(&self) -> Option<Spanned<DeTable<'t>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            self.problem(error.span().unwrap_or_default(), what, None);
        }
        errors.is_empty().then_some(table)
    }

    /// Notes that something is wrong at `span`.
    pub(crate) fn problem(&self, span: Range<usize>, what: impl Into<String>, nearest: Option<&str>) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line: self.line(span.start),
            what: what.into(),
            nearest: nearest.map(str::to_owned),
        });
    }

    /// The line of a byte of the text, from 1.
    pub(crate) fn line(&self, byte: usize) -> usize {
        1 + self.text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
    }

    /// `value`, if no problem was noted.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(Problems(problems)),
        }
    }
}

/// A table of the document, with what it is called in messages.
pub(crate) struct Section<'d, 't> {
    pub(crate) document: &'d Document<'t>,
    pub(crate) what: String,
    /// Where it begins.
    pub(crate) span: Range<usize>,
    table: &'d DeTable<'t>,
}

impl<'d, 't> Section<'d, 't> {
    /// A table whose keys are names that the person chose.
    pub(crate) fn open(
        document: &'d Document<'t>,
        what: impl Into<String>,
        span: Range<usize>,
        table: &'d DeTable<'t>,
    ) -> Self {
        Self { document, what: what.into(), span, table }
    }

    /// A table of which all keys are in `known`; notes those that are not.
    pub(crate) fn of_keys(
        document: &'d Document<'t>,
        what: impl Into<String>,
        span: Range<usize>,
        table: &'d DeTable<'t>,
        known: &[&str],
    ) -> Self {
        let section = Self::open(document, what, span, table);
        for (key, _) in section.entries() {
            if !known.contains(&key.value) {
                let nearest = nearest(key.value, known.iter().copied());
                section.problem(key.span, format!("unknown key `{}`", key.value), nearest);
            }
        }
        section
    }

    /// Notes a problem, with the section's name before it.
    pub(crate) fn problem(&self, span: Range<usize>, what: impl fmt::Display, nearest: Option<&str>) {
        let what =
            if self.what.is_empty() { what.to_string() } else { format!("{}: {what}", self.what) };
        self.document.problem(span, what, nearest);
    }

    /// Its entries, in the order of the text.
    pub(crate) fn entries(&self) -> Vec<(At<&'d str>, &'d Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| (At { value: key.get_ref().as_ref(), span: key.span() }, value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Option<At<&'d str>> {
        let value = self.get(key)?;
        self.text_of(key, value)
    }

    /// The text under `key`; a missing one is noted.
    pub(crate) fn needed_text(&self, key: &str) -> Option<At<&'d str>> {
        if self.get(key).is_none() {
            self.problem(self.span.clone(), format!("`{key}` is missing"), None);
        }
        self.text(key)
    }

    pub(crate) fn text_of(&self, key: &str, value: &'d Spanned<DeValue<'t>>) -> Option<At<&'d str>> {
        match value.get_ref().as_str() {
            Some("") => {
                self.problem(value.span(), format!("`{key}` is empty"), None);
                None
            }
            Some(text) => Some(At { value: text, span: value.span() }),
            None => self.mistyped(key, value, "a text in quotes"),
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn int(&self, key: &str, min: i64, max: i64) -> Option<At<i64>> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer().and_then(|integer| {
            let digits = integer.as_str().replace('_', "");
            i64::from_str_radix(&digits, integer.radix()).ok()
        });
        match number {
            Some(number) if (min..=max).contains(&number) => {
                Some(At { value: number, span: value.span() })
            }
            _ => self.mistyped(key, value, &format!("a whole number from {min} to {max}")),
        }
    }

    /// A number from `min` to `max`, with or without a point.
    pub(crate) fn float(&self, key: &str, min: f64, max: f64) -> Option<At<f64>> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => "",
        };
        match text.replace('_', "").parse() {
            Ok(number) if (min..=max).contains(&number) => {
                Some(At { value: number, span: value.span() })
            }
            _ => self.mistyped(key, value, &format!("a number from {min} to {max}")),
        }
    }

    /// The table under `key`, as a section of its own.
    pub(crate) fn table(&self, key: &str, what: impl Into<String>, known: &[&str]) -> Option<Self> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Self::of_keys(self.document, what, value.span(), table, known)),
            None => self.mistyped(key, value, "a table"),
        }
    }

    /// The table under `key`, whose keys are the person's own names.
    pub(crate) fn open_table(&self, key: &str, what: impl Into<String>) -> Option<Self> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Self::open(self.document, what, value.span(), table)),
            None => self.mistyped(key, value, "a table"),
        }
    }

    /// Notes that `key` is not what it has to be.
    pub(crate) fn mistyped<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        self.problem(value.span(), format!("`{key}` has to be {wanted}"), None);
        None
    }

    /// What `name` stands for among `choices`; another name is noted, with the nearest one.
    pub(crate) fn choice<T: Clone>(&self, what: &str, name: &At<&str>, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(known, _)| *known == name.value);
        if found.is_none() {
            let names = || choices.iter().map(|(known, _)| *known);
            let near = nearest(name.value, names());
            let mut what = format!("unknown {what} `{}`", name.value);
            if near.is_none() && choices.len() <= 12 {
                let known: Vec<_> = names().map(|name| format!("`{name}`")).collect();
                what = format!("{what}, known are {}", known.join(", "));
            }
            self.problem(name.span.clone(), what, near);
        }
        found.map(|(_, choice)| choice.clone())
    }
}

/// The name among `names` that is most like `name`; `None` if none is near.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = name.to_lowercase();
    names
        .map(|known| (strsim::jaro_winkler(&lower, &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= NEAR_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::{Document, Section, nearest};

    #[test]
    fn document_nearest_name_is_the_likely_one() {
        let keys = ["policy", "type", "airtable", "directus", "direction"];
        assert_eq!(nearest("polcy", keys.into_iter()), Some("policy"));
        assert_eq!(nearest("Directus", keys.into_iter()), Some("directus"));
        assert_eq!(nearest("zzz", keys.into_iter()), None);
    }

    #[test]
    fn document_broken_toml_tells_every_line() {
        let document = Document::new("a = 1\nb =\nc = \"x\na = 2\n", "f.toml");
        assert!(document.parse().is_none());
        let problems = document.finish(Some(())).unwrap_err();
        assert_eq!(problems.0.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn document_values_of_the_wrong_type_are_noted_with_their_line() {
        let document = Document::new("text = 1\nint = 0\nfloat = \"x\"\nempty = \"\"\n", "f.toml");
        let table = document.parse().unwrap();
        let keys = ["text", "int", "float", "empty"];
        let section = Section::of_keys(&document, "top", 0..0, table.get_ref(), &keys);
        assert_eq!(section.text("text"), None);
        assert_eq!(section.int("int", 1, 9), None);
        assert_eq!(section.float("float", 0.0, 1.0), None);
        assert_eq!(section.needed_text("empty"), None);
        assert_eq!(section.needed_text("other"), None);
        assert_eq!(
            document.finish(Some(())).unwrap_err().to_string(),
            "f.toml:1: top: `text` has to be a text in quotes\n\
             f.toml:1: top: `other` is missing\n\
             f.toml:2: top: `int` has to be a whole number from 1 to 9\n\
             f.toml:3: top: `float` has to be a number from 0 to 1\n\
             f.toml:4: top: `empty` is empty"
        );
    }
}
