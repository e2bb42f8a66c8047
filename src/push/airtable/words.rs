//! What is said to a person whose write Airtable does not take: field, place and remedy, never the value.

use super::{
    blame::Why,
    item::{Sent, Stage},
};
use crate::{
    mapping::Entity,
    model::FieldNo,
    push::trouble::{Reach, Trouble},
};

const TOKEN_PAGE: &str = "airtable.com/create/tokens";

fn table(entity: &Entity) -> &str {
    entity.airtable.as_ref().map_or("", |airtable| airtable.table.as_str())
}

/// `` `Secteur` of the table `Startups` in Airtable ``, by the mapping's names.
fn place(entity: &Entity, field: FieldNo) -> String {
    let field = entity.field(field);
    let name = field.airtable.as_ref().map_or(field.name.as_str(), |it| it.field.as_str());
    format!("`{name}` of the table `{}` in Airtable", table(entity))
}

/// Code and reason.
pub(super) fn refusal(
    entity: &Entity,
    cell: &Sent,
    why: Why,
    stage: Stage,
) -> (&'static str, String) {
    let place = place(entity, cell.field);
    match why {
        Why::MissingOption if stage == Stage::Options => (
            "option_forbidden",
            format!(
                "the token's user may not add options to {place}: add this one there, or make the user a creator \
                 of the base"
            ),
        ),
        Why::MissingOption if cell.has_comma_in_list() => (
            "option_missing",
            format!(
                "{place} has no such option, and Airtable would take one with a comma apart: add it there by hand"
            ),
        ),
        Why::MissingOption => (
            "option_missing",
            format!(
                "{place} has no such option: add it there, or set `new_options = true` for the field in the mapping"
            ),
        ),
        Why::Value => (
            "value_refused",
            format!(
                "{place} does not take this value: correct it, or make the field's type in Airtable one that takes it"
            ),
        ),
        Why::Computed => (
            "field_computed",
            format!(
                "{place} is computed and cannot be written: set `direction = \"from airtable\"` or \
                 `type = \"computed\"` for the field in the mapping"
            ),
        ),
        Why::FieldGone => field_gone(entity, cell.field),
        Why::Locked => (
            "field_locked",
            format!(
                "the token's user may not edit {place}: give the user the right in the field's permissions, or set \
                 `direction = \"from airtable\"` for the field in the mapping"
            ),
        ),
        Why::LinkGone => (
            "link_gone",
            format!(
                "{place} would link to a record that was deleted there: restore it, or link to another one"
            ),
        ),
        Why::LinkElsewhere => (
            "link_elsewhere",
            format!(
                "{place} links to another table than the one the record is in: correct `target` in the mapping, or \
                 the field in Airtable"
            ),
        ),
    }
}

pub(super) fn field_gone(entity: &Entity, field: FieldNo) -> (&'static str, String) {
    let place = place(entity, field);
    let reason = format!(
        "{place} is not there any more, or is of a type that does not fit: restore it there, or take it out of the \
         mapping"
    );
    ("field_gone", reason)
}

pub(super) fn option_waits(entity: &Entity, field: FieldNo) -> (&'static str, String) {
    let place = place(entity, field);
    let reason = format!(
        "{place} has an option that was given this name, while the values of its old name have not followed: see \
         `plait renames`"
    );
    ("option_waits", reason)
}

pub(super) fn no_id_field(entity: &Entity) -> (&'static str, String) {
    let (name, table) = (&entity.name, table(entity));
    let reason = format!(
        "records are made in Airtable only where they carry their id, so that none is made twice: add a single line \
         text field to the table `{table}` and name it in `airtable = {{ …, uuid = \"…\" }}` of [entity.{name}]"
    );
    ("no_id_field", reason)
}

pub(super) fn same_id(entity: &Entity, keys: &[&str]) -> (&'static str, String) {
    let field = entity.airtable.as_ref().and_then(|it| it.uuid.as_deref()).unwrap_or("UUID");
    let reason = format!(
        "several records of the table `{}` in Airtable carry this record's id ({}): delete the copies, or empty \
         their field `{field}`",
        table(entity),
        keys.join(", ")
    );
    ("id_twice", reason)
}

/// `kind`: Airtable's own word.
pub(super) fn record_refused(entity: &Entity, kind: &str) -> (&'static str, String) {
    let reason = format!(
        "the table `{}` in Airtable does not take the record, and does not say for which field ({kind}): look \
         whether it can be edited there by hand",
        table(entity)
    );
    ("record_refused", reason)
}

pub(super) fn token_refused() -> Trouble {
    let text = format!(
        "airtable does not accept the token any more, so nothing is written there: make a new one at {TOKEN_PAGE} \
         and start plait with it"
    );
    Trouble { code: "token_refused", text, reach: Reach::Side }
}

pub(super) fn quota_spent() -> Trouble {
    let text = "airtable says that the API calls of this month are used up, so nothing is written there: raise the \
                plan of the workspace, or wait for the first of next month";
    Trouble { code: "quota_spent", text: text.into(), reach: Reach::Side }
}

pub(super) fn budget_spent(used: u64, limit: u64) -> Trouble {
    let text = format!(
        "{used} of {limit} API calls of this month are used: the rest is kept for reading, and nothing is written to \
         airtable before the first of next month; if the plan allows more, raise `monthly_call_count_max` in \
         [airtable]"
    );
    Trouble { code: "budget_spent", text, reach: Reach::Side }
}

pub(super) fn table_forbidden(entity: &Entity, kind: Option<&str>) -> Trouble {
    let text = format!(
        "airtable does not let the token write to the table `{}` ({}): look whether the table is there, whether \
         its user may create, edit and delete records in it, and whether the token has the scope \
         data.records:write and the base at {TOKEN_PAGE}; writing goes on by itself then",
        table(entity),
        kind.unwrap_or("no reason given")
    );
    Trouble { code: "table_forbidden", text, reach: Reach::Entity }
}

pub(super) fn table_synced(entity: &Entity) -> Trouble {
    let text = format!(
        "the table `{}` is synced from another base, so its records cannot be written: write to the table it comes \
         from, or set `direction = \"from airtable\"` for its fields in the mapping",
        table(entity)
    );
    Trouble { code: "table_synced", text, reach: Reach::Entity }
}

fn id_field(entity: &Entity) -> &str {
    entity.airtable.as_ref().and_then(|it| it.uuid.as_deref()).unwrap_or("UUID")
}

pub(super) fn id_field_gone(entity: &Entity) -> Trouble {
    let text = format!(
        "the field `{}` of the table `{}`, which carries the records' ids, is not there any more, so no record is \
         made there: restore it in Airtable, or name another one as `uuid` in the mapping",
        id_field(entity),
        table(entity)
    );
    Trouble { code: "id_field_gone", text, reach: Reach::Entity }
}

pub(super) fn id_field_locked(entity: &Entity) -> Trouble {
    let text = format!(
        "the token's user may not edit the field `{}` of the table `{}`, which carries the records' ids, so no \
         record is made there: give the user the right in the field's permissions",
        id_field(entity),
        table(entity)
    );
    Trouble { code: "id_field_locked", text, reach: Reach::Entity }
}
