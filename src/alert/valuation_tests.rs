//! Which valuations alert, to the cent.

use serde_json::{Value as Json, json};

use super::{
    Watch,
    tests::{OTHER_COMPANY, World, object, only, watch},
};
use crate::config::alert::On;

fn third() -> Vec<Watch> {
    watch(On::ValuationDown { by_percent: 33 })
}

#[test]
fn alert_valuation_is_compared_to_the_cent() {
    for (before, after, is_told) in [
        ("100.00", "67.00", true),
        ("100.00", "67.01", false),
        ("300", "200", true),
        ("0.03000000", "0.02010000", true),
        ("0.03000000", "0.02010001", false),
        ("123456789012.34", "82716048638.26", true),
        ("123456789012.34", "82716048638.27", false),
        ("100", "100", false),
        ("100", "250", false),
        ("0", "0", false),
        ("100", "0", true),
    ] {
        let mut world = World::new();
        world.new_valuation(
            1,
            &json!({ "as_of": "2024-12-31", "price": before, "approved_on": "2025-01-10" }),
        );
        let entry = world.new_valuation(
            2,
            &json!({ "as_of": "2025-12-31", "price": after, "approved_on": "2026-01-10" }),
        );
        assert_eq!(world.see(&third(), &entry).len(), usize::from(is_told), "{before} → {after}");
    }
    // What is said of it: cut, never rounded up.
    let mut world = World::new();
    world.new_valuation(
        1,
        &json!({ "as_of": "2024-12-31", "price": "300", "approved_on": "2025-01-10" }),
    );
    let entry = world.new_valuation(
        2,
        &json!({ "as_of": "2025-12-31", "price": "200.05", "approved_on": "2026-01-10" }),
    );
    let alert = only(world.see(&third(), &entry));
    assert_eq!(
        alert.text_en.replace('\u{a0}', " "),
        "Voile Solaire: valuation down by 33.3 %, unit price (Ordinary shares) €300.00 (2024-12-31) → €200.05 (2025-12-31)"
    );
    assert_eq!(
        alert.text_fr.replace('\u{a0}', " "),
        "Voile Solaire : valorisation en baisse de 33,3 %, prix unitaire (Actions ordinaires) 300,00 € (31/12/2024) → 200,05 € (31/12/2025)"
    );
    assert_eq!(alert.before["price"], "300");
    assert_eq!(alert.after["price"], "200.05");
}

#[test]
fn alert_valuation_counts_once_it_is_approved_and_where_there_is_one_before() {
    let mut world = World::new();
    let first = world.new_valuation(
        1,
        &json!({ "as_of": "2024-12-31", "price": "100", "approved_on": "2025-01-10" }),
    );
    assert!(world.see(&third(), &first).is_empty(), "nothing to compare with");
    // Not approved: neither tells, nor is compared with.
    world.new_valuation(2, &json!({ "as_of": "2025-03-31", "price": "900" }));
    let draft = world.new_valuation(3, &json!({ "as_of": "2025-06-30", "price": "50" }));
    assert!(world.see(&third(), &draft).is_empty());
    let id = draft.record_id;
    let approved = world.change(
        "valuation",
        id,
        "update",
        &json!({ "approved_on": null }),
        &json!({ "approved_on": "2025-07-01" }),
    );
    let alert = only(world.see(&third(), &approved));
    assert_eq!(
        (&alert.before["as_of"], &alert.before["price"]),
        (&json!("2024-12-31"), &json!("100"))
    );
    // A date of approval that is mended, and a comment, change nothing of it; a lower price does.
    let mended = world.change(
        "valuation",
        id,
        "update",
        &json!({ "approved_on": "2025-07-01" }),
        &json!({ "approved_on": "2025-07-02" }),
    );
    assert!(world.see(&third(), &mended).is_empty());
    let noted = world.change(
        "valuation",
        id,
        "update",
        &json!({ "comment": null }),
        &json!({ "comment": "x" }),
    );
    assert!(world.see(&third(), &noted).is_empty());
    let lower = world.change(
        "valuation",
        id,
        "update",
        &json!({ "price": "50" }),
        &json!({ "price": "40" }),
    );
    assert_eq!(only(world.see(&third(), &lower)).after["price"], "40");
    // Late: the entry that approved it still tells the price of then.
    assert_eq!(only(world.see(&third(), &approved)).after["price"], "50");
    // Taken back, and mended upwards: nothing to tell.
    let withdrawn = world.change(
        "valuation",
        id,
        "update",
        &json!({ "approved_on": "2025-07-02" }),
        &json!({ "approved_on": null }),
    );
    assert!(world.see(&third(), &withdrawn).is_empty());
}

#[test]
fn alert_valuation_that_comes_out_of_order_is_compared_with_the_one_before_it_in_time() {
    let mut world = World::new();
    let approved = |as_of: &str, price: &str| json!({ "as_of": as_of, "price": price, "approved_on": "2026-01-10" });
    world.new_valuation(1, &approved("2020-12-31", "100"));
    world.new_valuation(2, &approved("2025-12-31", "90"));
    // Between the two: far below the later one does not count, far below the earlier one does.
    let between = world.new_valuation(3, &approved("2023-12-31", "60"));
    assert_eq!(only(world.see(&third(), &between)).before["price"], "100");
    let oldest = world.new_valuation(4, &approved("2010-12-31", "1"));
    assert!(world.see(&third(), &oldest).is_empty());
    // Two of one day: the one approved later counts.
    let same = world.new_valuation(
        5,
        &json!({ "as_of": "2025-12-31", "price": "50", "approved_on": "2026-02-01" }),
    );
    assert_eq!(only(world.see(&third(), &same)).before["price"], "90");
    // Without a day it has no place in time.
    let timeless = world.new_valuation(6, &json!({ "price": "1", "approved_on": "2026-02-01" }));
    assert!(world.see(&third(), &timeless).is_empty());
}

#[test]
fn alert_valuation_is_compared_within_its_company_class_and_currency() {
    let mut world = World::new();
    let approved = |as_of: &str, rest: &Json| {
        let mut cells = object(&json!({ "as_of": as_of, "approved_on": "2026-01-10" }));
        cells.extend(object(rest));
        json!(cells)
    };
    world.new_valuation(1, &approved("2024-12-31", &json!({ "price": "100" })));
    for (nth, other) in [
        (20, json!({ "price": "10", "instrument_code": "adp" })),
        (21, json!({ "price": "10", "label": "CHF" })),
        (22, json!({ "price": "10", "startup_id": OTHER_COMPANY })),
    ] {
        let entry = world.new_valuation(nth, &approved("2025-12-31", &other));
        assert!(world.see(&third(), &entry).is_empty(), "{other}");
    }
    // The value of all shares, where there is no price.
    world.new_valuation(3, &approved("2025-01-31", &json!({ "equity_value": "900000.00" })));
    let equity =
        world.new_valuation(4, &approved("2026-01-31", &json!({ "equity_value": "600000.00" })));
    let alert = only(world.see(&third(), &equity));
    assert_eq!(alert.after["equity_value"], "600000.00");
    assert!(
        alert.text_en.contains("equity value €900,000.00 (2025-01-31) → €600,000.00"),
        "{}",
        alert.text_en
    );
    // Written off without a figure: nothing is left.
    let lost =
        world.new_valuation(5, &approved("2026-02-28", &json!({ "method_code": "write_off" })));
    let alert = only(world.see(&third(), &lost));
    assert!(alert.text_en.replace('\u{a0}', " ").contains("down by 100 %"), "{}", alert.text_en);
    // No figure at all.
    let empty = world.new_valuation(6, &approved("2026-03-31", &json!({})));
    assert!(world.see(&third(), &empty).is_empty());
}
