//! What is said to a person whose write Directus does not take: field, place and remedy, never the value.

use crate::{
    mapping::{DirectusField, Entity, Field},
    model::{FieldNo, RecordId},
    push::{
        password::Missing,
        trouble::{Reach, Trouble},
    },
    remote::directus::{Action, Fault, USERS},
};

/// Code and reason.
pub(super) type Said = (&'static str, String);

fn collection(entity: &Entity) -> &str {
    entity.directus.as_ref().map_or("", |directus| directus.table.as_str())
}

fn name(field: &Field) -> &str {
    match &field.directus {
        Some(DirectusField::Column { column, .. }) => column,
        Some(DirectusField::Junction { table, .. }) => table,
        None => &field.name,
    }
}

/// Where a cell is, by Directus's names.
fn place(entity: &Entity, field: &str) -> String {
    format!("`{field}` of the collection `{}` in Directus", collection(entity))
}

/// What a fault of a field means. `column`: as Directus names it, mapped or not.
pub(super) fn refusal(entity: &Entity, column: &str, fault: &Fault) -> Said {
    let place = place(entity, column);
    let is_email = collection(entity) == USERS && column == "email";
    match (fault.code.as_str(), fault.rule.as_deref()) {
        ("RECORD_NOT_UNIQUE", _) if is_email => (
            "email_in_use",
            String::from(
                "another user of Directus has this e-mail address already: correct one of the two, or join the \
                 records if they are the same person",
            ),
        ),
        _ if collection(entity) == USERS && column == "password" => (
            "password_refused",
            format!(
                "Directus does not take the password in `{}` of the table `{}` in Airtable (its settings say what \
                 one has to be like): enter another one there",
                password(entity),
                airtable_table(entity)
            ),
        ),
        ("RECORD_NOT_UNIQUE", _) => (
            "not_unique",
            format!(
                "{place} has to be unique, and another record has this value already: correct one of the two"
            ),
        ),
        ("FAILED_VALIDATION", Some("required" | "nnull" | "submitted"))
        | ("NOT_NULL_VIOLATION" | "CONTAINS_NULL_VALUES", _) => (
            "required",
            format!("{place} must not be empty: fill it in, or make it optional in Directus"),
        ),
        ("FAILED_VALIDATION", Some("email")) => (
            "email_refused",
            format!(
                "{place} is not an e-mail address that Directus takes (it has to end in a public domain): correct it"
            ),
        ),
        ("FAILED_VALIDATION", Some("in")) => (
            "choice_missing",
            format!(
                "{place} has no such choice: add it in the field's settings there, or correct the value"
            ),
        ),
        ("FAILED_VALIDATION", rule) => (
            "validation_failed",
            format!(
                "{place} does not meet the rule set there{}: correct the value, or the rule in the field's settings",
                rule.map(|rule| format!(" (`{rule}`)")).unwrap_or_default()
            ),
        ),
        ("VALUE_TOO_LONG", _) => (
            "too_long",
            format!(
                "the value is too long for {place}: shorten it, or make the field longer there"
            ),
        ),
        ("VALUE_OUT_OF_RANGE", _) => (
            "out_of_range",
            format!(
                "the number is too large for {place}: correct it, or make the field's type there a larger one"
            ),
        ),
        (code, _) => (
            "value_refused",
            format!(
                "{place} does not take this value ({code}): correct it, or make the field's type or rules there such \
                 that it fits"
            ),
        ),
    }
}

/// A set whose rows are refused.
pub(super) fn set_refused(entity: &Entity, field: FieldNo, code: &str) -> Said {
    let field = entity.field(field);
    let reason = format!(
        "the collection `{}` in Directus, which holds `{}`, does not take one of the rows ({code}): look at its \
         fields and rules there",
        name(field),
        field.name
    );
    ("set_refused", reason)
}

pub(super) fn field_forbidden(entity: &Entity, column: &str, action: Action) -> Said {
    let reason = format!(
        "plait's user may not {} {}, or the field is not there any more: run `plait setup directus`, or correct the \
         mapping",
        action.name(),
        place(entity, column)
    );
    ("field_forbidden", reason)
}

pub(super) fn record_forbidden(entity: &Entity, action: Action) -> Said {
    let reason = format!(
        "plait's user may {} records of the collection `{}` in Directus, but not this one: take the rule out of \
         its permission there, or run `plait setup directus`",
        action.name(),
        collection(entity)
    );
    ("record_forbidden", reason)
}

/// `code`: Directus's own word.
pub(super) fn record_refused(entity: &Entity, code: &str) -> Said {
    let reason = format!(
        "the collection `{}` in Directus does not take the record, and does not say for which field ({code}): look \
         whether it can be saved there by hand",
        collection(entity)
    );
    ("record_refused", reason)
}

pub(super) fn still_linked(entity: &Entity) -> Said {
    let reason = format!(
        "the record cannot be deleted from the collection `{}` in Directus, most likely because other records there \
         still link to it: delete or change those first",
        collection(entity)
    );
    ("still_linked", reason)
}

pub(super) fn token_refused() -> Trouble {
    let text = "directus does not accept the token, so nothing is written there: look whether plait's user is \
                active, run `plait setup directus` for a new token, and start plait with it";
    Trouble { code: "token_refused", text: text.into(), reach: Reach::Side }
}

/// `problem`: what came instead of an answer.
pub(super) fn not_directus(problem: &str) -> Trouble {
    let text = format!(
        "what answers at `api_url` is not directus, so nothing is written there ({problem}): correct `api_url` in \
         [directus]"
    );
    Trouble { code: "not_directus", text, reach: Reach::Side }
}

pub(super) fn collection_forbidden(collection: &str, action: Action) -> Trouble {
    let text = format!(
        "plait's user may not {} records of the collection `{collection}` in directus, or it is not there any more: \
         run `plait setup directus`, or correct the mapping; writing goes on by itself then",
        action.name()
    );
    Trouble { code: "collection_forbidden", text, reach: Reach::Entity }
}

fn password(entity: &Entity) -> &str {
    entity.password.as_ref().map_or("", |password| password.airtable.as_str())
}

fn airtable_table(entity: &Entity) -> &str {
    entity.airtable.as_ref().map_or("", |airtable| airtable.table.as_str())
}

pub(super) fn no_password(entity: &Entity, missing: Missing) -> Said {
    let place =
        format!("`{}` of the table `{}` in Airtable", password(entity), airtable_table(entity));
    match missing {
        Missing::NoText => (
            "password_no_text",
            format!(
                "{place} holds no text, and passwords come from there: make it a single line of text"
            ),
        ),
        Missing::FieldGone | Missing::Unreachable => (
            "password_field_gone",
            format!(
                "{place}, where passwords of new users come from, is not there: restore it, or take `password` out \
                 of [entity.{}] in the mapping",
                entity.name
            ),
        ),
    }
}

pub(super) fn password_left(entity: &Entity, record: RecordId) -> Trouble {
    let text = format!(
        "the password of the new user {record} is in Directus, and could not be cleared in `{}` of the table `{}` in \
         airtable: clear it there by hand",
        password(entity),
        airtable_table(entity)
    );
    Trouble { code: "password_not_cleared", text, reach: Reach::Once }
}

pub(super) fn no_member(entity: &Entity) -> Said {
    let reason = format!(
        "the account is no member's: it has admin access, or may open the Studio, or is plait's own, and nothing is \
         written to such an account; `member_roles` in [entity.{}] names the roles of members",
        entity.name
    );
    ("no_member", reason)
}

pub(super) fn no_place(entity: &Entity) -> Said {
    ("no_collection", format!("[entity.{}] names no collection of Directus", entity.name))
}

/// A cell of the collection's key. `is_persons`: people give it, when the record is made.
pub(super) fn key_is_fixed(entity: &Entity, key: &str, is_persons: bool) -> Said {
    let reason = if is_persons {
        format!(
            "{} is the key of the record, which Directus never changes once the record is there: change it back, or \
             make a new record",
            place(entity, key)
        )
    } else {
        format!(
            "{} is the key of the record, which is given there and cannot be written: set `direction = \"from \
             directus\"` for this field in the mapping",
            place(entity, key)
        )
    };
    ("key_fixed", reason)
}

pub(super) fn key_empty(entity: &Entity, key: &str) -> Said {
    let reason = format!(
        "{} is the key of the record, and it is empty: fill it in, and the record is made in Directus",
        place(entity, key)
    );
    ("key_empty", reason)
}

pub(super) fn key_unmapped(entity: &Entity, key: &str) -> Said {
    let reason = format!(
        "{} is the key of the record, which people give there, and no field of the mapping writes it: map a field to \
         it, or make the record in Directus",
        place(entity, key)
    );
    ("key_unmapped", reason)
}

pub(super) fn key_unseen(entity: &Entity) -> Said {
    let reason = format!(
        "the collection `{}` in Directus gives its records their keys, and Plait cannot see in its log which record it \
         made: let it read `directus_activity` (`activity` in [directus], `plait check` has the statement)",
        collection(entity)
    );
    ("key_unseen", reason)
}

pub(super) fn key_unnoted(entity: &Entity) -> Said {
    let reason = format!(
        "the collection `{}` in Directus gives its records their keys and does not note its changes, so that Plait \
         could not tell which record it made: switch on \"Activity & Revision Tracking\" in the collection's settings",
        collection(entity)
    );
    ("key_unseen", reason)
}

pub(super) fn columns_forbidden(collection: &str) -> Trouble {
    let text = format!(
        "an element returned to a set, and plait's user may not write the other columns of `{collection}` in directus, \
         which its row held before: they are empty now; run `plait setup directus` so that the next ones are kept"
    );
    Trouble { code: "columns_forbidden", text, reach: Reach::Once }
}
