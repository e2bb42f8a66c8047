//! TLS towards the canonical database, as the settings document says it: each mode proves what it promises, on
//! every connection, and a certificate that proves nothing ends the run with what to do.

use std::fs;

use plait::demo::{cache, cluster::Cluster};

use crate::{
    certificates::{certificates, write_private},
    plain::{Documents, Plain},
};

#[tokio::test(flavor = "multi_thread")]
async fn bad_tls_of_the_canonical_database_proves_authority_and_name() {
    let (authority, certificate, key) = certificates("localhost");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ours, others) =
        (file("ours.pem", &authority), file("others.pem", &certificates("localhost").0));
    let empty = file("empty.pem", "nothing\n");
    let cluster = Cluster::throw_away(&cache::postgres_bin().unwrap(), &[]).await.unwrap();
    let mut plain = Plain::start_on(&cluster, "").await;
    let name = plain.name.clone();

    let with = |documents: &Documents, host: &str, mode: &str, ca: Option<&str>| {
        let here = format!("@127.0.0.1:{}/{name}\"", cluster.port());
        let there = here.replace("127.0.0.1", host);
        let ca = ca.map_or_else(String::new, |ca| format!("\nca_file = \"{ca}\""));
        documents.settings(&here, &there).settings(
            "password_file = \"canonical\"\ntls = \"disable\"",
            &format!("password_file = \"canonical\"\ntls = \"{mode}\"{ca}"),
        )
    };
    let good = plain.documents.clone();
    // Before the server can do TLS.
    for command in ["check", "run"] {
        let said = plain.say(command, &with(&good, "localhost", "require", None)).await;
        said.fails_with(command, &["set `ssl = on` there", "Who is trusted"]);
    }
    write_private(&cluster.data_folder(), "server.crt", &certificate);
    write_private(&cluster.data_folder(), "server.key", &key);
    // From here on this role comes in by TLS alone.
    let rules = format!(
        "hostnossl all {name} all reject\nhost all all all scram-sha-256\nlocal all all scram-sha-256\n"
    );
    write_private(&cluster.data_folder(), "pg_hba.conf", &rules);
    cluster.sql("postgres", "alter system set ssl = on").await.unwrap();
    cluster.sql("postgres", "select pg_reload_conf()").await.unwrap();
    crate::world::eventually(crate::plain::PATIENCE, async || {
        let said = plain.check(&good).await;
        if said.text.contains("pg_hba.conf rejects connection") { Ok(()) } else { Err(said) }
    })
    .await;

    for (host, mode, ca, parts) in [
        ("localhost", "verify-full", Some(&others), ["certificate", "`ca_file` in [canonical]"]),
        ("localhost", "verify-ca", Some(&others), ["certificate", "`ca_file` in [canonical]"]),
        ("localhost", "verify-full", None, ["certificate", "`ca_file` in [canonical]"]),
        (
            "127.0.0.1",
            "verify-full",
            Some(&ours),
            ["not valid for name", "a name that is in the server's certificate"],
        ),
        ("localhost", "verify-full", Some(&empty), ["no certificate in it", "a readable PEM file"]),
        (
            "localhost",
            "require",
            Some(&String::from("/nowhere.pem")),
            ["/nowhere.pem", "a readable PEM file"],
        ),
    ] {
        let documents = with(&good, host, mode, ca.map(String::as_str));
        for command in ["check", "run"] {
            let what = format!("{command}, {mode} at {host}");
            plain.say(command, &documents).await.fails_with(&what, &parts);
        }
    }
    for (host, mode, ca) in [
        ("localhost", "prefer", None),
        ("localhost", "require", None),
        ("127.0.0.1", "verify-ca", Some(ours.as_str())),
        ("localhost", "verify-full", Some(ours.as_str())),
    ] {
        let said = plain.check(&with(&good, host, mode, ca)).await;
        assert_eq!(said.code, Some(0), "{mode}: {}", said.text);
    }
    plain.documents = with(&good, "localhost", "verify-full", Some(&ours));
    plain.run();
    plain.until_copied(2).await;
    // Both libraries' connections are encrypted, and those of `status`.
    let sessions = format!(
        "select string_agg(distinct ssl::text, ',') || ' ' || (count(*) > 1) from pg_stat_ssl
         join pg_stat_activity using (pid) where usename = '{name}'"
    );
    plain.until(&sessions, Some("true true")).await;
    let status = plain.say_beside("status").await;
    assert!(status.text.contains("is running"), "{}", status.text);
    plain.end().await;
    cluster.remove().await.unwrap();
}
