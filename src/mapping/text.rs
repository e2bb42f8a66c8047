//! Texts: what makes two of them the same, and the normalisations a field may ask for.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use super::{Normalise, flaw::Flaw};

/// How often a chain of normalisations is applied until nothing changes any more. Two rounds are enough for
/// all that people write; the rest is refused, because it would be exchanged for ever.
const ROUND_COUNT_MAX: usize = 6;

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Flaw> {
    std::str::from_utf8(bytes).map_err(|_| {
        Flaw::unstorable(
            "is not valid UTF-8: correct the text at its source, or the encoding of the connection",
        )
    })
}

/// Unicode NFC, `\n` as line end, no NUL. A `\r` alone counts as a line end too: otherwise `\r\r\n` would
/// come out differently at each reading.
pub(super) fn clean(text: &str) -> Result<String, Flaw> {
    // One pass without branches: nearly all cells of a copy end here.
    let odd = text
        .bytes()
        .fold(0, |odd, byte| odd | (byte & 0x80) | u8::from(byte == b'\r') | u8::from(byte == 0));
    if odd == 0 {
        return Ok(text.to_owned());
    }
    if text.contains('\0') {
        return Err(Flaw::unstorable(
            "contains a NUL character, which Postgres cannot hold: delete it",
        ));
    }
    let text = if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    };
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Ok(text.into_owned())
    } else {
        Ok(text.nfc().collect())
    }
}

/// White space of any kind → one space, none at the ends.
pub(super) fn collapse(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Applies `steps` in their order, again and again until nothing changes.
pub(super) fn transform(mut text: String, steps: &[Normalise]) -> Result<String, Flaw> {
    if steps.is_empty() {
        return Ok(text);
    }
    for _ in 0..ROUND_COUNT_MAX {
        let mut next = text.clone();
        for step in steps {
            next = match step {
                Normalise::Trim => next.trim().to_owned(),
                Normalise::Upper => clean(&next.to_uppercase())?,
                Normalise::Lower => clean(&next.to_lowercase())?,
                Normalise::Siren => siren(&next)?,
            };
        }
        if next == text {
            return Ok(text);
        }
        text = next;
    }
    Err(unsettled())
}

fn unsettled() -> Flaw {
    Flaw::wrong_type(
        "contains characters that its transformations change at each reading: replace them",
    )
}

/// Nine digits whose Luhn key is right. Spaces, dots and dashes between them are dropped.
fn siren(text: &str) -> Result<String, Flaw> {
    let digits: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && !matches!(letter, '.' | '-'))
        .collect();
    if digits.is_empty() {
        return Ok(digits);
    }
    if digits.len() != 9 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Flaw::wrong_type("is not a SIREN: nine digits are needed"));
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match (at % 2, digit) {
                (0, _) => digit,
                (_, 0..=4) => digit * 2,
                _ => digit * 2 - 9,
            }
        })
        .sum();
    if sum.is_multiple_of(10) {
        Ok(digits)
    } else {
        Err(Flaw::wrong_type(
            "is not a SIREN: its last digit does not fit the others, check for a typing error",
        ))
    }
}

/// Lower case, no white space around. Refused if it cannot be an address at all; whether it is one, only a
/// mail can tell.
pub(super) fn email(text: &str) -> Result<String, Flaw> {
    let mut mail = clean(text.trim())?;
    if mail.is_ascii() {
        mail.make_ascii_lowercase();
    } else {
        mail = transform(mail, &[Normalise::Trim, Normalise::Lower])?;
    }
    if mail.is_empty() {
        return Ok(mail);
    }
    let sound = mail.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !mail.chars().any(|letter| letter.is_whitespace() || letter.is_control())
    });
    if sound {
        Ok(mail)
    } else {
        Err(Flaw::wrong_type(
            "is not an e-mail address: write it as `name@example.org`, one in a cell",
        ))
    }
}

/// An e-mail in lower case, else an id as it is.
pub(super) fn collaborator(text: &str) -> Result<String, Flaw> {
    let text = clean(text.trim())?;
    if text.contains('@') {
        transform(text, &[Normalise::Trim, Normalise::Lower])
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, email, siren, transform};
    use crate::mapping::Normalise;

    #[test]
    fn text_line_ends_and_accents_have_one_form() {
        assert_eq!(clean("a\r\nb\rc\r\r\n").unwrap(), "a\nb\nc\n\n");
        assert_eq!(clean("e\u{301}te\u{301}").unwrap(), "été");
        assert!(clean("a\0b").is_err());
    }

    #[test]
    fn text_siren_keeps_its_key_and_loses_its_spaces() {
        assert_eq!(siren("732 829\u{a0}320").unwrap(), "732829320");
        assert_eq!(siren("356.000.000").unwrap(), "356000000");
        for wrong in ["732829321", "73282932", "7328293201", "73282932A"] {
            assert!(siren(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_email_loses_case_and_spaces_and_hopeless_ones_are_refused() {
        assert_eq!(email("  Jeanne.MARTIN@Example.ORG\n").unwrap(), "jeanne.martin@example.org");
        assert_eq!(email("Éloïse@Exemple.fr").unwrap(), "éloïse@exemple.fr");
        for wrong in ["jeanne", "@b.fr", "a@", "a b@c.fr", "a@b@c.fr", "a@b.fr;c@d.fr", "a@.fr"] {
            assert!(email(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_transforms_end_where_nothing_changes() {
        let steps = [Normalise::Trim, Normalise::Lower, Normalise::Upper];
        let once = transform("  straße ŉ İ".to_owned(), &steps).unwrap();
        assert_eq!(transform(once.clone(), &steps).unwrap(), once);
    }
}
