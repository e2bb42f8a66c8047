//! Rounds, investments, cash flows, valuations and legal events, whose figures belong together: an investment
//! pays its round's price, its subscription is what it cost, a capital increase follows a round.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::ids::Rng;
use super::rows::{SeedLink, iso, link};
use super::words::{LEADS, STARTUPS};

/// Flows from here on are what came back; those before are the subscriptions of the investments with their number.
const SUBSCRIPTION_COUNT: usize = 750;

/// The same numbers for the same thing, whoever asks.
fn numbers_of(what: u64, row: usize) -> Rng {
    Rng::new(super::SEED ^ (what << 32) ^ row as u64)
}

fn euros(cents: usize) -> Value {
    json!(f64::from(u32::try_from(cents).unwrap_or(u32::MAX)) / 100.0)
}

/// Year, month and day of a startup's beginning.
pub(super) fn founded(startup: usize) -> (usize, usize, usize) {
    let mut rng = numbers_of(1, startup);
    (2015 + rng.below(6), 1 + rng.below(12), 1 + rng.below(28))
}

/// A startup's capital when it began, euros.
pub(super) fn capital(startup: usize) -> usize {
    1000 * (1 + numbers_of(2, startup).below(40))
}

/// A round's facts; the second round of a startup is 50 rows after its first.
struct Round {
    startup: usize,
    year: usize,
    pre_money: usize,
    price_cents: usize,
    raised: usize,
}

fn facts(row: usize) -> Round {
    let startup = row % 50;
    let mut rng = numbers_of(3, startup);
    let (first_year, shares) = (founded(startup).0 + 2, 10_000 * (2 + rng.below(8)));
    let first = 100_000 * (6 + rng.below(20));
    let second = first / 10 * (13 + rng.below(20));
    let is_second = row >= 50;
    let pre_money = if is_second { second } else { first };
    let year = if is_second { first_year + 2 } else { first_year };
    Round {
        startup,
        year,
        pre_money,
        price_cents: pre_money * 100 / shares,
        raised: pre_money / (3 + rng.below(4)),
    }
}

pub(super) fn round(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    let round = facts(row);
    link(links, "Startup", "Startups", vec![round.startup]);
    let kind = if row < 50 {
        ["Love money", "Pré-amorçage", "Amorçage", "Amorçage"][rng.below(4)]
    } else {
        ["Amorçage", "Relais", "Série A", "Série A", "Série B"][rng.below(5)]
    };
    json!({
        "Nom": format!("{kind} {} – {}", round.year, STARTUPS[round.startup]), "Type": kind,
        "Ouvert le": format!("{}-{:02}-{:02}", round.year, 1 + rng.below(3), 1 + rng.below(28)),
        "Clos le": format!("{}-12-{:02}", round.year, 1 + rng.below(28)), "Pré-money": round.pre_money,
        "Montant visé": round.raised / 1000 * 1100, "Montant levé": round.raised, "Chef de file": rng.pick(&LEADS),
    })
}

struct Investment {
    round: usize,
    quantity: usize,
    amount_cents: usize,
    signed_on: String,
    status: &'static str,
}

fn investment_facts(row: usize) -> Investment {
    let mut rng = numbers_of(4, row);
    let round = rng.below(100);
    let (price_cents, year) = (facts(round).price_cents.max(1), facts(round).year);
    let wished = 100_000 * [1, 2, 3, 5, 5, 8, 10, 15, 20, 30][rng.below(10)];
    let quantity = (wished / price_cents).max(1);
    let status = if row >= SUBSCRIPTION_COUNT {
        "Engagé"
    } else {
        match rng.below(24) {
            0 => "Sorti",
            1 => "Sorti en partie",
            2 => "Perte totale",
            3..6 => "Payé",
            _ => "Détenu",
        }
    };
    let signed_on = format!("{year}-{:02}-{:02}", 4 + rng.below(6), 1 + rng.below(28));
    Investment { round, quantity, amount_cents: quantity * price_cents, signed_on, status }
}

pub(super) fn investment(
    rng: &mut Rng,
    row: usize,
    links: &mut BTreeMap<String, SeedLink>,
) -> Value {
    let facts_of_it = investment_facts(row);
    let round = facts(facts_of_it.round);
    link(links, "Membre", "Membres", vec![rng.below(320)]);
    link(links, "Startup", "Startups", vec![round.startup]);
    link(links, "Tour", "Tours", vec![facts_of_it.round]);
    let is_paid = facts_of_it.status != "Engagé";
    let comment = if row % 31 == 7 { json!("Souscrit via une SPV.") } else { Value::Null };
    json!({
        "Référence": format!("INV-{:04}", row + 1),
        "Instrument": (["Actions ordinaires", "Actions ordinaires", "Actions de préférence", "BSA-AIR", "Obligations convertibles", "Obligations convertibles en actions"][rng.below(6)]),
        "Statut": facts_of_it.status, "Engagé": euros(facts_of_it.amount_cents),
        "Montant": if is_paid { euros(facts_of_it.amount_cents) } else { Value::Null },
        "Date de signature": facts_of_it.signed_on, "Quantité": facts_of_it.quantity,
        "Prix unitaire": euros(round.price_cents.max(1)), "Enveloppe": (["CTO", "PEA", "PEA-PME"][rng.below(3)]),
        "Commentaire": comment,
    })
}

/// Lines that have ended, in part or whole: their ends are the first flows after the subscriptions.
fn ended() -> Vec<usize> {
    let has_ended = |row: &usize| {
        ["Sorti", "Sorti en partie", "Perte totale"].contains(&investment_facts(*row).status)
    };
    (0..SUBSCRIPTION_COUNT).filter(has_ended).collect()
}

pub(super) fn flow(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    let is_subscription = row < SUBSCRIPTION_COUNT;
    let end = if is_subscription { None } else { ended().get(row - SUBSCRIPTION_COUNT).copied() };
    let of = match end {
        Some(end) => end,
        None if is_subscription => row,
        None => {
            // Of one that goes on.
            let some = rng.below(SUBSCRIPTION_COUNT);
            let ended = ended();
            (some..SUBSCRIPTION_COUNT)
                .chain(0..some)
                .find(|row| !ended.contains(row))
                .unwrap_or(some)
        }
    };
    link(links, "Investissement", "Investissements", vec![of]);
    let investment = investment_facts(of);
    let year: usize =
        investment.signed_on.split('-').next().and_then(|year| year.parse().ok()).unwrap_or(2021);
    let (amount, quantity) = (investment.amount_cents, investment.quantity);
    let part = |percent: usize| amount * percent / 100;
    let (kind, cents, quantity) = match (end, investment.status) {
        _ if is_subscription => ("Souscription", amount, Some(quantity)),
        (Some(_), "Sorti") => ("Cession", part(60 + rng.below(300)), Some(quantity)),
        (Some(_), "Sorti en partie") => {
            let sold = (quantity / 2).max(1);
            ("Cession", part(60 + rng.below(300)) * sold / quantity, Some(sold))
        }
        (Some(_), _) => ("Liquidation", part(rng.below(40)), Some(quantity)),
        _ => match rng.below(4) {
            0 => ("Frais", part(1 + rng.below(3)), None),
            1 => ("Intérêts", part(2 + rng.below(5)), None),
            _ => ("Dividende", part(1 + rng.below(6)), None),
        },
    };
    let sign = if ["Souscription", "Frais"].contains(&kind) { -1.0 } else { 1.0 };
    let after = (year + 1).min(2025);
    let date = if is_subscription {
        investment.signed_on.clone()
    } else {
        iso(rng, after, (2026 - after).min(3))
    };
    let note = if row % 41 == 3 { json!("Virement reçu en deux fois.") } else { Value::Null };
    json!({
        "Libellé": format!("{kind} INV-{:04}", of + 1), "Type": kind, "Date": date,
        "Montant": euros(cents).as_f64().map(|euros| sign * euros), "Quantité": quantity, "Note": note,
    })
}

pub(super) fn valuation(
    rng: &mut Rng,
    row: usize,
    links: &mut BTreeMap<String, SeedLink>,
) -> Value {
    let startup = row % 50;
    link(links, "Startup", "Startups", vec![startup]);
    let year = 2022 + row / 50;
    let last = facts(if facts(startup + 50).year <= year { startup + 50 } else { startup });
    // From the last round's price, 40 % to 160 % of it as things went; exact to the eighth digit.
    let percent = 40 + rng.below(121);
    let price = last.price_cents * percent;
    let method = match percent {
        0..60 => "Dépréciation",
        60..95 => ["Multiple", "Actif net"][rng.below(2)],
        95..106 => ["Tour récent", "Coût"][rng.below(2)],
        _ => ["Jalons", "Actualisation des flux", "Offre reçue"][rng.below(3)],
    };
    json!({
        "Libellé": format!("Valorisation {year} – {}", STARTUPS[startup]), "Date": format!("{year}-12-31"),
        "Méthode": method, "Prix par action": f64::from(u32::try_from(price).unwrap_or(u32::MAX)) / 10_000.0,
        "Valeur des fonds propres": last.pre_money / 100 * percent,
        "Approuvée le": format!("{}-{:02}-{:02}", year + 1, 2 + rng.below(5), 1 + rng.below(28)),
        "Commentaire": if percent < 60 { json!("Trésorerie sous six mois ; provision décidée en comité.") } else { Value::Null },
    })
}

pub(super) fn legal_event(
    rng: &mut Rng,
    row: usize,
    links: &mut BTreeMap<String, SeedLink>,
) -> Value {
    let startup = row % 50;
    link(links, "Startup", "Startups", vec![startup]);
    let (year, month, date) = founded(startup);
    let began = capital(startup);
    let increased = began + facts(startup).raised / 10;
    let later = [
        "Transfert de siège",
        "Changement de dirigeant",
        "Pacte d'associés",
        "Modification des statuts",
        "Émission de BSA",
        "Conversion",
    ];
    let (kind, decided, before, after) = match row / 50 {
        0 => ("Constitution", (year, month, date), Value::Null, json!(began)),
        1 => (
            "Augmentation de capital en numéraire",
            (facts(startup).year, 10, date),
            json!(began),
            json!(increased),
        ),
        _ => (
            later[rng.below(6)],
            (facts(startup).year + 1, month, date),
            json!(increased),
            json!(increased),
        ),
    };
    let (year, month, day) = decided;
    json!({
        "Libellé": format!("{kind} – {}", STARTUPS[startup]), "Type": kind,
        "Décidé le": format!("{year}-{month:02}-{day:02}"), "Effet le": format!("{year}-{month:02}-{:02}", day.max(28)),
        "Enregistré le": if row % 6 == 5 { Value::Null } else { json!(format!("{}-01-{:02}", year + 1, 1 + rng.below(28))) },
        "Capital avant": before, "Capital après": after, "Dossier complet": !row.is_multiple_of(4),
        "Note": if row % 13 == 4 { json!("Kbis à jour demandé au greffe.") } else { Value::Null },
    })
}
