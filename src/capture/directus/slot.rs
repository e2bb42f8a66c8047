//! The replication slot: whether it can be read on from the stored position, its creation with an exported
//! snapshot, its removal.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::{capture::Installation, model::Lsn};

use super::{
    error::Error,
    mark::Mark,
    settings::{SourceSettings, StoredPosition},
    transport::{Identity, Transport},
};

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotFacts {
    pub(super) plugin: String,
    pub(super) database: String,
    /// Whose it is now: process and application.
    pub(super) holder: Option<(i32, String)>,
    /// `None`: its creation was interrupted, or is under way.
    pub(super) confirmed: Option<Lsn>,
    pub(super) wal_status: Option<String>,
}

/// What to do with the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Read on from the stored position.
    Resume,
    /// Nothing was ever read: make slot and copy, dropping what an unfinished first run left behind.
    Create,
    /// What was read can't be continued, for this reason: a fresh slot, and a copy through the same merge.
    Rebuild(String),
}

/// Whose a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Ours,
    /// Somebody else's: who, for people.
    Theirs(String),
}

/// Whose the slot is, by the mark that was written for it in this database (`place`); without one, by whether this
/// installation has read it, or was about to make it.
pub(super) fn ownership(
    mark: Option<&Mark>,
    installation: &Installation,
    place: &str,
    slot: Option<&SlotFacts>,
    has_read_or_made_it: bool,
) -> Ownership {
    match mark.filter(|mark| mark.place == place) {
        Some(mark) if mark.owner == installation.id => Ownership::Ours,
        Some(mark) => Ownership::Theirs(mark.words()),
        None if slot.is_none() || has_read_or_made_it => Ownership::Ours,
        None => Ownership::Theirs("nobody that this installation knows of".into()),
    }
}

/// Checks, in order, that the stored position and the slot belong together and that nothing between them is
/// lost. `switched_at`: where the server left the stored timeline, if its history says so.
///
/// # Errors
/// A slot that isn't ours is never touched.
pub(super) fn judge(
    source: &SourceSettings,
    stored: Option<&StoredPosition>,
    server: &Identity,
    switched_at: Option<Lsn>,
    slot: Option<&SlotFacts>,
) -> Result<Decision, Error> {
    if let Some(slot) = slot
        && (slot.plugin != "pgoutput" || slot.database != source.database)
    {
        return Err(Error::ForeignSlot {
            slot: source.slot.clone(),
            plugin: slot.plugin.clone(),
            database: slot.database.clone(),
        });
    }
    let Some(stored) = stored else { return Ok(Decision::Create) };
    let rebuild = |reason: String| Ok(Decision::Rebuild(reason));
    if stored.slot != source.slot {
        return rebuild(format!(
            "the position was read from slot `{}`, not `{}`",
            stored.slot, source.slot
        ));
    }
    if stored.system_identifier != server.system_identifier {
        return rebuild("this is another cluster than the one read before".into());
    }
    if stored.timeline != server.timeline && switched_at.is_none_or(|switch| switch < stored.lsn) {
        return rebuild(format!(
            "the server went over to timeline {} before the place read up to ({})",
            server.timeline, stored.lsn
        ));
    }
    let Some(slot) = slot else { return rebuild("the slot was dropped".into()) };
    if slot.wal_status.as_deref() == Some("lost") {
        return rebuild(
            "the server gave up the slot's log: more was written than max_slot_wal_keep_size keeps (raise it there, or see why plait was behind for so long)"
                .into(),
        );
    }
    let Some(confirmed) = slot.confirmed else {
        return rebuild("the slot's creation was interrupted".into());
    };
    if confirmed > stored.lsn {
        return rebuild(format!(
            "the slot stands at {confirmed}, and only what is before {} was applied",
            stored.lsn
        ));
    }
    if stored.lsn > server.end {
        return rebuild(format!(
            "the server went back in time: its log ends at {}, we had read up to {}",
            server.end, stored.lsn
        ));
    }
    Ok(Decision::Resume)
}

/// The slot as it is now, if it exists.
pub(super) async fn facts(client: &Client, slot: &str) -> Result<Option<SlotFacts>, Error> {
    let row = client
        .query_opt(
            "select coalesce(s.plugin::text, 'none'), coalesce(s.database::text, ''), s.active_pid,
                    coalesce(a.application_name, '?'), s.confirmed_flush_lsn::text, s.wal_status
             from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid
             where s.slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(Error::sql(format!("look up slot `{slot}`")))?;
    Ok(row.map(|row| SlotFacts {
        plugin: row.get(0),
        database: row.get(1),
        holder: row.get::<_, Option<i32>>(2).map(|pid| (pid, row.get(3))),
        confirmed: row.get::<_, Option<&str>>(4).and_then(|text| text.parse().ok()),
        wal_status: row.get(5),
    }))
}

/// Where the server left timeline `timeline`, if its history has it.
pub(super) async fn switch_point(
    transport: &mut impl Transport,
    server: &Identity,
    timeline: u32,
) -> Result<Option<Lsn>, Error> {
    if server.timeline <= 1 || timeline >= server.timeline {
        return Ok(None);
    }
    let sql = format!("TIMELINE_HISTORY {}", server.timeline);
    let rows = transport.query("read the timeline's history", &sql).await?;
    let history = rows.into_iter().next().and_then(|mut row| row.pop()).flatten();
    Ok(history.and_then(|history| {
        history.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()?.parse() == Ok(timeline)).then(|| words.next()?.parse().ok()).flatten()
        })
    }))
}

/// Makes sure that nobody holds the slot: waits for a session that is just ending, then ends one of this very
/// installation, which is dead on our side. `owner`: whose the slot is, for people.
///
/// # Errors
/// `SlotInUse` for anybody else, unless a person said to take the slot.
pub(super) async fn free(
    client: &Client,
    source: &SourceSettings,
    slot: &str,
    owner: Option<&Mark>,
) -> Result<(), Error> {
    let began = Instant::now();
    let mut ended = false;
    loop {
        let Some((pid, application)) = facts(client, slot).await?.and_then(|slot| slot.holder)
        else {
            return Ok(());
        };
        let is_ours = application == source.application;
        let in_use = || Error::SlotInUse {
            slot: slot.into(),
            pid,
            application: application.clone(),
            is_ours,
            owner: owner.map(Mark::words),
        };
        if began.elapsed() > Duration::from_secs(3) {
            if !is_ours && !source.take_slot {
                return Err(in_use());
            }
            if !ended {
                tracing::warn!(slot, pid, is_ours, "ending the session that holds the slot");
                client
                    .execute("select pg_terminate_backend($1)", &[&pid])
                    .await
                    .map_err(Error::sql("end the session that holds the slot"))?;
                ended = true;
            }
        }
        if began.elapsed() > Duration::from_secs(10) {
            return Err(in_use());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Drops the slot if it is there and nobody else reads it.
pub(super) async fn drop_slot(
    client: &Client,
    source: &SourceSettings,
    slot: &str,
    owner: Option<&Mark>,
) -> Result<(), Error> {
    if let Some(found) = facts(client, slot).await? {
        if let Some((pid, application)) = &found.holder
            && *application == source.application
            && found.confirmed.is_none()
        {
            // A creation whose client is gone: it would hold the slot until the transaction it waits for ends.
            client
                .execute("select pg_terminate_backend($1)", &[pid])
                .await
                .map_err(Error::sql("end the interrupted creation"))?;
        }
        free(client, source, slot, owner).await?;
        client
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
                &[&slot],
            )
            .await
            .map_err(Error::sql(format!("drop slot `{slot}`")))?;
        tracing::info!(slot, "dropped slot");
    }
    Ok(())
}

/// A slot just made. Its snapshot can be imported as long as `exporter` lives and does nothing else.
pub(super) struct Created<T> {
    pub(super) consistent_point: Lsn,
    pub(super) snapshot: String,
    pub(super) server: Identity,
    pub(super) exporter: T,
}

/// Makes a slot and exports the snapshot of its beginning. `temporary`: it goes with the session.
///
/// # Errors
/// `CreationBlocked` names the open transactions it waited for, `NoFreeSlot` and `NotReplication` say so;
/// nothing is left behind.
pub(super) async fn create<T: Transport>(
    source: &SourceSettings,
    client: &Client,
    slot: &str,
    temporary: bool,
) -> Result<Created<T>, Error> {
    let publications = [source.publication.clone()];
    let mut exporter = T::connect(source, &publications, Lsn(0), Lsn(0)).await?;
    let server = super::transport::identify(&mut exporter).await?;
    let kind = if temporary { "TEMPORARY " } else { "" };
    let sql = format!("CREATE_REPLICATION_SLOT {slot} {kind}LOGICAL pgoutput (SNAPSHOT 'export')");
    let doing = format!("create slot `{slot}`");
    // `lock_timeout` bounds each wait for a transaction; all of them together, only we can bound.
    let patience = source.lock_timeout * 3 + Duration::from_secs(10);
    let created = timeout(patience, exporter.query(&doing, &sql)).await;
    let failure = match created {
        Ok(Ok(rows)) => {
            let row = rows.into_iter().next().unwrap_or_default();
            let cell = |at: usize| row.get(at).cloned().flatten();
            let consistent_point = cell(1).and_then(|text| text.parse().ok());
            let (Some(consistent_point), Some(snapshot)) = (consistent_point, cell(2)) else {
                return Err(Error::Connection {
                    text: "the answer to CREATE_REPLICATION_SLOT can't be read".into(),
                });
            };
            tracing::info!(slot, lsn = %consistent_point, "created slot");
            return Ok(Created { consistent_point, snapshot, server, exporter });
        }
        Ok(Err(error)) => error,
        Err(_) => Error::CreationBlocked { slot: slot.into(), blockers: String::new() },
    };
    drop(exporter);
    Err(match failure.sqlstate() {
        _ if matches!(failure, Error::CreationBlocked { .. }) => {
            drop_slot(client, source, slot, None).await?;
            Error::CreationBlocked { slot: slot.into(), blockers: blockers(client).await? }
        }
        Some("55P03") => {
            Error::CreationBlocked { slot: slot.into(), blockers: blockers(client).await? }
        }
        Some("53400") => {
            let max = super::catalog::server(client).await?.slot_count_max;
            Error::NoFreeSlot { max }
        }
        Some("42501") => Error::NotReplication { user: source.user.clone() },
        _ => failure,
    })
}

/// The oldest open transactions, for a person.
async fn blockers(client: &Client) -> Result<String, Error> {
    let rows = client
        .query(
            "select pid, coalesce(nullif(application_name, ''), 'unnamed'), coalesce(usename::text, '?'),
                    coalesce(extract(epoch from now() - xact_start), 0)::bigint
             from pg_stat_activity
             where backend_xid is not null and pid <> pg_backend_pid()
             order by xact_start limit 3",
            &[],
        )
        .await
        .map_err(Error::sql("look up open transactions"))?;
    let texts: Vec<String> = rows
        .iter()
        .map(|row| {
            let (pid, application, user): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let age: i64 = row.get(3);
            format!("process {pid} of `{application}` ({user}), open for {age} s")
        })
        .collect();
    Ok(if texts.is_empty() { "they have ended since".into() } else { texts.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredPosition {
        StoredPosition {
            lsn: Lsn(100),
            slot: "plait".into(),
            system_identifier: "7".into(),
            timeline: 1,
            consistent_point: Lsn(50),
            covered: super::super::settings::Covered::new(),
            database_oid: Some(5),
            witness: None,
        }
    }

    fn slot(confirmed: Option<u64>) -> SlotFacts {
        SlotFacts {
            plugin: "pgoutput".into(),
            database: "directus".into(),
            holder: None,
            confirmed: confirmed.map(Lsn),
            wal_status: Some("reserved".into()),
        }
    }

    #[test]
    fn judge_each_broken_invariant_has_its_own_answer() {
        let source = SourceSettings::default();
        let server = Identity { system_identifier: "7".into(), timeline: 1, end: Lsn(200) };
        let judged =
            |stored: Option<&StoredPosition>, server: &Identity, slot: Option<&SlotFacts>| {
                judge(&source, stored, server, None, slot).unwrap()
            };
        let rebuilt = |decision: Decision, words: &str| {
            assert!(
                matches!(&decision, Decision::Rebuild(reason) if reason.contains(words)),
                "{decision:?}"
            );
        };
        assert_eq!(judged(Some(&stored()), &server, Some(&slot(Some(90)))), Decision::Resume);
        assert_eq!(judged(Some(&stored()), &server, Some(&slot(Some(100)))), Decision::Resume);
        assert_eq!(judged(None, &server, Some(&slot(Some(90)))), Decision::Create);
        assert_eq!(judged(None, &server, None), Decision::Create);
        rebuilt(judged(Some(&stored()), &server, Some(&slot(Some(101)))), "stands at 0/65");
        rebuilt(judged(Some(&stored()), &server, Some(&slot(None))), "interrupted");
        rebuilt(judged(Some(&stored()), &server, None), "dropped");
        let lost = SlotFacts { wal_status: Some("lost".into()), ..slot(Some(90)) };
        rebuilt(judged(Some(&stored()), &server, Some(&lost)), "gave up");
        let other = Identity { system_identifier: "8".into(), ..server.clone() };
        rebuilt(judged(Some(&stored()), &other, Some(&slot(Some(90)))), "another cluster");
        let behind = Identity { end: Lsn(99), ..server.clone() };
        rebuilt(judged(Some(&stored()), &behind, Some(&slot(Some(90)))), "back in time");
        let foreign = SlotFacts { plugin: "wal2json".into(), ..slot(Some(90)) };
        let refused = judge(&source, Some(&stored()), &server, None, Some(&foreign));
        assert!(matches!(refused, Err(Error::ForeignSlot { .. })));
    }

    #[test]
    fn judge_new_timeline_is_followed_only_from_before_the_switch() {
        let source = SourceSettings::default();
        let server = Identity { system_identifier: "7".into(), timeline: 2, end: Lsn(200) };
        let judged = |switch| {
            judge(&source, Some(&stored()), &server, switch, Some(&slot(Some(90)))).unwrap()
        };
        assert_eq!(judged(Some(Lsn(150))), Decision::Resume);
        assert!(matches!(judged(Some(Lsn(99))), Decision::Rebuild(_)));
        assert!(matches!(judged(None), Decision::Rebuild(_)));
    }
}
