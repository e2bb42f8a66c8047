//! Tables and fields of the seeded bases.

use serde_json::{Value, json};

use crate::sandbox::schema::CREATABLE_KINDS;

fn field(name: &str, kind: &str) -> Value {
    let options = match kind {
        "currency" => json!({ "precision": 2, "symbol": "€" }),
        "number" | "percent" => json!({ "precision": 8 }),
        "duration" => json!({ "durationFormat": "h:mm:ss" }),
        "rating" => json!({ "icon": "star", "color": "yellowBright", "max": 5 }),
        "checkbox" => json!({ "icon": "check", "color": "greenBright" }),
        "date" => json!({ "dateFormat": { "name": "iso" } }),
        "dateTime" => {
            json!({ "timeZone": "utc", "dateFormat": { "name": "iso" }, "timeFormat": { "name": "24hour" } })
        }
        "createdTime" => {
            json!({ "result": { "type": "dateTime", "options": { "timeZone": "utc", "dateFormat": { "name": "iso", "format": "YYYY-MM-DD" }, "timeFormat": { "name": "24hour", "format": "HH:mm" } } } })
        }
        "lastModifiedTime" => {
            json!({ "isValid": true, "referencedFieldIds": [], "result": { "type": "dateTime", "options": { "timeZone": "utc", "dateFormat": { "name": "iso", "format": "YYYY-MM-DD" }, "timeFormat": { "name": "24hour", "format": "HH:mm" } } } })
        }
        _ => Value::Null,
    };
    json!({ "name": name, "type": kind, "options": options })
}

fn fields(kind: &str, names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| field(name, kind)).collect()
}

fn select(name: &str, kind: &str, choices: &[&str]) -> Value {
    let choices: Vec<Value> = choices.iter().map(|name| json!({ "name": name })).collect();
    json!({ "name": name, "type": kind, "options": { "choices": choices } })
}

fn link(name: &str, target: &str) -> Value {
    json!({ "name": name, "type": "multipleRecordLinks", "link": target })
}

pub(super) const SECTORS: [&str; 10] = [
    "Santé",
    "Logiciel",
    "Énergie",
    "Agroalimentaire",
    "Industrie",
    "Mobilité",
    "Éducation",
    "Finance",
    "Environnement",
    "Loisirs",
];

fn table(name: &str, parts: Vec<Vec<Value>>) -> Value {
    let mut fields: Vec<Value> = parts.concat();
    fields.push(field("UUID", "singleLineText"));
    fields.push(field("N°", "autoNumber"));
    fields.push(field("Créé le", "createdTime"));
    json!({ "name": name, "fields": fields })
}

/// "Réseau": the tables and fields that the mapping names, and some that it does not.
pub(super) fn network() -> Value {
    let text = |names: &[&str]| fields("singleLineText", names);
    let tables = [
        table(
            "Membres",
            vec![
                text(&["Nom complet"]),
                vec![field("E-mail", "email"), field("Téléphone", "phoneNumber")],
                vec![select("Statut", "singleSelect", &["Actif", "Prospect", "Suspendu", "Parti"])],
                vec![select(
                    "Rôles",
                    "multipleSelects",
                    &["Investisseur", "Fondateur", "Permanent", "Bénévole", "Expert", "Délégué"],
                )],
                text(&["Date d'adhésion", "Ville", "Code postal", "Mot de passe"]),
                fields("currency", &["Ticket min", "Ticket max"]),
                vec![
                    field("LinkedIn", "url"),
                    field("Newsletter", "checkbox"),
                    field("Notes", "multilineText"),
                ],
                vec![
                    json!({ "name": "Nombre d'investissements", "type": "count", "via": "Investissements" }),
                ],
            ],
        ),
        table(
            "Startups",
            vec![
                text(&["Nom", "SIREN", "Forme juridique", "Ville", "Mots-clés"]),
                vec![
                    select("Secteur", "singleSelect", &SECTORS),
                    field("Site", "url"),
                    field("Date de création", "date"),
                ],
                vec![
                    field("Description", "multilineText"),
                    field("Capital social", "currency"),
                    field("JEI", "checkbox"),
                ],
                vec![
                    field("Effectif", "number"),
                    field("Part détenue", "percent"),
                    field("Note", "rating"),
                ],
                vec![
                    field("E-mail de contact", "email"),
                    field("Téléphone de contact", "phoneNumber"),
                ],
                vec![
                    json!({ "name": "Total investi", "type": "rollup", "via": "Investissements", "of": "Montant", "aggregate": "SUM" }),
                ],
            ],
        ),
        table(
            "Projets",
            vec![
                text(&["Nom du projet"]),
                vec![
                    link("Startup", "Startups"),
                    link("Référent", "Membres"),
                    link("Intéressés", "Membres"),
                ],
                vec![select(
                    "Étape",
                    "singleSelect",
                    &[
                        "Dépôt",
                        "Recevabilité",
                        "Présélection",
                        "Pitch",
                        "Instruction",
                        "Comité",
                        "Négociation",
                        "Closing",
                        "Suivi",
                        "Sortie",
                        "Refusé",
                        "Retiré",
                        "En attente",
                        "Sans suite",
                    ],
                )],
                vec![select(
                    "Origine",
                    "singleSelect",
                    &["Site web", "Membre", "Incubateur", "Partenaire", "Événement"],
                )],
                vec![select("Secteur", "singleSelect", &SECTORS)],
                vec![select(
                    "Région",
                    "multipleSelects",
                    &["Bretagne", "Pays de la Loire", "Île-de-France"],
                )],
                vec![
                    field("Date de dépôt", "date"),
                    field("Dernier échange", "dateTime"),
                    field("Durée du pitch", "duration"),
                ],
                fields("currency", &["Montant recherché", "Pré-money demandée"]),
                vec![field("Résumé", "multilineText"), field("Suivi par", "singleCollaborator")],
            ],
        ),
        table(
            "Tours",
            vec![
                text(&["Nom", "Chef de file"]),
                vec![link("Startup", "Startups")],
                vec![select(
                    "Type",
                    "singleSelect",
                    &[
                        "Love money",
                        "Pré-amorçage",
                        "Amorçage",
                        "Relais",
                        "Série A",
                        "Série B",
                        "Secondaire",
                    ],
                )],
                fields("date", &["Ouvert le", "Clos le"]),
                fields("currency", &["Pré-money", "Montant visé", "Montant levé"]),
            ],
        ),
        table(
            "Investissements",
            vec![
                text(&["Référence"]),
                vec![link("Membre", "Membres"), link("Startup", "Startups"), link("Tour", "Tours")],
                vec![instrument()],
                vec![select(
                    "Statut",
                    "singleSelect",
                    &["Engagé", "Payé", "Détenu", "Sorti en partie", "Sorti", "Perte totale"],
                )],
                vec![select("Enveloppe", "singleSelect", &["CTO", "PEA", "PEA-PME"])],
                fields("currency", &["Engagé", "Montant"]),
                fields("number", &["Quantité", "Prix unitaire"]),
                vec![field("Date de signature", "date"), field("Commentaire", "multilineText")],
            ],
        ),
        table(
            "Flux",
            vec![
                text(&["Libellé"]),
                vec![link("Investissement", "Investissements")],
                vec![select(
                    "Type",
                    "singleSelect",
                    &[
                        "Souscription",
                        "Frais",
                        "Prêt",
                        "Remboursement",
                        "Intérêts",
                        "Dividende",
                        "Cession",
                        "Liquidation",
                    ],
                )],
                vec![
                    field("Date", "date"),
                    field("Montant", "currency"),
                    field("Quantité", "number"),
                    field("Note", "multilineText"),
                ],
            ],
        ),
        table(
            "Valorisations",
            vec![
                text(&["Libellé"]),
                vec![link("Startup", "Startups")],
                vec![select(
                    "Méthode",
                    "singleSelect",
                    &[
                        "Tour récent",
                        "Jalons",
                        "Multiple",
                        "Actualisation des flux",
                        "Actif net",
                        "Offre reçue",
                        "Dépréciation",
                        "Perte totale",
                        "Coût",
                    ],
                )],
                vec![instrument()],
                fields("date", &["Date", "Approuvée le"]),
                vec![
                    field("Prix par action", "number"),
                    field("Valeur des fonds propres", "currency"),
                    field("Commentaire", "multilineText"),
                ],
            ],
        ),
        table(
            "Événements juridiques",
            vec![
                text(&["Libellé"]),
                vec![link("Startup", "Startups")],
                vec![select(
                    "Type",
                    "singleSelect",
                    &[
                        "Constitution",
                        "Augmentation de capital en numéraire",
                        "Augmentation de capital en nature",
                        "Émission de BSA",
                        "Émission d'OC",
                        "Conversion",
                        "Réduction de capital",
                        "Cession",
                        "Modification des statuts",
                        "Transfert de siège",
                        "Changement de dirigeant",
                        "Pacte d'associés",
                        "Procédure collective",
                        "Liquidation",
                    ],
                )],
                fields("date", &["Décidé le", "Effet le", "Enregistré le"]),
                fields("currency", &["Capital avant", "Capital après"]),
                vec![field("Dossier complet", "checkbox"), field("Note", "multilineText")],
            ],
        ),
    ];
    json!({ "id": super::NETWORK_BASE, "name": "Réseau", "tables": tables })
}

/// Classes of securities.
fn instrument() -> Value {
    select(
        "Instrument",
        "singleSelect",
        &[
            "Actions ordinaires",
            "Actions de préférence",
            "BSA",
            "BSA-AIR",
            "Obligations convertibles",
            "Obligations convertibles en actions",
            "Parts sociales",
            "Compte courant d'associé",
        ],
    )
}

/// "Bac à sable": a field of every type.
pub(super) fn playground() -> Value {
    // Those that need more than a name come below.
    let with_more = ["singleSelect", "multipleSelects", "multipleRecordLinks"];
    let creatable = CREATABLE_KINDS.iter().filter(|kind| !with_more.contains(kind));
    let filled_by_airtable = [
        "autoNumber",
        "createdTime",
        "lastModifiedTime",
        "createdBy",
        "lastModifiedBy",
        "button",
        "aiText",
        "externalSyncSource",
        "manualSort",
    ];
    let mut types: Vec<Value> =
        creatable.chain(&filled_by_airtable).map(|kind| field(kind, kind)).collect();
    types.push(select("singleSelect", "singleSelect", &["A", "B", "C"]));
    types.push(select("multipleSelects", "multipleSelects", &["A", "B", "C"]));
    types.push(link("multipleRecordLinks", "Autres"));
    types.push(json!({ "name": "count", "type": "count", "via": "multipleRecordLinks" }));
    types.push(json!({ "name": "rollup", "type": "rollup", "via": "multipleRecordLinks", "of": "Nombre", "aggregate": "SUM" }));
    types.push(json!({ "name": "multipleLookupValues", "type": "multipleLookupValues", "via": "multipleRecordLinks", "of": "Nombre" }));
    types.push(json!({ "name": "formula", "type": "formula", "options": {
        "formula": "{singleLineText} & '-' & {number}", "isValid": true, "referencedFieldIds": [], "result": { "type": "singleLineText" } } }));
    json!({ "id": super::PLAYGROUND_BASE, "name": "Bac à sable", "tables": [
        { "name": "Types", "fields": types },
        { "name": "Autres", "fields": [field("Nom", "singleLineText"), field("Nombre", "number")] },
    ] })
}
