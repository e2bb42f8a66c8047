//! Plait's account in Directus: a role, a policy that allows just what the mapping needs, and a user. In: the
//! mapping, and a client with an admin's token. Out: what is missing, and on a yes all of it. Running it again
//! brings the rights up to date.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value as Json, json};

use super::{Action, Client, Error, Me};
use crate::{
    config::Secret,
    mapping::{
        ACCOUNTS, Accounts, Direction, DirectusField, Entity, Mapping, Policy, Reach, RoleReach,
    },
    model::Side,
};

/// What role and policy are called.
pub(crate) const NAME: &str = "Plait";
/// Unless it is said otherwise. Directus takes addresses in public domains only.
pub(crate) const EMAIL: &str = "plait@example.com";
/// Says of each collection whether its changes are noted, with their authors.
pub(crate) const COLLECTIONS: &str = "directus_collections";

/// Says of each field by what Directus fills it, if it does.
pub(crate) const FIELDS: &str = "directus_fields";

/// What may be done with a collection, and with which fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) collection: String,
    pub(crate) action: &'static str,
    pub(crate) fields: BTreeSet<String>,
    pub(crate) whose: Whose,
}

/// Which rows a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Everybody,
    /// Of the accounts, those that are members'.
    Members,
}

/// What has to be done to the account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    role: Option<String>,
    policy: Option<String>,
    is_policy_bent: bool,
    user: Option<String>,
    is_user_bent: bool,
    email: String,
    create: Vec<Permission>,
    /// With the id of what is there.
    update: Vec<(Json, Permission)>,
    delete: Vec<(Json, String)>,
    /// The roles whose accounts are members, by id.
    member_roles: Vec<String>,
}

/// What the mapping needs, and no more.
pub(crate) fn needed(mapping: &Mapping) -> Vec<Permission> {
    let mut needed: BTreeMap<(String, &'static str), BTreeSet<String>> = BTreeMap::new();
    let mut allow = |collection: &str, action: Action, fields: &[&str]| {
        let of = needed.entry((collection.to_owned(), action.name())).or_default();
        of.extend(fields.iter().map(|field| (*field).to_owned()));
    };
    for entity in &mapping.entities {
        let Some(table) = &entity.directus else { continue };
        let (read, written) = columns(entity);
        let key = table.key.as_str();
        allow(&table.table, Action::Read, &[&[key], read.as_slice()].concat());
        allow(&table.table, Action::Create, &[&[key], written.as_slice()].concat());
        for test in entity.rows.directus.iter().flat_map(|rows| &rows.tests) {
            allow(&table.table, Action::Read, &[test.field.as_str()]);
            if test.preset().is_some() {
                allow(&table.table, Action::Create, &[test.field.as_str()]);
            }
        }
        if entity.password.is_some() {
            allow(&table.table, Action::Create, &["password"]);
        }
        allow(&table.table, Action::Update, &written);
        allow(&table.table, Action::Delete, &["*"]);
        for field in &entity.fields {
            if let Some(DirectusField::Junction { table, key, parent, element, .. }) =
                &field.directus
            {
                allow(table, Action::Read, &[key, parent, element]);
                // All columns: a row that returns has again what it held beside its element.
                allow(table, Action::Create, &[parent, element, "*"]);
                allow(table, Action::Delete, &["*"]);
            }
        }
    }
    allow(COLLECTIONS, Action::Read, &["collection", "group", "accountability"]);
    allow(FIELDS, Action::Read, &["collection", "field", "special"]);
    needed
        .into_iter()
        .map(|((collection, action), fields)| {
            let whose = whose(&collection, action);
            Permission { collection, action, fields, whose }
        })
        .collect()
}

/// The columns that are read, and those that are written.
fn columns(entity: &Entity) -> (Vec<&str>, Vec<&str>) {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for field in &entity.fields {
        let Some(DirectusField::Column { column, .. }) = &field.directus else { continue };
        read.push(column.as_str());
        let is_written =
            field.policy != Policy::Computed && field.direction != Direction::From(Side::Directus);
        if is_written {
            written.push(column.as_str());
        }
    }
    (read, written)
}

/// Which rows of a collection an action is for: of the accounts, those of members, so that Directus itself refuses the
/// others whatever is asked of it. A new account has no role yet.
fn whose(collection: &str, action: &str) -> Whose {
    if collection == ACCOUNTS && action != Action::Create.name() {
        Whose::Members
    } else {
        Whose::Everybody
    }
}

/// The accounts that [`Accounts`] admits, as a filter of Directus. It looks at the policies of each account at each
/// moment; of roles it can only be told which ones are members' when this is set up, so that a new role is nobody's.
fn members(roles: &[String]) -> Json {
    let without = |access: &str| json!({ "policies": { "_none": { "policy": { access: { "_eq": true } } } } });
    let mut of_role = vec![json!({ "role": { "_null": true } })];
    if !roles.is_empty() {
        of_role.push(json!({ "role": { "_in": roles } }));
    }
    json!({ "_and": [
        { "id": { "_neq": "$CURRENT_USER" } },
        without("admin_access"),
        without("app_access"),
        { "_or": of_role },
    ] })
}

/// The roles whose accounts are members, by id.
async fn members_roles(client: &Client, mapping: &Mapping) -> Result<Vec<String>, Error> {
    let Some(entity) = mapping.entities.iter().find(|entity| entity.is_of_accounts()) else {
        return Ok(Vec::new());
    };
    let fields = "id,name,parent,policies.policy.name,policies.policy.admin_access,policies.policy.app_access";
    let query = [("fields", fields.to_owned()), ("limit", "-1".to_owned())];
    let rows = client.ask(Method::GET, "/roles", &query, None).await?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    let parent_of = |row: &Json| rows.iter().find(|it| it["id"] == row["parent"]).cloned();
    let reaches: Vec<RoleReach> = rows
        .iter()
        .map(|row| {
            // A role has the policies of its parents too.
            let mut line = vec![row.clone()];
            while let Some(parent) = line.last().and_then(parent_of).filter(|it| !line.contains(it))
            {
                line.push(parent);
            }
            let policies: Vec<&Json> = line
                .iter()
                .flat_map(|role| role["policies"].as_array().into_iter().flatten())
                .map(|link| &link["policy"])
                .collect();
            let any = |access: &str| policies.iter().any(|policy| policy[access] == json!(true));
            let id = said(&row["id"]).to_owned();
            let name = row["name"].as_str().map_or_else(|| id.clone(), str::to_owned);
            RoleReach {
                id,
                is_own: name == NAME && policies.iter().any(|policy| policy["name"] == NAME),
                name,
                reach: Reach { is_admin: any("admin_access"), is_app: any("app_access") },
            }
        })
        .collect();
    let accounts = Accounts::new(&reaches, &[], &entity.rows.member_roles);
    let mut ids: Vec<String> = reaches
        .into_iter()
        .filter(|role| accounts.admits("", Some(&role.id)))
        .map(|role| role.id)
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

impl Account {
    /// Looks at what is there; changes nothing. `client`: an admin's.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn look(
        client: &Client,
        mapping: &Mapping,
        email: &str,
    ) -> Result<Self, Error> {
        let mut account = Self { email: email.to_owned(), ..Self::default() };
        account.role = found(client, "/roles", "name", NAME, "id").await?.and_then(id);
        let policy =
            found(client, "/policies", "name", NAME, "id,admin_access,app_access,roles.role")
                .await?;
        if let Some(policy) = &policy {
            let has_role = policy["roles"].as_array().is_some_and(|roles| {
                roles.iter().any(|link| link["role"].as_str() == account.role.as_deref())
            });
            account.is_policy_bent = policy["admin_access"] != json!(false)
                || policy["app_access"] != json!(false)
                || !has_role;
        }
        account.policy = policy.and_then(id);
        let user = found(client, "/users", "email", email, "id,role,status").await?;
        if let Some(user) = &user {
            account.is_user_bent = user["status"] != "active"
                || account.role.is_none()
                || user["role"].as_str() != account.role.as_deref();
        }
        account.user = user.and_then(id);
        account.member_roles = members_roles(client, mapping).await?;
        account.compare(client, mapping).await?;
        Ok(account)
    }

    async fn compare(&mut self, client: &Client, mapping: &Mapping) -> Result<(), Error> {
        let mut needed = needed(mapping);
        if let Some(policy) = &self.policy {
            for held in all(client, "/permissions", "policy", policy).await? {
                let at = needed.iter().position(|needed| {
                    held["collection"] == needed.collection.as_str()
                        && held["action"] == needed.action
                });
                let name = format!("{} {}", said(&held["action"]), said(&held["collection"]));
                let Some(at) = at else {
                    self.delete.push((held["id"].clone(), name));
                    continue;
                };
                let needed = needed.remove(at);
                let fields: BTreeSet<String> = held["fields"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|field| field.as_str().map(String::from))
                    .collect();
                let is_plain = |of: &str| {
                    held[of].is_null()
                        || held[of].as_object().is_some_and(serde_json::Map::is_empty)
                };
                let is_free = ["validation", "presets"].into_iter().all(is_plain);
                let rows = self.rows(needed.whose);
                let has_rows =
                    is_plain("permissions") && rows == json!({}) || held["permissions"] == rows;
                if fields != needed.fields || !is_free || !has_rows {
                    self.update.push((held["id"].clone(), needed));
                }
            }
        }
        self.create = needed;
        Ok(())
    }

    /// The rows that a permission is for, as a filter of Directus.
    fn rows(&self, whose: Whose) -> Json {
        match whose {
            Whose::Everybody => json!({}),
            Whose::Members => members(&self.member_roles),
        }
    }

    fn json(&self, needed: &Permission, policy: &str) -> Json {
        json!({
            "policy": policy, "collection": needed.collection, "action": needed.action,
            "fields": needed.fields, "permissions": self.rows(needed.whose), "validation": null, "presets": null,
        })
    }

    /// Whether this is the account's user.
    pub(crate) fn is_user(&self, me: &Me) -> bool {
        self.user.as_deref() == Some(&me.id)
    }

    /// What [`Self::make`] would do, a line each. Empty: nothing but a new token.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.role.is_none() {
            lines.push(format!("make the role `{NAME}`"));
        }
        match &self.policy {
            None => lines.push(format!("make the policy `{NAME}`, without access to the Studio")),
            Some(_) if self.is_policy_bent => lines.push(format!(
                "take admin and Studio access from the policy `{NAME}`, give it to the role"
            )),
            Some(_) => {}
        }
        for needed in &self.create {
            lines.push(format!("allow to {}", needed.text()));
        }
        for (_, needed) in &self.update {
            lines.push(format!("allow just to {}", needed.text()));
        }
        for (_, name) in &self.delete {
            lines.push(format!("no longer allow to {name}"));
        }
        match &self.user {
            None => lines.push(format!("make the user `{}`", self.email)),
            Some(_) if self.is_user_bent => {
                lines.push(format!("give the user `{}` this role, and make it active", self.email));
            }
            Some(_) => {}
        }
        lines
    }

    /// Makes what is missing, and gives the user this token; `None`: the one it has.
    ///
    /// # Errors
    /// As [`Error`] says. What was made stays; the next look finds it.
    pub(crate) async fn make(&self, client: &Client, token: Option<&Secret>) -> Result<(), Error> {
        let role = if let Some(role) = &self.role {
            role.clone()
        } else {
            let body = json!({ "name": NAME, "icon": "sync_alt" });
            made(client, "/roles", &body).await?
        };
        let policy = if let Some(policy) = &self.policy {
            policy.clone()
        } else {
            let body = json!({
                "name": NAME, "icon": "sync_alt", "admin_access": false, "app_access": false,
                "enforce_tfa": false, "roles": [{ "role": role }],
            });
            made(client, "/policies", &body).await?
        };
        if self.is_policy_bent {
            let body = json!({
                "admin_access": false, "app_access": false, "roles": [{ "role": role }],
            });
            change(client, &format!("/policies/{policy}"), &body).await?;
        }
        if !self.create.is_empty() {
            let rights: Vec<Json> =
                self.create.iter().map(|needed| self.json(needed, &policy)).collect();
            client.ask(Method::POST, "/permissions", &[], Some(&json!(rights))).await?;
        }
        for (id, needed) in &self.update {
            change(client, &format!("/permissions/{id}"), &self.json(needed, &policy)).await?;
        }
        for (id, _) in &self.delete {
            let path = format!("/permissions/{id}");
            client.ask(Method::DELETE, &path, &[], None).await?;
        }
        let mut user = json!({ "role": role, "status": "active" });
        if let Some(token) = token {
            user["token"] = json!(token.reveal());
        }
        if let Some(id) = &self.user {
            return change(client, &format!("/users/{id}"), &user).await;
        }
        user["email"] = json!(self.email);
        user["first_name"] = json!("Plait");
        user["last_name"] = json!("(service)");
        made(client, "/users", &user).await.map(drop)
    }
}

impl Permission {
    fn text(&self) -> String {
        let Self { collection, action, fields, whose } = self;
        let whose = match whose {
            Whose::Everybody => "",
            Whose::Members => " (members' accounts alone)",
        };
        if *action == Action::Delete.name() {
            return format!("{action} {collection}{whose}");
        }
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        format!("{action} {collection}{whose}: {}", fields.join(", "))
    }
}

fn id(found: Json) -> Option<String> {
    super::text(&found["id"])
}

fn said(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

/// The first row whose `field` has this value.
async fn found(
    client: &Client,
    path: &str,
    field: &str,
    value: &str,
    fields: &str,
) -> Result<Option<Json>, Error> {
    let filter = json!({ field: { "_eq": value } }).to_string();
    let query = [("filter", filter), ("fields", fields.to_owned()), ("limit", "1".to_owned())];
    let rows = client.ask(Method::GET, path, &query, None).await?;
    Ok(rows.as_array().and_then(|rows| rows.first()).cloned())
}

async fn all(client: &Client, path: &str, field: &str, value: &str) -> Result<Vec<Json>, Error> {
    let filter = json!({ field: { "_eq": value } }).to_string();
    let query = [("filter", filter), ("limit", "-1".to_owned())];
    let rows = client.ask(Method::GET, path, &query, None).await?;
    Ok(rows.as_array().cloned().unwrap_or_default())
}

async fn made(client: &Client, path: &str, body: &Json) -> Result<String, Error> {
    let made = client.ask(Method::POST, path, &[], Some(body)).await?;
    id(made).ok_or_else(|| Error::Malformed {
        call: format!("POST {path}"),
        problem: String::from("it has no id"),
    })
}

async fn change(client: &Client, path: &str, body: &Json) -> Result<(), Error> {
    client.ask(Method::PATCH, path, &[], Some(body)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::read;

    #[test]
    fn setup_rights_are_what_the_mapping_names_and_no_more() {
        let mapping = read(
            r#"
            version = 1
            [entity.member]
            table = "member"
            directus = { table = "directus_users" }
            [entity.member.field]
            email = { type = "email", directus = "email" }
            seen = { type = "datetime", directus = "last_seen", direction = "from directus" }
            roles = { type = "multi_select", junction = { table = "member_role", parent = "member_id", element = "role_code" }, directus = { junction = "member_role", parent = "member", element = "role" }, policy = "set merge" }
            "#,
            "mapping.toml",
        )
        .unwrap();
        let needed: Vec<String> = needed(&mapping).iter().map(Permission::text).collect();
        assert_eq!(
            needed,
            [
                "read directus_collections: accountability, collection, group",
                "read directus_fields: collection, field, special",
                "create directus_users: email, id",
                "delete directus_users (members' accounts alone)",
                "read directus_users (members' accounts alone): email, id, last_seen",
                "update directus_users (members' accounts alone): email",
                "create member_role: *, member, role",
                "delete member_role",
                "read member_role: id, member, role",
            ]
        );
    }
}
