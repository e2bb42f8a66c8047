//! Fields that a side fills by itself: formulas, dates of the last change. The document does not say which they are; the
//! schemas of the sides do. Pure.

use std::collections::BTreeSet;

use super::{Direction, Entity, Field, FieldKind, Mapping, Policy};
use crate::model::{EntityNo, FieldNo, Finding, Side};

/// Fields, each with a side that fills it.
pub(crate) type Upkeep = BTreeSet<(EntityNo, FieldNo, Side)>;

impl Mapping {
    /// The same mapping, with what the sides' schemas say.
    pub(crate) fn with_upkeep(&self, upkeep: &Upkeep) -> Self {
        let mut mapping = self.clone();
        for (entity_no, entity) in (0..).map(EntityNo).zip(&mut mapping.entities) {
            for (field_no, field) in (0..).map(FieldNo).zip(&mut entity.fields) {
                let is_filled = |side: &Side| upkeep.contains(&(entity_no, field_no, *side));
                field.filled_by = Side::ALL.into_iter().filter(is_filled).collect();
            }
        }
        mapping
    }

    /// What `plait check` says of fields that a side changes by itself with each write of ours. `moving`: these fields.
    ///
    /// One that goes to the other side costs a second write for each. Where both sides have one, each of our writes is
    /// answered by another, for ever.
    pub(crate) fn answers(&self, moving: &Upkeep) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (no, entity) in (0..).map(EntityNo).zip(&self.entities) {
            let answering = |side: Side| -> Vec<&str> {
                let other = if side == Side::Airtable { Side::Directus } else { Side::Airtable };
                let mine = moving.iter().filter(|(of, _, by)| *of == no && *by == side);
                let mine = mine.map(|(_, field, _)| entity.field(*field));
                mine.filter(|field| goes_to(field, other))
                    .map(|field| field.name.as_str())
                    .collect()
            };
            let (airtable, directus) = (answering(Side::Airtable), answering(Side::Directus));
            if !airtable.is_empty() && !directus.is_empty() {
                findings.push(without_end(entity, &airtable, &directus));
                continue;
            }
            for (side, fields) in [(Side::Airtable, airtable), (Side::Directus, directus)] {
                if !fields.is_empty() {
                    findings.push(twice(entity, side, &fields));
                }
            }
        }
        findings
    }

    /// What `plait check` says of fields that `side` fills by itself, and that the mapping would write to it.
    pub(crate) fn closed(&self, upkeep: &Upkeep, side: Side) -> Vec<Finding> {
        let mine = upkeep.iter().filter(|(.., by)| *by == side);
        let mine = mine.map(|(entity, field, _)| {
            let entity = self.entity(*entity);
            (entity, entity.field(*field))
        });
        let written = mine.filter(|(_, field)| goes_to(field, side));
        let finding = |(entity, field): (&Entity, &Field)| {
            Finding::warning(
                format!(
                    "the field `{}` of `{}` is filled by {side} itself, and what is written to it there does not last",
                    field.name, entity.name
                ),
                format!("say `direction = \"from {side}\"` for it in the mapping"),
            )
        };
        written.map(finding).collect()
    }
}

impl Field {
    /// Whether what `side` shows of it was entered by nobody.
    pub(crate) fn is_computed_by(&self, side: Side) -> bool {
        self.is_of_formulas() || self.filled_by.contains(&side)
    }

    /// Whether what canonical holds of it was entered by nobody.
    pub(crate) fn is_computed(&self) -> bool {
        self.is_of_formulas() || !self.filled_by.is_empty()
    }

    /// By the mapping's own word.
    fn is_of_formulas(&self) -> bool {
        self.kind == FieldKind::Computed || self.policy == Policy::Computed
    }
}

/// Whether the mapping has the field written to `side`.
fn goes_to(field: &Field, side: Side) -> bool {
    field.is_on(side) && field.direction != Direction::From(side) && !field.is_of_formulas()
}

fn listed(fields: &[&str]) -> String {
    fields.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn without_end(entity: &Entity, airtable: &[&str], directus: &[&str]) -> Finding {
    Finding::error(
        format!(
            "each write of plait to a record of `{}` would be answered by another, for ever: Directus changes {} with every \
             write, which goes to Airtable, and Airtable changes {}, which goes to Directus",
            entity.name,
            listed(directus),
            listed(airtable)
        ),
        format!(
            "let one of the two end on its own side: take `airtable = …` out of the line of {}, or `directus = …` out of \
             the line of {}",
            listed(directus),
            listed(airtable)
        ),
    )
}

fn twice(entity: &Entity, side: Side, fields: &[&str]) -> Finding {
    Finding::warning(
        format!(
            "{side} changes {} of `{}` with every write, plait's own included: each costs a second write to the other side",
            listed(fields),
            entity.name
        ),
        "keep it on one side if nobody needs it on the other",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mapping::read, model::Level};

    const MAPPING: &str = r#"
version = 1
[entity.card]
table = "card"
airtable = { base = "main", table = "Cards", uuid = "UUID" }
directus = { table = "card" }
[entity.card.field]
name = { type = "text", airtable = "Name", directus = "name" }
updated = { type = "datetime", airtable = "Updated", directus = "date_updated", direction = "from directus" }
modified = { type = "datetime", airtable = "Modified", directus = "modified", direction = "from airtable" }
"#;

    const CARD: EntityNo = EntityNo(0);
    const UPDATED: FieldNo = FieldNo(1);
    const MODIFIED: FieldNo = FieldNo(2);

    fn mapping() -> Mapping {
        read(MAPPING, "mapping.toml").unwrap()
    }

    #[test]
    fn upkeep_of_both_sides_that_answers_itself_is_an_error_and_of_one_a_warning() {
        let (by_directus, by_airtable) =
            ((CARD, UPDATED, Side::Directus), (CARD, MODIFIED, Side::Airtable));
        let both = mapping().answers(&Upkeep::from([by_directus, by_airtable]));
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].level, Level::Error);
        for part in ["`card`", "`updated`", "`modified`", "for ever"] {
            assert!(both[0].what.contains(part), "{part}: {}", both[0].what);
        }
        for one in [by_directus, by_airtable] {
            let findings = mapping().answers(&Upkeep::from([one]));
            assert_eq!(findings.iter().map(|it| it.level).collect::<Vec<_>>(), [Level::Warning]);
        }
        // On one side alone, it goes nowhere.
        let text = MAPPING.replace("airtable = \"Updated\", ", "");
        let alone = read(&text, "mapping.toml").unwrap();
        assert_eq!(alone.answers(&Upkeep::from([by_directus])), []);
    }

    #[test]
    fn upkeep_that_the_mapping_writes_back_is_told() {
        let upkeep = Upkeep::from([(CARD, UPDATED, Side::Directus)]);
        assert_eq!(mapping().closed(&upkeep, Side::Directus), []);
        let text = MAPPING.replace(", direction = \"from directus\"", "");
        let both_ways = read(&text, "mapping.toml").unwrap();
        let told = both_ways.closed(&upkeep, Side::Directus);
        assert!(told[0].remedy.as_ref().unwrap().contains("from directus"), "{told:?}");
    }

    #[test]
    fn upkeep_is_known_of_the_fields_of_a_mapping_that_has_it() {
        let upkeep = Upkeep::from([(CARD, UPDATED, Side::Directus)]);
        let mapping = mapping().with_upkeep(&upkeep);
        let card = mapping.entity(CARD);
        assert!(card.field(UPDATED).is_computed_by(Side::Directus));
        assert!(!card.field(UPDATED).is_computed_by(Side::Airtable));
        assert!(!card.field(MODIFIED).is_computed());
        assert_eq!(mapping.with_upkeep(&Upkeep::new()), self::mapping());
    }
}
