//! An analyst's way through docs/reports.md: what came from both sides, read as reports by SQL, as Excel and as Parquet, and
//! worked out once more from the plain tables by a program that is none of ours.

use std::{fs, process::Command};

use plait::demo::cache;

use crate::line::Line;

#[tokio::test(flavor = "multi_thread")]
async fn reports_agree_by_sql_excel_and_parquet_with_what_is_worked_out_elsewhere() {
    let mut line = Line::start().await;
    line.run();
    line.until_copied().await;
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    // Who has most lines that have ended, and so most to go wrong; on a day in the midst, and today.
    let investors = "select member_id::text from canon.investment where deleted_at is null and member_id is not null
        group by 1 order by count(*) filter (where status_code in ('exited', 'partly_exited', 'written_off')) desc, count(*) desc, 1 limit 3";
    let rows = line.canonical.query(investors, &[]).await.unwrap();
    for table in ["investment", "cash_flow", "valuation", "instrument", "cash_flow_kind"] {
        line.said(&["export", &format!("canon.{table}"), "-o", &path(&format!("{table}.csv"))]);
    }
    let today: String =
        line.canonical.query_one("select current_date::text", &[]).await.unwrap().get(0);
    let mut line_count = 0;
    for member in rows.iter().map(|row| row.get::<_, String>(0)) {
        for day in ["2024-06-30", &today] {
            let sql = format!(
                "select coalesce(json_agg(l), '[]')::text from report.portfolio_line_at('{day}') l where member_id = '{member}'"
            );
            let answer: String = line.canonical.query_one(&sql, &[]).await.unwrap().get(0);
            fs::write(path("sql.json"), answer).unwrap();
            for file in ["lines.xlsx", "lines.parquet"] {
                line.said(&[
                    "export",
                    "portfolio_line",
                    "--investor",
                    &member,
                    "--as-of",
                    day,
                    "--overwrite",
                    "-o",
                    &path(file),
                ]);
            }
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/portfolio.py");
            let done = Command::new(cache::readers().unwrap())
                .args(["-B", script, files.path().to_str().unwrap(), &member, day])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
            let (count, _) = said.split_once(' ').unwrap();
            line_count += count.parse::<usize>().unwrap();
        }
    }
    assert!(line_count >= 18, "{line_count}");

    // The catalogue as people read it, and a login of an investor made as the documents say.
    let listed = line.said(&["reports", "--lang", "fr"]);
    assert!(
        listed.contains("portfolio_by_investor") && listed.contains("Portefeuille"),
        "{listed}"
    );
    let member: String = rows[0].get(0);
    let refused = line.command(&["setup", "roles", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("alter role plait createrole"), "{said}");
    line.canonical.batch_execute("alter role plait createrole").await.unwrap();
    line.said(&["setup", "roles", "--yes"]);
    let file = path("password");
    let reader = [
        "setup",
        "reader",
        "jd",
        "--as",
        "investor",
        "--member",
        &member,
        "--password-file",
        &file,
    ];
    assert!(line.said(&reader).contains("nothing is done yet"));
    line.said(&[&reader[..], &["--yes"]].concat());
    let own = line
        .canonical
        .query_one("select member_id::text from report.reader where role_name = 'jd'", &[]);
    assert_eq!(own.await.unwrap().get::<_, String>(0), member);
    assert_eq!(fs::read_to_string(&file).unwrap().trim().len(), 48);

    // Who reads is listed, and taken away.
    let name = format!(
        "select concat_ws(' ', first_name, last_name) from canon.member where id = '{member}'"
    );
    let name: String = line.canonical.query_one(&name, &[]).await.unwrap().get(0);
    let listed = line.said(&["setup", "reader", "--list"]);
    assert_eq!(listed.trim(), format!("jd reads as plait_investor, who is {name}"));
    assert!(line.said(&["setup", "reader", "jd", "--remove"]).contains("nothing is done yet"));
    assert!(line.said(&["setup", "reader", "--list"]).contains("jd reads"));
    line.said(&["setup", "reader", "jd", "--remove", "--yes"]);
    assert_eq!(line.said(&["setup", "reader", "--list"]).trim(), "there is no login of a reader");
    let mistyped =
        line.command(&["export", "movement", "-o", "-", "--investor", "Zzz"]).output().unwrap();
    let said = String::from_utf8_lossy(&mistyped.stderr).into_owned();
    assert!(!mistyped.status.success() && said.contains("; the nearest are `"), "{said}");
}
