//! The mapping, seen from the tables of the Postgres: which table means what. Pure.

use std::fmt;

use crate::{
    mapping::{DirectusField, Mapping, ROLE, RowTest},
    model::{EntityNo, FieldNo, Side},
};

/// All tables to read, in the order in which a full read hands them over: entities as the mapping has them,
/// parents before children, then junction tables.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) tables: Vec<LayoutTable>,
}

/// A table and what its rows are. Two fields may share one junction table, seen from both ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayoutTable {
    pub(super) name: TableName,
    pub(super) roles: Vec<Role>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

/// What a row of a table is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Role {
    /// A record.
    Record {
        entity: EntityNo,
        key: String,
        columns: Vec<(FieldNo, String)>,
        /// What a row has to hold to be mirrored.
        rows: Vec<RowTest>,
        /// Of the table of accounts: the column of their roles.
        role: Option<String>,
    },
    /// An element of a record's set.
    Element { entity: EntityNo, field: FieldNo, key: String, parent: String, element: String },
}

impl Layout {
    pub(super) fn new(mapping: &Mapping) -> Self {
        let mut layout = Self { tables: Vec::new() };
        let mut junctions = Vec::new();
        for (entity, no) in mapping.entities.iter().zip(0..) {
            let Some(table) = &entity.directus else { continue };
            let mut columns = Vec::new();
            for (field, field_no) in entity.fields.iter().zip(0..) {
                if !field.is_on(Side::Directus) {
                    continue;
                }
                match &field.directus {
                    Some(DirectusField::Column { column, .. }) => {
                        columns.push((FieldNo(field_no), column.clone()));
                    }
                    Some(DirectusField::Junction { table: name, key, parent, element, .. }) => {
                        junctions.push((
                            TableName { schema: table.schema.clone(), table: name.clone() },
                            Role::Element {
                                entity: EntityNo(no),
                                field: FieldNo(field_no),
                                key: key.clone(),
                                parent: parent.clone(),
                                element: element.clone(),
                            },
                        ));
                    }
                    None => {}
                }
            }
            layout.add(
                TableName { schema: table.schema.clone(), table: table.table.clone() },
                Role::Record {
                    entity: EntityNo(no),
                    key: table.key.clone(),
                    columns,
                    rows: entity.rows.directus.clone().map_or_else(Vec::new, |rows| rows.tests),
                    role: entity.is_of_accounts().then(|| ROLE.to_owned()),
                },
            );
        }
        for (name, role) in junctions {
            layout.add(name, role);
        }
        layout
    }

    fn add(&mut self, name: TableName, role: Role) {
        match self.tables.iter_mut().find(|table| table.name == name) {
            Some(table) => table.roles.push(role),
            None => self.tables.push(LayoutTable { name, roles: vec![role] }),
        }
    }

    pub(super) fn table(&self, schema: &str, table: &str) -> Option<usize> {
        self.tables
            .iter()
            .position(|known| known.name.schema == schema && known.name.table == table)
    }
}

impl LayoutTable {
    /// The columns that are read, each once: keys first.
    pub(super) fn columns(&self) -> Vec<&str> {
        let keys = self.roles.iter().map(Role::key);
        let others = self.roles.iter().flat_map(Role::others);
        let mut columns = Vec::new();
        for column in keys.chain(others) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }
}

impl LayoutTable {
    /// Whether its rows are records of `entity`.
    pub(super) fn is_of(&self, entity: EntityNo) -> bool {
        self.roles.iter().any(|of| matches!(of, Role::Record { entity: no, .. } if *no == entity))
    }

    /// Whether the table may do without a column: accounts of a Postgres that is no Directus have no role.
    pub(super) fn is_optional(&self, column: &str) -> bool {
        self.roles.iter().any(|of| match of {
            Role::Record { columns, rows, role, .. } => {
                role.as_deref() == Some(column)
                    && columns.iter().all(|(_, mapped)| mapped != column)
                    && rows.iter().all(|test| test.field != column)
            }
            Role::Element { .. } => false,
        })
    }

    /// The columns that the filter on its rows needs.
    pub(super) fn filter_columns(&self) -> impl Iterator<Item = &str> {
        self.roles
            .iter()
            .flat_map(|of| match of {
                Role::Record { rows, .. } => rows.as_slice(),
                Role::Element { .. } => &[],
            })
            .map(|test| test.field.as_str())
    }
}

impl Role {
    /// The same, as if every row was mirrored.
    pub(super) fn unfiltered(&self) -> Self {
        match self.clone() {
            Self::Record { entity, key, columns, .. } => {
                Self::Record { entity, key, columns, rows: Vec::new(), role: None }
            }
            element @ Self::Element { .. } => element,
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Record { key, .. } | Self::Element { key, .. } => key,
        }
    }
}

impl Role {
    fn others(&self) -> Vec<&str> {
        match self {
            Self::Record { columns, rows, role, .. } => {
                let mapped = columns.iter().map(|(_, column)| column);
                let filtered = rows.iter().map(|test| &test.field).chain(role);
                mapped.chain(filtered).map(String::as_str).collect()
            }
            Self::Element { parent, element, .. } => vec![parent, element],
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl TableName {
    /// `"schema"."table"`
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// A name as SQL takes it, whatever is in it.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as SQL takes it.
pub(super) fn literal(text: &str) -> String {
    // E'' reads backslashes the same way whatever standard_conforming_strings says.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Whether the server takes `name` unquoted, which is how slots and publications are sent.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=63).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
}
