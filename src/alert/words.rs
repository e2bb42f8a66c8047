//! Alerts and rules in French and English: numbers, dates and codes as people write them.

use bigdecimal::{BigDecimal, RoundingMode};
use chrono::NaiveDate;
use serde_json::Value as Json;

use super::{
    Codes, Facts, Labels, Watch,
    valuation::{Fall, Measure},
    watch::Lens,
};
use crate::model::Language;

const BOTH: [Language; 2] = [Language::Fr, Language::En];
/// Letters of a value in a sentence.
const LENGTH_MAX: usize = 80;
/// Keeps a number together with its unit.
const FIXED_SPACE: char = '\u{a0}';

impl Language {
    fn pick<'t>(self, fr: &'t str, en: &'t str) -> &'t str {
        match self {
            Self::Fr => fr,
            Self::En => en,
        }
    }

    /// Between a name and what is said of it.
    fn colon(self) -> String {
        match self {
            Self::Fr => format!("{FIXED_SPACE}: "),
            Self::En => ": ".into(),
        }
    }

    fn quoted(self, text: &str) -> String {
        match self {
            Self::Fr => format!("«{FIXED_SPACE}{text}{FIXED_SPACE}»"),
            Self::En => format!("“{text}”"),
        }
    }
}

/// What a legal event says of itself.
pub(super) struct LegalEvent {
    pub(super) company: Option<String>,
    pub(super) label: Option<String>,
    pub(super) code: String,
    pub(super) decided_on: Option<NaiveDate>,
    /// Before and after.
    pub(super) capital: [Option<BigDecimal>; 2],
    pub(super) currency: String,
}

/// `Voile Solaire: Capital increase in cash, decided on 2026-03-12, share capital €10,000.00 → €15,000.00 (“AK”)`
pub(super) fn legal_event(event: &LegalEvent, facts: &Facts) -> [String; 2] {
    let labels = facts.codes.of("legal_event", "kind_code");
    BOTH.map(|lang| {
        let no_company = lang.pick("Société non indiquée", "No company given");
        let mut text = event.company.clone().unwrap_or_else(|| no_company.into());
        text.push_str(&lang.colon());
        text.push_str(&code(&event.code, labels, lang));
        if let Some(day) = event.decided_on {
            let decided = lang.pick(", décision du ", ", decided on ");
            text.push_str(&format!("{decided}{}", date(day, lang)));
        }
        if event.capital.iter().any(Option::is_some) {
            let [before, after] = event.capital.each_ref().map(|value| match value {
                Some(value) => money(value, &event.currency, lang),
                None => "?".into(),
            });
            let capital = lang.pick(", capital social ", ", share capital ");
            text.push_str(&format!("{capital}{before} → {after}"));
        }
        if let Some(label) = &event.label {
            text.push_str(&format!(" ({})", lang.quoted(&short(label))));
        }
        text
    })
}

/// `Voile Solaire: value down by 40 %, price of ordinary shares €100.00 (2024-12-31) → €60.00 (2025-12-31)`
pub(super) fn valuation(company: &str, fall: &Fall, facts: &Facts) -> [String; 2] {
    BOTH.map(|lang| {
        let measure = match &fall.measure {
            Measure::Price(class) => {
                let labels = facts.codes.of("valuation", "instrument_code");
                format!(
                    "{} ({})",
                    lang.pick("prix unitaire", "unit price"),
                    code(class, labels, lang)
                )
            }
            Measure::Equity => lang.pick("valeur des fonds propres", "equity value").into(),
        };
        let [before, after] = [&fall.before, &fall.after].map(|point| {
            let value = money(&point.value, &fall.currency, lang);
            format!("{value} ({})", date(point.as_of, lang))
        });
        format!(
            "{company}{}{} {}, {measure} {before} → {after}",
            lang.colon(),
            lang.pick("valorisation en baisse de", "valuation down by"),
            percent(fall, lang)
        )
    })
}

/// `Voile (Voile Solaire): stage Pitch → Committee`
pub(super) fn field(
    watch: &Watch,
    field: &str,
    name: &str,
    before: &Json,
    after: &Json,
    facts: &Facts,
) -> [String; 2] {
    let labels = match &watch.lens {
        Lens::Field { reference: (table, column), .. } => facts.codes.of(table, column),
        _ => None,
    };
    BOTH.map(|lang| {
        let what = match watch.rule.on.kind() {
            "stage_change" => lang.pick("étape", "stage"),
            "member_status" => lang.pick("statut", "status"),
            _ => field,
        };
        let [before, after] = [before, after].map(|value| shown(value, labels, facts, lang));
        format!("{name}{}{what} {before} → {after}", lang.colon())
    })
}

fn shown(value: &Json, labels: Option<&Labels>, facts: &Facts, lang: Language) -> String {
    match value {
        Json::Null => lang.pick("(vide)", "(empty)").into(),
        Json::Bool(true) => lang.pick("oui", "yes").into(),
        Json::Bool(false) => lang.pick("non", "no").into(),
        Json::String(text) => {
            let name = uuid::Uuid::try_parse(text).ok().and_then(|id| facts.names.get(&id));
            name.map_or_else(|| code(text, labels, lang), |name| short(name))
        }
        Json::Array(elements) => {
            let texts: Vec<String> =
                elements.iter().map(|element| shown(element, labels, facts, lang)).collect();
            short(&texts.join(", "))
        }
        other => short(&other.to_string()),
    }
}

/// The label of a code; one that the reference table does not have is told as it is.
fn code(code: &str, labels: Option<&Labels>, lang: Language) -> String {
    match labels.and_then(|labels| labels.get(code)) {
        Some((fr, en)) => lang.pick(fr, en).to_owned(),
        None => short(code),
    }
}

pub(super) fn short(text: &str) -> String {
    let one_line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if one_line.chars().count() <= LENGTH_MAX {
        return one_line;
    }
    let mut short: String = one_line.chars().take(LENGTH_MAX - 1).collect();
    short.push('…');
    short
}

/// A decimal as the journal keeps it: a text, or a number from elsewhere.
pub(super) fn decimal(value: Option<&Json>) -> Option<BigDecimal> {
    match value? {
        Json::String(text) => text.parse().ok(),
        Json::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn date(day: NaiveDate, lang: Language) -> String {
    match lang {
        Language::Fr => day.format("%d/%m/%Y").to_string(),
        Language::En => day.format("%Y-%m-%d").to_string(),
    }
}

fn percent(fall: &Fall, lang: Language) -> String {
    let tenths = fall.permille();
    let whole = (&tenths / BigDecimal::from(10)).with_scale_round(1, RoundingMode::Down);
    let text = whole.normalized().to_plain_string();
    match lang {
        Language::Fr => format!("{}{FIXED_SPACE}%", text.replace('.', ",")),
        Language::En => format!("{text}{FIXED_SPACE}%"),
    }
}

/// All digits there are, two of them behind the point at least.
fn money(value: &BigDecimal, currency: &str, lang: Language) -> String {
    let mut value = value.normalized();
    if value.fractional_digit_count() < 2 {
        value = value.with_scale(2);
    }
    let text = value.to_plain_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "00"));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(if lang == Language::Fr { FIXED_SPACE } else { ',' });
        }
        grouped.push(digit);
    }
    match (lang, currency) {
        (Language::Fr, "EUR") => format!("{sign}{grouped},{fraction}{FIXED_SPACE}€"),
        (Language::Fr, _) => format!("{sign}{grouped},{fraction}{FIXED_SPACE}{currency}"),
        (Language::En, "EUR") => format!("{sign}€{grouped}.{fraction}"),
        (Language::En, _) => format!("{sign}{currency}{FIXED_SPACE}{grouped}.{fraction}"),
    }
}

/// Where a change was made, for people.
pub(crate) fn side_words(side: &str) -> &str {
    match side {
        "airtable" => "Airtable",
        "directus" => "Directus",
        "plait" => "Plait",
        other => other,
    }
}

/// Who made a change, for people: where only the way is known, that.
pub(crate) fn author_words(author: &str, lang: Language) -> &str {
    match author {
        "snapshot" | "listing" => lang
            .pick("auteur inconnu (relecture complète)", "unknown (found by reading everything)"),
        "sql" | "unknown" => lang.pick("auteur inconnu", "unknown"),
        other => other,
    }
}

/// A rule in words.
pub(crate) fn rule_words(watch: &Watch, codes: &Codes, lang: Language) -> String {
    let list = |given: &[String], labels: Option<&Labels>| {
        let words: Vec<String> = given.iter().map(|it| code(it, labels, lang)).collect();
        words.join(lang.pick(" ou ", " or "))
    };
    match &watch.lens {
        Lens::LegalEvent { kinds, .. } if kinds.is_empty() => {
            lang.pick("un événement juridique apparaît", "a legal event appears").into()
        }
        Lens::LegalEvent { kinds, .. } => format!(
            "{}{}{}",
            lang.pick("un événement juridique apparaît", "a legal event appears"),
            lang.colon(),
            list(kinds, codes.of("legal_event", "kind_code"))
        ),
        Lens::ValuationDown { by_percent, .. } => match lang {
            Language::Fr => format!(
                "une valorisation approuvée est inférieure d'au moins {by_percent}{FIXED_SPACE}% à la précédente"
            ),
            Language::En => format!(
                "an approved valuation is {by_percent}{FIXED_SPACE}% or more below the one before it"
            ),
        },
        Lens::Field { field, from, to, reference: (table, column), .. } => {
            let labels = codes.of(table, column);
            let mut text = match (watch.rule.on.kind(), lang) {
                ("stage_change", Language::Fr) => "un projet change d'étape".into(),
                ("stage_change", Language::En) => "a project changes stage".into(),
                ("member_status", Language::Fr) => "un membre change de statut".into(),
                ("member_status", Language::En) => "a member's status changes".into(),
                (_, Language::Fr) => format!("{}.{field} change", watch.entity),
                (_, Language::En) => format!("{}.{field} changes", watch.entity),
            };
            if !from.is_empty() {
                let word = lang.pick("de", "from");
                text.push_str(&format!(", {word} {}", list(from, labels)));
            }
            if !to.is_empty() {
                let word = lang.pick("vers", "to");
                text.push_str(&format!(", {word} {}", list(to, labels)));
            }
            text
        }
    }
}
