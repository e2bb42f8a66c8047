//! `plait person erase`: what it would do, and doing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Desk, column, entity, find, name_columns};
use crate::{
    cli::{
        desk::{Who, shown},
        readers, setup,
        terminal::{Paint, chain, say},
    },
    config::Settings,
    mapping::{Direction, DirectusField, Field, FieldKind},
    merge::is_written,
    model::{Decision, EntityNo, Side, Value, Wish},
    person::{
        self,
        identifier::{Identifier, identifiers, pattern},
        redact,
    },
    remote::directus::{Client, USERS},
    store::{
        self, logins,
        person::{self as books, ErasedCell, Erasure, Open},
        reading, record, vitals,
    },
};

/// How long a running plait has to bring both sides to it before the command ends.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Empties what identifies or reaches a person: in the canonical database, from there on both sides, and in all that
/// is kept of the past. The record stays under a pseudonym made of a random number, with its lines and movements.
/// Shows its plan first; does it with --yes. There is no way back. It may be run again at any time: what broke off
/// is finished, and what came back is erased.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// UUID, e-mail, "First Last", Airtable's rec…, or the key in Directus
    person: String,
    /// As the mapping calls it; the entity with personal fields unless this says otherwise
    #[arg(long, value_name = "NAME")]
    entity: Option<String>,
    /// Do it; without, say what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
    /// The file that holds a static token of an administrator of Directus, to archive the account with
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token_env")]
    admin_token_file: Option<PathBuf>,
    /// The environment variable that holds it
    #[arg(long, value_name = "VARIABLE")]
    admin_token_env: Option<String>,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  plait person erase 'Jeanne Martin'                  the plan; nothing is done
  plait person erase jeanne@lemonde.fr --as paul --yes
  plait person erase jeanne@lemonde.fr --as paul --yes --admin-token-file admin
                                                      archives the account in Directus too
  plait person list                                   whether both sides have taken it
Which fields are personal, the mapping says; docs/personal-data.md tells what is out of reach.";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, settings) = super::open(&arguments.config).await?;
    let no = entity(&desk, arguments.entity.as_deref())?;
    let record = find(&desk, no, &arguments.person).await?;
    let plan = plan(&desk, no, record).await?;
    let paint = Paint::for_stdout();
    for line in plan.words(&desk, paint).await? {
        if !say(&line)? {
            break;
        }
    }
    if !arguments.yes {
        say("nothing is done yet; --yes does it, and there is no way back")?;
        return Ok(ExitCode::SUCCESS);
    }
    let author = arguments.who.name()?;
    let admin = setup::given_token(
        arguments.admin_token_env.as_deref(),
        arguments.admin_token_file.as_deref(),
    )?;
    let erased = carry_out(&desk, &plan, &author, PATIENCE).await?;
    if let Some(outcome) = &erased.outcome {
        say(&format!("not done: {outcome}. Run it again: the plan shows how things are now"))?;
        return Ok(ExitCode::FAILURE);
    }
    say(&paint.green("erased here, in the past too"))?;
    for line in take_logins(&desk, &plan).await? {
        say(&line)?;
    }
    if plan.has_account {
        say(&account(&desk, &settings, &plan, admin.as_ref()).await?)?;
    }
    if erased.is_complete {
        say(&paint.green("both sides have taken it"))?;
    } else {
        for open in &erased.open {
            say(&missing(open))?;
        }
        say(
            "what the sides have not taken yet is written by a running plait (`plait run`), which redacts the rest then; `plait person list` says how far it is",
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the logins of the erased person away.
pub(in crate::cli) async fn take_logins(desk: &Desk, plan: &Plan) -> anyhow::Result<Vec<String>> {
    if plan.logins.is_empty() {
        return Ok(Vec::new());
    }
    let mut client = store::connect(desk.canonical()).await?;
    let mut lines = Vec::new();
    for name in &plan.logins {
        // One that cannot be taken away does not keep the others.
        lines.push(match logins::remove(&mut client, name).await {
            Ok(outcome) => readers::removed(name, &outcome),
            Err(error) => format!(
                "the login {name} is still there: {}; `plait setup reader {name} --remove --yes` tries again",
                chain(&error.into())
            ),
        });
    }
    Ok(lines)
}

// ---- the plan -----------------------------------------------------------------------------------------------

/// A cell of another record that names the person.
#[derive(Debug)]
struct Named {
    entity: EntityNo,
    record: Uuid,
    field: String,
    before: Json,
    after: Json,
}

/// What an erasure comes to, as things are now.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    no: EntityNo,
    number: i16,
    record: Uuid,
    label: String,
    pub(in crate::cli) pseudonym: String,
    earlier: Option<Erasure>,
    /// Field, before, after.
    changes: Vec<(String, Json, Json)>,
    named: Vec<Named>,
    /// In words: what has to be done elsewhere.
    pub(in crate::cli) left: Vec<String>,
    pub(in crate::cli) decisions: Vec<Decision>,
    cells: Vec<ErasedCell>,
    pattern: Option<String>,
    /// Table and how many of its rows lose values.
    past: Vec<(String, i64)>,
    /// Whether it is a user of Directus whose status the mapping does not have.
    has_account: bool,
    /// Logins that read as this person: they go with the erasure.
    pub(in crate::cli) logins: Vec<String>,
}

/// What the record's personal fields hold.
pub(in crate::cli) async fn held(
    desk: &Desk,
    no: EntityNo,
    record: Uuid,
) -> anyhow::Result<Vec<(String, Json)>> {
    let entity = desk.mapping.entity(no);
    let rows = record::records(&desk.pool, entity, desk.shape(no), &[record]).await?;
    let Some(row) = rows.get(&record) else { return Ok(Vec::new()) };
    let personal = person::personal(entity);
    Ok(personal.map(|(at, field)| (field.name.clone(), row.values[at].to_json())).collect())
}

/// Parts the identifiers that are this record's alone from those that others have too: a couple's telephone, a name
/// that two people share. Texts with these are not known to be about this one.
pub(in crate::cli) async fn of_one_only(
    desk: &Desk,
    no: EntityNo,
    record: Uuid,
    found: BTreeSet<Identifier>,
) -> anyhow::Result<(BTreeSet<Identifier>, Vec<Identifier>)> {
    let (entity, shape) = (desk.mapping.entity(no), desk.shape(no));
    let (mut only, mut shared) = (BTreeSet::new(), Vec::new());
    for identifier in found {
        let is_shared = match &identifier {
            Identifier::Text(text) | Identifier::Phone(text) => {
                let mut count = 0;
                for (_, field) in person::personal(entity) {
                    if let Some(column) = column(field) {
                        count += books::sharers(&desk.pool, shape, column, text, record).await?;
                    }
                }
                count > 0
            }
            Identifier::Name(..) | Identifier::WholeName(_) => {
                let name = identifier.to_string();
                let called =
                    books::called(&desk.pool, shape, &[], name_columns(entity), &name).await?;
                called.iter().any(|it| *it != record)
            }
        };
        if is_shared {
            shared.push(identifier);
        } else {
            only.insert(identifier);
        }
    }
    Ok((only, shared))
}

/// What an erasure makes of a field.
pub(super) async fn after(desk: &Desk, field: &Field, pseudonym: &str) -> anyhow::Result<Value> {
    let text = match (field.personal, &field.erased) {
        (person::Personal::Pseudonym, _) => pseudonym,
        (_, Some(erased)) => erased,
        _ => match field.kind {
            FieldKind::Links { .. } | FieldKind::MultiSelect | FieldKind::Csv => {
                return Ok(Value::Null);
            }
            _ => "",
        },
    };
    desk.typed(field, text).await
}

/// Why we must not write a field; `None`: we may.
fn closed(field: &Field) -> Option<Side> {
    let side =
        Side::ALL.into_iter().find(|side| field.is_on(*side) && !is_written(field, *side))?;
    Some(if let Direction::From(writer) = field.direction { writer } else { side })
}

/// Plans an erasure with all that canonical and the past say now; writes nothing.
pub(in crate::cli) async fn plan(desk: &Desk, no: EntityNo, record: Uuid) -> anyhow::Result<Plan> {
    let entity = desk.mapping.entity(no);
    let name = entity.name.clone();
    let fields: Vec<String> =
        person::personal(entity).map(|(_, field)| field.name.clone()).collect();
    if fields.is_empty() {
        bail!(
            "the mapping calls no field of {name} personal: add `personal = true` to those that identify or reach a person (docs/mapping.md)"
        );
    }
    let number = reading::entity_number(&desk.pool, &name)
        .await?
        .with_context(|| format!("nothing of {name} was ever mirrored: start `plait run` first"))?;
    let label = desk.labels([(name.clone(), record)]).await?.of(&name, record);
    let doomed = books::doomed(&desk.pool, number, record).await?;
    if !doomed.is_empty() {
        bail!(
            "{label} was deleted on one side and waits for a yes on {}: say it by `plait approve deletes`, or bring the record back by `plait undo record {name} {record} --since …`; then erase it",
            doomed.join(" and ")
        );
    }
    let earlier = books::erasure_of(&desk.pool, &name, record).await?;
    let pseudonym = match &earlier {
        Some(earlier) => earlier.pseudonym.clone(),
        None => loop {
            let pseudonym = person::pseudonym();
            if !books::is_taken(&desk.pool, &pseudonym).await? {
                break pseudonym;
            }
        },
    };
    let mut values = books::values_ever(&desk.pool, number, record, &fields).await?;
    values.extend(held(desk, no, record).await?);
    values.retain(|(_, value)| value.as_str() != Some(&pseudonym));
    let (found, shared) = of_one_only(desk, no, record, identifiers(entity, &values)).await?;
    let unread = books::unread(&desk.pool, number, record, &fields).await?;
    let cells = fields
        .into_iter()
        .map(|field| ErasedCell { entity_no: number, record_id: record, field })
        .collect();
    let status = |field: &Field| matches!(&field.directus, Some(DirectusField::Column { column, .. }) if column == "status");
    let has_account = entity.directus.as_ref().is_some_and(|it| it.table == USERS)
        && !entity.fields.iter().any(status);
    let mut plan = Plan {
        no,
        number,
        record,
        label,
        pseudonym,
        earlier,
        changes: Vec::new(),
        named: Vec::new(),
        left: Vec::new(),
        decisions: Vec::new(),
        cells,
        pattern: pattern(&found),
        past: Vec::new(),
        has_account,
        logins: books::logins(&desk.pool, record).await?,
    };
    if let (Some(password), Some(table)) = (&entity.password, &entity.airtable) {
        plan.left.push(format!(
            "the cell `{}` of the table `{}` in Airtable, if it still holds a password: empty it",
            password.airtable, table.table
        ));
    }
    for (side, field) in unread {
        plan.left.push(format!(
            "{side} holds something in `{field}` that cannot be read (`plait errors`): empty it there"
        ));
    }
    for identifier in shared {
        plan.left.push(format!(
            "{identifier} is another {name}'s too: texts with it are left as they are"
        ));
    }
    plan.own_cells(desk).await?;
    plan.cells_of_others(desk).await?;
    plan.past = plan.count_past(desk).await?;
    Ok(plan)
}

impl Plan {
    async fn own_cells(&mut self, desk: &Desk) -> anyhow::Result<()> {
        let entity = desk.mapping.entity(self.no);
        let name = &entity.name;
        let rows = record::records(&desk.pool, entity, desk.shape(self.no), &[self.record]).await?;
        let Some(row) = rows.get(&self.record) else { return Ok(()) };
        let mut cells = BTreeMap::new();
        for (at, field) in person::erasable(entity) {
            let before = row.values[at].to_json();
            let after = after(desk, field, &self.pseudonym).await?.to_json();
            if let Some(side) = closed(field).filter(|_| before != after) {
                self.left.push(format!(
                    "{} · {}: it is written on {side} alone: empty it there",
                    self.label, field.name
                ));
                continue;
            }
            cells.insert(
                field.name.clone(),
                Wish { expected: before.clone(), value: after.clone() },
            );
            self.changes.push((field.name.clone(), before, after));
        }
        let (entity, record) = (name.clone(), self.record);
        let set = Decision::Set { entity: entity.clone(), record, cells, settles: Vec::new() };
        if !row.is_deleted {
            self.decisions.push(set);
        } else if self.changes.iter().any(|(_, before, after)| before != after) {
            // A deleted record holds what it held: for one transaction it is there again.
            let restore =
                Decision::Restore { entity: entity.clone(), record, cells: BTreeMap::new() };
            self.decisions.extend([restore, set, Decision::Delete { entity, record }]);
        }
        Ok(())
    }

    async fn cells_of_others(&mut self, desk: &Desk) -> anyhow::Result<()> {
        let Some(pattern) = self.pattern.clone() else { return Ok(()) };
        let mut decided: BTreeMap<(u16, Uuid), BTreeMap<String, Wish>> = BTreeMap::new();
        for (at, entity) in (0_u16..).zip(&desk.mapping.entities) {
            let no = EntityNo(at);
            let shape = desk.shape(no);
            let found =
                books::mentions(&desk.pool, entity, shape, &pattern, &self.pseudonym).await?;
            for mention in found {
                let field = entity.field(crate::model::FieldNo(u16::try_from(mention.field)?));
                if no == self.no && mention.record == self.record && field.is_erasable() {
                    continue;
                }
                let place = format!("{} {} · {}", entity.name, mention.record, field.name);
                let after = match field.kind {
                    FieldKind::Text | FieldKind::LongText => Json::String(mention.replaced),
                    FieldKind::Email
                    | FieldKind::Phone { .. }
                    | FieldKind::Url
                    | FieldKind::Collaborator => Json::Null,
                    _ => {
                        self.left
                            .push(format!("{place} names the person: change it at its source"));
                        continue;
                    }
                };
                if let Some(side) = closed(field) {
                    self.left.push(format!(
                        "{place} names the person, and is written on {side} alone: change it there"
                    ));
                    continue;
                }
                if mention.is_deleted {
                    self.left.push(format!(
                        "{place} names the person, and the record is deleted: bring it back, or see to it by hand"
                    ));
                    continue;
                }
                let before = Json::String(mention.text);
                decided.entry((at, mention.record)).or_default().insert(
                    field.name.clone(),
                    Wish { expected: before.clone(), value: after.clone() },
                );
                let number = reading::entity_number(&desk.pool, &entity.name).await?;
                self.cells.extend(number.map(|entity_no| ErasedCell {
                    entity_no,
                    record_id: mention.record,
                    field: field.name.clone(),
                }));
                let (record, field) = (mention.record, field.name.clone());
                self.named.push(Named { entity: no, record, field, before, after });
            }
        }
        for ((at, record), cells) in decided {
            let entity = desk.mapping.entity(EntityNo(at)).name.clone();
            self.decisions.push(Decision::Set { entity, record, cells, settles: Vec::new() });
        }
        for (side, entity, record, field) in
            books::shadows_naming(&desk.pool, &pattern, self.record).await?
        {
            let is_planned =
                self.named.iter().any(|named| named.record == record && named.field == field);
            if !is_planned {
                self.left.push(format!(
                    "{entity} {record} · {field}: {side} still holds a value that names the person; see `plait conflicts` and `plait errors`"
                ));
            }
        }
        Ok(())
    }

    /// How many rows of the past lose values, by table.
    async fn count_past(&self, desk: &Desk) -> anyhow::Result<Vec<(String, i64)>> {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        let erasure = self.erasure(desk);
        for (table, count) in redact::count(&desk.pool, &erasure, self.cells.clone()).await? {
            *counts.entry(table.into()).or_default() += count;
        }
        if let Some(pattern) = &self.pattern {
            for column in books::text_columns(&desk.pool).await? {
                let count = books::naming(&desk.pool, &column, pattern).await?;
                let known = counts.entry(column.table).or_default();
                // The same rows, mostly.
                *known = count.max(*known);
            }
        }
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// The erasure as it will be, for who looks ahead.
    fn erasure(&self, desk: &Desk) -> Erasure {
        Erasure {
            erasure_id: 0,
            entity: desk.mapping.entity(self.no).name.clone(),
            entity_no: self.number,
            record_id: self.record,
            pseudonym: self.pseudonym.clone(),
            asked_by: String::new(),
            asked_at: chrono::Utc::now(),
            emptied_at: None,
            redacted_at: None,
            completed_at: None,
        }
    }

    pub(in crate::cli) async fn words(
        &self,
        desk: &Desk,
        paint: Paint,
    ) -> anyhow::Result<Vec<String>> {
        let entity = desk.mapping.entity(self.no);
        let mut lines = vec![format!(
            "{} ({}) stays as {}",
            paint.bold(&self.label),
            self.record,
            paint.bold(&self.pseudonym)
        )];
        if let Some(earlier) = &self.earlier {
            lines.push(format!(
                "  was erased by {} on {} already: what is left or came back since is erased now",
                earlier.asked_by,
                super::local(earlier.asked_at)
            ));
        }
        let changed = self.changes.iter().filter(|(_, before, after)| before != after);
        let mut is_changed = false;
        for (field, before, after) in changed {
            is_changed = true;
            lines.push(format!(
                "  {field}: {} → {}",
                paint.dim(&shown(Some(before))),
                paint.bold(&shown(Some(after)))
            ));
        }
        let sides: Vec<&str> =
            Side::ALL.into_iter().filter(|side| entity.is_on(*side)).map(Side::name).collect();
        if is_changed {
            lines.push(format!("  the same on {}, as any change is", sides.join(" and ")));
        } else {
            lines.push("  its record holds nothing personal".into());
        }
        let places =
            self.named.iter().map(|it| (desk.mapping.entity(it.entity).name.clone(), it.record));
        let labels = desk.labels(places).await?;
        for named in &self.named {
            lines.push(format!(
                "{} · {} names the person: {} → {}",
                labels.of(&desk.mapping.entity(named.entity).name, named.record),
                named.field,
                paint.dim(&shown(Some(&named.before))),
                paint.bold(&shown(Some(&named.after)))
            ));
        }
        for (table, count) in &self.past {
            let rows = if *count == 1 { "row loses" } else { "rows lose" };
            lines.push(format!(
                "the past: {count} {rows} values in mirror.{table}; entry, time and side stay"
            ));
        }
        lines.push(
            "stays: the record's id, its links, lines and movements, to the cent, under the pseudonym"
                .into(),
        );
        for login in &self.logins {
            lines.push(format!("the login {login}, which reads as this person: taken away"));
        }
        for left in &self.left {
            lines.push(format!("{} {left}", paint.yellow("left to you:")));
        }
        if self.has_account {
            lines.push(format!(
                "the account in Directus: archived, if the token may do it (--admin-token-file gives one that may); else do it in the Studio: user {}, status Archived",
                self.record
            ));
        }
        lines.push(format!(
            "out of reach: backups, files and exports, fields that the mapping does not have, Airtable's own revision history and snapshots{}",
            if entity.is_on(Side::Directus) { ", and what Directus keeps itself; an administrator empties that by" } else { "" }
        ));
        let named = self.named.iter().map(|named| (named.entity.0, named.record));
        for (at, id) in [(self.no.0, self.record)].into_iter().chain(named).collect::<BTreeSet<_>>()
        {
            let entity = desk.mapping.entity(EntityNo(at));
            let Some(table) = &entity.directus else { continue };
            let collection = table.table.replace('\'', "''");
            let key = record::side_key(&desk.pool, Side::Directus, &entity.name, id).await?;
            let key = key.unwrap_or_else(|| id.to_string()).replace('\'', "''");
            lines.push(format!(
                "  delete from directus_revisions where collection = '{collection}' and item = '{key}';"
            ));
            if collection == USERS && id == self.record {
                lines.push(format!(
                    "  update directus_activity set ip = null, user_agent = null where \"user\" = '{key}';"
                ));
                lines.push(format!("  delete from directus_sessions where \"user\" = '{key}';"));
            }
        }
        Ok(lines)
    }
}

/// What a side has not taken yet, in words.
pub(super) fn missing(open: &Open) -> String {
    let Open { side, what, entity, record_id, field, reason } = open;
    let place = match field {
        Some(field) => format!("{entity} {record_id} · {field}"),
        None => format!("{entity} {record_id}"),
    };
    match what.as_str() {
        "under way" => format!("{side}: a write of {place} is under way"),
        "parked" => format!(
            "{side} did not take {place}: {}",
            reason.as_deref().unwrap_or("see `plait errors`")
        ),
        "refused" => {
            format!("{side} holds something in {place} that cannot be read: empty it there by hand")
        }
        _ => format!("{side} still holds {place}: it is owed the erasure"),
    }
}

// ---- doing it -----------------------------------------------------------------------------------------------

/// What became of an erasure.
#[derive(Debug)]
pub(in crate::cli) struct Erased {
    /// In words, why it was not done.
    pub(in crate::cli) outcome: Option<String>,
    pub(in crate::cli) is_complete: bool,
    pub(in crate::cli) open: Vec<Open>,
}

/// Empties canonical, redacts the past, and waits for `patience` until both sides have taken it, where a plait runs.
pub(in crate::cli) async fn carry_out(
    desk: &Desk,
    plan: &Plan,
    author: &str,
    patience: Duration,
) -> anyhow::Result<Erased> {
    let pool = &desk.pool;
    let begun = match &plan.earlier {
        Some(earlier) if earlier.completed_at.is_none() => earlier.erasure_id,
        _ => books::begin(pool, (plan.number, plan.record), &plan.pseudonym, author).await?,
    };
    books::add_cells(pool, begun, &plan.cells).await?;
    if !plan.decisions.is_empty() {
        let done = desk.decide(author, &plan.decisions).await?;
        if done.outcome.is_some() {
            return Ok(Erased { outcome: done.outcome, is_complete: false, open: Vec::new() });
        }
    }
    books::note(pool, begun, books::Reached::Emptied).await?;
    let entity = &desk.mapping.entity(plan.no).name;
    let erasure = books::erasure_of(pool, entity, plan.record).await?;
    let erasure = erasure.context("the erasure is not noted any more: run it again")?;
    let transitions: Vec<&str> = desk
        .mapping
        .entities
        .iter()
        .flat_map(|entity| &entity.fields)
        .filter_map(|field| field.transitions.as_deref())
        .collect();
    redact::past(pool, &erasure, plan.pattern.as_deref(), &transitions).await?;
    let erasure = books::erasure_of(pool, entity, plan.record).await?.unwrap_or(erasure);
    let until = Instant::now() + patience;
    loop {
        let is_complete = redact::finish(pool, &erasure).await?;
        let is_over = is_complete || Instant::now() >= until;
        if is_over || !vitals::is_running(pool).await? {
            let open = books::open(pool, erasure.erasure_id).await?;
            return Ok(Erased { outcome: None, is_complete, open });
        }
        sleep(PAUSE).await;
    }
}

/// Archives the user in Directus, so that nobody logs in as it: what came of it, in words.
async fn account(
    desk: &Desk,
    settings: &Settings,
    plan: &Plan,
    admin: Option<&crate::config::Secret>,
) -> anyhow::Result<String> {
    let entity = &desk.mapping.entity(plan.no).name;
    let key = record::side_key(&desk.pool, Side::Directus, entity, plan.record).await?;
    let key = key.unwrap_or_else(|| plan.record.to_string());
    let by_hand = format!(
        "the account in Directus is not archived: set the status of the user {key} to Archived in the Studio, or run this again with --admin-token-file"
    );
    let Some(api) = settings.directus.as_ref().and_then(|it| it.api.as_ref()) else {
        return Ok(by_hand);
    };
    let Some(token) = admin.or(api.token.as_ref()) else { return Ok(by_hand) };
    let client = Client::new(&api.url, token.reveal()).context("could not use the token")?;
    let path = format!("/users/{key}");
    let body = json!({ "status": "archived" });
    Ok(match client.ask(Method::PATCH, &path, &[], Some(&body)).await {
        Ok(_) => "the account in Directus is archived: nobody logs in as it".into(),
        Err(error) => format!("{by_hand} ({})", error.chain()),
    })
}
