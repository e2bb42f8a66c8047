use super::read;
use crate::{
    mapping::{Direction, DirectusField, FieldKind, Mapping, Part, Personal, Policy, Store},
    model::Side,
};

/// Lines 1 to 17 of the documents below; the fields of `member` follow.
const HEAD: &str = "version = 1
[codes.status]
Actif = \"active\"
[entity.startup]
table = \"startup\"
airtable = { base = \"main\", table = \"Startups\" }
directus = { table = \"startup\" }
[entity.startup.field]
name = { type = \"text\", airtable = \"Nom\", directus = \"name\" }
[entity.local]
table = \"local\"
directus = { table = \"local\", schema = \"other\", key = \"code\" }
[entity.local.field]
name = { type = \"text\", directus = \"name\" }
[entity.member]
table = \"member\"
airtable = { base = \"main\", table = \"Membres\", uuid = \"UUID\" }
directus = { table = \"directus_users\" }
[entity.member.field]
";

/// What is said of a document whose `member` has these fields; the first of them is on line 20.
fn said(fields: &str) -> String {
    match read(&format!("{HEAD}{fields}"), "mapping.toml") {
        Ok(_) => String::from("well"),
        Err(problems) => problems.to_string(),
    }
}

fn shipped() -> Mapping {
    read(include_str!("../../../mapping.toml"), "mapping.toml").unwrap()
}

#[test]
fn mapping_document_of_the_project_is_well_and_keeps_its_order() {
    let mapping = shipped();
    let names: Vec<_> = mapping.entities.iter().map(|entity| entity.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "member",
            "startup",
            "project",
            "round",
            "investment",
            "cash_flow",
            "valuation",
            "legal_event"
        ]
    );
    let member = &mapping.entities[0];
    let fields: Vec<_> = member.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(fields[..5], ["first_name", "last_name", "email", "phone", "status_code"]);
    let first = &member.fields[0];
    assert_eq!(first.airtable.as_ref().unwrap().part, Part::FirstOfFullName);
    assert_eq!((first.policy, first.direction), (Policy::Ask, Direction::Both));
    let status = &member.fields[4];
    assert_eq!(status.airtable.as_ref().unwrap().codes.as_ref().unwrap()["Actif"], "active");
    let roles = &member.fields[5];
    assert_eq!(roles.policy, Policy::SetMerge);
    assert!(matches!(&roles.store, Store::Junction { element, .. } if element == "role_code"));
    assert!(matches!(&roles.directus, Some(DirectusField::Junction { key, .. }) if key == "id"));
    assert_eq!(member.fields.last().unwrap().policy, Policy::Prefer(Side::Airtable));
    let computed = mapping.entities[1].fields.last().unwrap();
    assert_eq!((&computed.kind, computed.policy), (&FieldKind::Computed, Policy::Computed));
}

#[test]
fn mapping_document_unknown_names_are_told_with_the_nearest_one() {
    assert_eq!(
        said(concat!(
            "email = { type = \"email\", airtable = \"E-mail\", polcy = \"ask\" }\n",
            "phone = { type = \"fone\", airtable = \"Tel\" }\n",
            "city = { type = \"text\", airtable = \"Ville\", policy = \"prefer airtabel\" }\n",
            "state = { type = \"select\", airtable = { field = \"Statut\", codes = \"statut\" } }\n",
            "firm = { type = \"link\", target = \"startups\", airtable = \"Startup\" }\n",
            "one = { type = \"text\", airtable = \"Un\", transform = [\"trimm\", \"date_dmy\"] }\n",
            "two = { type = \"date\", airtable = { field = \"Deux\", transform = \"date_mdy\" } }\n",
        )),
        "mapping.toml:20: field `email` of `member`: unknown key `polcy`; did you mean `policy`?\n\
         mapping.toml:21: field `phone` of `member`: unknown type `fone`; did you mean `phone`?\n\
         mapping.toml:22: field `city` of `member`: `policy` cannot be `prefer airtabel`; did you mean \
         `prefer airtable`?\n\
         mapping.toml:23: field `state` of `member` airtable: unknown code table `statut`; did you mean `status`?\n\
         mapping.toml:24: field `firm` of `member`: unknown target `startups`; did you mean `startup`?\n\
         mapping.toml:25: field `one` of `member`: unknown transform `trimm`; did you mean `trim`?\n\
         mapping.toml:25: field `one` of `member`: `date_dmy` belongs to a side: write `airtable = { field = \"…\", \
         transform = \"date_dmy\" }`\n\
         mapping.toml:26: field `two` of `member` airtable: `transform` cannot be `date_mdy`; did you mean \
         `date_dmy`?"
    );
}

#[test]
fn mapping_document_nothing_is_mapped_twice() {
    assert_eq!(
        said(concat!(
            "city = { type = \"text\", airtable = \"Ville\", directus = \"city\" }\n",
            "town = { type = \"text\", column = \"city\", airtable = \"Ville\", directus = \"city\" }\n",
            "id2 = { type = \"uuid\", airtable = \"UUID\" }\n",
        )),
        "mapping.toml:21: field `town` of `member`: the canonical column `city` is already used by field `city` of \
         `member` (line 20)\n\
         mapping.toml:21: field `town` of `member`: the Directus column `city` is already used by field `city` of \
         `member` (line 20)\n\
         mapping.toml:21: field `town` of `member`: the Airtable field `Ville` is already used by field `city` of \
         `member` (line 20)\n\
         mapping.toml:22: field `id2` of `member`: the Airtable field `UUID` is already used by `uuid` (line 15)"
    );
    let twice = concat!(
        "name = { type = \"text\", airtable = \"Nom\" }\n",
        "[entity.twin]\n",
        "table = \"startup\"\n",
        "airtable = { base = \"main\", table = \"Startups\" }\n",
        "directus = { table = \"startup\" }\n",
        "[entity.twin.field]\n",
        "name = { type = \"text\", airtable = \"Nom\" }\n",
    );
    assert_eq!(
        said(twice),
        "mapping.toml:21: entity `twin`: the canonical table `startup` is already used by entity `startup` (line 4)\n\
         mapping.toml:21: entity `twin`: the Airtable table `Startups` of base `main` is already used by entity \
         `startup` (line 4)\n\
         mapping.toml:21: entity `twin`: the table `public.startup` is already used by entity `startup` (line 4)"
    );
}

#[test]
fn mapping_document_halves_of_a_name_share_a_cell_and_come_in_pairs() {
    let half = |name: &str, half: &str, more: &str| {
        format!(
            "{name} = {{ type = \"text\", airtable = {{ field = \"Nom\", transform = \"{half}_of_full_name\" }}{more} }}\n"
        )
    };
    assert_eq!(said(&format!("{}{}", half("a", "first", ""), half("b", "last", ""))), "well");
    assert_eq!(
        said(&half("a", "first", "")),
        "mapping.toml:20: field `a` of `member`: only one half of the full name in `Nom` is mapped, so it could not \
         be written: map the other half too, or set `direction = \"from airtable\"`"
    );
    assert_eq!(said(&half("a", "last", ", direction = \"from airtable\"")), "well");
    assert!(said(&format!("{}{}", half("a", "first", ""), half("b", "first", ""))).contains(
        "mapping.toml:21: field `b` of `member`: the Airtable field `Nom` is already used"
    ));
}

#[test]
fn mapping_document_password_of_new_users_is_read_and_checked() {
    let document = |more: &str, fields: &str| {
        let head = HEAD.replace(
            "directus = { table = \"directus_users\" }\n",
            &format!("directus = {{ table = \"directus_users\" }}\n{more}\n"),
        );
        format!("{head}{fields}")
    };
    let email = "email = { type = \"email\", airtable = \"E-mail\", directus = \"email\" }\n";
    let line = "password = { airtable = \"Mot de passe\", clear = true }";
    let mapping = read(&document(line, email), "mapping.toml").unwrap();
    let password = mapping.entities[2].password.as_ref().unwrap();
    assert_eq!((password.airtable.as_str(), password.clear), ("Mot de passe", true));

    let said = |text: &str| read(text, "mapping.toml").unwrap_err().to_string();
    let unknown = said(&document("password = { airtable = \"X\", claer = true }", email));
    assert!(unknown.starts_with("mapping.toml:19: "), "{unknown}");
    assert!(unknown.contains("did you mean `clear`?"), "{unknown}");
    let missing = said(&document("password = { clear = true }", email));
    assert!(
        missing.contains("mapping.toml:19: ") && missing.contains("`airtable` is missing"),
        "{missing}"
    );
    let mirrored = said(&document("password = { airtable = \"E-mail\" }", email));
    assert!(mirrored.starts_with("mapping.toml:21: field `email` of `member`"), "{mirrored}");
    let elsewhere = document("", email).replace(
        "directus = { table = \"startup\" }\n",
        "directus = { table = \"startup\" }\npassword = { airtable = \"Code\" }\n",
    );
    let elsewhere = said(&elsewhere);
    assert!(
        elsewhere.starts_with("mapping.toml:8: ") && elsewhere.contains("directus_users"),
        "{elsewhere}"
    );
}

#[test]
fn mapping_document_secrets_and_passwords_are_never_mapped() {
    assert_eq!(
        said(concat!(
            "token = { type = \"text\", directus = \"token\" }\n",
            "auth = { type = \"json\", directus = { column = \"auth_data\" } }\n",
            "secret = { type = \"text\", airtable = \"Mot de passe\" }\n",
        )),
        "mapping.toml:20: field `token` of `member`: the column `token` is a secret and is never mirrored: take it \
         out\n\
         mapping.toml:21: field `auth` of `member` directus: the column `auth_data` is a secret and is never \
         mirrored: take it out\n\
         mapping.toml:22: field `secret` of `member`: `Mot de passe` looks like a password: passwords are never \
         mirrored, take this field out"
    );
}

#[test]
fn mapping_document_computed_fields_are_read_only() {
    assert_eq!(
        said(concat!(
            "a = { type = \"computed\", airtable = \"A\" }\n",
            "b = { type = \"computed\", airtable = \"B\", directus = \"b\", direction = \"from airtable\" }\n",
            "c = { type = \"computed\", airtable = \"C\", direction = \"from airtable\", policy = \"ask\" }\n",
        )),
        "mapping.toml:20: field `a` of `member`: a computed field cannot be written: set `direction = \"from \
         airtable\"`\n\
         mapping.toml:21: field `b` of `member`: a computed field is read from Airtable only: take `directus` out\n\
         mapping.toml:22: field `c` of `member`: a computed field has no policy: take `policy` out"
    );
}

#[test]
fn mapping_document_policies_directions_and_sides_fit_the_field() {
    assert_eq!(
        said(concat!(
            "a = { type = \"text\", airtable = \"A\", policy = \"set merge\" }\n",
            "b = { type = \"select\", airtable = \"B\", policy = \"max\" }\n",
            "c = { type = \"text\", airtable = \"C\", policy = \"owner directus\" }\n",
            "d = { type = \"text\", airtable = \"D\", direction = \"from directus\" }\n",
            "e = { type = \"text\" }\n",
            "f = { type = \"integer\", airtable = \"F\", policy = \"min\" }\n",
        )),
        "mapping.toml:20: field `a` of `member`: the policy `set merge` is for `multi_select` and `links`, not for \
         `text`\n\
         mapping.toml:21: field `b` of `member`: the policies `max` and `min` are for numbers and dates, not for \
         `select`\n\
         mapping.toml:22: field `c` of `member`: `policy` names directus, where the field is not\n\
         mapping.toml:23: field `d` of `member`: `direction` names directus, where the field is not\n\
         mapping.toml:24: field `e` of `member`: is on neither side: add `airtable` or `directus`"
    );
}

#[test]
fn mapping_document_options_belong_to_their_types() {
    assert_eq!(
        said(concat!(
            "a = { type = \"text\", airtable = \"A\", scale = 2 }\n",
            "b = { type = \"phone\", airtable = \"B\" }\n",
            "c = { type = \"phone\", region = \"France\", airtable = \"C\" }\n",
            "d = { type = \"datetime\", airtable = \"D\", precision = \"us\" }\n",
            "e = { type = \"text\", airtable = { field = \"E\", transform = \"date_dmy\" } }\n",
            "f = { type = \"text\", airtable = { field = \"F\", codes = \"status\" } }\n",
            "g = { type = \"email\", transform = [\"lower\"], airtable = \"G\" }\n",
            "h = { type = \"currency\", scale = -1, airtable = \"H\" }\n",
        )),
        "mapping.toml:20: field `a` of `member`: `scale` means nothing for the type `text`\n\
         mapping.toml:21: field `b` of `member`: `region` is missing\n\
         mapping.toml:22: field `c` of `member`: unknown region `France`: it is a country code of two capital \
         letters, such as `FR`\n\
         mapping.toml:23: field `d` of `member`: Airtable keeps milliseconds: `precision = \"us\"` would never \
         settle\n\
         mapping.toml:24: field `e` of `member`: the transform `date_dmy` is not for the type `text`\n\
         mapping.toml:25: field `f` of `member`: `codes` is for `select` and `multi_select`, not for `text`\n\
         mapping.toml:26: field `g` of `member`: `transform` means nothing for the type `email`\n\
         mapping.toml:27: field `h` of `member`: `scale` has to be a whole number from 0 to 100"
    );
}

#[test]
fn mapping_document_links_find_their_target_on_the_same_side() {
    let junction = "junction = { table = \"t\", parent = \"p\", element = \"e\" }";
    assert_eq!(
        said(&format!(
            "a = {{ type = \"links\", target = \"startup\", airtable = \"A\" }}\n\
             b = {{ type = \"link\", target = \"local\", airtable = \"B\" }}\n\
             c = {{ type = \"links\", target = \"startup\", {junction}, directus = \"c\" }}\n\
             d = {{ type = \"text\", {junction}, airtable = \"D\" }}\n\
             e = {{ type = \"link\", airtable = \"E\" }}\n"
        )),
        "mapping.toml:20: field `a` of `member`: the type `links` needs `junction = { table, parent, element }`, its \
         canonical table\n\
         mapping.toml:21: field `b` of `member`: links to `local`, which has no table on airtable\n\
         mapping.toml:22: field `c` of `member`: `links` need a junction in Directus: `directus = { junction, parent, \
         element }`\n\
         mapping.toml:23: field `d` of `member`: `junction` is for `links` and `multi_select` only\n\
         mapping.toml:23: field `d` of `member`: the canonical table `t` is already used by field `c` of `member` \
         (line 22)\n\
         mapping.toml:24: field `e` of `member`: `target` is missing"
    );
}

#[test]
fn mapping_document_canonical_names_are_plain() {
    let long = "x".repeat(64);
    let fields = format!(
        "Ville = {{ type = \"text\", airtable = \"A\" }}\n\
         id = {{ type = \"uuid\", airtable = \"B\" }}\n\
         {long} = {{ type = \"text\", airtable = \"C\" }}\n\
         ok = {{ type = \"text\", column = \"été\", airtable = \"D\" }}\n"
    );
    assert_eq!(
        said(&fields),
        "mapping.toml:20: field `Ville` of `member`: `Ville` cannot be the name of a canonical column: take small \
         letters without accents, digits and `_`\n\
         mapping.toml:21: field `id` of `member`: the canonical column `id` is kept by the mirror itself\n\
         mapping.toml:22: field `x` of `member`: the name of the canonical column is longer than 63 letters, which \
         is all Postgres keeps\n\
         mapping.toml:23: field `ok` of `member`: `été` cannot be the name of a canonical column: take small letters \
         without accents, digits and `_`"
            .replace("field `x`", &format!("field `{long}`"))
    );
}

#[test]
fn mapping_document_as_a_whole_is_checked() {
    let said = |text: &str| read(text, "m.toml").unwrap_err().to_string();
    assert_eq!(
        said(""),
        "m.toml:1: `version` is missing: write `version = 1`\n\
         m.toml:1: no entity is mapped: add a section `[entity.NAME]`"
    );
    assert_eq!(
        said("version = 2\n[entity.a]\ntabel = \"a\"\ndeletes = \"never\"\n"),
        "m.toml:1: version 2 is unknown: this program reads version 1\n\
         m.toml:2: entity `a`: `table` is missing\n\
         m.toml:2: entity `a`: neither `airtable` nor `directus` says where its records are\n\
         m.toml:2: entity `a`: has no fields: add `[entity.a.field]`\n\
         m.toml:3: entity `a`: unknown key `tabel`; did you mean `table`?\n\
         m.toml:4: entity `a`: `deletes` cannot be `never`; it is one of `hold`, `propagate`"
    );
    assert_eq!(
        said("version = 1\n[codes.c]\nA = \"x\"\nB = \"x\"\n[entity]\n"),
        "m.toml:1: no entity is mapped: add a section `[entity.NAME]`\n\
         m.toml:4: codes `c`: `B` and `A` have the same code `x`: it could not be turned back into a label"
    );
    assert!(said("version = 1\n\nname = \n[entity]\n").starts_with("m.toml:3: "));
}

#[test]
fn mapping_document_of_a_plain_postgres_needs_one_side_only() {
    let text = "version = 1\n[entity.a]\ntable = \"a\"\ndirectus = { table = \"A\", schema = \"s\", key = \"k\" }\n\
                [entity.a.field]\nat = { type = \"datetime\", directus = \"at\" }\n";
    let mapping = read(text, "m.toml").unwrap();
    assert_eq!(mapping.entities[0].fields[0].kind, FieldKind::DateTime { millis: false });
}

#[test]
fn mapping_document_natural_keys_are_checked_field_by_field() {
    let entity = |matches: &str, airtable: &str| {
        format!(
            "version = 1
[entity.member]
table = \"member\"
{airtable}
directus = {{ table = \"member\" }}
match = {matches}
[entity.member.field]
email = {{ type = \"email\", airtable = \"E-mail\", directus = \"email\" }}
last_name = {{ type = \"text\", airtable = \"Nom\", directus = \"last_name\" }}
city = {{ type = \"text\", directus = \"city\" }}
note = {{ type = \"long_text\", airtable = \"Note\", directus = \"note\" }}
"
        )
    };
    let both = "airtable = { base = \"main\", table = \"Membres\" }";
    let keys =
        |matches| read(&entity(matches, both), "mapping.toml").unwrap().entities[0].matches.clone();
    let strong = |keys: &[crate::mapping::NaturalKey]| -> Vec<(usize, bool)> {
        keys.iter().map(|key| (key.fields.len(), key.is_strong)).collect()
    };
    assert_eq!(strong(&keys("[\"email\", [\"last_name\", \"email\"]]")), [(1, true), (2, false)]);
    // A name alone does not tell two people apart.
    assert_eq!(strong(&keys("[\"last_name\"]")), [(1, false)]);
    for (matches, airtable, what) in [
        ("\"email\"", both, "`match` has to be a list"),
        ("[]", both, "`match` is empty"),
        ("[[]]", both, "`match` holds names of fields, and lists of them"),
        ("[3]", both, "`match` holds names of fields, and lists of them"),
        (
            "[\"emial\"]",
            both,
            "mapping.toml:6: entity `member`: `match` names `emial`, which is no field; did you mean `email`?",
        ),
        ("[\"note\"]", both, "`match` names `note`, which is of the type `long_text`"),
        ("[\"city\"]", both, "`match` names `city`, which is not on both sides"),
        ("[[\"email\", \"email\"]]", both, "a list in `match` names a field twice"),
        ("[\"email\", [\"email\"]]", both, "`match` has `email` twice"),
        ("[\"email\"]", "", "`match` is for records that both sides have"),
    ] {
        let problems = read(&entity(matches, airtable), "mapping.toml").unwrap_err().to_string();
        assert!(problems.contains(what), "{matches}: {problems}");
    }
}

#[test]
fn mapping_personal_fields_are_checked() {
    let erasable = shipped();
    let member = &erasable.entities[0];
    let personal: Vec<_> =
        member.fields.iter().filter(|field| field.personal.is_personal()).collect();
    assert_eq!(personal.len(), 9);
    assert_eq!(personal[1].personal, Personal::Pseudonym);
    assert!(member.fields[4].is_erasable() && member.fields[4].personal == Personal::Unsaid);
    assert!(erasable.entities[1..].iter().flat_map(|it| &it.fields).all(|it| !it.is_erasable()));
    let said = said(
        "a = { type = \"text\", directus = \"a\", personal = \"yes\" }
b = { type = \"email\", directus = \"b\", personal = \"pseudonym\" }
c = { type = \"text\", directus = \"c\", personal = \"pseudonym\", erased = \"x\" }
d = { type = \"date\", directus = \"d\", erased = \"soon\" }
e = { type = \"computed\", airtable = \"E\", direction = \"from airtable\", personal = true }
f = { type = \"boolean\", directus = \"f\", personal = false, erased = \"false\" }",
    );
    for (line, part) in [
        (20, "`personal` has to be true, false or \"pseudonym\""),
        (21, "the type `email` takes none"),
        (22, "`erased` and the pseudonym exclude each other"),
        (22, "another field carries the pseudonym"),
        (23, "`erased` cannot be `soon`"),
        (24, "a computed field cannot be emptied"),
    ] {
        let is_told =
            |it: &str| it.starts_with(&format!("mapping.toml:{line}:")) && it.contains(part);
        assert!(said.lines().any(is_told), "{line} {part}: {said}");
    }
    assert!(!said.contains("mapping.toml:25:"), "{said}");
}

#[test]
fn reader_rows_are_told_by_field_and_values_on_either_side() {
    let text = r#"
        version = 1
        [entity.member]
        table = "member"
        airtable = { base = "reseau", table = "Membres", uuid = "UUID" }
        directus = { table = "directus_users", member_roles = ["Membres"] }
        rows = { airtable = { Statut = ["Actif", ""] }, directus = { status = { not = ["archived"] }, level = [1, true] } }
        [entity.member.field]
        email = { type = "email", airtable = "E-mail", directus = "email" }
        name = { type = "text", airtable = "Nom", directus = "last_name" }
    "#;
    let mapping = read(text, "mapping.toml").unwrap();
    let rows = &mapping.entities[0].rows;
    assert_eq!(rows.member_roles, ["Membres"]);
    assert_eq!(rows.airtable.as_ref().unwrap().words(), "`Statut` is “Actif” or empty");
    assert_eq!(
        rows.directus.as_ref().unwrap().words(),
        "`status` is not “archived”, and `level` is 1 or true"
    );
    // Of an account, the address is Directus's unless the mapping says otherwise.
    let policy = |mapping: &Mapping, at: usize| mapping.entities[0].fields[at].policy;
    assert_eq!(policy(&mapping, 0), Policy::Owner(Side::Directus));
    assert_eq!(policy(&mapping, 1), Policy::Ask);
    let said = text.replace("directus = \"email\" }", "directus = \"email\", policy = \"ask\" }");
    assert_eq!(policy(&read(&said, "mapping.toml").unwrap(), 0), Policy::Ask);
}

#[test]
fn reader_rows_that_cannot_be_and_a_role_that_could_be_given_are_told() {
    let problems = read(
        r#"
        version = 1
        [entity.startup]
        table = "startup"
        directus = { table = "startup", member_roles = ["x"] }
        rows = { airtable = { Statut = ["Actif"] }, directus = { status = "published", token = [] } }
        [entity.startup.field]
        name = { type = "text", directus = "name" }
        [entity.member]
        table = "member"
        airtable = { base = "reseau", table = "Membres" }
        directus = { table = "directus_users" }
        rows = { directus = { token = ["x"] } }
        [entity.member.field]
        role = { type = "text", airtable = "Rôle", directus = "role" }
        "#,
        "mapping.toml",
    )
    .unwrap_err()
    .to_string();
    for said in [
        "mapping.toml:5: entity `startup` directus: `member_roles` is for the table `directus_users`",
        "`rows` filters the table on airtable, where the entity has none",
        "`status` has to be a list of values, or `{ not = [\"value\", …] }`",
        "`token` has to be a list of values",
        "the column `token` is a secret and is never mirrored",
        "the role of an account says what it may do in Directus, and is never written there",
    ] {
        assert!(problems.contains(said), "{said}\n{problems}");
    }
}
