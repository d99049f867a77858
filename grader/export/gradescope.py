"""Gradescope: the autograder's zip, and what runs in its container.

In: the project; there, a submission. Out: a zip with `setup.sh` and `run_autograder`; there, `results/results.json`.
"""

import json
import tempfile
import tomllib
import traceback
from collections import deque
from pathlib import Path

from grader.export.release import pack, project_folder
from grader.kernels.sandbox import require
from grader.results.files import RESULTS, VISIBILITIES, read_result, short, write_result
from grader.rubric import read_rubric
from grader.run.batch import chosen_seed, columns_of, run_all
from grader.run.context import run_context
from grader.run.pool import ERROR
from lab3.common.files import InputError, atomic_path, read_json
from lab3.common.paths import ROOT

PLACE = Path("/autograder")
OWN = Path(__file__).parent / "gradescope_files"
PROGRAMS = ("run_autograder", "setup.sh")
SETTINGS = "gradescope.json"
TAKEN = ("lab3/**/*", "grader/**/*", "solutions/work/*.py", "solutions/fast/*.py", "data/**/*", "constraints.txt",
         "LICENSE")
LEFT = ("__pycache__", "student", OWN.name)
BROKEN = "The autograder broke down on this submission. That says nothing about your answers: your course staff can " \
         "see what happened and grade it again. You may also hand in again."


def export(out, *, seed=None, only=(), visibility="visible", root=ROOT):
    """Write the autograder's zip.

    Args:
        out: the zip.
        seed: what inputs are drawn from; None: another one each time.
        only: numbers of notebooks or ids, for an assignment that asks for these alone.
        visibility: when students see their tests, one of `VISIBILITIES`.

    Returns:
        The points that the assignment is to have.

    Raises:
        InputError: a wrong setting.
        SaveError: the zip cannot be written.
    """
    rubric = read_rubric()
    columns = columns_of(only, rubric)
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"--seed must lie in 0 ... 2^63 - 1, not {seed}.")
    if visibility not in VISIBILITIES:
        raise InputError(f"--visibility must be one of {', '.join(VISIBILITIES)}, not {visibility}.")
    root = project_folder(root)
    files = {path.relative_to(root).as_posix(): path.read_bytes()
             for pattern in TAKEN for path in root.glob(pattern) if path.is_file() and not any(
                 part in LEFT or part.startswith(".") for part in path.relative_to(root).parts)}
    files |= {path.name: path.read_bytes() for path in OWN.iterdir() if path.is_file()}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["grader"]]
    files["requirements.txt"] = "".join(f"{one}\n" for one in needed).encode()
    files[SETTINGS] = _json({"seed": seed, "only": list(columns), "visibility": visibility})
    files["failed.json"] = _json(failed())
    with atomic_path(out) as temporary:
        temporary.write_bytes(pack(files, PROGRAMS))
    return sum(rubric.points[name] for name in columns)


def failed():
    """What `results.json` holds where there are no marks: nothing that a student could not read."""
    return {"score": 0.0, "output": BROKEN, "output_format": "text", "visibility": "visible",
            "stdout_visibility": "hidden", "tests": []}


def _json(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def run(place=PLACE):
    """Grade the submission in the container; tracebacks are printed, which staff alone can read.

    Returns:
        The status of the `Result`.
    """
    settings = read_json(Path(place) / "source" / SETTINGS)
    submission, results = Path(place) / "submission", Path(place) / "results"
    with tempfile.TemporaryDirectory(prefix="lab3-grades-") as out:
        out = Path(out)
        seed, columns = chosen_seed(out, settings["seed"]), columns_of(settings["only"], read_rubric())
        level = require(allow_no_sandbox=True)
        with run_context(seed, columns, level, hidden=(out, submission, results)) as context:
            run_all(deque([(submission.name, submission)]), out, context, 1)
        result = read_result(out / submission.name)
        if (out / submission.name / ERROR).is_file():
            print((out / submission.name / ERROR).read_text(encoding="utf-8"))
        write_result(result, results, settings["visibility"])
    print(f"{short(result.status)}: {result.score:g} of {result.max_score:g} in {result.seconds:.0f} s, "
          f"sandbox {result.sandbox}")
    return result.status


if __name__ == "__main__":
    try:
        run()
    except Exception:
        traceback.print_exc()
        print(f"{RESULTS} says so to the student, without this")
