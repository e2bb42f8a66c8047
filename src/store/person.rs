//! The statements for one person's data: found, told whole, and redacted in what is kept of the past.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{
    Error,
    catalog::{TableShape, quoted},
};
use crate::mapping::{Entity, FieldKind, Store};

// ---- found ------------------------------------------------------------------------------------------------

/// Records of which one of the columns `of` is `text`, whatever the case. `name`: the columns of given names and
/// family name, either of which may be missing.
pub(crate) async fn called(
    pool: &PgPool,
    shape: &TableShape,
    of: &[&str],
    name: (Option<&str>, Option<&str>),
    text: &str,
) -> Result<Vec<Uuid>, Error> {
    let plain = |column: &str| format!("lower(t.{}::text)", quoted(column));
    let mut ways: Vec<String> =
        of.iter().map(|column| format!("{} = lower($1)", plain(column))).collect();
    match name {
        (Some(given), Some(family)) => {
            let (given, family) = (plain(given), plain(family));
            for whole in [
                format!("concat_ws(' ', {given}, {family})"),
                format!("concat_ws(' ', {family}, {given})"),
                format!("concat_ws(', ', {family}, {given})"),
            ] {
                ways.push(format!("{whole} = lower($1)"));
            }
        }
        (_, Some(family)) => ways.push(format!("{} = lower($1)", plain(family))),
        _ => {}
    }
    if ways.is_empty() {
        return Ok(Vec::new());
    }
    let sql =
        format!("select t.id from {} t where {} order by t.id", shape.table, ways.join(" or "));
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(text).fetch_all(pool).await?)
}

/// How many other records of the entity hold `text` in `column`.
pub(crate) async fn sharers(
    pool: &PgPool,
    shape: &TableShape,
    column: &str,
    text: &str,
    but: Uuid,
) -> Result<i64, Error> {
    let sql = format!(
        "select count(*) from {} t where lower(t.{}::text) = lower($1) and t.id <> $2",
        shape.table,
        quoted(column)
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(text).bind(but).fetch_one(pool).await?)
}

/// All that the record's `fields` hold or held anywhere here, but in the past that is redacted already.
pub(crate) async fn values_ever(
    pool: &PgPool,
    entity: i16,
    record: Uuid,
    fields: &[String],
) -> Result<Vec<(String, Json)>, Error> {
    Ok(sqlx::query_as(include_str!("person_values.sql"))
        .bind(entity)
        .bind(record)
        .bind(fields)
        .fetch_all(pool)
        .await?)
}

/// A text that names a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) record: Uuid,
    /// The place of the field among those of its entity.
    pub(crate) field: usize,
    pub(crate) text: String,
    /// With the pseudonym instead.
    pub(crate) replaced: String,
    pub(crate) is_deleted: bool,
}

/// The cells of an entity that name somebody: texts of all kinds, and not those of the sets.
pub(crate) async fn mentions(
    pool: &PgPool,
    entity: &Entity,
    shape: &TableShape,
    pattern: &str,
    pseudonym: &str,
) -> Result<Vec<Mention>, Error> {
    let deleted = if shape.has_deleted_at { "t.deleted_at is not null" } else { "false" };
    let mut found = Vec::new();
    for (at, field) in entity.fields.iter().enumerate() {
        let is_text = field.kind.is_text()
            || matches!(
                field.kind,
                FieldKind::Select | FieldKind::Csv | FieldKind::Json | FieldKind::Computed
            );
        let Store::Column(column) = &field.store else { continue };
        if !is_text {
            continue;
        }
        let column = quoted(column);
        let sql = format!(
            "select t.id, t.{column}::text, regexp_replace(t.{column}::text, $1, $2, 'gi'), {deleted}
             from {} t where t.{column}::text ~* $1 order by t.id",
            shape.table
        );
        for row in
            sqlx::query(AssertSqlSafe(sql)).bind(pattern).bind(pseudonym).fetch_all(pool).await?
        {
            found.push(Mention {
                record: row.try_get(0)?,
                field: at,
                text: row.try_get(1)?,
                replaced: row.try_get(2)?,
                is_deleted: row.try_get(3)?,
            });
        }
    }
    Ok(found)
}

// ---- told whole -------------------------------------------------------------------------------------------

/// What a query gives, as text: a JSON array with an object a row, every digit as it is.
pub(crate) async fn as_json(
    pool: &PgPool,
    query: &str,
    records: &[Uuid],
) -> Result<(i64, String), Error> {
    let sql = format!(
        "select count(*), jsonb_pretty(coalesce(jsonb_agg(to_jsonb(q)), '[]')) from ({query}) q"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(records).fetch_one(pool).await?)
}

/// The columns of a canonical table, in their order.
pub(crate) async fn columns(pool: &PgPool, shape: &TableShape) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "select attname::text from pg_attribute
         where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum",
    )
    .bind(&shape.table)
    .fetch_all(pool)
    .await?)
}

/// The rows of a canonical table with these ids, each cell as text.
pub(crate) async fn rows(
    pool: &PgPool,
    shape: &TableShape,
    columns: &[String],
    ids: &[Uuid],
) -> Result<Vec<Vec<Option<String>>>, Error> {
    let cells: Vec<String> = columns.iter().map(|it| format!("t.{}::text", quoted(it))).collect();
    let sql = format!(
        "select array[{}] from {} t where t.id = any($1) order by t.id",
        cells.join(", "),
        shape.table
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?)
}

/// A query for the rows of an entity with the ids `$1`, its sets included.
pub(crate) fn rows_query(entity: &Entity, shape: &TableShape) -> String {
    let mut sql = String::from("select t.*");
    for field in &entity.fields {
        if let Store::Junction { table, parent, element } = &field.store {
            sql.push_str(&format!(
                ", (select jsonb_agg(j.{0} order by j.{0}) from canon.{1} j where j.{2} = t.id) as {3}",
                quoted(element),
                quoted(table),
                quoted(parent),
                quoted(&field.name)
            ));
        }
    }
    sql.push_str(&format!(" from {} t where t.id = any($1) order by t.id", shape.table));
    sql
}

/// The records that link to one of `ids` by a field of this entity.
pub(crate) async fn linking(
    pool: &PgPool,
    shape: &TableShape,
    store: &Store,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    let sql = match store {
        Store::Column(column) => {
            format!("select t.id from {} t where t.{} = any($1)", shape.table, quoted(column))
        }
        Store::Junction { table, parent, element } => format!(
            "select j.{} from canon.{} j where j.{} = any($1)",
            quoted(parent),
            quoted(table),
            quoted(element)
        ),
    };
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?)
}

// ---- erasures ---------------------------------------------------------------------------------------------

/// A row of `mirror.erasure`.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Erasure {
    pub(crate) erasure_id: i64,
    pub(crate) entity: String,
    pub(crate) entity_no: i16,
    pub(crate) record_id: Uuid,
    pub(crate) pseudonym: String,
    pub(crate) asked_by: String,
    pub(crate) asked_at: DateTime<Utc>,
    pub(crate) emptied_at: Option<DateTime<Utc>>,
    pub(crate) redacted_at: Option<DateTime<Utc>>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
}

/// A cell that an erasure is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub(crate) struct ErasedCell {
    pub(crate) entity_no: i16,
    pub(crate) record_id: Uuid,
    pub(crate) field: String,
}

const ERASURE: &str =
    "select x.erasure_id, e.name as entity, x.entity_no, x.record_id, x.pseudonym, x.asked_by,
    x.asked_at, x.emptied_at, x.redacted_at, x.completed_at
 from mirror.erasure x join mirror.entity e using (entity_no)";

/// Whether the database has the tables for them.
pub(crate) async fn is_ready(pool: &PgPool) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("select to_regclass('mirror.erasure_cell') is not null")
        .fetch_one(pool)
        .await?)
}

/// All erasures, the latest first.
pub(crate) async fn erasures(pool: &PgPool) -> Result<Vec<Erasure>, Error> {
    let sql = format!("{ERASURE} order by x.erasure_id desc");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?)
}

/// Those whose past is redacted and that both sides have not taken yet.
pub(crate) async fn unfinished(pool: &PgPool) -> Result<Vec<Erasure>, Error> {
    let sql = format!(
        "{ERASURE} where x.completed_at is null and x.redacted_at is not null order by x.erasure_id"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?)
}

/// The latest of a record.
pub(crate) async fn erasure_of(
    pool: &PgPool,
    entity: &str,
    record: Uuid,
) -> Result<Option<Erasure>, Error> {
    let sql = format!(
        "{ERASURE} where e.name = $1 and x.record_id = $2 order by x.erasure_id desc limit 1"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(entity).bind(record).fetch_optional(pool).await?)
}

/// Whether a pseudonym is somebody's.
pub(crate) async fn is_taken(pool: &PgPool, pseudonym: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("select exists (select from mirror.erasure where pseudonym = $1)")
        .bind(pseudonym)
        .fetch_one(pool)
        .await?)
}

/// Notes that an erasure is asked for: its number.
pub(crate) async fn begin(
    pool: &PgPool,
    (entity, record): (i16, Uuid),
    pseudonym: &str,
    author: &str,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "insert into mirror.erasure (entity_no, record_id, pseudonym, asked_by) values ($1, $2, $3, $4)
         returning erasure_id",
    )
    .bind(entity)
    .bind(record)
    .bind(pseudonym)
    .bind(author)
    .fetch_one(pool)
    .await?)
}

pub(crate) async fn add_cells(
    pool: &PgPool,
    erasure: i64,
    cells: &[ErasedCell],
) -> Result<(), Error> {
    let entities: Vec<i16> = cells.iter().map(|cell| cell.entity_no).collect();
    let records: Vec<Uuid> = cells.iter().map(|cell| cell.record_id).collect();
    let fields: Vec<&str> = cells.iter().map(|cell| cell.field.as_str()).collect();
    sqlx::query(
        "insert into mirror.erasure_cell (erasure_id, entity_no, record_id, field)
         select $1, entity_no, record_id, field from unnest($2::smallint[], $3::uuid[], $4::text[]) as u (entity_no, record_id, field)
         on conflict do nothing",
    )
    .bind(erasure)
    .bind(entities)
    .bind(records)
    .bind(fields)
    .execute(pool)
    .await?;
    Ok(())
}

pub(crate) async fn cells_of(pool: &PgPool, erasure: i64) -> Result<Vec<ErasedCell>, Error> {
    Ok(sqlx::query_as(
        "select entity_no, record_id, field from mirror.erasure_cell where erasure_id = $1
         order by entity_no, record_id, field",
    )
    .bind(erasure)
    .fetch_all(pool)
    .await?)
}

/// A step of an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Emptied,
    Redacted,
    Completed,
}

pub(crate) async fn note(pool: &PgPool, erasure: i64, reached: Reached) -> Result<(), Error> {
    let column = match reached {
        Reached::Emptied => "emptied_at",
        Reached::Redacted => "redacted_at",
        Reached::Completed => "completed_at",
    };
    let sql = format!(
        "update mirror.erasure set {column} = coalesce({column}, now()) where erasure_id = $1"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(erasure).execute(pool).await?;
    Ok(())
}

/// What a side has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Open {
    pub(crate) side: String,
    /// owed, under way, parked or refused.
    pub(crate) what: String,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) field: Option<String>,
    /// For people: why, where it is known.
    pub(crate) reason: Option<String>,
}

/// Why an erasure is not complete; empty: both sides have taken it.
pub(crate) async fn open(pool: &PgPool, erasure: i64) -> Result<Vec<Open>, Error> {
    Ok(sqlx::query_as(include_str!("person_open.sql")).bind(erasure).fetch_all(pool).await?)
}

// ---- the past, by cell ------------------------------------------------------------------------------------

/// JSON values of the past, with what finds their row again.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub(crate) struct Past {
    /// The row's address of the moment; it is used again only if the row is unchanged.
    pub(crate) row: String,
    /// Of `conflict` and `parked`, the field.
    pub(crate) field: Option<String>,
    pub(crate) record_id: Uuid,
    pub(crate) entity_no: i16,
    /// Whether the row was made after the erasure was asked for.
    pub(crate) is_later: bool,
    /// As text, a column each.
    pub(crate) values: Vec<Option<String>>,
}

/// A table that keeps values of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Conflicts,
    Refusals,
    Parked,
    Operations,
    Commands,
    Journal,
}

impl Kept {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        self.place().0
    }

    /// The table, its columns with values, and their type.
    fn place(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::Conflicts => {
                ("conflict", &["base", "canonical", "observed", "settled_value"], "jsonb")
            }
            Self::Refusals => ("refusal", &["raw"], "jsonb"),
            Self::Parked => ("parked", &["value"], "jsonb"),
            Self::Operations => ("operation", &["cells"], "jsonb"),
            Self::Commands => ("command", &["body"], "jsonb"),
            Self::Journal => ("journal", &["before", "after"], "json"),
        }
    }
}

/// Which record a refused cell is of, as `x`: a key that is not linked is the canonical id.
const OF_REFUSAL: &str = "cross join lateral (select coalesce(
    (select l.record_id from mirror.link l
     where l.side = t.side and l.entity_no = t.entity_no and l.side_key = t.side_key),
    case when t.side_key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then t.side_key::uuid end)) as x (record_id)";

/// What is kept of these records: of operations, those that are settled; of commands, those that are carried out; of
/// conflicts, those that are decided; of parked cells, those of before the erasure. `is_ahead`: those too that will be
/// at rest once an erasure is done.
pub(crate) async fn past(
    pool: &PgPool,
    kept: Kept,
    erasure: &Erasure,
    records: &[Uuid],
    is_ahead: bool,
) -> Result<Vec<Past>, Error> {
    let (table, columns, _) = kept.place();
    let values: Vec<String> = columns.iter().map(|column| format!("t.{column}::text")).collect();
    let (field, record, entity, later, only) = match kept {
        Kept::Conflicts => (
            "t.field",
            "t.record_id",
            "t.entity_no",
            "coalesce((select o.recorded_at >= $2 from mirror.source_transaction o
                 where o.source_transaction_id = t.observed_transaction_id), false)",
            "t.record_id = any($1) and (t.decision <> 'held' or t.decided_at is not null)",
        ),
        Kept::Refusals => {
            ("t.field", "x.record_id", "t.entity_no", "false", "x.record_id = any($1)")
        }
        Kept::Parked => (
            "t.field",
            "t.record_id",
            "t.entity_no",
            "false",
            "t.record_id = any($1) and t.parked_at < $2",
        ),
        Kept::Operations => (
            "null::text",
            "t.record_id",
            "t.entity_no",
            "t.bound_at >= $2",
            "t.record_id = any($1) and t.settled_at is not null",
        ),
        Kept::Commands => (
            "null::text",
            "($1::uuid[])[1]",
            "0::smallint",
            "t.made_at >= $2",
            "t.done_at is not null and exists (select from unnest($1) r where t.body::text like '%' || r::text || '%')",
        ),
        Kept::Journal => {
            ("null::text", "t.record_id", "t.entity_no", "false", "t.record_id = any($1)")
        }
    };
    let only = match kept {
        Kept::Conflicts | Kept::Operations if is_ahead => "t.record_id = any($1)",
        _ => only,
    };
    let of_record = if kept == Kept::Refusals { OF_REFUSAL } else { "" };
    let sql = format!(
        "select t.ctid::text as row, {field} as field, {record} as record_id, {entity} as entity_no,
             {later} as is_later, array[{}] as values
         from mirror.{table} t {of_record} where {only} and $2::timestamptz is not null",
        values.join(", ")
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(records)
        .bind(erasure.asked_at)
        .fetch_all(pool)
        .await?)
}

/// Writes redacted values into a row, if it still holds what was read; `false`: it was changed meanwhile.
pub(crate) async fn redact(
    pool: &PgPool,
    kept: Kept,
    row: &Past,
    values: &[Option<String>],
) -> Result<bool, Error> {
    let (table, columns, kind) = kept.place();
    let set: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{column} = ($2::text[])[{}]::{kind}", at + 1))
        .collect();
    let same: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{column}::text is not distinct from ($3::text[])[{}]", at + 1))
        .collect();
    let sql = format!(
        "update mirror.{table} set {} where ctid = $1::tid and {}",
        set.join(", "),
        same.join(" and ")
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(&row.row)
        .bind(values)
        .bind(&row.values)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

// ---- the past, by text ------------------------------------------------------------------------------------

/// A column of the schema `mirror` that may name somebody.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct TextColumn {
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) kind: String,
}

/// All columns of the schema `mirror` with texts or JSON in them, those of tables that came later too. Not: what the
/// merge compares with the sides (`shadow`, `outbox`, `position`), keys, and the erasures themselves.
pub(crate) async fn text_columns(pool: &PgPool) -> Result<Vec<TextColumn>, Error> {
    Ok(sqlx::query_as(include_str!("person_columns.sql")).fetch_all(pool).await?)
}

/// Rows that still are at work: they are as they have to be until that is over.
fn at_rest(table: &str) -> &'static str {
    match table {
        "operation" => "t.settled_at is not null",
        "command" => "t.done_at is not null",
        "conflict" => "(t.decision <> 'held' or t.decided_at is not null)",
        _ => "true",
    }
}

/// How many rows name somebody in this column.
pub(crate) async fn naming(pool: &PgPool, of: &TextColumn, pattern: &str) -> Result<i64, Error> {
    let sql = format!(
        "select count(*) from mirror.{} t where {} and t.{}::text ~* $1",
        quoted(&of.table),
        at_rest(&of.table),
        quoted(&of.column)
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(pattern).fetch_one(pool).await?)
}

/// Puts the pseudonym where somebody is named in this column.
pub(crate) async fn rename(
    pool: &PgPool,
    of: &TextColumn,
    pattern: &str,
    pseudonym: &str,
) -> Result<u64, Error> {
    let column = quoted(&of.column);
    let value = match of.kind.as_str() {
        "text[]" => format!(
            "array(select regexp_replace(x, $1, $2, 'gi') from unnest(t.{column}) with ordinality u (x, at) order by at)"
        ),
        kind => format!("regexp_replace(t.{column}::text, $1, $2, 'gi')::{kind}"),
    };
    let sql = format!(
        "update mirror.{} t set {column} = {value} where {} and t.{column}::text ~* $1",
        quoted(&of.table),
        at_rest(&of.table)
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(pattern).bind(pseudonym).execute(pool).await?;
    Ok(done.rows_affected())
}

/// Forgets what rows of a record's sets, and rows that named it in others', held beside their elements.
pub(crate) async fn forget_columns(pool: &PgPool, record: Uuid) -> Result<u64, Error> {
    let done = sqlx::query(
        "delete from mirror.element_left where record_id = $1 or element = $1::uuid::text",
    )
    .bind(record)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Gives the transactions of a side's user who is named so, and the mass changes, the record's id as their author's.
pub(crate) async fn take_user_ids(
    pool: &PgPool,
    pattern: &str,
    record: Uuid,
) -> Result<u64, Error> {
    let done = sqlx::query(
        "with known as (
             select distinct author_id from mirror.source_transaction
             where author_name ~* $1 and author_id <> $2::text),
         stops as (
             update mirror.mass_change m
             set author_id = $2::text, author = replace(m.author, m.author_id, $2::text)
             from known where m.author_id = known.author_id)
         update mirror.source_transaction t set author_id = $2::text
         from known where t.author_id = known.author_id",
    )
    .bind(pattern)
    .bind(record)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Puts the pseudonym where somebody is named as an author in a canonical table that only grows.
pub(crate) async fn rename_author(
    pool: &PgPool,
    table: &str,
    pattern: &str,
    pseudonym: &str,
) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    let sql = format!(
        "update canon.{} set author = regexp_replace(author, $1, $2, 'gi') where author ~* $1",
        quoted(table)
    );
    erasing(&mut transaction).await?;
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(pattern)
        .bind(pseudonym)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// Says that this transaction is an erasure's: `canon.refuse_edit` lets it replace authors, and nothing else.
async fn erasing(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("select set_config('plait.erasing', 'on', true)").execute(connection).await?;
    Ok(())
}

/// Cells of other records that a side holds otherwise than canonical, and that name somebody there.
pub(crate) async fn shadows_naming(
    pool: &PgPool,
    pattern: &str,
    but: Uuid,
) -> Result<Vec<(String, String, Uuid, String)>, Error> {
    Ok(sqlx::query_as(
        "select s.side, e.name, s.record_id, s.field from mirror.shadow s join mirror.entity e using (entity_no)
         where s.value::text ~* $1 and s.record_id <> $2 order by 1, 2, 3, 4",
    )
    .bind(pattern)
    .bind(but)
    .fetch_all(pool)
    .await?)
}

/// The sides on which a record that was deleted elsewhere still lives and waits for a yes.
pub(crate) async fn doomed(pool: &PgPool, entity: i16, record: Uuid) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "select side from mirror.pending_delete where entity_no = $1 and record_id = $2 order by side",
    )
    .bind(entity)
    .bind(record)
    .fetch_all(pool)
    .await?)
}

/// Cells of a record that a side holds and that could not be read: side and field.
pub(crate) async fn unread(
    pool: &PgPool,
    entity: i16,
    record: Uuid,
    fields: &[String],
) -> Result<Vec<(String, String)>, Error> {
    Ok(sqlx::query_as(
        "select r.side, r.field from mirror.refusal r
         left join mirror.link l on l.side = r.side and l.entity_no = r.entity_no and l.side_key = r.side_key
         where r.entity_no = $1 and coalesce(l.record_id::text, r.side_key) = $2::text and r.field = any($3)
         order by 1, 2",
    )
    .bind(entity)
    .bind(record)
    .bind(fields)
    .fetch_all(pool)
    .await?)
}

/// The logins that read as this member; none, where there are no reports.
pub(crate) async fn logins(pool: &PgPool, record: Uuid) -> Result<Vec<String>, Error> {
    let is_there: bool = sqlx::query_scalar("select to_regclass('report.reader') is not null")
        .fetch_one(pool)
        .await?;
    if !is_there {
        return Ok(Vec::new());
    }
    let sql = "select role_name::text from report.reader where member_id = $1 order by 1";
    Ok(sqlx::query_scalar(sql).bind(record).fetch_all(pool).await?)
}
