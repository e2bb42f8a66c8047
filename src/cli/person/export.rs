//! `plait person export`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::Local;
use uuid::Uuid;

use super::{Desk, entity, find, say};
use crate::{
    mapping::{FieldKind, Store},
    model::EntityNo,
    person::{folder, identifier, personal},
    store::{person as books, reading},
};

/// Writes all that is held about one person into a new folder: JSON for programs, CSV for spreadsheets, and a text
/// that says what is what. Nobody but you may read it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// UUID, e-mail, "First Last", Airtable's rec…, or the key in Directus
    person: String,
    /// The folder to make; it must not exist
    #[arg(long, short)]
    output: PathBuf,
    /// As the mapping calls it; the entity with personal fields unless this says otherwise
    #[arg(long, value_name = "NAME")]
    entity: Option<String>,
    /// The settings
    #[arg(long, short, default_value = "plait.toml", env = "PLAIT_CONFIG")]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  plait person export jeanne@lemonde.fr -o jeanne
  plait person export 0192f0c4-7c1e-7a7b-9b53-3d6f1f0a2b11 -o /srv/requests/2026-03-jeanne
LISEZMOI.txt in it says what each file is, in French and English. Passwords are never kept, so there are none.";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (desk, _) = super::open(&arguments.config).await?;
    let no = entity(&desk, arguments.entity.as_deref())?;
    let record = find(&desk, no, &arguments.person).await?;
    let files = files(&desk, no, record).await?;
    let place = arguments.output.display();
    folder::write(&arguments.output, &files).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!(
                "{place} is there already, and is not written over: name another folder"
            )
        }
        _ => anyhow::Error::from(error).context(format!("could not write {place}")),
    })?;
    let labels = desk.labels([(desk.mapping.entity(no).name.clone(), record)]).await?;
    say(&format!(
        "{} ({record}): {} files in {place}; LISEZMOI.txt says what is what",
        labels.of(&desk.mapping.entity(no).name, record),
        files.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Records that have to do with the person, by the place of their entity.
#[derive(Default)]
struct Related {
    /// Those that link to the person, by which fields.
    by_field: BTreeMap<(u16, String), Vec<Uuid>>,
    /// All of them, and those that hang on the ones that belong to the person.
    records: BTreeMap<u16, Vec<Uuid>>,
    /// Those whose history is the person's too.
    owned: Vec<Uuid>,
}

async fn related(desk: &Desk, no: EntityNo, record: Uuid) -> anyhow::Result<Related> {
    let mut related = Related::default();
    let mut owned: BTreeMap<u16, Vec<Uuid>> = BTreeMap::new();
    let all = || (0_u16..).zip(&desk.mapping.entities);
    for (at, entity) in all() {
        for field in &entity.fields {
            let (FieldKind::Link { target } | FieldKind::Links { target }) = field.kind else {
                continue;
            };
            if target != no {
                continue;
            }
            let shape = desk.shape(EntityNo(at));
            let ids = books::linking(&desk.pool, shape, &field.store, &[record]).await?;
            related.records.entry(at).or_default().extend(&ids);
            if matches!(field.store, Store::Column(_)) {
                owned.entry(at).or_default().extend(&ids);
            }
            related.by_field.insert((at, field.name.clone()), ids);
        }
    }
    // What hangs on those: movements on lines.
    for (at, entity) in all() {
        for field in &entity.fields {
            let FieldKind::Link { target } = field.kind else { continue };
            let Some(of) = owned.get(&target.0).filter(|_| target != no) else { continue };
            if matches!(field.store, Store::Column(_)) {
                let shape = desk.shape(EntityNo(at));
                let ids = books::linking(&desk.pool, shape, &field.store, of).await?;
                related.records.entry(at).or_default().extend(&ids);
                related.owned.extend(ids);
            }
        }
    }
    related.owned.extend(owned.into_values().flatten());
    for ids in related.records.values_mut() {
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(related)
}

/// The files, by name; the text for people first.
pub(in crate::cli) async fn files(
    desk: &Desk,
    no: EntityNo,
    record: Uuid,
) -> anyhow::Result<Vec<(String, String)>> {
    let entity = desk.mapping.entity(no);
    let number = reading::entity_number(&desk.pool, &entity.name).await?.with_context(|| {
        format!("nothing of {} was ever mirrored: start `plait run` first", entity.name)
    })?;
    let related = related(desk, no, record).await?;
    let mut files: Vec<(String, String)> = Vec::new();
    // (file, rows, French, English)
    let mut told: Vec<(String, i64, String, String)> = Vec::new();
    let mut tables: Vec<(u16, Vec<Uuid>)> = vec![(no.0, vec![record])];
    tables.extend(
        related.records.iter().filter(|(at, _)| **at != no.0).map(|(at, ids)| (*at, ids.clone())),
    );
    for (at, ids) in tables {
        let (described, shape) = (desk.mapping.entity(EntityNo(at)), desk.shape(EntityNo(at)));
        let is_own = at == no.0;
        // The sets of others' records name others.
        let query = if is_own {
            books::rows_query(described, shape)
        } else {
            format!("select t.* from {} t where t.id = any($1) order by t.id", shape.table)
        };
        let (count, json) = books::as_json(&desk.pool, &query, &ids).await?;
        let columns = books::columns(&desk.pool, shape).await?;
        let cells: Vec<Option<String>> = columns.iter().cloned().map(Some).collect();
        let mut csv = folder::csv_row(&cells);
        for row in books::rows(&desk.pool, shape, &columns, &ids).await? {
            csv.push_str(&folder::csv_row(&row));
        }
        let name = &described.name;
        let (french, english) = if is_own {
            (
                "la fiche de la personne, telle que la base canonique la contient".to_owned(),
                "the person's record, as the canonical database has it".to_owned(),
            )
        } else {
            (
                format!("les fiches `{name}` liées à la personne"),
                format!("the records of `{name}` that have to do with the person"),
            )
        };
        told.push((format!("{name}.json, {name}.csv"), count, french, english));
        files.push((format!("{name}.json"), json));
        files.push((format!("{name}.csv"), csv));
    }
    files.push(("links.json".into(), links(desk, &related)?));
    let linked = related.by_field.values().map(Vec::len).sum::<usize>();
    told.push((
        "links.json".into(),
        i64::try_from(linked)?,
        "par quel champ chaque fiche est liée à la personne".into(),
        "by which field each record is linked to the person".into(),
    ));
    for part in PARTS {
        let mut ids = vec![record];
        if part.is_of_lines {
            ids.extend(&related.owned);
        }
        let query = part.query.replace("{NO}", &number.to_string());
        let (count, json) = books::as_json(&desk.pool, &query, &ids).await?;
        files.push((part.file.into(), json));
        told.push((part.file.into(), count, part.french.into(), part.english.into()));
    }
    let (count, json) = actions(desk, no, number, record).await?;
    files.push(("actions.json".into(), json));
    told.push((
        "actions.json".into(),
        count,
        "ce que la personne a elle-même modifié : quand, de quel côté, combien de fiches".into(),
        "what the person has changed: when, on which side, how many records".into(),
    ));
    let labels = desk.labels([(entity.name.clone(), record)]).await?;
    let text = text(&labels.of(&entity.name, record), record, &told);
    files.insert(0, ("LISEZMOI.txt".into(), text));
    Ok(files)
}

/// A file about what is kept beside the canonical rows.
struct Part {
    file: &'static str,
    /// `$1`: the record, and where it is so the lines and what hangs on them; `{NO}`: the number of its entity.
    query: &'static str,
    is_of_lines: bool,
    french: &'static str,
    english: &'static str,
}

/// Other people's names are theirs: an author is told only where it is the person.
const PARTS: [Part; 10] = [
    Part {
        file: "history.json",
        query: "select h.journal_id, h.at, h.side, h.via, h.entity, h.record_id, h.action, h.field, h.before, h.after,
                    h.recorded_at, h.author = ($1)[1]::text as by_the_person
                from mirror.history h where h.record_id = any($1) order by h.journal_id, h.field",
        is_of_lines: true,
        french: "l'historique complet de la fiche, de ses lignes et de ses mouvements : valeur avant, valeur après",
        english: "the whole history of the record, its lines and its movements: value before, value after",
    },
    Part {
        file: "conflicts.json",
        query: "select c.conflict_id, e.name as entity, c.record_id, c.field, c.side, c.base, c.canonical, c.observed,
                    c.decision, c.decided_at, c.settled_value, c.unfit
                from mirror.conflict c join mirror.entity e using (entity_no) where c.record_id = any($1) order by 1",
        is_of_lines: true,
        french: "les valeurs qui différaient entre Airtable et Directus, et laquelle a été retenue",
        english: "values that differed between Airtable and Directus, and which one was kept",
    },
    Part {
        file: "refusals.json",
        query: "select r.side, e.name as entity, r.side_key, r.field, r.raw, r.kind, r.reason, r.refused_at
                from mirror.refusal r join mirror.entity e using (entity_no)
                left join mirror.link l using (side, entity_no, side_key)
                where coalesce(l.record_id::text, r.side_key) = any($1::text[]) order by r.refused_at",
        is_of_lines: true,
        french: "les valeurs d'un côté qui n'ont pas pu être reprises, avec la raison",
        english: "values of a side that could not be taken, with the reason",
    },
    Part {
        file: "parked.json",
        query: "select p.side, e.name as entity, p.record_id, p.field, p.value, p.code, p.reason, p.parked_at, p.skipped_at
                from mirror.parked p join mirror.entity e using (entity_no) where p.record_id = any($1) order by p.parked_at",
        is_of_lines: true,
        french: "les valeurs qu'un côté n'a pas acceptées, avec la raison",
        english: "values that a side did not take, with the reason",
    },
    Part {
        file: "differences.json",
        query: "select s.side, e.name as entity, s.record_id, s.field, s.value
                from mirror.shadow s join mirror.entity e using (entity_no) where s.record_id = any($1) order by 1, 2, 3, 4",
        is_of_lines: true,
        french: "ce qu'un côté contient encore et qui diffère de la base canonique",
        english: "what a side still holds that is not what the canonical database has",
    },
    Part {
        file: "writes.json",
        query: "select o.side, e.name as entity, o.record_id, o.kind, o.cells, o.bound_at, o.sent_at, o.settled_at
                from mirror.operation o join mirror.entity e using (entity_no) where o.record_id = any($1) order by o.bound_at",
        is_of_lines: true,
        french: "ce que Plait a écrit vers Airtable et Directus ces neuf derniers jours",
        english: "what Plait has written to Airtable and Directus in the past nine days",
    },
    Part {
        file: "keys.json",
        query: "select 'canonical' as side, ($1)[1]::text as key
                union all select l.side, l.side_key from mirror.link l where l.record_id = ($1)[1] and l.entity_no = {NO}",
        is_of_lines: false,
        french: "les identifiants de la fiche : UUID (celui de Directus aussi, sauf indication), numéro d'Airtable",
        english: "the record's keys: the UUID (Directus's too, unless it says otherwise), Airtable's record id",
    },
    Part {
        file: "matches.json",
        query: "select m.side, m.side_key, m.matched_by, m.matched_at, m.split_at
                from mirror.match m where m.record_id = ($1)[1] and m.entity_no = {NO} order by m.match_id",
        is_of_lines: false,
        french: "par quoi la fiche d'un côté a été reconnue comme celle de l'autre",
        english: "by what the record of one side was known to be that of the other",
    },
    Part {
        file: "questions.json",
        query: "select q.side, q.side_key, q.reason, q.asked_at, q.answered_at
                from mirror.match_question q
                where q.entity_no = {NO} and (q.record_id = ($1)[1] or ($1)[1] = any(q.candidates)) order by q.match_question_id",
        is_of_lines: false,
        french: "les questions posées parce que la fiche ressemblait à une autre",
        english: "questions asked because the record looked like another",
    },
    Part {
        file: "decisions.json",
        query: "select c.command_id, c.made_at, c.done_at, c.outcome, d.decision
                from mirror.command c, lateral jsonb_array_elements(c.body) d (decision)
                where jsonb_typeof(c.body) = 'array' and d.decision ->> 'record' = any($1::text[]) order by 1",
        is_of_lines: true,
        french: "ce que l'équipe a décidé à la main au sujet de ces fiches",
        english: "what the staff has decided by hand about these records",
    },
];

fn links(desk: &Desk, related: &Related) -> anyhow::Result<String> {
    let mut links = Vec::new();
    for ((at, field), ids) in &related.by_field {
        let entity = &desk.mapping.entity(EntityNo(*at)).name;
        links
            .extend(ids.iter().map(
                |id| serde_json::json!({ "entity": entity, "record_id": id, "field": field }),
            ));
    }
    Ok(serde_json::to_string_pretty(&links)?)
}

/// What the person did, as far as the sides tell authors: by the record's id, an e-mail or the name.
async fn actions(
    desk: &Desk,
    no: EntityNo,
    number: i16,
    record: Uuid,
) -> anyhow::Result<(i64, String)> {
    let entity = desk.mapping.entity(no);
    let fields: Vec<String> = personal(entity).map(|(_, field)| field.name.clone()).collect();
    let mut values = books::values_ever(&desk.pool, number, record, &fields).await?;
    values.extend(super::erase::held(desk, no, record).await?);
    let found = identifier::identifiers(entity, &values);
    let found = super::erase::of_one_only(desk, no, record, found).await?.0;
    let pattern = identifier::pattern(&found).unwrap_or_else(|| String::from("(?!)"));
    let query = format!(
        "select t.at, t.side, t.via, t.source_transaction_id as transaction,
             (select count(*) from mirror.journal j where j.source_transaction_id = t.source_transaction_id) as record_count
         from mirror.source_transaction t
         where t.author_id = ($1)[1]::text or t.author_name ~* '{}' order by t.source_transaction_id",
        pattern.replace('\'', "''")
    );
    Ok(books::as_json(&desk.pool, &query, &[record]).await?)
}

fn text(label: &str, record: Uuid, told: &[(String, i64, String, String)]) -> String {
    let width = told.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or_default();
    let lines = |of: fn(&(String, i64, String, String)) -> &String| -> String {
        let line = |it: &(String, i64, String, String)| {
            format!("  {:width$}  {:>6}  {}\n", it.0, it.1, of(it))
        };
        told.iter().map(line).collect()
    };
    format!(
        "{label}\n{record}\n{}\n\n\
         FRANÇAIS\n\
         Tout ce que Plait détient au sujet de cette personne. Chaque fichier .json est une liste, lisible par une\n\
         machine ; les fichiers .csv s'ouvrent dans un tableur. Les dates sont en temps universel. Les mots de passe\n\
         ne sont jamais conservés ; les noms d'autres personnes ne sont pas repris. Fichier, nombre de lignes, contenu :\n\n{}\n\
         ENGLISH\n\
         All that Plait holds about this person. Each .json file is a list for programs, the .csv files open in a\n\
         spreadsheet. Times are UTC. Passwords are never kept; other people's names are left out. File, rows, content:\n\n{}",
        Local::now().format("%Y-%m-%d %H:%M"),
        lines(|it| &it.2),
        lines(|it| &it.3),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_parts_have_names_of_their_own() {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.file).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
        let text = text("member A", Uuid::nil(), &[("a.json".into(), 2, "f".into(), "e".into())]);
        assert!(text.contains("FRANÇAIS") && text.contains("ENGLISH") && text.contains("a.json"));
    }
}
