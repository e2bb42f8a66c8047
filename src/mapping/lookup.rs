//! Which entity or field a side's name stands for.

use super::{DirectusField, Entity, Mapping, Store};
use crate::model::{EntityNo, FieldNo};

impl Mapping {
    /// All entities with their numbers, in the order of the document.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (EntityNo, &Entity)> {
        (0..).map(EntityNo).zip(&self.entities)
    }

    pub(crate) fn entity_named(&self, name: &str) -> Option<EntityNo> {
        self.numbered().find(|(_, entity)| entity.name == name).map(|(no, _)| no)
    }

    /// The entity of a table in the Postgres under Directus.
    pub(crate) fn entity_of_directus(&self, schema: &str, table: &str) -> Option<EntityNo> {
        self.numbered()
            .find(|(_, entity)| {
                entity.directus.as_ref().is_some_and(|on| on.schema == schema && on.table == table)
            })
            .map(|(no, _)| no)
    }

    /// The entity of a table in Airtable. `base` is the name in `plait.toml`, `table` its name or id,
    /// whichever the document uses.
    pub(crate) fn entity_of_airtable(&self, base: &str, table: &str) -> Option<EntityNo> {
        self.numbered()
            .find(|(_, entity)| {
                entity.airtable.as_ref().is_some_and(|on| on.base == base && on.table == table)
            })
            .map(|(no, _)| no)
    }

    /// The field whose elements are the rows of a junction table in the Postgres under Directus.
    pub(crate) fn field_of_junction(
        &self,
        schema: &str,
        table: &str,
    ) -> Option<(EntityNo, FieldNo)> {
        self.numbered()
            .filter(|(_, entity)| entity.directus.as_ref().is_some_and(|on| on.schema == schema))
            .find_map(|(entity_no, entity)| {
                entity
                    .numbered()
                    .find(|(_, field)| {
                        matches!(&field.directus, Some(DirectusField::Junction { table: name, .. }) if name == table)
                    })
                    .map(|(field_no, _)| (entity_no, field_no))
            })
    }
}

impl Entity {
    /// All fields with their numbers, in the order of the document.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (FieldNo, &super::Field)> {
        (0..).map(FieldNo).zip(&self.fields)
    }

    pub(crate) fn field_named(&self, name: &str) -> Option<FieldNo> {
        self.numbered().find(|(_, field)| field.name == name).map(|(no, _)| no)
    }

    /// The canonical columns of the entity's own table, in the order of the document, without `id`.
    pub(crate) fn canonical_columns(&self) -> impl Iterator<Item = (FieldNo, &str)> {
        self.numbered().filter_map(|(no, field)| match &field.store {
            Store::Column(column) => Some((no, column.as_str())),
            Store::Junction { .. } => None,
        })
    }
}

/// The columns to read from the entity's table under Directus: its key, then the mapped ones, in the order of
/// the document. Empty if Directus does not have the entity.
pub(crate) fn columns_of_directus(entity: &Entity) -> Vec<&str> {
    let Some(table) = &entity.directus else { return Vec::new() };
    let mut columns = vec![table.key.as_str()];
    for column in entity.fields.iter().filter_map(|field| field.directus.as_ref()?.column()) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::columns_of_directus;
    use crate::mapping::read;

    #[test]
    fn lookup_finds_what_the_document_names() {
        let mapping = read(include_str!("../../mapping.toml"), "mapping.toml").unwrap();
        let member = mapping.entity_of_directus("public", "directus_users").unwrap();
        assert_eq!(mapping.entity_named("member"), Some(member));
        assert_eq!(mapping.entity_of_airtable("reseau", "Membres"), Some(member));
        assert_eq!(mapping.entity_of_directus("other", "directus_users"), None);
        let (entity, field) = mapping.field_of_junction("public", "member_role").unwrap();
        assert_eq!((entity, mapping.entity(entity).field(field).name.as_str()), (member, "roles"));
        let entity = mapping.entity(member);
        assert_eq!(entity.field_named("roles"), Some(field));
        assert_eq!(columns_of_directus(entity).split_at(3).0, ["id", "first_name", "last_name"]);
        assert!(entity.canonical_columns().all(|(_, column)| column != "roles"));
    }
}
