//! What is open in `mirror.incident`, by the rule of [`crate::model::Notice`].

use sqlx::PgPool;

use super::{Error, mass, owed::ANSWERS_ITSELF_TOLD};
use crate::model::{Incident, Notice};

/// Opens what was found, counts what is open already, and closes what a whole look did not find any more.
pub(crate) async fn note(pool: &PgPool, log: &str, notice: &Notice) -> Result<(), Error> {
    for Incident { code, text } in &notice.found {
        sqlx::query(
            "insert into mirror.incident (log, code, text, subject) values ($1, $2, $3, $4)
             on conflict (log, code) where closed_at is null do update
                 set text = excluded.text, subject = excluded.subject, seen_at = now(), seen_count = incident.seen_count + 1",
        )
        .bind(log)
        .bind(code)
        .bind(text)
        .bind(&notice.subject)
        .execute(pool)
        .await?;
    }
    if notice.is_whole {
        let found: Vec<&str> = notice.found.iter().map(|incident| incident.code.as_str()).collect();
        sqlx::query(
            "update mirror.incident set closed_at = now()
             where closed_at is null and log = $1 and subject = $2 and code <> all($3)",
        )
        .bind(log)
        .bind(&notice.subject)
        .bind(&found)
        .execute(pool)
        .await?;
    }
    Ok(())
}

/// Looks at the deletes, mass changes and records that wait for a person, and closes what was last seen a day ago.
pub(crate) async fn look(pool: &PgPool) -> Result<(), Error> {
    sqlx::query(include_str!("deletes_stopped.sql")).execute(pool).await?;
    sqlx::query(ANSWERS_ITSELF_TOLD).execute(pool).await?;
    mass::look(pool).await?;
    sqlx::query(
        "update mirror.incident set closed_at = now()
         where closed_at is null and seen_at < now() - interval '1 day'",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Closes all incidents: what is still so will be found again.
pub(crate) async fn close_all(pool: &PgPool) -> Result<(), Error> {
    sqlx::query("update mirror.incident set closed_at = now() where closed_at is null")
        .execute(pool)
        .await?;
    Ok(())
}
