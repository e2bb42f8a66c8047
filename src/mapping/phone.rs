//! Phone numbers in E.164: `+` and digits, nothing else.

use phonenumber::{Mode, country};

use super::flaw::Flaw;

/// What people write between the digits.
const SEPARATORS: [char; 9] = ['.', '-', '/', '(', ')', '\u{2010}', '\u{2011}', '\u{2013}', '_'];

/// The longest input that is looked at, in characters.
const LENGTH_MAX: usize = 40;

/// Beginnings of French national numbers that lead overseas, where the country code is another one.
const OVERSEAS: [(&str, &str); 14] = [
    ("0262", "+262"),
    ("0263", "+262"),
    ("0269", "+262"),
    ("0639", "+262"),
    ("0692", "+262"),
    ("0693", "+262"),
    ("0590", "+590"),
    ("0690", "+590"),
    ("0691", "+590"),
    ("0594", "+594"),
    ("0694", "+594"),
    ("0596", "+596"),
    ("0696", "+596"),
    ("0697", "+596"),
];

/// Whether a number without country code can be read for this ISO 3166 code.
pub(super) fn is_region(region: &str) -> bool {
    region.parse::<country::Id>().is_ok()
}

/// The number in E.164; empty for white space. `region` says where a number without country code is from.
pub(super) fn e164(text: &str, region: &str) -> Result<String, Flaw> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(String::new());
    }
    let digits = digits(text).ok_or_else(|| not_a_number(region))?;
    if is_known_form(&digits) {
        return Ok(digits);
    }
    if region == "FR"
        && let Some(number) = french(&digits)
    {
        return Ok(number);
    }
    let number = parse(region, &digits).ok_or_else(|| not_a_number(region))?;
    // What comes out has to come out again when the sides send it back.
    if is_known_form(&number) || parse(region, &number).as_ref() == Some(&number) {
        Ok(number)
    } else {
        Err(not_a_number(region))
    }
}

fn parse(region: &str, digits: &str) -> Option<String> {
    // The crate would strip the region's trunk prefix from a number of another country: an Italian one
    // loses the zero that belongs to it.
    let region = if digits.starts_with('+') { None } else { region.parse().ok() };
    let number = phonenumber::parse(region, digits).ok()?;
    number.is_valid().then(|| number.format().mode(Mode::E164).to_string())
}

/// Digits with at most one `+` before them; `None` if there is anything else in it than separators.
fn digits(text: &str) -> Option<String> {
    if text.chars().count() > LENGTH_MAX {
        return None;
    }
    let mut digits = String::with_capacity(text.len());
    for letter in text.replace("(0)", "").chars() {
        match letter {
            '0'..='9' => digits.push(letter),
            '+' if digits.is_empty() => digits.push(letter),
            _ if letter.is_whitespace() || SEPARATORS.contains(&letter) => {}
            _ => return None,
        }
    }
    Some(match digits.strip_prefix("00") {
        Some(international) => format!("+{international}"),
        None => digits,
    })
}

/// France and its overseas departments in E.164 already: nine digits, the first not 0.
fn is_known_form(digits: &str) -> bool {
    ["+33", "+262", "+590", "+594", "+596"]
        .iter()
        .filter_map(|code| digits.strip_prefix(code))
        .any(|rest| rest.len() == 9 && !rest.starts_with('0'))
}

/// `06 12 34 56 78` → `+33612345678`.
fn french(digits: &str) -> Option<String> {
    let rest = digits.strip_prefix('0')?;
    if rest.len() != 9 || rest.starts_with('0') {
        return None;
    }
    let code = OVERSEAS
        .iter()
        .find(|(start, _)| digits.starts_with(start))
        .map_or("+33", |(_, code)| code);
    Some(format!("{code}{rest}"))
}

fn not_a_number(region: &str) -> Flaw {
    let example =
        if region == "FR" { "06 12 34 56 78 or +32 2 555 12 12" } else { "+32 2 555 12 12" };
    Flaw::wrong_type(format!(
        "is not a phone number: write one number in the cell, such as {example}"
    ))
}

#[cfg(test)]
mod tests {
    use super::e164;

    #[test]
    fn phone_french_ways_of_writing_have_one_form() {
        for text in [
            "06 12 34 56 78",
            "06.12.34.56.78",
            "06-12-34-56-78",
            "0612345678",
            "+33 6 12 34 56 78",
            "+33 (0)6 12 34 56 78",
            "0033 6 12 34 56 78",
            " 06\u{a0}12\u{202f}34 56 78 ",
            "(06) 12 34 56 78",
            "+330612345678",
        ] {
            assert_eq!(e164(text, "FR").unwrap(), "+33612345678", "{text}");
        }
        assert_eq!(e164("0692 12 34 56", "FR").unwrap(), "+262692123456");
    }

    #[test]
    fn phone_of_other_countries_goes_by_its_code_or_region() {
        assert_eq!(e164("+1 415 555 2671", "FR").unwrap(), "+14155552671");
        assert_eq!(e164("02 555 12 12", "BE").unwrap(), "+3225551212");
        assert_eq!(e164("+39 06 698 12345", "FR").unwrap(), "+390669812345");
    }

    #[test]
    fn phone_that_is_none_is_refused_without_being_shown() {
        for text in
            ["12", "néant", "06 12 34 56 78 / 01 23 45 67 89", "06 12 34 56", "+33", "+", "++336"]
        {
            let flaw = e164(text, "FR").unwrap_err().of("phone");
            assert!(
                flaw.reason.starts_with("`phone` is not a phone number: "),
                "{text}: {}",
                flaw.reason
            );
        }
        assert_eq!(e164("  ", "FR").unwrap(), "");
    }
}
