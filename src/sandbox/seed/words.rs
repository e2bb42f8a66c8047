//! Names, places and words of a French network, to make rows of.

#[rustfmt::skip]
pub(super) const FIRST: [&str; 48] = [
    "Jeanne", "Élodie", "François", "Anne-Sophie", "Jean-Baptiste", "Zoé", "Hélène", "Loïc",
    "Agnès", "Noël", "Maëlle", "Yves", "Inès", "Thérèse", "Rémi", "Gaëtan",
    "Camille", "Benoît", "Solène", "Karim", "Aurélien", "Bérénice", "Cédric", "Delphine",
    "Erwan", "Fatou", "Grégoire", "Huguette", "Isabelle", "Jérôme", "Katell", "Léa",
    "Mathieu", "Nolwenn", "Océane", "Pierre-Yves", "Quentin", "Raphaëlle", "Stéphane", "Tiphaine",
    "Ulysse", "Valérie", "Xavier", "Yasmine", "Ronan", "Marie-Laure", "Gwenaëlle", "Théo",
];

#[rustfmt::skip]
pub(super) const LAST: [&str; 55] = [
    "MARTIN-DUPONT", "LE GOFF", "DE LA TOUR", "D'ORMESSON", "LEFÈVRE", "BERNARD", "PETIT", "ROUX",
    "MÜLLER", "GARCIA", "NGUYEN", "BENALI", "DU PLESSIS", "FAURE", "GÉRARD", "LÉVÊQUE",
    "MOREAU", "SIMON", "LAURENT", "MICHEL", "DA SILVA", "HÉBERT", "ABGRALL", "BOISSIÈRE",
    "CARADEC", "DIALLO", "ESNAULT", "FOUCHER", "GUÉGUEN", "HAMON", "ISAAC", "JÉGOU",
    "KERVELLA", "LE BRIS", "MÉNARD", "NÉDÉLEC", "OLLIVIER", "PRIGENT", "QUÉRÉ", "RIVIÈRE",
    "SALAÜN", "TANGUY", "URVOY", "VIDAL", "WAGNER", "YVON", "ZIEGLER", "CHEVALIER",
    "BEAUMONT", "D'ARGENT", "LE FLOC'H", "SAINT-MARTIN", "COSTA", "FERNANDES", "TRAORÉ",
];

#[rustfmt::skip]
pub(super) const CITIES: [(&str, &str); 16] = [
    ("Rennes", "35000"), ("Nantes", "44000"), ("Lyon", "69003"), ("Paris", "75011"),
    ("Saint-Étienne", "42000"), ("Besançon", "25000"), ("Brest", "29200"), ("Vannes", "56000"),
    ("Saint-Malo", "35400"), ("Angers", "49100"), ("La Roche-sur-Yon", "85000"), ("Le Mans", "72000"),
    ("L'Haÿ-les-Roses", "94240"), ("Bourg-en-Bresse", "01000"), ("Ajaccio", "20000"), ("Montpellier", "34000"),
];

/// Of a known top-level domain: Directus refuses an account with another.
#[rustfmt::skip]
pub(super) const MAIL_HOSTS: [&str; 5] =
    ["exemple.fr", "courriel.exemple.fr", "conseil.exemple.fr", "holding.exemple.fr", "poste.exemple.fr"];

#[rustfmt::skip]
pub(super) const NOTES: [&str; 6] = [
    "Préfère être appelé après 18 h.",
    "Ancienne dirigeante d'une ETI industrielle ; peut instruire des dossiers « deeptech ».",
    "Investit via sa holding, jamais en direct.",
    "Ne souhaite plus recevoir les dossiers hors Bretagne.",
    "Parrainé par un membre du bureau.\nCotisation réglée.",
    "Très à l'aise sur les pactes d'associés.",
];

/// One a startup.
#[rustfmt::skip]
pub(super) const STARTUPS: [&str; 50] = [
    "Abérance", "Armorik Santé", "Atelier Lumen", "Bioséa", "Brume & Cie", "Calypsol", "Cap Frugal", "Cartable Numérique",
    "Cœur de Granit", "Déclic Énergie", "Dune Mobilité", "Écume Boréale", "Élan Vital", "Fabrik'Ouest", "Ferme d'Alizé", "Fil d'Ariane",
    "Galerne", "Genêt d'Or", "Goémon Food", "Hélioscope", "Hermine Robotics", "Hublot", "Iode & Sel", "Isatis",
    "Jardins d'Émeraude", "Kérouan", "Kizomba Data", "L'Atelier du Lin", "Lichen", "Lougre", "Maïa Diagnostics", "Mistral Composites",
    "Nausicaa Labs", "Nuage Souverain", "Océadis", "Ouessant Avionique", "Pixel Pédago", "Quai N° 9", "Rhizome", "Roz-Avel",
    "Sève", "Sillage", "Solis Stockage", "Ti-Data", "Tréguier Biotech", "Ulva", "Vélodyssée", "Vent d'Amont",
    "Xylène Recyclage", "Yuzu Finance",
];

/// What a project's name is made of: 20 × 15.
#[rustfmt::skip]
pub(super) const PROJECT_HEADS: [&str; 20] = [
    "Agri", "Algo", "Aqua", "Bati", "Bio", "Carbo", "Cyber", "Éco", "Édu", "Géo", "Hydro", "Médi", "Nano", "Néo",
    "Optim", "Océa", "Robo", "Séni", "Terra", "Vita",
];
#[rustfmt::skip]
pub(super) const PROJECT_TAILS: [&str; 15] = [
    "boucle", "cap", "clair", "cité", "flux", "lien", "mer", "pilote", "port", "scope", "sens", "source", "trace",
    "vigie", "voile",
];

#[rustfmt::skip]
pub(super) const PRODUCTS: [&str; 12] = [
    "une plateforme de suivi", "un capteur autonome", "un logiciel de planification", "un procédé de recyclage",
    "une place de marché", "un dispositif de diagnostic", "une application mobile", "un jumeau numérique",
    "une solution de stockage", "un robot d'assistance", "une offre de formation", "un service d'abonnement",
];
#[rustfmt::skip]
pub(super) const CUSTOMERS: [&str; 10] = [
    "les collectivités littorales", "les PME industrielles", "les établissements de santé", "les exploitations maraîchères",
    "les armateurs", "les bailleurs sociaux", "les écoles et collèges", "les artisans du bâtiment", "les aidants familiaux",
    "les directions financières",
];
#[rustfmt::skip]
pub(super) const TRACTION: [&str; 8] = [
    "Trois pilotes signés, premier chiffre d'affaires attendu au printemps.",
    "MVP en ligne ; 1 200 utilisateurs actifs.",
    "Brevet déposé, équipe de quatre associés.",
    "Lauréat « i-Lab », prototype validé en laboratoire.",
    "120 k€ de revenus récurrents, attrition sous 3 %.",
    "Pas encore de ventes : étude de marché à compléter.",
    "Deux lettres d'intention de grands comptes.",
    "Équipe expérimentée, mais capital déjà dispersé.",
];
#[rustfmt::skip]
pub(super) const TAGS: [&str; 14] = [
    "b2b", "b2c", "amorçage", "deeptech", "impact", "saas", "matériel", "santé", "mer", "industrie 4.0", "circulaire",
    "données", "marketplace", "abonnement",
];
#[rustfmt::skip]
pub(super) const LEADS: [&str; 6] = [
    "Réseau", "Fonds Armor Amorçage", "Granit Capital", "Business angels de l'Ouest", "Famille LE BRIS", "Crédit coopératif régional",
];
