//! A row that is written.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value as Json};

use crate::config::Secret;

/// Cells by the names of their fields. It says nothing of its values when it is printed.
#[derive(Default)]
pub(crate) struct Row {
    cells: Map<String, Json>,
    /// Field and plain text: it never becomes a cell.
    password: Option<(&'static str, Secret)>,
}

impl Row {
    pub(crate) fn set(&mut self, field: &str, value: Json) {
        self.cells.insert(field.to_owned(), value);
    }

    /// What the user logs in with; Directus alone makes the hash.
    pub(crate) fn set_password(&mut self, password: Secret) {
        self.password = Some(("password", password));
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.cells.keys().collect();
        f.debug_struct("Row").field("cells", &names).finish_non_exhaustive()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in &self.cells {
            map.serialize_entry(field, value)?;
        }
        if let Some((field, password)) = &self.password {
            map.serialize_entry(field, password.reveal())?;
        }
        map.end()
    }
}
