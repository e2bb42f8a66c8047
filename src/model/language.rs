//! The languages that readers have.

/// The language of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    Fr,
    En,
}

impl Language {
    /// That of the terminal: `LC_ALL`, else `LC_MESSAGES`, else `LANG`. English, unless it is French.
    pub(crate) fn from_environment() -> Self {
        let set = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let is_french = set.is_some_and(|value| value.to_ascii_lowercase().starts_with("fr"));
        if is_french { Self::Fr } else { Self::En }
    }
}
