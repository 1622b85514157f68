"""The real server, the Prometheus that scrapes it, and the load generator that vLLM brings along."""

import json
import re
import shutil
import time
import urllib.parse
from dataclasses import dataclass

from processes import Failed, free_port, get

MODEL = "tiny"
#: Longest prompt and answer together. The KV memory has to hold one such request.
MAX_MODEL_LEN = 1280
MAX_NUM_SEQS = 32
MAX_NUM_BATCHED_TOKENS = 2048
SCRAPE_SECONDS = 1
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


@dataclass
class Load:
    """What is sent: lengths, and either so many at a time or so many a second."""

    name: str
    input: int
    output: int
    prompts: int
    concurrency: int | None = None
    rate: float | None = None
    burstiness: float = 1.0
    #: Lengths vary evenly by this share either way.
    range_ratio: float = 0.0


class Server:
    """One vLLM on loopback."""

    def __init__(self, programs, home, blocks=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.vllm = home / "venv/bin/vllm"
        self.tokenizer = home / "tiny"
        # Processors without instructions for 16-bit numbers compute them many times slower than 32-bit ones.
        arguments = [
            self.vllm, "serve", self.tokenizer, "--load-format", "dummy", "--dtype", "float32",
            "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", self.port,
            "--enforce-eager", "--no-enable-prefix-caching",
            "--max-model-len", MAX_MODEL_LEN, "--max-num-seqs", MAX_NUM_SEQS,
            "--max-num-batched-tokens", MAX_NUM_BATCHED_TOKENS, "--block-size", 32,
        ]
        if blocks:
            arguments += ["--num-gpu-blocks-override", blocks]
        name = f"vllm-{self.port}"
        self.process = programs.start(name, arguments, OFFLINE)
        self.startup_seconds = programs.wait_for(self.process, f"{self.url}/health", 300)
        info = re.search(r"^vllm:cache_config_info\{(.*)\}", get(f"{self.url}/metrics") or "", re.MULTILINE)
        if not info:
            raise Failed("the server prints no vllm:cache_config_info")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', info[1]))
        self.block_size = int(labels["block_size"])
        self.blocks = int(labels["num_gpu_blocks"])
        self.kv_tokens = self.blocks * self.block_size


class Bench:
    """`vllm bench serve` against one server; results go to `results`."""

    def __init__(self, server, results, seed):
        self.server, self.results, self.seed = server, results, seed

    def arguments(self, load):
        arguments = [
            self.server.vllm, "bench", "serve", "--backend", "openai", "--base-url", self.server.url,
            "--model", MODEL, "--tokenizer", self.server.tokenizer, "--dataset-name", "random", "--seed", self.seed,
            "--random-input-len", load.input, "--random-output-len", load.output, "--ignore-eos",
            "--num-prompts", load.prompts, "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "50,90,95,99", "--disable-tqdm",
            "--save-result", "--save-detailed", "--result-dir", self.results, "--result-filename", f"{load.name}.json",
        ]
        if load.range_ratio:
            arguments += ["--random-range-ratio", load.range_ratio]
        if load.concurrency:
            return arguments + ["--max-concurrency", load.concurrency]
        return arguments + ["--request-rate", load.rate, "--burstiness", load.burstiness]

    def start(self, programs, load):
        return programs.start(f"bench-{load.name}", self.arguments(load), OFFLINE)

    def result(self, process, load):
        """Waits for the end; the measured figures, seconds."""
        code = process.wait()
        path = self.results / f"{load.name}.json"
        if code != 0 or not path.exists():
            raise Failed(f"vllm bench serve {load.name} failed ({code}): see {process.name}.log")
        return json.loads(path.read_text())


class Prometheus:
    """Debian's Prometheus with one target, which may change."""

    def __init__(self, programs, directory):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.targets = directory / "targets.json"
        self.targets.write_text("[]")
        # Prometheus reads JSON: it is YAML.
        configuration = directory / "prometheus.json"
        configuration.write_text(json.dumps({
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [{"job_name": "model-servers", "file_sd_configs": [
                {"files": [str(self.targets)], "refresh_interval": "1s"}]}],
        }))
        program = shutil.which("prometheus")
        process = programs.start("prometheus", [
            program, f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ])
        programs.wait_for(process, f"{self.url}/-/ready", 60)

    def watch(self, server, labels):
        # Replaced at once: Prometheus may be reading.
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": [f"127.0.0.1:{server.port}"], "labels": labels}]))
        new.replace(self.targets)
        instance = f'instance="127.0.0.1:{server.port}"'
        for _ in range(60):
            if self.value(f"up{{{instance}}}") == 1:
                return
            time.sleep(1)
        raise Failed("Prometheus does not see the server")

    def value(self, query, at=None):
        """Value of the only series of an answer, or None."""
        asked = {"query": query} | ({"time": at} if at else {})
        text = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode(asked)}")
        result = json.loads(text)["data"]["result"] if text else []
        return float(result[0]["value"][1]) if result else None
