"""The reports: how long each view takes at the size of one network and at a hundred times it. What is
timed is `copy (select …) to stdout`, all rows and columns, thrown away, by one client; the data are those of
benches/report_data.sql."""
import os
import statistics
import subprocess
import tempfile

from figures import Outcome
from lab import BENCHES, Cluster, Failed, Plait, filled

FACTOR = 100
MEMBER, STARTUP = "md5('member77')::uuid", "md5('startup77')::uuid"
COMMON = {
    "one investor's lines": f"select * from report.portfolio_line where member_id = {MEMBER}",
    "one investor's total": f"select * from report.portfolio_by_investor where member_id = {MEMBER}",
    "one investor's movements": f"select * from report.movement where member_id = {MEMBER}",
    "one investor, two years ago": f"select * from report.portfolio_line_at(current_date - 730) where member_id = {MEMBER}",
    "one startup's lines": f"select * from report.portfolio_line where startup_id = {STARTUP}",
    "one startup's total": f"select * from report.portfolio_by_startup where startup_id = {STARTUP}",
    "the board": "select * from report.deal_flow_board where stage_kind = 'open' order by stage_ordinal, days_in_stage desc",
    "the funnel": "select * from report.deal_flow_funnel",
    "conversion": "select * from report.deal_flow_conversion",
    "yearly statistics": "select * from report.network_by_year",
}


def milliseconds(cluster, query, reps):
    """The median of some times in one session, as psql's \\timing has them; a first time warms up."""
    words = [word for _ in range(reps + 1) for word in ("-c", f"copy ({query}) to stdout")]
    done = subprocess.run(
        ["psql", "-X", "-q", "-d", cluster.url("canonical"), "-c", "\\timing on", "-c", "\\o /dev/null", *words],
        capture_output=True, text=True)
    times = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("Time: ")]
    if done.returncode or len(times) != reps + 1:
        raise Failed(f"psql: {done.stderr.strip() or done.stdout[-500:]}")
    return statistics.median(times[1:])


def network(options, folder, cluster, factor):
    with open(os.path.join(BENCHES, "report.plait.toml.in")) as f:
        settings = filled(f.read(), mapping=os.path.join(BENCHES, "listing.mapping.toml"), dest_url=cluster.url("canonical"))
    Plait(options.program, folder, settings, {"PLAIT_BENCH_AIRTABLE_TOKEN": "none"}).migrate()
    cluster.file("canonical", os.path.join(BENCHES, "report_data.sql"), factor=factor)
    # As `plait run` does after a change.
    cluster.sql("canonical", "select report.keep()")
    cluster.sql("canonical", "vacuum analyze")
    return cluster.sql("canonical", "select name from report.catalogue order by ordinal").split()


def slowest(times, what, say):
    name = max(times, key=times.get)
    for each, ms in sorted(times.items(), key=lambda item: -item[1]):
        say(f"  {ms:8.1f} ms  {each}")
    say(f"{what}: {times[name]:.0f} ms at most, {name}")
    return Outcome(times[name])


def measure(options, say):
    found = {}
    for factor in (1, max(1, round(FACTOR * options.scale))):
        with tempfile.TemporaryDirectory(prefix="plait-bench-") as folder, Cluster() as cluster:
            names = network(options, folder, cluster, factor)
            if "report_at_size" not in found:
                times = {name: milliseconds(cluster, f"select * from report.{name}", options.reps) for name in names}
                found["report_at_size"] = slowest(times, "each report at the size of a network", say)
                continue
            times = {name: milliseconds(cluster, query, options.reps) for name, query in COMMON.items()}
            found["report_common"] = slowest(times, f"common ones at {factor} times it", say)
            names.append("network_by_year_counted")
            times = {name: milliseconds(cluster, f"select * from report.{name}", options.reps) for name in names}
            found["report_heavy"] = slowest(times, f"whole reports at {factor} times it", say)
    return found
