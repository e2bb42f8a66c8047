//! Would the capture of a base work? Each finding with its remedy, for `plait check`.

use crate::{
    mapping::Mapping,
    model::{EntityNo, FieldNo, Finding},
    remote::airtable::{Client, Error as RemoteError},
};

use super::{
    BaseSettings, Identity,
    schema::{self, Plan, Problem, resolve},
};

/// Webhooks that a base can have.
const WEBHOOK_COUNT_MAX: usize = 10;
const TOKEN_PAGE: &str = "airtable.com/create/tokens";

/// Looks at everything that [`super::run`] needs, and changes nothing. `stored`: what a run has found before; what it
/// knows by its id is found by that, whatever it is called now.
pub(crate) async fn preflight(
    client: &Client,
    base: &BaseSettings,
    mapping: &Mapping,
    stored: Option<&Identity>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &base.name;
    match client.whoami().await {
        Ok(user) => {
            findings.push(Finding::ok(format!(
                "airtable accepts the token (user {}; what he writes over the API counts as plait's own work)",
                user.id
            )));
            missing_scopes(user.scopes.as_deref(), &mut findings);
        }
        Err(error) => {
            let is_token = matches!(error, RemoteError::Unauthorized { .. });
            findings.push(failed("airtable cannot be asked", &error, &token_remedy(is_token)));
            return findings;
        }
    }
    permission(client, base, &mut findings).await;
    let tables = match client.tables(&base.id).await {
        Ok(tables) => tables,
        Err(error) => {
            let remedy = format!(
                "check `id` in [airtable.base.{name}] of plait.toml, and give the token this base and the \
                 scope schema.bases:read at {TOKEN_PAGE}"
            );
            let what = format!("the schema of the base `{name}` ({}) cannot be read", base.id);
            findings.push(failed(&what, &error, &remedy));
            return findings;
        }
    };
    let resolution = resolve(mapping, name, &tables, stored.map(|stored| &stored.resolved));
    for Problem { what, remedy, is_fatal, .. } in &resolution.problems {
        // A run that knew it goes on without it.
        findings.push(if *is_fatal {
            Finding::error(what.clone(), remedy.clone())
        } else {
            Finding::warning(what.clone(), remedy.clone())
        });
    }
    for note in &resolution.notes {
        findings.push(Finding::ok(format!("{note}: a run follows it by its id")));
    }
    let plan = Plan::new(mapping, name, &resolution.resolved);
    if resolution.problems.is_empty() {
        let field_count: usize = plan.tables.iter().map(|table| table.fields.len()).sum();
        findings.push(Finding::ok(format!(
            "the base `{name}` has all {} tables and {field_count} fields of the mapping, with fitting types",
            plan.tables.len()
        )));
    }
    if let Some(table) = plan.tables.first() {
        match client.list_records(&base.id, &table.table, &[], None).await {
            Ok(_) => {
                findings.push(Finding::ok(format!("records of the base `{name}` can be read")));
            }
            Err(error) => findings.push(failed(
                &format!("records of the base `{name}` cannot be read"),
                &error,
                &format!("give the token the scope data.records:read at {TOKEN_PAGE}"),
            )),
        }
    }
    writing(client, base, mapping, &plan, &mut findings).await;
    webhooks(client, base, stored.map(|stored| stored.webhook.as_str()), &mut findings).await;
    if let Some(url) = &base.notification_url {
        ping_url(client, url, &mut findings).await;
    }
    findings
}

/// The mapped fields of a base that Airtable changes with each write, ours included; none if it does not tell.
pub(crate) async fn moving(
    client: &Client,
    base: &BaseSettings,
    mapping: &Mapping,
    stored: Option<&Identity>,
) -> Vec<(EntityNo, FieldNo)> {
    // What is wrong has been said.
    let Ok(tables) = client.tables(&base.id).await else { return Vec::new() };
    let stored = stored.map(|stored| &stored.resolved);
    let resolution = resolve(mapping, &base.name, &tables, stored);
    schema::moving(mapping, &base.name, &tables, &resolution.resolved)
}

fn failed(what: &str, error: &RemoteError, remedy: &str) -> Finding {
    match error {
        RemoteError::Unreachable { .. }
        | RemoteError::TimedOut { .. }
        | RemoteError::Server { .. }
        | RemoteError::Malformed { .. } => Finding::error(
            format!("{what}: {}", error.chain()),
            "check the network, the proxy and the address in the settings, or try again later",
        ),
        RemoteError::RateLimited { .. } | RemoteError::QuotaSpent { .. } => {
            Finding::error(format!("{what}: {error}"), "wait, or raise the plan of the workspace")
        }
        _ => Finding::error(format!("{what}: {error}"), remedy),
    }
}

fn token_remedy(is_token: bool) -> String {
    if is_token {
        format!("make a personal access token at {TOKEN_PAGE} and set it in the settings")
    } else {
        String::from("check the address in the settings")
    }
}

/// Only OAuth tokens tell their scopes; of the others, the calls below do.
fn missing_scopes(scopes: Option<&[String]>, findings: &mut Vec<Finding>) {
    let Some(scopes) = scopes else { return };
    for scope in ["data.records:read", "data.records:write", "schema.bases:read", "webhook:manage"]
    {
        if !scopes.iter().any(|it| it == scope) {
            findings.push(Finding::error(
                format!("the token lacks the scope {scope}"),
                "authorise the integration again with this scope",
            ));
        }
    }
}

async fn permission(client: &Client, base: &BaseSettings, findings: &mut Vec<Finding>) {
    // A failure shows in the next call with a better message.
    let Ok(bases) = client.bases().await else { return };
    let Some(found) = bases.iter().find(|it| it.id == base.id) else {
        let names: Vec<_> = bases.iter().map(|it| format!("{} ({})", it.name, it.id)).collect();
        findings.push(Finding::error(
            format!("the token was not given the base `{}` ({})", base.name, base.id),
            if names.is_empty() {
                format!("add the base to the token at {TOKEN_PAGE}")
            } else {
                format!("add it to the token at {TOKEN_PAGE}, or use one of: {}", names.join(", "))
            },
        ));
        return;
    };
    if found.permission_level == "create" {
        findings.push(Finding::ok(format!("the base `{}` is open to the token", base.name)));
    } else {
        findings.push(Finding::error(
            format!(
                "the token's user has only the permission `{}` in the base `{}`, which is not enough to \
                 make webhooks",
                found.permission_level, base.name
            ),
            "make the user a creator of the base",
        ));
    }
}

/// Of a personal token nothing tells the scopes: an update that can change nothing does. Whether single fields are
/// closed to the user, only writing them tells.
async fn writing(
    client: &Client,
    base: &BaseSettings,
    mapping: &Mapping,
    plan: &Plan,
    findings: &mut Vec<Finding>,
) {
    let written: Vec<_> = plan
        .tables
        .iter()
        .map(|table| (table, mapping.entity(table.entity)))
        .filter(|(_, entity)| entity.is_two_sided())
        .collect();
    for (_, entity) in written.iter().filter(|(table, _)| table.uuid.is_none()) {
        findings.push(Finding::warning(
            format!("records of `{}` cannot be made in Airtable: nothing there carries their id", entity.name),
            format!(
                "add a single line text field to the table, and name it in `airtable = {{ …, uuid = \"…\" }}` of \
                 [entity.{}]",
                entity.name
            ),
        ));
    }
    let Some((table, _)) = written.first() else { return };
    match client.try_writing(&base.id, &table.table).await {
        Ok(()) => findings.push(Finding::ok(format!(
            "the token may write records in the base `{}`",
            base.name
        ))),
        Err(error) => findings.push(failed(
            &format!("records of the base `{}` cannot be written", base.name),
            &error,
            &format!(
                "give the token the scope data.records:write at {TOKEN_PAGE}, and its user the permission to edit"
            ),
        )),
    }
}

async fn webhooks(
    client: &Client,
    base: &BaseSettings,
    stored_hook: Option<&str>,
    findings: &mut Vec<Finding>,
) {
    match client.webhooks(&base.id).await {
        Ok(hooks) if stored_hook.is_some_and(|id| hooks.iter().any(|hook| hook.id == id)) => {
            findings.push(Finding::ok(format!("the webhook of the base `{}` is there", base.name)));
        }
        Ok(hooks) if hooks.len() >= WEBHOOK_COUNT_MAX => {
            let ids: Vec<_> = hooks.iter().map(|hook| hook.id.as_str()).collect();
            findings.push(Finding::error(
                format!(
                    "all {WEBHOOK_COUNT_MAX} places for webhooks in the base `{}` are taken",
                    base.name
                ),
                format!("delete one that nobody uses: {}", ids.join(", ")),
            ));
        }
        Ok(hooks) => findings.push(Finding::ok(format!(
            "{} of {WEBHOOK_COUNT_MAX} places for webhooks are free in the base `{}`",
            WEBHOOK_COUNT_MAX - hooks.len(),
            base.name
        ))),
        Err(error) => findings.push(failed(
            &format!("webhooks of the base `{}` cannot be managed", base.name),
            &error,
            &format!("give the token the scope webhook:manage at {TOKEN_PAGE}"),
        )),
    }
}

async fn ping_url(client: &Client, url: &str, findings: &mut Vec<Finding>) {
    if !url.starts_with("https://") {
        findings.push(Finding::warning(
            format!("the notification URL {url} is not https"),
            "put a TLS proxy in front of the ping receiver",
        ));
    }
    match client.knock(url).await {
        Ok(status) if status == 401 || status == 404 || status < 300 => {
            findings.push(Finding::ok(format!("something answers at the notification URL {url}")));
        }
        Ok(status) => findings.push(Finding::warning(
            format!("the notification URL {url} answers with the status {status}"),
            "check that it leads to the ping receiver of plait",
        )),
        Err(error) => findings.push(Finding::warning(
            format!("nothing answers at the notification URL {url}: {error}"),
            "no harm while plait is stopped: polling finds everything, only later; otherwise check name, \
             firewall and proxy",
        )),
    }
}
