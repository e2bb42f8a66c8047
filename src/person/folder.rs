//! A folder that is there whole, or not at all.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{Error, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::model::without_formula;

/// Writes these files into a new folder beside its place, which nobody else may read, and then gives it its name.
///
/// # Errors
/// If it is there already, or could not be written: then nothing is left of it.
pub(crate) fn write(folder: &Path, files: &[(String, String)]) -> Result<(), Error> {
    if folder.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let name = folder.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let started = parent.join(format!(".{name}.{}", std::process::id()));
    let written = fill(&started, files).and_then(|()| fs::rename(&started, folder));
    if written.is_err() {
        drop(fs::remove_dir_all(&started));
    }
    written
}

fn fill(folder: &Path, files: &[(String, String)]) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(folder)?;
    for (name, text) in files {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    fs::File::open(folder)?.sync_all()
}

/// A row of a table as other programs read it: commas, quotes where they are needed, and no formulas.
pub(crate) fn csv_row(cells: &[Option<String>]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| match cell {
            None => String::new(),
            Some(text) => {
                let text = without_formula(text);
                if text.is_empty() || text.contains(['"', ',', ';', '\n', '\r']) {
                    format!("\"{}\"", text.replace('"', "\"\""))
                } else {
                    text.into_owned()
                }
            }
        })
        .collect();
    format!("{}\r\n", cells.join(","))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folder_is_whole_private_and_never_written_over() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("zoe");
        let files = [(String::from("a.json"), String::from("[]"))];
        write(&folder, &files).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a.json")).unwrap(), "[]");
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(
            fs::metadata(folder.join("a.json")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(write(&folder, &files).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let bad = [(String::from("no/such/folder"), String::new())];
        assert!(write(&place.path().join("other"), &bad).is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left of it");
    }

    #[test]
    fn folder_csv_quotes_what_has_to_be() {
        let row = csv_row(&[Some("a".into()), None, Some("b, \"c\"".into()), Some(String::new())]);
        assert_eq!(row, "a,,\"b, \"\"c\"\"\",\"\"\r\n");
        let formulas = ["=HYPERLINK(\"http://x\")", "+33 6 12 34 56 78", "-5", "@a,b"];
        assert_eq!(
            csv_row(&formulas.map(|text| Some(text.into()))),
            "\"'=HYPERLINK(\"\"http://x\"\")\",+33 6 12 34 56 78,-5,\"'@a,b\"\r\n"
        );
    }
}
