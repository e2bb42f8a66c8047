//! A write that goes in several requests, against the sandbox: what its payloads show, merged with what was noted of it.

use serde_json::{Value as Json, json};

use super::sandbox_tests::{NAME, SECTOR, Setup, World, create, is_taken, update};
use crate::{
    mapping::{DeletePolicy, Entity, FieldKind, Policy},
    merge::{
        Merged, Operation, OperationKind, Origin, RecordState, Seen, SentCell, merge,
        tests::{entity as entity_of_two_sides, field},
    },
    model::{FieldNo, Side, Value},
    push::Bound,
    sandbox::NETWORK_BASE,
};

const A: Side = Side::Airtable;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// An entity with these two fields, as `apply` knows it.
fn entity() -> Entity {
    let field = |name: &str| field(name, FieldKind::Text, Policy::Ask);
    Entity {
        fields: vec![field("name"), field("sector")],
        ..entity_of_two_sides(Policy::Ask, DeletePolicy::Hold)
    }
}

/// What each payload since the webhook was made says of the two cells of a record; a cell that a new record does not
/// list is empty.
async fn shown(world: &World, hook: &str, bound: &Bound) -> Vec<Vec<(FieldNo, Value)>> {
    let tables = world.client.tables(NETWORK_BASE).await.unwrap();
    let table = tables.iter().find(|table| table.name == "Startups").unwrap();
    let id = |name: &str| table.fields.iter().find(|it| it.name == name).unwrap().id.clone();
    let fields = [(NAME, id("Nom")), (SECTOR, id("Secteur"))];
    let key = world.key_of(bound);
    let page = world.client.payloads(NETWORK_BASE, hook, 1).await.unwrap();
    let read = |cell: Option<&Json>| match cell {
        Some(Json::String(own)) => text(own),
        Some(Json::Object(option)) => text(option["name"].as_str().unwrap()),
        _ => Value::Null,
    };
    let mut shown = Vec::new();
    for payload in &page.payloads {
        let changes = &payload["changedTablesById"][&table.id];
        if let Some(made) = changes["createdRecordsById"].get(&key) {
            let cells = &made["cellValuesByFieldId"];
            shown.push(fields.iter().map(|(no, id)| (*no, read(cells.get(id)))).collect());
        }
        if let Some(changed) = changes["changedRecordsById"].get(&key) {
            let cells = &changed["current"]["cellValuesByFieldId"];
            let cells =
                fields.iter().filter_map(|(no, id)| Some((*no, read(Some(cells.get(id)?)))));
            shown.push(cells.collect());
        }
    }
    shown
}

#[tokio::test]
async fn push_airtable_option_that_follows_in_a_second_request_empties_nothing() {
    let world = World::with(Setup { new_options: true, ..Setup::default() }).await;
    let specification = json!({ "options": { "filters": { "dataTypes": ["tableData"] } } });
    let hook = world.client.create_webhook(NETWORK_BASE, &specification, None).await.unwrap();
    let made = create(&[(NAME, json!("Fusée")), (SECTOR, json!("Spatial"))]);
    assert!(is_taken(&world.send_one(made.clone()).await));
    assert_eq!(*world.parts.0.lock().unwrap(), [(made.operation, made.record)]);
    let payloads = shown(&world, &hook.id, &made).await;
    assert_eq!(payloads.len(), 2, "{payloads:?}");
    assert_eq!(payloads[0], [(NAME, text("Fusée")), (SECTOR, Value::Null)]);

    let entity = entity();
    let values = [(NAME, text("Fusée")), (SECTOR, text("Spatial"))];
    let mut state = RecordState::unknown(&entity);
    merge(&entity, &mut state, Side::Directus, Origin::Somebody, Seen::Present(values.to_vec()));
    let sent = |(field, value): &(FieldNo, Value)| SentCell {
        field: *field,
        expected: Value::Null,
        value: value.clone(),
    };
    let cells = values.iter().map(sent).collect();
    let operation = Operation::new(made.operation, A, OperationKind::Create, cells);
    state.operations.push(Operation { is_partial: true, ..operation });
    for cells in payloads {
        let merged = merge(&entity, &mut state, A, Origin::Ours(None), Seen::Present(cells));
        assert_eq!(merged, Merged::default());
        assert_eq!(state.canon, [text("Fusée"), text("Spatial")]);
    }
    assert!(state.shadow.is_empty() && state.absent.is_empty());

    // Alone, it goes in one request: nothing is left out.
    let key = world.startup_keys(1).remove(0);
    let alone = update(&key, &[(SECTOR, json!("Abysses"))]);
    assert!(is_taken(&world.send_one(alone).await));
    assert_eq!(world.parts.0.lock().unwrap().len(), 1);
    world.stop().await;
}
