//! What alerts and what does not, entry by entry.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    Alert, Codes, Facts, Labels, Valuation, Watch, evaluate, evaluate::complete, resolve,
    rule_words,
};
use crate::{
    config::alert::{On, Rule, built_in},
    demo::model::MAPPING,
    mapping::{self, Mapping},
    model::Language,
    store::history::Entry,
};

const COMPANY: Uuid = Uuid::from_u128(1);
pub(super) const OTHER_COMPANY: Uuid = Uuid::from_u128(2);

fn mapping() -> Mapping {
    mapping::read(MAPPING, "mapping.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

pub(super) fn watch(on: On) -> Vec<Watch> {
    let rule = Rule { name: "mine".into(), place: Some("plait.toml:7".into()), on };
    let (watches, findings) = resolve(&[rule], &mapping(), None);
    assert!(findings.is_empty(), "{findings:?}");
    watches
}

fn texts(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

fn codes() -> Codes {
    let mut codes = Codes::default();
    let mut add = |table: &str, column: &str, reference: &str, labels: &[(&str, &str, &str)]| {
        let labels: Labels = labels
            .iter()
            .map(|(code, fr, en)| ((*code).into(), ((*fr).into(), (*en).into())))
            .collect();
        codes.tables.insert(reference.into(), labels);
        codes.columns.insert((table.into(), column.into()), reference.into());
    };
    add(
        "project",
        "stage_code",
        "stage",
        &[("pitch", "Pitch", "Pitch"), ("comite", "Comité", "Committee")],
    );
    add(
        "member",
        "status_code",
        "member_status",
        &[("active", "Actif", "Active"), ("left", "Parti", "Left")],
    );
    add(
        "member_role",
        "role_code",
        "role",
        &[("expert", "Expert", "Expert"), ("staff", "Permanent", "Staff")],
    );
    add(
        "valuation",
        "instrument_code",
        "instrument",
        &[("ao", "Actions ordinaires", "Ordinary shares")],
    );
    add(
        "legal_event",
        "kind_code",
        "legal_event_kind",
        &[
            (
                "augmentation_numeraire",
                "Augmentation de capital en numéraire",
                "Capital increase in cash",
            ),
            ("pacte", "Pacte d'associés", "Shareholders' agreement"),
        ],
    );
    codes
}

/// A canonical database that is thought up.
pub(super) struct World {
    facts: Facts,
    journal_id: i64,
}

impl World {
    pub(super) fn new() -> Self {
        let mut facts = Facts { codes: codes(), ..Facts::default() };
        facts.names.insert(COMPANY, "Voile Solaire".into());
        facts.valuations.insert(COMPANY, Vec::new());
        Self { facts, journal_id: 0 }
    }

    /// An entry of the journal, and the record as it leaves it.
    pub(super) fn change(
        &mut self,
        entity: &str,
        id: Uuid,
        action: &str,
        before: &Json,
        after: &Json,
    ) -> Entry {
        self.journal_id += 1;
        let row = self.facts.rows.entry((entity.into(), id)).or_default();
        row.extend(object(after));
        let entry = Entry {
            journal_id: self.journal_id,
            transaction: self.journal_id,
            entity: entity.into(),
            record_id: id,
            action: action.into(),
            before: object(before),
            after: object(after),
            at: at(self.journal_id),
            side: "airtable".into(),
            author: "Jeanne Martin".into(),
            via: "client".into(),
            recorded_at: at(self.journal_id),
        };
        self.facts.entries.entry(id).or_default().push(entry.clone());
        if entity == "valuation" {
            self.value(id);
        }
        entry
    }

    /// Puts a valuation's row among those of its company.
    fn value(&mut self, id: Uuid) {
        let row = &self.facts.rows[&("valuation".to_owned(), id)];
        let text = |field: &str| row.get(field).and_then(Json::as_str).map(str::to_owned);
        let company = text("startup_id").map_or(COMPANY, |id| id.parse().unwrap());
        let valuation = Valuation {
            id,
            startup_id: Some(company),
            as_of: text("as_of").map(|day| day.parse().unwrap()),
            price: text("price").map(|price| price.parse().unwrap()),
            equity_value: text("equity_value").map(|value| value.parse().unwrap()),
            approved_on: text("approved_on").map(|day| day.parse().unwrap()),
            method_code: text("method_code"),
            instrument_code: text("instrument_code"),
            currency: if text("label").as_deref() == Some("CHF") { "CHF" } else { "EUR" }.into(),
        };
        let all = self.facts.valuations.entry(company).or_default();
        all.retain(|it| it.id != id);
        all.push(valuation);
    }

    pub(super) fn new_valuation(&mut self, nth: u128, cells: &Json) -> Entry {
        let mut after = object(&json!({ "startup_id": COMPANY }));
        after.extend(object(cells));
        self.change("valuation", Uuid::from_u128(100 + nth), "create", &json!({}), &json!(after))
    }

    pub(super) fn see(&self, watches: &[Watch], entry: &Entry) -> Vec<Alert> {
        evaluate(watches, entry, &self.facts)
    }
}

pub(super) fn object(json: &Json) -> Map<String, Json> {
    json.as_object().cloned().unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

pub(super) fn only(alerts: Vec<Alert>) -> Alert {
    let [alert] = <[Alert; 1]>::try_from(alerts).unwrap();
    alert
}

// ---- legal events ------------------------------------------------------------------------------------------

#[test]
fn alert_legal_event_that_a_person_creates_is_told_with_its_company_and_capital() {
    let mut world = World::new();
    let watches = watch(On::LegalEvent { kinds: texts(&["augmentation_numeraire"]) });
    let id = Uuid::from_u128(7);
    let entry = world.change(
        "legal_event",
        id,
        "create",
        &json!({}),
        &json!({ "label": "AK 2026", "startup_id": COMPANY, "kind_code": "augmentation_numeraire",
                 "decided_on": "2026-03-12", "capital_before": "10000", "capital_after": "1234567.5" }),
    );
    let alert = only(world.see(&watches, &entry));
    assert_eq!(
        alert.text_en,
        "Voile Solaire: Capital increase in cash, decided on 2026-03-12, share capital €10,000.00 → €1,234,567.50 (“AK 2026”)"
    );
    assert_eq!(
        alert.text_fr.replace('\u{a0}', " "),
        "Voile Solaire : Augmentation de capital en numéraire, décision du 12/03/2026, capital social 10 000,00 € → 1 234 567,50 € (« AK 2026 »)"
    );
    assert_eq!(
        (alert.rule.as_str(), alert.kind, alert.record_name.as_str(), alert.author.as_str()),
        ("mine", "legal_event", "AK 2026 (Voile Solaire)", "Jeanne Martin")
    );
    assert_eq!(json!(alert.before), json!({ "share_capital": "10000" }));
    assert_eq!(
        json!(alert.after),
        json!({ "kind_code": "augmentation_numeraire", "share_capital": "1234567.5", "decided_on": "2026-03-12" })
    );
}

#[test]
fn alert_legal_event_alerts_where_its_kind_becomes_a_watched_one_and_not_again() {
    let mut world = World::new();
    let watches = watch(On::LegalEvent { kinds: texts(&["augmentation_numeraire"]) });
    let id = Uuid::from_u128(7);
    // As the grid of Airtable makes them: an empty row, then cell by cell.
    let empty = world.change("legal_event", id, "create", &json!({}), &json!({}));
    assert!(world.see(&watches, &empty).is_empty());
    let other = world.change(
        "legal_event",
        id,
        "update",
        &json!({ "kind_code": null }),
        &json!({ "kind_code": "pacte" }),
    );
    assert!(world.see(&watches, &other).is_empty());
    let kind = world.change(
        "legal_event",
        id,
        "update",
        &json!({ "kind_code": "pacte" }),
        &json!({ "kind_code": "augmentation_numeraire" }),
    );
    let alert = only(world.see(&watches, &kind));
    assert_eq!(alert.text_en, "No company given: Capital increase in cash");
    // Looked at late, each entry sees the record as it was, the name that came later left out.
    let label = world.change(
        "legal_event",
        id,
        "update",
        &json!({ "label": null }),
        &json!({ "label": "AK" }),
    );
    assert!(world.see(&watches, &label).is_empty());
    // It says more of what has alerted, and only that.
    let completed = only(complete(&watches, &label, &world.facts));
    assert_eq!(completed.text_en, "No company given: Capital increase in cash (“AK”)");
    for entry in [&empty, &other, &kind] {
        assert!(complete(&watches, entry, &world.facts).is_empty());
    }
    assert!(
        complete(&watch(On::LegalEvent { kinds: texts(&["pacte"]) }), &label, &world.facts)
            .is_empty()
    );
    assert!(world.see(&watches, &other).is_empty());
    assert_eq!(only(world.see(&watches, &kind)), alert);
    let gone = world.change(
        "legal_event",
        id,
        "delete",
        &json!({ "kind_code": "augmentation_numeraire" }),
        &json!({}),
    );
    assert!(world.see(&watches, &gone).is_empty());
    let back = world.change(
        "legal_event",
        id,
        "restore",
        &json!({ "kind_code": null }),
        &json!({ "kind_code": "augmentation_numeraire" }),
    );
    assert!(world.see(&watches, &back).is_empty(), "it was told when it came first");
}

#[test]
fn alert_legal_event_of_any_kind_and_of_a_kind_that_no_table_has() {
    let mut world = World::new();
    let entry = world.change(
        "legal_event",
        Uuid::from_u128(7),
        "create",
        &json!({}),
        &json!({ "startup_id": OTHER_COMPANY, "kind_code": "fusion", "capital_after": "500" }),
    );
    let alert = only(world.see(&watch(On::LegalEvent { kinds: vec![] }), &entry));
    assert_eq!(
        alert.text_en,
        format!("{OTHER_COMPANY}: fusion, share capital ? → €500.00"),
        "a company without a name"
    );
    assert!(world.see(&watch(On::LegalEvent { kinds: texts(&["pacte"]) }), &entry).is_empty());
}

// ---- fields ------------------------------------------------------------------------------------------------

#[test]
fn alert_stage_that_changes_is_told_before_and_after() {
    let mut world = World::new();
    let id = Uuid::from_u128(9);
    let any = watch(On::StageChange { from: vec![], to: vec![] });
    let to = watch(On::StageChange { from: vec![], to: texts(&["comite"]) });
    let from = watch(On::StageChange { from: texts(&["depot"]), to: vec![] });
    let made = world.change(
        "project",
        id,
        "create",
        &json!({}),
        &json!({ "name": "Voile", "startup_id": COMPANY, "stage_code": "comite" }),
    );
    assert!(
        [&any, &to, &from].iter().all(|watches| world.see(watches, &made).is_empty()),
        "a new one"
    );
    let mut stage = |before: Json, after: Json| {
        let entry = world.change(
            "project",
            id,
            "update",
            &json!({ "stage_code": before }),
            &json!({ "stage_code": after }),
        );
        [&any, &to, &from].map(|watches| world.see(watches, &entry).len())
    };
    assert_eq!(stage(json!("pitch"), json!("comite")), [1, 1, 0]);
    assert_eq!(stage(json!("comite"), json!("pitch")), [1, 0, 0]);
    assert_eq!(stage(json!("depot"), json!("pitch")), [1, 0, 1]);
    assert_eq!(stage(json!("depot"), json!(null)), [1, 0, 1], "emptied");
    assert_eq!(
        stage(json!(null), json!("comite")),
        [0, 1, 0],
        "filled: the one that is waited for"
    );
    assert_eq!(stage(json!("comite"), json!("comite")), [0, 0, 0]);
    let entry = world.change(
        "project",
        id,
        "update",
        &json!({ "stage_code": "pitch", "region": "Bretagne" }),
        &json!({ "stage_code": "comite", "region": "Corse" }),
    );
    let alert = only(world.see(&any, &entry));
    assert_eq!(alert.text_en, "Voile (Voile Solaire): stage Pitch → Committee");
    assert_eq!(alert.text_fr, "Voile (Voile Solaire)\u{a0}: étape Pitch → Comité");
    assert_eq!(
        json!([alert.before, alert.after]),
        json!([{ "stage_code": "pitch" }, { "stage_code": "comite" }])
    );
    let region = world.change(
        "project",
        id,
        "update",
        &json!({ "region": "Corse" }),
        &json!({ "region": "Bretagne" }),
    );
    assert!(world.see(&any, &region).is_empty());
}

#[test]
fn alert_member_who_leaves_is_told_and_one_who_left_before_is_not() {
    let mut world = World::new();
    let id = Uuid::from_u128(11);
    let watches = watch(On::MemberStatus { from: vec![], to: texts(&["left"]) });
    let row = json!({ "first_name": "Luc", "last_name": "Moreau", "status_code": "left" });
    let made = world.change("member", id, "create", &json!({}), &row);
    assert!(world.see(&watches, &made).is_empty());
    let left = world.change(
        "member",
        id,
        "update",
        &json!({ "status_code": "active" }),
        &json!({ "status_code": "left" }),
    );
    let alert = only(world.see(&watches, &left));
    assert_eq!(alert.text_en, "Luc Moreau: status Active → Left");
    let back = world.change(
        "member",
        id,
        "update",
        &json!({ "status_code": "left" }),
        &json!({ "status_code": "active" }),
    );
    assert!(world.see(&watches, &back).is_empty());
    // By nobody's name: Directus gives an id, which is a member's.
    let mut entry = left;
    (entry.side, entry.author) = ("directus".into(), "5f0".into());
    assert_eq!(only(world.see(&watches, &entry)).author, "5f0");
    world.facts.authors.insert(("directus".into(), "5f0".into()), "Marie Curie".into());
    assert_eq!(only(world.see(&watches, &entry)).author, "Marie Curie");
}

#[test]
fn alert_any_mapped_field_can_be_watched() {
    let mut world = World::new();
    let id = Uuid::from_u128(13);
    let field = |field: &str, from: &[&str], to: &[&str]| {
        let (entity, field) = ("member".to_owned(), field.to_owned());
        watch(On::FieldChange { entity, field, from: texts(from), to: texts(to) })
    };
    world.change("member", id, "create", &json!({}), &json!({ "first_name": "Luc" }));
    let roles = world.change(
        "member",
        id,
        "update",
        &json!({ "roles": ["expert", "investor"] }),
        &json!({ "roles": ["investor", "staff"] }),
    );
    let alert = only(world.see(&field("roles", &[], &[]), &roles));
    assert_eq!(alert.text_en, "Luc: roles Expert, investor → investor, Staff");
    assert_eq!(world.see(&field("roles", &["expert"], &["staff"]), &roles).len(), 1);
    assert_eq!(
        world.see(&field("roles", &[], &["investor"]), &roles).len(),
        0,
        "it was there before"
    );
    let news = world.change(
        "member",
        id,
        "update",
        &json!({ "newsletter": true }),
        &json!({ "newsletter": false }),
    );
    let alert = only(world.see(&field("newsletter", &[], &["false"]), &news));
    assert_eq!(alert.text_fr, "Luc\u{a0}: newsletter oui → non");
    let long = world.change(
        "member",
        id,
        "update",
        &json!({ "note": "a\nb" }),
        &json!({ "note": "x".repeat(500) }),
    );
    let alert = only(world.see(&field("note", &[], &[]), &long));
    assert!(
        alert.text_en.starts_with("Luc: note a b → xxx") && alert.text_en.chars().count() < 120
    );
    // A record that is told of without a name, and one that is gone since.
    let nameless = world.change(
        "member",
        Uuid::from_u128(14),
        "update",
        &json!({ "city": "Brest" }),
        &json!({ "city": null }),
    );
    let alert = only(world.see(&field("city", &[], &[]), &nameless));
    assert_eq!(alert.text_en, format!("{}: city Brest → (empty)", Uuid::from_u128(14)));
    world.facts.rows.remove(&("member".to_owned(), id));
    assert_eq!(only(world.see(&field("roles", &[], &[]), &roles)).record_id, id);
}

// ---- what is no news, and rules that do not fit ------------------------------------------------------------

#[test]
fn alert_first_reading_is_no_news_and_a_later_one_is() {
    let mut world = World::new();
    let id = Uuid::from_u128(11);
    let watches = watch(On::MemberStatus { from: vec![], to: texts(&["left"]) });
    for via in ["listing", "snapshot"] {
        let mut entry = world.change(
            "member",
            id,
            "update",
            &json!({ "status_code": "active" }),
            &json!({ "status_code": "left" }),
        );
        entry.via = via.into();
        let scope = ("airtable".to_owned(), "member".to_owned());
        world.facts.counts_from.clear();
        assert!(world.see(&watches, &entry).is_empty());
        world.facts.counts_from.insert(scope.clone(), entry.recorded_at + Duration::seconds(1));
        assert!(world.see(&watches, &entry).is_empty());
        world.facts.counts_from.insert(scope, entry.recorded_at);
        assert_eq!(world.see(&watches, &entry).len(), 1);
    }
}

#[test]
fn alert_rules_that_do_not_fit_are_told_and_the_others_hold() {
    let field = |name: &str, entity: &str, field: &str| Rule {
        name: name.into(),
        place: Some("plait.toml:7".into()),
        on: On::FieldChange {
            entity: entity.into(),
            field: field.into(),
            from: vec![],
            to: vec![],
        },
    };
    let stage = Rule {
        name: "stage".into(),
        place: Some("plait.toml:9".into()),
        on: On::StageChange { from: vec![], to: texts(&["comité", "pitch"]) },
    };
    let rules = [field("a", "membre", "city"), field("b", "member", "cty"), stage];
    let (watches, findings) = resolve(&rules, &mapping(), Some(&codes()));
    assert_eq!(watches.iter().map(|watch| watch.rule.name.as_str()).collect::<Vec<_>>(), ["stage"]);
    let said: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "plait.toml:7: the alert `a` watches nothing: the mapping has no entity `membre`; did you mean `member`?",
            "plait.toml:7: the alert `b` watches nothing: member has no field `cty`; did you mean `city`?",
            "plait.toml:9: the alert `stage` waits for `comité`, which canon.stage does not have; did you mean `comite`?",
        ]
    );
    // A network without any of what the built-in rules look at.
    let bare = mapping::read(
        "version = 1\n[entity.team]\ntable = \"team\"\nairtable = { base = \"main\", table = \"Teams\" }\n\
         [entity.team.field]\nname = { type = \"text\", airtable = \"Name\" }\n",
        "mapping.toml",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let (watches, findings) = resolve(&built_in(), &bare, None);
    assert!(watches.is_empty() && findings.is_empty(), "{findings:?}");
}

#[test]
fn alert_rules_are_said_in_words() {
    let (watches, _) = resolve(&built_in(), &mapping(), None);
    let said = |lang| -> Vec<String> {
        watches
            .iter()
            .map(|watch| rule_words(watch, &codes(), lang).replace('\u{a0}', " "))
            .collect()
    };
    assert_eq!(
        said(Language::En),
        [
            "a legal event appears: Capital increase in cash or augmentation_nature",
            "a legal event appears: modification_statuts",
            "a legal event appears: procedure_collective or liquidation",
            "an approved valuation is 33 % or more below the one before it",
            "a project changes stage",
            "a member's status changes, to Left",
        ]
    );
    assert_eq!(said(Language::Fr)[5], "un membre change de statut, vers Parti");
    assert!(
        said(Language::Fr)[0]
            .starts_with("un événement juridique apparaît : Augmentation de capital")
    );
}
