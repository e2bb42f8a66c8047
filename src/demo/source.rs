//! A whole Directus for the demo and the tests: its database with the model, the server, and the accounts that
//! Plait needs, all with secrets made now.

use serde_json::{Value, json};

use super::{
    Error,
    cluster::Cluster,
    directus::{Admin, Database, DirectusServer},
    model::{Model, USER_COLUMNS, USERS},
    secret, template,
};
use crate::demo::directus::Rest;

/// Plait's own account in Directus; no admin.
pub const SERVICE_EMAIL: &str = "plait@example.com";

/// A running Directus with its accounts. Secrets are handed over here, and by no command line.
#[derive(Debug)]
pub struct Source {
    pub server: DirectusServer,
    pub admin: Admin,
    /// Static token of [`SERVICE_EMAIL`].
    pub service_token: String,
    /// For Plait's own role there, `NAME_capture`.
    pub capture: Database,
}

/// What a database of Directus keeps between two starts.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub database: String,
    pub admin: String,
    pub admin_token: String,
    pub service_token: String,
    pub capture: String,
}

impl Secrets {
    pub fn new() -> Self {
        Self {
            database: secret(),
            admin: secret(),
            admin_token: secret(),
            service_token: secret(),
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
        Ok(Self { server, admin, service_token: secrets.service_token.clone(), capture })
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
        secrets.service_token,
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

/// Adds Plait's account: it sees and writes what the model names, and nothing else. Without a token yet.
pub(super) async fn add_service_account(model: &Model, rest: &Rest) -> Result<(), Error> {
    let role = rest.post("/roles", &json!({ "name": "Plait", "icon": "sync_alt" })).await?;
    let mut permissions = Vec::new();
    for collection in &model.collections {
        let own = collection.fields.iter().map(|field| field.name.as_str());
        let (fields, actions): (Vec<&str>, &[&str]) = if collection.name == USERS {
            let mut fields: Vec<&str> = USER_COLUMNS.into_iter().chain(own).collect();
            fields.sort_unstable();
            fields.dedup();
            (fields, &["create", "read", "update"])
        } else {
            (std::iter::once("id").chain(own).collect(), &["create", "read", "update", "delete"])
        };
        for action in actions {
            let writes_rights = |field: &&str| *action == "read" || !matches!(*field, "role");
            let fields: Vec<&str> = fields.iter().copied().filter(writes_rights).collect();
            permissions.push(permission(&collection.name, action, &json!(fields)));
        }
    }
    for junction in &model.junctions {
        for action in ["create", "read", "update", "delete"] {
            let fields = json!(["id", junction.parent_field, junction.element.name]);
            permissions.push(permission(&junction.name, action, &fields));
        }
    }
    for collection in ["directus_collections", "directus_fields", "directus_relations"] {
        permissions.push(permission(collection, "read", &json!(["*"])));
    }
    let policy = json!({
        "name": "Plait", "admin_access": false, "app_access": false, "enforce_tfa": false,
        "roles": [{ "role": role["id"] }], "permissions": permissions,
    });
    rest.post("/policies", &policy).await?;
    let user = json!({
        "email": SERVICE_EMAIL, "first_name": "Plait", "last_name": "(service)",
        "role": role["id"], "status": "active",
    });
    rest.post("/users", &user).await?;
    Ok(())
}

fn permission(collection: &str, action: &str, fields: &Value) -> Value {
    json!({
        "collection": collection, "action": action, "fields": fields,
        "permissions": {}, "validation": null, "presets": null,
    })
}
