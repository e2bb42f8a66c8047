//! Which investor a person means: by UUID, e-mail address, or first and last name, accents and case aside.

use futures_util::{TryStreamExt as _, pin_mut};
use uuid::Uuid;

use super::{Error, catalogue::Session};
use crate::model::{folded, nearest};

/// Candidates that are told.
const TOLD_MAX: usize = 20;

/// A member, as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: String,
}

impl Member {
    fn read(row: &tokio_postgres::Row) -> Self {
        let text = |at| row.get::<_, Option<String>>(at).unwrap_or_default();
        Self { id: row.get(0), first_name: text(1), last_name: text(2), email: text(3) }
    }

    /// `Jeanne Martin`, else the address, else the id.
    pub(crate) fn name(&self) -> String {
        let name = format!("{} {}", self.first_name, self.last_name);
        match (name.trim(), self.email.trim()) {
            ("", "") => self.id.to_string(),
            ("", email) => email.to_owned(),
            (name, _) => name.to_owned(),
        }
    }
}

const MEMBERS: &str = "select id, first_name::text, last_name::text, email::text from canon.member";

impl Session {
    /// The member of that UUID, deleted or not.
    pub(super) async fn member(&self, id: Uuid) -> Result<Option<Member>, Error> {
        let row = self.client.query_opt(&format!("{MEMBERS} where id = $1"), &[&id]).await?;
        Ok(row.as_ref().map(Member::read))
    }

    /// The one whom a person means; of deleted members, only by UUID.
    pub(crate) async fn meant(&self, name: &str) -> Result<Member, Error> {
        let id = Uuid::parse_str(name.trim()).ok();
        if let Some(id) = id
            && let Some(member) = self.member(id).await?
        {
            return Ok(member);
        }
        let wanted = folded(name);
        let living =
            format!("{MEMBERS} where deleted_at is null order by last_name, first_name, id");
        let rows = self.client.query_raw(&living, std::iter::empty::<&str>()).await?;
        pin_mut!(rows);
        let (mut found, mut names) = (Vec::new(), Vec::new());
        while let Some(row) = rows.try_next().await? {
            let member = Member::read(&row);
            names.push(match id {
                Some(_) => member.id.to_string(),
                None if name.contains('@') => member.email.clone(),
                None => member.name(),
            });
            if found.len() <= TOLD_MAX && member.is_called(&wanted) {
                found.push(member);
            }
        }
        if found.len() > 1 {
            let told = found.iter().take(TOLD_MAX);
            let candidates = told.map(|it| format!("  {}  {}  {}", it.id, it.name(), it.email));
            let mut candidates: Vec<String> = candidates.collect();
            if found.len() > TOLD_MAX {
                candidates.push("  … and others".into());
            }
            return Err(Error::AmbiguousMember { name: name.to_owned(), candidates });
        }
        found.pop().ok_or_else(|| Error::UnknownMember {
            name: name.to_owned(),
            hint: nearest(name, names.iter().map(String::as_str)),
        })
    }
}

impl Member {
    fn is_called(&self, wanted: &str) -> bool {
        let (first, last) = (&self.first_name, &self.last_name);
        !wanted.is_empty()
            && (folded(&self.email) == wanted
                || folded(&format!("{first} {last}")) == wanted
                || folded(&format!("{last} {first}")) == wanted)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::Member;
    use crate::model::folded;

    #[test]
    fn export_members_are_called_by_name_and_address_alike() {
        let member = Member {
            id: Uuid::nil(),
            first_name: "Zoé".into(),
            last_name: "Lefèvre  d'Ornano".into(),
            email: "zoe@example.org".into(),
        };
        for name in ["zoe lefevre d'ornano", "LEFÈVRE D'ORNANO Zoé", "ZOE@example.org "] {
            assert!(member.is_called(&folded(name)), "{name}");
        }
        assert!(!member.is_called(&folded("Zoé")) && !member.is_called(""));
        assert_eq!(member.name(), "Zoé Lefèvre  d'Ornano");
    }
}
