//! Places in a side's log.

use std::{fmt, str::FromStr};

/// A place in the Postgres log, printed `0/16B3748`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let high = u32::from_str_radix(high, 16).map_err(|_| ())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| ())?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// The number of the next payload to read from one webhook. Numbers belong to their webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// `app…`
    pub(crate) base: String,
    /// `ach…`
    pub(crate) webhook: String,
    pub(crate) next: u64,
}

/// How far a side's log was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Position {
    Lsn(Lsn),
    Cursor(Cursor),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(lsn) => lsn.fmt(f),
            Self::Cursor(cursor) => write!(f, "{}#{}", cursor.webhook, cursor.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn lsn_printed_and_read_back_is_the_same() {
        for (lsn, text) in [(Lsn(0), "0/0"), (Lsn(0x1_016B_3748), "1/16B3748")] {
            assert_eq!(lsn.to_string(), text);
            assert_eq!(text.parse(), Ok(lsn));
        }
        assert_eq!("16B3748".parse::<Lsn>(), Err(()));
    }
}
