//! Values of a company, one after the other. In: its valuations. Out: by how much one is below the one before it.

use bigdecimal::{BigDecimal, Zero as _};
use chrono::NaiveDate;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// A row of `canon.valuation`, or what one was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Valuation {
    pub(crate) id: Uuid,
    pub(crate) startup_id: Option<Uuid>,
    pub(crate) as_of: Option<NaiveDate>,
    /// Of one security of the class.
    pub(crate) price: Option<BigDecimal>,
    /// Of all shares.
    pub(crate) equity_value: Option<BigDecimal>,
    pub(crate) approved_on: Option<NaiveDate>,
    pub(crate) method_code: Option<String>,
    /// `None`: ordinary shares.
    pub(crate) instrument_code: Option<String>,
    pub(crate) currency: String,
}

/// A value that is below the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fall {
    pub(crate) measure: Measure,
    pub(crate) before: Point,
    pub(crate) after: Point,
    pub(crate) currency: String,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Of one security of this class.
    Price(String),
    Equity,
}

/// A value on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) id: Uuid,
    pub(crate) as_of: NaiveDate,
    pub(crate) value: BigDecimal,
}

/// What an empty class means.
const ORDINARY: &str = "ao";

impl Valuation {
    fn class(&self) -> &str {
        self.instrument_code.as_deref().unwrap_or(ORDINARY)
    }

    /// A write-off without a figure says that nothing is left.
    fn figure(&self, measure: &Measure) -> Option<BigDecimal> {
        let is_write_off = self.method_code.as_deref() == Some("write_off")
            && self.price.is_none()
            && self.equity_value.is_none();
        match measure {
            _ if is_write_off => Some(BigDecimal::zero()),
            Measure::Price(class) if class == self.class() => self.price.clone(),
            Measure::Price(_) => None,
            Measure::Equity => self.equity_value.clone(),
        }
    }

    /// The order of the reports: of two on one day the one approved later counts.
    fn rank(&self) -> Option<(NaiveDate, NaiveDate, std::cmp::Reverse<Uuid>)> {
        Some((self.as_of?, self.approved_on?, std::cmp::Reverse(self.id)))
    }

    fn point(&self, measure: &Measure) -> Option<Point> {
        self.approved_on?;
        Some(Point { id: self.id, as_of: self.as_of?, value: self.figure(measure)? })
    }
}

/// By what `one` is below the approved value before it in time, among `all` of its company: by price of its class where
/// both have one, else by the value of all shares. `None`: it is not below, it counts nowhere, or there is nothing to
/// compare with.
pub(crate) fn fall(one: &Valuation, all: &[Valuation]) -> Option<Fall> {
    let rank = one.rank()?;
    one.startup_id?;
    [Measure::Price(one.class().to_owned()), Measure::Equity].into_iter().find_map(|measure| {
        let after = one.point(&measure)?;
        let earlier = all.iter().filter(|it| {
            it.id != one.id
                && it.startup_id == one.startup_id
                && it.currency == one.currency
                && it.rank().is_some_and(|other| other < rank)
        });
        let with_figure = earlier.filter_map(|it| Some((it.rank()?, it.point(&measure)?)));
        let (_, before) = with_figure.max_by_key(|(rank, _)| *rank)?;
        Some(Fall { measure, before, after, currency: one.currency.clone() })
    })
}

impl Fall {
    /// Whether it is `percent` per cent of the value before, or more; exact.
    pub(crate) fn is_by(&self, percent: u32) -> bool {
        self.before.value > BigDecimal::zero()
            && (&self.before.value - &self.after.value) * BigDecimal::from(100)
                >= &self.before.value * BigDecimal::from(percent)
    }

    /// In tenths of a per cent, cut and never rounded up.
    pub(crate) fn permille(&self) -> BigDecimal {
        if self.before.value.is_zero() {
            return BigDecimal::zero();
        }
        let fallen = (&self.before.value - &self.after.value) * BigDecimal::from(1000);
        (fallen / &self.before.value).with_scale_round(0, bigdecimal::RoundingMode::Down)
    }

    pub(crate) fn json(&self, point: &Point) -> Map<String, Json> {
        let key = match self.measure {
            Measure::Price(_) => "price",
            Measure::Equity => "equity_value",
        };
        let mut json = Map::new();
        json.insert("valuation_id".into(), json!(point.id));
        json.insert("as_of".into(), json!(point.as_of));
        json.insert(key.into(), json!(point.value.to_plain_string()));
        json.insert("currency".into(), json!(self.currency));
        json
    }
}
