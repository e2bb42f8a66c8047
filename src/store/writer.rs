//! The one who writes, over one connection, and reads what it needs for that over another: a batch is read
//! while the one before it is written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::{Client, Row, types::ToSql};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use uuid::Uuid;

use super::{
    Canonical, Error, Keeper, approval,
    catalog::TableShape,
    connect,
    lease::{self, Candidate, Lease},
    operation::Marks,
    session::{Call, Param, Session},
    shapes,
    write::{EntityWrites, Writes},
};
use crate::{
    mapping::Mapping,
    model::{EntityNo, RecordId, Side, SideKey},
};

/// A wait for a lock is begun again after this: so it is known to be one, and the queue behind it moves.
const LOCK_TIMEOUT: &str = "set lock_timeout = '5s'";

/// A link that was refused because a record it points to had not arrived.
#[derive(Clone, Debug)]
pub(crate) struct WaitingLink {
    pub(crate) entity: EntityNo,
    pub(crate) key: SideKey,
    pub(crate) field: String,
    pub(crate) waits_for: Vec<String>,
    pub(crate) transaction: i64,
    pub(crate) at: i64,
}

/// The keys of an entity's records that are present on a side: `$1`, with its name; `$2`, the entity's number.
pub(super) fn living_keys(table: &str, is_linked: bool, side: Side) -> String {
    // A key that is not linked is the canonical id, except on a side whose keys never are.
    let unlinked = if side == Side::Airtable { "null" } else { "t.id::text" };
    let (key, join) = if is_linked {
        (
            format!("coalesce(l.side_key, {unlinked})"),
            "left join mirror.link l on l.record_id = t.id and l.entity_no = $2 and l.side = $1",
        )
    } else {
        (unlinked.to_owned(), "")
    };
    format!(
        "select key from (
             select {key} as key from {table} t {join}
             where not exists (select from mirror.absence a
                 where a.record_id = t.id and a.entity_no = $2 and a.side = $1)) k
         where key is not null"
    )
}

/// The keys of all known rows of a side's junction table: `$1`, the side's name; `$2`, the entity's number; `$3`,
/// the field's name.
pub(super) const ELEMENT_ROWS: &str =
    "select row_key from mirror.element where side = $1 and entity_no = $2 and field = $3";

/// The apply path's connections, and what it keeps in mind of the database: it is the only writer.
pub(crate) struct Writer {
    write: Session,
    read: Session,
    canonical: Canonical,
    /// The writer's place, as [`super::lease`] gave it: its epoch, and whose it is.
    lease: (i64, Uuid),
    /// What each transaction begins with.
    begin: Arc<str>,
    /// Between [`Writer::begin`] and the end of that transaction.
    is_open: bool,
    pub(super) mapping: Arc<Mapping>,
    pub(super) shapes: Vec<TableShape>,
    /// `mirror.entity`'s number of each entity.
    pub(super) entity_numbers: Vec<i16>,
    next_transaction_id: i64,
    next_journal_id: i64,
    /// Pairs with at least one row in `mirror.link`: others are not looked up.
    linked: HashSet<(Side, EntityNo)>,
    /// Pairs with at least one row in `mirror.refusal`.
    pub(super) refused: HashSet<(Side, EntityNo)>,
    /// Entities with at least one row in `mirror.pending_delete`.
    pub(super) doomed: HashSet<EntityNo>,
    /// Pairs in which the side lacks records that it never had, if anybody is still to be found among them.
    pub(super) lacking: HashSet<(Side, EntityNo)>,
    pub(super) marks: Arc<Marks>,
    /// Entities some of whose junction rows have columns of their own.
    pub(super) columned: HashSet<EntityNo>,
}

impl Writer {
    /// Connects, takes the place of the only writer, and compares the mapping with the tables.
    ///
    /// # Errors
    /// [`Error::Locked`] if another plait holds that place; [`Error::Shape`] where mapping and tables differ.
    pub(crate) async fn open(config: &Canonical, mapping: Mapping) -> Result<Self, Error> {
        let lease = lease::take(config, &Candidate::new(None)).await?;
        Self::with(lease, config, mapping).await
    }

    /// Compares the mapping with the tables, in the writer's place.
    ///
    /// # Errors
    /// [`Error::Shape`] where they differ.
    pub(crate) async fn with(
        lease: Lease,
        config: &Canonical,
        mut mapping: Mapping,
    ) -> Result<Self, Error> {
        let (client, lease) = lease.into_parts();
        let shapes = shapes(&client, &mut mapping).await?;
        let mut entity_numbers = Vec::new();
        for entity in &mapping.entities {
            let row = client
                .query_one(
                    "with known as (select entity_no from mirror.entity where name = $1), made as (
                         insert into mirror.entity (entity_no, name)
                         select (select coalesce(max(entity_no), 0) + 1 from mirror.entity), $1
                         where not exists (select from known) returning entity_no)
                     select entity_no from known union all select entity_no from made",
                    &[&entity.name],
                )
                .await?;
            entity_numbers.push(row.get(0));
        }
        let tables: Vec<&str> = shapes.iter().map(|shape| shape.table.as_str()).collect();
        approval::compare_places(&client, &mapping, &tables, &entity_numbers).await?;
        let ids = client
            .query_one(
                "select (select coalesce(max(source_transaction_id), 0) + 1 from mirror.source_transaction),
                        (select coalesce(max(journal_id), 0) + 1 from mirror.journal)",
                &[],
            )
            .await?;
        let marks = Arc::new(Marks::new(mapping.entities.len()));
        let reader = connect(config).await?;
        for client in [&client, &reader] {
            client.batch_execute(LOCK_TIMEOUT).await?;
        }
        let mut writer = Self {
            write: Session::new(client),
            read: Session::new(reader),
            canonical: config.clone(),
            lease,
            begin: format!("begin; {}", lease::hold(lease.0)).into(),
            is_open: false,
            mapping: Arc::new(mapping),
            shapes,
            entity_numbers,
            next_transaction_id: ids.get(0),
            next_journal_id: ids.get(1),
            linked: HashSet::new(),
            refused: HashSet::new(),
            doomed: HashSet::new(),
            lacking: HashSet::new(),
            marks,
            columned: HashSet::new(),
        };
        writer.read_columns().await?;
        writer.linked = writer.pairs_in("mirror.link").await?;
        writer.refused = writer.pairs_in("mirror.refusal").await?;
        writer.lacking = writer
            .pairs_in("(select side, entity_no from mirror.absence where not was_deleted) a")
            .await?;
        let second = |pairs: HashSet<(Side, EntityNo)>| pairs.into_iter().map(|(_, entity)| entity);
        writer.doomed = second(writer.pairs_in("mirror.pending_delete").await?).collect();
        for entity in second(writer.pairs_in("mirror.operation").await?) {
            writer.marks.note_operation(entity);
        }
        for entity in second(writer.pairs_in("mirror.parked").await?) {
            writer.marks.note_parked(entity);
        }
        let stops = "select exists (select from mirror.mass_change where ended_at is null)";
        if writer.client().query_one(stops, &[]).await?.get(0) {
            writer.marks.note_stop();
        }
        Ok(writer)
    }

    /// Who keeps the writer's place, and watches over the connections.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::new(&self.canonical, self.lease, [self.write.clone(), self.read.clone()])
    }

    pub(super) fn epoch(&self) -> i64 {
        self.lease.0
    }

    /// `mirror.entity`'s number of each entity.
    pub(crate) fn entity_numbers(&self) -> &[i16] {
        &self.entity_numbers
    }

    /// The server processes of the connections.
    pub(crate) async fn backend_pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for session in [&self.write, &self.read] {
            pids.push(session.client().query_one("select pg_backend_pid()", &[]).await?.get(0));
        }
        Ok(pids)
    }

    /// The mapping, with what the tables' types add to it.
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Where push notes what it brings into tables that are read here.
    pub(crate) fn marks(&self) -> Arc<Marks> {
        Arc::clone(&self.marks)
    }

    async fn pairs_in(&self, table: &str) -> Result<HashSet<(Side, EntityNo)>, Error> {
        let mut pairs = HashSet::new();
        for side in Side::ALL {
            for (at, number) in self.entity_numbers.iter().enumerate() {
                let sql = format!(
                    "select exists (select from {table} where side = $1 and entity_no = $2)"
                );
                let row = self.client().query_one(&sql, &[&side.name(), number]).await?;
                if row.get(0) {
                    pairs.insert((side, EntityNo(u16::try_from(at).unwrap_or(u16::MAX))));
                }
            }
        }
        Ok(pairs)
    }

    pub(super) fn entity_number(&self, entity: EntityNo) -> i16 {
        self.entity_numbers[usize::from(entity.0)]
    }

    /// All of them, in the mapping's order.
    pub(crate) fn shapes(&self) -> &[TableShape] {
        &self.shapes
    }

    pub(super) fn shape(&self, entity: EntityNo) -> &TableShape {
        &self.shapes[usize::from(entity.0)]
    }

    /// The next transaction's id. Ids grow in the order of application.
    pub(crate) fn new_transaction_id(&mut self) -> i64 {
        self.next_transaction_id += 1;
        self.next_transaction_id - 1
    }

    pub(crate) fn new_journal_id(&mut self) -> i64 {
        self.next_journal_id += 1;
        self.next_journal_id - 1
    }

    /// Whether keys of this side have to be looked up; a UUID is otherwise the canonical id itself.
    pub(crate) fn is_linked(&self, side: Side, entity: EntityNo) -> bool {
        side == Side::Airtable || self.linked.contains(&(side, entity))
    }

    /// Whether any cell of this side's records was refused and is still listed.
    pub(crate) fn has_refusals(&self, side: Side, entity: EntityNo) -> bool {
        self.refused.contains(&(side, entity))
    }

    /// Whether any refused cell is listed at all.
    pub(crate) fn any_refusals(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Inside an open transaction, reads see what it has written.
    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        if self.is_open {
            // After a failure, a transaction takes no more.
            return self.write.query(sql, params).await;
        }
        self.read.query_patiently(sql, params).await
    }

    /// Several queries at once; the answers in their order.
    pub(super) async fn query_all(
        &self,
        queries: &[(String, Vec<Param>)],
    ) -> Result<Vec<Vec<Row>>, Error> {
        if self.is_open {
            return self.write.query_all(queries).await;
        }
        self.read.query_all_patiently(queries).await
    }

    /// The connection that an open transaction lives on.
    pub(super) fn client(&self) -> &Client {
        self.write.client()
    }

    /// Opens a transaction that several chunks are written in.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.client().batch_execute(&self.begin).await?;
        self.is_open = true;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.is_open = false;
        Ok(self.client().batch_execute("commit").await?)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), Error> {
        self.is_open = false;
        Ok(self.client().batch_execute("rollback").await?)
    }

    /// Sends the calls of a batch as one transaction, and does not wait for it: until it has ended, nothing else
    /// may be written.
    ///
    /// # Errors
    /// In its outcome: nothing was written then. [`Error::is_about_data`] tells whether a record is at fault.
    pub(crate) fn write(&self, calls: Vec<Call>) -> AbortOnDropHandle<Result<(), Error>> {
        let (session, begin) = (self.write.clone(), Arc::clone(&self.begin));
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let outcome = session.send(&begin, &calls, "commit").await;
                if outcome.is_err() {
                    // Over already, if the commit was sent; or the connection is gone: the first error is the one to tell.
                    drop(session.client().batch_execute("rollback").await);
                }
                match outcome {
                    // Somebody holds a lock; `status` says who. Nothing else writes meanwhile, so all of it still holds.
                    Err(error) if error.is_lock_wait() => debug!("a batch waits for a lock"),
                    outcome => return outcome,
                }
            }
        }))
    }

    /// Writes a part of the transaction that [`Writer::begin`] opened, all constraints checked at its end.
    ///
    /// # Errors
    /// Nothing of this part was written then; the parts before it stand.
    pub(crate) async fn write_part(&mut self, writes: &Writes) -> Result<(), Error> {
        const END: &str =
            "set constraints all immediate; set constraints all deferred; release savepoint part";
        let calls = self.calls(writes);
        loop {
            match self.write.send("savepoint part", &calls, END).await {
                Ok(()) => {
                    self.note(writes);
                    return Ok(());
                }
                Err(error) => {
                    debug!(%error, "a part was refused");
                    self.client().batch_execute("rollback to savepoint part").await?;
                    if !error.is_lock_wait() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Keeps in mind what `writes`, which are written now, have brought into tables that may be empty.
    pub(crate) fn note(&mut self, writes: &Writes) {
        writes.entities.iter().for_each(|entity| self.note_columns(entity));
        for entity in &writes.entities {
            self.linked.extend(entity.links.iter().map(|link| (link.side, entity.entity)));
        }
        for entity in &writes.entities {
            let lacking = entity.absences.iter().filter(|row| !row.was_deleted);
            self.lacking.extend(lacking.map(|row| (row.side, entity.entity)));
        }
        self.refused.extend(writes.refusals.iter().map(|row| (row.side, row.entity)));
        let has_doomed = |entity: &&EntityWrites| !entity.doomed.is_empty();
        self.doomed.extend(writes.entities.iter().filter(has_doomed).map(|entity| entity.entity));
        for entity in writes.entities.iter().filter(|entity| !entity.parked.is_empty()) {
            self.marks.note_parked(entity.entity);
        }
    }

    /// Which canonical records these keys of a side are; a key that is not linked is not in the answer.
    pub(crate) async fn linked_records(
        &self,
        side: Side,
        entity: EntityNo,
        keys: &[&str],
    ) -> Result<HashMap<SideKey, RecordId>, Error> {
        let rows = self
            .query(
                "select side_key, record_id from mirror.link where side = $1 and entity_no = $2 and side_key = any($3)",
                &[&side.name(), &self.entity_number(entity), &keys],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| (SideKey::from(row.get::<_, &str>(0)), RecordId(row.get(1))))
            .collect())
    }

    /// By which keys a side knows these records, where that is not the canonical id itself.
    pub(crate) async fn linked_keys(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashMap<RecordId, SideKey>, Error> {
        let rows = self
            .query(
                "select record_id, side_key from mirror.link where side = $1 and entity_no = $2 and record_id = any($3)",
                &[&side.name(), &self.entity_number(entity), &records],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| (RecordId(row.get(0)), SideKey::from(row.get::<_, &str>(1))))
            .collect())
    }

    /// The keys by which `side` has the living records of `entity`.
    pub(crate) async fn keys(&self, side: Side, entity: EntityNo) -> Result<Vec<SideKey>, Error> {
        let sql = living_keys(&self.shape(entity).table, self.is_linked(side, entity), side);
        let rows = self.query(&sql, &[&side.name(), &self.entity_number(entity)]).await?;
        Ok(rows.iter().map(|row| SideKey::from(row.get::<_, &str>(0))).collect())
    }

    /// Refused links of `side` that wait for one of `keys`: record's entity and key, field, all awaited keys,
    /// the transaction that brought them and its time in µs.
    pub(crate) async fn waiting_links(
        &self,
        side: Side,
        keys: &[&str],
    ) -> Result<Vec<WaitingLink>, Error> {
        let rows = self
            .query(
                "select r.entity_no, r.side_key, r.field, r.waits_for, r.source_transaction_id,
                        coalesce((extract(epoch from t.at) * 1000000)::bigint, 0)
                 from mirror.refusal r left join mirror.source_transaction t using (source_transaction_id)
                 where r.side = $1 and r.waits_for && $2",
                &[&side.name(), &keys],
            )
            .await?;
        let entity_of = |number: i16| self.entity_numbers.iter().position(|known| *known == number);
        Ok(rows
            .iter()
            .filter_map(|row| {
                Some(WaitingLink {
                    entity: EntityNo(u16::try_from(entity_of(row.get(0))?).ok()?),
                    key: SideKey::from(row.get::<_, &str>(1)),
                    field: row.get(2),
                    waits_for: row.get(3),
                    transaction: row.get(4),
                    at: row.get(5),
                })
            })
            .collect())
    }

    /// Of `records`, those that `side` is known to have deleted or never had; it does not have them outside the rows that
    /// are mirrored either.
    pub(crate) async fn absent(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashSet<RecordId>, Error> {
        let rows = self
            .query(
                "select record_id from mirror.absence where side = $1 and entity_no = $2 and record_id = any($3) and not is_outside",
                &[&side.name(), &self.entity_number(entity), &records],
            )
            .await?;
        Ok(rows.iter().map(|row| RecordId(row.get(0))).collect())
    }
}
