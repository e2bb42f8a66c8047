//! How much memory observations take, estimated: what bounds them on their way is bytes as well as rows.

use super::{Cell, Change, Delivery, Observation, Value};

impl Delivery {
    /// An estimate of the memory that it takes, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Transaction { observations, .. } | Self::Part { observations, .. } => {
                observations.iter().map(Observation::held_bytes).sum()
            }
            Self::Abandoned { .. }
            | Self::Progress { .. }
            | Self::Decided { .. }
            | Self::WholeRead { .. } => 0,
        }
    }
}

impl Observation {
    /// An estimate of the memory that it takes, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        let change = match &self.change {
            Change::Present { cells, .. } => {
                size_of_val(&cells[..])
                    + cells.iter().map(|(_, cell)| cell.heap_bytes()).sum::<usize>()
            }
            Change::Element(element) => {
                element.row.0.len() + element.element.as_ref().map_or(0, Cell::heap_bytes)
            }
            Change::Renamed { to } => to.0.len(),
            Change::Absent | Change::Outside { .. } | Change::Truncated => 0,
        };
        size_of::<Self>() + self.key.0.len() + change
    }
}

impl Cell {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.heap_bytes(),
            Self::Link(key) => key.as_ref().map_or(0, |key| key.0.len()),
            Self::Links(keys) => keys.iter().map(|key| size_of_val(key) + key.0.len()).sum(),
            Self::Refused(refusal) => refusal.reason.len(),
        }
    }
}

impl Value {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // The number without its point, in binary.
            Self::Decimal(number) => {
                usize::try_from(number.as_bigint_and_scale().0.bits() / 8).unwrap_or(usize::MAX)
            }
            Self::Json(json) => json_bytes(json),
            Self::List(texts) | Self::Set(texts) => {
                texts.iter().map(|text| size_of_val(text) + text.len()).sum()
            }
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::Timestamp(_)
            | Self::Uuid(_) => 0,
        }
    }
}

/// An estimate of the memory that a JSON value takes beside itself, bytes.
fn json_bytes(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => {
            items.iter().map(|item| size_of_val(item) + json_bytes(item)).sum()
        }
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(name, item)| {
                size_of_val(name) + name.len() + size_of_val(item) + json_bytes(item)
            })
            .sum(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{EntityNo, FieldNo};

    fn of(value: Value) -> usize {
        let cells = vec![(FieldNo(0), Cell::Value(value))];
        let change = Change::Present { cells, claimed_id: None, made_at: None };
        Observation { entity: EntityNo(0), key: "".into(), change }.held_bytes()
    }

    #[test]
    fn size_follows_what_a_cell_holds() {
        let empty = of(Value::Null);
        let text = "x".repeat(100_000);
        for value in [
            Value::Text(text.clone()),
            Value::Json(json!({ "a": [1, { "b": text.clone() }] })),
            Value::Set(vec![text]),
        ] {
            let size = of(value);
            assert!((100_000..101_000).contains(&(size - empty)), "{size}");
        }
    }
}
