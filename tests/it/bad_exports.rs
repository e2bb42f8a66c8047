//! Exports that cannot be: what is said, and that nothing is left. And how much memory the largest take.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};

use crate::office::{Office, ZOE, names};

#[tokio::test]
async fn exports_parquet_tells_the_row_that_does_not_fit() {
    let office = Office::open().await;
    let said = office.complaint(&["export", "unfit", "-o", "u.parquet", "--columns", "id,loose"]);
    assert!(
        said.contains("unfit, row 2, column `loose` (numeric): it does not fit a decimal"),
        "{said}"
    );
    let said = office.complaint(&["export", "unfit", "-o", "u.parquet", "--columns", "wide"]);
    assert!(
        said.contains("column `wide` (numeric(50,2)): a decimal of Parquet has at most 38"),
        "{said}"
    );
}

#[tokio::test]
async fn exports_bad_input_is_told_and_leaves_nothing() {
    let office = Office::open().await;
    let complain = |words: &[&str], parts: &[&str]| {
        let mut all = vec!["export"];
        all.extend(words);
        let said = office.complaint(&all);
        for part in parts {
            assert!(said.contains(part), "{words:?}: {part}: {said}");
        }
    };
    complain(
        &["holdnig", "-o", "a.csv"],
        &["no report or table `holdnig`", "did you mean `holding`?"],
    );
    complain(&["zzz", "-o", "a.csv"], &["no report or table `zzz`", "holding, letter"]);
    complain(&["canon.letter", "-o", "a.csv"], &["no report or table `canon.letter`"]);
    complain(&["holding", "-o", "a.csv", "--columns", "amuont"], &["did you mean `amount`?"]);
    complain(
        &["holding", "-o", "a.csv", "--where", "amuont > 5"],
        &[
            "\"amuont\" does not exist; did you mean `amount`?",
            "member_id, company, amount, held_on",
        ],
    );
    complain(
        &["holding", "-o", "a.csv", "--where", "amount >"],
        &["--where cannot be used: syntax error"],
    );
    complain(&["holding", "-o", "a.csv", "--where", ""], &["--where cannot be used: it is empty"]);
    // What is chained, or another statement, is none.
    for condition in [
        "true; drop table canon.holding",
        "true)); drop table canon.holding --",
        "true)) to program 'touch x' --",
        "true)) to stdout --",
        "true /*",
    ] {
        complain(&["holding", "-o", "a.csv", "--where", condition], &["--where cannot be used"]);
    }
    complain(
        &["holding", "-o", "a.csv", "--where", "canon.write()"],
        &["in a read-only transaction"],
    );
    complain(
        &["million", "-o", "a.csv", "--where", "10 / (500000 - id) > 0"],
        &["division by zero"],
    );
    complain(
        &["holding", "-o", "a.csv", "--investor", "Nobody"],
        &["no investor is called `Nobody`"],
    );
    complain(
        &["holding", "-o", "a.csv", "--investor", "jean martin"],
        &[
            "may be any of these",
            "22222222-2222-4222-8222-222222222222",
            "33333333-3333-4333-8333-333333333333",
        ],
    );
    complain(&["holding", "-o", "a.csv", "--investor", "Ann Gone"], &["no investor is called"]);
    complain(
        &["nasty", "-o", "a.csv", "--investor", ZOE],
        &["not about single investors", "holding, letter"],
    );
    complain(&["all", "-o", "-"], &["name a folder by -o"]);
    complain(&["all", "-o", "x", "--columns", "a"], &["--columns is about one report"]);
    complain(&["holding", "-o", "none/a.csv"], &["could not write none/a.csv"]);
    complain(&["--scheduled", "dialy"], &["no export `dialy`; did you mean `daily`?"]);
    complain(
        &["long", "-o", "a.xlsx"],
        &["long, row 2, column `words`: a text of 32768 characters", "csv or parquet"],
    );
    fs::write(office.path("there.csv"), "mine").unwrap();
    complain(&["holding", "-o", "there.csv"], &["there.csv is there already", "--overwrite"]);
    assert_eq!(fs::read_to_string(office.path("there.csv")).unwrap(), "mine");
    office.well(&["export", "holding", "-o", "there.csv", "--overwrite"]);
    assert_eq!(fs::read_to_string(office.path("there.csv")).unwrap().lines().count(), 4);
    // A text that just fits, as Excel counts.
    office.well(&["export", "long", "-o", "fits.xlsx", "--where", "id = 1"]);
    office.sql("drop view report.letter").await;
    complain(&["letter", "-o", "a.csv"], &["report.letter is not there", "plait migrate"]);
    office.sql("drop table report.catalogue").await;
    complain(&["all", "-o", "x"], &["no reports yet: run `plait migrate`"]);
}

#[tokio::test]
async fn exports_condition_looks_at_its_row_and_at_nothing_else() {
    let office = Office::open().await;
    office
        .sql(
            "create sequence canon.counter; create table public.open (t text); grant select on public.open to public;
             create function public.read() returns text language sql stable as 'select email from canon.member limit 1'",
        )
        .await;
    let complain = |condition: &str, expected: &[&str]| {
        let said = office.complaint(&["export", "holding", "-o", "a.csv", "--where", condition]);
        for expected in expected {
            assert!(said.contains(expected), "{condition}: {said}");
        }
        for value in ["zoe@example.org", "jean@example.org"] {
            assert!(!said.contains(value), "{condition}: {said}");
        }
    };
    // Another table, whoever may read it.
    for (condition, relation) in [
        ("exists (select from canon.member where email like 'z%')", "canon.member"),
        ("amount > (select avg(amount) from report.holding)", "report.holding"),
        ("company in (select t from public.open)", "open"),
        ("exists (select from pg_roles)", "pg_roles"),
        ("exists (select from pg_stats)", "pg_stats"),
    ] {
        complain(condition, &[relation, "looks at the columns of holding alone"]);
    }
    // What acts, waits, or runs a text of its own.
    for function in [
        "pg_sleep(3600)",
        "pg_read_file('/etc/passwd')",
        "pg_stat_file('/etc/passwd')",
        "nextval('canon.counter')",
        "pg_notify('plait_command', 'guest')",
        "pg_advisory_lock(1)",
        "set_config('role', 'none', true)",
        "query_to_xml('select email from canon.member', true, true, '')",
        "lo_import('/etc/passwd')",
        "pg_terminate_backend(1)",
    ] {
        let name = function.split_once('(').unwrap().0;
        complain(&format!("({function}) is not null"), &[name, "in a read-only transaction"]);
    }
    // What such a look does not tell ends at what the role may do.
    complain("public.read() is not null", &["permission denied"]);
    complain("table_to_xml('canon.member', true, true, '') is not null", &["permission denied"]);
    complain("has_table_privilege('canon.member', 'select')", &["--where cannot be used"]);
    complain("true) union select email from canon.member where (true", &["--where cannot be used"]);
    complain("pg_ls_dir('/') is not null", &["--where cannot be used: set-returning"]);
    complain("true) or exists (select from canon.member) or (true", &["canon.member"]);

    // A condition is as free as ever with its own row.
    let count = |condition: &str| {
        let said = office.well(&["export", "holding", "-o", "-", "--where", condition]);
        said.lines().count() - 1
    };
    assert_eq!(count("r.amount > 500 /* or so */ -- and"), 2);
    assert_eq!(
        count(
            "held_on between '2026-01-01' and date '2026-02-28' and company ilike any (array['a%', 'b%'])"
        ),
        2
    );
    assert_eq!(
        count("exists (select from unnest(string_to_array(company, 'p')) t where t = 'ha')"),
        2
    );
    assert_eq!(count("extract(year from held_on) = 2026 and now() > held_on and r is not null"), 3);
    assert_eq!(count("case when amount > 2000 then false else null end"), 0);
    assert_eq!(count("current_user = 'plait_condition'"), 3);
    let left = "select count(*) from pg_proc where pronamespace = 'plait_condition'::regnamespace";
    assert_eq!(office.text(left).await, "0");
    // Two at once do not get in each other's way.
    let mut others: Vec<_> = (0..3)
        .map(|at| {
            let name = format!("other-{at}.csv");
            let words = ["export", "million", "-o", &name, "--where", "id <= 300000"];
            office.command(&words).spawn().unwrap()
        })
        .collect();
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    // Of a day, and of an investor.
    let dated = ["export", "holding", "-o", "-", "--as-of", "2026-02-01", "--where", "amount > 1"];
    assert_eq!(office.well(&dated).lines().count() - 1, 1);
}

#[tokio::test]
async fn exports_folder_of_all_is_whole_or_not_there() {
    let office = Office::open().await;
    office.well(&["export", "all", "-o", "all"]);
    assert_eq!(names(&office.path("all")), ["holding.csv", "letter.csv"]);
    let said = office.complaint(&["export", "all", "-o", "all"]);
    assert!(said.contains("all/holding.csv is there already"), "{said}");
    office.sql("insert into report.catalogue values ('company', '', '', '', '', false, 3)").await;
    let said = office.complaint(&["export", "all", "-o", "new", "-f", "parquet"]);
    assert!(said.contains("division by zero"), "{said}");
}

#[tokio::test]
async fn exports_stopped_by_a_signal_leave_nothing() {
    let office = Office::open().await;
    office
        .sql("create view report.slow as select g, pg_sleep(0.005)::text as x from generate_series(1, 1000000) g")
        .await;
    office.sql("insert into report.catalogue values ('slow', '', '', '', '', false, 3)").await;
    for format in ["csv", "xlsx", "parquet"] {
        let mut child = office
            .command(&["export", "slow", "-f", format, "-o", "slow.file"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while office.names().is_empty() {
            assert!(since.elapsed() < Duration::from_mins(1), "it does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        signal(&child, Signal::SIGINT);
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("stopped; nothing was left behind"), "{said}");
        assert!(office.names().is_empty(), "{format}: {:?}", office.names());
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[tokio::test]
async fn exports_end_quietly_when_nobody_reads_on() {
    let office = Office::open().await;
    for format in ["csv", "json", "parquet", "xlsx"] {
        let mut child = office
            .command(&["export", "million", "-f", format, "-o", "-", "--where", "id <= 300000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_until(b'\n', &mut Vec::new()).unwrap();
        drop(lines);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{format}: {said}");
    }
}

#[tokio::test]
async fn exports_full_disk_is_told_and_leaves_nothing() {
    let office = Office::open().await;
    for format in ["csv", "json", "parquet", "xlsx"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = office
            .command(&["export", "million", "-f", format, "-o", "-", "--where", "id <= 20000"])
            .stdout(full)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{format}: {said}");
        assert!(
            said.contains("could not write to standard output") && said.contains("No space left"),
            "{format}: {said}"
        );
    }
    if !Uid::effective().is_root() {
        eprintln!("the disk itself is filled only where root may mount a small one");
        return;
    }
    let disk = Disk::mount(office.path("disk"));
    for format in ["csv", "json", "parquet", "xlsx"] {
        let file = format!("disk/a.{format}");
        let output = office.run(&["export", "million", "-o", &file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{format}: {said}");
        assert!(
            said.contains("the disk of disk is full: ") && said.contains(" were written"),
            "{format}: {said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        assert!(names(&disk.0).is_empty(), "{format}: {:?}", names(&disk.0));
    }
}

/// A disk of 2 MB.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&at).status();
        assert!(mounted.unwrap().success(), "root could not mount a tmpfs");
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn exports_of_many_rows_take_little_memory() {
    let office = Office::open().await;
    for format in ["csv", "json", "parquet", "xlsx"] {
        let mut child = office
            .command(&["export", "million", "-f", format, "-o", &format!("m.{format}")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak_kb = 0;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            let told =
                fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            peak_kb = peak_kb.max(kb.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{format}");
        assert!(peak_kb > 0 && peak_kb < 150_000, "{format}: {peak_kb} kB");
    }
    let lines = BufReader::new(File::open(office.path("m.csv")).unwrap()).lines().count();
    assert_eq!(lines, 1_000_001);
    // One row more than a sheet holds.
    office
        .sql("create or replace view canon.million as select g as id, g * 1.25::numeric(18, 2) as amount, 'row ' || g as words, date '2020-01-01' as day from generate_series(1, 1048576) g")
        .await;
    let said = office.complaint(&["export", "million", "-o", "more.xlsx"]);
    assert!(
        said.contains("million has more than 1,048,575 rows") && said.contains("csv or parquet"),
        "{said}"
    );
}
