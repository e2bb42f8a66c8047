//! The canonical end of what ties the logs to it: [`capture::Lineage`] over `mirror.installation` and
//! `mirror.recovery`, and the gate that keeps the way out shut until the ties are known to hold.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::anyhow;
use sqlx::PgPool;
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use crate::{
    apply::Rereads,
    capture::{self, Answer, Epoch, FIRST_PASS, Installation, LAST_PASS, Reread},
    mapping::Mapping,
    model::{CANONICAL, EntityNo, FieldNo, Rewound, Side},
    push::Gate,
    store::{self, recovery},
};

/// How long Airtable's payloads wait for Directus to say that canonical did not go back. After that the tables are
/// read whole first, which is right in either case, and costs the names of who edited meanwhile.
const CANONICAL_PATIENCE: Duration = Duration::from_secs(10);

/// Who knows what of the ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ties {
    /// Directus's log has said so in this session, or there is none to ask.
    canonical: bool,
    directus: bool,
}

/// The ties of one session.
pub(super) struct Lineage {
    pool: PgPool,
    mapping: Arc<Mapping>,
    installation: Installation,
    rereads: Arc<Rereads>,
    /// The log of each Airtable base that is read, by the name that the mapping gives it.
    logs_by_base: HashMap<String, String>,
    has_directus: bool,
    ties: watch::Sender<Ties>,
}

impl Lineage {
    /// `place`: `host:port/database` of canonical.
    pub(super) async fn open(
        pool: PgPool,
        mapping: Arc<Mapping>,
        place: String,
        logs_by_base: HashMap<String, String>,
        has_directus: bool,
    ) -> Result<Self, store::Error> {
        let row = recovery::installation(&pool).await?;
        let installation = Installation { id: row.installation_id, seat: row.seat, place };
        let (ties, _) = watch::channel(Ties { canonical: !has_directus, directus: !has_directus });
        let rereads = Arc::default();
        Ok(Self { pool, mapping, installation, rereads, logs_by_base, has_directus, ties })
    }

    pub(super) fn rereads(&self) -> Arc<Rereads> {
        Arc::clone(&self.rereads)
    }

    pub(super) fn logs_by_base(&self) -> HashMap<String, String> {
        self.logs_by_base.clone()
    }

    /// What opens when it is safe to write to `side`.
    pub(super) fn gate(&self, side: Side) -> Gate {
        let mut ties = self.ties.subscribe();
        let (opened, gate) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let now = *ties.borrow_and_update();
                let is_open = now.canonical && (side != Side::Directus || now.directus);
                opened.send_if_modified(|open| std::mem::replace(open, is_open) != is_open);
                tokio::select! {
                    () = opened.closed() => return,
                    changed = ties.changed() => if changed.is_err() { return },
                }
            }
        });
        Gate::new(gate)
    }

    /// A base whose place nobody remembers, while its records are known: a snapshot that was restored as a new base, or
    /// another base under the same name.
    pub(super) async fn look_at_new_base(&self, base: &str, log: &str) -> anyhow::Result<()> {
        let names: Vec<&str> = self.entities_of(log).map(|(_, name)| name).collect();
        if recovery::has_airtable_links(&self.pool, &names).await? {
            let reason = format!(
                "the base `{base}` is {} in the settings, which was never read, and records of another one are known in its place",
                log.trim_start_matches("airtable:")
            );
            self.enter_recovery(log, Rewound::Side, &reason).await?;
            for (log, _) in self.forgotten_logs(log).await? {
                recovery::forget_position(&self.pool, &log).await?;
            }
        }
        Ok(())
    }

    /// Logs of Airtable that no base of the settings has.
    async fn forgotten_logs(&self, but: &str) -> Result<Vec<(String, String)>, store::Error> {
        let positions = store::reading::positions(&self.pool).await?;
        let is_forgotten = |log: &str| {
            log.starts_with("airtable:")
                && log != but
                && !self.logs_by_base.values().any(|of| of == log)
        };
        let forgotten = positions.into_iter().filter(|position| is_forgotten(&position.log));
        Ok(forgotten.map(|position| (position.log, position.position)).collect())
    }

    async fn enter_recovery(
        &self,
        log: &str,
        rewound: Rewound,
        reason: &str,
    ) -> Result<(), store::Error> {
        let subject = if rewound == Rewound::Canonical { CANONICAL } else { log };
        if recovery::enter(&self.pool, subject, reason).await? {
            warn!(
                subject,
                reason, "entered recovery: nothing is written to any side until `plait approve`"
            );
        }
        Ok(())
    }

    fn entities_of(&self, log: &str) -> impl Iterator<Item = (EntityNo, &str)> {
        let is_directus = log == Side::Directus.name();
        let entities = self.mapping.entities.iter().enumerate();
        entities.filter_map(move |(at, entity)| {
            let of = |base: &String| self.logs_by_base.get(base);
            let is_mine = if is_directus {
                entity.directus.is_some()
            } else {
                entity
                    .airtable
                    .as_ref()
                    .and_then(|table| of(&table.base))
                    .is_some_and(|it| it == log)
            };
            is_mine.then(|| (EntityNo(u16::try_from(at).unwrap_or(u16::MAX)), entity.name.as_str()))
        })
    }

    /// The logs that have to be read before this one in a recovery of canonical: for Directus, whose rows carry ids of
    /// their own, Airtable's records that carry theirs; for the rest of Airtable, Directus.
    fn before(&self, log: &str) -> Vec<String> {
        let directus = Side::Directus.name();
        if log == directus {
            self.logs_by_base.values().cloned().collect()
        } else {
            self.has_directus.then(|| directus.to_owned()).into_iter().collect()
        }
    }
}

impl capture::Lineage for Lineage {
    fn installation(&self) -> &Installation {
        &self.installation
    }

    fn epoch(&self) -> Answer<'_, Epoch> {
        Box::pin(async move {
            let row = recovery::epoch(&self.pool).await?;
            let (given, marked) = (row.epoch, row.marked_epoch);
            Ok(Epoch { given, marked, copying_from: row.copying_from })
        })
    }

    fn next_epoch(&self, beyond: i64) -> Answer<'_, i64> {
        Box::pin(async move { Ok(recovery::next_epoch(&self.pool, beyond).await?) })
    }

    fn note_marked(&self, epoch: i64) -> Answer<'_, ()> {
        Box::pin(async move { Ok(recovery::note_marked(&self.pool, epoch).await?) })
    }

    fn note_copying<'a>(&'a self, from: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { Ok(recovery::note_copying(&self.pool, from).await?) })
    }

    fn enter<'a>(&'a self, log: &'a str, rewound: Rewound, reason: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.enter_recovery(log, rewound, reason).await?) })
    }

    fn wanted<'a>(&'a self, log: &'a str) -> Answer<'a, Option<Reread>> {
        Box::pin(async move {
            let mut wanted: Option<Reread> = None;
            for (subject, passes) in recovery::of_log(&self.pool, log).await? {
                if passes.contains(&LAST_PASS) {
                    continue;
                }
                let is_canonical = subject == CANONICAL;
                // Where both went back, what the side lost weighs more: the journal knows some of it.
                let is_side =
                    matches!(wanted, Some(Reread { rewound: Rewound::Side, .. })) || !is_canonical;
                let rewound = if is_side { Rewound::Side } else { Rewound::Canonical };
                let has_first_pass = is_canonical && !passes.contains(&FIRST_PASS);
                wanted = Some(Reread { rewound, has_first_pass });
            }
            Ok(wanted)
        })
    }

    fn begin(&self, log: &str, rewound: Rewound, pass: i16) {
        let side = if log == Side::Directus.name() { Side::Directus } else { Side::Airtable };
        let entities = self.entities_of(log).map(|(entity, _)| entity);
        self.rereads.begin(side, entities, rewound, pass == FIRST_PASS);
    }

    fn expect(&self, entities: &[EntityNo], fields: &[(EntityNo, FieldNo)]) {
        self.rereads.expect(Side::Airtable, entities, fields);
    }

    fn until_others_read<'a>(&'a self, log: &'a str, pass: i16) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut ended = self.rereads.ended();
            let others = self.before(log);
            loop {
                ended.borrow_and_update();
                let read = recovery::read_in(&self.pool, pass).await?;
                if others.iter().all(|other| read.contains(other)) {
                    return Ok(());
                }
                ended.changed().await.map_err(|_| anyhow!("the session is ending"))?;
            }
        })
    }

    fn vouch(&self, log: &str, is_known: bool) {
        if log == Side::Directus.name() {
            self.ties.send_modify(|ties| {
                ties.directus = is_known;
                // Canonical cannot go back while a session over it lasts.
                ties.canonical |= is_known;
            });
        }
    }

    fn until_canonical_is_known(&self) -> Answer<'_, bool> {
        Box::pin(async move {
            let mut ties = self.ties.subscribe();
            let known = timeout(CANONICAL_PATIENCE, ties.wait_for(|ties| ties.canonical)).await;
            Ok(matches!(known, Ok(Ok(_))))
        })
    }
}
