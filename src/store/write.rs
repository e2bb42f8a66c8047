//! What a batch changes, and the statements that write it: one a kind and table, whatever the number of rows.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    catalog::quoted,
    column::Column,
    copy_binary::CopyBinary,
    decided::{CommandRow, VerdictRow, YesRow},
    identity::{MatchRow, MoveRow, QuestionRow},
    mass::{LetRow, ReadEnd, StopRow},
    owed::{DoomRow, DueRow, ParkRow},
    passage::PassageRow,
    session::{Call, Feed, Param},
    settling::QuietRow,
    unfit::{AcceptedRow, UnfitRow},
    writer::Writer,
};
use crate::{
    mapping::Store,
    merge::{Action, RecordState},
    model::{
        Author, EntityNo, FieldNo, Position, RawText, RecordId, RefusalKind, Side, SideKey, Stamp,
        Value,
    },
};

/// A guess, seldom too small.
const JOURNAL_ROW_BYTES: usize = 512;

/// In place of a field's name: all of the record was refused.
pub(crate) const WHOLE_RECORD: &str = "*";

/// All that one batch, or one part of a large transaction, writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) entities: Vec<EntityWrites>,
    pub(crate) transactions: Vec<TransactionRow>,
    pub(crate) journal: Vec<JournalRow>,
    /// In the order of the logs: a cell may be in conflict, agree, and be in conflict again in one batch.
    pub(crate) conflicts: Vec<ConflictStep>,
    pub(crate) transitions: Vec<TransitionRow>,
    pub(crate) refusals: Vec<RefusalRow>,
    pub(crate) accepted: Vec<AcceptedRow>,
    pub(crate) unfit: Vec<UnfitRow>,
    pub(crate) positions: Vec<PositionRow>,
    /// Our own writes whose effect was read: (operation, entity, record).
    pub(crate) settled: Vec<(Uuid, EntityNo, RecordId)>,
    /// How many in a row of our own writes were answered (`merge::answer`): (operation, entity, record, count).
    pub(crate) answered: Vec<(Uuid, EntityNo, RecordId, u16)>,
    pub(crate) verdicts: Vec<VerdictRow>,
    pub(crate) yeses: Vec<YesRow>,
    pub(crate) commands: Vec<CommandRow>,
    pub(crate) matches: Vec<MatchRow>,
    pub(crate) questions: Vec<QuestionRow>,
    pub(crate) moves: Vec<MoveRow>,
    /// Rows of the outbox whose wait for quiet is over.
    pub(crate) quiet: Vec<QuietRow>,
    pub(crate) passages: Vec<PassageRow>,
    /// Of the guard for mass changes, behind what is due.
    pub(crate) stops: Vec<StopRow>,
    pub(crate) read_ends: Vec<ReadEnd>,
    pub(crate) let_through: Vec<LetRow>,
}

/// Changes to one entity's tables.
#[derive(Debug)]
pub(crate) struct EntityWrites {
    pub(crate) entity: EntityNo,
    pub(crate) inserts: Vec<(RecordId, Arc<RecordState>)>,
    /// Only the columns of `changed` are written.
    pub(crate) updates: Vec<(RecordId, Arc<RecordState>)>,
    /// A flag a field: some row of `updates` changes it.
    pub(crate) changed: Vec<bool>,
    pub(crate) deletes: Vec<RecordId>,
    /// `deleted_at`, µs; `None` clears it.
    pub(crate) marks: Vec<(RecordId, Option<i64>)>,
    pub(crate) sets: Vec<SetChange>,
    pub(crate) shadows: Vec<ShadowRow>,
    pub(crate) shadows_gone: Vec<(RecordId, Side, String)>,
    pub(crate) absences: Vec<AbsenceRow>,
    pub(crate) absences_gone: Vec<(RecordId, Side)>,
    pub(crate) links: Vec<LinkRow>,
    pub(crate) links_gone: Vec<(Side, SideKey)>,
    pub(crate) tombstones: Vec<(RecordId, i64)>,
    /// Side, field, row; `None`: gone.
    pub(crate) elements: Vec<(Side, String, SideKey, Option<ElementContent>)>,
    /// Something else than before is owed to a side.
    pub(crate) due: Vec<DueRow>,
    /// Nothing is owed any more.
    pub(crate) not_due: Vec<(RecordId, Side)>,
    pub(crate) doomed: Vec<DoomRow>,
    pub(crate) spared: Vec<(RecordId, Side)>,
    pub(crate) parked: Vec<ParkRow>,
    /// Cells whose canonical value changed: what a side did not take may be another one now.
    pub(crate) unparked: Vec<(RecordId, String)>,
}

/// What a row of a side's junction table means.
#[derive(Clone, Debug)]
pub(crate) struct ElementContent {
    pub(crate) record: RecordId,
    pub(crate) element: String,
    /// Its other columns, a JSON object.
    pub(crate) columns: Option<String>,
}

#[derive(Debug)]
pub(crate) struct SetChange {
    pub(crate) field: FieldNo,
    pub(crate) record: RecordId,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct ShadowRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) field: String,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) struct AbsenceRow {
    pub(crate) record: RecordId,
    pub(crate) side: Side,
    pub(crate) transaction: i64,
    pub(crate) was_deleted: bool,
    /// The side has it outside the rows that are mirrored.
    pub(crate) is_outside: bool,
}

#[derive(Debug)]
pub(crate) struct LinkRow {
    pub(crate) side: Side,
    pub(crate) key: SideKey,
    pub(crate) record: RecordId,
}

/// How far a log is applied.
#[derive(Debug)]
pub(crate) struct PositionRow {
    pub(crate) log: String,
    pub(crate) side: Side,
    /// Empty: as it was.
    pub(crate) position: String,
    /// What the position belongs to; `None`: as it was.
    pub(crate) identity: Option<serde_json::Value>,
}

#[derive(Clone, Debug)]
pub(crate) struct TransactionRow {
    pub(crate) id: i64,
    /// The side's name; `plait` for a person's decision.
    pub(crate) side: &'static str,
    /// µs since 1970 UTC.
    pub(crate) at: i64,
    pub(crate) position: Option<Position>,
    pub(crate) author: Author,
    pub(crate) operation: Option<Uuid>,
}

impl TransactionRow {
    pub(crate) fn of_side(id: i64, stamp: Stamp) -> Self {
        let Stamp { side, at, position, author, operation } = stamp;
        Self { id, side: side.name(), at, position, author, operation }
    }

    pub(crate) fn decided(id: i64, at: i64, author: &str) -> Self {
        Self::of_plait(id, at, author, "plait")
    }

    /// Records were found to be one by what they hold.
    pub(crate) fn matched(id: i64, at: i64, author: &str) -> Self {
        Self::of_plait(id, at, author, "match")
    }

    fn of_plait(id: i64, at: i64, author: &str, via: &str) -> Self {
        let author = Author { id: None, name: Some(author.to_owned()), via: via.to_owned() };
        Self { id, side: "plait", at, position: None, author, operation: None }
    }
}

#[derive(Debug)]
pub(crate) struct JournalRow {
    pub(crate) id: i64,
    pub(crate) transaction: i64,
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) action: Action,
    /// JSON objects.
    pub(crate) before: String,
    pub(crate) after: String,
}

#[derive(Debug)]
pub(crate) enum ConflictStep {
    Met(ConflictRow),
    /// A held conflict is over: the sides agree.
    Over(EntityNo, RecordId, String, Side),
}

#[derive(Debug)]
pub(crate) struct ConflictRow {
    pub(crate) entity: EntityNo,
    pub(crate) record: RecordId,
    pub(crate) field: Option<String>,
    pub(crate) side: Side,
    pub(crate) base: Option<serde_json::Value>,
    pub(crate) canonical: serde_json::Value,
    pub(crate) observed: serde_json::Value,
    pub(crate) transaction: i64,
    pub(crate) decision: &'static str,
}

/// A row for a table that keeps a field's changes, such as `stage_transition`.
#[derive(Debug)]
pub(crate) struct TransitionRow {
    pub(crate) entity: EntityNo,
    pub(crate) field: FieldNo,
    pub(crate) record: RecordId,
    pub(crate) before: Value,
    pub(crate) after: Value,
    pub(crate) transaction: i64,
}

#[derive(Debug)]
pub(crate) struct RefusalRow {
    pub(crate) side: Side,
    pub(crate) entity: EntityNo,
    pub(crate) key: SideKey,
    /// Which record it is of, where it may have been refused with something else in the cell before.
    pub(crate) record: Option<RecordId>,
    pub(crate) field: String,
    pub(crate) kind: RefusalKind,
    pub(crate) reason: String,
    /// What the cell holds.
    pub(crate) raw: Option<RawText>,
    pub(crate) waits_for: Option<Vec<String>>,
    pub(crate) transaction: i64,
}

impl EntityWrites {
    pub(crate) fn new(entity: EntityNo, field_count: usize) -> Self {
        Self {
            entity,
            inserts: Vec::new(),
            updates: Vec::new(),
            changed: vec![false; field_count],
            deletes: Vec::new(),
            marks: Vec::new(),
            sets: Vec::new(),
            shadows: Vec::new(),
            shadows_gone: Vec::new(),
            absences: Vec::new(),
            absences_gone: Vec::new(),
            links: Vec::new(),
            links_gone: Vec::new(),
            tombstones: Vec::new(),
            elements: Vec::new(),
            due: Vec::new(),
            not_due: Vec::new(),
            doomed: Vec::new(),
            spared: Vec::new(),
            parked: Vec::new(),
            unparked: Vec::new(),
        }
    }
}

/// Builds the calls of a batch.
pub(super) struct Calls<'a> {
    pub(super) writer: &'a Writer,
    calls: Vec<Call>,
}

impl Calls<'_> {
    pub(super) fn add(&mut self, sql: impl Into<Cow<'static, str>>, params: Vec<Param>) {
        self.calls.push(Call { sql: sql.into(), feed: Feed::Params(params) });
    }
}

/// Canonical rows as arrays: one of ids, one a column.
struct Rows {
    ids: Vec<Uuid>,
    /// Name and value of each column.
    columns: Vec<(String, String)>,
    types: Vec<&'static str>,
    arrays: Vec<Column>,
}

impl Rows {
    /// The columns of `rows` for whose fields `is_wanted` holds.
    fn new(
        writer: &Writer,
        entity: EntityNo,
        rows: &[(RecordId, Arc<RecordState>)],
        is_wanted: impl Fn(usize) -> bool,
    ) -> Self {
        let shape = writer.shape(entity);
        let states: Arc<[_]> = rows.iter().map(|(_, state)| Arc::clone(state)).collect();
        let mut these = Self {
            ids: rows.iter().map(|(record, _)| record.0).collect(),
            columns: Vec::new(),
            types: Vec::new(),
            arrays: Vec::new(),
        };
        for (at, field) in writer.mapping.entity(entity).fields.iter().enumerate() {
            let (Store::Column(name), Some(cast), true) =
                (&field.store, &shape.casts[at], is_wanted(at))
            else {
                continue;
            };
            let array = Column::new(&states, at);
            let element_type = array.element_type(cast);
            let no = these.arrays.len();
            let value = if element_type == "text" {
                format!("u.c{no}::{cast}")
            } else {
                format!("u.c{no}")
            };
            these.columns.push((quoted(name), value));
            these.types.push(element_type);
            these.arrays.push(array);
        }
        these
    }

    /// What stands after `from`: the parameters as a table `u`.
    fn unnest(&self) -> String {
        let (mut params, mut names) = (String::from("$1::uuid[]"), String::from("id"));
        for (no, element_type) in self.types.iter().enumerate() {
            params.push_str(&format!(", ${}::{element_type}[]", no + 2));
            names.push_str(&format!(", c{no}"));
        }
        format!("unnest({params}) as u ({names})")
    }

    fn params(self) -> Vec<Param> {
        let mut params: Vec<Param> = vec![Box::new(self.ids)];
        params.extend(self.arrays.into_iter().map(|array| Box::new(array) as Param));
        params
    }
}

/// A parameter that is an array: one element of each row.
pub(super) fn column<T, R>(rows: &[R], get: impl Fn(&R) -> T) -> Param
where
    Vec<T>: tokio_postgres::types::ToSql + Sync + Send + 'static,
{
    Box::new(rows.iter().map(get).collect::<Vec<T>>())
}

fn text(value: &Value) -> Option<String> {
    value.to_sql().map(std::borrow::Cow::into_owned)
}

impl Writer {
    /// What has to be sent to write all this, in order.
    pub(crate) fn calls(&self, writes: &Writes) -> Vec<Call> {
        let mut to = Calls { writer: self, calls: Vec::new() };
        to.transactions(&writes.transactions);
        for entity in &writes.entities {
            to.links(entity);
            to.inserts(entity);
        }
        for entity in &writes.entities {
            to.updates(entity);
            to.marks(entity);
            to.sets(entity);
            to.shadows(entity);
            to.absences(entity);
            to.elements(entity);
        }
        for entity in writes.entities.iter().rev() {
            to.deletes(entity);
        }
        for entity in &writes.entities {
            to.owed(entity);
        }
        to.mass_changes(writes);
        to.settled(&writes.settled);
        to.quiet(&writes.quiet);
        to.answered(&writes.answered);
        to.journal(&writes.journal);
        to.conflicts(writes);
        to.decided(writes);
        to.identity(writes);
        to.transitions(&self.mapping, &writes.transitions);
        to.refusals(writes);
        to.passages(writes);
        for row in &writes.positions {
            to.add(
                "insert into mirror.position (log, side, position, identity) values ($1, $2, $3, coalesce($4::jsonb, '{}'))
                 on conflict (log) do update set position = coalesce(nullif(excluded.position, ''), position.position),
                     identity = coalesce($4::jsonb, position.identity), stored_at = now()",
                vec![
                    Box::new(row.log.clone()),
                    Box::new(row.side.name()),
                    Box::new(row.position.clone()),
                    Box::new(row.identity.clone()),
                ],
            );
        }
        to.calls
    }
}

impl Calls<'_> {
    fn transactions(&mut self, rows: &[TransactionRow]) {
        if rows.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.source_transaction
                 (source_transaction_id, side, at, position, author_id, author_name, via, operation_id)
             select id, side, timestamptz 'epoch' + at * interval '1 microsecond', position, author_id, author_name, via, operation_id
             from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[])
                  as u (id, side, at, position, author_id, author_name, via, operation_id)",
            vec![
                column(rows, |row| row.id),
                column(rows, |row| row.side),
                column(rows, |row| row.at),
                column(rows, |row| row.position.as_ref().map(ToString::to_string)),
                column(rows, |row| row.author.id.clone()),
                column(rows, |row| row.author.name.clone()),
                column(rows, |row| row.author.via.clone()),
                column(rows, |row| row.operation),
            ],
        );
    }

    fn links(&mut self, writes: &EntityWrites) {
        let number = self.writer.entity_number(writes.entity);
        if !writes.links_gone.is_empty() {
            self.add(
                "delete from mirror.link l using unnest($2::text[], $3::text[]) as u (side, side_key)
                 where l.entity_no = $1 and l.side = u.side and l.side_key = u.side_key",
                vec![
                    Box::new(number),
                    column(&writes.links_gone, |(side, _)| side.name()),
                    column(&writes.links_gone, |(_, key)| key.to_string()),
                ],
            );
        }
        if writes.links.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.link (side, entity_no, side_key, record_id)
             select side, $1, side_key, record_id from unnest($2::text[], $3::text[], $4::uuid[]) as u (side, side_key, record_id)
             on conflict (record_id, entity_no, side) do update set side_key = excluded.side_key",
            vec![
                Box::new(number),
                column(&writes.links, |row| row.side.name()),
                column(&writes.links, |row| row.key.to_string()),
                column(&writes.links, |row| row.record.0),
            ],
        );
    }

    fn inserts(&mut self, writes: &EntityWrites) {
        let rows = Rows::new(self.writer, writes.entity, &writes.inserts, |_| true);
        if rows.ids.is_empty() {
            return;
        }
        let (mut names, mut values) = (vec!["id"], vec!["u.id"]);
        for (name, value) in &rows.columns {
            names.push(name);
            values.push(value);
        }
        let (names, values) = (names.join(", "), values.join(", "));
        let (table, unnest) = (&self.writer.shape(writes.entity).table, rows.unnest());
        let sql = format!("insert into {table} ({names}) select {values} from {unnest}");
        self.add(sql, rows.params());
    }

    fn updates(&mut self, writes: &EntityWrites) {
        let rows = Rows::new(self.writer, writes.entity, &writes.updates, |at| writes.changed[at]);
        if rows.ids.is_empty() || rows.columns.is_empty() {
            return;
        }
        let sets: Vec<String> =
            rows.columns.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let (table, unnest) = (&self.writer.shape(writes.entity).table, rows.unnest());
        let sql =
            format!("update {table} t set {} from {unnest} where t.id = u.id", sets.join(", "));
        self.add(sql, rows.params());
    }

    fn marks(&mut self, writes: &EntityWrites) {
        if writes.marks.is_empty() {
            return;
        }
        let table = &self.writer.shape(writes.entity).table;
        let sql = format!(
            "update {table} t set deleted_at = timestamptz 'epoch' + u.at * interval '1 microsecond'
             from unnest($1::uuid[], $2::bigint[]) as u (id, at) where t.id = u.id"
        );
        let params = vec![
            column(&writes.marks, |(record, _)| record.0),
            column(&writes.marks, |(_, at)| *at),
        ];
        self.add(sql, params);
    }

    fn deletes(&mut self, writes: &EntityWrites) {
        let number = self.writer.entity_number(writes.entity);
        if !writes.deletes.is_empty() {
            let sql = format!(
                "delete from {} where id = any($1)",
                self.writer.shape(writes.entity).table
            );
            self.add(sql, vec![column(&writes.deletes, |record| record.0)]);
        }
        if writes.tombstones.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.tombstone (record_id, entity_no, source_transaction_id)
             select record_id, $1, id from unnest($2::uuid[], $3::bigint[]) as u (record_id, id)
             on conflict (record_id, entity_no) do update set source_transaction_id = excluded.source_transaction_id",
            vec![
                Box::new(number),
                column(&writes.tombstones, |(record, _)| record.0),
                column(&writes.tombstones, |(_, id)| *id),
            ],
        );
    }

    fn sets(&mut self, writes: &EntityWrites) {
        let mapping = Arc::clone(&self.writer.mapping);
        for (at, field) in mapping.entity(writes.entity).fields.iter().enumerate() {
            let Store::Junction { table, parent, element } = &field.store else { continue };
            let cast =
                self.writer.shape(writes.entity).element_casts[at].clone().unwrap_or_default();
            let (table, parent, element) = (quoted(table), quoted(parent), quoted(element));
            let mine = || writes.sets.iter().filter(|change| usize::from(change.field.0) == at);
            let pairs = |get: fn(&SetChange) -> &Vec<String>| -> Vec<(Uuid, String)> {
                mine()
                    .flat_map(|change| {
                        get(change).iter().map(|text| (change.record.0, text.clone()))
                    })
                    .collect()
            };
            let (removed, added) = (pairs(|change| &change.removed), pairs(|change| &change.added));
            for (pairs, sql) in [
                (removed, format!(
                    "delete from canon.{table} t using unnest($1::uuid[], $2::text[]) as u (parent, element)
                     where t.{parent} = u.parent and t.{element} = u.element::{cast}")),
                (added, format!(
                    "insert into canon.{table} ({parent}, {element})
                     select parent, element::{cast} from unnest($1::uuid[], $2::text[]) as u (parent, element)
                     on conflict do nothing")),
            ] {
                if !pairs.is_empty() {
                    let params = vec![column(&pairs, |pair| pair.0), column(&pairs, |pair| pair.1.clone())];
                    self.add(sql, params);
                }
            }
        }
    }

    fn shadows(&mut self, writes: &EntityWrites) {
        let number = self.writer.entity_number(writes.entity);
        let gone = &writes.shadows_gone;
        if !gone.is_empty() {
            self.add(
                "delete from mirror.shadow s using unnest($2::uuid[], $3::text[], $4::text[]) as u (record_id, side, field)
                 where s.entity_no = $1 and s.record_id = u.record_id and s.side = u.side and s.field = u.field",
                vec![
                    Box::new(number),
                    column(gone, |(record, ..)| record.0),
                    column(gone, |(_, side, _)| side.name()),
                    column(gone, |(.., field)| field.clone()),
                ],
            );
        }
        let rows = &writes.shadows;
        if rows.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.shadow (record_id, entity_no, side, field, value)
             select record_id, $1, side, field, value::jsonb
             from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (record_id, side, field, value)
             on conflict (record_id, entity_no, side, field) do update set value = excluded.value",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.field.clone()),
                column(rows, |row| row.value.to_json().to_string()),
            ],
        );
    }

    fn absences(&mut self, writes: &EntityWrites) {
        let number = self.writer.entity_number(writes.entity);
        let gone = &writes.absences_gone;
        if !gone.is_empty() {
            self.add(
                "delete from mirror.absence a using unnest($2::uuid[], $3::text[]) as u (record_id, side)
                 where a.entity_no = $1 and a.record_id = u.record_id and a.side = u.side",
                vec![
                    Box::new(number),
                    column(gone, |(record, _)| record.0),
                    column(gone, |(_, side)| side.name()),
                ],
            );
        }
        let rows = &writes.absences;
        if rows.is_empty() {
            return;
        }
        self.add(
            "insert into mirror.absence (record_id, entity_no, side, source_transaction_id, was_deleted, is_outside)
             select record_id, $1, side, id, was_deleted, is_outside
             from unnest($2::uuid[], $3::text[], $4::bigint[], $5::boolean[], $6::boolean[])
                 as u (record_id, side, id, was_deleted, is_outside)
             on conflict (record_id, entity_no, side) do update
                 set source_transaction_id = excluded.source_transaction_id, was_deleted = excluded.was_deleted,
                     is_outside = excluded.is_outside",
            vec![
                Box::new(number),
                column(rows, |row| row.record.0),
                column(rows, |row| row.side.name()),
                column(rows, |row| row.transaction),
                column(rows, |row| row.was_deleted),
                column(rows, |row| row.is_outside),
            ],
        );
    }

    fn journal(&mut self, rows: &[JournalRow]) {
        if rows.is_empty() {
            return;
        }
        let mut copy = CopyBinary::with_capacity(rows.len() * JOURNAL_ROW_BYTES);
        for row in rows {
            copy.row(7);
            copy.put(&row.id.to_be_bytes());
            copy.put(&row.transaction.to_be_bytes());
            copy.put(&self.writer.entity_number(row.entity).to_be_bytes());
            copy.put(row.record.0.as_bytes());
            copy.put(row.action.name().as_bytes());
            copy.put(row.before.as_bytes());
            copy.put(row.after.as_bytes());
        }
        self.calls.push(Call {
            sql: "copy mirror.journal (journal_id, source_transaction_id, entity_no, record_id, action, before, after)
                  from stdin binary"
                .into(),
            feed: Feed::Rows(copy.into_bytes()),
        });
    }

    /// The steps of one cell go in their order, each with the first, second, … steps of all the other cells: a
    /// statement sees a cell once.
    fn conflicts(&mut self, writes: &Writes) {
        let mut step_counts: HashMap<_, usize> = HashMap::new();
        let mut layers: Vec<(Vec<_>, Vec<&ConflictRow>)> = Vec::new();
        for step in &writes.conflicts {
            let cell = match step {
                ConflictStep::Over(entity, record, field, side) => {
                    (*entity, *record, Some(field), *side)
                }
                ConflictStep::Met(row) => (row.entity, row.record, row.field.as_ref(), row.side),
            };
            let step_count = step_counts.entry(cell).or_default();
            if layers.len() == *step_count {
                layers.push((Vec::new(), Vec::new()));
            }
            let (agreed, met) = &mut layers[*step_count];
            *step_count += 1;
            match step {
                ConflictStep::Over(entity, record, field, side) => {
                    agreed.push((*entity, *record, field, *side));
                }
                ConflictStep::Met(row) => met.push(row),
            }
        }
        for (agreed, met) in layers {
            self.agreed(&agreed);
            self.met(&met);
        }
    }

    fn met(&mut self, rows: &[&ConflictRow]) {
        let numbers = self.writer.entity_numbers.clone();
        let number = |row: &&ConflictRow| numbers[usize::from(row.entity.0)];
        let held: Vec<&ConflictRow> =
            rows.iter().filter(|row| row.decision == "held").copied().collect();
        if !held.is_empty() {
            self.add(
                include_str!("conflict_overwritten.sql"),
                vec![
                    column(&held, number),
                    column(&held, |row| row.record.0),
                    column(&held, |row| row.field.clone()),
                    column(&held, |row| row.side.name()),
                    column(&held, |row| row.observed.to_string()),
                ],
            );
        }
        if !rows.is_empty() {
            self.add(
                include_str!("conflict_put.sql"),
                vec![
                    column(rows, number),
                    column(rows, |row| row.record.0),
                    column(rows, |row| row.field.clone()),
                    column(rows, |row| row.side.name()),
                    column(rows, |row| row.base.as_ref().map(ToString::to_string)),
                    column(rows, |row| row.canonical.to_string()),
                    column(rows, |row| row.observed.to_string()),
                    column(rows, |row| row.transaction),
                    column(rows, |row| row.decision),
                ],
            );
        }
    }

    fn agreed(&mut self, agreed: &[(EntityNo, RecordId, &String, Side)]) {
        if agreed.is_empty() {
            return;
        }
        let numbers = self.writer.entity_numbers.clone();
        self.add(
            "update mirror.conflict c set decided_at = now()
             from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[]) as u (entity_no, record_id, field, side)
             where c.entity_no = u.entity_no and c.record_id = u.record_id and c.field = u.field and c.side = u.side
               and c.decision = 'held' and c.decided_at is null",
            vec![
                column(agreed, |(entity, ..)| numbers[usize::from(entity.0)]),
                column(agreed, |(_, record, ..)| record.0),
                column(agreed, |(_, _, field, _)| (*field).clone()),
                column(agreed, |(.., side)| side.name()),
            ],
        );
    }

    fn transitions(&mut self, mapping: &crate::mapping::Mapping, rows: &[TransitionRow]) {
        let mut rest: Vec<&TransitionRow> = rows.iter().collect();
        while let Some(first) = rest.first() {
            let (entity, field) = (first.entity, first.field);
            let (mine, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|row| row.entity == entity && row.field == field);
            rest = others;
            let described = mapping.entity(entity);
            let Some(table) = &described.field(field).transitions else { continue };
            // Ids are in order of application, and so are the rows of the table.
            let sql = format!(
                "insert into canon.{} ({}, from_code, to_code, occurred_at, side, author)
                 select record_id, before, after, t.at, t.side, coalesce(t.author_name, t.author_id, t.via)
                 from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) with ordinality as u (record_id, before, after, id, nth)
                 join mirror.source_transaction t on t.source_transaction_id = u.id order by nth",
                quoted(table),
                quoted(&format!("{}_id", described.table)),
            );
            let params = vec![
                column(&mine, |row| row.record.0),
                column(&mine, |row| text(&row.before)),
                column(&mine, |row| text(&row.after)),
                column(&mine, |row| row.transaction),
            ];
            self.add(sql, params);
        }
    }

    fn refusals(&mut self, writes: &Writes) {
        let numbers = self.writer.entity_numbers.clone();
        self.unfit(writes);
        let accepted = &writes.accepted;
        if !accepted.is_empty() {
            self.add(
                "delete from mirror.refusal r using unnest($1::text[], $2::smallint[], $3::text[], $4::text[]) as u (side, entity_no, side_key, field)
                 where r.side = u.side and r.entity_no = u.entity_no and r.side_key = u.side_key
                   and (u.field is null or r.field = u.field)",
                vec![
                    column(accepted, |row| row.side.name()),
                    column(accepted, |row| numbers[usize::from(row.entity.0)]),
                    column(accepted, |row| row.key.to_string()),
                    column(accepted, |row| row.field.clone()),
                ],
            );
        }
        // Of a cell that was refused more than once, the last refusal stands.
        let mut listed = HashSet::new();
        let mut rows: Vec<&RefusalRow> = writes
            .refusals
            .iter()
            .rev()
            .filter(|row| listed.insert((row.side, row.entity, &row.key, &row.field)))
            .collect();
        rows.reverse();
        if rows.is_empty() {
            return;
        }
        self.add(
            include_str!("refusal_put.sql"),
            vec![
                column(&rows, |row| row.side.name()),
                column(&rows, |row| numbers[usize::from(row.entity.0)]),
                column(&rows, |row| row.key.to_string()),
                column(&rows, |row| row.field.clone()),
                column(&rows, |row| row.kind.name()),
                column(&rows, |row| row.reason.clone()),
                column(&rows, |row| {
                    row.waits_for.as_ref().map(|keys| serde_json::json!(keys).to_string())
                }),
                column(&rows, |row| row.transaction),
                column(&rows, |row| row.raw.as_ref().map(|raw| raw.to_json().to_string())),
            ],
        );
    }
}
