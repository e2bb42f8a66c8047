//! The secret that signs a webhook's pings. Airtable tells it only once, when the webhook is made, so it is kept: in
//! a file that only its owner may read, and only where pings are received. Whoever loses the file loses nothing
//! but the webhook, which is made anew.

use std::{
    io::{self, Write as _},
    path::Path,
};

use crate::config::{SecretFileError, read_secret_file};

/// The secret of `webhook`, base64; or why there is none.
pub(super) fn read(file: &Path, webhook: &str) -> Result<String, String> {
    let text = match read_secret_file(file) {
        Ok(text) => text,
        Err(SecretFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{} is not there", file.display()));
        }
        Err(error) => return Err(format!("{} cannot be used: {error}", file.display())),
    };
    match text.reveal().trim_end().split_once(' ') {
        Some((of, secret)) if of == webhook && !secret.is_empty() => Ok(secret.to_owned()),
        Some(_) => Err(format!("{} holds that of another webhook", file.display())),
        None => Err(format!("{} does not hold one", file.display())),
    }
}

/// Puts the secret of `webhook` into the file, whole or not at all.
pub(super) fn write(file: &Path, webhook: &str, secret: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    // Made with the mode 600.
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(beside, "{webhook} {secret}")?;
    beside.as_file().sync_all()?;
    beside.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{read, write};

    #[test]
    fn secret_is_kept_for_its_webhook_alone_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ping-secret");
        assert!(read(&file, "ach1").unwrap_err().contains("is not there"));
        std::fs::write(&file, "c2VjcmV0").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(read(&file, "ach1").unwrap_err().contains("others can read it"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(read(&file, "ach1").unwrap_err().contains("does not hold one"));
        write(&file, "ach1", "c2VjcmV0").unwrap();
        assert_eq!(read(&file, "ach1").as_deref(), Ok("c2VjcmV0"));
        assert!(read(&file, "ach2").unwrap_err().contains("of another webhook"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        assert!(write(&folder.path().join("no/such"), "ach1", "x").is_err());
    }
}
