"""Plait's speed and memory against their bars: python3 scripts/bench [--only NAME,…] [--scale S] [--reps N].

Ends with a table, one line a figure: name, value, unit, bar, and met, missed or skipped. docs/performance.md."""
import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # before our own modules: nothing is left in the source tree

import export
import figures
import harness
import lab
import listing
import memory
import push
import reports
import whole
from figures import Outcome

GROUPS = [
    (("first_copy", "backlog_tx10", "backlog_tx10_debezium", "latency_p50", "latency_p99"), None),
    (("memory_large_transaction", "memory_idle"), memory.measure),
    (("listing_allowance", "listing_429"), listing.measure),
    (("airtable_push_rate", "airtable_push_429", "burst_requests", "directus_to_airtable_p99"), push.measure),
    (("rest_writes", "airtable_to_directus_p99", "directus_push_rate"), whole.measure),
    (("report_at_size", "report_common", "report_heavy"), reports.measure),
    (("export_csv", "export_memory"), export.measure),
]


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def options():
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(lab.ROOT, "target")
    p = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", metavar="NAME,…", help="of: " + ", ".join(figures.NAMES) + "; or how some begin")
    p.add_argument("--scale", type=float, default=1.0, help="1 is the size that the bars are meant for; 0.02 is a smoke test")
    p.add_argument("--reps", type=int, default=3, help="repetitions of what is compared with other programs")
    p.add_argument("--profile", choices=["fast", "durable"], default="fast", help="durable: fsync on, on both clusters")
    p.add_argument("--quiet-wait", type=float, default=15, help="wait at most so many seconds for the machine to be idle")
    p.add_argument("--program", default=os.path.join(target, "release", "plait"), help="the release build")
    p.add_argument("--out", default=os.path.join(target, "bench"), help="folder for raw results")
    p.add_argument("--look", metavar="WORKLOAD", help="no figures: run W1, W2:10, W3 or W4 and show where the time goes")
    return p.parse_args()


def main():
    chosen = options()
    chosen.program, chosen.out = os.path.abspath(chosen.program), os.path.abspath(chosen.out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that clusters are taken away
    if not os.access(chosen.program, os.X_OK):
        sys.exit(f"scripts/bench: there is no program {chosen.program}; cargo build --release makes it")
    os.makedirs(chosen.out, exist_ok=True)
    if chosen.look:
        import look
        sys.exit(look.run(chosen, say))
    try:
        wanted = figures.chosen(chosen.only)
    except ValueError as error:
        sys.exit(f"scripts/bench: {error}")
    outcomes = {}
    for names, measure in GROUPS:
        here = [name for name in names if name in wanted]
        if not here:
            continue
        if measure is None and harness.folder() is None:
            reason = "the peers' harness is not here; PLAIT_BENCH_PEERS names its folder"
            outcomes.update((name, Outcome(skipped=reason)) for name in here)
            continue
        try:
            found = harness.measure(here, chosen, say) if measure is None else measure(chosen, say)
        except (lab.Failed, OSError, subprocess.CalledProcessError) as error:
            found = {name: Outcome(failed=str(error)) for name in here}
        outcomes.update((name, outcome) for name, outcome in found.items() if name in here)
    if chosen.scale != 1:
        print(f"scale {chosen.scale}: a smoke test; the bars are meant for scale 1")
    lines, is_well = figures.table(outcomes)
    print("\n".join(lines))
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
