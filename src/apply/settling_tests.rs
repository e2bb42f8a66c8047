//! Records that are born empty and filled in, against a real Postgres: when they may go to the other side, and that they
//! are looked for there once more before they do.

use uuid::Uuid;

use super::{
    Apply, Limits,
    identity_tests::{AIR, DIR, FIRM, Lab, MAPPING, id, record, row, split},
};
use crate::{
    model::{Cell, Change, FieldNo, Observation, Side, SideKey, Value},
    store::{Writer, reading},
};

const NAME: u16 = 0;
const SIREN: u16 = 1;

/// One cell that somebody types.
fn typed(key: &str, field: u16, text: &str) -> Observation {
    let cells = vec![(FieldNo(field), Cell::Value(Value::Text(text.into())))];
    let change = Change::Present { cells, claimed_id: None, made_at: None };
    Observation { entity: FIRM, key: SideKey::from(key), change }
}

fn empty(key: &str) -> Observation {
    record(key, ["", "", ""], None)
}

impl Lab {
    /// The outbox for Directus: about how many seconds a row still waits for quiet, and whether it began to.
    async fn waits(&self) -> Vec<String> {
        self.lines(
            "select concat_ws(' ', side, round(extract(epoch from settles_at - now()) / 10)::int * 10, settle_began_at is not null)
             from mirror.outbox where side = 'directus' order by queued_at",
        )
        .await
    }

    /// As if so many seconds had passed.
    async fn pass(&self, seconds: u32) {
        let sql = format!(
            "update mirror.outbox set settles_at = settles_at - interval '{seconds} s',
                 settle_began_at = settle_began_at - interval '{seconds} s'"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// As if so many seconds had passed, and the line looks for what is quiet.
    async fn settle(&mut self, seconds: u32) {
        self.pass(seconds).await;
        let mapping = crate::mapping::read(&self.mapping, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let mut apply = Apply::new(writer, Vec::new(), Limits { batch_row_count_max: 10 });
        apply.let_quiet_go().await.unwrap();
    }

    async fn take_due(&self, side: Side) -> Vec<Uuid> {
        let mapping = crate::mapping::read(MAPPING, "mapping.toml").unwrap();
        let writer = Writer::open(&self.config, mapping).await.unwrap();
        let password = self.config.config.get_password().map(String::from_utf8_lossy);
        let pool = reading::pool(&self.config, password.as_deref()).await.unwrap();
        let books = writer.books(pool);
        let due = books.take_due(side, 100).await.unwrap();
        due.into_values().flatten().collect()
    }
}

#[tokio::test]
async fn settling_record_waits_for_quiet_since_its_last_change_and_at_most_five_minutes() {
    let mut lab = Lab::open().await;
    lab.apply(vec![(AIR, vec![empty("recA")])]).await;
    // Without a value there is nothing to wait for: the push looks, and finds that it lacks one.
    assert_eq!(lab.waits().await, ["directus f"]);
    lab.apply(vec![(AIR, vec![typed("recA", NAME, "H")])]).await;
    assert_eq!(lab.waits().await, ["directus 20 t"]);
    lab.pass(15).await;
    // Another process, another keystroke: quiet begins anew, and the first value does not.
    lab.apply(vec![(AIR, vec![typed("recA", NAME, "Hou")])]).await;
    assert_eq!(lab.waits().await, ["directus 20 t"]);
    assert!(lab.take_due(DIR).await.is_empty());
    for _ in 0..18 {
        lab.pass(15).await;
        lab.apply(vec![(AIR, vec![typed("recA", NAME, "Houl"), typed("recA", NAME, "Houle")])])
            .await;
    }
    // 285 s since the first value: it goes when these are 300, though somebody still types.
    let longest = "select extract(epoch from settles_at - settle_began_at)::int::text from mirror.outbox where side = 'directus'";
    assert_eq!(lab.lines(longest).await, ["300"]);
    lab.settle(15).await;
    assert_eq!(lab.waits().await, ["directus f"]);
    let made = lab.id_of("recA").await;
    assert_eq!(lab.take_due(DIR).await, [made]);
}

#[tokio::test]
async fn settling_record_that_is_filled_in_is_found_before_it_is_created() {
    let mut lab = Lab::open().await;
    lab.apply(vec![(DIR, vec![row(1, ["Houle", "552100554", "Brest"])])]).await;
    lab.apply(vec![(AIR, vec![empty("recA")])]).await;
    lab.apply(vec![(AIR, vec![typed("recA", SIREN, "552100554")])]).await;
    // Not while somebody types: it may be the beginning of another one.
    assert!(lab.matches().await.is_empty());
    // Nor after a pause of ours, in which somebody may have typed on.
    lab.pass(20).await;
    lab.apply(vec![(AIR, vec![typed("recB", NAME, "Other")])]).await;
    assert!(lab.matches().await.is_empty());
    lab.settle(20).await;
    assert_eq!(lab.matches().await, ["airtable recA siren"]);
    assert_eq!(lab.id_of("recA").await, id(1));
    let firms =
        lab.lines("select concat_ws(' ', name, siren, city) from canon.firm order by 1").await;
    assert_eq!(firms, ["Houle 552100554 Brest", "Other"]);
    // It lacks nothing there; the cells that it did not have are owed to Airtable, whose record is told its id.
    let shadows =
        "select field || ' ' || value from mirror.shadow where side = 'airtable' order by 1";
    assert_eq!(lab.lines(shadows).await, ["#id null", "city null", "name null"]);
    let absences = format!("select side from mirror.absence where record_id = '{}'", id(1));
    assert!(lab.lines(&absences).await.is_empty());
    let by = "select distinct t.author_name || ' ' || t.via from mirror.journal j
              join mirror.source_transaction t using (source_transaction_id) where j.action = 'delete'";
    assert_eq!(lab.lines(by).await, ["plait match"]);
}

#[tokio::test]
async fn settling_row_of_directus_keeps_its_id_when_it_is_found() {
    let mut lab = Lab::open().await;
    lab.apply(vec![(AIR, vec![record("recA", ["Houle", "552100554", ""], None)])]).await;
    lab.apply(vec![(DIR, vec![row(7, ["Houle", "", ""])])]).await;
    lab.apply(vec![(DIR, vec![row(7, ["Houle", "552100554", "Brest"])])]).await;
    lab.settle(20).await;
    assert_eq!(lab.id_of("recA").await, id(7));
    let firms = lab.lines("select concat_ws(' ', id, name, city) from canon.firm").await;
    assert_eq!(firms, [format!("{} Houle Brest", id(7))]);
}

#[tokio::test]
async fn settling_record_that_may_be_another_one_is_a_question_and_not_twice() {
    let mut lab = Lab::open().await;
    lab.apply(vec![(
        DIR,
        vec![
            row(1, ["Twin", "", "Brest"]),
            row(2, ["Twin", "", "Brest"]),
            row(3, ["Sel", "", "Nantes"]),
        ],
    )])
    .await;
    lab.apply(vec![(AIR, vec![empty("recA")])]).await;
    lab.apply(vec![(AIR, vec![record("recA", ["Twin", "", "Brest"], None)])]).await;
    lab.settle(20).await;
    assert_eq!(lab.questions().await, ["airtable recA 2 `name+city` agrees with 2 records"]);
    // A person says that it is none of them; then another value comes.
    let answer = "update mirror.match_question set answered_at = now(), answered_by = 'ada'";
    lab.client.batch_execute(answer).await.unwrap();
    lab.apply(vec![(AIR, vec![typed("recA", SIREN, "732829320")])]).await;
    lab.settle(20).await;
    assert_eq!(lab.questions().await.len(), 1);
    assert!(lab.matches().await.is_empty());
    // Who was told apart by a split is not joined again.
    lab.apply(vec![(AIR, vec![record("recB", ["Sel", "", "Nantes"], None)])]).await;
    assert_eq!(lab.matches().await, ["airtable recB name+city"]);
    assert_eq!(lab.decide(split(AIR, "recB")).await, None);
    lab.apply(vec![(AIR, vec![typed("recB", NAME, "SEL")])]).await;
    lab.settle(20).await;
    assert_ne!(lab.id_of("recB").await, id(3));
}

#[tokio::test]
async fn settling_of_nothing_looks_for_a_record_again_and_edits_wait_where_the_mapping_says() {
    let mapping =
        MAPPING.replacen("version = 1\n", "version = 1\nsettle_s = 0\nedit_settle_s = 10\n", 1);
    let mut lab = Lab::with_mapping(&mapping).await;
    lab.apply(vec![(DIR, vec![row(1, ["Houle", "552100554", "Brest"])])]).await;
    lab.apply(vec![(AIR, vec![record("recA", ["New", "", ""], None)])]).await;
    assert_eq!(lab.waits().await, ["directus f"]);
    lab.apply(vec![(AIR, vec![typed("recA", SIREN, "552100554")])]).await;
    lab.settle(0).await;
    assert_eq!(lab.matches().await, ["airtable recA siren"]);
    // It is on both sides now: an edit waits for the edits' time.
    lab.client.batch_execute("delete from mirror.outbox").await.unwrap();
    lab.apply(vec![(AIR, vec![typed("recA", NAME, "Houle 2")])]).await;
    assert_eq!(lab.waits().await, ["directus 10 t"]);
}
