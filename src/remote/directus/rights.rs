//! Who the token's user is, and what he may do.

use std::collections::HashMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Client, Error};

/// The token's user.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Me {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) email: Option<String>,
}

/// What may be done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Read,
    Update,
    Delete,
}

/// What the token's user may do, by collection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rights(HashMap<String, HashMap<String, Right>>);

#[derive(Clone, Debug, Default, Deserialize)]
struct Right {
    #[serde(default)]
    access: String,
    /// `*`: all.
    #[serde(default)]
    fields: Option<Vec<String>>,
}

impl Action {
    pub(crate) const ALL: [Self; 4] = [Self::Create, Self::Read, Self::Update, Self::Delete];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl Rights {
    pub(crate) fn has(&self, collection: &str, action: Action) -> bool {
        self.right(collection, action).is_some()
    }

    /// Whether the right holds for all rows: no rule in the permission leaves any out.
    pub(crate) fn is_for_all_rows(&self, collection: &str, action: Action) -> bool {
        self.right(collection, action).is_some_and(|right| right.access == "full")
    }

    pub(crate) fn has_field(&self, collection: &str, action: Action, field: &str) -> bool {
        self.right(collection, action).is_some_and(|right| {
            right.fields.iter().flatten().any(|known| known == "*" || known == field)
        })
    }

    fn right(&self, collection: &str, action: Action) -> Option<&Right> {
        let right = self.0.get(collection)?.get(action.name())?;
        (!right.access.is_empty() && right.access != "none").then_some(right)
    }
}

impl Client {
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn me(&self) -> Result<Me, Error> {
        let query = [("fields", String::from("id,email"))];
        let data = self.ask(Method::GET, "/users/me", &query, None).await?;
        read(data, "GET /users/me")
    }

    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn rights(&self) -> Result<Rights, Error> {
        let data = self.ask(Method::GET, "/permissions/me", &[], None).await?;
        read(data, "GET /permissions/me")
    }
}

fn read<T: serde::de::DeserializeOwned>(data: Json, call: &str) -> Result<T, Error> {
    serde_json::from_value(data)
        .map_err(|error| Error::Malformed { call: call.to_owned(), problem: error.to_string() })
}
