//! A bootstrapped Directus with the demo's model, made once and kept as a dump in the cache: the next start
//! restores it in a second instead of making it in half a minute. A dump, and not a copy of a data folder, so
//! that it fits every version of Postgres and each cluster keeps an identity of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{
    Error, cache,
    cluster::Cluster,
    directus::{Admin, Database, DirectusServer, Rest},
    hex, model, secret, source,
};

/// The e-mail of the template's admin; the password and token of a copy are set by who makes it.
pub const ADMIN_EMAIL: &str = "admin@example.com";

/// The dump, made now if there is none for this version of Directus, of the model and of the mapping.
///
/// # Errors
/// A part cannot be started, or the cache cannot be written.
pub async fn dump() -> Result<PathBuf, Error> {
    let folder = cache::folder().join("templates");
    fs::create_dir_all(&folder).map_err(Error::files(&folder))?;
    let file = folder.join(format!("directus-{}.sql", key()));
    if file.is_file() {
        return Ok(file);
    }
    // Two that start at once: one makes it, the other waits. The lock ends with `_lock`.
    let lock_file = folder.join("lock");
    let lock = File::create(&lock_file).map_err(Error::files(&lock_file))?;
    let _lock = spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(Error::files(&lock_file))?;
    if !file.is_file() {
        let half = folder.join("half.sql");
        make(&half).await?;
        fs::rename(&half, &file).map_err(Error::files(&file))?;
    }
    Ok(file)
}

/// Fills an empty database of `owner` from the dump, which [`dump`] gives.
///
/// # Errors
/// The cluster is not there, or the database is not empty.
pub async fn restore(cluster: &Cluster, database: &Database) -> Result<(), Error> {
    let dump = dump().await?;
    cluster.restore(&database.database, &database.user, &database.password, &dump).await
}

fn key() -> String {
    let mut hash = Sha256::new();
    for part in [
        cache::DIRECTUS_VERSION,
        include_str!("model.rs"),
        include_str!("source.rs"),
        include_str!("template.rs"),
        include_str!("../remote/directus/setup.rs"),
        model::MAPPING,
    ] {
        hash.update(part);
        hash.update([0]);
    }
    hex(&hash.finalize()).chars().take(16).collect()
}

async fn make(file: &Path) -> Result<(), Error> {
    let cluster = Cluster::throw_away(&cache::postgres_bin()?, &[]).await?;
    let database = Database {
        port: cluster.port(),
        database: String::from("directus"),
        user: String::from("directus"),
        password: secret(),
    };
    cluster.create_database(&database.database, &database.user, &database.password).await?;
    let admin = Admin { email: ADMIN_EMAIL.into(), password: secret(), token: secret() };
    let mut server = DirectusServer::new(database, &[])?;
    server.bootstrap(&admin).await?;
    server.start().await?;
    let rest: Rest = server.rest(&admin.token);
    let model = model::from_mapping(model::MAPPING)?;
    model::apply(&model, &rest).await?;
    source::add_account(&server.url(), &admin).await?;
    server.remove().await?;
    // What making it left behind is no part of a fresh installation.
    let history = "truncate directus_revisions, directus_activity restart identity cascade";
    cluster.sql("directus", history).await?;
    cluster.dump("directus", file).await?;
    cluster.remove().await
}
