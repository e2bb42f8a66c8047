//! Incidents that hold as long as a condition does: opened when it begins, closed when it is over. They outlive the
//! sessions of a process, since a condition may.

use std::{collections::HashMap, time::Duration};

use sqlx::PgPool;
use tokio::{sync::Mutex, time::Instant};
use tracing::{error, info, warn};

use crate::{
    model::{Incident, Notice},
    store::incident,
};

/// One that nobody tells again is taken to be over after a day.
const TELL_AGAIN_AFTER: Duration = Duration::from_hours(1);

/// By log and code, the text that was told, and when; without a text, it is known to be closed.
#[derive(Default)]
pub(super) struct Conditions(Mutex<HashMap<(String, &'static str), (Option<String>, Instant)>>);

impl Conditions {
    /// Says that `code` of `log` holds, or, with `None`, does not. An open one is told again only where its text changes
    /// in more than a number.
    pub(super) async fn set(
        &self,
        pool: &PgPool,
        log: &str,
        code: &'static str,
        text: Option<String>,
    ) {
        let mut known = self.0.lock().await;
        let key = (log.to_owned(), code);
        let before = known.get(&key);
        let is_same = match (before, &text) {
            (Some((Some(before), told_at)), Some(text)) => {
                shape(before) == shape(text) && told_at.elapsed() < TELL_AGAIN_AFTER
            }
            (Some((None, _)), None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        let notice = if let Some(text) = &text {
            error!(log, code, "{text}");
            Notice::looked(code, vec![Incident::new(code, text.clone())])
        } else {
            if before.is_some() {
                info!(log, code, "is over");
            }
            Notice::well(code)
        };
        match incident::note(pool, log, &notice).await {
            Ok(()) => drop(known.insert(key, (text, Instant::now()))),
            // Tried again with the next look.
            Err(error) => warn!(%error, "could not record an incident"),
        }
    }
}

/// A text without its digits.
fn shape(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}
