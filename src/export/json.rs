//! JSON: one array, an object a row, a row a line. Postgres writes the objects; decimals keep their digits.

use std::io::{BufWriter, Write as _};

use super::{Error, copy::Sink, csv::unbuffered, file::Out};

const BUFFER_BYTES: usize = 256 * 1024;

pub(super) struct Json {
    out: BufWriter<Out>,
    is_empty: bool,
}

impl Json {
    pub(super) fn new(out: Out) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, out), is_empty: true }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|error| self.out.get_ref().fault(error))
    }

    pub(super) fn end(mut self) -> Result<Out, Error> {
        self.write(if self.is_empty { b"[]\n" } else { b"\n]\n" })?;
        unbuffered(self.out)
    }
}

impl Sink for Json {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let before: &[u8] = if self.is_empty { b"[\n" } else { b",\n" };
        self.is_empty = false;
        self.write(before)?;
        self.write(line.strip_suffix(b"\n").unwrap_or(line))
    }
}
