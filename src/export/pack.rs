//! A folder for each investor, with every report about single investors. One that fails stops no other.

use std::path::Path;

use futures_util::{TryStreamExt as _, pin_mut};
use uuid::Uuid;

use super::{
    Error, Format, Maker, Order, Place, Question,
    file::{FolderDraft, make_folder},
    member::Member,
    query::Query,
};
use crate::config::What;

/// Of a name, so that a path stays short enough for Windows.
const NAME_LENGTH_MAX: usize = 80;

/// What a pack came to.
#[derive(Debug, Default)]
pub(crate) struct Pack {
    /// The folders, with how many rows are in each.
    pub(crate) made: Vec<(String, u64)>,
    /// Who has none, and why.
    pub(crate) failed: Vec<(String, Error)>,
    /// Reports that cannot answer what was asked of all.
    pub(crate) left_out: Vec<String>,
}

impl Maker<'_> {
    /// Fills `folder`: for the investor of the question, else for everyone who has a row in any report.
    ///
    /// # Errors
    /// What concerns all of them. What concerns one is in [`Pack::failed`].
    pub(crate) async fn pack(&self, folder: &Path) -> Result<Pack, Error> {
        self.order.question.check(self.session)?;
        let (queries, left_out) = self.queries(&What::InvestorPack).await?;
        let mut pack = Pack { left_out, ..Pack::default() };
        let members = self.members(&queries).await?;
        if !self.order.overwrite {
            for member in &members {
                let path = folder.join(folder_name(member));
                if path.exists() {
                    return Err(Error::Exists { path });
                }
            }
        }
        if !members.is_empty() {
            make_folder(folder)?;
        }
        for member in members {
            // An error would otherwise end the transaction, and with it the moment that is read.
            let client = &self.session.client;
            client.batch_execute("savepoint investor").await?;
            let name = folder_name(&member);
            match self.member(&queries, &member, folder).await {
                Ok(row_count) => {
                    client.batch_execute("release savepoint investor").await?;
                    pack.made.push((name, row_count));
                }
                Err(error @ (Error::Stopped | Error::DiskFull { .. })) => return Err(error),
                Err(error) => {
                    client.batch_execute("rollback to savepoint investor").await?;
                    pack.failed.push((name, error));
                }
            }
        }
        Ok(pack)
    }

    /// Those who have a row in any of the reports.
    async fn members(&self, queries: &[Query]) -> Result<Vec<Member>, Error> {
        let each: Vec<String> = queries.iter().map(Query::members_sql).collect();
        let ids = format!(
            "select distinct member_id from ({}) r where member_id is not null",
            each.join(" union all ")
        );
        let rows = self.session.client.query_raw(&ids, std::iter::empty::<&str>()).await?;
        pin_mut!(rows);
        // Ids alone: an investor's rows are read when his turn comes.
        let mut ids: Vec<Uuid> = Vec::new();
        while let Some(row) = rows.try_next().await? {
            ids.push(row.get(0));
        }
        let mut members = Vec::new();
        for id in ids {
            let unknown = || Member {
                id,
                first_name: String::new(),
                last_name: String::new(),
                email: String::new(),
            };
            members.push(self.session.member(id).await?.unwrap_or_else(unknown));
        }
        members.sort_by_key(folder_name);
        Ok(members)
    }

    async fn member(
        &self,
        queries: &[Query],
        member: &Member,
        folder: &Path,
    ) -> Result<u64, Error> {
        let question = Question { member: Some(member.id), ..self.order.question.clone() };
        let own: Vec<Query> = queries
            .iter()
            .map(|query| question.plan(query.source.clone()))
            .collect::<Result<_, _>>()?;
        let order = Order { question, member_name: Some(member.name()), ..self.order.clone() };
        let maker = Maker { order: &order, ..*self };
        let name = folder_name(member);
        let draft = FolderDraft::begin(&folder.join(&name), self.order.overwrite)?;
        let place = match self.order.format {
            Format::Xlsx => draft.folder().join(format!("{name}.xlsx")),
            _ => draft.folder().to_owned(),
        };
        let written = maker.all(&own, &Place::Path(place)).await?;
        draft.put()?;
        Ok(written.iter().map(|file| file.row_count).sum())
    }
}

/// `MARTIN Jeanne – 3d6f0a2b`, as every file system takes it. The end of an id is random, its beginning may be a time.
fn folder_name(member: &Member) -> String {
    let id = member.id.simple().to_string();
    let short: String = id.chars().skip(24).collect();
    let name = format!("{} {}", member.last_name.trim().to_uppercase(), member.first_name.trim());
    let name = if name.trim().is_empty() { member.email.clone() } else { name };
    let clean: String = name
        .chars()
        .map(
            |letter| {
                if letter.is_control() || "/\\:*?\"<>|".contains(letter) { '-' } else { letter }
            },
        )
        .take(NAME_LENGTH_MAX)
        .collect();
    let clean = clean.trim_matches([' ', '.']);
    if clean.is_empty() { short } else { format!("{clean} – {short}") }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Member, folder_name};

    #[test]
    fn export_folders_of_investors_are_safe_names() {
        let name = |first: &str, last: &str, email: &str| {
            folder_name(&Member {
                id: Uuid::from_u128(0x0192_f0c4_7c1e_7a7b_9b53_3d6f_1f0a_2b11),
                first_name: first.into(),
                last_name: last.into(),
                email: email.into(),
            })
        };
        assert_eq!(name("Zoé", "Lefèvre", ""), "LEFÈVRE Zoé – 1f0a2b11");
        assert_eq!(name("../x", "a/b:c", ""), "A-B-C ..-x – 1f0a2b11");
        assert_eq!(name("", "", "z@example.org"), "z@example.org – 1f0a2b11");
        assert_eq!(name("", "..", ""), "1f0a2b11");
        assert!(name("", &"é".repeat(300), "").chars().count() < 100);
    }
}
