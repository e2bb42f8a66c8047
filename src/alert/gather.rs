//! The facts beside entries of the journal, read from canonical: a handful of queries for any number of entries.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    Codes, Facts, Row, Valuation,
    evaluate::{label, row_after},
    watch::{Lens, Watch},
};
use crate::{
    mapping::{Entity, Mapping},
    store::{
        Error, TableShape, alert,
        history::{self, Entry},
        record,
    },
};

/// Where facts are read.
pub(super) struct Source<'a> {
    pub(super) pool: &'a PgPool,
    pub(super) mapping: &'a Mapping,
    pub(super) shapes: &'a [TableShape],
}

/// The reference tables, with their labels.
pub(crate) async fn codes(pool: &PgPool) -> Result<Codes, Error> {
    let mut codes = Codes::default();
    for (table, column, reference) in alert::code_columns(pool).await? {
        if !codes.tables.contains_key(&reference) {
            let labels = alert::labels(pool, &reference).await?.into_iter();
            let labels = labels.map(|(code, fr, en)| (code, (fr, en))).collect();
            codes.tables.insert(reference.clone(), labels);
        }
        codes.columns.insert((table, column), reference);
    }
    Ok(codes)
}

impl Source<'_> {
    /// Adds what is to be known of these entries, which rules may be met by.
    pub(super) async fn gather(
        &self,
        facts: &mut Facts,
        watches: &[Watch],
        entries: &[&Entry],
    ) -> Result<(), Error> {
        let mut records: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
        for entry in entries {
            records.entry(&entry.entity).or_default().insert(entry.record_id);
        }
        for (entity, ids) in &records {
            for (id, row) in self.rows(entity, ids).await? {
                facts.rows.insert(((*entity).to_owned(), id), row);
            }
        }
        let ids: Vec<Uuid> = records.values().flatten().copied().collect();
        for entry in history::of_records(self.pool, &ids).await? {
            facts.entries.entry(entry.record_id).or_default().push(entry);
        }

        let (mut companies, mut valued) = (BTreeSet::new(), BTreeSet::new());
        let mut linked: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
        for entry in entries {
            let row = row_after(entry, facts);
            for watch in watches.iter().filter(|watch| watch.entity == entry.entity) {
                if let Some(field) = &watch.company {
                    let is_valued = matches!(watch.lens, Lens::ValuationDown { .. });
                    for id in [row.get(field), entry.before.get(field)].into_iter().flatten() {
                        companies.extend(uuids(id));
                        valued.extend(uuids(id).filter(|_| is_valued));
                    }
                }
                if let Lens::Field { field, target: Some(target), .. } = &watch.lens {
                    let ids = linked.entry(target).or_default();
                    for value in [entry.before.get(field), entry.after.get(field)] {
                        ids.extend(value.into_iter().flat_map(uuids));
                    }
                }
            }
        }
        if let Some(startup) = self.mapping.entities.iter().find(|it| it.table == "startup") {
            linked.entry(&startup.name).or_default().extend(companies);
        }
        for (entity, ids) in &linked {
            for (id, row) in self.rows(entity, ids).await? {
                facts.names.extend(label(&row).map(|name| (id, name)));
            }
        }
        let valued: Vec<Uuid> = valued.into_iter().collect();
        if !valued.is_empty() {
            facts.valuations.extend(valued.iter().map(|id| (*id, Vec::new())));
            for row in alert::valuations(self.pool, &valued).await? {
                let Some(company) = row.startup_id else { continue };
                facts.valuations.entry(company).or_default().push(valuation(row));
            }
        }
        self.authors(facts, entries).await
    }

    async fn rows(&self, entity: &str, ids: &BTreeSet<Uuid>) -> Result<HashMap<Uuid, Row>, Error> {
        let Some(at) = self.mapping.entities.iter().position(|it| it.name == entity) else {
            return Ok(HashMap::new());
        };
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let (described, ids) =
            (&self.mapping.entities[at], ids.iter().copied().collect::<Vec<_>>());
        let found = record::records(self.pool, described, &self.shapes[at], &ids).await?;
        Ok(found.into_iter().map(|(id, record)| (id, row(described, &record.values))).collect())
    }

    async fn authors(&self, facts: &mut Facts, entries: &[&Entry]) -> Result<(), Error> {
        let of_directus = entries.iter().filter(|entry| entry.side == "directus");
        let ids: BTreeSet<String> = of_directus
            .filter(|entry| Uuid::try_parse(&entry.author).is_ok())
            .map(|entry| entry.author.clone())
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = ids.into_iter().collect();
        for (id, name) in alert::directus_names(self.pool, &ids).await? {
            facts.authors.insert(("directus".into(), id), name);
        }
        Ok(())
    }
}

fn row(entity: &Entity, values: &[crate::model::Value]) -> Row {
    let names = entity.fields.iter().map(|field| field.name.clone());
    names.zip(values.iter().map(crate::model::Value::to_json)).collect()
}

fn valuation(row: alert::ValuationRow) -> Valuation {
    Valuation {
        id: row.id,
        startup_id: row.startup_id,
        as_of: row.as_of,
        price: row.price(),
        equity_value: row.equity_value(),
        approved_on: row.approved_on,
        method_code: row.method_code,
        instrument_code: row.instrument_code,
        currency: row.currency.trim_end().to_owned(),
    }
}

/// The ids in a link, or in a set of them.
fn uuids(value: &Json) -> impl Iterator<Item = Uuid> {
    let texts: Vec<&str> = match value {
        Json::String(text) => vec![text],
        Json::Array(elements) => elements.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(|text| Uuid::try_parse(text).ok()).collect::<Vec<_>>().into_iter()
}
