//! Scheduled exports as `plait run` keeps them, on a real Postgres.

use std::{fs, path::Path, time::Duration};

use chrono::{NaiveTime, TimeDelta, Utc};
use chrono_tz::Europe::Paris;
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Catalogue, Error, Maker, Order, Place, Question, Session, Watch, carry_out, keep_exporting,
    task::is_due,
};
use crate::{
    config::{Every, Export, Format, Locale, Timetable, What},
    demo::{
        cache::postgres_bin,
        cluster::{Cluster, SUPERUSER},
    },
    postgres::TlsMode,
    pulse::Pulse,
    store::{Canonical, reports::CONDITION},
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs the task until `is_done`, then stops it.
async fn run(canonical: &Canonical, export: &Export, is_done: impl AsyncFn() -> bool) {
    let stop = CancellationToken::new();
    let task =
        tokio::spawn(keep_exporting(canonical.clone(), export.clone(), Pulse::new(), stop.clone()));
    let since = Instant::now();
    while !is_done().await {
        assert!(since.elapsed() < PATIENCE, "{:?}", names(&export.folder));
        sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn export_scheduled_is_made_up_for_once_and_not_twice() {
    let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
    let config = cluster.config(SUPERUSER, SUPERUSER, cluster.password());
    let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };
    let client = cluster.connect(SUPERUSER).await.unwrap();
    client
        .batch_execute("create schema canon; create table canon.thing as select 1 as id")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let export = Export {
        name: "daily".into(),
        what: What::One("thing".into()),
        format: Format::Csv,
        locale: Locale::Standard,
        folder: folder.path().join("out"),
        table: Timetable { every: Every::Month, at: NaiveTime::MIN, zone: Paris },
        keep: Some(2),
    };
    let made = async || names(&export.folder).iter().any(|name| !name.starts_with('.'));
    // Several are due since ever: one is made.
    run(&canonical, &export, made).await;
    let one = names(&export.folder);
    assert_eq!(one.len(), 1, "{one:?}");
    assert_eq!(fs::read_to_string(export.folder.join(&one[0])).unwrap(), "id\n1\n");

    // A restart sees that it was made.
    assert!(!is_due(&export, None, Utc::now()).unwrap());
    // Somebody who takes the file away is not given another by the same process.
    let elsewhere = Export { folder: folder.path().join("none"), ..export.clone() };
    assert!(is_due(&elsewhere, None, Utc::now()).unwrap());
    assert!(!is_due(&elsewhere, Some(Utc::now()), Utc::now()).unwrap());

    // The last one is of another month: the next is due. One that fails leaves nothing.
    let last = Utc::now() - TimeDelta::days(40);
    let old = format!("daily_{}.csv", last.with_timezone(&Paris).format("%Y-%m-%d_%H%M"));
    fs::rename(export.folder.join(&one[0]), export.folder.join(&old)).unwrap();
    assert!(is_due(&export, None, Utc::now()).unwrap());
    client
        .batch_execute(
            "insert into canon.thing values (2); alter table canon.thing rename to other",
        )
        .await
        .unwrap();
    let (bar, stop) = (ProgressBar::hidden(), CancellationToken::new());
    let watch = Watch { bar: &bar, stop: &stop };
    let failed = carry_out(&canonical, &export, Utc::now(), watch).await;
    assert!(matches!(failed, Err(Error::UnknownSource { .. })), "{failed:?}");
    assert_eq!(names(&export.folder), std::slice::from_ref(&old));

    client.batch_execute("alter table canon.other rename to thing").await.unwrap();
    run(&canonical, &export, async || {
        names(&export.folder).iter().filter(|name| !name.starts_with('.')).count() == 2
    })
    .await;
    let newest = names(&export.folder).pop().unwrap();
    assert_eq!(fs::read_to_string(export.folder.join(newest)).unwrap(), "id\n1\n2\n");
    cluster.remove().await.unwrap();
}

#[tokio::test]
async fn export_condition_that_takes_long_is_ended_and_one_without_its_role_is_told() {
    let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
    let client = cluster.connect(SUPERUSER).await.unwrap();
    client
        .batch_execute(
            "create role plait login; create schema canon authorization plait; set role plait;
             create table canon.thing as select 1 as id",
        )
        .await
        .unwrap();
    let mut config = cluster.config(SUPERUSER, "plait", cluster.password());
    client
        .batch_execute(&format!("reset role; alter role plait password '{}'", cluster.password()))
        .await
        .unwrap();
    config.user("plait");
    let canonical = Canonical { config, tls: TlsMode::Disable, ca: None };

    // Who may not make the role is told what to do, once and for all.
    let Err(refused) = Session::open_for_condition(&canonical).await else { panic!("no role") };
    let refused = refused.to_string();
    assert!(refused.contains("user plait may not make it: let an administrator run"), "{refused}");
    client.batch_execute(CONDITION).await.unwrap();

    let question =
        |condition: &str| Question { condition: Some(condition.to_owned()), ..Question::default() };
    let export = async |condition: &str, time_max: Duration| {
        let mut session = Session::open_for_condition(&canonical).await.unwrap();
        session.condition_time_max = time_max;
        let catalogue = Catalogue::read(&session).await.unwrap();
        let (bar, stop) = (ProgressBar::hidden(), CancellationToken::new());
        let folder = tempfile::tempdir().unwrap();
        let order = Order {
            format: Format::Csv,
            locale: Locale::Standard,
            question: question(condition),
            overwrite: false,
            made_by: String::new(),
            member_name: None,
        };
        let watch = Watch { bar: &bar, stop: &stop };
        let maker = Maker { session: &session, catalogue: &catalogue, order: &order, watch };
        let place = Place::Path(folder.path().join("a.csv"));
        maker.export(&What::One("thing".into()), &place).await.map(|it| it.written[0].row_count)
    };
    let began = Instant::now();
    let long = "(select count(*) from generate_series(1, 1000000000000)) > id";
    let ended = export(long, Duration::from_millis(200)).await;
    assert!(matches!(ended, Err(Error::ConditionTooLong)), "{ended:?}");
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(export("id = 1", PATIENCE).await.unwrap(), 1);
    assert_eq!(export("id = 2", PATIENCE).await.unwrap(), 0);
    cluster.remove().await.unwrap();
}
