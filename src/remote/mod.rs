//! The vendors' wire. In: what a caller wants of a vendor. Out: its answer, decoded without trust, or an
//! error that says whether waiting cures it. Allowances are kept here, so that capture and push share them.

pub(crate) mod airtable;
pub(crate) mod directus;

/// A path segment: everything but letters, digits and `-_.~` escaped.
fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let hex = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
            escaped.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    escaped
}
