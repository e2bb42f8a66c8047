//! Options of selects: known by their ids, so that a new name for an option is told from another option. Airtable gives
//! an option a new name without a word of the records that hold it: their cells read otherwise all at once, though
//! nobody has edited them. Until the values may follow, a renamed option goes on by the name that canonical knows.
//! Pure.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Options by their ids, `sel…`.
pub(crate) type KnownOptions = BTreeMap<String, KnownOption>;

/// An option as it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownOption {
    /// What it is called in Airtable.
    pub(crate) name: String,
    /// What canonical calls it, where it has another name in Airtable now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<String>,
    /// Its records are about to be read by the new name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) follows: bool,
}

/// What became of a field's options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) options: KnownOptions,
    /// Options that have another name than when they were last looked at: from which to which.
    pub(crate) renamed: Vec<(String, String)>,
}

/// Holds the options that a field has `now`, as `(id, name)`, against what was known. `has_codes`: canonical knows them
/// by codes, so that a new name needs a line in the code table, and no value changes with it.
pub(crate) fn compare_options(
    before: &KnownOptions,
    now: &[(String, String)],
    has_codes: bool,
) -> Compared {
    let mut compared = Compared::default();
    for (id, name) in now {
        let mut option = KnownOption { name: name.clone(), was: None, follows: false };
        if let Some(known) = before.get(id) {
            if known.name != *name {
                compared.renamed.push((known.name.clone(), name.clone()));
            }
            let was = known.was.as_ref().unwrap_or(&known.name);
            if !has_codes && was != name {
                option.was = Some(was.clone());
                option.follows = known.follows;
            }
        }
        compared.options.insert(id.clone(), option);
    }
    // Another option has the old name now: by that name it is meant.
    let names: Vec<String> = now.iter().map(|(_, name)| name.clone()).collect();
    for option in compared.options.values_mut() {
        option.follows |= option.was.as_ref().is_some_and(|was| names.contains(was));
    }
    compared
}

/// How a field's options are called here and there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    /// By id, the name in Airtable.
    names: BTreeMap<String, String>,
    /// Airtable's name → canonical's, of options that go on by the latter.
    read: BTreeMap<String, String>,
    /// Canonical's name → Airtable's.
    written: BTreeMap<String, String>,
}

impl Labels {
    pub(crate) fn new(options: &KnownOptions) -> Self {
        let mut labels = Self::default();
        for (id, option) in options {
            labels.names.insert(id.clone(), option.name.clone());
            if let Some(was) = &option.was {
                labels.written.insert(was.clone(), option.name.clone());
                if !option.follows {
                    labels.read.insert(option.name.clone(), was.clone());
                }
            }
        }
        // An option that has this name is meant by it.
        labels.written.retain(|was, _| !labels.names.values().any(|name| name == was));
        labels
    }

    /// The cell with the names that canonical knows.
    pub(crate) fn canonical<'a>(&self, cell: &'a Json) -> Cow<'a, Json> {
        translated(&self.read, cell)
    }

    /// The cell with the names that Airtable knows.
    pub(crate) fn present<'a>(&self, cell: &'a Json) -> Cow<'a, Json> {
        translated(&self.written, cell)
    }

    /// Whether a cell that is to be written names an option by a name under which another one's values wait.
    pub(crate) fn is_taken(&self, cell: &Json) -> bool {
        match cell {
            Json::String(name) => self.read.contains_key(name),
            Json::Array(elements) => elements.iter().any(|element| self.is_taken(element)),
            _ => false,
        }
    }

    /// Whether a payload's cell has an option that is not known, or by another name.
    pub(crate) fn is_stale(&self, cell: &Json) -> bool {
        match cell {
            Json::Array(elements) => elements.iter().any(|element| self.is_stale(element)),
            Json::Object(choice) => match (choice.get("id"), choice.get("name")) {
                (Some(Json::String(id)), Some(Json::String(name))) => {
                    id.starts_with("sel") && self.names.get(id) != Some(name)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

fn translated<'a>(names: &BTreeMap<String, String>, cell: &'a Json) -> Cow<'a, Json> {
    if names.is_empty() {
        return Cow::Borrowed(cell);
    }
    let name = |text: &Json| text.as_str().and_then(|text| names.get(text)).cloned();
    match cell {
        Json::String(_) => match name(cell) {
            Some(other) => Cow::Owned(Json::String(other)),
            None => Cow::Borrowed(cell),
        },
        Json::Object(choice) => match choice.get("name").and_then(name) {
            Some(other) => {
                let mut choice = choice.clone();
                choice.insert("name".into(), Json::String(other));
                Cow::Owned(Json::Object(choice))
            }
            None => Cow::Borrowed(cell),
        },
        Json::Array(elements) => Cow::Owned(Json::Array(
            elements.iter().map(|element| translated(names, element).into_owned()).collect(),
        )),
        _ => Cow::Borrowed(cell),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect()
    }

    fn looked_at(before: &KnownOptions, options: &[(&str, &str)]) -> KnownOptions {
        compare_options(before, &now(options), false).options
    }

    #[test]
    fn option_with_a_new_name_goes_on_by_the_old_one_until_it_may_follow() {
        let first = looked_at(&KnownOptions::new(), &[("selA", "Pitch"), ("selB", "Closed")]);
        assert!(Labels::new(&first).read.is_empty());
        let compared =
            compare_options(&first, &now(&[("selA", "Pitched"), ("selB", "Closed")]), false);
        assert_eq!(compared.renamed, [("Pitch".to_owned(), "Pitched".to_owned())]);
        let labels = Labels::new(&compared.options);
        assert_eq!(*labels.canonical(&json!("Pitched")), json!("Pitch"));
        assert_eq!(*labels.canonical(&json!(["Closed", "Pitched"])), json!(["Closed", "Pitch"]));
        let choice = json!({ "id": "selA", "name": "Pitched" });
        assert_eq!(*labels.canonical(&choice), json!({ "id": "selA", "name": "Pitch" }));
        assert!(!labels.is_stale(&choice));
        assert_eq!(*labels.present(&json!("Pitch")), json!("Pitched"));
        assert!(labels.is_taken(&json!("Pitched")) && !labels.is_taken(&json!("Pitch")));
        // Once more, and back again.
        let twice = looked_at(&compared.options, &[("selA", "Seen"), ("selB", "Closed")]);
        assert_eq!(twice["selA"].was.as_deref(), Some("Pitch"));
        assert_eq!(looked_at(&twice, &[("selA", "Pitch"), ("selB", "Closed")]), first);
        // Its values follow: they are read by the new name, and written by it all the while.
        let mut follows = twice;
        follows.get_mut("selA").unwrap().follows = true;
        let labels = Labels::new(&follows);
        assert_eq!(*labels.canonical(&json!("Seen")), json!("Seen"));
        assert_eq!(*labels.present(&json!("Pitch")), json!("Seen"));
    }

    #[test]
    fn option_that_is_new_or_gone_is_no_rename() {
        let first = looked_at(&KnownOptions::new(), &[("selA", "Pitch")]);
        assert!(Labels::new(&first).is_stale(&json!([{ "id": "selB", "name": "Pitched" }])));
        let compared = compare_options(&first, &now(&[("selB", "Pitched")]), false);
        assert_eq!(compared.renamed, []);
        assert_eq!(*Labels::new(&compared.options).canonical(&json!("Pitched")), json!("Pitched"));
        // With a code table canonical knows no names.
        let coded = compare_options(&first, &now(&[("selA", "Pitched")]), true);
        assert_eq!(coded.renamed.len(), 1);
        assert_eq!(coded.options["selA"].was, None);
        // The old name is another option's now: it cannot stand for two.
        let other = looked_at(&first, &[("selA", "Pitched"), ("selB", "Pitch")]);
        let labels = Labels::new(&other);
        assert_eq!(*labels.canonical(&json!("Pitched")), json!("Pitched"));
        assert_eq!(*labels.present(&json!("Pitch")), json!("Pitch"));
    }
}
