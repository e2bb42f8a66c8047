//! The statements that a connection has prepared, the least recently used of which leave. The server keeps about 80 kB
//! for each, and their variety has no end: an update names the columns that its batch changes.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// Statements kept for one connection. The fixed ones of a mapping of twenty entities, and the usual sets of changed
/// columns, are fewer.
pub(super) const STATEMENT_COUNT_MAX: usize = 160;

/// Statements by their SQL. One that leaves is closed on the server as soon as nobody executes it any more.
pub(super) struct Statements<S = Statement> {
    known: HashMap<String, Known<S>>,
    use_count: u64,
}

struct Known<S> {
    statement: S,
    /// What `use_count` was when it was last asked for.
    used_at: u64,
}

impl<S> Default for Statements<S> {
    fn default() -> Self {
        Self { known: HashMap::new(), use_count: 0 }
    }
}

impl<S: Clone> Statements<S> {
    pub(super) fn get(&mut self, sql: &str) -> Option<S> {
        self.use_count += 1;
        let known = self.known.get_mut(sql)?;
        known.used_at = self.use_count;
        Some(known.statement.clone())
    }

    /// Keeps a statement; the answer is the one that leaves for it, or the one that it takes the place of.
    pub(super) fn insert(&mut self, sql: &str, statement: S) -> Option<S> {
        self.use_count += 1;
        let known = Known { statement, used_at: self.use_count };
        if let Some(before) = self.known.insert(sql.to_owned(), known) {
            return Some(before.statement);
        }
        if self.known.len() <= STATEMENT_COUNT_MAX {
            return None;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used_at)?.0.clone();
        self.known.remove(&oldest).map(|known| known.statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_least_recently_used_leaves_first() {
        let mut statements = Statements::default();
        for no in 0..STATEMENT_COUNT_MAX {
            assert_eq!(statements.insert(&no.to_string(), no), None);
        }
        assert_eq!(statements.get("0"), Some(0));
        assert_eq!(statements.insert("new", 1_000), Some(1));
        assert_eq!(statements.get("0"), Some(0));
        assert_eq!(statements.get("1"), None);
        // Prepared by two at once: the second takes the place of the first.
        assert_eq!(statements.insert("new", 1_001), Some(1_000));
        assert_eq!(statements.known.len(), STATEMENT_COUNT_MAX);
    }
}
