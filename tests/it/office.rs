//! What the tests of exports stand on: a database with the values that files break on, and what opens the files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use plait::demo::{cache, cluster::SUPERUSER};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::world::{cluster, database, write_secret};

pub(crate) const ZOE: &str = "11111111-1111-4111-8111-111111111111";

/// A database with the fixture, and a folder with settings for it.
pub(crate) struct Office {
    pub(crate) folder: TempDir,
    database: String,
}

impl Office {
    pub(crate) async fn open() -> Self {
        let database = database().await;
        cluster().await.sql(&database, include_str!("../data/export/fixture.sql")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "[canonical]\nurl = \"postgres://{SUPERUSER}@127.0.0.1:{}/{database}\"\npassword_file = \"secret\"\ntls = \"disable\"\n\
             [[export]]\nname = \"daily\"\nreports = \"holding\"\nformat = \"csv\"\nfolder = \"out/daily\"\nevery = \"day\"\nkeep = 1\n\
             [[export]]\nname = \"packs\"\nreports = \"investor-pack\"\nformat = \"csv\"\nlocale = \"fr\"\nfolder = \"out\"\nevery = \"month\"\n\
             [[export]]\nname = \"two\"\nreports = [\"holding\", \"letter\"]\nformat = \"json\"\nfolder = \"out\"\nevery = \"week\"\n",
            cluster().await.port(),
        );
        fs::write(folder.path().join("plait.toml"), settings).unwrap();
        write_secret(&folder.path().join("secret"), cluster().await.password());
        fs::create_dir(folder.path().join("files")).unwrap();
        Self { folder, database }
    }

    pub(crate) async fn sql(&self, text: &str) {
        cluster().await.sql(&self.database, text).await.unwrap();
    }

    /// The one value that a query finds.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let mut rows = cluster().await.sql(&self.database, sql).await.unwrap();
        rows.remove(0).remove(0).unwrap()
    }

    /// A path among the files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// The names of all that is among the files, hidden or not.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.path(""))
    }

    /// `words` as one would type them among the files.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plait"));
        command.args(words).arg("--config").arg(self.folder.path().join("plait.toml"));
        command.current_dir(self.path("")).stdin(Stdio::null());
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "en_US.UTF-8");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it says on standard output; it has to end well.
    pub(crate) fn well(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(words);
        assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// What it complains of; it has to fail, and to leave nothing.
    pub(crate) fn complaint(&self, words: &[&str]) -> String {
        let before = self.names();
        let Output { status, stderr, .. } = self.run(words);
        let said = String::from_utf8(stderr).unwrap();
        assert!(!status.success(), "{words:?} went well");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(self.names(), before, "{words:?} left something: {said}");
        said
    }

    /// An export among the files, opened by `tests/clients/read_export.py`.
    pub(crate) fn opened(&self, how: &str, name: &str) -> Json {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/read_export.py");
        let python = cache::readers().unwrap();
        let output =
            Command::new(python).arg("-B").arg(script).arg(how).arg(self.path(name)).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn list(json: &Json) -> Vec<&str> {
    json.as_array().unwrap().iter().map(|it| it.as_str().unwrap_or("∅")).collect()
}
