//! Rows in the binary format of `COPY`: the cheapest way in for many of them.

use bytes::{BufMut as _, Bytes, BytesMut};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Rows, as they are put together.
pub(super) struct CopyBinary {
    bytes: BytesMut,
}

impl CopyBinary {
    pub(super) fn with_capacity(byte_count: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(byte_count);
        bytes.put_slice(SIGNATURE);
        // No flags, and a header without extension.
        bytes.put_u64(0);
        Self { bytes }
    }

    /// Begins a row of so many columns.
    pub(super) fn row(&mut self, column_count: i16) {
        self.bytes.put_i16(column_count);
    }

    /// The next column's value, as its type's binary input takes it.
    pub(super) fn put(&mut self, value: &[u8]) {
        // More than 1 GB is beyond what Postgres takes: it says so.
        self.bytes.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.put_slice(value);
    }

    pub(super) fn into_bytes(mut self) -> Bytes {
        self.bytes.put_i16(-1);
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_the_manual_says() {
        let mut copy = CopyBinary::with_capacity(0);
        copy.row(2);
        copy.put(&7_i16.to_be_bytes());
        copy.put(b"x");
        let expected: &[u8] =
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\x07\0\0\0\x01x\xff\xff";
        assert_eq!(copy.into_bytes(), expected);
    }
}
