"""From what was measured and what the program predicts to tables and marks."""

import bisect
import json
import math

import numpy

#: Most that a figure may be off.
ITL_MEAN, TTFT_P95, CAPACITY, OFFERED, KV_USE = 0.12, 0.35, 0.15, 0.05, 0.05
#: Highest share of the capacity at which the tail of the TTFT is judged.
TTFT_UP_TO = 0.70


def relative(predicted, measured):
    return predicted / measured - 1


def percent(value):
    return "-" if value is None else f"{100 * value:+.0f} %"


def table(titles, rows):
    """Markdown whose columns line up for a terminal too."""
    lines = [titles, *rows]
    wide = [max(len(str(line[i])) for line in lines) for i in range(len(titles))]
    def shown(line):
        return [str(c).rjust(w) if i else str(c).ljust(w) for i, (c, w) in enumerate(zip(line, wide))]

    text = ["| " + " | ".join(shown(line)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 1) + ("-:"[i > 0]) for i, w in enumerate(wide)) + "|")
    return "\n".join(text)


class Seen:
    """One open loop: measured (milliseconds), predicted, and the load as Prometheus showed it."""

    def __init__(self, run, directory, product, window_seconds):
        self.run, self.name, self.share, self.rate = run, run["name"], run["share"], run["rate"]
        result = json.loads((directory / run["file"]).read_text())
        figures = {"mean": "mean_{}_ms", "p50": "p50_{}_ms", "p95": "p95_{}_ms"}
        self.measured = {
            latency: {k: result[name.format(key)] for k, name in figures.items()}
            for latency, key in (("ttft", "ttft"), ("itl", "tpot"))
        }
        row = product.latencies(run["traffic"], self.rate)
        keys = {"mean": "meanSeconds", "p50": "p50Seconds", "p95": "p95Seconds"}
        self.predicted = {
            latency: row[latency] and {k: 1e3 * row[latency][key] for k, key in keys.items()}
            for latency in ("ttft", "itl")
        }
        self.kv_predicted, self.kv_measured = row["kvUse"], run["kv_use"]
        self.offered(window_seconds)

    def offered(self, window):
        """Mean load that the product read, and that was sent within the same windows."""
        sent, pairs = self.run["sent"], []
        for plan in self.run["plans"]:
            if plan["at"] - window >= sent[0] and plan["at"] <= sent[-1] and plan["arrival_rate"] is not None:
                count = bisect.bisect(sent, plan["at"]) - bisect.bisect(sent, plan["at"] - window)
                pairs.append((plan["arrival_rate"], count / window))
        self.offered_seen, self.offered_sent = numpy.mean(pairs, axis=0) if pairs else (None, None)

    def error(self, latency, key):
        predicted = self.predicted[latency]
        return predicted and relative(predicted[key], self.measured[latency][key])

    def latency_row(self):
        cells = [self.name, f"{self.rate:.2f}"]
        for latency, digits in (("ttft", 0), ("itl", 1)):
            for key in ("mean", "p50", "p95"):
                predicted = self.predicted[latency]
                shown = f"{predicted[key]:.{digits}f}" if predicted else "-"
                cells.append(f"{shown} / {self.measured[latency][key]:.{digits}f}")
            cells.append(f"{percent(self.error(latency, 'mean'))}, {percent(self.error(latency, 'p95'))}")
        return cells

    def load_row(self):
        def number(value, digits):
            return "-" if value is None else f"{value:.{digits}f}"

        during = [plan for plan in self.run["plans"] if plan["at"] <= self.run["sent"][-1]]
        last = during[-1] if during else {"desired": "-", "reason": "-"}
        offered = "-" if self.offered_seen is None else f"{100 * relative(self.offered_seen, self.offered_sent):+.1f} %"
        return [self.name, number(self.offered_sent, 2), number(self.offered_seen, 2), offered,
                number(self.kv_predicted, 3), number(self.kv_measured, 3), last["desired"], last["reason"]]


def crossing(runs, latency, target_ms):
    """Highest rate whose p95 is within the target: between two rates its logarithm is taken to be a line. None where
    no rate, or every rate, is within it."""
    rates = [r.rate for r in runs]
    # More load makes nothing faster; what looks like it is chance.
    values = numpy.maximum.accumulate([r.measured[latency]["p95"] for r in runs])
    for i, value in enumerate(values):
        if value > target_ms:
            if i == 0:
                return None
            part = math.log(target_ms / values[i - 1]) / math.log(value / values[i - 1])
            return rates[i - 1] + part * (rates[i] - rates[i - 1])
    return None


class Verdict:
    def __init__(self, directory, product):
        self.record = json.loads((directory / "run.json").read_text())
        files = [directory / name for name in self.record["calibration"]]
        # The predictions are those of the program as it is now, also when the measurement is older.
        self.fit = product.fit(files, self.record["kv_tokens"])
        self.runs = [Seen(r, directory, product, self.record["window_seconds"]) for r in self.record["runs"]]
        goal = self.record["targets"]
        self.capacity = product.capacity(self.record["runs"][0]["traffic"], goal["ttft_seconds"], goal["itl_seconds"])
        self.marks = []

    def mark(self, text, off, most):
        reached = off is not None and off <= most
        self.marks.append([text, "not measured" if off is None else f"{100 * off:.1f} %", f"{100 * most:.0f} %",
                           "reached" if reached else "MISSED"])

    def measured_capacity(self):
        goal = self.record["targets"]
        poisson = sorted((r for r in self.runs if r.name.startswith("poisson")), key=lambda r: r.rate)
        found = {k: crossing(poisson, k, 1e3 * goal[f"{k}_seconds"]) for k in ("ttft", "itl")}
        binding = min((k for k in found if found[k] is not None), key=lambda k: found[k], default=None)
        return (found[binding], binding) if binding else (None, None)

    def judge(self):
        # Close to saturation a minute is too short for a steady state: the mark is about the loads up to the capacity,
        # and the figure over all of them stands beside it.
        carried = [(r.share, abs(r.error("itl", "mean"))) for r in self.runs if r.predicted["itl"]]
        errors = [error for share, error in carried if share <= 1]
        everywhere = f"{100 * numpy.mean([error for _, error in carried]):.1f} % over all {len(carried)}"
        self.mark(f"ITL mean, average over {len(errors)} loads up to the capacity ({everywhere})", numpy.mean(errors), ITL_MEAN)
        for run in self.runs:
            if run.share <= TTFT_UP_TO:
                error = run.error("ttft", "p95")
                self.mark(f"TTFT p95, {run.name}", None if error is None else abs(error), TTFT_P95)
        measured, binding = self.measured_capacity()
        largest, kept = self.capacity["largest"], self.capacity["requestsPerSecond"]
        self.mark("capacity", abs(relative(largest, measured)) if measured else None, CAPACITY)
        for run in self.runs:
            if run.offered_seen is not None:
                self.mark(f"offered load, {run.name}", abs(relative(run.offered_seen, run.offered_sent)), OFFERED)
        for run in self.runs:
            if run.kv_predicted is not None and run.kv_measured is not None:
                self.mark(f"KV use (difference), {run.name}", abs(run.kv_predicted - run.kv_measured), KV_USE)
        shown = f"{measured:.2f}" if measured else "not reached"
        self.capacity_text = (
            f"Capacity within {self.record['targets']['why']}: predicted {largest:.2f} requests/s (bound by "
            f"{self.capacity['limit']}), {kept:.2f} after the reserve that a plan keeps; measured {shown}"
        )
        if measured:
            off = [percent(relative(rate, measured)) for rate in (largest, kept)]
            self.capacity_text += f" (bound by {binding}); off by {off[0]}, with the reserve {off[1]}"
        self.capacity_text += "."
        self.judge_kill()

    def judge_kill(self):
        kill = self.record.get("kill")
        if not kill:
            return
        before, after = kill["before"]["desired"], kill["after"]
        held = bool(after) and all(a["desired"] is not None and a["desired"] >= before for a in after)
        last = after[-1] if after else {"missing": [], "reason": ""}
        self.marks.append(["killed server: the number does not shrink", f"{before} to {last.get('desired')}", "-",
                           "reached" if held and before > 1 else "MISSED"])
        told = bool(last["missing"]) and last.get("binding") == "hold"
        self.marks.append(["killed server: the reason is shown", "yes" if told else "no", "-",
                           "reached" if told else "MISSED"])

    def text(self):
        spec = self.fit["profile"]["spec"]["parameters"]
        parts = [
            f"Start-up {self.record['startup_seconds']:.1f} s. Fitted from {len(self.record['calibration'])} closed-loop "
            "points: " + ", ".join(f"{k} {v}" for k, v in spec.items()) + ".",
            self.capacity_text,
            "Latencies, milliseconds, predicted / measured; errors are those of mean and p95:",
            table(["load", "req/s", "TTFT mean", "p50", "p95", "error", "ITL mean", "p50", "p95", "error"],
                  [r.latency_row() for r in self.runs]),
            "Load sent and as read through Prometheus, KV use, and what a plan at the end of the run says:",
            table(["load", "sent", "read", "error", "KV predicted", "KV reported", "replicas", "why"],
                  [r.load_row() for r in self.runs]),
        ]
        kill = self.record.get("kill")
        if kill:
            parts += self.kill_text(kill)
        parts.append(table(["mark", "off by", "at most", ""], self.marks))
        return "\n\n".join(parts) + "\n"

    @staticmethod
    def kill_text(kill):
        before, dry = kill["before"], kill["dry_run"]
        yield f"SIGKILL of the server under load; before, the daemon wanted {before['desired']}: {before['reason']}"
        said = None
        for after in kill["after"]:
            if (after["desired"], after["reason"]) != said:
                said = after["desired"], after["reason"]
                yield f"after {after['seconds']:.0f} s: {after['desired']} ({after['binding']}): {after['reason']}"
        yield f"a dry run without memory: {dry['desired']} ({dry['binding']}): {dry['reason']}"

    def missed(self):
        return [m[0] for m in self.marks if m[3] == "MISSED"]
