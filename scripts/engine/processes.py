"""Programs that run beside the test: started in sessions of their own, each ended by its id."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


class Failed(Exception):
    """Something the test needs did not work; the text is for people."""


#: Ways in which a test is asked to stop.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind(*_):
    raise KeyboardInterrupt


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, timeout=5):
    """Body of an address, or None when it does not answer with 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


class Programs:
    """Everything that was started; `with` ends it whatever happens."""

    def __init__(self, logs):
        self.logs = logs
        self.running = []

    def __enter__(self):
        # An interrupted or terminated test unwinds like a failed one.
        for number in SIGNALS:
            signal.signal(number, unwind)
        return self

    def __exit__(self, *_):
        # Whoever asks twice does not want anything left behind either.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        while self.running:
            self.end(self.running[-1])

    def start(self, name, arguments, environment=None):
        log = open(self.logs / f"{name}.log", "ab")
        process = subprocess.Popen(
            [str(a) for a in arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
        log.close()
        process.name = name
        self.running.append(process)
        return process

    def wait_for(self, process, url, seconds):
        """Until `url` answers; the time that took, seconds."""
        start = time.monotonic()
        while get(url) is None:
            if process.poll() is not None:
                raise Failed(f"{process.name} ended by itself ({process.returncode}): see {process.name}.log")
            if time.monotonic() - start > seconds:
                raise Failed(f"{process.name} did not answer within {seconds} s: see {process.name}.log")
            time.sleep(0.2)
        return time.monotonic() - start

    def kill(self, process):
        """As a crash would: SIGKILL for the program and what it started."""
        self._signal(process, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def end(self, process, seconds=20):
        self._signal(process, signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        # What it started and left behind is of the same session.
        self._signal(process, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    @staticmethod
    def _signal(process, number):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
