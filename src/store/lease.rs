//! The writer's place. One plait writes at a time, and the place is a row (`mirror.writer`), not a lock: whoever may
//! connect can take a lock of any number, but not this row. It names the writing session; when the server does not have
//! that session any more, the place is free. Each takeover counts the epoch on, and every transaction of a writer begins
//! with a check of its epoch ([`hold`]), so that one who was replaced writes nothing any more.

use std::{
    fs, process,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Canonical, Error, connect, session::Session};
use crate::gate::{Gate, PROOF_LASTS};

/// How often whoever waits looks whether the place is free, and whoever holds it shows that they live.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A command that wants the place waits for a former holder's session to end.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENT_LOOK_EVERY: Duration = Duration::from_millis(50);
/// A holder that has shown no sign of life for so long is frozen: its sessions are ended.
const BEAT_AGE_S_MAX: f64 = 15.0;
/// How long the holder's own questions may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// What keeps the writing session from being ended for the rest that it takes between batches. Servers do not have all
/// of these.
const LASTING: &str = "select set_config(name, '0', false) from pg_settings
    where name in ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'statement_timeout', 'transaction_timeout')";
/// A statement under way ends when its client is gone, and not when it has come to its end.
const WATCHFUL: &str = "set client_connection_check_interval = '2s'";

/// Who wants the place: a run of this process.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) owner: Uuid,
    host: String,
    process_pid: i32,
    process_start: Option<String>,
    /// The longest that a request of ours to a side may take; `None`: none are sent.
    request_max: Option<Duration>,
}

/// A machine that does not say how it is called.
const UNNAMED: &str = "an unnamed machine";

impl Candidate {
    pub(crate) fn new(request_max: Option<Duration>) -> Self {
        let process_pid = i32::try_from(process::id()).unwrap_or_default();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { UNNAMED.to_owned() } else { host.trim().to_owned() };
        let process_start = start_of(process_pid);
        Self { owner: Uuid::new_v4(), host, process_pid, process_start, request_max }
    }

    /// What the server shows of the sessions of this run: by it, all of them are found.
    pub(crate) fn application(&self) -> String {
        application(self.owner)
    }
}

fn application(owner: Uuid) -> String {
    format!("plait {}", owner.simple())
}

/// When a process of this machine started, told so that no other process has the same; `None`: this machine does not
/// tell, or has no such process.
fn start_of(pid: i32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut facts = rest.split_whitespace();
    // One that has ended, and whose parent has not looked yet, does nothing any more.
    if matches!(facts.next()?, "Z" | "X") {
        return None;
    }
    let started = facts.nth(18)?;
    Some(format!("{} {} {started}", boot.trim(), space.display()))
}

/// Whether a process is known to have ended: it ran on this machine, and is not there any more.
fn has_ended(pid: i32, start: &str) -> bool {
    let Some(here) = start_of(i32::try_from(process::id()).unwrap_or_default()) else {
        return false;
    };
    // Boot and name space of the two are the same: ours can see theirs.
    let place = |start: &str| start.rsplit_once(' ').map(|(place, _)| place.to_owned());
    place(&here) == place(start) && start_of(pid).as_deref() != Some(start)
}

/// Who has the place now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) host: String,
    pub(crate) process_pid: Option<i32>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process_pid {
            Some(pid) => write!(f, "another plait (process {pid} on {})", self.host),
            None => write!(f, "an older version of plait"),
        }
    }
}

/// The place, held by the session that it came with.
pub(crate) struct Lease {
    pub(super) client: Client,
    pub(crate) epoch: i64,
    owner: Uuid,
}

/// What one look at the place has come to.
enum Look {
    Taken(i64),
    Held(Holder),
    /// Somebody else was quicker; the next look says who.
    Raced,
}

/// The statement that a transaction of the writer of `epoch` begins with.
pub(super) fn hold(epoch: i64) -> String {
    format!("select mirror.hold_writer({epoch})")
}

/// Takes the place; a holder is given a few seconds to leave.
///
/// # Errors
/// [`Error::Locked`] when they do not.
pub(crate) async fn take(canonical: &Canonical, candidate: &Candidate) -> Result<Lease, Error> {
    let client = writing_session(canonical).await?;
    let began = Instant::now();
    loop {
        match look(&client, candidate).await? {
            Look::Taken(epoch) => return Ok(Lease { client, epoch, owner: candidate.owner }),
            Look::Held(_) if began.elapsed() > PATIENCE => return Err(Error::Locked),
            Look::Held(_) | Look::Raced => sleep(PATIENT_LOOK_EVERY).await,
        }
    }
}

/// Waits for the place, and takes it when it is free. `None`: stopped before it was.
///
/// # Errors
/// When the canonical database fails.
pub(crate) async fn stand_by(
    canonical: &Canonical,
    candidate: &Candidate,
    stop: &CancellationToken,
) -> Result<Option<Lease>, Error> {
    let client = writing_session(canonical).await?;
    let mut told: Option<Holder> = None;
    let lease = loop {
        match look(&client, candidate).await? {
            Look::Taken(epoch) => break Some(epoch),
            Look::Raced => {}
            Look::Held(holder) => {
                client
                    .execute(
                        "insert into mirror.standby (owner, host, process_pid) values ($1, $2, $3)
                         on conflict (owner) do update set seen_at = now()",
                        &[&candidate.owner, &candidate.host, &candidate.process_pid],
                    )
                    .await?;
                if told.as_ref() != Some(&holder) {
                    info!(
                        "stands by: {holder} mirrors into this canonical database; this one takes over when it is gone"
                    );
                    told = Some(holder);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => break None,
            () = sleep(LOOK_EVERY) => {}
        }
    };
    if told.is_some() {
        let gone =
            "delete from mirror.standby where owner = $1 or seen_at < now() - interval '1 hour'";
        client.execute(gone, &[&candidate.owner]).await?;
        if lease.is_some() {
            info!("takes over");
        }
    }
    Ok(lease.map(|epoch| Lease { client, epoch, owner: candidate.owner }))
}

async fn writing_session(canonical: &Canonical) -> Result<Client, Error> {
    let client = connect(canonical).await?;
    client.batch_execute(LASTING).await?;
    if let Err(error) = client.batch_execute(WATCHFUL).await {
        // Not every system can; the session ends with its next statement then.
        tracing::debug!(%error, "the server does not watch for clients that are gone");
    }
    Ok(client)
}

/// Looks at the place, and takes it if it is free.
async fn look(client: &Client, candidate: &Candidate) -> Result<Look, Error> {
    // An older version holds an advisory lock instead. Anybody may hold one of that number: only our own role counts.
    let row = client
        .query_one(
            "select w.epoch, w.owner, w.host, w.process_pid, w.process_start, w.request_ms_max,
                    w.owner is not null and a.pid is not null,
                    coalesce(extract(epoch from now() - b.beat_at), 0)::float8,
                    (select min(l.pid) from pg_locks l join pg_stat_activity s on s.pid = l.pid
                     where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid()
                       and l.database = (select oid from pg_database where datname = current_database())
                       and l.objid = (hashtext('plait apply')::bigint & 4294967295)::oid
                       and s.usesysid = (select oid from pg_roles where rolname = current_user)
                       and s.application_name = 'plait')
             from mirror.writer w
             left join mirror.writer_beat b on b.epoch = w.epoch
             left join pg_stat_activity a on a.pid = w.backend_pid and coalesce(a.backend_start = w.backend_start, true)",
            &[],
        )
        .await?;
    let epoch: i64 = row.get(0);
    let owner: Option<Uuid> = row.get(1);
    let host: Option<String> = row.get(2);
    let process_pid: Option<i32> = row.get(3);
    let (is_alive, beat_age_s): (bool, f64) = (row.get(6), row.get(7));
    let holder = Holder { host: host.unwrap_or_else(|| UNNAMED.to_owned()), process_pid };
    if is_alive {
        if beat_age_s > BEAT_AGE_S_MAX
            && let Some(owner) = owner
        {
            warn!(beat_age_s, "{holder} is frozen: its sessions are ended");
            client
                .execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()",
                    &[&application(owner)],
                )
                .await?;
        }
        return Ok(Look::Held(holder));
    }
    if row.get::<_, Option<i32>>(8).is_some() {
        let (host, process_pid) = (String::new(), None);
        return Ok(Look::Held(Holder { host, process_pid }));
    }
    let start: Option<String> = row.get(4);
    let is_over = match (owner, process_pid, &start) {
        (None, ..) => true,
        (Some(owner), ..) if owner == candidate.owner => true,
        (_, Some(pid), Some(start)) => has_ended(pid, start),
        _ => false,
    };
    let request_ms_max: i64 = row.get::<_, Option<i64>>(5).unwrap_or_default();
    take_over(client, candidate, epoch, owner, (!is_over).then_some(request_ms_max)).await
}

/// Takes the place that was free a moment ago. `request_ms_max`: the holder before may still be there, and a request of
/// theirs take so long: what they have bound is not sent again before it must have ended.
async fn take_over(
    client: &Client,
    candidate: &Candidate,
    epoch: i64,
    owner: Option<Uuid>,
    request_ms_max: Option<i64>,
) -> Result<Look, Error> {
    let own_max = candidate.request_max.and_then(|max| i64::try_from(max.as_millis()).ok());
    let proof_ms = i64::try_from(PROOF_LASTS.as_millis()).unwrap_or_default();
    let wait_ms = request_ms_max.map(|max| max + proof_ms);
    // Older versions look for this lock; whoever else has it is none of them.
    client.batch_execute("select pg_try_advisory_lock(hashtext('plait apply'))").await?;
    let row = client
        .query_opt(
            "with taken as (
                 update mirror.writer set epoch = epoch + 1, owner = $3, backend_pid = pg_backend_pid(),
                     backend_start = (select backend_start from pg_stat_activity where pid = pg_backend_pid()),
                     host = $4, process_pid = $5, process_start = $6, request_ms_max = $7, taken_at = now()
                 where epoch = $1 and owner is not distinct from $2 returning epoch),
             held_back as (
                 update mirror.operation set under_way_until = now() + $8 * interval '1 ms'
                 where settled_at is null and sent_at is null and exists (select from taken))
             select epoch from taken",
            &[
                &epoch,
                &owner,
                &candidate.owner,
                &candidate.host,
                &candidate.process_pid,
                &candidate.process_start,
                &own_max,
                &wait_ms.map(|ms| f64::from(i32::try_from(ms).unwrap_or(i32::MAX))),
            ],
        )
        .await?;
    Ok(match row {
        Some(row) => Look::Taken(row.get(0)),
        None => Look::Raced,
    })
}

/// Keeps the place: shows every second that its holder lives, proves to the gate that it is still theirs, and notices
/// when a connection of the writer has ended before anybody needs it.
pub(crate) struct Keeper {
    canonical: Canonical,
    epoch: i64,
    owner: Uuid,
    sessions: [Session; 2],
    gate: Gate,
}

impl Keeper {
    pub(super) fn new(canonical: &Canonical, lease: (i64, Uuid), sessions: [Session; 2]) -> Self {
        let (epoch, owner) = lease;
        Self { canonical: canonical.clone(), epoch, owner, sessions, gate: Gate::open() }
    }

    /// With the gate of those who write to the sides.
    pub(crate) fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// Keeps it until `stop`, and gives it back then.
    ///
    /// # Errors
    /// It is lost, or nobody can tell: nothing may be written any more.
    pub(crate) async fn keep(self, stop: CancellationToken) -> Result<(), Error> {
        let outcome = self.prove_until(&stop).await;
        self.gate.lose();
        if outcome.is_ok() {
            self.give_back().await;
        }
        outcome
    }

    async fn prove_until(&self, stop: &CancellationToken) -> Result<(), Error> {
        let client = answered(connect(&self.canonical)).await?;
        loop {
            let at = (Instant::now(), SystemTime::now());
            let beat = "with held as (select epoch from mirror.writer where epoch = $1),
                     beaten as (update mirror.writer_beat set epoch = $1, beat_at = now() where exists (select from held))
                 select count(*) from held";
            let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[&self.epoch];
            let beaten = async { Ok(client.query_one(beat, params).await?) };
            if answered(beaten).await?.get::<_, i64>(0) == 0 {
                return Err(Error::Superseded);
            }
            self.gate.prove(at);
            // The end of a connection is noticed without asking it.
            for _ in 0..4 {
                if self.sessions.iter().any(|session| session.client().is_closed()) {
                    return Err(Error::ConnectionEnded);
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = sleep(LOOK_EVERY / 4) => {}
                }
            }
        }
    }

    /// In good order: whoever comes next knows that nothing of ours is under way.
    async fn give_back(&self) {
        let given = async {
            let client = connect(&self.canonical).await?;
            client
                .execute(
                    "update mirror.writer set owner = null where epoch = $1 and owner = $2",
                    &[&self.epoch, &self.owner],
                )
                .await?;
            Ok(())
        };
        if let Err(error) = answered(given).await {
            // It is free as soon as the session has ended.
            tracing::debug!(%error, "could not give the writer's place back");
        }
    }
}

async fn answered<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(ANSWER_PATIENCE, question).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Silent { after: ANSWER_PATIENCE }),
    }
}

impl Lease {
    pub(super) fn into_parts(self) -> (Client, (i64, Uuid)) {
        (self.client, (self.epoch, self.owner))
    }
}
