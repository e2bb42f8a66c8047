//! `plait.toml`: every setting with its unit, default and check. Secrets are never in the document: it names the
//! environment variable or the file that holds each.

pub(crate) mod alert;
mod export;
mod secret;
mod server;

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub(crate) use export::{Every, Export, Format, Locale, Timetable, What};
pub use secret::Secret;
pub(crate) use secret::{SecretFileError, read_secret_file};

use server::{Trust, default_tls, judge_database, judge_url};

use crate::{
    document::{Document, Problems, Section, beside, did_you_mean, read_file},
    postgres::TlsMode,
};

/// The whole document, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) mapping: PathBuf,
    pub(crate) canonical: Database,
    pub(crate) directus: Option<Directus>,
    pub(crate) airtable: Option<Airtable>,
    pub(crate) apply: Apply,
    pub(crate) log: Log,
    /// What is exported by itself.
    pub(crate) exports: Vec<Export>,
    /// What people want to be told of.
    pub(crate) alerts: Vec<alert::Rule>,
    /// What weakens security by a person's choice, a line each: `check` and `run` say it.
    pub(crate) warnings: Vec<String>,
}

/// How to reach a Postgres.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Secret>,
    pub(crate) tls: TlsMode,
    /// PEM file of the authorities to trust; `None`: those that browsers trust.
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Directus {
    pub(crate) database: Database,
    pub(crate) schema: String,
    pub(crate) slot: String,
    pub(crate) publication: String,
    /// Whether `directus_activity` is read; `None`: if it is there.
    pub(crate) activity: Option<bool>,
    pub(crate) heartbeat_interval_s: u64,
    pub(crate) status_interval_s: u64,
    pub(crate) message_bytes_max: usize,
    pub(crate) transaction_bytes_max: usize,
    pub(crate) reader_count: usize,
    /// Where it is written to; `None`: it is only read.
    pub(crate) api: Option<DirectusApi>,
}

/// Directus's REST interface.
#[derive(Clone, Debug)]
pub(crate) struct DirectusApi {
    pub(crate) url: String,
    /// `None`: `plait setup directus` did not make it yet.
    pub(crate) token: Option<Secret>,
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Airtable {
    pub(crate) api_url: String,
    pub(crate) token: Option<Secret>,
    pub(crate) poll_interval_min_ms: u64,
    pub(crate) poll_interval_max_ms: u64,
    pub(crate) request_timeout_s: u64,
    pub(crate) monthly_call_count_max: Option<u64>,
    pub(crate) ping_listen: Option<SocketAddr>,
    /// Where the secrets of the pings are kept.
    pub(crate) ping_secret_folder: PathBuf,
    pub(crate) bases: Vec<Base>,
}

#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) notification_url: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Apply {
    pub(crate) batch_row_count_max: usize,
    pub(crate) queue_row_count_max: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Human,
    Json,
}

const MEBIBYTE: u64 = 1024 * 1024;

impl Settings {
    /// Reads and checks `path`. `secrets`: whether the secrets that it names are needed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = read_file(path)?;
        let document = Document::new(&text, &path.display().to_string());
        let parsed = document.parse()?;
        let settings = {
            let root = Section::root(&document, &parsed);
            root.only(&[
                "mapping",
                "built_in_alerts",
                "canonical",
                "directus",
                "airtable",
                "apply",
                "log",
                "alert",
                "export",
            ]);
            Reader { path, warnings: RefCell::default() }.settings(&root)
        };
        document.finish(settings)?.ok_or_else(|| {
            Problems::one(
                path,
                "the section [canonical] is missing: where the canonical database is".into(),
            )
        })
    }
}

struct Reader<'p> {
    path: &'p Path,
    warnings: RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn settings(&self, root: &Section<'_, '_>) -> Option<Settings> {
        let mapping = root.text("mapping").unwrap_or_else(|| "mapping.toml".into());
        let canonical = root.section("canonical").map(|section| {
            section.only(&["url", "password_env", "password_file", "tls", "ca_file", "unverified"]);
            self.database(&section, "canonical", "url")
        });
        if canonical.is_none() && root.get("canonical").is_none() {
            root.problem(
                &(0..0),
                "the section [canonical] is missing: where the canonical database is",
            );
        }
        let alerts = alert::read(root, &self.path.display().to_string());
        let directus = root.section("directus").map(|section| self.directus(&section));
        let airtable = root.section("airtable").map(|section| self.airtable(&section));
        Some(Settings {
            mapping: beside(self.path, &mapping),
            canonical: canonical?,
            directus,
            airtable,
            apply: apply(root.section("apply").as_ref()),
            log: log(root.section("log").as_ref()),
            exports: export::exports(self.path, root),
            alerts,
            warnings: self.warnings.take(),
        })
    }

    /// Tells what follows from how far the server that `key` names is trusted.
    fn trust(&self, section: &Section<'_, '_>, key: &str, trust: Trust) {
        match trust {
            Trust::Proved => {}
            Trust::Weak(what) => self.warnings.borrow_mut().push(what),
            Trust::Refused(what) => section.problem(&section.span_of(key), what),
        }
    }

    /// The database whose address is at `key` of the section called `name`.
    fn database(&self, section: &Section<'_, '_>, name: &str, key: &str) -> Database {
        let mut database = Database {
            host: "localhost".into(),
            port: 5432,
            user: "plait".into(),
            database: "plait".into(),
            password: self.secret(section, "password"),
            tls: TlsMode::VerifyFull,
            ca_file: section.text("ca_file").map(|file| beside(self.path, &file)),
        };
        let tls = section.choice("tls", &TlsMode::ALL.map(|mode| (mode.name(), mode)));
        let is_unverified_accepted = section.flag("unverified").unwrap_or(false);
        let Some(url) = section.needed_text(key) else { return database };
        if let Err(what) = read_url(&url, &mut database) {
            section.problem(&section.span_of(key), format!("`{key}`: {what}"));
            return database;
        }
        database.tls = tls.unwrap_or_else(|| default_tls(&database.host));
        let at = if section.get("tls").is_some() { "tls" } else { key };
        let trust = judge_database(name, &database.host, database.tls, is_unverified_accepted);
        self.trust(section, at, trust);
        database
    }

    /// The secret that `NAME_env` or `NAME_file` names; `None` if neither is there.
    fn secret(&self, section: &Section<'_, '_>, name: &str) -> Option<Secret> {
        if section.get(name).is_some() {
            section.problem(&section.span_of(name), format!(
                "a secret does not belong in this file: put it in an environment variable and say `{name}_env = \"VARIABLE\"`, or in a file and say `{name}_file = \"path\"`"
            ));
        }
        let (in_variable, in_file) = (format!("{name}_env"), format!("{name}_file"));
        if section.get(&in_variable).is_some() && section.get(&in_file).is_some() {
            let what =
                format!("`{in_variable}` and `{in_file}` exclude each other: keep one of them");
            section.problem(&section.span_of(&in_file), what);
            return None;
        }
        if let Some(variable) = section.text(&in_variable) {
            match std::env::var(&variable) {
                Ok(secret) if !secret.is_empty() => return Some(Secret::new(secret)),
                _ => section.problem(
                    &section.span_of(&in_variable),
                    format!(
                        "the environment variable {variable} is not set; export it before starting"
                    ),
                ),
            }
        }
        let file = section.text(&in_file)?;
        match read_secret_file(&beside(self.path, &file)) {
            Ok(secret) => Some(secret),
            Err(wrong) => {
                let what = format!("could not use {file}: {wrong}");
                section.problem(&section.span_of(&in_file), what);
                None
            }
        }
    }

    fn directus(&self, section: &Section<'_, '_>) -> Directus {
        section.only(&[
            "database_url",
            "password_env",
            "password_file",
            "tls",
            "ca_file",
            "unverified",
            "schema",
            "slot",
            "publication",
            "activity",
            "heartbeat_interval_s",
            "status_interval_s",
            "message_mib_max",
            "transaction_mib_max",
            "reader_count",
            "api_url",
            "token_env",
            "token_file",
        ]);
        let bytes = |key: &str, default: u64| {
            let mebibytes = section.whole(key, 1..=1024).unwrap_or(default);
            usize::try_from(mebibytes * MEBIBYTE).unwrap_or(usize::MAX)
        };
        Directus {
            database: self.database(section, "directus", "database_url"),
            schema: section.text("schema").unwrap_or_else(|| "public".into()),
            slot: slot_name(section),
            publication: section.text("publication").unwrap_or_else(|| "plait".into()),
            activity: section.get("activity").and_then(|node| {
                if node.get_ref().as_str() == Some("auto") {
                    None
                } else {
                    section.flag("activity")
                }
            }),
            heartbeat_interval_s: section.whole("heartbeat_interval_s", 0..=3600).unwrap_or(10),
            status_interval_s: section.whole("status_interval_s", 1..=3600).unwrap_or(10),
            message_bytes_max: bytes("message_mib_max", 64),
            transaction_bytes_max: bytes("transaction_mib_max", 8),
            reader_count: count(section, "reader_count", 1..=16, 2),
            api: self.directus_api(section),
        }
    }

    fn directus_api(&self, section: &Section<'_, '_>) -> Option<DirectusApi> {
        let (variable, file) = (section.get("token_env"), section.get("token_file"));
        let Some(url) = section.text("api_url") else {
            if variable.is_some() || file.is_some() {
                let key = if variable.is_some() { "token_env" } else { "token_file" };
                let what = "is the token for writing to Directus, and `api_url` says where: add it";
                section.problem(&section.span_of(key), format!("`{key}` {what}"));
            }
            return None;
        };
        if !is_web_address(&url) {
            let what = "`api_url` has to be like `https://directus.example.org`, without user, query and fragment";
            section.problem(&section.span_of("api_url"), what);
        }
        let is_unverified_accepted = section.flag("unverified").unwrap_or(false);
        self.trust(section, "api_url", judge_url("directus", &url, is_unverified_accepted));
        if variable.is_none() && file.is_none() {
            let what = "`api_url` needs a token: say `token_file = \"directus-token\"` and run `plait setup directus`, which makes it";
            section.problem(&section.span_of("api_url"), what);
        }
        let token_file = section.text("token_file").map(|file| beside(self.path, &file));
        // The file is made by `plait setup directus`, which reads these settings as well.
        let is_missing = variable.is_none() && token_file.as_ref().is_some_and(|it| !it.exists());
        let token = if is_missing { None } else { self.secret(section, "token") };
        Some(DirectusApi { url, token, token_file })
    }

    fn airtable(&self, section: &Section<'_, '_>) -> Airtable {
        section.only(&[
            "api_url",
            "token_env",
            "token_file",
            "poll_interval_min_ms",
            "poll_interval_max_ms",
            "request_timeout_s",
            "monthly_call_count_max",
            "ping_listen",
            "ping_secret_folder",
            "base",
        ]);
        let token = self.secret(section, "token");
        if token.is_none()
            && section.get("token_env").is_none()
            && section.get("token_file").is_none()
        {
            section.problem(
                &section.span,
                "`token_env` or `token_file` is missing: a personal access token of Airtable",
            );
        }
        let ping_listen = section.text("ping_listen").and_then(|text| {
            let address = text.parse();
            if address.is_err() {
                section.problem(
                    &section.span_of("ping_listen"),
                    "`ping_listen` has to be like `0.0.0.0:8057`",
                );
            }
            address.ok()
        });
        let bases = section.section("base").map_or_else(Vec::new, |bases| {
            let read = bases.entries().filter_map(|(name, _, node)| {
                let base = bases.table_at(node, &name, format!("[airtable.base.{name}]"))?;
                base.only(&["id", "notification_url"]);
                let id = base.needed_text("id")?;
                // It becomes part of a file's name, too.
                if !id.starts_with("app") || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    base.problem(&base.span_of("id"), "the id of a base begins with `app` and has letters and digits; it is in the address of the base in the browser");
                }
                Some(Base { name, id, notification_url: base.text("notification_url") })
            });
            read.collect()
        });
        let poll_interval_min_ms =
            section.whole("poll_interval_min_ms", 200..=3_600_000).unwrap_or(1_000);
        let api_url = section.text("api_url").unwrap_or_else(|| "https://api.airtable.com".into());
        if !is_web_address(&api_url) {
            section.problem(
                &section.span_of("api_url"),
                "`api_url` has to be like `https://api.airtable.com`",
            );
        }
        self.trust(section, "api_url", judge_url("airtable", &api_url, false));
        Airtable {
            api_url,
            token,
            poll_interval_min_ms,
            poll_interval_max_ms: section
                .whole("poll_interval_max_ms", poll_interval_min_ms..=86_400_000)
                .unwrap_or(30_000.max(poll_interval_min_ms)),
            request_timeout_s: section.whole("request_timeout_s", 1..=600).unwrap_or(30),
            monthly_call_count_max: section.whole("monthly_call_count_max", 1..=u64::MAX),
            ping_listen,
            ping_secret_folder: beside(
                self.path,
                &section.text("ping_secret_folder").unwrap_or_else(|| ".".into()),
            ),
            bases,
        }
    }
}

fn is_web_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !rest.contains(['?', '#', '@', ' '])
    })
}

/// What Postgres takes as the name of a replication slot.
fn slot_name(section: &Section<'_, '_>) -> String {
    let name = section.text("slot").unwrap_or_else(|| "plait".into());
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(letters) {
        let what = "`slot` has to be of small letters, digits and `_`, at most 63 of them";
        section.problem(&section.span_of("slot"), what);
    }
    name
}

fn count(
    section: &Section<'_, '_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
    default: usize,
) -> usize {
    section.whole(key, range).and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
}

fn apply(section: Option<&Section<'_, '_>>) -> Apply {
    if let Some(section) = section {
        section.only(&["batch_row_count_max", "queue_row_count_max"]);
    }
    let number = |key: &str, default: usize| {
        section.map_or(default, |section| count(section, key, 1..=1_000_000, default))
    };
    Apply {
        batch_row_count_max: number("batch_row_count_max", 10_000),
        queue_row_count_max: u32::try_from(number("queue_row_count_max", 30_000))
            .unwrap_or(u32::MAX),
    }
}

fn log(section: Option<&Section<'_, '_>>) -> Log {
    if let Some(section) = section {
        section.only(&["format", "level"]);
    }
    let format = section.and_then(|section| {
        section.choice(
            "format",
            &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)],
        )
    });
    Log {
        format: format.unwrap_or(LogFormat::Auto),
        level: section.and_then(|section| section.text("level")).unwrap_or_else(|| "info".into()),
    }
}

/// `postgres://user@host:port/database`, without a password.
fn read_url(url: &str, database: &mut Database) -> Result<(), String> {
    let form = "it has to be like `postgres://user@host:5432/database`";
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| form.to_owned())?;
    let (authority, name) = rest.split_once('/').ok_or_else(|| form.to_owned())?;
    if name.contains('?') {
        return Err(format!(
            "{form}; options behind `?` are settings of their own here (`tls`, `ca_file`)"
        ));
    }
    let place = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err("a password does not belong in this file: take it out of the address and name it by `password_env` or `password_file`".into());
        }
        Some((user, place)) => {
            user.clone_into(&mut database.user);
            place
        }
        None => authority,
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((_, rest)) if rest.ends_with(']') => (place, 5432),
        Some((host, port)) => (host, port.parse().map_err(|_| form.to_owned())?),
        None => (place, 5432),
    };
    if host.is_empty() || name.is_empty() {
        return Err(form.to_owned());
    }
    // The folder of a socket, as libpq takes it in an address; and an IPv6 address without its brackets.
    let folder = host
        .to_ascii_lowercase()
        .starts_with("%2f")
        .then(|| host.replace("%2F", "/").replace("%2f", "/"));
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    database.host = folder.unwrap_or_else(|| address.to_owned());
    database.port = port;
    name.clone_into(&mut database.database);
    Ok(())
}

/// Says which base of the mapping the settings do not know.
pub(crate) fn missing_bases(settings: &Settings, mapping: &crate::mapping::Mapping) -> Vec<String> {
    let known: Vec<&str> = settings
        .airtable
        .iter()
        .flat_map(|airtable| airtable.bases.iter().map(|base| base.name.as_str()))
        .collect();
    let mut missing: Vec<String> = mapping
        .entities
        .iter()
        .filter_map(|entity| entity.airtable.as_ref())
        .filter(|table| !known.contains(&table.base.as_str()))
        .map(|table| {
            let hint = did_you_mean(&table.base, known.iter().copied());
            format!("the mapping names the base `{}`, which plait.toml does not have{hint}; add `[airtable.base.{}]` with its id", table.base, table.base)
        })
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    use super::{Settings, TlsMode};

    fn write_secret(path: &Path) {
        std::fs::write(path, "hunter2\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn problems(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plait.toml");
        std::fs::write(&path, text).unwrap();
        let problems = Settings::read(&path).unwrap_err().to_string();
        problems.replace(&path.display().to_string(), "plait.toml")
    }

    #[test]
    fn config_password_in_the_document_is_refused_and_not_repeated() {
        let text = "[canonical]\nurl = \"postgres://plait:hunter2@localhost/plait\"\n";
        let said = problems(text);
        assert!(
            said.starts_with("plait.toml:2: [canonical]: `url`: a password does not belong"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
        let said = problems(
            "[canonical]\nurl = \"postgres://plait@localhost/plait\"\npassword = \"hunter2\"\n",
        );
        assert!(
            said.contains("plait.toml:3:")
                && said.contains("password_env")
                && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn config_unknown_key_is_told_with_its_line_and_the_nearest_name() {
        let said = problems(
            "[canonical]\nurl = \"postgres://plait@localhost/plait\"\n\n[aply]\n[directus]\ndatabase_url = \"postgres://d@h/d\"\nslott = \"x\"\n",
        );
        assert_eq!(
            said,
            "plait.toml:4: unknown key `aply`; did you mean `apply`?\nplait.toml:7: [directus]: unknown key `slott`; did you mean `slot`?"
        );
    }

    #[test]
    fn config_missing_variable_file_and_section_are_told() {
        let said = problems(
            "[canonical]\nurl = \"postgres://plait@localhost/plait\"\npassword_env = \"PLAIT_TEST_NOT_SET\"\n",
        );
        assert!(said.contains(":3:") && said.contains("PLAIT_TEST_NOT_SET is not set"), "{said}");
        assert!(problems("mapping = \"m.toml\"\n").contains("[canonical] is missing"));
        let missing = Settings::read(Path::new("no/such/plait.toml")).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/plait.toml: there is no such file"), "{missing}");
    }

    #[test]
    fn config_example_is_well_and_its_secrets_are_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plait.toml");
        write_secret(&folder.path().join("secret"));
        let example: String = include_str!("../plait.example.toml")
            .lines()
            .map(|line| match line.split_once("_env = ") {
                Some((key, _)) => format!("{key}_file = \"secret\"\n"),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&path, &example).unwrap();
        let read = Settings::read(&path).unwrap();
        assert_eq!(read.canonical.password.as_ref().unwrap().reveal(), "hunter2");
        assert_eq!(read.mapping, folder.path().join("mapping.toml"));
        assert_eq!(read.airtable.as_ref().unwrap().bases[0].name, "reseau");
        let printed = format!("{read:?}");
        assert!(printed.contains("[hidden]") && !printed.contains("hunter2"), "{printed}");

        // Each default that the example shows is the one that holds.
        let with_defaults: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting)
                    if (setting.contains(" = ") && !setting.contains("# default:"))
                        && !setting.starts_with("ca_file")
                        && !setting.starts_with("api_url = \"http://localhost")
                        && !setting.starts_with("token_file")
                        && !setting.starts_with("notification_url") =>
                {
                    format!("{setting}\n")
                }
                Some(section) if section.starts_with('[') => format!("{section}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(with_defaults.lines().filter(|line| !line.starts_with('#')).count() > 25);
        std::fs::write(&path, with_defaults).unwrap();
        assert_eq!(format!("{:?}", Settings::read(&path).unwrap()), printed);
    }

    #[test]
    fn config_secrets_and_slot_are_checked() {
        let said = problems(
            "[canonical]\nurl = \"postgres://plait@localhost/plait\"\npassword_env = \"A\"\n\
             password_file = \"b\"\n[directus]\ndatabase_url = \"postgres://d@h/d\"\n\
             password_file = \"plait.toml.none\"\nslot = \"Plait\"\n",
        );
        assert_eq!(
            said,
            "plait.toml:4: [canonical]: `password_env` and `password_file` exclude each other: keep one of \
             them\nplait.toml:7: [directus]: could not use plait.toml.none: entity not found\n\
             plait.toml:8: [directus]: `slot` has to be of small letters, digits and `_`, at most 63 of them"
        );
    }

    #[test]
    fn config_directus_is_written_to_with_an_address_and_a_token() {
        let directus = |lines: &str| {
            let text = format!(
                "[canonical]\nurl = \"postgres://plait@localhost/plait\"\n[directus]\n\
                 database_url = \"postgres://d@h/d\"\n{lines}"
            );
            let folder = tempfile::tempdir().unwrap();
            write_secret(&folder.path().join("there"));
            let path = folder.path().join("plait.toml");
            std::fs::write(&path, text).unwrap();
            Settings::read(&path).map(|settings| settings.directus.unwrap().api)
        };
        assert!(directus("").unwrap().is_none());
        let said = |lines: &str| directus(lines).unwrap_err().to_string();
        let no_token = said("api_url = \"https://directus.example.org\"\n");
        assert!(no_token.contains(":5: [directus]: `api_url` needs a token"), "{no_token}");
        let no_url = said("token_file = \"there\"\n");
        assert!(no_url.contains(":5: [directus]: `token_file` is the token"), "{no_url}");
        let bent = said("api_url = \"directus.example.org\"\ntoken_file = \"there\"\n");
        assert!(bent.contains("`api_url` has to be like"), "{bent}");
        let url = "api_url = \"http://localhost:8055\"\n";
        let there = directus(&format!("{url}token_file = \"there\"\n")).unwrap().unwrap();
        assert_eq!(there.token.unwrap().reveal(), "hunter2");
        // To be made by `plait setup directus`.
        let missing = directus(&format!("{url}token_file = \"missing\"\n")).unwrap().unwrap();
        assert!(missing.token.is_none() && missing.token_file.unwrap().ends_with("missing"));
    }

    #[test]
    fn config_server_that_does_not_prove_who_it_is_needs_a_persons_word() {
        let canonical = "[canonical]\nurl = \"postgres://plait@localhost/plait\"\n";
        let directus = |lines: &str| {
            format!(
                "{canonical}[directus]\ndatabase_url = \"postgres://d@db.example.org/d\"\n{lines}"
            )
        };
        let read = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("plait.toml");
            std::fs::write(&path, text).unwrap();
            Settings::read(&path)
        };
        let well = read(&directus("")).unwrap();
        assert_eq!(well.canonical.tls, TlsMode::Prefer);
        assert_eq!(well.directus.unwrap().database.tls, TlsMode::VerifyFull);
        assert!(well.warnings.is_empty());

        let refused = problems(&directus("tls = \"require\"\n"));
        assert!(
            refused.starts_with("plait.toml:5: [directus]: `tls = \"require\"` would give"),
            "{refused}"
        );
        let refused =
            problems(&directus("api_url = \"http://directus:8055\"\ntoken_file = \"none\"\n"));
        assert!(refused.contains(":5: [directus]: `api_url` with `http://`"), "{refused}");
        let refused = problems(&format!(
            "{canonical}[airtable]\ntoken_env = \"PATH\"\napi_url = \"http://10.0.0.1\"\n"
        ));
        assert!(refused.contains(":5: [airtable]: `api_url` with `http://`"), "{refused}");

        let accepted = "tls = \"disable\"\nunverified = true\napi_url = \"http://directus:8055\"\ntoken_file = \"none\"\n";
        let warnings = read(&directus(accepted)).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("[directus]") && warnings[1].contains("plain text"),
            "{warnings:?}"
        );

        let socket = "[canonical]\nurl = \"postgres://plait@%2Frun%2Fpostgresql/plait\"\ntls = \"disable\"\n";
        assert_eq!(read(socket).unwrap().canonical.host, "/run/postgresql");
        let ipv6 =
            read("[canonical]\nurl = \"postgres://plait@[::1]:5433/plait\"\n").unwrap().canonical;
        assert_eq!((ipv6.host.as_str(), ipv6.port), ("::1", 5433));
    }

    #[test]
    fn config_number_out_of_range_and_wrong_type_are_told() {
        let said = problems(
            "[canonical]\nurl = 5\n[apply]\nbatch_row_count_max = 0\n[log]\nformat = \"jsno\"\n",
        );
        assert!(said.contains(":2: [canonical]: `url` has to be a text in quotes"), "{said}");
        assert!(
            said.contains(":4: [apply]: `batch_row_count_max` has to be a whole number from 1"),
            "{said}"
        );
        assert!(
            said.contains(":6: [log]: `format` cannot be `jsno`; did you mean `json`?"),
            "{said}"
        );
    }
}
