//! What was accepted, and whether it is still what the mapping says: an approval covers a field's places on both sides,
//! its transformation, policy and direction. And where each field's shadows were read, so that a field which the mapping
//! points elsewhere is judged there with no common past.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sqlx::{PgConnection, Row as _};
use tokio_postgres::Client;
use tracing::info;

use super::{Error, catalog::quoted, mass::Accepted, write::WHOLE_RECORD, writer::Writer};
use crate::{
    mapping::{DirectusField, Entity, Field, Mapping, Shown, Store},
    merge::unread,
    model::{EntityNo, Side},
};

/// `mirror.approval.covers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Covers {
    #[serde(default)]
    airtable: Option<String>,
    /// The id of the field or table there, which outlives a renaming.
    #[serde(default)]
    airtable_id: Option<String>,
    #[serde(default)]
    directus: Option<String>,
    #[serde(default)]
    rule: String,
}

/// Ids of what the mapping names in Airtable: (entity, field or `*`) → `fld…` or `tbl…`.
pub(crate) type SideIds = HashMap<(EntityNo, String), String>;

impl Covers {
    pub(crate) fn new(shown: Shown, airtable_id: Option<String>) -> Self {
        let Shown { airtable, directus, rule } = shown;
        Self { airtable, airtable_id, directus, rule }
    }

    /// In words, in what the mapping says something else by now; `None`: in nothing.
    fn difference(&self, now: &Self) -> Option<String> {
        let text = |place: &Option<String>| place.clone().unwrap_or_else(|| "nowhere".into());
        let is_same_place = match (&self.airtable_id, &now.airtable_id) {
            (Some(then), Some(now)) => then == now,
            _ => self.airtable == now.airtable,
        };
        let mut words = Vec::new();
        if !is_same_place {
            let (then, now) = (text(&self.airtable), text(&now.airtable));
            words.push(if then == now {
                format!("another field is called {now} in airtable")
            } else {
                format!("in airtable it was {then} and is {now}")
            });
        }
        if self.directus != now.directus {
            let (then, now) = (text(&self.directus), text(&now.directus));
            words.push(format!("in directus it was {then} and is {now}"));
        }
        if self.rule != now.rule {
            words.push(format!("its rules were ({}) and are ({})", self.rule, now.rule));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The fields of an entity, and `*` before them.
fn names(entity: &Entity) -> impl Iterator<Item = (&str, Option<&Field>)> {
    let fields = entity.fields.iter().map(|field| (field.name.as_str(), Some(field)));
    std::iter::once((WHOLE_RECORD, None)).chain(fields)
}

/// How each field of an entity stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) covers: Covers,
    pub(super) is_approved: bool,
    /// What changed in the mapping since it was approved, in words.
    pub(super) difference: Option<String>,
}

/// The fields of an entity, `*` among them, with what a yes to each covers now.
pub(super) async fn standings(
    connection: &mut PgConnection,
    mapping: &Mapping,
    entity: &Entity,
    number: i16,
) -> Result<BTreeMap<String, Standing>, Error> {
    let rows = sqlx::query(LISTED).bind(number).fetch_all(connection).await?;
    let listed = rows.iter().map(|row| {
        let (covers, is_listed) = (row.get(1), row.get::<Option<bool>, _>(2) == Some(true));
        (row.get(0), Listed { covers, is_listed, place: row.get(3), id: row.get(4) })
    });
    Ok(stand(mapping, entity, &listed.collect()))
}

/// What was approved of an entity ($1), and where it was read in Airtable.
const LISTED: &str =
    "select field, a.covers, a.field is not null and a.entity_no is not null, p.place, p.side_id
     from (select * from mirror.approval where entity_no = $1) a
     full join (select * from mirror.field_place where entity_no = $1 and side = 'airtable') p using (field)";

/// A row of [`LISTED`].
struct Listed {
    covers: Option<Json>,
    is_listed: bool,
    place: Option<String>,
    id: Option<String>,
}

fn stand(
    mapping: &Mapping,
    entity: &Entity,
    rows: &HashMap<String, Listed>,
) -> BTreeMap<String, Standing> {
    let stand = |(name, field): (&str, Option<&Field>)| {
        let shown = mapping.shown(entity, field);
        let row = rows.get(name);
        let place = row.and_then(|row| row.place.clone());
        let id = row.and_then(|row| row.id.clone());
        let covers = Covers::new(shown.clone(), id.filter(|_| place == shown.airtable));
        let is_listed = row.is_some_and(|row| row.is_listed);
        let then = row.and_then(|row| row.covers.clone());
        // What was accepted before approvals covered anything is adopted by the next run.
        let then: Option<Covers> = then.and_then(|json| serde_json::from_value(json).ok());
        let difference = then.and_then(|then| then.difference(&covers));
        let is_approved = is_listed && difference.is_none();
        (name.to_owned(), Standing { covers, is_approved, difference })
    };
    names(entity).map(stand).collect()
}

/// The fields of an entity that may be written as the mapping says, `*` among them.
pub(super) async fn approved(
    connection: &mut PgConnection,
    mapping: &Mapping,
    entity: &Entity,
    number: i16,
) -> Result<HashSet<String>, Error> {
    let standings = standings(connection, mapping, entity, number).await?;
    Ok(standings.into_iter().filter(|(_, it)| it.is_approved).map(|(name, _)| name).collect())
}

/// The old approvals cover what the mapping says now; places that are not known yet are noted. A field whose Directus
/// column is another one is unread there from now on; of one whose name in Airtable is another, the id has to be looked up
/// before that can be said ([`Writer::compare_ids`]).
pub(super) async fn compare_places(
    client: &Client,
    mapping: &Mapping,
    tables: &[&str],
    numbers: &[i16],
) -> Result<(), Error> {
    let known = places(client).await?;
    client.batch_execute("begin").await?;
    let sql = "select entity_no, field from mirror.approval where covers is null";
    let old: HashSet<(i16, String)> =
        client.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for ((entity, number), table) in mapping.entities.iter().zip(numbers).zip(tables) {
        for (name, field) in names(entity) {
            let shown = mapping.shown(entity, field);
            if old.contains(&(*number, name.to_owned())) {
                let covers =
                    serde_json::to_value(Covers::new(shown.clone(), None)).unwrap_or_default();
                client
                    .execute(
                        "update mirror.approval set covers = $3 where entity_no = $1 and field = $2",
                        &[number, &name, &covers],
                    )
                    .await?;
            }
            for (side, place) in
                [(Side::Airtable, shown.airtable), (Side::Directus, shown.directus)]
            {
                let Some(place) = place else { continue };
                let it = Place { entity, number: *number, table, name, field, side };
                match known.get(&(*number, name.to_owned(), side.name().to_owned())) {
                    None => it.note(client, &place, None).await?,
                    Some((before, _)) if *before == place => {}
                    Some(_) if side == Side::Directus => {
                        it.unread(client).await?;
                        it.note(client, &place, None).await?;
                        it.read_directus_again(client).await?;
                    }
                    Some(_) => it.look_up_again(client).await?,
                }
            }
        }
    }
    client.batch_execute("commit").await?;
    Ok(())
}

type Places = HashMap<(i16, String, String), (String, Option<String>)>;

async fn places(client: &Client) -> Result<Places, Error> {
    let rows = client
        .query("select entity_no, field, side, place, side_id from mirror.field_place", &[])
        .await?;
    let place = |row: &tokio_postgres::Row| {
        ((row.get(0), row.get(1), row.get(2)), (row.get(3), row.get(4)))
    };
    Ok(rows.iter().map(place).collect())
}

/// A field on one side.
struct Place<'a> {
    entity: &'a Entity,
    number: i16,
    /// The canonical table, quoted.
    table: &'a str,
    name: &'a str,
    /// `None`: the records as a whole.
    field: Option<&'a Field>,
    side: Side,
}

impl Place<'_> {
    async fn note(&self, client: &Client, place: &str, id: Option<&str>) -> Result<(), Error> {
        client
            .execute(
                "insert into mirror.field_place (entity_no, field, side, place, side_id) values ($1, $2, $3, $4, $5)
                 on conflict (entity_no, field, side) do update set place = excluded.place, side_id = excluded.side_id",
                &[&self.number, &self.name, &self.side.name(), &place, &id],
            )
            .await?;
        Ok(())
    }

    /// What the side holds in this field is not known any more, of any record that it has.
    async fn unread(&self, client: &Client) -> Result<(), Error> {
        let Some(field) = self.field.filter(|_| self.entity.is_two_sided()) else { return Ok(()) };
        let (mut value, mut and) = (unread().to_json(), String::new());
        if field.has_rows_on(self.side) {
            // A set is told by its rows: of one without any, none is read. It is empty until its rows are read.
            client
                .execute(
                    "delete from mirror.element where side = $1 and entity_no = $2 and field = $3",
                    &[&self.side.name(), &self.number, &self.name],
                )
                .await?;
            value = Json::Null;
            and = match &field.store {
                Store::Junction { table, parent, .. } => format!(
                    "and exists (select from canon.{} j where j.{} = t.id)",
                    quoted(table),
                    quoted(parent)
                ),
                Store::Column(column) => format!("and t.{} is not null", quoted(column)),
            };
        }
        let sql = format!(
            "insert into mirror.shadow (record_id, entity_no, side, field, value)
             select t.id, $1, $2, $3, $4 from {} t
             where not exists (select from mirror.absence a
                 where a.record_id = t.id and a.entity_no = $1 and a.side = $2) {and}
             on conflict (record_id, entity_no, side, field) do update set value = excluded.value",
            self.table
        );
        let count =
            client.execute(&sql, &[&self.number, &self.side.name(), &self.name, &value]).await?;
        info!(
            entity = self.entity.name,
            field = self.name,
            side = %self.side,
            record_count = count,
            "the mapping points a field elsewhere: it is read anew there"
        );
        Ok(())
    }

    /// Makes the capture read the table whole: the column may have been read for another field.
    async fn read_directus_again(&self, client: &Client) -> Result<(), Error> {
        let (Some(of), Some(field)) = (&self.entity.directus, self.field) else { return Ok(()) };
        let table = match &field.directus {
            Some(DirectusField::Junction { table, .. }) => table,
            _ => &of.table,
        };
        let path = vec![String::from("covered"), format!("{}.{table}", of.schema)];
        client
            .execute(
                "update mirror.position set identity = identity #- $1 where side = 'directus'",
                &[&path],
            )
            .await?;
        Ok(())
    }

    /// Makes the capture look the name up anew, and list the table: the same name may have been read for another field.
    async fn look_up_again(&self, client: &Client) -> Result<(), Error> {
        let Some(airtable) = self.field.and_then(|field| field.airtable.as_ref()) else {
            return Ok(());
        };
        let path = ["resolved", "tables", &self.entity.name, "fields", &airtable.field];
        let path = path.map(ToOwned::to_owned).to_vec();
        client
            .execute(
                "update mirror.position set identity = identity #- $1 where side = 'airtable'",
                &[&path],
            )
            .await?;
        Ok(())
    }
}

impl Writer {
    /// What a person has accepted of an entity, as the mapping has it now.
    pub(crate) async fn accepted(&self, entity: EntityNo) -> Result<Accepted, Error> {
        let rows = self.query(LISTED, &[&self.entity_number(entity)]).await?;
        let listed = rows.iter().map(|row| {
            let (covers, is_listed) = (row.get(1), row.get::<_, Option<bool>>(2) == Some(true));
            (row.get(0), Listed { covers, is_listed, place: row.get(3), id: row.get(4) })
        });
        let described = self.mapping.entity(entity);
        let standings = stand(&self.mapping, described, &listed.collect());
        let is_approved = |name: &str| standings.get(name).is_some_and(|it| it.is_approved);
        Ok(Accepted {
            is_whole: is_approved(WHOLE_RECORD),
            fields: described.fields.iter().map(|field| is_approved(&field.name)).collect(),
        })
    }

    /// Compares where Airtable's fields are with where they were read, by their ids: one under another id is unread from
    /// now on, one under another name is the same field. No batch may be under way.
    pub(crate) async fn compare_ids(&mut self, ids: &SideIds) -> Result<(), Error> {
        let known = places(self.client()).await?;
        let mapping = std::sync::Arc::clone(&self.mapping);
        self.begin().await?;
        let client = self.client();
        for (no, entity) in (0..).map(EntityNo).zip(&mapping.entities) {
            for (name, field) in names(entity) {
                let (Some(id), Some(place)) =
                    (ids.get(&(no, name.to_owned())), mapping.shown(entity, field).airtable)
                else {
                    continue;
                };
                let number = self.entity_number(no);
                let (table, side) = (&self.shape(no).table, Side::Airtable);
                let it = Place { entity, number, table, name, field, side };
                match known.get(&(number, name.to_owned(), side.name().to_owned())) {
                    Some((before, Some(known))) if known == id && *before == place => continue,
                    // Renamed.
                    Some((_, Some(known))) if known == id => {}
                    // Its id is seen for the first time.
                    Some((before, None)) if *before == place => {}
                    None => {}
                    Some(_) => it.unread(client).await?,
                }
                it.note(client, &place, Some(id)).await?;
                client
                    .execute(
                        "update mirror.approval set covers = covers || jsonb_build_object('airtable_id', $4::text)
                         where entity_no = $1 and field = $2 and covers ->> 'airtable' = $3
                           and covers ->> 'airtable_id' is null",
                        &[&number, &name, &place, id],
                    )
                    .await?;
            }
        }
        self.commit().await
    }
}
