//! `[[alert]]`: what people want to be told of. In: sections of the settings. Out: rules, whose codes, entities and
//! fields nobody has compared with the mapping and the database yet ([`crate::alert`] does).

use toml::Spanned;

use crate::document::Section;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// As people call it; no two rules have the same.
    pub(crate) name: String,
    /// `plait.toml:12`; `None`: one of the built-in rules.
    pub(crate) place: Option<String>,
    pub(crate) on: On,
}

/// What a rule looks at. An empty list: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// A legal event of one of these kinds appears.
    LegalEvent { kinds: Vec<String> },
    /// An approved value is this much below the one before it, or more.
    ValuationDown { by_percent: u32 },
    /// A project changes stage.
    StageChange { from: Vec<String>, to: Vec<String> },
    /// A member's status changes.
    MemberStatus { from: Vec<String>, to: Vec<String> },
    /// Any mapped field changes.
    FieldChange { entity: String, field: String, from: Vec<String>, to: Vec<String> },
}

impl On {
    /// The word for it in the settings, the database and the logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::LegalEvent { .. } => "legal_event",
            Self::ValuationDown { .. } => "valuation_down",
            Self::StageChange { .. } => "stage_change",
            Self::MemberStatus { .. } => "member_status",
            Self::FieldChange { .. } => "field_change",
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    LegalEvent,
    ValuationDown,
    StageChange,
    MemberStatus,
    FieldChange,
}

const KINDS: [(&str, Kind); 5] = [
    ("legal_event", Kind::LegalEvent),
    ("valuation_down", Kind::ValuationDown),
    ("stage_change", Kind::StageChange),
    ("member_status", Kind::MemberStatus),
    ("field_change", Kind::FieldChange),
];

/// A fall by a third: 33.33 % is more than this.
const BY_PERCENT: u32 = 33;
const NAME_LENGTH_MAX: usize = 80;

/// The rules that hold where the settings have none.
pub(crate) fn built_in() -> Vec<Rule> {
    let legal = |kinds: &[&str]| On::LegalEvent { kinds: owned(kinds) };
    let any = Vec::new;
    let rules = [
        ("capital_increase", legal(&["augmentation_numeraire", "augmentation_nature"])),
        ("statutes_change", legal(&["modification_statuts"])),
        ("insolvency", legal(&["procedure_collective", "liquidation"])),
        ("valuation_down", On::ValuationDown { by_percent: BY_PERCENT }),
        ("stage_change", On::StageChange { from: any(), to: any() }),
        ("member_left", On::MemberStatus { from: any(), to: owned(&["left"]) }),
    ];
    rules.map(|(name, on)| Rule { name: name.into(), place: None, on }).into()
}

fn owned(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

/// The rules of a document: its own, and the built-in ones where it has none of its own or asks for them.
pub(super) fn read(root: &Section<'_, '_>, file: &str) -> Vec<Rule> {
    let has_built_in = root.flag("built_in_alerts").unwrap_or(root.get("alert").is_none());
    let mut rules = if has_built_in { built_in() } else { Vec::new() };
    for section in root.each("alert") {
        let Some(rule) = rule(&section, file) else { continue };
        if let Some(other) = rules.iter().find(|other| other.name == rule.name) {
            let is = if other.place.is_some() { "a rule" } else { "a built-in rule" };
            let what =
                format!("there is {is} `{}` already: give each a `name` of its own", rule.name);
            let key = if section.get("name").is_some() { "name" } else { "on" };
            section.problem(&section.span_of(key), what);
        }
        rules.push(rule);
    }
    rules
}

fn rule(section: &Section<'_, '_>, file: &str) -> Option<Rule> {
    if section.get("on").is_none() {
        let kinds = KINDS.map(|(name, _)| format!("`{name}`")).join(", ");
        section.problem(&section.span, format!("`on` is missing: one of {kinds}"));
    }
    let kind = section.choice("on", &KINDS)?;
    let on = match kind {
        Kind::LegalEvent => {
            section.only(&["name", "on", "kinds"]);
            On::LegalEvent { kinds: codes(section, "kinds") }
        }
        Kind::ValuationDown => {
            section.only(&["name", "on", "by_percent"]);
            let by_percent = section.whole("by_percent", 1..=100);
            let by_percent = by_percent.and_then(|percent| u32::try_from(percent).ok());
            On::ValuationDown { by_percent: by_percent.unwrap_or(BY_PERCENT) }
        }
        Kind::StageChange => {
            section.only(&["name", "on", "from", "to"]);
            On::StageChange { from: codes(section, "from"), to: codes(section, "to") }
        }
        Kind::MemberStatus => {
            section.only(&["name", "on", "from", "to"]);
            let is_said = section.get("to").is_some();
            let to = if is_said { codes(section, "to") } else { owned(&["left"]) };
            On::MemberStatus { from: codes(section, "from"), to }
        }
        Kind::FieldChange => {
            section.only(&["name", "on", "entity", "field", "from", "to"]);
            let (entity, field) = (section.needed_text("entity"), section.needed_text("field"));
            On::FieldChange {
                entity: entity?,
                field: field?,
                from: codes(section, "from"),
                to: codes(section, "to"),
            }
        }
    };
    let name = section.text("name").unwrap_or_else(|| on.kind().to_owned());
    let name = name.trim().to_owned();
    if name.is_empty()
        || name.chars().count() > NAME_LENGTH_MAX
        || name.chars().any(char::is_control)
    {
        let what = format!("`name` has to be one line of 1 to {NAME_LENGTH_MAX} letters");
        section.problem(&section.span_of("name"), what);
    }
    let line = section.document.line(&section.get("on").map_or(0..0, Spanned::span));
    Some(Rule { name, place: Some(format!("{file}:{line}")), on })
}

fn codes(section: &Section<'_, '_>, key: &str) -> Vec<String> {
    section.texts(key).into_iter().map(|(text, _)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::{On, Rule, built_in, read};
    use crate::document::{Document, Problems, Section};

    fn rules(text: &str) -> Result<Vec<Rule>, Problems> {
        let document = Document::new(text, "plait.toml");
        let parsed = document.parse().unwrap();
        let rules = read(&Section::root(&document, &parsed), "plait.toml");
        document.finish(rules)
    }

    #[test]
    fn config_alerts_built_in_rules_hold_where_there_are_no_others() {
        assert_eq!(rules("").unwrap(), built_in());
        assert_eq!(rules("built_in_alerts = false").unwrap(), []);
        let own = "[[alert]]\nname = \"statuts\"\non = \"legal_event\"\nkinds = [\"pacte\"]\n";
        assert_eq!(
            rules(own).unwrap(),
            [Rule {
                name: "statuts".into(),
                place: Some("plait.toml:3".into()),
                on: On::LegalEvent { kinds: vec!["pacte".into()] }
            }]
        );
        assert_eq!(rules(&format!("built_in_alerts = true\n{own}")).unwrap().len(), 7);
    }

    #[test]
    fn config_alerts_have_sensible_defaults() {
        let rules = rules(
            "[[alert]]\non = \"legal_event\"\n[[alert]]\non = \"valuation_down\"\n[[alert]]\non = \"member_status\"\n\
             [[alert]]\nname = \"city\"\non = \"field_change\"\nentity = \"member\"\nfield = \"city\"\n",
        )
        .unwrap();
        let on: Vec<&On> = rules.iter().map(|rule| &rule.on).collect();
        assert_eq!(*on[0], On::LegalEvent { kinds: vec![] });
        assert_eq!(*on[1], On::ValuationDown { by_percent: 33 });
        assert_eq!(*on[2], On::MemberStatus { from: vec![], to: vec!["left".into()] });
        assert_eq!(rules[1].name, "valuation_down");
    }

    #[test]
    fn config_alerts_of_the_example_can_be_used() {
        let example = include_str!("../../plait.example.toml");
        let lines = example.lines().filter_map(|line| line.strip_prefix('#'));
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with(' ')).collect();
        let rules = rules(&lines.join("\n")).unwrap();
        let kinds: Vec<&str> = rules.iter().map(|rule| rule.on.kind()).collect();
        assert_eq!(
            kinds,
            ["legal_event", "valuation_down", "stage_change", "member_status", "field_change"]
        );
    }

    #[test]
    fn config_alerts_mistakes_are_told_with_line_and_nearest_name() {
        let problems = rules(
            "[[alert]]\non = \"stage_chnge\"\n[[alert]]\nname = \"x\"\non = \"valuation_down\"\nby_pecent = 20\n\
             [[alert]]\non = \"valuation_down\"\nby_percent = 0\n[[alert]]\nname = \"x\"\non = \"field_change\"\nentity = \"member\"\n\
             [[alert]]\nname = \"x\"\non = \"stage_change\"\nto = \"pitch\"\n[[alert]]\nname = \"none\"\n",
        )
        .unwrap_err()
        .to_string();
        for said in [
            "plait.toml:2: [[alert]]: `on` cannot be `stage_chnge`; did you mean `stage_change`?",
            "plait.toml:6: [[alert]]: unknown key `by_pecent`; did you mean `by_percent`?",
            "plait.toml:9: [[alert]]: `by_percent` has to be a whole number from 1 to 100",
            "plait.toml:10: [[alert]]: `field` is missing",
            "plait.toml:15: [[alert]]: there is a rule `x` already",
            "plait.toml:17: [[alert]]: `to` has to be a list of texts",
            "plait.toml:18: [[alert]]: `on` is missing: one of `legal_event`",
        ] {
            assert!(problems.contains(said), "{said}\n{problems}");
        }
        let clash = "built_in_alerts = true\n[[alert]]\nby_percent = 20\non = \"valuation_down\"\n";
        let clash = rules(clash).unwrap_err().to_string();
        let said = "plait.toml:4: [[alert]]: there is a built-in rule `valuation_down` already";
        assert!(clash.contains(said), "{clash}");
        let single = rules("[alert]\non = \"valuation_down\"\n").unwrap_err().to_string();
        assert!(single.contains("`alert` is written `[[alert]]`"), "{single}");
    }
}
