//! A column's type → the SQL by which its values leave the database in each form. Pure.

use super::Locale;

/// The zone in which people read times.
pub(super) const PARIS: &str = "Europe/Paris";

/// What a column holds, as far as the forms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Boolean,
    /// With its width in bytes: 2, 4 or 8.
    Integer(u8),
    /// With precision and scale, where the column has them.
    Numeric(Option<(u32, u32)>),
    /// With its width in bytes: 4 or 8.
    Float(u8),
    Date,
    /// With a time zone.
    Instant,
    /// A time on some clock, without a zone.
    Moment,
    Uuid,
    Json,
    Texts,
    /// An array of anything else.
    Array,
    /// Anything else, by its text.
    Other,
}

/// A column of a report or table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// As Postgres writes it: `numeric(18,2)`.
    pub(crate) type_name: String,
    pub(crate) comment: Option<String>,
}

/// How a value is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Csv(Locale),
    Json,
    /// For a cell of a workbook: times of Paris.
    Cell,
    /// For a typed file: times of UTC.
    Typed,
}

impl Kind {
    /// `name` and `category` of the type in `pg_type` (of a domain, what it is made of), and its modifier.
    pub(super) fn of(name: &str, category: &str, modifier: i32) -> Self {
        match name {
            "bool" => Self::Boolean,
            "int2" => Self::Integer(2),
            "int4" => Self::Integer(4),
            "int8" => Self::Integer(8),
            "numeric" => Self::Numeric(precision_and_scale(modifier)),
            "float4" => Self::Float(4),
            "float8" => Self::Float(8),
            "date" => Self::Date,
            "timestamptz" => Self::Instant,
            "timestamp" => Self::Moment,
            "uuid" => Self::Uuid,
            "json" | "jsonb" => Self::Json,
            "_text" | "_varchar" | "_bpchar" | "_name" => Self::Texts,
            _ if category == "A" => Self::Array,
            _ if category == "S" || category == "E" => Self::Text,
            _ => Self::Other,
        }
    }

    /// The expression for a column of this kind, named by `name` as SQL quotes it.
    pub(super) fn expression(self, name: &str, form: Form) -> String {
        match form {
            Form::Csv(Locale::French) if matches!(self, Self::Instant | Self::Texts) => {
                self.cell(name)
            }
            Form::Csv(_) => match self {
                // Without the blanks that fill up a text of fixed length.
                Self::Text => format!("{name}::text"),
                Self::Texts | Self::Array => format!("to_json({name})::text"),
                _ => name.to_owned(),
            },
            // What was stored as `json` may have line breaks in it; here a row is a line.
            Form::Json if self == Self::Json => format!("{name}::jsonb"),
            Form::Json => name.to_owned(),
            Form::Cell => self.cell(name),
            Form::Typed => match self {
                Self::Instant => format!("({name} at time zone 'UTC')::text"),
                Self::Texts | Self::Array => format!("to_json({name})::text"),
                _ => format!("{name}::text"),
            },
        }
    }

    fn cell(self, name: &str) -> String {
        match self {
            Self::Instant => format!("({name} at time zone '{PARIS}')::text"),
            Self::Texts => format!("array_to_string({name}, ', ')"),
            Self::Array => format!("to_json({name})::text"),
            _ => format!("{name}::text"),
        }
    }
}

/// Postgres keeps both in one number; a scale may be negative, or larger than the precision.
fn precision_and_scale(modifier: i32) -> Option<(u32, u32)> {
    let packed = u32::try_from(modifier).ok()?.checked_sub(4)?;
    let precision = packed >> 16;
    let scale = i32::try_from(packed & 0x7ff).ok()?;
    // Eleven bits with a sign.
    let scale = if scale >= 1024 { scale - 2048 } else { scale };
    match u32::try_from(scale) {
        Ok(scale) => Some((precision.max(scale), scale)),
        Err(_) => Some((precision + scale.unsigned_abs(), 0)),
    }
}

/// A name as SQL wants it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::{Kind, precision_and_scale};

    #[test]
    fn export_numeric_modifiers_are_unpacked() {
        assert_eq!(precision_and_scale(-1), None);
        assert_eq!(precision_and_scale((18 << 16 | 2) + 4), Some((18, 2)));
        assert_eq!(precision_and_scale((38 << 16 | 0xa) + 4), Some((38, 10)));
        // numeric(3, -2) and numeric(2, 5)
        assert_eq!(precision_and_scale((3 << 16 | 0x7fe) + 4), Some((5, 0)));
        assert_eq!(precision_and_scale((2 << 16 | 5) + 4), Some((5, 5)));
        assert_eq!(Kind::of("varchar", "S", 24), Kind::Text);
        assert_eq!(Kind::of("_int4", "A", -1), Kind::Array);
    }
}
