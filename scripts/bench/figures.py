"""The figures and their bars, and the table that says which are met. Pure."""
import dataclasses
import operator

RELATIONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt, "=": operator.eq}


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str
    unit: str
    relation: str
    bar: float
    digits: int

    def bar_text(self):
        return f"{self.relation} {self.bar:g}"


FIGURES = [
    Figure("first_copy", "x native", "≥", 0.7, 2),
    Figure("backlog_tx10", "x native", "≥", 0.7, 2),
    Figure("backlog_tx10_debezium", "x debezium", "≥", 1.5, 2),
    Figure("latency_p50", "ms", "<", 5, 2),
    Figure("latency_p99", "ms", "<", 25, 2),
    Figure("memory_large_transaction", "MB", "<", 256, 1),
    Figure("memory_idle", "MB", "<", 64, 1),
    Figure("listing_allowance", "% unused", "<", 3, 2),
    Figure("listing_429", "answers", "=", 0, 0),
    Figure("airtable_push_rate", "% of 50/s", "≥", 97, 1),
    Figure("airtable_push_429", "answers", "=", 0, 0),
    Figure("burst_requests", "requests", "≤", 20, 0),
    Figure("directus_to_airtable_p99", "ms", "<", 200, 0),
    Figure("airtable_to_directus_p99", "ms", "<", 500, 0),
    Figure("directus_push_rate", "x bare client", "≥", 0.9, 2),
    Figure("rest_writes", "writes", "=", 0, 0),
    Figure("report_at_size", "ms", "<", 50, 1),
    Figure("report_common", "ms", "<", 200, 0),
    Figure("report_heavy", "ms", "<", 2000, 0),
    Figure("export_csv", "x psql", "≥", 0.8, 2),
    Figure("export_memory", "MB", "<", 128, 1),
]
NAMES = [figure.name for figure in FIGURES]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A value; or none, and why: `skipped` (it could not be measured here) or failed (it counts as missed)."""

    value: float | None = None
    skipped: str | None = None
    failed: str | None = None


def chosen(only):
    """The names that a comma-separated list means: whole names, or the beginning of some (`latency`)."""
    if not only:
        return list(NAMES)
    picked = []
    for word in only.split(","):
        exact = [name for name in NAMES if name == word]
        found = exact or [name for name in NAMES if name.startswith(word)]
        if not word or not found:
            raise ValueError(f"there is no figure `{word}`; there are: {', '.join(NAMES)}")
        picked += found
    return [name for name in NAMES if name in picked]


def verdict(figure, outcome):
    if outcome.skipped is not None:
        return "skipped"
    if outcome.value is None:
        return "missed"
    # The bar holds for what is measured, not for what is printed.
    return "met" if RELATIONS[figure.relation](outcome.value, figure.bar) else "missed"


def table(outcomes):
    """The lines of the table, and whether nothing was missed. `outcomes`: name → Outcome."""
    rows = [("figure", "value", "unit", "bar", "")]
    reasons, is_well = [], True
    for figure in FIGURES:
        if figure.name not in outcomes:
            continue
        outcome = outcomes[figure.name]
        said = verdict(figure, outcome)
        is_well = is_well and said != "missed"
        value = "-" if outcome.value is None else f"{outcome.value:.{figure.digits}f}"
        rows.append((figure.name, value, figure.unit, figure.bar_text(), said))
        reason = outcome.skipped or outcome.failed
        if reason:
            reasons.append(f"{figure.name} {said}: {reason}")
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    lines = [
        f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}  {row[3]:{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    return reasons + lines, is_well
