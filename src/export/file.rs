//! Where a file goes: beside its place under another name until it is whole, then there in one step; or to standard
//! output. Whatever breaks it off, nothing is left.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, IsTerminal as _, Write},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::Error;
use crate::model::VisibleWriter;

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Stdout,
    /// A file, or a folder where several are written.
    Path(PathBuf),
}

/// What is being written.
pub(super) struct Out {
    to: To,
    written: u64,
    /// Why the last write failed.
    failed: Option<io::Error>,
}

enum To {
    Draft { temp: NamedTempFile, path: PathBuf, overwrite: bool },
    Stdout(io::Stdout),
}

/// A whole file, not yet in its place.
pub(super) struct Whole {
    draft: Option<(NamedTempFile, PathBuf, bool)>,
    pub(super) written: u64,
}

impl Out {
    pub(super) fn stdout() -> Self {
        Self { to: To::Stdout(io::stdout()), written: 0, failed: None }
    }

    /// # Errors
    /// The file is there already and may not be overwritten, or its folder is not there.
    pub(super) fn file(path: &Path, overwrite: bool) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(failed(io::Error::new(ErrorKind::IsADirectory, "a folder is there")));
            }
            Ok(_) if !overwrite => return Err(Error::Exists { path: path.to_owned() }),
            _ => {}
        }
        let temp = tempfile::Builder::new()
            .prefix(".plait-")
            .suffix(".part")
            // Exports hold people's data: nobody else may read them, whatever the umask.
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder_of(path))
            .map_err(|error| fault(path, 0, error))?;
        let to = To::Draft { temp, path: path.to_owned(), overwrite };
        Ok(Self { to, written: 0, failed: None })
    }

    /// Where there is room for what has to be put down on the way.
    pub(super) fn folder(&self) -> PathBuf {
        match &self.to {
            To::Draft { path, .. } => folder_of(path).to_owned(),
            To::Stdout(_) => std::env::temp_dir(),
        }
    }

    /// What a failed write means.
    pub(super) fn fault(&self, error: io::Error) -> Error {
        match &self.to {
            To::Draft { path, .. } => fault(path, self.written, error),
            To::Stdout(_) if error.kind() == ErrorKind::BrokenPipe => Error::BrokenPipe,
            To::Stdout(_) => Error::Stdout { written: self.written, source: error },
        }
    }

    /// The failed write behind the error of a library, else that.
    pub(super) fn fault_behind(&mut self, error: Error) -> Error {
        match self.failed.take() {
            Some(failed) => self.fault(failed),
            None => error,
        }
    }

    /// Nothing more is written: what was is on the disk.
    pub(super) fn end(mut self) -> Result<Whole, Error> {
        self.flush().map_err(|error| self.fault(error))?;
        let draft = match self.to {
            To::Stdout(_) => None,
            To::Draft { temp, path, overwrite } => {
                temp.as_file().sync_all().map_err(|error| fault(&path, self.written, error))?;
                Some((temp, path, overwrite))
            }
        };
        Ok(Whole { draft, written: self.written })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.to {
            To::Draft { temp, .. } => temp.as_file_mut().write(bytes),
            // On a terminal a person reads it, and a cut character matters less than one that moves the cursor.
            To::Stdout(stdout) if stdout.is_terminal() => VisibleWriter(stdout).write(bytes),
            To::Stdout(stdout) => stdout.write(bytes),
        };
        match written {
            Ok(count) => {
                self.written += count as u64;
                Ok(count)
            }
            Err(error) => Err(self.note(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.to {
            To::Draft { temp, .. } => temp.as_file_mut().flush(),
            To::Stdout(stdout) => stdout.flush(),
        };
        flushed.map_err(|error| self.note(error))
    }
}

impl Out {
    fn note(&mut self, error: io::Error) -> io::Error {
        let again = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::from(error.kind()),
        };
        self.failed = Some(again);
        error
    }
}

impl Whole {
    /// Puts the file in its place, in one step; `None`: it went to standard output.
    pub(super) fn put(self) -> Result<Option<PathBuf>, Error> {
        let Some((temp, path, overwrite)) = self.draft else { return Ok(None) };
        let put = if overwrite { temp.persist(&path) } else { temp.persist_noclobber(&path) };
        if let Err(error) = put {
            return Err(match error.error.kind() {
                ErrorKind::AlreadyExists => Error::Exists { path },
                _ => fault(&path, self.written, error.error),
            });
        }
        keep_folder(folder_of(&path));
        Ok(Some(path))
    }
}

/// A folder that is being filled under another name, beside its place.
pub(super) struct FolderDraft {
    temp: tempfile::TempDir,
    path: PathBuf,
    overwrite: bool,
}

impl FolderDraft {
    /// # Errors
    /// As [`Out::file`].
    pub(super) fn begin(path: &Path, overwrite: bool) -> Result<Self, Error> {
        if path.exists() && !overwrite {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let temp = tempfile::Builder::new()
            .prefix(".plait-")
            .suffix(".part")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder_of(path))
            .map_err(|error| fault(path, 0, error))?;
        Ok(Self { temp, path: path.to_owned(), overwrite })
    }

    pub(super) fn folder(&self) -> &Path {
        self.temp.path()
    }

    /// Puts the folder in its place; what was there goes.
    pub(super) fn put(self) -> Result<PathBuf, Error> {
        let Self { temp, path, overwrite } = self;
        let old = if overwrite && path.exists() {
            let aside = tempfile::Builder::new()
                .prefix(".plait-")
                .suffix(".old")
                .tempdir_in(folder_of(&path))
                .map_err(|error| fault(&path, 0, error))?;
            fs::rename(&path, aside.path().join("old")).map_err(|error| fault(&path, 0, error))?;
            Some(aside)
        } else {
            None
        };
        if let Err(error) = fs::rename(temp.path(), &path) {
            if let Some(aside) = old {
                drop(fs::rename(aside.path().join("old"), &path));
            }
            return Err(fault(&path, 0, error));
        }
        // It is there under its name now: nothing is to be removed.
        drop(temp.keep());
        keep_folder(folder_of(&path));
        drop(old);
        Ok(path)
    }
}

/// Makes a folder that nobody else may read; whether it was not there. One that is there keeps its mode.
pub(super) fn make_folder(path: &Path) -> Result<bool, Error> {
    if path.is_dir() {
        return Ok(false);
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| fault(path, 0, error))?;
    Ok(true)
}

fn fault(path: &Path, written: u64, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::DiskFull { folder: folder_of(path).to_owned(), written }
        }
        _ => Error::File { path: path.to_owned(), source: error },
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// That a file has its name is on the disk, too. Where a file system cannot promise it, there is nothing to be done.
fn keep_folder(folder: &Path) {
    drop(File::open(folder).and_then(|folder| folder.sync_all()));
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} bytes");
    }
    let (unit, name) = match count {
        0..1_000_000 => (1000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", count / unit, count % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

    use super::{Error, FolderDraft, Out, bytes, make_folder};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn export_file_is_there_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut out = Out::file(&path, false).unwrap();
        out.write_all(b"half").unwrap();
        drop(out);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut out = Out::file(&path, false).unwrap();
        out.write_all(b"whole").unwrap();
        let whole = out.end().unwrap();
        assert!(!path.exists());
        // Somebody else was faster.
        fs::write(&path, "theirs").unwrap();
        assert!(matches!(whole.put(), Err(Error::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert!(matches!(Out::file(&path, false), Err(Error::Exists { .. })));

        let mut out = Out::file(&path, true).unwrap();
        out.write_all(b"mine").unwrap();
        assert_eq!(out.end().unwrap().put().unwrap(), Some(path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(mode(&path), 0o600);
        assert!(Out::file(&folder.path().join("no/a.csv"), false).is_err());
        assert!(Out::file(folder.path(), true).is_err());
    }

    #[test]
    fn export_folder_is_replaced_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pack");
        for text in ["one", "two"] {
            let draft = FolderDraft::begin(&path, true).unwrap();
            fs::write(draft.folder().join(text), text).unwrap();
            draft.put().unwrap();
            assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
            assert!(path.join(text).exists());
            assert_eq!(mode(&path), 0o700);
        }
        let deep = folder.path().join("of/two");
        assert!(make_folder(&deep).unwrap() && !make_folder(&deep).unwrap());
        assert_eq!([mode(&deep), mode(deep.parent().unwrap())], [0o700, 0o700]);
        fs::remove_dir_all(deep.parent().unwrap()).unwrap();
        assert!(FolderDraft::begin(&path, false).is_err());
        drop(FolderDraft::begin(&path, true).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn export_sizes_are_told_in_their_unit() {
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(12_345), "12.3 kB");
        assert_eq!(bytes(5_250_000), "5.2 MB");
    }
}
