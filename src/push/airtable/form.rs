//! Canonical values → the cells of an Airtable record. Pure.

use serde_json::Value as Json;

use crate::{
    mapping::{Entity, Part, join_airtable},
    model::{FieldNo, Refusal, Value},
};

/// The cells of these fields as Airtable takes them, and those that cannot be written. Links are given by Airtable's
/// keys, as [`crate::mapping::Field::write_airtable`] wants them.
///
/// The halves of a full name share one cell, and each gets the whole of it: `canonical` gives the half that is not
/// written.
pub(crate) fn cells(
    entity: &Entity,
    values: &[(FieldNo, Value)],
    canonical: impl Fn(FieldNo) -> Value,
) -> (Vec<(FieldNo, Json)>, Vec<(FieldNo, Refusal)>) {
    let (mut cells, mut refusals) = (Vec::new(), Vec::new());
    for (no, value) in values {
        match cell(entity, *no, value, values, &canonical) {
            Ok(json) => cells.push((*no, json)),
            Err(refusal) => refusals.push((*no, refusal)),
        }
    }
    (cells, refusals)
}

fn cell(
    entity: &Entity,
    no: FieldNo,
    value: &Value,
    values: &[(FieldNo, Value)],
    canonical: impl Fn(FieldNo) -> Value,
) -> Result<Json, Refusal> {
    let field = entity.field(no);
    let part = field.airtable.as_ref().map_or(Part::Whole, |airtable| airtable.part);
    if !matches!(part, Part::FirstOfFullName | Part::LastOfFullName) {
        return field.write_airtable(value);
    }
    let value_of = |no: FieldNo| {
        let written = values.iter().find(|(of, _)| *of == no).map(|(_, value)| value.clone());
        (no, written.unwrap_or_else(|| canonical(no)))
    };
    let halves: Vec<(FieldNo, Value)> =
        entity.fields_of_airtable(no).into_iter().map(value_of).collect();
    let halves: Vec<(FieldNo, &Value)> = halves.iter().map(|(no, value)| (*no, value)).collect();
    join_airtable(entity, &halves)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::read;

    #[test]
    fn form_half_of_a_full_name_is_written_with_its_other_half() {
        let mapping = read(include_str!("../../../mapping.toml"), "mapping.toml").unwrap();
        let member = &mapping.entities[0];
        let text = |text: &str| Value::Text(text.into());
        let canonical = |no: FieldNo| if no == FieldNo(1) { text("Martin") } else { Value::Null };
        let (written, refused) = cells(member, &[(FieldNo(0), text("Jeanne"))], canonical);
        assert_eq!((written, refused), (vec![(FieldNo(0), json!("Jeanne Martin"))], vec![]));
        let both = [(FieldNo(0), text("Anne")), (FieldNo(1), text("Dupont"))];
        let (written, _) = cells(member, &both, canonical);
        assert_eq!(
            written,
            [(FieldNo(0), json!("Anne Dupont")), (FieldNo(1), json!("Anne Dupont"))]
        );
        let (written, refused) = cells(member, &[(FieldNo(1), text("Dupont, Jr"))], canonical);
        assert!(written.is_empty());
        assert_eq!(refused.len(), 1);
    }
}
