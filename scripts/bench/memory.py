"""Memory: while one transaction of a million updates goes through, and at rest after it."""
import os
import tempfile
import time

from figures import Outcome
from lab import BENCHES, Cluster, Plait, filled, wait_for

REST_S = 30
FINGERPRINT = "select count(*) || ':' || sum(hashtextextended(t::text, 0)) from investments t"


def measure(options, say):
    count = max(2000, int(1_000_000 * options.scale))
    with Cluster() as cluster, tempfile.TemporaryDirectory(prefix="plait-bench-") as folder:
        cluster.file("bench", os.path.join(BENCHES, "source.sql"), n=count)
        with open(os.path.join(BENCHES, "plait.toml.in")) as f:
            settings = filled(
                f.read(), mapping=os.path.join(BENCHES, "mapping.toml"), dest_url=cluster.url("canonical"),
                source_url=cluster.url("bench"), slot="bench_memory", publication="bench_pub")
        plait = Plait(options.program, folder, settings)
        plait.migrate()
        cluster.file("canonical", os.path.join(BENCHES, "canon.sql"))

        def has(token):
            return cluster.sql("canonical", f"select 1 from bench_marker where token = '{token}'") == "1"

        def catch_up(token, timeout_s):
            cluster.sql("bench", f"update bench_marker set token = '{token}', at = now()")
            wait_for(lambda: has(token), f"the token `{token}` is in the canonical database", timeout_s, plait.process)

        with plait:
            began = time.monotonic()
            catch_up("copied", 900)
            say(f"memory: first copy of {count} investments in {time.monotonic() - began:.1f} s, "
                f"peak {plait.memory_mb('VmHWM'):.1f} MB")
            plait.forget_peak()
            began = time.monotonic()
            cluster.sql("bench", "update investments set amount = amount + 1, updated_at = clock_timestamp()")
            catch_up("updated", 900)
            peak = plait.memory_mb("VmHWM")
            say(f"memory: one transaction of {count} updates in {time.monotonic() - began:.1f} s, peak {peak:.1f} MB")
            sides = [cluster.sql(database, FINGERPRINT) for database in ("bench", "canonical")]
            if sides[0] != sides[1]:
                wrong = Outcome(failed="the copy is wrong: the rows of `investments` differ")
                return {"memory_large_transaction": wrong, "memory_idle": wrong}
            time.sleep(REST_S)
            idle = plait.memory_mb("VmRSS")
            say(f"memory: {idle:.1f} MB after {REST_S} s of rest")
    return {"memory_large_transaction": Outcome(peak), "memory_idle": Outcome(idle)}
