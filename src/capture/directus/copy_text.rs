//! Rows of `COPY … TO STDOUT` in text format → columns, without a copy of any value that has no escapes in it.
//! Pure.

use super::{convert::Row, pgoutput::Raw};

/// A row just split; its buffers are used again for the next.
#[derive(Debug, Default)]
pub(super) struct CopyRow {
    line: Vec<u8>,
    /// Unescaped values, one behind the other.
    unescaped: Vec<u8>,
    columns: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Null,
    Line(usize, usize),
    Unescaped(usize, usize),
}

impl CopyRow {
    /// Splits one line, without its line end.
    pub(super) fn split(&mut self, line: &[u8]) {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.unescaped.clear();
        self.columns.clear();
        let mut start = 0;
        let mut escaped = false;
        for (at, byte) in self.line.iter().enumerate() {
            match byte {
                b'\t' => {
                    let place = place(&self.line, &mut self.unescaped, start, at, escaped);
                    self.columns.push(place);
                    start = at + 1;
                    escaped = false;
                }
                b'\\' => escaped = true,
                _ => {}
            }
        }
        let place = place(&self.line, &mut self.unescaped, start, self.line.len(), escaped);
        self.columns.push(place);
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }
}

impl Row for CopyRow {
    fn raw(&self, column: usize) -> Raw<'_> {
        match self.columns.get(column) {
            None => Raw::Unchanged,
            Some(Place::Null) => Raw::Null,
            Some(Place::Line(start, end)) => Raw::Text(&self.line[*start..*end]),
            Some(Place::Unescaped(start, end)) => Raw::Text(&self.unescaped[*start..*end]),
        }
    }
}

fn place(line: &[u8], unescaped: &mut Vec<u8>, start: usize, end: usize, escaped: bool) -> Place {
    let value = &line[start..end];
    if !escaped {
        return Place::Line(start, end);
    }
    if value == b"\\N" {
        return Place::Null;
    }
    let from = unescaped.len();
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        let plain = if byte == b'\\' {
            // The server writes no octal or hexadecimal escapes; a letter it does not use stands for itself.
            match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => other,
                None => b'\\',
            }
        } else {
            byte
        };
        unescaped.push(plain);
    }
    Place::Unescaped(from, unescaped.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(columns: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut line = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                line.push(b'\t');
            }
            let Some(value) = column else {
                line.extend(b"\\N");
                continue;
            };
            for byte in value {
                match byte {
                    0x08 => line.extend(b"\\b"),
                    0x0c => line.extend(b"\\f"),
                    b'\n' => line.extend(b"\\n"),
                    b'\r' => line.extend(b"\\r"),
                    b'\t' => line.extend(b"\\t"),
                    0x0b => line.extend(b"\\v"),
                    b'\\' => line.extend(b"\\\\"),
                    other => line.push(*other),
                }
            }
        }
        line
    }

    proptest! {
        #[test]
        fn split_encoded_row_gives_back_its_values(
            columns in prop::collection::vec(
                prop::option::of(prop::collection::vec(
                    prop_oneof![any::<u8>(), Just(b'\\'), Just(b'\t'), Just(b'N'), Just(b'\n')], 0..12,
                )),
                1..6,
            )
        ) {
            let mut row = CopyRow::default();
            row.split(&encode(&columns));
            prop_assert_eq!(row.len(), columns.len());
            for (at, column) in columns.iter().enumerate() {
                let expected = column.as_deref().map_or(Raw::Null, Raw::Text);
                prop_assert_eq!(row.raw(at), expected);
            }
        }
    }

    #[test]
    fn split_escaped_backslash_n_is_text_and_not_null() {
        let mut row = CopyRow::default();
        row.split(b"\\\\N\t\\N\t");
        assert_eq!(row.raw(0), Raw::Text(b"\\N"));
        assert_eq!(row.raw(1), Raw::Null);
        assert_eq!(row.raw(2), Raw::Text(b""));
        assert_eq!(row.raw(3), Raw::Unchanged);
    }
}
