"""Exports: a million rows as CSV, beside psql's \\copy of the same query, and the memory that each format takes."""
import os
import statistics
import subprocess
import tempfile
import time

from figures import Outcome
from lab import Cluster, Failed

TABLE = """
create schema canon;
create table canon.row (id uuid, company text, note text, email text, amount numeric(18, 2), rate numeric(12, 6),
    paid_on date, made_at timestamptz, is_open boolean, share_count integer);
insert into canon.row select gen_random_uuid(), 'Société ' || g % 5000, case when g % 3 = 0 then 'Relancé, puis signé "sous réserve"' end,
    'member' || g % 20000 || '@example.org', (g % 1000000) * 1.25, g % 1000 / 7.0, date '2015-01-01' + g % 4000,
    timestamptz '2015-01-01Z' + g * interval '97 seconds', g % 4 = 0, g % 100000 from generate_series(1, {count}) g;
vacuum analyze canon.row;
"""
FORMATS = [("csv", "standard"), ("csv", "fr"), ("json", "standard"), ("parquet", "standard"), ("xlsx", "standard")]


def run(command, cwd):
    """Runs a command to its end: seconds, and the most memory it had, MB."""
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as f:
                peak = max([peak] + [int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM:")])
        except OSError:
            pass
        time.sleep(0.005)
    seconds = time.monotonic() - began
    if process.returncode:
        raise Failed(f"{command[0]}: {process.stderr.read().decode(errors='replace')[-500:]}")
    return seconds, peak


def measure(options, say):
    count = max(2000, int(1_000_000 * options.scale))
    with Cluster() as cluster, tempfile.TemporaryDirectory(prefix="plait-bench-") as folder:
        cluster.file("canonical", write(folder, TABLE.replace("{count}", str(count))))
        url = cluster.url("canonical")
        with open(os.path.join(folder, "plait.toml"), "w") as f:
            f.write(f'[canonical]\nurl = "{url}"\ntls = "disable"\n')
        copy = r"\copy (select * from canon.row) to 'psql.csv' (format csv, header)"
        psql = ["psql", "-X", "-q", "-d", url, "-c", copy]

        def export(form, locale):
            file = os.path.join(folder, "plait." + form)
            seconds = run([options.program, "export", "row", "-o", file, "--locale", locale, "--overwrite"], folder)
            return seconds, file

        run(psql, folder)  # all of it is in memory from now on
        ratios = []
        for _ in range(max(3, options.reps)):
            (theirs, _), ((ours, _), file) = run(psql, folder), export("csv", "standard")
            ratios.append(theirs / ours)
            say(f"export: csv {count / ours:,.0f} rows/s, psql {count / theirs:,.0f} rows/s, ratio {theirs / ours:.2f}")
        with open(file, "rb") as f:
            lines = sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))
        if lines != count + 1:
            raise Failed(f"{lines} lines were written of {count + 1}")
        peaks = []
        for form, locale in FORMATS:
            (seconds, peak), file = export(form, locale)
            peaks.append(peak)
            say(f"export: {form} {locale} {count / seconds:,.0f} rows/s, peak {peak:.1f} MB, "
                f"{os.path.getsize(file) / 1e6:.1f} MB written")
    return {"export_csv": Outcome(statistics.median(ratios)), "export_memory": Outcome(max(peaks))}


def write(folder, text):
    path = os.path.join(folder, "table.sql")
    with open(path, "w") as f:
        f.write(text)
    return path
