//! New users: their passwords come along, and are cleared where they came from.

use futures_util::StreamExt as _;

use super::{
    Done, Work,
    blame::{later, refused},
    item::{Item, Stage},
    words,
};
use crate::push::password::Missing;

/// Passwords that are read together; Airtable allows five requests a second.
const READ_COUNT_MAX: usize = 5;

impl Work<'_> {
    /// Gives the items that make users their passwords. Those whose password cannot be had now are done.
    pub(super) async fn give_passwords(&self, items: Vec<Item>, done: &mut Done) -> Vec<Item> {
        let Some(passwords) = &self.push.passwords else { return items };
        if self.entity.password.is_none() {
            return items;
        }
        let read = futures_util::stream::iter(items)
            .map(async |mut item| {
                if item.stage != Stage::Create {
                    return Ok(item);
                }
                item.password = match passwords.read(self.no, item.record).await {
                    Ok(password) => password,
                    Err(Missing::Unreachable) => return Err((item.at, later())),
                    Err(missing) => {
                        let said = words::no_password(self.entity, missing);
                        return Err((item.at, refused(said)));
                    }
                };
                Ok(item)
            })
            .buffered(READ_COUNT_MAX)
            .collect::<Vec<_>>();
        let mut ready = Vec::new();
        for item in read.await {
            match item {
                Ok(item) => ready.push(item),
                Err(outcome) => done.push(outcome),
            }
        }
        ready
    }

    /// Clears the passwords of users that are there now, those included whose first answer was lost.
    pub(super) async fn clear_passwords(&self, taken: &[Item]) {
        let (Some(passwords), Some(password)) = (&self.push.passwords, &self.entity.password)
        else {
            return;
        };
        if !password.clear {
            return;
        }
        for item in taken.iter().filter(|item| item.password.is_some()) {
            if !passwords.clear(self.no, item.record).await {
                self.tell(words::password_left(self.entity, item.record));
            }
        }
    }
}
