//! Text that a terminal shows as it is: what would hide, reorder or overwrite what stands beside it is spelled out.

use std::{
    borrow::Cow,
    io::{self, Write},
};

/// Unicode's format characters (general category Cf), without the first of them, U+00AD, which is below.
const FORMAT: [(char, char); 20] = [
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    // U+2028 and U+2029 are separators: a terminal may begin a line there.
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether a terminal does something else with a character than to show it. A tab and the end of a line are shown.
fn is_hidden(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        ' '..='~' => false,
        '\u{ad}' => true,
        _ if letter < '\u{600}' => letter.is_control(),
        _ => FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&letter)),
    }
}

/// `text` with control and format characters spelled out as in JSON (`\u202e`), so that JSON stays what it is. Colours (SGR
/// sequences) pass: they change nothing but how the text looks.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if let Some(colour) = (letter == '\u{1b}').then(|| sgr(rest.as_str())).flatten() {
            shown.push(letter);
            shown.push_str(colour);
            rest.nth(colour.len() - 1);
        } else if is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// The rest of a sequence that chooses a colour, `[1;31m`, if `text`, which stands behind an escape character, begins with it.
fn sgr(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix('[')?;
    let end = parameters.find(|letter: char| !(letter.is_ascii_digit() || letter == ';'))?;
    parameters.get(end..)?.starts_with('m').then(|| text.get(..end + 2)).flatten()
}

/// Hands on whole texts as [`visible`] has them. Each write has to be a whole text: a character is not cut.
pub(crate) struct VisibleWriter<W>(pub(crate) W);

impl<W: Write> Write for VisibleWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_spells_out_what_a_terminal_does_not_show() {
        for (text, shown) in [
            ("Zoé, 12 €\n\tœuvre 日本 🇫🇷", "Zoé, 12 €\n\tœuvre 日本 🇫🇷"),
            ("invoice\u{202e}gpj.exe", "invoice\\u202egpj.exe"),
            ("a\u{200b}b\u{2066}c\u{feff}", "a\\u200bb\\u2066c\\ufeff"),
            ("\u{1b}]0;title\u{7}x", "\\u001b]0;title\\u0007x"),
            ("\u{1b}[2J\r\u{8}", "\\u001b[2J\\u000d\\u0008"),
            ("\u{9b}31m\u{85}", "\\u009b31m\\u0085"),
            ("tag \u{e0041}", "tag \\udb40\\udc41"),
            ("\u{1b}[1;31mred\u{1b}[0m\u{ad}", "\u{1b}[1;31mred\u{1b}[0m\\u00ad"),
            ("\u{1b}[31", "\\u001b[31"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
        let json = serde_json::json!({ "name": "a\u{202e}b\u{e0041}\u{1b}" });
        let read: serde_json::Value = serde_json::from_str(&visible(&json.to_string())).unwrap();
        assert_eq!(read, json, "JSON stays what it is");
        let mut written = Vec::new();
        VisibleWriter(&mut written).write_all("a\u{202e}".as_bytes()).unwrap();
        assert_eq!(written, b"a\\u202e");
    }
}
