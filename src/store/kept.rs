//! `mirror.kept_report`: reports that count everything there is and are read often. Any change of what they count says so
//! in its own transaction (`mirror.canon_change`); until they are counted again, readers count for themselves.

use sqlx::PgPool;

use super::Error;

/// Whether nothing has changed since the reports were kept, and today is still the day that they are of.
pub(crate) async fn is_current(pool: &PgPool) -> Result<bool, Error> {
    let current = "select not exists (select from mirror.canon_change)
        and exists (select from mirror.kept_report where made_on = current_date)";
    Ok(sqlx::query_scalar(current).fetch_one(pool).await?)
}

/// Counts them, and keeps them.
pub(crate) async fn keep(pool: &PgPool) -> Result<(), Error> {
    sqlx::query("select report.keep()").execute(pool).await?;
    Ok(())
}
