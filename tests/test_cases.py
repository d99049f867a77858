"""Bad input of real life, kept as files in tests/cases/: each is read, or refused with the sentence that helps."""

import json
import re

import pytest
from conftest import ROOT

from grader.results.files import LOOK
from grader.run import batch
from grader.submission.submission import read_submission
from lab3.exercises.answers import answer_file, run_answer
from lab3.exercises.checks import check

CASES = ROOT / "tests" / "cases"


def test_each_case_is_described_and_tested():
    described = re.findall(r"^\| `([\w.-]+)` \|", (CASES / "README.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(path.name for path in CASES.iterdir() if path.is_dir())
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert all(f'CASES / "{name}"' in tests for name in described)


def test_a_zip_entry_without_a_name_is_left_out():
    submission = read_submission(CASES / "zip-entry-without-name" / "lab3.zip")
    assert submission.readable and not submission.answers["gamma_func"].problem


# Answers: the points, and what the feedback says

FILES = "answers are graded with the packages of the course alone, and without files of your own"
GRADED = {
    CASES / "else-not-implemented": (3.6, "a ValueError that names mode"),
    CASES / "dataclass-postponed": (4, ""),
    CASES / "names-in-globals": (4, ""),
    CASES / "kept-stream": (4, ""),
    CASES / "compiled-and-temporary": (15, f"{LOOK}: it uses inspect, f_code."),
    CASES / "python-3.12-syntax": (0, "Python 3.12 or newer may accept it, but answers are graded with 3.11"),
    CASES / "input": (0, "nobody can answer input() when answers are graded"),
    CASES / "cuda": (0, "answers are graded without a GPU"),
    CASES / "einops": (0, f"einops is not there | {FILES}"),
    CASES / "own-file": (0, f"curves is not there | {FILES}"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = batch.grade(list(GRADED), tmp_path_factory.mktemp("out"), seed=1, jobs=2, say=str,
                        only=["multi_head_attention", "gamma_func"])
    return {one.submission: {exercise.exercise: exercise for exercise in one.exercises} for one in found}


@pytest.mark.parametrize("case", GRADED, ids=lambda case: case.name)
def test_an_answer_is_graded_or_the_cause_is_named(results, case):
    points, said = GRADED[case]
    found = results[case.name]["multi_head_attention" if case.name.startswith("compiled") else "gamma_func"]
    lines = [*found.notes, *(f"{one.expected} | {one.got} | {one.likely}" for one in found.probes)]
    assert found.points == points, lines
    assert any(said in line for line in lines), lines
    assert found.status != "not written"


# What the notebook says before that

CHECKED = {
    CASES / "else-not-implemented": "NotImplementedError means that code is missing: raise a ValueError",
    CASES / "dataclass-postponed": "[OK]",
    CASES / "kept-stream": "[OK]",
    CASES / "input": "nobody can answer input() when answers are graded",
    CASES / "cuda": "answers are graded without a GPU",
    CASES / "einops": "import einops",
    CASES / "own-file": "import curves",
}


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_the_public_check_says_it_first(case, monkeypatch, tmp_path):
    """Also on a machine that has the package, the file, somebody who types."""
    for name in ("einops", "curves"):
        (tmp_path / f"{name}.py").write_text("def rearrange(x, _): return x\ndef cosine(r): return r\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: "cosine")
    cells = ["".join(cell["source"]) for cell in json.loads((case / "lab.ipynb").read_text())["cells"]]
    text = answer_file("\n".join(cell for cell in cells if not cell.startswith("%%")))
    report = check("gamma_func", run_answer("gamma_func", text, tmp_path / "gamma_func.py"))
    assert report.written and CHECKED[case] in report.message
