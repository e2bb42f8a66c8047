//! A Postgres that may not, or a role that may not: `check` and `run` say which right is missing and the statement
//! that gives it; what they say works.

use plait::demo::{cache, cluster::Cluster};

use crate::{
    plain::{PATIENCE, Plain},
    world::eventually,
};

/// Runs a statement of a remedy, as the superuser, on the source database.
fn statement_in(text: &str, begin: &str) -> String {
    let at = text.find(begin).unwrap_or_else(|| panic!("no `{begin}` in:\n{text}"));
    let (_, rest) = text.split_at(at);
    rest.split(['`', '\n']).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rights_wal_level_that_is_not_logical_is_told_with_the_statement() {
    let settings = ["wal_level=replica"];
    let cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &settings).await.unwrap();
    let mut plain = Plain::start_on(&cluster, "").await;
    let parts = [
        "wal_level is `replica`, logical replication needs `logical`",
        "alter system set wal_level = 'logical'",
        "restart Postgres",
    ];
    plain.check(&plain.documents).await.fails_with("check", &parts);
    plain.run_tells("run", &plain.documents.clone(), &parts).await;
    drop(plain);
    cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rights_no_free_slot_is_told_and_a_slot_that_came_free_is_taken() {
    let settings = ["max_replication_slots=1"];
    let cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &settings).await.unwrap();
    let mut plain = Plain::start_on(&cluster, "").await;
    plain.in_source("select pg_create_physical_replication_slot('somebody')").await;
    let parts =
        ["all 1 replication slots are in use", "pg_replication_slots", "max_replication_slots"];
    plain.check(&plain.documents).await.fails_with("check", &parts);
    plain.run();
    for part in parts {
        plain.until_logged(part).await;
    }
    // It is taken without a restart; until then, `status` says what Airtable waits for.
    let parts =
        ["suspended", "replication slots are in use", "waits for the first copy of Directus"];
    // What a task says of itself is written down every two seconds.
    eventually(PATIENCE, async || {
        let status = plain.say_beside("status").await;
        let is_told = parts.iter().all(|part| status.text.contains(part));
        if status.code == Some(1) && is_told { Ok(()) } else { Err(status) }
    })
    .await;
    plain.in_source("select pg_drop_replication_slot('somebody')").await;
    plain.until_copied(2).await;
    plain.end().await;
    cluster.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rights_of_the_source_role_are_told_with_what_gives_them() {
    let mut plain = Plain::start().await;
    let role = format!("{}_capture", plain.name);
    // No replication.
    plain.in_source(&format!("alter role {role} noreplication")).await;
    let told = format!("role `{role}` may not use replication");
    let said = plain.check(&plain.documents).await;
    said.fails_with("check", &[&told]);
    plain.run_tells("run", &plain.documents.clone(), &[&told]).await;
    plain.in_source(&statement_in(&plain.told(), "alter role")).await;
    // Neither the table's owner nor allowed to read it.
    plain.in_source("alter table startup owner to postgres").await;
    let said = plain.check(&plain.documents).await;
    said.fails_with(
        "no select",
        &[
            &format!("role {role} may not read public.startup.name"),
            "publication `plait` is not there, and this role owns none of public.startup",
        ],
    );
    let grant = statement_in(&said.text, "grant select on");
    plain.run();
    plain.until_logged("may not create or change publication `plait`").await;
    plain.in_source(&statement_in(&plain.told(), "create publication")).await;
    plain.until_logged("permission denied for table startup").await;
    assert!(plain.told().contains("grant select on"));
    plain.in_source(&grant).await;
    assert_eq!(plain.check(&plain.documents).await.code, Some(0));
    plain.in_source("insert into startup values (gen_random_uuid(), 'Voilier', 'Brest', 3)").await;
    // Nobody has started it again.
    plain.until("select city from canon.startup where name = 'Voilier'", Some("Brest")).await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rights_of_the_canonical_role_are_told_with_the_grant() {
    let mut plain = Plain::start().await;
    let name = plain.name.clone();
    let owner = |role: &str| format!("alter database {name} owner to {role}");
    plain.cluster.sql("postgres", &owner("postgres")).await.unwrap();
    for command in ["check", "migrate", "run"] {
        let said = plain.say(command, &plain.documents).await;
        said.fails_with(
            command,
            &[
                &format!("user {name} may not create what plait needs in"),
                &format!("grant create on database {name} to {name}"),
            ],
        );
        if command == "run" {
            let grant = statement_in(&said.text, "grant create on");
            plain.cluster.sql(&name, &grant).await.unwrap();
        }
    }
    plain.run();
    plain.until_copied(2).await;
    plain.end().await;
}
