//! Values in Postgres's binary format, where it is cheaper than text for both ends. As a parameter: one column of
//! many records, an array of the column's own type where all values are of that type, else of their texts. As
//! read: columns whose type is just what their field holds.

use std::{error::Error, sync::Arc};

use bytes::{BufMut as _, BytesMut};
use chrono::{NaiveDate, TimeDelta};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::{mapping::FieldKind, merge::RecordState, model::Value};

/// µs and days from Unix's epoch to Postgres's, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH: Option<NaiveDate> = NaiveDate::from_ymd_opt(2000, 1, 1);

/// Whether a field's column of type `cast` is read as it is; other columns are cast to text.
pub(super) fn is_read_as_it_is(kind: &FieldKind, cast: &str) -> bool {
    matches!(
        (kind, cast),
        (FieldKind::Uuid | FieldKind::Link { .. }, "uuid")
            | (FieldKind::DateTime { .. }, "timestamp with time zone")
            | (FieldKind::Date, "date")
            | (FieldKind::Boolean, "boolean")
    )
}

/// A value as [`is_read_as_it_is`] has it.
pub(super) struct AsItIs(pub(super) Value);

impl<'a> FromSql<'a> for AsItIs {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let infinite =
            |is_after: bool| Value::Text(if is_after { "infinity" } else { "-infinity" }.into());
        Ok(Self(match *ty {
            Type::UUID => Value::Uuid(Uuid::from_sql(ty, raw)?),
            Type::BOOL => Value::Bool(bool::from_sql(ty, raw)?),
            Type::TIMESTAMPTZ => match i64::from_be_bytes(raw.try_into()?) {
                micros @ (i64::MIN | i64::MAX) => infinite(micros > 0),
                micros => Value::Timestamp(micros.saturating_add(EPOCH_MICROS)),
            },
            _ => match i32::from_be_bytes(raw.try_into()?) {
                days @ (i32::MIN | i32::MAX) => infinite(days > 0),
                days => {
                    let date = EPOCH
                        .and_then(|epoch| epoch.checked_add_signed(TimeDelta::days(days.into())));
                    Value::Date(date.ok_or("a date outside of all calendars")?)
                }
            },
        }))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::UUID, Type::BOOL, Type::TIMESTAMPTZ, Type::DATE].contains(ty)
    }
}

/// The values at `at` of these records.
#[derive(Debug)]
pub(super) struct Column {
    states: Arc<[Arc<RecordState>]>,
    at: usize,
}

impl Column {
    pub(super) fn new(states: &Arc<[Arc<RecordState>]>, at: usize) -> Self {
        Self { states: Arc::clone(states), at }
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.states.iter().map(|state| &state.canon[self.at])
    }

    /// The type of the array's elements, for a column of type `cast` (as `format_type` prints it): that type or
    /// `text`.
    pub(super) fn element_type(&self, cast: &str) -> &'static str {
        let (name, fits): (_, fn(&Value) -> bool) = match cast {
            "uuid" => ("uuid", |value| matches!(value, Value::Uuid(_))),
            "boolean" => ("boolean", |value| matches!(value, Value::Bool(_))),
            "bigint" => ("bigint", |value| matches!(value, Value::Int(_))),
            "date" => ("date", |value| matches!(value, Value::Date(_))),
            "timestamp with time zone" => {
                ("timestamptz", |value| matches!(value, Value::Timestamp(_)))
            }
            _ => return "text",
        };
        if self.values().all(|value| value.is_null() || fits(value)) { name } else { "text" }
    }
}

impl ToSql for Column {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let cells: Vec<Cell<'_>> = self.values().map(Cell).collect();
        cells.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        Vec::<Cell<'_>>::accepts(ty)
    }

    to_sql_checked!();
}

/// An element, in the binary format.
#[derive(Debug)]
struct Cell<'a>(&'a Value);

impl ToSql for Cell<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (ty, self.0) {
            (_, Value::Null) => return Ok(IsNull::Yes),
            (&Type::UUID, Value::Uuid(id)) => out.put_slice(id.as_bytes()),
            (&Type::BOOL, Value::Bool(flag)) => out.put_u8(u8::from(*flag)),
            (&Type::INT8, Value::Int(number)) => out.put_i64(*number),
            (&Type::TIMESTAMPTZ, Value::Timestamp(micros)) => {
                out.put_i64(micros.saturating_sub(EPOCH_MICROS));
            }
            (&Type::DATE, Value::Date(date)) => {
                let days = date.signed_duration_since(EPOCH.unwrap_or_default()).num_days();
                out.put_i32(i32::try_from(days)?);
            }
            (&Type::TEXT, value) => out.put_slice(value.to_sql().unwrap_or_default().as_bytes()),
            (ty, _) => return Err(format!("a value that is no {ty}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::UUID, Type::BOOL, Type::INT8, Type::TIMESTAMPTZ, Type::DATE, Type::TEXT].contains(ty)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: Vec<Value>) -> Column {
        let state = |value| {
            Arc::new(RecordState {
                exists: true,
                is_deleted: false,
                canon: vec![value],
                shadow: Vec::new(),
                absent: Vec::new(),
                outside: Vec::new(),
                operations: Vec::new(),
                doomed: Vec::new(),
                other_id: None,
                past: None,
            })
        };
        Column::new(&values.into_iter().map(state).collect(), 0)
    }

    #[test]
    fn a_column_is_sent_in_its_own_type_only_if_all_its_values_are_of_it() {
        let at = Value::Timestamp(0);
        let typed = column(vec![at.clone(), Value::Null]);
        assert_eq!(typed.element_type("timestamp with time zone"), "timestamptz");
        let mixed = column(vec![at.clone(), Value::Text("now".into())]);
        assert_eq!(mixed.element_type("timestamp with time zone"), "text");
        assert_eq!(typed.element_type("timestamp without time zone"), "text");
        assert_eq!(column(vec![Value::Int(1)]).element_type("integer"), "text");
    }

    #[test]
    fn what_is_written_is_read() {
        let date = |days| Value::Date(EPOCH.unwrap() + TimeDelta::days(days));
        for (ty, value) in [
            (Type::UUID, Value::Uuid(Uuid::from_u128(7))),
            (Type::BOOL, Value::Bool(true)),
            (Type::TIMESTAMPTZ, Value::Timestamp(-1)),
            (Type::TIMESTAMPTZ, Value::Timestamp(1_700_000_000_123_456)),
            (Type::DATE, date(-400_000)),
            (Type::DATE, date(9_000)),
        ] {
            let mut out = BytesMut::new();
            Cell(&value).to_sql(&ty, &mut out).unwrap();
            assert_eq!(AsItIs::from_sql(&ty, &out).unwrap().0, value);
        }
        let endless = AsItIs::from_sql(&Type::DATE, &i32::MAX.to_be_bytes()).unwrap();
        assert_eq!(endless.0, Value::Text("infinity".into()));
    }

    #[test]
    fn epochs_are_postgres_s() {
        let encoded = |value: &Value, ty| {
            let mut out = BytesMut::new();
            Cell(value).to_sql(&ty, &mut out).unwrap();
            out.to_vec()
        };
        let date = Value::Date(NaiveDate::from_ymd_opt(1999, 12, 31).unwrap());
        assert_eq!(encoded(&date, Type::DATE), (-1_i32).to_be_bytes());
        let at = Value::Timestamp(946_684_800_000_001);
        assert_eq!(encoded(&at, Type::TIMESTAMPTZ), 1_i64.to_be_bytes());
    }
}
