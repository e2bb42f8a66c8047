//! CSV: Postgres writes it, in either form; it is passed through.

use std::io::{BufWriter, Write as _};

use super::{Error, Locale, copy::Sink, file::Out};

const BUFFER_BYTES: usize = 256 * 1024;

pub(super) struct Csv {
    out: BufWriter<Out>,
    locale: Locale,
}

impl Csv {
    pub(super) fn new(out: Out, locale: Locale) -> Result<Self, Error> {
        let mut csv = Self { out: BufWriter::with_capacity(BUFFER_BYTES, out), locale };
        if locale == Locale::French {
            // Excel takes a file without this mark for one of Windows' old letters.
            csv.write("\u{feff}".as_bytes())?;
        }
        Ok(csv)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|error| self.out.get_ref().fault(error))
    }

    pub(super) fn end(self) -> Result<Out, Error> {
        unbuffered(self.out)
    }
}

impl Sink for Csv {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        match (self.locale, line.strip_suffix(b"\n")) {
            (Locale::French, Some(line)) => {
                self.write(line)?;
                self.write(b"\r\n")
            }
            _ => self.write(line),
        }
    }
}

/// What is in the buffer is written.
pub(super) fn unbuffered(mut buffered: BufWriter<Out>) -> Result<Out, Error> {
    if let Err(error) = buffered.flush() {
        return Err(buffered.get_ref().fault(error));
    }
    // It is empty: nothing can fail.
    buffered.into_inner().map_err(|error| Error::BrokenOff(error.to_string()))
}
