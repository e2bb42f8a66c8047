//! The journal followed on a real Postgres: what is raised, once, over crashes and restarts.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{Follower, keep_following, past};
use crate::{
    config::alert::{On, Rule, built_in},
    demo::{cache::postgres_bin, cluster::Cluster, model::MAPPING},
    mapping::{self, Mapping},
    postgres::TlsMode,
    pulse::Pulse,
    store::{
        self, Canonical, TableShape,
        alert::{self as stored, Raised, Wanted},
        reading,
    },
};

const LOGS: [&str; 2] = ["directus", "airtable:appN"];

/// Companies, people and a project as the first copies brought them, without entries of the journal.
const COPIED: &str = "
    insert into canon.startup (id, name) values ('00000000-0000-4000-8000-000000000001', 'Voile Solaire');
    insert into canon.member (id, first_name, last_name, status_code) values
        ('00000000-0000-4000-8000-000000000002', 'Luc', 'Moreau', 'active'),
        ('00000000-0000-4000-8000-000000000003', 'Marie', 'Curie', 'active');
    insert into canon.project (id, name, startup_id, stage_code) values
        ('00000000-0000-4000-8000-000000000004', 'Voile', '00000000-0000-4000-8000-000000000001', 'pitch')";

struct Lab {
    cluster: Cluster,
    client: Client,
    pool: PgPool,
    mapping: Arc<Mapping>,
    shapes: Vec<TableShape>,
    journal_id: i64,
}

impl Lab {
    async fn open() -> Self {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        cluster.sql("postgres", "create database alerts").await.unwrap();
        let config = cluster.config("alerts", "postgres", cluster.password());
        let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
        store::migrate(&canonical).await.unwrap();
        let pool = reading::pool(&canonical, Some(cluster.password())).await.unwrap();
        let client = cluster.connect("alerts").await.unwrap();
        let mut mapping =
            mapping::read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"));
        let shapes = store::shapes(&client, &mut mapping).await.unwrap();
        for (at, entity) in mapping.entities.iter().enumerate() {
            let number = i16::try_from(at).unwrap();
            client
                .execute("insert into mirror.entity values ($1, $2)", &[&number, &entity.name])
                .await
                .unwrap();
        }
        Self { cluster, client, pool, mapping: Arc::new(mapping), shapes, journal_id: 0 }
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn copied(&self, log: &str) {
        let side = log.split(':').next().unwrap();
        let sql = "insert into mirror.position (log, side, position) values ($1, $2, '1')";
        self.client.execute(sql, &[&log, &side]).await.unwrap();
    }

    /// An entry of the journal, with a transaction of its own.
    async fn entry(
        &mut self,
        (side, author, via): (&str, Option<&str>, &str),
        (entity, id): (&str, u8),
        action: &str,
        (before, after): (&str, &str),
    ) {
        self.journal_id += 1;
        self.client
            .execute(
                "insert into mirror.source_transaction (source_transaction_id, side, at, author_id, via)
                 values ($1, $2, now(), $3, $4)",
                &[&self.journal_id, &side, &author, &via],
            )
            .await
            .unwrap();
        self.client
            .execute(
                "insert into mirror.journal (journal_id, source_transaction_id, entity_no, record_id, action, before, after)
                 select $1, $1, entity_no, $3::text::uuid, $4, $5::text::json, $6::text::json
                 from mirror.entity where name = $2",
                &[&self.journal_id, &entity, &format!("00000000-0000-4000-8000-{id:012}"), &action, &before, &after],
            )
            .await
            .unwrap();
    }

    fn follower(&self, rules: Vec<Rule>) -> Follower {
        Follower {
            pool: self.pool.clone(),
            mapping: Arc::clone(&self.mapping),
            shapes: self.shapes.clone(),
            rules,
            logs: LOGS.map(str::to_owned).to_vec(),
        }
    }

    /// As `plait run` does from its start to its stop.
    async fn follow(&self, rules: Vec<Rule>) -> Vec<String> {
        let stop = CancellationToken::new();
        stop.cancel();
        keep_following(self.follower(rules), Pulse::new(), stop).await;
        self.said().await
    }

    async fn said(&self) -> Vec<String> {
        let line = |alert: Raised| {
            format!("{} | {} | {} | {}", alert.rule, alert.text_en, alert.author, alert.side)
        };
        let wanted = Wanted { count_max: 100, ..Wanted::default() };
        stored::list(&self.pool, &wanted).await.unwrap().into_iter().map(line).collect()
    }
}

const CLIENT: (&str, Option<&str>, &str) = ("airtable", Some("jeanne@example.org"), "client");
const LISTING: (&str, Option<&str>, &str) = ("airtable", None, "listing");

#[tokio::test]
async fn alerts_follow_the_journal_from_the_end_of_the_first_copies_and_raise_once() {
    let mut lab = Lab::open().await;
    lab.sql(COPIED).await;
    // One side is copied, the other is being listed.
    lab.copied(LOGS[0]).await;
    assert!(lab.follow(built_in()).await.is_empty());
    lab.sql("insert into canon.legal_event (id, label, startup_id, kind_code) values
        ('00000000-0000-4000-8000-000000000005', 'Old', '00000000-0000-4000-8000-000000000001', 'liquidation')")
        .await;
    lab.entry(LISTING, ("legal_event", 5), "create", ("{}", r#"{"kind_code":"liquidation"}"#))
        .await;
    assert!(lab.follow(built_in()).await.is_empty());
    lab.copied(LOGS[1]).await;
    // Between the end of the copies and the first look.
    lab.sql("update canon.project set stage_code = 'comite'").await;
    let stage = (r#"{"stage_code":"pitch"}"#, r#"{"stage_code":"comite"}"#);
    let marie = ("directus", Some("00000000-0000-4000-8000-000000000003"), "Firefox");
    lab.entry(marie, ("project", 4), "update", stage).await;
    let told =
        "stage_change | Voile (Voile Solaire): stage Pitch → Committee | Marie Curie | directus";
    assert_eq!(lab.follow(built_in()).await, [told]);
    assert_eq!(lab.follow(built_in()).await, [told], "nothing twice");

    // While no plait runs; a person's decision among it, and what nobody asked for.
    lab.sql("insert into canon.legal_event (id, label, startup_id, kind_code, capital_before, capital_after) values
        ('00000000-0000-4000-8000-000000000006', 'AK', '00000000-0000-4000-8000-000000000001', 'augmentation_nature', 100, 150)")
        .await;
    let kind =
        r#"{"kind_code":"augmentation_nature","capital_before":"100.00","capital_after":"150.00"}"#;
    lab.entry(CLIENT, ("legal_event", 6), "create", ("{}", kind)).await;
    let left = (r#"{"status_code":"active"}"#, r#"{"status_code":"left"}"#);
    lab.entry(("plait", Some("jeanne"), "plait"), ("member", 2), "update", left).await;
    lab.entry(CLIENT, ("member", 3), "update", (r#"{"city":null}"#, r#"{"city":"Brest"}"#)).await;
    // The database fails in the midst: nothing is written, and nothing lost.
    lab.sql("alter table mirror.alert rename to away").await;
    let mut begun = None;
    assert!(lab.follower(built_in()).drain(&mut begun, &CancellationToken::new()).await.is_err());
    lab.sql("alter table mirror.away rename to alert").await;
    lab.follower(built_in()).drain(&mut begun, &CancellationToken::new()).await.unwrap();
    let all = [
        told.to_owned(),
        "capital_increase | Voile Solaire: Capital increase in kind, share capital €100.00 → €150.00 (“AK”) | jeanne@example.org | airtable".to_owned(),
        "member_left | Luc Moreau: status Active → Left | jeanne | plait".to_owned(),
    ];
    assert_eq!(lab.said().await, all);
    // A crash that lost the place, as if a backup of it alone had come back: raised already.
    lab.sql("update mirror.alert_position set journal_id = 0").await;
    assert_eq!(lab.follow(built_in()).await, all);

    // A rule that comes later begins with what comes later.
    let city = |name: &str| Rule {
        name: name.into(),
        place: Some("plait.toml:1".into()),
        on: On::FieldChange {
            entity: "member".into(),
            field: "city".into(),
            from: vec![],
            to: vec!["Brest".into()],
        },
    };
    assert_eq!(lab.follow(vec![city("city")]).await.len(), 3);
    // Without any rule the place goes on, so that rules which come back do not look into the past.
    lab.entry(CLIENT, ("member", 2), "update", left).await;
    assert_eq!(lab.follow(vec![]).await.len(), 3);
    assert_eq!(lab.follow(built_in()).await.len(), 3);
    lab.entry(CLIENT, ("member", 3), "update", (r#"{"city":"Paris"}"#, r#"{"city":"Brest"}"#))
        .await;
    assert_eq!(lab.follow(vec![city("city"), city("again")]).await.len(), 5, "one for each rule");

    // What a later reading of everything finds is news; what is mapped later is not for a day.
    lab.entry(LISTING, ("member", 3), "update", left).await;
    assert_eq!(lab.follow(built_in()).await.len(), 6);
    lab.sql("delete from mirror.alert_scope where entity_no = (select entity_no from mirror.entity where name = 'member')").await;
    lab.entry(LISTING, ("member", 2), "update", left).await;
    assert_eq!(lab.follow(built_in()).await.len(), 6);

    complete(&mut lab).await;

    // The past on demand: the first copy and its listing left out, and nothing written.
    let mut tried = Vec::new();
    let follower = lab.follower(vec![city("city")]);
    past(&follower, DateTime::<Utc>::UNIX_EPOCH, |alert| {
        tried.push(alert.text_en);
        true
    })
    .await
    .unwrap();
    assert_eq!(tried, ["Marie Curie: city (empty) → Brest", "Marie Curie: city Paris → Brest"]);
    past(&follower, Utc::now(), |_| panic!("nothing since")).await.unwrap();
    assert_eq!(lab.said().await.len(), 6);

    tick_off(&lab).await;
    lab.pool.close().await;
    lab.cluster.remove().await.unwrap();
}

/// A row that is filled in cell by cell, the kind first.
async fn complete(lab: &mut Lab) {
    lab.sql("insert into canon.legal_event (id, kind_code) values ('00000000-0000-4000-8000-000000000010', 'liquidation')").await;
    lab.entry(CLIENT, ("legal_event", 10), "create", ("{}", "{}")).await;
    lab.entry(
        CLIENT,
        ("legal_event", 10),
        "update",
        (r#"{"kind_code":null}"#, r#"{"kind_code":"liquidation"}"#),
    )
    .await;
    let last = async |lab: &Lab| lab.follow(built_in()).await.pop().unwrap();
    let end = "| jeanne@example.org | airtable";
    assert_eq!(last(lab).await, format!("insolvency | No company given: Liquidation {end}"));
    lab.sql("update canon.legal_event set startup_id = '00000000-0000-4000-8000-000000000001' where label is null").await;
    let company = r#"{"startup_id":"00000000-0000-4000-8000-000000000001"}"#;
    lab.entry(CLIENT, ("legal_event", 10), "update", (r#"{"startup_id":null}"#, company)).await;
    assert_eq!(last(lab).await, format!("insolvency | Voile Solaire: Liquidation {end}"));
    lab.sql("delete from mirror.alert where rule = 'insolvency'").await;
}

async fn tick_off(lab: &Lab) {
    let wanted = |is_unseen, rule: Option<&str>, count_max| Wanted {
        is_unseen,
        rule: rule.map(str::to_owned),
        count_max,
        since: None,
    };
    let list = async |wanted| stored::list(&lab.pool, &wanted).await.unwrap();
    let one = list(wanted(true, Some("stage_change"), 9)).await.remove(0);
    assert_eq!(
        stored::see(&lab.pool, Some(&[one.alert_id]), "Jeanne").await.unwrap(),
        [one.alert_id]
    );
    assert!(stored::see(&lab.pool, Some(&[one.alert_id]), "Luc").await.unwrap().is_empty());
    let seen = list(wanted(false, Some("stage_change"), 9)).await.remove(0);
    assert_eq!(seen.seen_by.as_deref(), Some("Jeanne"));
    assert!(seen.seen_at.is_some());
    assert_eq!(stored::known(&lab.pool, &[one.alert_id, 4711]).await.unwrap(), [one.alert_id]);
    assert_eq!(stored::unseen_count(&lab.pool).await.unwrap(), 5);
    let newest = list(wanted(false, None, 2)).await;
    assert_eq!(
        (newest.len(), newest[1].rule.as_str()),
        (2, "member_left"),
        "the newest, the newest last"
    );
    let since = Wanted { since: Some(Utc::now()), ..wanted(false, None, 9) };
    assert!(stored::list(&lab.pool, &since).await.unwrap().is_empty());
    assert_eq!(stored::rules(&lab.pool).await.unwrap().len(), 5);
    assert_eq!(stored::see(&lab.pool, None, "Jeanne").await.unwrap().len(), 5);
    assert!(list(wanted(true, None, 9)).await.is_empty());
}

#[tokio::test]
async fn alerts_compare_valuations_as_canonical_has_them() {
    let mut lab = Lab::open().await;
    lab.sql(COPIED).await;
    for log in LOGS {
        lab.copied(log).await;
    }
    assert!(lab.follow(built_in()).await.is_empty());
    lab.sql("insert into canon.valuation (id, startup_id, as_of, price, approved_on, instrument_code) values
        ('00000000-0000-4000-8000-000000000007', '00000000-0000-4000-8000-000000000001', '2024-12-31', 10, '2025-01-31', 'ao'),
        ('00000000-0000-4000-8000-000000000008', '00000000-0000-4000-8000-000000000001', '2025-12-31', 6.7, '2026-01-31', null),
        ('00000000-0000-4000-8000-000000000009', '00000000-0000-4000-8000-000000000001', '2025-12-31', 1, '2026-01-31', 'adp')")
        .await;
    let row = |price: &str| {
        format!(
            r#"{{"startup_id":"00000000-0000-4000-8000-000000000001","as_of":"2025-12-31","price":"{price}","approved_on":"2026-01-31"}}"#
        )
    };
    lab.entry(CLIENT, ("valuation", 8), "create", ("{}", &row("6.70000000"))).await;
    lab.entry(CLIENT, ("valuation", 9), "create", ("{}", &row("1.00000000"))).await;
    assert_eq!(
        lab.follow(built_in()).await,
        [
            "valuation_down | Voile Solaire: valuation down by 33\u{a0}%, unit price (Ordinary shares) €10.00 (2024-12-31) → €6.70 (2025-12-31) | jeanne@example.org | airtable"
        ]
    );
    lab.pool.close().await;
    lab.cluster.remove().await.unwrap();
}

/// A mirror that ran before there were alerts: they begin with what comes next.
#[tokio::test]
async fn alerts_of_an_older_mirror_begin_now() {
    let mut lab = Lab::open().await;
    lab.sql(COPIED).await;
    for log in LOGS {
        lab.copied(log).await;
    }
    let left = (r#"{"status_code":"active"}"#, r#"{"status_code":"left"}"#);
    lab.entry(CLIENT, ("member", 2), "update", left).await;
    let migration = include_str!("../../migrations/V010__alert.sql");
    let begin = migration.find("-- A mirror that runs already").unwrap();
    lab.sql(migration.get(begin..).unwrap()).await;
    assert!(lab.follow(built_in()).await.is_empty());
    lab.entry(LISTING, ("member", 3), "update", left).await;
    assert_eq!(lab.follow(built_in()).await.len(), 1, "a later reading counts");
    lab.pool.close().await;
    lab.cluster.remove().await.unwrap();
}
