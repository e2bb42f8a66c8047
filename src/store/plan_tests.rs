//! Plans against a real Postgres: what is in them, and what a yes holds for.

use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    Canonical, Writer,
    books::Books,
    connect, migrate,
    plan::{PlannedKind, Proposal, Verdict, answer_different, questions},
    reading, shapes,
};
use crate::{
    demo::{cache::postgres_bin, cluster::Cluster},
    mapping::{self, Mapping},
    model::{Side, Value},
    postgres::TlsMode,
};

const TABLES: &str = "
    create table canon.thing (id uuid primary key, name text, size integer, deleted_at timestamptz)";

/// A canonical database with one entity on both sides, both read whole.
struct Lab {
    _cluster: Cluster,
    config: Canonical,
    client: Client,
}

impl Lab {
    async fn open() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database planned").await.unwrap();
        let config = cluster.config("planned", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        migrate(&config).await.unwrap();
        let client = cluster.connect("planned").await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        client
            .batch_execute(
                "insert into mirror.position (log, side, position) values
                     ('directus', 'directus', '0/1'), ('airtable:app1', 'airtable', 'w#1')",
            )
            .await
            .unwrap();
        // As a run does: the mapping's entities get their numbers.
        drop(Writer::open(&config, mapping_with("")).await.unwrap());
        Self { _cluster: cluster, config, client }
    }

    /// As a command opens it, with this in the mapping besides.
    async fn books(&self, more: &str) -> Books {
        let mut mapping = mapping_with(more);
        let client = connect(&self.config).await.unwrap();
        let shapes = shapes(&client, &mut mapping).await.unwrap();
        let password = self.config.config.get_password().map(|it| String::from_utf8_lossy(it));
        let pool = reading::pool(&self.config, password.as_deref()).await.unwrap();
        Books::of_reader(pool, mapping, shapes).await.unwrap()
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn approved(&self) -> Vec<String> {
        let sql = "select field from mirror.approval order by field";
        self.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// A record that only Directus has, and one where Airtable holds another name.
    async fn fill(&self) {
        self.sql(&format!(
            "insert into canon.thing (id, name, size) values ('{}', 'new', 3), ('{}', 'canonical', 4);
             insert into mirror.absence (record_id, entity_no, side, source_transaction_id, was_deleted)
                 values ('{}', 1, 'airtable', 1, false);
             insert into mirror.shadow (record_id, entity_no, side, field, value)
                 values ('{}', 1, 'airtable', 'name', '\"held\"'), ('{}', 1, 'airtable', '#id', 'null');
             insert into mirror.link (side, entity_no, side_key, record_id) values ('airtable', 1, 'rec1', '{}');
             insert into mirror.outbox (side, entity_no, record_id, due_at)
                 values ('airtable', 1, '{}', now() + interval '1 hour')",
            id(1), id(2), id(1), id(2), id(2), id(2), id(1),
        ))
        .await;
    }
}

fn mapping_with(more: &str) -> Mapping {
    let text = format!(
        r#"
version = 1
[entity.thing]
table = "thing"
airtable = {{ base = "net", table = "Things", uuid = "UUID" }}
directus = {{ table = "thing" }}
[entity.thing.field]
name = {{ type = "text", airtable = "Name", directus = "name" }}
{more}
"#
    );
    mapping::read(&text, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn id(no: u8) -> Uuid {
    Uuid::from_u64_pair(0x4000, 1 << 63 | u64::from(no))
}

fn kinds(proposal: &Proposal) -> Vec<(Side, Uuid, PlannedKind, bool)> {
    proposal.planned.iter().map(|it| (it.side, it.record, it.kind, it.writes_id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_accepted_is_the_one_that_was_shown_or_nothing() {
    let lab = Lab::open().await;
    lab.fill().await;
    let books = lab.books("").await;
    let shown = books.proposal().await.unwrap();
    assert_eq!(
        kinds(&shown),
        [
            (Side::Airtable, id(1), PlannedKind::Create, false),
            (Side::Airtable, id(2), PlannedKind::Update, true),
        ]
    );
    let cells = &shown.planned[1].cells;
    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0].expected, Value::Text("held".into()));
    assert_eq!(cells[0].value, Value::Text("canonical".into()));
    assert_eq!(books.proposal().await.unwrap().digest, shown.digest, "the same is the same plan");
    books.note_shown(&shown, "ann").await.unwrap();
    assert_eq!(books.last_shown().await.unwrap().unwrap().plan_digest, shown.digest);

    // Somebody changes a value meanwhile: nothing is accepted.
    lab.sql("update canon.thing set name = 'newer' where name = 'new'").await;
    let Verdict::Changed(now) = books.accept(&shown.digest, "ann").await.unwrap() else {
        panic!("a plan that does not hold any more was accepted");
    };
    assert_ne!(now.digest, shown.digest);
    assert!(lab.approved().await.is_empty());

    let Verdict::Accepted { field_count: count, .. } =
        books.accept(&now.digest, "ann").await.unwrap()
    else {
        panic!("the plan as it is was not accepted");
    };
    assert_eq!((count, lab.approved().await), (2, vec!["*".to_owned(), "name".to_owned()]));
    let row = lab
        .client
        .query_one("select count(*) filter (where due_at <= now()) from mirror.outbox", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "what is owed is due at once");
    let rest = books.proposal().await.unwrap();
    assert!(rest.planned.is_empty() && rest.unapproved.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_of_a_new_field_is_for_just_that() {
    let lab = Lab::open().await;
    lab.fill().await;
    let books = lab.books("").await;
    let digest = books.proposal().await.unwrap().digest;
    assert!(matches!(
        books.accept(&digest, "ann").await.unwrap(),
        Verdict::Accepted { field_count: 2, .. }
    ));

    let size = r#"size = { type = "integer", airtable = "Size", directus = "size" }"#;
    lab.sql(&format!(
        "insert into mirror.shadow (record_id, entity_no, side, field, value)
         values ('{}', 1, 'airtable', 'size', '7')",
        id(2)
    ))
    .await;
    let books = lab.books(size).await;
    let plan = books.proposal().await.unwrap();
    assert_eq!(
        kinds(&plan),
        [
            (Side::Airtable, id(1), PlannedKind::Update, false),
            (Side::Airtable, id(2), PlannedKind::Update, false),
        ],
        "the name and the id were accepted before"
    );
    for (planned, (expected, value)) in
        plan.planned.iter().zip([(Value::Null, Value::Int(3)), (Value::Int(7), Value::Int(4))])
    {
        assert_eq!(planned.cells.len(), 1);
        assert_eq!((&planned.cells[0].expected, &planned.cells[0].value), (&expected, &value));
    }
    assert!(matches!(
        books.accept(&plan.digest, "ann").await.unwrap(),
        Verdict::Accepted { field_count: 1, .. }
    ));
    assert_eq!(lab.approved().await, ["*", "name", "size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_is_not_accepted_before_both_sides_are_read() {
    let lab = Lab::open().await;
    lab.sql("delete from mirror.position where side = 'airtable'").await;
    let books = lab.books("").await;
    let plan = books.proposal().await.unwrap();
    assert_eq!(plan.unread, ["Airtable was not read whole yet"]);
    assert!(matches!(books.accept(&plan.digest, "ann").await.unwrap(), Verdict::Changed(_)));
    assert!(lab.approved().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_waits_for_apply_to_commit_and_apply_for_the_yes() {
    let lab = Lab::open().await;
    lab.fill().await;
    let books = lab.books("").await;
    let shown = books.proposal().await.unwrap();
    // A transaction of apply's is under way, and owes something else.
    lab.sql(
        "begin;
         insert into mirror.source_transaction (source_transaction_id, side, at, via) values (1, 'directus', now(), 'sql');
         update canon.thing set name = 'late' where name = 'new'",
    )
    .await;
    let accepting = {
        let (books, digest) = (books.clone(), shown.digest.clone());
        tokio::spawn(async move { books.accept(&digest, "ann").await })
    };
    // It is the lock that it waits for.
    let other = connect(&lab.config).await.unwrap();
    loop {
        let sql = "select count(*) from pg_locks where not granted and relation = 'mirror.source_transaction'::regclass";
        if other.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            break;
        }
        assert!(!accepting.is_finished(), "the yes did not wait for the transaction under way");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    lab.sql("commit").await;
    assert!(matches!(accepting.await.unwrap().unwrap(), Verdict::Changed(_)));
    assert!(lab.approved().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_leaves_a_record_in_question_out_until_it_is_answered() {
    let lab = Lab::open().await;
    lab.fill().await;
    lab.sql(&format!(
        "insert into mirror.match_question (entity_no, side, side_key, record_id, candidates, reason)
         values (1, 'directus', 'k', '{}', array['{}'::uuid], 'the same name')",
        id(1),
        id(2)
    ))
    .await;
    let books = lab.books("").await;
    let before = books.proposal().await.unwrap();
    assert_eq!(kinds(&before), [(Side::Airtable, id(2), PlannedKind::Update, true)]);
    let [question] = &before.questions[..] else { panic!("{:?}", before.questions) };
    assert!(answer_different(&books.pool, question.match_question_id, "ann").await.unwrap());
    assert!(!answer_different(&books.pool, question.match_question_id, "bob").await.unwrap());
    assert!(questions(&books.pool).await.unwrap().is_empty());
    let after = books.proposal().await.unwrap();
    assert_eq!(after.planned.len(), 2);
    assert_ne!(after.digest, before.digest);
}
