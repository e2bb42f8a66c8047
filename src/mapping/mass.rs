//! The limit of the guard for mass changes.

/// How many records of an entity one full read, or one author who is not a person at the keyboard, may change before a
/// person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MassGuard {
    /// Records that may always change; 0: there is no guard.
    pub(crate) count: u32,
    /// Percent of the entity's records that may change, where that is more.
    pub(crate) percent: u32,
    /// Seconds for which such changes wait before they go to the other side, so that those that come with them are
    /// counted first.
    pub(crate) wait_s: u32,
    /// Authors who are not counted, by the name or id that a side gives them, or by the means (`automation`, `sql`).
    pub(crate) trusted: Vec<String>,
}

impl Default for MassGuard {
    fn default() -> Self {
        Self { count: 5, percent: 2, wait_s: 5, trusted: Vec::new() }
    }
}

impl MassGuard {
    pub(crate) fn is_on(&self) -> bool {
        self.count > 0
    }

    /// Whether `changed_count` records that changed are more than may, of an entity that has `record_count`.
    pub(crate) fn is_exceeded(&self, changed_count: u64, record_count: u64) -> bool {
        let is_over_share = || {
            u128::from(changed_count) * 100 > u128::from(record_count) * u128::from(self.percent)
        };
        self.is_on() && changed_count > u64::from(self.count) && is_over_share()
    }
}

#[cfg(test)]
mod tests {
    use super::MassGuard;
    use crate::mapping::read;

    #[test]
    fn guard_stops_more_than_the_larger_of_a_count_and_a_share() {
        let guard = MassGuard::default();
        for (changed_count, record_count, is_exceeded) in [
            (5, 10, false),
            (6, 10, true),
            (6, 300, false),
            (7, 300, true),
            (20_000, 1_000_000, false),
            (20_001, 1_000_000, true),
        ] {
            assert_eq!(
                guard.is_exceeded(changed_count, record_count),
                is_exceeded,
                "{changed_count}"
            );
        }
        let off = MassGuard { count: 0, ..guard.clone() };
        assert!(!off.is_exceeded(1_000, 1_000));
        let count_alone = MassGuard { percent: 0, ..guard };
        assert!(count_alone.is_exceeded(6, 1_000_000));
    }

    #[test]
    fn guard_of_an_entity_takes_the_place_of_the_documents_key_by_key() {
        let text = |shared: &str, own: &str| {
            format!(
                "version = 1\n{shared}\n[entity.card]\ntable = \"card\"\ndirectus = {{ table = \"card\" }}\n{own}\n\
                 [entity.card.field]\nname = {{ type = \"text\", directus = \"name\" }}\n"
            )
        };
        let guard = |shared, own| {
            let mapping = read(&text(shared, own), "mapping.toml");
            mapping.unwrap_or_else(|problems| panic!("{problems}")).entities[0].guard.clone()
        };
        assert_eq!(guard("", ""), MassGuard::default());
        let shared = "mass_changes = { count = 50, trusted = [\"sql\"] }";
        let of_all = MassGuard { count: 50, trusted: vec!["sql".into()], ..MassGuard::default() };
        assert_eq!(guard(shared, ""), of_all);
        let own = "mass_changes = { percent = 10, wait_s = 0, trusted = [] }";
        let both = MassGuard { count: 50, percent: 10, wait_s: 0, trusted: Vec::new() };
        assert_eq!(guard(shared, own), both);
        assert!(!guard("mass_changes = { count = 0 }", "").is_on());
        let wrong = read(&text("mass_changes = { percent = 101, cuont = 3 }", ""), "mapping.toml");
        let problems = wrong.unwrap_err().to_string();
        assert!(problems.contains("percent") && problems.contains("cuont"), "{problems}");
    }
}
