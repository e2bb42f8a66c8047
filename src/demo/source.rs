//! A whole Directus for the demo and the tests: its database with the model, the server, and the accounts that
//! Plait needs, all with secrets made now.

use serde_json::json;

use super::{
    Error,
    cluster::Cluster,
    directus::{Admin, Database, DirectusServer, Rest},
    model::MAPPING,
    secret, template,
};
use crate::{
    mapping,
    remote::directus::{
        Client,
        setup::{Account, EMAIL},
    },
};

/// Plait's own account in Directus; no admin.
pub const SERVICE_EMAIL: &str = EMAIL;

/// A running Directus with its accounts. Secrets are handed over here, and by no command line.
#[derive(Debug)]
pub struct Source {
    pub server: DirectusServer,
    pub admin: Admin,
    /// Static token of [`SERVICE_EMAIL`].
    pub push_token: String,
    /// For Plait's own role there, `NAME_capture`.
    pub capture: Database,
}

/// What a database of Directus keeps between two starts.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub database: String,
    pub admin: String,
    pub admin_token: String,
    pub push_token: String,
    pub capture: String,
}

impl Secrets {
    pub fn new() -> Self {
        Self {
            database: secret(),
            admin: secret(),
            admin_token: secret(),
            push_token: secret(),
            capture: secret(),
        }
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// Makes database `name` on this cluster from the template, or takes the one that is there and gives it
    /// these secrets, and starts a Directus on it.
    ///
    /// # Errors
    /// A part is not installed, cannot be started, or refuses.
    pub async fn start(cluster: &Cluster, name: &str, secrets: &Secrets) -> Result<Self, Error> {
        let database = Database {
            port: cluster.port(),
            database: name.into(),
            user: name.into(),
            password: secrets.database.clone(),
        };
        let known = format!("select from pg_database where datname = '{name}'");
        if cluster.sql("postgres", &known).await?.is_empty() {
            cluster.create_database(name, &database.user, &database.password).await?;
            template::restore(cluster, &database).await?;
        }
        set_secrets(cluster, &database, secrets).await?;
        let mut server = DirectusServer::new(database, &[])?;
        server.start().await?;
        let admin = Admin {
            email: template::ADMIN_EMAIL.into(),
            password: secrets.admin.clone(),
            token: secrets.admin_token.clone(),
        };
        // Only Directus makes the hash.
        server
            .rest(&admin.token)
            .patch("/users/me", &json!({ "password": admin.password }))
            .await?;
        let capture = Database {
            port: cluster.port(),
            database: name.into(),
            user: capture_role(name),
            password: secrets.capture.clone(),
        };
        Ok(Self { server, admin, push_token: secrets.push_token.clone(), capture })
    }

    /// A client for the admin.
    pub fn admin_rest(&self) -> Rest {
        self.server.rest(&self.admin.token)
    }
}

/// Roles belong to the whole cluster, which may hold several Directus.
fn capture_role(database: &str) -> String {
    format!("{database}_capture")
}

async fn set_secrets(
    cluster: &Cluster,
    database: &Database,
    secrets: &Secrets,
) -> Result<(), Error> {
    let Database { database, user: owner, .. } = database;
    let capture = capture_role(database);
    let tokens = format!(
        "update directus_users set token = '{}' where email = '{}';
         update directus_users set token = '{}' where email = '{SERVICE_EMAIL}'",
        secrets.admin_token,
        template::ADMIN_EMAIL,
        secrets.push_token,
    );
    cluster.sql(database, &tokens).await?;
    // Publications are made by who owns the tables: hence the membership. It is the smallest right that lets
    // Plait look after its own publications when collections come and go.
    let role = format!(
        "do $$ begin
             if not exists (select from pg_roles where rolname = '{capture}') then
                 create role {capture} login replication;
             end if;
         end $$;
         alter role {owner} password '{}';
         alter role {capture} password '{}';
         grant {owner} to {capture}",
        secrets.database, secrets.capture,
    );
    cluster.sql(database, &role).await?;
    Ok(())
}

/// Adds Plait's account as `plait setup directus` does: it sees and writes what the mapping names, and nothing else.
/// Without a token yet.
pub(super) async fn add_account(url: &str, admin: &Admin) -> Result<(), Error> {
    let mapping = mapping::read(MAPPING, "mapping.toml")
        .map_err(|problems| Error::Account(problems.to_string()))?;
    let client =
        Client::new(url, &admin.token).map_err(|error| Error::Account(error.to_string()))?;
    let made = async {
        let account = Account::look(&client, &mapping, SERVICE_EMAIL).await?;
        account.make(&client, None).await
    };
    made.await.map_err(|error| Error::Account(error.chain()))
}
