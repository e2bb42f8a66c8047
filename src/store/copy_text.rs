//! Rows in the text format of `COPY`.

use std::fmt::{self, Display, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};

/// Rows, as they are put together.
pub(super) struct CopyText {
    text: BytesMut,
    is_row_start: bool,
}

impl CopyText {
    pub(super) fn with_capacity(byte_count: usize) -> Self {
        Self { text: BytesMut::with_capacity(byte_count), is_row_start: true }
    }

    /// The next column's value.
    pub(super) fn put(&mut self, value: &impl Display) {
        self.separate();
        // Writing into memory cannot fail.
        let written = write!(Escaped(&mut self.text), "{value}");
        debug_assert!(written.is_ok());
    }

    pub(super) fn put_null(&mut self) {
        self.separate();
        self.text.put_slice(b"\\N");
    }

    pub(super) fn end_row(&mut self) {
        self.text.put_u8(b'\n');
        self.is_row_start = true;
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.text.freeze()
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_row_start) {
            self.text.put_u8(b'\t');
        }
    }
}

struct Escaped<'a>(&'a mut BytesMut);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let bytes = text.as_bytes();
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                _ => continue,
            };
            self.0.put_slice(&bytes[from..at]);
            self.0.put_slice(escape);
            from = at + 1;
        }
        self.0.put_slice(&bytes[from..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_copy_is_escaped() {
        let mut text = CopyText::with_capacity(0);
        text.put(&"a\tb\\N");
        text.put_null();
        text.put(&7);
        text.end_row();
        text.put(&"\r\n");
        text.put(&"");
        text.end_row();
        assert_eq!(text.into_bytes(), &b"a\\tb\\\\N\t\\N\t7\n\\r\\n\t\n"[..]);
    }
}
