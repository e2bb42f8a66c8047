//! Plait's user in Directus made by `plait setup`, and new members with their passwords, through the whole program.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use plait::{
    demo::model,
    sandbox::{Edit, NETWORK_BASE},
};
use serde_json::{Value, json};

use crate::{
    line::{Line, fields},
    world::{eventually, write_secret},
};

/// All that Directus lacks is pushed before.
const PATIENCE: Duration = Duration::from_mins(5);

/// A line whose mapping gives new members the passwords that Airtable has.
async fn line_with_passwords() -> Line {
    let line = Line::start().await;
    let users = "directus = { table = \"directus_users\" }\n";
    let password = "password = { airtable = \"Mot de passe\", clear = true }\n";
    let mapping = model::prompt_mapping().replace(users, &format!("{users}{password}"));
    assert!(mapping.contains(password));
    fs::write(line.folder.path().join("mapping.toml"), mapping).unwrap();
    write_secret(&line.folder.path().join("admin"), &line.directus.admin.token);
    line
}

impl Line {
    fn setup(&self, more: &[&str]) -> String {
        let admin = self.folder.path().join("admin");
        let mut arguments =
            vec!["setup", "directus", "--admin-token-file", admin.to_str().unwrap()];
        arguments.extend(more);
        self.said(&arguments)
    }

    /// Whether any row of our own database holds this text.
    async fn is_kept(&self, text: &str) -> bool {
        let sql = "select coalesce(bool_or(strpos(
                 query_to_xml(format('select * from %I.%I', schemaname, tablename), true, false, '')::text, $1) > 0), false)
             from pg_tables where schemaname in ('canon', 'mirror')";
        self.canonical.query_one(sql, &[&text]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_directus_makes_the_user_and_a_member_gets_its_password() {
    let mut line = line_with_passwords().await;
    let token = line.folder.path().join("push");
    fs::remove_file(&token).unwrap();
    let preview = line.setup(&[]);
    assert!(preview.contains("allow just to create directus_users: "), "{preview}");
    assert!(preview.contains("nothing is done yet") && !token.exists(), "{preview}");
    let done = line.setup(&["--yes"]);
    assert!(done.contains("give that user a new token"), "{done}");
    assert!(!done.contains(fs::read_to_string(&token).unwrap().trim()));
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let again = line.setup(&["--yes"]);
    assert!(again.contains("all is as it has to be"), "{again}");
    let check = line.said(&["check"]);
    assert!(check.contains("plait's user may write what the mapping names"), "{check}");
    assert!(!check.contains("administrator") && !check.contains("note"), "{check}");

    line.run();
    line.until_copied().await;
    line.said(&["plan"]);
    line.said(&["approve", "--yes"]);

    let password = format!("Voile {}", uuid::Uuid::new_v4());
    let cells = [
        ("Nom complet", json!("Jeanne MARTIN DUPONT")),
        ("E-mail", json!("jeanne.dupont@lemonde.fr")),
        ("Mot de passe", json!(format!("  {password} "))),
    ];
    let key =
        line.edit(&[Edit::Create { table: "Membres".into(), fields: fields(&cells) }]).remove(0);
    let login =
        json!({ "email": "jeanne.dupont@lemonde.fr", "password": password, "mode": "json" });
    let rest = line.directus.server.rest("");
    eventually(PATIENCE, async || rest.post("/auth/login", &login).await.map_err(|_| line.log()))
        .await;
    eventually(PATIENCE, async || {
        let records = line.sandbox.records(NETWORK_BASE, "Membres");
        let (_, cells) = records.into_iter().find(|(id, _)| *id == key).unwrap();
        if cells.get("Mot de passe").is_none_or(Value::is_null) { Ok(()) } else { Err(line.log()) }
    })
    .await;
    assert!(line.is_kept("jeanne.dupont@lemonde.fr").await);
    assert!(!line.is_kept(&password).await);
    let log = fs::read_to_string(line.folder.path().join("log")).unwrap();
    assert!(log.contains("pushed") && !log.contains(&password), "{log}");
}
