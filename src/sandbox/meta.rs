//! The metadata endpoints: who am I, bases, schema, creating and changing tables and fields; comments.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::clock::{iso_ms, iso_seconds};
use super::ids::is_id;
use super::model::{Base, State, Table};
use super::reply::{
    Answer, error, forbidden_or_unknown, invalid_request, not_permitted, record_not_found,
};
use super::schema::{checked_description, edit_table, make_field, make_table, rename_field};
use super::transaction::Actor;

const BASES_PAGE: usize = 1000;
const COMMENTS_PAGE: usize = 100;

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn table_meta(table: &Table, with_visible_fields: bool) -> Value {
    let views: Vec<Value> = table
        .views
        .iter()
        .map(|view| {
            let mut shown = json!({ "id": view.id, "name": view.name, "type": view.kind });
            if with_visible_fields && view.kind == "grid" {
                let visible = table
                    .fields
                    .iter()
                    .map(|field| &field.id)
                    .filter(|id| !view.hidden_field_ids.contains(id));
                shown["visibleFieldIds"] = json!(visible.collect::<Vec<_>>());
            }
            shown
        })
        .collect();
    let mut map = Map::new();
    map.insert("id".into(), json!(table.id));
    map.insert("name".into(), json!(table.name));
    if let Some(description) = &table.description {
        map.insert("description".into(), json!(description));
    }
    map.insert("primaryFieldId".into(), json!(table.primary_field_id));
    map.insert("fields".into(), table.fields.iter().map(super::model::Field::to_meta).collect());
    map.insert("views".into(), Value::Array(views));
    Value::Object(map)
}

fn actor(caller: &Caller) -> Actor {
    Actor { source: "publicApi".into(), user: Some(caller.user.clone()), metadata: Value::Null }
}

impl State {
    pub(super) fn whoami(&self, caller: &Caller) -> Value {
        let mut map = Map::new();
        map.insert("id".into(), json!(caller.user));
        if caller.oauth.is_some() {
            map.insert("scopes".into(), json!(caller.scopes));
        }
        if caller.scopes.contains("user.email:read")
            && let Some(user) = self.world.users.get(&caller.user)
        {
            map.insert("email".into(), json!(user.email));
        }
        Value::Object(map)
    }

    pub(super) fn list_bases(&self, caller: &Caller, query: &[(String, String)]) -> Answer<Value> {
        let after = match parameter(query, "offset").filter(|offset| !offset.is_empty()) {
            None => String::new(),
            Some(offset) => match offset.split_once('/') {
                Some((iterator, last)) if is_id(iterator, "itr") => last.to_owned(),
                _ => {
                    let text = format!("The value of offset {offset} is invalid");
                    return Err(error(422, "INVALID_OFFSET_VALUE", &text));
                }
            },
        };
        let seen: Vec<&Base> = self
            .world
            .bases
            .values()
            .filter(|base| base.id > after && caller.may_enter(&base.id))
            .collect();
        let page: Vec<Value> = seen
            .iter()
            .take(BASES_PAGE)
            .map(|base| json!({ "id": base.id, "name": base.name, "permissionLevel": caller.role }))
            .collect();
        let mut answer = json!({ "bases": page });
        if seen.len() > BASES_PAGE {
            answer["offset"] = json!(format!("itr00000000000000/{}", seen[BASES_PAGE - 1].id));
        }
        Ok(answer)
    }

    pub(super) fn base_schema(&self, base_id: &str, query: &[(String, String)]) -> Answer<Value> {
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        let mut with_visible = false;
        for (key, value) in query {
            match (key.as_str(), value.as_str()) {
                ("include[]" | "include" | "include[0]", "visibleFieldIds") => with_visible = true,
                ("", _) => {}
                _ => return Err(invalid_request()),
            }
        }
        let tables: Vec<Value> =
            base.tables.iter().map(|table| table_meta(table, with_visible)).collect();
        Ok(json!({ "tables": tables }))
    }

    /// Makes a base. Its `workspaceId` is checked for its shape only: the sandbox knows no workspaces.
    pub(super) fn create_base(
        &mut self,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        only_keys(body, &["name", "workspaceId", "tables"])?;
        let name = body["name"].as_str().filter(|name| !name.is_empty());
        let workspace = body["workspaceId"].as_str().unwrap_or_default();
        let tables = body["tables"].as_array().filter(|tables| !tables.is_empty());
        let (Some(name), Some(tables), true) = (name, tables, workspace.starts_with("wsp")) else {
            return Err(invalid_request());
        };
        let id = self.ids.make("app");
        let base = Base { id: id.clone(), name: name.to_owned(), ..Base::default() };
        self.world.bases.insert(id.clone(), base);
        let made = self.transact(&id, actor(caller), now_ms, |tx| {
            let made = tables.iter().map(|table| {
                only_keys(table, &["name", "description", "fields"])?;
                let index = make_table(tx, table, false)?;
                Ok(table_meta(&tx.base.tables[index], false))
            });
            made.collect::<Answer<Vec<_>>>()
        });
        match made {
            Ok(tables) => Ok(json!({ "id": id, "tables": tables })),
            Err(refusal) => {
                self.world.bases.remove(&id);
                Err(refusal)
            }
        }
    }

    pub(super) fn create_table(
        &mut self,
        base_id: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        only_keys(body, &["name", "description", "fields"])?;
        if body["description"] == "" {
            return Err(invalid_request());
        }
        self.transact(base_id, actor(caller), now_ms, |tx| {
            let index = make_table(tx, body, false)?;
            Ok(table_meta(&tx.base.tables[index], false))
        })
    }

    pub(super) fn update_table(
        &mut self,
        base_id: &str,
        table: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        only_keys(body, &["name", "description", "dateDependencySettings"])?;
        let index = self.table_index(base_id, table)?;
        let description = match body.get("description") {
            None => None,
            Some(description) => Some(checked_description(description)?),
        };
        self.transact(base_id, actor(caller), now_ms, |tx| {
            edit_table(tx, index, body["name"].as_str(), description)?;
            Ok(table_meta(&tx.base.tables[index], false))
        })
    }

    pub(super) fn create_field(
        &mut self,
        base_id: &str,
        table: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        only_keys(body, &["name", "type", "description", "options"])?;
        let index = self.table_index(base_id, table)?;
        self.transact(base_id, actor(caller), now_ms, |tx| {
            let id = make_field(tx, index, body, false)?;
            Ok(tx.base.tables[index]
                .field(&id)
                .map(super::model::Field::to_meta)
                .unwrap_or_default())
        })
    }

    pub(super) fn update_field(
        &mut self,
        base_id: &str,
        table: &str,
        field_id: &str,
        caller: &Caller,
        body: &Value,
        now_ms: i64,
    ) -> Answer<Value> {
        only_keys(body, &["name", "description", "options"])?;
        let index = self.table_index(base_id, table)?;
        self.transact(base_id, actor(caller), now_ms, |tx| {
            let field =
                tx.base.tables[index].field_index(field_id).ok_or_else(forbidden_or_unknown)?;
            if let Some(options) = body.get("options") {
                only_keys(options, &["formula"])?;
                let formula = options["formula"].as_str().ok_or_else(invalid_request)?;
                if tx.base.tables[index].fields[field].kind != "formula" {
                    return Err(invalid_request());
                }
                tx.base.tables[index].fields[field].options["formula"] = json!(formula);
                super::computed::touch_all(tx, index);
            }
            if let Some(description) = body.get("description") {
                tx.base.tables[index].fields[field].description = checked_description(description)?;
            }
            if let Some(name) = body.get("name") {
                rename_field(tx, index, field, name.as_str().ok_or_else(invalid_request)?)?;
            }
            Ok(tx.base.tables[index].fields[field].to_meta())
        })
    }

    /// The people that a comment names as `@[usr…]`.
    fn mentioned_in(&self, text: &str) -> Map<String, Value> {
        let ids = text.split("@[").skip(1).filter_map(|rest| rest.split_once(']'));
        ids.filter_map(|(id, _)| self.world.users.get(id))
            .map(|user| {
                let shown = json!({
                    "type": "user", "id": user.id, "displayName": user.name, "email": user.email,
                });
                (user.id.clone(), shown)
            })
            .collect()
    }

    pub(super) fn list_comments(
        &self,
        base_id: &str,
        table: &str,
        record: &str,
        query: &[(String, String)],
    ) -> Answer<Value> {
        let index = self.table_index(base_id, table)?;
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        let record = base.tables[index].records.get(record).ok_or_else(record_not_found)?;
        let size = match parameter(query, "pageSize") {
            None => COMMENTS_PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=COMMENTS_PAGE).contains(size))
                .ok_or_else(invalid_request)?,
        };
        let start: usize = match parameter(query, "offset").filter(|offset| !offset.is_empty()) {
            None => 0,
            Some(offset) => {
                let bytes = STANDARD.decode(offset).map_err(|_| invalid_request())?;
                String::from_utf8_lossy(&bytes).parse().map_err(|_| invalid_request())?
            }
        };
        let page: Vec<Value> = record
            .comments
            .iter()
            .rev()
            .skip(start)
            .take(size)
            .map(|comment| {
                // Listed later, a comment's time has lost its milliseconds.
                let mut comment = comment.clone();
                if let Some(at) = comment["createdTime"].as_str().and_then(millis_of) {
                    comment["createdTime"] = json!(iso_seconds(at));
                }
                comment
            })
            .collect();
        let end = start + page.len();
        let offset = (end < record.comments.len()).then(|| STANDARD.encode(end.to_string()));
        Ok(json!({ "comments": page, "offset": offset }))
    }

    /// Creates (no id), edits or deletes (no body) a comment.
    pub(super) fn write_comment(
        &mut self,
        base_id: &str,
        (table, record_id): (&str, &str),
        caller: &Caller,
        comment_id: Option<&str>,
        body: Option<&Value>,
        now_ms: i64,
    ) -> Answer<Value> {
        let index = self.table_index(base_id, table)?;
        let author =
            self.world.users.get(&caller.user).map(super::model::User::to_rest).unwrap_or_default();
        let text = match body {
            None => None,
            Some(body) => Some(body["text"].as_str().ok_or_else(invalid_request)?),
        };
        let mentioned = self.mentioned_in(text.unwrap_or_default());
        let new_id = self.ids.make("com");
        let base = self.world.bases.get_mut(base_id).ok_or_else(forbidden_or_unknown)?;
        let record = base.tables[index].records.get_mut(record_id).ok_or_else(record_not_found)?;
        let Some(comment_id) = comment_id else {
            let mut comment = json!({
                "id": new_id, "author": author, "text": text, "createdTime": iso_ms(now_ms),
                "lastUpdatedTime": null,
            });
            if let Some(parent) = body.and_then(|body| body["parentCommentId"].as_str()) {
                comment["parentCommentId"] = json!(parent);
            }
            if !mentioned.is_empty() {
                comment["mentioned"] = Value::Object(mentioned);
            }
            record.comments.push(comment.clone());
            return Ok(comment);
        };
        let position = record
            .comments
            .iter()
            .position(|comment| comment["id"] == comment_id)
            .ok_or_else(record_not_found)?;
        if record.comments[position]["author"]["id"] != caller.user.as_str() {
            return Err(not_permitted());
        }
        let Some(text) = text else {
            record.comments.remove(position);
            return Ok(json!({ "id": comment_id, "deleted": true }));
        };
        record.comments[position]["text"] = json!(text);
        record.comments[position]["lastUpdatedTime"] = json!(iso_ms(now_ms));
        Ok(record.comments[position].clone())
    }
}

fn millis_of(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

fn only_keys(body: &Value, known: &[&str]) -> Answer<()> {
    let map = body.as_object().ok_or_else(invalid_request)?;
    if map.is_empty() || map.keys().any(|key| !known.contains(&key.as_str())) {
        Err(invalid_request())
    } else {
        Ok(())
    }
}
