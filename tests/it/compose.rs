//! `docker-compose.yml` without a container engine: held against the format's schema, and against what the
//! docs and the rest of the repository say.

use std::{collections::BTreeSet, fs, path::Path};

use plait::demo::cache::DIRECTUS_VERSION;
use serde_json::{Map, Value};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn compose() -> Value {
    serde_norway::from_str(&file("docker-compose.yml")).unwrap()
}

fn services(compose: &Value) -> &Map<String, Value> {
    compose["services"].as_object().unwrap()
}

/// (name, what follows it) of each `${NAME…}`.
fn variables() -> Vec<(String, String)> {
    file("docker-compose.yml")
        .split("${")
        .skip(1)
        .map(|rest| {
            let inside = rest.split_once('}').unwrap().0;
            let at = inside.find(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric());
            let (name, rest) = inside.split_at(at.unwrap_or(inside.len()));
            (name.to_string(), rest.to_string())
        })
        .collect()
}

#[test]
fn compose_file_fits_the_schema() {
    let schema: Value =
        serde_json::from_str(&file("tests/data/compose-spec/compose_spec.json")).unwrap();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let mut compose = compose();
    // The schema's one gap: the file's name came into the format after it.
    assert_eq!(compose.as_object_mut().unwrap().remove("name"), Some("plait".into()));
    let flaws: Vec<String> = validator
        .iter_errors(&compose)
        .map(|flaw| format!("{}: {flaw}", flaw.instance_path()))
        .collect();
    assert!(flaws.is_empty(), "{flaws:#?}");

    compose["services"]["plait"]["helthcheck"] = "misspelt".into();
    assert!(!validator.is_valid(&compose), "the schema sees no misspelt key");
}

#[test]
fn compose_secrets_come_from_the_environment_and_have_no_default() {
    for (name, rest) in variables() {
        let is_secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|word| name.contains(word));
        assert!(!is_secret || rest.starts_with(":?"), "${{{name}{rest}}} may be left empty");
    }
    for (service, settings) in services(&compose()) {
        for (name, value) in settings["environment"].as_object().unwrap() {
            let is_secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|word| name.contains(word));
            let value = value.as_str().unwrap();
            assert!(!is_secret || value.starts_with("${"), "{service}: {name} is in the file");
        }
    }
}

#[test]
fn compose_variables_are_those_of_the_docs() {
    let docs = file("docs/docker.md");
    let told: BTreeSet<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let used = variables();
    let used: BTreeSet<&str> = used.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told, used);
}

#[test]
fn compose_hands_plait_the_secrets_that_the_settings_name() {
    let docs = file("docs/docker.md");
    let settings = docs.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let settings: toml::Table = toml::from_str(settings).unwrap();
    let mut named = BTreeSet::new();
    for section in settings.values().filter_map(toml::Value::as_table) {
        for key in ["password_env", "token_env"] {
            named.extend(section.get(key).and_then(toml::Value::as_str).map(String::from));
        }
    }
    assert_eq!(named.len(), 3);
    let compose = compose();
    let handed = compose["services"]["plait"]["environment"].as_object().unwrap();
    for name in named {
        assert!(handed[&name].as_str().unwrap().starts_with(&format!("${{{name}:?")), "{name}");
    }
}

#[test]
fn compose_images_are_pinned_and_ports_are_local() {
    let compose = compose();
    for (service, settings) in services(&compose) {
        let (_, tag) = settings["image"].as_str().unwrap().rsplit_once(':').unwrap();
        let dots = tag.split('-').next().unwrap().matches('.').count();
        assert!(dots >= 1, "{service}: {tag} is not one version");
        for port in settings.get("ports").and_then(Value::as_array).into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{service}: {port}");
        }
    }
    let directus = compose["services"]["directus"]["image"].as_str().unwrap();
    assert_eq!(directus, format!("directus/directus:{DIRECTUS_VERSION}"));
    assert!(file("scripts/install").contains(&format!("directus_version={DIRECTUS_VERSION}\n")));
    for line in file("Dockerfile").lines().filter(|line| line.starts_with("FROM ")) {
        assert!(line.split_once(':').unwrap().1.contains('.'), "{line} is not one version");
    }
}

#[test]
fn compose_services_restart_tell_their_health_and_have_few_rights() {
    let compose = compose();
    for (service, settings) in services(&compose) {
        assert_eq!(settings["restart"], "unless-stopped", "{service}");
        assert_eq!(settings["healthcheck"]["test"][0], "CMD", "{service}");
        assert_eq!(settings["security_opt"][0], "no-new-privileges:true", "{service}");
        // Directus's own image writes into its folder; the others need nothing but their volumes.
        if service != "directus" {
            assert_eq!(settings["read_only"], true, "{service}");
            assert!(settings["user"].as_str().is_some_and(|user| user != "root"), "{service}");
        }
    }
    let command = compose["services"]["directus-database"]["command"].to_string();
    for setting in ["wal_level=logical", "max_slot_wal_keep_size="] {
        assert!(command.contains(setting), "{setting}");
    }
    let volumes = compose["volumes"].as_object().unwrap();
    assert_eq!(volumes.len(), 3);
}
