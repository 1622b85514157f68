"""The program under test, asked as a user would ask it. Nothing is predicted here."""

import json
import subprocess

from engine import MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, MODEL
from processes import Failed, free_port, get

POOL = NAMESPACE = "engine"
INTERVAL_SECONDS = 5
WINDOW_SECONDS = 40


class Poolwright:
    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.profile = directory / "profile.yaml"
        self.policy = directory / "policy.yaml"

    def ask(self, *arguments, accept=(0,)):
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode not in accept:
            raise Failed(f"poolwright {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def fit(self, files, kv_tokens):
        """What it prints; the profile is written beside."""
        limits = ["--max-num-seqs", MAX_NUM_SEQS, "--max-num-batched-tokens", MAX_NUM_BATCHED_TOKENS]
        picture = ["--plot", self.directory / "fit.svg"]
        found = json.loads(self.ask("fit", *files, *limits, "--kv-tokens", kv_tokens, *picture, "-o", "json"))
        self.ask("fit", *files, *limits, "--kv-tokens", kv_tokens, "-o", self.profile)
        return found

    def _capacity(self, traffic, *more):
        limits = ["--max-num-seqs", MAX_NUM_SEQS, "--max-num-batched-tokens", MAX_NUM_BATCHED_TOKENS]
        asked = ["--profile", self.profile, *limits, "--shape", f"{traffic['input']}/{traffic['output']}"]
        asked += ["--kv-tokens", traffic["kv_tokens"], "--burstiness", 1 / traffic["burstiness"]]
        asked += ["--input-cv", traffic["cv"], "--output-cv", traffic["cv"], *more, "-o", "json"]
        return json.loads(self.ask("capacity", *asked))[0]

    def capacity(self, traffic, ttft_seconds, itl_seconds):
        targets = ["--ttft", f"{round(ttft_seconds * 1e3)}ms", "--itl", f"{round(itl_seconds * 1e3)}ms"]
        row = self._capacity(traffic, *targets, "--percentile", 95)
        # What the model says itself, before a part is kept back for its error.
        row["largest"] = row["requestsPerSecond"] / (1 - row["error"])
        return row

    def latencies(self, traffic, rate):
        return self._capacity(traffic, "--rate", rate)

    def write_policy(self, startup_seconds, ttft_seconds, itl_seconds, shape):
        documents = [
            {"apiVersion": "poolwright.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "engine"}, "spec": {
                # A data sheet must be there; with a profile no figure of it counts.
                "accelerators": [{"name": "cpu", "pricePerHour": 0.1, "stock": 8, "memoryGB": 8, "bandwidthGBps": 20,
                                  "bf16TFLOPS": 1, "linkGBps": 1}],
                "classes": [{"name": "interactive", "priority": 10, "percentile": 95,
                             "ttft": f"{round(ttft_seconds * 1e3)}ms", "itl": f"{round(itl_seconds * 1e3)}ms"}],
                # As little patience as may be, so that a wrong smaller number would be seen.
                "planner": {"interval": f"{INTERVAL_SECONDS}s", "window": f"{WINDOW_SECONDS}s", "scaleDownDwell": "5s",
                            "staleAfter": "15s"}}},
            {"apiVersion": "poolwright.dev/v1alpha1", "kind": "ServedModel",
             "metadata": {"name": "engine", "namespace": NAMESPACE}, "spec": {
                 "model": MODEL, "classes": [{"name": "interactive"}],
                 "demand": {"shape": {"inputTokens": shape[0], "outputTokens": shape[1]}},
                 "pools": [{"name": POOL, "accelerator": "cpu", "startupTime": f"{round(startup_seconds)}s",
                            "series": {"equals": {"pool": POOL}}, "performance": {"profile": self.profile.name}}]}},
        ]
        self.policy.write_text("".join(f"---\n{json.dumps(d, indent=1)}\n" for d in documents))

    def plan(self, prometheus):
        """The dry run's decision; a held pool is an answer too."""
        text = self.ask("plan", "--policy", self.policy, "--prometheus", prometheus.url, "-o", "json", accept=(0, 3))
        return json.loads(text)

    def serve(self, programs, prometheus):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        process = programs.start("poolwright", [
            self.binary, "serve", "--policy", self.policy, "--prometheus", prometheus.url,
            "--listen", f"127.0.0.1:{port}", "--kubernetes", "off",
        ])
        programs.wait_for(process, f"{self.url}/v1/decision", 60)
        return process

    def decision(self):
        text = get(f"{self.url}/v1/decision")
        if text is None:
            raise Failed("the daemon does not answer")
        return json.loads(text)


def pool(decision):
    return decision["pools"][0]
