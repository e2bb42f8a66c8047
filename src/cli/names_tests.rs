//! What people read and type instead of ids, on a real Postgres that `apply` has filled.

use uuid::Uuid;

use super::{
    conflicts::{self, Choice},
    desk::Desk,
    history, person, plan,
    terminal::Paint,
    undo,
    way_back_tests::{Lab, cell, id, key, present},
};
use crate::{
    model::{Cell, EntityNo, FieldNo, Side},
    store::conflict,
};

const TEAM: EntityNo = EntityNo(0);
const PERSON: EntityNo = EntityNo(1);
const TEAM_NAME: FieldNo = FieldNo(0);
const FIRST: FieldNo = FieldNo(0);
const LAST: FieldNo = FieldNo(1);
const EMAIL: FieldNo = FieldNo(2);
const LINK: FieldNo = FieldNo(3);
const LINKS: FieldNo = FieldNo(4);

const MAPPING: &str = r#"
version = 1
[entity.team]
table = "team"
airtable = { base = "main", table = "Teams", uuid = "UUID" }
directus = { table = "team" }
deletes = "propagate"
[entity.team.field]
name = { type = "text", airtable = "Name", directus = "name" }
[entity.person]
table = "person"
airtable = { base = "main", table = "People", uuid = "UUID" }
directus = { table = "person" }
deletes = "hold"
[entity.person.field]
first_name = { type = "text", airtable = "First", directus = "first_name", personal = true }
last_name = { type = "text", airtable = "Last", directus = "last_name", personal = true }
email = { type = "email", airtable = "Mail", directus = "email", personal = true }
team_id = { type = "link", target = "team", airtable = "Team", directus = "team_id", policy = "ask" }
past = { type = "links", target = "team", junction = { table = "person_team", parent = "person_id", element = "team_id" }, airtable = "Past", directus = { junction = "person_team", parent = "person_id", element = "team_id" } }
"#;

const TABLES: &str = "
    create table canon.team (id uuid primary key, name text);
    create table canon.person (id uuid primary key, first_name text, last_name text, email text, deleted_at timestamptz,
        team_id uuid references canon.team deferrable initially deferred);
    create table canon.person_team (person_id uuid references canon.person on delete cascade deferrable initially deferred,
        team_id uuid references canon.team on delete cascade deferrable initially deferred, primary key (person_id, team_id))";

/// Teams 1 to 4, of which two are called alike, and Ann in the first one, on both sides.
async fn people() -> Lab {
    let mut lab = Lab::open(MAPPING, TABLES).await;
    for side in Side::ALL.into_iter().rev() {
        let teams = ["Blue Ocean", "Red, White", "Twins", "Twins"];
        let mut seen: Vec<_> = (1..)
            .zip(teams)
            .map(|(no, name)| present(side, TEAM, no, vec![(TEAM_NAME, cell(name))]))
            .collect();
        seen.push(present(
            side,
            PERSON,
            1,
            vec![
                (FIRST, cell("Ann")),
                (LAST, cell("Émery")),
                (EMAIL, cell("ann@example.org")),
                (LINK, link(side, 1)),
            ],
        ));
        lab.see(side, "first", seen).await;
    }
    lab
}

fn link(side: Side, team: u8) -> Cell {
    Cell::Link(Some(key(side, TEAM, team)))
}

fn value(text: &str) -> Choice {
    Choice { airtable: false, directus: false, canonical: false, value: Some(text.into()) }
}

/// No line names a team by its id alone.
fn without_ids(lines: &[String]) {
    for line in lines {
        for no in 1..=4 {
            assert!(!line.contains(&id(TEAM, no).to_string()), "{line}");
        }
    }
}

async fn refused(desk: &Desk, number: i64, typed: &str) -> String {
    conflicts::plan(desk, number, &value(typed)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn names_of_linked_records_are_shown_and_taken_instead_of_ids() {
    let mut lab = people().await;
    let moved = |side, team| vec![present(side, PERSON, 1, vec![(LINK, link(side, team))])];
    lab.see(Side::Directus, "dora", moved(Side::Directus, 2)).await;
    lab.see(Side::Airtable, "axel", moved(Side::Airtable, 3)).await;
    let desk = lab.desk().await;
    let open = conflict::conflicts(&desk.pool, false, None, 10).await.unwrap();
    let number = open[0].conflict_id;

    let told = conflicts::told(&desk).await.unwrap();
    without_ids(&told);
    assert!(told[0].contains("directus Red, White (dora"), "{told:?}");
    assert!(told[0].contains("airtable Twins (axel"), "{told:?}");
    assert!(told.iter().any(|line| line.contains("before    Blue Ocean")), "{told:?}");

    // A third value by its name, however it is written; one with a comma; by key and id as ever.
    let plan = conflicts::plan(&desk, number, &value("blue  océan")).await.unwrap();
    assert!(plan.words.contains("team_id: Red, White → Blue Ocean (the value)"), "{}", plan.words);
    for typed in ["Red, White", "rec0x2", &id(TEAM, 2).to_string()] {
        let plan = conflicts::plan(&desk, number, &value(typed)).await.unwrap();
        assert!(plan.words.contains("stays Red, White"), "{typed}: {}", plan.words);
    }
    let several = refused(&desk, number, "twins").await;
    for no in [3, 4] {
        assert!(several.contains(&format!("{}  Twins", id(TEAM, no))), "{several}");
    }
    let unknown = refused(&desk, number, "Blu Ocaen").await;
    assert!(unknown.contains("no record `Blu Ocaen` of team"), "{unknown}");
    assert!(unknown.contains("did you mean `Blue Ocean`"), "{unknown}");
    // Which of two that are called alike, only the id tells.
    let twin = conflicts::plan(&desk, number, &value(&id(TEAM, 4).to_string())).await.unwrap();
    assert!(twin.words.contains(&format!("Twins ({})", id(TEAM, 4))), "{}", twin.words);

    desk.decide("jeanne", &[plan.decision]).await.unwrap();
    let lines = history::told(&desk, "person", "ann emery", Some("team_id")).await.unwrap();
    without_ids(&lines);
    for expected in [
        "team_id: Blue Ocean → Red, White",
        "Twins on airtable met Red, White on directus",
        "team_id: Red, White → Blue Ocean",
        "settled with Blue Ocean by jeanne",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:?}");
    }
    let chosen = undo::of_cell(&desk, "person", "Émery Ann", "team_id", None).await.unwrap();
    let words = undo::planned(&desk, &chosen, false).await.unwrap().words(Paint::none());
    assert!(words[0].contains("team_id: Blue Ocean → Red, White"), "{words:?}");
}

#[tokio::test]
async fn names_of_linked_records_are_in_the_plan_and_several_are_typed_with_commas() {
    let mut lab = people().await;
    let side = Side::Directus;
    let newcomer = vec![(FIRST, cell("Bo")), (LINK, link(side, 1))];
    lab.see(side, "dora", vec![present(side, PERSON, 2, newcomer)]).await;
    let desk = lab.desk().await;
    let told = plan::told(&desk).await.unwrap();
    without_ids(&told);
    let created = told.iter().find(|line| line.contains("+ person Bo")).unwrap();
    assert!(created.contains("team_id Blue Ocean"), "{created}");

    let field = |no: FieldNo| desk.mapping.entity(PERSON).field(no);
    let ids = async |typed: &str| {
        let value = desk.typed(field(LINKS), typed).await.unwrap().to_json();
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect()
    };
    let typed: Vec<Uuid> = ids("rec0x3, blue ocean").await;
    assert_eq!(typed, [id(TEAM, 1), id(TEAM, 3)]);
    let typed: Vec<Uuid> = ids("Red, White").await;
    assert_eq!(typed, [id(TEAM, 2)]);
    let refused = desk.typed(field(LINKS), "Blue Ocean, Purple").await.unwrap_err().to_string();
    assert!(refused.contains("no record `Purple` of team"), "{refused}");
}

#[tokio::test]
async fn names_that_nobody_has_are_answered_with_the_nearest() {
    let lab = people().await;
    let desk = lab.desk().await;
    let record =
        async |entity, name: &str| desk.record(entity, name).await.unwrap_err().to_string();
    assert!(record(PERSON, "Anne Emery").await.contains("did you mean `Ann Émery`"));
    assert!(record(PERSON, "anne@example.org").await.contains("did you mean `ann@example.org`"));
    assert!(record(TEAM, "zzz").await.contains("the nearest are `"));
    assert!(record(TEAM, "rec0y2").await.contains("`rec0x2`"));
    let mistyped = id(TEAM, 3).to_string().replace("0003", "0009");
    assert!(record(TEAM, &mistyped).await.contains(&id(TEAM, 3).to_string()));
    assert_eq!(desk.record(PERSON, "ANN@example.org").await.unwrap(), id(PERSON, 1));

    let nobody = person::find(&desk, PERSON, "Ann Emry").await.unwrap_err().to_string();
    assert!(nobody.contains("no person is called `Ann Emry`"), "{nobody}");
    assert!(nobody.contains("did you mean `Ann Émery`"), "{nobody}");
    let none = undo::of_batch(&desk, 999).await.unwrap_err().to_string();
    assert!(none.contains("the nearest that did are 1"), "{none}");
}

#[tokio::test]
async fn names_of_the_living_come_before_those_of_the_deleted() {
    let mut lab = people().await;
    lab.client
        .batch_execute("update canon.person set deleted_at = now() where first_name = 'Ann'")
        .await
        .unwrap();
    let desk = lab.desk().await;
    assert_eq!(desk.record(PERSON, "Ann Émery").await.unwrap(), id(PERSON, 1));
    let twin = vec![(FIRST, cell("Ann")), (LAST, cell("Emery"))];
    lab.see(Side::Directus, "dora", vec![present(Side::Directus, PERSON, 2, twin)]).await;
    assert_eq!(desk.record(PERSON, "Ann Émery").await.unwrap(), id(PERSON, 2));
}
