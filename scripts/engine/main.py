"""The engine test: a real vLLM, what the program predicts for it, and how far that is off.

usage: main.py HOME BINARY [--seed N] [--quick] [--again DIR]
  HOME is where the engine is installed; --quick sends fewer loads: a quarter of an hour;
  --again judges an earlier run's measurements anew with the program as it is now.
exit codes: 0 every mark reached; 1 something failed; 3 a mark was missed.
"""

import argparse
import sys
import time
from pathlib import Path

from judge import Verdict
from processes import Failed, Programs
from product import Poolwright


def measure(options):
    import tiny_model
    from measure import Measurement, say

    directory = options.home / "runs" / time.strftime("%Y%m%d-%H%M%S")
    directory.mkdir(parents=True)
    say(f"results go to {directory}")
    tiny_model.write(options.home / "tiny")
    product = Poolwright(options.binary, directory)
    start = time.monotonic()
    with Programs(directory) as programs:
        Measurement(programs, options.home, product, directory, options.seed, options.quick).all()
    say(f"measured in {(time.monotonic() - start) / 60:.0f} minutes")
    return directory


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", type=Path)
    options = parser.parse_args()
    try:
        directory = options.again or measure(options)
        verdict = Verdict(directory, Poolwright(options.binary, directory))
        verdict.judge()
    except Failed as failed:
        print(f"engine-test: {failed}", file=sys.stderr)
        return 1
    (directory / "report.md").write_text(verdict.text())
    print(f"\n{verdict.text()}")
    missed = verdict.missed()
    reached = len(verdict.marks) - len(missed)
    print(f"{reached} of {len(verdict.marks)} marks reached" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
