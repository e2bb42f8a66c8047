"""The whole line with a real Directus: `plait demo` is its lab. Latency from Airtable to Directus, rate of pushes to
Directus beside a bare client, and what is written at rest."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import figures
from figures import Outcome
from lab import Failed, wait_for
from listing import EDIT_COUNT_MAX
from push import Session, percentile

BASE_NAME, TABLE = "reseau", "Startups"
EDIT_COUNT = 120  # at most: one a startup
EDIT_GAP_S = 0.6
LOOK_EVERY_S = 0.002
REST_S = 60
OWED = "select (select count(*) from mirror.outbox) + (select count(*) from mirror.operation where settled_at is null)"
# Rows that sessions and caches of Directus write on their own are not ours to answer for.
WRITTEN = ("select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables "
           "where relname not in ('directus_sessions')")


class Demo:
    """A running `plait demo` in a folder of its own."""

    def __init__(self, options):
        self.options = options

    def __enter__(self):
        self.place = tempfile.TemporaryDirectory(prefix="plait-bench-demo-", dir="/tmp")
        os.chmod(self.place.name, 0o755)  # Postgres and Directus do not run as root
        self.folder = os.path.join(self.place.name, "demo")
        self.log = os.path.join(self.place.name, "demo.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.options.program, "demo", "--folder", self.folder], stdout=log, stderr=log, cwd=self.place.name)
        try:
            wait_for(lambda: "Ctrl-C ends it all" in self.said(), "the demo is up", 300, self.process)
            self._read()
            wait_for(lambda: self.canonical.row("select count(*) from mirror.capture_status where state = 'streaming'") == "2",
                     "both sides are followed", 120, self.process)
            self.settle(300)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.place.cleanup()

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def _setting(self, section, key):
        with open(os.path.join(self.folder, "plait.toml")) as f:
            text = f.read().split(f"[{section}]", 1)[1]
        return re.search(rf'^{key} = "([^"]*)"', text, re.M)[1]

    def _secret(self, name):
        with open(os.path.join(self.folder, "secrets", name)) as f:
            return f.read().strip()

    def _read(self):
        self.studio, self.email, self.password = re.search(
            r"Directus Studio\s+(\S+)\s+log in as (\S+) with password (\S+)", self.said()).groups()
        self.sandbox_url, self.base = self._setting("airtable", "api_url"), self._setting("airtable.base." + BASE_NAME, "id")
        self.canonical = Session(self._setting("canonical", "url"), self._secret("canonical"))
        self.directus = Session(self._setting("directus", "database_url"), self._secret("directus"))
        self.token = self.rest("POST", "/auth/login", {"email": self.email, "password": self.password})["access_token"]

    def rest(self, method, path, body=None):
        headers = {"content-type": "application/json"}
        if getattr(self, "token", None):
            headers["authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.studio + path, method=method, headers=headers, data=data)
        return self._json(request).get("data")

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return self._json(urllib.request.Request(f"{self.sandbox_url}/sandbox/{path}", method=method, headers=headers, data=data))

    def _json(self, request):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            raise Failed(f"{request.method} {request.full_url}: {error.code} {error.read().decode()[:200]}") from error

    def edit(self, *edits):
        return self.control("POST", "edit", {"base": self.base, "as": {"source": "system"}, "edits": list(edits)})["ids"]

    def startups(self, count):
        return [r["id"] for r in self.control("GET", f"grid?base={self.base}&table={TABLE}")["records"][:count]]

    def settle(self, timeout_s):
        wait_for(lambda: self.canonical.row(OWED) == "0", "nothing is owed", timeout_s, self.process)


def to_directus(demo, say):
    """An edit is acknowledged by the sandbox, which pings then → the row is visible in Directus's Postgres, ms."""
    records, spans = demo.startups(EDIT_COUNT), []
    for at, record in enumerate(records):
        token = f"Latence {at}"
        demo.edit({"do": "update", "table": TABLE, "record": record, "fields": {"Ville": token}})
        began = time.monotonic()
        limit = began + 20
        while demo.directus.row(f"select count(*) from startup where city = '{token}'") == "0":
            if time.monotonic() > limit:
                raise Failed(f"edit {at} was not in Directus after 20 s")
            time.sleep(LOOK_EVERY_S)
        spans.append((time.monotonic() - began) * 1000)
        time.sleep(EDIT_GAP_S)
    p99 = percentile(spans, 0.99)
    say(f"latency to Directus: p50 {percentile(spans, 0.5):.0f} ms, p99 {p99:.0f} ms over {len(spans)} edits")
    return {"airtable_to_directus_p99": Outcome(p99)}


def at_rest(demo, say):
    """Writes on both sides in a minute in which nobody does anything."""
    demo.settle(120)
    time.sleep(5)

    def counts():
        return demo.control("GET", "stats")["record_written_count"], int(demo.directus.row(WRITTEN))

    before = counts()
    time.sleep(REST_S)
    airtable, directus = (after - was for after, was in zip(counts(), before))
    say(f"at rest: {airtable} records written in Airtable, {directus} rows in Directus in {REST_S} s")
    return {"rest_writes": Outcome(airtable + directus)}


def visible_rate(demo, prefix, count):
    """Rows a second as they become visible in Directus, from the first look with any to the last row."""
    samples, limit = [], time.monotonic() + 300
    while not samples or samples[-1][1] < count:
        seen = int(demo.directus.row(f"select count(*) from startup where name like '{prefix}%'"))
        if seen:
            samples.append((time.monotonic(), seen))
        if time.monotonic() > limit:
            raise Failed(f"{samples[-1][1] if samples else 0} of {count} rows were in Directus when the time was up")
        time.sleep(LOOK_EVERY_S)
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    if last_at - first_at < 0.5:
        raise Failed("the rows came too fast to judge their rate")
    return (last - first) / (last_at - first_at)


def owed_to_directus(demo, prefix, count):
    """Has `count` new startups owed to Directus, held back by a plan that is not accepted; gives what accepts it."""
    saved = demo.canonical.row(  # jsonb: its text is one line, json_agg's is not
        "with gone as (delete from mirror.approval returning *) select coalesce(jsonb_agg(gone), '[]') from gone")
    for at in range(0, count, EDIT_COUNT_MAX):
        demo.edit(*({"do": "create", "table": TABLE, "fields": {"Nom": f"{prefix}{i}", "Ville": "Nantes"}}
                    for i in range(at, min(count, at + EDIT_COUNT_MAX))))
    wait_for(lambda: demo.canonical.row(f"select count(*) from canon.startup where name like '{prefix}%'") == str(count),
             "the new startups are canonical", 120, demo.process)
    saved = saved.replace("'", "''")

    def accept():
        demo.canonical.row(
            f"with again as (insert into mirror.approval select * from jsonb_populate_recordset(null::mirror.approval, '{saved}') "
            "on conflict do nothing returning 1), due as (update mirror.outbox set due_at = now(), attempt_count = 0 returning 1) "
            "select (select count(*) from again), (select count(*) from due), pg_notify('plait_command', '')")

    return accept


def push_rate(demo, say, scale):
    """Rate of pushes to Directus by that of a bare client which sends the same items in batches of the same size."""
    count = max(1000, int(5000 * scale))
    accept = owed_to_directus(demo, "Masse ", count)
    accept()
    ours = visible_rate(demo, "Masse ", count)
    batch_count = int(demo.directus.row(
        "select count(distinct user_agent) from directus_activity where user_agent like 'plait/%' and action = 'create' "
        "and collection = 'startup' and item in (select id::text from startup where name like 'Masse %')"))
    size = max(1, round(count / max(1, batch_count)))
    demo.settle(300)
    model = demo.rest("GET", "/items/startup?limit=1&filter[name][_eq]=" + urllib.request.quote("Masse 0"))[0]
    cells = {key: value for key, value in model.items() if value not in (None, []) and key not in (
        "id", "user_created", "user_updated", "date_created", "date_updated")}
    # The mirror would take part in it: the plan is withdrawn meanwhile.
    held = demo.canonical.row("with gone as (delete from mirror.approval returning 1) select count(*) from gone")
    began = time.monotonic()
    for at in range(0, count, size):
        demo.rest("POST", "/items/startup?fields=id", [
            dict(cells, id=str(uuid.uuid4()), name=f"Nue {i}") for i in range(at, min(count, at + size))])
    theirs = count / (time.monotonic() - began)
    say(f"push to Directus: {ours:.0f} rows/s in batches of {size}, a bare client {theirs:.0f}/s ({held} approvals withdrawn)")
    return {"directus_push_rate": Outcome(ours / theirs)}


def measure(options, say):
    """All that needs a Directus, the one that spoils the approvals last."""
    outcomes, wanted = {}, figures.chosen(options.only)
    with Demo(options) as demo:
        for name, step in (("rest_writes", at_rest), ("airtable_to_directus_p99", to_directus),
                           ("directus_push_rate", lambda demo, say: push_rate(demo, say, options.scale))):
            if name not in wanted:
                continue
            try:
                outcomes.update(step(demo, say))
            except Failed as error:
                outcomes[name] = Outcome(failed=str(error))
    return outcomes
