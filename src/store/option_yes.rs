//! New names of options that a person said yes to.

use sqlx::PgPool;

use super::Error;

/// Whether somebody said yes to this name.
pub(crate) async fn is_accepted(
    pool: &PgPool,
    entity: &str,
    field: &str,
    name: &str,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select exists (select from mirror.option_yes y join mirror.entity e using (entity_no)
             where e.name = $1 and y.field = $2 and y.name = $3)",
    )
    .bind(entity)
    .bind(field)
    .bind(name)
    .fetch_one(pool)
    .await?)
}

/// Notes somebody's yes.
pub(crate) async fn accept(
    pool: &PgPool,
    entity: &str,
    field: &str,
    name: &str,
    author: &str,
) -> Result<(), Error> {
    sqlx::query(
        "insert into mirror.option_yes (entity_no, field, name, said_by)
         select entity_no, $2, $3, $4 from mirror.entity where name = $1 on conflict do nothing",
    )
    .bind(entity)
    .bind(field)
    .bind(name)
    .bind(author)
    .execute(pool)
    .await?;
    Ok(())
}
