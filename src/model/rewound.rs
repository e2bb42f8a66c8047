//! What was found to have gone back in time.

/// Which of the two ends of a log is older than the other remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rewound {
    /// The side: a restored backup, a copy, an empty schema.
    Side,
    /// The canonical database: a restored backup.
    Canonical,
}

/// The subject of a recovery of the canonical database, in `mirror.recovery.subject`; of a side, it is its log's name.
pub(crate) const CANONICAL: &str = "canonical";
