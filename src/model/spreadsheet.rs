//! What a spreadsheet program makes of a text. Every writer of CSV and Excel asks here, since the values come from people who
//! are not those who open the file.

use std::borrow::Cow;

/// Whether a spreadsheet program may take a text for a formula and run it when somebody opens the file. A number is none, nor
/// is `+` with digits and spaces (a telephone number).
pub(crate) fn looks_like_formula(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if !matches!(first, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\t' | '\n' | '\r')
    {
        return false;
    }
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = |text: &str| {
        let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
        let is_digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_digits(whole) && is_digits(fraction)
    };
    let is_phone = first == '+'
        && rest.starts_with(|letter: char| letter.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ');
    !(is_number(rest) || is_phone)
}

/// `text`, with an apostrophe before it where a spreadsheet program may take it for a formula: it then shows the text.
pub(crate) fn without_formula(text: &str) -> Cow<'_, str> {
    if looks_like_formula(text) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::{looks_like_formula, without_formula};

    #[test]
    fn formulas_are_told_from_numbers_and_telephones() {
        for harmless in
            ["", "a=1", "-5", "+5,25", "-0.5", "+33612345678", "+33 6 12 34 56 78", " =1", "é"]
        {
            assert!(!looks_like_formula(harmless), "{harmless:?}");
        }
        for formula in [
            "=cmd()", "+A1", "-A1", "@x", "\t=1", "\r", "+", "-", "-5 €", "+1+1", "-1 2", "+1.",
            "--5", "＝1+1",
        ] {
            assert!(looks_like_formula(formula), "{formula:?}");
        }
    }

    #[test]
    fn formula_becomes_a_text() {
        assert_eq!(without_formula("=1+1"), "'=1+1");
        assert_eq!(without_formula("Zoé"), "Zoé");
    }
}
