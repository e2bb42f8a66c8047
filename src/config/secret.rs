//! Passwords and tokens: how they are held, and the files that they are read from.

use std::{
    fmt,
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// A password or token. It prints as `[hidden]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Why a file holds no secret that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    #[error("{}", .0.kind())]
    Unreadable(io::Error),
    /// The mode, of which only the last nine bits are meant.
    #[error("others can read it (mode {:03o}): `chmod 600` it, and change the secret if anybody may have seen it", .0 & 0o777)]
    Open(u32),
    #[error("it is empty")]
    Empty,
}

/// The secret in `path`, without the line end behind it.
///
/// A file that anybody but its owner can read is refused, as `ssh` refuses such a key. A file of root may be readable for
/// its group: that is how a service under an account of its own is given a secret. These are Postgres's rules for keys.
///
/// # Errors
/// In words that follow the file's name.
pub(crate) fn read_secret_file(path: &Path) -> Result<Secret, SecretFileError> {
    let mut file = fs::File::open(path).map_err(SecretFileError::Unreadable)?;
    // Of the file that is open: the name may mean another one a moment later.
    let metadata = file.metadata().map_err(SecretFileError::Unreadable)?;
    if is_open_to_others(&metadata) {
        return Err(SecretFileError::Open(metadata.mode()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(SecretFileError::Unreadable)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(SecretFileError::Empty),
        secret => Ok(Secret(secret.to_owned())),
    }
}

/// Whether somebody else than its owner can read a file; of a file of root, somebody outside its group.
fn is_open_to_others(metadata: &Metadata) -> bool {
    is_open(metadata.is_file(), metadata.uid(), metadata.mode())
}

fn is_open(is_file: bool, owner: u32, mode: u32) -> bool {
    // Of a pipe (`<(pass show token)`) the mode says nothing.
    let readers = if owner == 0 { 0o007 } else { 0o077 };
    is_file && mode & readers != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secret_file_that_others_can_read_is_refused() {
        for (owner, mode, is_refused) in [
            (1000, 0o600, false),
            (1000, 0o400, false),
            (1000, 0o640, true),
            (1000, 0o604, true),
            (0, 0o640, false),
            (0, 0o644, true),
            (0, 0o602, true),
        ] {
            assert_eq!(is_open(true, owner, 0o100_000 | mode), is_refused, "{owner} {mode:o}");
        }
        assert!(!is_open(false, 1000, 0o666), "a pipe");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = || read_secret_file(&path).map(|secret| secret.reveal().to_owned());
        assert_eq!(read().unwrap_err().to_string(), "entity not found");
        fs::write(&path, "hunter2\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let said = read().unwrap_err().to_string();
        assert!(said.starts_with("others can read it (mode 644): `chmod 600`"), "{said}");
        assert!(!said.contains("hunter2"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read().unwrap(), "hunter2");
        fs::write(&path, "\n").unwrap();
        assert!(matches!(read(), Err(SecretFileError::Empty)));
    }
}
