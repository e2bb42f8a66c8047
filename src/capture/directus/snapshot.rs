//! A full read of tables at one exported snapshot, by several connections at once, as parts of one delivery.
//! What is known of the side and not in the snapshot is reported as gone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::TryStreamExt;
use tokio::{sync::watch, task::JoinSet};
use tokio_postgres::Client;

use crate::{
    capture::KnownKeys,
    mapping::Mapping,
    model::{Change, Delivery, Element, EntityNo, FieldNo, Observation, Side, SideKey},
    queue::Outlet,
};

use super::{
    catalog::{self, TableFacts},
    connect::connect,
    convert::Plan,
    copy_text::CopyRow,
    error::Error,
    extra::Extras,
    gates::Gates,
    layout::{LayoutTable, Role, TableName, literal, quote},
    settings::{CaptureStatus, Links, SourceSettings, TableProgress},
};

/// Rows and bytes in one part.
const PART_ROW_COUNT_MAX: usize = 2_000;
const PART_BYTES_MAX: usize = 1024 * 1024;
/// Pages of one piece of work: 16 MiB.
const PAGE_COUNT: u32 = 2_048;

/// Connections that see the database as it was when a slot began.
pub(super) struct Snapshot {
    readers: Vec<Arc<Client>>,
    /// A larger value is refused.
    value_bytes_max: usize,
}

/// What the canonical database knew of some tables *before* the snapshot: what is not in the snapshot is gone.
#[derive(Default)]
pub(super) struct Known {
    records: HashMap<EntityNo, HashSet<SideKey>>,
    elements: HashMap<(EntityNo, FieldNo), HashSet<SideKey>>,
}

impl Known {
    /// Asks for all that the tables hold. To be called before the slot is made: a record that becomes known
    /// while the snapshot is taken may be younger than it.
    pub(super) async fn ask<'a>(
        keys: &dyn KnownKeys,
        tables: impl Iterator<Item = &'a LayoutTable>,
    ) -> Result<Self, Error> {
        let mut known = Self::default();
        let failed = |source| Error::KnownKeys { source };
        for role in tables.flat_map(|table| &table.roles) {
            match role {
                Role::Record { entity, .. } => {
                    let found = keys.keys(Side::Directus, *entity).await.map_err(failed)?;
                    known.records.insert(*entity, found.into_iter().collect());
                }
                Role::Element { entity, field, .. } => {
                    let found =
                        keys.elements(Side::Directus, *entity, *field).await.map_err(failed)?;
                    known.elements.insert((*entity, *field), found.into_iter().collect());
                }
            }
        }
        Ok(known)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.values().all(HashSet::is_empty)
            && self.elements.values().all(HashSet::is_empty)
    }

    fn see(&mut self, observations: &[Observation]) {
        for observation in observations {
            match &observation.change {
                Change::Element(element) => {
                    if let Some(rows) = self.elements.get_mut(&(observation.entity, element.field))
                    {
                        rows.remove(&element.row);
                    }
                }
                _ => {
                    if let Some(keys) = self.records.get_mut(&observation.entity) {
                        keys.remove(&observation.key);
                    }
                }
            }
        }
    }

    fn into_absent(self) -> impl Iterator<Item = Observation> {
        let records = self.records.into_iter().flat_map(|(entity, keys)| {
            keys.into_iter().map(move |key| Observation { entity, key, change: Change::Absent })
        });
        let elements = self.elements.into_iter().flat_map(|((entity, field), rows)| {
            rows.into_iter().map(move |row| Observation {
                entity,
                key: "".into(),
                change: Change::Element(Element { field, row, element: None, columns: None }),
            })
        });
        elements.chain(records)
    }
}

/// A table to read, and what the catalogue says of it.
#[derive(Clone)]
pub(super) struct ReadTable {
    pub(super) table: LayoutTable,
    pub(super) facts: TableFacts,
}

/// Where what is read goes.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) mapping: Arc<Mapping>,
    pub(super) deliveries: Outlet,
    pub(super) status: watch::Sender<CaptureStatus>,
    pub(super) gates: Gates,
}

impl Sink {
    pub(super) fn of(links: &Links, gates: &Gates) -> Self {
        Self {
            mapping: Arc::clone(&links.mapping),
            deliveries: links.deliveries.clone(),
            status: links.status.clone(),
            gates: gates.clone(),
        }
    }
}

impl Snapshot {
    /// Connects the readers and lets them see the snapshot `name`; from then on its exporter may go.
    pub(super) async fn import(
        source: &SourceSettings,
        name: &str,
        reader_count: usize,
    ) -> Result<Self, Error> {
        let mut readers = Vec::new();
        for _ in 0..reader_count.max(1) {
            let client = connect(source).await?;
            let begin = format!(
                "begin isolation level repeatable read read only; set transaction snapshot {}",
                literal(name)
            );
            client.batch_execute(&begin).await.map_err(Error::sql("import the snapshot"))?;
            readers.push(Arc::new(client));
        }
        Ok(Self { readers, value_bytes_max: source.message_bytes_max })
    }

    /// What the catalogue said of the tables then.
    pub(super) async fn facts(
        &self,
        names: &[TableName],
    ) -> Result<BTreeMap<TableName, TableFacts>, Error> {
        match self.readers.first() {
            Some(client) => catalog::tables(client, names).await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Reads the tables, one after the other, each by all readers, and reports what is gone. `absent_first`: before
    /// what is there, for which everything is read twice: a record that is there under another name is found among
    /// those that are gone.
    ///
    /// # Errors
    /// `Stopped` when nobody takes the parts any more. Parts may have been handed over then.
    pub(super) async fn read(
        &self,
        tables: &[ReadTable],
        known: Known,
        sink: &Sink,
        absent_first: bool,
    ) -> Result<(), Error> {
        sink.status.send_modify(|status| {
            status.snapshot = tables
                .iter()
                .map(|table| TableProgress {
                    table: table.table.name.to_string(),
                    row_count_estimated: table.facts.row_count_estimated,
                    ..TableProgress::default()
                })
                .collect();
        });
        let mut known = if known.is_empty() { None } else { Some(Arc::new(Mutex::new(known))) };
        if absent_first && let Some(known) = known.take() {
            for (at, table) in tables.iter().enumerate() {
                self.read_table(at, table, Some(&known), sink, true).await?;
            }
            report_absent(&known, sink).await?;
        }
        for (at, table) in tables.iter().enumerate() {
            let row_count = self.read_table(at, table, known.as_ref(), sink, false).await?;
            tracing::info!(table = %table.table.name, row_count, "read table");
            sink.status.send_modify(|status| {
                if let Some(progress) = status.snapshot.get_mut(at) {
                    progress.done = true;
                }
            });
        }
        match known {
            Some(known) => report_absent(&known, sink).await,
            None => Ok(()),
        }
    }

    async fn read_table(
        &self,
        number: usize,
        table: &ReadTable,
        known: Option<&Arc<Mutex<Known>>>,
        sink: &Sink,
        is_look: bool,
    ) -> Result<u64, Error> {
        let columns = table.facts.read(&table.table);
        let (plan, _) =
            Plan::new(&table.table, &sink.gates, |name| columns.iter().position(|c| *c == name));
        let typed = columns
            .iter()
            .map(|name| (*name, table.facts.column(name).map_or(0, |column| column.type_oid)));
        let plan = plan.with_extras(&Extras::new(&table.table, typed));
        let plan = plan.with_value_bytes_max(self.value_bytes_max);
        let list: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let select = format!("select {} from {}", list.join(", "), table.table.name.quoted());
        let pieces = Arc::new(self.pieces(table, &select).await?);
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for client in self.readers.iter().take(pieces.len()) {
            let reader = Reader {
                client: Arc::clone(client),
                pieces: Arc::clone(&pieces),
                next: Arc::clone(&next),
                plan: plan.clone(),
                column_count: columns.len(),
                table: table.table.name.to_string(),
                number,
                known: known.cloned(),
                sink: sink.clone(),
                is_look,
            };
            tasks.spawn(reader.run());
        }
        let mut row_count = 0;
        while let Some(ended) = tasks.join_next().await {
            row_count += ended.map_err(|error| Error::Task { text: error.to_string() })??;
        }
        Ok(row_count)
    }

    /// The statements that together copy the table: ranges of pages, the last of them open, because the
    /// table may have grown since it was measured. A partitioned table has no pages of its own.
    async fn pieces(&self, table: &ReadTable, select: &str) -> Result<Vec<String>, Error> {
        if table.facts.kind != 'r' {
            return Ok(vec![format!("copy ({select}) to stdout")]);
        }
        let Some(client) = self.readers.first() else { return Ok(Vec::new()) };
        let row = client
            .query_one(
                "select (pg_relation_size($1::oid) / current_setting('block_size')::bigint)::bigint",
                &[&table.facts.oid],
            )
            .await
            .map_err(Error::sql(format!("measure table {}", table.table.name)))?;
        let page_count = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
        let mut pieces = Vec::new();
        let mut from = 0;
        loop {
            let to = from + PAGE_COUNT;
            if to >= page_count {
                pieces.push(format!("copy ({select} where ctid >= '({from},0)') to stdout"));
                return Ok(pieces);
            }
            pieces.push(format!(
                "copy ({select} where ctid >= '({from},0)' and ctid < '({to},0)') to stdout"
            ));
            from = to;
        }
    }
}

/// Hands over that what is still known was not read.
async fn report_absent(known: &Mutex<Known>, sink: &Sink) -> Result<(), Error> {
    let known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));
    let mut part = Vec::new();
    for absent in known.into_absent() {
        part.push(absent);
        if part.len() == PART_ROW_COUNT_MAX {
            send(&sink.deliveries, std::mem::take(&mut part)).await?;
        }
    }
    send(&sink.deliveries, part).await
}

/// One connection at work on one table.
struct Reader {
    client: Arc<Client>,
    pieces: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    plan: Plan,
    column_count: usize,
    table: String,
    number: usize,
    known: Option<Arc<Mutex<Known>>>,
    sink: Sink,
    /// What is read is noted as known, and handed to nobody.
    is_look: bool,
}

impl Reader {
    async fn run(self) -> Result<u64, Error> {
        let mut row_count = 0;
        let mut part = Part::default();
        while let Some(sql) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let copying = || Error::sql(format!("copy table {}", self.table));
            let stream = self.client.copy_out(sql).await.map_err(copying())?;
            tokio::pin!(stream);
            // The server sends a row a message; should it not, the rest waits here for its line end.
            let mut rest = Vec::new();
            while let Some(bytes) = stream.try_next().await.map_err(copying())? {
                let mut bytes = &bytes[..];
                while let Some(end) = line_end(bytes) {
                    if rest.is_empty() {
                        self.take(&bytes[..end], &mut part)?;
                    } else {
                        rest.extend_from_slice(&bytes[..end]);
                        self.take(&rest, &mut part)?;
                        rest.clear();
                    }
                    bytes = &bytes[end + 1..];
                }
                rest.extend_from_slice(bytes);
                if part.row_count >= PART_ROW_COUNT_MAX || part.bytes >= PART_BYTES_MAX {
                    row_count += self.hand_over(&mut part).await?;
                }
            }
        }
        row_count += self.hand_over(&mut part).await?;
        Ok(row_count)
    }

    fn take(&self, line: &[u8], part: &mut Part) -> Result<(), Error> {
        part.row.split(line);
        // A column of no name at all would make one of none; every table has its key.
        if part.row.len() != self.column_count {
            return Err(Error::Task {
                text: format!(
                    "a row of table {} came with {} columns instead of {}",
                    self.table,
                    part.row.len(),
                    self.column_count
                ),
            });
        }
        part.bytes += line.len();
        part.row_count += 1;
        let read = self.plan.present(&self.sink.mapping, &part.row, &mut part.observations);
        if read.is_err() {
            tracing::warn!(table = self.table, "skipped a row whose key can't be read");
        }
        Ok(())
    }

    async fn hand_over(&self, part: &mut Part) -> Result<u64, Error> {
        let row_count = part.row_count as u64;
        if row_count == 0 {
            return Ok(0);
        }
        let observations = std::mem::take(&mut part.observations);
        part.observations.reserve(observations.len());
        (part.row_count, part.bytes) = (0, 0);
        if let Some(known) = &self.known {
            known.lock().unwrap_or_else(PoisonError::into_inner).see(&observations);
        }
        if self.is_look {
            return Ok(row_count);
        }
        send(&self.sink.deliveries, observations).await?;
        self.sink.status.send_modify(|status| {
            status.row_count += row_count;
            if let Some(progress) = status.snapshot.get_mut(self.number) {
                progress.row_count += row_count;
            }
        });
        Ok(row_count)
    }
}

/// Rows read and not yet handed over.
#[derive(Default)]
struct Part {
    row: CopyRow,
    observations: Vec<Observation>,
    row_count: usize,
    bytes: usize,
}

/// One row as it is now, by its key; `None`: there is none.
pub(super) async fn read_row(
    client: &Client,
    mapping: &Mapping,
    table: &ReadTable,
    entity: EntityNo,
    key: &SideKey,
    value_bytes_max: usize,
) -> Result<Option<Observation>, Error> {
    let of_it = |role: &&Role| matches!(role, Role::Record { entity: no, .. } if *no == entity);
    let Some(role) = table.table.roles.iter().find(of_it) else { return Ok(None) };
    let layout = LayoutTable { name: table.table.name.clone(), roles: vec![role.clone()] };
    let columns = table.facts.carried(&layout);
    // It was judged by the log: what is asked for here are its cells.
    let unfiltered = LayoutTable { name: layout.name.clone(), roles: vec![role.unfiltered()] };
    let (plan, _) = Plan::new(&unfiltered, &Gates::default(), |name| {
        columns.iter().position(|column| *column == name)
    });
    let plan = plan.with_value_bytes_max(value_bytes_max);
    let list: Vec<String> = columns.iter().map(|column| quote(column)).collect();
    let sql = format!(
        "copy (select {} from {} where {}::text = {}) to stdout",
        list.join(", "),
        layout.name.quoted(),
        quote(role.key()),
        literal(&key.0)
    );
    let reading = || Error::sql(format!("read a row of table {}", layout.name));
    let stream = client.copy_out(&sql).await.map_err(reading())?;
    tokio::pin!(stream);
    let mut bytes = Vec::new();
    while let Some(some) = stream.try_next().await.map_err(reading())? {
        bytes.extend_from_slice(&some);
    }
    let Some(end) = line_end(&bytes) else { return Ok(None) };
    let (mut row, mut out) = (CopyRow::default(), Vec::new());
    row.split(&bytes[..end]);
    if plan.present(mapping, &row, &mut out).is_err() {
        return Ok(None);
    }
    Ok(out.pop())
}

pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    match bytes.split_last() {
        // Nearly always: one row, whose line end is the last byte. A line end in a value is escaped.
        Some((b'\n', row)) if !row.contains(&b'\n') => Some(row.len()),
        _ => bytes.iter().position(|byte| *byte == b'\n'),
    }
}

async fn send(deliveries: &Outlet, observations: Vec<Observation>) -> Result<(), Error> {
    if observations.is_empty() {
        return Ok(());
    }
    let part = Delivery::Part { side: Side::Directus, observations };
    deliveries.send(part).await.map_err(|_| Error::Stopped)
}
