//! How records stand towards a side, as a push has to know it: what canonical and the side hold, what is under way,
//! and what has to wait. A handful of queries, whatever the number of records.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::{
    Error, approval,
    catalog::{TableShape, quoted},
    identity::{ID_FIELD, carried_id},
    operation::{Marks, cells_from_json},
    state::fields,
    write::WHOLE_RECORD,
};
use crate::{
    gate::Gate,
    mapping::{Entity, Mapping, Store},
    merge::{Operation, OperationKind, RecordState, Restraints, is_unread_json, unread},
    model::{EntityNo, FieldNo, RecordId, Side, SideKey, Value},
};

/// The canonical database as pushes use it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Books {
    pub(super) pool: PgPool,
    pub(super) mapping: Arc<Mapping>,
    pub(super) shapes: Arc<[TableShape]>,
    /// `mirror.entity`'s number of each entity.
    pub(super) numbers: Arc<[i16]>,
    pub(super) marks: Arc<Marks>,
    /// Of the writer for whom this pushes; `None`: it only looks.
    pub(super) epoch: Option<i64>,
    pub(super) gate: Gate,
}

/// One record, as it stands towards one side.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) record: RecordId,
    pub(crate) state: RecordState,
    pub(crate) restraints: Restraints,
    /// How the side calls it, where that is not the canonical id.
    pub(crate) key: Option<SideKey>,
    /// Whether the side has said that it took the write in flight.
    pub(crate) is_acknowledged: bool,
    /// How long a request of the writer before, which carries the write in flight, may still be under way.
    pub(crate) under_way_for: Option<Duration>,
    /// The record there does not carry its canonical id.
    pub(crate) owes_id: bool,
    /// When the first of what is parked is tried again; `None`: nothing is, or a person said no.
    pub(crate) parked_for: Option<Duration>,
}

/// A record that a link points to, as a side has it.
#[derive(Debug)]
pub(crate) struct Target {
    /// `None`: by the canonical id, or not told yet.
    pub(crate) key: Option<SideKey>,
    pub(crate) is_there: bool,
}

type Standings = HashMap<Uuid, Standing>;

impl Books {
    /// With the gate of the process that pushes.
    pub(crate) fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    pub(super) fn number(&self, entity: EntityNo) -> i16 {
        self.numbers[usize::from(entity.0)]
    }

    /// How these records stand towards `side`.
    pub(crate) async fn standings(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<Vec<Standing>, Error> {
        let described = self.mapping.entity(entity);
        let unknown = |record: &Uuid| Standing {
            record: RecordId(*record),
            state: RecordState::unknown(described),
            restraints: Restraints::default(),
            key: None,
            is_acknowledged: false,
            under_way_for: None,
            owes_id: false,
            parked_for: None,
        };
        let mut standings: Standings =
            records.iter().map(|record| (*record, unknown(record))).collect();
        let wanted = Wanted { side, entity, described, records };
        self.read_rows(&wanted, &mut standings).await?;
        self.read_sets(&wanted, &mut standings).await?;
        self.read_shadows(&wanted, &mut standings).await?;
        self.read_presence(&wanted, &mut standings).await?;
        self.read_flights(&wanted, &mut standings).await?;
        self.read_restraints(&wanted, &mut standings).await?;
        Ok(records.iter().filter_map(|record| standings.remove(record)).collect())
    }

    async fn read_rows(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        let shape = &self.shapes[usize::from(wanted.entity.0)];
        let columns: Vec<(FieldNo, String)> = fields(wanted.described)
            .filter_map(|(no, field)| match &field.store {
                Store::Column(column) => Some((no, format!("{}::text", quoted(column)))),
                Store::Junction { .. } => None,
            })
            .collect();
        let texts: Vec<&str> = columns.iter().map(|(_, text)| text.as_str()).collect();
        let is_deleted = if shape.has_deleted_at { "deleted_at is not null" } else { "false" };
        let sql = format!(
            "select id, {is_deleted}, array[{}]::text[] from {} where id = any($1)",
            texts.join(", "),
            shape.table
        );
        let rows: Vec<(Uuid, bool, Vec<Option<String>>)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(wanted.records).fetch_all(&self.pool).await?;
        for (record, is_deleted, texts) in rows {
            let Some(standing) = to.get_mut(&record) else { continue };
            standing.state.exists = true;
            standing.state.is_deleted = is_deleted;
            for ((no, _), text) in columns.iter().zip(texts) {
                standing.state.canon[usize::from(no.0)] =
                    wanted.described.field(*no).read_canonical(text.as_deref());
            }
        }
        Ok(())
    }

    async fn read_sets(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        for (no, field) in fields(wanted.described) {
            let Store::Junction { table, parent, element } = &field.store else { continue };
            let sql = format!(
                "select {parent}, array_agg({element}::text) from canon.{table} where {parent} = any($1) group by 1",
                table = quoted(table),
                parent = quoted(parent),
                element = quoted(element)
            );
            let rows: Vec<(Uuid, Vec<String>)> = sqlx::query_as(AssertSqlSafe(sql))
                .bind(wanted.records)
                .fetch_all(&self.pool)
                .await?;
            for (record, elements) in rows {
                if let Some(standing) = to.get_mut(&record) {
                    standing.state.canon[usize::from(no.0)] = Value::set(elements);
                }
            }
        }
        Ok(())
    }

    async fn read_shadows(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        let rows: Vec<(Uuid, String, Json)> = sqlx::query_as(
            "select record_id, field, value from mirror.shadow where entity_no = $1 and side = $2 and record_id = any($3)",
        )
        .bind(self.number(wanted.entity))
        .bind(wanted.side.name())
        .bind(wanted.records)
        .fetch_all(&self.pool)
        .await?;
        for (record, name, value) in rows {
            let Some(standing) = to.get_mut(&record) else { continue };
            if name == ID_FIELD {
                standing.owes_id = true;
                // Known to the state too: a write of the id alone has come to its end when it is carried.
                standing.state.see_id(RecordId(record), carried_id(&value));
            } else if let Some((no, field)) = wanted.field(&name) {
                let value = if is_unread_json(&value) { unread() } else { field.from_json(&value) };
                standing.state.shadow.push((wanted.side, no, value));
            }
        }
        Ok(())
    }

    /// Whether the side has the record, under which key, and whether it is to be deleted there.
    async fn read_presence(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        let rows: Vec<(Uuid, Option<String>, Option<bool>, Option<bool>, Option<bool>)> = sqlx::query_as(
            "select u.record_id, l.side_key, a.was_deleted, a.is_outside,
                    case when p.record_id is not null then p.approved_at is not null end
             from unnest($3::uuid[]) as u (record_id)
             left join mirror.link l on l.record_id = u.record_id and l.entity_no = $1 and l.side = $2
             left join mirror.absence a on a.record_id = u.record_id and a.entity_no = $1 and a.side = $2
             left join mirror.pending_delete p on p.record_id = u.record_id and p.entity_no = $1 and p.side = $2",
        )
        .bind(self.number(wanted.entity))
        .bind(wanted.side.name())
        .bind(wanted.records)
        .fetch_all(&self.pool)
        .await?;
        for (record, key, was_deleted, is_outside, delete) in rows {
            let Some(standing) = to.get_mut(&record) else { continue };
            standing.key = key.as_deref().map(SideKey::from);
            standing.state.absent.extend(was_deleted.map(|was_deleted| (wanted.side, was_deleted)));
            if is_outside == Some(true) {
                standing.state.outside.push(wanted.side);
            }
            if delete.is_some() {
                standing.state.doomed.push(wanted.side);
            }
            standing.restraints.delete = delete;
        }
        Ok(())
    }

    async fn read_flights(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        let rows: Vec<(Uuid, Uuid, String, Json, bool, bool, Option<f64>)> = sqlx::query_as(
            "select record_id, operation_id, kind, cells, sent_at is not null, is_partial,
                    extract(epoch from under_way_until - now())::float8
             from mirror.operation
             where entity_no = $1 and side = $2 and record_id = any($3) and settled_at is null",
        )
        .bind(self.number(wanted.entity))
        .bind(wanted.side.name())
        .bind(wanted.records)
        .fetch_all(&self.pool)
        .await?;
        for (record, id, kind, cells, is_acknowledged, is_partial, under_way_for_s) in rows {
            let (Some(standing), Some(kind)) =
                (to.get_mut(&record), OperationKind::from_name(&kind))
            else {
                continue;
            };
            let cells = cells_from_json(wanted.described, &cells);
            let operation = Operation::new(id, wanted.side, kind, cells);
            standing.state.operations.push(Operation { is_partial, ..operation });
            standing.is_acknowledged = is_acknowledged;
            let under_way_for = under_way_for_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
            standing.under_way_for = under_way_for.filter(|left| !left.is_zero());
        }
        Ok(())
    }

    async fn read_restraints(&self, wanted: &Wanted<'_>, to: &mut Standings) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        let number = self.number(wanted.entity);
        let approved: HashSet<String> =
            approval::approved(&mut connection, &self.mapping, wanted.described, number).await?;
        let unapproved: Vec<FieldNo> = fields(wanted.described)
            .filter(|(_, field)| !approved.contains(&field.name))
            .map(|(no, _)| no)
            .collect();
        for standing in to.values_mut() {
            standing.restraints.is_approved = approved.contains(WHOLE_RECORD);
            standing.restraints.unapproved.clone_from(&unapproved);
        }
        // Held: kind `held`; parked: the value that was refused, tried again after a minute, 8, 64, … a day, unless a
        // person said no, since what is mended on a side makes no event here; a question about who it is.
        let rows: Vec<(Uuid, String, Option<String>, Option<Json>, Option<f64>)> = sqlx::query_as(
            "select record_id, 'held', field, null::jsonb, null::double precision from mirror.conflict
             where entity_no = $1 and record_id = any($3) and decision = 'held' and decided_at is null and field is not null
             union all
             select record_id, 'parked', field, value,
                    case when skipped_at is null and code <> 'answers_itself' then extract(epoch from again_at - now())::double precision end
             from mirror.parked, lateral (select parked_at + least(
                 interval '1 day', interval '1 min' * power(8, least(try_count - 1, 4)))) as l (again_at)
             where entity_no = $1 and record_id = any($3) and side = $2
               and (skipped_at is not null or again_at > now() or code = 'answers_itself')
             union all
             -- Those that it may be wait, too: to create one where this one is would make a twin.
             select u, 'questioned', null, null, null from mirror.match_question, unnest(record_id || candidates) as u
             where entity_no = $1 and u = any($3) and answered_at is null",
        )
        .bind(self.number(wanted.entity))
        .bind(wanted.side.name())
        .bind(wanted.records)
        .fetch_all(&self.pool)
        .await?;
        for (record, kind, name, value, parked_for_s) in rows {
            let Some(Standing { restraints, parked_for, .. }) = to.get_mut(&record) else {
                continue;
            };
            let again = parked_for_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
            *parked_for = [*parked_for, again].into_iter().flatten().min();
            let field = name.as_deref().and_then(|name| wanted.field(name));
            match (kind.as_str(), field) {
                ("questioned", _) => restraints.is_questioned = true,
                ("held", Some((no, _))) => restraints.held.push(no),
                ("parked", Some((no, field))) => {
                    let refused = field.from_json(&value.unwrap_or_default());
                    restraints.parked.push((no, refused));
                }
                ("parked", None) => restraints.is_parked |= name.as_deref() == Some(WHOLE_RECORD),
                _ => {}
            }
        }
        Ok(())
    }

    /// How `side` has these records, which links point to.
    pub(crate) async fn targets(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashMap<Uuid, Target>, Error> {
        if records.is_empty() {
            return Ok(HashMap::new());
        }
        // What the side has said that it made is there, before its log says so; what is not mirrored is there too.
        let rows: Vec<(Uuid, Option<String>, bool)> = sqlx::query_as(
            "select u.record_id, coalesce(l.side_key, o.side_key),
                    a.record_id is null or a.is_outside or not a.was_deleted and o.operation_id is not null
             from unnest($3::uuid[]) as u (record_id)
             left join mirror.link l on l.record_id = u.record_id and l.entity_no = $1 and l.side = $2
             left join mirror.absence a on a.record_id = u.record_id and a.entity_no = $1 and a.side = $2
             left join lateral (
                 select operation_id, side_key from mirror.operation
                 where record_id = u.record_id and entity_no = $1 and side = $2 and kind = 'create' and sent_at is not null
                 order by bound_at desc limit 1) o on true",
        )
        .bind(self.number(entity))
        .bind(side.name())
        .bind(records)
        .fetch_all(&self.pool)
        .await?;
        let has_own_ids = side == Side::Directus;
        Ok(rows
            .into_iter()
            .map(|(record, key, is_there)| {
                let key = key.as_deref().map(SideKey::from);
                let is_there = is_there && (has_own_ids || key.is_some());
                (record, Target { key, is_there })
            })
            .collect())
    }

    /// The rows of a side's junction table that hold these elements of a record's set.
    pub(crate) async fn element_keys(
        &self,
        side: Side,
        entity: EntityNo,
        field: &str,
        record: RecordId,
        elements: &[String],
    ) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar(
            "select row_key from mirror.element
             where side = $1 and entity_no = $2 and field = $3 and record_id = $4 and element = any($5)",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(field)
        .bind(record.0)
        .bind(elements)
        .fetch_all(&self.pool)
        .await?)
    }
}

/// What is asked about.
struct Wanted<'a> {
    side: Side,
    entity: EntityNo,
    described: &'a Entity,
    records: &'a [Uuid],
}

impl Wanted<'_> {
    fn field(&self, name: &str) -> Option<(FieldNo, &crate::mapping::Field)> {
        fields(self.described).find(|(_, field)| field.name == name)
    }
}
