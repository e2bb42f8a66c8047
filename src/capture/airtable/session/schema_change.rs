//! What changes in a base's schema without a word of the records: options that get another name, fields that are
//! deleted after their cells were emptied.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::Instant;
use tracing::debug;

use super::{
    super::{
        Error,
        payload::Payload,
        schema::{Plan, Renamed},
    },
    Session,
};
use crate::{
    mapping::Field,
    model::{EntityNo, FieldNo, Incident, Notice},
};

/// Subject of incidents.
const OPTIONS: &str = "options";

impl Session {
    /// Lets the values of options that were renamed follow, where they may: their tables are read by the new names.
    /// Whether the plan has changed by it.
    pub(super) async fn let_options_follow(&mut self) -> bool {
        let waiting: Vec<Renamed> = self.resolved.as_ref().map_or_else(Vec::new, |resolved| {
            resolved.renamed().into_iter().filter(|it| !it.follows).collect()
        });
        let is_due = |at: Instant| at.elapsed() >= self.base.ask_every;
        if waiting.is_empty() {
            self.say_what_waits(Vec::new()).await;
            return false;
        }
        if !self.asked_at.is_none_or(is_due) {
            return false;
        }
        self.asked_at = Some(Instant::now());
        let (mut held, mut has_followed) = (Vec::new(), false);
        for renamed in waiting {
            if !self.may_follow(&renamed).await {
                held.push(renamed);
                continue;
            }
            has_followed = true;
            if let Some(option) = self.resolved.as_mut().and_then(|it| it.option(&renamed)) {
                option.follows = true;
            }
            self.to_list.extend(self.links.mapping.entity_no(&renamed.entity));
            let Renamed { given, was, now, entity, .. } = renamed;
            let text = format!(
                "the option `{was}` of the field `{given}` (entity `{entity}`) is now called `{now}` in Airtable; \
                 the values follow"
            );
            self.tell("option_followed", text).await;
        }
        self.say_what_waits(held).await;
        if has_followed {
            self.plan_again();
        }
        has_followed
    }

    /// Says which values the listing that begins shows changed because an option has another name.
    pub(super) fn expect_what_follows(&self) {
        let mapping = &self.links.mapping;
        let Some(resolved) = &self.resolved else { return };
        let fields: Vec<(EntityNo, FieldNo)> = resolved
            .renamed()
            .iter()
            .filter(|it| it.follows)
            .filter_map(|it| {
                let entity = mapping.entity_no(&it.entity)?;
                let is_it = |field: &Field| {
                    field.airtable.as_ref().is_some_and(|place| place.field == it.given)
                };
                let at = mapping.entity(entity).fields.iter().position(is_it)?;
                Some((entity, FieldNo(u16::try_from(at).ok()?)))
            })
            .collect();
        let listed: Vec<EntityNo> = self.to_list.iter().copied().collect();
        self.links.lineage.expect(&listed, &fields);
    }

    /// Says which renamed options wait, where that is not what was said last.
    async fn say_what_waits(&mut self, held: Vec<Renamed>) {
        if self.options_waiting.as_ref() == Some(&held) {
            return;
        }
        let words = (!held.is_empty()).then(|| held_words(&held));
        let found = words.map(|words| Incident::new("option_renamed", words)).into_iter().collect();
        self.raise(Notice::looked(OPTIONS, found)).await;
        self.options_waiting = Some(held);
    }

    async fn may_follow(&self, renamed: &Renamed) -> bool {
        let Some(entity) = self.links.mapping.entity_no(&renamed.entity) else { return false };
        let described = self.links.mapping.entity(entity);
        let is_of = |field: &Field| {
            field.airtable.as_ref().is_some_and(|airtable| airtable.field == renamed.given)
        };
        for (no, _) in (0..).zip(&described.fields).filter(|(_, field)| is_of(field)) {
            match self.links.choices.take(entity, FieldNo(no), &renamed.now).await {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    debug!(base = self.base.name, %error, "could not ask for the other side's choices");
                    return false;
                }
            }
        }
        true
    }

    /// The plan of what is resolved now.
    fn plan_again(&mut self) {
        if let Some(resolved) = &self.resolved {
            self.plan = Some(Arc::new(Plan::new(&self.links.mapping, &self.base.name, resolved)));
            self.publish();
        }
    }

    /// The tables are read: options whose values were to follow are called by their new names from now on.
    pub(super) fn end_following(&mut self, listed: &BTreeSet<EntityNo>) {
        let Some(resolved) = &mut self.resolved else { return };
        let mut is_any = false;
        for renamed in resolved.renamed().into_iter().filter(|it| it.follows) {
            let entity = self.links.mapping.entity_no(&renamed.entity);
            if entity.is_some_and(|entity| listed.contains(&entity))
                && let Some(option) = resolved.option(&renamed)
            {
                (option.was, option.follows, is_any) = (None, false, true);
            }
        }
        if is_any {
            self.plan_again();
        }
    }

    /// Mapped fields that are not there any more, or of another type, though no payload read so far says so: their
    /// cells are emptied first. Looked up only where cells were emptied as nobody empties them one by one, or where the
    /// payload that would say so may be on the next page.
    pub(super) async fn fields_that_went(
        &self,
        plan: &Plan,
        payloads: &[Result<Payload, (u64, String)>],
        might_have_more: bool,
    ) -> Result<BTreeSet<String>, Error> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let by_hand = |payload: &&Payload| payload.author.via != "publicApi";
        for payload in payloads.iter().flatten().filter(by_hand) {
            for field in &payload.news.emptied {
                *counts.entry(field).or_default() += 1;
            }
        }
        let last = payloads.last().and_then(|last| last.as_ref().ok()).filter(by_hand);
        let is_cut = might_have_more && last.is_some_and(|last| !last.news.emptied.is_empty());
        if !is_cut && counts.values().all(|count| *count < 2) {
            return Ok(BTreeSet::new());
        }
        let tables = self.unless_stopped(self.links.client.tables(&self.base.id)).await?;
        let is_there = |id: &str| {
            tables.iter().flat_map(|table| &table.fields).any(|field| {
                field.id == id
                    && plan.tables.iter().any(|table| table.kind(id) == Some(field.kind.as_str()))
            })
        };
        Ok(counts.into_keys().filter(|id| !is_there(id)).map(str::to_owned).collect())
    }
}

/// What is said of renamed options whose values wait.
fn held_words(held: &[Renamed]) -> String {
    let names: Vec<String> = held
        .iter()
        .map(|it| {
            let Renamed { entity, given, was, now, .. } = it;
            format!("`{was}` of the field `{given}` (entity `{entity}`) is now called `{now}`")
        })
        .collect();
    format!(
        "options were renamed in Airtable: {}. The other side has no such choice, so the values go on by their old \
         names everywhere but in Airtable: add the choice in Directus, and they follow by themselves, or say yes by \
         `plait renames accept`",
        names.join("; ")
    )
}
