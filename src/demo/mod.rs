//! The real parts that the demo and the tests run on: Postgres clusters and Directus, started here, ended with
//! us. In: what `scripts/install` put on the machine. Out: running servers and how to reach them. Knows
//! nothing of the mirror itself; from the mapping it takes the names and types that Directus has to offer.

pub mod cache;
pub mod cluster;
pub mod directus;
mod keeper;
pub mod model;
pub mod seed;
pub mod source;
pub mod template;

use std::{io, path::PathBuf, time::Duration};

/// Why a part of the demo could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} is not installed (looked for {}); run `scripts/install {set}`", place.display())]
    NotInstalled { what: &'static str, place: PathBuf, set: &'static str },
    #[error("could not use {}", path.display())]
    Files { path: PathBuf, source: io::Error },
    #[error(
        "Postgres refuses to run as root, and its user `{user}` is not there; run `scripts/install demo` or \
         work as another user"
    )]
    NoServerUser { user: &'static str },
    #[error(
        "user `{user}`, under which the servers run, cannot enter {}; choose a folder that it can reach",
        folder.display()
    )]
    ClosedFolder { user: String, folder: PathBuf },
    #[error("could not start `{program}`")]
    Spawn { program: String, source: io::Error },
    #[error("`{program}` failed; it said last:\n{tail}")]
    Failed { program: String, tail: String },
    #[error("{program} was not ready within {} s; its log ends with:\n{tail}", limit.as_secs())]
    NotReady { program: &'static str, limit: Duration, tail: String },
    #[error("{program} did not end within {} s", limit.as_secs())]
    NotEnding { program: &'static str, limit: Duration },
    #[error("could not run SQL on database `{database}`")]
    Sql { database: String, source: tokio_postgres::Error },
    #[error("could not reach Directus with {method} {path}")]
    Unreachable { method: String, path: String, source: reqwest::Error },
    #[error("Directus refused {method} {path} with status {status}: {message}")]
    Refused { method: String, path: String, status: u16, message: String },
    #[error("could not read the mapping that the demo is made from")]
    Mapping { source: toml::de::Error },
    #[error("could not make Plait's account in Directus: {0}")]
    Account(String),
}

impl Error {
    fn files(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { path, source }
    }
}

/// A password or token that nobody can guess: 192 random bits in hexadecimal.
pub fn secret() -> String {
    hex(&rand::random::<[u8; 24]>())
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// A port of 127.0.0.1 that nobody has at this moment. Somebody may take it before the server does, so those
/// who start servers try more than one.
///
/// # Errors
/// No port is free.
fn free_port() -> Result<u16, Error> {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(Error::files("a free port"))?;
    Ok(listener.local_addr().map_err(Error::files("a free port"))?.port())
}
