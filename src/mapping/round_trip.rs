//! Property tests over every type, side and transformation: reading never panics, normalising twice changes
//! nothing, and what was written is read back as it was.

use bigdecimal::BigDecimal;
use chrono::{NaiveDate, NaiveTime};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    AirtableField, CellFormat, Codes, DeletePolicy, Direction, DirectusField, Entity, Field,
    FieldKind, Normalise, Part, Policy, Store, write::join_airtable,
};
use crate::model::{Cell, EntityNo, FieldNo, RefusalKind, SideKey, Value};

/// The types, each with the options that make a difference.
fn kinds() -> Vec<FieldKind> {
    vec![
        FieldKind::Text,
        FieldKind::LongText,
        FieldKind::Integer,
        FieldKind::BigInt,
        FieldKind::Decimal { scale: None },
        FieldKind::Decimal { scale: Some(6) },
        FieldKind::Currency { scale: Some(2) },
        FieldKind::Percent { scale: Some(6) },
        FieldKind::Rating,
        FieldKind::Duration,
        FieldKind::Boolean,
        FieldKind::Date,
        FieldKind::Time,
        FieldKind::DateTime { millis: true },
        FieldKind::DateTime { millis: false },
        FieldKind::Select,
        FieldKind::MultiSelect,
        FieldKind::Link { target: EntityNo(0) },
        FieldKind::Links { target: EntityNo(0) },
        FieldKind::Email,
        FieldKind::Phone { region: String::from("FR") },
        FieldKind::Url,
        FieldKind::Collaborator,
        FieldKind::Computed,
        FieldKind::Json,
        FieldKind::Csv,
        FieldKind::Uuid,
    ]
}

fn parts_of(kind: &FieldKind) -> Vec<Part> {
    let mut parts = vec![Part::Whole];
    match kind {
        FieldKind::Text => {
            parts.extend([Part::OneElement, Part::FirstOfFullName, Part::LastOfFullName]);
        }
        FieldKind::Date => parts.extend([Part::OneElement, Part::DateDmy]),
        FieldKind::Csv | FieldKind::MultiSelect => parts.push(Part::Csv),
        FieldKind::Link { .. }
        | FieldKind::Links { .. }
        | FieldKind::Computed
        | FieldKind::Json => {}
        _ => parts.push(Part::OneElement),
    }
    parts
}

fn codes() -> Codes {
    [("Santé", "health"), ("Énergie, eau", "energy"), ("[x]", "x")]
        .map(|(label, code)| (label.to_owned(), code.to_owned()))
        .into()
}

fn field(kind: FieldKind, airtable: Option<Part>, directus: Part, codes: Option<&Codes>) -> Field {
    // A list with commas cannot hold a label with one.
    let codes_of = |part| codes.filter(|_| part != Part::Csv).cloned();
    Field {
        name: String::from("cell"),
        store: Store::Column(String::from("cell")),
        kind,
        transforms: Vec::new(),
        airtable: airtable.map(|part| AirtableField {
            field: String::from("Cell"),
            part,
            codes: codes_of(part),
            new_options: false,
        }),
        directus: Some(DirectusField::Column {
            column: String::from("cell"),
            part: directus,
            codes: codes_of(directus),
        }),
        policy: Policy::Ask,
        direction: Direction::Both,
        transitions: None,
        personal: crate::mapping::Personal::No,
        erased: None,
        is_required: false,
        filled_by: Vec::new(),
    }
}

/// Every type with every pair of parts that it may have on the two sides.
fn fields() -> Vec<Field> {
    let mut fields = Vec::new();
    for kind in kinds() {
        let has_codes = matches!(kind, FieldKind::Select | FieldKind::MultiSelect);
        for airtable in parts_of(&kind) {
            for directus in parts_of(&kind) {
                if matches!(directus, Part::FirstOfFullName | Part::LastOfFullName) {
                    continue;
                }
                let is_exact = kind == FieldKind::DateTime { millis: false };
                let airtable = Some(airtable).filter(|_| !is_exact);
                fields.push(field(kind.clone(), airtable, directus, None));
                if has_codes && airtable != Some(Part::Csv) && directus != Part::Csv {
                    fields.push(field(kind.clone(), airtable, directus, Some(&codes())));
                }
            }
        }
        fields.push(field(kind.clone(), None, Part::Whole, None));
    }
    for steps in
        [vec![Normalise::Trim], vec![Normalise::Lower, Normalise::Upper], vec![Normalise::Siren]]
    {
        for kind in [FieldKind::Text, FieldKind::LongText, FieldKind::Csv] {
            let mut one = field(kind, Some(Part::Whole), Part::Whole, None);
            one.transforms.clone_from(&steps);
            fields.push(one);
        }
    }
    fields
}

/// Raw values of the field's type, before they are normalised.
fn raw(field: &Field) -> BoxedStrategy<Value> {
    let text = || {
        prop_oneof![
            any::<String>(),
            "[a-zA-Zéèà ,.'\r\n\t\u{a0}{}\\[\\]\"\\\\-]{0,24}",
            "e\u{301}{0,3}[ A-Z]{1,3}",
            Just(String::from("732 829 320")),
        ]
    };
    let has_codes =
        field.form_on_airtable().codes.is_some() || field.form_on_directus().codes.is_some();
    let code = || prop_oneof![Just("health"), Just("energy"), Just("x")].prop_map(String::from);
    let decimal = |scale: i64| {
        (any::<i64>(), 0..=scale)
            .prop_map(|(digits, scale)| Value::Decimal(BigDecimal::new(digits.into(), scale)))
    };
    let full = match &field.kind {
        FieldKind::Select if has_codes => code().prop_map(Value::Text).boxed(),
        FieldKind::MultiSelect if has_codes => vec(code(), 0..4).prop_map(Value::set).boxed(),
        FieldKind::Text | FieldKind::LongText | FieldKind::Select | FieldKind::Url => {
            text().prop_map(Value::Text).boxed()
        }
        FieldKind::Collaborator => {
            prop_oneof!["usr[A-Za-z0-9]{14}", "[a-zA-Z.]{1,8}@[a-zA-Z]{1,8}\\.fr", text()]
                .prop_map(Value::Text)
                .boxed()
        }
        FieldKind::Email => prop_oneof![" ?[a-zA-Zéİ.+]{1,8}@[a-zA-Zé]{1,8}\\.fr ?", text()]
            .prop_map(Value::Text)
            .boxed(),
        FieldKind::Phone { .. } => {
            prop_oneof!["0[1-9]( ?[0-9]{2}){4}", "\\+(33|262|32|41|1|39)[0-9 .()-]{6,12}", text()]
                .prop_map(Value::Text)
                .boxed()
        }
        FieldKind::Integer | FieldKind::Duration => {
            any::<i32>().prop_map(|number| Value::Int(number.into())).boxed()
        }
        FieldKind::BigInt => any::<i64>().prop_map(Value::Int).boxed(),
        FieldKind::Rating => (0_i64..12).prop_map(Value::Int).boxed(),
        FieldKind::Decimal { scale }
        | FieldKind::Currency { scale }
        | FieldKind::Percent { scale } => decimal(scale.unwrap_or(20).into()).boxed(),
        FieldKind::Boolean => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldKind::Date => (-800_000_i32..4_000_000)
            .prop_filter_map("calendar", |day| {
                NaiveDate::from_num_days_from_ce_opt(day).map(Value::Date)
            })
            .boxed(),
        FieldKind::Time => (0_u32..86_400, 0_u32..1_999_999_999)
            .prop_filter_map("clock", |(second, nano)| {
                NaiveTime::from_num_seconds_from_midnight_opt(second, nano).map(Value::Time)
            })
            .boxed(),
        FieldKind::DateTime { .. } => {
            prop_oneof![any::<i64>(), -62_135_596_800_000_000_i64..253_402_300_800_000_000,]
                .prop_map(Value::Timestamp)
                .boxed()
        }
        FieldKind::MultiSelect | FieldKind::Csv => vec(text(), 0..5).prop_map(Value::List).boxed(),
        FieldKind::Link { .. } | FieldKind::Uuid => {
            any::<u128>().prop_map(|id| Value::Uuid(Uuid::from_u128(id))).boxed()
        }
        FieldKind::Links { .. } => {
            vec(any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string()), 0..4)
                .prop_map(Value::set)
                .boxed()
        }
        FieldKind::Computed | FieldKind::Json => {
            prop_oneof![json_value(), text().prop_map(Json::from)].prop_map(Value::Json).boxed()
        }
    };
    prop_oneof![1 => Just(Value::Null), 9 => full].boxed()
}

fn json_value() -> BoxedStrategy<Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[a-z0-9 .,:{}\\[\\]\"+-]{0,16}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            vec(("(id|name|email|error|specialValue|linkedRecordIds|.{0,4})", inner), 0..4)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Each type as often as any other, however many fields it has.
fn some_field() -> impl Strategy<Value = Field> {
    let all = fields();
    proptest::sample::select(kinds()).prop_flat_map(move |kind| {
        let of_kind: Vec<_> = all.iter().filter(|field| field.kind == kind).cloned().collect();
        proptest::sample::select(of_kind)
    })
}

fn field_and_value() -> impl Strategy<Value = (Field, Value)> {
    some_field().prop_flat_map(|field| {
        let value = raw(&field);
        (Just(field), value)
    })
}

/// The text that Postgres holds once Directus has stored what its REST API was sent (docs: field types).
fn stored_by_directus(field: &Field, sent: &Json) -> Option<String> {
    Some(match (&field.kind, sent) {
        (_, Json::Null) => return None,
        // A text in a JSON field is JSON source.
        (FieldKind::Json, Json::String(source)) => source.clone(),
        (FieldKind::Csv, Json::Array(elements)) => {
            elements.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(",")
        }
        (FieldKind::Boolean, Json::Bool(flag)) => String::from(if *flag { "t" } else { "f" }),
        (_, Json::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    })
}

/// What a side may not be able to keep, however it is written.
fn may_be_refused(field: &Field, value: &Value) -> bool {
    match value {
        // Years of more than four digits; the digits of a double.
        Value::Date(_) | Value::Timestamp(_) | Value::Decimal(_) => true,
        Value::Int(_) => field.kind == FieldKind::BigInt,
        // A text that is a JSON array or an array literal itself, alone in a list.
        Value::Text(_) => {
            field.form_on_directus().part == Part::OneElement
                || field.form_on_airtable().part == Part::OneElement
        }
        // Labels with commas in a text with commas; labels that a code table does not have.
        Value::Set(_) | Value::List(_) => {
            [field.form_on_airtable().part, field.form_on_directus().part].contains(&Part::Csv)
        }
        _ => false,
    }
}

fn same(back: &Cell, value: &Value) -> bool {
    match back {
        Cell::Value(back) => back == value,
        Cell::Link(None) => value.is_null(),
        Cell::Link(Some(SideKey(key))) => value.to_sql().as_deref() == Some(key),
        Cell::Links(keys) => {
            Value::set(keys.iter().map(|key| key.0.to_string()).collect()) == *value
        }
        Cell::Refused(_) => false,
    }
}

/// The two halves of a full name, in one Airtable cell.
fn named() -> Entity {
    let half = |part| field(FieldKind::Text, Some(part), Part::Whole, None);
    Entity {
        name: String::from("member"),
        table: String::from("member"),
        airtable: None,
        directus: None,
        deletes: DeletePolicy::Hold,
        matches: Vec::new(),
        password: None,
        caution: crate::mapping::Caution::default(),
        guard: crate::mapping::MassGuard::default(),
        rows: crate::mapping::Rows::default(),
        fields: vec![half(Part::FirstOfFullName), half(Part::LastOfFullName)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn mapping_normalising_twice_changes_nothing((field, value) in field_and_value()) {
        if let Cell::Value(once) = field.normalise(value) {
            prop_assert_eq!(field.normalise(once.clone()), Cell::Value(once));
        }
    }

    #[test]
    fn mapping_value_comes_back_from_airtable((field, value) in field_and_value()) {
        let Cell::Value(value) = field.normalise(value) else { return Ok(()) };
        if field.airtable.is_none() || field.kind == FieldKind::Computed {
            return Ok(());
        }
        let is_half = matches!(field.form_on_airtable().part, Part::FirstOfFullName | Part::LastOfFullName);
        let is_link = matches!(field.kind, FieldKind::Link { .. });
        match field.write_airtable(&value) {
            Ok(_) if is_half => {}
            Ok(json) => {
                let back = field.read_airtable(Some(&json), CellFormat::Rest);
                prop_assert!(same(&back, &value), "{:?} → {} → {:?}", value, json, back);
            }
            Err(refusal) => prop_assert!(
                is_link || may_be_refused(&field, &value),
                "{:?} was refused: {}", value, refusal.reason
            ),
        }
    }

    #[test]
    fn mapping_value_comes_back_from_directus_and_its_log((field, value) in field_and_value()) {
        let Cell::Value(value) = field.normalise(value) else { return Ok(()) };
        if field.kind == FieldKind::Computed {
            return Ok(());
        }
        match field.write_directus(&value) {
            Ok(json) => {
                if field.kind != FieldKind::Json {
                    let back = field.read_directus_json(&json);
                    prop_assert!(same(&back, &value), "{:?} → {} → {:?}", value, json, back);
                }
                let stored = stored_by_directus(&field, &json);
                let back = field.read_postgres(stored.as_deref().map(str::as_bytes));
                prop_assert!(same(&back, &value), "{:?} → {:?} → {:?}", value, stored, back);
            }
            Err(refusal) => prop_assert!(
                may_be_refused(&field, &value),
                "{:?} was refused: {}", value, refusal.reason
            ),
        }
    }

    #[test]
    fn mapping_value_comes_back_from_canonical_and_from_the_journal((field, value) in field_and_value()) {
        let Cell::Value(value) = field.normalise(value) else { return Ok(()) };
        prop_assert_eq!(field.read_canonical(value.to_sql().as_deref()), value.clone());
        prop_assert_eq!(field.from_json(&value.to_json()), value);
    }

    #[test]
    fn mapping_full_name_comes_back_from_its_cell(
        given in option::of("[A-Za-zé' \\u{a0}\n-]{0,20}"), family in option::of("[A-Za-zé' ,\\u{a0}-]{0,20}")
    ) {
        let entity = named();
        let numbers = entity.fields_of_airtable(FieldNo(0));
        prop_assert_eq!(&numbers, &[FieldNo(0), FieldNo(1)]);
        let value = |no: FieldNo, text: Option<String>| {
            match entity.field(no).normalise(text.map_or(Value::Null, Value::Text)) {
                Cell::Value(value) => value,
                other => panic!("{other:?}"),
            }
        };
        let (given, family) = (value(FieldNo(0), given), value(FieldNo(1), family));
        match join_airtable(&entity, &[(FieldNo(0), &given), (FieldNo(1), &family)]) {
            Ok(cell) => {
                let read = |no| entity.field(no).read_airtable(Some(&cell), CellFormat::Rest);
                prop_assert_eq!(read(FieldNo(0)), Cell::Value(given));
                prop_assert_eq!(read(FieldNo(1)), Cell::Value(family));
            }
            Err(refusal) => prop_assert!(
                family.to_sql().is_some_and(|family| family.contains(',')), "{}", refusal.reason
            ),
        }
    }

    #[test]
    fn mapping_any_json_is_read_or_refused_and_stays_as_it_is_read(
        field in some_field(), json in option::of(json_value()), v2 in any::<bool>()
    ) {
        let format = if v2 { CellFormat::V2 } else { CellFormat::Rest };
        for cell in [field.read_airtable(json.as_ref(), format), field.read_directus_json(&json.clone().unwrap_or_default())] {
            if let Cell::Value(value) = cell {
                prop_assert_eq!(field.normalise(value.clone()), Cell::Value(value));
            }
        }
    }

    #[test]
    fn mapping_any_text_is_read_or_refused_and_stays_as_it_is_read(
        field in some_field(),
        text in prop_oneof![
            vec(any::<u8>(), 0..30),
            any::<String>().prop_map(String::into_bytes),
            "[0-9+:.eE \\-TZ]{0,30}".prop_map(String::into_bytes),
            "[\\[{\"][a-z0-9,\"\\\\:]{0,20}[\\]}\"]".prop_map(String::into_bytes),
        ]
    ) {
        for cell in [field.read_postgres(Some(&text)), field.read_element_postgres(Some(&text))] {
            if let Cell::Value(value) = cell
                && field.kind != FieldKind::MultiSelect
            {
                if matches!(field.normalise(value.clone()), Cell::Refused(_)) {
                    continue; // an element of a type that is no set
                }
                let again = field.normalise(value.clone());
                if !matches!(value, Value::Text(_)) || field.kind.is_text() {
                    prop_assert!(matches!(again, Cell::Value(_)));
                }
            }
        }
        if let Cell::Value(value) = field.read_postgres(Some(&text)) {
            prop_assert_eq!(field.normalise(value.clone()), Cell::Value(value));
        }
        if let Ok(text) = std::str::from_utf8(&text) {
            field.read_canonical(Some(text));
        }
    }
}

fn plain(kind: FieldKind) -> Field {
    field(kind, Some(Part::Whole), Part::Whole, None)
}

fn kind_of(cell: &Cell) -> Option<RefusalKind> {
    match cell {
        Cell::Refused(refusal) => Some(refusal.kind),
        _ => None,
    }
}

#[test]
fn mapping_airtable_cells_of_both_formats_are_one_value() {
    let (rest, v2) = (CellFormat::Rest, CellFormat::V2);
    let select = field(FieldKind::Select, Some(Part::Whole), Part::Whole, Some(&codes()));
    let health = Cell::Value(Value::Text(String::from("health")));
    assert_eq!(select.read_airtable(Some(&json!("Santé")), rest), health);
    let choice = json!({ "id": "selA", "name": "Sante\u{301}", "color": "blueLight2" });
    assert_eq!(select.read_airtable(Some(&choice), v2), health);
    assert_eq!(
        kind_of(&select.read_airtable(Some(&json!("Autre")), rest)),
        Some(RefusalKind::UnknownChoice)
    );

    let sectors = field(FieldKind::MultiSelect, Some(Part::Whole), Part::Whole, Some(&codes()));
    let set = Cell::Value(Value::set(vec![String::from("energy"), String::from("health")]));
    assert_eq!(sectors.read_airtable(Some(&json!(["Santé", "Énergie, eau"])), rest), set);
    assert_eq!(
        sectors.read_airtable(Some(&json!([{ "id": "selB", "name": "Énergie, eau" }, choice])), v2),
        set
    );

    let link = plain(FieldKind::Link { target: EntityNo(0) });
    let rec = Cell::Link(Some(SideKey::from("recA")));
    assert_eq!(link.read_airtable(Some(&json!(["recA"])), rest), rec);
    assert_eq!(link.read_airtable(Some(&json!([{ "id": "recA", "name": "A" }])), v2), rec);
    assert_eq!(link.read_airtable(None, rest), Cell::Link(None));
    assert_eq!(
        kind_of(&link.read_airtable(Some(&json!(["recA", "recB"])), rest)),
        Some(RefusalKind::WrongType)
    );

    let person = plain(FieldKind::Collaborator);
    let mail = Cell::Value(Value::Text(String::from("a@example.org")));
    assert_eq!(
        person.read_airtable(
            Some(&json!({ "id": "usrA", "email": "A@Example.org", "name": "A" })),
            rest
        ),
        mail
    );
    assert_eq!(
        person.read_airtable(Some(&json!({ "id": "ugpA", "name": "Staff" })), v2),
        Cell::Value(Value::Text(String::from("ugpA")))
    );
}

#[test]
fn mapping_empty_cells_are_null_and_unset_checkboxes_are_no() {
    let (rest, no) = (CellFormat::Rest, Cell::Value(Value::Bool(false)));
    let checkbox = plain(FieldKind::Boolean);
    assert_eq!(checkbox.read_airtable(None, rest), no);
    assert_eq!(checkbox.read_airtable(Some(&Json::Null), CellFormat::V2), no);
    assert_eq!(checkbox.read_postgres(None), no);
    assert_eq!(
        field(FieldKind::Boolean, None, Part::Whole, None).read_postgres(None),
        Cell::Value(Value::Null)
    );
    let text = plain(FieldKind::Text);
    for empty in [None, Some(json!(null)), Some(json!(""))] {
        assert_eq!(text.read_airtable(empty.as_ref(), rest), Cell::Value(Value::Null));
    }
    assert_eq!(text.read_postgres(Some(b"")), Cell::Value(Value::Null));
    assert_eq!(plain(FieldKind::Csv).read_directus_json(&json!([])), Cell::Value(Value::Null));
}

#[test]
fn mapping_cells_that_do_not_fit_are_refused_with_the_reason() {
    let rest = CellFormat::Rest;
    let money = plain(FieldKind::Currency { scale: Some(2) });
    let refused = |cell: Cell| match cell {
        Cell::Refused(refusal) => (refusal.kind, refusal.reason),
        other => panic!("{other:?} was taken"),
    };
    let (kind, reason) =
        refused(money.read_airtable(Some(&json!({ "specialValue": "NaN" })), rest));
    assert_eq!(
        (kind, reason.starts_with("`cell` is not a finite number")),
        (RefusalKind::OutOfRange, true)
    );
    let (kind, reason) = refused(money.read_airtable(Some(&json!({ "error": "#ERROR!" })), rest));
    assert_eq!((kind, reason.contains("error of a formula")), (RefusalKind::WrongType, true));
    assert_eq!(refused(money.read_postgres(Some(b"NaN"))).0, RefusalKind::OutOfRange);
    assert_eq!(refused(money.read_postgres(Some(b"1.005"))).0, RefusalKind::OutOfRange);
    let text = plain(FieldKind::Text);
    assert_eq!(refused(text.read_postgres(Some(b"\xff\xfe"))).0, RefusalKind::Unstorable);
    assert_eq!(refused(text.read_airtable(Some(&json!("a\0b")), rest)).0, RefusalKind::Unstorable);
    let (kind, reason) = refused(text.read_airtable(Some(&json!(12)), rest));
    assert_eq!(
        (kind, reason.as_str()),
        (
            RefusalKind::WrongType,
            "`cell` is not of the type `text`: check the type of the field on that side"
        )
    );
    assert_eq!(
        refused(plain(FieldKind::Rating).read_airtable(Some(&json!(0)), rest)).0,
        RefusalKind::OutOfRange
    );
    assert_eq!(
        refused(plain(FieldKind::Duration).read_airtable(Some(&json!(1.5)), rest)).0,
        RefusalKind::WrongType
    );
    let one = field(FieldKind::Text, Some(Part::OneElement), Part::Whole, None);
    assert_eq!(
        refused(one.read_airtable(Some(&json!(["a", "b"])), rest)).0,
        RefusalKind::WrongType
    );
    assert_eq!(
        one.read_airtable(Some(&json!(["a"])), rest),
        Cell::Value(Value::Text(String::from("a")))
    );
}

#[test]
fn mapping_instants_are_cut_to_what_the_apis_carry() {
    let text = b"2024-02-29 08:45:10.123456+00";
    let at = plain(FieldKind::DateTime { millis: true });
    let cut = Value::Timestamp(1_709_196_310_123_000);
    assert_eq!(at.read_postgres(Some(text)), Cell::Value(cut.clone()));
    assert_eq!(at.write_airtable(&cut).unwrap(), json!("2024-02-29T08:45:10.123Z"));
    let exact = field(FieldKind::DateTime { millis: false }, None, Part::Whole, None);
    assert_eq!(
        exact.read_postgres(Some(text)),
        Cell::Value(Value::Timestamp(1_709_196_310_123_456))
    );
}

#[test]
fn mapping_computed_errors_are_values() {
    let computed = plain(FieldKind::Computed);
    for cell in
        [json!({ "error": "#ERROR!" }), json!({ "specialValue": "NaN" }), json!(1.5), json!(["a"])]
    {
        assert_eq!(
            computed.read_airtable(Some(&cell), CellFormat::Rest),
            Cell::Value(Value::Json(cell))
        );
    }
    assert!(computed.write_airtable(&Value::Json(json!(1))).is_err());
}

#[test]
fn mapping_junction_rows_are_elements() {
    let junction = |codes| DirectusField::Junction {
        table: String::from("member_role"),
        key: String::from("id"),
        parent: String::from("member"),
        element: String::from("role"),
        codes,
    };
    let mut roles = plain(FieldKind::MultiSelect);
    roles.directus = Some(junction(Some(codes())));
    let health = Value::Text(String::from("health"));
    assert_eq!(roles.read_element_postgres(Some("Santé".as_bytes())), Cell::Value(health));
    assert_eq!(roles.read_element_postgres(None), Cell::Value(Value::Null));
    let set = Cell::Value(Value::set(vec![String::from("health")]));
    assert_eq!(roles.read_directus_json(&json!([{ "id": 1, "role": "Santé" }])), set);
    let mut interested = plain(FieldKind::Links { target: EntityNo(0) });
    interested.directus = Some(junction(None));
    assert_eq!(interested.read_element_postgres(Some(b"7")), Cell::Link(Some(SideKey::from("7"))));
    assert_eq!(
        interested.read_directus_json(&json!([{ "role": 7 }, { "role": 8 }])),
        Cell::Links(vec![SideKey::from("7"), SideKey::from("8")])
    );
}
