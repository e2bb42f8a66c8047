//! Whether Directus could be written to, for `plait check`.

use reqwest::Method;

use crate::{
    mapping::Mapping,
    model::Finding,
    remote::directus::{
        Action, Client, Error, Rights,
        setup::{self, Permission, Whose},
    },
};

const SETUP: &str = "run `plait setup directus`";

/// Changes nothing.
pub(crate) async fn preflight(client: &Client, url: &str, mapping: &Mapping) -> Vec<Finding> {
    let rights = match reach(client).await {
        Ok((who, rights)) => {
            let mut findings = vec![Finding::ok(format!(
                "Directus at {url} answers, and knows the token as {who}"
            ))];
            findings.extend(may(&rights, mapping));
            findings.extend(noted(client, mapping).await);
            return findings;
        }
        Err(error) => error,
    };
    let remedy = match &rights {
        Error::Unauthorized { .. } => SETUP,
        _ => "check `api_url` in [directus], and that Directus runs there",
    };
    vec![Finding::error(
        format!("Directus at {url} cannot be written to: {}", rights.chain()),
        remedy,
    )]
}

async fn reach(client: &Client) -> Result<(String, Rights), Error> {
    let me = client.me().await?;
    let who = me.email.map_or_else(|| format!("user {}", me.id), |email| format!("`{email}`"));
    Ok((who, client.rights().await?))
}

/// What the token's user lacks, and what he has beyond the need.
fn may(rights: &Rights, mapping: &Mapping) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Nobody but an administrator may change the rights themselves.
    if rights.has("directus_permissions", Action::Update) {
        findings.push(Finding::warning(
            "the token is one of an administrator: it may do far more than plait needs, and Directus does not \
             tell an administrator that a record is gone",
            SETUP,
        ));
    }
    let mut is_complete = true;
    for Permission { collection, action, fields, whose } in setup::needed(mapping) {
        let Some(action) = Action::ALL.into_iter().find(|known| known.name() == action) else {
            continue;
        };
        // The mirror goes on without them; who asks for them says so.
        if collection == setup::COLLECTIONS || collection == setup::FIELDS {
            continue;
        }
        if !rights.has(&collection, action) {
            is_complete = false;
            findings.push(Finding::error(
                format!("plait's user may not {} records of `{collection}`", action.name()),
                format!("{SETUP}; if the collection is not there, correct the mapping"),
            ));
            continue;
        }
        let lacking: Vec<&str> = fields
            .iter()
            .filter(|field| {
                action != Action::Delete && !rights.has_field(&collection, action, field)
            })
            .map(String::as_str)
            .collect();
        if whose == Whose::Members && rights.is_for_all_rows(&collection, action) {
            findings.push(Finding::warning(
                format!(
                    "plait's user may {} every account in `{collection}`, administrators' too: Directus itself does \
                     not refuse it",
                    action.name()
                ),
                SETUP,
            ));
        }
        let (all, lacking): (Vec<&str>, Vec<&str>) =
            lacking.into_iter().partition(|field| *field == "*");
        if !all.is_empty() && lacking.is_empty() {
            findings.push(Finding::warning(
                format!(
                    "plait's user may not {} all fields of `{collection}`: an element that returns to a set would \
                     come without the other columns of its row",
                    action.name()
                ),
                SETUP,
            ));
        }
        if !lacking.is_empty() {
            is_complete = false;
            findings.push(Finding::error(
                format!(
                    "plait's user may not {} these fields of `{collection}`: {}",
                    action.name(),
                    lacking.join(", ")
                ),
                SETUP,
            ));
        }
    }
    if is_complete {
        findings.push(Finding::ok("plait's user may write what the mapping names"));
    }
    findings
}

/// Collections whose changes leave no author: then ours cannot be told from other people's.
async fn noted(client: &Client, mapping: &Mapping) -> Vec<Finding> {
    let Ok(silent) = silent(client).await else {
        return vec![Finding::warning(
            "Directus does not tell which collections note their changes",
            SETUP,
        )];
    };
    let mapped = setup::needed(mapping);
    let is_mapped = |name: &&String| mapped.iter().any(|needed| needed.collection == **name);
    let warn = |name: &str| {
        Finding::warning(
            format!(
                "the collection `{name}` does not note its changes in Directus, so that plait's own writes there \
                 cannot be told from other people's"
            ),
            "switch on \"Activity & Revision Tracking\" in the collection's settings",
        )
    };
    silent.iter().filter(is_mapped).map(|name| warn(name)).collect()
}

/// The collections that do not note their changes.
pub(super) async fn silent(client: &Client) -> Result<Vec<String>, Error> {
    let collections = client.ask(Method::GET, "/collections", &[], None).await?;
    let silent = collections.as_array().into_iter().flatten().filter_map(|one| {
        let meta = one.get("meta")?.as_object()?;
        let name = one["collection"].as_str()?;
        meta.get("accountability")?.is_null().then(|| name.to_owned())
    });
    Ok(silent.collect())
}
