//! What the type of a canonical column takes, known before the database is asked: a value beyond it is refused with all
//! others of its batch, where one that only the database knows to be wrong costs a search.

use bigdecimal::{BigDecimal, Zero as _};

use crate::model::{Refusal, RefusalKind, Value};

/// The bound of a column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// None that can be told from the type.
    Any,
    /// `varchar(n)`: characters, spaces at the end apart.
    Characters(usize),
    /// `numeric(p, s)`: digits before the point.
    Digits(u32),
    /// `smallint`, `integer`: the largest; the smallest is one below its negative.
    Integer(i64),
}

impl Limit {
    /// Of a column whose type is called `cast`, with its type modifier.
    pub(super) fn of(cast: &str, typmod: i32) -> Self {
        let length = usize::try_from(typmod - 4).ok();
        match (cast, length) {
            ("character varying", Some(length)) => Self::Characters(length),
            ("numeric", Some(modifier)) => {
                let (precision, scale) = ((modifier >> 16) & 0xffff, modifier & 0x7ff);
                // A scale may be below zero, or above the precision; then the database decides.
                let digits = precision.checked_sub(scale).and_then(|it| u32::try_from(it).ok());
                digits.map_or(Self::Any, Self::Digits)
            }
            ("smallint", _) => Self::Integer(i64::from(i16::MAX)),
            ("integer", _) => Self::Integer(i64::from(i32::MAX)),
            _ => Self::Any,
        }
    }

    /// Why the column cannot take `value`; `None`: nothing in its type speaks against it.
    pub(crate) fn misfit(self, value: &Value) -> Option<Refusal> {
        let reason = match (self, value) {
            (Self::Characters(length), Value::Text(text)) if text.len() > length => {
                let is_too_long = text.trim_end_matches(' ').chars().count() > length;
                is_too_long.then_some("is too long for the canonical column; shorten it")
            }
            (Self::Digits(digits), Value::Decimal(number)) => has_more_digits(number, digits)
                .then_some("is too large for the canonical column; correct the value"),
            (Self::Integer(max), Value::Int(number)) => (*number > max || *number < -max - 1)
                .then_some("is too large for the canonical column; correct the value"),
            _ => None,
        };
        let kind = RefusalKind::OutOfRange;
        reason.map(|reason| Refusal { kind, reason: reason.into(), raw: None })
    }
}

fn has_more_digits(number: &BigDecimal, digits: u32) -> bool {
    let (whole, scale) = number.as_bigint_and_scale();
    // As many digits have at least three bits each: nearly every number ends here.
    let digits_of_whole = i64::from(digits).saturating_add(scale);
    if i64::try_from(whole.bits()).is_ok_and(|bits| bits <= digits_of_whole.saturating_mul(3)) {
        return false;
    }
    !number.is_zero() && number.abs() >= BigDecimal::new(1.into(), -i64::from(digits))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    fn decimal(text: &str) -> Value {
        Value::Decimal(BigDecimal::from_str(text).unwrap())
    }

    #[test]
    fn limit_is_read_from_the_type_and_holds_what_it_says() {
        // As `atttypmod` has varchar(8), numeric(5,2) and numeric(2,-3).
        let numeric = ((5 << 16) | 2) + 4;
        assert_eq!(Limit::of("character varying", 12), Limit::Characters(8));
        assert_eq!(Limit::of("character varying", -1), Limit::Any);
        assert_eq!(Limit::of("numeric", numeric), Limit::Digits(3));
        assert_eq!(Limit::of("numeric", ((2 << 16) | (-3 & 0x7ff)) + 4), Limit::Any);
        assert_eq!(Limit::of("numeric", -1), Limit::Any);
        assert_eq!(Limit::of("text", -1), Limit::Any);
        let fits = |limit: Limit, value: &Value| limit.misfit(value).is_none();
        let text = |text: &str| Value::Text(text.into());
        for good in ["", "12345678", "éééééééé", "1234567   "] {
            assert!(fits(Limit::Characters(8), &text(good)), "{good}");
        }
        for bad in ["123456789", "ééééééééé", " 12345678"] {
            assert!(!fits(Limit::Characters(8), &text(bad)), "{bad}");
        }
        for good in ["0", "999.99", "-999.99", "0.00001", "1e2", "999"] {
            assert!(fits(Limit::Digits(3), &decimal(good)), "{good}");
        }
        for bad in ["1000", "-1000.00", "1e3", "123456789012345678901234567890"] {
            assert!(!fits(Limit::Digits(3), &decimal(bad)), "{bad}");
        }
        assert!(fits(Limit::Digits(0), &decimal("0.5")) && !fits(Limit::Digits(0), &decimal("1")));
        let small = Limit::of("smallint", -1);
        assert!(fits(small, &Value::Int(32_767)) && fits(small, &Value::Int(-32_768)));
        assert!(!fits(small, &Value::Int(32_768)) && !fits(small, &Value::Int(i64::MIN)));
        assert!(fits(small, &Value::Null) && fits(Limit::Characters(1), &Value::Bool(true)));
    }
}
