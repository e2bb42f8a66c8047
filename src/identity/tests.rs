use proptest::prelude::*;
use uuid::Uuid;

use super::{Band, Index, Keys, Newcomer, judge, natural_keys, normal::normal};
use crate::{
    mapping::{self, Entity, Mapping},
    model::{RecordId, SideKey, Value},
};

fn shipped() -> Mapping {
    mapping::read(include_str!("../../mapping.toml"), "mapping.toml").unwrap()
}

fn entity<'a>(mapping: &'a Mapping, name: &str) -> &'a Entity {
    mapping.entities.iter().find(|entity| entity.name == name).unwrap()
}

fn id(no: u8) -> RecordId {
    RecordId(Uuid::from_u128(u128::from(no) + 1))
}

fn newcomer(key: &str, keys: &[&str]) -> Newcomer {
    Newcomer { key: SideKey::from(key), keys: these(keys), carries_other_id: false }
}

fn these(keys: &[&str]) -> Keys {
    keys.iter().map(|key| (!key.is_empty()).then(|| Box::from(*key))).collect()
}

fn index(records: &[(u8, &[&str])]) -> Index {
    let mut index = Index::new(3);
    for (no, keys) in records {
        index.put(id(*no), these(keys), None);
    }
    index
}

/// `sure 1 email`, `ask 1 2: why`, `different`
fn words(entity: &Entity, band: &Band) -> String {
    let no = |record: &RecordId| (record.0.as_u128() - 1).to_string();
    match band {
        Band::Sure { record, by } => {
            format!("sure {} {}", no(record), entity.name_of(&entity.matches[*by]))
        }
        Band::Ask { candidates, reason } => {
            let candidates: Vec<String> = candidates.iter().map(no).collect();
            format!("ask {}: {reason}", candidates.join(" "))
        }
        Band::Different => "different".into(),
    }
}

#[test]
fn identity_what_people_write_differently_and_mean_alike_is_one_key() {
    let mapping = shipped();
    let of = |name: &str, field: &str, text: &str| {
        let entity = entity(&mapping, name);
        let field = entity.fields.iter().find(|known| known.name == field).unwrap();
        normal(field, &Value::Text(text.into())).unwrap_or_default()
    };
    for (name, field, text, key) in [
        ("member", "email", " Jeanne.Martin@Exemple.FR ", "jeanne.martin@exemple.fr"),
        ("member", "first_name", "Jean-Éric", "jean eric"),
        ("member", "first_name", "JEAN ERIC", "jean eric"),
        ("member", "last_name", "de la Tour", "tour"),
        ("member", "last_name", "LE", "le"),
        ("member", "last_name", "d'Œuvre", "oeuvre"),
        ("member", "city", "Saint–Brieuc", "saint brieuc"),
        ("member", "phone", "+33612345678", "+33612345678"),
        ("startup", "siren", "552100554", "552100554"),
        ("startup", "name", "S.A.S. Élan Vert", "elan vert"),
        ("startup", "name", "Elan-Vert SARL", "elan vert"),
        ("startup", "name", "SAS", "sas"),
        ("startup", "name", "—", ""),
        ("investment", "reference", "INV-0007", "inv 0007"),
    ] {
        assert_eq!(of(name, field, text), key, "{field} of {name}: {text}");
    }
}

#[test]
fn identity_key_with_an_empty_part_is_none() {
    let mapping = shipped();
    let member = entity(&mapping, "member");
    let mut values = vec![Value::Null; member.fields.len()];
    assert_eq!(natural_keys(member, &values), [None, None, None]);
    values[0] = Value::Text("Jeanne".into());
    values[1] = Value::Text("MARTIN".into());
    values[7] = Value::Text("Quimper".into());
    let keys = natural_keys(member, &values);
    assert_eq!(keys[..2], [None, None]);
    assert_eq!(keys[2].as_deref(), Some("martin\u{1f}jeanne\u{1f}quimper"));
}

#[test]
fn identity_bands_are_sure_only_where_nothing_else_can_be_meant() {
    let mapping = shipped();
    let member = entity(&mapping, "member");
    let cases: [(&str, &[(u8, &[&str])], &[&[&str]], &[&str]); 10] = [
        ("one on either side", &[(1, &["a", "", "x"])], &[&["a", "", "y"]], &["sure 1 email"]),
        (
            "the strongest key first",
            &[(1, &["a", "", "x"]), (2, &["", "", "y"])],
            &[&["a", "", "y"]],
            &["sure 1 email"],
        ),
        (
            "names alone",
            &[(1, &["", "", "x"])],
            &[&["b", "", "x"]],
            &["sure 1 last_name+first_name+city"],
        ),
        (
            "nobody",
            &[(1, &["a", "", "x"])],
            &[&["b", "", "y"], &["", "", ""]],
            &["different", "different"],
        ),
        (
            "several there",
            &[(1, &["a", "", ""]), (2, &["a", "", ""])],
            &[&["a", "", ""]],
            &["ask 1 2: `email` agrees with 2 records"],
        ),
        (
            "several here",
            &[(1, &["a", "", ""])],
            &[&["a", "", ""], &["a", "", ""]],
            &["ask 1: 2 records of this side have the same `email`"; 2],
        ),
        (
            "the same name, another e-mail",
            &[(1, &["a", "", "x"])],
            &[&["b", "", "x"]],
            &["ask 1: `last_name+first_name+city` agrees, but `email` differs"],
        ),
        (
            "one by its name, another by its e-mail",
            &[(1, &["a", "", "x"])],
            &[&["", "", "x"], &["a", "", ""]],
            &["ask 1: several records of this side fit one of the other", "sure 1 email"],
        ),
        (
            "two by weak keys",
            &[(1, &["", "p", "x"])],
            &[&["", "p", ""], &["", "", "x"]],
            &["ask 1: several records of this side fit one of the other"; 2],
        ),
        (
            "an empty e-mail is no agreement",
            &[(1, &["", "", ""])],
            &[&["", "", ""]],
            &["different"],
        ),
    ];
    for (what, there, here, expected) in cases {
        let newcomers: Vec<Newcomer> =
            here.iter().enumerate().map(|(no, keys)| newcomer(&format!("rec{no}"), keys)).collect();
        let bands = judge(member, &newcomers, &index(there));
        let said: Vec<String> = bands.iter().map(|band| words(member, band)).collect();
        assert_eq!(said, expected, "{what}");
    }
}

#[test]
fn identity_strong_keys_that_name_two_records_are_a_question() {
    let mapping = shipped();
    let mut startup = entity(&mapping, "startup").clone();
    startup.matches[1].is_strong = true;
    let there = index(&[(1, &["s", "n"]), (2, &["t", "m"])]);
    let band = |keys: &[&str]| words(&startup, &judge(&startup, &[newcomer("r", keys)], &there)[0]);
    assert_eq!(band(&["s", "m"]), "ask 1 2: keys that should name one record name several");
    assert_eq!(band(&["s", "o"]), "ask 1: `siren` agrees, but `name+city` differs");
    assert_eq!(band(&["s", ""]), "sure 1 siren");
}

#[test]
fn identity_who_was_found_is_not_found_twice() {
    let mapping = shipped();
    let member = entity(&mapping, "member");
    let mut there = index(&[(1, &["a", "", "x"])]);
    there.take(id(1), SideKey::from("recA"));
    let band =
        |key: &str, keys: &[&str]| words(member, &judge(member, &[newcomer(key, keys)], &there)[0]);
    // The same one, read again; another with the same address; a namesake.
    assert_eq!(band("recA", &["a", "", "x"]), "sure 1 email");
    assert_eq!(
        band("recB", &["a", "", ""]),
        "ask 1: `email` agrees with a record that another of this side is"
    );
    assert_eq!(band("recB", &["b", "", "x"]), "different");
}

#[test]
fn identity_an_id_of_nobody_makes_a_question_of_a_match() {
    let mapping = shipped();
    let member = entity(&mapping, "member");
    let newcomer = Newcomer { carries_other_id: true, ..newcomer("rec", &["a", "", ""]) };
    let band = &judge(member, &[newcomer], &index(&[(1, &["a", "", ""])]))[0];
    let said = "ask 1: `email` agrees, but the record carries another id";
    assert_eq!(words(member, band), said);
}

fn some_keys() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab]?", 3)
}

fn texts(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

proptest! {
    #[test]
    fn identity_order_makes_no_difference_and_no_record_is_in_two_matches(
        there in prop::collection::vec(some_keys(), 0..5),
        here in prop::collection::vec(some_keys(), 0..5),
        turn in 0..5_usize,
    ) {
        let mapping = shipped();
        let member = entity(&mapping, "member");
        let mut forwards = Index::new(3);
        let mut backwards = Index::new(3);
        for (no, keys) in (0..).zip(&there) {
            forwards.put(id(no), these(&texts(keys)), None);
        }
        for (no, keys) in (0..u8::try_from(there.len()).unwrap()).zip(&there).rev() {
            backwards.put(id(no), these(&["z", "z", "z"]), None);
            backwards.put(id(no), these(&texts(keys)), None);
        }
        let newcomers: Vec<Newcomer> =
            here.iter().enumerate().map(|(no, keys)| newcomer(&no.to_string(), &texts(keys))).collect();
        let bands = judge(member, &newcomers, &forwards);
        let mut turned = newcomers.clone();
        turned.rotate_left(turn.min(here.len()));
        let mut again = judge(member, &turned, &backwards);
        again.rotate_right(turn.min(here.len()));
        prop_assert_eq!(&bands, &again);
        let mut sure: Vec<RecordId> = bands
            .iter()
            .filter_map(|band| match band {
                Band::Sure { record, .. } => Some(*record),
                _ => None,
            })
            .collect();
        sure.sort_unstable();
        let count = sure.len();
        sure.dedup();
        prop_assert_eq!(sure.len(), count);
    }
}
