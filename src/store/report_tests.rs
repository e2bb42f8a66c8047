//! The reports against a real Postgres: figures worked out by hand, rates against another solver, and what each role sees.

use proptest::{
    prelude::*,
    test_runner::{Config as RunnerConfig, TestRunner},
};
use tokio_postgres::{Client, IsolationLevel, error::SqlState};
use uuid::Uuid;

use super::{
    Canonical, connect, follow_mapping, install_reports,
    logins::{self, Removed},
    migrate,
    readers::{self, Group},
};
use crate::{
    demo::{
        cache::{postgres_bin, postgres18_bin},
        cluster::Cluster,
    },
    postgres::TlsMode,
};

/// Members, companies and lines whose figures are worked out in the tests. `HIDDEN` and 7777 are what an investor is
/// never to see.
const FIXTURE: &str = include_str!("report_fixture.sql");

struct Lab {
    cluster: Cluster,
    config: Canonical,
    client: Client,
}

impl Lab {
    /// With the fixture.
    async fn open(bin: &std::path::Path) -> Self {
        let lab = Self::empty(bin).await;
        lab.client.batch_execute(FIXTURE).await.unwrap();
        lab
    }

    async fn empty(bin: &std::path::Path) -> Self {
        let cluster = Cluster::throw_away(bin, &[]).await.unwrap();
        cluster.sql("postgres", "create database reports").await.unwrap();
        let config = cluster.config("reports", "postgres", cluster.password());
        let config = Canonical { config, tls: TlsMode::Disable, ca: None };
        migrate(&config).await.unwrap();
        install_reports(&config).await.unwrap();
        let client = cluster.connect("reports").await.unwrap();
        Self { cluster, config, client }
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    /// A login in a group, connected.
    async fn reader(&mut self, name: &str, group: Group, member: Option<Uuid>) -> Client {
        logins::make(&mut self.client, name, group, "open sesame", member).await.unwrap();
        let config = self.cluster.config("reports", name, "open sesame");
        connect(&Canonical { config, tls: TlsMode::Disable, ca: None }).await.unwrap()
    }
}

fn id(text: &str) -> Uuid {
    format!("00000000-0000-4000-8000-{text:0>12}").parse().unwrap()
}

const LINE: &str = "concat_ws(' ', reference, invested, fees, proceeds, quantity_held, cost_held, fair_value, value_basis,
    gain_realised, gain_unrealised, round(multiple, 4), round(dpi, 4), round(rvpi, 4), irr_status)";

#[tokio::test]
async fn reports_have_the_figures_that_are_worked_out_by_hand() {
    for bin in [postgres_bin().unwrap(), postgres18_bin().unwrap()] {
        let lab = Lab::open(&bin).await;
        let on = |day: &str| {
            format!("select {LINE} from report.portfolio_line_at('{day}') order by reference")
        };
        assert_eq!(
            lab.texts(&on("2026-06-30")).await,
            [
                // 400 of 1,000 sold: 40 % of the cost went with them.
                "L1 10000.00 150.00 6500.00 600.000000 6000.00 9000.00 priced 2500.00 3000.00 1.5500 0.6500 0.9000 ok",
                // A price of its own class.
                "L2 2000.00 0 0 200.000000 2000.00 4000.00 priced 0.00 2000.00 2.0000 0.0000 2.0000 ok",
                // Paid now, shares later: worth what it cost.
                "L3 5000.00 0 0 5000.00 5000.00 cost 0.00 0.00 1.0000 0.0000 1.0000 ok",
                "L4 3000.00 0 0 0 0 0 written off -3000.00 0 0.0000 0.0000 0.0000 total_loss",
                "L5 5000.00 0 20000.00 0 0 0 exited 15000.00 0 4.0000 4.0000 0.0000 ok",
                "L6 0 0 0 250.000000 0.00 0 not paid 0.00 0.00 no_flows",
                "L7 1500.00 0 0 100.000000 1500.00 1500.00 priced 0.00 0.00 1.0000 0.0000 1.0000 young",
                "L8 1000.00 0 0 10.000000 1000.00 1000.00 unpriced, at cost 0.00 0.00 1.0000 0.0000 1.0000 ok",
            ]
        );
        // Before the sale, the class price and the loss; at the price of the day, the later ones are not known yet.
        let earlier = lab.texts(&on("2023-06-30")).await;
        assert_eq!(
            earlier[..5],
            [
                "L1 10000.00 150.00 500.00 1000.000000 10000.00 10000.00 unpriced, at cost 500.00 0.00 1.0500 0.0500 1.0000 ok",
                "L2 2000.00 0 0 200.000000 2000.00 2000.00 unpriced, at cost 0.00 0.00 1.0000 0.0000 1.0000 ok",
                "L3 5000.00 0 0 5000.00 5000.00 cost 0.00 0.00 1.0000 0.0000 1.0000 young",
                "L4 3000.00 0 0 100.000000 3000.00 3000.00 unpriced, at cost 0.00 0.00 1.0000 0.0000 1.0000 ok",
                "L5 5000.00 0 0 50.000000 5000.00 5000.00 unpriced, at cost 0.00 0.00 1.0000 0.0000 1.0000 ok",
            ]
        );
        let year_end = "select fair_value::text from report.portfolio_line_at('2024-12-31') where reference = 'L1'";
        assert_eq!(lab.texts(year_end).await, ["7200.00"]);
        // Sums; the franc apart.
        let total = "select concat_ws(' ', currency, invested, fees, proceeds, fair_value, round(multiple, 4), line_count,
                line_count_written_off, round(loss_ratio, 4)) from report.network_total_at('2026-06-30') order by 1";
        assert_eq!(
            lab.texts(total).await,
            [
                "CHF 1000.00 0 0 1000.00 1.0000 1 0 0.0000",
                "EUR 26500.00 150.00 26500.00 19500.00 1.7358 7 1 0.1667"
            ]
        );
        let investor = "select concat_ws(' ', investor, currency, invested, fair_value, fair_value_at_cost, uncalled)
            from report.portfolio_by_investor_at('2026-06-30') p
            join lateral (select sum(l.uncalled) as uncalled from report.portfolio_line_at('2026-06-30') l
                          where l.member_id = p.member_id and l.currency = p.currency) u on true order by 1";
        assert_eq!(
            lab.texts(investor).await,
            [
                "Jean HIDDEN EUR 1500.00 1500.00 0 0.00",
                "Marie Curie CHF 1000.00 1000.00 1000.00 0.00",
                "Marie Curie EUR 25000.00 18000.00 5000.00 2500.00"
            ]
        );
        // Share of the company: 10,000 of 500,000 + 100,000 at the beginning, 600 of 100,000 shares now.
        let share = "select concat_ws(' ', share_entry::numeric(9,6), share_now::numeric(9,6), dilution::numeric(9,4))
            from report.portfolio_line_at('2026-06-30') where reference = 'L1'";
        assert_eq!(lab.texts(share).await, ["0.016667 0.006000 0.6400"]);
        let follow_on =
            "select reference from report.portfolio_line_at('2026-06-30') where is_follow_on";
        assert_eq!(lab.texts(follow_on).await, ["L2"]);
        // L5: 5,000 became 20,000 in 1,826 days.
        let rate = "select round(irr, 7)::text from report.portfolio_line_at('2026-06-30') where reference = 'L5'";
        assert_eq!(lab.texts(rate).await, ["0.3193076"]);
    }
}

#[tokio::test]
async fn reports_as_they_were_known() {
    let lab = Lab::open(&postgres_bin().unwrap()).await;
    let known = |at: &str| {
        format!(
            "select concat_ws(' ', reference, invested, proceeds) from report.portfolio_line_at('2026-06-30', '{at}') order by reference"
        )
    };
    // In March the sale was 5,000, L5 was held by somebody else's reference, L7 not there, and L9, deleted since, was.
    let march = lab.texts(&known("2026-03-15")).await;
    assert_eq!(march[0], "L1 10000.00 5500.00");
    assert!(march.contains(&String::from("L9 0 0")), "{march:?}");
    assert!(!march.iter().any(|line| line.starts_with("L7")), "{march:?}");
    assert!(
        march.contains(&String::from("L4 3000.00 0")),
        "deleted in between, and brought back: {march:?}"
    );
    let april = lab.texts(&known("2026-04-15")).await;
    assert!(
        !april.iter().any(|line| line.starts_with("L4") || line.starts_with("L9")),
        "{april:?}"
    );
    assert_eq!(april[0], "L1 10000.00 5500.00");
    let now = lab.texts(&known("2026-11-01")).await;
    let plain = "select concat_ws(' ', reference, invested, proceeds) from report.portfolio_line_at('2026-06-30') order by reference";
    assert_eq!(now, lab.texts(plain).await);
    // Before the first copy, nothing was known.
    assert!(lab.texts(&known("2020-01-01")).await.is_empty());
}

/// With a network's worth of rows: the totals are the sums of their lines, to the cent, on any day.
#[tokio::test]
async fn reports_totals_are_the_sums_of_their_lines() {
    let lab = Lab::empty(&postgres_bin().unwrap()).await;
    let data = include_str!("../../benches/report_data.sql");
    let data: String = data
        .lines()
        .filter(|line| !line.starts_with('\\'))
        .collect::<Vec<_>>()
        .join("\n")
        .replace(":factor", "1");
    lab.client.batch_execute(&data).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for day in ["2016-12-31", "2019-07-14", "2023-12-31", "2026-11-01"] {
        let figures = "sum(invested)::numeric(18,2), sum(fees)::numeric(18,2), sum(proceeds)::numeric(18,2), sum(fair_value)::numeric(18,2),
            sum(cost_held)::numeric(18,2), sum(gain_realised)::numeric(18,2), sum(gain_unrealised)::numeric(18,2)";
        let mut sums = Vec::new();
        for report in
            ["portfolio_line", "portfolio_by_investor", "portfolio_by_startup", "network_total"]
        {
            let sql = format!(
                "select concat_ws(' ', {figures}) from report.{report}_at('{day}') where currency = 'EUR'"
            );
            sums.extend(lab.texts(&sql).await);
        }
        assert_eq!(
            sums.iter().collect::<std::collections::BTreeSet<_>>().len(),
            1,
            "{day}: {sums:?}"
        );
        seen.insert(sums.remove(0));
        // No line is worth cents of a cent, and none has a value after it has gone.
        let odd = format!(
            "select reference from report.portfolio_line_at('{day}')
             where fair_value <> round(fair_value, 2) or (value_basis in ('exited', 'written off') and fair_value <> 0) or quantity_held < 0"
        );
        assert!(lab.texts(&odd).await.is_empty());
    }
    assert_eq!(seen.len(), 4);
    // Every report answers, and says what each of its columns is.
    for name in lab.texts("select name from report.catalogue").await {
        lab.client.query(&format!("select * from report.{name}"), &[]).await.unwrap();
    }
    let bare = "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'report'::regnamespace and c.relkind = 'v'
          and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)";
    assert!(lab.texts(bare).await.is_empty());
    let unlisted = "select relname::text from pg_class where relnamespace = 'report'::regnamespace and relkind = 'v'
        and relname <> 'catalogue' and relname not in (select name from report.catalogue)";
    assert_eq!(lab.texts(unlisted).await, ["network_by_year_counted"]);
    // What is dated gives the same columns by its function.
    let differing = "select c.name from report.catalogue c
        where c.is_dated and (select string_agg(a.attname, ',' order by a.attnum) from pg_attribute a
                              where a.attrelid = to_regclass('report.' || c.name) and a.attnum > 0)
            is distinct from (select string_agg(n, ',' order by o) from pg_proc p, unnest(p.proargnames, p.proargmodes) with ordinality x (n, m, o)
                              where p.oid = to_regproc('report.' || c.name || '_at') and m = 't')";
    assert!(lab.texts(differing).await.is_empty());
}

// ---- rates of return -------------------------------------------------------------------------------------------------------

/// Cents, and days since the first.
type Flow = (i32, i32);

/// What flows are worth at a rate, the plain way; and what they are worth with their signs left out.
fn worth(flows: &[Flow], rate: f64) -> (f64, f64) {
    flows.iter().fold((0.0, 0.0), |(sum, size), (cents, days)| {
        let worth = f64::from(*cents) / 100.0 * (1.0 + rate).powf(-f64::from(*days) / 365.0);
        (sum + worth, size + worth.abs())
    })
}

/// In units of `unit` cents.
async fn xirr(client: &Client, flows: &[Flow], unit: i32) -> (Option<f64>, String) {
    let (amounts, days): (Vec<i32>, Vec<i32>) = flows.iter().copied().unzip();
    let row = client
        .query_one(
            "select x.rate, x.status from report.xirr_with_status(
                 (select array_agg(a::numeric / $3::integer order by o) from unnest($1::integer[]) with ordinality u (a, o)),
                 (select array_agg(date '2015-01-01' + d order by o) from unnest($2::integer[]) with ordinality u (d, o))) x",
            &[&amounts, &days, &unit],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// What the report of a line with these flows says that the rate by itself does not, with nothing held and with something.
async fn amiss_in_a_line(client: &Client, flows: &[Flow]) -> Vec<String> {
    let (amounts, days): (Vec<i32>, Vec<i32>) = flows.iter().copied().unzip();
    let rows = client
        .query(
            "select concat_ws(' ', h.held, x.rate, x.status, 'and', r.rate, r.status)
             from (select array_agg(a / 100.0 order by o) as amounts, array_agg(date '2015-01-01' + d order by o) as dates,
                          array_agg((a / 100.0)::float8 order by o) as line, array_agg(report.years(date '2015-01-01' + d) order by o) as years
                   from unnest($1::integer[], $2::integer[]) with ordinality u (a, d, o)) f
             cross join (values (0), (1234.56), (80000.00)) h (held)
             cross join lateral report.xirr_with_status(f.amounts || h.held, f.dates || date '2026-01-01') x
             cross join lateral report.irr_of(f.line, f.years, '2015-01-01', h.held, '2026-01-01') r
             where case when x.rate > 1e6 then r.status <> 'out_of_range'
                        else r.status <> x.status or (r.rate is null) <> (x.rate is null)
                             or abs(r.rate - x.rate) > 1e-9 * (1 + abs(x.rate)) end",
            &[&amounts, &days],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn reports_rates_are_those_of_the_reference() {
    let lab = Lab::open(&postgres_bin().unwrap()).await;
    for (amounts, dates, percent) in [
        ("-10000,20000", "2020-01-01,2025-01-01", "14.8524046 ok"),
        ("-5000,-5000,4000,9000", "2019-03-15,2021-06-30,2024-12-31,2025-06-30", "5.3532468 ok"),
        ("-15000,-15000,24000", "2022-09-30,2023-09-30,2025-12-31", "-7.8084523 ok"),
        ("-20000,1", "2018-05-01,2024-05-01", "-80.7772412 ok"),
        ("-100,230,-132", "2021-01-01,2022-01-01,2023-01-01", "several"),
        // Touches 10 % and no other rate; never comes to nothing; nothing came back; nothing went out; nothing at all.
        ("-100,220,-121", "2021-01-01,2022-01-01,2023-01-01", "10.0000000 ok"),
        ("-100,200,-121", "2021-01-01,2022-01-01,2023-01-01", "none"),
        ("-100,-50", "2021-01-01,2022-01-01", "-100.0000000 total_loss"),
        ("100", "2021-01-01", "no_sign_change"),
        ("-10,10", "2021-01-01,2021-01-01", "no_flows"),
        ("-10,10", "2021-01-01,2022-01-01", "0.0000000 ok"),
        // Doubled in a month, and what is a rate only in name.
        ("-10,20", "2021-01-01,2021-02-01", "350155.8783723 ok"),
        ("-1000000,0.01", "2021-01-01,2021-01-03", "out_of_range"),
        // In no order, and with flows of a day that cancel each other out.
        ("20000,-10000,5,-5", "2025-01-01,2020-01-01,2022-02-02,2022-02-02", "14.8524046 ok"),
    ] {
        let sql = format!(
            "select concat_ws(' ', round(rate::numeric * 100, 7), status) from report.xirr_with_status('{{{amounts}}}', '{{{dates}}}')"
        );
        assert_eq!(lab.texts(&sql).await, [percent], "{amounts}");
    }
    let refused =
        lab.client.query("select report.xirr('{1,2}', '{2020-01-01}')", &[]).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("2 amounts and 1 dates"));
}

#[test]
fn reports_rates_agree_with_a_search_over_a_grid() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime.block_on(Lab::open(&postgres_bin().unwrap()));
    let flow = (prop_oneof![-1_000_000..1_000_000, -300..300], 0..4_000);
    let flows = prop::collection::vec(flow, 1..12);
    let config =
        RunnerConfig { cases: 1_000, source_file: Some(file!()), ..RunnerConfig::default() };
    TestRunner::new(config)
        .run(&flows, |flows| {
            let first = flows.iter().map(|flow| flow.1).min().unwrap_or_default();
            let flows: Vec<Flow> = flows.iter().map(|flow| (flow.0, flow.1 - first)).collect();
            let (rate, status) = runtime.block_on(xirr(&lab.client, &flows, 100));
            let amiss = runtime.block_on(amiss_in_a_line(&lab.client, &flows));
            prop_assert!(amiss.is_empty(), "{amiss:?}");
            // Where the sign changes, from -99.99 % to 10,000 %.
            let steps = 20_000;
            let signs: Vec<bool> = (0..=steps)
                .map(|at| 1e-4 * (101.0_f64 / 1e-4).powf(f64::from(at) / f64::from(steps)) - 1.0)
                .map(|rate| worth(&flows, rate).0 > 0.0)
                .collect();
            let changes = signs.windows(2).filter(|pair| pair[0] != pair[1]).count();
            match (status.as_str(), rate) {
                ("ok", Some(rate)) => {
                    let (sum, size) = worth(&flows, rate);
                    // Near -100 %, 1 + rate has few digits left.
                    prop_assert!(rate < -0.999 || sum.abs() <= 1e-9 * size, "{sum} at {rate}");
                    prop_assert!(changes <= 1, "{changes} changes of sign");
                }
                ("several", None) => prop_assert!(changes >= 2, "{changes} changes of sign"),
                ("none" | "no_flows" | "no_sign_change" | "out_of_range", None) => {
                    prop_assert_eq!(changes, 0);
                }
                ("total_loss", Some(rate)) => {
                    prop_assert!((rate + 1.0).abs() < f64::EPSILON);
                    let of_day = |day: i32| -> i32 {
                        flows.iter().filter(|flow| flow.1 == day).map(|flow| flow.0).sum()
                    };
                    prop_assert!(flows.iter().all(|flow| of_day(flow.1) <= 0));
                }
                other => prop_assert!(false, "{other:?}"),
            }
            // Neither the unit nor a flow of nothing matters.
            let same = [&flows[..], &[(0, 3_000)]].concat();
            let (scaled, again) = runtime.block_on(xirr(&lab.client, &same, 1));
            prop_assert_eq!(again, status);
            let is_same = match (rate, scaled) {
                (Some(one), Some(other)) if one > -0.999 => {
                    (one.ln_1p() - other.ln_1p()).abs() <= 1e-8
                }
                (one, other) => one.is_some() == other.is_some(),
            };
            prop_assert!(is_same, "{rate:?} and {scaled:?}");
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

// ---- reports that are kept ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn reports_that_are_kept_are_never_old() {
    let lab = Lab::open(&postgres_bin().unwrap()).await;
    let is_kept = "select (report.kept('network_by_year') is not null)::text";
    let differing = "select count(*)::text from (
            (table report.network_by_year except all table report.network_by_year_counted)
            union all (table report.network_by_year_counted except all table report.network_by_year)) x";
    let invested =
        "select invested::text from report.network_by_year where year = 2020 and currency = 'EUR'";
    assert_eq!(lab.texts(is_kept).await, ["false"]);
    let before = lab.texts(invested).await;
    lab.client.execute("select report.keep()", &[]).await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["true"]);
    assert_eq!(lab.texts(differing).await, ["0"]);
    assert_eq!(lab.texts(invested).await, before);

    // A change that is under way while they are counted: they are of before, and old as soon as it is over.
    let mut other = connect(&lab.config).await.unwrap();
    let change = other.transaction().await.unwrap();
    let more = "update canon.cash_flow set amount = amount - 1000 where flow_on >= '2020-01-01' and flow_on < '2021-01-01'
        and kind_code = 'subscription' and currency = 'EUR'";
    assert!(change.execute(more, &[]).await.unwrap() > 0);
    lab.client.execute("select report.keep()", &[]).await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["true"]);
    assert_eq!(lab.texts(invested).await, before);
    change.commit().await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["false"]);
    assert_ne!(lab.texts(invested).await, before);
    lab.client.execute("select report.keep()", &[]).await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["true"]);
    assert_eq!(lab.texts(differing).await, ["0"]);

    // What is undone is no change; any of these is.
    let undone = other.transaction().await.unwrap();
    undone.execute(more, &[]).await.unwrap();
    undone.rollback().await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["true"]);
    for change in [
        "insert into canon.member (id, joined_on) values (gen_random_uuid(), '2001-01-01')",
        "update canon.project set submitted_on = submitted_on - 1000",
        "update canon.stage set kind = kind",
        "update canon.investment set currency = 'CHF'",
        "update canon.cash_flow_kind set counts_as = counts_as",
        "delete from canon.cash_flow",
        "update mirror.kept_report set made_on = made_on - 1",
    ] {
        lab.client.execute("select report.keep()", &[]).await.unwrap();
        assert_eq!(lab.texts(is_kept).await, ["true"], "before {change}");
        lab.client.execute(change, &[]).await.unwrap();
        assert_eq!(lab.texts(is_kept).await, ["false"], "{change}");
        assert_eq!(lab.texts(differing).await, ["0"], "{change}");
    }

    let as_a_replica = "select report.keep(); set session_replication_role = replica; update canon.member set city = 'Brest';
        reset session_replication_role";
    lab.client.batch_execute(as_a_replica).await.unwrap();
    assert_eq!(lab.texts(is_kept).await, ["false"]);

    // One who sees only what was there when his transaction began would delete what he has not counted.
    let late =
        other.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await;
    let refused = late.unwrap().execute("select report.keep()", &[]).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("read committed"), "{refused:?}");
}

// ---- rights ----------------------------------------------------------------------------------------------------------------

/// Of an answer: the rows as text, or that it was refused.
async fn rows(client: &Client, sql: &str) -> Option<Vec<String>> {
    match client.query(sql, &[]).await {
        Ok(rows) => Some(
            rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect(),
        ),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => None,
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

fn hides(rows: &[String], what: &str) {
    for row in rows {
        assert!(!row.contains("HIDDEN") && !row.contains("7777"), "{what} shows {row}");
    }
}

#[tokio::test]
async fn reports_an_investor_sees_own_lines_and_nothing_else() {
    for bin in [postgres_bin().unwrap(), postgres18_bin().unwrap()] {
        let mut lab = Lab::open(&bin).await;
        readers::make_roles(&mut lab.client).await.unwrap();
        readers::make_roles(&mut lab.client).await.unwrap();
        let marie = lab.reader("marie", Group::Investor, Some(id("1"))).await;

        // Every relation of ours, and every function of the reports: own rows, or refused.
        let relations = lab
            .texts(
                "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname in ('report', 'canon', 'mirror') and c.relkind in ('r', 'v', 'm', 'p') order by 1",
            )
            .await;
        assert!(relations.len() > 60, "{}", relations.len());
        let mut open = Vec::new();
        for relation in &relations {
            // Column by column too, since rights may be on columns.
            let columns = lab
                .texts(&format!(
                    "select quote_ident(attname) from pg_attribute where attrelid = '{relation}'::regclass and attnum > 0 and not attisdropped"
                ))
                .await;
            for column in &columns {
                if let Some(rows) =
                    rows(&marie, &format!("select {column}::text from {relation}")).await
                {
                    hides(&rows, relation);
                    open.push(format!("{relation}.{column}"));
                }
            }
            if let Some(rows) =
                rows(&marie, &format!("select to_jsonb(r)::text from {relation} r")).await
            {
                hides(&rows, relation);
            }
        }
        assert!(open.iter().all(|column| !column.starts_with("mirror.")), "{open:?}");
        assert!(open.contains(&String::from("report.portfolio_line.fair_value")), "{open:?}");
        let functions = lab
            .texts("select p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' from pg_proc p
                    where p.pronamespace = 'report'::regnamespace order by 1")
            .await;
        let mut called = 0;
        for function in functions {
            let (name, arguments) = function.trim_end_matches(')').split_once('(').unwrap();
            let calls: Vec<String> = match arguments {
                "as_of date" => vec!["current_date".into(), "'2024-12-31'".into()],
                "as_of date, known_at timestamp with time zone" => {
                    ["current_date, null", "current_date, now()", "'2024-12-31', null"]
                        .map(String::from)
                        .into()
                }
                "as_of date, known_at timestamp with time zone, is_first boolean" => {
                    ["current_date, null, true", "current_date, null, false"]
                        .map(String::from)
                        .into()
                }
                "known_at timestamp with time zone" => vec!["null".into(), "now()".into()],
                "shape anyelement, known_at timestamp with time zone" => {
                    ["member", "startup", "investment", "cash_flow"]
                        .map(|table| format!("null::canon.{table}, now()"))
                        .into()
                }
                "" => vec![String::new()],
                "name text" => vec!["'network_by_year'".into()],
                // Of their arguments alone.
                other
                    if other.contains("[]")
                        || ["siren text", "day date"].contains(&other)
                        || other.contains("anycompatiblearray") =>
                {
                    continue;
                }
                other => panic!("is {name}({other}) safe for investors to call?"),
            };
            for call in calls {
                if let Some(rows) =
                    rows(&marie, &format!("select to_jsonb(r)::text from report.{name}({call}) r"))
                        .await
                {
                    hides(&rows, name);
                    called += 1;
                }
            }
        }
        assert!(called >= 8, "{called}");

        // What is his is all there.
        let own = "select reference from report.portfolio_line order by 1";
        assert_eq!(rows(&marie, own).await.unwrap(), ["L1", "L2", "L3", "L4", "L5", "L6", "L8"]);
        let count = "select count(*)::text from report.movement";
        assert_eq!(rows(&marie, count).await.unwrap(), ["10"]);
        assert_eq!(
            rows(&marie, "select name from report.catalogue order by ordinal").await.unwrap().len(),
            4
        );

        // Ways around: a cheap function that tells what it is given, another role, another member, writing.
        let tell = "create function SCHEMA.tell(t text) returns boolean language plpgsql cost 0.0000001 as
             $$ begin if t like '%HIDDEN%' then raise exception 'leaked %', t; end if; return true; end $$";
        let refused = marie.batch_execute(&tell.replace("SCHEMA", "pg_temp")).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        lab.client.batch_execute(&tell.replace("SCHEMA", "public")).await.unwrap();
        for sql in [
            "select reference from canon.investment where public.tell(reference)",
            "select name from canon.startup where public.tell(name)",
            "select last_name from canon.member where public.tell(last_name)",
            "select label from canon.cash_flow where public.tell(label)",
            "select reference from report.portfolio_line where public.tell(startup) and public.tell(reference)",
        ] {
            assert!(rows(&marie, sql).await.is_some(), "{sql}");
        }
        for sql in [
            "set role postgres",
            "set role plait_analyst",
            "insert into report.reader values ('marie', '00000000-0000-4000-8000-000000000002')",
            "update report.reader set member_id = '00000000-0000-4000-8000-000000000002'",
            "update canon.investment set member_id = '00000000-0000-4000-8000-000000000001'",
            "delete from canon.cash_flow",
            "set row_security = off; select id from canon.member",
            "alter table canon.investment disable row level security",
        ] {
            let error = marie.batch_execute(sql).await.expect_err(sql);
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error:?}");
        }
        // Nobody's login sees nothing.
        let nobody = lab.reader("nobody", Group::Investor, None).await;
        assert!(rows(&nobody, own).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn reports_an_analyst_sees_all_of_them_but_contact_data_and_a_delegate_that_too() {
    let mut lab = Lab::open(&postgres_bin().unwrap()).await;
    readers::make_roles(&mut lab.client).await.unwrap();
    let analyst = lab.reader("ana", Group::Analyst, None).await;
    let delegate = lab.reader("dele", Group::Delegate, None).await;
    for name in lab.texts("select name from report.catalogue").await {
        let sql = format!("select to_jsonb(r)::text from report.{name} r");
        assert_eq!(rows(&analyst, &sql).await.is_some(), name != "member_contact", "{name}");
        assert!(rows(&delegate, &sql).await.is_some(), "{name}");
    }
    let contact = "select email::text from canon.member";
    assert!(rows(&analyst, contact).await.is_none());
    assert!(rows(&delegate, contact).await.is_some());
    let known = "select to_jsonb(r)::text from report.portfolio_line_at(current_date, now()) r";
    assert_eq!(rows(&analyst, known).await.unwrap().len(), 8);
    for client in [&analyst, &delegate] {
        for table in lab.texts("select relname::text from pg_class where relnamespace = 'mirror'::regnamespace and relkind in ('r', 'v')").await {
            assert!(rows(client, &format!("select to_jsonb(r)::text from mirror.{table} r")).await.is_none(), "{table}");
        }
        assert!(client.batch_execute("delete from canon.member").await.is_err());
    }
    // A password is kept as what it proves, whatever the server is set to.
    let kept = "select rolpassword from pg_authid where rolname = 'ana'";
    assert!(lab.texts(kept).await[0].starts_with("SCRAM-SHA-256$"));
}

/// As dashboards do: tables and columns from `information_schema`, comments and foreign keys from `pg_catalog`.
#[tokio::test]
async fn reports_are_found_by_tools_with_their_comments_and_keys() {
    let mut lab = Lab::open(&postgres_bin().unwrap()).await;
    readers::make_roles(&mut lab.client).await.unwrap();
    let analyst = lab.reader("ana", Group::Analyst, None).await;
    let tables = "select table_name::text from information_schema.tables where table_schema = 'report' and table_type = 'VIEW'";
    let tables = rows(&analyst, tables).await.unwrap();
    for name in rows(&analyst, "select name from report.catalogue").await.unwrap() {
        assert!(tables.contains(&name), "{name}");
    }
    assert!(!tables.contains(&String::from("member_contact")));
    let types = "select column_name || ' ' || data_type || coalesce(' ' || numeric_precision || ',' || numeric_scale, '')
        from information_schema.columns where table_schema = 'report' and table_name = 'portfolio_line'
          and column_name in ('invested', 'signed_on', 'is_follow_on', 'member_id', 'irr') order by ordinal_position";
    assert_eq!(
        rows(&analyst, types).await.unwrap(),
        [
            "member_id uuid",
            "signed_on date",
            "invested numeric 18,2",
            "irr numeric 18,9",
            "is_follow_on boolean"
        ]
    );
    let comments = "select count(*)::text from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'report'::regnamespace and c.relkind = 'v' and a.attnum > 0
          and col_description(c.oid, a.attnum) is null";
    assert_eq!(rows(&analyst, comments).await.unwrap(), ["0"]);
    let keys = "select conrelid::regclass || ' ' || confrelid::regclass from pg_catalog.pg_constraint
        where contype = 'f' and conrelid in ('canon.investment'::regclass, 'canon.cash_flow'::regclass) order by 1";
    let keys = rows(&analyst, keys).await.unwrap();
    for key in [
        "canon.investment canon.member",
        "canon.investment canon.startup",
        "canon.cash_flow canon.investment",
    ] {
        assert!(keys.contains(&key.to_owned()), "{keys:?}");
    }
}

#[tokio::test]
async fn reports_are_installed_anew_only_where_they_differ_and_spare_the_views_of_others() {
    let mut lab = Lab::open(&postgres_bin().unwrap()).await;
    readers::make_roles(&mut lab.client).await.unwrap();
    let analyst = lab.reader("ana", Group::Analyst, None).await;
    let since = "select installed_at::text from mirror.report_installation";
    let first = lab.texts(since).await;
    install_reports(&lab.config).await.unwrap();
    assert_eq!(lab.texts(since).await, first);

    // An older version: another digest, and a view with a column that there is no more.
    let older = "update mirror.report_installation set digest = 'older'; drop view report.exit_list;
        create view report.exit_list as select 1 as since_dropped; create view public.mine as select investor from report.portfolio_line";
    lab.client.batch_execute(older).await.unwrap();
    let refused = install_reports(&lab.config).await.unwrap_err().to_string();
    assert!(refused.contains("public.mine"), "{refused}");
    lab.client.batch_execute("drop view public.mine; select report.keep()").await.unwrap();
    install_reports(&lab.config).await.unwrap();
    // What was kept is of the view before.
    assert_eq!(lab.texts("select count(*)::text from mirror.kept_report").await, ["0"]);
    assert_eq!(lab.texts("select count(*)::text from report.exit_list").await, ["2"]);
    assert_eq!(
        rows(&analyst, "select count(*)::text from report.portfolio_line").await.unwrap(),
        ["8"]
    );
    // Without a change of columns, others' views stay.
    let again = "update mirror.report_installation set digest = 'older'; create view public.mine as select investor from report.portfolio_line";
    lab.client.batch_execute(again).await.unwrap();
    install_reports(&lab.config).await.unwrap();
    assert_eq!(lab.texts("select count(*)::text from public.mine").await, ["8"]);
}

#[tokio::test]
async fn reports_an_investor_learns_nothing_of_others_from_statistics() {
    for bin in [postgres_bin().unwrap(), postgres18_bin().unwrap()] {
        let mut lab = Lab::open(&bin).await;
        readers::make_roles(&mut lab.client).await.unwrap();
        let others = "
            insert into canon.member (id, first_name, last_name, city)
                select gen_random_uuid(), 'HIDDEN', 'HIDDEN', 'HIDDEN' from generate_series(1, 300);
            create statistics canon.members on first_name, last_name from canon.member;
            analyze";
        lab.client.batch_execute(others).await.unwrap();
        let marie = lab.reader("marie", Group::Investor, Some(id("1"))).await;
        // Of tables with a rule of rows, and of all that is not granted, there are none to read.
        let own = "select distinct tablename::text from pg_stats where schemaname in ('canon', 'mirror', 'report') order by 1";
        let ruled =
            ["member", "startup", "round", "investment", "cash_flow", "valuation", "reader"];
        let seen = rows(&marie, own).await.unwrap();
        assert!(seen.iter().all(|table| !ruled.contains(&table.as_str())), "{seen:?}");
        let values = "select coalesce(most_common_vals::text, '') || coalesce(histogram_bounds::text, '') from pg_stats";
        hides(&rows(&marie, values).await.unwrap(), "pg_stats");
        for sql in [
            "select statistics_name::text from pg_stats_ext where schemaname = 'canon'",
            "select statistics_name::text from pg_stats_ext_exprs where schemaname = 'canon'",
        ] {
            assert_eq!(rows(&marie, sql).await.unwrap(), [""; 0], "{sql}");
        }
        for sql in [
            "select stakind1::text from pg_statistic",
            "select stxdmcv::text from pg_statistic_ext_data",
            "create statistics pg_temp.mine on first_name, last_name from canon.member",
            "analyze canon.member; select 1",
        ] {
            match marie.batch_execute(sql).await {
                Ok(()) => assert!(sql.starts_with("analyze"), "{sql}"),
                Err(error) => assert_eq!(
                    error.code(),
                    Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                    "{sql}: {error:?}"
                ),
            }
        }
        // What others ask, and with which values, is not shown either.
        let asking = lab.client.query("select pg_sleep(0), 'HIDDEN'", &[]).await;
        assert!(asking.is_ok());
        let asked =
            "select coalesce(query, '') from pg_stat_activity where usename <> current_user";
        hides(&rows(&marie, asked).await.unwrap(), "pg_stat_activity");
    }
}

// ---- what follows from the mapping, and logins ----------------------------------------------------------------------------

#[tokio::test]
async fn reports_personal_and_new_columns_are_read_by_nobody_until_the_mapping_says_so() {
    let mut lab = Lab::open(&postgres_bin().unwrap()).await;
    readers::make_roles(&mut lab.client).await.unwrap();
    let add = "alter table canon.member add column iban text, add column shoe_size text, add column badge text;
        update canon.member set iban = 'SECRET', email = 'secret@x.org', phone = '+33612345678', note = 'SECRET'";
    lab.client.batch_execute(add).await.unwrap();
    let mapping = |more: &str| {
        let text = format!(
            r#"version = 1
            [entity.member]
            table = "member"
            directus = {{ table = "directus_users" }}
            [entity.member.field]
            email = {{ type = "email", directus = "email", personal = true }}
            {more}"#
        );
        crate::mapping::read(&text, "mapping.toml").unwrap()
    };
    let ana = lab.reader("ana", Group::Analyst, None).await;
    let del = lab.reader("del", Group::Delegate, None).await;
    let read = async |client: &Client, column: &str| {
        rows(client, &format!("select {column}::text from canon.member")).await.is_some()
    };
    let more = "iban = { type = \"text\", directus = \"iban\", personal = true }
        shoe_size = { type = \"text\", directus = \"shoe_size\" }
        joined_on = { type = \"date\", directus = \"joined_on\", personal = true }
        badge = { type = \"text\", directus = \"badge\", personal = false }";
    follow_mapping(&lab.config, &mapping(more)).await.unwrap();
    for (column, is_open) in [
        ("last_name", true),
        ("ticket_min", true),
        ("badge", true),
        ("email", false),
        ("phone", false),
        ("note", false),
        ("iban", false),
        ("shoe_size", false),
        ("joined_on", false),
    ] {
        assert_eq!(read(&ana, column).await, is_open, "{column}");
    }
    assert!(read(&del, "email").await && !read(&del, "iban").await && !read(&del, "note").await);
    // The past is no way round.
    for shape in ["member", "startup", "project"] {
        let past =
            format!("select to_jsonb(k)::text from report.known(null::canon.{shape}, now()) k");
        for client in [&ana, &del] {
            let past = rows(client, &past).await.unwrap();
            assert!(past.iter().all(|row| !row.contains("SECRET")), "{shape}: {past:?}");
        }
    }
    let names =
        "select last_name from report.known(null::canon.member, now()) where last_name is not null";
    assert!(!rows(&ana, names).await.unwrap().is_empty());
    let email = "select email from report.known(null::canon.member, now()) where email is not null";
    assert_eq!(rows(&ana, email).await.unwrap(), [""; 0]);
    assert!(!rows(&del, email).await.unwrap().is_empty());
    // What is said otherwise holds from the next start on.
    follow_mapping(
        &lab.config,
        &mapping("joined_on = { type = \"date\", directus = \"joined_on\" }"),
    )
    .await
    .unwrap();
    assert!(read(&ana, "joined_on").await && !read(&ana, "badge").await);
    // A new version of the reports changes nothing of it.
    lab.client.execute("delete from mirror.report_installation", &[]).await.unwrap();
    install_reports(&lab.config).await.unwrap();
    assert!(!read(&ana, "email").await && !read(&ana, "badge").await);
}

#[tokio::test]
async fn reports_login_reads_as_its_last_group_alone_and_no_other_role_is_touched() {
    for bin in [postgres_bin().unwrap(), postgres18_bin().unwrap()] {
        let mut lab = Lab::open(&bin).await;
        readers::make_roles(&mut lab.client).await.unwrap();
        let marie = Some(id("1"));
        let all = "select count(*)::text from canon.investment";
        let was = rows(&lab.reader("marie", Group::Delegate, None).await, all).await;
        assert_eq!(was, Some(lab.texts(all).await));
        let client = lab.reader("marie", Group::Investor, marie).await;
        let own = lab.texts(&format!("{all} where member_id = '{}'", id("1"))).await;
        assert_eq!(rows(&client, all).await.unwrap(), own);
        assert_ne!(rows(&client, all).await, was);
        assert!(
            rows(&client, "select report.known(null::canon.investment, now())::text")
                .await
                .is_none()
        );
        // What a reader cannot do to the others.
        for (sql, said) in [
            ("create temporary table heap (n int)", "permission denied"),
            ("show statement_timeout", "1min"),
        ] {
            let answer = match client.query(sql, &[]).await {
                Ok(rows) => rows[0].get::<_, String>(0),
                Err(error) => error.as_db_error().unwrap().message().to_owned(),
            };
            assert!(answer.contains(said), "{sql}: {answer}");
        }
        let limit = "select rolconnlimit::text from pg_roles where rolname = 'marie'";
        assert_eq!(lab.texts(limit).await, ["5"]);
        let again = lab.reader("marie", Group::Analyst, None).await;
        assert_eq!(rows(&again, all).await, was);
        assert_eq!(lab.texts("select count(*)::text from report.reader").await, ["0"]);

        // A role of somebody else's keeps its password, its groups, and itself.
        lab.client
            .batch_execute("create role app login; grant plait_analyst to app")
            .await
            .unwrap();
        let refused = logins::make(&mut lab.client, "app", Group::Investor, "x", marie).await;
        assert!(refused.unwrap_err().to_string().contains("was not made by plait"));
        assert!(logins::remove(&mut lab.client, "app").await.is_err());
        let app = "select (rolpassword is null)::text from pg_authid where rolname = 'app'";
        assert_eq!(lab.texts(app).await, ["true"]);

        drop(lab.reader("jean", Group::Investor, marie).await);
        let listed = logins::list(&lab.client).await.unwrap();
        let listed: Vec<(&str, Vec<&str>, Option<Uuid>)> = listed
            .iter()
            .map(|it| (it.name.as_str(), it.groups.iter().map(String::as_str).collect(), it.member))
            .collect();
        assert_eq!(
            listed,
            [("jean", vec!["plait_investor"], marie), ("marie", vec!["plait_analyst"], None)]
        );
        // Who has left, or is deleted, is named as such.
        for (departs, is_departed) in [
            ("status_code = 'left'", true),
            ("status_code = 'active'", false),
            ("deleted_at = now()", true),
            ("deleted_at = null", false),
        ] {
            let sql = format!("update canon.member set {departs} where id = '{}'", id("1"));
            lab.client.batch_execute(&sql).await.unwrap();
            let listed = logins::list(&lab.client).await.unwrap();
            assert_eq!(listed[0].has_departed, is_departed, "{departs}: {listed:?}");
        }
        // It goes with its sessions; what others hang on it keeps the role, which reads nothing then.
        assert_eq!(logins::remove(&mut lab.client, "marie").await.unwrap(), Removed::Gone);
        assert!(again.query("select 1", &[]).await.is_err());
        lab.client
            .batch_execute("create table public.hers (n int); grant select on public.hers to jean")
            .await
            .unwrap();
        let shut = logins::remove(&mut lab.client, "jean").await.unwrap();
        assert!(matches!(&shut, Removed::Shut(why) if why.contains("hers")), "{shut:?}");
        let may = "select rolcanlogin::text || (select count(*) from pg_auth_members m where m.member = r.oid)
            from pg_roles r where rolname = 'jean'";
        assert_eq!(lab.texts(may).await, ["false0"]);
        assert_eq!(lab.texts("select count(*)::text from report.reader").await, ["0"]);
    }
}
