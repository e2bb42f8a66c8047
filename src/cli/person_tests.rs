//! One person's data on a real Postgres that `apply` has filled: exported whole, and erased everywhere.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{
    conflicts::{self, Choice},
    desk::Desk,
    history,
    person::{entity, erase, export, find, listed},
    terminal::Paint,
    undo,
    way_back_tests::{Lab, cell, id, key, present},
};
use crate::{
    model::{
        Cell, Decision, EntityNo, FieldNo, Observation, RawText, Refusal, RefusalKind, Side, Value,
        Wish,
    },
    person::redact,
    store::{
        self, conflict,
        logins::{self, MARK},
        person as books,
        readers::{self, Group},
    },
};

const PERSON: EntityNo = EntityNo(0);
const DEAL: EntityNo = EntityNo(1);
const LINE: EntityNo = EntityNo(2);
const GIVEN: FieldNo = FieldNo(0);
const FAMILY: FieldNo = FieldNo(1);
const EMAIL: FieldNo = FieldNo(2);
const PHONE: FieldNo = FieldNo(3);
const CITY: FieldNo = FieldNo(4);
const STATUS: FieldNo = FieldNo(5);
const STAGE: FieldNo = FieldNo(1);

const MAPPING: &str = r#"
version = 1
[entity.person]
table = "person"
airtable = { base = "main", table = "People", uuid = "UUID" }
directus = { table = "person" }
deletes = "hold"
[entity.person.field]
given = { type = "text", airtable = { field = "Name", transform = "first_of_full_name" }, directus = "given", personal = true }
family = { type = "text", airtable = { field = "Name", transform = "last_of_full_name" }, directus = "family", personal = "pseudonym" }
email = { type = "email", airtable = "Mail", directus = "email", personal = true }
phone = { type = "phone", region = "FR", airtable = "Phone", directus = "phone", personal = true }
city = { type = "text", airtable = "City", directus = "city", personal = true, policy = "ask" }
status = { type = "text", airtable = "Status", directus = "status", erased = "left" }
[entity.deal]
table = "deal"
airtable = { base = "main", table = "Deals", uuid = "UUID" }
directus = { table = "deal" }
[entity.deal.field]
name = { type = "text", airtable = "Name", directus = "name" }
stage = { type = "select", airtable = "Stage", directus = "stage", transitions = "stage_change" }
owner = { type = "email", airtable = "Owner", directus = "owner" }
summary = { type = "long_text", airtable = "Summary", directus = "summary" }
[entity.line]
table = "line"
airtable = { base = "main", table = "Lines", uuid = "UUID" }
directus = { table = "line" }
[entity.line.field]
amount = { type = "currency", scale = 2, airtable = "Amount", directus = "amount" }
person_id = { type = "link", target = "person", airtable = "Person", directus = "person_id" }
"#;

const TABLES: &str = "
    create table canon.person (id uuid primary key, given text, family text, email text, phone text, city text,
        status text, deleted_at timestamptz);
    create table canon.deal (id uuid primary key, name text, stage text, owner text, summary text, deleted_at timestamptz);
    create table canon.line (id uuid primary key, amount numeric(18,2), deleted_at timestamptz,
        person_id uuid references canon.person deferrable initially deferred);
    create table canon.stage_change (id bigint generated always as identity primary key, deal_id uuid not null,
        from_code text, to_code text, occurred_at timestamptz not null, side text not null, author text);
    create trigger stage_change_only_grows before update or delete on canon.stage_change
        for each row execute function canon.refuse_edit()";

fn person(side: Side, no: u8, cells: &[(FieldNo, &str)]) -> Observation {
    let cells = cells.iter().map(|(field, text)| (*field, cell(text))).collect();
    present(side, PERSON, no, cells)
}

const ZOE: [(FieldNo, &str); 6] = [
    (GIVEN, "Zoé"),
    (FAMILY, "Kerbrat"),
    (EMAIL, "zoe@kerbrat.fr"),
    (PHONE, "+33612345678"),
    (CITY, "Brest"),
    (STATUS, "active"),
];

/// Two people, a deal that one of them looks after, and that one's line, on both sides; some history, and a conflict.
async fn network() -> Lab {
    let mut lab = Lab::open(MAPPING, TABLES).await;
    let other = [(GIVEN, "Yann"), (FAMILY, "Le Goff"), (EMAIL, "yann@legoff.fr"), (CITY, "Vannes")];
    for side in Side::ALL.into_iter().rev() {
        let deal = vec![
            (FieldNo(0), cell("Voile")),
            (STAGE, cell("pitch")),
            (FieldNo(2), cell("zoe@kerbrat.fr")),
            (FieldNo(3), cell("Vue :\nzoé KERBRAT, au 06 12 34 56 78.")),
        ];
        let amount = Cell::Value(Value::Decimal("12500.55".parse().unwrap()));
        let line = vec![(FieldNo(0), amount), (FieldNo(1), Cell::Link(Some(key(side, PERSON, 1))))];
        let all = vec![
            person(side, 1, &ZOE),
            person(side, 2, &other),
            present(side, DEAL, 1, deal),
            present(side, LINE, 1, line),
        ];
        lab.see(side, "first", all).await;
    }
    let renamed = vec![person(Side::Directus, 1, &[(FAMILY, "Kerbrat-Morvan")])];
    lab.see(Side::Directus, "Zoé Kerbrat", renamed).await;
    let moved = vec![person(Side::Directus, 1, &[(CITY, "Nantes")])];
    lab.see(Side::Directus, "dora", moved).await;
    lab.see(
        Side::Airtable,
        "zoe@kerbrat.fr",
        vec![person(Side::Airtable, 1, &[(CITY, "Quimper")])],
    )
    .await;
    let stage = vec![present(Side::Airtable, DEAL, 1, vec![(STAGE, cell("comite"))])];
    lab.see(Side::Airtable, "Zoé Kerbrat", stage).await;
    let desk = lab.desk().await;
    let wish = Wish { expected: json!("+33612345678"), value: json!("+33699887766") };
    let cells = [(String::from("phone"), wish)].into();
    let record = id(PERSON, 1);
    let set = Decision::Set { entity: "person".into(), record, cells, settles: Vec::new() };
    assert_eq!(desk.decide("jeanne", &[set]).await.unwrap().outcome, None);
    lab
}

/// Where any text of the whole canonical database has this in it.
async fn places_of(lab: &Lab, text: &str) -> Vec<String> {
    let columns = "select c.relnamespace::regnamespace::text, c.relname::text, a.attname::text
         from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relnamespace in ('canon'::regnamespace, 'mirror'::regnamespace) and c.relkind = 'r' and a.attnum > 0
           and format_type(a.atttypid, null) in ('text', 'json', 'jsonb', 'text[]', 'character', 'character varying')";
    let mut places = Vec::new();
    for row in lab.client.query(columns, &[]).await.unwrap() {
        let (schema, table, column): (String, String, String) =
            (row.get(0), row.get(1), row.get(2));
        let sql = format!(
            "select count(*) from \"{schema}\".\"{table}\" where \"{column}\"::text ilike '%' || $1 || '%'"
        );
        let count: i64 = lab.client.query_one(&sql, &[&text]).await.unwrap().get(0);
        if count > 0 {
            places.push(format!("{schema}.{table}.{column} {count}"));
        }
    }
    places
}

const PERSONAL: [&str; 10] = [
    "kerbrat",
    "zoé",
    "morvan",
    "612345678",
    "12 34 56",
    "699887766",
    "198765432",
    "brest",
    "nantes",
    "quimper",
];

#[tokio::test]
async fn person_is_named_in_any_way_and_never_guessed() {
    let mut lab = network().await;
    let twin = [(GIVEN, "Yann"), (FAMILY, "Le Goff"), (EMAIL, "other@legoff.fr")];
    lab.see(Side::Directus, "dora", vec![person(Side::Directus, 3, &twin)]).await;
    let desk = lab.desk().await;
    assert_eq!(entity(&desk, None).unwrap(), PERSON);
    assert!(entity(&desk, Some("persn")).unwrap_err().to_string().contains("did you mean"));
    let zoe = id(PERSON, 1);
    for name in [
        zoe.to_string().as_str(),
        "rec0x1",
        "ZOE@kerbrat.fr",
        "Zoé  Kerbrat-Morvan",
        "kerbrat-morvan Zoé",
        "Kerbrat-Morvan, Zoé",
    ] {
        assert_eq!(find(&desk, PERSON, name).await.unwrap(), zoe, "{name}");
    }
    let several = find(&desk, PERSON, "yann le goff").await.unwrap_err().to_string();
    assert!(several.contains(&id(PERSON, 2).to_string()), "{several}");
    assert!(several.contains(&id(PERSON, 3).to_string()), "{several}");
    let nobody = find(&desk, PERSON, "Zoé Kerbrat-Morvam").await.unwrap_err().to_string();
    assert!(nobody.contains("no person is called") && nobody.contains("did you mean"), "{nobody}");
    // What cannot be read cannot be emptied either.
    let unread = present(
        Side::Airtable,
        PERSON,
        2,
        vec![(
            PHONE,
            Cell::Refused(Refusal {
                kind: RefusalKind::WrongType,
                reason: "`phone` is none".into(),
                raw: Some(RawText::of_text("ask Zoé")),
            }),
        )],
    );
    lab.see(Side::Airtable, "axel", vec![unread]).await;
    // What two share tells neither from the other.
    let plan = erase::plan(&desk, PERSON, id(PERSON, 2)).await.unwrap();
    assert!(
        plan.left.iter().any(|left| left.starts_with("Yann Le Goff is another")),
        "{:?}",
        plan.left
    );
    assert!(
        plan.left.iter().any(|left| left.starts_with("airtable holds something in `phone`")),
        "{:?}",
        plan.left
    );
}

#[tokio::test]
async fn person_export_has_the_record_its_lines_its_past_and_nobody_else() {
    let lab = network().await;
    let desk = lab.desk().await;
    let files = export::files(&desk, PERSON, id(PERSON, 1)).await.unwrap();
    let file = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let json = |name: &str| -> serde_json::Value { serde_json::from_str(&file(name)).unwrap() };
    assert_eq!(files[0].0, "LISEZMOI.txt");
    for (name, _) in &files[1..] {
        assert!(files[0].1.contains(name), "{name} is not told of: {}", files[0].1);
    }
    assert_eq!(json("person.json")[0]["email"], "zoe@kerbrat.fr");
    assert!(file("line.json").contains("12500.55"), "{}", file("line.json"));
    assert!(file("line.csv").starts_with("id,amount,"), "{}", file("line.csv"));
    assert_eq!(json("links.json")[0]["field"], "person_id");
    let history = file("history.json");
    assert!(history.contains("Kerbrat-Morvan") && history.contains("Nantes"), "{history}");
    assert!(file("conflicts.json").contains("Quimper"));
    assert!(file("decisions.json").contains("+33699887766"));
    assert!(file("keys.json").contains("rec0x1"));
    assert!(json("actions.json").as_array().unwrap().len() >= 2, "{}", file("actions.json"));
    for (name, text) in &files {
        assert!(!text.contains("Yann") && !text.contains("dora"), "{name}: {text}");
    }
}

async fn erased(desk: &Desk, record: Uuid) -> (erase::Plan, erase::Erased) {
    let plan = erase::plan(desk, PERSON, record).await.unwrap();
    let erased = erase::carry_out(desk, &plan, "paul", Duration::ZERO).await.unwrap();
    assert_eq!(erased.outcome, None);
    (plan, erased)
}

#[tokio::test]
async fn person_erased_is_nowhere_and_the_ledger_stays() {
    let mut lab = network().await;
    // Two texts that are no number: the first one was replaced, the second one is still there.
    for text in ["chez Zoé : 0198765432", "0198765432 (Zoé, le soir)"] {
        let refused = Cell::Refused(Refusal {
            kind: RefusalKind::WrongType,
            reason: "`phone` is none".into(),
            raw: Some(RawText::of_text(text)),
        });
        let seen = present(Side::Airtable, PERSON, 1, vec![(PHONE, refused)]);
        lab.see(Side::Airtable, "axel", vec![seen]).await;
        assert_eq!(lab.text("select raw #>> '{}' from mirror.refusal").await, text);
    }
    let kept = "select observed #>> '{}' from mirror.conflict where unfit is not null";
    assert_eq!(lab.text(kept).await, "chez Zoé : 0198765432");
    let desk = lab.desk().await;
    let zoe = id(PERSON, 1);
    let everything = "select md5(string_agg(x::text, '' order by x::text)) from (
         select to_jsonb(p) as x from canon.person p union all select to_jsonb(j) from mirror.journal j) y";
    let before = lab.text(everything).await;
    let plan = erase::plan(&desk, PERSON, zoe).await.unwrap();
    let words = plan.words(&desk, Paint::none()).await.unwrap().join("\n");
    for part in [
        "family: Kerbrat-Morvan → Personne-effacée-",
        "email: zoe@kerbrat.fr → ∅",
        "status: active → left",
        "deal Voile · owner names the person: zoe@kerbrat.fr → ∅",
        "deal Voile · summary names the person",
        "values in mirror.journal",
        "values in mirror.conflict",
        "values in mirror.refusal",
        "delete from directus_revisions",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!(lab.text(everything).await, before, "a plan does nothing");
    assert_eq!(lab.text("select count(*)::text from mirror.erasure").await, "0");

    let (plan, first) = erased(&desk, zoe).await;
    assert!(!first.is_complete && !first.open.is_empty(), "both sides still hold it");
    let now = "select concat_ws('|', given, family, email, phone, city, status) from canon.person where given is null";
    assert_eq!(lab.text(now).await, format!("{}|left", plan.pseudonym));
    assert_eq!(
        lab.text("select amount::text from canon.line where person_id is not null").await,
        "12500.55"
    );
    assert_eq!(
        lab.text("select concat_ws('|', owner, summary) from canon.deal").await,
        format!("Vue :\n{0}, au {0}.", plan.pseudonym)
    );
    assert_eq!(
        lab.text("select author from canon.stage_change where author <> 'first'").await,
        plan.pseudonym
    );
    // What the sides hold is known until they hold it no more; nothing else has it.
    for text in PERSONAL {
        let places = places_of(&lab, text).await;
        let is_known = |place: &String| place.starts_with("mirror.shadow.value");
        assert!(places.iter().all(is_known), "{text}: {places:?}");
    }
    let open = listed(&desk, false, Paint::none()).await.unwrap().join("\n");
    assert!(open.contains("not complete") && open.contains("it is owed the erasure"), "{open}");

    // The sides take it.
    let deal = format!("Vue :\n{0}, au {0}.", plan.pseudonym);
    for side in Side::ALL {
        let gone = [
            (GIVEN, ""),
            (FAMILY, plan.pseudonym.as_str()),
            (EMAIL, ""),
            (PHONE, ""),
            (CITY, ""),
            (STATUS, "left"),
        ];
        let unnamed =
            vec![(STAGE, cell("comite")), (FieldNo(2), cell("")), (FieldNo(3), cell(&deal))];
        let all = vec![person(side, 1, &gone), present(side, DEAL, 1, unnamed)];
        lab.see(side, "plait", all).await;
    }
    let erasure = books::unfinished(&desk.pool).await.unwrap().remove(0);
    assert!(redact::finish(&desk.pool, &erasure).await.unwrap());
    assert!(books::unfinished(&desk.pool).await.unwrap().is_empty());
    for text in PERSONAL {
        assert_eq!(places_of(&lab, text).await, Vec::<String>::new(), "{text}");
    }
    let complete = listed(&desk, false, Paint::none()).await.unwrap().join("\n");
    assert!(complete.contains("complete on both sides"), "{complete}");
    assert!(complete.contains(&zoe.to_string()) && complete.contains("by paul"), "{complete}");

    // Nobody else has lost anything.
    assert_eq!(
        lab.text("select concat_ws('|', given, family, email, city) from canon.person where given is not null").await,
        "Yann|Le Goff|yann@legoff.fr|Vannes"
    );

    // It happened, and does not come back.
    let told = history::told(&desk, "person", "rec0x1", None).await.unwrap().join("\n");
    assert!(told.contains("[erased] → "), "{told}");
    let cell = undo::of_cell(&desk, "person", "rec0x1", "city", None).await.unwrap();
    let undone = undo::planned(&desk, &cell, true).await.unwrap();
    assert!(undone.plan.decisions.is_empty(), "{:?}", undone.plan);
    let words = undone.words(Paint::none()).join("\n");
    assert!(words.contains("erased with a person's data"), "{words}");
    let all =
        undo::of_record(&desk, "person", "rec0x1", chrono::DateTime::UNIX_EPOCH).await.unwrap();
    let undone = undo::planned(&desk, &all, true).await.unwrap();
    let wished = serde_json::to_string(&undone.plan.decisions).unwrap();
    assert!(!wished.contains("[erased]"), "{wished}");
    let conflict = conflict::conflicts(&desk.pool, true, None, 10).await.unwrap().remove(0);
    let choice = Choice { airtable: true, directus: false, canonical: false, value: None };
    let refused = conflicts::plan(&desk, conflict.conflict_id, &choice).await.unwrap_err();
    assert!(refused.to_string().contains("does not come back"), "{refused}");
    let wish = Wish { expected: json!(null), value: json!("[erased]") };
    let cells = [(String::from("city"), wish)].into();
    let set = Decision::Set { entity: "person".into(), record: zoe, cells, settles: Vec::new() };
    let done = desk.decide("jeanne", &[set]).await.unwrap();
    assert!(done.outcome.unwrap().contains("does not come back"));

    // Again: nothing changes, under the same pseudonym. What came back since goes again.
    let (again, done) = erased(&desk, zoe).await;
    assert!(done.is_complete);
    assert_eq!(again.pseudonym, plan.pseudonym);
    lab.see(Side::Airtable, "axel", vec![person(Side::Airtable, 1, &[(EMAIL, "zoe@kerbrat.fr")])])
        .await;
    let returned = listed(&desk, false, Paint::none()).await.unwrap().join("\n");
    assert!(returned.contains("holds values again") && returned.contains("email"), "{returned}");
    erased(&desk, zoe).await;
    lab.see(Side::Airtable, "plait", vec![person(Side::Airtable, 1, &[(EMAIL, "")])]).await;
    assert_eq!(places_of(&lab, "kerbrat").await, Vec::<String>::new());
}

#[tokio::test]
async fn person_deleted_or_waiting_to_be_is_erased_in_its_order() {
    let mut lab = network().await;
    let change = crate::model::Change::Absent;
    let gone = |side: Side| Observation {
        entity: PERSON,
        key: key(side, PERSON, 2),
        change: change.clone(),
    };
    lab.see(Side::Airtable, "axel", vec![gone(Side::Airtable)]).await;
    let desk = lab.desk().await;
    let yann = id(PERSON, 2);
    let waits = erase::plan(&desk, PERSON, yann).await.unwrap_err().to_string();
    assert!(waits.contains("approve deletes") && waits.contains("directus"), "{waits}");
    lab.see(Side::Directus, "dora", vec![gone(Side::Directus)]).await;
    let (plan, done) = erased(&desk, yann).await;
    assert!(done.is_complete, "{:?}", done.open);
    let now = "select concat_ws('|', family, deleted_at is not null) from canon.person where family like 'Personne%'";
    let held = lab.text(now).await;
    assert!(held.is_empty() || held == format!("{}|t", plan.pseudonym), "{held}");
    for text in ["yann", "le goff", "vannes"] {
        assert_eq!(places_of(&lab, text).await, Vec::<String>::new(), "{text}");
    }
}

#[tokio::test]
async fn person_table_that_only_grows_lets_an_erasure_replace_authors_and_nothing_else() {
    let lab = network().await;
    let refused = async |sql: &str| lab.client.batch_execute(sql).await.is_err();
    assert!(refused("update canon.stage_change set author = 'x'").await);
    let erasing = "begin; select set_config('plait.erasing', 'on', true);";
    let other =
        refused(&format!("{erasing} update canon.stage_change set to_code = 'x'; commit")).await;
    assert!(other);
    lab.client.batch_execute("rollback").await.unwrap();
    assert!(refused(&format!("{erasing} delete from canon.stage_change; commit")).await);
    lab.client.batch_execute("rollback").await.unwrap();
    assert!(
        !refused(&format!("{erasing} update canon.stage_change set author = 'x'; commit")).await
    );
    assert!(
        refused("update canon.stage_change set author = 'y'").await,
        "over with its transaction"
    );
}

#[tokio::test]
async fn person_who_is_erased_takes_along_the_logins_that_read_as_that_person() {
    let mut lab = network().await;
    let desk = lab.desk().await;
    // Without reports there are no logins.
    assert!(erase::plan(&desk, PERSON, id(PERSON, 1)).await.unwrap().logins.is_empty());
    store::install_reports(desk.canonical()).await.unwrap();
    readers::make_roles(&mut lab.client).await.unwrap();
    for (name, member) in [("zoe", 1), ("zoe_home", 1), ("yann", 2)] {
        let member = Some(id(PERSON, member));
        logins::make(&mut lab.client, name, Group::Investor, "open sesame", member).await.unwrap();
    }
    // Something of somebody else's hangs on one of them.
    let hang = "create table public.hers (n int); grant select on public.hers to zoe_home";
    lab.client.batch_execute(hang).await.unwrap();

    let plan = erase::plan(&desk, PERSON, id(PERSON, 1)).await.unwrap();
    let words = plan.words(&desk, Paint::none()).await.unwrap();
    for login in ["zoe", "zoe_home"] {
        let line = format!("the login {login}, which reads as this person: taken away");
        assert!(words.contains(&line), "{words:?}");
    }
    assert!(!words.iter().any(|line| line.contains("yann")), "{words:?}");
    let roles = "select string_agg(rolname || case when rolcanlogin then '' else ' shut' end, ' ' order by rolname)
        from pg_roles where rolname in ('zoe', 'zoe_home', 'yann')";
    assert_eq!(lab.text(roles).await, "yann zoe zoe_home", "a plan does nothing");

    assert_eq!(erase::carry_out(&desk, &plan, "paul", Duration::ZERO).await.unwrap().outcome, None);
    let told = erase::take_logins(&desk, &plan).await.unwrap();
    assert_eq!(told[0], "the login zoe is gone");
    assert!(
        told[1].starts_with("the login zoe_home may not log in any more and reads nothing"),
        "{told:?}"
    );
    assert_eq!(lab.text(roles).await, "yann zoe_home shut");
    let left = "select string_agg(role_name::text, ' ') from report.reader";
    assert_eq!(lab.text(left).await, "yann");
    let mark = format!("select shobj_description('yann'::regrole, 'pg_authid') = '{MARK}'");
    assert!(lab.client.query_one(&mark, &[]).await.unwrap().get::<_, bool>(0));
    // Once more, there is none left to take.
    let again = erase::plan(&desk, PERSON, id(PERSON, 1)).await.unwrap();
    assert!(again.logins.is_empty());
}
