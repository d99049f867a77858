"""How long grading takes: one solved submission, each further one, a batch with two jobs, and the start of a kernel.

    python -m benchmarks.grading [--model FILE] [--batch 50] [--repeats 3] [--json FILE]

The solved lab is copied as often as the batch needs it; a trained model goes into each copy where one is named. Times
are of whole commands, Python's start and the reference answers' run included; a further submission is half of what
three take more than one.
"""

import argparse
import csv
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from nbval.kernel import RunningKernel

from benchmarks.commands import timed
from grader.kernels.kernel import BoxedKernel, Forkserver
from grader.kernels.sandbox import Limits, best_level, box
from lab3.common.files import write_json
from lab3.common.paths import ROOT
from lab3.exercises.table import EXERCISES


def hand_in(folder, model, notebooks=ROOT / "solutions"):
    """A copy of the solved lab, or of other notebooks."""
    folder.mkdir(parents=True)
    for notebook in notebooks.glob("*.ipynb"):
        shutil.copy(notebook, folder)
    if model is not None:
        (folder / "work").mkdir()
        shutil.copy(model, folder / "work" / "maskgit.safetensors")


def graded(submissions, jobs, *, only=(), cores=None):
    """Grade with the command; (seconds, processor seconds, submission -> its points and the most that it can have)."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "grader", "grade", str(submissions), "--out", out, "--seed", "1", "--jobs",
                   str(jobs), *(["--only", *only] if only else [])]
        seconds, used, _ = timed([command], cores=cores, cwd=ROOT)
        rows = csv.DictReader((Path(out) / "grades.csv").read_text(encoding="utf-8").splitlines())
        return seconds, used, {row["submission"]: (float(row["score"]), float(row["max_score"])) for row in rows}


def kernel_starts(repeats):
    """(seconds of a kernel in a box, of one started alone): until PyTorch and lab3 are imported and a cell has run."""
    boxed, fresh, limits = [], [], Limits()
    forkserver = Forkserver()

    def first_cell(kernel):
        kernel.await_reply(kernel.execute_cell_input("import torch, lab3.exercises.checks"), timeout=120)

    for number in range(repeats + 1):  # the first waits for the forkserver itself and does not count
        began = time.perf_counter()
        with box(best_level(), limits) as made:
            kernel = BoxedKernel(forkserver, made, limits)
            first_cell(kernel)
            boxed.append(time.perf_counter() - began)
            kernel.stop()
    for _ in range(repeats):
        began = time.perf_counter()
        kernel = RunningKernel("python3")
        first_cell(kernel)
        fresh.append(time.perf_counter() - began)
        kernel.stop()
    forkserver.close()
    return statistics.median(boxed[1:]), statistics.median(fresh)


def measure(model, batch, repeats):
    """All figures, a dict."""
    found = {"sandbox": best_level()}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for count in {1, 3, batch}:
            for number in range(count):
                hand_in(folder / str(count) / f"student{number:02d}", model)
        for name, only in (("full", ()), ("probes", tuple(EXERCISES))):
            runs = [(graded(folder / "1", 1, only=only, cores={0}), graded(folder / "3", 1, only=only, cores={0}))
                    for _ in range(repeats)]
            points, most = runs[0][0][2]["student00"]
            print(f"one solved submission, {name}, one core, {points:g}/{most:g} points:")
            for n, unit in ((0, "seconds"), (1, "processor_seconds")):
                first = statistics.median(one[n] for one, _ in runs)
                more = statistics.median((three[n] - one[n]) / 2 for one, three in runs)
                found |= {f"{name}_{unit}": first, f"{name}_more_{unit}": more, f"{name}_points": [points, most]}
                print(f"    {first:.1f} {unit.replace('_', ' ')}, each further one {more:.1f}", flush=True)
        boxed, fresh = kernel_starts(repeats)
        found |= {"kernel_boxed_seconds": boxed, "kernel_fresh_seconds": fresh}
        print(f"start of a kernel with its first cell: {boxed:.2f} s in a box, {fresh:.2f} s alone, "
              f"{fresh / boxed:.1f} times as long", flush=True)
        seconds, used, _ = graded(folder / str(batch), 2)
        found |= {"batch": batch, "batch_seconds_each": seconds / batch, "batch_cores": used / seconds}
        print(f"{batch} submissions, two at a time: {seconds:.0f} s, {seconds / batch:.1f} s each, "
              f"{used / seconds:.2f} cores busy", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="trained weights, such as runs/cpu/maskgit.safetensors")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.model, options.batch, options.repeats)
    if options.json:
        write_json(options.json, result)
