//! What people enter on a side and canonical cannot take: kept before anything goes over it, and shown.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    conflicts::{self, Choice},
    errors, history,
    terminal::Paint,
    way_back_tests::{Lab, cell, id, key, present},
};
use crate::{
    mapping::CellFormat,
    merge::{Operation, OperationKind, SentCell},
    model::{Cell, Change, EntityNo, FieldNo, Observation, RecordId, Side, Value},
    store::conflict::{self, Conflict},
};

const PERSON: EntityNo = EntityNo(0);
const NAME: FieldNo = FieldNo(0);
const PHONE: FieldNo = FieldNo(1);
const BORN: FieldNo = FieldNo(2);
const BOSS: FieldNo = FieldNo(3);

const MAPPING: &str = r#"
version = 1
[entity.person]
table = "person"
airtable = { base = "main", table = "People", uuid = "UUID" }
directus = { table = "person" }
deletes = "propagate"
[entity.person.field]
name = { type = "text", airtable = "Name", directus = "name" }
phone = { type = "phone", region = "FR", airtable = "Phone", directus = "phone", policy = "ask" }
born_on = { type = "date", airtable = { field = "Born", transform = "date_dmy" }, directus = "born_on" }
boss_id = { type = "link", target = "person", airtable = "Boss", directus = "boss_id" }
"#;

const TABLES: &str = "
    create table canon.person (id uuid primary key, name varchar(20), phone text, born_on date,
        boss_id uuid references canon.person deferrable initially deferred)";

const ONE: &str = "+33612345601";
const TWO: &str = "+33612345602";

/// Somebody with a number, on both sides.
async fn people() -> Lab {
    let mut lab = Lab::open(MAPPING, TABLES).await;
    for side in Side::ALL.into_iter().rev() {
        let cells = vec![(NAME, cell("Ann")), (PHONE, cell(ONE))];
        lab.see(side, "first", vec![present(side, PERSON, 1, cells)]).await;
    }
    lab
}

impl Lab {
    /// A cell as the side's capture reads it.
    fn read(&self, side: Side, field: FieldNo, json: &Json) -> Cell {
        let mapping = self.mapping();
        let field = mapping.entity(PERSON).field(field);
        match side {
            Side::Airtable => field.read_airtable(Some(json), CellFormat::V2),
            Side::Directus => field.read_postgres(json.as_str().map(str::as_bytes)),
        }
    }

    async fn enter(&mut self, side: Side, author: &str, cells: &[(FieldNo, Json)]) {
        let cells = cells.iter().map(|(no, json)| (*no, self.read(side, *no, json))).collect();
        self.see(side, author, vec![present(side, PERSON, 1, cells)]).await;
    }

    /// Binds a write of the cell that the side is owed, as a push does before it sends.
    async fn bind(&self, side: Side, field: FieldNo, expected: &str, value: &str) {
        let writer = self.writer().await;
        let books = writer.books(self.desk().await.pool);
        let record = id(PERSON, 1);
        assert_eq!(books.take_due(side, 10).await.unwrap()[&PERSON], [record]);
        let text = |text: &str| Value::Text(text.into());
        let cells = vec![SentCell { field, expected: text(expected), value: text(value) }];
        let (id, kind) = (Uuid::now_v7(), OperationKind::Update);
        let operation = Operation::new(id, side, kind, cells);
        let bound = books.bind(PERSON, &[(RecordId(record), operation)]).await.unwrap();
        assert_eq!(bound, [RecordId(record)]);
    }

    async fn unfit(&self) -> Vec<Conflict> {
        let desk = self.desk().await;
        let mut all = conflict::conflicts(&desk.pool, true, None, 10).await.unwrap();
        all.retain(|conflict| conflict.unfit.is_some());
        all.sort_by_key(|conflict| conflict.conflict_id);
        all
    }

    /// What was kept, and what was in its place then.
    async fn kept(&self) -> Vec<(String, Json, Json)> {
        let rows = self.unfit().await.into_iter();
        rows.map(|it| (it.field.unwrap_or_default(), it.observed, it.canonical)).collect()
    }

    async fn refused(&self) -> String {
        self.text("select string_agg(field || '=' || (raw #>> '{}'), ' ' order by field) from mirror.refusal")
            .await
    }
}

fn row(field: &str, held: &str, now: Json) -> (String, Json, Json) {
    (field.into(), json!(held), now)
}

#[tokio::test]
async fn unfit_text_of_either_side_is_kept_before_a_write_goes_over_it() {
    for (side, other) in [(Side::Airtable, Side::Directus), (Side::Directus, Side::Airtable)] {
        let mut lab = people().await;
        lab.enter(side, "axel", &[(PHONE, json!("ask Zoé"))]).await;
        assert_eq!(lab.refused().await, "phone=ask Zoé", "{side}");
        let desk = lab.desk().await;
        let told = async |what: &str| {
            let lines =
                history::told(&desk, "person", &key(side, PERSON, 1).0, None).await.unwrap();
            lines.into_iter().find(|line| line.contains(what)).unwrap_or_default()
        };
        let line = told("ask Zoé").await;
        assert!(line.contains("axel") && line.contains("not taken phone: ask Zoé"), "{line}");
        let errors = errors::lines(&desk, false, false, Paint::none()).await.unwrap().join("\n");
        assert!(errors.contains("ask Zoé entered by axel"), "{errors}");
        assert_eq!(lab.kept().await, [], "it is still there");

        lab.see(other, "dora", vec![present(other, PERSON, 1, vec![(PHONE, cell(TWO))])]).await;
        lab.bind(side, PHONE, ONE, TWO).await;
        let kept = lab.unfit().await;
        let [conflict] = kept.as_slice() else { panic!("{kept:?}") };
        assert_eq!(conflict.observed_author.as_deref(), Some("axel"));
        assert_eq!(conflict.canonical_author.as_deref(), Some("dora"));
        assert!(conflict.observed_at.is_some() && !conflict.is_open());
        assert_eq!(lab.kept().await, [row("phone", "ask Zoé", json!(TWO))]);

        // The write arrives: once is enough.
        lab.enter(side, "plait", &[(PHONE, json!(TWO))]).await;
        assert_eq!(lab.refused().await, "");
        assert_eq!(lab.kept().await.len(), 1);
        let line = told("ask Zoé").await;
        assert!(line.contains("axel") && line.contains("phone: ask Zoé"), "{line}");
        assert!(told("replaced by").await.contains(TWO));
        let number = conflict.conflict_id;
        let choice = |side: Option<Side>| Choice {
            airtable: side == Some(Side::Airtable),
            directus: side == Some(Side::Directus),
            canonical: false,
            value: side.is_none().then(|| "+33612345603".into()),
        };
        let refused = conflicts::plan(&desk, number, &choice(Some(side))).await.unwrap_err();
        assert!(refused.to_string().contains("cannot be taken"), "{refused}");
        let plan = conflicts::plan(&desk, number, &choice(None)).await.unwrap();
        assert_eq!(desk.decide("jeanne", &[plan.decision]).await.unwrap().outcome, None);
        assert_eq!(lab.text("select phone from canon.person").await, "+33612345603");
    }
}

#[tokio::test]
async fn unfit_text_is_kept_when_its_own_side_replaces_it() {
    let mut lab = people().await;
    for (field, text) in [
        (BORN, json!("31/02/1990")),
        (BORN, json!("32/02/1990")),
        (NAME, json!("Ann with far too long a name")),
        (PHONE, json!("none")),
    ] {
        lab.enter(Side::Airtable, "axel", &[(field, text)]).await;
    }
    assert_eq!(
        lab.refused().await,
        "born_on=32/02/1990 name=Ann with far too long a name phone=none"
    );
    lab.enter(Side::Airtable, "anna", &[(BORN, Json::Null), (NAME, json!("Anna"))]).await;
    // Once more in one transaction, and a record that goes.
    let cells = |json: Json| vec![(BORN, lab.read(Side::Airtable, BORN, &json))];
    let both = [json!("30/02/1991"), json!("28/02/1991")];
    let both = both.map(|json| present(Side::Airtable, PERSON, 1, cells(json)));
    lab.see(Side::Airtable, "axel", both.to_vec()).await;
    let gone =
        Observation { entity: PERSON, key: key(Side::Airtable, PERSON, 1), change: Change::Absent };
    lab.see(Side::Airtable, "axel", vec![gone]).await;
    assert_eq!(
        lab.kept().await,
        [
            row("born_on", "31/02/1990", json!("32/02/1990")),
            row("born_on", "32/02/1990", Json::Null),
            row("name", "Ann with far too long a name", json!("Anna")),
            row("born_on", "30/02/1991", json!("1991-02-28")),
            row("phone", "none", Json::Null),
        ]
    );
    let authors: Vec<_> = lab.unfit().await.into_iter().map(|it| it.observed_author).collect();
    assert_eq!(authors, vec![Some("axel".to_owned()); 5]);
    assert_eq!(lab.refused().await, "");
}

#[tokio::test]
async fn unfit_value_that_is_taken_at_last_is_not_said_to_be_lost() {
    let mut lab = people().await;
    // A link that waits for its record, and a name that fits once the table lets it.
    let boss = Cell::Link(Some(key(Side::Airtable, PERSON, 2)));
    lab.see(Side::Airtable, "axel", vec![present(Side::Airtable, PERSON, 1, vec![(BOSS, boss)])])
        .await;
    lab.enter(Side::Directus, "dora", &[(NAME, json!("Ann with far too long a name"))]).await;
    assert_eq!(lab.refused().await, "boss_id=rec0x2 name=Ann with far too long a name");
    lab.client.batch_execute("alter table canon.person alter name type text").await.unwrap();
    lab.enter(Side::Directus, "dora", &[(NAME, json!("Ann with far too long a name"))]).await;
    let two = present(Side::Airtable, PERSON, 2, vec![(NAME, cell("Bea"))]);
    lab.see(Side::Airtable, "axel", vec![two]).await;
    assert_eq!(lab.refused().await, "");
    assert_eq!(lab.kept().await, []);
}
