//! Rows of a side's junction tables: which element of whose set each one is, and what its other columns hold. Those
//! outlive the row, so that an element that returns has them again.

use std::collections::HashMap;

use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    Error,
    books::Books,
    write::{Calls, EntityWrites, column},
    writer::Writer,
};
use crate::model::{EntityNo, FieldNo, Side};

/// How long the columns of an element that has left are kept.
const KEPT_FOR: &str = "400 days";

/// Field and element → the columns that its row had, of one record.
pub(crate) type Left = HashMap<(FieldNo, String), Json>;

impl Writer {
    /// Reads which entities have junction rows with columns of their own, and forgets what was kept long enough.
    pub(super) async fn read_columns(&mut self) -> Result<(), Error> {
        let client = self.client();
        let sql = format!(
            "delete from mirror.element_left where left_at < now() - interval '{KEPT_FOR}'"
        );
        client.execute(&sql, &[]).await?;
        let sql = "select distinct entity_no, false from mirror.element where columns is not null
                   union select distinct entity_no, true from mirror.element_left";
        for row in client.query(sql, &[]).await? {
            let number: i16 = row.get(0);
            let Some(at) = self.entity_numbers.iter().position(|known| *known == number) else {
                continue;
            };
            let entity = EntityNo(u16::try_from(at).unwrap_or(u16::MAX));
            self.columned.insert(entity);
            if row.get(1) {
                self.marks.note_left(entity);
            }
        }
        Ok(())
    }

    /// Keeps in mind what `writes`, which are written now, say of such rows.
    pub(super) fn note_columns(&mut self, writes: &EntityWrites) {
        if writes.elements.is_empty() {
            return;
        }
        if self.columned.contains(&writes.entity) {
            self.marks.note_left(writes.entity);
        }
        let has_columns = |content: &super::ElementContent| content.columns.is_some();
        if writes.elements.iter().any(|(.., content)| content.as_ref().is_some_and(has_columns)) {
            self.columned.insert(writes.entity);
        }
    }
}

impl Calls<'_> {
    pub(super) fn elements(&mut self, writes: &EntityWrites) {
        if writes.elements.is_empty() {
            return;
        }
        let number = self.writer.entity_number(writes.entity);
        let rows = &writes.elements;
        // What a row meant before is kept where it had columns of its own; most junctions have none.
        let sql = if self.writer.columned.contains(&writes.entity) {
            include_str!("element_leave.sql")
        } else {
            "delete from mirror.element e using unnest($2::text[], $3::text[], $4::text[]) as u (side, field, row_key)
             where e.entity_no = $1 and e.side = u.side and e.field = u.field and e.row_key = u.row_key"
        };
        self.add(
            sql,
            vec![
                Box::new(number),
                column(rows, |(side, ..)| side.name()),
                column(rows, |(_, field, ..)| field.clone()),
                column(rows, |(_, _, row, _)| row.to_string()),
            ],
        );
        let kept: Vec<_> = rows
            .iter()
            .filter_map(|(side, field, row, content)| Some((*side, field, row, content.as_ref()?)))
            .collect();
        self.add(
            "insert into mirror.element (side, entity_no, field, row_key, record_id, element, columns)
             select side, $1, field, row_key, record_id, element, columns::jsonb
             from unnest($2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[])
                  as u (side, field, row_key, record_id, element, columns)",
            vec![
                Box::new(number),
                column(&kept, |(side, ..)| side.name()),
                column(&kept, |(_, field, ..)| (*field).clone()),
                column(&kept, |(_, _, row, _)| row.to_string()),
                column(&kept, |(.., content)| content.record.0),
                column(&kept, |(.., content)| content.element.clone()),
                column(&kept, |(.., content)| content.columns.clone()),
            ],
        );
    }
}

impl Books {
    /// The columns that elements of these records' sets had on `side` when they left, a record each. No query where no
    /// junction of the entity has columns of its own.
    pub(crate) async fn left(
        &self,
        side: Side,
        entity: EntityNo,
        records: &[Uuid],
    ) -> Result<HashMap<Uuid, Left>, Error> {
        let mut left: HashMap<Uuid, Left> = HashMap::new();
        if records.is_empty() || !self.marks.has_left(entity) {
            return Ok(left);
        }
        let rows: Vec<(Uuid, String, String, Json)> = sqlx::query_as(
            "select record_id, field, element, columns from mirror.element_left
             where side = $1 and entity_no = $2 and record_id = any($3)",
        )
        .bind(side.name())
        .bind(self.number(entity))
        .bind(records)
        .fetch_all(&self.pool)
        .await?;
        let fields = &self.mapping.entity(entity).fields;
        for (record, name, element, columns) in rows {
            let Some(at) = fields.iter().position(|field| field.name == name) else { continue };
            let no = FieldNo(u16::try_from(at).unwrap_or(u16::MAX));
            left.entry(record).or_default().insert((no, element), columns);
        }
        Ok(left)
    }
}
