//! A write of which Directus takes a part: what its row then shows, merged with what was noted of the write.

use serde_json::json;
use uuid::Uuid;

use super::tests::{TAKEN, World};
use crate::{
    merge::{Merged, Operation, OperationKind, Origin, RecordState, Seen, SentCell, merge},
    model::{FieldNo, Side, Value},
    push::{Bound, Outcome, Write},
};

const D: Side = Side::Directus;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// A startup that was born in Airtable with `values`.
fn born_elsewhere(world: &World, values: &[(FieldNo, Value)]) -> RecordState {
    let entity = world.mapping.entity(world.entity("startup"));
    let mut state = RecordState::unknown(entity);
    let seen = Seen::Present(values.to_vec());
    merge(entity, &mut state, Side::Airtable, Origin::Somebody, seen);
    state
}

/// A write of ours that names these cells is on its way.
fn bind(state: &mut RecordState, world: &World, bound: &Bound, named: &[(FieldNo, Value)]) {
    let cell = |(field, value): &(FieldNo, Value)| {
        let (expected, value) = (Value::Null, value.clone());
        SentCell { field: *field, expected, value }
    };
    let cells = named.iter().map(cell).collect();
    let operation = Operation::new(bound.operation, D, OperationKind::Create, cells);
    let is_partial = world.parts.0.lock().unwrap().contains(&(bound.operation, bound.record));
    state.operations.push(Operation { is_partial, ..operation });
}

/// What the row shows, in the transaction of the operation.
async fn see(world: &World, state: &mut RecordState, bound: &Bound) -> Merged {
    let sql = format!("select name, city, headcount from startup where id = '{}'", bound.record);
    let row = world.sql(&sql).await.remove(0);
    let value = |text: &Option<String>| text.as_deref().map_or(Value::Null, self::text);
    let number = row[2].as_deref().map_or(Value::Null, |text| Value::Int(text.parse().unwrap()));
    let cells = vec![
        (world.field("startup", "name"), value(&row[0])),
        (world.field("startup", "city"), value(&row[1])),
        (world.field("startup", "headcount"), number),
    ];
    let entity = world.mapping.entity(world.entity("startup"));
    let origin = Origin::Ours(Some(bound.operation));
    merge(entity, state, D, origin, Seen::Present(cells))
}

#[tokio::test]
async fn push_directus_text_that_is_too_long_stays_what_it_is_where_it_was_typed() {
    let world = World::start().await;
    let long = "é".repeat(300);
    let (name, city) = (world.field("startup", "name"), world.field("startup", "city"));
    let values = [(name, text("Harbour")), (city, text(&long))];
    let mut state = born_elsewhere(&world, &values);
    let first = world.create("startup", &[("name", json!("Harbour")), ("city", json!(long))]);
    let outcome = world.send_one(&first).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    bind(&mut state, &world, &first, &values);
    state.operations[0].is_settled = true;
    // The next one goes without it.
    let mut second = first.clone();
    second.operation = Uuid::new_v4();
    second.write = Write::Create(world.cells("startup", &[("name", json!("Harbour"))]));
    assert_eq!(world.send_one(&second).await, TAKEN);
    bind(&mut state, &world, &second, &[(name, text("Harbour"))]);
    assert_eq!(see(&world, &mut state, &second).await, Merged::default());
    assert_eq!(state.canon[usize::from(city.0)], text(&long));
    assert_eq!(state.shadow, [(D, city, Value::Null)]);
}

#[tokio::test]
async fn push_directus_record_that_is_taken_in_part_loses_no_cell() {
    let world = World::start().await;
    let count = world.field("startup", "headcount");
    let values = [
        (world.field("startup", "name"), text("Harbour")),
        (count, Value::Int(2_000_000)),
        (world.field("startup", "city"), text("Lyon")),
    ];
    let mut state = born_elsewhere(&world, &values);
    let bound = world.create(
        "startup",
        &[("name", json!("Harbour")), ("headcount", json!(2_000_000)), ("city", json!("Lyon"))],
    );
    let outcome = world.send_one(&bound).await;
    world.refused(&outcome, "startup", Some("headcount"), "value_refused");
    let noted = world.parts.0.lock().unwrap().clone();
    assert!(noted.contains(&(bound.operation, bound.record)), "told before it was sent in parts");
    bind(&mut state, &world, &bound, &values);
    assert_eq!(see(&world, &mut state, &bound).await, Merged::default());
    for (field, value) in &values {
        assert_eq!(state.canon[usize::from(field.0)], *value);
    }
    assert_eq!(state.held_by(D, count), &Value::Null);
    // What is whole is not said to be in parts.
    let whole = world.create("startup", &[("name", json!("Voilier"))]);
    assert_eq!(world.send_one(&whole).await, TAKEN);
    assert!(
        world.parts.0.lock().unwrap().iter().all(|(operation, _)| *operation != whole.operation)
    );
}
