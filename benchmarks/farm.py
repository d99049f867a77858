"""A class graded on this machine, then on a farm of three workers of which two are killed on the way.

    python -m benchmarks.farm [--n 300] [--seed 0] [--only 04 ...] [--model FILE] [--keep DIR] [--json FILE]

Submissions are made from the tests' right and wrong answers; 5 % cannot be read, 2 % are hostile. Both runs have the
same seed; their results must be the same but for times. The dead workers' nannies start new ones. Memory is that of the
grader's lasting processes, resident, when 10 results stand and when all do; kernels have limits of their own.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psutil

from lab3.common.files import write_json
from lab3.common.paths import ROOT
from lab3.exercises.table import EXERCISES

sys.path.insert(0, str(ROOT / "tests"))
from attacks import ATTACKS, Place  # noqa: E402
from corpus import RIGHT, WRONG  # noqa: E402
from farming import Farm, results, wait_for, written  # noqa: E402
from probing import hand_in, notebook_of  # noqa: E402

BROKEN, HOSTILE = 0.05, 0.02  # of a class
WORKERS, KILLED_AT = 3, (0.25, 0.5)  # of the results
STEP = 0.5  # seconds between two looks


def cut_off(path):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as file:
        file.writestr("lab.ipynb", notebook_of("a = 1") * 50)
    whole = path.with_suffix(".zip").read_bytes()
    path.with_suffix(".zip").write_bytes(whole[:len(whole) // 2])


def no_json(path):
    path.mkdir()
    (path / "lab.ipynb").write_text(notebook_of("a = 1")[:-20])


def no_notebook(path):
    path.mkdir()
    (path / "essay.txt").write_text("My cat ate it.")


def no_cells(path):
    path.mkdir()
    (path / "lab.ipynb").write_text("[]")


def make_class(folder, n, seed, model=None):
    """A class of `n` submissions; gives how many are honest, broken, hostile."""
    draw = random.Random(seed)
    counts = {"broken": round(BROKEN * n), "hostile": max(1, round(HOSTILE * n))}
    counts["honest"] = n - sum(counts.values())
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    draw.shuffle(kinds)
    attacks = draw.sample(sorted(ATTACKS), counts["hostile"])
    right, wrong = ({name: [text for exercise, text in corpus.values() if exercise == name] for name in EXERCISES}
                    for corpus in (RIGHT, WRONG))
    folder.mkdir(parents=True)
    for number, kind in enumerate(kinds):
        path = folder / f"s{number:03d}-{kind}"
        if kind == "hostile":
            ATTACKS[attacks.pop()].build(Place(path))
        elif kind == "broken":
            draw.choice([cut_off, no_json, no_notebook, no_cells])(path)
        else:
            for name in EXERCISES:  # a notebook each, so that helpers of one do not meet those of another
                texts = draw.choices([right[name], wrong[name], []], [0.75, 0.2, 0.05])[0]
                if texts or name == "gamma_func":
                    hand_in(path, {name: draw.choice(texts or right[name])}, notebook=f"{name}.ipynb")
            if model is not None:
                (path / "work").mkdir()
                (path / "work" / "maskgit.safetensors").write_bytes(model.read_bytes())
    return counts


KINDS = {"pool_server.py": "pool server", "forkserver.py": "forkserver", "dask_scheduler": "scheduler",
         "spawn_main": "worker", "grader grade": "command"}


def role(process):
    """What a process of the grader is; None for forks, which last no longer than a submission, and for others."""
    line = " ".join(process.cmdline())
    parent = " ".join(process.parent().cmdline())
    return next((name for part, name in KINDS.items() if part in line and part not in parent), None)


def memory(roots):
    """Resident megabytes of the largest process of each kind among these and what they started."""
    found = defaultdict(float)
    for root in roots:
        with suppress(psutil.Error):
            for one in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error, AttributeError):
                    if name := role(one):
                        found[name] = max(found[name], one.memory_info().rss / 1e6)
    return dict(found)


def watched(students, out, n, options, farm=None):
    """Grade; gives seconds, busy cores of the whole machine, and memory early and late; kills workers of a farm."""
    command = [sys.executable, "-m", "grader", "grade", str(students), "--out", str(out), "--seed", "1", *options]
    began, first, early, late, deaths = time.perf_counter(), None, {}, {}, []
    psutil.cpu_percent()  # from here on
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    roots = [psutil.Process(process.pid), *([psutil.Process(one.pid) for one in farm.started] if farm else [])]
    while process.poll() is None:
        done = len(written(out))
        if done >= 10:
            first = first or time.perf_counter() - began
            late = memory(roots) or late
            early = early or late
        if farm and len(deaths) < len(KILLED_AT) and done >= max(1, KILLED_AT[len(deaths)] * n):
            nanny = psutil.Process(farm.started[1 + len(deaths)].pid)
            worker = max(nanny.children(), key=lambda one: one.memory_info().rss)
            worker.kill()
            deaths.append(done)
        time.sleep(STEP)
    if process.returncode:
        raise SystemExit(f"grading ended with status {process.returncode}")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "seconds_of_10": first or seconds, "busy": psutil.cpu_percent() / 100 * os.cpu_count(),
            "early": early, "late": late, "killed_after": deaths}


def measure(n, seed, only, model, folder):
    """All figures, a dict."""
    students, options = folder / "class", ["--only", *only] if only else []
    found = {"n": n, "counts": make_class(students, n, seed, model), "cores": os.cpu_count()}
    found["here"] = watched(students, folder / "here", n, options)
    (folder / "farm").mkdir()
    farm = Farm(folder / "farm")
    try:
        for _ in range(WORKERS):
            farm.worker("--memory-limit", "8GB")
        wait_for(lambda: farm.logs().count("Registered to") == WORKERS, "the workers")
        found["farm"] = watched(students, folder / "there", n, [*options, "--scheduler", farm.address], farm)
    finally:
        farm.close()
    here, there = results(folder / "here"), results(folder / "there")
    found["same"] = sum(here[name] == there.get(name) for name in here)
    found["different"] = sorted(name for name in here if here[name] != there.get(name))
    found["errors"] = sum(one.status == "error" for one in there.values())
    return found


def show(found):
    """The figures as tables."""
    print(f"| | first 10 results | all {found['n']} | a submission | busy cores |\n|---|---|---|---|---|")
    for name, label in (("here", f"this machine, {found['cores']} jobs"),
                        ("farm", f"{WORKERS} workers, two killed after {found['farm']['killed_after']} results")):
        one = found[name]
        each = one["seconds"] / found["n"]
        print(f"| {label} | {one['seconds_of_10']:.0f} s | {one['seconds']:.0f} s | {each:.1f} s | {one['busy']:.2f} |")
    print(f"\n| resident memory (MB) | after 10 | after {found['n']} | growth |\n|---|---|---|---|")
    for name, label in (("here", "this machine"), ("farm", "farm")):
        for one, late in found[name]["late"].items():
            early = found[name]["early"].get(one, late)
            print(f"| {label}: {one} | {early:.0f} | {late:.0f} | {late - early:+.0f} |")
    print(f"\n{found['same']} of {found['n']} results are the same, {found['errors']} are errors of the grader's. "
          f"Different: {', '.join(found['different']) or 'none'}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--model", type=Path, help="trained weights, such as runs/cpu/maskgit.safetensors")
    parser.add_argument("--keep", type=Path, help="a new folder for submissions, results and logs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(options.n, options.seed, options.only, options.model, options.keep or Path(temporary))
    show(result)
    if options.json:
        write_json(options.json, result)
    sys.exit(bool(result["different"] or result["errors"]))
