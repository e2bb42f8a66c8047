//! A field that the mapping points elsewhere, against a real Postgres: it asks again, and is judged with no common past.

use serde_json::json;

use super::identity_tests::{AIR, DIR, Lab, MAPPING, id, record, row};
use crate::store::{
    Books, connect,
    plan::{Proposal, Verdict},
    reading, shapes,
};

impl Lab {
    async fn books(&self) -> Books {
        let mut mapping = crate::mapping::read(&self.mapping, "mapping.toml").unwrap();
        let client = connect(&self.config).await.unwrap();
        let shapes = shapes(&client, &mut mapping).await.unwrap();
        let password = self.config.config.get_password().map(String::from_utf8_lossy);
        let pool = reading::pool(&self.config, password.as_deref()).await.unwrap();
        Books::of_reader(pool, mapping, shapes).await.unwrap()
    }

    /// Accepts all that is asked.
    async fn accept(&self) {
        let books = self.books().await;
        let proposal = books.proposal().await.unwrap();
        let verdict = books.accept(&proposal.digest, "ada").await.unwrap();
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }

    async fn proposal(&self) -> Proposal {
        self.books().await.proposal().await.unwrap()
    }

    /// As a person changes the mapping.
    fn point(&mut self, from: &str, to: &str) {
        assert!(self.mapping.contains(from));
        self.mapping = self.mapping.replacen(from, to, 1);
    }

    /// What the capture looks up: the ids of these fields of the table of firms.
    fn look_up(&mut self, fields: &[(&str, &str)]) {
        let fields: serde_json::Map<String, _> = fields
            .iter()
            .map(|(name, id)| ((*name).to_owned(), json!({ "id": id, "kind": "text" })))
            .collect();
        self.identity = Some(json!({ "webhook": "ach", "resolved": { "tables": {
            "firm": { "given": "Firms", "id": "tblFirms", "fields": fields } } } }));
    }

    async fn shadows(&self) -> Vec<String> {
        self.lines("select concat_ws(' ', side, record_id, field, value) from mirror.shadow where field <> '#id' order by 1")
            .await
    }

    async fn conflicts(&self) -> Vec<String> {
        self.lines(
            "select concat_ws(' ', record_id, field, base_is_known, canonical, observed, decision) from mirror.conflict order by 1",
        )
        .await
    }

    async fn cities(&self) -> Vec<String> {
        self.lines("select coalesce(city, '-') from canon.firm order by id").await
    }
}

const FIELDS: [(&str, &str); 3] = [("Name", "fldName"), ("SIREN", "fldSiren"), ("City", "fldCity")];

/// Three firms that are on both sides, all of them accepted.
async fn lab() -> Lab {
    let mut lab = Lab::with_mapping(MAPPING).await;
    lab.look_up(&FIELDS);
    lab.apply(vec![
        (
            DIR,
            vec![
                row(1, ["A", "", "Brest"]),
                row(2, ["B", "", "Brest"]),
                row(3, ["C", "", "Brest"]),
            ],
        ),
        (
            AIR,
            vec![
                record("recA", ["A", "", "Brest"], Some(id(1))),
                record("recB", ["B", "", "Brest"], Some(id(2))),
                record("recC", ["C", "", "Brest"], Some(id(3))),
            ],
        ),
    ])
    .await;
    lab.accept().await;
    assert!(lab.shadows().await.is_empty() && lab.proposal().await.unapproved.is_empty());
    lab
}

fn asked(proposal: &Proposal) -> Vec<(String, String)> {
    let it = proposal.unapproved.iter();
    it.map(|it| (it.field.clone(), it.difference.clone().unwrap_or_default())).collect()
}

#[tokio::test]
async fn places_field_re_pointed_in_airtable_asks_again_and_has_no_common_past() {
    let mut lab = lab().await;
    lab.point("airtable = \"City\"", "airtable = \"Region\"");
    // Before anybody knows what `Region` is, nothing of the field is written.
    let before = lab.identity.take();
    lab.apply(Vec::new()).await;
    let words = "in airtable it was main/Firms/City and is main/Firms/Region".to_owned();
    assert_eq!(asked(&lab.proposal().await), [("city".to_owned(), words.clone())]);
    assert!(before.is_some() && lab.shadows().await.is_empty());
    // It is another field: what it holds is not known, until it is read.
    lab.look_up(&[FIELDS[0], FIELDS[1], ("Region", "fldRegion")]);
    lab.apply(vec![(AIR, vec![record("recA", ["A", "", ""], Some(id(1)))])]).await;
    let unread = r##"{"#unread": true}"##;
    assert_eq!(
        lab.shadows().await,
        [
            format!("airtable {} city null", id(1)),
            format!("airtable {} city {unread}", id(2)),
            format!("airtable {} city {unread}", id(3)),
        ]
    );
    let proposal = lab.proposal().await;
    assert_eq!(asked(&proposal), [("city".to_owned(), words)]);
    assert_eq!(
        proposal.unread,
        ["city of firm was not read yet at its new place in airtable (2 records)"]
    );
    lab.apply(vec![(
        AIR,
        vec![
            record("recB", ["B", "", "Bretagne"], Some(id(2))),
            record("recC", ["C", "", "Brest"], Some(id(3))),
        ],
    )])
    .await;
    // None was emptied, none overwritten: an empty one is owed once it is accepted, a different one is a conflict.
    assert_eq!(lab.cities().await, ["Brest", "Brest", "Brest"]);
    assert_eq!(lab.conflicts().await, [format!("{} city f \"Brest\" \"Bretagne\" held", id(2))]);
    let proposal = lab.proposal().await;
    assert!(proposal.unread.is_empty());
    assert_eq!(proposal.planned.len(), 1);
    assert_eq!(proposal.planned[0].record, id(1));
    lab.accept().await;
    assert!(lab.proposal().await.unapproved.is_empty());
    // From here on there is a past.
    lab.apply(vec![(AIR, vec![record("recC", ["C", "", ""], Some(id(3)))])]).await;
    assert_eq!(lab.cities().await, ["Brest", "Brest", "-"]);
}

#[tokio::test]
async fn places_field_that_is_renamed_is_the_same_field() {
    let mut lab = lab().await;
    lab.point("airtable = \"City\"", "airtable = \"Ville\"");
    lab.look_up(&[FIELDS[0], FIELDS[1], ("Ville", "fldCity")]);
    lab.apply(vec![(AIR, vec![record("recA", ["A", "", "Lorient"], Some(id(1)))])]).await;
    assert!(lab.proposal().await.unapproved.is_empty());
    assert_eq!(lab.cities().await[0], "Lorient");
    assert!(lab.conflicts().await.is_empty());
}

#[tokio::test]
async fn places_fields_that_change_places_and_rules_that_change_ask_again() {
    let mut lab = lab().await;
    lab.client
        .batch_execute(r#"insert into mirror.position (log, side, position, identity) values ('directus', 'directus', '0/1',
            '{"slot": "s", "covered": {"public.firm": {"name": "25/-1", "city": "25/-1"}, "public.deal": {"name": "25/-1"}}}')
            on conflict (log) do update set identity = excluded.identity"#)
        .await
        .unwrap();
    lab.point("directus = \"city\"", "directus = \"siren\"");
    lab.point("directus = \"siren\"", "directus = \"city\"");
    lab.point("policy = \"prefer airtable\"", "policy = \"prefer directus\"");
    lab.apply(Vec::new()).await;
    let asked = asked(&lab.proposal().await);
    let fields: Vec<&str> = asked.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["name", "siren", "city"], "{asked:?}");
    assert!(
        asked[0].1.contains("policy prefer airtable")
            && asked[0].1.contains("policy prefer directus")
    );
    // Both columns are unread; the rule alone changes nothing of what is known.
    assert_eq!(lab.shadows().await.len(), 6);
    let covered =
        "select (identity -> 'covered')::text from mirror.position where log = 'directus'";
    assert_eq!(lab.lines(covered).await, [r#"{"public.deal": {"name": "25/-1"}}"#]);
    // Nothing changes by being looked at again, and it is the same field again once it is back where it was.
    lab.apply(Vec::new()).await;
    assert_eq!(lab.shadows().await.len(), 6);
    lab.apply(vec![(DIR, vec![row(1, ["A", "", "Brest"])])]).await;
    assert_eq!(lab.cities().await[0], "Brest");
    assert!(lab.conflicts().await.is_empty());
}

#[tokio::test]
async fn places_of_approvals_from_before_are_those_of_the_next_run() {
    let mut lab = lab().await;
    lab.client
        .batch_execute("update mirror.approval set covers = null; delete from mirror.field_place")
        .await
        .unwrap();
    assert!(lab.proposal().await.unapproved.is_empty());
    lab.apply(Vec::new()).await;
    assert!(lab.proposal().await.unapproved.is_empty());
    lab.point("airtable = \"City\"", "airtable = \"Region\"");
    assert_eq!(asked(&lab.proposal().await).len(), 1);
}
