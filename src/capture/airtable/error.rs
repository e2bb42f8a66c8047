//! What keeps the capture of a base from going on.

use std::time::Duration;

use crate::remote::airtable as remote;

use super::schema::Problem;

/// Why a base cannot be captured, or not now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Airtable(#[from] remote::Error),
    /// The id is wrong, or the token was not given the base: Airtable does not say which.
    #[error(
        "the schema of the base `{base}` ({id}) cannot be read: check `id` in [airtable.base.{base}] of \
         plait.toml, and give the token this base and the scope schema.bases:read at \
         airtable.com/create/tokens"
    )]
    Base { base: String, id: String, source: Box<remote::Error> },
    /// The mapping and the base do not fit together.
    #[error("the mapping does not fit the base `{base}`: {}", list(problems))]
    Mapping { base: String, problems: Vec<Problem> },
    #[error(
        "the base `{base}` has no place for another webhook (10 at most); delete one that nobody uses: {}",
        hooks.join(", ")
    )]
    TooManyWebhooks { base: String, hooks: Vec<String> },
    /// The stored place does not belong to the webhook any more: found again by a listing.
    #[error("the webhook{} is gone", webhook.as_ref().map_or_else(String::new, |id| format!(" `{id}`")))]
    HookGone {
        /// `None`: there was none any more.
        webhook: Option<String>,
    },
    #[error("could not learn which records are known")]
    KnownKeys(#[source] anyhow::Error),
    /// Nobody takes the deliveries any more: the process is ending.
    #[error("the receiver of the changes has stopped")]
    Closed,
    #[error("stopped")]
    Stopped,
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<_> =
        problems.iter().map(|problem| format!("{}; {}", problem.what, problem.remedy)).collect();
    texts.join(" / ")
}

impl Error {
    /// How long to wait before it may go on; `None`: a person has to see to it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Airtable(error) => error.retry_after(),
            Self::HookGone { .. } => Some(Duration::ZERO),
            Self::KnownKeys(_) => Some(Duration::from_secs(1)),
            Self::Base { .. }
            | Self::Mapping { .. }
            | Self::TooManyWebhooks { .. }
            | Self::Closed
            | Self::Stopped => None,
        }
    }
}
