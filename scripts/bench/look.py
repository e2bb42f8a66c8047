"""Where the time goes: one workload through the harness, plait alone, with the destination's statements counted
(pg_stat_statements), slow ones explained (auto_explain) and, where `perf` works, the whole machine sampled."""
import os
import shutil
import subprocess
import sys

import harness

# Statements slower than this are explained in the destination's log, ms.
EXPLAIN_MS = 50
STATEMENTS = """
select calls, round(total_exec_time::numeric) as total_ms, round(mean_exec_time::numeric, 3) as mean_ms,
       rows, round(wal_bytes / 1024) as wal_kb, left(regexp_replace(query, '\\s+', ' ', 'g'), 160) as statement
from pg_stat_statements order by total_exec_time desc limit 25
"""


def run(options, say):
    place = harness.folder()
    if place is None:
        say("the peers' harness is not here; PLAIT_BENCH_PEERS names its folder")
        return 1
    out = os.path.join(options.out, "look")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    os.environ.update(harness.environment(), RUST_LOG="info,plait::apply=debug")
    sys.dont_write_bytecode = True
    sys.path.insert(0, place)
    sys.argv = ["peers.py", *harness.arguments(options, [options.look], [], 1, out)]
    import peers
    from benchkit import consumers, pg

    pg.COMMON.update({
        "shared_preload_libraries": "pg_stat_statements,auto_explain", "pg_stat_statements.track": "all",
        "track_io_timing": "on", "auto_explain.log_min_duration": f"{EXPLAIN_MS}ms", "auto_explain.log_analyze": "on",
        "auto_explain.log_timing": "off", "auto_explain.log_buffers": "on", "auto_explain.log_nested_statements": "on",
    })
    start, stop, state = consumers.Subject._start, consumers.Subject._stop, {"no": 0, "perf": None}

    def start_and_look(subject):
        state["no"] += 1
        with subject.dst.conn("postgres") as c:
            c.q("create extension if not exists pg_stat_statements")
            c.q("select pg_stat_statements_reset()")
        process = start(subject)
        if shutil.which("perf"):
            who = ["-a"] if os.geteuid() == 0 else ["-p", str(process.pid)]
            state["perf"] = subprocess.Popen(
                ["perf", "record", "-q", "-F", "499", "-g", *who, "-o", os.path.join(out, f"{state['no']}.perf")],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process

    def stop_and_tell(subject):
        if subject.proc is None:
            return
        if state["perf"]:
            consumers.kill(state["perf"], 2)
            state["perf"] = None
        stop(subject)
        shutil.copyfile(os.path.join(subject.workdir, "subject.log"), os.path.join(out, f"{state['no']}.log"))
        done = subprocess.run(["psql", "-X", "-P", "pager=off", "-d", subject.dst.dsn("postgres"), "-c", STATEMENTS],
                              capture_output=True, text=True)
        with open(os.path.join(out, f"{state['no']}.statements"), "w") as f:
            f.write(done.stdout + done.stderr)

    consumers.Subject._start, consumers.Subject._stop = start_and_look, stop_and_tell
    peers.main()
    print(f"\n{out} has, for each start of plait (1 is the first copy, then the workload):")
    print("  N.statements  what the canonical database executed, the dearest first")
    print("  N.log         what plait said of each batch, with those of the starts before")
    print("  N.perf        perf report --no-children -s comm,symbol -i N.perf")
    log = os.path.join("/tmp" if not os.environ.get("TMPDIR") else os.environ["TMPDIR"], "cdcbench-dst.log")
    print(f"  {log}: plans of statements over {EXPLAIN_MS} ms")
    return 0
