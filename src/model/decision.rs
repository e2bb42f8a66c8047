//! What people have decided, as `mirror.command.body` keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that a person has decided. Values are canonical, in the form of [`super::Value::to_json`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Decision {
    /// These cells become what the person says, on all sides.
    Set {
        entity: String,
        record: Uuid,
        /// By field.
        cells: BTreeMap<String, Wish>,
        /// Rows of `mirror.conflict` that this settles.
        #[serde(default)]
        settles: Vec<i64>,
    },
    /// A record that was deleted lives again, on all sides. `cells`: its values, where the canonical row is gone.
    Restore { entity: String, record: Uuid, cells: BTreeMap<String, serde_json::Value> },
    /// A record is deleted everywhere: the undoing of its creation.
    Delete { entity: String, record: Uuid },
    /// A yes to a row of `mirror.pending_delete`.
    ApproveDelete { entity: String, record: Uuid, side: String },
    /// A yes to what was shown of a row of `mirror.mass_change`: what its transactions up to `through` have changed.
    ApproveChanges { stop: i64, through: i64 },
    /// A side's record, which has a canonical record of its own, is that other one: a missed match.
    Join { entity: String, side: String, key: String, record: Uuid },
    /// A side's record was taken for a canonical record wrongly: it becomes one of its own.
    Split { entity: String, side: String, key: String },
}

/// A cell as a person wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// What was shown to the person; if canonical holds something else meanwhile, nothing is done.
    pub(crate) expected: serde_json::Value,
    pub(crate) value: serde_json::Value,
}
