//! Numbers: exact decimals and whole numbers, from text and from the doubles that JSON carries.

use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive as _, Zero as _};

use super::flaw::Flaw;

/// Postgres's `numeric`: digits before and behind the point.
const INTEGER_DIGIT_COUNT_MAX: i64 = 131_072;
const FRACTION_DIGIT_COUNT_MAX: i64 = 16_383;

/// Whole numbers up to here are exact in a double, and so in JSON as JavaScript reads it.
const EXACT_IN_DOUBLE_MAX: i64 = 1 << 53;

/// A number as a side wrote it.
pub(super) enum Raw {
    Int(i64),
    /// Digits: what is there is meant.
    Exact(BigDecimal),
    /// A double: its last digits may be noise.
    Double(BigDecimal),
}

/// Reads the text of a number, with or without exponent.
pub(super) fn from_text(text: &str) -> Result<Raw, Flaw> {
    let text = text.trim();
    if let Some(raw) = short(text) {
        return Ok(raw);
    }
    if matches!(text.trim_start_matches(['-', '+']), "NaN" | "Infinity" | "inf" | "nan") {
        return Err(not_finite());
    }
    let plain =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(plain) || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number());
    }
    let length_max = usize::try_from(INTEGER_DIGIT_COUNT_MAX + FRACTION_DIGIT_COUNT_MAX + 64);
    if length_max.is_ok_and(|max| text.len() > max) {
        return Err(too_large());
    }
    let number: BigDecimal = text.parse().map_err(|_| not_a_number())?;
    within_numeric(number).map(Raw::Exact)
}

/// The common case without big arithmetic: up to 18 digits, at most one point in or before them.
fn short(text: &str) -> Option<Raw> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, bytes),
    };
    let mut number: i64 = 0;
    let mut digit_count = 0_u32;
    let mut scale = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' if digit_count < 18 => {
                number = number * 10 + i64::from(byte - b'0');
                digit_count += 1;
                scale = scale.map(|scale: i64| scale + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    if digit_count == 0 {
        return None;
    }
    let number = if negative { -number } else { number };
    Some(match scale {
        None => Raw::Int(number),
        Some(scale) => Raw::Exact(BigDecimal::new(number.into(), scale)),
    })
}

/// Reads a JSON number. A double counts as the shortest decimal that names it.
pub(super) fn from_json(number: &serde_json::Number) -> Result<Raw, Flaw> {
    if let Some(number) = number.as_i64() {
        return Ok(Raw::Int(number));
    }
    if let Some(number) = number.as_u64() {
        return Ok(Raw::Exact(number.into()));
    }
    let double = number.as_f64().filter(|double| double.is_finite()).ok_or_else(not_finite)?;
    let number: BigDecimal = format!("{double:e}").parse().map_err(|_| not_a_number())?;
    within_numeric(number).map(Raw::Double)
}

/// The number with at most `scale` digits behind the point; `None`: as many as there are.
///
/// Never rounded, with one exception: a double that lies next to a decimal of this scale, because doubles
/// cannot hold most of them (`0.30000000000000004`). Next to it means: a part in 10¹² of the number away, or a part
/// in 10⁹ of the last digit.
pub(super) fn decimal(raw: Raw, scale: Option<u32>) -> Result<BigDecimal, Flaw> {
    let (number, is_double) = match raw {
        Raw::Int(number) => return Ok(number.into()),
        Raw::Exact(number) => (number, false),
        Raw::Double(number) => (number, true),
    };
    let Some(scale) = scale.map(i64::from) else { return Ok(number) };
    if number.fractional_digit_count() <= scale {
        return Ok(number);
    }
    let near = number.with_scale_round(scale, RoundingMode::HalfEven);
    let distance = (&number - &near).abs();
    let noise = || {
        distance <= number.abs() * BigDecimal::new(1.into(), 12)
            || distance <= BigDecimal::new(1.into(), scale + 9)
    };
    if distance.is_zero() || (is_double && noise()) {
        Ok(near)
    } else {
        Err(Flaw::out_of_range(format!(
            "has more than {scale} digits behind the point: round it at its source, or raise `scale`"
        )))
    }
}

/// A whole number between `min` and `max`.
pub(super) fn integer(raw: Raw, min: i64, max: i64) -> Result<i64, Flaw> {
    let number = match raw {
        Raw::Int(number) => Some(number),
        raw => {
            let number =
                decimal(raw, Some(0)).map_err(|_| Flaw::wrong_type("is not a whole number"))?;
            number.to_i64()
        }
    };
    number.filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        Flaw::out_of_range(format!(
            "is not between {min} and {max}, which is all that its type holds"
        ))
    })
}

/// The JSON number for Airtable, which keeps doubles; refused if a double cannot name it exactly.
pub(super) fn to_double(number: &BigDecimal) -> Result<serde_json::Value, Flaw> {
    let inexact = || Flaw::out_of_range("has more digits than Airtable can keep, about 15");
    if number.is_integer()
        && let Some(whole) = number.to_i64()
    {
        return to_double_int(whole);
    }
    let double: f64 = number.to_plain_string().parse().map_err(|_| inexact())?;
    let json = serde_json::Number::from_f64(double).ok_or_else(inexact)?;
    match from_json(&json)? {
        Raw::Double(back) if back == *number => Ok(json.into()),
        _ => Err(inexact()),
    }
}

pub(super) fn to_double_int(number: i64) -> Result<serde_json::Value, Flaw> {
    if (-EXACT_IN_DOUBLE_MAX..=EXACT_IN_DOUBLE_MAX).contains(&number) {
        Ok(number.into())
    } else {
        Err(Flaw::out_of_range("has more digits than Airtable can keep, about 15"))
    }
}

/// The number, if Postgres's `numeric` holds it. To be asked before any arithmetic: `1e999999999` is a
/// short text and a large number.
pub(super) fn within_numeric(number: BigDecimal) -> Result<BigDecimal, Flaw> {
    if number.is_zero() {
        return Ok(BigDecimal::zero());
    }
    let scale = number.fractional_digit_count();
    let digit_count = i64::try_from(number.digits()).unwrap_or(i64::MAX);
    if scale > FRACTION_DIGIT_COUNT_MAX
        || digit_count.saturating_sub(scale) > INTEGER_DIGIT_COUNT_MAX
    {
        return Err(too_large());
    }
    Ok(number)
}

pub(super) fn not_finite() -> Flaw {
    Flaw::out_of_range("is not a finite number: correct the formula or the value it comes from")
}

pub(super) fn not_a_number() -> Flaw {
    Flaw::wrong_type("is not a number: check the type of the field on that side")
}

fn too_large() -> Flaw {
    Flaw::out_of_range("has more digits than Postgres can keep")
}

#[cfg(test)]
mod tests {
    use bigdecimal::BigDecimal;
    use serde_json::json;

    use super::{Raw, decimal, from_json, from_text, integer, to_double};

    fn of_json(json: &serde_json::Value, scale: u32) -> Option<String> {
        let raw = from_json(json.as_number().unwrap()).unwrap();
        decimal(raw, Some(scale)).ok().map(|number| number.normalized().to_plain_string())
    }

    #[test]
    fn number_double_noise_is_dropped_and_real_digits_are_refused() {
        assert_eq!(of_json(&json!(0.1 + 0.2), 2).as_deref(), Some("0.3"));
        assert_eq!(of_json(&json!(1_234.560_000_000_000_1), 2).as_deref(), Some("1234.56"));
        assert_eq!(of_json(&json!(0.1 + 0.2 - 0.3), 2).as_deref(), Some("0"));
        assert_eq!(of_json(&json!(1.005), 2), None);
        assert_eq!(of_json(&json!(12_345_678.905), 2), None);
        assert_eq!(of_json(&json!(1e-7), 2), None);
    }

    #[test]
    fn number_text_is_exact() {
        for (text, plain) in [
            ("-0012.340", "-12.34"),
            ("99999999999999999999.99", "99999999999999999999.99"),
            ("1.6777216e+07", "16777216"),
            ("0e-99999999", "0"),
            (".5", "0.5"),
            ("123456789012345678", "123456789012345678"),
        ] {
            let number = decimal(from_text(text).unwrap(), None).unwrap();
            assert_eq!(number.normalized().to_plain_string(), plain, "{text}");
        }
        assert!(decimal(from_text("1.50000").unwrap(), Some(2)).is_ok());
        assert!(decimal(from_text("1.30000000000000004").unwrap(), Some(2)).is_err());
    }

    #[test]
    fn number_that_is_none_or_too_large_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1_000",
            "NaN",
            "-Infinity",
            "1e999999999",
            "1e-20000",
            "0x1",
            "1.2.3",
        ] {
            assert!(from_text(text).is_err(), "{text}");
        }
        assert!(from_text(&"9".repeat(200_000)).is_err());
    }

    #[test]
    fn number_whole_ones_keep_to_their_bounds() {
        assert_eq!(integer(from_text("12.0").unwrap(), 0, 20).unwrap(), 12);
        assert_eq!(integer(from_json(json!(3.0).as_number().unwrap()).unwrap(), 0, 20).unwrap(), 3);
        assert!(integer(Raw::Int(21), 0, 20).is_err());
        assert!(integer(from_text("12.5").unwrap(), 0, 20).is_err());
        assert!(integer(from_text("1e30").unwrap(), i64::MIN, i64::MAX).is_err());
    }

    #[test]
    fn number_for_airtable_is_exact_or_refused() {
        let number = |text: &str| text.parse::<BigDecimal>().unwrap();
        assert_eq!(to_double(&number("1234.56")).unwrap(), json!(1234.56));
        assert_eq!(to_double(&number("12.00")).unwrap(), json!(12));
        assert!(to_double(&number("9999999999999999.99")).is_err());
        assert!(to_double(&number("9007199254740993")).is_err());
    }
}
