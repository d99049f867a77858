"""Seconds a submission of lab3's grader, nbgrader and otter-grader: the same solved answers, the same points.

    python -m benchmarks.grading_tools [--model FILE] [--batch 6] [--repeats 3] [--batch-repeats 1] [--json FILE]

nbgrader and otter-grader get one notebook a submission, with the answers and nothing else of the lab: no training, no
plots. Each exercise's public check (`lab3.exercises.checks`, which students see) is a test of theirs, with the
rubric's points: a locked cell for `nbgrader autograde`, a test file for `otter run`. lab3's grader takes the answers
from the solved lab's own notebooks and runs hidden probes on them, which do more than the public checks, in a sandboxed
kernel for each exercise. One submission on one core is also timed with the checks that the other tools run
(`grade NOTEBOOK...`), and with all that is graded, where a model is named.

A batch is one command for lab3, with a job a core, and one for nbgrader, which takes submissions one after the other.
otter-grader's own batches (`otter grade`) need Docker and run a container for each submission; here `otter run` is
called for each, as many at a time as there are cores, which leaves out what containers cost.

Every kernel has one thread. Times are of whole commands, Python's start included, medians of rounds taken turn by turn.
How many times as long a tool takes as lab3's probes is told by the processor's seconds, in which others at work on the
machine hardly count. Before that, every tool must give the solved lab full points and the starters none.
"""

import argparse
import copy
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
import torch
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks.commands import timed
from benchmarks.grading import graded, hand_in
from benchmarks.timing import table, times_as_fast
from grader.kernels.sandbox import best_level
from grader.rubric import read_rubric
from lab3.common.files import InputError, write_json
from lab3.common.machine import machine_kind
from lab3.common.paths import ROOT
from lab3.exercises.answers import exercise_of
from lab3.exercises.table import EXERCISES, IMPORTS

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
NBGRADER_CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "lab3"
c.ExecutePreprocessor.timeout = 600
"""
OTTER_TEST = """\
from otter.test_files import test_case

OK_FORMAT = False
name, points = "{exercise}", {points}


@test_case()
def test_answer(env):
    from lab3.exercises.checks import check

    report = check("{exercise}", env)
    assert report.passed, report.message
"""
NBGRADER_TEST = """\
from lab3.exercises.checks import check

report = check("{exercise}", globals())
assert report.passed, report.message
"""


def points():
    """The rubric's points, by exercise."""
    return {name: read_rubric().points[name] for name in EXERCISES}


def answers(folder):
    """A notebook with the exercises' cells of a folder of notebooks, after what each notebook imports."""
    cells = [new_code_cell(IMPORTS, id="imports")]
    for path in sorted(folder.glob("*.ipynb")):
        cells += [copy.deepcopy(cell) for cell in nbformat.read(path, as_version=4).cells
                  if cell.cell_type == "code" and exercise_of(cell.source)]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return new_notebook(cells=cells, metadata=about)


def with_tests(notebook):
    """The notebook with a locked test cell of nbgrader's at its end for each exercise."""
    kind = {"schema_version": 3, "grade": True, "solution": False, "locked": True, "task": False}
    tests = [new_code_cell(NBGRADER_TEST.format(exercise=name), id=f"check-{name}", metadata={
        "nbgrader": kind | {"grade_id": f"check-{name}", "points": most}}) for name, most in points().items()]
    return new_notebook(cells=[*notebook.cells, *tests], metadata=notebook.metadata)


def prepare(folder, students, model=None):
    """Everything that the tools are given: `lab3/STUDENT/`, nbgrader's course, `otter/STUDENT.ipynb`.

    Args:
        folder: an empty folder.
        students: a dict, name -> the folder of notebooks that the student hands in.
        model: trained weights that go into each submission to lab3, or None.
    """
    course, otter = folder / "course", folder / "otter"
    (course / "source" / "lab3").mkdir(parents=True)
    (otter / "tests").mkdir(parents=True)
    (course / "nbgrader_config.py").write_text(NBGRADER_CONFIG, encoding="utf-8")
    nbformat.write(with_tests(answers(ROOT / "solutions")), course / "source" / "lab3" / "lab3.ipynb")
    for student, origin in students.items():
        hand_in(folder / "lab3" / student, model, origin)
        nbformat.write(answers(origin), otter / f"{student}.ipynb")
        (course / "submitted" / student / "lab3").mkdir(parents=True)
        nbformat.write(with_tests(answers(origin)), course / "submitted" / student / "lab3" / "lab3.ipynb")
    for exercise, most in points().items():
        (otter / "tests" / f"{exercise}.py").write_text(OTTER_TEST.format(exercise=exercise, points=most))
    timed([python("nbgrader", "generate_assignment", "lab3")], cwd=course, env=environment())
    timed([python("otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-requirements", "--no-environment",
                  "--no-config")], cwd=otter, env=environment())


def python(module, *arguments):
    """The command that runs a module of this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment():
    """What other graders run in: one thread, lab3 at hand, and the commands beside Python, which nbgrader calls."""
    return os.environ | ONE_THREAD | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


# The tools. In: what `prepare` made, cores. Out: seconds, processor seconds, student -> points and the most possible.


def probes(folder, cores):
    return graded(folder / "lab3", len(cores), only=tuple(EXERCISES), cores=cores)


def everything(folder, cores):
    return graded(folder / "lab3", len(cores), cores=cores)


def public_checks(folder, cores):
    """Of a single submission: this command writes no marks, so points are those of the answers that pass."""
    [student] = (folder / "lab3").iterdir()
    seconds, used, [said] = timed([python("grader", "grade", *sorted(student.glob("*.ipynb")))], cores=cores, cwd=ROOT)
    passed = sum(most for name, most in points().items() if f"[OK]   {name}:" in said)
    return seconds, used, {student.name: (passed, sum(points().values()))}


def nbgrader(folder, cores):
    from nbgrader.api import Gradebook

    with tempfile.TemporaryDirectory() as scratch:
        course = shutil.copytree(folder / "course", Path(scratch) / "course")
        seconds, used, _ = timed([python("nbgrader", "autograde", "lab3")], cores=cores, cwd=course, env=environment())
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
            return seconds, used, {one.student.id: (one.score, one.max_score)
                                   for one in book.assignment_submissions("lab3")}


def otter(folder, cores):
    students = sorted((folder / "otter").glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as out:
        places = {one.stem: Path(out) / one.stem for one in students}
        for place in places.values():
            place.mkdir()
        commands = [python("otter", "run", one, "-a", folder / "otter" / "autograder.zip", "-o", places[one.stem])
                    for one in students]
        seconds, used, _ = timed(commands, cores=cores, jobs=len(cores), cwd=out, env=environment())
        tests = {name: json.loads((place / "results.json").read_text())["tests"] for name, place in places.items()}
    return seconds, used, {name: (sum(one.get("score", 0) for one in of), sum(one.get("max_score", 0) for one in of))
                           for name, of in tests.items()}


LAB3 = "lab3, hidden probes"
TOOLS = {LAB3: probes, "nbgrader": nbgrader, "otter-grader": otter}
CHECKS, FULL = {"lab3, public checks": public_checks}, {"lab3, all that is graded": everything}


def confirm(folder):
    """Every tool gives the solved lab full points and the starters none. Raises `RuntimeError` where one does not."""
    prepare(folder, {"solved": ROOT / "solutions", "starter": ROOT / "notebooks"})
    most = sum(points().values())
    for name, tool in TOOLS.items():
        *_, found = tool(folder, os.sched_getaffinity(0))
        if found != {"solved": (most, most), "starter": (0, most)}:
            raise RuntimeError(f"{name}: {found}; the solved lab should have {most} points, the starters none")
        print(f"{name}: solved {most} points, starters 0", flush=True)


def rounds(folder, tools, cores, repeats):
    """Each tool `repeats` times, turn by turn: name -> a list of (seconds, processor seconds), a submission each."""
    found = {name: [] for name in tools}
    for _ in range(repeats):
        for name, tool in tools.items():
            seconds, used, marks = tool(folder, cores)
            if name not in FULL and any(got != most for got, most in marks.values()):
                raise RuntimeError(f"{name}: {marks}, not full points")
            found[name].append((seconds / len(marks), used / len(marks)))
            got, most = next(iter(marks.values()))
            print(f"  {name}: {seconds / len(marks):.1f} s a submission, {used / len(marks):.1f} s on a processor, "
                  f"{got:g} points of {most:g}, load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def measure(model, batch, repeats, batch_repeats, json_file=None):
    """All figures, a dict; they are also written to a file, if one is named, each time that a case is done."""
    if importlib.util.find_spec("otter") is None:
        raise InputError("otter-grader is missing: pip install -c constraints.txt -e '.[lab,grader,test,bench]'")
    if model is not None and not model.is_file():
        raise InputError(f"{model}: no such file. Name trained weights, or leave --model out.")
    if min(batch, repeats, batch_repeats) < 1:
        raise InputError("--batch, --repeats and --batch-repeats must be at least 1.")
    cores, full = sorted(os.sched_getaffinity(0), reverse=True), {} if model is None else FULL  # core 0 serves devices
    cases = [("one submission, one core", 1, cores[:1], TOOLS | CHECKS | full, repeats)]
    for words, used in (("one core", cores[:1]), ("two cores", cores[:2]))[:len(cores)]:
        cases.append((f"{batch} submissions, {words}", batch, used, TOOLS, batch_repeats))
    found = {"machine": machine_kind(), "pytorch": torch.__version__, "sandbox": best_level(), "each": {},
             "load": [os.getloadavg()[0]]}
    with tempfile.TemporaryDirectory() as folder:
        confirm(Path(folder) / "confirm")
        for case, count, used, tools, times in cases:
            print(case, flush=True)
            here = Path(folder) / case
            prepare(here, {f"student{number:02d}": ROOT / "solutions" for number in range(count)}, model)
            found["each"][case] = rounds(here, tools, set(used), times)
            found["load"].append(os.getloadavg()[0])
            if json_file:
                write_json(json_file, found)
    return found


def results(each):
    """The table: a row a tool; seconds a submission by the clock and on a processor, and these against lab3's."""
    def cell(times, name):
        if name not in times:
            return ""
        clock, processor = (statistics.median(kind) for kind in zip(*times[name], strict=True))
        ratio = times_as_fast({one: [used for _, used in taken] for one, taken in times.items()}, name, LAB3)
        return f"{clock:.1f} s, {processor:.1f} s" + (f" ({ratio:.1f} x)" if name != LAB3 else "")

    names = dict.fromkeys(name for times in each.values() for name in times)
    return table(("by the clock, on a processor", *each),
                 [(name, *(cell(times, name) for times in each.values())) for name in names])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="trained weights, such as runs/cpu/maskgit.safetensors")
    parser.add_argument("--batch", type=int, default=6, help="submissions in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="rounds with one submission")
    parser.add_argument("--batch-repeats", type=int, default=1, help="rounds with batches")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        result = measure(options.model, options.batch, options.repeats, options.batch_repeats, options.json)
    except InputError as error:
        sys.exit(str(error))
    print(f"\n{result['machine']}, PyTorch {result['pytorch']}, load {min(result['load']):.1f} to "
          f"{max(result['load']):.1f}, sandbox {result['sandbox']}\n\n{results(result['each'])}")
