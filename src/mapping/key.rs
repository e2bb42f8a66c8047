//! Who gives the keys of new records in Directus. Pure: what the key's column is like, the catalogue of the source says.

use super::{Direction, DirectusField, Entity};
use crate::model::{EntityNo, FieldNo, Side};

/// The key column of a collection, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// `character varying(255)`
    pub(crate) type_name: String,
    /// What the database fills in where a new row leaves the column out; `identity` for an identity column.
    pub(crate) default: Option<String>,
}

/// Who gives the key of a record that is made in Directus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyGiver {
    /// Plait: the key is the canonical id.
    Plait,
    /// The database: identity, serial, a default. Only its log tells the key.
    Database,
    /// A person: the key is the value of this field.
    Person(FieldNo),
    /// A person, in a column to which no field is mapped: no record can be made there.
    Nobody,
}

/// The givers of all entities, as a look at the source has found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyGivers {
    /// In the mapping's order; `None`: the collection is not there.
    pub(crate) by_entity: Vec<Option<KeyGiver>>,
    /// Whether the log carries who wrote: only then a record of ours is told from somebody's by its operation.
    pub(crate) are_authors_told: bool,
}

impl KeyGivers {
    pub(crate) fn of(&self, entity: EntityNo) -> Option<KeyGiver> {
        self.by_entity.get(usize::from(entity.0)).copied().flatten()
    }
}

impl KeyGiver {
    /// Whether a record's key is another text than its canonical id.
    pub(crate) fn is_other(self) -> bool {
        self != Self::Plait
    }
}

/// The characters of a UUID.
const ID_LENGTH: usize = 36;

impl KeyColumn {
    fn is_uuid(&self) -> bool {
        self.type_name == "uuid"
    }

    fn is_counted(&self) -> bool {
        self.default.as_deref().is_some_and(|it| it == "identity" || it.contains("nextval("))
    }

    /// Whether the text of a UUID fits.
    fn takes_an_id(&self) -> bool {
        let (base, rest) = self.type_name.split_once('(').unwrap_or((&self.type_name, ""));
        let is_text = matches!(base.trim(), "text" | "character varying" | "character" | "citext");
        let length = rest.trim_end_matches(')').parse::<usize>().ok();
        is_text && length.is_none_or(|length| length >= ID_LENGTH)
    }
}

impl Entity {
    /// The field whose Directus column is the collection's key.
    pub(crate) fn key_field(&self) -> Option<FieldNo> {
        let key = self.directus.as_ref()?.key.as_str();
        let at = self.fields.iter().position(|field| {
            matches!(&field.directus, Some(DirectusField::Column { column, .. }) if column == key)
        })?;
        u16::try_from(at).ok().map(FieldNo)
    }

    /// Who gives the keys of records that Plait makes in Directus.
    pub(crate) fn key_giver(&self, column: &KeyColumn) -> KeyGiver {
        if column.is_uuid() {
            return KeyGiver::Plait;
        }
        if column.is_counted() {
            return KeyGiver::Database;
        }
        let written = |no: &FieldNo| self.field(*no).direction != Direction::From(Side::Directus);
        match self.key_field().filter(written) {
            Some(field) => KeyGiver::Person(field),
            None if column.default.is_some() => KeyGiver::Database,
            None if column.takes_an_id() && self.key_field().is_none() => KeyGiver::Plait,
            None => KeyGiver::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::read;

    const MAPPING: &str = r#"
        version = 1
        [entity.plain]
        table = "plain"
        directus = { table = "plain" }
        [entity.plain.field]
        name = { type = "text", directus = "name" }
        [entity.coded]
        table = "coded"
        directus = { table = "coded", key = "code" }
        [entity.coded.field]
        code = { type = "text", directus = "code" }
    "#;

    #[test]
    fn key_giver_follows_from_the_column_and_the_field_on_it() {
        let mapping = read(MAPPING, "mapping.toml").unwrap();
        let (plain, coded) = (&mapping.entities[0], &mapping.entities[1]);
        assert_eq!((plain.key_field(), coded.key_field()), (None, Some(FieldNo(0))));
        let column = |type_name: &str, default: Option<&str>| KeyColumn {
            type_name: type_name.into(),
            default: default.map(str::to_owned),
        };
        for (type_name, default, of_plain, of_coded) in [
            ("uuid", None, KeyGiver::Plait, KeyGiver::Plait),
            ("uuid", Some("gen_random_uuid()"), KeyGiver::Plait, KeyGiver::Plait),
            ("integer", Some("identity"), KeyGiver::Database, KeyGiver::Database),
            (
                "bigint",
                Some("nextval('x_id_seq'::regclass)"),
                KeyGiver::Database,
                KeyGiver::Database,
            ),
            ("integer", None, KeyGiver::Nobody, KeyGiver::Person(FieldNo(0))),
            ("character varying(255)", None, KeyGiver::Plait, KeyGiver::Person(FieldNo(0))),
            ("character varying(20)", None, KeyGiver::Nobody, KeyGiver::Person(FieldNo(0))),
            ("text", Some("short_id()"), KeyGiver::Database, KeyGiver::Person(FieldNo(0))),
        ] {
            let column = column(type_name, default);
            assert_eq!(plain.key_giver(&column), of_plain, "{type_name} {default:?}");
            assert_eq!(coded.key_giver(&column), of_coded, "{type_name} {default:?}");
        }
    }
}
