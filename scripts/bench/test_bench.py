"""python3 -m unittest discover scripts/bench: the parts that need no server."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import figures
import harness
import listing
import push
from figures import Outcome
from lab import Failed


class Figures(unittest.TestCase):
    def test_table_says_met_missed_and_skipped(self):
        lines, is_well = figures.table({
            "latency_p50": Outcome(4.999), "latency_p99": Outcome(25.0), "first_copy": Outcome(skipped="no harness")})
        said = {line.split()[0]: line.split()[-1] for line in lines[-3:]}
        self.assertEqual(said, {"first_copy": "skipped", "latency_p50": "met", "latency_p99": "missed"})
        self.assertFalse(is_well)
        self.assertEqual(lines[0], "first_copy skipped: no harness")

    def test_failed_measurement_counts_as_missed(self):
        self.assertFalse(figures.table({"memory_idle": Outcome(failed="it ended")})[1])

    def test_skipped_alone_is_no_failure(self):
        self.assertTrue(figures.table({"memory_idle": Outcome(skipped="not here")})[1])

    def test_only_takes_names_and_beginnings_and_refuses_others(self):
        self.assertEqual(figures.chosen("backlog_tx10"), ["backlog_tx10"])
        self.assertEqual(figures.chosen("latency,first"), ["first_copy", "latency_p50", "latency_p99"])
        with self.assertRaises(ValueError):
            figures.chosen("frist")


class Listing(unittest.TestCase):
    def samples(self, moments, count):
        """What a watcher sees, every 5 ms, of requests at these moments (s) with 100 records each."""
        ticks = [i * 0.005 for i in range(int(moments[-1] / 0.005) + 3)]
        seen = [sum(m <= tick for m in moments) for tick in ticks]
        return [(tick, n, min(count, n * 100)) for tick, n in zip(ticks, seen)]

    def test_even_spacing_and_bursts_both_use_it_all(self):
        even = [0.1 + i * 0.2 for i in range(200)]
        bursts = [0.1 + i // 5 + i % 5 * 0.002 for i in range(200)]
        for moments in (even, bursts):
            self.assertLess(abs(listing.unused_percent(self.samples(moments, 20_000), 20_000)), 0.7)

    def test_a_pause_shows(self):
        paused = [0.1 + i * 0.2 + (2 if i > 100 else 0) for i in range(200)]
        self.assertGreater(listing.unused_percent(self.samples(paused, 20_000), 20_000), 4)

    def test_an_unfinished_listing_is_a_failure(self):
        with self.assertRaises(Failed):
            listing.unused_percent([(0, 1, 100), (5, 20, 2000)], 20_000)


class Push(unittest.TestCase):
    def samples(self, moments):
        """What a watcher sees, every 5 ms, of requests at these moments (s) with 10 records each."""
        ticks = [i * 0.005 for i in range(int(moments[-1] / 0.005) + 3)]
        return [(tick, 10 * sum(m <= tick for m in moments)) for tick in ticks]

    def test_the_whole_allowance_is_a_hundred_percent_and_a_pause_shows(self):
        even = [0.1 + i * 0.2 for i in range(200)]
        self.assertAlmostEqual(push.used_percent(self.samples(even), 2000), 100, delta=0.7)
        paused = [0.1 + i * 0.2 + (2 if i > 100 else 0) for i in range(200)]
        self.assertLess(push.used_percent(self.samples(paused), 2000), 96)

    def test_unfinished_pushes_are_a_failure(self):
        with self.assertRaises(Failed):
            push.used_percent([(0, 10), (5, 100)], 2000)

    def test_percentile_is_a_value_that_was_measured(self):
        values = list(range(1, 101))
        self.assertEqual([push.percentile(values, share) for share in (0.5, 0.99, 1)], [50, 99, 100])
        self.assertEqual(push.percentile([7], 0.99), 7)

    def test_arrival_is_the_first_entry_that_holds_the_value(self):
        log = [{"timestamp": "2026-01-01T00:00:00.250Z", "changed": {"x": "Latency 1"}},
               {"timestamp": "2026-01-01T00:00:01.000Z", "changed": {"x": "Latency 1", "y": "Latency 12"}}]
        seen = push.arrivals(log, ["Latency 1", "Latency 12", "Latency 3"])
        self.assertEqual({token: at % 1000 for token, at in seen.items()}, {"Latency 1": 250, "Latency 12": 0})


def result(peer, rep, rate, **more):
    return dict({"workload": "W1", "peer": peer, "rep": rep, "ok": True, "rate": rate, "noise": {"other_cpu_pct": 1}}, **more)


class Ratios(unittest.TestCase):
    def test_ratio_is_the_median_of_the_repetitions(self):
        results = [result("subject", rep, rate) for rep, rate in enumerate((50, 90, 80))]
        results += [result("native", rep, 100) for rep in range(3)]
        self.assertAlmostEqual(harness.ratio(results, "W1", "native", lambda _: None), 0.8)

    def test_debezium_counts_without_the_start_of_its_jvm(self):
        results = [result("subject", 0, 100), result("dbz-jdbc", 0, 20, steady_rate=50)]
        self.assertAlmostEqual(harness.ratio(results, "W1", "dbz-jdbc", lambda _: None), 2)

    def test_a_wrong_copy_is_a_failure(self):
        results = [result("subject", 0, 100, verified=False), result("native", 0, 100)]
        with self.assertRaises(Failed):
            harness.ratio(results, "W1", "native", lambda _: None)


if __name__ == "__main__":
    unittest.main()
