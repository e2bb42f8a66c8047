//! What keeps a side from being written to, told to people: and that it does so no more, once a write went through.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::model::Notice;

/// Something that only a person can mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) code: &'static str,
    pub(super) text: String,
    pub(super) reach: Reach,
}

/// What a trouble is about: a write that goes through there says that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All that is written to the log's side.
    Side,
    /// One entity's records there.
    Entity,
    /// It happened, and does not go on.
    Once,
}

/// The troubles of one pusher, on their way to `mirror.incident`.
pub(super) struct Troubles {
    /// With the log's name.
    notices: mpsc::Sender<(String, Notice)>,
    /// Log and subject of what was told and is not over.
    open: Mutex<HashSet<(String, String)>>,
}

impl Troubles {
    pub(super) fn new(notices: mpsc::Sender<(String, Notice)>) -> Self {
        Self { notices, open: Mutex::default() }
    }

    /// Opens an incident; the program's own log has it where nobody can be told now.
    pub(super) fn tell(&self, log: &str, entity: &str, trouble: Trouble) {
        let Trouble { code, text, reach } = trouble;
        warn!(log, code, "{text}");
        let notice = match subject(reach, entity) {
            None => Notice::happened(code, text),
            Some(subject) => {
                let notice = Notice::found(&subject, code, text);
                self.open().insert((log.to_owned(), subject));
                notice
            }
        };
        self.send(log, notice);
    }

    /// A write of `entity` went through: nothing is in the way of the side, or of the entity, any more.
    pub(super) fn well(&self, log: &str, entity: &str) {
        for reach in [Reach::Side, Reach::Entity] {
            let Some(subject) = subject(reach, entity) else { continue };
            let key = (log.to_owned(), subject);
            // Nearly always there is nothing open.
            if self.open().is_empty() || !self.open().remove(&key) {
                continue;
            }
            if !self.send(log, Notice::well(&key.1)) {
                self.open().insert(key);
            }
        }
    }

    fn send(&self, log: &str, notice: Notice) -> bool {
        let sent = self.notices.try_send((log.to_owned(), notice));
        if let Err(error) = &sent {
            debug!(%error, "could not hand an incident on");
        }
        sent.is_ok()
    }

    fn open(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        // A panic cannot leave the set half-written, so a poisoned lock is safe to reuse.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn subject(reach: Reach, entity: &str) -> Option<String> {
    match reach {
        Reach::Side => Some(String::from("writing")),
        Reach::Entity => Some(format!("writing {entity}")),
        Reach::Once => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_over_with_the_next_write_that_it_was_in_the_way_of() {
        let (notices, mut told) = mpsc::channel(8);
        let troubles = Troubles::new(notices);
        let trouble = |code, reach| Trouble { code, text: String::from("see to it"), reach };
        let mut next = || told.try_recv().ok().map(|(log, notice)| (log, notice.subject));
        let about = |subject: &str| Some((String::from("log"), Some(subject.to_owned())));
        troubles.tell("log", "card", trouble("table_forbidden", Reach::Entity));
        troubles.tell("log", "card", trouble("token_refused", Reach::Side));
        troubles.tell("log", "card", trouble("password_not_cleared", Reach::Once));
        assert_eq!(next(), about("writing card"));
        assert_eq!(next(), about("writing"));
        assert_eq!(next(), Some((String::from("log"), None)));
        // Another entity's write says nothing of this one's table.
        troubles.well("log", "note");
        assert_eq!(next(), about("writing"));
        assert_eq!(next(), None);
        troubles.well("other log", "card");
        assert_eq!(next(), None);
        troubles.well("log", "card");
        assert_eq!(next(), about("writing card"));
        troubles.well("log", "card");
        assert_eq!(next(), None);
    }
}
