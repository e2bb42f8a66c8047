//! The owner's mark: whose slot it is, kept on the source in the comment on the publication, one entry a slot. It is
//! transactional, needs no table, and Plait owns the publication as a rule. A dump carries it along, so the mark names
//! the database that it was written in: a copy of it elsewhere claims nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

use super::{
    error::Error,
    layout::{literal, quote},
};
use crate::capture::Installation;

/// The line of the comment that is ours begins with this; other lines are somebody's, and stay.
const PREFIX: &str = "plait: ";

/// Who reads a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The installation's id.
    pub(super) owner: Uuid,
    /// Cluster and database of its canonical database.
    pub(super) seat: String,
    /// `host:port/database` of its canonical database, for people.
    pub(super) canonical: String,
    /// Cluster and database of the source that the mark was written in.
    pub(super) place: String,
    pub(super) epoch: i64,
    /// Written at the end of a session that was asked to stop: canonical may be moved elsewhere then.
    #[serde(default)]
    pub(super) is_at_rest: bool,
    pub(super) at: DateTime<Utc>,
}

impl Mark {
    pub(super) fn of(
        installation: &Installation,
        place: &str,
        epoch: i64,
        is_at_rest: bool,
    ) -> Self {
        Self {
            owner: installation.id,
            seat: installation.seat.clone(),
            canonical: installation.place.clone(),
            place: place.to_owned(),
            epoch,
            is_at_rest,
            at: Utc::now(),
        }
    }

    /// Who that is, for people.
    pub(super) fn words(&self) -> String {
        format!(
            "the installation of Plait whose canonical database is {} (id {}, last here {})",
            self.canonical,
            self.owner,
            self.at.format("%Y-%m-%d %H:%M UTC")
        )
    }
}

/// The marks in a comment, by slot.
type Marks = BTreeMap<String, Mark>;

fn parse(comment: &str) -> Marks {
    let line = comment.lines().find_map(|line| line.strip_prefix(PREFIX));
    line.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// The comment with this mark for the slot; what others wrote stays.
fn with(comment: &str, slot: &str, mark: &Mark) -> Result<String, serde_json::Error> {
    let mut marks = parse(comment);
    marks.insert(slot.to_owned(), mark.clone());
    let mut lines: Vec<String> =
        comment.lines().filter(|line| !line.starts_with(PREFIX)).map(str::to_owned).collect();
    lines.push(format!("{PREFIX}{}", serde_json::to_string(&marks)?));
    Ok(lines.join("\n"))
}

const READ: &str = "select coalesce(obj_description(oid, 'pg_publication'), '') from pg_publication where pubname = $1";

/// The slot's mark, whichever database it was written in.
pub(super) async fn read(
    client: &Client,
    publication: &str,
    slot: &str,
) -> Result<Option<Mark>, Error> {
    let row = client
        .query_opt(READ, &[&publication])
        .await
        .map_err(Error::sql("read the mark on the publication"))?;
    Ok(row.and_then(|row| parse(row.get(0)).remove(slot)))
}

/// Writes the slot's mark. `false`: the publication is somebody else's, and only its owner may comment on it.
pub(super) async fn write(
    client: &Client,
    publication: &str,
    slot: &str,
    mark: &Mark,
) -> Result<bool, Error> {
    const DOING: &str = "write the mark on the publication";
    // Others that mark their slots of the same publication wait meanwhile.
    client
        .batch_execute("begin; select pg_advisory_xact_lock(hashtext('plait mark'))")
        .await
        .map_err(Error::sql(DOING))?;
    let outcome = async {
        let Some(row) = client.query_opt(READ, &[&publication]).await.map_err(Error::sql(DOING))?
        else {
            return Ok(false);
        };
        let comment = with(row.get(0), slot, mark)
            .map_err(|error| Error::Task { text: error.to_string() })?;
        let sql = format!("comment on publication {} is {}", quote(publication), literal(&comment));
        match client.batch_execute(&sql).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
            Err(error) => Err(Error::sql(DOING)(error)),
        }
    }
    .await;
    let end = if matches!(outcome, Ok(true)) { "commit" } else { "rollback" };
    client.batch_execute(end).await.map_err(Error::sql(DOING))?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: i64) -> Mark {
        let installation =
            Installation { id: Uuid::nil(), seat: "7/1".into(), place: "db:5432/plait".into() };
        Mark::of(&installation, "8/2", epoch, false)
    }

    #[test]
    fn mark_of_a_slot_leaves_other_slots_and_other_peoples_words() {
        let one = with("made by hand\nfor the mirror", "one", &mark(3)).unwrap();
        let both = with(&one, "other", &mark(5)).unwrap();
        assert!(both.starts_with("made by hand\nfor the mirror\nplait: "), "{both}");
        let marks = parse(&both);
        assert_eq!((marks["one"].epoch, marks["other"].epoch), (3, 5));
        assert_eq!(parse(&with(&both, "one", &mark(4)).unwrap())["one"].epoch, 4);
        assert!(parse("plait: not JSON").is_empty() && parse("").is_empty());
    }
}
