"""Throw-away Postgres clusters and processes for the figures that need no harness. Everything that is started
here is ended here, by its own process id."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BENCHES = os.path.join(ROOT, "benches")

SETTINGS = {
    "wal_level": "logical", "fsync": "off", "full_page_writes": "off", "shared_buffers": "1GB",
    "max_wal_size": "16GB", "checkpoint_timeout": "30min", "autovacuum": "off", "jit": "off",
    "timezone": "UTC", "listen_addresses": "127.0.0.1",
}


class Failed(Exception):
    """A measurement could not be made; the text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def postgres_bin():
    place = os.environ.get("PLAIT_PG_BIN") or os.environ.get("PG_BINDIR")
    if not place:
        place = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.exists(os.path.join(place, "initdb")):
        raise Failed(f"no Postgres server in {place}: run scripts/install demo, or set PLAIT_PG_BIN")
    return place


def filled(text, **values):
    """Names in braces that we know; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda m: str(values.get(m.group(1), m.group(0))), text)


def end(process, patience_s=30):
    """Ends a process that was started here: asked first, then made to."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


class Cluster:
    """A Postgres cluster in a temporary folder, with the databases `bench` (source) and `canonical`."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="plait-bench-pg-", dir="/tmp")
        self.process = None
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        place = postgres_bin()
        self.port = free_port()
        as_postgres = []
        if os.geteuid() == 0:  # which postgres refuses to run as
            shutil.chown(self.folder, "postgres", "postgres")
            as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        data = os.path.join(self.folder, "data")
        subprocess.run(
            as_postgres + [os.path.join(place, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd="/tmp", env=dict(os.environ, LC_ALL="C.UTF-8"))
        arguments = [os.path.join(place, "postgres"), "-D", data, "-p", str(self.port), "-k", self.folder]
        for name, value in SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        with open(os.path.join(tempfile.gettempdir(), "plait-bench-pg.log"), "w") as log:
            self.process = subprocess.Popen(as_postgres + arguments, stdout=log, stderr=log, cwd="/tmp")
        wait_for(lambda: self.sql("postgres", "select 1", check=False) == "1", "Postgres answers", 60, self.process)
        for database in ("bench", "canonical"):
            self.sql("postgres", f"create database {database}")

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def _psql(self, database, arguments, check):
        done = subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), *arguments],
            capture_output=True, text=True)
        if done.returncode and check:
            raise Failed(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def sql(self, database, text, check=True):
        return self._psql(database, ["-c", text], check)

    def file(self, database, path, **variables):
        return self._psql(database, [x for k, v in variables.items() for x in ("-v", f"{k}={v}")] + ["-f", path], True)


def wait_for(is_so, what, timeout_s, process=None, pause_s=0.2):
    """Waits until `is_so()`; gives up when `process` has ended."""
    limit = time.monotonic() + timeout_s
    while not is_so():
        if process is not None and process.poll() is not None:
            raise Failed(f"waited until {what}, but the program ended with {process.returncode}")
        if time.monotonic() > limit:
            raise Failed(f"waited {timeout_s} s until {what}, in vain")
        time.sleep(pause_s)


class Plait:
    """A running `plait` with a settings file."""

    def __init__(self, program, folder, settings, environment=None):
        self.config = os.path.join(folder, "plait.toml")
        with open(self.config, "w") as f:
            f.write(settings)
        self.program, self.folder = program, folder
        self.environment = dict(os.environ, **(environment or {}))
        self.log = os.path.join(folder, "plait.log")
        self.process = None

    def migrate(self):
        done = subprocess.run([self.program, "migrate", "--config", self.config], capture_output=True, text=True,
                              env=self.environment, cwd=self.folder)
        if done.returncode:
            raise Failed(f"plait migrate: {done.stderr.strip()[-500:]}")

    def __enter__(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.program, "run", "--config", self.config], stdout=log, stderr=log,
                                            env=self.environment, cwd=self.folder)
        return self

    def __exit__(self, kind, *_):
        end(self.process)
        if kind is not None:
            with open(self.log, errors="replace") as f:
                tail = f.read()[-2000:]
            print(f"last lines of plait's log:\n{tail}", file=sys.stderr, flush=True)

    def memory_mb(self, name):
        """`VmRSS` (now) or `VmHWM` (the most so far)."""
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) / 1024
        raise Failed(f"the kernel tells no {name}")

    def forget_peak(self):
        """From now on `VmHWM` counts anew."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")
