"""A Dask farm on this machine, for tests and measurements: a scheduler and workers, each a process to end at will.

In: a folder for logs. Out: a `Farm`, and what a batch has written so far.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil

from grader.results.files import read_result
from lab3.common.paths import ROOT

PATIENCE = 900  # seconds for a start or a batch; machines can be slow


def wait_for(reached, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class Farm:
    """A scheduler and its workers, processes of this machine with a mark in their environment."""

    def __init__(self, folder, *options, **environment):
        self.folder, self.options, self.started, self.mark = folder, options, [], str(folder)
        self.environment = os.environ | {"LAB3_MARK": self.mark, "PYTHONPATH": os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])} | environment
        self.file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file,
                    "--dashboard-address", ":0")
        wait_for(self.file.exists, "the scheduler")
        self.address = json.loads(self.file.read_text())["address"]

    def _start(self, kind, *arguments):
        log = (self.folder / f"{kind}-{len(self.started)}.log").open("w")
        self.started.append(subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, [*arguments, *self.options])],
            env=self.environment, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT))
        return self.started[-1]

    def worker(self, *options, preload="grader.run.dask_worker"):
        """Start a worker of one thread; gives its process."""
        return self._start("worker", "--scheduler-file", self.file, "--nthreads", "1", "--no-dashboard",
                           *(["--preload", preload] if preload else []), *options)

    def logs(self):
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def family(self):
        """What runs of it and below it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("LAB3_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                pass
        return found

    def close(self):
        for process in reversed(self.started):
            process.kill()
            process.wait()
        wait_for(lambda: not self.family(), "the end of all that the farm started", seconds=120)


def results(out):
    """The results by name, without what differs between two runs: times."""
    found = {path.parent.name: read_result(path.parent) for path in out.glob("*/results.json")}
    return {name: replace(result, seconds=0, exercises=tuple(replace(one, seconds=0, probes=tuple(
        replace(probe, seconds=0) for probe in one.probes)) for one in result.exercises))
        for name, result in found.items()}


def written(out):
    """When each result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/results.json")}
