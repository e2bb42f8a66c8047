"""Pushes to Airtable, from a plain Postgres to the sandbox: rate and 429s of a bulk, requests of a burst, latency.

What is owed comes about in the usual way: rows of the source become canonical, and the first plan is accepted."""
import datetime
import json
import os
import subprocess
import tempfile
import time

import figures
from figures import Outcome
from lab import BENCHES, Cluster, Failed, Plait, filled, wait_for
from listing import TOKEN, Sandbox

BASE = "appBench000Pushes"
TABLE = "Startups"
RECORDS_PER_S = 50  # 5 requests a second of 10 records
EDIT_COUNT = 1000
EDITED_COUNT = 10
LATENCY_EDIT_COUNT = 120
LATENCY_GAP_S = 0.5  # far below the allowance, which is free then


class Session:
    """A psql that stays open: a statement costs no new connection."""

    def __init__(self, url, password=None):
        environment = dict(os.environ, **({"PGPASSWORD": password} if password else {}))
        self.process = subprocess.Popen(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def row(self, text):
        """The one row, of one line, that the statements give; the last of them must give it."""
        self.process.stdin.write(text.rstrip().rstrip(";") + ";\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"psql: {self.process.stderr.read().strip()}")
        return line.rstrip("\n")


class Pair:
    """A source with `count` rows, a sandbox base with an empty table, and a plait between them; its plan is accepted
    when all rows are canonical, so that they are owed to Airtable all at once."""

    def __init__(self, options, count):
        self.options, self.count = options, count

    def __enter__(self):
        self.open = []
        try:
            self._start()
        except BaseException:
            self.__exit__(Failed, None, None)
            raise
        return self

    def _enter(self, thing):
        entered = thing.__enter__()
        self.open.append(thing)
        return entered

    def _start(self):
        self.cluster = self._enter(Cluster())
        folder = self._enter(tempfile.TemporaryDirectory(prefix="plait-bench-"))
        self.sandbox = self._enter(Sandbox(self.options.program, folder))
        fields = [{"name": name, "type": "singleLineText"} for name in ("Name", "City", "UUID")]
        fields.append({"name": "Capital", "type": "number", "options": {"precision": 2}})
        control = self.sandbox.control
        control("POST", "users", {"id": "usrBench000000001", "name": "Bench", "email": "bench@example.org"})
        control("POST", "tokens", {"token": TOKEN, "user": "usrBench000000001"})
        control("POST", "bases", {"id": BASE, "name": "Bench", "tables": [{"name": TABLE, "fields": fields}]})
        self.cluster.file("bench", os.path.join(BENCHES, "push.source.sql"), n=self.count)
        with open(os.path.join(BENCHES, "push.plait.toml.in")) as f:
            settings = filled(
                f.read(), mapping=os.path.join(BENCHES, "push.mapping.toml"), dest_url=self.cluster.url("canonical"),
                source_url=self.cluster.url("bench"), sandbox_url=self.sandbox.url, base=BASE)
        self.plait = Plait(self.options.program, folder, settings, {"PLAIT_BENCH_AIRTABLE_TOKEN": TOKEN})
        self.plait.migrate()
        self.cluster.file("canonical", os.path.join(BENCHES, "push.sql"))
        self._enter(self.plait)
        wait_for(lambda: self.cluster.sql("canonical", "select count(*) from canon.bench_startup") == str(self.count),
                 "all rows are canonical", 120, self.plait.process)
        control("POST", "stats/reset", {})

    def __exit__(self, kind, *_):
        while self.open:
            self.open.pop().__exit__(kind, None, None)

    def approve(self):
        """Reads the plan and accepts it, as a person would: again while the sides are still being copied."""
        limit = time.monotonic() + 60
        while True:
            for command in (["plan"], ["approve", "--yes"]):
                done = subprocess.run([self.plait.program, *command, "--config", self.plait.config], text=True,
                                      capture_output=True, env=self.plait.environment, cwd=self.plait.folder)
            if not done.returncode:
                return
            if time.monotonic() > limit:
                raise Failed(f"plait approve: {(done.stderr or done.stdout).strip()[-500:]}")
            time.sleep(0.2)

    def stats(self):
        return self.sandbox.control("GET", "stats")

    def settle(self, timeout_s):
        """Waits until nothing is owed or under way."""
        owed = ("select (select count(*) from mirror.outbox) + (select count(*) from mirror.operation "
                "where settled_at is null)")
        wait_for(lambda: self.cluster.sql("canonical", owed) == "0", "nothing is owed", timeout_s, self.plait.process)


def used_percent(samples, count):
    """Share of 50 records a second that were written, %. `samples`: (s, records written so far). The first second and
    the last request are left out, as in the listing."""
    started = next((at for at, written in samples if written > 0), None)
    ended = next((at for at, written in samples if written >= count), None)
    if started is None or ended is None:
        raise Failed("the pushes did not come to their end")
    begin, close = started + 1, ended - 0.05
    if close - begin < 2:
        raise Failed("the pushes were too few to judge their rate")

    def written_at(moment):
        return max(written for at, written in samples if at <= moment)

    return 100 * (written_at(close) - written_at(begin)) / (RECORDS_PER_S * (close - begin))


def sample(pair, count):
    """Looks at the counters until `count` records are written."""
    samples, limit = [], time.monotonic() + 4 * count / RECORDS_PER_S + 60
    while not samples or samples[-1][1] < count:
        samples.append((time.monotonic(), pair.stats()["record_written_count"]))
        if pair.plait.process.poll() is not None:
            raise Failed(f"plait ended with {pair.plait.process.returncode}")
        if time.monotonic() > limit:
            raise Failed(f"after {samples[-1][1]} of {count} records the time was up")
        time.sleep(0.005)
    return samples


def check_copy(pair):
    """Both tables hold the same, and no record twice."""
    wanted = pair.cluster.sql("bench", "select id || '|' || name || '|' || city from startup order by id").splitlines()
    grid = pair.sandbox.control("GET", "snapshot")["bases"][BASE]["tables"]
    table = next(t for t in grid if t["name"] == TABLE)
    ids = {field["name"]: field["id"] for field in table["fields"]}
    records = table["records"]
    records = records.values() if isinstance(records, dict) else records
    found = sorted("|".join(r["cells"].get(ids[name], "") for name in ("UUID", "Name", "City")) for r in records)
    if found != sorted(wanted):
        raise Failed(f"the copy is wrong: {len(found)} records of {len(wanted)}, or not the same values")


def bulk(pair, say):
    """Rate of the first bulk, and answers 429 meanwhile."""
    pair.approve()
    samples = sample(pair, pair.count)
    used = used_percent(samples, pair.count)
    stats = pair.stats()
    say(f"push: {pair.count} records at {used * RECORDS_PER_S / 100:.1f} a second, {stats['by_kind']}, "
        f"{stats['refused_by_rate_count']} x 429")
    pair.settle(120)
    check_copy(pair)
    return {"airtable_push_rate": Outcome(used), "airtable_push_429": Outcome(stats["refused_by_rate_count"])}


def burst(pair, say):
    """Requests that write, for 1,000 edits over 10 records, each in a transaction of its own."""
    before = pair.stats()["by_kind"].get("update", 0)
    chosen = pair.cluster.sql("bench", f"select id from startup order by id limit {EDITED_COUNT}").splitlines()
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        for at in range(EDIT_COUNT):
            script.write(f"update startup set name = 'Edit {at}' where id = '{chosen[at % EDITED_COUNT]}';\n")
        script.flush()
        began = time.monotonic()
        pair.cluster.file("bench", script.name)
    took = time.monotonic() - began
    last = EDIT_COUNT - 1
    wait_for(lambda: pair.cluster.sql("canonical", f"select 1 from canon.bench_startup where name = 'Edit {last}'") == "1",
             "the last edit is canonical", 60, pair.plait.process)
    pair.settle(180)
    check_copy(pair)
    count = pair.stats()["by_kind"].get("update", 0) - before
    say(f"burst: {EDIT_COUNT} edits of {EDITED_COUNT} records in {took:.1f} s, {count} requests")
    return {"burst_requests": Outcome(count)}


def percentile(values, share):
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]


def arrivals(log, tokens):
    """When each token came in a base's log, ms since 1970."""
    found = {}
    for entry in log:
        text = json.dumps(entry)
        at = datetime.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp() * 1000
        for token in tokens:
            if token not in found and f'"{token}"' in text:
                found[token] = at
    return found


def to_airtable(pair, say):
    """Commit in the source → the request is at the sandbox, ms: edits of different records, the allowance free."""
    chosen = pair.cluster.sql("bench", f"select id from startup order by id desc limit {LATENCY_EDIT_COUNT}").splitlines()
    committed = {}
    with Session(pair.cluster.url("bench")) as session:
        for at, record in enumerate(chosen):
            token = f"Latency {at}"
            update = f"update startup set name = '{token}' where id = '{record}'"
            # The first statement is committed when the second one looks at the clock.
            committed[token] = float(session.row(f"{update}; select extract(epoch from clock_timestamp()) * 1000"))
            time.sleep(LATENCY_GAP_S)
    pair.settle(60)
    seen = arrivals(pair.sandbox.control("GET", f"log?base={BASE}"), committed)
    if len(seen) < len(committed):
        raise Failed(f"{len(committed) - len(seen)} of {len(committed)} edits did not arrive")
    spans = [seen[token] - at for token, at in committed.items()]
    p99 = percentile(spans, 0.99)
    say(f"latency to Airtable: p50 {percentile(spans, 0.5):.0f} ms, p99 {p99:.0f} ms over {len(spans)} edits")
    return {"directus_to_airtable_p99": Outcome(p99)}


def measure(options, say):
    """All that needs no Directus. The bulk comes first, since the others are edits of its records."""
    wanted = figures.chosen(options.only)
    with Pair(options, max(1000, int(5000 * options.scale))) as pair:
        outcomes = bulk(pair, say)
        for name, step in (("burst_requests", burst), ("directus_to_airtable_p99", to_airtable)):
            if name not in wanted:
                continue
            try:
                outcomes.update(step(pair, say))
            except Failed as error:
                outcomes[name] = Outcome(failed=str(error))
    return outcomes
