//! What the unit tests of this room share.

use crate::{
    mapping::{
        AirtableField, AirtableTable, DeletePolicy, Direction, Entity, Field, FieldKind, Mapping,
        Part, Policy, Store,
    },
    model::EntityNo,
};

/// A field of this kind, on Airtable only.
pub(super) fn field(name: &str, airtable: &str, kind: FieldKind) -> Field {
    Field {
        name: name.into(),
        store: Store::Column(name.into()),
        kind,
        transforms: Vec::new(),
        airtable: Some(AirtableField {
            field: airtable.into(),
            part: Part::Whole,
            codes: None,
            new_options: false,
        }),
        directus: None,
        policy: Policy::Ask,
        direction: Direction::Both,
        transitions: None,
        personal: crate::mapping::Personal::No,
        erased: None,
        is_required: false,
        filled_by: Vec::new(),
    }
}

pub(super) fn link(name: &str, airtable: &str, target: u16) -> Field {
    field(name, airtable, FieldKind::Link { target: EntityNo(target) })
}

/// Entities (name, Airtable table, fields) of the base `reseau`, with the id in the field `UUID`.
pub(super) fn mapping(entities: &[(&str, &str, Vec<Field>)]) -> Mapping {
    let entity = |(name, table, fields): &(&str, &str, Vec<Field>)| Entity {
        name: (*name).into(),
        table: (*name).into(),
        airtable: Some(AirtableTable {
            base: "reseau".into(),
            table: (*table).into(),
            uuid: Some("UUID".into()),
        }),
        directus: None,
        deletes: DeletePolicy::Hold,
        matches: Vec::new(),
        password: None,
        caution: crate::mapping::Caution::default(),
        guard: crate::mapping::MassGuard::default(),
        rows: crate::mapping::Rows::default(),
        fields: fields.clone(),
    };
    Mapping { entities: entities.iter().map(entity).collect() }
}
