//! Random histories of several people, taken back.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::*;

/// What somebody does to a record.
#[derive(Clone, Debug)]
enum Step {
    Create(u8, u8),
    Write(u8, &'static str, u8),
    Element(u8, u8, bool),
    Delete(u8),
    Restore(u8),
}

/// Canonical, with its journal. Records of `kept` are marked when they are deleted, those of `lost` are removed.
#[derive(Clone, Debug, Default)]
struct World {
    now: BTreeMap<Place, Now>,
    journal: Vec<Entry>,
    transaction: i64,
}

fn place(no: u8) -> Place {
    let entity = if no.is_multiple_of(2) { "kept" } else { "lost" };
    (entity.into(), Uuid::from_u128(u128::from(no) + 1))
}

fn rule(_: &str, field: &str) -> Rule {
    Rule { is_set: field == "set", ..Rule::default() }
}

impl World {
    fn record(&mut self, place: &Place) -> &mut Now {
        self.now.entry(place.clone()).or_insert(Now { life: Life::Gone, cells: BTreeMap::new() })
    }

    fn write(
        &mut self,
        author: &str,
        place: &Place,
        action: &str,
        before: &BTreeMap<String, Json>,
        after: &BTreeMap<String, Json>,
    ) {
        let object = |cells: &BTreeMap<String, Json>| {
            cells.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
        };
        let at = DateTime::from_timestamp(self.transaction, 0).unwrap();
        self.journal.push(Entry {
            journal_id: i64::try_from(self.journal.len()).unwrap() + 1,
            transaction: self.transaction,
            entity: place.0.clone(),
            record_id: place.1,
            action: action.into(),
            before: object(before),
            after: object(after),
            at,
            side: "directus".into(),
            author: author.into(),
            via: "test".into(),
            recorded_at: at,
        });
    }

    fn set(&mut self, author: &str, place: &Place, field: &str, value: Json) {
        let record = self.record(place);
        let before = record.cells.get(field).cloned().unwrap_or(Json::Null);
        if record.life != Life::Alive || before == value {
            return;
        }
        if value.is_null() {
            record.cells.remove(field);
        } else {
            record.cells.insert(field.into(), value.clone());
        }
        let one = |value| BTreeMap::from([(field.to_owned(), value)]);
        self.write(author, place, "update", &one(before), &one(value));
    }

    fn delete(&mut self, author: &str, place: &Place) {
        let record = self.record(place);
        if record.life != Life::Alive {
            return;
        }
        let none = BTreeMap::new();
        let before = if place.0 == "kept" {
            record.life = Life::Deleted;
            none.clone()
        } else {
            record.life = Life::Gone;
            std::mem::take(&mut record.cells)
        };
        self.write(author, place, "delete", &before, &none);
    }

    fn restore(&mut self, author: &str, place: &Place, cells: BTreeMap<String, Json>) {
        let record = self.record(place);
        assert_ne!(record.life, Life::Alive);
        record.life = Life::Alive;
        let before: BTreeMap<String, Json> = cells
            .keys()
            .map(|name| (name.clone(), record.cells.get(name).cloned().unwrap_or(Json::Null)))
            .collect();
        record.cells.extend(cells.clone());
        record.cells.retain(|_, value| !value.is_null());
        self.write(author, place, "restore", &before, &cells);
    }

    fn step(&mut self, author: &str, step: &Step) {
        match step {
            Step::Create(no, value) => {
                let place = place(*no);
                let is_new = !self.journal.iter().any(|entry| entry.record_id == place.1);
                if is_new {
                    let cells = BTreeMap::from([(String::from("a"), json!(value.to_string()))]);
                    *self.record(&place) = Now { life: Life::Alive, cells: cells.clone() };
                    self.write(author, &place, "create", &BTreeMap::new(), &cells);
                }
            }
            Step::Write(no, field, value) => {
                let value = if *value == 0 { Json::Null } else { json!(value.to_string()) };
                self.set(author, &place(*no), field, value);
            }
            Step::Element(no, element, is_in) => {
                let place = place(*no);
                let held = self.record(&place).cells.get("set").cloned().unwrap_or(Json::Null);
                let mut set: BTreeSet<String> = held
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|it| it.as_str().unwrap().into())
                    .collect();
                let element = format!("e{element}");
                if *is_in {
                    set.insert(element)
                } else {
                    set.remove(&element)
                };
                let value = if set.is_empty() { Json::Null } else { json!(set) };
                self.set(author, &place, "set", value);
            }
            Step::Delete(no) => self.delete(author, &place(*no)),
            Step::Restore(no) => {
                let place = place(*no);
                let life = self.record(&place).life;
                let deleted = self
                    .journal
                    .iter()
                    .rev()
                    .find(|entry| entry.record_id == place.1 && entry.action == "delete");
                let cells: Option<BTreeMap<String, Json>> =
                    deleted.map(|entry| entry.before.clone().into_iter().collect());
                if let (true, Some(cells)) = (life != Life::Alive, cells) {
                    self.restore(author, &place, cells);
                }
            }
        }
    }

    fn commit(&mut self, author: &str, steps: &[Step]) {
        self.transaction += 1;
        for step in steps {
            self.step(author, step);
        }
    }

    /// As `apply` does it: what does not fit what is there is an objection, which a plan must not meet.
    fn carry_out(&mut self, decisions: &[Decision]) {
        self.transaction += 1;
        for decision in decisions {
            match decision {
                Decision::Set { entity, record, cells, .. } => {
                    let place = (entity.clone(), *record);
                    assert_eq!(self.record(&place).life, Life::Alive);
                    for (field, wish) in cells {
                        let held = self.record(&place).cells.get(field).cloned();
                        assert_eq!(held.unwrap_or(Json::Null), wish.expected);
                        self.set("undo", &place, field, wish.value.clone());
                    }
                }
                Decision::Restore { entity, record, cells } => {
                    self.restore("undo", &(entity.clone(), *record), cells.clone());
                }
                Decision::Delete { entity, record } => {
                    let place = (entity.clone(), *record);
                    assert_eq!(self.record(&place).life, Life::Alive);
                    self.delete("undo", &place);
                }
                other => panic!("a plan asked for {other:?}"),
            }
        }
    }

    fn plan(&self, is_chosen: impl Fn(&Entry) -> bool, is_forced: bool) -> Plan {
        let chosen = self.journal.iter().filter(|entry| is_chosen(entry));
        let selection = Selection {
            whole: chosen.map(|entry| entry.journal_id).collect(),
            cells: BTreeSet::new(),
        };
        plan(&Question {
            entries: &self.journal,
            selection: &selection,
            now: &self.now,
            rule: &rule,
            missing: &BTreeSet::new(),
            is_forced,
        })
    }

    /// What people see: the living records.
    fn seen(&self) -> BTreeMap<Place, BTreeMap<String, Json>> {
        let alive = self.now.iter().filter(|(_, record)| record.life == Life::Alive);
        alive.map(|(place, record)| (place.clone(), record.cells.clone())).collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_u8, 1..4_u8).prop_map(|(no, value)| Step::Create(no, value)),
        8 => (0..4_u8, prop_oneof![Just("a"), Just("b")], 0..4_u8)
            .prop_map(|(no, field, value)| Step::Write(no, field, value)),
        5 => (0..4_u8, 0..3_u8, any::<bool>())
            .prop_map(|(no, element, is_in)| Step::Element(no, element, is_in)),
        2 => (0..4_u8).prop_map(Step::Delete),
        2 => (0..4_u8).prop_map(Step::Restore),
    ];
    prop::collection::vec(step, 1..5)
}

fn histories() -> impl Strategy<Value = Vec<(bool, Vec<Step>)>> {
    prop::collection::vec((any::<bool>(), steps()), 1..12)
}

fn author(is_other: bool) -> &'static str {
    if is_other { "other" } else { "me" }
}

fn world(history: &[(bool, Vec<Step>)]) -> World {
    let mut world = World::default();
    for (is_other, steps) in history {
        world.commit(author(*is_other), steps);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn undo_of_the_last_transaction_gives_what_was_before_it(history in histories(), last in steps()) {
        let mut world = world(&history);
        let before = world.seen();
        world.commit("me", &last);
        let done = world.transaction;
        let plan = world.plan(|entry| entry.transaction == done, false);
        prop_assert_eq!(&plan.kept, &[]);
        world.carry_out(&plan.decisions);
        prop_assert_eq!(world.seen(), before);
    }

    #[test]
    fn undo_of_an_undo_gives_what_was_undone(history in histories()) {
        let mut world = world(&history);
        let before = world.seen();
        let undone = world.plan(|entry| entry.author == "me", false);
        world.carry_out(&undone.decisions);
        let number = world.transaction;
        let back = world.plan(|entry| entry.transaction == number, false);
        prop_assert_eq!(&back.kept, &[]);
        world.carry_out(&back.decisions);
        prop_assert_eq!(world.seen(), before);
    }

    #[test]
    fn undo_never_loses_what_others_did_last(history in histories()) {
        let mut world = world(&history);
        let before = world.clone();
        let plan = world.plan(|entry| entry.author == "me", false);
        world.carry_out(&plan.decisions);
        for (place, record) in &before.now {
            let entries: Vec<&Entry> =
                before.journal.iter().filter(|entry| entry.record_id == place.1).collect();
            let turn = entries.iter().rev().find(|entry| entry.action != "update");
            let after = &world.now[place];
            if turn.is_some_and(|entry| entry.author == "other") {
                prop_assert_eq!(after.life, record.life);
            }
            if record.life != Life::Alive {
                continue;
            }
            if entries.last().is_some_and(|entry| entry.author == "other") {
                prop_assert_eq!(after.life, Life::Alive);
            }
            for field in ["a", "b"] {
                let touches = |entry: &&&Entry| {
                    // A return brings back what was.
                    entry.action != "delete"
                        && entry.action != "restore"
                        && (entry.before.contains_key(field) || entry.after.contains_key(field))
                };
                let newest = entries.iter().rev().find(touches);
                if newest.is_some_and(|it| it.author == "other") && after.life == Life::Alive {
                    prop_assert_eq!(after.cells.get(field), record.cells.get(field));
                }
            }
        }
    }

    #[test]
    fn undo_by_force_leaves_no_objection(history in histories()) {
        let mut world = world(&history);
        let plan = world.plan(|entry| entry.author == "me", true);
        world.carry_out(&plan.decisions);
    }
}

#[test]
fn undo_of_a_changed_cell_is_left_alone_and_says_who_changed_it() {
    let mut world = World::default();
    world.commit("other", &[Step::Create(0, 1)]);
    world.commit("me", &[Step::Write(0, "a", 2), Step::Write(0, "b", 2)]);
    world.commit("other", &[Step::Write(0, "a", 3)]);
    let mine = |entry: &Entry| entry.author == "me";
    let plan = world.plan(mine, false);
    let wish = Wish { expected: json!("2"), value: Json::Null };
    let cells = BTreeMap::from([(String::from("b"), wish)]);
    let (entity, record) = place(0);
    assert_eq!(plan.decisions, [Decision::Set { entity, record, cells, settles: Vec::new() }]);
    let [kept] = plan.kept.as_slice() else { panic!("{:?}", plan.kept) };
    assert_eq!(kept.field.as_deref(), Some("a"));
    assert!(matches!(&kept.reason, Reason::ChangedSince { author, .. } if author == "other"));
    world.carry_out(&world.plan(mine, true).decisions);
    assert_eq!(world.now[&place(0)].cells, BTreeMap::from([("a".into(), json!("1"))]));
}

#[test]
fn undo_takes_back_an_element_and_leaves_the_others_that_came_since() {
    let mut world = World::default();
    world.commit("other", &[Step::Create(0, 1), Step::Element(0, 0, true)]);
    world.commit("me", &[Step::Element(0, 0, false), Step::Element(0, 1, true)]);
    world.commit("other", &[Step::Element(0, 2, true)]);
    let plan = world.plan(|entry| entry.author == "me", false);
    world.carry_out(&plan.decisions);
    assert_eq!(world.now[&place(0)].cells["set"], json!(["e0", "e2"]));
    assert_eq!(plan.kept, []);
}

#[test]
fn undo_does_not_link_to_a_record_that_is_gone_unless_it_comes_back_with_it() {
    let mut world = World::default();
    world.commit("other", &[Step::Create(0, 1), Step::Create(1, 1)]);
    let target = place(1);
    world.transaction += 1;
    world.set("other", &place(0), "link", json!(target.1));
    world.transaction += 1;
    world.set("me", &place(0), "link", Json::Null);
    world.delete("me", &target);
    let rule = |_: &str, field: &str| Rule { is_link: field == "link", ..Rule::default() };
    let missing = BTreeSet::from([target.1]);
    let ask = |ids: &[i64]| {
        let whole = ids.iter().copied().collect();
        let selection = Selection { whole, cells: BTreeSet::new() };
        plan(&Question {
            entries: &world.journal,
            selection: &selection,
            now: &world.now,
            rule: &rule,
            missing: &missing,
            is_forced: false,
        })
    };
    let both = ask(&[4, 5]);
    assert_eq!(both.kept, []);
    assert!(matches!(
        both.decisions.as_slice(),
        [Decision::Restore { .. }, Decision::Set { cells, .. }] if cells["link"].value == json!(target.1)
    ));
    let alone = ask(&[4]);
    assert_eq!(alone.decisions, []);
    assert!(matches!(alone.kept.as_slice(), [Kept { reason: Reason::TargetGone, .. }]));
}
