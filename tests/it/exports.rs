//! `plait export` and `plait reports`; what was written is opened with what people open it with.

use std::{collections::BTreeMap, fs, process::Command};

use serde_json::Value as Json;

use crate::{
    office::{Office, ZOE, list, names},
    plain::{PATIENCE, Plain},
    world::eventually,
};

#[tokio::test]
async fn exports_csv_is_exact_in_the_standard_form() {
    let office = Office::open().await;
    let columns =
        "id,words,amount,exact,loose,whole,ratio,day,at,clock,yes,code,tags,doc,fixed,numbers";
    let said =
        office.well(&["export", "nasty", "-o", "-", "--columns", columns, "--where", "id <= 4"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], columns);
    assert_eq!(
        lines[1],
        "1,'=cmd(),1234567.89,1234567890123456789012345678.0123456789,1234.5,9223372036854775807,0.1,2026-02-28,\
         2026-07-01T22:30:05.25Z,2026-07-01T08:00:00,true,11111111-1111-4111-8111-111111111111,\
         \"[\"\"a,b\"\",\"\"é\\\"\"x\"\",null]\",\"{\"\"k\"\": [1, 2.50]}\",EUR,\"[1,2]\""
    );
    assert_eq!(
        lines[2],
        "2,+33612345678,-0.01,0.0000000001,0.0000000001,-5,1e+300,1899-12-31,2026-01-01T00:30:00Z,,false,,[],,USD,"
    );
    assert_eq!(
        lines[3],
        "3,-5,0.00,-1.0000000000,100,1000000000000000000,-2.5e-07,2026-03-29,2026-10-25T00:30:00Z,,,,,\"\"\"=x\"\"\",,"
    );
    assert_eq!(lines[4], "4,'@x,,,,,,,,,,,\"[\"\"=1+1\"\"]\",,,");
    let said =
        office.well(&["export", "nasty", "-o", "-", "--columns", "words", "--where", "id > 4"]);
    assert_eq!(
        said,
        "words\n\"tab\tline\nbreak\r\n\"\"quoted\"\"; semi, comma \\ back\"\n'\tstarts with a tab\n\
         \"accents éàü, emoji 🚀, _x0041_, control \u{b}\"\n\"\"\n\"\\.\"\n'-5 €\n\\N\n\n"
    );
}

#[tokio::test]
async fn exports_csv_is_what_a_french_excel_opens() {
    let office = Office::open().await;
    let columns = "id,words,amount,loose,ratio,day,at,clock,yes,tags,fixed";
    let said = office.well(&[
        "export",
        "canon.nasty",
        "-o",
        "-",
        "--locale",
        "fr",
        "--columns",
        columns,
        "--where",
        "id <= 5",
    ]);
    let said = said.strip_prefix('\u{feff}').unwrap();
    let lines: Vec<&str> = said.split("\r\n").collect();
    assert_eq!(lines[0], columns.replace(',', ";"));
    assert_eq!(
        lines[1],
        "1;'=cmd();1234567,89;1234,5;0,1;28/02/2026;02/07/2026 00:30:05;01/07/2026 08:00:00;oui;\"a,b, é\"\"x\";EUR"
    );
    let zeros = "0".repeat(300);
    assert_eq!(
        lines[2],
        format!(
            "2;+33612345678;-0,01;0,0000000001;1{zeros};31/12/1899;01/01/2026 01:30:00;;non;\"\";USD"
        )
    );
    // Half past two comes twice in that night.
    assert_eq!(lines[3], "3;-5;0,00;100;-0,00000025;29/03/2026;25/10/2026 02:30:00;;;;");
    assert_eq!(lines[4], "4;'@x;;;;;;;;'=1+1;");
    assert!(lines[5].starts_with("5;\"tab\tline\nbreak"), "{lines:?}");
}

#[tokio::test]
async fn exports_json_keeps_every_digit() {
    let office = Office::open().await;
    let said = office.well(&["export", "nasty", "-f", "json", "-o", "-"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[13]), (14, "[", "]"));
    for part in [
        "\"words\":\"=cmd()\"",
        "\"exact\":1234567890123456789012345678.0123456789,",
        "\"whole\":9223372036854775807,",
        "\"at\":\"2026-07-01T22:30:05.25+00:00\"",
        "\"yes\":true",
        "\"tags\":[\"a,b\",\"é\\\"x\",null]",
        "\"doc\":{\"k\": [1, 2.50]}",
        "\"raw\":{\"k\": 1}",
    ] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    let rows: Vec<BTreeMap<String, Json>> = serde_json::from_str(&said).unwrap();
    assert_eq!(rows.len(), 12);
    assert_eq!(rows[4]["words"], "tab\tline\nbreak\r\n\"quoted\"; semi, comma \\ back");
    assert_eq!(rows[11]["words"], Json::Null);
    assert_eq!(
        office.well(&["export", "nasty", "-f", "json", "-o", "-", "--where", "false"]),
        "[]\n"
    );
}

#[tokio::test]
async fn exports_parquet_is_read_by_duckdb_and_pandas() {
    let office = Office::open().await;
    let said = office.well(&["export", "nasty", "-o", "nasty.parquet"]);
    assert!(said.starts_with("nasty: 12 rows → nasty.parquet ("), "{said}");
    let read = office.opened("duckdb", "nasty.parquet");
    let types = [
        ("id", "INTEGER"),
        ("words", "VARCHAR"),
        ("amount", "DECIMAL(18,2)"),
        ("exact", "DECIMAL(38,10)"),
        ("loose", "DECIMAL(38,10)"),
        ("whole", "BIGINT"),
        ("small", "SMALLINT"),
        ("ratio", "DOUBLE"),
        ("day", "DATE"),
        ("at", "TIMESTAMP WITH TIME ZONE"),
        ("clock", "TIMESTAMP"),
        ("yes", "BOOLEAN"),
        ("tags", "VARCHAR[]"),
        ("doc", "VARCHAR"),
    ];
    for (name, wanted) in types {
        assert_eq!(read["columns"][name], wanted, "{name}");
    }
    let first = &read["rows"][0];
    let wanted = [
        "int 1",
        "=cmd()",
        "decimal 1234567.89",
        "decimal 1234567890123456789012345678.0123456789",
        "decimal 1234.5000000000",
        "int 9223372036854775807",
        "int -32768",
        "float 0.1",
        "date 2026-02-28",
        "datetime 2026-07-01T22:30:05.250000+00:00",
        "datetime 2026-07-01T08:00:00",
        "bool True",
        ZOE,
    ];
    for (at, wanted) in wanted.iter().enumerate() {
        assert_eq!(first[at], *wanted, "{at}");
    }
    assert_eq!(first[13], serde_json::json!(["a,b", "é\"x", null]));
    assert_eq!(read["rows"][1][8], "date 1899-12-31");
    assert_eq!(read["rows"][1][13], serde_json::json!([]));
    assert_eq!(read["rows"][4][1], "tab\tline\nbreak\r\n\"quoted\"; semi, comma \\ back");
    assert_eq!(read["rows"][11][1], Json::Null);

    let read = office.opened("pandas", "nasty.parquet");
    assert_eq!(read["columns"]["amount"], "decimal128(18, 2)[pyarrow]");
    assert_eq!(read["columns"]["day"], "date32[day][pyarrow]");
    assert_eq!(read["columns"]["at"], "timestamp[us, tz=UTC][pyarrow]");
    assert_eq!(read["columns"]["tags"], "list<item: string>[pyarrow]");
    assert_eq!(read["rows"][0][2], "decimal 1234567.89");
    assert_eq!(read["rows"][0][3], "decimal 1234567890123456789012345678.0123456789");
    assert_eq!(read["rows"][0][5], "int 9223372036854775807");
    assert_eq!(read["rows"][2][11], Json::Null);

    office.well(&["export", "million", "-o", "m.parquet", "--where", "id <= 300000"]);
    let groups = office.opened("pandas", "m.parquet")["groups"].clone();
    assert_eq!(groups, serde_json::json!([122_880, 122_880, 54_240]));
}

#[tokio::test]
async fn exports_workbook_has_real_numbers_and_dates_and_no_formula() {
    let office = Office::open().await;
    office.well(&["export", "nasty", "-o", "nasty.xlsx", "--as", "Ann", "--where", "id > 0"]);
    let read = office.opened("openpyxl", "nasty.xlsx");
    assert_eq!(list(&read["order"]), ["Couverture - Cover", "nasty"]);
    let sheet = &read["sheets"]["nasty"];
    assert_eq!(sheet["frozen"], "A2");
    assert_eq!(sheet["filter"], "A1:R13");
    assert_eq!(sheet["bold"], true);
    assert_eq!(
        list(&sheet["rows"][1])[..13],
        [
            "int 1",
            "=cmd()",
            "float 1234567.89",
            "1234567890123456789012345678.0123456789",
            "float 1234.5",
            "9223372036854775807",
            "int -32768",
            "float 0.1",
            "datetime 2026-02-28T00:00:00",
            "datetime 2026-07-02T00:30:05.250000",
            "datetime 2026-07-01T08:00:00",
            "bool True",
            ZOE,
        ]
    );
    // No cell is a formula.
    let types: Vec<&str> = sheet["types"].as_array().unwrap().iter().flat_map(list).collect();
    assert!(!types.contains(&"f"), "{types:?}");
    assert_eq!(list(&sheet["quoted"]), ["B2", "B5", "N5", "B7", "B11"]);
    assert_eq!(
        list(&sheet["formats"])[..11],
        [
            "0",
            "General",
            "#,##0.00",
            "@",
            "#,##0.00########",
            "@",
            "0",
            "General",
            "yyyy-mm-dd",
            "yyyy-mm-dd hh:mm:ss",
            "yyyy-mm-dd hh:mm:ss",
        ]
    );
    let words = |row: usize| sheet["rows"][row][1].as_str().unwrap_or("∅").to_owned();
    assert_eq!(words(5), "tab\tline\nbreak\n\"quoted\"; semi, comma \\ back");
    assert_eq!(words(7), "accents éàü, emoji 🚀, _x0041_, control \u{b}");
    assert_eq!(sheet["rows"][2][8], "1899-12-31", "before Excel's days");
    assert_eq!(sheet["rows"][3][5], "int 1000000000000000000");
    let cover = read["sheets"]["Couverture - Cover"]["rows"].to_string();
    for part in ["Ann", "id > 0", "maintenant / now", "Établi le / Made at"] {
        assert!(cover.contains(part), "{part}: {cover}");
    }
}

/// All sheets of a workbook as `LibreOffice` shows them, as CSV.
fn as_libreoffice_shows(office: &Office, name: &str) -> BTreeMap<String, String> {
    let profile = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("soffice")
        .arg(format!("-env:UserInstallation=file://{}", profile.path().display()))
        .args(["--headless", "--norestore", "--convert-to"])
        // Comma, quotes, UTF-8, American English, cells as they are shown, all sheets.
        .arg("csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,false,false,true,false,false,-1")
        .arg("--outdir")
        .arg(folder.path())
        .arg(office.path(name))
        .output()
        .expect("scripts/install test installs LibreOffice");
    let sheets: BTreeMap<String, String> = names(folder.path())
        .into_iter()
        .map(|name| {
            let text = fs::read_to_string(folder.path().join(&name)).unwrap();
            (name, text)
        })
        .collect();
    assert!(!sheets.is_empty(), "{output:?}");
    sheets
}

#[tokio::test]
async fn exports_workbook_of_all_reports_is_opened_by_libreoffice() {
    let office = Office::open().await;
    let said = office.well(&["export", "all", "-o", "all.xlsx", "--locale", "fr"]);
    assert!(said.starts_with("2 reports: 5 rows → all.xlsx"), "{said}");
    let sheets = as_libreoffice_shows(&office, "all.xlsx");
    let names: Vec<&str> = sheets.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["all-Couverture - Cover.csv", "all-Lettres- a-b.csv", "all-Portefeuille.csv"]
    );
    let holdings = &sheets["all-Portefeuille.csv"];
    let lines: Vec<&str> = holdings.lines().collect();
    assert_eq!(lines[0], "member_id,company,amount,held_on");
    assert_eq!(lines[1], format!("{ZOE},Alpha,\"1,000.00\",10/01/2026"));
    assert_eq!(lines[2], format!("{ZOE},Bêta,\"2,500.50\",10/02/2026"));
    assert_eq!(lines.len(), 4);
    let cover = &sheets["all-Couverture - Cover.csv"];
    for part in [
        "Portefeuille",
        "Holdings",
        "Ce que détient chaque investisseur.",
        "What each investor holds.",
    ] {
        assert!(cover.contains(part), "{part}: {cover}");
    }
    // A letter is not dated: nobody shall take it for one of that day.
    let output = office.run(&["export", "all", "-o", "old.xlsx", "--as-of", "2026-01-31"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("left out") && said.contains("letter"), "{said}");
    let read = office.opened("openpyxl", "old.xlsx");
    assert_eq!(list(&read["order"]), ["Couverture - Cover", "Holdings"]);
    assert_eq!(read["sheets"]["Holdings"]["row_count"], 2);
    assert!(read["sheets"]["Couverture - Cover"]["rows"].to_string().contains("31/01/2026"));
}

#[tokio::test]
async fn exports_dated_report_answers_as_of_and_as_known() {
    let office = Office::open().await;
    let count = |words: &[&str]| {
        let mut all = vec!["export", "holding", "-o", "-"];
        all.extend(words);
        office.well(&all).lines().count() - 1
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--as-of", "2026-02-28"]), 2);
    assert_eq!(count(&["--as-of", "2026-02-28", "--known-at", "2026-03-01"]), 1);
    assert_eq!(count(&["--investor", "zoe LEFEVRE", "--as-of", "2026-01-31"]), 1);
    assert_eq!(count(&["--investor", "jean@example.org"]), 1);
    assert_eq!(count(&["--investor", ZOE, "--where", "amount > 2000 -- large"]), 1);
    let said = office.complaint(&["export", "holding", "-o", "-", "--as-of", "2999-01-01"]);
    assert!(said.contains("2999-01-01 is in the future: today is "), "{said}");
    let said = office.complaint(&[
        "export",
        "holding",
        "-o",
        "-",
        "--as-of",
        "2026-01-01",
        "--known-at",
        "2999-01-01",
    ]);
    assert!(said.contains("is in the future"), "{said}");
    let said = office.complaint(&["export", "letter", "-o", "-", "--as-of", "2026-01-01"]);
    assert!(said.contains("letter is not dated") && said.contains("Dated are holding"), "{said}");
    let said = office.complaint(&["export", "holding", "-o", "-", "--as-of", "31/01/2026"]);
    assert!(said.contains("a date is written 2026-03-31"), "{said}");
}

#[tokio::test]
async fn exports_pack_has_a_folder_an_investor() {
    let office = Office::open().await;
    let said = office.well(&["export", "investor-pack", "-f", "xlsx", "-o", "packs"]);
    assert!(said.ends_with("2 investors → packs\n"), "{said}");
    let folders = names(&office.path("packs"));
    assert_eq!(folders, ["LEFÈVRE Zoé – 11111111", "MARTIN Jean – 22222222"]);
    let file = format!("packs/{0}/{0}.xlsx", folders[0]);
    let read = office.opened("openpyxl", &file);
    assert_eq!(list(&read["order"]), ["Couverture - Cover", "Holdings", "Letters- a-b"]);
    assert_eq!(read["sheets"]["Holdings"]["row_count"], 3);
    assert!(read["sheets"]["Couverture - Cover"]["rows"].to_string().contains("Zoé Lefèvre"));

    office.well(&["export", "investor-pack", "-o", "csv", "--as-of", "2026-01-31"]);
    assert_eq!(names(&office.path("csv")), ["LEFÈVRE Zoé – 11111111"]);
    assert_eq!(names(&office.path("csv/LEFÈVRE Zoé – 11111111")), ["holding.csv"]);

    // One whose figures cannot be had stops no other.
    office
        .sql(
            "create or replace view report.letter as select member_id, (1 / (amount - 300.25)::integer)::text as greeting
             from canon.holding where member_id <> '11111111-1111-4111-8111-111111111111' or amount < 2000",
        )
        .await;
    let output = office.run(&["export", "investor-pack", "-o", "some"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("1 could not be written") && said.contains("MARTIN Jean – 22222222: "),
        "{said}"
    );
    assert!(said.contains("division by zero"), "{said}");
    assert_eq!(names(&office.path("some")), ["LEFÈVRE Zoé – 11111111"]);
    let said = office.complaint(&["export", "investor-pack", "-o", "some"]);
    assert!(said.contains("is there already"), "{said}");
}

#[tokio::test]
async fn exports_scheduled_are_carried_out_at_once_when_asked() {
    let office = Office::open().await;
    let out = office.folder.path().join("out");
    fs::create_dir_all(out.join("daily")).unwrap();
    fs::write(out.join("daily/daily_2020-01-01_0600.csv"), "old").unwrap();
    let said = office.well(&["export", "--scheduled", "daily"]);
    assert!(said.starts_with("daily: 3 rows → "), "{said}");
    let made = names(&out.join("daily"));
    let [one] = made.as_slice() else { panic!("{made:?}") };
    assert!(one.as_str() > "daily_2020-01-02" && one.strip_suffix(".csv").is_some(), "{one}");
    office.well(&["export", "--scheduled", "packs"]);
    office.well(&["export", "--scheduled", "two"]);
    let made = names(&out);
    assert_eq!(made.len(), 3, "{made:?}");
    assert_eq!(names(&out.join(&made[1])), ["LEFÈVRE Zoé – 11111111", "MARTIN Jean – 22222222"]);
    assert_eq!(names(&out.join(&made[2])), ["holding.json", "letter.json"]);
}

#[tokio::test]
async fn reports_are_listed_in_words() {
    let office = Office::open().await;
    let said = office.well(&["reports"]);
    assert!(
        said.contains(
            "holding  Holdings · dated: takes --as-of\n         What each investor holds."
        ),
        "{said}"
    );
    assert!(
        said.contains("Tables of canon: holding, long, member, million, nasty, unfit"),
        "{said}"
    );
    let said = office.well(&["reports", "--lang", "fr"]);
    assert!(said.contains("holding  Portefeuille · daté : prend --as-of"), "{said}");
    let said = office.well(&["reports", "holding"]);
    assert!(said.contains("  amount     numeric(18,2)  Paid in, in EUR.\n"), "{said}");
    let json: Json = serde_json::from_str(&office.well(&["reports", "--json"])).unwrap();
    assert_eq!(json[0]["name"], "holding");
    let json: Json =
        serde_json::from_str(&office.well(&["reports", "canon.member", "--json"])).unwrap();
    assert_eq!(
        (&json["is_report"], &json["columns"][0]["type"]),
        (&Json::Bool(false), &Json::from("uuid"))
    );
    let said = office.complaint(&["reports", "holdnig"]);
    assert!(said.contains("did you mean `holding`?"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_scheduled_are_kept_by_run_and_never_stop_it() {
    let mut plain = Plain::start().await;
    plain.documents.settings.push_str(
        "[[export]]\nname = \"month\"\nreports = [\"canon.startup\"]\nfolder = \"month\"\nevery = \"month\"\n\
         [[export]]\nname = \"none\"\nreports = [\"startpu\"]\nfolder = \"none\"\nevery = \"day\"\n",
    );
    plain.run();
    plain.until_logged("did you mean `startup`?").await;
    let made = async || {
        let folder = plain.place().join("month");
        let made = if folder.is_dir() { names(&folder) } else { Vec::new() };
        match made.as_slice() {
            [one] if !one.starts_with('.') => Ok(folder.join(one)),
            _ => Err((made, plain.log())),
        }
    };
    let file = eventually(PATIENCE, made).await;
    // After the first copies, and not before.
    let count: i64 = plain
        .canonical()
        .await
        .query_one("select count(*) from canon.startup where deleted_at is null", &[])
        .await
        .unwrap()
        .get(0);
    let lines = fs::read_to_string(&file).unwrap().lines().count();
    assert!(count > 0 && lines > usize::try_from(count).unwrap(), "{count} {lines}");
    plain.terminate().await;
    // A restart does not make it again, and the one that fails stops nobody.
    plain.run();
    eventually(PATIENCE, async || {
        let log = plain.log();
        let failure_count = log.matches("did you mean `startup`?").count();
        if failure_count > 1 { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(plain.is_running());
    assert_eq!(names(&plain.place().join("month")).len(), 1);
    plain.end().await;
}
