//! What the journal knows of a record's earlier values: by it, and by it alone, a value that a restored backup has
//! brought back is told from a value that somebody has entered.

use std::collections::{HashMap, HashSet};

use crate::model::{FieldNo, Value};

/// A record's past, as far as a recovery has to know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// The values that canonical or a side held, by field.
    pub(crate) earlier: HashMap<FieldNo, HashSet<Value>>,
    /// Cells whose past was erased with a person's data: whatever comes back in them is of that past.
    pub(crate) erased: HashSet<FieldNo>,
    /// The latest entry of the journal is that it was deleted.
    pub(crate) was_deleted: bool,
    /// What it held then.
    pub(crate) last: Vec<(FieldNo, Value)>,
}

impl Past {
    /// Whether `value` is known to have been in this cell before, and was replaced since.
    pub(crate) fn knows(&self, field: FieldNo, value: &Value) -> bool {
        self.erased.contains(&field)
            || self.earlier.get(&field).is_some_and(|values| values.contains(value))
    }
}
