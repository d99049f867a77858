"""The benchmark of graders: all get the same answers and tests, with the same points, and every second is counted."""

import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks import grading_tools
from benchmarks.grading_tools import answers, confirm, points, results, with_tests
from lab3.common.files import InputError
from lab3.exercises.table import EXERCISES

SOLVED, STARTERS = ROOT / "solutions", ROOT / "notebooks"


def run_cells(notebook):
    """The names after all cells, and the ids of the cells that failed."""
    names, failed = {}, []
    for cell in notebook.cells:
        try:
            exec(cell.source, names)
        except (AssertionError, NotImplementedError):
            failed.append(cell.id)
    return names, failed


def test_nbgraders_cells_pass_every_solved_answer_and_no_starter():
    checks = [f"check-{name}" for name in EXERCISES]
    for folder, expected in ((SOLVED, []), (STARTERS, checks)):
        notebook = with_tests(answers(folder))
        assert run_cells(notebook)[1] == expected
        tests = {cell.id: cell.metadata.nbgrader for cell in notebook.cells if cell.id.startswith("check-")}
        assert list(tests) == checks and all(one.grade and one.locked for one in tests.values())
        assert sum(one.points for one in tests.values()) == sum(points().values())


def test_the_notebook_of_answers_holds_nothing_else_of_the_lab():
    cells = answers(SOLVED).cells
    assert [cell.id for cell in cells] == ["imports", *EXERCISES]
    assert not any(cell.outputs for cell in cells)


def test_otters_tests_pass_every_solved_answer_and_no_starter():
    exception_test = pytest.importorskip("otter.test_files.exception_test", reason="the extra `bench` is not installed")
    for folder, right in ((SOLVED, True), (STARTERS, False)):
        names, _ = run_cells(answers(folder))
        for exercise, most in points().items():
            test = exception_test.ExceptionTestFile.from_string(
                grading_tools.OTTER_TEST.format(exercise=exercise, points=most))
            test.run(names)
            assert test.possible == most
            assert test.score == (most if right else 0)


@pytest.mark.slow
def test_all_tools_give_full_points_to_the_solved_lab_and_none_to_the_starters(tmp_path):
    pytest.importorskip("otter", reason="the extra `bench` is not installed")
    confirm(tmp_path)


ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.5:
            pass
    os._exit(0)
os.wait()
"""


def measured(code):
    """What a fresh process prints: `timed` waits for all its children, of which the tests' process has others."""
    done = subprocess.run([sys.executable, "-c", "import sys\nfrom benchmarks.commands import timed\n" + code],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_seconds_of_processes_that_outlive_their_parents_are_counted():
    used = measured(f"print(timed([[sys.executable, '-S', '-c', {ORPHAN!r}]])[1])")
    assert 0.5 <= float(used) < 1.5


def test_commands_run_on_the_cores_that_were_named():
    said = measured("import os\ncore = max(os.sched_getaffinity(0))\n"
                    "command = [sys.executable, '-S', '-c', 'import os; print(os.sched_getaffinity(0))']\n"
                    "print(timed([command, command], cores={core}, jobs=2)[2] == [f'{ {core} }\\n'] * 2)")
    assert said == "True"


def test_a_command_that_fails_is_named():
    said = measured("try:\n    timed([['sh', '-c', 'echo no room >&2; exit 3']])\nexcept RuntimeError as error:\n"
                    "    print(error)")
    assert said.startswith("sh -c") and "exit status 3" in said and "no room" in said


def test_the_table_compares_processor_seconds_round_by_round():
    each = {"one": {grading_tools.LAB3: [(4.0, 2.0), (40.0, 4.0), (4.0, 2.0)],
                    "nbgrader": [(9.0, 8.0), (9.0, 8.0), (9.0, 8.0)]}, "two": {grading_tools.LAB3: [(1.0, 1.0)]}}
    *_, first, second = results(each).splitlines()
    assert first == "| lab3, hidden probes | 4.0 s, 2.0 s | 1.0 s, 1.0 s |"
    assert second == "| nbgrader | 9.0 s, 8.0 s (4.0 x) |  |"


@pytest.mark.parametrize("model, batch, message", [("missing.safetensors", 6, "missing.safetensors: no such file"),
                                                   (None, 0, "must be at least 1")])
def test_wrong_settings_are_said_before_anything_is_timed(model, batch, message, tmp_path, monkeypatch):
    monkeypatch.setattr(grading_tools.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=message):
        grading_tools.measure(model and tmp_path / model, batch, 1, 1)


def test_without_otter_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(grading_tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"otter-grader is missing: pip install -c constraints.txt"):
        grading_tools.measure(None, 1, 1, 1)
