"""The Airtable listing against the sandbox: how much of the allowance it leaves unused, and answers 429.

The sandbox counts; this looks at its counters every few milliseconds. The window that is judged begins one second
after the first page (a sliding window lets five calls through at once) and ends before the last, so that neither
bursts nor an even spacing are favoured."""
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from figures import Outcome
from lab import BENCHES, Cluster, Failed, Plait, end, filled, free_port, wait_for

BASE = "appBench00Listing"
TOKEN = "patBenchListing00.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
TABLES = ["Alpha", "Beta", "Gamma"]
PAGE = 100
ALLOWANCE_PER_S = 5
EDIT_COUNT_MAX = 500  # records that one call to the control API makes
EDGE_S = 0.05


class Sandbox:
    def __init__(self, program, folder):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = open(os.path.join(folder, "sandbox.log"), "wb")
        self.process = subprocess.Popen(
            [program, "sandbox", "--listen", self.url.removeprefix("http://")], stdout=self.log, stderr=self.log, cwd=folder)

    def __enter__(self):
        try:
            wait_for(self._answers, "the sandbox answers", 30, self.process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()

    def _answers(self):
        try:
            self.control("GET", "stats")
            return True
        except (OSError, Failed):
            return False

    def control(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.url}/sandbox/{path}", method=method, headers={"content-type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"sandbox, {method} {path}: {error.code} {error.read().decode()[:200]}") from error

    def fill(self, count):
        fields = [{"name": "Name", "type": "singleLineText"},
                  {"name": "Amount", "type": "number", "options": {"precision": 2}},
                  {"name": "Note", "type": "multilineText"}]
        self.control("POST", "tokens", {"token": TOKEN, "user": "usrBench000000001"})
        self.control("POST", "users", {"id": "usrBench000000001", "name": "Bench", "email": "bench@example.org"})
        self.control("POST", "bases", {"id": BASE, "name": "Bench", "tables": [{"name": t, "fields": fields} for t in TABLES]})
        for at in range(0, count, EDIT_COUNT_MAX):
            table = TABLES[(at // EDIT_COUNT_MAX) % len(TABLES)]
            edits = [{"do": "create", "table": table,
                      "fields": {"Name": f"Record {i}", "Amount": i + 0.25, "Note": f"note {i}"}}
                     for i in range(at, min(count, at + EDIT_COUNT_MAX))]
            self.control("POST", "edit", {"base": BASE, "as": {"source": "system"}, "edits": edits})


def unused_percent(samples, record_count):
    """Share of the allowance left unused, %. `samples`: (s, requests so far, records read so far)."""
    started = next((at for at, _, records in samples if records > 0), None)
    ended = next((at for at, _, records in samples if records >= record_count), None)
    if started is None or ended is None:
        raise Failed("the listing did not come to its end")
    begin, close = started + 1, ended - EDGE_S
    if close - begin < 2:
        raise Failed("the listing was too short to judge its rate")

    def requests_at(moment):
        return max(requests for at, requests, _ in samples if at <= moment)

    used = requests_at(close) - requests_at(begin)
    return 100 * (1 - used / (ALLOWANCE_PER_S * (close - begin)))


def measure(options, say):
    count = max(4000, int(20_000 * options.scale))
    with tempfile.TemporaryDirectory(prefix="plait-bench-") as folder, Cluster() as cluster, \
            Sandbox(options.program, folder) as sandbox:
        sandbox.fill(count)
        sandbox.control("POST", "limits/forgive", {})
        sandbox.control("POST", "stats/reset", {})
        with open(os.path.join(BENCHES, "listing.plait.toml.in")) as f:
            settings = filled(
                f.read(), mapping=os.path.join(BENCHES, "listing.mapping.toml"), dest_url=cluster.url("canonical"),
                sandbox_url=sandbox.url, base=BASE)
        plait = Plait(options.program, folder, settings, {"PLAIT_BENCH_AIRTABLE_TOKEN": TOKEN})
        plait.migrate()
        cluster.file("canonical", os.path.join(BENCHES, "listing.sql"))
        samples, limit = [], time.monotonic() + 3 * count / (PAGE * ALLOWANCE_PER_S) + 60
        with plait:
            while not samples or samples[-1][2] < count:
                stats = sandbox.control("GET", "stats")
                samples.append((time.monotonic(), stats["request_count"], stats["record_read_count"]))
                if plait.process.poll() is not None:
                    raise Failed(f"plait ended with {plait.process.returncode}")
                if time.monotonic() > limit:
                    raise Failed(f"after {samples[-1][2]} of {count} records the time was up")
                time.sleep(0.005)
            total = " + ".join(f"(select count(*) from canon.bench_{t.lower()})" for t in TABLES)
            wait_for(lambda: cluster.sql("canonical", f"select {total}") == str(count), "all records are canonical",
                     60, plait.process)
            refused = sandbox.control("GET", "stats")["refused_by_rate_count"]
    unused = unused_percent(samples, count)
    say(f"listing: {count} records with {samples[-1][1]} requests, {100 - unused:.1f} % of the allowance used, {refused} x 429")
    return {"listing_allowance": Outcome(unused), "listing_429": Outcome(refused)}
