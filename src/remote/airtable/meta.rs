//! Who we are, which bases we see, what is in them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Call, Client, Error, Kind, segment};

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WhoAmI {
    /// `usr…`
    pub(crate) id: String,
    /// Only of OAuth tokens.
    pub(crate) scopes: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Base {
    /// `app…`
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    /// `none`, `read`, `comment`, `edit`, `create`, or something new.
    #[serde(default, rename = "permissionLevel")]
    pub(crate) permission_level: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Table {
    /// `tbl…`
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Field {
    /// `fld…`
    pub(crate) id: String,
    pub(crate) name: String,
    /// `singleLineText`, …, or something new.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) options: Option<Map<String, Value>>,
}

impl Field {
    /// The table that the links of a `multipleRecordLinks` field go to.
    pub(crate) fn linked_table(&self) -> Option<&str> {
        self.options.as_ref()?.get("linkedTableId")?.as_str()
    }

    /// Id and name of each option of a select.
    pub(crate) fn choices(&self) -> Vec<(String, String)> {
        let choices = self.options.as_ref().and_then(|options| options.get("choices"));
        let choice = |choice: &Value| {
            Some((choice.get("id")?.as_str()?.to_owned(), choice.get("name")?.as_str()?.to_owned()))
        };
        choices.and_then(Value::as_array).into_iter().flatten().filter_map(choice).collect()
    }
}

#[derive(Deserialize)]
struct Bases {
    bases: Vec<Base>,
    #[serde(default)]
    offset: Option<String>,
}

#[derive(Deserialize)]
struct Tables {
    tables: Vec<Table>,
}

/// Pages of 1,000 bases each; more than these is a server that goes in circles.
const BASE_PAGE_COUNT_MAX: usize = 100;

impl Client {
    /// Whose token this is.
    pub(crate) async fn whoami(&self) -> Result<WhoAmI, Error> {
        self.call(Call::get("/v0/meta/whoami".into(), None, Kind::Meta)).await
    }

    /// All bases that the token was granted.
    pub(crate) async fn bases(&self) -> Result<Vec<Base>, Error> {
        let mut bases = Vec::new();
        let mut offset = None;
        for _ in 0..BASE_PAGE_COUNT_MAX {
            let mut call = Call::get("/v0/meta/bases".into(), None, Kind::Meta);
            call.query.extend(offset.take().map(|offset| ("offset", offset)));
            let page: Bases = self.call(call).await?;
            bases.extend(page.bases);
            offset = page.offset.filter(|offset| !offset.is_empty());
            if offset.is_none() {
                return Ok(bases);
            }
        }
        let problem = format!("more than {BASE_PAGE_COUNT_MAX} pages of bases");
        Err(Error::Malformed { call: "GET /v0/meta/bases".into(), problem })
    }

    /// The tables and fields of a base.
    pub(crate) async fn tables(&self, base: &str) -> Result<Vec<Table>, Error> {
        let path = format!("/v0/meta/bases/{}/tables", segment(base));
        let answer: Tables = self.call(Call::get(path, Some(base), Kind::Meta)).await?;
        Ok(answer.tables)
    }
}
