//! What a stranger gets wrong in the two documents: each is told with what, where and what to do, by `check`
//! and by `run` as well, which fails where it concerns the documents or the canonical database, and goes on without a
//! side that it concerns.

use futures_util::future::join_all;

use crate::plain::{Documents, Plain};

/// What is wrong, the documents that say so, and parts of the message.
type Case = (&'static str, Documents, Vec<String>);

fn case(what: &'static str, documents: Documents, parts: &[&str]) -> Case {
    (what, documents, parts.iter().map(ToString::to_string).collect())
}

/// Each case's `command` fails with its message.
async fn all_fail(plain: &Plain<'_>, command: &str, cases: &[Case]) {
    // A few at a time: each is a process with its own second of Airtable's allowance to wait for.
    for some in cases.chunks(6) {
        join_all(some.iter().map(|(what, documents, parts)| async move {
            let said = plain.say(command, documents).await;
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            said.fails_with(what, &parts);
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_wrong_names_and_secrets_are_told_by_both_check_and_run() {
    let mut plain = Plain::start().await;
    let (good, name) = (&plain.documents.clone(), &plain.name.clone());
    let wrong_login = |user: &str| format!("password authentication failed for user \"{user}\"");
    let (canonical_login, capture_login) =
        (wrong_login(name), wrong_login(&format!("{name}_capture")));
    let cases = [
        case(
            "Airtable token",
            good.settings("token_file = \"airtable\"", "token_file = \"canonical\""),
            &["airtable does not accept the token", "airtable.com/create/tokens"],
        ),
        case(
            "Airtable base",
            good.settings("id = \"app", "id = \"appX"),
            &["the base `reseau` (appXPlaitReseau001)", "schema.bases:read", "`id`"],
        ),
        case(
            "Airtable table",
            good.mapping("\"Startups\"", "\"Startup\""),
            &[
                "the entity `startup` is mapped to the table `Startup`, which the base does not have",
                "the nearest table is `Startups`",
            ],
        ),
        case(
            "Airtable field",
            good.mapping("\"Ville\"", "\"Vile\""),
            &[
                "the field `Vile` of the table `Startups`, which is not there",
                "the nearest field is `Ville`",
            ],
        ),
        case(
            "a computed field that would be written",
            good.mapping("airtable = \"Ville\"", "airtable = \"Total investi\"").mapping(
                "total_invested = { type = \"computed\", airtable = \"Total investi\", direction = \"from airtable\" }\n",
                "",
            ),
            &["`Total investi`", "is computed by Airtable", "`direction = \"from airtable\"`"],
        ),
        case(
            "canonical password",
            good.settings("password_file = \"canonical\"", "password_file = \"airtable\""),
            &["the canonical database", &canonical_login, "check user, password and database in [canonical]"],
        ),
        case(
            "canonical password that is not said",
            good.settings("password_file = \"canonical\"\n", ""),
            &["the canonical database", "asks for a password", "`password_file` in [canonical]"],
        ),
        case(
            "canonical database",
            good.settings(&format!("/{name}\""), "/nowhere\""),
            &["database \"nowhere\" does not exist", "check user, password and database in [canonical]"],
        ),
        case(
            "Directus password",
            good.settings("password_file = \"capture\"", "password_file = \"airtable\""),
            &["Directus's Postgres", &capture_login, "in [directus] of plait.toml"],
        ),
        case(
            "Directus database",
            good.settings("_source\"", "_sauce\""),
            &["_sauce\" does not exist", "in [directus] of plait.toml"],
        ),
    ];
    all_fail(&plain, "check", &cases).await;
    // `run` migrates the canonical database, as whose tables the rest is judged.
    all_fail(&plain, "migrate", &cases[5..8]).await;
    assert_eq!(plain.say("migrate", good).await.code, Some(0));
    all_fail(&plain, "run", &cases[5..8]).await;
    for (what, documents, parts) in cases[..5].iter().chain(&cases[8..]) {
        // One after the other: there is one place for a writer, and one slot.
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        plain.run_tells(what, documents, &parts).await;
    }
    let in_canonical = [
        case(
            "canonical table",
            good.mapping("\ntable = \"startup\"", "\ntable = \"startups\""),
            &[
                "canon.startups, which the canonical database does not have; did you mean `startup`?",
            ],
        ),
        case(
            "canonical column",
            good.mapping("city = { type", "citty = { type"),
            &["canon.startup.citty, which does not exist; did you mean `city`?"],
        ),
    ];
    for command in ["check", "run"] {
        for case in &in_canonical {
            all_fail(&plain, command, std::slice::from_ref(case)).await;
        }
    }
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_source_table_or_column_that_is_not_there_is_told_and_the_rest_goes_on() {
    let mut plain = Plain::start().await;
    let good = plain.documents.clone();
    let table =
        good.mapping("directus = { table = \"startup\" }", "directus = { table = \"startups\" }");
    let column = good.mapping("directus = \"city\"", "directus = \"citty\"");
    let keyless =
        good.mapping("directus = { table = \"startup\" }", "directus = { table = \"keyless\" }");
    plain.in_source("create table keyless (id uuid, name text, city text, headcount bigint)").await;
    let cases = [
        case(
            "table",
            table.clone(),
            &["table public.startups does not exist; did you mean `startup`?", "Mend its name"],
        ),
        case(
            "column",
            column.clone(),
            &["public.startup has no column `citty`; did you mean `city`?", "Mend its name"],
        ),
        case("key", keyless.clone(), &["public.keyless", "has no primary key", "add primary key"]),
    ];
    all_fail(&plain, "check", &cases).await;
    // A table that would stop taking updates is never published: that suspends the side.
    let (what, documents, parts) = &cases[2];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    plain.run_tells(what, documents, &parts).await;

    plain.in_source("insert into startup values (gen_random_uuid(), 'Voilier', 'Brest', 3)").await;
    for (documents, told) in
        [(table, "public.startups is in the mapping but not in the database"), (column, "citty")]
    {
        plain.documents = documents;
        plain.run();
        plain.until_logged(told).await;
        plain.until_copied(2).await;
        let incident = format!(
            "select text from mirror.incident where log = 'directus' and text like '%{told}%'"
        );
        plain.until(&incident, None).await;
        let status = plain.say_beside("status").await;
        assert!(status.text.contains(told), "{}", status.text);
        plain.terminate().await;
    }
    plain.documents = good;
    plain.run();
    plain.until("select city from canon.startup where name = 'Voilier'", Some("Brest")).await;
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_documents_are_told_with_file_line_and_the_nearest_right_name() {
    let plain = Plain::start().await;
    let good = &plain.documents;
    let cases = [
        case(
            "an unknown key of the settings",
            good.settings("request_timeout_s", "request_timeout"),
            &[
                "plait.toml:18: [airtable]: unknown key `request_timeout`; did you mean `request_timeout_s`?",
            ],
        ),
        case(
            "an unknown section",
            good.settings("[airtable.base.reseau]", "[airtable.bases.reseau]"),
            &["plait.toml:20: [airtable]: unknown key `bases`; did you mean `base`?"],
        ),
        case(
            "a wrong type",
            good.settings("request_timeout_s = 2", "request_timeout_s = \"2\""),
            &[
                "plait.toml:18: [airtable]: `request_timeout_s` has to be a whole number from 1 to 600",
            ],
        ),
        case(
            "no TOML",
            good.settings("request_timeout_s = 2", "request_timeout_s = "),
            &["plait.toml:18:"],
        ),
        case(
            "a file with a secret that is not there",
            good.settings("token_file = \"airtable\"", "token_file = \"nowhere\""),
            &["plait.toml:15: [airtable]: could not use nowhere"],
        ),
        case(
            "a base of the mapping that the settings lack",
            good.settings("[airtable.base.reseau]", "[airtable.base.resau]"),
            &["mapping.toml: the mapping names the base `reseau`", "did you mean `resau`?"],
        ),
        case(
            "an unknown key of the mapping",
            good.mapping("city = { type", "city = { polcy = \"ask\", type"),
            &[
                "mapping.toml:10: field `city` of `startup`: unknown key `polcy`; did you mean `policy`?",
            ],
        ),
        case(
            "a wrong type in the mapping",
            good.mapping("airtable = \"Ville\"", "airtable = 5"),
            &["mapping.toml:10: field `city` of `startup`", "`airtable`"],
        ),
        case(
            "an unknown type of field",
            good.mapping("type = \"integer\"", "type = \"integr\""),
            &["mapping.toml:11: field `headcount` of `startup`", "did you mean `integer`?"],
        ),
        case(
            "no TOML in the mapping",
            good.mapping("city = { type = \"text\"", "city = { type = \"text"),
            &["mapping.toml:10:"],
        ),
        case(
            "a column that is named twice",
            good.mapping("city = { type = \"text\"", "city = { type = \"text\", column = \"name\""),
            &["mapping.toml:10: field `city` of `startup`", "`name`", "line 9"],
        ),
        case(
            "a key that is there twice",
            good.mapping("city = {", "name = {"),
            &["mapping.toml:10:", "duplicate key"],
        ),
        case(
            "an Airtable field that is named twice",
            good.mapping("airtable = \"Ville\"", "airtable = \"Nom\""),
            &["mapping.toml:10: field `city` of `startup`", "`Nom`", "line 9"],
        ),
        case(
            "a source column that is named twice",
            good.mapping("directus = \"city\"", "directus = \"name\""),
            &["mapping.toml:10: field `city` of `startup`", "`name`", "line 9"],
        ),
        case(
            "a computed field without its direction",
            good.mapping(", direction = \"from airtable\"", ""),
            &[
                "mapping.toml:12: field `total_invested` of `startup`",
                "direction = \"from airtable\"",
            ],
        ),
        case(
            "an unknown format of the log",
            Documents {
                settings: format!("{}[log]\nformat = \"jsno\"\n", good.settings),
                ..good.clone()
            },
            &["plait.toml:23: [log]: `format` cannot be `jsno`; did you mean `json`?"],
        ),
    ];
    for command in ["check", "run"] {
        all_fail(&plain, command, &cases).await;
    }
    // A password in a document is refused and not repeated.
    let secret = "geheim-im-dokument";
    let mut plain = plain;
    plain.keep_secret(secret);
    let port = format!("@127.0.0.1:{}/{}\"", plain.cluster.port(), plain.name);
    let documents = plain.documents.settings(&port, &format!(":{secret}{port}"));
    for command in ["check", "run", "migrate", "status"] {
        plain
            .say(command, &documents)
            .await
            .fails_with("password", &["plait.toml:2:", "does not belong"]);
    }
    let nowhere = plain.say("check --config nowhere.toml", &plain.documents).await;
    nowhere.fails_with("no file", &["nowhere.toml: there is no such file"]);
    // An unknown command is the arguments' fault.
    assert_eq!(plain.say("chek", &plain.documents).await.code, Some(2));
    plain.end().await;
}
