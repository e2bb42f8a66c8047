//! What the canonical tables look like: the mapping names them, the database knows their types.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::{Error, limit::Limit};
use crate::document::did_you_mean;
use crate::mapping::{DeletePolicy, Entity, FieldKind, Mapping, Store};

/// A canonical table, as far as writing to it needs to know.
#[derive(Clone, Debug)]
pub(crate) struct TableShape {
    /// `"canon"."member"`
    pub(crate) table: String,
    /// The type to cast each column field's text to, without length or scale: those are checked on
    /// assignment. `None`: the field lives in a junction table.
    pub(crate) casts: Vec<Option<String>>,
    /// Type of the element column, for fields in a junction table.
    pub(crate) element_casts: Vec<Option<String>>,
    /// What the columns' types take; of a junction table's element, nothing is known.
    pub(crate) limits: Vec<Limit>,
    pub(crate) has_deleted_at: bool,
}

#[derive(Debug)]
struct Column {
    cast: String,
    /// Digits after the point, of a `numeric(p, s)`.
    scale: Option<u32>,
    limit: Limit,
}

type Columns = HashMap<String, HashMap<String, Column>>;

/// Compares the mapping with the canonical tables, and gives decimals without a scale that of their column,
/// so that a digit too many is refused rather than rounded away.
pub(crate) async fn shapes(
    client: &Client,
    mapping: &mut Mapping,
) -> Result<Vec<TableShape>, Error> {
    let columns = columns(client).await?;
    mapping.entities.iter_mut().map(|entity| shape(&columns, entity)).collect()
}

async fn columns(client: &Client) -> Result<Columns, Error> {
    let rows = client
        .query(
            "select c.relname, a.attname,
                    -- Without a length, SQL's names for these two mean a length of one.
                    case a.atttypid when 'bpchar'::regtype then 'bpchar' when 'bit'::regtype then 'varbit'
                        else format_type(a.atttypid, null) end,
                    a.atttypmod
             from pg_attribute a join pg_class c on c.oid = a.attrelid
             where c.relnamespace = 'canon'::regnamespace and c.relkind in ('r', 'p')
               and a.attnum > 0 and not a.attisdropped",
            &[],
        )
        .await?;
    let mut columns = Columns::new();
    for row in rows {
        let (table, name, cast): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let typmod: i32 = row.get(3);
        let scale = (cast == "numeric" && typmod >= 4)
            .then(|| u32::try_from((typmod - 4) & 0x7ff).unwrap_or_default());
        let limit = Limit::of(&cast, typmod);
        columns.entry(table).or_default().insert(name, Column { cast, scale, limit });
    }
    Ok(columns)
}

fn shape(columns: &Columns, entity: &mut Entity) -> Result<TableShape, Error> {
    let find = |table: &str, column: &str| {
        let known = columns.get(table).ok_or_else(|| {
            let nearest = did_you_mean(table, columns.keys().map(String::as_str));
            Error::Shape(format!(
                "entity `{}` of the mapping names the table canon.{table}, which the canonical database does not have{nearest}; add a migration that creates it, or mend the name",
                entity.name
            ))
        })?;
        known.get(column).ok_or_else(|| {
            let nearest = did_you_mean(column, known.keys().map(String::as_str));
            Error::Shape(format!(
                "entity `{}` of the mapping names the column canon.{table}.{column}, which does not exist{nearest}; add a migration that creates it, or mend the name",
                entity.name
            ))
        })
    };
    let id = find(&entity.table, "id")?;
    if id.cast != "uuid" {
        return Err(Error::Shape(format!(
            "canon.{}.id has to be a uuid, it is {}",
            entity.table, id.cast
        )));
    }
    let has_deleted_at = find(&entity.table, "deleted_at").is_ok();
    if !has_deleted_at && entity.deletes != DeletePolicy::Propagate {
        return Err(Error::Shape(format!(
            "canon.{} has no column deleted_at, which `deletes = \"hold\"` needs; add it, or say `deletes = \"propagate\"` for entity `{}`",
            entity.table, entity.name
        )));
    }
    let mut shape = TableShape {
        table: format!("canon.{}", quoted(&entity.table)),
        casts: Vec::new(),
        element_casts: Vec::new(),
        limits: Vec::new(),
        has_deleted_at,
    };
    let mut scales = Vec::new();
    for field in &entity.fields {
        let (cast, element_cast, scale, limit) = match &field.store {
            Store::Column(column) => {
                let column = find(&entity.table, column)?;
                (Some(column.cast.clone()), None, column.scale, column.limit)
            }
            Store::Junction { table, parent, element } => {
                find(table, parent)?;
                (None, Some(find(table, element)?.cast.clone()), None, Limit::Any)
            }
        };
        shape.casts.push(cast);
        shape.element_casts.push(element_cast);
        shape.limits.push(limit);
        scales.push(scale);
    }
    for (field, column_scale) in entity.fields.iter_mut().zip(scales) {
        if let FieldKind::Decimal { scale }
        | FieldKind::Currency { scale }
        | FieldKind::Percent { scale } = &mut field.kind
        {
            *scale = scale.or(column_scale);
        }
    }
    Ok(shape)
}

/// An identifier in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
