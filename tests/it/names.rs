//! What things are called, through the program: a rename in Airtable is followed by whoever looks, and told by its names.

use plait::sandbox::Edit;
use serde_json::json;

use crate::plain::Plain;

#[tokio::test(flavor = "multi_thread")]
async fn names_that_change_in_airtable_are_followed_by_check_as_by_run() {
    let mut plain = Plain::start().await;
    plain.run();
    plain.until_copied(2).await;
    let record = plain.startups().remove(0);
    let fine = plain.say_beside("check").await;
    assert_eq!(fine.code, Some(0), "{}", fine.text);

    let table = || String::from("Sociétés");
    plain.edit(&[
        Edit::RenameTable { table: "Startups".into(), name: table() },
        Edit::RenameField { table: table(), field: "Ville".into(), name: "Commune".into() },
    ]);
    plain.until_logged("the field `Ville` is now called `Commune`").await;
    plain.until_logged("the table `Startups` is now called `Sociétés`").await;
    assert!(!plain.told().contains("`?`"), "{}", plain.told());
    let renamed = plain.say_beside("check").await;
    assert_eq!(renamed.code, Some(0), "{}", renamed.text);
    for part in [
        "the table `Startups` of the mapping is now called `Sociétés`",
        "the field `Ville` of the mapping is now called `Commune`",
        "`plait run` would work",
    ] {
        assert!(renamed.text.contains(part), "{part}: {}", renamed.text);
    }
    let fields = json!({ "Commune": "Dinan" }).as_object().unwrap().clone();
    plain.edit(&[Edit::Update { table: table(), record, fields }]);
    plain.until("select city from canon.startup where city = 'Dinan'", Some("Dinan")).await;

    // What was there and is gone is left out by a run, and by no more than a warning of the doctor's.
    plain.edit(&[Edit::DeleteField { table: table(), field: "Effectif".into() }]);
    plain.until("select count(*)::text from mirror.incident where code = 'field_missing' and closed_at is null", Some("1")).await;
    let gone = plain.say_beside("check").await;
    assert_eq!(gone.code, Some(0), "{}", gone.text);
    assert!(
        gone.text.contains("mapped to the field `Effectif` of the table `Sociétés`"),
        "{}",
        gone.text
    );

    // One that no run has ever seen is an error, with the nearest name.
    let unknown = plain.documents.mapping("airtable = \"Nom\"", "airtable = \"Nomm\"");
    plain.check(&unknown).await.fails_with("an unknown field", &["the nearest field is `Nom`"]);
    plain.end().await;
}
