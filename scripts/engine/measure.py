"""What is done to the server, step by step. Writes everything that was measured to `run.json`."""

import json
import threading
import time

from engine import Bench, Load, Prometheus, Server
from processes import Failed
from product import INTERVAL_SECONDS, NAMESPACE, POOL, WINDOW_SECONDS, pool

#: Shapes of the calibration, each alone and with sixteen at a time: (prompt, answer) tokens.
CALIBRATION = [(64, 64), (256, 64), (256, 256), (1024, 32)]
CALIBRATED_AT = {1: 12, 16: 64}
#: The requests that are predicted.
SHAPE = (256, 64)
#: Shares of the predicted capacity that are sent: Poisson arrivals, and gaps of this shape (1 is Poisson).
POISSON = [0.30, 0.50, 0.70, 0.85, 1.00, 1.15, 1.30]
QUICK = [0.50, 1.00, 1.30]
BURSTY, BURSTINESS = [0.30, 0.50], 0.25
#: Lengths that differ by up to this share either way.
MIXED, RANGE_RATIO = 0.50, 0.8
#: The small memory: its use at this share of the capacity.
KV_LOAD, KV_USE = 0.70, 0.60
LEAST_SECONDS, LEAST_REQUESTS, BURST_SECONDS, KV_SECONDS = 64, 150, 100, 130
#: Targets, milliseconds, where they are neither hopeless nor without meaning on this machine.
TTFT_MS, ITL_MS = 500, 40
#: How long the daemon is watched after the server was killed.
WATCHED_SECONDS = 120


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def targets(alone):
    """(TTFT, ITL) in seconds and how they were chosen, from the figures of the unloaded server."""
    ttft, itl = alone["p95_ttft_ms"], alone["p95_tpot_ms"]
    if 2 * ttft <= TTFT_MS <= 25 * ttft and 2 * itl <= ITL_MS <= 25 * itl:
        return TTFT_MS / 1e3, ITL_MS / 1e3, f"TTFT p95 {TTFT_MS} ms, ITL p95 {ITL_MS} ms"
    found = round(6 * ttft), round(6 * itl)
    why = f"TTFT p95 {found[0]} ms, ITL p95 {found[1]} ms: six times the unloaded values"
    return found[0] / 1e3, found[1] / 1e3, why


class Measurement:
    def __init__(self, programs, home, product, results, seed, quick):
        self.programs, self.home, self.product, self.results, self.seed = programs, home, product, results, seed
        self.quick = quick
        self.record = {"seed": seed, "runs": [], "window_seconds": WINDOW_SECONDS}

    def save(self):
        (self.results / "run.json").write_text(json.dumps(self.record, indent=1))

    def serve(self, blocks=None):
        self.server = Server(self.programs, self.home, blocks)
        self.bench = Bench(self.server, self.results, self.seed)
        self.prometheus.watch(self.server, {"namespace": NAMESPACE, "pool": POOL})
        say(f"vLLM answers after {self.server.startup_seconds:.1f} s; KV memory {self.server.blocks} blocks of {self.server.block_size} tokens")

    def all(self):
        self.prometheus = Prometheus(self.programs, self.results)
        self.serve()
        self.record |= {"startup_seconds": self.server.startup_seconds, "kv_tokens": self.server.kv_tokens}
        self.calibrate()
        self.aim()
        largest = self.record["capacity"]["largest"]
        shares = QUICK if self.quick else POISSON
        for share in shares:
            self.run(f"poisson-{round(100 * share)}", share, largest, LEAST_SECONDS)
        for share in [] if self.quick else BURSTY:
            self.run(f"bursty-{round(100 * share)}", share, largest, BURST_SECONDS, burstiness=BURSTINESS)
        if not self.quick:
            self.run(f"mixed-{round(100 * MIXED)}", MIXED, largest, LEAST_SECONDS, range_ratio=RANGE_RATIO)
        self.small_memory(largest)
        self.kill(1.3 * largest)
        self.save()

    def calibrate(self):
        files = []
        for given, answer in CALIBRATION:
            for concurrency, prompts in CALIBRATED_AT.items():
                load = Load(f"closed-i{given}-o{answer}-c{concurrency}", given, answer, prompts, concurrency)
                self.bench.result(self.bench.start(self.programs, load), load)
                files.append(f"{load.name}.json")
        self.record["calibration"] = files
        say(f"measured {len(files)} closed-loop points")

    def aim(self):
        """Fit, choose targets, ask for the capacity, write the policy."""
        files = [self.results / name for name in self.record["calibration"]]
        self.product.fit(files, self.server.kv_tokens)
        alone = json.loads((self.results / f"closed-i{SHAPE[0]}-o{SHAPE[1]}-c1.json").read_text())
        ttft, itl, why = targets(alone)
        length = alone["total_input_tokens"] / alone["completed"]
        self.record["targets"] = {"ttft_seconds": ttft, "itl_seconds": itl, "why": why}
        found = self.product.capacity(self.traffic(length), ttft, itl)
        if found["largest"] <= 0:
            raise Failed(f"the targets ({why}) are out of reach: {found}")
        self.record["capacity"] = found
        self.product.write_policy(self.server.startup_seconds, ttft, itl, SHAPE)
        say(f"targets: {why}; predicted capacity {found['largest']:.2f} requests/s, bound by {found['limit']}")
        self.save()

    def traffic(self, length, burstiness=1.0, range_ratio=0.0):
        return {"input": length, "output": SHAPE[1], "burstiness": burstiness, "cv": range_ratio / 3**0.5,
                "kv_tokens": self.server.kv_tokens}

    def run(self, name, share, largest, seconds, burstiness=1.0, range_ratio=0.0):
        """One open loop, the product's own reading of the load beside it."""
        rate = round(share * largest, 3)
        seconds = max(seconds, LEAST_REQUESTS / rate)
        load = Load(name, *SHAPE, round(rate * seconds), rate=rate, burstiness=burstiness, range_ratio=range_ratio)
        process = self.bench.start(self.programs, load)
        plans = self.plans_until(process)
        result = self.bench.result(process, load)
        # Both programs read the clock that counts from the start of the machine.
        sent = sorted(t + time.time() - time.perf_counter() for t in result["start_times"])
        length = result["total_input_tokens"] / result["completed"]
        query = f'avg_over_time(vllm:kv_cache_usage_perc{{pool="{POOL}"}}[{round(sent[-1] - sent[0])}s])'
        self.record["runs"].append({
            "name": name, "share": share, "rate": rate, "file": f"{name}.json", "completed": result["completed"],
            "traffic": self.traffic(length, burstiness, range_ratio), "sent": [round(t, 4) for t in sent],
            "kv_use": self.prometheus.value(query, sent[-1]), "plans": plans,
        })
        self.save()
        say(f"{name}: {rate:.2f} requests/s, TTFT p95 {result['p95_ttft_ms']:.0f} ms, ITL p95 {result['p95_tpot_ms']:.1f} ms")

    def plans_until(self, process):
        """What the dry run says while the load runs."""
        plans, stop = [], threading.Event()

        def look():
            while not stop.wait(INTERVAL_SECONDS):
                decision = self.product.plan(self.prometheus)
                found = pool(decision)
                keys = ["desired", "planned", "binding", "reason", "missing", "arrival_rate", "ready", "kv_usage"]
                plans.append({"at": decision["at_seconds"]} | {key: found[key] for key in keys})

        thread = threading.Thread(target=look)
        thread.start()
        process.wait()
        stop.set()
        thread.join()
        return plans

    def kill(self, rate):
        """SIGKILL in the middle of more load than one replica carries, with the daemon watching."""
        daemon = self.product.serve(self.programs, self.prometheus)
        load = Load("kill", *SHAPE, round(rate * 600), rate=round(rate, 3))
        bench = self.bench.start(self.programs, load)
        before = None
        for _ in range(40):
            time.sleep(INTERVAL_SECONDS)
            before = pool(self.product.decision())
            seen = before["arrival_rate"] or 0
            if seen > 0.9 * rate and before["desired"]:
                break
        killed = time.time()
        self.programs.kill(self.server.process)
        say(f"killed the server under {rate:.2f} requests/s; the daemon wanted {before['desired']}: {before['reason']}")
        after = []
        while time.time() < killed + WATCHED_SECONDS:
            time.sleep(INTERVAL_SECONDS)
            decision = self.product.decision()
            found = pool(decision)
            after.append({"seconds": decision["at_seconds"] - killed} | {
                key: found[key] for key in ["desired", "binding", "reason", "missing", "quality"]})
        forgetful = pool(self.product.plan(self.prometheus))
        self.record["kill"] = {"before": before, "after": after, "dry_run": forgetful}
        for process in (bench, daemon):
            self.programs.end(process)
        self.save()

    def small_memory(self, largest):
        """Memory of which requests are predicted to use a given share, on average."""
        length = self.record["runs"][0]["traffic"]["input"]
        rate = KV_LOAD * largest
        traffic = self.traffic(length)

        def use(blocks):
            traffic["kv_tokens"] = blocks * self.server.block_size
            return self.product.latencies(traffic, rate)["kvUse"] or 1.0

        low, high = 1, self.server.blocks
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if use(middle) > KV_USE else (low, middle)
        self.programs.end(self.server.process)
        self.serve(blocks=high)
        self.record["small_kv_tokens"] = self.server.kv_tokens
        self.run("small-memory", KV_LOAD, largest, KV_SECONDS)
