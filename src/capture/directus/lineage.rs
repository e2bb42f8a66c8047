//! Whether the source is still the one that was read before, and canonical still the one that read it. Pure, but for
//! [`facts`], which looks.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{
    error::Error,
    layout::{Layout, TableName},
    mark::Mark,
    publication::ACTIVITY,
    settings::StoredPosition,
    slot::SlotFacts,
    transport::Identity,
};
use crate::{
    capture::{Epoch, Installation},
    model::Lsn,
};

/// The latest row of `directus_activity` that was seen: rows there are written once, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Witness {
    pub(crate) id: i64,
    /// µs since 1970 UTC.
    pub(crate) at: i64,
}

/// What became of the witness that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Testimony {
    /// Its row is there, or nothing can be said: none is stored, the table cannot be read, or its old rows were
    /// thrown away.
    Silent,
    /// A row of another time has its id, or there are older rows and not this one.
    Denied,
    /// There is no row of activity at all.
    Empty,
}

/// What the source says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFacts {
    /// Cluster and database, for the mark.
    pub(super) place: String,
    pub(super) database_oid: u32,
    pub(super) witness: Option<Witness>,
    pub(super) testimony: Testimony,
    /// No mapped table has a row.
    pub(super) is_bare: bool,
}

/// Looks at the source. `stored`: the witness to ask for.
pub(super) async fn facts(
    client: &Client,
    schema: &str,
    layout: &Layout,
    stored: Option<&Witness>,
) -> Result<SourceFacts, Error> {
    const DOING: &str = "look whether this is the database that was read before";
    let row = client
        .query_one(
            "select oid, case when has_function_privilege('pg_control_system()', 'execute')
                              then (select system_identifier::text from pg_control_system()) else '?' end
             from pg_database where datname = current_database()",
            &[],
        )
        .await
        .map_err(Error::sql(DOING))?;
    let (database_oid, cluster): (u32, &str) = (row.get(0), row.get(1));
    let place = format!("{cluster}/{database_oid}");
    let activity = TableName { schema: schema.to_owned(), table: ACTIVITY.into() };
    let row = client
        .query_one(
            "select coalesce(has_table_privilege(to_regclass($1), 'select'), false)
                    and (select count(*) = 2 from pg_attribute
                         where attrelid = to_regclass($1) and attname in ('id', 'timestamp') and not attisdropped)",
            &[&activity.quoted()],
        )
        .await
        .map_err(Error::sql(DOING))?;
    let (mut witness, mut testimony) = (None, Testimony::Silent);
    if row.get(0) {
        let sql = format!(
            "with a as (select id::bigint as id, (extract(epoch from timestamp) * 1000000)::bigint as at from {})
             (select 'last', id, at from a order by id desc limit 1)
             union all (select 'first', id, at from a order by id limit 1)
             union all (select 'same', id, at from a where id = $1)",
            activity.quoted()
        );
        let asked = stored.map_or(-1, |stored| stored.id);
        let rows = client.query(&sql, &[&asked]).await.map_err(Error::sql(DOING))?;
        let find = |which: &str| {
            let found = rows.iter().find(|row| row.get::<_, &str>(0) == which)?;
            Some(Witness { id: found.get(1), at: found.get::<_, Option<i64>>(2)? })
        };
        witness = find("last");
        testimony = testify(stored, find("first"), find("same"));
    }
    let mut is_bare = true;
    for table in &layout.tables {
        let name = table.name.quoted();
        let readable = client
            .query_one(
                "select coalesce(has_table_privilege(to_regclass($1), 'select'), false)",
                &[&name],
            )
            .await
            .map_err(Error::sql(DOING))?;
        if readable.get(0) {
            let sql = format!("select exists (select from {name})");
            let found = client.query_one(&sql, &[]).await.map_err(Error::sql(DOING))?;
            is_bare &= !found.get::<_, bool>(0);
        }
        if !is_bare {
            break;
        }
    }
    Ok(SourceFacts { place, database_oid, witness, testimony, is_bare })
}

/// The latest entry of `directus_activity`; none where there is none, or it cannot be read.
pub(super) async fn latest(client: &Client, schema: &str) -> Option<Witness> {
    let activity = TableName { schema: schema.to_owned(), table: ACTIVITY.into() };
    let sql = format!(
        "select id::bigint, (extract(epoch from timestamp) * 1000000)::bigint from {} order by id desc limit 1",
        activity.quoted()
    );
    let row = client.query_opt(&sql, &[]).await.ok()??;
    Some(Witness { id: row.get(0), at: row.get::<_, Option<i64>>(1)? })
}

fn testify(stored: Option<&Witness>, first: Option<Witness>, same: Option<Witness>) -> Testimony {
    match (stored, first, same) {
        (None, ..) => Testimony::Silent,
        (Some(_), None, _) => Testimony::Empty,
        (Some(stored), _, Some(same)) if same.at != stored.at => Testimony::Denied,
        (Some(_), _, Some(_)) => Testimony::Silent,
        // Directus throws old rows away, the oldest first.
        (Some(stored), Some(first), None) if first.id > stored.id => Testimony::Silent,
        (Some(_), Some(_), None) => Testimony::Denied,
    }
}

/// What has gone back in time, each with what proves it, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) source: Option<String>,
    pub(super) canonical: Option<String>,
}

/// Whether the slot that is there is left over from a copy of ours that was cut off: it may be ahead of the stored
/// position then.
pub(super) fn is_cut_off(stored: Option<&StoredPosition>, epoch: &Epoch) -> bool {
    let stored = stored.map_or_else(String::new, |stored| stored.lsn.to_string());
    epoch.copying_from.as_deref() == Some(stored.as_str())
}

/// What the source, the slot and the mark on it say against the stored position. `switched_at`: where the server left
/// the stored timeline. `slot`: the one that the position was read from, if it is there.
pub(super) fn judge(
    stored: &StoredPosition,
    server: &Identity,
    switched_at: Option<Lsn>,
    facts: &SourceFacts,
    slot: Option<&SlotFacts>,
    mark: Option<&Mark>,
    (installation, epoch): (&Installation, &Epoch),
) -> Verdict {
    let mut verdict = Verdict::default();
    if stored.system_identifier != server.system_identifier {
        verdict.source = Some("this is another cluster than the one read before".into());
        return verdict;
    }
    if stored.database_oid.is_some_and(|oid| oid != facts.database_oid) {
        verdict.source = Some("the database was made anew since it was read".into());
        return verdict;
    }
    if stored.timeline != server.timeline && switched_at.is_none_or(|switch| switch < stored.lsn) {
        verdict.source = Some(format!(
            "the server went over to timeline {} before the place read up to ({})",
            server.timeline, stored.lsn
        ));
    } else if stored.lsn > server.end {
        verdict.source = Some(format!(
            "the server's log ends at {}, and was read up to {}",
            server.end, stored.lsn
        ));
    } else if facts.testimony == Testimony::Denied {
        verdict.source = Some(
            "the latest entry of directus_activity that was seen is not there any more".into(),
        );
    } else if facts.testimony == Testimony::Empty && facts.is_bare {
        verdict.source = Some("the tables are there, but have no rows any more".into());
    } else if let Some(mark) = mark
        && mark.owner == installation.id
        && mark.epoch < epoch.marked
    {
        verdict.source = Some(format!(
            "the mark on the publication is of epoch {}, and was of {}",
            mark.epoch, epoch.marked
        ));
    }
    if verdict.source.is_some() {
        return verdict;
    }
    let confirmed = slot.and_then(|slot| slot.confirmed);
    if let Some(confirmed) = confirmed
        && confirmed > stored.lsn
        && !is_cut_off(Some(stored), epoch)
    {
        verdict.canonical = Some(format!(
            "the slot was read up to {confirmed} by somebody who had applied that, and canonical has applied only up to {} (or the slot was advanced or made anew by hand)",
            stored.lsn
        ));
    } else if let Some(mark) = mark
        && mark.owner == installation.id
        && mark.epoch > epoch.given
    {
        verdict.canonical = Some(format!(
            "the mark on the publication is of epoch {}, and canonical has given out only {}",
            mark.epoch, epoch.given
        ));
    } else if let Some(mark) = mark
        && mark.owner == installation.id
        && mark.seat != installation.seat
        && !mark.is_at_rest
    {
        verdict.canonical = Some(format!(
            "the slot was last read for the database at {} ({}), and this is a copy of it that was taken while that one was in use",
            mark.canonical, mark.seat
        ));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const WITNESS: Witness = Witness { id: 50, at: 5_000 };

    fn stored() -> StoredPosition {
        StoredPosition {
            lsn: Lsn(100),
            slot: "plait".into(),
            system_identifier: "7".into(),
            timeline: 1,
            consistent_point: Lsn(50),
            covered: super::super::settings::Covered::new(),
            database_oid: Some(5),
            witness: Some(WITNESS),
        }
    }

    fn facts() -> SourceFacts {
        SourceFacts {
            place: "7/5".into(),
            database_oid: 5,
            witness: Some(WITNESS),
            testimony: Testimony::Silent,
            is_bare: false,
        }
    }

    fn slot(confirmed: u64) -> SlotFacts {
        SlotFacts {
            plugin: "pgoutput".into(),
            database: "directus".into(),
            holder: None,
            confirmed: Some(Lsn(confirmed)),
            wal_status: Some("reserved".into()),
        }
    }

    struct Case {
        server: Identity,
        switched_at: Option<Lsn>,
        facts: SourceFacts,
        confirmed: u64,
        mark_epoch: i64,
        mark_owner: u128,
        mark_seat: &'static str,
        is_at_rest: bool,
        epoch: Epoch,
    }

    impl Case {
        fn new() -> Self {
            Self {
                server: Identity { system_identifier: "7".into(), timeline: 1, end: Lsn(200) },
                switched_at: None,
                facts: facts(),
                confirmed: 100,
                mark_epoch: 8,
                mark_owner: 1,
                mark_seat: "9/1",
                is_at_rest: false,
                epoch: Epoch { given: 8, marked: 8, copying_from: None },
            }
        }

        /// What is found to have gone back: source, canonical.
        fn judged(&self) -> (bool, bool) {
            let installation =
                Installation { id: Uuid::from_u128(1), seat: "9/1".into(), place: "db".into() };
            let owner =
                Installation { id: Uuid::from_u128(self.mark_owner), ..installation.clone() };
            let owner = Installation { seat: self.mark_seat.into(), ..owner };
            let mark = Mark::of(&owner, "7/5", self.mark_epoch, self.is_at_rest);
            let verdict = judge(
                &stored(),
                &self.server,
                self.switched_at,
                &self.facts,
                Some(&slot(self.confirmed)),
                Some(&mark),
                (&installation, &self.epoch),
            );
            (verdict.source.is_some(), verdict.canonical.is_some())
        }
    }

    #[test]
    fn judge_each_proof_says_which_end_went_back() {
        let judged = |change: &dyn Fn(&mut Case)| {
            let mut case = Case::new();
            change(&mut case);
            case.judged()
        };
        let (none, source, canonical) = ((false, false), (true, false), (false, true));
        assert_eq!(judged(&|_| {}), none);
        assert_eq!(judged(&|case| case.server.system_identifier = "8".into()), source);
        assert_eq!(judged(&|case| case.facts.database_oid = 6), source);
        assert_eq!(judged(&|case| case.server.end = Lsn(99)), source);
        assert_eq!(judged(&|case| case.server.timeline = 2), source);
        // A standby that was promoted after all that was read.
        let promoted = |case: &mut Case| {
            (case.server.timeline, case.switched_at) = (2, Some(Lsn(150)));
        };
        assert_eq!(judged(&promoted), none);
        assert_eq!(judged(&|case| case.facts.testimony = Testimony::Denied), source);
        assert_eq!(judged(&|case| case.facts.testimony = Testimony::Empty), none);
        let bare = |case: &mut Case| {
            (case.facts.testimony, case.facts.is_bare) = (Testimony::Empty, true);
        };
        assert_eq!(judged(&bare), source);
        assert_eq!(judged(&|case| case.mark_epoch = 7), source);
        assert_eq!(judged(&|case| case.mark_epoch = 9), canonical);
        assert_eq!(judged(&|case| case.confirmed = 101), canonical);
        // Cut off between the two: given out, and not on the source yet.
        assert_eq!(judged(&|case| case.epoch.given = 9), none);
        // A fresh copy of our own that was cut off has made the slot anew.
        let cut_off = |case: &mut Case| {
            case.confirmed = 150;
            case.epoch.copying_from = Some(Lsn(100).to_string());
        };
        assert_eq!(judged(&cut_off), none);
        // Canonical is in another database: moved after a stop, or a copy that was taken before.
        assert_eq!(judged(&|case| case.mark_seat = "9/2"), canonical);
        assert_eq!(judged(&|case| (case.mark_seat, case.is_at_rest) = ("9/2", true)), none);
        // Somebody else's epoch says nothing.
        let other = |case: &mut Case| (case.mark_owner, case.mark_epoch) = (2, 99);
        assert_eq!(judged(&other), none);
    }

    #[test]
    fn testify_rows_that_retention_dropped_are_no_proof() {
        let row = |id, at| Some(Witness { id, at });
        assert_eq!(testify(None, row(1, 1), None), Testimony::Silent);
        assert_eq!(testify(Some(&WITNESS), row(1, 1), row(50, 5_000)), Testimony::Silent);
        assert_eq!(testify(Some(&WITNESS), row(1, 1), row(50, 6_000)), Testimony::Denied);
        assert_eq!(testify(Some(&WITNESS), row(1, 1), None), Testimony::Denied);
        assert_eq!(testify(Some(&WITNESS), row(51, 9_000), None), Testimony::Silent);
        assert_eq!(testify(Some(&WITNESS), None, None), Testimony::Empty);
    }
}
