//! Reading a TOML document that people write: every problem with file, line, what is wrong and the nearest right
//! name; all of them at once, not only the first. In: text. Out: values, and [`Problems`].

use std::{
    cell::RefCell,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As the person named the file.
    pub file: String,
    /// Counted from 1; 0: the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        if *line == 0 { write!(f, "{file}: {what}") } else { write!(f, "{file}:{line}: {what}") }
    }
}

/// All that is wrong with a document; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    pub(crate) fn one(file: &Path, what: String) -> Self {
        Self(vec![Problem { file: file.display().to_string(), line: 0, what }])
    }
}

/// Reads a file whole.
///
/// # Errors
/// It is not there, may not be read, or is not text.
pub(crate) fn read_file(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file; name another one, or go to the folder it is in".to_owned()
            }
            std::io::ErrorKind::InvalidData => "this file is not text in UTF-8".to_owned(),
            _ => format!("could not be read: {error}"),
        };
        Problems::one(path, what)
    })
}

/// A document being read, with the problems found so far.
pub(crate) struct Document<'t> {
    file: String,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Document<'t> {
    pub(crate) fn new(text: &'t str, file: &str) -> Self {
        Self { file: file.to_owned(), text, problems: RefCell::new(Vec::new()) }
    }

    /// The outermost table.
    ///
    /// # Errors
    /// The text is not TOML: all places where it is not.
    pub(crate) fn parse(&self) -> Result<Spanned<DeTable<'t>>, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(table);
        }
        let problems = errors.iter().map(|error| {
            let line = error.span().map_or(0, |span| self.line(&span));
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            Problem { file: self.file.clone(), line, what }
        });
        let mut problems: Vec<_> = problems.collect();
        problems.sort_by_key(|problem| problem.line);
        Err(Problems(problems))
    }

    /// The line on which `span` begins, from 1.
    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(crate) fn problem(&self, span: &Range<usize>, what: impl Into<String>) {
        let line = self.line(span);
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line,
            what: what.into(),
        });
    }

    /// What was read, unless there were problems: these in order of their lines.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems.dedup();
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }
}

/// A table of the document, and what it is called in messages.
pub(crate) struct Section<'a, 't> {
    pub(crate) document: &'a Document<'t>,
    table: &'a DeTable<'t>,
    pub(crate) span: Range<usize>,
    pub(crate) name: String,
}

/// A value with its place.
pub(crate) type Node<'a, 't> = &'a Spanned<DeValue<'t>>;

impl<'a, 't> Section<'a, 't> {
    pub(crate) fn root(document: &'a Document<'t>, table: &'a Spanned<DeTable<'t>>) -> Self {
        Self { document, table: table.get_ref(), span: table.span(), name: String::new() }
    }

    pub(crate) fn problem(&self, span: &Range<usize>, what: impl fmt::Display) {
        if self.name.is_empty() {
            self.document.problem(span, what.to_string());
        } else {
            self.document.problem(span, format!("{}: {what}", self.name));
        }
    }

    /// Complains of keys that are not among `known`.
    pub(crate) fn only(&self, known: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let hint = did_you_mean(name, known.iter().copied());
                self.problem(&key.span(), format!("unknown key `{name}`{hint}"));
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Node<'a, 't>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// The entries in the order of the document: name, its place, value.
    pub(crate) fn entries(
        &self,
    ) -> impl Iterator<Item = (String, Range<usize>, Node<'a, 't>)> + use<'a, 't> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), name.span(), value))
            .collect();
        // The parser keeps them by name.
        entries.sort_by_key(|(_, span, _)| span.start);
        entries.into_iter()
    }

    /// A table below this one.
    pub(crate) fn section(&self, key: &str) -> Option<Section<'a, 't>> {
        let node = self.get(key)?;
        let name =
            if self.name.is_empty() { format!("[{key}]") } else { format!("{} {key}", self.name) };
        self.table_at(node, key, name)
    }

    /// The table at `node`, under a name for messages.
    pub(crate) fn table_at(
        &self,
        node: Node<'a, 't>,
        key: &str,
        name: String,
    ) -> Option<Section<'a, 't>> {
        let Some(table) = node.get_ref().as_table() else {
            self.wrong(node, key, "a table");
            return None;
        };
        Some(Section { document: self.document, table, span: node.span(), name })
    }

    /// The sections `[[key]]`, in order; what is no table is noted.
    pub(crate) fn each(&self, key: &str) -> Vec<Section<'a, 't>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Some(list) = node.get_ref().as_array() else {
            self.problem(&node.span(), format!("`{key}` is written `[[{key}]]`, once for each"));
            return Vec::new();
        };
        list.iter().filter_map(|item| self.table_at(item, key, format!("[[{key}]]"))).collect()
    }

    fn wrong(&self, node: Node<'a, 't>, key: &str, wanted: &str) {
        let found = node.get_ref().type_str();
        self.problem(
            &node.span(),
            format!("`{key}` has to be {wanted}, not a value of type {found}"),
        );
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        let text = node.get_ref().as_str();
        if text.is_none() {
            self.wrong(node, key, "a text in quotes");
        }
        text.map(str::to_owned)
    }

    /// A text that has to be there.
    pub(crate) fn needed_text(&self, key: &str) -> Option<String> {
        if self.get(key).is_none() {
            self.problem(&self.span, format!("`{key}` is missing"));
        }
        self.text(key)
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let flag = node.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(node, key, "true or false");
        }
        flag
    }

    /// A whole number within `range`.
    pub(crate) fn whole(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let node = self.get(key)?;
        let number = node.get_ref().as_integer().and_then(|number| {
            u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
        });
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let wanted = format!("a whole number from {} to {}", range.start(), range.end());
                self.problem(&node.span(), format!("`{key}` has to be {wanted}"));
                None
            }
        }
    }

    /// One of `known`, by name.
    pub(crate) fn choice<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let span = self.get(key).map_or(self.span.clone(), Spanned::span);
            let names = known.iter().map(|(name, _)| *name);
            let mut hint = did_you_mean(&text, names.clone());
            if hint.is_empty() {
                let list: Vec<String> = names.map(|name| format!("`{name}`")).collect();
                hint = format!("; it is one of {}", list.join(", "));
            }
            self.problem(&span, format!("`{key}` cannot be `{text}`{hint}"));
        }
        found
    }

    /// A list of texts with their places.
    pub(crate) fn texts(&self, key: &str) -> Vec<(String, Range<usize>)> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Some(list) = node.get_ref().as_array() else {
            self.wrong(node, key, "a list of texts");
            return Vec::new();
        };
        let texts = list.iter().filter_map(|item| {
            let text = item.get_ref().as_str();
            if text.is_none() {
                self.wrong(item, key, "a list of texts");
            }
            Some((text?.to_owned(), item.span()))
        });
        texts.collect()
    }

    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        self.get(key).map_or(self.span.clone(), Spanned::span)
    }
}

/// `; did you mean `x`?`, or nothing when nothing is near.
pub(crate) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// `path` as seen from the folder of `document`.
pub(crate) fn beside(document: &Path, path: &str) -> PathBuf {
    document.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::{Document, Section, did_you_mean};

    #[test]
    fn document_nearest_name_is_the_likely_one() {
        let keys = ["policy", "type", "airtable", "directus", "direction"];
        assert_eq!(did_you_mean("polcy", keys.into_iter()), "; did you mean `policy`?");
        assert_eq!(did_you_mean("zzz", keys.into_iter()), "");
    }

    #[test]
    fn document_that_is_not_toml_tells_every_line() {
        let problems = Document::new("a = 1\nb =\nc = \"x\na = 2\n", "f.toml").parse().unwrap_err();
        assert_eq!(problems.0.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn document_entries_are_in_the_order_of_the_text() {
        let document = Document::new("b = 1\na = 2\n", "f.toml");
        let parsed = document.parse().unwrap();
        let names = Section::root(&document, &parsed).entries().map(|(name, ..)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn document_values_of_the_wrong_type_are_noted_with_their_line() {
        let document = Document::new("text = 1\nwhole = 0\nflag = 1\ntexts = [1]\n", "f.toml");
        let parsed = document.parse().unwrap();
        let root = Section::root(&document, &parsed);
        assert_eq!(root.text("text"), None);
        assert_eq!(root.whole("whole", 1..=9), None);
        assert_eq!(root.flag("flag"), None);
        assert_eq!(root.texts("texts"), []);
        assert_eq!(
            document.finish(()).unwrap_err().to_string(),
            "f.toml:1: `text` has to be a text in quotes, not a value of type integer\n\
             f.toml:2: `whole` has to be a whole number from 1 to 9\n\
             f.toml:3: `flag` has to be true or false, not a value of type integer\n\
             f.toml:4: `texts` has to be a list of texts, not a value of type integer"
        );
    }
}
