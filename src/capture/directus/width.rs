//! How wide the rows on the replication connection may be. The library holds messages by their number, whatever their
//! size: so that they never take more than [`HELD_BYTES_MAX`] together, the wider a message may be, the fewer are held.
//! A connection begins narrow, and is made anew, wider, when a row comes that is too large for it.

/// What messages that wait for the capture may take in memory, bytes. A single one may exceed it.
const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The largest message of each width, bytes. The last is the most that Postgres can send.
const MESSAGE_BYTES_MAX: [usize; 4] =
    [256 * 1024, 4 * 1024 * 1024, 64 * 1024 * 1024, 1024 * 1024 * 1024];

/// One of the widths, the narrowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Width(usize);

impl Width {
    /// The narrowest for a message of so many bytes; `None`: no message is that large.
    pub(super) fn of(message_bytes: usize) -> Option<Self> {
        MESSAGE_BYTES_MAX.iter().position(|max| message_bytes <= *max).map(Self)
    }

    pub(super) fn message_bytes_max(self) -> usize {
        MESSAGE_BYTES_MAX[self.0]
    }

    /// Messages that are held.
    pub(super) fn message_count_max(self) -> usize {
        (HELD_BYTES_MAX / self.message_bytes_max()).max(1)
    }

    pub(super) fn is_wide(self) -> bool {
        self > Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_bounds_the_memory_of_what_waits() {
        assert_eq!(Width::of(0), Some(Width::default()));
        assert_eq!(Width::default().message_count_max(), 1024);
        for bytes in [300_000, 4 * 1024 * 1024, 70 * 1024 * 1024] {
            let width = Width::of(bytes).unwrap();
            assert!(width.is_wide() && width.message_bytes_max() >= bytes);
            let count = width.message_count_max();
            assert!(count == 1 || count * width.message_bytes_max() <= HELD_BYTES_MAX);
        }
        assert_eq!(Width::of(usize::MAX), None);
    }
}
